//! The broker's clock: moments since it started, from a monotonic source; and a timer that a loop can afford.

use std::pin::Pin;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::broker::scheduler::api::Moment;

/// When the broker started; every [`Moment`] counts from there.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock that shows zero now.
    pub fn start() -> Self {
        Clock { started: Instant::now() }
    }

    /// Now.
    pub fn now(&self) -> Moment {
        Moment(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// The moment as the runtime's timers take it.
    pub fn instant(&self, moment: Moment) -> Instant {
        self.started + std::time::Duration::from_micros(moment.0)
    }
}

/// A timer of a loop, which says in each round when it is to go off. While that is no other moment, nothing is done:
/// a timer of the runtime that is made anew in each round, and would be the first to go off, wakes the runtime each time.
#[derive(Debug)]
pub struct Timer {
    sleep: Pin<Box<Sleep>>,
    at: Option<Instant>,
}

impl Timer {
    /// One that does not go off.
    pub fn off() -> Self {
        Timer { sleep: Box::pin(sleep_until(Instant::now())), at: None }
    }

    /// Goes off then, or never.
    pub fn set(&mut self, at: Option<Instant>) {
        if self.at != at
            && let Some(at) = at
        {
            self.sleep.as_mut().reset(at);
        }
        self.at = at;
    }

    /// Ends when it goes off, and at once when it has.
    pub async fn wait(&mut self) {
        match self.at {
            Some(_) => self.sleep.as_mut().await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_timer_goes_off_when_it_was_set_to_last() {
        let (start, mut timer) = (Instant::now(), Timer::off());
        let hour = Some(start + Duration::from_secs(3600));
        let is_over = async |timer: &mut Timer, within| {
            tokio::time::timeout(Duration::from_millis(within), timer.wait()).await.is_ok()
        };
        assert!(!is_over(&mut timer, 0).await);
        timer.set(hour);
        assert!(!is_over(&mut timer, 0).await);
        timer.set(Some(start + Duration::from_millis(5)));
        assert!(is_over(&mut timer, 60_000).await);
        // What is to happen then is overdue until it is set anew.
        assert!(is_over(&mut timer, 60_000).await);
        timer.set(hour);
        assert!(!is_over(&mut timer, 0).await);
        timer.set(None);
        assert!(!is_over(&mut timer, 0).await);
        timer.set(hour);
        timer.set(Some(start));
        assert!(is_over(&mut timer, 60_000).await);
    }
}
