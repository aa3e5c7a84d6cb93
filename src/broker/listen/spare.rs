//! A descriptor that is kept for when there are no others: without one, those who come could not even be
//! told so, and would wait.

use std::fs::File;
use std::io;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::Instant;

/// How often it is said that there are none.
const SAID_INTERVAL: Duration = Duration::from_secs(60);

/// The descriptor, and when it was last said that it was needed.
#[derive(Debug)]
pub struct Spare {
    held: Option<File>,
    said: Option<Instant>,
}

impl Spare {
    /// Takes one.
    pub fn keep() -> Self {
        Spare { held: take(), said: None }
    }

    /// Lets go of it, for somebody who comes now; `false` where there was none to let go of.
    pub fn let_go(&mut self) -> bool {
        self.held.take().is_some()
    }

    /// Takes it again, if it is not there.
    pub fn restore(&mut self) {
        self.held = self.held.take().or_else(take);
    }

    /// Whether this is to be said again at `now`: it holds for long, and for many.
    pub fn is_to_be_said(&mut self, now: Instant) -> bool {
        let is_due = self.said.is_none_or(|then| now.duration_since(then) >= SAID_INTERVAL);
        if is_due {
            self.said = Some(now);
        }
        is_due
    }
}

fn take() -> Option<File> {
    File::open("/").ok()
}

/// Whether there are no descriptors, of this process or of the whole machine.
pub fn is_missing(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_said_once_a_minute_not_fifty_times_a_second() {
        let (mut spare, start) = (Spare::keep(), Instant::now());
        let said =
            (0..9000).filter(|step| spare.is_to_be_said(start + Duration::from_millis(step * 20))).count();
        assert_eq!(said, 3);
    }

    #[test]
    fn the_spare_one_is_let_go_of_once_until_it_is_taken_again() {
        let mut spare = Spare::keep();
        assert!(spare.let_go() && !spare.let_go());
        spare.restore();
        assert!(spare.let_go());
    }

    #[test]
    fn other_errors_are_no_want_of_descriptors() {
        assert!(is_missing(&io::Error::from(Errno::MFILE)) && is_missing(&io::Error::from(Errno::NFILE)));
        assert!(!is_missing(&io::Error::from(Errno::CONNABORTED)) && !is_missing(&io::Error::other("x")));
    }
}
