# What is built of each crate, and how. Sourced by the scripts that build.
#
# describe NAME sets:
#   CRATE      the crate that vendors the sources
#   TREE       the directory in the crate that holds them
#   PACKAGE    in place of these, the Debian package that installs them, in the folder $PLACE
#   OVERLAY    a folder beside this file whose files are added
#   LANGUAGE   c or c++
#   HOW        make (one-object-each.mk), cmake-make, cmake-ninja or qmake
#   SOURCES    for make: the sources, as shell patterns below TREE
#   EXCEPT     which of them are left out, as a pattern of grep
#   HEADER     a header that most of them include
#   DEFINES    for make: what the sources need on the command line
#   OPTIONS    for CMake: what is configured

PROJECTS="sqlite lua zlib zstd libgit2 meshopt harfbuzz"
# Those that take longer, or need packages.
LARGE_PROJECTS="rocksdb boost qt pch"
# One that takes long: all that the library is made of, some 280 files.
WHOLE_PROJECTS="rocksdb-whole"

describe() {
    CRATE= TREE= PACKAGE= PLACE= OVERLAY= LANGUAGE=c HOW=make SOURCES= EXCEPT='^$' HEADER= DEFINES= OPTIONS=
    case $1 in
        sqlite)
            HEADER=sqlite3.h CRATE=libsqlite3-sys TREE=sqlite3 SOURCES="sqlite3.c"
            DEFINES="-DSQLITE_THREADSAFE=1 -DSQLITE_ENABLE_FTS5 -DSQLITE_ENABLE_RTREE" ;;
        lua)
            HEADER=lua.h CRATE=lua-src TREE=lua-5.4.9 SOURCES="*.c"
            DEFINES="-DLUA_USE_LINUX -DLUA_COMPAT_5_3" ;;
        zlib)
            HEADER=zlib.h CRATE=libz-sys TREE=src/zlib SOURCES="*.c"
            DEFINES="-DHAVE_UNISTD_H -DHAVE_STDARG_H" ;;
        zstd)
            # The one assembly file is left out; assembling is not distributed.
            HEADER=zstd.h CRATE=zstd-sys TREE=zstd/lib SOURCES="common/*.c compress/*.c decompress/*.c dictBuilder/*.c legacy/*.c"
            DEFINES="-DZSTD_DISABLE_ASM=1 -DZSTD_LEGACY_SUPPORT=1 -DXXH_NAMESPACE=ZSTD_" ;;
        libgit2)
            HEADER=include/git2/common.h CRATE=libgit2-sys TREE=libgit2 HOW=cmake-make
            OPTIONS="-DBUILD_SHARED_LIBS=OFF -DBUILD_TESTS=OFF -DBUILD_CLI=OFF -DUSE_SSH=OFF -DUSE_HTTPS=OFF
                -DREGEX_BACKEND=builtin -DUSE_BUNDLED_ZLIB=ON -DUSE_NTLMCLIENT=OFF -DUSE_GSSAPI=OFF -DUSE_HTTP_PARSER=builtin" ;;
        meshopt)
            HEADER=src/meshoptimizer.h CRATE=meshopt TREE=vendor LANGUAGE=c++ SOURCES="src/*.cpp" ;;
        harfbuzz)
            HEADER=src/hb.hh CRATE=harfbuzz-sys TREE=harfbuzz LANGUAGE=c++ HOW=cmake-ninja
            OPTIONS="-DHB_HAVE_FREETYPE=OFF -DHB_HAVE_GLIB=OFF -DHB_HAVE_ICU=OFF -DHB_BUILD_UTILS=OFF -DHB_BUILD_SUBSET=ON" ;;
        rocksdb | rocksdb-whole)
            # Some ninety of its files, the longest left out; or all but its tests, and what other systems need.
            HEADER=include/rocksdb/status.h EXCEPT="bench\|test" CRATE=librocksdb-sys TREE=rocksdb LANGUAGE=c++
            SOURCES="db/[b-d]*[a-su-z].cc db/compaction/*[a-su-z].cc cache/*[a-su-z].cc env/*[a-su-z].cc file/*[a-su-z].cc
                memtable/*[a-su-z].cc table/block_based/*[a-su-z].cc monitoring/*[a-su-z].cc logging/*[a-su-z].cc"
            DEFINES='-std=c++17 -Wall -Wextra -fdiagnostics-color=always -I$(TREE)/include -DROCKSDB_PLATFORM_POSIX
                -DROCKSDB_LIB_IO_POSIX -DROCKSDB_SUPPORT_THREAD_LOCAL -DOS_LINUX -include cstdint'
            [ "$1" = rocksdb ] || {
                EXCEPT="bench\|test\|mock\|librados\|port/win\|tools/rdb"
                SOURCES="cache/*.cc db/*.cc db/*/*.cc env/*.cc file/*.cc logging/*.cc memory/*.cc memtable/*.cc monitoring/*.cc
                    options/*.cc port/*.cc table/*.cc table/*/*.cc tools/*.cc tools/*/*.cc trace_replay/*.cc util/*.cc
                    utilities/*.cc utilities/*/*.cc utilities/*/*/*.cc utilities/*/*/*/*.cc"
            } ;;
        boost)
            # The one about Spirit's first version is no C++17, and one needs Qt 4.
            HEADER=asio/example/cpp11/chat/chat_message.hpp EXCEPT="classic\|custom_string" PACKAGE=libboost1.74-doc PLACE=/usr/share/doc/libboost1.74-doc/examples/libs LANGUAGE=c++
            SOURCES="asio/example/cpp11/echo/*.cpp asio/example/cpp11/chat/*.cpp lexical_cast/example/*.cpp
                circular_buffer/example/c*.cpp spirit/example/qi/[a-d]*.cpp spirit/example/qi/[m-r]*.cpp"
            # What clang 14 says of variables that are not used, it says in another order each time.
            DEFINES="-std=c++17 -pthread -Wall -Wextra -fdiagnostics-color=always -Wno-unused-but-set-variable -Wno-unused-variable" ;;
        qt)
            # Rules for moc and uic, whose headers are made as the build goes on.
            HEADER=spreadsheet/spreadsheet.h PACKAGE=qtbase5-examples PLACE=$(echo /usr/lib/*/qt5/examples/widgets/itemviews) LANGUAGE=c++ HOW=qmake ;;
        pch)
            HEADER=src/meshoptimizer.h CRATE=meshopt TREE=vendor OVERLAY=pch LANGUAGE=c++ HOW=cmake-ninja ;;
        *)
            echo "no project is called $1; there are: $PROJECTS $LARGE_PROJECTS $WHOLE_PROJECTS" >&2
            return 1 ;;
    esac
}
