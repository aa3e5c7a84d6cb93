//! Ceasing to be root, before anything that a client said is looked at.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

/// Who runs the daemon when root starts it and names nobody.
const DEFAULT_USERS: [&str; 3] = ["distcc", "distccd", "nobody"];

/// Why the daemon does not run as it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrivilegeError {
    /// No such user.
    #[error("there is no user {0}")]
    NoSuchUser(String),
    /// Neither of the default users exists.
    #[error("there is none of the users distcc, distccd and nobody; name one with --user")]
    NoDefaultUser,
    /// The kernel refused.
    #[error("cannot become user {user}: {error}")]
    Refused {
        /// Who.
        user: String,
        /// Why.
        error: rustix::io::Errno,
    },
}

/// A user by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Account {
    uid: u32,
    gid: u32,
}

/// As whom the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As a user of no power.
    Ordinary,
    /// As root, because it was told to.
    Root,
    /// As whoever started it, although another user was named: only root can choose, and
    /// distccd(1) has `--user` mean nothing to others.
    Unchanged,
}

/// Becomes `user`, or the default user; changes nothing when not started as root. To be called while
/// the process has one thread: each thread has its own credentials, later ones inherit.
///
/// # Errors
///
/// Returns [`PrivilegeError`]; the process must not go on then.
pub fn drop_root(user: Option<&str>) -> Result<Standing, PrivilegeError> {
    let own = rustix::process::geteuid();
    if !own.is_root() {
        let other = user.is_some_and(|user| find(user).is_none_or(|account| account.uid != own.as_raw()));
        return Ok(if other { Standing::Unchanged } else { Standing::Ordinary });
    }
    let (name, account) = wanted(user)?;
    if account.uid == 0 {
        return Ok(Standing::Root);
    }
    become_account(account).map_err(|error| PrivilegeError::Refused { user: name.to_owned(), error })?;
    Ok(Standing::Ordinary)
}

/// The user and group that root becomes; `None` where it stays what it is, or is not root.
pub fn becomes(user: Option<&str>) -> Option<(u32, u32)> {
    let (_, account) = wanted(user).ok().filter(|_| rustix::process::geteuid().is_root())?;
    (account.uid != 0).then_some((account.uid, account.gid))
}

/// Whom root becomes.
fn wanted(user: Option<&str>) -> Result<(&str, Account), PrivilegeError> {
    match user {
        Some(user) => Ok((user, find(user).ok_or_else(|| PrivilegeError::NoSuchUser(user.to_owned()))?)),
        None => DEFAULT_USERS
            .iter()
            .find_map(|name| Some((*name, find(name)?)))
            .ok_or(PrivilegeError::NoDefaultUser),
    }
}

/// Makes a folder where only root can, for the user whom root is about to become. One that is there is
/// left as it is: whether it is fit is found out by its user.
///
/// # Errors
///
/// Returns what the file system returned.
pub fn make_folder_for(user: Option<&str>, folder: &Path) -> io::Result<()> {
    let Ok((_, account)) = wanted(user) else { return Ok(()) };
    if !rustix::process::geteuid().is_root() || account.uid == 0 {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent)?;
    }
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => std::os::unix::fs::lchown(folder, Some(account.uid), Some(account.gid)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Becomes the owner of a folder, and works in it; where the folder can be found from then on. Root alone
/// can, and may be the only one who can get there (systemd keeps such folders behind a closed one).
///
/// # Errors
///
/// Returns what the system returned; the process must not go on then.
pub fn become_owner_of(folder: &Path) -> io::Result<PathBuf> {
    let found = fs::metadata(folder)?;
    if !rustix::process::geteuid().is_root() || found.uid() == 0 {
        return Ok(folder.to_owned());
    }
    std::env::set_current_dir(folder)?;
    become_account(Account { uid: found.uid(), gid: found.gid() })?;
    Ok(PathBuf::from("/proc/self/cwd"))
}

fn become_account(account: Account) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    set_thread_groups(&[gid])?;
    set_thread_gid(gid)?;
    set_thread_uid(uid)
}

/// A user by name, from wherever this machine keeps its users.
#[allow(unsafe_code)]
fn find(name: &str) -> Option<Account> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` ends with a NUL. The answer is static storage that only a later call
    // overwrites; there is no other thread, and what is needed is copied before we return.
    let entry = unsafe { libc::getpwnam(name.as_ptr()).as_ref() }?;
    Some(Account { uid: entry.pw_uid, gid: entry.pw_gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_who_does_not_exist_ends_root_and_means_nothing_to_others() {
        let name = "no-such-user-here";
        let expected = match rustix::process::geteuid().is_root() {
            true => Err(PrivilegeError::NoSuchUser(name.to_owned())),
            false => Ok(Standing::Unchanged),
        };
        assert_eq!(drop_root(Some(name)), expected);
    }

    #[test]
    fn root_has_number_zero() {
        assert_eq!(find("root"), Some(Account { uid: 0, gid: 0 }));
    }
}
