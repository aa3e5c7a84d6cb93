//! What one hermetic job costs a volunteer beyond the compiler's own time.
//!
//! A real daemon compiles one source with 800 headers in 70 folders, again and again, over one link;
//! in turn with it the same command runs here. The daemon's processor time (its own, and that of all
//! it started) less that of the command is what views, boxes, messages and packing cost.
//!
//! `contrib/bench/volunteer` builds what is measured.

#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

#[allow(dead_code, reason = "the tests need more of it")]
#[path = "../tests/it/remote/client.rs"]
mod client;
#[allow(dead_code, reason = "shared with tests")]
#[path = "../tests/it/remote/link.rs"]
mod link;
#[allow(dead_code, reason = "shared with tests")]
#[path = "../tests/it/remote/volunteer.rs"]
mod volunteer;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use client::{Client, Job, View};
use distcc::common::protocol::link::Audit;
use volunteer::Volunteer;

const FOLDERS: usize = 70;
const HEADERS: usize = 800;

fn main() {
    let words = std::env::args().skip(1).filter(|word| word != "--bench");
    let runs: u32 = words.filter_map(|word| word.parse().ok()).next().unwrap_or(50);
    let directory = tempfile::tempdir().unwrap();
    println!("{HEADERS} headers in {FOLDERS} folders, {runs} runs each, CPU and wall in ms per job");
    println!("{:<34} {:>9} {:>9} {:>9} {:>9} {:>7}", "", "daemon", "its jobs", "here", "beyond", "wall");
    for (number, (name, place, sources, list)) in [
        ("headers outside of the cwd", "include", &["main.c"][..], None),
        ("the same, -MMD, not audited", "include", &["main.c"], Some(false)),
        ("the same, -MMD, audited", "include", &["main.c"], Some(true)),
        ("headers beneath the cwd", "build/include", &["main.c"], None),
        ("the same, -MMD, not audited", "build/include", &["main.c"], Some(false)),
        ("the same, -MMD, audited", "build/include", &["main.c"], Some(true)),
        ("a tenth of them new for each job", "include", &["main.c", "other.c"], None),
    ]
    .into_iter()
    .enumerate()
    {
        let root = directory.path().join(number.to_string());
        project(&root, place);
        measure(name, &root.join("build"), &root.join(place), sources, list, runs);
    }
}

/// Two sources that include 800 headers each, a tenth of them not the same ones.
fn project(root: &Path, place: &str) {
    let (mut main, mut other) = (String::new(), String::new());
    fs::create_dir_all(root.join("build")).unwrap();
    for number in 0..HEADERS + HEADERS / 20 {
        let name = format!("d{}/h{number}.h", number % FOLDERS);
        let path = root.join(place).join(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Of one size and time, gcc would open each again to see whether it is another that it had once.
        let text = format!(
            "#pragma once\nstruct s{number} {{ int a, b, c; }};\nint f{number}(struct s{number} *);\n//{:number$}\n",
            ""
        );
        fs::write(path, text).unwrap();
        for (source, numbers) in [(&mut main, 0..HEADERS), (&mut other, HEADERS / 20..HEADERS + HEADERS / 20)]
        {
            if numbers.contains(&number) {
                writeln!(source, "#include \"{name}\"").unwrap();
            }
        }
    }
    for (name, mut source) in [("main.c", main), ("other.c", other)] {
        source.push_str("int main(void) { return 0; }\n");
        fs::write(root.join("build").join(name), source).unwrap();
    }
}

/// With `list`, the compiler lists its own headers alone, and it is audited what it opens, or it is not.
fn measure(name: &str, cwd: &Path, include: &Path, sources: &[&str], list: Option<bool>, runs: u32) {
    let (gcc, option) = ("/usr/bin/gcc", format!("-I{}", include.display()));
    let dependencies = list.map_or("-fno-common", |_| "-MMD");
    let commands: Vec<[&str; 7]> = sources
        .iter()
        .map(|source| [&option[..], dependencies, "-O1", "-c", source, "-o", "main.o"])
        .collect();
    let compiler = View::of_compiler(gcc);
    let views: Vec<View> = commands
        .iter()
        .map(|command| {
            let mut view = compiler.clone();
            view.read_by(gcc, &[&command[..1], &command[2..]].concat(), cwd);
            view
        })
        .collect();
    // One job at a time has one tree.
    let volunteer = Volunteer::start(&[]);
    let mut client = Client::new(volunteer.link());
    let mut jobs: Vec<Job<'_>> =
        commands.iter().zip(&views).map(|(command, view)| Job::new(gcc, command, cwd, view)).collect();
    if list == Some(true) {
        for (job, view) in jobs.iter_mut().zip(&views) {
            let own = view.0.difference(&compiler.0).filter(|entry| entry.kind.file().is_some());
            let headers: Vec<&Path> = own.map(|entry| entry.path.as_path()).collect();
            job.reads = Some(client.opens(view, &headers));
        }
    }
    for number in 0..4 {
        client.run(number, &jobs[number as usize % jobs.len()]).unwrap();
    }
    let before = daemon_cpu(volunteer.daemon.id());
    let (mut here, mut wall) = (0.0, 0.0);
    for number in 0..runs {
        let begin = Instant::now();
        let which = number as usize % jobs.len();
        let answer = client.run(number + 10, &jobs[which]).unwrap();
        assert!(answer.compiled.ended.is_success());
        assert!(list != Some(true) || answer.compiled.audit == Audit::Agrees);
        wall += begin.elapsed().as_secs_f64() * 1e3;
        let children = children_cpu();
        assert!(Command::new(gcc).args(commands[which]).current_dir(cwd).status().unwrap().success());
        here += children_cpu() - children;
    }
    let after = daemon_cpu(volunteer.daemon.id());
    let each = |sum: f64| sum / f64::from(runs);
    let (own, jobs, here) = (each(after.0 - before.0), each(after.1 - before.1), each(here));
    let beyond = own + jobs - here;
    println!("{name:<34} {own:>9.2} {jobs:>9.2} {here:>9.2} {beyond:>9.2} {:>7.1}", each(wall));
}

/// Processor time of a process and of the children that it has reaped, in ms (proc(5)).
fn daemon_cpu(pid: u32) -> (f64, f64) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let tick = 1e3 / rustix::param::clock_ticks_per_second() as f64;
    let sum = |first: usize| {
        fields[first..first + 2].iter().map(|field| field.parse::<f64>().unwrap()).sum::<f64>() * tick
    };
    (sum(11), sum(13))
}

/// Processor time of this process's children so far, in ms.
#[allow(unsafe_code)]
fn children_cpu() -> f64 {
    // SAFETY: an all-zero `rusage` is a valid one, and a live local.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let time = |value: libc::timeval| value.tv_sec as f64 * 1e3 + value.tv_usec as f64 / 1e3;
    time(usage.ru_utime) + time(usage.ru_stime)
}
