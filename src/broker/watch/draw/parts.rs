//! The parts of the picture: hosts, jobs, reasons, what went wrong.

use ratatui::prelude::{Buffer, Line, Modifier, Rect, Style, Widget};

use super::{Page, Paint, lines};
use crate::broker::status::render::{about, age, clip, clip_left, round_trip, shown_state};
use crate::broker::status::{HostReport, JobReport, Report};
use crate::broker::watch::series::Row;

/// Columns of a host's name on 80; wider terminals show more of it.
const NAME: usize = 20;

/// Columns of the bar on 80.
const BAR: usize = 16;

/// Columns of a job's source on 80.
const SOURCE: usize = 35;

/// Columns that these are given.
const WIDTH: usize = 80;

impl Page<'_> {
    pub(super) fn hosts(
        &self,
        hosts: &[&HostReport],
        all: usize,
        chosen: Option<&HostReport>,
        area: Rect,
        buffer: &mut Buffer,
    ) {
        let Some((head, body)) = split(area) else { return };
        let wider = usize::from(area.width).saturating_sub(WIDTH);
        let (name, bar) = (NAME + wider / 2, BAR + wider - wider / 2);
        let heading = format!(
            " {:<name$} {:<11} {:<bar$} {:>8} {:>7} {:>5} {:>6}",
            clip(&of_all("HOST", hosts.len(), all), name),
            "STATE",
            clip(self.view.hosts.word(), bar),
            "SLOTS",
            "DONE",
            "SPEED",
            "RTT"
        );
        Line::styled(heading, self.look.of(Paint::Heading)).render(head, buffer);
        if hosts.is_empty() {
            let text =
                if all == 0 { " no volunteer has been asked yet" } else { " none has the filter's words" };
            Line::styled(text, self.look.of(Paint::Faint)).render(body, buffer);
            return;
        }
        let told = u16::from(chosen.is_some() && body.height > 1);
        let room = usize::from(body.height - told);
        let at = hosts.iter().position(|host| chosen.is_some_and(|chosen| std::ptr::eq(*host, chosen)));
        let first = first_shown(at, room, hosts.len());
        for (host, row) in hosts[first..].iter().take(room).zip(body.rows()) {
            self.host(host, name, bar).render(row, buffer);
            if chosen.is_some_and(|chosen| std::ptr::eq(*host, chosen)) {
                buffer.set_style(row, Style::default().add_modifier(Modifier::REVERSED));
            }
        }
        if let Some(host) = chosen.filter(|_| told == 1) {
            let row = Rect { y: body.bottom() - 1, height: 1, ..body };
            let why = if host.why.is_empty() { String::new() } else { format!("; {}", host.why) };
            let text = clip(&format!(" {}: {}{why}", host.host, about(host)), usize::from(area.width));
            Line::styled(text, self.look.of(Paint::Faint)).render(row, buffer);
        }
    }

    fn host(&self, host: &HostReport, name: usize, bar: usize) -> Line<'static> {
        let (look, state) = (self.look, shown_state(host));
        let paint = match state {
            "up" => Paint::Good,
            "backed-off" | "down" | "distrusted" => Paint::Bad,
            _ => Paint::Waiting,
        };
        let mut spans = vec![
            look.span(Paint::Plain, format!(" {:<name$} ", clip(&host.host, name))),
            look.span(paint, format!("{:<11} ", clip(state, 11))),
        ];
        if host.state == "up" {
            let (used, free) = slots(host, bar);
            spans.push(look.span(paint, "█".repeat(used)));
            spans.push(look.span(Paint::Faint, "░".repeat(free)));
            spans.push(look.span(Paint::Plain, " ".repeat(bar - used - free)));
            let rtt = host.round_trip_us.map_or_else(|| "-".to_owned(), round_trip);
            let slots = format!("{}/{}", host.slots_used, host.slots);
            let figures = format!(" {slots:>8} {:>7} {:>5.2} {rtt:>6}", host.done, host.speed);
            spans.push(look.span(Paint::Plain, figures));
        } else {
            let wait = match host.back_off_ms {
                0 => String::new(),
                wait => format!("for {}: ", age(wait)),
            };
            spans.push(look.span(Paint::Faint, clip(&format!("{wait}{}", host.why), bar + 31)));
        }
        Line::from(spans)
    }

    pub(super) fn jobs(&self, jobs: &[&JobReport], all: usize, area: Rect, buffer: &mut Buffer) {
        let Some((head, body)) = split(area) else { return };
        let source = SOURCE + usize::from(area.width).saturating_sub(WIDTH);
        let heading = format!(
            " {:<source$} {:<13} {:<20} {:>7}",
            clip(&format!("{}, {}", of_all("JOBS", jobs.len(), all), self.view.jobs.word()), source),
            "PHASE",
            "HOST",
            "AGE"
        );
        Line::styled(heading, self.look.of(Paint::Heading)).render(head, buffer);
        if jobs.is_empty() {
            let text = if all == 0 { " no jobs" } else { " none has the filter's words" };
            Line::styled(text, self.look.of(Paint::Faint)).render(body, buffer);
        }
        for (job, row) in jobs.iter().zip(body.rows()) {
            let paint = if job.host.is_empty() { Paint::Waiting } else { Paint::Good };
            let spans = vec![
                self.look.span(Paint::Plain, format!(" {:<source$} ", clip_left(&job.source, source))),
                self.look.span(paint, format!("{:<13} ", clip(&job.phase, 13))),
                self.look.span(Paint::Plain, format!("{:<20} {:>7}", clip(&job.host, 20), age(job.age_ms))),
            ];
            Line::from(spans).render(row, buffer);
        }
    }

    pub(super) fn reasons(&self, reasons: &[(&String, &u64)], area: Rect, buffer: &mut Buffer) {
        let Some((head, body)) = split(area) else { return };
        let heading = " WHY JOBS RAN HERE, SO OFTEN, AND LATELY";
        Line::styled(heading, self.look.of(Paint::Heading)).render(head, buffer);
        let empty = Row::new();
        for ((reason, count), row) in reasons.iter().zip(body.rows()) {
            let text = format!(" {:<30} {count:>9} ", clip(reason, 30));
            let taken = lines(text.chars().count()).min(row.width);
            Line::from(self.look.span(Paint::Plain, text)).render(row, buffer);
            let graph = Rect { x: row.x + taken, width: row.width - taken, ..row };
            let lately = self.seen.series.reasons.get(*reason).unwrap_or(&empty);
            self.graph(lately, Paint::Waiting, graph, buffer);
        }
    }

    pub(super) fn troubles(&self, report: &Report, area: Rect, buffer: &mut Buffer) {
        let Some((head, body)) = split(area) else { return };
        Line::styled(" LAST ERRORS", self.look.of(Paint::Heading)).render(head, buffer);
        for (trouble, row) in report.troubles.iter().zip(body.rows()) {
            let ago = format!("{} ago", age(trouble.age_ms));
            let what = format!("{ago:>9}  {}: {}", trouble.host, trouble.what);
            Line::styled(clip(&what, usize::from(row.width)), self.look.of(Paint::Plain)).render(row, buffer);
        }
    }
}

