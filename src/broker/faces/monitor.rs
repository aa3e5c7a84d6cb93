//! `distcc --monitor [DELAY]`, also called `distccmon-text`: what runs, a line for each job, in
//! the form of stock's monitor.

use std::fmt::Write;
use std::time::Duration;

use crate::broker::status::{JobReport, Report};

/// The longest delay that makes sense, in seconds.
const DELAY_MAX_S: f64 = 86_400.0;

/// How long to wait between pictures; `None` for one picture.
///
/// # Errors
///
/// Returns what is wrong with the words.
pub fn read(words: &[String]) -> Result<Option<Duration>, String> {
    let word = match words {
        [] => return Ok(None),
        [word] => word,
        [_, more, ..] => return Err(format!("what does {more} mean?")),
    };
    let seconds: f64 = word.parse().map_err(|_| format!("{word} is not a number of seconds"))?;
    match (0.0..=DELAY_MAX_S).contains(&seconds) {
        true => Ok((seconds > 0.0).then(|| Duration::from_secs_f64(seconds))),
        false => Err(format!("{word} is not a number of seconds up to {DELAY_MAX_S}")),
    }
}

/// All jobs, and the empty line behind them.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    for job in &report.jobs {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line(job));
    }
    text.push('\n');
    text
}

fn line(job: &JobReport) -> String {
    let file = job.source.rsplit('/').next().unwrap_or_default();
    let host = job.host_name();
    let phase = job.shown_phase().name();
    format!("{:6}  {phase:<10.10}  {file:<30.30} {host:>24.24}[{}]", job.pid, job.slot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_stocks() {
        let job = JobReport {
            pid: 77,
            source: "src/a_source.c".to_owned(),
            host: "build7:4000".to_owned(),
            phase: "remote".to_owned(),
            slot: 3,
            ..JobReport::default()
        };
        let report = Report { jobs: vec![job], ..Report::default() };
        let expected = "    77  Compile     a_source.c                                       build7[3]\n\n";
        assert_eq!(render(&report), expected);
    }

    #[test]
    fn the_delay_is_a_number_of_seconds() {
        let check = |words: &[&str]| read(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        assert_eq!(check(&[]), Ok(None));
        assert_eq!(check(&["0"]), Ok(None));
        assert_eq!(check(&["0.5"]), Ok(Some(Duration::from_millis(500))));
        for words in [&["x"][..], &["-1"], &["1", "2"], &["inf"], &["NaN"]] {
            assert!(check(words).is_err(), "{words:?}");
        }
    }
}
