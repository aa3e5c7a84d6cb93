//! Paths walked as the kernel walks them.

use std::os::unix::fs::symlink;

use super::*;

/// A tree of folders (`a/`), files (`a`) and links (`a -> b`), and what a layout has of it after
/// `paths` were added: paths below the tree, `NAME/`, `NAME` or `NAME -> TARGET`.
fn check(tree: &[&str], paths: &[&str], found: &[bool], expected: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let root = fs::canonicalize(folder.path()).expect("a folder");
    for line in tree {
        match line.split_once(" -> ") {
            Some((name, target)) => {
                let target = target.replace("ROOT", root.to_str().expect("text"));
                symlink(target, root.join(name)).expect("a link");
            }
            None if line.ends_with('/') => fs::create_dir_all(root.join(line)).expect("a folder"),
            None => fs::write(root.join(line), line).expect("a file"),
        }
    }
    let mut layout = Layout::default();
    let there = paths.iter().map(|path| layout.add(&root.join(path)).expect("added").is_some());
    assert_eq!(there.collect::<Vec<_>>(), found, "{paths:?}");
    let (entries, _) = layout.finish(&Digests::default()).expect("read");
    let below = Bytes::from(root.as_path()).to_text() + "/";
    let lines: Vec<String> = entries
        .iter()
        .filter_map(|entry| {
            let path = entry.path.to_text();
            let name = path.strip_prefix(&below)?;
            Some(match &entry.kind {
                EntryKind::File(_) | EntryKind::Dated { .. } => name.to_owned(),
                EntryKind::Folder => format!("{name}/"),
                EntryKind::Link { target } => {
                    format!("{name} -> {}", target.to_text().replace(&below, "ROOT/"))
                }
            })
        })
        .collect();
    assert_eq!(lines, expected, "{paths:?}");
}

#[test]
fn every_link_on_the_way_is_an_entry() {
    let tree = [
        "usr/",
        "usr/bin/",
        "usr/bin/gcc-12",
        "usr/bin/gcc -> gcc-12",
        "bin -> usr/bin",
        "etc/",
        "etc/cc -> ROOT/bin/gcc",
    ];
    check(
        &tree,
        &["bin/gcc"],
        &[true],
        &["bin -> usr/bin", "usr/", "usr/bin/", "usr/bin/gcc -> gcc-12", "usr/bin/gcc-12"],
    );
    check(
        &tree,
        &["etc/cc"],
        &[true],
        &[
            "bin -> usr/bin",
            "etc/",
            "etc/cc -> ROOT/bin/gcc",
            "usr/",
            "usr/bin/",
            "usr/bin/gcc -> gcc-12",
            "usr/bin/gcc-12",
        ],
    );
}

#[test]
fn two_dots_behind_a_link_lead_where_the_kernel_goes() {
    let tree = ["a/b/", "a/f", "c/", "c/f", "c/link -> ../a/b"];
    check(&tree, &["c/link/../f"], &[true], &["a/", "a/b/", "a/f", "c/", "c/link -> ../a/b"]);
    check(&tree, &["c/../c/./f"], &[true], &["c/", "c/f"]);
}

#[test]
fn what_is_not_there_leaves_nothing() {
    let tree = ["a/", "f", "loop -> loop", "dead -> nowhere"];
    check(&tree, &["a/x", "f/x", "f/", "f/..", "loop", "dead", "x/../a"], &[false; 7], &[]);
}

#[test]
fn a_folder_may_be_named_in_any_way() {
    let tree = ["a/b/", "link -> a"];
    check(&tree, &["a/b/"], &[true], &["a/", "a/b/"]);
    check(&tree, &["link/"], &[true], &["a/", "link -> a"]);
    check(&tree, &["link/b/.."], &[true], &["a/", "a/b/", "link -> a"]);
    check(&tree, &["../../../../../../../../.."], &[true], &[]);
}

#[test]
fn what_can_not_be_sent_is_told() {
    let mut layout = Layout::default();
    let special = layout.add(Path::new("/dev/null"));
    assert_eq!(special, Err(NotClosed::Special { path: Bytes::from("/dev/null") }));
    assert!(matches!(layout.add(Path::new("relative")), Err(NotClosed::Missing { .. })));
    assert!(matches!(layout.file(Path::new("/nowhere/at/all")), Err(NotClosed::Missing { .. })));
    assert!(matches!(layout.file(Path::new("/tmp")), Err(NotClosed::Missing { .. })));
}

#[test]
fn what_appears_later_is_seen() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut layout = Layout::default();
    assert_eq!(layout.add(&folder.path().join("specs")), Ok(None));
    let (_, watched) = layout.finish(&Digests::default()).expect("nothing to read");
    let stands = || watched.iter().all(|(path, stamp)| Stamp::at(path) == *stamp);
    assert!(stands());
    fs::write(folder.path().join("specs"), "").expect("a file");
    assert!(!stands());
}
