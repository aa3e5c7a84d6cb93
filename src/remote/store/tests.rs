//! A store on a real file system.

use std::io::{Read, Write};

use super::*;

fn put(store: &Store, bytes: &[u8]) -> Key {
    put_as(store, bytes, Key::plain(Digest::of(bytes)))
}

fn put_as(store: &Store, bytes: &[u8], key: Key) -> Key {
    let mut file = store.incoming().unwrap();
    file.write_all(bytes).unwrap();
    store.commit(file, &key).unwrap();
    key
}

fn content(store: &Store, key: &Key) -> Option<Vec<u8>> {
    if !store.has(key) {
        return None;
    }
    let mut bytes = Vec::new();
    store.read(key).unwrap().read_to_end(&mut bytes).unwrap();
    Some(bytes)
}

const BLOCK: usize = 4096;

#[test]
fn a_file_is_found_again_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let key = put(&Store::open(root.path(), 10_000).unwrap(), b"text");
    let again = Store::open(root.path(), 10_000).unwrap();
    assert_eq!(content(&again, &key), Some(b"text".to_vec()));
    assert_eq!(content(&again, &Key::plain(Digest::of(b"other"))), None);
}

#[test]
fn what_was_used_longest_ago_goes_first_and_links_to_it_stay() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(&root.path().join("store"), 2 * BLOCK as u64 + 1000).unwrap();
    let (first, second) = (put(&store, &[1; 10]), put(&store, &[2; 10]));
    assert!(store.has(&first));
    let linked = root.path().join("linked");
    store.link(&second, CWD, linked.as_os_str().as_encoded_bytes()).unwrap();
    let third = put(&store, &[3; 10]);
    assert_eq!([first, second, third].map(|key| store.has(&key)), [true, false, true]);
    assert_eq!(fs::read(linked).unwrap(), [2; 10]);
    assert_eq!(scan(&root.path().join("store")).unwrap().len(), 2, "it is gone from the disk too");
}

#[test]
fn the_order_of_use_and_a_smaller_limit_hold_from_the_next_start() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), 1 << 20).unwrap();
    let (old, new) = (put(&store, &[1; 10]), put(&store, &[2; 10]));
    let stamp = |key: &Key, seconds| {
        let accessed = Timespec { tv_sec: seconds, tv_nsec: 0 };
        let omit = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
        let times = Timestamps { last_access: accessed, last_modification: omit };
        rustix::fs::utimensat(CWD, store.path(key), &times, AtFlags::empty()).unwrap();
    };
    stamp(&old, 10);
    stamp(&new, 20);
    let again = Store::open(root.path(), BLOCK as u64 + 1000).unwrap();
    assert_eq!((again.has(&old), again.has(&new)), (false, true));
}

#[test]
fn a_file_larger_than_the_store_is_not_kept() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), BLOCK as u64).unwrap();
    let small = put(&store, b"1234");
    let large = put(&store, &[7; BLOCK + 1]);
    assert_eq!((store.has(&large), store.has(&small)), (false, true));
}

#[test]
fn what_a_crash_left_half_written_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), 1000).unwrap();
    let (_, path) = store.incoming().unwrap().0.keep().unwrap();
    Store::open(root.path(), 1000).unwrap();
    assert!(!path.exists());
}

#[test]
fn files_that_a_client_has_apart_are_apart_and_need_no_transfer() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), 1 << 20).unwrap();
    let plain = put(&store, b"once");
    let others = [
        Key { executable: true, ..plain },
        Key { twin: 1, ..plain },
        Key { twin: 2, ..plain },
        Key { twin: 2, age: 3, ..plain },
    ];
    let meta = |key: &Key| store.read(key).unwrap().metadata().unwrap();
    let mut inodes = std::collections::HashSet::from([meta(&plain).ino()]);
    for key in others {
        assert_eq!(content(&store, &key).as_deref(), Some(&b"once"[..]), "{key:?}");
        assert!(inodes.insert(meta(&key).ino()), "{key:?}");
        assert_eq!(meta(&key).mtime(), AGE_ZERO + i64::from(key.age));
        assert_eq!(meta(&key).mode() & 0o777, if key.executable { 0o555 } else { 0o444 });
    }
}

