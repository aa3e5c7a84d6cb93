//! `distcc --trace` and `DISTCC_TRACE`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::chrome;
use crate::farm::{COMMAND_MAX, Farm, Outcome, SHIM, run};

/// Files for make to compile, and a link.
fn lay_out(farm: &Farm, count: usize) {
    let objects: Vec<String> = (0..count).map(|number| format!("f{number}.o")).collect();
    for number in 0..count {
        let text = format!("#include <stdio.h>\nint f{number}(void) {{ return puts(\"{number}\"); }}\n");
        fs::write(farm.work().join(format!("f{number}.c")), text).expect("our own file");
    }
    let makefile = format!(
        "x.so: {objects}\n\t{SHIM} gcc -shared -o $@ {objects}\n%.o: %.c\n\t@{SHIM} gcc -fPIC -c $< -o $@\n",
        objects = objects.join(" ")
    );
    fs::write(farm.work().join("Makefile"), makefile).expect("our own file");
}

fn traced(farm: &Farm, words: &[&str]) -> Outcome {
    let mut command = farm.command(SHIM);
    command.arg("--trace").args(words);
    run(command, COMMAND_MAX)
}

/// The events of a file, which is checked for what the format asks of it.
pub fn events(path: &Path) -> Vec<Value> {
    chrome::check(&fs::read_to_string(path).expect("a trace"))
}

/// Jobs in a trace, by what became of them.
pub fn jobs(events: &[Value]) -> BTreeMap<String, u64> {
    let mut jobs = BTreeMap::new();
    for end in
        events.iter().filter(|event| event["ph"] == "b").filter_map(|event| event["args"]["end"].as_str())
    {
        *jobs.entry(end.to_owned()).or_default() += 1;
    }
    jobs
}

#[test]
fn a_build_is_traced_from_its_first_job_to_its_last() {
    let farm = Farm::new(2);
    lay_out(&farm, 12);
    let outcome = traced(&farm, &["t.json", "--", "make", "-j4", "-s"]).expect_success("a traced build");
    let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
    for words in [
        "13 jobs in",
        "12 remote",
        "1 here",
        "critical jobs",
        "idle slots",
        "what held the build back",
        "one more host",
    ] {
        assert!(said.contains(words), "{words} in {said}");
    }
    let path = farm.work().join("t.json");
    let events = events(&path);
    assert_eq!(jobs(&events), [("remote".to_owned(), 12), ("local".to_owned(), 1)].into());
    assert_eq!((farm.total("remote"), farm.total("local")), (12, 1));
    let named = |name: &str| events.iter().filter(|event| event["name"] == name).count();
    for name in [
        "upload",
        "compile",
        "queue",
        "scan or preprocess",
        "write",
        "slots in use",
        "bytes",
        "slots granted",
    ] {
        assert!(named(name) > 0, "no {name} in the trace");
    }
    let hosts = events
        .iter()
        .filter(|event| event["name"] == "process_name")
        .map(|event| event["args"]["name"].to_string());
    let hosts: Vec<String> = hosts.collect();
    for volunteer in &farm.volunteers {
        assert!(hosts.iter().any(|name| name.contains(&volunteer.port.to_string())), "{hosts:?}");
    }
    farm.finish();
}

#[test]
fn the_status_of_a_traced_build_is_its_own() {
    let farm = Farm::new(0);
    assert_eq!(traced(&farm, &["t.json", "--", "sh", "-c", "exit 7"]).status.code(), Some(7));
    assert_eq!(traced(&farm, &["t.json", "--", "sh", "-c", "kill -9 $$"]).status.code(), Some(137));
    let nobody = traced(&farm, &["t.json", "no-such-program"]);
    assert_eq!(nobody.status.code(), Some(100), "{nobody:?}");
    let nowhere = traced(&farm, &["no/such/folder", "--", "touch", "ran"]);
    assert_eq!((nowhere.status.code(), farm.work().join("ran").exists()), (Some(100), false));
    farm.finish();
}

#[test]
fn the_latest_build_is_remembered() {
    let farm = Farm::new(1);
    assert_eq!(traced(&farm, &["t.json"]).status.code(), Some(100), "nothing has been built");
    lay_out(&farm, 3);
    let mut make = farm.command("make");
    make.args(["-j2", "-s"]);
    run(make, COMMAND_MAX).expect_success("a build");
    farm.settle();
    let outcome = traced(&farm, &["t.json"]).expect_success("--trace");
    assert!(String::from_utf8_lossy(&outcome.stdout).contains("4 jobs in"), "{outcome:?}");
    assert_eq!(jobs(&events(&farm.work().join("t.json"))).values().sum::<u64>(), 4);
    let piped = traced(&farm, &["-"]).expect_success("--trace -");
    serde_json::from_slice::<Value>(&piped.stdout).expect("JSON on stdout");
    farm.finish();
}

#[test]
fn a_variable_traces_the_jobs_that_have_it() {
    let farm = Farm::new(1);
    lay_out(&farm, 2);
    let path = farm.work().join("v.json");
    for (file, trace) in [("f0", Some(&path)), ("f1", None)] {
        let mut command = farm.command(SHIM);
        command.args(["gcc", "-c", &format!("{file}.c")]).envs(trace.map(|path| ("DISTCC_TRACE", path)));
        run(command, COMMAND_MAX).expect_success("a compile");
    }
    let whole = || {
        let text = fs::read_to_string(&path).unwrap_or_default();
        serde_json::from_str::<Value>(&text).is_ok_and(|document| document["otherData"]["summary"].is_array())
    };
    crate::farm::wait_until("the trace has its summary", COMMAND_MAX, whole);
    assert_eq!(jobs(&events(&path)), [("remote".to_owned(), 1)].into());
    farm.finish();
}
