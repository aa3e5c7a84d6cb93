//! Whether a job could go to a host.

use crate::broker::link::transport::Address;
use crate::broker::status::HostReport;
use crate::common::hosts::Host;

/// Whether a job could go to a host, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prospect {
    /// It could.
    Could(String),
    /// It could not.
    CouldNot(String),
    /// No broker has met it yet.
    Unknown(String),
}

/// What a host of the list would do with a job that travels as files, or else as a text. `known` is
/// what a running broker says.
pub fn prospect(host: &Host, files: bool, known: &[HostReport]) -> Prospect {
    if host.down {
        return Prospect::CouldNot("listed as down".to_owned());
    }
    if !host.is_usable() {
        return Prospect::CouldNot("GSSAPI is not spoken here".to_owned());
    }
    let Some(report) = known.iter().find(|report| is_it(host, &report.host)) else {
        return Prospect::Unknown("not met yet; distcc --doctor tries it".to_owned());
    };
    match report.state.as_str() {
        "up" if report.held => Prospect::CouldNot("it gave another object than this machine makes, so it gets no jobs while this broker runs (DISTCC_VERIFY)".to_owned()),
        "up" if ["drained", "excluded"].contains(&report.hold.as_str()) => {
            Prospect::CouldNot(format!("{}; distcc --use {} undoes it", report.hold, report.host))
        }
        "up" if report.slots == 0 => {
            Prospect::CouldNot(format!("grants no slots: {}", or(&report.why, "it does not say why")))
        }
        "up" => Prospect::Could(match (files, report.hermetic) {
            (true, Some(false)) => {
                format!(
                    "as text: it takes no files: {}",
                    or(&report.sandbox, "it is of the classic protocol")
                )
            }
            _ => format!("{} of {} slots used", report.slots_used, report.slots),
        }),
        "paused" => Prospect::CouldNot(report.why.clone()),
        "backed-off" => {
            let seconds = report.back_off_ms.div_ceil(1000);
            Prospect::CouldNot(format!("left alone for {seconds} s: {}", report.why))
        }
        "down" => Prospect::CouldNot(report.why.clone()),
        state => Prospect::Unknown(format!("{state}; distcc --doctor tries it")),
    }
}

fn or<'a>(text: &'a str, other: &'a str) -> &'a str {
    if text.is_empty() { other } else { text }
}

/// Whether a host of the list has this name in a report.
fn is_it(host: &Host, name: &str) -> bool {
    Address::of(host, &[]).to_string() == name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::hosts::parse;

    fn check(list: &str, files: bool, report: &HostReport, expected: &str) {
        let list = parse(list.as_bytes()).expect("a list");
        let shown = match prospect(&list.hosts[0], files, std::slice::from_ref(report)) {
            Prospect::Could(text) => format!("yes: {text}"),
            Prospect::CouldNot(text) => format!("no: {text}"),
            Prospect::Unknown(text) => format!("?: {text}"),
        };
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_host_is_said_to_take_the_job_or_why_not() {
        let up = HostReport {
            host: "build7".to_owned(),
            state: "up".to_owned(),
            slots: 4,
            slots_used: 1,
            hermetic: Some(true),
            ..HostReport::default()
        };
        check("build7", true, &up, "yes: 1 of 4 slots used");
        check("build7,down", true, &up, "no: listed as down");
        check("build7:4000", true, &up, "?: not met yet; distcc --doctor tries it");
        let texts = HostReport { hermetic: Some(false), sandbox: "off".to_owned(), ..up.clone() };
        check("build7", true, &texts, "yes: as text: it takes no files: off");
        check("build7", false, &texts, "yes: 1 of 4 slots used");
        let full = HostReport { slots: 0, why: "disk: 1 MiB free".to_owned(), ..up.clone() };
        check("build7", true, &full, "no: grants no slots: disk: 1 MiB free");
        check(
            "build7",
            true,
            &HostReport { held: true, ..up.clone() },
            "no: it gave another object than this machine makes, so it gets no jobs while this broker runs (DISTCC_VERIFY)",
        );
        check(
            "build7",
            true,
            &HostReport { hold: "drained".to_owned(), ..up.clone() },
            "no: drained; distcc --use build7 undoes it",
        );
        let lost = HostReport {
            state: "backed-off".to_owned(),
            back_off_ms: 1500,
            why: "cannot connect".to_owned(),
            ..up
        };
        check("build7", true, &lost, "no: left alone for 2 s: cannot connect");
    }
}
