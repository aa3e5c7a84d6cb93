//! The client's settings file: what the environment does not say.
//!
//! Each key stands for a variable of distcc's (`io-timeout` for `DISTCC_IO_TIMEOUT`), and counts for
//! every compile whose environment does not have it. The first of these that exists is read, alone:
//! `$DISTCC_CONFIG`; `distcc.toml` in `$DISTCC_DIR`, in `$XDG_CONFIG_HOME/distcc` (`~/.config/distcc`), in
//! `/etc/distcc`. A broker reads it when it starts, and again on SIGHUP.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::common::bytes::Bytes;
use crate::common::configuration::{FILE_MAX_BYTES, FileError, Origin, Setting, parse, show};
use crate::common::invocation::Invocation;

/// The file's name in its folders.
const NAME: &str = "distcc.toml";

/// The folder of the system's.
const SYSTEM: &str = "/etc/distcc";

/// How a setting is said in the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// As it is.
    Value,
    /// Words apart by spaces.
    Words,
    /// `1` where it is true; not at all, where not.
    Truth,
}

/// The settings: key, variable, how it is said, what it is when nobody says anything.
const SETTINGS: [(&str, &str, Kind, &str); 12] = [
    ("hosts", "DISTCC_HOSTS", Kind::Words, ""),
    ("cache", "DISTCC_CACHE", Kind::Value, "5G"),
    ("io-timeout", "DISTCC_IO_TIMEOUT", Kind::Value, "300"),
    ("backoff-period", "DISTCC_BACKOFF_PERIOD", Kind::Value, ""),
    ("idle-timeout", "DISTCC_IDLE_TIMEOUT", Kind::Value, "28800"),
    ("log-format", "DISTCC_LOG_FORMAT", Kind::Value, "text"),
    ("metrics", "DISTCC_METRICS", Kind::Value, "off"),
    ("ssh", "DISTCC_SSH", Kind::Value, "ssh"),
    ("save-temps", "DISTCC_SAVE_TEMPS", Kind::Truth, "false"),
    ("skip-local-retry", "DISTCC_SKIP_LOCAL_RETRY", Kind::Truth, "false"),
    ("trace", "DISTCC_TRACE", Kind::Value, ""),
    ("verify", "DISTCC_VERIFY", Kind::Value, "0"),
];

/// Why a settings file is not taken.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It cannot be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What is in it.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        error: FileError,
    },
    /// A value that its setting cannot have.
    #[error("{}: `{key}` must be true or false", path.display())]
    NoTruth {
        /// In which file.
        path: PathBuf,
        /// Which setting.
        key: String,
    },
}

/// What a settings file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// The file, if there is one.
    pub path: Option<PathBuf>,
    /// Entries for the environment.
    entries: Vec<(&'static str, String)>,
}

impl Defaults {
    /// Reads the file that an environment leads to.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it. That there is none is no error, unless `DISTCC_CONFIG` names it.
    pub fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, SettingsError> {
        let named = variable("DISTCC_CONFIG").filter(|path| !path.is_empty()).map(PathBuf::from);
        let must_exist = named.is_some();
        let candidates = named.map_or_else(|| candidates(&variable), |path| vec![path]);
        for path in candidates {
            match text(&path) {
                Ok(text) => return Self::of(path, &text),
                Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {}
                Err(error) => return Err(SettingsError::Io { path, error }),
            }
        }
        Ok(Defaults::default())
    }

    fn of(path: PathBuf, text: &str) -> Result<Self, SettingsError> {
        let known = SETTINGS.map(|(key, ..)| key);
        let settings = match parse(text, &known) {
            Ok(settings) => settings,
            Err(error) => return Err(SettingsError::File { path, error }),
        };
        let mut entries = Vec::with_capacity(settings.len());
        for Setting { key, values } in settings {
            let Some((_, name, kind, _)) = SETTINGS.iter().find(|(known, ..)| *known == key) else {
                continue;
            };
            match (kind, values.join(" ").as_str()) {
                (Kind::Truth, "true") => entries.push((*name, "1".to_owned())),
                (Kind::Truth, "false") => {}
                (Kind::Truth, _) => return Err(SettingsError::NoTruth { path, key }),
                (Kind::Value | Kind::Words, value) => entries.push((*name, value.to_owned())),
            }
        }
        Ok(Defaults { path: Some(path), entries })
    }

    /// Adds what the file says and the environment of a compile does not.
    pub fn complete(&self, invocation: &mut Invocation) {
        for (name, value) in &self.entries {
            if invocation.variable(name).is_none() {
                invocation.env.push(Bytes::from(format!("{name}={value}").as_str()));
            }
        }
    }

