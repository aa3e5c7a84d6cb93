//! Who may connect: a list of networks, and one question.
//!
//! Pure. An IPv4 peer that arrives on an IPv6 listener shows as `::ffff:a.b.c.d`; it is judged as
//! the IPv4 address that it is, or the list could be walked around by choosing a listener.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

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
    /// Bits are set that the prefix length says do not count: most often a slip.
    #[error("{address}/{bits} has bits set behind the prefix")]
    HostBits {
        /// The address.
        address: IpAddr,
        /// The prefix length.
        bits: u32,
    },
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
        let network = Network { address, bits }.mapped_as_ipv4();
        match network.prefix_of(network.address) == number(network.address) {
            true => Ok(network),
            false => Err(NetworkError::HostBits { address, bits }),
        }
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

/// The networks whose peers are served.
#[derive(Clone, Debug)]
pub struct Access {
    networks: Vec<Network>,
}

impl Access {
    /// Peers of these networks; of an empty list, peers on this machine only.
    pub fn new(networks: &[Network]) -> Self {
        if !networks.is_empty() {
            return Access { networks: networks.to_vec() };
        }
        let ipv4 = Network { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), bits: 8 };
        let ipv6 = Network { address: IpAddr::V6(Ipv6Addr::LOCALHOST), bits: 128 };
        Access { networks: vec![ipv4, ipv6] }
    }

    /// Whether `peer` is served.
    pub fn allows(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.networks.iter().any(|network| network.contains(peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(networks: &[&str], peer: &str, expected: bool) {
        let networks: Vec<Network> = networks.iter().map(|text| text.parse().expect("a network")).collect();
        let peer: IpAddr = peer.parse().expect("an address");
        assert_eq!(Access::new(&networks).allows(peer), expected, "{networks:?} {peer}");
    }

    #[test]
    fn without_a_list_only_this_machine_is_served() {
        check(&[], "127.0.0.1", true);
        check(&[], "127.9.9.9", true);
        check(&[], "::1", true);
        check(&[], "::ffff:127.0.0.1", true);
        check(&[], "192.168.0.1", false);
        check(&[], "::2", false);
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
    fn words_that_are_not_networks_are_told_why() {
        let error = |text: &str| text.parse::<Network>().expect_err("no network").to_string();
        assert!(error("build7").contains("not an IPv4 or IPv6 address"));
        assert!(error("10.0.0.0/33").contains("at most 32"));
        assert!(error("10.0.0.0/").contains("prefix length"));
        assert!(error("10.0.0.1/8").contains("bits set behind the prefix"));
    }
}
