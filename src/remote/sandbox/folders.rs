//! In which folders a compile writes, as far as its command tells.
//!
//! A layer over a folder makes each file in it dearer to find and open (some 12 µs), so only those
//! have one in which a compile may write: its working directory, and where its words say that outputs
//! go. A word that looks like an output and is none costs that little; a folder that is missed would
//! make the compile fail where a local one does not. So whatever might name an output counts, but for
//! words that are known to name inputs.
//!
//! Beneath a layer, folders full of inputs are *locked* again: seen without the layer, where no word
//! of the command points into them.

use std::collections::{BTreeSet, HashMap};

/// Layers over one view; with more folders than that, one layer lies over all.
const LAYERS_MAX: usize = 16;

/// Folders that are locked in one view: those with the most inputs.
const LOCKED_MAX: usize = 32;

/// A folder with fewer inputs is not worth it.
const LOCKED_MIN: usize = 4;

/// Where gcc writes compiled modules without being told.
const MODULES: &[u8] = b"gcm.cache";

/// Options whose names begin so name what is read; nothing else of the kind has outputs.
const READING: [&[u8]; 21] = [
    b"-I",
    b"-L",
    b"-B",
    b"-D",
    b"-U",
    b"-A",
    b"-isystem",
    b"-iquote",
    b"-idirafter",
    b"-include",
    b"-imacros",
    b"-iprefix",
    b"-isysroot",
    b"--sysroot",
    b"-iwithprefix",
    b"-cxx-isystem",
    b"-imultilib",
    b"-stdlib",
    b"-specs",
    b"--specs",
    b"-fplugin",
];

/// Options that take the next word as something that is written.
const WRITING: [&[u8]; 14] = [
    b"-o",
    b"-MF",
    b"-MJ",
    b"-dumpdir",
    b"-dumpbase",
    b"-aux-info",
    b"--output",
    b"-dependency-file",
    b"--serialize-diagnostics",
    b"-serialize-diagnostics",
    b"-index-store-path",
    b"-split-dwarf-output",
    b"-split-dwarf-file",
    b"-stats-file",
];

/// Part of options that say how paths are to be written, as `-ffile-prefix-map=`.
const MAP: &[u8] = b"-prefix-map=";

/// Links that are followed from one path (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// What a view holds, by absolute paths that lead through no link.
pub trait Tree {
    /// Whether there is such a folder.
    fn has_folder(&self, path: &[u8]) -> bool;

    /// What is written in a link.
    fn link(&self, path: &[u8]) -> Option<Vec<u8>>;
}

/// Which parts of a view a job may write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    /// The folders beneath which it may write; none is beneath another.
    pub writable: Vec<Vec<u8>>,
    /// Folders beneath these in which it may not, by the number of the layer; none is beneath another.
    pub locked: Vec<(usize, Vec<u8>)>,
}

impl Layers {
    /// One layer over all.
    pub fn over_all() -> Self {
        Layers { writable: vec![b"/".to_vec()], locked: Vec::new() }
    }

    /// The layers for a compile with these arguments.
    ///
    /// `files` are the paths of the view's files.
    pub fn of<'a>(
        arguments: &[&[u8]],
        cwd: &[u8],
        tree: &impl Tree,
        files: impl Iterator<Item = &'a [u8]>,
    ) -> Self {
        // What a response file says is not looked at.
        if arguments.iter().any(|word| word.starts_with(b"@")) {
            return Layers::over_all();
        }
        let written = written(arguments, cwd, tree);
        let mut writable = outermost(&written);
        if writable.len() > LAYERS_MAX {
            writable = Layers::over_all().writable;
        }
        let locked = locked(&writable, &written, files);
        Layers { writable, locked }
    }
}

/// Every folder that the words of a command may mean to be written to.
fn written(arguments: &[&[u8]], cwd: &[u8], tree: &impl Tree) -> BTreeSet<Vec<u8>> {
    let mut found: BTreeSet<Vec<u8>> = BTreeSet::from([cwd.to_vec()]);
    let mut consider = |path: &[u8]| {
        let path = real(cwd, path, tree);
        // A folder that is named is where things go; else what holds the name is, or will be made in.
        let mut folder = &path[..];
        while !tree.has_folder(folder) {
            let slash = folder.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            if slash == 0 && folder.len() < path.len() {
                return;
            }
            folder = if slash == 0 { b"/" } else { &folder[..slash] };
        }
        if !is_systems(folder) {
            found.insert(folder.to_vec());
        }
    };
    let mut written_next = false;
    for word in arguments {
        if std::mem::replace(&mut written_next, WRITING.contains(word)) {
            consider(word);
            continue;
        }
        named_in(word).into_iter().for_each(&mut consider);
    }
    found
}

