//! Takes a request off the connection: the command into memory, the text into the job's directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::order::{self, Command};
use super::{About, Closed};
use crate::common::bytes::Bytes;
use crate::common::limits::PREPROCESSED_MAX_BYTES;
use crate::common::protocol::classic::{HEADER_LEN, Part, RequestOrder, Token, Version, lzo};
use crate::remote::compile::{JobDirectory, disk_refusal};
use crate::remote::job::Context;

/// How much is read at once.
const STEP_BYTES: usize = 64 << 10;

/// Text seldom gets this much larger when unpacked; what does is unpacked with more of the budget.
const USUAL_RATIO: u64 = 16;

/// A request that has come whole.
pub struct Received {
    /// In which version it came, and is to be answered.
    pub version: Version,
    /// What is to be run.
    pub command: Command,
    /// Where; the input is there.
    pub directory: JobDirectory,
}

/// The name of the input in the job's directory.
pub fn input_name(command: &Command) -> String {
    format!("in{}", command.input)
}

/// Takes a whole request. The command is judged before the text is taken.
pub async fn receive<S>(stream: &mut S, context: &Arc<Context>, about: &mut About) -> Result<Received, Closed>
where
    S: AsyncRead + Unpin,
{
    let patience = context.classic.silence_max;
    let mut grammar = RequestOrder::default();
    let mut header = [0; HEADER_LEN];
    // The first four bytes told which protocol this is.
    header[..4].copy_from_slice(Token::Dist.name().as_bytes());
    fill(stream, &mut header[4..], patience).await?;
    let Part::Version(version) = grammar.accept(&header)? else { return Err(Closed::Gone) };
    if version == Version::V3 {
        return Err(Closed::Command("file sets (version 3) are not taken".to_owned()));
    }
    let mut words: Vec<Bytes> = Vec::new();
    loop {
        fill(stream, &mut header, patience).await?;
        match grammar.accept(&header)? {
            Part::Argument(length) => words.push(Bytes(bytes(stream, length, patience).await?)),
            Part::Source(length) => {
                let command = order::read(&words).map_err(Closed::Command)?;
                about.compiler = printable(&command.compiler);
                about.source = printable(&command.source);
                let directory = context.workshop.directory()?;
                let input = directory.path().join(input_name(&command));
                take_text(stream, &input, length, version, context).await?;
                return Ok(Received { version, command, directory });
            }
            _ => {}
        }
    }
}

/// A name that cannot spoil the log.
fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().filter(|letter| !letter.is_control()).take(200).collect()
}

/// Fills `into`; no part of it may be long in coming.
pub async fn fill<S: AsyncRead + Unpin>(
    stream: &mut S,
    mut into: &mut [u8],
    patience: Duration,
) -> Result<(), Closed> {
    while !into.is_empty() {
        let read = timeout(patience, stream.read(into)).await;
        match read.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))?? {
            0 => return Err(Closed::Gone),
            read => into = &mut into[read..],
        }
    }
    Ok(())
}

/// A body that is short; memory is taken for it as it comes.
pub async fn bytes<S: AsyncRead + Unpin>(
    stream: &mut S,
    length: u32,
    patience: Duration,
) -> Result<Vec<u8>, Closed> {
    let length = length as usize;
    let mut body = Vec::new();
    while body.len() < length {
        let begin = body.len();
        body.resize(length.min(begin + STEP_BYTES), 0);
        fill(stream, &mut body[begin..], patience).await?;
    }
    Ok(body)
}

/// Puts the text where the compiler will read it: as it comes, or unpacked once it is whole.
async fn take_text<S>(
    stream: &mut S,
    input: &Path,
    length: u32,
    version: Version,
    context: &Arc<Context>,
) -> Result<(), Closed>
where
    S: AsyncRead + Unpin,
{
    if !version.is_compressed() {
        return store(stream, input, length, context.classic.silence_max).await;
    }
    let packed = input.with_extension("lzo");
    store(stream, &packed, length, context.classic.silence_max).await?;
    unpack(packed, input.to_owned(), u64::from(length), PREPROCESSED_MAX_BYTES, context).await
}

/// Writes a body to a new file as it comes.
pub async fn store<S>(stream: &mut S, path: &Path, length: u32, patience: Duration) -> Result<(), Closed>
where
    S: AsyncRead + Unpin,
{
    let disk = |error| Closed::Refused(disk_refusal("write the input", &error));
    let mut file = File::create_new(path).await.map_err(disk)?;
    let mut left = length as usize;
    let mut step = vec![0; left.min(STEP_BYTES)];
    while left > 0 {
        let piece = left.min(STEP_BYTES);
        fill(stream, &mut step[..piece], patience).await?;
        file.write_all(&step[..piece]).await.map_err(disk)?;
        left -= piece;
    }
    file.flush().await.map_err(disk)
}

/// Unpacks a file within the budget, and removes it.
pub async fn unpack(
    packed: PathBuf,
    into: PathBuf,
    length: u64,
    max: u64,
    context: &Arc<Context>,
) -> Result<(), Closed> {
    let usual = (length * USUAL_RATIO).clamp(1 << 16, max);
    for limit in [usual, max] {
        let _memory = context.classic.memory(length + limit).await;
        let (packed, into) = (packed.clone(), into.clone());
        let work = move || -> Result<bool, Closed> {
            let disk = |error| Closed::Refused(disk_refusal("unpack the input", &error));
            let bytes = std::fs::read(&packed).map_err(disk)?;
            match lzo::decompress(&bytes, limit as usize) {
                Ok(text) => {
                    std::fs::write(&into, text).and_then(|()| std::fs::remove_file(&packed)).map_err(disk)?;
                }
                Err(lzo::LzoError::TooLarge(_)) if limit < max => return Ok(false),
                Err(error) => return Err(Closed::Command(error.to_string())),
            }
            Ok(true)
        };
        match spawn_blocking(work).await {
            Ok(Ok(false)) => {}
            Ok(done) => return done.map(|_| ()),
            Err(error) => return Err(Closed::Command(format!("a worker thread ended: {error}"))),
        }
    }
    Ok(())
}
