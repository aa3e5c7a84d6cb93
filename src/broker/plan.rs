//! From an invocation to what becomes of it: the first steps of a job's life.
//!
//! Cheap questions come first; the compiler itself is asked last, and only once in its life.

use std::fs::Metadata;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use crate::broker::deliver::check_destination;
use crate::broker::host_lists::HostLists;
use crate::broker::link::PackedBlob;
use crate::broker::link::classic::{ClassicOrder, Columns};
use crate::broker::native::spelling::Spelling;
use crate::broker::plain_file;
use crate::broker::prepare::has_precompiled;
use crate::broker::rename::rename;
use crate::broker::scheduler::api::TaskKey;
use crate::broker::sets::FileSet;
use crate::broker::toolchain::{Compiler, Compilers, climbs, without_dots};
use crate::common::action::{Action, Argument, InputSet, OutputName};
use crate::common::bytes::Bytes;
use crate::common::classify::{
    CompileJob, Destination, Existing, Family, Language, PreprocessArgument, Verdict, Writer,
    clang_arguments, classify_as, environment_reason, expand_responses, hermetic_environment,
    is_of_the_process, is_probe_directory, refuse_classic, remote_environment,
};
use crate::common::hosts::HostList;
use crate::common::invocation::{Invocation, Origin};
use crate::common::limits::RESPONSE_FILES_MAX_BYTES;
use crate::common::program::{basename, candidates};
use crate::common::protocol::classic::Version;
use crate::common::reason::{LocalReason, TextRule};
use crate::common::settings::Settings;

/// A job that may leave.
#[derive(Debug)]
pub struct Plan {
    /// The parsed command line.
    pub job: CompileJob,
    /// Who compiles.
    pub compiler: Arc<Compiler>,
    /// Where it may go.
    pub hosts: Arc<HostList>,
    /// The remote command's arguments.
    pub arguments: Vec<Argument>,
    /// The remote command's environment.
    pub environment: Vec<Bytes>,
    /// The command as the user gave it, response files expanded.
    pub expanded: Vec<Bytes>,
    /// The command among the client's own files where it must say something else there than here: which
    /// machine "this machine" is, and which compiler its name leads to.
    pub spelt: Option<Vec<Bytes>>,
    /// The environment of the command among the client's own files, or why it cannot be there.
    pub hermetic_environment: Result<Vec<Bytes>, LocalReason>,
    /// Whether what it makes may tell where temporary files are here.
    pub tells_temporary: bool,
    /// What this compile is called from one build to the next.
    pub task: TaskKey,
}

/// What planning needs to know of the broker.
pub struct Planner<'a> {
    /// The compilers met so far.
    pub compilers: &'a Compilers,
    /// The host lists met so far.
    pub host_lists: &'a HostLists,
    /// The broker's own view of the machine.
    pub origin: Origin,
    /// Where files may be made that last as long as the broker.
    pub scratch: &'a Path,
}

impl Planner<'_> {
    /// Decides whether an invocation may leave, and how.
    ///
    /// # Errors
    ///
    /// Returns why it stays here.
    pub async fn plan(&self, invocation: &Invocation) -> Result<Plan, LocalReason> {
        let ours = (self.origin.mounts, self.origin.root);
        if (invocation.origin.mounts, invocation.origin.root) != ours || ours.0 == 0 {
            return Err(LocalReason::OtherNamespace);
        }
        if invocation.limited {
            return Err(LocalReason::FileSizeLimit);
        }
        if let Some(reason) = environment_reason(invocation.env.iter().map(|entry| &entry[..])) {
            return Err(reason);
        }
        let cwd = invocation.cwd.as_path();
        let mut job = judge(invocation, None)?;
        let hosts = self.host_lists.of(invocation)?;
        let path = invocation.variable("PATH").unwrap_or(b"/usr/local/bin:/usr/bin:/bin");
        let compiler = self.compilers.resolve(&job.compiler, path, cwd).await?;
        let family = if compiler.toolchain.clang { Family::Clang } else { Family::Gcc };
        if job.family.is_some_and(|needed| needed != family) {
            // Its name said something else.
            job = judge(invocation, Some(family))?;
        }
        if job.family.is_some_and(|needed| needed != family) {
            let why = "is not of the kind that its options are for".to_owned();
            return Err(LocalReason::Toolchain { compiler: job.compiler, why });
        }
        let words = invocation.argv.get(1..).unwrap_or_default();
        let mut expanded = vec![job.compiler.clone()];
        expanded.extend(expand_responses(words, &|file| read_response_file(cwd, file))?);
        refuse_foreign_assembler(&job, family, &expanded)?;
        let reads = &mut job.hermetic.reads;
        compiler.plugins.settle(reads, &compiler.program, &expanded, invocation).await;
        if !compiler.specs.settle(reads, &compiler, &expanded, invocation).await {
            return Err(job.hermetic.needed.unwrap_or(LocalReason::NotACompile));
        }
        let spelling = Spelling::of(&mut job, &expanded, &compiler, self.scratch).await?;
        let mut spelt = spelling.as_ref().map(|spelling| spelling.spell(&expanded, &invocation.argv));
        if is_seen_through(&job.compiler, &compiler, path, cwd) {
            // A driver looks for its parts beside its own name. So would ccache call it, too.
            let argv = spelt.get_or_insert_with(|| invocation.argv.clone());
            argv.splice(..1, [Bytes::from(compiler.program.as_path())]);
        }
        let arguments = remote_arguments(&job, spelling, &compiler, invocation);
        let environment = remote_environment(&invocation.env);
        let hermetic_environment = hermetic_environment(&invocation.env);
        let (tells_temporary, task) = (tells_temporary(&job, family), task_key(invocation));
        Ok(Plan {
            job: *job,
            compiler,
            hosts,
            arguments,
            environment,
            expanded,
            spelt,
            hermetic_environment,
            tells_temporary,
            task,
        })
    }
}

