//! Metrics of both daemons, and whether all that is told of one build agrees.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use super::status::compile;
use super::trace;
use crate::farm::{COMMAND_MAX, Farm, Running, SHIM, VolunteerOptions, kept_results, run, wait_until};

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

/// The head and the body of an answer.
fn get(port: u16, path: &str, host: &str) -> (String, String) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the port is open");
    stream.set_read_timeout(Some(COMMAND_MAX)).expect("a socket");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

/// Reads the text format strictly: every family has help and a type before its samples, names and labels
/// are well formed, counters end in `_total`, no sample comes twice, families stay together.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let name_is_good = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|letter: char| letter.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
    };
    let (mut helped, mut typed, mut samples) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    let mut family = String::new();
    assert!(text.ends_with('\n'), "the last line ends");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help");
            assert!(name_is_good(name) && help.ends_with('.') && helped.insert(name.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert!(
                helped.contains(name) && typed.insert(name.to_owned(), kind.to_owned()).is_none(),
                "{line}"
            );
            assert!(
                kind == "counter" && name.ends_with("_total") || kind == "gauge" && !name.ends_with("_total"),
                "{line}"
            );
            name.clone_into(&mut family);
        } else {
            let (key, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let (name, labels) = key.split_once('{').unwrap_or((key, "}"));
            assert_eq!(name, family, "{line}");
            let inner = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
            for label in inner.split("\",").filter(|label| !label.is_empty()) {
                let (label, of) = label.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
                assert!(name_is_good(label) && !of.contains('\n'), "{line}");
            }
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(samples.insert(key.to_owned(), value).is_none(), "twice: {line}");
        }
    }
    samples
}

#[test]
fn status_metrics_and_trace_agree_on_the_jobs_of_a_build() {
    let farm = Farm::new(1);
    let port = free_port();
    let shell =
        "for f in a b c d e; do echo \"int $f;\" > $f.c; \"$0\" gcc -c $f.c; done; \"$0\" gcc -E a.c > a.i";
    let mut command = farm.command(SHIM);
    command
        .args(["--trace", "t.json", "--", "sh", "-c", shell, SHIM])
        .env("DISTCC_METRICS", port.to_string());
    run(command, COMMAND_MAX).expect_success("a traced build");
    farm.settle();
    let (head, body) = get(port, "/metrics", "127.0.0.1");
    assert!(head.contains("200 OK") && head.contains("text/plain; version=0.0.4"), "{head}");
    let metrics = parse(&body);
    let metric =
        |key: &str| metrics.get(key).copied().unwrap_or_else(|| panic!("{key} is not in {body}")) as u64;
    let traced = trace::jobs(&trace::events(&farm.work().join("t.json")));
    assert_eq!((farm.total("remote"), farm.total("local")), (5, 1), "{}", farm.status());
    assert_eq!(
        (metric("distcc_jobs_total{where=\"remote\"}"), metric("distcc_jobs_total{where=\"local\"}")),
        (5, 1)
    );
    assert_eq!(metric("distcc_local_jobs_total{reason=\"preprocess-only\"}"), 1);
    assert_eq!((traced.get("remote"), traced.get("local")), (Some(&5), Some(&1)));
    assert_eq!(
        get(port, "/metrics", "evil.example").0.lines().next(),
        Some("HTTP/1.1 421 Misdirected Request")
    );
    assert_eq!(get(port, "/", "127.0.0.1").0.lines().next(), Some("HTTP/1.1 404 Not Found"));
    farm.finish();
}

/// A compile of which the compiler proper takes a second or more.
const SLOW: &str = "constexpr long f(long n) { long s = 0; for (long i = 0; i < n; i++) s += i * i % 7; return s; }\n\
    static_assert(f(500000) > 0, \"\");\n";

const PATIENT: [&str; 3] =
    ["-std=c++17", "-fconstexpr-loop-limit=100000000", "-fconstexpr-ops-limit=1000000000"];

