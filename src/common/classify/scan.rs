//! Walks over the words once, left to right, and sorts them into the two commands.

use super::effects::{Effect, Effects, FrontEnd, FrontEndWord, tunes_code};
use super::names::{Form, language_by_name, language_of_source, suffix};
use super::pieces::{
    PreprocessorWords, assembler_word, assembler_words, lone_preprocessor_word, preprocessor_words,
};
use super::stamps::Stamps;
use super::table::{Class, DependencyOption, Emit, Entry, Names, Value, find, harmless_shape, names_no_file};
use super::{Driver, Language, PreprocessArgument};
use crate::common::action::Argument;
use crate::common::bytes::Bytes;
use crate::common::reason::{LocalReason, OptionRule};

/// What the words said. Nothing is decided yet: that a command only links, say, is known at its
/// end, and is a better reason than any option of it.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// `-c`, `-S` or `--precompile`.
    pub emit: Option<Emit>,
    /// `-E`, `-M`, `-MM`.
    pub preprocess_only: Option<Bytes>,
    /// The first option that keeps the job from travelling as text.
    pub reason: Option<LocalReason>,
    /// The first option that keeps it here altogether.
    pub stays: Option<LocalReason>,
    /// What options read and write besides.
    pub effects: Effects,
    /// Whether an option says that the source is a header, to be precompiled.
    pub header: bool,
    /// Whether that is done without the times of the headers.
    pub without_times: bool,
    /// The values of `-o`.
    pub outputs: Vec<Bytes>,
    /// The words that are no options.
    pub sources: Vec<Source>,
    /// What is said of the dependency file.
    pub dependencies: Dependencies,
    /// The preprocessor's arguments.
    pub preprocess: Vec<PreprocessArgument>,
    /// The remote compile's options.
    pub compile: Vec<Argument>,
    /// Places of `=native` in `compile`.
    pub native: Vec<usize>,
    /// The first option that was left out of `compile` about which clang says, for a preprocessed
    /// source, that it is unused.
    pub left_out: Option<Bytes>,
    /// Headers and sub-programs come from another gcc installation.
    pub other_gcc: bool,
    /// The option that has clang write into an object when it was made, as linkers of Windows want it.
    pub stamps: Stamps,
    /// clang runs an assembler of its own accord, as far as one word says.
    pub external_assembler: bool,
    /// It does so, by what the last word says.
    pub assembles_outside: bool,
    /// What waits behind `-Xclang`.
    front_end: FrontEnd,
    /// `-fverbose-asm`.
    pub annotations: bool,
    /// Whether `-march=` or one of its like names a machine.
    named_machine: bool,
    /// The language of the sources that follow, as `-x` gave it.
    forced: Option<Bytes>,
    /// The words that are left, in reverse.
    words: Vec<Bytes>,
}

/// A source as the words had it.
#[derive(Debug)]
pub(super) struct Source {
    /// Its name.
    pub name: Bytes,
    /// Its language and form, if they are known.
    pub language: Option<(Language, Form)>,
    /// What to call that: the word behind `-x`, or the ending of its name.
    pub called: Bytes,
}

impl Source {
    /// Whether it is a header by its name or the word before it.
    pub fn is_header(&self) -> bool {
        matches!(self.language, Some((_, Form::Header)))
    }
}

/// What is said of the dependency file.
#[derive(Debug, Default)]
pub(super) struct Dependencies {
    /// `-MD` or `-MMD`, as given.
    pub write: Option<Bytes>,
    /// The last `-MF`.
    pub file: Option<Bytes>,
    /// Whether `-MT` or `-MQ` names the target.
    pub target: bool,
    /// The first option that says something of such a file without asking for it.
    pub about: Option<Bytes>,
    /// `-Wp,-MD,FILE`: the word and the file.
    pub by_list: Option<(Bytes, Bytes)>,
    /// Whether that list had more pieces than these two.
    pub list_has_more: bool,
    /// Whether some `-Wp,` list names the target.
    pub list_target: bool,
}

impl Scan {
    /// Scans words, response files expanded, the compiler not among them.
    pub fn of(mut words: Vec<Bytes>, driver: Driver) -> Self {
        words.reverse();
        let mut scan = Scan { words, ..Scan::default() };
        while let Some(word) = scan.words.pop() {
            match word.first() {
                // No argument of a process has one; the other end refuses it.
                _ if word.contains(&0) => scan.unknown(&word),
                Some(b'-') if word.len() > 1 => scan.option(&word),
                _ => scan.source(word, driver),
            }
        }
        if scan.front_end.is_open() {
            scan.refuse(&"-Xclang".into(), OptionRule::SideDoor);
        }
        scan.settle_machine();
        scan
    }

    fn source(&mut self, name: Bytes, driver: Driver) {
        let (language, called) = match &self.forced {
            Some(forced) => (language_by_name(forced, driver), forced.clone()),
            None => (language_of_source(&name, driver), ending(&name)),
        };
        self.preprocess.push(PreprocessArgument::Plain(name.clone()));
        self.sources.push(Source { name, language, called });
    }

