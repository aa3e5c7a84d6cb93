//! Who may connect: networks, names of machines, and one question.
//!
//! Names are resolved by whoever owns the list, now and then: [`Access::names`] says which,
//! [`Access::resolved`] takes the addresses. An IPv4 peer that arrives on an IPv6 listener shows as `::ffff:a.b.c.d`; it is judged as
//! the IPv4 address that it is, or the list could be walked around by choosing a listener.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// A network: an address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

/// Why a word is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The part before the slash.
    #[error("`{0}` is not an IPv4 or IPv6 address (write ADDRESS or ADDRESS/BITS)")]
    Address(String),
    /// The part behind the slash.
    #[error("`/{bits}` is not a prefix length of {address}: at most {max}")]
    Bits {
        /// The address it stands behind.
        address: IpAddr,
        /// As written.
        bits: String,
        /// The longest prefix of such an address.
        max: u32,
    },
}

/// A peer, or peers, as `--allow` names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// By address.
    Network(Network),
    /// By the name of a machine.
    Name(String),
}

impl FromStr for Allowed {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_name = text.bytes().all(letter) && text.bytes().any(|byte| byte.is_ascii_alphabetic());
        match text.parse::<Network>() {
            Ok(network) => Ok(Allowed::Network(network)),
            Err(NetworkError::Address(_)) if is_name && !text.starts_with('-') => {
                Ok(Allowed::Name(text.to_owned()))
            }
            Err(error) => Err(error),
        }
    }
}

impl std::fmt::Display for Allowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Allowed::Network(network) => network.fmt(f),
            Allowed::Name(name) => f.write_str(name),
        }
    }
}

/// Addresses that are not of the Internet at large (RFC 1918, 3927, 4193, 4291), for
/// `--allow-private`.
pub fn private_networks() -> Vec<Allowed> {
    [
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "::1",
        "fc00::/7",
        "fe80::/10",
    ]
    .iter()
    .filter_map(|text| text.parse().ok())
    .collect()
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        let address: IpAddr = bare.parse().map_err(|_| NetworkError::Address(text.to_owned()))?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => max,
            Some(bits) => bits
                .parse()
                .ok()
                .filter(|&number| number <= max)
                .ok_or_else(|| NetworkError::Bits { address, bits: bits.to_owned(), max })?,
        };
        // `10.0.0.1/8` means the network of 10.0.0.1, as it does to distccd 3.4.
        Ok(Network { address, bits }.mapped_as_ipv4().masked())
    }
}

impl Network {
    /// `::ffff:10.0.0.0/104` means `10.0.0.0/8`.
    fn mapped_as_ipv4(self) -> Self {
        match self.address {
            IpAddr::V6(v6) if self.bits >= 96 => match v6.to_ipv4_mapped() {
                Some(v4) => Network { address: IpAddr::V4(v4), bits: self.bits - 96 },
                None => self,
            },
            _ => self,
        }
    }

    fn masked(self) -> Self {
        let prefix = self.prefix_of(self.address);
        let address = match self.address {
            // The prefix of an IPv4 address has its width.
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(prefix as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(prefix)),
        };
        Network { address, ..self }
    }

    fn prefix_of(&self, address: IpAddr) -> u128 {
        let width = if self.address.is_ipv4() { 32 } else { 128 };
        let mask = u128::MAX.checked_shl(width - self.bits).unwrap_or(0);
        number(address) & mask
    }

    fn contains(&self, peer: IpAddr) -> bool {
        self.address.is_ipv4() == peer.is_ipv4() && self.prefix_of(peer) == number(self.address)
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The peers that are served without keys.
#[derive(Debug)]
pub struct Access(RwLock<List>);

#[derive(Debug, Default)]
struct List {
    networks: Vec<Network>,
    names: Vec<String>,
    /// What the names mean, as far as they could be resolved.
    resolved: Vec<IpAddr>,
}

impl List {
    fn of(allowed: &[Allowed]) -> Self {
        let mut list = List::default();
        for allowed in allowed {
            match allowed {
                Allowed::Network(network) => list.networks.push(*network),
                Allowed::Name(name) => list.names.push(name.clone()),
            }
        }
        list
    }
}

impl Access {
    /// These peers, and nobody else.
    pub fn new(allowed: &[Allowed]) -> Self {
        Access(RwLock::new(List::of(allowed)))
    }

    /// These peers from now on; names count again once they are resolved.
    pub fn replace(&self, allowed: &[Allowed]) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = List::of(allowed);
    }

    fn list(&self) -> RwLockReadGuard<'_, List> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// These peers; of an empty list, peers on this machine.
    pub fn or_this_machine(allowed: &[Allowed]) -> Self {
        let ipv4 = Network { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), bits: 8 };
        let ipv6 = Network { address: IpAddr::V6(Ipv6Addr::LOCALHOST), bits: 128 };
        match allowed {
            [] => Access::new(&[ipv4, ipv6].map(Allowed::Network)),
            allowed => Access::new(allowed),
        }
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        let list = self.list();
        list.networks.is_empty() && list.names.is_empty()
    }

