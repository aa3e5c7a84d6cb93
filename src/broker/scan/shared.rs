//! One scanner for the whole broker, and its answer in the form that jobs are made of.
//!
//! [`SharedScanner`] is what the rest of the broker holds. Its calls block (they read files, and
//! the first of a kind runs the compiler for some 20 ms, at most [`super::facts::PATIENCE`] per
//! question), so async code makes them on a blocking thread. An answer is an `Arc` of plain
//! values: it stays what it was, whatever happens on disk afterwards.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::modules::Mentioned;
use super::{Dates, Declined, Report, Scanner, Search};
use crate::common::bytes::Bytes;
use crate::common::toolchain::Digest;

/// What is asked: a command as its compiler would be given it.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The compiler and its arguments, response files expanded.
    pub argv: &'a [Bytes],
    /// The working directory, absolute.
    pub cwd: &'a Bytes,
    /// `NAME=value` each.
    pub env: &'a [Bytes],
    /// The digest of all that the compiler needs, where that is known: of another, it is asked anew.
    pub toolchain: Option<Digest>,
    /// Whether [`InputSet::absent`] is to be filled: some thousand names, so only on request.
    pub absent: bool,
    /// Further directories that the compile needs if they are there, absolute: what else it names.
    pub folders: &'a [Bytes],
}

/// A file that the compile reads or asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputFile {
    /// Its absolute path as the compiler forms it: links, `.` and `..` stand as they are.
    pub path: Arc<[u8]>,
    /// Where it lies: the same path with all links and dots resolved.
    pub real: Arc<[u8]>,
    /// Digest of the very bytes that were scanned.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    /// When the file was modified: seconds and nanoseconds since 1970. gcc compares it for
    /// `#pragma once`, and `__TIMESTAMP__` shows it.
    pub modified: (i64, i64),
    /// Its device and inode: clang takes two files of one inode for one.
    pub inode: (u64, u64),
}

/// A symbolic link on the way to a file or directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InputLink {
    /// Its absolute path; no link and no dots on the way to it.
    pub path: Arc<[u8]>,
    /// What it says, relative or not.
    pub target: Arc<[u8]>,
}

/// All that one compile needs from the file system besides its compiler.
///
/// Laying out `files` and `probed` at their `real` paths, the `links` and the `directories`, and
/// nothing else, gives a tree in which the same command reads the same bytes by the same names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputSet {
    /// What is read, in the order of first reading; the source is the first.
    pub files: Vec<Arc<InputFile>>,
    /// What is opened or asked for by `__has_include`, found, and not read.
    pub probed: Vec<Arc<InputFile>>,
    /// Precompiled headers that lie where the compiler looks for them. Whether it takes one is its own
    /// affair: then it reads that in place of the files in `covered`.
    pub precompiled: Vec<Arc<InputFile>>,
    /// Which of `files` a precompiled header stands for.
    pub covered: std::ops::Range<usize>,
    /// Where those names lead by which the compiler comes to files that it then knows by shorter ones.
    pub aliases: Vec<Arc<[u8]>>,
    /// Links crossed on the way to any of these or to a directory, sorted.
    pub links: Vec<InputLink>,
    /// Directories that must exist even if no file is in them, without links, sorted: the
    /// working directory, all that are searched or in [`Question::folders`], and those that a path
    /// enters and leaves by `..`.
    pub directories: Vec<Arc<[u8]>>,
    /// Names that are looked for and not found, absolute, sorted; empty unless asked for.
    pub absent: Vec<Arc<[u8]>>,
    /// The search chain, in its order.
    pub search: Arc<Search>,
    /// The directories of the chain that are the compiler's own.
    pub own: Arc<[Bytes]>,
    /// Whether any file mentions the date or the time.
    pub clock: Dates,
    /// What the unit says of modules.
    pub modules: Mentioned,
    /// Whether the scanner made it, and not a list of the compiler's.
    pub is_scanned: bool,
}

impl InputSet {
    /// Memory that it has for itself, in bytes, nearly: what files are is shared with others.
    pub fn size(&self) -> usize {
        let files = self.files.len() + self.probed.len() + self.precompiled.len();
        let paths = self.aliases.len() + self.directories.len() + self.absent.len();
        size_of::<Self>() + files * 8 + paths * 16 + self.links.len() * size_of::<InputLink>()
    }

    /// A file among them that the kernel makes up as it is read.
    pub fn of_kernel(&self) -> Option<&[u8]> {
        let mut files = self.files.iter().chain(&self.probed).chain(&self.precompiled);
        let made_up = |path: &[u8]| path.starts_with(b"/proc/") || path.starts_with(b"/sys/");
        files.find_map(|file| made_up(&file.real).then_some(&file.real[..]))
    }
}

/// A scanner that the whole broker shares: sessions ask it one after the other.
#[derive(Debug, Default)]
pub struct SharedScanner {
    scanner: Mutex<Scanner>,
    /// What was remembered after the last scan: so that who asks need not wait for one.
    report: Mutex<Report>,
}

impl SharedScanner {
    /// What a compile reads. Blocking.
    ///
    /// # Errors
    ///
    /// [`Declined`] with the reason, when there is no certain answer.
    pub fn inputs(&self, question: &Question<'_>) -> Result<Arc<InputSet>, Declined> {
        let mut scanner = self.lock();
        let answer = scanner.input_set(question);
        *self.report.lock().unwrap_or_else(PoisonError::into_inner) = scanner.report();
        answer
    }

    /// The answer to a question that was answered before, if nothing is otherwise since. It costs some
    /// microseconds and waits for no scan: while one is made there is none.
    pub fn again(&self, question: &Question<'_>) -> Option<Arc<InputSet>> {
        match self.scanner.try_lock() {
            Ok(mut scanner) => scanner.again(question),
            Err(_) => None,
        }
    }

    /// The bytes that were scanned, from memory or, if they still are there, from disk: what
    /// comes back has this digest. `None` if the file has changed since: scan again. Blocking.
    pub fn bytes(&self, digest: &Digest) -> Option<Arc<[u8]>> {
        self.lock().bytes(digest)
    }

    /// What was remembered after the last scan, in numbers.
    pub fn report(&self) -> Report {
        *self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Scanner> {
        self.scanner.lock().unwrap_or_else(|poisoned: PoisonError<_>| {
            // What a panic left half done is worth nothing.
            let mut scanner = poisoned.into_inner();
            *scanner = Scanner::default();
            self.scanner.clear_poison();
            scanner
        })
    }
}
