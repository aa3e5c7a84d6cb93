//! The first process of a box: it starts the compiler, waits for it, and says how it ended.
//!
//! In a pid namespace the first process is special: the kernel lets it ignore every signal that it did not
//! ask for, so a compiler in its place could not be ended by `abort`, and it inherits the orphans of all
//! others, which a compiler does not reap. So the first process is one of ours; the compiler is its child and dies
//! as it would anywhere. When the compiler has ended, the first process ends, and with it the kernel ends
//! whatever else is in the box.
//!
//! It is a program of its own, of some two hundred bytes, made here and kept in memory: a copy of the daemon
//! would have the daemon's memory, its keys with it, where the job is. The file cannot be
//! read, so the kernel does not let the job look into the process either (proc(5), "dumpable").
//!
//! Its arguments are the program's path and the program's arguments; its environment is the program's. On
//! [`ANSWER_FD`] it has an eventfd(2) for its answer, of which the program gets nothing. With an empty
//! path it ends at once, which shows that it runs.

#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;

use rustix::fs::MemfdFlags;

use crate::common::action::Ended;

/// The descriptor of the answer, in the first process.
pub const ANSWER_FD: i32 = 3;

/// The answer: the program ran, with this in its lower half (wait(2)); or it could not be started, with an errno.
const RAN: u64 = 1 << 16;
const FAILED: u64 = 1 << 17;
/// From here on the most memory that one of its processes had, in KiB.
const MEMORY_SHIFT: u32 = 18;

/// `MFD_EXEC`: memory that may be run, said aloud (Linux 6.3).
const EXECUTABLE: MemfdFlags = MemfdFlags::from_bits_retain(0x10);

// The numbers are: fcntl(3, F_SETFD, FD_CLOEXEC); clone(CLONE_VM | CLONE_VFORK | SIGCHLD);
// wait4(-1, status, __WALL, usage), until it is the child; write(3, answer, 8); exit_group(0).
// The child shares this memory until it is the program, and leaves an errno where it is not.
// On the stack: status at 0, usage at 16 (its ru_maxrss at 48), the errno at 248.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .rodata.distcc_init,\"a\",@progbits",
    ".globl distcc_init_begin, distcc_init_end",
    ".hidden distcc_init_begin, distcc_init_end",
    "distcc_init_begin:",
    "mov r12, [rsp]",
    "lea r13, [rsp + 8]",
    "lea r14, [r13 + r12*8 + 8]",
    "sub rsp, 256",
    "mov qword ptr [rsp + 248], 0",
    "mov rax, [r13]",
    "cmp byte ptr [rax], 0",
    "je 5f",
    "mov eax, 72",
    "mov edi, 3",
    "mov esi, 2",
    "mov edx, 1",
    "syscall",
    "mov eax, 56",
    "mov edi, 0x4111",
    "xor esi, esi",
    "xor edx, edx",
    "xor r10d, r10d",
    "xor r8d, r8d",
    "syscall",
    "test rax, rax",
    "jz 6f",
    "js 3f",
    "mov r15, rax",
    "2:",
    "mov eax, 61",
    "mov rdi, -1",
    "mov rsi, rsp",
    "mov edx, 0x40000000",
    "lea r10, [rsp + 16]",
    "syscall",
    "cmp rax, -4",
    "je 2b",
    "test rax, rax",
    "js 3f",
    "cmp rax, r15",
    "jne 2b",
    "mov rax, [rsp + 248]",
    "test rax, rax",
    "jnz 3f",
    "mov eax, [rsp]",
    "and eax, 0xffff",
    "mov rcx, [rsp + 48]",
    "shl rcx, 18",
    "or rax, rcx",
    "or rax, 0x10000",
    "jmp 4f",
    "3:",
    "neg rax",
    "and eax, 0xffff",
    "or rax, 0x20000",
    "4:",
    "mov [rsp], rax",
    "mov eax, 1",
    "mov edi, 3",
    "mov rsi, rsp",
    "mov edx, 8",
    "syscall",
    "5:",
    "mov eax, 231",
    "xor edi, edi",
    "syscall",
    "6:",
    "mov eax, 59",
    "mov rdi, [r13]",
    "lea rsi, [r13 + 8]",
    "mov rdx, r14",
    "syscall",
    "mov [rsp + 248], rax",
    "jmp 5b",
    "distcc_init_end:",
    ".popsection",
);

