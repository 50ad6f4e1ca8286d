//! Whether a login may be tried: four counters against guessing.
//!
//! Counters are kept by login name, known or not, and by the part of the network the try
//! comes from. What a call decides are the rows to store before the answer leaves, so that a
//! restart forgets nothing; they count once they are applied.
//!
//! Order of calls for a login: [`Throttle::try_login`] once the permit for hashing is
//! there (so that no more tries are under way than hashes run, and the limits overshoot by
//! no more than that), the check, then [`Throttle::failed`] or, after the code too if one
//! is asked for, [`Throttle::succeeded`].

use crate::Sha256;
use crate::fields::fold;
use longshore_common::ids::UserId;
use longshore_common::time::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The window of codes, in milliseconds.
const CODE_WINDOW_MS: i64 = 900_000;
/// Failures of a name or a prefix that a row can hold: what a limit may be at most.
pub const FAILURES_MAX: u32 = 1000;
/// How long a prefix stays known after a login from it succeeded: 30 days, in milliseconds.
pub const KNOWN_MS: i64 = 30 * 24 * 3_600_000;
/// Failures of a row that are kept at most.
const MOST_KEPT: usize = FAILURES_MAX as usize;
/// Prefixes remembered for one name: more places than one person logs in from in a month;
/// the longest unused makes room.
const KNOWN_PER_NAME: usize = 32;

/// When a counter refuses, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    failures: usize,
    /// Failures count for so many milliseconds.
    window_ms: i64,
    /// Milliseconds from the failure that reached the limit; none: as long as so many
    /// failures lie in the window.
    refuse_ms: Option<i64>,
}

const CODE: Rule = Rule {
    failures: 10,
    window_ms: CODE_WINDOW_MS,
    refuse_ms: Some(CODE_WINDOW_MS),
};

/// How many failures are one too many, as the configuration says. Codes have limits that
/// nobody changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Failures of a name from a prefix, 1 to [`FAILURES_MAX`].
    pub failures: u32,
    /// Seconds for which a failure counts, at least 1; for so long a name that had too many is
    /// refused.
    pub window_s: u32,
    /// Seconds for which a name is refused from a prefix, at least 1.
    pub block_s: u32,
    /// Failures of a name from anywhere, 1 to [`FAILURES_MAX`].
    pub account_failures: u32,
    /// Failures of any name from a prefix, 1 to [`FAILURES_MAX`].
    pub source_failures: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            failures: 10,
            window_s: 900,
            block_s: 1200,
            account_failures: 100,
            source_failures: 100,
        }
    }
}

impl Limits {
    fn rule(self, failures: u32, refuse_s: Option<u32>) -> Rule {
        let failures = failures.clamp(1, FAILURES_MAX);
        Rule {
            failures: usize::try_from(failures).unwrap_or(usize::MAX),
            window_ms: i64::from(self.window_s.max(1)) * 1000,
            refuse_ms: refuse_s.map(|s| i64::from(s.max(1)) * 1000),
        }
    }

    fn pair(self) -> Rule {
        self.rule(self.failures, Some(self.block_s))
    }

    fn name(self) -> Rule {
        self.rule(self.account_failures, Some(self.window_s))
    }

    fn prefix(self) -> Rule {
        self.rule(self.source_failures, None)
    }
}

/// Where a client is, as far as guessing is counted: /24 of IPv4, /64 of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Prefix {
    /// The first 24 bits.
    V4([u8; 3]),
    /// The first 64 bits.
    V6([u8; 8]),
}

impl Prefix {
    /// The prefix of an address. IPv4 written as IPv6 (`::ffff:a.b.c.d`) is IPv4.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::V4([a, b, c]) => write!(f, "{}/24", Ipv4Addr::new(a, b, c, 0)),
            Self::V6(bytes) => {
                let bits = u128::from(u64::from_be_bytes(bytes)) << 64;
                write!(f, "{}/64", Ipv6Addr::from_bits(bits))
            }
        }
    }
}

/// A login name as a key: half of the SHA-256 of its folded form. Not the name itself,
/// since people type passwords into that field and these rows are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameKey([u8; 16]);

impl NameKey {
    /// The key of a login name as it was typed: NFC, without outer white space and case.
    #[must_use]
    pub fn of(login: &str) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&Sha256::of(fold(login).as_bytes()).as_bytes()[..16]);
        Self(half)
    }
}

