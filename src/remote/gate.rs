//! The shell around [`super::admit`]: links join, jobs wait at the gate, credits go out.
//!
//! The state is behind a mutex rather than in a task of its own, so that a slot is given back
//! the moment its holder is dropped, however it ended. It is never held across a wait.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{oneshot, watch};

use super::admit::{Admission, Credit, Decision, LinkId, PAUSED, Policy, Sample, Ticket};
use super::clients::ClientId;
use crate::common::protocol::link::Refusal;

/// Where jobs of all links wait for slots.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    admission: Admission,
    waiting: HashMap<Ticket, oneshot::Sender<()>>,
    links: HashMap<LinkId, watch::Sender<Credit>>,
    next: u64,
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn carry_out(&mut self, decisions: Vec<Decision>) {
        for decision in decisions {
            match decision {
                Decision::Start(ticket) => {
                    if let Some(waiter) = self.waiting.remove(&ticket) {
                        // A waiter that is gone gives its place back by itself.
                        let _ = waiter.send(());
                    }
                }
                // Whoever waits hears of it by the end of its channel.
                Decision::TurnAway(ticket) => drop(self.waiting.remove(&ticket)),
                Decision::Credit(link, credit) => {
                    if let Some(sender) = self.links.get(&link) {
                        sender.send_replace(credit);
                    }
                }
            }
        }
    }
}

impl Gate {
    /// An open gate.
    pub fn new(policy: Policy) -> Arc<Self> {
        let admission = Admission::new(policy);
        let state = State { admission, waiting: HashMap::new(), links: HashMap::new(), next: 0 };
        Arc::new(Gate { state: Mutex::new(state) })
    }

    /// Holds to this policy from the next sample on; jobs that run are left to end.
    pub fn follow(&self, policy: Policy) {
        self.state().admission.follow(policy);
    }

    /// A link of this client has come up.
    pub fn join(self: &Arc<Self>, client: ClientId) -> Member {
        let mut state = self.state();
        let id = LinkId(state.number());
        let (sender, credit) = watch::channel(Credit::default());
        state.links.insert(id, sender);
        let decisions = state.admission.join(id, client);
        state.carry_out(decisions);
        drop(state);
        Member { gate: Arc::clone(self), id, client, credit }
    }

    /// The machine was looked at.
    pub fn sample(&self, sample: &Sample) {
        let mut state = self.state();
        let decisions = state.admission.sample(sample);
        state.carry_out(decisions);
    }

    /// See [`Admission::disk_wanted`].
    pub fn disk_wanted(&self, sample: &Sample) -> u64 {
        self.state().admission.disk_wanted(sample)
    }

    /// See [`Admission::is_short_of_disk`].
    pub fn is_short_of_disk(&self, sample: &Sample) -> bool {
        self.state().admission.is_short_of_disk(sample)
    }

    /// The owner pauses the volunteer, or lets it go on; whether that is news.
    pub fn pause(&self, paused: bool) -> bool {
        let mut state = self.state();
        let is_news = state.admission.is_paused() != paused;
        let decisions = state.admission.pause(paused);
        state.carry_out(decisions);
        is_news
    }

    /// Whether the owner has paused the volunteer.
    pub fn is_paused(&self) -> bool {
        self.state().admission.is_paused()
    }

    /// Why no job is taken, if none is.
    pub fn closed(&self) -> Option<String> {
        self.state().admission.closed().map(str::to_owned)
    }

    /// The most unfinished jobs that a link may ever have.
    pub fn credit_max(&self) -> usize {
        self.state().admission.credit_max() as usize
    }

    /// The jobs that run.
    pub fn running(&self) -> u32 {
        self.state().admission.running()
    }

    /// The jobs that wait for a slot.
    pub fn waiting(&self) -> u32 {
        self.state().admission.waiting()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A link's membership; it leaves when this is dropped.
#[derive(Debug)]
pub struct Member {
    gate: Arc<Gate>,
    id: LinkId,
    /// Whose link it is.
    pub client: ClientId,
    /// What to tell the client, as it changes.
    pub credit: watch::Receiver<Credit>,
}

impl Member {
    /// Queues a job.
    pub fn enter(&self) -> Place {
        let mut state = self.gate.state();
        let ticket = Ticket(state.number());
        let (sender, granted) = oneshot::channel();
        state.waiting.insert(ticket, sender);
        let decisions = state.admission.request(self.id, ticket);
        state.carry_out(decisions);
        drop(state);
        Place { gate: Arc::clone(&self.gate), link: self.id, ticket, granted }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.links.remove(&self.id);
        let decisions = state.admission.leave(self.id);
        state.carry_out(decisions);
    }
}

/// A job's place in the queue, later its slot; given back when this is dropped.
#[derive(Debug)]
pub struct Place {
    gate: Arc<Gate>,
    link: LinkId,
    ticket: Ticket,
    granted: oneshot::Receiver<()>,
}

impl Place {
    /// Returns when the job may run.
    ///
    /// # Errors
    ///
    /// Returns that it is turned away: it is to run elsewhere.
    pub async fn granted(&mut self) -> Result<(), Refusal> {
        // A sender that goes without a word was thrown away.
        (&mut self.granted).await.map_err(|_| Refusal::Overloaded { detail: PAUSED.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.waiting.remove(&self.ticket);
        let decisions = state.admission.finish(self.link, self.ticket);
        state.carry_out(decisions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(slots: u32) -> Arc<Gate> {
        Gate::new(Policy {
            slots,
            client_slots: slots,
            memory_floor: 0,
            memory_per_job: 1,
            disk_floor: 0,
            load_max: 1000,
        })
    }

    #[tokio::test]
    async fn a_dropped_place_lets_the_next_one_in() {
        let gate = gate(1);
        let member = gate.join(ClientId(1));
        assert_eq!(member.credit.borrow().jobs, 2);
        let mut first = member.enter();
        first.granted().await.expect("a slot");
        let mut second = member.enter();
        assert!(second.granted.try_recv().is_err());
        drop(first);
        second.granted().await.expect("a slot");
    }

    #[tokio::test]
    async fn a_link_that_leaves_frees_the_slots_of_its_jobs() {
        let gate = gate(1);
        let (one, other) = (gate.join(ClientId(1)), gate.join(ClientId(2)));
        let mut held = one.enter();
        held.granted().await.expect("a slot");
        let mut waiting = other.enter();
        drop(one);
        waiting.granted().await.expect("a slot");
        drop(held);
    }

    #[tokio::test]
    async fn a_job_that_waits_is_turned_away_by_a_pause() {
        let gate = gate(1);
        let member = gate.join(ClientId(1));
        let mut held = member.enter();
        held.granted().await.expect("a slot");
        let mut waiting = member.enter();
        assert!(gate.pause(true) && !gate.pause(true));
        waiting.granted().await.expect_err("no slot");
        member.enter().granted().await.expect_err("no slot");
        assert!(gate.is_paused() && gate.pause(false));
        drop((held, waiting));
        member.enter().granted().await.expect("a slot");
    }
}
