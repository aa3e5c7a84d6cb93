//! Compilers of every kind on a volunteer that has none: outside of /usr, replaced between two jobs,
//! behind links and scripts.

mod noticed;
mod settings;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::farm::{COMMAND_MAX, Farm, Outcome, SHIM, VolunteerOptions, run};

const SOURCE: &str =
    "#include <stddef.h>\n#include \"own.h\"\nint f(int n) { unsigned m = OWN; return n < m; }\n";

/// A farm whose volunteer has nothing, and a folder with something to compile.
fn bare() -> (Farm, PathBuf) {
    let farm = Farm::with(&[VolunteerOptions { bare: true, ..VolunteerOptions::default() }]);
    let folder = farm.work().join("project");
    fs::create_dir(&folder).expect("our own folder");
    fs::write(folder.join("a.c"), SOURCE).expect("written");
    fs::write(folder.join("own.h"), "#define OWN (unsigned)sizeof(size_t)\n").expect("written");
    (farm, folder)
}

fn asked(compiler: &str, question: &str) -> PathBuf {
    let output = Command::new(compiler).arg(question).output().expect("gcc answers");
    fs::canonicalize(String::from_utf8_lossy(&output.stdout).trim()).expect("a file of gcc's")
}

/// gcc with its compiler proper, its headers and its plugin in a folder of its own.
pub fn copy_gcc(into: &Path) -> PathBuf {
    let driver = fs::canonicalize("/usr/bin/gcc").expect("gcc");
    let proper = asked("gcc", "-print-prog-name=cc1");
    let library = proper.parent().expect("a folder");
    let version = library.file_name().expect("a version");
    let machine = library.parent().and_then(Path::file_name).expect("a machine");
    let place = into.join("lib/gcc").join(machine).join(version);
    fs::create_dir_all(&place).expect("our own folder");
    fs::create_dir_all(into.join("bin")).expect("our own folder");
    fs::copy(driver, into.join("bin/gcc")).expect("copied");
    fs::copy(&proper, place.join("cc1")).expect("copied");
    fs::copy(asked("gcc", "-print-file-name=liblto_plugin.so"), place.join("liblto_plugin.so"))
        .expect("copied");
    let headers = asked("gcc", "-print-file-name=include");
    let copied = Command::new("cp").arg("-r").arg(headers).arg(place.join("include")).status();
    assert!(copied.expect("cp runs").success());
    place.join("cc1")
}

/// Compiles here and through the shim; both must be equal, and the second remote.
fn check(farm: &Farm, folder: &Path, line: &str) {
    compare(farm, folder, line, &format!("{SHIM} {line}"));
}

fn compare(farm: &Farm, folder: &Path, line: &str, through_the_shim: &str) {
    let play = |line: &str| -> (Outcome, Vec<u8>) {
        let words: Vec<&str> = line.split(' ').collect();
        let mut command = farm.command(words[0]);
        command.args(&words[1..]).current_dir(folder);
        fs::remove_file(folder.join("a.o")).ok();
        let outcome = run(command, COMMAND_MAX);
        (outcome, fs::read(folder.join("a.o")).expect("an object"))
    };
    let before = farm.total("remote");
    let (here, there) = (play(line), play(through_the_shim));
    assert_eq!(String::from_utf8_lossy(&here.0.stderr), String::from_utf8_lossy(&there.0.stderr), "{line}");
    assert!(here.1 == there.1, "{line}: another object");
    assert_eq!(farm.total("remote"), before + 1, "{line}: {}", farm.status());
}

