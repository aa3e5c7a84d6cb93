//! Compares the include scanner with compilers on random include graphs.
//!
//! `scan_fuzz DIRECTORY FIRST COUNT [COMPILER…]`: COUNT graphs from seed FIRST on, twenty sources in
//! each, with gcc and clang, or with those that are named. Exits with 1 if any answer was wrong, and leaves the directory of each wrong graph.

use std::process::ExitCode;

use distcc::broker::scan::Scanner;

#[path = "../contrib/scan-check/compare.rs"]
mod compare;
#[path = "../contrib/scan-check/generate.rs"]
mod generate;

/// Sources that share a graph of headers, and one run of each compiler.
const SOURCES: usize = 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, first, count, compilers @ ..] = &arguments[..] else {
        eprintln!("usage: scan_fuzz DIRECTORY FIRST COUNT [COMPILER…]");
        return ExitCode::from(2);
    };
    let (Ok(first), Ok(count)) = (first.parse::<u64>(), count.parse::<u64>()) else {
        return ExitCode::from(2);
    };
    let all = ["gcc".to_owned(), compare::SCAN_DEPS.to_owned()];
    let compilers = if compilers.is_empty() { &all[..] } else { compilers };
    // A bomb of macros takes all the memory that there is: 4 GiB for each process that follows.
    let limit = rustix::process::Rlimit { current: Some(4 << 30), maximum: Some(4 << 30) };
    if rustix::process::setrlimit(rustix::process::Resource::As, limit).is_err() {
        return ExitCode::from(2);
    }
    let mut sum = compare::Sum::default();
    // What is kept of headers must make no difference: one scanner keeps all that it can.
    let mut scanners = [Scanner::default(), Scanner::default()];
    scanners[0].keep_all_effects();
    for seed in first..first + count {
        let scanner = &mut scanners[seed as usize % 2];
        let at = std::path::Path::new(directory).join(seed.to_string());
        let wrong = compare::run(scanner, &at, seed, SOURCES, compilers, &mut sum);
        if !wrong && std::env::var_os("KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&at);
        }
    }
    let effects = scanners.map(|scanner| scanner.report().effects);
    println!("seeds {first} to {}: {sum:?}, effects used {effects:?}", first + count - 1);
    ExitCode::from(u8::from(sum.wrong > 0))
}
