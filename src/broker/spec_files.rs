//! Which files of specs gcc reads for a command, and whether what they say can be told.
//!
//! gcc looks for `-specs=NAME` in its own folders first (newlib's `nano.specs` is found so), then takes it for a file of the
//! working directory. So the driver is asked. The answer holds for as long as nothing is added to or taken from these
//! folders; the text is looked at each time.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::plan::read_response_file;
use super::questions::{ask, is_plain, machines, search_directories, specs};
use super::stamp::Stamp;
use super::toolchain::Compiler;
use crate::common::bytes::Bytes;
use crate::common::classify::{Read, plain_specs};
use crate::common::invocation::Invocation;

/// Answers that are remembered of one compiler; beyond it the memory starts afresh.
const REMEMBERED_MAX: usize = 64;

/// The files of one compiler, by all that a command says of them.
#[derive(Debug, Default)]
pub struct SpecFiles(Mutex<HashMap<Vec<Bytes>, Found>>);

/// What gcc reads, while its folders are as they were.
#[derive(Clone, Debug)]
struct Found {
    files: Vec<Bytes>,
    folders: Vec<(PathBuf, Option<Stamp>)>,
}

impl SpecFiles {
    /// Puts the files that the driver reads in the place of names that it looks for; `false` when one of them is not to
    /// be found, or says what cannot be told.
    pub async fn settle(
        &self,
        reads: &mut Vec<Read>,
        compiler: &Compiler,
        words: &[Bytes],
        invocation: &Invocation,
    ) -> bool {
        if !reads.iter().any(|read| read.specs) {
            return true;
        }
        reads.retain(|read| !read.specs);
        if compiler.toolchain.clang {
            // It reads none.
            return true;
        }
        let Some(files) = self.files(compiler, words, invocation).await else { return false };
        let cwd = invocation.cwd.as_path();
        let is_plain = |file: &Bytes| read_response_file(cwd, file).is_ok_and(|text| plain_specs(&text));
        let are_plain = files.iter().all(is_plain);
        reads.extend(files.iter().map(|file| Read::needed(file)));
        are_plain
    }

    async fn files(
        &self,
        compiler: &Compiler,
        words: &[Bytes],
        invocation: &Invocation,
    ) -> Option<Vec<Bytes>> {
        let named = specs(words);
        let key = [machines(words), named.clone(), vec![invocation.cwd.clone()]].concat();
        let is_plain = is_plain(words, invocation);
        if is_plain && let Some(files) = self.remembered(&key) {
            return Some(files);
        }
        let before = folders(compiler, named, invocation).await?;
        let said = ask(&compiler.program, words, invocation, "-###").await?;
        let lines = said.err.split(|&byte| byte == b'\n');
        let files: Vec<Bytes> =
            lines.filter_map(|line| line.strip_prefix(b"Reading specs from ")).map(Bytes::from).collect();
        let has_settled = |(path, stamp): &(PathBuf, Option<Stamp>)| {
            Stamp::at(path) == *stamp && stamp.is_none_or(|stamp| stamp.is_settled())
        };
        if is_plain && before.iter().all(has_settled) {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= REMEMBERED_MAX {
                known.clear();
            }
            known.insert(key, Found { files: files.clone(), folders: before });
        }
        Some(files)
    }

    fn remembered(&self, key: &[Bytes]) -> Option<Vec<Bytes>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()?;
        known.folders.iter().all(|(path, stamp)| Stamp::at(path) == *stamp).then_some(known.files)
    }
}

/// Where the driver looks for specs, and how that looks now. It does so before it knows what the command says of the machine.
async fn folders(
    compiler: &Compiler,
    named: Vec<Bytes>,
    invocation: &Invocation,
) -> Option<Vec<(PathBuf, Option<Stamp>)>> {
    let words: Vec<Bytes> = [vec![Bytes::from(compiler.program.as_path())], named].concat();
    let said = ask(&compiler.program, &words, invocation, "-print-search-dirs").await?;
    let folders =
        search_directories(&said.out, "libraries").map(|folder| Bytes::from(folder).as_path().to_owned());
    Some(folders.map(|folder| (folder.clone(), Stamp::at(&folder))).collect())
}
