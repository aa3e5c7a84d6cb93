//! Preprocessed mode: runs the compiler's `-E` and makes its text a blob.
//!
//! The text is hashed and compressed while it streams, so a translation unit of 100 MB costs its
//! packed size in memory. What cannot leave as text is found here: a file that the assembler would
//! read, a precompiled header.

use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

use super::link::PackedBlob;
use crate::common::action::Blob;
use crate::common::bytes::Bytes;
use crate::common::classify::{CompileJob, PreprocessArgument};
use crate::common::invocation::Invocation;
use crate::common::limits::{MESSAGES_MAX_BYTES, PREPROCESSED_MAX_BYTES};
use crate::common::reason::{LocalReason, TextRule};
use crate::common::toolchain::Digest;

/// How long preprocessing may take before the job is left to the compiler itself. Longer than any
/// real translation unit takes on a loaded machine, short of for ever.
const PREPROCESS_TIMEOUT: Duration = Duration::from_secs(600);

/// zstd's fastest regular level: a LAN is faster than any higher one.
const LEVEL: i32 = 1;

/// A job's inputs, ready to be sent.
#[derive(Debug)]
pub struct Prepared {
    /// The preprocessed text.
    pub input: PackedBlob,
    /// What the preprocessor printed on stderr: a local compile prints the same.
    pub stderr: Vec<u8>,
    /// The dependency file's contents, when one was asked for.
    pub dependencies: Option<Vec<u8>>,
}

/// Where preprocessing happens.
pub struct Workshop<'a> {
    /// The compiler's program.
    pub program: &'a Path,
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
            Some(tempfile::Builder::new().prefix("deps-").tempfile_in(workshop.scratch).map_err(broker)?)
        }
        None => None,
    };
    let dependency_path = dependencies.as_ref().map(|file| file.path().to_owned());
    let run = preprocess(&workshop, invocation, job, dependency_path);
    let (status, text, stderr) = match timeout(PREPROCESS_TIMEOUT, run).await {
        Ok(result) => result?,
        Err(_) => return Err(LocalReason::PreprocessorFailed),
    };
    if !status.success() || status.signal().is_some() {
        return Err(LocalReason::PreprocessorFailed);
    }
    if invocation.stderr_is_terminal && !stderr.is_empty() {
        return Err(LocalReason::PreprocessorDiagnostics);
    }
    let dependencies = match dependencies {
        Some(file) => Some(std::fs::read(file.path()).map_err(broker)?),
        None => None,
    };
    Ok(Prepared { input: text.finish()?, stderr, dependencies })
}

fn broker(error: impl std::fmt::Display) -> LocalReason {
    LocalReason::Broker { why: error.to_string() }
}

async fn preprocess(
    workshop: &Workshop<'_>,
    invocation: &Invocation,
    job: &CompileJob,
    dependency_path: Option<PathBuf>,
) -> Result<(ExitStatus, Packer, Vec<u8>), LocalReason> {
    let mut command = command(workshop.program, invocation);
    for argument in &job.preprocess {
        match (argument, &dependency_path) {
            (PreprocessArgument::Plain(argument), _) => command.arg(argument.as_os_str()),
            (PreprocessArgument::DependencyFile, Some(path)) => command.arg(path),
            (PreprocessArgument::DependencyFile, None) => &mut command,
        };
    }
    let mut child = command.spawn().map_err(broker)?;
    let stdout = child.stdout.take().expect("stdout is piped");
    let stderr = child.stderr.take().expect("stderr is piped");
    let mut packer = Packer::new().map_err(broker)?;
    let (text, messages) = tokio::join!(packer.take_all(stdout), read_messages(stderr));
    text?;
    let messages = messages?;
    let status = child.wait().await.map_err(broker)?;
    Ok((status, packer, messages))
}

