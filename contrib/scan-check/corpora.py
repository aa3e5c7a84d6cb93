"""The projects that the include scanner is checked on, fetched from registries.

crates.io (`cargo vendor` of projects/Cargo.toml), Debian's sources (`apt-get source`), and what is installed of
Debian's packages of headers, examples and kernel sources (libboost-all-dev libboost1.74-doc qtbase5-dev qtbase5-examples
libeigen3-dev linux-source-6.1; to configure the kernel: flex bison bc libelf-dev). Each is fetched and configured once, in
WORKDIR; one that cannot be had is told on stderr and left out.
"""
import glob, os, re, subprocess, sys, tarfile

HERE = os.path.dirname(os.path.abspath(__file__))


def vendored(work):
    target = os.path.join(work, "vendor")
    if not os.path.isdir(target):
        manifest = os.path.join(HERE, "projects", "Cargo.toml")
        subprocess.run(["cargo", "vendor", "--quiet", "--locked", "--versioned-dirs", "--manifest-path", manifest, target],
                       check=True, stdout=subprocess.DEVNULL)
    return lambda crate: sorted(glob.glob(os.path.join(target, crate + "-[0-9]*")))[-1]


def sources(directory, *patterns, without=()):
    found = []
    for pattern in patterns:
        found += glob.glob(os.path.join(directory, pattern), recursive=True)
    return sorted(os.path.relpath(f, directory) for f in found if not any(w in f for w in without))


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if not os.path.exists(path):
        with open(path, "w") as file:
            file.write(text)


def made(work, name, headers, suffix="cc"):
    """One translation unit per header."""
    directory = os.path.join(work, name)
    for number, header in enumerate(headers):
        write(os.path.join(directory, f"{number:04}.{suffix}"), f"#include <{header}>\n")
    return directory


def headers(root, pattern, step=1):
    found = sorted(glob.glob(os.path.join(root, pattern), recursive=True))
    return [os.path.relpath(f, root) for f in found if os.path.isfile(f)][::step]


