//! What a hostile client may try besides: to use up what others need, odd outputs, other names for files, and not to
//! end.

use super::*;

#[test]
fn what_others_need_cannot_be_used_up() {
    check(&[], |_| words("exhaust"));
}

#[test]
fn what_is_left_in_crowds_or_depths_harms_nobody() {
    for mut volunteer in volunteers(&[]) {
        // More than one compile may make; more than there can be; more folders than a daemon may have files open.
        for words in ["files 5000", "files 100000", "folders 20000", "dig 300", "leave holes out.o"] {
            let words: Vec<&str> = words.split(' ').collect();
            let attacked = attack_as_files(&volunteer, &words);
            let nothing = !attacked.ended.is_ok_and(|ended| ended.is_success());
            assert!(nothing && attacked.outputs.is_empty(), "{words:?}: {:?}", attacked.outputs.len());
            for attack in [attack_as_text, attack_as_classic] {
                let attacked = attack(&volunteer, &words);
                let nothing = attacked.outputs.iter().all(Vec::is_empty);
                assert!(nothing, "{words:?}: {attacked:?}");
            }
            assert_unharmed(&mut volunteer);
        }
        let attacked = attack_as_files(&volunteer, &["leave", "unreadable", "out.o"]);
        assert_eq!(attacked.outputs, [b"".to_vec()], "{attacked:?}");
    }
}

/// The files of a volunteer's store: what their names say, and what they are.
fn stored(volunteer: &Volunteer) -> Vec<(String, String)> {
    let store = volunteer.jobs_left().remove(0).parent().unwrap().join("files");
    let below = |folder: PathBuf| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let folders = below(store).filter(|path| path.is_dir() && path.file_name().unwrap().len() == 2);
    let named = |path: PathBuf| {
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let digest = name(path.parent().unwrap()) + name(&path).split('-').next().unwrap();
        (digest, blake3::hash(&fs::read(&path).unwrap()).to_hex().to_string())
    };
    folders.flat_map(below).map(named).collect()
}

#[test]
fn another_name_for_an_input_does_not_lead_into_the_store() {
    for mut volunteer in volunteers(&[]) {
        let project = tempfile::tempdir().unwrap();
        let precious = project.path().join("precious");
        fs::write(&precious, "precious").unwrap();
        let mut view = View::default();
        view.path(attacker()).path(&precious);
        let program = attacker().display().to_string();
        for path in [precious.display().to_string(), program.clone()] {
            let mut client = Client::new(volunteer.link());
            let job = Job::new(&program, &["relink", &path], project.path(), &view);
            client.run(1, &job).err();
        }
        for attack in [attack_as_text, attack_as_classic] {
            attack(&volunteer, &["relink", "/usr/include/stdio.h"]);
            attack(&volunteer, &["relink", "in.i"]);
        }
        let files = stored(&volunteer);
        assert!(files.len() >= 2 && files.iter().all(|(name, is)| name == is), "{files:?}");
        assert_unharmed(&mut volunteer);
    }
}

#[test]
fn processes_that_will_not_end_are_gone_with_whoever_wanted_them() {
    for mut volunteer in volunteers(&[]) {
        let compiler = hostile_compiler(&volunteer, &["spin", "20"]);
        let mut link = volunteer.link();
        link.start_job(1, &compiler, b"spin");
        let spinning = |volunteer: &Volunteer| {
            let program = volunteer.path("bin/attacker");
            let ours = |path: PathBuf| {
                let line = fs::read(path.join("cmdline")).unwrap_or_default();
                line.starts_with(program.as_os_str().as_encoded_bytes())
            };
            fs::read_dir("/proc").unwrap().filter(|entry| ours(entry.as_ref().unwrap().path())).count()
        };
        wait_for("they spin", || spinning(&volunteer) == 20);
        link.send(&ToVolunteer::Cancel { job: 1 });
        wait_for("they are gone", || spinning(&volunteer) == 0);
        let stream = ask_as_classic(&volunteer, &["spin", "20"]);
        wait_for("they spin again", || spinning(&volunteer) == 20);
        drop(stream);
        assert_unharmed(&mut volunteer);
    }
}
