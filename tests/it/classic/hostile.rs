//! Peers of the classic protocol that mean harm, or are ill: the daemon stays up, serves others
//! meanwhile, and keeps no file.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::{Duration, Instant};

use distcc::common::protocol::classic::{Token, lzo};

use crate::farm::{COMMAND_MAX, Farm, VolunteerOptions, run, wait_until};

/// The longest that a peer may have to wait for its connection to be closed.
const CLOSE_MAX: Duration = Duration::from_secs(20);

fn farm() -> Farm {
    Farm::with(&[VolunteerOptions {
        jobs: 4,
        more: &["--enable-tcp-insecure", "--allow", "127.0.0.1"],
        ..VolunteerOptions::default()
    }])
}

/// The tests' own ends of connections: a login shell has fewer descriptors at first than it may have.
fn allow_many_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).expect("our own");
}

fn connect(farm: &Farm) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, farm.volunteers[0].port)).expect("a connection");
    stream.set_read_timeout(Some(CLOSE_MAX)).expect("a socket");
    stream
}

/// What the daemon says until it closes; a reset counts as that.
fn all_that_is_said(mut stream: TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("not closed in {CLOSE_MAX:?}"),
        _ => said,
    }
}

/// A request, packet by packet.
#[derive(Default)]
struct Request(Vec<u8>);

impl Request {
    fn number(mut self, token: Token, value: u32) -> Self {
        self.0.extend(format!("{}{value:08x}", token.name()).bytes());
        self
    }

    fn body(self, token: Token, body: &[u8]) -> Self {
        let mut request = self.number(token, u32::try_from(body.len()).expect("a short body"));
        request.0.extend(body);
        request
    }

    fn words(self, words: &str) -> Self {
        let words: Vec<&str> = words.split(' ').collect();
        let count = self.number(Token::Argc, u32::try_from(words.len()).expect("few words"));
        words.iter().fold(count, |request, word| request.body(Token::Argv, word.as_bytes()))
    }

    fn of(version: u32) -> Self {
        Request::default().number(Token::Dist, version)
    }

    /// A file set with one entry of the peer's choice.
    fn set(name: &str, token: Token, body: &[u8]) -> Vec<u8> {
        let set = Request::of(3).body(Token::Cdir, b"/w").words("gcc -c a.c -o a.o").number(Token::Nfil, 2);
        let source = lzo::compress(b"int a;\n");
        set.body(Token::Name, b"/w/a.c")
            .body(Token::File, &source)
            .body(Token::Name, name.as_bytes())
            .body(token, body)
            .0
    }
}

/// A stream of LZO1X that would unpack to 764 MB: four letters, then one copy of them whose length
/// is written as three million zeros of 255 each.
fn bomb() -> Vec<u8> {
    [b"\x15aaaa\x20", &[0; 3_000_000][..], b"\x01\x00\x00\x11\x00\x00"].concat()
}

fn hostile_requests() -> Vec<(&'static str, Vec<u8>)> {
    let file = lzo::compress(b"x");
    vec![
        ("a version that does not exist", Request::of(4).0),
        ("version 0", Request::of(0).0),
        ("no number", b"DISTxxxxxxxx".to_vec()),
        ("a token out of order", Request::of(1).number(Token::Doti, 4).0),
        ("no words", Request::of(1).number(Token::Argc, 0).0),
        ("4 billion words", Request::of(1).number(Token::Argc, u32::MAX).0),
        ("a word of 4 GiB", Request::of(1).number(Token::Argc, 1).number(Token::Argv, u32::MAX).0),
        ("a text of 4 GiB", Request::of(1).words("gcc -c a.c -o a.o").number(Token::Doti, u32::MAX).0),
        ("a link job", Request::of(1).words("gcc a.o -o a").body(Token::Doti, b"").0),
        ("a plugin", Request::of(1).words("gcc -fplugin=/x.so -c a.c -o a.o").body(Token::Doti, b"").0),
        ("not LZO", Request::of(2).words("gcc -c a.c -o a.o").body(Token::Doti, &[0xff; 100]).0),
        ("a bomb of LZO", Request::of(2).words("gcc -c a.c -o a.o").body(Token::Doti, &bomb()).0),
        ("a name with ..", Request::set("/w/../../etc/x", Token::File, &file)),
        ("a relative name", Request::set("x", Token::File, &file)),
        ("a link out of the folder", Request::set("/w/l", Token::Link, b"../../../../../../etc")),
        ("a link to a place that holds no headers", Request::set("/etc", Token::Link, b"../../../../../etc")),
        ("a file in a file", Request::set("/w/a.c/x", Token::File, &file)),
        ("a file twice", Request::set("/w/a.c", Token::File, &file)),
        ("a bomb in a set", Request::set("/w/b.h", Token::File, &bomb())),
        (
            "4 billion files",
            Request::of(3).body(Token::Cdir, b"/w").words("gcc -c a.c").number(Token::Nfil, u32::MAX).0,
        ),
        ("a directory of 4 GiB", Request::of(3).number(Token::Cdir, u32::MAX).0),
    ]
}

