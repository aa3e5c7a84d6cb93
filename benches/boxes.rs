//! What it costs to keep a job in: processor time and time of one that does nothing, without walls, behind
//! Landlock and the filter, and in a box, in turn.
//!
//! `contrib/bench/boxes` builds what is measured.

#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use distcc::remote::guard::Guard;
use distcc::remote::process::{Control, Limits, Watch};
use distcc::remote::sandbox::confine::{Confinement, Text};

const LIMITS: Limits = Limits {
    nice: 0,
    file_bytes: 512 << 20,
    memory_bytes: None,
    data_bytes: Some(4 << 30),
    cpu_seconds: Some(3600),
    open_files: Some(1024),
};

fn main() {
    let words = std::env::args().skip(1).filter(|word| word != "--bench");
    let runs: usize = words.filter_map(|word| word.parse().ok()).next().unwrap_or(500);
    let directory = tempfile::tempdir().unwrap();
    let program = nothing(directory.path());
    let jobs = directory.path().join("jobs");
    fs::create_dir(&jobs).unwrap();
    let best = Confinement::probe(&jobs, 512 << 20).unwrap().0;
    let lesser = Confinement::without_boxes(&jobs.join("lesser"), &jobs).unwrap();
    let mut levels =
        [Confinement::Off, lesser, best].map(|confinement| Level { confinement, runs: Vec::new() });
    for _ in 0..runs {
        for level in &mut levels {
            let run = once(&level.confinement, &program, &jobs);
            level.runs.push(run);
        }
    }
    println!("a program that does nothing, {runs} runs in turn, ms");
    println!("{:<44} {:>7} {:>11} {:>11}", "", "CPU", "wall, least", "wall, median");
    for Level { confinement, mut runs } in levels {
        let cpu: Duration = runs.iter().map(|run| run.cpu).sum::<Duration>() / runs.len() as u32;
        runs.sort_by_key(|run| run.wall);
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (least, median) = (ms(runs[0].wall), ms(runs[runs.len() / 2].wall));
        println!("{:<44} {:>7.3} {least:>11.3} {median:>11.3}", confinement.describe(), ms(cpu));
    }
}

struct Level {
    confinement: Confinement,
    runs: Vec<Run>,
}

struct Run {
    cpu: Duration,
    wall: Duration,
}

/// A program that needs no library and does nothing.
fn nothing(directory: &Path) -> PathBuf {
    let (source, program) = (directory.join("nothing.c"), directory.join("nothing"));
    fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let built = Command::new("gcc").args(["-static", "-o"]).arg(&program).arg(source).status().unwrap();
    assert!(built.success());
    program
}

fn once(confinement: &Confinement, program: &Path, jobs: &Path) -> Run {
    let work = jobs.join("1");
    fs::create_dir(&work).unwrap();
    let text = Text {
        program,
        programs: &[],
        arguments: &[],
        environment: &[],
        work: &work,
        inputs: &[],
        cwd: &work,
        limits: &LIMITS,
        group: None,
    };
    let null = || File::options().write(true).open("/dev/null").unwrap();
    let (control, guard) = (Control::default(), Guard::none());
    let deadline = Instant::now() + Duration::from_secs(60);
    let watch = Watch { limits: &LIMITS, groups: None, control: &control, guard: &guard, deadline };
    let (cpu, begun) = (cpu(), Instant::now());
    let finished = watch.over(|_| Ok(confinement.start(&text, null(), null())?.child), None).unwrap();
    let run = Run { wall: begun.elapsed(), cpu: self::cpu() - cpu };
    assert!(finished.ended.is_success());
    fs::remove_dir_all(&work).unwrap();
    run
}

/// Processor time of this process and its children so far.
#[allow(unsafe_code)]
fn cpu() -> Duration {
    let of = |who| {
        // SAFETY: an all-zero `rusage` is a valid one, and a live local.
        let usage = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::getrusage(who, &raw mut usage);
            usage
        };
        let time = |value: libc::timeval| {
            Duration::new(value.tv_sec.unsigned_abs(), value.tv_usec.unsigned_abs() as u32 * 1000)
        };
        time(usage.ru_utime) + time(usage.ru_stime)
    };
    of(libc::RUSAGE_SELF) + of(libc::RUSAGE_CHILDREN)
}
