//! Which files a compile reads and makes besides what everyone expects, by name.
//!
//! The rules are those of the manuals (gcc: "Overall Options", under `-dumpbase` and `-dumpdir`;
//! "Developer Options"; "Instrumentation Options"), checked against gcc 11 and 12 and clang 14 and 19
//! by `tests/it/products.rs`. What gcc 10 names otherwise is allowed too: it names dumps by the source
//! where later ones name them by the output, and `-save-temps` there means the working directory.
//!
//! Every name here is made of the source's, of the output's or of an option's value, so a volunteer
//! can choose none.

use super::effects::{Effect, Effects, is_short};
use super::names::{basename, default_output, folder, is_of_the_process, stem, suffix};
use super::table::Emit;
use super::{Language, Products, Read, Writer};
use crate::common::bytes::Bytes;

/// A compile, as far as names depend on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compile<'a> {
    /// The source as named.
    pub source: &'a Bytes,
    /// Its language.
    pub language: Language,
    /// Whether it is preprocessed text.
    pub preprocessed: bool,
    /// Whether it is a header that is precompiled.
    pub header: bool,
    /// Whether it is the text of a module's interface, of which clang makes the module first.
    pub interface: bool,
    /// The output.
    pub output: &'a Bytes,
    /// Whether `-o` names it.
    pub named: bool,
    /// What it is.
    pub emit: Emit,
    /// The dependency file.
    pub dependencies: Option<&'a Bytes>,
    /// Whether clang runs GNU's assembler.
    pub assembles_outside: bool,
    /// Whether some of it was said in response files.
    pub responded: bool,
    /// Whose rules hold.
    pub clang: bool,
}

/// What gcc's analyzer dumps, by the ends of the names.
const ANALYZER: [&str; 8] = [
    ".analyzer.json.gz",
    ".analyzer.txt",
    ".callgraph.dot",
    ".eg.dot",
    ".eg.txt",
    ".state-purge.dot",
    ".supergraph-eg.dot",
    ".supergraph.dot",
];

/// What `-fdump…` prints, or changes in what others dump, without a file of its own.
const DUMPS_WITHOUT_FILES: [&[u8]; 5] =
    [b"-internal-locations", b"-noaddr", b"-passes", b"-unnumbered", b"-record-layouts"];

/// Letters behind `-d` that dump no pass.
const LETTERS_WITHOUT_FILES: &[u8] = b"ADHIMNPUpx";

/// The programs that gcc and clang look for where `-B` says, for a compile.
pub const DRIVEN: [&str; 7] = ["as", "cc1", "cc1obj", "cc1objplus", "cc1plus", "cpp", "objcopy"];

