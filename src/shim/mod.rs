//! The shim: stands in for the compiler, for milliseconds, once per compile.
//!
//! It hands the invocation to the broker and does as it is told: exec the compiler with the
//! connection left open as the lease, or print what the compile printed and end as it ended. In
//! any doubt it compiles here. It never reads a source, never decides where a job runs, and prints
//! nothing before the outcome is whole.
//!
//! It has one thread and starts from C's `main`, so SIGPIPE, the signal mask and closed
//! descriptors are as the build left them, both for itself and for the compiler that it execs.

mod broker;
mod compiler;
mod connection;
mod control;
mod exec;
mod gather;
mod launch;
mod relay;
mod settings;
mod upgrade;
mod voice;
mod words;

use std::borrow::Cow;

use crate::common::bytes::Bytes;
use crate::common::exit;
use crate::common::invocation::Invocation;
use crate::common::program::basename;
use crate::common::protocol::local::{Attempted, Done, Run};

use broker::Outcome;
use compiler::{Compiler, CompilerError};
use settings::Settings;
use voice::Voice;
use words::Way;

/// How deep distcc may be called from within distcc before it must be a loop. A compiler that is
/// itself a wrapper (ccache, a script) makes one or two levels.
const NESTED_MAX: u32 = 5;

/// What is said when nothing may be compiled here; the words are those of distcc 3.4.
const NO_FALLBACK: &str = "failed to distribute and fallbacks are disabled (DISTCC_FALLBACK=0)";

/// Runs the shim with argv and environment of the process; returns its exit status, unless the
/// process has become the compiler.
pub fn run(arguments: &[Bytes], environment: Vec<Bytes>) -> i32 {
    let settings = Settings::read(&environment);
    let voice = Voice::new(&settings);
    match words::way_in(arguments) {
        Way::Usage => {
            voice.say("usage: distcc [COMPILER] ARGUMENTS…, or distcc --help");
            exit::BAD_ARGUMENTS
        }
        Way::Control => control::hand_over(arguments, &environment, &voice),
        Way::Compile { argv, called_as } => compile(argv, called_as.as_ref(), environment, &settings, &voice),
    }
}

fn compile(
    mut argv: Vec<Bytes>,
    called_as: Option<&Bytes>,
    mut environment: Vec<Bytes>,
    settings: &Settings,
    voice: &Voice<'_>,
) -> i32 {
    if settings.nested >= NESTED_MAX {
        voice.say(&format!(
            "ERROR: {}: distcc calls itself, {} levels deep (_DISTCC_SAFEGUARD)\n\
             hint: PATH or a wrapper script leads back to distcc: {}",
            argv[0],
            settings.nested,
            settings::variable(&environment, "PATH").map(String::from_utf8_lossy).unwrap_or_default(),
        ));
        return exit::RECURSION;
    }
    let cwd = gather::cwd();
    // Else the broker finds out what the name means, and remembers it.
    let compiler = match compiler::may_be_ourselves(&argv[0], called_as) {
        true => match compiler::locate(&argv[0], called_as, &environment, cwd.as_deref()) {
            Ok(compiler) => Some(compiler),
            Err(error) => return missing(&error, voice),
        },
        false => None,
    };
    if let Some(compiler) = &compiler {
        compiler.cut_path(&mut environment);
        argv[0].clone_from(&compiler.name);
    }
    let terminal = gather::terminal();
    let is_closed = terminal.is_err();
    let invocation = gather::invocation(argv, cwd, environment, terminal.unwrap_or_default());
    let local = Local { compiler, settings, voice };
    if let Some(wrong) =
        settings.bad_io_timeout.as_ref().filter(|_| words::may_be_distributed(&invocation.argv))
    {
        voice.say(&format!("ERROR: DISTCC_IO_TIMEOUT={wrong} is no number of seconds above 0"));
        return exit::BAD_ARGUMENTS;
    }
    if settings.nested > 0 {
        voice.debug("called from within another distcc; compiling here");
        return local.run(&invocation, None);
    }
    if settings.broker_off {
        voice.debug("DISTCC_BROKER=off; compiling here");
        return local.run(&invocation, None);
    }
    if is_closed {
        voice.debug("stderr is closed; compiling here");
        return local.run(&invocation, None);
    }
    distribute(&invocation, &local)
}

