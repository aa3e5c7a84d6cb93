//! Against the loader itself: what it lists is what we find.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::LazyLock;

use super::*;
use crate::broker::closure::Digests;
use crate::common::inputs::EntryKind;

/// The plain paths of the libraries that a program is loaded with, as its loader tells.
fn listed(program: &Path, library_path: &str) -> Option<BTreeSet<PathBuf>> {
    let interpreter = read_needs(program).ok()?.interpreter?;
    let output = Command::new(interpreter.as_path())
        .arg("--list")
        .arg(program)
        .env_clear()
        .env("LD_LIBRARY_PATH", library_path)
        .output()
        .expect("the loader runs");
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || text.contains("not found") {
        return None;
    }
    // `NAME => PATH (ADDRESS)`, `PATH (ADDRESS)`; what has no path is the kernel's own.
    let paths = text.lines().filter_map(|line| line.trim().rsplit_once(" (")).map(|(line, _)| {
        let path = line.rsplit_once(" => ").map_or(line, |(_, path)| path);
        PathBuf::from(path)
    });
    paths.filter(|path| path.is_absolute()).map(|path| std::fs::canonicalize(path).ok()).collect()
}

/// The plain paths of the files that we find for a program, itself left out.
fn found(program: &Path, library_path: &str) -> Result<(BTreeSet<PathBuf>, bool), NotClosed> {
    // Most programs share their libraries.
    static DIGESTS: LazyLock<Digests> = LazyLock::new(Digests::default);
    let mut layout = Layout::default();
    let mut loader = Loader::new(&SearchPath { library_path: Bytes::from(library_path) });
    loader.program(&mut layout, program)?;
    let real = std::fs::canonicalize(program).expect("there");
    let (entries, _) = layout.finish(&DIGESTS)?;
    let files = entries.iter().filter(|entry| matches!(entry.kind, EntryKind::File(_)));
    let paths = files.map(|entry| entry.path.as_path().to_owned());
    Ok((
        paths.filter(|path| *path != real && *path != Path::new(cache::PATH)).collect(),
        loader.used_library_path,
    ))
}

#[test]
fn the_programs_of_this_machine_get_what_their_loader_lists() {
    let mut programs: Vec<PathBuf> =
        std::fs::read_dir("/usr/bin").expect("programs").flatten().map(|entry| entry.path()).collect();
    programs.sort_unstable();
    let mut checked = 0;
    for program in programs.iter().filter(|program| program.is_file()).step_by(9) {
        // Not what runs as somebody else: nothing of this is theirs.
        let mode = std::fs::metadata(program).expect("there").permissions().mode();
        let Some(expected) = listed(program, "").filter(|_| mode & 0o6000 == 0) else { continue };
        let (found, _) = found(program, "").unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        assert_eq!(found, expected, "{}", program.display());
        checked += 1;
    }
    assert!(checked >= 30, "only {checked} programs");
}

