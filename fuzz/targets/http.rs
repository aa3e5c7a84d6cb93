//! Heads of requests for figures and pages, and what a request without the token gets.

use std::sync::OnceLock;

use distcc::broker::dashboard::request::{Wish, read};
use distcc::common::http::{Request, answer_metrics, is_whole};
use distcc::common::page::Token;

/// What is read of one.
pub fn run(data: &[u8]) {
    let _ = is_whole(data);
    if let Some(request) = Request::read(data) {
        assert!(request.path.starts_with('/') && !request.path.contains(['?', ' ', '\n']));
        let _ = request.is_for_an_address();
    }
    static TOKEN: OnceLock<Token> = OnceLock::new();
    let token = TOKEN.get_or_init(|| Token::generate().expect("random bytes"));
    if let Ok(wish) = read(data, token) {
        assert_eq!(wish, Wish::Page);
    }
    let answer = answer_metrics(data, || "figures".to_owned());
    assert!(answer.starts_with(b"HTTP/1.1 "));
}
