//! The broker's socket: one per place, held by whoever has the lock.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use interprocess::local_socket::tokio::{Listener, Stream};
use interprocess::local_socket::traits::StreamCommon as _;
use interprocess::local_socket::traits::tokio::Listener as _;
use interprocess::local_socket::{GenericFilePath, ListenerOptions, ToFsName};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, sleep_until};

use self::spare::{Spare, is_missing};
use super::Shared;
use super::activation::Inherited;
use super::session::{self, Visit};
use crate::common::place::Place;
use crate::common::protocol::io::local_frame;
use crate::common::protocol::local::Kind;

mod spare;

/// How often a broker looks whether its socket is still there.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// How long nobody is let in after that has failed.
const PAUSE: Duration = Duration::from_millis(100);

/// The socket and the right to it.
pub struct Door {
    listener: Listener,
    place: Place,
    /// Which file its socket is.
    socket: Option<(u64, u64)>,
    /// Whether a service manager made the socket, and starts the next broker when a shim comes.
    is_inherited: bool,
    /// Held as long as the socket is ours.
    _lock: File,
}

/// Why a broker cannot open its door.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// Another broker has the place.
    #[error("a broker is running already")]
    Taken,
    /// The directory is not ours alone.
    #[error("{0} is not a private directory of yours: check its owner and its mode")]
    NotPrivate(String),
    /// A service manager made a socket where no shim of this user looks for a broker.
    #[error("the socket that was handed over, {0}, is not where distcc looks for a broker here")]
    Elsewhere(String),
    /// The operating system refused.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What it said.
        error: io::Error,
    },
}

impl Door {
    /// Takes the lock of a place and listens on its socket.
    ///
    /// # Errors
    ///
    /// Returns why it cannot be done.
    pub fn open(place: Place) -> Result<Self, DoorError> {
        let lock = lock(&place)?;
        let socket = place.socket();
        let open = || {
            let name = socket.as_path().to_fs_name::<GenericFilePath>()?;
            let options = ListenerOptions::new().name(name).reclaim_name(false).try_overwrite(true);
            interprocess::os::unix::local_socket::ListenerOptionsExt::mode(options, 0o600).create_tokio()
        };
        let listener = open().map_err(|error| DoorError::Io { what: socket.to_text(), error })?;
        let socket = identity(&place);
        Ok(Door { listener, place, socket, is_inherited: false, _lock: lock })
    }

    /// Takes the lock of the place, among `places`, whose socket a service manager listens on.
    ///
    /// # Errors
    ///
    /// Returns that no shim would look for a broker there, or what the system said.
    pub fn inherit(places: Vec<Place>, inherited: Inherited) -> Result<Self, DoorError> {
        let Inherited { socket, path } = inherited;
        let place = places.into_iter().find(|place| place.socket() == path);
        let place = place.ok_or_else(|| DoorError::Elsewhere(path.to_text()))?;
        let lock = lock(&place)?;
        let failed = |error| DoorError::Io { what: path.to_text(), error };
        let listener =
            interprocess::os::unix::uds_local_socket::tokio::Listener::try_from(socket).map_err(failed)?;
        let socket = identity(&place);
        Ok(Door { listener: Listener::UdSocket(listener), place, socket, is_inherited: true, _lock: lock })
    }

    /// Where it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Serves shims until it is told to stop, or has had nothing to do for long; then closes the
    /// door and waits until no job needs it. Compilers that run here under a lease do not.
    pub async fn serve(self, shared: Arc<Shared>) {
        let mut sessions = JoinSet::new();
        let mut busy_since = Instant::now();
        let mut look = interval(LOOK_INTERVAL);
        let mut spare = Spare::keep();
        loop {
            let idle_at = busy_since + shared.config.idle;
            tokio::select! {
                () = shared.stopped() => break,
                accepted = self.listener.accept() => match accepted {
                    Ok(stream) => self.admit(&shared, &mut sessions, stream).await,
                    Err(error) => self.turn_away(&shared, &mut spare, &error).await,
                },
                _ = look.tick() => if self.is_lost() {
                    tracing::info!("the socket is gone, so nobody finds this broker: exiting");
                    break;
                },
                Some(ended) = sessions.join_next() => {
                    if ended.unwrap_or(Visit::Business) == Visit::Business {
                        busy_since = Instant::now();
                    }
                }
                () = sleep_until(idle_at), if sessions.is_empty() => {
                    tracing::info!("nothing to do for {} s: exiting", shared.config.idle.as_secs());
                    break;
                }
            }
        }
        // A manager's socket stays for the next broker, unless this one was told to make way: then shims
        // must not wait at it while this one drains.
        if !self.is_inherited || *shared.stopping.borrow() {
            self.close();
        }
        shared.drain().await;
        shared.at_rest().await;
    }

