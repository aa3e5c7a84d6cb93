//! The report as a table of at most 80 columns: a pure function.

use std::fmt::Write;

use super::{HostReport, Report};

/// How the table looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// With colours, for a terminal.
    pub colours: bool,
}

/// What a word is painted like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paint {
    Heading,
    Good,
    Waiting,
    Bad,
    Faint,
}

impl Style {
    /// Text in a colour. Widths are counted before, since colours have none.
    fn paint(self, paint: Paint, text: &str) -> String {
        let code = match paint {
            Paint::Heading => "1",
            Paint::Good => "32",
            Paint::Waiting => "33",
            Paint::Bad => "31",
            Paint::Faint => "2",
        };
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Jobs that are shown; the rest is counted.
const JOBS_SHOWN: usize = 40;

/// Lines of a reason: what is wrong with a key, and what mends it, takes some.
const WHY_LINES_MAX: usize = 8;

/// A compiler that would arrive as late as that hardly moves: six hours.
const HARDLY_MS: u64 = 6 * 3600 * 1000;

/// Troubles that are shown.
const TROUBLES_SHOWN: usize = 4;

impl Report {
    /// The document as a table of at most 80 columns.
    pub fn render(&self, style: Style) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "broker {} (pid {}), up {}", self.version, self.pid, age(self.uptime_s * 1000));
        self.render_hosts(&mut text, style);
        self.render_jobs(&mut text, style);
        self.render_totals(&mut text, style);
        self.render_troubles(&mut text, style);
        text
    }

    fn render_hosts(&self, text: &mut String, style: Style) {
        if self.hosts.is_empty() {
            text.push_str("\nno volunteer has been asked yet\n");
            return;
        }
        let heading = format!(
            "{:<30} {:<11} {:>8} {:>8} {:>6} {:>7}",
            "HOST", "STATE", "SLOTS", "DONE", "SPEED", "RTT"
        );
        let _ = writeln!(text, "\n{}", style.paint(Paint::Heading, &heading));
        for host in &self.hosts {
            render_host(host, text, style);
        }
    }

    fn render_jobs(&self, text: &mut String, style: Style) {
        if self.jobs.is_empty() {
            text.push_str("\nno jobs\n");
            return;
        }
        let waiting = self.jobs.iter().filter(|job| job.host.is_empty()).count();
        let _ = writeln!(text, "\n{}, {waiting} of them waiting", count(self.jobs.len() as u64, "job"));
        let heading = format!("{:<34} {:<13} {:<20} {:>7}", "SOURCE", "PHASE", "HOST", "AGE");
        let _ = writeln!(text, "{}", style.paint(Paint::Heading, &heading));
        for job in self.jobs.iter().take(JOBS_SHOWN) {
            let phase = format!("{:<13}", job.phase);
            let paint = if job.host.is_empty() { Paint::Waiting } else { Paint::Good };
            let _ = writeln!(
                text,
                "{:<34} {} {:<20} {:>7}",
                clip_left(&job.source, 34),
                style.paint(paint, &phase),
                clip(&job.host, 20),
                age(job.age_ms)
            );
        }
        if self.jobs.len() > JOBS_SHOWN {
            let _ = writeln!(text, "… and {} more", self.jobs.len() - JOBS_SHOWN);
        }
    }

