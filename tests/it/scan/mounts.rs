//! Scans on file systems that are mounted for it, in a mount namespace of their own.

use std::fs;
use std::process::Command;

use super::fresh::Build;

const MARK: &str = "DISTCC_TEST_MOUNTS";

/// Runs `inside` in a namespace in which it may mount; root needs no user namespace for that.
#[test]
fn changes_on_overlays_binds_and_beneath_new_mounts_are_seen() {
    let mut command = Command::new("unshare");
    if !rustix::process::getuid().is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["--mount", "--propagation", "private"]);
    command.arg(std::env::current_exe().expect("this program"));
    command.args(["--exact", "scan::mounts::inside", "--ignored", "--nocapture"]).env(MARK, "1");
    let run = command.output().expect("unshare runs");
    let text = [run.stdout, run.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(run.status.success() && text.contains("1 passed"), "{text}");
}

fn run(program: &str, arguments: &[&str]) {
    let run = Command::new(program).args(arguments).output().expect("it runs");
    assert!(run.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&run.stderr));
}

#[test]
#[ignore = "run by the test above"]
fn inside() {
    assert!(std::env::var_os(MARK).is_some(), "it mounts");
    overlays();
    binds_and_new_mounts();
}

fn overlays() {
    let command = "gcc -nostdinc -Imerged -c a.c";
    let mut build =
        Build::new(&[("a.c", "#include <h.h>\n#include <k.h>\n"), ("fs/x", ""), ("merged/x", "")]);
    let at = |build: &Build, name: &str| build.at(name).to_str().expect("a plain name").to_owned();
    run("mount", &["-t", "tmpfs", "none", &at(&build, "fs")]);
    for directory in ["fs/lower", "fs/upper", "fs/work"] {
        fs::create_dir(build.at(directory)).expect("a directory");
    }
    for name in ["1.h", "2.h", "3.h", "k.h"] {
        build.write(&format!("fs/lower/{name}"), "");
    }
    build.write("fs/lower/h.h", "#include <1.h>\n");
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| at(&build, &format!("fs/{name}")));
    let mut options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    if fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !map.contains("4294967295")) {
        options.push_str(",userxattr");
    }
    run("mount", &["-t", "overlay", "overlay", "-o", &options, &at(&build, "merged")]);
    build.check(command, "a.c merged/h.h merged/1.h merged/k.h");
    // Below the layer that is written to, as when an image is unpacked anew.
    build.write("fs/lower/k.h", "#include <3.h>\n");
    build.check(command, "a.c merged/h.h merged/1.h merged/k.h merged/3.h");
    // Through the overlay: the file is copied up.
    build.write("merged/h.h", "#include <2.h>\n");
    build.check(command, "a.c merged/h.h merged/2.h merged/k.h merged/3.h");
    // In the upper layer itself.
    build.write("fs/upper/h.h", "#include <1.h>\n");
    build.check(command, "a.c merged/h.h merged/1.h merged/k.h merged/3.h");
    fs::remove_file(build.at("merged/k.h")).expect("it goes");
    assert!(build.scan(command).is_err());
    build.write("merged/k.h", "");
    build.check(command, "a.c merged/h.h merged/1.h merged/k.h");
    run("umount", &[&at(&build, "merged")]);
    run("umount", &[&at(&build, "fs")]);
}

fn binds_and_new_mounts() {
    let command = "gcc -nostdinc -Iinc -c a.c";
    let files = [("a.c", "#include <h.h>\n"), ("real/h.h", ""), ("real/1.h", ""), ("inc/h.h", "#error\n")];
    let mut build = Build::new(&files);
    let [real, inc] = ["real", "inc"].map(|name| build.at(name).to_str().expect("a plain name").to_owned());
    assert!(build.scan(command).is_err());
    run("mount", &["--bind", &real, &inc]);
    build.check(command, "a.c inc/h.h");
    // Through the other name of the directory.
    build.write("real/h.h", "#include <1.h>\n");
    build.check(command, "a.c inc/h.h inc/1.h");
    run("mount", &["-t", "tmpfs", "none", &inc]);
    assert!(build.scan(command).is_err());
    build.write("inc/h.h", "");
    build.check(command, "a.c inc/h.h");
    run("umount", &[&inc]);
    build.check(command, "a.c inc/h.h inc/1.h");
    run("umount", &[&inc]);
    assert!(build.scan(command).is_err());
}