    /// Whether the directory was removed meanwhile; another broker may be in one of the same name.
    fn is_lost(&self) -> bool {
        identity(&self.place) != self.socket
    }

    async fn admit(&self, shared: &Arc<Shared>, sessions: &mut JoinSet<Visit>, mut stream: Stream) {
        if !is_own(&stream) {
            tracing::warn!("a connection of another user was refused");
            return;
        }
        if sessions.len() >= shared.config.sessions_max {
            // Fits into any socket buffer, so it never waits.
            let _ = stream.write_all(&local_frame(Kind::Busy, &[])).await;
            return;
        }
        sessions.spawn(session::serve(shared.clone(), stream));
    }

    /// What to do when nobody can be let in. Where there are no descriptors, whoever comes gets the spare one,
    /// and is told so at once: it would wait for seconds, each compile anew.
    async fn turn_away(&self, shared: &Arc<Shared>, spare: &mut Spare, error: &io::Error) {
        let say = |spare: &mut Spare| {
            let is_due = spare.is_to_be_said(Instant::now());
            if is_due {
                tracing::warn!(%error, "cannot accept a shim");
            }
            is_due
        };
        if !is_missing(error) {
            say(spare);
            sleep(PAUSE).await;
            return;
        }
        if !spare.let_go() {
            sleep(PAUSE).await;
            spare.restore();
            return;
        }
        let accepted = tokio::select! {
            biased;
            accepted = self.listener.accept() => Some(accepted),
            // The system asks for a descriptor before it looks whether anybody is there.
            () = std::future::ready(()) => None,
        };
        match accepted {
            Some(Ok(stream)) if is_own(&stream) => session::turn_away(shared, stream, say(spare)).await,
            // Another thread was quicker.
            Some(Err(_)) => sleep(PAUSE).await,
            Some(Ok(_)) | None => {}
        }
        spare.restore();
    }

    /// Gives the place up: shims that come now start the next broker.
    fn close(self) {
        if self.is_lost() {
            return;
        }
        // The name goes while the lock is held, so it is never the next broker's.
        if let Err(error) = std::fs::remove_file(self.place.socket().as_path()) {
            tracing::warn!(%error, "cannot remove the socket");
        }
    }
}

/// Whether this user is at the other end.
fn is_own(stream: &Stream) -> bool {
    let ours = rustix::process::geteuid().as_raw();
    stream.peer_creds().ok().and_then(|peer| peer.euid()) == Some(ours)
}

/// Takes the lock of a place, which is the right to be its broker.
fn lock(place: &Place) -> Result<File, DoorError> {
    prepare_directory(place)?;
    let path = place.broker_lock();
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path.as_path())
        .map_err(|error| DoorError::Io { what: path.to_text(), error })?;
    fs2::FileExt::try_lock_exclusive(&lock).map_err(|_| DoorError::Taken)?;
    Ok(lock)
}

/// Which file a place's socket is.
fn identity(place: &Place) -> Option<(u64, u64)> {
    let found = std::fs::symlink_metadata(place.socket().as_path()).ok()?;
    Some((found.dev(), found.ino()))
}

fn prepare_directory(place: &Place) -> Result<(), DoorError> {
    let directory = place.directory.as_path();
    let fail = |error| DoorError::Io { what: place.directory.to_text(), error };
    match std::fs::DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(fail(error)),
        _ => {}
    }
    let found = std::fs::symlink_metadata(directory).map_err(fail)?;
    let ours = rustix::process::geteuid().as_raw();
    match found.is_dir() && place.accepts(found.uid(), found.mode(), ours) {
        true => Ok(()),
        false => Err(DoorError::NotPrivate(place.directory.to_text())),
    }
}

/// Makes the directory for the broker's own files, empty.
///
/// # Errors
///
/// Returns what the file system returned.
pub fn fresh_scratch(directory: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::fs::DirBuilder::new().mode(0o700).create(directory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;
    use crate::common::place::{Surroundings, candidates};

    #[tokio::test]
    async fn a_door_whose_directory_was_removed_knows_and_leaves_the_next_ones_socket_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("d");
        let around = Surroundings {
            distcc_dir: Some(path.as_os_str().as_bytes()),
            uid: rustix::process::geteuid().as_raw(),
            ..Surroundings::default()
        };
        let place = || candidates(&around).remove(0);
        let old = Door::open(place()).expect("a door");
        assert!(!old.is_lost());
        std::fs::remove_dir_all(&path).expect("our own directory");
        let new = Door::open(place()).expect("a door in a directory of the same name");
        assert!(old.is_lost() && !new.is_lost());
        old.close();
        assert!(place().socket().as_path().exists());
        new.close();
        assert!(!place().socket().as_path().exists());
    }
}
