//! Whom this client talks to: its own key, and the keys of volunteers that it knows.
//!
//! In a folder that only the user can enter, `keys` in `$DISTCC_DIR` or in `~/.distcc`:
//!
//! ```text
//! client.key         the secret key, made when first needed
//! client.pub         its public half
//! known_volunteers   whom it trusts (common::trust::known)
//! certificates       what farm keys say of it (common::trust::certificate)
//! farm.key           on the machine where clients' keys are signed
//! ```
//!
//! `/etc/distcc/known_volunteers` and `/etc/distcc/certificates` count as well. Files are looked at again
//! for each link, and every other second while it is up.

pub mod pairing;
pub mod words;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::broker::home;
use crate::common::place::CHOSEN;
use crate::common::protocol::link::HELLO_TIMEOUT;
use crate::common::trust::certificate::{self, PRESENTED_MAX};
use crate::common::trust::files::{self, FileError, Stamp};
use crate::common::trust::introduction::{self, Introduction};
use crate::common::trust::key::{Identity, PublicKey};
use crate::common::trust::known::{FILE_MAX_BYTES, Known, Verdict};
use crate::common::trust::tls;

/// What an administrator keeps for all users of a machine.
const SYSTEM_FOLDER: &str = "/etc/distcc";

/// How much is read of a socket at once.
const READ_AHEAD_BYTES: usize = 64 << 10;

/// How two that do not know each other get to.
const REMEDY: &str =
    "`distccd --pair` there shows a code, and `distcc --pair CODE` here makes the two know each other";

