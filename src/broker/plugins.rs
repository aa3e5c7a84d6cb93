//! Where the plugins are that gcc's `-fplugin=NAME` means: `NAME.so` in the driver's own folder of them.
//!
//! Which folder that is depends on the compiler and on what a command says of machines and prefixes
//! (`-m32`, `-B`, `--sysroot=`). So the driver is asked, with the words of the command itself.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use tokio::process::Command;
use tokio::time::timeout;

use super::family;
use super::toolchain::QUESTION_TIMEOUT;
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
        let plain = is_plain(words, invocation);
        let machines: Vec<Bytes> = words.iter().filter(|word| word.starts_with(b"-m")).cloned().collect();
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if plain && let Some(folder) = known().get(&machines).cloned() {
            return Some(folder);
        }
        let asked = ask(program, words, invocation, "-print-file-name=plugin").await?;
        // What is nowhere is said by its mere name.
        let folder = PathBuf::from(asked.trim_end_matches('\n'));
        if folder == Path::new("plugin") {
            return None;
        }
        if plain && is_first(&folder, &ask(program, words, invocation, "-print-search-dirs").await?) {
            let mut known = known();
            if known.len() >= REMEMBERED_MAX {
                known.clear();
            }
            known.insert(machines, folder.clone());
        }
        Some(folder)
    }
}

/// Whether nothing but the compiler and what is said of the machine decides.
fn is_plain(words: &[Bytes], invocation: &Invocation) -> bool {
    let moves = |word: &Bytes| {
        let options = [&b"-B"[..], b"-specs", b"--specs", b"--sysroot", b"--prefix", b"-isysroot", b"--gcc"];
        options.iter().any(|option| word.starts_with(option))
    };
    !words.iter().any(moves) && invocation.variable("LIBRARY_PATH").is_none_or(<[u8]>::is_empty)
}

/// Whether the driver looks for a folder nowhere before: then none can come before it.
fn is_first(folder: &Path, directories: &str) -> bool {
    let install = directories.lines().find_map(|line| line.strip_prefix("install: "));
    install.is_some_and(|install| Path::new(install).join("plugin") == folder)
}

/// What the driver prints where the command runs.
async fn ask(program: &Path, words: &[Bytes], invocation: &Invocation, question: &str) -> Option<String> {
    let mut command = Command::new(program);
    let pairs = invocation.env.iter().filter_map(|entry| {
        let at = entry.iter().position(|&byte| byte == b'=')?;
        Some((Bytes::from(&entry[..at]), Bytes::from(&entry[at + 1..])))
    });
    command.env_clear();
    for (name, value) in pairs {
        command.env(name.as_os_str(), value.as_os_str());
    }
    command.args(words.iter().skip(1).map(Bytes::as_os_str)).arg(OsStr::new(question));
    command.current_dir(invocation.cwd.as_path()).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(QUESTION_TIMEOUT, family::output(&mut command)).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_remembered_where_none_can_come_before_it() {
        let directories = "install: /usr/lib/gcc/m/12/\nprograms: =/a:/b\nlibraries: =/c\n";
        assert!(is_first(Path::new("/usr/lib/gcc/m/12/plugin"), directories));
        assert!(!is_first(Path::new("/usr/lib/plugin"), directories));
        assert!(!is_first(Path::new("/usr/lib/gcc/m/12/plugin"), ""));
    }
}
