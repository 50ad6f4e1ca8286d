//! What every release says and understands for ever, and what two of one protocol agree on.
//!
//! Rules that hold from the first release on:
//!
//! - The forms of [`HelloBare`] and [`Incompatible`], their kinds and the name
//!   `longshore-agent/0` never change. They are all that two programs have in common that know
//!   nothing else of each other.
//! - So are those of all other messages frozen, each under its kind and `ver`. A new member is a
//!   new struct with a higher `ver`, never one at the end of an old one: postcard has no ends.
//!   Enums grow at their end.
//! - Whether the other side knows a new `ver` or variant, a bit of [`Features`] says. Who sends one
//!   without that bit in force breaks the link of every older peer.
//! - The number in `longshore-agent/N` rises when the streams or the order on them change so that a
//!   bit cannot say it: a message that must come first, another meaning of an old one. Each release
//!   speaks its own number and the one before.

use super::message::{MAX_TEXT, Message};
use crate::ids::{AgentId, ClusterId};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// Numbers of the protocols that this release speaks, the newest first.
pub const PROTOCOLS: &[u16] = &[1];
/// Most protocols that a program may name.
pub const MAX_PROTOCOLS: usize = 16;

/// First and only frame of an agent whose protocols the coordinator does not speak.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloBare {
    /// Who it says it is; compared with its certificate.
    pub agent: AgentId,
    /// The cluster it joined.
    pub cluster: ClusterId,
    /// Its name, as it knows it.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The protocols it speaks.
    pub protocols: Vec<u16>,
}

impl Message for HelloBare {
    const KIND: u16 = 7;

    fn check_bounds(&self) -> Result<(), &'static str> {
        bounds(&[&self.name, &self.version], &self.protocols)
    }
}

/// The only answer to it. The agent closes the connection then and asks again later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incompatible {
    /// Version of the coordinator.
    pub version: String,
    /// The protocols it speaks.
    pub protocols: Vec<u16>,
    /// After so long the agent asks again, in milliseconds.
    pub retry_after_ms: u32,
}

impl Message for Incompatible {
    const KIND: u16 = 8;

    fn check_bounds(&self) -> Result<(), &'static str> {
        bounds(&[&self.version], &self.protocols)
    }
}

fn bounds(texts: &[&String], protocols: &[u16]) -> Result<(), &'static str> {
    if texts.iter().any(|text| text.len() > MAX_TEXT) {
        return Err("text");
    }
    match protocols.len() <= MAX_PROTOCOLS {
        true => Ok(()),
        false => Err("protocols"),
    }
}

/// Version and protocols of one of the two.
#[derive(Debug, Clone, Copy)]
pub struct Speaks<'a> {
    /// Its version.
    pub version: &'a str,
    /// What it speaks.
    pub protocols: &'a [u16],
}

/// Why the two do not understand each other, and which of them is to be updated.
#[must_use]
pub fn incompatible(agent: Speaks<'_>, coordinator: Speaks<'_>) -> String {
    let newest = |one: Speaks<'_>| one.protocols.iter().copied().max().unwrap_or(0);
    let older = match newest(agent) < newest(coordinator) {
        true => "agent",
        false => "coordinator",
    };
    format!(
        "the agent {} speaks {}, the coordinator {} speaks {}: update the {older}",
        agent.version,
        named(agent.protocols),
        coordinator.version,
        named(coordinator.protocols),
    )
}

fn named(protocols: &[u16]) -> String {
    let mut text = String::new();
    for number in protocols {
        let _ = match text.is_empty() {
            true => write!(text, "protocol {number}"),
            false => write!(text, " and {number}"),
        }; // a String takes everything
    }
    match text.is_empty() {
        true => "no protocol".to_owned(),
        false => text,
    }
}

/// What a program can do beyond the first form of each message, a bit each. What both can is in
/// force; bits that one of them does not know are nothing to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features(u64);

impl Features {
    /// Those of this release: the first form of every message is all there is.
    pub const OURS: Self = Self(0);

    /// Those of these bits.
    #[must_use]
    pub const fn of(bits: u64) -> Self {
        Self(bits)
    }

    /// What both can.
    #[must_use]
    pub const fn both(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether all of these are among them.
    #[must_use]
    pub const fn has(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_who_is_too_old() {
        let new = Speaks {
            version: "2.1.0",
            protocols: &[3, 2],
        };
        let old = Speaks {
            version: "1.0.0",
            protocols: &[1],
        };
        assert_eq!(
            incompatible(old, new),
            "the agent 1.0.0 speaks protocol 1, the coordinator 2.1.0 speaks protocol 3 and 2: update the agent"
        );
        assert!(incompatible(new, old).ends_with("update the coordinator"));
        let none = Speaks {
            protocols: &[],
            ..old
        };
        assert!(incompatible(none, old).contains("speaks no protocol,"));
    }

    #[test]
    fn what_one_does_not_know_is_not_in_force() {
        let (one, other) = (Features::of(0b110), Features::of(1 << 63 | 0b011));
        assert_eq!(one.both(other), Features::of(0b010));
        assert!(one.has(Features::of(0b100)) && !one.has(Features::of(0b101)));
        assert_eq!(Features::OURS.both(Features::of(u64::MAX)), Features::OURS);
    }

    #[test]
    fn the_number_of_the_protocol_is_in_its_name() {
        let newest = PROTOCOLS.iter().max().unwrap();
        let name = format!("longshore-agent/{newest}");
        assert_eq!(crate::wire::ALPN_AGENT, name.as_bytes());
    }
}
