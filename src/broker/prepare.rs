//! Preprocessed mode: runs the compiler's `-E` and makes its text a blob.
//!
//! The preprocessor writes into memory files, not pipes: the broker is woken once, when it ends,
//! instead of for every 4 kB.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use tokio::process::Command;
use tokio::time::{Instant, interval, timeout_at};

use super::family::{self, Family};
use super::link::PackedBlob;
use super::markers::leading_includes;
use super::plain_file;
use super::sets::FileSet;
use super::text::{Markers, pack};
use crate::common::bytes::Bytes;
use crate::common::classify::{CompileJob, Language, PreprocessArgument};
use crate::common::invocation::Invocation;
use crate::common::limits::{MESSAGES_MAX_BYTES, PREPROCESSED_MAX_BYTES};
use crate::common::reason::{LocalReason, TextRule};

/// How long preprocessing may take before the job is left to the compiler itself. Longer than any
/// real translation unit takes on a loaded machine, short of for ever.
const PREPROCESS_TIMEOUT: Duration = Duration::from_secs(600);

/// How often a preprocessor that runs on is looked at for how much it has written.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// A job's inputs, ready to be sent.
#[derive(Debug)]
pub struct Prepared {
    /// The preprocessed text.
    pub input: PackedBlob,
    /// What the preprocessor printed on stderr: a local compile prints the same.
    pub stderr: Vec<u8>,
    /// The dependency file's contents, when one was asked for.
    pub dependencies: Option<Vec<u8>>,
    /// In place of the text, all that the compile reads; `input` has its digest alone.
    pub set: Option<Arc<FileSet>>,
}

/// Where preprocessing happens.
pub struct Workshop<'a> {
    /// The compiler's program.
    pub program: &'a Path,
    /// Whether that is clang.
    pub clang: bool,
    /// A directory of the broker's own, for the dependency file.
    pub scratch: &'a Path,
}

/// Makes a job's inputs ready.
///
/// # Errors
///
/// Returns why the job must be compiled here.
pub async fn prepare(
    workshop: Workshop<'_>,
    invocation: &Invocation,
    job: &CompileJob,
) -> Result<Prepared, LocalReason> {
    if job.preprocessed {
        return read_source(invocation, job).await;
    }
    let dependencies = match &job.dependencies {
        Some(_) => {
            let mut builder = tempfile::Builder::new();
            Some(builder.prefix("deps-").tempfile_in(workshop.scratch).map_err(broker)?)
        }
        None => None,
    };
    let (text, messages) = (memory_file()?, memory_file()?);
    let mut command = command(workshop.program, invocation);
    add_arguments(&mut command, job, dependencies.as_ref().map(tempfile::NamedTempFile::path));
    command.stdout(text.try_clone().map_err(broker)?).stderr(messages.try_clone().map_err(broker)?);
    let child = family::spawn(&mut command).map_err(broker)?;
    drop(command);
    if !watch(child, &text, &messages).await?.success() {
        return Err(LocalReason::PreprocessorFailed);
    }
    check_precompiled(&text, invocation)?;
    let stderr = contents(&messages, MESSAGES_MAX_BYTES).map_err(broker)?;
    if invocation.terminal.is_some() && !stderr.is_empty() {
        return Err(LocalReason::PreprocessorDiagnostics);
    }
    let dependencies = match dependencies {
        Some(file) => Some(std::fs::read(file.path()).map_err(broker)?),
        None => None,
    };
    // A compile of C++ does not follow them, either: it has read all of its source by then.
    let passes_over = !workshop.clang && matches!(job.language, Language::C | Language::ObjC);
    Ok(Prepared {
        input: pack(text, Markers::Trusted { passes_over }).await?,
        stderr,
        dependencies,
        set: None,
    })
}

/// How much of a text is looked at for the files that it begins with.
const BEGINNING_MAX_BYTES: u64 = 64 << 10;

/// Refuses a text in place of whose first headers a compile would take a precompiled one, which may
/// say something else. `-E` never does.
fn check_precompiled(text: &File, invocation: &Invocation) -> Result<(), LocalReason> {
    let beginning = contents(text, BEGINNING_MAX_BYTES).map_err(broker)?;
    let cwd = invocation.cwd.as_path();
    match leading_includes(&beginning).iter().any(|header| has_precompiled(&cwd.join(header.as_path()))) {
        true => Err(LocalReason::Text { why: TextRule::PrecompiledHeader }),
        false => Ok(()),
    }
}

/// Whether a compiler would take a precompiled header in place of this one (gcc's `.gch`, clang's
/// `.pch`).
pub fn has_precompiled(header: &Path) -> bool {
    ["gch", "pch"].into_iter().any(|suffix| {
        let mut name = header.as_os_str().to_owned();
        name.push(".");
        name.push(suffix);
        Path::new(&name).exists()
    })
}

