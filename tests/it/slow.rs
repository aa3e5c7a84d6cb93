//! A volunteer at the end of a thin, long line: 5 Mbit/s up, a tenth of a second there and back.

use std::fs;
use std::time::{Duration, Instant};

use crate::farm::{COMMAND_MAX, Farm, Running, SHIM, VolunteerOptions, run};

pub mod line;
mod shared;

use line::{Kind, Line};

/// A farm whose volunteer has nothing and is reached over such a line; and the list that says so.
fn behind_a_line(kind: Kind) -> (Farm, Line, String) {
    let farm = Farm::with(&[VolunteerOptions { bare: true, ..VolunteerOptions::default() }]);
    let line = Line::to(farm.volunteers[0].port, kind);
    let hosts = format!("127.0.0.1:{}/8", line.port);
    (farm, line, hosts)
}

fn start(farm: &Farm, hosts: &str, words: &str) -> Running {
    let mut command = farm.command(SHIM);
    command.args(words.split(' ')).env("DISTCC_HOSTS", hosts);
    Running::start(command)
}

#[test]
fn a_build_does_not_wait_for_a_compiler_on_its_way() {
    let (farm, line, hosts) = behind_a_line(Kind::HOME);
    fs::write(
        farm.work().join("a.c"),
        "#include <stdio.h>\nint f(int x) { return printf(\"%d\", x + N); }\n",
    )
    .expect("our own file");
    let began = Instant::now();
    for number in 0..24 {
        let mut command = farm.command("gcc");
        command.args(["-O1", "-g", "-c", "a.c", "-o", "here.o"]).arg(format!("-DN={number}"));
        run(command, COMMAND_MAX).expect_success("a local compile");
    }
    let alone = began.elapsed();
    let began = Instant::now();
    let running: Vec<Running> = (0..24)
        .map(|number| start(&farm, &hosts, &format!("gcc -O1 -g -c a.c -o {number}.o -DN={number}")))
        .collect();
    for shim in running {
        let outcome = shim.finish(COMMAND_MAX).expect_success("a compile");
        // That all are compiled here for one reason may be told.
        let told = String::from_utf8_lossy(&outcome.stderr).into_owned();
        assert!(told.lines().all(|line| line.starts_with("distcc[") || line.starts_with("hint:")), "{told}");
    }
    let took = began.elapsed();
    println!("one by one here {alone:?}, with a volunteer far away {took:?}; {} kB up", line.up() / 1000);
    assert!(took < alone + Duration::from_secs(10), "{took:?}, alone {alone:?}: {}", farm.status());
    farm.finish();
}

/// After twenty seconds jobs tried to go as texts, for which there was no compiler either, and stood in line here
/// long after theirs was there: of a build with `-j50`, all.
#[test]
fn jobs_that_cannot_run_here_wait_for_a_compiler_on_its_way() {
    let farm = Farm::with(&[VolunteerOptions { bare: true, ..VolunteerOptions::default() }]);
    // Half a minute for gcc.
    let line = Line::to(farm.volunteers[0].port, Kind { up: 1_000_000, ..Kind::HOME });
    let hosts = format!("127.0.0.1:{}/8", line.port);
    fs::write(farm.work().join("a.c"), "int f(int x) { return x + N; }\n").expect("our own file");
    let jobs: Vec<Running> = (0..3)
        .map(|number| {
            let mut command = farm.command(SHIM);
            let words = format!("gcc -O1 -g -c a.c -o {number}.o -DN={number}");
            command.args(words.split(' ')).env("DISTCC_HOSTS", &hosts).env("DISTCC_FALLBACK", "0");
            Running::start(command)
        })
        .collect();
    let began = Instant::now();
    for job in jobs {
        job.finish(COMMAND_MAX * 2).expect_success("a compile");
    }
    assert_eq!(farm.total("remote"), 3, "{}", farm.status());
    println!("{:?}", began.elapsed());
    farm.finish();
}

