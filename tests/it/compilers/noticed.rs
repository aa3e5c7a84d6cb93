//! What comes to be where a compiler looks, while a broker runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{asked, bare, check, compare, copy_gcc, toolchains};
use crate::farm::SHIM;

/// Objects came from the one that had been there before, until the broker ended.
#[test]
fn an_assembler_that_comes_to_be_where_gcc_looks_before_path_is_another_toolchain() {
    let (farm, folder) = bare();
    let own = farm.work().join("opt");
    let place = copy_gcc(&own);
    let machine = place.ancestors().nth(2).and_then(Path::file_name).expect("a machine").to_owned();
    let tools = own.join(&machine).join("bin");
    let prefixed = tools.join(format!("{}-as", machine.to_string_lossy()));
    let line = format!("{} -g -c a.c", own.join("bin/gcc").display());
    check(&farm, &folder, &line);
    let mut assembler = fs::read("/usr/bin/as").expect("an assembler");
    for at in [tools.join("as"), prefixed, own.join("lib/gcc").join(machine).join("as")] {
        let before = toolchains(&farm);
        fs::create_dir_all(at.parent().expect("a folder")).expect("our own folder");
        // Behind what is loaded: it does the same, and is another.
        assembler.push(0);
        fs::write(&at, &assembler).expect("written");
        fs::set_permissions(&at, fs::Permissions::from_mode(0o755)).expect("ours");
        check(&farm, &folder, &line);
        assert_eq!(toolchains(&farm), before + 1, "{}: {}", at.display(), farm.status());
    }
    farm.finish();
}

/// clang with a folder of its own, and with two versions of gcc in there, of which one lacks what clang looks for.
fn copy_clang(into: &Path) -> PathBuf {
    let driver = fs::canonicalize("/usr/bin/clang").expect("clang");
    let libraries = driver.ancestors().nth(2).expect("a prefix").join("lib");
    for folder in ["bin", "lib/clang"] {
        fs::create_dir_all(into.join(folder)).expect("our own folder");
    }
    fs::copy(&driver, into.join("bin/clang++")).expect("copied");
    for entry in
        fs::read_dir(&libraries).expect("clang's folder").map(|entry| entry.expect("an entry").path())
    {
        let name = entry.file_name().expect("a name");
        if name.to_string_lossy().starts_with("libclang-cpp.so") {
            std::os::unix::fs::symlink(&entry, into.join("lib").join(name)).expect("a link");
        }
    }
    let resources = asked("clang", "-print-resource-dir");
    let copied = Command::new("cp").arg("-rL").arg(resources).arg(into.join("lib/clang")).status();
    assert!(copied.expect("cp runs").success());
    let machine = Command::new("gcc").arg("-dumpmachine").output().expect("gcc answers").stdout;
    let gccs = into.join("lib/gcc").join(String::from_utf8_lossy(&machine).trim());
    for version in ["98", "99"] {
        let headers = into.join("include/c++").join(version);
        fs::create_dir_all(gccs.join(version)).expect("our own folder");
        fs::create_dir_all(&headers).expect("our own folder");
        fs::write(headers.join("version.h"), format!("int version = {version};\n")).expect("written");
    }
    fs::write(gccs.join("98/crtbegin.o"), "").expect("written");
    gccs
}

/// clang prefers an assembler by its target's name, wherever on `PATH` that is.
#[test]
fn an_assembler_by_the_targets_name_that_comes_to_be_on_path_is_noticed() {
    let (farm, folder) = bare();
    let tools = farm.work().join("tools");
    fs::create_dir(&tools).expect("our own folder");
    let path = format!("PATH=/usr/bin:/bin:{}", tools.display());
    let compile = "clang -fno-integrated-as -g -c a.c";
    let compare =
        || compare(&farm, &folder, &format!("env {path} {compile}"), &format!("env {path} {SHIM} {compile}"));
    compare();
    let before = toolchains(&farm);
    let machine = Command::new("clang").arg("-print-target-triple").output().expect("clang answers").stdout;
    let assembler = tools.join(format!("{}-as", String::from_utf8_lossy(&machine).trim()));
    let mut bytes = fs::read("/usr/bin/as").expect("an assembler");
    bytes.push(0);
    fs::write(&assembler, bytes).expect("written");
    fs::set_permissions(&assembler, fs::Permissions::from_mode(0o755)).expect("ours");
    compare();
    assert_eq!(toolchains(&farm), before + 1, "{}", farm.status());
    farm.finish();
}

/// What clang takes of a gcc, and of a library of its own, changed with what came to be there: objects stayed as they were.
#[test]
fn headers_that_clang_takes_from_elsewhere_once_they_are_there_are_noticed() {
    let (farm, folder) = bare();
    let own = farm.work().join("opt");
    let gccs = copy_clang(&own);
    fs::write(folder.join("a.cc"), "#include <version.h>\n").expect("written");
    let line = format!("{} -g -MD -c a.cc -o a.o", own.join("bin/clang++").display());
    let library = line.replace(" -c ", " -stdlib=libc++ -c ");
    check(&farm, &folder, &line);
    fs::write(gccs.join("99/crtbegin.o"), "").expect("written");
    check(&farm, &folder, &line);
    fs::remove_file(gccs.join("99/crtbegin.o")).expect("removed");
    check(&farm, &folder, &line);
    let sixty_four = own.join("lib64/gcc").join(gccs.file_name().expect("a machine")).join("99");
    fs::create_dir_all(&sixty_four).expect("our own folder");
    check(&farm, &folder, &line);
    fs::write(sixty_four.join("crtbegin.o"), "").expect("written");
    check(&farm, &folder, &line);
    for version in ["0", "1"] {
        // First one that its words name, behind its own.
        let at = if version == "0" { farm.work().join("named") } else { own.join("include/c++/v1") };
        fs::create_dir_all(&at).expect("our own folder");
        fs::write(at.join("version.h"), format!("int version = {version};\n")).expect("written");
        check(&farm, &folder, &format!("{library} -idirafter {}", farm.work().join("named").display()));
    }
    farm.finish();
}
