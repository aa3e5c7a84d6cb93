//! `distccd --dashboard-address`, `--pause` and `--resume`: asking a daemon that runs, as its owner.
//!
//! The daemon's note says where its page is and with which token; who can read it is the daemon's user, or
//! root.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::token::{Noted, noted};
use crate::common::trust::files::FileError;

/// How long a daemon may take for each step of an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer.
const ANSWER_MAX_BYTES: u64 = 64 << 10;

/// What an owner wants of a daemon that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// The page's address.
    Address,
    /// No new jobs.
    Pause,
    /// Jobs again.
    Resume,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The note is not used.
    #[error(transparent)]
    Note(#[from] FileError),
    /// No daemon has written one.
    #[error(
        "no distccd with a page runs with its keys in {0}\nhint: start it with --dashboard 3634, or say with \
         --state-dir where its keys are; kill -USR1 pauses one without a page, kill -USR2 lets it go on"
    )]
    NoPage(PathBuf),
    /// It does not answer.
    #[error("no answer from the distccd that had its page at {at}: {error}")]
    Silent {
        /// Where.
        at: std::net::SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// It says no.
    #[error("distccd says: {0}")]
    Refused(String),
}

/// Asks the daemon whose keys are in this folder; what to print.
///
/// # Errors
///
/// Returns why there is no answer.
pub fn ask(folder: &Path, request: Request) -> Result<String, AskError> {
    let noted = noted(folder)?.ok_or_else(|| AskError::NoPage(folder.to_owned()))?;
    let silent = |error| AskError::Silent { at: noted.at, error };
    match request {
        Request::Address => {
            TcpStream::connect_timeout(&noted.at, PATIENCE).map_err(silent)?;
            Ok(format!("{}\n", noted.address))
        }
        Request::Pause => {
            let told = post(&noted, "/pause")?;
            let running = told.split("\"running\":").nth(1).map(|rest| rest.trim_end_matches('}'));
            Ok(match running {
                Some("0") | None => "paused\n".to_owned(),
                Some("1") => "paused; one job that runs is finished\n".to_owned(),
                Some(running) => format!("paused; {running} jobs that run are finished\n"),
            })
        }
        Request::Resume => post(&noted, "/resume").map(|_| "jobs are taken again\n".to_owned()),
    }
}

/// The body of the answer.
fn post(noted: &Noted, path: &str) -> Result<String, AskError> {
    let silent = |error| AskError::Silent { at: noted.at, error };
    let answer = exchange(noted, path).map_err(silent)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(AskError::Refused(head.lines().next().unwrap_or_default().to_owned())),
    }
}

fn exchange(noted: &Noted, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&noted.at, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (at, token) = (noted.at, &noted.token);
    stream.write_all(
        format!(
            "POST {path} HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
        )
        .as_bytes(),
    )?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
