//! Locales, message catalogues and character sets: small sets beside a closure, so that the
//! toolchain itself is the same in every language.
//!
//! Compilers ask the C library for two categories: `LC_CTYPE` (which quotation marks, how wide a
//! character is) and `LC_MESSAGES` (which language). Where those come from is glibc's way
//! (locale(7), gettext(3)): a folder, or an archive of all; then catalogues by language.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::layout::{Layout, Watched};
use super::loader::Loader;
use super::{Answers, Closure, Digests, LastLook, NotClosed};
use crate::common::bytes::Bytes;
use crate::common::inputs::Entry;

const LOCALES: &str = "/usr/lib/locale";
const ARCHIVE: &str = "/usr/lib/locale/locale-archive";
const ALIASES: &str = "/usr/share/locale/locale.alias";
/// Where catalogues are: the C library's own place, and where one distribution adds to it.
const CATALOGUES: [&str; 2] = ["/usr/share/locale", "/usr/share/locale-langpack"];
/// Catalogues of what takes part in a compile, by the beginnings of their names.
const DOMAINS: [&str; 8] = ["gcc", "cpplib", "gas", "bfd", "opcodes", "binutils", "libc.", "libstdc++"];
/// The longest list of aliases or names, and the largest catalogue, that is looked into.
const TEXT_MAX_BYTES: u64 = 16 << 20;
/// Languages in one list.
const LANGUAGES_MAX: usize = 32;

/// How long what was seen of a locale is taken to stand. It changes messages alone, and hardly ever.
const TRUSTED: Duration = Duration::from_secs(1);
/// Locales remembered for one compiler; beyond it the memory starts afresh.
const LOCALES_MAX: usize = 64;

/// What one job's locale needs.
#[derive(Debug)]
pub struct Locale {
    /// Files, links and folders, sorted by path.
    pub entries: Vec<Entry>,
    watched: Vec<Watched>,
    looked: LastLook,
}

/// The locales that jobs had, by what their environment selects; with all tables of character
/// sets, once one needs them.
#[derive(Debug, Default)]
pub struct Locales {
    known: Mutex<HashMap<Wanted, Arc<Locale>>>,
    tables: Mutex<Option<Arc<Locale>>>,
}

impl Locale {
    /// Whether everything that it is made of looks as it did.
    pub fn is_unchanged(&self) -> bool {
        self.looked.stands(&self.watched, TRUSTED)
    }

    fn of(layout: Layout, digests: &Digests) -> Result<Arc<Self>, NotClosed> {
        let (entries, mut watched) = layout.finish(digests)?;
        // Hundreds of tables: their folder tells when one of them is replaced.
        watched.retain(|(path, _)| path.extension().is_none_or(|extension| extension != "so"));
        Ok(Arc::new(Locale { entries, watched, looked: LastLook::new() }))
    }
}

impl Closure {
    /// What the locale needs that a job's environment (`NAME=value`) selects. Remembered.
    ///
    /// # Errors
    ///
    /// [`NotClosed::Locale`] when it comes from a place of the user's own.
    pub fn locale(&self, environment: &[Bytes], digests: &Digests) -> Result<Arc<Locale>, NotClosed> {
        let wanted = Wanted::of(environment)?;
        let known = || self.locales.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known().get(&wanted).cloned();
        if let Some(found) = found.filter(|found| found.is_unchanged()) {
            return Ok(found);
        }
        let locale = self.collect_locale(&wanted, digests)?;
        let mut known = known();
        if known.len() >= LOCALES_MAX {
            known.clear();
        }
        known.insert(wanted, locale.clone());
        Ok(locale)
    }

    fn collect_locale(&self, wanted: &Wanted, digests: &Digests) -> Result<Arc<Locale>, NotClosed> {
        let mut layout = Layout::default();
        if wanted.is_plain() {
            return Locale::of(layout, digests);
        }
        let aliases = Aliases::read(&mut layout)?;
        let ctype = aliases.expand(&wanted.ctype);
        for name in [&ctype, &aliases.expand(&wanted.messages)] {
            add_locale(&mut layout, name)?;
        }
        let mut tables = !is_utf8(codeset(&ctype)) && !is_c(&ctype);
        tables |= wanted.output.as_ref().is_some_and(|charset| !is_utf8(charset));
        for language in &wanted.languages {
            tables |= self.add_catalogues(&mut layout, &aliases.expand(language))?;
        }
        if tables {
            self.add_tables(&mut layout)?;
        }
        Locale::of(layout, digests)
    }

