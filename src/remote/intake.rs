//! A preprocessed input on its way into the store and the job's directory: unpacked, bounded, and
//! checked against its digest.

use std::io::{self, Write};
use std::path::Path;

use super::store::{Incoming, Key, Store, is_no_link};
use crate::common::action::Blob;
use crate::common::toolchain::Digest;

/// The largest window that a packed blob may ask the decoder for, as a power of two: 16 MiB of
/// memory. zstd's levels up to 19 stay below it.
pub const WINDOW_LOG_MAX: u32 = 24;

/// Why an input could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The data is not what was announced.
    #[error("the input is not what was announced: {0}")]
    Lie(String),
    /// The volunteer's own file system refused.
    #[error("cannot write the input: {0}")]
    Disk(io::Error),
}

impl From<io::Error> for IntakeError {
    /// What the system refused has a system's error number; the rest is the decoder's verdict.
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(_) => IntakeError::Disk(error),
            None => IntakeError::Lie(error.to_string()),
        }
    }
}

/// An input that is arriving.
pub struct Intake {
    decoder: zstd::stream::write::Decoder<'static, Checked>,
    blob: Blob,
    received: u64,
}

/// Writes through to a file, counts and digests.
struct Checked {
    file: Incoming,
    hasher: blake3::Hasher,
    written: u64,
    max: u64,
}

impl Write for Checked {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written + bytes.len() as u64 > self.max {
            return Err(io::Error::other(format!("it unpacks to more than {} bytes", self.max)));
        }
        let written = self.file.write(bytes)?;
        let taken = bytes.get(..written).unwrap_or(bytes);
        self.hasher.update(taken);
        self.written += taken.len() as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Intake {
    /// Begins an input.
    ///
    /// # Errors
    ///
    /// Returns [`IntakeError::Disk`] when the file cannot be made.
    pub fn start(blob: &Blob, store: &Store) -> Result<Self, IntakeError> {
        let file = store.incoming().map_err(IntakeError::Disk)?;
        let checked = Checked { file, hasher: blake3::Hasher::new(), written: 0, max: blob.size };
        let mut decoder = zstd::stream::write::Decoder::new(checked)?;
        decoder.window_log_max(WINDOW_LOG_MAX)?;
        Ok(Intake { decoder, blob: *blob, received: 0 })
    }

    /// Takes the next piece.
    ///
    /// # Errors
    ///
    /// Returns [`IntakeError`] when the piece is too much or no zstd, or cannot be written.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), IntakeError> {
        self.received += piece.len() as u64;
        if self.received > self.blob.packed {
            return Err(IntakeError::Lie(format!("more than {} packed bytes", self.blob.packed)));
        }
        Ok(self.decoder.write_all(piece)?)
    }

    /// Whether all of it is here.
    pub fn is_complete(&self) -> bool {
        self.received == self.blob.packed
    }

    /// Checks the whole, and puts it at `path` and into the store.
    ///
    /// # Errors
    ///
    /// Returns [`IntakeError`] when length or digest differ from what was announced.
    pub fn finish(mut self, path: &Path, store: &Store) -> Result<(), IntakeError> {
        self.decoder.flush()?;
        let checked = self.decoder.into_inner();
        if checked.written != self.blob.size {
            return Err(IntakeError::Lie(format!("{} bytes, not {}", checked.written, self.blob.size)));
        }
        if Digest(*checked.hasher.finalize().as_bytes()) != self.blob.digest {
            return Err(IntakeError::Lie("its digest differs".to_owned()));
        }
        checked.file.link(path).map_err(IntakeError::Disk)?;
        store.commit(checked.file, &Key::plain(self.blob.digest)).map_err(IntakeError::Disk)
    }
}

