//! Scans while files change: each answer is the truth of its moment.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use distcc::broker::scan::{Declined, Scanner};
use distcc::common::bytes::Bytes;

pub(super) struct Build {
    directory: tempfile::TempDir,
    /// With notifications, and without; the last two keep the effects of all headers, and are
    /// never asked the same thing twice, so that they use these.
    scanners: [Scanner; 4],
    path: String,
    /// Further entries of the environment.
    more: Vec<String>,
    rounds: usize,
}

impl Build {
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        let (told, asked) = (Scanner::default, Scanner::without_notifications);
        let mut scanners = [told(), asked(), told(), asked()];
        scanners[2..].iter_mut().for_each(Scanner::keep_all_effects);
        let directory = tempfile::tempdir().expect("a directory");
        let build =
            Build { directory, scanners, path: "/usr/bin:/bin".to_owned(), more: Vec::new(), rounds: 0 };
        files.iter().for_each(|(name, text)| build.write(name, text));
        build
    }

    pub(super) fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, text).expect("a file");
    }

    pub(super) fn scan(&mut self, command: &str) -> Result<String, Declined> {
        let argv: Vec<Bytes> = command.split(' ').map(Bytes::from).collect();
        let cwd = Bytes::from(self.directory.path());
        let mut env = vec![Bytes::from(format!("PATH={}", self.path).as_str())];
        env.extend(self.more.iter().map(|entry| Bytes::from(entry.as_str())));
        self.rounds += 1;
        let new = [&argv[..], &[Bytes::from(format!("-DROUND={}", self.rounds).as_str())]].concat();
        let mut number = 0;
        let answers = self.scanners.each_mut().map(|scanner| {
            number += 1;
            let scan = scanner.scan_command(if number > 2 { &new } else { &argv }, &cwd, &env)?;
            let names = scan.files.iter().map(|file| {
                let name = Bytes(file.path.to_vec()).to_text();
                name.strip_prefix(&cwd.to_text()).map_or(name.clone(), |name| name[1..].to_owned())
            });
            Ok(names.collect::<Vec<_>>().join(" "))
        });
        for (number, answer) in answers.iter().enumerate() {
            assert_eq!(*answer, answers[0], "scanner {number}");
        }
        answers[0].clone()
    }

    /// Two times: what was just found is remembered.
    pub(super) fn check(&mut self, command: &str, expected: &str) {
        for _ in 0..2 {
            assert_eq!(self.scan(command).as_deref(), Ok(expected), "{command}");
        }
    }
}

const GCC: &str = "gcc -nostdinc -c a.c";

#[test]
fn a_header_that_is_generated_while_the_build_runs_is_found() {
    let mut build = Build::new(&[(
        "a.c",
        "#if __has_include(\"gen/x.h\")\n#include \"gen/x.h\"\n#endif\n#include \"y.h\"\n",
    )]);
    assert!(matches!(build.scan(GCC), Err(Declined::Missing { .. })));
    build.write("y.h", "");
    build.check(GCC, "a.c y.h");
    build.write("gen/x.h", "#include \"z.h\"\n");
    assert!(matches!(build.scan(GCC), Err(Declined::Missing { .. })));
    build.write("gen/z.h", "");
    build.check(GCC, "a.c gen/x.h gen/z.h y.h");
    fs::rename(build.at("gen"), build.at("old")).expect("it moves");
    build.check(GCC, "a.c y.h");
}

#[test]
fn a_header_edited_with_size_and_time_kept_is_read_anew() {
    let mut build =
        Build::new(&[("a.c", "#include \"h.h\"\n"), ("h.h", "#include \"1.h\"\n"), ("1.h", ""), ("2.h", "")]);
    build.check(GCC, "a.c h.h 1.h");
    let time = fs::metadata(build.at("h.h")).and_then(|metadata| metadata.modified()).expect("a time");
    for number in [2, 1, 2] {
        build.write("h.h", &format!("#include \"{number}.h\"\n"));
        let file = fs::File::options().write(true).open(build.at("h.h")).expect("it opens");
        file.set_modified(time).expect("its time is set");
        build.check(GCC, &format!("a.c h.h {number}.h"));
    }
}

