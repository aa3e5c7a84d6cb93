//! Who runs next, and how many jobs each link may hold.
//!
//! Pure: told of links, jobs and samples of the machine, it answers with decisions. Slots are
//! shared fairly between the links that want them: free slots go round the links in turn, so one
//! client's two hundred jobs never keep another's one waiting for more than one round.
//!
//! Invariants: no more jobs run than there are slots; a free slot and a waiting job stay together
//! only while memory or load forbids; a link never holds more jobs than the credit it was given
//! at most.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

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
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This job has a slot.
    Start(Ticket),
    /// Tell this link.
    Credit(LinkId, Credit),
}

#[derive(Debug, Default)]
struct Link {
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

    /// Why no job is taken at all, if none is.
    pub fn closed(&self) -> Option<&str> {
        self.closed.as_deref()
    }

    /// How many jobs run.
    pub fn running(&self) -> u32 {
        self.links.values().map(|link| link.running.len() as u32).sum()
    }

    /// A client has connected.
    pub fn join(&mut self, link: LinkId) -> Vec<Decision> {
        self.links.insert(link, Link::default());
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

    /// The next link in the round that has a job waiting, and its first job.
    fn next_waiting(&mut self) -> Option<Ticket> {
        let wants = |link: &Link| !link.waiting.is_empty();
        let after = self.last_served.map_or(0, |LinkId(id)| id + 1);
        let id = self
            .links
            .range(LinkId(after)..)
            .chain(self.links.range(..LinkId(after)))
            .find(|(_, link)| wants(link))
            .map(|(id, _)| *id)?;
        let link = self.links.get_mut(&id)?;
        let ticket = link.waiting.pop_front()?;
        link.running.insert(ticket);
        self.last_served = Some(id);
        Some(ticket)
    }

    fn credits(&mut self) -> Vec<Decision> {
        let active = self.links.values().filter(|link| link.active).count() as u32;
        let ceiling = self.ceiling.min(self.policy.slots);
        let mut decisions = Vec::new();
        for (id, link) in &mut self.links {
            let sharers = active + u32::from(!link.active);
            let share = share(ceiling, sharers.max(1));
            let credit = match (&self.closed, share) {
                (Some(why), _) => Credit { jobs: 0, why: why.clone() },
                (None, 0) => Credit { jobs: 0, why: self.why.clone() },
                (None, share) => Credit { jobs: share + lookahead(share), why: self.why.clone() },
            };
            // The text alone changes with every sample; only the number is news.
            if credit.jobs != link.credit.jobs || link.credit == Credit::default() {
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
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn admission(slots: u32) -> Admission {
        Admission::new(Policy {
            slots,
            memory_floor: 100 * MIB,
            memory_per_job: 100 * MIB,
            disk_floor: 10 * MIB,
            load_max: 8,
        })
    }

    fn plenty() -> Sample {
        Sample { memory: Some(100_000 * MIB), disk: Some(100_000 * MIB), runnable: Some(0) }
    }

    fn started(decisions: &[Decision]) -> Vec<u64> {
        decisions
            .iter()
            .filter_map(|decision| match decision {
                Decision::Start(Ticket(number)) => Some(*number),
                Decision::Credit(..) => None,
            })
            .collect()
    }

    fn credit_of(decisions: &[Decision], wanted: LinkId) -> Option<u32> {
        decisions.iter().find_map(|decision| match decision {
            Decision::Credit(link, credit) if *link == wanted => Some(credit.jobs),
            _ => None,
        })
    }

    const A: LinkId = LinkId(1);
    const B: LinkId = LinkId(2);

    #[test]
    fn no_more_jobs_run_than_there_are_slots() {
        let mut admission = admission(2);
        admission.join(A);
        let all: Vec<_> = (1..=3).flat_map(|n| admission.request(A, Ticket(n))).collect();
        assert_eq!(started(&all), [1, 2]);
        assert_eq!(started(&admission.finish(A, Ticket(1))), [3]);
    }

    #[test]
    fn a_client_with_many_jobs_does_not_keep_another_waiting() {
        let mut admission = admission(1);
        admission.join(A);
        admission.join(B);
        for n in 1..=50 {
            admission.request(A, Ticket(n));
        }
        admission.request(B, Ticket(100));
        assert_eq!(started(&admission.finish(A, Ticket(1))), [100]);
        assert_eq!(started(&admission.finish(B, Ticket(100))), [2]);
    }

    #[test]
    fn a_lost_client_frees_its_slots_at_once() {
        let mut admission = admission(1);
        admission.join(A);
        admission.join(B);
        admission.request(A, Ticket(1));
        admission.request(B, Ticket(2));
        assert_eq!(started(&admission.leave(A)), [2]);
    }

    #[test]
    fn a_withdrawn_job_is_never_started() {
        let mut admission = admission(1);
        admission.join(A);
        admission.request(A, Ticket(1));
        admission.request(A, Ticket(2));
        admission.finish(A, Ticket(2));
        assert_eq!(started(&admission.finish(A, Ticket(1))), [] as [u64; 0]);
    }

    #[test]
    fn a_lone_client_gets_everything_and_idle_ones_do_not_shrink_it() {
        let mut admission = admission(8);
        assert_eq!(credit_of(&admission.join(A), A), Some(10));
        admission.join(B);
        admission.request(A, Ticket(1));
        admission.sample(&plenty());
        let decisions = admission.sample(&plenty());
        assert_eq!(credit_of(&decisions, A), None, "A keeps all of it");
        admission.request(B, Ticket(2));
        assert_eq!(credit_of(&admission.sample(&plenty()), A), Some(5));
    }

    #[test]
    fn without_memory_nothing_starts_and_credit_is_zero_with_a_reason() {
        let mut admission = admission(4);
        admission.join(A);
        let decisions = admission.sample(&Sample { memory: Some(50 * MIB), ..plenty() });
        let why = "memory: 50 MiB available".to_owned();
        assert_eq!(decisions, [Decision::Credit(A, Credit { jobs: 0, why })]);
        assert_eq!(started(&admission.request(A, Ticket(1))), [] as [u64; 0]);
        assert_eq!(started(&admission.sample(&plenty())), [1]);
    }

    #[test]
    fn memory_for_one_more_job_starts_one_more_job() {
        let mut admission = admission(4);
        admission.join(A);
        admission.request(A, Ticket(1));
        admission.sample(&Sample { memory: Some(250 * MIB), ..plenty() });
        assert_eq!(started(&admission.request(A, Ticket(2))), [2]);
        assert_eq!(started(&admission.request(A, Ticket(3))), [] as [u64; 0]);
    }

    #[test]
    fn a_full_disk_closes_the_door() {
        let mut admission = admission(4);
        admission.join(A);
        let decisions = admission.sample(&Sample { disk: Some(MIB), ..plenty() });
        assert_eq!(credit_of(&decisions, A), Some(0));
        assert!(admission.closed().is_some_and(|why| why.starts_with("disk:")));
        assert_eq!(credit_of(&admission.sample(&plenty()), A), Some(5));
    }

    #[test]
    fn the_owners_load_takes_slots_back_but_never_the_last() {
        let mut admission = admission(4);
        admission.join(A);
        let busy = Sample { runnable: Some(100), ..plenty() };
        let decisions: Vec<_> = (0..4).flat_map(|_| admission.sample(&busy)).collect();
        assert_eq!(credit_of(&decisions, A), Some(2), "one slot and one ahead");
        let back: Vec<_> = (0..8).flat_map(|_| admission.sample(&plenty())).collect();
        assert!(
            back.iter().any(|decision| matches!(decision, Decision::Credit(_, credit) if credit.jobs == 5))
        );
    }

    #[test]
    fn our_own_jobs_are_not_the_owners_load() {
        let mut admission = admission(20);
        admission.join(A);
        for n in 0..20 {
            admission.request(A, Ticket(n));
        }
        for _ in 0..8 {
            let decisions = admission.sample(&Sample { runnable: Some(24), ..plenty() });
            assert_eq!(credit_of(&decisions, A), None);
        }
    }
}
