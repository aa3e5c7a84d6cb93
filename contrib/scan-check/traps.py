#!/usr/bin/env python3
"""Checks the include scanner against the compilers on files made of traps.

    traps.py WORKDIR

Each trap is compiled by gcc and clang under several sets of flags; any wrong answer makes the
exit status 1. What the scanner declines is counted.
"""
import collections, concurrent.futures, os, sys

import check
import traps_more

WORK = os.path.abspath(sys.argv[1])
os.makedirs(WORK, exist_ok=True)
os.chdir(WORK)
os.makedirs('i/sub',exist_ok=True); os.makedirs('r/deep/dir',exist_ok=True); os.makedirs('sys',exist_ok=True); os.makedirs('i/isdir.h',exist_ok=True); os.makedirs('sys2',exist_ok=True)
def w(p,b): open(p,'wb').write(b if isinstance(b,bytes) else b.encode())
w('i/yes.h',''); w('i/no.h',''); w('i/and.h',''); w('sys/isdir.h',''); w('i/sp ace.h','')
w('r/deep/dir/real.h','#include "beside.h"\n'); w('r/deep/dir/beside.h',''); w('sys/beside.h','#define WRONG')
if not os.path.islink('sys/real.h'): os.symlink(WORK+'/r/deep/dir/real.h','sys/real.h')
if not os.path.islink('sys2/longname_longname_longname_longname_longname_longname.h'): os.symlink(WORK+'/r/real2.h','sys2/longname_longname_longname_longname_longname_longname.h')
w('r/real2.h','#include "b2.h"\n'); w('r/b2.h',''); w('sys2/b2.h','')
w('i/once1.h','#pragma once\n#include "yes.h"\n'); w('i/sub/once1.h','#pragma once\n#include "yes.h"\n')
t=1600000000
for f in ('i/once1.h','i/sub/once1.h'): os.utime(f,(t,t))
w('i/self.h','#ifndef N\n#define N 1\n#elif N == 1\n#undef N\n#define N 2\n#else\n#define STOP\n#endif\n#ifndef STOP\n#include "self.h"\n#endif\n')
w('i/deep.h','#if __INCLUDE_LEVEL__ < 150\n#include "deep.h"\n#endif\n')
w('i/lin.h','#include <linux.x>\n'); w('i/1.x','')
T={
'bom.c':b'\xef\xbb\xbf#include "yes.h"\r\n#include "no.h" // x\r\n',
'nul.c':b'#include "yes.h"\0\nint a\0b;\n#define X\0Y\n#ifdef X\n#include "no.h"\n#endif\n',
'tri.c':'??=include "yes.h"\n// what??/\n#include "no.h"\n',
'tri2.c':'int a; /* ??/\n*/ ??=include "yes.h"\nchar*s="??/"";\n#include "no.h"\n',
'raw.cc':'const char*a=R"x(\n#include "no.h"\n)x";\n#include "yes.h"\nint b=1\'000;\n#include "and.h"\n',
'raw.c':'#define R\nconst char*a=R"x(";\n#include "no.h"\nconst char *b=R")x";\n#include "yes.h"\n',
'and.cc':'#define A <and.h>\n#include A\n#if 1 and not 0\n#include "yes.h"\n#endif\n#if true\n#include "no.h"\n#endif\n',
'true.c':'#if true\n#include "no.h"\n#else\n#include "yes.h"\n#endif\n',
'linux.c':'#define Q(x) <x.x>\n#if __has_include(Q(1))\n#include Q(1)\n#endif\n#if __has_include(Q(linux))\n#include Q(linux)\n#endif\n',
'dir.c':'#include <isdir.h>\n',
'real.c':'#include <real.h>\n#ifdef WRONG\n#include "no.h"\n#endif\n',
'real2.c':'#include <longname_longname_longname_longname_longname_longname.h>\n',
'once.c':'#include "once1.h"\n#include "sub/once1.h"\n#include "once1.h"\n',
'self.c':'#include "self.h"\n#if N==2\n#include "yes.h"\n#endif\n','deep.c':'#include "deep.h"\n#include "yes.h"\n',
'pragma.c':'#define P(x) _Pragma(#x)\nP(GCC diagnostic push)\n_Pragma("GCC diagnostic pop")\n#include "yes.h"\n',
'pm.c':'#define X 1\n#pragma push_macro("X")\n#define X 2\n#pragma push_macro ( "X" )\n#undef X\n#pragma pop_macro("X")\n#if X==2\n#include "yes.h"\n#endif\n#pragma pop_macro("X")\n#if X==1\n#include "no.h"\n#endif\n',
'space.c':'#define S(x) #x\n#define X(x) S(x)\n#define N sp   ace\n#include X( N.h )\n',
'cmt.c':'#/*a*/include/*b*/"yes.h"/*c*/\n#include /* x */ <no.h> // "and.h"\n/* a */ # /* b\n*/ include "and.h"\n',
'hi.c':'#define HI(x) __has_include(x)\n#if HI(<yes.h>) && HI("no.h")\n#include "yes.h"\n#endif\n#define HN <nope.h>\n#if __has_include(HN) || !__has_include(<no.h>)\n#include "no.h"\n#endif\n',
'level.c':'#if __INCLUDE_LEVEL__ == 0\n#include "yes.h"\n#endif\n','ch.c':"#if '\\377' < 0 && L'\\377' > 0 && '\\0' == 0 && 'a' < 'b'\n#include \"yes.h\"\n#endif\n",
'big.c':'#if 0xffffffffffffffff == -1 && 9223372036854775807 + 1 < 0 && (-1 >> 63) == -1 && -7/2==-3 && (0?0u:-1)>0\n#include "yes.h"\n#endif\n',
'elif.c':'#if 1\n#elif garbage ( here\n#else\n#endif\n#if 0\n#if (((\n#elif *\n#endif\n#bogus\n#else\n#include "yes.h"\n#endif\n',
'asm.S':'# this is a comment\n#ifdef __ASSEMBLER__\n#include "yes.h"\n#endif\n; it\'s\n /* */ #include "no.h"\n','asm2.S':'.include "foo.s"\n#include "yes.h"\n',
'inc.c':'__asm__(".incbin \\"yes.h\\"");\n#include "yes.h"\n','mod.cc':'#include "yes.h"\nint import; int module;\n',
'date.c':'#ifdef __DATE__\n#include "yes.h"\n#endif\n#if __LINE__ > 3\n#include "no.h"\n#endif\n','count.c':'#if __COUNTER__ == 0\n#include "yes.h"\n#endif\n',
'poison.c':'#define PP 1\n#pragma GCC poison PP\n#include "yes.h"\n','redef.c':'#define A 1\n#define A 2\n#if A==2\n#include "yes.h"\n#endif\n',
'func.c':'#define EMPTY\n#define LP (\n#define f(x) x\n#if f LP 1 ) == 0\n#endif\n#include "yes.h"\n',
'va.c':'#define E(a,...) a __VA_OPT__(+ 5) \n#if E(1) == 1 && E(1,2) == 6\n#include "yes.h"\n#endif\n#define G(fmt, args...) H(fmt, ## args)\n#define H(...) I(__VA_ARGS__, 2, 1, 0)\n#define I(a,b,c,...) c\n#if G(9) == 1 && G(9, 9) == 2\n#include "no.h"\n#endif\n',
'paint.c':'#define x (4 + y)\n#define y (2 * x)\n#if x == 4\n#include "yes.h"\n#endif\n#define z z[0]\n#define F(a) a*G\n#define G(a) F(a)\n',
'nonl.c':'#include "yes.h"','splice.c':'#inc\\\nlude "ye\\\ns.h"\n#define LONG a \\  \n b\n#include "no.h"\n','dots.c':'#include "i/sub/../yes.h"\n#include <sub/../no.h>\n#include <./and.h>\n',
'abs.c':'#include "'+WORK+'/i/yes.h"\n#include <'+WORK+'/i/once1.h>\n','undefdef.c':'#undef __STDC__\n#undef __GNUC__\n#ifndef __GNUC__\n#include "yes.h"\n#endif\n',
'attr.cc':'#if __has_cpp_attribute(nodiscard) >= 201603L && __has_builtin(__builtin_expect)\n#include "yes.h"\n#endif\n#ifdef __has_feature\n#if __has_feature(cxx_rtti)\n#include "no.h"\n#endif\n#endif\n',
'tgt.c':'#pragma GCC target("avx2")\n#include <immintrin.h>\n#include "yes.h"\n','ident.c':'#ident "x"\n#warning hi\n#pragma\n#pragma weird stuff\n#include "yes.h"\n',
'lone.c':b'int a;\r#include "no.h"\nint b;\n#include "yes.h"\n','err.c':'#include "yes.h"\n#error x\n','utf.c':'#define \u00e9t\u00e9 1\n#if \u00e9t\u00e9\n#include "yes.h"\n#endif\n','line.c':'#line 5 "i/no.h"\n#include "yes.h"\n',
'dirinc.c':'#define M(x) x\nint a = M(\n#define Q 1\n#include "yes.h"\n1);\n#if Q\n#include "no.h"\n#endif\n',
}
traps_more.lay_out(w)
T.update(traps_more.TRAPS)
for n,b in T.items(): w(n,b)


