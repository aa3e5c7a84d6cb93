//! Options that name directories, against the compilers' own lists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use distcc::broker::scan::{Declined, Scanner};
use distcc::common::bytes::Bytes;

/// What a compiler lists.
fn listed(argv: &[&str], cwd: &Path) -> BTreeSet<PathBuf> {
    let run = Command::new(argv[0]).args(&argv[1..]).args(["-M", "-MT", "x"]).current_dir(cwd).output();
    let run = run.expect("the compiler runs");
    assert!(run.status.success(), "{argv:?}: {}", String::from_utf8_lossy(&run.stderr));
    let text = String::from_utf8(run.stdout).expect("plain names").replace("\\\n", " ");
    let (_, list) = text.split_once(':').expect("a rule");
    list.split_whitespace().map(|name| cwd.join(name).canonicalize().expect("a file")).collect()
}

fn write(cwd: &Path, name: &str, text: &[u8]) {
    let path = cwd.join(name);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
    std::fs::write(path, text).expect("a file");
}

fn project() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for place in ["one", "two", "pre/fix", "pre/before", "sub"] {
        write(directory.path(), &format!("{place}/h.h"), b"int declared;\n");
        write(directory.path(), &format!("{place}/{}.h", place.replace('/', "-")), b"");
    }
    write(directory.path(), "sub/a.c", b"#include \"h.h\"\n#include <h.h>\n");
    directory
}

fn scanned(argv: &[&str], cwd: &Path, env: &str) -> Result<BTreeSet<PathBuf>, Declined> {
    let argv: Vec<Bytes> = argv.iter().map(|word| Bytes::from(*word)).collect();
    let env = [Bytes::from("PATH=/usr/bin:/bin"), Bytes::from(env)];
    let scan = Scanner::default().scan_command(&argv, &Bytes::from(cwd), &env)?;
    let path = |file: &[u8]| Bytes::from(file).as_path().canonicalize().expect("a file");
    Ok(scan.files.iter().map(|file| path(&file.path)).collect())
}

#[test]
fn directories_are_searched_in_the_order_that_options_give() {
    let directory = project();
    for options in [
        "-Ione -Itwo",
        "-iprefix pre/ -iwithprefix fix -Ione -iwithprefixbefore before",
        "-iprefix ./pre/ -iwithprefixbefore fix -iquote one -idirafter two",
        "-Itwo -Wp,-Ione",
        "-Itwo -Xpreprocessor -Ione",
        "-iquote one -isystem two -I./one",
        "-Wp,-I,one -Itwo",
    ] {
        for compiler in ["gcc", "clang"] {
            let line = format!("{compiler} {options} -c sub/a.c");
            let argv: Vec<&str> = line.split(' ').collect();
            match scanned(&argv, directory.path(), "X=") {
                Ok(files) => assert_eq!(files, listed(&argv, directory.path()), "{line}"),
                Err(declined) => {
                    let is_one_twice = compiler == "clang" && options.contains("-I./one");
                    assert!(is_one_twice || options.contains("-Wp,-I,one"), "{line}: {declined}");
                }
            }
        }
    }
    let argv = ["gcc", "-Ione", "-I-", "-Itwo", "-c", "sub/a.c"];
    let files = scanned(&argv, directory.path(), "X=").expect("an answer");
    assert_eq!(files, listed(&argv, directory.path()));
    assert!(!files.contains(&directory.path().join("sub/h.h").canonicalize().expect("a file")));
}

/// clang computes since 15 what it listed before. Whatever had `<math.h>` among its headers, most of C++, was asked of
/// the compiler instead of being scanned, and Qt's were not even sent.
#[test]
fn how_floats_are_computed_is_known_of_every_clang() {
    let directory = project();
    let text = "#include <math.h>\n#include <cmath>\n\
                #if __FLT_EVAL_METHOD__ == 0\n#include \"one/one.h\"\n#elif __FLT_EVAL_METHOD__ == 1\n#include \"two/two.h\"\n\
                #elif __FLT_EVAL_METHOD__ == 2\n#include \"pre/fix/pre-fix.h\"\n#else\n#include \"sub/sub.h\"\n#endif\n";
    write(directory.path(), "a.cc", text.as_bytes());
    let newer = crate::modules::clangs_with_partitions();
    let all = ["g++", "clang++"].into_iter().chain(newer.iter().map(String::as_str));
    for compiler in all {
        let more: &[&str] =
            if newer.iter().any(|name| name == compiler) { &["-ffp-eval-method=double"] } else { &[] };
        for option in ["-O2", "-ffast-math", "-mno-sse2"].iter().chain(more) {
            let argv = [compiler, option, "-c", "a.cc"];
            let files =
                scanned(&argv, directory.path(), "X=").unwrap_or_else(|why| panic!("{argv:?}: {why}"));
            assert_eq!(files, listed(&argv, directory.path()), "{argv:?}");
        }
    }
}

