//! Whatever happens to volunteers, broker or network during `make -j16`: the build ends well, with
//! the objects of a local build, and nothing is left behind.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::farm::{Farm, Outcome, Running, SHIM, VolunteerOptions, names, signal_pid, wait_until};

mod broken;
mod disks;
mod files;
mod odd;
mod options;
mod removed;
mod scarce;

/// Files of the project. Sixteen jobs at once are several rounds of it.
const FILES: u32 = 60;

/// How many files must be done before a fault strikes, so that it strikes in the middle.
const EARLY: u64 = 6;

/// The longest that a build may take. Alone it takes seconds, and a dead peer may cost ten more; a
/// machine that has other things to do may take ten times as long.
const BUILD_MAX: Duration = Duration::from_secs(240);

/// Writes the project: enough work per file that a fault finds jobs in every phase.
fn lay_out(directory: &Path) {
    fs::create_dir_all(directory).expect("our own directory");
    let header = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#define SIZE 64\n";
    fs::write(directory.join("common.h"), header).expect("our own file");
    for file in 0..FILES {
        let mut text = String::from("#include \"common.h\"\n");
        for function in 0..12 {
            text += &format!(
                "int f{file}_{function}(const char *s, int *out)\n{{\n    int sum = {function}, table[SIZE];\n\
                 \x20   for (int i = 0; i < SIZE; i++) table[i] = s[i % 7] * (i + {file});\n\
                 \x20   for (int i = 1; i < SIZE; i++) {{ sum += table[i] ^ table[i - 1]; out[i] = sum % (i + {function} + 1); }}\n\
                 \x20   if (sum > 100) printf(\"%d %s\\n\", sum, s);\n    return sum + (int)strlen(s) + atoi(s);\n}}\n"
            );
        }
        fs::write(directory.join(format!("f{file:02}.c")), text).expect("our own file");
    }
    let rules = "OBJECTS := $(patsubst %.c,%.o,$(wildcard *.c))\nall: $(OBJECTS)\n%.o: %.c common.h\n\
                 \t$(LAUNCHER) gcc -O2 -c $< -o $@\n";
    fs::write(directory.join("Makefile"), rules).expect("our own file");
}

/// The objects in a directory.
fn objects(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = names(directory).into_iter().filter(|name| name.ends_with(".o"));
    names.map(|name| (name.clone(), fs::read(directory.join(&name)).expect("our own file"))).collect()
}

/// What a local build gives; built once for all tests.
fn reference() -> &'static BTreeMap<String, Vec<u8>> {
    static REFERENCE: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        let directory = tempfile::tempdir().expect("a temporary directory");
        lay_out(directory.path());
        let mut command = Command::new("make");
        command.args(["-s", "-j2", "LAUNCHER="]).current_dir(directory.path());
        crate::farm::run(command, BUILD_MAX).expect_success("the local build");
        objects(directory.path())
    })
}

/// The project in a farm, and the build of it.
struct Build {
    directory: PathBuf,
    make: Running,
}

impl Build {
    fn start(farm: &Farm, jobs: u32) -> Build {
        Build::start_with(farm, jobs, "exec \"$@\"")
    }

    /// Starts make by a piece of shell that ends in `exec "$@"`.
    fn start_with(farm: &Farm, jobs: u32, shell: &str) -> Build {
        let expected = reference();
        assert_eq!(expected.len(), FILES as usize);
        let directory = farm.work().join("project");
        lay_out(&directory);
        let mut command = farm.command("sh");
        command.args(["-c", shell, "sh", "make", "-s"]).arg(format!("-j{jobs}"));
        command.arg(format!("LAUNCHER={SHIM}")).current_dir(&directory).process_group(0);
        Build { directory, make: Running::start(command) }
    }

    /// Waits until the build is well under way, and makes sure that it is not nearly over.
    fn reach_the_middle(&self, farm: &Farm) {
        let mut done = 0;
        wait_until("some files are done remotely", BUILD_MAX, || {
            done = farm.total("remote");
            done >= EARLY
        });
        assert!(done < u64::from(FILES) - 16, "the build is too quick for this test: {done} files done");
    }

    /// Waits for its end and checks everything that it made.
    fn expect_good(self, farm: &Farm) -> Outcome {
        let outcome = self.make.finish(BUILD_MAX).expect_success("make");
        check_files(&self.directory);
        assert_eq!(objects(&self.directory).len(), FILES as usize);
        farm.settle();
        outcome
    }
}

/// Every object there is equals the local one, and nothing else was left beside the sources.
fn check_files(directory: &Path) {
    for (name, bytes) in objects(directory) {
        assert!(reference()[&name] == bytes, "{name} differs from the local one ({} bytes)", bytes.len());
    }
    let known = |name: &String| {
        name == "Makefile" || name.ends_with(".h") || name.ends_with(".c") || name.ends_with(".o")
    };
    let strange: Vec<String> = names(directory).into_iter().filter(|name| !known(name)).collect();
    assert_eq!(strange, [""; 0], "left beside the sources");
}

