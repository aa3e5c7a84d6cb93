//! Whether a compiler that is on its way to a volunteer is worth waiting for.
//!
//! Pure: it is told how far files are and what time it is. One [`Arrival`] is shared by all jobs that wait for the
//! same compiler on one link. Two things pull apart. A job that could go out in a moment should not be compiled
//! here; and a build must not be worse off than without volunteers. So a build waits while the compiler visibly
//! advances and its end is near, in all at most [`ARRIVAL_MAX`] from when it was first wanted, however many jobs
//! there are. Beyond that, free local slots take jobs in turn while the others still wait.

use std::time::Duration;

use super::supply::Look;

/// How much of a build's time may be spent on waiting for a compiler, with local slots idle. clang for two volunteers
/// takes 2 to 5 s on a busy machine of two cores; gcc for C takes 25 on 5 Mbit/s, which is no wait for a build.
pub const ARRIVAL_MAX: Duration = Duration::from_secs(20);

/// What does not advance for so long may never come.
pub const STANDSTILL_MAX: Duration = Duration::from_secs(8);

/// A line is watched for so long before it is believed how fast it is: what the kernel and routers take at once
/// says nothing. Earlier than twice as long ago does not count either.
const WATCH_MIN: Duration = Duration::from_secs(1);
const WATCH_MAX: Duration = Duration::from_secs(4);

/// Looks that come sooner after another say nothing new.
const LOOK_MIN: Duration = Duration::from_millis(200);

/// How far a compiler is, as seen so far. All times are since it was first wanted.
#[derive(Debug)]
pub struct Arrival {
    looked: Duration,
    last: Look,
    advanced: Duration,
    /// How long the line had something to carry, and what it carried in that time, in bytes.
    busy: Duration,
    carried: u64,
}

/// What can be expected of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forecast {
    /// It is worth waiting for.
    Soon,
    /// This machine should rather begin.
    Late,
}

impl Arrival {
    /// It is wanted, and this is how far the line's files are.
    pub fn new(look: Look) -> Self {
        Arrival {
            looked: Duration::ZERO,
            last: look,
            advanced: Duration::ZERO,
            busy: Duration::ZERO,
            carried: 0,
        }
    }

    /// Takes in how far files are `now`, and says what to expect.
    pub fn look(&mut self, now: Duration, look: Look) -> Forecast {
        let span = now.saturating_sub(self.looked);
        if span >= LOOK_MIN {
            self.take(now, span, look);
        }
        let stands = now.saturating_sub(self.advanced) >= STANDSTILL_MAX;
        let end = self.rest().map_or(now, |rest| now.saturating_add(rest));
        if stands || end >= ARRIVAL_MAX { Forecast::Late } else { Forecast::Soon }
    }

    fn take(&mut self, now: Duration, span: Duration, look: Look) {
        if look != self.last {
            self.advanced = now;
        }
        // Only a line that never waits for files to be packed tells how fast it is.
        if self.last.is_line_busy() && look.is_line_busy() {
            self.busy += span;
            self.carried += look.left.saturating_sub(self.last.left);
        }
        if self.busy > WATCH_MAX {
            (self.busy, self.carried) = (self.busy / 2, self.carried / 2);
        }
        (self.looked, self.last) = (now, look);
    }

    /// How long the line needs for what remains; `None` while that is not known.
    pub fn rest(&self) -> Option<Duration> {
        if self.busy < WATCH_MIN {
            return None;
        }
        let rest = self.last.asked.saturating_sub(self.last.left) as f64;
        let seconds = rest * self.busy.as_secs_f64() / self.carried.max(1) as f64;
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;
    const STEP: Duration = Duration::from_millis(500);

    /// How a compiler of so many bytes comes along, in bytes a second; from some time on not at all.
    #[derive(Clone, Copy)]
    struct Way {
        bytes: u64,
        pack: u64,
        line: u64,
        until: Duration,
    }

    const QUIET: Way = Way { bytes: 170 * MB, pack: 300 * MB, line: 300 * MB, until: Duration::MAX };

    impl Way {
        fn look(self, at: Duration) -> Look {
            let at = at.min(self.until).as_secs_f64();
            let part = |rate: u64| ((at * rate as f64) as u64).min(self.bytes);
            let packed = part(self.pack);
            Look { asked: self.bytes, read: packed, packed, left: part(self.line).min(packed) }
        }

        /// When it has arrived, when it is first said to be late, and how often the forecast changes before it arrives.
        fn watch(self) -> (Duration, Option<Duration>, usize) {
            let mut arrival = Arrival::new(Look::default());
            let (mut at, mut late, mut changes, mut before) = (Duration::ZERO, None, 0, Forecast::Soon);
            while self.look(at).left < self.bytes && at < Duration::from_secs(600) {
                at += STEP;
                let forecast = arrival.look(at, self.look(at));
                if forecast == Forecast::Late {
                    late = late.or(Some(at));
                }
                changes += usize::from(forecast != before);
                before = forecast;
            }
            (at, late, changes)
        }
    }

    #[test]
    fn a_compiler_that_takes_twenty_seconds_is_waited_for() {
        for line in [300 * MB, 50 * MB, 20 * MB, 9 * MB] {
            assert_eq!(Way { line, ..QUIET }.watch().1, None, "{line}");
        }
        // It is the packing that takes so long.
        assert_eq!(Way { pack: 9 * MB, ..QUIET }.watch().1, None);
    }

    #[test]
    fn on_a_thin_line_nobody_waits_for_more_than_two_seconds() {
        // 5 Mbit/s, for what is a third of that packed; and what just takes too long.
        for line in [2 * MB, 5 * MB, 6 * MB] {
            let (_, late, changes) = Way { line, ..QUIET }.watch();
            assert!(late.is_some_and(|late| late <= Duration::from_secs(2)), "{line}: {late:?}");
            assert_eq!(changes, 1, "{line}");
        }
    }

    #[test]
    fn what_stands_still_is_given_up_after_eight_seconds() {
        for (line, until) in [(40 * MB, 2), (40 * MB, 0)] {
            let until = Duration::from_secs(until);
            let (_, late, _) = Way { line, until, ..QUIET }.watch();
            let late = late.expect("given up");
            assert!(late >= until && late <= until + STANDSTILL_MAX + STEP, "{late:?}");
        }
    }

    #[test]
    fn no_line_whatever_makes_a_build_wait_longer_than_the_bound() {
        for line in (0..400).map(|step| step * MB / 4) {
            for pack in [MB, 5 * MB, 20 * MB, 300 * MB] {
                for until in [3, 10, 20, 600].map(Duration::from_secs) {
                    let (end, late, _) = Way { bytes: 170 * MB, pack, line, until }.watch();
                    let waited = late.unwrap_or(end);
                    assert!(waited <= ARRIVAL_MAX, "{line} {pack} {until:?}: {waited:?}");
                }
            }
        }
    }

    #[test]
    fn a_line_that_has_become_faster_is_believed() {
        let mut arrival = Arrival::new(Look::default());
        let mut left = 0;
        let mut said = Vec::new();
        for step in 1..=16_u32 {
            left += if step <= 6 { MB } else { 20 * MB };
            let look = Look { asked: 170 * MB, read: 170 * MB, packed: 170 * MB, left: left.min(169 * MB) };
            said.push(arrival.look(STEP * step, look));
        }
        assert_eq!((said[5], said[15]), (Forecast::Late, Forecast::Soon), "{said:?}");
    }
}
