//! Dependency files, which compilers of volunteers write.

use distcc::common::bytes::Bytes;
use distcc::common::dependencies::{absolute, prerequisites, rule};

/// What is read of one.
pub fn run(data: &[u8]) {
    let Some(names) = prerequisites(data) else { return };
    for name in &names {
        let _ = absolute(b"/a/b", name);
    }
    let plain =
        |name: &Bytes| name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.'));
    if names.iter().all(|name| !name.is_empty() && plain(name)) {
        assert_eq!(prerequisites(&rule(b"x", &names)), Some(names));
    }
}
