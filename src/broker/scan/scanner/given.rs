//! The scanner's answers in the form that jobs are made of, and those that were given before.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::command::Key;
use super::super::disk::Disk;
use super::super::files::{Files, Trail};
use super::super::shared::{InputFile, InputLink, InputSet, Question};
use super::super::{Declined, Scan, Scanned, Search};
use super::{Answer, Scanner};
use crate::common::bytes::Bytes;

/// An answer that was given away, and what it rests on beside the walk: nothing has changed since in the directories
/// in which its files are and that it names, and these are, or are not, what they were.
#[derive(Debug)]
pub(super) struct Given {
    at: u64,
    trail: Trail,
    folders: Box<[Bytes]>,
    here: Box<[Option<(u64, u64)>]>,
    set: Arc<InputSet>,
}

impl Given {
    /// Memory, in bytes, nearly.
    pub(super) fn size(&self) -> usize {
        self.set.size() + self.here.len() * 24 + self.folders.iter().map(|folder| folder.len()).sum::<usize>()
    }
}

impl Scanner {
    /// The answer to a question that was answered before, as long as nothing is otherwise since: reads no
    /// file and runs nothing.
    pub fn again(&mut self, question: &Question<'_>) -> Option<Arc<InputSet>> {
        self.disk.begin();
        let (number, key) = Key::new(question.toolchain, question.argv, question.cwd, question.env);
        let Answer { search, own, .. } = self.remembered(number, &key)?;
        let here = self.identities(question, &search, &own);
        self.given(number, question, &here)
    }

    /// [`Self::inputs`] in the form that jobs are made of.
    ///
    /// # Errors
    ///
    /// [`Declined`] with the reason, when there is no certain answer.
    pub fn input_set(&mut self, question: &Question<'_>) -> Result<Arc<InputSet>, Declined> {
        self.toolchain = question.toolchain;
        let Answer { number, walked, search, own } =
            self.answer(question.argv, question.cwd, question.env)?;
        let here = self.identities(question, &search, &own);
        if let Some(set) = self.given(number, question, &here) {
            return Ok(set);
        }
        let scan = walked.show(&mut self.memory, &mut self.disk, question.absent);
        let mut layout = Layout::default();
        layout.directory(question.cwd, &mut self.disk)?;
        for directory in &search.directories {
            layout.directory(&directory.path, &mut self.disk)?;
        }
        for path in own.iter() {
            layout.directory(path, &mut self.disk)?;
        }
        for path in question.folders {
            layout.directory(path, &mut self.disk)?;
        }
        // Names by which the compiler comes to files that it then knows by shorter ones.
        let mut aliases = Vec::with_capacity(scan.aliases.len());
        for path in &scan.aliases {
            aliases.push(layout.path(path, &mut self.disk)?);
        }
        let files = self.input_files(&scan.files, &mut layout)?;
        let probed = self.input_files(&scan.probed, &mut layout)?;
        let precompiled = self.input_files(&scan.precompiled, &mut layout)?;
        let (links, directories) =
            (layout.links.into_iter().collect(), layout.directories.into_iter().collect());
        let Scan { absent, clock, covered, modules, .. } = scan;
        let around = InputSet { links, directories, absent, search, own, ..InputSet::default() };
        let said = InputSet { covered, clock, modules, is_scanned: true, ..around };
        let set = Arc::new(InputSet { files, probed, precompiled, aliases, ..said });
        // What lies behind links is looked at each time.
        if !question.absent && walked.fleeting.is_empty() {
            let (at, folders) = (self.disk.now(), question.folders.into());
            let trail = self.ground(question, &set);
            self.keep_given(number, Given { at, trail, folders, here, set: set.clone() });
        }
        Ok(set)
    }

