//! TLS 1.3 between two keys: raw public keys (RFC 7250) on both sides, and nothing else.
//!
//! No certificates of X.509, no names, no dates, no older version, no resumption and no early data: what
//! was said once is worth nothing to whoever recorded it. Each side decides by a function of the other's
//! key; that the other has the secret half is checked here.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, ring as provider};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved,
    ServerConfig, SignatureScheme, version,
};

use super::key::{Identity, PublicKey};

/// The first byte of TLS; that of distcc's own protocol is `D`.
pub const FIRST_BYTE: u8 = 0x16;

/// What a record begins with that carries an alert in the clear.
pub const ALERT_BYTE: u8 = 0x15;

/// What is spoken inside.
const PROTOCOL: &[u8] = b"distcc/1";

/// Not a protocol: it makes a client's first words long enough (see [`CLIENT_HELLO_MIN_BYTES`]).
const PADDING: &[u8] = &[b'-'; 160];

/// A distccd of another kind (3.4) that meets an unknown word goes on to read some 190 bytes for its log,
/// however long they take to come, before it closes. So it closes at once, and that tells what it is.
pub const CLIENT_HELLO_MIN_BYTES: usize = 256;

/// Whether a key is accepted.
pub type Judge = dyn Fn(&PublicKey) -> bool + Send + Sync;

