//! What the scanner asks of a file system.

use std::sync::Arc;

/// Contents, as a number that [`Files`] gives: equal numbers mean equal bytes.
pub type Content = u32;

/// Directories that searches go along, as a number that [`Files`] gives.
pub type Trail = u32;

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
    /// How many bytes are in it.
    pub size: u64,
    /// Whether it must be looked at in each scan, because no [`Files::state`] tells of a change.
    pub fleeting: bool,
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
    /// A number for these directories in this order; each is absolute and ends in a slash.
    fn trail(&mut self, directories: &[&[u8]]) -> Trail;
    /// A number that grows from change to change of anything.
    fn now(&self) -> u64;
    /// When ([`Self::now`]) anything last changed that is, or could be, found along a trail.
    fn state(&mut self, trail: Trail) -> u64;
    /// What has this name, without slashes, in that directory of a trail; links are followed.
    fn look(&mut self, trail: Trail, at: usize, name: &[u8]) -> Answer;
    /// The bytes of a content; `None` if they are gone.
    fn bytes(&mut self, content: Content) -> Option<Arc<[u8]>>;
    /// The same of one that was found at `path`, be it that it was read elsewhere.
    fn bytes_at(&mut self, content: Content, path: &[u8]) -> Option<Arc<[u8]>> {
        let _ = path;
        self.bytes(content)
    }
    /// The path with links, `.` and `..` resolved; `None` if it cannot be told.
    fn real_path(&mut self, path: &[u8]) -> Option<Arc<[u8]>>;
}
