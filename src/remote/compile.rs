//! One compile: a private directory, names of our own, the compiler, and what it left.
//!
//! Blocking: to be called from threads that may wait. Nothing that a client says becomes part of
//! a path, but for suffixes that are letters and digits.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Seek};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use super::guard::Guard;
use super::pack::{Packed, pack};
use super::process::{self, Control, Finished, Limits, Program, Watch};
use crate::common::action::{Action, Argument, Blob, InputSet};
use crate::common::bytes::Bytes;
use crate::common::classify::{refuse_remote, remote_environment};
use crate::common::limits::{MESSAGES_MAX_BYTES, OUTPUT_MAX_BYTES, PREPROCESSED_MAX_BYTES};
use crate::common::protocol::link::{Audit, Refusal};

/// Outputs of one action.
const OUTPUTS_MAX: usize = 16;

/// The longest suffix of an input or output, the dot included.
const SUFFIX_MAX_BYTES: usize = 16;

/// Where and under which terms jobs run.
#[derive(Debug)]
pub struct Workshop {
    jobs: PathBuf,
    search_path: OsString,
    limits: Limits,
    lifetime: Duration,
    disk_floor: u64,
    next: AtomicU64,
}

/// The directory of one job; it is removed when this value goes.
#[derive(Debug)]
pub struct JobDirectory {
    path: PathBuf,
}

impl Drop for JobDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
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
    /// Its arguments, itself not among them.
    pub arguments: &'a [OsString],
    /// What the client wants it to see of an environment, as `NAME=value`.
    pub environment: &'a [Bytes],
    /// Its working directory.
    pub cwd: &'a Path,
}

