//! Lines of C++20 modules: `module x;`, `export module x:y;`, `import z;`.
//!
//! Which compiled modules a compile reads follows from the names in them; where the files of those names
//! are is not looked at here. Headers that are imported are not followed.

use super::Declined;
use super::source::Found;
use super::symbols::Sym;
use super::token;
use super::walk::Walk;
use crate::common::bytes::Bytes;

/// What is said of a line that is not followed.
const UNCLEAR: &str = "a module or import line";
/// The same of a header unit.
pub const HEADER_UNIT: &str = "a header that is imported as a module";

/// How far one looks behind `export` for what may be exported.
const LOOK_BYTES: usize = 200;

/// A line that names a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it says of it.
    pub clause: Clause,
    /// The name as written: `a.b`, `a.b:c`, `:c`.
    pub name: Vec<u8>,
}

/// What a line says of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clause {
    /// `module x;`
    Module,
    /// `export module x;`
    Interface,
    /// `import x;`, exported or not.
    Import,
}

/// A line in a lexed file.
#[derive(Clone, Debug)]
pub struct Named {
    /// The line.
    pub line: Line,
    /// The words that the name is made of.
    pub words: Box<[Sym]>,
}

/// What a translation unit says of modules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mentioned {
    /// The module that it is a unit of, with its partition: `a.b:c`.
    pub unit: Option<Bytes>,
    /// Whether other units can import what it is compiled to.
    pub is_importable: bool,
    /// The modules that it imports itself, in order.
    pub imports: Vec<Bytes>,
}

impl Mentioned {
    /// Whether it says nothing.
    pub fn is_nothing(&self) -> bool {
        self.unit.is_none() && self.imports.is_empty()
    }
}

/// What the word `source[start..end]`, which is `import`, `module` or `export`, begins.
pub fn found(source: &[u8], start: usize, end: usize) -> Option<Found> {
    let before = source[..start].iter().rev();
    let before = before.copied().find(|&byte| byte == b'\n' || !token::is_blank(byte)).unwrap_or(b'\n');
    let begun = begun(&source[start..end], &source[end..]);
    match (before, begun) {
        (b'\n', found) => found,
        // Behind a comment or another statement; whether that counts depends on the compiler.
        (b'/' | b';' | b'{' | b'}', Some(_)) => Some(Found::Doubt(UNCLEAR)),
        _ => None,
    }
}

fn begun(word: &[u8], rest: &[u8]) -> Option<Found> {
    if word == b"export" {
        let behind = skip_blanks(rest);
        let length = behind.iter().position(|&byte| !token::goes_on(byte)).unwrap_or(behind.len());
        return match &behind[..length] {
            b"module" => clause(Clause::Interface, &behind[length..]),
            b"import" => clause(Clause::Import, &behind[length..]),
            b"" => is_unclear(behind).then_some(Found::Doubt(UNCLEAR)),
            _ => None,
        };
    }
    clause(if word == b"import" { Clause::Import } else { Clause::Module }, rest)
}

/// Whether a comment, a splice or the end of the line stands before what may be a line of modules.
fn is_unclear(behind: &[u8]) -> bool {
    let near = &behind[..behind.len().min(LOOK_BYTES)];
    let has = |word: &[u8]| memchr::memmem::find(near, word).is_some();
    let next = behind.trim_ascii_start();
    let hides = matches!(behind.first(), Some(b'/' | b'\\'));
    next.starts_with(b"module") || next.starts_with(b"import") || hides && (has(b"module") || has(b"import"))
}

fn clause(clause: Clause, rest: &[u8]) -> Option<Found> {
    let rest = skip_blanks(rest);
    let length = rest.iter().position(|&byte| !is_of_name(byte)).unwrap_or(rest.len());
    let (name, behind) = rest.split_at(length);
    let ends = skip_blanks(behind).starts_with(b";");
    match (clause, name) {
        (Clause::Import, b"") if matches!(rest.first(), Some(b'<' | b'"')) => Some(Found::Doubt(HEADER_UNIT)),
        // Where the global and the private part begin.
        (Clause::Module, b"" | b":private") if ends => None,
        _ if ends && is_name(name, clause) => Some(Found::Module(Line { clause, name: name.to_vec() })),
        _ => Some(Found::Doubt(UNCLEAR)),
    }
}