    fn render_totals(&self, text: &mut String, style: Style) {
        let totals = &self.totals;
        let _ = writeln!(
            text,
            "\n{} jobs remote, {} cached, {} here; {} retried, {} hedged, {} abandoned",
            totals.remote, totals.cached, totals.local, totals.retried, totals.hedged, totals.abandoned
        );
        for (reason, count) in &totals.local_reasons {
            let _ = writeln!(text, "    {count:>7} here: {reason}");
        }
        if totals.forbidden > 0 {
            let line = format!("    {:>7} failed: no volunteer, and DISTCC_FALLBACK=0", totals.forbidden);
            let _ = writeln!(text, "{}", style.paint(Paint::Bad, &line));
        }
        if totals.sent_files > 0 {
            let _ = writeln!(text, "    {:>7} sent as files", totals.sent_files);
            if totals.listed > 0 {
                let _ = writeln!(
                    text,
                    "    {:>7} of them listed by the compiler: the scanner declined",
                    totals.listed
                );
            }
        }
        for (reason, count) in &totals.sent_texts {
            let _ = writeln!(text, "    {count:>7} sent as text: {}", clip(reason, 50));
        }
        let (sent, received) = (totals.bytes_sent, totals.bytes_received);
        if sent + received > 0 {
            let _ = writeln!(
                text,
                "{} out ({} before compression), {} back ({})",
                bytes(sent),
                bytes(totals.bytes_sent_plain),
                bytes(received),
                bytes(totals.bytes_received_plain)
            );
        }
        if totals.remote_cpu_ms > 0 {
            let _ = writeln!(
                text,
                "CPU: {} on volunteers, {} here for all of it: {} saved",
                age(totals.remote_cpu_ms),
                age(totals.client_cpu_ms),
                saved(totals.cpu_saved_ms)
            );
        }
    }

    fn render_troubles(&self, text: &mut String, style: Style) {
        if self.troubles.is_empty() {
            return;
        }
        let _ = writeln!(text, "\n{}", style.paint(Paint::Heading, "LAST TROUBLES"));
        for trouble in self.troubles.iter().take(TROUBLES_SHOWN) {
            let ago = format!("{} ago", age(trouble.age_ms));
            let _ = writeln!(text, "{ago:>10}  {}", clip(&format!("{}: {}", trouble.host, trouble.what), 67));
        }
    }
}

fn render_host(host: &HostReport, text: &mut String, style: Style) {
    let paint = match shown_state(host) {
        "up" => Paint::Good,
        "backed-off" | "down" => Paint::Bad,
        _ => Paint::Waiting,
    };
    let slots = format!("{}/{}", host.slots_used, host.slots);
    let rtt = host.round_trip_us.map_or_else(|| "-".to_owned(), round_trip);
    let _ = writeln!(
        text,
        "{:<30} {} {slots:>8} {:>8} {:>6.2} {rtt:>7}",
        clip(&host.host, 30),
        style.paint(paint, &format!("{:<11}", shown_state(host))),
        host.done,
        host.speed,
    );
    if host.held {
        let _ = writeln!(
            text,
            "    {}",
            style.paint(
                Paint::Waiting,
                "gave another object than this machine makes (DISTCC_VERIFY): gets no jobs"
            )
        );
    }
    if matches!(host.hold.as_str(), "drained" | "excluded") {
        let line = format!("{}: gets no jobs until distcc --use {}", host.hold, host.host);
        let _ = writeln!(text, "    {}", style.paint(Paint::Waiting, &clip(&line, 76)));
    }
    if !host.why.is_empty() {
        let wait = match host.back_off_ms {
            0 => String::new(),
            wait => format!(" (for {})", age(wait)),
        };
        for line in wrapped(&format!("{}{wait}", host.why), 76, WHY_LINES_MAX) {
            let _ = writeln!(text, "    {}", style.paint(paint, &line));
        }
    }
    if let Some(arriving) = arriving(host) {
        let _ = writeln!(text, "    {}", style.paint(Paint::Waiting, &arriving));
    }
    if host.state == "up" {
        let _ = writeln!(text, "    {}", style.paint(Paint::Faint, &about(host)));
    }
}

/// A host's state, or that it is held, which says more of one that is up.
pub fn shown_state(host: &HostReport) -> &str {
    let is_held = !matches!(host.hold.as_str(), "" | "free");
    if host.state == "up" && is_held { &host.hold } else { &host.state }
}

/// What jobs on a host may wait for: the compiler that is on its way there.
pub fn arriving(host: &HostReport) -> Option<String> {
    let megabytes = host.arriving_bytes?.div_ceil(1_000_000);
    let rest = match host.arriving_ms {
        Some(HARDLY_MS..) => ", which hardly moves".to_owned(),
        Some(rest) => format!(", for about {}", age(rest)),
        None => String::new(),
    };
    Some(format!("a compiler is on its way there: {megabytes} MB are left{rest}; its jobs wait for it"))
}

