//! A control group for each job, where this machine lets the daemon make some (cgroups(7), version 2).
//!
//! Then the limits on memory and processes are the job's as a whole: whatever number of processes it is, and
//! wherever they went. The kernel ends all of it when it wants more memory, and all of it when the
//! job is over.
//!
//! The daemon makes groups only beneath its own, and only when nobody but itself is in that: so it is with
//! `Delegate=yes` of systemd, and in containers that have a hierarchy of their own. It moves into
//! `distccd-PID/daemon`, beside which each job has its group. Where any of that is refused there are no groups,
//! which is said, and jobs have the other limits.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Groups of dead daemons, and of ours, begin with this.
const PREFIX: &str = "distccd-";

/// What of a machine is shared out, and its names for people.
const CONTROLLERS: [(&str, &str); 3] = [("memory", "memory"), ("pids", "processes"), ("cpu", "processor")];

/// How often, and how long apart, it is tried to remove a group whose processes have been killed.
const REMOVALS_MAX: u32 = 200;
const REMOVAL_PAUSE: Duration = Duration::from_millis(2);

/// What one job may use as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Memory, what it writes into memory included, in bytes.
    pub memory_bytes: Option<u64>,
    /// Processes and threads at once.
    pub processes: u64,
    /// How much it gives way to others (`nice`(1)).
    pub nice: i32,
}

/// Why there are no control groups.
#[derive(Debug, thiserror::Error)]
pub enum GroupsError {
    /// The kernel tells of none.
    #[error("there is no hierarchy of version 2")]
    None,
    /// Others are there, or another owner.
    #[error("{path} is not delegated to this daemon: {error}")]
    NotOurs {
        /// The daemon's own group.
        path: PathBuf,
        /// What the kernel said.
        error: io::Error,
    },
    /// There is nothing that could be limited.
    #[error("{0} has neither memory nor processes to share out")]
    NoControllers(PathBuf),
}

/// Makes groups.
#[derive(Debug)]
pub struct Groups {
    /// `distccd-PID`, in the group that the daemon was started in.
    place: PathBuf,
    has: Vec<&'static str>,
    share: Share,
    next: AtomicU64,
}

/// A job's group. It is ended and removed when this value goes.
#[derive(Debug)]
pub struct Group {
    path: PathBuf,
    folder: OwnedFd,
}

/// The group of a process, as a folder, by its `/proc/PID/cgroup` and `/proc/PID/mountinfo`.
pub fn own(groups: &[u8], mounts: &[u8]) -> Option<PathBuf> {
    let path = groups.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"0::"))?;
    let path = Path::new(OsStr::from_bytes(path));
    mounts.split(|&byte| byte == b'\n').find_map(|line| {
        let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
        let dash = words.iter().position(|word| *word == b"-")?;
        if *words.get(dash + 1)? != b"cgroup2" {
            return None;
        }
        let (root, place) = (words.get(3)?, words.get(4)?);
        let below = path.strip_prefix(OsStr::from_bytes(root)).ok()?;
        Some(Path::new(OsStr::from_bytes(place)).join(below))
    })
}

impl Groups {
    /// Takes the daemon's own group, to be used by `owner` from then on.
    ///
    /// # Errors
    ///
    /// Returns why not; the daemon is where it was then.
    pub fn take(share: Share, owner: Option<(u32, u32)>) -> Result<Self, GroupsError> {
        let read = |name: &str| fs::read(Path::new("/proc/self").join(name)).unwrap_or_default();
        let own = own(&read("cgroup"), &read("mountinfo")).ok_or(GroupsError::None)?;
        Self::beneath(&own, share, owner)
    }

