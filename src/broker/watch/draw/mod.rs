//! The picture: a pure function of what is seen and of what the user chose.
//!
//! Made for 80 columns by 24 lines; what is smaller is cut off, what is larger shows more. Names and words
//! of peers may hold anything: what could command a terminal is shown as `?`.

mod parts;

use ratatui::prelude::{Buffer, Color, Frame, Line, Modifier, Rect, Span, Style, Widget};
use ratatui::widgets::{Clear, Sparkline};

use super::series::Row;
use super::view::View;
use super::{Broker, Seen};
use crate::broker::status::Report;
use crate::broker::status::render::{age, bytes, clip, saved};

/// What the terminal can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Colours, which its owner may not want.
    pub colours: bool,
    /// Letters beyond ASCII.
    pub unicode: bool,
}

/// What something is painted like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paint {
    Plain,
    Heading,
    Good,
    Waiting,
    Bad,
    Faint,
}

impl Look {
    fn of(self, paint: Paint) -> Style {
        let style = Style::default();
        let coloured = |colour| if self.colours { style.fg(colour) } else { style };
        match paint {
            Paint::Plain => style,
            Paint::Heading => style.add_modifier(Modifier::BOLD),
            Paint::Good => coloured(Color::Green),
            Paint::Waiting => coloured(Color::Yellow),
            Paint::Bad if self.colours => coloured(Color::Red),
            Paint::Bad => style.add_modifier(Modifier::BOLD),
            Paint::Faint => style.add_modifier(Modifier::DIM),
        }
    }

    fn span(self, paint: Paint, text: impl Into<String>) -> Span<'static> {
        Span::styled(text.into(), self.of(paint))
    }
}

/// Lines that the parts need, in the order of the screen: hosts, jobs, reasons, troubles.
type Lines = [u16; 4];

/// Lines that each part gets first, where there is room, its heading counted.
const LEAST: Lines = [6, 5, 4, 4];

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, seen: &Seen, view: &View, look: Look) {
    let area = frame.area();
    let buffer = frame.buffer_mut();
    let page = Page { seen, view, look };
    let [head, rest @ ..] = rows(area);
    page.header(head, buffer);
    match &seen.report {
        Some(report) => page.report(report, area, rest, buffer),
        None => page.nothing(area, buffer),
    }
    let foot = Rect { y: area.bottom().saturating_sub(1), height: area.height.min(1), ..area };
    page.footer(foot, buffer);
    if view.help {
        page.help(area, buffer);
    }
    if seen.broker != Broker::There && seen.report.is_some() {
        let below = Rect { y: area.y + area.height.min(1), height: area.height.saturating_sub(2), ..area };
        buffer.set_style(below, Style::default().add_modifier(Modifier::DIM));
    }
    if !look.unicode {
        as_ascii(buffer);
    }
}

/// The four lines at the top.
fn rows(area: Rect) -> [Rect; 4] {
    [0, 1, 2, 3].map(|down| Rect { y: area.y + down, height: 1, ..area }.intersection(area))
}

/// How many lines each part gets of so many: first the least, then what it needs, the first parts first.
fn allot(needs: Lines, mut left: u16) -> Lines {
    let mut given = [0; 4];
    for bounds in [LEAST, [u16::MAX; 4]] {
        for part in 0..needs.len() {
            let more = needs[part].min(bounds[part]).saturating_sub(given[part]).min(left);
            given[part] += more;
            left -= more;
        }
    }
    // A heading alone says nothing.
    given.map(|lines| if lines == 1 { 0 } else { lines })
}

fn lines(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

struct Page<'a> {
    seen: &'a Seen,
    view: &'a View,
    look: Look,
}

