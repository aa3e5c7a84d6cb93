//! What runs, for monitors of distcc 3.4: files `state/binstate_…` in `DISTCC_DIR`, one for each shim.
//!
//! Stock's client rewrites its file at every step. Here the files follow a picture of all jobs that
//! is taken a while after something happened to any, and only what changed is written: a job that is over sooner was
//! not to be seen in any case, and costs nothing; while all jobs only run, nothing is done. Monitors go by what is in a file, not by its name, so the
//! file of a job that is over becomes that of one that has begun: making and removing one for each job would be
//! a seventh of what a broker does.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, test_kill_process};

/// How long after something happened the picture is taken.
const LAG: Duration = Duration::from_millis(200);

/// Monitors take what is older than a minute for left behind.
const REFRESH: Duration = Duration::from_secs(20);

/// Bytes of a file, on machines whose pointers have 64 bits.
const FILE_LEN: usize = 296;

/// What a file begins with, behind its length.
const MAGIC: u64 = 0x4449_4800;

/// Bytes of a name in it, with the NUL at its end.
const NAME_LEN: usize = 128;

/// What a monitor is to show of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The shim's process.
    pub pid: u32,
    /// The source's name, without directories.
    pub file: String,
    /// The host; empty while there is none.
    pub host: String,
    /// The slot there.
    pub slot: u32,
    /// What happens.
    pub phase: Phase,
}

/// The phases that monitors know. A broker's job has no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waits for a slot.
    Blocked = 1,
    /// Is being preprocessed.
    Preprocess = 3,
    /// Is being compiled.
    Compile = 5,
    /// Its outputs are on their way.
    Receive = 6,
}

impl Phase {
    /// What distccmon-text calls it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Blocked => "Blocked",
            Phase::Preprocess => "Preprocess",
            Phase::Compile => "Compile",
            Phase::Receive => "Receive",
        }
    }
}

/// The files of all jobs.
#[derive(Debug)]
pub struct StateFiles {
    /// `None` when nothing is shown.
    directory: Option<PathBuf>,
    umask: u32,
    /// By the shim's process.
    written: HashMap<u32, Written>,
    /// The file that was made last.
    next: u32,
    /// When the next picture is to be taken.
    due: Option<Instant>,
}

/// A file as it was written last.
#[derive(Debug)]
struct Written {
    /// The one of this broker's files that it is.
    number: u32,
    job: Shown,
    at: Instant,
}

impl StateFiles {
    /// Files in `state/` beneath `state`, the directory of `DISTCC_DIR`. Those of processes that
    /// are gone are removed.
    pub fn open(state: Option<&Path>, umask: u32) -> Self {
        let directory = state.map(|state| state.join("state"));
        let directory = directory.filter(|path| match super::make(path, umask) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "jobs are not shown to monitors");
                false
            }
        });
        directory.as_deref().into_iter().for_each(remove_dead);
        StateFiles { directory, umask, written: HashMap::new(), next: 0, due: None }
    }

    /// When the next picture is to be taken, if nothing happens before.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Something happened that may have changed what jobs do.
    pub fn happened(&mut self, now: Instant) {
        let soon = now + LAG;
        if self.directory.is_some() && self.due.is_none_or(|due| due > soon) {
            self.due = Some(soon);
        }
    }

    /// Makes the files show these jobs.
    pub fn show(&mut self, jobs: impl IntoIterator<Item = Shown>, now: Instant) {
        self.write_all(jobs, now);
        self.due = self.written.values().map(|written| written.at + REFRESH).min();
    }

    fn write_all(&mut self, jobs: impl IntoIterator<Item = Shown>, now: Instant) {
        let Some(directory) = self.directory.clone() else { return };
        let mut before = std::mem::take(&mut self.written);
        let mut new = Vec::new();
        for job in jobs {
            match before.remove(&job.pid) {
                Some(known) => self.keep(&directory, known, job, now),
                None => new.push(job),
            }
        }
        let mut free: Vec<u32> = before.into_values().map(|over| over.number).collect();
        for job in new {
            let number = free.pop().unwrap_or_else(|| self.another());
            self.put(&directory, number, job, now);
        }
        let over = self.written.is_empty() && !free.is_empty();
        free.into_iter().for_each(|number| remove(&directory, number));
        if over {
            // What a broker before this one left for shims that still lived when this one began.
            remove_dead(&directory);
        }
    }

    /// Writes a job's file again if it is not what it was, or is as old as what is left behind.
    fn keep(&mut self, directory: &Path, known: Written, job: Shown, now: Instant) {
        match known.job == job && now.duration_since(known.at) < REFRESH {
            true => drop(self.written.insert(job.pid, known)),
            false => self.put(directory, known.number, job, now),
        }
    }

    fn put(&mut self, directory: &Path, number: u32, job: Shown, now: Instant) {
        write(directory, number, &job, self.umask);
        self.written.insert(job.pid, Written { number, job, at: now });
    }

    /// The number of a file that is not there yet.
    fn another(&mut self) -> u32 {
        self.next = if self.written.is_empty() { 0 } else { self.next.wrapping_add(1) };
        self.next
    }
}

impl Drop for StateFiles {
    fn drop(&mut self) {
        self.show([], Instant::now());
        // One that was killed a moment before this one began may not have been gone then.
        self.directory.as_deref().into_iter().for_each(remove_dead);
    }
}

