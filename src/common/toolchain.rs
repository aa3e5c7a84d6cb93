//! Which compiler, by what it is rather than by what it is called.
//!
//! Two machines have the same toolchain when the contents of driver, compilers proper and
//! assembler are the same, and what the driver says of itself is the same. Both sides ask the
//! driver the same questions ([`QUESTIONS`]) and make the identity with [`identify`].

use serde::{Deserialize, Serialize};

use crate::common::bytes::Bytes;

/// A BLAKE3 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Digest(*blake3::hash(bytes).as_bytes())
    }

    /// Reads what [`Display`](std::fmt::Display) writes: 64 hexadecimal digits.
    pub fn parse(hex: &str) -> Option<Self> {
        let bytes = hex.as_bytes();
        if bytes.len() != 64 {
            return None;
        }
        let mut digest = [0; 32];
        for (byte, pair) in digest.iter_mut().zip(bytes.chunks_exact(2)) {
            let (high, low) = (char::from(pair[0]).to_digit(16)?, char::from(pair[1]).to_digit(16)?);
            *byte = (high << 4 | low) as u8;
        }
        Some(Digest(digest))
    }

    /// The first 16 hexadecimal digits: enough for people to tell two apart.
    pub fn short(&self) -> String {
        self.to_string()[..16].to_owned()
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.short())
    }
}

/// A compiler as both sides know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    /// The digest of everything below and of the programs' contents.
    pub id: Digest,
    /// Names under which a volunteer may have it, the likeliest first; without directories.
    pub names: Vec<Bytes>,
    /// What the driver says of its version, e.g. `gcc version 12.2.0 (Debian 12.2.0-14)`.
    pub version: String,
    /// The target triple, e.g. `x86_64-linux-gnu`.
    pub target: String,
    /// Whether it is clang.
    pub clang: bool,
}

/// What both sides ask the driver, under `LC_ALL=C`: first who it is (answered on stderr), then
/// where its sub-programs are (answered on stdout).
pub const QUESTIONS: [&str; 4] =
    ["-v", "-print-prog-name=cc1", "-print-prog-name=cc1plus", "-print-prog-name=as"];

/// What the driver's `-v` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Banner {
    /// The line that names version and vendor.
    pub version: String,
    /// The target triple.
    pub target: String,
    /// Whether it is clang.
    pub clang: bool,
}

/// Reads the driver's answer to `-v`; `None` when it is not that of gcc or clang.
pub fn read_banner(stderr: &str) -> Option<Banner> {
    let version = stderr
        .lines()
        .find(|line| line.starts_with("gcc version ") || line.contains("clang version "))?
        .trim()
        .to_owned();
    let target = stderr.lines().find_map(|line| line.strip_prefix("Target: "))?.trim().to_owned();
    let clang = version.contains("clang version ");
    Some(Banner { version, target, clang })
}

/// What a driver is told besides its command line, as far as its answer to `-v` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Files that it has read: gcc's specs, clang's configuration files.
    pub files: Vec<Bytes>,
    /// Folders besides its own in which clang looks for files of other targets and modes (its user's manual,
    /// "Configuration files").
    pub folders: Vec<Bytes>,
}

/// Reads what the driver's answer to `-v` says of its settings.
pub fn read_settings(stderr: &[u8]) -> Settings {
    let after = |labels: [&str; 2]| -> Vec<Bytes> {
        let lines = stderr.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        let named =
            lines.filter_map(|line| labels.iter().find_map(|label| line.strip_prefix(label.as_bytes())));
        named.filter(|path| path.starts_with(b"/")).map(Bytes::from).collect()
    };
    Settings {
        files: after(["Reading specs from ", "Configuration file: "]),
        folders: after(["System configuration file directory: ", "User configuration file directory: "]),
    }
}

/// Whether a file of this name in one of clang's folders is read for some command.
pub fn is_setting(name: &[u8]) -> bool {
    name.ends_with(b".cfg")
}

