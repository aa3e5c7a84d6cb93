use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::macros::Builtin;
use super::token::Mode;
use super::walk::Setting;
use super::*;

mod askers;
mod system;

/// A file system that is a map of strings.
#[derive(Default)]
struct Map {
    files: BTreeMap<String, (Content, Identity)>,
    contents: Vec<String>,
    trails: Vec<Vec<String>>,
}

impl Map {
    fn new(files: &[(&str, &str)]) -> Self {
        let mut map = Map::default();
        for (index, (path, text)) in files.iter().enumerate() {
            let content = match map.contents.iter().position(|known| known == text) {
                Some(content) => content,
                None => {
                    map.contents.push((*text).to_owned());
                    map.contents.len() - 1
                }
            };
            let identity = Identity { device: 1, inode: index as u64 + 1, modified_s: 7 };
            map.files.insert(normal(path), (content as Content, identity));
        }
        map
    }
}

fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    format!("/{}", parts.join("/"))
}

impl Files for Map {
    fn trail(&mut self, directories: &[&[u8]]) -> Trail {
        self.trails.push(directories.iter().map(|path| String::from_utf8(path.to_vec()).unwrap()).collect());
        self.trails.len() as Trail - 1
    }

    fn now(&self) -> u64 {
        1
    }

    fn state(&mut self, _trail: Trail) -> u64 {
        1
    }

    fn look(&mut self, trail: Trail, at: usize, name: &[u8]) -> Answer {
        let directory = &self.trails[trail as usize][at];
        let path = normal(&format!("{directory}{}", std::str::from_utf8(name).unwrap()));
        if let Some(&(content, identity)) = self.files.get(&path) {
            return Answer::File(Stat { content, identity, size: 1, fleeting: false });
        }
        let directory = format!("{path}/");
        if self.files.keys().any(|file| file.starts_with(&directory)) {
            Answer::Directory
        } else {
            Answer::Absent
        }
    }

    fn bytes(&mut self, content: Content) -> Option<Arc<[u8]>> {
        self.contents.get(content as usize).map(|text| text.as_bytes().into())
    }

    fn real_path(&mut self, path: &[u8]) -> Option<Arc<[u8]>> {
        Some(normal(std::str::from_utf8(path).unwrap()).as_bytes().into())
    }
}

impl Oracle for HashMap<&str, i64> {
    fn answer(&mut self, question: &[u8]) -> Option<i64> {
        self.get(std::str::from_utf8(question).unwrap()).copied()
    }
}

fn facts(family: Family) -> Facts {
    Facts {
        family,
        mode: Mode {
            line_comments: true,
            cxx: true,
            truth: true,
            raw_strings: true,
            digit_separators: true,
            elifdef: true,
            ..Mode::default()
        },
        predefined: b"#define __cplusplus 201703L\n#define __AVX__ 1\n".to_vec(),
        builtins: vec![
            ("__FILE__", Builtin::File),
            ("__INCLUDE_LEVEL__", Builtin::IncludeLevel),
            ("__COUNTER__", Builtin::Unknown),
            ("__has_include", Builtin::HasInclude),
            ("__has_include_next", Builtin::HasIncludeNext),
            ("__has_attribute", Builtin::Question),
        ],
        preinclude: None,
        canonical: true,
        number: 1,
    }
}

struct Case {
    family: Family,
    settings: Vec<Setting>,
    includes: Vec<Bytes>,
}

impl Case {
    fn scan(&self, files: &[(&str, &str)]) -> Result<Scan, Declined> {
        let mut map = Map::new(files);
        let first = self.scan_in(b"m.cc", &mut map, &mut Memory::default());
        // With effects of all headers kept, however small, it must come out the same.
        let mut eager = Memory::default();
        eager.keep_all_effects();
        for _ in 0..3 {
            assert_eq!(self.scan_in(b"m.cc", &mut map, &mut eager), first, "with effects");
        }
        first
    }

    fn scan_in(&self, main: &[u8], map: &mut Map, memory: &mut Memory) -> Result<Scan, Declined> {
        let directory =
            |path: &str, system| Directory { path: path.as_bytes().to_vec(), relative: false, system };
        let search = Search {
            directories: vec![
                directory("/q", false),
                directory("/i", false),
                directory("/s", true),
                directory("/t", true),
            ],
            quotes: 1,
        };
        let facts = facts(self.family);
        let request = Request {
            main,
            cwd: b"/w",
            facts: &facts,
            chain: memory.chain(&search, b"/w", &facts),
            settings: &self.settings,
            imacros: &[],
            made: None,
            precompiled: None,
            includes: &self.includes,
            included_plainly: 0,
            quotes_elsewhere: false,
        };
        let mut answers = HashMap::from([("__has_attribute(yes)", 1), ("__has_attribute(no)", 0)]);
        scan(&request, memory, map, &mut answers)
    }
}