/// Makes `path` from the store; false when it is not there.
///
/// # Errors
///
/// Returns [`IntakeError::Disk`] when the link cannot be made.
pub fn from_store(path: &Path, blob: &Blob, store: &Store) -> Result<bool, IntakeError> {
    let key = Key::plain(blob.digest);
    store.look();
    if !store.has(&key) {
        return Ok(false);
    }
    let linked = match store.link(&key, rustix::fs::CWD, path.as_os_str().as_encoded_bytes()) {
        Err(error) if is_no_link(&error) => store.copy(&key, path),
        linked => linked,
    };
    match linked {
        Ok(()) => Ok(true),
        // It went meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            store.lost(&key);
            Ok(false)
        }
        Err(error) => Err(IntakeError::Disk(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(text: &[u8]) -> (Blob, Vec<u8>) {
        let packed = zstd::encode_all(text, 1).unwrap();
        (Blob { digest: Digest::of(text), size: text.len() as u64, packed: packed.len() as u64 }, packed)
    }

    fn store(directory: &tempfile::TempDir) -> Store {
        Store::open(&directory.path().join("store"), 1 << 20).unwrap()
    }

    /// What becomes of `bytes` announced as `blob`; the text when it is taken.
    fn take(blob: &Blob, bytes: &[u8]) -> Result<Vec<u8>, IntakeError> {
        let directory = tempfile::tempdir().unwrap();
        let (path, store) = (directory.path().join("in.i"), store(&directory));
        let mut intake = Intake::start(blob, &store)?;
        for piece in bytes.chunks(7) {
            intake.push(piece)?;
        }
        assert!(intake.is_complete() || (bytes.len() as u64) < blob.packed);
        intake.finish(&path, &store)?;
        Ok(std::fs::read(path).unwrap())
    }

    fn why(result: Result<Vec<u8>, IntakeError>) -> String {
        result.expect_err("a lie").to_string()
    }

    #[test]
    fn a_text_arrives_in_pieces() {
        let text = b"int main(void) { return 0; }\n".repeat(1000);
        let (blob, bytes) = packed(&text);
        assert_eq!(take(&blob, &bytes).unwrap(), text);
        let (blob, bytes) = packed(b"");
        assert_eq!(take(&blob, &bytes).unwrap(), b"");
    }

    #[test]
    fn what_is_not_as_announced_is_refused() {
        let (blob, bytes) = packed(&b"some text ".repeat(500));
        assert!(why(take(&blob, &bytes[..bytes.len() - 1])).contains("announced"));
        assert!(why(take(&blob, &[&bytes[..], b"x"].concat())).contains("more than"));
        assert!(why(take(&Blob { size: blob.size + 1, ..blob }, &bytes)).contains("bytes, not"));
        assert!(why(take(&Blob { digest: Digest::of(b"other"), ..blob }, &bytes)).contains("digest"));
        assert!(why(take(&blob, &vec![b'x'; bytes.len()])).contains("announced"));
    }

    #[test]
    fn a_bomb_stops_at_its_announced_size() {
        let (blob, bytes) = packed(&vec![0; 10_000_000]);
        assert!(why(take(&Blob { size: 1000, ..blob }, &bytes)).contains("more than 1000"));
    }

    #[test]
    fn an_input_is_kept_and_used_again() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory);
        let (blob, bytes) = packed(b"a text");
        let path = |name: &str| directory.path().join(name);
        assert!(!from_store(&path("1"), &blob, &store).unwrap());
        let mut intake = Intake::start(&blob, &store).unwrap();
        intake.push(&bytes).unwrap();
        intake.finish(&path("2"), &store).unwrap();
        assert!(from_store(&path("3"), &blob, &store).unwrap());
        assert_eq!(std::fs::read(path("3")).unwrap(), b"a text");
    }

    #[test]
    fn an_input_larger_than_the_store_is_used_all_the_same() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store"), 10_000).unwrap();
        let (blob, bytes) = packed(&vec![7; 20_000]);
        let mut intake = Intake::start(&blob, &store).unwrap();
        intake.push(&bytes).unwrap();
        intake.finish(&directory.path().join("in.i"), &store).unwrap();
        assert_eq!(std::fs::read(directory.path().join("in.i")).unwrap().len(), 20_000);
        assert!(!from_store(&directory.path().join("again"), &blob, &store).unwrap());
    }
}