/// A compiler's run to its end. What it wrote is still in the job's directory.
#[derive(Debug)]
pub struct Ran {
    /// How it went.
    pub finished: Finished,
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
    ) -> Self {
        Workshop { jobs, search_path, limits, lifetime, disk_floor, next: AtomicU64::new(1) }
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

    /// Runs `compiler` for an action that [`check`] has passed and whose input is in place.
    ///
    /// # Errors
    ///
    /// Returns a refusal when the compiler did not run, not to its end, or left no whole result.
    pub fn compile(
        &self,
        compiler: &Path,
        action: &Action,
        directory: &JobDirectory,
        control: &Control,
        guard: &Guard,
        deadline: Instant,
    ) -> Result<Product, Refusal> {
        let line = CommandLine {
            program: compiler,
            arguments: &arguments(action),
            environment: &action.environment,
            cwd: &directory.path,
        };
        let Ran { finished, stdout, stderr } = self.run(&line, directory, control, guard, Some(deadline))?;
        let mut parts = vec![self.pack_messages(stdout)?, self.pack_messages(stderr)?];
        if finished.ended.is_success() {
            for index in 0..action.outputs.len() {
                parts.push(self.pack_output(&directory.path, &output_name(action, index))?);
            }
        } else {
            self.check_disk()?;
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
        let share = |file: &File| file.try_clone().map_err(|error| disk_refusal("share a file", &error));
        let program = Program {
            path: line.program,
            arguments: line.arguments,
            environment: &self.environment(line.environment, &directory.path),
            directory: line.cwd,
            stdout: share(&stdout)?,
            stderr: share(&stderr)?,
        };
        let watch = self.watch(control, guard, deadline);
        let finished = finished(watch.over(|| process::spawn(program), None))?;
        Ok(Ran { finished, stdout, stderr })
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
        Watch { limits: &self.limits, control, guard, deadline }
    }

    /// Where what does not fit into memory can wait.
    pub fn spool(&self) -> &Path {
        &self.jobs
    }

    /// Everything that the compiler sees of an environment.
    fn environment(&self, theirs: &[Bytes], directory: &Path) -> Vec<(OsString, OsString)> {
        let ours = [
            ("PATH".into(), self.search_path.clone()),
            ("TMPDIR".into(), directory.as_os_str().to_owned()),
            ("_DISTCC_SAFEGUARD".into(), "1".into()),
        ];
        let theirs = theirs.iter().filter_map(|entry| {
            let (name, value) = split_variable(entry)?;
            Some((OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec())))
        });
        theirs.chain(ours).collect()
    }

    fn pack_messages(&self, mut file: File) -> Result<Packed, Refusal> {
        let packed = file.rewind().and_then(|()| pack(file, MESSAGES_MAX_BYTES, &self.jobs));
        packed.map_err(|error| disk_refusal("take what the compiler printed", &error))
    }

    fn pack_output(&self, directory: &Path, name: &str) -> Result<Packed, Refusal> {
        let packed =
            open_output(&directory.join(name)).and_then(|file| pack(file, OUTPUT_MAX_BYTES, &self.jobs));
        packed.map_err(|error| disk_refusal(&format!("take the output {name}"), &error))
    }

    /// A compiler that fails on a full disk has said nothing about the source.
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

/// Whether an action is one that a volunteer does at all.
///
/// # Errors
///
/// Returns [`Refusal::Forbidden`] with what is not acceptable.
pub fn check(action: &Action) -> Result<(), Refusal> {
    let forbid = |detail: String| Err(Refusal::Forbidden { detail });
    if let Some(detail) = refuse_remote(&action.arguments) {
        return forbid(detail);
    }
    let InputSet::Preprocessed { source, suffix } = &action.inputs;
    if !is_suffix(suffix) {
        return forbid(format!("input suffix {suffix:?}"));
    }
    if source.size > PREPROCESSED_MAX_BYTES || source.packed > packed_max(source.size) {
        return forbid(format!("an input of {} bytes, {} packed", source.size, source.packed));
    }
    if action.outputs.len() > OUTPUTS_MAX {
        return forbid(format!("{} outputs", action.outputs.len()));
    }
    for (index, output) in action.outputs.iter().enumerate() {
        let twice = action.outputs.iter().take(index).any(|other| other.suffix == output.suffix);
        if !is_suffix(&output.suffix) || output.suffix == *suffix || twice {
            return forbid(format!("output suffix {:?}", output.suffix));
        }
    }
    let outputs = action.outputs.len();
    let beyond =
        |argument: &&Argument| matches!(argument, Argument::Output(index) if usize::from(*index) >= outputs);
    if action.arguments.iter().any(|argument| beyond(&argument)) {
        return forbid("an output that is not declared".to_owned());
    }
    // The client filters by the same function, so what it would drop is no client's doing.
    if remote_environment(&action.environment) != action.environment {
        return forbid("an environment variable that compilers need not have".to_owned());
    }
    Ok(())
}

/// The source of an action.
pub fn source(action: &Action) -> &Blob {
    let InputSet::Preprocessed { source, .. } = &action.inputs;
    source
}

/// What zstd makes of incompressible data at most, and then some.
pub fn packed_max(size: u64) -> u64 {
    size + size / 64 + 1024
}

fn is_suffix(suffix: &str) -> bool {
    let body = suffix.strip_prefix('.').unwrap_or("");
    suffix.len() <= SUFFIX_MAX_BYTES
        && !body.is_empty()
        && body.bytes().all(|byte| byte.is_ascii_alphanumeric())
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

/// Opens what the compiler wrote: a regular file, not a link to one, not a pipe that would block.
///
/// # Errors
///
/// Returns what the file system says, or that it is no regular file.
pub fn open_output(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// What an error of this machine means to a client: a full disk or too many processes pass, the
/// rest is a failure of this volunteer.
pub fn disk_refusal(doing: &str, error: &io::Error) -> Refusal {
    use io::ErrorKind::{OutOfMemory, QuotaExceeded, ResourceBusy, StorageFull, WouldBlock};
    let detail = format!("cannot {doing}: {error}");
    let descriptors = [libc::EMFILE, libc::ENFILE, libc::EAGAIN, libc::ENOMEM];
    let short = error.raw_os_error().is_some_and(|number| descriptors.contains(&number));
    match error.kind() {
        StorageFull | QuotaExceeded | OutOfMemory | ResourceBusy | WouldBlock => {
            Refusal::Overloaded { detail }
        }
        _ if short => Refusal::Overloaded { detail },
        _ => Refusal::Failed { detail },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::action::OutputName;
    use crate::common::toolchain::{Digest, Toolchain};

    fn action() -> Action {
        let plain = |word: &str| Argument::Plain(Bytes::from(word));
        Action {
            toolchain: Toolchain {
                id: Digest::of(b""),
                names: vec![],
                version: String::new(),
                target: String::new(),
                clang: false,
            },
            arguments: vec![plain("-c"), Argument::Input, plain("-o"), Argument::Output(0)],
            environment: vec![Bytes::from("LANG=C.UTF-8"), Bytes::from("LC_ALL=C")],
            inputs: InputSet::Preprocessed {
                source: Blob { digest: Digest::of(b""), size: 100, packed: 50 },
                suffix: ".i".to_owned(),
            },
            outputs: vec![OutputName { suffix: ".o".to_owned() }],
        }
    }

    /// Whether the ordinary action is refused once it is changed so.
    fn refused(change: impl FnOnce(&mut Action)) -> bool {
        let mut action = action();
        change(&mut action);
        check(&action).is_err()
    }

    #[test]
    fn an_ordinary_action_is_done() {
        assert_eq!(check(&action()), Ok(()));
        assert_eq!(arguments(&action()), ["-c", "in.i", "-o", "out.o"]);
    }

    #[test]
    fn nothing_of_the_client_becomes_a_path() {
        for suffix in ["", ".", "o", "/x", ".o/../x", ".o\0", "..", ".averyveryverylongsuffix", ".i"] {
            let outputs = vec![OutputName { suffix: suffix.to_owned() }];
            assert!(refused(|action| action.outputs = outputs), "{suffix:?}");
        }
        let source = Blob { digest: Digest::of(b""), size: 1, packed: 1 };
        let inputs = InputSet::Preprocessed { source, suffix: "/../x".to_owned() };
        assert!(refused(|action| action.inputs = inputs));
    }

    #[test]
    fn outputs_are_declared_once_each() {
        assert!(refused(|action| action.outputs.push(OutputName { suffix: ".o".to_owned() })));
        assert!(refused(|action| action.arguments.push(Argument::Output(1))));
        assert!(!refused(|action| action.outputs.push(OutputName { suffix: ".dwo".to_owned() })));
    }

    #[test]
    fn only_harmless_variables_are_set() {
        for entry in
            ["LD_PRELOAD=x", "PATH=/x", "COMPILER_PATH=/x", "LC_ALL=/x/y", "LANGUAGE=../x", "X", "TMPDIR=/"]
        {
            assert!(refused(|action| action.environment = vec![Bytes::from(entry)]), "{entry}");
        }
        assert!(!refused(|action| action.environment = vec![Bytes::from("SOURCE_DATE_EPOCH=1")]));
    }

    #[test]
    fn an_input_larger_than_any_client_sends_is_refused() {
        let source = |size, packed| InputSet::Preprocessed {
            source: Blob { digest: Digest::of(b""), size, packed },
            suffix: ".i".to_owned(),
        };
        assert!(refused(|action| action.inputs = source(PREPROCESSED_MAX_BYTES + 1, 1)));
        assert!(refused(|action| action.inputs = source(100, 1 << 40)));
    }

    #[test]
    fn a_link_or_a_pipe_is_not_an_output() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("plain"), b"x").unwrap();
        std::os::unix::fs::symlink("plain", path("link")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), rustix::fs::Mode::RUSR).unwrap();
        assert!(open_output(&path("plain")).is_ok());
        assert!(open_output(&path("link")).is_err());
        assert!(open_output(&path("pipe")).is_err());
        assert!(open_output(directory.path()).is_err());
    }
}
