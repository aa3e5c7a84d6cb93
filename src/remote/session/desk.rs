//! What a link says about hermetic compiles: items, provisions, compiles, bundles.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::feed::Feed;
use super::wants::Wants;
use super::{LinkEnd, LiveJob, Session};
use tracing::Instrument;

use crate::common::bytes::Bytes;
use crate::common::inputs::{FileEntry, Item, Runs};
use crate::common::limits::{
    BUNDLE_COST, BUNDLE_WINDOW_BYTES, BUNDLES_MAX, INPUT_MAX_BYTES, INPUTS_MAX, LINK_WINDOW_BYTES,
    PROVISIONS_MAX,
};
use crate::common::protocol::link::{Compile, Refusal, ToBroker, ToVolunteer, Unprovided};
use crate::common::toolchain::Digest;
use crate::remote::clients::{ARRIVING_MAX_BYTES, ENTRIES_MAX, Good, Held, ITEMS_MAX_BYTES};
use crate::remote::compile::packed_max;
use crate::remote::couriers::Promised;
use crate::remote::hermetic::bundle::{Bundle, Lie};
use crate::remote::hermetic::{self, Order, Want};
use crate::remote::items::{Dictionary, Inputs, Resolved};
use crate::remote::job::{Event, blocking};
use crate::remote::process::Control;
use crate::remote::store::Store;
use crate::remote::view::catalogue::Catalogue;

/// So much of the bundles' window is given back at once.
const GRANT_BYTES: u64 = BUNDLE_WINDOW_BYTES / 16;

/// What one link has said about hermetic compiles so far.
#[derive(Debug)]
pub struct Desk {
    dictionary: Dictionary,
    /// Counts its items among the client's, also when a job still holds what was forgotten.
    items: Option<Arc<Held>>,
    pub(super) wants: Wants,
    bundles: HashMap<u32, Arriving>,
    /// What the client may still send of bundles.
    window: u64,
    /// What was taken of them, and not yet given back.
    owed: u64,
}

impl Default for Desk {
    fn default() -> Self {
        Desk {
            dictionary: Dictionary::default(),
            items: None,
            wants: Wants::default(),
            bundles: HashMap::new(),
            window: BUNDLE_WINDOW_BYTES,
            owed: 0,
        }
    }
}

/// A bundle under way.
#[derive(Debug)]
struct Arriving {
    feed: Feed,
    files: Vec<Digest>,
    /// How long it is, and how many bytes of contents that other links wait for are in it.
    packed: u64,
    shared: u64,
    /// Counts it among the client's.
    _pass: Held,
}

impl Arriving {
    /// How many bytes of what others wait for come with so many packed ones.
    fn share_of(&self, length: u64) -> u64 {
        let came = self.packed.saturating_sub(self.feed.missing());
        let plain =
            |packed: u64| (u128::from(self.shared) * u128::from(packed) / u128::from(self.packed)) as u64;
        plain(came) - plain(came.saturating_sub(length))
    }
}

impl Desk {
    /// Of the numbers that the client uses.
    pub(super) fn epoch(&self) -> u64 {
        self.dictionary.epoch()
    }
}

/// The source of a command, for the log.
fn source(compile: &Resolved) -> String {
    let endings = [".c", ".cc", ".cpp", ".cxx", ".c++", ".C", ".m", ".mm", ".S", ".s", ".i", ".ii"];
    let is_source = |word: &[u8]| {
        !word.starts_with(b"-") && endings.iter().any(|ending| word.ends_with(ending.as_bytes()))
    };
    let found = compile.arguments.iter().skip(1).find(|word| is_source(word));
    found.map_or_else(|| "-".to_owned(), |word| clean(word))
}

impl Session {
    /// What this volunteer can do, to be said behind the hello.
    pub(super) fn abilities(&self) -> ToBroker {
        let groups = self.context.workshop.groups();
        let groups = groups.map(|groups| format!(", {}", groups.describe())).unwrap_or_default();
        match &self.context.hermetic {
            Ok(hermetic) => {
                let sandbox = format!("{}{groups}", hermetic.sandbox.describe());
                ToBroker::Able { hermetic: true, sandbox }
            }
            Err(why) => {
                let confinement = self.context.workshop.confinement();
                let weaker = if confinement.weaker().is_some() { ", weaker than namespaces" } else { "" };
                let sandbox = format!("{}{groups}{weaker}; no files: {why}", confinement.describe());
                ToBroker::Able { hermetic: false, sandbox }
            }
        }
    }

