//! What the numbers of one link mean.
//!
//! Pure. A client defines numbers and uses them; whatever it says that no client of ours would say is
//! an error, and ends the link.

use std::collections::HashMap;
use std::sync::Arc;

use super::clients::Held;
use super::view::catalogue::{Catalogue, Known, Set, set};
use crate::common::bytes::Bytes;
use crate::common::inputs::{Item, ItemError, Reading, Runs, is_plain_path};
use crate::common::invocation::Terminal;
use crate::common::limits::{ITEMS_MAX_BYTES, WORDS_MAX};
use crate::common::protocol::link::Compile;
use crate::common::toolchain::Digest;

/// The meanings, bounded.
#[derive(Debug, Default)]
pub struct Dictionary {
    meanings: HashMap<u32, Meaning>,
    bytes: usize,
    epoch: u64,
}

#[derive(Clone, Debug)]
enum Meaning {
    Word(Arc<Bytes>),
    Entry(Arc<Known>),
}

/// What no client of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DictionaryError {
    /// An item that is none.
    #[error("item {number}: {error}")]
    Item {
        /// Its number.
        number: u32,
        /// What is wrong with it.
        error: ItemError,
    },
    /// A number that has a meaning.
    #[error("item {0} twice")]
    Twice(u32),
    /// More than a link may define.
    #[error("more than {} MiB of items", ITEMS_MAX_BYTES >> 20)]
    Full,
    /// A number without a meaning, or with another one than is needed.
    #[error("item {0} is not what it is used for")]
    Unknown(u32),
    /// A list of numbers that is too long.
    #[error("too many items in one message")]
    Count,
    /// A path or word that cannot be one.
    #[error("item {0} cannot be used so")]
    Unfit(u32),
}

/// A part of an input set, and how its link calls it.
#[derive(Clone, Debug)]
pub struct Input {
    /// The link's number.
    pub number: u32,
    /// What it is.
    pub known: Arc<Known>,
}

/// A set that a link named, in both of its forms.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The files in it.
    pub files: Arc<[Input]>,
    /// All of it.
    pub set: Set,
    /// In which epoch of the link's numbers.
    pub epoch: u64,
    /// What its client has less of as long as somebody works with it.
    pub held: Vec<Arc<Held>>,
}

/// A compile without numbers.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The driver's absolute path.
    pub program: Arc<Bytes>,
    /// The words of the command, the driver's own name first.
    pub arguments: Vec<Arc<Bytes>>,
    /// `NAME=value` each.
    pub environment: Vec<Arc<Bytes>>,
    /// The working directory.
    pub cwd: Arc<Bytes>,
    /// The terminal that stderr is.
    pub terminal: Option<Terminal>,
    /// What exists.
    pub inputs: Inputs,
    /// What must have been read.
    pub reads: Option<MustRead>,
    /// Whether what it makes may tell where temporary files are.
    pub tells_temporary: bool,
}

/// What a compile must be found to have read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MustRead {
    /// The dependencies that its compiler lists have this digest.
    Listed(Digest),
    /// All files of its inputs were opened but perhaps those with these numbers, which ascend.
    Opened {
        /// The numbers.
        apart: Vec<u32>,
    },
}

impl Dictionary {
    /// Gives numbers their meanings.
    ///
    /// # Errors
    ///
    /// Returns [`DictionaryError`] for the first that cannot be; the link is over then.
    pub fn define(&mut self, items: Vec<(u32, Item)>, catalogue: &Catalogue) -> Result<(), DictionaryError> {
        for (number, item) in items {
            item.check().map_err(|error| DictionaryError::Item { number, error })?;
            self.bytes += item.size();
            if self.bytes > ITEMS_MAX_BYTES {
                return Err(DictionaryError::Full);
            }
            let meaning = match item {
                Item::Word(word) => Meaning::Word(Arc::new(word)),
                Item::Entry(entry) => Meaning::Entry(catalogue.know(entry)),
            };
            if self.meanings.insert(number, meaning).is_some() {
                return Err(DictionaryError::Twice(number));
            }
        }
        Ok(())
    }

