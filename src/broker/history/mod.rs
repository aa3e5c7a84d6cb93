//! What has happened: the last jobs, and what befell hosts, for traces and for `--watch`.
//!
//! The dispatcher tells it of every event and of every action; it decides nothing, and nothing
//! depends on it. Everything is bounded: what is older than the bounds is forgotten. It is kept all the
//! time, so that a build that is found to be slow can be looked at when it is over; that costs some
//! writes to memory per job.

mod lanes;
pub mod record;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use self::lanes::Lanes;
use self::record::{Attempt, End, Here, Level, Mark, Record, Span, What};
use super::link::Times;
use super::scheduler::api::{Action, Event, Failure, HostId, JobId, Moment};
use super::trace::live::Wish;
use crate::common::reason::LocalReason;

/// Jobs that are remembered: those of a build of LLVM or of a kernel.
const RECORDS_MAX: usize = 16_384;

/// Marks that are remembered.
const MARKS_MAX: usize = 16_384;

/// Attempts of one job that are remembered. More are not made but of a job that many turn away.
const ATTEMPTS_MAX: usize = 16;

/// Letters of a source, or of the words of a failure.
const WORDS_MAX: usize = 200;

/// Changes of level within this time are one, in microseconds.
const LEVEL_STEP: u64 = 50_000;

struct Live {
    record: Record,
    trace: Option<Wish>,
    /// Whether it waits for a slot, here or elsewhere.
    waits: bool,
}

impl Live {
    fn is_tried(&self) -> bool {
        self.record.attempts.iter().any(|attempt| attempt.span.end == attempt.span.begin)
    }

    fn set_waiting(&mut self, waits: bool, level: &mut Level) {
        match (self.waits, waits) {
            (false, true) => level.waiting += 1,
            (true, false) => level.waiting -= 1,
            _ => {}
        }
        self.waits = waits;
    }
}

/// The memory.
#[derive(Default)]
pub struct History {
    live: HashMap<JobId, Live>,
    done: VecDeque<Arc<Record>>,
    marks: VecDeque<Mark>,
    /// How many marks were there before the first that is remembered.
    marks_gone: u64,
    lanes: Lanes,
    level: Level,
    /// The last that was noted, and when.
    noted: (u64, Level),
    /// CPU time of the compilers whose answers were used, in microseconds.
    cpu: u64,
}

/// What an answer tells besides the compiler's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// When what happened.
    pub times: Times,
    /// CPU time of the compiler, in microseconds.
    pub cpu: u64,
}

impl History {
    /// A job is known. `trace` is where its record is to go besides.
    pub fn arrived(&mut self, now: Moment, job: JobId, pid: u32, source: &str, trace: Option<Wish>) {
        let life = Span { begin: now.0, end: now.0 };
        let record = Record { job: job.0, pid, source: cut(source), life, ..Record::default() };
        self.live.insert(job, Live { record, trace, waits: true });
        self.level.waiting += 1;
    }

    /// An answer is about to be told of.
    pub fn note(&mut self, job: JobId, host: HostId, note: Note) {
        let Some(live) = self.live.get_mut(&job) else { return };
        if let Some(attempt) = live.record.attempts.iter_mut().rfind(|attempt| is_open(attempt, host)) {
            let us = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
            attempt.upload = us(note.times.upload);
            attempt.wait = us(note.times.wait);
            attempt.compile = us(note.times.compile);
            attempt.download = us(note.times.download);
            attempt.cpu = note.cpu;
        }
    }

    /// Something has happened. Returns the record of a job that is over now, if it has a place to go.
    pub fn event(&mut self, now: Moment, event: &Event) -> Option<(Wish, Arc<Record>)> {
        match event {
            Event::Prepared { job } | Event::Unpreparable { job, .. } => self.prepared(now, *job),
            Event::Found { job } => {
                self.prepared(now, *job);
                self.take(now, *job, End::Cached);
            }
            Event::Answered { job, host, .. } => self.end_attempt(now, *job, *host, ""),
            Event::Failed { job, host, failure } => self.failed(now, *job, *host, failure),
            Event::Unusable { job, .. } => {
                let live = self.live.get_mut(job)?;
                live.record.write.as_mut()?.end = now.0;
                live.set_waiting(true, &mut self.level);
            }
            Event::Delivered { job } => return self.over(now, *job, None),
            Event::LeaseReturned { job } => return self.over(now, *job, Some(End::Local)),
            Event::ShimGone { job } => return self.over(now, *job, Some(End::Abandoned)),
            Event::HostUp { host } => self.mark(now, What::Up { host: host.0 }),
            Event::HostDown { host, lost } => {
                self.mark(now, What::Lost { host: host.0, why: cut(&lost.why) });
            }
            Event::Credit { host, jobs } => self.mark(now, What::Slots { host: host.0, slots: *jobs }),
            Event::Paused { host } => self.mark(now, What::Slots { host: host.0, slots: 0 }),
            Event::Awaits { .. }
            | Event::Begins { .. }
            | Event::Arrived(_)
            | Event::ArrivedLocal { .. }
            | Event::Hold { .. }
            | Event::Drain
            | Event::Tick => {}
        }
        None
    }

