//! What the owner's page is asked for, and what it answers: a function of request and token.
//!
//! ```text
//! GET  /              the page, which knows nothing yet
//! GET  /status.json   the report            (token)
//! POST /pause         no new jobs           (token)
//! POST /resume        jobs again            (token)
//! ```
//!
//! The token comes as `Authorization: Bearer TOKEN`, which no page of a stranger can have a browser send
//! here: it would ask first, and is not answered. A request to another name than an address or localhost
//! is a name that was made to lead here (DNS rebinding), and is refused.

use super::token::Token;
use crate::common::http::{self, Request};
use crate::common::page::answer_page;

/// The page. Script and style in it carry the answer's own nonce, and nothing else runs.
const PAGE: &str = include_str!("page.html");

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// What somebody with the token wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The report.
    Look,
    /// No new jobs, or jobs again.
    Pause(bool),
}

/// The answer to a request; `None` is none that can be read. `grant` does what is wished, and returns a
/// document.
pub fn answer(request: Option<&Request>, token: &Token, grant: impl FnOnce(Wish) -> String) -> Vec<u8> {
    let refuse = |status: &str, why: &str| http::answer(status, TEXT, &format!("{why}\n"));
    let Some(request) = request else { return refuse("400 Bad Request", "this is no request") };
    if !request.is_for_an_address() {
        return http::misdirected();
    }
    let (method, wish) = match request.path.as_str() {
        "/" => ("GET", None),
        "/status.json" => ("GET", Some(Wish::Look)),
        "/pause" => ("POST", Some(Wish::Pause(true))),
        "/resume" => ("POST", Some(Wish::Pause(false))),
        _ => return refuse("404 Not Found", "there is no such page"),
    };
    if request.method != method {
        return refuse("405 Method Not Allowed", &format!("only {method}"));
    }
    match wish {
        None => answer_page(PAGE),
        Some(_) if !request.bearer().is_some_and(|word| token.is(word)) => {
            refuse("401 Unauthorized", "the token is needed: distccd --dashboard-address prints it")
        }
        Some(wish) => http::answer("200 OK", JSON, &grant(wish)),
    }
}

/// What is answered to a pause.
pub fn pause_answer(paused: bool, running: u32) -> String {
    format!("{{\"paused\":{paused},\"running\":{running}}}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::page::tests::check_page;

    fn ask(head: &str) -> (String, Option<Wish>) {
        let mut granted = None;
        let request = Request::read(head.as_bytes());
        let bytes = answer(request.as_ref(), &Token::of("secret"), |wish| {
            granted = Some(wish);
            "{}".to_owned()
        });
        (String::from_utf8(bytes).expect("text"), granted)
    }

    fn check(line: &str, fields: &str, status: &str, granted: Option<Wish>) {
        let (text, wish) = ask(&format!("{line} HTTP/1.1\r\n{fields}\r\n"));
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{line} {fields}: {text}");
        assert_eq!(wish, granted, "{line} {fields}");
    }

    #[test]
    fn nothing_is_told_or_done_without_the_token_in_its_header() {
        let host = "Host: 127.0.0.1:3634\r\n";
        let with = |word: &str| format!("{host}Authorization: Bearer {word}\r\n");
        check("GET /", host, "200", None);
        check("GET /status.json", &with("secret"), "200", Some(Wish::Look));
        check("POST /pause", &with("secret"), "200", Some(Wish::Pause(true)));
        check("POST /resume", &with("secret"), "200", Some(Wish::Pause(false)));
        for path in ["GET /status.json", "POST /pause", "POST /resume"] {
            for fields in [host, &with("secre"), &with("secret2"), &with(""), &with("SECRET")] {
                check(path, fields, "401", None);
            }
            check(&format!("{path}?token=secret"), host, "401", None);
            let twice = format!("{}Authorization: Bearer x\r\n", with("secret"));
            check(path, &twice, "401", None);
        }
    }

    #[test]
    fn a_change_is_a_post_and_everything_is_asked_by_address() {
        let with = |host: &str| format!("Host: {host}\r\nAuthorization: Bearer secret\r\n");
        check("GET /pause", &with("127.0.0.1"), "405", None);
        check("POST /status.json", &with("127.0.0.1"), "405", None);
        check("GET /other", &with("127.0.0.1"), "404", None);
        for host in ["evil.example", "evil.example:3634", "127.0.0.1.evil.example", ""] {
            check("GET /status.json", &with(host), "421", None);
            check("GET /", &with(host), "421", None);
        }
        check("GET /status.json", &with("[::1]:3634"), "200", Some(Wish::Look));
        check("GET /status.json", &with("localhost:3634"), "200", Some(Wish::Look));
        assert!(ask("nonsense").0.starts_with("HTTP/1.1 400 "));
    }

    #[test]
    fn the_page_runs_nothing_but_its_own_script_and_fetches_nothing_from_elsewhere() {
        let page = || {
            answer(
                Request::read(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").as_ref(),
                &Token::of("x"),
                |_| String::new(),
            )
        };
        check_page([page(), page()]);
    }
}
