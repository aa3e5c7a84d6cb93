//! Whether a compile read what its client says that it reads.
//!
//! The compiler itself tells, where it lists all that it reads ([`crate::common::tells`]). gcc writes a list
//! where `SUNPRO_DEPENDENCIES` says, if its command does not make it write one anyway; it leaves out the
//! source itself. clang has no such variable, but one that adds options: `-MD` makes the list, and changes
//! neither what is compiled nor what is printed. Where it would (in a verbose run, or where the options are
//! recorded in the object), and where the list would not be whole (`-MMD`), nothing is asked, and the kernel
//! tells what was opened instead ([`super::opened`]).

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use crate::common::bytes::Bytes;
use crate::common::classify::expand_responses;
use crate::common::dependencies::{absolute, prerequisites};
use crate::common::inputs::{EntryKind, PRIVATE, reading_digest};
use crate::common::limits::RESPONSE_FILES_MAX_BYTES;
use crate::common::protocol::link::Audit;
use crate::common::tells::{self, List};
use crate::common::toolchain::Digest;
use crate::remote::items::{MustRead, Resolved};
use crate::remote::view::catalogue::Known;

/// The list's name in the job's private folder.
pub const LIST: &str = "read";

/// The longest list that is looked at.
pub const LIST_MAX_BYTES: u64 = 16 << 20;

/// What is told of a difference, in bytes of paths.
const TOLD_MAX_BYTES: usize = 1 << 20;

/// Words of a command that may be its source. Commands have dozens of `-isystem`s with their folders.
const SOURCES_MAX: usize = 256;

/// Links that lead to a driver.
const LINKS_MAX: usize = 16;

/// Where the compiler tells what it read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Teller {
    /// Nowhere, or not all of it.
    None,
    /// In a file of ours, because of this entry of the environment.
    Ours(Bytes),
    /// In a file that its command names, which is one of its products.
    Theirs(Bytes),
    /// In a file that its command makes it write somewhere.
    Somewhere,
}

/// The same job with the words of its response files in their place, as its compiler will have them; as it
/// is where that cannot be told.
pub fn spelt_out<'a>(job: &'a Resolved, open: &dyn Fn(&Known) -> io::Result<File>) -> Cow<'a, Resolved> {
    if !job.arguments.iter().any(|word| word.starts_with(b"@")) {
        return Cow::Borrowed(job);
    }
    let read = |file: &[u8]| {
        let path = climbed(&absolute(&job.cwd, file));
        let known = job.inputs.set.iter().find(|known| known.entry.path == path);
        let known = known.ok_or_else(|| "is no file of the inputs".to_owned())?;
        let mut text = Vec::new();
        let file = open(known).map_err(|error| error.to_string())?;
        let whole = file.take(RESPONSE_FILES_MAX_BYTES as u64 + 1).read_to_end(&mut text);
        whole.map(|_| text).map_err(|error| error.to_string())
    };
    let words: Vec<Bytes> = job.arguments.iter().map(|word| Bytes::clone(word)).collect();
    match expand_responses(&words, &read) {
        Ok(words) => {
            Cow::Owned(Resolved { arguments: words.into_iter().map(Arc::new).collect(), ..job.clone() })
        }
        Err(_) => Cow::Borrowed(job),
    }
}

