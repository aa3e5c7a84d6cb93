//! Queues in which builds take turns: a `make -j4` is not starved by a `make -j500` beside it.

use std::collections::BTreeMap;

use super::api::{BuildId, JobId, LocalSlots};

/// What builds take turns at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Preparing.
    Prepare,
    /// Being sent.
    Send,
    /// Running here.
    Local,
}

/// One build with unfinished jobs.
#[derive(Clone, Debug, Default)]
struct Build {
    live: usize,
    /// When it was last served, by [`Turn`]; 0 is never, which goes first.
    served: [u64; 3],
}

/// Who was served when. The build that was served longest ago is next.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    builds: BTreeMap<BuildId, Build>,
    clock: u64,
}

impl Turns {
    /// One more unfinished job of `build`.
    pub fn join(&mut self, build: BuildId) {
        self.builds.entry(build).or_default().live += 1;
    }

    /// One fewer; the last one takes the build along, so that the table stays small.
    pub fn leave(&mut self, build: BuildId) {
        if let Some(entry) = self.builds.get_mut(&build) {
            entry.live = entry.live.saturating_sub(1);
            if entry.live == 0 {
                self.builds.remove(&build);
            }
        }
    }

    /// It was this build's turn.
    pub fn serve(&mut self, build: BuildId, turn: Turn) {
        self.clock += 1;
        if let Some(entry) = self.builds.get_mut(&build) {
            entry.served[turn as usize] = self.clock;
        }
    }

    /// When `build` was last served; smaller goes first.
    pub fn served(&self, build: BuildId, turn: Turn) -> u64 {
        self.builds.get(&build).map_or(0, |entry| entry.served[turn as usize])
    }
}

/// A job in a queue, with what decides whether it may leave it.
#[derive(Clone, Copy, Debug)]
pub struct Waiter {
    /// Which.
    pub job: JobId,
    /// Whose.
    pub build: BuildId,
    /// Its place: the order of arrival, kept when it is queued again.
    pub serial: u64,
    /// Its own limits here.
    pub local: LocalSlots,
}

/// First come, first served within a build; builds in turn.
#[derive(Clone, Debug, Default)]
pub struct FairQueue {
    builds: BTreeMap<BuildId, BTreeMap<u64, Waiter>>,
    len: usize,
}

impl FairQueue {
    /// Adds a job at its place.
    pub fn push(&mut self, waiter: Waiter) {
        if self.builds.entry(waiter.build).or_default().insert(waiter.serial, waiter).is_none() {
            self.len += 1;
        }
    }

    /// Takes a job out, wherever it stands.
    pub fn remove(&mut self, build: BuildId, serial: u64) {
        let Some(queue) = self.builds.get_mut(&build) else { return };
        if queue.remove(&serial).is_some() {
            self.len -= 1;
        }
        if queue.is_empty() {
            self.builds.remove(&build);
        }
    }

    /// Whose turn it is among the builds whose first job `admits`.
    pub fn next(&self, turns: &Turns, turn: Turn, admits: impl Fn(&LocalSlots) -> bool) -> Option<Waiter> {
        self.builds
            .values()
            .filter_map(|queue| queue.first_key_value())
            .filter(|(_, waiter)| admits(&waiter.local))
            .min_by_key(|(_, waiter)| (turns.served(waiter.build, turn), waiter.build))
            .map(|(_, waiter)| *waiter)
    }

    /// The job that came last of all.
    pub fn last(&self) -> Option<Waiter> {
        let lasts = self.builds.values().filter_map(|queue| queue.last_key_value());
        lasts.max_by_key(|(serial, _)| **serial).map(|(_, waiter)| *waiter)
    }

    /// Everything in it.
    pub fn iter(&self) -> impl Iterator<Item = &Waiter> {
        self.builds.values().flat_map(BTreeMap::values)
    }

    /// Whether a job stands there.
    #[cfg(test)]
    pub fn has(&self, build: BuildId, serial: u64) -> bool {
        self.builds.get(&build).is_some_and(|queue| queue.contains_key(&serial))
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(build: u32, serial: u64) -> Waiter {
        let local = LocalSlots { preprocess: 1, compile: 1, link: 1, listed: 0 };
        Waiter { job: JobId(serial), build: BuildId(build), serial, local }
    }

    fn order(mut queue: FairQueue, builds: &[u32]) -> Vec<u64> {
        let mut turns = Turns::default();
        builds.iter().for_each(|build| turns.join(BuildId(*build)));
        let mut order = Vec::new();
        while let Some(next) = queue.next(&turns, Turn::Send, |_| true) {
            queue.remove(next.build, next.serial);
            turns.serve(next.build, Turn::Send);
            order.push(next.job.0);
        }
        order
    }

    #[test]
    fn builds_take_turns_and_jobs_of_one_build_keep_their_order() {
        let mut queue = FairQueue::default();
        for serial in 0..5 {
            queue.push(waiter(1, serial));
        }
        queue.push(waiter(2, 10));
        queue.push(waiter(2, 11));
        assert_eq!(order(queue, &[1, 2]), [0, 10, 1, 11, 2, 3, 4]);
    }

    #[test]
    fn a_job_may_leave_from_the_middle_and_the_last_is_the_latest_of_all() {
        let mut queue = FairQueue::default();
        for (build, serial) in [(1, 0), (2, 5), (1, 3)] {
            queue.push(waiter(build, serial));
        }
        assert_eq!(queue.last().map(|last| last.serial), Some(5));
        queue.remove(BuildId(2), 5);
        queue.remove(BuildId(2), 5);
        assert_eq!((queue.len(), queue.last().map(|last| last.serial)), (2, Some(3)));
    }
}