fn gcc() -> Case {
    Case { family: Family::Gcc, settings: Vec::new(), includes: Vec::new() }
}

fn names(scan: &Scan) -> Vec<String> {
    scan.files.iter().map(|file| String::from_utf8_lossy(&file.path).into_owned()).collect()
}

/// Files `/i/yes` and `/i/no` stand for a branch.
fn check(source: &str, expected: &str) {
    let scan = gcc().scan(&[("/w/m.cc", source), ("/i/yes", ""), ("/i/no", ""), ("/i/a", "")]);
    let shown = match scan {
        Ok(scan) => names(&scan)[1..].join(" "),
        Err(Declined::Doubt { what, .. }) => format!("doubt: {what}"),
        Err(Declined::Missing { name, .. }) => format!("missing: {name}"),
        Err(other) => format!("declined: {other}"),
    };
    assert_eq!(shown, expected, "{source}");
}

/// Whether a condition holds.
fn holds(before: &str, condition: &str, expected: bool) {
    let source = format!("{before}\n#if {condition}\n#include <yes>\n#else\n#include <no>\n#endif\n");
    check(&source, if expected { "/i/yes" } else { "/i/no" });
}

#[test]
fn arithmetic_is_that_of_intmax_with_unsigned_promotion() {
    holds("", "-1 < 0", true);
    holds("", "-1 > 0u", true);
    holds("", "(2 || 3) != 1", false);
    holds("", "1 ? 2 : 3", true);
    holds("", "(0 ? 1u : -1) > 0", true);
    holds("", "0x7fffffffffffffff + 1 < 0", true);
    holds("", "18446744073709551615 == -1", true);
    holds("", "10 / 3 == 3 && -10 % 3 == -1 && -1 >> 1 == -1", true);
    holds("", "'a' == 97 && '\\n' == 10 && '\\x41' == 65", true);
    holds("", "not 0 and true or 1/1", true);
    holds("", "0 && 1 / 0", false);
    holds("", "1 + 2 * 3 == 7 && 1 << 2 + 1 == 8 && (6 & 3 ^ 1) == 3", true);
    holds("", "0b101 == 5 && 1'000 == 1000 && 010 == 8", true);
    check("#if 1 / 0\n#include <yes>\n#endif\n", "doubt: a division by zero in #if");
}

#[test]
fn macros_expand_as_in_compilers() {
    holds("#define F(x) x + 1\n", "F(1) * 2 == 3", true);
    holds("#define A B\n#define B A\n", "A == 0", true);
    holds("#define F(x) G x\n#define G(y) y\n", "F((3)) == 3", true);
    holds("#define CAT(a, b) a ## b\n#define AB 7\n", "CAT(A, B) == 7", true);
    holds(
        "#define CAT(a, b) a ## b\n#define A 1\n#define B 2\n#define XCAT(a, b) CAT(a, b)\n",
        "XCAT(A, B) == 12",
        true,
    );
    holds("#define V(x, ...) x + __VA_OPT__(1 +) 0\n", "V(1) == 1 && V(1, 2) == 2", true);
    holds(
        "#define S(a, b, n, ...) n\n#define N(...) S(0, ## __VA_ARGS__, 2, 1)\n",
        "N() == 1 && N(x) == 2",
        true,
    );
    holds("#define D defined\n#define Z\n", "D Z && D(Z)", true);
    holds("#define F(x) x\n#define NAME F\n", "NAME (4) == 4 && F == 0", true);
    check(
        "#define E\n#define F(x) 1\n#if F E (2)\n#include <a>\n#endif\n",
        "doubt: an #if expression with something behind its end",
    );
    holds("#define f(a) a*g\n#define g(a) f(a)\n#define g2 1\n", "f(2)(9) == 0", true);
    holds("#pragma push_macro(\"X\")\n#define X 1\n#pragma pop_macro(\"X\")\n", "defined X", false);
    holds("#define X 1\n#pragma push_macro(\"X\")\n#undef X\n#pragma pop_macro(\"X\")\n", "X", true);
    let pushes =
        "#define PUSH _Pragma(\"push_macro(\\\"X\\\")\")\n#define POP _Pragma(\"pop_macro(\\\"X\\\")\")\n";
    holds(&format!("{pushes}PUSH\n#undef X\nPOP\n"), "defined X", false);
    holds(&format!("#define X 1\n#undef X\n{pushes}PUSH POP\n"), "X", false);
    let define = "doubt: a definition of what a macro pushes";
    check(&format!("{pushes}PUSH\n#define X 1\nPOP\n#include <a>\n"), define);
    check(&format!("#define X 1\n{pushes}#undef X\n#include <a>\n"), "doubt: a macro that pushes another");
    let lines = "#pragma push_macro(\"X\")\n#pragma pop_macro(\"X\")\n#include <a>\n";
    check(&format!("{pushes}{lines}"), "doubt: push_macro of what a macro pushes");
    check(&format!("{lines}{pushes}"), "doubt: a macro that pushes another");
    check(
        "#define F(x) x\n#if F(defined X)\n#endif\n#include <a>\n#if F(defined X)\n#include <a>\n#endif\n",
        "doubt: defined in the arguments of a macro",
    );
    check("#if UNKNOWN(1)\n#include <a>\n#endif\n", "doubt: a call of something that is no macro in #if");
    check("#if __COUNTER__\n#include <a>\n#endif\n", "doubt: a macro whose value the scanner does not know");
}