impl Compile<'_> {
    /// What the compile may make.
    pub fn products(&self, effects: &Effects) -> Products {
        let mut products = Products { names: vec![self.output.clone()], ..Products::default() };
        products.writers.push((self.output.clone(), self.writer(effects)));
        products.names.extend(self.dependencies.cloned());
        for (effect, value) in &effects.seen {
            self.add_products(*effect, value, effects, &mut products);
        }
        // What goes to a device leaves nothing.
        products.names.retain(|name| !is_of_the_process(name));
        keep_first(&mut products.names);
        keep_first(&mut products.beginnings);
        products.writers.retain(|(_, writer)| *writer != Writer::Plain);
        products
    }

    /// What writes the object, or what is in its place.
    fn writer(&self, effects: &Effects) -> Writer {
        let assembles = self.emit == Emit::Object && !self.header && !effects.has(Effect::Bitcode);
        let is_apart = self.language == Language::Assembler || effects.has(Effect::Temporaries);
        match assembles {
            false => Writer::Compiler,
            // No assembler of clang's meets what it keeps for the linker.
            true if effects.has(Effect::LinkTime) => Writer::Object,
            true if self.assembles_outside => Writer::Assembler,
            true if is_apart => Writer::Binary,
            true => Writer::Object,
        }
    }

    /// Whether files that gcc appends to are written in another way, too: then what comes of it depends on
    /// what is in them.
    pub fn mixes_logs(&self, effects: &Effects) -> bool {
        let named = |value: &[u8]| file_in(value).map(|file| Bytes::from(basename(&file)));
        let logs = effects.seen.iter().filter(|(effect, value)| is_log(*effect, value));
        let logs: Vec<Bytes> = logs.filter_map(|(_, value)| named(value)).collect();
        let is_other = |(effect, value): &&(Effect, Bytes)| !is_log(*effect, value);
        let others = effects.seen.iter().filter(is_other);
        let of_options = others.flat_map(|(_, value)| [named(value), Some(basename(value).into())]).flatten();
        let own = [Some(self.output), self.dependencies, Some(self.source)].into_iter().flatten();
        let own = own.map(|name| Bytes::from(basename(name)));
        of_options.chain(own).any(|name| logs.contains(&name))
    }

    fn add_products(&self, effect: Effect, value: &[u8], effects: &Effects, products: &mut Products) {
        let names = match effect {
            Effect::Writes | Effect::WritesMessages | Effect::WritesDatabase => vec![value.into()],
            Effect::Auxiliary(ending) => with(&self.auxiliary(effects), &[ending]),
            Effect::Notes => with(&self.auxiliary(effects), &[".gcno"]),
            Effect::SplitDebug if value != b"=single" => self.split_debug(effects),
            Effect::Temporaries => self.temporaries(effects),
            Effect::Dumps => self.dumps(value, effects, &mut products.beginnings),
            Effect::Remarks => file_in(value).into_iter().collect(),
            Effect::Record => self.record(value, effects),
            Effect::RecordPasses => self.record(b"", effects),
            Effect::TimeTrace => self.time_trace(value, effects),
            Effect::MessageFormat => match value {
                b"json-file" => with(&self.message_files(effects), &[".gcc.json"]),
                b"sarif-file" => with(&self.message_files(effects), &[".sarif"]),
                _ => Vec::new(),
            },
            Effect::MessageOutput => self.message_output(value, effects),
            Effect::ModuleOutput => self.module(value),
            _ => Vec::new(),
        };
        let writer = match effect {
            Effect::ModuleOutput => Writer::Module,
            Effect::SplitDebug => Writer::Binary,
            Effect::Temporaries | Effect::WritesMessages => Writer::Compiler,
            Effect::WritesDatabase => Writer::Database,
            _ if is_log(effect, value) => Writer::Log,
            _ => Writer::Plain,
        };
        products.writers.extend(names.iter().map(|name| (name.clone(), writer)));
        products.names.extend(names);
    }

    /// What options name to be read.
    pub fn reads(&self, effects: &Effects) -> Vec<Read> {
        let mut reads = Vec::new();
        for (effect, value) in &effects.seen {
            match effect {
                Effect::Reads | Effect::Precompiled => reads.push(Read::needed(value)),
                Effect::Specs => {
                    let specs = !value.starts_with(b"/");
                    reads.push(Read { specs, ..Read::needed(value) });
                }
                Effect::ReadsIfThere => reads.push(Read::optional(value)),
                Effect::ReadsList => reads.extend(value.strip_prefix(b"list=").map(Read::needed)),
                Effect::Plugin => reads.push(Read { plugin: true, ..Read::needed(value) }),
                Effect::PluginOfGcc => reads.push(self.plugin(value)),
                Effect::Profile if self.clang => reads.extend(profile_of_clang(value)),
                Effect::Profile => reads.extend(self.profile(effects)),
                Effect::AutoProfile => {
                    reads.push(Read::needed(value.strip_prefix(b"=").unwrap_or(b"fbdata.afdo")));
                }
                Effect::Programs => reads.extend(programs(value)),
                _ => {}
            }
        }
        keep_first(&mut reads);
        reads
    }

    /// clang has no folder of its own for plugins.
    fn plugin(&self, name: &[u8]) -> Read {
        let short = !self.clang && is_short(name);
        let path = if short { [name, b".so"].concat() } else { name.to_vec() };
        Read { plugin: true, short, ..Read::needed(&path) }
    }

    /// Whether two compiles here would give different bytes as well.
    pub fn varies(&self, effects: &Effects) -> bool {
        let dumps = |(effect, value): &(Effect, Bytes)| match effect {
            Effect::Dumps => !dumps_nothing(value),
            Effect::Record | Effect::Notes | Effect::Stamp | Effect::LinkTime => !self.clang,
            Effect::TimeTrace => true,
            // What is there depends on what was there.
            _ if is_log(*effect, value) => true,
            // With the times of its start and end.
            Effect::MessageFormat | Effect::MessageOutput => value.starts_with(b"sarif"),
            _ => false,
        };
        let stamped = |(effect, _): &&(Effect, Bytes)| {
            !(effects.seeded && matches!(effect, Effect::Notes | Effect::Stamp | Effect::LinkTime))
        };
        // The name of a file that is made meanwhile is in the object.
        let random = self.interface && self.emit != Emit::Module && !effects.has(Effect::ModuleOutput);
        random || self.header && !self.clang || effects.seen.iter().filter(stamped).any(dumps)
    }

    /// What auxiliary files are called, up to their ending.
    fn auxiliary(&self, effects: &Effects) -> Vec<Bytes> {
        let beside = self.beside();
        let moved = !self.clang && is_here(effects);
        let here = moved.then(|| Bytes::from(basename(&beside)));
        [beside].into_iter().chain(here).collect()
    }

    /// The output without its ending; without `-o`, the source's in the working directory.
    fn beside(&self) -> Bytes {
        let named = if self.named { self.output } else { self.source };
        let name = basename(named);
        // For gcc, a name that only begins with a dot has no ending.
        let short = if self.clang || name.iter().rposition(|&byte| byte == b'.') != Some(0) {
            stem(name)
        } else {
            name
        };
        let place = if self.named { folder(named) } else { b"" };
        [place, short].concat().into()
    }

    /// The source's name without its ending, in the working directory.
    fn source_here(&self) -> Bytes {
        default_output(self.source, "")
    }

    /// What dumps are called, up to what was dumped.
    fn dump_bases(&self, effects: &Effects) -> Vec<Bytes> {
        let ending = suffix(self.source);
        let by_output = self.auxiliary(effects).into_iter().map(|stem| Bytes::from([&stem, ending].concat()));
        let place = if self.named { folder(self.output) } else { b"" };
        let by_source = Bytes::from([place, basename(self.source)].concat());
        by_output.chain([by_source]).collect()
    }

    /// What files of messages are called, up to their ending: some versions put them where dumps go,
    /// others in the working directory.
    fn message_files(&self, effects: &Effects) -> Vec<Bytes> {
        let bases = self.dump_bases(effects);
        let here: Vec<Bytes> = bases.iter().map(|base| basename(base).into()).collect();
        [bases, here].concat()
    }

    fn split_debug(&self, effects: &Effects) -> Vec<Bytes> {
        match (self.clang, self.emit) {
            (false, Emit::Assembly) => Vec::new(),
            (true, Emit::Assembly) => with(&[self.beside(), self.source_here()], &[".dwo"]),
            (_, Emit::Module) => Vec::new(),
            (_, Emit::Object) => with(&self.auxiliary(effects), &[".dwo"]),
        }
    }

    /// What `-save-temps` names its files by.
    fn temporary_stems(&self, effects: &Effects) -> Vec<Bytes> {
        let beside_output = effects.values(Effect::Temporaries).any(|place| &**place == b"=obj");
        if !self.clang {
            let here = (!beside_output).then(|| self.source_here());
            return self.auxiliary(effects).into_iter().chain(here).collect();
        }
        let place = if beside_output && self.named { folder(self.output) } else { b"" };
        vec![[place, stem(self.source)].concat().into()]
    }

    fn temporaries(&self, effects: &Effects) -> Vec<Bytes> {
        let preprocessed = match self.language {
            _ if self.preprocessed => None,
            Language::C => Some(".i"),
            Language::Cxx => Some(".ii"),
            Language::ObjC => Some(".mi"),
            Language::ObjCxx => Some(".mii"),
            Language::Assembler => None,
        };
        let bitcode = (self.clang && self.language != Language::Assembler).then_some(".bc");
        let assembly = (self.emit == Emit::Object).then_some(".s");
        let endings: Vec<&str> = [preprocessed, bitcode, assembly].into_iter().flatten().collect();
        let stems = self.temporary_stems(effects);
        let mut names = with(&stems, &endings);
        if self.responded && !self.clang {
            // What it searches, for its compiler proper. With `-o` it leaves the name of one of these out.
            let nameless = stems.iter().map(|stem| Bytes::from(folder(stem)));
            let all: Vec<Bytes> = nameless.chain([self.source_here()]).chain(stems.iter().cloned()).collect();
            names.extend(with(&all, &[".args.0"]));
        }
        names
    }

    /// What a dump option makes: `value` is what follows `-fdump`, or the letters behind `-d`.
    fn dumps(&self, value: &[u8], effects: &Effects, beginnings: &mut Vec<Bytes>) -> Vec<Bytes> {
        if let Some(file) = file_in(value) {
            let graph = Bytes::from([&file[..], b".dot"].concat());
            return if value.windows(6).any(|part| part == b"-graph") {
                vec![file, graph]
            } else {
                vec![file]
            };
        }
        let bases = self.dump_bases(effects);
        if self.clang || dumps_nothing(value) || value.contains(&b'=') {
            return Vec::new();
        }
        if value.starts_with(b"-analyzer") {
            return with(&bases, &ANALYZER);
        }
        if value.starts_with(b"-final-insns") {
            let stems = [bases, self.auxiliary(effects), vec![self.output.clone()]].concat();
            return with(&stems, &[".gkd"]);
        }
        // Behind the dot is the number of the pass.
        let numbers: Vec<String> = (0..10).map(|digit| format!(".{digit}")).collect();
        let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
        beginnings.extend(with(&bases, &numbers));
        Vec::new()
    }

    fn record(&self, value: &[u8], effects: &Effects) -> Vec<Bytes> {
        if !self.clang {
            return with(&self.dump_bases(effects), &[".opt-record.json.gz"]);
        }
        let format = value.strip_prefix(b"=").filter(|format| format.iter().all(u8::is_ascii_alphanumeric));
        let ending = [b".opt.", format.unwrap_or(b"yaml")].concat();
        vec![[&self.beside()[..], &ending].concat().into()]
    }

    fn time_trace(&self, value: &[u8], effects: &Effects) -> Vec<Bytes> {
        let mut stems = vec![self.beside()];
        if effects.has(Effect::Temporaries) {
            stems.extend(self.temporary_stems(effects));
        }
        let Some(place) = value.strip_prefix(b"=") else { return with(&stems, &[".json"]) };
        let slash: &[u8] = if place.ends_with(b"/") { b"" } else { b"/" };
        let within = |stem: &Bytes| Bytes::from([place, slash, basename(stem)].concat());
        let mut names = with(&stems.iter().map(within).collect::<Vec<_>>(), &[".json"]);
        if !slash.is_empty() {
            names.push(place.into());
        }
        names
    }

    fn message_output(&self, value: &[u8], effects: &Effects) -> Vec<Bytes> {
        let (scheme, keys) = match value.iter().position(|&byte| byte == b':') {
            Some(colon) => (&value[..colon], &value[colon + 1..]),
            None => (value, &b""[..]),
        };
        if let Some(file) = keys.split(|&byte| byte == b',').find_map(|key| key.strip_prefix(b"file=")) {
            return vec![file.into()];
        }
        match scheme {
            b"sarif" => with(&self.message_files(effects), &[".sarif"]),
            b"experimental-html" => with(&self.message_files(effects), &[".html"]),
            _ => Vec::new(),
        }
    }

    /// The compiled module that is made beside an object.
    fn module(&self, value: &[u8]) -> Vec<Bytes> {
        if value.is_empty() { with(&[self.beside()], &[".pcm"]) } else { vec![value.into()] }
    }

    /// gcc's profile: beside the output, or in a folder under a name made of the absolute path.
    fn profile(&self, effects: &Effects) -> Vec<Read> {
        let mut folders = effects.seen.iter().filter_map(|(effect, value)| match effect {
            Effect::Profile => value.strip_prefix(b"="),
            Effect::ProfileFolder => Some(&value[..]),
            _ => None,
        });
        let data = with(&self.auxiliary(effects), &[".gcda"]);
        let Some(place) = folders.next_back() else {
            return data.iter().map(|name| Read::optional(name)).collect();
        };
        let prefix = effects.values(Effect::ProfilePrefix).last().map_or(&b""[..], |prefix| prefix);
        let mangled = data.iter().map(|name| Read::mangled(place, name, prefix));
        // Some versions leave an absolute name as it is.
        let plain = data.iter().filter(|name| name.starts_with(b"/"));
        let plain = plain.map(|name| Read::optional(&[place, b"/", &name[..]].concat()));
        mangled.chain(plain).collect()
    }
}

