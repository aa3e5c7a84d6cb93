# What is built of each crate, and how. Sourced by the scripts that build.
#
# describe NAME sets:
#   CRATE      the crate that vendors the sources
#   TREE       the directory in the crate that holds them
#   LANGUAGE   c or c++
#   HOW        make (one-object-each.mk), cmake-make or cmake-ninja
#   SOURCES    for make: the sources, as shell patterns below TREE
#   DEFINES    for make: what the sources need on the command line
#   OPTIONS    for CMake: what is configured

PROJECTS="sqlite lua zlib zstd libgit2 meshopt harfbuzz"

describe() {
    CRATE= TREE= LANGUAGE=c HOW=make SOURCES= DEFINES= OPTIONS=
    case $1 in
        sqlite)
            CRATE=libsqlite3-sys TREE=sqlite3 SOURCES="sqlite3.c"
            DEFINES="-DSQLITE_THREADSAFE=1 -DSQLITE_ENABLE_FTS5 -DSQLITE_ENABLE_RTREE" ;;
        lua)
            CRATE=lua-src TREE=lua-5.4.9 SOURCES="*.c"
            DEFINES="-DLUA_USE_LINUX -DLUA_COMPAT_5_3" ;;
        zlib)
            CRATE=libz-sys TREE=src/zlib SOURCES="*.c"
            DEFINES="-DHAVE_UNISTD_H -DHAVE_STDARG_H" ;;
        zstd)
            # The one assembly file is left out; assembling is not distributed.
            CRATE=zstd-sys TREE=zstd/lib SOURCES="common/*.c compress/*.c decompress/*.c dictBuilder/*.c legacy/*.c"
            DEFINES="-DZSTD_DISABLE_ASM=1 -DZSTD_LEGACY_SUPPORT=1 -DXXH_NAMESPACE=ZSTD_" ;;
        libgit2)
            CRATE=libgit2-sys TREE=libgit2 HOW=cmake-make
            OPTIONS="-DBUILD_SHARED_LIBS=OFF -DBUILD_TESTS=OFF -DBUILD_CLI=OFF -DUSE_SSH=OFF -DUSE_HTTPS=OFF
                -DREGEX_BACKEND=builtin -DUSE_BUNDLED_ZLIB=ON -DUSE_NTLMCLIENT=OFF -DUSE_GSSAPI=OFF -DUSE_HTTP_PARSER=builtin" ;;
        meshopt)
            CRATE=meshopt TREE=vendor LANGUAGE=c++ SOURCES="src/*.cpp" ;;
        harfbuzz)
            CRATE=harfbuzz-sys TREE=harfbuzz LANGUAGE=c++ HOW=cmake-ninja
            OPTIONS="-DHB_HAVE_FREETYPE=OFF -DHB_HAVE_GLIB=OFF -DHB_HAVE_ICU=OFF -DHB_BUILD_UTILS=OFF -DHB_BUILD_SUBSET=ON" ;;
        *)
            echo "no project is called $1; there are: $PROJECTS" >&2
            return 1 ;;
    esac
}
