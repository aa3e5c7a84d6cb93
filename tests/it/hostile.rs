//! Clients that are let in and mean harm, by a compiler of their own, by options, by sources ([`client`]);
//! and volunteers that mean harm ([`volunteer`]).
//!
//! Each attack of a client runs as every kind of job (files, a text, a text of distcc 3.4), as a daemon that stays root and as one that does not (as an
//! ordinary user, both are ordinary). It must be refused, and then the same daemon must still do an
//! honest job.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod client;
mod endings;
mod groups;
mod nasty;
mod volunteer;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use distcc::common::action::Ended;
use distcc::common::protocol::link::{OPENING, Refusal, ToBroker, ToVolunteer, VERSION};

use crate::remote::client::{Client, Job, View};
use crate::remote::volunteer::{Volunteer, toolchain_of, wait_for};

/// The program of `attacker.c`, which needs nothing but itself.
pub fn attacker() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let folder = tempfile::Builder::new().prefix("attacker-").tempdir().unwrap().keep();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/hostile/attacker.c");
        let program = folder.join("attacker");
        let mut build = Command::new("gcc");
        build.args(["-static", "-O1", "-w", "-o"]).arg(&program).arg(source);
        assert!(build.status().unwrap().success());
        fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        program
    })
}

/// How an attack went.
#[derive(Debug)]
pub struct Attacked {
    pub ended: Result<Ended, Refusal>,
    pub said: String,
    /// What of outputs came back.
    pub outputs: Vec<Vec<u8>>,
}

impl Attacked {
    /// The attacker says that it got nowhere.
    pub fn assert_refused(&self) {
        assert!(matches!(self.ended, Ok(Ended::Exited(3))), "{} {self:?}", self.said);
    }
}

/// A hermetic job whose compiler is the attacker.
pub fn attack_as_files(volunteer: &Volunteer, words: &[&str]) -> Attacked {
    let project = tempfile::tempdir().unwrap();
    let mut view = View::default();
    view.path(attacker()).path(project.path());
    let mut client = Client::new(volunteer.link());
    let program = attacker().display().to_string();
    match client.run(1, &Job::new(&program, words, project.path(), &view)) {
        Ok(answer) => Attacked {
            ended: Ok(answer.compiled.ended),
            said: answer.text(),
            outputs: answer.products.into_values().collect(),
        },
        Err(why) => Attacked { ended: Err(why), said: String::new(), outputs: Vec::new() },
    }
}

/// A text for a compiler of the volunteer that does what the attacker does: as if a hole of it had been
/// found.
pub fn attack_as_text(volunteer: &Volunteer, words: &[&str]) -> Attacked {
    let compiler = hostile_compiler(volunteer, words);
    let mut link = volunteer.link();
    // Each text is another one, so that each is asked for.
    link.start_job(1, &compiler, words.join(" ").as_bytes());
    let answer = link.wait(|message| matches!(message, ToBroker::Result(_) | ToBroker::Refused { .. }));
    match answer {
        ToBroker::Result(result) => {
            let parts = link.parts_of(&result);
            let said = String::from_utf8_lossy(&parts[1]).into_owned();
            Attacked { ended: Ok(result.ended), said, outputs: parts[2..].to_vec() }
        }
        ToBroker::Refused { why, .. } => {
            Attacked { ended: Err(why), said: String::new(), outputs: Vec::new() }
        }
        other => panic!("unexpected {other:?}"),
    }
}

/// A compiler of the volunteer that does what the attacker does.
fn hostile_compiler(volunteer: &Volunteer, words: &[&str]) -> distcc::common::toolchain::Toolchain {
    let copy = volunteer.path("bin/attacker");
    if !copy.exists() {
        assert!(Command::new("cp").arg(attacker()).arg(&copy).status().unwrap().success());
    }
    let object = if words[0] == "leave" { "" } else { ": > out.o; " };
    volunteer.fake_compiler(&format!("{object}exec \"${{0%/*}}/attacker\" {}", words.join(" ")))
}

/// A request of distcc 3.4 for the hostile compiler.
pub fn ask_as_classic(volunteer: &Volunteer, words: &[&str]) -> std::net::TcpStream {
    hostile_compiler(volunteer, words);
    let mut request = b"DIST00000001ARGC00000005".to_vec();
    let text = words.join(" ");
    for (token, body) in
        ["fakecc", "-c", "a.c", "-o", "a.o"].map(|word| ("ARGV", word)).into_iter().chain([("DOTI", &*text)])
    {
        request.extend(format!("{token}{:08x}{body}", body.len()).bytes());
    }
    let mut stream = crate::remote::link::dial(volunteer.port);
    stream.write_all(&request).unwrap();
    stream
}

