//! One compile: a private directory, names of our own, the compiler, and what it left.
//!
//! Blocking: to be called from threads that may wait. Nothing that a client says becomes part of
//! a path, but for suffixes that are letters and digits.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Seek};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::groups::Groups;
use super::guard::Guard;
use super::pack::{Packed, pack};
use super::process::{Control, Finished, Limits, Watch};
use super::sandbox::Input;
use super::sandbox::confine::{Confinement, Text};
use super::toolchain::Compiler;
use crate::common::action::{Action, Argument, Blob, InputSet};
use crate::common::bytes::Bytes;
use crate::common::limits::{MESSAGES_MAX_BYTES, OUTPUT_MAX_BYTES};
use crate::common::protocol::link::{Audit, Packing, Refusal};

/// Where and under which terms jobs run.
#[derive(Debug)]
pub struct Workshop {
    jobs: PathBuf,
    search_path: OsString,
    limits: Limits,
    lifetime: Duration,
    disk_floor: u64,
    confinement: Confinement,
    groups: Option<Groups>,
    next: AtomicU64,
}

/// The directory of one job; it is removed when this value goes.
#[derive(Debug)]
pub struct JobDirectory {
    path: PathBuf,
}

impl Drop for JobDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), %error, "a job's directory stays behind");
        }
    }
}

impl JobDirectory {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the input of `action` belongs.
    pub fn input(&self, action: &Action) -> PathBuf {
        self.path.join(input_name(action))
    }
}

/// What a compile left.
#[derive(Debug)]
pub struct Product {
    /// How the compiler's run went.
    pub finished: Finished,
    /// Stdout, stderr, then the outputs.
    pub parts: Vec<Packed>,
    /// What is known of the outputs besides.
    pub kind: ProductKind,
}

/// What a compile's outputs are.
#[derive(Debug)]
pub enum ProductKind {
    /// Those that its action names, in that order.
    Named,
    /// What a hermetic compile made.
    Found {
        /// The paths of the outputs.
        paths: Vec<Bytes>,
        /// Whether it read what it should have.
        audit: Audit,
    },
}

/// What is run for a job.
#[derive(Clone, Copy, Debug)]
pub struct CommandLine<'a> {
    /// The compiler.
    pub program: &'a Path,
    /// What it starts, as far as that is known.
    pub programs: &'a [PathBuf],
    /// Its arguments, itself not among them.
    pub arguments: &'a [OsString],
    /// What of the job's directory it sees.
    pub inputs: &'a [Input],
    /// What the client wants it to see of an environment, as `NAME=value`.
    pub environment: &'a [Bytes],
    /// Its working directory.
    pub cwd: &'a Path,
}

/// A compiler's run to its end.
#[derive(Debug)]
pub struct Ran {
    /// How it went.
    pub finished: Finished,
    /// The folder in which it left what it made.
    pub left: OwnedFd,
    /// What it printed on stdout.
    pub stdout: File,
    /// What it printed on stderr.
    pub stderr: File,
}

impl Workshop {
    /// A workshop in the directory `jobs`, which is this daemon's alone.
    pub fn new(
        jobs: PathBuf,
        search_path: OsString,
        limits: Limits,
        lifetime: Duration,
        disk_floor: u64,
        confinement: Confinement,
    ) -> Self {
        let next = AtomicU64::new(1);
        Workshop { jobs, search_path, limits, lifetime, disk_floor, confinement, groups: None, next }
    }

    /// The same with a control group for each job.
    pub fn with_groups(self, groups: Option<Groups>) -> Self {
        Workshop { groups, ..self }
    }

    /// What of a job is limited as a whole, for people.
    pub fn groups(&self) -> Option<&Groups> {
        self.groups.as_ref()
    }

    /// How jobs that come as texts are kept in.
    pub fn confinement(&self) -> &Confinement {
        &self.confinement
    }

