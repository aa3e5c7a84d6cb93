//! What a child does between its birth and the compiler, as a list.
//!
//! The list is made beforehand, because the child may neither allocate nor lock ([`super::spawn`]
//! carries it out); and so it can be looked at.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libc::{
    MS_BIND, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_RDONLY, MS_REC, MS_REMOUNT, c_int, c_ulong,
};

use super::folders::Layers;
use crate::remote::process::Limits;
use crate::remote::view::PRIVATE;
use crate::remote::view::farm::DEVICES;

/// The user and group that a job sees itself as: nobody in particular.
const INNER_ID: u32 = 1000;

/// What a job may write, its temporary files included, in bytes. It is in memory.
const SCRATCH_BYTES: u64 = 2 << 30;

/// Processes of one job. A compile has three or four at once; with `-flto=jobserver` some more. (They
/// are not counted for root.)
const PROCESSES_MAX: u64 = 512;

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
}

/// What a job's box is made of.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// An empty folder on which boxes are built; each sees only its own.
    pub stage: &'a Path,
    /// The tree that the job sees.
    pub farm: &'a Path,
    /// What of the tree the job may write.
    pub layers: &'a Layers,
    /// Where the job begins.
    pub cwd: &'a [u8],
    /// The daemon's own user and group.
    pub ids: (u32, u32),
    /// Whether the kernel lets a job have its own `/proc`.
    pub proc: bool,
    /// What it may use.
    pub limits: &'a Limits,
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

/// All that is done for a box of this shape; `None` when a path has a NUL.
pub fn plan(shape: &Shape<'_>) -> Option<Vec<Step>> {
    let mut steps = Steps::default();
    steps.identity(shape.ids);
    steps.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)?;
    let stage = shape.stage.as_os_str().as_bytes();
    let size = format!("size={SCRATCH_BYTES},nr_inodes=65536,mode=755");
    steps.mount(b"tmpfs", stage, Some(c"tmpfs"), MS_NOSUID | MS_NODEV, Some(size.as_bytes()))?;
    steps.push(Act::Enter(text(stage)?));
    steps.push(Act::HandOver);
    steps.folder("root")?;
    steps.folder(PRIVATE_LAYER)?;
    steps.folder(&format!("{PRIVATE_LAYER}/tmp"))?;
    let locked = MS_BIND | MS_NOSUID | MS_NODEV;
    steps.mount(shape.farm.as_os_str().as_bytes(), b"root", None, MS_BIND, None)?;
    steps.mount(b"none", b"root", None, MS_REMOUNT | MS_RDONLY | locked, None)?;
    for (index, folder) in shape.layers.writable.iter().enumerate() {
        steps.overlay(index, folder)?;
    }
    for (layer, folder) in &shape.layers.locked {
        let over = shape.layers.writable.get(*layer)?;
        let inner = folder.strip_prefix(over.strip_suffix(b"/").unwrap_or(over))?;
        let source = [lower(*layer).as_bytes(), inner].concat();
        steps.mount(&source, &[b"root", &folder[..]].concat(), None, MS_BIND, None)?;
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
    // The daemon sets them too, but a moment after the program has begun.
    steps.push(Act::Limit(libc::RLIMIT_CORE as c_int, 0));
    steps.push(Act::Limit(libc::RLIMIT_FSIZE as c_int, shape.limits.file_bytes));
    steps.push(Act::Limit(libc::RLIMIT_NPROC as c_int, PROCESSES_MAX));
    if let Some(bytes) = shape.limits.memory_bytes {
        steps.push(Act::Limit(libc::RLIMIT_AS as c_int, bytes));
    }
    Some(steps.0)
}

#[derive(Debug, Default)]
struct Steps(Vec<Step>);

impl Steps {
    fn push(&mut self, act: Act) {
        self.0.push(Step { act, optional: false });
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
        Some(Act::Mount { target, kind, flags, .. }) => {
            let what = kind.map_or("a folder".into(), |kind| kind.to_string_lossy());
            let again = if flags & MS_REMOUNT != 0 { " again" } else { "" };
            format!("mount {what}{again} at {}", target.to_string_lossy())
        }
        Some(Act::Enter(path)) => format!("enter {}", path.to_string_lossy()),
        Some(Act::HandOver) => "open a folder".to_owned(),
        Some(Act::Limit(..)) => "set a limit".to_owned(),
        Some(Act::Pivot) => "change the root".to_owned(),
        None => "start the program".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(shape: &Shape<'_>) -> Vec<String> {
        plan(shape).unwrap().iter().map(|step| describe(Some(step))).collect()
    }

    fn shape(layers: &Layers) -> Shape<'_> {
        Shape {
            stage: Path::new("/s"),
            farm: Path::new("/f"),
            layers,
            cwd: b"/home/a,b:c",
            ids: (5, 6),
            proc: true,
            limits: &Limits { nice: 0, file_bytes: 1, memory_bytes: None },
        }
    }

    fn layers(writable: &str, locked: &[&str]) -> Layers {
        let locked = locked.iter().map(|folder| (0, folder.as_bytes().to_vec())).collect();
        Layers { writable: vec![writable.as_bytes().to_vec()], locked }
    }

    #[test]
    fn no_name_of_a_client_is_among_an_overlays_options() {
        let layers = layers("/home/a,b:c", &[]);
        let steps = plan(&shape(&layers)).unwrap();
        let options: Vec<String> = steps
            .iter()
            .filter_map(|step| match &step.act {
                Act::Mount { data: Some(data), .. } => Some(data.to_string_lossy().into_owned()),
                _ => None,
            })
            .collect();
        assert_eq!(options.len(), 2, "{options:?}");
        assert_eq!(options[1], "lowerdir=l0,upperdir=u0,workdir=w0,userxattr");
    }

    #[test]
    fn the_root_is_locked_before_anything_lies_over_it_and_left_for_good() {
        let words = words(&shape(&layers("/home/a,b:c", &["/home/a,b:c/inc"])));
        let at = |wanted: &str| {
            words.iter().position(|word| word == wanted).unwrap_or_else(|| panic!("{wanted}: {words:?}"))
        };
        assert!(at("mount a folder again at root") < at("mount overlay at root/home/a,b:c"));
        assert!(at("mount overlay at root/home/a,b:c") < at("mount a folder at root/home/a,b:c/inc"));
        assert!(at("mount proc at root/proc") < at("change the root"));
        assert!(at("change the root") < at("enter /home/a,b:c"));
        assert_eq!(words.last().map(String::as_str), Some("set a limit"));
    }

    #[test]
    fn a_job_that_works_at_the_root_has_a_layer_over_all() {
        let all = layers("/", &["/usr"]);
        let words = words(&Shape { cwd: b"/", proc: false, ..shape(&all) });
        for step in ["mount overlay at root", "mount a folder at root/usr"] {
            assert!(words.contains(&step.to_owned()), "{step}: {words:?}");
        }
        assert!(!words.iter().any(|word| word.contains("proc at")));
    }

    #[test]
    fn a_path_with_a_nul_has_no_plan() {
        let none = Layers::default();
        assert!(plan(&Shape { cwd: b"/a\0b", ..shape(&none) }).is_none());
    }
}
