//! Runs one foreign program: its own process group, an empty environment but for what it is
//! given, a deadline, limits, and death for the whole group when it is over, whatever the reason.
//!
//! Blocking: to be called from threads that may wait.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open,
    prlimit, setpriority_pgrp, waitid,
};
use rustix::time::Timespec;
use tokio::sync::watch;

use super::ceiling::{self, Ceiling, below};
use super::groups::{self, Groups};
use super::guard::Guard;
use super::sandbox::init::{self, Answer};
use crate::common::action::Ended;

/// What is run, and where.
#[derive(Debug)]
pub struct Program<'a> {
    /// The program's path.
    pub path: &'a Path,
    /// Its arguments, the program itself not among them.
    pub arguments: &'a [OsString],
    /// All of its environment.
    pub environment: &'a [(OsString, OsString)],
    /// Its working directory.
    pub directory: &'a Path,
    /// Where its stdout goes.
    pub stdout: File,
    /// Where its stderr goes.
    pub stderr: File,
}

/// What a program may use.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Its niceness.
    pub nice: i32,
    /// The largest file it may write, in bytes.
    pub file_bytes: u64,
    /// The address space of each of its processes, in bytes.
    pub memory_bytes: Option<u64>,
    /// What each of its processes may write to without a file behind it, in bytes.
    pub data_bytes: Option<u64>,
    /// The processor time of each of its processes, in seconds.
    pub cpu_seconds: Option<u64>,
    /// Files that each of its processes may have open.
    pub open_files: Option<u64>,
}

impl Limits {
    /// What is limited for each process, and to what (setrlimit(2)): no more than there can be.
    pub fn each(&self, ceiling: Ceiling) -> impl Iterator<Item = (Resource, u64)> {
        let limits = [
            (Resource::Core, Some(0)),
            (Resource::Fsize, Some(self.file_bytes)),
            (Resource::As, self.memory_bytes),
            (Resource::Data, self.data_bytes),
            (Resource::Cpu, self.cpu_seconds),
            (Resource::Nofile, self.open_files),
        ];
        let limits = limits.into_iter().filter_map(|(resource, most)| Some((resource, most?)));
        limits.map(move |(resource, most)| (resource, below(ceiling, resource, most)))
    }
}

/// How a program's run went.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    /// How it ended.
    pub ended: Ended,
    /// Whether it was killed because its deadline had passed.
    pub timed_out: bool,
    /// From start to end.
    pub wall: Duration,
    /// User and system time, its children's included.
    pub cpu: Duration,
    /// The most memory that one of its processes had, in bytes; where it has no first process of ours, never
    /// less than what the daemon itself had when it started it.
    pub memory: u64,
    /// The most memory that all of them had together, where a control group tells, in bytes.
    pub memory_of_all: Option<u64>,
}

impl Finished {
    /// What it has used, for the log, with a space before it.
    pub fn used(&self) -> String {
        let all = self.memory_of_all.map(|all| format!(" of-all:{}KiB", all >> 10)).unwrap_or_default();
        format!(" cpu:{}ms memory:{}KiB{all}", self.cpu.as_millis(), self.memory >> 10)
    }
}

/// The right to end a job from another thread, at any moment of its life.
#[derive(Debug)]
pub struct Control {
    group: Mutex<Group>,
    cancelled: watch::Sender<bool>,
}

#[derive(Debug, PartialEq)]
enum Group {
    /// Not started yet, or over: there is nothing to kill.
    None,
    /// The process group that runs. Its leader has not been reaped, so the number is its own.
    Running(Pid),
}

impl Default for Control {
    fn default() -> Self {
        Control { group: Mutex::new(Group::None), cancelled: watch::Sender::new(false) }
    }
}

