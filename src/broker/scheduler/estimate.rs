//! How long a compile will take, learned from those that were.
//!
//! A task has a normal duration: what it takes on a host of slowness 1. A host has a slowness: how
//! many times longer it takes than normal. Both are learned from the same numbers, as exponential
//! averages of logarithms, so that one huge file moves nothing far. Since only the product of both is ever
//! seen, a host's slowness is pulled a little towards 1 with every sample.

use std::collections::BTreeMap;
use std::time::Duration;

use super::api::TaskKey;

/// What is assumed before anything was seen: the order of magnitude of a C file.
const TYPICAL_SECONDS: f64 = 1.0;
/// What a task of which nothing is known may well take while little was seen of any.
const UNKNOWN_SECONDS: f64 = 20.0;
/// After so many samples the spread of all tasks says something.
const SAMPLES_ENOUGH: u32 = 10;
/// The weight of the newest sample of a task.
const TASK_WEIGHT: f64 = 0.3;
/// The weight of the newest sample among all tasks.
const ALL_WEIGHT: f64 = 0.02;
/// How much of its distance to 1 a slowness loses with each sample.
const PULL: f64 = 0.005;
/// How far apart machines are before anything is known of them, as a variance of logarithms.
const UNSURE: f64 = 0.5;
/// How much a machine changes from one sample to the next, in the same measure.
const DRIFT: f64 = 0.005;
/// How much a task that was seen before scatters, in the same measure.
const KNOWN_NOISE: f64 = 0.05;
/// Hosts whose slowness differs by less count as alike, so that the user's order decides.
const ALIKE: f64 = 1.25;
/// The same where little was seen of one of them: the load of a moment doubles a short compile.
const UNSURE_ALIKE: f64 = 2.0;

/// What is expected of one task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expectation {
    /// Seconds on a host of slowness 1.
    pub likely: f64,
    /// Seconds that would still be no surprise.
    pub at_most: f64,
    /// Whether this very task was seen before.
    pub known: bool,
    /// How much the duration scatters: a variance of logarithms.
    pub noise: f64,
}

/// How many times longer than normal a place takes: a Kalman filter of one logarithm.
///
/// A place begins as a usual one, of which we are not sure; a sample moves it the more, the less sure we
/// are and the less such samples scatter.
#[derive(Clone, Debug)]
pub struct Speed {
    ln: f64,
    variance: f64,
    rank: f64,
}

impl Default for Speed {
    fn default() -> Speed {
        Speed { ln: 0.0, variance: UNSURE, rank: 1.0 }
    }
}

impl Speed {
    /// A compile took `ratio` times what was expected; such ratios scatter by `noise` (a variance of logarithms).
    pub fn learn(&mut self, ratio: f64, noise: f64) {
        let sample = ratio.clamp(0.01, 100.0).ln();
        let gain = self.variance / (self.variance + noise);
        self.ln = (self.ln + gain * (sample - self.ln)) * (1.0 - PULL);
        self.variance = (1.0 - gain) * self.variance + DRIFT;
        self.rank = ALIKE.powf((self.ln / ALIKE.ln()).round());
    }

    /// A compile has taken `ratio` times what was expected and is not done: no better than that.
    pub fn learn_overdue(&mut self, ratio: f64, noise: f64) {
        if ratio > self.slowness() {
            let unsure = self.variance;
            self.learn(ratio, noise);
            self.variance = unsure;
        }
    }

    /// The slowness: 2 takes twice as long as normal.
    pub fn slowness(&self) -> f64 {
        self.ln.exp()
    }

    /// The slowness on a coarse scale, for choosing: alike hosts compare equal.
    pub fn rank(&self) -> f64 {
        self.rank
    }

    /// The rank for choosing among hosts. A few samples do not make a host slower than one of which
    /// nothing is known: the user's order has its reasons.
    pub fn rank_to_choose(&self) -> f64 {
        let doubtful = self.unsure() && (1.0..UNSURE_ALIKE).contains(&self.rank);
        if doubtful { 1.0 } else { self.rank }
    }

    /// The rank, or where little is known of the place that of `others`, if theirs is worse: a client
    /// that is busy makes every host look slow, and itself is no faster.
    pub fn rank_among(&self, others: f64) -> f64 {
        if self.unsure() { self.rank.max(others) } else { self.rank }
    }

    /// Whether little is known of it.
    pub fn unsure(&self) -> bool {
        self.variance > UNSURE / 3.0
    }
}

#[derive(Clone, Copy, Debug)]
struct Task {
    ln: f64,
    samples: u32,
    used: u64,
}

/// The mean and spread of all tasks, in logarithms.
#[derive(Clone, Copy, Debug, Default)]
struct Spread {
    ln: f64,
    deviation: f64,
    samples: u32,
}

impl Spread {
    fn learn(&mut self, ln: f64) {
        self.samples = self.samples.saturating_add(1);
        let weight = f64::max(ALL_WEIGHT, 1.0 / f64::from(self.samples));
        let distance = ln - self.ln;
        self.ln += weight * distance;
        if self.samples > 1 {
            self.deviation += weight * (distance.abs() - self.deviation);
        }
    }
}

/// Everything that was learned about durations, apart from the hosts' own slowness.
#[derive(Clone, Debug)]
pub struct Estimates {
    tasks: BTreeMap<TaskKey, Task>,
    /// The tasks by when they were last learned, oldest first.
    by_age: BTreeMap<u64, TaskKey>,
    clock: u64,
    tasks_max: usize,
    all: Spread,
    /// This machine's slowness.
    pub local: Speed,
}

