//! The rate limit: so many requests in any 900 s, by the list of their times.
//!
//! Times are milliseconds of a monotonic clock of this process; they may be negative for
//! what was counted before it started.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Length of the window in milliseconds.
pub const WINDOW_MS: i64 = 900_000;
/// Smallest limit that can be set.
pub const LIMIT_MIN: u32 = 1;
/// Largest limit that can be set.
pub const LIMIT_MAX: u32 = 1_000_000;

/// Requests of the same 100 ms are one entry: 9001 entries of 16 bytes are the most that a
/// bucket holds, whatever its limit.
const MERGE_MS: i64 = 100;
const ENTRIES_MAX: usize = 9001;

/// What a request came to, and the headers of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The limit that was asked, 1-1000000.
    pub limit: u32,
    /// How many more would pass now, after this one.
    pub remaining: u32,
    /// Refused: whole seconds until the oldest counted request leaves the window, 1-900.
    /// After a lowered limit that may not be enough yet.
    pub retry_after_s: Option<u32>,
}

impl Verdict {
    /// Whether the request passes (and was counted).
    #[must_use]
    pub const fn passes(&self) -> bool {
        self.retry_after_s.is_none()
    }

    /// Names and values for the answer; `Retry-After` only on a refusal.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let always = [
            ("X-RateLimit-Limit", self.limit),
            ("X-RateLimit-Remaining", self.remaining),
            ("X-RateLimit-Window", 900),
        ];
        let retry = self.retry_after_s.map(|s| ("Retry-After", s));
        always.into_iter().chain(retry)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    /// Of the earliest request in it.
    at: i64,
    requests: u32,
}

/// The counted requests of one caller.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bucket {
    entries: VecDeque<Entry>,
    requests: u32,
}

/// A bucket on disk: age in milliseconds and number of requests of each entry, oldest
/// first. Ages, since the clock of the process ends with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedBucket(pub Vec<(i64, u32)>);

impl Bucket {
    /// Asks for one request at `now_ms` under `limit` (brought into 1-1000000). It is
    /// counted if it passes. A clock that goes backwards is taken to stand still.
    pub fn take(&mut self, now_ms: i64, limit: u32) -> Verdict {
        let limit = limit.clamp(LIMIT_MIN, LIMIT_MAX);
        let now = self.forget(now_ms);
        if self.requests >= limit {
            let oldest = self.entries.front().map_or(now, |entry| entry.at);
            let wait_ms = WINDOW_MS.saturating_sub(now.saturating_sub(oldest));
            let seconds = (wait_ms.clamp(1, WINDOW_MS) + 999) / 1000; // rounded up
            return Verdict {
                limit,
                remaining: 0,
                retry_after_s: Some(u32::try_from(seconds).unwrap_or(900)),
            };
        }
        match self.entries.back_mut() {
            Some(last) if now.saturating_sub(last.at) < MERGE_MS => last.requests += 1,
            _ => self.entries.push_back(Entry {
                at: now,
                requests: 1,
            }),
        }
        self.requests += 1; // was below the limit, which is far below the range
        Verdict {
            limit,
            remaining: limit - self.requests,
            retry_after_s: None,
        }
    }

    /// How many requests lie in the window at `now_ms`.
    pub fn requests(&mut self, now_ms: i64) -> u32 {
        self.forget(now_ms);
        self.requests
    }

    /// Drops what is as old as the window; gives back the time to go by.
    fn forget(&mut self, now_ms: i64) -> i64 {
        let now = self.entries.back().map_or(now_ms, |e| now_ms.max(e.at));
        while let Some(first) = self.entries.front() {
            if now.saturating_sub(first.at) < WINDOW_MS {
                break;
            }
            self.requests = self.requests.saturating_sub(first.requests);
            self.entries.pop_front();
        }
        now
    }

    /// What to keep at an orderly stop; `None` if nothing lies in the window.
    #[must_use]
    pub fn save(&self, now_ms: i64) -> Option<SavedBucket> {
        let mut copy = self.clone();
        let now = copy.forget(now_ms);
        let ages: Vec<(i64, u32)> = copy
            .entries
            .iter()
            .map(|e| (now.saturating_sub(e.at), e.requests))
            .collect();
        (!ages.is_empty()).then_some(SavedBucket(ages))
    }

    /// Takes a saved bucket up at `now_ms`, `away_ms` milliseconds after it was saved
    /// (by the wall clock; less than none counts as none). Entries that no bucket can hold
    /// are left out.
    #[must_use]
    pub fn load(saved: &SavedBucket, now_ms: i64, away_ms: i64) -> Self {
        let mut bucket = Self::default();
        for (age, requests) in saved.0.iter().take(ENTRIES_MAX) {
            let age = age.saturating_add(away_ms.max(0));
            let at = now_ms.saturating_sub(age);
            let sum = bucket.requests.saturating_add(*requests);
            let in_order = bucket.entries.back().is_none_or(|last| last.at <= at);
            if !(0..WINDOW_MS).contains(&age) || *requests == 0 || sum > LIMIT_MAX || !in_order {
                continue;
            }
            bucket.requests = sum;
            bucket.entries.push_back(Entry {
                at,
                requests: *requests,
            });
        }
        bucket
    }
}

