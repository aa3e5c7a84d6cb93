//! Build systems and ccache: each builds a small project of C and C++ through the shim, in the way
//! that the README tells, and every compile is done by a volunteer.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::farm::{Farm, Outcome, SHIM, run};

/// The longest that one of these builds may take.
const BUILD_MAX: Duration = Duration::from_secs(120);

/// A farm, and a project with one source of each language in its work directory.
fn project() -> Farm {
    let farm = Farm::new(1);
    let write = |name: &str, text: &str| fs::write(farm.work().join(name), text).expect("our own file");
    write("one.c", "int two(int);\nint main(void) { return two(1) - 2; }\n");
    write("two.cc", "#include <vector>\nextern \"C\" int two(int n) { return std::vector<int>(n, 2)[0]; }\n");
    farm
}

/// Runs a tool that must be installed.
fn tool(farm: &Farm, package: &str, program: &str, words: &str, set: &[(&str, String)]) -> Outcome {
    let installed = Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let installed = installed.is_ok_and(|found| found.status.success());
    assert!(installed, "{program} is needed by this test: install Debian's package {package}");
    let mut command = farm.command(program);
    command.args(words.split_whitespace());
    for (name, value) in set {
        command.env(name, value);
    }
    run(command, BUILD_MAX).expect_success(program)
}

/// Both compiles were remote, and the program that was made of them runs.
fn check(farm: Farm, program: &Path) {
    assert_eq!(farm.total("remote"), 2, "{}", farm.status());
    run(farm.command(program), BUILD_MAX).expect_success("the program");
    farm.finish();
}

/// A directory of masquerade links.
fn links(farm: &Farm) -> PathBuf {
    let links = farm.work().join("links");
    let mut command = farm.command(SHIM);
    command.arg("--masquerade").arg(&links);
    run(command, BUILD_MAX).expect_success("--masquerade");
    links
}

fn path_with(farm: &Farm, first: &[&Path]) -> (&'static str, String) {
    let path = std::env::var("PATH").unwrap_or_default();
    let first: Vec<String> = first.iter().map(|path| path.display().to_string()).collect();
    ("PATH", format!("{}:{}:{path}", first.join(":"), farm.bin().display()))
}

const RULES: &str = "all: prog\nprog: one.o two.o\n\t$(CXX) $^ -o $@\n";

#[test]
fn make_with_cc_and_cxx() {
    let farm = project();
    fs::write(farm.work().join("Makefile"), RULES).expect("our own file");
    let set = [("CC", format!("{SHIM} gcc")), ("CXX", format!("{SHIM} g++"))];
    tool(&farm, "make", "make", "-e -j4", &set);
    let program = farm.work().join("prog");
    check(farm, &program);
}

/// Fewer tokens than compiles, a make below a make, and no host that could take any: what runs here
/// takes no token and breaks none.
#[test]
fn make_with_a_jobserver_and_compiles_that_come_home() {
    let farm = project();
    fs::create_dir(farm.work().join("sub")).expect("our own directory");
    let top = "all:\n\t+$(MAKE) -C sub\n";
    fs::write(farm.work().join("Makefile"), top).expect("our own file");
    let mut rules = String::from("all:");
    for number in 0..12 {
        fs::write(farm.work().join(format!("sub/{number}.c")), "int a;\n").expect("our own file");
        rules.push_str(&format!(" {number}.o"));
    }
    fs::write(farm.work().join("sub/Makefile"), rules + "\n").expect("our own file");
    for hosts in [farm.hosts(), "127.0.0.1:1".to_owned()] {
        let set = [("DISTCC_HOSTS", hosts), ("CC", format!("{SHIM} gcc"))];
        let outcome = tool(&farm, "make", "make", "-e -B -j3", &set);
        let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
        assert!(!said.contains("jobserver"), "{said}");
    }
    assert_eq!(farm.total("remote"), 12, "{}", farm.status());
    farm.finish();
}

#[test]
fn masquerade_links_in_front_of_path() {
    let farm = project();
    fs::write(farm.work().join("Makefile"), RULES).expect("our own file");
    let set = [path_with(&farm, &[&links(&farm)])];
    tool(&farm, "make", "make", "-j4", &set);
    let program = farm.work().join("prog");
    check(farm, &program);
}

