//! The word that opens the owner's page: made when the daemon starts, kept where only its user can read.
//!
//! It is in the part of the address behind `#`, which a browser sends to nobody, and comes back in a header
//! of each request. It counts until the daemon ends.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use crate::common::page::Token;
use crate::common::trust::files::{self, FileError};

/// The file in the folder of keys that holds the page's address, token included.
const FILE: &str = "dashboard";

/// The longest address.
const FILE_MAX_BYTES: u64 = 1 << 10;

/// A daemon's note of its page's address; removed with it, unless another daemon has written its own.
#[derive(Debug)]
pub struct Note {
    path: PathBuf,
    text: String,
}

impl Note {
    /// Writes it.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be kept.
    pub fn write(folder: &Path, address: &str) -> Result<Self, FileError> {
        let path = folder.join(FILE);
        // Nobody but its user may read it, whatever was there before.
        let _ = fs::remove_file(&path);
        let text = format!("{address}\n");
        files::edit(&path, FILE_MAX_BYTES, |_| text.clone())?;
        Ok(Note { path, text })
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if fs::read_to_string(&self.path).is_ok_and(|text| text == self.text) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Where the page of the daemon of this folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// The whole address.
    pub address: String,
    /// Its socket.
    pub at: SocketAddr,
    /// The token.
    pub token: String,
}

/// Reads a daemon's note; none where no daemon has a page.
///
/// # Errors
///
/// Returns why it is not used.
pub fn noted(folder: &Path) -> Result<Option<Noted>, FileError> {
    let text = files::list(&folder.join(FILE), FILE_MAX_BYTES)?;
    Ok(read(text.trim()))
}

fn read(address: &str) -> Option<Noted> {
    let (at, token) = address.strip_prefix("http://")?.split_once("/#")?;
    let is_word = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let at = at.parse().ok().filter(|_| is_word)?;
    Some(Noted { address: address.to_owned(), at, token: token.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn an_address_is_read_as_it_was_written_and_nobody_else_can() {
        let top = tempfile::tempdir().expect("a folder");
        assert_eq!(noted(top.path()).expect("no file is no trouble"), None);
        let token = Token::generate().expect("random numbers");
        let address = token.address("0.0.0.0:3634".parse().expect("an address"));
        let note = Note::write(top.path(), &address).expect("written");
        let mode = fs::metadata(top.path().join(FILE)).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let found = noted(top.path()).expect("read").expect("a note");
        assert_eq!((found.at.to_string().as_str(), &found.address), ("127.0.0.1:3634", &address));
        assert!(token.is(&found.token) && !token.is("") && !token.is(&found.token[1..]));
        drop(note);
        assert_eq!(noted(top.path()).expect("no file is no trouble"), None);
        for nonsense in ["", "http://x/#a", "http://127.0.0.1:1/#", "http://127.0.0.1:1/#a b"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }
}