#[test]
fn a_directory_that_gains_a_file_earlier_in_the_search_wins() {
    let command = "gcc -nostdinc -Inone -Ione -Itwo -c a.c";
    let mut build = Build::new(&[("a.c", "#include <d/h.h>\n"), ("one/x", ""), ("two/d/h.h", "")]);
    build.check(command, "a.c two/d/h.h");
    build.write("one/d/h.h", "");
    build.check(command, "a.c one/d/h.h");
    build.write("none/d/h.h", "");
    build.check(command, "a.c none/d/h.h");
    fs::remove_file(build.at("none/d/h.h")).expect("it goes");
    fs::create_dir(build.at("none/d/h.h")).expect("a directory of that name");
    build.check(command, "a.c one/d/h.h");
    fs::remove_dir_all(build.at("one")).expect("it goes");
    build.check(command, "a.c two/d/h.h");
}

#[test]
fn a_link_that_is_replaced_leads_elsewhere() {
    let command = "gcc -nostdinc -Icurrent -c a.c";
    let mut build = Build::new(&[
        ("a.c", "#include <h.h>\n"),
        ("v1/h.h", "#include <x.h>\n"),
        ("v1/x.h", ""),
        ("v2/h.h", "#include <y.h>\n"),
        ("v2/y.h", ""),
    ]);
    symlink("v1", build.at("current")).expect("a link");
    build.check(command, "a.c current/h.h current/x.h");
    symlink("v2", build.at("new")).expect("a link");
    fs::rename(build.at("new"), build.at("current")).expect("it takes the place");
    build.check(command, "a.c current/h.h current/y.h");
    build.write("v2/h.h", "");
    build.check(command, "a.c current/h.h");
}

#[test]
fn directories_that_become_one_are_searched_once() {
    let command = "gcc -nostdinc -Ione -Itwo -c a.c";
    let mut build = Build::new(&[
        ("a.c", "#include <h.h>\n"),
        ("one/h.h", "#if __has_include_next(<h.h>)\n#include_next <h.h>\n#endif\n"),
        ("two/h.h", ""),
    ]);
    build.check(command, "a.c one/h.h two/h.h");
    fs::rename(build.at("two"), build.at("three")).expect("it moves");
    symlink("one", build.at("two")).expect("a link");
    build.check(command, "a.c one/h.h");
}

#[test]
fn another_compiler_in_path_is_asked_anew() {
    let mut build = Build::new(&[("a.c", "#ifdef MARK\n#include \"h.h\"\n#endif\n"), ("h.h", "")]);
    build.write("bin/other", "");
    build.path = format!("{}:/usr/bin:/bin", build.at("bin").display());
    build.check(GCC, "a.c");
    let script = build.at("bin/gcc.new");
    build.write("bin/gcc.new", "#!/bin/sh\nexec /usr/bin/gcc -DMARK \"$@\"\n");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("it is a program");
    fs::rename(&script, build.at("bin/gcc")).expect("it gets its name");
    build.check(GCC, "a.c h.h");
    fs::remove_file(build.at("bin/gcc")).expect("it goes");
    build.check(GCC, "a.c");
}

#[test]
fn directories_of_the_compilers_own_that_appear_later_are_searched() {
    for compiler in ["gcc", "clang-14"] {
        let command = format!("{compiler} --sysroot=rt -c a.c");
        let mut build = Build::new(&[("a.c", "#include <x.h>\n"), ("rt/usr/include/x.h", "")]);
        build.check(&command, "a.c rt/usr/include/x.h");
        build.write("rt/usr/include/x86_64-linux-gnu/x.h", "");
        build.check(&command, "a.c rt/usr/include/x86_64-linux-gnu/x.h");
        build.write("rt/usr/local/include/x.h", "");
        build.check(&command, "a.c rt/usr/local/include/x.h");
        fs::remove_dir_all(build.at("rt/usr/local")).expect("it goes");
        build.check(&command, "a.c rt/usr/include/x86_64-linux-gnu/x.h");
    }
}