    /// Handles a message about hermetic compiles.
    pub(super) fn on_hermetic(&mut self, message: ToVolunteer) -> Result<(), LinkEnd> {
        let context = Arc::clone(&self.context);
        let Ok(hermetic) = &context.hermetic else {
            return Err(LinkEnd::Protocol("hermetic compiles are not done here".to_owned()));
        };
        match message {
            ToVolunteer::Define { items } => self.on_define(items, &hermetic.catalogue),
            ToVolunteer::Forget => {
                self.desk.dictionary.forget();
                self.desk.items = None;
                let coming: HashSet<Digest> =
                    self.desk.bundles.values().flat_map(|bundle| bundle.files.iter().copied()).collect();
                self.desk.wants.forget(&coming);
                self.courier.leave();
                Ok(())
            }
            ToVolunteer::Provision { provision, inputs } => self.on_provision(provision, &inputs),
            ToVolunteer::Compile { job, compile, deadline_ms } => self.on_compile(job, &compile, deadline_ms),
            ToVolunteer::Bundle { bundle, items, packed } => self.on_bundle(bundle, &items, packed),
            ToVolunteer::Unavailable { items } => self.on_unavailable(&items),
            other => Err(LinkEnd::Protocol(format!("{other:?} is not about hermetic compiles"))),
        }
    }

    fn on_define(&mut self, items: Vec<(u32, Item)>, catalogue: &Catalogue) -> Result<(), LinkEnd> {
        let before = self.desk.dictionary.bytes();
        self.desk.dictionary.define(items, catalogue).map_err(protocol)?;
        let more = self.desk.dictionary.bytes() - before;
        let grown = match &self.desk.items {
            Some(held) => held.grow(more, ITEMS_MAX_BYTES),
            None => {
                self.desk.items = self.pass.take(Good::Items, more, ITEMS_MAX_BYTES).map(Arc::new);
                self.desk.items.is_some()
            }
        };
        let why = || format!("more than {} MiB of items on all links of a client", ITEMS_MAX_BYTES >> 20);
        if grown { Ok(()) } else { Err(LinkEnd::Protocol(why())) }
    }

    /// Counts the work with a set among the client's for as long as it goes on; or says that it is too much.
    fn count<const N: usize>(&self, inputs: &mut Inputs, work: [Held; N]) -> bool {
        let entries = self.pass.take(Good::Entries, inputs.set.len() as u64, ENTRIES_MAX);
        let Some(entries) = entries else { return false };
        let fresh = work.into_iter().chain([entries]).map(Arc::new);
        inputs.held = fresh.chain(self.desk.items.clone()).collect();
        true
    }

    fn on_provision(&mut self, provision: u32, inputs: &Runs) -> Result<(), LinkEnd> {
        let crowded = |detail: &str| Err(Unprovided::Crowded { detail: detail.to_owned() });
        let counted = self.pass.take(Good::Provisions, 1, PROVISIONS_MAX as u64).zip(self.task());
        let Some((pass, task)) = counted else {
            self.on_provisioned(provision, crowded("too much of this client is under way"));
            return Ok(());
        };
        let mut inputs = self.desk.dictionary.inputs(inputs).map_err(protocol)?;
        if !self.count(&mut inputs, [pass, task]) {
            self.on_provisioned(provision, crowded("this client's sets of inputs are too large together"));
            return Ok(());
        }
        let context = Arc::clone(&self.context);
        self.tasks.spawn(hermetic::provision(
            provision,
            inputs,
            self.pass.client(),
            context,
            self.events.clone(),
        ));
        Ok(())
    }

