//! What `--version` prints.

use super::protocol::link::DEFAULT_PORT;

/// The answer of `program` to `--version`. Scripts look at the first two lines, whose form is
/// that of distcc 3.4.
pub fn version(program: &str) -> String {
    format!(
        "{program} {} {}\n  (protocols 1, 2 and 3) (default port {DEFAULT_PORT})\n\
         Besides these, the link protocol {} among its own kind. Free under MIT OR Apache-2.0.\n",
        env!("CARGO_PKG_VERSION"),
        env!("DISTCC_TARGET"),
        super::protocol::link::VERSION,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_two_lines_are_those_that_scripts_know() {
        let text = version("distccd");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("distccd ") && lines[0].split(' ').count() == 3, "{}", lines[0]);
        assert_eq!(lines[1], "  (protocols 1, 2 and 3) (default port 3632)");
    }
}