/// Why there is no secure link to a volunteer; each says what mends it.
#[derive(Debug, thiserror::Error)]
pub enum Distrust {
    /// It closed the connection without an answer, as daemons of distcc 3.4 do.
    #[error("does not speak TLS")]
    Silent,
    /// The same, of one that has a key.
    #[error(
        "closed the connection without a word, although its key is known here: nothing is sent to it in the clear"
    )]
    SilentThoughKnown,
    /// Its key was never seen.
    #[error("has a key that is not known here (fingerprint {theirs}; this client's is {ours}): {REMEDY}")]
    Unknown {
        /// The fingerprint of its key.
        theirs: String,
        /// That of this client's.
        ours: String,
    },
    /// Its key is another than it was.
    #[error(
        "has another key (fingerprint {theirs}) than is known here ({known}; this client's is {ours}): somebody may be in between. If it was installed anew, {REMEDY}, in place of the line in {file}"
    )]
    Changed {
        /// The fingerprint of its key.
        theirs: String,
        /// That of the key that it should have.
        known: String,
        /// That of this client's.
        ours: String,
        /// Where that is said.
        file: String,
    },
    /// It does not serve this client.
    #[error(
        "does not authorise this client's key (fingerprint {ours}; its own is {theirs}): {REMEDY}; or write `distcc --key` into its authorized_keys"
    )]
    NotAuthorised {
        /// The fingerprint of its key.
        theirs: String,
        /// That of this client's.
        ours: String,
    },
    /// Its line was removed.
    #[error("is not known here any more (its key's line in known_volunteers is gone)")]
    Forgotten,
    /// This client has no key.
    #[error("cannot be talked to without a key: {0}")]
    NoKey(#[from] FileError),
    /// The library refuses this client's key.
    #[error("cannot be talked to: {0}")]
    Tls(#[from] rustls::Error),
    /// It took the connection and said nothing, as what is stopped does, too.
    #[error("did not say hello: it is stopped, has too much to do, or is no distccd")]
    Mute,
    /// It speaks TLS, for something else.
    #[error("is no distccd: it speaks TLS, and none of our protocols in it")]
    Foreign,
    /// It said something else.
    #[error("is no distccd: it did not say hello ({0})")]
    Nonsense(std::io::Error),
}

/// What the lists said last.
#[derive(Default)]
struct Lists {
    stamps: [Stamp; 3],
    known: Known,
}

/// This client's key, and the volunteers that it knows.
pub struct Trust {
    folder: Result<PathBuf, FileError>,
    identity: OnceLock<Identity>,
    /// The public key of a distccd that the same user runs: whoever can write it is this user.
    same_user: Option<PathBuf>,
    lists: Mutex<Lists>,
}

/// A connection on which both sides have proved their keys.
pub struct Secured {
    /// The bytes.
    pub stream: TlsStream<BufReader<TcpStream>>,
    /// The volunteer's key.
    pub key: PublicKey,
    /// What to say before the link's own opening.
    pub opening: Vec<u8>,
}

impl Trust {
    /// That of this environment; nothing is read yet.
    pub fn of_environment() -> Self {
        Trust::new(folder(), volunteer_of_same_user())
    }

    fn new(folder: Result<PathBuf, FileError>, same_user: Option<PathBuf>) -> Self {
        Trust { folder, identity: OnceLock::new(), same_user, lists: Mutex::default() }
    }

    /// The folder of keys.
    ///
    /// # Errors
    ///
    /// Returns why there is none.
    pub fn folder(&self) -> Result<&Path, FileError> {
        self.folder.as_deref().map_err(|error| FileError::Io {
            path: PathBuf::from("~/.distcc"),
            error: std::io::Error::other(error.to_string()),
        })
    }

    /// This client's key, which is made when it is not there.
    ///
    /// # Errors
    ///
    /// Returns why there is none.
    pub fn identity(&self) -> Result<&Identity, FileError> {
        if let Some(identity) = self.identity.get() {
            return Ok(identity);
        }
        let folder = self.folder()?;
        files::private_folder(folder)?;
        let identity = files::secret(&folder.join("client.key"))?;
        let (path, text) = (folder.join("client.pub"), format!("{}\n", identity.public()));
        if files::list(&path, 1 << 10)? != text {
            files::edit(&path, 1 << 10, |_| text)?;
        }
        Ok(self.identity.get_or_init(|| identity))
    }

    /// Where this user's list of volunteers is.
    ///
    /// # Errors
    ///
    /// Returns that there is no place for it.
    pub fn known_file(&self) -> Result<PathBuf, FileError> {
        Ok(self.folder()?.join("known_volunteers"))
    }

    /// What the lists say now.
    fn known<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        let own = self.known_file().ok();
        let system = Path::new(SYSTEM_FOLDER).join("known_volunteers");
        let stamp = |path: Option<&Path>| path.map(Stamp::of).unwrap_or_default();
        let stamps = [stamp(own.as_deref()), stamp(Some(&system)), stamp(self.same_user.as_deref())];
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.stamps != stamps {
            let mut known = Known::default();
            for path in own.iter().chain([&system]) {
                let text = files::list(path, FILE_MAX_BYTES).unwrap_or_else(|error| {
                    tracing::error!("no volunteer is known by this list: {error}");
                    String::new()
                });
                let (listed, odd) = Known::parse(&text);
                odd.iter().for_each(|line| tracing::warn!("{}: {line}", path.display()));
                known.extend(listed);
            }
            if let Some(key) = self.same_user.as_deref().and_then(key_of_same_user) {
                known.insert(key);
            }
            *lists = Lists { stamps, known };
        }
        look(&lists.known)
    }

    /// Whether this key is the one that a volunteer at this address should have.
    pub fn knows(&self, address: &str, key: &PublicKey) -> bool {
        self.known(|known| known.judge(address, key) == Verdict::Known)
    }

    /// Whether an address has a key: nothing is ever sent to it in the clear.
    pub fn pins(&self, address: &str) -> bool {
        self.known(|known| known.pins(address))
    }

    /// Shakes hands on a connection to the volunteer at this address.
    ///
    /// # Errors
    ///
    /// Returns why it is not to be trusted, or does not answer.
    pub async fn secure(&self, stream: TcpStream, address: &str) -> Result<Secured, Distrust> {
        let verdict = self.known(|known| known.clone());
        let at = address.to_owned();
        let judge = Box::new(move |key: &PublicKey| verdict.judge(&at, key) == Verdict::Known);
        let handshake = tls::client(self.identity()?, judge)?;
        let connector = TlsConnector::from(handshake.config.clone());
        // TLS takes 4 KiB at a time, which would be a system call each.
        let stream = BufReader::with_capacity(READ_AHEAD_BYTES, stream);
        let connected = timeout(HELLO_TIMEOUT, connector.connect(tls::nobody_in_particular(), stream)).await;
        let stream = match connected {
            Err(_) => return Err(Distrust::Mute),
            Ok(Err(error)) => return Err(self.explain(&error, handshake.shown(), address)),
            Ok(Ok(stream)) => stream,
        };
        let connection = stream.get_ref().1;
        let key =
            tls::peer(connection.peer_certificates(), connection.alpn_protocol()).ok_or(Distrust::Foreign)?;
        let opening = self.introduction()?;
        Ok(Secured { stream, key, opening })
    }

    /// Why a handshake failed.
    fn explain(&self, error: &std::io::Error, shown: Option<PublicKey>, address: &str) -> Distrust {
        let Some(key) = shown else {
            return match is_closed(error) {
                true if self.pins(address) => Distrust::SilentThoughKnown,
                true => Distrust::Silent,
                false => Distrust::Nonsense(std::io::Error::new(error.kind(), error.to_string())),
            };
        };
        let (theirs, ours) = (key.fingerprint(), self.own_fingerprint());
        match self.known(|known| known.judge(address, &key)) {
            Verdict::Unknown => Distrust::Unknown { theirs, ours },
            Verdict::Changed { known } => {
                let file = self.known_file().map(|path| path.display().to_string()).unwrap_or_default();
                Distrust::Changed { theirs, known: known.fingerprint(), ours, file }
            }
            Verdict::Known => Distrust::Nonsense(std::io::Error::new(error.kind(), error.to_string())),
        }
    }

    /// What is wrong when a volunteer of this key ended the link on hearing who we are.
    pub fn not_authorised(&self, key: &PublicKey) -> Distrust {
        Distrust::NotAuthorised { theirs: key.fingerprint(), ours: self.own_fingerprint() }
    }

    fn own_fingerprint(&self) -> String {
        self.identity().map(|identity| identity.public().fingerprint()).unwrap_or_default()
    }

    /// What is said first: whoever vouches for this client.
    fn introduction(&self) -> Result<Vec<u8>, FileError> {
        let own = self.identity()?.public();
        let places = [self.folder()?.join("certificates"), Path::new(SYSTEM_FOLDER).join("certificates")];
        let mut certificates = Vec::new();
        for place in places {
            let text = files::list(&place, FILE_MAX_BYTES)?;
            certificates.extend(certificate::of_key(&text, &own).iter().map(ToString::to_string));
        }
        certificates.truncate(PRESENTED_MAX);
        Ok(match certificates.is_empty() {
            true => Vec::new(),
            false => introduction::encode(&Introduction::Vouched { certificates }),
        })
    }
}