    /// The names that must be resolved from time to time.
    pub fn names(&self) -> Vec<String> {
        self.list().names.clone()
    }

    /// What the names mean from now on.
    pub fn resolved(&self, addresses: Vec<IpAddr>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).resolved = addresses;
    }

    /// Whether `peer` is served.
    pub fn allows(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        let list = self.list();
        list.networks.iter().any(|network| network.contains(peer)) || list.resolved.contains(&peer)
    }
}

/// The list, for the log.
impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = self.list();
        let networks = list.networks.iter().map(Network::to_string);
        f.write_str(&networks.chain(list.names.iter().cloned()).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(networks: &[&str], peer: &str, expected: bool) {
        let networks: Vec<Allowed> = networks.iter().map(|text| text.parse().expect("a network")).collect();
        let peer: IpAddr = peer.parse().expect("an address");
        assert_eq!(Access::new(&networks).allows(peer), expected, "{networks:?} {peer}");
    }

    #[test]
    fn without_a_list_nobody_is_served_and_this_machine_sees_the_figures() {
        for (peer, here) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("192.168.0.1", false),
            ("::2", false),
        ] {
            check(&[], peer, false);
            assert_eq!(
                Access::or_this_machine(&[]).allows(peer.parse().expect("an address")),
                here,
                "{peer}"
            );
        }
        assert!(Access::new(&[]).is_empty());
    }

    #[test]
    fn a_list_says_all_of_it() {
        check(&["10.0.0.0/8"], "10.1.2.3", true);
        check(&["10.0.0.0/8"], "11.1.2.3", false);
        check(&["10.0.0.0/8"], "127.0.0.1", false);
        check(&["10.0.0.7"], "10.0.0.8", false);
        check(&["fd00::/8"], "fdab::1", true);
        check(&["10.0.0.0/8", "fd00::/8"], "fe80::1", false);
        check(&["[fd00::1]"], "fd00::1", true);
    }

    #[test]
    fn everyone_can_be_let_in_by_family() {
        check(&["0.0.0.0/0"], "8.8.8.8", true);
        check(&["0.0.0.0/0"], "2001:db8::1", false);
        check(&["::/0"], "2001:db8::1", true);
        check(&["::/0"], "8.8.8.8", false);
    }

    #[test]
    fn an_ipv4_peer_on_an_ipv6_listener_is_judged_as_ipv4() {
        check(&["10.0.0.0/8"], "::ffff:10.1.2.3", true);
        check(&["::/0"], "::ffff:8.8.8.8", false);
        check(&["::ffff:10.0.0.0/104"], "10.200.0.1", true);
    }

    #[test]
    fn the_network_of_an_address_is_meant() {
        check(&["10.1.2.3/8"], "10.200.0.1", true);
        check(&["10.1.2.3/8"], "11.1.2.3", false);
        check(&["fd00::7/16"], "fd00:0:1::", true);
    }

    #[test]
    fn names_are_served_once_they_are_resolved() {
        let access = Access::new(&["build7.example".parse().expect("a name")]);
        let peer: IpAddr = "::ffff:192.0.2.7".parse().expect("an address");
        assert!(!access.allows(peer) && !access.allows(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert_eq!(access.names(), ["build7.example"]);
        access.resolved(vec!["192.0.2.7".parse().expect("an address")]);
        assert!(access.allows(peer));
    }

    #[test]
    fn private_addresses_are_private() {
        let access = Access::new(&private_networks());
        for (peer, private) in [
            ("10.1.1.1", true),
            ("172.31.0.1", true),
            ("172.32.0.1", false),
            ("::1", true),
            ("fe80::1", true),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(access.allows(peer.parse().expect("an address")), private, "{peer}");
        }
    }

    #[test]
    fn words_that_are_not_networks_are_told_why() {
        let error = |text: &str| text.parse::<Allowed>().expect_err("no network").to_string();
        assert!(error("build7/8").contains("not an IPv4 or IPv6 address"));
        assert!(error("300.1.2.3").contains("not an IPv4 or IPv6 address"));
        assert!(error("10.0.0.0/33").contains("at most 32"));
        assert!(error("10.0.0.0/").contains("prefix length"));
    }
}
