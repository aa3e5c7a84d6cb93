//! Heads of requests for figures and pages.

use distcc::common::http::{Request, answer_metrics, is_whole};

/// What is read of one.
pub fn run(data: &[u8]) {
    let _ = is_whole(data);
    if let Some(request) = Request::read(data) {
        assert!(request.path.starts_with('/') && !request.path.contains(['?', ' ', '\n']));
        let _ = request.is_for_an_address();
    }
    let answer = answer_metrics(data, || "figures".to_owned());
    assert!(answer.starts_with(b"HTTP/1.1 "));
}
