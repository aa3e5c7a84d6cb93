//! What a driver says of itself that no header tells: its sub-programs and directories.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use tokio::task::JoinSet;

use super::layout::Layout;
use super::{NotClosed, Surroundings};
use crate::broker::questions::{program_places, question_in, search_directories};
use crate::common::bytes::Bytes;
use crate::common::program::candidates;
use crate::common::toolchain::read_banner;

/// Programs that gcc runs on the way to an object: compilers proper, the assembler, the one that
/// splits debug information off; and those whose presence it tells in `-v` and to its children.
pub const GCC_PROGRAMS: [&str; 8] =
    ["cc1", "cc1plus", "cc1obj", "cc1objplus", "as", "objcopy", "collect2", "lto-wrapper"];
/// Those that clang runs when it does not assemble itself.
const CLANG_PROGRAMS: [&str; 2] = ["as", "objcopy"];

/// What a driver was asked, and said.
#[derive(Clone, Debug)]
pub struct Answers {
    /// The driver.
    pub program: PathBuf,
    /// Whether it is clang.
    pub clang: bool,
    /// Questions without their `-print-`, and what was printed.
    said: Vec<(String, Bytes)>,
    /// What `-v` prints on stderr.
    pub banner: Bytes,
}

impl Answers {
    /// Asks the driver at `program`.
    ///
    /// # Errors
    ///
    /// [`NotClosed::Silent`] if it does not answer.
    pub async fn ask(program: &Path, clang: bool, around: &Surroundings) -> Result<Self, NotClosed> {
        let mut asked = JoinSet::new();
        for question in questions(clang) {
            let (program, around) = (program.to_owned(), around.clone());
            asked.spawn(async move {
                let argument = if question == "v" { "-v".to_owned() } else { format!("-print-{question}") };
                let environment =
                    [("PATH", around.path.as_os_str()), ("LD_LIBRARY_PATH", around.library_path.as_os_str())];
                let answer = question_in(&program, &[OsStr::new(&argument)], &environment).await;
                answer.map(|(out, err)| (question, out, err)).map_err(|why| NotClosed::Silent {
                    program: Bytes::from(program.as_path()),
                    what: argument,
                    why,
                })
            });
        }
        let mut answers =
            Answers { program: program.to_owned(), clang, said: Vec::new(), banner: Bytes::default() };
        while let Some(answer) = asked.join_next().await {
            let lost = |_| NotClosed::Changing { path: Bytes::from(program) };
            let (question, out, err) = answer.map_err(lost)??;
            if question == "v" {
                answers.banner = err;
            } else {
                answers.said.push((question, out.strip_suffix(b"\n").unwrap_or(&out).into()));
            }
        }
        Ok(answers)
    }

    /// The answer to a question without its `-print-`; empty if it was not asked.
    pub fn to(&self, question: &str) -> &[u8] {
        let found = self.said.iter().find(|(asked, _)| asked == question);
        found.map(|(_, said)| &said[..]).unwrap_or_default()
    }

    /// The sub-programs that exist, by name and path. Those that the driver would look for on
    /// `PATH` are looked for there; what appears before them later is watched for.
    pub fn programs(&self, layout: &mut Layout, around: &Surroundings) -> Vec<(&'static str, PathBuf)> {
        let names: &[&'static str] = if self.clang { &CLANG_PROGRAMS } else { &GCC_PROGRAMS };
        let (mut found, target) = (Vec::new(), self.target());
        for &name in names {
            let places = program_places(self.to("search-dirs"), &target, name, &around.path);
            places.iter().for_each(|place| layout.watch(place));
            let said = Bytes::from(self.to(&format!("prog-name={name}")));
            // What is relative was made absolute, where anything is there (`Surroundings::of`).
            if said.is_empty() {
                continue;
            }
            let places = candidates(&said, &around.path).filter(|place| place.starts_with(b"/"));
            for place in places {
                let place = place.as_path().to_owned();
                if place.is_file() {
                    found.push((name, place));
                    break;
                }
                layout.watch(&place);
            }
        }
        found
    }

    /// The target, as names of programs begin with it.
    fn target(&self) -> String {
        if self.clang {
            return read_banner(&String::from_utf8_lossy(&self.banner))
                .map(|banner| banner.target)
                .unwrap_or_default();
        }
        let installs = self.directories("install");
        let machine = installs.first().and_then(|install| install.parent()).and_then(Path::file_name);
        machine.unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The directories in a line `NAME: =A:B:…` of what `-print-search-dirs` prints.
    pub fn directories(&self, name: &str) -> Vec<PathBuf> {
        let named = search_directories(self.to("search-dirs"), name);
        named.map(|folder| Bytes::from(folder).as_path().to_owned()).collect()
    }
}

fn questions(clang: bool) -> Vec<String> {
    let names: &[&str] = if clang { &CLANG_PROGRAMS } else { &GCC_PROGRAMS };
    let mut questions: Vec<String> = names.iter().map(|name| format!("prog-name={name}")).collect();
    questions.push("search-dirs".to_owned());
    let more: &[&str] =
        if clang { &["resource-dir", "v"] } else { &["file-name=liblto_plugin.so", "sysroot"] };
    questions.extend(more.iter().map(|question| (*question).to_owned()));
    questions
}
