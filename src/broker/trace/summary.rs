//! What a build's timeline comes to, in words.
//!
//! - *Critical jobs*: going back from the job that ended last, each time to the job that ended last
//!   before this one arrived: it is what a build with more slots would still have waited for.
//! - *Idle slots*: what volunteers granted, less what was used, while the build lasted.
//! - *What held it back*: each moment belongs to one of four: slots were all taken while jobs were ready
//!   for them; jobs waited to be made ready here; compilers ran here only; too few jobs were asked for.
//! - *One more host*: while slots were short, a host like the average of those there would have made the
//!   time shorter as their slots to all slots.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::Timeline;
use super::chrome::end_word;
use crate::broker::history::record::{Mark, Record, What};
use crate::broker::status::render::{age, clip_left};

/// Jobs that are named.
const NAMED: usize = 5;

/// Where the time of a build went, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Ready jobs had no slot.
    pub short_of_slots: u64,
    /// Jobs waited to be made ready, and slots for them were free.
    pub preparing: u64,
    /// Nothing waited, and compilers ran here only.
    pub here_only: u64,
    /// Nothing waited, and slots were free.
    pub too_few_jobs: u64,
}

/// What a build was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// How long it took, in microseconds.
    pub wall: u64,
    /// Jobs by what became of them.
    pub ends: BTreeMap<&'static str, usize>,
    /// The chain of jobs that others waited for, first to last: source and time.
    pub critical: Vec<(String, u64)>,
    /// Slot time that volunteers granted, and that was used.
    pub granted: u64,
    /// See there.
    pub used: u64,
    /// Where the time went.
    pub times: Times,
    /// What one more host would have saved.
    pub one_more: u64,
}

/// Sums a build up.
pub fn summarise(timeline: &Timeline) -> Summary {
    let begin = timeline.records.iter().map(|record| record.life.begin).min().unwrap_or_default();
    let end = timeline.records.iter().map(|record| record.life.end).max().unwrap_or_default();
    let mut ends = BTreeMap::new();
    for record in &timeline.records {
        *ends.entry(end_word(record.end)).or_default() += 1;
    }
    let sweep = sweep(&timeline.records, &timeline.marks, begin, end);
    let hosts = sweep.hosts.max(1);
    let one_more = sweep.times.short_of_slots / (hosts + 1);
    Summary {
        wall: end.saturating_sub(begin),
        ends,
        critical: critical(&timeline.records),
        granted: sweep.granted,
        used: sweep.used,
        times: sweep.times,
        one_more,
    }
}

/// The chain of jobs that others waited for.
fn critical(records: &[Record]) -> Vec<(String, u64)> {
    let mut by_end: Vec<&Record> = records.iter().collect();
    by_end.sort_by_key(|record| (record.life.end, record.job));
    let mut chain = Vec::new();
    let mut rest = by_end.as_slice();
    while let Some((last, _)) = rest.split_last() {
        chain.push((last.source.clone(), last.life.length()));
        let before = rest.partition_point(|record| record.life.end <= last.life.begin);
        rest = &rest[..before];
    }
    chain.reverse();
    chain
}

/// What changes at a moment.
#[derive(Clone, Copy)]
enum Change {
    /// So many more jobs wait to be ready, are ready, run elsewhere, run here.
    Jobs([i64; 4]),
    /// A host grants this many slots.
    Slots(u32, u32),
}

#[derive(Default)]
struct Sweep {
    times: Times,
    granted: u64,
    used: u64,
    /// Hosts that granted slots.
    hosts: u64,
}

fn changes(records: &[Record], marks: &[Mark]) -> Vec<(u64, Change)> {
    let mut changes = Vec::new();
    let mut span = |begin: u64, end: u64, at: usize| {
        let one = |value| std::array::from_fn(|index| if index == at { value } else { 0 });
        if end > begin {
            changes.push((begin, Change::Jobs(one(1))));
            changes.push((end, Change::Jobs(one(-1))));
        }
    };
    for record in records {
        let begun = record.attempts.first().map_or(record.life.end, |attempt| attempt.span.begin);
        let ready = record.prepare.map_or(record.life.begin, |prepare| prepare.end);
        match &record.here {
            Some(here) => span(here.span.begin, here.span.end, 3),
            None if record.attempts.is_empty() => span(record.life.begin, record.life.end, 0),
            None => {
                span(record.life.begin, ready, 0);
                span(ready, begun, 1);
            }
        }
        record.attempts.iter().for_each(|attempt| span(attempt.span.begin, attempt.span.end, 2));
    }
    for mark in marks {
        match mark.what {
            What::Slots { host, slots } => changes.push((mark.at, Change::Slots(host, slots))),
            What::Lost { host, .. } => changes.push((mark.at, Change::Slots(host, 0))),
            _ => {}
        }
    }
    changes.sort_by_key(|(at, _)| *at);
    changes
}

