//! The timeline of a build, as JSON that Perfetto and chrome://tracing open, and what it comes to.
//!
//! Everything here is a function of [`history`](super::history) records: [`chrome`] makes events of
//! them, [`summary`] says what held the build back. [`file`] keeps a file whole while it grows, for
//! builds that ask for one (`DISTCC_TRACE`).

pub mod chrome;
pub mod file;
pub mod live;
pub mod summary;

use serde::{Deserialize, Serialize};

use super::history::record::{Mark, Record};

/// A build that was quiet for this long is over, in microseconds: what comes later is another.
const QUIET: u64 = 10_000_000;

/// What is known of a build.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Its jobs, in the order of their ends.
    pub records: Vec<Record>,
    /// What happened meanwhile.
    pub marks: Vec<Mark>,
    /// The names of volunteers, by number.
    pub hosts: Vec<String>,
    /// The broker's process.
    pub pid: u32,
}

impl Timeline {
    /// Leaves the latest build only: what happened before a time without any job goes.
    pub fn latest(mut self) -> Self {
        self.records.sort_by_key(|record| record.life.end);
        let mut first = self.records.len();
        let mut begin = u64::MAX;
        for (at, record) in self.records.iter().enumerate().rev() {
            if begin != u64::MAX && record.life.end.saturating_add(QUIET) < begin {
                break;
            }
            begin = begin.min(record.life.begin);
            first = at;
        }
        self.records.drain(..first);
        self.marks = around(std::mem::take(&mut self.marks), begin);
        self
    }
}

/// The whole document of a build that is known in full, and its summary.
///
/// # Errors
///
/// Returns what writing to memory returns.
pub fn whole(timeline: &Timeline) -> std::io::Result<(Vec<u8>, String)> {
    let mut file = file::TraceFile::begin(std::io::Cursor::default(), timeline.pid)?;
    file.add(&timeline.records, &timeline.marks, &timeline.hosts, true)?;
    let summary = file.summary();
    Ok((file.into_bytes(), summary))
}

/// The marks from `begin` on, and before it the last that say how things stood then.
fn around(marks: Vec<Mark>, begin: u64) -> Vec<Mark> {
    use super::history::record::What;
    let mut stood = std::collections::BTreeMap::new();
    let mut kept = Vec::new();
    for mark in marks {
        if mark.at >= begin {
            kept.push(mark);
        } else if let What::Slots { host, .. } = mark.what {
            stood.insert(host, Mark { at: begin, ..mark });
        }
    }
    stood.into_values().chain(kept).collect()
}

#[cfg(test)]
mod tests;
