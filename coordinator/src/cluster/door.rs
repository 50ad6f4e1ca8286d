//! Who may come in how fast.
//!
//! | input | output |
//! |---|---|
//! | handshakes that came to nothing, by address and whether it was proven | whether a peer is let in, has to prove its address, or is shut out |
//! | connections without a certificate, by address | whether one more is let be |
//! | hellos of agents | taken now, or asked to come again after so long |
//! | connections that have not said hello, by agent | whether one more is let be |
//!
//! A handshake of somebody with a certificate of ours, or with a token that was good, counts for
//! nothing: a thousand agents behind one address come in as fast as one by one.

use super::throttle::source;
use longshore_common::ids::AgentId;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// An address may have ten handshakes in a second that come to nothing.
const FRUITLESS_EVERY: Duration = Duration::from_millis(100);
/// So far it may be ahead of that.
const FRUITLESS_AHEAD: Duration = Duration::from_secs(1);
/// And no further: behind an address may be others, who are not kept out for longer than this.
const FRUITLESS_MOST: Duration = Duration::from_secs(5);
/// Addresses that are remembered, in about a megabyte. Beyond it one that is new is not counted:
/// how many handshakes there are at once is bounded anyway.
const SOURCES: usize = 10_000;
/// Connections without a certificate at once, each with at most 64 KiB that nobody has read.
const STRANGERS: usize = 128;
/// And of one address, so that none takes the place of all others. A rack that is set up behind one
/// address joins all the same: each is done in a fraction of a second.
const STRANGERS_OF_ONE: usize = 32;
/// Hellos taken in a second: each costs the engine a decision, and people wait beside them.
const HELLOS: u32 = 500;
/// An agent that is asked to come again is not told to do so sooner...
const AGAIN: Duration = Duration::from_secs(1);
/// ...nor later: by then the coordinator would have given it up.
const AGAIN_MOST: Duration = Duration::from_secs(10);
/// Connections of one agent that have not said hello. An honest one has a new one and at most
/// one that was cut off.
const GREETING: u32 = 4;

/// Handshakes that came to nothing.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    /// When an address will have none to its account any more.
    clear_at: HashMap<IpAddr, Instant>,
    swept: Option<Instant>,
}

impl Handshakes {
    /// Counts one of an address.
    pub(super) fn count(&mut self, address: IpAddr, now: Instant) {
        let source = source(address);
        if self.clear_at.len() >= SOURCES && !self.clear_at.contains_key(&source) {
            let lately = |at: Instant| now.saturating_duration_since(at) < FRUITLESS_AHEAD;
            if self.swept.is_some_and(lately) {
                return;
            }
            self.swept = Some(now);
            self.clear_at.retain(|_, clear_at| *clear_at > now);
            if self.clear_at.len() >= SOURCES {
                return;
            }
        }
        let clear_at = self.clear_at.entry(source).or_insert(now);
        let next = (*clear_at).max(now) + FRUITLESS_EVERY;
        *clear_at = next.min(now + FRUITLESS_MOST);
    }

    /// Whether an address has had too many.
    pub(super) fn are_too_many(&self, address: IpAddr, now: Instant) -> bool {
        let clear_at = self.clear_at.get(&source(address));
        clear_at.is_some_and(|at| at.saturating_duration_since(now) >= FRUITLESS_AHEAD)
    }
}

/// What becomes of a peer that begins a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// It is let in.
    Open,
    /// It has to show that its address is its own.
    Prove,
    /// It is refused.
    Shut,
}

/// Handshakes that came to nothing, in two accounts: anybody can write another's address on a
/// packet, so what failed before an address was proven keeps nobody out who can prove it.
#[derive(Debug, Default)]
pub(super) struct Fruitless {
    proven: Handshakes,
    claimed: Handshakes,
}

impl Fruitless {
    /// Counts one of an address that was proven by then, or not.
    pub(super) fn count(&mut self, address: IpAddr, proven: bool, now: Instant) {
        match proven {
            true => self.proven.count(address, now),
            false => self.claimed.count(address, now),
        }
    }

