//! What one run of the shim costs, start to exit with a full round trip.
//!
//! A thread plays the broker and answers `Ack` and `Done` at once; the programs named on the
//! command line are run in turn, so that a busy machine is unfair to all of them alike. Beside
//! them runs an empty C program, linked statically: the floor for any process.
//!
//! `contrib/bench/shim-cost` builds the ways to link a shim and measures them all.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use distcc::common::action::Ended;
use distcc::common::bytes::Bytes;
use distcc::common::protocol::io::{local_frame, read_local};
use distcc::common::protocol::local::{Done, Kind};
use distcc::common::protocol::wire::encode;

/// One run.
struct Cost {
    wall: Duration,
    cpu: Duration,
    faults: i64,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let (numbers, programs): (Vec<&String>, Vec<&String>) =
        words.iter().partition(|word| word.parse::<usize>().is_ok());
    let runs = numbers.first().and_then(|number| number.parse().ok()).unwrap_or(1000);
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o700)).expect("a mode");
    play_broker(&directory.path().join("broker.sock"));
    let mut programs: Vec<PathBuf> = programs.iter().map(PathBuf::from).collect();
    if programs.is_empty() {
        programs.push(env!("CARGO_BIN_EXE_distcc").into());
    }
    programs.extend(floor(directory.path()));
    let mut costs: Vec<Vec<Cost>> = programs.iter().map(|_| Vec::new()).collect();
    for _ in 0..runs {
        for (program, costs) in programs.iter().zip(&mut costs) {
            costs.push(run(program, directory.path()));
        }
    }
    println!("{runs} runs each, in turn; wall and user+sys CPU in microseconds; page faults");
    println!(
        "{:>9} {:>9} {:>9} {:>9} {:>7} {:>9}  program",
        "min", "median", "CPU min", "CPU med", "faults", "bytes"
    );
    for (program, costs) in programs.iter().zip(&costs) {
        report(program, costs);
    }
}

/// Answers every request on `socket` at once, as a broker that has nothing else to do.
fn play_broker(socket: &Path) {
    let listener = UnixListener::bind(socket).expect("a socket");
    let done = Done {
        ended: Ended::Exited(0),
        stdout: Bytes::default(),
        stderr: Bytes::default(),
        warning: Bytes::default(),
        host: "nowhere".into(),
    };
    let (ack, done) = (local_frame(Kind::Ack, &[]), local_frame(Kind::Done, &encode(&done)));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            if read_local(&mut stream).is_ok() {
                let _ = stream.write_all(&ack).and_then(|()| stream.write_all(&done));
            }
        }
    });
}

/// An empty C program; none where there is no C compiler that links statically.
fn floor(directory: &Path) -> Option<PathBuf> {
    let program = directory.join("empty-static-C");
    let source = directory.join("empty.c");
    std::fs::write(&source, "int main(void) { return 0; }\n").expect("a source");
    let built = Command::new("cc").args(["-O2", "-static", "-o"]).args([&program, &source]).status();
    built.is_ok_and(|status| status.success()).then_some(program)
}

/// Runs `program` as make would: 40 arguments, 40 variables, output into a pipe's place.
fn run(program: &Path, directory: &Path) -> Cost {
    let mut command = Command::new(program);
    command.arg("gcc").args((0..36).map(|number| format!("-I/usr/src/project/include/{number}")));
    command.args(["-O2", "-c", "a.c"]).env_clear().env("DISTCC_DIR", directory);
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    for number in 0..38 {
        command.env(format!("A_VARIABLE_{number}"), "/of/some/length/as/they/are/in/a/build");
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    #[allow(clippy::zombie_processes, reason = "wait4 below tells more than `Child::wait`")]
    let child = command.spawn().expect("a process");
    let (succeeded, usage) = wait(child.id());
    let wall = start.elapsed();
    assert!(succeeded, "{} failed", program.display());
    let time =
        |time: libc::timeval| Duration::from_micros(time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64);
    Cost { wall, cpu: time(usage.ru_utime) + time(usage.ru_stime), faults: usage.ru_minflt }
}

#[allow(unsafe_code, reason = "no safe wrapper tells what one child has used")]
fn wait(pid: u32) -> (bool, libc::rusage) {
    // SAFETY: both pointers are to values that live here; all zeroes is a valid rusage.
    unsafe {
        let mut usage = std::mem::zeroed();
        let mut status = 0;
        libc::wait4(pid as libc::pid_t, &raw mut status, 0, &raw mut usage);
        (status == 0, usage)
    }
}

fn report(program: &Path, costs: &[Cost]) {
    let bytes = std::fs::metadata(program).map_or(0, |metadata| metadata.len());
    let spread = |mut values: Vec<Duration>| {
        values.sort_unstable();
        (values[0].as_micros(), values[values.len() / 2].as_micros())
    };
    let faults = costs.iter().map(|cost| cost.faults).min().unwrap_or(0);
    let wall = spread(costs.iter().map(|cost| cost.wall).collect());
    let cpu = spread(costs.iter().map(|cost| cost.cpu).collect());
    let name = program.display();
    println!("{:>9} {:>9} {:>9} {:>9} {faults:>7} {bytes:>9}  {name}", wall.0, wall.1, cpu.0, cpu.1);
}