impl Control {
    /// Kills what runs, and what would be started later.
    pub fn cancel(&self) {
        let group = self.group();
        self.cancelled.send_replace(true);
        if let Group::Running(group) = *group {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Whether the job is not wanted any more.
    pub fn is_cancelled(&self) -> bool {
        *self.cancelled.borrow()
    }

    /// The leader of the process group that runs, if one does.
    pub fn leader(&self) -> Option<Pid> {
        match *self.group() {
            Group::None => None,
            Group::Running(leader) => Some(leader),
        }
    }

    /// Returns when the job is not wanted any more.
    pub async fn cancelled(&self) {
        // The sender is part of `self`, so it cannot be gone.
        let _ = self.cancelled.subscribe().wait_for(|cancelled| *cancelled).await;
    }

    fn started(&self, group: Pid) {
        *self.group() = Group::Running(group);
        if self.is_cancelled() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    fn ended(&self) {
        *self.group() = Group::None;
    }

    fn group(&self) -> MutexGuard<'_, Group> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is seen to while a program runs.
#[derive(Clone, Copy, Debug)]
pub struct Watch<'a> {
    /// What it may use.
    pub limits: &'a Limits,
    /// Who makes its control group, if anybody can.
    pub groups: Option<&'a Groups>,
    /// Who may end it.
    pub control: &'a Control,
    /// Who ends it when the daemon dies.
    pub guard: &'a Guard,
    /// When it is ended.
    pub deadline: Instant,
}

/// Somebody who must be listened to while a program runs, or it would wait for ever.
pub trait Talker {
    /// What becomes readable when there is something to hear; `None` when there is no more.
    fn ear(&self) -> Option<BorrowedFd<'_>>;
    /// Takes what there is, without waiting.
    fn listen(&mut self);
}

impl Watch<'_> {
    /// Starts a program by `start`, which returns the leader of a process group of its own, born into the
    /// control group that it is given, and sees to it until its end, or the deadline, or until it is cancelled.
    ///
    /// # Errors
    ///
    /// Returns what kept it from starting; a program that started always has a [`Finished`].
    pub fn over(
        &self,
        start: impl FnOnce(Option<BorrowedFd<'_>>) -> io::Result<Child>,
        talker: Option<&mut dyn Talker>,
    ) -> io::Result<Finished> {
        if self.control.is_cancelled() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let begin = Instant::now();
        let group = self.groups.map(Groups::make).transpose()?;
        let Child { pid, answer } = start(group.as_ref().map(groups::Group::folder))?;
        self.guard.started(pid);
        self.control.started(pid);
        restrict(pid, self.limits);
        let timed_out = !wait_until(pid, self.deadline, talker);
        // The leader is a zombie now, or is about to be killed: until it is reaped, nobody else can
        // have its number, so this hits only what it left behind.
        let _ = kill_process_group(pid, Signal::KILL);
        group.iter().for_each(groups::Group::end);
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        self.control.ended();
        self.guard.ended(pid);
        let wall = begin.elapsed();
        let (mut ended, cpu, mut memory) = reap(pid)?;
        match answer.and_then(init::answer) {
            Some(Answer::Failed { errno }) => return Err(io::Error::from_raw_os_error(errno)),
            Some(Answer::Ran { ended: program, memory: most }) => (ended, memory) = (program, most),
            // There is no first process but the program, or it was killed.
            None => {}
        }
        let memory_of_all = group.as_ref().and_then(groups::Group::memory);
        Ok(Finished { ended, timed_out, wall, cpu, memory, memory_of_all })
    }
}

/// A program that runs.
#[derive(Debug)]
pub struct Child {
    /// Its number, or that of the process that sees to it; it leads a process group.
    pub pid: Pid,
    /// Where that other process says how the program ended ([`init::answer`]).
    pub answer: Option<OwnedFd>,
}

/// Starts a program as the leader of a process group of its own.
///
/// # Errors
///
/// Returns what the system returns.
pub fn spawn(program: Program<'_>) -> io::Result<Child> {
    let child = Command::new(program.path)
        .args(program.arguments)
        .env_clear()
        .envs(program.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(program.directory)
        .stdin(Stdio::null())
        .stdout(program.stdout)
        .stderr(program.stderr)
        .process_group(0)
        .spawn()?;
    // The child is reaped by hand, for its resource usage; `Child` neither kills nor waits.
    Ok(Child { pid: Pid::from_child(&child), answer: None })
}

/// Sets limits from outside, which keeps the daemon's start of a child a plain `posix_spawn`. A
/// driver that has started a sub-program before is one that cannot do harm in that time either.
fn restrict(pid: Pid, limits: &Limits) {
    for (resource, most) in limits.each(ceiling::own) {
        let _ = prlimit(Some(pid), resource, Rlimit { current: Some(most), maximum: Some(most) });
    }
    if limits.nice != 0 {
        let _ = setpriority_pgrp(Some(pid), limits.nice);
    }
}

/// Waits for the process to end; false when `deadline` came first.
fn wait_until(pid: Pid, deadline: Instant, mut talker: Option<&mut dyn Talker>) -> bool {
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        // No pidfd (Linux before 5.3): look now and then.
        return wait_by_looking(pid, deadline, talker);
    };
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let ear = talker.as_ref().and_then(|talker| talker.ear());
        let mut watched = vec![PollFd::new(&process, PollFlags::IN)];
        watched.extend(ear.as_ref().map(|ear| PollFd::new(ear, PollFlags::IN)));
        let polled = poll(&mut watched, Some(&timeout));
        let is_over = watched[0].revents().contains(PollFlags::IN);
        match polled {
            Ok(0) => return false,
            Ok(_) if is_over => return true,
            Ok(_) => talker.iter_mut().for_each(|talker| talker.listen()),
            Err(Errno::INTR) => {}
            Err(_) => return wait_by_looking(pid, deadline, talker),
        }
    }
}

fn wait_by_looking(pid: Pid, deadline: Instant, mut talker: Option<&mut dyn Talker>) -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    while Instant::now() < deadline {
        talker.iter_mut().for_each(|talker| talker.listen());
        match waitid(WaitId::Pid(pid), options) {
            Ok(None) | Err(Errno::INTR) => std::thread::sleep(Duration::from_millis(2)),
            Ok(Some(_)) | Err(_) => return true,
        }
    }
    false
}

/// Reaps the process: how it ended, and the processor time and memory that it and its children took.
#[allow(unsafe_code)]
fn reap(pid: Pid) -> io::Result<(Ended, Duration, u64)> {
    let mut status = 0;
    // SAFETY: an all-zero `rusage` is a valid one, it holds only numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: both pointers are to live locals of the right type.
        let reaped = unsafe { libc::wait4(pid.as_raw_nonzero().get(), &raw mut status, 0, &raw mut usage) };
        if reaped >= 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    let time = |value: libc::timeval| {
        Duration::from_secs(value.tv_sec.unsigned_abs()) + Duration::from_micros(value.tv_usec.unsigned_abs())
    };
    let ended = match libc::WIFSIGNALED(status) {
        true => Ended::Killed(libc::WTERMSIG(status)),
        false => Ended::Exited(libc::WEXITSTATUS(status)),
    };
    let memory = usage.ru_maxrss.unsigned_abs() << 10;
    Ok((ended, time(usage.ru_utime) + time(usage.ru_stime), memory))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};
    use std::sync::Arc;

