//! What of a client's compilers comes over the links of other clients: what these were asked for first, and what they
//! were quicker to bring.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Session;
use crate::common::protocol::link::ToBroker;
use crate::common::toolchain::Digest;
use crate::remote::couriers::{Couriers, LinkId, Promised};
use crate::remote::hermetic::Want;

/// How often it is looked what has come there.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// One link among those that bring files.
#[derive(Debug)]
pub struct Courier {
    couriers: Arc<Mutex<Couriers>>,
    link: LinkId,
    /// What was last said to the client of what others bring.
    said: (u64, u64),
}

impl Courier {
    /// One more link.
    pub fn new(couriers: &Arc<Mutex<Couriers>>) -> Self {
        let couriers = Arc::clone(couriers);
        let link = couriers.lock().unwrap_or_else(PoisonError::into_inner).join();
        Courier { couriers, link, said: (0, 0) }
    }

    fn couriers(&self) -> MutexGuard<'_, Couriers> {
        self.couriers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody is to wait any more for what was asked of this link.
    pub fn leave(&self) {
        self.couriers().leave(self.link);
    }

    /// How many bytes of these files others may wait for.
    pub fn brings(&self, files: &[Digest]) -> u64 {
        self.couriers().brings(self.link, files)
    }

    /// So much of what others may wait for has come.
    pub fn came(&self, bytes: u64) {
        if bytes > 0 {
            self.couriers().came(self.link, bytes, Instant::now());
        }
    }

    /// These files have come over this link, or will not.
    pub fn over(&self, files: &[Digest], promised: Promised) {
        self.couriers().over(self.link, files, promised);
    }
}

impl Session {
    /// Asks the client for files that somebody wants, but for those that others bring.
    pub(super) fn on_want(&mut self, want: Want) {
        if want.epoch != self.desk.epoch() {
            Self::forgotten(want);
            return;
        }
        let (store, now) = (&self.context.store, Instant::now());
        let items = {
            let mut couriers = self.courier.couriers();
            let take = |wanted: &_| couriers.take(self.courier.link, wanted, now);
            self.desk.wants.want(want, now, |digest| store.knows(digest), take)
        };
        self.ask(items);
        self.say_what_others_bring();
    }

    /// Looks what others have brought, and asks for what they will not.
    pub(super) fn on_look_elsewhere(&mut self) {
        let (store, now) = (&self.context.store, Instant::now());
        let (items, spared) = {
            let mut couriers = self.courier.couriers();
            let take = |wanted: &_| couriers.take(self.courier.link, wanted, now);
            self.desk.wants.look_elsewhere(|digest| store.knows(digest), take)
        };
        if !spared.is_empty() {
            let (files, items): (Vec<_>, Vec<_>) = spared.into_iter().unzip();
            self.courier.over(&files, Promised::NotKept);
            self.outbox.message(&ToBroker::Spare { items });
        }
        // First: what is asked for is not others' any more.
        self.say_what_others_bring();
        self.ask(items);
    }

    fn ask(&mut self, items: Vec<u32>) {
        if !items.is_empty() {
            self.outbox.message(&ToBroker::NeedFiles { items });
        }
    }

    fn say_what_others_bring(&mut self) {
        let couriers = self.courier.couriers();
        let share = self.desk.wants.share(|files| couriers.rest(files));
        drop(couriers);
        if share != self.courier.said {
            self.courier.said = share;
            let (awaited, arrived) = share;
            self.outbox.message(&ToBroker::Elsewhere { awaited, arrived });
        }
    }
}
