//! Others clean up temporary files: a volunteer's folders go beneath the running daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::farm::{COMMAND_MAX, Farm, VolunteerOptions, run};

/// The folder of the only daemon, `distccd-UID/0`.
fn own(farm: &Farm) -> PathBuf {
    let base = fs::read_dir(farm.store(0)).expect("its folder").next().expect("one").expect("read");
    base.path().join("0")
}

/// The folder of its jobs.
fn jobs(own: &Path) -> PathBuf {
    let entries = fs::read_dir(own).expect("a folder").map(|entry| entry.expect("read").path());
    let is_jobs =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"jobs-"));
    entries.filter(is_jobs).last().expect("one")
}

/// A compile with a header that nobody has seen yet, twice; what the volunteer made is what is made here.
fn goes_out(farm: &Farm, what: &str, number: u64) {
    let work = farm.work();
    fs::write(work.join("h.h"), format!("#define X {number}\n")).expect("our own file");
    fs::write(work.join("a.c"), "#include <stdlib.h>\n#include \"h.h\"\nint x = X;\n").expect("our own file");
    for (again, output) in ["a.o", "b.o"].into_iter().enumerate() {
        farm.shim(["gcc", "-g", "-c", "a.c", "-o", output]).expect_success("compiled");
        let expected = 2 * number + again as u64 + 1;
        assert_eq!(farm.total("remote"), expected, "{what}: {}", farm.status());
    }
    let mut here = farm.command("gcc");
    here.args(["-g", "-c", "a.c", "-o", "here.o"]);
    run(here, COMMAND_MAX).expect_success("compiled here");
    let read = |name: &str| fs::read(work.join(name)).expect("an object");
    assert!(read("a.o") == read("here.o") && read("b.o") == read("here.o"), "{what}");
}

/// Each removal was the end of all jobs until the daemon was started again.
fn serves_on(options: VolunteerOptions) {
    let farm = Farm::with(&[options]);
    goes_out(&farm, "nothing", 0);
    let own = own(&farm);
    let jobs = jobs(&own);
    let base = own.parent().expect("a folder").to_owned();
    let removals = [
        own.join("files/incoming"),
        own.join("files"),
        jobs.join("stage"),
        jobs.join("farms"),
        jobs.join("premises"),
        jobs.join("premises/tree/usr"),
        jobs.clone(),
        own.join("lock"),
        own.clone(),
        base.clone(),
    ];
    for (number, path) in (1..).zip(&removals) {
        let what = path.display().to_string();
        // Where jobs have no box there are fewer.
        if path.exists() {
            // In one moment, or the daemon makes it again meanwhile.
            let aside = farm.directory_of_tests("aside");
            fs::rename(path, &aside).expect(&what);
            match aside.is_dir() {
                true => fs::remove_dir_all(&aside).expect(&what),
                false => fs::remove_file(&aside).expect(&what),
            }
        }
        goes_out(&farm, &what, number);
    }
    for path in [&base, &own, &jobs] {
        let mode = path.metadata().expect("it is there again").permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{}", path.display());
    }
    farm.finish();
}

#[test]
fn a_volunteer_whose_folders_were_removed_beneath_it_never_served_again() {
    serves_on(VolunteerOptions::default());
}

#[test]
fn a_volunteer_of_texts_whose_folders_were_removed_beneath_it_never_served_again() {
    serves_on(VolunteerOptions { more: &["--sandbox", "off"], ..Default::default() });
}