/// The compiler, in the shim's surroundings, with its words going to pipes.
fn command(program: &Path, invocation: &Invocation) -> Command {
    let mut command = Command::new(program);
    command.env_clear().current_dir(invocation.cwd.as_path());
    for entry in &invocation.env {
        if let Some(equals) = entry.iter().skip(1).position(|&byte| byte == b'=') {
            let (name, value) = entry.split_at(equals + 1);
            command.env(Bytes::from(name), Bytes::from(&value[1..]));
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn read_messages(mut stderr: impl AsyncRead + Unpin) -> Result<Vec<u8>, LocalReason> {
    let mut messages = Vec::new();
    (&mut stderr).take(MESSAGES_MAX_BYTES).read_to_end(&mut messages).await.map_err(broker)?;
    if messages.len() as u64 >= MESSAGES_MAX_BYTES {
        return Err(LocalReason::PreprocessorDiagnostics);
    }
    Ok(messages)
}

/// A source that is preprocessed text already.
async fn read_source(invocation: &Invocation, job: &CompileJob) -> Result<Prepared, LocalReason> {
    let path = invocation.cwd.as_path().join(job.source.as_path());
    let file = tokio::fs::File::open(&path).await.map_err(|_| LocalReason::PreprocessorFailed)?;
    if !file.metadata().await.is_ok_and(|found| found.is_file()) {
        return Err(LocalReason::PreprocessorFailed);
    }
    let mut packer = Packer::new().map_err(broker)?;
    packer.take_all(file).await?;
    if !packer.has_line_marker {
        return Err(LocalReason::NoLineMarkers);
    }
    Ok(Prepared { input: packer.finish()?, stderr: Vec::new(), dependencies: None })
}

/// Hashes, packs and looks through a text as it comes.
struct Packer {
    hasher: blake3::Hasher,
    encoder: zstd::stream::write::Encoder<'static, Vec<u8>>,
    size: u64,
    has_line_marker: bool,
    search: Search,
}

impl Packer {
    fn new() -> io::Result<Self> {
        Ok(Packer {
            hasher: blake3::Hasher::new(),
            encoder: zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?,
            size: 0,
            has_line_marker: false,
            search: Search::default(),
        })
    }

    async fn take_all(&mut self, mut text: impl AsyncRead + Unpin) -> Result<(), LocalReason> {
        let mut chunk = vec![0; 128 << 10];
        loop {
            let length = text.read(&mut chunk).await.map_err(broker)?;
            if length == 0 {
                return Ok(());
            }
            self.take(&chunk[..length])?;
        }
    }

    fn take(&mut self, chunk: &[u8]) -> Result<(), LocalReason> {
        if self.size == 0 {
            self.has_line_marker = chunk.starts_with(b"# ");
        }
        self.size += chunk.len() as u64;
        if self.size > PREPROCESSED_MAX_BYTES {
            return Err(LocalReason::Text { why: TextRule::TooLarge });
        }
        self.search.look(chunk)?;
        self.hasher.update(chunk);
        self.encoder.write_all(chunk).map_err(broker)
    }

    fn finish(mut self) -> Result<PackedBlob, LocalReason> {
        self.search.look(b"\n")?;
        let packed = self.encoder.finish().map_err(broker)?;
        let digest = Digest(*self.hasher.finalize().as_bytes());
        let blob = Blob { digest, size: self.size, packed: packed.len() as u64 };
        Ok(PackedBlob { blob, bytes: packed.into() })
    }
}

/// Looks for what makes a compile read a file that the text does not hold.
///
/// `.incbin` and `.include` count inside string literals only (there the assembler sees them);
/// elsewhere `.include` is a member access. A literal that spans lines (a raw string) makes every
/// occurrence behind it count: too many jobs stay here, never too few.
#[derive(Default)]
struct Search {
    /// The unfinished last line of the chunks so far, for words that straddle chunks.
    line: Vec<u8>,
    raw_strings: bool,
}

/// A longer line is looked at in pieces, with this much kept from the piece before.
const LINE_MAX_BYTES: usize = 1 << 20;

impl Search {
    fn look(&mut self, chunk: &[u8]) -> Result<(), LocalReason> {
        let end = chunk.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        if self.line.is_empty() {
            self.look_at_lines(&chunk[..end])?;
        } else {
            let mut lines = std::mem::take(&mut self.line);
            lines.extend_from_slice(&chunk[..end]);
            self.look_at_lines(&lines)?;
            if end == 0 {
                self.line = lines;
            }
        }
        self.line.extend_from_slice(&chunk[end..]);
        if self.line.len() > LINE_MAX_BYTES {
            let line = std::mem::take(&mut self.line);
            self.look_at_lines(&line)?;
            self.line = line[line.len() - 64..].to_vec();
        }
        Ok(())
    }

    fn look_at_lines(&mut self, lines: &[u8]) -> Result<(), LocalReason> {
        self.raw_strings = self.raw_strings || find(lines, b"R\"", 0).is_some();
        for word in [&b".incbin"[..], b".include"] {
            let mut from = 0;
            while let Some(at) = find(lines, word, from) {
                if self.raw_strings || is_in_string(lines, at) {
                    return Err(LocalReason::Text { why: TextRule::Incbin });
                }
                from = at + word.len();
            }
        }
        if find(lines, b"#pragma GCC pch_preprocess", 0).is_some() {
            return Err(LocalReason::Text { why: TextRule::PrecompiledHeader });
        }
        Ok(())
    }
}

fn find(text: &[u8], word: &[u8], from: usize) -> Option<usize> {
    memchr::memmem::find(text.get(from..)?, word).map(|at| from + at)
}

/// Whether an odd number of unescaped quotes stands before `at` on its line.
fn is_in_string(text: &[u8], at: usize) -> bool {
    let start = text[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    let mut inside = false;
    let mut bytes = text[start..at].iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => inside = !inside,
            _ => {}
        }
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chunks: &[&str], leaves: bool) {
        let mut search = Search::default();
        let found = chunks.iter().try_for_each(|chunk| search.look(chunk.as_bytes()));
        let rest = found.and_then(|()| search.look(b"\n"));
        assert_eq!(rest.is_ok(), leaves, "{chunks:?}");
    }

    #[test]
    fn a_file_that_the_assembler_reads_keeps_the_job_here() {
        check(&["asm(\".incbin \\\"x\\\"\");\n"], false);
        check(&["asm(\"nop\\n\\t.include 'x'\");\n"], false);
        check(&["asm(\".inc", "bin \\\"x\\\"\");"], false);
        check(&["auto s = R\"(\n", ".incbin \"x\"\n", ")\";\n"], false);
    }

    #[test]
    fn a_member_named_include_does_not() {
        check(&["set.include(x); f(\"a\").include(y);\n"], true);
        check(&["int a;\n", "x.include", "(1);\n"], true);
    }

    #[test]
    fn a_line_longer_than_any_buffer_is_looked_at_in_pieces() {
        let long = "x".repeat(3 << 20);
        check(&[&long, &long, "\n"], true);
    }
}
