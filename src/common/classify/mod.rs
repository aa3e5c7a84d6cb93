//! Reads a compiler's command line and says whether, and how, it can leave the client.
//!
//! A pure function over words: it opens no file (response files come from a callback), looks at
//! no environment, and knows the compiler by name only. What it does not know stays here.
//!
//! - `options` is the table of options, `table` how one is found in it;
//! - `scan` walks over the words, `verdict` draws the conclusion;
//! - `pieces` reads the comma lists `-Wp,…` and `-Wa,…`, `response` the `@file`s;
//! - `names` knows suffixes, output names and probes;
//! - `classic` knows what a daemon of distcc 3.4 would refuse;
//! - `effects` says what options read and write besides, `products` which files that makes;
//!   `existing` what becomes of files that are there, `specs` what specs may say;
//!   `hermetic` is what comes of it: the command as it stands, run among the client's own files;
//!   `modules` what it says of C++20 modules;
//! - `remote` is the other end: what a volunteer accepts, by the same table; `tree` does that for
//!   commands whose files come along;
//! - `environment` does the same for environment variables.

mod classic;
mod effects;
mod environment;
mod existing;
mod hermetic;
mod modules;
mod names;
mod options;
mod pieces;
mod products;
mod remote;
mod response;
mod scan;
mod specs;
mod stamps;
mod table;
#[cfg(test)]
mod tests;
mod tree;
mod verdict;

use crate::common::action::Argument;
use crate::common::bytes::Bytes;
use crate::common::reason::{LocalReason, OptionRule};

pub use classic::refuse_classic;
pub use environment::{INCLUDE_LISTS, environment_reason, hermetic_environment, remote_environment};
pub use existing::{Existing, Writer};
pub use hermetic::{Hermetic, Products, Read, refuse_hermetic};
pub use modules::Modules;
pub use names::{is_of_the_process, is_probe_directory};
pub use products::DRIVEN;
pub use remote::{clang_arguments, refuse_remote};
pub use response::ResponseReader;
pub use specs::plain_specs;
pub use table::{only_links, takes_next};
pub use tree::{Place, TreeCommand, depth, in_tree};

/// What becomes of an invocation, as far as its command line tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays here.
    Local(LocalReason),
    /// It may leave.
    Remote(Box<CompileJob>),
}

/// The language of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// C.
    C,
    /// C++.
    Cxx,
    /// Objective-C.
    ObjC,
    /// Objective-C++.
    ObjCxx,
    /// Assembly with directives of the preprocessor (`.S`), which does not travel as text.
    Assembler,
}

/// Which of the two drivers reads the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// gcc and what descends from it.
    Gcc,
    /// clang.
    Clang,
}

/// One compile of one source to one object or assembly file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileJob {
    /// The compiler as it was named.
    pub compiler: Bytes,
    /// The source's language.
    pub language: Language,
    /// Whether the source is preprocessed text already (`.i`, `.ii`, `-x cpp-output`).
    pub preprocessed: bool,
    /// The source as it was named.
    pub source: Bytes,
    /// The object or assembly file, as named or by gcc's rules when `-o` is absent.
    pub output: Bytes,
    /// The dependency file that is to be written, if one is.
    pub dependencies: Option<Destination>,
    /// Arguments that make the compiler preprocess to stdout, the compiler itself not among them.
    pub preprocess: Vec<PreprocessArgument>,
    /// Arguments that compile the preprocessed text, the compiler itself not among them.
    pub compile: Vec<Argument>,
    /// Places in `compile` of options that mean "this machine" (`-march=native`): the broker
    /// replaces them by what the driver expands them to, or compiles here.
    pub native: Vec<usize>,
    /// The family for which alone this verdict holds, when gcc and clang would do different
    /// things: with a compiler of the other family the command is judged again ([`classify_as`]).
    pub family: Option<Family>,
    /// What the command means where the client's own files are there.
    pub hermetic: Hermetic,
}

impl CompileJob {
    /// Whether the job can travel as preprocessed text.
    ///
    /// # Errors
    ///
    /// Returns why it cannot; it can then run among the client's own files, or here.
    pub fn as_text(&self) -> Result<(), &LocalReason> {
        self.hermetic.needed.as_ref().map_or(Ok(()), Err)
    }
}

/// Where a text output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A file.
    File(Bytes),
    /// Standard output (`-MF -`).
    Stdout,
}

/// One argument of the preprocessor's command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreprocessArgument {
    /// As it stands.
    Plain(Bytes),
    /// The path of a file of the broker's own, which it delivers as the dependency file.
    DependencyFile,
}

/// What the compiler's name tells of its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Driver {
    /// `g++`, `clang++`: a `.c` file is C++.
    cxx: bool,
    /// `clang`, `x86_64-pc-linux-gnu-clang-14`.
    clang: bool,
}

impl Driver {
    fn named(compiler: &[u8]) -> Self {
        let name = names::basename(compiler);
        let contains = |part: &[u8]| name.windows(part.len()).any(|window| window == part);
        Driver { cxx: contains(b"++"), clang: contains(b"clang") }
    }
}

/// Says whether a command line can leave the client, and how.
///
/// `argv[0]` is the compiler. `read_response_file` is given the name behind an `@` as it stands,
/// relative to the invocation's working directory.
pub fn classify(argv: &[Bytes], read_response_file: &ResponseReader<'_>) -> Verdict {
    classify_as(argv, None, read_response_file)
}

/// The same where it is known what kind of compiler `argv[0]` is, whatever its name says: `cc` may be any.
pub fn classify_as(
    argv: &[Bytes],
    family: Option<Family>,
    read_response_file: &ResponseReader<'_>,
) -> Verdict {
    match job(argv, family, read_response_file) {
        Ok(job) => Verdict::Remote(Box::new(job)),
        Err(reason) => Verdict::Local(reason),
    }
}

/// The words of a command with its response files expanded, the compiler itself not among them.
///
/// # Errors
///
/// Returns why a response file cannot be expanded.
pub fn expand_responses(words: &[Bytes], read: &ResponseReader<'_>) -> Result<Vec<Bytes>, LocalReason> {
    response::expand(words, read).map(|expanded| expanded.words)
}

/// [`classify`], with the reason as an error.
fn job(argv: &[Bytes], family: Option<Family>, read: &ResponseReader<'_>) -> Result<CompileJob, LocalReason> {
    let (compiler, words) = argv.split_first().ok_or(LocalReason::NotACompile)?;
    let name = names::basename(compiler);
    if name.starts_with(b"clang-cl") || name == b"cl" || name == b"cl.exe" {
        return Err(LocalReason::Option { option: compiler.clone(), why: OptionRule::SideDoor });
    }
    let by_name = Driver::named(compiler);
    let driver = match family {
        Some(family) => Driver { clang: family == Family::Clang, ..by_name },
        None => by_name,
    };
    let response::Expanded { words, files } = response::expand(words, read)?;
    verdict::conclude(compiler, driver, scan::Scan::of(words, driver), &files, read)
}