    /// The directories of all that an answer has.
    fn ground(&mut self, question: &Question<'_>, set: &InputSet) -> Trail {
        let files = set.files.iter().chain(&set.probed).chain(&set.precompiled);
        let files = files.flat_map(|file| [&file.path[..], &file.real[..]]);
        let links = set.links.iter().map(|link| &link.path[..]);
        let named = files.chain(links).chain(set.aliases.iter().map(|path| &path[..]));
        let holding = named.filter_map(|path| {
            path.iter().rposition(|&byte| byte == b'/').map(|slash| Cow::Borrowed(&path[..=slash]))
        });
        let searched = set.search.directories.iter().map(|directory| &directory.path[..]);
        let more = set.own.iter().chain(question.folders).chain([question.cwd]).map(|path| &path[..]);
        let these = searched.chain(more).map(|path| Cow::Owned([path, b"/"].concat()));
        let all: BTreeSet<Cow<'_, [u8]>> = holding.chain(these).collect();
        self.disk.trail(&all.iter().map(|path| &path[..]).collect::<Vec<_>>())
    }

    fn keep_given(&mut self, number: u64, given: Given) {
        let Some(unit) = self.units.get_mut(&number) else { return };
        self.units_bytes -= unit.size();
        unit.given = Some(given);
        self.units_bytes += unit.size();
    }

    /// Which directories those are that an answer has besides its files.
    fn identities(
        &mut self,
        question: &Question<'_>,
        search: &Search,
        own: &[Bytes],
    ) -> Box<[Option<(u64, u64)>]> {
        let searched = search.directories.iter().map(|directory| &directory.path[..]);
        let more = own.iter().chain(question.folders).chain([question.cwd]).map(|path| &path[..]);
        searched.chain(more).map(|path| self.disk.identity(&[path, b"/"].concat())).collect()
    }

    /// The answer as it was given before, if it is still that.
    fn given(
        &mut self,
        number: u64,
        question: &Question<'_>,
        here: &[Option<(u64, u64)>],
    ) -> Option<Arc<InputSet>> {
        let given = self.units.get(&number)?.given.as_ref()?;
        let stands = (given.at == self.disk.now() || self.disk.state(given.trail) <= given.at)
            && *given.here == *here
            && *given.folders == *question.folders
            && !question.absent;
        stands.then(|| given.set.clone())
    }

    fn input_files(
        &mut self,
        files: &[Scanned],
        layout: &mut Layout,
    ) -> Result<Vec<Arc<InputFile>>, Declined> {
        let mut list = Vec::with_capacity(files.len());
        for file in files {
            let stamp = self.disk.look_at(&file.path).1;
            let file = InputFile {
                path: file.path.clone(),
                real: layout.path(&file.path, &mut self.disk)?,
                digest: self.disk.digest(file.content),
                size: self.disk.length(file.content),
                modified: stamp.map_or((0, 0), |stamp| stamp.modified),
                inode: stamp.map_or((0, 0), |stamp| (stamp.device, stamp.inode)),
            };
            list.push(self.shared(file));
        }
        Ok(list)
    }

    /// The same file as other answers have it.
    fn shared(&mut self, file: InputFile) -> Arc<InputFile> {
        match self.shared.get(&file.path) {
            Some(known) if **known == file => Arc::clone(known),
            _ => {
                let file = Arc::new(file);
                self.shared.insert(file.path.clone(), Arc::clone(&file));
                file
            }
        }
    }
}

/// Collects links, and directories that must exist.
#[derive(Default)]
struct Layout {
    links: BTreeSet<InputLink>,
    directories: BTreeSet<Arc<[u8]>>,
}

impl Layout {
    /// Notes a directory, if it is there.
    fn directory(&mut self, path: &[u8], disk: &mut Disk) -> Result<(), Declined> {
        let path = [path, b"/"].concat();
        let real = self.path(&path, disk)?;
        if disk.identity(&path).is_some() {
            self.directories.insert(real);
        }
        Ok(())
    }

