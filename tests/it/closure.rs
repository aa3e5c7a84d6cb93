//! Toolchains that travel: a compiler in a root that holds its closure and nothing else does what
//! it does at home, byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use distcc::broker::closure::{Closure, Digests, NotClosed, Part, Surroundings, closure_of};
use distcc::broker::lookout::Lookout;
use distcc::broker::toolchain::Compilers;
use distcc::common::bytes::Bytes;
use distcc::common::inputs::{Entry, EntryKind};
use tempfile::TempDir;

use crate::farm::{COMMAND_MAX, Outcome, run};

const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Sources of every case: without headers, and with those of the system.
const SOURCES: [(&str, &str); 5] = [
    ("bare.c", "struct s { int a; }; int f(struct s *s) { int unused; return s->a / 3; }\n"),
    ("bare.cc", "template <class T> T f(T a) { return a * 3; }\nint g(int unused) { return f(1); }\n"),
    ("full.c", "#include <stdio.h>\n#include <stdlib.h>\nint main(void) { puts(\"x\"); abort(); }\n"),
    ("full.cc", "#include <map>\n#include <string>\nstd::map<std::string, int> m{{\"a\", 1}};\n"),
    ("code.S", "#define N 3\n.text\n.globl f\nf: .rept N\nnop\n.endr\n"),
];

/// Lays out a job's root, enters it and runs a command there. `$R` is the root, `$JOB` the job's
/// folder; what follows are folders of headers to show, then `--` and the command.
const ENTER: &str = r#"
set -e
mount --rbind "$JOB" "$R$JOB"; mount --rbind /proc "$R/proc"
mount --bind /dev/null "$R/dev/null"
while [ "$1" != -- ]; do mkdir -p "$R$1"; mount --rbind "$1" "$R$1"; shift; done
shift
exec unshare --root="$R" --wd="$JOB" "$@"
"#;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn close(name: &str) -> Result<Closure, NotClosed> {
    let around = Surroundings { path: Bytes::from(PATH), ..Surroundings::default() };
    runtime().block_on(async {
        let compilers = Compilers::default();
        let compiler = compilers.resolve(&Bytes::from(name), PATH.as_bytes(), Path::new("/")).await;
        let compiler = compiler.unwrap_or_else(|reason| panic!("{name}: {reason}"));
        let digests = Arc::new(Digests::default());
        closure_of(&compiler.program, compiler.toolchain.clang, &around, &digests).await
    })
}