    /// Makes the directory of a job.
    ///
    /// # Errors
    ///
    /// Returns a refusal when the file system refuses.
    pub fn directory(&self) -> Result<JobDirectory, Refusal> {
        let path = self.jobs.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| disk_refusal("make a directory", &error))?;
        Ok(JobDirectory { path })
    }

    /// Runs `compiler` for an action that [`super::acceptable::check`] has passed and whose input is in place.
    ///
    /// # Errors
    ///
    /// Returns a refusal when the compiler did not run, not to its end, or left no whole result.
    pub fn compile(
        &self,
        compiler: &Compiler,
        action: &Action,
        directory: &JobDirectory,
        control: &Control,
        guard: &Guard,
        deadline: Instant,
    ) -> Result<Product, Refusal> {
        let line = CommandLine {
            program: &compiler.path,
            programs: &compiler.programs,
            arguments: &arguments(action),
            inputs: &[Input { name: input_name(action), is_folder: false }],
            environment: &action.environment,
            cwd: &directory.path,
        };
        let ran = self.run(&line, directory, control, guard, Some(deadline))?;
        let Ran { finished, left, stdout, stderr } = ran;
        let mut parts = vec![self.pack_messages(stdout)?, self.pack_messages(stderr)?];
        if finished.ended.is_success() {
            for index in 0..action.outputs.len() {
                parts.push(self.pack_output(&left, &output_name(action, index))?);
            }
        } else {
            self.check_space(&left)?;
        }
        Ok(Product { finished, parts, kind: ProductKind::Named })
    }

    /// Runs a compiler whose input is in place, until `deadline` at most.
    ///
    /// # Errors
    ///
    /// Returns a refusal when the compiler did not run, or not to its end.
    pub fn run(
        &self,
        line: &CommandLine<'_>,
        directory: &JobDirectory,
        control: &Control,
        guard: &Guard,
        deadline: Option<Instant>,
    ) -> Result<Ran, Refusal> {
        let messages = || messages_file(&directory.path).map_err(|error| disk_refusal("make a file", &error));
        let (stdout, stderr) = (messages()?, messages()?);
        let environment = self.environment(line.environment);
        let share = |file: &File| file.try_clone().map_err(|error| disk_refusal("share a file", &error));
        let text = Text {
            program: line.program,
            programs: line.programs,
            arguments: line.arguments,
            environment: &environment,
            work: &directory.path,
            inputs: line.inputs,
            cwd: line.cwd,
            limits: &self.limits,
            group: None,
        };
        let (theirs, theirs_too) = (share(&stdout)?, share(&stderr)?);
        let watch = self.watch(control, guard, deadline);
        let mut left = None;
        let start = |group: Option<BorrowedFd<'_>>| {
            let started = self.confinement.start(&Text { group, ..text }, theirs, theirs_too)?;
            left = Some(started.left);
            Ok(started.child)
        };
        let finished = finished(watch.over(start, None))?;
        let left = left.ok_or_else(|| Refusal::Failed { detail: "no folder".to_owned() })?;
        Ok(Ran { finished, left, stdout, stderr })
    }

    /// What is seen to while a compiler runs.
    pub fn watch<'a>(
        &'a self,
        control: &'a Control,
        guard: &'a Guard,
        deadline: Option<Instant>,
    ) -> Watch<'a> {
        let last = Instant::now() + self.lifetime;
        let deadline = deadline.map_or(last, |deadline| deadline.min(last));
        Watch { limits: &self.limits, groups: self.groups.as_ref(), control, guard, deadline }
    }

    /// Where what does not fit into memory can wait.
    pub fn spool(&self) -> &Path {
        &self.jobs
    }

    /// Everything that the compiler sees of an environment.
    fn environment(&self, theirs: &[Bytes]) -> Vec<(OsString, OsString)> {
        let ours = [("PATH".into(), self.search_path.clone()), ("_DISTCC_SAFEGUARD".into(), "1".into())];
        let theirs = theirs.iter().filter_map(|entry| {
            let (name, value) = split_variable(entry)?;
            Some((OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec())))
        });
        theirs.chain(ours).collect()
    }

    fn pack_messages(&self, mut file: File) -> Result<Packed, Refusal> {
        let packed = file.rewind().and_then(|()| pack(file, MESSAGES_MAX_BYTES, PACKING, &self.jobs));
        packed.map_err(|error| disk_refusal("take what the compiler printed", &error))
    }

    fn pack_output(&self, left: &OwnedFd, name: &str) -> Result<Packed, Refusal> {
        let file = open_output(left, name.as_ref());
        let packed = file.and_then(|file| pack(file, OUTPUT_MAX_BYTES, PACKING, &self.jobs));
        packed.map_err(|error| disk_refusal(&format!("take the output {name}"), &error))
    }

    /// A compiler that fails because its folder or the disk is full has said nothing about the source.
    ///
    /// # Errors
    ///
    /// Returns a refusal when it is.
    pub fn check_space(&self, left: &OwnedFd) -> Result<(), Refusal> {
        if matches!(self.confinement, Confinement::Boxes(..)) {
            is_not_full(left)?;
        }
        self.check_disk()
    }

    /// What is free of the disk beyond what is kept free, in bytes.
    pub fn spare_disk(&self) -> u64 {
        fs2::available_space(&self.jobs).map_or(u64::MAX, |free| free.saturating_sub(self.disk_floor))
    }

    /// The same for a job that writes nothing to the disk.
    ///
    /// # Errors
    ///
    /// Returns a refusal while there is less space than is kept free.
    pub fn check_disk(&self) -> Result<(), Refusal> {
        match fs2::available_space(&self.jobs) {
            Ok(free) if free < self.disk_floor => {
                Err(Refusal::Overloaded { detail: format!("disk: {} MiB free", free >> 20) })
            }
            _ => Ok(()),
        }
    }
}