    /// The same for a group whose folder is this.
    ///
    /// # Errors
    ///
    /// Returns why not.
    pub fn beneath(own: &Path, share: Share, owner: Option<(u32, u32)>) -> Result<Self, GroupsError> {
        let able = fs::read_to_string(own.join("cgroup.controllers")).map_err(|_| GroupsError::None)?;
        let has: Vec<&str> = CONTROLLERS.iter().map(|(name, _)| *name).collect();
        let has: Vec<&str> =
            has.into_iter().filter(|name| able.split_whitespace().any(|word| word == *name)).collect();
        if !has.iter().any(|name| matches!(*name, "memory" | "pids")) {
            return Err(GroupsError::NoControllers(own.to_owned()));
        }
        remove_dead(own);
        let place = own.join(format!("{PREFIX}{}", std::process::id()));
        let daemon = place.join("daemon");
        let prepared = || -> io::Result<()> {
            fs::create_dir(&place)?;
            fs::create_dir(&daemon)?;
            fs::write(daemon.join("cgroup.procs"), std::process::id().to_string())?;
            let wanted: Vec<String> = has.iter().map(|name| format!("+{name}")).collect();
            // Refused while somebody else is there.
            fs::write(own.join("cgroup.subtree_control"), wanted.join(" "))?;
            fs::write(place.join("cgroup.subtree_control"), wanted.join(" "))?;
            let Some((uid, gid)) = owner else { return Ok(()) };
            let files = [
                "",
                "cgroup.procs",
                "cgroup.subtree_control",
                "cgroup.threads",
                "daemon",
                "daemon/cgroup.procs",
            ];
            files.iter().try_for_each(|name| std::os::unix::fs::chown(place.join(name), Some(uid), Some(gid)))
        };
        prepared().map_err(|error| {
            let _ = fs::write(own.join("cgroup.procs"), std::process::id().to_string());
            let _ = fs::remove_dir(&daemon);
            let _ = fs::remove_dir(&place);
            GroupsError::NotOurs { path: own.to_owned(), error }
        })?;
        Ok(Groups { place, has, share, next: AtomicU64::new(1) })
    }

    /// What is limited by them, for people.
    pub fn describe(&self) -> String {
        let has = |name: &&str| self.has.contains(name);
        let words: Vec<&str> =
            CONTROLLERS.iter().filter(|(name, _)| has(name)).map(|(_, word)| *word).collect();
        format!("control groups ({})", words.join(", "))
    }

    /// Makes a job's group.
    ///
    /// # Errors
    ///
    /// Returns what the kernel returns; then the job must not run.
    pub fn make(&self) -> io::Result<Group> {
        let path = self.place.join(format!("job-{}", self.next.fetch_add(1, Ordering::Relaxed)));
        fs::create_dir(&path)?;
        let limited = || -> io::Result<Group> {
            let set =
                |file: &str, value: &dyn std::fmt::Display| fs::write(path.join(file), value.to_string());
            for name in &self.has {
                match (*name, self.share.memory_bytes) {
                    ("memory", Some(most)) => {
                        set("memory.max", &most)?;
                        // What a job may not have it must not have on the disk either; not every kernel swaps.
                        let _ = set("memory.swap.max", &0);
                        set("memory.oom.group", &1)?;
                    }
                    ("pids", _) => set("pids.max", &self.share.processes)?,
                    ("cpu", _) => set("cpu.weight.nice", &self.share.nice)?,
                    _ => {}
                }
            }
            Ok(Group { path: path.clone(), folder: File::open(&path)?.into() })
        };
        limited().inspect_err(|_| drop(fs::remove_dir(&path)))
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        if let Some(own) = self.place.parent() {
            let _ = fs::write(own.join("cgroup.procs"), std::process::id().to_string());
            remove_dead(own);
        }
    }
}

impl Group {
    /// The folder, for whoever is born into the group.
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Ends all of its processes.
    pub fn end(&self) {
        let _ = fs::write(self.path.join("cgroup.kill"), "1");
    }

    /// The most memory that it had at once, in bytes (Linux 5.19).
    pub fn memory(&self) -> Option<u64> {
        fs::read_to_string(self.path.join("memory.peak")).ok()?.trim().parse().ok()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.end();
        for _ in 0..REMOVALS_MAX {
            match fs::remove_dir(&self.path) {
                // Somebody is still on the way out.
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    std::thread::sleep(REMOVAL_PAUSE);
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::debug!(path = %self.path.display(), %error, "a job's control group stays behind");
                    return;
                }
                _ => return,
            }
        }
    }
}

