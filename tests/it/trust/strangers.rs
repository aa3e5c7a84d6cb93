//! Who has no business on a volunteer's port: each gets a closed connection, and the log one line, within
//! the handshake's time.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use distcc::common::protocol::io::push_message;
use distcc::common::protocol::link::{HELLO_TIMEOUT, OPENING, ToVolunteer, VERSION};
use distcc::common::trust::files;
use distcc::common::trust::key::Identity;
use distcc::common::trust::tls;
use rustls::{AlertDescription, ClientConfig, ClientConnection, StreamOwned};

use super::{authorized, compile, replace};
use crate::farm::{COMMAND_MAX, Farm, VolunteerOptions, run, wait_until};

/// What a busy machine may take on top of the handshake's time.
const SLACK: Duration = Duration::from_secs(15);

fn dial(farm: &Farm) -> TcpStream {
    let stream =
        TcpStream::connect((Ipv4Addr::LOCALHOST, farm.volunteers[0].port)).expect("the port is open");
    stream.set_read_timeout(Some(HELLO_TIMEOUT + SLACK)).expect("a socket");
    stream.set_nodelay(true).expect("a socket");
    stream
}

/// All that is said until the connection closes, which must be in time; a reset counts as that.
fn until_closed(stream: &mut impl Read) -> Vec<u8> {
    let begun = Instant::now();
    let mut said = Vec::new();
    if let Err(error) = stream.read_to_end(&mut said) {
        assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "not closed: {error}");
    }
    assert!(begun.elapsed() < HELLO_TIMEOUT + SLACK);
    said
}

/// Lines of the daemon's log about the peer with this port, debugging apart.
fn lines_about(farm: &Farm, port: u16) -> Vec<String> {
    let peer = format!("127.0.0.1:{port}");
    let log = farm.volunteers[0].log();
    // The port must not be a longer one's beginning.
    let names_it = |line: &&str| {
        line.match_indices(&peer)
            .any(|(at, _)| !line[at + peer.len()..].starts_with(|c: char| c.is_ascii_digit()))
    };
    log.lines().filter(names_it).filter(|line| !line.contains("Debug")).map(str::to_owned).collect()
}

/// Checks that the stranger of this port has one line, with this in it.
fn expect_one_line(farm: &Farm, port: u16, word: &str) {
    wait_until("the log tells of it", COMMAND_MAX, || !lines_about(farm, port).is_empty());
    let lines = lines_about(farm, port);
    assert!(lines.len() == 1 && lines[0].contains(word), "{word}: {lines:?}");
}

/// Says this and nothing more; what comes back must be nothing.
fn expect_silence(farm: &Farm, said: &[u8], word: &str) {
    let mut stream = dial(farm);
    let port = stream.local_addr().expect("an address").port();
    stream.write_all(said).expect("a connection");
    assert_eq!(until_closed(&mut stream), b"", "{word}");
    expect_one_line(farm, port, word);
}

#[test]
fn a_scan_of_the_port_does_not_fill_the_log_and_is_counted() {
    let more = &["--log-level", "info"];
    let farm = Farm::with(&[VolunteerOptions { more, ..VolunteerOptions::default() }]);
    for _ in 0..200 {
        let mut stranger =
            TcpStream::connect(("127.0.0.1", farm.volunteers[0].port)).expect("the port is open");
        stranger.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("a request");
        // Until it has been turned away: the next is another one.
        until_closed(&mut stranger);
    }
    let lines = |words: &str| farm.volunteers[0].log().lines().filter(|line| line.contains(words)).count();
    wait_until("what was left out is counted", COMMAND_MAX, || {
        lines("lines about strangers were left out") > 0
    });
    let said = lines("is not served");
    assert!((10..150).contains(&said), "{said} lines of 200: {}", farm.volunteers[0].log());
    farm.finish();
}

