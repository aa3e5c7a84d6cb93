//! What a volunteer's compiler says, on its way to a terminal; and lists of hosts.

use distcc::broker::speech::{is_a_compilers, tamed};

/// What is made of it.
pub fn run(data: &[u8]) {
    assert!(is_a_compilers(&tamed(data.to_vec())));
    let _ = distcc::common::hosts::parse(data);
}
