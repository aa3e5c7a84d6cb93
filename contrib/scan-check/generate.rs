//! Random include graphs with nasty conditionals, from a seed.
//!
//! Shared by the integration test (a few seeds) and by the `scan_fuzz` example (many). Each case
//! is a set of headers, a command, and several sources that go their own ways through the headers;
//! whether a compiler accepts one is not promised.

/// A small generator of numbers: xorshift64*, so that a seed says everything.
pub struct Random(u64);

impl Random {
    /// Seeded; 0 is as good as any.
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    /// True `percent` times of a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of a list.
    pub fn of<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }
}

/// Files by relative path, and the arguments of a compiler.
#[derive(Clone)]
pub struct Case {
    /// Path and text.
    pub files: Vec<(String, String)>,
    /// Those of them that are sources.
    pub sources: Vec<String>,
    /// Arguments, but for the source.
    pub arguments: Vec<String>,
}

const DIRECTORIES: [&str; 6] = ["a", "b", "c", "d/e", "q", "."];
const MACROS: [&str; 10] = ["M0", "M1", "M2", "M3", "M4", "M5", "M6", "M7", "M8", "M9"];
const HEADERS: usize = 9;

/// Makes a case of so many sources.
pub fn case(seed: u64, sources: usize) -> Case {
    let mut random = Random::new(seed);
    let cxx = random.chance(50);
    let mut files = Vec::new();
    for directory in DIRECTORIES {
        for header in 0..HEADERS {
            if random.chance(45) {
                let text = header_text(&mut random);
                files.push((format!("{directory}/h{header}.h"), text));
            }
        }
    }
    let copies = random.below(3);
    for _ in 0..copies {
        let text = files[random.below(files.len())].1.clone();
        let at = random.below(files.len());
        files[at].1 = text;
    }
    let arguments = arguments(&mut random, cxx);
    let mut names = Vec::new();
    for number in 0..sources {
        let name = format!("main{number}.{}", if cxx { "cc" } else { "c" });
        let mut text = body(&mut random, 14, 0);
        text.push_str("int x;\n");
        files.push((name.clone(), text));
        names.push(name);
    }
    Case { files, sources: names, arguments }
}

fn arguments(random: &mut Random, cxx: bool) -> Vec<String> {
    let mut arguments: Vec<String> = Vec::new();
    let standards: &[&str] = if cxx {
        &["-std=c++11", "-std=gnu++14", "-std=c++17", "-std=gnu++20"]
    } else {
        &["-std=gnu11", "-std=gnu17", "-std=c11", "-std=gnu89", "-std=c99"]
    };
    if random.chance(70) {
        arguments.push(random.of(standards).to_owned());
    }
    // Always there, so that calls of them are no errors.
    let calls = ["-DF0(x)=x", "-DF1(x)=(x + 1)", "-DF2(x,y)=x + y", "-DF3(x,...)=x"];
    arguments.extend(calls.map(str::to_owned));
    for directory in DIRECTORIES {
        let options = ["-I", "-isystem", "-iquote", "-idirafter"];
        for _ in 0..1 + random.below(2) {
            if random.chance(60) {
                arguments.push(random.of(&options).to_owned());
                let odd = ["", "./", "d/../"];
                arguments.push(format!("{}{directory}", random.of(&odd)));
            }
        }
    }
    for _ in 0..random.below(4) {
        let name = random.of(&MACROS);
        arguments.push(match random.below(4) {
            0 => format!("-D{name}"),
            1 => format!("-D{name}={}", value(random)),
            2 => format!("-U{name}"),
            _ => format!("-DF5(x)=x + {}", random.below(4)),
        });
    }
    for option in ["-include", "-imacros"] {
        if random.chance(25) {
            arguments.extend([option.to_owned(), header_name(random)]);
        }
    }
    arguments.push("-c".to_owned());
    arguments
}

fn header_name(random: &mut Random) -> String {
    let name = format!("h{}.h", random.below(HEADERS));
    match random.below(12) {
        0 => format!("d/../{name}"),
        1 => format!("../{}/{name}", random.of(&["a", "b", "q"])),
        2 => format!("e/{name}"),
        3 => format!("./{name}"),
        _ => name,
    }
}

