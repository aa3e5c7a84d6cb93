//! What the broker knows of volunteers besides what the scheduler does: addresses, links, names.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::link::LinkHandle;
use super::link::transport::Address;
use super::scheduler::api::{HostId, HostUse};
use crate::common::hosts::HostList;

/// Lists remembered; beyond it the memory starts afresh.
const LISTS_MAX: usize = 64;

struct Volunteer {
    name: Arc<str>,
    address: Address,
    link: Option<LinkHandle>,
    credit_why: String,
    round_trip: Option<Duration>,
}

/// Volunteers by number.
#[derive(Default)]
pub struct Volunteers {
    known: Vec<Volunteer>,
    numbers: HashMap<Address, HostId>,
    lists: Vec<(Arc<HostList>, Arc<[HostUse]>)>,
}

impl Volunteers {
    /// The volunteers of a host list, by number. Equal lists are one list (`HostLists` sees to
    /// that), so a list is looked through once.
    pub fn intern(&mut self, list: &Arc<HostList>) -> Arc<[HostUse]> {
        if let Some((_, uses)) = self.lists.iter().find(|(known, _)| Arc::ptr_eq(known, list)) {
            return uses.clone();
        }
        let usable = list.hosts.iter().filter(|host| host.is_usable());
        let uses: Arc<[HostUse]> = usable
            .map(|host| {
                let address = Address { name: host.name.clone(), port: host.port };
                HostUse { host: self.number(address), slots: host.slots }
            })
            .collect();
        if self.lists.len() >= LISTS_MAX {
            self.lists.clear();
        }
        self.lists.push((list.clone(), uses.clone()));
        uses
    }

    fn number(&mut self, address: Address) -> HostId {
        if let Some(&number) = self.numbers.get(&address) {
            return number;
        }
        let number = HostId(u32::try_from(self.known.len()).unwrap_or(u32::MAX));
        self.numbers.insert(address.clone(), number);
        let name = address.to_string().into();
        self.known.push(Volunteer { name, address, link: None, credit_why: String::new(), round_trip: None });
        number
    }

    fn get(&self, host: HostId) -> &Volunteer {
        &self.known[host.0 as usize]
    }

    fn get_mut(&mut self, host: HostId) -> &mut Volunteer {
        &mut self.known[host.0 as usize]
    }

    /// What people call it.
    pub fn name(&self, host: HostId) -> Arc<str> {
        self.get(host).name.clone()
    }

    /// Where it listens.
    pub fn address(&self, host: HostId) -> Address {
        self.get(host).address.clone()
    }

    /// Its name and link, while that is up.
    pub fn link(&self, host: HostId) -> Option<(Arc<str>, LinkHandle)> {
        let volunteer = self.get(host);
        Some((volunteer.name.clone(), volunteer.link.clone()?))
    }

    /// Its link is up.
    pub fn up(&mut self, host: HostId, link: LinkHandle) {
        self.get_mut(host).link = Some(link);
    }

    /// Its link is down.
    pub fn down(&mut self, host: HostId) {
        let volunteer = self.get_mut(host);
        volunteer.link = None;
        volunteer.round_trip = None;
        volunteer.credit_why.clear();
    }

    /// Why it takes fewer jobs than it has slots.
    pub fn credit(&mut self, host: HostId, why: &str) {
        // A peer's words, for status: kept short.
        self.get_mut(host).credit_why = why.chars().take(200).filter(|letter| !letter.is_control()).collect();
    }

    /// The reason given with its credit; may be empty.
    pub fn credit_why(&self, host: HostId) -> &str {
        &self.get(host).credit_why
    }

    /// A ping came back.
    pub fn round_trip(&mut self, host: HostId, time: Duration) {
        self.get_mut(host).round_trip = Some(time);
    }

    /// How long the last ping took.
    pub fn last_round_trip(&self, host: HostId) -> Option<Duration> {
        self.get(host).round_trip
    }
}
