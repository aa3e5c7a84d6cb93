//! What the user chose, and what each key does to that.
//!
//! Pure: a key and what is seen go in, what is to be done comes out.

use std::cmp::Reverse;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::broker::status::render::shown_state;
use crate::broker::status::{HostReport, JobReport, Report};
use crate::common::protocol::local::Control;

/// Letters of a filter.
const FILTER_MAX: usize = 60;

/// Hosts that a page up or down passes.
const PAGE: isize = 10;

/// In which order hosts are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostOrder {
    /// As the broker met them, which is as they are listed.
    #[default]
    Listed,
    /// By name.
    Name,
    /// What needs looking at first: down, backed off, held, then the others.
    State,
    /// Those with most jobs first.
    Jobs,
    /// Those that have done most first.
    Done,
    /// The fastest first.
    Speed,
}

impl HostOrder {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            HostOrder::Listed => "as listed",
            HostOrder::Name => "by name",
            HostOrder::State => "by state",
            HostOrder::Jobs => "by jobs",
            HostOrder::Done => "by jobs done",
            HostOrder::Speed => "by speed",
        }
    }

    fn next(self) -> Self {
        match self {
            HostOrder::Listed => HostOrder::Name,
            HostOrder::Name => HostOrder::State,
            HostOrder::State => HostOrder::Jobs,
            HostOrder::Jobs => HostOrder::Done,
            HostOrder::Done => HostOrder::Speed,
            HostOrder::Speed => HostOrder::Listed,
        }
    }
}

/// In which order jobs are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum JobOrder {
    /// The oldest first.
    #[default]
    Age,
    /// By host; those that wait come last.
    Host,
    /// By source.
    Source,
}

impl JobOrder {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            JobOrder::Age => "oldest first",
            JobOrder::Host => "by host",
            JobOrder::Source => "by source",
        }
    }

    fn next(self) -> Self {
        match self {
            JobOrder::Age => JobOrder::Host,
            JobOrder::Host => JobOrder::Source,
            JobOrder::Source => JobOrder::Age,
        }
    }
}

/// What the user chose.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The order of hosts.
    pub hosts: HostOrder,
    /// The order of jobs.
    pub jobs: JobOrder,
    /// Whether both are the other way round.
    pub reversed: bool,
    /// What hosts or jobs must contain to be shown.
    pub filter: String,
    /// Whether the filter is being typed.
    pub typing: bool,
    /// Whether the picture stands still.
    pub frozen: bool,
    /// Whether the keys are explained.
    pub help: bool,
    /// The host that is chosen, by its name: it stays chosen when the order changes.
    pub chosen: Option<String>,
    /// What became of the last order.
    pub notice: String,
}

/// What a key asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Another picture of the same.
    Draw,
    /// An end.
    Quit,
    /// To be stopped, as ^Z does with a program.
    Suspend,
    /// The whole screen anew.
    Repaint,
    /// An order to the broker.
    Order(Control),
}

