//! Environment variables that compilers read.

use super::names::{basename, is_of_the_process};
use crate::common::bytes::Bytes;
use crate::common::limits::ITEM_MAX_BYTES;
use crate::common::reason::LocalReason;

/// Variables that make a compiler run, read or write what the command line does not tell.
///
/// Those that the preprocessor alone reads (`CPATH` and its like) are not here: it runs on the
/// client, with the whole environment. Nor are those that only shape diagnostics (`GCC_COLORS`):
/// a compile that prints is done again on the client.
const DECISIVE: [&str; 22] = [
    "CCC_ADD_ARGS",
    "CCC_OVERRIDE_OPTIONS",
    "CLANG_MODULE_CACHE_PATH",
    "CLANG_NO_DEFAULT_CONFIG",
    "COMPILER_PATH",
    "CXX_MODULE_MAPPER",
    "DEPENDENCIES_OUTPUT",
    "FORCE_CLANG_DIAGNOSTICS_CRASH",
    "GCC_COMPARE_DEBUG",
    "GCC_EXEC_PREFIX",
    "GCC_ROOT",
    "IPHONEOS_DEPLOYMENT_TARGET",
    "LD_TRACE_LOADED_OBJECTS",
    "MACOSX_DEPLOYMENT_TARGET",
    "QA_OVERRIDE_GCC3_OPTIONS",
    "RC_DEBUG_OPTIONS",
    "RC_DEBUG_PREFIX_MAP",
    "SDKROOT",
    "SUNPRO_DEPENDENCIES",
    "TVOS_DEPLOYMENT_TARGET",
    "WATCHOS_DEPLOYMENT_TARGET",
    "XROS_DEPLOYMENT_TARGET",
];

/// Beginnings of such names: clang's logs and statistics, its configuration files, and the
/// options that the wrapper scripts of one distribution take from the environment.
const DECISIVE_PREFIXES: [&str; 7] =
    ["CCC_", "CC_LOG_", "CC_PRINT_", "CLANG_CONFIG", "CLANG_CRASH", "NIX_CFLAGS", "NIX_HARDENING"];

/// Variables by which the loader puts libraries before a program's own: one of these can show a compiler other
/// files than there are (fakechroot), or another time (faketime).
const PRELOADS: [&[u8]; 2] = [b"LD_AUDIT", b"LD_PRELOAD"];

/// Such libraries that do not, by how their names begin: who owns a file, what is written to disk and when,
/// memory, buffers, who runs what, windows. Gentoo's `libsandbox` forbids, and changes nothing.
const HARMLESS_PRELOADS: [&str; 19] = [
    "libasan",
    "libdlfaker",
    "libear",
    "libeatmydata",
    "libexec",
    "libfakeroot",
    "libgtk3-nocsd",
    "libhardened_malloc",
    "libjemalloc",
    "libmimalloc",
    "libproxychains",
    "libsandbox",
    "libscudo",
    "libsnmalloc",
    "libsnoopy",
    "libstdbuf",
    "libtcmalloc",
    "libubsan",
    "libvglfaker",
];

/// Variables that go with a command as it stands, and what documents them.
///
/// gcc's manual, "Environment Variables Affecting GCC" and "Options to Control Diagnostic Messages
/// Formatting"; clang's, "ENVIRONMENT" and "Configuration files"; for `TZ`, the locale's and gettext's
/// variables the manual of the GNU C library; for terminals and colours terminfo(5) and the sources of
/// both compilers' messages. `LIBRARY_PATH` is the linker's, yet gcc's driver looks at it at each start.
const GOES_ALONG: [&str; 26] = [
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLORTERM",
    "COLUMNS",
    "CPATH",
    "CPLUS_INCLUDE_PATH",
    "C_INCLUDE_PATH",
    "GCC_COLORS",
    "GCC_EXTRA_DIAGNOSTIC_OUTPUT",
    "GCC_URLS",
    "LANG",
    "LANGUAGE",
    "LIBRARY_PATH",
    "NO_COLOR",
    "OBJCPLUS_INCLUDE_PATH",
    "OBJC_INCLUDE_PATH",
    "OUTPUT_CHARSET",
    "PATH",
    "POSIXLY_CORRECT",
    "PWD",
    "SDKROOT",
    "SOURCE_DATE_EPOCH",
    "TERM",
    "TERM_URLS",
    "TZ",
    "VTE_VERSION",
];