#[test]
fn what_an_earlier_daemon_left_is_looked_at_before_it_is_used() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), 1 << 20).unwrap();
    let whole = put(&store, b"whole");
    let harms: [&dyn Fn(&Path); 4] = [
        &|path| fs::write(path, b"rotted 1").unwrap(),
        &|path| fs::write(path, b"cut").unwrap(),
        &|path| assert!(fs::copy(store.path(&whole), path).is_ok()),
        &|path| {
            fs::remove_file(path).unwrap();
            std::os::unix::fs::symlink(store.path(&whole), path).unwrap();
        },
    ];
    for harm in harms {
        for keeps_times in [true, false] {
            let bad = put(&store, b"rotten 1");
            fs::set_permissions(store.path(&bad), fs::Permissions::from_mode(0o644)).unwrap();
            harm(&store.path(&bad));
            if keeps_times {
                seal(&File::open(store.path(&bad)).unwrap(), &bad).unwrap();
            }
            let again = Store::open(root.path(), 1 << 20).unwrap();
            assert_eq!((again.has(&whole), again.has(&bad)), (true, false));
            put(&again, b"rotten 1");
            assert_eq!(content(&again, &bad).as_deref(), Some(&b"rotten 1"[..]));
        }
    }
}

#[test]
fn a_program_is_there_once_nobody_has_it_open_for_writing() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), 10 << 20).unwrap();
    let program = fs::read("/bin/true").unwrap();
    let key = Key { executable: true, ..Key::plain(Digest::of(&program)) };
    let mut file = store.incoming().unwrap();
    file.write_all(&program).unwrap();
    // As a process has it that another thread has just begun.
    let inherited = file.0.as_file().try_clone().unwrap();
    let path = store.path(&key);
    let committing = std::thread::spawn({
        let store = store.clone();
        move || store.commit(file, &key)
    });
    let began = Instant::now();
    while !has_sealed(&store) && began.elapsed() < Duration::from_secs(20) {
        std::thread::yield_now();
    }
    assert!(!store.has(&key) && !path.exists(), "it could not be run yet");
    drop(inherited);
    committing.join().unwrap().unwrap();
    assert!(store.has(&key));
    assert!(std::process::Command::new(path).status().unwrap().success());
}

/// Whether what is coming in has its final mode: the last step before it waits.
fn has_sealed(store: &Store) -> bool {
    let coming = store.root.join("incoming").read_dir().unwrap().flatten();
    coming.filter_map(|entry| entry.metadata().ok()).any(|found| found.mode() & 0o777 == 0o555)
}

#[test]
fn what_others_change_goes_and_what_we_change_stays() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), 1 << 20).unwrap();
    let texts: [&[u8]; 6] = [b"one", b"two", b"three", b"four", b"five", b"six"];
    let keys = texts.map(|text| put(&store, text));
    // Used, linked, stamped, copied, taken in again, removed for want of room: all that is ours.
    keys.iter().for_each(|key| assert!(store.has(key)));
    let linked = root.path().join("linked");
    store.link(&keys[0], CWD, linked.as_os_str().as_encoded_bytes()).unwrap();
    store.stamp(keys.iter());
    put(&store, b"one");
    assert!(store.has(&Key { twin: 1, ..keys[1] }));
    store.drop_file(&keys[5]);
    assert_eq!(store.look(), 0);
    let path = |at: usize| store.path(&keys[at]);
    fs::set_permissions(path(0), fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path(0), "eno").unwrap();
    fs::rename(path(2), path(1)).unwrap();
    fs::remove_file(path(3)).unwrap();
    std::os::unix::fs::symlink(path(4), path(3)).unwrap();
    assert!(store.look() > 0);
    assert_eq!(keys.map(|key| store.has(&key)), [false, true, true, false, true, false]);
    assert_eq!(content(&store, &keys[1]), Some(b"two".to_vec()), "made of its twin");
    for at in [0, 3] {
        assert!(fs::symlink_metadata(path(at)).is_err(), "{at} is removed");
    }
    // What only went is noticed when it is used.
    let before = store.look();
    fs::remove_file(path(4)).unwrap();
    assert_eq!(store.look(), before);
    put(&store, b"one");
    assert_eq!(content(&store, &keys[0]), Some(b"one".to_vec()));
}

/// A header that cannot be read any more is passed over by a compiler, or found wanting.
#[test]
fn a_file_whose_mode_or_time_others_change_goes() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), 1 << 20).unwrap();
    let keys = [&b"one"[..], b"two", b"three"].map(|text| put(&store, text));
    let program = Key { executable: true, ..keys[2] };
    assert!(store.has(&program));
    let changed = |key: &Key, mode| fs::set_permissions(store.path(key), fs::Permissions::from_mode(mode));
    changed(&keys[0], 0o000).unwrap();
    changed(&program, 0o444).unwrap();
    File::open(store.path(&keys[1])).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(store.look(), 3);
    assert_eq!(keys.map(|key| store.has(&key)), [false, false, true]);
    // Found by another daemon.
    changed(&keys[2], 0o400).unwrap();
    drop(store);
    let store = Store::open(root.path(), 1 << 20).unwrap();
    assert!(!store.has(&keys[2]));
}

