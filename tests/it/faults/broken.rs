//! Compilers that do on a volunteer what they do not do here, others of the same name, and ones that are
//! replaced while a build runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::farm::{COMMAND_MAX, Farm, Outcome, Running, SHIM, VolunteerOptions, run, wait_until};

/// Stands for the compiler proper: where the client's files are, it becomes the real one; elsewhere it does
/// what `TROUBLE` says.
const FAKE: &str = r#"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <unistd.h>
int main(int argc, char **argv) {
    if (access(HERE, F_OK) == 0) { argv[0] = REAL; execv(REAL, argv); return 127; }
    TROUBLE;
    return 0;
}
"#;

/// A folder with a gcc whose compiler proper may be replaced; where that is.
fn with_own_gcc(farm: &Farm) -> (PathBuf, PathBuf) {
    let folder = farm.work().join("project");
    fs::create_dir(&folder).expect("our own folder");
    fs::write(folder.join("a.c"), "int f(int x) { return x * 7; }\n").expect("our own file");
    let proper = crate::compilers::copy_gcc(&farm.work().join("opt"));
    (folder, proper)
}

/// Makes a program of [`FAKE`] that needs no library.
fn fake(farm: &Farm, trouble: &str, into: &Path) {
    let source = farm.work().join("fake.c");
    fs::write(&source, FAKE).expect("our own file");
    let output = Command::new("gcc").arg("-print-prog-name=cc1").output().expect("gcc answers");
    let real = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let mut command = Command::new("gcc");
    command.arg("-static").arg(&source).arg("-o").arg(into);
    command.arg(format!("-DHERE=\"{}\"", farm.home().display())).arg(format!("-DREAL=\"{real}\""));
    command.arg(format!("-DTROUBLE={trouble}"));
    run(command, COMMAND_MAX).expect_success("a fake compiler");
}

fn play(farm: &Farm, folder: &Path, shim: bool, environment: &[(&str, &str)]) -> (Outcome, Vec<u8>) {
    let gcc = farm.work().join("opt/bin/gcc");
    let mut command = farm.command(if shim { Path::new(SHIM) } else { &gcc });
    if shim {
        command.arg(&gcc);
    }
    command.args(["-O1", "-g", "-MD", "-c", "a.c"]).current_dir(folder).envs(environment.iter().copied());
    let outcome = run(command, COMMAND_MAX);
    let object = fs::read(folder.join("a.o")).unwrap_or_default();
    fs::remove_file(folder.join("a.o")).ok();
    fs::remove_file(folder.join("a.d")).ok();
    (outcome, object)
}

/// With such trouble on the volunteer, the build is as without one.
fn comes_home(trouble: &str, key: &str, environment: &[(&str, &str)]) {
    let farm = Farm::with(&[VolunteerOptions { bare: true, ..VolunteerOptions::default() }]);
    let (folder, proper) = with_own_gcc(&farm);
    fs::remove_file(&proper).expect("it was there");
    fake(&farm, trouble, &proper);
    let here = play(&farm, &folder, false, environment);
    let mut there = play(&farm, &folder, true, environment);
    // distcc's own words are no words of the compiler.
    let told = String::from_utf8_lossy(&there.0.stderr).into_owned();
    there.0.stderr =
        told.lines().filter(|line| !line.starts_with("distcc[")).collect::<String>().into_bytes();
    assert!(here.0.status.success() && !here.1.is_empty(), "{:?}", here.0);
    assert_eq!(
        String::from_utf8_lossy(&there.0.stderr),
        String::from_utf8_lossy(&here.0.stderr),
        "{trouble}"
    );
    assert!(there == here, "{trouble}");
    assert_eq!(farm.local_reason(key), 1, "{trouble}: {}", farm.status());
    assert_eq!(farm.total("sent_files"), 1, "{trouble}: {}", farm.status());
    farm.finish();
}

#[test]
fn a_compiler_that_crashes_there_is_run_here() {
    comes_home("abort()", "remote-diagnostics", &[]);
    comes_home("*(volatile int *)0 = 1", "remote-diagnostics", &[]);
}

#[test]
fn a_compiler_that_the_kernel_ends_there_for_its_memory_is_run_here() {
    comes_home("raise(SIGKILL)", "remote-diagnostics", &[]);
}

#[test]
fn a_compiler_that_gets_no_memory_there_is_run_here() {
    let hungry = "for (size_t n = 0;; n++) { char *p = malloc(64 << 20); \
                  if (!p) { fprintf(stderr, \"cc1: out of memory\\n\"); return 1; } p[0] = 1; }";
    comes_home(hungry, "remote-diagnostics", &[]);
}

