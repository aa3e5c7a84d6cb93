//! What clang's driver looks at before it decides what to run.
//!
//! It searches for an installation of gcc (to take its headers and libraries), for directories of
//! headers, and for signs of the distribution. Which of them it finds is in the command line of
//! the compiler proper. So all places that it may search are taken with what is in them: folders
//! as folders, the few files that it opens as files. More than it looks for does no harm, as it
//! would be found here too.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::ask::Answers;
use super::layout::{Found, Layout};
use super::loader::Loader;
use super::{NotClosed, Surroundings, settings};
use crate::common::bytes::Bytes;

/// Files that tell the distribution.
const RELEASES: [&str; 10] = [
    "/etc/os-release",
    "/usr/lib/os-release",
    "/etc/lsb-release",
    "/etc/redhat-release",
    "/etc/debian_version",
    "/etc/SuSE-release",
    "/etc/exherbo-release",
    "/etc/alpine-release",
    "/etc/arch-release",
    "/etc/gentoo-release",
];
/// Directories of libraries, in which gcc's are.
const LIBRARY_NAMES: [&str; 5] = ["lib", "lib64", "lib32", "libx32", "libexec"];
/// Directories in those, in which installations of gcc are.
const GCC_NAMES: [&str; 2] = ["gcc", "gcc-cross"];
/// The file by which an installation is known.
const MARK: &str = "crtbegin.o";
/// Which variants of its libraries a system without an operating system has (clang 17 and later).
const VARIANTS: &str = "multilib.yaml";
/// What Apple's say of themselves: their versions are in objects.
const SDK: &str = "SDKSettings.json";
/// How deep an installation's variants of a machine are.
const VARIANT_DEPTH: usize = 4;

/// Adds all that, and what clang has of its own.
///
/// # Errors
///
/// [`NotClosed`] says what stands in the way.
pub fn add(
    layout: &mut Layout,
    loader: &mut Loader,
    answers: &Answers,
    around: &Surroundings,
) -> Result<(), NotClosed> {
    for (_, path) in answers.programs(layout, around) {
        loader.program(layout, &path)?;
    }
    add_resources(layout, Bytes::from(answers.to("resource-dir")).as_path())?;
    settings::add(layout, answers)?;
    for path in RELEASES {
        layout.add(Path::new(path))?;
    }
    for path in layout.list(Path::new("/etc/env.d/gcc"))? {
        layout.file_if_there(&path)?;
    }
    let mut seen = BTreeSet::new();
    for prefix in prefixes(layout, answers)? {
        add_prefix(layout, &prefix, &mut seen)?;
        add_file(layout, &prefix.join("lib/clang-runtimes").join(VARIANTS))?;
    }
    for name in answers.directories("libraries").iter().chain(&answers.directories("programs")) {
        layout.add(name)?;
    }
    Ok(())
}

/// The directory that clang has its own headers and lists in: the lists, and which folders exist.
fn add_resources(layout: &mut Layout, resources: &Path) -> Result<(), NotClosed> {
    let Some(Found::Folder(_)) = layout.add(resources)? else { return Ok(()) };
    for path in layout.list(resources)? {
        layout_folder(layout, &path)?;
    }
    for path in layout.list(&resources.join("lib"))? {
        layout_folder(layout, &path)?;
    }
    for path in layout.list(&resources.join("share"))? {
        layout.file_if_there(&path)?;
    }
    Ok(())
}

fn layout_folder(layout: &mut Layout, path: &Path) -> Result<bool, NotClosed> {
    if !path.is_dir() {
        layout.watch(path);
        return Ok(false);
    }
    Ok(layout.add(path)?.is_some())
}

/// Where clang looks for everything: the system, its own installation by both of its names, and
/// the places where Red Hat's tool sets are.
fn prefixes(layout: &mut Layout, answers: &Answers) -> Result<Vec<PathBuf>, NotClosed> {
    let mut prefixes: Vec<PathBuf> = ["/usr", "/usr/local", "/"].map(PathBuf::from).into();
    let real = layout.file(&answers.program)?;
    for program in [&answers.program, &real] {
        prefixes.extend(program.parent().and_then(Path::parent).map(Path::to_owned));
    }
    for set in layout.list(Path::new("/opt/rh"))? {
        prefixes.push(set.join("root/usr"));
    }
    let mut seen = Vec::new();
    prefixes.retain(|prefix| {
        let real = std::fs::canonicalize(prefix).ok();
        let fresh = real.is_some() && !seen.contains(&real);
        seen.push(real);
        fresh
    });
    Ok(prefixes)
}

/// Adds a file that may come to be there later.
fn add_file(layout: &mut Layout, path: &Path) -> Result<(), NotClosed> {
    match path.is_file() {
        true => layout.file(path).map(drop),
        false => {
            layout.watch(path);
            Ok(())
        }
    }
}

