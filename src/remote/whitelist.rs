//! Which compilers the classic protocol may run: a client of it names a program, and proves nothing.
//!
//! The rules are those of distccd 3.4 (distccd(1), "SECURITY CONSIDERATIONS"): a name without
//! directories that is in a folder of allowed compilers, or on the administrator's list, or
//! anything at all where that was asked for. Native links do not come here: they name a toolchain
//! by its contents.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::common::bytes::Bytes;
use crate::common::program::{basename, candidates};

/// Where distributions put links to the compilers that are allowed.
const FOLDERS: [&str; 2] = ["/usr/local/lib/distcc", "/usr/lib/distcc"];

/// Directories that a client may name without meaning more than the name.
const USUAL: [&str; 2] = ["/usr/bin/", "/bin/"];

/// The longest list that is read, in bytes.
const LIST_MAX_BYTES: u64 = 1 << 20;

/// Why a compiler is not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Not a name.
    #[error("`{0}` is not the name of a compiler")]
    NoName(Bytes),
    /// It has a directory.
    #[error("{0} has a directory, and only names are taken (see --enable-tcp-insecure)")]
    Directory(Bytes),
    /// It is in no folder.
    #[error("{name} is in none of the folders of allowed compilers ({folders})")]
    NotAllowed {
        /// The name.
        name: Bytes,
        /// The folders that were looked into.
        folders: String,
    },
    /// It is not on the list.
    #[error("{0} is not on the list of commands (DISTCC_CMDLIST)")]
    NotListed(Bytes),
    /// It is allowed, and not there. The client is told so.
    #[error("{0} was not found")]
    Missing(Bytes),
}

/// What the administrator allows.
#[derive(Clone, Debug)]
pub enum Policy {
    /// Names that are in one of these folders.
    Folders(Vec<PathBuf>),
    /// Programs of which the last `words` components are those of what the client says.
    List {
        /// Their paths.
        programs: Vec<PathBuf>,
        /// How many components must agree.
        words: usize,
    },
    /// Everything that can be run.
    Everything,
}

/// The compilers that may be run.
#[derive(Clone, Debug)]
pub struct Whitelist {
    policy: Policy,
    search_path: OsString,
}

impl Policy {
    /// The usual folders and one more, if given.
    pub fn folders(more: Option<&Path>) -> Self {
        Policy::Folders(more.into_iter().chain(FOLDERS.iter().map(Path::new)).map(Path::to_owned).collect())
    }

    /// The list in a file: one path in each line (`DISTCC_CMDLIST`).
    ///
    /// # Errors
    ///
    /// Returns what reading it gave.
    pub fn list(file: &Path, words: usize) -> std::io::Result<Self> {
        use std::io::Read;
        let mut text = Vec::new();
        std::fs::File::open(file)?.take(LIST_MAX_BYTES).read_to_end(&mut text)?;
        let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        let programs = lines.filter(|line| line.starts_with(b"/"));
        Ok(Policy::List { programs: programs.map(|line| OsStr::from_bytes(line).into()).collect(), words })
    }
}

impl Whitelist {
    /// What `policy` allows, looked for along `search_path`.
    pub fn new(policy: Policy, search_path: OsString) -> Self {
        Whitelist { policy, search_path }
    }

    /// The program that a client means by `compiler`.
    ///
    /// # Errors
    ///
    /// Returns why it is not run.
    pub fn resolve(&self, compiler: &Bytes) -> Result<PathBuf, Rejection> {
        if compiler.is_empty() || compiler.contains(&0) || compiler.starts_with(b"-") {
            return Err(Rejection::NoName(compiler.clone()));
        }
        match &self.policy {
            Policy::Everything => self.find(compiler),
            Policy::List { programs, words } => {
                let listed = programs.iter().find(|program| same_end(program, compiler, *words));
                listed.cloned().ok_or_else(|| Rejection::NotListed(compiler.clone()))
            }
            Policy::Folders(folders) => {
                let name = without_usual_directory(compiler);
                if name.is_empty() || name.contains(&b'/') {
                    return Err(Rejection::Directory(compiler.clone()));
                }
                let name = Bytes::from(name);
                let allowed = folders.iter().any(|folder| is_program(&folder.join(name.as_path())));
                if !allowed || matches!(&name[..], b"." | b"..") {
                    let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
                    return Err(Rejection::NotAllowed { name, folders: folders.join(", ") });
                }
                self.find(&name)
            }
        }
    }

