//! What gcc's driver needs: its sub-programs, its plugin for link-time optimization, its `specs`,
//! and the directories whose presence it tells in `-v` and to the programs that it runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::ask::Answers;
use super::layout::{Found, Layout};
use super::loader::{self, Loader};
use super::{NotClosed, Part, Surroundings};
use crate::common::bytes::Bytes;

/// How deep below its own directory gcc's libraries for other variants of a machine are
/// (`thumb/v7-a+fp/hard`).
const MULTILIB_DEPTH: usize = 4;
/// Directories beside `lib` for other variants of this machine.
const LIBRARY_NAMES: [&str; 4] = ["lib", "lib32", "lib64", "libx32"];

/// Where gcc looks for headers below a sysroot, however it was configured.
pub const SYSROOT_FOLDERS: [&str; 4] = ["usr/include", "usr/local/include", "include", "sys-include"];

/// Adds all that, and says which programs only compiles of one language run: half of what a gcc is made of.
///
/// # Errors
///
/// [`NotClosed`] says what stands in the way.
pub fn add(
    layout: &mut Layout,
    loader: &mut Loader,
    answers: &Answers,
    around: &Surroundings,
) -> Result<Vec<(Part, Bytes)>, NotClosed> {
    let programs = answers.programs(layout, around);
    for needed in ["as", "cc1"] {
        let either = |(name, _): &(&str, PathBuf)| name.starts_with(needed);
        if !programs.iter().any(either) {
            return Err(NotClosed::Missing { path: Bytes::from(needed) });
        }
    }
    let mut proper = Vec::new();
    for (name, path) in &programs {
        loader.program(layout, path)?;
        let part = match *name {
            "cc1" => Part::C,
            "cc1plus" => Part::Cxx,
            "cc1obj" => Part::ObjC,
            "cc1objplus" => Part::ObjCxx,
            _ => continue,
        };
        proper.push((part, Bytes::from(layout.file(path)?.as_path())));
    }
    // A program that is several is no part of one alone.
    let files: BTreeSet<&Bytes> = proper.iter().map(|(_, file)| file).collect();
    if files.len() < proper.len() {
        proper.clear();
    }
    let plugin = Bytes::from(answers.to("file-name=liblto_plugin.so"));
    let plugin = plugin.as_path();
    if plugin.is_absolute() && plugin.is_file() {
        add_plugin(layout, loader, answers, plugin)?;
    }
    let mut known = BTreeSet::new();
    for directory in answers.directories("libraries") {
        let Some(found) = layout.add(&directory)? else { continue };
        if known.insert(found.path().to_owned()) {
            // Where the driver looks for `specs`, in which anything may stand.
            layout.add(&directory.join("specs"))?;
        }
    }
    for directory in answers.directories("programs") {
        layout.add(&directory)?;
    }
    for install in answers.directories("install") {
        add_variants(layout, &install, MULTILIB_DEPTH)?;
        if let Some(parent) = install.parent() {
            layout.add(&parent.join("specs"))?;
        }
    }
    for name in LIBRARY_NAMES {
        layout.add(&Path::new("/").join(name))?;
        layout.add(&Path::new("/usr").join(name))?;
    }
    add_searched(layout, answers)?;
    Ok(proper)
}

/// Adds the folders in which it looks for headers of its own accord, with the links on the way. One that it does not find
/// it passes over, and `-v` tells only where they are in the end.
fn add_searched(layout: &mut Layout, answers: &Answers) -> Result<(), NotClosed> {
    let sysroot = Bytes::from(answers.to("sysroot"));
    let sysroot = if sysroot.is_empty() { Path::new("/") } else { sysroot.as_path() };
    for name in SYSROOT_FOLDERS {
        layout.add(&sysroot.join(name))?;
    }
    for install in answers.directories("install") {
        for name in ["include", "include-fixed"] {
            layout.add(&install.join(name))?;
        }
        if let Some(machine) = install.parent().and_then(Path::file_name) {
            let tools = install.join("../../../..").join(machine);
            for name in ["include", "sys-include"] {
                layout.add(&tools.join(name))?;
            }
            layout.add(&sysroot.join("usr/include").join(machine))?;
        }
    }
    Ok(())
}

/// The plugin is loaded by the linker; its libraries are found as for the driver's own programs.
fn add_plugin(
    layout: &mut Layout,
    loader: &mut Loader,
    answers: &Answers,
    plugin: &Path,
) -> Result<(), NotClosed> {
    match loader::read_needs(&layout.file(&answers.program)?)?.interpreter {
        Some(interpreter) => loader.library(layout, plugin, interpreter.as_path()),
        None => layout.file(plugin).map(|_| ()),
    }
}

/// Adds the folders below gcc's own: which of them exist decides what `-m32` and its like search.
fn add_variants(layout: &mut Layout, folder: &Path, depth: usize) -> Result<(), NotClosed> {
    let Some(Found::Folder(_)) = layout.add(folder)? else { return Ok(()) };
    layout.watch(folder);
    if depth == 0 {
        return Ok(());
    }
    for path in names_of_folders(folder) {
        add_variants(layout, &path, depth - 1)?;
    }
    Ok(())
}

/// The folders in `folder` that can hold libraries: all but those that hold headers and plugins.
fn names_of_folders(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter(|entry| {
            !["include", "include-fixed", "plugin", "finclude", "adainclude", "adalib"]
                .iter()
                .any(|name| entry.file_name() == *name)
        })
        .map(|entry| entry.path())
        .collect();
    paths.sort_unstable();
    paths
}