/// Whether passes of gcc append to the file that an option names: to that of remarks always, to that of dumps
/// where all passes share it.
fn is_log(effect: Effect, value: &[u8]) -> bool {
    const SHARED: [&[u8]; 4] = [b"-ipa-all", b"-lang-all", b"-rtl-all", b"-tree-all"];
    let shares = |rest: &[u8]| matches!(rest.first(), Some(b'=' | b'-'));
    match effect {
        Effect::Remarks => file_in(value).is_some(),
        Effect::Dumps => {
            file_in(value).is_some()
                && SHARED.iter().any(|passes| value.strip_prefix(*passes).is_some_and(shares))
        }
        _ => false,
    }
}

/// Whether `-save-temps` moves gcc's auxiliary files into the working directory.
fn is_here(effects: &Effects) -> bool {
    effects.values(Effect::Temporaries).any(|place| &**place == b"=cwd")
}

/// Whether an option that dumps, or its letters, dump no pass.
fn dumps_nothing(value: &[u8]) -> bool {
    let letters = !value.starts_with(b"-");
    DUMPS_WITHOUT_FILES.contains(&value)
        || letters && value.iter().all(|letter| LETTERS_WITHOUT_FILES.contains(letter))
}

/// Each beginning with each ending.
fn with(stems: &[Bytes], endings: &[&str]) -> Vec<Bytes> {
    let pairs = stems.iter().flat_map(|stem| endings.iter().map(move |ending| (stem, ending)));
    pairs.map(|(stem, ending)| [&stem[..], ending.as_bytes()].concat().into()).collect()
}