/// The kind of link, its security, its sandbox, the toolchains: what changes seldom.
pub fn about(host: &HostReport) -> String {
    let takes = match host.hermetic {
        Some(false) => ", takes texts only",
        _ => "",
    };
    let sandbox = match host.sandbox.as_str() {
        "" => String::new(),
        sandbox => format!("; sandbox {sandbox}"),
    };
    let refused = match host.refused_toolchains {
        0 => String::new(),
        refused => format!(" (lacks {refused})"),
    };
    let toolchains = count(host.toolchains.len() as u64, "toolchain");
    clip(&format!("{}, security {}, {toolchains}{refused}{takes}{sandbox}", host.link, host.security), 76)
}

/// `1 job`, `2 jobs`.
fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// At most `width` letters of a text. Names of files and words of peers may hold anything: what
/// would command a terminal is shown as `?`.
pub fn clip(text: &str, width: usize) -> String {
    match text.chars().count() > width {
        true => text.chars().take(width - 1).chain(['…']).map(harmless).collect(),
        false => text.chars().map(harmless).collect(),
    }
}

/// A text as at most so many lines of at most `width` letters, broken between words where there are any.
fn wrapped(text: &str, width: usize, lines_max: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let word = clip(word, width);
        let fits =
            |line: &String| line.is_empty() || line.chars().count() + 1 + word.chars().count() <= width;
        let line = lines.last_mut().filter(|line| fits(line));
        match line {
            Some(line) if line.is_empty() => line.push_str(&word),
            Some(line) => line.extend([" ", &word]),
            None => lines.push(word),
        }
    }
    if lines.len() > lines_max {
        lines.truncate(lines_max);
        let last = lines.pop().unwrap_or_default();
        lines.push(format!("{}…", clip(&last, width - 1)));
    }
    lines.retain(|line| !line.is_empty());
    lines
}

/// Also what turns the order of letters round, and what is not seen: they would make a name look like another.
fn harmless(letter: char) -> char {
    let is_hidden = matches!(
        letter,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    if letter.is_control() || is_hidden { '?' } else { letter }
}

/// The same from the end: of a path the end matters.
pub fn clip_left(text: &str, width: usize) -> String {
    let length = text.chars().count();
    match length > width {
        true => ['…'].into_iter().chain(text.chars().skip(length - width + 1)).map(harmless).collect(),
        false => text.chars().map(harmless).collect(),
    }
}

/// A time for people, of at most five letters until it is years.
pub fn age(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        10_000..600_000 => format!("{}s", ms / 1000),
        600_000..36_000_000 => format!("{}m", ms / 60_000),
        _ => format!("{}h", ms / 3_600_000),
    }
}

/// A difference of times, which may be a loss.
pub fn saved(ms: i64) -> String {
    let sign = if ms < 0 { "-" } else { "" };
    format!("{sign}{}", age(ms.unsigned_abs()))
}

/// A round trip for people.
pub fn round_trip(us: u64) -> String {
    match us {
        0..100_000 => format!("{:.1}ms", us as f64 / 1000.0),
        _ => format!("{}ms", us / 1000),
    }
}

/// A size for people.
pub fn bytes(count: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let step = (0..units.len() - 1).find(|step| count >> (10 * step) < 1024).unwrap_or(units.len() - 1);
    match step {
        0 => format!("{count} B"),
        _ => format!("{:.1} {}", count as f64 / (1_u64 << (10 * step)) as f64, units[step]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short_and_right() {
        let sizes = [0, 1023, 1024, 1536, 5 << 20, u64::MAX].map(bytes);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 MiB", "16.0 EiB"]);
        assert_eq!([0, 9999, 10_000, 600_000, 36_000_000].map(age), ["0.0s", "9.9s", "10s", "10m", "10h"]);
        assert_eq!([450, 100_000, 2_000_000].map(round_trip), ["0.5ms", "100ms", "2000ms"]);
        assert_eq!([1500, -20_000].map(saved), ["1.5s", "-20s"]);
    }

    #[test]
    fn a_long_reason_is_broken_between_words() {
        assert_eq!(wrapped("one two three", 8, 9), ["one two", "three"]);
        assert_eq!(wrapped("one two three", 8, 1), ["one two…"]);
        assert_eq!(wrapped("seventeen", 4, 1), ["sev…"]);
    }
}
