//! The page of a volunteer's owner, and the pause.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;
use serde_json::Value;

use crate::farm::{
    COMMAND_MAX, Farm, Outcome, Running, SHIM, VOLUNTEER, VolunteerOptions, run, signal_pid, wait_until,
};

/// A compile that takes some seconds, of which the compiler proper uses all.
const SLOW: &str = "constexpr long f(long n) { long s = 0; for (long i = 0; i < n; i++) s += i * i % 7; return s; }\n\
    static_assert(f(800000) > 0, \"\");\n";

const PATIENT: [&str; 3] =
    ["-std=c++17", "-fconstexpr-loop-limit=100000000", "-fconstexpr-ops-limit=1000000000"];

fn with_page() -> VolunteerOptions {
    VolunteerOptions { more: &["--dashboard", "0"], ..VolunteerOptions::default() }
}

/// `distccd OPTION` for one of the farm's volunteers.
fn ask(farm: &Farm, volunteer: usize, option: &str) -> Outcome {
    let mut command = farm.command(VOLUNTEER);
    command.arg(option).arg("--state-dir").arg(farm.volunteers[volunteer].state());
    run(command, COMMAND_MAX)
}

fn said(outcome: &Outcome) -> String {
    String::from_utf8_lossy(&outcome.stdout).into_owned()
}

/// Where a page is, and its token.
struct Page {
    at: SocketAddr,
    token: String,
}

impl Page {
    fn of(farm: &Farm, volunteer: usize) -> Page {
        let outcome = ask(farm, volunteer, "--dashboard-address").expect_success("--dashboard-address");
        let said = said(&outcome);
        let (at, token) =
            said.trim().strip_prefix("http://").and_then(|rest| rest.split_once("/#")).expect("an address");
        Page { at: at.parse().expect("an address"), token: token.to_owned() }
    }

    /// Head and body of the answer to these lines.
    fn send(&self, lines: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.at).expect("the port is open");
        stream.set_read_timeout(Some(COMMAND_MAX)).expect("a socket");
        stream
            .write_all(format!("{lines}\r\n\r\n").replace("\r\n", "\n").replace('\n', "\r\n").as_bytes())
            .expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        (head.to_owned(), body.to_owned())
    }

    /// The status and the body of the answer to somebody who has the token.
    fn ask(&self, line: &str) -> (u16, String) {
        let (at, token) = (self.at, &self.token);
        let (head, body) = self.send(&format!("{line} HTTP/1.1\nHost: {at}\nAuthorization: Bearer {token}"));
        (status(&head), body)
    }

    fn report(&self) -> Value {
        let (status, body) = self.ask("GET /status.json");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("a document")
    }
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status")
}

fn compile(farm: &Farm, name: &str) {
    fs::write(farm.work().join(format!("{name}.cc")), format!("int {name}() {{ return 1; }}\n"))
        .expect("our own file");
    farm.shim(["g++", "-c", &format!("{name}.cc")]).expect_success(name);
}

/// State, reason and jobs done of each volunteer, as `--status` has them.
fn hosts(farm: &Farm) -> Vec<(String, String, u64)> {
    let report = farm.status();
    let text = |host: &Value, field: &str| host[field].as_str().unwrap_or_default().to_owned();
    let of = |port: u16| {
        let hosts = report["hosts"].as_array().into_iter().flatten();
        let mut found = hosts.filter(move |host| host["host"] == format!("127.0.0.1:{port}"));
        found.next().map(|host| (text(host, "state"), text(host, "why"), host["done"].as_u64().unwrap_or(0)))
    };
    farm.volunteers.iter().map(|volunteer| of(volunteer.port).unwrap_or_default()).collect()
}

/// Starts the slow compile on the volunteer that has this page, and holds its compiler, whose process this
/// returns.
fn hold_a_compile(farm: &Farm, page: &Page) -> (Running, u32) {
    fs::write(farm.work().join("slow.cc"), SLOW).expect("our own file");
    let mut command = farm.command(SHIM);
    command.arg("g++").args(PATIENT).args(["-c", "slow.cc"]);
    let running = Running::start(command);
    // Before that, the broker asks the compiler here about itself.
    wait_until("slow.cc is compiled there", COMMAND_MAX, || page.report()["jobs"][0]["state"] == "running");
    let mut held = None;
    wait_until("its compiler runs", COMMAND_MAX, || {
        held = farm.processes().into_iter().find(|process| process.program == "cc1plus");
        held.is_some()
    });
    let held = held.expect("a process").pid;
    signal_pid(held, Signal::STOP);
    (running, held)
}

