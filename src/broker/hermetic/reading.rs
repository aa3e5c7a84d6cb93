//! What a compile must be found to have read, so that its result counts as audited.
//!
//! Where its compiler lists all that it reads, that list has a digest. Where it does not (`-MMD`), a
//! volunteer sees which files are opened: all that were found must be, and more than what was sent does not
//! exist for the compile. What was sent besides may be opened or not: the toolchain, files that options
//! name, what `__has_include` asks about.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use super::dictionary::Numbered;
use crate::broker::plan::Plan;
use crate::broker::scan::InputSet;
use crate::common::bytes::Bytes;
use crate::common::inputs::{Item, Reading, Runs, reading_digest};
use crate::common::tells::{List, list};
use crate::common::toolchain::Digest;

/// What must have been read by a compile with this environment and these entries, where the scanner found
/// this. `told` are names that are no files, which gcc lists as well.
pub fn reading(
    plan: &Plan,
    cwd: &[u8],
    environment: &[Bytes],
    scanned: &InputSet,
    told: &[Bytes],
    entries: &[Numbered],
) -> Reading {
    let is_clang = plan.compiler.toolchain.clang;
    let hermetic = &plan.job.hermetic;
    // clang lists some of the files that options name, too; and of what it does with a compiled module as its
    // source, nothing.
    let lists_otherwise = is_clang
        && (hermetic.reads.iter().any(|read| !read.response)
            || hermetic.modules.as_ref().is_some_and(|modules| modules.is_source));
    let words: Vec<&[u8]> = plan.expanded.iter().skip(1).map(|word| &word[..]).collect();
    let environment = environment.iter().map(|entry| &entry[..]);
    if lists_otherwise || list(&words, environment, cwd, is_clang) == List::Nowhere {
        // What is in a precompiled header that an option names is not told from the rest, and clang opens none
        // of that, though other includes may lead to it.
        let is_mixed = is_clang && words.contains(&&b"-include-pch"[..]);
        let covered = if is_mixed { 1..scanned.files.len() } else { scanned.covered.clone() };
        return Reading::Opened { apart: apart(scanned, &covered, entries) };
    }
    Reading::Listed(listed(scanned, told, is_clang))
}

/// The digest of what a compile lists.
fn listed(scanned: &InputSet, told: &[Bytes], is_clang: bool) -> Digest {
    // gcc does not know what a precompiled header was made of; clang does.
    let files = scanned.files.iter().enumerate();
    let files = files.filter(|(at, _)| is_clang || !scanned.covered.contains(at)).map(|(_, file)| file);
    // clang lists among its dependencies what `__has_include` found, too.
    let asked = scanned.probed.iter().filter(|_| is_clang);
    let names = files.chain(asked).map(|file| &*file.path).chain(told.iter().map(|name| &name[..]));
    if !is_clang {
        return reading_digest(names);
    }
    let names: Vec<Cow<'_, [u8]>> = names.map(as_clang_lists).collect();
    reading_digest(names.iter().map(|name| &name[..]))
}

/// clang lists names with slashes in the place of backslashes, on every system.
fn as_clang_lists(name: &[u8]) -> Cow<'_, [u8]> {
    match name.contains(&b'\\') {
        true => name.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect(),
        false => name.into(),
    }
}

/// The numbers of files that need not be opened. Of the text that is there as a precompiled header, too,
/// nothing is opened by a compile that takes that header.
fn apart(scanned: &InputSet, covered: &Range<usize>, entries: &[Numbered]) -> Runs {
    let files = scanned.files.iter().enumerate().filter(|(at, _)| !covered.contains(at));
    let must: HashSet<&[u8]> = files.map(|(_, file)| &*file.real).collect();
    let is_apart = |item: &Item| match item {
        Item::Entry(entry) => entry.kind.file().is_some() && !must.contains(&entry.path[..]),
        Item::Word(_) => false,
    };
    let apart = entries.iter().filter(|(_, item)| is_apart(item));
    let mut numbers: Vec<u32> = apart.map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    Runs::of(&numbers)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::broker::scan::InputFile;
    use crate::common::inputs::{Entry, EntryKind, FileEntry};

    const DIGEST: Digest = Digest([0; 32]);

    fn file((path, real): (&str, &str)) -> Arc<InputFile> {
        let (path, real) = (path.as_bytes().into(), real.as_bytes().into());
        Arc::new(InputFile { path, real, digest: DIGEST, size: 0, modified: (0, 0), inode: (0, 0) })
    }

    fn entry(number: u32, path: &str) -> Numbered {
        let file = FileEntry { digest: DIGEST, size: 0, executable: false, twin: 0, age: 0 };
        (number, Arc::new(Item::Entry(Entry { path: path.into(), kind: EntryKind::File(file) })))
    }

    #[test]
    fn all_that_is_read_must_be_opened_and_what_is_sent_besides_may_be() {
        let scanned = InputSet {
            files: [("/w/a.c", "/w/a.c"), ("/w/p.h", "/w/p.h"), ("/u/../x/b.h", "/x/b.h")].map(file).to_vec(),
            probed: vec![file(("/w/asked.h", "/w/asked.h"))],
            precompiled: vec![file(("/w/p.h.gch", "/w/p.h.gch"))],
            ..InputSet::default()
        };
        let paths = ["/x/b.h", "/usr/bin/gcc", "/w/a.c", "/w/p.h", "/w/asked.h", "/w/p.h.gch"];
        let mut entries: Vec<Numbered> =
            paths.iter().enumerate().map(|(at, path)| entry(20 - at as u32, path)).collect();
        entries.push((3, Arc::new(Item::Word("-c".into()))));
        entries.push((4, Arc::new(Item::Entry(Entry { path: "/w".into(), kind: EntryKind::Folder }))));
        assert_eq!(apart(&scanned, &(1..2), &entries).numbers(), Some(vec![15, 16, 17, 19]));
        assert_eq!(apart(&scanned, &(0..0), &entries).numbers(), Some(vec![15, 16, 19]));
    }
}
