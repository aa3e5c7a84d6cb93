//! How jobs travelled, and why not as files: for `--status`.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Reasons that are told apart; an option's name is part of some.
const REASONS_MAX: usize = 64;

/// Attempts by the form in which they travelled.
#[derive(Debug, Default)]
pub struct Counts(Mutex<Travelled>);

/// The same as values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Travelled {
    /// Sent as files.
    pub files: u64,
    /// Made ready as files that the compiler listed, where the scanner declined.
    pub lists: u64,
    /// Sent as preprocessed text, by reason.
    pub texts: BTreeMap<String, u64>,
}

impl Counts {
    /// An attempt leaves as files.
    pub fn files(&self) {
        self.change(|travelled| travelled.files += 1);
    }

    /// A compiler listed a job's files.
    pub fn list(&self) {
        self.change(|travelled| travelled.lists += 1);
    }

    /// An attempt leaves as a text, for this reason.
    pub fn text(&self, reason: &str) {
        self.change(|travelled| {
            let known = travelled.texts.contains_key(reason) || travelled.texts.len() < REASONS_MAX;
            *travelled.texts.entry(if known { reason } else { "other" }.to_owned()).or_default() += 1;
        });
    }

    /// What there has been so far.
    pub fn get(&self) -> Travelled {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Travelled)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_counted_and_bounded() {
        let counts = Counts::default();
        counts.files();
        (0..100).for_each(|number| counts.text(&format!("option -f{number}")));
        let travelled = counts.get();
        assert_eq!((travelled.files, travelled.texts.len()), (1, REASONS_MAX + 1));
        assert_eq!(travelled.texts["other"], 100 - REASONS_MAX as u64);
    }
}
