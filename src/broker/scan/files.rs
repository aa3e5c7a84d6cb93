//! What the scanner asks of a file system.

use std::sync::Arc;

/// Contents, as a number that [`Files`] gives: equal numbers mean equal bytes.
pub type Content = u32;

/// Which file, as a compiler tells files apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its device.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// When it was modified, in whole seconds.
    pub modified_s: i64,
}

/// A file that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What is in it.
    pub content: Content,
    /// Which it is.
    pub identity: Identity,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A file that can be read.
    File(Stat),
    /// Nothing.
    Absent,
    /// A directory.
    Directory,
    /// Something that cannot be read, or cannot be told.
    Unreadable,
}

/// A view of a file system.
pub trait Files {
    /// A number that changes when any answer given before might be another now.
    fn epoch(&self) -> u64;
    /// What is at this absolute path, links followed.
    fn look(&mut self, path: &[u8]) -> Answer;
    /// The bytes of a content; `None` if they are gone.
    fn bytes(&mut self, content: Content) -> Option<Arc<[u8]>>;
    /// The path with links, `.` and `..` resolved; `None` if it cannot be told.
    fn real_path(&mut self, path: &[u8]) -> Option<Arc<[u8]>>;
}