/// The file behind `=`, where that is not one of the streams.
fn file_in(value: &[u8]) -> Option<Bytes> {
    let equals = value.iter().position(|&byte| byte == b'=')?;
    let file = &value[equals + 1..];
    (!matches!(file, b"" | b"-" | b"stderr" | b"stdout")).then(|| file.into())
}

/// clang's profile: a file, or the one of the usual name in a folder.
fn profile_of_clang(value: &[u8]) -> Vec<Read> {
    match value.strip_prefix(b"=") {
        None => vec![Read::needed(b"default.profdata")],
        Some(path) => {
            let within = [path, b"/default.profdata"].concat();
            vec![Read::optional(path), Read::optional(&within)]
        }
    }
}

/// What `-B` makes the driver find: programs behind the prefix, and when that is a folder, anything
/// in it.
fn programs(prefix: &[u8]) -> Vec<Read> {
    let found = |path: &[u8]| Read { programs: true, ..Read::optional(path) };
    let mut reads = vec![Read { whole_folder: true, ..found(prefix) }];
    if !prefix.ends_with(b"/") {
        let names = DRIVEN.iter().chain(&["specs"]);
        reads.extend(names.map(|name| found(&[prefix, name.as_bytes()].concat())));
    }
    reads
}

/// Leaves out what is there already.
fn keep_first<T: PartialEq>(list: &mut Vec<T>) {
    let mut at = 0;
    while at < list.len() {
        if list[..at].contains(&list[at]) {
            list.remove(at);
        } else {
            at += 1;
        }
    }
}
