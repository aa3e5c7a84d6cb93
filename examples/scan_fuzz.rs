//! Compares the include scanner with compilers on random include graphs.
//!
//! `scan_fuzz DIRECTORY FIRST COUNT [COMPILER…]`: exits with 1 if any answer was wrong, and
//! leaves the directory of each wrong case.

use std::process::ExitCode;

use distcc::broker::scan::Scanner;

#[path = "../contrib/scan-check/compare.rs"]
mod compare;
#[path = "../contrib/scan-check/generate.rs"]
mod generate;

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
        let wrong = compare::run(&mut scanner, &at, seed, compilers, &mut sum);
        if !wrong && std::env::var_os("KEEP").is_none() {
            let _ = std::fs::remove_dir_all(&at);
        }
    }
    println!("{sum:?}");
    ExitCode::from(u8::from(sum.wrong > 0))
}