/// The counts of jobs, by what became of them, of a report, of metrics, and of a trace.
fn three_views(farm: &Farm, port: u16, trace: &std::path::Path) -> [BTreeMap<String, u64>; 3] {
    let ends = ["remote", "cached", "local", "forbidden", "abandoned"];
    let counts = |count: &dyn Fn(&str) -> u64| ends.map(|end| (end.to_owned(), count(end))).into();
    let samples = parse(&get(port, "/metrics", "127.0.0.1").1);
    let traced = trace::jobs(&trace::events(trace));
    assert!(traced.keys().all(|end| ends.contains(&end.as_str())), "{traced:?}");
    [
        counts(&|end| farm.total(end)),
        counts(&|end| samples[&format!("distcc_jobs_total{{where=\"{end}\"}}")] as u64),
        counts(&|end| traced.get(end).copied().unwrap_or(0)),
    ]
}

#[test]
fn three_views_agree_on_jobs_that_went_every_way() {
    let mut farm = Farm::new(2);
    let (port, trace) = (free_port(), farm.work().join("t.json"));
    let command = |words: &[&str], hosts: Option<&str>| {
        let mut command = farm.command(SHIM);
        command.args(words).env("DISTCC_TRACE", &trace).env("DISTCC_METRICS", port.to_string());
        command.env("DISTCC_CACHE", farm.directory_of_tests("cache"));
        command.envs(hosts.map(|hosts| ("DISTCC_HOSTS", hosts)));
        command
    };
    let write = |name: &str, text: &str| std::fs::write(farm.work().join(name), text).expect("our own file");
    ["a", "b", "c"].into_iter().for_each(|name| write(&format!("{name}.c"), &format!("int {name};\n")));
    write("wrong.c", "int wrong\n");
    write("slow.cc", SLOW);
    let play = |words: &str, good: bool| {
        let outcome = run(command(&words.split(' ').collect::<Vec<_>>(), None), COMMAND_MAX);
        assert_eq!(outcome.status.success(), good, "{words}: {outcome:?}");
    };
    play("gcc -c a.c", true);
    play("gcc -c b.c", true);
    let cache = farm.directory_of_tests("cache");
    wait_until("both results are kept", COMMAND_MAX, || kept_results(&cache) == 2);
    play("gcc -c a.c", true);
    play("gcc -c wrong.c", false);
    play("gcc -E a.c -o a.i", true);
    let mut forbidden = command(&["gcc", "-c", "c.c"], Some("127.0.0.1:1"));
    forbidden.env("DISTCC_FALLBACK", "0");
    assert!(!run(forbidden, COMMAND_MAX).status.success());
    let mut words = vec!["g++"];
    words.extend(PATIENT);
    words.extend(["-c", "slow.cc"]);
    let slow = Running::start(command(&words, None));
    let mut host = String::new();
    wait_until("slow.cc is compiled elsewhere", COMMAND_MAX, || {
        let report = farm.status();
        let mut jobs = report["jobs"].as_array().into_iter().flatten();
        let there = jobs.find(|job| job["phase"] == "remote");
        host = there.and_then(|job| job["host"].as_str()).unwrap_or_default().to_owned();
        !host.is_empty()
    });
    let struck = farm.volunteers.iter_mut().find(|volunteer| host.ends_with(&volunteer.port.to_string()));
    struck.expect("one of ours").signal(rustix::process::Signal::KILL);
    slow.finish(COMMAND_MAX).expect_success("the compile that was tried again");
    farm.settle();
    let whole = || {
        let text = std::fs::read_to_string(&trace).unwrap_or_default();
        let document = serde_json::from_str::<serde_json::Value>(&text);
        document.is_ok_and(|document| document["otherData"]["jobs"] == 7)
    };
    wait_until("the trace has all jobs", COMMAND_MAX, whole);
    let [status, metrics, traced] = three_views(&farm, port, &trace);
    assert_eq!(status, metrics, "{}", farm.status());
    assert_eq!(status, traced, "{}", farm.status());
    let expected = [("remote", 3), ("cached", 1), ("local", 2), ("forbidden", 1), ("abandoned", 0)];
    assert_eq!(status, expected.map(|(end, count)| (end.to_owned(), count)).into(), "{}", farm.status());
    let failed = trace::events(&trace);
    let failed = failed.iter().filter(|event| event["ph"] == "X" && event["args"]["failure"].is_string());
    let retried = parse(&get(port, "/metrics", "127.0.0.1").1)["distcc_retried_attempts_total"] as u64;
    assert_eq!((failed.count() as u64, farm.total("retried"), retried), (1, 1, 1), "{}", farm.status());
    farm.shim(["--stop"]).expect_success("--stop");
    wait_until("the broker has left its cache", COMMAND_MAX, || farm.brokers().is_empty());
    std::fs::remove_dir_all(farm.directory_of_tests("cache")).expect("the cache");
    farm.finish();
}

