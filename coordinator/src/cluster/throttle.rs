//! Addresses that guess: who failed too often lately is not listened to.
//!
//! | input | output |
//! |---|---|
//! | failures, with their time | whether an address has had too many |

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Failures count for so long, from the first of them.
const WINDOW: Duration = Duration::from_secs(900);
/// So many are let pass; a person with a wrong token needs fewer.
const MOST: u32 = 10;
/// Sources that are remembered, in about a megabyte. Beyond it the oldest is forgotten: a
/// token cannot be guessed at any speed, and what fails here costs little.
const SOURCES: usize = 10_000;

/// Failures by source. Each call costs the same however many there are.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    counts: HashMap<IpAddr, u32>,
    /// When each of those began, oldest first.
    since: VecDeque<(Instant, IpAddr)>,
}

/// Whom an address belongs to: of IPv6 everybody has a whole network of 64 bits to call from.
pub(super) fn source(address: IpAddr) -> IpAddr {
    // One socket for both families shows IPv4 as a part of IPv6; all of it is one such network.
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

impl Throttle {
    /// Counts a failure of an address.
    pub(super) fn count(&mut self, address: IpAddr, now: Instant) {
        self.forget_old(now);
        let source = source(address);
        if let Some(count) = self.counts.get_mut(&source) {
            *count = count.saturating_add(1);
            return;
        }
        if self.counts.len() >= SOURCES {
            self.forget_oldest();
        }
        self.counts.insert(source, 1);
        self.since.push_back((now, source));
    }

    /// Whether an address had too many failures lately.
    pub(super) fn is_throttled(&mut self, address: IpAddr, now: Instant) -> bool {
        self.forget_old(now);
        let count = self.counts.get(&source(address));
        count.is_some_and(|count| *count >= MOST)
    }

    /// Each is forgotten once, so this costs no more than counting it did.
    fn forget_old(&mut self, now: Instant) {
        let is_old = |since: Instant| now.saturating_duration_since(since) >= WINDOW;
        while self.since.front().is_some_and(|(since, _)| is_old(*since)) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, source)) = self.since.pop_front() {
            self.counts.remove(&source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn ten_failures_are_enough_for_a_quarter_of_an_hour() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let guesser = address("192.0.2.1");
        for second in 0..10 {
            let now = start + Duration::from_secs(second);
            assert!(!throttle.is_throttled(guesser, now), "after {second}");
            throttle.count(guesser, now);
        }
        let last = start + WINDOW - Duration::from_millis(1);
        assert!(throttle.is_throttled(guesser, last));
        assert!(!throttle.is_throttled(address("192.0.2.2"), last));
        assert!(!throttle.is_throttled(guesser, start + WINDOW));
        assert!(throttle.counts.is_empty() && throttle.since.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_source_and_ipv4_behind_it_is_not() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        for host in 0..10 {
            throttle.count(address(&format!("2001:db8:0:1::{host:x}")), now);
            throttle.count(address(&format!("::ffff:192.0.2.{host}")), now);
        }
        assert!(throttle.is_throttled(address("2001:db8:0:1:ffff::1"), now));
        assert!(!throttle.is_throttled(address("2001:db8:0:2::1"), now));
        assert!(!throttle.is_throttled(address("::ffff:192.0.2.1"), now));
        for _ in 0..9 {
            throttle.count(address("192.0.2.1"), now);
        }
        assert!(throttle.is_throttled(address("::ffff:192.0.2.1"), now));
    }

    #[test]
    fn sources_are_bounded_and_the_oldest_goes_first() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let nth = |n: usize| IpAddr::V4(u32::try_from(n).expect("small").into());
        for n in 0..SOURCES {
            (0..10).for_each(|_| throttle.count(nth(n), now));
        }
        throttle.count(nth(SOURCES), now);
        assert_eq!(
            (throttle.counts.len(), throttle.since.len()),
            (SOURCES, SOURCES)
        );
        assert!(!throttle.is_throttled(nth(0), now) && throttle.is_throttled(nth(1), now));
    }
}
