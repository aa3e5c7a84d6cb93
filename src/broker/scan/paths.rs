//! Paths by number, and what is remembered of each.

use std::sync::Arc;

use super::symbols::{QuickMap, Sym, Symbols};

/// A path, as an index into [`Paths`].
pub type PathId = Sym;

/// Paths by number.
#[derive(Debug, Default)]
pub struct Paths {
    names: Symbols,
    parents: QuickMap<PathId, PathId>,
    shared: Vec<Option<Arc<[u8]>>>,
    marks: Vec<u32>,
}

impl Paths {
    /// The number of a path.
    pub fn id(&mut self, path: &[u8]) -> PathId {
        self.names.intern(path)
    }

    /// The path of a number.
    pub fn bytes(&self, id: PathId) -> &[u8] {
        self.names.text(id)
    }

    /// The path, to give away.
    pub fn shared(&mut self, id: PathId) -> Arc<[u8]> {
        if self.shared.len() <= id as usize {
            self.shared.resize(self.names.len(), None);
        }
        self.shared[id as usize].get_or_insert_with(|| Arc::from(self.names.text(id))).clone()
    }

    /// Marks a path with the number of a scan.
    pub fn mark(&mut self, id: PathId, scan: u32) {
        if self.marks.len() <= id as usize {
            self.marks.resize(self.names.len(), 0);
        }
        self.marks[id as usize] = scan;
    }

    /// Whether a path was last marked with that number.
    pub fn is_marked(&self, id: PathId, scan: u32) -> bool {
        self.marks.get(id as usize) == Some(&scan)
    }

    /// The path up to and with its last slash.
    pub fn parent(&mut self, id: PathId) -> PathId {
        if let Some(&parent) = self.parents.get(&id) {
            return parent;
        }
        let path = self.names.text(id);
        let length = path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
        let directory = path[..length].to_vec();
        let parent = self.names.intern(&directory);
        self.parents.insert(id, parent);
        parent
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none, which never happens.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Memory in use, in bytes, nearly.
    pub fn size(&self) -> usize {
        // A shared path takes what its spelling takes, some 80 bytes, and a place in the map.
        self.names.size() + self.parents.len() * 16 + self.shared.len() * 128 + self.marks.len() * 4
    }
}
