//! File sets: what a volunteer of the classic protocol's version 3 is sent instead of a
//! preprocessed text.
//!
//! distccd 3.4 lays the files out below a folder of its own and puts that before the absolute paths
//! of the command. Its own client leaves out the headers of the system, and trusts that the
//! volunteer has the same. Here everything travels: the compiler's own directories are told to the
//! other compiler by `-nostdinc` and `-isystem`, so that nothing but the compiler itself is the
//! volunteer's. Where the folder would show in the object (`-g`, `__FILE__` of an absolute path) the
//! text is sent, as in version 2.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use memchr::memmem;

use super::link::PackedBlob;
use super::plain_file;
use super::plan::{Plan, has_debug};
use super::prepare::Prepared;
use super::scan::{Dates, Declined, InputLink, Question, SharedScanner};
use crate::common::action::Blob;
use crate::common::bytes::Bytes;
use crate::common::classify::{Destination, INCLUDE_LISTS, Place, PreprocessArgument, in_tree};
use crate::common::invocation::Invocation;
use crate::common::limits::CLASSIC_FILES_MAX_BYTES;
use crate::common::protocol::classic::lzo;
use crate::common::toolchain::Digest;

/// What packed files may take in memory, in bytes.
const MEMORY_MAX_BYTES: usize = 256 << 20;

/// An empty file of this name makes distccd 3.4 make a folder.
const PLACEHOLDER: &[u8] = b"forcing_technique_271828";

/// What gcc includes before everything else.
const PREINCLUDE: &[u8] = b"/stdc-predef.h";

/// What tells a compile its own file's name.
const NAMES_ITSELF: [&[u8]; 3] = [b"__FILE__", b"__BASE_FILE__", b"__builtin_FILE"];

/// What lies at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A file; its LZO1X stream.
    File(Arc<[u8]>),
    /// A symbolic link; its target.
    Link(Bytes),
}

/// A whole compile: a command, and what it reads.
#[derive(Debug, PartialEq, Eq)]
pub struct FileSet {
    /// The working directory.
    pub cwd: Bytes,
    /// The arguments, the compiler not among them.
    pub words: Vec<Bytes>,
    /// What is to be laid out, by absolute paths that lead through no link.
    pub entries: Vec<(Bytes, Entry)>,
}

