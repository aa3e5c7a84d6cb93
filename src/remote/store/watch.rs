//! Whether anybody but this daemon changes stored files beneath it: the kernel tells.
//!
//! Files are written elsewhere and renamed to their place, so nothing is ever written to, or created,
//! in the store's folders but by others; and of what is renamed or otherwise touched, inode, mode and time tell. What is not told of:
//! changes by other names of a file (a job's links) and through maps of memory, and those on file
//! systems that tell nothing.

use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use super::index::Key;

/// A buffer's worth of events; more come with the next one.
const BUFFER_BYTES: usize = 16 << 10;

/// Something that happened in the store's folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Somebody wrote to this file, or made one in its place.
    Written(Key),
    /// A file was given this name, or what is known of it apart from its contents is another.
    Touched(Key),
    /// So much that not all is known.
    Anything,
}

/// The store's folders, as far as the kernel tells of them.
#[derive(Debug)]
pub struct Watch {
    inotify: Option<OwnedFd>,
    /// The first letters of names, by the watch of their folder.
    folders: HashMap<i32, String>,
}

impl Watch {
    /// Of no folder yet.
    pub fn new() -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC);
        Watch { inotify: inotify.ok(), folders: HashMap::new() }
    }

    /// Hears of a folder from now on, whose name is `prefix`.
    pub fn add(&mut self, folder: &Path, prefix: &str) {
        let Some(inotify) = &self.inotify else { return };
        let touched = WatchFlags::MOVED_TO | WatchFlags::ATTRIB;
        let changes = WatchFlags::MODIFY | WatchFlags::CREATE | touched | WatchFlags::ONLYDIR;
        match inotify::add_watch(inotify, folder, changes) {
            Ok(watch) => drop(self.folders.insert(watch, prefix.to_owned())),
            Err(error) => tracing::debug!(%error, "changes of the store by others are not told"),
        }
    }

    /// All that has happened since this was asked last.
    pub fn changes(&mut self) -> Vec<Change> {
        let Some(inotify) = &self.inotify else { return Vec::new() };
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = Reader::new(inotify, &mut buffer);
        let mut changes = Vec::new();
        // An error but for having read all is none that reading again would mend.
        while let Ok(event) = reader.next() {
            let flags = event.events();
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                changes.push(Change::Anything);
                continue;
            }
            let name = event.file_name().and_then(|name| name.to_str().ok());
            let key = self.folders.get(&event.wd()).zip(name);
            let Some(key) = key.and_then(|(prefix, name)| Key::of_name(prefix, name)) else { continue };
            changes.push(match flags.intersects(ReadFlags::MODIFY | ReadFlags::CREATE) {
                true => Change::Written(key),
                false => Change::Touched(key),
            });
        }
        changes
    }
}