    fn option(&mut self, word: &Bytes) {
        let Some((row, value)) = find(word) else {
            if harmless_shape(word) {
                self.stamps.note("", word, b"");
                self.external_assembler |= **word == *b"-fno-integrated-as";
                self.keep(word, None);
            } else {
                self.unknown(word);
            }
            return;
        };
        let next = match value {
            Value::Next => match self.words.pop() {
                Some(next) if !next.contains(&0) => Some(next),
                _ => return self.unknown(word),
            },
            Value::Absent | Value::Here(_) => None,
        };
        let value = match (&next, value) {
            (Some(next), _) => &**next,
            (None, Value::Here(value)) => value,
            (None, _) => b"",
        };
        self.known(row, word, value, next.as_ref());
    }

    /// Sorts an option of the table. `next` is the word after it where the value is that word.
    fn known(&mut self, row: &Entry, word: &Bytes, value: &[u8], next: Option<&Bytes>) {
        self.stamps.note(row.name, word, value);
        match row.class {
            Class::Kept if row.names == Names::Text || names_no_file(value) => self.kept(row, word, next),
            Class::Machine if names_no_file(value) => self.machine(word, value),
            Class::Sanitizers if names_no_file(value) => {
                match value.split(|&byte| byte == b',').all(is_placeless) {
                    true => self.keep(word, None),
                    false => self.among(word, OptionRule::RecordsPlaces, Effect::Nothing, value),
                }
            }
            Class::Annotations => {
                self.annotations = true;
                self.keep(word, None);
            }
            Class::Kept | Class::Machine | Class::Sanitizers => self.unknown(word),
            Class::Preprocess | Class::Link => {
                if row.names != Names::Define {
                    self.left_out.get_or_insert_with(|| word.clone());
                }
                self.other_gcc |= row.name == "--gcc-toolchain";
                self.preprocess(word, next);
            }
            Class::Mode(emit) => self.emit = self.emit.max(Some(emit)),
            Class::OutputFile => self.outputs.push(value.into()),
            Class::Language => {
                self.forced = (value != b"none").then(|| value.into());
                self.preprocess(word, next);
            }
            Class::Dependency(what) => self.dependency(what, word, value, next),
            Class::InputCharset if is_utf8(value) => self.keep(word, None),
            Class::InputCharset => self.among(word, OptionRule::ChangesPreprocessing, Effect::Nothing, value),
            Class::PreprocessorWords => self.preprocessor_words(word, value),
            Class::PreprocessorWord if lone_preprocessor_word(value) => {
                self.left_out.get_or_insert_with(|| word.clone());
                self.preprocess(word, next);
            }
            Class::AssemblerWords if assembler_words(value) => self.keep(word, None),
            Class::AssemblerWord if assembler_word(value) => self.keep(word, next),
            Class::AssemblerWords | Class::AssemblerWord if self.effects.add_assembler_words(value) => {
                self.no_text(word, OptionRule::SideDoor);
            }
            Class::FrontEndWord => self.front_end_word(word, value),
            Class::CodeWord if tunes_code(value) => self.no_text(word, OptionRule::SideDoor),
            Class::PreprocessorWord | Class::AssemblerWords | Class::AssemblerWord | Class::CodeWord => {
                self.refuse(word, OptionRule::SideDoor);
            }
            Class::Among(why, effect) => self.among(word, why, effect, value),
            Class::PreprocessOnly => {
                self.preprocess_only.get_or_insert_with(|| word.clone());
            }
            Class::OtherLanguage => {
                self.stays.get_or_insert(LocalReason::Language { language: word.clone() });
            }
            Class::Here(why) => self.refuse(word, why),
        }
    }

    /// An option that a compile among the client's own files can have.
    fn among(&mut self, word: &Bytes, why: OptionRule, effect: Effect, value: &[u8]) {
        if self.effects.add(effect, value) {
            self.no_text(word, why);
        } else {
            self.refuse(word, why);
        }
    }

    fn front_end_word(&mut self, word: &Bytes, value: &[u8]) {
        let plain = match find(value) {
            Some((row, Value::Absent | Value::Here(_))) => row.class == Class::Kept,
            Some(_) => false,
            None => harmless_shape(value),
        };
        match self.front_end.read(value) {
            FrontEndWord::Plain => {}
            FrontEndWord::Effect(effect) => return self.among(word, OptionRule::SideDoor, effect, value),
            FrontEndWord::Header => self.header = true,
            FrontEndWord::NoTimes => self.without_times = true,
            FrontEndWord::Unknown if plain => {}
            FrontEndWord::Unknown => return self.refuse(word, OptionRule::SideDoor),
        }
        self.no_text(word, OptionRule::SideDoor);
    }

    fn kept(&mut self, row: &Entry, word: &Bytes, next: Option<&Bytes>) {
        self.effects.seeded |= row.name == "-frandom-seed=";
        self.external_assembler |= row.name == "-no-integrated-as";
        self.keep(word, next);
    }

