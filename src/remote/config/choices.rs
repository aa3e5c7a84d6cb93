//! What some settings may be.

use clap::ValueEnum;

/// Reads a level; a word that is none is told of later.
pub fn level(text: &str) -> Result<Level, std::convert::Infallible> {
    Ok(Level::from_str(text, true).unwrap_or(Level::Unknown))
}

/// Whether jobs run in boxes of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SandboxChoice {
    /// Where this machine can.
    Auto,
    /// Always, or not at all.
    Required,
    /// Never.
    Off,
}

/// How the log reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// As that of distccd 3.4.
    Text,
    /// As JSON.
    Json,
}

/// How much is said, in the words of distcc and of syslog.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Level {
    /// What ends the daemon.
    #[value(aliases = ["critical", "crit", "alert", "emergency", "emerg", "err"])]
    Error,
    /// What somebody should look at.
    #[value(aliases = ["warn"])]
    Warning,
    /// One line for each job and each link.
    #[value(aliases = ["notice"])]
    Info,
    /// Details.
    Debug,
    /// A word that is no level; it means the default.
    #[value(skip)]
    Unknown,
}

impl From<Level> for tracing::level_filters::LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warning => Self::WARN,
            Level::Info | Level::Unknown => Self::INFO,
            Level::Debug => Self::DEBUG,
        }
    }
}