#[test]
fn what_makes_no_sense_or_leads_out_is_closed_without_a_word_and_others_are_served() {
    let farm = farm();
    for (what, request) in hostile_requests() {
        let mut stream = connect(&farm);
        // It may be closed before all of it is taken.
        stream.write_all(&request).ok();
        assert_eq!(all_that_is_said(stream), b"", "{what}");
    }
    assert!(!farm.volunteers[0].log().contains("panicked"));
    compiles(&farm);
    farm.finish();
}

/// The same requests, cut and spoilt at many places.
#[test]
fn requests_that_are_cut_or_spoilt_end_and_leave_nothing() {
    let farm = farm();
    let good = Request::set("/w/b.h", Token::File, &lzo::compress(b"int b;\n"));
    let text = Request::of(2)
        .words("gcc -c a.c -o a.o")
        .body(Token::Doti, &lzo::compress(b"# 1 \"a.c\"\nint a;\n"))
        .0;
    // Not random: a failure is repeated by the next run.
    for (number, request) in [good, text].iter().flat_map(|request| spoilt(request)).enumerate() {
        let mut stream = connect(&farm);
        stream.write_all(&request).ok();
        stream.shutdown(Shutdown::Write).ok();
        let said = all_that_is_said(stream);
        assert!(said.is_empty() || said.starts_with(b"DONE"), "{number}: {}", said.escape_ascii());
    }
    compiles(&farm);
    farm.finish();
}

fn spoilt(request: &[u8]) -> Vec<Vec<u8>> {
    let cut = (0..request.len()).step_by(7).map(|length| request[..length].to_vec());
    let spoilt = (0..request.len()).step_by(5).map(|place| {
        let mut request = request.to_vec();
        request[place] ^= 0x15;
        request
    });
    cut.chain(spoilt).collect()
}

#[test]
fn a_client_that_goes_away_has_its_compiler_killed() {
    let farm = farm();
    let compiler = farm.bin().join("slow-gcc");
    std::fs::write(&compiler, "#!/bin/sh\nexec sleep 1000\n").expect("our own file");
    rustix::fs::chmod(&compiler, rustix::fs::Mode::RWXU).expect("our own file");
    for half in [true, false] {
        let mut stream = connect(&farm);
        let request = Request::of(1).words("slow-gcc -c a.c -o a.o").body(Token::Doti, b"int a;\n").0;
        stream.write_all(&request).expect("a request");
        let runs = || farm.workers().iter().any(|process| process.command.contains("sleep"));
        wait_until("the compiler runs", CLOSE_MAX, runs);
        let begin = Instant::now();
        match half {
            true => stream.shutdown(Shutdown::Write).expect("a socket"),
            false => drop(stream),
        }
        wait_until("the compiler is killed", CLOSE_MAX, || !runs());
        assert!(begin.elapsed() < CLOSE_MAX);
    }
    farm.finish();
}

#[test]
fn a_thousand_idle_connections_keep_nobody_waiting() {
    let farm = farm();
    allow_many_descriptors();
    let idle: Vec<TcpStream> = (0..1000).map(|_| connect(&farm)).collect();
    compiles(&farm);
    drop(idle);
    // Nor do those that begin a request and send no more of it: the patience for that is minutes.
    let begun = |_| {
        let mut stream = connect(&farm);
        stream.write_all(&Request::of(1).number(Token::Argc, 5).0).ok();
        stream
    };
    let begun: Vec<TcpStream> = (0..2000).map(begun).collect();
    compiles(&farm);
    drop(begun);
    farm.finish();
}

#[test]
fn bytes_that_come_one_by_one_are_a_request() {
    let farm = farm();
    let mut stream = connect(&farm);
    stream.set_nodelay(true).expect("a socket");
    let request = Request::of(1).words("gcc -c a.c -o a.o").body(Token::Doti, b"int a;\n").0;
    for byte in request {
        stream.write_all(&[byte]).expect("a byte");
    }
    let said = all_that_is_said(stream);
    assert!(
        said.starts_with(b"DONE00000001STAT00000000SERR00000000SOUT00000000DOTO"),
        "{}",
        said.escape_ascii()
    );
    farm.finish();
}

/// A client of distcc 3.4 is served.
fn compiles(farm: &Farm) {
    std::fs::write(farm.work().join("a.c"), "int a;\n").expect("our own file");
    let mut command = farm.command(super::CLIENT);
    command.env("DISTCC_HOSTS", format!("127.0.0.1:{}", farm.volunteers[0].port));
    command.env("DISTCC_FALLBACK", "0").args(["gcc", "-c", "a.c", "-o", "a.o"]);
    run(command, COMMAND_MAX).expect_success("a compile");
    super::forget_stocks_files(farm);
}