/// Whether this is what closing looks like from here.
pub fn is_closed(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// Whether a link ended because the volunteer does not accept our key.
pub fn is_denied(error: &std::io::Error) -> bool {
    let denied = rustls::Error::AlertReceived(rustls::AlertDescription::AccessDenied);
    error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) == Some(&denied)
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// `keys` in `$DISTCC_DIR`, unless that is somebody else's, as where a site shares one; else in `~/.distcc`.
fn folder() -> Result<PathBuf, FileError> {
    let given = variable("DISTCC_DIR").map(|directory| match directory.is_absolute() {
        true => directory,
        // A broker works in `/`; the shim that started it says which directory it meant.
        false => variable(CHOSEN).or_else(|| std::path::absolute(&directory).ok()).unwrap_or(directory),
    });
    let places = [given, home::distcc_folder()];
    let mut last = FileError::Io {
        path: PathBuf::from("~/.distcc"),
        error: std::io::Error::other("there is no place for keys: neither DISTCC_DIR nor HOME is set"),
    };
    for directory in places.into_iter().flatten() {
        match files::is_own_folder(&directory) {
            Ok(()) => return Ok(directory.join("keys")),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Where a distccd that this user started keeps its public key.
fn volunteer_of_same_user() -> Option<PathBuf> {
    let state = variable("XDG_STATE_HOME").filter(|path| path.is_absolute());
    let state = match rustix::process::geteuid().is_root() {
        true => PathBuf::from("/var/lib/distcc"),
        false => state.or_else(|| Some(variable("HOME")?.join(".local/state")))?.join("distccd"),
    };
    Some(state.join("volunteer.pub"))
}

fn key_of_same_user(path: &Path) -> Option<PublicKey> {
    files::is_private_folder(path.parent()?).ok()?;
    files::list(path, 1 << 10).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Ground {
        top: tempfile::TempDir,
        trust: Trust,
    }

    fn ground() -> Ground {
        let top = tempfile::tempdir().expect("a folder");
        let trust = Trust::new(Ok(top.path().join("keys")), Some(top.path().join("distccd/volunteer.pub")));
        trust.identity().expect("a key");
        Ground { top, trust }
    }

    fn key(number: u8) -> PublicKey {
        PublicKey([number; 32])
    }

    #[test]
    fn a_line_that_is_added_or_removed_counts_at_once() {
        let Ground { top: _top, trust } = ground();
        assert!(!trust.knows("build7", &key(1)));
        let path = trust.known_file().expect("a place");
        files::edit(&path, FILE_MAX_BYTES, |_| format!("build7 {}\n", key(1))).expect("a list");
        assert!(trust.knows("build7", &key(1)) && trust.pins("build7"));
        files::edit(&path, FILE_MAX_BYTES, |_| String::new()).expect("a list");
        assert!(!trust.knows("build7", &key(1)) && !trust.pins("build7"));
    }

    #[test]
    fn the_users_own_daemon_is_known_only_while_nobody_else_could_have_put_its_key_there() {
        use std::os::unix::fs::PermissionsExt;
        let Ground { top, trust } = ground();
        let folder = top.path().join("distccd");
        files::private_folder(&folder).expect("a folder");
        std::fs::write(folder.join("volunteer.pub"), format!("{}\n", key(1))).expect("our own file");
        assert!(trust.knows("127.0.0.1:4000", &key(1)) && !trust.knows("127.0.0.1:4000", &key(2)));
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).expect("our own folder");
        std::fs::write(folder.join("volunteer.pub"), format!("{}\n\n", key(1))).expect("our own file");
        assert!(!trust.knows("127.0.0.1:4000", &key(1)));
    }

    #[test]
    fn what_is_wrong_names_both_fingerprints_and_the_remedy() {
        let Ground { top: _top, trust } = ground();
        let path = trust.known_file().expect("a place");
        files::edit(&path, FILE_MAX_BYTES, |_| format!("build7 {}\n", key(1))).expect("a list");
        let error = std::io::Error::from(std::io::ErrorKind::InvalidData);
        let ours = trust.own_fingerprint();
        for (address, key_shown) in [("build8", key(2)), ("build7", key(2))] {
            let why = trust.explain(&error, Some(key_shown), address).to_string();
            assert!(why.contains(&key_shown.fingerprint()) && why.contains(&ours), "{why}");
            assert!(why.contains("distccd --pair") && why.contains("distcc --pair CODE"), "{why}");
            assert_eq!(why.contains(&key(1).fingerprint()), address == "build7", "{why}");
        }
        assert!(trust.not_authorised(&key(1)).to_string().contains(&ours));
        let closed = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        assert!(matches!(trust.explain(&closed, None, "build8"), Distrust::Silent));
        assert!(matches!(trust.explain(&closed, None, "build7"), Distrust::SilentThoughKnown));
    }

    #[test]
    fn only_certificates_of_this_clients_key_are_presented() {
        use crate::common::trust::certificate::{Certificate, Day};
        let Ground { top: _top, trust } = ground();
        assert_eq!(trust.introduction().expect("readable"), b"");
        let farm = Identity::generate().expect("a key");
        let line = |key| Certificate::sign(&farm, key, "ann", Day(30_000)).to_string();
        let own = trust.identity().expect("a key").public();
        let path = trust.folder().expect("a folder").join("certificates");
        let text = format!("# ours\n{}\n{}\n", line(key(1)), line(own));
        files::edit(&path, FILE_MAX_BYTES, |_| text).expect("a list");
        let said = trust.introduction().expect("readable");
        let expected = Introduction::Vouched { certificates: vec![line(own)] };
        assert_eq!(introduction::decode(&said[introduction::HEAD_LEN..]), Ok(expected));
    }
}
