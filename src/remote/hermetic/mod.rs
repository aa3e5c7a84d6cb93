//! Hermetic compiles: the client's own command among the client's own paths.
//!
//! - [`adopt`] finds inputs that this machine has anyway; the rest is asked for, once
//!   ([`super::session`]), and comes in bundles ([`bundle`]);
//! - [`run`] lays out the job's view, runs the compiler in its box, and takes what it made
//!   ([`products`]), with what it read ([`audit`], [`opened`]) and what it printed, on a [`terminal`] or not.

pub mod adopt;
pub mod audit;
pub mod bundle;
pub mod opened;
pub mod products;
mod run;
pub mod terminal;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use super::clients::ClientId;
use super::compile::Product;
use super::gate::Member;
use super::items::{Input, Inputs, Resolved};
use super::job::{Context, Event, blocking, cancelled};
use super::line::Line;
use super::process::Control;
use super::sandbox::Sandbox;
use super::store::{Shortage, Store};
use super::view::catalogue::Catalogue;
use super::view::pool::Pool;
use crate::common::protocol::link::{Refusal, Unprovided};

use adopt::Adopter;
use opened::Instances;
use run::RunError;

/// How often a job's inputs are looked for anew because some went out of the store meanwhile.
const ROUNDS_MAX: usize = 4;

/// What hermetic jobs of all links share.
#[derive(Debug)]
pub struct Hermetic {
    /// The numbers of entries.
    pub catalogue: Catalogue,
    /// What this machine has anyway.
    pub adopter: Adopter,
    /// The trees.
    pub pool: Pool,
    /// The boxes.
    pub sandbox: Sandbox,
    /// Where the kernel tells what jobs open.
    pub instances: Instances,
}

impl Hermetic {
    /// What hermetic jobs need, beneath the directory `jobs`, for so many at once, each of which may
    /// write so much.
    ///
    /// # Errors
    ///
    /// Returns why there can be none on this machine, for people.
    pub fn new(jobs: &Path, slots: u32, scratch_bytes: u64) -> Result<Self, String> {
        let farms = jobs.join("farms");
        std::fs::create_dir(&farms).map_err(|error| error.to_string())?;
        let sandbox = Sandbox::probe(jobs, scratch_bytes, None)?;
        let pool = Pool::new(&farms, 2 * slots as usize + 2);
        let (catalogue, adopter, instances) = <(Catalogue, Adopter, Instances)>::default();
        Ok(Hermetic { catalogue, adopter, pool, sandbox, instances })
    }
}

/// One hermetic job's request.
#[derive(Debug)]
pub struct Order {
    /// Its number on its link.
    pub job: u32,
    /// What to do.
    pub compile: Arc<Resolved>,
    /// When it is of no use any more.
    pub deadline: Instant,
    /// The deadline as it was given, for the refusal.
    pub deadline_seconds: u64,
    /// Ends it.
    pub control: Arc<Control>,
    /// By which its result leaves.
    pub line: Line,
}

/// Files that are wanted.
#[derive(Debug)]
pub struct Want {
    /// Which.
    pub files: Vec<Input>,
    /// The epoch of their numbers.
    pub epoch: u64,
    /// Whether they are a toolchain's, which other clients may bring as well.
    pub of_toolchain: bool,
    /// Is told when all of them have come, or why they do not.
    pub done: oneshot::Sender<Result<(), Refusal>>,
}

/// Does a job and reports to `events`.
pub async fn run(order: Order, member: Arc<Member>, context: Arc<Context>, events: mpsc::Sender<Event>) {
    let job = order.job;
    let outcome = steps(&order, &member, &context, &events).await;
    let _ = events.send(Event::Done { job, outcome }).await;
}

impl Order {
    /// Waits for something, until the job is not wanted any more.
    async fn wait<T>(&self, wanted: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        tokio::select! {
            done = wanted => done,
            () = self.control.cancelled() => Err(cancelled()),
            () = tokio::time::sleep_until(self.deadline.into()) => {
                Err(Refusal::TimedOut { seconds: self.deadline_seconds })
            }
        }
    }
}

