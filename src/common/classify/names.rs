//! What a source's name tells: its language, where its outputs go, whether it is a probe.

use super::{Driver, Language};
use crate::common::bytes::Bytes;

/// Whether what a full path names is a device, or another thing for each process that asks. Files that are kept in
/// memory lie among devices.
pub fn is_of_the_process(path: &[u8]) -> bool {
    path.starts_with(b"/proc/") || path.starts_with(b"/dev/") && !path.starts_with(b"/dev/shm/")
}

/// The last component of a path.
pub(super) fn basename(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// A path up to its last component, with the slash.
pub(super) fn folder(path: &[u8]) -> &[u8] {
    &path[..path.len() - basename(path).len()]
}

/// A path without its directory and without what follows the last dot.
pub(super) fn stem(path: &[u8]) -> &[u8] {
    let name = basename(path);
    name.iter().rposition(|byte| *byte == b'.').map_or(name, |dot| &name[..dot])
}

/// A name's ending, from the last dot on; empty when there is none, or when it is all of the name:
/// gcc takes a `.c` for something to link.
pub(super) fn suffix(path: &[u8]) -> &[u8] {
    let name = basename(path);
    name.iter().rposition(|byte| *byte == b'.').filter(|&dot| dot > 0).map_or(b"", |dot| &name[dot..])
}

/// What a source is, besides its language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Source text.
    Plain,
    /// Preprocessed text.
    Preprocessed,
    /// A header, of which a precompiled one is made.
    Header,
    /// The text of a module's interface, as clang calls it.
    Interface,
    /// A compiled module of clang's.
    Module,
}

/// What the compiler takes a source of this name for. `None` is a language that is not distributed,
/// or no source at all.
pub(super) fn language_of_source(path: &[u8], driver: Driver) -> Option<(Language, Form)> {
    let (language, form) = match suffix(path) {
        b".c" => (Language::C, Form::Plain),
        b".i" => (Language::C, Form::Preprocessed),
        b".cc" | b".cp" | b".cxx" | b".cpp" | b".CPP" | b".c++" | b".C" => (Language::Cxx, Form::Plain),
        b".ii" => (Language::Cxx, Form::Preprocessed),
        b".m" => (Language::ObjC, Form::Plain),
        b".mi" => (Language::ObjC, Form::Preprocessed),
        b".mm" | b".M" => (Language::ObjCxx, Form::Plain),
        b".mii" => (Language::ObjCxx, Form::Preprocessed),
        b".S" | b".sx" => (Language::Assembler, Form::Plain),
        b".s" => (Language::Assembler, Form::Preprocessed),
        b".h" => (Language::C, Form::Header),
        b".hh" | b".H" | b".hp" | b".hxx" | b".hpp" => (Language::Cxx, Form::Header),
        b".cppm" | b".ccm" | b".cxxm" | b".c++m" if driver.clang => (Language::Cxx, Form::Interface),
        b".pcm" if driver.clang => (Language::Cxx, Form::Module),
        _ => return None,
    };
    // g++ and clang++ take C for C++.
    let language = if driver.cxx && language == Language::C { Language::Cxx } else { language };
    Some((language, form))
}

/// What `-x NAME` means; `None` is a language that is not distributed.
pub(super) fn language_by_name(name: &[u8], driver: Driver) -> Option<(Language, Form)> {
    Some(match name {
        b"c" => (Language::C, Form::Plain),
        b"c++" => (Language::Cxx, Form::Plain),
        b"objective-c" => (Language::ObjC, Form::Plain),
        b"objective-c++" => (Language::ObjCxx, Form::Plain),
        b"cpp-output" => (Language::C, Form::Preprocessed),
        b"c++-cpp-output" => (Language::Cxx, Form::Preprocessed),
        b"objective-c-cpp-output" => (Language::ObjC, Form::Preprocessed),
        b"objective-c++-cpp-output" => (Language::ObjCxx, Form::Preprocessed),
        b"assembler" => (Language::Assembler, Form::Preprocessed),
        b"assembler-with-cpp" => (Language::Assembler, Form::Plain),
        b"c-header" => (Language::C, Form::Header),
        b"c++-header" => (Language::Cxx, Form::Header),
        b"c++-module" if driver.clang => (Language::Cxx, Form::Interface),
        b"pcm" if driver.clang => (Language::Cxx, Form::Module),
        _ => return None,
    })
}

