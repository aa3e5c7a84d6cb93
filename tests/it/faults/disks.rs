//! Volunteers whose disks are full, at each point where they may be.

use std::fs;

use crate::farm::{COMMAND_MAX, Farm, Running, SHIM, VolunteerOptions, run};

#[test]
fn wherever_the_bytes_of_a_disk_end_the_build_ends_well() {
    // From less than a toolchain, over a little more than one, to enough.
    end_well(&["size=300k", "size=30m", "size=74m", "size=76m", "size=120m"]);
}

#[test]
fn wherever_the_files_of_a_disk_end_the_build_ends_well() {
    end_well(&["nr_inodes=60", "nr_inodes=110", "nr_inodes=170", "nr_inodes=1000"]);
}

/// Builds with a volunteer whose disk ends there; it may take nothing but the last, which is enough.
fn end_well(ends: &[&str]) {
    let options = ends.iter().map(|end| VolunteerOptions {
        setup: Some(format!("mount -t tmpfs -o {end} tmpfs \"$DIR\"").leak()),
        more: &["--min-free-disk", "0", "--store-size", "1024"],
        ..Default::default()
    });
    let mut remote = 0;
    for (end, options) in ends.iter().zip(options) {
        let farm = Farm::with(&[options]);
        let source =
            "#include <stdio.h>\n#include <stdlib.h>\nint f(int x) { return printf(\"%d\", N + x); }\n";
        fs::write(farm.work().join("a.c"), source).expect("our own file");
        let start = |number: u32| {
            let mut command = farm.command(SHIM);
            let line = format!("gcc -g -O1 -MD -DN={number} -c a.c -o {number}.o");
            command.args(line.split(' '));
            Running::start(command)
        };
        for shim in (0..6).map(start).collect::<Vec<_>>() {
            let outcome = shim.finish(COMMAND_MAX).expect_success("a compile");
            let told = String::from_utf8_lossy(&outcome.stderr).into_owned();
            assert!(told.lines().all(|line| line.starts_with("distcc[")), "{end}: {told}");
        }
        for number in 0..6 {
            let mut command = farm.command("gcc");
            let line = format!("-g -O1 -MD -DN={number} -c a.c -o here.o");
            command.args(line.split(' '));
            run(command, COMMAND_MAX).expect_success("a local compile");
            let read = |name: &str| fs::read(farm.work().join(name)).expect("an object");
            assert!(read(&format!("{number}.o")) == read("here.o"), "{end}: {number}");
        }
        assert_eq!(farm.total("remote") + farm.total("local"), 6, "{end}: {}", farm.status());
        remote = farm.total("remote");
        println!("{end}: {remote} remote");
        farm.finish();
    }
    assert_eq!(remote, 6, "the last is enough");
}

/// The compiler was sent again and again for one job, which took minutes.
#[test]
fn a_store_that_is_too_small_for_a_compiler_is_sent_none_of_it() {
    let small = VolunteerOptions { bare: true, more: &["--store-size", "10"], ..Default::default() };
    let farm = Farm::with(&[small]);
    fs::write(farm.work().join("a.c"), "int a;\n").expect("our own file");
    for _ in 0..2 {
        let mut command = farm.command(SHIM);
        command.args(["gcc", "-c", "a.c"]);
        run(command, COMMAND_MAX).expect_success("a compile");
    }
    let status = farm.status();
    let host = &status["hosts"][0];
    assert_eq!((farm.total("remote"), farm.total("local")), (0, 2), "{status}");
    assert_eq!((&host["state"], &host["refused_toolchains"]), (&"up".into(), &1.into()), "{status}");
    assert!(host["bytes_sent"].as_u64().is_some_and(|bytes| bytes < 100_000), "{status}");
    assert!(status.to_string().contains("its store is too small: one job reads"), "{status}");
    farm.finish();
}
