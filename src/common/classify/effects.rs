//! What options make a compile read and write besides its source, its headers and its object.
//!
//! An option of the table that keeps a job from travelling as text has an [`Effect`]; `products`
//! draws them together, once the names of source and output are known.

use super::names::is_of_the_process;
use super::pieces::{Listing, listing};
use super::table::names_no_file;
use crate::common::bytes::Bytes;

/// What an option does that preprocessed text cannot carry, and a compile among the client's own
/// files can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It touches no file: it changes text, messages or the object.
    Nothing,
    /// The same, but a file may be named in its value, of which nothing is known: only a plain word
    /// may go.
    Word,
    /// Its value is a file that is read.
    Reads,
    /// The same, and the compile goes on without it.
    ReadsIfThere,
    /// Behind `list=` in its value is a file that is read.
    ReadsList,
    /// gcc's `-fprofile-use`, and the folder of the profile in its value, if there is one; clang's,
    /// whose value is a file or its folder.
    Profile,
    /// `-fprofile-dir=`.
    ProfileFolder,
    /// `-fprofile-prefix-path=`: what the names of profiles do not begin with.
    ProfilePrefix,
    /// `-fauto-profile`, and its file, if it is named.
    AutoProfile,
    /// Code that the compiler loads.
    Plugin,
    /// The same of gcc, which has a folder for those that are named in short.
    PluginOfGcc,
    /// A file of specs, whose text is looked at.
    Specs,
    /// Where the compiler's programs are looked for.
    Programs,
    /// A precompiled header, which clang holds against the times of the headers in it.
    Precompiled,
    /// Its value is a file that is written.
    Writes,
    /// The same, by clang as its own output.
    WritesMessages,
    /// The same, with the words of the command.
    WritesDatabase,
    /// Auxiliary files, by how their names end.
    Auxiliary(&'static str),
    /// `.gcno`, whose stamp is another each time.
    Notes,
    /// A stamp in the object, which is another each time.
    Stamp,
    /// `.dwo`.
    SplitDebug,
    /// `-save-temps` and its kin, with the place in its value.
    Temporaries,
    /// What passes dump, or the file in its value.
    Dumps,
    /// What `-fopt-info` says, on stderr or in the file in its value.
    Remarks,
    /// gcc's `.opt-record.json.gz`, clang's `.opt.yaml` or of the format in its value.
    Record,
    /// The same, with which passes are recorded in its value.
    RecordPasses,
    /// clang's `.json`, or the file or folder in its value.
    TimeTrace,
    /// `-fdiagnostics-format=`.
    MessageFormat,
    /// `-fdiagnostics-add-output=`, `-fdiagnostics-set-output=`.
    MessageOutput,
    /// Link-time optimisation, in whose objects gcc puts a random name.
    LinkTime,
    /// clang's intermediate code in the place of machine code.
    Bitcode,
    /// The assembler makes debug information of its own, of the lines of what it is given; with its word for that.
    AssemblersLines,
    /// What is assembled does not say of which source its lines are.
    NoLineMarkers,
    /// gcc's `-fmodules-ts`: it reads compiled modules, and makes one of each interface.
    Modules,
    /// gcc's `-fmodule-mapper=`, with a plain file in its value that says where compiled modules are.
    ModuleMap,
    /// clang's `-fmodule-file=`, with `NAME=FILE` or the file in its value.
    ModuleFile,
    /// clang's `-fprebuilt-module-path=`, a folder of compiled modules.
    ModuleFolder,
    /// clang's `-fmodule-output`, with a file or nothing in its value.
    ModuleOutput,
}

/// What the words of a command said, in their order.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// Each effect with its option's value; empty where it has none.
    pub seen: Vec<(Effect, Bytes)>,
    /// Whether `-frandom-seed` makes repeatable what is random.
    pub seeded: bool,
}

impl Effects {
    /// Notes an effect, or says `false` when it is one with this value that nobody can know.
    pub fn add(&mut self, effect: Effect, value: &[u8]) -> bool {
        let known = match effect {
            Effect::Word => names_no_file(value),
            Effect::Dumps => {
                let file = value.iter().position(|&byte| byte == b'=').map(|at| &value[at + 1..]);
                (value.starts_with(b"-") || value.iter().all(u8::is_ascii_alphabetic))
                    && !file.is_some_and(is_of_the_process)
            }
            // Any other name the loader looks up among its libraries.
            Effect::Plugin => value.contains(&b'/'),
            Effect::PluginOfGcc => value.contains(&b'/') || is_short(value),
            // The other forms name programs, sockets and descriptors.
            Effect::ModuleMap => !value.is_empty() && !value.iter().any(|byte| b"|:<>=?@".contains(byte)),
            // Another name of stdout or stderr would be written over here.
            Effect::Writes | Effect::WritesMessages | Effect::WritesDatabase => {
                !value.is_empty() && (value == b"/dev/null" || !is_of_the_process(value))
            }
            Effect::Reads
            | Effect::Specs
            | Effect::Programs
            | Effect::Precompiled
            | Effect::ModuleFile
            | Effect::ModuleFolder => !value.is_empty(),
            _ => true,
        };
        if known {
            self.seen.push((effect, value.into()));
        }
        known
    }

    /// Whether one of the effects is this one.
    pub fn has(&self, effect: Effect) -> bool {
        self.seen.iter().any(|(seen, _)| *seen == effect)
    }