def projects(work):
    crate = vendored(work)
    git = crate("libgit2-sys") + "/libgit2"
    write(work + "/git2/git2_features.h", "#define GIT_THREADS 1\n#define GIT_ARCH_64 1\n#define GIT_SHA1_COLLISIONDETECT 1\n"
          "#define GIT_SHA256_BUILTIN 1\n#define GIT_IO_POLL 1\n#define GIT_REGEX_BUILTIN 1\n#define GIT_NTLM 1\n"
          "#define GIT_USE_NSEC 1\n#define GIT_USE_STAT_MTIM 1\n#define GIT_HTTPPARSER_BUILTIN 1\n#define GIT_TRACE 1\n")
    rocks = crate("librocksdb-sys") + "/rocksdb"
    free = crate("freetype-sys") + "/freetype2"
    lua = crate("lua-src")
    yield ("sqlite", crate("libsqlite3-sys") + "/sqlite3", sources(crate("libsqlite3-sys") + "/sqlite3", "*.c"), "c",
           [["-O2", "-DSQLITE_THREADSAFE=1", "-DSQLITE_ENABLE_FTS5"], ["-O0", "-g", "-DSQLITE_DEBUG", "-std=gnu89"]])
    yield ("libgit2", git, sources(git, "src/**/*.c", "deps/**/*.c", without=("win32", "winhttp")), "c",
           [["-O2", "-I" + work + "/git2", "-Iinclude", "-Isrc/util", "-Isrc/libgit2", "-Ideps/xdiff", "-Ideps/pcre",
             "-Ideps/llhttp", "-Ideps/ntlmclient", "-DNTLM_STATIC", "-DUNICODE_BUILTIN", "-DCRYPT_OPENSSL", "-std=c99", "-D_GNU_SOURCE"]])
    zstd = crate("zstd-sys") + "/zstd/lib"
    yield ("zstd", zstd, sources(zstd, "**/*.c", "**/*.S"), "c", [["-O3", "-DXXH_NAMESPACE=ZSTD_"], ["-Os", "-march=haswell", "-Icommon"]])
    for directory in sorted(glob.glob(lua + "/lua-5*")):
        yield (os.path.basename(directory), directory, sources(directory, "*.c"), "c", [["-O2", "-DLUA_USE_LINUX", "-std=gnu99"]])
    yield ("rocksdb", rocks, sources(rocks, "**/*.cc", without=("/java/", "/windows/", "/port/win", "/third-party/")), "c++",
           [["-std=c++17", "-O2", "-I.", "-Iinclude", "-Ithird-party/gtest-1.8.1/fused-src", "-DROCKSDB_PLATFORM_POSIX", "-DOS_LINUX",
             "-DROCKSDB_LIB_IO_POSIX", "-DROCKSDB_SUPPORT_THREAD_LOCAL", "-DNDEBUG"]])
    zlib = crate("libz-sys") + "/src/zlib"
    yield ("zlib", zlib, sources(zlib, "**/*.c", "**/*.cpp", "**/*.cc"), "c", [["-O2", "-I."], ["-ansi", "-I.", "-DZ_SOLO"]])
    zng = crate("libz-sys") + "/src/zlib-ng"
    yield ("zlib-ng", zng, sources(zng, "*.c", "arch/generic/*.c", "arch/x86/*.c"), "c",
           [["-O2", "-I.", "-DZLIB_COMPAT", "-DX86_FEATURES", "-mavx2", "-mpclmul"]])
    yield ("freetype", free, sources(free, "src/**/*.c"), "c", [["-O2", "-Iinclude", "-DFT2_BUILD_LIBRARY", "-DFT_CONFIG_OPTION_SYSTEM_ZLIB"]])
    harf = crate("harfbuzz-sys") + "/harfbuzz"
    yield ("harfbuzz", harf, sources(harf, "src/*.cc", "test/**/*.cc", "test/**/*.c", "util/*.cc"), "c++",
           [["-O2", "-std=c++11", "-DHAVE_PTHREAD", "-Isrc"], ["-std=c++20", "-Isrc", "-fno-exceptions", "-fno-rtti"]])
    jem = configured(work, "jemalloc", crate("tikv-jemalloc-sys"), "cp configure/configure jemalloc/ && cd jemalloc && "
                     "sh ./configure --with-jemalloc-prefix=_rjem_ >/dev/null 2>&1 && make include/jemalloc/internal/private_namespace.gen.h >/dev/null 2>&1; "
                     "touch include/jemalloc/internal/private_namespace.h")
    yield ("jemalloc", jem + "/jemalloc", sources(jem + "/jemalloc", "src/*.c"),
           "c", [["-std=gnu11", "-O3", "-D_GNU_SOURCE", "-Iinclude"]])
    ssl = crate("openssl-src") + "/openssl"
    yield ("openssl", configured(work, "openssl", ssl, "perl Configure linux-x86_64 no-asm >/dev/null 2>&1 && make build_generated >/dev/null 2>&1"),
           None, "c", [["-O2", "-I.", "-Iinclude", "-Iproviders/common/include", "-Iproviders/implementations/include", "-Icrypto",
                        "-DOPENSSLDIR=\"/x\"", "-DENGINESDIR=\"/x\"", "-DMODULESDIR=\"/x\""]])
    git = debian(work, "git", "make command-list.h config-list.h hook-list.h")
    if git:
        yield ("git", git, sources(git, "*.c", "builtin/*.c", "xdiff/*.c", "reftable/*.c", "refs/*.c", "trace2/*.c"), "c",
               [["-g", "-O2", "-I.", "-DHAVE_SYSINFO", "-DGIT_HOST_CPU=\"x\"", "-DUSE_LIBPCRE2", "-DHAVE_ALLOCA_H", "-DSHA1_DC", "-DSHA256_BLK",
                 "-DHAVE_PATHS_H", "-DHAVE_CLOCK_GETTIME", "-DGIT_VERSION=\"2\"", "-DNO_OPENSSL", "-DNO_CURL", "-DNO_EXPAT"]])
    redis = debian(work, "redis", "sh src/mkreleasehdr.sh; cd src && sh ./mkreleasehdr.sh")
    if redis:
        yield ("redis", redis + "/src", sources(redis + "/src", "*.c", "../deps/hiredis/*.c", "../deps/lua/src/*.c"), "c",
               [["-std=c11", "-O2", "-g", "-I../deps/hiredis", "-I../deps/linenoise", "-I../deps/lua/src", "-I../deps/hdr_histogram", "-DREDIS_STATIC="]])
    kernel, flags = linux(work)
    if kernel:
        yield ("linux", kernel, sources(kernel, "kernel/*.c", "kernel/*/*.c", "lib/*.c", "mm/*.c", "fs/ext4/*.c", "net/ipv4/*.c", "block/*.c",
                                        "arch/x86/kernel/*.c", "arch/x86/mm/*.c", "arch/x86/lib/*.S", "arch/x86/crypto/*.S"), "c", [flags])
    examples = boost_examples(work)
    if examples:
        yield ("boost-ex", examples, sources(examples, "**/*.cpp")[::3], "c++", [["-std=c++17", "-O2", "-pthread"]])
    examples = qt_examples(work)
    for qt in glob.glob("/usr/include/*/qt5") if examples else ():
        modules = ("QtCore", "QtGui", "QtWidgets", "QtNetwork", "QtDBus", "QtSql", "QtXml", "QtTest", "QtConcurrent", "QtOpenGL", "QtPrintSupport")
        flags = ["-std=gnu++17", "-O2", "-fPIC", "-I.", "-isystem", qt] + [a for m in modules for a in ("-isystem", f"{qt}/{m}")]
        yield ("qt-ex", examples, sources(examples, "**/*.cpp"), "c++", [flags])
    if os.path.isdir("/usr/include/boost"):
        listed = headers("/usr/include", "boost/*.hpp") + headers("/usr/include", "boost/*/*.hpp", 5)
        yield ("boost", made(work, "boost", listed), None, "c++", [["-std=c++17", "-O2"], ["-std=gnu++14"]])
    for qt in glob.glob("/usr/include/*/qt5"):
        listed = [h for h in headers(qt, "Qt*/Q*") if "." not in h]
        flags = ["-std=c++17", "-fPIC", "-isystem", qt] + [a for m in sorted(os.listdir(qt)) if os.path.isdir(f"{qt}/{m}") for a in ("-isystem", f"{qt}/{m}")]
        yield ("qt", made(work, "qt", listed[::3]), None, "c++", [flags])
    if os.path.isdir("/usr/include/eigen3"):
        yield ("eigen", made(work, "eigen", [h for h in headers("/usr/include/eigen3", "**/*") if "." not in h]), None, "c++",
               [["-O2", "-I/usr/include/eigen3", "-mavx2"]])
    yield ("libstdc++", made(work, "std", headers("/usr/include/c++/12", "*") + headers("/usr/include/c++/12", "experimental/*")),
           None, "c++", [["-std=c++20"], ["-std=c++11", "-O2"], ["-std=gnu++23"]])
    c_headers = headers("/usr/include", "*.h") + headers("/usr/include/x86_64-linux-gnu", "sys/*.h") + headers("/usr/include", "linux/*.h", 4)
    yield ("libc", made(work, "libc", c_headers, "c"), None, "c", [["-std=c11"], ["-std=gnu17", "-D_GNU_SOURCE", "-O2", "-D_FORTIFY_SOURCE=2"], ["-ansi"]])


