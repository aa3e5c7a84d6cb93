//! A directory of results that is damaged, full, somebody else's, or used by several brokers at once.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use super::{Cached, Line};
use crate::farm::{COMMAND_MAX, Outcome, Running, SHIM, run, signal_pid, wait_until};

/// A project of two files whose results are kept.
fn with_two() -> (Cached, [PathBuf; 2]) {
    let cached = Cached::new();
    for name in ["a", "b"] {
        cached.write(&format!("one/{name}.c"), &format!("const char *{name} = \"{name}{name}{name}\";\n"));
    }
    cached.compile_anew(A);
    let first = cached.results();
    cached.compile_anew(B);
    let second = cached.results().into_iter().find(|path| !first.contains(path)).expect("another");
    let [first] = first.try_into().expect("one result");
    (cached, [first, second])
}

const A: Line<'static> = Line { folder: "one", words: "gcc -c a.c", environment: &[] };
const B: Line<'static> = Line { folder: "one", words: "gcc -c b.c -o a.o", environment: &[] };

#[test]
fn a_result_that_was_poisoned_is_none_and_is_replaced() {
    let (cached, [a, b]) = with_two();
    let whole = fs::read(&a).expect("a result");
    let other = fs::read(&b).expect("another result");
    let aside = cached.path("aside");
    let harms: [(&str, &dyn Fn()); 6] = [
        ("a byte flipped in its middle", &|| {
            let mut bytes = whole.clone();
            bytes[whole.len() / 2] ^= 1;
            fs::write(&a, bytes).expect("written");
        }),
        ("cut in two", &|| fs::write(&a, &whole[..whole.len() / 2]).expect("written")),
        ("empty", &|| fs::write(&a, b"").expect("written")),
        ("the result of another compile", &|| fs::write(&a, &other).expect("written")),
        ("a link to the result of another compile", &|| {
            fs::remove_file(&a).expect("removed");
            symlink(&b, &a).expect("linked");
        }),
        ("a link to what it was", &|| {
            fs::rename(&a, &aside).expect("moved");
            symlink(&aside, &a).expect("linked");
        }),
    ];
    for (what, harm) in harms {
        harm();
        let counts = cached.counts();
        cached.compile(A);
        assert_eq!(cached.counts(), (counts.0 + 1, counts.1), "{what}");
        wait_until("it is replaced", COMMAND_MAX, || {
            fs::symlink_metadata(&a).is_ok_and(|meta| meta.is_file())
                && fs::read(&a).is_ok_and(|now| now.len() > 100)
        });
        cached.compile_again(A);
    }
    cached.compile_again(B);
    cached.farm.finish();
}

/// Compiles through distcc with another setting, and checks that all is as without any cache.
fn compiles_with(cached: &Cached, setting: &Path) {
    for _ in 0..2 {
        let counts = cached.counts();
        let setting = setting.display().to_string();
        cached.compile(A.with(&[("DISTCC_CACHE", &setting)]));
        assert_eq!(cached.counts(), (counts.0 + 1, counts.1), "{setting}");
    }
}

#[test]
fn a_folder_that_cannot_be_used_costs_nothing_but_its_use() {
    let (cached, _) = with_two();
    cached.write("file", "not a folder\n");
    symlink(cached.path("round"), cached.path("round")).expect("our own link");
    compiles_with(&cached, &cached.path("file"));
    compiles_with(&cached, &cached.path("file/below"));
    compiles_with(&cached, &cached.path("round"));
    compiles_with(&cached, Path::new("/proc/1/results"));
    compiles_with(&cached, Path::new("off"));
    // One that holds other things: they stay.
    cached.write("other/ab/cd", "somebody's\n");
    cached.write("other/.new-thing", "somebody's\n");
    let kept = cached.path("other").display().to_string();
    let variables = [("DISTCC_CACHE", kept.as_str())];
    let line = A.with(&variables);
    cached.compile(line);
    let counts = cached.counts();
    wait_until("it is found there", COMMAND_MAX, || {
        cached.compile(line);
        cached.counts().1 > counts.1
    });
    assert_eq!(fs::read(cached.path("other/ab/cd")).expect("it stays"), b"somebody's\n");
    assert!(cached.path("other/.new-thing").exists());
    cached.farm.finish();
}