/// The same for a client of distcc 3.4, in whose protocol a connection that closes stands for every refusal.
pub fn attack_as_classic(volunteer: &Volunteer, words: &[&str]) -> Attacked {
    let mut answer = Vec::new();
    let read = ask_as_classic(volunteer, words).read_to_end(&mut answer);
    let refused = |why| Attacked { ended: Err(why), said: String::new(), outputs: Vec::new() };
    if read.is_err() || answer.is_empty() {
        return refused(Refusal::Failed { detail: "closed".to_owned() });
    }
    let (mut rest, mut status, mut parts) = (&answer[..], 0, Vec::new());
    while let Some((token, behind)) = rest.split_at_checked(12) {
        let number = u32::from_str_radix(std::str::from_utf8(&token[4..]).unwrap(), 16).unwrap();
        let length = if matches!(&token[..4], b"DONE" | b"STAT") { 0 } else { number as usize };
        status = if &token[..4] == b"STAT" { number } else { status };
        let (body, behind) = behind.split_at(length);
        parts.push((token[..4].to_vec(), body.to_vec()));
        rest = behind;
    }
    let part = |name: &[u8]| parts.iter().find(|(token, _)| token == name).map(|(_, body)| body.clone());
    let ended = match (status & 0x7f, (status >> 8) as i32) {
        (0, distcc::common::exit::TIMEOUT) => return refused(Refusal::TimedOut { seconds: 0 }),
        (0, code) => Ended::Exited(code),
        (signal, _) => Ended::Killed(signal as i32),
    };
    let said = String::from_utf8_lossy(&part(b"SERR").unwrap_or_default()).into_owned();
    Attacked { ended: Ok(ended), said, outputs: part(b"DOTO").into_iter().collect() }
}

/// One kind of job.
pub type Attack = fn(&Volunteer, &[&str]) -> Attacked;

/// All of them.
pub const ATTACKS: [Attack; 3] = [attack_as_files, attack_as_text, attack_as_classic];

/// The daemon lives, has nothing left of the attacker, and does an honest job.
pub fn assert_unharmed(volunteer: &mut Volunteer) {
    assert_eq!(volunteer.daemon.try_wait().unwrap(), None, "the daemon has ended");
    let name = attacker().file_name().unwrap();
    let is_ours = |path: PathBuf| {
        let line = fs::read(path.join("cmdline")).unwrap_or_default();
        let within =
            |folder: &Path| memchr::memmem::find(&line, folder.as_os_str().as_encoded_bytes()).is_some();
        within(&volunteer.path("bin").join(name))
    };
    wait_for("the attacker's processes are gone", || {
        !fs::read_dir("/proc").unwrap().any(|entry| is_ours(entry.unwrap().path()))
    });
    wait_for("its folders are gone", || volunteer.job_directories().is_empty());
    let mut link = volunteer.link();
    // Another text each time, so that it is asked for.
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let text = format!("int x{};\n", NEXT.fetch_add(1, Ordering::Relaxed));
    link.start_job(9, &toolchain_of(Path::new("/usr/bin/gcc")), text.as_bytes());
    assert_eq!(link.result().0.ended, Ended::Exited(0));
}

/// Volunteers of both kinds.
pub fn volunteers(options: &[&str]) -> [Volunteer; 2] {
    let options = [&["--allow", "127.0.0.1", "--enable-tcp-insecure"], options].concat();
    [Volunteer::start(&options), Volunteer::start_as_nobody_with(&options)]
}

/// Runs an attack in every way; none works.
pub fn check(options: &[&str], words: impl Fn(&Volunteer) -> Vec<String>) {
    for mut volunteer in volunteers(options) {
        let words = words(&volunteer);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        for attack in ATTACKS {
            attack(&volunteer, &words).assert_refused();
            assert_unharmed(&mut volunteer);
        }
    }
}

pub fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// A daemon on a machine without namespaces says what it does instead, and is a wall all the same.
#[test]
fn without_namespaces_landlock_and_the_filter_are_the_wall() {
    let mut volunteer = Volunteer::start_without_namespaces();
    let able = volunteer.abilities();
    let says_so = |sandbox: &str| sandbox.starts_with("landlock (version ") && sandbox.contains("weaker");
    assert!(matches!(&able, ToBroker::Able { hermetic: false, sandbox } if says_so(sandbox)), "{able:?}");
    assert!(volunteer.log().contains("weaker than namespaces"), "{}", volunteer.log());
    let (daemon, store) = (volunteer.daemon.id(), volunteer.path("tmp").display().to_string());
    let secret = volunteer.path("secret");
    fs::write(&secret, "secret").unwrap();
    for attack in [
        "read /etc/shadow".to_owned(),
        "read /etc/passwd".to_owned(),
        "read /home".to_owned(),
        format!("read {store}"),
        format!("read {}", secret.display()),
        format!("read /proc/{daemon}/environ"),
        "read /proc".to_owned(),
        format!("write {}", secret.display()),
        "write /tmp/outside".to_owned(),
        "connect x".to_owned(),
        "unix @nobody-listens".to_owned(),
        "environment".to_owned(),
        "descriptors".to_owned(),
        "limits".to_owned(),
    ] {
        let attack: Vec<&str> = attack.split(' ').collect();
        attack_as_text(&volunteer, &attack).assert_refused();
    }
    let killed = attack_as_text(&volunteer, &["signal", &daemon.to_string()]);
    assert!(!killed.ended.as_ref().is_ok_and(|ended| ended.is_success()), "{killed:?}");
    assert_unharmed(&mut volunteer);
}

#[test]
fn a_daemon_that_must_have_boxes_does_not_start_without() {
    let output = Volunteer::without_namespaces(&["--sandbox", "required"]).output().unwrap();
    assert_eq!(output.status.code(), Some(distcc::common::exit::FAILED));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("jobs cannot be confined here (--sandbox required)"), "{said}");
}