fn toolchains(farm: &Farm) -> usize {
    farm.status()["hosts"][0]["toolchains"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_compiler_outside_of_usr_travels_and_is_another_one_when_it_was_replaced() {
    let (farm, folder) = bare();
    let proper = copy_gcc(&farm.work().join("opt"));
    let line = format!("{} -g -Wall -Wextra -MD -c a.c", farm.work().join("opt/bin/gcc").display());
    check(&farm, &folder, &line);
    check(&farm, &folder, &line);
    assert_eq!(toolchains(&farm), 1);
    // By a relative path, which volunteers took for a way out of the root, and closed the link.
    std::os::unix::fs::symlink("../opt/bin", folder.join("tools")).expect("a link");
    for compiler in ["../opt/bin/gcc", "./tools/gcc", "tools/../bin/./gcc", "tools//gcc"] {
        check(&farm, &folder, &format!("{compiler} -g -Wall -Wextra -MD -c a.c"));
    }
    let before = toolchains(&farm);
    // One byte behind what is loaded: it does the same, and is another compiler.
    let mut bytes = fs::read(&proper).expect("read");
    bytes.push(0);
    fs::write(proper.with_extension("new"), bytes).expect("written");
    fs::set_permissions(proper.with_extension("new"), fs::Permissions::from_mode(0o755)).expect("ours");
    fs::rename(proper.with_extension("new"), &proper).expect("replaced");
    check(&farm, &folder, &line);
    assert_eq!(toolchains(&farm), before + 1, "{}", farm.status());
    assert_eq!(farm.total("sent_files"), 7);
    farm.finish();
}

/// gcc passed over it on volunteers: the link that leads there was missing.
#[test]
fn a_compiler_finds_its_own_headers_through_a_link() {
    let (farm, folder) = bare();
    let headers = copy_gcc(&farm.work().join("opt")).with_file_name("include");
    fs::rename(&headers, headers.with_file_name("real")).expect("ours");
    std::os::unix::fs::symlink("real", &headers).expect("a link");
    fs::write(folder.join("a.c"), "#if __has_include(<stddef.h>)\nint has;\n#endif\nint k;\n")
        .expect("written");
    let compiler = farm.work().join("opt/bin/gcc");
    check(&farm, &folder, &format!("{} -c a.c", compiler.display()));
    fs::write(folder.join("a.c"), SOURCE).expect("written");
    check(&farm, &folder, &format!("{} -MD -c a.c", compiler.display()));
    farm.finish();
}

#[test]
fn specs_that_come_later_are_known_to_the_scanner() {
    let (farm, folder) = bare();
    let proper = copy_gcc(&farm.work().join("opt"));
    fs::write(folder.join("a.c"), "#ifdef LATER\n#include \"own.h\"\n#endif\nint a;\n").expect("written");
    let line = format!("{} -g -MD -c a.c", farm.work().join("opt/bin/gcc").display());
    check(&farm, &folder, &line);
    let specs = proper.with_file_name("specs");
    fs::write(&specs, "*cpp_unique_options:\n+ -DLATER\n").expect("written");
    check(&farm, &folder, &line);
    fs::remove_file(&specs).expect("ours");
    check(&farm, &folder, &line);
    farm.finish();
}

/// Options that mean something else to gcc kept them here, with a warning for each: `cc` may be any compiler.
#[test]
fn clang_by_the_name_of_cc_is_judged_as_clang() {
    let (farm, folder) = bare();
    for name in ["cc", "gcc"] {
        let compiler = farm.work().join(name);
        let clang = fs::canonicalize("/usr/bin/clang").expect("clang");
        std::os::unix::fs::symlink(clang, &compiler).expect("a link");
        for options in
            ["-save-temps", "-O1 -fsave-optimization-record", "-Wp,-MD,x.d -o a.o", "-x c-header -o a.o"]
        {
            check(&farm, &folder, &format!("{} {options} -c a.c", compiler.display()));
        }
    }
    farm.finish();
}

/// An empty variable, as in `-I $(EMPTY) -d…`: the compiler was asked what it reads without that word, and took the
/// next option for the directory. The object was made without the header.
#[test]
fn a_value_that_looks_like_an_option_is_a_value_when_the_compiler_lists_what_it_reads() {
    let (farm, folder) = bare();
    fs::create_dir(folder.join("odd")).expect("our own folder");
    fs::write(folder.join("odd/d.h"), "int found;\n").expect("written");
    let source = "#if __has_include(<d.h>)\n#include <d.h>\n#else\nint other;\n#endif\n";
    fs::write(folder.join("a.c"), source).expect("written");
    for options in ["-I -d", "-isystem -MD", "-iquote -MF"] {
        for compiler in ["gcc", "clang"] {
            check(&farm, &folder, &format!("{compiler} {options} --include-directory=odd -c a.c"));
        }
    }
    farm.finish();
}

/// clang looks whether it is there, and then knows the folder above it: the line table named the source in another way.
#[test]
fn a_folder_that_the_environment_names_for_another_language_is_there() {
    let (farm, folder) = bare();
    fs::create_dir(folder.join("c")).expect("our own folder");
    fs::write(folder.join("a.cc"), "int f(int c) { return c + 1; }\n").expect("written");
    for name in ["C_INCLUDE_PATH", "OBJC_INCLUDE_PATH", "OBJCPLUS_INCLUDE_PATH"] {
        let listed = format!("env {name}={}", folder.join("c").display());
        for command in ["clang++ -g -c a.cc", "g++ -g -c a.cc"] {
            compare(&farm, &folder, &format!("{listed} {command}"), &format!("{listed} {SHIM} {command}"));
        }
    }
    fs::write(folder.join("a b.h"), "int q;\n").expect("written");
    fs::write(folder.join("a.cc"), "#include \"a b.h\"\n").expect("written");
    check(&farm, &folder, "clang++ -MD -MV -c a.cc");
    farm.finish();
}

/// They stayed here, or, where a file of that name was in the working directory, that one travelled in their place.
#[test]
fn specs_that_gcc_finds_in_its_own_folders_travel() {
    let (farm, folder) = bare();
    let proper = copy_gcc(&farm.work().join("opt"));
    let gcc = farm.work().join("opt/bin/gcc").display().to_string();
    fs::write(folder.join("a.c"), "#include <odd.h>\nint a = ODD + SPECS;\n").expect("written");
    for (name, odd) in [("nano", 1), ("nano2", 2)] {
        fs::create_dir(folder.join(name)).expect("our own folder");
        fs::write(folder.join(name).join("odd.h"), format!("#define ODD {odd}\n")).expect("written");
    }
    // As newlib's are.
    let specs = |number: u32, folder: &str| {
        format!(
            "%rename link\t\tnano_link\n%rename cpp_unique_options\t\tnano_cpp_unique_options\n\n\
             *cpp_unique_options:\n-isystem {folder} -DSPECS={number} %(nano_cpp_unique_options)\n\n\
             *link:\n%(nano_link) %:replace-outfile(-lc -lc_nano)\n\n"
        )
    };
    let nano = folder.join("nano").display().to_string();
    fs::write(proper.with_file_name("nano.specs"), specs(10, &nano)).expect("written");
    let object = |line: &str| {
        check(&farm, &folder, line);
        fs::read(folder.join("a.o")).expect("an object")
    };
    let line = format!("{gcc} --specs=nano.specs -isystem nano2 -O2 -Wall -c a.c");
    let of_the_compiler = object(&line);
    fs::write(folder.join("nano.specs"), specs(20, "nano2")).expect("written");
    assert!(of_the_compiler == object(&line), "its own folders come first");
    fs::write(proper.with_file_name("nano.specs"), specs(30, &nano)).expect("written");
    assert!(of_the_compiler != object(&line), "other specs");
    fs::remove_file(proper.with_file_name("nano.specs")).expect("ours");
    let of_the_folder = object(&line);
    fs::write(folder.join("nano.specs"), specs(40, "nano2")).expect("written");
    assert!(of_the_folder != object(&line), "other specs");
    assert_eq!(farm.total("sent_files"), 5);
    // What they draw in cannot be told.
    fs::write(folder.join("wide.specs"), "%include <nano.specs>\n").expect("written");
    let mut stays = farm.command(SHIM);
    stays.args([&gcc, "-specs=wide.specs", "-c", "a.c"]).current_dir(&folder);
    run(stays, COMMAND_MAX).expect_success("a compile");
    assert_eq!(farm.total("remote"), 5);
    farm.finish();
}

#[test]
fn links_are_seen_through_and_scripts_are_not_believed() {
    let (farm, folder) = bare();
    let bin = farm.bin();
    // ccache's way, and ours: a link of a compiler's name in front of the compiler.
    std::os::unix::fs::symlink("/usr/bin/gcc", bin.join("my-gcc")).expect("a link");
    std::os::unix::fs::symlink("my-gcc", bin.join("other-gcc")).expect("a link");
    check(&farm, &folder, "my-gcc -g -c a.c");
    check(&farm, &folder, "other-gcc -g -Wextra -c a.c");
    std::os::unix::fs::symlink(SHIM, bin.join("gcc")).expect("a link");
    compare(&farm, &folder, "/usr/bin/gcc -g -O1 -c a.c", "gcc -g -O1 -c a.c");
    // Named by its path: the driver was called by that name there, and did not find its parts.
    let caches = farm.work().join("caches");
    fs::create_dir(&caches).expect("our own folder");
    fs::copy("/bin/true", caches.join("ccache")).expect("copied");
    std::os::unix::fs::symlink("ccache", caches.join("gcc")).expect("a link");
    let cached = format!("{SHIM} {}/gcc -g -Wall -Wextra -c a.c", caches.display());
    compare(&farm, &folder, "/usr/bin/gcc -g -Wall -Wextra -c a.c", &cached);
    let script = bin.join("scripted-gcc");
    fs::write(&script, "#!/bin/sh\nexec /usr/bin/gcc -DX \"$@\"\n").expect("written");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("ours");
    let mut explained = farm.command(SHIM);
    explained.args(["--explain", "scripted-gcc", "-g", "-c", "a.c"]).current_dir(&folder);
    let explained = run(explained, COMMAND_MAX);
    let text = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(text.contains("is a script: what it runs cannot be told"), "{text}");
    farm.finish();
}

/// A plugin that says what it was told, and writes a number of its library into the object. What it is
/// made of is in every gcc, with or without the headers for plugins.
const PLUGIN: &str = "#include <stdio.h>\n\
    int plugin_is_GPL_compatible;\n\
    struct argument { char *key, *value; };\n\
    struct info { char *base_name; const char *full_name; int argc; struct argument *argv; };\n\
    extern FILE *asm_out_file;\n\
    int word(void);\n\
    void register_callback(const char *, int, void (*)(void *, void *), void *);\n\
    enum { FINISH_UNIT = 5 };\n\
    static void finish(void *data, void *more) {\n\
    fprintf(asm_out_file, \"\\t.section .word\\n\\t.long %d\\n\", word());\n}\n\
    int plugin_init(struct info *info, void *version) {\n\
    fprintf(stderr, \"%s: %s=%s\\n\", info->full_name, info->argv[0].key, info->argv[0].value);\n\
    register_callback(info->base_name, FINISH_UNIT, finish, 0);\n    return 0;\n}\n";

/// Makes the plugin `tiny` and its library in a folder.
fn make_plugin(folder: &Path, word: u32) {
    fs::create_dir_all(folder).expect("our own folder");
    fs::write(folder.join("plugin.c"), PLUGIN).expect("written");
    fs::write(folder.join("word.c"), format!("int word(void) {{ return {word}; }}\n")).expect("written");
    for line in [
        "-shared -fPIC word.c -o libword.so",
        "-shared -fPIC plugin.c -o tiny.so -L. -lword -Wl,-rpath,$ORIGIN",
    ] {
        let made = Command::new("gcc").args(line.split(' ')).current_dir(folder).status();
        assert!(made.expect("gcc runs").success(), "{line}");
    }
}

/// They stayed on the client: the folder that such a name means did not travel.
#[test]
fn plugins_of_gcc_by_a_short_name_travel() {
    let (farm, folder) = bare();
    let proper = copy_gcc(&farm.work().join("opt"));
    let gcc = farm.work().join("opt/bin/gcc").display().to_string();
    let plugins = proper.parent().expect("a folder").join("plugin");
    make_plugin(&plugins, 42);
    let told = "-fplugin=tiny -fplugin-arg-tiny-key=value";
    let object = |line: &str| {
        check(&farm, &folder, line);
        fs::read(folder.join("a.o")).expect("an object")
    };
    let plain = object(&format!("{gcc} -g -Wall -Wextra -MD -c a.c"));
    let first = object(&format!("{gcc} -g -Wall -Wextra -MD {told} -c a.c"));
    assert!(plain != first, "the plugin does something");
    object(&format!("{gcc} -g -Wall -Wextra -MD {told} -m64 -c a.c"));
    // It and its library are files like others: changed, they are others.
    make_plugin(&plugins, 43);
    let second = object(&format!("{gcc} -g -Wall -Wextra -MD {told} -c a.c"));
    assert!(first != second, "the new library");
    // A folder that comes before the compiler's own, once it is there.
    let before = folder.join("before");
    fs::create_dir(&before).expect("our own folder");
    let line = format!("{gcc} -Wall -Wextra -MD -Bbefore/ {told} -c a.c");
    let third = object(&line);
    make_plugin(&before.join("plugin"), 44);
    assert!(third != object(&line), "the other folder's");
    assert_eq!(farm.total("sent_files"), 6);
    // What is not there is missed here, by gcc itself.
    let mut missing = farm.command(SHIM);
    missing.args([&gcc, "-fplugin=nowhere", "-c", "a.c"]).current_dir(&folder);
    let missing = run(missing, COMMAND_MAX);
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(said.contains("expanded from short plugin name nowhere"), "{said}");
    assert_eq!(farm.total("remote"), 6);
    farm.finish();
}

/// It found nothing there, and said so in the object.
#[test]
fn a_plugin_that_may_read_what_no_option_names_stays_here() {
    let (farm, folder) = bare();
    fs::write(
        folder.join("plugin.c"),
        format!("{PLUGIN}FILE *reach(void) {{ return fopen(\"pin\", \"r\"); }}\n"),
    )
    .expect("written");
    fs::write(folder.join("word.c"), "int word(void) { return 1; }\n").expect("written");
    // By a name that libraries of compilers have, too.
    let made = Command::new("gcc")
        .args("-shared -fPIC plugin.c word.c -o libclang_tiny.so".split(' '))
        .current_dir(&folder)
        .status();
    assert!(made.expect("gcc runs").success());
    let words = ["gcc", "-fplugin=./libclang_tiny.so", "-fplugin-arg-libclang_tiny-key=value", "-c", "a.c"];
    let explained = {
        let mut command = farm.command(SHIM);
        command.arg("--explain").args(words).current_dir(&folder);
        run(command, COMMAND_MAX)
    };
    let text = String::from_utf8_lossy(&explained.stdout).into_owned();
    assert!(text.contains("libclang_tiny.so calls fopen: what else it depends on cannot be told"), "{text}");
    let mut compile = farm.command(SHIM);
    compile.args(words).current_dir(&folder);
    run(compile, COMMAND_MAX).expect_success("a compile");
    assert_eq!((farm.total("remote"), farm.total("local")), (0, 1));
    farm.finish();
}

/// A driver that was found so did not find its parts there, and each compile failed first. An assembler was
/// another one there than here.
#[test]
fn what_path_names_from_here_or_by_dots_is_what_travels() {
    let (farm, folder) = bare();
    for sub in ["tools", "sub", "x/y", "other"] {
        fs::create_dir_all(folder.join(sub)).expect("our own folder");
    }
    std::os::unix::fs::symlink("x/y", folder.join("link")).expect("a link");
    for place in ["tools/my-gcc", "x/my-gcc"] {
        std::os::unix::fs::symlink("/usr/bin/gcc", folder.join(place)).expect("a link");
    }
    let here = folder.display().to_string();
    let play = |path: &str, line: &str| {
        let with = format!("env PATH={path}:/usr/bin:/bin");
        compare(&farm, &folder, &format!("{with} {line}"), &format!("{with} {SHIM} {line}"));
        fs::read(folder.join("a.o")).expect("an object")
    };
    for path in [".", "", "sub/..", "nowhere/.."] {
        play(path, "gcc -g -Wall -Wextra -c a.c");
    }
    for path in
        ["tools", "./sub/../tools", &format!("{here}/sub/../tools"), "link/..", &format!("{here}/link/../")]
    {
        play(path, "my-gcc -g -Wall -Wextra -c a.c");
    }
    // An assembler that says so where debug information names it.
    let assembler = fs::read(fs::canonicalize("/usr/bin/as").expect("as")).expect("read");
    let name = b"GNU AS %s";
    let at = assembler.windows(name.len()).position(|part| part == name).expect("its name");
    let mut changed = assembler;
    changed[at + 5] = b'Z';
    fs::write(folder.join("other/as"), changed).expect("written");
    fs::set_permissions(folder.join("other/as"), fs::Permissions::from_mode(0o755)).expect("ours");
    fs::write(folder.join("a.s"), ".text\n.globl f\nf:\n\tret\n").expect("written");
    let usual = play("tools", "gcc -g -c a.s");
    for path in ["other", "./sub/../other", &format!("{here}/sub/../other"), "tools:other"] {
        assert!(play(path, "gcc -g -c a.s") != usual, "{path}");
    }
    assert_eq!(farm.total("local"), 0, "{}", farm.status());
    farm.finish();
}

/// The assembler that counted was that of the broker's `PATH`: a job that has another one got the object of a
/// volunteer's.
#[test]
fn a_text_is_assembled_by_the_assembler_of_its_own_path_or_here() {
    let texts = VolunteerOptions { more: &["--sandbox", "off"], ..VolunteerOptions::default() };
    let farm = Farm::with(&[texts]);
    let folder = farm.work().join("project");
    fs::create_dir_all(folder.join("other")).expect("our own folder");
    fs::write(folder.join("a.c"), "int f(int n) { while (n > 9) n /= 2; return n; }\n").expect("written");
    let play = |path: &str, counts: &str| {
        let with = |shim: &str| {
            let mut command = farm.command("env");
            command.arg(format!("PATH={path}/usr/bin:/bin")).args(shim.split_whitespace());
            command.args(["gcc", "-c", "a.c"]).current_dir(&folder);
            run(command, COMMAND_MAX).expect_success(path);
            fs::read(folder.join("a.o")).expect("an object")
        };
        let (before, here) = (farm.total(counts), with(""));
        assert!(with(SHIM) == here, "{path}: another object");
        assert_eq!(farm.total(counts), before + 1, "{path}: {}", farm.status());
        here
    };
    let usual = play("", "remote");
    // One that keeps the compiler's own labels; first it is not there yet.
    let other = folder.join("other/as");
    assert!(play("other:", "remote") == usual);
    fs::write(&other, "#!/bin/sh\nexec /usr/bin/as -L \"$@\"\n").expect("written");
    fs::set_permissions(&other, fs::Permissions::from_mode(0o755)).expect("ours");
    for path in ["other:", &format!("{}/other:", folder.display())] {
        assert!(play(path, "local") != usual, "{path}");
    }
    assert!(play("", "remote") == usual);
    fs::remove_file(&other).expect("it was there");
    assert!(play("other:", "remote") == usual);
    farm.finish();
}

/// Such a script was run with a mask of nothing while it was questioned, and its file was writable for all.
#[test]
fn a_script_that_is_questioned_makes_files_as_it_does_elsewhere() {
    let (farm, folder) = bare();
    let script = folder.join("wrapped-gcc");
    let text = format!("#!/bin/sh\ntouch '{}/side.'$$\nexec gcc \"$@\"\n", folder.display());
    fs::write(&script, text).expect("written");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("set");
    for mask in ["022", "002"] {
        let mut command = farm.command("/bin/sh");
        let line = format!("umask {mask} && exec \"$@\"");
        command.args(["-c", &line, "sh", SHIM]).arg(&script).args(["-c", "a.c"]).current_dir(&folder);
        run(command, COMMAND_MAX).expect_success("a compile");
        let _ = fs::remove_file(folder.join("b.o"));
        // One whose mask is another than that of the broker.
        let mut command = farm.command("/bin/sh");
        command.args(["-c", &line, "sh", SHIM, "gcc", "-c", "a.c", "-o", "b.o"]).current_dir(&folder);
        run(command, COMMAND_MAX).expect_success("a compile");
        let mode = fs::metadata(folder.join("b.o")).expect("made").permissions().mode();
        assert_eq!(format!("{:03o}", 0o666 & !mode), mask);
    }
    let made = fs::read_dir(&folder).expect("our folder").map(|entry| entry.expect("an entry").path());
    let sides: Vec<PathBuf> = made.filter(|path| path.display().to_string().contains("/side.")).collect();
    assert!(sides.len() > 2, "{sides:?}: run here twice, and questioned before");
    for side in sides {
        let mode = fs::metadata(&side).expect("made").permissions().mode();
        assert_eq!(mode & 0o002, 0, "{}: {mode:o}", side.display());
    }
    farm.finish();
}