#[test]
fn cmake_with_a_compiler_launcher_and_ninja() {
    let farm = project();
    let lists = "cmake_minimum_required(VERSION 3.16)\nproject(p C CXX)\nadd_executable(prog one.c two.cc)\n";
    fs::write(farm.work().join("CMakeLists.txt"), lists).expect("our own file");
    let words = format!(
        "-S . -B build -G Ninja -DCMAKE_C_COMPILER_LAUNCHER={SHIM} -DCMAKE_CXX_COMPILER_LAUNCHER={SHIM}"
    );
    tool(&farm, "cmake", "cmake", &words, &[]);
    // What configuring tried is none of the project's compiles.
    let before = farm.total("remote");
    tool(&farm, "ninja-build", "ninja", "-C build", &[]);
    assert_eq!(farm.total("remote") - before, 2, "{}", farm.status());
    run(farm.command(farm.work().join("build/prog")), BUILD_MAX).expect_success("the program");
    farm.finish();
}

#[test]
fn meson_with_cc_and_cxx() {
    let farm = project();
    let build = "project('p', 'c', 'cpp')\nexecutable('prog', 'one.c', 'two.cc')\n";
    fs::write(farm.work().join("meson.build"), build).expect("our own file");
    let set = [("CC", format!("{SHIM} gcc")), ("CXX", format!("{SHIM} g++"))];
    tool(&farm, "meson", "meson", "setup build", &set);
    let before = farm.total("remote");
    tool(&farm, "ninja-build", "ninja", "-C build", &set);
    assert_eq!(farm.total("remote") - before, 2, "{}", farm.status());
    run(farm.command(farm.work().join("build/prog")), BUILD_MAX).expect_success("the program");
    farm.finish();
}

#[test]
fn configure_and_make() {
    let farm = project();
    let write = |name: &str, text: &str| fs::write(farm.work().join(name), text).expect("our own file");
    write(
        "configure.ac",
        "AC_INIT([p],[1])\nAC_PROG_CC\nAC_PROG_CXX\nAC_CHECK_FUNCS([strlcpy])\nAC_CONFIG_FILES([Makefile])\nAC_OUTPUT\n",
    );
    write(
        "Makefile.in",
        &format!("CC = @CC@\nCXX = @CXX@\nCFLAGS = @CFLAGS@\nCXXFLAGS = @CXXFLAGS@\n{RULES}"),
    );
    let set = [("CC", format!("{SHIM} gcc")), ("CXX", format!("{SHIM} g++"))];
    tool(&farm, "autoconf", "autoconf", "", &[]);
    tool(&farm, "bash", "sh", "./configure", &set);
    assert_eq!(farm.total("remote"), 0, "a test of configure left: {}", farm.status());
    tool(&farm, "make", "make", "-j4", &[]);
    let program = farm.work().join("prog");
    check(farm, &program);
}

#[test]
fn ccache_with_distcc_as_its_prefix() {
    let farm = project();
    fs::write(farm.work().join("Makefile"), RULES).expect("our own file");
    let set = [
        ("CCACHE_PREFIX", SHIM.to_owned()),
        ("CCACHE_DIR", farm.work().join("cache").display().to_string()),
        ("CC", "ccache gcc".to_owned()),
        ("CXX", "ccache g++".to_owned()),
    ];
    tool(&farm, "ccache", "ccache", "--version", &[]);
    tool(&farm, "make", "make", "-e -j4", &set);
    assert_eq!(farm.total("remote"), 2, "{}", farm.status());
    tool(&farm, "make", "make", "-e -j4 -B", &set);
    // The second time everything was in the cache.
    let program = farm.work().join("prog");
    check(farm, &program);
}

/// Our links before ccache's: what ccache stands for is compiled elsewhere, as the compiler that it
/// would run.
#[test]
fn links_of_ccache_behind_ours() {
    let farm = project();
    tool(&farm, "ccache", "ccache", "--version", &[]);
    fs::write(farm.work().join("Makefile"), RULES).expect("our own file");
    let ccaches = farm.work().join("ccaches");
    fs::create_dir(&ccaches).expect("our own directory");
    for name in ["cc", "gcc", "g++", "c++"] {
        symlink("/usr/bin/ccache", ccaches.join(name)).expect("a link");
    }
    let set = [
        path_with(&farm, &[&links(&farm), &ccaches]),
        ("CCACHE_DIR", farm.work().join("cache").display().to_string()),
    ];
    tool(&farm, "make", "make", "-j4", &set);
    let program = farm.work().join("prog");
    check(farm, &program);
}
