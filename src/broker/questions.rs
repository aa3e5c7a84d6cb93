//! What a driver says: where a job's own command would run with the job's own words, or by itself.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::process::Command;
use tokio::time::timeout;

use super::family;
use super::toolchain::QUESTION_TIMEOUT;
use crate::common::bytes::Bytes;
use crate::common::invocation::Invocation;

/// What a driver printed.
pub struct Answer {
    /// On stdout, without the newline at its end.
    pub out: Bytes,
    /// On stderr, in English.
    pub err: Bytes,
}

/// Asks a driver something in addition to the words of a command; `None` when it fails.
pub async fn ask(program: &Path, words: &[Bytes], invocation: &Invocation, question: &str) -> Option<Answer> {
    let mut command = Command::new(program);
    let pairs = invocation.env.iter().filter_map(|entry| {
        let at = entry.iter().position(|&byte| byte == b'=')?;
        Some((Bytes::from(&entry[..at]), Bytes::from(&entry[at + 1..])))
    });
    command.env_clear();
    for (name, value) in pairs {
        command.env(name.as_os_str(), value.as_os_str());
    }
    command.env("LC_ALL", "C");
    command.args(words.iter().skip(1).map(Bytes::as_os_str)).arg(OsStr::new(question));
    command.current_dir(invocation.cwd.as_path()).stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(QUESTION_TIMEOUT, family::output(&mut command)).await.ok()?.ok()?;
    let out = output.stdout.strip_suffix(b"\n").unwrap_or(&output.stdout);
    output.status.success().then(|| Answer { out: out.into(), err: output.stderr.into() })
}

/// Runs the compiler with `arguments` and gives its stdout and stderr, as far as they are text.
///
/// # Errors
///
/// Why there is no answer.
pub(super) async fn question(program: &Path, arguments: &[&OsStr]) -> Result<(String, String), String> {
    let (out, err) = question_in(program, arguments, &[]).await?;
    Ok((text(&out), text(&err)))
}

/// As [`question`], with variables of the environment besides the broker's own; in bytes, as paths are.
///
/// # Errors
///
/// Why there is no answer.
pub(super) async fn question_in(
    program: &Path,
    arguments: &[&OsStr],
    environment: &[(&str, &OsStr)],
) -> Result<(Bytes, Bytes), String> {
    answer_in(program, arguments, environment).await.and_then(succeeded)
}

/// As [`question_in`], whether the driver fails or not.
///
/// # Errors
///
/// Why there is no answer.
pub(super) async fn answer_in(
    program: &Path,
    arguments: &[&OsStr],
    environment: &[(&str, &OsStr)],
) -> Result<Output, String> {
    let mut command = Command::new(program);
    command.envs(environment.iter().copied());
    command.args(arguments).env("LC_ALL", "C").stdin(Stdio::null()).kill_on_drop(true).current_dir("/");
    match timeout(QUESTION_TIMEOUT, family::output(&mut command)).await {
        Err(_) => Err(format!("does not answer within {}s", QUESTION_TIMEOUT.as_secs())),
        Ok(output) => output.map_err(|error| error.to_string()),
    }
}

/// What was printed on stdout and stderr, unless the driver failed: what it says then is not what it says when
/// nothing is wrong.
///
/// # Errors
///
/// Says so.
pub(super) fn succeeded(output: Output) -> Result<(Bytes, Bytes), String> {
    if output.status.success() {
        return Ok((output.stdout.into(), output.stderr.into()));
    }
    let said = text(&output.stderr);
    let error = said.lines().find(|line| line.contains("error")).or_else(|| said.lines().next_back());
    Err(format!("fails when it is asked ({}): {}", output.status, error.unwrap_or_default()))
}

/// Whether nothing but the compiler, what is said of the machine, and files of specs decide where it looks.
pub fn is_plain(words: &[Bytes], invocation: &Invocation) -> bool {
    let moves = |word: &Bytes| {
        let options = [&b"-B"[..], b"--sysroot", b"--prefix", b"-isysroot", b"--gcc"];
        options.iter().any(|option| word.starts_with(option))
    };
    let is_empty = |name: &&str| invocation.variable(name).is_none_or(<[u8]>::is_empty);
    !words.iter().any(moves) && ["LIBRARY_PATH", "GCC_EXEC_PREFIX", "COMPILER_PATH"].iter().all(is_empty)
}

