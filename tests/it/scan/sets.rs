//! What a job is given of a scan: contents, links, directories.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use distcc::broker::scan::{InputSet, Question, SharedScanner};
use distcc::common::bytes::Bytes;
use distcc::common::toolchain::Digest;

struct Project {
    directory: tempfile::TempDir,
    scanner: SharedScanner,
}

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let project = Project {
            directory: tempfile::tempdir().expect("a directory"),
            scanner: SharedScanner::default(),
        };
        files.iter().for_each(|(name, text)| project.write(name, text));
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().canonicalize().expect("a path").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, text).expect("a file");
    }

    fn bytes(&self, name: &str) -> Arc<[u8]> {
        Arc::from(&Bytes::from(self.path(name).as_path())[..])
    }

    fn inputs(&self, command: &str) -> Arc<InputSet> {
        let argv: Vec<Bytes> = command.split(' ').map(Bytes::from).collect();
        let cwd = Bytes::from(self.path("").as_path());
        let env = [Bytes::from("PATH=/usr/bin:/bin")];
        let question =
            Question { argv: &argv, cwd: &cwd, env: &env, toolchain: None, absent: true, folders: &[] };
        self.scanner.inputs(&question).expect("an answer")
    }
}

fn real(paths: impl Iterator<Item = Arc<[u8]>>) -> Vec<PathBuf> {
    paths.map(|path| Path::new(Bytes::from(&path[..]).as_os_str()).to_owned()).collect()
}

#[test]
fn a_set_has_files_links_directories_and_absent_names() {
    let project = Project::new(&[
        (
            "a.c",
            "#include <in/../x.h>\n#if __has_include(\"probe.h\") && !__has_include(\"gone.h\")\n#endif\n",
        ),
        ("include/v1/x.h", "#include \"y.h\"\n"),
        ("include/v1/in/z.h", ""),
        ("include/v1/y.h", "int y;\n"),
        ("probe.h", ""),
        ("empty/keep/x", ""),
    ]);
    symlink("v1", project.path("include/current")).expect("a link");
    symlink(project.path("include"), project.path("inc")).expect("a link");
    let set = project.inputs("gcc -nostdinc -Iempty -Iinc/current -c a.c");
    let found = real(set.files.iter().map(|file| file.real.clone()));
    let expected = ["a.c", "include/v1/x.h", "include/v1/y.h"].map(|name| project.path(name));
    assert_eq!(found, expected);
    assert_eq!(set.files[1].path, project.bytes("inc/current/in/../x.h"));
    assert_eq!((set.files[2].size, set.files[2].digest), (7, Digest::of(b"int y;\n")));
    let modified = std::fs::metadata(project.path("a.c")).expect("it is there").modified().expect("a time");
    let age = modified.duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    assert_eq!(set.files[0].modified, (age.as_secs() as i64, i64::from(age.subsec_nanos())));
    assert_eq!(real(set.probed.iter().map(|file| file.real.clone())), [project.path("probe.h")]);
    let links: Vec<_> = set.links.iter().map(|link| (link.path.clone(), link.target.clone())).collect();
    let expected = [
        (project.bytes("inc"), project.bytes("include")),
        (project.bytes("include/current"), Arc::from(&b"v1"[..])),
    ];
    assert!(expected.iter().all(|link| links.contains(link)), "{links:?}");
    for name in ["", "empty", "include/v1", "include/v1/in"] {
        let path = project.path(name);
        let text = Bytes::from(path.components().as_path());
        assert!(set.directories.contains(&Arc::from(&text[..])), "{name}: {:?}", set.directories);
    }
    for name in ["empty/in/../x.h", "gone.h", "empty/gone.h"] {
        assert!(set.absent.contains(&project.bytes(name)), "{name}: {:?}", set.absent);
    }
}

#[test]
fn what_was_scanned_can_be_had_after_the_file_has_changed() {
    let project = Project::new(&[("a.c", "#include \"x.h\"\n"), ("x.h", "int one;\n")]);
    let set = project.inputs("gcc -nostdinc -c a.c");
    project.write("x.h", "int two;\n");
    let bytes = project.scanner.bytes(&set.files[1].digest);
    assert_eq!(bytes.as_deref(), Some(&b"int one;\n"[..]));
    let set = project.inputs("gcc -nostdinc -c a.c");
    assert_eq!(project.scanner.bytes(&set.files[1].digest).as_deref(), Some(&b"int two;\n"[..]));
    assert_eq!(project.scanner.bytes(&Digest([0; 32])), None);
}
