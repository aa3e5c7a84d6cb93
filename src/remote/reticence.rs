//! How much the log says of strangers: a scan of ports or a flood must not fill a disk.
//!
//! Some lines at once, then one now and then; those that are left out are counted, and the count is said. At
//! level debug nothing is left out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::Level;

/// Lines at once.
const BURST_MAX: u32 = 40;

/// One more line each so often.
const REFILL: Duration = Duration::from_secs(3);

/// The lines that may be written.
#[derive(Debug, Default)]
pub struct Reticence(Mutex<Budget>);

/// Pure: told of each line and of the time.
#[derive(Debug)]
struct Budget {
    left: u32,
    /// When the last line came back.
    since: Option<Instant>,
    left_out: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { left: BURST_MAX, since: None, left_out: 0 }
    }
}

impl Budget {
    /// Whether a line may be written now; one that may not is counted.
    fn take(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        let back = now.saturating_duration_since(since).as_micros() / REFILL.as_micros();
        let back = u32::try_from(back).unwrap_or(u32::MAX);
        if back > 0 {
            self.left = self.left.saturating_add(back).min(BURST_MAX);
            self.since = Some(now);
        }
        let may = self.left > 0;
        match may {
            true => self.left -= 1,
            false => self.left_out += 1,
        }
        may
    }
}

impl Reticence {
    /// Writes a line, unless too many have been written lately.
    pub fn say(&self, level: Level, line: &dyn std::fmt::Display) {
        if !self.0.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) {
            tracing::debug!("{line}");
        } else if level == Level::WARN {
            tracing::warn!("{line}");
        } else {
            tracing::info!("{line}");
        }
    }

    /// Says how many lines were left out since this was said last; to be called now and then.
    pub fn tell(&self) {
        let left_out = std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).left_out);
        if left_out > 0 {
            tracing::warn!(
                "{left_out} more lines about strangers were left out (--log-level debug has them)"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_burst_and_then_a_line_now_and_then() {
        let start = Instant::now();
        let mut budget = Budget::default();
        let written = (0..1000).filter(|_| budget.take(start)).count();
        assert_eq!((written, budget.left_out), (BURST_MAX as usize, 1000 - u64::from(BURST_MAX)));
        assert!(!budget.take(start + REFILL / 2));
        assert!(budget.take(start + REFILL) && !budget.take(start + REFILL));
        // After a long quiet there may be a burst again, and no more than that.
        let later = start + REFILL * 10_000;
        assert_eq!((0..1000).filter(|_| budget.take(later)).count(), BURST_MAX as usize);
    }
}