/// Builds on so many volunteers, lets `fault` strike in the middle, and checks that all is well.
fn survives(volunteers: usize, fault: impl FnOnce(&mut Farm)) -> (Farm, Outcome) {
    let mut farm = Farm::new(volunteers);
    let build = Build::start(&farm, 16);
    build.reach_the_middle(&farm);
    fault(&mut farm);
    let outcome = build.expect_good(&farm);
    (farm, outcome)
}

#[test]
fn a_build_without_any_fault_is_remote_and_silent() {
    let farm = Farm::new(2);
    let outcome = Build::start(&farm, 16).expect_good(&farm);
    assert_eq!((outcome.stdout, outcome.stderr), (Vec::new(), Vec::new()));
    let (remote, status) = (farm.total("remote"), farm.status());
    assert!(remote * 100 >= u64::from(FILES) * 95, "only {remote} of {FILES} were remote: {status}");
    farm.finish();
}

#[test]
fn one_volunteer_is_killed() {
    let (farm, _) = survives(2, |farm| farm.volunteers[0].signal(Signal::KILL));
    let local = farm.local_reason("no-volunteer");
    assert!(local <= 2, "the other volunteer should have taken its jobs: {}", farm.status());
    farm.finish();
}

#[test]
fn all_volunteers_are_killed() {
    let (farm, _) = survives(2, |farm| {
        for volunteer in &mut farm.volunteers {
            volunteer.signal(Signal::KILL);
        }
    });
    farm.finish();
}

#[test]
fn all_volunteers_end_as_they_are_told() {
    let (farm, _) = survives(2, |farm| {
        for volunteer in &mut farm.volunteers {
            volunteer.signal(Signal::TERM);
        }
    });
    farm.finish();
}

#[test]
fn the_broker_is_killed() {
    let (farm, _) = survives(2, |farm| {
        for broker in farm.brokers() {
            signal_pid(broker, Signal::KILL);
        }
    });
    assert!(farm.brokers().len() <= 1, "{:?}", farm.processes());
    farm.finish();
}

#[test]
fn the_broker_is_told_to_drain() {
    let mut drained = Vec::new();
    let (farm, outcome) = survives(2, |farm| {
        drained = farm.brokers();
        for broker in &drained {
            signal_pid(*broker, Signal::TERM);
        }
    });
    assert_eq!(outcome.stderr, b"", "draining is no news: {}", String::from_utf8_lossy(&outcome.stderr));
    wait_until("the old broker has gone", BUILD_MAX, || {
        farm.brokers().iter().all(|pid| !drained.contains(pid))
    });
    farm.finish();
}

#[test]
fn the_broker_is_stopped() {
    let mut stopped = Vec::new();
    let (farm, _) = survives(2, |farm| {
        stopped = farm.brokers();
        for broker in &stopped {
            signal_pid(*broker, Signal::STOP);
        }
    });
    for broker in stopped {
        signal_pid(broker, Signal::CONT);
    }
    farm.finish();
}

#[test]
fn a_volunteer_is_stopped() {
    let (mut farm, _) = survives(2, |farm| farm.volunteers[0].signal(Signal::STOP));
    farm.volunteers[0].signal(Signal::CONT);
    farm.finish();
}

/// Too small for a job's files, large enough for the daemon's own.
const TINY_DISK: &str = "mount -t tmpfs -o size=64k tmpfs \"$DIR\"";

#[test]
fn a_volunteer_with_a_full_disk() {
    let full = VolunteerOptions { setup: Some(TINY_DISK), ..Default::default() };
    let farm = Farm::with(&[full, VolunteerOptions::default()]);
    Build::start(&farm, 16).expect_good(&farm);
    farm.finish();
}

#[test]
fn a_volunteer_whose_disk_fills_while_jobs_run() {
    let full =
        VolunteerOptions { setup: Some(TINY_DISK), more: &["--min-free-disk", "0"], ..Default::default() };
    let farm = Farm::with(&[full, VolunteerOptions::default()]);
    Build::start(&farm, 16).expect_good(&farm);
    farm.finish();
}

#[test]
fn a_volunteer_with_few_descriptors() {
    let few = VolunteerOptions { setup: Some("ulimit -n 32"), ..Default::default() };
    let farm = Farm::with(&[few, VolunteerOptions::default()]);
    Build::start(&farm, 16).expect_good(&farm);
    farm.finish();
}

#[test]
fn few_descriptors_for_the_whole_build() {
    let farm = Farm::new(2);
    Build::start_with(&farm, 64, "ulimit -n 256; exec \"$@\"").expect_good(&farm);
    assert_eq!(farm.brokers().len(), 1);
    farm.finish();
}

