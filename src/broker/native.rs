//! What options that mean "this machine" (`-march=native`) are as options that say which one.
//!
//! The driver is asked what it would run (`-###`), then whether it would run the same when it is given
//! that as options, or as a file of specs ([`specs`]). What it does not confirm is not used.

pub mod specs;
pub mod spelling;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::questions::question;
use crate::common::bytes::Bytes;

/// Answers that are remembered of one compiler; beyond it the memory starts afresh.
const REMEMBERED_MAX: usize = 64;

type Answers<T> = Mutex<HashMap<Vec<Bytes>, Option<T>>>;

/// What one compiler said, by the options it was asked about.
#[derive(Debug, Default)]
pub struct Natives {
    options: Answers<Vec<Bytes>>,
    specs: Answers<PathBuf>,
}

impl Natives {
    /// What `options` mean on this machine to `program`, among all that its command says of `machines`.
    /// Asked once. It is to stand before all other words.
    pub async fn expand(
        &self,
        program: &Path,
        clang: bool,
        options: &[Bytes],
        machines: &[Bytes],
    ) -> Option<Vec<Bytes>> {
        let key = if clang { machines } else { options };
        if let Some(known) = known(&self.options, key) {
            return known;
        }
        let expanded = match clang {
            true => ask_clang(program, options, machines).await,
            false => ask_gcc(program, options).await,
        };
        remember(&self.options, key, &expanded);
        expanded
    }

    /// A file in `folder` with which gcc at `program` runs what it runs here, where its command says this
    /// of `machines`. Made once, as long as it is there.
    pub async fn specs(&self, program: &Path, machines: &[Bytes], folder: &Path) -> Option<PathBuf> {
        let stands = |known: &Option<PathBuf>| known.as_ref().is_none_or(|path| path.is_file());
        if let Some(known) = known(&self.specs, machines).filter(stands) {
            return known;
        }
        let written = specs::write(program, machines, folder).await;
        remember(&self.specs, machines, &written);
        written
    }
}

fn known<T: Clone>(answers: &Answers<T>, key: &[Bytes]) -> Option<Option<T>> {
    answers.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
}

fn remember<T: Clone>(answers: &Answers<T>, key: &[Bytes], answer: &Option<T>) {
    let mut answers = answers.lock().unwrap_or_else(PoisonError::into_inner);
    if answers.len() >= REMEMBERED_MAX {
        answers.clear();
    }
    answers.insert(key.to_vec(), answer.clone());
}

async fn ask_gcc(program: &Path, options: &[Bytes]) -> Option<Vec<Bytes>> {
    let local = machine_options(&would_run(program, options).await?);
    let again = machine_options(&would_run(program, &local).await?);
    let sorted = |options: &[Bytes]| {
        let mut sorted = options.to_vec();
        sorted.sort();
        sorted
    };
    (sorted(&local) == sorted(&again)).then_some(local)
}

/// Features that the command names itself would have to come behind those of the machine, and these are
/// passed by the driver to the end: then nothing is said.
async fn ask_clang(program: &Path, options: &[Bytes], machines: &[Bytes]) -> Option<Vec<Bytes>> {
    let (local, alone) = Front::read(&would_run(program, options).await?);
    let (_, here) = Front::read(&would_run(program, machines).await?);
    let others = machines.iter().filter(|word| !options.contains(word));
    let elsewhere: Vec<Bytes> = local.iter().chain(others).cloned().collect();
    let (_, elsewhere) = Front::read(&would_run(program, &elsewhere).await?);
    (here == elsewhere && here.features == alone.features && !here.features.is_empty()).then_some(local)
}

/// The command line of the compiler proper, as the driver prints it.
async fn would_run(program: &Path, options: &[Bytes]) -> Option<String> {
    let mut arguments: Vec<&OsStr> = options.iter().map(Bytes::as_os_str).collect();
    arguments.extend(["-###", "-S", "-x", "c", "/dev/null", "-o", "native.s"].map(OsStr::new));
    let said = question(program, &arguments).await.ok()?.1;
    said.lines().find(|line| line.contains("cc1")).map(str::to_owned)
}

fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split_ascii_whitespace().map(|word| word.trim_matches('"'))
}

/// Picks `-m…` and `--param` options out of what gcc's driver would run.
fn machine_options(line: &str) -> Vec<Bytes> {
    let mut words = words(line);
    let mut options = Vec::new();
    while let Some(word) = words.next() {
        if word == "--param" {
            // The driver passes on as one word what it was given as two.
            let value = words.next();
            options.extend(value.map(|value| Bytes(format!("--param={value}").into_bytes())));
        } else if word.starts_with("-m") || word.starts_with("--param=") {
            options.push(Bytes::from(word));
        }
    }
    options
}

/// What clang's driver would run, with the machine's features apart.
#[derive(Debug, Default, PartialEq, Eq)]
struct Front {
    features: Vec<Bytes>,
    others: Vec<Bytes>,
}

impl Front {
    /// Reads a command line; also which options say what of it is about the machine. Not every feature
    /// has an option of the driver's own.
    fn read(line: &str) -> (Vec<Bytes>, Front) {
        let (mut options, mut front) = (Vec::new(), Front::default());
        let mut words = words(line);
        while let Some(word) = words.next() {
            let joined = |name: &str, value: &str| Bytes::from(format!("{name}{value}").as_str());
            let machine = matches!(word, "-target-cpu" | "-tune-cpu" | "-target-feature");
            let Some(value) = machine.then(|| words.next()).flatten() else {
                front.others.push(word.into());
                continue;
            };
            match word {
                "-target-feature" => {
                    front.features.push(value.into());
                    options.extend(["-Xclang", "-target-feature", "-Xclang", value].map(Bytes::from));
                    continue;
                }
                "-tune-cpu" => options.push(joined("-mtune=", value)),
                _ => options.push(joined("-march=", value)),
            }
            front.others.extend([word, value].map(Bytes::from));
        }
        (options, front)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_options_are_read_out_of_what_the_driver_would_run() {
        let line = r#" /usr/lib/cc1 -quiet a.c "-march=znver3" -mavx --param "l1-cache-size=32" -o x.s"#;
        let options: Vec<String> = machine_options(line).iter().map(Bytes::to_text).collect();
        assert_eq!(options, ["-march=znver3", "-mavx", "--param=l1-cache-size=32"]);
    }

    #[test]
    fn features_are_told_from_all_else() {
        let read = |line: &str| Front::read(line);
        let (options, front) =
            read(r#" "clang" "-cc1" "-target-cpu" "znver3" "-target-feature" "+avx" "-tune-cpu" "x" "-O2""#);
        let options: Vec<String> = options.iter().map(Bytes::to_text).collect();
        assert_eq!(options.join(" "), "-march=znver3 -Xclang -target-feature -Xclang +avx -mtune=x");
        let other = |line: &str| read(line).1;
        let here = r#"clang -cc1 -target-feature +avx -target-cpu znver3 -tune-cpu x -O2"#;
        assert_eq!(front, other(here));
        assert_ne!(front, other(&here.replace("+avx", "-avx")));
        assert_ne!(front, other(&here.replace("-tune-cpu x", "-tune-cpu y")));
    }
}
