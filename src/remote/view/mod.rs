//! What a job sees: exact trees of hard links into the store.
//!
//! - [`catalogue`]: every entry that any client has named, by a number of our own;
//! - [`tree`]: which folders a tree has and why, as a value;
//! - [`farm`]: one such tree on disk, patched from one set to the next;
//! - [`seals`]: whether somebody else changed it meanwhile;
//! - [`pool`]: the farms that there are, and which one suits a job best.

pub mod catalogue;
pub mod farm;
pub mod pool;
pub mod seals;
pub mod tree;
