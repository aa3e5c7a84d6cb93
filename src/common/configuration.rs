//! Settings files: TOML, a key a setting, nothing nested.
//!
//! What a program knows is a list of keys. A key that it does not know is an error, with the one that
//! was meant where one is near: a typing error never goes unnoticed as a setting without effect.

use toml::{Table, Value};

/// No settings file of ours is longer, in bytes.
pub const FILE_MAX_BYTES: u64 = 256 << 10;

/// One setting of a file, in its order of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Which, with `-` between words.
    pub key: String,
    /// Its values: one, or as many as a list has. Truth is `true` or `false`.
    pub values: Vec<String>,
}

/// Why a settings file is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It is no TOML.
    #[error("{0}")]
    Syntax(String),
    /// Nothing has this name.
    #[error("there is no setting `{key}`{}", meant(near.as_deref()))]
    UnknownKey {
        /// The name.
        key: String,
        /// One that is much like it.
        near: Option<String>,
    },
    /// It is no word, number, truth or list of these.
    #[error("`{key}` must be a string, a number, true, false, or a list of these")]
    BadValue {
        /// Of which setting.
        key: String,
    },
}

fn meant(near: Option<&str>) -> String {
    near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

/// Reads a settings file. Words of keys may have `_` or `-` between them.
///
/// # Errors
///
/// Returns the first thing that is wrong.
pub fn parse(text: &str, known: &[&str]) -> Result<Vec<Setting>, FileError> {
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| FileError::Syntax(error.to_string().trim_end().to_owned()))?;
    table.into_iter().map(|(key, value)| setting(key.replace('_', "-"), &value, known)).collect()
}

fn setting(key: String, value: &Value, known: &[&str]) -> Result<Setting, FileError> {
    if !known.contains(&key.as_str()) {
        let near = nearest(&key, known);
        return Err(FileError::UnknownKey { key, near });
    }
    let values = match value {
        Value::Array(values) => values.iter().map(word).collect(),
        value => word(value).map(|word| vec![word]),
    };
    match values {
        Some(values) => Ok(Setting { key, values }),
        None => Err(FileError::BadValue { key }),
    }
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

/// The known name that a misspelt one is nearest to, if it is near enough to be meant.
fn nearest(key: &str, known: &[&str]) -> Option<String> {
    let (distance, name) = known.iter().map(|name| (strsim::damerau_levenshtein(key, name), *name)).min()?;
    let begins = || known.iter().find(|name| key.len() >= 3 && name.starts_with(key)).copied();
    let name = if distance <= key.len() / 3 + 1 { Some(name) } else { begins() };
    name.map(str::to_owned)
}

/// Where a setting's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An option of the command line.
    CommandLine,
    /// A variable of the environment.
    Variable(String),
    /// The settings file.
    File(String),
    /// Nobody said anything.
    Default,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::CommandLine => to.write_str("command line"),
            Origin::Variable(name) => write!(to, "${name}"),
            Origin::File(path) => to.write_str(path),
            Origin::Default => to.write_str("default"),
        }
    }
}

/// One line for `--print-config`: what a settings file with the same effect would say, and where it
/// comes from. Without a value, the line is a comment.
pub fn show(key: &str, values: &[String], is_list: bool, origin: &Origin) -> String {
    let one = |value: &String| match value.parse::<i64>().is_ok() || matches!(&**value, "true" | "false") {
        true => value.clone(),
        false => Value::String(value.clone()).to_string(),
    };
    let shown = match values {
        [] => return format!("# {key} is not set\n"),
        values if is_list => format!("[{}]", values.iter().map(one).collect::<Vec<_>>().join(", ")),
        values => one(&values[0]),
    };
    let line = format!("{key} = {shown}");
    format!("{line:<40} # {origin}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 5] = ["allow", "jobs", "store-size", "stats", "verify"];

    fn read(text: &str) -> Result<Vec<(String, Vec<String>)>, String> {
        let settings = parse(text, &KNOWN).map_err(|error| error.to_string())?;
        Ok(settings.into_iter().map(|setting| (setting.key, setting.values)).collect())
    }

    #[test]
    fn words_numbers_truths_and_lists_are_values() {
        let text = "# a comment\njobs = 12\nallow = [\"10.0.0.0/8\", 'build7']\nstore_size = 100\nstats = true\nverify = 0.01\n";
        let values = |key: &str| {
            let settings = read(text).expect("a good file");
            settings.into_iter().find(|(name, _)| name == key).expect("the key").1
        };
        assert_eq!(values("jobs"), ["12"]);
        assert_eq!(values("allow"), ["10.0.0.0/8", "build7"]);
        assert_eq!(values("store-size"), ["100"]);
        assert_eq!(values("stats"), ["true"]);
        assert_eq!(values("verify"), ["0.01"]);
        assert_eq!(read(""), Ok(Vec::new()));
    }

    #[test]
    fn what_is_wrong_is_named_with_what_was_meant() {
        for (text, words) in [
            ("job = 3", "`job`; did you mean `jobs`?"),
            ("alow = 3", "did you mean `allow`?"),
            ("storesize = 3", "did you mean `store-size`?"),
            ("store = 3", "did you mean `store-size`?"),
            ("colour = 3", "there is no setting `colour`"),
            ("jobs = { a = 1 }", "`jobs` must be"),
            ("jobs = [[1]]", "`jobs` must be"),
            ("[network]\njobs = 1", "there is no setting `network`"),
            ("jobs = ", "line 1"),
            ("jobs = 1\njobs = 2", "duplicate key"),
        ] {
            let why = read(text).expect_err(text);
            assert!(why.contains(words), "{text}: {why}");
        }
        assert!(!read("colour = 3").expect_err("unknown").contains("did you mean"));
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        let of = |key: &str, values: &[&str], is_list| {
            let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
            show(key, &values, is_list, &Origin::Variable("X".to_owned()))
        };
        let text = [
            of("jobs", &["3"], false),
            of("allow", &["a\"b", "::1"], true),
            of("stats", &["true"], false),
            of("verify", &[], false),
        ]
        .concat();
        assert!(text.contains("# $X\n") && text.contains("# verify is not set\n"), "{text}");
        let expected = [("jobs", vec!["3"]), ("allow", vec!["a\"b", "::1"]), ("stats", vec!["true"])];
        let mut read = read(&text).expect("a good file");
        read.sort();
        let mut expected: Vec<(String, Vec<String>)> = expected
            .into_iter()
            .map(|(key, values)| (key.to_owned(), values.into_iter().map(str::to_owned).collect()))
            .collect();
        expected.sort();
        assert_eq!(read, expected);
    }
}