/// Eight at a time: of a build that this machine does as fast alone, nothing moves out.
#[test]
fn a_build_goes_on_here_and_moves_out_when_its_compiler_is_there() {
    const AT_ONCE: usize = 8;
    let (farm, line, hosts) = behind_a_line(Kind::HOME);
    let functions = (0..1500).map(|at| format!("int f{at}(int x) {{ return x * {at} + N; }}\n"));
    fs::write(farm.work().join("a.c"), functions.collect::<String>()).expect("our own file");
    let began = Instant::now();
    let (mut slowest, mut count) = (Duration::ZERO, 0);
    // As long as it takes; the bound is the harness's for one command, several times over.
    while farm.total("remote") < 5 {
        assert!(began.elapsed() < COMMAND_MAX * 4, "{}", farm.status());
        let batch = Instant::now();
        let words = |at: usize| format!("gcc -O1 -c a.c -o {at}.o -DN={}", count + at);
        let running: Vec<Running> = (0..AT_ONCE).map(|at| start(&farm, &hosts, &words(at))).collect();
        for shim in running {
            shim.finish(COMMAND_MAX).expect_success("a compile");
        }
        slowest = slowest.max(batch.elapsed());
        count += AT_ONCE;
    }
    let (status, sent) = (farm.status(), line.up() / 1000);
    let (here, elapsed) = (farm.total("local"), began.elapsed());
    println!("{count} compiles in {elapsed:?}, {here} here; the slowest {AT_ONCE} {slowest:?}; {sent} kB up");
    let of = |reason: &str| status["totals"]["local_reasons"][reason].as_u64().unwrap_or(0);
    // Those for which it is there, but far away, may be done here sooner.
    assert_eq!(of("toolchain-underway") + of("sooner"), here, "{status}");
    assert!(of("toolchain-underway") >= 3 && here + farm.total("remote") == count as u64, "{status}");
    assert!(slowest < Duration::from_secs(20), "{slowest:?}");
    farm.finish();
}

/// What a volunteer asks for stood in one line: a header that another job had changed left behind all of a compiler.
#[test]
fn a_changed_header_passes_a_compiler_on_its_way() {
    let (farm, line, hosts) = behind_a_line(Kind::HOME);
    let write = |number: u32| {
        fs::write(farm.work().join("a.h"), format!("enum {{ N = {number} }};\n")).expect("our own file");
    };
    write(0);
    fs::write(farm.work().join("a.c"), "#include \"a.h\"\nint f(void) { return N; }\n")
        .expect("our own file");
    fs::write(farm.work().join("b.c"), "int g;\n").expect("our own file");
    // One compiler over another link, so that only the other travels.
    farm.shim(["gcc", "-O1", "-c", "a.c"]).expect_success("a compile");
    let far = |words: &str| {
        let mut command = farm.command(SHIM);
        command.args(words.split(' ')).env("DISTCC_HOSTS", &hosts).env("DISTCC_FALLBACK", "0");
        Running::start(command)
    };
    far("gcc -O1 -c a.c").finish(COMMAND_MAX).expect_success("a compile");
    let before = line.up();
    let clang = far("clang -O1 -c b.c");
    crate::farm::wait_until("the line is full", COMMAND_MAX, || line.up() > before + 1_000_000);
    let said = farm.shim(["--status"]).expect_success("the status");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("a compiler is on its way there: "), "{said}");
    let mut slowest = Duration::ZERO;
    for number in 1..4 {
        write(number);
        let began = Instant::now();
        far("gcc -O1 -c a.c").finish(COMMAND_MAX).expect_success("a compile");
        slowest = slowest.max(began.elapsed());
    }
    println!("with a changed header within {slowest:?}, {} kB of clang sent", (line.up() - before) / 1000);
    assert_eq!(farm.total("remote"), 5, "{}", farm.status());
    assert!(slowest < Duration::from_secs(6), "{slowest:?}");
    drop(clang);
    farm.finish();
}

