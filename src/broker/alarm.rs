//! The alarm: most jobs of a build run here, for one reason, and its owner may not know.
//!
//! Process groups do not tell builds apart (ninja gives each job one of its own), so a build is what
//! is not interrupted by quiet.

use std::collections::BTreeMap;
use std::time::Duration;

use super::scheduler::api::Moment;
use crate::common::reason::LocalReason;

/// Nothing is said before so many jobs: a few that stay prove nothing.
const JOBS_MIN: u64 = 20;

/// It is said no more often than this.
const PAUSE: Duration = Duration::from_secs(60);

/// A build that was quiet for this long is over.
const BUILD_OVER: Duration = Duration::from_secs(60);

/// What it counts.
#[derive(Debug, Default)]
pub struct Alarm {
    elsewhere: u64,
    here: BTreeMap<&'static str, u64>,
    last: Moment,
    said: Option<Moment>,
}

impl Alarm {
    /// A job was done elsewhere, or its result was known.
    pub fn elsewhere(&mut self, now: Moment) {
        self.begin_anew_after_quiet(now);
        self.elsewhere += 1;
    }

    /// A job runs here. Returns what is to be said now, if it is time to.
    pub fn here(&mut self, now: Moment, reason: &LocalReason) -> Option<String> {
        if is_as_it_should_be(reason) {
            return None;
        }
        self.begin_anew_after_quiet(now);
        let count = self.here.entry(reason.key()).or_default();
        *count += 1;
        let count = *count;
        let all = self.elsewhere + self.here.values().sum::<u64>();
        let told_lately = self.said.is_some_and(|said| now.since(said) < PAUSE);
        if all < JOBS_MIN || count * 2 <= all || told_lately {
            return None;
        }
        self.said = Some(now);
        Some(format!(
            "Warning: {count} of {all} compiles of this build ran here: {reason} ({})\n\
             hint: distcc --explain COMMAND says why one compile stays; distcc --doctor checks all hosts",
            reason.key()
        ))
    }

    fn begin_anew_after_quiet(&mut self, now: Moment) {
        if now.since(self.last) > BUILD_OVER {
            (self.elsewhere, self.here) = (0, BTreeMap::new());
        }
        self.last = now;
    }
}

/// Links, tests of configure scripts and makefiles, preprocessors, what the hosts list sends here, and what was ready
/// here first because there was room, say nothing of trouble.
fn is_as_it_should_be(reason: &LocalReason) -> bool {
    if let LocalReason::OutputNotAFile { output: path } | LocalReason::SourceNotAFile { source_name: path } =
        reason
    {
        return path[..] == *b"/dev/null";
    }
    matches!(
        reason,
        LocalReason::NotACompile
            | LocalReason::SourceIsStdin
            | LocalReason::PreprocessOnly { .. }
            | LocalReason::Probe { .. }
            | LocalReason::Sooner
            | LocalReason::Straggler
            | LocalReason::LocalhostListed
            | LocalReason::Draining
            | LocalReason::Nested
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment(1_000_000_000 + seconds * 1_000_000)
    }

    fn run_here(alarm: &mut Alarm, now: Moment, count: u32) -> Vec<String> {
        let reason = LocalReason::UnknownOption { option: "-fnew".into() };
        (0..count).filter_map(|_| alarm.here(now, &reason)).collect()
    }

    #[test]
    fn what_makefiles_ask_of_a_compiler_is_no_trouble() {
        let mut alarm = Alarm::default();
        let null = || "/dev/null".into();
        for reason in [
            LocalReason::SourceIsStdin,
            LocalReason::OutputNotAFile { output: null() },
            LocalReason::SourceNotAFile { source_name: null() },
        ] {
            assert!((0..100).all(|_| alarm.here(at(0), &reason).is_none()), "{reason}");
        }
        let reason = LocalReason::OutputNotAFile { output: "/dev/full".into() };
        assert!((0..100).any(|_| alarm.here(at(0), &reason).is_some()));
    }

    #[test]
    fn it_is_said_once_a_minute_that_most_jobs_stay() {
        let mut alarm = Alarm::default();
        let said = run_here(&mut alarm, at(0), 100);
        assert_eq!(said.len(), 1);
        assert!(
            said[0].starts_with(
                "Warning: 20 of 20 compiles of this build ran here: unknown option -fnew (unknown-option)"
            ),
            "{}",
            said[0]
        );
        assert!(said[0].contains("distcc --explain"));
        assert!(run_here(&mut alarm, at(59), 10).is_empty());
        assert_eq!(run_here(&mut alarm, at(61), 10).len(), 1);
    }

    #[test]
    fn a_build_that_is_mostly_elsewhere_is_left_in_peace() {
        let mut alarm = Alarm::default();
        (0..50).for_each(|_| alarm.elsewhere(at(0)));
        assert!(run_here(&mut alarm, at(1), 50).is_empty(), "half is not most");
        assert_eq!(run_here(&mut alarm, at(1), 1).len(), 1);
    }

    #[test]
    fn links_and_what_was_ready_here_first_do_not_count_and_a_new_build_counts_anew() {
        let mut alarm = Alarm::default();
        for reason in [LocalReason::NotACompile, LocalReason::Sooner, LocalReason::Straggler] {
            assert!((0..100).all(|_| alarm.here(at(0), &reason).is_none()), "{reason}");
        }
        assert!(run_here(&mut alarm, at(0), 19).is_empty());
        assert!(run_here(&mut alarm, at(100), 19).is_empty(), "another build");
    }
}
