//! Which folders a tree has, and why: because they are named, or for what is in them.
//!
//! Pure. Says what to make and what to remove; [`super::farm`] does it.

use std::collections::{BTreeSet, HashMap};

use crate::common::bytes::Bytes;

/// The folders of a tree, by path from its root without a slash at the beginning; the root is not
/// among them.
#[derive(Debug, Default)]
pub struct Folders {
    /// How many reasons each has: things in it, and names for it.
    reasons: HashMap<Bytes, u32>,
    /// Those that may have lost their last one.
    idle: BTreeSet<Bytes>,
}

impl Folders {
    /// One more reason for a folder; those that must be made now are appended to `make`, outer
    /// ones first.
    pub fn hold(&mut self, path: &[u8], make: &mut Vec<Bytes>) {
        if path.is_empty() {
            return;
        }
        if let Some(reasons) = self.reasons.get_mut(path) {
            *reasons += 1;
            return;
        }
        self.hold(parent(path), make);
        make.push(path.into());
        self.reasons.insert(path.into(), 1);
    }

    /// One reason less for a folder, which goes at the next [`Self::clear`] unless it gets another.
    pub fn release(&mut self, path: &[u8]) {
        let Some(reasons) = self.reasons.get_mut(path) else { return };
        *reasons -= 1;
        if *reasons == 0 {
            self.idle.insert(path.into());
        }
    }

    /// The folders that have no reason left, inner ones first.
    pub fn clear(&mut self) -> Vec<Bytes> {
        let mut remove = Vec::new();
        while let Some(path) = self.idle.pop_last() {
            if self.reasons.get(&path) != Some(&0) {
                continue;
            }
            self.reasons.remove(&path);
            self.release(parent(&path));
            remove.push(path);
        }
        remove
    }

    /// Takes back a [`Self::hold`] whose folders could be made only up to `first`, exclusive.
    pub fn forget(&mut self, make: &[Bytes], first: &Bytes) {
        let begin = make.iter().position(|path| path == first).unwrap_or(make.len());
        for path in make.iter().skip(begin).rev() {
            self.reasons.remove(path);
        }
        self.release(parent(first));
    }

    /// Whether there is such a folder.
    pub fn has(&self, path: &[u8]) -> bool {
        path.is_empty() || self.reasons.get(path).is_some_and(|&reasons| reasons > 0)
    }
}

/// The folder that something is in; of a name at the top, nothing.
pub fn parent(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|&byte| byte == b'/').unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(folders: &mut Folders, path: &str) -> Vec<String> {
        let mut make = Vec::new();
        folders.hold(path.as_bytes(), &mut make);
        make.iter().map(Bytes::to_text).collect()
    }

    fn cleared(folders: &mut Folders) -> Vec<String> {
        folders.clear().iter().map(Bytes::to_text).collect()
    }

    #[test]
    fn folders_are_made_from_outside_and_removed_from_inside() {
        let mut folders = Folders::default();
        assert_eq!(held(&mut folders, "a/b/c"), ["a", "a/b", "a/b/c"]);
        assert_eq!(held(&mut folders, "a/b/d"), ["a/b/d"]);
        folders.release(b"a/b/c");
        assert_eq!(cleared(&mut folders), ["a/b/c"]);
        folders.release(b"a/b/d");
        assert_eq!(cleared(&mut folders), ["a/b/d", "a/b", "a"]);
        assert!(!folders.has(b"a") && folders.has(b""));
    }

    #[test]
    fn a_folder_that_gets_another_reason_stays() {
        let mut folders = Folders::default();
        held(&mut folders, "a/b");
        folders.release(b"a/b");
        assert_eq!(held(&mut folders, "a/b"), [] as [String; 0]);
        assert_eq!(cleared(&mut folders), [] as [String; 0]);
        assert!(folders.has(b"a/b"));
    }

    #[test]
    fn a_folder_with_a_name_stays_when_it_is_empty() {
        let mut folders = Folders::default();
        held(&mut folders, "a");
        held(&mut folders, "a/b");
        folders.release(b"a/b");
        assert_eq!(cleared(&mut folders), ["a/b"]);
        assert!(folders.has(b"a"));
    }
}
