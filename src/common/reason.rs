//! Why a job stays here. Not an error: a verdict, with a word for it.

use serde::{Deserialize, Serialize};

use crate::common::bytes::Bytes;

/// Why an invocation is compiled on the client.
///
/// `key()` is what is counted; `Display` is what a person reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LocalReason {
    /// Neither `-c` nor `-S`: a link, or a question to the compiler.
    #[error("not a compile of one source (no -c or -S)")]
    NotACompile,
    /// `-E`, `-M`, `-MM`: the result is the preprocessor's.
    #[error("{option} only preprocesses")]
    PreprocessOnly {
        /// The option that says so.
        option: Bytes,
    },
    /// An option that only makes sense here.
    #[error("{option} {why}")]
    Option {
        /// The option as it was given.
        option: Bytes,
        /// A clause that completes the sentence, e.g. `runs a program`.
        why: OptionRule,
    },
    /// As files it cannot travel, and text cannot carry it.
    #[error("{needed}; and it cannot travel as files: {why}")]
    NotAsFiles {
        /// Why not as files.
        why: String,
        /// Why not as text.
        needed: Box<LocalReason>,
    },
    /// An option that the table does not know.
    #[error("unknown option {option}")]
    UnknownOption {
        /// The option as it was given.
        option: Bytes,
    },
    /// No source among the arguments.
    #[error("no source file")]
    NoSource,
    /// More than one source.
    #[error("several source files")]
    SeveralSources,
    /// The source is stdin.
    #[error("the source is standard input")]
    SourceIsStdin,
    /// A source or header that is a pipe, a device or the process's own.
    #[error("{source_name} is not a plain file")]
    SourceNotAFile {
        /// The file as it was named.
        source_name: Bytes,
    },
    /// A language that is not distributed.
    #[error("{language} is not distributed")]
    Language {
        /// The language or the suffix that says so.
        language: Bytes,
    },
    /// A preprocessed source without line markers: its debug names would be the volunteer's.
    #[error("preprocessed source without line markers")]
    NoLineMarkers,
    /// The output is stdout, a device, or another thing that cannot be renamed over.
    #[error("output {output} is not a plain file")]
    OutputNotAFile {
        /// The output as it was named.
        output: Bytes,
    },
    /// A volunteer's result cannot be put in place; the compiler here is to say why.
    #[error("output {output} cannot be written: {why}")]
    OutputUnwritable {
        /// Where it belongs.
        output: Bytes,
        /// What the system said.
        why: String,
    },
    /// The output would be written over the source, which gcc refuses.
    #[error("output {output} is the source itself")]
    OutputIsSource {
        /// The output as it was named.
        output: Bytes,
    },
    /// Probes of CMake, autoconf and meson are small and serial.
    #[error("{source_name} is a configure probe")]
    Probe {
        /// The probe's source.
        source_name: Bytes,
    },
    /// A response file that cannot be expanded.
    #[error("response file {file}: {why}")]
    ResponseFile {
        /// The file.
        file: Bytes,
        /// What is wrong with it.
        why: String,
    },
    /// An environment variable that changes the compiler in ways a volunteer cannot follow.
    #[error("{name} is set")]
    Environment {
        /// The variable's name.
        name: String,
    },
    /// The shim sees other files than the broker does (a container, a chroot).
    #[error("the compile runs in another mount namespace than the broker")]
    OtherNamespace,
    /// `_DISTCC_SAFEGUARD` is set: an outer distcc decided already.
    #[error("called from within another distcc")]
    Nested,
    /// There is no host list at all.
    #[error("no hosts are listed")]
    NoHosts,
    /// There is a host list without any host.
    #[error("{source_name} contained no hosts; can't distribute work")]
    EmptyHostList {
        /// Where the list is from: `$DISTCC_HOSTS`, or a path.
        source_name: String,
    },
    /// The host list cannot be read.
    #[error("the host list is wrong: {why}")]
    BadHostList {
        /// What is wrong, pointing at the word.
        why: String,
    },
    /// The list names this machine, and it was its turn.
    #[error("localhost was chosen from the host list")]
    LocalhostListed,
    /// The compiler could not be asked who it is.
    #[error("compiler {compiler}: {why}")]
    Toolchain {
        /// The compiler as named.
        compiler: Bytes,
        /// What went wrong.
        why: String,
    },
    /// `-march=native` could not be resolved.
    #[error("{option} cannot be spelt out for another machine here")]
    NativeUnresolved {
        /// The option.
        option: Bytes,
    },
    /// The preprocessor failed; the compiler itself will say why.
    #[error("the preprocessor failed")]
    PreprocessorFailed,
    /// The preprocessor printed diagnostics for a terminal.
    #[error("the preprocessor printed diagnostics for a terminal")]
    PreprocessorDiagnostics,
    /// The preprocessed text is too large, or uses what preprocessed mode cannot carry.
    #[error("preprocessed text: {why}")]
    Text {
        /// The clause that says what.
        why: TextRule,
    },
    /// The volunteer's compiler failed or printed something.
    #[error("the remote compiler printed diagnostics or failed")]
    RemoteDiagnostics,
    /// The volunteer's compiler was killed by a signal, or ran out of what the volunteer allows.
    #[error("the remote compiler was killed")]
    RemoteKilled,
    /// The volunteer's compiler read other files than were sent for it to read.
    #[error("the remote compiler read other files than the scanner found")]
    Audit,
    /// A volunteer sent a file that this command does not make.
    #[error("the volunteer made {output}, which this command does not make here")]
    UnexpectedOutput {
        /// The file.
        output: Bytes,
    },
    /// No listed host can take the job, and it was tried where it could be.
    #[error("no volunteer could do it: {why}")]
    NoVolunteer {
        /// The last failure, or why none was tried.
        why: String,
    },
    /// A volunteer sent something else than this machine makes of the same (`DISTCC_VERIFY`).
    #[error("volunteer {host} sent another object than this machine makes")]
    Verification {
        /// Which.
        host: String,
    },
    /// The queue for the hosts would take longer than compiling here.
    #[error("compiling here is sooner than the queue for hosts")]
    Sooner,
    /// A straggler was compiled here as well, and this was ready first.
    #[error("a slow volunteer was overtaken here")]
    Straggler,
    /// The broker is draining.
    #[error("the broker is draining")]
    Draining,
    /// The broker could not do its part (disk full, out of descriptors, …).
    #[error("the broker could not: {why}")]
    Broker {
        /// What failed.
        why: String,
    },
    /// It travels as a text, for which volunteers need a compiler of their own, and none has this one.
    #[error("it travels as preprocessed text, and no volunteer has this compiler of its own")]
    NoTextCompiler,
    /// Its compiler is on the way to a volunteer, over a thin line.
    #[error("its compiler is still on the way to a volunteer")]
    ToolchainUnderway,
    /// The size of files is limited where it was started.
    #[error("the size of files is limited (ulimit -f)")]
    FileSizeLimit,
    /// What it has to do with modules is possible here alone.
    #[error("modules: {why}")]
    Modules {
        /// The clause that says what.
        why: ModuleRule,
    },
    /// The messages of the compile go into the very file that it makes.
    #[error("messages are written to {output} itself")]
    OutputIsStream {
        /// The output as it was named.
        output: Bytes,
    },
}

