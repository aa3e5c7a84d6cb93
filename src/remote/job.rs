//! One job, from request to result: checks, toolchain, input, slot, compile.
//!
//! A job ends in exactly one [`Event::Done`], unless nobody listens any more. What blocks runs on
//! threads that may; waits are for the input, for a slot and for the compiler, each bounded by the
//! job's deadline and ended by its [`Control`].

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::acceptable;
use super::classic::Terms;
use super::clients::{Clients, Held};
use super::compile::{self, JobDirectory, Product, Workshop, disk_refusal};
use super::couriers::Couriers;
use super::gate::{Gate, Member, Place};
use super::guard::Guard;
use super::hermetic::bundle::Lie;
use super::hermetic::{Hermetic, Want};
use super::intake::{self, Intake, IntakeError};
use super::owner::roster::Roster;
use super::process::Control;
use super::root::Root;
use super::stats::Stats;
use super::store::Store;
use super::toolchain::{Compiler, Toolchains};
use crate::common::action::Action;
use crate::common::protocol::link::{Refusal, Unprovided};

/// What jobs of all links share.
#[derive(Debug)]
pub struct Context {
    /// Where everything lies.
    pub root: Root,
    /// Where they wait.
    pub gate: Arc<Gate>,
    /// Where inputs are kept.
    pub store: Arc<Store>,
    /// What hermetic jobs need besides; or why there can be none.
    pub hermetic: Result<Hermetic, String>,
    /// The compilers.
    pub toolchains: Toolchains,
    /// Where they run.
    pub workshop: Workshop,
    /// Who kills them when the daemon dies.
    pub guard: Guard,
    /// What the classic protocol needs besides.
    pub classic: Terms,
    /// How many run at once, for the hello.
    pub slots: u32,
    /// What has been done so far.
    pub stats: Stats,
    /// Who is here, and has what.
    pub clients: Clients,
    /// Which link brings what of compilers.
    pub couriers: Arc<Mutex<Couriers>>,
    /// Who compiles what, for the owner of the machine.
    pub roster: Arc<Roster>,
}

impl Context {
    /// Makes again what somebody removed beneath the running daemon. The number that is returned is another than
    /// before where that was so, or where others changed stored files: what was made in between is worth nothing.
    ///
    /// # Errors
    ///
    /// Returns a refusal when there is no place to work that is ours alone.
    pub fn look(&self) -> Result<u64, Refusal> {
        self.mend()?;
        Ok(self.store.look())
    }

    /// Makes again what somebody removed, whatever became of stored files.
    ///
    /// # Errors
    ///
    /// As [`Self::look`].
    pub fn mend(&self) -> Result<(), Refusal> {
        let failed = |error: &io::Error| disk_refusal("work where this daemon's files were", error);
        let is_new = self.root.mend().map_err(|error| Refusal::Failed { detail: error.to_string() })?;
        self.store.mend(is_new).map_err(|error| failed(&error))?;
        self.workshop.confinement().mend().map_err(|error| failed(&error))?;
        if let Ok(hermetic) = &self.hermetic {
            hermetic.sandbox.mend().and_then(|()| hermetic.pool.mend()).map_err(|error| failed(&error))?;
        }
        Ok(())
    }
}

/// What a job tells its session.
#[derive(Debug)]
pub enum Event {
    /// It wants its input.
    NeedInput {
        /// The job's number on its link.
        job: u32,
    },
    /// It has taken this much of its input.
    Consumed {
        /// The job's number on its link.
        job: u32,
        /// Bytes.
        bytes: u64,
    },
    /// It is over.
    Done {
        /// The job's number on its link.
        job: u32,
        /// The result, or why there is none.
        outcome: Result<Product, Refusal>,
    },
    /// Somebody wants files.
    Want(Want),
    /// Inputs are there, or cannot be.
    Provisioned {
        /// The provision's number on its link.
        provision: u32,
        /// Whether they are, or why not.
        outcome: Result<(), Unprovided>,
    },
    /// A bundle's task has taken this much of it.
    BundleConsumed {
        /// The bundle's number on its link.
        bundle: u32,
        /// Bytes.
        bytes: u64,
    },
    /// A bundle is over.
    BundleDone {
        /// The bundle's number on its link.
        bundle: u32,
        /// What of it could not be taken, if so; or that it was not what was announced.
        outcome: Result<Option<Refusal>, Lie>,
    },
}

/// One job's request.
#[derive(Debug)]
pub struct Order {
    /// Its number on its link.
    pub job: u32,
    /// What to do.
    pub action: Arc<Action>,
    /// When it is of no use any more.
    pub deadline: Instant,
    /// The deadline as it was given, for the refusal.
    pub deadline_seconds: u64,
    /// Ends it.
    pub control: Arc<Control>,
    /// Its input, once it has asked for it.
    pub input: mpsc::Receiver<Vec<u8>>,
    /// What its client has less of as long as somebody works at it.
    pub held: Arc<[Held; 2]>,
}