    /// Along the path, past folders whose programs are distcc itself. A path that is not there
    /// stands for its last component.
    fn find(&self, compiler: &Bytes) -> Result<PathBuf, Rejection> {
        let path = self.search_path.as_bytes();
        let here = |name: &[u8]| {
            let places = candidates(name, path).map(|place| place.as_path().to_owned());
            places.filter(|place| place.is_absolute()).find(|place| is_program(place) && !is_distcc(place))
        };
        here(compiler)
            .or_else(|| here(basename(compiler)))
            .ok_or_else(|| Rejection::Missing(compiler.clone()))
    }
}

fn without_usual_directory(compiler: &[u8]) -> &[u8] {
    let behind = |usual: &&str| {
        let (front, rest) = compiler.split_at_checked(usual.len())?;
        front.eq_ignore_ascii_case(usual.as_bytes()).then_some(rest)
    };
    USUAL.iter().find_map(behind).unwrap_or(compiler)
}

fn same_end(program: &Path, compiler: &Bytes, words: usize) -> bool {
    let last = |path: &Path| {
        path.components().rev().take(words).map(|part| part.as_os_str().to_owned()).collect::<Vec<_>>()
    };
    last(program) == last(compiler.as_path())
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

fn is_distcc(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|real| real.file_name() == Some(OsStr::new("distcc")))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine(tempfile::TempDir);

    impl Machine {
        fn new() -> Self {
            let machine = Machine(tempfile::tempdir().expect("a directory"));
            for name in ["bin/gcc", "bin/other", "allowed/gcc", "allowed/gone"] {
                let path = machine.path(name);
                std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
                std::fs::write(&path, "").expect("a file");
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
            }
            machine
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn check(&self, policy: &Policy, compiler: &str, expected: &str) {
            let whitelist = Whitelist::new(policy.clone(), self.path("bin").into());
            let compiler = compiler.replace("ROOT", &self.0.path().display().to_string());
            let said = match whitelist.resolve(&compiler.as_str().into()) {
                Ok(path) => path.strip_prefix(self.0.path()).expect("one of ours").display().to_string(),
                Err(rejection) => rejection.to_string(),
            };
            assert!(said.contains(expected), "{compiler}: {said}");
        }
    }

    #[test]
    fn only_names_in_a_folder_are_run() {
        let machine = Machine::new();
        let policy = Policy::Folders(vec![machine.path("allowed")]);
        machine.check(&policy, "gcc", "bin/gcc");
        machine.check(&policy, "/usr/bin/gcc", "bin/gcc");
        machine.check(&policy, "/BIN/gcc", "bin/gcc");
        machine.check(&policy, "other", "none of the folders");
        machine.check(&policy, "gone", "was not found");
        machine.check(&policy, "..", "none of the folders");
        machine.check(&policy, "ROOT/bin/gcc", "has a directory");
        machine.check(&policy, "/usr/bin/../bin/gcc", "has a directory");
        machine.check(&policy, "", "not the name");
        machine.check(&policy, "-c", "not the name");
    }

    #[test]
    fn a_list_replaces_what_the_client_says() {
        let machine = Machine::new();
        let list = machine.path("list");
        std::fs::write(&list, format!("{}\n# none\n", machine.path("bin/gcc").display())).expect("a file");
        let one = Policy::list(&list, 1).expect("a list");
        machine.check(&one, "/opt/x/gcc", "bin/gcc");
        machine.check(&one, "other", "not on the list");
        let two = Policy::list(&list, 2).expect("a list");
        machine.check(&two, "/opt/bin/gcc", "bin/gcc");
        machine.check(&two, "/opt/x/gcc", "not on the list");
    }

    #[test]
    fn everything_is_run_where_that_was_asked_for() {
        let machine = Machine::new();
        machine.check(&Policy::Everything, "other", "bin/other");
        machine.check(&Policy::Everything, "ROOT/bin/other", "bin/other");
        machine.check(&Policy::Everything, "/nowhere/other", "bin/other");
        machine.check(&Policy::Everything, "gone", "was not found");
    }
}