/// The part of an address that shares an anonymous bucket: all of an IPv4 address, the
/// first 64 bits of an IPv6 one. IPv4 written as IPv6 (`::ffff:a.b.c.d`) is IPv4.
#[must_use]
pub fn anonymous_prefix(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits())),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

/// Buckets of many callers, in bounded memory.
#[derive(Debug, Clone)]
pub struct Buckets<K: Ord> {
    of: BTreeMap<K, Bucket>,
    most: usize,
}

impl<K: Ord + Clone> Buckets<K> {
    /// Holds `most` callers at a time, at least one.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self {
            of: BTreeMap::new(),
            most: if most == 0 { 1 } else { most },
        }
    }

    /// [`Bucket::take`] for one caller.
    ///
    /// When there is no room for a new caller, those go whose window is empty, and if that
    /// is not enough those with the fewest requests, the longest silent first: what a
    /// stranger with many addresses can push out is what was hardly counted.
    pub fn take(&mut self, caller: &K, now_ms: i64, limit: u32) -> Verdict {
        if !self.of.contains_key(caller) {
            self.make_room(now_ms);
        }
        self.of
            .entry(caller.clone())
            .or_default()
            .take(now_ms, limit)
    }

    /// [`Bucket::requests`] for one caller.
    pub fn requests(&mut self, caller: &K, now_ms: i64) -> u32 {
        self.of.get_mut(caller).map_or(0, |b| b.requests(now_ms))
    }

    /// Puts a loaded bucket in, unless there is no room.
    pub fn insert(&mut self, caller: K, bucket: Bucket) {
        if self.of.len() < self.most {
            self.of.insert(caller, bucket);
        }
    }

    /// Drops a caller, such as a keypair that was deleted.
    pub fn remove(&mut self, caller: &K) {
        self.of.remove(caller);
    }

    /// All buckets with something in them, to be saved.
    pub fn save(&self, now_ms: i64) -> impl Iterator<Item = (&K, SavedBucket)> {
        self.of
            .iter()
            .filter_map(move |(caller, bucket)| Some((caller, bucket.save(now_ms)?)))
    }

    /// How many callers are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.of.is_empty()
    }

    fn make_room(&mut self, now_ms: i64) {
        if self.of.len() < self.most {
            return;
        }
        self.of.retain(|_, bucket| bucket.requests(now_ms) > 0);
        if self.of.len() < self.most {
            return;
        }
        // A part at a time, so that a flood does not sort them all for each new address.
        let gone = (self.most / 64).max(1);
        let mut order: Vec<(u32, Option<i64>, K)> = self
            .of
            .iter()
            .map(|(caller, b)| (b.requests, b.entries.back().map(|e| e.at), caller.clone()))
            .collect();
        order.sort_unstable();
        for (_, _, caller) in order.into_iter().take(gone) {
            self.of.remove(&caller);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_the_specification() {
        let mut bucket = Bucket::default();
        let wanted = [
            (0, 1, None),
            (10_000, 0, None),
            (20_000, 0, Some(880)),
            (899_500, 0, Some(1)),
            (900_000, 0, None),
            (901_000, 0, Some(9)),
        ];
        for (now, remaining, retry_after_s) in wanted {
            let verdict = Verdict {
                limit: 2,
                remaining,
                retry_after_s,
            };
            assert_eq!(bucket.take(now, 2), verdict, "{now}");
        }
    }

    #[test]
    fn headers() {
        let mut bucket = Bucket::default();
        let first: Vec<_> = bucket.take(0, 1).headers().collect();
        assert_eq!(
            first,
            [
                ("X-RateLimit-Limit", 1),
                ("X-RateLimit-Remaining", 0),
                ("X-RateLimit-Window", 900)
            ]
        );
        let second = bucket.take(0, 1);
        assert_eq!(second.headers().last(), Some(("Retry-After", 900)));
    }

    #[test]
    fn a_lowered_limit_acts_on_the_next_request() {
        let mut bucket = Bucket::default();
        for second in 0..5 {
            assert!(bucket.take(second * 1000, 10).passes());
        }
        let refused = bucket.take(5000, 3);
        assert_eq!(
            (refused.limit, refused.remaining, refused.retry_after_s),
            (3, 0, Some(895))
        );
        assert!(bucket.take(6000, 6).passes());
        assert_eq!(bucket.requests(6000), 6);
    }

    #[test]
    fn a_full_bucket_stays_small() {
        let mut bucket = Bucket::default();
        for now in 0..1_200_000 {
            bucket.take(now, LIMIT_MAX);
        }
        assert!(
            bucket.entries.len() <= ENTRIES_MAX,
            "{}",
            bucket.entries.len()
        );
        assert!(bucket.requests(1_200_000) >= WINDOW_MS as u32 - 100);
    }

    #[test]
    fn a_restart_keeps_the_window() {
        let mut bucket = Bucket::default();
        bucket.take(5_000_000, 2);
        bucket.take(5_010_000, 2);
        let saved = bucket.save(5_020_000).unwrap();
        assert_eq!(saved, SavedBucket(vec![(20_000, 1), (10_000, 1)]));
        // 30 s later, on a clock that starts anew.
        let mut loaded = Bucket::load(&saved, 100, 30_000);
        assert_eq!(loaded.take(100, 2).retry_after_s, Some(850));
        assert_eq!(loaded.requests(100 + 850_000), 1);
        assert_eq!(Bucket::load(&saved, 0, 900_000).save(0), None);
        let odd = SavedBucket(vec![
            (-5, 1),
            (900_000, 1),
            (7, 0),
            (i64::MIN, 9),
            (3, u32::MAX),
            (5, 2),
            (9, 1),
        ]);
        assert_eq!(Bucket::load(&odd, 0, -7).requests(0), 2);
    }

    #[test]
    fn strangers_push_out_only_what_was_hardly_counted() {
        let mut buckets = Buckets::new(64);
        let busy = 1_000_000;
        for _ in 0..5 {
            buckets.take(&busy, 0, 5);
        }
        for stranger in 0..10_000 {
            buckets.take(&stranger, 1 + i64::from(stranger), 5);
            assert!(buckets.len() <= 64);
        }
        assert!(!buckets.take(&busy, 20_000, 5).passes());
        assert_eq!(buckets.requests(&busy, 20_000), 5);
        // Once the window is empty, so is the map.
        buckets.take(&-1, 2_000_000, 5);
        let saved: Vec<_> = buckets.save(2_000_000).map(|(caller, _)| *caller).collect();
        assert_eq!(saved, [-1]);
    }

    #[test]
    fn addresses_share_buckets_by_their_prefix() {
        let of = |text: &str| anonymous_prefix(text.parse().unwrap()).to_string();
        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    }

    /// The rule as written, with a plain list.
    #[derive(Default)]
    struct Naive(Vec<i64>);

    impl Naive {
        fn take(&mut self, now: i64, limit: u32) -> Verdict {
            self.0.retain(|at| now - at < WINDOW_MS);
            let count = u32::try_from(self.0.len()).unwrap();
            if count >= limit {
                let wait = (WINDOW_MS - (now - self.0[0])) as f64 / 1000.0;
                return Verdict {
                    limit,
                    remaining: 0,
                    retry_after_s: Some((wait.ceil() as u32).max(1)),
                };
            }
            // "Entries within the same 100 ms may be merged, with the earlier time."
            let merged = self.0.last().copied().filter(|at| now - at < MERGE_MS);
            self.0.push(merged.unwrap_or(now));
            Verdict {
                limit,
                remaining: limit - count - 1,
                retry_after_s: None,
            }
        }
    }

    proptest! {
        #[test]
        fn the_same_as_a_list(
            steps in proptest::collection::vec((prop_oneof![0_i64..5, 0_i64..300, 0_i64..400_000], 1_u32..12), 1..300),
        ) {
            let (mut bucket, mut naive, mut now) = (Bucket::default(), Naive::default(), 0);
            for (ahead, limit) in steps {
                now += ahead;
                prop_assert_eq!(bucket.take(now, limit), naive.take(now, limit));
                prop_assert_eq!(bucket.requests as usize, naive.0.len());
                let again = Bucket::load(&bucket.save(now).unwrap_or_default(), now, 0);
                prop_assert_eq!(&again, &bucket);
            }
        }

        #[test]
        fn never_more_than_the_limit_in_a_window(
            steps in proptest::collection::vec(prop_oneof![0_i64..5, 0_i64..300_000], 1..300),
            limit in 1_u32..8,
        ) {
            let (mut bucket, mut now, mut passed) = (Bucket::default(), 0, Vec::new());
            for ahead in steps {
                now += ahead;
                if bucket.take(now, limit).passes() {
                    passed.push(now);
                }
                // Merging lets the later ones of an entry go up to 100 ms early.
                let window = passed.iter().filter(|at| now - **at < WINDOW_MS - MERGE_MS).count();
                prop_assert!(window <= limit as usize);
            }
        }

        #[test]
        fn nothing_panics(saved in any::<Vec<(i64, u32)>>(), now in any::<i64>(), away in any::<i64>(), next in any::<i64>(), limit in any::<u32>()) {
            let mut bucket = Bucket::load(&SavedBucket(saved), now, away);
            let verdict = bucket.take(next, limit);
            prop_assert!(verdict.retry_after_s.is_none_or(|s| (1..=900).contains(&s)));
            let _ = bucket.save(now);
        }
    }
}
