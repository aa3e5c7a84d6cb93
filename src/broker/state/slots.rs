//! Slots as files: `lock/cpu_tcp_HOST_PORT_SLOT` in `DISTCC_DIR`, locked while a job is there.
//!
//! Such locks belong to a process, and closing any descriptor of a file gives its lock up. So each
//! file is opened once, and the broker remembers which of its own slots are taken: to the kernel
//! they would be free for it.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, fcntl_lock};

use crate::broker::link::transport::Address;

/// Files that are kept open. Slots beyond it are not shared.
const OPEN_MAX: usize = 2000;

/// The slots of all hosts.
#[derive(Clone, Debug)]
pub struct SlotFiles(Arc<Mutex<Files>>);

#[derive(Debug)]
struct Files {
    /// `None` when nothing is shared.
    directory: Option<PathBuf>,
    umask: u32,
    /// By name: the file, where it could be opened, and whether the slot is taken by us.
    known: HashMap<String, Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    file: Option<File>,
    taken: bool,
}

/// A slot that is ours until this is dropped.
#[derive(Debug)]
pub struct SlotLease {
    /// Its number.
    pub number: u32,
    name: String,
    files: SlotFiles,
}

impl Drop for SlotLease {
    fn drop(&mut self) {
        let mut files = self.files.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = files.known.get_mut(&self.name) {
            slot.taken = false;
            if let Some(file) = &slot.file {
                // Nothing is known of a lock that cannot be given up; it goes with the process.
                let _ = fcntl_lock(file, FlockOperation::Unlock);
            }
        }
    }
}

/// What the files of a host's slots are called, up to the number.
pub fn prefix(address: &Address) -> String {
    // A name with a slash is no host's; it must not lead elsewhere.
    let plain = |name: &str| name.replace('/', "_");
    match address {
        Address::Tcp { name, port } => format!("cpu_tcp_{}_{port}_", plain(name)),
        Address::Ssh { name, .. } => format!("cpu_ssh_{}_", plain(name)),
    }
}

/// What those of this machine are called.
pub const HERE: &str = "cpu_localhost_";

impl SlotFiles {
    /// Slots in `lock/` beneath `state`, the directory of `DISTCC_DIR`.
    pub fn open(state: Option<&Path>, umask: u32) -> Self {
        let directory = state.and_then(|state| {
            let lock = state.join("lock");
            match super::make(state, umask).and_then(|()| super::make(&lock, umask)) {
                Ok(()) => Some(lock),
                Err(error) => {
                    tracing::warn!(path = %lock.display(), %error, "slots are not shared with other clients");
                    None
                }
            }
        });
        SlotFiles(Arc::new(Mutex::new(Files { directory, umask, known: HashMap::new() })))
    }

    /// Takes the first of `count` slots that nobody holds.
    pub fn take(&self, prefix: &str, count: u32) -> Option<SlotLease> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (0..count).find_map(|number| {
            let name = format!("{prefix}{number}");
            files.take(&name).then(|| SlotLease { number, name, files: self.clone() })
        })
    }
}

impl Files {
    fn take(&mut self, name: &str) -> bool {
        if !self.known.contains_key(name) {
            let file = (self.known.len() < OPEN_MAX).then(|| self.open(name)).flatten();
            self.known.insert(name.to_owned(), Slot { file, taken: false });
        }
        let Some(slot) = self.known.get_mut(name).filter(|slot| !slot.taken) else { return false };
        // What cannot be locked at all is ours alone to count.
        let held = |file: &File| {
            fcntl_lock(file, FlockOperation::NonBlockingLockExclusive)
                .is_err_and(|error| error == rustix::io::Errno::ACCESS || error == rustix::io::Errno::AGAIN)
        };
        slot.taken = !slot.file.as_ref().is_some_and(held);
        slot.taken
    }

    fn open(&self, name: &str) -> Option<File> {
        let path = self.directory.as_ref()?.join(name);
        let mut options = File::options();
        let opened = options.read(true).write(true).create(true).mode(0o666 & !self.umask).open(&path);
        opened.inspect_err(|error| tracing::debug!(path = %path.display(), %error, "not shared")).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_taken_from_the_first_and_given_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = SlotFiles::open(Some(directory.path()), 0o022);
        let first = files.take("cpu_tcp_h_1_", 2).expect("a slot");
        let second = files.take("cpu_tcp_h_1_", 2).expect("a slot");
        assert_eq!((first.number, second.number), (0, 1));
        assert!(files.take("cpu_tcp_h_1_", 2).is_none());
        drop(first);
        assert_eq!(files.take("cpu_tcp_h_1_", 2).map(|slot| slot.number), Some(0));
        let names = std::fs::read_dir(directory.path().join("lock")).expect("a directory");
        assert_eq!(names.count(), 2, "files stay");
    }

    #[test]
    fn where_nothing_can_be_shared_slots_are_counted_all_the_same() {
        let files = SlotFiles::open(Some(Path::new("/proc/nowhere")), 0o022);
        let _one = files.take("cpu_tcp_h_1_", 1).expect("a slot");
        assert!(files.take("cpu_tcp_h_1_", 1).is_none());
        assert!(SlotFiles::open(None, 0).take(HERE, 1).is_some());
    }

    #[test]
    fn names_are_stocks() {
        let tcp = Address::Tcp { name: "10.0.0.7".to_owned(), port: 3632 };
        assert_eq!(prefix(&tcp), "cpu_tcp_10.0.0.7_3632_");
        let ssh =
            Address::Ssh { shell: vec![], user: Some("me".into()), name: "a/b".to_owned(), daemon: None };
        assert_eq!(prefix(&ssh), "cpu_ssh_a_b_");
    }
}
