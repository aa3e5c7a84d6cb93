//! The daemon's settings: command line, environment, settings file, and what is built in; the first
//! of these that says something counts.
//!
//! Every option that says how to serve is also a variable (`--store-size`: `DISTCCD_STORE_SIZE`) and a key of
//! the file (`store-size`). What variables and file say is put in front of the command line as
//! options, so that there is one set of rules for values, and one way to complain.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, CommandFactory};

use super::config::{Answer, Config};
use crate::common::configuration::{FILE_MAX_BYTES, Origin, Setting, parse, show};
use crate::common::exit;

/// Options that say what to do just now, and so are no settings.
const NOT_SETTINGS: [&str; 18] = [
    "config",
    "daemon",
    "dashboard-address",
    "detached",
    "help",
    "inetd",
    "key",
    "no-detach",
    "no-fork",
    "pair",
    "pause",
    "port-file",
    "print-config",
    "resume",
    "stdio",
    "auth",
    "zeroconf",
    "version",
];

/// The system's settings file.
const SYSTEM_FILE: &str = "/etc/distcc/distccd.toml";

/// A command line with everything that is set, and where each setting comes from.
#[derive(Debug)]
pub struct Layered {
    /// The program's name, what variables and file say, the command line.
    pub arguments: Vec<OsString>,
    /// The settings file, if there is one.
    pub file: Option<PathBuf>,
    origins: Vec<(String, Origin)>,
}

/// What the daemon finds around it.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// A variable of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// The text of a file.
    pub text: &'a dyn Fn(&Path) -> io::Result<String>,
    /// Whether root started it; then only the system's file counts.
    pub is_root: bool,
}

/// Reads a settings file; at most so much of it that one that is longer is no TOML any more.
///
/// # Errors
///
/// Returns what the file system returned.
pub fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// Puts variables and settings file in front of a command line.
///
/// # Errors
///
/// Returns what to say and how to exit: what is wrong, or help that was asked for.
pub fn layered(arguments: Vec<OsString>, around: Surroundings<'_>) -> Result<Layered, Answer> {
    let given = Config::command().try_get_matches_from(&arguments).map_err(|error| Answer {
        text: error.to_string(),
        status: if error.use_stderr() { exit::BAD_ARGUMENTS } else { 0 },
    })?;
    let (file, settings) = read_file(&given, around)?;
    let mut layers = Layered { arguments: Vec::new(), file, origins: Vec::new() };
    let mut words = arguments.into_iter();
    layers.arguments.extend(words.next());
    for argument in Config::command().get_arguments() {
        let Some(key) = key_of(argument) else { continue };
        let is_given = given.value_source(argument.get_id().as_str()) == Some(ValueSource::CommandLine);
        let setting = || settings.iter().find(|setting| setting.key == key);
        let name = variable_of(key);
        let origin = if is_given {
            Origin::CommandLine
        } else if let Some(value) = (around.variable)(&name) {
            layers.add(argument, key, &[value], &name)?;
            Origin::Variable(name)
        } else if let (Some(setting), Some(file)) = (setting(), layers.file.clone()) {
            let values: Vec<OsString> = setting.values.iter().map(OsString::from).collect();
            layers.add(argument, key, &values, &format!("{}: {key}", file.display()))?;
            Origin::File(file.display().to_string())
        } else {
            Origin::Default
        };
        layers.origins.push((key.to_owned(), origin));
    }
    layers.arguments.extend(words);
    Ok(layers)
}

impl Layered {
    fn add(&mut self, argument: &Arg, key: &str, values: &[OsString], place: &str) -> Result<(), Answer> {
        let option = |value: &OsStr| {
            let mut word = OsString::from(format!("--{key}="));
            word.push(value);
            word
        };
        match (argument.get_action(), values) {
            (ArgAction::SetTrue, [value]) => match value.to_str() {
                Some("true" | "1") => self.arguments.push(format!("--{key}").into()),
                Some("false" | "0") => {}
                _ => return Err(wrong(&format!("{place} must be true or false"))),
            },
            (ArgAction::Append, values) => {
                // A variable holds several, apart by spaces or commas; a file has a list.
                let words = values.iter().filter_map(|value| value.to_str());
                let apart = |letter: char| letter == ',' || letter.is_ascii_whitespace();
                let words = words.flat_map(|value| value.split(apart)).filter(|word| !word.is_empty());
                self.arguments.extend(words.map(|word| option(word.as_ref())));
            }
            (_, [value]) => self.arguments.push(option(value)),
            (_, _) => return Err(wrong(&format!("{place} has one value"))),
        }
        Ok(())
    }