#[test]
fn a_compiler_that_never_ends_there_is_ended_and_run_here() {
    // The least that may be asked for; without it, so long as is known not to be a surprise.
    comes_home("for (;;) pause()", "no-volunteer", &[("DISTCC_IO_TIMEOUT", "1")]);
    comes_home("for (;;) {}", "no-volunteer", &[("DISTCC_IO_TIMEOUT", "1")]);
}

#[test]
fn a_compiler_that_makes_nothing_there_is_run_here() {
    // It succeeds, and its assembler is given nothing.
    comes_home("fprintf(stderr, \"strange\\n\"); return 3", "remote-diagnostics", &[]);
}

#[test]
fn another_compiler_of_the_same_name_is_never_used() {
    // The volunteer takes texts, and has a gcc in front of its PATH that is not the client's.
    let setup = "export PATH=\"$DIR/../../other/bin\"";
    let texts = VolunteerOptions { setup: Some(setup), more: &["--sandbox", "off"], ..Default::default() };
    let farm = Farm::with(&[texts]);
    let proper = crate::compilers::copy_gcc(&farm.home().with_file_name("other"));
    let mut bytes = fs::read(&proper).expect("the compiler proper");
    bytes.push(0);
    fs::write(&proper, bytes).expect("changed");
    std::os::unix::fs::symlink("/usr/bin/as", farm.home().with_file_name("other/bin/as")).expect("a link");
    fs::write(farm.work().join("a.c"), "int f(int x) { return x * 7; }\n").expect("our own file");
    run_here(&farm, Path::new("/usr/bin/gcc"), &farm.work(), "here.o");
    farm.shim(["/usr/bin/gcc", "-g", "-c", "a.c"]).expect_success("a compile");
    let read = |name: &str| fs::read(farm.work().join(name)).expect("an object");
    assert!(read("a.o") == read("here.o"));
    let status = farm.status();
    assert_eq!((farm.total("remote"), farm.total("local")), (0, 1), "{status}");
    let told = status["troubles"][0]["what"].as_str().unwrap_or_default().to_owned();
    assert!(told.contains("no such toolchain"), "{status}");
    farm.finish();
}

#[test]
fn a_compiler_that_is_replaced_while_a_build_runs_is_another_from_then_on() {
    let farm = Farm::with(&[VolunteerOptions { bare: true, ..VolunteerOptions::default() }]);
    let (folder, proper) = with_own_gcc(&farm);
    let gcc = farm.work().join("opt/bin/gcc");
    let start = |number: u32| {
        let mut command = farm.command(SHIM);
        command.arg(&gcc).args(["-g", "-c", "a.c", "-o"]).arg(format!("{number}.o")).current_dir(&folder);
        Running::start(command)
    };
    let before = play(&farm, &folder, false, &[]).1;
    // The new one says something else of itself in each object.
    let mut bytes = fs::read(&proper).expect("the compiler proper");
    let output = Command::new("gcc").arg("--version").output().expect("gcc answers").stdout;
    let begin = output.iter().position(|&byte| byte == b'(').expect("a word in parentheses");
    let end = output.iter().position(|&byte| byte == b')').expect("its end");
    let word = &output[begin..=end];
    let marks: Vec<usize> =
        (0..bytes.len() - word.len()).filter(|at| bytes[*at..].starts_with(word)).collect();
    marks.iter().for_each(|at| bytes[at + 1] ^= 0x20);
    let new = proper.with_extension("new");
    fs::write(&new, bytes).expect("written");
    fs::set_permissions(&new, fs::metadata(&proper).expect("there").permissions()).expect("ours");
    let early: Vec<Running> = (0..12).map(start).collect();
    wait_until("some are done", COMMAND_MAX, || farm.total("remote") >= 3);
    fs::rename(&new, &proper).expect("replaced");
    let late: Vec<Running> = (12..24).map(start).collect();
    for shim in early.into_iter().chain(late) {
        shim.finish(COMMAND_MAX).expect_success("a compile");
    }
    let object = |number: u32| fs::read(folder.join(format!("{number}.o"))).expect("an object");
    run_here(&farm, &gcc, &folder, "after.o");
    let after = fs::read(folder.join("after.o")).expect("an object");
    assert!(object(0) != after && !before.is_empty());
    for number in 12..24 {
        assert!(object(number) == after, "{number} is of the old compiler");
    }
    let toolchains = farm.status()["hosts"][0]["toolchains"].as_array().map_or(0, Vec::len);
    assert_eq!(toolchains, 2, "{}", farm.status());
    farm.finish();
}

fn run_here(farm: &Farm, gcc: &Path, folder: &Path, output: &str) {
    let mut command = farm.command(gcc);
    command.args(["-g", "-c", "a.c", "-o", output]).current_dir(folder);
    run(command, COMMAND_MAX).expect_success("a local compile");
}
