//! Which link brings which file of a compiler: several clients that want the same compiler send it once among them.
//!
//! Pure: it is told what time it is. The first link that wants a file is asked for it; the others rely on that
//! link, its *courier*, while it advances and its end is near, and for [`RELIANCE_MAX`] at most. A courier that is
//! slow, stands still or leaves costs them a wait of that length, once, and then they bring the file themselves:
//! nobody's compiler depends on another client for longer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::common::toolchain::Digest;

/// How long a link relies on others for one file. As long as a build waits for a compiler that is on its way.
pub const RELIANCE_MAX: Duration = Duration::from_secs(20);

/// A courier that brought nothing for so long is not relied on. A busy client may take a few seconds to pack the
/// first large file.
pub const STANDSTILL_MAX: Duration = Duration::from_secs(4);

/// Whoever waits looks several times a second: in a longer gap it was this machine that stood still.
const GAP_MAX: Duration = Duration::from_secs(1);

/// How fast a courier is, is believed after so long.
const WATCH_MIN: Duration = Duration::from_secs(1);

/// A link, for as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkId(u64);

/// A file that a link wants.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Its contents.
    pub digest: Digest,
    /// Their length in bytes.
    pub size: u64,
    /// Since when.
    pub since: Instant,
}

/// What all links were asked for of compilers.
#[derive(Debug, Default)]
pub struct Couriers {
    links: u64,
    files: HashMap<Digest, Promise>,
    loads: HashMap<LinkId, Load>,
    /// When anything was last asked or told.
    looked: Option<Instant>,
}

/// A file that a link was asked for.
#[derive(Clone, Copy, Debug)]
struct Promise {
    by: LinkId,
    size: u64,
}

/// What became of a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promised {
    /// The file has come.
    Kept,
    /// It will not, or is somebody else's matter.
    NotKept,
}

/// How far a link is with all that it was asked for, since it was last done with that. In bytes of contents.
#[derive(Debug)]
struct Load {
    files: usize,
    asked: u64,
    came: u64,
    /// When the first of it came.
    first: Option<Instant>,
    /// When the last of it came, or it was asked.
    advanced: Instant,
}

impl Load {
    fn rest(&self) -> u64 {
        self.asked.saturating_sub(self.came)
    }

    /// How much longer it will take, where that is known.
    fn time_left(&self, now: Instant) -> Option<Duration> {
        let watched = now.saturating_duration_since(self.first?);
        if watched < WATCH_MIN {
            return None;
        }
        let seconds = self.rest() as f64 * watched.as_secs_f64() / self.came.max(1) as f64;
        Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    /// Whether somebody who has wanted a file of it since then should go on waiting.
    fn is_reliable(&self, since: Instant, now: Instant) -> bool {
        let waited = now.saturating_duration_since(since);
        let end = waited.saturating_add(self.time_left(now).unwrap_or_default());
        now.saturating_duration_since(self.advanced) < STANDSTILL_MAX && end < RELIANCE_MAX
    }
}

impl Couriers {
    /// A new link.
    pub fn join(&mut self) -> LinkId {
        self.links += 1;
        LinkId(self.links)
    }

    /// Whether this link is to be asked for a file, because nobody else brings it soon; then it is the one that does.
    pub fn take(&mut self, link: LinkId, wanted: &Wanted, now: Instant) -> bool {
        self.pass_over_gap(now);
        let other = self.files.get(&wanted.digest).filter(|promise| promise.by != link);
        let load = other.and_then(|promise| self.loads.get(&promise.by));
        if load.is_some_and(|load| load.is_reliable(wanted.since, now)) {
            return false;
        }
        self.drop_promise(&wanted.digest, Promised::NotKept);
        self.files.insert(wanted.digest, Promise { by: link, size: wanted.size });
        let fresh = Load { files: 0, asked: 0, came: 0, first: None, advanced: now };
        let load = self.loads.entry(link).or_insert(fresh);
        load.files += 1;
        load.asked = load.asked.saturating_add(wanted.size);
        true
    }

