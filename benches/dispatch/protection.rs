//! What a job costs with TLS and a box against neither, on both sides.
//!
//! Without TLS the same protocol runs over a pipe, by a stand-in for ssh. A job that travels as files needs a box,
//! so there the way without is missing.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::rig::{Cpu, Rig};
use super::{Workload, measure, programs};

/// What is switched on.
struct Way {
    name: &'static str,
    tls: bool,
    boxes: bool,
}

const WAYS: [Way; 4] = [
    Way { name: "neither", tls: false, boxes: false },
    Way { name: "boxes", tls: false, boxes: true },
    Way { name: "TLS", tls: true, boxes: false },
    Way { name: "both", tls: true, boxes: true },
];

/// Rounds of all ways, in turns, so that a loaded machine is equally loaded for each.
const ROUNDS: usize = 3;

/// Measures and prints.
///
/// # Errors
///
/// Fails when a volunteer does not start, or is not there any more.
pub fn run(temporary: &Path, jobs: usize) -> io::Result<usize> {
    let work = temporary.join("work");
    fs::create_dir_all(&work)?;
    // What asks for the time travels as a text, everything else as files.
    let body = "#include <stdio.h>\nint f(int n) { return printf(\"%d\\n\", n); }\n";
    fs::write(work.join("files.c"), body)?;
    fs::write(work.join("text.c"), format!("{body}const char *when = __TIME__;\n"))?;
    println!(
        "{:<8} {:<10} {:>6} {:>8} {:>10} {:>10} {:>10} {:>10} {:>10}",
        "as", "with", "jobs", "failed", "wall ms", "client ms", "daemon ms", "its jobs", "remote"
    );
    let mut failed = 0;
    for form in ["text", "files"] {
        for round in 0..ROUNDS {
            for way in WAYS.iter().filter(|way| form == "text" || way.boxes) {
                let place = temporary.join(format!("{form}-{}-{round}", way.name));
                failed += one(form, way, &place, &work, jobs)?;
            }
        }
    }
    Ok(failed)
}

fn one(form: &str, way: &Way, place: &Path, work: &Path, jobs: usize) -> io::Result<usize> {
    let path = std::env::var("PATH").unwrap_or_default();
    let more: &[&str] = if way.boxes { &[] } else { &["--sandbox", "off"] };
    let rig = match way.tls {
        true => Rig::ours(&programs(), place, &path, 4, more)?,
        false => Rig::in_the_clear(&programs(), place, &path, 4, more)?,
    };
    let source = work.join(format!("{form}.c"));
    let workload = |jobs| Workload {
        directory: work.to_owned(),
        compiler: "gcc",
        sources: vec![source.clone()],
        arguments: vec!["-O1".to_owned()],
        jobs,
        in_flight: 2,
        outputs: 2,
        warm_up: 4,
    };
    // Starts the volunteer where ssh does, and has the toolchain there.
    measure(&rig, &workload(4))?;
    let daemon = rig.daemon().ok_or_else(|| io::Error::other("there is no daemon"))?;
    let before = Cpu::of(daemon)?;
    let workload = workload(jobs);
    let measured = measure(&rig, &workload)?;
    let used = Cpu::of(daemon)?.since(before);
    // The warm-up counts for the daemon alone.
    let each = |time: Duration, jobs: usize| time.as_secs_f64() * 1000.0 / jobs as f64;
    let (all, done) = (jobs + workload.warm_up, measured.remote.unwrap_or(0));
    let client = measured.clients + measured.broker.map_or(Duration::ZERO, |cpu| cpu.own);
    println!(
        "{form:<8} {:<10} {jobs:>6} {:>8} {:>10.2} {:>10.2} {:>10.2} {:>10.2} {done:>10}",
        way.name,
        measured.failed,
        each(measured.wall, jobs),
        each(client, jobs),
        each(used.own, all),
        each(used.children, all),
    );
    Ok(measured.failed)
}
