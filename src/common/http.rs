//! As much of HTTP/1.1 as pages of figures need: the head of a request, and whole answers.

/// The largest head that is read.
pub const HEAD_MAX_BYTES: usize = 8 << 10;

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// What it says that this server is called; empty where it does not.
    pub host: String,
    /// The fields of its head, names in lower case; few, because the head is short.
    pub fields: Vec<(String, String)>,
}

/// Whether a head is whole: it ends with an empty line.
pub fn is_whole(head: &[u8]) -> bool {
    head.windows(4).any(|end| end == b"\r\n\r\n") || head.windows(2).any(|end| end == b"\n\n")
}

impl Request {
    /// Reads a head; nothing of what is none.
    pub fn read(head: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(head).ok()?;
        let mut lines = text.lines();
        let mut words = lines.next()?.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() || !version.starts_with("HTTP/1.") || !target.starts_with('/') {
            return None;
        }
        let fields = lines.take_while(|line| !line.is_empty()).filter_map(|line| line.split_once(':'));
        let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()));
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let (method, host) = (method.to_owned(), String::new());
        let mut request = Request { method, path, host, fields: fields.collect() };
        request.host = match request.fields.iter().filter(|(name, _)| name == "host").count() {
            0 => String::new(),
            1 => request.field("host")?.to_owned(),
            _ => return None,
        };
        Some(request)
    }

    /// A field of the head, given its name in lower case; none where it comes twice.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(known, _)| known == name);
        let (_, value) = found.next()?;
        found.next().is_none().then_some(value.as_str())
    }

    /// The token that it brings: `Authorization: Bearer TOKEN`.
    pub fn bearer(&self) -> Option<&str> {
        self.field("authorization")?.strip_prefix("Bearer ")
    }

    /// Whether it was sent to an address or to this machine's own name, rather than to a name that a
    /// stranger's page made lead here (DNS rebinding).
    pub fn is_for_an_address(&self) -> bool {
        let name = match self.host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((name, _)) => name,
            None => self.host.split(':').next().unwrap_or_default(),
        };
        name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok()
    }
}

/// A part of a path with its `%` escapes undone; nothing of what is no such text.
pub fn unescaped(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'%' {
            let digits = after.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

/// A whole answer; the connection closes behind it.
pub fn answer(status: &str, content_type: &str, body: &str) -> Vec<u8> {
    answer_with(status, content_type, &[], body)
}

/// A whole answer with more fields in its head.
pub fn answer_with(status: &str, content_type: &str, fields: &[(&str, &str)], body: &str) -> Vec<u8> {
    let more: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\n{more}Connection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

/// The answer to a request that is not [for an address](Request::is_for_an_address).
pub fn misdirected() -> Vec<u8> {
    let why = "ask by address, as in http://127.0.0.1:PORT or http://[fd00::7]:PORT, or as localhost: a stranger's page may \
               have made any other name lead here\n";
    answer("421 Misdirected Request", "text/plain; charset=utf-8", why)
}

/// The answer to a question for figures at `/metrics`, which `figures` makes.
pub fn answer_metrics(head: &[u8], figures: impl FnOnce() -> String) -> Vec<u8> {
    const TEXT: &str = "text/plain; charset=utf-8";
    match Request::read(head) {
        None => answer("400 Bad Request", TEXT, "this is no request\n"),
        Some(request) if !request.is_for_an_address() => misdirected(),
        Some(request) if request.method != "GET" => answer("405 Method Not Allowed", TEXT, "only GET\n"),
        Some(request) if request.path != "/metrics" => answer("404 Not Found", TEXT, "see /metrics\n"),
        Some(_) => answer("200 OK", super::exposition::Exposition::CONTENT_TYPE, &figures()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &str, status: &str) {
        let answer = answer_metrics(head.as_bytes(), || "figures\n".to_owned());
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{head}: {text}");
    }

    #[test]
    fn escapes_in_a_path_are_undone() {
        let check =
            |text: &str, expected: Option<&str>| assert_eq!(unescaped(text).as_deref(), expected, "{text}");
        check("build7%3A4000", Some("build7:4000"));
        check("%e2%82%AC%25", Some("€%"));
        check("", Some(""));
        for nonsense in ["%", "%4", "%zz", "%+1", "%ff", "a%"] {
            check(nonsense, None);
        }
    }

    #[test]
    fn only_a_question_for_figures_is_answered_with_them() {
        check("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9\r\n\r\n", "200");
        check("GET /metrics?x=1 HTTP/1.0\nhost: [::1]:9\n\n", "200");
        check("GET /metrics HTTP/1.1\r\nHost: localhost:9\r\n\r\n", "200");
        check("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", "421");
        check("GET /metrics HTTP/1.1\r\n\r\n", "421");
        check("POST /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "405");
        check("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "404");
        check("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: x\r\n\r\n", "400");
        for nonsense in ["", "GET", "GET /metrics SPDY\r\n\r\n", "GET x HTTP/1.1\r\n\r\n"] {
            check(nonsense, "400");
        }
        assert!(is_whole(b"GET / HTTP/1.0\r\n\r\n") && !is_whole(b"GET / HTTP/1.0\r\n"));
    }
}
