//! Results of hermetic compiles, kept on this machine's disk.
//!
//! The key holds everything that the result depends on ([`action_digest`]): a hermetic compile sees
//! nothing else. Only results that were audited and do not depend on the time of day are kept; each
//! is checked by its digest whenever it is read, and a volunteer never sees this directory. What a volunteer
//! sent that was caught lying later ([`distrust`]) is not served.

mod disk;
mod distrust;
mod entry;
mod mark;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use self::disk::Disk;
use self::distrust::{Distrusted, Origin};
use super::hermetic::FilesJob;
use super::link::{Author, FilesAnswer};
use crate::common::inputs::{Entry, EntryKind, Item};
use crate::common::invocation::Invocation;
use crate::common::protocol::link::Audit;
use crate::common::settings::{CacheSetting, cache_setting};
use crate::common::toolchain::Digest;
use crate::common::trust::files::may_fill;

/// How much is kept where nobody says, in bytes.
const SIZE_DEFAULT: u64 = 5 << 30;

/// Directories that one broker uses.
const DIRECTORIES_MAX: usize = 16;

/// Results that wait to be written; more are not kept.
const WAITING_MAX: usize = 64;

/// Results that are written together, and how long the first of them waits for others.
const BATCH_MAX: usize = 16;
const BATCH_WAIT: Duration = Duration::from_millis(50);

/// Where one job's result is looked for, and kept.
#[derive(Clone, Debug)]
pub struct Slot {
    disk: Arc<Disk>,
    key: Digest,
}

/// Whether the user named the directory.
fn is_named(invocation: &Invocation) -> bool {
    let set = invocation.variable("DISTCC_CACHE").unwrap_or_default();
    set.split(|&byte| byte == b',').any(|word| word.starts_with(b"/"))
}

/// The results in a directory, unless they would be root's in another user's where nobody asked for that.
fn open_disk(path: &Path, is_named: bool) -> Option<Arc<Disk>> {
    match may_fill(path, rustix::process::geteuid().as_raw()) {
        // In a container, root works in a project of somebody else's.
        _ if is_named => Some(Arc::new(Disk::new(path.to_owned()))),
        Ok(()) => Some(Arc::new(Disk::new(path.to_owned()))),
        Err(error) => {
            tracing::warn!("no results are kept: {error}");
            None
        }
    }
}

/// All caches of one broker.
pub struct Caches {
    /// Those of other users are not used.
    open: Mutex<HashMap<PathBuf, Option<Arc<Disk>>>>,
    to_write: mpsc::Sender<Kept>,
    distrusted: Arc<Distrusted>,
    counts: Counts,
    /// Whether it was said that a setting makes no sense.
    complained: AtomicBool,
}

/// What has been asked for.
#[derive(Debug, Default)]
pub struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    stored: AtomicU64,
}

/// A result on its way to the disk.
#[derive(Debug)]
pub struct Kept {
    slot: Slot,
    answer: Arc<FilesAnswer>,
    origin: Origin,
}

/// Results on their way to the disk.
pub type ToWrite = mpsc::Receiver<Kept>;

impl Caches {
    /// Caches, and what [`Caches::write`] is to be given. Who was caught lying is kept in `keys`.
    pub fn new(keys: Option<&Path>) -> (Self, ToWrite) {
        let (to_write, waiting) = mpsc::channel(WAITING_MAX);
        let distrusted = Arc::new(Distrusted::listed_in(keys.map(|keys| keys.join("distrusted"))));
        let (open, counts, complained) = (Mutex::default(), Counts::default(), AtomicBool::default());
        (Caches { open, to_write, distrusted, counts, complained }, waiting)
    }

