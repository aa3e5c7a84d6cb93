//! Control words: the broker's program has the full command line.

use crate::common::bytes::Bytes;
use crate::common::exit;
use crate::common::program::{basename, candidates};

use super::exec;
use super::settings::variable;
use super::voice::Voice;
use super::words::FACES;

/// The broker's program.
const BROKER: &str = "distcc-broker";

/// Becomes the broker's program with the same words; returns only when it cannot.
pub fn hand_over(arguments: &[Bytes], environment: &[Bytes], voice: &Voice<'_>) -> i32 {
    let Some(program) = broker_program(environment) else {
        voice.say("ERROR: cannot find distcc-broker\nhint: install it beside distcc, or in PATH");
        return exit::FAILED;
    };
    let mut words = arguments.to_vec();
    let name = basename(&words[0]);
    words[0] = if FACES.contains(&name) { name.into() } else { "distcc".into() };
    let error = exec::become_program(&program, &words, environment, None);
    voice.say(&format!("ERROR: cannot run {program}: {error}"));
    exit::FAILED
}

/// The broker's program: beside our own executable, else in PATH.
pub fn broker_program(environment: &[Bytes]) -> Option<Bytes> {
    let own = std::fs::read_link("/proc/self/exe").ok();
    let beside = own.and_then(|own| Some(Bytes::from(&*own.parent()?.join(BROKER))));
    let path = variable(environment, "PATH").unwrap_or_default();
    beside.into_iter().chain(candidates(BROKER.as_bytes(), path)).find(|file| {
        rustix::fs::access(&file[..], rustix::fs::Access::EXEC_OK).is_ok() && file.as_path().is_file()
    })
}
