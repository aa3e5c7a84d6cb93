//! What lies between the root and the files: links on the way, and directories that must exist.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::shared::InputLink;
use crate::common::bytes::Bytes;

/// Links that one path may lead through, as for the kernel.
const LINKS_MAX: usize = 40;

/// Collects links and directories while paths are resolved, as the kernel resolves them.
#[derive(Debug, Default)]
pub struct Layout {
    links: BTreeMap<Arc<[u8]>, Arc<[u8]>>,
    directories: BTreeSet<Arc<[u8]>>,
    /// What was looked at: the target of a link, or none.
    seen: HashMap<Vec<u8>, Option<Arc<[u8]>>>,
    /// Directories resolved before.
    resolved: HashMap<Vec<u8>, Arc<[u8]>>,
}

impl Layout {
    /// Notes a directory that must be there, if it is there here.
    pub fn directory(&mut self, path: &[u8]) {
        let real = self.resolve(path);
        if Bytes::from(&real[..]).as_path().is_dir() {
            self.directories.insert(real);
        }
    }

    /// The path without links and dots. Links on the way are noted, and directories that are
    /// left again by `..`.
    pub fn resolve(&mut self, path: &[u8]) -> Arc<[u8]> {
        let Some(slash) = path.iter().rposition(|&byte| byte == b'/') else { return path.into() };
        let (directory, name) = (&path[..slash], &path[slash + 1..]);
        if matches!(name, b"" | b"." | b"..") {
            return self.walk(Vec::new(), path).into();
        }
        let start = match self.resolved.get(directory) {
            Some(start) => start.to_vec(),
            None => {
                let start = self.walk(Vec::new(), directory);
                self.resolved.insert(directory.to_vec(), start.as_slice().into());
                start
            }
        };
        self.walk(start, name).into()
    }

    fn walk(&mut self, mut real: Vec<u8>, path: &[u8]) -> Vec<u8> {
        let parts = |path: &[u8]| path.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec).collect();
        let mut rest: Vec<Vec<u8>> = parts(path);
        let mut links = 0;
        while let Some(part) = rest.pop() {
            match &part[..] {
                b"" | b"." => continue,
                b".." => {
                    self.directories.insert(root_or(&real).into());
                    real.truncate(parent(&real).len());
                    continue;
                }
                _ => {}
            }
            let name = [&real[..], b"/", &part].concat();
            match self.target(&name) {
                Some(target) if links < LINKS_MAX => {
                    links += 1;
                    if target.starts_with(b"/") {
                        real.clear();
                    }
                    let more: Vec<Vec<u8>> = parts(&target);
                    rest.extend(more);
                    self.links.insert(name.into(), target);
                }
                _ => real = name,
            }
        }
        real
    }

    fn target(&mut self, name: &[u8]) -> Option<Arc<[u8]>> {
        if let Some(known) = self.seen.get(name) {
            return known.clone();
        }
        let target = std::fs::read_link(Bytes::from(name).as_path()).ok();
        let target = target.map(|target| Arc::from(target.as_os_str().as_bytes()));
        self.seen.insert(name.to_vec(), target.clone());
        target
    }

    /// The links and the directories, each sorted.
    pub fn finish(self) -> (Vec<InputLink>, Vec<Arc<[u8]>>) {
        let links = self.links.into_iter().map(|(path, target)| InputLink { path, target });
        (links.collect(), self.directories.into_iter().collect())
    }
}

fn parent(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|&byte| byte == b'/').unwrap_or(0)]
}

fn root_or(path: &[u8]) -> &[u8] {
    if path.is_empty() { b"/" } else { path }
}