impl View {
    /// The hosts that are to be shown, in order.
    pub fn hosts<'a>(&self, report: &'a Report) -> Vec<&'a HostReport> {
        let needle = self.filter.to_lowercase();
        // A filter that says nothing of hosts is for jobs: then those hosts are shown that have one of them.
        let has_job =
            |host: &HostReport| report.jobs.iter().any(|job| job.host == host.host && job_has(job, &needle));
        let shown = |host: &&HostReport| host_has(host, &needle) || has_job(host);
        let mut hosts: Vec<&HostReport> = report.hosts.iter().filter(shown).collect();
        match self.hosts {
            HostOrder::Listed => {}
            HostOrder::Name => hosts.sort_by(|a, b| a.host.cmp(&b.host)),
            HostOrder::State => hosts.sort_by_key(|host| state_rank(host)),
            HostOrder::Jobs => hosts.sort_by_key(|host| Reverse(host.slots_used)),
            HostOrder::Done => hosts.sort_by_key(|host| Reverse(host.done)),
            HostOrder::Speed => hosts.sort_by(|a, b| b.speed.total_cmp(&a.speed)),
        }
        if self.reversed {
            hosts.reverse();
        }
        hosts
    }

    /// The jobs that are to be shown, in order.
    pub fn jobs<'a>(&self, report: &'a Report) -> Vec<&'a JobReport> {
        let needle = self.filter.to_lowercase();
        let mut jobs: Vec<&JobReport> = report.jobs.iter().filter(|job| job_has(job, &needle)).collect();
        match self.jobs {
            JobOrder::Age => jobs.sort_by_key(|job| Reverse(job.age_ms)),
            JobOrder::Host => {
                jobs.sort_by_key(|job| (job.host.is_empty(), &job.host));
            }
            JobOrder::Source => jobs.sort_by(|a, b| a.source.cmp(&b.source)),
        }
        if self.reversed {
            jobs.reverse();
        }
        jobs
    }

    /// What a key does.
    pub fn key(&mut self, key: KeyEvent, report: Option<&Report>) -> Wish {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if control => return Wish::Quit,
            KeyCode::Char('z') if control => return Wish::Suspend,
            KeyCode::Char('l') if control => return Wish::Repaint,
            _ if control => return Wish::Draw,
            code if self.typing => self.type_filter(code),
            code if self.help && code != KeyCode::Char('q') => self.help = false,
            code => return self.command(code, report),
        }
        Wish::Draw
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.typing = false,
            KeyCode::Esc => (self.typing, self.filter) = (false, String::new()),
            KeyCode::Backspace if self.filter.is_empty() => self.typing = false,
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(letter) if self.filter.chars().count() < FILTER_MAX => self.filter.push(letter),
            _ => {}
        }
    }

    fn command(&mut self, code: KeyCode, report: Option<&Report>) -> Wish {
        self.notice.clear();
        match code {
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.help = true,
            KeyCode::Char('p' | ' ') => self.frozen = !self.frozen,
            KeyCode::Char('s') => self.hosts = self.hosts.next(),
            KeyCode::Char('o') => self.jobs = self.jobs.next(),
            KeyCode::Char('r') => self.reversed = !self.reversed,
            KeyCode::Char('/') => self.typing = true,
            KeyCode::Esc => (self.filter, self.chosen) = (String::new(), None),
            KeyCode::Up | KeyCode::Char('k') => self.choose(-1, report),
            KeyCode::Down | KeyCode::Char('j') => self.choose(1, report),
            KeyCode::PageUp => self.choose(-PAGE, report),
            KeyCode::PageDown => self.choose(PAGE, report),
            KeyCode::Home | KeyCode::Char('g') => self.choose(isize::MIN, report),
            KeyCode::End | KeyCode::Char('G') => self.choose(isize::MAX, report),
            KeyCode::Char('d') => return self.hold("drained", false, report),
            KeyCode::Char('x') => return self.hold("excluded", true, report),
            _ => {}
        }
        Wish::Draw
    }

    /// Chooses the host that is so many below the one that was chosen.
    fn choose(&mut self, step: isize, report: Option<&Report>) {
        let hosts = report.map(|report| self.hosts(report)).unwrap_or_default();
        let at = hosts.iter().position(|host| Some(&host.host) == self.chosen.as_ref());
        let last = hosts.len().saturating_sub(1);
        let to = match at {
            Some(at) => at.saturating_add_signed(step).min(last),
            None if step == isize::MAX => last,
            None => 0,
        };
        self.chosen = hosts.get(to).map(|host| host.host.clone());
    }

    /// Holds the host that is chosen, or lets it go if it is held so already.
    fn hold(&mut self, how: &str, at_once: bool, report: Option<&Report>) -> Wish {
        let hosts = report.map(|report| self.hosts(report)).unwrap_or_default();
        let chosen = match (&self.chosen, &hosts[..]) {
            (Some(name), hosts) => hosts.iter().find(|host| host.host == *name).copied(),
            (None, [only]) => Some(*only),
            (None, _) => None,
        };
        let Some(host) = chosen else {
            "choose a host first, with the arrow keys".clone_into(&mut self.notice);
            return Wish::Draw;
        };
        self.chosen = Some(host.host.clone());
        let held = host.hold != how;
        Wish::Order(Control::Hold { host: host.host.clone(), held, at_once: held && at_once })
    }
}

fn host_has(host: &HostReport, needle: &str) -> bool {
    needle.is_empty() || has(&host.host, needle) || has(shown_state(host), needle)
}

fn job_has(job: &JobReport, needle: &str) -> bool {
    needle.is_empty() || has(&job.source, needle) || has(&job.host, needle) || has(&job.phase, needle)
}

fn has(text: &str, needle: &str) -> bool {
    text.to_lowercase().contains(needle)
}

fn state_rank(host: &HostReport) -> u8 {
    match shown_state(host) {
        "down" => 0,
        "backed-off" => 1,
        "distrusted" => 2,
        "excluded" => 3,
        "drained" | "paused" => 4,
        "connecting" | "untried" => 5,
        _ => 6,
    }
}
