//! How many jobs one processor of a client hands out to a farm: compiles that travel as files, and a compiler that
//! sleeps a second and copies an object that was made before ([`ready.c`]).
//!
//! The client has one processor to itself, the volunteer the others. With few of them the volunteer, which really
//! makes a box for each job, is what sets the pace; so beside the rate that was seen stands the rate that the
//! client's CPU time would allow: a thousand milliseconds by what shim and broker took for a job.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::rig::Rig;
use crate::{Measured, Workload, measure, programs};

/// What the compiler sleeps.
const SLEEP_MS: u32 = 1000;

/// The curve.
const SLOTS: [u32; 3] = [64, 256, 1024];

/// The same for each number of slots, so that nothing but that differs.
const JOBS: usize = 3072;

/// Files that they write in turn: as many as are ever written at once.
const OUTPUTS: usize = 1024;

/// One kind of job.
struct Kind {
    name: &'static str,
    compiler: &'static str,
    suffix: &'static str,
    headers: usize,
    /// Of which the object that is handed out is made.
    object_source: fn() -> String,
    arguments: &'static [&'static str],
}

const KINDS: [Kind; 2] = [
    Kind {
        name: "C, 200 headers",
        compiler: "gcc",
        suffix: "c",
        headers: 200,
        object_source: plain_object,
        arguments: &["-O2", "-nostdinc"],
    },
    Kind {
        name: "C++ -g, 500 headers",
        compiler: "g++",
        suffix: "cc",
        headers: 500,
        object_source: large_object,
        arguments: &["-O2", "-g", "-nostdinc", "-nostdinc++"],
    },
];

/// Compiled with `-g`, some 100 kB.
fn plain_object() -> String {
    let function = |at: usize| {
        format!(
            "int f{at}(const char *text, int count)\n{{\n    int sum = {at};\n    for (int i = 0; i < count; i++)\n        \
             sum = sum * 31 + (text[i] ^ {});\n    return sum;\n}}\n",
            at * 7
        )
    };
    (0..210).map(function).collect()
}

/// Compiled with `-g`, some 2.5 MB.
fn large_object() -> String {
    "#include <regex>\nbool matches(const char *t) { return std::regex(t).flags() != 0; }\n".to_owned()
}

fn run(command: &mut Command) -> io::Result<()> {
    match command.status()?.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("{command:?} failed"))),
    }
}

/// The sleeping compiler in `bin`, and sources in `work`; returns the sources, and the object's size.
fn build(kind: &Kind, bin: &Path, work: &Path) -> io::Result<(Vec<PathBuf>, u64)> {
    const SOURCES: usize = 40;
    fs::create_dir_all(bin)?;
    fs::create_dir_all(work)?;
    let (made_of, object) = (bin.join(format!("object.{}", kind.suffix)), bin.join("object.o"));
    fs::write(&made_of, (kind.object_source)())?;
    run(Command::new(kind.compiler).args(["-g", "-O0", "-c"]).arg(&made_of).arg("-o").arg(&object))?;
    fs::write(bin.join("ready.c"), include_str!("ready.c"))?;
    let real = String::from_utf8_lossy(
        &Command::new("sh").args(["-c", &format!("command -v {}", kind.compiler)]).output()?.stdout,
    )
    .trim()
    .to_owned();
    run(Command::new("cc")
        .args(["-O1", "-static", &format!("-DSLEEP_MS={SLEEP_MS}"), &format!("-DREAL=\"{real}\"")])
        .arg(format!("-DREADY=\"{}\"", object.display()))
        .arg("-o")
        .arg(bin.join(kind.compiler))
        .arg(bin.join("ready.c")))?;
    let mut includes = String::new();
    for at in 0..kind.headers {
        let text = format!(
            "#ifndef H{at}_H\n#define H{at}_H\n{}#endif\n",
            format!("extern int v{at};\n").repeat(60)
        );
        fs::write(work.join(format!("h{at}.h")), text)?;
        includes += &format!("#include \"h{at}.h\"\n");
    }
    let mut sources = Vec::new();
    for at in 0..SOURCES {
        let source = work.join(format!("s{at}.{}", kind.suffix));
        fs::write(&source, format!("{includes}int main{at}(void) {{ return v0; }}\n"))?;
        sources.push(source);
    }
    Ok((sources, fs::metadata(&object)?.len()))
}