/// The outermost folders beneath layers that have enough inputs, and that no folder that may be
/// written is in, or is.
fn locked<'a>(
    writable: &[Vec<u8>],
    written: &BTreeSet<Vec<u8>>,
    files: impl Iterator<Item = &'a [u8]>,
) -> Vec<(usize, Vec<u8>)> {
    let mut counts: HashMap<(usize, &'a [u8]), usize> = HashMap::new();
    for file in files {
        let Some(layer) = writable.iter().position(|folder| is_beneath(file, folder)) else { continue };
        let mut slashes = (1..file.len()).filter(|&at| file[at] == b'/');
        let holds_written =
            |folder: &[u8]| written.iter().any(|path| path == folder || is_beneath(path, folder));
        let begin = writable[layer].len();
        let folder = slashes.find(|&at| at > begin && !holds_written(&file[..at])).map(|at| &file[..at]);
        if let Some(folder) = folder {
            *counts.entry((layer, folder)).or_default() += 1;
        }
    }
    let mut found: Vec<((usize, &[u8]), usize)> = counts.into_iter().collect();
    found.retain(|((_, folder), count)| *count >= LOCKED_MIN && !folder.ends_with(MODULES));
    found.sort_unstable_by_key(|&(place, count)| (std::cmp::Reverse(count), place));
    found.truncate(LOCKED_MAX);
    found.into_iter().map(|((layer, folder), _)| (layer, folder.to_vec())).collect()
}

/// Paths of outputs that one word may hold.
fn named_in(word: &[u8]) -> Vec<&[u8]> {
    let is_map = word.windows(MAP.len()).any(|part| part == MAP);
    if !word.starts_with(b"-") || is_map || READING.iter().any(|option| word.starts_with(option)) {
        return Vec::new();
    }
    for joined in [&b"-o"[..], b"-MF", b"-MJ", b"-dumpdir", b"-dumpbase"] {
        if let Some(value) = word.strip_prefix(joined).filter(|value| !value.is_empty()) {
            return vec![value.strip_prefix(b"=").unwrap_or(value)];
        }
    }
    let behind = |piece: &'_ [u8]| piece.iter().position(|&byte| byte == b'=').map(|at| at + 1);
    let pieces = word.split(|&byte| byte == b',');
    let pieces = pieces.enumerate().filter_map(|(index, piece)| match behind(piece) {
        Some(at) => piece.get(at..),
        None if index > 0 => Some(piece),
        None => None,
    });
    pieces.filter(|piece| !piece.is_empty()).collect()
}

/// Where compilers and their headers are: a layer there would cost the most, and nothing is built
/// there. What is built elsewhere beneath `/usr` (in `/usr/src`, say) has layers.
fn is_systems(folder: &[u8]) -> bool {
    let systems: [&[u8]; 6] = [b"/usr", b"/usr/include", b"/usr/lib", b"/usr/bin", b"/lib", b"/bin"];
    systems.contains(&folder) || folder.starts_with(b"/usr/include/") || folder.starts_with(b"/usr/lib/")
}

/// Where a path leads, links followed; no link leads to `cwd`. What is not there is taken by its name.
fn real(cwd: &[u8], path: &[u8], tree: &impl Tree) -> Vec<u8> {
    let above = if path.starts_with(b"/") { b"" } else { cwd.strip_suffix(b"/").unwrap_or(cwd) };
    let mut real = above.to_vec();
    let parts = |path: &[u8]| path.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec).collect::<Vec<_>>();
    let mut waiting = parts(path);
    let mut links = 0;
    while let Some(part) = waiting.pop() {
        match &part[..] {
            b"" | b"." => {}
            b".." => real.truncate(real.iter().rposition(|&byte| byte == b'/').unwrap_or(0)),
            part => {
                let above = real.len();
                real.push(b'/');
                real.extend_from_slice(part);
                // A chain of more than the kernel follows leads nowhere (path_resolution(7)).
                if links < LINKS_MAX
                    && let Some(target) = tree.link(&real)
                {
                    links += 1;
                    real.truncate(if target.starts_with(b"/") { 0 } else { above });
                    waiting.extend(parts(&target));
                }
            }
        }
    }
    if real.is_empty() { b"/".to_vec() } else { real }
}

/// Those that are beneath no other.
fn outermost(folders: &BTreeSet<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    // Not in the order of their bytes alone: `/a-b` stands between `/a` and `/a/b`.
    for folder in folders {
        if !kept.iter().any(|other| is_beneath(folder, other)) {
            kept.push(folder.clone());
        }
    }
    kept
}