/// What the command means, to a compiler of this family or to one of which only the name is known.
///
/// # Errors
///
/// Returns why it stays here.
fn judge(invocation: &Invocation, family: Option<Family>) -> Result<Box<CompileJob>, LocalReason> {
    let cwd = invocation.cwd.as_path();
    let mut job = match classify_as(&invocation.argv, family, &|file| read_response_file(cwd, file)) {
        Verdict::Local(reason) => return Err(reason),
        Verdict::Remote(job) => job,
    };
    if is_probe_directory(&invocation.cwd) {
        return Err(LocalReason::Probe { source_name: job.source });
    }
    if let Some(reason) = check_files(&job, invocation)? {
        job.hermetic.needed.get_or_insert(reason);
    }
    Ok(job)
}

impl Plan {
    /// The action, once its input is known.
    pub fn action(&self, input: &PackedBlob) -> Action {
        let suffix = match self.job.language {
            Language::C => ".i",
            Language::Cxx => ".ii",
            Language::ObjC => ".mi",
            Language::ObjCxx => ".mii",
            Language::Assembler => ".s",
        };
        let output = if self.is_text() { ".s" } else { ".o" };
        Action {
            toolchain: self.compiler.toolchain.clone(),
            arguments: self.arguments.clone(),
            environment: self.environment.clone(),
            inputs: InputSet::Preprocessed { source: input.blob, suffix: suffix.to_owned() },
            outputs: vec![OutputName { suffix: output.to_owned() }],
        }
    }

    /// What a volunteer of the classic protocol must be told besides.
    ///
    /// # Errors
    ///
    /// Returns why no such volunteer can do this job.
    pub async fn classic_order(
        &self,
        invocation: &Invocation,
        version: Version,
        set: Option<Arc<FileSet>>,
    ) -> Result<ClassicOrder, String> {
        if let Some(why) = refuse_classic(&self.arguments) {
            return Err(why);
        }
        let path = invocation.variable("PATH").unwrap_or_default();
        let settings = Settings::of(invocation);
        let target = &self.compiler.toolchain.target;
        let (compiler, more) = rename(&self.job.compiler, target, path, settings.keeps_names);
        Ok(ClassicOrder {
            compiler,
            more,
            stem: stem(&self.job.source),
            maker: self.compiler.maker().await,
            // A host that takes sets takes texts as well.
            version: if set.is_some() { version } else { version.min(Version::V2) },
            set,
            columns: if self.compiler.toolchain.clang { Columns::Clang } else { Columns::Gcc },
            silence_max: settings.io_timeout,
        })
    }

    /// What this job's compiler makes of a file that lies where it puts what `writer` writes.
    pub fn existing(&self, writer: Writer) -> Existing {
        let toolchain = &self.compiler.toolchain;
        writer.existing(toolchain.clang, &toolchain.version)
    }

    /// Whether the output is assembly text, which the compiler proper writes, not the assembler.
    pub fn is_text(&self) -> bool {
        self.arguments.contains(&Argument::Plain(Bytes::from("-S")))
    }
}

