//! The birth of a job: a child in namespaces of its own, straight from the daemon.
//!
//! The child shares the daemon's memory until it becomes the compiler (`CLONE_VM | CLONE_VFORK`, as
//! `posix_spawn` does it), which costs a fraction of a fork; the thread that makes it stands still
//! meanwhile. So the child does nothing but system calls on what was laid out for it: no allocation,
//! no lock, no panic, no standard library beyond that.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use libc::{c_char, c_int, c_void};
use rustix::process::Pid;

use super::clone;
use super::init;
use super::plan::{Act, Step, describe};
use crate::remote::process::Child;

/// All that a job has of its own.
const NAMESPACES: c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

/// What is run in a box.
#[derive(Debug)]
pub struct Command {
    /// The program's path inside; `None` to come to life, prove it, and end.
    pub program: Option<CString>,
    /// Its arguments, its own name first.
    pub arguments: Vec<CString>,
    /// Its environment.
    pub environment: Vec<CString>,
    /// Its stdin, stdout and stderr.
    pub stdio: [OwnedFd; 3],
}

/// What keeps a command in besides its steps.
#[derive(Clone, Copy, Debug)]
pub struct Ties<'a> {
    /// Whether it has namespaces of its own.
    pub namespaces: bool,
    /// Which system calls it may make; empty for all.
    pub filter: &'a [libc::sock_filter],
    /// Which files it may open (landlock(7)).
    pub ruleset: Option<BorrowedFd<'a>>,
    /// The program of the first process, whose child the command is then ([`super::init`]).
    pub init: Option<BorrowedFd<'a>>,
    /// The folder of the control group that it is born into.
    pub group: Option<BorrowedFd<'a>>,
}

/// A child that lives.
#[derive(Debug)]
pub struct Born {
    /// It leads a session and a process group.
    pub child: Child,
    /// The folder that it handed over.
    pub scratch: OwnedFd,
    /// The numbers of the watches that it made, as far as the first that it could not make.
    pub watches: Vec<i32>,
}

/// What the child tells about itself, in memory that both see.
#[derive(Debug)]
struct Report {
    /// The step that failed, or that of the start of the program.
    step: AtomicI32,
    errno: AtomicI32,
    scratch: AtomicI32,
    /// Places for the numbers of watches, and how many are filled.
    watches: Vec<AtomicI32>,
    watched: AtomicUsize,
}

impl Report {
    fn of(steps: &[Step]) -> Self {
        let watches = steps.iter().filter(|step| matches!(step.act, Act::Watch(..)));
        Report {
            step: AtomicI32::new(-1),
            errno: AtomicI32::new(0),
            scratch: AtomicI32::new(-1),
            watches: watches.map(|_| AtomicI32::new(-1)).collect(),
            watched: AtomicUsize::new(0),
        }
    }

    fn watches(&self) -> Vec<i32> {
        let numbers = self.watches.iter().map(|number| number.load(Ordering::SeqCst));
        numbers.take_while(|&number| number >= 0).collect()
    }
}

/// All that the child looks at.
struct Orders<'a> {
    steps: &'a [Step],
    program: *const c_char,
    arguments: *const *const c_char,
    environment: *const *const c_char,
    stdio: [c_int; 3],
    report: &'a Report,
    filter: libc::sock_fprog,
    ruleset: Option<c_int>,
    first: Option<First>,
}

/// The first process, where that is not the command.
#[derive(Clone, Copy)]
struct First {
    program: c_int,
    answer: c_int,
}