impl Estimates {
    /// Remembers at most `tasks_max` tasks; the one learned longest ago goes first.
    pub fn new(tasks_max: usize) -> Estimates {
        Estimates {
            tasks: BTreeMap::new(),
            by_age: BTreeMap::new(),
            clock: 0,
            tasks_max: tasks_max.max(1),
            all: Spread::default(),
            local: Speed::default(),
        }
    }

    /// What to expect of `task`.
    pub fn expect(&self, task: TaskKey) -> Expectation {
        if let Some(seen) = self.tasks.get(&task) {
            let likely = seen.ln.exp();
            return Expectation { likely, at_most: likely, known: true, noise: KNOWN_NOISE };
        }
        let likely = self.typical();
        let few = self.all.samples < SAMPLES_ENOUGH;
        let deviation = if few { self.all.deviation.max(1.0) } else { self.all.deviation };
        let wide = (self.all.ln + 3.0 * deviation).exp();
        let at_most = if few { wide.max(UNKNOWN_SECONDS) } else { wide };
        let noise = KNOWN_NOISE + deviation * deviation;
        Expectation { likely, at_most, known: false, noise }
    }

    /// The normal duration of a task like those of late, in seconds.
    pub fn typical(&self) -> f64 {
        if self.all.samples == 0 { TYPICAL_SECONDS } else { self.all.ln.exp() }
    }

    /// A compile of `task` took `took` at a place of this slowness, which learns from it too.
    pub fn learn(&mut self, task: TaskKey, took: Duration, place: &mut Speed) {
        let seconds = took.as_secs_f64().max(0.001);
        if self.all.samples > 0 {
            let expected = self.expect(task);
            place.learn(seconds / expected.likely, expected.noise);
        }
        self.learn_task(task, (seconds / place.slowness()).ln());
    }

    /// As [`Estimates::learn`], of this machine.
    pub fn learn_local(&mut self, task: TaskKey, took: Duration) {
        let mut place = std::mem::take(&mut self.local);
        self.learn(task, took, &mut place);
        self.local = place;
    }

    fn learn_task(&mut self, task: TaskKey, ln: f64) {
        self.all.learn(ln);
        self.clock += 1;
        let entry = self.tasks.entry(task).or_insert(Task { ln, samples: 0, used: 0 });
        let weight = f64::max(TASK_WEIGHT, 1.0 / f64::from(entry.samples + 1));
        entry.ln += weight * (ln - entry.ln);
        entry.samples = entry.samples.saturating_add(1).min(1000);
        self.by_age.remove(&entry.used);
        entry.used = self.clock;
        self.by_age.insert(self.clock, task);
        if self.tasks.len() > self.tasks_max
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.tasks.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 0.15, "{found} is not near {expected}");
    }

    #[test]
    fn a_task_is_expected_to_take_what_it_took() {
        let mut estimates = Estimates::new(10);
        let mut host = Speed::default();
        for _ in 0..5 {
            estimates.learn(TaskKey(1), Duration::from_secs(4), &mut host);
        }
        let expected = estimates.expect(TaskKey(1));
        assert!(expected.known);
        near(expected.likely, 4.0);
        assert!(!estimates.expect(TaskKey(2)).known);
    }

    #[test]
    fn a_host_that_takes_ten_times_longer_is_found_out_on_unknown_tasks() {
        let mut estimates = Estimates::new(1000);
        let (mut fast, mut slow) = (Speed::default(), Speed::default());
        for task in 0..100 {
            estimates.learn(TaskKey(task), Duration::from_secs(1), &mut fast);
            if task % 10 == 9 {
                estimates.learn(TaskKey(1000 + task), Duration::from_secs(10), &mut slow);
            }
        }
        let ratio = slow.slowness() / fast.slowness();
        assert!(ratio > 4.0, "{ratio}");
    }

    #[test]
    fn a_sample_or_two_do_not_put_a_host_behind_one_that_was_not_tried() {
        let mut speed = Speed::default();
        speed.learn(2.0, 1.0);
        assert!(speed.unsure() && speed.rank() > 1.0);
        assert_eq!(speed.rank_to_choose(), Speed::default().rank_to_choose());
        for _ in 0..20 {
            speed.learn(2.0, 1.0);
        }
        assert!(speed.rank_to_choose() > 1.0);
        let mut slow = Speed::default();
        slow.learn(30.0, 1.0);
        assert!(slow.rank_to_choose() > 1.0, "what is far slower shows at once");
    }

    #[test]
    fn hosts_that_differ_by_a_tenth_rank_alike() {
        let mut speed = Speed::default();
        for _ in 0..50 {
            speed.learn(1.1, KNOWN_NOISE);
        }
        assert_eq!(speed.rank(), 1.0);
    }

    #[test]
    fn the_table_of_tasks_is_bounded_and_forgets_the_oldest() {
        let mut estimates = Estimates::new(3);
        for task in [1, 2, 3, 1, 4] {
            estimates.learn_local(TaskKey(task), Duration::from_secs(1));
        }
        let known: Vec<bool> = (1..=4).map(|task| estimates.expect(TaskKey(task)).known).collect();
        assert_eq!(known, [true, false, true, true]);
        assert_eq!((estimates.tasks.len(), estimates.by_age.len()), (3, 3));
    }

    #[test]
    fn nothing_known_still_allows_for_a_long_compile() {
        let expected = Estimates::new(3).expect(TaskKey(1));
        assert!(expected.at_most >= UNKNOWN_SECONDS && !expected.known);
    }
}
