use std::collections::BTreeMap;

use serde_json::Value;

use super::file::TraceFile;
use super::summary::{Times, summarise};
use super::*;
use crate::broker::history::record::{Attempt, End, Here, Level, Span, What};

fn span(begin: u64, end: u64) -> Span {
    Span { begin: begin * 1000, end: end * 1000 }
}

/// A job that was ready at once and ran on host 0 from `begin` to `end`, in milliseconds.
fn remote(job: u64, arrived: u64, begin: u64, end: u64) -> Record {
    let attempt = Attempt { span: span(begin, end), upload: 1000, compile: 5000, ..Attempt::default() };
    Record {
        job,
        source: format!("{job}.c"),
        life: span(arrived, end + 1),
        attempts: vec![attempt],
        write: Some(span(end, end + 1)),
        end: End::Remote,
        ..Record::default()
    }
}

fn here(job: u64, begin: u64, end: u64) -> Record {
    let here = Here { lane: 0, span: span(begin, end), reason: "not-a-compile".to_owned() };
    let life = span(begin, end);
    Record { job, source: "link".to_owned(), life, here: Some(here), end: End::Local, ..Record::default() }
}

fn slots(at: u64, slots: u32) -> Mark {
    Mark { at: at * 1000, what: What::Slots { host: 0, slots } }
}

fn build() -> Timeline {
    let marks = vec![
        slots(0, 1),
        Mark { at: 1000, what: What::Level(Level { waiting: 1, ..Level::default() }) },
        Mark { at: 2000, what: What::Lost { host: 0, why: "gone".to_owned() } },
        slots(3, 1),
    ];
    let records = vec![remote(1, 0, 0, 10), remote(2, 0, 11, 20), here(3, 21, 40)];
    Timeline { records, marks, hosts: vec!["build7".to_owned()], pid: 1 }
}

/// Checks what the format asks of each event; returns the events.
fn check_format(text: &str) -> Vec<Value> {
    let document: Value = serde_json::from_str(text).expect("a JSON document");
    let events = document["traceEvents"].as_array().expect("traceEvents").clone();
    let mut open: BTreeMap<(String, String), i64> = BTreeMap::new();
    for event in &events {
        let phase = event["ph"].as_str().expect("ph");
        for field in ["ts", "pid", "tid"] {
            assert!(event[field].is_u64(), "{field} in {event}");
        }
        assert!(event["name"].is_string(), "{event}");
        let key = || (event["id"].as_str().expect("id").to_owned(), event["name"].to_string());
        match phase {
            "X" => assert!(event["dur"].as_u64().is_some_and(|dur| dur > 0), "{event}"),
            "b" => *open.entry(key()).or_default() += 1,
            "e" => *open.entry(key()).or_default() -= 1,
            "C" => assert!(
                event["args"].as_object().is_some_and(|args| args.values().all(Value::is_u64)),
                "{event}"
            ),
            "i" => assert_eq!(event["s"], "p", "{event}"),
            "M" => assert!(event["args"].is_object(), "{event}"),
            other => panic!("phase {other} in {event}"),
        }
    }
    assert!(open.values().all(|count| *count == 0), "unbalanced: {open:?}");
    events
}

#[test]
fn a_file_is_whole_after_every_addition() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("trace.json");
    let mut file = TraceFile::create(&path, 0o22, 1).expect("a file");
    let read = || std::fs::read_to_string(&path).expect("a file");
    check_format(&read());
    let build = build();
    for record in &build.records {
        file.add(std::slice::from_ref(record), &[], &build.hosts, false).expect("room");
        check_format(&read());
    }
    file.add(&[], &build.marks, &build.hosts, true).expect("room");
    let events = check_format(&read());
    let named = |name: &str| events.iter().filter(|event| event["name"] == name).count();
    for (name, count) in [("upload", 2), ("compile", 2), ("write", 4), ("queue", 3), ("host lost: gone", 1)] {
        assert_eq!(named(name), count, "{name}");
    }
    let lanes = events.iter().filter(|event| event["name"] == "thread_name").count();
    assert_eq!(lanes, 2, "a lane of the volunteer and one of this machine");
    let document: Value = serde_json::from_str(&read()).expect("JSON");
    assert_eq!(document["otherData"]["jobs"], 3);
    assert!(
        document["otherData"]["summary"][0].as_str().is_some_and(|line| line.contains("1 here, 2 remote"))
    );
}

#[test]
fn attempts_in_one_lane_do_not_overlap_and_parts_stay_inside() {
    let build = build();
    for record in &build.records {
        let events = chrome::job(record);
        let whole: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X").collect();
        let end = |event: &Value| event["ts"].as_u64().unwrap() + event["dur"].as_u64().unwrap();
        assert!(whole.iter().all(|part| end(part) <= end(whole[0])), "{whole:?}");
    }
}

#[test]
fn the_summary_says_where_the_time_went() {
    let summary = summarise(&build());
    assert_eq!(summary.wall, 40_000);
    let critical: Vec<&str> = summary.critical.iter().map(|(source, _)| source.as_str()).collect();
    assert_eq!(critical, ["2.c", "link"], "what arrived when others ended waited for them");
    assert_eq!(summary.used, 19_000);
    let Times { short_of_slots, here_only, .. } = summary.times;
    assert!(here_only == 19_000 && short_of_slots >= 8_000, "{:?}", summary.times);
    assert_eq!(summary.one_more, short_of_slots / 2);
    let text = summary.render();
    for words in
        ["3 jobs in 0.0s", "critical jobs", "idle slots", "what held the build back", "one more host"]
    {
        assert!(text.contains(words), "{words} in {text}");
    }
}

#[test]
fn a_build_is_what_was_not_interrupted_by_quiet() {
    let mut timeline = build();
    timeline.records.push(remote(9, 60_000, 60_000, 60_010));
    timeline.records.push(remote(10, 60_000, 60_010, 60_020));
    timeline.marks.push(Mark { at: 60_001_000, what: What::Up { host: 0 } });
    let latest = timeline.latest();
    assert_eq!(latest.records.iter().map(|record| record.job).collect::<Vec<_>>(), [9, 10]);
    assert_eq!(latest.marks.len(), 2, "how many slots there were is known: {:?}", latest.marks);
    assert_eq!(Timeline::default().latest(), Timeline::default());
}
