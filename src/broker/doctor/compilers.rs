//! The compilers on `PATH`, and what stands before them: distcc's own links, ccache's, scripts.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::check::Check;
use crate::common::bytes::Bytes;
use crate::common::invocation::Invocation;
use crate::common::program::candidates;

/// Names under which compilers are called.
const NAMES: [&str; 6] = ["gcc", "g++", "cc", "c++", "clang", "clang++"];

/// What a file of a compiler's name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Distcc,
    Ccache,
    /// A script that calls distcc.
    Loop,
    Compiler,
}

/// The first of a script that is looked at for a call of distcc.
const SCRIPT_MAX_BYTES: u64 = 64 << 10;

fn kind(file: &Path) -> Option<Kind> {
    let real = std::fs::canonicalize(file).ok()?;
    let found = std::fs::metadata(&real).ok()?;
    if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
        return None;
    }
    let name = real.file_name()?.to_string_lossy().into_owned();
    match name.as_str() {
        "distcc" => return Some(Kind::Distcc),
        "ccache" => return Some(Kind::Ccache),
        _ => {}
    }
    let mut begin = Vec::new();
    std::fs::File::open(&real).ok()?.take(SCRIPT_MAX_BYTES).read_to_end(&mut begin).ok()?;
    let calls = begin.starts_with(b"#!") && memchr::memmem::find(&begin, b"distcc").is_some();
    Some(if calls { Kind::Loop } else { Kind::Compiler })
}

/// The files of one name on `PATH`, in order.
fn files(name: &str, around: &Invocation) -> Vec<(PathBuf, Kind)> {
    let path = around.variable("PATH").unwrap_or_default();
    let paths =
        candidates(name.as_bytes(), path).map(|file: Bytes| around.cwd.as_path().join(file.as_path()));
    paths.filter_map(|file| Some((file.clone(), kind(&file)?))).collect()
}

/// The compilers that a build would find behind distcc, by name.
pub fn on_path(around: &Invocation) -> Vec<(&'static str, PathBuf)> {
    let mut found: Vec<(&'static str, PathBuf)> = Vec::new();
    for name in NAMES {
        let file = files(name, around).into_iter().find(|(_, kind)| *kind == Kind::Compiler);
        let Some((file, _)) = file else { continue };
        // `cc` is most often another name of one that was met.
        let real = std::fs::canonicalize(&file).ok();
        if !found.iter().any(|(_, known)| std::fs::canonicalize(known).ok() == real) {
            found.push((name, file));
        }
    }
    found
}

/// Whether distcc, ccache and compilers stand in an order that works.
pub fn order_in_path(around: &Invocation) -> Vec<Check> {
    let prefix = around.variable("CCACHE_PREFIX").unwrap_or_default();
    let with_prefix = memchr::memmem::find(prefix, b"distcc").is_some();
    let bad: Vec<Check> =
        NAMES.iter().filter_map(|name| order_of(name, &files(name, around), with_prefix)).collect();
    match bad.is_empty() {
        true => vec![Check::good("PATH", "distcc, ccache and compilers stand in an order that works")],
        false => bad,
    }
}

/// What is wrong with the files of one name.
fn order_of(name: &str, files: &[(PathBuf, Kind)], with_prefix: bool) -> Option<Check> {
    let at = |kind: Kind| files.iter().position(|(_, other)| *other == kind);
    let folder = |at: usize| files[at].0.parent().unwrap_or(Path::new("/")).display().to_string();
    let compiler = at(Kind::Compiler);
    if let Some(looping) = at(Kind::Loop).filter(|at| compiler.is_none_or(|compiler| *at < compiler)) {
        let file = files[looping].0.display();
        return Some(
            Check::bad("PATH", &format!("masquerade loop: {file} is a script that calls distcc, which finds it again as its {name}"))
                .mend(&format!("rm {file}; distcc --masquerade {} makes links that distcc knows", folder(looping))),
        );
    }
    if let (Some(distcc), None) = (at(Kind::Distcc), compiler) {
        return Some(
            Check::bad(
                "PATH",
                &format!("masquerade loop: behind the link {} there is no {name}", files[distcc].0.display()),
            )
            .mend(&format!("apt install the compiler, or rm {}", files[distcc].0.display())),
        );
    }
    let (ccache, distcc) = (at(Kind::Ccache)?, at(Kind::Distcc));
    let ahead = distcc.is_some_and(|distcc| ccache < distcc);
    match (ahead, with_prefix) {
        // Then distcc would be called by ccache twice over.
        (true, _) => Some(
            Check::bad("PATH", &format!("ccache ({}) stands before distcc ({}): every compile is preprocessed here, and ccache takes distcc for the compiler", folder(ccache), folder(distcc.unwrap_or_default())))
                .mend(&format!("export CCACHE_PREFIX=distcc, and take {} out of PATH", folder(distcc.unwrap_or_default()))),
        ),
        (false, false) if distcc.is_none() => Some(
            Check::bad("PATH", &format!("ccache ({}) is called for {name}, and does not call distcc", folder(ccache)))
                .mend("export CCACHE_PREFIX=distcc"),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kinds: &[Kind], with_prefix: bool, expected: &str) {
        let files: Vec<(PathBuf, Kind)> = kinds
            .iter()
            .enumerate()
            .map(|(at, kind)| (PathBuf::from(format!("/d{at}/gcc")), *kind))
            .collect();
        let found = order_of("gcc", &files, with_prefix).map(|check| check.found).unwrap_or_default();
        assert!(found.starts_with(expected) && found.is_empty() == expected.is_empty(), "{kinds:?}: {found}");
    }

    #[test]
    fn orders_that_work_are_told_from_those_that_do_not() {
        use Kind::{Ccache, Compiler, Distcc, Loop};
        check(&[Compiler], false, "");
        check(&[Distcc, Compiler], false, "");
        check(&[Distcc, Ccache, Compiler], false, "");
        check(&[Ccache, Compiler], true, "");
        check(&[Ccache, Compiler], false, "ccache (/d0) is called for gcc");
        check(&[Ccache, Distcc, Compiler], false, "ccache (/d0) stands before distcc (/d1)");
        check(&[Loop, Compiler], false, "masquerade loop: /d0/gcc is a script");
        check(&[Compiler, Loop], false, "");
        check(&[Distcc], false, "masquerade loop: behind the link /d0/gcc");
    }
}
