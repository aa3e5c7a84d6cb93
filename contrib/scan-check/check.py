#!/usr/bin/env python3
"""Checks the include scanner against the compilers' own word on real projects.

For each translation unit, the scanner's files are compared with what `-M` lists under the same
flags, and for every STRACE-th one with what the compiler opens. Prints a table; any wrong answer
makes the exit status 1.

    check.py WORKDIR [--only NAME] [--strace N] [--jobs N] [--limit N]

Needs cargo, gcc, clang; strace for --strace; Boost and Qt headers for those rows.
"""
import argparse, collections, concurrent.futures, glob, json, os, re, subprocess, sys, threading

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


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


def configured(work, name, source, command):
    directory = os.path.join(work, name)
    if not os.path.isdir(directory):
        subprocess.run(["cp", "-r", source, directory], check=True)
        subprocess.run(command, shell=True, cwd=directory)
    return directory


def real(paths, cwd):
    return {os.path.realpath(os.path.join(cwd, p)) for p in paths}


def dependencies(argv, cwd):
    run = subprocess.run(argv + ["-M", "-MT", "x"], cwd=cwd, capture_output=True)
    if run.returncode != 0:
        return None
    text = run.stdout.decode("utf-8", "surrogateescape").replace("\\\n", " ")
    return [re.sub(r"\\([ #])", r"\1", w).replace("$$", "$") for w in re.split(r"(?<!\\)\s+", text.split(":", 1)[1]) if w]


def opened(argv, cwd, log):
    subprocess.run(["strace", "-f", "-qq", "-e", "trace=open,openat", "-o", log] + argv + ["-fsyntax-only"], cwd=cwd, capture_output=True)
    found = set()
    with open(log, errors="surrogateescape") as file:
        for line in file:
            match = re.search(r'open(?:at\(AT_FDCWD, |\()"((?:[^"\\]|\\.)*)", ([A-Z_|]+).* = (\d+)', line)
            if match and "O_DIRECTORY" not in match[2] and "O_RDONLY" in match[2]:
                path = os.path.realpath(os.path.join(cwd, match[1]))
                if os.path.isfile(path):
                    found.add(path)
    return found


class Scanner:
    """One scanning process per thread."""
    local = threading.local()

    def __init__(self, program):
        self.program = program

    def scan(self, argv, cwd):
        process = getattr(self.local, "process", None)
        if process is None or process.poll() is not None:
            process = subprocess.Popen([self.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self.local.process = process
        process.stdin.write(json.dumps({"argv": argv, "cwd": cwd}) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        return json.loads(line) if line else {"declined": "the scanner ended", "kind": "CRASH"}


def check(scanner, argv, cwd, strace, baseline, log):
    scan = scanner.scan(argv, cwd)
    listed = dependencies(argv, cwd)
    if listed is None:
        return ("refused", "")
    if "declined" in scan:
        return ("wrong" if scan["kind"] == "CRASH" else "declined", scan["kind"] + "\t" + scan["declined"])
    files, probed, listed = real(scan["files"], cwd), real(scan["probed"], cwd), real(listed, cwd)
    missing = listed - files
    if "clang" in argv[0]:
        # clang lists what `__has_include` finds, too.
        missing -= probed
    if missing or files - listed:
        return ("wrong", f"missing {sorted(missing)[:5]} extra {sorted(files - listed)[:5]}")
    if strace:
        seen = opened(argv, cwd, log) - baseline
        if seen - files - probed:
            return ("wrong", f"opened, not listed: {sorted(seen - files - probed)[:5]}")
    return ("exact", "")


def main():
    options = argparse.ArgumentParser()
    options.add_argument("work")
    options.add_argument("--only")
    options.add_argument("--compiler")
    options.add_argument("--strace", type=int, default=0)
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--limit", type=int, default=10**9)
    options.add_argument("--commands", action="store_true", help="print the commands as JSON and do nothing")
    options = options.parse_args()
    work = os.path.abspath(options.work)
    os.makedirs(work, exist_ok=True)
    program = os.environ.get("SCAN") or os.path.join(ROOT, "target", "release", "examples", "scan")
    scanner = Scanner(program)
    wrong = 0
    totals = collections.Counter()
    for name, cwd, files, language, flag_sets in projects(work):
        if options.only and not re.fullmatch(options.only, name):
            continue
        files = files or sources(cwd, "**/*.c", "**/*.cc", "**/*.S")
        files = files[:: max(1, len(files) // options.limit)] if len(files) > options.limit else files
        compilers = ["gcc", "clang"] if language == "c" else ["g++", "clang++"]
        for compiler in compilers:
            if options.compiler and options.compiler not in (compiler, {"g++": "gcc", "clang++": "clang"}.get(compiler)):
                continue
            jobs = []
            for flags in flag_sets:
                for file in files:
                    driver = {"gcc": "g++", "clang": "clang++"}.get(compiler, compiler) if file.endswith((".cc", ".cpp")) else compiler
                    own = [f for f in flags if not (f.startswith(("-std=c9", "-std=gnu", "-std=c1", "-ansi")) and driver.endswith("++") and language == "c")]
                    jobs.append([driver, *own, "-c", file])
            if options.commands:
                for argv in jobs:
                    print(json.dumps({"argv": argv, "cwd": cwd}))
                continue
            write(os.path.join(work, "empty", "e.c" if language == "c" else "e.cc"), "\n")
            baseline = set()
            if options.strace:
                empty = os.path.join(work, "empty")
                baseline = opened([compiler, "-nostdinc", "e.c" if language == "c" else "e.cc"], empty, work + "/strace.base")
            counts, reasons = collections.Counter(), collections.Counter()

            def run(item):
                number, argv = item
                trace = options.strace and number % options.strace == 0
                return check(scanner, argv, cwd, trace, baseline, f"{work}/strace.{threading.get_ident()}")

            with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
                for argv, (result, why) in zip(jobs, pool.map(run, enumerate(jobs))):
                    counts[result] += 1
                    if result == "wrong":
                        print("WRONG", cwd, " ".join(argv), why, sep="\n  ", flush=True)
                    if result == "declined":
                        reasons[why.split("\t")[0]] += 1
                        if reasons[why.split("\t")[0]] <= 2:
                            print("declined:", argv[-1], why.split("\t")[1], file=sys.stderr)
            totals.update(counts)
            wrong += counts["wrong"]
            told = ", ".join(f"{n}x {r}" for r, n in reasons.most_common())
            print(f"{name:12} {compiler:8} TUs {len(jobs) - counts['refused']:5} exact {counts['exact']:5} wrong {counts['wrong']:3} "
                  f"declined {counts['declined']:3} not compiling {counts['refused']:4}  {told}", flush=True)
    if not options.commands:
        answered = totals["exact"] + totals["wrong"] + totals["declined"]
        print(f"sum: TUs {answered} exact {totals['exact']} wrong {totals['wrong']} declined {totals['declined']}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