#[test]
fn plain_bytes_scans_and_clients_of_stock_hear_nothing() {
    let farm = Farm::new(1);
    expect_silence(&farm, b"GET / HTTP/1.1\r\n\r\n", "this protocol is not served");
    expect_silence(&farm, b"\0\0\0\0", "this protocol is not served");
    // Our own protocol, as ssh would carry it.
    expect_silence(&farm, &[&OPENING[..], &hello()].concat(), "is not allowed");
    expect_silence(&farm, b"DIST00000001ARGC00000001ARGV00000003gcc", "address 127.0.0.1 is not allowed");
    // A port scan says nothing at all, for as long as it is let.
    expect_silence(&farm, b"", "no hello in 4 s");
    // Or goes at once.
    let stream = dial(&farm);
    let port = stream.local_addr().expect("an address").port();
    stream.shutdown(Shutdown::Both).expect("a connection");
    expect_one_line(&farm, port, "closed");
    // TLS that is no TLS, and TLS of yesterday.
    expect_silence(&farm, b"\x16\x03\x01\x00\x05hello", "closed");
    expect_silence(&farm, &client_hello_of_tls_1_2(), "closed");
    expect_silence(&farm, b"\x16\x03\x01\x02\x00\x01", "no hello in 4 s");
    // Others are served meanwhile.
    compile(&farm, "a");
    assert_eq!(farm.total("remote"), 1, "{}", farm.status());
    farm.finish();
}

#[test]
fn the_client_of_stock_is_not_served_unless_its_address_is_allowed() {
    let farm = Farm::new(1);
    std::fs::write(farm.work().join("a.c"), "int a;\n").expect("our own file");
    let mut command = farm.command("/usr/bin/distcc");
    command.env("DISTCC_HOSTS", format!("127.0.0.1:{}", farm.volunteers[0].port));
    command.env("DISTCC_FALLBACK", "0").args(["gcc", "-c", "a.c"]);
    let outcome = run(command, COMMAND_MAX);
    assert!(!outcome.status.success(), "{outcome:?}");
    let log = || farm.volunteers[0].log();
    // The daemon may note it when the client has gone already.
    wait_until("the daemon says why", COMMAND_MAX, || log().contains("address 127.0.0.1 is not allowed"));
    assert!(!log().contains("COMPILE_"), "{}", log());
    std::fs::remove_dir_all(farm.home().join("lock")).ok();
    farm.finish();
}

/// The first message of a client that speaks nothing newer (RFC 5246).
fn client_hello_of_tls_1_2() -> Vec<u8> {
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        // ECDHE-RSA and RSA with AES-128-GCM.
        &[0, 4, 0xc0, 0x2f, 0, 0x9c],
        &[1, 0],
        // Groups and signatures.
        &[0, 16, 0, 10, 0, 4, 0, 2, 0, 29, 0, 13, 0, 4, 0, 2, 8, 4],
    ]
    .concat();
    let length = body.len() as u8;
    [&[0x16, 3, 1, 0, length + 4, 1, 0, 0, length][..], &body].concat()
}

fn hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    push_message(&mut bytes, &ToVolunteer::Hello { version: VERSION, build: "1".into(), client: "x".into() });
    bytes
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn secure(config: Arc<ClientConfig>, stream: TcpStream) -> Tls {
    let connection = ClientConnection::new(config, tls::nobody_in_particular()).expect("a configuration");
    StreamOwned::new(connection, stream)
}

fn config_of(identity: &Identity) -> Arc<ClientConfig> {
    tls::client(identity, Box::new(|_| true)).expect("a configuration").config
}

/// Goes as far as it is let with this configuration; what of the protocol it hears, and how TLS ended.
fn knock(farm: &Farm, config: Arc<ClientConfig>) -> (u16, Vec<u8>, Option<AlertDescription>) {
    let stream = dial(farm);
    let port = stream.local_addr().expect("an address").port();
    let mut stream = secure(config, stream);
    let mut said = Vec::new();
    let ended = stream
        .write_all(&[&OPENING[..], &hello()].concat())
        .and_then(|()| stream.flush())
        .and_then(|()| stream.read_to_end(&mut said).map(drop));
    let error = ended.err();
    let inner = error.as_ref().and_then(|error| error.get_ref()?.downcast_ref::<rustls::Error>());
    let alert = match inner {
        Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
        _ => None,
    };
    assert!(error.is_some() || said.is_empty(), "it was served: {said:?}");
    (port, said, alert)
}

fn farms_client(farm: &Farm) -> Identity {
    files::secret(&farm.home().join("keys/client.key")).expect("a key")
}

/// A client that shows no key at all.
fn without_key() -> Arc<ClientConfig> {
    let known =
        tls::client(&Identity::generate().expect("a key"), Box::new(|_| true)).expect("a configuration");
    let mut config = (*known.config).clone();
    config.client_auth_cert_resolver = Arc::new(NoKey);
    Arc::new(config)
}

#[derive(Debug)]
struct NoKey;

