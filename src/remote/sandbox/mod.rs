//! A box for each hermetic job: namespaces of its own, with a root that holds what it reads.
//!
//! - the root is the job's farm, bound so that nobody can write there; the folders in which a
//!   compile writes ([`folders`]) have a layer over them that is the job's own, in memory;
//! - its own user, pid, network, IPC and UTS namespaces: it sees no process but its own, no network,
//!   and has no power over either; when its first process ends, the kernel ends all others;
//! - `/proc` of its own, read-only; of `/dev` only what makes or takes bytes;
//! - what it wrote is handed over as an open folder ([`Boxed::scratch`]); with that, and the last process,
//!   all of it is gone.
//!
//! Works for root and for ordinary users, where the kernel lets them; [`Sandbox::probe`] finds out by
//! doing it.

pub mod folders;
mod plan;
mod spawn;

use std::ffi::CString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, WaitOptions, waitpid};

use self::folders::Layers;
use self::plan::{Shape, plan};
use super::process::Limits;
use super::view::farm::{DEVICES, Farm};
use crate::common::bytes::Bytes;

pub use plan::{PRIVATE_LAYER, layer, temporary};

/// What the process of a probe may use: nothing to speak of.
const PROBE_LIMITS: Limits = Limits { nice: 0, file_bytes: 1 << 20, memory_bytes: None };

/// Makes boxes.
#[derive(Debug)]
pub struct Sandbox {
    stage: PathBuf,
    ids: (u32, u32),
    proc: bool,
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
    /// Where it may write.
    pub layers: &'a Layers,
    /// Its stdin, stdout and stderr.
    pub stdio: [OwnedFd; 3],
    /// What it may use.
    pub limits: &'a Limits,
}

/// A program that runs in a box.
#[derive(Debug)]
pub struct Boxed {
    /// Its number, seen from here; it leads a process group.
    pub pid: Pid,
    /// What it writes: a folder with [`layer`]s, and [`PRIVATE_LAYER`].
    pub scratch: OwnedFd,
}

impl Sandbox {
    /// Finds out whether boxes can be made here, by making one beneath `jobs`.
    ///
    /// # Errors
    ///
    /// Returns why not, for people.
    pub fn probe(jobs: &Path) -> Result<Self, String> {
        // A process that gave up being root is a stranger to its own files in /proc, where a child says
        // who it is, until it declares itself as open as others of its user are.
        let open = rustix::process::DumpableBehavior::Dumpable;
        rustix::process::set_dumpable_behavior(open).map_err(|error| error.to_string())?;
        let stage = jobs.join("stage");
        DirBuilder::new().mode(0o700).create(&stage).map_err(|error| error.to_string())?;
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
        let ids = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let with_proc = Sandbox { stage, ids, proc: true };
        let Err(first) = with_proc.try_out(&farm) else { return Ok(with_proc) };
        // Containers whose own /proc is partly hidden may not mount another.
        let without = Sandbox { proc: false, ..with_proc };
        match without.try_out(&farm) {
            Ok(()) => Ok(without),
            Err(_) => Err(first.to_string()),
        }
    }

    /// How jobs are confined, for people.
    pub fn describe(&self) -> &'static str {
        if self.proc { "namespaces" } else { "namespaces, without /proc" }
    }

    fn try_out(&self, farm: &Farm) -> io::Result<()> {
        let null = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from);
        let command = spawn::Command {
            program: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            stdio: [null()?, null()?, null()?],
        };
        let born = self.start(farm, b"/", &Layers::over_all(), &PROBE_LIMITS, &command)?;
        match waitpid(Some(born.pid), WaitOptions::empty())? {
            Some((_, status)) if status.exit_status() == Some(0) => Ok(()),
            _ => Err(io::Error::other("a process in namespaces of its own did not end well")),
        }
    }

    /// Starts a program in a box whose root is `farm`.
    ///
    /// # Errors
    ///
    /// Returns which step failed, and why.
    pub fn run(&self, farm: &Farm, run: Run<'_>) -> io::Result<Boxed> {
        let words = |words: &[Bytes]| words.iter().map(|word| word_of(word)).collect::<io::Result<Vec<_>>>();
        let command = spawn::Command {
            program: Some(word_of(run.program)?),
            arguments: words(run.arguments)?,
            environment: words(run.environment)?,
            stdio: run.stdio,
        };
        self.start(farm, run.cwd, run.layers, run.limits, &command)
    }

    fn start(
        &self,
        farm: &Farm,
        cwd: &[u8],
        layers: &Layers,
        limits: &Limits,
        command: &spawn::Command,
    ) -> io::Result<Boxed> {
        let (stage, ids, proc) = (&self.stage, self.ids, self.proc);
        let shape = Shape { stage, farm: farm.path(), layers, cwd, ids, proc, limits };
        let steps = plan(&shape).ok_or(io::ErrorKind::InvalidInput)?;
        let born = spawn::spawn(&steps, command)?;
        Ok(Boxed { pid: born.pid, scratch: born.scratch })
    }
}

fn word_of(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::ErrorKind::InvalidInput.into())
}
