//! How much of this machine jobs take: processor time and memory of processes, and its course.
//!
//! Reads `/proc` and nothing else; parsing is pure. A process counts with its descendants, and with those
//! that it has waited for.

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Pid;

/// Processes of one tree that are looked at: a compile that has more is no compile.
const PROCESSES_MAX: usize = 4096;

/// How often the course is written on.
pub const STEP: Duration = Duration::from_secs(2);

/// Steps that are kept: ten minutes.
const RECENT_MAX: usize = 300;

/// Steps in one of the long course: five minutes.
const STEPS_PER_LONG: usize = 150;

/// Those that are kept: a day.
const LONG_MAX: usize = 288;

/// What processes have taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Processor time so far.
    pub cpu: Duration,
    /// Memory at this moment, in bytes. What several processes share counts for each.
    pub memory: u64,
}

/// What a process and its descendants have taken; nothing of one that is gone.
pub fn of_tree(leader: Pid) -> Used {
    let mut used = Used::default();
    let mut left = vec![leader.as_raw_nonzero().get()];
    let mut seen = 0;
    while let Some(pid) = left.pop() {
        seen += 1;
        if seen > PROCESSES_MAX {
            break;
        }
        let proc = format!("/proc/{pid}");
        let Some(stat) = fs::read_to_string(format!("{proc}/stat")).ok().and_then(|text| parse(&text)) else {
            continue;
        };
        used.cpu += ticks(stat.ticks);
        used.memory += stat.pages * rustix::param::page_size() as u64;
        left.extend(children(Path::new(&proc)));
    }
    used
}

/// The children of all threads of a process; none where the kernel does not tell.
fn children(proc: &Path) -> Vec<i32> {
    let threads = fs::read_dir(proc.join("task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let numbers =
        |list: String| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>();
    lists.flat_map(numbers).collect()
}

fn ticks(number: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_micros(number.saturating_mul(1_000_000) / per_second)
}

#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// Of the process and of children that it has waited for, in user and system mode.
    ticks: u64,
    /// In memory.
    pages: u64,
}

/// Reads `/proc/PID/stat` (proc(5)). The name in it may hold anything, brackets too.
fn parse(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(") ")?;
    // The state is the third field.
    let field = |number: usize| rest.split(' ').nth(number - 3)?.parse::<u64>().ok();
    let times = [14, 15, 16, 17].map(field);
    let ticks = times.into_iter().try_fold(0_u64, |sum, time| Some(sum.saturating_add(time?)))?;
    Some(Stat { ticks, pages: field(24)? })
}

/// The course of the processors' use, in processors: 1 is one that does nothing else.
#[derive(Clone, Debug, Default)]
pub struct Course {
    last: Option<(Instant, Duration)>,
    recent: VecDeque<f64>,
    long: VecDeque<f64>,
    gathering: Vec<f64>,
}

impl Course {
    /// Notes the processor time so far of everything that counts.
    pub fn note(&mut self, now: Instant, cpu: Duration) {
        let Some((then, before)) = self.last.replace((now, cpu)) else { return };
        let passed = now.saturating_duration_since(then).as_secs_f64();
        if passed <= 0.0 {
            return;
        }
        // What a process used that nobody waited for is lost with it: the sum may shrink.
        push(&mut self.recent, RECENT_MAX, cpu.saturating_sub(before).as_secs_f64() / passed);
        self.gathering.extend(self.recent.back());
        if self.gathering.len() >= STEPS_PER_LONG {
            let sum: f64 = self.gathering.drain(..).sum();
            push(&mut self.long, LONG_MAX, sum / STEPS_PER_LONG as f64);
        }
    }

    /// The use in the last step.
    pub fn now(&self) -> f64 {
        self.recent.back().copied().unwrap_or(0.0)
    }

    /// The last ten minutes, oldest first, a figure for each [`STEP`].
    pub fn recent(&self) -> Vec<f64> {
        self.recent.iter().map(|use_| rounded(*use_)).collect()
    }

    /// The last day, oldest first, a figure for each five minutes.
    pub fn long(&self) -> Vec<f64> {
        self.long.iter().map(|use_| rounded(*use_)).collect()
    }
}

fn push(course: &mut VecDeque<f64>, most: usize, figure: f64) {
    if course.len() >= most {
        course.pop_front();
    }
    course.push_back(figure);
}

fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_is_read_whatever_the_name_is() {
        let tail = "S 1 1 1 0 -1 4194560 100 200 0 0 7 5 30 2 20 0 1 0 100 5000000 640 18446744073709551615";
        let stat = Some(Stat { ticks: 44, pages: 640 });
        for name in ["cc1", "a b", ") S 1 (x", ""] {
            assert_eq!(parse(&format!("4711 ({name}) {tail}")), stat, "{name}");
        }
        for nonsense in ["", "1 (a) S 1", "1 (a)", "1 (a) S a b c d e f g h i j k l m n o p q r s t u v w"] {
            assert_eq!(parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn this_process_has_taken_something() {
        let begin = Instant::now();
        let own = rustix::process::getpid();
        // Two ticks at least.
        while of_tree(own).cpu < Duration::from_millis(20) {
            assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", of_tree(own));
        }
        assert!(of_tree(own).memory > 1 << 20);
    }

    #[test]
    fn a_course_is_of_shares_and_is_bounded() {
        let start = Instant::now();
        let mut course = Course::default();
        for step in 0..1000 {
            course.note(start + STEP * step, STEP * step / 2);
        }
        assert!((course.now() - 0.5).abs() < 1e-9);
        assert_eq!((course.recent().len(), course.long().len()), (RECENT_MAX, 999 / STEPS_PER_LONG));
        assert_eq!(course.long()[0], 0.5);
        // A sum that shrinks is no negative share.
        course.note(start + STEP * 1000, Duration::ZERO);
        assert_eq!(course.now(), 0.0);
    }
}