/// The shim in a mount namespace of its own, after some set-up.
fn in_a_namespace(cached: &Cached, setup: &str, script: &str) -> Outcome {
    let mut command = cached.command("unshare");
    command.arg(if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" });
    command.args(["sh", "-c", &format!("set -e; {setup}; {script}"), "sh", SHIM]);
    // A broker serves the compiles of its own namespace.
    command.current_dir(cached.path("one")).env("DISTCC_DIR", cached.farm.another_home("inner"));
    run(command, COMMAND_MAX).expect_success("a build in a namespace")
}

#[test]
fn a_disk_that_is_full_keeps_nothing_and_harms_nothing() {
    let (cached, _) = with_two();
    let folder = cached.folder.display().to_string();
    let counts =
        "\"$@\" --status=json | grep -o '\"cached\":[0-9]*\\|\"remote\":[0-9]*' | sort; \"$@\" --stop >&2";
    // Too little for anybody, nothing at all, and a folder that cannot be written to.
    for mount in ["-o size=64k", "-o size=4k,nr_inodes=2", "-o ro"] {
        let setup = format!("mount -t tmpfs {mount} none {folder}");
        let script = format!(
            "for n in 1 2 3; do \"$@\" gcc -c a.c; done; cmp a.o a.ref; {counts}; find {folder} -type f ! -name .distcc-written"
        );
        let mut reference = cached.command("gcc");
        reference.args(["-c", "a.c", "-o", "a.ref"]).current_dir(cached.path("one"));
        run(reference, COMMAND_MAX).expect_success("a local compile");
        let outcome = in_a_namespace(&cached, &setup, &script);
        let told = String::from_utf8_lossy(&outcome.stdout).into_owned();
        assert_eq!(told.lines().collect::<Vec<_>>(), ["\"cached\":0", "\"remote\":3"], "{mount}");
        assert_eq!(outcome.stderr, b"the broker finishes what runs and exits\n", "{mount}");
    }
    cached.farm.finish();
}

#[test]
fn two_brokers_share_a_folder() {
    let (cached, _) = with_two();
    let home = cached.farm.another_home("other");
    let other = home.display().to_string();
    let by_other = |line: Line<'static>| cached.play(line.with(&[("DISTCC_DIR", &other)]), Some(SHIM));
    let total = |name: &str| {
        let mut command = cached.command(SHIM);
        command.arg("--status=json").env("DISTCC_DIR", &home);
        let status = run(command, COMMAND_MAX).stdout;
        let status: serde_json::Value = serde_json::from_slice(&status).expect("a broker");
        status["totals"][name].as_u64().expect("a number")
    };
    // What one has kept, the other finds; in both directions.
    assert_eq!(by_other(A).object, cached.compile_again(A).object);
    assert_eq!((total("cached"), total("remote")), (1, 0));
    let kept = cached.kept();
    by_other(Line::new("one", "gcc -O1 -c a.c"));
    wait_until("it is kept", COMMAND_MAX, || cached.kept() > kept);
    cached.compile_again(Line::new("one", "gcc -O1 -c a.c"));
    // Both at once, the same and other compiles.
    let start = |number: u32, home: &Path| {
        let mut command = cached.command(SHIM);
        let words = format!("gcc -DN={} -c b.c -o {number}.o", number / 4);
        command.args(words.split(' ')).current_dir(cached.path("one")).env("DISTCC_DIR", home);
        Running::start(command)
    };
    let homes = [cached.farm.home(), home.clone()];
    let running: Vec<_> = (0..40).map(|number| start(number, &homes[number as usize % 2])).collect();
    running.into_iter().for_each(|shim| drop(shim.finish(COMMAND_MAX).expect_success("a compile")));
    let expected = cached.here(B).object;
    for number in 0..40 {
        let object = fs::read(cached.path(&format!("one/{number}.o"))).expect("an object");
        assert!(object == expected, "{number}");
    }
    let mut stop = cached.command(SHIM);
    stop.arg("--stop").env("DISTCC_DIR", &home);
    run(stop, COMMAND_MAX);
    cached.farm.finish();
}

#[test]
fn a_broker_that_is_killed_while_it_writes_leaves_whole_results_or_none() {
    let (cached, _) = with_two();
    for round in 0..4 {
        let start = |number: u32| {
            let mut command = cached.command(SHIM);
            let words = format!("gcc -g -DN={round} -DM={number} -c b.c -o {number}.o");
            command.args(words.split(' ')).current_dir(cached.path("one"));
            Running::start(command)
        };
        let kept = cached.kept();
        let running: Vec<_> = (0..12).map(start).collect();
        wait_until("one is being kept", COMMAND_MAX, || cached.kept() > kept);
        cached.farm.brokers().into_iter().for_each(|broker| signal_pid(broker, Signal::KILL));
        running.into_iter().for_each(|shim| drop(shim.finish(COMMAND_MAX).expect_success("a compile")));
    }
    cached.compile_again(A);
    // Each that has a name is whole: asked for again, it is found, or was never kept.
    let kept = cached.results().len();
    for round in 0..4 {
        for number in 0..12 {
            let words = format!("gcc -g -DN={round} -DM={number} -c b.c -o a.o");
            cached.compile(Line::new("one", &words));
        }
    }
    let log = fs::read_to_string(cached.farm.home().join("broker.log")).unwrap_or_default();
    assert!(!log.contains("is damaged"), "{log}");
    assert!(cached.counts().1 as usize > 0 && kept > 0, "{}", cached.farm.status());
    cached.farm.finish();
}
