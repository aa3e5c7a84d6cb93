//! Hermetic compiles by a real daemon: as root where the tests run as root, and as `nobody` besides.

use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use distcc::common::action::Ended;
use distcc::common::bytes::Bytes;
use distcc::common::dependencies::{absolute, prerequisites};
use distcc::common::inputs::{Reading, reading_digest};
use distcc::common::invocation::Terminal;
use distcc::common::protocol::link::{Audit, OPENING, Refusal, ToBroker, ToVolunteer, Unprovided, VERSION};
use distcc::common::toolchain::Digest;

use super::client::{Answer, Client, Job, View};
use super::is_running;
use super::volunteer::{Volunteer, toolchain_of, wait_for};

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

    /// A shell among the project's header, the folder `build` and nothing else.
    fn shell(&self) -> View {
        let mut view = View::of_shell();
        view.path(&self.path("include/a.h")).path(&self.build());
        view
    }

    /// What a script does there.
    fn play(&self, client: &mut Client, number: u32, script: &str) -> Result<Answer, Refusal> {
        let (build, view) = (self.build(), self.shell());
        client.run(number, &Job::new("/bin/sh", &["-c", script], &build, &view))
    }
}

const ARGUMENTS: [&str; 6] = ["-g", "-I../include", "-c", "../main.c", "-o", "main.o"];

fn gcc() -> &'static str {
    "/usr/bin/gcc"
}

/// Volunteers of both kinds.
fn volunteers() -> [Volunteer; 2] {
    [Volunteer::start(&[]), Volunteer::start_as_nobody()]
}

#[test]
fn an_object_is_that_of_a_local_compile_with_the_clients_own_paths() {
    for volunteer in volunteers() {
        let project = Project::new();
        let build = project.build();
        // A client that reads all of clang on a busy machine is silent for longer than a volunteer bears.
        let views = [gcc(), "/usr/bin/clang"].map(|compiler| (compiler, project.view(compiler, &ARGUMENTS)));
        let mut client = Client::new(volunteer.link());
        for (number, (compiler, view)) in (1..).zip(views) {
            let answer = client.run(number, &Job::new(compiler, &ARGUMENTS, &build, &view)).unwrap();
            assert_eq!((answer.compiled.ended, answer.text().as_str()), (Ended::Exited(0), ""));
            assert_eq!(answer.words(), "");
            let expected = project.compiled_here(compiler, &ARGUMENTS);
            assert_eq!(answer.products.keys().collect::<Vec<_>>(), [&project.path("build/main.o")]);
            assert!(answer.products[Path::new(&project.path("build/main.o"))] == expected, "{compiler}");
        }
        let says_so =
            |line: &str| line.contains(" gcc ../main.c job 1 of test cpu:") && line.contains("ms memory:");
        wait_for("the log says what was used", || volunteer.log().lines().any(says_so));
        // Compiler and headers of the system are here as well: only the project has travelled.
        let mut asked: Vec<_> =
            client.asked.iter().map(|number| client.entry(*number).path.to_text()).collect();
        asked.sort();
        let project = |name: &str| project.path(name).display().to_string();
        assert_eq!(asked, [project("include/a.h"), project("main.c")]);
    }
}

#[test]
fn a_job_sees_its_inputs_and_nothing_else() {
    for volunteer in volunteers() {
        let project = Project::new();
        fs::write(project.path("include/b.h"), "not an input").unwrap();
        let mut client = Client::new(volunteer.link());
        let script = "ls -A .. ../include /dev; ls -d /proc/[0-9]*; test -e /etc/passwd && echo passwd; \
                      test -e ../main.c && echo source; echo $TMPDIR; ls -A $TMPDIR; ls -A /";
        let answer = project.play(&mut client, 1, script).unwrap();
        let top = project.0.path().components().nth(1).unwrap().as_os_str().to_str().unwrap().to_owned();
        let mut root = [".distccd", "bin", "dev", "lib", "lib64", "proc", "usr", &top];
        root.sort();
        let expected = format!(
            "..:\nbuild\ninclude\n\n../include:\na.h\n\n/dev:\nfd\nfull\nnull\nrandom\nstderr\nstdin\nstdout\n\
             urandom\nzero\n/proc/1\n/proc/2\n/.distccd/tmp\n{}\n",
            root.join("\n")
        );
        assert_eq!(answer.words(), expected, "{}", answer.text());
    }
}