#[test]
fn a_warm_job_of_eight_hundred_headers_costs_a_few_kilobytes_up() {
    let farm = Farm::with(&[VolunteerOptions { bare: true, ..VolunteerOptions::default() }]);
    // Bytes are bytes on any line; this one is quick.
    let line = Line::to(farm.volunteers[0].port, Kind { up: 1 << 30, down: 1 << 30, ..Kind::HOME });
    let hosts = format!("127.0.0.1:{}/8", line.port);
    let include = farm.work().join("include/a/folder/of/some/depth");
    fs::create_dir_all(&include).expect("our own folder");
    let mut all = String::new();
    for number in 0..800 {
        let name = format!("header_number_{number}.h");
        fs::write(include.join(&name), format!("#pragma once\nextern int h{number};\n"))
            .expect("our own file");
        all += &format!("#include \"a/folder/of/some/depth/{name}\"\n");
    }
    fs::write(farm.work().join("all.h"), all).expect("our own file");
    let source = |number: u32| format!("#include \"all.h\"\nint f{number}() {{ return h{number}; }}\n");
    let compile = |number: u32| {
        let words = format!("g++ -g -O1 -Iinclude -I. -MD -c f{number}.cc -o f{number}.o");
        start(&farm, &hosts, &words).finish(COMMAND_MAX).expect_success("a compile");
    };
    for number in 0..12 {
        fs::write(farm.work().join(format!("f{number}.cc")), source(number)).expect("our own file");
    }
    // Its compiler first, over another link: that is not what is measured.
    farm.shim("g++ -g -O1 -Iinclude -I. -MD -c f0.cc -o f0.o".split(' ')).expect_success("a compile");
    compile(1);
    // Another source each time, that the volunteer has never seen.
    let before = line.up();
    (2..12).for_each(compile);
    let new = (line.up() - before) / 10;
    // The same again, and after a change in a header.
    let before = line.up();
    (2..12).for_each(compile);
    let again = (line.up() - before) / 10;
    fs::write(include.join("header_number_7.h"), "#pragma once\nextern long h7;\n").expect("our own file");
    let before = line.up();
    compile(7);
    let changed = line.up() - before;
    // Half of the headers, here and there: the worst that a set can be.
    let mut state = 7_u64;
    let mut is_in = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 63 == 0
    };
    let half: String = (0..1600)
        .filter(|_| is_in())
        .map(|number| format!("#include \"a/folder/of/some/depth/header_number_{}.h\"\n", number))
        .collect();
    for number in 800..1600 {
        let name = format!("header_number_{number}.h");
        fs::write(include.join(&name), format!("#pragma once\nextern int h{number};\n"))
            .expect("our own file");
    }
    let every: String = (0..1600)
        .map(|number| format!("#include \"a/folder/of/some/depth/header_number_{number}.h\"\n"))
        .collect();
    fs::write(farm.work().join("f2.cc"), every).expect("our own file");
    fs::write(farm.work().join("f3.cc"), half).expect("our own file");
    compile(2);
    compile(3);
    let before = line.up();
    compile(3);
    let scattered = line.up() - before;
    println!("bytes up: {scattered} of a source seen before, whose headers are every other of 1600");
    assert!(scattered < 6000, "{scattered}");
    println!("bytes up: {new} of a new source, {again} of one seen before, {changed} with a changed header");
    assert_eq!(farm.total("remote"), 26, "{}", farm.status());
    assert!(new < 6000 && again < 6000 && changed < 7000, "{new} {again} {changed}");
    farm.finish();
}

#[test]
fn a_full_line_stays_up_and_small_answers_pass_large_files() {
    let (farm, line, hosts) = behind_a_line(Kind { up: 1_200_000, ..Kind::HOME });
    // Its compiler first, over another link, so that what is measured is files.
    fs::write(farm.work().join("small.c"), "int small = N;\n").expect("our own file");
    farm.shim(["gcc", "-O1", "-c", "small.c", "-DN=0"]).expect_success("a compile");
    // Nothing that compression could shorten: 12 MB, which take the line 8 seconds and more.
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    for large in 0..3 {
        let bytes: Vec<u8> = (0..4 << 20).map(|_| noise()).collect();
        fs::write(farm.work().join(format!("{large}.bin")), bytes).expect("our own file");
        let text =
            format!("__asm__(\".section .rodata\\n.incbin \\\"{large}.bin\\\"\\n.text\");\nint x{large};\n");
        fs::write(farm.work().join(format!("large{large}.c")), text).expect("our own file");
    }
    start(&farm, &hosts, "gcc -O1 -c small.c -DN=1 -o first.o")
        .finish(COMMAND_MAX)
        .expect_success("a compile");
    let began = Instant::now();
    let large: Vec<Running> = (0..3)
        .map(|number| start(&farm, &hosts, &format!("gcc -O1 -c large{number}.c -o large{number}.o")))
        .collect();
    let before = line.up();
    crate::farm::wait_until("the line is full", COMMAND_MAX, || line.up() > before + 1_000_000);
    let mut slowest = Duration::ZERO;
    for number in 2..6 {
        let began = Instant::now();
        let words = format!("gcc -O1 -c small.c -DN={number} -o small.o");
        start(&farm, &hosts, &words).finish(COMMAND_MAX).expect_success("a compile");
        slowest = slowest.max(began.elapsed());
    }
    let full = line.up();
    for shim in large {
        shim.finish(COMMAND_MAX).expect_success("a large compile");
    }
    println!("{} kB were left", (line.up() - full) / 1000);
    println!("small answers within {slowest:?} beside large files; all in {:?}", began.elapsed());
    assert!(line.up() > full + 500_000, "the line was not full to the end");
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    let status = farm.status();
    assert_eq!(farm.total("remote"), 9, "{status}");
    assert!(!status["troubles"].to_string().contains("sent nothing"), "{status}");
    farm.finish();
}
