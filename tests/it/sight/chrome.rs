//! The Trace Event Format, as strictly as its description has it ("Trace Event Format", the JSON object
//! format), and what this project promises beyond.
//!
//! ```text
//! document   an object: traceEvents (array), displayTimeUnit ("ms" or "ns"), otherData (object), no more
//! event      an object: name, cat (texts), ph (one letter), ts, pid, tid (whole numbers, ts in µs);
//!            beside these only dur, id, args and s
//! X          dur, a whole number above 0; within one pid and tid two of them nest or are apart
//! b, e       id, a text "0x…"; in the order of ts they open and close like brackets, by cat and id, and
//!            each e has the name of the b that it closes
//! C          args: numbers, the same ones each time; ts never goes back within pid and name;
//!            what only grows ("bytes") never shrinks
//! i          s: "g", "p" or "t"
//! M          process_name and thread_name (args.name, a text), process_sort_index (args.sort_index, a
//!            number); each process has one name, each lane with an X has one name
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// Checks a document; returns its events.
pub fn check(text: &str) -> Vec<Value> {
    let document: Value = serde_json::from_str(text).expect("a JSON document");
    let document = document.as_object().expect("an object");
    only(document, &["traceEvents", "displayTimeUnit", "otherData"]);
    assert!(["ms", "ns"].map(Value::from).contains(&document["displayTimeUnit"]));
    assert!(document.get("otherData").is_none_or(Value::is_object));
    let events = document["traceEvents"].as_array().expect("events").clone();
    events.iter().for_each(well_formed);
    lanes_nest(&events);
    brackets_close(&events);
    counters_count(&events);
    everything_has_a_name(&events);
    events
}

fn only(object: &Map<String, Value>, allowed: &[&str]) {
    let strange: Vec<_> = object.keys().filter(|key| !allowed.contains(&key.as_str())).collect();
    assert!(strange.is_empty(), "{strange:?} in {object:?}");
}

pub fn number(event: &Value, field: &str) -> u64 {
    event[field].as_u64().unwrap_or_else(|| panic!("{field} in {event}"))
}

fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event[field].as_str().unwrap_or_else(|| panic!("{field} in {event}"))
}

fn of_phase<'a>(events: &'a [Value], phases: &'a [&str]) -> impl Iterator<Item = &'a Value> {
    events.iter().filter(|event| phases.contains(&text(event, "ph")))
}

fn well_formed(event: &Value) {
    let object = event.as_object().expect("an event is an object");
    for field in ["ts", "pid", "tid"] {
        number(event, field);
    }
    assert!(!text(event, "name").is_empty() && !text(event, "cat").is_empty(), "{event}");
    assert!(object.get("args").is_none_or(Value::is_object), "{event}");
    let common = ["name", "cat", "ph", "ts", "pid", "tid", "args"];
    let own: &[&str] = match text(event, "ph") {
        "X" => {
            assert!(number(event, "dur") > 0, "{event}");
            &["dur"]
        }
        "b" | "e" => {
            let digits = text(event, "id").strip_prefix("0x").unwrap_or_else(|| panic!("id in {event}"));
            u64::from_str_radix(digits, 16).expect("hexadecimal digits");
            &["id"]
        }
        "i" => {
            assert!(["g", "p", "t"].contains(&text(event, "s")), "{event}");
            &["s"]
        }
        "C" => {
            let series = event["args"].as_object().expect("series");
            assert!(!series.is_empty() && series.values().all(Value::is_number), "{event}");
            &[]
        }
        "M" => &[],
        other => panic!("{other} in {event}"),
    };
    only(object, &[&common, own].concat());
}

/// In one lane, an event begins when the one before it has ended, or lies within it.
fn lanes_nest(events: &[Value]) {
    let mut lanes: BTreeMap<(u64, u64), Vec<(u64, u64)>> = BTreeMap::new();
    for event in of_phase(events, &["X"]) {
        let (begin, lane) = (number(event, "ts"), (number(event, "pid"), number(event, "tid")));
        lanes.entry(lane).or_default().push((begin, begin + number(event, "dur")));
    }
    for (lane, mut spans) in lanes {
        spans.sort_by_key(|(begin, end)| (*begin, std::cmp::Reverse(*end)));
        let mut around: Vec<u64> = Vec::new();
        for (begin, end) in spans {
            around.retain(|outer| *outer > begin);
            assert!(around.iter().all(|outer| end <= *outer), "overlap in lane {lane:?} at {begin}");
            around.push(end);
        }
    }
}

