//! Files that change, rot, cannot be written, or are very large.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::geteuid;

use crate::farm::{COMMAND_MAX, Farm, Running, SHIM, VolunteerOptions, names, run, wait_until};

fn bare() -> Farm {
    Farm::with(&[VolunteerOptions { bare: true, ..VolunteerOptions::default() }])
}

fn write(farm: &Farm, name: &str, text: &str) {
    fs::write(farm.work().join(name), text).expect("our own file");
}

/// Compiles here; the object.
fn here(farm: &Farm, line: &str) -> Vec<u8> {
    play(farm, farm.command(line.split(' ').next().expect("a word")), line, 1)
}

/// Compiles through distcc; the object.
fn there(farm: &Farm, line: &str) -> Vec<u8> {
    play(farm, farm.command(SHIM), line, 0)
}

fn play(farm: &Farm, mut command: Command, line: &str, skipped: usize) -> Vec<u8> {
    command.args(line.split(' ').skip(skipped));
    run(command, COMMAND_MAX).expect_success(line);
    let object = fs::read(farm.work().join("a.o")).expect("an object");
    fs::remove_file(farm.work().join("a.o")).expect("it was there");
    object
}

fn cache(farm: &Farm) -> PathBuf {
    farm.home().with_file_name("cache")
}

#[test]
fn a_header_that_changed_with_size_and_time_kept_is_read_anew() {
    let farm = bare();
    write(&farm, "a.c", "#include \"h.h\"\nint x = X;\n");
    write(&farm, "h.h", "#define X 1\n");
    let line = "gcc -g -c a.c";
    let first = there(&farm, line);
    let path = farm.work().join("h.h");
    let meta = fs::metadata(&path).expect("there");
    // In place, as `cp` over it and `touch -r` do.
    let set_back = |path: &Path| {
        let file = File::options().write(true).open(path).expect("there");
        file.set_modified(meta.modified().expect("a time")).expect("set");
    };
    write(&farm, "h.h", "#define X 2\n");
    set_back(&path);
    let second = there(&farm, line);
    assert!(second != first && second == here(&farm, line));
    // Another file in its place.
    write(&farm, "other.h", "#define X 3\n");
    set_back(&farm.work().join("other.h"));
    fs::rename(farm.work().join("other.h"), &path).expect("renamed");
    let third = there(&farm, line);
    assert!(third != second && third == here(&farm, line));
    assert_eq!(farm.total("local"), 0, "{}", farm.status());
    farm.finish();
}

#[test]
fn a_header_that_changes_during_the_compile_gives_one_of_two_results_and_poisons_none() {
    let farm = bare();
    write(&farm, "a.c", "#include \"h.h\"\nint x = X, y = Y;\n");
    let states = ["#define X 111\n#define Y 111\n", "#define X 222\n#define Y 222\n"];
    let line = "gcc -O1 -c a.c";
    let objects = states.map(|state| {
        write(&farm, "h.h", state);
        here(&farm, line)
    });
    let done = AtomicBool::new(false);
    let (work, flag) = (farm.work(), &done);
    std::thread::scope(|scope| {
        // Written beside and renamed, as editors and generators do: no reader sees a half.
        scope.spawn(move || {
            for round in 0.. {
                if flag.load(Ordering::Acquire) {
                    break;
                }
                fs::write(work.join("new.h"), states[round % 2]).expect("our own file");
                fs::rename(work.join("new.h"), work.join("h.h")).expect("renamed");
                std::thread::yield_now();
            }
        });
        let start = |number: u32| {
            let mut command = farm.command(SHIM);
            command.args(["gcc", "-O1", "-c", "a.c", "-o"]).arg(format!("{number}.o"));
            command.env("DISTCC_CACHE", cache(&farm));
            Running::start(command)
        };
        for round in 0..4 {
            let running: Vec<Running> = (0..12).map(|number| start(round * 12 + number)).collect();
            running.into_iter().for_each(|shim| drop(shim.finish(COMMAND_MAX).expect_success("a compile")));
        }
        done.store(true, Ordering::Release);
    });
    for number in 0..48 {
        let object = fs::read(farm.work().join(format!("{number}.o"))).expect("an object");
        assert!(objects.contains(&object), "{number} is of neither state");
    }
    // What was kept meanwhile is of the state that it is found under.
    for (state, object) in states.iter().zip(&objects) {
        write(&farm, "h.h", state);
        for _ in 0..2 {
            let mut command = farm.command(SHIM);
            command.env("DISTCC_CACHE", cache(&farm));
            assert!(play(&farm, command, line, 0) == *object, "{state}: {}", farm.status());
        }
    }
    farm.finish();
}