#[test]
fn gnulib_asks_whether_the_counter_counts() {
    holds("", "defined __COUNTER__ && __COUNTER__ != __COUNTER__", true);
    holds("", "__COUNTER__ == __COUNTER__", false);
    holds("#undef __COUNTER__\n#define __COUNTER__ 3\n", "__COUNTER__ != __COUNTER__", false);
    holds("#undef __COUNTER__\n", "__COUNTER__ != __COUNTER__", false);
}

#[test]
fn an_ifdef_without_a_name_matters_only_where_it_is_evaluated() {
    let within = |outer: &str| {
        let inner = "#ifdef(__HAIKU__)\n#include <b>\n#else\n#include <b>\n#endif\n";
        format!("#if {outer}\n{inner}#endif\n#include <a>\n")
    };
    check(&within("0"), "/i/a");
    check(&within("1"), "doubt: #ifdef without a name");
    check("#ifndef\n#include <a>\n#endif\n", "doubt: #ifdef without a name");
}

#[test]
fn calls_are_evaluated_in_place_as_if_expanded() {
    let prereq = "#define G 12\n#define N (-1)\n#define P(a, b) ((G << 16) + 3 >= ((a) << 16) + (b))\n";
    holds(prereq, "P(12, 3) && !P(12, 4) && P(4, 9) && P(G, 3) && P(N, 0) && P(UNDEFINED, 0)", true);
    holds("#define T(x) (x * 2)\n#define A 1 + 1\n", "T(A) == 3", true);
    holds("#define T(x) -x\n#define A (2)\n", "T(A) + T(1) == -3", true);
    holds("#define T(x) x\n#define U(y) T\n", "U(1)(5) == 5", true);
    holds("#define T(x) (x)\n#define N T\n", "N(3) == 3 && T(N) == 0", true);
    holds(
        "#define USE(x) USE_ ## x\n#define USE_A 1\n#define A 7\n",
        "USE(A) && !USE(B) && USE (A) == 1",
        true,
    );
    holds("#define USE(x) USE_ ## x\n#define USE_A(x) x\n", "USE(A)(3) == 3", true);
    holds("#define T(x, y) (x ? y : 0u)\n", "T(1, 0) - 1 > 0", true);
    holds("#define IN(x) (x + 1)\n#define OUT(x) (IN(x) * 2)\n", "OUT(2) == 6", true);
}

#[test]
fn questions_go_to_the_compiler() {
    holds("", "__has_attribute(yes) && !__has_attribute(no)", true);
    holds("#define Q(x) __has_attribute(x)\n", "Q(yes)", true);
    holds("#define no yes\n", "__has_attribute(no)", true);
    holds("#ifdef __has_attribute\n#define X 1\n#endif\n", "X", true);
    holds("", "__has_include(<a>) && !__has_include(\"b\")", true);
    holds("#define H <a>\n", "__has_include(H)", true);
    holds("#define HAS(x) __has_include(x)\n", "HAS(<a>)", true);
    check(
        "#if __has_attribute(never)\n#include <a>\n#endif\n",
        "doubt: a question that the compiler does not answer",
    );
}