impl Page<'_> {
    fn header(&self, area: Rect, buffer: &mut Buffer) {
        let look = self.look;
        let mut spans = vec![look.span(Paint::Heading, "distcc ")];
        if let Some(report) = &self.seen.report {
            let up = age(report.uptime_s.saturating_mul(1000));
            let version = clip(&report.version, 20);
            spans.push(look.span(Paint::Plain, format!("broker {version} (pid {}), up {up}", report.pid)));
        }
        let state = match &self.seen.broker {
            Broker::Unasked => look.span(Paint::Waiting, "asking the broker"),
            Broker::There if self.seen.report.as_ref().is_some_and(|report| report.draining) => {
                look.span(Paint::Waiting, "  it finishes what runs and exits")
            }
            Broker::There => look.span(Paint::Faint, self.traffic()),
            Broker::Absent if self.seen.report.is_some() => {
                look.span(Paint::Bad, "  GONE; the next compile starts another")
            }
            Broker::Absent => look.span(Paint::Waiting, "no broker is running; the first compile starts one"),
            Broker::Odd(why) => look.span(Paint::Bad, format!("  {}", clip(why, 100))),
        };
        spans.push(state);
        Line::from(spans).render(area, buffer);
        if self.view.frozen {
            let mark = " PAUSED ";
            let width = lines(mark.len()).min(area.width);
            let right = Rect { x: area.right() - width, width, ..area };
            let style = look.of(Paint::Waiting).add_modifier(Modifier::REVERSED);
            Line::styled(mark, style).render(right, buffer);
        }
    }

    fn traffic(&self) -> String {
        let totals = self.seen.report.as_ref().map(|report| &report.totals);
        let shown = |(sent, received)| format!("; {} out, {} back", bytes(sent), bytes(received));
        totals.map(|totals| (totals.bytes_sent, totals.bytes_received)).map_or_else(String::new, shown)
    }

    fn nothing(&self, area: Rect, buffer: &mut Buffer) {
        let text = match &self.seen.broker {
            Broker::Absent => "This view begins when it is there.",
            _ => "",
        };
        let row = Rect { y: area.y + 2, height: 1, ..area }.intersection(area);
        Line::styled(text, self.look.of(Paint::Faint)).render(row, buffer);
    }

    fn report(&self, report: &Report, area: Rect, top: [Rect; 3], buffer: &mut Buffer) {
        let [totals, done, queue] = top;
        totals_line(report, self.look).render(totals, buffer);
        let series = &self.seen.series;
        let rate = series.done.back().map_or_else(|| "-".to_owned(), |rate| per_second(*rate));
        self.sparkline("jobs", &rate, &series.done, Paint::Good, done, buffer);
        let waiting = series.queue.back().map_or_else(|| "-".to_owned(), |jobs| format!("{jobs}"));
        self.sparkline("queue", &waiting, &series.queue, Paint::Waiting, queue, buffer);

        let (hosts, jobs) = (self.view.hosts(report), self.view.jobs(report));
        let reasons: Vec<(&String, &u64)> = sorted_reasons(report);
        let chosen = hosts.iter().find(|host| Some(&host.host) == self.view.chosen.as_ref()).copied();
        let needs = [
            1 + lines(hosts.len()).max(1).saturating_add(lines(chosen.map_or(0, |_| 1))),
            1 + lines(jobs.len()).max(1),
            if reasons.is_empty() { 0 } else { 1 + lines(reasons.len()) },
            if report.troubles.is_empty() { 0 } else { 1 + lines(report.troubles.len()) },
        ];
        let middle = Rect { y: area.y.saturating_add(4), height: area.height.saturating_sub(5), ..area };
        let given = allot(needs, middle.height);
        // A line between the parts, where there is room.
        let parts = lines(given.iter().filter(|height| **height > 0).count());
        let gap = u16::from(given.iter().sum::<u16>() + parts <= middle.height);
        let mut y = middle.y + gap;
        let [host_area, job_area, reason_area, trouble_area] = given.map(|height| {
            let part = Rect { y, height, ..middle }.intersection(area);
            y = y.saturating_add(height + if height > 0 { gap } else { 0 });
            part
        });
        self.hosts(&hosts, report.hosts.len(), chosen, host_area, buffer);
        self.jobs(&jobs, report.jobs.len(), job_area, buffer);
        self.reasons(&reasons, reason_area, buffer);
        self.troubles(report, trouble_area, buffer);
    }

    /// A label, a value, and what it was lately.
    fn sparkline(&self, label: &str, value: &str, row: &Row, paint: Paint, area: Rect, buffer: &mut Buffer) {
        let look = self.look;
        let label = format!("{label:<6}{value:>9} ");
        let taken = lines(label.len()).min(area.width);
        Line::from(look.span(Paint::Plain, label)).render(area, buffer);
        let graph = Rect { x: area.x + taken, width: area.width - taken, ..area };
        self.graph(row, paint, graph, buffer);
    }

    /// A row of values, the newest at the right edge.
    fn graph(&self, row: &Row, paint: Paint, area: Rect, buffer: &mut Buffer) {
        let newest: Vec<u64> = row.iter().rev().take(usize::from(area.width)).rev().copied().collect();
        let missing = area.width - lines(newest.len());
        let area = Rect { x: area.x + missing, width: area.width - missing, ..area };
        let sparkline = Sparkline::default().data(&newest).style(self.look.of(paint));
        Widget::render(sparkline, area, buffer);
    }

    fn footer(&self, area: Rect, buffer: &mut Buffer) {
        let view = self.view;
        let width = usize::from(area.width);
        let line = if view.typing {
            Line::from(self.look.span(Paint::Waiting, clip(&format!("filter: {}_", view.filter), width)))
        } else if !view.notice.is_empty() {
            Line::from(self.look.span(Paint::Waiting, clip(&view.notice, width)))
        } else {
            let filter = match view.filter.as_str() {
                "" => String::new(),
                filter => format!("filter: {filter}  "),
            };
            let keys = "q quit  ? help  ↑↓ choose  d drain  x exclude  s sort  / filter  p pause";
            Line::from(vec![
                self.look.span(Paint::Waiting, clip(&filter, 40)),
                self.look.span(Paint::Faint, keys),
            ])
        };
        line.render(area, buffer);
    }

    fn help(&self, area: Rect, buffer: &mut Buffer) {
        let height = lines(HELP.len()).min(area.height.saturating_sub(2));
        let part = Rect { y: area.y + area.height.min(1), height, ..area }.intersection(area);
        Clear.render(part, buffer);
        for (text, row) in HELP.iter().zip(part.rows()) {
            Line::from(self.look.span(Paint::Plain, format!("  {text}"))).render(row, buffer);
        }
    }
}

