//! A bundle on its way into the store: one zstd frame of files, one behind the other.
//!
//! Each file is checked against its size and digest. What is not as announced is a lie and ends the
//! link. What this machine cannot take is no lie: it is swallowed, and told at the end.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;

use crate::common::inputs::FileEntry;
use crate::common::protocol::link::Refusal;
use crate::common::toolchain::Digest;
use crate::remote::compile::disk_refusal;
use crate::remote::intake::WINDOW_LOG_MAX;
use crate::remote::store::{Incoming, Key, Store};

/// A bundle that arrives.
pub struct Bundle {
    decoder: zstd::stream::write::Decoder<'static, Files>,
    missing: u64,
}

/// What is not as announced.
#[derive(Debug, thiserror::Error)]
#[error("a bundle is not what was announced: {0}")]
pub struct Lie(String);

/// Takes the unpacked bytes apart.
struct Files {
    store: Arc<Store>,
    waiting: VecDeque<FileEntry>,
    current: Option<Current>,
    trouble: Option<Refusal>,
}

struct Current {
    wanted: FileEntry,
    left: u64,
    hasher: blake3::Hasher,
    /// Where it is written; nowhere after trouble.
    file: Option<Incoming>,
}

impl Bundle {
    /// A bundle of these files, of which `packed` bytes will come.
    ///
    /// # Errors
    ///
    /// Returns what the decoder says, which is that there is no memory.
    pub fn new(files: Vec<FileEntry>, packed: u64, store: Arc<Store>) -> io::Result<Self> {
        let files = Files { store, waiting: files.into(), current: None, trouble: None };
        let mut decoder = zstd::stream::write::Decoder::new(files)?;
        decoder.window_log_max(WINDOW_LOG_MAX)?;
        Ok(Bundle { decoder, missing: packed })
    }

    /// Takes nothing of it, for this reason, which is told at its end.
    pub fn swallowed(mut self, why: Refusal) -> Self {
        self.decoder.get_mut().trouble.get_or_insert(why);
        self
    }

    /// Takes the next piece.
    ///
    /// # Errors
    ///
    /// Returns [`Lie`] for what is not as announced.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), Lie> {
        let length = piece.len() as u64;
        self.missing = self.missing.checked_sub(length).ok_or_else(|| Lie("too many bytes".to_owned()))?;
        self.decoder.write_all(piece).map_err(|error| Lie(error.to_string()))
    }

    /// Whether all of it is here.
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Checks that nothing is missing. What could not be taken, if so, is in the answer.
    ///
    /// # Errors
    ///
    /// Returns [`Lie`] for what is not as announced.
    pub fn finish(mut self) -> Result<Option<Refusal>, Lie> {
        let lie = |error: io::Error| Lie(error.to_string());
        self.decoder.flush().map_err(lie)?;
        let mut files = self.decoder.into_inner();
        // Empty files have no bytes that would make them begin.
        files.advance().map_err(lie)?;
        if files.current.is_some() || !files.waiting.is_empty() {
            return Err(Lie("it ends too early".to_owned()));
        }
        Ok(files.trouble)
    }
}

