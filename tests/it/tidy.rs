//! Rules about the sources that no lint knows.
//!
//! The rules are functions of a file's name and text, so that they are tested themselves: a rule
//! that finds nothing looks just like a rule that is kept.

use std::fs;
use std::path::Path;

/// No file is longer. About 400 is the aim; a longer one holds two concepts.
const FILE_MAX_LINES: usize = 500;

/// The rooms of the three programs: each knows `common` and itself.
const ROOMS: [&str; 3] = ["shim", "broker", "remote"];

/// What `common` must not touch: it takes values and returns values.
const IMPURE: [&str; 15] = [
    "std::fs",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "std::os::unix::net",
    "std::process",
    "std::env",
    "std::thread",
    "Instant::now",
    "SystemTime",
    "tokio",
    "interprocess",
    "rustix",
    "libc::",
    "println!",
];

/// The two files of `common` that read and write: frames, on a stream that the caller opened, and keys, in
/// a folder that the caller names.
const EFFECTS: [&str; 2] = ["src/common/protocol/io.rs", "src/common/trust/files.rs"];

/// A file's text without comments and string literals: the words that are code.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if character == '"' {
            string_length(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            code.push(character);
            character.len_utf8()
        };
        rest = &rest[skipped..];
    }
    code
}

/// The length of the string literal that `text` begins with.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The code before the file's unit tests, which may do what they like.
fn without_tests(code: &str) -> &str {
    code.split("\n#[cfg(test)]\nmod ").next().unwrap_or(code)
}

/// Whether `code` names the module `room` of this crate.
fn names_room(code: &str, room: &str) -> bool {
    let joined: String = code.chars().filter(|character| !character.is_whitespace()).collect();
    ["crate", "distcc"].iter().any(|root| {
        joined.contains(&format!("{root}::{room}::"))
            || joined.contains(&format!("use{root}::{room};"))
            || grouped_imports(&joined, root).iter().any(|name| name.split("::").next() == Some(room))
    })
}

/// The names in `use root::{a, b::c, …}`, as far as the first closing brace.
fn grouped_imports(joined: &str, root: &str) -> Vec<String> {
    let opening = format!("use{root}::{{");
    let groups = joined.split(opening.as_str()).skip(1).map(|group| group.split('}').next().unwrap_or(""));
    groups.flat_map(|group| group.split([',', '{'])).map(str::to_owned).collect()
}

/// What is wrong with the file, a sentence each.
fn complaints(name: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let code = code_of(text);
    let production = without_tests(&code);
    let room = name.split('/').nth(1).unwrap_or("");
    if name.starts_with("src/") {
        for other in ROOMS.iter().filter(|other| **other != room && room != "lib.rs") {
            if names_room(&code, other) {
                found.push(format!("{name} uses {other}: rooms meet only in messages"));
            }
        }
    }
    if room == "common" && !EFFECTS.contains(&name) {
        for word in IMPURE.iter().filter(|word| production.contains(**word)) {
            found.push(format!("{name} uses {word}: common is pure"));
        }
    }
    for word in ["todo!", "dbg!", "unimplemented!"] {
        if code.contains(&format!("{word}(")) {
            found.push(format!("{name} has {word}"));
        }
    }
    if name.ends_with("/util.rs") || name.ends_with("/utils.rs") || name.contains("/util/") {
        found.push(format!("{name}: a module has the name of a concept"));
    }
    let lines = text.lines().count();
    if lines > FILE_MAX_LINES {
        found.push(format!("{name} has {lines} lines, more than {FILE_MAX_LINES}"));
    }
    found
}

/// The Rust files below a directory of the package, by their names from its root.
fn sources(directory: &str, found: &mut Vec<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let name = format!("{directory}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            sources(&name, found);
        } else if name.ends_with(".rs") {
            found.push(name);
        }
    }
}

#[test]
fn the_sources_are_tidy() {
    let mut names = Vec::new();
    for directory in ["src", "tests/it", "benches"] {
        sources(directory, &mut names);
    }
    assert!(names.iter().any(|name| name == "src/common/mod.rs"), "no sources found: {names:?}");
    let read = |name: &String| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name));
    let found: Vec<String> =
        names.iter().flat_map(|name| complaints(name, &read(name).expect("a source can be read"))).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn check(name: &str, text: &str, expected: &[&str]) {
    assert_eq!(complaints(name, text), expected, "{name}: {text}");
}

#[test]
fn a_room_that_looks_into_another_is_found() {
    let complaint = ["src/shim/a.rs uses broker: rooms meet only in messages"];
    check("src/shim/a.rs", "use crate::broker::queue;\n", &complaint);
    check("src/shim/a.rs", "use crate::broker;\n", &complaint);
    check("src/shim/a.rs", "use crate::{common, broker::queue};\n", &complaint);
    check("src/shim/a.rs", "fn f() { crate::broker::g() }\n", &complaint);
    check("src/shim/a.rs", "use distcc::{\n    common,\n    broker,\n};\n", &complaint);
    check(
        "src/common/a.rs",
        "use crate::shim::x;\n",
        &["src/common/a.rs uses shim: rooms meet only in messages"],
    );
    check("src/shim/a.rs", "use crate::shim::x;\nuse crate::common::bytes::Bytes;\n", &[]);
    check("src/shim/a.rs", "// crate::broker::x does that\nlet s = \"crate::broker::x\";\n", &[]);
    check("src/lib.rs", "pub mod broker;\npub mod shim;\n", &[]);
}

#[test]
fn a_common_that_touches_the_world_is_found() {
    check("src/common/a.rs", "use std::fs;\n", &["src/common/a.rs uses std::fs: common is pure"]);
    check(
        "src/common/a.rs",
        "let t = Instant::now();\n",
        &["src/common/a.rs uses Instant::now: common is pure"],
    );
    check("src/common/a.rs", "use std::net::Ipv6Addr;\n", &[]);
    check("src/common/a.rs", "/// Like [`std::fs`].\nuse std::time::Duration;\n", &[]);
    check("src/common/a.rs", "fn f() {}\n\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n", &[]);
    check(EFFECTS[0], "use tokio::io::AsyncRead;\n", &[]);
    check("src/broker/a.rs", "use std::fs;\n", &[]);
}

#[test]
fn what_was_left_unfinished_is_found() {
    check("src/shim/a.rs", "fn f() { todo!() }\n", &["src/shim/a.rs has todo!"]);
    check("src/shim/util.rs", "", &["src/shim/util.rs: a module has the name of a concept"]);
    let long = "\n".repeat(FILE_MAX_LINES + 1);
    check("src/shim/a.rs", &long, &["src/shim/a.rs has 501 lines, more than 500"]);
}