/// What the keys do.
const HELP: [&str; 20] = [
    "",
    "q, ^C         end",
    "?, h          these words; any key ends them",
    "p, space      pause: the picture stands still, and the broker is not asked",
    "",
    "↑ ↓, k j      choose a host; also page up, page down, home, end",
    "d             drain it: it finishes what it has and gets no more; again: undo",
    "x             exclude it: what it has goes elsewhere; again: undo",
    "",
    "s             order of hosts: listed, name, state, jobs, jobs done, speed",
    "o             order of jobs: age, host, source",
    "r             the other way round",
    "/             show only what has these words: hosts, states, sources, phases",
    "esc           forget the words and the choice",
    "^L            paint the screen anew     ^Z  stop, until fg",
    "",
    "Bars are slots: taken, free. The rows of bars are the last looks, the newest",
    "at the right: jobs that ended for each second, jobs that waited, jobs that",
    "ran here for this reason. distcc --explain COMMAND... tells more of one.",
    "",
];

fn totals_line(report: &Report, look: Look) -> Line<'static> {
    let totals = &report.totals;
    let mut text = format!(
        "{} remote, {} cached, {} here; {} retried, {} hedged",
        totals.remote, totals.cached, totals.local, totals.retried, totals.hedged
    );
    if totals.remote_cpu_ms > 0 {
        text += &format!("; {} CPU saved", saved(totals.cpu_saved_ms));
    }
    Line::from(look.span(Paint::Plain, text))
}

/// Reasons, the most frequent first.
fn sorted_reasons(report: &Report) -> Vec<(&String, &u64)> {
    let mut reasons: Vec<_> = report.totals.local_reasons.iter().collect();
    reasons.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    reasons
}

/// Hundredths for each second, for people.
fn per_second(hundredths: u64) -> String {
    match hundredths {
        0..1000 => format!("{}.{}/s", hundredths / 100, hundredths % 100 / 10),
        _ => format!("{}/s", hundredths / 100),
    }
}

/// Puts letters that every terminal has in place of others.
fn as_ascii(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        let plain = match cell.symbol() {
            symbol if symbol.is_ascii() => continue,
            "█" | "▇" => "#",
            "▆" => "*",
            "▅" => "+",
            "▄" => "=",
            "▃" => "-",
            "▂" => ":",
            "▁" | "░" | "…" => ".",
            "↑" => "^",
            "↓" => "v",
            _ => "?",
        };
        cell.set_symbol(plain);
    }
}