    /// Where the result of a job is, if it is anywhere: `None` when its environment wants no cache.
    pub fn slot(&self, job: &FilesJob, invocation: &Invocation) -> Option<Slot> {
        let (directory, size) = match cache_setting(invocation) {
            CacheSetting::Off => return None,
            CacheSetting::Unclear => {
                if !self.complained.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        "DISTCC_CACHE is neither off, an absolute directory nor a size: no results are kept"
                    );
                }
                return None;
            }
            CacheSetting::On { directory, size } => (directory?, size.unwrap_or(SIZE_DEFAULT)),
        };
        let directory = directory.as_path().to_owned();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= DIRECTORIES_MAX && !open.contains_key(&directory) {
            open.clear();
        }
        let disk = open
            .entry(directory)
            .or_insert_with_key(|path| open_disk(path, is_named(invocation)))
            .as_ref()?;
        disk.bound(size);
        Some(Slot { disk: Arc::clone(disk), key: *job.action.get_or_init(|| action_digest(job)) })
    }

    /// Whether there is certainly none: then nobody need go and look.
    pub fn lacks(&self, slot: &Slot) -> bool {
        let lacks = slot.disk.lacks(&slot.key);
        if lacks {
            self.counts.misses.fetch_add(1, Ordering::Relaxed);
        }
        lacks
    }

    /// The kept result, if there is one. Blocking.
    pub fn find(&self, slot: &Slot) -> Option<FilesAnswer> {
        let found = slot.disk.read(&slot.key).and_then(|(answer, origin)| {
            let counts = !self.distrusted.refuses(&origin);
            if !counts {
                slot.disk.forget(&slot.key);
            }
            counts.then_some(answer)
        });
        let count = if found.is_some() { &self.counts.hits } else { &self.counts.misses };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Nothing that this author has sent counts any more. Blocking.
    pub fn distrust(&self, author: &Author) {
        self.distrusted.add(author);
    }

    /// Keeps a result of this author that has been delivered, if it is one to keep.
    pub fn keep(&self, slot: Slot, answer: &Arc<FilesAnswer>, author: &Author) {
        if answer.compiled.audit == Audit::Agrees && answer.compiled.ended.is_success() {
            // When the disk cannot follow, the next build will bring it again.
            let (answer, origin) = (Arc::clone(answer), Origin::now(author));
            let _ = self.to_write.try_send(Kept { slot, answer, origin });
        }
    }

    /// Writes results to disk, some at a time, for as long as the broker lives.
    pub async fn write(&self, mut waiting: ToWrite) {
        while let Some(batch) = gather(&mut waiting).await {
            let distrusted = Arc::clone(&self.distrusted);
            let write = tokio::task::spawn_blocking(move || write_all(&batch, &distrusted));
            match write.await {
                Ok(stored) => drop(self.counts.stored.fetch_add(stored, Ordering::Relaxed)),
                Err(error) => tracing::warn!(%error, "results were not kept"),
            }
        }
    }

    /// Hits, misses and results that were stored.
    pub fn counts(&self) -> (u64, u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.counts.hits), of(&self.counts.misses), of(&self.counts.stored))
    }
}

/// The next results to write: those that come within a moment, since waking a thread costs more than to
/// write one.
async fn gather(waiting: &mut ToWrite) -> Option<Vec<Kept>> {
    let mut batch = vec![waiting.recv().await?];
    let moment = tokio::time::sleep(BATCH_WAIT);
    tokio::pin!(moment);
    while batch.len() < BATCH_MAX {
        tokio::select! {
            next = waiting.recv() => match next {
                Some(next) => batch.push(next),
                None => break,
            },
            () = &mut moment => break,
        }
    }
    Some(batch)
}

/// Writes results; how many are kept.
fn write_all(batch: &[Kept], distrusted: &Distrusted) -> u64 {
    let mut stored = 0;
    for one_disk in batch.chunk_by(|one, next| Arc::ptr_eq(&one.slot.disk, &next.slot.disk)) {
        one_disk[0].slot.disk.writing(|| {
            for Kept { slot, answer, origin } in one_disk {
                let written = match distrusted.refuses(origin) {
                    true => Err(io::Error::other("its author was caught lying")),
                    false => slot.disk.write(&slot.key, answer, origin),
                };
                match written {
                    Ok(()) => stored += 1,
                    Err(error) => tracing::debug!(%error, "a result was not kept"),
                }
            }
        });
    }
    stored
}