#[test]
fn includes_are_computed() {
    check("#define H <yes>\n#include H\n", "/i/yes");
    check("#define S(x) #x\n#define X(x) S(x)\n#define N yes\n#include X(N)\n", "/i/yes");
    check("#define F(x) <x>\n#include F(yes)\n", "/i/yes");
    check("#define and_h <yes>\n#include and_h\n", "/i/yes");
    check("#define H <no thing>\n#include H\n", "doubt: a header name with white space, made of macros");
    check("#include <nothing>\n", "missing: nothing");
    check("#error x\n", "doubt: #error");
}

#[test]
fn branches_are_taken_once() {
    check(
        "#if 0\n#include <no>\n#elif 1\n#include <yes>\n#elif 1\n#include <no>\n#else\n#include <no>\n#endif\n",
        "/i/yes",
    );
    check("#ifdef X\n#include <no>\n#elifndef X\n#include <yes>\n#else\n#include <no>\n#endif\n", "/i/yes");
    check("#if 0\n#if 1\n#include <no>\n#endif\n#error x\n#else\n#include <yes>\n#endif\n", "/i/yes");
    check(
        "#if 1\n#if 0\n#include <no>\n#else\n#include <yes>\n#endif\n#else\n#include <no>\n#endif\n#include <a>\n",
        "/i/yes /i/a",
    );
}

fn walks(case: &Case, files: &[(&str, &str)], expected: &[&str]) {
    assert_eq!(names(&case.scan(files).unwrap())[1..], *expected);
}

#[test]
fn quotes_look_beside_the_includer_first() {
    let files = [
        ("/w/m.cc", "#include <d/x>\n#include \"y\"\n#include \"z\""),
        ("/i/d/x", "#include \"y\""),
        ("/i/d/y", ""),
        ("/q/y", ""),
        ("/i/z", ""),
    ];
    walks(&gcc(), &files, &["/i/d/x", "/i/d/y", "/q/y", "/i/z"]);
}

#[test]
fn include_next_goes_on_behind_where_the_file_was_found() {
    let files = [
        ("/w/m.cc", "#include <x>\n#include \"l\""),
        ("/i/x", "#include_next <x>"),
        ("/s/x", "#if __has_include_next(<x>)\n#include_next <x>\n#endif"),
        ("/t/x", "#include_next <gone>\n"),
    ];
    assert!(matches!(gcc().scan(&files), Err(Declined::Missing { .. })));
    // Found beside its includer, gcc starts at the head of the chain, clang as for any include.
    let files = [
        ("/w/m.cc", "#include \"l\""),
        ("/w/l", "#ifndef L\n#define L\n#include_next \"l\"\n#endif"),
        ("/i/l", ""),
    ];
    walks(&gcc(), &files, &["/w/l", "/i/l"]);
    walks(&Case { family: Family::Clang, ..gcc() }, &files, &["/w/l"]);
    // Found beside a file of the chain, clang goes on behind that file's place.
    let files = [
        ("/w/m.cc", "#include <x>"),
        ("/i/x", "#include \"l\""),
        ("/i/l", "#include_next <l>"),
        ("/q/l", ""),
        ("/s/l", ""),
    ];
    walks(&gcc(), &files, &["/i/x", "/i/l", "/q/l"]);
    walks(&Case { family: Family::Clang, ..gcc() }, &files, &["/i/x", "/i/l", "/s/l"]);
}

#[test]
fn once_is_by_content_for_gcc_and_by_inode_for_clang() {
    let files = [
        ("/w/m.cc", "#include <a>\n#include <b>\n#include <a>"),
        ("/i/a", "#pragma once\n"),
        ("/i/b", "#pragma once\n"),
    ];
    walks(&gcc(), &files, &["/i/a"]);
    walks(&Case { family: Family::Clang, ..gcc() }, &files, &["/i/a", "/i/b"]);
}

#[test]
fn a_directory_named_like_a_header_is_passed_over() {
    walks(&gcc(), &[("/w/m.cc", "#include <x>\n"), ("/i/x/y", ""), ("/s/x", "")], &["/s/x"]);
}

#[test]
fn what_a_command_line_macro_pushes_is_not_followed() {
    let text = b"P _Pragma(\"push_macro(\\\"X\\\")\")".to_vec();
    let case = Case { settings: vec![Setting::Define(text.clone())], ..gcc() };
    assert_eq!(case.scan(&[("/w/m.cc", "P\n")]), Err(Declined::Option(Bytes(text))));
}

