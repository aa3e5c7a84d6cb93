//! Where the broker's own messages go: stderr in the foreground, else `broker.log` in its place.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Mutex;

use crate::common::place::Place;

/// A log that is larger when a broker starts makes room: one older log is kept.
const LOG_MAX_BYTES: u64 = 8 << 20;

/// Starts logging: lines of text, or JSON documents (`DISTCC_LOG_FORMAT=json`), each with the spans that it
/// is in: of a job, and of an attempt, whose number is in the volunteer's log as well. Without a file to write to, the broker works in silence rather than not at all.
pub fn start(place: &Place, detached: bool, json: bool) {
    let level = match std::env::var("DISTCC_VERBOSE").as_deref() {
        Ok("1") => tracing::Level::DEBUG,
        _ => tracing::Level::INFO,
    };
    let format = tracing_subscriber::fmt().with_max_level(level).with_ansi(false);
    match (detached, json) {
        (false, false) => format.with_writer(io::stderr).init(),
        (false, true) => format.json().with_writer(io::stderr).init(),
        (true, json) => match open(place) {
            Ok(file) if json => format.json().with_writer(Mutex::new(file)).init(),
            Ok(file) => format.with_writer(Mutex::new(file)).init(),
            Err(_) => {}
        },
    }
}

fn open(place: &Place) -> io::Result<File> {
    let path = place.file("broker.log").as_path().to_owned();
    if std::fs::metadata(&path).is_ok_and(|found| found.len() > LOG_MAX_BYTES) {
        std::fs::rename(&path, place.file("broker.log.old").as_path())?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}
