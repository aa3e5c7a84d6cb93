//! What each client has of this volunteer, over all of its links: nobody gets more by connecting more
//! often.
//!
//! Whatever a client can have the daemon hold or do is a [`Good`], of which each client may have so much. What it
//! takes is given back when the [`Held`] that stands for it is dropped, so whoever works for a client
//! holds one for as long as the work goes on, whether or not the client still wants it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, Weak};

use tokio::sync::{Mutex, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::common::limits::{self, BUNDLES_UNPACKED_MAX, INPUT_MAX_BYTES, OUTPUT_MAX_BYTES};
use crate::common::trust::key::PublicKey;

/// Links of one key. A broker has one; a user may have some brokers.
const LINKS_MAX: u64 = 16;

/// Connections of one address of the classic protocol, which has one for each job. More than may begin a
/// request at the same time, so that those who dawdle make room for others from there.
const CONNECTIONS_MAX: u64 = 896;

/// Entries of the input sets of a client's unfinished jobs, together: some hundred jobs that read ten thousand
/// files each, and at most half a gigabyte.
pub const ENTRIES_MAX: u64 = 4 << 20;

/// Bytes of a client's files that come, and of its texts until they are compiled, together. More is not taken, and told.
pub const ARRIVING_MAX_BYTES: u64 = 8 * INPUT_MAX_BYTES;

/// Packed bytes of results that a client has not taken yet, together; they are on the disk.
pub const LEAVING_MAX_BYTES: u64 = 8 * OUTPUT_MAX_BYTES;

/// What the tables of all links of a client may hold, in bytes.
pub const ITEMS_MAX_BYTES: u64 = 2 * limits::ITEMS_MAX_BYTES as u64;

/// Of the memory that requests of the classic protocol share, so much is any one client's at a time, in MiB.
const MEMORY_UNITS: usize = 256;

/// What a client has in measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Good {
    /// Connections.
    Links,
    /// Jobs without an answer, or with one that the client has not taken whole.
    Jobs,
    /// Jobs and provisions that are worked at, cancelled ones included.
    Tasks,
    /// Provisions.
    Provisions,
    /// Bytes of what numbers mean.
    Items,
    /// Entries of sets of inputs.
    Entries,
    /// Bundles that come, and their files.
    Bundles,
    /// Bytes of files that come, unpacked.
    Arriving,
    /// Bytes of results that have not left.
    Leaving,
}

const GOODS: usize = Good::Leaving as usize + 1;

/// Who a client is, for sharing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// Whoever has this key.
    Key(PublicKey),
    /// Whoever is at this address: all that is known of clients of the classic protocol.
    Address(IpAddr),
    /// Whoever started this process.
    Carrier,
}

/// A client's number: the same for as long as it is the same client, also after a pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

impl Client {
    /// Its number.
    pub fn id(&self) -> ClientId {
        let digest = match self {
            Client::Key(key) => blake3::hash(&key.0),
            Client::Address(address) => blake3::hash(address.to_canonical().to_string().as_bytes()),
            Client::Carrier => return ClientId(1),
        };
        let (first, _) = digest.as_bytes().split_at(8);
        ClientId(first.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn links_max(&self) -> u64 {
        match self {
            Client::Key(_) | Client::Carrier => LINKS_MAX,
            Client::Address(_) => CONNECTIONS_MAX,
        }
    }
}

/// What one client has at the moment, of each [`Good`].
type Count = [u64; GOODS];

/// The clients that are here.
#[derive(Debug, Default)]
pub struct Clients(std::sync::Mutex<HashMap<Client, Weak<Share>>>);

/// One client's share of the volunteer.
#[derive(Debug)]
pub struct Share {
    id: ClientId,
    count: std::sync::Mutex<Count>,
    /// Whose turn it is among the client's links.
    turn: Arc<Mutex<()>>,
    /// What the client may hold of memory that all of the classic protocol share.
    memory: Semaphore,
    /// One for each bundle that is unpacked.
    decoders: Arc<Semaphore>,
}

/// The right to one link; given back when it is dropped.
#[derive(Debug)]
pub struct LinkPass(Held);

/// So much of a good; given back when it is dropped.
#[derive(Debug)]
pub struct Held {
    share: Arc<Share>,
    good: Good,
    amount: AtomicU64,
}

impl Clients {
    /// One more link of a client; `None` when it has as many as it may.
    pub fn enter(&self, client: Client) -> Option<LinkPass> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let share = match known.get(&client).and_then(Weak::upgrade) {
            Some(share) => share,
            None => {
                known.retain(|_, share| share.strong_count() > 0);
                let share = Arc::new(Share {
                    id: client.id(),
                    count: std::sync::Mutex::default(),
                    turn: Arc::default(),
                    memory: Semaphore::new(MEMORY_UNITS),
                    decoders: Arc::new(Semaphore::new(BUNDLES_UNPACKED_MAX)),
                });
                known.insert(client, Arc::downgrade(&share));
                share
            }
        };
        drop(known);
        share.take(Good::Links, 1, client.links_max()).map(LinkPass)
    }
}

impl Share {
    fn count(&self) -> std::sync::MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn none(self: &Arc<Self>, good: Good) -> Held {
        Held { share: Arc::clone(self), good, amount: AtomicU64::new(0) }
    }

