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

use crate::common::bytes::Bytes;
use crate::common::exit;
use crate::common::invocation::Invocation;
use crate::common::program::basename;

use broker::Outcome;
use compiler::Compiler;
use settings::Settings;
use voice::Voice;
use words::Way;

/// How deep distcc may be called from within distcc before it must be a loop. A compiler that is
/// itself a wrapper (ccache, a script) makes one or two levels.
const NESTED_MAX: u32 = 5;

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
    argv: Vec<Bytes>,
    called_as: Option<&Bytes>,
    mut environment: Vec<Bytes>,
    settings: &Settings,
    voice: &Voice<'_>,
) -> i32 {
    if settings.nested >= NESTED_MAX {
        voice.say(&format!(
            "{}: distcc calls itself, {} levels deep (_DISTCC_SAFEGUARD)\n\
             hint: PATH or a wrapper script leads back to distcc: {}",
            argv[0],
            settings.nested,
            settings::variable(&environment, "PATH").map(String::from_utf8_lossy).unwrap_or_default(),
        ));
        return exit::RECURSION;
    }
    let cwd = gather::cwd();
    let compiler = match compiler::locate(&argv[0], called_as, &environment, cwd.as_deref()) {
        Ok(compiler) => compiler,
        Err(error) => {
            voice.say(&error.to_string());
            return error.exit_status();
        }
    };
    compiler.cut_path(&mut environment);
    let mut invocation = gather::invocation(argv, cwd, environment);
    invocation.argv[0].clone_from(&compiler.name);
    let local = Local { compiler: &compiler, settings, voice };
    if let Some(wrong) =
        settings.bad_io_timeout.as_ref().filter(|_| words::may_be_distributed(&invocation.argv))
    {
        voice.say(&format!("DISTCC_IO_TIMEOUT={wrong} is no number of seconds above 0"));
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
    distribute(&invocation, &local)
}

fn distribute(invocation: &Invocation, local: &Local<'_>) -> i32 {
    let voice = local.voice;
    match broker::ask(invocation, voice) {
        Ok(Outcome::Done(done)) => relay::deliver(&done, voice),
        Ok(Outcome::Run { run, lease }) => {
            voice.say_bytes(&run.warning);
            if let Some(status) = run.forbidden {
                voice.say(&format!("cannot distribute, and DISTCC_FALLBACK=0: {}", run.reason));
                return status;
            }
            voice.debug(&format!("compiling here: {}", run.reason));
            local.run(invocation, Some(lease))
        }
        Err(trouble) => local.fall_back(invocation, &trouble),
    }
}

/// Running the compiler in place of the shim.
struct Local<'a> {
    compiler: &'a Compiler,
    settings: &'a Settings,
    voice: &'a Voice<'a>,
}

impl Local<'_> {
    fn run(&self, invocation: &Invocation, lease: Option<connection::Connection>) -> i32 {
        let environment = settings::nested_environment(&invocation.env, self.settings.nested + 1);
        let error = exec::become_program(&self.compiler.file, &invocation.argv, &environment, lease);
        self.voice.say(&format!("{}: cannot run {}: {error}", invocation.argv[0], self.compiler.file));
        exit::NO_COMPILER
    }

    /// Compiles here because the broker could not be asked.
    fn fall_back(&self, invocation: &Invocation, trouble: &broker::Trouble) -> i32 {
        let what = words::source_of(&invocation.argv).unwrap_or(basename(&invocation.argv[0]));
        let what = String::from_utf8_lossy(what);
        if !self.settings.fallback && words::may_be_distributed(&invocation.argv) {
            self.voice.say(&format!("{what}: cannot distribute, and DISTCC_FALLBACK=0: {trouble}"));
            return exit::NO_HOSTS;
        }
        self.voice.say(&format!("warning: {what}: {trouble}; compiling here"));
        self.run(invocation, None)
    }
}