/// Names of metrics in the sources, as they are given to families.
fn told(source: &str) -> BTreeSet<String> {
    source
        .split('"')
        .filter(|word| word.starts_with("distcc_") || word.starts_with("distccd_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_dashboard_asks_for_metrics_that_there_are() {
    let dashboard = include_str!("../../../contrib/grafana/distcc.json");
    let document: serde_json::Value = serde_json::from_str(dashboard).expect("JSON");
    let broker = told(include_str!("../../../src/broker/metrics/mod.rs"));
    let there = &broker | &told(include_str!("../../../src/remote/stats.rs"));
    let mut asked = 0;
    for panel in document["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().expect("targets") {
            let text = target["expr"].as_str().expect("a question");
            for name in text.split(|letter: char| !(letter.is_alphanumeric() || letter == '_')) {
                if name.starts_with("distcc") {
                    assert!(there.contains(name), "{name} in {text}");
                    asked += 1;
                }
            }
        }
    }
    assert!(asked > 10, "only {asked} metrics");
}

#[test]
fn a_broker_serves_no_port_that_nobody_asked_for() {
    let farm = Farm::new(0);
    farm.shim(["gcc", "--version"]).expect_success("anything that starts a broker");
    let broker = farm.brokers()[0];
    let sockets = std::fs::read_dir(format!("/proc/{broker}/fd")).expect("our own process");
    let inodes: BTreeSet<String> = sockets
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect();
    let tables = ["tcp", "tcp6"]
        .map(|table| std::fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default());
    let is_ours = |line: &&str| line.split_whitespace().nth(9).is_some_and(|inode| inodes.contains(inode));
    assert_eq!(tables.concat().lines().filter(is_ours).count(), 0, "it has a TCP socket");
    farm.finish();
}

#[test]
fn a_volunteer_serves_the_numbers_of_its_classic_page() {
    let (metrics, stats) = (free_port().to_string(), free_port().to_string());
    let more: Vec<&'static str> =
        ["--metrics", &metrics, "--stats", "--stats-port", &stats, "--allow", "127.0.0.1"]
            .map(|word| &*word.to_owned().leak())
            .to_vec();
    let farm = Farm::with(&[VolunteerOptions { more: more.leak(), ..VolunteerOptions::default() }]);
    compile(&farm, &["a", "b"]);
    let mut samples = BTreeMap::new();
    // The last answer may be on its way before it is counted.
    wait_until("both jobs are counted", COMMAND_MAX, || {
        samples = parse(&get(metrics.parse().expect("a port"), "/metrics", "localhost").1);
        samples["distccd_jobs_total{outcome=\"ok\"}"] as u64 == 2
    });
    let mut page = String::new();
    let mut stream =
        TcpStream::connect((Ipv4Addr::LOCALHOST, stats.parse().expect("a port"))).expect("the page");
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("a request");
    stream.read_to_string(&mut page).expect("a page");
    assert!(page.lines().any(|line| line == "dcc_compile_ok 2"), "{page}");
    assert!(page.lines().any(|line| line == format!("dcc_max_kids {}", samples["distccd_slots"])), "{page}");
    farm.finish();
}
