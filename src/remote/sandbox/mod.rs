//! How jobs are kept in.
//!
//! A box for each job ([`Sandbox`]): namespaces of its own, with a root that holds what it reads.
//!
//! - the root is a tree that nobody can write to. For a hermetic job it is the job's farm, and the
//!   folders in which a compile writes ([`folders`]) have a layer over them that is the job's own, in
//!   memory. For any other it holds this machine's compilers ([`premises`]), a `/tmp` and a folder to
//!   work in, which are the job's own, in memory too;
//! - its own user, pid, network, IPC and UTS namespaces: it sees no process but its own, no network,
//!   and has no power over either; when its first process ends, the kernel ends all others, and that is a
//!   process of ours ([`init`]), whose child the compiler is;
//! - `/proc` of its own, read-only; of `/dev` only what makes or takes bytes;
//! - no capabilities, no way to new ones, and of system calls only what compilers need ([`seccomp`]);
//! - what it wrote is handed over as an open folder ([`Boxed::scratch`]); with that, and the last process,
//!   all of it is gone.
//!
//! Works for root and for ordinary users, where the kernel lets them; [`Sandbox::probe`] finds out by
//! doing it. Where it does not, [`confine`] has the next best for jobs that need no view of their own.

mod clone;
pub mod confine;
pub mod folders;
pub mod init;
mod landlock;
mod plan;
pub mod premises;
mod seccomp;
mod spawn;

use std::ffi::CString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::process::{WaitOptions, waitpid};

use self::folders::Layers;
use self::plan::{Machine, Over, Shape, plan};
use self::premises::Premises;
use self::spawn::Ties;
pub use self::spawn::errno_of;
use super::ceiling;
use super::process::{Child, Limits};
use super::root::make_missing;
use super::view::farm::{DEVICES, Farm};
use crate::common::bytes::Bytes;

pub use clone::HAS_GROUPS;
pub use plan::{Input, PRIVATE_LAYER, PROCESSES_MAX, layer, temporary};

/// What the process of a probe may use: nothing to speak of.
const PROBE_LIMITS: Limits = Limits {
    nice: 0,
    file_bytes: 1 << 20,
    memory_bytes: None,
    data_bytes: None,
    cpu_seconds: None,
    open_files: None,
};

/// Makes boxes.
#[derive(Clone, Debug)]
pub struct Sandbox {
    stage: PathBuf,
    ids: (u32, u32),
    proc: bool,
    numbers: bool,
    scratch_bytes: u64,
    filter: Option<Vec<libc::sock_filter>>,
    init: Option<Arc<OwnedFd>>,
}

/// What is run in a box.
#[derive(Debug)]
pub struct Run<'a> {
    /// The program's path inside.
    pub program: &'a [u8],
    /// Its arguments, its own name first.
    pub arguments: &'a [Bytes],
    /// All of its environment.
    pub environment: &'a [Bytes],
    /// Where it begins, inside.
    pub cwd: &'a [u8],
    /// Its stdin, stdout and stderr.
    pub stdio: [OwnedFd; 3],
    /// What it may use.
    pub limits: &'a Limits,
    /// The control group that it is born into.
    pub group: Option<BorrowedFd<'a>>,
    /// Folders of which the kernel is to tell.
    pub watch: Option<Watch<'a>>,
}

/// Folders of a box of which the kernel tells what is opened in them (inotify(7)). They are watched as the job
/// sees them: what lies under a layer is opened through it without a word.
#[derive(Clone, Copy, Debug)]
pub struct Watch<'a> {
    /// Where it tells.
    pub instance: BorrowedFd<'a>,
    /// Their paths inside.
    pub folders: &'a [CString],
}

/// What a job sees.
#[derive(Clone, Copy, Debug)]
pub enum View<'a> {
    /// Its farm, with these folders to write in.
    Farm(&'a Farm, &'a Layers),
    /// Parts of this machine over a root that has places for them.
    Machine(&'a Path, &'a Machine<'a>),
}

/// A program that runs in a box.
#[derive(Debug)]
pub struct Boxed {
    /// Its first process; it leads a process group.
    pub child: Child,
    /// What it writes: a folder with [`layer`]s, and [`PRIVATE_LAYER`].
    pub scratch: OwnedFd,
    /// The numbers of the watches, in the order of their folders; those behind the first that could not be
    /// had are missing.
    pub watches: Vec<i32>,
}