    /// Notes what lies on the way to a path; the path without links and dots.
    fn path(&mut self, path: &[u8], disk: &mut Disk) -> Result<Arc<[u8]>, Declined> {
        let way = disk.way(path).ok_or(Declined::Limit("directories in a path"))?;
        for link in way.links.iter().filter(|link| !self.links.contains(*link)).cloned().collect::<Vec<_>>() {
            self.links.insert(link);
        }
        for left in
            way.left.iter().filter(|left| !self.directories.contains(*left)).cloned().collect::<Vec<_>>()
        {
            self.directories.insert(left);
        }
        Ok(way.real)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Tree {
        root: tempfile::TempDir,
        scanner: Scanner,
    }

    impl Tree {
        fn path(&self, name: &str) -> Bytes {
            Bytes::from(self.root.path().join(name).as_path())
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// What a scan of `NAME/a.c` in its folder finds, and what was remembered of it before.
        fn ask(&mut self, name: &str) -> (Option<Arc<InputSet>>, Arc<InputSet>) {
            self.ask_with(name, &["gcc", "-c", "a.c"])
        }

        fn ask_with(&mut self, name: &str, argv: &[&str]) -> (Option<Arc<InputSet>>, Arc<InputSet>) {
            let argv: Vec<Bytes> = argv.iter().copied().map(Bytes::from).collect();
            let env = [b"PATH=", std::env::var("PATH").unwrap().as_bytes()].concat();
            let (cwd, env) = (self.path(name), [Bytes(env)]);
            let question =
                Question { argv: &argv, cwd: &cwd, env: &env, toolchain: None, absent: false, folders: &[] };
            let before = self.scanner.again(&question);
            (before, self.scanner.input_set(&question).expect("a plain source"))
        }

        /// Whether what was found stands, and is what a new scan finds.
        fn stands(&mut self, name: &str, found: &Arc<InputSet>) -> bool {
            let (before, now) = self.ask(name);
            let stands = before.is_some_and(|before| Arc::ptr_eq(&before, found));
            assert_eq!(stands, Arc::ptr_eq(&now, found));
            stands
        }
    }

    #[test]
    fn what_has_nowhere_to_look_for_headers_is_scanned_all_the_same() {
        let mut tree = Tree { root: tempfile::tempdir().unwrap(), scanner: Scanner::default() };
        tree.write("x/a.c", "int a;\n");
        let (_, found) = tree.ask_with("x", &["gcc", "-nostdinc", "-c", "a.c"]);
        assert!(found.is_scanned && found.search.directories.is_empty());
    }

    #[test]
    fn a_change_elsewhere_in_a_build_makes_no_other_job_be_put_together_anew() {
        let mut tree = Tree { root: tempfile::tempdir().unwrap(), scanner: Scanner::default() };
        for name in ["x", "y"] {
            tree.write(&format!("{name}/a.c"), "#include \"in/h.h\"\nint a;\n");
            tree.write(&format!("{name}/in/h.h"), "int h;\n");
        }
        let (x, y) = (tree.ask("x").1, tree.ask("y").1);
        assert!(tree.stands("x", &x) && tree.stands("y", &y));
        tree.write("y/in/h.h", "int other;\n");
        assert!(tree.stands("x", &x) && !tree.stands("y", &y));
        // A name that was asked for, where x looks: it may be found there now.
        let y = tree.ask("y").1;
        tree.write("x/in/in/h.h", "");
        assert!(tree.stands("y", &y));
        // The folder is the same one, by another way.
        let (from, to) = (tree.root.path().join("x"), tree.root.path().join("z"));
        fs::rename(&from, &to).unwrap();
        std::os::unix::fs::symlink(&to, &from).unwrap();
        assert!(!tree.stands("x", &x) && tree.stands("y", &y));
        let x = tree.ask("x").1;
        fs::remove_file(to.join("in/h.h")).unwrap();
        std::os::unix::fs::symlink("../a.h", to.join("in/h.h")).unwrap();
        tree.write("z/a.h", "int h;\n");
        assert!(!tree.stands("x", &x) && tree.stands("y", &y));
    }
}
