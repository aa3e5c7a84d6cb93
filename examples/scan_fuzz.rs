//! Compares the include scanner with compilers on random include graphs.
//!
//! `scan_fuzz DIRECTORY FIRST COUNT [COMPILER…]`: COUNT graphs from seed FIRST on, ten sources in
//! each. Exits with 1 if any answer was wrong, and leaves the directory of each wrong graph.

use std::process::ExitCode;

use distcc::broker::scan::Scanner;

#[path = "../contrib/scan-check/compare.rs"]
mod compare;
#[path = "../contrib/scan-check/generate.rs"]
mod generate;

/// Sources that share a graph of headers, and one run of each compiler.
const SOURCES: usize = 10;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, first, count, compilers @ ..] = &arguments[..] else {
        eprintln!("usage: scan_fuzz DIRECTORY FIRST COUNT [COMPILER…]");
        return ExitCode::from(2);
    };
    let (Ok(first), Ok(count)) = (first.parse::<u64>(), count.parse::<u64>()) else {
        return ExitCode::from(2);
    };
    let all = ["gcc".to_owned(), "clang".to_owned()];
    let compilers = if compilers.is_empty() { &all[..] } else { compilers };
    let mut sum = compare::Sum::default();
    let mut scanner = Scanner::default();
    for seed in first..first + count {
        let at = std::path::Path::new(directory).join(seed.to_string());
        let wrong = compare::run(&mut scanner, &at, seed, SOURCES, compilers, &mut sum);
        if !wrong && std::env::var_os("KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&at);
        }
    }
    println!("seeds {first} to {}: {sum:?}", first + count - 1);
    ExitCode::from(u8::from(sum.wrong > 0))
}
