//! What compilers make, against what the classifier says that they may make: each line of the tables
//! is run here by a real compiler, and the folder is compared before and after.
//!
//! A line is `COMMAND => FILES`. The files are all that [`classify`] allows. Without a mark a file is
//! made, with `?` only by other versions of the compiler, or not always. A `#` at the end stands for the
//! number of a pass and what follows. `DIR` is the folder in which the command runs.

mod existing;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use distcc::common::bytes::Bytes;
use distcc::common::classify::{CompileJob, Verdict, classify};

/// What lies in the folder before a command runs.
const FILES: [(&str, &str); 15] = [
    (
        "a.c",
        "#include \"h.h\"\nint g(int);\nint f(int x) { int s = 0; for (int i = 0; i < x; i++) s += g(i); return s + H; }\n\
         static int k(int *p, int n) { int t = 0; for (int i = 0; i < n; i++) t += p[i]; return t; }\n\
         int q(int *p) { return k(p, 100); }\n",
    ),
    ("h.h", "#define H 7\nstruct s { int a; };\n"),
    ("s/d.x/b.c.c", "int f(int x) { return x + 1; }\n"),
    ("s/a.cc", "struct s { virtual ~s() {} int m; };\nint f(s *v) { delete v; return 1; }\n"),
    ("s/h.hh", "struct s { int a; };\n"),
    ("noext", "int f(int x) { return x + 1; }\n"),
    ("a.S", "#define X 1\n.globl f\nf: .byte X\n"),
    ("a.i", "int f(int x) { return x + 1; }\n"),
    ("list", "fun:*f*\n"),
    ("args", "-fstack-usage -c a.c"),
    ("searched", "-Is -Io"),
    ("quiet.specs", "*cc1_options:\n+ %{!fpie:-fno-pie}\n"),
    ("o/keep", ""),
    ("o.d/keep", ""),
    ("pd/keep", ""),
];

/// A folder with the files, and the files in it by name.
struct Stage(tempfile::TempDir);

impl Stage {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a folder");
        for (name, text) in FILES {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        Stage(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn tree(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        walk(self.path(), self.path(), &mut found);
        found
    }

    fn words(&self, line: &str) -> Vec<String> {
        let place = self.path().to_str().expect("a name");
        line.split_whitespace().map(|word| word.replace("DIR", place)).collect()
    }

    fn classify(&self, line: &str) -> CompileJob {
        let argv: Vec<Bytes> = self.words(line).iter().map(|word| Bytes::from(word.as_str())).collect();
        let read = |name: &[u8]| {
            fs::read(self.path().join(Bytes::from(name).as_path())).map_err(|error| error.to_string())
        };
        match classify(&argv, &read) {
            Verdict::Remote(job) => *job,
            Verdict::Local(reason) => panic!("{line}: {reason}"),
        }
    }

    fn run(&self, line: &str) -> Output {
        let words = self.words(line);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(self.path()).env("LC_ALL", "C").env("PWD", self.path());
        command.output().expect("a compiler")
    }

    /// A name as the tables have it.
    fn shown(&self, name: &[u8]) -> String {
        let place = format!("{}/", self.path().display());
        Bytes::from(name).to_text().replace(&place, "DIR/")
    }
}

fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            walk(root, &path, found);
        } else {
            let name = path.strip_prefix(root).expect("below").to_str().expect("a name").to_owned();
            found.insert(name, fs::read(&path).expect("a file"));
        }
    }
}

/// All that a job may make, as the tables have it.
fn allowed(stage: &Stage, job: &CompileJob) -> BTreeSet<String> {
    let products = &job.hermetic.products;
    let numbered: Vec<&Bytes> = products.beginnings.iter().collect();
    // Ten digits stand for one number.
    let starts: BTreeSet<String> = numbered
        .iter()
        .map(|beginning| {
            let (start, digit) = beginning.split_at(beginning.len() - 1);
            assert!(digit[0].is_ascii_digit() && start.ends_with(b"."), "{beginning}");
            format!("{}#", stage.shown(start))
        })
        .collect();
    assert_eq!(starts.len() * 10, numbered.len());
    products.names.iter().map(|name| stage.shown(name)).chain(starts).collect()
}

