//! Contents of files by digest; the newest of them with their bytes.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::sync::Arc;

use super::super::files::Content;
use crate::common::bytes::Bytes;
use crate::common::toolchain::Digest;

/// Bytes of files that are kept, so that what was scanned can be sent without reading it again.
const KEPT_MAX_BYTES: usize = 64 << 20;

#[derive(Debug)]
struct Entry {
    digest: Digest,
    size: u64,
    bytes: Option<Arc<[u8]>>,
    /// Where it was read.
    path: Box<[u8]>,
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
        if let Some(&content) = self.by_digest.get(&digest) {
            return content;
        }
        let content = self.entries.len() as Content;
        let size = bytes.len();
        self.kept.push_back(content);
        self.kept_bytes += size;
        self.path_bytes += path.len();
        self.entries.push(Entry { digest, size: size as u64, bytes: Some(bytes.into()), path: path.into() });
        self.by_digest.insert(digest, content);
        // The newest stays whatever its size: it is about to be lexed.
        self.keep_at_most(KEPT_MAX_BYTES.max(size));
        content
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
        if let Some(bytes) = &entry.bytes {
            return Some(bytes.clone());
        }
        let bytes = fs::read(Bytes::from(&entry.path[..]).as_path()).ok()?;
        (Digest::of(&bytes) == entry.digest).then(|| bytes.into())
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
