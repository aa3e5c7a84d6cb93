//! A client of hermetic compiles: real files of this machine, as input sets.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use distcc::broker::unpack::Piece;
use distcc::common::inputs::{Entry, EntryKind, FileEntry, Item, Reading, Runs};
use distcc::common::invocation::Terminal;
use distcc::common::limits::LINK_CHUNK_MAX_BYTES;
use distcc::common::protocol::link::{
    Compile, Compiled, FrameHeader, FrameKind, Part, Refusal, ToBroker, ToVolunteer,
};
use distcc::common::toolchain::Digest;

use super::link::Link;

/// What exists for a compile.
#[derive(Clone, Default)]
pub struct View(pub BTreeSet<Entry>);

impl View {
    /// A compiler with all that it runs.
    pub fn of_compiler(driver: &str) -> Self {
        let mut view = View::default();
        let mut programs = vec![PathBuf::from(driver)];
        for name in ["cc1", "cc1plus", "as", "liblto_plugin.so"] {
            let option = if name.ends_with(".so") { "-print-file-name" } else { "-print-prog-name" };
            let answer = Command::new(driver).arg(format!("{option}={name}")).output().unwrap().stdout;
            let answer = String::from_utf8(answer).unwrap().trim_end().to_owned();
            programs.push(if answer.contains('/') {
                answer.into()
            } else {
                Path::new("/usr/bin").join(answer)
            });
        }
        programs.iter().filter(|program| program.exists()).for_each(|program| view.program(program));
        view
    }

    /// A shell with the programs that scripts of tests use.
    pub fn of_shell() -> Self {
        let mut view = View::default();
        for name in ["sh", "cat", "chmod", "ls", "ln", "mkdir", "mkfifo", "rm", "sleep", "dd"] {
            view.program(&Path::new("/bin").join(name));
        }
        view
    }

    /// Adds a program with its libraries.
    pub fn program(&mut self, program: &Path) {
        self.path(program);
        let libraries = Command::new("ldd").arg(program).output().unwrap().stdout;
        let libraries = String::from_utf8(libraries).unwrap();
        for word in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
            self.path(Path::new(word));
        }
    }

    /// Adds a file or folder with all links on the way to it.
    pub fn path(&mut self, path: &Path) -> &mut Self {
        let mut real = PathBuf::from("/");
        let mut rest: Vec<PathBuf> = parts(path);
        while let Some(part) = rest.pop() {
            if part == Path::new("..") {
                self.folder(&real.clone());
                real.pop();
                continue;
            }
            let next = real.join(&part);
            match fs::read_link(&next) {
                Ok(target) => {
                    self.link(&next, &target);
                    if target.is_absolute() {
                        real = PathBuf::from("/");
                    }
                    rest.extend(parts(&target));
                }
                Err(_) => real = next,
            }
        }
        if real.is_dir() { self.folder(&real) } else { self.file(&real) }
    }

    /// Adds what a compile of these arguments reads here, the source included.
    pub fn read_by(&mut self, driver: &str, arguments: &[&str], cwd: &Path) -> &mut Self {
        let list = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new(driver);
        command.args(arguments).args(["-fsyntax-only", "-MD", "-MF"]).arg(list.path()).current_dir(cwd);
        assert!(command.status().unwrap().success(), "{command:?}");
        let list = fs::read(list.path()).unwrap();
        for name in distcc::common::dependencies::prerequisites(&list).unwrap() {
            self.path(&cwd.join(name.as_path()));
        }
        self.folder(cwd)
    }

    pub fn file(&mut self, path: &Path) -> &mut Self {
        let bytes = fs::read(path).unwrap();
        let file = FileEntry {
            digest: Digest::of(&bytes),
            size: bytes.len() as u64,
            executable: fs::metadata(path).unwrap().permissions().mode() & 0o111 != 0,
            twin: 0,
            age: 0,
        };
        self.entry(path, EntryKind::File(file))
    }

    pub fn folder(&mut self, path: &Path) -> &mut Self {
        self.entry(path, EntryKind::Folder)
    }

    pub fn link(&mut self, path: &Path, target: &Path) -> &mut Self {
        self.entry(path, EntryKind::Link { target: target.into() })
    }

    pub fn entry(&mut self, path: &Path, kind: EntryKind) -> &mut Self {
        if path != Path::new("/") {
            self.0.insert(Entry { path: path.into(), kind });
        }
        self
    }
}