    fn take(self: &Arc<Self>, good: Good, amount: u64, max: u64) -> Option<Held> {
        let held = self.none(good);
        held.grow(amount, max).then_some(held)
    }
}

impl LinkPass {
    /// Whose link it is.
    pub fn client(&self) -> ClientId {
        self.0.share.id
    }

    /// So much more of a good, of `max` that the client may have over all its links.
    pub fn take(&self, good: Good, amount: u64, max: u64) -> Option<Held> {
        self.0.share.take(good, amount, max)
    }

    /// Nothing of a good yet.
    pub fn none(&self, good: Good) -> Held {
        self.0.share.none(good)
    }

    /// Waits until none of the client's links is at work: one that has many gets no more done than one with one.
    pub fn turn(&self) -> impl Future<Output = OwnedMutexGuard<()>> + use<> {
        Arc::clone(&self.0.share.turn).lock_owned()
    }

    /// Waits until one more of the client's bundles may be unpacked.
    pub fn decoder(&self) -> impl Future<Output = Option<OwnedSemaphorePermit>> + use<> {
        let decoder = Arc::clone(&self.0.share.decoders).acquire_owned();
        // Never closed.
        async { decoder.await.ok() }
    }

    /// So many units of memory, of [`MEMORY_UNITS`]; waits while others of the client's connections hold too many.
    pub async fn memory(&self, units: u32) -> Option<SemaphorePermit<'_>> {
        let most = u32::try_from(MEMORY_UNITS).unwrap_or(u32::MAX);
        // Never closed.
        self.0.share.memory.acquire_many(units.min(most)).await.ok()
    }
}

impl Held {
    /// Takes so much more, of `max` that the client may have; whether it could be had.
    pub fn grow(&self, amount: u64, max: u64) -> bool {
        let mut count = self.share.count();
        let Some(has) = count.get_mut(self.good as usize) else { return false };
        let may = has.checked_add(amount).is_some_and(|sum| sum <= max);
        if may {
            *has += amount;
            self.amount.fetch_add(amount, Ordering::Relaxed);
        }
        may
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(has) = self.share.count().get_mut(self.good as usize) {
            *has -= self.amount.load(Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: Client = Client::Key(PublicKey([1; 32]));
    const BOB: Client = Client::Key(PublicKey([2; 32]));

    #[test]
    fn a_client_has_so_many_links_and_another_has_its_own() {
        let clients = Clients::default();
        let mut links: Vec<LinkPass> = (0..LINKS_MAX).map(|_| clients.enter(ANN).expect("a link")).collect();
        assert!(clients.enter(ANN).is_none());
        assert!(clients.enter(BOB).is_some());
        links.pop();
        assert!(clients.enter(ANN).is_some());
    }

    #[test]
    fn jobs_count_over_all_links_of_a_client() {
        let clients = Clients::default();
        let (one, other) = (clients.enter(ANN).expect("a link"), clients.enter(ANN).expect("a link"));
        let job = |link: &LinkPass| link.take(Good::Jobs, 1, 2);
        let held = [job(&one).expect("a job"), job(&other).expect("a job")];
        assert!(job(&one).is_none() && job(&other).is_none());
        assert!(job(&clients.enter(BOB).expect("a link")).is_some());
        drop(held);
        assert!(job(&one).is_some());
    }

    #[test]
    fn what_is_held_grows_up_to_the_bound_and_comes_back_whole() {
        let clients = Clients::default();
        let link = clients.enter(ANN).expect("a link");
        let held = link.none(Good::Items);
        assert!(held.grow(7, 10) && !held.grow(4, 10) && held.grow(3, 10) && !held.grow(u64::MAX, u64::MAX));
        assert!(link.take(Good::Items, 1, 10).is_none() && link.take(Good::Entries, 10, 10).is_some());
        drop(held);
        assert!(link.take(Good::Items, 10, 10).is_some());
    }

    #[test]
    fn a_client_has_the_same_number_each_time() {
        let clients = Clients::default();
        let first = clients.enter(ANN).expect("a link").client();
        assert_eq!(clients.enter(ANN).expect("a link").client(), first);
        assert_ne!(first, BOB.id());
        let address = |text: &str| Client::Address(text.parse().expect("an address")).id();
        assert_eq!(address("::ffff:192.0.2.7"), address("192.0.2.7"));
    }
}