fn check(line: &str, expected: &str) {
    let stage = Stage::new();
    let job = stage.classify(line);
    let names: BTreeSet<String> =
        expected.split_whitespace().map(|name| name.trim_start_matches('?').to_owned()).collect();
    assert_eq!(allowed(&stage, &job), names, "{line}: what is allowed");

    let before = stage.tree();
    let output = stage.run(line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    let mut made = stage.tree();
    made.retain(|name, contents| before.get(name) != Some(contents));
    let absolute = |name: &str| format!("{}/{name}", stage.path().display());
    for name in made.keys() {
        let products = &job.hermetic.products;
        let fits = products.allow(name.as_bytes()) || products.allow(absolute(name).as_bytes());
        assert!(fits, "{line} made {name}, which is not allowed: {products:?}");
    }
    for name in expected.split_whitespace().filter(|name| !name.starts_with('?')) {
        let name = name.trim_start_matches("DIR/");
        let is_made = match name.strip_suffix('#') {
            Some(start) => made.keys().any(|made| made.starts_with(start)),
            None => made.contains_key(name),
        };
        assert!(is_made, "{line} did not make {name}, but {:?}", made.keys());
    }
}

/// What a compile reads by an option must be there, unless the classifier says otherwise.
fn check_reads(line: &str) {
    let stage = Stage::new();
    let job = stage.classify(line);
    let reads: Vec<_> = job.hermetic.reads.iter().filter(|read| !read.whole_folder).collect();
    assert!(!reads.is_empty(), "{line} reads nothing");
    for read in reads {
        let path = read.path_in(&Bytes::from(stage.path()));
        let there = fs::rename(path.as_path(), stage.path().join("hidden")).is_ok();
        assert!(there || read.optional, "{line}: no {path}");
        let output = stage.run(line);
        assert_eq!(output.status.success(), read.optional, "{line} without {path}");
        if there {
            fs::rename(stage.path().join("hidden"), path.as_path()).expect("the file is put back");
        }
    }
}

/// gcc says itself where it looks for a profile.
fn check_profile(line: &str) {
    let stage = Stage::new();
    let job = stage.classify(line);
    let messages = stage.run(&format!("{line} -Wmissing-profile")).stderr;
    let messages = String::from_utf8_lossy(&messages);
    let sought = messages.split('\'').find(|word| word.ends_with(".gcda"));
    let sought = stage.path().join(sought.unwrap_or_else(|| panic!("{line}: {messages}")));
    let reads = job.hermetic.reads.iter().map(|read| read.path_in(&Bytes::from(stage.path())));
    let reads: Vec<Bytes> = reads.collect();
    assert!(reads.iter().any(|read| read.as_path() == sought), "{line}: {} of {reads:?}", sought.display());
}

/// Runs a table.
fn check_all(table: &str, least: usize) {
    let rows: Vec<&str> = table.lines().filter(|line| !line.is_empty() && !line.starts_with("# ")).collect();
    assert!(rows.len() >= least, "{} rows", rows.len());
    for row in rows {
        let (line, expected) = row.split_once(" => ").expect("a command and its files");
        check(line, expected);
    }
}

#[test]
fn gcc_makes_what_is_allowed() {
    check_all(include_str!("products/gcc.txt"), 60);
}

#[test]
fn clang_makes_what_is_allowed() {
    check_all(include_str!("products/clang.txt"), 40);
}

#[test]
fn what_options_name_is_read() {
    for line in [
        "gcc @args",
        "gcc -specs=quiet.specs -c a.c",
        "gcc -fprofile-use -c a.c -o o/a.o",
        "gcc -fprofile-use=pd -c a.c",
        "clang -fsanitize=address -fsanitize-ignorelist=list -c a.c",
        "clang -fsanitize-coverage=trace-pc-guard -fsanitize-coverage-allowlist=list -c a.c",
        "clang -fxray-instrument -fxray-attr-list=list -c a.c",
        "clang -fbasic-block-sections=list=list -c a.c",
        "clang -fprofile-list=list -fprofile-instr-generate -c a.c",
    ] {
        check_reads(line);
    }
}

#[test]
fn gcc_looks_for_profiles_where_the_classifier_says() {
    for line in [
        "gcc -fprofile-use -O2 -c a.c",
        "gcc -fprofile-use -O2 -c s/d.x/b.c.c -o o.d/x.y.o",
        "gcc -fprofile-use -O2 -c a.c -o o/../o/./x.o",
        "gcc -fprofile-use -O2 -c a.c -o DIR/o/x",
        "gcc -fprofile-use -O2 -save-temps=cwd -c a.c -o o/x.o",
        "gcc -fprofile-use=pd -O2 -c a.c",
        "gcc -fprofile-use=pd -O2 -c a.c -o ./o/../o/./x.o",
        "gcc -fprofile-use=pd/ -O2 -c a.c -o o//x.o",
        "gcc -fprofile-use=DIR/pd -O2 -c s/d.x/b.c.c -o DIR/o/x.o",
        "gcc -fprofile-use=. -O2 -c a.c -o o/x.o",
        "gcc -fprofile-use -fprofile-dir=pd -O2 -c a.c",
        "gcc -fprofile-use=o -fprofile-use -O2 -c a.c",
        "gcc -fprofile-use=pd -fprofile-prefix-path=/tmp -O2 -c a.c",
        "gcc -fprofile-use=pd -fprofile-prefix-path=DIR/ -O2 -c a.c -o o/x.o",
        "gcc -fprofile-use=pd -fprofile-prefix-path=DIR -O2 -c a.c -o DIR//o/x.o",
        "gcc -fprofile-use=pd -fprofile-prefix-path=/nowhere -O2 -c a.c",
        "gcc -fbranch-probabilities -O2 -c a.i",
    ] {
        check_profile(line);
    }
}