fn parts(path: &Path) -> Vec<PathBuf> {
    let part = |part: Component<'_>| match part {
        Component::RootDir | Component::CurDir => None,
        part => Some(PathBuf::from(part.as_os_str())),
    };
    path.components().rev().filter_map(part).collect()
}

/// A command to run among some view.
#[derive(Clone)]
pub struct Job<'a> {
    pub program: &'a str,
    pub arguments: Vec<&'a str>,
    pub environment: Vec<String>,
    pub cwd: &'a Path,
    pub terminal: Option<Terminal>,
    pub view: &'a View,
    pub reads: Option<Reading>,
}

impl<'a> Job<'a> {
    pub fn new(program: &'a str, arguments: &[&'a str], cwd: &'a Path, view: &'a View) -> Self {
        let environment = vec!["PATH=/usr/bin:/bin".to_owned(), "LC_ALL=C".to_owned()];
        let arguments = arguments.to_vec();
        Job { program, arguments, environment, cwd, terminal: None, view, reads: None }
    }
}

/// What came back.
pub struct Answer {
    pub compiled: Compiled,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub products: HashMap<PathBuf, Vec<u8>>,
}

impl Answer {
    pub fn words(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// A link with the numbers that it has given out.
pub struct Client {
    pub link: Link,
    numbers: HashMap<Item, u32>,
    next_bundle: u32,
    /// The numbers that the volunteer asked for, one behind the other.
    pub asked: Vec<u32>,
    /// Those of its last word about that.
    pub last_asked: Vec<u32>,
    /// Whether files are sent when they are asked for.
    pub sends: bool,
}

impl Client {
    pub fn new(link: Link) -> Self {
        Client {
            link,
            numbers: HashMap::new(),
            next_bundle: 1,
            asked: Vec::new(),
            last_asked: Vec::new(),
            sends: true,
        }
    }

    /// The numbers of these items, which are defined if need be.
    pub fn define(&mut self, items: Vec<Item>) -> Vec<u32> {
        let mut fresh = Vec::new();
        let mut numbers = Vec::new();
        for item in items {
            let next = self.numbers.len() as u32;
            let number = *self.numbers.entry(item.clone()).or_insert_with(|| {
                fresh.push((next, item));
                next
            });
            numbers.push(number);
        }
        self.link.send(&ToVolunteer::Define { items: fresh });
        numbers
    }

    pub fn set(&mut self, view: &View) -> Runs {
        let mut numbers = self.define(view.0.iter().cloned().map(Item::Entry).collect());
        numbers.sort_unstable();
        Runs::of(&numbers)
    }

    /// That a job among this view must open these files of it.
    pub fn opens(&mut self, view: &View, must: &[&Path]) -> Reading {
        let is_apart = |entry: &&Entry| {
            entry.kind.file().is_some() && !must.iter().any(|path| *path == entry.path.as_path())
        };
        let apart: Vec<Item> = view.0.iter().filter(is_apart).cloned().map(Item::Entry).collect();
        let mut numbers = self.define(apart);
        numbers.sort_unstable();
        Reading::Opened { apart: Runs::of(&numbers) }
    }

    /// Sends a job.
    pub fn submit(&mut self, number: u32, job: &Job<'_>) {
        let inputs = self.set(job.view);
        let word = |text: &[u8]| Item::Word(text.into());
        let argv = self.define(
            [&[job.program], &job.arguments[..]].concat().iter().map(|text| word(text.as_bytes())).collect(),
        );
        let environment = self.define(job.environment.iter().map(|text| word(text.as_bytes())).collect());
        let ends = self.define(vec![word(job.program.as_bytes()), word(job.cwd.as_os_str().as_bytes())]);
        let compile = Compile {
            program: ends[0],
            argv,
            environment,
            cwd: ends[1],
            terminal: job.terminal,
            inputs,
            reads: job.reads.clone(),
            tells_temporary: false,
        };
        self.link.send(&ToVolunteer::Compile {
            job: number,
            compile: Box::new(compile),
            deadline_ms: 60_000,
        });
    }

    /// Runs a job to its answer.
    pub fn run(&mut self, number: u32, job: &Job<'_>) -> Result<Answer, Refusal> {
        self.submit(number, job);
        self.answer()
    }

    /// Serves the volunteer until the next job is answered.
    pub fn answer(&mut self) -> Result<Answer, Refusal> {
        match self.serve(|message| matches!(message, ToBroker::Compiled(_) | ToBroker::Refused { .. })) {
            ToBroker::Compiled(compiled) => Ok(self.take(compiled)),
            ToBroker::Refused { why, .. } => Err(why),
            other => panic!("unexpected {other:?}"),
        }
    }

    /// Serves the volunteer until it says what is wanted.
    pub fn serve(&mut self, wanted: impl Fn(&ToBroker) -> bool) -> ToBroker {
        loop {
            let message = self.link.wait(|message| {
                wanted(message)
                    || matches!(
                        message,
                        ToBroker::NeedFiles { .. }
                            | ToBroker::BundleWindow { .. }
                            | ToBroker::Provisioned { .. }
                            | ToBroker::Unprovided { .. }
                    )
            });
            if let ToBroker::NeedFiles { items } = &message {
                self.asked.extend(items);
                self.last_asked = items.clone();
            }
            if wanted(&message) {
                return message;
            }
            match message {
                ToBroker::NeedFiles { items } if self.sends => self.send_files(&items),
                _ => {}
            }
        }
    }

    /// The entry behind a number.
    pub fn entry(&self, number: u32) -> &Entry {
        let item = self.numbers.iter().find(|(_, found)| **found == number).map(|(item, _)| item);
        match item {
            Some(Item::Entry(entry)) => entry,
            other => panic!("{number} is {other:?}"),
        }
    }

    pub fn send_files(&mut self, items: &[u32]) {
        let mut text = Vec::new();
        for number in items {
            text.extend(fs::read(self.entry(*number).path.as_path()).unwrap());
        }
        self.send_bundle(items, &zstd::encode_all(&text[..], 1).unwrap());
    }

    pub fn send_bundle(&mut self, items: &[u32], packed: &[u8]) {
        let bundle = self.next_bundle;
        self.next_bundle += 1;
        let items = items.to_vec();
        self.link.send(&ToVolunteer::Bundle { bundle, items, packed: packed.len() as u64 });
        let mut bytes = Vec::new();
        for chunk in packed.chunks(LINK_CHUNK_MAX_BYTES as usize) {
            let header = FrameHeader { length: chunk.len() as u32, kind: FrameKind::Bundle, job: bundle };
            bytes.extend_from_slice(&header.encode());
            bytes.extend_from_slice(chunk);
        }
        self.link.stream.write_all(&bytes).unwrap();
    }

    fn take(&mut self, compiled: Compiled) -> Answer {
        let products = compiled.products.iter().map(|product| product.part);
        let parts: Vec<Part> = [compiled.stdout, compiled.stderr].into_iter().chain(products).collect();
        let total: u64 = parts.iter().map(|part| part.packed).sum();
        let data = self.link.data_of(compiled.job, total);
        let mut rest = &data[..];
        let mut unpacked =
            parts.iter().map(|part| Piece::take(&mut rest, part).and_then(Piece::to_vec).unwrap());
        let (stdout, stderr) = (unpacked.next().unwrap(), unpacked.next().unwrap());
        let paths = compiled.products.iter().map(|product| product.path.as_path().to_owned());
        let products = paths.zip(unpacked).collect();
        Answer { compiled, stdout, stderr, products }
    }
}
