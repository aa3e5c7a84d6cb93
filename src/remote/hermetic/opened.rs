//! What a compile opened, as the kernel tells (inotify(7)), where its compiler does not tell what it reads.
//!
//! A compile sees its inputs and nothing else, so more than these it cannot have read. What remains to be
//! seen is whether it read all that it should: compilers open each header that they read, by its own name.
//! So each folder that has such files is watched, as the job sees it, from before its program starts until
//! no process of it is left. A folder that could not be watched, or a word of the kernel's that is lost,
//! means that nobody knows.
//!
//! Whoever is told belongs to the daemon and is used again: the kernel makes and ends one slowly, and
//! gives each user few of them.

use std::collections::{BTreeSet, HashMap};
use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader};
use rustix::io::Errno;

use super::audit::differs;
use crate::common::bytes::Bytes;
use crate::common::protocol::link::Audit;
use crate::remote::items::{MustRead, Resolved};
use crate::remote::sandbox::Watch;

/// Folders that are watched for one job: some seventy is usual.
const FOLDERS_MAX: usize = 4096;

/// A buffer's worth of what the kernel tells; more comes with the next one.
const BUFFER_BYTES: usize = 32 << 10;

/// Instances of inotify that no job has.
#[derive(Debug, Default)]
pub struct Instances(Mutex<Vec<OwnedFd>>);

impl Instances {
    /// One that tells of nothing yet.
    fn take(&self) -> Result<OwnedFd, Errno> {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        idle.map_or_else(|| inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC), Ok)
    }

    /// The job that had it is over, and its watches are gone.
    fn give(&self, instance: OwnedFd) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(instance);
    }
}

/// What a job is to open, and where the kernel tells whether it does.
#[derive(Debug)]
pub struct Opening<'a> {
    instance: OwnedFd,
    folders: Vec<CString>,
    files: Files<'a>,
}

/// The files that must be opened.
#[derive(Debug)]
struct Files<'a> {
    /// Their paths.
    paths: Vec<&'a [u8]>,
    /// Which one it is, by the number of its folder and its name.
    places: HashMap<(usize, &'a [u8]), usize>,
}

/// What was opened.
#[derive(Debug)]
struct Opened {
    /// Of the files that must be, by their number.
    met: Vec<bool>,
    /// Others in their folders, by the number of the folder and their name.
    others: BTreeSet<(usize, Vec<u8>)>,
}

impl<'a> Opening<'a> {
    /// For a job of which only that can tell what it read; `None` for others, or where nobody can be told.
    pub fn of(job: &'a Resolved, instances: &Instances) -> Option<Self> {
        let Some(MustRead::Opened { apart }) = &job.reads else { return None };
        let must = job.inputs.files.iter().filter(|input| apart.binary_search(&input.number).is_err());
        let (folders, files) = Files::of(must.map(|input| &input.known.entry.path[..]))?;
        match instances.take() {
            Ok(instance) => Some(Opening { instance, folders, files }),
            Err(error) => {
                tracing::debug!(%error, "what a job opens is not told");
                None
            }
        }
    }

    /// What its box must have watched.
    pub fn watch(&self) -> Watch<'_> {
        Watch { instance: self.instance.as_fd(), folders: &self.folders }
    }

    /// Takes what the kernel told since these watches were made, once the job has no process any more.
    pub fn finish(self, watches: &[i32], instances: &Instances) -> Audit {
        let numbers: HashMap<i32, usize> =
            watches.iter().enumerate().map(|(folder, &watch)| (watch, folder)).collect();
        let told = told(&self.instance, &numbers, &self.files);
        for &watch in watches {
            // One in a layer went with it.
            let _ = inotify::remove_watch(&self.instance, watch);
        }
        // That these watches are gone is told as well.
        if !matches!(told, Err(Doubt::Silent)) && discard_told(&self.instance).is_ok() {
            instances.give(self.instance);
        }
        // Folders that are one would leave some of them without a number of their own.
        let is_whole = numbers.len() == self.folders.len();
        match told {
            Ok(opened) if is_whole => self.files.compare(&opened, &self.folders),
            told => {
                let (watched, folders) = (numbers.len(), self.folders.len());
                tracing::debug!(watched, folders, doubt = ?told.err(), "what a job opened is not known");
                Audit::Unchecked
            }
        }
    }
}

impl<'a> Files<'a> {
    /// Files and their folders; `None` when these are too many.
    fn of(paths: impl Iterator<Item = &'a [u8]>) -> Option<(Vec<CString>, Self)> {
        let mut folders = Vec::new();
        let mut known: HashMap<&[u8], usize> = HashMap::new();
        let mut files = Files { paths: Vec::new(), places: HashMap::new() };
        for path in paths {
            let slash = path.iter().rposition(|&byte| byte == b'/')?;
            let (folder, name) = (&path[..slash.max(1)], &path[slash + 1..]);
            let number = match known.get(folder) {
                Some(&number) => number,
                None if folders.len() == FOLDERS_MAX => return None,
                None => {
                    folders.push(CString::new(folder).ok()?);
                    known.insert(folder, folders.len() - 1);
                    folders.len() - 1
                }
            };
            files.places.insert((number, name), files.paths.len());
            files.paths.push(path);
        }
        Some((folders, files))
    }

    fn compare(&self, opened: &Opened, folders: &[CString]) -> Audit {
        if opened.met.iter().all(|&met| met) {
            return Audit::Agrees;
        }
        let met = self.paths.iter().zip(&opened.met).filter(|(_, met)| **met);
        let other = |(folder, name): &(usize, Vec<u8>)| {
            let folder = folders.get(*folder).map_or(&b""[..], |folder| folder.to_bytes());
            Bytes::from([folder.strip_suffix(b"/").unwrap_or(folder), b"/", name].concat())
        };
        differs(met.map(|(path, _)| Bytes::from(*path)).chain(opened.others.iter().map(other)))
    }
}

/// Why it is not known what was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// More was opened than the kernel keeps in mind.
    Lost,
    /// It does not tell.
    Silent,
}

/// What the kernel has told about folders with these numbers of watches.
fn told(instance: &OwnedFd, watches: &HashMap<i32, usize>, files: &Files<'_>) -> Result<Opened, Doubt> {
    let mut opened = Opened { met: vec![false; files.paths.len()], others: BTreeSet::new() };
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    let mut reader = Reader::new(instance, &mut buffer);
    loop {
        let event = match reader.next() {
            Ok(event) => event,
            Err(Errno::AGAIN) => return Ok(opened),
            Err(_) => return Err(Doubt::Silent),
        };
        let flags = event.events();
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            return Err(Doubt::Lost);
        }
        if !flags.contains(ReadFlags::OPEN) || flags.contains(ReadFlags::ISDIR) {
            continue;
        }
        // Watches of earlier jobs may have had a last word.
        let (Some(&folder), Some(name)) = (watches.get(&event.wd()), event.file_name()) else { continue };
        match files.places.get(&(folder, name.to_bytes())) {
            Some(&file) => opened.met[file] = true,
            None => drop(opened.others.insert((folder, name.to_bytes().to_vec()))),
        }
    }
}

/// Reads what is left to be told.
fn discard_told(instance: &OwnedFd) -> Result<(), Doubt> {
    let nothing = Files { paths: Vec::new(), places: HashMap::new() };
    loop {
        match told(instance, &HashMap::new(), &nothing) {
            Ok(_) => return Ok(()),
            Err(Doubt::Lost) => {}
            Err(Doubt::Silent) => return Err(Doubt::Silent),
        }
    }
}

#[cfg(test)]
mod tests;
