//! What a child does between its birth and the compiler, as a list.
//!
//! The list is made beforehand, because the child may neither allocate nor lock ([`super::spawn`]
//! carries it out); and so it can be looked at.

use std::ffi::{CStr, CString};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use libc::{
    MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC, MS_REMOUNT, c_int, c_ulong,
};
use rustix::process::Resource;

use super::Watch;
use super::folders::Layers;
use crate::common::inputs::PRIVATE;
use crate::remote::ceiling::{Ceiling, below};
use crate::remote::process::Limits;
use crate::remote::view::farm::DEVICES;

/// The user and group that a job sees itself as: nobody in particular.
const INNER_ID: u32 = 1000;

/// Processes of one job. A compile has three or four at once; with `-flto=jobserver` some more. Root's are
/// not counted, but where a namespace has a highest process number (Linux 6.14).
pub const PROCESSES_MAX: u64 = 512;

/// Processes of one user where a job has no namespace in which its own are counted: all of the
/// daemon's, of its jobs, and of whoever else is the same user.
const USER_PROCESSES_MAX: u64 = 4096;

/// Signals that wait, and timers, of one job.
const PENDING_SIGNALS_MAX: u64 = 256;

/// One thing to do.
#[derive(Debug)]
pub struct Step {
    /// What.
    pub act: Act,
    /// Whether a job may do without.
    pub optional: bool,
}

/// What a step does.
#[derive(Debug)]
pub enum Act {
    /// Write to a file that is there.
    Write(CString, Vec<u8>),
    /// Make a folder.
    Folder(CString),
    /// Make a file.
    File(CString),
    /// Let nobody write to what is mounted there, or run a set-uid program from it.
    Lock(CString),
    /// Mount something.
    Mount {
        /// What, where that counts.
        source: CString,
        /// Where.
        target: CString,
        /// The file system, unless it is none that is new.
        kind: Option<&'static CStr>,
        /// How.
        flags: c_ulong,
        /// What it is told.
        data: Option<CString>,
    },
    /// Go there.
    Enter(CString),
    /// Let the daemon have the folder where the child is.
    HandOver,
    /// Make the folder where the child is the root, and let go of everything else.
    Pivot,
    /// Allow no more than this of something (setrlimit(2)).
    Limit(c_int, u64),
    /// Have the kernel tell, by this descriptor, which files of a folder are opened.
    Watch(c_int, CString),
}

/// What a job's box is made of.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// An empty folder on which boxes are built; each sees only its own.
    pub stage: &'a Path,
    /// The tree that is the job's root.
    pub root: &'a Path,
    /// What lies over it.
    pub over: Over<'a>,
    /// Where the job begins.
    pub cwd: &'a [u8],
    /// The daemon's own user and group.
    pub ids: (u32, u32),
    /// Whether the kernel lets a job have its own `/proc`.
    pub proc: bool,
    /// Whether it lets a job have its own highest process number.
    pub numbers: bool,
    /// What it may use.
    pub limits: &'a Limits,
    /// What the daemon itself may.
    pub ceiling: Ceiling,
    /// What it may write, its temporary files included, in bytes. It is in memory.
    pub scratch_bytes: u64,
    /// Folders of which the kernel is to tell.
    pub watch: Option<Watch<'a>>,
}

/// What lies over a job's root.
#[derive(Clone, Copy, Debug)]
pub enum Over<'a> {
    /// Layers over the folders of the root that it may write.
    Layers(&'a Layers),
    /// Parts of this machine, and a folder to work in.
    Machine(&'a Machine<'a>),
}

/// What a job sees of this machine.
#[derive(Debug)]
pub struct Machine<'a> {
    /// Folders and files that it sees under their own names, and where the root has a place for them, or
    /// `/tmp` gets one.
    pub shared: &'a [PathBuf],
    /// The folder of its own. Inside, it is as empty as that which it lies in.
    pub work: &'a Path,
    /// What of that folder it sees, by name.
    pub inputs: &'a [Input],
}

/// One thing that a job finds in its folder.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name there.
    pub name: String,
    /// Whether it is a folder.
    pub is_folder: bool,
}

/// Where the layers of the writable folders are, beneath what the child hands over.
pub fn layer(index: usize) -> String {
    format!("u{index}")
}

/// Where what lies under a layer can be seen without it.
fn lower(index: usize) -> String {
    format!("l{index}")
}

/// Where the private folder is, beneath what the child hands over.
pub const PRIVATE_LAYER: &str = "p";

/// The folder for temporary files, as the job sees it.
pub fn temporary() -> String {
    format!("{PRIVATE}/tmp")
}

/// Where a job's own folder for `/tmp` is, beneath what the child hands over.
const TEMPORARY: &str = "p/tmp";

