//! The user's own folder: `$HOME`, unless that is another user's.
//!
//! With `sudo -E`, root has the `HOME` of whoever called it. What root made there, that user could neither use nor
//! replace: keys that shut it out of every volunteer. So root goes to its own home then.

use std::path::{Path, PathBuf};

use crate::common::trust::files::may_fill;

/// Where the system says whose home is where.
const PASSWD: &str = "/etc/passwd";

/// `.distcc` in the user's own folder.
pub fn distcc_folder() -> Option<PathBuf> {
    let given = std::env::var_os("HOME").filter(|value| !value.is_empty()).map(PathBuf::from)?;
    let uid = rustix::process::geteuid().as_raw();
    let listed = || home_in(&std::fs::read_to_string(PASSWD).ok()?, uid);
    Some(own(given, listed, |home| may_fill(home, uid).is_ok()).join(".distcc"))
}

/// The folder that was given, if it is fit; else the one that the system lists, if that is; else the former,
/// of which whoever uses it learns what is wrong.
fn own(given: PathBuf, listed: impl FnOnce() -> Option<PathBuf>, is_fit: impl Fn(&Path) -> bool) -> PathBuf {
    if is_fit(&given) {
        return given;
    }
    listed().filter(|home| is_fit(home)).unwrap_or(given)
}

/// A user's home in the text of passwd(5).
fn home_in(passwd: &str, uid: u32) -> Option<PathBuf> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let home = fields.get(5).filter(|home| home.starts_with('/'))?;
        (fields.get(2)?.parse() == Ok(uid)).then(|| PathBuf::from(home))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "# users\nroot:x:0:0:root:/root:/bin/bash\nbad:x:7\nann:x:1000:1000:Ann,,,:/home/ann:/bin/sh\n";

    #[test]
    fn root_with_a_users_home_makes_its_keys_in_its_own() {
        let (users, roots) = (PathBuf::from("/home/ann"), PathBuf::from("/root"));
        let listed = || home_in(TEXT, 0);
        assert_eq!(own(users.clone(), listed, |home| home == roots), roots);
        assert_eq!(own(users.clone(), listed, |_| true), users);
        // Where there is none that is fit, what is wrong is said of the one that was given.
        assert_eq!(own(users.clone(), listed, |_| false), users);
        assert_eq!(own(users.clone(), || None, |_| false), users);
    }

    #[test]
    fn homes_are_found_by_number_in_whatever_text() {
        let found = |uid| home_in(TEXT, uid);
        assert_eq!((found(0), found(1000)), (Some("/root".into()), Some("/home/ann".into())));
        assert_eq!((found(7), found(8)), (None, None));
    }
}