/// A path without `..`, as far as its text tells. Where links make it another, the compiler's list is found
/// to be missing or to differ, and nothing worse.
fn climbed(path: &[u8]) -> Bytes {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()) {
        match part {
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    [b"/", &parts.join(&b'/')[..]].concat().into()
}

/// Finds out where a compile will tell.
pub fn teller(job: &Resolved) -> Teller {
    if !matches!(job.reads, Some(MustRead::Listed(_))) {
        return Teller::None;
    }
    let words: Vec<&[u8]> = job.arguments.iter().skip(1).map(|word| &word[..]).collect();
    let is_clang = is_clang(job);
    match tells::list(&words, job.environment.iter().map(|entry| &entry[..]), &job.cwd, is_clang) {
        List::Nowhere => Teller::None,
        List::At(path) => Teller::Theirs(path),
        List::Somewhere => Teller::Somewhere,
        // The `#` keeps clang from saying what it was told.
        List::Anywhere if is_clang => ours(format!("CCC_OVERRIDE_OPTIONS=# +-MD +-MF +{PRIVATE}/{LIST}")),
        List::Anywhere => ours(format!("SUNPRO_DEPENDENCIES={PRIVATE}/{LIST}")),
    }
}

fn ours(entry: String) -> Teller {
    Teller::Ours(entry.into_bytes().into())
}

/// Compares what a compile told with what it should have read.
pub fn compare(job: &Resolved, list: Option<&[u8]>) -> Audit {
    let (Some(MustRead::Listed(expected)), Some(list)) = (&job.reads, list) else { return Audit::Unchecked };
    let expected = *expected;
    let Some(names) = prerequisites(list) else { return Audit::Unchecked };
    let read: Vec<Bytes> = names.iter().map(|name| absolute(&job.cwd, name)).collect();
    let agrees = |read: &[Bytes]| is_reading(read, None, expected) || with_source(job, read, expected);
    if agrees(&read) || agrees(&without_named(job, &read)) {
        return Audit::Agrees;
    }
    differs(read)
}

/// Something else was read, namely this.
pub fn differs(read: impl IntoIterator<Item = Bytes>) -> Audit {
    let mut bytes = 0;
    let fits = |path: &Bytes| {
        bytes += path.len();
        bytes <= TOLD_MAX_BYTES
    };
    Audit::Differs { read: read.into_iter().take_while(fits).collect() }
}

fn is_reading(read: &[Bytes], source: Option<&Bytes>, expected: Digest) -> bool {
    reading_digest(read.iter().chain(source).map(|path| &path[..])) == expected
}

/// The same for lists that leave out the source, which is one of the command's words, mostly the last
/// and mostly one with an ending.
fn with_source(job: &Resolved, read: &[Bytes], expected: Digest) -> bool {
    let words = || job.arguments.iter().skip(1).rev().filter(|word| !word.starts_with(b"-"));
    let (ended, bare) =
        (|word: &&Arc<Bytes>| word.contains(&b'.'), |word: &&Arc<Bytes>| !word.contains(&b'.'));
    let words = words().filter(ended).chain(words().filter(bare));
    let mut sources = words.take(SOURCES_MAX).map(|word| absolute(&job.cwd, word));
    sources.any(|source| is_reading(read, Some(&source), expected))
}

/// How the names of clang's own lists of what sanitizers leave alone end.
const LISTS: [&[u8]; 3] = [b"_ignorelist.txt", b"_blacklist.txt", b"_abilist.txt"];

/// The same without what clang lists besides what the source includes: files that options name, and
/// its own lists of what sanitizers leave alone.
fn without_named(job: &Resolved, read: &[Bytes]) -> Vec<Bytes> {
    let value = |word: &Arc<Bytes>| {
        let at = word.iter().position(|&byte| byte == b'=')?;
        word.starts_with(b"-f").then(|| absolute(&job.cwd, &word[at + 1..]))
    };
    let named: Vec<Bytes> = job.arguments.iter().filter_map(value).collect();
    let is_list = |path: &Bytes| LISTS.iter().any(|end| path.ends_with(end));
    read.iter().filter(|path| !named.contains(path) && !is_list(path)).cloned().collect()
}

/// Whether the driver is clang: what it is called, or what a link to it leads to.
fn is_clang(job: &Resolved) -> bool {
    let mut path = job.program.0.clone();
    for _ in 0..LINKS_MAX {
        let name = &path[path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1)..];
        if name.windows(5).any(|part| part == b"clang") {
            return true;
        }
        let Some(target) = link_at(&job.inputs.set, &path) else { return false };
        let folder = &path[..path.iter().rposition(|&byte| byte == b'/').unwrap_or(0)];
        path = if target.starts_with(b"/") { target.to_vec() } else { [folder, b"/", target].concat() };
    }
    false
}

fn link_at<'a>(set: &'a [Arc<Known>], path: &[u8]) -> Option<&'a [u8]> {
    set.iter().find_map(|known| match &known.entry.kind {
        EntryKind::Link { target } if known.entry.path.0 == path => Some(&target[..]),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