    /// What becomes of one that comes now; `busy` = as many are under way as need a proof.
    pub(super) fn door(&self, address: IpAddr, proven: bool, busy: bool, now: Instant) -> Door {
        let failed = self.proven.are_too_many(address, now);
        match proven {
            true if failed => Door::Shut,
            true => Door::Open,
            false if failed || busy || self.claimed.are_too_many(address, now) => Door::Prove,
            false => Door::Open,
        }
    }
}

/// Connections without a certificate, of all and of each address.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    all: usize,
    of: HashMap<IpAddr, usize>,
}

impl Strangers {
    /// Lets one more of an address be; false = there are enough.
    pub(super) fn begin(&mut self, address: IpAddr) -> bool {
        let address = source(address);
        let count = self.of.get(&address).copied().unwrap_or(0);
        let room = self.all < STRANGERS && count < STRANGERS_OF_ONE;
        if room {
            self.of.insert(address, count + 1);
            self.all += 1;
        }
        room
    }

    /// One that was let be is gone.
    pub(super) fn end(&mut self, address: IpAddr) {
        let address = source(address);
        if let Some(count) = self.of.get_mut(&address) {
            self.all = self.all.saturating_sub(1);
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of.remove(&address);
            }
        }
    }
}

/// Hellos of all agents.
#[derive(Debug, Default)]
pub(super) struct Hellos {
    /// When all that were taken have had their time.
    free_at: Option<Instant>,
    /// When the last one that was asked to come again will.
    promised: Option<Instant>,
}

impl Hellos {
    /// Takes one, or says after how long it is to come again: each a little later than the one
    /// before it, so that they do not come all at once again.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let each = Duration::from_secs(1) / HELLOS;
        let free_at = self.free_at.map_or(now, |at| at.max(now));
        if free_at.saturating_duration_since(now) < Duration::from_secs(1) {
            self.free_at = Some(free_at + each);
            return Ok(());
        }
        let soonest = now + AGAIN;
        let at = self.promised.map_or(soonest, |at| (at + each).max(soonest));
        let at = at.min(now + AGAIN_MOST);
        self.promised = Some(at);
        Err(at.saturating_duration_since(now))
    }
}

/// Connections that have not said hello yet.
#[derive(Debug, Default)]
pub(super) struct Greeting(HashMap<AgentId, u32>);

impl Greeting {
    /// Lets one more of an agent be; false = there are enough.
    pub(super) fn begin(&mut self, agent: AgentId) -> bool {
        let count = self.0.entry(agent).or_default();
        let room = *count < GREETING;
        *count += u32::from(room);
        room
    }