/// The digest of a setting for [`identify`], by its name without folders. Where it includes others, which nobody follows
/// for this, it is no other machine's: `of` says whose it is.
pub fn setting_digest(name: &[u8], text: &[u8], of: &str) -> Digest {
    let includes = text.contains(&b'@') || text.windows(8).any(|word| word == b"%include");
    let of = if includes { of } else { "" };
    let mut hasher = blake3::Hasher::new_derive_key("distcc setting 1");
    for part in [of.as_bytes(), name, text] {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    Digest(*hasher.finalize().as_bytes())
}

/// Makes the identity of a toolchain from its banner and the digests of its programs, in the
/// order driver, cc1, cc1plus, as, a program that is not there is `None`; and, by name, of its settings.
pub fn identify(banner: &Banner, programs: &[Option<Digest>]) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("distcc toolchain identity 1");
    for text in [&banner.version, &banner.target] {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    for program in programs {
        match program {
            Some(digest) => hasher.update(&[1]).update(&digest.0),
            None => hasher.update(&[0]),
        };
    }
    Digest(*hasher.finalize().as_bytes())
}

/// The number of `gcc version 12.2.0 (…)` or `Debian clang version 14.0.6`. Apple's clangs count otherwise.
pub fn major(version: &str) -> Option<u32> {
    let (vendor, number) = version.split_once("version ")?;
    let digits = number.split(|letter: char| !letter.is_ascii_digit()).next()?;
    if vendor.contains("Apple") { None } else { digits.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_of_gcc_is_read() {
        let banner =
            read_banner("Using built-in specs.\nTarget: x86_64-linux-gnu\ngcc version 12.2.0 (Debian)\n");
        let banner = banner.expect("a banner");
        assert_eq!((banner.version.as_str(), banner.clang), ("gcc version 12.2.0 (Debian)", false));
    }

    #[test]
    fn the_banner_of_clang_is_read() {
        let banner =
            read_banner("Debian clang version 14.0.6\nTarget: x86_64-pc-linux-gnu\nThread model: posix\n");
        let banner = banner.expect("a banner");
        assert_eq!((banner.target.as_str(), banner.clang), ("x86_64-pc-linux-gnu", true));
    }

    #[test]
    fn settings_are_read_from_the_banner() {
        let said = b"Reading specs from /s/specs\nConfiguration file: /b/clang.cfg\n\
                     User configuration file directory: /home/u\nSystem configuration file directory: \n";
        let settings = read_settings(said);
        assert_eq!(settings.files, [Bytes::from("/s/specs"), Bytes::from("/b/clang.cfg")]);
        assert_eq!(settings.folders, [Bytes::from("/home/u")]);
        assert_eq!(read_settings(b"Using built-in specs.\n"), Settings::default());
    }

    #[test]
    fn settings_that_include_others_are_no_other_machines() {
        let of = |text: &str, of| setting_digest(b"a.cfg", text.as_bytes(), of);
        assert_eq!(of("-O2", "here"), of("-O2", "there"));
        assert_ne!(of("-O2", "here"), of("-O1", "here"));
        for text in ["-O2\n@more", "%include <more>"] {
            assert_ne!(of(text, "here"), of(text, "there"), "{text}");
        }
    }

    #[test]
    fn a_program_that_is_no_compiler_has_no_banner() {
        assert_eq!(read_banner("usage: tool [-h]\n"), None);
    }

    #[test]
    fn a_digest_is_read_as_it_is_written() {
        let digest = Digest::of(b"text");
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        assert_eq!(Digest::parse(&digest.short()), None);
        assert_eq!(Digest::parse(&"x".repeat(64)), None);
    }

    #[test]
    fn another_assembler_is_another_toolchain() {
        let banner = Banner { version: "v".into(), target: "t".into(), clang: false };
        let digest = Digest::of(b"driver");
        assert_ne!(
            identify(&banner, &[Some(digest), None, None, Some(Digest::of(b"as 1"))]),
            identify(&banner, &[Some(digest), None, None, Some(Digest::of(b"as 2"))]),
        );
    }
}
