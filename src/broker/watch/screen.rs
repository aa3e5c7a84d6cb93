//! The terminal: taken over, and given back as it was, however the program ends.

use std::io::{self, IsTerminal, Stdout, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{ExecutableCommand, execute};
use ratatui::prelude::Frame;

/// Whether there is something to give back.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal of stdout, while it is ours.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    ///
    /// Returns what the system said; then it is as it was.
    pub fn enter() -> io::Result<Self> {
        static ON_PANIC: Once = Once::new();
        ON_PANIC.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                // The words are for a terminal that shows them.
                give_back();
                before(panic);
            }));
        });
        take()?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout()));
        terminal.map(|terminal| Screen { terminal }).inspect_err(|_| give_back())
    }

    /// Shows a picture.
    ///
    /// # Errors
    ///
    /// Returns what the system said: most often that nobody is there any more.
    pub fn draw(&mut self, picture: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(picture).map(drop)
    }

    /// Takes the terminal over again, and paints all of it with the next picture: somebody else may have
    /// written to it.
    ///
    /// # Errors
    ///
    /// As [`Screen::draw`].
    pub fn again(&mut self) -> io::Result<()> {
        take()?;
        // `clear` would ask the terminal where its cursor is, and wait for an answer that may not come.
        let size = self.terminal.size()?;
        self.terminal.resize(size.into())
    }

    /// Gives the terminal back for as long as this process is stopped.
    ///
    /// # Errors
    ///
    /// As [`Screen::draw`].
    pub fn suspend(&mut self) -> io::Result<()> {
        give_back();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP)?;
        self.again()
    }

    /// Whether the terminal is still there.
    pub fn is_there(&self) -> bool {
        rustix::termios::tcgetattr(io::stdout()).is_ok()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    let entered = io::stdout().execute(EnterAlternateScreen).map(drop);
    entered.inspect_err(|_| give_back())
}

/// Gives the terminal back, if it is taken. What cannot be done is left: the terminal is gone, then.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let mut stdout = io::stdout();
        let _ = execute!(stdout, LeaveAlternateScreen, Show);
        let _ = stdout.flush();
        let _ = disable_raw_mode();
    }
}

/// Why there can be no full-screen view here, if there cannot.
pub fn lacking() -> Option<&'static str> {
    let term = std::env::var_os("TERM").filter(|term| !term.is_empty());
    match term {
        _ if !io::stdout().is_terminal() => Some("stdout is no terminal"),
        None => Some("TERM is not set"),
        Some(term) if term == "dumb" => Some("TERM is dumb"),
        Some(_) => None,
    }
}
