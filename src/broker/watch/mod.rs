//! `distcc --watch`: the status, live, on the whole screen.
//!
//! [`draw`] makes a picture of what is seen and of what the user chose ([`view`]); [`series`] remembers
//! what was seen lately; [`screen`] is the terminal. Here they are driven: by looks at the broker, one
//! at a time and at most one for each interval, by keys, and by signals. The broker does for a view
//! what it does for `--status`, and keeps nothing for it; while the picture stands still, it is not asked.

mod draw;
pub mod screen;
mod series;
mod view;

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

pub use self::draw::Look;
use self::screen::Screen;
use self::series::Series;
use self::view::{View, Wish};
use super::status::Report;
use crate::common::protocol::local::{Control, ControlReply};

/// How to ask the broker; nothing without one.
pub type Ask = fn(&Control) -> Answered;

/// Keys that wait to be looked at.
const KEYS_MAX: usize = 64;

/// What is known of the broker.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The last report, if there was one.
    pub report: Option<Report>,
    /// What there was lately.
    pub series: Series,
    /// How it stands now.
    pub broker: Broker,
}

/// How it stands with the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Broker {
    /// It was not asked yet.
    #[default]
    Unasked,
    /// It answers.
    There,
    /// There is none.
    Absent,
    /// It does not answer, or in a way that is not understood.
    Odd(String),
}

impl Seen {
    /// Takes what a look gave, so long after the one before.
    fn take(&mut self, looked: Result<Option<Report>, String>, after: Duration) {
        self.broker = match looked {
            Ok(Some(report)) => {
                self.series.add(&report, after);
                self.report = Some(report);
                Broker::There
            }
            Ok(None) => Broker::Absent,
            Err(why) => Broker::Odd(why),
        };
    }

    /// Takes that a host is held now, or let go: also a picture that stands still tells what its user did.
    fn hold(&mut self, name: &str, held: bool, at_once: bool) {
        let word = match (held, at_once) {
            (false, _) => "free",
            (true, false) => "drained",
            (true, true) => "excluded",
        };
        let hosts = self.report.iter_mut().flat_map(|report| &mut report.hosts);
        hosts.filter(|host| host.host == name).for_each(|host| word.clone_into(&mut host.hold));
    }
}

/// Shows the broker's status until the user has seen enough. Ends with 128 and the signal's number
/// where a signal ended it.
///
/// # Errors
///
/// Returns why there can be no such view, or that the terminal went away.
pub fn run(ask: Ask, every: Duration, look: Look) -> Result<ExitCode, String> {
    if let Some(why) = screen::lacking() {
        return Err(format!(
            "--watch needs a terminal, and {why}\nhint: distcc --status shows the same once"
        ));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let ended = runtime.block_on(async {
        let mut watch = Watch::new(ask, every, look)?;
        watch.run().await
    });
    // A question that is still open ends with the process.
    runtime.shutdown_background();
    match ended {
        Ok(signal) => Ok(ExitCode::from(signal.map_or(0, |number| 128 + number))),
        Err(error) => Err(format!("the terminal: {error}")),
    }
}

/// Signals that end the view, and the one that says that it goes on.
struct Signals {
    hangup: Signal,
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    stop: Signal,
    resume: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            stop: signal(SignalKind::from_raw(libc::SIGTSTP))?,
            resume: signal(SignalKind::from_raw(libc::SIGCONT))?,
        })
    }

    /// The number of the next signal that came.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.hangup.recv() => libc::SIGHUP,
            _ = self.interrupt.recv() => libc::SIGINT,
            _ = self.quit.recv() => libc::SIGQUIT,
            _ = self.terminate.recv() => libc::SIGTERM,
            _ = self.stop.recv() => libc::SIGTSTP,
            _ = self.resume.recv() => libc::SIGCONT,
        }
    }
}

type Looked = Result<Option<Report>, String>;

/// What the broker says to an order; nothing without one.
pub type Answered = Result<Option<ControlReply>, String>;

struct Watch {
    ask: Ask,
    every: Duration,
    look: Look,
    seen: Seen,
    view: View,
    /// The question that is open; one at a time.
    question: Option<JoinHandle<Looked>>,
    asked: Option<Instant>,
    /// When it is to be asked again, or the terminal to be looked at.
    next: Instant,
    order: Option<JoinHandle<(Control, Answered)>>,
    signals: Signals,
    keys: mpsc::Receiver<Event>,
    screen: Screen,
}

impl Watch {
    fn new(ask: Ask, every: Duration, look: Look) -> io::Result<Self> {
        let signals = Signals::new()?;
        let screen = Screen::enter()?;
        let (sender, keys) = mpsc::channel(KEYS_MAX);
        std::thread::Builder::new().spawn(move || while read_key(&sender).is_some() {})?;
        let (seen, view, next) = (Seen::default(), View::default(), Instant::now());
        let (question, asked, order) = (None, None, None);
        Ok(Watch { ask, every, look, seen, view, question, asked, next, order, signals, keys, screen })
    }

