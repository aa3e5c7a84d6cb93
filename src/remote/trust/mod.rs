//! Who is served: this volunteer's key, the keys that it authorises, and invitations.
//!
//! All of it is in one folder that only the daemon's user can enter:
//!
//! ```text
//! volunteer.key      the secret key, made when first needed
//! volunteer.pub      its public half
//! authorized_keys    whom it serves (common::trust::authorized)
//! invitations/       one file for each code that is open, named by the secret's digest
//! serving            where a daemon of this folder listens, for `distccd --pair`
//! ```
//!
//! Files are looked at again at each handshake and at each keep-alive of a link, so that a line that is
//! added or removed counts at once.

pub mod pairing;

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::clients::Client;
use crate::common::trust::authorized::{Authorized, FILE_MAX_BYTES};
use crate::common::trust::certificate::{Certificate, Day, PRESENTED_MAX};
use crate::common::trust::files::{self, FileError, Stamp};
use crate::common::trust::key::{Identity, PublicKey};
use crate::common::trust::tls;

/// The list for all daemons of a machine, which an administrator keeps.
const SYSTEM_LIST: &str = "/etc/distcc/authorized_keys";

/// Where a daemon that root started keeps its keys.
const SYSTEM_FOLDER: &str = "/var/lib/distcc";

/// Why nobody can be served over TLS.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The keys cannot be read or kept.
    #[error(transparent)]
    File(#[from] FileError),
    /// The library refuses the key.
    #[error("the key cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// Nobody said where.
    #[error("there is no place for keys: HOME is not set, and --state-dir is not given")]
    NoPlace,
}

/// The folder, when `--state-dir` does not say: what systemd gives, the system's for a daemon that root
/// starts, else the user's own.
pub fn default_folder(is_root: bool) -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(given) = variable("STATE_DIRECTORY") {
        return Some(given);
    }
    if is_root {
        return Some(PathBuf::from(SYSTEM_FOLDER));
    }
    let state = variable("XDG_STATE_HOME").filter(|path| path.is_absolute());
    Some(state.or_else(|| Some(variable("HOME")?.join(".local/state")))?.join("distccd"))
}

/// Which files say who is served.
#[derive(Debug)]
struct Sources {
    /// This daemon's own list.
    own: PathBuf,
    /// The machine's.
    system: PathBuf,
    /// The public key of the same user's client on the same machine: whoever can read its secret half
    /// could as well be this daemon. Both are in folders that nobody else can enter.
    same_user: Option<PathBuf>,
    invitations: PathBuf,
}

/// What they said last.
#[derive(Debug, Default)]
struct Lists {
    stamps: [Stamp; 3],
    authorized: Authorized,
}

/// The files, and what they said last.
#[derive(Debug)]
struct Register {
    sources: Sources,
    lists: RwLock<Lists>,
}

/// This volunteer's key and whom it serves.
pub struct Trust {
    identity: Identity,
    register: Arc<Register>,
    acceptor: TlsAcceptor,
}

/// A client that may have a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// What the list, or the certificate, calls it.
    pub name: String,
    /// The certificate that lets it in, when no list does.
    pub certificate: Option<Certificate>,
}

impl Trust {
    /// Reads the folder's files; makes the folder and the key when they are not there.
    ///
    /// # Errors
    ///
    /// Returns why they cannot be used.
    pub fn open(folder: &Path) -> Result<Self, TrustError> {
        let identity = identity(folder)?;
        let sources = Sources {
            own: folder.join("authorized_keys"),
            system: PathBuf::from(SYSTEM_LIST),
            same_user: same_user(),
            invitations: pairing::folder(folder),
        };
        // Told now rather than to the first client.
        files::list(&sources.own, FILE_MAX_BYTES)?;
        let register = Arc::new(Register { sources, lists: RwLock::default() });
        let judge = Arc::clone(&register);
        let config = tls::server(&identity, Box::new(move |key| judge.may_knock(key)))?;
        Ok(Trust { identity, register, acceptor: TlsAcceptor::from(config) })
    }

    /// This volunteer's key.
    pub fn key(&self) -> PublicKey {
        self.identity.public()
    }

    /// Whether nobody is authorised yet.
    pub fn is_empty(&self) -> bool {
        self.register.read(Authorized::is_empty)
    }