#[test]
fn headers_that_gcc_looks_for_of_its_own_accord_are_found_when_they_come() {
    let mut build = Build::new(&[("a.c", ""), ("rt/usr/include/x.h", ""), ("i/x.h", "")]);
    let command = "gcc --sysroot=rt -Ii -c a.c";
    build.check(command, "a.c");
    build.write("rt/usr/include/stdc-predef.h", "");
    build.check(command, "a.c rt/usr/include/stdc-predef.h");
    build.write("i/stdc-predef.h", "");
    build.check(command, "a.c i/stdc-predef.h");
    build.check("gcc -ffreestanding --sysroot=rt -Ii -c a.c", "a.c");
}

#[test]
fn a_directory_behind_an_option_that_names_where_parts_of_gcc_are_is_searched_once_it_is_there() {
    let mut build = Build::new(&[("a.c", "#if __has_include(<x.h>)\n#include <x.h>\n#endif\n")]);
    let command = "gcc -ffreestanding -Bparts -c a.c";
    build.check(command, "a.c");
    build.write("parts/include/x.h", "");
    build.check(command, "a.c parts/include/x.h");
}

#[test]
fn a_newer_gcc_from_which_clang_takes_headers_is_noticed() {
    let mut build = Build::new(&[("a.cc", "#include <x>\n")]);
    let gcc = |build: &Build, version: &str| {
        build.write(&format!("rt/usr/lib/gcc/x86_64-linux-gnu/{version}/crtbegin.o"), "");
        build.write(&format!("rt/usr/include/c++/{version}/x"), "");
    };
    gcc(&build, "11");
    let command = "clang++-14 --sysroot=rt -c a.cc";
    let found = |version: &str| {
        format!("a.cc rt/usr/lib/gcc/x86_64-linux-gnu/{version}/../../../../include/c++/{version}/x")
    };
    build.check(command, &found("11"));
    gcc(&build, "12");
    build.check(command, &found("12"));
    // Its folder alone makes no gcc of it.
    let sign = build.at("rt/usr/lib/gcc/x86_64-linux-gnu/12/crtbegin.o");
    fs::rename(&sign, build.at("crtbegin.o")).expect("it goes");
    build.check(command, &found("11"));
    fs::rename(build.at("crtbegin.o"), &sign).expect("it comes");
    build.check(command, &found("12"));
    fs::remove_dir_all(build.at("rt/usr/lib/gcc/x86_64-linux-gnu/12")).expect("it goes");
    build.check(command, &found("11"));
}

#[test]
fn directories_that_the_environment_names_are_searched_once_they_are_there() {
    let mut build = Build::new(&[("a.c", "#include <x.h>\n"), ("z/x.h", "")]);
    build.more = vec!["C_INCLUDE_PATH=e:z".into()];
    build.check("gcc -ffreestanding -c a.c", "a.c z/x.h");
    build.write("e/x.h", "");
    build.check("gcc -ffreestanding -c a.c", "a.c e/x.h");
    build.check("gcc -ffreestanding -Iq -c a.c", "a.c e/x.h");
}

#[test]
fn a_file_that_appears_where_a_missing_directory_was_named_is_not_taken_for_nothing() {
    for directory in ["nn", "nn/sub"] {
        let mut build = Build::new(&[("a.c", "")]);
        let command = format!("gcc -nostdinc -I{directory} -c a.c");
        build.check(&command, "a.c");
        build.write("nn", "");
        assert!(matches!(build.scan(&command), Err(Declined::Unreadable(_))));
        fs::remove_file(build.at("nn")).expect("it goes");
        build.check(&command, "a.c");
        build.write("nn/x", "");
        build.check(&command, "a.c");
    }
}

#[test]
fn a_header_edited_while_more_happens_than_is_told_is_read_anew() {
    let mut build = Build::new(&[
        ("a.c", "#include \"d/h.h\"\n#include \"n.h\"\n"),
        ("d/h.h", "#include \"1.h\"\n"),
        ("n.h", ""),
        ("d/1.h", ""),
        ("d/2.h", ""),
    ]);
    build.check(GCC, "a.c d/h.h d/1.h n.h");
    let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("the kernel tells");
    let queue: usize = queue.trim().parse().expect("a number");
    for round in 0..queue / 2 + 100 {
        // Two names in turn: the kernel joins equal events. What is told of them says nothing of `d`.
        let name = build.at(if round % 2 == 0 { "a.c" } else { "n.h" });
        fs::File::options()
            .append(true)
            .open(name)
            .and_then(|mut file| file.write_all(b"\n"))
            .expect("a write");
    }
    build.write("d/h.h", "#include \"2.h\"\n");
    build.check(GCC, "a.c d/h.h d/2.h n.h");
}

