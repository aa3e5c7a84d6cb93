//! One test for each thing that a hostile client may try.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use super::*;

#[test]
fn files_of_the_machine_cannot_be_read() {
    let paths = ["/etc/shadow", "/etc/passwd", "/root", "/home", "/var", "/etc/hostname", "/sys"];
    // The way to a job's own folder is there, with nothing beside it.
    for path in paths.into_iter().filter(|path| !std::env::temp_dir().starts_with(path)) {
        check(&[], |_| words(&format!("read {path}")));
    }
}

#[test]
fn the_store_and_the_folders_of_other_jobs_cannot_be_read() {
    for mut volunteer in volunteers(&[]) {
        let sleeper = volunteer.fake_compiler("sleep 600");
        let mut link = volunteer.link();
        link.start_job(1, &sleeper, b"somebody else's text");
        wait_for("another job runs", || !volunteer.job_directories().is_empty());
        let other = volunteer.job_directories().remove(0);
        let daemon = volunteer.jobs_left().remove(0).parent().unwrap().to_owned();
        for path in [daemon.join("files"), daemon.join("lock"), other.clone(), other.join("in.i")] {
            for attack in ATTACKS {
                attack(&volunteer, &["read", &path.display().to_string()]).assert_refused();
            }
        }
        drop(link);
        assert_unharmed(&mut volunteer);
    }
}

#[test]
fn the_daemon_cannot_be_looked_into() {
    for file in ["environ", "maps", "mem", "root", "cwd", "fd", "cmdline"] {
        check(&[], |volunteer| vec!["read".to_owned(), format!("/proc/{}/{file}", volunteer.daemon.id())]);
    }
}

#[test]
fn neither_environment_nor_descriptors_are_the_daemons() {
    check(&[], |_| words("environment"));
    check(&[], |_| words("descriptors"));
}

#[test]
fn nothing_is_written_outside() {
    for path in ["/usr/include/x.h", "/etc/x", "/x", "/dev/x", "/bin/sh", "/proc/self/oom_score_adj"] {
        // What a hermetic job writes, it writes into layers of its own; what is outside stays as it is.
        for mut volunteer in volunteers(&[]) {
            attack_as_text(&volunteer, &["write", path]).assert_refused();
            attack_as_classic(&volunteer, &["write", path]).assert_refused();
            attack_as_files(&volunteer, &["write", path]);
            assert!(!Path::new("/x").exists() && !Path::new("/usr/include/x.h").exists());
            assert_unharmed(&mut volunteer);
        }
    }
    // In a box the folder of the daemon is another one, in a `/tmp` of its own.
    for mut volunteer in volunteers(&[]) {
        let path = volunteer.path("tmp/x");
        for attack in ATTACKS {
            attack(&volunteer, &["write", &path.display().to_string()]);
            assert!(!path.exists());
        }
        assert_unharmed(&mut volunteer);
    }
}

