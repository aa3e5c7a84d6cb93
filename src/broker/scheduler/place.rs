//! Which host a job goes to, and how long waiting for one would take.

use super::Scheduler;
use super::api::LocalSlots;
use super::hosts::{Host, Link, Prospect};
use super::jobs::Route;
use super::lanes::{LaneKey, Seat};

/// What the hosts of one lane amount to, the far slower ones left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// Their usual slowness: the harmonic mean over slots, so that one host that was lucky with its files
    /// does not make all others look slow.
    pub usual: f64,
    /// Normal seconds of work that they do in one second.
    pub rate: f64,
    /// Free slots.
    pub free: u32,
}

impl Scheduler {
    /// The hosts that may have jobs of this lane, up or not, in the user's order.
    pub(super) fn seats<'a>(&'a self, key: &'a LaneKey) -> impl Iterator<Item = (&'a Seat, &'a Host)> {
        let seats = self.pools.get(key.pool).map_or(&[][..], |pool| &pool.seats[..]);
        let untried = seats.iter().filter(|seat| !key.tried.contains(&seat.host));
        untried
            .map(|seat| (seat, &self.hosts[seat.host]))
            .filter(|(_, host)| host.refused.is_empty() || !host.refused.contains(&key.toolchain))
    }

    /// Whether jobs of this lane should wait for a host at all.
    pub(super) fn prospect(&self, key: &LaneKey) -> Prospect {
        let mut best = Prospect::None;
        for (seat, host) in self.seats(key) {
            best = best.max(host.prospect(seat.slots, self.now, &self.config));
            if best == Prospect::Capable {
                break;
            }
        }
        best
    }

    /// Sums up the hosts of a lane that are there; `coming` ones, which are being connected, count with the
    /// slots of the list if asked for.
    pub(super) fn field(&self, key: &LaneKey, coming: bool) -> Field {
        let slots = |seat: &Seat, host: &Host| match host.slots(seat.slots) {
            0 if coming && host.prospect(seat.slots, self.now, &self.config) == Prospect::Hopeful => {
                seat.slots
            }
            slots => slots,
        };
        let (mut all, mut rate) = (0.0, 0.0);
        for (seat, host) in self.seats(key) {
            let slots = f64::from(slots(seat, host));
            all += slots;
            rate += slots / host.speed.rank();
        }
        let usual = if rate > 0.0 { all / rate } else { 1.0 };
        let mut field = Field { usual, rate: 0.0, free: 0 };
        for (seat, host) in self.seats(key) {
            let (slots, rank) = (slots(seat, host), host.speed.rank());
            if slots > 0 && rank <= self.config.slow_factor * field.usual {
                field.rate += f64::from(slots) / rank;
                let resting = host.breath_until > self.now;
                field.free =
                    field.free.saturating_add(if resting { 0 } else { slots.saturating_sub(host.used()) });
            }
        }
        field
    }

    /// The host that would finish a job of this lane first, among those that may have it right now, and
    /// its score: slowness, more for each job it holds. The user's order decides between equals.
    pub(super) fn choose(&self, key: &LaneKey) -> Option<(usize, f64)> {
        let mut field = None;
        let mut best: Option<(usize, f64)> = None;
        for (seat, host) in self.seats(key) {
            if !host.open(seat.slots, self.now) {
                continue;
            }
            let field = *field.get_or_insert_with(|| self.field(key, false));
            if !self.worth(key, host, &field) {
                continue;
            }
            let load = f64::from(host.used()) / f64::from(host.slots(seat.slots));
            let score = host.speed.rank_to_choose() * (1.0 + load);
            if best.is_none_or(|(_, least)| score < least) {
                best = Some((seat.host, score));
            }
        }
        best
    }

    /// A far slower host gets a job only if waiting for the others would take as long, and now and then
    /// to find out whether it still is slow.
    fn worth(&self, key: &LaneKey, host: &Host, field: &Field) -> bool {
        let rank = host.speed.rank();
        if rank <= self.config.slow_factor * field.usual {
            return true;
        }
        let waiting = self.pools.get(key.pool).map_or(0, |pool| pool.waiting);
        let retest = host.last_sent + self.config.slow_retest <= self.now && host.running.is_empty();
        retest || rank <= f64::from(waiting) / field.rate + field.usual
    }

    /// Whether compiling here ends clearly sooner than waiting for a host and compiling there. A short
    /// job counts as a typical one: it waits as long as any, and is no reason to use this machine.
    pub(super) fn sooner_here(&self, key: &LaneKey, route: &Route) -> bool {
        let field = self.field(key, true);
        if field.rate <= 0.0 {
            return false;
        }
        let waiting = self.pools.get(key.pool).map_or(0, |pool| pool.waiting);
        let typical = self.estimates.typical();
        let likely = self.estimates.expect(route.task).likely;
        let wait = f64::from(waiting.saturating_sub(field.free)) * typical / field.rate;
        let here = self.estimates.local.rank_among(field.usual) * f64::max(likely, typical);
        let unknown = self.estimates.local.unsure() && self.in_use.compile == 0 && waiting > field.free;
        let test = unknown && self.totals.remote >= self.next_local_test;
        test || wait + likely * field.usual > self.config.overflow_factor * here
    }

    /// Whether another job should be made ready for this list: enough to fill its free slots, and a
    /// few more for those that become free meanwhile. More would only take memory and CPU early.
    pub(super) fn wants_ahead(&self, key: &LaneKey, local: &LocalSlots) -> bool {
        let ahead = self.pools.get(key.pool).map_or(0, |pool| pool.ahead);
        let spare = local.preprocess.max(1);
        // In a farm that is full, the usual case, one quick look is enough.
        let some_free = || {
            let mut seats = self.seats(key);
            seats.any(|(seat, host)| host.link != Link::Up || host.free(seat.slots, self.now) > 0)
        };
        ahead < spare || (some_free() && ahead < self.field(key, true).free.saturating_add(spare))
    }
}
