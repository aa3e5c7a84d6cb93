//! Where the plugins are that gcc's `-fplugin=NAME` means: `NAME.so` in the driver's own folder of them.
//!
//! Which folder that is depends on the compiler and on what a command says of machines and prefixes
//! (`-m32`, `-B`, `--sysroot=`). So the driver is asked, with the words of the command itself.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::questions::{ask, is_plain, machines, specs};
use crate::common::bytes::Bytes;
use crate::common::classify::Read;
use crate::common::invocation::Invocation;

/// Answers that are remembered of one compiler; beyond it the memory starts afresh.
const REMEMBERED_MAX: usize = 64;

/// The folders of one compiler, by all that a command says of the machine.
#[derive(Debug, Default)]
pub struct PluginFolders(Mutex<HashMap<Vec<Bytes>, PathBuf>>);

impl PluginFolders {
    /// Gives plugins that are named in short their paths. One whose folder there is not keeps its name,
    /// under which nothing can be found.
    pub async fn settle(&self, reads: &mut [Read], program: &Path, words: &[Bytes], invocation: &Invocation) {
        if !reads.iter().any(|read| read.short) {
            return;
        }
        let Some(folder) = self.folder(program, words, invocation).await else { return };
        for read in reads.iter_mut().filter(|read| read.short) {
            read.path = Bytes::from(folder.join(read.path.as_path()).as_path());
            read.short = false;
        }
    }

    async fn folder(&self, program: &Path, words: &[Bytes], invocation: &Invocation) -> Option<PathBuf> {
        let plain = is_plain(words, invocation) && specs(words).is_empty();
        let machines = machines(words);
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if plain && let Some(folder) = known().get(&machines).cloned() {
            return Some(folder);
        }
        let asked = ask(program, words, invocation, "-print-file-name=plugin").await?;
        // What is nowhere is said by its mere name.
        let folder = asked.out.as_path().to_owned();
        if folder == Path::new("plugin") {
            return None;
        }
        if plain && is_first(&folder, &ask(program, words, invocation, "-print-search-dirs").await?.out) {
            let mut known = known();
            if known.len() >= REMEMBERED_MAX {
                known.clear();
            }
            known.insert(machines, folder.clone());
        }
        Some(folder)
    }
}

/// Whether the driver looks for a folder nowhere before: then none can come before it.
fn is_first(folder: &Path, directories: &[u8]) -> bool {
    let install = directories.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"install: "));
    install.is_some_and(|install| Bytes::from(install).as_path().join("plugin") == folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_remembered_where_none_can_come_before_it() {
        let directories = b"install: /usr/lib/gcc/m/12/\nprograms: =/a:/b\nlibraries: =/c\n";
        assert!(is_first(Path::new("/usr/lib/gcc/m/12/plugin"), directories));
        assert!(!is_first(Path::new("/usr/lib/plugin"), directories));
        assert!(!is_first(Path::new("/usr/lib/gcc/m/12/plugin"), b""));
    }
}