/// Has inputs ready, and says so.
pub async fn provision(
    number: u32,
    inputs: Inputs,
    client: ClientId,
    context: Arc<Context>,
    events: mpsc::Sender<Event>,
) {
    let outcome = gather(&inputs, client, &context, &events, true).await.map_err(|why| match why {
        Refusal::InputsChanged { detail } => Unprovided::InputsChanged { detail },
        Refusal::NoSuchToolchain { detail } => Unprovided::TooLarge { detail },
        other => Unprovided::Volunteer { detail: other.to_string() },
    });
    let _ = events.send(Event::Provisioned { provision: number, outcome }).await;
}

async fn steps(
    order: &Order,
    member: &Member,
    context: &Arc<Context>,
    events: &mpsc::Sender<Event>,
) -> Result<Product, Refusal> {
    for _ in 0..ROUNDS_MAX {
        order.wait(gather(&order.compile.inputs, member.client, context, events, false)).await?;
        // Only now: a job that waits for its inputs must not keep a slot idle.
        let mut place = member.enter();
        order.wait(place.granted()).await?;
        let (compile, control) = (Arc::clone(&order.compile), Arc::clone(&order.control));
        let (context, line, deadline) = (Arc::clone(context), order.line.clone(), order.deadline);
        let ran = blocking(move || {
            let ran = run::run(&compile, &context, &line, &control, deadline);
            drop(place);
            match ran {
                Err(RunError::Lost) => Ok(None),
                Err(RunError::Refused(why)) => Err(why),
                Ok(product) => Ok(Some(product)),
            }
        });
        if let Some(product) = ran.await? {
            return Ok(product);
        }
    }
    Err(too_small())
}

/// Sees to it that all files of a set are in the store.
async fn gather(
    inputs: &Inputs,
    client: ClientId,
    context: &Arc<Context>,
    events: &mpsc::Sender<Event>,
    of_toolchain: bool,
) -> Result<(), Refusal> {
    let inputs = Arc::new(inputs.clone());
    for _ in 0..ROUNDS_MAX {
        let (looked_at, shared) = (Arc::clone(&inputs), Arc::clone(context));
        let files = blocking(move || missing(&looked_at, client, &shared)).await?;
        if files.is_empty() {
            return Ok(());
        }
        // Nothing is asked for that would push out what belongs to it.
        let sizes = inputs
            .files
            .iter()
            .filter_map(|input| Some((input.known.key()?, input.known.entry.kind.file()?.size)));
        context.store.could_hold(sizes, context.workshop.spare_disk()).map_err(short)?;
        let (done, told) = oneshot::channel();
        let want = Want { files, epoch: inputs.epoch, of_toolchain, done };
        let _ = events.send(Event::Want(want)).await;
        told.await.map_err(|_| cancelled())??;
    }
    Err(too_small())
}

/// The files that are neither in the store nor on this machine.
fn missing(inputs: &Inputs, client: ClientId, context: &Context) -> Result<Vec<Input>, Refusal> {
    let Ok(hermetic) = &context.hermetic else { return Ok(Vec::new()) };
    let is_missing = |store: &Store, input: &Input| {
        let has = input.known.key().is_none_or(|key| store.has(&key));
        !has && !hermetic.adopter.adopt(&input.known, store)
    };
    let store = context.store.of(client);
    context.look()?;
    Ok(inputs.files.iter().filter(|input| is_missing(&store, input)).cloned().collect())
}

/// What never fits is not asked for again; with a full disk that may be otherwise later.
#[allow(clippy::needless_pass_by_value, reason = "it is used as a function of errors")]
fn short(shortage: Shortage) -> Refusal {
    let detail = shortage.to_string();
    match shortage {
        Shortage::Store { .. } => Refusal::NoSuchToolchain { detail },
        Shortage::Disk { .. } => Refusal::Failed { detail },
    }
}

fn too_small() -> Refusal {
    Refusal::Overloaded { detail: "the store is too small for what one job reads (--store-size)".to_owned() }
}
