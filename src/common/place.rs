//! Where the shims and the broker of one user meet.
//!
//! The rule is pure: it takes variables and returns paths. Shim and broker both follow it, and the
//! shim that starts a broker also tells it which place it chose ([`CHOSEN`]), so that the two never
//! differ.

use crate::common::bytes::Bytes;

/// The variable by which a shim tells the broker that it starts which directory it chose.
pub const CHOSEN: &str = "_DISTCC_BROKER_DIR";

/// The longest path that fits into a socket address, its closing NUL not counted.
pub const SOCKET_PATH_MAX_BYTES: usize = 107;

/// The longest file name of a place.
const LONGEST_NAME: &str = "broker.sock";

/// What the rule depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surroundings<'a> {
    /// [`CHOSEN`].
    pub chosen: Option<&'a [u8]>,
    /// `$DISTCC_DIR`.
    pub distcc_dir: Option<&'a [u8]>,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<&'a [u8]>,
    /// `$TMPDIR`.
    pub temporary_dir: Option<&'a [u8]>,
    /// The working directory, for a `$DISTCC_DIR` that is relative.
    pub cwd: &'a [u8],
    /// Who asks.
    pub uid: u32,
}

impl<'a> Surroundings<'a> {
    /// Picks the variables by `lookup`.
    pub fn of(lookup: impl Fn(&str) -> Option<&'a [u8]>, cwd: &'a [u8], uid: u32) -> Self {
        let filled = |name| lookup(name).filter(|value| !value.is_empty());
        Surroundings {
            chosen: filled(CHOSEN),
            distcc_dir: filled("DISTCC_DIR"),
            runtime_dir: filled("XDG_RUNTIME_DIR"),
            temporary_dir: filled("TMPDIR"),
            cwd,
            uid,
        }
    }
}

/// One directory in which a broker may live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The directory.
    pub directory: Bytes,
    /// What the rule would have taken if its path were short enough; the value of [`CHOSEN`] that
    /// leads another program to this same place.
    pub asked: Bytes,
    /// Goes before each file's name; not empty when `directory` stands in for one whose socket
    /// would have too long a path.
    prefix: String,
    /// Whether the user chose the directory, rather than this rule.
    given: bool,
}

impl Place {
    /// The broker's socket.
    pub fn socket(&self) -> Bytes {
        self.file("broker.sock")
    }

    /// The lock under which a shim starts a broker.
    pub fn start_lock(&self) -> Bytes {
        self.file("start.lock")
    }

    /// What went wrong when a broker was last started; empty when nothing did.
    pub fn start_log(&self) -> Bytes {
        self.file("start.log")
    }

    /// The lock that a broker holds as long as it lives.
    pub fn broker_lock(&self) -> Bytes {
        self.file("broker.lock")
    }

    /// The path of another file of the broker.
    pub fn file(&self, name: &str) -> Bytes {
        Bytes([&self.directory[..], b"/", self.prefix.as_bytes(), name.as_bytes()].concat())
    }

    /// Whether a directory with this owner and mode is fit to be this place, for `uid`.
    ///
    /// A directory that the user named may be readable for others, as `~/.distcc` mostly is: the
    /// socket itself is 0600 and both ends check their peer. One of our own making is private.
    pub fn accepts(&self, owner: u32, mode: u32, uid: u32) -> bool {
        if self.given { owner == uid && mode & 0o022 == 0 } else { is_private(owner, mode, uid) }
    }
}

/// Whether a directory with this owner and mode belongs to `uid` and nobody else may look into it.
pub fn is_private(owner: u32, mode: u32, uid: u32) -> bool {
    owner == uid && mode & 0o077 == 0
}

/// Whether `uid` is meant to put things into a directory with this owner and mode. The system keeps everybody
/// from others' directories but root, and what root makes there shuts their owners out.
pub fn is_open_to(owner: u32, mode: u32, uid: u32) -> bool {
    uid != 0 || owner == 0 || mode & 0o002 != 0
}

