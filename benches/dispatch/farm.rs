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

/// They divide the outputs, so that one is always made of the same source, as in a build.
const SOURCES: usize = 64;

/// One kind of job.
struct Kind {
    name: &'static str,
    compiler: &'static str,
    suffix: &'static str,
    /// Headers of the project, small ones.
    headers: usize,
    /// What is included of the compiler's own.
    system: &'static [&'static str],
    /// Whether each compile has been seen once before, as in a build that is not the day's first.
    warm: bool,
    /// Of which the object that is handed out is made.
    object_source: fn() -> String,
    arguments: &'static [&'static str],
}

/// All of C++'s library: some 400 headers.
const LIBRARY: &[&str] = &["bits/stdc++.h"];

/// What a program of networks includes of C's library and the system's: some 200 headers.
const C_LIBRARY: &[&str] = &[
    "arpa/inet.h",
    "ctype.h",
    "dirent.h",
    "errno.h",
    "fcntl.h",
    "limits.h",
    "locale.h",
    "math.h",
    "netdb.h",
    "netinet/tcp.h",
    "poll.h",
    "pthread.h",
    "pwd.h",
    "semaphore.h",
    "signal.h",
    "stdio.h",
    "stdlib.h",
    "string.h",
    "sys/epoll.h",
    "sys/mman.h",
    "sys/resource.h",
    "sys/socket.h",
    "sys/stat.h",
    "sys/time.h",
    "sys/un.h",
    "sys/wait.h",
    "termios.h",
    "time.h",
    "unistd.h",
    "wchar.h",
];

const KINDS: [Kind; 5] = [
    Kind {
        name: "C, 200 headers",
        compiler: "gcc",
        suffix: "c",
        headers: 200,
        system: &[],
        warm: false,
        object_source: plain_object,
        arguments: &["-O2", "-nostdinc"],
    },
    Kind {
        name: "C++ -g, 500 headers",
        compiler: "g++",
        suffix: "cc",
        headers: 500,
        system: &[],
        warm: false,
        object_source: large_object,
        arguments: &["-O2", "-g", "-nostdinc", "-nostdinc++"],
    },
    Kind {
        name: "C, the library and 100 headers, seen before",
        compiler: "gcc",
        suffix: "c",
        headers: 100,
        system: C_LIBRARY,
        warm: true,
        object_source: plain_object,
        arguments: &["-O2"],
    },
    Kind {
        name: "C++, the library and 100 headers, seen before",
        compiler: "g++",
        suffix: "cc",
        headers: 100,
        system: LIBRARY,
        warm: true,
        object_source: plain_object,
        arguments: &["-O2"],
    },
    Kind {
        name: "C++ -g, the library and 100 headers, seen before",
        compiler: "g++",
        suffix: "cc",
        headers: 100,
        system: LIBRARY,
        warm: true,
        object_source: large_object,
        arguments: &["-O2", "-g"],
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
    let library: String = kind.system.iter().map(|name| format!("#include <{name}>\n")).collect();
    let listed = if library.is_empty() { library.clone() } else { listed(kind, &library, work)? };
    let mut sources = Vec::new();
    for at in 0..SOURCES {
        let source = work.join(format!("s{at}.{}", kind.suffix));
        let text = format!("{library}{includes}{listed}int main{at}(void) {{ return v0; }}\n");
        fs::write(&source, text)?;
        sources.push(source);
    }
    Ok((sources, fs::metadata(&object)?.len()))
}

/// What the real compiler reads of its own, for [`ready.c`], in lines that are not compiled.
fn listed(kind: &Kind, library: &str, work: &Path) -> io::Result<String> {
    let source = work.join(format!("library.{}", kind.suffix));
    fs::write(&source, library)?;
    let told = Command::new(kind.compiler).args(kind.arguments).arg("-M").arg(&source).output()?;
    let told = String::from_utf8_lossy(&told.stdout);
    let read = told.split_whitespace().filter(|word| word.starts_with('/') && Path::new(word) != source);
    Ok(format!("#if 0\n{}#endif\n", read.map(|path| format!("#include \"{path}\"\n")).collect::<String>()))
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

/// Prints the curve for each kind of job, or for those of a compiler, or with a name in which `wanted` is.
///
/// # Errors
///
/// Fails when compiler or volunteer cannot be set up, or when no jobs are `wanted`.
pub fn run_all(temporary: &Path, wanted: Option<&str>) -> io::Result<usize> {
    let is_wanted =
        |kind: &&Kind| wanted.is_none_or(|wanted| kind.compiler == wanted || kind.name.contains(wanted));
    if !KINDS.iter().any(|kind| is_wanted(&kind)) {
        let names = KINDS.map(|kind| kind.name).join("; ");
        return Err(io::Error::other(format!("no such jobs here; there are those of gcc and g++: {names}")));
    }
    let (mine, others) = processors()?;
    let mut failed = 0;
    for (at, kind) in KINDS.iter().filter(is_wanted).enumerate() {
        let place = temporary.join(at.to_string());
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
                warm_up: if kind.warm { OUTPUTS } else { 4 },
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