#[test]
fn a_job_has_no_power_and_no_network() {
    for volunteer in volunteers() {
        let project = Project::new();
        let mut client = Client::new(volunteer.link());
        let (build, mut view) = (project.build(), project.shell());
        view.program(Path::new("/usr/bin/unshare"));
        let script =
            "cat /proc/self/status /proc/net/dev; unshare --user /bin/sh -c 'exit 0'; echo Unshare: $?";
        let answer = client.run(1, &Job::new("/bin/sh", &["-c", script], &build, &view)).unwrap();
        assert!(answer.text().contains("unshare failed"), "{}", answer.text());
        let words = answer.words();
        let line = |name: &str| {
            let line = words.lines().find(|line| line.starts_with(name));
            line.unwrap_or_else(|| panic!("{words}")).split_whitespace().nth(1).unwrap().to_owned()
        };
        for name in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(line(name), "0000000000000000", "{name}");
        }
        assert_eq!((line("NoNewPrivs:").as_str(), line("Uid:").as_str()), ("1", "1000"));
        let devices: Vec<&str> =
            words.lines().filter_map(|line| line.split_once(": ")).map(|pair| pair.0.trim()).collect();
        assert!(devices.contains(&"lo") && !devices.iter().any(|name| name.starts_with("eth")), "{words}");
    }
}

#[test]
fn inputs_cannot_be_changed_and_changes_are_the_jobs_own() {
    for volunteer in volunteers() {
        let project = Project::new();
        fs::write(project.path("build/input"), "as it is\n").unwrap();
        let mut client = Client::new(volunteer.link());
        let (build, mut view) = (project.build(), project.shell());
        view.path(&project.path("build/input"));
        let mut play = |number, script: &'static str| {
            client.run(number, &Job::new("/bin/sh", &["-c", script], &build, &view))
        };
        for script in [
            "echo x >> ../include/a.h",
            "chmod 777 ../include/a.h",
            "rm ../include/a.h",
            "echo x > ../include/b.h",
            "mkdir /new",
            "rm -f /dev/null",
            "echo x > /proc/self/oom_score_adj",
        ] {
            match play(1, script) {
                Ok(answer) => assert!(!answer.compiled.ended.is_success(), "{script}: {}", answer.text()),
                Err(why) => assert!(why.to_string().contains("does not tell"), "{script}: {why}"),
            }
        }
        // In its own folder it may do what it likes, with copies.
        let answer = play(2, "chmod 600 input; echo changed > input; cat input > copy").unwrap();
        assert_eq!(answer.products[&project.path("build/input")], b"changed\n");
        assert_eq!(answer.products[&project.path("build/copy")], b"changed\n");
        let answer = play(3, "cat input; cat copy ../include/a.h").unwrap();
        assert!(!answer.compiled.ended.is_success());
        assert_eq!(answer.words(), "as it is\n#define WORD \"hello\"\n");
    }
}

#[test]
fn what_a_job_makes_comes_back_and_what_is_no_file_is_refused() {
    for volunteer in volunteers() {
        let project = Project::new();
        fs::write(project.path("build/input"), "x").unwrap();
        let mut client = Client::new(volunteer.link());
        let (build, mut view) = (project.build(), project.shell());
        view.path(&project.path("build/input")).folder(&project.path("out"));
        let script = "echo 1 > one; mkdir -p a/b; echo 2 > a/b/two; echo 3 > $TMPDIR/three; echo 4 > gone; rm gone; \
                      echo 5 > ../out/five; chmod 0 one";
        let job = Job::new("/bin/sh", &["-c", script, "sh", "-o../out/five"], &build, &view);
        let answer = client.run(1, &job).unwrap();
        let mut made: Vec<_> =
            answer.products.iter().map(|(path, text)| (path.clone(), text.clone())).collect();
        made.sort();
        let path = |name: &str| project.path(name);
        assert_eq!(
            made,
            [
                (path("build/a/b/two"), b"2\n".to_vec()),
                (path("build/one"), b"1\n".to_vec()),
                (path("out/five"), b"5\n".to_vec()),
            ]
        );
        for (script, why) in [
            ("ln -s /etc/passwd link", "build/link"),
            ("mkfifo pipe", "build/pipe"),
            ("rm -f input", "build/input"),
            ("rm -f input; ln -s x input", "build/input"),
        ] {
            let refused = client.run(2, &Job::new("/bin/sh", &["-c", script], &build, &view)).err();
            assert!(
                matches!(&refused, Some(Refusal::Failed { detail }) if detail.contains(why)),
                "{refused:?}"
            );
        }
        let failed =
            client.run(3, &Job::new("/bin/sh", &["-c", "echo 1 > one; exit 7"], &build, &view)).unwrap();
        assert_eq!((failed.compiled.ended, failed.products.len()), (Ended::Exited(7), 0));
    }
}