def commands():
    """Each trap's commands, and the trap's name."""
    common = ["-Ii", "-isystem", "sys", "-isystem", "sys2"]
    for name in T:
        cpp = name.endswith(".cc")
        if cpp:
            standards = [["-std=c++17"], ["-std=c++20", "-O2"], ["-std=gnu++23"]]
        else:
            standards = [["-std=c99"], ["-std=gnu89", "-mavx2"], ["-std=c2x", "-O1"]]
        for extra in ([], ["-trigraphs"], ["-fms-extensions"], ["-O2", "-march=haswell"], *standards):
            for driver in ("g++", "clang++") if cpp else ("gcc", "clang"):
                yield name, [driver, "-w", *common, *extra, "-c", name]


def compare():
    program = os.environ.get("SCAN") or os.path.join(check.ROOT, "target", "release", "examples", "scan")
    scanner = check.Scanner(program)
    counts, reasons = collections.Counter(), collections.Counter()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(lambda each: (*each, *check.check(scanner, each[1], WORK, False, set(), "")), commands())
        for name, argv, result, why in done:
            counts[result] += 1
            if result == "wrong":
                print("WRONG", " ".join(argv), why)
            if result == "declined":
                reasons[name, why.split("\t")[0]] += 1
    for (name, reason), count in sorted(reasons.items()):
        print(f"{count:3} declined: {name}: {reason}")
    print(dict(counts))
    return counts["wrong"]


sys.exit(1 if compare() else 0)
