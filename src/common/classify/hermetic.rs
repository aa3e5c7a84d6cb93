//! A command as it stands, run among the client's own files.

use super::{Modules, Writer};
use crate::common::bytes::Bytes;
use crate::common::limits::{ITEM_MAX_BYTES, WORDS_MAX};
use crate::common::reason::LocalReason;

/// What a command means where the client's own files lie under the client's own paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hermetic {
    /// Why the job can be done in this way alone: what preprocessed text cannot carry.
    pub needed: Option<LocalReason>,
    /// Why it cannot be done in this way: what must be said differently elsewhere.
    pub refused: Option<LocalReason>,
    /// What options name to be read besides what the preprocessor includes, as written: response
    /// files, profiles, lists of the sanitizers, specs, plugins.
    pub reads: Vec<Read>,
    /// What a local compile may make.
    pub products: Products,
    /// Whether the compiler notes or compares the modification times of headers, as clang does for
    /// precompiled ones: unless they are the client's own, it must run on the client.
    pub times: bool,
    /// What the command says of modules, if anything.
    pub modules: Option<Modules>,
    /// Whether two compiles here would give different bytes as well: a random stamp, times, addresses.
    /// There is nothing to compare then, and nothing to keep for another time.
    pub varies: bool,
}

/// Something that an option names to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// As written: relative to the working directory, or absolute. A folder that is not read as a whole
    /// only has to be there.
    pub path: Bytes,
    /// Whether it is a folder of which everything is read.
    pub whole_folder: bool,
    /// Whether it may be absent: the compiler then goes without.
    pub optional: bool,
    /// The file whose absolute name is the name of what is read in the folder `path`, with `#` for each
    /// slash: what gcc does with profiles.
    pub mangled: Option<Mangled>,
    /// Whether it is code that the compiler loads: then the libraries that it needs are read, too.
    pub plugin: bool,
    /// Whether it is a file of specs that gcc looks for: which one it means, only gcc knows, and its text was not
    /// looked at ([`plain_specs`](super::plain_specs)).
    pub specs: bool,
    /// Whether the driver runs it, or what is in it.
    pub programs: bool,
    /// Whether it holds words of the command: the driver reads it, and no compiler tells of it.
    pub response: bool,
    /// Whether it lies in the folder of plugins that the compiler has: then `path` is a mere name, until
    /// somebody knows that folder.
    pub short: bool,
}

/// A file by which another one is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mangled {
    /// As it is named itself.
    pub file: Bytes,
    /// What is left out of its absolute name, where this begins so; may be empty.
    pub prefix: Bytes,
}

impl Read {
    /// A file that must be there.
    pub fn needed(path: &[u8]) -> Self {
        Read {
            path: path.into(),
            whole_folder: false,
            optional: false,
            mangled: None,
            plugin: false,
            programs: false,
            specs: false,
            response: false,
            short: false,
        }
    }

    /// A response file.
    pub(super) fn response(path: &[u8]) -> Self {
        Read { response: true, ..Read::needed(path) }
    }

    /// A file without which the compiler goes on.
    pub(super) fn optional(path: &[u8]) -> Self {
        Read { optional: true, ..Read::needed(path) }
    }

    /// A file in `folder` whose name is made of the absolute path of `file`, as far as that goes on behind
    /// `prefix`.
    pub(super) fn mangled(folder: &[u8], file: &[u8], prefix: &[u8]) -> Self {
        let mangled = Mangled { file: file.into(), prefix: prefix.into() };
        Read { mangled: Some(mangled), ..Read::optional(folder) }
    }

    /// What is read by a compile in `directory`, the working directory as the compiler names it
    /// (`$PWD`, where that is right).
    pub fn path_in(&self, directory: &[u8]) -> Bytes {
        let path = absolute(directory, &self.path);
        let Some(Mangled { file, prefix }) = &self.mangled else { return path };
        let whole = absolute(directory, file);
        let behind = whole.strip_prefix(&prefix[..]).filter(|_| !prefix.is_empty());
        let file = behind.map_or(&whole[..], without_slashes);
        let part = |part: &[u8]| if part == b".." { b"^".to_vec() } else { part.to_vec() };
        let parts: Vec<Vec<u8>> = file.split(|&byte| byte == b'/').map(part).collect();
        [&path[..], b"/", &parts.join(&b'#')].concat().into()
    }
}

fn without_slashes(path: &[u8]) -> &[u8] {
    let slashes = path.iter().take_while(|&&byte| byte == b'/').count();
    &path[slashes..]
}

/// A path that begins at the root, otherwise as written.
fn absolute(directory: &[u8], path: &[u8]) -> Bytes {
    if path.starts_with(b"/") { path.into() } else { [directory, b"/", path].concat().into() }
}

