//! Traces that are being written: of builds that ask for one (`DISTCC_TRACE`).
//!
//! The dispatcher hands over what ends and what happens; a thread for each file writes, twice a
//! second. A disk that is slow delays a trace, never a job: what waits for it is bounded, and what is
//! beyond that is left out.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tokio::sync::oneshot;

use super::file::TraceFile;
use crate::broker::history::History;
use crate::broker::history::record::{Mark, Record};
use crate::broker::scheduler::api::Moment;

/// How often what has come together is written.
pub const INTERVAL: Duration = Duration::from_millis(500);

/// Files at a time.
const FILES_MAX: usize = 8;

/// Jobs that wait to be written.
const PENDING_MAX: usize = 20_000;

/// Batches that a slow disk may be behind.
const BATCHES_MAX: usize = 8;

/// A file whose builds have been quiet for so long gets its summary.
const QUIET: Duration = Duration::from_secs(2);

/// And after so long it is closed: what comes then begins it anew.
const OVER: Duration = Duration::from_secs(600);

/// How long the end of a trace waits for its last jobs.
const LAST_JOBS: Duration = Duration::from_secs(2);

/// The file that a job's record is to go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Its name, absolute.
    pub path: Arc<Path>,
    /// The mask of who asks for it.
    pub umask: u32,
}

/// What is written next.
struct Batch {
    records: Vec<Arc<Record>>,
    marks: Vec<Mark>,
    hosts: Vec<String>,
    /// With a summary, which goes here as well.
    last: bool,
    reply: Option<oneshot::Sender<String>>,
}

struct Trace {
    sender: SyncSender<Batch>,
    pending: Vec<Arc<Record>>,
    marks_seen: u64,
    /// Jobs that are not over.
    live: usize,
    /// When something was added last.
    touched: Moment,
    summed_up: bool,
    /// Who waits for the end, and until when.
    ending: Option<(oneshot::Sender<String>, Moment)>,
}

/// All of them.
#[derive(Default)]
pub struct Traces(BTreeMap<Arc<Path>, Trace>);

impl Traces {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A job that asks for a trace has arrived.
    pub fn arrived(&mut self, now: Moment, wish: &Wish, history: &History) {
        if !self.0.contains_key(&wish.path) {
            if self.0.len() >= FILES_MAX {
                return;
            }
            let (sender, batches) = sync_channel(BATCHES_MAX);
            let own = wish.clone();
            let started =
                std::thread::Builder::new().name("trace".to_owned()).spawn(move || write(&own, &batches));
            if let Err(error) = started {
                tracing::warn!(%error, "no thread for a trace");
                return;
            }
            let trace = Trace {
                sender,
                pending: Vec::new(),
                marks_seen: history.marks_since(u64::MAX).1,
                live: 0,
                touched: now,
                summed_up: true,
                ending: None,
            };
            self.0.insert(Arc::clone(&wish.path), trace);
        }
        if let Some(trace) = self.0.get_mut(&wish.path) {
            (trace.live, trace.touched, trace.summed_up) = (trace.live + 1, now, false);
        }
    }

    /// A job is over.
    pub fn over(&mut self, now: Moment, wish: &Wish, record: Arc<Record>) {
        let Some(trace) = self.0.get_mut(&wish.path) else { return };
        trace.live = trace.live.saturating_sub(1);
        trace.touched = now;
        if trace.pending.len() < PENDING_MAX {
            trace.pending.push(record);
        }
    }

    /// Whoever runs a build says that it begins: the file begins anew.
    pub fn begin(&mut self, path: &Path) {
        self.0.remove(path);
    }

    /// Whoever runs a build says that it is over, and wants the summary.
    pub fn end(&mut self, now: Moment, path: &Path, reply: oneshot::Sender<String>) {
        // Where no job was traced, the sender is dropped, which says so.
        if let Some(trace) = self.0.get_mut(path) {
            trace.ending = Some((reply, now + LAST_JOBS));
        }
    }

    /// Hands over what has come together; to be called now and then.
    pub fn write(&mut self, now: Moment, history: &History, hosts: impl Fn() -> Vec<String>) {
        let mut gone = Vec::new();
        for (path, trace) in &mut self.0 {
            let quiet = now.since(trace.touched);
            let ending = trace.ending.as_ref().is_some_and(|(_, until)| trace.live == 0 || *until <= now);
            let last = ending || quiet > QUIET && trace.live == 0 && !trace.summed_up;
            let (marks, seen) = history.marks_since(trace.marks_seen);
            let idle = trace.pending.is_empty() && (marks.is_empty() || trace.live == 0);
            if !idle || last {
                let (reply, _) = trace.ending.take_if(|_| ending).unzip();
                let records = std::mem::take(&mut trace.pending);
                let sent = trace.sender.try_send(Batch { records, marks, hosts: hosts(), last, reply });
                match sent {
                    Ok(()) => (trace.marks_seen, trace.summed_up) = (seen, last),
                    Err(std::sync::mpsc::TrySendError::Full(batch)) => trace.pending = batch.records,
                    // It could not be written, which has been said.
                    Err(std::sync::mpsc::TrySendError::Disconnected(_)) => gone.push(Arc::clone(path)),
                }
            }
            if ending || quiet > OVER && trace.live == 0 {
                gone.push(Arc::clone(path));
            }
        }
        gone.iter().for_each(|path| drop(self.0.remove(path)));
    }
}

/// Writes one file until nobody has anything for it any more.
fn write(wish: &Wish, batches: &Receiver<Batch>) {
    let failed = |error: io::Error| {
        tracing::warn!(path = %wish.path.display(), %error, "the trace is not written");
        format!("it could not be written: {error}\n")
    };
    let mut file = TraceFile::create(&wish.path, wish.umask, std::process::id()).map_err(failed);
    while let Ok(batch) = batches.recv() {
        if let Ok(open) = &mut file {
            let records: Vec<Record> = batch.records.iter().map(|record| (**record).clone()).collect();
            if let Err(error) = open.add(&records, &batch.marks, &batch.hosts, batch.last) {
                file = Err(failed(error));
            }
        }
        if let Some(reply) = batch.reply {
            // Whoever asked may have gone.
            let _ = reply.send(file.as_ref().map_or_else(String::clone, TraceFile::summary));
        }
        // The next build may fare better.
        if batch.last && file.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_that_cannot_be_written_says_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let path: Arc<Path> = folder.path().join("missing/trace.json").into();
        let wish = Wish { path: Arc::clone(&path), umask: 0o022 };
        let (mut traces, history) = (Traces::default(), History::default());
        traces.arrived(Moment(0), &wish, &history);
        let (reply, said) = oneshot::channel();
        traces.end(Moment(1), &path, reply);
        traces.write(Moment(0) + LAST_JOBS * 2, &history, Vec::new);
        let said = said.blocking_recv().expect("an answer");
        assert!(said.starts_with("it could not be written: "), "{said}");
    }
}
