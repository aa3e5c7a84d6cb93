//! A tiny process that outlives the daemon by a moment.
//!
//! A daemon that is killed with SIGKILL can clean nothing up: its compilers would run on, for
//! nobody. So the daemon starts itself once more as a guard, and tells it over a pipe which
//! process groups run. When the pipe closes, however the daemon ended, the guard kills those
//! groups and whatever else works in the daemon's job directory, and removes the directory.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The hidden first argument that makes `distccd` a guard; the job directory follows.
pub const ARGUMENT: &str = "--guard-of-job-directory";

/// How long the guard goes on looking for processes that will not die.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

const STARTED: u8 = b'+';
const ENDED: u8 = b'-';
const RECORD_BYTES: usize = 5;

/// The daemon's end of the pipe.
#[derive(Debug)]
pub struct Guard {
    pipe: Mutex<Option<ChildStdin>>,
    child: Mutex<Option<Child>>,
}

impl Guard {
    /// Starts the guard of `jobs`, the directory under which this daemon's jobs run.
    ///
    /// # Errors
    ///
    /// Returns what starting a process returns.
    pub fn start(jobs: &Path) -> io::Result<Self> {
        let program = super::own_program();
        let mut child = Command::new(program)
            .arg0("distccd-guard")
            .args([ARGUMENT.as_ref(), jobs.as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()?;
        let pipe = child.stdin.take();
        if let Some(pipe) = &pipe {
            // A guard that was stopped must not stop the daemon.
            rustix::fs::fcntl_setfl(pipe, rustix::fs::OFlags::NONBLOCK)?;
        }
        Ok(Guard { pipe: Mutex::new(pipe), child: Mutex::new(Some(child)) })
    }

    /// A guard that guards nothing, for tests of one module.
    pub fn none() -> Self {
        Guard { pipe: Mutex::new(None), child: Mutex::new(None) }
    }

    /// This process group runs for a job.
    pub fn started(&self, group: Pid) {
        self.tell(STARTED, group);
    }

    /// This process group is dead. To be said before its leader is reaped, while nobody else can
    /// have its number.
    pub fn ended(&self, group: Pid) {
        self.tell(ENDED, group);
    }

    /// Lets the guard do its work and waits for it, at the end of an orderly stop.
    pub fn finish(&self) {
        drop(self.pipe.lock().unwrap_or_else(PoisonError::into_inner).take());
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = child {
            let _ = child.wait();
        }
    }

    fn tell(&self, what: u8, group: Pid) {
        let [a, b, c, d] = group.as_raw_nonzero().get().to_le_bytes();
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipe) = pipe.as_mut()
            && let Err(error) = pipe.write_all(&[what, a, b, c, d])
        {
            tracing::debug!(%error, "the guard does not listen");
        }
    }
}

/// The guard's whole life.
pub fn main(jobs: &Path) {
    // Out of the terminal's reach: the guard ends when the daemon has ended, not before.
    let _ = rustix::process::setsid();
    let groups = listen(&mut io::stdin().lock());
    for group in groups {
        let _ = kill_process_group(group, Signal::KILL);
    }
    sweep(jobs);
}

/// Which groups run when the daemon ends.
fn listen(pipe: &mut impl Read) -> HashSet<Pid> {
    let mut groups = HashSet::new();
    let mut record = [0; RECORD_BYTES];
    while pipe.read_exact(&mut record).is_ok() {
        let [what, a, b, c, d] = record;
        let Some(group) = Pid::from_raw(i32::from_le_bytes([a, b, c, d])) else { continue };
        match what {
            STARTED => groups.insert(group),
            _ => groups.remove(&group),
        };
    }
    groups
}

/// Kills every process that works beneath `directory`, then removes it.
pub fn sweep(directory: &Path) {
    let deadline = Instant::now() + KILL_TIMEOUT;
    while kill_those_in(directory) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = fs::remove_dir_all(directory);
}

/// Kills the processes whose working directory is beneath `directory`; whether there were any.
fn kill_those_in(directory: &Path) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    let mut any = false;
    for process in processes.filter_map(Result::ok) {
        let number = process.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = number.and_then(Pid::from_raw) else { continue };
        let there = fs::read_link(process.path().join("cwd"));
        if there.is_ok_and(|cwd| cwd.starts_with(directory)) && kill_process(pid, Signal::KILL).is_ok() {
            any = true;
        }
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_that_have_not_ended_are_left() {
        let record = |what: u8, pid: i32| [&[what][..], &pid.to_le_bytes()].concat();
        let said = [record(STARTED, 7), record(STARTED, 8), record(ENDED, 7), vec![STARTED, 1]].concat();
        let left: Vec<i32> = listen(&mut &said[..]).iter().map(|pid| pid.as_raw_nonzero().get()).collect();
        assert_eq!(left, [8]);
    }

    #[test]
    fn a_process_that_works_in_the_directory_is_killed_and_the_directory_removed() {
        let root = tempfile::tempdir().unwrap();
        let jobs = root.path().canonicalize().unwrap().join("jobs");
        fs::create_dir_all(jobs.join("1")).unwrap();
        let mut child = Command::new("sleep").arg("60").current_dir(jobs.join("1")).spawn().unwrap();
        let reaper = std::thread::spawn(move || child.wait().unwrap());
        sweep(&jobs);
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(reaper.join().unwrap().signal(), Some(9));
        assert!(!jobs.exists());
    }
}
