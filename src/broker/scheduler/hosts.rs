//! What is known of each host: its link, its slots, its back-off.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::api::{Hold, HostId, JobId, Lost, Moment, ToolchainId};
use super::bucket::Bucket;
use super::config::Config;
use super::estimate::Speed;
use super::rng::Rng;

/// Back-off is cut at this share of its maximum, so that jitter on top stays within it.
const JITTER_SHARE: u64 = 4;

/// The largest burst for a host that does not say what it holds.
const BURST_MAX: u32 = 64;

/// The state of the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// Nobody asked for it yet.
    Untried,
    /// Asked for. A probe follows a failure, so nobody waits for it.
    Connecting {
        /// When it was asked for.
        since: Moment,
        /// Whether it follows a failure.
        probe: bool,
    },
    /// There.
    Up,
    /// Lost, or never made.
    Down {
        /// When it may be tried again.
        until: Moment,
        /// What went wrong.
        why: String,
    },
}

/// Whether a host is worth waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Prospect {
    /// No.
    None,
    /// It may become so soon; a timer bounds the wait.
    Hopeful,
    /// It has slots, free or taken.
    Capable,
}

/// One volunteer.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its number outside.
    pub id: HostId,
    /// The connection.
    pub link: Link,
    /// How many jobs it will hold; unlimited until it says.
    pub credit: Option<u32>,
    /// Since when the credit is 0.
    pub dry_since: Moment,
    /// Jobs with a live attempt there.
    pub running: BTreeSet<JobId>,
    /// Failures since the last answer: the exponent of the back-off.
    pub failures: u32,
    /// Failed attempts in a row on this link.
    pub strikes: u32,
    /// On trial after a back-off: one job at a time until it answers.
    pub trial: bool,
    /// Its owner wants it to take no new jobs.
    pub owner_paused: bool,
    /// Whether it is to take jobs.
    pub hold: Hold,
    /// A back-off although the link is up.
    pub paused: Option<(Moment, String)>,
    /// It said that it is full: left alone until then.
    pub breath_until: Moment,
    /// How often in a row it said so.
    pub breaths: u32,
    /// How many jobs it held when it last said so; one more with each answer since.
    pub cap: u32,
    /// Whether people were told of the back-off.
    pub told: bool,
    /// The rate limit.
    pub bucket: Bucket,
    /// What was learned of its speed.
    pub speed: Speed,
    /// Toolchains it does not have.
    pub refused: BTreeSet<ToolchainId>,
    /// Answers that were used.
    pub done: u64,
    /// Host lists with unfinished jobs that name it.
    pub wanted: u32,
    /// When it was last sent a job.
    pub last_sent: Moment,
}

impl Host {
    fn new(id: HostId, config: &Config) -> Host {
        Host {
            id,
            link: Link::Untried,
            credit: None,
            dry_since: Moment(0),
            running: BTreeSet::new(),
            failures: 0,
            strikes: 0,
            trial: false,
            owner_paused: false,
            hold: Hold::Free,
            paused: None,
            breath_until: Moment(0),
            breaths: 0,
            cap: u32::MAX,
            told: false,
            bucket: Bucket::new(config.sends_per_second),
            speed: Speed::default(),
            refused: BTreeSet::new(),
            done: 0,
            wanted: 0,
            last_sent: Moment(0),
        }
    }

    /// How many attempts are live there.
    pub fn used(&self) -> u32 {
        u32::try_from(self.running.len()).unwrap_or(u32::MAX)
    }

    /// How many jobs of a list that says `/listed` it may hold, free or taken; a breath does not count.
    pub fn slots(&self, listed: u32) -> u32 {
        let is_left_alone = self.paused.is_some() || self.owner_paused || self.hold != Hold::Free;
        if self.link != Link::Up || is_left_alone {
            return 0;
        }
        let slots = listed.min(self.credit.unwrap_or(u32::MAX)).min(self.cap);
        if self.trial { slots.min(1) } else { slots }
    }

