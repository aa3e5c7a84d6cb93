//! Reads a compiler's command line and says whether, and how, it can leave the client.

use crate::common::action::Argument;
use crate::common::bytes::Bytes;
use crate::common::reason::LocalReason;

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
