//! What code that a compiler loads may reach for by itself.
//!
//! No option names what a plugin opens, and what it does not find it may do without, and say nothing: then there is
//! no telling that a compile elsewhere is another one. So a plugin travels that cannot look for anything: one
//! that calls none of the functions by which that is done.

use std::fs::File;
use std::io;
use std::path::Path;

use object::elf::{self, FileHeader32, FileHeader64};
use object::endian::Endianness;
use object::read::elf::{FileHeader, Sym};
use object::read::{ReadCache, ReadRef};

use super::NotClosed;
use super::elf::ElfError;
use crate::common::bytes::Bytes;

/// Functions that open files, look at them or at the environment, start programs, load code or talk to others.
const REACHING: [&str; 59] = [
    "access",
    "canonicalize_file_name",
    "connect",
    "dlmopen",
    "dlopen",
    "dlsym",
    "dlvsym",
    "eaccess",
    "environ",
    "euidaccess",
    "execl",
    "execle",
    "execlp",
    "execv",
    "execve",
    "execvp",
    "execvpe",
    "faccessat",
    "fopen",
    "fork",
    "freopen",
    "fstatat",
    "fts_open",
    "ftw",
    "get_current_dir_name",
    "getaddrinfo",
    "getcwd",
    "getenv",
    "gethostbyname",
    "gethostname",
    "getlogin",
    "getpwent",
    "getpwnam",
    "getpwuid",
    "glob",
    "lrealpath",
    "lstat",
    "nftw",
    "open",
    "openat",
    "opendir",
    "pex_init",
    "pex_one",
    "pex_run",
    "popen",
    "posix_spawn",
    "posix_spawnp",
    "readlink",
    "readlinkat",
    "realpath",
    "scandir",
    "secure_getenv",
    "shm_open",
    "stat",
    "statx",
    "syscall",
    "system",
    "uname",
    "vfork",
];

/// Others whose names C++ has lengthened, by a part of them.
const REACHING_PARTS: [&str; 7] = [
    "basic_filebuf",
    "basic_fstream",
    "basic_ifstream",
    "10filesystem",
    "MemoryBuffer7getFile",
    "getRealFileSystem",
    "createPhysicalFileSystem",
];

/// Libraries of compilers and of languages, by how their names begin: what is done through them, the code that calls them says.
const COMMON: [&[u8]; 19] = [
    b"ld-",
    b"libLLVM",
    b"libc++",
    b"libc.",
    b"libclang",
    b"libdl.",
    b"libgcc_s.",
    b"libgmp.",
    b"libisl.",
    b"libm.",
    b"libmpc.",
    b"libmpfr.",
    b"libmvec.",
    b"libpthread.",
    b"librt.",
    b"libstdc++.",
    b"libunwind.",
    b"libz.",
    b"libzstd.",
];

/// Whether a file is a library of compilers or of a language.
pub fn is_common(path: &[u8]) -> bool {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    COMMON.iter().any(|begin| name.starts_with(begin))
}

/// Nothing, where the code at `path` cannot look for anything.
///
/// # Errors
///
/// [`NotClosed::Reaching`] where it can; else as [`reaching`].
pub fn reaches_for_nothing(path: &Path) -> Result<(), NotClosed> {
    match reaching(path)? {
        Some(function) => Err(NotClosed::Reaching { path: Bytes::from(path), function }),
        None => Ok(()),
    }
}

/// The first function that the code at `path` calls, or might call, to reach for what no option names; `None` where there is none.
///
/// # Errors
///
/// [`NotClosed::Unreadable`], and [`NotClosed::Broken`] where no table tells what it calls.
fn reaching(path: &Path) -> Result<Option<Bytes>, NotClosed> {
    let unreadable =
        |error: io::Error| NotClosed::Unreadable { path: Bytes::from(path), why: error.to_string() };
    let cached = ReadCache::new(File::open(path).map_err(unreadable)?);
    let data = &cached;
    let found = match data.read_bytes_at(0, 5) {
        Ok([0x7f, b'E', b'L', b'F', 1]) => in_table::<FileHeader32<Endianness>, _>(data),
        Ok([0x7f, b'E', b'L', b'F', 2]) => in_table::<FileHeader64<Endianness>, _>(data),
        _ => return Err(NotClosed::NotElf { path: Bytes::from(path) }),
    };
    found.map_err(|why| NotClosed::Broken { path: Bytes::from(path), why })
}

