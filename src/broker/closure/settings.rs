//! clang's configuration files, which count as if what they say stood in each command.
//!
//! Which of them it takes depends on the command's target and mode (Clang's user's manual, "Configuration
//! files"), so all that lie where it looks go along, with those that they include.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::ask::Answers;
use super::layout::Layout;
use super::{NotClosed, clang};
use crate::common::bytes::Bytes;
use crate::common::classify::{Family, Hermetic, Verdict, classify_as};
use crate::common::reason::LocalReason;
use crate::common::toolchain::{is_setting, read_settings};

/// Configuration files of one compiler.
const CONFIGURATIONS_MAX: usize = 1000;
/// The largest that is looked into.
const CONFIGURATION_MAX_BYTES: u64 = 1 << 20;

/// Adds them. What comes to be where others would be counts, too.
///
/// # Errors
///
/// [`NotClosed::Set`] where one says what holds for this machine alone.
pub fn add(layout: &mut Layout, answers: &Answers) -> Result<(), NotClosed> {
    let settings = read_settings(&answers.banner);
    let mut ahead: Vec<PathBuf> = settings.files.iter().map(|path| path.as_path().to_owned()).collect();
    for folder in settings.folders.iter().map(|path| path.as_path().to_owned()).chain(own_folders(answers)) {
        layout.watch(&folder);
        ahead.extend(within(&folder));
    }
    let mut known = ahead.clone();
    while let Some(path) = ahead.pop() {
        // What may not be read here, clang does not read here.
        if rustix::fs::access(&path, rustix::fs::Access::READ_OK).is_err() {
            continue;
        }
        let Some(real) = layout.file_if_there(&path)? else { continue };
        let text = read(&real);
        if let Some(what) = reaches_out(&answers.program, &text) {
            return Err(NotClosed::Set { path: Bytes::from_path(path), what });
        }
        for sysroot in values(&path, &text, b"--sysroot") {
            clang::add_sysroot(layout, &sysroot)?;
        }
        for prefix in values(&path, &text, b"--gcc-toolchain") {
            clang::add_prefix(layout, &prefix, &mut BTreeSet::new())?;
        }
        for included in included(&path, &text) {
            if known.len() >= CONFIGURATIONS_MAX {
                return Err(NotClosed::TooMany { path: Bytes::from_path(path) });
            }
            if !known.contains(&included) {
                known.push(included.clone());
                ahead.push(included);
            }
        }
    }
    Ok(())
}

/// The configuration files in a folder, which may be one of all programs.
fn within(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter(|entry| is_setting(entry.file_name().as_encoded_bytes()));
    named.map(|entry| entry.path()).take(CONFIGURATIONS_MAX)
}

/// Where clang itself is: behind links, or before them if a command says `-no-canonical-prefixes`.
fn own_folders(answers: &Answers) -> Vec<PathBuf> {
    let real = std::fs::canonicalize(&answers.program).ok();
    let mut folders: Vec<PathBuf> = [real.as_deref(), Some(&answers.program)]
        .into_iter()
        .flatten()
        .filter_map(Path::parent)
        .map(Path::to_owned)
        .collect();
    folders.dedup();
    folders
}

/// The words of a file, without its remarks.
fn read(real: &Path) -> Vec<u8> {
    let small = std::fs::metadata(real).is_ok_and(|found| found.len() <= CONFIGURATION_MAX_BYTES);
    let text = if small { std::fs::read(real).unwrap_or_default() } else { Vec::new() };
    let lines = text.split_inclusive(|&byte| byte == b'\n');
    lines.filter(|line| !line.trim_ascii_start().starts_with(b"#")).flatten().copied().collect()
}

