//! Events in the Trace Event Format, one JSON object each.
//!
//! Each volunteer is a process with a lane (thread) for each of its slots, and so is this machine. In
//! a lane an attempt is a complete event (`X`), with its parts inside: upload, remote wait, compile,
//! download. What a job does without a slot is told by nested asynchronous events (`b`, `e`) that
//! share its number: queue, scan or preprocess, write. Counters (`C`) and markers (`i`) stand beside.

use serde_json::{Value, json};

use crate::broker::history::record::{Attempt, End, Level, Mark, Record, Span, What};

/// The process that this machine is; volunteers follow.
const HERE: u64 = 1;

/// The process of a volunteer.
fn process(host: u32) -> u64 {
    HERE + 1 + u64::from(host)
}

/// An event of its kind, with all that the format asks for.
fn event(phase: &str, name: &str, pid: u64, tid: u64, ts: u64) -> Value {
    json!({"ph": phase, "name": name, "cat": "distcc", "pid": pid, "tid": tid, "ts": ts})
}

fn with(mut event: Value, name: &str, value: Value) -> Value {
    event[name] = value;
    event
}

/// A complete event; the format has no empty ones.
fn complete(name: &str, pid: u64, lane: u32, span: Span) -> Value {
    let begun = event("X", name, pid, u64::from(lane) + 1, span.begin);
    with(begun, "dur", span.length().max(1).into())
}

/// The two ends of a part of a job that holds no slot.
fn asynchronous(name: &str, job: u64, span: Span) -> [Value; 2] {
    let end = |phase, ts| with(event(phase, name, HERE, 0, ts), "id", format!("{job:#x}").into());
    [end("b", span.begin), end("e", span.end)]
}

/// The name of a process, which is said once.
pub fn name_process(pid: u64, name: &str) -> [Value; 2] {
    let named = |what: &str, value: Value| with(event("M", what, pid, 0, 0), "args", value);
    [named("process_name", json!({"name": name})), named("process_sort_index", json!({"sort_index": pid}))]
}

/// What processes are called: this machine, and volunteers by number, but for so many that have been named
/// before, and this machine with them.
pub fn name_hosts(hosts: &[String], before: Option<usize>) -> Vec<Value> {
    let mut events = match before {
        None => name_process(HERE, "this machine").to_vec(),
        Some(_) => Vec::new(),
    };
    for (host, name) in (0..).zip(hosts).skip(before.unwrap_or(0)) {
        events.extend(name_process(process(host), name));
    }
    events
}

/// What a lane is called, when it is met first.
pub fn name_lane(host: Option<u32>, lane: u32) -> Value {
    let named = event("M", "thread_name", host.map_or(HERE, process), u64::from(lane) + 1, 0);
    with(named, "args", json!({"name": format!("slot {}", lane + 1)}))
}

/// The lanes that a record is in.
pub fn lanes(record: &Record) -> impl Iterator<Item = (Option<u32>, u32)> {
    let there = record.attempts.iter().map(|attempt| (Some(attempt.host), attempt.lane));
    there.chain(record.here.iter().map(|here| (None, here.lane)))
}

/// The events of one job.
pub fn job(record: &Record) -> Vec<Value> {
    let mut events = Vec::new();
    let [begin, end] = asynchronous(&record.source, record.job, record.life);
    let what = json!({"job": record.job, "pid": record.pid, "end": record.end});
    events.push(with(begin, "args", what));
    for (name, span) in waits(record) {
        events.extend(asynchronous(name, record.job, span));
    }
    events.push(end);
    for attempt in &record.attempts {
        push_attempt(&mut events, record, attempt);
    }
    if let Some(here) = &record.here {
        let run = complete(&record.source, HERE, here.lane, here.span);
        events.push(with(run, "args", json!({"job": record.job, "reason": here.reason})));
    }
    events
}

/// What a job does without a slot: it waits, is made ready, and its outputs are put in place.
fn waits(record: &Record) -> Vec<(&'static str, Span)> {
    let begun = record.attempts.first().map(|attempt| attempt.span.begin);
    let begun = begun.or(record.here.as_ref().map(|here| here.span.begin));
    let begun = begun.or(record.write.map(|write| write.begin)).unwrap_or(record.life.end);
    let mut spans = Vec::new();
    match record.prepare {
        Some(prepare) => {
            spans.push(("queue", Span { begin: record.life.begin, end: prepare.begin }));
            spans.push(("scan or preprocess", prepare));
            spans.push(("ready", Span { begin: prepare.end, end: begun.max(prepare.end) }));
        }
        None => spans.push(("queue", Span { begin: record.life.begin, end: begun })),
    }
    spans.extend(record.write.map(|write| ("write", write)));
    spans.retain(|(_, span)| span.end > span.begin);
    spans
}

fn push_attempt(events: &mut Vec<Value>, record: &Record, attempt: &Attempt) {
    let pid = process(attempt.host);
    let mut what = json!({"job": record.job, "cpu_us": attempt.cpu});
    if !attempt.failure.is_empty() {
        what["failure"] = attempt.failure.as_str().into();
    }
    events.push(with(complete(&record.source, pid, attempt.lane, attempt.span), "args", what));
    let mut at = attempt.span.begin;
    let parts = [
        ("upload", attempt.upload),
        ("remote wait", attempt.wait),
        ("compile", attempt.compile),
        ("download", attempt.download),
    ];
    for (name, length) in parts {
        // An answer waits a little to be told of; no part may reach beyond the whole.
        let end = at.saturating_add(length).min(attempt.span.end);
        if end > at {
            events.push(complete(name, pid, attempt.lane, Span { begin: at, end }));
        }
        at = end;
    }
}

/// The events of a mark.
pub fn mark(mark: &Mark) -> Vec<Value> {
    let marker =
        |host: u32, name: String| vec![with(event("i", &name, process(host), 0, mark.at), "s", "p".into())];
    match &mark.what {
        What::Up { host } => marker(*host, "host up".to_owned()),
        What::Lost { host, why } => marker(*host, format!("host lost: {why}")),
        What::BackedOff { host, wait_ms, why } => marker(*host, format!("back-off for {wait_ms} ms: {why}")),
        What::Failed { host, source, why } => marker(*host, format!("{source} failed: {why}")),
        What::Slots { host, slots } => {
            let counted = event("C", "slots granted", process(*host), 0, mark.at);
            vec![with(counted, "args", json!({"slots": slots}))]
        }
        What::Level(level) => levels(mark.at, level),
    }
}

fn levels(at: u64, level: &Level) -> Vec<Value> {
    let counter = |name: &str, values: Value| with(event("C", name, HERE, 0, at), "args", values);
    vec![
        counter("queue", json!({"jobs": level.waiting})),
        counter("slots in use", json!({"volunteers": level.remote, "here": level.here})),
        counter("bytes", json!({"sent": level.sent, "received": level.received})),
    ]
}

/// What became of a job, in a word.
pub fn end_word(end: End) -> &'static str {
    match end {
        End::Open => "open",
        End::Remote => "remote",
        End::Cached => "cached",
        End::Local => "here",
        End::Forbidden => "forbidden",
        End::Abandoned => "abandoned",
    }
}