/// Jobs that needed it were compiled elsewhere until the daemon was started again, and after.
#[test]
fn a_folder_in_the_place_of_a_file_gives_way() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), 1 << 20).unwrap();
    let key = put(&store, b"text");
    let replaced = || {
        let _ = fs::remove_file(store.path(&key));
        fs::create_dir_all(store.path(&key).join("full")).unwrap();
    };
    replaced();
    assert!(store.look() > 0);
    assert!(!store.has(&key));
    put(&store, b"text");
    assert_eq!(content(&store, &key).as_deref(), Some(&b"text"[..]));
    replaced();
    let next = Store::open(root.path(), 1 << 20).unwrap();
    assert!(!next.has(&key));
    put(&next, b"text");
    assert_eq!(content(&next, &key).as_deref(), Some(&b"text"[..]));
}

#[test]
fn a_store_that_was_removed_beneath_the_daemon_is_made_again_and_knows_nothing() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(&root.path().join("store"), 1 << 20).unwrap();
    let key = put(&store, b"text");
    let before = store.look();
    fs::remove_dir_all(root.path().join("store/incoming")).unwrap();
    assert!(store.incoming().is_err());
    store.mend(false).unwrap();
    assert_eq!((store.look(), store.has(&key)), (before, true), "nothing else is forgotten");
    put(&store, b"other");
    fs::remove_dir_all(root.path().join("store")).unwrap();
    store.mend(false).unwrap();
    assert!(store.look() > before, "what was laid out of it is worth nothing");
    assert_eq!((store.has(&key), store.held().0), (false, 0));
    put(&store, b"text");
    assert_eq!(content(&store, &key).as_deref(), Some(&b"text"[..]));
    // It hears of changes there.
    let path = store.path(&key);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, "TEXT").unwrap();
    store.look();
    assert!(!store.has(&key));
    // What is found in another folder of the same name is looked at first.
    fs::write(root.path().join("store").join(key.name()), "liar").unwrap();
    store.mend(true).unwrap();
    assert!(!store.has(&key));
}

#[test]
fn a_file_that_comes_into_a_store_that_is_gone_makes_no_folders_above_it() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(&root.path().join("ours/store"), 1 << 20).unwrap();
    let mut file = store.incoming().unwrap();
    file.write_all(b"text").unwrap();
    fs::remove_dir_all(root.path().join("ours")).unwrap();
    assert!(store.commit(file, &Key::plain(Digest::of(b"text"))).is_err());
    assert!(!root.path().join("ours").exists());
}

#[test]
fn files_that_never_fit_together_are_known_by_their_sizes() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), 16 * BLOCK as u64).unwrap();
    let held = put(&store, &[1; BLOCK]);
    let sizes = |count: u8| {
        let key = |number: u8| Key::plain(Digest::of(&[number]));
        // A file that is there twice counts once.
        (0..count).chain(0..count).map(move |number| (key(number), 1))
    };
    assert_eq!(store.could_hold(sizes(15), u64::MAX), Ok(()));
    let room = 15 * BLOCK as u64;
    assert_eq!(
        store.could_hold(sizes(16), u64::MAX),
        Err(Shortage::Store { needed: 16 * BLOCK as u64, room })
    );
    // What is there may go, so that others come.
    let spare = 3 * BLOCK as u64;
    assert_eq!(store.could_hold(sizes(4), spare), Ok(()));
    let (needed, room) = (5 * BLOCK as u64, 4 * BLOCK as u64);
    assert_eq!(store.could_hold(sizes(5), spare), Err(Shortage::Disk { needed, room }));
    assert!(store.has(&held));
}

#[test]
fn a_full_disk_gets_room_from_what_was_used_longest_ago() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), 1 << 20).unwrap();
    let keys: Vec<Key> = (0..8).map(|number| put(&store, &[number; 10])).collect();
    assert!(store.has(&keys[0]));
    let before = store.evictions();
    store.release(2 * BLOCK as u64);
    let left: Vec<bool> = keys.iter().map(|key| store.has(key)).collect();
    assert_eq!((left[0], left[1], left[2], left[7]), (true, false, false, true));
    assert_eq!(store.evictions(), before + 1);
    store.release(u64::MAX);
    store.release(1);
    assert!(store.held().0 <= BLOCK as u64);
}