impl fmt::Display for NameKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// What a row is about. Printed and serialised as words: `pair <name> <prefix>`,
/// `name <name>`, `prefix <prefix>`, `code <user>`, `known <name> <prefix>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Failures of a name from a prefix.
    Pair(NameKey, Prefix),
    /// Failures of a name from anywhere.
    Name(NameKey),
    /// Failures of any name from a prefix.
    Prefix(Prefix),
    /// Wrong codes of a person who knew the password.
    Code(UserId),
    /// A login of this name from this prefix succeeded.
    Known(NameKey, Prefix),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pair(name, prefix) => write!(f, "pair {name} {prefix}"),
            Self::Name(name) => write!(f, "name {name}"),
            Self::Prefix(prefix) => write!(f, "prefix {prefix}"),
            Self::Code(user) => write!(f, "code {user}"),
            Self::Known(name, prefix) => write!(f, "known {name} {prefix}"),
        }
    }
}

/// The text is not the key of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected the key of a throttle row")]
pub struct ParseKeyError;

fn parse_name(text: &str) -> Result<NameKey, ParseKeyError> {
    if text.len() != 32 {
        return Err(ParseKeyError);
    }
    let bytes = data_encoding::HEXLOWER
        .decode(text.as_bytes())
        .map_err(|_| ParseKeyError)?;
    bytes.try_into().map(NameKey).map_err(|_| ParseKeyError)
}

fn parse_prefix(text: &str) -> Result<Prefix, ParseKeyError> {
    let (address, length) = text.split_once('/').ok_or(ParseKeyError)?;
    let address: IpAddr = address.parse().map_err(|_| ParseKeyError)?;
    let prefix = Prefix::of(address);
    // Only as we print it: one prefix, one key.
    (matches!(length, "24" | "64") && prefix.to_string() == text)
        .then_some(prefix)
        .ok_or(ParseKeyError)
}

impl FromStr for Key {
    type Err = ParseKeyError;
    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let words: Vec<&str> = text.splitn(4, ' ').collect();
        match words[..] {
            ["pair", name, prefix] => Ok(Self::Pair(parse_name(name)?, parse_prefix(prefix)?)),
            ["known", name, prefix] => Ok(Self::Known(parse_name(name)?, parse_prefix(prefix)?)),
            ["name", name] => parse_name(name).map(Self::Name),
            ["prefix", prefix] => parse_prefix(prefix).map(Self::Prefix),
            ["code", user] => user.parse().map(Self::Code).map_err(|_| ParseKeyError),
            _ => Err(ParseKeyError),
        }
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// A counter as it is stored. Times are milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// What it is about.
    pub key: Key,
    /// When tries failed, at most as many as the limit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures_ms: Vec<i64>,
    /// Counters: when refusing began, if it did. Known prefixes: the last success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<i64>,
}

/// What is to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Insert or replace.
    Put(Row),
    /// Delete, if it is there.
    Delete(Key),
}

/// Which counter refused; for the audit record, never for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// Name and prefix.
    Pair,
    /// Name.
    Name,
    /// Prefix.
    Prefix,
    /// Codes of a person.
    Code,
}

/// The try is refused (429 `LS-LOGIN-THROTTLED`): it is not verified and not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many failed logins; again in {retry_after_s} s")]
pub struct Refused {
    /// Whole seconds until no counter refuses any more, at least 1.
    pub retry_after_s: u32,
    /// The counter that refuses longest.
    pub by: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Tries {
    failures: VecDeque<Timestamp>,
    since: Option<Timestamp>,
}

/// Whether something at `at` counts at `now`, `ms` milliseconds being its life. After a
/// clock was set back, what lies ahead counts for no longer than that either: a wrong
/// clock must not lock people out for days.
fn lives(at: Timestamp, now: Timestamp, ms: i64) -> bool {
    now.since(at).checked_abs().is_some_and(|age| age < ms)
}

/// Milliseconds until `at` no longer counts.
fn left(at: Timestamp, now: Timestamp, ms: i64) -> i64 {
    at.plus_ms(ms).since(now).clamp(1, ms)
}

impl Tries {
    /// Milliseconds for which the counter refuses; none if it does not.
    fn refuses(&self, rule: Rule, now: Timestamp) -> Option<i64> {
        if let Some(ms) = rule.refuse_ms {
            return self
                .since
                .filter(|since| lives(*since, now, ms))
                .map(|since| left(since, now, ms));
        }
        let live = self.live(rule, now);
        let mut ends: Vec<i64> = live.map(|at| left(at, now, rule.window_ms)).collect();
        // Fewer than the limit lie in the window once the limit-th newest has left it.
        ends.sort_unstable_by(|a, b| b.cmp(a));
        ends.get(rule.failures - 1).copied()
    }