    fn on_compile(&mut self, job: u32, compile: &Compile, deadline_ms: u32) -> Result<(), LinkEnd> {
        let Some((pass, task)) = self.may_begin(job)? else { return Ok(()) };
        let mut compile = self.desk.dictionary.resolve(compile).map_err(protocol)?;
        if !self.count(&mut compile.inputs, [task]) {
            self.refuse(job, "the inputs of this client's jobs are too many together".to_owned());
            return Ok(());
        }
        let control = Arc::new(Control::default());
        let entry = self.enter(base_name(&compile.program), source(&compile), &control);
        let begun = entry.begun;
        let live = LiveJob {
            control: Arc::clone(&control),
            entry,
            input: None,
            result_window: LINK_WINDOW_BYTES,
            pass,
        };
        let patience = Duration::from_millis(u64::from(deadline_ms));
        let order = Order {
            job,
            compile: Arc::new(compile),
            deadline: begun + patience,
            deadline_seconds: patience.as_secs(),
            control,
            line: self.line.clone(),
        };
        self.jobs.insert(job, live);
        let (member, context) = (Arc::clone(&self.member), Arc::clone(&self.context));
        let span = tracing::info_span!("job", attempt = job);
        self.tasks.spawn(hermetic::run(order, member, context, self.events.clone()).instrument(span));
        Ok(())
    }

    fn on_bundle(&mut self, bundle: u32, items: &[u32], packed: u64) -> Result<(), LinkEnd> {
        let wrong = |why: &str| Err(LinkEnd::Protocol(format!("bundle {bundle}: {why}")));
        if self.desk.bundles.contains_key(&bundle) {
            return wrong("twice");
        }
        if items.is_empty() || items.len() > INPUTS_MAX {
            return wrong("no files, or too many");
        }
        let files = self.files(items)?;
        let size: u64 = files.iter().map(|file| file.size.min(INPUT_MAX_BYTES + 1)).sum();
        let too_large = files.iter().any(|file| file.size > INPUT_MAX_BYTES);
        if too_large || packed == 0 || packed > packed_max(size) {
            return wrong("of a size that cannot be");
        }
        let Some(pass) = self.pass.take(Good::Bundles, BUNDLE_COST + files.len() as u64, BUNDLES_MAX) else {
            return wrong("too many at once");
        };
        // They are unpacked one after the other.
        let largest = files.iter().map(|file| file.size).max().unwrap_or(0);
        let room = self.pass.take(Good::Arriving, largest, ARRIVING_MAX_BYTES);
        let (feed, pieces) = Feed::new(packed);
        let digests: Vec<Digest> = files.iter().map(|file| file.digest).collect();
        let shared = self.courier.brings(&digests);
        self.desk.bundles.insert(bundle, Arriving { feed, files: digests, packed, shared, _pass: pass });
        let store = Arc::new(self.context.store.of(self.pass.client()));
        let announced = Announced { files, packed, room };
        let (decoder, events) = (self.pass.decoder(), self.events.clone());
        self.tasks.spawn(async move {
            let _decoder = decoder.await;
            receive(bundle, announced, pieces, store, events).await;
        });
        Ok(())
    }

    fn files(&self, items: &[u32]) -> Result<Vec<FileEntry>, LinkEnd> {
        let file = |&number: &u32| {
            let known = self.desk.dictionary.file(number).map_err(protocol)?;
            let none = || LinkEnd::Protocol(format!("item {number} is no file"));
            known.entry.kind.file().copied().ok_or_else(none)
        };
        items.iter().map(file).collect()
    }

    fn on_unavailable(&mut self, items: &[u32]) -> Result<(), LinkEnd> {
        for &number in items {
            let known = Arc::clone(self.desk.dictionary.file(number).map_err(protocol)?);
            let why = Refusal::InputsChanged { detail: known.entry.path.to_text() };
            let digest = known.key().map(|key| key.digest);
            self.desk.wants.arrived(digest.as_slice(), Some(&why));
            self.courier.over(digest.as_slice(), Promised::NotKept);
        }
        Ok(())
    }

    /// A piece of a bundle. There is no such thing as one that is late: nobody cancels bundles.
    pub(super) fn on_bundle_data(&mut self, bundle: u32, bytes: &[u8]) -> Result<(), LinkEnd> {
        let length = bytes.len() as u64;
        let arriving = self.desk.bundles.get_mut(&bundle);
        let taken = arriving.is_some_and(|arriving| arriving.feed.take(bytes));
        if !taken || length > self.desk.window {
            return Err(LinkEnd::Protocol(format!("bundle {bundle}: more data than granted or announced")));
        }
        self.desk.window -= length;
        self.courier.came(self.desk.bundles.get(&bundle).map_or(0, |arriving| arriving.share_of(length)));
        Ok(())
    }

