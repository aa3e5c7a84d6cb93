//! Lanes: each attempt has one to itself for as long as it lasts, the lowest that is free.

use std::collections::{BTreeMap, BTreeSet};

/// Lanes of every place; `None` is this machine.
#[derive(Debug, Default)]
pub struct Lanes(BTreeMap<Option<u32>, BTreeSet<u32>>);

impl Lanes {
    /// Takes the lowest lane of a place that is free.
    pub fn take(&mut self, place: Option<u32>) -> u32 {
        let taken = self.0.entry(place).or_default();
        // Lanes are taken from the bottom, so the first gap is the answer.
        let lane =
            (0..).zip(taken.iter()).find(|(at, lane)| at != *lane).map_or(taken.len() as u32, |(at, _)| at);
        taken.insert(lane);
        lane
    }

    /// Gives one back.
    pub fn give_back(&mut self, place: Option<u32>, lane: u32) {
        if let Some(taken) = self.0.get_mut(&place) {
            taken.remove(&lane);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_lane_is_taken() {
        let mut lanes = Lanes::default();
        assert_eq!([lanes.take(None), lanes.take(None), lanes.take(None)], [0, 1, 2]);
        assert_eq!(lanes.take(Some(7)), 0);
        lanes.give_back(None, 1);
        assert_eq!([lanes.take(None), lanes.take(None)], [1, 3]);
    }
}
