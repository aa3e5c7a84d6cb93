//! The files that a volunteer asks for, on their way to it, as a state machine.
//!
//! Small files travel together in a bundle, a large one alone. Bundles are packed elsewhere, a few of either kind
//! at a time ([`Supply::next_to_pack`], [`Supply::packed`]), and leave in turns with all else
//! ([`Supply::fill`]), within a window that the volunteer widens. Large ones stand in a line of their own, so that a
//! changed header never waits behind a compiler.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::common::inputs::Item;
use crate::common::limits::{BUNDLE_BYTES, BUNDLE_WINDOW_BYTES, LINK_CHUNK_MAX_BYTES};
use crate::common::protocol::io::{push_bundle, push_message};
use crate::common::protocol::link::ToVolunteer;

/// Bundles of small files, and large files, that are packed, or wait to leave, at a time: enough that the line is
/// never idle, few enough that memory holds them.
const SMALL_MAX: usize = 2;
const LARGE_MAX: usize = 2;

/// Files that are to become one bundle.
#[derive(Clone, Debug)]
pub struct ToPack {
    /// Numbers and entries.
    pub files: Vec<(u32, Arc<Item>)>,
    /// Whether it is a large file.
    pub large: bool,
    /// Where it is told how much of them was read.
    pub progress: Arc<Progress>,
}

/// How far the files of a link are on their way.
#[derive(Debug, Default)]
pub struct Progress {
    asked: AtomicU64,
    read: AtomicU64,
    packed: AtomicU64,
    left: AtomicU64,
    /// What other clients bring there in place of this one, and what of that has come.
    awaited: AtomicU64,
    arrived: AtomicU64,
}

/// The same at one moment, in bytes of contents before compression. What others bring is under way from the
/// moment on at which it is left to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// What was asked for so far.
    pub asked: u64,
    /// What was read for it, with what is being packed.
    pub read: u64,
    /// What of it was packed.
    pub packed: u64,
    /// What of that has left.
    pub left: u64,
}

impl Progress {
    /// How far they are.
    pub fn look(&self) -> Look {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let others = |count: &AtomicU64, theirs: &AtomicU64| of(count).saturating_add(of(theirs));
        Look {
            asked: others(&self.asked, &self.awaited),
            read: others(&self.read, &self.awaited),
            packed: others(&self.packed, &self.awaited),
            left: others(&self.left, &self.arrived),
        }
    }

