//! What the broker knows of volunteers besides what the scheduler does: addresses, links, names.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::link::LinkHandle;
use super::link::traffic::{self, Traffic};
use super::link::transport::{Address, Route};
use super::scheduler::api::{HostId, HostUse, ToolchainId};
use super::scheduler::rng::Rng;
use crate::common::bytes::Bytes;
use crate::common::hosts::{Host, HostList};
use crate::common::invocation::Invocation;
use crate::common::protocol::classic::Version;
use crate::common::toolchain::Digest;

/// Lists remembered; beyond it the memory starts afresh.
const LISTS_MAX: usize = 64;

struct Volunteer {
    name: Arc<str>,
    route: Route,
    classic: Version,
    link: Option<LinkHandle>,
    /// Whether it took hermetic compiles when it was last up.
    hermetic: Option<bool>,
    /// How it confines jobs, in its own words.
    sandbox: String,
    credit_why: String,
    round_trip: Option<Duration>,
    /// How far its clock is ahead of ours, in seconds, when it last came up.
    clock_offset_s: Option<i64>,
    /// Over all its links.
    traffic: Arc<Traffic>,
    /// Toolchains with which it has done jobs since it came up.
    toolchains: BTreeMap<ToolchainId, Digest>,
}

/// What a build brings for hosts that are reached through ssh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    /// ssh and words that are to follow it.
    pub shell: Vec<Bytes>,
    /// The build's environment, where ssh finds its agent and its home.
    pub environment: Arc<[Bytes]>,
}

impl Ssh {
    /// Words that `DISTCC_SSH` may have behind the first, as distcc 3.4 has it.
    const WORDS_MAX: usize = 12;

    /// Of an invocation whose list has such hosts.
    pub fn of(invocation: &Invocation) -> Self {
        let text = invocation.variable("DISTCC_SSH").filter(|text| !text.is_empty()).unwrap_or(b"ssh");
        let words = text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        Ssh {
            shell: words.take(1 + Self::WORDS_MAX).map(Bytes::from).collect(),
            environment: invocation.env.clone().into(),
        }
    }
}

/// Volunteers by number.
pub struct Volunteers {
    rng: Rng,
    known: Vec<Volunteer>,
    numbers: HashMap<(Address, Version), HostId>,
    lists: Vec<Interned>,
}

struct Interned {
    list: Arc<HostList>,
    shell: Vec<Bytes>,
    uses: Arc<[HostUse]>,
}

impl Volunteers {
    /// None yet. `seed` is for lists that ask for a random order.
    pub fn new(seed: u64) -> Self {
        Volunteers { rng: Rng::new(seed), known: Vec::new(), numbers: HashMap::new(), lists: Vec::new() }
    }

    /// The volunteers of a host list, by number. Equal lists are one list (`HostLists` sees to
    /// that), so a list is looked through once.
    ///
    /// `ssh` is what a build brings that hosts behind ssh need; a list without any needs none.
    pub fn intern(&mut self, list: &Arc<HostList>, ssh: Option<&Ssh>) -> Arc<[HostUse]> {
        let shell = ssh.map(|ssh| &ssh.shell[..]).unwrap_or_default();
        let known = self.lists.iter().find(|known| Arc::ptr_eq(&known.list, list) && known.shell == shell);
        if let Some(known) = known {
            return known.uses.clone();
        }
        let usable = list.hosts.iter().filter(|host| host.is_usable());
        let mut uses: Vec<HostUse> = usable.map(|host| self.host_use(host, ssh)).collect();
        if list.randomize {
            // Each broker has an order of its own, so that not all clients prefer the same host.
            self.rng.shuffle(&mut uses);
        }
        let uses: Arc<[HostUse]> = uses.into();
        if self.lists.len() >= LISTS_MAX {
            self.lists.clear();
        }
        self.lists.push(Interned { list: list.clone(), shell: shell.to_vec(), uses: uses.clone() });
        uses
    }

    fn host_use(&mut self, host: &Host, ssh: Option<&Ssh>) -> HostUse {
        let address = Address::of(host, ssh.map_or(&[], |ssh| &ssh.shell));
        let classic = match (host.lzo, host.cpp) {
            (true, true) => Version::V3,
            (true, false) => Version::V2,
            (false, _) => Version::V1,
        };
        let environment = ssh.map(|ssh| ssh.environment.clone()).unwrap_or_default();
        HostUse { host: self.number(Route { address, environment }, classic), slots: host.slots }
    }

