//! Runs a generated case through the scanner and a compiler.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use distcc::broker::scan::{Declined, Scan, Scanned, Scanner};
use distcc::common::bytes::Bytes;

use super::generate;

/// clang's preprocessor and its `-M`, for many sources in one process: a tenth of clang's cost.
pub const SCAN_DEPS: &str = "clang-scan-deps-14";

/// What came out so far.
#[derive(Debug, Default)]
pub struct Sum {
    /// Equal answers.
    pub exact: usize,
    /// Different answers.
    pub wrong: usize,
    /// Cases that the compiler refused.
    pub refused: usize,
    /// Cases in which clang itself was asked after clang-scan-deps.
    pub asked_again: usize,
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
            ("clang" | SCAN_DEPS, true) => "clang++",
            (SCAN_DEPS, false) => "clang",
            (name, _) => name,
        };
        let listed = match compiler.as_str() {
            SCAN_DEPS => dependencies_at_once(&directory, driver, &case),
            _ => dependencies(&directory, driver, &case),
        };
        for source in &case.sources {
            let command: Vec<&str> = [driver]
                .into_iter()
                .chain(case.arguments.iter().map(String::as_str))
                .chain([&source[..]])
                .collect();
            let Some(mut list) = listed.get(source.split_once('.').expect("an ending").0).cloned() else {
                sum.refused += 1;
                continue;
            };
            if compiler == SCAN_DEPS && !is_equal(scanner, &directory, &command, &list) {
                // It takes a file for another at times; clang itself has the last word.
                let alone = generate::Case { sources: vec![source.clone()], ..case.clone() };
                list = dependencies(&directory, driver, &alone).into_values().next().unwrap_or_default();
                sum.asked_again += 1;
            }
            compare(scanner, &directory, &command, &list, seed, sum);
        }
    }
    sum.wrong > before
}

fn scan(scanner: &mut Scanner, directory: &Path, command: &[&str]) -> Result<Scan, Declined> {
    let argv: Vec<Bytes> = command.iter().map(|word| Bytes::from(*word)).collect();
    let env: Vec<Bytes> = std::env::vars_os()
        .filter(|(name, _)| name == "PATH")
        .map(|(_, value)| Bytes([b"PATH=", value.as_encoded_bytes()].concat()))
        .collect();
    scanner.scan_command(&argv, &Bytes::from(directory), &env)
}

/// What is listed and not scanned, and what is scanned and not listed.
fn differences(scan: &Scan, command: &[&str], listed: &BTreeSet<PathBuf>) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let real = |files: &[Scanned]| -> BTreeSet<PathBuf> {
        files.iter().filter_map(|file| Bytes::from(&file.path[..]).as_path().canonicalize().ok()).collect()
    };
    let (files, probed) = (real(&scan.files), real(&scan.probed));
    // clang lists what `__has_include` finds, too.
    let asked = |path: &&PathBuf| command[0].contains("clang") && probed.contains(*path);
    let missing = listed.difference(&files).filter(|path| !asked(path)).cloned().collect();
    (missing, files.difference(listed).cloned().collect())
}

/// Whether the scanner says the same, or declines.
fn is_equal(scanner: &mut Scanner, directory: &Path, command: &[&str], listed: &BTreeSet<PathBuf>) -> bool {
    let Ok(scan) = scan(scanner, directory, command) else { return true };
    let (missing, extra) = differences(&scan, command, listed);
    missing.is_empty() && extra.is_empty()
}

fn compare(
    scanner: &mut Scanner,
    directory: &Path,
    command: &[&str],
    listed: &BTreeSet<PathBuf>,
    seed: u64,
    sum: &mut Sum,
) {
    let scan = match scan(scanner, directory, command) {
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
    let (missing, extra) = differences(&scan, command, listed);
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

/// What `-M` lists for each source that the compiler does not refuse. The driver is asked once what it
/// would run, and that is then run for each source: drivers take longer than what they start.
fn dependencies(
    directory: &Path,
    driver: &str,
    case: &generate::Case,
) -> BTreeMap<String, BTreeSet<PathBuf>> {
    let Some(first) = case.sources.first() else { return BTreeMap::new() };
    let mut command = Command::new(driver);
    command.args(&case.arguments).args(["-w", "-M", "-###", first]).current_dir(directory);
    let told = command.env("LC_ALL", "C").output().expect("the driver runs").stderr;
    let told = String::from_utf8(told).expect("names of the case are ASCII");
    let line = told.lines().rfind(|line| line.contains("cc1")).expect("the driver runs its compiler");
    let words = unquoted(line);
    let mut lists = BTreeMap::new();
    for source in &case.sources {
        let mut run = Command::new(&words[0]);
        run.args(words[1..].iter().map(|word| if word == first { source } else { word }));
        let run = run.current_dir(directory).output().expect("the compiler runs");
        if run.status.success() {
            let text =
                String::from_utf8(run.stdout).expect("names of the case are ASCII").replace("\\\n", " ");
            let (_, list) = text.split_once(".o:").expect("a rule");
            let real = |name| directory.join(name).canonicalize().expect("a file that was read");
            let stem = source.split_once('.').expect("an ending").0;
            lists.insert(stem.to_owned(), list.split_whitespace().map(real).collect());
        }
    }
    lists
}

/// The same as `clang -M` says it, from one process.
fn dependencies_at_once(
    directory: &Path,
    driver: &str,
    case: &generate::Case,
) -> BTreeMap<String, BTreeSet<PathBuf>> {
    let entry = |source: &String| {
        let arguments: Vec<&str> =
            [driver, "-w"].into_iter().chain(case.arguments.iter().map(String::as_str)).collect();
        let (stem, _) = source.split_once('.').expect("an ending");
        let object = format!("{stem}.o");
        let arguments = [&arguments[..], &[source, "-o", &object]].concat();
        serde_json::json!({"directory": directory, "file": source, "arguments": arguments})
    };
    let entries: Vec<_> = case.sources.iter().map(entry).collect();
    let database = directory.join("commands.json");
    std::fs::write(&database, serde_json::Value::from(entries).to_string()).expect("a database");
    let mut command = Command::new(SCAN_DEPS);
    command.args(["-j", "1", "-mode", "preprocess", "-compilation-database"]).arg(&database);
    let run = command.current_dir(directory).output().expect("clang-scan-deps runs");
    let text = String::from_utf8(run.stdout).expect("names of the case are ASCII").replace("\\\n", " ");
    let rules = text.lines().filter_map(|line| line.split_once(".o:"));
    let real = |name| directory.join(name).canonicalize().expect("a file that was read");
    rules.map(|(name, list)| (name.to_owned(), list.split_whitespace().map(real).collect())).collect()
}

/// The words of a command as drivers print it: quoted where that is needed, or always.
fn unquoted(line: &str) -> Vec<String> {
    let (mut words, mut word, mut is_quoted, mut is_escaped) = (Vec::new(), None::<String>, false, false);
    for letter in line.chars() {
        match letter {
            _ if is_escaped => {
                word.get_or_insert_default().push(letter);
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            '"' => {
                word.get_or_insert_default();
                is_quoted = !is_quoted;
            }
            ' ' if !is_quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}