    /// The C library's tables of character sets, which `-finput-charset=` and its like need for all
    /// but a few ([`charset_needs_tables`]).
    ///
    /// # Errors
    ///
    /// [`NotClosed`] when they cannot be read.
    pub fn charsets(&self, digests: &Digests) -> Result<Arc<Locale>, NotClosed> {
        let known = || self.locales.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known().clone();
        if let Some(found) = found.filter(|found| found.is_unchanged()) {
            return Ok(found);
        }
        let mut layout = Layout::default();
        self.add_tables(&mut layout)?;
        let tables = Locale::of(layout, digests)?;
        *known() = Some(tables.clone());
        Ok(tables)
    }

    fn add_tables(&self, layout: &mut Layout) -> Result<(), NotClosed> {
        let Some(interpreter) = &self.interpreter else { return Ok(()) };
        let mut loader = Loader::new(&self.search);
        let libc = self.entries.iter().map(|entry| &entry.path).filter(|path| path.ends_with(b"/libc.so.6"));
        for folder in libc.filter_map(|path| path.as_path().parent()) {
            let folder = folder.join("gconv");
            for path in layout.list(&folder)? {
                if path.extension().is_some_and(|extension| extension == "so") {
                    loader.library(layout, &path, interpreter)?;
                } else {
                    layout.file_if_there(&path)?;
                }
            }
            for path in layout.list(&folder.join("gconv-modules.d"))? {
                layout.file_if_there(&path)?;
            }
        }
        Ok(())
    }

    /// Adds the catalogues of a language; says whether they need tables of character sets.
    fn add_catalogues(&self, layout: &mut Layout, language: &[u8]) -> Result<bool, NotClosed> {
        let mut tables = false;
        for folder in &self.locale_folders {
            for name in variants(language) {
                let messages = folder.join(name.as_path()).join("LC_MESSAGES");
                for path in layout.list(&messages)? {
                    if is_wanted(&path) && layout.file_if_there(&path)?.is_some() {
                        tables |= !is_in_utf8(&path);
                    }
                }
            }
        }
        Ok(tables)
    }
}

/// Whether a character set that an option names needs more than what compilers and the C library
/// have built in.
pub fn charset_needs_tables(name: &[u8]) -> bool {
    let built_in: [&[u8]; 5] = [b"UTF-8", b"UTF-16LE", b"UTF-16BE", b"UTF-32LE", b"UTF-32BE"];
    !built_in.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Where the catalogues of a compiler are: the system's place, and beside a compiler elsewhere.
pub fn folders(answers: &Answers) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = CATALOGUES.iter().map(PathBuf::from).collect();
    let real = std::fs::canonicalize(&answers.program).ok();
    let prefix = real.as_deref().and_then(Path::parent).and_then(Path::parent);
    for folder in prefix.map(|prefix| prefix.join("share/locale")).into_iter() {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// What an environment selects.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Wanted {
    ctype: Bytes,
    messages: Bytes,
    /// For catalogues, the best first.
    languages: Vec<Bytes>,
    /// The character set of messages, where it is not the locale's.
    output: Option<Bytes>,
}

impl Wanted {
    fn of(environment: &[Bytes]) -> Result<Self, NotClosed> {
        // As `getenv` has it: the first counts; an empty one is none.
        let value = |name: &str| {
            let entry =
                environment.iter().find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="));
            entry.filter(|value| !value.is_empty()).map(Bytes::from)
        };
        for variable in ["LOCPATH", "GCONV_PATH"] {
            if value(variable).is_some() {
                return Err(NotClosed::Locale { variable });
            }
        }
        let category = |name| {
            let chosen = value("LC_ALL").or_else(|| value(name)).or_else(|| value("LANG"));
            // Such a name is refused by the C library: the locale stays C.
            chosen.filter(|name| !name.contains(&b'/')).unwrap_or_else(|| Bytes::from("C"))
        };
        let (ctype, messages) = (category("LC_CTYPE"), category("LC_MESSAGES"));
        let listed = value("LANGUAGE").unwrap_or_default();
        let listed =
            listed.split(|&byte| byte == b':').filter(|name| !name.is_empty() && !name.contains(&b'/'));
        let mut languages: Vec<Bytes> = listed.take(LANGUAGES_MAX).map(Bytes::from).collect();
        languages.push(messages.clone());
        languages.retain(|name| !is_c(name));
        Ok(Wanted { ctype, messages, languages, output: value("OUTPUT_CHARSET") })
    }

    fn is_plain(&self) -> bool {
        is_c(&self.ctype) && is_c(&self.messages)
    }
}

fn is_c(name: &[u8]) -> bool {
    matches!(name, b"C" | b"POSIX")
}

/// Names of locales that stand for others.
#[derive(Default)]
struct Aliases(Vec<(Bytes, Bytes)>);

impl Aliases {
    fn read(layout: &mut Layout) -> Result<Self, NotClosed> {
        let Some(path) = layout.file_if_there(Path::new(ALIASES))? else { return Ok(Aliases::default()) };
        let text = read_some(&path);
        let pair = |line: &[u8]| {
            let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
            let alias = words.next().filter(|word| !word.starts_with(b"#"))?;
            Some((Bytes::from(alias), Bytes::from(words.next()?)))
        };
        Ok(Aliases(text.split(|&byte| byte == b'\n').filter_map(pair).collect()))
    }

    fn expand(&self, name: &Bytes) -> Bytes {
        let found = self.0.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name));
        found.map_or(name, |(_, value)| value).clone()
    }
}

