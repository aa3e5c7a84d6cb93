//! What compilers do to files that lie where they put theirs, against what is said of it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use distcc::common::bytes::Bytes;
use distcc::common::classify::Existing;

use super::Stage;

/// What is put into each file.
const BEFORE: &[u8] = b"before\n";

/// A compiler, as its banner has it.
struct Kind {
    clang: bool,
    version: String,
}

impl Kind {
    fn of(compiler: &str) -> Kind {
        let said = Command::new(compiler).arg("-v").env("LC_ALL", "C").output().expect("a compiler").stderr;
        let said = String::from_utf8_lossy(&said).into_owned();
        let version = said.lines().find(|line| line.contains("version ")).expect("a version").to_owned();
        Kind { clang: version.contains("clang"), version }
    }
}

/// What became of a file with two names that had `before` in it.
fn seen(path: &Path, other: &Path, before: &[u8]) -> Existing {
    let is_same = fs::metadata(path).expect("made").ino() == fs::metadata(other).expect("kept").ino();
    let starts = fs::read(path).expect("made").starts_with(BEFORE);
    match (is_same, before.is_empty()) {
        (true, false) if starts => Existing::Appended,
        (true, _) => Existing::Rewritten,
        (false, _) => Existing::Replaced,
    }
}

#[track_caller]
fn check(line: &str) {
    let stage = Stage::new();
    let job = stage.classify(line);
    let kind = Kind::of(line.split(' ').next().expect("a compiler"));
    let before = stage.tree();
    assert!(stage.run(line).status.success(), "{line}");
    let made: Vec<String> = stage.tree().into_keys().filter(|name| !before.contains_key(name)).collect();
    assert!(!made.is_empty(), "{line}");
    let other = |name: &str| stage.path().join("pd").join(name.replace('/', "#"));
    for text in [BEFORE, b""] {
        for name in &made {
            let _ = fs::remove_file(stage.path().join(name));
            fs::write(stage.path().join(name), text).expect("written");
            fs::set_permissions(stage.path().join(name), fs::Permissions::from_mode(0o604)).expect("set");
            let _ = fs::remove_file(other(name));
            fs::hard_link(stage.path().join(name), other(name)).expect("linked");
        }
        assert!(stage.run(line).status.success(), "{line}");
        for name in &made {
            let writer = job.hermetic.products.writer(&Bytes::from(name.as_str()));
            let expected = match writer.existing(kind.clang, &kind.version) {
                Existing::ReplacedUnlessEmpty if text.is_empty() => Existing::Rewritten,
                Existing::ReplacedUnlessEmpty => Existing::Replaced,
                Existing::Appended if text.is_empty() => Existing::Rewritten,
                other => other,
            };
            let found = seen(&stage.path().join(name), &other(name), text);
            assert_eq!(found, expected, "{line}: {name} with {} bytes", text.len());
        }
    }
}

#[test]
fn files_that_are_there_are_treated_as_gcc_does() {
    for line in [
        "gcc -MD -c a.c",
        "gcc -S a.c",
        "gcc -c a.S",
        "gcc -save-temps -c a.c",
        "gcc -g -gsplit-dwarf -c a.c",
        "gcc --coverage -fstack-usage -c a.c",
        "gcc -flto -c a.c",
        "gcc -x c-header h.h",
        "gcc -O3 -fopt-info-all=log -c a.c",
        "gcc -O2 -fdump-tree-all=log -c a.c",
        "gcc -O2 -fdump-tree-optimized=log -c a.c",
        "gcc -O2 -fdump-tree-optimized=y -aux-info x -c a.c",
    ] {
        check(line);
    }
}

#[test]
fn files_that_are_there_are_treated_as_clang_does() {
    for options in [
        "-MD -c a.c",
        "-S a.c",
        "-S -emit-llvm a.c",
        "-c -emit-llvm a.c",
        "-c a.S",
        "-save-temps -c a.c",
        "-save-temps -fno-integrated-as -c a.c",
        "-fno-integrated-as -c a.c",
        "-fno-integrated-as -fintegrated-as -c a.c",
        "-g -gsplit-dwarf -c a.c",
        "--coverage -ftime-trace -c a.c",
        "-flto -save-temps -fno-integrated-as -c a.c",
        "-x c-header h.h -o h.pch",
        "-O2 -fsave-optimization-record -c a.c",
        "--serialize-diagnostics x.dia -MJ x.json -c a.c",
    ] {
        for compiler in ["clang", "clang-16"] {
            check(&format!("{compiler} {options}"));
        }
    }
}