/// Makes file sets, and remembers packed files.
#[derive(Debug, Default)]
pub struct FileSets(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    packed: HashMap<Digest, Packed>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Packed {
    stream: Arc<[u8]>,
    size: u64,
    names_itself: bool,
}

/// Why a job's text is sent instead.
#[derive(Debug, thiserror::Error)]
pub enum NoSet {
    /// The folder would show.
    #[error("{0}")]
    Shows(&'static str),
    /// The volunteer would not understand the command.
    #[error("{0}")]
    Command(String),
    /// Which files it reads is not certain.
    #[error("{0}")]
    Declined(#[from] Declined),
    /// A file cannot be read as it was scanned.
    #[error("{0} changed, or cannot be read")]
    Changed(PathBuf),
}

impl FileSets {
    /// A job's inputs as a file set. Blocking.
    ///
    /// # Errors
    ///
    /// Returns why the text must be sent instead.
    pub fn prepare(
        &self,
        plan: &Plan,
        invocation: &Invocation,
        scanner: &SharedScanner,
    ) -> Result<Prepared, NoSet> {
        let words = words(plan, invocation)?;
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (set, digest) = memory.collect(words, plan, invocation, scanner)?;
        let input = PackedBlob { blob: Blob { digest, size: 0, packed: 0 }, bytes: Arc::default() };
        Ok(Prepared { input, stderr: Vec::new(), dependencies: None, set: Some(Arc::new(set)) })
    }
}

/// The command as the volunteer is to read it, but for the directories of the system.
fn words(plan: &Plan, invocation: &Invocation) -> Result<Vec<Bytes>, NoSet> {
    let job = &plan.job;
    if job.preprocessed || !job.native.is_empty() || has_debug(&plan.arguments) {
        return Err(NoSet::Shows("the volunteer's folder would show in the object"));
    }
    if INCLUDE_LISTS.iter().any(|name| invocation.variable(name).is_some()) {
        return Err(NoSet::Shows("the environment names directories of headers"));
    }
    if let (Some(Destination::File(_) | Destination::Stdout), true) =
        (&job.dependencies, needs_quoting(&job.output))
    {
        return Err(NoSet::Shows("the name of the output would have to be quoted"));
    }
    let mut words: Vec<Bytes> = Vec::new();
    for argument in
        job.preprocess.iter().skip_while(|argument| **argument == PreprocessArgument::Plain("-E".into()))
    {
        match argument {
            PreprocessArgument::Plain(word) => words.push(word.clone()),
            // `-MF` goes with its file.
            PreprocessArgument::DependencyFile => drop(words.pop()),
        }
    }
    if words.iter().any(|word| word.starts_with(b"-Wp,") || memmem::find(word, b"-prefix-map=").is_some()) {
        return Err(NoSet::Shows("options that the volunteer does not look into"));
    }
    words.extend(["-nostdinc", if plan.is_text() { "-S" } else { "-c" }, "-o"].map(Bytes::from));
    words.push(job.output.clone());
    let argv: Vec<Bytes> = [job.compiler.clone()].into_iter().chain(words.iter().cloned()).collect();
    in_tree(&argv, Place { root: b"/root", cwd: &invocation.cwd }).map_err(NoSet::Command)?;
    Ok(words)
}

fn needs_quoting(name: &[u8]) -> bool {
    name.iter().any(|byte| !byte.is_ascii_graphic() || b"$#:\\%*?[".contains(byte))
}

impl Memory {
    fn collect(
        &mut self,
        mut words: Vec<Bytes>,
        plan: &Plan,
        invocation: &Invocation,
        scanner: &SharedScanner,
    ) -> Result<(FileSet, Digest), NoSet> {
        let mut argv = vec![Bytes::from_path(plan.compiler.program.clone())];
        let plain = words.iter().filter(|word| ***word != *b"-nostdinc");
        argv.extend(plain.cloned());
        let question = Question {
            argv: &argv,
            cwd: &invocation.cwd,
            env: &invocation.env,
            toolchain: None,
            absent: false,
            folders: &[],
        };
        let found = scanner.inputs(&question)?;
        let mut clock = found.clock;
        argv.iter().for_each(|word| clock |= Dates::in_word(word));
        if found.of_kernel().is_some() {
            return Err(NoSet::Shows("a file that the volunteer's kernel would make up"));
        }
        if clock.any() {
            return Err(NoSet::Shows("the clock would be the volunteer's"));
        }
        let read = found.files.iter().chain(&found.probed);
        let files: BTreeMap<Bytes, Digest> = read.map(|file| (file.real[..].into(), file.digest)).collect();
        if found.aliases.iter().any(|alias| !files.contains_key(&alias[..])) {
            return Err(NoSet::Shows("a file has several names"));
        }
        let shows = names_absolute(&words);
        let (mut entries, mut size) = (Vec::new(), 0);
        for (path, digest) in &files {
            let packed = self.pack(path.as_path(), *digest)?;
            // Also a header of the system's: its macros name the file that uses them.
            if shows && packed.names_itself {
                return Err(NoSet::Shows("a file says its own name, which is absolute"));
            }
            size += packed.size;
            entries.push((path.clone(), Entry::File(packed.stream)));
        }
        if size > CLASSIC_FILES_MAX_BYTES {
            return Err(NoSet::Shows("the files are too large"));
        }
        let mut hasher = blake3::Hasher::new();
        for (path, digest) in &files {
            hasher.update(path).update(&[0]).update(&digest.0);
        }
        entries.extend(surroundings(&found.links, &found.directories));
        // gcc includes it first of all, but not when it is told -nostdinc.
        if found.files.get(1).is_some_and(|file| file.path.ends_with(PREINCLUDE)) {
            words.splice(0..0, ["-include", "stdc-predef.h"].map(Bytes::from));
        }
        for directory in found.own.iter() {
            words.extend([Bytes::from("-isystem"), directory.clone()]);
        }
        let set = FileSet { cwd: invocation.cwd.clone(), words, entries };
        Ok((set, Digest(*hasher.finalize().as_bytes())))
    }

    /// A file as it was scanned, packed.
    fn pack(&mut self, path: &Path, digest: Digest) -> Result<Packed, NoSet> {
        if let Some(known) = self.packed.get(&digest) {
            return Ok(known.clone());
        }
        let contents = plain_file::read(path).ok().filter(|contents| Digest::of(contents) == digest);
        let contents = contents.ok_or_else(|| NoSet::Changed(path.to_owned()))?;
        let packed = Packed {
            stream: lzo::compress(&contents).into(),
            size: contents.len() as u64,
            names_itself: NAMES_ITSELF.iter().any(|name| memmem::find(&contents, name).is_some()),
        };
        if self.bytes + packed.stream.len() > MEMORY_MAX_BYTES {
            self.packed.clear();
            self.bytes = 0;
        }
        self.bytes += packed.stream.len();
        self.packed.insert(digest, packed.clone());
        Ok(packed)
    }
}

/// Whether the source or a directory of the user's is named by an absolute path.
fn names_absolute(words: &[Bytes]) -> bool {
    let output = words.len().saturating_sub(1);
    let paths = words[..output].iter();
    paths.map(|word| word.strip_prefix(b"-I").unwrap_or(word)).any(|word| word.starts_with(b"/"))
}

/// What must be there besides files, so that each path means the same there as here.
fn surroundings(links: &[InputLink], folders: &[Arc<[u8]>]) -> impl Iterator<Item = (Bytes, Entry)> {
    let empty: Arc<[u8]> = Arc::default();
    let folders = folders.iter().filter(|folder| folder.len() > 1);
    let placeholders = folders.map(move |folder| {
        (Bytes([&folder[..], b"/", PLACEHOLDER].concat()), Entry::File(Arc::clone(&empty)))
    });
    let links = links.iter().map(|link| (link.path[..].into(), Entry::Link(link.target[..].into())));
    placeholders.chain(links)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn links_and_folders_on_the_way_are_noted() {
        let directory = tempfile::tempdir().expect("a directory");
        let top = directory.path().canonicalize().expect("a path");
        std::fs::create_dir_all(top.join("real/sub")).expect("folders");
        std::os::unix::fs::symlink("real", top.join("link")).expect("a link");
        let of = |name: &str| top.join(name).as_os_str().as_bytes().to_vec();
        std::fs::write(top.join("real/x.h"), "").expect("a file");
        std::fs::write(top.join("a.c"), "#include <sub/../x.h>\n").expect("a file");
        let argv = ["gcc", "-nostdinc", "-Ilink", "-c", "a.c"].map(Bytes::from);
        let (cwd, env) = (Bytes::from(top.as_path()), [Bytes::from("PATH=/usr/bin:/bin")]);
        let question =
            Question { argv: &argv, cwd: &cwd, env: &env, toolchain: None, absent: false, folders: &[] };
        let found = SharedScanner::default().inputs(&question).expect("an answer");
        assert_eq!(found.files[1].real[..], of("real/x.h"));
        let entries: Vec<(Bytes, Entry)> = surroundings(&found.links, &found.directories).collect();
        let folder =
            |name: &str| (Bytes([&of(name)[..], b"/", PLACEHOLDER].concat()), Entry::File(Arc::default()));
        let link = (Bytes(of("link")), Entry::Link("real".into()));
        for expected in [folder("real/sub"), folder("real"), link] {
            assert!(entries.contains(&expected), "{expected:?}: {entries:?}");
        }
    }

    #[test]
    fn an_absolute_path_of_the_users_may_show() {
        let check = |line: &str| names_absolute(&line.split(' ').map(Bytes::from).collect::<Vec<_>>());
        assert!(check("-O2 /home/a.c -c -o /x/a.o") && check("-I/x a.c -o a.o") && check("-I /x a.c -o a.o"));
        assert!(!check("-Iinc a.c -DX=/y -c -o /x/a.o"));
    }
}
