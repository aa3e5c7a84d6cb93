//! Notifications of the kernel: what changed since the last time one asked.
//!
//! Directories are watched for names that come and go, files for their contents. A file is
//! watched as an inode, so that a write through another hard link is told, too. A change of the
//! mount table is a change of everything.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use crate::common::bytes::Bytes;

/// Events taken at one time: four times what the kernel queues; with more, nothing is known.
const EVENTS_MAX: usize = 65_536;
/// What is read at a time, in bytes.
const BUFFER_BYTES: usize = 64 << 10;
/// Fewer than so many, and the kernel had no more to tell: another would have fitted, however long its name
/// (inotify(7): a header of 16 bytes and a name, which is filled up to a multiple of as many).
const EVENTS_FIT: usize = BUFFER_BYTES / (16 + 256) - 1;

/// What becomes of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::broker) enum Fate {
    /// It is there now.
    Came,
    /// It was removed.
    Went,
    /// What it named has another name now. It may be there all the same: of two names that were exchanged
    /// (renameat2(2)), the second is told to have been moved away after it came.
    MovedAway,
    /// It names what it named.
    Stayed,
}

/// Something happened.
#[derive(Clone, Copy, Debug)]
pub(in crate::broker) enum Event<'a> {
    /// To a name in a watched directory.
    Name {
        /// The directory.
        watch: i32,
        /// The name.
        name: &'a [u8],
        /// What.
        fate: Fate,
    },
    /// To the watched thing itself.
    Itself {
        /// Which.
        watch: i32,
    },
    /// The watch is gone.
    Gone {
        /// Which.
        watch: i32,
    },
    /// More than can be told.
    Anything,
}

impl Fate {
    fn of(flags: ReadFlags) -> Self {
        if flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
            Fate::Came
        } else if flags.contains(ReadFlags::DELETE) {
            Fate::Went
        } else if flags.contains(ReadFlags::MOVED_FROM) {
            Fate::MovedAway
        } else {
            Fate::Stayed
        }
    }
}

/// An instance of inotify, and the mount table.
#[derive(Debug)]
pub(in crate::broker) struct Watches {
    inotify: OwnedFd,
    mounts: Option<File>,
    buffer: Box<[MaybeUninit<u8>]>,
}

impl Watches {
    /// Nothing watched yet; `None` where the kernel gives no instance.
    pub fn new() -> Option<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        let mounts = File::open("/proc/self/mountinfo").ok();
        let buffer = vec![MaybeUninit::uninit(); BUFFER_BYTES].into();
        Some(Watches { inotify, mounts, buffer })
    }

    /// Watches the directory that a path leads to. What one has asked to be told about an inode
    /// before is told still.
    pub fn directory(&self, path: &[u8]) -> Option<i32> {
        let names = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
        let itself = WatchFlags::ATTRIB | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
        let how = WatchFlags::ONLYDIR | WatchFlags::MASK_ADD;
        inotify::add_watch(&self.inotify, Bytes::from(path).as_path(), names | itself | how).ok()
    }

    /// Watches the file that a path leads to.
    pub fn file(&self, path: &[u8]) -> Option<i32> {
        let flags = WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::MASK_ADD;
        inotify::add_watch(&self.inotify, Bytes::from(path).as_path(), flags).ok()
    }

    /// Ends a watch.
    pub fn remove(&self, watch: i32) {
        // It may have ended by itself.
        let _ = inotify::remove_watch(&self.inotify, watch);
    }

    /// Tells what happened since the last call. Every change that was finished before the call is
    /// told.
    pub fn drain(&mut self, tell: &mut dyn FnMut(Event<'_>)) {
        let mut ready =
            [PollFd::new(&self.inotify, PollFlags::IN), PollFd::new(&self.inotify, PollFlags::IN)];
        if let Some(mounts) = &self.mounts {
            ready[1] = PollFd::from_borrowed_fd(mounts.as_fd(), PollFlags::PRI);
        }
        if poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_err() {
            return tell(Event::Anything);
        }
        let mounted = ready[1].revents().intersects(PollFlags::PRI | PollFlags::ERR);
        let events = ready[0].revents().contains(PollFlags::IN);
        if mounted {
            tell(Event::Anything);
        }
        if events {
            self.read(tell);
        }
    }

    fn read(&mut self, tell: &mut dyn FnMut(Event<'_>)) {
        let mut reader = Reader::new(&self.inotify, &mut self.buffer);
        for told in 1..=EVENTS_MAX {
            let event = match reader.next() {
                Ok(event) => event,
                Err(rustix::io::Errno::WOULDBLOCK) => return,
                Err(_) => break,
            };
            let (watch, flags) = (event.wd(), event.events());
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                tell(Event::Anything);
            } else if flags.contains(ReadFlags::IGNORED) {
                tell(Event::Gone { watch });
            } else if let Some(name) = event.file_name() {
                tell(Event::Name { watch, name: name.to_bytes(), fate: Fate::of(flags) });
            } else {
                tell(Event::Itself { watch });
            }
            if reader.is_buffer_empty() && told < EVENTS_FIT {
                return;
            }
        }
        tell(Event::Anything);
    }
}