/// Starts a command in a box that `steps` make. Where it has a first process, that tells whether the program
/// could be started.
///
/// # Errors
///
/// Returns which step failed, and why, with the system's error as its kind and source.
pub fn spawn(steps: &[Step], command: &Command, ties: Ties<'_>) -> io::Result<Born> {
    let report = Report::of(steps);
    let answer = ties.init.map(|_| init::ask()).transpose()?;
    let first = ties.init.zip(answer.as_ref());
    let path = first.map(|_| command.program.as_deref().unwrap_or_default());
    let arguments = pointers(path.into_iter().chain(command.arguments.iter().map(|word| &**word)));
    let environment = pointers(command.environment.iter().map(|word| &**word));
    let orders = Orders {
        steps,
        program: command.program.as_ref().map_or(null(), |program| program.as_ptr()),
        arguments: arguments.as_ptr(),
        environment: environment.as_ptr(),
        stdio: command.stdio.each_ref().map(AsRawFd::as_raw_fd),
        report: &report,
        filter: libc::sock_fprog {
            len: u16::try_from(ties.filter.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
            filter: ties.filter.as_ptr().cast_mut(),
        },
        ruleset: ties.ruleset.map(|ruleset| ruleset.as_raw_fd()),
        first: first
            .map(|(program, answer)| First { program: program.as_raw_fd(), answer: answer.as_raw_fd() }),
    };
    let namespaces = if ties.namespaces { NAMESPACES } else { 0 };
    let argument = std::ptr::from_ref(&orders).cast_mut().cast();
    // SAFETY: `child` keeps to system calls, and `orders` lives until it has left this memory.
    let pid = unsafe { clone::clone(child, argument, namespaces, ties.group) }?;
    let scratch = report.scratch.load(Ordering::SeqCst);
    // SAFETY: the child opened it in the table of descriptors that it shared with us at that time, for
    // us, and told its number to nobody else.
    let scratch = (scratch >= 0).then(|| unsafe { OwnedFd::from_raw_fd(scratch) });
    let errno = report.errno.load(Ordering::SeqCst);
    match (errno, scratch) {
        (0, Some(scratch)) => Ok(Born { child: Child { pid, answer }, scratch, watches: report.watches() }),
        (errno, _) => {
            let step = steps.get(report.step.load(Ordering::SeqCst).unsigned_abs() as usize);
            wait_for_failed(pid);
            Err(BirthError { step: describe(step), error: io::Error::from_raw_os_error(errno) }.into())
        }
    }
}

/// Why a child did not become what it should.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {error}")]
pub struct BirthError {
    step: String,
    error: io::Error,
}

impl From<BirthError> for io::Error {
    fn from(error: BirthError) -> Self {
        io::Error::new(error.error.kind(), error)
    }
}

/// The system's number of an error that [`spawn`] returned, or that a first process told.
pub fn errno_of(error: &io::Error) -> Option<i32> {
    let birth = error.get_ref().and_then(|inner| inner.downcast_ref::<BirthError>());
    birth.map_or(error, |birth| &birth.error).raw_os_error()
}

fn pointers<'a>(words: impl Iterator<Item = &'a CStr>) -> Vec<*const c_char> {
    words.map(CStr::as_ptr).chain([null()]).collect()
}

/// Reaps a child that ended before it was anything.
fn wait_for_failed(pid: Pid) {
    let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
}

/// The child's whole life before the program's.
extern "C" fn child(orders: *mut c_void) -> c_int {
    // SAFETY: `clone` passes a live `Orders`; see there.
    let orders = unsafe { &*orders.cast::<Orders<'_>>() };
    // SAFETY: system calls only, on pointers that `orders` keeps alive.
    unsafe {
        // The daemon may die while this goes on; its guard learns of the job only afterwards.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        for (index, step) in orders.steps.iter().enumerate() {
            if carry_out(&step.act, orders.report) < 0 && !step.optional {
                return fail(orders, index);
            }
        }
        if become_program(orders) < 0 {
            return fail(orders, orders.steps.len());
        }
    }
    0
}

/// Tells what failed, for the reason that the last system call left.
fn fail(orders: &Orders<'_>, step: usize) -> c_int {
    // SAFETY: reads this thread's errno, which the one that stands still does not use now.
    let errno = unsafe { *libc::__errno_location() };
    orders.report.step.store(step as i32, Ordering::SeqCst);
    orders.report.errno.store(errno.max(1), Ordering::SeqCst);
    127
}

/// # Safety
///
/// Only system calls are made, on pointers that the step keeps alive.
unsafe fn carry_out(act: &Act, report: &Report) -> c_int {
    let optional = |text: &Option<CString>| text.as_ref().map_or(null(), |text| text.as_ptr());
    // SAFETY: each pointer is to a C string or buffer that lives in the step.
    unsafe {
        match act {
            Act::Write(path, bytes) => write(path, bytes),
            Act::Folder(path) => libc::mkdir(path.as_ptr(), 0o755),
            Act::File(path) => {
                let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CREAT | libc::O_CLOEXEC, 0o644);
                if file < 0 { -1 } else { libc::close(file) }
            }
            Act::Lock(path) => lock(path),
            Act::Mount { source, target, kind, flags, data } => {
                let kind = kind.map_or(null(), CStr::as_ptr);
                libc::mount(source.as_ptr(), target.as_ptr(), kind, *flags, optional(data).cast())
            }
            Act::Limit(resource, most) => {
                let limit = libc::rlimit { rlim_cur: *most, rlim_max: *most };
                libc::prlimit(0, *resource as _, &raw const limit, null_mut())
            }
            Act::Enter(path) => libc::chdir(path.as_ptr()),
            Act::Watch(instance, folder) => watch(*instance, folder, report),
            Act::HandOver => {
                let opened = libc::open(c".".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC);
                report.scratch.store(opened, Ordering::SeqCst);
                opened
            }
            Act::Pivot => {
                let here = c".".as_ptr();
                if libc::syscall(libc::SYS_pivot_root, here, here) < 0 {
                    return -1;
                }
                libc::umount2(here, libc::MNT_DETACH)
            }
        }
    }
}

/// Has the kernel tell which files of a folder are opened, and puts down the watch's number.
///
/// # Safety
///
/// Only system calls are made.
unsafe fn watch(instance: c_int, folder: &CStr, report: &Report) -> c_int {
    let mask = libc::IN_OPEN | libc::IN_ONLYDIR | libc::IN_DONT_FOLLOW;
    // SAFETY: the path is a C string; the descriptor is the daemon's, whose table is still shared.
    let number = unsafe { libc::inotify_add_watch(instance, folder.as_ptr(), mask) };
    let at = report.watched.fetch_add(1, Ordering::SeqCst);
    if let Some(place) = report.watches.get(at) {
        place.store(number, Ordering::SeqCst);
    }
    number
}

