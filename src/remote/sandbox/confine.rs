//! How a job that comes as a text is kept in: by the best that this machine has.
//!
//! In order: a box ([`super::Sandbox`]); Landlock; the filter of system calls and limits alone. The last
//! two are weaker, which is said at the start and in every link's hello.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::plan::{Input, Machine, plan_without_box};
use super::premises::Premises;
use super::seccomp::{self, Walls};
use super::spawn::{self, Ties};
use super::{Boxed, Run, Sandbox, View, landlock, layer};
use crate::common::bytes::Bytes;
use crate::remote::ceiling;
use crate::remote::process::{self, Child, Limits, Program};
use crate::remote::view::farm::DEVICES;

/// What jobs that come as texts are kept in by.
#[derive(Debug)]
pub enum Confinement {
    /// A box for each.
    Boxes(Sandbox, Premises),
    /// Rules about files, and a filter.
    Landlock {
        /// What they may read.
        premises: Premises,
        /// The filter of system calls.
        filter: Vec<libc::sock_filter>,
        /// Which version the kernel speaks.
        version: i64,
    },
    /// A filter of system calls.
    Filter(Vec<libc::sock_filter>),
    /// Nothing: the administrator said so.
    Off,
}

/// What is run.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// The compiler.
    pub program: &'a Path,
    /// What it starts, as far as that is known.
    pub programs: &'a [PathBuf],
    /// Its arguments, itself not among them.
    pub arguments: &'a [OsString],
    /// All of its environment but `TMPDIR`.
    pub environment: &'a [(OsString, OsString)],
    /// The job's own folder.
    pub work: &'a Path,
    /// What is in it.
    pub inputs: &'a [Input],
    /// Where it begins; the folder, or one beneath it.
    pub cwd: &'a Path,
    /// What it may use.
    pub limits: &'a Limits,
    /// The control group that it is born into.
    pub group: Option<BorrowedFd<'a>>,
}

/// A compiler that runs.
#[derive(Debug)]
pub struct Started {
    /// The leader of its process group.
    pub child: Child,
    /// The folder in which it leaves what it makes.
    pub left: OwnedFd,
}

impl Confinement {
    /// The best that there is here, for jobs beneath `jobs`; and why it is not boxes.
    ///
    /// # Errors
    ///
    /// Returns what the file system returns.
    pub fn probe(jobs: &Path, scratch_bytes: u64) -> io::Result<(Self, Option<String>)> {
        let premises = Premises::new(jobs.join("premises"), jobs)?;
        let why = match Sandbox::probe(jobs, scratch_bytes, Some(&premises)) {
            Ok(sandbox) => return Ok((Confinement::Boxes(sandbox, premises), None)),
            Err(why) => why,
        };
        Ok((Self::without(premises), Some(why)))
    }

    /// The best that there is besides boxes, with a tree at `place`.
    ///
    /// # Errors
    ///
    /// Returns what the file system returns.
    pub fn without_boxes(place: &Path, jobs: &Path) -> io::Result<Self> {
        Ok(Self::without(Premises::new(place.to_owned(), jobs)?))
    }

    fn without(premises: Premises) -> Self {
        let walls = landlock::version()
            .map(|version| (version, Walls::Landlock { signals: landlock::sees_to_signals(version) }));
        match walls.and_then(|(version, walls)| Some((version, seccomp::filter(walls)?))) {
            Some((version, filter)) => Confinement::Landlock { premises, filter, version },
            None => seccomp::filter(Walls::None).map_or(Confinement::Off, Confinement::Filter),
        }
    }

    /// Makes again what somebody removed.
    ///
    /// # Errors
    ///
    /// Returns what the file system returns.
    pub fn mend(&self) -> io::Result<()> {
        match self {
            Confinement::Boxes(sandbox, premises) => {
                sandbox.mend()?;
                premises.mend()
            }
            Confinement::Landlock { premises, .. } => premises.mend(),
            Confinement::Filter(_) | Confinement::Off => Ok(()),
        }
    }

    /// How jobs are confined, in a word or two, for people and brokers.
    pub fn describe(&self) -> String {
        match self {
            Confinement::Boxes(sandbox, _) => sandbox.describe().to_owned(),
            Confinement::Landlock { version, .. } => format!("landlock (version {version})"),
            Confinement::Filter(_) => "none, but a filter of system calls".to_owned(),
            Confinement::Off => "none".to_owned(),
        }
    }