fn distribute(invocation: &Invocation, local: &Local<'_>) -> i32 {
    let voice = local.voice;
    match broker::ask(invocation, voice) {
        Ok(Outcome::Done(done)) => {
            voice.say_lines(&done.warning);
            if voice.has_log() {
                local.note_done(invocation, &done);
            }
            relay::deliver(&done, voice)
        }
        Ok(Outcome::Run { run, lease }) => {
            voice.say_lines(&run.warning);
            if let Some(status) = run.forbidden {
                let (what, why) = (local.what(invocation), &run.reason);
                voice.say(&format!("ERROR: {what}: {NO_FALLBACK}: {why}"));
                return status;
            }
            local.tell_of_attempt(invocation, &run);
            local.run(invocation, Some(lease))
        }
        Err(trouble) => local.fall_back(invocation, &trouble),
    }
}

/// Running the compiler in place of the shim.
struct Local<'a> {
    /// The compiler, where it had to be found before the broker was asked.
    compiler: Option<Compiler>,
    settings: &'a Settings,
    voice: &'a Voice<'a>,
}

impl Local<'_> {
    fn run(&self, invocation: &Invocation, lease: Option<connection::Connection>) -> i32 {
        if self.voice.has_log() {
            self.voice.note(&format!("exec on localhost: {}", command_line(invocation)));
        }
        let found = match &self.compiler {
            Some(compiler) => Ok(Cow::Borrowed(compiler)),
            None => compiler::locate(&invocation.argv[0], None, &invocation.env, Some(&invocation.cwd))
                .map(Cow::Owned),
        };
        let compiler = match found {
            Ok(compiler) => compiler,
            Err(error) => return missing(&error, self.voice),
        };
        let mut environment = settings::nested_environment(&invocation.env, self.settings.nested + 1);
        compiler.cut_path(&mut environment);
        let error = exec::become_program(&compiler.file, &invocation.argv, &environment, lease);
        self.voice.say_aloud(&format!("ERROR: failed to exec {}: {error}", compiler.file));
        exit::NO_COMPILER
    }

    /// Compiles here because the broker could not be asked.
    fn fall_back(&self, invocation: &Invocation, trouble: &broker::Trouble) -> i32 {
        let what = self.what(invocation);
        if !self.settings.fallback && words::may_be_distributed(&invocation.argv) {
            self.voice.say(&format!("ERROR: {what}: {NO_FALLBACK}: {trouble}"));
            return exit::NO_HOSTS;
        }
        self.voice.say(&format!("Warning: {what}: {trouble}; compiling here"));
        self.run(invocation, None)
    }

    /// What messages call a run: its source, or the compiler where there is none.
    fn what<'i>(&self, invocation: &'i Invocation) -> Cow<'i, str> {
        let what = words::source_of(&invocation.argv).unwrap_or(basename(&invocation.argv[0]));
        String::from_utf8_lossy(what)
    }

    /// Says why the compiler is run here; what was tried elsewhere, in words that scripts know.
    fn tell_of_attempt(&self, invocation: &Invocation, run: &Run) {
        let (what, why) = (self.what(invocation), &run.reason);
        match run.attempted {
            Attempted::No => {}
            Attempted::Undistributed { first } => {
                let text = format!("Warning: failed to distribute {what}, running locally instead");
                if first { self.voice.say(&text) } else { self.voice.note(&text) }
            }
            Attempted::Repeated => {
                self.voice.note(&format!("remote compilation of '{what}' is no result, retrying locally"));
            }
        }
        self.voice.debug(&format!("compiling here: {why}"));
    }

    /// Notes a compile that was done elsewhere as distcc 3.4 does.
    fn note_done(&self, invocation: &Invocation, done: &Done) {
        let (what, host) = (self.what(invocation), &done.host);
        self.voice.note(&format!("exec on {host}: {}", command_line(invocation)));
        match done.ended.is_success() {
            true => self.voice.note(&format!("compile {what} on {host} completed ok")),
            false => self.voice.note(&format!("ERROR: compile {what} on {host} failed")),
        }
    }
}

/// Says that there is no compiler, as a shell says on stderr that there is no command; returns the status to exit with.
fn missing(error: &CompilerError, voice: &Voice<'_>) -> i32 {
    voice.say_aloud(&format!("ERROR: {error}"));
    error.exit_status()
}

fn command_line(invocation: &Invocation) -> String {
    let words: Vec<String> = invocation.argv.iter().map(Bytes::to_text).collect();
    words.join(" ")
}