/// Less than this free in what a job may write is a folder that is full, in bytes.
const FULL_BYTES: u64 = 64 << 10;

/// Whether there is room in the memory that a job has to write to.
///
/// # Errors
///
/// Returns a refusal when there is none.
pub fn is_not_full(folder: &OwnedFd) -> Result<(), Refusal> {
    match rustix::fs::fstatvfs(folder) {
        Ok(space) if space.f_bavail * space.f_bsize < FULL_BYTES || space.f_ffree < 2 => {
            Err(Refusal::Overloaded { detail: "what a job may write is full".to_owned() })
        }
        _ => Ok(()),
    }
}

/// A compiler that ran to its end, however that was.
///
/// # Errors
///
/// Returns a refusal when it did not start, or was ended because it took too long.
pub fn finished(run: io::Result<Finished>) -> Result<Finished, Refusal> {
    let finished = run.map_err(|error| disk_refusal("start the compiler", &error))?;
    match finished.timed_out {
        true => Err(Refusal::TimedOut { seconds: finished.wall.as_secs() }),
        false => Ok(finished),
    }
}

/// The source of an action.
pub fn source(action: &Action) -> &Blob {
    let InputSet::Preprocessed { source, .. } = &action.inputs;
    source
}

/// Next to what a text costs its client before, unpacking the result is little.
const PACKING: Packing = Packing::Zstd;

/// What zstd makes of incompressible data at most, and then some.
pub fn packed_max(size: u64) -> u64 {
    size + size / 64 + 1024
}

fn split_variable(entry: &Bytes) -> Option<(&[u8], &[u8])> {
    let equals = entry.iter().position(|&byte| byte == b'=')?;
    Some((&entry[..equals], &entry[equals + 1..]))
}

fn input_name(action: &Action) -> String {
    let InputSet::Preprocessed { suffix, .. } = &action.inputs;
    format!("in{suffix}")
}

/// All outputs share a stem, because compilers derive the names of further ones from the first.
fn output_name(action: &Action, index: usize) -> String {
    format!("out{}", action.outputs.get(index).map_or("", |output| &output.suffix))
}

fn arguments(action: &Action) -> Vec<OsString> {
    let name = |argument: &Argument| match argument {
        Argument::Plain(word) => word.as_os_str().to_owned(),
        Argument::Input => input_name(action).into(),
        Argument::Output(index) => output_name(action, usize::from(*index)).into(),
    };
    action.arguments.iter().map(name).collect()
}

/// An unnamed file on the job's file system.
fn messages_file(directory: &Path) -> io::Result<File> {
    tempfile::tempfile_in(directory)
}

/// Opens what the compiler wrote: a regular file, not a link to one, not a pipe that would block. `name`
/// is one of ours, without a slash.
///
/// # Errors
///
/// Returns what the file system says, or that it is no regular file.
pub fn open_output(left: &OwnedFd, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(left, name, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// What an error of this machine means to a client: too many processes pass in a moment, so that the job may
/// come again. The rest is a failure of this volunteer, which is left alone for a while; a full disk too.
pub fn disk_refusal(doing: &str, error: &io::Error) -> Refusal {
    use io::ErrorKind::{OutOfMemory, ResourceBusy, WouldBlock};
    let detail = format!("cannot {doing}: {error}");
    let descriptors = [libc::EMFILE, libc::ENFILE, libc::EAGAIN, libc::ENOMEM];
    let short = error.raw_os_error().is_some_and(|number| descriptors.contains(&number));
    match error.kind() {
        OutOfMemory | ResourceBusy | WouldBlock => Refusal::Overloaded { detail },
        _ if short => Refusal::Overloaded { detail },
        _ => Refusal::Failed { detail },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_or_a_pipe_is_not_an_output() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let left: OwnedFd = File::open(directory.path()).unwrap().into();
        let opened = |name: &str| open_output(&left, name.as_ref());
        fs::write(path("plain"), b"x").unwrap();
        std::os::unix::fs::symlink("plain", path("link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), Mode::RUSR).unwrap();
        assert!(opened("plain").is_ok());
        assert!(opened("link").is_err());
        assert!(opened("pipe").is_err());
        assert!(opened(".").is_err());
    }
}
