//! What each client has of this volunteer, over all of its links: nobody gets more by connecting more
//! often.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::common::trust::key::PublicKey;

/// Links of one key. A broker has one; a user may have some brokers.
const LINKS_MAX: u32 = 16;

/// Connections of one address of the classic protocol, which has one for each job. More than may begin a
/// request at the same time, so that those who dawdle make room for others from there.
const CONNECTIONS_MAX: u32 = 896;

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

    fn links_max(&self) -> u32 {
        match self {
            Client::Key(_) | Client::Carrier => LINKS_MAX,
            Client::Address(_) => CONNECTIONS_MAX,
        }
    }
}

/// What one client has at the moment.
#[derive(Debug, Default)]
struct Count {
    links: u32,
    jobs: u32,
}

/// The clients that are here.
#[derive(Debug, Default)]
pub struct Clients(Mutex<HashMap<Client, Weak<Share>>>);

/// One client's share of the volunteer.
#[derive(Debug)]
pub struct Share {
    id: ClientId,
    count: Mutex<Count>,
}

/// The right to one link; given back when it is dropped.
#[derive(Debug)]
pub struct LinkPass(Arc<Share>);

/// The right to one unfinished job; given back when it is dropped.
#[derive(Debug)]
pub struct JobPass(Arc<Share>);

impl Clients {
    /// One more link of a client; `None` when it has as many as it may.
    pub fn enter(&self, client: Client) -> Option<LinkPass> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let share = match known.get(&client).and_then(Weak::upgrade) {
            Some(share) => share,
            None => {
                known.retain(|_, share| share.strong_count() > 0);
                let share = Arc::new(Share { id: client.id(), count: Mutex::default() });
                known.insert(client, Arc::downgrade(&share));
                share
            }
        };
        drop(known);
        let may = {
            let mut count = share.count();
            let may = count.links < client.links_max();
            count.links += u32::from(may);
            may
        };
        may.then(|| LinkPass(share))
    }
}

impl Share {
    fn count(&self) -> std::sync::MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LinkPass {
    /// Whose link it is.
    pub fn client(&self) -> ClientId {
        self.0.id
    }

    /// One more unfinished job of the client, of `max` that it may have over all its links.
    pub fn job(&self, max: u32) -> Option<JobPass> {
        let mut count = self.0.count();
        if count.jobs >= max {
            return None;
        }
        count.jobs += 1;
        Some(JobPass(Arc::clone(&self.0)))
    }
}

impl Drop for LinkPass {
    fn drop(&mut self) {
        self.0.count().links -= 1;
    }
}

impl Drop for JobPass {
    fn drop(&mut self) {
        self.0.count().jobs -= 1;
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
        let _held = [one.job(2).expect("a job"), other.job(2).expect("a job")];
        assert!(one.job(2).is_none() && other.job(2).is_none());
        assert!(clients.enter(BOB).expect("a link").job(2).is_some());
        drop(_held);
        assert!(one.job(2).is_some());
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
