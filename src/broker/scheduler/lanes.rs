//! Host lists, and the queues of jobs that may go to the same hosts.
//!
//! Nothing ever looks at all jobs: jobs that may go exactly to the same hosts wait in one lane, and there
//! are as many lanes as there are different lists, toolchains and histories of failure: a handful.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::api::{HostUse, ToolchainId};
use super::config::Config;
use super::fair::{FairQueue, Waiter};
use super::hosts::Hosts;

/// Idle host lists that are remembered; more are forgotten.
const POOLS_IDLE_MAX: usize = 64;

/// A host list, by number.
pub type PoolId = u32;

/// A host as one list has it.
#[derive(Clone, Copy, Debug)]
pub struct Seat {
    /// The host's dense number.
    pub host: usize,
    /// `/N`.
    pub slots: u32,
}

/// One host list and who uses it.
#[derive(Clone, Debug)]
pub struct Pool {
    list: Arc<[HostUse]>,
    /// Each host once, in the user's order.
    pub seats: Vec<Seat>,
    /// Unfinished jobs with this list.
    pub live: u32,
    /// Those that wait for a host: queued, preparing or ready.
    pub waiting: u32,
    /// Of these, preparing or ready.
    pub ahead: u32,
}

/// All host lists in use.
#[derive(Clone, Debug, Default)]
pub struct Pools {
    pools: BTreeMap<PoolId, Pool>,
    next: PoolId,
}

impl Pools {
    /// The number of a list, given at its first use.
    pub fn number(&mut self, list: &Arc<[HostUse]>, hosts: &mut Hosts, config: &Config) -> PoolId {
        let known = self.pools.iter().find(|(_, pool)| Arc::ptr_eq(&pool.list, list) || pool.list == *list);
        if let Some((id, _)) = known {
            return *id;
        }
        if self.pools.len() > POOLS_IDLE_MAX {
            self.pools.retain(|_, pool| pool.live > 0);
        }
        let seats = seats(list, hosts, config);
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.pools.insert(id, Pool { list: list.clone(), seats, live: 0, waiting: 0, ahead: 0 });
        id
    }

    /// One list.
    pub fn get(&self, id: PoolId) -> Option<&Pool> {
        self.pools.get(&id)
    }

    /// One list, to change it.
    pub fn get_mut(&mut self, id: PoolId) -> Option<&mut Pool> {
        self.pools.get_mut(&id)
    }

    /// The lists that are remembered.
    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = (PoolId, &Pool)> {
        self.pools.iter().map(|(id, pool)| (*id, pool))
    }
}

/// A host that is listed twice has the slots of both.
fn seats(list: &[HostUse], hosts: &mut Hosts, config: &Config) -> Vec<Seat> {
    let mut seats: Vec<Seat> = Vec::with_capacity(list.len());
    let mut places = BTreeMap::new();
    for HostUse { host, slots } in list {
        let host = hosts.number(*host, config);
        let place = *places.entry(host).or_insert(seats.len());
        match seats.get_mut(place) {
            Some(seat) => seat.slots = seat.slots.saturating_add(*slots),
            None => seats.push(Seat { host, slots: *slots }),
        }
    }
    seats
}

/// What jobs of one lane have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneKey {
    /// Their host list.
    pub pool: PoolId,
    /// Their toolchain.
    pub toolchain: ToolchainId,
    /// The hosts that failed them, sorted.
    pub tried: Vec<usize>,
}

/// Jobs that may go to the same hosts.
#[derive(Clone, Debug, Default)]
pub struct Lane {
    /// Not yet prepared.
    pub queued: FairQueue,
    /// Being prepared, by arrival.
    pub preparing: BTreeMap<u64, Waiter>,
    /// Prepared.
    pub ready: FairQueue,
}

impl Lane {
    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.preparing.is_empty() && self.ready.is_empty()
    }

    /// Everybody in it.
    pub fn waiters(&self) -> impl Iterator<Item = &Waiter> {
        self.queued.iter().chain(self.preparing.values()).chain(self.ready.iter())
    }
}
