//! What clang is told besides its command line.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{bare, check};
use crate::farm::{COMMAND_MAX, Farm, SHIM, VolunteerOptions, run};

/// A clang of our own in such a folder.
fn copied(into: &Path) -> PathBuf {
    fs::create_dir_all(into.join("bin")).expect("our own folder");
    let real = fs::canonicalize("/usr/bin/clang").expect("clang");
    let libraries = real.ancestors().nth(2).expect("an installation").join("lib");
    symlink(libraries, into.join("lib")).expect("a link");
    let clang = into.join("bin/x86_64-clang");
    fs::copy(real, &clang).expect("copied");
    clang
}

/// Only the one that `-v` names, which is that of the compiler's own target, went along: for another target all was
/// compiled without what it said.
#[test]
fn configuration_files_of_clang_go_along_whichever_the_command_takes() {
    let (farm, folder) = bare();
    let clang = copied(&farm.work().join("llvm"));
    let tells = |name: &str, text: &str| fs::write(clang.with_file_name(name), text).expect("written");
    let source = "#ifndef WORD\n#define WORD 1\n#endif\nint word = WORD;\n";
    fs::write(folder.join("a.c"), source).expect("written");
    let all = || {
        for options in ["", "-m32 ", "-no-canonical-prefixes -m32 "] {
            check(&farm, &folder, &format!("{} {options}-c a.c", clang.display()));
        }
    };
    tells("x86_64-clang.cfg", "-DWORD=64\n");
    all();
    tells("i386-clang.cfg", "-DWORD=32\n@more\n");
    tells("more", "-O2\n");
    all();
    tells("more", "-O1 -DMORE\n");
    all();
    farm.finish();
}

/// On a volunteer with the same clang and other files a text would mean something else.
#[test]
fn a_clang_that_is_told_something_else_on_a_volunteer_is_another_one() {
    let setup = "mkdir -p $DIR/../llvm/bin && cp -L /usr/bin/clang $DIR/../llvm/bin/x86_64-clang && \
                 ln -s $(dirname $(readlink -f /usr/bin/clang))/../lib $DIR/../llvm/lib && export PATH=$DIR/../llvm/bin:$PATH";
    let more = &["--sandbox", "off"];
    let farm = Farm::with(&[VolunteerOptions { setup: Some(setup), more, ..VolunteerOptions::default() }]);
    let here = copied(&farm.work().join("llvm"));
    fs::write(farm.work().join("a.c"), "int x = 1;\n").expect("written");
    let goes_out = || {
        let before = farm.total("remote");
        let mut command = farm.command(SHIM);
        command.arg(&here).args(["-c", "a.c"]);
        run(command, COMMAND_MAX).expect_success("compiled");
        farm.total("remote") > before
    };
    assert!(goes_out());
    fs::write(here.with_file_name("i386-clang.cfg"), "-O1\n").expect("written");
    assert!(!goes_out());
    farm.finish();
}
