//! What the client's own CPU spends: the broker with its children, and the shims.
//!
//! The broker's time is asked of the kernel when somebody looks. Of shims one in sixteen is looked
//! at, just before it is answered; that tells what all of them take.

use std::time::Duration;

/// One shim in so many is looked at.
const SAMPLE_EVERY: u64 = 16;

/// No shim has ever taken so much; a process of another namespace may have its number.
const SHIM_MAX: Duration = Duration::from_millis(50);

/// What a shim is taken to need before one was looked at, from `benches/results`.
const SHIM_DEFAULT: Duration = Duration::from_micros(600);

/// What shims take.
#[derive(Debug, Default)]
pub struct Effort {
    shims: u64,
    looked_at: u64,
    taken: Duration,
}

impl Effort {
    /// A shim is about to be answered.
    pub fn shim(&mut self, pid: u32) {
        self.shims += 1;
        if self.shims % SAMPLE_EVERY == 1
            && let Some(taken) = cpu_of(pid).filter(|taken| *taken < SHIM_MAX)
        {
            self.looked_at += 1;
            self.taken += taken;
        }
    }

    /// The CPU time that this client has spent so far, in microseconds: broker, preprocessors, shims.
    pub fn client_cpu(&self) -> u64 {
        let each = match u32::try_from(self.looked_at) {
            Ok(looked_at @ 1..) => self.taken / looked_at,
            _ => SHIM_DEFAULT,
        };
        let shims = u64::try_from(each.as_micros()).unwrap_or(u64::MAX).saturating_mul(self.shims);
        own_cpu().saturating_add(shims)
    }
}

/// The time that a process has been on a CPU (`/proc/PID/schedstat`, in nanoseconds).
fn cpu_of(pid: u32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// CPU time of this process and of its children that have ended, in microseconds.
#[allow(unsafe_code, reason = "getrusage(2) has no safe wrapper here")]
fn own_cpu() -> u64 {
    [libc::RUSAGE_SELF, libc::RUSAGE_CHILDREN]
        .into_iter()
        .map(|who| {
            let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
            // SAFETY: the pointer is to a whole rusage, which the kernel fills; all zeros are one, too.
            let usage = unsafe {
                libc::getrusage(who, usage.as_mut_ptr());
                usage.assume_init()
            };
            let us =
                |time: libc::timeval| time.tv_sec.unsigned_abs() * 1_000_000 + time.tv_usec.unsigned_abs();
            us(usage.ru_utime) + us(usage.ru_stime)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_was_spent_is_seen() {
        let before = own_cpu();
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_millis(30) {
            std::hint::black_box(start);
        }
        assert!(own_cpu() > before);
        assert!(cpu_of(std::process::id()).is_some_and(|time| !time.is_zero()));
    }

    #[test]
    fn every_shim_is_counted_and_few_are_looked_at() {
        let mut effort = Effort::default();
        (0..100).for_each(|_| effort.shim(0));
        assert_eq!((effort.shims, effort.looked_at), (100, 0), "process 0 has no figures");
        assert!(effort.client_cpu() >= 100 * 600);
    }
}