/// An area's first line and the rest; nothing where there is no room for both.
fn split(area: Rect) -> Option<(Rect, Rect)> {
    let head = Rect { height: 1, ..area };
    let body = Rect { y: area.y + 1, height: area.height.checked_sub(1)?, ..area };
    (body.height > 0).then_some((head, body))
}

/// The first host that is shown, so that the one at `at` is.
fn first_shown(at: Option<usize>, room: usize, count: usize) -> usize {
    let lowest = count.saturating_sub(room);
    at.map_or(0, |at| at.saturating_sub(room.saturating_sub(1) / 2)).min(lowest)
}

/// `HOSTS`, `HOSTS 2 of 7`.
fn of_all(what: &str, shown: usize, all: usize) -> String {
    if shown == all { format!("{what} {all}") } else { format!("{what} {shown} of {all}") }
}

/// Of so many columns, those that stand for used slots and for free ones: one for each slot if they fit.
fn slots(host: &HostReport, columns: usize) -> (usize, usize) {
    let all = u64::from(host.slots.max(host.slots_used));
    let scale = |slots: u32| match all > columns as u64 {
        true => (u64::from(slots) * columns as u64).div_ceil(all.max(1)) as usize,
        false => slots as usize,
    };
    let used = scale(host.slots_used);
    (used, scale(host.slots).saturating_sub(used))
}
