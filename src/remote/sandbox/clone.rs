//! The system call that makes a job's first process.
//!
//! The child shares the daemon's memory until it becomes a program (`CLONE_VM | CLONE_VFORK`, as `posix_spawn`
//! does it), which costs a fraction of a fork; the thread that makes it stands still meanwhile.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::null_mut;

use libc::{c_int, c_void};
use rustix::process::Pid;

/// What the child does; what it returns is its exit status.
pub type Child = extern "C" fn(*mut c_void) -> c_int;

/// The child's stack until it is a program. It calls nothing that is deep.
const STACK_BYTES: usize = 64 << 10;

/// Makes a child in namespaces of its own (flags of clone(2)), in a control group.
///
/// # Errors
///
/// Returns what the kernel returns.
///
/// # Safety
///
/// The child shares this memory while this thread stands still, so `child` does nothing but system calls, and what it
/// looks at stays where it is until it has become a program or ended.
pub unsafe fn clone(
    child: Child,
    argument: *mut c_void,
    namespaces: c_int,
    group: Option<BorrowedFd<'_>>,
) -> io::Result<Pid> {
    let mut stack = vec![0u8; STACK_BYTES];
    let signals = Signals::block()?;
    let flags = namespaces | libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::SIGCHLD;
    // SAFETY: the stack is ours, writable, and aligned once its top is rounded down. It lives until the
    // child has left this memory, which is what CLONE_VFORK waits for. All signals are blocked, so no
    // handler of ours runs in the child.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(STACK_BYTES);
        let top = top.sub(top as usize % 16);
        match group {
            Some(group) => {
                let stack = (stack.as_mut_ptr(), top);
                clone_into(group.as_raw_fd(), (child, argument), flags, stack)
            }
            None => libc::clone(child, top.cast(), flags, argument),
        }
    };
    let error = io::Error::last_os_error();
    drop(signals);
    drop(stack);
    match (pid > 0).then(|| Pid::from_raw(pid)).flatten() {
        Some(pid) => Ok(pid),
        None => Err(io::Error::new(error.kind(), format!("cannot make namespaces: {error}"))),
    }
}

/// `CLONE_INTO_CGROUP` (clone(2)).
const INTO_GROUP: u64 = 0x2_0000_0000;

/// Whether a child can be born into a control group on this processor.
pub const HAS_GROUPS: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// `clone`, but that the child is born into a control group: moving it there afterwards would make it wait
/// for a whole grace period of the kernel.
///
/// # Safety
///
/// As for `libc::clone`, whose stack is from `bottom` to `top`.
unsafe fn clone_into(
    group: c_int,
    call: (Child, *mut c_void),
    flags: c_int,
    (bottom, top): (*mut u8, *mut u8),
) -> c_int {
    // SAFETY: it holds only numbers.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = (flags & !libc::SIGCHLD) as u64 | INTO_GROUP;
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.stack = bottom as u64;
    arguments.stack_size = (top as usize - bottom as usize) as u64;
    arguments.cgroup = group as u64;
    // SAFETY: the arguments live; the child enters `child` with its own stack, and never leaves it.
    let born = unsafe { clone3(&arguments, call) };
    if born < 0 {
        // SAFETY: this thread's own.
        unsafe { *libc::__errno_location() = (-born) as c_int };
        return -1;
    }
    born as c_int
}

/// The system call, of which the child returns into its function and then ends with what that returned.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3(arguments: &libc::clone_args, (child, argument): (Child, *mut c_void)) -> isize {
    let mut answer = libc::SYS_clone3 as isize;
    // SAFETY: see `clone_into`. The parent goes on behind the label, with all registers as they were but
    // those that a system call changes.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "mov edi, eax",
            "mov eax, 60",
            "syscall",
            "2:",
            inout("rax") answer,
            in("rdi") std::ptr::from_ref(arguments),
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") argument,
            in("r13") child,
            out("rcx") _,
            out("r11") _,
        );
    }
    answer
}

/// The same.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3(arguments: &libc::clone_args, (child, argument): (Child, *mut c_void)) -> isize {
    let mut answer = std::ptr::from_ref(arguments) as isize;
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, #0",
            "mov x0, x20",
            "blr x21",
            "mov x8, #93",
            "svc #0",
            "2:",
            in("x8") libc::SYS_clone3,
            inout("x0") answer,
            in("x1") size_of::<libc::clone_args>(),
            in("x20") argument,
            in("x21") child,
        );
    }
    answer
}

/// There are no control groups then.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
unsafe fn clone3(_: &libc::clone_args, _: (Child, *mut c_void)) -> isize {
    -(libc::ENOSYS as isize)
}

/// All signals of this thread, blocked while this value lives.
struct Signals(libc::sigset_t);

impl Signals {
    fn block() -> io::Result<Self> {
        // SAFETY: both sets are live locals; sigfillset fills what sigmask reads.
        let (status, old) = unsafe {
            let (mut all, mut old): (libc::sigset_t, libc::sigset_t) =
                (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&raw mut all);
            (libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old), old)
        };
        if status == 0 { Ok(Signals(old)) } else { Err(io::Error::from_raw_os_error(status)) }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // SAFETY: the set is what pthread_sigmask filled in.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, null_mut()) };
    }
}