/// The name by which gcc and clang know a language's preprocessed text.
pub(super) fn preprocessed_name(language: Language) -> &'static str {
    match language {
        Language::Assembler => "assembler",
        Language::C => "cpp-output",
        Language::Cxx => "c++-cpp-output",
        Language::ObjC => "objective-c-cpp-output",
        Language::ObjCxx => "objective-c++-cpp-output",
    }
}

/// Where the output goes without `-o`: the source's name in the working directory.
pub(super) fn default_output(source: &[u8], suffix: &str) -> Bytes {
    [stem(source), suffix.as_bytes()].concat().into()
}

/// Where `-MD` writes without `-MF`: beside the output that `-o` names, else in the working
/// directory under the source's name.
pub(super) fn default_dependencies(output: Option<&[u8]>, source: &[u8]) -> Bytes {
    let Some(output) = output else { return default_output(source, ".d") };
    [folder(output), stem(output), b".d"].concat().into()
}

/// Sources by which CMake and meson ask what a compiler can do.
const PROBES: [&[u8]; 9] = [
    b"CMakeCCompilerABI.c",
    b"CMakeCCompilerId.c",
    b"CMakeCXXCompilerABI.cpp",
    b"CMakeCXXCompilerId.cpp",
    b"sanitycheckc.c",
    b"sanitycheckcpp.cc",
    b"sanitycheckobjc.m",
    b"testCCompiler.c",
    b"testCXXCompiler.cxx",
];

/// Whether a source or output is that of a configure probe: small, serial, many.
pub(super) fn is_probe(source: &[u8], output: &[u8]) -> bool {
    let name = basename(source);
    let autoconf = name.starts_with(b"conftest.") || name.starts_with(b"tmp.conftest.");
    let cmake = output.split(|byte| *byte == b'/').any(|part| part.starts_with(b"cmTC_"));
    autoconf || cmake || PROBES.contains(&name) || is_probe_directory(source) || is_probe_directory(output)
}

/// Whether a path lies where CMake and meson do their probing.
///
/// [`super::classify`] looks at the source and the output; who knows the working directory asks
/// for that as well.
pub fn is_probe_directory(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/')
        .any(|part| matches!(part, b"CMakeTmp" | b"CMakeScratch" | b"meson-private"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dependency_file_lies_beside_the_output() {
        let check = |output: Option<&str>, source: &str, expected: &str| {
            assert_eq!(&default_dependencies(output.map(str::as_bytes), source.as_bytes()), expected);
        };
        check(None, "s/a.b.c", "a.b.d");
        check(None, "noext", "noext.d");
        check(Some("foo"), "a.c", "foo.d");
        check(Some("foo.bar.o"), "a.c", "foo.bar.d");
        check(Some("d.x/foo"), "a.c", "d.x/foo.d");
        check(Some("d.x/.o"), "a.c", "d.x/.d");
        check(Some("a b.o"), "a.c", "a b.d");
    }

    #[test]
    fn probes_are_known_by_name_or_place() {
        for (source, output) in [
            ("conftest.c", "conftest.o"),
            ("tmp.conftest.c", "x.o"),
            ("/b/CMakeFiles/CMakeScratch/T-1/src.c", "x.o"),
            ("src.c", "CMakeFiles/cmTC_1f2e.dir/src.c.o"),
            ("/cmake/CMakeCCompilerABI.c", "x.o"),
            ("meson-private/tmp1/testfile.c", "x.o"),
        ] {
            assert!(is_probe(source.as_bytes(), output.as_bytes()), "{source}");
        }
        for (source, output) in [("conftest_x.c", "x.o"), ("tmpabc.c", "x.o"), ("src/cmTC.c", "cmTC.o")] {
            assert!(!is_probe(source.as_bytes(), output.as_bytes()), "{source}");
        }
    }
}