    /// Of these files, how many bytes this link brings for all.
    pub fn brings<'a>(&self, link: LinkId, files: impl IntoIterator<Item = &'a Digest>) -> u64 {
        let of = |file: &Digest| self.files.get(file).filter(|promise| promise.by == link);
        files.into_iter().filter_map(of).map(|promise| promise.size).fold(0, u64::saturating_add)
    }

    /// So many bytes more have come of what a link brings.
    pub fn came(&mut self, link: LinkId, bytes: u64, now: Instant) {
        self.pass_over_gap(now);
        if let Some(load) = self.loads.get_mut(&link) {
            load.came = load.came.saturating_add(bytes);
            load.first.get_or_insert(now);
            load.advanced = now;
        }
    }

    /// Holds nothing against couriers that happened while this machine was stopped.
    fn pass_over_gap(&mut self, now: Instant) {
        let gap =
            self.looked.replace(now).map_or(Duration::ZERO, |looked| now.saturating_duration_since(looked));
        if gap > GAP_MAX {
            for load in self.loads.values_mut() {
                load.advanced += gap;
                load.first = load.first.map(|first| first + gap);
            }
        }
    }

    /// These files have come from a link, or will not come from there.
    pub fn over<'a>(
        &mut self,
        link: LinkId,
        files: impl IntoIterator<Item = &'a Digest>,
        promised: Promised,
    ) {
        for file in files {
            if self.files.get(file).is_some_and(|promise| promise.by == link) {
                self.drop_promise(file, promised);
            }
        }
    }

    fn drop_promise(&mut self, file: &Digest, promised: Promised) {
        let Some(promise) = self.files.remove(file) else { return };
        let Some(load) = self.loads.get_mut(&promise.by) else { return };
        load.files -= 1;
        if promised == Promised::NotKept {
            load.asked = load.asked.saturating_sub(promise.size);
        }
        if load.files == 0 {
            self.loads.remove(&promise.by);
        }
    }

    /// A link is over: nobody waits for it any more.
    pub fn leave(&mut self, link: LinkId) {
        if self.loads.remove(&link).is_some() {
            self.files.retain(|_, promise| promise.by != link);
        }
    }

    /// How many bytes of these files are still to come, by what their couriers have left.
    pub fn rest<'a>(&self, files: impl IntoIterator<Item = (&'a Digest, u64)>) -> u64 {
        let mut by_courier: HashMap<LinkId, u64> = HashMap::new();
        let mut rest = 0_u64;
        for (file, size) in files {
            match self.files.get(file) {
                Some(promise) => {
                    let bytes = by_courier.entry(promise.by).or_default();
                    *bytes = bytes.saturating_add(size);
                }
                None => rest = rest.saturating_add(size),
            }
        }
        let left =
            |(link, bytes): (LinkId, u64)| self.loads.get(&link).map_or(bytes, |load| bytes.min(load.rest()));
        by_courier.into_iter().map(left).fold(rest, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    /// Two links that want the same files, at moments in seconds.
    struct Two {
        couriers: Couriers,
        first: LinkId,
        second: LinkId,
        begun: Instant,
    }

    fn two() -> Two {
        let mut couriers = Couriers::default();
        let (first, second) = (couriers.join(), couriers.join());
        Two { couriers, first, second, begun: Instant::now() }
    }

    fn file(name: u8) -> Digest {
        Digest::of(&[name])
    }

    impl Two {
        fn at(&self, seconds: f64) -> Instant {
            self.begun + Duration::from_secs_f64(seconds)
        }

        /// Whether a link that has wanted a file of 100 MB from the beginning is asked for it then.
        fn asks(&mut self, link: LinkId, name: u8, seconds: f64) -> bool {
            let (since, now) = (self.begun, self.at(seconds));
            self.couriers.take(link, &Wanted { digest: file(name), size: 100 * MB, since }, now)
        }

        fn came(&mut self, megabytes: u64, seconds: f64) {
            let now = self.at(seconds);
            self.couriers.came(self.first, megabytes * MB, now);
        }
    }

    #[test]
    fn what_one_brings_another_is_not_asked_for() {
        let mut two = two();
        let Two { first, second, .. } = two;
        assert!(two.asks(first, 1, 0.0) && two.asks(first, 2, 0.0));
        assert!(!two.asks(second, 1, 0.1) && !two.asks(second, 2, 0.1) && two.asks(second, 3, 0.1));
        // The other way round, too.
        assert!(!two.asks(first, 3, 0.2));
        let both = [file(1), file(2), file(3)];
        assert_eq!(two.couriers.brings(first, &both), 200 * MB);
        two.came(150, 2.0);
        assert_eq!(two.couriers.rest(both[..2].iter().map(|file| (file, 100 * MB))), 50 * MB);
        two.couriers.over(first, &both[..2], Promised::Kept);
        assert!(two.asks(second, 1, 2.1), "it is nobody's any more: whoever lacks it is asked");
    }

    /// Looks as often as whoever waits; whether a link is asked at the end.
    fn waits(two: &mut Two, link: LinkId, from: f64, to: f64) -> bool {
        let steps = ((to - from) * 4.0) as u32;
        (1..=steps).any(|step| two.asks(link, 1, from + f64::from(step) / 4.0))
    }

    #[test]
    fn one_that_stands_still_is_waited_for_four_seconds() {
        let mut two = two();
        let Two { first, second, .. } = two;
        assert!(two.asks(first, 1, 0.0));
        assert!(!waits(&mut two, second, 0.0, 3.75));
        two.came(50, 3.75);
        assert!(!waits(&mut two, second, 3.75, 7.5));
        assert!(waits(&mut two, second, 7.5, 7.75));
        // Now it is the second one that brings it.
        assert!(!two.asks(first, 1, 8.0));
    }

    /// A volunteer that had been stopped took its couriers for standing still: every client sent all.
    #[test]
    fn while_this_machine_is_stopped_nobody_stands_still() {
        let mut two = two();
        let Two { first, second, .. } = two;
        assert!(two.asks(first, 1, 0.0));
        two.came(50, 1.0);
        assert!(!waits(&mut two, second, 1.0, 2.0));
        assert!(!two.asks(second, 1, 12.0), "stopped for ten seconds");
        assert!(!waits(&mut two, second, 12.0, 14.5) && waits(&mut two, second, 14.5, 15.5));
    }

    #[test]
    fn one_that_is_slow_is_not_waited_for() {
        let mut two = two();
        let Two { first, second, .. } = two;
        assert!(two.asks(first, 1, 0.0));
        two.came(1, 0.5);
        two.came(1, 1.4);
        assert!(!two.asks(second, 1, 1.4), "nobody knows how slow it is");
        two.came(1, 1.6);
        assert!(two.asks(second, 1, 1.6));
    }

    #[test]
    fn nobody_holds_up_others_for_more_than_twenty_seconds_whatever_it_sends() {
        for rest in [50, 10, 1] {
            let mut two = two();
            let Two { first, second, .. } = two;
            assert!(two.asks(first, 1, 0.0));
            two.came(100 - rest, 1.0);
            let waited = (1..).take_while(|&second_number| {
                two.came(0, f64::from(second_number));
                !waits(&mut two, second, f64::from(second_number), f64::from(second_number) + 0.75)
            });
            assert!(waited.count() < 20);
        }
    }

    #[test]
    fn one_that_leaves_is_not_waited_for() {
        let mut two = two();
        let Two { first, second, .. } = two;
        assert!(two.asks(first, 1, 0.0));
        two.couriers.leave(first);
        assert!(two.asks(second, 1, 0.1));
        assert!(two.couriers.loads.len() == 1 && two.couriers.files.len() == 1);
    }
}