    /// The broker's own environment, or what the file says in its place.
    pub fn or_variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().or_else(|| self.variable(name).map(str::to_owned))
    }

    /// What the file says in place of a variable.
    fn variable(&self, name: &str) -> Option<&str> {
        self.entries.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// The settings in force with this environment, as a settings file, and where each comes from.
    pub fn show(&self, variable: impl Fn(&str) -> Option<OsString>) -> String {
        let mut text = match &self.path {
            Some(path) => format!("# settings file: {}\n", path.display()),
            None => "# settings file: none\n".to_owned(),
        };
        for (key, name, kind, default) in SETTINGS {
            let (value, origin) = match (variable(name), self.variable(name), &self.path) {
                (Some(value), ..) => {
                    (value.to_string_lossy().into_owned(), Origin::Variable(name.to_owned()))
                }
                (None, Some(value), Some(path)) => {
                    (value.to_owned(), Origin::File(path.display().to_string()))
                }
                _ => (default.to_owned(), Origin::Default),
            };
            let value = match (kind, &*value) {
                (Kind::Truth, "1") => "true".to_owned(),
                (Kind::Truth, _) if key == "skip-local-retry" && origin != Origin::Default => {
                    "true".to_owned()
                }
                (Kind::Truth, _) => "false".to_owned(),
                _ => value,
            };
            let values: Vec<String> = match kind {
                Kind::Words => value.split_whitespace().map(str::to_owned).collect(),
                Kind::Value | Kind::Truth => {
                    Some(value).filter(|value| !value.is_empty()).into_iter().collect()
                }
            };
            text.push_str(&show(key, &values, kind == Kind::Words, &origin));
        }
        text
    }
}

fn candidates(variable: &impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let below = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    let user = below.map(|folder| folder.join("distcc"));
    let folders = absolute("DISTCC_DIR").into_iter().chain(user).chain([PathBuf::from(SYSTEM)]);
    folders.map(|folder| folder.join(NAME)).collect()
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Defaults, String> {
        Defaults::of(PathBuf::from("/f"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_environment_says_wins_and_the_rest_is_added() {
        let defaults =
            of("hosts = ['a/4', 'b']\nio_timeout = 7\nsave-temps = true\nskip-local-retry = false\n");
        let env = ["DISTCC_IO_TIMEOUT=9", "HOME=/h"].map(Bytes::from).to_vec();
        let mut invocation = Invocation { env, ..Invocation::default() };
        defaults.expect("a good file").complete(&mut invocation);
        assert_eq!(invocation.variable("DISTCC_HOSTS"), Some(&b"a/4 b"[..]));
        assert_eq!(invocation.variable("DISTCC_IO_TIMEOUT"), Some(&b"9"[..]));
        assert_eq!(invocation.variable("DISTCC_SAVE_TEMPS"), Some(&b"1"[..]));
        assert_eq!(invocation.variable("DISTCC_SKIP_LOCAL_RETRY"), None);
    }

    #[test]
    fn what_is_wrong_names_the_file_and_what_was_meant() {
        assert_eq!(of("host = 'a'"), Err("/f: there is no setting `host`; did you mean `hosts`?".to_owned()));
        assert_eq!(of("save_temps = 3"), Err("/f: `save-temps` must be true or false".to_owned()));
    }

    #[test]
    fn the_first_file_that_exists_is_read_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        for (name, text) in [("d/distcc.toml", "ssh = 'first'"), ("c/distcc/distcc.toml", "cache = 'off'")] {
            std::fs::create_dir_all(path(name).parent().expect("a folder")).expect("made");
            std::fs::write(path(name), text).expect("written");
        }
        let read = |dir: &str, config: Option<&str>| {
            Defaults::read(|name| match name {
                "DISTCC_DIR" => Some(path(dir).into()),
                "XDG_CONFIG_HOME" => Some(path("c").into()),
                "DISTCC_CONFIG" => config.map(|name| path(name).into()),
                _ => None,
            })
        };
        let first = read("d", None).expect("read");
        assert_eq!((first.variable("DISTCC_SSH"), first.variable("DISTCC_CACHE")), (Some("first"), None));
        let second = read("elsewhere", None).expect("read");
        assert_eq!(second.variable("DISTCC_CACHE"), Some("off"));
        assert!(second.show(|_| None).contains("distcc/distcc.toml\n"));
        // One that was named must be there.
        assert!(read("d", Some("gone")).is_err());
    }

    #[test]
    fn each_setting_has_an_example_that_counts_once_it_is_no_comment() {
        let example = include_str!("../../contrib/settings/distcc.toml");
        let uncommented = example.lines().map(|line| match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(|letter: char| letter.is_ascii_lowercase()) => setting,
            _ => line,
        });
        let text: String = uncommented.flat_map(|line| [line, "\n"]).collect();
        let settings = parse(&text, &SETTINGS.map(|(key, ..)| key)).expect("a good file");
        let mut found: Vec<&str> = settings.iter().map(|setting| setting.key.as_str()).collect();
        let mut all = SETTINGS.map(|(key, ..)| key);
        found.sort_unstable();
        all.sort_unstable();
        assert_eq!(found, all);
        of(&text).expect("values that settings may have");
        assert_eq!(
            of(example),
            Ok(Defaults { path: Some("/f".into()), entries: Vec::new() }),
            "only comments"
        );
    }

    #[test]
    fn each_setting_is_shown_with_its_origin() {
        let text = of("hosts = 'a b/3'\nsave-temps = true")
            .expect("a good file")
            .show(|name| (name == "DISTCC_CACHE").then(|| "off".into()));
        for line in [
            "hosts = [\"a\", \"b/3\"]",
            "cache = \"off\"",
            "save-temps = true",
            "io-timeout = 300",
            "# backoff-period is not set",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
        assert!(
            text.contains("# $DISTCC_CACHE\n") && text.contains("# /f\n") && text.contains("# default\n"),
            "{text}"
        );
        assert!(of(&text).is_ok(), "{text}");
    }
}