    use super::*;

    const LIMITS: Limits = Limits {
        nice: 0,
        file_bytes: 1 << 20,
        memory_bytes: None,
        data_bytes: None,
        cpu_seconds: None,
        open_files: None,
    };

    fn shell(script: &str, control: &Control, deadline: Duration) -> (Finished, String) {
        let mut stdout = tempfile::tempfile().unwrap();
        let program = Program {
            path: Path::new("/bin/sh"),
            arguments: &["-c".into(), script.into()],
            environment: &[("WORD".into(), "given".into())],
            directory: Path::new("/"),
            stdout: stdout.try_clone().unwrap(),
            stderr: tempfile::tempfile().unwrap(),
        };
        let guard = Guard::none();
        let deadline = Instant::now() + deadline;
        let watch = Watch { limits: &LIMITS, groups: None, control, guard: &guard, deadline };
        let finished = watch.over(|_| spawn(program), None).unwrap();
        let mut text = String::new();
        stdout.rewind().unwrap();
        stdout.read_to_string(&mut text).unwrap();
        (finished, text)
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_program_sees_only_what_it_was_given() {
        let (finished, text) = shell("echo $WORD $HOME $USER; exit 3", &Control::default(), LONG);
        assert_eq!((finished.ended, text.as_str()), (Ended::Exited(3), "given\n"));
    }

    #[test]
    fn a_program_that_runs_too_long_is_killed_with_its_children() {
        let begin = Instant::now();
        let (finished, text) =
            shell("sleep 61 & echo $!; sleep 62", &Control::default(), Duration::from_millis(300));
        assert!(finished.timed_out && begin.elapsed() < LONG);
        assert_eq!(finished.ended, Ended::Killed(9));
        assert_gone(&text);
    }

    #[test]
    fn what_a_program_leaves_running_is_killed_when_it_ends() {
        let (finished, text) = shell("sleep 61 & echo $!", &Control::default(), LONG);
        assert_eq!(finished.ended, Ended::Exited(0));
        assert_gone(&text);
    }

    #[test]
    fn a_cancelled_program_ends_at_once() {
        let control = Arc::new(Control::default());
        let other = Arc::clone(&control);
        let canceller = std::thread::spawn(move || {
            while *other.group() == Group::None {
                std::thread::yield_now();
            }
            other.cancel();
        });
        let (finished, _) = shell("sleep 61; sleep 62", &control, LONG);
        canceller.join().unwrap();
        assert_eq!((finished.ended, finished.timed_out), (Ended::Killed(9), false));
    }

    #[test]
    fn a_program_cannot_write_a_file_beyond_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let big = directory.path().join("big");
        // The pause lets the limit be there before the first byte, as a driver's own start does.
        let script = format!("sleep 0.2; cat /dev/zero > {}", big.display());
        let (finished, _) = shell(&script, &Control::default(), LONG);
        assert!(!finished.timed_out && !finished.ended.is_success());
        assert_eq!(big.metadata().unwrap().len(), LIMITS.file_bytes);
    }

    fn assert_gone(pid: &str) {
        let path = format!("/proc/{}/stat", pid.trim());
        let deadline = Instant::now() + Duration::from_secs(5);
        // Whoever inherits the orphan reaps it when it gets to it; a zombie runs no more.
        let gone = || std::fs::read_to_string(&path).map_or(true, |stat| stat.contains(") Z "));
        while !gone() {
            assert!(Instant::now() < deadline, "{pid} still runs");
            std::thread::yield_now();
        }
    }
}