fn brackets_close(events: &[Value]) {
    let mut ordered: Vec<&Value> = of_phase(events, &["b", "e"]).collect();
    // Stable: of those at one moment the first in the file is the first.
    ordered.sort_by_key(|event| number(event, "ts"));
    let mut open: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for event in ordered {
        let stack = open.entry((text(event, "cat"), text(event, "id"))).or_default();
        match text(event, "ph") {
            "b" => stack.push(text(event, "name")),
            _ => assert_eq!(stack.pop(), Some(text(event, "name")), "{event}"),
        }
    }
    assert!(open.values().all(Vec::is_empty), "not closed: {open:?}");
}

fn counters_count(events: &[Value]) {
    let mut last: BTreeMap<(u64, &str), &Value> = BTreeMap::new();
    for event in of_phase(events, &["C"]) {
        let name = text(event, "name");
        let Some(before) = last.insert((number(event, "pid"), name), event) else { continue };
        assert!(number(before, "ts") <= number(event, "ts"), "{event} after {before}");
        let series = |event: &Value| event["args"].as_object().expect("series").clone();
        let (before, now) = (series(before), series(event));
        assert!(before.keys().eq(now.keys()), "{event}");
        if name == "bytes" {
            let grows = |key: &String| before[key].as_u64() <= now[key].as_u64();
            assert!(now.keys().all(grows), "{event} after {before:?}");
        }
    }
}

fn everything_has_a_name(events: &[Value]) {
    let (mut processes, mut lanes) = (BTreeMap::new(), BTreeMap::new());
    for event in of_phase(events, &["M"]) {
        let pid = number(event, "pid");
        match text(event, "name") {
            "process_name" => {
                let name = text(&event["args"], "name");
                assert!(processes.insert(pid, name).is_none(), "twice: {event}");
            }
            "thread_name" => {
                text(&event["args"], "name");
                assert!(lanes.insert((pid, number(event, "tid")), ()).is_none(), "twice: {event}");
            }
            "process_sort_index" => drop(number(&event["args"], "sort_index")),
            other => panic!("{other} in {event}"),
        }
    }
    for event in events {
        assert!(processes.contains_key(&number(event, "pid")), "no name for the process of {event}");
    }
    for event in of_phase(events, &["X"]) {
        let lane = (number(event, "pid"), number(event, "tid"));
        assert!(lanes.contains_key(&lane), "no name for the lane of {event}");
    }
}

/// What is checked is not everything that parses.
#[test]
fn a_trace_that_is_wrong_in_one_place_is_found_out() {
    let names = r#"{"ph":"M","name":"process_name","cat":"c","ts":0,"pid":1,"tid":0,"args":{"name":"p"}},
        {"ph":"M","name":"thread_name","cat":"c","ts":0,"pid":1,"tid":1,"args":{"name":"t"}}"#;
    let whole = |events: &str| format!("{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[{names},{events}]}}");
    let x = |ts: u64, dur: u64| {
        format!(r#"{{"ph":"X","name":"x","cat":"c","ts":{ts},"dur":{dur},"pid":1,"tid":1}}"#)
    };
    let end = |phase: &str, name: &str, ts: u64| {
        format!(r#"{{"ph":"{phase}","name":"{name}","cat":"c","ts":{ts},"pid":1,"tid":0,"id":"0x1"}}"#)
    };
    let counter = |ts: u64, sent: u64| {
        format!(r#"{{"ph":"C","name":"bytes","cat":"c","ts":{ts},"pid":1,"tid":0,"args":{{"sent":{sent}}}}}"#)
    };
    let good = [x(0, 9), x(1, 2), end("b", "j", 0), end("b", "k", 1), end("e", "k", 2), end("e", "j", 2)];
    assert_eq!(check(&whole(&good.join(","))).len(), 8);
    let wrong: BTreeSet<String> = [
        [x(0, 5), x(3, 5)].join(","),
        x(0, 0),
        x(0, 1).replace("\"tid\":1", "\"tid\":7"),
        x(0, 1).replace("\"pid\":1", "\"pid\":7"),
        x(0, 1).replace("\"dur\"", "\"duration\""),
        end("b", "j", 0),
        [end("b", "j", 1), end("e", "j", 0)].join(","),
        [end("b", "j", 0), end("b", "k", 1), end("e", "j", 2), end("e", "k", 3)].join(","),
        [counter(2, 1), counter(1, 2)].join(","),
        [counter(1, 2), counter(2, 1)].join(","),
        [counter(1, 2), counter(2, 2).replace("sent", "other")].join(","),
    ]
    .map(|events| whole(&events))
    .into();
    for text in wrong {
        let found = std::panic::catch_unwind(|| check(&text));
        assert!(found.is_err(), "not found out: {text}");
    }
}