impl Sandbox {
    /// Finds out whether boxes can be made here, by making one beneath `jobs`: with a view of these
    /// premises, or with a layer over a tree.
    ///
    /// # Errors
    ///
    /// Returns why not, for people.
    pub fn probe(jobs: &Path, scratch_bytes: u64, premises: Option<&Premises>) -> Result<Self, String> {
        // A process that gave up being root is a stranger to its own files in /proc, where a child says
        // who it is, until it declares itself as open as others of its user are.
        let open = rustix::process::DumpableBehavior::Dumpable;
        rustix::process::set_dumpable_behavior(open).map_err(|error| error.to_string())?;
        let stage = jobs.join("stage");
        DirBuilder::new().mode(0o700).recursive(true).create(&stage).map_err(|error| error.to_string())?;
        for device in DEVICES {
            let kind = fs::metadata(Path::new("/dev").join(device)).map(|meta| meta.file_type());
            if !kind.is_ok_and(|kind| kind.is_char_device()) {
                return Err(format!("/dev/{device} is not a device"));
            }
        }
        let flags = rustix::fs::statvfs(jobs).map_err(|error| error.to_string())?.f_flag;
        if flags.contains(rustix::fs::StatVfsMountFlags::NOEXEC) {
            return Err(format!("{} is mounted noexec", jobs.display()));
        }
        let farm = Farm::new(jobs.join("probe")).map_err(|error| error.to_string())?;
        let layers = Layers::over_all();
        let work = jobs.join("work");
        let shared = premises.map(|premises| premises.seen_with(&[])).transpose();
        let shared = shared.map_err(|error| error.to_string())?.unwrap_or_default();
        let machine = Machine { shared: &shared, work: &work, inputs: &[] };
        let view = match premises {
            Some(premises) => View::Machine(premises.root(), &machine),
            None => View::Farm(&farm, &layers),
        };
        let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let filter = seccomp::filter(seccomp::Walls::Namespaces);
        let numbers = has_own_numbers();
        let init = init::open().map(Arc::new);
        let whole = Sandbox { stage, ids, proc: true, numbers, scratch_bytes, filter, init };
        let Err(first) = whole.try_out(view) else { return Ok(whole) };
        // Containers whose own /proc is partly hidden may not mount another; and some machines run no
        // program that is not in a file.
        let lesser = [(false, whole.init.clone()), (true, None), (false, None)];
        let mut lesser = lesser.into_iter().map(|(proc, init)| Sandbox { proc, init, ..whole.clone() });
        lesser.find(|lesser| lesser.try_out(view).is_ok()).ok_or_else(|| first.to_string())
    }

    /// Makes the folder again on which boxes are built, where somebody removed it.
    ///
    /// # Errors
    ///
    /// Returns what the file system returns.
    pub fn mend(&self) -> io::Result<()> {
        make_missing(&self.stage, 0o700).map(drop)
    }

    /// How jobs are confined, for people.
    pub fn describe(&self) -> &'static str {
        match (self.proc, &self.filter) {
            (true, Some(_)) => "namespaces",
            (false, Some(_)) => "namespaces, without /proc",
            (true, None) => "namespaces, all system calls",
            (false, None) => "namespaces, without /proc, all system calls",
        }
    }

    fn try_out(&self, view: View<'_>) -> io::Result<()> {
        let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        let command = spawn::Command {
            program: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            stdio: [null()?, null()?, null()?],
        };
        let born = self.start(view, b"/", &PROBE_LIMITS, (None, None), &command)?;
        match waitpid(Some(born.child.pid), WaitOptions::empty())? {
            Some((_, status)) if status.exit_status() == Some(0) => Ok(()),
            _ => Err(io::Error::other("a process in namespaces of its own did not end well")),
        }
    }

    /// Starts a program in a box.
    ///
    /// # Errors
    ///
    /// Returns which step failed, and why.
    pub fn run(&self, view: View<'_>, run: Run<'_>) -> io::Result<Boxed> {
        let (cwd, limits, ties) = (run.cwd, run.limits, (run.group, run.watch));
        self.start(view, cwd, limits, ties, &run.command()?)
    }

    fn start(
        &self,
        view: View<'_>,
        cwd: &[u8],
        limits: &Limits,
        (group, watch): (Option<BorrowedFd<'_>>, Option<Watch<'_>>),
        command: &spawn::Command,
    ) -> io::Result<Boxed> {
        let (root, over) = match view {
            View::Farm(farm, layers) => (farm.path(), Over::Layers(layers)),
            View::Machine(root, machine) => (root, Over::Machine(machine)),
        };
        let Sandbox { stage, ids, proc, numbers, scratch_bytes, .. } = self;
        let (ids, proc, numbers, scratch_bytes) = (*ids, *proc, *numbers, *scratch_bytes);
        let ceiling = ceiling::own;
        let shape =
            Shape { stage, root, over, cwd, ids, proc, numbers, limits, ceiling, scratch_bytes, watch };
        let steps = plan(&shape).ok_or(io::ErrorKind::InvalidInput)?;
        let filter = self.filter.as_deref().unwrap_or_default();
        let init = self.init.as_ref().map(|init| init.as_fd());
        let ties = Ties { namespaces: true, filter, ruleset: None, init, group };
        let born = spawn::spawn(&steps, command, ties)?;
        Ok(Boxed { child: born.child, scratch: born.scratch, watches: born.watches })
    }
}

impl Run<'_> {
    fn command(self) -> io::Result<spawn::Command> {
        let words = |words: &[Bytes]| words.iter().map(|word| word_of(word)).collect::<io::Result<Vec<_>>>();
        Ok(spawn::Command {
            program: Some(word_of(self.program)?),
            arguments: words(self.arguments)?,
            environment: words(self.environment)?,
            stdio: self.stdio,
        })
    }
}

/// Whether `kernel.pid_max` is each pid namespace's own. In an older kernel it is the machine's.
fn has_own_numbers() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (6, 14))
}

fn word_of(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::ErrorKind::InvalidInput.into())
}
