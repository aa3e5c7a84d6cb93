//! Takes a request off the connection: the command into memory, texts into the job's directory.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::order::{self, Command};
use super::tree::Tree;
use super::{About, Closed};
use crate::common::action::Argument;
use crate::common::bytes::Bytes;
use crate::common::classify::{Place, TreeCommand, in_tree};
use crate::common::limits::{CLASSIC_FILES_MAX_BYTES, PREPROCESSED_MAX_BYTES};
use crate::common::protocol::classic::{HEADER_LEN, Part, RequestOrder, Token, Version, lzo};
use crate::common::protocol::link::Refusal;
use crate::remote::clients::{ARRIVING_MAX_BYTES, Good, Held, LinkPass};
use crate::remote::compile::{JobDirectory, disk_refusal};
use crate::remote::job::Context;
use crate::remote::sandbox::Input;

/// What the folder is called beneath which files of version 3 lie.
const ROOT: &str = "root";

/// How much is read at once.
const STEP_BYTES: usize = 64 << 10;

/// A file of version 3 that came in one step has no more than this when it is unpacked.
const SMALL_MAX_BYTES: u64 = 8 << 20;

/// Text seldom gets this much larger when unpacked; what does is unpacked with more of the budget.
const USUAL_RATIO: u64 = 16;

/// A request that has come whole.
pub struct Received {
    /// In which version it came, and is to be answered.
    pub version: Version,
    /// What is to be run.
    pub work: Work,
    /// Where; the input is there.
    pub directory: JobDirectory,
    /// What its client has less of until it is over.
    _room: Held,
}

/// What a request takes of this machine.
struct Room<'a> {
    client: &'a LinkPass,
    held: Held,
}

impl Room<'_> {
    /// So many more bytes of it are on the disk.
    fn grow(&self, bytes: u64) -> Result<(), Closed> {
        let detail = || "this client's requests are many gigabytes".to_owned();
        match self.held.grow(bytes, ARRIVING_MAX_BYTES) {
            true => Ok(()),
            false => Err(Refusal::Overloaded { detail: detail() }.into()),
        }
    }
}

/// What is to be run.
pub struct Work {
    /// The compiler as the client names it.
    pub compiler: Bytes,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Where it runs.
    pub cwd: PathBuf,
    /// What of the job's directory it reads.
    pub inputs: Vec<Input>,
    /// The object that it makes.
    pub object: PathBuf,
    /// The dependency file that it makes.
    pub dependencies: Option<PathBuf>,
    /// What stands before the client's paths in whatever it says.
    pub root: Option<Vec<u8>>,
}

impl Work {
    /// The work of versions 1 and 2: its files have names of ours, in the job's directory.
    fn on_text(command: Command, directory: &Path) -> Self {
        let (input, output) = (format!("in{}", command.input), format!("out{}", command.output));
        let word = |argument: &Argument| match argument {
            Argument::Plain(word) => word.as_os_str().to_owned(),
            Argument::Input => OsString::from(&input),
            Argument::Output(_) => OsString::from(&output),
        };
        Work {
            arguments: command.arguments.iter().map(word).collect(),
            compiler: command.compiler,
            cwd: directory.to_owned(),
            inputs: vec![Input { name: input, is_folder: false }],
            object: directory.join(output),
            dependencies: None,
            root: None,
        }
    }

    /// The work of version 3: its files have the client's names, below a root.
    fn in_tree(command: TreeCommand, cwd: PathBuf, root: &Path, directory: &Path) -> Self {
        let object = directory.join(if command.assembly { "out.s" } else { "out.o" });
        let dependencies = directory.join("out.d");
        let word = |argument: &Argument| match argument {
            Argument::Plain(word) => word.as_os_str().to_owned(),
            Argument::Output(0) | Argument::Input => object.clone().into(),
            Argument::Output(_) => dependencies.clone().into(),
        };
        Work {
            arguments: command.arguments.iter().map(word).collect(),
            compiler: command.compiler,
            cwd,
            inputs: vec![Input { name: ROOT.to_owned(), is_folder: true }],
            object,
            dependencies: Some(dependencies),
            root: Some(root.as_os_str().as_bytes().to_vec()),
        }
    }
}