#[test]
fn a_compile_that_writes_where_nobody_knew_has_no_answer() {
    let (volunteer, project) = (Volunteer::start(&[]), Project::new());
    let mut client = Client::new(volunteer.link());
    let refused = project.play(&mut client, 1, "echo x > ../include/b.h").err();
    assert!(
        matches!(&refused, Some(Refusal::Forbidden { detail }) if detail.contains("does not tell")),
        "{refused:?}"
    );
    // A response file may say so, so then it may write anywhere.
    let (build, view) = (project.build(), project.shell());
    let job = Job::new("/bin/sh", &["-c", "echo x > ../include/b.h", "sh", "@file"], &build, &view);
    let answer = client.run(2, &job).unwrap();
    assert_eq!(answer.products[&project.path("include/b.h")], b"x\n");
}

#[test]
fn a_view_that_cannot_be_is_refused_and_the_next_one_is_served() {
    let (volunteer, project) = (Volunteer::start(&[]), Project::new());
    let mut client = Client::new(volunteer.link());
    let build = project.build();
    let mut twice = project.shell();
    twice.link(&project.path("include/a.h"), Path::new("b.h"));
    let refused = client.run(1, &Job::new("/bin/sh", &["-c", "exit 0"], &build, &twice)).err();
    assert!(
        matches!(&refused, Some(Refusal::Forbidden { detail }) if detail.contains("include/a.h")),
        "{refused:?}"
    );
    let nowhere = project.path("nowhere");
    let view = project.shell();
    let refused = client.run(2, &Job::new("/bin/sh", &["-c", "exit 0"], &nowhere, &view)).err();
    assert!(
        matches!(&refused, Some(Refusal::Forbidden { detail }) if detail.contains("nowhere")),
        "{refused:?}"
    );
    let refused = client.run(3, &Job::new("/bin/none", &["-c", "exit 0"], &build, &view)).err();
    assert!(
        matches!(&refused, Some(Refusal::Failed { detail }) if detail.contains("start the compiler: No such file")),
        "{refused:?}"
    );
    assert_eq!(project.play(&mut client, 4, "exit 3").unwrap().compiled.ended, Ended::Exited(3));
}

#[test]
fn a_terminal_is_one_and_its_bytes_are_those_of_a_local_one() {
    let (volunteer, project) = (Volunteer::start(&[]), Project::new());
    fs::write(
        project.path("main.c"),
        "#include \"a.h\"\nint f(int a) { unsigned b = 1; return a < b ? WORD : 0; }\n",
    )
    .unwrap();
    let build = project.build();
    let arguments = ["-Wall", "-Wextra", "-I../include", "-c", "../main.c", "-o", "main.o"];
    let views = [gcc(), "/usr/bin/clang"].map(|compiler| (compiler, project.view(compiler, &arguments)));
    let mut client = Client::new(volunteer.link());
    for (number, (compiler, mut view)) in (1..).zip(views) {
        // Here clang looks for what the terminal can do.
        view.path(Path::new("/lib/terminfo/x/xterm"));
        let mut job = Job::new(compiler, &arguments, &build, &view);
        job.environment.push("TERM=xterm".to_owned());
        job.terminal = Some(Terminal { columns: 80, rows: 24 });
        let answer = client.run(number, &job).unwrap();
        let command =
            format!("stty -opost columns 80 rows 24; {compiler} {} </dev/null", arguments.join(" "));
        let here = Command::new("script")
            .args(["-qec", &command, "/dev/null"])
            .env("TERM", "xterm")
            .env("LC_ALL", "C")
            .current_dir(&build)
            .output()
            .unwrap();
        assert!(answer.text().contains("\x1b["), "{compiler}: {}", answer.text());
        assert_eq!(answer.text(), String::from_utf8_lossy(&here.stdout), "{compiler}");
    }
}

