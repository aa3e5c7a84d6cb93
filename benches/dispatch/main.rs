//! What distcc itself costs: jobs per second, and the client's CPU per job.
//!
//! ```text
//! cargo bench --bench dispatch -- dispatch                        a compiler that only sleeps, texts
//! cargo bench --bench dispatch -- farm                            the same, as files, with up to 1,024 slots
//! cargo bench --bench dispatch -- client-cost DIRECTORY WORD…     gcc WORD… on every C or C++ file there
//! cargo bench --bench dispatch -- handshake                       beginning a link, with TLS and without
//! cargo bench --bench dispatch -- protection [JOBS]               a job with TLS and a box, with one, with neither
//! ```
//!
//! The second measures compiles that travel as files, the same without TLS, then as preprocessed texts, each
//! after a first round that is not measured: compilers and headers are there by then.
//! Shims and broker are counted apart, and the preprocessors, which the broker starts, apart from
//! the broker. Beside it Debian's distcc, where it is installed; its clients preprocess themselves,
//! so their CPU is one number. `DISTCC_BIN` names the directory of the programs to measure.

mod farm;
mod handshake;
mod protection;
mod rig;

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rig::{Cpu, Rig};

/// What is compiled, and how often.
struct Workload {
    directory: PathBuf,
    compiler: &'static str,
    sources: Vec<PathBuf>,
    arguments: Vec<String>,
    jobs: usize,
    in_flight: usize,
    /// Files that they write in turn; no fewer than are in flight.
    outputs: usize,
    /// Jobs that are done before the measured ones.
    warm_up: usize,
}

/// What a run of a workload took.
struct Measured {
    wall: Duration,
    clients: Duration,
    broker: Option<Cpu>,
    remote: Option<u64>,
    failed: usize,
}

