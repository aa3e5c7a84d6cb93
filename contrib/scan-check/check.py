#!/usr/bin/env python3
"""Checks the include scanner against the compilers' own word on real projects.

For each translation unit, the scanner's files are compared with what `-M` lists under the same
flags, and for every STRACE-th one with what the compiler opens. Prints a table; any wrong answer
makes the exit status 1.

    check.py WORKDIR [--only NAME] [--compiler gcc|clang] [--strace N] [--jobs N] [--limit N] [--sample]

Needs cargo, gcc, clang; strace for --strace; Boost and Qt headers for those rows.
"""
import argparse, collections, concurrent.futures, json, os, re, subprocess, sys, threading

import corpora

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))


def real(paths, cwd):
    return {os.path.realpath(os.path.join(cwd, p)) for p in paths}


def dependencies(argv, cwd):
    # What tells the preprocessor to write its list elsewhere.
    argv = [word for word in argv if not word.startswith("-Wp,-M")]
    run = subprocess.run(argv + ["-M", "-MT", "x"], cwd=cwd, capture_output=True)
    text = run.stdout.decode("utf-8", "surrogateescape").replace("\\\n", " ")
    if run.returncode != 0 or ":" not in text:
        return None
    return [re.sub(r"\\([ #])", r"\1", w).replace("$$", "$") for w in re.split(r"(?<!\\)\s+", text.split(":", 1)[1]) if w]


def opened(argv, cwd, log):
    # Else assembly would be assembled, and the assembler's own libraries be opened.
    only = ["-E", "-o", log + ".out"] if argv[-1].endswith(".S") else ["-fsyntax-only"]
    subprocess.run(["strace", "-f", "-qq", "-e", "trace=open,openat", "-o", log] + argv + only, cwd=cwd, capture_output=True)
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


def commands(cwd, files, language, compiler, flag_sets):
    """The command of each translation unit, and where it runs."""
    files = files or corpora.sources(cwd, "**/*.c", "**/*.cc", "**/*.S")
    for flags in flag_sets:
        for file in files:
            driver = {"gcc": "g++", "clang": "clang++"}.get(compiler, compiler) if file.endswith((".cc", ".cpp")) else compiler
            mixed = driver.endswith("++") and language == "c"
            own = [f for f in flags if not (mixed and f.startswith(("-std=c9", "-std=gnu", "-std=c1", "-ansi")))]
            if driver.startswith("clang"):
                # What only gcc knows, or clang refuses.
                own = [f for f in own if f not in ("-mno-80387",)]
            own = [*own, "-D__ASSEMBLY__"] if file.endswith(".S") and "-D__KERNEL__" in own else own
            yield [driver, *own, "-c", file], cwd


def main():
    options = argparse.ArgumentParser()
    options.add_argument("work")
    options.add_argument("--only", default=".*")
    options.add_argument("--compiler", default=".*", help="gcc or clang")
    options.add_argument("--strace", type=int, default=0)
    options.add_argument("--jobs", type=int, default=2)
    options.add_argument("--limit", type=int, default=10**9)
    options.add_argument("--sample", action="store_true", help="a few small projects")
    options.add_argument("--commands", action="store_true", help="print the commands as JSON and do nothing")
    options = options.parse_args()
    work = os.path.abspath(options.work)
    os.makedirs(work, exist_ok=True)
    program = os.environ.get("SCAN") or os.path.join(ROOT, "target", "release", "examples", "scan")
    scanner = Scanner(program)
    totals = collections.Counter()
    projects = corpora.sample if options.sample else corpora.projects
    for name, cwd, files, language, flag_sets in projects(work):
        if not re.fullmatch(options.only, name):
            continue
        for compiler in ("gcc", "clang"):
            if not re.fullmatch(options.compiler, compiler):
                continue
            jobs = list(commands(cwd, files, language, {"c++gcc": "g++", "c++clang": "clang++"}.get(language + compiler, compiler), flag_sets))
            jobs = jobs[:: max(1, len(jobs) // options.limit)]
            if options.commands:
                for argv, cwd in jobs:
                    print(json.dumps({"argv": argv, "cwd": cwd}))
                continue
            totals.update(project(name, compiler, jobs, scanner, options, work))
    if not options.commands:
        answered = totals["exact"] + totals["wrong"] + totals["declined"]
        print(f"sum: TUs {answered} exact {totals['exact']} wrong {totals['wrong']} declined {totals['declined']} "
              f"({100 * totals['declined'] / max(1, answered):.2f} %) under strace {totals['traced']}")
    # That nothing was compared is no success.
    sys.exit(1 if totals["wrong"] or not (totals["exact"] or options.commands) else 0)


def project(name, compiler, jobs, scanner, options, work):
    """Checks the translation units of one project with one compiler, and tells."""
    empty = os.path.join(work, "empty")
    corpora.write(os.path.join(empty, "e.cc"), "\n")
    baseline = opened([compiler, "-nostdinc", "e.cc"], empty, work + "/strace.base") if options.strace else set()
    counts, reasons = collections.Counter(), collections.Counter()

    def run(item):
        number, (argv, cwd) = item
        trace = options.strace and number % options.strace == 0
        result = check(scanner, argv, cwd, trace, baseline, f"{work}/strace.{threading.get_ident()}")
        return (*result, trace and result[0] == "exact")

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for (argv, cwd), (result, why, traced) in zip(jobs, pool.map(run, enumerate(jobs))):
            counts[result] += 1
            counts["traced"] += bool(traced)
            if result == "wrong":
                print("WRONG", cwd, " ".join(argv), why, sep="\n  ", flush=True)
            if result == "declined":
                reasons[why.split("\t")[0]] += 1
                if reasons[why.split("\t")[0]] <= 2:
                    print("declined:", argv[-1], why.split("\t")[1], file=sys.stderr)
    told = ", ".join(f"{n}x {r}" for r, n in reasons.most_common())
    print(f"{name:12} {compiler:8} TUs {len(jobs) - counts['refused']:5} exact {counts['exact']:5} wrong {counts['wrong']:3} "
          f"declined {counts['declined']:3} not compiling {counts['refused']:4} under strace {counts['traced']:4}  {told}", flush=True)
    return counts


if __name__ == "__main__":
    main()
