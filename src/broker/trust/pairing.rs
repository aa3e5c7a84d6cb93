//! `distcc --pair CODE`: this client and a volunteer get to know each other, both ways at once.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Trust, is_closed, is_denied};
use crate::broker::link::transport::Address;
use crate::common::trust::files::{self, FileError};
use crate::common::trust::introduction::{self, HEAD_LEN, Introduction, MAGIC, Welcome};
use crate::common::trust::invitation::Invitation;
use crate::common::trust::key::PublicKey;
use crate::common::trust::{known, tls};

/// How long all of it may take.
const PAIR_TIMEOUT: Duration = Duration::from_secs(10);

/// Why two were not paired.
#[derive(Debug, thiserror::Error)]
pub enum PairError {
    /// This client's keys cannot be read or kept.
    #[error(transparent)]
    File(#[from] FileError),
    /// It is not there.
    #[error("{0} cannot be reached: {1}\nhint: distccd --pair ADDRESS makes a code with another address")]
    Unreachable(String, io::Error),
    /// Somebody else answers there.
    #[error(
        "{address} has another key (fingerprint {shown}) than the code says ({expected}): somebody else answers there"
    )]
    Another {
        /// Where.
        address: String,
        /// The key that it showed.
        shown: String,
        /// The key in the code.
        expected: String,
    },
    /// It did not take the code.
    #[error(
        "{0} did not take the code: it was used already, is older than ten minutes, or is of another daemon\nhint: distccd --pair shows a new one"
    )]
    NotTaken(String),
    /// The volunteer knows us, but we could not note that.
    #[error(
        "{address} knows this client now, but its key could not be kept: {why}\nhint: write this line there: {line}"
    )]
    NotKept {
        /// Where.
        address: String,
        /// Why.
        why: FileError,
        /// What should be in the list.
        line: String,
    },
    /// The library refuses this client's key.
    #[error("the key cannot be used: {0}")]
    Tls(#[from] rustls::Error),
}

/// Two that know each other.
#[derive(Debug)]
pub struct Paired {
    /// The volunteer, as in a host list.
    pub address: String,
    /// Its key.
    pub key: PublicKey,
    /// What this client is called there.
    pub name: String,
}

/// Takes an invitation.
///
/// # Errors
///
/// Returns why not, and what to do.
pub fn pair(trust: &Trust, invitation: &Invitation, name: &str) -> Result<Paired, PairError> {
    let address = Address::Tcp { name: invitation.host.clone(), port: invitation.port }.to_string();
    let unreachable = |error| PairError::Unreachable(address.clone(), error);
    // Before the volunteer is asked: a code counts once.
    trust.identity()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unreachable)?;
    let met =
        runtime.block_on(async { timeout(PAIR_TIMEOUT, meet(trust, invitation, &address, name)).await });
    let called = met.map_err(|_| unreachable(io::ErrorKind::TimedOut.into()))??;
    let pinned = trust.known_file().and_then(|path| {
        files::edit(&path, known::FILE_MAX_BYTES, |text| known::with(text, &address, &invitation.key))
    });
    match pinned {
        Ok(()) => Ok(Paired { address, key: invitation.key, name: called }),
        Err(why) => {
            let line = format!("{address} {}", invitation.key);
            Err(PairError::NotKept { address, why, line })
        }
    }
}

async fn meet(
    trust: &Trust,
    invitation: &Invitation,
    address: &str,
    name: &str,
) -> Result<String, PairError> {
    let unreachable = |error| PairError::Unreachable(address.to_owned(), error);
    let stream =
        TcpStream::connect((invitation.host.as_str(), invitation.port)).await.map_err(unreachable)?;
    let expected = invitation.key;
    let handshake = tls::client(trust.identity()?, Box::new(move |key| *key == expected))?;
    let connector = TlsConnector::from(handshake.config.clone());
    let connected = connector.connect(tls::nobody_in_particular(), stream).await;
    let mut stream = connected.map_err(|error| match handshake.shown() {
        Some(shown) if shown != expected => PairError::Another {
            address: address.to_owned(),
            shown: shown.fingerprint(),
            expected: expected.fingerprint(),
        },
        _ => PairError::Unreachable(address.to_owned(), error),
    })?;
    let said = Introduction::Invited { secret: invitation.secret.0, name: name.to_owned() };
    let exchanged = async {
        stream.write_all(&introduction::encode(&said)).await?;
        stream.flush().await?;
        let mut head = [0; HEAD_LEN];
        stream.read_exact(&mut head).await?;
        let wrong = || io::Error::from(io::ErrorKind::InvalidData);
        let (mark, length) = head.split_at(MAGIC.len());
        let length = introduction::body_length([length[0], length[1]]).filter(|_| mark == MAGIC);
        let mut body = vec![0; length.ok_or_else(wrong)?];
        stream.read_exact(&mut body).await?;
        introduction::decode::<Welcome>(&body).map_err(|_| wrong())
    };
    match exchanged.await {
        Ok(welcome) => Ok(welcome.name),
        Err(error) if is_closed(&error) || is_denied(&error) => Err(PairError::NotTaken(address.to_owned())),
        Err(error) => Err(unreachable(error)),
    }
}