/// `struct mount_attr` (mount_setattr(2)).
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Takes the right to write from a mount and all beneath it.
///
/// # Safety
///
/// Only system calls are made.
unsafe fn lock(path: &CStr) -> c_int {
    let set = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    let attributes = MountAttributes { set, clear: 0, propagation: 0, user_namespace: 0 };
    let flags = libc::AT_RECURSIVE;
    // SAFETY: the path is a C string, the structure a live local of the size that is given.
    unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttributes>(),
        ) as c_int
    }
}

/// # Safety
///
/// Only system calls are made.
unsafe fn write(path: &CStr, bytes: &[u8]) -> c_int {
    // SAFETY: the path is a C string, the buffer a slice.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file < 0 {
            return -1;
        }
        let written = libc::write(file, bytes.as_ptr().cast(), bytes.len());
        let errno = *libc::__errno_location();
        libc::close(file);
        *libc::__errno_location() = errno;
        if written == bytes.len() as isize { 0 } else { -1 }
    }
}

/// Lets go of what is the daemon's, and becomes the program. Returns only when that fails, or when
/// there is no program.
///
/// # Safety
///
/// Only system calls are made, on pointers that `orders` keeps alive.
unsafe fn become_program(orders: &Orders<'_>) -> c_int {
    // SAFETY: as above; structures are live locals that hold only numbers.
    unsafe {
        // From here on the table of descriptors is the child's own.
        if libc::unshare(libc::CLONE_FILES) < 0 {
            return -1;
        }
        // Copies above the three first, so that none of them is overwritten before it is used.
        let mut high = [0; 3];
        for (high, low) in high.iter_mut().zip(orders.stdio) {
            *high = libc::fcntl(low, libc::F_DUPFD_CLOEXEC, 3);
            if *high < 0 {
                return -1;
            }
        }
        let Ok(first) = orders.first.map(|first| first.above_all()).transpose() else { return -1 };
        for (number, high) in high.iter().enumerate() {
            if libc::dup2(*high, number as c_int) < 0 {
                return -1;
            }
        }
        if let Some(first) = first
            && libc::dup2(first.answer, init::ANSWER_FD) < 0
        {
            return -1;
        }
        if libc::setsid() < 0 || drop_power() < 0 {
            return -1;
        }
        libc::umask(0o022);
        // Again, because the kernel forgets it when credentials change.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        for signal in 1..=64 {
            // Two that nobody can set, and two that are the C library's.
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, null_mut());
        // What the daemon has open closes itself; this is for what a library of ours may have forgotten.
        let lowest = if first.is_some() { init::ANSWER_FD + 1 } else { 3 };
        libc::syscall(libc::SYS_close_range, lowest, c_int::MAX, libc::CLOSE_RANGE_CLOEXEC);
        if let Some(ruleset) = orders.ruleset
            && libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0) < 0
        {
            return -1;
        }
        let filter = &raw const orders.filter;
        if orders.filter.len > 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, filter, 0, 0) < 0
        {
            return -1;
        }
        let (arguments, environment) = (orders.arguments, orders.environment);
        match first {
            Some(First { program, .. }) => {
                let (path, flags) = (c"".as_ptr(), libc::AT_EMPTY_PATH);
                libc::syscall(libc::SYS_execveat, program, path, arguments, environment, flags) as c_int
            }
            None if orders.program.is_null() => 0,
            None => libc::execve(orders.program, arguments, environment),
        }
    }
}

impl First {
    /// The same with numbers that none of those is in the way of which are set last.
    ///
    /// # Safety
    ///
    /// Only system calls are made.
    unsafe fn above_all(self) -> Result<Self, ()> {
        // SAFETY: only system calls.
        let [program, answer] = [self.program, self.answer]
            .map(|low| unsafe { libc::fcntl(low, libc::F_DUPFD_CLOEXEC, init::ANSWER_FD + 1) });
        if program < 0 || answer < 0 { Err(()) } else { Ok(First { program, answer }) }
    }
}

/// The head of `capset`'s arguments (capabilities(7)).
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: c_int,
}

/// `_LINUX_CAPABILITY_VERSION_3`.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// The highest capability of kernels to come; those that do not exist are refused, which is as well.
const CAPABILITY_LAST: c_int = 63;

/// Gives up all power over its own namespaces, for good.
///
/// # Safety
///
/// Only system calls are made.
unsafe fn drop_power() -> c_int {
    let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let none = [0u32; 6];
    // SAFETY: the structures are live, and of the size that this version has.
    unsafe {
        for capability in 0..=CAPABILITY_LAST {
            if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 {
                break;
            }
        }
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 {
            return -1;
        }
        libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) as c_int
    }
}
