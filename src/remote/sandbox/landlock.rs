//! What a job without a view of its own may open (landlock(7)): this machine's compilers, to read and
//! run; its own folder, to do anything in.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, Scope,
};

/// The newest version whose rules are made here; older kernels keep to what they know.
const NEWEST: ABI = ABI::V6;

/// From this version on signals stay within.
const SIGNALS: i64 = 6;

/// The version that the kernel speaks; `None` when it speaks none, or may not.
#[allow(unsafe_code)]
pub fn version() -> Option<i64> {
    /// `LANDLOCK_CREATE_RULESET_VERSION`.
    const VERSION: u32 = 1;
    // SAFETY: with this flag the kernel looks at no memory.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0_usize, VERSION)
    };
    (version > 0).then_some(version)
}

/// Whether a kernel of this version keeps jobs from signalling others.
pub fn sees_to_signals(version: i64) -> bool {
    version >= SIGNALS
}

/// Rules for one job. What does not exist needs no rule.
pub fn ruleset(readable: &[PathBuf], devices: &[PathBuf], own: &Path) -> io::Result<OwnedFd> {
    let made = || -> Result<Option<OwnedFd>, landlock::RulesetError> {
        let (all, read) = (AccessFs::from_all(NEWEST), AccessFs::from_read(NEWEST));
        let mut rules = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(all)?
            .handle_access(AccessNet::from_all(NEWEST))?
            .scope(Scope::from_all(NEWEST))?
            .create()?;
        let nodes = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeSock;
        let file: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::WriteFile;
        let readable = readable.iter().map(|path| (path.as_path(), read));
        let devices = devices.iter().map(|path| (path.as_path(), file));
        for (path, access) in readable.chain(devices).chain([(own, all & !nodes)]) {
            let Ok(place) = PathFd::new(path) else { continue };
            let access = if path.is_dir() { access } else { access & AccessFs::from_file(NEWEST) };
            rules = rules.add_rule(PathBeneath::new(place, access))?;
        }
        Ok(rules.into())
    };
    made().map_err(io::Error::other)?.ok_or_else(|| io::Error::other("there is no Landlock"))
}
