use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;

use super::*;

struct Fixture {
    directory: tempfile::TempDir,
    disk: Disk,
}

impl Fixture {
    fn new() -> Self {
        Fixture { directory: tempfile::tempdir().unwrap(), disk: Disk::default() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// What a new scan reads at a name.
    fn read(&mut self, name: &str) -> Option<String> {
        self.disk.begin();
        let path = Bytes::from(self.path(name).as_path());
        match self.disk.look(&path) {
            Answer::File(stat) => {
                let bytes = self.disk.bytes(stat.content)?;
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
            _ => None,
        }
    }

    /// Waits until what was written so far is old enough to be remembered.
    fn settle(&self) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        let settled =
            |path: PathBuf| fs::metadata(path).is_ok_and(|metadata| Stamp::of(&metadata).is_settled());
        while !settled(self.path("")) || !settled(self.path("h")) {
            assert!(std::time::Instant::now() < deadline);
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_header_that_changes_with_size_and_time_kept_is_read_again() {
    let mut fixture = Fixture::new();
    fixture.write("h", "one");
    fixture.settle();
    assert_eq!(fixture.read("h").as_deref(), Some("one"));
    let before = fs::metadata(fixture.path("h")).unwrap();
    fixture.write("h", "two");
    let file = fs::File::options().write(true).open(fixture.path("h")).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    assert_eq!(fs::metadata(fixture.path("h")).unwrap().mtime_nsec(), before.mtime_nsec());
    assert_eq!(fixture.read("h").as_deref(), Some("two"));
}

#[test]
fn quick_rewrites_are_all_seen() {
    let mut fixture = Fixture::new();
    for round in 0..200 {
        let text = format!("{round:04}");
        fixture.write("h", &text);
        assert_eq!(fixture.read("h"), Some(text));
    }
}

#[test]
fn a_name_that_appears_or_goes_is_noticed() {
    let mut fixture = Fixture::new();
    fixture.write("h", "");
    fixture.settle();
    assert_eq!(fixture.read("n"), None);
    fixture.write("n", "new");
    assert_eq!(fixture.read("n").as_deref(), Some("new"));
    fs::remove_file(fixture.path("n")).unwrap();
    assert_eq!(fixture.read("n"), None);
    assert_eq!(fixture.read("d/n"), None);
    fs::create_dir(fixture.path("d")).unwrap();
    fixture.write("d/n", "deep");
    assert_eq!(fixture.read("d/n").as_deref(), Some("deep"));
}

#[test]
fn a_link_that_is_turned_leads_to_the_other_file() {
    let mut fixture = Fixture::new();
    for (name, text) in [("a", "in a"), ("b", "in b")] {
        fs::create_dir(fixture.path(name)).unwrap();
        fixture.write(&format!("{name}/x"), text);
    }
    fixture.write("h", "");
    symlink("a", fixture.path("l")).unwrap();
    fixture.settle();
    assert_eq!(fixture.read("l/x").as_deref(), Some("in a"));
    assert_eq!(fixture.read("l/../b/x").as_deref(), Some("in b"));
    fs::remove_file(fixture.path("l")).unwrap();
    symlink("b", fixture.path("l")).unwrap();
    assert_eq!(fixture.read("l/x").as_deref(), Some("in b"));
}

#[test]
fn what_is_no_plain_file_is_told_apart() {
    let mut fixture = Fixture::new();
    fs::create_dir(fixture.path("d")).unwrap();
    symlink("loop", fixture.path("loop")).unwrap();
    symlink("nowhere", fixture.path("dangling")).unwrap();
    fixture.disk.begin();
    let mut look =
        |name: &str| fixture.disk.look(&Bytes::from(fixture.directory.path().join(name).as_path()));
    assert_eq!(look("d"), Answer::Directory);
    assert_eq!(look("loop"), Answer::Unreadable);
    assert_eq!(look("dangling"), Answer::Absent);
    assert_eq!(look("d/none"), Answer::Absent);
    assert_eq!(look(&"x".repeat(300)), Answer::Unreadable);
}

#[test]
fn the_digest_is_of_the_bytes_that_were_read() {
    let mut fixture = Fixture::new();
    fixture.write("h", "text");
    fixture.disk.begin();
    let Answer::File(stat) = fixture.disk.look(&Bytes::from(fixture.path("h").as_path())) else {
        panic!("it is a file")
    };
    fixture.disk.release();
    assert_eq!(fixture.disk.digest(stat.content), Digest::of(b"text"));
    assert!(fixture.disk.bytes(stat.content).is_some());
    fixture.write("h", "other");
    // What is there now is not what was scanned.
    assert_eq!(fixture.disk.bytes(stat.content), None);
}

#[test]
fn real_paths_follow_links_that_are_turned() {
    let mut fixture = Fixture::new();
    for name in ["a", "b"] {
        fs::create_dir(fixture.path(name)).unwrap();
        fixture.write(&format!("{name}/h"), "");
    }
    fixture.write("h", "");
    symlink("a", fixture.path("l")).unwrap();
    symlink("../b/h", fixture.path("a/k")).unwrap();
    fixture.settle();
    let top = fixture.directory.path().canonicalize().unwrap();
    let mut check = |name: &str, expected: &str| {
        fixture.disk.begin();
        let real = fixture.disk.real_path(&Bytes::from(fixture.directory.path().join(name).as_path()));
        assert_eq!(real.as_deref(), Some(&Bytes::from(top.join(expected).as_path())[..]), "{name}");
    };
    check("l/h", "a/h");
    check("l/h", "a/h");
    check("l/k", "b/h");
    fs::remove_file(top.join("l")).unwrap();
    symlink("b", top.join("l")).unwrap();
    check("l/h", "b/h");
}
