//! Runs a generated case through the scanner and a compiler.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use distcc::broker::scan::{Scanned, Scanner};
use distcc::common::bytes::Bytes;

use super::generate;

/// What came out so far.
#[derive(Debug, Default)]
pub struct Sum {
    /// Equal answers.
    pub exact: usize,
    /// Different answers.
    pub wrong: usize,
    /// Cases that the compiler refused.
    pub refused: usize,
    /// Cases that it compiled and the scanner declined.
    pub declined: BTreeMap<String, usize>,
}

/// Writes the case of `seed` into `directory`, compares for each compiler; returns whether any
/// answer was wrong.
pub fn run(scanner: &mut Scanner, directory: &Path, seed: u64, compilers: &[String], sum: &mut Sum) -> bool {
    let case = generate::case(seed);
    for (name, text) in &case.files {
        let path = directory.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("a directory for the case");
        }
        std::fs::write(path, text).expect("a file of the case");
    }
    let mut any = false;
    for compiler in compilers {
        let cxx = case.arguments.iter().any(|argument| argument.ends_with(".cc"));
        let driver = match (compiler.as_str(), cxx) {
            ("gcc", true) => "g++",
            ("clang", true) => "clang++",
            (name, _) => name,
        };
        any |= compare(scanner, directory, seed, driver, &case.arguments, sum);
    }
    any
}

fn compare(
    scanner: &mut Scanner,
    directory: &Path,
    seed: u64,
    driver: &str,
    arguments: &[String],
    sum: &mut Sum,
) -> bool {
    let mut argv = vec![Bytes::from(driver)];
    argv.extend(arguments.iter().map(|argument| Bytes::from(argument.as_str())));
    let env: Vec<Bytes> = std::env::vars_os()
        .filter(|(name, _)| name == "PATH")
        .map(|(_, value)| Bytes([b"PATH=", value.as_encoded_bytes()].concat()))
        .collect();
    let directory = directory.canonicalize().expect("the case's directory");
    let scan = scanner.scan_command(&argv, &Bytes::from(directory.as_path()), &env);
    let Some(listed) = dependencies(&directory, driver, arguments) else {
        sum.refused += 1;
        return false;
    };
    let scan = match scan {
        Ok(scan) => scan,
        Err(declined) => {
            *sum.declined.entry(declined.kind()).or_default() += 1;
            return false;
        }
    };
    let real = |files: &[Scanned]| -> BTreeSet<PathBuf> {
        files.iter().filter_map(|file| Bytes::from(&file.path[..]).as_path().canonicalize().ok()).collect()
    };
    let (files, probed) = (real(&scan.files), real(&scan.probed));
    let missing: Vec<_> = listed
        .difference(&files)
        .filter(|path| !driver.contains("clang") || !probed.contains(*path))
        .collect();
    let extra: Vec<_> = files.difference(&listed).collect();
    if missing.is_empty() && extra.is_empty() {
        sum.exact += 1;
        return false;
    }
    println!("seed {seed}: {driver} {}\n  missing {missing:?}\n  extra {extra:?}", arguments.join(" "));
    sum.wrong += 1;
    true
}

/// What `-M` lists; `None` if the compiler refuses.
fn dependencies(directory: &Path, driver: &str, arguments: &[String]) -> Option<BTreeSet<PathBuf>> {
    let run =
        Command::new(driver).args(arguments).args(["-w", "-M", "-MT", "x"]).current_dir(directory).output();
    let run = run.expect("the compiler runs");
    if !run.status.success() {
        return None;
    }
    let text = String::from_utf8(run.stdout).expect("names of the case are ASCII").replace("\\\n", " ");
    let (_, list) = text.split_once(':')?;
    list.split_whitespace().map(|name| directory.join(name).canonicalize().ok()).collect()
}