/// Takes a whole request. The command is judged before its files are taken.
pub async fn receive<S>(
    stream: &mut S,
    context: &Arc<Context>,
    client: &LinkPass,
    about: &mut About,
) -> Result<Received, Closed>
where
    S: AsyncRead + Unpin,
{
    context.look()?;
    let directory = context.workshop.directory()?;
    let packed = directory.path().join("packed");
    let room = Room { client, held: client.none(Good::Arriving) };
    let mut reader = Reader { stream, packed, context, room, grammar: RequestOrder::default() };
    let mut header = [0; HEADER_LEN];
    // The first four bytes told which protocol this is.
    header[..4].copy_from_slice(Token::Dist.name().as_bytes());
    fill(reader.stream, &mut header[4..], context.classic.silence_max).await?;
    let Part::Version(version) = reader.grammar.accept(&header)? else { return Err(Closed::Gone) };
    let work = match version {
        Version::V1 | Version::V2 => reader.text(version, &directory, about).await?,
        Version::V3 => reader.tree(&directory, about).await?,
    };
    let _room = reader.room.held;
    Ok(Received { version, work, directory, _room })
}

/// A request on its way.
struct Reader<'a, S> {
    stream: &'a mut S,
    /// Where a large file lies until it is unpacked.
    packed: PathBuf,
    context: &'a Arc<Context>,
    room: Room<'a>,
    grammar: RequestOrder,
}

impl<S: AsyncRead + Unpin> Reader<'_, S> {
    async fn next(&mut self) -> Result<Part, Closed> {
        let mut header = [0; HEADER_LEN];
        fill(self.stream, &mut header, self.context.classic.silence_max).await?;
        Ok(self.grammar.accept(&header)?)
    }

    async fn short(&mut self, length: u32) -> Result<Bytes, Closed> {
        bytes(self.stream, length, self.context.classic.silence_max).await.map(Bytes)
    }

    /// The words, and the first part behind them.
    async fn words(&mut self) -> Result<(Vec<Bytes>, Part), Closed> {
        let mut words = Vec::new();
        loop {
            match self.next().await? {
                Part::ArgumentCount(_) => {}
                Part::Argument(length) => words.push(self.short(length).await?),
                other => return Ok((words, other)),
            }
        }
    }

    async fn text(
        &mut self,
        version: Version,
        directory: &JobDirectory,
        about: &mut About,
    ) -> Result<Work, Closed> {
        let (words, part) = self.words().await?;
        let Part::Source(length) = part else { return Err(Closed::Gone) };
        let command = order::read(&words).map_err(Closed::Command)?;
        about.know(&command.compiler, &command.source);
        let input = directory.path().join(format!("in{}", command.input));
        take_text(self.stream, &input, length, version, (self.context, &self.room)).await?;
        Ok(Work::on_text(command, directory.path()))
    }

    async fn tree(&mut self, directory: &JobDirectory, about: &mut About) -> Result<Work, Closed> {
        let Part::Cwd(length) = self.next().await? else { return Err(Closed::Gone) };
        let cwd = self.short(length).await?;
        let (words, part) = self.words().await?;
        let mut tree = Tree::new(directory.path().join(ROOT))?;
        let command = {
            let root = tree.root().as_os_str().as_bytes();
            in_tree(&words, Place { root, cwd: &cwd }).map_err(Closed::Command)?
        };
        about.know(&command.compiler, &command.source);
        let Part::FileCount(count) = part else { return Err(Closed::Gone) };
        let mut room = CLASSIC_FILES_MAX_BYTES;
        for _ in 0..count {
            self.entry(&mut tree, &mut room).await?;
        }
        let cwd = tree.folder(&cwd)?;
        Ok(Work::in_tree(command, cwd, tree.root(), directory.path()))
    }

    /// Takes one file or link. `room` is how many bytes files may still have, unpacked.
    async fn entry(&mut self, tree: &mut Tree, room: &mut u64) -> Result<(), Closed> {
        let Part::Name(length) = self.next().await? else { return Err(Closed::Gone) };
        let name = self.short(length).await?;
        match self.next().await? {
            Part::Link(length) => {
                let target = self.short(length).await?;
                Ok(tree.link(&name, &target)?)
            }
            Part::File(length) => {
                let path = tree.file(&name)?;
                *room -= self.file(&path, length, *room).await?;
                Ok(())
            }
            _ => Err(Closed::Gone),
        }
    }

    /// Takes one file; how many bytes it has.
    async fn file(&mut self, path: &Path, length: u32, room: u64) -> Result<u64, Closed> {
        self.room.grow(u64::from(length))?;
        if length as usize > STEP_BYTES {
            let packed = self.packed.clone();
            store(self.stream, &packed, length, self.context.classic.silence_max).await?;
            return unpack(packed, path.to_owned(), (u64::from(length), room), self.context, &self.room)
                .await;
        }
        let packed = self.short(length).await?;
        let _memory = self.context.classic.memory(SMALL_MAX_BYTES, self.room.client).await;
        let text = lzo::decompress(&packed, room.min(SMALL_MAX_BYTES) as usize)
            .map_err(|error| Closed::Command(error.to_string()))?;
        self.room.grow(text.len() as u64)?;
        std::fs::write(path, &text).map_err(|error| disk_refusal("write the input", &error))?;
        Ok(text.len() as u64)
    }
}