/// What words say of the machine.
pub fn machines(words: &[Bytes]) -> Vec<Bytes> {
    words.iter().filter(|word| word.starts_with(b"-m")).cloned().collect()
}

/// The options with files of specs among words.
pub fn specs(words: &[Bytes]) -> Vec<Bytes> {
    let mut rest = words.iter();
    let mut found = Vec::new();
    while let Some(word) = rest.next() {
        if matches!(&word[..], b"-specs" | b"--specs") {
            found.extend([word.clone()].into_iter().chain(rest.next().cloned()));
        } else if word.starts_with(b"-specs=") || word.starts_with(b"--specs=") {
            found.push(word.clone());
        }
    }
    found
}

/// The folders in a line `NAME: =A:B:…` of what `-print-search-dirs` prints.
pub fn search_directories<'a>(answer: &'a [u8], name: &str) -> impl Iterator<Item = &'a [u8]> {
    let mut lines = answer.split(|&byte| byte == b'\n');
    let start = [name.as_bytes(), b": "].concat();
    let list = lines.find_map(|line| line.strip_prefix(&start[..])).unwrap_or_default();
    let list = list.strip_prefix(b"=").unwrap_or(list);
    list.split(|&byte| byte == b':').filter(|folder| folder.starts_with(b"/"))
}

/// Where a driver for `target` looks for a program before it takes the one of this name on `PATH`: in the folders that
/// `-print-search-dirs` printed, Debian's gcc and clang for the target's own first (`x86_64-linux-gnu-as`); for that one,
/// clang on all of `PATH`, too.
pub fn program_places(answer: &[u8], target: &str, name: &str, path: &[u8]) -> Vec<PathBuf> {
    let prefixed = format!("{target}-{name}");
    let named =
        search_directories(answer, "programs").flat_map(|folder| [(folder, &prefixed[..]), (folder, name)]);
    let on_path = path.split(|&byte| byte == b':').filter(|folder| folder.starts_with(b"/"));
    let all = named.chain(on_path.map(|folder| (folder, &prefixed[..])));
    let mut places: Vec<PathBuf> =
        all.map(|(folder, name)| Bytes::from(folder).as_path().join(name)).collect();
    // gcc names a folder once for each reason to look into it.
    places.sort_unstable();
    places.dedup();
    places
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_with_specs_are_found_in_both_ways() {
        let words: Vec<Bytes> =
            "gcc -specs=a -c --specs b x.c -specs c -specsx --specs".split(' ').map(Bytes::from).collect();
        let expected: Vec<Bytes> =
            "-specs=a --specs b -specs c --specs".split(' ').map(Bytes::from).collect();
        assert_eq!(specs(&words), expected);
    }

    #[test]
    fn directories_are_read_as_bytes() {
        let answer = b"install: /i/\nprograms: =/p\nlibraries: =/a/:/b\xff/../:rel:/c\n";
        let found: Vec<&[u8]> = search_directories(answer, "libraries").collect();
        assert_eq!(found, [&b"/a/"[..], b"/b\xff/../", b"/c"]);
        assert_eq!(search_directories(answer, "install").collect::<Vec<_>>(), [b"/i/"]);
        assert_eq!(search_directories(b"", "install").count(), 0);
    }

    #[test]
    fn programs_may_come_to_be_in_each_folder_by_two_names() {
        let answer = b"programs: =/a/:/b/../c/:/a/\nlibraries: =/d/\n";
        let expected = ["/a/as", "/a/t-as", "/b/../c/as", "/b/../c/t-as", "/p/t-as"].map(PathBuf::from);
        assert_eq!(program_places(answer, "t", "as", b"rel:/p:"), expected);
    }

    /// What clang said with a broken configuration file, which was no word of that file, was taken for all that it is made
    /// of until the program was another one.
    #[tokio::test]
    async fn a_driver_that_fails_when_it_is_asked_has_said_nothing() {
        let ask = async |script| question(Path::new("/bin/sh"), &["-c", script].map(OsStr::new)).await;
        assert_eq!(ask("echo said >&2").await, Ok((String::new(), "said\n".to_owned())));
        let why = ask("echo error: no >&2; echo said >&2; exit 3").await.expect_err("it fails");
        assert!(why.contains('3') && why.ends_with(": error: no"), "{why}");
    }
}