    /// One that was let be has said hello, or is gone.
    pub(super) fn end(&mut self, agent: AgentId) {
        if let Some(count) = self.0.get_mut(&agent) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.0.remove(&agent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn address(n: u8) -> IpAddr {
        [192, 0, 2, n].into()
    }

    #[test]
    fn an_address_has_ten_in_a_second_that_come_to_nothing() {
        let (mut handshakes, start) = (Handshakes::default(), Instant::now());
        for _ in 0..10 {
            assert!(!handshakes.are_too_many(address(1), start));
            handshakes.count(address(1), start);
        }
        assert!(handshakes.are_too_many(address(1), start));
        assert!(!handshakes.are_too_many(address(2), start), "each its own");
        let later = start + FRUITLESS_EVERY;
        assert!(!handshakes.are_too_many(address(1), later), "one more");
        // Those that were under way together are all counted.
        for _ in 0..100 {
            handshakes.count(address(1), later);
        }
        assert!(handshakes.are_too_many(address(1), later + SECOND * 4));
        assert!(!handshakes.are_too_many(address(1), later + SECOND * 5));
    }

    #[test]
    fn what_failed_under_an_address_that_was_not_proven_shuts_nobody_out() {
        let (mut fruitless, now) = (Fruitless::default(), Instant::now());
        let (one, other) = (address(1), address(2));
        assert_eq!(fruitless.door(one, false, false, now), Door::Open);
        assert_eq!(fruitless.door(one, false, true, now), Door::Prove);
        for _ in 0..1000 {
            fruitless.count(one, false, now);
        }
        assert_eq!(fruitless.door(one, false, false, now), Door::Prove);
        assert_eq!(fruitless.door(one, true, true, now), Door::Open);
        for _ in 0..10 {
            fruitless.count(one, true, now);
        }
        assert_eq!(fruitless.door(one, true, false, now), Door::Shut);
        assert_eq!(fruitless.door(other, false, false, now), Door::Open);
    }

    #[test]
    fn no_address_has_the_place_of_all_strangers() {
        let mut strangers = Strangers::default();
        let taken =
            |strangers: &mut Strangers, n| (0..200).filter(|_| strangers.begin(address(n))).count();
        assert_eq!(taken(&mut strangers, 1), STRANGERS_OF_ONE);
        assert_eq!(taken(&mut strangers, 2), STRANGERS_OF_ONE);
        strangers.end(address(1));
        assert_eq!(taken(&mut strangers, 1), 1);
        let rest: usize = (3..100).map(|n| taken(&mut strangers, n)).sum();
        assert_eq!(
            rest,
            STRANGERS - 2 * STRANGERS_OF_ONE,
            "and all have theirs"
        );
        for n in 1..100 {
            (0..STRANGERS_OF_ONE).for_each(|_| strangers.end(address(n)));
        }
        assert_eq!((strangers.all, strangers.of.len()), (0, 0));
    }

    #[test]
    fn addresses_without_number_take_no_memory_without_bound() {
        let (mut handshakes, start) = (Handshakes::default(), Instant::now());
        let many = |from: u32| (from..from + 20_000).map(|n| IpAddr::from(n.to_be_bytes()));
        many(1 << 24).for_each(|one| handshakes.count(one, start));
        assert_eq!(handshakes.clear_at.len(), SOURCES);
        let later = start + SECOND * 2;
        many(2 << 24).for_each(|one| handshakes.count(one, later));
        let kept = |one: &IpAddr| handshakes.clear_at.contains_key(one);
        assert!(
            many(2 << 24).take(SOURCES).all(|one| kept(&one)),
            "old ones went"
        );
        assert_eq!(handshakes.clear_at.len(), SOURCES);
    }

    #[test]
    fn so_many_hellos_are_taken_in_a_second_and_the_others_come_one_after_the_other() {
        let (mut hellos, start) = (Hellos::default(), Instant::now());
        let answers: Vec<_> = (0..1000).map(|_| hellos.take(start)).collect();
        assert!(answers[..500].iter().all(Result::is_ok));
        let waits: Vec<Duration> = answers[500..].iter().map(|a| a.unwrap_err()).collect();
        assert_eq!(waits[0], AGAIN);
        assert!(
            waits
                .windows(2)
                .all(|pair| pair[1] == pair[0] + SECOND / HELLOS)
        );
        // When they come all are taken.
        for wait in waits {
            assert_eq!(hellos.take(start + wait), Ok(()));
        }
        let mut flood = Hellos::default();
        let longest = (0..100_000).filter_map(|_| flood.take(start).err()).max();
        assert_eq!(longest, Some(AGAIN_MOST));
    }

    #[test]
    fn few_connections_of_an_agent_wait_before_they_say_hello() {
        let mut greeting = Greeting::default();
        let (one, other) = (AgentId::new(1), AgentId::new(2));
        assert!((0..GREETING).all(|_| greeting.begin(one)));
        assert!(!greeting.begin(one) && greeting.begin(other));
        greeting.end(one);
        assert!(greeting.begin(one));
        (0..GREETING).for_each(|_| greeting.end(one));
        greeting.end(other);
        assert!(greeting.0.is_empty());
    }
}
