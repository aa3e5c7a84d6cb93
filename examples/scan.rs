//! Scans commands for `contrib/scan-check`: one JSON object a line on standard input, `argv` and
//! `cwd` in it, and one a line back. One scanner for all, as in a broker.
//!
//! With `--bench ROUNDS`, scans all commands that many times and prints the CPU time of each:
//! first round cold, the rest warm.

use std::io::{BufRead, Write};

use distcc::broker::scan::{Scan, Scanner};
use distcc::common::bytes::Bytes;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let env: Vec<Bytes> = std::env::vars_os()
        .map(|(name, value)| Bytes([name.as_encoded_bytes(), b"=", value.as_encoded_bytes()].concat()))
        .collect();
    let mut scanner = Scanner::default();
    scanner.list_absent = arguments.iter().any(|argument| argument == "--absent");
    let mut commands = Vec::new();
    let bench = arguments.iter().position(|a| a == "--bench");
    for line in std::io::stdin().lock().lines() {
        let (argv, cwd) = command(&serde_json::from_str(&line?)?);
        if bench.is_some() {
            commands.push((argv, cwd));
            continue;
        }
        let before = cpu_us();
        let answer = match scanner.scan_command(&argv, &cwd, &env) {
            Ok(scan) => shown(&scan, cpu_us() - before),
            Err(declined) => json!({"declined": declined.to_string(), "kind": declined.kind()}),
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    if let Some(at) = bench {
        let rounds: usize = arguments.get(at + 1).map_or(Ok(5), |text| text.parse())?;
        measure(&mut scanner, &commands, &env, rounds);
    }
    Ok(())
}

fn measure(scanner: &mut Scanner, commands: &[(Vec<Bytes>, Bytes)], env: &[Bytes], rounds: usize) {
    for round in 0..rounds {
        // The last rounds without checks of the disk: what notifications would leave.
        scanner.trust = round >= rounds.div_ceil(2) && round > 0;
        let mut times = Vec::new();
        let mut declined = 0;
        for (argv, cwd) in commands {
            let before = cpu_us();
            declined += usize::from(scanner.scan_command(argv, cwd, env).is_err());
            times.push(cpu_us() - before);
        }
        times.sort_unstable();
        let (median, sum) = (times.get(times.len() / 2).copied().unwrap_or(0), times.iter().sum::<u64>());
        let kind = match (round, scanner.trust) {
            (0, _) => "cold",
            (_, false) => "warm, every file and directory checked",
            (_, true) => "warm, nothing checked",
        };
        let mean = sum / times.len().max(1) as u64;
        println!("{kind}: median {median} us, mean {mean} us, {} commands, {declined} declined", times.len());
    }
    println!("memory: {} MB", scanner.size() >> 20);
    preprocess(commands);
}

/// The compiler's own `-E` on a sample of the commands, for comparison.
fn preprocess(commands: &[(Vec<Bytes>, Bytes)]) {
    let sample: Vec<_> = commands.iter().step_by((commands.len() / 20).max(1)).collect();
    let before = children_us();
    for (argv, cwd) in &sample {
        let arguments = argv[1..].iter().filter(|argument| argument[..] != *b"-c").map(Bytes::as_os_str);
        let mut command = std::process::Command::new(argv[0].as_os_str());
        command.args(arguments).arg("-E").current_dir(cwd.as_path());
        // Files that do not compile count like the others.
        let _ = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status();
    }
    let mean = (children_us() - before) / sample.len().max(1) as u64;
    println!("the compiler's -E: mean {mean} us, {} commands", sample.len());
}

/// User and system time of ended children, in microseconds: the kernel counts in hundredths.
fn children_us() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    fields.skip(13).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10_000
}

fn command(value: &Value) -> (Vec<Bytes>, Bytes) {
    let text = |value: &Value| Bytes::from(value.as_str().unwrap_or_default());
    let argv = value["argv"].as_array().map(|list| list.iter().map(text).collect()).unwrap_or_default();
    (argv, text(&value["cwd"]))
}

fn shown(scan: &Scan, cpu_us: u64) -> Value {
    let paths = |list: &[distcc::broker::scan::Scanned]| -> Vec<String> {
        list.iter().map(|file| String::from_utf8_lossy(&file.path).into_owned()).collect()
    };
    let absent: Vec<String> =
        scan.absent.iter().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    json!({"files": paths(&scan.files), "probed": paths(&scan.probed), "absent": absent, "us": cpu_us})
}

/// User and system time of this process so far, in microseconds.
fn cpu_us() -> u64 {
    let mut usage = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    usage.tv_sec = usage.tv_sec.max(0);
    usage.tv_sec as u64 * 1_000_000 + usage.tv_nsec as u64 / 1000
}
