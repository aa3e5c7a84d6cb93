//! What jobs open, where their compilers do not tell what they read.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use distcc::common::protocol::link::Audit;

use super::client::{Client, Job, View};
use super::volunteer::Volunteer;

/// A project with a folder of headers beneath the working directory, one beside it, and a link.
struct Project(tempfile::TempDir);

impl Project {
    fn new() -> Self {
        let project = Project(tempfile::tempdir().unwrap());
        for folder in ["w/many", "inc"] {
            fs::create_dir_all(project.path(folder)).unwrap();
        }
        for name in ["w/a.c", "w/b.h", "inc/c.h", "inc/only_asked.h"] {
            fs::write(project.path(name), format!("/* {name} */\n")).unwrap();
        }
        for number in 0..9 {
            fs::write(project.path(&format!("w/many/{number}.h")), format!("int i{number};\n")).unwrap();
        }
        symlink("../w/b.h", project.path("inc/link.h")).unwrap();
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// All of it.
    fn add_to(&self, view: &mut View) {
        for name in ["w/a.c", "w/b.h", "inc/c.h", "inc/only_asked.h", "inc/link.h"] {
            view.path(&self.path(name));
        }
        for number in 0..9 {
            view.path(&self.path(&format!("w/many/{number}.h")));
        }
        view.folder(&self.path("w"));
    }

    /// What is found of a script that must open these.
    fn audited(&self, client: &mut Client, number: u32, script: &str, must: &[&str]) -> Audit {
        let mut view = View::of_shell();
        self.add_to(&mut view);
        let must: Vec<PathBuf> = must.iter().map(|name| self.path(name)).collect();
        let must: Vec<&Path> = must.iter().map(PathBuf::as_path).collect();
        let cwd = self.path("w");
        let mut job = Job::new("/bin/sh", &["-c", script], &cwd, &view);
        job.reads = Some(client.opens(&view, &must));
        client.run(number, &job).unwrap().compiled.audit
    }
}

#[test]
fn files_are_seen_to_be_opened_by_whatever_name_and_through_layers() {
    for volunteer in [Volunteer::start(&[]), Volunteer::start_as_nobody()] {
        let (project, mut client) = (Project::new(), Client::new(volunteer.link()));
        let must = ["w/a.c", "w/b.h", "inc/c.h", "w/many/7.h"];
        for (number, (script, agrees)) in [
            ("cat a.c b.h ../inc/c.h many/7.h", true),
            ("cat a.c ../inc/link.h many/../../inc/../inc/c.h ./many/7.h; echo > a.o", true),
            ("cat ../inc/only_asked.h many/* a.c b.h ../inc/c.h", true),
            // What is only looked for, or looked at, is not opened.
            ("test -r b.h && cat a.c ../inc/c.h many/7.h", false),
            ("ls -l many ..; cat a.c b.h ../inc/c.h", false),
            ("cat a.c b.h ../inc/only_asked.h many/7.h", false),
            ("(sleep 0.1; cat b.h ../inc/c.h) & cat a.c many/7.h; wait", true),
        ]
        .into_iter()
        .enumerate()
        {
            let audit = project.audited(&mut client, number as u32 + 1, script, &must);
            assert_eq!(audit == Audit::Agrees, agrees, "{script}: {audit:?}");
            assert_ne!(audit, Audit::Unchecked, "{script}");
        }
    }
}

#[test]
fn what_was_opened_is_told_where_something_is_missing() {
    let (volunteer, project) = (Volunteer::start(&[]), Project::new());
    let mut client = Client::new(volunteer.link());
    let script = "cat a.c ../inc/only_asked.h";
    let Audit::Differs { read } = project.audited(&mut client, 1, script, &["w/a.c", "inc/c.h"]) else {
        panic!("it agrees")
    };
    let read: Vec<PathBuf> = read.iter().map(|path| path.as_path().to_owned()).collect();
    assert_eq!(read, [project.path("w/a.c"), project.path("inc/only_asked.h")]);
}

#[test]
fn many_jobs_at_once_are_not_told_of_each_others_files() {
    let volunteer = Volunteer::start(&[]);
    let project = Project::new();
    std::thread::scope(|scope| {
        for link in 0..2 {
            let (project, link_number) = (&project, link);
            let mut client = Client::new(volunteer.link());
            scope.spawn(move || {
                for number in 0..6 {
                    let opens_all = (number + link_number) % 2 == 0;
                    let script = if opens_all { "cat a.c b.h" } else { "cat a.c; sleep 0.05" };
                    let audit = project.audited(&mut client, number + 1, script, &["w/a.c", "w/b.h"]);
                    assert_eq!(audit == Audit::Agrees, opens_all, "{audit:?}");
                }
            });
        }
    });
}

#[test]
fn compilers_open_each_header_that_they_read() {
    let project = Project::new();
    let source = "#include <stdio.h>\n#include \"b.h\"\n#include <c.h>\n#include \"link.h\"\n\
                  #if __has_include(<only_asked.h>)\nint i;\n#endif\nint main(void) { return puts(\"\"); }\n";
    fs::write(project.path("w/a.c"), source).unwrap();
    let volunteer = Volunteer::start(&[]);
    let mut client = Client::new(volunteer.link());
    let arguments = ["-I../inc", "-Imany", "-MMD", "-g", "-c", "a.c", "-o", "a.o"];
    let cwd = project.path("w");
    for (number, compiler) in ["/usr/bin/gcc", "/usr/bin/clang"].into_iter().enumerate() {
        let mut own = View::of_compiler(compiler);
        let toolchain = own.clone();
        own.read_by(compiler, &["-I../inc", "-Imany", "a.c"], &cwd);
        let headers = own.0.difference(&toolchain.0).filter(|entry| entry.kind.file().is_some());
        let headers: Vec<PathBuf> = headers.map(|entry| entry.path.as_path().to_owned()).collect();
        let read: Vec<&Path> =
            headers.iter().map(PathBuf::as_path).filter(|path| !path.ends_with("only_asked.h")).collect();
        assert!(read.len() > 10, "{read:?}");
        let mut view = own.clone();
        project.add_to(&mut view);
        let mut job = Job::new(compiler, &arguments, &cwd, &view);
        job.reads = Some(client.opens(&view, &read));
        let answer = client.run(number as u32 * 2 + 1, &job).unwrap();
        assert_eq!(answer.compiled.audit, Audit::Agrees, "{compiler}");
        assert!(answer.products.contains_key(&project.path("w/a.d")), "{compiler}");
        let one_more = project.path("w/many/0.h");
        job.reads = Some(client.opens(&view, &[&read[..], &[&one_more]].concat()));
        let audit = client.run(number as u32 * 2 + 2, &job).unwrap().compiled.audit;
        assert!(matches!(audit, Audit::Differs { .. }), "{compiler}: {audit:?}");
    }
}
