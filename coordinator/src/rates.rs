//! How many requests who may make: buckets of keypairs, people and clients nobody knows.
//!
//! | input | output |
//! |---|---|
//! | who asks, from where, when | whether the request is served, and the headers of its answer |
//! | the file of the last orderly stop | buckets as they were; a crash empties them |

use crate::settings::Held;
use axum::http::HeaderMap;
use longshore_common::ids::UserId;
use longshore_identity::bucket::{Bucket, Buckets, SavedBucket, Verdict, anonymous_prefix};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The buckets, in the data directory.
const FILE: &str = "rate-limits.json";
/// Callers that are known and held at a time; far more than an installation has.
const KNOWN_MOST: usize = 200_000;
/// Clients that are held at a time.
const CLIENTS_MOST: usize = 65_536;

/// Whose bucket counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Whose {
    /// A keypair's.
    Keypair(String),
    /// A person's, for all logins together: a script with a keypair does not lock the console.
    Logins(UserId),
}

/// See the module.
#[derive(Debug)]
pub struct Rates {
    held: Mutex<Taken>,
    /// Requests in 900 s: of a keypair, of a client that is not known.
    limits: Held<(u32, u32)>,
    trusted: Held<Vec<Network>>,
    file: PathBuf,
}

#[derive(Debug)]
struct Taken {
    known: Buckets<Whose>,
    clients: Buckets<IpAddr>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Saved {
    /// Milliseconds since 1970.
    at_ms: i64,
    known: Vec<(Whose, SavedBucket)>,
    clients: Vec<(IpAddr, SavedBucket)>,
}

impl Rates {
    /// Buckets as the last orderly stop left them. A file that cannot be read is as none:
    /// who was counted is counted anew.
    ///
    /// `keypair` and `anonymous` are requests in 900 s, `trusted` the proxies whose word
    /// about the client counts, `now_ms` a clock that never steps, `wall_ms` the wall clock.
    #[must_use]
    pub fn load(
        (keypair, anonymous): (u32, u32),
        trusted: Vec<Network>,
        data_dir: &Path,
        now_ms: i64,
        wall_ms: i64,
    ) -> Self {
        let file = data_dir.join(FILE);
        let saved: Saved = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(%error, "the file {FILE} cannot be read; requests are counted anew");
                Saved::default()
            }),
            Err(_) => Saved::default(),
        };
        let away = wall_ms.saturating_sub(saved.at_ms);
        let mut held = Taken {
            known: Buckets::new(KNOWN_MOST),
            clients: Buckets::new(CLIENTS_MOST),
        };
        for (whose, bucket) in &saved.known {
            held.known
                .insert(whose.clone(), Bucket::load(bucket, now_ms, away));
        }
        for (client, bucket) in &saved.clients {
            held.clients
                .insert(*client, Bucket::load(bucket, now_ms, away));
        }
        // Once it is read it is old: a crash later must not bring it back.
        let _ = std::fs::remove_file(&file);
        Self {
            held: Mutex::new(held),
            limits: Held::new((keypair, anonymous)),
            trusted: Held::new(trusted),
            file,
        }
    }

    fn held(&self) -> MutexGuard<'_, Taken> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The settings are others from now on; who was counted stays counted.
    pub fn set(&self, limits: (u32, u32), trusted: Vec<Network>) {
        self.limits.set(limits);
        self.trusted.set(trusted);
    }

    /// Asks for one request of somebody who proved to be somebody. `own` is the limit of the
    /// keypair, none = that of the installation.
    pub fn known(&self, whose: &Whose, own: Option<u32>, now_ms: i64) -> Verdict {
        let limit = own.unwrap_or_else(|| self.limits.get().0);
        self.held().known.take(whose, now_ms, limit)
    }

    /// Asks for one request of a client that is not known, or did not prove to be.
    pub fn client(&self, client: IpAddr, now_ms: i64) -> Verdict {
        let client = anonymous_prefix(client);
        let (_, limit) = self.limits.get();
        self.held().clients.take(&client, now_ms, limit)
    }

    /// Requests of a keypair that lie in the window.
    pub fn in_window(&self, access_key: &str, now_ms: i64) -> u32 {
        let whose = Whose::Keypair(access_key.to_owned());
        self.held().known.requests(&whose, now_ms)
    }

    /// The client a request comes from: the peer, or what a trusted proxy says of it. Of
    /// several forwarded addresses the rightmost counts that is no trusted proxy itself:
    /// what stands left of it anybody may have written.
    #[must_use]
    pub fn client_of<'a, T: AsRef<[u8]> + ?Sized + 'a>(
        &self,
        peer: IpAddr,
        forwarded: impl Iterator<Item = &'a T>,
    ) -> IpAddr {
        self.way(peer, forwarded).map_or(peer, |(client, _)| client)
    }

    /// How many trusted proxies stand between the outermost of them and us; none where the peer
    /// is no trusted proxy.
    #[must_use]
    pub fn hops(&self, peer: IpAddr, headers: &HeaderMap) -> Option<usize> {
        let forwarded = headers.get_all("x-forwarded-for").iter();
        self.way(peer, forwarded).map(|(_, hops)| hops)
    }

    /// The client, and the trusted proxies that name one another on the way from it.
    fn way<'a, T: AsRef<[u8]> + ?Sized + 'a>(
        &self,
        peer: IpAddr,
        forwarded: impl Iterator<Item = &'a T>,
    ) -> Option<(IpAddr, usize)> {
        let trusts = |address: IpAddr| {
            let holds = |all: &Vec<Network>| all.iter().any(|net| net.holds(address));
            self.trusted.look(holds)
        };
        if !trusts(peer) {
            return None;
        }
        // Bytes: what a client wrote first may be no text, and hides nothing that proxies wrote.
        let entries = forwarded.flat_map(|value| value.as_ref().split(|byte| *byte == b','));
        let mut entries: Vec<&[u8]> = entries.map(<[u8]>::trim_ascii).collect();
        let mut hops = 0;
        while let Some(entry) = entries.pop() {
            let entry = std::str::from_utf8(entry).ok();
            match entry.and_then(|entry| entry.parse::<IpAddr>().ok()) {
                Some(address) if trusts(address) => hops += 1,
                Some(address) => return Some((address, hops)),
                None => break, // not an address: whoever wrote it is not believed
            }
        }
        Some((peer, hops))
    }

    /// Keeps the buckets for the next start.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, now_ms: i64, wall_ms: i64) -> std::io::Result<()> {
        let held = self.held();
        let saved = Saved {
            at_ms: wall_ms,
            known: held
                .known
                .save(now_ms)
                .map(|(whose, bucket)| (whose.clone(), bucket))
                .collect(),
            clients: held
                .clients
                .save(now_ms)
                .map(|(client, bucket)| (*client, bucket))
                .collect(),
        };
        drop(held);
        let text = serde_json::to_vec(&saved)?;
        crate::identity::write_secret(&self.file, &text)
    }
}