/// The files of the store in a volunteer's folder.
fn stored_files(folder: &Path) -> Vec<PathBuf> {
    let is_stored = |path: &PathBuf| {
        let folder = path.parent().and_then(Path::file_name);
        path.is_file() && folder.is_some_and(|name| name.len() == 2)
    };
    let names = crate::scene::snapshot(folder).into_keys();
    names.map(|name| folder.join(name)).filter(is_stored).collect()
}

/// Does something to each file of a store, with its time kept.
fn rot(folder: &Path) {
    let files = stored_files(folder);
    assert!(files.len() > 10, "{files:?}");
    for (at, path) in files.iter().enumerate() {
        let bytes = fs::read(path).expect("a stored file");
        let modified = fs::metadata(path).and_then(|meta| meta.modified()).expect("its time");
        let mode = fs::metadata(path).expect("there").permissions();
        fs::remove_file(path).expect("removed");
        match at % 4 {
            0 => fs::write(path, bytes.iter().map(|byte| byte ^ 1).collect::<Vec<_>>()).expect("written"),
            1 => fs::write(path, &bytes[..bytes.len() / 2]).expect("written"),
            2 => {
                fs::write(path, fs::read(&files[(at + 3) % files.len()]).expect("another")).expect("written");
            }
            _ => std::os::unix::fs::symlink("/etc/passwd", path).expect("linked"),
        }
        if at % 4 < 3 {
            fs::set_permissions(path, mode).expect("set");
            File::open(path).and_then(|file| file.set_modified(modified)).expect("set");
        }
    }
}

#[test]
fn a_store_that_rotted_while_the_daemon_was_away_is_mended() {
    let mut farm = bare();
    write(&farm, "a.c", "#include <stdio.h>\n#include \"h.h\"\nint x = X;\nvoid f(void) { puts(H); }\n");
    write(&farm, "h.h", "#define X 123456\n#define H \"a header of some length\"\n");
    let line = "gcc -g -O1 -c a.c";
    let first = there(&farm, line);
    farm.shim(["--stop"]);
    wait_until("the broker has gone", COMMAND_MAX, || farm.brokers().is_empty());
    farm.restart(0, &VolunteerOptions { bare: true, ..VolunteerOptions::default() }, rot);
    let second = there(&farm, line);
    assert!(second == first && second == here(&farm, line));
    assert_eq!(farm.total("remote") + farm.total("local"), 1, "{}", farm.status());
    assert_eq!(farm.total("remote"), 1, "{}", farm.status());
    farm.finish();
}