/// Those of them that list directories of headers; the first does so for all languages.
pub const INCLUDE_LISTS: [&str; 5] =
    ["CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "OBJC_INCLUDE_PATH", "OBJCPLUS_INCLUDE_PATH"];

/// Variables that make the C library under the compiler read files of which nothing is known.
const OF_THE_LIBRARY: [&str; 5] = ["GCONV_PATH", "LOCPATH", "NLSPATH", "TZDIR", "TERMINFO"];

/// The part of an environment that goes with a command as it stands, entry by entry as it is: the
/// client's own files lie under the client's own paths, so paths mean the same.
///
/// `TMPDIR` stays: where temporary files are is the volunteer's matter. So does everything that no
/// compiler reads.
///
/// # Errors
///
/// Returns the variable that keeps the job on the client: one that makes a compiler run, read or write
/// what the command line does not tell, or one that is too long.
pub fn hermetic_environment(env: &[Bytes]) -> Result<Vec<Bytes>, LocalReason> {
    let mut kept = Vec::new();
    for entry in env {
        let Some((name, value)) = split_entry(entry) else { continue };
        if let Some(reason) = environment_reason([&entry[..]].into_iter()) {
            return Err(reason);
        }
        let is = |list: &[&str]| list.iter().any(|known| known.as_bytes() == name);
        let goes = is(&GOES_ALONG) || name.starts_with(b"LC_");
        // Another directory for each process: not the compiler's where it is looked at, and there not ours.
        let is_fleeting = name == b"PWD" && is_of_the_process(value);
        let is_unknown = is(&OF_THE_LIBRARY) && !value.is_empty();
        if is_unknown || is_fleeting || goes && entry.len() > ITEM_MAX_BYTES {
            return Err(LocalReason::Environment { name: String::from_utf8_lossy(name).into_owned() });
        }
        if goes {
            kept.push(entry.clone());
        }
    }
    Ok(kept)
}

/// The first of the variables, as `NAME=value`, that keeps a job on the client.
pub fn environment_reason<'a>(mut entries: impl Iterator<Item = &'a [u8]>) -> Option<LocalReason> {
    let name = entries.find_map(|entry| {
        let (name, value) = match entry.iter().position(|&byte| byte == b'=') {
            Some(equals) => (&entry[..equals], &entry[equals + 1..]),
            None => (entry, &b""[..]),
        };
        let is_decisive = DECISIVE.iter().any(|known| known.as_bytes() == name)
            || DECISIVE_PREFIXES.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
            || PRELOADS.contains(&name) && !is_harmless_preload(value);
        is_decisive.then_some(name)
    })?;
    Some(LocalReason::Environment { name: String::from_utf8_lossy(name).into_owned() })
}

/// Whether all libraries in a list are known to leave alone what a compiler reads and writes. The loader takes
/// blanks and colons between them (ld.so(8)).
fn is_harmless_preload(list: &[u8]) -> bool {
    let names = list.split(|byte| matches!(byte, b' ' | b':')).filter(|name| !name.is_empty());
    names.map(basename).all(|name| {
        HARMLESS_PRELOADS.iter().any(|known| {
            let rest = name.strip_prefix(known.as_bytes());
            rest.is_some_and(|rest| !rest.first().is_some_and(u8::is_ascii_lowercase))
        })
    })
}

/// The part of an environment that goes with a job: the locale and the reproducible-builds epoch.
///
/// Both ends use it. The client filters what it sends, and the volunteer what it receives, so no
/// peer can name a path, a library or a program. Of a name given twice the last entry counts.
pub fn remote_environment(env: &[Bytes]) -> Vec<Bytes> {
    let mut kept: Vec<Bytes> = Vec::new();
    for entry in env.iter().rev() {
        let Some((name, value)) = split_entry(entry) else { continue };
        let locale = matches!(name, b"LANG" | b"LANGUAGE") || name.starts_with(b"LC_");
        let wanted = locale && is_locale(value) || name == b"SOURCE_DATE_EPOCH" && is_number(value);
        let known = kept.iter().any(|known| split_entry(known).is_some_and(|(known, _)| known == name));
        if wanted && !known {
            kept.push(entry.clone());
        }
    }
    kept.reverse();
    kept
}

/// `NAME=value`, with a name of letters, digits and underscores.
fn split_entry(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = entry.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (&entry[..equals], &entry[equals + 1..]);
    let plain = name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    plain.then_some((name, value))
}

/// Whether a value can be the name of a locale: the C library reads a file of that name, so it
/// must not lead anywhere.
fn is_locale(value: &[u8]) -> bool {
    value.len() <= 64
        && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_.@:-".contains(byte))
        && !value.windows(2).any(|pair| pair == b"..")
}

