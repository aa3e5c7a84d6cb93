//! Compiles that read other names than the scanner found. Where these are other names for the same
//! files, nothing is amiss; else there is a report with both lists, for whoever mends the scanner.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::Write;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::broker::scan::InputSet;
use crate::common::bytes::Bytes;
use crate::common::invocation::Invocation;

/// Reports that are kept; the oldest go first.
const REPORTS_MAX: usize = 20;

/// Whether what was read are the very files that were found, by whatever names.
///
/// clang calls a folder by the name under which it met it first, so a header beside another one can have
/// a name that nobody spelt out. The source may be missing: gcc leaves it out. So may be the text that
/// lies there as a precompiled header, too. Of `compiled` modules clang lists some, gcc none.
pub fn is_same_reading(scanned: &InputSet, compiled: &[Bytes], read: &[Bytes]) -> bool {
    let found = scanned.files.iter().chain(&scanned.probed).chain(&scanned.precompiled);
    let names: HashMap<&[u8], &[u8]> = found.map(|file| (&*file.path, &*file.real)).collect();
    let modules: Vec<PathBuf> =
        compiled.iter().filter_map(|path| fs::canonicalize(path.as_path()).ok()).collect();
    let mut may: HashSet<&[u8]> = names.values().copied().collect();
    may.extend(modules.iter().map(|path| path.as_os_str().as_bytes()));
    let mut met: HashSet<&[u8]> = HashSet::with_capacity(may.len());
    for name in read {
        let real = match names.get(&**name) {
            Some(real) => Some(*real),
            None => fs::canonicalize(name.as_path())
                .ok()
                .and_then(|real| may.get(real.as_os_str().as_bytes()).copied()),
        };
        let Some(real) = real else { return false };
        met.insert(real);
    }
    let files = scanned.files.iter().enumerate().skip(1);
    files.filter(|(at, _)| !scanned.covered.contains(at)).all(|(_, file)| met.contains(&*file.real))
}

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
    use std::sync::Arc;

    use super::*;
    use crate::broker::scan::InputFile;
    use crate::common::toolchain::Digest;

    fn file(path: &str) -> Arc<InputFile> {
        Arc::new(InputFile {
            path: path.as_bytes().into(),
            real: path.as_bytes().into(),
            digest: Digest([0; 32]),
            size: 0,
            modified: (0, 0),
            inode: (0, 0),
        })
    }

    #[test]
    fn other_names_for_the_same_files_are_the_same_reading_and_other_files_are_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().canonicalize().expect("its own name");
        fs::create_dir(root.join("d")).expect("a folder");
        for name in ["a.c", "a.h", "b.h"] {
            fs::write(root.join(name), name).expect("written");
        }
        std::os::unix::fs::symlink("../a.h", root.join("d/link.h")).expect("a link");
        let path = |name: &str| format!("{}/{name}", root.display());
        let files = ["a.c", "a.h"].map(|name| file(&path(name))).to_vec();
        let scanned = InputSet { files, probed: vec![file(&path("b.h"))], ..InputSet::default() };
        let check = |names: &[&str], expected: bool| {
            let read: Vec<Bytes> = names.iter().map(|name| Bytes::from(path(name).as_str())).collect();
            assert_eq!(is_same_reading(&scanned, &[], &read), expected, "{names:?}");
        };
        check(&["a.c", "a.h", "d/../a.h"], true);
        check(&["a.c", "d/link.h"], true);
        check(&["d/../a.h"], true);
        check(&["a.c", "a.h", "b.h"], true);
        // One too few, one too many, one that is not there.
        check(&["a.c"], false);
        fs::write(root.join("c.h"), "c").expect("written");
        check(&["a.c", "a.h", "c.h"], false);
        check(&["a.c", "a.h", "gone.h"], false);
    }

    #[test]
    fn what_a_precompiled_header_stands_for_may_be_read_or_not() {
        let files = ["/a.c", "/p.h", "/in_p.h", "/b.h"].map(file).to_vec();
        let precompiled = vec![file("/p.h.gch")];
        let scanned = InputSet { files, precompiled, covered: 1..3, ..InputSet::default() };
        let check = |names: &[&str], expected: bool| {
            let read: Vec<Bytes> = names.iter().map(|name| Bytes::from(*name)).collect();
            assert_eq!(is_same_reading(&scanned, &[], &read), expected, "{names:?}");
        };
        check(&["/b.h"], true);
        check(&["/a.c", "/p.h.gch", "/b.h"], true);
        check(&["/a.c", "/p.h", "/in_p.h", "/b.h"], true);
        check(&["/a.c", "/p.h", "/in_p.h"], false);
    }

    #[test]
    fn a_report_has_both_lists_and_reports_are_bounded() {
        let directory = tempfile::tempdir().expect("a directory");
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
