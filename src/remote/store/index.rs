//! What a store holds, and in which order it was used. Pure: no file is touched here.

use std::collections::{BTreeMap, HashMap};

use crate::common::inputs::FileEntry;
use crate::common::toolchain::Digest;
use crate::remote::clients::ClientId;

/// What a file takes on a disk is a multiple of this, in bytes.
const BLOCK_BYTES: u64 = 4096;

/// When the limit is passed, this share of it is freed beyond, so that it is not passed again at once.
const SPARE_DIVISOR: u64 = 16;

/// One file of the store: a content, and what else tells two files of it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Digest of the contents.
    pub digest: Digest,
    /// Whether it can be executed.
    pub executable: bool,
    /// See [`FileEntry::twin`].
    pub twin: u16,
    /// See [`FileEntry::age`].
    pub age: u16,
}

impl Key {
    /// The ordinary file of a content.
    pub fn plain(digest: Digest) -> Self {
        Key { digest, executable: false, twin: 0, age: 0 }
    }

    /// Where it lies beneath the store.
    pub fn name(&self) -> String {
        let hex = self.digest.to_string();
        let (directory, rest) = hex.split_at(2);
        let variant = match self {
            Key { executable: false, twin: 0, age: 0, .. } => String::new(),
            Key { executable, twin, age, .. } => {
                format!("-{}-{twin}-{age}", if *executable { 'x' } else { 'r' })
            }
        };
        format!("{directory}/{rest}{variant}")
    }

    /// The key whose file has this name in this directory, if it is one.
    pub fn of_name(directory: &str, name: &str) -> Option<Self> {
        let (rest, variant) = name.split_once('-').unwrap_or((name, "r-0-0"));
        let digest = Digest::parse(&format!("{directory}{rest}"))?;
        let mut parts = variant.split('-');
        let executable = match parts.next()? {
            "x" => true,
            "r" => false,
            _ => return None,
        };
        let (twin, age) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let key = Key { digest, executable, twin, age };
        // One file, one name.
        (parts.next().is_none() && key.name() == format!("{directory}/{name}")).then_some(key)
    }
}

impl From<&FileEntry> for Key {
    fn from(file: &FileEntry) -> Self {
        Key { digest: file.digest, executable: file.executable, twin: file.twin, age: file.age }
    }
}

/// What is known of a file that is there.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Its length, in bytes.
    pub size: u64,
    /// The number of the file whose contents are known to be what its name says.
    pub proven: Option<u64>,
    used: u64,
    /// Who used it last.
    owner: ClientId,
}

/// What is there.
#[derive(Debug, Default)]
pub struct Index {
    held: HashMap<Key, Held>,
    /// What each client has, in bytes.
    owned: HashMap<ClientId, u64>,
    total_bytes: u64,
    next_use: u64,
}

impl Index {
    /// Notes a file of a client; it is the one used last.
    pub fn insert(&mut self, key: Key, size: u64, proven: Option<u64>, owner: ClientId) {
        self.remove(&key);
        self.next_use += 1;
        self.held.insert(key, Held { size, proven, used: self.next_use, owner });
        self.total_bytes += on_disk(size);
        *self.owned.entry(owner).or_default() += on_disk(size);
    }

    /// What is known of a file, which is the one used last from now on, by this client.
    pub fn touch(&mut self, key: &Key, by: ClientId) -> Option<Held> {
        let held = self.held.get_mut(key)?;
        self.next_use += 1;
        held.used = self.next_use;
        let (before, bytes) = (std::mem::replace(&mut held.owner, by), on_disk(held.size));
        let held = *held;
        if before != by {
            self.disown(before, bytes);
            *self.owned.entry(by).or_default() += bytes;
        }
        Some(held)
    }

    fn disown(&mut self, owner: ClientId, bytes: u64) {
        if let Some(owned) = self.owned.get_mut(&owner) {
            *owned -= bytes;
            if *owned == 0 {
                self.owned.remove(&owner);
            }
        }
    }

    /// Whether a file is there.
    pub fn holds(&self, key: &Key) -> bool {
        self.held.contains_key(key)
    }

    /// A file's contents have been found to be right.
    pub fn prove(&mut self, key: &Key, inode: u64) {
        if let Some(held) = self.held.get_mut(key) {
            held.proven = Some(inode);
        }
    }

    /// The number of the file whose contents are known.
    pub fn proven(&self, key: &Key) -> Option<u64> {
        self.held.get(key)?.proven
    }

    /// Nothing is known of any contents any more.
    pub fn doubt_all(&mut self) {
        self.held.values_mut().for_each(|held| held.proven = None);
    }

    /// Some other file with the same content.
    pub fn sibling(&self, key: &Key) -> Option<Key> {
        let variants = [(false, 0, 0), (true, 0, 0), (false, 1, 0), (false, 1, 1), (true, 1, 0)];
        let keys = variants.map(|(executable, twin, age)| Key { executable, twin, age, ..*key });
        keys.into_iter().find(|other| other != key && self.held.contains_key(other))
    }

