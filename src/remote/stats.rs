//! Figures about the daemon, and the page that shows them.
//!
//! The names are those of the page of distccd 3.4, which monitoring scripts read.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::common::action::Ended;

/// Over these spans compiles are counted.
const SPANS: [Duration; 3] = [Duration::from_secs(60), Duration::from_secs(300), Duration::from_secs(900)];

/// Ends of compiles that are remembered for the spans.
const REMEMBERED_MAX: usize = 100_000;

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The compiler succeeded.
    Ok,
    /// The compiler failed.
    Error,
    /// It ran too long.
    Timeout,
    /// The client went away.
    Disconnected,
    /// The request made no sense.
    BadRequest,
    /// Anything else.
    Other,
}

/// In the words of distccd's log.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Ok => "COMPILE_OK",
            Outcome::Error => "COMPILE_ERROR",
            Outcome::Timeout => "COMPILE_TIMEOUT",
            Outcome::Disconnected => "CLI_DISCONN",
            Outcome::BadRequest => "REJ_BAD_REQ",
            Outcome::Other => "OTHER",
        })
    }
}

/// How a compiler ended, in the words of distccd's log.
pub fn status(ended: Ended) -> String {
    let (code, signal) = match ended {
        Ended::Exited(code) => (code, 0),
        Ended::Killed(signal) => (0, signal),
    };
    format!("exit:{code} sig:{signal} core:0 ret:{}", i32::from(!ended.is_success()))
}

/// How many jobs ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// The compiler succeeded.
    pub ok: u64,
    /// The compiler failed.
    pub error: u64,
    /// It ran too long.
    pub timeout: u64,
    /// The client went away, or did not want it any more.
    pub disconnected: u64,
    /// The request made no sense.
    pub bad_request: u64,
    /// Anything else.
    pub other: u64,
}

/// The figures.
#[derive(Debug, Default)]
pub struct Stats(Mutex<Figures>);

#[derive(Debug, Default)]
struct Figures {
    accepted: u64,
    /// By [`Outcome`], in its order.
    outcomes: [u64; 6],
    longest: Duration,
    longest_compiler: String,
    ends: VecDeque<Instant>,
}

/// What of the machine is on the page.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Compilers at once, at most.
    pub slots: u32,
    /// Compilers that run.
    pub running: u32,
    /// Jobs that wait for a slot.
    pub waiting: u32,
    /// Whether its owner has paused the volunteer.
    pub paused: bool,
    /// What the store holds, in bytes.
    pub store: u64,
    /// The load averages of 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Space for temporary files, in bytes.
    pub disk: u64,
    /// Memory that can be had, in bytes.
    pub memory: u64,
}

impl Stats {
    /// A connection was let in.
    pub fn accepted(&self) {
        self.figures().accepted += 1;
    }

    /// A job is over. `time` is how long the compiler ran, where it did.
    pub fn ended(&self, outcome: Outcome, compiler: &str, time: Duration) {
        let mut figures = self.figures();
        figures.outcomes[outcome as usize] += 1;
        if matches!(outcome, Outcome::Ok | Outcome::Error | Outcome::Timeout) {
            if figures.ends.len() >= REMEMBERED_MAX {
                figures.ends.pop_front();
            }
            figures.ends.push_back(Instant::now());
            if time > figures.longest {
                figures.longest = time;
                compiler.clone_into(&mut figures.longest_compiler);
            }
        }
    }

    /// How many jobs ended how.
    pub fn counts(&self) -> Counts {
        let [ok, error, timeout, disconnected, bad_request, other] = self.figures().outcomes;
        Counts { ok, error, timeout, disconnected, bad_request, other }
    }

    fn figures(&self) -> std::sync::MutexGuard<'_, Figures> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same figures as Prometheus reads them.
    pub fn metrics(&self, around: &Surroundings) -> String {
        use crate::common::exposition::Kind::{Counter, Gauge};
        let figures = self.figures();
        let mut text = crate::common::exposition::Exposition::default();
        text.family("distccd_build_info", Gauge, "Version of the daemon; always 1.")
            .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        text.single(
            "distccd_connections_accepted_total",
            Counter,
            "Connections let in.",
            figures.accepted as f64,
        );
        let mut jobs = text.family("distccd_jobs_total", Counter, "Jobs that are over, by how they ended.");
        let names = ["ok", "error", "timeout", "disconnected", "bad_request", "other"];
        for (name, count) in names.into_iter().zip(figures.outcomes) {
            jobs.sample(&[("outcome", name)], count as f64);
        }
        text.single(
            "distccd_longest_job_seconds",
            Gauge,
            "The longest compile so far.",
            figures.longest.as_secs_f64(),
        );
        text.single("distccd_slots", Gauge, "Compilers at once, at most.", f64::from(around.slots));
        text.single("distccd_jobs_running", Gauge, "Compilers that run.", f64::from(around.running));
        text.single("distccd_jobs_waiting", Gauge, "Jobs that wait for a slot.", f64::from(around.waiting));
        let paused = f64::from(u8::from(around.paused));
        text.single("distccd_paused", Gauge, "1 while its owner wants no new jobs.", paused);
        text.single(
            "distccd_store_bytes",
            Gauge,
            "What is kept of inputs and compilers.",
            around.store as f64,
        );
        text.single("distccd_disk_free_bytes", Gauge, "Space for temporary files.", around.disk as f64);
        text.single("distccd_memory_available_bytes", Gauge, "Memory that can be had.", around.memory as f64);
        let mut load = text.family("distccd_load_average", Gauge, "Load average of the machine, by minutes.");
        for (minutes, value) in ["1", "5", "15"].into_iter().zip(around.load) {
            load.sample(&[("minutes", minutes)], value);
        }
        text.finish()
    }

