//! One hermetic compile whose inputs are in the store: view, box, compiler, results.
//!
//! Blocking: to be called from threads that may wait.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use rustix::fs::MemfdFlags;

use super::Hermetic;
use super::audit::{self, Teller};
use super::opened::Opening;
use super::products::{self, Made};
use super::terminal::Screen;
use crate::common::bytes::Bytes;
use crate::common::limits::{MESSAGES_MAX_BYTES, OUTPUT_MAX_BYTES};
use crate::common::protocol::link::{Audit, Packing, Refusal};
use crate::remote::compile::{Product, ProductKind, disk_refusal, finished, is_not_full};
use crate::remote::items::Resolved;
use crate::remote::job::Context;
use crate::remote::line::Line;
use crate::remote::pack::{Packed, pack};
use crate::remote::process::{Control, Finished, Talker};
use crate::remote::sandbox::folders::{Layers, Tree};
use crate::remote::sandbox::{Run, View, errno_of, temporary};
use crate::remote::view::farm::{Farm, FarmError};

/// Why there is no result.
#[derive(Debug)]
pub enum RunError {
    /// An input went out of the store before the job had a link to it, or was changed there meanwhile.
    Lost,
    /// Something else.
    Refused(Refusal),
}

impl From<Refusal> for RunError {
    fn from(why: Refusal) -> Self {
        RunError::Refused(why)
    }
}

/// Runs a job that has a slot, whose result will leave by `line`.
pub fn run(
    job: &Resolved,
    context: &Context,
    line: &Line,
    control: &Control,
    deadline: Instant,
) -> Result<Product, RunError> {
    let hermetic = context.hermetic.as_ref().map_err(|why| Refusal::Failed { detail: why.clone() })?;
    let set = &job.inputs.set;
    let epoch = context.look()?;
    hermetic.pool.renew(epoch);
    hermetic.pool.shed(context.store.evictions());
    let mut farm = hermetic.pool.take(set).map_err(laying_out)?;
    if let Err(error) = farm.hold(set, &context.store) {
        hermetic.pool.discard(farm);
        return Err(match error {
            FarmError::Lost(_) => RunError::Lost,
            FarmError::Contradiction(_) => Refusal::Forbidden { detail: error.to_string() }.into(),
            FarmError::Disk(error) => laying_out(error).into(),
        });
    }
    let product = compile(job, &farm, hermetic, context, line, control, deadline);
    if context.look().ok() != Some(epoch) || !farm.is_whole() {
        // Whatever the compiler made of it: it is done again, with files that are asked for again.
        hermetic.pool.discard(farm);
        return Err(RunError::Lost);
    }
    hermetic.pool.give(farm);
    hermetic.pool.shed(context.store.evictions());
    Ok(product?)
}

#[allow(clippy::needless_pass_by_value, reason = "it is used as a function of errors")]
fn laying_out(error: io::Error) -> Refusal {
    disk_refusal("lay out the inputs", &error)
}