#[test]
fn effects_of_headers_are_used_and_end_with_what_they_rest_on() {
    let command = "gcc -nostdinc -Ione -Itwo -c a.c";
    let mut build = Build::new(&[
        ("a.c", "#include <h.h>\n#ifdef DONE\n#include <done.h>\n#endif\n"),
        ("one/x", ""),
        ("two/h.h", "#include <i.h>\n#define DONE\n"),
        ("two/i.h", "#if __has_include(<j.h>)\n#include <j.h>\n#endif\n"),
        ("two/done.h", ""),
    ]);
    build.check(command, "a.c two/h.h two/i.h two/done.h");
    build.write("one/j.h", "#define J\n");
    build.check(command, "a.c two/h.h two/i.h one/j.h two/done.h");
    build.write("two/h.h", "#include <i.h>\n");
    build.check(command, "a.c two/h.h two/i.h one/j.h");
    build.write("one/i.h", "");
    build.check(command, "a.c two/h.h one/i.h");
    let used = build.scanners.each_ref().map(|scanner| scanner.report().effects > 0);
    assert!(used[2] && used[3], "{used:?}");
}

#[test]
fn what_is_written_while_scans_run_is_never_mixed_up() {
    let mut build = Build::new(&[("a.c", "#include \"h.h\"\n"), ("1.h", ""), ("2.h", ""), ("h.h", "")]);
    let (stop, path) = (std::sync::atomic::AtomicBool::new(false), build.at(""));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0.. {
                let text = format!("#include \"{}.h\"\n", 1 + round % 2);
                fs::write(path.join("new"), text).expect("a file");
                fs::rename(path.join("new"), path.join("h.h")).expect("it takes the place");
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    return;
                }
            }
        });
        for _ in 0..200 {
            for scanner in &mut build.scanners {
                let argv: Vec<Bytes> = GCC.split(' ').map(Bytes::from).collect();
                let cwd = Bytes::from(path.as_path());
                let found = scanner.scan_command(&argv, &cwd, &[Bytes::from("PATH=/usr/bin:/bin")]);
                let count = found.as_ref().map(|scan| scan.files.len());
                assert!(matches!(count, Ok(2 | 3) | Err(Declined::Changed(_))), "{found:?}");
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    build.write("h.h", "#include \"1.h\"\n");
    build.check(GCC, "a.c h.h 1.h");
}

/// A link that led nowhere was taken for a name that is not there, and only its own folder was watched: the object
/// went on being that of the header further down the path.
#[test]
fn what_comes_to_be_at_the_end_of_a_link_is_found() {
    let command = "gcc -nostdinc -Igen -Iinc -c a.c";
    let mut build =
        Build::new(&[("a.c", "#include \"t.h\"\n#include <u.h>\n"), ("inc/t.h", ""), ("inc/u.h", "")]);
    symlink("later.h", build.at("t.h")).expect("a link");
    symlink("out/gen", build.at("gen")).expect("a link");
    build.check(command, "a.c inc/t.h inc/u.h");
    build.write("later.h", "");
    build.check(command, "a.c t.h inc/u.h");
    build.write("out/gen/u.h", "");
    build.check(command, "a.c t.h gen/u.h");
    fs::remove_file(build.at("later.h")).expect("it goes");
    fs::remove_dir_all(build.at("out")).expect("it goes");
    build.check(command, "a.c inc/t.h inc/u.h");
    build.write("out/gen/u.h", "");
    build.write("later.h", "");
    build.check(command, "a.c t.h gen/u.h");
    // One that leads round is an error, and no name that is not there.
    fs::remove_file(build.at("later.h")).expect("it goes");
    build.check(command, "a.c inc/t.h gen/u.h");
    symlink("t.h", build.at("later.h")).expect("a link");
    assert!(build.scan(command).is_err());
}
