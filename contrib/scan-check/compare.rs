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

/// Writes the case of `seed` into `directory`, compares each of so many sources for each compiler;
/// returns whether any answer was wrong.
pub fn run(
    scanner: &mut Scanner,
    directory: &Path,
    seed: u64,
    sources: usize,
    compilers: &[String],
    sum: &mut Sum,
) -> bool {
    let case = generate::case(seed, sources);
    for (name, text) in &case.files {
        let path = directory.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("a directory for the case");
        }
        std::fs::write(path, text).expect("a file of the case");
    }
    let directory = directory.canonicalize().expect("the case's directory");
    let before = sum.wrong;
    for compiler in compilers {
        let cxx = case.sources.iter().any(|source| source.ends_with(".cc"));
        let driver = match (compiler.as_str(), cxx) {
            ("gcc", true) => "g++",
            ("clang", true) => "clang++",
            (name, _) => name,
        };
        let listed = dependencies(&directory, driver, &case);
        for source in &case.sources {
            let command: Vec<&str> = [driver]
                .into_iter()
                .chain(case.arguments.iter().map(String::as_str))
                .chain([&source[..]])
                .collect();
            match listed.get(source.split_once('.').expect("an ending").0) {
                Some(listed) => compare(scanner, &directory, &command, listed, seed, sum),
                None => sum.refused += 1,
            }
        }
    }
    sum.wrong > before
}

fn compare(
    scanner: &mut Scanner,
    directory: &Path,
    command: &[&str],
    listed: &BTreeSet<PathBuf>,
    seed: u64,
    sum: &mut Sum,
) {
    let argv: Vec<Bytes> = command.iter().map(|word| Bytes::from(*word)).collect();
    let env: Vec<Bytes> = std::env::vars_os()
        .filter(|(name, _)| name == "PATH")
        .map(|(_, value)| Bytes([b"PATH=", value.as_encoded_bytes()].concat()))
        .collect();
    let scan = match scanner.scan_command(&argv, &Bytes::from(directory), &env) {
        Ok(scan) => scan,
        // Of a run over several sources one does not know which it refused.
        Err(_) if !is_accepted(directory, command) => {
            sum.refused += 1;
            return;
        }
        Err(declined) => {
            *sum.declined.entry(declined.kind()).or_default() += 1;
            return;
        }
    };
    let real = |files: &[Scanned]| -> BTreeSet<PathBuf> {
        files.iter().filter_map(|file| Bytes::from(&file.path[..]).as_path().canonicalize().ok()).collect()
    };
    let (files, probed) = (real(&scan.files), real(&scan.probed));
    // clang lists what `__has_include` finds, too.
    let asked = |path: &&PathBuf| command[0].contains("clang") && probed.contains(*path);
    let missing: Vec<_> = listed.difference(&files).filter(|path| !asked(path)).collect();
    let extra: Vec<_> = files.difference(listed).collect();
    if missing.is_empty() && extra.is_empty() {
        sum.exact += 1;
        return;
    }
    println!("seed {seed}: {}\n  missing {missing:?}\n  extra {extra:?}", command.join(" "));
    sum.wrong += 1;
}

fn is_accepted(directory: &Path, command: &[&str]) -> bool {
    let mut run = Command::new(command[0]);
    run.args(&command[1..]).args(["-w", "-M"]).current_dir(directory);
    run.output().expect("the compiler runs").status.success()
}

/// What `-M` lists for each source that the compiler does not refuse.
fn dependencies(
    directory: &Path,
    driver: &str,
    case: &generate::Case,
) -> BTreeMap<String, BTreeSet<PathBuf>> {
    let mut command = Command::new(driver);
    command.args(&case.arguments).args(["-w", "-M"]).args(&case.sources).current_dir(directory);
    let run = command.output().expect("the compiler runs");
    let text = String::from_utf8(run.stdout).expect("names of the case are ASCII").replace("\\\n", " ");
    let rules = text.lines().filter_map(|line| line.split_once(".o:"));
    let real = |name| directory.join(name).canonicalize().expect("a file that was read");
    rules.map(|(name, list)| (name.to_owned(), list.split_whitespace().map(real).collect())).collect()
}