    /// The values of all options with this effect.
    pub fn values(&self, effect: Effect) -> impl Iterator<Item = &Bytes> {
        self.seen.iter().filter(move |(seen, _)| *seen == effect).map(|(_, value)| value)
    }
}

impl Effects {
    /// Notes what a list behind `-Wa,` writes; `false` when it does what nobody can know.
    pub fn add_assembler_words(&mut self, list: &[u8]) -> bool {
        let Some(listings) = list.split(|&byte| byte == b',').map(listing).collect::<Option<Vec<_>>>() else {
            return false;
        };
        listings.into_iter().all(|found| match found {
            Listing::File(file) => self.add(Effect::Writes, file),
            Listing::Debug(piece) => self.add(Effect::AssemblersLines, piece),
            Listing::None => true,
        })
    }
}

/// Whether gcc takes the name of a plugin for one in its own folder: without slash and dot.
pub(super) fn is_short(plugin: &[u8]) -> bool {
    !plugin.is_empty() && !plugin.contains(&b'/') && !plugin.contains(&b'.')
}

/// How the words behind clang's `-Xclang` are read: an option at a time, its value in the next one.
#[derive(Debug, Default)]
pub(super) struct FrontEnd {
    waiting: Option<Bytes>,
}

/// What a word behind `-Xclang` means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FrontEndWord {
    /// Nothing beyond the compile.
    Plain,
    /// The value of the option that was waiting for it.
    Effect(Effect),
    /// That the source is a header, to be precompiled.
    Header,
    /// That headers are precompiled without their times.
    NoTimes,
    /// What nobody can know.
    Unknown,
}

/// Options of clang's front end whose value is in the next word, and what that is.
const FRONT_END_VALUES: [(&[u8], Effect); 5] = [
    (b"-add-plugin", Effect::Word),
    (b"-include", Effect::Nothing),
    (b"-include-pch", Effect::Precompiled),
    (b"-load", Effect::Plugin),
    (b"-target-feature", Effect::Word),
];

/// Options of clang's front end that stand alone and touch no file.
const FRONT_END_ALONE: [&[u8]; 5] = [
    b"-disable-O0-optnone",
    b"-disable-lifetime-markers",
    b"-disable-llvm-passes",
    b"-disable-llvm-verifier",
    b"-fno-validate-pch",
];

impl FrontEnd {
    /// Reads the next word.
    pub fn read(&mut self, word: &[u8]) -> FrontEndWord {
        if let Some(option) = self.waiting.take() {
            let row = FRONT_END_VALUES.iter().find(|(name, _)| *name == &*option);
            return row.map_or(FrontEndWord::Unknown, |(_, effect)| FrontEndWord::Effect(*effect));
        }
        match word {
            b"-emit-pch" => FrontEndWord::Header,
            b"-fno-pch-timestamp" => FrontEndWord::NoTimes,
            _ if FRONT_END_ALONE.contains(&word) => FrontEndWord::Plain,
            _ if FRONT_END_VALUES.iter().any(|(name, _)| *name == word) => {
                self.waiting = Some(word.into());
                FrontEndWord::Plain
            }
            _ => FrontEndWord::Unknown,
        }
    }

    /// Whether an option still waits for its value.
    pub fn is_open(&self) -> bool {
        self.waiting.is_some()
    }
}

/// Whether a word behind `-mllvm` only tunes: it names no file, and prints and writes nothing.
pub(super) fn tunes_code(word: &[u8]) -> bool {
    const OTHERS: [&[u8]; 14] = [
        b"cost-kind",
        b"debug",
        b"dot",
        b"filter-print",
        b"help",
        b"info-output",
        b"load",
        b"opt-bisect",
        b"print",
        b"stats",
        b"time",
        b"track-memory",
        b"version",
        b"view",
    ];
    let Some(name) = word.strip_prefix(b"-") else { return false };
    let name = name.strip_prefix(b"-").unwrap_or(name);
    !name.is_empty() && names_no_file(name) && !OTHERS.iter().any(|other| name.starts_with(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_behind_xclang_are_read_in_pairs() {
        let read = |line: &str| {
            let mut front_end = FrontEnd::default();
            let words: Vec<FrontEndWord> =
                line.split(' ').map(|word| front_end.read(word.as_bytes())).collect();
            (words, front_end.is_open())
        };
        use FrontEndWord::{Effect as Has, Header, Plain, Unknown};
        assert_eq!(read("-include-pch x.pch"), (vec![Plain, Has(Effect::Precompiled)], false));
        assert_eq!(read("-emit-pch -include -load"), (vec![Header, Plain, Has(Effect::Nothing)], false));
        assert_eq!(read("-disable-llvm-passes -plugin"), (vec![Plain, Unknown], false));
        assert_eq!(read("-load"), (vec![Plain], true));
    }

    #[test]
    fn what_prints_or_names_files_is_no_tuning() {
        for word in
            ["-inline-threshold=500", "-enable-gvn-hoist", "--x86-asm-syntax=intel", "-unroll-count=4"]
        {
            assert!(tunes_code(word.as_bytes()), "{word}");
        }
        for word in
            ["-stats", "-print-after-all", "-time-passes", "-debug-only=x", "x", "-", "-a=/x", "-a=x.y"]
        {
            assert!(!tunes_code(word.as_bytes()), "{word}");
        }
    }
}
