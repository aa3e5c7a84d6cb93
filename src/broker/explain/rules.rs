//! The rule behind each reason to stay here.

use crate::common::reason::LocalReason;

/// Why such a compile stays here, whichever it is.
pub fn rule(reason: &LocalReason) -> &'static str {
    use LocalReason as R;
    match reason {
        R::NotACompile => {
            "only compiles of one source to an object or to assembly (-c, -S) leave; links, and questions to the compiler, need this machine's files or cost next to nothing"
        }
        R::PreprocessOnly { .. } => {
            "what the preprocessor alone makes is made here: sending the files would cost as much"
        }
        R::Option { .. } => {
            "each option is in a table with what it reads, writes and runs; this one does what a volunteer cannot do in this machine's place"
        }
        R::NotAsFiles { .. } => "what can travel neither as files nor as preprocessed text runs here",
        R::UnknownOption { .. } => {
            "an option that is not in the table may read or write anything; in doubt a compile runs here"
        }
        R::NoSource | R::SeveralSources => "a job is exactly one source",
        R::SourceIsStdin => "standard input belongs to this process and can be read but once",
        R::SourceNotAFile { .. } => {
            "inputs must be plain files, which can be read twice with the same result"
        }
        R::Language { .. } => {
            "C, C++, their Objective kin and assembly with directives leave; other languages stay"
        }
        R::NoLineMarkers => {
            "a text without line markers would be named by the volunteer's file in debug information"
        }
        R::OutputNotAFile { .. } => {
            "outputs are written beside their place and renamed, which only plain files allow"
        }
        R::OutputIsStream { .. } => "the compiler makes the file when all is said; here it is made first",
        R::OutputIsSource { .. } | R::OutputUnwritable { .. } => "the compiler itself refuses this",
        R::Probe { .. } => {
            "tests of configure scripts are small, one after the other, and ask about this machine"
        }
        R::ResponseFile { .. } => {
            "response files are read to see the whole command; where that fails the compiler is to say why"
        }
        R::Environment { .. } => {
            "variables that change what compilers do in ways that cannot be followed elsewhere"
        }
        R::Modules { .. } => "only named modules whose files are known, and repeatable, travel with them",
        R::FileSizeLimit => "only a compiler here fails at the size at which it would fail here",
        R::OtherNamespace => "the broker must see the files that the compile sees, under the same names",
        R::Nested => "an outer distcc has decided already",
        R::NoHosts | R::EmptyHostList { .. } => "without volunteers all is compiled here",
        R::BadHostList { .. } => "a list that cannot be read as a whole is not used in part",
        R::LocalhostListed => "the hosts list names this machine as one of its hosts",
        R::Toolchain { .. } => {
            "a compiler is what its files are; one that cannot be asked what it is cannot be matched"
        }
        R::NativeUnresolved { .. } => {
            "options that mean this machine's processor leave only when they can be spelt out with the same result"
        }
        R::PreprocessorFailed | R::PreprocessorDiagnostics => "what goes wrong in preprocessing is told here",
        R::Text { .. } => "what a preprocessed text would change or lose is compiled here",
        R::RemoteDiagnostics => {
            "a compile that fails or warns in preprocessed mode is repeated here, so that its words are those of this machine's compiler"
        }
        R::RemoteKilled => "a compiler that was killed elsewhere proves nothing about the source",
        R::Audit => "a compile that read other files than were found is not trusted",
        R::UnexpectedOutput { .. } => "only files that this very command makes are taken from a volunteer",
        R::Verification { .. } => "a volunteer that sends other objects than this machine makes is a liar",
        R::NoVolunteer { .. } => "no listed host could do it, and DISTCC_FALLBACK allows to compile here",
        R::NoTextCompiler => {
            "a text is compiled by a compiler of the volunteer's own; only compiles that travel as files bring theirs along"
        }
        R::Sooner | R::Straggler | R::ToolchainUnderway => "where this machine is sooner it does the work",
        R::Draining => "a broker that was told to stop sends nothing more",
        R::Broker { .. } => "whatever fails, the compile runs here",
    }
}
