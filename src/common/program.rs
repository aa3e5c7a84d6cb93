//! Finding a program on `PATH`, as `execvp` does, without touching the file system itself.

use crate::common::bytes::Bytes;

/// The candidates for `name`, in the order in which `execvp` tries them.
///
/// A name with a slash has one candidate, itself, relative to the working directory. An empty
/// element of `path` means the working directory (POSIX, XBD 8.3).
pub fn candidates<'a>(name: &'a [u8], path: &'a [u8]) -> Box<dyn Iterator<Item = Bytes> + 'a> {
    if name.contains(&b'/') {
        return Box::new(std::iter::once(Bytes::from(name)));
    }
    Box::new(path.split(|&byte| byte == b':').map(move |directory| {
        if directory.is_empty() {
            return Bytes([b"./", name].concat());
        }
        Bytes([directory, b"/", name].concat())
    }))
}

/// The last component of a path.
pub fn basename(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, path: &str, expected: &[&str]) {
        let found: Vec<String> =
            candidates(name.as_bytes(), path.as_bytes()).map(|candidate| candidate.to_text()).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn every_directory_is_a_candidate_in_order() {
        check("gcc", "/a:/b/c", &["/a/gcc", "/b/c/gcc"]);
    }

    #[test]
    fn an_empty_element_is_the_working_directory() {
        check("gcc", "/a:", &["/a/gcc", "./gcc"]);
    }

    #[test]
    fn a_slash_ends_the_search() {
        check("../gcc", "/a:/b", &["../gcc"]);
    }
}