    /// What it takes in memory, in bytes, nearly.
    pub fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    /// Forgets all meanings.
    pub fn forget(&mut self) {
        *self = Dictionary { epoch: self.epoch + 1, ..Dictionary::default() };
    }

    /// How often everything was forgotten: numbers of another epoch mean nothing.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The file that a number means.
    ///
    /// # Errors
    ///
    /// Returns [`DictionaryError::Unknown`] when it means none.
    pub fn file(&self, number: u32) -> Result<&Arc<Known>, DictionaryError> {
        match self.meanings.get(&number) {
            Some(Meaning::Entry(known)) if known.entry.kind.file().is_some() => Ok(known),
            _ => Err(DictionaryError::Unknown(number)),
        }
    }

    /// The set that these numbers mean.
    ///
    /// # Errors
    ///
    /// Returns [`DictionaryError`] for numbers that are no entries, or too many.
    pub fn inputs(&self, runs: &Runs) -> Result<Inputs, DictionaryError> {
        let numbers = runs.numbers().ok_or(DictionaryError::Count)?;
        let mut files = Vec::new();
        let mut entries = Vec::with_capacity(numbers.len());
        for number in numbers {
            let Some(Meaning::Entry(known)) = self.meanings.get(&number) else {
                return Err(DictionaryError::Unknown(number));
            };
            if known.entry.kind.file().is_some() {
                files.push(Input { number, known: Arc::clone(known) });
            }
            entries.push(Arc::clone(known));
        }
        Ok(Inputs { files: files.into(), set: set(entries), epoch: self.epoch, held: Vec::new() })
    }

    /// What a compile's numbers mean.
    ///
    /// # Errors
    ///
    /// Returns [`DictionaryError`] for numbers that mean nothing that they could be here.
    pub fn resolve(&self, compile: &Compile) -> Result<Resolved, DictionaryError> {
        let [program, cwd] = [compile.program, compile.cwd].map(|number| Ok((number, self.word(number)?)));
        let ((program_number, program), (cwd_number, cwd)) = (program?, cwd?);
        if !is_plain_path(&program) {
            return Err(DictionaryError::Unfit(program_number));
        }
        if cwd.0 != b"/" && !is_plain_path(&cwd) {
            return Err(DictionaryError::Unfit(cwd_number));
        }
        Ok(Resolved {
            program,
            arguments: self.words(&compile.argv)?,
            environment: self.words(&compile.environment)?,
            cwd,
            terminal: compile.terminal,
            inputs: self.inputs(&compile.inputs)?,
            reads: compile.reads.as_ref().map(must_read).transpose()?,
            tells_temporary: compile.tells_temporary,
        })
    }

    fn words(&self, numbers: &[u32]) -> Result<Vec<Arc<Bytes>>, DictionaryError> {
        if numbers.len() > WORDS_MAX {
            return Err(DictionaryError::Count);
        }
        numbers.iter().map(|&number| self.word(number)).collect()
    }

    /// A word as the kernel takes it.
    fn word(&self, number: u32) -> Result<Arc<Bytes>, DictionaryError> {
        match self.meanings.get(&number) {
            Some(Meaning::Word(word)) if word.contains(&0) => Err(DictionaryError::Unfit(number)),
            Some(Meaning::Word(word)) => Ok(Arc::clone(word)),
            _ => Err(DictionaryError::Unknown(number)),
        }
    }
}