    /// Forgets a file; whether it was there.
    pub fn remove(&mut self, key: &Key) -> bool {
        let Some(held) = self.held.remove(key) else { return false };
        self.total_bytes -= on_disk(held.size);
        self.disown(held.owner, on_disk(held.size));
        true
    }

    /// Takes out what was used longest ago, when there is more than `max_bytes`, until there is
    /// room for a while: always of the client that has the most, so that one who fills the store
    /// pushes out nobody who has less.
    pub fn shrink(&mut self, max_bytes: u64) -> Vec<Key> {
        if self.total_bytes <= max_bytes {
            return Vec::new();
        }
        let mut by_use: Vec<(u64, Key, ClientId)> =
            self.held.iter().map(|(key, held)| (held.used, *key, held.owner)).collect();
        by_use.sort_unstable_by_key(|(used, ..)| std::cmp::Reverse(*used));
        // The newest stays: it is what room is made for.
        by_use.remove(0);
        // The last of each is what its owner used longest ago.
        let mut of_each = BTreeMap::<ClientId, Vec<Key>>::new();
        for (_, key, owner) in by_use {
            of_each.entry(owner).or_default().push(key);
        }
        let mut out = Vec::new();
        while self.total_bytes > lasting(max_bytes) {
            let has = |owner: &ClientId| self.owned.get(owner).copied().unwrap_or(0);
            let most = of_each.keys().copied().max_by_key(has);
            let Some((most, keys)) = most.and_then(|most| Some((most, of_each.get_mut(&most)?))) else {
                break;
            };
            match keys.pop() {
                Some(key) => {
                    self.remove(&key);
                    out.push(key);
                }
                None => drop(of_each.remove(&most)),
            }
        }
        out
    }

    /// What they take on the disk, in bytes.
    pub fn bytes(&self) -> u64 {
        self.total_bytes
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.held.len()
    }
}

/// What is left of a full store when room was made, in bytes.
pub fn lasting(max_bytes: u64) -> u64 {
    max_bytes - max_bytes / SPARE_DIVISOR
}

/// What a file of that length takes, in bytes.
pub fn on_disk(size: u64) -> u64 {
    // Clients may say what they like of a length.
    size.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: ClientId = ClientId(1);
    const BOB: ClientId = ClientId(2);

    fn key(number: u8) -> Key {
        Key::plain(Digest::of(&[number]))
    }

    #[test]
    fn a_key_is_found_again_by_its_name() {
        let digest = Digest::of(b"text");
        for (executable, twin, age) in [(false, 0, 0), (true, 0, 0), (false, 7, 65535), (true, 1, 2)] {
            let key = Key { digest, executable, twin, age };
            let name = key.name();
            let (directory, rest) = name.split_once('/').unwrap();
            assert_eq!(Key::of_name(directory, rest), Some(key), "{name}");
        }
        let rest = &Key::plain(digest).name()[3..];
        for name in ["", "x", &format!("{rest}-r-0-0"), &format!("{rest}-q-1-1"), &format!("{rest}-r-01-1")] {
            assert_eq!(Key::of_name("ab", name), None, "{name}");
        }
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_the_newest_never() {
        let mut index = Index::default();
        for number in 1..=3 {
            index.insert(key(number), 4096, Some(1), ANN);
        }
        assert!(index.touch(&key(1), ANN).is_some());
        assert_eq!(index.shrink(3 * 4096), []);
        assert_eq!(index.shrink(2 * 4096 + 1000), [key(2)]);
        assert_eq!(index.shrink(1), [key(3)]);
        assert_eq!(index.len(), 1);
    }

    #[test]
    fn a_file_counts_in_whole_blocks() {
        let mut index = Index::default();
        index.insert(key(1), 1, Some(1), ANN);
        index.insert(key(2), 0, Some(1), ANN);
        index.insert(key(3), 1, Some(1), ANN);
        assert_eq!(index.shrink(8192), []);
        assert_eq!(index.shrink(8191), [key(1)]);
    }

    #[test]
    fn a_client_that_fills_the_store_pushes_out_nobody_who_has_less() {
        let mut index = Index::default();
        index.insert(key(1), 4096, Some(1), BOB);
        for number in 2..=20 {
            index.insert(key(number), 4096, Some(1), ANN);
        }
        let out = index.shrink(10 * 4096);
        assert_eq!((out.len(), out.contains(&key(1))), (11, false));
        assert_eq!(out.first(), Some(&key(2)), "what was used longest ago goes first");
    }

    #[test]
    fn a_file_is_whose_who_used_it_last() {
        let mut index = Index::default();
        for number in 1..=4 {
            index.insert(key(number), 4096, Some(1), ANN);
        }
        assert!(index.touch(&key(1), BOB).is_some());
        for number in 5..=8 {
            index.insert(key(number), 4096, Some(1), ANN);
        }
        assert!(!index.shrink(3 * 4096).contains(&key(1)));
        assert!(index.remove(&key(1)) && !index.owned.contains_key(&BOB));
    }
}
