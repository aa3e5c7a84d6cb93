//! Who runs next, and how many jobs each link may hold.
//!
//! Pure: told of links, jobs and samples of the machine, it answers with decisions. Slots are
//! shared fairly between the clients that want them, however many links each has: a free slot goes to the
//! client that has the fewest, and among equals in turn, so one client's two hundred jobs never keep
//! another's one waiting for longer than until the next slot is free.
//!
//! Invariants: no more jobs run than there are slots, and none of a client than it may have; a free slot
//! and a waiting job stay together only while that, memory or load forbids; a link never holds more jobs
//! than the credit it was given at most.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::clients::ClientId;

/// Why a volunteer takes no jobs whose owner has paused it.
pub const PAUSED: &str = "paused by its owner";

/// A connected client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// A job that waits for a slot or has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// What the volunteer gives away.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Jobs at once.
    pub slots: u32,
    /// Jobs at once of any one client.
    pub client_slots: u32,
    /// Memory that is kept free, in bytes.
    pub memory_floor: u64,
    /// Memory that a job is expected to need, in bytes.
    pub memory_per_job: u64,
    /// Disk space under which no job is taken, in bytes.
    pub disk_floor: u64,
    /// Runnable tasks of others above which slots are given back, one for one, down to one.
    pub load_max: u32,
}

/// What the machine has to give at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Memory that can be had without swapping, in bytes; `None` where it cannot be read.
    pub memory: Option<u64>,
    /// Space for temporary files, in bytes; `None` where it cannot be read.
    pub disk: Option<u64>,
    /// Runnable tasks, our jobs among them; `None` where they cannot be read.
    pub runnable: Option<u32>,
}

/// How many jobs a link may hold, and why they are not more.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Credit {
    /// Unfinished jobs at once.
    pub jobs: u32,
    /// Why fewer than the slots; empty when they are not.
    pub why: String,
    /// The owner of the machine has paused it.
    pub paused: bool,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This job has a slot.
    Start(Ticket),
    /// This job gets none: it is to go elsewhere.
    TurnAway(Ticket),
    /// Tell this link.
    Credit(LinkId, Credit),
}

#[derive(Debug, Default)]
struct Link {
    client: ClientId,
    waiting: VecDeque<Ticket>,
    running: BTreeSet<Ticket>,
    /// Whether it had a job since the last sample: idle links do not shrink the others' share.
    active: bool,
    credit: Credit,
}

/// The state: links, their jobs, and what the machine allows.
#[derive(Debug)]
pub struct Admission {
    policy: Policy,
    links: BTreeMap<LinkId, Link>,
    /// Where the round goes on.
    last_served: Option<LinkId>,
    /// How many may run until the next sample, and why not all slots.
    ceiling: u32,
    why: String,
    /// Nothing may be taken at all (disk full).
    closed: Option<String>,
    /// The owner of the machine wants no new jobs.
    paused: bool,
    /// Runnable tasks of others, smoothed.
    others: f64,
}

impl Admission {
    /// No links yet, and nothing known of the machine.
    pub fn new(policy: Policy) -> Self {
        let ceiling = policy.slots;
        Admission {
            policy,
            links: BTreeMap::new(),
            last_served: None,
            ceiling,
            why: String::new(),
            closed: None,
            paused: false,
            others: 0.0,
        }
    }

