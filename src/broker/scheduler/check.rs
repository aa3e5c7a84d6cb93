//! Counts everything again, from the jobs themselves, and compares.

use std::collections::{BTreeMap, BTreeSet};

use super::Scheduler;
use super::api::{BuildId, JobId};
use super::hosts::Prospect;
use super::jobs::{Job, LocalKind, Phase};
use super::lanes::PoolId;
use super::slots::InUse;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

impl Scheduler {
    /// Says which invariant does not hold. To be called between events.
    pub(super) fn check_invariants(&self) -> Result<(), String> {
        self.check_hosts()?;
        self.check_slots()?;
        self.check_lanes()?;
        self.check_nothing_idles()
    }

    fn check_hosts(&self) -> Result<(), String> {
        let mut running: BTreeMap<usize, BTreeSet<JobId>> = BTreeMap::new();
        let mut looks = BTreeSet::new();
        for job in self.jobs.values() {
            let Phase::Remote { attempts, look_at } = &job.phase else { continue };
            looks.insert((*look_at, job.id));
            ensure((1..=2).contains(&attempts.len()), || format!("{:?} has {attempts:?}", job.id))?;
            for attempt in attempts {
                let fresh = running.entry(attempt.host).or_default().insert(job.id);
                let tried = job.route.as_ref().is_none_or(|route| route.tried.contains(&attempt.host));
                ensure(fresh && !tried, || format!("{:?} is twice on host {}", job.id, attempt.host))?;
            }
        }
        ensure(looks == self.looks, || "the table of stragglers is wrong".to_owned())?;
        for (number, host) in self.hosts.iter().enumerate() {
            let expected = running.remove(&number).unwrap_or_default();
            ensure(host.running == expected, || format!("{:?} holds {:?}", host.id, host.running))?;
        }
        Ok(())
    }

    fn check_slots(&self) -> Result<(), String> {
        let mut in_use = InUse::default();
        for job in self.jobs.values() {
            match &job.phase {
                Phase::Preparing => in_use.preprocess += 1,
                Phase::Local { kind, .. } => *in_use.count(*kind) += 1,
                _ => {}
            }
        }
        ensure(in_use == self.in_use, || format!("{in_use:?} is in use, not {:?}", self.in_use))
    }

    fn check_lanes(&self) -> Result<(), String> {
        let (mut waiting, mut ready) = (0, 0);
        let mut pools: BTreeMap<PoolId, (u32, u32, u32)> = BTreeMap::new();
        for job in self.jobs.values() {
            let Some(key) = job.lane() else { continue };
            let counts = pools.entry(key.pool).or_default();
            counts.0 += 1;
            let queued = match self.lanes.get(&key) {
                _ if !matches!(job.phase, Phase::Queued | Phase::Preparing | Phase::Ready) => continue,
                None => false,
                Some(lane) if job.phase == Phase::Queued => lane.queued.has(job.build, job.serial),
                Some(lane) if job.phase == Phase::Ready => lane.ready.has(job.build, job.serial),
                Some(lane) => lane.preparing.contains_key(&job.serial),
            };
            ensure(queued, || format!("{:?} is not in its lane", job.id))?;
            waiting += 1;
            counts.1 += 1;
            counts.2 += u32::from(job.phase != Phase::Queued);
            ready += usize::from(job.phase == Phase::Ready);
        }
        let in_lanes: usize = self.lanes.values().map(|lane| lane.waiters().count()).sum();
        ensure((waiting, ready) == (self.waiting, self.ready) && in_lanes == waiting, || {
            format!("{waiting} wait and {ready} are ready, not {} and {}", self.waiting, self.ready)
        })?;
        for (id, pool) in self.pools.iter() {
            let expected = pools.get(&id).copied().unwrap_or_default();
            let found = (pool.live, pool.waiting, pool.ahead);
            ensure(found == expected, || format!("list {id} counts {found:?}, not {expected:?}"))?;
        }
        Ok(())
    }

    fn check_nothing_idles(&self) -> Result<(), String> {
        for (key, lane) in &self.lanes {
            ensure(!lane.is_empty(), || format!("{key:?} is empty"))?;
            ensure(self.prospect(key) != Prospect::None, || format!("{key:?} waits without hope"))?;
        }
        // Only the first of a build need be looked at: the others wait behind it.
        let mut first: BTreeMap<(LocalKind, BuildId), &Job> = BTreeMap::new();
        for job in self.jobs.values() {
            match &job.phase {
                Phase::Ready => self.check_no_free_host(job)?,
                Phase::Home { kind, .. } => {
                    let first = first.entry((*kind, job.build)).or_insert(job);
                    if job.serial < first.serial {
                        *first = job;
                    }
                }
                _ => {}
            }
        }
        for ((kind, _), job) in first {
            let may = self.in_use.may_run(kind, &job.local);
            ensure(!may, || format!("{:?} waits here while a slot is free", job.id))?;
        }
        Ok(())
    }

    /// Far slower hosts may stay free while a job is ready; a host of usual speed may not.
    fn check_no_free_host(&self, job: &Job) -> Result<(), String> {
        let Some(key) = job.lane() else { return Err(format!("{:?} is ready to go nowhere", job.id)) };
        let ranks = self.seats(&key).filter(|(seat, host)| host.slots(seat.slots) > 0);
        let best = ranks.map(|(_, host)| host.speed.rank()).fold(f64::INFINITY, f64::min);
        let free = self.seats(&key).find(|(seat, host)| {
            host.open(seat.slots, self.now) && host.speed.rank() <= self.config.slow_factor * best
        });
        ensure(free.is_none(), || format!("{:?} is ready while {:?} is free", job.id, free.map(|f| f.1.id)))
    }
}
