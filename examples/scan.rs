//! Scans commands for `contrib/scan-check` and `contrib/bench/scan`: one JSON object a line on
//! standard input, `argv` and `cwd` in it, and one a line back. One scanner for all, as in a broker.
//!
//! `--absent` adds the names looked for in vain; `--stat` takes no notifications from the kernel. With
//! `--set` the answer is made in the form that jobs take it, and only its size is told.
//! An empty line asks for what is remembered, in numbers.

use std::io::{BufRead, Write};

use distcc::broker::scan::{Declined, Question, Scan, Scanned, Scanner};
use distcc::common::bytes::Bytes;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    let env: Vec<Bytes> = std::env::vars_os()
        .map(|(name, value)| Bytes([name.as_encoded_bytes(), b"=", value.as_encoded_bytes()].concat()))
        .collect();
    let mut scanner = if has("--stat") { Scanner::without_notifications() } else { Scanner::default() };
    scanner.list_absent = has("--absent");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let answer = if line.is_empty() {
            json!({"report": format!("{:?}", scanner.report()), "size": scanner.size()})
        } else {
            let (argv, cwd) = command(&serde_json::from_str(&line)?);
            answer(&mut scanner, &argv, &cwd, &env, has("--set"))
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

fn answer(scanner: &mut Scanner, argv: &[Bytes], cwd: &Bytes, env: &[Bytes], as_set: bool) -> Value {
    let before = cpu_us();
    if as_set {
        let question = Question { argv, cwd, env, toolchain: None, absent: false, folders: &[] };
        let set = scanner.input_set(&question);
        let us = cpu_us() - before;
        return match set {
            Ok(set) => json!({"files": set.files.len(), "us": us}),
            Err(declined) => told(&declined),
        };
    }
    let scan = scanner.scan_command(argv, cwd, env);
    let us = cpu_us() - before;
    scan.map_or_else(|declined| told(&declined), |scan| shown(&scan, us))
}

fn told(declined: &Declined) -> Value {
    json!({"declined": declined.to_string(), "kind": declined.kind()})
}

fn command(value: &Value) -> (Vec<Bytes>, Bytes) {
    let text = |value: &Value| Bytes::from(value.as_str().unwrap_or_default());
    let argv = value["argv"].as_array().map(|list| list.iter().map(text).collect()).unwrap_or_default();
    (argv, text(&value["cwd"]))
}

fn shown(scan: &Scan, us: u64) -> Value {
    let paths = |list: &[Scanned]| -> Vec<String> {
        list.iter().map(|file| String::from_utf8_lossy(&file.path).into_owned()).collect()
    };
    let absent: Vec<String> =
        scan.absent.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    json!({"files": paths(&scan.files), "probed": paths(&scan.probed), "absent": absent, "us": us})
}

/// User and system time of this process so far, in microseconds.
fn cpu_us() -> u64 {
    let usage = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    usage.tv_sec.max(0) as u64 * 1_000_000 + usage.tv_nsec as u64 / 1000
}
