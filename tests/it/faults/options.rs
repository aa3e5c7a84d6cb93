//! Options that others lose outputs or bytes over, each as here: on a volunteer, or at home with a reason.

use crate::scene::{Place, Scene, Theatre};

const SOURCE: &str = "#include <stddef.h>\n#include \"inc/own.h\"\n\
    #define NOTE __FILE__ \":\" __BASE_FILE__\nstatic const char note[] = NOTE;\n\
    int f(int n, unsigned m) { int s = 0; for (int i = 0; i < n; i++) s += OWN(i) ^ note[i % sizeof note]; return s < (int)m ? s : __COUNTER__; }\n";
const OWN: &str = "#pragma once\n#define OWN(x) ((x) + __LINE__)\nstatic inline int spare(void) { return __INCLUDE_LEVEL__; }\n";

fn scene(command: &str, name: &str) -> Scene {
    Scene::new(command).file(name, SOURCE).file("inc/own.h", OWN).file("out/keep", "")
}

/// Everything in `lines`, each a set of options, with gcc or clang.
fn check_all(theatre: &Theatre, compiler: &str, place: Place, lines: &[&str]) {
    for options in lines {
        theatre.check(place, &scene(&format!("{compiler} {options} -c a.c"), "a.c"));
    }
}

#[test]
fn of_gcc() {
    let theatre = Theatre::bare();
    check_all(
        &theatre,
        "gcc",
        Place::Remote,
        &[
            "-O3 -ffast-math -funroll-loops -ftree-vectorize",
            "-g3 -ggdb -gdwarf-4 -fno-common",
            "-g -fdebug-prefix-map=inc=elsewhere -ffile-prefix-map=a.c=b.c -fmacro-prefix-map=inc=x",
            "-g -gsplit-dwarf -O1 -o out/x.o",
            "--coverage -frandom-seed=1 -o out/x.o",
            "-fprofile-arcs -ftest-coverage -frandom-seed=1",
            "-flto -frandom-seed=1 -O2",
            "-flto -ffat-lto-objects -frandom-seed=1 -g",
            "-fPIC -fvisibility=hidden -fstack-protector-strong -D_FORTIFY_SOURCE=2 -O2",
            "-ffunction-sections -fdata-sections -Wa,--noexecstack -pipe",
            "-pg -fno-omit-frame-pointer -fopenmp",
            "-fsanitize=address,undefined -g",
            "-std=gnu99 -w -trigraphs",
            "-x c++ -std=c++20 -fno-exceptions",
            "-S -fverbose-asm -masm=intel -O2",
            "-Wp,-DSET=1 -Xassembler --no-pad-sections",
            "-MMD -MP -MT all -MF out/dep.d -g",
            "-MD -MQ $(x) -Wp,-MT,other",
            "-fstack-usage -fcallgraph-info -fdump-tree-optimized -O2",
            "-save-temps=obj -o out/x.o",
            "-frecord-gcc-switches -fno-ident",
            "-isystem inc -include inc/own.h -idirafter out -iquote inc",
            "-Wall -Wextra -Wconversion -fdiagnostics-color=always -fdiagnostics-show-option",
            "-Wall -Wextra -fdiagnostics-format=json",
            "-m32 -ffreestanding",
            "-dA -dD -g",
        ],
    );
    theatre.close();
}

#[test]
fn of_clang() {
    let theatre = Theatre::bare();
    check_all(
        &theatre,
        "clang",
        Place::Remote,
        &[
            "-g -gsplit-dwarf -O1 -o out/x.o",
            "-g -fdebug-prefix-map=inc=elsewhere -ffile-prefix-map=a.c=b.c -fdebug-compilation-dir=/x",
            "--coverage -O1 -o out/x.o",
            "-fprofile-instr-generate -fcoverage-mapping",
            "-flto -O2",
            "-flto=thin -g",
            "-fsanitize=address,undefined -g",
            "-S -masm=intel -fno-integrated-as",
            "-fno-integrated-as -g",
            "-MD -MP -MT all -MF out/dep.d -g -MJ out/db.json",
            "-ffunction-sections -fPIC -fstack-protector-strong",
            "-Xclang -disable-O0-optnone -mllvm -inline-threshold=10",
            "-Weverything -fcolor-diagnostics -fdiagnostics-format=vi",
            "-std=gnu89 -Wp,-DSET=1 -w",
            "-x c++ -std=c++20 -stdlib=libstdc++",
        ],
    );
    theatre.close();
}

#[test]
fn that_stay_at_home_or_go_another_way() {
    let theatre = Theatre::bare();
    for compiler in ["gcc", "clang"] {
        check_all(
            &theatre,
            compiler,
            Place::Either,
            &[
                "-E -o out/a.i",
                "-fsyntax-only",
                "-M -MF out/a.d",
                "-nostdinc",
                "-fno-such-option",
                "-save-temps",
                "-DX=__DATE__ -DY=__TIME__",
                "-fprofile-use=out/none.profdata",
                "-specs=out/none.specs",
                "-o /dev/null",
                "-fmodules",
                "-O2 -march=native -mtune=native",
                "-emit-llvm -O1",
                "-Wa,-ahls=list.txt -save-temps",
            ],
        );
    }
    for text in [
        "const char *when = __DATE__ \" \" __TIME__;\n",
        "const char *changed = __TIMESTAMP__;\n",
        "#include __FILE__\n",
        "int x = __LINE__ + __COUNTER__ + __COUNTER__;\n#line 7 \"other.c\"\nconst char *n = __FILE__;\n",
    ] {
        let dated = Scene::new("gcc -g -c a.c").file("a.c", text).env("SOURCE_DATE_EPOCH", "1000000000");
        // The time of the file is in its object.
        theatre.check(Place::Either, &dated.shell("touch -d @1600000000 a.c; exec \"$@\""));
    }
    let module = "export module m;\nexport int f() { return 1; }\n";
    // The interface says when it was made.
    let module = Scene::new("g++ -std=c++20 -fmodules-ts -c m.cc").file("m.cc", module);
    let module = module.shell("\"$@\"; s=$?; test -s gcm.cache/m.gcm && rm -r gcm.cache; exit $s");
    theatre.check(Place::Either, &module);
    theatre.close();
}
