//! Exit statuses of our own programs, as distcc's manual numbers them.
//!
//! A compile ends with the compiler's own status; these are for what goes wrong around it.

/// A general failure.
pub const FAILED: i32 = 100;
/// Arguments that make no sense.
pub const BAD_ARGUMENTS: i32 = 101;
/// The port could not be bound.
pub const BIND_FAILED: i32 = 102;
/// The other side could not be reached.
pub const CONNECT_FAILED: i32 = 103;
/// A compiler crashed.
pub const COMPILER_CRASHED: i32 = 104;
/// Memory ran out.
pub const NO_MEMORY: i32 = 105;
/// The host list could not be read.
pub const BAD_HOST_LIST: i32 = 106;
/// Input or output failed.
pub const IO_FAILED: i32 = 107;
/// The other side stopped in the middle of something.
pub const TRUNCATED: i32 = 108;
/// The other side spoke nonsense.
pub const PROTOCOL: i32 = 109;
/// The compiler was not found.
pub const NO_COMPILER: i32 = 110;
/// distcc called itself.
pub const RECURSION: i32 = 111;
/// Privileges could not be dropped.
pub const SETUID_FAILED: i32 = 112;
/// The other side may not do this.
pub const ACCESS_DENIED: i32 = 113;
/// There is too much to do.
pub const BUSY: i32 = 114;
/// A file is not there.
pub const NO_FILE: i32 = 115;
/// No host could be used, and `DISTCC_FALLBACK=0` forbids compiling here.
pub const NO_HOSTS: i32 = 116;
/// What was there is gone.
pub const GONE: i32 = 117;
/// Something took too long.
pub const TIMEOUT: i32 = 118;
/// The last status of this range; distcc 3.4 uses it within itself.
pub const LAST: i32 = 120;

/// The status that a shell shows for a process that `signal` ended.
pub fn of_signal(signal: i32) -> i32 {
    128 + signal
}