fn skip_blanks(text: &[u8]) -> &[u8] {
    &text[text.iter().position(|&byte| !matches!(byte, b' ' | b'\t')).unwrap_or(text.len())..]
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':')
}

/// Whether that is `a.b`, `a.b:c.d`, or in an import `:c`.
fn is_name(name: &[u8], clause: Clause) -> bool {
    let mut parts = name.splitn(2, |&byte| byte == b':');
    let (module, partition) = (parts.next().unwrap_or_default(), parts.next());
    let dotted = |part: &[u8]| {
        part.split(|&byte| byte == b'.')
            .all(|word| word.first().is_some_and(|&byte| token::starts_name(byte)))
            && !part.contains(&b':')
    };
    let whole = dotted(module) || module.is_empty() && clause == Clause::Import && partition.is_some();
    whole && partition.is_none_or(dotted)
}

impl Walk<'_> {
    /// Notes a line of modules.
    pub(super) fn module(&mut self, named: &Named) -> Result<(), Declined> {
        self.recorder.spoil();
        for &word in &named.words {
            if self.macro_of(word)?.is_some() {
                return Err(self.doubt("a module's name that macros make"));
            }
        }
        let Line { clause, name } = &named.line;
        let is_partition = name.contains(&b':');
        if *clause == Clause::Import {
            let name = match (name.starts_with(b":"), self.modules.unit.as_deref()) {
                (false, _) => Bytes::from(&name[..]),
                (true, Some(unit)) => {
                    let module = unit.split(|&byte| byte == b':').next().unwrap_or_default();
                    [module, name].concat().into()
                }
                (true, None) => return Err(self.doubt(UNCLEAR)),
            };
            if !self.modules.imports.contains(&name) {
                self.modules.imports.push(name);
            }
            return Ok(());
        }
        if self.modules.unit.is_some() {
            return Err(self.doubt(UNCLEAR));
        }
        self.modules.unit = Some(Bytes::from(&name[..]));
        self.modules.is_importable = *clause == Clause::Interface || is_partition;
        if !self.modules.is_importable {
            self.modules.imports.push(Bytes::from(&name[..]));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &Option<Found>) {
        let start = ["import", "module", "export"].iter().filter_map(|word| text.find(word)).min();
        let start = start.expect("one of the words");
        assert_eq!(found(text.as_bytes(), start, start + 6), *expected, "{text:?}");
    }

    fn line(clause: Clause, name: &str) -> Option<Found> {
        Some(Found::Module(Line { clause, name: name.into() }))
    }

    #[test]
    fn lines_of_modules_are_read() {
        check("import foo;", &line(Clause::Import, "foo"));
        check("int x;\n  import\ta.b:c ; // x", &line(Clause::Import, "a.b:c"));
        check("export import :part;", &line(Clause::Import, ":part"));
        check("module foo;", &line(Clause::Module, "foo"));
        check("module foo:impl;", &line(Clause::Module, "foo:impl"));
        check("export module a.b_1:c;", &line(Clause::Interface, "a.b_1:c"));
    }

    #[test]
    fn what_names_no_module_is_passed_over() {
        for text in
            ["module;", "module :private;", "module ;", "export int f();", "export {", "x = import + 1"]
        {
            check(text, &None);
        }
        check("export template <class T> struct module;", &None);
    }

    #[test]
    fn what_is_not_certain_is_doubted() {
        check("import <vector>;", &Some(Found::Doubt(HEADER_UNIT)));
        check("export import \"x.h\";", &Some(Found::Doubt(HEADER_UNIT)));
        for text in [
            "import foo [[x]];",
            "import foo\n;",
            "import /* x */ foo;",
            "import foo.;",
            "import a:b:c;",
            "import 1a;",
            "module = 1;",
            "module :part;",
            "export\nmodule foo;",
            "export /* x */ module foo;",
            "export \\\nimport foo;",
            "/* x */ import foo;",
            "x; import foo;",
            "import",
        ] {
            check(text, &Some(Found::Doubt(UNCLEAR)));
        }
    }
}