/// Does a job and reports to `events`.
pub async fn run(mut order: Order, member: Arc<Member>, context: Arc<Context>, events: mpsc::Sender<Event>) {
    let job = order.job;
    let timed_out = Refusal::TimedOut { seconds: order.deadline_seconds };
    let outcome = steps(&mut order, &member, &context, &events, timed_out).await;
    let _ = events.send(Event::Done { job, outcome }).await;
}

async fn steps(
    order: &mut Order,
    member: &Member,
    context: &Arc<Context>,
    events: &mpsc::Sender<Event>,
    timed_out: Refusal,
) -> Result<Product, Refusal> {
    let store = context.store.of(member.client);
    let ready = prepare(order, context, store.clone()).await?;
    if !ready.has_input {
        let _ = events.send(Event::NeedInput { job: order.job }).await;
        let receiving = tokio::time::timeout_at(order.deadline.into(), receive(order, &ready, store, events));
        receiving.await.map_err(|_| timed_out.clone())??;
    }
    // Only now: a job that waits for its input must not keep a slot idle.
    let mut place = member.enter();
    let control = Arc::clone(&order.control);
    tokio::select! {
        granted = place.granted() => granted?,
        () = control.cancelled() => return Err(cancelled()),
        () = tokio::time::sleep_until(order.deadline.into()) => return Err(timed_out),
    }
    compile(order, ready, place, context).await
}

/// What a job has before it runs.
struct Ready {
    compiler: Compiler,
    directory: Arc<JobDirectory>,
    has_input: bool,
    /// See [`Context::look`].
    epoch: u64,
}

async fn prepare(order: &Order, context: &Arc<Context>, store: Store) -> Result<Ready, Refusal> {
    let (action, context, held) = (Arc::clone(&order.action), Arc::clone(context), Arc::clone(&order.held));
    blocking(move || {
        let _held = held;
        acceptable::check(&action)?;
        let compiler = context.toolchains.find(&action.toolchain, &context.guard)?;
        let epoch = context.look()?;
        let directory = context.workshop.directory()?;
        let (path, blob) = (directory.input(&action), compile::source(&action));
        let has_input = intake::from_store(&path, blob, &store).map_err(intake_refusal)?;
        Ok(Ready { compiler, directory: Arc::new(directory), has_input, epoch })
    })
    .await
}

/// Takes the input piece by piece, as the session hands it over.
async fn receive(
    order: &mut Order,
    ready: &Ready,
    store: Store,
    events: &mpsc::Sender<Event>,
) -> Result<(), Refusal> {
    let (path, blob) = (ready.directory.input(&order.action), *compile::source(&order.action));
    let shared = store.clone();
    let start = move || Intake::start(&blob, &shared).map_err(intake_refusal);
    let mut intake = blocking(start).await?;
    while !intake.is_complete() {
        let piece = tokio::select! {
            piece = order.input.recv() => piece.ok_or_else(cancelled)?,
            () = order.control.cancelled() => return Err(cancelled()),
        };
        let (bytes, held) = (piece.len() as u64, Arc::clone(&order.held));
        intake = blocking(move || {
            let _held = held;
            intake.push(&piece).map_err(intake_refusal)?;
            Ok(intake)
        })
        .await?;
        let _ = events.send(Event::Consumed { job: order.job, bytes }).await;
    }
    blocking(move || intake.finish(&path, &store).map_err(intake_refusal)).await
}

async fn compile(
    order: &Order,
    ready: Ready,
    place: Place,
    context: &Arc<Context>,
) -> Result<Product, Refusal> {
    let (action, control, context) =
        (Arc::clone(&order.action), Arc::clone(&order.control), Arc::clone(context));
    let deadline = order.deadline;
    let held = Arc::clone(&order.held);
    blocking(move || {
        let _held = held;
        let Ready { compiler, directory, epoch, .. } = ready;
        let workshop = &context.workshop;
        let product = workshop.compile(&compiler, &action, &directory, &control, &context.guard, deadline);
        drop(place);
        if context.look()? != epoch {
            let detail = "others changed what it was made of".to_owned();
            return Err(Refusal::Overloaded { detail });
        }
        product
    })
    .await
}

/// Runs what may wait for disks and processes on a thread for it.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let failed = |error| Err(Refusal::Failed { detail: format!("a worker thread ended: {error}") });
    spawn_blocking(work).await.unwrap_or_else(failed)
}

fn intake_refusal(error: IntakeError) -> Refusal {
    match error {
        IntakeError::Disk(error) => disk_refusal("write the input", &error),
        IntakeError::Lie(_) => Refusal::Failed { detail: error.to_string() },
    }
}

/// Nobody hears this: the job was cancelled, or its client is gone.
pub(super) fn cancelled() -> Refusal {
    Refusal::Failed { detail: "cancelled".to_owned() }
}