    /// The settings in force, as a settings file, and where each comes from.
    ///
    /// # Errors
    ///
    /// Returns which value is wrong.
    pub fn show(&self) -> Result<String, Answer> {
        let matches = Config::command()
            .try_get_matches_from(&self.arguments)
            .map_err(|error| Answer { text: error.to_string(), status: exit::BAD_ARGUMENTS })?;
        let mut text = match &self.file {
            Some(path) => format!("# settings file: {}\n", path.display()),
            None => "# settings file: none\n".to_owned(),
        };
        let command = Config::command();
        for (key, origin) in &self.origins {
            let Some(argument) =
                command.get_arguments().find(|argument| key_of(argument) == Some(key.as_str()))
            else {
                continue;
            };
            let is_list = matches!(argument.get_action(), ArgAction::Append);
            text.push_str(&show(key, &values_of(&matches, argument), is_list, origin));
        }
        Ok(text)
    }
}

fn values_of(matches: &ArgMatches, argument: &Arg) -> Vec<String> {
    let id = argument.get_id().as_str();
    if matches!(argument.get_action(), ArgAction::SetTrue) {
        return vec![matches.get_flag(id).to_string()];
    }
    let raw = matches.get_raw(id).into_iter().flatten();
    raw.map(|value| value.to_string_lossy().into_owned()).collect()
}

/// The key of an option that is a setting.
fn key_of(argument: &Arg) -> Option<&str> {
    argument.get_long().filter(|long| !NOT_SETTINGS.contains(long) && !argument.is_hide_set())
}

fn variable_of(key: &str) -> String {
    format!("DISTCCD_{}", key.replace('-', "_").to_ascii_uppercase())
}

