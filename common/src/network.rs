//! Networks of sessions of several containers: ranges of addresses, what a node has of them,
//! and the order by which agents make their parts of one network.
//!
//! The coordinator chooses number, range and addresses; agents make links and know no other
//! session. Nothing here does I/O.

use crate::ids::{Attempt, Rank, SessionId};
/// An address is plain data; this module has no sockets.
pub use core::net::Ipv4Addr;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Bytes that a packet grows by on its way between nodes: outer Ethernet, IPv4, UDP and VXLAN.
pub const OVERHEAD: u32 = 50;
/// The port of VXLAN by its standard.
pub const PORT: u16 = 4789;
/// Largest number of such a network: 24 bits.
pub const MAX_NUMBER: u32 = 0x00ff_ffff;
/// Most ranges that a node tells; more would only be others' routes.
pub const MAX_RANGES: usize = 256;

/// A range of IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    /// Its first address.
    pub base: Ipv4Addr,
    /// How many leading bits are fixed, 0 to 32.
    pub prefix: u8,
}

/// A text that is no range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a range of addresses such as 10.213.0.0/16")]
pub struct NoSubnet(String);

impl Subnet {
    /// The range of this size in which an address lies; none for a size above 32.
    #[must_use]
    pub fn around(address: Ipv4Addr, prefix: u8) -> Option<Self> {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix).min(32));
        (prefix <= 32).then_some(Self {
            base: Ipv4Addr::from(u32::from(address) & mask.unwrap_or(0)),
            prefix,
        })
    }

    /// The `n`th subnet of the given size, counted from 0.
    #[must_use]
    pub fn nth(self, prefix: u8, n: u32) -> Option<Self> {
        let size = 1u64 << 32u32.checked_sub(prefix.into())?;
        let start = u64::from(u32::from(self.base)) + u64::from(n) * size;
        let base = u32::try_from(start).ok();
        let base = base.filter(|_| start + size - 1 <= u64::from(self.last()))?;
        Some(Self {
            base: Ipv4Addr::from(base),
            prefix,
        })
    }

    /// The `n`th address, counted from 0.
    #[must_use]
    pub fn address(self, n: u32) -> Option<Ipv4Addr> {
        let address = u32::from(self.base).checked_add(n)?;
        (address <= self.last()).then(|| Ipv4Addr::from(address))
    }

    /// Whether both have an address.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        u32::from(self.base) <= other.last() && u32::from(other.base) <= self.last()
    }

    /// The first range of this size in which none of `taken` has an address, from the one with
    /// number `from` on, and then from the beginning.
    #[must_use]
    pub fn free(self, prefix: u8, taken: &[Self], from: u32) -> Option<Self> {
        if prefix < self.prefix || prefix > 32 {
            return None;
        }
        let behind = self.free_behind(prefix, taken, from);
        behind.or_else(|| self.free_behind(prefix, taken, 0))
    }

    fn free_behind(self, prefix: u8, taken: &[Self], from: u32) -> Option<Self> {
        let mut n = from;
        loop {
            let candidate = self.nth(prefix, n)?;
            let Some(last) = taken
                .iter()
                .filter(|other| candidate.overlaps(**other))
                .map(|other| other.last())
                .max()
            else {
                return Some(candidate);
            };
            // The first that begins behind what is in the way.
            let behind = u64::from(last.min(self.last())) - u64::from(u32::from(self.base)) + 1;
            let size = 1u64 << (32 - u32::from(prefix));
            n = u32::try_from(behind.div_ceil(size)).ok()?.max(n + 1);
        }
    }

    /// Its last address as a number.
    fn last(self) -> u32 {
        let rest = u32::MAX.checked_shr(u32::from(self.prefix)).unwrap_or(0);
        u32::from(self.base) | rest
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = NoSubnet;
    fn from_str(text: &str) -> Result<Self, NoSubnet> {
        let error = || NoSubnet(text.chars().take(64).collect());
        let (base, prefix) = text.split_once('/').ok_or_else(error)?;
        let base: Ipv4Addr = base.parse().map_err(|_| error())?;
        let prefix: u8 = prefix.parse().map_err(|_| error())?;
        let whole = Self::around(base, prefix).ok_or_else(error)?;
        match whole.base == base {
            true => Ok(whole),
            false => Err(error()),
        }
    }
}

impl Serialize for Subnet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.collect_str(self),
            false => (u32::from(self.base), self.prefix).serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Subnet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            return text.parse().map_err(D::Error::custom);
        }
        let (base, prefix) = <(u32, u8)>::deserialize(deserializer)?;
        let base = Ipv4Addr::from(base);
        Self::around(base, prefix)
            .filter(|whole| whole.base == base)
            .ok_or_else(|| D::Error::custom("not a range of addresses"))
    }
}