/// The places to try, the best first; never none.
///
/// `$DISTCC_DIR` comes first, and what stands in for it is for when it cannot be used: it is
/// somebody else's, as where a site shares one, or others may write to it. Else the runtime
/// directory comes first, and the temporary one is for when that cannot be used.
pub fn candidates(around: &Surroundings<'_>) -> Vec<Place> {
    if let Some(given) = around.chosen.or(around.distcc_dir) {
        let directory = absolute(given, around.cwd);
        let in_place = shortened(directory.clone(), around.distcc_dir.is_some(), around);
        let elsewhere = stand_in(directory, around);
        // A chosen directory may be a private one of the rule's own.
        let is_other = around.distcc_dir.is_some() && in_place != elsewhere;
        return if is_other { vec![in_place, elsewhere] } else { vec![in_place] };
    }
    let runtime = around.runtime_dir.filter(|dir| dir.starts_with(b"/"));
    let mut directories: Vec<Bytes> =
        runtime.map(|dir| Bytes([dir, b"/distcc"].concat())).into_iter().collect();
    directories.push(temporary(around.temporary_dir, around.uid));
    directories.into_iter().map(|directory| shortened(directory, false, around)).collect()
}

fn absolute(directory: &[u8], cwd: &[u8]) -> Bytes {
    if directory.starts_with(b"/") {
        return Bytes::from(directory);
    }
    Bytes([cwd, b"/", directory].concat())
}

fn temporary(directory: Option<&[u8]>, uid: u32) -> Bytes {
    let base = directory.filter(|dir| dir.starts_with(b"/")).unwrap_or(b"/tmp");
    Bytes([base, format!("/distcc-{uid}").as_bytes()].concat())
}

/// The place in `directory`, or where its path is too long for a socket, the place that stands in
/// for it.
fn shortened(directory: Bytes, given: bool, around: &Surroundings<'_>) -> Place {
    if directory.len() + 1 + LONGEST_NAME.len() <= SOCKET_PATH_MAX_BYTES {
        return Place { asked: directory.clone(), directory, prefix: String::new(), given };
    }
    stand_in(directory, around)
}

/// The place that stands in for `directory`: a private one with a short path, where names begin
/// with a hash of the other's.
fn stand_in(directory: Bytes, around: &Surroundings<'_>) -> Place {
    let prefix = format!("{:016x}-", fnv1a(&directory));
    let runtime = around.runtime_dir.filter(|dir| dir.starts_with(b"/"));
    let stand_ins = runtime.map(|dir| Bytes([dir, b"/distcc"].concat())).into_iter();
    let stand_in = stand_ins
        .chain([temporary(around.temporary_dir, around.uid)])
        .find(|dir| dir.len() + 1 + prefix.len() + LONGEST_NAME.len() <= SOCKET_PATH_MAX_BYTES)
        .unwrap_or_else(|| temporary(None, around.uid));
    Place { directory: stand_in, asked: directory, prefix, given: false }
}

