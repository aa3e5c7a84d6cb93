//! What a compiler says of itself: predefined macros, include directories, how it lexes, and its
//! answers to `__has_attribute(…)` and its kin. Asked by running it, once per set of flags.

mod asked;

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::macros::Builtin;
use super::options::CommandLine;
use super::token::Mode;
use super::{Declined, Facts, Family, Oracle};
use crate::common::bytes::Bytes;
use crate::common::toolchain::Digest;
use asked::{COMPUTED, CONSTANT, probe};

/// How long one answer may take: the slowest drivers need a tenth of a second.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The most that an answer may be long.
const ANSWER_MAX_BYTES: u64 = 8 << 20;

/// Variables that change what a driver says.
pub const ENVIRONMENT: [&str; 11] = [
    "CPATH",
    "C_INCLUDE_PATH",
    "CPLUS_INCLUDE_PATH",
    "OBJC_INCLUDE_PATH",
    "OBJCPLUS_INCLUDE_PATH",
    "GCC_EXEC_PREFIX",
    "COMPILER_PATH",
    "CCC_OVERRIDE_OPTIONS",
    "CCC_ADD_ARGS",
    "GCC_COMPARE_DEBUG",
    "LIBRARY_PATH",
];

/// A compiler to ask, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Compiler {
    /// The program.
    pub program: Bytes,
    /// What it is made of, as [`Question::toolchain`](super::Question::toolchain).
    pub toolchain: Option<Digest>,
    /// Arguments that matter, `-x LANGUAGE` included.
    pub arguments: Vec<Bytes>,
    /// Where it runs: relative directories depend on it.
    pub cwd: Bytes,
    /// Its environment.
    pub environment: Vec<(Bytes, Bytes)>,
}

/// The lists that `-v` prints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Directories for quotes alone.
    pub quotes: Vec<Bytes>,
    /// Directories that `<…>` searches.
    pub brackets: Vec<Bytes>,
    /// Directories left out: missing.
    pub missing: Vec<Bytes>,
    /// Directories left out: the same as another.
    pub ignored: Vec<Bytes>,
    /// The compiler proper, specs and configuration files that the driver says it uses; specs may be relative.
    pub programs: Vec<Bytes>,
    /// Whether it is clang.
    pub is_clang: bool,
    /// Names that directories for its target may have.
    pub targets: Vec<Bytes>,
}

impl Listed {
    /// All directories that are named.
    pub fn all(&self) -> impl Iterator<Item = &Bytes> {
        self.quotes.iter().chain(&self.brackets).chain(&self.missing).chain(&self.ignored)
    }
}

/// What was said when everything was asked.
#[derive(Debug)]
pub struct Said {
    /// The facts, without a number.
    pub facts: Facts,
    /// Answers to common questions.
    pub answers: HashMap<Vec<u8>, i64>,
}

/// A running question.
struct Running {
    child: std::process::Child,
    out: mpsc::Receiver<Vec<u8>>,
    err: mpsc::Receiver<Vec<u8>>,
    since: Instant,
}

impl Compiler {
    /// Whether it is the same program with the same flags, wherever it runs.
    pub fn is_like(&self, other: &Compiler) -> bool {
        (&self.program, self.toolchain, &self.arguments, &self.environment)
            == (&other.program, other.toolchain, &other.arguments, &other.environment)
    }