    /// Something is about to be done.
    pub fn action(&mut self, now: Moment, action: &Action) -> Option<(Wish, Arc<Record>)> {
        match action {
            Action::Prepare { job } => {
                let live = self.live.get_mut(job)?;
                live.record.prepare = Some(Span { begin: now.0, end: now.0 });
            }
            Action::CancelPrepare { job } => self.prepared(now, *job),
            Action::Send { job, host, .. } => self.sent(now, *job, *host),
            Action::Cancel { job, host } => self.end_attempt(now, *job, *host, "cancelled"),
            Action::Take { job, .. } => self.take(now, *job, End::Remote),
            Action::RunLocally { job, reason } => self.run_here(now, *job, reason),
            Action::Forbid { job, .. } => return self.over(now, *job, Some(End::Forbidden)),
            Action::BackedOff { host, wait, why } => {
                let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                self.mark(now, What::BackedOff { host: host.0, wait_ms, why: cut(why) });
            }
            Action::Connect { .. } => {}
        }
        None
    }

    /// Notes how much there is to do, if that has changed; `traffic` is asked only then.
    pub fn note_level(&mut self, now: Moment, traffic: impl FnOnce() -> (u64, u64)) {
        let counts = |level: &Level| (level.waiting, level.remote, level.here);
        let (at, before) = self.noted;
        if counts(&before) == counts(&self.level) {
            return;
        }
        let quiet = counts(&before) == (0, 0, 0) || counts(&self.level) == (0, 0, 0);
        if now.0.saturating_sub(at) < LEVEL_STEP && !quiet {
            return;
        }
        (self.level.sent, self.level.received) = traffic();
        self.noted = (now.0, self.level);
        self.mark(now, What::Level(self.level));
    }

