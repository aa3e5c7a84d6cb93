//! Invitations: `distccd --pair` opens one, the daemon takes it, and it counts once.
//!
//! The two are different processes. An open invitation is a file whose name is the digest of its secret
//! and which holds the moment until when it counts; whoever removes that file has it.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::{identity, unix_now};
use crate::common::protocol::link::DEFAULT_PORT;
use crate::common::trust::authorized::{Authorized, FILE_MAX_BYTES, printable};
use crate::common::trust::files::{self, FileError};
use crate::common::trust::invitation::{Invitation, LIFETIME, SECRET_BYTES, Secret};
use crate::common::trust::key::{PublicKey, random};

/// Where a daemon of a folder notes its addresses.
const SERVING: &str = "serving";

/// Why no code is shown.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// Keys cannot be read or kept.
    #[error(transparent)]
    File(#[from] FileError),
    /// Nobody would answer.
    #[error(
        "no distccd has served yet with its keys in {0}\nhint: start it first, or say with --state-dir where its keys are"
    )]
    NotServing(PathBuf),
    /// What was given is no address.
    #[error("{0} is not an address: a host name or an IP address, with or without :PORT")]
    BadAddress(String),
}

/// The folder of open invitations.
pub fn folder(state: &Path) -> PathBuf {
    state.join("invitations")
}

/// Notes where a daemon listens, for [`invite`].
pub fn note_serving(state: &Path, addresses: &[SocketAddr]) {
    let text: String = addresses.iter().map(|address| format!("{address}\n")).collect();
    if let Err(error) = files::edit(&state.join(SERVING), 1 << 16, |_| text) {
        tracing::warn!("distccd --pair will not know where this daemon listens: {error}");
    }
}

/// Opens an invitation to the daemon of this folder. `address` is where clients reach it, when that is not
/// what it listens on.
///
/// # Errors
///
/// Returns why there is none.
pub fn invite(state: &Path, address: Option<&str>) -> Result<Invitation, PairError> {
    let key = identity(state)?.public();
    let serving = files::list(&state.join(SERVING), 1 << 16)?;
    let serving: Vec<SocketAddr> = serving.lines().filter_map(|line| line.parse().ok()).collect();
    let (host, port) = match (address, serving.first()) {
        (Some(address), first) => read_address(address, first.map_or(DEFAULT_PORT, SocketAddr::port))
            .ok_or_else(|| PairError::BadAddress(address.to_owned()))?,
        (None, Some(first)) => (name_of(&serving), first.port()),
        (None, None) => return Err(PairError::NotServing(state.to_owned())),
    };
    let secret = Secret(random::<SECRET_BYTES>().ok_or(FileError::NoRandom)?);
    let invitations = folder(state);
    files::private_folder(&invitations)?;
    forget_old(&invitations);
    let until = unix_now() + LIFETIME.as_secs();
    files::edit(&invitations.join(secret.file_name()), 64, |_| format!("{until}\n"))?;
    Ok(Invitation { host, port, key, secret })
}

/// `HOST`, `HOST:PORT`, `[V6]`, `[V6]:PORT`, or a bare IPv6 address.
fn read_address(text: &str, usual: u16) -> Option<(String, u16)> {
    let good =
        |host: &str| !host.is_empty() && host.len() <= 255 && host.chars().all(|c| c.is_ascii_graphic());
    if text.parse::<IpAddr>().is_ok() {
        return Some((text.to_owned(), usual));
    }
    let (host, port) = match text.rsplit_once(':').filter(|_| !text.ends_with(']')) {
        Some((host, port)) => (host, port.parse().ok().filter(|&port| port > 0)?),
        None => (text, usual),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    good(bare).then(|| (bare.to_owned(), port))
}

/// How clients call a machine that listens on these: by the one address, else by its name.
fn name_of(serving: &[SocketAddr]) -> String {
    let given = serving.iter().map(SocketAddr::ip).find(|address| !address.is_unspecified());
    match given {
        Some(address) => address.to_string(),
        None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    }
}

/// Removes invitations that do not count any more.
fn forget_old(invitations: &Path) {
    for path in entries(invitations) {
        if !counts(&path) {
            let _ = fs::remove_file(path);
        }
    }
}

fn entries(invitations: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(invitations).into_iter().flatten().filter_map(Result::ok);
    // A digest in hexadecimal; the lock of the folder is none.
    entries.map(|entry| entry.path()).filter(|path| path.file_name().is_some_and(|name| name.len() == 64))
}

/// Whether an invitation counts now. One that claims to count for longer than any does was not made by us.
fn counts(path: &Path) -> bool {
    let until = files::list(path, 64).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let now = unix_now();
    until.is_some_and(|until| (now..=now + LIFETIME.as_secs()).contains(&until))
}

/// Whether any invitation is open.
pub fn any_open(invitations: &Path) -> bool {
    entries(invitations).any(|path| counts(&path))
}

/// Takes an invitation and authorises the client; the name that it has in the list.
pub fn take(
    invitations: &Path,
    list: &Path,
    secret: [u8; SECRET_BYTES],
    key: &PublicKey,
    name: &str,
) -> Option<String> {
    let path = invitations.join(Secret(secret).file_name());
    let open = counts(&path);
    // Of many who try at once, one removes it.
    if fs::remove_file(&path).is_err() || !open {
        return None;
    }
    authorize(list, key, name).inspect_err(|error| tracing::error!("cannot authorise {key}: {error}")).ok()
}

/// Adds a client to the list, unless it is there.
fn authorize(list: &Path, key: &PublicKey, name: &str) -> Result<String, FileError> {
    let name = match printable(name) {
        // `farm` and `revoked` are words of the file only at a line's beginning: a name may be anything.
        name if name.is_empty() => key.fingerprint(),
        name => name,
    };
    let mut known = None;
    files::edit(list, FILE_MAX_BYTES, |text| {
        let (authorized, _) = Authorized::parse(text);
        known = authorized.name(key).map(str::to_owned);
        let gap = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        match known {
            Some(_) => text.to_owned(),
            None => format!("{text}{gap}{key} {name}\n"),
        }
    })?;
    let (authorized, _) = Authorized::parse(&files::list(list, FILE_MAX_BYTES)?);
    // A key that is revoked stays so, whoever invites it.
    let shown = authorized.name(key).map(str::to_owned);
    shown
        .ok_or_else(|| FileError::Io { path: list.to_owned(), error: io::Error::other("its key is revoked") })
}