    fn number(&mut self, route: Route, classic: Version) -> HostId {
        let key = (route.address.clone(), classic);
        if let Some(&number) = self.numbers.get(&key) {
            return number;
        }
        let number = HostId(u32::try_from(self.known.len()).unwrap_or(u32::MAX));
        let name = route.address.to_string().into();
        self.numbers.insert(key, number);
        self.known.push(Volunteer {
            name,
            route,
            classic,
            link: None,
            hermetic: None,
            sandbox: String::new(),
            credit_why: String::new(),
            round_trip: None,
            clock_offset_s: None,
            traffic: Arc::default(),
            toolchains: BTreeMap::new(),
        });
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

    /// What people call all of them, by number.
    pub fn names(&self) -> Vec<String> {
        self.known.iter().map(|volunteer| volunteer.name.to_string()).collect()
    }

    /// How it is reached.
    pub fn route(&self, host: HostId) -> Route {
        self.get(host).route.clone()
    }

    /// The version of the classic protocol in which it is spoken to, should it speak that.
    pub fn classic_version(&self, host: HostId) -> Version {
        self.get(host).classic
    }

    /// Its name and link, while that is up.
    pub fn link(&self, host: HostId) -> Option<(Arc<str>, LinkHandle)> {
        let volunteer = self.get(host);
        Some((volunteer.name.clone(), volunteer.link.clone()?))
    }

    /// In which form the inputs of a job that goes to one of these are best made ready. Should it go
    /// to one that needs another, that is made when the time comes.
    pub fn form(&self, uses: &[HostUse]) -> Form {
        let hosts = || uses.iter().map(|host| self.get(host.host));
        let takes_sets = |host: &Volunteer| {
            host.classic == Version::V3 && matches!(host.link, Some(LinkHandle::Classic(_)))
        };
        if hosts().any(|host| host.link.is_some())
            && hosts().filter(|host| host.link.is_some()).all(takes_sets)
        {
            return Form::ClassicSet;
        }
        // Of one that was never met the best is hoped for: a scan costs next to nothing.
        match hosts().any(|host| host.hermetic.unwrap_or(true)) {
            true => Form::Files,
            false => Form::Text,
        }
    }

    /// Its link is up.
    pub fn up(&mut self, host: HostId, link: LinkHandle, sandbox: &str) {
        let volunteer = self.get_mut(host);
        volunteer.hermetic = Some(matches!(&link, LinkHandle::Native(link) if link.is_hermetic()));
        volunteer.sandbox = printable(sandbox);
        volunteer.link = Some(link);
    }

    /// Whether it takes hermetic compiles, if that is known.
    pub fn is_hermetic(&self, host: HostId) -> Option<bool> {
        self.get(host).hermetic
    }

    /// How it confines jobs, in its own words; may be empty.
    pub fn sandbox(&self, host: HostId) -> &str {
        &self.get(host).sandbox
    }

    /// Its link is down.
    pub fn down(&mut self, host: HostId) {
        let volunteer = self.get_mut(host);
        volunteer.link = None;
        volunteer.round_trip = None;
        volunteer.toolchains.clear();
        volunteer.credit_why.clear();
    }

    /// Why it takes fewer jobs than it has slots.
    pub fn credit(&mut self, host: HostId, why: &str) {
        self.get_mut(host).credit_why = printable(why);
    }

    /// The reason given with its credit; may be empty.
    pub fn credit_why(&self, host: HostId) -> &str {
        &self.get(host).credit_why
    }

    /// It has done a job with this toolchain.
    pub fn knows(&mut self, host: HostId, toolchain: ToolchainId, digest: Digest) {
        self.get_mut(host).toolchains.entry(toolchain).or_insert(digest);
    }

    /// The toolchains with which it has done jobs since it came up, for people.
    pub fn toolchains(&self, host: HostId) -> Vec<String> {
        self.get(host)
            .toolchains
            .values()
            .map(|digest| digest.to_string().chars().take(16).collect())
            .collect()
    }

    /// What is still to be sent to it while a compiler is on its way, in bytes, and how long that will take.
    pub fn arriving(&self, host: HostId) -> Option<(u64, Option<Duration>)> {
        match &self.get(host).link {
            Some(LinkHandle::Native(link)) => link.arriving(),
            _ => None,
        }
    }

    /// What goes over its links is counted here.
    pub fn traffic(&self, host: HostId) -> Arc<Traffic> {
        Arc::clone(&self.get(host).traffic)
    }

    /// What went over all links.
    pub fn all_traffic(&self) -> traffic::Bytes {
        let mut all = traffic::Bytes::default();
        self.known.iter().for_each(|volunteer| all += volunteer.traffic.bytes());
        all
    }

    /// How it is reached, and what keeps others out of the link.
    pub fn link_kind(&self, host: HostId) -> (&'static str, &'static str) {
        let volunteer = self.get(host);
        let by_ssh = matches!(volunteer.route.address, Address::Ssh { .. });
        match (&volunteer.link, by_ssh) {
            (None, false) => ("none", "none"),
            (None | Some(LinkHandle::Native(_)), true) => ("ssh", "ssh"),
            (Some(LinkHandle::Native(_)), false) => ("tcp", "tls"),
            (Some(LinkHandle::Classic(_)), true) => ("ssh classic", "ssh"),
            (Some(LinkHandle::Classic(_)), false) => ("tcp classic", "classic"),
        }
    }

    /// The numbers of a host, by what people call it: its name in the status, or that without the port
    /// where it means only one. An address that is listed in several ways has several numbers.
    pub fn find(&self, name: &str) -> Vec<HostId> {
        let all = || self.known.iter().zip(0..).map(|(known, number)| (&known.name, HostId(number)));
        let exact: Vec<HostId> = all().filter(|(known, _)| &***known == name).map(|(_, host)| host).collect();
        if !exact.is_empty() {
            return exact;
        }
        let similar: Vec<_> = all().filter(|(known, _)| without_port(known) == name).collect();
        match similar.iter().all(|(known, _)| *known == similar[0].0) {
            true => similar.into_iter().map(|(_, host)| host).collect(),
            false => Vec::new(),
        }
    }

    /// It says what time it is there, in seconds since 1970.
    pub fn clock(&mut self, host: HostId, seconds: u64) {
        let ours = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let signed = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
        let ours = ours.map_or(0, |time| signed(time.as_secs()));
        self.get_mut(host).clock_offset_s = Some(signed(seconds).saturating_sub(ours));
    }

    /// How far its clock is ahead of ours, in seconds, if it told.
    pub fn clock_offset_s(&self, host: HostId) -> Option<i64> {
        self.get(host).clock_offset_s
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

/// The name or address of a host, without its port.
pub fn without_port(name: &str) -> &str {
    match name.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => name.split_once(':').map_or(name, |(name, _)| name),
    }
}

/// A peer's words, for status: kept short.
fn printable(words: &str) -> String {
    words.chars().take(200).filter(|letter| !letter.is_control()).collect()
}

/// How the inputs of a job travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As the files themselves, to a volunteer of ours that can confine the compile to them.
    Files,
    /// As a set of files for a volunteer of the classic protocol.
    ClassicSet,
    /// As a preprocessed text.
    Text,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::hosts::parse;

    fn check(list: &str, name: &str, expected: &[u32]) {
        let mut volunteers = Volunteers::new(1);
        volunteers.intern(&Arc::new(parse(list.as_bytes()).expect("a list")), None);
        let found: Vec<u32> = volunteers.find(name).into_iter().map(|host| host.0).collect();
        assert_eq!(found, expected, "{name} in {list}");
    }

    #[test]
    fn a_host_is_found_by_its_name_with_or_without_the_port() {
        check("a b c", "b", &[1]);
        check("a b:4000 c", "b:4000", &[1]);
        check("a b:4000 c", "b", &[1]);
        check("a [fd00::7]:4000", "fd00::7", &[1]);
        check("a b c", "d", &[]);
        check("a b c", "", &[]);
    }

    #[test]
    fn a_name_that_means_two_hosts_means_none_unless_it_is_the_whole_name_of_one() {
        check("a:1 a:2", "a", &[]);
        check("a:1 a:2", "a:2", &[1]);
        check("a a:2", "a", &[0]);
        check("a a,lzo a:2", "a", &[0, 1]);
    }
}