    /// Takes another policy, which counts from the next sample on.
    pub fn follow(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// The largest credit that is ever given: a little more than the slots, so that the next
    /// job's input arrives while the present ones run.
    pub fn credit_max(&self) -> u32 {
        self.policy.slots + lookahead(self.policy.slots)
    }

    /// How many bytes of what is kept to save time must go, so that jobs can be taken again: enough for a while.
    pub fn disk_wanted(&self, sample: &Sample) -> u64 {
        let floor = self.policy.disk_floor;
        sample.disk.filter(|free| *free < floor).map_or(0, |free| floor.saturating_mul(2) - free)
    }

    /// Whether so little of the disk is free that trees for jobs to come must go.
    pub fn is_short_of_disk(&self, sample: &Sample) -> bool {
        sample.disk.is_some_and(|free| free < 2 * self.policy.disk_floor)
    }

    /// Why no job is taken at all, if none is.
    pub fn closed(&self) -> Option<&str> {
        if self.paused { Some(PAUSED) } else { self.closed.as_deref() }
    }

    /// Whether the owner has paused it.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// The owner pauses it, or lets it go on: while it is paused no job starts, those that wait are turned
    /// away, and those that run are left to end.
    pub fn pause(&mut self, paused: bool) -> Vec<Decision> {
        self.paused = paused;
        let mut decisions = Vec::new();
        if paused {
            let waiting = self.links.values_mut().flat_map(|link| std::mem::take(&mut link.waiting));
            decisions.extend(waiting.map(Decision::TurnAway));
        }
        decisions.extend(self.credits());
        decisions
    }

    /// How many jobs run.
    pub fn running(&self) -> u32 {
        self.links.values().map(|link| link.running.len() as u32).sum()
    }

    /// How many jobs wait for a slot.
    pub fn waiting(&self) -> u32 {
        self.links.values().map(|link| link.waiting.len() as u32).sum()
    }

    /// A client has connected.
    pub fn join(&mut self, link: LinkId, client: ClientId) -> Vec<Decision> {
        self.links.insert(link, Link { client, ..Link::default() });
        self.credits()
    }

    /// A client is gone; its jobs have been finished or withdrawn, or are so now.
    pub fn leave(&mut self, link: LinkId) -> Vec<Decision> {
        self.links.remove(&link);
        let mut decisions = self.starts();
        decisions.extend(self.credits());
        decisions
    }

    /// A job wants a slot.
    pub fn request(&mut self, link: LinkId, ticket: Ticket) -> Vec<Decision> {
        if self.paused {
            return vec![Decision::TurnAway(ticket)];
        }
        if let Some(link) = self.links.get_mut(&link) {
            link.waiting.push_back(ticket);
            link.active = true;
        }
        self.starts()
    }

    /// A job gives its slot back, or its place in the queue.
    pub fn finish(&mut self, link: LinkId, ticket: Ticket) -> Vec<Decision> {
        if let Some(link) = self.links.get_mut(&link) {
            link.running.remove(&ticket);
            link.waiting.retain(|other| *other != ticket);
        }
        self.starts()
    }

    /// The machine was looked at. To be called about twice a second.
    pub fn sample(&mut self, sample: &Sample) -> Vec<Decision> {
        self.closed = sample.disk.filter(|free| *free < self.policy.disk_floor).map(|free| {
            format!("disk: {} MiB free, {} MiB are kept", free >> 20, self.policy.disk_floor >> 20)
        });
        let running = self.running();
        let (by_memory, memory_why) = self.ceiling_by_memory(sample.memory, running);
        let (by_load, load_why) = self.ceiling_by_load(sample.runnable, running);
        (self.ceiling, self.why) =
            if by_memory <= by_load { (by_memory, memory_why) } else { (by_load, load_why) };
        let mut decisions = self.starts();
        decisions.extend(self.credits());
        for link in self.links.values_mut() {
            link.active = !(link.waiting.is_empty() && link.running.is_empty());
        }
        decisions
    }

    fn ceiling_by_memory(&self, memory: Option<u64>, running: u32) -> (u32, String) {
        let slots = self.policy.slots;
        let Some(memory) = memory else { return (slots, String::new()) };
        let spare = memory.saturating_sub(self.policy.memory_floor) / self.policy.memory_per_job.max(1);
        let ceiling = running.saturating_add(u32::try_from(spare).unwrap_or(u32::MAX));
        match ceiling < slots {
            true => (ceiling, format!("memory: {} MiB available", memory >> 20)),
            false => (slots, String::new()),
        }
    }

    fn ceiling_by_load(&mut self, runnable: Option<u32>, running: u32) -> (u32, String) {
        let slots = self.policy.slots;
        let Some(runnable) = runnable else { return (slots, String::new()) };
        self.others = (self.others + f64::from(runnable.saturating_sub(running))) / 2.0;
        let surplus = (self.others - f64::from(self.policy.load_max)).max(0.0) as u32;
        match surplus {
            0 => (slots, String::new()),
            surplus => (
                slots.saturating_sub(surplus).max(1),
                format!("load: {:.0} runnable tasks of others", self.others),
            ),
        }
    }

    fn starts(&mut self) -> Vec<Decision> {
        let mut decisions = Vec::new();
        let mut free = self.ceiling.min(self.policy.slots).saturating_sub(self.running());
        while free > 0 {
            let Some(ticket) = self.next_waiting() else { break };
            decisions.push(Decision::Start(ticket));
            free -= 1;
        }
        decisions
    }

    /// The first job of the client that has the fewest slots and wants one; among equals, and among the links
    /// of one client, in turn.
    fn next_waiting(&mut self) -> Option<Ticket> {
        let running = self.running_by_client();
        let of = |link: &Link| running.get(&link.client).copied().unwrap_or(0);
        let after = self.last_served.map_or(0, |LinkId(id)| id + 1);
        let round = self.links.range(LinkId(after)..).chain(self.links.range(..LinkId(after)));
        let wanting =
            round.filter(|(_, link)| !link.waiting.is_empty() && of(link) < self.policy.client_slots);
        // The first of several that have equally few.
        let id = wanting.min_by_key(|(_, link)| of(link)).map(|(id, _)| *id)?;
        let link = self.links.get_mut(&id)?;
        let ticket = link.waiting.pop_front()?;
        link.running.insert(ticket);
        self.last_served = Some(id);
        Some(ticket)
    }

    fn running_by_client(&self) -> BTreeMap<ClientId, u32> {
        let mut running = BTreeMap::new();
        for link in self.links.values() {
            *running.entry(link.client).or_default() += link.running.len() as u32;
        }
        running
    }

    fn credits(&mut self) -> Vec<Decision> {
        // Links that want something, by client.
        let mut active = BTreeMap::<ClientId, u32>::new();
        for link in self.links.values().filter(|link| link.active) {
            *active.entry(link.client).or_default() += 1;
        }
        let ceiling = self.ceiling.min(self.policy.slots);
        let mut decisions = Vec::new();
        for (id, link) in &mut self.links {
            let own = active.get(&link.client).copied().unwrap_or(0);
            let clients = active.len() as u32 + u32::from(own == 0);
            let of_client = share(ceiling, clients.max(1)).min(self.policy.client_slots);
            let share = share(of_client, (own + u32::from(!link.active)).max(1));
            let paused = self.paused;
            let credit = match (&self.closed, share) {
                _ if paused => Credit { jobs: 0, why: PAUSED.to_owned(), paused },
                (Some(why), _) => Credit { jobs: 0, why: why.clone(), paused },
                (None, 0) => Credit { jobs: 0, why: self.why.clone(), paused },
                (None, share) => Credit { jobs: share + lookahead(share), why: self.why.clone(), paused },
            };
            // The text alone changes with every sample; only the number is news, and whose will it is.
            let is_news = (credit.jobs, credit.paused) != (link.credit.jobs, link.credit.paused);
            if is_news || link.credit == Credit::default() {
                link.credit = credit.clone();
                decisions.push(Decision::Credit(*id, credit));
            }
        }
        decisions
    }
}

/// A fair share, rounded up: a slot that nobody uses is worse than a queue of one.
fn share(ceiling: u32, sharers: u32) -> u32 {
    ceiling.div_ceil(sharers)
}

fn lookahead(share: u32) -> u32 {
    share.div_ceil(4)
}

#[cfg(test)]
mod tests;