    /// The jobs that are over and remembered, oldest first.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &Arc<Record>> {
        self.done.iter()
    }

    /// The marks behind the first `seen` of all, and how many there have been.
    pub fn marks_since(&self, seen: u64) -> (Vec<Mark>, u64) {
        let skip = usize::try_from(seen.saturating_sub(self.marks_gone)).unwrap_or(usize::MAX);
        let marks = self.marks.iter().skip(skip).cloned().collect();
        (marks, self.marks_gone + self.marks.len() as u64)
    }

    /// What went wrong last, newest first.
    pub fn troubles(&self) -> impl Iterator<Item = &Mark> {
        self.marks.iter().rev().filter(|mark| {
            matches!(mark.what, What::Lost { .. } | What::BackedOff { .. } | What::Failed { .. })
        })
    }

    /// CPU time of the compilers whose answers were used, in microseconds.
    pub fn cpu(&self) -> u64 {
        self.cpu
    }

    /// How much there is to do.
    pub fn level(&self) -> Level {
        self.level
    }

    fn prepared(&mut self, now: Moment, job: JobId) {
        let Some(live) = self.live.get_mut(&job) else { return };
        if let Some(prepare) = live.record.prepare.as_mut().filter(|span| span.end == span.begin) {
            prepare.end = now.0.max(prepare.begin + 1);
        }
    }

    fn sent(&mut self, now: Moment, job: JobId, host: HostId) {
        let Some(live) = self.live.get_mut(&job) else { return };
        if live.record.attempts.len() >= ATTEMPTS_MAX {
            live.record.attempts.remove(0);
        }
        let lane = self.lanes.take(Some(host.0));
        live.set_waiting(false, &mut self.level);
        let span = Span { begin: now.0, end: now.0 };
        live.record.attempts.push(Attempt { host: host.0, lane, span, ..Attempt::default() });
        self.level.remote += 1;
    }

    fn end_attempt(&mut self, now: Moment, job: JobId, host: HostId, failure: &str) {
        let Some(live) = self.live.get_mut(&job) else { return };
        let Some(attempt) = live.record.attempts.iter_mut().rfind(|attempt| is_open(attempt, host)) else {
            return;
        };
        attempt.span.end = now.0.max(attempt.span.begin + 1);
        attempt.failure = cut(failure);
        self.lanes.give_back(Some(host.0), attempt.lane);
        self.level.remote = self.level.remote.saturating_sub(1);
    }

    fn failed(&mut self, now: Moment, job: JobId, host: HostId, failure: &Failure) {
        let why = failure_words(failure);
        let Some(live) = self.live.get(&job) else { return };
        let source = live.record.source.clone();
        if !live.record.attempts.iter().any(|attempt| is_open(attempt, host)) {
            return;
        }
        self.end_attempt(now, job, host, &why);
        if let Some(live) = self.live.get_mut(&job).filter(|live| !live.is_tried()) {
            live.set_waiting(true, &mut self.level);
        }
        self.mark(now, What::Failed { host: host.0, source, why: cut(&why) });
    }

    fn take(&mut self, now: Moment, job: JobId, end: End) {
        let Some(live) = self.live.get_mut(&job) else { return };
        live.set_waiting(false, &mut self.level);
        live.record.write = Some(Span { begin: now.0, end: now.0 });
        live.record.end = end;
    }

    fn run_here(&mut self, now: Moment, job: JobId, reason: &LocalReason) {
        let Some(live) = self.live.get_mut(&job) else { return };
        let (lane, span) = (self.lanes.take(None), Span { begin: now.0, end: now.0 });
        live.record.here = Some(Here { lane, span, reason: reason.key().to_owned() });
        live.record.end = End::Local;
        live.set_waiting(false, &mut self.level);
        self.level.here += 1;
    }

    fn over(&mut self, now: Moment, job: JobId, end: Option<End>) -> Option<(Wish, Arc<Record>)> {
        let hosts: Vec<u32> = self.live.get(&job)?.record.attempts.iter().map(|at| at.host).collect();
        hosts.iter().for_each(|host| self.end_attempt(now, job, HostId(*host), "cancelled"));
        let mut live = self.live.remove(&job)?;
        live.set_waiting(false, &mut self.level);
        let Live { mut record, trace, .. } = live;
        record.life.end = now.0.max(record.life.begin + 1);
        if let Some(prepare) = record.prepare.as_mut().filter(|span| span.end == span.begin) {
            prepare.end = record.life.end;
        }
        // A compiler that ran here ends with its shim.
        if let Some(here) = &mut record.here {
            here.span.end = now.0.max(here.span.begin + 1);
            self.lanes.give_back(None, here.lane);
            self.level.here = self.level.here.saturating_sub(1);
        }
        if let Some(write) = record.write.as_mut().filter(|write| write.end == write.begin) {
            write.end = now.0.max(write.begin + 1);
        }
        record.end = end.filter(|_| record.here.is_none()).unwrap_or(record.end);
        if record.end == End::Remote {
            let used = record.attempts.iter().rfind(|attempt| attempt.failure.is_empty());
            self.cpu += used.map_or(0, |attempt| attempt.cpu);
        }
        let record = Arc::new(record);
        if self.done.len() >= RECORDS_MAX {
            self.done.pop_front();
        }
        self.done.push_back(Arc::clone(&record));
        Some((trace?, record))
    }

    fn mark(&mut self, now: Moment, what: What) {
        if self.marks.len() >= MARKS_MAX {
            self.marks.pop_front();
            self.marks_gone += 1;
        }
        self.marks.push_back(Mark { at: now.0, what });
    }
}

fn is_open(attempt: &Attempt, host: HostId) -> bool {
    attempt.host == host.0 && attempt.span.end == attempt.span.begin
}

/// A failure for people.
fn failure_words(failure: &Failure) -> String {
    match failure {
        Failure::Host { why }
        | Failure::Overloaded { why }
        | Failure::NoToolchain { why }
        | Failure::Unable { why }
        | Failure::NoTexts { why }
        | Failure::Refused { why } => why.clone(),
        Failure::Deadline => "gave no answer in time".to_owned(),
        Failure::Unpreparable { reason } => reason.to_string(),
    }
}

fn cut(words: &str) -> String {
    match words.char_indices().nth(WORDS_MAX) {
        // Of a source the end matters, but its folders are what is long.
        Some((at, _)) => format!("{}…", &words[..at]),
        None => words.to_owned(),
    }
}

#[cfg(test)]
mod tests;
