//! How compilers end, and that nothing of them is left when they have.

use super::*;

/// What a client is told of a compiler that did this, by both kinds of job and on both kinds of volunteer.
fn check_ends(words: &str, expected: Ended) {
    let words: Vec<&str> = words.split(' ').collect();
    for mut volunteer in volunteers(&[]) {
        for attack in ATTACKS {
            let attacked = attack(&volunteer, &words);
            assert!(matches!(attacked.ended, Ok(ended) if ended == expected), "{words:?}: {attacked:?}");
        }
        assert_unharmed(&mut volunteer);
    }
}

#[test]
fn a_compiler_ends_as_it_would_anywhere() {
    // The first process of a pid namespace would not die of the first of these, and live on after the others.
    check_ends("abort", Ended::Killed(libc::SIGABRT));
    check_ends("segfault", Ended::Killed(libc::SIGSEGV));
    check_ends("wild", Ended::Killed(libc::SIGSEGV));
    for signal in [libc::SIGHUP, libc::SIGTERM, libc::SIGKILL, libc::SIGXCPU] {
        check_ends(&format!("raise {signal}"), Ended::Killed(signal));
    }
    check_ends("exit 255", Ended::Exited(255));
}

#[test]
fn what_a_compiler_leaves_running_ends_with_it() {
    check_ends("linger", Ended::Exited(0));
}

#[test]
fn orphans_are_buried_while_the_compiler_runs() {
    // More than there may be at a time.
    check_ends("orphans 1500", Ended::Exited(0));
}

#[test]
fn the_first_process_of_a_box_cannot_be_looked_into() {
    for file in ["environ", "maps", "mem", "exe", "fd/3", "cwd", "root/etc"] {
        check(&[], |_| vec!["read".to_owned(), format!("/proc/1/{file}")]);
    }
}

/// Where the header of a program says for which machine it is (elf(5), `e_machine`).
const MACHINE: std::ops::Range<usize> = 18..20;

#[test]
fn a_program_that_is_none_or_for_another_kind_of_machine_is_not_asked_for_again() {
    let mut foreign = fs::read("/bin/true").unwrap();
    let machine =
        if cfg!(target_arch = "aarch64") { object::elf::EM_X86_64 } else { object::elf::EM_AARCH64 };
    foreign[MACHINE].copy_from_slice(&machine.0.to_le_bytes());
    let contents = [b"neither a program nor a script".to_vec(), foreign];
    let cases = contents.iter().flat_map(|contents| volunteers(&[]).map(|volunteer| (volunteer, contents)));
    for (mut volunteer, contents) in cases {
        let project = tempfile::tempdir().unwrap();
        let program = project.path().join("compiler");
        fs::write(&program, contents).unwrap();
        fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let mut view = View::default();
        view.path(&program).path(project.path());
        let mut client = Client::new(volunteer.link());
        let words = program.display().to_string();
        let why = client.run(1, &Job::new(&words, &["-c", "a.c"], project.path(), &view)).err().unwrap();
        assert!(
            matches!(&why, Refusal::NoSuchToolchain { detail } if detail.contains("no program for machines like this")),
            "{why:?}"
        );
        assert_unharmed(&mut volunteer);
    }
}
