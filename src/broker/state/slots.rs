//! Slots as files: `lock/cpu_tcp_HOST_PORT_SLOT` in `DISTCC_DIR`, locked while a job is there.
//!
//! Such locks belong to a process, and closing any descriptor of a file gives its lock up. So each
//! file is opened once, and the broker remembers which of its own slots are taken: to the kernel
//! they would be free for it.

use std::collections::{BTreeSet, HashMap};
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
    /// By the beginnings of names.
    hosts: HashMap<Arc<str>, HostSlots>,
    opened: usize,
}

/// The slots of a host that were used so far.
#[derive(Debug, Default)]
struct HostSlots {
    /// By number: the file, where it could be opened.
    files: Vec<Option<File>>,
    /// Those that no job of ours has.
    free: BTreeSet<u32>,
}

/// A slot that is ours until this is dropped.
#[derive(Debug)]
pub struct SlotLease {
    /// Its number.
    pub number: u32,
    prefix: Arc<str>,
    files: SlotFiles,
}

impl Drop for SlotLease {
    fn drop(&mut self) {
        let mut files = self.files.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(host) = files.hosts.get_mut(&self.prefix) {
            host.free.insert(self.number);
            if let Some(Some(file)) = host.files.get(self.number as usize) {
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
        SlotFiles(Arc::new(Mutex::new(Files { directory, umask, hosts: HashMap::new(), opened: 0 })))
    }

    /// Takes the first of `count` slots that nobody holds.
    pub fn take(&self, prefix: &str, count: u32) -> Option<SlotLease> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (prefix, number) = files.take(prefix, count)?;
        Some(SlotLease { number, prefix, files: self.clone() })
    }
}

impl Files {
    /// Looks at no slot that a job of ours has: a large host has a thousand.
    fn take(&mut self, prefix: &str, count: u32) -> Option<(Arc<str>, u32)> {
        let (prefix, mut host) =
            self.hosts.remove_entry(prefix).unwrap_or_else(|| (prefix.into(), HostSlots::default()));
        let number = host.take_known(count).or_else(|| self.take_another(&prefix, &mut host, count));
        self.hosts.insert(Arc::clone(&prefix), host);
        number.map(|number| (prefix, number))
    }

    fn take_another(&mut self, prefix: &str, host: &mut HostSlots, count: u32) -> Option<u32> {
        let next = u32::try_from(host.files.len()).unwrap_or(u32::MAX);
        (next..count).find(|&number| {
            let file = (self.opened < OPEN_MAX).then(|| self.open(&format!("{prefix}{number}"))).flatten();
            self.opened += usize::from(file.is_some());
            let is_ours = !file.as_ref().is_some_and(is_held);
            host.files.push(file);
            if !is_ours {
                host.free.insert(number);
            }
            is_ours
        })
    }

    fn open(&self, name: &str) -> Option<File> {
        let path = self.directory.as_ref()?.join(name);
        let mut options = File::options();
        let opened = options.read(true).write(true).create(true).mode(0o666 & !self.umask).open(&path);
        opened.inspect_err(|error| tracing::debug!(path = %path.display(), %error, "not shared")).ok()
    }
}

impl HostSlots {
    /// The first that neither we nor anybody else has, of those that were used before.
    fn take_known(&mut self, count: u32) -> Option<u32> {
        let files = &self.files;
        let is_ours =
            |number: &u32| !files.get(*number as usize).and_then(Option::as_ref).is_some_and(is_held);
        let number = self.free.range(..count).copied().find(is_ours)?;
        self.free.remove(&number);
        Some(number)
    }
}

/// Takes a file's lock, unless another process has it. What cannot be locked at all is ours alone to count.
fn is_held(file: &File) -> bool {
    fcntl_lock(file, FlockOperation::NonBlockingLockExclusive)
        .is_err_and(|error| error == rustix::io::Errno::ACCESS || error == rustix::io::Errno::AGAIN)
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
    fn a_slot_that_another_client_has_is_passed_over_and_found_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = SlotFiles::open(Some(directory.path()), 0o022);
        drop(files.take("cpu_tcp_h_1_", 1).expect("a slot"));
        // Another process: to this one the lock would be free.
        let mut other = std::process::Command::new("python3")
            .arg("-c")
            .arg("import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print('locked', flush=True); sys.stdin.read()")
            .arg(directory.path().join("lock/cpu_tcp_h_1_0"))
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("python runs");
        let mut said = [0; 7];
        std::io::Read::read_exact(other.stdout.as_mut().expect("a pipe"), &mut said)
            .expect("it has the lock");
        assert!(files.take("cpu_tcp_h_1_", 1).is_none());
        assert_eq!(files.take("cpu_tcp_h_1_", 3).map(|slot| slot.number), Some(1));
        drop(other.stdin.take());
        other.wait().expect("it ends");
        assert_eq!(files.take("cpu_tcp_h_1_", 3).map(|slot| slot.number), Some(0));
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
