//! What becomes of a file that lies where a compile puts a product.
//!
//! Other names of it (hard links) and its mode outlast some programs and not others. What each does was
//! looked at in gcc 11 and 12 and clang 14, 15, 16 and 19; `tests/it/products` holds them to it.

use crate::common::toolchain::major;

/// clang removes the file of `-MJ` since this version.
const CLANG_REMOVES_DATABASES: u32 = 15;

/// How a file that is there is treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It is cut to nothing and written: it keeps its names and its mode.
    #[default]
    Rewritten,
    /// Another one takes its name.
    Replaced,
    /// The same, unless it is empty: then it is rewritten.
    ReplacedUnlessEmpty,
    /// What is written comes behind what is in it.
    Appended,
}

/// What writes a product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writer {
    /// Whatever opens the file for writing, as most do.
    #[default]
    Plain,
    /// The compiler proper, as its output: clang writes that beside and renames it.
    Compiler,
    /// What makes an object of a source: clang does that itself, gcc has GNU's assembler.
    Object,
    /// A program for objects alone: gcc has GNU's, clang a part of its own that writes plainly.
    Binary,
    /// GNU's assembler, whoever runs it.
    Assembler,
    /// clang, which puts a command's words into a file.
    Database,
    /// A compiler that makes a module: always another file.
    Module,
    /// Passes of gcc, one after another into one file.
    Log,
}

impl Writer {
    /// What becomes of a file that is there, where a compiler of this kind and version runs.
    pub fn existing(self, clang: bool, version: &str) -> Existing {
        match self {
            Writer::Plain => Existing::Rewritten,
            Writer::Module => Existing::Replaced,
            Writer::Log => Existing::Appended,
            // It removes what is there, but looks at its size first.
            Writer::Assembler => Existing::ReplacedUnlessEmpty,
            Writer::Compiler | Writer::Object if clang => Existing::Replaced,
            Writer::Database
                if clang && major(version).is_none_or(|number| number >= CLANG_REMOVES_DATABASES) =>
            {
                Existing::Replaced
            }
            Writer::Object | Writer::Binary if !clang => Existing::ReplacedUnlessEmpty,
            Writer::Compiler | Writer::Object | Writer::Binary | Writer::Database => Existing::Rewritten,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clang_replaces_what_it_writes_and_gcc_rewrites_it() {
        use Existing::{Replaced, ReplacedUnlessEmpty, Rewritten};
        let check = |writer: Writer, gcc: Existing, clang: Existing| {
            assert_eq!(writer.existing(false, "gcc version 12.2.0"), gcc, "{writer:?}");
            assert_eq!(writer.existing(true, "clang version 16.0.6"), clang, "{writer:?}");
        };
        check(Writer::Plain, Rewritten, Rewritten);
        check(Writer::Compiler, Rewritten, Replaced);
        check(Writer::Object, ReplacedUnlessEmpty, Replaced);
        check(Writer::Binary, ReplacedUnlessEmpty, Rewritten);
        check(Writer::Assembler, ReplacedUnlessEmpty, ReplacedUnlessEmpty);
        check(Writer::Module, Replaced, Replaced);
        check(Writer::Log, Existing::Appended, Existing::Appended);
        assert_eq!(Writer::Database.existing(true, "Debian clang version 14.0.6"), Rewritten);
        assert_eq!(Writer::Database.existing(true, "Debian clang version 15.0.6"), Replaced);
    }
}
