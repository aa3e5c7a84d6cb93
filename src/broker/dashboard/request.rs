//! What the page is asked for, and whether that is granted: functions of request and token.
//!
//! ```text
//! GET  /               the page, which knows nothing yet
//! GET  /status.json    the report             (token)
//! POST /drain/HOST     no new jobs there      (token)
//! POST /exclude/HOST   no jobs there at all   (token)
//! POST /use/HOST       jobs again             (token)
//! ```
//!
//! The token comes as `Authorization: Bearer TOKEN`, which no page of a stranger can have a browser send
//! here: it would ask first, and is not answered. A request to another name than an address or localhost
//! is a name that was made to lead here (DNS rebinding), and is refused.

use crate::broker::dispatch::Held;
use crate::broker::scheduler::api::Hold;
use crate::common::http::{Request, answer, is_whole, misdirected, unescaped};
use crate::common::page::Token;

/// The longest name of a host that is looked for.
const HOST_MAX_BYTES: usize = 512;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// What somebody may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The page, which needs no token: it holds nothing.
    Page,
    /// The report.
    Look,
    /// A host held, or let go.
    Hold(String, Hold),
}

/// What is wished, if it is granted.
///
/// # Errors
///
/// Returns the answer that refuses it.
pub fn read(head: &[u8], token: &Token) -> Result<Wish, Vec<u8>> {
    let whole = Some(head).filter(|head| is_whole(head));
    let request =
        whole.and_then(Request::read).ok_or_else(|| refuse("400 Bad Request", "this is no request"))?;
    if !request.is_for_an_address() {
        return Err(misdirected());
    }
    let unknown = || refuse("404 Not Found", "there is no such page");
    let (method, wish) = match request.path.as_str() {
        "/" => ("GET", Wish::Page),
        "/status.json" => ("GET", Wish::Look),
        path => ("POST", hold(path).ok_or_else(unknown)?),
    };
    if request.method != method {
        return Err(refuse("405 Method Not Allowed", &format!("only {method}")));
    }
    let may = wish == Wish::Page || request.bearer().is_some_and(|word| token.is(word));
    match may {
        true => Ok(wish),
        false => Err(refuse("401 Unauthorized", "the token is needed: distcc --dashboard prints it")),
    }
}

/// `/drain/HOST` and its like.
fn hold(path: &str) -> Option<Wish> {
    let (word, host) = path.strip_prefix('/')?.split_once('/')?;
    let hold = match word {
        "drain" => Hold::Drained,
        "exclude" => Hold::Excluded,
        "use" => Hold::Free,
        _ => return None,
    };
    let host = unescaped(host).filter(|host| (1..=HOST_MAX_BYTES).contains(&host.len()))?;
    Some(Wish::Hold(host, hold))
}

/// The answer with a document.
pub fn document(json: &str) -> Vec<u8> {
    answer("200 OK", JSON, json)
}

/// The answer to a hold.
pub fn held(held: &Held) -> Vec<u8> {
    match held {
        Held::Done(name) => document(&serde_json::json!({ "host": name }).to_string()),
        Held::Unknown => refuse("404 Not Found", "there is no such host, or several of that name"),
        Held::Distrusted(_) => {
            refuse("409 Conflict", "it gave another object than this machine makes, and stays without jobs")
        }
    }
}

fn refuse(status: &str, why: &str) -> Vec<u8> {
    answer(status, TEXT, &format!("{why}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, fields: &str, expected: &str) {
        let head = format!("{line} HTTP/1.1\r\n{fields}\r\n");
        let shown = match read(head.as_bytes(), &Token::of("secret")) {
            Ok(wish) => format!("{wish:?}"),
            Err(answer) => String::from_utf8_lossy(&answer[9..12]).into_owned(),
        };
        assert_eq!(shown, expected, "{line} {fields}");
    }

    const HOST: &str = "Host: 127.0.0.1:4000\r\n";

    fn with(word: &str) -> String {
        format!("{HOST}Authorization: Bearer {word}\r\n")
    }

    #[test]
    fn nothing_is_told_or_done_without_the_token_in_its_header() {
        check("GET /", HOST, "Page");
        check("GET /status.json", &with("secret"), "Look");
        check("POST /drain/build7", &with("secret"), "Hold(\"build7\", Drained)");
        check("POST /exclude/build7%3A4000", &with("secret"), "Hold(\"build7:4000\", Excluded)");
        check("POST /use/me@build7", &with("secret"), "Hold(\"me@build7\", Free)");
        for path in ["GET /status.json", "POST /drain/a", "POST /exclude/a", "POST /use/a"] {
            for fields in [HOST, &with("secre"), &with("secret2"), &with(""), &with("SECRET")] {
                check(path, fields, "401");
            }
            check(&format!("{path}?token=secret"), HOST, "401");
            check(path, &format!("{}Authorization: Bearer x\r\n", with("secret")), "401");
            check(path, &format!("{HOST}Cookie: token=secret\r\n"), "401");
        }
    }

    #[test]
    fn a_change_is_a_post_and_everything_is_asked_by_address() {
        check("GET /drain/a", &with("secret"), "405");
        check("POST /status.json", &with("secret"), "405");
        check("POST /", HOST, "405");
        check("OPTIONS /drain/a", HOST, "405");
        for path in ["/other", "/drain", "/drain/", "/stop/a", "/drain/%", "/drain/%zz", "/drain/%ff", "//"] {
            check(&format!("POST {path}"), &with("secret"), "404");
        }
        check(&format!("POST /drain/{}", "x".repeat(600)), &with("secret"), "404");
        for host in ["evil.example", "evil.example:4000", "127.0.0.1.evil.example", ""] {
            check("GET /", &format!("Host: {host}\r\n"), "421");
            check("GET /status.json", &format!("Host: {host}\r\nAuthorization: Bearer secret\r\n"), "421");
        }
        check("nonsense", "", "400");
        let cut = format!("GET /status.json HTTP/1.1\r\n{}", with("secret"));
        assert!(
            read(cut.as_bytes(), &Token::of("secret")).is_err(),
            "a head that was cut off has lost something"
        );
    }
}
