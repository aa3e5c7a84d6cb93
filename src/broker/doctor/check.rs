//! One thing that was looked at, and its line.

use crate::broker::status::render::Style;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub what: String,
    /// Whether it is as it should be.
    pub good: bool,
    /// A sentence.
    pub found: String,
    /// The command that mends it, or what else does.
    pub mend: Option<String>,
}

impl Check {
    /// All is well.
    pub fn good(what: &str, found: &str) -> Self {
        Check { what: what.to_owned(), good: true, found: found.to_owned(), mend: None }
    }

    /// It is not.
    pub fn bad(what: &str, found: &str) -> Self {
        Check { good: false, ..Check::good(what, found) }
    }

    /// What mends it.
    pub fn mend(self, mend: &str) -> Self {
        Check { mend: Some(mend.to_owned()), ..self }
    }

    /// A line with a tick or a cross, and one with the mend below it.
    pub fn render(&self, style: Style) -> String {
        let mark = match (self.good, style.colours) {
            (true, true) => "\x1b[32m✓\x1b[0m",
            (true, false) => "✓",
            (false, true) => "\x1b[31m✗\x1b[0m",
            (false, false) => "✗",
        };
        let harmless = |text: &str| -> String {
            text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
        };
        let mend = self.mend.as_ref().map(|mend| format!("    mend: {}\n", harmless(mend)));
        format!("{mark} {}: {}\n{}", self.what, harmless(&self.found), mend.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cross_comes_with_its_mend() {
        let check = Check::bad("ulimit", "64 files").mend("ulimit -n 4096");
        assert_eq!(check.render(Style::default()), "✗ ulimit: 64 files\n    mend: ulimit -n 4096\n");
        let check = Check::good("ulimit", "1048576\nfiles");
        assert_eq!(check.render(Style::default()), "✓ ulimit: 1048576 files\n");
    }
}