fn header_text(random: &mut Random) -> String {
    let mut text = String::new();
    let length = 2 + random.below(7);
    let inner = body(random, length, 0);
    let guard = format!("G{}_H", random.below(400));
    match random.below(10) {
        0..=3 => text.push_str(&format!("#ifndef {guard}\n#define {guard}\n{inner}#endif\n")),
        4 => {
            text.push_str(&format!(
                "#if !defined({guard})\n#define {guard} 1\n{inner}#endif /* {guard} */\n"
            ));
        }
        5 | 6 => text.push_str(&format!("#pragma once\n{inner}")),
        7 => text
            .push_str(&format!("/* don't */ #ifndef {guard}\n#  define {guard}\n{inner}#endif\n#undef M1\n")),
        8 => text.push_str(&format!("#if __INCLUDE_LEVEL__ < 6\n{inner}#endif\n")),
        _ => text.push_str(&format!("#if __INCLUDE_LEVEL__ < 4\n{inner}#endif\n")),
    }
    if random.chance(15) {
        text = text.replace('\n', "\r\n");
    }
    if random.chance(10) {
        text.pop();
    }
    text
}

fn body(random: &mut Random, lines: usize, depth: usize) -> String {
    let mut text = String::new();
    for _ in 0..lines {
        text.push_str(&item(random, depth));
    }
    text
}

fn item(random: &mut Random, depth: usize) -> String {
    let name = random.of(&MACROS);
    match random.below(if depth < 3 { 30 } else { 17 }) {
        0..=3 => format!("#define {name} {}\n", value(random)),
        4 => format!("#undef {name}\n"),
        5 => format!("#undef F1\n#define F1(x) {}\n", call_body(random)),
        6 => random.of(&[
            "#undef F0\n#define F0(a) a\n", "#undef F0\n#define F0(a) ((a) * 2)\n", "#undef F2\n#define F2(a, b) a ## b\n",
            "#undef F2\n#define F2(a, b) b - a\n", "#undef F3\n#define F3(a, ...) a __VA_OPT__(+ 2)\n",
            "#undef F3\n#define F3(a, ...) F4(a, ## __VA_ARGS__, 3, 4)\n#undef F4\n#define F4(a, b, ...) b\n",
        ]).to_owned(),
        7..=9 => guarded_include(random),
        10 => computed_include(random),
        11 => format!("#pragma {}_macro(\"{name}\")\n", random.of(&["push", "pop"])),
        12 => noise(random).to_owned(),
        13 => format!("int v = {name};\n"),
        14 => {
            let header = header_name(random);
            format!("#if __has_include_next(\"{header}\") && __INCLUDE_LEVEL__ && __INCLUDE_LEVEL__ < 9\n#include_next \"{header}\"\n#endif\n")
        }
        15 => format!("#define {name} \\\n  {} // c\n", value(random)),
        16 => format!("#   define /* c */ {name} {} /* x\n#error */\n", value(random)),
        _ => conditional(random, depth),
    }
}

fn conditional(random: &mut Random, depth: usize) -> String {
    let mut text = match random.below(4) {
        0 => format!("#ifdef {}\n", random.of(&MACROS)),
        1 => format!("#ifndef {}\n", random.of(&MACROS)),
        _ => format!("#if {}\n", expression(random, 3)),
    };
    let length = 1 + random.below(3);
    text.push_str(&body(random, length, depth + 1));
    for _ in 0..random.below(3) {
        text.push_str(&format!("# elif {}\n", expression(random, 2)));
        let length = random.below(3);
        text.push_str(&body(random, length, depth + 1));
    }
    if random.chance(40) {
        text.push_str("#else\n");
        let length = 1 + random.below(2);
        text.push_str(&body(random, length, depth + 1));
    }
    text.push_str("#endif\n");
    text
}

fn guarded_include(random: &mut Random) -> String {
    let name = header_name(random);
    let (open, close) = if random.chance(50) { ("<", ">") } else { ("\"", "\"") };
    let word = if random.chance(12) { "import" } else { "include" };
    format!(
        "#if __has_include({open}{name}{close}) && __INCLUDE_LEVEL__ < 12\n#{word} {open}{name}{close}\n#endif\n"
    )
}