/// It was not noticed until the daemon started again, and objects were made of what lay there.
#[test]
fn a_store_that_is_changed_beneath_a_running_daemon_is_mended() {
    let farm = bare();
    write(&farm, "a.c", "#include <stdio.h>\n#include \"h.h\"\nint x = X;\nvoid f(void) { puts(H); }\n");
    write(&farm, "h.h", "#define X 123456\n#define H \"a header of some length\"\n");
    let store = farm.store(0);
    let line = "gcc -g -O1 -c a.c";
    let first = there(&farm, line);
    assert!(first == here(&farm, line));
    for round in 2..5 {
        rot(&store);
        assert!(there(&farm, line) == first, "round {round}");
        assert_eq!(farm.total("remote"), round, "{}", farm.status());
    }
    // One byte of a header, in place: size and time are what they were.
    let text = fs::read(farm.work().join("h.h")).expect("a header");
    let stored =
        stored_files(&store).into_iter().find(|path| fs::read(path).is_ok_and(|bytes| bytes == text));
    let stored = stored.expect("the header is stored");
    let modified = fs::metadata(&stored).and_then(|meta| meta.modified()).expect("its time");
    fs::set_permissions(&stored, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("ours");
    let file = File::options().write(true).open(&stored).expect("ours");
    std::os::unix::fs::FileExt::write_at(&file, b"9", 10).expect("written");
    file.set_modified(modified).expect("set");
    assert!(there(&farm, line) == first);
    assert_eq!(farm.total("remote"), 5, "{}", farm.status());
    farm.finish();
}

#[test]
fn clocks_that_are_a_day_apart_are_no_matter() {
    let ahead = "export LD_PRELOAD=$(faketime -f +1d printenv LD_PRELOAD) FAKETIME=+1d DONT_FAKE_MONOTONIC=1";
    let behind =
        "export LD_PRELOAD=$(faketime -f -1d printenv LD_PRELOAD) FAKETIME=-1d DONT_FAKE_MONOTONIC=1";
    for setup in [ahead, behind] {
        let farm = Farm::with(&[VolunteerOptions { setup: Some(setup), ..VolunteerOptions::default() }]);
        write(&farm, "a.c", "#include \"h.h\"\nint x = X;\n");
        write(&farm, "h.h", "#define X 1\n");
        for value in [1, 2, 3] {
            write(&farm, "h.h", &format!("#define X {value}\n"));
            let line = "gcc -g -MD -c a.c";
            let began = std::time::SystemTime::now() - std::time::Duration::from_secs(2);
            let mut command = farm.command(SHIM);
            command.args(line.split(' '));
            run(command, COMMAND_MAX).expect_success("a compile");
            for name in ["a.o", "a.d"] {
                let modified = fs::metadata(farm.work().join(name)).and_then(|meta| meta.modified());
                let modified = modified.expect("its time");
                assert!(
                    modified >= began && modified <= std::time::SystemTime::now(),
                    "{name}: {modified:?}"
                );
            }
            let object = fs::read(farm.work().join("a.o")).expect("an object");
            assert!(object == here(&farm, line));
        }
        assert_eq!(farm.total("remote"), 3, "{}", farm.status());
        farm.finish();
    }
}

/// A piece of shell in a mount namespace of its own, with the shim as `$1`, in the work directory.
fn in_a_namespace(farm: &Farm, script: &str) -> String {
    let mut command = farm.command("unshare");
    command.arg(if geteuid().is_root() { "-m" } else { "-Urm" });
    command.args(["sh", "-c", script, "sh", SHIM]).env("DISTCC_DIR", farm.another_home("inner"));
    let outcome = run(command, COMMAND_MAX);
    let told = String::from_utf8_lossy(&outcome.stdout).into_owned();
    assert!(outcome.status.success(), "{told}\n{}", String::from_utf8_lossy(&outcome.stderr));
    told
}

#[test]
fn a_disk_that_is_full_where_outputs_go_is_told_as_gcc_tells_it() {
    let farm = bare();
    let table: String = (0..30_000).map(|number| format!("{number},")).collect();
    write(&farm, "a.c", &format!("const int table[] = {{{table}}};\n"));
    write(&farm, "b.c", "int x;\n");
    fs::create_dir(farm.work().join("out")).expect("our own folder");
    // Of a listing only the names count: what a full disk leaves of a file is nobody's object.
    let play = "mount -t tmpfs -o size=SIZE none out; for with in \"\" \"$1\"; do \
        for line in '-c a.c -o out/a.o' '-MD -MF out/a.d -c a.c -o out/a.o' '-S a.c -o out/a.s' '-c b.c -o out/b.o'; do \
        $with gcc $line 2>err; echo \"$? $line\"; sed 's/cc[A-Za-z0-9]*\\.s/TEMPORARY/; /^distcc\\[/d' err; ls out; \
        test -e out/b.o && cmp out/b.o b.ref; rm -f out/*; done; echo ==; done; \
        \"$1\" --status=json | grep -o '\"remote\":[0-9]*'; \"$1\" --stop >&2; rm err";
    run(
        {
            let mut command = farm.command("gcc");
            command.args(["-c", "b.c", "-o", "b.ref"]);
            command
        },
        COMMAND_MAX,
    )
    .expect_success("a local compile");
    for size in ["16k", "64k"] {
        let told = in_a_namespace(&farm, &play.replace("SIZE", size));
        let [local, remote, rest] = told.split("==\n").collect::<Vec<_>>().try_into().expect("three parts");
        assert_eq!(remote, local, "{size} (left: distcc, right: here)");
        assert!(local.contains("No space left on device"), "{local}");
        assert!(local.contains("0 -c b.c"), "{local}");
        // What fits has come from the volunteer.
        assert_eq!(rest, "\"remote\":1\n", "{size}");
    }
    assert_eq!(names(&farm.work()), ["a.c", "b.c", "b.ref", "out"]);
    farm.finish();
}

#[test]
fn who_may_write_small_files_only_gets_what_gcc_makes_of_that() {
    let farm = bare();
    let table: String = (0..30_000).map(|number| format!("{number},")).collect();
    write(&farm, "large.c", &format!("const int table[] = {{{table}}};\n"));
    write(&farm, "small.c", "int x;\n");
    let play = |with: &str, line: &str| {
        let mut command = farm.command("sh");
        command.args(["-c", "ulimit -f 64; ulimit -c 0; \"$@\"; echo $?; ls -l *.o | cut -d' ' -f5", "sh"]);
        command.args(with.split_whitespace().chain(line.split(' ')));
        let outcome = run(command, COMMAND_MAX);
        names(&farm.work()).iter().filter(|name| name.ends_with(".o")).for_each(|name| {
            fs::remove_file(farm.work().join(name)).expect("it was there");
        });
        let said =
            String::from_utf8_lossy(&outcome.stderr).replace(|letter: char| letter.is_ascii_digit(), "");
        // Names of temporary files differ each time.
        let is_the_compilers = |line: &&str| !line.contains("/cc") && !line.starts_with("distcc[");
        let said = said.lines().filter(is_the_compilers).collect::<Vec<_>>().join("\n");
        (String::from_utf8_lossy(&outcome.stdout).into_owned(), said)
    };
    let lines = ["gcc -c large.c", "gcc -pipe -c large.c", "gcc -c small.c"];
    let here = lines.map(|line| play("", line));
    assert_eq!(lines.map(|line| play(SHIM, line)), here);
    // Such a shim starts no broker, which would be limited as it is; one that runs counts it.
    assert_eq!(farm.brokers(), [0_u32; 0]);
    there_as(&farm, "small.c");
    assert_eq!(lines.map(|line| play(SHIM, line)), here);
    assert_eq!((farm.local_reason("file-size-limit"), farm.total("remote")), (3, 1), "{}", farm.status());
    farm.finish();
}

fn there_as(farm: &Farm, source: &str) {
    farm.shim(["gcc", "-c", source, "-o", "x.o"]).expect_success("a compile");
    fs::remove_file(farm.work().join("x.o")).expect("an object");
}

#[test]
fn without_a_place_for_temporary_files_a_compile_is_done_all_the_same() {
    let farm = bare();
    write(&farm, "a.c", "#include <stdio.h>\nint f(void) { return puts(__FILE__); }\n");
    for mount in ["-o ro", "-o size=4k,nr_inodes=1"] {
        let script = format!(
            "gcc -pipe -g -c a.c -o here.o && mount -t tmpfs {mount} none \"$TMPDIR\" && \
             for n in 1 2 3; do \"$1\" gcc -pipe -g -c a.c -o there.o && cmp here.o there.o || exit 1; done; \
             \"$1\" --status=json | grep -o '\"remote\":[0-9]*'; \"$1\" --stop >&2"
        );
        assert_eq!(in_a_namespace(&farm, &script), "\"remote\":3\n", "{mount}");
    }
    farm.finish();
}

#[test]
fn a_source_of_a_hundred_megabytes_takes_little_memory_here() {
    let farm = bare();
    // Comments: what counts is the file, not the time that a compiler would take.
    let line = " /* 0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 9876543210 */\n";
    let text: String = (0..).map(|number| format!("/* {number} */{line}")).take(1_150_000).collect();
    assert!(text.len() > 100_000_000);
    write(&farm, "a.c", &format!("int before;\n{text}int x = __LINE__;\n"));
    let before = here(&farm, "gcc -c a.c");
    assert!(there(&farm, "gcc -c a.c") == before);
    assert_eq!(farm.total("remote") + farm.total("local"), 1);
    let peak = peak_kib(&farm);
    println!("the broker's peak: {peak} KiB");
    // The file twice, while it is scanned, and its packed form.
    assert!(peak < 300_000, "{peak} KiB");
    farm.finish();
}

#[test]
fn a_text_of_a_hundred_megabytes_takes_little_memory_here() {
    let texts = VolunteerOptions { more: &["--sandbox", "off"], ..VolunteerOptions::default() };
    let hermetic = VolunteerOptions { bare: true, ..VolunteerOptions::default() };
    for options in [texts, hermetic] {
        let farm = Farm::with(&[options]);
        let line = "\"0123456789 abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 9876543210\"\n";
        write(&farm, "piece.h", &line.repeat((1 << 20) / line.len()));
        let pieces = "#include \"piece.h\"\n".repeat(100);
        write(&farm, "a.c", &format!("unsigned long size = sizeof\n{pieces};\n"));
        let before = here(&farm, "gcc -c a.c");
        assert!(there(&farm, "gcc -c a.c") == before);
        assert_eq!(farm.total("remote"), 1, "{}", farm.status());
        let peak = peak_kib(&farm);
        println!("the broker's peak: {peak} KiB");
        assert!(peak < 64 << 10, "{peak} KiB");
        farm.finish();
    }
}

/// The most memory that the broker has had, in KiB.
fn peak_kib(farm: &Farm) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", farm.brokers()[0])).expect("it lives");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    peak.trim().trim_end_matches(" kB").parse().expect("a number")
}