    /// Shakes hands; the caller bounds the wait.
    ///
    /// # Errors
    ///
    /// Returns why there is no connection.
    pub async fn shake_hands<S>(&self, stream: S) -> std::io::Result<(TlsStream<S>, PublicKey)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = self.acceptor.accept(stream).await?;
        let connection = stream.get_ref().1;
        let key = tls::peer(connection.peer_certificates(), connection.alpn_protocol());
        let key = key.ok_or_else(|| std::io::Error::other("it speaks something else inside of TLS"))?;
        Ok((stream, key))
    }

    /// Whether the client of this key may have a link, with what it presented.
    pub fn admit(&self, key: &PublicKey, presented: &[String]) -> Option<Admitted> {
        let today = today();
        self.register.read(|authorized| {
            if let Some(name) = authorized.name(key) {
                return Some(Admitted { name: name.to_owned(), certificate: None });
            }
            let read =
                presented.iter().take(PRESENTED_MAX).filter_map(|line| line.parse::<Certificate>().ok());
            let ours =
                |one: &Certificate| one.key == *key && authorized.vouched(one, today) && one.is_genuine();
            let certificate = read.into_iter().find(ours)?;
            Some(Admitted { name: certificate.name.clone(), certificate: Some(certificate) })
        })
    }

    /// Whether a client that was admitted still may have its link.
    pub fn stands(&self, key: &PublicKey, admitted: &Admitted) -> bool {
        self.register.read(|authorized| match &admitted.certificate {
            _ if authorized.name(key).is_some() => true,
            Some(certificate) => authorized.vouched(certificate, today()),
            None => false,
        })
    }

    /// Takes an invitation; the name that the client has from now on. `None` for one that is not open.
    pub fn invited(&self, secret: [u8; 16], key: &PublicKey, name: &str) -> Option<String> {
        pairing::take(&self.register.sources.invitations, &self.register.sources.own, secret, key, name)
    }
}

impl Register {
    /// Whether a key is worth shaking hands with: it is authorised, or could show in its first words that
    /// it may come in.
    fn may_knock(&self, key: &PublicKey) -> bool {
        self.read(|authorized| authorized.name(key).is_some() || authorized.takes_certificates())
            || pairing::any_open(&self.sources.invitations)
    }

    /// What the files say now.
    fn read<T>(&self, look: impl FnOnce(&Authorized) -> T) -> T {
        let stamps = self.sources.stamps();
        {
            let lists = self.lists.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            if lists.stamps == stamps {
                return look(&lists.authorized);
            }
        }
        let authorized = self.sources.authorized();
        let mut lists = self.lists.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        *lists = Lists { stamps, authorized };
        look(&lists.authorized)
    }
}

impl Sources {
    fn stamps(&self) -> [Stamp; 3] {
        let same_user = self.same_user.as_deref().map(Stamp::of).unwrap_or_default();
        [Stamp::of(&self.own), Stamp::of(&self.system), same_user]
    }

    /// What all of them say together. A list that cannot be used authorises nobody.
    fn authorized(&self) -> Authorized {
        let mut all = Authorized::default();
        for path in [&self.own, &self.system] {
            let text = files::list(path, FILE_MAX_BYTES).unwrap_or_else(|error| {
                tracing::error!("nobody is authorised by this list: {error}");
                String::new()
            });
            let (authorized, odd) = Authorized::parse(&text);
            odd.iter().for_each(|line| tracing::warn!("{}: {line}", path.display()));
            all.extend(authorized);
        }
        if let Some(key) = self.same_user.as_deref().and_then(key_of_same_user) {
            all.insert(key, "this user on this machine");
        }
        tracing::info!("{} clients are authorised", all.len());
        all
    }
}

/// Where the client of this user would keep its key.
fn same_user() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let top = variable("DISTCC_DIR").or_else(|| Some(variable("HOME")?.join(".distcc")))?;
    top.is_absolute().then(|| top.join("keys/client.pub"))
}

fn key_of_same_user(path: &Path) -> Option<PublicKey> {
    files::is_private_folder(path.parent()?).ok()?;
    files::list(path, 1 << 10).ok()?.trim().parse().ok()
}

/// The key of the folder, which is made when it is not there.
///
/// # Errors
///
/// Returns why it cannot be had.
pub fn identity(folder: &Path) -> Result<Identity, FileError> {
    files::private_folder(folder)?;
    let identity = files::secret(&folder.join("volunteer.key"))?;
    let (path, text) = (folder.join("volunteer.pub"), format!("{}\n", identity.public()));
    if files::list(&path, 1 << 10)? != text {
        files::edit(&path, 1 << 10, |_| text)?;
    }
    Ok(identity)
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

fn today() -> Day {
    Day::of_unix(unix_now())
}

/// Why a link may go on.
#[derive(Clone)]
pub enum Right {
    /// Whoever started this process carries the connection, and has let the client in: ssh.
    Carried,
    /// Its key.
    Key {
        /// Who says so.
        trust: Arc<Trust>,
        /// The key.
        key: PublicKey,
        /// How it was let in.
        admitted: Admitted,
    },
}

impl Right {
    /// Who has it, for sharing.
    pub fn client(&self) -> Client {
        match self {
            Right::Carried => Client::Carrier,
            Right::Key { key, .. } => Client::Key(*key),
        }
    }

    /// Whether it still counts.
    pub fn stands(&self) -> bool {
        match self {
            Right::Carried => true,
            Right::Key { trust, key, admitted } => trust.stands(key, admitted),
        }
    }
}

#[cfg(test)]
mod tests;