    fn live(&self, rule: Rule, now: Timestamp) -> impl Iterator<Item = Timestamp> {
        let all = self.failures.iter().copied();
        all.filter(move |at| lives(*at, now, rule.window_ms))
    }

    fn fail(&mut self, rule: Rule, now: Timestamp) {
        self.failures.retain(|at| lives(*at, now, rule.window_ms));
        while self.failures.len() >= rule.failures {
            self.failures.pop_front(); // only the newest decide, and memory is bounded
        }
        self.failures.push_back(now);
        // A try that was under way when refusing began does not prolong it.
        let refusing = self.refuses(rule, now).is_some();
        if rule.refuse_ms.is_some() && !refusing {
            let full = self.failures.len() >= rule.failures;
            self.since = full.then_some(now);
        }
    }

    fn is_idle(&self, rule: Rule, now: Timestamp) -> bool {
        self.live(rule, now).next().is_none() && self.refuses(rule, now).is_none()
    }

    fn row(&self, key: Key) -> Row {
        Row {
            key,
            failures_ms: self.failures.iter().map(|at| at.0).collect(),
            since_ms: self.since.map(|at| at.0),
        }
    }
}

/// How many rows of each kind are held.
///
/// Memory is bounded by these: by the usual limits a name or prefix row is at most 900 bytes, a
/// pair row 150, so about 50 MB if all were full. Somebody who wants to push out a row with k failures
/// must fill the whole table with rows of more than k within the window; two hashes at a
/// time make at most about 120,000 failures in 900 s, so what has 10 stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Name and prefix.
    pub pairs: usize,
    /// Names.
    pub names: usize,
    /// Prefixes.
    pub prefixes: usize,
    /// Known prefixes of all names.
    pub known: usize,
    /// Persons with wrong codes.
    pub codes: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            pairs: 65_536,
            names: 16_384,
            prefixes: 16_384,
            known: 65_536,
            codes: 16_384,
        }
    }
}

/// A table of counters of one kind that never holds more than `most`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Table<K: Ord> {
    of: BTreeMap<K, Tries>,
    rule: Rule,
    most: usize,
}

impl<K: Ord + Copy> Table<K> {
    fn new(rule: Rule, most: usize) -> Self {
        Self {
            of: BTreeMap::new(),
            rule,
            most: most.max(1),
        }
    }

    fn refuses(&self, key: &K, now: Timestamp) -> Option<i64> {
        self.of.get(key)?.refuses(self.rule, now)
    }

    /// A failure is counted, and rows have to go for it.
    fn failed(&self, key: K, now: Timestamp, named: impl Fn(K) -> Key) -> Vec<Change> {
        let known = self.of.get(&key);
        let gone = match known {
            Some(_) => Vec::new(),
            None => self.too_many(now),
        };
        let mut tries = known.cloned().unwrap_or_default();
        tries.fail(self.rule, now);
        let put = Change::Put(tries.row(named(key)));
        let gone = gone.into_iter().map(|key| Change::Delete(named(key)));
        std::iter::once(put).chain(gone).collect()
    }

    fn expired(&self, now: Timestamp) -> impl Iterator<Item = K> {
        let idle = self.of.iter();
        idle.filter(move |(_, tries)| tries.is_idle(self.rule, now))
            .map(|(key, _)| *key)
    }

    /// What has to go so that there is room for one more: what counts for nothing goes
    /// first; then what has the fewest failures, the longest quiet first; what refuses at
    /// this moment last of all.
    fn too_many(&self, now: Timestamp) -> Vec<K> {
        if self.of.len() < self.most {
            return Vec::new();
        }
        let mut gone: Vec<K> = self.expired(now).collect();
        if !gone.is_empty() {
            return gone;
        }
        let mut order: Vec<(Option<i64>, usize, Option<Timestamp>, K)> = self
            .of
            .iter()
            .map(|(key, tries)| {
                let refuses = tries.refuses(self.rule, now);
                (
                    refuses,
                    tries.live(self.rule, now).count(),
                    tries.failures.back().copied(),
                    *key,
                )
            })
            .collect();
        order.sort_unstable();
        // A part at a time, so that a flood does not sort them all for each new row, but
        // of the refusing ones no more than the one that is needed.
        let part = (self.most / 64).max(1);
        let idle = order.iter().take_while(|row| row.0.is_none()).count();
        let part = order.into_iter().take(part.min(idle).max(1));
        gone.extend(part.map(|(.., key)| key));
        gone
    }