/// All that is done for a box of this shape; `None` when a path has a NUL.
pub fn plan(shape: &Shape<'_>) -> Option<Vec<Step>> {
    let mut steps = Steps::default();
    steps.identity(shape.ids);
    if shape.numbers {
        let most = Act::Write(c"/proc/sys/kernel/pid_max".to_owned(), PROCESSES_MAX.to_string().into_bytes());
        steps.0.push(Step { act: most, optional: true });
    }
    steps.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)?;
    let stage = shape.stage.as_os_str().as_bytes();
    let size = format!("size={},nr_inodes=65536,mode=755", shape.scratch_bytes);
    steps.mount(b"tmpfs", stage, Some(c"tmpfs"), MS_NOSUID | MS_NODEV, Some(size.as_bytes()))?;
    steps.push(Act::Enter(text(stage)?));
    steps.push(Act::HandOver);
    steps.folder("root")?;
    steps.folder(PRIVATE_LAYER)?;
    steps.folder(TEMPORARY)?;
    let locked = MS_BIND | MS_NOSUID | MS_NODEV;
    steps.mount(shape.root.as_os_str().as_bytes(), b"root", None, MS_BIND, None)?;
    steps.mount(b"none", b"root", None, MS_REMOUNT | MS_RDONLY | locked, None)?;
    match shape.over {
        Over::Layers(layers) => steps.layers(layers)?,
        Over::Machine(machine) => steps.machine(machine)?,
    }
    if shape.proc {
        let flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
        steps.mount(b"proc", b"root/proc", Some(c"proc"), flags | MS_RDONLY, None)?;
    }
    for device in DEVICES {
        let target = format!("root/dev/{device}");
        steps.mount(&target.as_bytes()[4..], target.as_bytes(), None, MS_BIND, None)?;
    }
    steps.mount(PRIVATE_LAYER.as_bytes(), format!("root{PRIVATE}").as_bytes(), None, MS_BIND, None)?;
    steps.push(Act::Enter(text(b"root")?));
    steps.push(Act::Pivot);
    steps.push(Act::Enter(text(b"/")?));
    steps.push(Act::Enter(text(shape.cwd)?));
    if let Some(Watch { instance, folders }) = shape.watch {
        let watches = folders.iter().map(|folder| Act::Watch(instance.as_raw_fd(), folder.clone()));
        steps.0.extend(watches.map(|act| Step { act, optional: true }));
    }
    steps.limits(shape.limits, PROCESSES_MAX, shape.ceiling);
    Some(steps.0)
}

/// What is done for a job that has no box: it works in `work`, which is handed over. `None` when a path
/// has a NUL.
pub fn plan_without_box(work: &Path, cwd: &[u8], limits: &Limits, ceiling: Ceiling) -> Option<Vec<Step>> {
    let mut steps = Steps::default();
    steps.sacrifice();
    steps.push(Act::Enter(text(work.as_os_str().as_bytes())?));
    steps.push(Act::HandOver);
    steps.push(Act::Enter(text(cwd)?));
    steps.limits(limits, USER_PROCESSES_MAX, ceiling);
    Some(steps.0)
}

#[derive(Debug, Default)]
struct Steps(Vec<Step>);

impl Steps {
    fn push(&mut self, act: Act) {
        self.0.push(Step { act, optional: false });
    }

    /// When memory is short, the kernel ends a job before anything else.
    fn sacrifice(&mut self) {
        let act = Act::Write(c"/proc/self/oom_score_adj".to_owned(), b"1000".to_vec());
        self.0.push(Step { act, optional: true });
    }

    /// The daemon sets them too, but a moment after the program has begun.
    fn limits(&mut self, limits: &Limits, processes: u64, ceiling: Ceiling) {
        for (resource, most) in limits.each(ceiling) {
            self.push(Act::Limit(resource as c_int, most));
        }
        let besides = [
            (Resource::Nproc, processes),
            (Resource::Memlock, 0),
            (Resource::Msgqueue, 0),
            // Those of all jobs count as the daemon's user's.
            (Resource::Sigpending, PENDING_SIGNALS_MAX),
        ];
        for (resource, most) in besides {
            self.push(Act::Limit(resource as c_int, below(ceiling, resource, most)));
        }
    }

    fn layers(&mut self, layers: &Layers) -> Option<()> {
        for (index, folder) in layers.writable.iter().enumerate() {
            self.overlay(index, folder)?;
        }
        for (layer, folder) in &layers.locked {
            let over = layers.writable.get(*layer)?;
            let inner = folder.strip_prefix(over.strip_suffix(b"/").unwrap_or(over))?;
            let source = [lower(*layer).as_bytes(), inner].concat();
            self.mount(&source, &[b"root", &folder[..]].concat(), None, MS_BIND, None)?;
        }
        Some(())
    }

