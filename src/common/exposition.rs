//! Figures in Prometheus' text format, version 0.0.4.
//!
//! Names, help and labels are ours; values of labels may be anything and are escaped.

use std::fmt::Write;

/// What a figure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows; its name ends in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// A text that grows, family by family.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// The content type of the text.
    pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

    /// Begins a family: all its samples follow.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) -> Family<'_> {
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        // Writing to a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {word}\n");
        Family { text: &mut self.0, name: name.to_owned() }
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &str, kind: Kind, help: &str, value: f64) {
        self.family(name, kind, help).sample(&[], value);
    }

    /// The whole text.
    pub fn finish(self) -> String {
        self.0
    }
}

/// A family that grows.
#[derive(Debug)]
pub struct Family<'a> {
    text: &'a mut String,
    name: String,
}

impl Family<'_> {
    /// One sample.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) -> &mut Self {
        self.text.push_str(&self.name);
        for (at, (label, of)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{label}=\"{}\"", escaped(of));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
        self
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_help_type_and_samples() {
        let mut text = Exposition::default();
        text.single("distcc_up", Kind::Gauge, "Whether it runs.", 1.0);
        text.family("distcc_jobs_total", Kind::Counter, "Jobs.")
            .sample(&[("why", "a\"b\\c\n"), ("x", "y")], 2.5);
        let expected = "# HELP distcc_up Whether it runs.\n# TYPE distcc_up gauge\ndistcc_up 1\n\
                        # HELP distcc_jobs_total Jobs.\n# TYPE distcc_jobs_total counter\n\
                        distcc_jobs_total{why=\"a\\\"b\\\\c\\n\",x=\"y\"} 2.5\n";
        assert_eq!(text.finish(), expected);
    }
}
