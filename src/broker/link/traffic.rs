//! What goes over the links to one volunteer, counted: for status and metrics.
//!
//! Counters only, so that counting costs nothing when nobody looks.

use std::sync::atomic::{AtomicU64, Ordering};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the volunteer.
    Out,
    /// From it.
    Back,
}

/// Counters of one volunteer, kept over all its links.
#[derive(Debug, Default)]
pub struct Traffic {
    out: Counts,
    back: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    /// On the connection, messages and all.
    wire: AtomicU64,
    /// Of that, contents in their compressed form.
    packed: AtomicU64,
    /// The same contents before they were compressed.
    plain: AtomicU64,
}

/// Bytes each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// Sent, as they were on the connection.
    pub sent: u64,
    /// Sent, had nothing been compressed.
    pub sent_plain: u64,
    /// Received, as they were on the connection.
    pub received: u64,
    /// Received, had nothing been compressed.
    pub received_plain: u64,
}

impl Traffic {
    /// So many bytes went over the connection.
    pub fn wire(&self, way: Way, bytes: usize) {
        self.counts(way).wire.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Contents of `plain` bytes go in the form of `packed` bytes.
    pub fn contents(&self, way: Way, packed: u64, plain: u64) {
        let counts = self.counts(way);
        counts.packed.fetch_add(packed, Ordering::Relaxed);
        counts.plain.fetch_add(plain, Ordering::Relaxed);
    }

    /// All so far.
    pub fn bytes(&self) -> Bytes {
        let (sent, sent_plain) = self.out.read();
        let (received, received_plain) = self.back.read();
        Bytes { sent, sent_plain, received, received_plain }
    }

    fn counts(&self, way: Way) -> &Counts {
        match way {
            Way::Out => &self.out,
            Way::Back => &self.back,
        }
    }
}

impl Counts {
    /// What went over the connection, and what would have without compression. Contents are counted
    /// when they are announced, so for a moment they may be ahead of the connection.
    fn read(&self) -> (u64, u64) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (wire, packed, plain) = (load(&self.wire), load(&self.packed), load(&self.plain));
        (wire, wire.saturating_sub(packed).saturating_add(plain))
    }
}

impl std::ops::AddAssign for Bytes {
    fn add_assign(&mut self, more: Bytes) {
        self.sent += more.sent;
        self.sent_plain += more.sent_plain;
        self.received += more.received;
        self.received_plain += more.received_plain;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_compression_saves_is_the_difference_of_contents() {
        let traffic = Traffic::default();
        traffic.wire(Way::Out, 130);
        traffic.contents(Way::Out, 100, 400);
        traffic.wire(Way::Back, 50);
        let bytes = traffic.bytes();
        assert_eq!((bytes.sent, bytes.sent_plain), (130, 430));
        assert_eq!((bytes.received, bytes.received_plain), (50, 50));
    }
}