    fn machine(&mut self, word: &Bytes, value: &[u8]) {
        match value {
            b"native" => self.native.push(self.compile.len()),
            _ if value.starts_with(b"native") => return self.refuse(word, OptionRule::ThisMachine),
            _ => self.named_machine = true,
        }
        self.keep(word, None);
    }

    /// Of a machine that is named and this one, which counts depends on the order and on which of the
    /// options it is: left to the driver here.
    fn settle_machine(&mut self) {
        let native = self.native.first().and_then(|&at| match &self.compile[at] {
            Argument::Plain(option) => Some(option.clone()),
            Argument::Input | Argument::Output(_) => None,
        });
        if let Some(option) = native.filter(|_| self.named_machine) {
            self.stays.get_or_insert(LocalReason::NativeUnresolved { option });
        }
    }

    fn dependency(&mut self, what: DependencyOption, word: &Bytes, value: &[u8], next: Option<&Bytes>) {
        self.left_out.get_or_insert_with(|| word.clone());
        match what {
            DependencyOption::Write => {
                self.dependencies.write = Some(word.clone());
                return self.preprocess(word, next);
            }
            DependencyOption::File => {
                // Put back at the end, with the broker's own file in the place of this one.
                self.dependencies.file = Some(value.into());
                return;
            }
            DependencyOption::Target => self.dependencies.target = true,
            DependencyOption::Flag => {}
        }
        self.dependencies.about.get_or_insert_with(|| word.clone());
        self.preprocess(word, next);
    }

    fn preprocessor_words(&mut self, word: &Bytes, list: &[u8]) {
        self.left_out.get_or_insert_with(|| word.clone());
        match preprocessor_words(list) {
            Some(PreprocessorWords::Plain { target }) => {
                self.dependencies.list_target |= target;
                if target {
                    self.dependencies.about.get_or_insert_with(|| word.clone());
                }
                self.preprocess(word, None);
            }
            Some(PreprocessorWords::Dependencies { option, file, target, rest })
                if self.dependencies.by_list.is_none() =>
            {
                self.dependencies.by_list = Some((word.clone(), file));
                self.dependencies.list_target |= target;
                self.dependencies.list_has_more = !rest.is_empty();
                self.preprocess(&option, None);
                if !rest.is_empty() {
                    let rest: Vec<&[u8]> = rest.iter().map(|piece| &**piece).collect();
                    let list = [b"-Wp,".as_slice(), &rest.join(&b","[..])].concat();
                    self.preprocess(&list.into(), None);
                }
            }
            _ => self.refuse(word, OptionRule::SideDoor),
        }
    }

    /// Into both commands.
    fn keep(&mut self, word: &Bytes, next: Option<&Bytes>) {
        match &**word {
            b"-fno-integrated-as" | b"-no-integrated-as" => self.assembles_outside = true,
            b"-fintegrated-as" | b"-integrated-as" => self.assembles_outside = false,
            _ => {}
        }
        self.preprocess(word, next);
        self.compile.extend([Some(word), next].into_iter().flatten().cloned().map(Argument::Plain));
    }

    /// Into the preprocessor's command alone.
    fn preprocess(&mut self, word: &Bytes, next: Option<&Bytes>) {
        let words = [Some(word), next].into_iter().flatten().cloned();
        self.preprocess.extend(words.map(PreprocessArgument::Plain));
    }

    fn no_text(&mut self, option: &Bytes, why: OptionRule) {
        self.reason.get_or_insert_with(|| LocalReason::Option { option: option.clone(), why });
    }

    fn refuse(&mut self, option: &Bytes, why: OptionRule) {
        self.stays.get_or_insert_with(|| LocalReason::Option { option: option.clone(), why });
    }

    fn unknown(&mut self, option: &Bytes) {
        self.stays.get_or_insert_with(|| LocalReason::UnknownOption { option: option.clone() });
    }
}

/// Sanitizers that do not put places in the source into the object. The others do, as data: a report
/// at run time names line and column.
const PLACELESS: [&[u8]; 13] = [
    b"dataflow",
    b"fuzzer-no-link",
    b"hwaddress",
    b"kcfi",
    b"kernel-hwaddress",
    b"kernel-memory",
    b"leak",
    b"memory",
    b"memtag",
    b"safe-stack",
    b"scudo",
    b"shadow-call-stack",
    b"thread",
];

pub(super) fn is_placeless(sanitizer: &[u8]) -> bool {
    PLACELESS.contains(&sanitizer)
}

/// What to call the language of a source: its suffix, else its name.
fn ending(source: &[u8]) -> Bytes {
    let suffix = suffix(source);
    if suffix.is_empty() { source.into() } else { suffix.into() }
}

/// Whether a character set needs no conversion, so that naming it twice does no harm.
fn is_utf8(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"utf-8") || name.eq_ignore_ascii_case(b"utf8")
}