fn read_some(path: &Path) -> Vec<u8> {
    let mut text = Vec::new();
    if let Ok(file) = File::open(path) {
        // What cannot be read says nothing.
        let _ = file.take(TEXT_MAX_BYTES).read_to_end(&mut text);
    }
    text
}

/// Adds the files of the two categories, and the archive if the locale is in there.
fn add_locale(layout: &mut Layout, name: &[u8]) -> Result<(), NotClosed> {
    if is_c(name) {
        return Ok(());
    }
    let names = variants(name);
    layout.watch(Path::new(ARCHIVE));
    if archive_has(&names) {
        layout.file(Path::new(ARCHIVE))?;
    }
    for name in names {
        let folder = Path::new(LOCALES).join(name.as_path());
        layout.watch(&folder);
        for file in ["LC_CTYPE", "LC_MESSAGES", "LC_MESSAGES/SYS_LC_MESSAGES"] {
            layout.file_if_there(&folder.join(file))?;
        }
    }
    Ok(())
}

/// Whether the archive of locales knows one of `names`. One that makes no sense is taken to.
fn archive_has(names: &[Bytes]) -> bool {
    let Ok(mut file) = File::open(ARCHIVE) else { return false };
    let mut header = [0; 32];
    if file.read_exact(&mut header).is_err() {
        return true;
    }
    let number = |at: usize| {
        u64::from(u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]))
    };
    // Behind magic, serial and the table of names: offset and length of the names themselves.
    let (offset, length) = (number(20), number(24).min(TEXT_MAX_BYTES));
    let mut text = Vec::new();
    let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.take(length).read_to_end(&mut text));
    read.is_err() || text.split(|&byte| byte == 0).any(|known| names.iter().any(|name| name[..] == *known))
}

/// The names under which a locale may be found: with and without territory, modifier, and
/// character set, the latter also in its plainest form.
fn variants(name: &[u8]) -> Vec<Bytes> {
    let (rest, modifier) = split_at(name, b'@');
    let (rest, codeset) = split_at(rest, b'.');
    let (language, territory) = split_at(rest, b'_');
    if language.is_empty() || language.starts_with(b".") {
        return Vec::new();
    }
    let plain = codeset.get(1..).map(normalized).unwrap_or_default();
    let mut found: Vec<Bytes> = Vec::new();
    for territory in [territory, b""] {
        for codeset in [codeset, &plain, b""] {
            for modifier in [modifier, b""] {
                let name = Bytes([language, territory, codeset, modifier].concat());
                if !found.contains(&name) {
                    found.push(name);
                }
            }
        }
    }
    found
}

/// Splits before the first `mark`, which goes to the second part.
fn split_at(text: &[u8], mark: u8) -> (&[u8], &[u8]) {
    let at = text.iter().position(|&byte| byte == mark).unwrap_or(text.len());
    text.split_at(at)
}

fn codeset(name: &[u8]) -> &[u8] {
    let (rest, _) = split_at(name, b'@');
    split_at(rest, b'.').1.get(1..).unwrap_or_default()
}

/// `.` and a character set's letters and digits in lower case; `iso` before digits alone.
fn normalized(codeset: &[u8]) -> Vec<u8> {
    let letters: Vec<u8> =
        codeset.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(u8::to_ascii_lowercase).collect();
    let digits = letters.iter().all(u8::is_ascii_digit);
    [&b"."[..], if digits { b"iso" } else { b"" }, &letters].concat()
}

fn is_utf8(codeset: &[u8]) -> bool {
    normalized(codeset) == b".utf8"
}

/// Whether a catalogue is of something that takes part in a compile.
fn is_wanted(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.ends_with(b".mo") && DOMAINS.iter().any(|domain| name.starts_with(domain.as_bytes()))
}

/// Whether a catalogue says that it is in UTF-8; in another character set it is converted.
fn is_in_utf8(path: &Path) -> bool {
    let text = read_some(path);
    let Some(at) = memchr::memmem::find(&text, b"charset=") else { return false };
    let name = &text[at + b"charset=".len()..];
    let end = name.iter().position(|byte| !byte.is_ascii_graphic()).unwrap_or(name.len());
    is_utf8(&name[..end])
}

#[cfg(test)]
#[path = "locale_tests.rs"]
mod tests;
