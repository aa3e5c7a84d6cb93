//! Commands of the classic protocol's version 3: the source and what it includes lie in a tree of
//! the volunteer's, below a root, under the client's own paths.
//!
//! The same table says which words name files: those get the root before them. What is not in the
//! table is judged by its shape, as everywhere; what would write a file, or read one that is not in
//! the tree, is refused.

use super::names::{Form, language_by_name, language_of_source};
use super::pieces::{assembler_word, assembler_words};
use super::table::{Class, DependencyOption, Emit, Names, Value, find, harmless_shape, names_no_file};
use super::{Driver, Language};
use crate::common::action::Argument;
use crate::common::bytes::Bytes;

/// Options whose value gets the root before it, as distccd 3.4 has them.
const ROOTED: [&str; 11] = [
    "--imacros",
    "--include",
    "-I",
    "-idirafter",
    "-imacros",
    "-include",
    "-iprefix",
    "-iquote",
    "-isystem",
    "-iwithprefix",
    "-iwithprefixbefore",
];

/// Options that map one beginning of paths to another.
const MAPS: [&str; 4] =
    ["-fdebug-prefix-map=", "-ffile-prefix-map=", "-fmacro-prefix-map=", "-fcoverage-prefix-map="];

/// A command whose files are in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeCommand {
    /// The compiler as it was named.
    pub compiler: Bytes,
    /// The arguments: `Output(0)` is the object, `Output(1)` the dependency file.
    pub arguments: Vec<Argument>,
    /// The source as it was named.
    pub source: Bytes,
    /// Whether the object is assembly text.
    pub assembly: bool,
}

/// Where a tree is, and where in it a command runs.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The absolute path that stands for the client's `/`; it does not end with a slash.
    pub root: &'a [u8],
    /// The working directory as the client has it, absolute.
    pub cwd: &'a [u8],
}

impl Place<'_> {
    /// Where the client's `path` is for a process whose working directory is in the tree.
    ///
    /// # Errors
    ///
    /// Returns that it leads out of the tree.
    fn path(self, path: &[u8]) -> Result<Bytes, String> {
        let absolute = path.starts_with(b"/");
        let start = if absolute { Some(0) } else { depth(0, self.cwd) };
        start.and_then(|start| depth(start, path)).ok_or_else(|| outside(path))?;
        Ok(if absolute { [self.root, path].concat().into() } else { path.into() })
    }
}

fn outside(path: &[u8]) -> String {
    format!("{} leads out of the tree", Bytes::from(path))
}

/// How deep `path` leads from so deep; `None` when it climbs above the root on its way.
pub fn depth(start: usize, path: &[u8]) -> Option<usize> {
    path.split(|&byte| byte == b'/').try_fold(start, |depth, part| match part {
        b"" | b"." => Some(depth),
        b".." => depth.checked_sub(1),
        _ => Some(depth + 1),
    })
}

/// Reads a command whose files are in a tree.
///
/// # Errors
///
/// Returns why it is not run.
pub fn in_tree(argv: &[Bytes], place: Place<'_>) -> Result<TreeCommand, String> {
    let (compiler, words) = argv.split_first().ok_or("no command")?;
    let mut reader = Reader::new(place, compiler, words);
    while let Some(word) = reader.words.pop() {
        if word.contains(&0) || word.starts_with(b"@") {
            return Err(refused(&word));
        }
        match word.first() {
            Some(b'-') if word.len() > 1 => reader.option(&word)?,
            _ => reader.source(&word)?,
        }
    }
    reader.conclude(compiler)
}

fn refused(word: &[u8]) -> String {
    format!("argument {} is not allowed here", Bytes::from(word))
}

struct Reader<'a> {
    place: Place<'a>,
    driver: Driver,
    /// In reverse.
    words: Vec<Bytes>,
    arguments: Vec<Argument>,
    source: Option<Bytes>,
    emit: Option<Emit>,
    forced: Option<Bytes>,
    writes_dependencies: bool,
}

impl<'a> Reader<'a> {
    fn new(place: Place<'a>, compiler: &[u8], words: &[Bytes]) -> Self {
        Reader {
            place,
            driver: Driver::named(compiler),
            words: words.iter().rev().cloned().collect(),
            arguments: Vec::new(),
            source: None,
            emit: None,
            forced: None,
            writes_dependencies: false,
        }
    }