#[test]
fn where_no_box_can_be_made_the_daemon_says_so_and_takes_texts() {
    let volunteer = Volunteer::start_without_namespaces();
    let mut link = volunteer.connect();
    link.stream.write_all(&OPENING).unwrap();
    link.send(&ToVolunteer::Hello { version: VERSION, build: "test".into(), client: "test".into() });
    assert!(matches!(link.next(), ToBroker::Hello { .. }));
    let able = link.next();
    let says_why = |sandbox: &str| sandbox.contains("namespaces") && sandbox.contains("No space left");
    assert!(matches!(&able, ToBroker::Able { hermetic: false, sandbox } if says_why(sandbox)), "{able:?}");
    assert!(volunteer.log().contains("no hermetic compiles here"), "{}", volunteer.log());
    link.start_job(1, &toolchain_of(Path::new(gcc())), b"int x;\n");
    assert_eq!(link.result().0.ended, Ended::Exited(0));
}

/// Processes that have this word in their environment.
fn marked(mark: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_marked = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|entry| entry == mark.as_bytes())
    };
    numbers.filter(is_marked).collect()
}

/// Whether it is the first process of a box. Where that cannot be seen, its environment cannot either.
fn is_first(pid: u32) -> bool {
    let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    program.to_string_lossy().starts_with("/memfd:distcc-job")
}

/// Starts a job that would take long, of three processes; their numbers, and that of the box's first.
fn start_long_job(client: &mut Client, project: &Project) -> Vec<u32> {
    let (build, view) = (project.build(), project.shell());
    let mut job = Job::new("/bin/sh", &["-c", "sleep 600 & sleep 601; exit 0"], &build, &view);
    let mark = format!("MARK={}", build.display());
    job.environment.push(mark.clone());
    client.submit(1, &job);
    client.serve(|message| matches!(message, ToBroker::NeedFiles { .. }));
    let asked: Vec<u32> = client.last_asked.clone();
    client.send_files(&asked);
    wait_for("the job runs", || marked(&mark).iter().filter(|pid| !is_first(**pid)).count() == 3);
    marked(&mark)
}

#[test]
fn a_cancelled_job_is_killed_whole() {
    for volunteer in volunteers() {
        let project = Project::new();
        let mut client = Client::new(volunteer.link());
        let running = start_long_job(&mut client, &project);
        client.link.send(&ToVolunteer::Cancel { job: 1 });
        wait_for("the job is gone", || !running.iter().any(|pid| is_running(*pid)));
        assert_eq!(project.play(&mut client, 2, "exit 3").unwrap().compiled.ended, Ended::Exited(3));
    }
}

#[test]
fn a_daemon_that_is_killed_leaves_no_job_and_no_tree() {
    for mut volunteer in volunteers() {
        let project = Project::new();
        let mut client = Client::new(volunteer.link());
        let running = start_long_job(&mut client, &project);
        volunteer.daemon.kill().unwrap();
        volunteer.daemon.wait().unwrap();
        wait_for("the job is gone", || !running.iter().any(|pid| is_running(*pid)));
        wait_for("its tree is gone", || volunteer.jobs_left().is_empty());
    }
}