    /// Until the end; says which signal brought it about.
    async fn run(&mut self) -> io::Result<Option<u8>> {
        loop {
            let Watch { seen, view, look, screen, .. } = self;
            screen.draw(|frame| draw::draw(frame, seen, view, *look))?;
            tokio::select! {
                event = self.keys.recv() => match event {
                    Some(event) => if self.on_event(&event)? { return Ok(None) },
                    None => return Err(io::ErrorKind::UnexpectedEof.into()),
                },
                number = self.signals.next() => match number {
                    libc::SIGTSTP => self.screen.suspend()?,
                    libc::SIGCONT => self.screen.again()?,
                    number => return Ok(u8::try_from(number).ok()),
                },
                looked = ended(&mut self.question) => self.on_look(looked),
                answered = ended(&mut self.order) => self.on_answer(answered),
                () = sleep_until(self.next.into()), if self.question.is_none() => self.on_time()?,
            }
        }
    }

    fn on_time(&mut self) -> io::Result<()> {
        self.next = Instant::now() + self.every;
        if !self.screen.is_there() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if !self.view.frozen {
            let ask = self.ask;
            self.question = Some(tokio::task::spawn_blocking(move || report(ask)));
        }
        Ok(())
    }

    fn on_look(&mut self, looked: Option<Looked>) {
        let now = Instant::now();
        let after = self.asked.replace(now).map_or(self.every, |asked| now - asked);
        // What was asked before the picture was frozen is not for it.
        if !self.view.frozen {
            self.seen.take(looked.unwrap_or_else(|| Err("the question was lost".to_owned())), after);
        }
    }

    fn on_answer(&mut self, answered: Option<(Control, Answered)>) {
        let Some((order, answer)) = answered else { return };
        self.view.notice = said(&order, &answer);
        if let Control::Hold { held, at_once, .. } = order
            && let Ok(Some(ControlReply::Text { text })) = answer
        {
            self.seen.hold(&text, held, at_once);
        }
        self.next = Instant::now();
    }

    /// Says whether it was the last.
    fn on_event(&mut self, event: &Event) -> io::Result<bool> {
        let key = match event {
            Event::Key(key) if key.kind != KeyEventKind::Release => *key,
            // The next picture is of the new size.
            _ => return Ok(false),
        };
        let was_frozen = self.view.frozen;
        match self.view.key(key, self.seen.report.as_ref()) {
            Wish::Draw => {}
            Wish::Quit => return Ok(true),
            Wish::Suspend => self.screen.suspend()?,
            Wish::Repaint => self.screen.again()?,
            Wish::Order(order) if self.order.is_none() => {
                let ask = self.ask;
                self.order = Some(tokio::task::spawn_blocking(move || {
                    let answer = ask(&order);
                    (order, answer)
                }));
            }
            Wish::Order(_) => "the last order is still on its way".clone_into(&mut self.view.notice),
        }
        if was_frozen && !self.view.frozen {
            self.next = Instant::now();
        }
        Ok(false)
    }
}

/// Waits for one key or another thing of the terminal; nothing when nobody wants more, or there is none.
fn read_key(sender: &mpsc::Sender<Event>) -> Option<()> {
    sender.blocking_send(event::read().ok()?).ok()
}

fn report(ask: Ask) -> Looked {
    match ask(&Control::Status)? {
        Some(ControlReply::Status { json }) => {
            serde_json::from_str(&json).map(Some).map_err(|error| error.to_string())
        }
        Some(_) => Err("it answered something else".to_owned()),
        None => Ok(None),
    }
}

/// What became of an order, for people.
pub fn said(order: &Control, answer: &Answered) -> String {
    let Control::Hold { host, held, at_once } = order else { return String::new() };
    match (answer, held, at_once) {
        (Ok(Some(ControlReply::Text { text })), false, _) => format!("{text} gets jobs again"),
        (Ok(Some(ControlReply::Text { text })), true, false) => {
            format!("{text} is drained: it finishes what it has and gets no more")
        }
        (Ok(Some(ControlReply::Text { text })), true, true) => {
            format!("{text} is excluded: what it had goes elsewhere")
        }
        (Ok(Some(ControlReply::Refused)), ..) => {
            format!("{host} gave another object than this machine makes, and stays without jobs")
        }
        (Ok(Some(_)), ..) => format!("the broker knows no host {host}, or several of that name"),
        (Ok(None), ..) => "no broker is running".to_owned(),
        (Err(why), ..) => why.clone(),
    }
}

/// Waits for a task and takes it away; for ever where there is none. Nothing of one that was lost.
async fn ended<T>(task: &mut Option<JoinHandle<T>>) -> Option<T> {
    match task.as_mut() {
        Some(running) => {
            let ended = running.await.ok();
            *task = None;
            ended
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
