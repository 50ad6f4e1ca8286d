//! Codes that open an app once, and the cookies they are traded for. Kept in memory: after a
//! start of the coordinator apps are opened anew. Only digests are kept.

use longshore_common::ids::UserId;
use std::collections::BTreeMap;

/// A code is good for so many milliseconds.
const CODE_MS: i64 = 30_000;
/// A cookie is good for so many milliseconds.
pub(super) const COOKIE_MS: i64 = 8 * 3600 * 1000;
/// Codes and cookies of one caller: a browser uses one cookie for each app. With more the
/// oldest goes.
const PER_CALLER: usize = 64;
/// In all: some hundred bytes each.
const IN_ALL: usize = 16_384;

/// SHA-256 of a code or a cookie.
pub(super) type Digest = [u8; 32];

#[derive(Debug)]
struct Kept<G> {
    grant: G,
    by: UserId,
    until_ms: i64,
}

/// What codes or cookies stand for.
#[derive(Debug)]
pub(super) struct Book<G> {
    lasts_ms: i64,
    all: BTreeMap<Digest, Kept<G>>,
}

impl<G: Clone> Book<G> {
    /// Of codes.
    pub(super) const fn codes() -> Self {
        Self {
            lasts_ms: CODE_MS,
            all: BTreeMap::new(),
        }
    }

    /// Of cookies.
    pub(super) const fn cookies() -> Self {
        Self {
            lasts_ms: COOKIE_MS,
            all: BTreeMap::new(),
        }
    }

    /// Enters one.
    pub(super) fn enter(&mut self, digest: Digest, (by, grant): (UserId, G), now_ms: i64) {
        self.all.retain(|_, kept| kept.until_ms > now_ms);
        let of_caller = |kept: &&Kept<G>| kept.by == by;
        let full = self.all.len() >= IN_ALL;
        if full || self.all.values().filter(of_caller).count() >= PER_CALLER {
            let among = self.all.iter().filter(|(_, kept)| full || kept.by == by);
            let oldest = among.min_by_key(|(_, kept)| kept.until_ms);
            let oldest = oldest.map(|(digest, _)| *digest);
            oldest.and_then(|digest| self.all.remove(&digest));
        }
        let kept = Kept {
            grant,
            by,
            until_ms: now_ms + self.lasts_ms,
        };
        self.all.insert(digest, kept);
    }

    /// What one stands for.
    pub(super) fn find(&self, digest: &Digest, now_ms: i64) -> Option<G> {
        let kept = self.all.get(digest)?;
        (kept.until_ms > now_ms).then(|| kept.grant.clone())
    }

    /// The same, and it is good no more.
    pub(super) fn take(&mut self, digest: &Digest, now_ms: i64) -> Option<G> {
        let kept = self.all.remove(digest)?;
        (kept.until_ms > now_ms).then_some(kept.grant)
    }

    /// What one that is still good stands for, by what it stands for.
    pub(super) fn any(&self, now_ms: i64, is: impl Fn(&G) -> bool) -> Option<G> {
        let good = |kept: &&Kept<G>| kept.until_ms > now_ms && is(&kept.grant);
        self.all.values().find(good).map(|kept| kept.grant.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: UserId = UserId::new(1);

    const fn digest(n: usize) -> Digest {
        let mut digest = [0; 32];
        let bytes = n.to_be_bytes();
        let mut at = 0;
        while at < bytes.len() {
            digest[at] = bytes[at];
            at += 1;
        }
        digest
    }

    #[test]
    fn a_code_is_good_once_and_for_half_a_minute() {
        let mut codes = Book::codes();
        codes.enter(digest(1), (ME, "a"), 0);
        assert_eq!(codes.take(&digest(1), 29_999), Some("a"));
        assert_eq!(codes.take(&digest(1), 29_999), None, "once");
        codes.enter(digest(2), (ME, "b"), 0);
        assert_eq!(codes.take(&digest(2), 30_000), None, "too late");
        assert_eq!(codes.take(&digest(3), 0), None);
    }

    #[test]
    fn a_cookie_is_good_for_eight_hours() {
        let mut cookies = Book::cookies();
        cookies.enter(digest(1), (ME, "a"), 0);
        assert_eq!(cookies.find(&digest(1), COOKIE_MS - 1), Some("a"));
        assert_eq!(cookies.any(0, |grant| *grant == "a"), Some("a"));
        assert_eq!(cookies.find(&digest(1), COOKIE_MS), None);
        assert_eq!(cookies.any(COOKIE_MS, |_| true), None);
    }

    #[test]
    fn nobody_takes_all_the_room() {
        let mut cookies = Book::cookies();
        let you = UserId::new(2);
        cookies.enter(digest(0), (you, 0), 0);
        for n in 1..=PER_CALLER + 1 {
            cookies.enter(digest(n), (ME, n), n as i64);
        }
        let there = |cookies: &Book<usize>, n| cookies.find(&digest(n), 1000).is_some();
        assert!(there(&cookies, 0) && !there(&cookies, 1) && there(&cookies, 2));
        for n in 100..100 + IN_ALL {
            cookies.enter(digest(n), (UserId::new(n as u128), n), 5000);
        }
        assert_eq!(cookies.all.len(), IN_ALL);
        assert!(!there(&cookies, 0));
    }
}
