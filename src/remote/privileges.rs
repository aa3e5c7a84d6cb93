//! Ceasing to be root, before anything that a client said is looked at.

use std::ffi::CString;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

/// Who runs the daemon when root starts it and names nobody.
const DEFAULT_USERS: [&str; 2] = ["distcc", "nobody"];

/// Why the daemon does not run as it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrivilegeError {
    /// No such user.
    #[error("there is no user {0}")]
    NoSuchUser(String),
    /// Neither of the default users exists.
    #[error("there is neither a user distcc nor a user nobody; name one with --user")]
    NoDefaultUser,
    /// Only root can become another user.
    #[error("only root can become user {0}")]
    NotRoot(String),
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

/// Becomes `user`, or the default user; does nothing when not started as root. To be called while
/// the process has one thread: each thread has its own credentials, later ones inherit.
///
/// Returns whether the process is still root, because it was told to be.
///
/// # Errors
///
/// Returns [`PrivilegeError`]; the process must not go on then.
pub fn drop_root(user: Option<&str>) -> Result<bool, PrivilegeError> {
    if !rustix::process::geteuid().is_root() {
        return match user {
            Some(user)
                if find(user).map(|account| account.uid) != Some(rustix::process::geteuid().as_raw()) =>
            {
                Err(PrivilegeError::NotRoot(user.to_owned()))
            }
            _ => Ok(false),
        };
    }
    let (name, account) = match user {
        Some(user) => (user, find(user).ok_or_else(|| PrivilegeError::NoSuchUser(user.to_owned()))?),
        None => DEFAULT_USERS
            .iter()
            .find_map(|name| Some((*name, find(name)?)))
            .ok_or(PrivilegeError::NoDefaultUser)?,
    };
    if account.uid == 0 {
        return Ok(true);
    }
    become_account(account).map_err(|error| PrivilegeError::Refused { user: name.to_owned(), error })?;
    Ok(false)
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
    fn a_user_who_does_not_exist_is_an_error() {
        let error = drop_root(Some("no-such-user-here")).expect_err("no such user");
        assert!(matches!(error, PrivilegeError::NoSuchUser(_) | PrivilegeError::NotRoot(_)));
    }

    #[test]
    fn root_has_number_zero() {
        assert_eq!(find("root"), Some(Account { uid: 0, gid: 0 }));
    }
}
