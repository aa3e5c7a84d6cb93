//! What happened lately, from one look at the broker to the next.
//!
//! The broker tells counts since its start. Two looks make rates of them, so that a live view costs it
//! nothing but the looks themselves. Pure: time comes in as a value.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::broker::status::Report;

/// Looks that are remembered: as many as the widest terminal has columns for.
const KEPT_MAX: usize = 512;

/// Reasons that are followed. There are fewer; a broker of another build may have others.
const REASONS_MAX: usize = 128;

/// A row of values, the latest last.
pub type Row = VecDeque<u64>;

/// The latest looks, as rows of one value for each.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Jobs that ended somewhere, in hundredths for each second.
    pub done: Row,
    /// Jobs that waited for a slot, here or elsewhere.
    pub queue: Row,
    /// Jobs that ran here, by reason, in hundredths for each second.
    pub reasons: BTreeMap<String, Row>,
    /// How many looks there were that could be compared with one before.
    looks: usize,
    last: Option<Counts>,
}

/// What of a report is compared with the next.
#[derive(Clone, Debug)]
struct Counts {
    broker: u32,
    done: u64,
    reasons: BTreeMap<String, u64>,
}

impl Series {
    /// Takes a report that was made so long after the one before.
    pub fn add(&mut self, report: &Report, after: Duration) {
        let totals = &report.totals;
        let counts = Counts {
            broker: report.pid,
            done: totals.remote + totals.cached + totals.local,
            reasons: totals.local_reasons.clone(),
        };
        push(&mut self.queue, report.jobs.iter().filter(|job| job.host.is_empty()).count() as u64);
        let before = self.last.replace(counts.clone());
        // Another broker counts from the beginning.
        let Some(before) = before.filter(|before| before.broker == counts.broker) else { return };
        self.looks = (self.looks + 1).min(KEPT_MAX);
        push(&mut self.done, rate(before.done, counts.done, after));
        for (reason, count) in counts.reasons {
            let earlier = before.reasons.get(&reason).copied().unwrap_or(0);
            let row = match self.reasons.contains_key(&reason) || self.reasons.len() < REASONS_MAX {
                true => self.reasons.entry(reason).or_insert_with(|| vec![0; self.looks - 1].into()),
                false => continue,
            };
            push(row, rate(earlier, count, after));
        }
        for row in self.reasons.values_mut().filter(|row| row.len() < self.looks) {
            push(row, 0);
        }
    }
}

fn push(row: &mut Row, value: u64) {
    if row.len() >= KEPT_MAX {
        row.pop_front();
    }
    row.push_back(value);
}

/// Hundredths for each second.
fn rate(before: u64, now: u64, after: Duration) -> u64 {
    let hundredths = now.saturating_sub(before).saturating_mul(100) as f64 / after.as_secs_f64().max(0.01);
    hundredths.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(pid: u32, remote: u64, reasons: &[(&str, u64)]) -> Report {
        let mut report = Report { pid, ..Report::default() };
        report.totals.remote = remote;
        report.totals.local = reasons.iter().map(|(_, count)| count).sum();
        report.totals.local_reasons =
            reasons.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
        report
    }

    #[test]
    fn two_looks_make_a_rate() {
        let mut series = Series::default();
        let second = Duration::from_secs(1);
        series.add(&report(1, 10, &[]), second);
        assert_eq!(series.done, Row::new(), "there is nothing to compare with");
        series.add(&report(1, 14, &[("option", 2)]), second * 2);
        series.add(&report(1, 14, &[("option", 2), ("clock", 1)]), second / 2);
        assert_eq!(series.done, [300, 200]);
        assert_eq!(series.reasons["option"], [100, 0]);
        assert_eq!(series.reasons["clock"], [0, 200], "rows are of one length");
    }

    #[test]
    fn the_next_broker_counts_from_the_beginning() {
        let mut series = Series::default();
        let second = Duration::from_secs(1);
        series.add(&report(1, 1000, &[("option", 5)]), second);
        series.add(&report(2, 3, &[("option", 1)]), second);
        assert_eq!(series.done, Row::new());
        series.add(&report(2, 4, &[("option", 1)]), second);
        assert_eq!((&series.done, &series.reasons["option"]), (&[100].into(), &[0].into()));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut series = Series::default();
        for look in 0..2 * KEPT_MAX as u64 {
            series.add(&report(1, look, &[(&format!("reason {look}"), 1)]), Duration::from_secs(1));
        }
        assert_eq!((series.done.len(), series.queue.len()), (KEPT_MAX, KEPT_MAX));
        assert_eq!(series.reasons.len(), REASONS_MAX);
        assert!(series.reasons.values().all(|row| row.len() == KEPT_MAX));
    }
}