/// The broker's own number is in the name: another of the same `DISTCC_DIR` has files of its own.
fn path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("binstate_{}_{number}", std::process::id()))
}

/// A monitor that reads while this writes shows nonsense once; stock's files are no different.
fn write(directory: &Path, number: u32, job: &Shown, umask: u32) {
    let mut options = fs::File::options();
    // Every such file is of one length.
    options.write(true).create(true).truncate(false).mode(0o666 & !umask);
    let written = options
        .open(path(directory, number))
        .and_then(|mut file| std::io::Write::write_all(&mut file, &encode(job)));
    if let Err(error) = written {
        tracing::debug!(%error, "a job is not shown to monitors");
    }
}

fn remove(directory: &Path, number: u32) {
    // A monitor may have taken it for left behind.
    let _ = fs::remove_file(path(directory, number));
}

/// Removes what a broker that was killed left behind.
fn remove_dead(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        // Ours, and stock's, which have their own process's number alone.
        let pid =
            name.to_str().and_then(|name| name.strip_prefix("binstate_")?.split('_').next()?.parse().ok());
        if pid.and_then(Pid::from_raw).is_some_and(is_over) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a process has ended, be it that nobody has taken note of it yet.
fn is_over(pid: Pid) -> bool {
    let stat = || fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    let is_dead = |stat: String| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X']));
    test_kill_process(pid) == Err(rustix::io::Errno::SRCH) || is_dead(stat())
}

fn encode(job: &Shown) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(FILE_LEN);
    for number in [FILE_LEN as u64, MAGIC, u64::from(job.pid)] {
        bytes.extend(number.to_ne_bytes());
    }
    for name in [&job.file, &job.host] {
        let mut end = name.len().min(NAME_LEN - 1);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        bytes.extend(&name.as_bytes()[..end]);
        bytes.resize(bytes.len() + NAME_LEN - end, 0);
    }
    bytes.extend(job.slot.to_ne_bytes());
    bytes.extend((job.phase as u32).to_ne_bytes());
    bytes.resize(FILE_LEN, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(phase: Phase) -> Shown {
        // A process that is sure to live.
        let pid = std::process::id();
        Shown { pid, file: "ä".repeat(100), host: "build7".to_owned(), slot: 3, phase }
    }

    #[test]
    fn a_file_is_stocks_structure() {
        let bytes = encode(&job(Phase::Compile));
        assert_eq!(bytes.len(), FILE_LEN);
        assert_eq!(bytes[..16], [296u64.to_ne_bytes(), 0x4449_4800u64.to_ne_bytes()].concat());
        assert_eq!((bytes[24 + 125], bytes[24 + 126], bytes[24 + 127]), ("ä".as_bytes()[1], 0, 0));
        assert_eq!(&bytes[152..159], b"build7\0");
        assert_eq!(bytes[280..288], [3u32.to_ne_bytes(), 5u32.to_ne_bytes()].concat());
    }

    #[test]
    fn files_follow_the_jobs_and_dead_ones_go() {
        let directory = tempfile::tempdir().expect("a directory");
        let names = || {
            let entries = fs::read_dir(directory.path().join("state")).expect("a directory");
            entries.map(|entry| entry.expect("an entry").file_name()).collect::<Vec<_>>()
        };
        fs::create_dir(directory.path().join("state")).expect("a directory");
        // No process can have this number (proc(5), pid_max).
        fs::write(directory.path().join("state/binstate_2147483000"), "x").expect("a file");
        let mut files = StateFiles::open(Some(directory.path()), 0o022);
        assert_eq!(names().len(), 0);
        let now = Instant::now();
        files.show([job(Phase::Blocked)], now);
        assert_eq!(names(), [format!("binstate_{}_0", std::process::id()).as_str()]);
        files.show([job(Phase::Compile)], now);
        let file = fs::read(directory.path().join("state").join(&names()[0])).expect("a file");
        assert_eq!(file, encode(&job(Phase::Compile)));
        // Another job: the same file.
        let other = Shown { pid: 1, ..job(Phase::Blocked) };
        files.show([other.clone()], now);
        let file = fs::read(directory.path().join("state").join(&names()[0])).expect("a file");
        assert_eq!((names().len(), file), (1, encode(&other)));
        files.show([job(Phase::Compile), other.clone()], now);
        files.show([other], now);
        assert_eq!(names().len(), 1);
        files.show([], now);
        assert!(names().is_empty());
        files.show([job(Phase::Receive)], now);
        drop(files);
        assert!(names().is_empty());
    }

    #[test]
    fn while_all_jobs_only_run_no_picture_is_taken() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut files = StateFiles::open(Some(directory.path()), 0o022);
        let now = Instant::now();
        assert_eq!(files.due(), None);
        files.happened(now);
        files.happened(now + LAG / 2);
        assert_eq!(files.due(), Some(now + LAG));
        files.show([job(Phase::Compile)], now + LAG);
        // Monitors would take it for left behind, later on.
        assert_eq!(files.due(), Some(now + LAG + REFRESH));
        files.happened(now + 2 * LAG);
        assert_eq!(files.due(), Some(now + 3 * LAG));
        files.show([], now + 3 * LAG);
        assert_eq!(files.due(), None);
    }
}
