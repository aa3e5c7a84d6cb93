//! The include scanner against the compilers, on generated include graphs.

use distcc::broker::scan::Scanner;

#[path = "../../../contrib/scan-check/compare.rs"]
mod compare;
#[path = "../../../contrib/scan-check/generate.rs"]
mod generate;

fn check(compiler: &str, seeds: std::ops::Range<u64>) {
    let directory = tempfile::tempdir().expect("a directory for the cases");
    let mut sum = compare::Sum::default();
    let mut scanner = Scanner::default();
    scanner.keep_all_effects();
    for seed in seeds.clone() {
        let at = directory.path().join(seed.to_string());
        compare::run(&mut scanner, &at, seed, 4, &[compiler.to_owned()], &mut sum);
    }
    assert!(scanner.report().effects > 0, "{:?}", scanner.report());
    assert_eq!(sum.wrong, 0, "{sum:?}");
    // Enough of the cases must be ones that the compiler accepts and the scanner answers.
    assert!(sum.exact as u64 * 2 >= seeds.end - seeds.start, "{sum:?}");
}

#[test]
fn random_include_graphs_scan_as_gcc_reads_them() {
    check("gcc", 100..120);
}

#[test]
fn random_include_graphs_scan_as_clang_reads_them() {
    check("clang", 100..120);
}
