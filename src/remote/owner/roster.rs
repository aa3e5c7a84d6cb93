//! Who compiles what here at this moment, and what each client has had since the daemon started.
//!
//! Sessions of either protocol tell when a job begins and how it ends; nobody else writes. A job that is
//! dropped without a word was killed with its link. Names are a peer's and are kept short.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::remote::clients::ClientId;
use crate::remote::process::Control;
use crate::remote::stats::Outcome;

/// Clients that are remembered; beyond it those go that have been away longest.
const CLIENTS_MAX: usize = 256;

/// Letters of a name that are kept.
const NAME_MAX: usize = 200;

/// The book.
#[derive(Debug, Default)]
pub struct Roster(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    next: u64,
    jobs: BTreeMap<u64, Job>,
    clients: HashMap<ClientId, Tally>,
}

/// Whose job it is.
#[derive(Clone, Debug)]
pub struct Who {
    /// For sharing.
    pub client: ClientId,
    /// What it is called here.
    pub name: String,
    /// Where it comes from.
    pub from: String,
}

#[derive(Debug)]
struct Job {
    client: ClientId,
    compiler: String,
    source: String,
    begun: Instant,
    control: Arc<Control>,
}

/// What a client has had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// What it is called here.
    pub name: String,
    /// Where it came from last.
    pub from: String,
    /// Jobs that it has now, running or not.
    pub jobs: u32,
    /// Compiles that succeeded.
    pub ok: u64,
    /// Compiles whose compiler failed, as a source with an error makes it.
    pub failed: u64,
    /// Jobs that came to nothing: cancelled, timed out, turned away.
    pub other: u64,
    /// Processor time of compilers that are over.
    pub cpu: Duration,
    /// When it was last heard of.
    pub last: Instant,
}

/// A job that is not over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// Whose.
    pub client: String,
    /// Its compiler's name.
    pub compiler: String,
    /// Its source, as far as it has a name here.
    pub source: String,
    /// When it came.
    pub begun: Instant,
    /// The leader of its processes; none while it waits for its inputs or for a slot.
    pub leader: Option<Pid>,
}

/// A job's line in the book; it goes when this is dropped.
#[derive(Debug)]
pub struct Entry {
    roster: Arc<Roster>,
    number: u64,
    /// Its compiler's name.
    pub compiler: String,
    /// Its source, `-` where it has no name here.
    pub source: String,
    /// When it came.
    pub begun: Instant,
}

impl Roster {
    /// A job has come.
    pub fn begin(
        self: &Arc<Self>,
        who: &Who,
        compiler: String,
        source: String,
        control: &Arc<Control>,
    ) -> Entry {
        let begun = Instant::now();
        let mut book = self.book();
        book.next += 1;
        let number = book.next;
        book.tally(who, begun).jobs += 1;
        let job = Job {
            client: who.client,
            compiler: compiler.clone(),
            source: source.clone(),
            begun,
            control: Arc::clone(control),
        };
        book.jobs.insert(number, job);
        drop(book);
        Entry { roster: Arc::clone(self), number, compiler, source, begun }
    }

    /// The jobs that are not over, oldest first.
    pub fn live(&self) -> Vec<Live> {
        let book = self.book();
        let name = |job: &Job| book.clients.get(&job.client).map(|tally| tally.name.clone());
        let live = |job: &Job| Live {
            client: name(job).unwrap_or_default(),
            compiler: job.compiler.clone(),
            source: job.source.clone(),
            begun: job.begun,
            leader: job.control.leader(),
        };
        book.jobs.values().map(live).collect()
    }

    /// What each client has had, whoever was here last first.
    pub fn tallies(&self) -> Vec<Tally> {
        let mut tallies: Vec<Tally> = self.book().clients.values().cloned().collect();
        tallies.sort_by_key(|tally| std::cmp::Reverse((tally.jobs, tally.last)));
        tallies
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn tally(&mut self, who: &Who, now: Instant) -> &mut Tally {
        if !self.clients.contains_key(&who.client) && self.clients.len() >= CLIENTS_MAX {
            let idle = self.clients.iter().filter(|(_, tally)| tally.jobs == 0);
            let oldest = idle.min_by_key(|(_, tally)| tally.last).map(|(client, _)| *client);
            // Clients with jobs are bounded by the connections that there may be.
            oldest.and_then(|client| self.clients.remove(&client));
        }
        let tally = self.clients.entry(who.client).or_insert_with(|| Tally {
            name: String::new(),
            from: String::new(),
            jobs: 0,
            ok: 0,
            failed: 0,
            other: 0,
            cpu: Duration::ZERO,
            last: now,
        });
        (tally.name, tally.from, tally.last) = (short(&who.name), short(&who.from), now);
        tally
    }

    fn end(&mut self, number: u64, outcome: Outcome, cpu: Duration) {
        let Some(job) = self.jobs.remove(&number) else { return };
        let Some(tally) = self.clients.get_mut(&job.client) else { return };
        tally.jobs -= 1;
        tally.cpu += cpu;
        tally.last = Instant::now();
        *match outcome {
            Outcome::Ok => &mut tally.ok,
            Outcome::Error => &mut tally.failed,
            Outcome::Timeout | Outcome::Disconnected | Outcome::BadRequest | Outcome::Other => {
                &mut tally.other
            }
        } += 1;
    }
}

impl Entry {
    /// The job is over, after its compiler took so much processor time.
    pub fn end(&self, outcome: Outcome, cpu: Duration) {
        self.roster.book().end(self.number, outcome, cpu);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.roster.book().end(self.number, Outcome::Disconnected, Duration::ZERO);
    }
}

fn short(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(number: u64, name: &str) -> Who {
        Who { client: ClientId(number), name: name.to_owned(), from: "192.0.2.7:1".to_owned() }
    }

    fn begin(roster: &Arc<Roster>, who: &Who) -> Entry {
        roster.begin(who, "gcc".to_owned(), "a.c".to_owned(), &Arc::default())
    }

    #[test]
    fn each_job_counts_once_however_it_ends() {
        let roster = Arc::new(Roster::default());
        let ann = who(1, "ann");
        let (good, bad, lost) = (begin(&roster, &ann), begin(&roster, &ann), begin(&roster, &ann));
        assert_eq!((roster.live().len(), roster.tallies()[0].jobs), (3, 3));
        good.end(Outcome::Ok, Duration::from_secs(2));
        bad.end(Outcome::Error, Duration::from_secs(1));
        drop((good, bad, lost));
        let tallies = roster.tallies();
        let [tally] = &tallies[..] else { panic!("{tallies:?}") };
        assert_eq!((tally.jobs, tally.ok, tally.failed, tally.other), (0, 1, 1, 1));
        assert_eq!((tally.cpu, roster.live().len()), (Duration::from_secs(3), 0));
    }

    #[test]
    fn a_client_that_left_long_ago_makes_room() {
        let roster = Arc::new(Roster::default());
        let held = begin(&roster, &who(0, "first"));
        for number in 1..=CLIENTS_MAX as u64 + 5 {
            drop(begin(&roster, &who(number, "another\u{7}")));
        }
        let tallies = roster.tallies();
        assert_eq!((tallies.len(), tallies[0].name.as_str()), (CLIENTS_MAX, "first"));
        assert!(tallies.iter().all(|tally| tally.name == "first" || tally.name == "another"));
        drop(held);
    }
}