fn must_read(reading: &Reading) -> Result<MustRead, DictionaryError> {
    Ok(match reading {
        Reading::Listed(digest) => MustRead::Listed(*digest),
        Reading::Opened { apart } => {
            MustRead::Opened { apart: apart.numbers().ok_or(DictionaryError::Count)? }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::inputs::{Entry, EntryKind};

    fn word(text: &str) -> Item {
        Item::Word(text.into())
    }

    fn entry(path: &str) -> Item {
        Item::Entry(Entry { path: path.into(), kind: EntryKind::Folder })
    }

    fn dictionary(items: Vec<(u32, Item)>) -> Result<Dictionary, DictionaryError> {
        let mut dictionary = Dictionary::default();
        dictionary.define(items, &Catalogue::default()).map(|()| dictionary)
    }

    fn compile() -> Compile {
        Compile {
            program: 1,
            argv: vec![2, 3],
            environment: vec![],
            cwd: 4,
            terminal: None,
            inputs: Runs::of(&[5, 6]),
            reads: None,
            tells_temporary: false,
        }
    }

    fn items() -> Vec<(u32, Item)> {
        let words = [(1, "/usr/bin/gcc"), (2, "gcc"), (3, "-c"), (4, "/w")];
        let words = words.into_iter().map(|(number, text)| (number, word(text)));
        words.chain([(5, entry("/w")), (6, entry("/v"))]).collect()
    }

    #[test]
    fn a_compile_is_what_its_numbers_mean() {
        let resolved = dictionary(items()).unwrap().resolve(&compile()).unwrap();
        assert_eq!((resolved.cwd.to_text(), resolved.arguments.len()), ("/w".to_owned(), 2));
        assert_eq!((resolved.inputs.set.len(), resolved.inputs.files.len()), (2, 0));
    }

    #[test]
    fn numbers_that_mean_something_else_end_the_link() {
        let dictionary = dictionary(items()).unwrap();
        let refused = |change: &dyn Fn(&mut Compile)| {
            let mut compile = compile();
            change(&mut compile);
            dictionary.resolve(&compile).expect_err("refused")
        };
        assert_eq!(refused(&|compile| compile.program = 9), DictionaryError::Unknown(9));
        assert_eq!(refused(&|compile| compile.program = 5), DictionaryError::Unknown(5));
        assert_eq!(refused(&|compile| compile.program = 2), DictionaryError::Unfit(2));
        assert_eq!(refused(&|compile| compile.cwd = 3), DictionaryError::Unfit(3));
        assert_eq!(refused(&|compile| compile.inputs = Runs::of(&[4])), DictionaryError::Unknown(4));
        assert_eq!(refused(&|compile| compile.argv = vec![1; WORDS_MAX + 1]), DictionaryError::Count);
        assert_eq!(dictionary.file(5).expect_err("a folder"), DictionaryError::Unknown(5));
    }

    #[test]
    fn definitions_that_cannot_be_end_the_link() {
        let error = |items| dictionary(items).expect_err("refused");
        assert_eq!(error(vec![(1, word("a")), (1, word("a"))]), DictionaryError::Twice(1));
        assert_eq!(
            error(vec![(7, entry("/a/../b"))]),
            DictionaryError::Item { number: 7, error: ItemError::Path }
        );
    }

    #[test]
    fn a_link_cannot_define_more_than_its_share() {
        let mut dictionary = Dictionary::default();
        let long = || Item::Word(Bytes(vec![b'x'; 100_000]));
        let defined = (0..10_000).find(|&number| {
            dictionary.define(vec![(number, long())], &Catalogue::default()) == Err(DictionaryError::Full)
        });
        assert!(defined.is_some_and(|number| number as usize * 100_000 <= ITEMS_MAX_BYTES));
    }

    #[test]
    fn what_was_forgotten_can_be_defined_anew() {
        let catalogue = Catalogue::default();
        let mut dictionary = Dictionary::default();
        dictionary.define(vec![(1, word("a"))], &catalogue).unwrap();
        dictionary.forget();
        assert_eq!((dictionary.epoch(), dictionary.bytes), (1, 0));
        dictionary.define(vec![(1, word("b"))], &catalogue).unwrap();
    }
}
