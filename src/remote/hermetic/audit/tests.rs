//! Who tells what was read, and what is made of it.

use super::*;
use crate::common::inputs::{Entry, FileEntry};
use crate::remote::items::Inputs;
use crate::remote::view::catalogue::{Catalogue, set};

const EXPECTED: Digest = Digest([7; 32]);

fn job(command: &str) -> Resolved {
    let words: Vec<Arc<Bytes>> = command.split_whitespace().map(|word| Arc::new(Bytes::from(word))).collect();
    let catalogue = Catalogue::default();
    let link = |path: &str, target: &str| {
        catalogue.know(Entry { path: path.into(), kind: EntryKind::Link { target: target.into() } })
    };
    let file = FileEntry { digest: EXPECTED, size: 0, executable: true, twin: 0, age: 0 };
    let driver = Entry { path: "/usr/bin/g++-12".into(), kind: EntryKind::File(file) };
    let entries = vec![
        link("/usr/bin/cc", "/etc/alternatives/cc"),
        link("/etc/alternatives/cc", "/usr/bin/clang"),
        link("/usr/bin/c++", "../bin/g++-12"),
        link("/usr/bin/loop", "loop"),
        catalogue.know(driver),
    ];
    let inputs = Inputs { files: Arc::default(), set: set(entries), epoch: 0, held: Vec::new() };
    Resolved {
        program: Arc::clone(&words[0]),
        arguments: words,
        environment: Vec::new(),
        cwd: Arc::new("/w".into()),
        terminal: None,
        inputs,
        reads: Some(MustRead::Listed(EXPECTED)),
        tells_temporary: false,
    }
}

#[track_caller]
fn check(command: &str, expected: &str) {
    let found = match teller(&job(command)) {
        Teller::None => "none".to_owned(),
        Teller::Ours(entry) => entry.to_text(),
        Teller::Theirs(path) => path.to_text(),
        Teller::Somewhere => "somewhere".to_owned(),
    };
    assert_eq!(found, expected, "{command}");
}

#[test]
fn a_compiler_is_asked_in_its_own_way() {
    let (gcc, clang) =
        ("SUNPRO_DEPENDENCIES=/.distccd/read", "CCC_OVERRIDE_OPTIONS=# +-MD +-MF +/.distccd/read");
    check("/usr/bin/gcc -c a.c", gcc);
    check("/usr/bin/c++ -c a.c", gcc);
    check("/usr/bin/loop -c a.c", gcc);
    check("/usr/bin/clang++-14 -c a.c", clang);
    check("/usr/bin/cc -c a.c", clang);
}

#[test]
fn a_command_that_has_a_list_written_is_not_asked_again() {
    check("/usr/bin/gcc -MD -c a.c", "somewhere");
    check("/usr/bin/gcc -MD -MF d/a.d -c a.c", "/w/d/a.d");
    check("/usr/bin/gcc -MF/x/a.d -MD -c a.c", "/x/a.d");
    check("/usr/bin/gcc -Wp,-MD,./.a.d -c a.c", "/w/.a.d");
    check("/usr/bin/gcc -MF a.d -c a.c", "SUNPRO_DEPENDENCIES=/.distccd/read");
}

#[test]
fn what_a_response_file_says_is_part_of_the_command() {
    let directory = tempfile::tempdir().expect("a directory");
    let check = |text: &str, command: &str, expected: &str| {
        let mut job = job(command);
        let file = FileEntry { digest: EXPECTED, size: 0, executable: false, twin: 0, age: 0 };
        let entry = Entry { path: "/w/flags".into(), kind: EntryKind::File(file) };
        job.inputs.set = set(vec![Catalogue::default().know(entry)]);
        std::fs::write(directory.path().join("flags"), text).expect("written");
        let spelt_out = spelt_out(&job, &|_| File::open(directory.path().join("flags")));
        let words: Vec<String> = spelt_out.arguments[1..].iter().map(|word| word.to_text()).collect();
        assert_eq!(words.join(" "), expected, "{command}");
        teller(&spelt_out)
    };
    let asked = Teller::Ours("SUNPRO_DEPENDENCIES=/.distccd/read".into());
    assert_eq!(check("-O2 'a.c'", "/usr/bin/gcc -c @flags", "-c -O2 a.c"), asked);
    assert_eq!(check("-O2 a.c", "/usr/bin/gcc -c @../w/./flags", "-c -O2 a.c"), asked);
    let theirs = Teller::Theirs("/w/x.d".into());
    assert_eq!(check("-MD -MF x.d", "/usr/bin/gcc @flags -c a.c", "-MD -MF x.d -c a.c"), theirs);
    assert_eq!(check("-MMD", "/usr/bin/gcc @flags -c a.c", "-MMD -c a.c"), Teller::None);
    // What is not among the inputs, and what compilers read differently.
    assert_eq!(check("-O2", "/usr/bin/gcc @other -c a.c", "@other -c a.c"), Teller::None);
    assert_eq!(check("'a", "/usr/bin/gcc @flags -c a.c", "@flags -c a.c"), Teller::None);
    assert_eq!(check("@flags", "/usr/bin/gcc @flags -c a.c", "@flags -c a.c"), Teller::None);
}