/// Why an option keeps a job here; completes "OPTION …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is its text")]
pub enum OptionRule {
    #[error("runs a program or loads code")]
    RunsCode,
    #[error("writes files that preprocessed mode does not return")]
    WritesFiles,
    #[error("reads files that preprocessed mode does not send")]
    ReadsFiles,
    #[error("prints about the compile itself")]
    Prints,
    #[error("depends on this machine")]
    ThisMachine,
    #[error("reaches the assembler, linker or front end by a side door")]
    SideDoor,
    #[error("compiles for several targets at once")]
    SeveralTargets,
    #[error("changes what preprocessing means")]
    ChangesPreprocessing,
    #[error("is not a compile to an object or to assembly")]
    NotACompile,
    #[error("gives other bytes each time")]
    NotReproducible,
    #[error("records the command line or the source's name in the object")]
    Records,
    #[error("has to do with modules in a way that does not travel")]
    OtherModules,
    #[error("puts lines and columns of the source into the output, which preprocessed text has not")]
    RecordsPlaces,
    #[error("is about a dependency file, and none is asked for")]
    NoDependencies,
    #[error("warns of comments, which preprocessed text has not")]
    WarnsOfComments,
}

/// What a compile has to do with modules that keeps it here; completes "modules: …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is its text")]
pub enum ModuleRule {
    #[error("a preprocessed text has none, and which files it reads is not certain")]
    Text,
    #[error("it makes or reads modules that are made of headers, which do not travel")]
    Header,
    #[error("gcc writes into an interface when it was made, unless SOURCE_DATE_EPOCH says that")]
    Time,
    #[error("a compiled module that it reads is not there, or cannot be looked into")]
    Unknown,
}

