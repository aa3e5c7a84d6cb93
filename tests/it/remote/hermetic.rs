//! Hermetic compiles by a real daemon: as root where the tests run as root, and as `nobody` besides.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use distcc::common::action::Ended;

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