/// Where a node is reached by other nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Underlay {
    /// The link it is on.
    pub link: String,
    /// Its address there.
    pub address: Ipv4Addr,
    /// The UDP port at which it takes what comes from other nodes.
    pub port: u16,
    /// Largest packet of that link, in bytes.
    pub mtu: u32,
}

/// What a node says of its networks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct NodeNetworks {
    /// Where other nodes reach it; none = it found no address of its own.
    pub underlay: Option<Underlay>,
    /// Ranges that no session may get: what it has routes to, and what it cuts networks from;
    /// at most [`MAX_RANGES`].
    pub ranges: Vec<Subnet>,
}

/// How the containers of one attempt of a session reach each other, as one agent is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionNetwork {
    /// Which session.
    pub session: SessionId,
    /// Which attempt.
    pub attempt: Attempt,
    /// A network of their own; none = that of their nodes.
    pub own: Option<OwnNetwork>,
    /// Every rank with its address.
    pub hosts: Vec<(Rank, Ipv4Addr)>,
}

impl SessionNetwork {
    /// The address of a rank.
    #[must_use]
    pub fn address(&self, rank: Rank) -> Option<Ipv4Addr> {
        let mut hosts = self.hosts.iter();
        hosts.find(|(of, _)| *of == rank).map(|(_, at)| *at)
    }
}

/// The part of a network that one agent makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnNetwork {
    /// The number that tells it from others between nodes, 1 to [`MAX_NUMBER`].
    pub number: u32,
    /// Its addresses.
    pub subnet: Subnet,
    /// This node's own address in it.
    pub gateway: Ipv4Addr,
    /// Largest packet in it between nodes, in bytes.
    pub mtu: u32,
    /// The other nodes; none where all containers are on this one.
    pub peers: Vec<Peer>,
}

/// Another node of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name, for words.
    pub name: String,
    /// Where it is reached; none = it named no address.
    pub at: Option<(Ipv4Addr, u16)>,
    /// Its own address in the network.
    pub gateway: Ipv4Addr,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_read_back_and_others_are_refused() {
        for good in ["10.213.0.0/16", "0.0.0.0/0", "10.0.0.1/32"] {
            assert_eq!(net(good).to_string(), good);
            let bytes = postcard::to_stdvec(&net(good)).unwrap();
            assert_eq!(postcard::from_bytes::<Subnet>(&bytes), Ok(net(good)));
        }
        for bad in ["10.213.0.1/16", "10.213.0.0", "10.0.0.0/33", "x/16", "::/8"] {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
        let stray = postcard::to_stdvec(&(1u32, 8u8)).unwrap();
        assert!(postcard::from_bytes::<Subnet>(&stray).is_err());
    }

    #[test]
    fn subnets_fill_the_range_and_stop_there() {
        let range = net("10.213.0.0/16");
        assert_eq!(range.nth(27, 9), Some(net("10.213.1.32/27")));
        assert_eq!(range.nth(27, 2047), Some(net("10.213.255.224/27")));
        assert_eq!(range.nth(27, 2048), None);
        assert_eq!(range.nth(27, u32::MAX), None);
        assert_eq!(
            net("255.255.255.0/24").nth(30, 63),
            Some(net("255.255.255.252/30"))
        );
        assert_eq!(
            net("10.0.0.8/29").address(7),
            Some(Ipv4Addr::new(10, 0, 0, 15))
        );
        assert_eq!(net("10.0.0.8/29").address(8), None);
    }

    #[test]
    fn the_first_free_range_is_taken_and_no_address_twice() {
        let range = net("10.214.0.0/24");
        assert_eq!(range.free(29, &[], 0), Some(net("10.214.0.0/29")));
        let taken = [
            net("10.214.0.0/29"),
            net("10.214.0.16/28"),
            net("192.168.0.0/16"),
        ];
        assert_eq!(range.free(29, &taken, 0), Some(net("10.214.0.8/29")));
        assert_eq!(range.free(28, &taken, 0), Some(net("10.214.0.32/28")));
        assert_eq!(range.free(29, &[net("10.0.0.0/8")], 0), None);
        assert_eq!(
            range.free(29, &[net("10.214.0.0/25")], 0),
            Some(net("10.214.0.128/29"))
        );
        // On from a place, and around the end.
        assert_eq!(range.free(29, &taken, 5), Some(net("10.214.0.40/29")));
        assert_eq!(range.free(29, &[], 1 << 31), Some(net("10.214.0.0/29")));
        assert_eq!(range.free(23, &[], 0), None);
        let all: Vec<Subnet> = (0..32).filter_map(|n| range.nth(29, n)).collect();
        assert_eq!(range.free(30, &all, 0), None);
        assert_eq!(range.free(29, &all[..31], 0), Some(all[31]));
        assert_eq!(range.free(29, &all[1..], 7), Some(all[0]));
    }
}
