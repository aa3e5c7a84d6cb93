//! How often one host may be sent a job.

use std::time::Duration;

use super::api::Moment;

/// A token bucket, kept as the one moment at which it would be full again.
#[derive(Clone, Debug)]
pub struct Bucket {
    interval: Duration,
    full_at: Moment,
}

/// No token is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the next token is there at {} us", .until.0)]
pub struct Throttled {
    /// The first moment at which a token will exist.
    pub until: Moment,
}

impl Bucket {
    /// A full bucket; `per_second` of 0 counts as 1.
    pub fn new(per_second: u32) -> Bucket {
        Bucket { interval: Duration::from_secs(1) / per_second.max(1), full_at: Moment(0) }
    }

    /// Says whether a token exists at `now` in a bucket of `burst_max`, without taking it.
    ///
    /// # Errors
    ///
    /// [`Throttled`] with the first moment at which a token will exist, at most one interval away.
    pub fn peek(&self, now: Moment, burst_max: u32) -> Result<(), Throttled> {
        let spare = self.interval * burst_max.max(1).saturating_sub(1);
        let spare = u64::try_from(spare.as_micros()).unwrap_or(u64::MAX);
        let until = Moment(self.full_at.0.saturating_sub(spare));
        if until > now { Err(Throttled { until }) } else { Ok(()) }
    }

    /// Takes one token, which is the right to send one job to this host at `now`.
    ///
    /// Tokens come back at `per_second` and never exceed `burst_max`.
    ///
    /// # Errors
    ///
    /// As [`Bucket::peek`]; the bucket is then unchanged, so asking again is free.
    pub fn take(&mut self, now: Moment, burst_max: u32) -> Result<(), Throttled> {
        self.peek(now, burst_max)?;
        self.full_at = self.full_at.max(now) + self.interval;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_one_per_interval() {
        let mut bucket = Bucket::new(10);
        let start = Moment(5_000_000);
        for _ in 0..3 {
            assert_eq!(bucket.take(start, 3), Ok(()));
        }
        let throttled = bucket.take(start, 3).unwrap_err();
        assert_eq!(throttled.until, Moment(5_100_000));
        assert_eq!(bucket.take(throttled.until, 3), Ok(()));
        assert!(bucket.take(throttled.until, 3).is_err());
    }

    #[test]
    fn a_zero_rate_and_a_zero_burst_still_let_jobs_through() {
        let mut bucket = Bucket::new(0);
        assert_eq!(bucket.take(Moment(0), 0), Ok(()));
        assert_eq!(bucket.take(Moment(0), 0), Err(Throttled { until: Moment(1_000_000) }));
    }
}