fn in_table<'data, H, R>(data: R) -> Result<Option<Bytes>, ElfError>
where
    H: FileHeader<Endian = Endianness>,
    R: ReadRef<'data>,
{
    let broken = |_| ElfError::Broken("table of symbols");
    let header = H::parse(data).map_err(broken)?;
    let endian = header.endian().map_err(broken)?;
    let sections = header.sections(endian, data).map_err(broken)?;
    let symbols = sections.symbols(endian, data, elf::SHT_DYNSYM).map_err(broken)?;
    if symbols.is_empty() {
        return Err(ElfError::Broken("table of symbols"));
    }
    for symbol in symbols.iter().filter(|symbol| symbol.is_undefined(endian)) {
        let name = symbols.symbol_name(endian, symbol).map_err(broken)?;
        if is_reaching(name) {
            return Ok(Some(Bytes::from(name)));
        }
    }
    Ok(None)
}

/// The C library has some of them for long files, too (`open64`), and checked or versioned ones (`__open_2`, `__xstat64`).
fn is_reaching(name: &[u8]) -> bool {
    let text = String::from_utf8_lossy(name);
    let plain = text.trim_start_matches('_').trim_end_matches("_chk").trim_end_matches("_2");
    let plain = plain.strip_suffix("64").unwrap_or(plain);
    let plain = plain.strip_prefix('x').filter(|stat| stat.ends_with("stat")).unwrap_or(plain);
    let plain = if matches!(plain, "lxstat" | "fxstatat") { "stat" } else { plain };
    REACHING.binary_search(&plain).is_ok() || REACHING_PARTS.iter().any(|part| text.contains(part))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn functions_are_known_by_all_their_names() {
        assert!(REACHING.is_sorted());
        let all = "open open64 __open_2 __open64_2 fopen64 __xstat __lxstat64 __fxstatat64 __getenv secure_getenv \
            __realpath_chk environ __environ readlink _ZNSt14basic_ifstreamIcSt11char_traitsIcEEC1EPKcSt13_Ios_Openmode \
            _ZNSt10filesystem6statusERKNS_7__cxx114pathE";
        for name in all.split_whitespace() {
            assert!(is_reaching(name.as_bytes()), "{name}");
        }
        for name in
            ["fprintf", "fwrite", "openlog", "register_callback", "fxstat", "fstat64", "reopen", "x", ""]
        {
            assert!(!is_reaching(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn libraries_of_languages_are_known() {
        for path in [
            "/usr/lib/x/libstdc++.so.6.0.30",
            "/lib64/ld-linux-x86-64.so.2",
            "/opt/libLLVM-14.so.1",
            "libc.so.6",
        ] {
            assert!(is_common(path.as_bytes()), "{path}");
        }
        for path in ["/libc.so.6/x.so", "/p/libcurl.so", "/p/plugin.so", "/p/mylibc.so.6"] {
            assert!(!is_common(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn what_code_calls_is_told_by_its_table() {
        let folder = tempfile::tempdir().expect("a folder");
        let library = |text: &str, more: &str| {
            std::fs::write(folder.path().join("a.c"), text).expect("written");
            let words = format!("-shared -fPIC a.c -o a.so {more}");
            let made = Command::new("gcc").args(words.split_whitespace()).current_dir(folder.path()).status();
            assert!(made.expect("gcc runs").success());
            reaching(&folder.path().join("a.so")).map_err(|error| error.to_string())
        };
        let says = |name: &str| Ok(Some(Bytes::from(name)));
        let plain = "#include <stdio.h>\nvoid f(void) { puts(\"x\"); }\n";
        assert_eq!(library(plain, ""), Ok(None));
        assert_eq!(
            library("#include <stdio.h>\nvoid *f(void) { return fopen(\"x\", \"r\"); }\n", ""),
            says("fopen")
        );
        assert_eq!(
            library("char *getenv(const char *); char *f(void) { return getenv(\"X\"); }\n", ""),
            says("getenv")
        );
        // Its own function of that name is no call of another's.
        assert_eq!(
            library("int open(void) { return 1; }\nint f(void) { return open(); }\n", "-Wl,-Bsymbolic"),
            Ok(None)
        );
        assert!(reaching(&folder.path().join("a.c")).is_err());
    }
}