    /// Parts of this machine, locked; a `/tmp` of its own; a folder to work in, with its inputs, locked.
    fn machine(&mut self, machine: &Machine<'_>) -> Option<()> {
        let work = machine.work.as_os_str().as_bytes();
        let slash = work.iter().rposition(|&byte| byte == b'/')?;
        let (above, name) = work.split_at(slash);
        let own = layer(0);
        self.folder(&own)?;
        let own = [own.as_bytes(), name].concat();
        self.push(Act::Folder(text(&own)?));
        for input in machine.inputs {
            let place = text(&[&own[..], b"/", input.name.as_bytes()].concat())?;
            self.push(if input.is_folder { Act::Folder(place) } else { Act::File(place) });
        }
        self.mount(TEMPORARY.as_bytes(), b"root/tmp", None, MS_BIND, None)?;
        for path in machine.shared {
            self.shared(path.as_os_str().as_bytes())?;
        }
        self.place_in_tmp(above)?;
        self.mount(layer(0).as_bytes(), &[b"root", above].concat(), None, MS_BIND, None)?;
        for input in machine.inputs {
            let inner = [work, b"/", input.name.as_bytes()].concat();
            let target = [b"root", &inner[..]].concat();
            self.mount(&inner, &target, None, MS_BIND | MS_REC, None)?;
            self.push(Act::Lock(text(&target)?));
        }
        Some(())
    }

    fn shared(&mut self, path: &[u8]) -> Option<()> {
        self.place_in_tmp(path)?;
        let target = [b"root", path].concat();
        self.mount(path, &target, None, MS_BIND | MS_REC, None)?;
        self.push(Act::Lock(text(&target)?));
        Some(())
    }

    /// Folders in `/tmp`, where the root cannot have them beforehand; some of them may be there.
    fn place_in_tmp(&mut self, path: &[u8]) -> Option<()> {
        let Some(within) = path.strip_prefix(b"/tmp/") else { return Some(()) };
        let ends = (1..=within.len()).filter(|&end| end == within.len() || within[end] == b'/');
        for end in ends {
            let act = Act::Folder(text(&[TEMPORARY.as_bytes(), b"/", &within[..end]].concat())?);
            self.0.push(Step { act, optional: true });
        }
        Some(())
    }

    /// Who the child is in its own namespace: one user, who is nobody.
    fn identity(&mut self, (uid, gid): (u32, u32)) {
        let mut write = |path: &CStr, text: String, optional| {
            self.0.push(Step { act: Act::Write(path.to_owned(), text.into_bytes()), optional });
        };
        write(c"/proc/self/setgroups", "deny".to_owned(), false);
        write(c"/proc/self/uid_map", format!("{INNER_ID} {uid} 1"), false);
        write(c"/proc/self/gid_map", format!("{INNER_ID} {gid} 1"), false);
        // No further namespaces inside, where that can be said.
        write(c"/proc/sys/user/max_user_namespaces", "0".to_owned(), true);
        self.sacrifice();
    }

    fn folder(&mut self, path: &str) -> Option<()> {
        self.push(Act::Folder(text(path.as_bytes())?));
        Some(())
    }

    fn mount(
        &mut self,
        source: &[u8],
        target: &[u8],
        kind: Option<&'static CStr>,
        flags: c_ulong,
        data: Option<&[u8]>,
    ) -> Option<()> {
        let data = match data {
            Some(data) => Some(text(data)?),
            None => None,
        };
        self.push(Act::Mount { source: text(source)?, target: text(target)?, kind, flags, data });
        Some(())
    }

    /// Lays a writable layer over a folder. The folder gets a short name first, so that no name of a
    /// client stands among an overlay's options.
    fn overlay(&mut self, index: usize, folder: &[u8]) -> Option<()> {
        let folder = folder.strip_suffix(b"/").unwrap_or(folder);
        let target = [b"root", folder].concat();
        let (upper, work, lower) = (layer(index), format!("w{index}"), lower(index));
        for made in [&upper, &work, &lower] {
            self.folder(made)?;
        }
        self.mount(&target, lower.as_bytes(), None, MS_BIND, None)?;
        let data = format!("lowerdir={lower},upperdir={upper},workdir={work},userxattr");
        let flags = MS_NOSUID | MS_NODEV;
        self.mount(b"overlay", &target, Some(c"overlay"), flags, Some(data.as_bytes()))
    }
}

fn text(bytes: &[u8]) -> Option<CString> {
    CString::new(bytes).ok()
}

/// A step in words, for people.
pub fn describe(step: Option<&Step>) -> String {
    match step.map(|step| &step.act) {
        Some(Act::Write(path, _)) => format!("write to {}", path.to_string_lossy()),
        Some(Act::Folder(path)) => format!("make the folder {}", path.to_string_lossy()),
        Some(Act::File(path)) => format!("make the file {}", path.to_string_lossy()),
        Some(Act::Lock(path)) => format!("lock {}", path.to_string_lossy()),
        Some(Act::Mount { target, kind, flags, .. }) => {
            let what = kind.map_or("a folder".into(), |kind| kind.to_string_lossy());
            let again = if flags & MS_REMOUNT != 0 { " again" } else { "" };
            format!("mount {what}{again} at {}", target.to_string_lossy())
        }
        Some(Act::Enter(path)) => format!("enter {}", path.to_string_lossy()),
        Some(Act::HandOver) => "open a folder".to_owned(),
        Some(Act::Limit(..)) => "set a limit".to_owned(),
        Some(Act::Watch(_, folder)) => format!("watch {}", folder.to_string_lossy()),
        Some(Act::Pivot) => "change the root".to_owned(),
        None => "start the program".to_owned(),
    }
}

#[cfg(test)]
mod tests;
