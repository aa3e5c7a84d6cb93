//! `distcc --dashboard`: who gets what at its port. What browsers make of the page: `contrib/page-check`.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::status::compile;
use crate::farm::{COMMAND_MAX, Farm, wait_until};

/// Where the page is, and its token.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Page {
    at: SocketAddr,
    token: String,
}

impl Page {
    fn of(farm: &Farm) -> Page {
        let outcome = farm.shim(["--dashboard"]).expect_success("--dashboard");
        let said = String::from_utf8_lossy(&outcome.stdout).into_owned();
        let (at, token) =
            said.trim().strip_prefix("http://").and_then(|rest| rest.split_once("/#")).expect("an address");
        Page { at: at.parse().expect("an address"), token: token.to_owned() }
    }

    /// What is answered to these bytes; what a connection that is closed says is nothing.
    fn send(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.at).expect("the port is open");
        stream.set_read_timeout(Some(COMMAND_MAX)).expect("a socket");
        // A server that has read enough may close while the rest is written.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Status and body of the answer to a line and fields.
    fn ask(&self, line: &str, fields: &[&str]) -> (u16, String) {
        let head: String = [format!("{line} HTTP/1.1")]
            .into_iter()
            .chain(fields.iter().map(|field| (*field).to_owned()))
            .map(|line| format!("{line}\r\n"))
            .collect();
        let answer = self.send(format!("{head}\r\n").as_bytes());
        let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        (status, answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
    }

    /// The same by somebody who has the token.
    fn ask_well(&self, line: &str) -> (u16, String) {
        self.ask(line, &[&self.host(), &format!("Authorization: Bearer {}", self.token)])
    }

    fn host(&self) -> String {
        format!("Host: {}", self.at)
    }
}

#[test]
fn the_page_is_its_users_alone() {
    let farm = Farm::new(1);
    compile(&farm, &["a"]);
    let page = Page::of(&farm);
    assert_eq!(Page::of(&farm), page, "there is one page");
    assert!(page.at.ip().is_loopback() && page.token.len() >= 26, "{page:?}");
    let log = fs::read_to_string(farm.home().join("broker.log")).expect("the log");
    assert!(log.contains("the dashboard is open") && !log.contains(&page.token), "{log}");
    let (status, body) = page.ask("GET /", &[&page.host()]);
    assert!(status == 200 && body.starts_with("<!doctype html>") && !body.contains(&page.token));
    let bearer = format!("Authorization: Bearer {}", page.token);
    for line in ["GET /status.json", "POST /drain/a", "POST /exclude/a", "POST /use/a"] {
        let host = page.host();
        for field in [
            "Authorization: Bearer aaaaaaaaaaaaaaaaaaaaaaaaaa",
            "Authorization: Bearer ",
            &format!("Authorization: Basic {}", page.token),
            &format!("Cookie: token={}", page.token),
            "X: y",
        ] {
            assert_eq!(page.ask(line, &[&host, field]).0, 401, "{line} {field}");
        }
        for host in ["Host: evil.example", "Host: 127.0.0.1.evil.example", "X: y"] {
            assert_eq!(page.ask(line, &[host, &bearer]).0, 421, "{line} {host}");
        }
    }
    for (line, status) in [
        ("POST /status.json", 405),
        ("GET /drain/a", 405),
        ("PUT /", 405),
        ("OPTIONS /drain/a", 405),
        ("GET /metrics", 404),
        ("POST /stop/a", 404),
        ("GET /../etc/passwd", 404),
    ] {
        assert_eq!(page.ask_well(line).0, status, "{line}");
    }
    farm.finish();
}

#[test]
fn the_page_tells_what_the_status_does_and_holds_hosts() {
    let farm = Farm::new(1);
    compile(&farm, &["a", "b"]);
    farm.settle();
    let page = Page::of(&farm);
    let (status, body) = page.ask_well("GET /status.json");
    assert_eq!(status, 200, "{body}");
    let report: Value = serde_json::from_str(&body).expect("a document");
    assert_eq!((&report["totals"]["remote"], &report["schema"]), (&2.into(), &1.into()), "{report}");
    let port = farm.volunteers[0].port;
    for (word, hold) in [("drain", "drained"), ("exclude", "excluded"), ("use", "free")] {
        let (status, body) = page.ask_well(&format!("POST /{word}/127.0.0.1%3A{port}"));
        assert_eq!((status, body), (200, format!("{{\"host\":\"127.0.0.1:{port}\"}}")));
        assert_eq!(farm.status()["hosts"][0]["hold"], hold);
    }
    assert_eq!(page.ask_well("POST /drain/nobody").0, 404);
    assert_eq!(page.ask_well("POST /drain/%ff").0, 404);
    farm.finish();
}

#[test]
fn visitors_who_mean_harm_are_bounded() {
    let farm = Farm::new(0);
    farm.shim(["gcc", "--version"]).expect_success("anything that starts a broker");
    let page = Page::of(&farm);
    let bearer = format!("Authorization: Bearer {}", page.token);
    // A head without an end.
    let long =
        format!("GET /status.json HTTP/1.1\r\n{}\r\n{bearer}\r\nX: {}", page.host(), "x".repeat(1 << 20));
    let answer = page.send(long.as_bytes());
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    for nonsense in [&b"\0\xff\r\n\r\n"[..], b"GET\r\n\r\n", b"\r\n\r\n", b"GET / HTTP/9\r\n\r\n"] {
        assert!(page.send(nonsense).starts_with("HTTP/1.1 400 "), "{nonsense:?}");
    }
    // Many who say nothing: they are sent away in time, and others are served again.
    let idle: Vec<TcpStream> =
        (0..50).map(|_| TcpStream::connect(page.at).expect("the port is open")).collect();
    let mut status = 0;
    wait_until("the page is served again", COMMAND_MAX, || {
        status = page.ask_well("GET /status.json").0;
        status == 200
    });
    drop(idle);
    farm.finish();
}

#[test]
fn each_broker_has_an_address_of_its_own() {
    let farm = Farm::new(0);
    let nobody = farm.shim(["--dashboard"]);
    assert_eq!(nobody.status.code(), Some(3), "{nobody:?}");
    farm.shim(["gcc", "--version"]).expect_success("anything that starts a broker");
    let first = Page::of(&farm);
    farm.shim(["--stop"]).expect_success("--stop");
    wait_until("the port is closed", COMMAND_MAX, || TcpStream::connect(first.at).is_err());
    farm.settle();
    wait_until("the broker has ended", COMMAND_MAX, || farm.brokers().is_empty());
    farm.shim(["gcc", "--version"]).expect_success("anything that starts a broker");
    assert_ne!(Page::of(&farm).token, first.token);
    farm.finish();
}