#[test]
fn there_is_nobody_to_connect_to() {
    check(&[], |volunteer| vec!["connect".to_owned(), volunteer.port.to_string()]);
    let name = format!("distcc-hostile-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    check(&[], |_| vec!["unix".to_owned(), format!("@{name}")]);
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    check(&[], |_| vec!["unix".to_owned(), path.display().to_string()]);
}

#[test]
fn processes_are_counted_and_end_with_the_job() {
    check(&[], |_| words("fork"));
}

#[test]
fn memory_has_a_bound() {
    check(&["--job-memory", "256"], |_| words("memory"));
    check(&[], |_| words("limits"));
}

#[test]
fn the_disk_cannot_be_filled() {
    // What a job writes is in memory, and bounded by that.
    for (mut volunteer, attack) in
        volunteers(&[]).into_iter().zip([attack_as_files as Attack, attack_as_text])
    {
        let attacked = attack(&volunteer, &["fill", "4096"]);
        let is_full = |why: &Refusal| matches!(why, Refusal::Overloaded { .. });
        assert!(attacked.ended.as_ref().is_err_and(is_full), "{attacked:?}");
        assert_unharmed(&mut volunteer);
        assert!(attack_as_classic(&volunteer, &["fill", "4096"]).ended.is_err());
        assert_unharmed(&mut volunteer);
    }
}

#[test]
fn nobody_sleeps_for_ever() {
    for mut volunteer in volunteers(&["--job-lifetime", "1"]) {
        for attack in ATTACKS {
            let attacked = attack(&volunteer, &["sleep"]);
            assert!(matches!(attacked.ended, Err(Refusal::TimedOut { .. })), "{attacked:?}");
            assert_unharmed(&mut volunteer);
        }
    }
}

#[test]
fn there_is_nobody_to_signal() {
    check(&[], |volunteer| vec!["signal".to_owned(), volunteer.daemon.id().to_string()]);
    check(&[], |_| words("signal 1"));
}

#[test]
fn there_is_no_power_to_be_had() {
    check(&[], |volunteer| vec!["power".to_owned(), volunteer.daemon.id().to_string()]);
}

#[test]
fn system_calls_of_another_abi_end_the_job() {
    for mut volunteer in volunteers(&[]) {
        for attack in ATTACKS {
            let attacked = attack(&volunteer, &["int80"]);
            assert!(matches!(attacked.ended, Ok(Ended::Killed(libc::SIGSYS))), "{attacked:?}");
            assert_unharmed(&mut volunteer);
        }
    }
}

#[test]
fn only_plain_files_are_outputs() {
    for mut volunteer in volunteers(&[]) {
        for kind in ["link", "pipe", "folder", "socket"] {
            let attacked = attack_as_text(&volunteer, &["leave", kind, "out.o"]);
            assert!(matches!(attacked.ended, Err(Refusal::Failed { .. })), "{kind}: {attacked:?}");
            let attacked = attack_as_classic(&volunteer, &["leave", kind, "out.o"]);
            assert!(attacked.ended.is_err(), "{kind}: {attacked:?}");
            let attacked = attack_as_files(&volunteer, &["leave", kind, "out.o"]);
            let nothing = attacked.ended.is_err() || attacked.outputs.is_empty();
            assert!(nothing, "{kind}: {attacked:?}");
        }
        // Modes do not travel.
        for attack in ATTACKS {
            let attacked = attack(&volunteer, &["leave", "file", "out.o"]);
            assert_eq!(attacked.outputs, [b"x".to_vec()], "{attacked:?}");
        }
        assert_unharmed(&mut volunteer);
    }
}

#[test]
fn options_that_run_or_reach_are_refused_for_texts() {
    let gcc = toolchain_of(Path::new("/usr/bin/gcc"));
    for mut volunteer in volunteers(&[]) {
        let mut link = volunteer.link();
        for (number, option) in [
            "-fplugin=/tmp/x.so",
            "-fplugin=short",
            "-iplugindir=/tmp",
            "-fplugin-arg-x-y=z",
            "-fpass-plugin=/tmp/x.so",
            "-Xclang",
            "-mllvm",
            "--config=/tmp/x",
            "-Wl,@/etc/passwd",
            "-Xlinker",
            "-ivfsoverlay/tmp/x",
            "-wrapper",
            "-B/tmp",
            "-B",
            "-specs=/tmp/x",
            "--specs=/tmp/x",
            "@/etc/passwd",
            "-fmodule-mapper=|/bin/sh",
            "-Wa,@/etc/passwd",
            "-Wa,-al=/tmp/x",
            "-Wp,-MD,/tmp/x",
            "-Xassembler",
            "-fdump-tree-all=/tmp/x",
            "-fdump-go-spec=/tmp/x",
            "-dumpdir",
            "-save-temps",
            "-aux-info",
            "-MF/tmp/x",
            "-MD",
            "-o/tmp/x",
            "-I/etc",
            "-include/etc/passwd",
            "-fprofile-use=/etc/passwd",
            "-march=native",
            "--sysroot=/",
            "-time=/tmp/x",
        ]
        .into_iter()
        .enumerate()
        {
            link.submit(number as u32 + 1, &gcc, b"int x;\n", &[option]);
            let why = link.refusal();
            assert!(matches!(why, Refusal::Forbidden { .. }), "{option}: {why:?}");
        }
        assert_unharmed(&mut volunteer);
    }
}

/// What a source says, and whether it may compile at all.
const SOURCES: [&str; 6] = [
    "__asm__(\".incbin \\\"/etc/passwd\\\"\");\n",
    "__asm__(\".include \\\"/etc/passwd\\\"\");\n",
    "#include \"/etc/passwd\"\nint x;\n",
    "const char x[] = {\n#embed \"/etc/passwd\"\n};\n",
    "#pragma GCC pch_preprocess \"/etc/passwd\"\nint x;\n",
    "# 1 \"/etc/passwd\"\nint x = y;\n",
];

#[test]
fn a_source_that_reaches_out_gets_nothing() {
    let secret = fs::read("/etc/passwd").unwrap();
    let has_secret = |text: &[u8]| memchr::memmem::find(text, &secret[..30]).is_some();
    for mut volunteer in volunteers(&[]) {
        for (number, source) in SOURCES.iter().enumerate() {
            let mut link = volunteer.link();
            link.start_job(1, &toolchain_of(Path::new("/usr/bin/gcc")), source.as_bytes());
            let (result, parts) = link.result();
            assert!(!parts.iter().any(|part| has_secret(part)), "{number}");
            assert!(number >= 2 || !result.ended.is_success(), "{number}");

            let project = tempfile::tempdir().unwrap();
            fs::write(project.path().join("a.c"), source).unwrap();
            let mut view = View::of_compiler("/usr/bin/gcc");
            view.path(&project.path().join("a.c"));
            let mut client = Client::new(volunteer.link());
            let job = Job::new("/usr/bin/gcc", &["-c", "a.c", "-o", "a.o"], project.path(), &view);
            let answer = client.run(1, &job).unwrap();
            assert!(!answer.compiled.ended.is_success(), "{number}");
            assert!(!has_secret(&answer.stderr) && answer.products.is_empty(), "{number}");
        }
        assert_unharmed(&mut volunteer);
    }
}

#[test]
fn options_that_reach_out_of_a_box_reach_nothing() {
    let secret = fs::read("/etc/passwd").unwrap();
    for mut volunteer in volunteers(&[]) {
        let project = tempfile::tempdir().unwrap();
        fs::write(project.path().join("a.c"), "int x;\n").unwrap();
        let mut view = View::of_compiler("/usr/bin/gcc");
        view.path(&project.path().join("a.c")).path(attacker());
        let wrapper = format!("{},read,/etc/passwd", attacker().display());
        let outside = volunteer.path("tmp/outside");
        let (output, list) = (format!("-o{}", outside.display()), format!("-MF{}", outside.display()));
        let dump = format!("-fdump-tree-original={}", outside.display());
        for (number, options) in [
            &["-wrapper", &wrapper][..],
            &["@/etc/passwd"],
            &["-specs=/etc/passwd"],
            &["-fplugin=/etc/passwd"],
            &["-fplugin=passwd", "-iplugindir=/etc"],
            &["--specs=/etc/passwd"],
            &["-x", "c++", "-std=c++20", "-fmodules-ts", "-fmodule-mapper=|/bin/cat /etc/passwd"],
            &["-B/etc/", "-specs=passwd"],
            &["-include", "/etc/passwd"],
            &["-Wa,@/etc/passwd"],
            &[&output],
            &["-MD", &list],
            &[&dump],
        ]
        .into_iter()
        .enumerate()
        {
            let mut client = Client::new(volunteer.link());
            let arguments = [options, &["-c", "a.c"]].concat();
            let job = Job::new("/usr/bin/gcc", &arguments, project.path(), &view);
            if let Ok(answer) = client.run(1, &job) {
                let has_secret = |text: &[u8]| memchr::memmem::find(text, &secret[..30]).is_some();
                assert!(!has_secret(&answer.stderr) && !has_secret(&answer.stdout), "{options:?}");
                assert!(!answer.products.values().any(|product| has_secret(product)), "{options:?}");
                assert!(
                    number >= 10 || !answer.compiled.ended.is_success(),
                    "{options:?}: {}",
                    answer.text()
                );
            }
            assert!(!outside.exists(), "{options:?}");
        }
        assert_unharmed(&mut volunteer);
    }
}

#[test]
fn links_among_the_inputs_lead_nowhere() {
    for mut volunteer in volunteers(&[]) {
        let project = tempfile::tempdir().unwrap();
        let mut view = View::default();
        view.path(attacker()).path(project.path());
        for (name, target) in
            [("passwd", "/etc/passwd"), ("up", "../../../../../../etc/passwd"), ("root", "/")]
        {
            view.link(&project.path().join(name), Path::new(target));
        }
        let program = attacker().display().to_string();
        for path in ["passwd", "up", "root/etc/passwd", "root/etc/shadow", "root/var/log"] {
            let mut client = Client::new(volunteer.link());
            let answer = client.run(1, &Job::new(&program, &["read", path], project.path(), &view)).unwrap();
            assert_eq!(answer.compiled.ended, Ended::Exited(3), "{path}: {}", answer.text());
        }
        assert_unharmed(&mut volunteer);
    }
}