/// Decides by the other's key, and remembers it.
struct Verifier {
    judge: Box<Judge>,
    seen: OnceLock<PublicKey>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    fn accepts(&self, spki: &CertificateDer<'_>) -> Result<(), Error> {
        let key = PublicKey::of_spki(spki).ok_or(CertificateError::BadEncoding)?;
        let _ = self.seen.set(key);
        match (self.judge)(&key) {
            true => Ok(()),
            // Travels as the alert "access denied".
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }
}

/// Whether the handshake was signed by the key that was shown.
fn proves(
    message: &[u8],
    spki: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let key = PublicKey::of_spki(spki).ok_or(CertificateError::BadEncoding)?;
    if signed.scheme != SignatureScheme::ED25519 {
        return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    }
    match key.has_signed(message, signed.signature()) {
        true => Ok(HandshakeSignatureValid::assertion()),
        false => Err(CertificateError::BadSignature.into()),
    }
}

fn too_old<T>() -> Result<T, Error> {
    Err(Error::General("only TLS 1.3 is spoken".to_owned()))
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        spki: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.accepts(spki).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        too_old()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        spki: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        proves(message, spki, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        spki: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.accepts(spki).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        too_old()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        spki: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        proves(message, spki, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// One key exchange and three ciphers, the cheapest for processors of today first.
fn crypto() -> Arc<CryptoProvider> {
    use provider::cipher_suite::{
        TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
    };
    Arc::new(CryptoProvider {
        cipher_suites: vec![
            TLS13_AES_128_GCM_SHA256,
            TLS13_AES_256_GCM_SHA384,
            TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![provider::kx_group::X25519],
        ..provider::default_provider()
    })
}

fn certified(identity: &Identity) -> Result<Arc<CertifiedKey>, Error> {
    let signer = provider::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(identity.pkcs8()))?;
    let spki = CertificateDer::from(identity.public().spki());
    Ok(Arc::new(CertifiedKey::new(vec![spki], signer)))
}

/// What a volunteer needs to shake hands. `judge` says which clients' keys are accepted.
///
/// # Errors
///
/// Returns what the library refuses; it does not depend on any peer.
pub fn server(identity: &Identity, judge: Box<Judge>) -> Result<Arc<ServerConfig>, Error> {
    let verifier = Verifier { judge, seen: OnceLock::new() };
    let mut config = ServerConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[&version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified(identity)?)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// What a client needs for one handshake.
pub struct Handshake {
    /// For the library.
    pub config: Arc<ClientConfig>,
    verifier: Arc<Verifier>,
}

impl Handshake {
    /// The key that the volunteer showed, if it came to that.
    pub fn shown(&self) -> Option<PublicKey> {
        self.verifier.seen.get().copied()
    }
}

/// What a client needs for one handshake. `judge` says which volunteers' keys are accepted.
///
/// # Errors
///
/// Returns what the library refuses; it does not depend on any peer.
pub fn client(identity: &Identity, judge: Box<Judge>) -> Result<Handshake, Error> {
    let verifier = Arc::new(Verifier { judge, seen: OnceLock::new() });
    let mut config = ClientConfig::builder_with_provider(crypto())
        .with_protocol_versions(&[&version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified(identity)?)));
    config.alpn_protocols = vec![PROTOCOL.to_vec(), PADDING.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(Handshake { config: Arc::new(config), verifier })
}

/// What the library wants to be told of whom we talk to. It says nothing: keys do.
pub fn nobody_in_particular() -> ServerName<'static> {
    ServerName::IpAddress(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED).into())
}

/// The key of the other side of a handshake that is over; `None` as well when it was not about our protocol.
pub fn peer(certificates: Option<&[CertificateDer<'static>]>, protocol: Option<&[u8]>) -> Option<PublicKey> {
    let [spki] = certificates? else { return None };
    PublicKey::of_spki(spki).filter(|_| protocol == Some(PROTOCOL))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::{AlertDescription, ClientConnection, ServerConnection};

    use super::*;

    fn identity() -> Identity {
        Identity::generate().expect("random numbers")
    }

    /// Both ends of a handshake, and how it ended for each.
    struct Meeting {
        shown: Option<PublicKey>,
        client: Result<ClientConnection, Error>,
        server: Result<ServerConnection, Error>,
    }

    fn meet(knows_volunteer: bool, knows_client: bool) -> (Meeting, Identity, Identity) {
        let (ours, theirs) = (identity(), identity());
        let handshake = client(&ours, Box::new(move |_| knows_volunteer)).expect("a configuration");
        let config = server(&theirs, Box::new(move |_| knows_client)).expect("a configuration");
        let mut near =
            ClientConnection::new(handshake.config.clone(), nobody_in_particular()).expect("a client");
        let mut far = ServerConnection::new(config).expect("a server");
        let (mut client, mut server) = (Ok(()), Ok(()));
        for _ in 0..4 {
            let mut bytes = Vec::new();
            near.write_tls(&mut bytes).expect("memory");
            far.read_tls(&mut &bytes[..]).expect("memory");
            server = server.and(far.process_new_packets().map(drop));
            let mut bytes = Vec::new();
            while far.wants_write() {
                far.write_tls(&mut bytes).expect("memory");
            }
            if !bytes.is_empty() {
                near.read_tls(&mut &bytes[..]).expect("memory");
                client = client.and(near.process_new_packets().map(drop));
            }
        }
        let meeting =
            Meeting { shown: handshake.shown(), client: client.map(|()| near), server: server.map(|()| far) };
        (meeting, ours, theirs)
    }

    #[test]
    fn two_that_know_each_other_meet() {
        let (meeting, ours, theirs) = meet(true, true);
        let (near, far) = (meeting.client.expect("met"), meeting.server.expect("met"));
        assert_eq!(peer(near.peer_certificates(), near.alpn_protocol()), Some(theirs.public()));
        assert_eq!(peer(far.peer_certificates(), far.alpn_protocol()), Some(ours.public()));
        assert_eq!(meeting.shown, Some(theirs.public()));
        assert_eq!(far.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
        assert!(!near.is_early_data_accepted());
    }

    #[test]
    fn a_volunteer_that_is_not_known_is_told_nothing_and_its_key_is_seen() {
        let (meeting, _, theirs) = meet(false, true);
        let denied = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
        assert_eq!(meeting.client.expect_err("denied"), denied);
        assert!(meeting.server.is_err());
        assert_eq!(meeting.shown, Some(theirs.public()));
    }

    #[test]
    fn a_client_that_is_not_known_hears_that_it_is_denied() {
        let (meeting, ..) = meet(true, false);
        assert!(meeting.server.is_err());
        assert_eq!(meeting.client.expect_err("denied"), Error::AlertReceived(AlertDescription::AccessDenied));
    }

    #[test]
    fn a_clients_first_words_are_long_enough_to_be_told_from_another_protocol_at_once() {
        let handshake = client(&identity(), Box::new(|_| true)).expect("a configuration");
        let mut near =
            ClientConnection::new(Arc::clone(&handshake.config), nobody_in_particular()).expect("ok");
        let mut bytes = Vec::new();
        near.write_tls(&mut bytes).expect("memory");
        assert_eq!(bytes[0], FIRST_BYTE);
        assert!(bytes.len() >= CLIENT_HELLO_MIN_BYTES, "{}", bytes.len());
    }
}
