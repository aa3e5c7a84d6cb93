use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::super::files::Stat;
use super::*;
use crate::common::bytes::Bytes;

struct Fixture {
    directory: tempfile::TempDir,
    disk: Disk,
}

/// Runs a test with notifications, without, with too few watches, and on a file system that is not trusted: what is seen must be the same.
fn everywhere(test: fn(&mut Fixture)) {
    let few = |most| Disk { watches_max: most, ..Disk::default() };
    let wary = || Disk { is_wary: true, ..Disk::default() };
    for disk in [Disk::default(), Disk::without_notifications(), few(0), few(4), few(7), wary()] {
        test(&mut Fixture { directory: tempfile::tempdir().unwrap(), disk });
    }
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn look(&mut self, name: &str) -> Answer {
        let path = Bytes::from(self.path(name).as_path());
        self.disk.look_at(&path).0
    }

    /// What a new scan reads at a name.
    fn read(&mut self, name: &str) -> Option<String> {
        self.disk.begin();
        match self.look(name) {
            Answer::File(stat) => {
                let bytes = self.disk.bytes(stat.content)?;
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
            _ => None,
        }
    }

    fn check(&mut self, name: &str, expected: &str) {
        assert_eq!(self.read(name).as_deref(), Some(expected), "{name}");
    }

    /// Waits until what was written so far is old enough to be remembered.
    fn settle(&self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        let settled =
            |path: PathBuf| fs::metadata(path).is_ok_and(|metadata| Stamp::of(&metadata).is_settled());
        while !settled(self.path("")) || !settled(self.path("h")) {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_header_that_changes_with_size_and_time_kept_is_read_again() {
    everywhere(|fixture| {
        fixture.write("h", "one");
        fixture.settle();
        fixture.check("h", "one");
        let before = fs::metadata(fixture.path("h")).unwrap();
        fixture.write("h", "two");
        let file = fs::File::options().write(true).open(fixture.path("h")).unwrap();
        file.set_modified(before.modified().unwrap()).unwrap();
        assert_eq!(fs::metadata(fixture.path("h")).unwrap().mtime_nsec(), before.mtime_nsec());
        fixture.check("h", "two");
    });
}

#[test]
fn quick_rewrites_are_all_seen() {
    everywhere(|fixture| {
        for round in 0..200 {
            let text = format!("{round:04}");
            fixture.write("h", &text);
            fixture.check("h", &text);
        }
    });
}

#[test]
fn a_name_that_appears_or_goes_is_noticed() {
    everywhere(|fixture| {
        fixture.write("h", "");
        fixture.settle();
        assert_eq!(fixture.read("n"), None);
        fixture.write("n", "new");
        fixture.check("n", "new");
        fs::remove_file(fixture.path("n")).unwrap();
        assert_eq!(fixture.read("n"), None);
        assert_eq!(fixture.read("d/n"), None);
        fs::create_dir(fixture.path("d")).unwrap();
        fixture.write("d/n", "deep");
        fixture.check("d/n", "deep");
        fs::rename(fixture.path("d"), fixture.path("e")).unwrap();
        assert_eq!(fixture.read("d/n"), None);
        fixture.check("e/n", "deep");
        fs::remove_dir_all(fixture.path("e")).unwrap();
        assert_eq!(fixture.read("e/n"), None);
    });
}

#[test]
fn a_directory_that_takes_the_place_of_another_is_seen() {
    everywhere(|fixture| {
        for (name, text) in [("one", "first"), ("two", "second")] {
            fs::create_dir_all(fixture.path(name).join("sub/deep")).unwrap();
            fixture.write(&format!("{name}/sub/deep/x"), text);
        }
        fixture.write("h", "");
        fixture.settle();
        fs::rename(fixture.path("one"), fixture.path("now")).unwrap();
        fixture.check("now/sub/deep/x", "first");
        fs::rename(fixture.path("now"), fixture.path("old")).unwrap();
        fs::rename(fixture.path("two"), fixture.path("now")).unwrap();
        fixture.check("now/sub/deep/x", "second");
        fixture.check("old/sub/deep/x", "first");
        fixture.write("old/sub/deep/x", "third");
        fixture.check("now/sub/deep/x", "second");
        fixture.check("old/sub/deep/x", "third");
    });
}

#[test]
fn a_link_that_is_turned_leads_to_the_other_file() {
    everywhere(|fixture| {
        for (name, text) in [("a", "in a"), ("b", "in b")] {
            fs::create_dir(fixture.path(name)).unwrap();
            fixture.write(&format!("{name}/x"), text);
        }
        fixture.write("h", "");
        symlink("a", fixture.path("l")).unwrap();
        symlink("l/x", fixture.path("k")).unwrap();
        symlink("l", fixture.path("ll")).unwrap();
        fixture.settle();
        for name in ["l/x", "k", "ll/x"] {
            fixture.check(name, "in a");
        }
        fixture.check("l/../b/x", "in b");
        fs::remove_file(fixture.path("l")).unwrap();
        symlink("b", fixture.path("l")).unwrap();
        for name in ["l/x", "k", "ll/x"] {
            fixture.check(name, "in b");
        }
    });
}

#[test]
fn a_write_through_another_name_of_the_same_file_is_seen() {
    everywhere(|fixture| {
        fs::create_dir_all(fixture.path("elsewhere")).unwrap();
        fixture.write("h", "one");
        fs::hard_link(fixture.path("h"), fixture.path("elsewhere/before")).unwrap();
        fixture.settle();
        fixture.check("h", "one");
        fixture.write("elsewhere/before", "two");
        fixture.check("h", "two");
        fs::remove_file(fixture.path("elsewhere/before")).unwrap();
        fixture.settle();
        fixture.check("h", "two");
        // Made while it is remembered, in a directory that nobody asked for.
        fs::hard_link(fixture.path("h"), fixture.path("elsewhere/behind")).unwrap();
        fixture.write("elsewhere/behind", "six");
        fixture.check("h", "six");
    });
}

#[test]
fn a_file_put_in_the_place_of_another_is_seen() {
    everywhere(|fixture| {
        fixture.write("h", "one");
        fixture.settle();
        fixture.check("h", "one");
        fixture.write("new", "two");
        fs::rename(fixture.path("new"), fixture.path("h")).unwrap();
        fixture.check("h", "two");
        fixture.write("h", "six");
        fixture.check("h", "six");
    });
}

#[test]
fn more_changes_than_the_kernel_queues_are_seen() {
    everywhere(|fixture| {
        if fixture.disk.watches.is_none() {
            return;
        }
        let queue = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let queue: usize = queue.trim().parse().unwrap();
        fixture.write("h", "one");
        fs::create_dir(fixture.path("d")).unwrap();
        fixture.write("d/x", "old");
        fixture.settle();
        fixture.check("h", "one");
        fixture.check("d/x", "old");
        assert_eq!(fixture.read("gone"), None);
        for round in 0..queue / 2 + 100 {
            let name = fixture.path(if round % 2 == 0 { "p" } else { "q" });
            fs::write(&name, "").unwrap();
            fs::remove_file(&name).unwrap();
        }
        fixture.write("h", "two");
        fixture.write("d/x", "new");
        fixture.write("gone", "here");
        fixture.check("h", "two");
        fixture.check("d/x", "new");
        fixture.check("gone", "here");
        fixture.write("h", "six");
        fixture.check("h", "six");
    });
}

#[test]
fn what_nobody_asked_for_changes_nothing() {
    let mut fixture = Fixture { directory: tempfile::tempdir().unwrap(), disk: Disk::default() };
    fixture.write("h", "one");
    let directory = Bytes([&Bytes::from(fixture.directory.path())[..], b"/"].concat());
    let trail = fixture.disk.trail(&[&directory]);
    assert!(matches!(fixture.disk.look(trail, 0, b"h"), Answer::File(Stat { fleeting: false, .. })));
    let state = fixture.disk.state(trail);
    fixture.write("h.o", "an object");
    fs::rename(fixture.path("h.o"), fixture.path("h.obj")).unwrap();
    fixture.disk.begin();
    assert_eq!(fixture.disk.state(trail), state);
    fixture.write("h", "two");
    fixture.disk.begin();
    assert!(fixture.disk.state(trail) > state);
}

#[test]
fn what_is_no_plain_file_is_told_apart() {
    everywhere(|fixture| {
        fs::create_dir(fixture.path("d")).unwrap();
        symlink("loop", fixture.path("loop")).unwrap();
        symlink("nowhere", fixture.path("dangling")).unwrap();
        fixture.disk.begin();
        assert_eq!(fixture.look("d"), Answer::Directory);
        assert_eq!(fixture.look("loop"), Answer::Unreadable);
        assert_eq!(fixture.look("loop/x"), Answer::Unreadable);
        assert_eq!(fixture.look("dangling"), Answer::Absent);
        assert_eq!(fixture.look("d/none"), Answer::Absent);
        assert_eq!(fixture.look(&"x".repeat(300)), Answer::Unreadable);
        let deep = "d/../".repeat(700);
        assert_eq!(fixture.look(&format!("{deep}d")), Answer::Directory);
    });
}

#[test]
fn the_digest_is_of_the_bytes_that_were_read() {
    everywhere(|fixture| {
        fixture.write("h", "text");
        fixture.disk.begin();
        let Answer::File(stat) = fixture.look("h") else { panic!("it is a file") };
        fixture.disk.release();
        assert_eq!(fixture.disk.digest(stat.content), Digest::of(b"text"));
        assert!(fixture.disk.bytes(stat.content).is_some());
        fixture.write("h", "other");
        // What is there now is not what was scanned.
        assert_eq!(fixture.disk.bytes(stat.content), None);
    });
}

#[test]
fn real_paths_follow_links_that_are_turned() {
    everywhere(|fixture| {
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
            let expected = Bytes::from(top.join(expected).components().as_path());
            assert_eq!(real.as_deref(), Some(&expected[..]), "{name}");
        };
        check("l/h", "a/h");
        check("l/h", "a/h");
        check("l/k", "b/h");
        check("l/../h", "h");
        check("l/..", "");
        fs::remove_file(top.join("l")).unwrap();
        symlink("b", top.join("l")).unwrap();
        check("l/h", "b/h");
    });
}

/// A small generator of numbers, so that a seed says everything.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn path(&mut self) -> String {
        const NAMES: [&str; 5] = ["a", "b", "c", "x", "y"];
        let length = 1 + self.below(3);
        let parts: Vec<&str> = (0..length).map(|_| NAMES[self.below(NAMES.len())]).collect();
        parts.join("/")
    }
}

impl Fixture {
    /// Changes something; what is not possible just fails.
    fn disturb(&self, random: &mut Random, step: usize) {
        let (one, other) = (self.path(&random.path()), self.path(&random.path()));
        let text = format!("{}", step % 7);
        let _ = match random.below(9) {
            0 | 1 => fs::create_dir_all(&one),
            2 | 3 => fs::write(&one, text),
            4 => fs::rename(&one, &other),
            5 => fs::remove_file(&one),
            6 => fs::remove_dir_all(&one),
            7 => symlink(if step.is_multiple_of(2) { other } else { PathBuf::from(random.path()) }, &one),
            _ => fs::hard_link(&one, &other),
        };
    }

    fn truth(&self, name: &str) -> Option<String> {
        let path = self.path(name);
        fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        fs::read_to_string(path).ok()
    }
}

#[test]
fn whatever_happens_on_disk_is_seen() {
    everywhere(|fixture| {
        let mut random = Random(7);
        // What was found along a trail, and when.
        let mut found: Vec<(Trail, String, u64, Answer)> = Vec::new();
        for step in 0..1000 {
            for _ in 0..1 + random.below(3) {
                fixture.disturb(&mut random, step);
            }
            fixture.disk.begin();
            for (trail, name, at, answer) in &found {
                let fleeting = matches!(answer, Answer::File(Stat { fleeting: true, .. }));
                if !fleeting && fixture.disk.state(*trail) <= *at {
                    let (_, last) = name.rsplit_once('/').unwrap();
                    assert_eq!(fixture.disk.look(*trail, 0, last.as_bytes()), *answer, "step {step}: {name}");
                    let is_there = fixture.truth(name).is_some();
                    assert_eq!(matches!(answer, Answer::File(_)), is_there, "step {step}: {name}");
                }
            }
            found.clear();
            for _ in 0..12 {
                let name = format!("{}/{}", random.path(), ["x", "y", "a"][random.below(3)]);
                let (directory, last) = name.rsplit_once('/').unwrap();
                let directory = Bytes([&Bytes::from(fixture.path(directory).as_path())[..], b"/"].concat());
                let trail = fixture.disk.trail(&[&directory]);
                fixture.disk.state(trail);
                let at = fixture.disk.now();
                let answer = fixture.disk.look(trail, 0, last.as_bytes());
                let read = match answer {
                    Answer::File(stat) => fixture.disk.bytes(stat.content),
                    _ => None,
                };
                let read = read.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                assert_eq!(read, fixture.truth(&name), "step {step}: {name}: {answer:?}");
                found.push((trail, name, at, answer));
            }
        }
    });
}

#[test]
fn names_that_are_exchanged_are_both_there() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    everywhere(|fixture| {
        for folder in ["a", "b", "b/a"] {
            fs::create_dir(fixture.path(folder)).unwrap();
        }
        fixture.write("a/h", "a");
        fixture.write("b/h", "b");
        fixture.write("h", "h");
        fixture.settle();
        fixture.check("a/h", "a");
        fixture.check("b/h", "b");
        let exchange = |fixture: &Fixture, one: &str, other: &str| {
            let (one, other) = (fixture.path(one), fixture.path(other));
            renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
        };
        exchange(fixture, "a/h", "b/h");
        fixture.check("a/h", "b");
        fixture.check("b/h", "a");
        exchange(fixture, "a", "b");
        fixture.check("a/h", "a");
        fixture.check("b/h", "b");
        exchange(fixture, "h", "b/h");
        exchange(fixture, "h", "b/h");
        fixture.check("h", "h");
        fixture.check("b/h", "b");
    });
}