/// What a stranger on a volunteer's port does with a connection.
#[derive(Clone, Copy, Debug)]
enum Manners {
    /// Sends bytes that mean nothing.
    Garbage,
    /// Answers as a web server would.
    Http,
    /// Accepts, reads, and never says a word.
    Silent,
    /// Hangs up at once.
    HangsUp,
}

/// A listener with such manners, until it is dropped.
struct Stranger {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Stranger {
    fn start(manners: Manners) -> Stranger {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let port = listener.local_addr().expect("it is bound").port();
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            // Kept open until the end, so that silence is silence.
            let mut open = Vec::new();
            while let Ok((stream, _)) = listener.accept() {
                if seen.load(Ordering::Acquire) {
                    break;
                }
                open.extend(meet(stream, manners));
            }
        });
        Stranger { port, stop, thread: Some(thread) }
    }
}

fn meet(mut stream: TcpStream, manners: Manners) -> Option<TcpStream> {
    stream.set_read_timeout(Some(Duration::from_millis(100))).ok();
    let mut bytes = [0; 4096];
    match manners {
        Manners::HangsUp => return None,
        Manners::Silent => {}
        Manners::Http => stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").ok()?,
        Manners::Garbage => {
            let mut state = 0x9e37_79b9_7f4a_7c15_u64;
            for byte in &mut bytes {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = state.to_be_bytes()[0];
            }
            stream.write_all(&bytes).ok()?;
        }
    }
    // What the other side says first, or nothing for a while; it does not matter.
    let _ = stream.read(&mut bytes);
    Some(stream)
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        TcpStream::connect(("127.0.0.1", self.port)).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

#[test]
fn strangers_on_the_volunteers_ports() {
    let strangers = [Manners::Garbage, Manners::Http, Manners::Silent, Manners::HangsUp].map(Stranger::start);
    let mut farm = Farm::new(1);
    farm.more_hosts = strangers.iter().map(|stranger| format!("127.0.0.1:{}/8", stranger.port)).collect();
    Build::start(&farm, 16).expect_good(&farm);
    assert!(farm.total("remote") > 0, "the one good volunteer was not used: {}", farm.status());
    farm.finish();
}

#[test]
fn only_strangers_and_nobody_at_home() {
    let stranger = Stranger::start(Manners::Garbage);
    let mut farm = Farm::new(0);
    // Port 1 on loopback refuses at once.
    farm.more_hosts = vec![format!("127.0.0.1:{}/8", stranger.port), "127.0.0.1:1".to_owned()];
    Build::start(&farm, 16).expect_good(&farm);
    assert_eq!(farm.total("remote"), 0);
    farm.finish();
}

#[test]
fn an_interrupted_build_stops_everywhere_within_a_second() {
    let farm = Farm::new(2);
    let build = Build::start(&farm, 16);
    build.reach_the_middle(&farm);
    let group = Pid::from_raw(i32::try_from(build.make.pid()).expect("a process id"));
    kill_process_group(group.expect("a process id"), Signal::INT).expect("make is alive");
    let start = Instant::now();
    let outcome = build.make.finish(BUILD_MAX);
    assert!(!outcome.status.success());
    wait_until("no compiler runs any more", Duration::from_secs(1), || farm.workers().is_empty());
    println!("at rest {:?} after the signal", start.elapsed());
    check_files(&build.directory);
    // The broker is in good order: the build can go on at once.
    Build::start(&farm, 16).expect_good(&farm);
    farm.finish();
}

#[test]
fn three_hundred_shims_at_once_start_one_broker() {
    const SHIMS: u64 = 300;
    let farm = Farm::new(1);
    fs::write(farm.work().join("a.c"), "int x;\n").expect("our own file");
    let start = |number| {
        let mut command = farm.command(SHIM);
        command.args(["gcc", "-c", "a.c", "-o"]).arg(format!("{number}.o"));
        Running::start(command)
    };
    let running: Vec<Running> = (0..SHIMS).map(start).collect();
    for shim in running {
        let outcome = shim.finish(BUILD_MAX).expect_success("a compile");
        assert_eq!(outcome.stderr, b"", "{}", String::from_utf8_lossy(&outcome.stderr));
    }
    assert_eq!(farm.brokers().len(), 1, "{:?}", farm.processes());
    let answered = farm.total("remote") + farm.total("local");
    assert_eq!(answered, SHIMS, "one broker answered all: {}", farm.status());
    let distinct: std::collections::BTreeSet<Vec<u8>> = objects(&farm.work()).into_values().collect();
    assert_eq!((objects(&farm.work()).len() as u64, distinct.len()), (SHIMS, 1));
    farm.finish();
}