    fn push(&mut self, word: impl Into<Bytes>) {
        self.arguments.push(Argument::Plain(word.into()));
    }

    fn source(&mut self, name: &Bytes) -> Result<(), String> {
        let known = match &self.forced {
            Some(forced) => language_by_name(forced, self.driver),
            None => language_of_source(name, self.driver),
        };
        let known = known.filter(|(_, form)| *form == Form::Plain);
        if !matches!(known, Some((language, _)) if language != Language::Assembler) {
            return Err(format!("{name} is no source of C, C++ or Objective-C"));
        }
        if self.source.replace(name.clone()).is_some() {
            return Err("several sources".to_owned());
        }
        let place = self.place.path(name)?;
        self.push(place);
        Ok(())
    }

    fn option(&mut self, word: &Bytes) -> Result<(), String> {
        let Some((row, value)) = find(word) else {
            if !harmless_shape(word) {
                return Err(refused(word));
            }
            self.push(word.clone());
            return Ok(());
        };
        let next = match value {
            Value::Next => Some(self.words.pop().ok_or_else(|| refused(word))?),
            Value::Absent | Value::Here(_) => None,
        };
        if next.as_ref().is_some_and(|next| next.contains(&0) || next.starts_with(b"@")) {
            return Err(refused(word));
        }
        let text: Bytes = match (&next, value) {
            (Some(next), _) => next.clone(),
            (None, Value::Here(value)) => value.into(),
            (None, _) => Bytes::default(),
        };
        let keep = match row.class {
            Class::Kept if MAPS.contains(&row.name) => return self.map(row.name, &text),
            Class::Kept | Class::Sanitizers | Class::Annotations => {
                row.names == Names::Text || names_no_file(&text)
            }
            Class::Machine => names_no_file(&text) && !text.starts_with(b"native"),
            Class::Preprocess if ROOTED.contains(&row.name) => return self.rooted(row.name, &text),
            Class::Preprocess => {
                row.names == Names::Define || row.names == Names::Nothing && names_no_file(&text)
            }
            Class::InputCharset => names_no_file(&text),
            Class::AssemblerWords => assembler_words(&text),
            Class::AssemblerWord => assembler_word(&text),
            Class::Dependency(DependencyOption::Write) => {
                self.writes_dependencies = true;
                true
            }
            Class::Dependency(DependencyOption::File) | Class::OutputFile | Class::Link => return Ok(()),
            Class::Dependency(_) => true,
            Class::Mode(Emit::Module) => false,
            Class::Mode(emit) => {
                self.emit = self.emit.filter(|emit| *emit == Emit::Assembly).or(Some(emit));
                return Ok(());
            }
            Class::Language => {
                self.forced = (*text != *b"none").then(|| text.clone());
                *text == *b"none" || language_by_name(&text, self.driver).is_some()
            }
            Class::PreprocessorWords => return self.list(&text),
            _ => false,
        };
        if !keep {
            return Err(refused(word));
        }
        self.push(word.clone());
        self.arguments.extend(next.map(Argument::Plain));
        Ok(())
    }

    /// `-Wp,a,b` means `a b`, with the file behind `-MD` as that of `-MF`.
    fn list(&mut self, list: &[u8]) -> Result<(), String> {
        let pieces: Vec<&[u8]> = list.split(|&byte| byte == b',').collect();
        let mut plain = Vec::new();
        let mut rest = pieces.into_iter();
        while let Some(piece) = rest.next() {
            plain.push(Bytes::from(piece));
            if matches!(piece, b"-MD" | b"-MMD") {
                rest.next().ok_or_else(|| refused(piece))?;
            }
        }
        if plain.iter().any(|piece| !piece.starts_with(b"-")) {
            return Err(refused(list));
        }
        self.words.extend(plain.into_iter().rev());
        Ok(())
    }

    fn rooted(&mut self, name: &str, path: &[u8]) -> Result<(), String> {
        // `=` and `$SYSROOT` stand for the sysroot, which is not in the tree.
        // A word of its own that begins with `@` is a response file, wherever it stands.
        if matches!(path.first(), None | Some(b'=' | b'$' | b'@')) {
            return Err(refused(path));
        }
        let path = self.place.path(path)?;
        self.push(name);
        self.push(path);
        Ok(())
    }

