//! Runs the compiler for a request, and takes what it left.

use std::io::{Read, Seek};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::order::Command;
use super::receive::Received;
use crate::common::action::{Action, Blob, Ended, InputSet, OutputName};
use crate::common::limits::{MESSAGES_MAX_BYTES, OUTPUT_MAX_BYTES};
use crate::common::protocol::classic::Response;
use crate::common::protocol::link::Refusal;
use crate::common::toolchain::{Digest, Toolchain};
use crate::remote::compile::{disk_refusal, open_output};
use crate::remote::gate::Place;
use crate::remote::job::Context;
use crate::remote::process::Control;

/// Runs a job whose turn has come; its directory goes when this is over.
pub async fn run(
    received: Received,
    program: PathBuf,
    context: &Arc<Context>,
    control: Arc<Control>,
    place: Place,
) -> Result<(Ended, Response), Refusal> {
    let context = Arc::clone(context);
    let work = move || {
        let outcome = compile(&received, &program, &context, &control);
        drop(place);
        outcome
    };
    let failed = |error| Refusal::Failed { detail: format!("a worker thread ended: {error}") };
    spawn_blocking(work).await.map_err(failed)?
}

fn compile(
    received: &Received,
    program: &std::path::Path,
    context: &Context,
    control: &Control,
) -> Result<(Ended, Response), Refusal> {
    let action = action(&received.command);
    let workshop = &context.workshop;
    let mut ran = workshop.run(program, &action, &received.directory, control, &context.guard, None)?;
    let ended = ran.finished.ended;
    let printed = |file: &mut std::fs::File| {
        let mut text = Vec::new();
        let read = file.rewind().and_then(|()| file.take(MESSAGES_MAX_BYTES).read_to_end(&mut text));
        read.map(|_| text).map_err(|error| disk_refusal("take what the compiler printed", &error))
    };
    let mut response = Response {
        status: wait_status(ended),
        stdout: printed(&mut ran.stdout)?,
        stderr: printed(&mut ran.stderr)?,
        ..Response::default()
    };
    if ended.is_success() {
        let path = received.directory.path().join(format!("out{}", received.command.output));
        response.object = read_output(&path).map_err(|error| disk_refusal("take the output", &error))?;
    } else {
        workshop.check_disk()?;
    }
    Ok((ended, response))
}

/// What the compiler wrote; nothing when it succeeded without writing anything, as `true` does.
fn read_output(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    let mut file = match open_output(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let mut object = Vec::new();
    file.by_ref().take(OUTPUT_MAX_BYTES + 1).read_to_end(&mut object)?;
    match object.len() as u64 <= OUTPUT_MAX_BYTES {
        true => Ok(object),
        false => Err(std::io::ErrorKind::FileTooLarge.into()),
    }
}

/// As `wait(2)` has it.
fn wait_status(ended: Ended) -> u32 {
    match ended {
        Ended::Exited(code) => (code as u32 & 0xff) << 8,
        Ended::Killed(signal) => signal as u32 & 0x7f,
    }
}

/// The command as an action whose input is in place; which toolchain it is, nobody said.
fn action(command: &Command) -> Action {
    let nothing = Digest([0; 32]);
    let toolchain = Toolchain {
        id: nothing,
        names: Vec::new(),
        version: String::new(),
        target: String::new(),
        clang: false,
    };
    let source = Blob { digest: nothing, size: 0, packed: 0 };
    Action {
        toolchain,
        arguments: command.arguments.clone(),
        environment: Vec::new(),
        inputs: InputSet::Preprocessed { source, suffix: command.input.to_owned() },
        outputs: vec![OutputName { suffix: command.output.to_owned() }],
    }
}