    /// What is weaker than in a box; `None` in one.
    pub fn weaker(&self) -> Option<&'static str> {
        match self {
            Confinement::Boxes(..) => None,
            Confinement::Landlock { .. } => Some(
                "a job can see which files and processes there are, though not into them; what it writes \
                 is on the disk, and its processes count among those of the daemon's user",
            ),
            Confinement::Filter(_) => {
                Some("a job can read and write whatever the daemon's user can; it can open no socket")
            }
            Confinement::Off => Some("a job can do whatever the daemon's user can"),
        }
    }

    /// Where a job's temporary files are, as it sees them.
    fn temporary<'a>(&self, work: &'a Path) -> &'a Path {
        match self {
            Confinement::Boxes(..) => Path::new("/tmp"),
            _ => work,
        }
    }

    /// Starts a compiler.
    ///
    /// # Errors
    ///
    /// Returns what kept it from starting.
    pub fn start(&self, text: &Text<'_>, stdout: File, stderr: File) -> io::Result<Started> {
        let temporary = ("TMPDIR".into(), self.temporary(text.work).as_os_str().to_owned());
        let environment: Vec<_> = text.environment.iter().cloned().chain([temporary]).collect();
        if let Confinement::Off = self {
            let Text { program, arguments, work, cwd, .. } = *text;
            let program = Program {
                path: program,
                arguments,
                environment: &environment,
                directory: cwd,
                stdout,
                stderr,
            };
            let left = File::open(work)?.into();
            return Ok(Started { child: process::spawn(program)?, left });
        }
        let words = [text.program.as_os_str()];
        let words = words.into_iter().chain(text.arguments.iter().map(OsString::as_os_str));
        let arguments: Vec<Bytes> = words.map(|word| word.as_bytes().into()).collect();
        let entry = |(name, value): &(OsString, OsString)| {
            Bytes::from([name.as_bytes(), b"=", value.as_bytes()].concat())
        };
        let environment: Vec<Bytes> = environment.iter().map(entry).collect();
        let run = Run {
            program: text.program.as_os_str().as_bytes(),
            arguments: &arguments,
            environment: &environment,
            cwd: text.cwd.as_os_str().as_bytes(),
            stdio: [File::open("/dev/null")?.into(), stdout.into(), stderr.into()],
            limits: text.limits,
            group: text.group,
            watch: None,
        };
        match self {
            Confinement::Boxes(sandbox, premises) => in_box(sandbox, premises, text, run),
            Confinement::Landlock { premises, filter, .. } => {
                let readable = premises.readable_with(&programs(text))?;
                let devices = DEVICES.map(|device| Path::new("/dev").join(device));
                let ruleset = landlock::ruleset(&readable, &devices, text.work)?;
                let ruleset = Some(ruleset.as_fd());
                without_box(text, run, filter, ruleset)
            }
            Confinement::Filter(filter) => without_box(text, run, filter, None),
            Confinement::Off => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

fn programs(text: &Text<'_>) -> Vec<PathBuf> {
    [text.program.to_owned()].into_iter().chain(text.programs.iter().cloned()).collect()
}

fn in_box(sandbox: &Sandbox, premises: &Premises, text: &Text<'_>, run: Run<'_>) -> io::Result<Started> {
    let shared = premises.seen_with(&programs(text))?;
    let machine = Machine { shared: &shared, work: text.work, inputs: text.inputs };
    let Boxed { child, scratch, .. } = sandbox.run(View::Machine(premises.root(), &machine), run)?;
    let name = text.work.file_name().unwrap_or_default();
    let left = Path::new(&layer(0)).join(name);
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let left = rustix::fs::openat2(&scratch, left, flags, Mode::empty(), within)?;
    Ok(Started { child, left })
}

fn without_box(
    text: &Text<'_>,
    run: Run<'_>,
    filter: &[libc::sock_filter],
    ruleset: Option<BorrowedFd<'_>>,
) -> io::Result<Started> {
    let ties = Ties { namespaces: false, filter, ruleset, init: None, group: text.group };
    let steps = plan_without_box(text.work, run.cwd, text.limits, ceiling::own);
    let steps = steps.ok_or(io::ErrorKind::InvalidInput)?;
    let born = spawn::spawn(&steps, &run.command()?, ties)?;
    Ok(Started { child: born.child, left: born.scratch })
}