impl Write for Files {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.advance()?;
        let Some(current) = &mut self.current else {
            return Err(io::Error::other("it unpacks to more than its files"));
        };
        let taken = usize::try_from(current.left).unwrap_or(usize::MAX).min(bytes.len());
        let bytes = &bytes[..taken];
        current.hasher.update(bytes);
        current.left -= taken as u64;
        let written = current.file.as_mut().map_or(Ok(()), |file| file.write_all(bytes));
        self.note(written);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Files {
    /// Ends files that are whole, and begins the next one that has bytes.
    fn advance(&mut self) -> io::Result<()> {
        loop {
            match self.current.take_if(|current| current.left == 0) {
                Some(whole) => self.keep(whole)?,
                None if self.current.is_some() => return Ok(()),
                None => {}
            }
            let Some(wanted) = self.waiting.pop_front() else { return Ok(()) };
            let file = if self.trouble.is_none() { self.store.incoming().map(Some) } else { Ok(None) };
            let file = file.map_err(|error| self.note(Err(error))).unwrap_or_default();
            self.current = Some(Current { wanted, left: wanted.size, hasher: blake3::Hasher::new(), file });
        }
    }

    fn keep(&mut self, whole: Current) -> io::Result<()> {
        let Current { wanted, hasher, file, .. } = whole;
        if Digest(*hasher.finalize().as_bytes()) != wanted.digest {
            return Err(io::Error::other("the digest of a file differs"));
        }
        // Twins are made of this one when they are needed.
        let key = Key { executable: wanted.executable, ..Key::plain(wanted.digest) };
        let kept = file.map_or(Ok(()), |file| self.store.commit(file, &key));
        self.note(kept);
        Ok(())
    }

    /// Remembers the first trouble; after it nothing is written any more.
    fn note(&mut self, done: io::Result<()>) {
        if let Err(error) = done {
            self.trouble.get_or_insert_with(|| disk_refusal("write an input", &error));
            if let Some(current) = &mut self.current {
                current.file = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &[u8]) -> FileEntry {
        FileEntry { digest: Digest::of(text), size: text.len() as u64, executable: false, twin: 0, age: 0 }
    }

    fn store(directory: &tempfile::TempDir) -> Arc<Store> {
        Arc::new(Store::open(&directory.path().join("store"), 1 << 20).unwrap())
    }

    /// Sends `text` for these files, in pieces of 3 bytes, with `packed` bytes announced.
    fn send(store: &Arc<Store>, files: &[FileEntry], text: &[u8]) -> Result<Option<Refusal>, Lie> {
        let packed = zstd::encode_all(text, 1).unwrap();
        let mut bundle = Bundle::new(files.to_vec(), packed.len() as u64, Arc::clone(store)).unwrap();
        for piece in packed.chunks(3) {
            bundle.push(piece)?;
        }
        assert!(bundle.is_complete());
        bundle.finish()
    }

    #[test]
    fn files_arrive_one_behind_the_other() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory);
        let texts: [&[u8]; 5] = [b"", b"one", b"", b"two and more", b""];
        let files = texts.map(entry);
        assert_eq!(send(&store, &files, &texts.concat()).unwrap(), None);
        for text in texts {
            let mut found = Vec::new();
            let key = Key::plain(Digest::of(text));
            assert!(store.has(&key));
            io::Read::read_to_end(&mut store.read(&key).unwrap(), &mut found).unwrap();
            assert_eq!(found, text);
        }
    }

    #[test]
    fn what_is_not_as_announced_is_a_lie_and_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory);
        let why =
            |files: &[FileEntry], text: &[u8]| send(&store, files, text).expect_err("a lie").to_string();
        let files = [entry(b"one"), entry(b"two")];
        assert!(why(&files, b"onetwo!").contains("more than its files"));
        assert!(why(&files, b"onetw").contains("too early"));
        assert!(why(&files, b"one").contains("too early"));
        let mut bundle = Bundle::new(files.to_vec(), 5, Arc::clone(&store)).unwrap();
        assert!(bundle.push(b"123456").is_err());
        let mut bundle = Bundle::new(files.to_vec(), 500, store).unwrap();
        assert!(bundle.push(&[b'x'; 400]).is_err());
    }

    #[test]
    fn a_bomb_stops_at_its_announced_size() {
        let directory = tempfile::tempdir().unwrap();
        let error = send(&store(&directory), &[entry(b"tiny")], &vec![0; 10_000_000]).expect_err("a bomb");
        assert!(error.to_string().contains("more than its files") || error.to_string().contains("digest"));
    }

    #[test]
    fn a_disk_that_takes_nothing_is_trouble_and_no_lie() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory);
        std::fs::remove_dir_all(directory.path().join("store/incoming")).unwrap();
        let trouble = send(&store, &[entry(b"one"), entry(b"two")], b"onetwo").unwrap();
        assert!(matches!(trouble, Some(Refusal::Failed { .. })), "{trouble:?}");
    }
}