/// The settings file and what is in it: that which `--config` or `DISTCCD_CONFIG` names and must be there,
/// else a user's own, else the system's.
fn read_file(
    given: &ArgMatches,
    around: Surroundings<'_>,
) -> Result<(Option<PathBuf>, Vec<Setting>), Answer> {
    let named = given.get_one::<PathBuf>("config").cloned();
    let named = named.or_else(|| (around.variable)("DISTCCD_CONFIG").map(PathBuf::from));
    let absolute = |name| (around.variable)(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let own = || absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")));
    let own = if around.is_root { None } else { own().map(|folder| folder.join("distcc/distccd.toml")) };
    let candidates: Vec<PathBuf> = match &named {
        Some(path) => vec![path.clone()],
        None => own.into_iter().chain([PathBuf::from(SYSTEM_FILE)]).collect(),
    };
    let command = Config::command();
    let known: Vec<&str> = command.get_arguments().filter_map(key_of).collect();
    for path in candidates {
        match (around.text)(&path) {
            Ok(text) => {
                let settings =
                    parse(&text, &known).map_err(|error| wrong(&format!("{}: {error}", path.display())))?;
                return Ok((Some(path), settings));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {}
            Err(error) => return Err(wrong(&format!("{}: {error}", path.display()))),
        }
    }
    Ok((None, Vec::new()))
}

fn wrong(what: &str) -> Answer {
    Answer { text: format!("error: {what}\n"), status: exit::BAD_ARGUMENTS }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a command line with these variables and this settings file.
    fn read(line: &str, variables: &[(&str, &str)], file: Option<&str>) -> Result<(Config, String), String> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        };
        let text = |path: &Path| match (path.to_str(), file) {
            (Some(SYSTEM_FILE), Some(text)) => Ok(text.to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        };
        let around = Surroundings { variable: &variable, text: &text, is_root: true };
        let arguments = line.split_whitespace().map(OsString::from).collect();
        let layers = layered(arguments, around).map_err(|answer| answer.text)?;
        let shown = layers.show().map_err(|answer| answer.text)?;
        Config::read(layers.arguments).map(|config| (config, shown)).map_err(|answer| answer.text)
    }

    #[test]
    fn command_line_environment_and_file_count_in_this_order() {
        let file =
            "jobs = 1\nport = 2\nnice = 3\nstats = true\nlisten = ['127.0.0.1', '::1']\nverbose = false\n";
        let variables = [("DISTCCD_JOBS", "4"), ("DISTCCD_PORT", "5"), ("DISTCCD_COMPILER", "/a,/b /c")];
        let (config, shown) = read("distccd --jobs 6", &variables, Some(file)).expect("read");
        assert_eq!((config.jobs, config.port, config.nice), (Some(6), 5, 3));
        assert!(config.stats && !config.verbose);
        assert_eq!(config.listen, ["127.0.0.1", "::1"]);
        assert_eq!(config.compiler, ["/a", "/b", "/c"].map(PathBuf::from));
        for line in [
            "jobs = 6                                 # command line\n",
            "port = 5                                 # $DISTCCD_PORT\n",
            "nice = 3                                 # /etc/distcc/distccd.toml\n",
            "listen = [\"127.0.0.1\", \"::1\"]",
            "job-lifetime = 3600                      # default\n",
            "# log-file is not set\n",
        ] {
            assert!(shown.contains(line), "{line}: {shown}");
        }
        // What is shown says the same again.
        let (again, _) = read("distccd", &[], Some(&shown)).expect("read");
        assert_eq!((again.jobs, again.port, again.listen), (config.jobs, config.port, config.listen));
    }

    #[test]
    fn what_is_wrong_names_its_place() {
        for (variables, file, words) in [
            (&[][..], "job = 1", "/etc/distcc/distccd.toml: there is no setting `job`; did you mean `jobs`?"),
            (&[], "jobs = [1, 2]", "distccd.toml: jobs has one value"),
            (&[], "stats = 'yes'", "stats must be true or false"),
            (&[], "port = 70000", "70000"),
            (&[("DISTCCD_STATS", "maybe")], "", "DISTCCD_STATS must be true or false"),
            (&[("DISTCCD_CONFIG", "/gone")], "", "/gone: "),
            (&[], "daemon = true", "there is no setting `daemon`"),
        ] {
            let why = read("distccd", variables, Some(file)).expect_err(file);
            assert!(why.contains(words), "{file}: {why}");
        }
        assert!(read("distccd --config /gone", &[], None).expect_err("no file").contains("/gone"));
    }

    #[test]
    fn each_setting_has_an_example_that_counts_once_it_is_no_comment() {
        let example = include_str!("../../contrib/settings/distccd.toml");
        let uncommented = example.lines().map(|line| match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(|letter: char| letter.is_ascii_lowercase()) => setting,
            _ => line,
        });
        let text: String = uncommented.flat_map(|line| [line, "\n"]).collect();
        let (_, shown) = read("distccd", &[], Some(&text)).expect("a good file");
        let command = Config::command();
        for key in command.get_arguments().filter_map(key_of) {
            let line = shown.lines().find(|line| line.starts_with(&format!("{key} = ")));
            assert!(
                line.is_some_and(|line| line.ends_with(SYSTEM_FILE)),
                "{key} is not in the example: {shown}"
            );
        }
        // As it is installed, it changes nothing.
        let (given, _) = read("distccd", &[], Some(example)).expect("read");
        let (bare, _) = read("distccd", &[], None).expect("read");
        assert_eq!(format!("{given:?}"), format!("{bare:?}"));
    }

    #[test]
    fn without_a_file_everything_is_as_it_was() {
        let (config, shown) = read("distccd -p 7", &[], None).expect("read");
        assert_eq!((config.port, config.nice), (7, 5));
        assert!(shown.starts_with("# settings file: none\n"), "{shown}");
    }
}
