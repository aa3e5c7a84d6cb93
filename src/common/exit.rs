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
/// The host list could not be read.
pub const BAD_HOST_LIST: i32 = 106;
/// Input or output failed.
pub const IO_FAILED: i32 = 107;
/// The compiler was not found.
pub const NO_COMPILER: i32 = 110;
/// distcc called itself.
pub const RECURSION: i32 = 111;
/// Privileges could not be dropped.
pub const SETUID_FAILED: i32 = 112;
/// No host could be used, and `DISTCC_FALLBACK=0` forbids compiling here.
pub const NO_HOSTS: i32 = 116;

/// The status that a shell shows for a process that `signal` ended.
pub fn of_signal(signal: i32) -> i32 {
    128 + signal
}