/// Whether a path leads into a folder; a folder is not beneath itself.
fn is_beneath(path: &[u8], folder: &[u8]) -> bool {
    let rest = path.strip_prefix(folder.strip_suffix(b"/").unwrap_or(folder));
    rest.is_some_and(|rest| rest.starts_with(b"/") && rest.len() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOLDERS: [&str; 8] =
        ["/", "/p", "/p/build", "/p/build/sub", "/p/obj", "/p/obj/x", "/p/include", "/usr/include"];

    const LINKS: [(&str, &str); 4] =
        [("/p/build/out", "../obj/x"), ("/p/disk", "/p/build/out"), ("/p/round", "round"), ("/q", "/none/o")];

    struct Example;

    impl Tree for Example {
        fn has_folder(&self, path: &[u8]) -> bool {
            FOLDERS.iter().any(|folder| folder.as_bytes() == path)
        }

        fn link(&self, path: &[u8]) -> Option<Vec<u8>> {
            let found = LINKS.iter().find(|(link, _)| link.as_bytes() == path);
            found.map(|(_, target)| target.as_bytes().to_vec())
        }
    }

    /// The layers of a command in `/p/build` that has these files.
    fn layers(command: &str, files: &[String]) -> Layers {
        let words: Vec<&[u8]> = command.split_whitespace().map(str::as_bytes).collect();
        Layers::of(&words, b"/p/build", &Example, files.iter().map(|file| file.as_bytes()))
    }

    fn text(path: &[u8]) -> String {
        String::from_utf8_lossy(path).into_owned()
    }

    fn check(command: &str, expected: &str) {
        let found: Vec<String> = layers(command, &[]).writable.iter().map(|path| text(path)).collect();
        assert_eq!(found.join(" "), expected, "{command}");
    }

    #[test]
    fn a_compile_writes_where_it_works_and_where_its_outputs_go() {
        check("-c ../a.c -o a.o", "/p/build");
        check("-c ../a.c -o sub/a.o -MF sub/a.d", "/p/build");
        check("-c ../a.c -o ../obj/a.o", "/p/build /p/obj");
        check("-c ../a.c -o/p/obj/a.o -MF../obj/x/a.d", "/p/build /p/obj");
        check("-Wp,-MD,../obj/.a.d -c a.c", "/p/build /p/obj");
        check("-Wa,-al=../obj/a.lst -c a.c", "/p/build /p/obj");
        check("-ftime-trace=/p/obj -c a.c", "/p/build /p/obj");
        check("-ftime-trace=/p/obj/x -c a.c", "/p/build /p/obj/x");
        check("-dumpdir ../obj/ -c a.c", "/p/build /p/obj");
    }

    #[test]
    fn an_output_folder_may_be_a_link_that_leads_elsewhere() {
        check("-c a.c -o out/a.o", "/p/build /p/obj/x");
        check("-c a.c -o ../disk/a.o -MF out/../a.d", "/p/build /p/obj");
        check("-c a.c -dumpdir out/", "/p/build /p/obj/x");
        check("-c a.c -o ../round/a.o", "/p");
        check("-c a.c -o /q/a.o", "/p/build");
        let leads = |cwd: &str, path: &str| text(&real(cwd.as_bytes(), path.as_bytes(), &Example));
        assert_eq!(leads("/", "p/disk/./a.o"), "/p/obj/x/a.o");
        assert_eq!(leads("/p", "build//out/../../../../.."), "/");
    }

    #[test]
    fn what_is_read_has_no_layer() {
        check("-I/p/include -isystem /usr/include -I../include -DX=/p/obj/x -c ../obj/a.c", "/p/build");
        check("-include ../obj/x/a.h -c a.c -fdebug-prefix-map=/usr/include=y", "/p/build");
    }

    #[test]
    fn a_folder_beneath_another_needs_no_layer_of_its_own() {
        check("-o ../../p/obj/x/a.o -MF ../a.d -c a.c", "/p");
        check("-o /a.o", "/");
    }

    #[test]
    fn a_folder_that_is_not_there_may_be_made() {
        check("-o ../obj/none/more/a.o", "/p/build /p/obj");
        check("-o ../none/a.o", "/p");
        check("-fmodule-output=/none/more/a.pcm", "/p/build");
    }

    #[test]
    fn names_that_begin_alike_are_not_beneath_each_other() {
        let set = ["/a", "/a-b", "/a/b"].map(|path| path.as_bytes().to_vec());
        assert_eq!(outermost(&BTreeSet::from(set)), [b"/a".to_vec(), b"/a-b".to_vec()]);
        assert!(is_beneath(b"/a", b"/") && !is_beneath(b"/", b"/") && !is_beneath(b"/a-b", b"/a"));
    }

    #[test]
    fn folders_full_of_inputs_are_locked_where_nothing_is_written() {
        let in_folder =
            |folder: &'static str, count| (0..count).map(move |number| format!("{folder}/{number}.h"));
        let files: Vec<String> = in_folder("/p/build", 9)
            .chain(in_folder("/p/build/inc/deep", 5))
            .chain(in_folder("/p/build/inc", 1))
            .chain(in_folder("/p/build/sub/inner", 4))
            .chain(in_folder("/p/build/few", 3))
            .chain(in_folder("/p/build/gcm.cache", 6))
            .chain(in_folder("/p/include", 9))
            .collect();
        let locked = |command: &str| {
            let found = layers(command, &files).locked;
            found.iter().map(|(layer, path)| format!("{layer}:{}", text(path))).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(locked("-c a.c -o a.o"), "0:/p/build/inc 0:/p/build/sub");
        assert_eq!(locked("-c a.c -o sub/a.o"), "0:/p/build/inc 0:/p/build/sub/inner");
        assert_eq!(locked("-c a.c -o ../a.o"), "0:/p/include 0:/p/build/inc 0:/p/build/sub");
        assert_eq!(locked("-c a.c @more"), "");
    }

    #[test]
    fn a_response_file_may_write_anywhere() {
        check("-c a.c @more", "/");
    }
}