def sample(work):
    """A few small projects, those of tests/projects: for CI."""
    root = os.path.dirname(os.path.dirname(HERE))
    place = os.path.join(work, "sample")
    names = ["lua", "zlib", "zstd", "meshopt", "harfbuzz"]
    subprocess.run([os.path.join(root, "tests", "projects", "fetch"), place, *names], check=True)
    at = lambda name: os.path.join(place, name)
    yield ("lua", at("lua"), sources(at("lua"), "*.c"), "c", [["-O2", "-DLUA_USE_LINUX", "-std=gnu99"]])
    yield ("zlib", at("zlib"), sources(at("zlib"), "*.c"), "c", [["-O2", "-I."], ["-ansi", "-DZ_SOLO"]])
    yield ("zstd", at("zstd"), sources(at("zstd"), "**/*.c", "**/*.S"), "c", [["-O3", "-DXXH_NAMESPACE=ZSTD_"]])
    yield ("meshopt", at("meshopt"), sources(at("meshopt"), "src/*.cpp"), "c++", [["-O2", "-std=c++17"]])
    yield ("harfbuzz", at("harfbuzz"), sources(at("harfbuzz"), "src/hb-*.cc"), "c++", [["-O2", "-std=c++11", "-DHAVE_PTHREAD", "-Isrc"]])


