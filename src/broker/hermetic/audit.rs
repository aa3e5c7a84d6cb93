//! Reports of compiles that read other files than the scanner found: both lists, for whoever mends
//! the scanner.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::broker::scan::InputSet;
use crate::common::bytes::Bytes;
use crate::common::invocation::Invocation;

/// Reports that are kept; the oldest go first.
const REPORTS_MAX: usize = 20;

/// Writes a report into `directory`, which is made if need be; returns its path.
///
/// # Errors
///
/// Returns what the file system returned.
pub fn keep(
    directory: &Path,
    invocation: &Invocation,
    scanned: &InputSet,
    read: &[Bytes],
) -> io::Result<PathBuf> {
    fs::create_dir_all(directory)?;
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let path = directory.join(format!("{}.txt", time.as_nanos()));
    fs::write(&path, text(invocation, scanned, read))?;
    let mut reports: Vec<PathBuf> =
        fs::read_dir(directory)?.filter_map(Result::ok).map(|entry| entry.path()).collect();
    reports.sort();
    let surplus = reports.len().saturating_sub(REPORTS_MAX);
    reports[..surplus].iter().try_for_each(fs::remove_file)?;
    Ok(path)
}

fn text(invocation: &Invocation, scanned: &InputSet, read: &[Bytes]) -> String {
    let words: Vec<String> = invocation.argv.iter().map(Bytes::to_text).collect();
    let mut text = format!("command: {}\ndirectory: {}\n", words.join(" "), invocation.cwd);
    let expected: BTreeSet<&[u8]> = scanned.files.iter().map(|file| &*file.path).collect();
    let read: BTreeSet<&[u8]> = read.iter().map(|path| &**path).collect();
    let mut list = |title: &str, paths: Vec<&&[u8]>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n{title} ({}):", paths.len());
        for path in paths {
            let _ = writeln!(text, "{}", String::from_utf8_lossy(path));
        }
    };
    list("expected, and not read", expected.difference(&read).collect());
    list("read, and not expected", read.difference(&expected).collect());
    list("all that was read", read.iter().collect());
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::scan::InputFile;
    use crate::common::toolchain::Digest;

    #[test]
    fn a_report_has_both_lists_and_reports_are_bounded() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |path: &str| InputFile {
            path: path.as_bytes().into(),
            real: path.as_bytes().into(),
            digest: Digest([0; 32]),
            size: 0,
            modified: (0, 0),
            inode: (0, 0),
        };
        let scanned = InputSet { files: vec![file("/a.c"), file("/old.h")], ..InputSet::default() };
        let read = ["/a.c", "/new.h"].map(Bytes::from);
        let argv = vec![Bytes::from("gcc")];
        let invocation = Invocation { argv, ..Invocation::default() };
        let mut last = PathBuf::new();
        for _ in 0..REPORTS_MAX + 3 {
            last = keep(directory.path(), &invocation, &scanned, &read).expect("written");
        }
        let text = fs::read_to_string(last).expect("there");
        assert!(text.contains("expected, and not read (1):\n/old.h\n"), "{text}");
        assert!(text.contains("read, and not expected (1):\n/new.h\n"), "{text}");
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), REPORTS_MAX);
    }
}