/// The files that a compile may make, as the compiler names them: relative to the working directory,
/// or absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Products {
    /// By their whole names; the first is the object or assembly file.
    pub names: Vec<Bytes>,
    /// By how their names begin, up to the number of a pass or the like.
    pub beginnings: Vec<Bytes>,
    /// What writes them, where that is not done plainly.
    pub writers: Vec<(Bytes, Writer)>,
}

impl Products {
    /// What writes the file of this name.
    pub fn writer(&self, name: &Bytes) -> Writer {
        let known = self.writers.iter().find(|(known, _)| known == name);
        known.map_or(Writer::Plain, |(_, writer)| *writer)
    }

    /// Whether any is written behind what is there.
    pub fn appends(&self) -> bool {
        self.writers.iter().any(|(_, writer)| *writer == Writer::Log)
    }

    /// Whether a compile may make a file of this name, as the compiler names it.
    pub fn allow(&self, name: &[u8]) -> bool {
        let continues = |beginning: &Bytes| {
            name.strip_prefix(&beginning[..]).is_some_and(|rest| !rest.contains(&b'/') && !rest.is_empty())
        };
        self.names.iter().any(|known| **known == *name) || self.beginnings.iter().any(continues)
    }
}

/// Why a volunteer must not run this command; `None` when it may.
///
/// What it reads and writes, the sandbox decides; here is only what no client of ours sends.
pub fn refuse_hermetic(words: &[Bytes], environment: &[Bytes]) -> Option<String> {
    if words.is_empty() {
        return Some("no command".to_owned());
    }
    if words.len() > WORDS_MAX || environment.len() > WORDS_MAX {
        return Some("too many words".to_owned());
    }
    let odd = |word: &&Bytes| word.len() > ITEM_MAX_BYTES || word.contains(&0);
    if words.iter().chain(environment).any(|word| odd(&word)) {
        return Some("a word that is too long, or has a NUL".to_owned());
    }
    let named = |entry: &Bytes| entry.iter().position(|&byte| byte == b'=').is_some_and(|at| at > 0);
    (!environment.iter().all(named)).then(|| "a variable without a name".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_named_by_the_absolute_path() {
        let check = |folder: &str, file: &str, expected: &str| {
            let read = Read::mangled(folder.as_bytes(), file.as_bytes(), b"");
            assert_eq!(read.path_in(b"/tmp/w").to_text(), expected, "{folder} {file}");
        };
        check("pd", "o/a.gcda", "/tmp/w/pd/#tmp#w#o#a.gcda");
        check("/pd", "./o/../a.gcda", "/pd/#tmp#w#.#o#^#a.gcda");
        check(".", "/o/a.gcda", "/tmp/w/./#o#a.gcda");
        let prefixed = Read::mangled(b"pd", b"o/a.gcda", b"/tmp");
        assert_eq!(prefixed.path_in(b"/tmp/w").to_text(), "/tmp/w/pd/w#o#a.gcda");
        assert_eq!(prefixed.path_in(b"/x/w").to_text(), "/x/w/pd/#x#w#o#a.gcda");
        assert_eq!(Read::needed(b"../x").path_in(b"/tmp/w").to_text(), "/tmp/w/../x");
    }

    #[test]
    fn a_product_is_one_of_the_names_or_continues_a_beginning() {
        let (names, beginnings) = (vec!["o/a.o".into()], vec!["o/a.c.2".into()]);
        let products = Products { names, beginnings, ..Products::default() };
        for name in ["o/a.o", "o/a.c.252t.optimized"] {
            assert!(products.allow(name.as_bytes()), "{name}");
        }
        for name in ["o/a.o.x", "a.o", "o/a.c.2", "o/a.c.2/x", "o/a.c.x", ""] {
            assert!(!products.allow(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_command_of_odd_shape_is_refused() {
        let refuse = |words: &[&[u8]], environment: &[&[u8]]| {
            let own = |list: &[&[u8]]| list.iter().map(|word| Bytes::from(*word)).collect::<Vec<_>>();
            refuse_hermetic(&own(words), &own(environment)).is_some()
        };
        assert!(!refuse(&[b"gcc", b"-wrapper", b"sh", b""], &[b"PATH=/bin", b"A="]));
        assert!(refuse(&[], &[]));
        assert!(refuse(&[b"a\0b"], &[]));
        assert!(refuse(&[b"gcc"], &[b"PATH"]));
        assert!(refuse(&[b"gcc"], &[b"=x"]));
        assert!(refuse(&[b"gcc"], &[b"A=\0"]));
        assert!(refuse(&[&[b'x'; ITEM_MAX_BYTES + 1]], &[]));
    }
}