/// Keeps the text in `TMPDIR`, as `distcc_XXXXXX.i` or `.ii`, for whoever wants to look at it
/// (`DISTCC_SAVE_TEMPS`).
pub fn save(prepared: &Prepared, job: &CompileJob, invocation: &Invocation) {
    let directory = invocation.variable("TMPDIR").filter(|path| !path.is_empty()).unwrap_or(b"/tmp");
    let suffix = if job.language == Language::Cxx { ".ii" } else { ".i" };
    let kept = tempfile::Builder::new()
        .prefix("distcc_")
        .suffix(suffix)
        .disable_cleanup(true)
        .tempfile_in(Bytes::from(directory).as_path())
        .and_then(|mut file| zstd::stream::copy_decode(&prepared.input.bytes[..], &mut file));
    if let Err(error) = kept {
        tracing::warn!(%error, "a preprocessed text was not kept");
    }
}

/// Runs the compiler with these words in English; what it wrote to stdout and to stderr.
///
/// # Errors
///
/// Returns why there is nothing: it failed, or took or wrote too much.
pub async fn run_quietly(
    program: &Path,
    words: &[Bytes],
    invocation: &Invocation,
) -> Result<(Vec<u8>, Vec<u8>), LocalReason> {
    let (text, messages) = (memory_file()?, memory_file()?);
    let mut command = command(program, invocation);
    command.args(words.iter().map(|word| word.as_os_str())).env("LC_ALL", "C");
    command.env_remove("DEPENDENCIES_OUTPUT").env_remove("SUNPRO_DEPENDENCIES");
    command.stdout(text.try_clone().map_err(broker)?).stderr(messages.try_clone().map_err(broker)?);
    let child = family::spawn(&mut command).map_err(broker)?;
    drop(command);
    if !watch(child, &text, &messages).await?.success() {
        return Err(LocalReason::PreprocessorFailed);
    }
    let all = |file: &File| contents(file, PREPROCESSED_MAX_BYTES).map_err(broker);
    Ok((all(&text)?, all(&messages)?))
}

fn broker(error: impl std::fmt::Display) -> LocalReason {
    LocalReason::Broker { why: error.to_string() }
}

fn memory_file() -> Result<File, LocalReason> {
    memfd_create("distcc", MemfdFlags::CLOEXEC).map(File::from).map_err(broker)
}

/// Waits for a preprocessor's end, and ends it when it writes or takes too much.
async fn watch(mut child: Family, text: &File, messages: &File) -> Result<ExitStatus, LocalReason> {
    let until = Instant::now() + PREPROCESS_TIMEOUT;
    let size = |file: &File| file.metadata().map(|found| found.len()).map_err(broker);
    let mut looks = interval(LOOK_INTERVAL);
    loop {
        // It dies with its handle, so every way out of here ends it.
        tokio::select! {
            ended = timeout_at(until, child.wait()) => {
                let status = ended.map_err(|_| LocalReason::PreprocessorFailed)?.map_err(broker)?;
                return match size(messages)? > MESSAGES_MAX_BYTES {
                    true => Err(LocalReason::PreprocessorDiagnostics),
                    false => Ok(status),
                };
            }
            _ = looks.tick() => {
                if size(text)? > PREPROCESSED_MAX_BYTES {
                    return Err(LocalReason::Text { why: TextRule::TooLarge });
                }
                if size(messages)? > MESSAGES_MAX_BYTES {
                    return Err(LocalReason::PreprocessorDiagnostics);
                }
            }
        }
    }
}

/// All of a memory file, which is at most `limit` bytes long.
fn contents(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; file.metadata()?.len().min(limit) as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// The compiler, in the shim's surroundings; it dies with the command's handle.
pub fn command(program: &Path, invocation: &Invocation) -> Command {
    let mut command = Command::new(program);
    command.env_clear().current_dir(invocation.cwd.as_path());
    for entry in &invocation.env {
        if let Some(equals) = entry.iter().skip(1).position(|&byte| byte == b'=') {
            let (name, value) = entry.split_at(equals + 1);
            command.env(Bytes::from(name), Bytes::from(&value[1..]));
        }
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn add_arguments(command: &mut Command, job: &CompileJob, dependency_file: Option<&Path>) {
    for argument in &job.preprocess {
        match (argument, dependency_file) {
            (PreprocessArgument::Plain(argument), _) => command.arg(argument.as_os_str()),
            (PreprocessArgument::DependencyFile, Some(path)) => command.arg(path),
            (PreprocessArgument::DependencyFile, None) => continue,
        };
    }
}

/// A source that is preprocessed text already.
async fn read_source(invocation: &Invocation, job: &CompileJob) -> Result<Prepared, LocalReason> {
    let path: PathBuf = invocation.cwd.as_path().join(job.source.as_path());
    let (file, _) = plain_file::open(&path).map_err(|_| LocalReason::PreprocessorFailed)?;
    let input = pack(file, Markers::Required).await?;
    Ok(Prepared { input, stderr: Vec::new(), dependencies: None, set: None })
}