/// Whether a value is a short number.
fn is_number(value: &[u8]) -> bool {
    (1..=20).contains(&value.len()) && value.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_working_directory_that_is_another_for_each_process_does_not_go_along() {
        let check = |entry: &str| hermetic_environment(&[Bytes::from(entry)]);
        let refused = LocalReason::Environment { name: "PWD".to_owned() };
        assert_eq!(check("PWD=/proc/self/cwd"), Err(refused));
        assert_eq!(check("PWD=/w"), Ok(vec![Bytes::from("PWD=/w")]));
    }

    #[test]
    fn variables_that_redirect_a_compiler_keep_the_job_here() {
        let reason = |name: &str| {
            let entry = format!("{name}=x");
            environment_reason([b"PATH=/bin".as_slice(), entry.as_bytes()].into_iter())
        };
        for name in
            ["COMPILER_PATH", "CCC_OVERRIDE_OPTIONS", "CC_PRINT_OPTIONS", "CLANG_CONFIG_FILE_USER_DIR"]
        {
            assert_eq!(reason(name), Some(LocalReason::Environment { name: name.to_owned() }));
        }
        for name in ["GCC_COLORS", "GCC_VERSION", "CPATH", "CC", "CLANG", "LD_DEBUG"] {
            assert_eq!(reason(name), None, "{name}");
        }
    }

    #[test]
    fn a_preloaded_library_that_may_show_other_files_keeps_the_job_here() {
        let check = |entry: &str, stays: bool| {
            assert_eq!(environment_reason([entry.as_bytes()].into_iter()).is_some(), stays, "{entry}");
        };
        for value in [
            "",
            "libfakeroot-sysv.so",
            "/usr/lib/x86_64-linux-gnu/libfakeroot/libfakeroot-0.so",
            "libfakeroot-tcp.so:/usr/lib/libeatmydata.so",
            " /usr/lib/libjemalloc.so.2  libtcmalloc_minimal.so.4",
            "libsandbox.so",
        ] {
            check(&format!("LD_PRELOAD={value}"), false);
        }
        for value in [
            "libfakechroot.so",
            "/usr/lib/fakechroot/libfakechroot.so:libfakeroot-sysv.so",
            "/usr/lib/faketime/libfaketime.so.1",
            "libfakeroot-sysv.so ./x.so",
            "libearly.so",
            "libfakeroot/x.so",
        ] {
            check(&format!("LD_PRELOAD={value}"), true);
        }
        check("LD_AUDIT=/x/audit.so", true);
    }

    #[test]
    fn what_compilers_read_goes_with_a_command_as_it_stands() {
        let filter = |line: &str| {
            let entries: Vec<Bytes> = line.split(' ').map(Bytes::from).collect();
            hermetic_environment(&entries)
                .map(|kept| kept.iter().map(Bytes::to_text).collect::<Vec<_>>().join(" "))
        };
        let goes = "PATH=/bin PWD=/w CPATH=/i:/j C_INCLUDE_PATH= LC_ALL=C LC_X=1 LANGUAGE=de TZ=UTC \
                    SOURCE_DATE_EPOCH=x GCC_COLORS= TERM=xterm COLUMNS=80 NO_COLOR=1 PATH=/again";
        assert_eq!(filter(goes).as_deref(), Ok(goes));
        assert_eq!(filter("TMPDIR=/x HOME=/h LD_PRELOAD= MAKEFLAGS=-j CFLAGS=-O2 odd =x").as_deref(), Ok(""));
        for name in
            ["COMPILER_PATH", "GCC_EXEC_PREFIX", "DEPENDENCIES_OUTPUT", "CCC_OVERRIDE_OPTIONS", "LOCPATH"]
        {
            let reason = LocalReason::Environment { name: name.to_owned() };
            assert_eq!(filter(&format!("LANG=C {name}=x")), Err(reason));
        }
        assert!(filter(&format!("CPATH={}", "x".repeat(ITEM_MAX_BYTES))).is_err());
    }

    #[test]
    fn only_the_locale_and_the_epoch_go_along() {
        let filter = |entries: &[&str]| {
            let entries: Vec<Bytes> = entries.iter().map(|entry| Bytes::from(*entry)).collect();
            remote_environment(&entries).iter().map(Bytes::to_text).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(filter(&["PATH=/bin", "LANG=de_DE.UTF-8", "LC_ALL=C"]), "LANG=de_DE.UTF-8 LC_ALL=C");
        assert_eq!(filter(&["SOURCE_DATE_EPOCH=1", "SOURCE_DATE_EPOCH=2"]), "SOURCE_DATE_EPOCH=2");
        assert_eq!(filter(&["LC_ALL=../../tmp/x", "LC_A/B=C", "SOURCE_DATE_EPOCH=x", "LANG"]), "");
        assert_eq!(filter(&["LD_PRELOAD=x", "TMPDIR=/x", "LOCPATH=/x", "GCC_EXEC_PREFIX=/x"]), "");
    }
}
