//! What this daemon's own hard limits (setrlimit(2)) leave for its jobs: none can be given more than it has
//! itself.

#![allow(unsafe_code)]

use libc::c_int;
use rustix::process::{Resource, getrlimit};

/// The most that the daemon itself may have of something; `None` for any amount.
pub type Ceiling = fn(Resource) -> Option<u64>;

/// The hard limits of this process.
pub fn own(resource: Resource) -> Option<u64> {
    getrlimit(resource).maximum
}

/// As much as is wanted, or as there can be.
pub fn below(ceiling: Ceiling, resource: Resource, wanted: u64) -> u64 {
    ceiling(resource).map_or(wanted, |most| wanted.min(most))
}

/// One limit, and how much of it compilers need.
struct Need {
    resource: Resource,
    /// Its name for setrlimit(2) and, with `Limit` before it, for systemd.
    name: &'static str,
    /// Its letter for `ulimit`.
    letter: char,
    least: u64,
    unit: &'static str,
}

const fn need(resource: Resource, name: &'static str, letter: char, least: u64, unit: &'static str) -> Need {
    Need { resource, name, letter, least, unit }
}

/// Below these, large sources and toolchains fail here. Processes are counted apart.
const NEEDS: [Need; 6] = [
    need(Resource::Fsize, "FSIZE", 'f', 512 << 20, "bytes"),
    need(Resource::Data, "DATA", 'd', 1 << 30, "bytes"),
    need(Resource::As, "AS", 'v', 2 << 30, "bytes"),
    need(Resource::Stack, "STACK", 's', 8 << 20, "bytes"),
    need(Resource::Cpu, "CPU", 't', 3600, "seconds, after which this daemon itself is ended"),
    need(Resource::Nofile, "NOFILE", 'n', 128, "files"),
];

/// Processes and threads of the daemon's user: its own, those of each job, and of whoever else is that user.
const PROCESSES: u64 = 128;
const PROCESSES_PER_SLOT: u64 = 16;

/// What is so little that jobs suffer from it, with the way out, for people.
pub fn complaints(ceiling: Ceiling, slots: u32) -> Vec<String> {
    let processes = PROCESSES + PROCESSES_PER_SLOT * u64::from(slots);
    let processes = need(Resource::Nproc, "NPROC", 'u', processes, "processes");
    let short = NEEDS.into_iter().chain([processes]).filter_map(|need| {
        let most = ceiling(need.resource).filter(|&most| most < need.least)?;
        let Need { name, letter, least, unit, .. } = need;
        Some(format!(
            "this daemon's hard limit RLIMIT_{name} is {most} {unit}: jobs get no more, and what needs more fails \
             here; {least} are enough. Start it where `ulimit -H{letter}` says more (limits.conf(5)), or with \
             Limit{name}= in its service"
        ))
    });
    short.collect()
}

/// Makes a file that grows beyond a limit an error of its write (`EFBIG`) like any other, rather than the end of
/// the daemon. The signal is handled and not ignored, so that every program that is started has it as it should be.
pub fn survive_large_files() {
    extern "C" fn nothing(_: c_int) {}
    let handler: extern "C" fn(c_int) = nothing;
    // SAFETY: the handler does nothing, which it may do at any moment.
    unsafe {
        libc::signal(libc::SIGXFSZ, handler as libc::sighandler_t);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_job_is_given_more_than_the_daemon_has() {
        let few: Ceiling = |resource| (resource == Resource::Nproc).then_some(400);
        assert_eq!(below(few, Resource::Nproc, 512), 400);
        assert_eq!(below(few, Resource::Nproc, 300), 300);
        assert_eq!(below(few, Resource::Fsize, 512), 512);
    }

    #[test]
    fn a_limit_that_is_too_small_is_named_with_the_way_out() {
        assert_eq!(complaints(|_| None, 64), [""; 0]);
        assert_eq!(complaints(|resource| (resource == Resource::Core).then_some(0), 64), [""; 0]);
        let said = complaints(|resource| (resource == Resource::Nproc).then_some(150), 2);
        assert_eq!(said.len(), 1, "{said:?}");
        for word in ["RLIMIT_NPROC is 150 processes", "160 are enough", "ulimit -Hu", "LimitNPROC="] {
            assert!(said[0].contains(word), "{word}: {said:?}");
        }
        assert_eq!(complaints(|_| Some(1), 2).len(), NEEDS.len() + 1);
    }
}