/// Runs some of the workload's jobs, so many at once as it has in flight; how many failed.
fn compile_all(rig: &Rig, workload: &Workload, jobs: Range<usize>) -> usize {
    let (next, failed) = (AtomicUsize::new(jobs.start), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..workload.in_flight {
            scope.spawn(|| {
                loop {
                    let job = next.fetch_add(1, Ordering::Relaxed);
                    if job >= jobs.end {
                        break;
                    }
                    if !compile(rig, workload, job).unwrap_or(false) {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    failed.into_inner()
}

/// Runs the workload's jobs, so many at once, and measures.
fn measure(rig: &Rig, workload: &Workload) -> io::Result<Measured> {
    // One job first: it starts the broker, connects, and asks the compiler who it is.
    compile(rig, workload, 0)?;
    compile_all(rig, workload, 1..workload.warm_up);
    let broker = rig.broker();
    let cpu_of = |pid: Option<u32>| pid.map(Cpu::of).transpose();
    let (before, broker_before, remote_before) =
        (Cpu::of(std::process::id())?, cpu_of(broker)?, rig.remote());
    let start = Instant::now();
    let failed = compile_all(rig, workload, 0..workload.jobs);
    let wall = start.elapsed();
    let clients = Cpu::of(std::process::id())?.since(before).children;
    let broker = cpu_of(broker)?.zip(broker_before).map(|(now, then)| now.since(then));
    let remote = rig.remote().zip(remote_before).map(|(now, then)| now - then);
    Ok(Measured { wall, clients, broker, remote, failed })
}

fn compile(rig: &Rig, workload: &Workload, job: usize) -> io::Result<bool> {
    let source = &workload.sources[job % workload.sources.len()];
    let status = rig
        .command()
        .arg(workload.compiler)
        .args(&workload.arguments)
        .arg("-c")
        .arg(source)
        .arg("-o")
        .arg(workload.directory.join(format!("{}.o", job % workload.outputs)))
        .current_dir(&workload.directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    Ok(status.success())
}

fn heading() {
    println!(
        "{:<22} {:>6} {:>8} {:>8} {:>12} {:>12} {:>14} {:>8}",
        "", "jobs", "failed", "jobs/s", "shim ms/job", "broker ms", "preproc. ms", "remote"
    );
}

fn report(name: &str, workload: &Workload, measured: &Measured) {
    let each = |time: Duration| time.as_secs_f64() * 1000.0 / workload.jobs as f64;
    let cell = |time: Option<Duration>| time.map_or("-".to_owned(), |time| format!("{:.2}", each(time)));
    println!(
        "{name:<22} {:>6} {:>8} {:>8.0} {:>12} {:>12} {:>14} {:>8}",
        workload.jobs,
        measured.failed,
        workload.jobs as f64 / measured.wall.as_secs_f64(),
        cell(Some(measured.clients)),
        cell(measured.broker.map(|cpu| cpu.own)),
        cell(measured.broker.map(|cpu| cpu.children)),
        measured.remote.map_or("-".to_owned(), |count| count.to_string()),
    );
    let here = measured.remote.map_or(0, |count| (workload.jobs as u64).saturating_sub(count));
    if here > 0 {
        println!("  ({here} were compiled here: the CPU of those compilers is in the shim's column)");
    }
}

/// The programs to measure: `DISTCC_BIN`, else those that cargo built beside this.
fn programs() -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_distcc")).parent().unwrap_or(Path::new("."));
    std::env::var_os("DISTCC_BIN").map_or(built.to_owned(), PathBuf::from)
}

/// A number of slots, what is special, and words for the volunteer.
type Way = (u32, &'static str, &'static [&'static str]);

/// In the place of words: without TLS.
const IN_THE_CLEAR: &[&str] = &["in the clear"];

/// Measures ours in each way, and stock distcc with the first number of slots, one after the other.
fn run(
    temporary: &Path,
    path: &str,
    ways: &[Way],
    workload_of: &dyn Fn(u32) -> Workload,
) -> io::Result<usize> {
    heading();
    let mut failed = 0;
    for (count, way, more) in ways {
        let place = temporary.join(format!("ours{count}{way}").replace(' ', "-"));
        let rig = match *more == IN_THE_CLEAR {
            true => Rig::in_the_clear(&programs(), &place, path, *count, &[])?,
            false => Rig::ours(&programs(), &place, path, *count, more)?,
        };
        let workload = workload_of(*count);
        let measured = measure(&rig, &workload)?;
        failed += measured.failed;
        report(&format!("distcc, {count} {way}"), &workload, &measured);
    }
    if let Some(rig) = Rig::stock(&temporary.join("stock"), path, ways[0].0) {
        let workload = workload_of(ways[0].0);
        report(&format!("stock distcc, {} slots", ways[0].0), &workload, &measure(&rig, &workload)?);
    }
    Ok(failed)
}

/// A compiler that sleeps 40 ms, and a source of 5 kB.
fn dispatch(temporary: &Path) -> io::Result<usize> {
    const SLEEP_MS: u32 = 40;
    let (bin, work) = (temporary.join("bin"), temporary.join("work"));
    fs::create_dir_all(&bin)?;
    fs::create_dir_all(&work)?;
    fs::write(temporary.join("sleep.c"), include_str!("sleep.c"))?;
    let built = Command::new("cc")
        .args(["-O1", &format!("-DSLEEP_MS={SLEEP_MS}"), "-o"])
        .arg(bin.join("gcc"))
        .arg(temporary.join("sleep.c"))
        .status()?;
    if !built.success() {
        return Err(io::Error::other("cc cannot build the sleeping compiler"));
    }
    fs::write(work.join("a.c"), "extern int a_line_of_forty_characters_x;\n".repeat(120))?;
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    // The volunteer's half runs on the same processors: with its boxes it is what sets the pace here.
    const BARE: &[&str] = &["--sandbox", "off"];
    let ways: [Way; 4] =
        [(16, "no boxes", BARE), (256, "no boxes", BARE), (16, "boxes", &[]), (256, "boxes", &[])];
    run(temporary, &path, &ways, &|slots| Workload {
        directory: work.clone(),
        compiler: "gcc",
        sources: vec![work.join("a.c")],
        arguments: vec!["-O2".to_owned()],
        jobs: if slots > 16 { 6000 } else { 3000 },
        // Twice the slots would measure the queue; the slots themselves measure the path.
        in_flight: slots as usize,
        outputs: slots as usize,
        warm_up: 1,
    })
}

fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|kind| ["c", "cc", "cpp"].iter().any(|known| kind == *known))
}

/// Real compiles of real files: what matters is the client's CPU, not the wall clock.
fn client_cost(temporary: &Path, directory: &Path, arguments: &[String]) -> io::Result<usize> {
    const ROUNDS: usize = 5;
    let entries = fs::read_dir(directory)?.flatten().map(|entry| entry.path());
    let mut sources: Vec<PathBuf> = entries.filter(|path| is_source(path)).collect();
    sources.sort();
    let mut bytes = 0;
    for source in &sources {
        bytes += Command::new("gcc").args(arguments).arg("-E").arg(source).output()?.stdout.len();
    }
    println!("{} files, {} kB preprocessed each", sources.len(), bytes / 1000 / sources.len().max(1));
    let work = temporary.join("work");
    fs::create_dir_all(&work)?;
    let path = std::env::var("PATH").unwrap_or_default();
    // Twice the slots that are used, so that nothing waits, and nothing is compiled here for that.
    let ways: [Way; 3] =
        [(16, "as files", &[]), (16, "no TLS", IN_THE_CLEAR), (16, "as text", &["--sandbox", "off"])];
    run(temporary, &path, &ways, &|_| Workload {
        directory: work.clone(),
        compiler: "gcc",
        sources: sources.clone(),
        arguments: arguments.to_vec(),
        jobs: sources.len() * ROUNDS,
        in_flight: 8,
        outputs: sources.len().max(8),
        warm_up: sources.len(),
    })
}

fn main() -> ExitCode {
    // cargo adds --bench of its own.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let temporary = match tempfile::Builder::new().prefix("distcc-bench-").tempdir() {
        Ok(temporary) => temporary,
        Err(error) => {
            eprintln!("dispatch: no temporary directory: {error}");
            return ExitCode::FAILURE;
        }
    };
    // Stock distccd gives up root, and must find the compiler all the same.
    rustix::fs::chmod(temporary.path(), rustix::fs::Mode::from_raw_mode(0o755)).ok();
    let result = match words.split_first() {
        None => dispatch(temporary.path()),
        Some((mode, [])) if mode == "dispatch" => dispatch(temporary.path()),
        Some((mode, compiler)) if mode == "farm" && compiler.len() < 2 => {
            farm::run_all(temporary.path(), compiler.first().map(String::as_str))
        }
        Some((mode, [])) if mode == "handshake" => {
            let path = std::env::var("PATH").unwrap_or_default();
            let rig = Rig::ours(&programs(), &temporary.path().join("ours"), &path, 4, &[]);
            rig.and_then(|rig| handshake::run(&rig)).map(|()| 0)
        }
        Some((mode, jobs)) if mode == "protection" && jobs.len() < 2 => {
            let jobs = jobs.first().and_then(|jobs| jobs.parse().ok()).unwrap_or(200);
            protection::run(temporary.path(), jobs)
        }
        Some((mode, [directory, arguments @ ..])) if mode == "client-cost" => {
            client_cost(temporary.path(), Path::new(directory), arguments)
        }
        Some(_) => {
            eprintln!(
                "usage: dispatch [dispatch | farm [gcc | g++] | handshake | protection [JOBS] | client-cost DIRECTORY WORD…]"
            );
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("dispatch: {failed} jobs failed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("dispatch: {error}");
            ExitCode::FAILURE
        }
    }
}