    fn put(&mut self, key: K, row: &Row) {
        // Not by the rule: another one may hold soon.
        let newest = row.failures_ms.len().saturating_sub(MOST_KEPT);
        let failures = row.failures_ms[newest..].iter().copied().map(Timestamp);
        let tries = Tries {
            failures: failures.collect(),
            since: row.since_ms.map(Timestamp),
        };
        self.of.insert(key, tries);
    }
}

/// The counters: what they decide is a list of [`Change`]s, which count once they are
/// applied and stored. Instants are those of the wall clock, since rows outlive the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Throttle {
    pairs: Table<(NameKey, Prefix)>,
    names: Table<NameKey>,
    prefixes: Table<Prefix>,
    codes: Table<UserId>,
    known: BTreeMap<(NameKey, Prefix), Timestamp>,
    known_most: usize,
}

impl Default for Throttle {
    fn default() -> Self {
        Self::new(Capacity::default())
    }
}

const FIRST: Prefix = Prefix::V4([0; 3]);
const LAST: Prefix = Prefix::V6([0xff; 8]);

impl Throttle {
    /// Counters at zero, for so many rows (at least one of each kind).
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        let limits = Limits::default();
        Self {
            pairs: Table::new(limits.pair(), capacity.pairs),
            names: Table::new(limits.name(), capacity.names),
            prefixes: Table::new(limits.prefix(), capacity.prefixes),
            codes: Table::new(CODE, capacity.codes),
            known: BTreeMap::new(),
            known_most: capacity.known.max(1),
        }
    }

    /// Other limits hold from now on, for failures that were counted too. Who is refused
    /// already is so for as long as they say.
    pub fn set_limits(&mut self, limits: Limits) {
        self.pairs.rule = limits.pair();
        self.names.rule = limits.name();
        self.prefixes.rule = limits.prefix();
    }

    /// Takes in what was decided, or what was stored.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Put(row) => match row.key {
                Key::Pair(name, prefix) => self.pairs.put((name, prefix), row),
                Key::Name(name) => self.names.put(name, row),
                Key::Prefix(prefix) => self.prefixes.put(prefix, row),
                Key::Code(user) => self.codes.put(user, row),
                Key::Known(name, prefix) => {
                    let at = row.since_ms.unwrap_or_default();
                    self.known.insert((name, prefix), Timestamp(at));
                }
            },
            Change::Delete(Key::Pair(name, prefix)) => {
                drop(self.pairs.of.remove(&(*name, *prefix)))
            }
            Change::Delete(Key::Name(name)) => drop(self.names.of.remove(name)),
            Change::Delete(Key::Prefix(prefix)) => drop(self.prefixes.of.remove(prefix)),
            Change::Delete(Key::Code(user)) => drop(self.codes.of.remove(user)),
            Change::Delete(Key::Known(name, prefix)) => {
                self.known.remove(&(*name, *prefix));
            }
        }
    }

    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        let pairs = self.pairs.of.iter();
        let names = self.names.of.iter();
        let prefixes = self.prefixes.of.iter();
        let codes = self.codes.of.iter();
        let known = self.known.iter();
        pairs
            .map(|((name, prefix), t)| t.row(Key::Pair(*name, *prefix)))
            .chain(names.map(|(name, t)| t.row(Key::Name(*name))))
            .chain(prefixes.map(|(prefix, t)| t.row(Key::Prefix(*prefix))))
            .chain(codes.map(|(user, t)| t.row(Key::Code(*user))))
            .chain(known.map(|((name, prefix), at)| known_row(*name, *prefix, *at)))
    }

    /// Whether a login of `name` from `prefix` may be tried.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn try_login(&self, name: NameKey, prefix: Prefix, now: Timestamp) -> Result<(), Refused> {
        // A stranger cannot lock a person out of a place from which that person logs in.
        let of_name = if self.is_known(name, prefix, now) {
            None
        } else {
            self.names.refuses(&name, now)
        };
        let found = [
            (self.pairs.refuses(&(name, prefix), now), Counter::Pair),
            (of_name, Counter::Name),
            (self.prefixes.refuses(&prefix, now), Counter::Prefix),
        ];
        refused(found)
    }

    /// Whether a login of this name from this prefix succeeded in the last 30 days.
    #[must_use]
    pub fn is_known(&self, name: NameKey, prefix: Prefix, now: Timestamp) -> bool {
        let last = self.known.get(&(name, prefix));
        last.is_some_and(|at| lives(*at, now, KNOWN_MS))
    }

    /// A login that was let through failed: wrong password, unknown name, no password.
    #[must_use]
    pub fn failed(&self, name: NameKey, prefix: Prefix, now: Timestamp) -> Vec<Change> {
        let mut changes = self
            .pairs
            .failed((name, prefix), now, |(n, p)| Key::Pair(n, p));
        changes.extend(self.names.failed(name, now, Key::Name));
        changes.extend(self.prefixes.failed(prefix, now, Key::Prefix));
        changes
    }

    /// A login succeeded, with all that was asked for: the first counter is cleared, and
    /// the prefix is known for 30 days.
    #[must_use]
    pub fn succeeded(&self, name: NameKey, prefix: Prefix, now: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.pairs.of.contains_key(&(name, prefix)) {
            changes.push(Change::Delete(Key::Pair(name, prefix)));
        }
        let gone = self.too_many_known(name, prefix);
        changes.extend(gone.map(|(n, p)| Change::Delete(Key::Known(n, p))));
        changes.push(Change::Put(known_row(name, prefix, now)));
        changes
    }

    /// Whether a code of a person who knew the password may be tried.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn try_code(&self, user: UserId, now: Timestamp) -> Result<(), Refused> {
        refused([(self.codes.refuses(&user, now), Counter::Code)])
    }

    /// A code or recovery code was wrong, old or used before.
    #[must_use]
    pub fn code_failed(&self, user: UserId, now: Timestamp) -> Vec<Change> {
        self.codes.failed(user, now, Key::Code)
    }

    /// Clears the counters of a person: of all their login names, from everywhere, and of
    /// their codes. Known prefixes stay, and so do counters of prefixes, which are of
    /// others too.
    #[must_use]
    pub fn unblock(&self, user: UserId, names: &[NameKey]) -> Vec<Change> {
        let mut keys = Vec::new();
        for name in names.iter().copied() {
            let pairs = self.pairs.of.range((name, FIRST)..=(name, LAST));
            keys.extend(pairs.map(|((n, p), _)| Key::Pair(*n, *p)));
            if self.names.of.contains_key(&name) {
                keys.push(Key::Name(name));
            }
        }
        if self.codes.of.contains_key(&user) {
            keys.push(Key::Code(user));
        }
        keys.into_iter().map(Change::Delete).collect()
    }

    /// What counts for nothing any more. To be asked now and then; nothing depends on when.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> Vec<Change> {
        let pairs = self.pairs.expired(now).map(|(n, p)| Key::Pair(n, p));
        let mut keys: Vec<Key> = pairs.collect();
        keys.extend(self.names.expired(now).map(Key::Name));
        keys.extend(self.prefixes.expired(now).map(Key::Prefix));
        keys.extend(self.codes.expired(now).map(Key::Code));
        let known = self.known.iter();
        let known = known.filter(|(_, at)| !lives(**at, now, KNOWN_MS));
        keys.extend(known.map(|((n, p), _)| Key::Known(*n, *p)));
        keys.into_iter().map(Change::Delete).collect()
    }

    /// What has to go so that a success can be noted: of the same name first, so that who
    /// has many places takes none from others.
    fn too_many_known(
        &self,
        name: NameKey,
        prefix: Prefix,
    ) -> impl Iterator<Item = (NameKey, Prefix)> {
        let oldest = if self.known.contains_key(&(name, prefix)) {
            None
        } else {
            let own = self.known.range((name, FIRST)..=(name, LAST));
            let own: Vec<_> = own.map(|(key, at)| (*at, *key)).collect();
            if own.len() >= KNOWN_PER_NAME {
                own.into_iter().min()
            } else if self.known.len() >= self.known_most {
                let all = self.known.iter().map(|(key, at)| (*at, *key));
                all.min()
            } else {
                None
            }
        };
        oldest.map(|(_, key)| key).into_iter()
    }
}

fn known_row(name: NameKey, prefix: Prefix, at: Timestamp) -> Row {
    Row {
        key: Key::Known(name, prefix),
        failures_ms: Vec::new(),
        since_ms: Some(at.0),
    }
}

/// The longest refusal counts: who waits for it is let through.
fn refused(found: impl IntoIterator<Item = (Option<i64>, Counter)>) -> Result<(), Refused> {
    let longest = found
        .into_iter()
        .filter_map(|(ms, by)| Some((ms?, by)))
        .max_by_key(|(ms, _)| *ms);
    match longest {
        None => Ok(()),
        Some((ms, by)) => Err(Refused {
            retry_after_s: u32::try_from((ms + 999) / 1000).unwrap_or(1).max(1), // rounded up
            by,
        }),
    }
}

#[cfg(test)]
mod tests;
