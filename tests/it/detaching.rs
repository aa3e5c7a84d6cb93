//! A broker that was detached holds nothing of the build that started it.
//!
//! Copies of this test program play the three parts: who starts, `distcc-broker --detach`, and the
//! broker.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use distcc::broker::start::{StartError, detach_as, ready};

use crate::shim::fake::{PATIENCE, finish};

/// Which part a copy plays.
const PART: &str = "DISTCC_TEST_PART";
/// Where the broker notes what it has.
const NOTES: &str = "DISTCC_TEST_NOTES";

fn part(test: &str, part: &str, notes: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", test]).env(PART, part).env(NOTES, notes);
    command
}

#[test]
fn a_detached_broker_holds_no_pipe_session_or_directory_of_the_build() {
    const TEST: &str = "detaching::a_detached_broker_holds_no_pipe_session_or_directory_of_the_build";
    let notes = std::env::var_os(NOTES).map(PathBuf::from);
    match (std::env::var(PART).as_deref(), notes) {
        (Ok("detach"), Some(notes)) => {
            return detach_as(&mut part(TEST, "broker", &notes)).expect("a broker");
        }
        (Ok("broker"), Some(notes)) => return be_broker(&notes),
        _ => {}
    }
    let directory = tempfile::tempdir().expect("a directory");
    let notes = directory.path().join("notes");
    // Descriptors such as those of make's jobserver, which a build leaves open for its children.
    let starter = part(TEST, "detach", &notes);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec \"$0\" \"$@\" 3>&1 5>&2 7<&0"]).arg(starter.get_program());
    command.args(starter.get_args()).env(PART, "detach").env(NOTES, &notes);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    // Returns when both pipes have been closed by all that held them.
    assert!(finish(command).status.success());
    let text = noted(&notes);
    let mut lines = text.lines();
    let pid: i32 = lines.next().and_then(|pid| pid.parse().ok()).expect("a pid");
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    let alive = rustix::process::test_kill_process(pid);
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("the broker lives");
    assert_eq!(alive, Ok(()));
    assert_ne!(lines.next().expect("a session"), session());
    let rest: Vec<&str> = lines.collect();
    assert_eq!(rest, ["/", "0 /dev/null", "1 /dev/null", "2 /dev/null"]);
}

/// The session of this process; in a container, whose sessions may have begun outside of it, that is "0".
fn session() -> String {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("a process");
    let (_, after_name) = stat.rsplit_once(')').expect("a name in brackets, as proc(5) has it");
    after_name.split_whitespace().nth(3).expect("a session, the sixth field").to_string()
}

/// Notes what this process has, and lives on for a while.
fn be_broker(notes: &Path) {
    ready().expect("a broker that is ready");
    let cwd = std::env::current_dir().expect("a directory");
    let mut lines = vec![std::process::id().to_string(), session(), cwd.display().to_string()];
    let mut descriptors: Vec<String> = std::fs::read_dir("/proc/self/fd")
        .expect("descriptors")
        .flatten()
        .filter_map(|entry| {
            let target = std::fs::read_link(entry.path()).ok()?;
            let listing = target.starts_with("/proc");
            (!listing).then(|| format!("{} {}", entry.file_name().display(), target.display()))
        })
        .collect();
    descriptors.sort();
    lines.extend(descriptors);
    std::fs::write(notes.with_extension("new"), lines.join("\n")).expect("notes");
    std::fs::rename(notes.with_extension("new"), notes).expect("notes");
    std::thread::park_timeout(PATIENCE);
}

/// What the broker has noted, once it has.
fn noted(notes: &Path) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        match std::fs::read_to_string(notes) {
            Ok(text) => return text,
            Err(_) if Instant::now() < end => std::thread::park_timeout(Duration::from_millis(1)),
            Err(error) => panic!("no notes: {error}"),
        }
    }
}

#[test]
fn a_broker_that_ends_before_it_is_ready_is_an_error_with_its_own_words() {
    const TEST: &str = "detaching::a_broker_that_ends_before_it_is_ready_is_an_error_with_its_own_words";
    if std::env::var_os(PART).is_some() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo no room >&2; exit 3"]);
        let error = detach_as(&mut command).expect_err("it ended");
        assert!(matches!(error, StartError::Ended { status } if status.code() == Some(3)), "{error}");
        return;
    }
    let mut command = part(TEST, "detach", Path::new("/nowhere"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = finish(command);
    assert!(output.status.success());
    assert_eq!(output.stderr, b"no room\n");
}