/// What KDE's build files add, and with which Qt's headers stayed here.
#[test]
fn words_are_names_where_an_option_takes_them_for_no_operators() {
    let directory = project();
    let names = "#define bitor 0\n#if bitor\n#include \"one/one.h\"\n#else\n#include \"two/two.h\"\n#endif\n";
    let operators = "#if 1 bitand 0\n#include \"one/one.h\"\n#else\n#include \"two/two.h\"\n#endif\n";
    write(directory.path(), "names.cc", names.as_bytes());
    write(directory.path(), "operators.cc", operators.as_bytes());
    for compiler in ["g++", "clang++"] {
        for argv in [
            &[compiler, "-fno-operator-names", "-c", "names.cc"][..],
            &[compiler, "-fno-operator-names", "-foperator-names", "-c", "operators.cc"],
        ] {
            let files = scanned(argv, directory.path(), "X=").unwrap_or_else(|why| panic!("{argv:?}: {why}"));
            assert_eq!(files, listed(argv, directory.path()), "{argv:?}");
        }
    }
}

#[test]
fn a_precompiled_header_stands_beside_its_text() {
    let directory = project();
    write(directory.path(), "sub/h.h.gch", b"no precompiled header");
    let argv = ["gcc", "-Ione", "-c", "sub/a.c"];
    let files = scanned(&argv, directory.path(), "X=").expect("an answer");
    assert_eq!(files, listed(&argv, directory.path()));
    let made = ["-Ione", "-x", "c-header", "sub/h.h", "-o", "sub/h.h.gch"];
    let run = Command::new("gcc").args(made).current_dir(directory.path()).status();
    assert!(run.expect("gcc runs").success());
    let files = scanned(&argv, directory.path(), "X=").expect("an answer");
    assert_eq!(files, listed(&argv, directory.path()));
    // clang looks for one only where it is told `-include`.
    let argv = ["clang", "-Ione", "-c", "sub/a.c"];
    assert_eq!(scanned(&argv, directory.path(), "X=").expect("an answer"), listed(&argv, directory.path()));
    write(directory.path(), "sub/h.h.pch", b"");
    let argv = ["clang", "-Ione", "-include", "sub/h.h", "-c", "sub/a.c"];
    assert!(
        scanned(&argv, directory.path(), "X=")
            .expect("an answer")
            .contains(&directory.path().join("sub/h.h").canonicalize().expect("a file"))
    );
    let argv = ["clang", "-Ione", "-include-pch", "sub/other.pch", "-c", "sub/a.c"];
    assert!(matches!(scanned(&argv, directory.path(), "X="), Err(Declined::Precompiled(_))));
}

#[test]
fn a_file_of_one_endless_line_is_read_in_time() {
    let directory = project();
    let cwd = directory.path();
    let mut text = b"#include <one.h>\n".to_vec();
    let start = std::time::Instant::now();
    for (line, answers) in [
        ("import < \"x\" ", true),
        ("#define A import < ", true),
        ("#if 1 + ", false),
        ("/* ", true),
        ("R\"x( ", true),
        ("__has_include(< ", true),
    ] {
        text.truncate(17);
        text.extend_from_slice(line.as_bytes());
        while text.len() < 4 << 20 {
            let known = text.len() - 17;
            text.extend_from_within(17..17 + known.min((4 << 20) + 17 - text.len()).max(1));
        }
        std::fs::write(cwd.join("sub/a.c"), &text).expect("a file");
        let found = scanned(&["clang++", "-std=c++20", "-Ione", "-c", "sub/a.c"], cwd, "X=");
        assert!(
            found.is_ok() || !answers || matches!(found, Err(Declined::Doubt { .. } | Declined::Compiler(_))),
            "{line}: {found:?}"
        );
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(120), "{:?}", start.elapsed());
}
