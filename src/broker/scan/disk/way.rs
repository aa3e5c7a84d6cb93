//! The way to a file or directory: links on it, and directories that it enters and leaves.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::super::shared::InputLink;
use super::directory::{DirectoryId, Presence};
use super::{Disk, split};
use crate::common::bytes::Bytes;

/// Links that one path may lead through, as for the kernel.
const LINKS_MAX: usize = 40;

/// The way to a file or directory.
#[derive(Clone, Debug)]
pub struct Way {
    /// The path without links and dots.
    pub real: Arc<[u8]>,
    /// The links that are crossed.
    pub links: Arc<[InputLink]>,
    /// Directories that are left again by `..`.
    pub left: Arc<[Arc<[u8]>]>,
}

impl Disk {
    /// The way that an absolute path goes, as the kernel goes it.
    /// `None` if it is too deep to be followed.
    pub fn way(&mut self, path: &[u8]) -> Option<Way> {
        let mut links: Option<Vec<InputLink>> = None;
        let mut left = Vec::new();
        let mut path = path.to_vec();
        for _ in 0..LINKS_MAX {
            let Some((directory, name)) = split(&path) else {
                path.push(b'/');
                let id = self.directory(&path);
                let way = self.way_to(id, 0)?;
                return Some(joined(way.real.clone(), links, left, way));
            };
            let id = self.directory(directory);
            let way = self.way_to(id, 0)?;
            let slash: &[u8] = if way.real.ends_with(b"/") { b"" } else { b"/" };
            let real: Arc<[u8]> = [&way.real[..], slash, name].concat().into();
            let Some(target) = self.link_at(id, name, &real) else {
                return Some(joined(real, links, left, way));
            };
            let next = if target.starts_with(b"/") {
                target.to_vec()
            } else {
                [&way.real[..], slash, &target].concat()
            };
            let links = links.get_or_insert_default();
            links.extend(way.links.iter().cloned());
            links.push(InputLink { path: real, target });
            left.extend(way.left.iter().cloned());
            path = next;
        }
        None
    }

    fn link_at(&mut self, id: DirectoryId, name: &[u8], real: &[u8]) -> Option<Arc<[u8]>> {
        let directory = &self.directories[id as usize];
        if let Some(names) = &directory.names
            && matches!(names.get(name), Some(Some(false)))
        {
            return None;
        }
        let target = fs::read_link(Bytes::from(real).as_path()).ok()?;
        Some(Arc::from(target.as_os_str().as_bytes()))
    }

    /// The way to a directory, remembered while it stands.
    fn way_to(&mut self, id: DirectoryId, depth: usize) -> Option<Way> {
        self.freshen(id);
        let now = self.now;
        let entry = &self.directories[id as usize];
        if let Some((at, way)) = &entry.way
            && *at == now
        {
            return Some(way.clone());
        }
        let path = entry.path.clone();
        let (parent, link, presence) = (entry.parent, entry.link.clone(), entry.presence);
        let name = split(&path[..path.len() - 1]).map_or(&b".."[..], |(_, name)| name);
        let way = match parent {
            None if path.len() > 1 => return None,
            None => Way { real: path.clone(), links: Arc::default(), left: Arc::default() },
            Some(parent) => {
                let before = self.way_to(parent, depth)?;
                let slash: &[u8] = if before.real.ends_with(b"/") { b"" } else { b"/" };
                if name == b".." {
                    let up = before.real.iter().rposition(|&byte| byte == b'/').unwrap_or(0).max(1);
                    let left = before.left.iter().cloned().chain([before.real.clone()]).collect();
                    Way { real: before.real[..up].into(), left, ..before }
                } else {
                    let here: Arc<[u8]> = [&before.real[..], slash, name].concat().into();
                    match link {
                        Some((target, means)) if !presence.is_none() && depth < LINKS_MAX => {
                            let after = self.way_to(means, depth + 1)?;
                            let link = InputLink { path: here, target };
                            let links = before.links.iter().cloned().chain([link]);
                            let links = links.chain(after.links.iter().cloned()).collect();
                            let left = before.left.iter().chain(after.left.iter()).cloned().collect();
                            Way { real: after.real, links, left }
                        }
                        _ => Way { real: here, ..before },
                    }
                }
            }
        };
        self.directories[id as usize].way = Some((self.now, way.clone()));
        Some(way)
    }

    /// Whether there is a directory at an absolute path; its device and inode.
    pub fn identity(&mut self, path: &[u8]) -> Option<(u64, u64)> {
        let id = self.directory(path);
        self.freshen(id);
        match self.directories[id as usize].presence {
            Presence::There(stamp) => Some((stamp.device, stamp.inode)),
            _ => None,
        }
    }
}

fn joined(real: Arc<[u8]>, links: Option<Vec<InputLink>>, left: Vec<Arc<[u8]>>, way: Way) -> Way {
    let Some(links) = links else { return Way { real, ..way } };
    let links = links.into_iter().chain(way.links.iter().cloned()).collect();
    let left = left.into_iter().chain(way.left.iter().cloned()).collect();
    Way { real, links, left }
}