    fn start(&self, extra: &[&str], input: &[u8]) -> Result<Running, Declined> {
        let mut command = Command::new(self.program.as_os_str());
        command.args(self.arguments.iter().map(Bytes::as_os_str)).args(extra).arg("-");
        command.current_dir(self.cwd.as_path()).env_clear();
        command.envs(self.environment.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str())));
        command.env("LC_ALL", "C").env_remove("DEPENDENCIES_OUTPUT").env_remove("SUNPRO_DEPENDENCIES");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = |error: std::io::Error| Declined::Compiler(error.to_string());
        let mut child = command.spawn().map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            // Far below what a pipe holds; an early end of the reader shows in its answer.
            let _ = stdin.write_all(input);
        }
        let out = collect(child.stdout.take());
        let err = collect(child.stderr.take());
        Ok(Running { child, out, err, since: Instant::now() })
    }

    /// Whether the words of C++ are operators (gcc's manual, 3.5: `-fno-operator-names`). The compiler cannot be asked:
    /// such a word in `#if` is an error where it is none.
    fn has_operator_names(&self) -> bool {
        let said = |argument: &&Bytes| matches!(&argument[..], b"-fno-operator-names" | b"-foperator-names");
        self.arguments.iter().rev().find(said).is_none_or(|last| last[..] == *b"-foperator-names")
    }

    /// Asks for predefined macros, ways of lexing and answers to common questions.
    ///
    /// # Errors
    ///
    /// [`Declined::Compiler`] if the compiler does not answer as one.
    pub fn facts(&self, canonical: bool, remaps: bool) -> Result<Said, Declined> {
        let macros = self.start(&["-E", "-dM", "-nostdinc"], b"\n")?;
        let probe = self.start(&["-E"], &probe())?;
        let mut predefined = macros.finish()?.0;
        let text = probe.finish()?.0;
        let lines = marked(&text);
        let yes = |name: &str| lines.get(name.as_bytes()).is_some_and(|value| value == b"YES");
        let family = if contains(&predefined, b"#define __clang__ ") { Family::Clang } else { Family::Gcc };
        if !contains(&predefined, b"#define __GNUC__ ") && !contains(&predefined, b"#define __clang__ ") {
            return Err(Declined::Compiler("neither gcc nor clang".to_owned()));
        }
        if let Some(value) = lines.get(&b"constant"[..]).and_then(|value| number(value)) {
            // What is listed already comes to the same.
            predefined.extend_from_slice(format!("#define {CONSTANT} {value}\n").as_bytes());
        }
        let cxx = contains(&predefined, b"#define __cplusplus ");
        let mode = Mode {
            raw_strings: yes("raw"),
            digit_separators: yes("separator"),
            line_comments: yes("line"),
            trigraphs: lines.get(&b"trigraph"[..]).is_some_and(|value| value != b"YES"),
            truth: yes("truth"),
            cxx: cxx && self.has_operator_names(),
            assembler: contains(&predefined, b"#define __ASSEMBLER__ "),
            elifdef: yes("elifdef"),
            unsigned_char: contains(&predefined, b"#define __CHAR_UNSIGNED__ "),
            unsigned_wide: contains(&predefined, b"#define __WCHAR_UNSIGNED__ "),
            modules: yes("modules"),
        };
        let defined = |name: &str| lines.contains_key(format!("defined {name}").as_bytes());
        let builtins = COMPUTED.iter().filter(|(name, _)| defined(name)).map(|&(name, builtin)| {
            let renamed = remaps && matches!(builtin, Builtin::File | Builtin::BaseFile);
            (name, if renamed { Builtin::Unknown } else { builtin })
        });
        // A gcc for Linux looks for it everywhere, also where it is not to be found yet.
        let is_linux = family == Family::Gcc && contains(&predefined, b"#define __linux__ ");
        let is_hosted = contains(&predefined, b"#define __STDC_HOSTED__ 1");
        let has_own = !self.arguments.iter().any(|argument| argument[..] == *b"-nostdinc");
        let looks = is_linux && is_hosted && has_own;
        let preinclude = (looks || contains(&text, b"/stdc-predef.h\"")).then_some("stdc-predef.h");
        let facts = Facts {
            family,
            mode,
            builtins: builtins.collect(),
            preinclude,
            canonical,
            number: 0,
            predefined,
        };
        let answers = lines.iter().filter_map(|(name, value)| {
            let question = name.strip_prefix(b"ask ")?;
            Some((question.to_vec(), number(value)?))
        });
        let answers = answers.collect();
        Ok(Said { facts, answers })
    }

    /// Asks for the search lists, under these further arguments.
    ///
    /// # Errors
    ///
    /// [`Declined::Compiler`] if there is no list in the answer.
    pub fn listed(&self) -> Result<Listed, Declined> {
        let (_, err) = self.start(&["-E", "-v"], b"\n")?.finish()?;
        parse_listed(&err).ok_or_else(|| Declined::Compiler("no list of include directories".to_owned()))
    }

    /// Asks one question.
    fn ask(&self, question: &[u8]) -> Option<i64> {
        let input = [b"distcc@ask = ", question, b"\n"].concat();
        let (out, _) = self.start(&["-E", "-P", "-nostdinc"], &input).ok()?.finish().ok()?;
        number(marked(&out).get(&b"ask"[..])?)
    }
}

impl Running {
    fn finish(mut self) -> Result<(Vec<u8>, Vec<u8>), Declined> {
        let left = || PATIENCE.saturating_sub(self.since.elapsed());
        let both = (self.out.recv_timeout(left()), self.err.recv_timeout(left()));
        let (Ok(out), Ok(err)) = both else {
            let _ = self.child.kill();
            let _ = self.child.wait();
            return Err(Declined::Compiler(format!("no answer within {} s", PATIENCE.as_secs())));
        };
        // Its output is closed, so it is ending.
        let _ = self.child.wait();
        Ok((out, err))
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(pipe) = pipe {
            let _ = pipe.take(ANSWER_MAX_BYTES).read_to_end(&mut bytes);
        }
        let _ = sender.send(bytes);
    });
    receiver
}