/// A link that led nowhere was taken for a name that is not there, and what came to be at its end was never noticed.
#[test]
fn what_comes_to_be_at_the_end_of_a_link_is_noticed() {
    everywhere(|fixture| {
        fixture.write("h", "");
        symlink("later", fixture.path("t")).unwrap();
        symlink("d/e", fixture.path("g")).unwrap();
        let folders = [".", "g"].map(|name| format!("{}/", fixture.path(name).display()).into_bytes());
        let trails: Vec<Trail> =
            folders.iter().map(|folder| fixture.disk.trail(&[folder.as_slice()])).collect();
        fixture.settle();
        let states = |fixture: &mut Fixture| {
            fixture.disk.begin();
            [0, 1].map(|which: usize| fixture.disk.state(trails[which]))
        };
        // As a scan does: all folders first.
        let before = states(fixture);
        assert!([fixture.look("t"), fixture.look("g/x")] == [Answer::Absent; 2]);
        fixture.write("later", "new");
        let after = states(fixture);
        assert!(after[0] > before[0], "{before:?} {after:?}");
        fixture.check("t", "new");
        fs::create_dir_all(fixture.path("d/e")).unwrap();
        fixture.write("d/e/x", "deep");
        assert!(states(fixture)[1] > after[1]);
        fixture.check("g/x", "deep");
        // And away again, and once more.
        fs::remove_file(fixture.path("later")).unwrap();
        assert_eq!(fixture.read("t"), None);
        let before = states(fixture);
        fixture.write("later", "again");
        assert!(states(fixture)[0] > before[0]);
        fixture.check("t", "again");
    });
}