fn compile(
    job: &Resolved,
    farm: &Farm,
    hermetic: &Hermetic,
    context: &Context,
    line: &Line,
    control: &Control,
    deadline: Instant,
) -> Result<Product, Refusal> {
    if !farm.has_folder(&job.cwd) {
        return Err(Refusal::Forbidden { detail: format!("{} is no folder of the inputs", job.cwd) });
    }
    let arguments: Vec<&[u8]> = job.arguments.iter().skip(1).map(|word| &word[..]).collect();
    let files = job.inputs.files.iter().map(|input| &input.known.entry.path[..]);
    let layers = match has_hard_links(job) {
        true => Layers::over_all(),
        false => Layers::of(&arguments, &job.cwd, farm, files),
    };
    let store = &context.store;
    let spelt_out = audit::spelt_out(job, &|known| match known.key() {
        Some(key) => store.read(&key),
        None => Err(io::ErrorKind::InvalidInput.into()),
    });
    let teller = audit::teller(&spelt_out);
    let opening = Opening::of(job, &hermetic.instances);
    let mut streams = Streams::open(job).map_err(|error| disk_refusal("make a file", &error))?;
    let watch = context.workshop.watch(control, &context.guard, Some(deadline));
    let run = Run {
        program: &job.program,
        arguments: &job.arguments.iter().map(|word| Bytes::clone(word)).collect::<Vec<_>>(),
        environment: &environment(job, &teller),
        cwd: &job.cwd,
        stdio: streams.theirs().map_err(|error| disk_refusal("share a file", &error))?,
        limits: watch.limits,
        group: None,
        watch: opening.as_ref().map(Opening::watch),
    };
    let (mut scratch, mut watches) = (None, Vec::new());
    let start = |group: Option<BorrowedFd<'_>>| {
        let run = Run { group, ..run };
        let boxed = hermetic.sandbox.run(View::Farm(farm, &layers), run)?;
        (scratch, watches) = (Some(boxed.scratch), boxed.watches);
        Ok(boxed.child)
    };
    let finished = watch.over(start, streams.talker());
    let opened = opening.map(|opening| opening.finish(&watches, &hermetic.instances));
    let finished = ended(finished, &job.program)?;
    let Some(scratch) = scratch else { return Err(Refusal::Failed { detail: "no layer".to_owned() }) };
    let words = streams.finish()?;
    if !finished.ended.is_success() && words.tell_of_locks() {
        let detail = "the compile writes where its command does not tell".to_owned();
        return Err(Refusal::Forbidden { detail });
    }
    let packer = Packer { packing: line.packing(), spool: context.workshop.spool() };
    let [stdout, stderr] = words.pack(&packer)?;
    let mut product = Product { finished, parts: vec![stdout, stderr], kind: ProductKind::Named };
    if !finished.ended.is_success() {
        is_not_full(&scratch)?;
        context.workshop.check_disk()?;
        product.kind = ProductKind::Found { paths: Vec::new(), audit: Audit::Unchecked };
        return Ok(product);
    }
    let made = products::collect(&scratch, &layers.writable)?;
    let audit = opened.unwrap_or_else(|| audited(&spelt_out, &teller, &scratch, &made));
    let paths = made.iter().map(|made| made.path.clone()).collect();
    for made in made {
        let what = made.path.to_text();
        let open = || made.open(&scratch).map_err(|error| disk_refusal(&format!("take {what}"), &error));
        if job.tells_temporary && products::may_tell(open()?, temporary().as_bytes()) {
            return Err(Refusal::TellsTemporary { detail: what });
        }
        let file = open()?;
        product.parts.push(packer.pack(file, OUTPUT_MAX_BYTES, &what)?);
    }
    product.kind = ProductKind::Found { paths, audit };
    Ok(product)
}

/// How the compiler ended. One for another kind of machine cannot begin here, and will not the next time.
fn ended(finished: io::Result<Finished>, program: &Bytes) -> Result<Finished, Refusal> {
    match finished {
        Err(error) if errno_of(&error) == Some(libc::ENOEXEC) => {
            let (program, machine) = (program.to_text(), std::env::consts::ARCH);
            Err(Refusal::NoSuchToolchain {
                detail: format!("{program} is no program for machines like this ({machine})"),
            })
        }
        finished => self::finished(finished),
    }
}

/// Whether some of the inputs are one file with several names. clang knows files by device and inode, and
/// a layer has a device of its own: then all must be seen through one.
fn has_hard_links(job: &Resolved) -> bool {
    let mut keys: Vec<_> = job.inputs.files.iter().filter_map(|input| input.known.key()).collect();
    keys.sort_unstable();
    keys.windows(2).any(|pair| pair[0] == pair[1])
}

/// What the client gave, but for what is ours to say.
fn environment(job: &Resolved, teller: &Teller) -> Vec<Bytes> {
    let theirs = job.environment.iter().filter(|entry| !entry.starts_with(b"TMPDIR="));
    let mut entries: Vec<Bytes> = theirs.map(|entry| Bytes::clone(entry)).collect();
    entries.push(format!("TMPDIR={}", temporary()).into_bytes().into());
    if let Teller::Ours(entry) = teller {
        entries.push(entry.clone());
    }
    entries
}