    pub(super) fn on_bundle_consumed(&mut self, bundle: u32, bytes: u64) {
        if let Some(arriving) = self.desk.bundles.get_mut(&bundle) {
            arriving.feed.consumed();
        }
        self.desk.owed += bytes;
        if self.desk.owed >= GRANT_BYTES {
            let grant = std::mem::take(&mut self.desk.owed);
            self.desk.window += grant;
            self.outbox.message(&ToBroker::BundleWindow { bytes: u32::try_from(grant).unwrap_or(u32::MAX) });
        }
    }

    pub(super) fn on_bundle_done(
        &mut self,
        bundle: u32,
        outcome: Result<Option<Refusal>, Lie>,
    ) -> Result<(), LinkEnd> {
        let Some(arriving) = self.desk.bundles.remove(&bundle) else { return Ok(()) };
        let trouble = outcome.map_err(|lie| LinkEnd::Protocol(lie.to_string()))?;
        self.desk.wants.arrived(&arriving.files, trouble.as_ref());
        self.courier.over(&arriving.files, Promised::Kept);
        Ok(())
    }

    /// Says of a want that its numbers have lost their meaning.
    pub(super) fn forgotten(want: Want) {
        let why = Refusal::InputsChanged { detail: "their numbers were forgotten".to_owned() };
        let _ = want.done.send(Err(why));
    }

    pub(super) fn on_provisioned(&mut self, provision: u32, outcome: Result<(), Unprovided>) {
        self.outbox.message(&match outcome {
            Ok(()) => ToBroker::Provisioned { provision, trouble: String::new() },
            Err(why) => ToBroker::Unprovided { provision, why },
        });
    }
}

/// What was said of a bundle.
struct Announced {
    files: Vec<FileEntry>,
    packed: u64,
    /// The right to write it; it is swallowed without.
    room: Option<Held>,
}

/// Takes a bundle piece by piece, as the session hands it over.
async fn receive(
    bundle: u32,
    announced: Announced,
    mut pieces: mpsc::Receiver<Vec<u8>>,
    store: Arc<Store>,
    events: mpsc::Sender<Event>,
) {
    let Announced { files, packed, room } = announced;
    let outcome = async {
        let failed = |error: std::io::Error| Refusal::Failed { detail: error.to_string() };
        let mut arriving = Bundle::new(files, packed, store).map_err(failed)?;
        if room.is_none() {
            let detail = "many gigabytes of this client are coming".to_owned();
            arriving = arriving.swallowed(Refusal::Overloaded { detail });
        }
        while !arriving.is_complete() {
            // The link is over.
            let Some(piece) = pieces.recv().await else { return Ok(Ok(None)) };
            let bytes = piece.len() as u64;
            let pushed = blocking(move || Ok(arriving.push(&piece).map(|()| arriving))).await?;
            arriving = match pushed {
                Ok(arriving) => arriving,
                Err(lie) => return Ok(Err(lie)),
            };
            let _ = events.send(Event::BundleConsumed { bundle, bytes }).await;
        }
        blocking(move || Ok(arriving.finish())).await
    };
    let outcome = outcome.await.unwrap_or_else(|why| Ok(Some(why)));
    let _ = events.send(Event::BundleDone { bundle, outcome }).await;
}

fn base_name(path: &Bytes) -> String {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    clean(name)
}

/// A word that cannot spoil the log.
fn clean(word: &[u8]) -> String {
    String::from_utf8_lossy(word).chars().filter(|letter| !letter.is_control()).take(200).collect()
}

fn protocol(error: impl std::error::Error) -> LinkEnd {
    LinkEnd::Protocol(error.to_string())
}

/// What time it is here.
pub(super) fn clock() -> ToBroker {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    ToBroker::Clock { seconds: time.map_or(0, |time| time.as_secs()) }
}