/// Adds what may be looked for below `sysroot`, as it is below `/`.
pub fn add_sysroot(layout: &mut Layout, sysroot: &Path) -> Result<(), NotClosed> {
    for path in layout.list(&sysroot.join("etc/env.d/gcc"))? {
        layout.file_if_there(&path)?;
    }
    for name in [VARIANTS, SDK] {
        add_file(layout, &sysroot.join(name))?;
    }
    let sets = layout.list(&sysroot.join("opt/rh"))?;
    let prefixes = ["usr", "usr/local", ""].map(|prefix| sysroot.join(prefix));
    let mut seen = BTreeSet::new();
    for prefix in prefixes.into_iter().chain(sets.iter().map(|set| set.join("root/usr"))) {
        add_prefix(layout, &prefix, &mut seen)?;
    }
    Ok(())
}

/// Adds what may be looked for below `prefix`; `seen` are the plain paths of libraries that were
/// looked into, as `/lib` may be `/usr/lib`.
pub fn add_prefix(layout: &mut Layout, prefix: &Path, seen: &mut BTreeSet<PathBuf>) -> Result<(), NotClosed> {
    layout.add(prefix)?;
    let mut triples = Vec::new();
    for library in LIBRARY_NAMES {
        let library = prefix.join(library);
        let Some(Found::Folder(real)) = layout.add(&library)? else { continue };
        if !seen.insert(real) {
            continue;
        }
        for gcc in GCC_NAMES {
            triples.extend(add_installations(layout, &library.join(gcc))?);
        }
        // `lib/<triple>`, and installations in there.
        for folder in folders(layout, &library) {
            if is_triple(&folder) {
                layout.add(&folder)?;
                triples.extend(add_installations(layout, &folder.join("gcc"))?);
            }
        }
    }
    add_headers(layout, &prefix.join("include"))?;
    triples.sort_unstable();
    triples.dedup();
    for triple in triples {
        let own = prefix.join(triple);
        for name in LIBRARY_NAMES.iter().chain(&["bin"]) {
            layout_folder(layout, &own.join(name))?;
        }
        add_headers(layout, &own.join("include"))?;
    }
    Ok(())
}

/// Adds `<triple>/<version>` below `gcc`, with their marks; gives the triples.
fn add_installations(layout: &mut Layout, gcc: &Path) -> Result<Vec<PathBuf>, NotClosed> {
    let mut triples = Vec::new();
    if !layout_folder(layout, gcc)? {
        return Ok(triples);
    }
    for triple in layout.list(gcc)?.into_iter().filter(|path| path.is_dir()) {
        layout.add(&triple)?;
        for version in layout.list(&triple)?.into_iter().filter(|path| path.is_dir()) {
            add_variants(layout, &version, VARIANT_DEPTH)?;
            add_headers(layout, &version.join("include"))?;
        }
        triples.extend(triple.file_name().map(PathBuf::from));
    }
    Ok(triples)
}

/// Adds the folder of an installation, and those below it that are one for another variant.
fn add_variants(layout: &mut Layout, folder: &Path, depth: usize) -> Result<(), NotClosed> {
    layout.add(folder)?;
    layout.mark(&folder.join(MARK))?;
    if depth > 0 {
        for below in folders(layout, folder) {
            if below.file_name().is_some_and(|name| name != "include" && name != "plugin") {
                add_variants(layout, &below, depth - 1)?;
            }
        }
    }
    Ok(())
}

/// Adds a directory of headers as a folder, and those in it for C++ and for other machines.
fn add_headers(layout: &mut Layout, include: &Path) -> Result<(), NotClosed> {
    if !layout_folder(layout, include)? {
        return Ok(());
    }
    let mut libraries = vec![include.join("c++")];
    for folder in folders(layout, include) {
        let name = folder.file_name().unwrap_or_default().as_encoded_bytes();
        if name.starts_with(b"g++") {
            layout.add(&folder)?;
        }
        if is_triple(&folder) {
            layout.add(&folder)?;
            libraries.push(folder.join("c++"));
        }
    }
    for library in libraries {
        if !layout_folder(layout, &library)? {
            continue;
        }
        // Versions, `v1`, and in them `backward` and directories for machines.
        for version in layout.list(&library)? {
            if layout_folder(layout, &version)? {
                for below in folders(layout, &version) {
                    let name = below.file_name().unwrap_or_default();
                    if name == "backward" || is_triple(&below) || name == "32" || name == "64" {
                        layout.add(&below)?;
                        let is_variant = |path: &PathBuf| path.ends_with("32") || path.ends_with("64");
                        for variant in folders(layout, &below).into_iter().filter(is_variant) {
                            layout.add(&variant)?;
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

/// The folders in `folder`, sorted; links to folders count, and so does what comes and goes.
fn folders(layout: &mut Layout, folder: &Path) -> Vec<PathBuf> {
    layout.watch(folder);
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir() || kind.is_symlink()))
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    paths.sort_unstable();
    paths
}

/// Whether a name looks like that of a kind of machine: `x86_64-linux-gnu`, `arm-none-eabi`.
fn is_triple(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    name.iter().filter(|&&byte| byte == b'-').count() >= 2 && name.iter().all(|byte| byte.is_ascii_graphic())
}