/// What a preprocessed text holds that cannot leave; completes "preprocessed text …".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[allow(missing_docs, reason = "each variant is its text")]
pub enum TextRule {
    #[error("is larger than the limit")]
    TooLarge,
    #[error("names a file that the assembler reads (.incbin or .include)")]
    Incbin,
    #[error("uses a precompiled header")]
    PrecompiledHeader,
    #[error("asks for its own place in the source (__builtin_COLUMN and its like)")]
    AsksForItsPlace,
    #[error("includes what only the compile's own process can read (/dev/stdin and its like)")]
    ProcessFile,
    #[error("includes another file still")]
    Directive,
    #[error("sets options by a pragma (GCC target, GCC optimize), which this preprocessor does not follow")]
    Options,
}

impl LocalReason {
    /// The word under which `--status` counts this reason: stable, lower case, without spaces.
    pub fn key(&self) -> &'static str {
        match self {
            Self::NotACompile => "not-a-compile",
            Self::PreprocessOnly { .. } => "preprocess-only",
            Self::Option { .. } => "option",
            Self::NotAsFiles { needed, .. } => needed.key(),
            Self::UnknownOption { .. } => "unknown-option",
            Self::NoSource => "no-source",
            Self::SeveralSources => "several-sources",
            Self::SourceIsStdin => "stdin",
            Self::Language { .. } => "language",
            Self::NoLineMarkers => "no-line-markers",
            Self::SourceNotAFile { .. } => "source",
            Self::OutputNotAFile { .. }
            | Self::OutputUnwritable { .. }
            | Self::OutputIsSource { .. }
            | Self::OutputIsStream { .. } => "output",
            Self::Probe { .. } => "probe",
            Self::ResponseFile { .. } => "response-file",
            Self::Environment { .. } => "environment",
            Self::OtherNamespace => "other-namespace",
            Self::FileSizeLimit => "file-size-limit",
            Self::Modules { .. } => "modules",
            Self::Nested => "nested",
            Self::NoHosts | Self::EmptyHostList { .. } => "no-hosts",
            Self::BadHostList { .. } => "bad-host-list",
            Self::LocalhostListed => "localhost-listed",
            Self::Toolchain { .. } => "toolchain",
            Self::NativeUnresolved { .. } => "native",
            Self::PreprocessorFailed => "preprocessor-failed",
            Self::PreprocessorDiagnostics => "preprocessor-diagnostics",
            Self::Text { .. } => "text",
            Self::RemoteDiagnostics => "remote-diagnostics",
            Self::RemoteKilled => "remote-killed",
            Self::Audit => "audit",
            Self::UnexpectedOutput { .. } => "unexpected-output",
            Self::NoVolunteer { .. } => "no-volunteer",
            Self::NoTextCompiler => "no-text-compiler",
            Self::ToolchainUnderway => "toolchain-underway",
            Self::Verification { .. } => "verification",
            Self::Sooner => "sooner",
            Self::Straggler => "straggler",
            Self::Draining => "draining",
            Self::Broker { .. } => "broker",
        }
    }
}
