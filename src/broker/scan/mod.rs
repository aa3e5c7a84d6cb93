//! The include scanner: which files does a compile read?
//!
//! [`scan`] is pure. It asks [`Files`] for paths and is given a file, absent, a directory or
//! unreadable; it asks an [`Oracle`] what the compiler says to `__has_attribute(…)`; and it is
//! given the compiler's predefined macros and include directories as values ([`Facts`],
//! [`Search`]). Each file is lexed once per content into a short list of directives
//! ([`directive`]); per translation unit these are walked with real macro semantics.
//!
//! The answer is exact or there is none: whatever the scanner does not follow makes it return
//! [`Declined`] with the reason, and the compile goes another way.
//!
//! Around it: [`disk`] is the cached view of the file system, [`facts`] asks the compiler,
//! [`options`] reads the command line, [`scanner`] puts them together and remembers.

pub mod askers;
mod assembly;
mod command;
mod dates;
mod define;
pub mod directive;
pub mod disk;
mod effects;
mod evaluate;
mod expand;
pub mod expression;
pub mod facts;
pub mod files;
mod ground;
mod import;
mod include;
mod known;
pub mod layout;
pub mod macros;
pub mod modules;
pub mod options;
pub mod paths;
pub mod phases;
pub mod pragma;
mod prologue;
mod record;
mod saved;
pub mod scanner;
pub mod search;
pub mod shared;
pub mod shown;
pub mod source;
mod substitute;
pub mod symbols;
pub mod table;
mod target;
pub mod token;
pub mod value;
mod walk;
mod walked;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use dates::Dates;
pub use disk::DiskReport;
pub use files::{Answer, Content, Files, Identity, Stat, Trail};
pub use scanner::{Inputs, Report, Scanner, scan_command};
pub use shared::{InputFile, InputLink, InputSet, Question, SharedScanner};
pub use walk::{Memory, OPTIONS_DOUBT, Request, scan};

use crate::common::bytes::Bytes;

/// Includes that may be nested; compilers stop there too.
pub const DEPTH_MAX: usize = 200;
/// Tokens that macro expansion may make in one translation unit.
pub const TOKENS_MAX: usize = 4_000_000;
/// Files that one translation unit may enter, repeated ones counted each time.
pub const ENTRIES_MAX: usize = 2_000_000;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Declined {
    /// An argument that the scanner does not know, or knows to change too much.
    #[error("argument {0} is not followed")]
    Option(Bytes),
    /// Not exactly one source of a language that is followed.
    #[error("{0}")]
    Source(&'static str),
    /// The compiler would not tell about itself.
    #[error("the compiler does not tell: {0}")]
    Compiler(String),
    /// An include that leads nowhere: the compile will fail, and the compiler shall say so.
    #[error("{from}: no file {name}")]
    Missing {
        /// The name as written.
        name: Bytes,
        /// The file that includes it.
        from: Bytes,
    },
    /// A file that is there and cannot be read.
    #[error("{0}: cannot be read")]
    Unreadable(Bytes),
    /// A construct that is not followed.
    #[error("{path}: {what}")]
    Doubt {
        /// What it is.
        what: &'static str,
        /// Where.
        path: Bytes,
    },
    /// A precompiled header lies where the compiler looks for one.
    #[error("{0}: a precompiled header")]
    Precompiled(Bytes),
    /// A precompiled header of gcc's lies there, and its text is nowhere: what macros it makes, only gcc can tell.
    #[error("{0}: a precompiled header without its text")]
    Textless(Bytes),
    /// A precompiled header is older than the text in it, and may say something else.
    #[error("{0}: a precompiled header that is older than its text")]
    Stale(Bytes),
    /// A file changed while the scan ran.
    #[error("{0}: changed during the scan")]
    Changed(Bytes),
    /// A bound was reached.
    #[error("too much: {0}")]
    Limit(&'static str),
}

impl Declined {
    /// A short name of the kind of reason, for counters.
    pub fn kind(&self) -> String {
        match self {
            Declined::Option(option) => format!("option {option}"),
            Declined::Source(what) | Declined::Limit(what) => (*what).to_owned(),
            Declined::Compiler(_) => "compiler does not tell".to_owned(),
            Declined::Missing { .. } => "missing include".to_owned(),
            Declined::Unreadable(_) => "unreadable file".to_owned(),
            Declined::Doubt { what, .. } => (*what).to_owned(),
            Declined::Precompiled(_) => "precompiled header".to_owned(),
            Declined::Textless(_) => "precompiled header without its text".to_owned(),
            Declined::Stale(_) => "stale precompiled header".to_owned(),
            Declined::Changed(_) => "file changed".to_owned(),
        }
    }
}

/// Whose rules apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// gcc.
    Gcc,
    /// clang.
    Clang,
}

/// What the compiler says of itself under the flags that matter.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Whose rules apply.
    pub family: Family,
    /// How it lexes.
    pub mode: token::Mode,
    /// Its predefined macros, as `#define` lines; `stdc-predef.h` not included.
    pub predefined: Vec<u8>,
    /// Macros that it computes at each use and says are defined.
    pub builtins: Vec<(&'static str, macros::Builtin)>,
    /// A header that it includes before everything else, if it finds it.
    pub preinclude: Option<&'static str>,
    /// Whether the name of a system header becomes its real path where that is shorter.
    pub canonical: bool,
    /// Tells one set of facts from another, so that a memory can keep what it made of them.
    pub number: u32,
}

/// One directory of the search chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Directory {
    /// Absolute, however the compiler was given it.
    pub path: Vec<u8>,
    /// Whether the compiler was given it relative to the working directory.
    pub relative: bool,
    /// Whether it is a system directory.
    pub system: bool,
}

/// Where includes are looked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Search {
    /// Quote directories, then those that `<…>` searches too.
    pub directories: Vec<Directory>,
    /// How many of them are for quotes alone.
    pub quotes: usize,
}

/// Answers questions such as `__has_attribute(noreturn)`.
pub trait Oracle {
    /// What the compiler replaces `question` with; `None` if it will not say.
    fn answer(&mut self, question: &[u8]) -> Option<i64>;
}

/// A file that the compile reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Its absolute path, built as the compiler builds it: `..` and links stand as they are.
    pub path: Arc<[u8]>,
    /// What was in it.
    pub content: Content,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// The files that are read, in the order of their first reading; the source is the first.
    pub files: Vec<Scanned>,
    /// Files that are opened, or asked for with `__has_include`, and not read.
    pub probed: Vec<Scanned>,
    /// Precompiled headers that lie where the compiler looks for them: it may take one for the text of
    /// the first include.
    pub precompiled: Vec<Scanned>,
    /// Which of `files` that text is.
    pub covered: std::ops::Range<usize>,
    /// Names looked for and not found, if they were asked for.
    pub absent: Vec<Arc<[u8]>>,
    /// Paths by which the compiler finds files that it then knows by a shorter one.
    pub aliases: Vec<Arc<[u8]>>,
    /// Whether any file mentions the date or the time.
    pub clock: Dates,
    /// What the unit says of modules.
    pub modules: modules::Mentioned,
}