impl rustls::client::ResolvesClientCert for NoKey {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[test]
fn whoever_has_no_key_a_wrong_one_or_a_revoked_one_hears_nothing() {
    let farm = Farm::new(1);
    let stranger = Identity::generate().expect("a key");
    for (config, expected) in
        [(without_key(), None), (config_of(&stranger), Some(AlertDescription::AccessDenied))]
    {
        let (port, said, alert) = knock(&farm, config);
        assert_eq!(said, b"");
        assert!(expected.is_none() || alert == expected, "{alert:?}");
        expect_one_line(&farm, port, "closed");
    }
    let own = farms_client(&farm);
    let list = format!("revoked {}\n{} farm\n", own.public(), own.public());
    replace(&authorized(&farm), &list);
    let (port, said, alert) = knock(&farm, config_of(&own));
    assert_eq!((said, alert), (Vec::new(), Some(AlertDescription::AccessDenied)));
    expect_one_line(&farm, port, "closed");
    assert!(!farm.volunteers[0].log().contains("link up"), "{}", farm.volunteers[0].log());
    farm.finish();
}

#[test]
fn while_somebody_is_invited_or_vouched_for_others_still_hear_nothing() {
    let farm = Farm::new(1);
    let other = Identity::generate().expect("a key");
    replace(&authorized(&farm), &format!("farm {} ours\n", other.public()));
    let (port, said, _) = knock(&farm, config_of(&Identity::generate().expect("a key")));
    assert_eq!(said, b"");
    expect_one_line(&farm, port, "is not authorised");
    farm.finish();
}

#[test]
fn another_who_shows_an_authorised_key_without_its_secret_is_not_let_in() {
    let farm = Farm::new(1);
    let (own, thief) = (farms_client(&farm), Identity::generate().expect("a key"));
    let known = tls::client(&thief, Box::new(|_| true)).expect("a configuration");
    let mut config = (*known.config).clone();
    let signer = rustls::crypto::ring::sign::any_eddsa_type(&rustls::pki_types::PrivatePkcs8KeyDer::from(
        thief.pkcs8(),
    ));
    let spki = rustls::pki_types::CertificateDer::from(own.public().spki());
    let forged = rustls::sign::CertifiedKey::new(vec![spki], signer.expect("a signer"));
    config.client_auth_cert_resolver =
        Arc::new(rustls::client::AlwaysResolvesClientRawPublicKeys::new(Arc::new(forged)));
    let (port, said, _) = knock(&farm, Arc::new(config));
    assert_eq!(said, b"");
    expect_one_line(&farm, port, "closed");
    farm.finish();
}

/// Passes a connection on to the volunteer, and keeps what the client said.
fn record(farm: &Farm) -> (u16, std::thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let target = farm.volunteers[0].port;
    let thread = std::thread::spawn(move || {
        let (mut near, _) = listener.accept().expect("a client");
        let mut far = TcpStream::connect((Ipv4Addr::LOCALHOST, target)).expect("the volunteer");
        let (mut back_from, mut back_to) =
            (far.try_clone().expect("a socket"), near.try_clone().expect("a socket"));
        let back = std::thread::spawn(move || std::io::copy(&mut back_from, &mut back_to).ok());
        let (mut kept, mut piece) = (Vec::new(), [0; 4096]);
        while let Ok(length @ 1..) = near.read(&mut piece) {
            kept.extend_from_slice(&piece[..length]);
            if far.write_all(&piece[..length]).is_err() {
                break;
            }
        }
        far.shutdown(Shutdown::Both).ok();
        back.join().ok();
        kept
    });
    (port, thread)
}

#[test]
fn a_handshake_that_was_recorded_is_worth_nothing() {
    let farm = Farm::new(1);
    let (port, recorded) = record(&farm);
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the recorder");
    stream.set_read_timeout(Some(HELLO_TIMEOUT + SLACK)).expect("a socket");
    let mut good = secure(config_of(&farms_client(&farm)), stream);
    good.write_all(&[&OPENING[..], &hello()].concat()).expect("a link");
    let mut first = [0; 1];
    good.read_exact(&mut first).expect("the volunteer's hello");
    drop(good);
    let bytes = recorded.join().expect("no panic");
    assert!(bytes.len() > 500, "a whole handshake and a hello were recorded");
    let links = || farm.volunteers[0].log().matches("link up").count();
    wait_until("the link was up", COMMAND_MAX, || links() == 1);
    let mut again = dial(&farm);
    let port = again.local_addr().expect("an address").port();
    again.write_all(&bytes).ok();
    until_closed(&mut again);
    expect_one_line(&farm, port, "closed");
    assert_eq!(links(), 1, "it was served again");
    farm.finish();
}