#[test]
fn a_daemon_that_stops_leaves_no_tree_and_finds_its_store_again() {
    let (mut volunteer, project) = (Volunteer::start(&[]), Project::new());
    let mut client = Client::new(volunteer.link());
    project.play(&mut client, 1, "exit 0").unwrap();
    assert_eq!(client.asked.len(), 1);
    drop(client);
    volunteer.signal("-TERM");
    assert!(volunteer.daemon.wait().unwrap().success());
    assert_eq!(volunteer.jobs_left(), [] as [PathBuf; 0]);
    volunteer.restart();
    let mut client = Client::new(volunteer.link());
    project.play(&mut client, 1, "exit 0").unwrap();
    assert_eq!(client.asked, [] as [u32; 0]);
}

#[test]
fn jobs_that_wait_for_the_same_file_have_it_asked_for_once() {
    let (volunteer, project) = (Volunteer::start(&[]), Project::new());
    let mut client = Client::new(volunteer.link());
    let (build, view) = (project.build(), project.shell());
    let inputs = client.set(&view);
    client.link.send(&ToVolunteer::Provision { provision: 5, inputs });
    for number in 1..=3 {
        client.submit(number, &Job::new("/bin/sh", &["-c", "cat ../include/a.h"], &build, &view));
    }
    assert_eq!(client.answer().unwrap().words(), "#define WORD \"hello\"\n");
    for _ in 0..2 {
        assert!(client.answer().unwrap().compiled.ended.is_success());
    }
    assert_eq!(client.asked.len(), 1);
}

#[test]
fn who_needs_a_file_that_changed_is_told_so() {
    let (volunteer, project) = (Volunteer::start(&[]), Project::new());
    let mut client = Client::new(volunteer.link());
    client.sends = false;
    let (build, view) = (project.build(), project.shell());
    let inputs = client.set(&view);
    client.link.send(&ToVolunteer::Provision { provision: 5, inputs });
    client.submit(1, &Job::new("/bin/sh", &["-c", "exit 0"], &build, &view));
    let mut told = Vec::new();
    while told.len() < 2 {
        let wanted = |message: &ToBroker| {
            matches!(
                message,
                ToBroker::NeedFiles { .. } | ToBroker::Refused { .. } | ToBroker::Unprovided { .. }
            )
        };
        match client.serve(wanted) {
            ToBroker::NeedFiles { items } => client.link.send(&ToVolunteer::Unavailable { items }),
            message => told.push(message),
        }
    }
    let refused = |message: &ToBroker| {
        matches!(message, ToBroker::Refused { job: 1, why: Refusal::InputsChanged { .. } })
    };
    let troubled = |message: &ToBroker| {
        let ToBroker::Unprovided { provision: 5, why } = message else { return false };
        matches!(why, Unprovided::InputsChanged { detail } if detail.contains("include/a.h"))
    };
    assert!(told.iter().any(refused) && told.iter().any(troubled), "{told:?}");
}

#[test]
fn a_bundle_that_lies_ends_the_link() {
    let (volunteer, project) = (Volunteer::start(&[]), Project::new());
    for lie in [&b"#define WORD \"HELLO\"\n"[..], b"short", b"#define WORD \"hello\"\nand more"] {
        let mut client = Client::new(volunteer.link());
        client.sends = false;
        let (build, view) = (project.build(), project.shell());
        client.submit(1, &Job::new("/bin/sh", &["-c", "exit 0"], &build, &view));
        client.serve(|message| matches!(message, ToBroker::NeedFiles { .. }));
        let items = client.last_asked.clone();
        client.send_bundle(&items, &zstd::encode_all(lie, 1).unwrap());
        let last = client.serve(|message| matches!(message, ToBroker::Fatal { .. }));
        assert!(matches!(last, ToBroker::Fatal { why } if why.contains("bundle")));
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
        job.reads = Some(Reading::Listed(reads(compiler, &ARGUMENTS, &build)));
        let audit = client.run(number as u32, &job).unwrap().compiled.audit;
        assert_eq!(audit, Audit::Agrees, "{compiler} {more:?}");
        job.reads = Some(Reading::Listed(Digest::of(b"something else")));
        let audit = client.run(number as u32 + 100, &job).unwrap().compiled.audit;
        let Audit::Differs { read } = audit else { panic!("{compiler} {more:?}: {audit:?}") };
        let header = project.path("build/../include/a.h");
        assert!(read.contains(&Bytes::from(header.as_path())), "{read:?}");
    }
}
