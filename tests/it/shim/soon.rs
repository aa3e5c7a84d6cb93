//! What a real broker says to a shim, and when.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use distcc::broker::config::origin;
use distcc::common::bytes::Bytes;
use distcc::common::invocation::Invocation;
use distcc::common::protocol::io::{read_local, write_local};
use distcc::common::protocol::local::{Header, Kind};
use distcc::common::protocol::wire::encode;

use super::fake::PATIENCE;
use crate::farm::Farm;

/// The kinds of all that the broker says to a request, up to its answer.
fn told(farm: &Farm, words: &[&str]) -> Vec<Kind> {
    let mut stream = UnixStream::connect(farm.home().join("broker.sock")).expect("the broker's socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a bound");
    let path = std::env::var("PATH").expect("a PATH");
    let invocation = Invocation {
        argv: words.iter().map(|&word| Bytes::from(word)).collect(),
        cwd: Bytes::from(farm.work().as_path()),
        env: vec![
            Bytes::from(format!("PATH={}:{path}", farm.bin().display()).as_str()),
            Bytes::from(format!("DISTCC_HOSTS={}", farm.hosts()).as_str()),
        ],
        umask: 0o22,
        terminal: None,
        limited: false,
        origin: origin(),
    };
    let body = encode(&invocation);
    write_local(&mut stream, Header::any_build(Kind::Compile, body.len()), &body).expect("a request");
    let mut kinds = Vec::new();
    while !matches!(kinds.last(), Some(Kind::Run | Kind::Done)) {
        kinds.push(read_local(&mut stream).expect("an answer").0.kind);
    }
    kinds
}

fn script(path: &Path, text: &str) {
    fs::write(path, text).expect("our own file");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our own file");
}

#[test]
fn an_answer_that_comes_soon_is_all_that_is_said() {
    let farm = Farm::new(1);
    // Starts the broker.
    farm.shim(["gcc", "--version"]).expect_success("the compiler's own word");
    assert_eq!(told(&farm, &["gcc", "--version"]), [Kind::Run]);
    fs::write(farm.work().join("a.c"), "int a;\n").expect("our own file");
    // A compiler that takes long to say what it is.
    script(&farm.bin().join("gcc"), "#!/bin/sh\nsleep 1\nPATH=${PATH#*:} exec gcc \"$@\"\n");
    let said = told(&farm, &["gcc", "-c", "a.c"]);
    assert!(matches!(said[..], [Kind::Ack, Kind::Run | Kind::Done]), "{said:?}");
    farm.finish();
}