/// The lines of preprocessed text that were marked: name → value.
fn marked(text: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut lines = BTreeMap::new();
    for line in text.split(|&byte| byte == b'\n') {
        let rest = match line.strip_prefix(b"distcc@") {
            Some(rest) => rest,
            None => match line.strip_prefix(b"distcc @") {
                Some(rest) => rest,
                None => continue,
            },
        };
        let Some(at) = rest.windows(3).position(|three| three == b" = ") else { continue };
        let name: &[u8] = rest[..at].trim_ascii();
        let value = rest[at + 3..].trim_ascii();
        let word = name.split(|&byte| byte == b' ').next().unwrap_or_default();
        let key = match word {
            b"ask" if name.len() > 4 => [b"ask ", name[4..].trim_ascii().trim_ascii_start()].concat(),
            b"defined" => name.strip_suffix(b"_").unwrap_or(name).to_vec(),
            _ => word.to_vec(),
        };
        let key = key.into_iter().filter(|&byte| byte != b'"').collect();
        let value = value.split(|&byte| byte == b' ').next().unwrap_or_default().to_vec();
        let comment_stays = word == b"line" && rest.windows(2).any(|two| two == b"//");
        lines.insert(key, if comment_stays { b"NO".to_vec() } else { value });
    }
    lines
}

fn number(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    text.trim_end_matches(['L', 'l', 'U', 'u']).parse().ok()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Reads the lists out of what `-v` prints.
pub fn parse_listed(text: &[u8]) -> Option<Listed> {
    let mut listed = Listed::default();
    let mut lines = text.split(|&byte| byte == b'\n');
    for line in lines.by_ref() {
        if line.starts_with(b"#include \"...\"") {
            break;
        }
        listed.programs.extend(used_program(line));
        listed.is_clang |= contains(line, b"clang version ");
        if let Some(target) = line.strip_prefix(b"Target: ") {
            listed.targets = targets(target);
        }
        let name = |start: &[u8]| line.strip_prefix(start)?.strip_suffix(b"\"").map(Bytes::from);
        listed.missing.extend(name(b"ignoring nonexistent directory \""));
        listed.ignored.extend(name(b"ignoring duplicate directory \""));
    }
    let mut quotes = true;
    for line in lines {
        match line {
            b"End of search list." => return Some(listed),
            [b' ', name @ ..] => {
                if name.ends_with(b" (framework directory)") || name.ends_with(b" (headermap)") {
                    return None;
                }
                let list = if quotes { &mut listed.quotes } else { &mut listed.brackets };
                list.push(Bytes::from(name));
            }
            _ if line.starts_with(b"#include <...>") => quotes = false,
            _ => {}
        }
    }
    None
}

/// The names of a target's directories: as it calls itself, and as Debian does, without its vendor.
fn targets(target: &[u8]) -> Vec<Bytes> {
    let mut names = vec![Bytes::from(target)];
    let parts: Vec<&[u8]> = target.split(|&byte| byte == b'-').collect();
    if let [machine, _, system @ ..] = &parts[..]
        && !system.is_empty()
    {
        let is_386 = machine.len() == 4 && machine.starts_with(b"i") && machine.ends_with(b"86");
        let machine = if is_386 { &b"i386"[..] } else { machine };
        names.push(Bytes([&[machine][..], system].concat().join(&b'-')));
    }
    names
}

/// What a line of `-v` says the driver runs or reads.
fn used_program(line: &[u8]) -> Option<Bytes> {
    for start in [&b"Reading specs from "[..], b"Configuration file: "] {
        if let Some(path) = line.strip_prefix(start) {
            return Some(Bytes::from(path));
        }
    }
    // A command that the driver runs, its program quoted by clang alone.
    let command = line.strip_prefix(b" ")?;
    let path = match command.strip_prefix(b"\"") {
        Some(quoted) => quoted.split(|&byte| byte == b'"').next()?,
        None => command.split(|&byte| byte == b' ').next()?,
    };
    (path.starts_with(b"/") && command.len() > path.len()).then(|| Bytes::from(path))
}

/// The program that a name means: itself with a slash in it, else the first in `PATH`.
pub fn program(line: &CommandLine, cwd: &[u8], path: Option<&[u8]>) -> Option<PathBuf> {
    let name = &line.compiler;
    let base = Bytes::from(cwd);
    if name.contains(&b'/') {
        return Some(base.as_path().join(name.as_path()));
    }
    let directories = path?.split(|&byte| byte == b':');
    directories
        .map(|directory| base.as_path().join(Bytes::from(directory).as_path()).join(name.as_path()))
        .find(|file| file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok())
}

/// Answers from memory, else from the compiler.
#[derive(Debug)]
pub struct Asker<'a> {
    /// The compiler.
    pub compiler: &'a Compiler,
    /// What it said before.
    pub answers: &'a mut HashMap<Vec<u8>, i64>,
}

impl Oracle for Asker<'_> {
    fn answer(&mut self, question: &[u8]) -> Option<i64> {
        if let Some(&answer) = self.answers.get(question) {
            return Some(answer);
        }
        let answer = self.compiler.ask(question)?;
        self.answers.insert(question.to_vec(), answer);
        Some(answer)
    }
}