#[test]
fn a_pause_lets_jobs_end_and_sends_new_ones_elsewhere() {
    let mut farm = Farm::with(&[with_page(), with_page()]);
    let page = Page::of(&farm, 0);
    ask(&farm, 1, "--pause").expect_success("--pause");
    let (slow, compiler) = hold_a_compile(&farm, &page);
    let report = page.report();
    let (job, client) = (&report["jobs"][0], &report["clients"][0]);
    assert_eq!(
        (&report["paused"], &report["running"], &job["state"]),
        (&false.into(), &1.into(), &"running".into()),
        "{report}"
    );
    assert!(job["source"].as_str().is_some_and(|source| source.ends_with("slow.cc")), "{report}");
    assert!(job["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{report}");
    assert_eq!((&job["client"], &client["jobs"]), (&client["name"], &1.into()), "{report}");
    assert!(client["name"].as_str().is_some_and(|name| name.starts_with("farm")), "{report}");

    let (code, body) = page.ask("POST /pause");
    assert_eq!((code, body.as_str()), (200, "{\"paused\":true,\"running\":1}"));
    wait_until("the client sees it", COMMAND_MAX, || {
        hosts(&farm)[0] == ("paused".to_owned(), "paused by its owner".to_owned(), 0)
    });
    let outcome = ask(&farm, 1, "--resume").expect_success("--resume");
    assert_eq!(said(&outcome), "jobs are taken again\n");
    wait_until("the other is there", COMMAND_MAX, || hosts(&farm)[1].0 == "up");
    compile(&farm, "elsewhere");
    assert_eq!((hosts(&farm)[0].2, hosts(&farm)[1].2), (0, 1));
    let shown = farm.shim(["--status"]).expect_success("--status");
    assert!(said(&shown).contains("paused by its owner"), "{}", said(&shown));

    signal_pid(compiler, Signal::CONT);
    slow.finish(COMMAND_MAX).expect_success("the compile that ran");
    assert_eq!(
        hosts(&farm)[0],
        ("paused".to_owned(), "paused by its owner".to_owned(), 1),
        "{}",
        farm.status()
    );
    wait_until("the owner sees its end", COMMAND_MAX, || page.report()["running"] == 0);
    let report = page.report();
    assert_eq!(
        (&report["totals"]["ok"], &report["clients"][0]["ok"], &report["paused"]),
        (&1.into(), &1.into(), &true.into())
    );
    assert!(report["clients"][0]["cpu_ms"].as_u64().is_some_and(|ms| ms > 100), "{report}");

    // A signal does the same.
    farm.volunteers[1].signal(Signal::USR1);
    wait_until("the client sees it", COMMAND_MAX, || hosts(&farm)[1].0 == "paused");
    compile(&farm, "here");
    assert_eq!(farm.local_reason("no-volunteer"), 1, "{}", farm.status());
    farm.volunteers[0].signal(Signal::USR2);
    wait_until("it is back", COMMAND_MAX, || hosts(&farm)[0].0 == "up");
    compile(&farm, "again");
    assert_eq!(hosts(&farm)[0].2, 2, "{}", farm.status());
    assert_eq!(farm.status()["troubles"], Value::Array(Vec::new()), "nobody is to blame");
    farm.finish();
}

#[test]
fn the_page_is_its_owners_alone() {
    let farm = Farm::with(&[with_page()]);
    let page = Page::of(&farm, 0);
    let note = fs::metadata(farm.volunteers[0].state().join("dashboard")).expect("the note");
    assert_eq!(note.permissions().mode() & 0o777, 0o600);
    assert!(page.at.ip().is_loopback(), "{}", page.at);
    assert!(!farm.volunteers[0].log().contains(&page.token), "the log may be read by others");
    let (head, body) = page.send(&format!("GET / HTTP/1.1\nHost: {}", page.at));
    assert!(status(&head) == 200 && body.starts_with("<!doctype html>") && !body.contains(&page.token));
    let wrong = "Authorization: Bearer aaaaaaaaaaaaaaaaaaaaaaaaaa";
    for line in ["GET /status.json", "POST /pause", "POST /resume"] {
        for fields in ["", wrong, "Cookie: token=x", &format!("Authorization: Basic {}", page.token)] {
            let (head, _) = page.send(format!("{line} HTTP/1.1\nHost: {}\n{fields}", page.at).trim_end());
            assert_eq!(status(&head), 401, "{line} {fields}");
        }
        let strange = format!("{line} HTTP/1.1\nHost: evil.example\nAuthorization: Bearer {}", page.token);
        assert_eq!(status(&page.send(&strange).0), 421, "{line}");
    }
    assert_eq!(page.ask("GET /pause").0, 405);
    assert_eq!(page.report()["paused"], false, "nobody has paused it");
    // What a page of a stranger would have a browser ask first is not granted.
    let (head, _) =
        page.send(&format!("OPTIONS /pause HTTP/1.1\nHost: {}\nOrigin: http://evil.example", page.at));
    assert!(status(&head) == 405 && !head.to_lowercase().contains("access-control"), "{head}");
    farm.finish();
}

#[test]
fn a_page_is_there_only_when_it_was_asked_for_and_goes_with_its_daemon() {
    let mut farm = Farm::with(&[VolunteerOptions::default(), with_page()]);
    for option in ["--dashboard-address", "--pause", "--resume"] {
        let outcome = ask(&farm, 0, option);
        let why = String::from_utf8_lossy(&outcome.stderr).into_owned();
        assert!(!outcome.status.success() && why.contains("--dashboard 3634"), "{option}: {why}");
    }
    let note = farm.volunteers[1].state().join("dashboard");
    assert!(note.exists());
    farm.volunteers[1].signal(Signal::TERM);
    wait_until("its note is gone", COMMAND_MAX, || !note.exists());
    // One that was killed leaves its note, and nobody answers.
    fs::write(&note, "http://127.0.0.1:1/#aaaa\n").expect("a file");
    fs::set_permissions(&note, fs::Permissions::from_mode(0o600)).expect("our own file");
    let why = String::from_utf8_lossy(&ask(&farm, 1, "--pause").stderr).into_owned();
    assert!(why.contains("no answer from the distccd that had its page at 127.0.0.1:1"), "{why}");
    farm.finish();
}

#[test]
fn a_client_of_distcc_3_4_that_a_paused_volunteer_turns_away_compiles_itself() {
    let more = &["--dashboard", "0", "--allow", "127.0.0.1", "--enable-tcp-insecure"];
    let farm = Farm::with(&[VolunteerOptions { more, ..VolunteerOptions::default() }]);
    let compile = |name: &str| {
        fs::write(farm.work().join("a.c"), "int a;\n").expect("our own file");
        let mut command = farm.command("/usr/bin/distcc");
        command.args(["gcc", "-c", "a.c", "-o", name]).env("DISTCC_HOSTS", farm.hosts());
        // Its own notes of hosts that failed are kept apart: they would keep it away for a minute.
        fs::create_dir(farm.directory_of_tests(name)).expect("our own directory");
        command.env("DISTCC_DIR", farm.directory_of_tests(name));
        let outcome = run(command, COMMAND_MAX).expect_success("a compile");
        fs::remove_dir_all(farm.directory_of_tests(name)).ok();
        String::from_utf8_lossy(&outcome.stderr).into_owned()
    };
    assert_eq!(compile("before.o"), "");
    let page = Page::of(&farm, 0);
    ask(&farm, 0, "--pause").expect_success("--pause");
    let why = compile("paused.o");
    assert!(why.contains("running locally instead"), "{why}");
    assert!(
        farm.volunteers[0].log().contains("refused: paused by its owner"),
        "{}",
        farm.volunteers[0].log()
    );
    ask(&farm, 0, "--resume").expect_success("--resume");
    assert_eq!(compile("after.o"), "");
    let report = page.report();
    assert_eq!((&report["totals"]["ok"], &report["totals"]["other"]), (&2.into(), &1.into()), "{report}");
    assert_eq!(report["clients"][0]["name"], "127.0.0.1 (distcc 3.4)", "{report}");
    farm.finish();
}