/// A name that cannot spoil the log.
pub fn printable(name: &[u8]) -> String {
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
    (context, room): (&Arc<Context>, &Room<'_>),
) -> Result<(), Closed>
where
    S: AsyncRead + Unpin,
{
    room.grow(u64::from(length))?;
    if !version.is_compressed() {
        return store(stream, input, length, context.classic.silence_max).await;
    }
    let packed = input.with_extension("lzo");
    store(stream, &packed, length, context.classic.silence_max).await?;
    unpack(packed, input.to_owned(), (u64::from(length), PREPROCESSED_MAX_BYTES), context, room)
        .await
        .map(|_| ())
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

/// Unpacks a file within the budget, and removes it; how many bytes it had.
async fn unpack(
    packed: PathBuf,
    into: PathBuf,
    (length, max): (u64, u64),
    context: &Arc<Context>,
    room: &Room<'_>,
) -> Result<u64, Closed> {
    let usual = (length * USUAL_RATIO).max(1 << 16).min(max);
    for limit in [usual, max] {
        let _memory = context.classic.memory(length + limit, room.client).await;
        let (packed, into) = (packed.clone(), into.clone());
        let work = move || -> Result<Option<u64>, Closed> {
            let disk = |error| Closed::Refused(disk_refusal("unpack the input", &error));
            let bytes = std::fs::read(&packed).map_err(disk)?;
            match lzo::decompress(&bytes, limit as usize) {
                Ok(text) => {
                    std::fs::write(&into, &text)
                        .and_then(|()| std::fs::remove_file(&packed))
                        .map_err(disk)?;
                    Ok(Some(text.len() as u64))
                }
                Err(lzo::LzoError::TooLarge(_)) if limit < max => Ok(None),
                Err(error) => Err(Closed::Command(error.to_string())),
            }
        };
        match spawn_blocking(work).await {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(length))) => {
                room.grow(length)?;
                return Ok(length);
            }
            Ok(Err(closed)) => return Err(closed),
            Err(error) => return Err(Closed::Command(format!("a worker thread ended: {error}"))),
        }
    }
    Err(Closed::Command("the input is too large".to_owned()))
}
