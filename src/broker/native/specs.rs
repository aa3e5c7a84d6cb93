//! This machine as a file of specs, by which gcc's driver runs the very command of a compile here.
//!
//! Where gcc's options are noted (debug information, `-frecord-gcc-switches`, `-flto`), their order counts, and
//! what the driver finds out about the machine stands where no option can put it. So the driver is given its own
//! specs with the answers in the place of the questions. What it would run with these is compared with what it
//! runs without, word for word.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::would_run;
use crate::broker::questions::question;
use crate::common::bytes::Bytes;

/// What begins a question about this machine in gcc's specs.
const QUESTION: &str = "%:local_cpu_detect(";

/// Questions in the specs of one compiler.
const QUESTIONS_MAX: usize = 8;

/// A file in `folder` that says what gcc at `program` finds out about this machine where a command has these
/// `machines` in it. `None` where the driver does not confirm it.
pub async fn write(program: &Path, machines: &[Bytes], folder: &Path) -> Option<PathBuf> {
    let dumped = question(program, &[OsStr::new("-dumpspecs")]).await.ok()?.0;
    let processor = Processor::read(&dumped)?;
    let mut marked = tempfile::Builder::new().prefix("native.").tempfile().ok()?;
    marked.write_all(processor.marked().as_bytes()).ok()?;
    let here = would_run(program, &with_specs(marked.path(), machines)).await?;
    let specs = processor.answered(&here)?;
    let path = keep(folder, &specs)?;
    let elsewhere = would_run(program, &with_specs(&path, machines)).await?;
    (elsewhere == would_run(program, machines).await?).then_some(path)
}

/// The option that names such a file.
pub fn option(file: &Path) -> Bytes {
    Bytes([b"-specs=", file.as_os_str().as_bytes()].concat())
}

fn with_specs(file: &Path, machines: &[Bytes]) -> Vec<Bytes> {
    [option(file)].into_iter().chain(machines.iter().cloned()).collect()
}

/// Writes a text into a file that is named after it, whole or not at all.
fn keep(folder: &Path, text: &str) -> Option<PathBuf> {
    let path = folder.join(format!("{}.specs", blake3::hash(text.as_bytes()).to_hex()));
    if fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
        return Some(path);
    }
    fs::create_dir_all(folder).ok()?;
    let mut file = tempfile::NamedTempFile::new_in(folder).ok()?;
    file.write_all(text.as_bytes()).ok()?;
    file.persist(&path).ok()?;
    Some(path)
}

/// The spec of the processor, cut at its questions: text, question, text, … text.
#[derive(Debug, PartialEq, Eq)]
struct Processor<'a> {
    pieces: Vec<&'a str>,
}

impl<'a> Processor<'a> {
    /// Reads all of a driver's specs. Questions elsewhere than in that of the processor have no answer here.
    fn read(dumped: &'a str) -> Option<Self> {
        let text = dumped.split_once("*cc1_cpu:\n")?.1.split("\n\n").next()?;
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(QUESTION) {
            let length = rest[at..].find(')')? + 1;
            pieces.extend([&rest[..at], &rest[at..at + length]]);
            rest = &rest[at + length..];
        }
        pieces.push(rest);
        let questions = pieces.len() / 2;
        let whole = dumped.matches("cpu_detect").count() + dumped.matches("native(").count() == questions;
        (whole && (1..=QUESTIONS_MAX).contains(&questions)).then_some(Processor { pieces })
    }

    fn with(&self, mut answer: impl FnMut(usize, &str) -> String) -> String {
        let mut text = "*cc1_cpu:\n".to_owned();
        for (at, piece) in self.pieces.iter().enumerate() {
            match at % 2 {
                0 => text.push_str(piece),
                _ => text.push_str(&answer(at / 2, piece)),
            }
        }
        text + "\n\n"
    }

    /// The spec with a mark on each side of each question.
    fn marked(&self) -> String {
        self.with(|number, question| format!("{} {question} {}", mark("begin", number), mark("end", number)))
    }

    /// The spec with answers out of the line that the marked one leads to. A question that was not asked
    /// is not asked elsewhere either.
    fn answered(&self, line: &str) -> Option<String> {
        let mut answers = Vec::new();
        for number in 0..self.pieces.len() / 2 {
            let (begin, end) = (mark("begin", number), mark("end", number));
            let answer = line.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
            let words: Vec<&str> = answer.map_or("", |(words, _)| words).split_ascii_whitespace().collect();
            let words: Vec<&str> = words.iter().map(|word| word.trim_matches('"')).collect();
            if !words.iter().all(|word| is_plain(word)) {
                return None;
            }
            answers.push(words.join(" "));
        }
        let asked = answers.iter().any(|answer| !answer.is_empty());
        asked.then(|| self.with(|number, _| answers[number].clone()))
    }
}

fn mark(side: &str, number: usize) -> String {
    format!("-fdistcc-{side}-{number}.")
}

/// Whether a word means itself in a spec, and in the line that the driver prints.
fn is_plain(word: &str) -> bool {
    word.starts_with("-") && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-+=_.".contains(&byte))
        || word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-=_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMPED: &str = "*cpp:\n%{posix:-D_POSIX}\n\n*cc1_cpu:\n%{march=native:%>march=native \
        %:local_cpu_detect(arch %{!m32:64;:32})} %{mtune=native:%:local_cpu_detect(tune)}\n\n*link:\n\n";

    #[test]
    fn what_was_asked_is_answered_in_its_place() {
        let processor = Processor::read(DUMPED).expect("two questions");
        let marked = processor.marked();
        assert!(
            marked.contains("-fdistcc-begin-0. %:local_cpu_detect(arch %{!m32:64;:32}) -fdistcc-end-0.}")
        );
        let line =
            r#"cc1 -fdistcc-begin-0. "-march=znver3" --param "l1-cache-size=32" -fdistcc-end-0. -quiet"#;
        let expected = "*cc1_cpu:\n%{march=native:%>march=native -march=znver3 --param l1-cache-size=32} \
            %{mtune=native:}\n\n";
        assert_eq!(processor.answered(line).as_deref(), Some(expected));
    }

    #[test]
    fn what_is_no_answer_is_not_written_down() {
        let processor = Processor::read(DUMPED).expect("two questions");
        for answer in ["", "%{x}", "\"a b\" $HOME", "a;b"] {
            let line = format!("cc1 -fdistcc-begin-0. {answer} -fdistcc-end-0. -quiet");
            assert_eq!(processor.answered(&line), None, "{answer}");
        }
        assert_eq!(Processor::read("*cc1_cpu:\n%{m32:x}\n\n"), None);
        let elsewhere = DUMPED.replace("-D_POSIX", "%:local_cpu_detect(arch)");
        assert_eq!(Processor::read(&elsewhere), None);
    }
}
