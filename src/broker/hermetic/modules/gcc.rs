//! gcc's compiled modules: where they lie, and which others they were made with.
//!
//! Without a map a module `a.b:c` lies in `gcm.cache/a.b-c.gcm`. A map is a file of lines, each with a
//! module's name and its file; one that begins with `$root` says below which folder files are. Each compiled
//! module has a section of text that says what it imports, and under which names that was found.

use std::fs;
use std::io::Read;
use std::path::Path;

use object::elf::FileHeader32;
use object::endian::Endianness;
use object::read::elf::FileHeader;

use crate::broker::plain_file;
use crate::common::bytes::Bytes;
use crate::common::limits::INPUT_MAX_BYTES;
use crate::common::reason::ModuleRule;

/// The folder of compiled modules without a map.
const USUAL_ROOT: &[u8] = b"gcm.cache";

/// The longest map: a hundred bytes for each of ten thousand modules.
const MAP_MAX_BYTES: u64 = 1 << 20;

/// A module's name in that of a file.
pub fn flat(name: &[u8]) -> Bytes {
    Bytes(name.iter().map(|&byte| if byte == b':' { b'-' } else { byte }).collect())
}

/// Where compiled modules lie.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Map {
    roots: Vec<Bytes>,
    files: Vec<(Bytes, Option<Bytes>)>,
    /// Whether the names in `files` are all that are known.
    is_whole: bool,
}

impl Map {
    /// Without a file.
    pub fn usual() -> Self {
        Map { roots: vec![USUAL_ROOT.into()], files: Vec::new(), is_whole: false }
    }

    /// The map in a file.
    pub fn read(path: &Bytes) -> Result<Self, ModuleRule> {
        let mut text = Vec::new();
        let (file, _) = plain_file::open(path.as_path()).map_err(|_| ModuleRule::Unknown)?;
        file.take(MAP_MAX_BYTES + 1).read_to_end(&mut text).map_err(|_| ModuleRule::Unknown)?;
        if text.len() as u64 > MAP_MAX_BYTES { Err(ModuleRule::Unknown) } else { Ok(Map::parse(&text)) }
    }

    fn parse(text: &[u8]) -> Self {
        let mut map = Map { is_whole: true, ..Map::default() };
        for line in text.split(|&byte| byte == b'\n') {
            let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            let (Some(name), file) = (words.next(), words.next().map(Bytes::from)) else { continue };
            match name {
                b"$root" => map.roots.extend(file),
                name => map.files.push((name.into(), file)),
            }
        }
        // Before the first word about it, files are below the working directory.
        map.roots.insert(0, Bytes::from("."));
        map
    }

    /// The folders below which files are.
    pub fn roots(&self) -> &[Bytes] {
        &self.roots
    }

    /// Whether it names headers.
    pub fn has_headers(&self) -> bool {
        self.files.iter().any(|(name, _)| is_header(name))
    }

    /// Everywhere that the file of a module may be; `told` is the name that another one has for it.
    pub fn places(&self, name: &[u8], told: Option<&Bytes>) -> Vec<Bytes> {
        let mapped: Vec<Option<&Bytes>> = self
            .files
            .iter()
            .filter(|(known, _)| &known[..] == name)
            .map(|(_, file)| file.as_ref())
            .collect();
        let usual = Bytes([&flat(name)[..], b".gcm"].concat());
        let mut files: Vec<&Bytes> = mapped.iter().map(|file| file.unwrap_or(&usual)).collect();
        files.extend(told);
        if !self.is_whole {
            files.push(&usual);
        }
        let below = |file: &Bytes| -> Vec<Bytes> {
            if file.starts_with(b"/") {
                return vec![file.clone()];
            }
            // As gcc writes it: a root that is the working directory is left out.
            let within = |root: &Bytes| match &root[..] {
                b"." => file.clone(),
                root => [root, b"/", &file[..]].concat().into(),
            };
            self.roots.iter().map(within).collect()
        };
        let mut places: Vec<Bytes> = files.into_iter().flat_map(below).collect();
        places.dedup();
        places
    }
}

