//! Runs the compiler for a request, and takes what it left.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memchr::memmem;
use tokio::task::spawn_blocking;

use super::receive::{Received, Work};
use crate::common::action::Ended;
use crate::common::limits::{MESSAGES_MAX_BYTES, OUTPUT_MAX_BYTES};
use crate::common::protocol::classic::Response;
use crate::common::protocol::link::Refusal;
use crate::remote::clients::Held;
use crate::remote::compile::{CommandLine, disk_refusal, open_output};
use crate::remote::gate::Place;
use crate::remote::job::Context;
use crate::remote::process::{Control, Finished};

/// What one client's answers may take in memory until they have left: the largest there is, and many small ones.
const ANSWERS_MAX_BYTES: u64 = 2 * OUTPUT_MAX_BYTES + (64 << 20);

/// Runs a job whose turn has come; its directory goes when this is over.
pub async fn run(
    received: Received,
    program: PathBuf,
    context: &Arc<Context>,
    control: Arc<Control>,
    (place, room): (Place, Held),
) -> Result<(Finished, Response, Held), Refusal> {
    let context = Arc::clone(context);
    let work = move || {
        let outcome = compile(&received, &program, &context, &control, &room);
        drop(place);
        outcome.map(|(finished, response)| (finished, response, room))
    };
    let failed = |error| Refusal::Failed { detail: format!("a worker thread ended: {error}") };
    spawn_blocking(work).await.map_err(failed)?
}

fn compile(
    received: &Received,
    program: &Path,
    context: &Context,
    control: &Control,
    room: &Held,
) -> Result<(Finished, Response), Refusal> {
    let (workshop, directory) = (&context.workshop, &received.directory);
    let Work { arguments, cwd, object, dependencies, root, .. } = &received.work;
    let arguments: &[OsString] = arguments;
    // The input has a name of ours, or lies among others in a tree.
    let inputs = &received.work.inputs;
    let line = CommandLine { program, programs: &[], arguments, inputs, environment: &[], cwd };
    let mut ran = workshop.run(&line, directory, control, &context.guard, None)?;
    let finished = ran.finished;
    let ended = finished.ended;
    let printed = |file: &mut File| {
        let text = file.rewind().and_then(|()| read(file, MESSAGES_MAX_BYTES));
        let text = text.map_err(|error| disk_refusal("take what the compiler printed", &error))?;
        Ok::<_, Refusal>(without_root(text, root.as_deref()))
    };
    let mut response = Response {
        status: wait_status(ended),
        stdout: printed(&mut ran.stdout)?,
        stderr: printed(&mut ran.stderr)?,
        ..Response::default()
    };
    if !ended.is_success() {
        workshop.check_space(&ran.left)?;
        return Ok((finished, response));
    }
    response.object = written(&ran.left, object, OUTPUT_MAX_BYTES, room)
        .map_err(|error| disk_refusal("take the output", &error))?;
    if let Some(path) = dependencies {
        let text = written(&ran.left, path, MESSAGES_MAX_BYTES, room)
            .map_err(|error| disk_refusal("take the dependency file", &error))?;
        response.dependencies = Some(without_root(text, root.as_deref()));
    }
    Ok((finished, response))
}

/// Paths as the client has them.
fn without_root(text: Vec<u8>, root: Option<&[u8]>) -> Vec<u8> {
    let Some(root) = root else { return text };
    let mut clean = Vec::with_capacity(text.len());
    let mut rest = 0;
    for found in memmem::find_iter(&text, root) {
        clean.extend_from_slice(&text[rest..found]);
        rest = found + root.len();
    }
    clean.extend_from_slice(&text[rest..]);
    clean
}

fn read(file: &mut File, max: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 <= max {
        true => Ok(bytes),
        false => Err(std::io::ErrorKind::FileTooLarge.into()),
    }
}

/// What the compiler wrote; nothing when it succeeded without writing anything, as `true` does.
fn written(left: &OwnedFd, path: &Path, max: u64, room: &Held) -> std::io::Result<Vec<u8>> {
    let mut file = match open_output(left, path.file_name().unwrap_or_default()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    // As it is, and packed.
    let bytes = 2 * file.metadata()?.len().min(max);
    match room.grow(bytes, ANSWERS_MAX_BYTES) {
        true => read(&mut file, max),
        false => Err(std::io::Error::other("this client has not taken the results that it has already")),
    }
}

/// As `wait(2)` has it.
fn wait_status(ended: Ended) -> u32 {
    match ended {
        Ended::Exited(code) => (code as u32 & 0xff) << 8,
        Ended::Killed(signal) => signal as u32 & 0x7f,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_taken_out_of_every_path() {
        let text = b"/T/r/a.c:1: error\n  in /T/r/b.h, /T/other".to_vec();
        assert_eq!(without_root(text.clone(), Some(b"/T/r")), b"/a.c:1: error\n  in /b.h, /T/other");
        assert_eq!(without_root(text.clone(), None), text);
    }

    #[test]
    fn results_that_a_client_does_not_take_are_bounded() {
        use crate::remote::clients::{Client, Clients, Good};
        let folder = tempfile::tempdir().expect("a folder");
        let object = folder.path().join("out.o");
        std::fs::write(&object, b"object").expect("our own file");
        let left: OwnedFd = File::open(folder.path()).expect("a folder").into();
        let (clients, client) = (Clients::default(), Client::Address([192, 0, 2, 1].into()));
        let link = clients.enter(client).expect("a connection");
        let others = link.take(Good::Leaving, ANSWERS_MAX_BYTES - 11, ANSWERS_MAX_BYTES);
        let room = link.none(Good::Leaving);
        assert!(written(&left, &object, 100, &room).is_err());
        drop(others);
        assert_eq!(written(&left, &object, 100, &room).expect("room"), b"object");
    }
}
