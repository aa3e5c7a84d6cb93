//! The files that a volunteer asks for, on their way to it, as a state machine.
//!
//! Small files travel together in a bundle, a large one alone. Bundles are packed elsewhere, a few
//! at a time ([`Supply::next_to_pack`], [`Supply::packed`]), and leave in turns with all else
//! ([`Supply::fill`]), within a window that the volunteer widens.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::common::inputs::Item;
use crate::common::limits::{BUNDLE_BYTES, BUNDLE_WINDOW_BYTES, LINK_CHUNK_MAX_BYTES};
use crate::common::protocol::io::{push_bundle, push_message};
use crate::common::protocol::link::ToVolunteer;

/// Bundles that are packed, or wait to leave, at a time: enough that the line is never idle, few
/// enough that memory holds them.
const BUNDLES_MAX: usize = 3;

/// Files that are to become one bundle.
#[derive(Clone, Debug)]
pub struct ToPack {
    /// Numbers and entries.
    pub files: Vec<(u32, Arc<Item>)>,
}

/// How far the files of a link are on their way.
#[derive(Debug, Default)]
pub struct Progress {
    asked: AtomicU64,
    packed: AtomicU64,
    left: AtomicU64,
}

/// The same at one moment, in bytes of contents before compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// What was asked for so far.
    pub asked: u64,
    /// What of it was packed.
    pub packed: u64,
    /// What of that has left.
    pub left: u64,
}

impl Progress {
    /// How far they are.
    pub fn look(&self) -> Look {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Look { asked: of(&self.asked), packed: of(&self.packed), left: of(&self.left) }
    }
}

impl Look {
    /// Whether the line, as it was in the `span` since `before`, will need longer than `patience` for what
    /// remains. Only a line that never waits for files to be packed tells how fast it is.
    pub fn is_slow(&self, before: &Look, span: Duration, patience: Duration) -> bool {
        let is_busy = |look: &Look| look.packed > look.left;
        let rest = self.asked.saturating_sub(self.left) as f64;
        let rate = self.left.saturating_sub(before.left) as f64 / span.as_secs_f64();
        is_busy(before) && is_busy(self) && rest > rate * patience.as_secs_f64()
    }
}

/// What became of them.
#[derive(Debug, Default)]
pub struct Bundle {
    /// The files that are in it.
    pub files: Vec<u32>,
    /// One zstd frame of their contents, one behind the other.
    pub packed: Vec<u8>,
    /// The length of their contents.
    pub plain: u64,
    /// The files that are not what they were.
    pub gone: Vec<u32>,
}

/// A bundle that is on its way.
struct Outgoing {
    number: u32,
    packed: Vec<u8>,
    plain: u64,
    sent: usize,
}

/// All of one link.
pub struct Supply {
    wanted: VecDeque<(u32, Arc<Item>)>,
    /// What was asked for and has not been sent: nothing is sent twice at a time.
    pending: HashSet<u32>,
    packing: usize,
    outgoing: VecDeque<Outgoing>,
    numbers: u32,
    window: u64,
    progress: Arc<Progress>,
}

impl Default for Supply {
    fn default() -> Self {
        Supply {
            wanted: VecDeque::new(),
            pending: HashSet::new(),
            packing: 0,
            outgoing: VecDeque::new(),
            numbers: 0,
            window: BUNDLE_WINDOW_BYTES,
            progress: Arc::default(),
        }
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
            self.progress.asked.fetch_add(size(&item), Ordering::Relaxed);
            self.wanted.push_back((number, item));
        }
    }

    /// Files to pack next, if there are any and there is room.
    pub fn next_to_pack(&mut self) -> Option<ToPack> {
        if self.packing + self.outgoing.len() >= BUNDLES_MAX {
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
        if files.is_empty() {
            return None;
        }
        self.packing += 1;
        Some(ToPack { files })
    }

    /// Files have been packed: announces them.
    pub fn packed(&mut self, bundle: Bundle, outbox: &mut Vec<u8>) {
        self.packing -= 1;
        for number in bundle.files.iter().chain(&bundle.gone) {
            self.pending.remove(number);
        }
        if !bundle.gone.is_empty() {
            push_message(outbox, &ToVolunteer::Unavailable { items: bundle.gone });
        }
        if bundle.files.is_empty() {
            return;
        }
        let (number, packed) = (self.numbers, bundle.packed.len() as u64);
        self.numbers = self.numbers.wrapping_add(1);
        push_message(outbox, &ToVolunteer::Bundle { bundle: number, items: bundle.files, packed });
        self.progress.packed.fetch_add(bundle.plain, Ordering::Relaxed);
        self.outgoing.push_back(Outgoing { number, packed: bundle.packed, plain: bundle.plain, sent: 0 });
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
        }
    }

    /// Nothing is known of earlier numbers any more.
    pub fn forget(&mut self) {
        self.wanted.clear();
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
    fn a_line_that_will_take_long_is_known_early() {
        let look = |packed, left| Look { asked: 100, packed, left };
        let is_slow =
            |before: Look, now: Look| now.is_slow(&before, Duration::from_secs(1), Duration::from_secs(8));
        // A twentieth in a second, and a fifth.
        assert!(is_slow(look(20, 5), look(30, 10)));
        assert!(!is_slow(look(20, 5), look(60, 25)));
        assert!(is_slow(look(20, 5), look(20, 5)));
        // It waits for what is being packed.
        assert!(!is_slow(look(5, 5), look(10, 10)));
        assert!(!is_slow(look(5, 5), look(30, 10)));
    }

    #[test]
    fn small_files_travel_together_and_a_large_one_alone() {
        let mut supply = Supply::default();
        for (number, size) in [(1, 10), (2, 20), (3, 10 << 20), (4, 5), (2, 20)] {
            supply.want(number, file(size));
        }
        assert_eq!(numbers(supply.next_to_pack()), [1, 2]);
        assert_eq!(numbers(supply.next_to_pack()), [3]);
        assert_eq!(numbers(supply.next_to_pack()), [4]);
        assert!(supply.next_to_pack().is_none());
    }

    #[test]
    fn bundles_leave_in_turns_and_within_the_window() {
        let mut supply = Supply { packing: 2, ..Supply::default() };
        let mut out = Vec::new();
        for (file, length) in [(1, BUNDLE_WINDOW_BYTES as usize), (2, 10)] {
            supply
                .packed(Bundle { files: vec![file], packed: vec![0; length], ..Bundle::default() }, &mut out);
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
    fn no_more_is_packed_than_there_is_room_for() {
        let mut supply = Supply::default();
        for number in 0..10 {
            supply.want(number, file(BUNDLE_BYTES));
        }
        for _ in 0..BUNDLES_MAX {
            assert!(supply.next_to_pack().is_some());
        }
        assert!(supply.next_to_pack().is_none());
        supply.packed(Bundle { gone: vec![0], ..Bundle::default() }, &mut Vec::new());
        assert!(supply.next_to_pack().is_some());
    }
}