    /// A map of paths, as it would be if the root were part of them.
    fn map(&mut self, name: &str, map: &[u8]) -> Result<(), String> {
        let root = if map.starts_with(b"/") { self.place.root } else { b"" };
        self.push([name.as_bytes(), root, map].concat());
        Ok(())
    }

    fn conclude(mut self, compiler: &Bytes) -> Result<TreeCommand, String> {
        let source = self.source.take().ok_or("no source")?;
        let emit = self.emit.ok_or("neither -c nor -S")?;
        let assembly = emit == Emit::Assembly;
        self.push(if assembly { "-S" } else { "-c" });
        if !self.writes_dependencies {
            self.push("-MMD");
        }
        self.push("-MF");
        self.arguments.push(Argument::Output(1));
        self.push("-o");
        self.arguments.push(Argument::Output(0));
        // What the compiler writes down is the client's path. gcc and clang prefer the last map
        // that fits, so this one comes first.
        let map = [b"-ffile-prefix-map=", self.place.root, b"="].concat();
        self.arguments.insert(0, Argument::Plain(map.into()));
        Ok(TreeCommand { compiler: compiler.clone(), arguments: self.arguments, source, assembly })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Result<&str, &str>) {
        let words: Vec<Bytes> = line.split(' ').map(Bytes::from).collect();
        let place = Place { root: b"/T", cwd: b"/home/me" };
        let shown = in_tree(&words, place).map(|command| {
            let words = command.arguments.iter().map(|argument| match argument {
                Argument::Plain(word) => word.to_text(),
                Argument::Output(0) => "OUT".to_owned(),
                _ => "DEPS".to_owned(),
            });
            words.collect::<Vec<_>>().join(" ")
        });
        match expected {
            Ok(expected) => {
                let expected = format!("-ffile-prefix-map=/T= {expected} -MF DEPS -o OUT");
                assert_eq!(shown.as_deref(), Ok(expected.as_str()), "{line}");
            }
            Err(part) => assert!(shown.as_ref().is_err_and(|why| why.contains(part)), "{line}: {shown:?}"),
        }
    }

    #[test]
    fn what_names_a_file_gets_the_root() {
        check("gcc -c a.c -o a.o", Ok("a.c -c -MMD"));
        check("gcc -S /home/me/a.c -o a.s", Ok("/T/home/me/a.c -S -MMD"));
        check(
            "g++ -O2 -I/usr/include -I inc -isystem /opt/x -includeconfig.h -DX=/y -c ../a.cc",
            Ok("-O2 -I /T/usr/include -I inc -isystem /T/opt/x -include config.h -DX=/y ../a.cc -c -MMD"),
        );
        check("gcc -MD -MF x.d -MT a.o -c a.c", Ok("-MD -MT a.o a.c -c"));
        check("gcc -Wp,-MD,x.d,-DA -c a.c -lfoo", Ok("-MD -DA a.c -c"));
        check("gcc -ffile-prefix-map=/home=h -c a.c", Ok("-ffile-prefix-map=/T/home=h a.c -c -MMD"));
    }

    #[test]
    fn what_leads_out_of_the_tree_or_does_harm_is_refused() {
        for line in [
            "gcc -c ../../../a.c",
            "gcc -I../../../../etc -c a.c",
            "gcc -I/.. -c a.c",
            "gcc -I/a/../.. -c a.c",
        ] {
            check(line, Err("leads out of the tree"));
        }
        for option in [
            "@args",
            "-fplugin=x",
            "-specs=x",
            "-B/x",
            "-wrapper sh",
            "--sysroot=/x",
            "-isysroot /x",
            "-I=/x",
            "-Wp,-I,/x",
            "-fdump-tree-all",
            "-save-temps",
            "-Wa,-al=x",
            "-march=native",
            "-I @x",
            "-I@x",
            "-include@x",
            "-Wp,-I@x",
            "-E",
            "--param @x",
            "-Xclang -load",
            "-fprofile-use=/x",
        ] {
            check(&format!("gcc {option} -c a.c"), Err(""));
        }
        check("gcc -c a.c b.c", Err("several"));
        check("gcc -c a.i", Err("no source"));
        check("gcc a.c", Err("neither"));
        check("gcc -c", Err("no source"));
    }
}