/// Removes groups of daemons that are gone. The kernel removes none that somebody is in.
fn remove_dead(own: &Path) {
    let folders = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    for place in folders(own) {
        let name = place.file_name().unwrap_or_default();
        if name.as_bytes().starts_with(PREFIX.as_bytes()) {
            for group in folders(&place).filter(|path| path.is_dir()) {
                let _ = fs::remove_dir(group);
            }
            let _ = fs::remove_dir(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};
    use std::time::Instant;

    use super::*;
    use crate::common::action::Ended;
    use crate::remote::guard::Guard;
    use crate::remote::process::{Control, Finished, Limits, Watch};
    use crate::remote::sandbox::confine::{Confinement, Text};

    const SHARE: Share = Share { memory_bytes: Some(1 << 30), processes: 512, nice: 5 };

    fn check_own(groups: &str, mounts: &str, expected: Option<&str>) {
        assert_eq!(own(groups.as_bytes(), mounts.as_bytes()).as_deref(), expected.map(Path::new), "{groups}");
    }

    #[test]
    fn the_own_group_is_found_below_where_the_hierarchy_is_mounted() {
        let whole = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        check_own(
            "0::/system.slice/distccd.service\n",
            whole,
            Some("/sys/fs/cgroup/system.slice/distccd.service"),
        );
        check_own("0::/\n", whole, Some("/sys/fs/cgroup/"));
        let both = "29 23 0:25 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                    30 23 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        check_own("8:pids:/x\n0::/y\n", both, Some("/sys/fs/cgroup/unified/y"));
        // A container that has a part of the machine's.
        let part = "30 23 0:26 /docker/1 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        check_own("0::/docker/1/a\n", part, Some("/sys/fs/cgroup/a"));
        check_own("0::/elsewhere\n", part, None);
        check_own("8:pids:/x\n", both, None);
        check_own("", "", None);
    }

    fn hierarchy(controllers: &str) -> tempfile::TempDir {
        let own = tempfile::tempdir().unwrap();
        fs::write(own.path().join("cgroup.controllers"), controllers).unwrap();
        own
    }

    #[test]
    fn a_job_gets_the_limits_that_there_are() {
        let own = hierarchy("cpuset cpu io memory pids");
        let groups = Groups::beneath(own.path(), SHARE, None).unwrap();
        assert_eq!(groups.describe(), "control groups (memory, processes, processor)");
        let text = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!(text(&own.path().join("cgroup.subtree_control")), "+memory +pids +cpu");
        let pid = std::process::id().to_string();
        assert_eq!(text(&groups.place.join("daemon/cgroup.procs")), pid);
        let group = groups.make().unwrap();
        for (file, value) in [
            ("memory.max", "1073741824"),
            ("memory.swap.max", "0"),
            ("memory.oom.group", "1"),
            ("pids.max", "512"),
            ("cpu.weight.nice", "5"),
        ] {
            assert_eq!(text(&group.path.join(file)), value, "{file}");
        }
        fs::write(group.path.join("memory.peak"), "4096\n").unwrap();
        assert_eq!(group.memory(), Some(4096));
        let path = group.path.clone();
        drop(group);
        assert_eq!(text(&path.join("cgroup.kill")), "1");
    }

    /// Runs a shell's script in a box, in a group of these; how it ended, and what it said.
    fn shell(groups: &Groups, script: &str) -> (Finished, String) {
        let jobs = tempfile::tempdir().unwrap();
        let (confinement, _) = Confinement::probe(jobs.path(), 1 << 28).unwrap();
        let work = jobs.path().join("1");
        fs::create_dir(&work).unwrap();
        let limits = Limits { file_bytes: 1 << 20, ..Limits::default() };
        let arguments = ["-c".into(), script.into()];
        let text = Text {
            program: Path::new("/bin/sh"),
            programs: &[],
            arguments: &arguments,
            environment: &[],
            work: &work,
            inputs: &[],
            cwd: &work,
            limits: &limits,
            group: None,
        };
        let (mut stdout, stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        let (control, guard) = (Control::default(), Guard::none());
        let deadline = Instant::now() + Duration::from_secs(60);
        let watch =
            Watch { limits: &limits, groups: Some(groups), control: &control, guard: &guard, deadline };
        let theirs = stdout.try_clone().unwrap();
        let start = |group: Option<BorrowedFd<'_>>| {
            Ok(confinement.start(&Text { group, ..text }, theirs, stderr)?.child)
        };
        let finished = watch.over(start, None).unwrap();
        let mut said = String::new();
        stdout.rewind().unwrap();
        stdout.read_to_string(&mut said).unwrap();
        (finished, said)
    }

    /// Where this machine lets us make groups, a job is born into one, and all of it ends with that.
    #[test]
    fn a_job_is_born_into_its_group() {
        let read = |name: &str| fs::read(Path::new("/proc/self").join(name)).unwrap();
        let Some(own) = own(&read("cgroup"), &read("mountinfo")) else {
            assert!(matches!(Groups::take(SHARE, None), Err(GroupsError::None)));
            return;
        };
        let place = own.join(format!("{PREFIX}test-{}", std::process::id()));
        if fs::create_dir(&place).is_err() {
            // Who may not make one has none.
            assert!(Groups::take(SHARE, None).is_err());
            return;
        }
        let groups = Groups { place, has: Vec::new(), share: SHARE, next: AtomicU64::new(1) };
        let (finished, said) = shell(&groups, "cat /proc/self/cgroup; sleep 61 & exit 7");
        assert_eq!(finished.ended, Ended::Exited(7));
        assert!(said.contains("/job-1\n"), "{said}");
        assert!(!groups.place.join("job-1").exists());
        fs::remove_dir(&groups.place).unwrap();
    }

    /// Where memory can be shared out, a job that wants more than its share ends whole.
    #[test]
    fn a_job_of_many_processes_has_one_share() {
        let share = Share { memory_bytes: Some(64 << 20), processes: 64, nice: 5 };
        let groups = match Groups::take(share, None) {
            Ok(groups) if groups.has.contains(&"memory") => groups,
            Ok(groups) => return assert!(!groups.describe().contains("memory")),
            Err(why) => return assert!(!why.to_string().is_empty()),
        };
        let small = "head -c 8000000 /dev/zero | tail -c 8000000 > /dev/null; exit 7";
        let (finished, _) = shell(&groups, small);
        assert_eq!(finished.ended, Ended::Exited(7));
        assert!(finished.memory_of_all.is_none_or(|most| most > 4 << 20), "{finished:?}");
        // `tail` keeps all of it; each of them would be allowed to.
        let each = "(head -c 30000000 /dev/zero | tail -c 30000000 | (sleep 2; cat > /dev/null)) &";
        let (finished, _) = shell(&groups, &format!("{each} {each} {each} {each} wait; exit 7"));
        assert_eq!(finished.ended, Ended::Killed(9), "{finished:?}");
    }

    #[test]
    fn what_is_not_ours_is_left_as_it_was() {
        let own = hierarchy("cpu hugetlb");
        assert!(matches!(Groups::beneath(own.path(), SHARE, None), Err(GroupsError::NoControllers(_))));
        let own = hierarchy("memory");
        // As where processes of others are.
        fs::create_dir(own.path().join("cgroup.subtree_control")).unwrap();
        let why = Groups::beneath(own.path(), SHARE, None).unwrap_err();
        assert!(matches!(why, GroupsError::NotOurs { .. }), "{why}");
        assert!(why.to_string().contains("is not delegated"), "{why}");
        let gone = tempfile::tempdir().unwrap();
        assert!(matches!(Groups::beneath(gone.path(), SHARE, None), Err(GroupsError::None)));
    }
}