#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".pushsection .rodata.distcc_init,\"a\",@progbits",
    ".globl distcc_init_begin, distcc_init_end",
    ".hidden distcc_init_begin, distcc_init_end",
    "distcc_init_begin:",
    "ldr x19, [sp]",
    "add x20, sp, #8",
    "add x21, x20, x19, lsl #3",
    "add x21, x21, #8",
    "sub sp, sp, #256",
    "str xzr, [sp, #248]",
    "ldr x0, [x20]",
    "ldrb w0, [x0]",
    "cbz w0, 5f",
    "mov x8, #25",
    "mov x0, #3",
    "mov x1, #2",
    "mov x2, #1",
    "svc #0",
    "mov x8, #220",
    "mov x0, #0x4111",
    "mov x1, #0",
    "mov x2, #0",
    "mov x3, #0",
    "mov x4, #0",
    "svc #0",
    "cbz x0, 6f",
    "tbnz x0, #63, 3f",
    "mov x22, x0",
    "2:",
    "mov x8, #260",
    "mov x0, #-1",
    "mov x1, sp",
    "mov x2, #0x40000000",
    "add x3, sp, #16",
    "svc #0",
    "cmn x0, #4",
    "b.eq 2b",
    "tbnz x0, #63, 3f",
    "cmp x0, x22",
    "b.ne 2b",
    "ldr x0, [sp, #248]",
    "cbnz x0, 3f",
    "ldrh w0, [sp]",
    "ldr x1, [sp, #48]",
    "orr x0, x0, x1, lsl #18",
    "orr x0, x0, #0x10000",
    "b 4f",
    "3:",
    "neg x0, x0",
    "and x0, x0, #0xffff",
    "orr x0, x0, #0x20000",
    "4:",
    "str x0, [sp]",
    "mov x8, #64",
    "mov x0, #3",
    "mov x1, sp",
    "mov x2, #8",
    "svc #0",
    "5:",
    "mov x8, #94",
    "mov x0, #0",
    "svc #0",
    "6:",
    "mov x8, #221",
    "ldr x0, [x20]",
    "add x1, x20, #8",
    "mov x2, x21",
    "svc #0",
    "str x0, [sp, #248]",
    "b 5b",
    "distcc_init_end:",
    ".popsection",
);

/// The code of the first process; nothing for processors for which none is written.
fn code() -> &'static [u8] {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    {
        unsafe extern "C" {
            static distcc_init_begin: u8;
            static distcc_init_end: u8;
        }
        let (begin, end) = (&raw const distcc_init_begin, &raw const distcc_init_end);
        // SAFETY: both are labels of one stretch of constants above, in this order.
        unsafe { std::slice::from_raw_parts(begin, end as usize - begin as usize) }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    &[]
}

/// Where the program lies in its own memory.
const BASE: u64 = 0x40_0000;
/// The sizes of the header of a program and of one entry of its list of segments (elf(5)).
const HEADER_BYTES: u64 = 64;
const SEGMENT_BYTES: u64 = 56;
/// The number of the processor in such a header.
const MACHINE: u16 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };

/// A program of this code: one segment that is read and run, and a stack that is not run.
fn program(code: &[u8]) -> Vec<u8> {
    let start = HEADER_BYTES + 2 * SEGMENT_BYTES;
    let size = start + code.len() as u64;
    let mut bytes = Vec::with_capacity(size as usize);
    // 64 bits, little end first, System V.
    bytes.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    for half in [2, MACHINE, 1, 0] {
        bytes.extend(u16::to_le_bytes(half));
    }
    // Entry, segments, sections; flags and sizes. (The halves of the version are above.)
    for long in [BASE + start, HEADER_BYTES, 0] {
        bytes.extend(u64::to_le_bytes(long));
    }
    bytes.extend(u32::to_le_bytes(0));
    for half in [HEADER_BYTES as u16, SEGMENT_BYTES as u16, 2, 64, 0, 0] {
        bytes.extend(u16::to_le_bytes(half));
    }
    let (load, read_and_run) = (1, 5);
    let (stack, read_and_write) = (0x6474_e551, 6);
    for (kind, flags, address, size) in [(load, read_and_run, BASE, size), (stack, read_and_write, 0, 0)] {
        bytes.extend(u32::to_le_bytes(kind));
        bytes.extend(u32::to_le_bytes(flags));
        for long in [0, address, address, size, size, 0x1_0000] {
            bytes.extend(u64::to_le_bytes(long));
        }
    }
    bytes.extend(code);
    bytes
}

/// The first process's program, open to be run; `None` where there is none for this processor, or where this
/// machine runs nothing that is only in memory.
pub fn open() -> Option<OwnedFd> {
    if code().is_empty() {
        return None;
    }
    let flags = MemfdFlags::CLOEXEC;
    let make = |flags| rustix::fs::memfd_create("distcc-job", flags);
    let file = make(flags | EXECUTABLE).or_else(|_| make(flags)).ok()?;
    let mut file = File::from(file);
    file.write_all(&program(code())).ok()?;
    // To be run by anybody, to be read by nobody.
    file.set_permissions(std::fs::Permissions::from_mode(0o111)).ok()?;
    Some(file.into())
}

/// What the first process says of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It ran.
    Ran {
        /// How it ended.
        ended: Ended,
        /// The most memory that one of its processes had, in bytes.
        memory: u64,
    },
    /// It could not be started.
    Failed {
        /// Why: an errno.
        errno: i32,
    },
}

/// A place for an answer.
///
/// # Errors
///
/// Returns what the system returns.
pub fn ask() -> io::Result<OwnedFd> {
    use rustix::event::{EventfdFlags, eventfd};
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// The answer, once the first process has ended; `None` when it was ended before it could say anything.
pub fn answer(place: impl AsFd) -> Option<Answer> {
    let mut bytes = [0; 8];
    let read = rustix::io::read(place, &mut bytes).ok()?;
    (read == bytes.len()).then(|| decode(u64::from_ne_bytes(bytes))).flatten()
}

fn decode(word: u64) -> Option<Answer> {
    let low = i32::from(word as u16);
    if word & FAILED != 0 {
        return Some(Answer::Failed { errno: low });
    }
    let ended = match libc::WIFSIGNALED(low) {
        true => Ended::Killed(libc::WTERMSIG(low)),
        false => Ended::Exited(libc::WEXITSTATUS(low)),
    };
    (word & RAN != 0).then_some(Answer::Ran { ended, memory: (word >> MEMORY_SHIFT) << 10 })
}