/// FNV-1a, 64 bit: the names that it tells apart are all of one user.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: Surroundings<'_> = Surroundings {
        chosen: None,
        distcc_dir: None,
        runtime_dir: None,
        temporary_dir: None,
        cwd: b"/work",
        uid: 7,
    };

    fn check(around: Surroundings<'_>, expected: &[&str]) {
        let sockets: Vec<String> = candidates(&around).iter().map(|place| place.socket().to_text()).collect();
        assert_eq!(sockets, expected);
    }

    #[test]
    fn the_users_directory_comes_first_and_a_private_one_stands_in_for_it() {
        let around = Surroundings { runtime_dir: Some(b"/run/user/7"), ..BARE };
        let stand_in =
            |directory: &str| format!("/run/user/7/distcc/{:016x}-broker.sock", fnv1a(directory.as_bytes()));
        check(Surroundings { distcc_dir: Some(b"/d"), ..around }, &["/d/broker.sock", &stand_in("/d")]);
        let relative = Surroundings { distcc_dir: Some(b"d"), ..around };
        check(relative, &["/work/d/broker.sock", &stand_in("/work/d")]);
    }

    #[test]
    fn the_runtime_directory_comes_before_the_temporary_one() {
        check(BARE, &["/tmp/distcc-7/broker.sock"]);
        let around = Surroundings { temporary_dir: Some(b"/var/tmp"), ..BARE };
        check(around, &["/var/tmp/distcc-7/broker.sock"]);
        let around = Surroundings { runtime_dir: Some(b"/run/user/7"), ..around };
        check(around, &["/run/user/7/distcc/broker.sock", "/var/tmp/distcc-7/broker.sock"]);
    }

    #[test]
    fn what_the_starting_shim_chose_comes_before_all() {
        check(
            Surroundings { chosen: Some(b"/tmp/distcc-7"), distcc_dir: None, ..BARE },
            &["/tmp/distcc-7/broker.sock"],
        );
    }

    #[test]
    fn a_path_too_long_for_a_socket_gets_a_short_name_elsewhere() {
        let long = [b"/".as_slice(), &[b'x'; 120]].concat();
        let around = Surroundings { distcc_dir: Some(&long), ..BARE };
        let place = &candidates(&around)[0];
        assert_eq!(place.directory, *"/tmp/distcc-7");
        assert!(place.socket().len() <= SOCKET_PATH_MAX_BYTES);
        let other = [b"/".as_slice(), &[b'y'; 120]].concat();
        let other = &candidates(&Surroundings { distcc_dir: Some(&other), ..BARE })[0];
        assert_ne!(place.socket(), other.socket());
        assert_ne!(place.start_lock(), other.start_lock());
    }

    #[test]
    fn the_broker_finds_the_place_that_the_shim_chose() {
        let long = [b"/".as_slice(), &[b'x'; 120]].concat();
        for distcc_dir in [None, Some(&b"/d"[..]), Some(&long[..])] {
            let around = Surroundings { distcc_dir, runtime_dir: Some(b"/run/user/7"), ..BARE };
            for place in candidates(&around) {
                let told = Surroundings { chosen: Some(&place.asked), cwd: b"/", ..around };
                assert!(candidates(&told).contains(&place), "{place:?}");
            }
        }
    }

    #[test]
    fn every_socket_fits_whatever_is_long() {
        let long = [b"/".as_slice(), &[b'x'; 200]].concat();
        let around = Surroundings { runtime_dir: Some(&long), temporary_dir: Some(&long), ..BARE };
        for place in candidates(&around) {
            assert!(place.socket().len() <= SOCKET_PATH_MAX_BYTES, "{place:?}");
        }
    }

    #[test]
    fn a_directory_of_our_own_making_is_closed_to_others() {
        let place = &candidates(&BARE)[0];
        assert!(place.accepts(7, 0o700, 7));
        assert!(!place.accepts(7, 0o750, 7));
        assert!(!place.accepts(8, 0o700, 7));
    }

    #[test]
    fn root_makes_nothing_in_another_users_directory() {
        assert!(!is_open_to(1000, 0o755, 0) && !is_open_to(1000, 0o775, 0));
        assert!(is_open_to(0, 0o755, 0) && is_open_to(1000, 0o1777, 0));
        // Whether anybody else may, the system knows.
        assert!(is_open_to(0, 0o755, 1000) && is_open_to(1000, 0o700, 1000));
    }

    #[test]
    fn a_directory_of_the_user_may_be_read_but_not_written_by_others() {
        let place = &candidates(&Surroundings { distcc_dir: Some(b"/d"), ..BARE })[0];
        assert!(place.accepts(7, 0o755, 7));
        assert!(!place.accepts(7, 0o775, 7));
        assert!(!place.accepts(0, 0o755, 7));
    }
}
