//! Digests of files, remembered while the files stand unchanged.
//!
//! Compilers are large and share their parts (gcc and g++ all but the driver), so each state of a
//! file is read once, and several files at a time.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::NotClosed;
use crate::broker::stamp::Stamp;
use crate::common::bytes::Bytes;
use crate::common::toolchain::Digest;

/// Files remembered; beyond it the memory starts afresh.
const REMEMBERED_MAX: usize = 64 << 10;
/// Files read at a time: more would take from the build what they give to its first job.
const READERS_MAX: usize = 4;

/// The digests known so far.
#[derive(Default)]
pub struct Digests {
    known: Mutex<HashMap<Stamp, Digest>>,
}

impl Digests {
    /// The digests of `files`, in their order; each is a plain path, with its stamp.
    ///
    /// # Errors
    ///
    /// [`NotClosed`] for a file that cannot be read, or whose stamp is another by now.
    pub fn of(&self, files: &[(&Path, Stamp)]) -> Result<Vec<Digest>, NotClosed> {
        let mut unknown: Vec<(&Path, Stamp)> = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            files.iter().copied().filter(|(_, stamp)| !known.contains_key(stamp)).collect()
        };
        // The largest first, so that none is begun when the others are done.
        unknown.sort_by_key(|(_, stamp)| std::cmp::Reverse(stamp.size));
        let fresh = read_all(&unknown)?;
        let fresh: HashMap<Stamp, Digest> = unknown.iter().map(|(_, stamp)| *stamp).zip(fresh).collect();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = |(path, stamp): &(&Path, Stamp)| {
            let digest = fresh.get(stamp).or_else(|| known.get(stamp)).copied();
            digest.ok_or_else(|| NotClosed::Changing { path: Bytes::from(*path) })
        };
        let digests = files.iter().map(digest).collect();
        if known.len() + fresh.len() > REMEMBERED_MAX {
            known.clear();
        }
        // A next change in the same tick of the clock would not show.
        known.extend(fresh.into_iter().filter(|(stamp, _)| stamp.is_settled()));
        digests
    }
}

fn read_all(files: &[(&Path, Stamp)]) -> Result<Vec<Digest>, NotClosed> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let readers = cores.min(READERS_MAX).min(files.len());
    if readers <= 1 {
        return files.iter().map(|(path, stamp)| read(path, *stamp)).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some((at, (path, stamp))) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| files.get(at).map(|file| (at, file)))
        {
            done.push((at, read(path, *stamp)));
        }
        done
    };
    let mut done: Vec<(usize, Result<Digest, NotClosed>)> = std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..readers).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        done.extend(helpers.into_iter().flat_map(|helper| helper.join().unwrap_or_default()));
        done
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, digest)| digest).collect()
}

/// Reads one file, which is what it was when it got its stamp.
fn read(path: &Path, stamp: Stamp) -> Result<Digest, NotClosed> {
    let failed =
        |error: std::io::Error| NotClosed::Unreadable { path: Bytes::from(path), why: error.to_string() };
    let changing = || NotClosed::Changing { path: Bytes::from(path) };
    let file = File::open(path).map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&file).map_err(failed)?;
    let after = Stamp::of(&file.metadata().map_err(failed)?);
    if after != stamp || hasher.count() != stamp.size {
        return Err(changing());
    }
    Ok(Digest(*hasher.finalize().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_come_in_the_order_of_the_files_and_follow_their_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let paths: Vec<_> = (0..20).map(|n| folder.path().join(format!("f{n}"))).collect();
        let write = |n: usize, text: &str| std::fs::write(&paths[n], text).expect("written");
        for n in 0..20 {
            write(n, &"x".repeat(n * 100));
        }
        let digests = Digests::default();
        let all = || {
            let stamps: Vec<_> = paths.iter().map(|path| Stamp::at(path).expect("there")).collect();
            let files: Vec<_> = paths.iter().map(std::path::PathBuf::as_path).zip(stamps).collect();
            digests.of(&files).expect("read")
        };
        let expected = |n: usize| Digest::of("x".repeat(n * 100).as_bytes());
        assert_eq!(all(), (0..20).map(expected).collect::<Vec<_>>());
        write(7, &"y".repeat(700));
        assert_eq!(all()[7], Digest::of("y".repeat(700).as_bytes()));
    }

    #[test]
    fn a_file_that_changed_since_its_stamp_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        std::fs::write(&path, "1").expect("written");
        let stamp = Stamp::at(&path).expect("there");
        std::fs::write(&path, "22").expect("written");
        let error = Digests::default().of(&[(&path, stamp)]);
        assert_eq!(error, Err(NotClosed::Changing { path: Bytes::from(path.as_path()) }));
    }
}