/// What a daemon sees of the source's name: enough for its log, and nothing that it could
/// mistake for a test of autoconf, which it would refuse.
fn stem(source: &[u8]) -> Bytes {
    let name = basename(source);
    let end = name.iter().rposition(|&byte| byte == b'.').unwrap_or(name.len());
    let plain = name[..end].iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.+-".contains(byte));
    let odd = !plain
        || name.starts_with(b"-")
        || name.starts_with(b"conftest.")
        || name.starts_with(b"tmp.conftest.");
    if odd || end == 0 { "source".into() } else { Bytes::from(&name[..end]) }
}

pub(super) fn read_response_file(cwd: &Path, name: &[u8]) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let path = cwd.join(Bytes::from(name).as_path());
    if is_of_the_process(path.as_os_str().as_bytes()) {
        return Err("another file for each process".to_owned());
    }
    let (file, _) = plain_file::open(&path).map_err(|error| error.to_string())?;
    let mut contents = Vec::new();
    let limit = RESPONSE_FILES_MAX_BYTES as u64 + 1;
    file.take(limit).read_to_end(&mut contents).map_err(|error| error.to_string())?;
    Ok(contents)
}

/// The assembler of another target, which clang looks for by that target's name, is no part of the compiler that travels.
fn refuse_foreign_assembler(job: &CompileJob, family: Family, words: &[Bytes]) -> Result<(), LocalReason> {
    let is_target = |word: &Bytes| word.starts_with(b"--target") || word[..] == *b"-target";
    let is_outside = job.hermetic.products.writer(&job.output) == Writer::Assembler;
    if family == Family::Clang && is_outside && words.iter().any(is_target) {
        let why = "has another target's assembler run, which does not go along".to_owned();
        return Err(LocalReason::Toolchain { compiler: job.compiler.clone(), why });
    }
    Ok(())
}

/// What only the file system knows: sources and headers that are no files, outputs that cannot be
/// renamed over; and why text cannot carry the compile: precompiled headers.
fn check_files(job: &CompileJob, invocation: &Invocation) -> Result<Option<LocalReason>, LocalReason> {
    let cwd = invocation.cwd.as_path();
    let source = check_input(&job.source, &cwd.join(job.source.as_path()))?;
    let dependencies = match &job.dependencies {
        Some(Destination::File(path)) => Some(path),
        _ => None,
    };
    let mut there = None;
    for output in dependencies.into_iter().chain([&job.output]) {
        there = check_destination(&cwd.join(output.as_path()))
            .ok_or_else(|| LocalReason::OutputNotAFile { output: output.clone() })?;
        // `2>a.o`: only a file that is empty can be one that was just opened like that.
        let empty = there.as_ref().filter(|there| there.len() == 0);
        if empty.is_some_and(|there| is_stream(invocation.origin.pid, there)) {
            return Err(LocalReason::OutputIsStream { output: output.clone() });
        }
    }
    // gcc refuses to write over its source.
    if source.zip(there).is_some_and(|(source, there)| identity(&source) == identity(&there)) {
        return Err(LocalReason::OutputIsSource { output: job.output.clone() });
    }
    for header in forced_includes(job) {
        let path = cwd.join(header.as_path());
        check_input(&header, &path)?;
        if has_precompiled(&path) {
            return Ok(Some(LocalReason::Text { why: TextRule::PrecompiledHeader }));
        }
    }
    Ok(None)
}

/// Whether a shim's stdout or stderr is that file.
fn is_stream(shim: u32, found: &Metadata) -> bool {
    let opened = |fd: u8| std::fs::metadata(format!("/proc/{shim}/fd/{fd}")).ok();
    [1, 2].into_iter().filter_map(opened).any(|stream| identity(&stream) == identity(found))
}

/// Refuses an input that can be read but once, or is another for each process, such as `/dev/stdin`.
/// One that is not there is the compiler's business.
fn check_input(name: &Bytes, path: &Path) -> Result<Option<Metadata>, LocalReason> {
    let found = std::fs::metadata(path).ok();
    let own = is_of_the_process(path.as_os_str().as_bytes());
    match own || found.as_ref().is_some_and(|found| !found.is_file()) {
        true => Err(LocalReason::SourceNotAFile { source_name: name.clone() }),
        false => Ok(found),
    }
}

/// Which file it is on this machine.
fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// Whether two names are of one file.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|found| identity(&found));
    let one = identity(one);
    one.is_some() && one == identity(other)
}