    /// The page.
    pub fn page(&self, around: &Surroundings) -> String {
        let figures = self.figures();
        let now = Instant::now();
        let within = |span: Duration| {
            figures.ends.iter().rev().take_while(|end| now.saturating_duration_since(**end) <= span).count()
        };
        let outcome = |outcome: Outcome| figures.outcomes[outcome as usize].to_string();
        let mut page = String::from("argv /distccd\n<distccstats>\n");
        let lines: [(&str, String); 24] = [
            ("dcc_tcp_accept", figures.accepted.to_string()),
            ("dcc_rej_bad_req", outcome(Outcome::BadRequest)),
            // Nobody is turned away for want of slots: jobs wait.
            ("dcc_rej_overload", "0".to_owned()),
            ("dcc_compile_ok", outcome(Outcome::Ok)),
            ("dcc_compile_error", outcome(Outcome::Error)),
            ("dcc_compile_timeout", outcome(Outcome::Timeout)),
            ("dcc_cli_disconnect", outcome(Outcome::Disconnected)),
            ("dcc_other", outcome(Outcome::Other)),
            ("dcc_longest_job", "none".to_owned()),
            (
                "dcc_longest_job_compiler",
                if figures.longest_compiler.is_empty() {
                    "none".to_owned()
                } else {
                    figures.longest_compiler.clone()
                },
            ),
            ("dcc_longest_job_time_msecs", figures.longest.as_millis().to_string()),
            ("dcc_max_kids", around.slots.to_string()),
            ("dcc_avg_kids1", around.running.to_string()),
            ("dcc_avg_kids2", around.running.to_string()),
            ("dcc_avg_kids3", around.running.to_string()),
            ("dcc_current_load", around.running.to_string()),
            ("dcc_load1", format!("{:.2}", around.load[0])),
            ("dcc_load2", format!("{:.2}", around.load[1])),
            ("dcc_load3", format!("{:.2}", around.load[2])),
            ("dcc_num_compiles1", within(SPANS[0]).to_string()),
            ("dcc_num_compiles2", within(SPANS[1]).to_string()),
            ("dcc_num_compiles3", within(SPANS[2]).to_string()),
            ("dcc_free_space", format!("{} MB", around.disk >> 20)),
            ("dcc_free_mem", format!("{} MB", around.memory >> 20)),
        ];
        for (name, value) in lines {
            // Writing to a string cannot fail.
            let _ = writeln!(page, "{name} {value}");
        }
        page.push_str("</distccstats>\n");
        page
    }
}

/// The answer with the classic page, as distccd 3.4 gives it.
pub fn classic_answer(page: &str) -> Vec<u8> {
    ["HTTP/1.0 200 OK\nContent-Type: text/plain\nConnection: close\n\n", page].concat().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_stocks_names_and_counts() {
        let stats = Stats::default();
        stats.accepted();
        stats.ended(Outcome::Ok, "gcc", Duration::from_millis(20));
        stats.ended(Outcome::Error, "g++", Duration::from_millis(70));
        stats.ended(Outcome::Disconnected, "-", Duration::ZERO);
        let page = stats.page(&Surroundings { slots: 4, disk: 5 << 20, ..Surroundings::default() });
        for line in [
            "argv /distccd",
            "<distccstats>",
            "dcc_tcp_accept 1",
            "dcc_compile_ok 1",
            "dcc_compile_error 1",
            "dcc_cli_disconnect 1",
            "dcc_longest_job_compiler g++",
            "dcc_longest_job_time_msecs 70",
            "dcc_max_kids 4",
            "dcc_num_compiles1 2",
            "dcc_free_space 5 MB",
            "</distccstats>",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in {page}");
        }
    }
}