/// Goes through a build moment by moment.
fn sweep(records: &[Record], marks: &[Mark], begin: u64, end: u64) -> Sweep {
    let mut sweep = Sweep::default();
    let (mut jobs, mut slots) = ([0_i64; 4], BTreeMap::new());
    let mut hosts = std::collections::BTreeSet::new();
    let mut last = begin;
    for (at, change) in changes(records, marks) {
        let now = at.clamp(begin, end);
        let granted: u64 = slots.values().map(|slots| u64::from(*slots)).sum();
        sweep.pass(now - last, jobs, granted);
        last = now;
        match change {
            Change::Jobs(more) => jobs.iter_mut().zip(more).for_each(|(jobs, more)| *jobs += more),
            Change::Slots(host, granted) => {
                slots.insert(host, granted);
                if granted > 0 {
                    hosts.insert(host);
                }
            }
        }
    }
    sweep.hosts = hosts.len() as u64;
    sweep
}

impl Sweep {
    fn pass(&mut self, time: u64, [unready, ready, remote, here]: [i64; 4], granted: u64) {
        let used = u64::try_from(remote).unwrap_or_default();
        self.used += used * time;
        self.granted += granted.max(used) * time;
        let times = &mut self.times;
        let part = match (unready > 0, ready > 0) {
            _ if ready > 0 && used >= granted => &mut times.short_of_slots,
            // The volunteers have what they can take, and more is on its way to them.
            (true, _) if used >= granted && granted > 0 => &mut times.short_of_slots,
            (true, _) | (_, true) => &mut times.preparing,
            _ if used == 0 && here > 0 => &mut times.here_only,
            _ => &mut times.too_few_jobs,
        };
        *part += time;
    }
}

impl Summary {
    /// The summary in words.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let time = |us: u64| age(us / 1000);
        let share = |part: u64, whole: u64| part * 100 / whole.max(1);
        let jobs: usize = self.ends.values().sum();
        let ends: Vec<String> = self.ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{jobs} jobs in {}: {}", time(self.wall), ends.join(", "));
        let chain: u64 = self.critical.iter().map(|(_, time)| time).sum();
        let _ = writeln!(
            text,
            "critical jobs: {} one after the other took {}; the longest of them:",
            self.critical.len(),
            time(chain)
        );
        let mut longest: Vec<&(String, u64)> = self.critical.iter().collect();
        longest.sort_by_key(|(_, time)| std::cmp::Reverse(*time));
        for (source, took) in longest.into_iter().take(NAMED) {
            let _ = writeln!(text, "    {:>7} {}", time(*took), clip_left(source, 66));
        }
        let idle = self.granted.saturating_sub(self.used);
        let _ = writeln!(
            text,
            "idle slots: {}% of what volunteers granted ({} of {})",
            share(idle, self.granted),
            time(idle),
            time(self.granted)
        );
        self.render_times(&mut text);
        let _ = writeln!(
            text,
            "one more host like the others would have saved about {} ({}%)",
            time(self.one_more),
            share(self.one_more, self.wall)
        );
        text
    }

    fn render_times(&self, text: &mut String) {
        let times = self.times;
        let mut causes = [
            (times.short_of_slots, "all slots of the volunteers were taken: more hosts or slots"),
            (times.preparing, "jobs waited to be made ready here: this machine's processors"),
            (times.here_only, "compilers ran here only, and nothing else could begin"),
            (
                times.too_few_jobs,
                "fewer jobs were asked for than slots were free: a larger -j, or fewer steps",
            ),
        ];
        causes.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
        text.push_str("what held the build back:\n");
        for (time, cause) in causes.into_iter().filter(|(time, _)| *time > 0) {
            let _ = writeln!(text, "    {:>3}% {cause}", time * 100 / self.wall.max(1));
        }
    }
}