fn computed_include(random: &mut Random) -> String {
    let n = random.below(HEADERS);
    match random.below(6) {
        0 => format!("#undef H\n#define H \"h{n}.h\"\n#if __has_include(H)\n#include H\n#endif\n"),
        1 => format!("#undef H\n#define H <h{n}.h>\n#if __has_include(H)\n#include H\n#endif\n"),
        2 => format!("#undef S\n#undef X\n#undef N\n#define S(x) #x\n#define X(x) S(x)\n#define N h{n}\n#if __has_include(\"h{n}.h\")\n#include X(N.h)\n#endif\n"),
        3 => format!("#undef B\n#define B(x) <x.h>\n#if __has_include(<h{n}.h>)\n#include B(h{n})\n#endif\n"),
        4 => format!("#undef C\n#undef D\n#define C(a, b) a ## b\n#define D(a, b) C(a, b)\n#undef N\n#define N {n}\n#undef K\n#define K(x) <x.h>\n#if __has_include(<h{n}.h>)\n#include K(D(h, N))\n#endif\n"),
        _ => "#if __INCLUDE_LEVEL__ < 3\n#undef SF\n#define SF __FILE__\n#ifndef SELF\n#define SELF\n#if __has_include(__FILE__)\n#include SF\n#endif\n#endif\n#endif\n".to_owned(),
    }
}

fn noise(random: &mut Random) -> &'static str {
    random.of(&[
        "/* a comment\n#define M0 99\n*/\n",
        "const char *s = \"/*\";\n",
        "// a line \\\n#define M1 98\n",
        "int c = '\"';\n",
        "#if 0\nit's not a literal /* here\n#define M3 4\n*/\n#else\n#define M4\n#endif\n",
        "#\n",
        "#pragma GCC diagnostic push\n",
        "const char *t = \"a\\\n#define M5 1\n\";\n",
        "#line 77\n",
        "  # \t define M6 3\n",
        "#def\\\nine M7 2\n",
        "/\\\n* x */ int y;\n",
        "#ifdef M8 /* two\nlines */\n#define M9 5\n#endif\n",
        "%:define M3 7\n",
        "#pragma GCC poison POISONED\n",
        "#if defined M1 && \\\n   !defined(M2)\n#define M0 6\n#endif\n",
    ])
}

fn value(random: &mut Random) -> String {
    match random.below(14) {
        0..=4 => random.below(5).to_string(),
        5 | 6 => random.of(&MACROS).to_owned(),
        7 => format!("({} + {})", random.of(&MACROS), random.below(3)),
        8 => format!("{} - {}", random.below(9), random.of(&MACROS)),
        9 => format!("{}({})", random.of(&["F0", "F0", "F0"]), random.below(4)),
        10 => "-1".to_owned(),
        11 => format!("{}u", random.below(9)),
        12 => random.of(&["F0", "F5"]).to_owned(),
        _ => "'a'".to_owned(),
    }
}

fn call_body(random: &mut Random) -> String {
    match random.below(9) {
        0 => "x".to_owned(),
        1 => "(x + 1)".to_owned(),
        2 => format!("x + {}", random.of(&MACROS)),
        3 => "F0(x)".to_owned(),
        4 => "F0(F0(x))".to_owned(),
        5 => "x ## 1".to_owned(),
        6 => "F0 (x)".to_owned(),
        7 => "(defined M1)".to_owned(),
        _ => "1".to_owned(),
    }
}

fn expression(random: &mut Random, depth: usize) -> String {
    if depth == 0 {
        return operand(random);
    }
    let left = expression(random, depth - 1);
    let right = expression(random, depth - 1);
    match random.below(16) {
        0 | 1 => format!("{left} && {right}"),
        2 | 3 => format!("{left} || {right}"),
        4 => format!("!({left})"),
        5 => format!("({left}) + {right}"),
        6 => format!("{left} == {right}"),
        7 => format!("({left}) < ({right})"),
        8 => format!("(({left}) ? ({right}) : 1)"),
        9 => format!("-({left}) > {right}"),
        10 => format!("({left}) * ({right})"),
        11 => format!("~({left}) & {right}"),
        12 => format!("({left}) << 2 | {right} ^ 3"),
        13 => format!("{left} >= ({right}) - 2"),
        _ => left,
    }
}

fn operand(random: &mut Random) -> String {
    let name = random.of(&MACROS);
    match random.below(18) {
        0..=3 => format!("defined({name})"),
        4 => format!("defined {name}"),
        5..=9 => name.to_owned(),
        10 => random.below(6).to_string(),
        11 => format!("({} + 0)", name),
        12 => format!("__has_include(\"{}\")", header_name(random)),
        13 => format!("__has_include(<{}>)", header_name(random)),
        14 => random
            .of(&["F1(1)", "F0(F0(2))", "F2(1, 2)", "F3(1)", "F3(1, 2)", "F0(M1)", "F1(M2)", "F2(1, 1)"])
            .to_owned(),
        15 => "__INCLUDE_LEVEL__".to_owned(),
        16 => "0x10U".to_owned(),
        _ => format!("({name} - 0)"),
    }
}
