//! Pages for one reader: the word that opens them, and how they are sent.
//!
//! The word is in the part of a page's address behind `#`, which a browser sends to nobody, and comes back
//! in a header of each of the page's requests.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::http::{answer, answer_with};
use super::trust::key::{base32, random};

/// Bytes of a token: nobody guesses 128 bits.
const TOKEN_BYTES: usize = 16;

/// What a page has in place of the nonce.
pub const NONCE: &str = "NONCE";

/// The word that opens a page.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A fresh one; none where the system has no random numbers.
    pub fn generate() -> Option<Self> {
        random::<TOKEN_BYTES>().map(|bytes| Token(base32(&bytes)))
    }

    /// Whether a word is it. How long that takes says nothing about how much of it is right.
    pub fn is(&self, word: &str) -> bool {
        // blake3 compares its digests in constant time.
        blake3::hash(word.as_bytes()) == blake3::hash(self.0.as_bytes())
    }

    /// The page's address.
    pub fn address(&self, at: SocketAddr) -> String {
        format!("http://{}/#{}", reachable(at), self.0)
    }

    /// That word.
    #[cfg(test)]
    pub fn of(word: &str) -> Self {
        Token(word.to_owned())
    }
}

/// Where this machine itself finds a socket that listens there.
fn reachable(at: SocketAddr) -> SocketAddr {
    let ip = match at.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, at.port())
}

/// The answer that is a page. Its script and its style carry the answer's own nonce; nothing else in it
/// runs, nothing is fetched from elsewhere, and no other page may frame it.
pub fn answer_page(page: &str) -> Vec<u8> {
    let Some(nonce) = random::<TOKEN_BYTES>().map(|bytes| base32(&bytes)) else {
        let why = "the system has no random numbers\n";
        return answer("500 Internal Server Error", "text/plain; charset=utf-8", why);
    };
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let fields = [
        ("Content-Security-Policy", policy.as_str()),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
    ];
    answer_with("200 OK", "text/html; charset=utf-8", &fields, &page.replace(NONCE, &nonce))
}

#[cfg(test)]
#[allow(missing_docs, reason = "other rooms' tests use it")]
pub mod tests {
    use super::*;

    /// Checks that an answer is a page that keeps to itself.
    pub fn check_page(answers: [Vec<u8>; 2]) {
        let [text, again] = answers.map(|bytes| String::from_utf8(bytes).expect("text"));
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("text/html"), "{head}");
        assert!(head.contains("default-src 'none'; script-src 'nonce-"), "{head}");
        let nonce = head.split("script-src 'nonce-").nth(1).and_then(|rest| rest.split('\'').next());
        let nonce = nonce.expect("a nonce");
        assert_eq!(body.matches(&format!("nonce=\"{nonce}\"")).count(), 2, "one style, one script");
        assert!(!body.contains(NONCE) && !head.contains(NONCE));
        assert!(!again.contains(nonce), "a nonce is used once");
        let own = body.replace("http://www.w3.org/2000/svg", "");
        for foreign in [
            "http://",
            "https://",
            "//cdn",
            "src=",
            "@import",
            "url(",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "style=\"",
            "onclick=",
        ] {
            assert!(!own.contains(foreign), "{foreign} in the page");
        }
    }

    #[test]
    fn no_two_pages_have_the_same_token() {
        let [one, other] = [0, 1].map(|_| Token::generate().expect("random numbers"));
        assert!(!one.is(&other.0) && one.0.len() * 5 >= TOKEN_BYTES * 8);
        assert!(one.is(&one.0) && !one.is("") && !one.is(&one.0[1..]));
    }

    #[test]
    fn an_address_is_one_that_this_machine_reaches() {
        let check = |at: &str, expected: &str| {
            let token = Token::of("word");
            assert_eq!(token.address(at.parse().expect("an address")), expected);
        };
        check("127.0.0.1:3634", "http://127.0.0.1:3634/#word");
        check("0.0.0.0:3634", "http://127.0.0.1:3634/#word");
        check("[::]:3634", "http://[::1]:3634/#word");
    }
}