    /// So much more was read.
    pub fn read(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Look {
    /// Whether the line has something to carry.
    pub fn is_line_busy(&self) -> bool {
        self.packed > self.left
    }
}

/// What became of them.
#[derive(Debug, Default)]
pub struct Bundle {
    /// The files that are in it.
    pub files: Vec<u32>,
    /// As they were to be packed.
    pub large: bool,
    /// One zstd frame of their contents, one behind the other.
    pub packed: Arc<Vec<u8>>,
    /// The length of their contents.
    pub plain: u64,
    /// The files that are not what they were.
    pub gone: Vec<u32>,
}

/// A bundle that is on its way.
struct Outgoing {
    number: u32,
    large: bool,
    packed: Arc<Vec<u8>>,
    plain: u64,
    sent: usize,
}

/// Files of one kind that are wanted.
#[derive(Debug, Default)]
struct Lane {
    wanted: VecDeque<(u32, Arc<Item>)>,
    /// Bundles of them that are being packed, or leave.
    busy: usize,
}

/// All of one link.
pub struct Supply {
    small: Lane,
    large: Lane,
    /// What was asked for and has not been sent: nothing is sent twice at a time.
    pending: HashSet<u32>,
    outgoing: VecDeque<Outgoing>,
    numbers: u32,
    window: u64,
    progress: Arc<Progress>,
}

impl Default for Supply {
    fn default() -> Self {
        Supply {
            small: Lane::default(),
            large: Lane::default(),
            pending: HashSet::new(),
            outgoing: VecDeque::new(),
            numbers: 0,
            window: BUNDLE_WINDOW_BYTES,
            progress: Arc::default(),
        }
    }
}

impl Lane {
    /// Takes what becomes the next bundle, where fewer than `max` are under way.
    fn next(&mut self, max: usize) -> Option<Vec<(u32, Arc<Item>)>> {
        if self.busy >= max {
            return None;
        }
        let (mut files, mut bytes) = (Vec::new(), 0);
        while let Some((_, item)) = self.wanted.front() {
            let size = size(item);
            if !files.is_empty() && bytes + size > BUNDLE_BYTES {
                break;
            }
            bytes += size;
            files.extend(self.wanted.pop_front());
        }
        self.busy += usize::from(!files.is_empty());
        (!files.is_empty()).then_some(files)
    }
}

impl Supply {
    /// Has its progress told there.
    pub fn tell(&mut self, progress: Arc<Progress>) {
        self.progress = progress;
    }

    /// The volunteer asks for a file.
    pub fn want(&mut self, number: u32, item: Arc<Item>) {
        if self.pending.insert(number) {
            let size = size(&item);
            self.progress.asked.fetch_add(size, Ordering::Relaxed);
            let lane = if size < BUNDLE_BYTES { &mut self.small } else { &mut self.large };
            lane.wanted.push_back((number, item));
        }
    }

    /// These files need not be sent, if they are not on their way.
    pub fn spare(&mut self, numbers: &[u32]) {
        let numbers: HashSet<u32> = numbers.iter().copied().collect();
        for lane in [&mut self.small, &mut self.large] {
            lane.wanted.retain(|(number, item)| {
                let is_spared = numbers.contains(number);
                if is_spared {
                    self.pending.remove(number);
                    self.progress.asked.fetch_sub(size(item), Ordering::Relaxed);
                }
                !is_spared
            });
        }
    }

    /// So much is brought by others, and has been.
    pub fn elsewhere(&mut self, awaited: u64, arrived: u64) {
        self.progress.awaited.store(awaited, Ordering::Relaxed);
        self.progress.arrived.store(arrived.min(awaited), Ordering::Relaxed);
    }

    /// Files to pack next, if there are any and there is room.
    pub fn next_to_pack(&mut self) -> Option<ToPack> {
        let small = self.small.next(SMALL_MAX).map(|files| (files, false));
        let (files, large) = small.or_else(|| Some((self.large.next(LARGE_MAX)?, true)))?;
        Some(ToPack { files, large, progress: Arc::clone(&self.progress) })
    }

    fn lane(&mut self, large: bool) -> &mut Lane {
        if large { &mut self.large } else { &mut self.small }
    }

    /// Files have been packed: announces them.
    pub fn packed(&mut self, bundle: Bundle, outbox: &mut Vec<u8>) {
        for number in bundle.files.iter().chain(&bundle.gone) {
            self.pending.remove(number);
        }
        if !bundle.gone.is_empty() {
            push_message(outbox, &ToVolunteer::Unavailable { items: bundle.gone });
        }
        if bundle.files.is_empty() {
            self.lane(bundle.large).busy -= 1;
            return;
        }
        let (number, packed) = (self.numbers, bundle.packed.len() as u64);
        self.numbers = self.numbers.wrapping_add(1);
        push_message(outbox, &ToVolunteer::Bundle { bundle: number, items: bundle.files, packed });
        self.progress.packed.fetch_add(bundle.plain, Ordering::Relaxed);
        let Bundle { large, packed, plain, .. } = bundle;
        self.outgoing.push_back(Outgoing { number, large, packed, plain, sent: 0 });
    }

    /// The volunteer takes more.
    pub fn widen(&mut self, bytes: u32) {
        self.window = self.window.saturating_add(u64::from(bytes));
    }

    /// Whether there is something that may leave now.
    pub fn has_output(&self) -> bool {
        self.window > 0 && !self.outgoing.is_empty()
    }

    /// Appends one chunk of the next bundle to `out`.
    pub fn fill(&mut self, out: &mut Vec<u8>) {
        let Some(mut bundle) = self.outgoing.pop_front() else { return };
        let rest = &bundle.packed[bundle.sent..];
        let length = rest.len().min(LINK_CHUNK_MAX_BYTES as usize);
        let length = length.min(usize::try_from(self.window).unwrap_or(usize::MAX));
        push_bundle(out, bundle.number, &rest[..length]);
        let plain = |sent: usize| bundle.plain * sent as u64 / bundle.packed.len().max(1) as u64;
        let more = plain(bundle.sent + length) - plain(bundle.sent);
        self.progress.left.fetch_add(more, Ordering::Relaxed);
        bundle.sent += length;
        self.window -= length as u64;
        if bundle.sent < bundle.packed.len() {
            // In turns: a small bundle does not wait for a large one.
            self.outgoing.push_back(bundle);
        } else {
            self.lane(bundle.large).busy -= 1;
        }
    }

    /// Nothing is known of earlier numbers any more.
    pub fn forget(&mut self) {
        self.small.wanted.clear();
        self.large.wanted.clear();
        self.pending.clear();
    }
}

fn size(item: &Item) -> u64 {
    match item {
        Item::Entry(entry) => entry.kind.file().map_or(0, |file| file.size),
        Item::Word(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::bytes::Bytes;
    use crate::common::inputs::{Entry, EntryKind, FileEntry};
    use crate::common::toolchain::Digest;

    fn file(size: u64) -> Arc<Item> {
        let file = FileEntry { digest: Digest::of(b""), size, executable: false, twin: 0, age: 0 };
        Arc::new(Item::Entry(Entry { path: Bytes::from("/a"), kind: EntryKind::File(file) }))
    }

    fn numbers(pack: Option<ToPack>) -> Vec<u32> {
        pack.map(|pack| pack.files.iter().map(|(number, _)| *number).collect()).unwrap_or_default()
    }

    #[test]
    fn small_files_travel_together_and_a_large_one_alone() {
        let mut supply = Supply::default();
        for (number, size) in [(1, 10), (2, 20), (3, 10 << 20), (4, 5), (2, 20)] {
            supply.want(number, file(size));
        }
        assert_eq!(numbers(supply.next_to_pack()), [1, 2, 4]);
        assert_eq!(numbers(supply.next_to_pack()), [3]);
        assert!(supply.next_to_pack().is_none());
    }

    /// There was one line of files for all: a header that another job had changed left behind all of a compiler.
    #[test]
    fn a_changed_header_does_not_wait_behind_a_compiler() {
        let mut supply = Supply::default();
        (1..=40).for_each(|number| supply.want(number, file(10 << 20)));
        while supply.next_to_pack().is_some() {}
        supply.want(99, file(100));
        assert_eq!(numbers(supply.next_to_pack()), [99]);
        let mut out = Vec::new();
        for (number, large, length) in [(1, true, 1 << 20), (2, true, 1 << 20), (99, false, 60)] {
            let packed = Arc::new(vec![0; length]);
            supply.packed(Bundle { files: vec![number], large, packed, ..Bundle::default() }, &mut out);
        }
        let announced = out.len();
        (0..3).for_each(|_| supply.fill(&mut out));
        assert!(
            out.len() - announced < 3 * LINK_CHUNK_MAX_BYTES as usize,
            "it was among the first three chunks"
        );
        assert_eq!((supply.small.busy, supply.large.busy), (0, 2));
    }

    #[test]
    fn bundles_leave_in_turns_and_within_the_window() {
        let mut supply = Supply::default();
        supply.small.busy = 2;
        let mut out = Vec::new();
        for (file, length) in [(1, BUNDLE_WINDOW_BYTES as usize), (2, 10)] {
            let packed = Arc::new(vec![0; length]);
            supply.packed(Bundle { files: vec![file], packed, ..Bundle::default() }, &mut out);
        }
        let chunk = LINK_CHUNK_MAX_BYTES as usize;
        let mut lengths = Vec::new();
        while supply.has_output() {
            let before = out.len();
            supply.fill(&mut out);
            lengths.push(out.len() - before - 9);
        }
        assert_eq!(lengths[..3], [chunk, 10, chunk]);
        assert_eq!(lengths.iter().sum::<usize>() as u64, BUNDLE_WINDOW_BYTES);
        supply.widen(100);
        supply.fill(&mut out);
        assert!(supply.outgoing.is_empty());
    }

    #[test]
    fn what_is_spared_is_not_packed() {
        let mut supply = Supply::default();
        for (number, size) in [(1, 10), (2, 1 << 20), (3, 1 << 20), (4, 10)] {
            supply.want(number, file(size));
        }
        supply.spare(&[1, 3, 99]);
        assert_eq!((numbers(supply.next_to_pack()), numbers(supply.next_to_pack())), (vec![4], vec![2]));
        assert!(supply.next_to_pack().is_none());
        assert_eq!(supply.progress.look().asked, (1 << 20) + 10);
        supply.want(3, file(1 << 20));
        assert_eq!(numbers(supply.next_to_pack()), [3]);
    }

    #[test]
    fn no_more_is_packed_than_there_is_room_for() {
        let mut supply = Supply::default();
        for number in 0..10 {
            supply.want(number, file(BUNDLE_BYTES));
        }
        for _ in 0..LARGE_MAX {
            assert!(supply.next_to_pack().is_some());
        }
        assert!(supply.next_to_pack().is_none());
        supply.packed(Bundle { gone: vec![0], large: true, ..Bundle::default() }, &mut Vec::new());
        assert!(supply.next_to_pack().is_some());
    }
}