/// An address, or all addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// Bits that count.
    length: u8,
}

impl Network {
    /// Whether an address lies in it. IPv4 written as IPv6 is IPv4.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(one)) => {
                let shift = 32 - u32::from(self.length.min(32));
                let cut = |bits: u32| bits.checked_shr(shift).unwrap_or(0);
                cut(net.to_bits()) == cut(one.to_bits())
            }
            (IpAddr::V6(net), IpAddr::V6(one)) => {
                let shift = 128 - u32::from(self.length.min(128));
                let cut = |bits: u128| bits.checked_shr(shift).unwrap_or(0);
                cut(net.to_bits()) == cut(one.to_bits())
            }
            _ => false,
        }
    }
}

impl std::str::FromStr for Network {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no address, nor a network such as 10.0.0.0/8");
        let (address, length) = match text.split_once('/') {
            None => (text, None),
            Some((address, length)) => (address, Some(length)),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => most,
            Some(length) => length.parse().map_err(|_| wrong())?,
        };
        match length <= most {
            true => Ok(Self { address, length }),
            false => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(dir: &Path, trusted: &[&str], wall_ms: i64) -> Rates {
        let trusted = trusted.iter().map(|t| t.parse().unwrap()).collect();
        Rates::load((2, 1), trusted, dir, 0, wall_ms)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_example_of_the_specification() {
        let dir = tempfile::tempdir().unwrap();
        let rates = rates(dir.path(), &[], 0);
        let whose = Whose::Keypair("LSA".to_owned());
        let at = |ms: i64| {
            let verdict = rates.known(&whose, None, ms);
            (verdict.remaining, verdict.retry_after_s)
        };
        assert_eq!(at(0), (1, None));
        assert_eq!(at(10_000), (0, None));
        assert_eq!(at(20_000), (0, Some(880)));
        assert_eq!(at(899_500), (0, Some(1)));
        assert_eq!(at(900_000), (0, None));
        assert_eq!(at(901_000), (0, Some(9)));
        // Logins of the same person have a bucket of their own.
        let logins = Whose::Logins(UserId::new(1));
        assert!(rates.known(&logins, Some(1), 901_000).passes());
        assert!(!rates.known(&logins, Some(1), 901_000).passes());
    }

    #[test]
    fn what_an_orderly_stop_kept_counts_on_and_is_used_once() {
        let dir = tempfile::tempdir().unwrap();
        let whose = Whose::Keypair("LSA".to_owned());
        let first = rates(dir.path(), &[], 0);
        for _ in 0..2 {
            assert!(first.known(&whose, None, 0).passes());
        }
        first.save(1000, 50_000).unwrap();
        let second = rates(dir.path(), &[], 60_000);
        assert!(!second.known(&whose, None, 0).passes());
        // After a crash nothing is left of it.
        assert!(
            rates(dir.path(), &[], 70_000)
                .known(&whose, None, 0)
                .passes()
        );
    }

    #[test]
    fn clients_are_counted_by_address_or_prefix() {
        let dir = tempfile::tempdir().unwrap();
        let rates = rates(dir.path(), &[], 0);
        assert!(rates.client(ip("192.0.2.1"), 0).passes());
        assert!(rates.client(ip("192.0.2.2"), 0).passes());
        assert!(!rates.client(ip("::ffff:192.0.2.1"), 0).passes());
        assert!(rates.client(ip("2001:db8::1"), 0).passes());
        assert!(!rates.client(ip("2001:db8::2"), 0).passes());
    }

    #[test]
    fn only_proxies_that_are_trusted_are_believed() {
        let dir = tempfile::tempdir().unwrap();
        let rates = rates(dir.path(), &["10.0.0.0/8", "2001:db8::7"], 0);
        let of =
            |peer: &str, said: &[&str]| rates.client_of(ip(peer), said.iter().copied()).to_string();
        assert_eq!(of("192.0.2.9", &["1.2.3.4"]), "192.0.2.9");
        assert_eq!(of("10.1.1.1", &[]), "10.1.1.1");
        assert_eq!(of("10.1.1.1", &["6.6.6.6, 1.2.3.4, 10.2.2.2"]), "1.2.3.4");
        assert_eq!(of("2001:db8::7", &["6.6.6.6", "1.2.3.4"]), "1.2.3.4");
        assert_eq!(of("10.1.1.1", &["1.2.3.4, nonsense"]), "10.1.1.1");
        let line = b"6.6.6.6, \xff, 1.2.3.4, 10.2.2.2";
        let client = rates.client_of(ip("10.1.1.1"), [line].into_iter());
        assert_eq!(client, ip("1.2.3.4"));
        let line = axum::http::HeaderValue::from_bytes(line).unwrap();
        let headers = HeaderMap::from_iter([("x-forwarded-for".parse().unwrap(), line)]);
        assert_eq!(rates.hops(ip("10.1.1.1"), &headers), Some(1));
        for wrong in ["10.0.0.0/33", "lab", "10.0.0.0/x"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
        assert!("0.0.0.0/0".parse::<Network>().unwrap().holds(ip("8.8.8.8")));
    }
}