/// This process and those that it starts from now on, on these processors.
fn pin(processors: impl Iterator<Item = usize>) -> io::Result<()> {
    let mut set = CpuSet::new();
    processors.for_each(|processor| set.set(processor));
    Ok(sched_setaffinity(None, &set)?)
}

/// The client's processor, and the volunteer's; the same where there is one only.
fn processors() -> io::Result<(usize, Vec<usize>)> {
    let all = sched_getaffinity(None)?;
    let all: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|&processor| all.is_set(processor)).collect();
    let (&first, others) = all.split_first().ok_or_else(|| io::Error::other("no processor"))?;
    Ok((first, if others.is_empty() { vec![first] } else { others.to_vec() }))
}

fn heading(kind: &Kind, size: u64) {
    println!("{}, objects of {} kB, the compiler sleeps {SLEEP_MS} ms", kind.name, size / 1000);
    println!(
        "{:>6} {:>6} {:>7} {:>7} {:>8} {:>12} {:>12} {:>28}",
        "slots",
        "jobs",
        "failed",
        "remote",
        "jobs/s",
        "shim ms/job",
        "broker ms",
        "jobs/s that one CPU allows"
    );
}

fn report(slots: u32, workload: &Workload, measured: &Measured) {
    let each = |time: std::time::Duration| time.as_secs_f64() * 1000.0 / workload.jobs as f64;
    let (shim, broker) = (each(measured.clients), measured.broker.map_or(0.0, |cpu| each(cpu.own)));
    println!(
        "{slots:>6} {:>6} {:>7} {:>7} {:>8.0} {shim:>12.2} {broker:>12.2} {:>28.0}",
        workload.jobs,
        measured.failed,
        measured.remote.unwrap_or(0),
        workload.jobs as f64 / measured.wall.as_secs_f64(),
        1000.0 / (shim + broker),
    );
}

/// Prints the curve for each kind of job, or for the one that `compiler` compiles.
///
/// # Errors
///
/// Fails when compiler or volunteer cannot be set up, or when no jobs are `compiler`'s.
pub fn run_all(temporary: &Path, compiler: Option<&str>) -> io::Result<usize> {
    let known = KINDS.map(|kind| kind.compiler);
    if let Some(wanted) = compiler.filter(|wanted| !known.contains(wanted)) {
        return Err(io::Error::other(format!(
            "no jobs of {wanted} here; there are those of {}",
            known.join(", ")
        )));
    }
    let (mine, others) = processors()?;
    let mut failed = 0;
    for kind in KINDS.iter().filter(|kind| compiler.is_none_or(|wanted| wanted == kind.compiler)) {
        let place = temporary.join(kind.compiler);
        let (bin, work) = (place.join("bin"), place.join("work"));
        let (sources, size) = build(kind, &bin, &work)?;
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
        heading(kind, size);
        for slots in SLOTS {
            pin(others.iter().copied())?;
            // A thousand compilers that sleep take no memory, so none is to be kept for them.
            let rig = Rig::ours(
                &programs(),
                &place.join(slots.to_string()),
                &path,
                slots,
                &["--client-memory", "100000000"],
            )?;
            pin([mine].into_iter())?;
            let workload = Workload {
                directory: work.clone(),
                compiler: kind.compiler,
                sources: sources.clone(),
                arguments: kind.arguments.iter().map(|&word| word.to_owned()).collect(),
                jobs: JOBS,
                outputs: OUTPUTS,
                in_flight: slots as usize,
                warm_up: sources.len().min(4),
            };
            let measured = measure(&rig, &workload)?;
            failed += measured.failed;
            report(slots, &workload, &measured);
            let texts = rig.sent_as_texts();
            if !texts.is_empty() {
                println!("{:>6} of them as texts, by reason: {texts}", "");
            }
        }
    }
    Ok(failed)
}