/// A folder for the roots of one test.
fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// A root that holds a set of entries, and a folder for jobs.
struct Root {
    folder: TempDir,
    copies: PathBuf,
    as_nobody: bool,
    headers: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Root {
    /// Beside other roots of a test, in the folder `of`, with whom it shares copies of files.
    fn new(of: &TempDir, entries: &[Entry]) -> Root {
        let folder = tempfile::tempdir_in(of.path()).expect("a folder");
        let copies = of.path().join("copies");
        fs::create_dir_all(&copies).expect("a folder of our own");
        let open = |path: &Path| {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("our own folder");
        };
        open(of.path());
        open(folder.path());
        for name in ["root", "job"] {
            fs::create_dir(folder.path().join(name)).expect("a folder of our own");
            open(&folder.path().join(name));
        }
        let root = Root { folder, copies, as_nobody: false, headers: Vec::new(), environment: Vec::new() };
        for name in ["tmp", "dev", "proc"] {
            fs::create_dir(root.root().join(name)).expect("a folder of the root");
        }
        fs::write(root.root().join("dev/null"), "").expect("a file of the root");
        fs::create_dir_all(root.inside_of(&root.job())).expect("a folder of the root");
        root.add(entries);
        for (name, text) in SOURCES {
            fs::write(root.job().join(name), text).expect("a source");
        }
        root
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn job(&self) -> PathBuf {
        self.folder.path().join("job")
    }

    /// Where in the root `path` is.
    fn inside_of(&self, path: &Path) -> PathBuf {
        self.root().join(path.strip_prefix("/").expect("an absolute path"))
    }

    /// Lays out `entries`: no path may lead through a link, so each is simply made.
    fn add(&self, entries: &[Entry]) {
        for entry in entries {
            let from = entry.path.as_path();
            let to = self.inside_of(from);
            let parent = to.parent().expect("a folder");
            fs::create_dir_all(parent).expect("a folder of the root");
            let real = fs::canonicalize(parent).expect("a folder of the root");
            assert_eq!(real, parent, "{} leads through a link", entry.path);
            match &entry.kind {
                EntryKind::Folder => fs::create_dir_all(&to).expect("a folder of the root"),
                EntryKind::Link { target } => match fs::read_link(&to) {
                    Ok(there) => assert_eq!(there, target.as_path()),
                    Err(_) => symlink(target.as_path(), &to).expect("a link"),
                },
                EntryKind::File(file) | EntryKind::Dated { file, .. } => {
                    fs::remove_file(&to).ok();
                    // One copy for all roots: a link to the system's own file would change that.
                    let copy = self.copies.join(file.digest.to_string());
                    if !copy.exists() {
                        copy_program(from, &copy);
                    }
                    fs::hard_link(&copy, &to).expect("a file");
                    let found = fs::metadata(&to).expect("a file of the root");
                    assert_eq!(found.len(), file.size, "{}", entry.path);
                    assert_eq!(found.permissions().mode() & 0o111 != 0, file.executable, "{}", entry.path);
                }
            }
        }
        let open = fs::Permissions::from_mode(0o777);
        Command::new("find")
            .arg(self.root())
            .args(["-type", "d", "-exec", "chmod", "777", "{}", "+"])
            .status()
            .expect("find runs");
        fs::set_permissions(self.root(), open).expect("our own folder");
    }

    fn set_environment(&mut self, entries: &[Bytes]) {
        let split = |entry: &Bytes| {
            let text = entry.to_text();
            let (name, value) = text.split_once('=').expect("NAME=value");
            (name.to_owned(), value.to_owned())
        };
        self.environment = entries.iter().map(split).collect();
    }

    /// Shows the headers of the system and of the compiler `name` in the root.
    fn show_headers(&mut self, name: &str) {
        let mut asked = Command::new(name);
        asked.arg("-print-file-name=include");
        let said = run(asked, COMMAND_MAX).expect_success(name).stdout;
        let own = String::from_utf8(said).expect("a path").trim_end().to_owned();
        self.headers = vec!["/usr/include".to_owned(), "/usr/local/include".to_owned()];
        self.headers.extend(fs::canonicalize(own).ok().and_then(|own| own.to_str().map(str::to_owned)));
        self.headers.retain(|folder| Path::new(folder).is_dir());
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        if self.as_nobody && program != "setpriv" {
            command = Command::new("setpriv");
            command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups", program]);
        }
        command.current_dir(self.job()).env_clear().env("PATH", PATH);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn at_home(&self, words: &[&str]) -> Outcome {
        // `env` finds the program as whatever enters the root does: by name, on `PATH`.
        let mut command = self.command("env");
        command.args(words);
        run(command, COMMAND_MAX)
    }

    fn inside(&self, words: &[&str]) -> Outcome {
        let mut command = self.command("unshare");
        command.args(["-Urm", "sh", "-c", ENTER, "sh"]).args(&self.headers).arg("--").args(words);
        command.env("R", self.root()).env("JOB", self.job());
        run(command, COMMAND_MAX)
    }

    /// The files that a command made, which are removed.
    fn made(&self) -> BTreeMap<String, Vec<u8>> {
        let mut made = BTreeMap::new();
        for entry in fs::read_dir(self.job()).expect("the job's folder").flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !SOURCES.iter().any(|(source, _)| *source == name) {
                made.insert(name, fs::read(entry.path()).expect("an output"));
                fs::remove_file(entry.path()).expect("our own file");
            }
        }
        made
    }

    /// Runs a command at home and inside: the same status, words and files. Gives those.
    fn check(&self, command: &str) -> (Outcome, BTreeMap<String, Vec<u8>>) {
        let words: Vec<&str> = command.split(' ').collect();
        let home = (masked(self.at_home(&words)), self.made());
        let inside = (masked(self.inside(&words)), self.made());
        let text = |outcome: &Outcome| {
            [&outcome.stdout, &outcome.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
        };
        let what = format!("{command} ({:?}, nobody: {})", self.environment, self.as_nobody);
        let (said, expected) = (text(&inside.0), text(&home.0));
        assert!(said == expected, "{what}: {}", differences(&expected, &said));
        assert_eq!(inside.0.status, home.0.status, "{what}");
        let names = |made: &BTreeMap<String, Vec<u8>>| made.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&inside.1), names(&home.1), "{what}");
        assert!(inside.1 == home.1, "{what}: other bytes");
        home
    }

    /// As [`Root::check`], of a command that succeeds.
    fn check_compile(&self, command: &str) {
        let (outcome, made) = self.check(command);
        outcome.expect_success(command);
        assert!(!made.is_empty(), "{command} made nothing");
    }
}

/// The words that only one of two texts has.
fn differences(home: &str, inside: &str) -> String {
    let only = |one: &str, other: &str| {
        let other: Vec<&str> = other.split_whitespace().collect();
        one.split_whitespace().filter(|word| !other.contains(word)).collect::<Vec<_>>().join(" ")
    };
    format!("only at home: {}; only inside: {}", only(home, inside), only(inside, home))
}

/// Without the names that drivers make up: `/tmp/ccXXXXXX` of gcc, `/tmp/bare-XXXXXX` of clang.
fn masked(mut outcome: Outcome) -> Outcome {
    for text in [&mut outcome.stdout, &mut outcome.stderr] {
        for begin in [&b"/tmp/cc"[..], b"/tmp/bare-", b"/tmp/full-"] {
            let mut at = 0;
            while let Some(found) = text[at..].windows(begin.len()).position(|window| window == begin) {
                at += found + begin.len();
                let end = (at + 6).min(text.len());
                text[at..end].fill(b'X');
            }
        }
    }
    outcome
}

/// Whose rights and which locale: root and an ordinary user, where we may choose.
fn settings() -> [(bool, &'static str); 2] {
    [(false, "C"), (rustix::process::geteuid().is_root(), "C.UTF-8")]
}

fn check_driver(of: &TempDir, name: &str, dry: &[&str], compiles: &[&str]) {
    let closure = close(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(closure.is_unchanged(&Lookout::default()));
    let mut root = Root::new(of, &closure.entries);
    for (as_nobody, locale) in settings() {
        root.as_nobody = as_nobody;
        let chosen = [Bytes::from(format!("LC_ALL={locale}").as_str())];
        root.set_environment(&[&closure.environment[..], &chosen].concat());
        let added = closure.locale(&chosen, &Digests::default());
        root.add(&added.expect("a locale").entries);
        for options in dry {
            root.check(&format!("{name} -### {options}"));
        }
        // The headers come with the job, not with the compiler.
        root.show_headers(name);
        for options in compiles {
            root.check_compile(&format!("{name} {options}"));
        }
        root.headers.clear();
    }
}

/// The first C file waited for the C++ compiler to travel, which is half of gcc.
#[test]
fn a_language_of_gcc_needs_none_of_the_other() {
    let of = tempfile::tempdir().expect("a folder");
    let closure = close("gcc").expect("gcc");
    let part = |part: Part| closure.of(part).cloned().collect::<Vec<_>>();
    let size = |entries: &[Entry]| {
        entries.iter().filter_map(|entry| entry.kind.file()).map(|file| file.size).sum::<u64>()
    };
    for (which, command) in [(Part::C, "gcc -g -O1 -c bare.c"), (Part::Cxx, "gcc -g -O1 -c bare.cc")] {
        let entries = part(which);
        assert!(size(&entries) * 3 < size(&closure.entries) * 2, "{which:?}");
        let mut root = Root::new(&of, &entries);
        root.set_environment(&[&closure.environment[..], &[Bytes::from("LC_ALL=C")]].concat());
        let locale = closure.locale(&[Bytes::from("LC_ALL=C")], &Digests::default());
        root.add(&locale.expect("a locale").entries);
        root.show_headers("gcc");
        root.check_compile(command);
    }
    assert_eq!(part(Part::All), closure.entries);
    let digests = [Part::C, Part::Cxx, Part::All].map(|part| closure.digest_of(part));
    assert!(digests[0] != digests[1] && digests[1] != digests[2] && digests[0] != digests[2]);
}

const GCC_DRY: [&str; 6] = [
    "-g -c bare.c",
    "-std=c11 -O2 -Wall -c bare.c -o x.o",
    "-fsanitize=address -c bare.cc",
    "-gsplit-dwarf -std=c++17 -c full.cc",
    "-m32 -c bare.c",
    "-flto -c bare.cc",
];

const GCC_COMPILES: [&str; 12] = [
    "-g -O2 -Wall -Wextra -c bare.c",
    "-O2 -Wunused-parameter -Wextra -c bare.cc",
    "-S bare.cc",
    "-m32 -S bare.c",
    "-gsplit-dwarf -g -c bare.c",
    "-flto -frandom-seed=1 -g -c bare.cc",
    "-g -gz -c bare.c",
    "--coverage -frandom-seed=1 -c bare.c -o b.o",
    "-fsanitize=address,undefined -save-temps -c bare.c",
    "-g -c code.S",
    "-g -O2 -c full.c",
    "-g -O2 -c full.cc",
];

#[test]
fn gcc_behaves_in_its_closure_as_at_home() {
    let of = folder();
    check_driver(&of, "gcc", &GCC_DRY, &GCC_COMPILES);
    check_driver(&of, "g++", &GCC_DRY[..4], &["-g -c bare.c", "-O2 -g -c full.cc"]);
    let gcc = close("gcc").expect("a closure");
    check_messages(&of, &gcc);
    check_character_sets(&of, &gcc);
}

const CLANG_DRY: [&str; 8] = [
    "-g -c bare.c",
    "-std=c11 -O2 -Wall -c bare.c -o x.o",
    "-fsanitize=address -c bare.cc",
    "-gsplit-dwarf -std=c++17 -c full.cc",
    "-m32 -c bare.cc",
    "-stdlib=libc++ -c bare.cc",
    "--target=aarch64-linux-gnu -c bare.cc",
    "-fno-integrated-as -gsplit-dwarf -g -c bare.c",
];

#[test]
fn clang_behaves_in_its_closure_as_at_home() {
    let compiles = [
        "-g -O2 -Wall -Wextra -c bare.c",
        "-fsanitize=address -c bare.c",
        "-S bare.cc",
        "-gsplit-dwarf -g -c bare.c",
        "-fno-integrated-as -g -c bare.c",
        "-flto -frandom-seed=1 -c bare.cc",
        "--coverage -frandom-seed=1 -c bare.c -o b.o",
        "-g -c code.S",
        "-g -O2 -c full.c",
        "-g -O2 -c full.cc",
    ];
    let of = folder();
    check_driver(&of, "clang", &CLANG_DRY, &compiles);
    check_driver(&of, "clang++", &CLANG_DRY, &["-g -c bare.cc", "-O2 -g -c full.cc"]);
}

/// Messages are translated.
fn check_messages(of: &TempDir, closure: &Closure) {
    let gas = Path::new("/usr/share/locale/fr/LC_MESSAGES/gas.mo");
    assert!(gas.is_file(), "{} is missing: it comes with binutils", gas.display());
    let environment = ["LANG=C.UTF-8", "LANGUAGE=fr:de"].map(Bytes::from);
    let locale = closure.locale(&environment, &Digests::default()).expect("a locale");
    let again = closure.locale(&environment, &Digests::default()).expect("a locale");
    assert!(Arc::ptr_eq(&locale, &again), "it is collected for each job anew");
    let mut root = Root::new(of, &closure.entries);
    root.add(&locale.entries);
    root.set_environment(&environment);
    root.show_headers("gcc");
    fs::write(root.job().join("code.S"), "nonsense\n").expect("a source");
    let (outcome, _) = root.check("gcc -c code.S");
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    assert!(said.contains("Erreur"), "the assembler does not speak French: {said}");
}

/// Character sets are converted.
fn check_character_sets(of: &TempDir, closure: &Closure) {
    let root = Root::new(of, &closure.entries);
    fs::write(root.job().join("bare.c"), "char text[] = \"gr\u{fc}n\";\n").expect("a source");
    let command = "gcc -nostdinc -fexec-charset=IBM1047 -fwide-exec-charset=UTF-16 -c bare.c";
    let words: Vec<&str> = command.split(' ').collect();
    assert!(!root.inside(&words).status.success(), "it needs no tables");
    root.add(&closure.charsets(&Digests::default()).expect("tables").entries);
    root.check_compile(command);
}

#[test]
fn a_library_that_an_option_names_comes_with_what_it_needs() {
    let closure = close("gcc").expect("a closure");
    let folder = tempfile::tempdir().expect("a folder");
    let place = fs::canonicalize(folder.path()).expect("a folder");
    fs::write(place.join("empty.c"), "").expect("a source");
    let link = |words: &str| {
        let mut gcc = Command::new("gcc");
        gcc.current_dir(&place).args(["-shared", "empty.c", "-Wl,--no-as-needed"]).args(words.split(' '));
        run(gcc, COMMAND_MAX).expect_success(words);
    };
    link("-o libdeep.so");
    link("-o plugin.so -L. -ldeep -Wl,-rpath,$ORIGIN");
    let entries = closure.libraries_of(&place.join("plugin.so"), &Digests::default()).expect("libraries");
    let own: Vec<&Entry> =
        entries.iter().filter(|entry| entry.path.as_path().parent() == Some(&place)).collect();
    let names: Vec<_> = own.iter().map(|entry| entry.path.as_path().file_name().expect("a name")).collect();
    assert_eq!(names, ["libdeep.so", "plugin.so"]);
    fs::remove_file(place.join("libdeep.so")).expect("our own file");
    let error = closure.libraries_of(&place.join("plugin.so"), &Digests::default()).expect_err("not found");
    assert!(matches!(&error, NotClosed::Library { name, .. } if *name == *"libdeep.so"), "{error}");
}

#[test]
fn what_runs_another_compiler_is_declined() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("gcc");
    fs::write(&script, "#!/bin/sh\nexec /usr/bin/gcc \"$@\"\n").expect("a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("our own file");
    let error = close(script.to_str().expect("text")).expect_err("declined");
    assert_eq!(error, NotClosed::Script { path: Bytes::from(script.as_path()) });
    // As `mpicc` is: a program, of which the banner is gcc's.
    let program = folder.path().join("wrapper");
    let source =
        "#include <unistd.h>\nint main(int n, char **a) { (void)n; return execv(\"/usr/bin/gcc\", a); }\n";
    fs::write(folder.path().join("wrapper.c"), source).expect("a source");
    let mut gcc = Command::new("gcc");
    gcc.arg("-o").arg(&program).arg(folder.path().join("wrapper.c"));
    run(gcc, COMMAND_MAX).expect_success("gcc");
    let error = close(program.to_str().expect("text")).expect_err("declined");
    assert_eq!(error, NotClosed::Wrapper { path: Bytes::from(program.as_path()) });
}

/// Copies a file by another process: what this one has open for writing, no process can run, and one
/// that another test is about to start would have it open as well.
fn copy_program(from: &Path, to: &Path) {
    let mut command = Command::new("cp");
    command.arg(from).arg(to);
    run(command, COMMAND_MAX).expect_success("cp");
}

/// A compiler outside `/usr`: gcc's driver takes what is beside it, which is the system's own here.
fn elsewhere() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("our own folder");
    fs::create_dir(folder.path().join("bin")).expect("a folder of our own");
    let driver = folder.path().join("bin/gcc");
    copy_program(Path::new("/usr/bin/gcc"), &driver);
    symlink("/usr/lib", folder.path().join("lib")).expect("a link");
    (folder, driver)
}

#[test]
fn a_compiler_outside_the_system_s_folders_travels() {
    let (_folder, driver) = elsewhere();
    let driver = driver.to_str().expect("text");
    check_driver(&folder(), driver, &GCC_DRY[..2], &["-g -c full.c"]);
}

#[test]
fn an_upgraded_compiler_is_another_closure() {
    let (folder, driver) = elsewhere();
    let name = driver.to_str().expect("text");
    let first = close(name).expect("a closure");
    let lookout = Lookout::default();
    assert!(first.is_unchanged(&lookout) && first.is_unchanged(&lookout));
    // What stands behind the end of an ELF file changes nothing but the file.
    let new = folder.path().join("new");
    let mut command = Command::new("sh");
    command.args(["-c", "cp \"$1\" \"$2\" && echo >> \"$2\"", "sh"]).arg(&driver).arg(&new);
    run(command, COMMAND_MAX).expect_success("a copy");
    fs::rename(new, &driver).expect("renamed");
    assert!(!first.is_unchanged(&lookout));
    let second = close(name).expect("a closure");
    assert_ne!(first.digest, second.digest);
    assert!(second.is_unchanged(&lookout));
}
