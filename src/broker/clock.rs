//! The broker's clock: moments since it started, from a monotonic source.

use tokio::time::Instant;

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