/// What it says that means this machine alone, or has a compile read or write more than its command tells. What is
/// no list of options is no file of clang's.
fn reaches_out(program: &Path, text: &[u8]) -> Option<String> {
    // Those that it includes are looked at by themselves.
    let words =
        text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty() && !word.starts_with(b"@"));
    let unquoted = |word: &[u8]| Bytes(word.iter().copied().filter(|byte| !b"\"'".contains(byte)).collect());
    let words: Vec<Bytes> = words.map(unquoted).collect();
    let found = |is: &dyn Fn(&[u8]) -> bool| words.iter().find(|word| is(word)).map(Bytes::to_text);
    if let Some(word) = found(&|word| word.starts_with(b"-include") || word.starts_with(b"-imacros")) {
        return Some(word);
    }
    let command = [&[Bytes::from(program)][..], &words, &["-c", "a.c"].map(Bytes::from)].concat();
    match classify_as(&command, Some(Family::Clang), &|_| Err(String::new())) {
        Verdict::Local(LocalReason::Option { option, .. }) => Some(option.to_text()),
        Verdict::Local(_) => None,
        Verdict::Remote(job) if !job.native.is_empty() => found(&|word| word.ends_with(b"=native")),
        Verdict::Remote(job) => {
            let Hermetic { reads, products, modules, .. } = &job.hermetic;
            let more = !reads.is_empty() || products.names.len() > 1 || modules.is_some();
            more.then(|| "what is read or made besides".to_owned())
        }
    }
}

/// The folders that a configuration file names by an option. `<CFGDIR>` is where it lies itself.
fn values(path: &Path, text: &[u8], option: &[u8]) -> Vec<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let Some(rest) = word.strip_prefix(option) else { continue };
        let named = rest.strip_prefix(b"=").or_else(|| words.next().filter(|_| rest.is_empty()));
        found.extend(named.map(|named| {
            let unquoted: Vec<u8> = named.iter().copied().filter(|byte| !b"\"'".contains(byte)).collect();
            folder.join(Bytes::from(unquoted.strip_prefix(b"<CFGDIR>/").unwrap_or(&unquoted)).as_path())
        }));
    }
    found
}

/// The files that a configuration file names with `@`; relative ones are beside it.
fn included(path: &Path, text: &[u8]) -> Vec<PathBuf> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let words = text.split(|byte| byte.is_ascii_whitespace());
    let names = words.filter_map(|word| word.strip_prefix(b"@")).map(Bytes::from);
    names.map(|name| folder.join(name.as_path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_for_this_machine_alone_is_found() {
        let found = |text: &str| reaches_out(Path::new("/bin/clang"), text.as_bytes());
        for plain in [
            "-O2 -D_GLIBCXX_ASSERTIONS\n-isystem /usr/own --sysroot=/s",
            "--gcc-install-dir=\"/usr/lib/gcc/x86_64-pc-linux-gnu/13\"\n@gentoo-runtimes.cfg\n-Wl,-z,relro",
            "-rtlib=libgcc --unwindlib=libgcc -stdlib=libc++ -fuse-ld=lld -march=x86-64-v3",
            "[section]\nkey = value\n",
            "",
        ] {
            assert_eq!(found(plain), None, "{plain}");
        }
        for (text, what) in [
            ("-O2\n-march=native", "-march=native"),
            ("'-march=native'", "-march=native"),
            ("-include own.h", "-include"),
            ("--config x", "--config"),
            ("-fprofile-use=x.profdata", "what is read or made besides"),
            ("-MD", "what is read or made besides"),
            ("-ftime-trace", "what is read or made besides"),
        ] {
            assert_eq!(found(text).as_deref(), Some(what), "{text}");
        }
    }

    #[test]
    fn folders_that_options_name_are_found_in_each_spelling() {
        let found = values(
            Path::new("/c/a.cfg"),
            b"--sysroot=/s --sysroot <CFGDIR>/../t\n--sysroot=<CFGDIR>/u --sysroot=\"/q\" --gcc-toolchain=/x",
            b"--sysroot",
        );
        assert_eq!(found, ["/s", "/c/../t", "/c/u", "/q"].map(PathBuf::from));
    }

    #[test]
    fn files_that_are_included_are_beside_those_that_include_them() {
        let found = included(Path::new("/c/a.cfg"), b"-O2 @b.cfg\n @/d/c.cfg @");
        assert_eq!(found, ["/c/b.cfg", "/d/c.cfg", "/c/"].map(PathBuf::from));
    }
}