/// The headers that `-include` and its like name.
fn forced_includes(job: &CompileJob) -> impl Iterator<Item = Bytes> {
    let words = job.preprocess.iter().map(|argument| match argument {
        PreprocessArgument::Plain(word) => &word[..],
        PreprocessArgument::DependencyFile => &b""[..],
    });
    let behind = words.clone().skip(1).chain([&b""[..]]);
    words.zip(behind).filter_map(|(word, next)| {
        let names = [&b"--include"[..], b"--imacros", b"-include", b"-imacros"];
        let joined = names.iter().find_map(|name| word.strip_prefix(*name))?;
        let joined = joined.strip_prefix(b"=").filter(|_| word.starts_with(b"--")).unwrap_or(joined);
        Some(Bytes::from(if joined.is_empty() { next } else { joined }))
    })
}

/// Whether a compiler was named by a path that leads to another program, or on a way that is not there
/// elsewhere: over links that it leaves by `..`, be they in its name or in `PATH`.
fn is_seen_through(name: &Bytes, compiler: &Compiler, path: &[u8], cwd: &Path) -> bool {
    if name.contains(&b'/') {
        let path = cwd.join(name.as_path());
        return climbs(&path) || without_dots(&path) != compiler.program;
    }
    path.windows(2).any(|pair| pair == b"..")
        && candidates(name, path).any(|place| {
            let place = cwd.join(place.as_path());
            climbs(&place) && without_dots(&place) == compiler.program
        })
}

/// The classifier's arguments with what means "this machine" spelt out, and the compilation
/// directory where the text does not carry it.
fn remote_arguments(
    job: &CompileJob,
    spelling: Option<Spelling>,
    compiler: &Compiler,
    invocation: &Invocation,
) -> Vec<Argument> {
    let mut arguments = job.compile.clone();
    if let Some(spelling) = spelling {
        for &at in job.native.iter().rev() {
            arguments.remove(at);
        }
        arguments.splice(0..0, spelling.options().iter().cloned().map(Argument::Plain));
    }
    if compiler.toolchain.clang {
        let more = clang_arguments(working_directory(invocation), job.preprocessed);
        arguments.splice(0..0, more);
    }
    arguments
}

pub(super) fn plain(argument: &Argument) -> Option<&Bytes> {
    match argument {
        Argument::Plain(text) => Some(text),
        Argument::Input | Argument::Output(_) => None,
    }
}

/// Whether any option asks for debug information, which names the compiler's directories.
pub fn has_debug(arguments: &[Argument]) -> bool {
    arguments.iter().filter_map(plain).any(is_debug)
}

fn is_debug(word: &Bytes) -> bool {
    word.starts_with(b"-g") && word[..] != *b"-g0"
}

/// Whether clang may name the folder for temporary files, where the preprocessed text is: it does in the debug
/// information of a `.S` in which nothing stands that has a place (LLVM's `AsmParser::enabledGenDwarfForAssembly`).
fn tells_temporary(job: &CompileJob, family: Family) -> bool {
    let is_text = family == Family::Clang && job.language == Language::Assembler && !job.preprocessed;
    is_text && has_debug(&job.compile)
}

/// The working directory as compilers name it: `$PWD` when that is the same directory.
pub fn working_directory(invocation: &Invocation) -> &[u8] {
    match invocation.variable("PWD") {
        Some(pwd) if pwd.starts_with(b"/") => {
            let same = is_same_file(Bytes::from(pwd).as_path(), invocation.cwd.as_path());
            if same { pwd } else { &invocation.cwd }
        }
        _ => &invocation.cwd,
    }
}

/// The options belong to it: the same file takes five times as long with `-O2` as with `-O0`, and
/// hosts would be taken for slow.
fn task_key(invocation: &Invocation) -> TaskKey {
    let mut hasher = DefaultHasher::new();
    invocation.cwd.hash(&mut hasher);
    invocation.argv.hash(&mut hasher);
    TaskKey(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_not_spelt_out_where_options_are_noted() {
        let check = |word: &str| has_debug(&[Argument::Input, Argument::Plain(word.into())]);
        assert!(check("-g") && check("-ggdb3") && check("-gdwarf-5"));
        assert!(!check("-g0") && !check("-fno-gnu-unique"));
    }

    #[test]
    fn the_same_file_with_other_options_is_another_task() {
        let key = |line: &str| {
            let argv = line.split(' ').map(Bytes::from).collect();
            task_key(&Invocation { argv, ..Invocation::default() })
        };
        assert_eq!(key("gcc -O2 -c a.c"), key("gcc -O2 -c a.c"));
        assert_ne!(key("gcc -O2 -c a.c"), key("gcc -O0 -c a.c"));
    }
}