/// The digest of all that a hermetic compile's result depends on: its toolchain and its inputs by path
/// and content, its command, environment, directory and terminal. Names that are not there need no
/// place in it: what is not an input does not exist for the compile.
fn action_digest(job: &FilesJob) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("distcc action 1");
    let mut text = |kind: u8, bytes: &[u8]| {
        hasher.update(&[kind]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
    };
    for (_, item) in &job.items {
        match &**item {
            Item::Word(word) => text(0, word),
            Item::Entry(Entry { path, kind }) => {
                text(1, path);
                match kind {
                    EntryKind::Folder => text(2, b""),
                    EntryKind::Link { target } => text(3, target),
                    EntryKind::File(file) => {
                        text(4, &file.digest.0);
                        let [twin, age] = [file.twin, file.age].map(u16::to_le_bytes);
                        text(5, &[&twin[..], &age, &[u8::from(file.executable)]].concat());
                    }
                    EntryKind::Dated { file, modified_s } => {
                        text(4, &file.digest.0);
                        text(9, &modified_s.to_le_bytes());
                    }
                }
            }
        }
    }
    let compile = &job.compile;
    // Which of the words are the command, which the environment.
    text(6, &(compile.argv.len() as u64).to_le_bytes());
    text(7, &(compile.environment.len() as u64).to_le_bytes());
    if let Some(terminal) = compile.terminal {
        text(8, &[terminal.columns.to_le_bytes(), terminal.rows.to_le_bytes()].concat());
    }
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use super::*;
    use crate::broker::hermetic::ToolchainSet;
    use crate::common::bytes::Bytes;
    use crate::common::inputs::{FileEntry, Runs};
    use crate::common::invocation::Terminal;
    use crate::common::protocol::link::Compile;

    fn file(path: &str, content: &str) -> Item {
        let digest = Digest::of(content.as_bytes());
        let kind = EntryKind::File(FileEntry { digest, size: 1, executable: false, twin: 0, age: 0 });
        Item::Entry(Entry { path: Bytes::from(path), kind })
    }

    fn job(entries: &[Item], environment: &[&str], argv: &[&str]) -> FilesJob {
        let word = |word: &&str| Item::Word(Bytes::from(*word));
        let words = environment.iter().map(word).chain(argv.iter().map(word));
        let items: Vec<Item> = entries.iter().cloned().chain(words).collect();
        let compile = Compile {
            program: 0,
            argv: vec![0; argv.len()],
            environment: vec![0; environment.len()],
            cwd: 0,
            terminal: None,
            inputs: Runs::default(),
            reads: None,
            tells_temporary: false,
        };
        let toolchain = ToolchainSet { digest: Digest([0; 32]), generation: 0, items: Vec::new() };
        let items = items.into_iter().enumerate().map(|(at, item)| (at as u32, Arc::new(item))).collect();
        let (toolchain, scanned, action) = (Arc::new(toolchain), Arc::default(), OnceLock::new());
        FilesJob {
            generation: 0,
            items,
            compile,
            toolchain,
            scanned,
            modules: Default::default(),
            is_of_now: false,
            action,
        }
    }

    #[test]
    fn the_numbers_of_items_do_not_count() {
        let mut other = job(&[file("/a", "1")], &["A=1"], &["gcc"]);
        other.items.iter_mut().for_each(|(number, _)| *number += 7);
        assert_eq!(action_digest(&other), action_digest(&job(&[file("/a", "1")], &["A=1"], &["gcc"])));
    }

    #[test]
    fn whatever_may_change_the_result_changes_the_key() {
        let [a, b] = [("/a", "1"), ("/b", "2")].map(|(path, content)| file(path, content));
        let base = || job(&[a.clone(), b.clone()], &["A=1"], &["gcc", "-c"]);
        let mut terminal = base();
        terminal.compile.terminal = Some(Terminal::default());
        let others = [
            // Two headers that changed places.
            job(&[file("/a", "2"), file("/b", "1")], &["A=1"], &["gcc", "-c"]),
            // Another checkout.
            job(&[file("/x/a", "1"), file("/x/b", "2")], &["A=1"], &["gcc", "-c"]),
            // A header that appeared.
            job(&[a.clone(), b.clone(), file("/c", "3")], &["A=1"], &["gcc", "-c"]),
            // Another order of directories.
            job(&[a.clone(), b.clone()], &["A=1"], &["-c", "gcc"]),
            job(&[a.clone(), b.clone()], &[], &["A=1", "gcc", "-c"]),
            job(&[a.clone(), b.clone()], &["A=2"], &["gcc", "-c"]),
            terminal,
        ];
        for (at, other) in others.iter().enumerate() {
            assert_ne!(action_digest(other), action_digest(&base()), "{at}");
        }
    }
}
