//! Hermetic compiles by a real daemon: as root where the tests run as root, and as `nobody` besides.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use distcc::common::action::Ended;
use distcc::common::bytes::Bytes;
use distcc::common::dependencies::{absolute, prerequisites};
use distcc::common::inputs::reading_digest;
use distcc::common::protocol::link::Audit;
use distcc::common::toolchain::Digest;

use super::client::{Client, Job, View};
use super::volunteer::Volunteer;

/// A project of one source and one header, in a folder of its own.
struct Project(tempfile::TempDir);

impl Project {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir_all(directory.path().join("include")).unwrap();
        fs::create_dir_all(directory.path().join("build")).unwrap();
        fs::write(directory.path().join("include/a.h"), "#define WORD \"hello\"\n").unwrap();
        let source = "#include <stdio.h>\n#include \"a.h\"\nint main(void) { return puts(WORD); }\n";
        fs::write(directory.path().join("main.c"), source).unwrap();
        Project(directory)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn build(&self) -> PathBuf {
        self.path("build")
    }

    /// What these arguments make here, in the folder `build`.
    fn compiled_here(&self, compiler: &str, arguments: &[&str]) -> Vec<u8> {
        let status = Command::new(compiler).args(arguments).current_dir(self.build()).status();
        assert!(status.unwrap().success());
        let object = fs::read(self.path("build/main.o")).unwrap();
        fs::remove_file(self.path("build/main.o")).unwrap();
        object
    }

    fn view(&self, compiler: &str, arguments: &[&str]) -> View {
        let mut view = View::of_compiler(compiler);
        view.read_by(compiler, arguments, &self.build()).folder(&self.path("include"));
        view
    }
}

const ARGUMENTS: [&str; 6] = ["-g", "-I../include", "-c", "../main.c", "-o", "main.o"];

fn gcc() -> &'static str {
    "/usr/bin/gcc"
}

#[test]
fn an_object_is_that_of_a_local_compile_with_the_clients_own_paths() {
    let (volunteer, project) = (Volunteer::start(&[]), Project::new());
    let mut client = Client::new(volunteer.link());
    let build = project.build();
    for compiler in [gcc(), "/usr/bin/clang"] {
        let view = project.view(compiler, &ARGUMENTS);
        let answer = client.run(1, &Job::new(compiler, &ARGUMENTS, &build, &view)).unwrap();
        assert_eq!((answer.compiled.ended, answer.text().as_str()), (Ended::Exited(0), ""));
        assert_eq!(answer.stdout, b"");
        let expected = project.compiled_here(compiler, &ARGUMENTS);
        assert_eq!(answer.products.keys().collect::<Vec<_>>(), [&project.path("build/main.o")]);
        assert!(answer.products[Path::new(&project.path("build/main.o"))] == expected, "{compiler}");
    }
}

/// What a compile of these arguments reads here, as the compiler names it.
fn reads(compiler: &str, arguments: &[&str], cwd: &Path) -> Digest {
    let list = cwd.join("list.d");
    let mut command = Command::new(compiler);
    command.args(arguments).args(["-fsyntax-only", "-MD", "-MF"]).arg(&list).current_dir(cwd);
    assert!(command.status().unwrap().success());
    let text = fs::read(&list).unwrap();
    fs::remove_file(list).unwrap();
    let names = prerequisites(&text).unwrap();
    let names: Vec<Bytes> = names.iter().map(|name| absolute(cwd.as_os_str().as_bytes(), name)).collect();
    reading_digest(names.iter().map(|name| &name[..]))
}

#[test]
fn what_was_read_is_compared_with_what_should_have_been() {
    let (volunteer, project) = (Volunteer::start(&[]), Project::new());
    let mut client = Client::new(volunteer.link());
    let build = project.build();
    for (number, (compiler, more)) in [gcc(), "/usr/bin/clang"]
        .into_iter()
        .flat_map(|compiler| {
            [vec![], vec!["-MD"], vec!["-MD", "-MF", "x.d"], vec!["-Wp,-MD,y.d"]].map(|more| (compiler, more))
        })
        .enumerate()
    {
        let arguments = [&ARGUMENTS[..], &more].concat();
        let view = project.view(compiler, &ARGUMENTS);
        let mut job = Job::new(compiler, &arguments, &build, &view);
        job.reads = Some(reads(compiler, &ARGUMENTS, &build));
        let audit = client.run(number as u32, &job).unwrap().compiled.audit;
        assert_eq!(audit, Audit::Agrees, "{compiler} {more:?}");
        job.reads = Some(Digest::of(b"something else"));
        let audit = client.run(number as u32 + 100, &job).unwrap().compiled.audit;
        let Audit::Differs { read } = audit else { panic!("{compiler} {more:?}: {audit:?}") };
        let header = project.path("build/../include/a.h");
        assert!(read.contains(&Bytes::from(header.as_path())), "{read:?}");
    }
}