def debian(work, package, command):
    """A Debian source package, unpacked, and what `command` makes in it; None if it cannot be had."""
    place = os.path.join(work, "debian", package)
    if not os.path.isdir(place):
        os.makedirs(place)
        lists, sources_list = os.path.join(work, "debian", "lists"), os.path.join(work, "debian", "sources.list")
        apt = ["apt-get", "-qq", "-o", f"Dir::Etc::SourceList={sources_list}", "-o", "Dir::Etc::SourceParts=/dev/null",
               "-o", f"Dir::State::Lists={lists}", "-o", "APT::Sandbox::User=root"]
        if not os.path.isdir(lists):
            os.makedirs(os.path.join(lists, "partial"))
            with open(sources_list, "w") as file:
                file.write("deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm main\n")
            subprocess.run([*apt, "update"])
        subprocess.run([*apt, "source", package], cwd=place, stdout=subprocess.DEVNULL)
        for found in glob.glob(place + "/*/"):
            subprocess.run(command, shell=True, cwd=found, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = [directory for directory in glob.glob(place + "/*/") if not directory.endswith("/debian/")]
    if not found:
        print(f"left out: {package}: no source package", file=sys.stderr)
    return found[0].rstrip("/") if found else None


def linux(work):
    """The kernel's sources, configured; its own flags as its Makefile gives them for x86."""
    archive = sorted(glob.glob("/usr/src/linux-source-*.tar.xz"))
    if not archive:
        print("left out: linux: no /usr/src/linux-source-*.tar.xz", file=sys.stderr)
        return None, None
    place = os.path.join(work, "linux")
    if not os.path.isdir(place):
        os.makedirs(place)
        subprocess.run(["tar", "xJf", archive[-1], "-C", place, "--strip-components=1"], check=True)
        subprocess.run("make defconfig && make -j2 prepare", shell=True, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    flags = ("-nostdinc -I./arch/x86/include -I./arch/x86/include/generated -I./include -I./arch/x86/include/uapi "
             "-I./arch/x86/include/generated/uapi -I./include/uapi -I./include/generated/uapi -include ./include/linux/compiler-version.h "
             "-include ./include/linux/kconfig.h -include ./include/linux/compiler_types.h -D__KERNEL__ -fmacro-prefix-map=./= "
             "-std=gnu11 -fshort-wchar -funsigned-char -fno-common -fno-PIE -fno-strict-aliasing -mno-sse -mno-mmx -mno-sse2 -mno-avx -m64 "
             "-mno-80387 -mtune=generic -mno-red-zone -mcmodel=kernel -O2 -fno-stack-protector -DKBUILD_MODFILE=\"x\" -DKBUILD_BASENAME=\"x\" "
             "-DKBUILD_MODNAME=\"x\" -D__KBUILD_MODNAME=kmod_x -Wp,-MMD,/dev/null").split()
    return place, flags


def boost_examples(work):
    """Boost's own examples, unpacked."""
    root = "/usr/share/doc/libboost1.74-doc/examples/libs"
    place = os.path.join(work, "boost-examples")
    if not os.path.isdir(root):
        return None
    if not os.path.isdir(place):
        subprocess.run(["cp", "-r", root, place], check=True)
        subprocess.run("find . -name '*.gz' -exec gunzip -f {} +", shell=True, cwd=place)
    return place


def qt_examples(work):
    """Qt's examples with their generated headers and sources (moc, uic); and the directory of each source."""
    root = next(iter(glob.glob("/usr/lib/*/qt5/examples")), None)
    place = os.path.join(work, "qt-examples")
    if not root:
        return None
    if not os.path.isdir(place):
        subprocess.run(["cp", "-r", root, place], check=True)
        for header in glob.glob(place + "/**/*.h", recursive=True) + glob.glob(place + "/**/*.cpp", recursive=True):
            with open(header, errors="replace") as file:
                if "Q_OBJECT" not in file.read():
                    continue
            stem, is_header = os.path.splitext(os.path.basename(header))[0], header.endswith(".h")
            made = os.path.join(os.path.dirname(header), f"moc_{stem}.cpp" if is_header else f"{stem}.moc")
            subprocess.run(["moc", os.path.basename(header), "-o", made], cwd=os.path.dirname(header), stderr=subprocess.DEVNULL)
        for form in glob.glob(place + "/**/*.ui", recursive=True):
            stem = os.path.splitext(os.path.basename(form))[0]
            subprocess.run(["uic", form, "-o", os.path.join(os.path.dirname(form), f"ui_{stem}.h")])
    return place


def configured(work, name, source, command):
    directory = os.path.join(work, name)
    if not os.path.isdir(directory):
        subprocess.run(["cp", "-r", source, directory], check=True)
        subprocess.run(command, shell=True, cwd=directory)
    return directory