#[test]
fn settings_come_before_forced_includes() {
    let case = Case {
        settings: vec![
            Setting::Define(b"A 1".to_vec()),
            Setting::Undefine(b"A".to_vec()),
            Setting::Define(b"F(x) x".to_vec()),
        ],
        includes: vec![Bytes::from("p")],
        ..gcc()
    };
    let files = [
        ("/w/m.cc", "#if Z == 2\n#include <a>\n#endif"),
        ("/i/a", ""),
        ("/i/p", "#ifndef A\n#define Z F(2)\n#endif"),
    ];
    walks(&case, &files, &["/i/p", "/i/a"]);
}

#[test]
fn names_looked_for_in_vain_are_told() {
    let scan = gcc().scan(&[("/w/m.cc", "#include \"x\"\n"), ("/s/x", "")]).unwrap();
    let absent: Vec<_> = scan.absent.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    assert_eq!(absent, ["/i/x", "/i/x.gch", "/q/x", "/q/x.gch", "/s/x.gch", "/w/x", "/w/x.gch"]);
}

#[test]
fn a_precompiled_header_stands_for_the_text_of_the_first_include() {
    let files =
        [("/w/m.cc", "#include <a>\n#include <c>\n"), ("/i/a", "#include <b>\n"), ("/i/b", ""), ("/i/c", "")];
    let with = |more: (&'static str, &'static str)| gcc().scan(&[&files[..], &[more]].concat()).unwrap();
    let taken = with(("/i/a.gch", "gpchC013"));
    assert_eq!(names(&taken), ["/w/m.cc", "/i/a", "/i/b", "/i/c"]);
    assert_eq!((&*taken.precompiled[0].path, taken.covered), (&b"/i/a.gch"[..], 1..3));
    let other = with(("/i/a.gch", "no mark"));
    assert_eq!((other.precompiled.len(), other.covered, &*other.probed[0].path), (0, 0..0, &b"/i/a.gch"[..]));
    let asked = [("/w/m.cc", "#if __has_include(<a>)\n#endif\n"), ("/i/a", ""), ("/i/a.gch", "gpchC013")];
    assert!(matches!(gcc().scan(&asked), Err(Declined::Precompiled(_))));
    let files =
        [("/w/m.cc", "#include <b>\n#include <a>\n"), ("/i/a", ""), ("/i/b", ""), ("/i/a.gch", "gpchC013")];
    walks(&gcc(), &files, &["/i/b", "/i/a"]);
}

#[test]
fn a_target_pragma_makes_target_macros_doubtful() {
    let test = "#ifdef __AVX__\n#include <a>\n#endif\n";
    check(test, "/i/a");
    check(
        &format!("#pragma GCC target(\"x\")\n{test}"),
        "doubt: a predefined macro that #pragma GCC target may have changed",
    );
    check(
        &format!("#pragma GCC push_options\n#pragma GCC target(\"x\")\n#pragma GCC pop_options\n{test}"),
        "/i/a",
    );
}

#[test]
fn bombs_end() {
    check("#include \"m.cc\"\n", "declined: too much: includes nested too deeply");
    let mut bomb = String::from("#define A0 1 + 1\n");
    for n in 1..40 {
        bomb.push_str(&format!("#define A{n} A{} + A{}\n", n - 1, n - 1));
    }
    check(&format!("{bomb}#if A39\n#include <a>\n#endif\n"), "declined: too much: tokens of macro expansion");
    let mut bomb = String::from("#define P(a) a##a\n#define Q0 aa\n#define X(a) P(a)\n");
    for n in 1..40 {
        bomb.push_str(&format!("#define Q{n} X(Q{})\n", n - 1));
    }
    check(&format!("{bomb}#if Q39\n#include <a>\n#endif\n"), "declined: too much: the length of a token");
    let deep =
        format!("#define F(x) x\n#if {}1{}\n#include <a>\n#endif\n", "F(".repeat(3000), ")".repeat(3000));
    check(&deep, "declined: too much: macro arguments nested too deeply");
    let deep = format!("#if {}1{}\n#include <a>\n#endif\n", "(".repeat(30_000), ")".repeat(30_000));
    check(&deep, "doubt: an #if expression nested too deeply");
    let long = |term: &str| format!("#if 1{}\n#include <a>\n#endif\n", term.repeat(100_000));
    check(&long(" + 1"), "/i/a");
    check(&long(" + A"), "/i/a");
    check(&long(" + 1 / 0"), "doubt: an #if expression of too many operators");
    let nested = format!("{}{}", "#if 1\n".repeat(10_000), "#endif\n".repeat(10_000));
    check(&nested, "doubt: conditionals nested too deeply");
}