#[test]
fn a_list_that_is_not_whole_is_none() {
    for options in ["-MMD", "-MMD -MF a.d", "-MD -MMD", "-Wp,-MMD,a.d", "-M", "@file", "-MD @file"] {
        check(&format!("/usr/bin/gcc {options} -c a.c"), "none");
    }
    for options in ["-v", "-frecord-command-line", "-xassembler", "a.s", "a.ii", "-x cpp-output", "a.ll"] {
        check(&format!("/usr/bin/clang {options} -c a.c"), "none");
    }
    let mut own = job("/usr/bin/gcc -c a.c");
    own.environment = vec![Arc::new("DEPENDENCIES_OUTPUT=x".into())];
    assert_eq!(teller(&own), Teller::None);
    let unasked = Resolved { reads: None, ..job("/usr/bin/gcc -c a.c") };
    assert_eq!(teller(&unasked), Teller::None);
    let opened = Some(MustRead::Opened { apart: Vec::new() });
    assert_eq!(teller(&Resolved { reads: opened, ..job("/usr/bin/gcc -c a.c") }), Teller::None);
}

fn must_read(paths: [&[u8]; 2]) -> Option<MustRead> {
    Some(MustRead::Listed(reading_digest(paths)))
}

/// What becomes of a list, where `/w/a.c` and `/w/b.h` should have been read.
fn compared(list: &str) -> Audit {
    let reads = must_read([b"/w/a.c", b"/w/b.h"]);
    compare(&Resolved { reads, ..job("/usr/bin/gcc -c a.c -o a.o") }, Some(list.as_bytes()))
}

#[test]
fn a_list_agrees_with_or_without_the_source() {
    for list in ["a.o: a.c b.h", "a.o: b.h", "a.o: /w/./b.h a.c\nb.h:"] {
        assert_eq!(compared(list), Audit::Agrees, "{list}");
    }
}

/// gcc's list leaves out the source; the audit failed for one without an ending, and for one behind
/// sixteen folders with a dot in their names.
#[test]
fn the_source_is_found_among_many_words_and_without_an_ending() {
    let folders = "-isystem /opt/x-1.2/include ".repeat(20);
    for (line, source) in [
        ("/usr/bin/gcc -x c -c plain -o a.o".to_owned(), &b"/w/plain"[..]),
        (format!("/usr/bin/gcc {folders}-c a.c -o a.o"), b"/w/a.c"),
        (format!("/usr/bin/gcc a.c {folders}-c -o a.o"), b"/w/a.c"),
    ] {
        let reads = must_read([source, b"/w/b.h"]);
        assert_eq!(
            compare(&Resolved { reads: reads.clone(), ..job(&line) }, Some(b"a.o: b.h")),
            Audit::Agrees,
            "{line}"
        );
        assert!(matches!(
            compare(&Resolved { reads, ..job(&line) }, Some(b"a.o: c.h")),
            Audit::Differs { .. }
        ));
    }
}

#[test]
fn what_options_name_is_not_what_the_source_includes() {
    let reads = must_read([b"/w/a.c", b"/w/b.h"]);
    let job = Resolved { reads, ..job("/usr/bin/clang -fsanitize-ignorelist=l.txt -c a.c -o a.o") };
    let list = b"a.o: a.c l.txt /usr/lib/clang/14/share/asan_ignorelist.txt b.h";
    assert_eq!(compare(&job, Some(list)), Audit::Agrees);
    assert!(matches!(compare(&job, Some(b"a.o: a.c l.txt c.h")), Audit::Differs { .. }));
}

#[test]
fn another_list_differs_and_no_list_is_unchecked() {
    for list in ["a.o: a.c", "a.o: a.c c.h", "a.o: a.c b.h c.h"] {
        assert!(matches!(compared(list), Audit::Differs { .. }), "{list}");
    }
    assert_eq!(compared("a.o: a.c"), Audit::Differs { read: vec!["/w/a.c".into()] });
    assert_eq!(compared("no rule"), Audit::Unchecked);
    assert_eq!(compare(&job("/usr/bin/gcc -c a.c"), None), Audit::Unchecked);
}
