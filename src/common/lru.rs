//! What is kept within a bound of bytes: what was used longest ago goes first.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Sizes by key, in the order of their last use.
#[derive(Clone, Debug)]
pub struct Lru<K> {
    entries: HashMap<K, Entry>,
    by_use: BTreeMap<u64, K>,
    total_bytes: u64,
    next_use: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    bytes: u64,
    used: u64,
}

impl<K> Default for Lru<K> {
    fn default() -> Self {
        Lru { entries: HashMap::new(), by_use: BTreeMap::new(), total_bytes: 0, next_use: 0 }
    }
}

impl<K: Copy + Eq + Hash> Lru<K> {
    /// Puts a key in as the one that was used last, in the place of what it was.
    pub fn insert(&mut self, key: K, bytes: u64) {
        self.remove(&key);
        let used = self.next_use;
        self.next_use += 1;
        self.entries.insert(key, Entry { bytes, used });
        self.by_use.insert(used, key);
        self.total_bytes += bytes;
    }

    /// The size under a key.
    pub fn get(&self, key: &K) -> Option<u64> {
        self.entries.get(key).map(|entry| entry.bytes)
    }

    /// Takes a key out; its size, if it was there.
    pub fn remove(&mut self, key: &K) -> Option<u64> {
        let entry = self.entries.remove(key)?;
        self.by_use.remove(&entry.used);
        self.total_bytes -= entry.bytes;
        Some(entry.bytes)
    }

    /// Takes out what was used longest ago until no more than `max_bytes` remain.
    pub fn shrink(&mut self, max_bytes: u64) -> Vec<K> {
        let mut out = Vec::new();
        while self.total_bytes > max_bytes
            && let Some((_, key)) = self.by_use.first_key_value()
        {
            let key = *key;
            self.remove(&key);
            out.push(key);
        }
        out
    }

    /// All sizes, summed.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes_first() {
        let mut lru = Lru::default();
        for key in [1, 2, 3] {
            lru.insert(key, 10);
        }
        lru.insert(1, 12);
        assert_eq!((lru.total_bytes(), lru.shrink(22)), (32, vec![2]));
        assert_eq!((lru.get(&1), lru.get(&2), lru.len()), (Some(12), None, 2));
        assert_eq!(lru.shrink(0), [3, 1]);
        assert!(lru.is_empty() && lru.total_bytes() == 0);
    }
}