    /// How many of these are free at `now`.
    pub fn free(&self, listed: u32, now: Moment) -> u32 {
        if self.breath_until > now { 0 } else { self.slots(listed).saturating_sub(self.used()) }
    }

    /// How many jobs it may be sent at once: as many as it will hold.
    pub fn burst(&self) -> u32 {
        self.credit.unwrap_or(u32::MAX).min(BURST_MAX)
    }

    /// Whether a job may go there at this very moment.
    pub fn open(&self, listed: u32, now: Moment) -> bool {
        self.free(listed, now) > 0 && self.bucket.peek(now, self.burst()).is_ok()
    }

    /// Whether a job should wait for it.
    pub fn prospect(&self, listed: u32, now: Moment, config: &Config) -> Prospect {
        match self.link {
            _ if self.hold != Hold::Free => Prospect::None,
            Link::Connecting { since, probe: false } if since + config.connect_patience > now => {
                Prospect::Hopeful
            }
            Link::Up if self.slots(listed) > 0 => Prospect::Capable,
            Link::Up if self.owner_paused => Prospect::None,
            Link::Up if self.paused.is_none() && self.dry_since + config.connect_patience > now => {
                Prospect::Hopeful
            }
            _ => Prospect::None,
        }
    }

    /// When something about it changes by time alone, after `now`.
    pub fn next_change(&self, now: Moment, config: &Config) -> Option<Moment> {
        let change = match &self.link {
            Link::Down { until, .. } if self.wanted > 0 => Some(*until),
            Link::Connecting { since, probe: false } => Some(*since + config.connect_patience),
            Link::Up => return self.next_change_up(now, config),
            _ => None,
        };
        change.filter(|at| *at > now)
    }

    fn next_change_up(&self, now: Moment, config: &Config) -> Option<Moment> {
        let paused = self.paused.as_ref().map(|(until, _)| *until);
        let dry = (self.credit == Some(0)).then(|| self.dry_since + config.connect_patience);
        [paused, dry, Some(self.breath_until)].into_iter().flatten().filter(|at| *at > now).min()
    }

    /// The link is up. What was refused may have been installed meanwhile.
    pub fn up(&mut self, now: Moment) {
        self.link = Link::Up;
        self.trial = self.failures > 0;
        self.strikes = 0;
        self.paused = None;
        self.breath_until = Moment(0);
        self.refused.clear();
        self.cap = u32::MAX;
        self.dry_since = now;
    }

    /// An attempt gave an answer: all is well.
    pub fn answered(&mut self) {
        self.failures = 0;
        self.strikes = 0;
        self.breaths = 0;
        self.cap = self.cap.saturating_add(1);
        self.trial = false;
        self.told = false;
        self.paused = None;
    }

    /// The link is down; returns for how long it is left alone.
    pub fn down(&mut self, now: Moment, lost: Lost, config: &Config, rng: &mut Rng) -> Duration {
        if self.paused.is_some() {
            // The attempts that this took along were counted just now: one failure, not two.
            self.failures = self.failures.saturating_sub(1);
        }
        let longest = if lost.nobody_home { config.knock_max } else { config.backoff_max };
        let wait = self.next_wait(longest, config, rng);
        self.link = Link::Down { until: now + wait, why: lost.why };
        self.credit = None;
        self.paused = None;
        self.owner_paused = false;
        wait
    }

    /// An attempt failed on a live link; returns a wait if that was once too often.
    pub fn strike(&mut self, now: Moment, why: &str, config: &Config, rng: &mut Rng) -> Option<Duration> {
        self.strikes += 1;
        let patient = self.strikes < config.strikes_max && !self.trial;
        if self.link != Link::Up || self.paused.is_some() || patient {
            return None;
        }
        let wait = self.next_wait(config.backoff_max, config, rng);
        self.paused = Some((now + wait, why.to_owned()));
        Some(wait)
    }

