//! What is made of what the kernel tells.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::inotify::WatchFlags;

use super::*;

/// A folder with files, and what a job must open of them.
struct Stage {
    directory: tempfile::TempDir,
    paths: Vec<Vec<u8>>,
}

impl Stage {
    fn new(must: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        for folder in ["d", "e"] {
            fs::create_dir(directory.path().join(folder)).expect("a folder");
        }
        for name in ["d/a.h", "d/b.h", "e/a.h", "top.c"] {
            fs::write(directory.path().join(name), name).expect("written");
        }
        let path = |name: &&str| directory.path().join(name).as_os_str().as_bytes().to_vec();
        Stage { paths: must.iter().map(path).collect(), directory }
    }

    fn opening(&self, instances: &Instances) -> (Opening<'_>, Vec<i32>) {
        let (folders, files) = Files::of(self.paths.iter().map(Vec::as_slice)).expect("few folders");
        let instance = instances.take().expect("an instance");
        let watch = |folder: &CString| {
            inotify::add_watch(&instance, folder, WatchFlags::OPEN | WatchFlags::ONLYDIR).expect("a watch")
        };
        let watches = folders.iter().map(watch).collect();
        (Opening { instance, folders, files }, watches)
    }

    fn open(&self, name: &str) {
        let path = self.directory.path().join(name);
        match path.is_dir() {
            true => drop(fs::read_dir(path).expect("a folder")),
            false => drop(File::open(path).expect("a file")),
        }
    }

    /// What is found where these are opened, by name.
    #[track_caller]
    fn check(&self, opened: &[&str], expected: &str) {
        let instances = Instances::default();
        // Whatever was told to one job is not told to the next.
        for _ in 0..2 {
            let (opening, watches) = self.opening(&instances);
            opened.iter().for_each(|name| self.open(name));
            let audit = opening.finish(&watches, &instances);
            assert_eq!(self.words(&audit), expected, "{opened:?}");
        }
        assert_eq!(instances.0.lock().expect("whole").len(), 1);
    }

    fn words(&self, audit: &Audit) -> String {
        let name = |path: &Bytes| {
            let path = path.as_path().strip_prefix(self.directory.path()).unwrap_or(Path::new("?"));
            path.display().to_string()
        };
        match audit {
            Audit::Unchecked => "unchecked".to_owned(),
            Audit::Agrees => "agrees".to_owned(),
            Audit::Differs { read } => read.iter().map(name).collect::<Vec<_>>().join(" "),
        }
    }
}

#[test]
fn what_was_opened_agrees_when_nothing_is_missing() {
    let stage = Stage::new(&["d/a.h", "e/a.h", "top.c"]);
    stage.check(&["top.c", "d/a.h", "e/a.h"], "agrees");
    stage.check(&["e/a.h", "top.c", "d", "d/b.h", "d/a.h", "e/a.h"], "agrees");
    stage.check(&["top.c", "d/a.h"], "d/a.h top.c");
    stage.check(&["top.c", "d/a.h", "d/b.h"], "d/a.h top.c d/b.h");
    // A folder is not what is in it.
    stage.check(&["top.c", "d", "e", "d/a.h"], "d/a.h top.c");
    stage.check(&[], "");
}

#[test]
fn nobody_knows_where_a_folder_could_not_be_watched() {
    let stage = Stage::new(&["d/a.h", "e/a.h"]);
    let instances = Instances::default();
    let (opening, watches) = stage.opening(&instances);
    ["d/a.h", "e/a.h"].iter().for_each(|name| stage.open(name));
    assert_eq!(opening.finish(&watches[..1], &instances), Audit::Unchecked);
}

#[test]
fn nobody_knows_where_the_kernel_lost_count_and_the_next_job_is_told_all() {
    let stage = Stage::new(&["d/a.h", "d/b.h"]);
    let instances = Instances::default();
    let (opening, watches) = stage.opening(&instances);
    let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("a bound");
    let most: usize = most.trim().parse().expect("a number");
    // One that is the same as the last is not told twice.
    for _ in 0..most / 2 + 1 {
        ["d/a.h", "d/b.h"].iter().for_each(|name| stage.open(name));
    }
    assert_eq!(opening.finish(&watches, &instances), Audit::Unchecked);
    assert_eq!(instances.0.lock().expect("whole").len(), 1);
    let (opening, watches) = stage.opening(&instances);
    ["d/a.h", "d/b.h"].iter().for_each(|name| stage.open(name));
    assert_eq!(opening.finish(&watches, &instances), Audit::Agrees);
}

#[test]
fn folders_are_bounded() {
    let paths: Vec<Vec<u8>> = (0..=FOLDERS_MAX).map(|at| format!("/d{at}/a.h").into_bytes()).collect();
    assert!(Files::of(paths.iter().map(Vec::as_slice)).is_none());
    let (folders, _) = Files::of(paths[1..].iter().map(Vec::as_slice)).expect("just so many");
    assert_eq!(folders.len(), FOLDERS_MAX);
    let (folders, _) = Files::of([&b"/a.c"[..]].into_iter()).expect("one");
    assert_eq!(folders, [c"/".to_owned()]);
}