/// A folder with programs and libraries made for a test.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        Bench(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        // As the loader tells paths: without links.
        std::fs::canonicalize(self.0.path()).expect("a folder").join(name)
    }

    /// Links `name` (a library when it ends in `.so`) with further words for the compiler.
    fn make(&self, name: &str, words: &str) {
        let output = self.path(name);
        std::fs::create_dir_all(output.parent().expect("a folder")).expect("a folder of our own");
        let source = self.path("source.c");
        std::fs::write(&source, "int main(void) { return 0; }\n").expect("a source");
        let mut command = Command::new("gcc");
        command.current_dir(self.path("")).arg("-o").arg(output);
        match name.rsplit_once('/').map_or(name, |(_, name)| name) {
            library if library.ends_with(".so") => {
                std::fs::write(&source, "").expect("a source");
                command.args(["-shared", &format!("-Wl,-soname,{library}")]);
            }
            _ => {}
        }
        // Needed, though nothing of it is used; and what a library needs is found later.
        command.args(["-Wl,--no-as-needed", "-Wl,--allow-shlib-undefined", "source.c"]);
        let output = command.args(words.split_whitespace()).output().expect("gcc runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Checks that we find what the loader lists, and that it is these files of the bench.
    fn check(&self, program: &str, library_path: &str, expected: &[&str]) {
        let program = self.path(program);
        let library_path = library_path.replace("BENCH", self.path("").to_str().expect("text"));
        let listed = listed(&program, &library_path).expect("a program that can be loaded");
        let (found, used) = found(&program, &library_path).expect("a program that can be loaded");
        assert_eq!(found, listed);
        let own: Vec<PathBuf> = found.into_iter().filter(|path| path.starts_with(self.path(""))).collect();
        assert_eq!(own, expected.iter().map(|name| self.path(name)).collect::<Vec<_>>());
        assert_eq!(used, !library_path.is_empty());
    }
}

#[test]
fn search_paths_count_in_the_loader_s_order() {
    let bench = Bench::new();
    for folder in ["a", "b", "c"] {
        bench.make(&format!("{folder}/libx.so"), "");
    }
    let link = "-La -lx -Wl,-rpath-link,a";
    bench.make("bin/old", &format!("{link} -Wl,--disable-new-dtags -Wl,-rpath,$ORIGIN/../none:$ORIGIN/../a"));
    bench.make("bin/new", &format!("{link} -Wl,--enable-new-dtags -Wl,-rpath,${{ORIGIN}}/../b"));
    bench.check("bin/old", "", &["a/libx.so"]);
    bench.check("bin/new", "", &["b/libx.so"]);
    bench.check("bin/new", "BENCH/none:BENCH/c", &["c/libx.so"]);
    std::fs::create_dir(bench.path("far")).expect("a folder of our own");
    std::os::unix::fs::symlink("../bin/new", bench.path("far/link")).expect("a link");
    bench.check("far/link", "", &["b/libx.so"]);
}

#[test]
fn an_rpath_holds_for_what_it_brings_in_and_a_runpath_does_not() {
    let bench = Bench::new();
    bench.make("deep/liby.so", "");
    bench.make("near/libx.so", "-Ldeep -ly");
    let link = "-Lnear -lx -Wl,-rpath-link,deep";
    bench.make("old", &format!("{link} -Wl,--disable-new-dtags -Wl,-rpath,$ORIGIN/near:$ORIGIN/deep"));
    bench.make("new", &format!("{link} -Wl,--enable-new-dtags -Wl,-rpath,$ORIGIN/near:$ORIGIN/deep"));
    bench.check("old", "", &["deep/liby.so", "near/libx.so"]);
    assert_eq!(listed(&bench.path("new"), ""), None);
    let error = found(&bench.path("new"), "").expect_err("not found");
    let of = Bytes::from(bench.path("near/libx.so").as_path());
    assert_eq!(error, NotClosed::Library { name: Bytes::from("liby.so"), of });
    bench.check("new", "BENCH/deep", &["deep/liby.so", "near/libx.so"]);
}

#[test]
fn a_library_of_another_machine_is_passed_over() {
    let bench = Bench::new();
    bench.make("good/libx.so", "");
    bench.make("prog", "-Lgood -lx -Wl,-rpath,$ORIGIN/bad:$ORIGIN/good");
    std::fs::create_dir(bench.path("bad")).expect("a folder of our own");
    let mut bytes = std::fs::read(bench.path("good/libx.so")).expect("a library");
    // The class in the header: 32 bits.
    bytes[4] = 1;
    std::fs::write(bench.path("bad/libx.so"), bytes).expect("a library");
    bench.check("prog", "", &["good/libx.so"]);
}

#[test]
fn a_static_program_needs_nothing_and_a_script_is_declined() {
    let bench = Bench::new();
    bench.make("static", "-static");
    assert_eq!(found(&bench.path("static"), "").expect("closed").0, BTreeSet::new());
    let script = bench.path("script");
    std::fs::write(&script, "#!/bin/sh\n").expect("a script");
    assert_eq!(found(&script, ""), Err(NotClosed::Script { path: Bytes::from(script.as_path()) }));
    let text = bench.path("source.c");
    assert_eq!(found(&text, ""), Err(NotClosed::NotElf { path: Bytes::from(text.as_path()) }));
}

#[test]
fn text_is_found_wherever_it_is_in_a_file() {
    let bench = Bench::new();
    let path = bench.path("file");
    for at in [0, 1, (1 << 20) - 3, 1 << 20, (1 << 21) - 1, (2 << 20) + 7] {
        let mut bytes = vec![b'x'; 3 << 20];
        bytes[at..at + 4].copy_from_slice(b"TEXT");
        std::fs::write(&path, bytes).expect("a file");
        assert_eq!(has_text(&path, b"TEXT"), Ok(true), "{at}");
        assert_eq!(has_text(&path, b"TEXTS"), Ok(false), "{at}");
    }
}