    fn next_wait(&mut self, longest: Duration, config: &Config, rng: &mut Rng) -> Duration {
        let doubled = config.backoff_first.saturating_mul(1 << self.failures.min(16));
        let cap = longest * (JITTER_SHARE as u32) / (JITTER_SHARE as u32 + 1);
        let base = doubled.min(cap).max(Duration::from_millis(1));
        if doubled < cap || self.failures == 0 {
            self.failures = self.failures.saturating_add(1);
        }
        let micros = u64::try_from(base.as_micros()).unwrap_or(u64::MAX);
        base + Duration::from_micros(rng.below(micros / JITTER_SHARE + 1))
    }

    /// It is full: leaves it alone for a moment, longer each time in a row.
    pub fn breathe(&mut self, now: Moment, config: &Config) {
        self.cap = self.used().max(1);
        // Several jobs that were turned away at once are one sign, not several.
        if self.breath_until > now {
            return;
        }
        let breath = config.breath.saturating_mul(1 << self.breaths.min(16)).min(config.breath_max);
        self.breaths = self.breaths.saturating_add(1);
        self.breath_until = now + breath;
    }

    /// Its user says that it is well: whatever it is blamed for is forgotten, and the next job may have a
    /// link made and wait for it.
    pub fn forgive(&mut self) {
        if matches!(self.link, Link::Down { .. }) {
            self.link = Link::Untried;
        }
        self.paused = None;
        (self.failures, self.strikes, self.breaths) = (0, 0, 0);
        self.breath_until = Moment(0);
        (self.trial, self.told) = (false, false);
    }

    /// Ends a back-off on a live link whose time is over.
    pub fn expire_pause(&mut self, now: Moment) {
        if self.paused.as_ref().is_some_and(|(until, _)| *until <= now) {
            self.paused = None;
            self.strikes = 0;
            self.trial = true;
        }
    }

    /// Whether a connection should be asked for now.
    pub fn due(&self, now: Moment) -> bool {
        match &self.link {
            Link::Untried => true,
            Link::Down { until, .. } => *until <= now,
            Link::Connecting { .. } | Link::Up => false,
        }
    }

    /// A connection is asked for.
    pub fn connecting(&mut self, now: Moment) {
        self.link = Link::Connecting { since: now, probe: self.link != Link::Untried };
    }

    /// Why it takes no job, for people.
    pub fn trouble(&self) -> String {
        match (&self.link, &self.paused) {
            _ if self.hold != Hold::Free => held_words(self.hold).to_owned(),
            (Link::Down { why, .. }, _) | (Link::Up, Some((_, why))) => why.clone(),
            (Link::Up, None) if self.owner_paused => "it is paused".to_owned(),
            (Link::Up, None) => "it grants no slots".to_owned(),
            (Link::Untried | Link::Connecting { .. }, _) => "no connection yet".to_owned(),
        }
    }
}

/// Why a host that is held takes no job, for people.
pub fn held_words(hold: Hold) -> &'static str {
    match hold {
        Hold::Free => "",
        Hold::Drained => "it is drained",
        Hold::Excluded => "it is excluded",
        Hold::Distrusted => "it gave another object than this machine makes",
    }
}

/// All hosts, by a dense number in the order of their first mention.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    list: Vec<Host>,
    numbers: BTreeMap<HostId, usize>,
}

impl Hosts {
    /// The dense number of a host, given at its first mention.
    pub fn number(&mut self, id: HostId, config: &Config) -> usize {
        let Hosts { list, numbers } = self;
        *numbers.entry(id).or_insert_with(|| {
            list.push(Host::new(id, config));
            list.len() - 1
        })
    }

    /// The dense number of a host that was mentioned.
    pub fn find(&self, id: HostId) -> Option<usize> {
        self.numbers.get(&id).copied()
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Host> {
        self.list.iter()
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.list.len()
    }
}

impl std::ops::Index<usize> for Hosts {
    type Output = Host;

    fn index(&self, number: usize) -> &Host {
        &self.list[number]
    }
}

impl std::ops::IndexMut<usize> for Hosts {
    fn index_mut(&mut self, number: usize) -> &mut Host {
        &mut self.list[number]
    }
}