/// Compares what was read with what should have been.
fn audited(job: &Resolved, teller: &Teller, scratch: &OwnedFd, made: &[Made]) -> Audit {
    let read = |made: &Made| made.open(scratch).and_then(read_back).ok();
    let list = match teller {
        Teller::None => return Audit::Unchecked,
        // Without a list the compiler is not what it was taken for, or had nothing to do.
        Teller::Ours(_) => products::private(scratch, audit::LIST, audit::LIST_MAX_BYTES),
        Teller::Theirs(path) => made.iter().find(|made| made.path == *path).and_then(read),
        Teller::Somewhere => {
            let mut lists = made.iter().filter(|made| made.path.ends_with(b".d"));
            match (lists.next(), lists.next()) {
                (Some(only), None) => read(only),
                _ => None,
            }
        }
    };
    audit::compare(job, list.as_deref())
}

fn read_back(file: File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(audit::LIST_MAX_BYTES).read_to_end(&mut text).map(|_| text)
}

/// How results are packed, and where those wait that are large.
struct Packer<'a> {
    packing: Packing,
    spool: &'a Path,
}

impl Packer<'_> {
    fn pack(&self, file: File, max_bytes: u64, what: &str) -> Result<Packed, Refusal> {
        pack(file, max_bytes, self.packing, self.spool)
            .map_err(|error| disk_refusal(&format!("take {what}"), &error))
    }
}

/// Where the compiler's words go.
struct Streams {
    stdout: File,
    stderr: Stderr,
}

enum Stderr {
    File(File),
    Screen { screen: Screen, slave: Option<OwnedFd> },
}

impl Streams {
    fn open(job: &Resolved) -> io::Result<Self> {
        let memory = || rustix::fs::memfd_create("messages", MemfdFlags::CLOEXEC).map(File::from);
        let stderr = match job.terminal {
            Some(terminal) => {
                let (screen, slave) = Screen::open(terminal)?;
                Stderr::Screen { screen, slave: Some(slave) }
            }
            None => Stderr::File(memory()?),
        };
        Ok(Streams { stdout: memory()?, stderr })
    }

    /// The compiler's ends of stdin, stdout and stderr.
    fn theirs(&mut self) -> io::Result<[OwnedFd; 3]> {
        let stdin = File::open("/dev/null")?;
        let stderr = match &mut self.stderr {
            Stderr::File(file) => file.try_clone()?.into(),
            Stderr::Screen { slave, .. } => slave.take().ok_or(io::ErrorKind::BrokenPipe)?,
        };
        Ok([stdin.into(), self.stdout.try_clone()?.into(), stderr])
    }

    fn talker(&mut self) -> Option<&mut dyn Talker> {
        match &mut self.stderr {
            Stderr::File(_) => None,
            Stderr::Screen { screen, .. } => Some(screen),
        }
    }

    /// What was printed, once nobody prints any more.
    fn finish(self) -> Result<Words, Refusal> {
        let stderr = match self.stderr {
            Stderr::File(file) => file,
            Stderr::Screen { screen, .. } => {
                let text = screen.finish().map_err(|error| taking(&error))?;
                let file = rustix::fs::memfd_create("messages", MemfdFlags::CLOEXEC);
                let mut file = File::from(file.map_err(|error| taking(&error.into()))?);
                file.write_all(&text).map_err(|error| taking(&error))?;
                file
            }
        };
        Ok(Words { stdout: self.stdout, stderr })
    }
}

/// What a compiler printed.
struct Words {
    stdout: File,
    stderr: File,
}

impl Words {
    /// Whether the compiler complains of something that is so only here. (It does so in English; where it
    /// has learnt another language, its client finds out by doing the same itself.)
    fn tell_of_locks(&self) -> bool {
        let mut text = Vec::new();
        let mut file = &self.stderr;
        let read = file.rewind().and_then(|()| file.take(MESSAGES_MAX_BYTES).read_to_end(&mut text));
        read.is_ok() && memchr::memmem::find(&text, b"Read-only file system").is_some()
    }

    fn pack(self, packer: &Packer<'_>) -> Result<[Packed; 2], Refusal> {
        let take = |mut file: File| {
            file.rewind().map_err(|error| taking(&error))?;
            packer.pack(file, MESSAGES_MAX_BYTES, "what the compiler printed")
        };
        Ok([take(self.stdout)?, take(self.stderr)?])
    }
}

fn taking(error: &io::Error) -> Refusal {
    disk_refusal("take what the compiler printed", error)
}
