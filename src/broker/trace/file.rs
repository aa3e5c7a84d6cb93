//! A trace file that is whole at every moment: each addition replaces its end and puts it back.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use serde_json::{Value, json};

use super::{Timeline, chrome, summary};
use crate::broker::deliver::open_or_make;
use crate::broker::history::record::{Mark, Record};

/// The largest file; a build of a hundred thousand jobs has less.
const FILE_MAX_BYTES: u64 = 512 << 20;

/// Jobs that a summary is made of.
const RECORDS_MAX: usize = 200_000;

/// Where a trace is written.
pub trait Sink: Write + Seek {
    /// Cuts it off.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

impl Sink for File {
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

impl Sink for io::Cursor<Vec<u8>> {
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.get_mut().truncate(usize::try_from(length).unwrap_or(usize::MAX));
        Ok(())
    }
}

/// A trace file that grows.
#[derive(Debug)]
pub struct TraceFile<S> {
    file: S,
    /// Where the next event goes.
    at: u64,
    first: bool,
    lanes: BTreeSet<(Option<u32>, u32)>,
    /// How many volunteers have a name in it; none before this machine has one.
    named: Option<usize>,
    timeline: Timeline,
}

impl TraceFile<File> {
    /// Begins a file; what was in one of that name goes.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be written.
    pub fn create(path: &Path, umask: u32, pid: u32) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).truncate(true);
        let file = open_or_make(&options, path, 0o666 & !umask)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no plain file"));
        }
        TraceFile::begin(file, pid)
    }
}

impl TraceFile<io::Cursor<Vec<u8>>> {
    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.file.into_inner()
    }
}

impl<S: Sink> TraceFile<S> {
    /// Begins a trace.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be written.
    pub fn begin(file: S, pid: u32) -> io::Result<Self> {
        let mut begun = TraceFile {
            file,
            at: 0,
            first: true,
            lanes: BTreeSet::new(),
            named: None,
            timeline: Timeline { pid, ..Timeline::default() },
        };
        begun.write("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n")?;
        begun.add(&[], &[], &[], false)?;
        Ok(begun)
    }

    /// Adds jobs and marks, and names of hosts that are known by now; a summary when nothing more is
    /// to come for now.
    ///
    /// # Errors
    ///
    /// Returns why it could not be written; then the file is of no use any more.
    pub fn add(
        &mut self,
        records: &[Record],
        marks: &[Mark],
        hosts: &[String],
        last: bool,
    ) -> io::Result<()> {
        if self.at > FILE_MAX_BYTES {
            return Ok(());
        }
        let mut events = Vec::new();
        if self.named.is_none_or(|named| hosts.len() > named) {
            events.extend(chrome::name_hosts(hosts, self.named));
            self.named = Some(hosts.len());
            hosts.clone_into(&mut self.timeline.hosts);
        }
        for record in records {
            let met: Vec<_> = chrome::lanes(record).filter(|lane| !self.lanes.contains(lane)).collect();
            for lane in met {
                self.lanes.insert(lane);
                events.push(chrome::name_lane(lane.0, lane.1));
            }
            events.extend(chrome::job(record));
        }
        events.extend(marks.iter().flat_map(chrome::mark));
        let mut text = String::new();
        for event in &events {
            text.push_str(if std::mem::take(&mut self.first) { "" } else { ",\n" });
            text.push_str(&event.to_string());
        }
        self.write(&text)?;
        if self.timeline.records.len() + records.len() <= RECORDS_MAX {
            self.timeline.records.extend_from_slice(records);
            self.timeline.marks.extend_from_slice(marks);
        }
        self.close(last)
    }

    /// What it comes to so far.
    pub fn summary(&self) -> String {
        summary::summarise(&self.timeline).render()
    }

    /// Puts the end behind what has been written.
    fn close(&mut self, last: bool) -> io::Result<()> {
        let mut other = json!({"program": "distcc", "jobs": self.timeline.records.len()});
        if last {
            let lines: Vec<Value> = self.summary().lines().map(Value::from).collect();
            other["summary"] = lines.into();
        }
        let end = format!("\n],\"otherData\":{other}}}\n");
        let at = self.at;
        self.write(&end)?;
        self.file.cut(self.at)?;
        self.at = at;
        Ok(())
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(self.at))?;
        self.file.write_all(text.as_bytes())?;
        self.at += text.len() as u64;
        Ok(())
    }
}