/// Whether a name is that of a header, which a module's never is.
fn is_header(name: &[u8]) -> bool {
    name.iter().any(|byte| b"/<\"".contains(byte))
}

/// The modules that a compiled one imports, with the files that it had for them.
///
/// # Errors
///
/// Returns why that is not known.
pub fn imports(path: &Path) -> Result<Vec<(Bytes, Option<Bytes>)>, ModuleRule> {
    let unknown = || ModuleRule::Unknown;
    if fs::metadata(path).map_err(|_| unknown())?.len() > INPUT_MAX_BYTES {
        return Err(unknown());
    }
    let bytes = plain_file::read(path).map_err(|_| unknown())?;
    told(section(&bytes).ok_or_else(unknown)?)
}

/// The section for readers.
fn section(bytes: &[u8]) -> Option<&[u8]> {
    let header = FileHeader32::<Endianness>::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let sections = header.sections(endian, bytes).ok()?;
    let (_, section) = sections.section_by_name(endian, b".gnu.c++.README")?;
    use object::read::elf::SectionHeader;
    section.data(endian, bytes).ok()
}

/// Lines such as `import: a.b a.b.gcm`.
fn told(text: &[u8]) -> Result<Vec<(Bytes, Option<Bytes>)>, ModuleRule> {
    let mut imports = Vec::new();
    for line in text.split(|byte| matches!(byte, 0 | b'\n')) {
        let rest = [&b"import: "[..], b"export: "].iter().find_map(|start| line.strip_prefix(*start));
        let Some(rest) = rest else { continue };
        let (name, file) = match rest.iter().position(|&byte| byte == b' ') {
            Some(at) => (&rest[..at], Some(Bytes::from(&rest[at + 1..]))),
            None => (rest, None),
        };
        if is_header(name) {
            return Err(ModuleRule::Header);
        }
        imports.push((Bytes::from(name), file));
    }
    Ok(imports)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Vec<Bytes> {
        names.iter().map(|name| Bytes::from(*name)).collect()
    }

    #[test]
    fn a_module_lies_where_the_map_says() {
        let usual = Map::usual();
        assert_eq!(usual.places(b"a.b:c", None), list(&["gcm.cache/a.b-c.gcm"]));
        assert_eq!(
            usual.places(b"a", Some(&"q/x.gcm".into())),
            list(&["gcm.cache/q/x.gcm", "gcm.cache/a.gcm"])
        );
        let map = Map::parse(b"# x\n$root d\r\nfoo  q/foo.gcm more\n\nbar /abs.gcm\nbaz\n");
        assert_eq!(map.places(b"foo", None), list(&["q/foo.gcm", "d/q/foo.gcm"]));
        assert_eq!(map.places(b"bar", None), list(&["/abs.gcm"]));
        assert_eq!(map.places(b"baz", None), list(&["baz.gcm", "d/baz.gcm"]));
        assert_eq!(map.places(b"none", None), list(&[]));
        assert!(!map.has_headers() && Map::parse(b"/usr/include/stdio.h x.gcm\n").has_headers());
    }

    #[test]
    fn a_compiled_module_tells_what_it_imports() {
        let text = b"GNU C++ module\0module: foo\nimport: bar bar.gcm\0export: foo:part foo-part.gcm\0";
        let (bar, part) = (Some("bar.gcm".into()), Some("foo-part.gcm".into()));
        assert_eq!(told(text), Ok(vec![("bar".into(), bar), ("foo:part".into(), part)]));
        assert_eq!(told(b"import: ./x.h ,/x.h.gcm\n"), Err(ModuleRule::Header));
        assert!(section(b"\x7fELF").is_none() && section(b"").is_none());
    }
}
