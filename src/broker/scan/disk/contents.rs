//! Contents of files by digest; the newest of them with their bytes.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::super::files::Content;
use crate::broker::plain_file;
use crate::common::bytes::Bytes;
use crate::common::toolchain::Digest;

/// Bytes of files that are kept, so that what was scanned can be sent without reading it again.
const KEPT_MAX_BYTES: usize = 64 << 20;

#[derive(Debug)]
struct Entry {
    digest: Digest,
    size: u64,
    bytes: Option<Arc<[u8]>>,
    /// Where it was read last.
    path: Box<[u8]>,
}

impl Entry {
    /// What is at `path`, if it still is this.
    fn read(&self, path: &[u8]) -> Option<Arc<[u8]>> {
        let bytes = plain_file::read(Bytes::from(path).as_path()).ok()?;
        (Digest::of(&bytes) == self.digest).then(|| bytes.into())
    }
}

/// All contents read so far.
#[derive(Debug, Default)]
pub(super) struct Contents {
    entries: Vec<Entry>,
    by_digest: HashMap<Digest, Content>,
    /// Contents whose bytes are kept, the oldest first, and how many bytes these are.
    kept: VecDeque<Content>,
    kept_bytes: usize,
    path_bytes: usize,
}

impl Contents {
    /// The number of these bytes, read at `path`.
    pub fn add(&mut self, bytes: Vec<u8>, path: &[u8]) -> Content {
        let digest = Digest::of(&bytes);
        let size = bytes.len();
        let content = match self.by_digest.get(&digest) {
            Some(&content) => content,
            None => {
                let content = self.entries.len() as Content;
                self.entries.push(Entry { digest, size: size as u64, bytes: None, path: Box::default() });
                self.by_digest.insert(digest, content);
                content
            }
        };
        self.moved(content, path);
        let entry = &mut self.entries[content as usize];
        if entry.bytes.is_none() {
            entry.bytes = Some(bytes.into());
            self.kept.push_back(content);
            self.kept_bytes += size;
        }
        // The newest stays whatever its size: it is about to be lexed.
        self.keep_at_most(KEPT_MAX_BYTES.max(size));
        content
    }

    /// Notes where it was read last: where that was before, it may be gone.
    fn moved(&mut self, content: Content, path: &[u8]) {
        let entry = &mut self.entries[content as usize];
        if *entry.path != *path {
            self.path_bytes = self.path_bytes - entry.path.len() + path.len();
            entry.path = path.into();
        }
    }

    /// Gives up the oldest bytes beyond a sum.
    pub fn keep_at_most(&mut self, most: usize) {
        while self.kept_bytes > most
            && let Some(oldest) = self.kept.pop_front()
        {
            let entry = &mut self.entries[oldest as usize];
            self.kept_bytes -= entry.bytes.take().map_or(0, |bytes| bytes.len());
        }
    }

    /// The bytes, from memory or from where they were read, if they still are there.
    pub fn bytes(&self, content: Content) -> Option<Arc<[u8]>> {
        let entry = self.entries.get(content as usize)?;
        entry.bytes.clone().or_else(|| entry.read(&entry.path))
    }

    /// The same of what was found at `path`, too: where it was read first, it may be gone.
    pub fn bytes_at(&mut self, content: Content, path: &[u8]) -> Option<Arc<[u8]>> {
        if let Some(bytes) = self.bytes(content) {
            return Some(bytes);
        }
        let bytes = self.entries.get(content as usize)?.read(path)?;
        self.moved(content, path);
        Some(bytes)
    }

    pub fn number(&self, digest: &Digest) -> Option<Content> {
        self.by_digest.get(digest).copied()
    }

    pub fn digest(&self, content: Content) -> Digest {
        self.entries.get(content as usize).map_or(Digest([0; 32]), |entry| entry.digest)
    }

    pub fn length(&self, content: Content) -> u64 {
        self.entries.get(content as usize).map_or(0, |entry| entry.size)
    }

    /// Memory in use, in bytes, nearly.
    pub fn size(&self) -> usize {
        self.entries.len() * (size_of::<Entry>() + 48) + self.path_bytes + self.kept_bytes
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_read_in_a_tree_that_is_gone_is_there_where_it_is_found_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| Bytes::from(directory.path().join(name).as_path());
        for name in ["old", "new"] {
            fs::write(path(name).as_path(), "text").expect("written");
        }
        let mut contents = Contents::default();
        let content = contents.add(b"text".to_vec(), &path("old"));
        contents.keep_at_most(0);
        fs::remove_file(path("old").as_path()).expect("removed");
        assert_eq!(contents.bytes(content), None);
        assert_eq!(contents.bytes_at(content, &path("new")).as_deref(), Some(&b"text"[..]));
        assert_eq!(contents.bytes(content).as_deref(), Some(&b"text"[..]), "it is known where it is now");
        assert_eq!(contents.size(), Contents::default().size() + size_of::<Entry>() + 48 + path("new").len());
    }

    #[test]
    fn what_is_read_again_is_kept_again() {
        let mut contents = Contents::default();
        let content = contents.add(b"text".to_vec(), b"/gone");
        contents.keep_at_most(0);
        assert_eq!(contents.bytes(content), None);
        assert_eq!(contents.add(b"text".to_vec(), b"/gone/too"), content);
        assert_eq!(contents.add(b"text".to_vec(), b"/gone/too"), content);
        assert_eq!((contents.bytes(content).as_deref(), contents.kept_bytes), (Some(&b"text"[..]), 4));
    }
}
