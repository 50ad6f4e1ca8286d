//! Logins that gave the right password and wait for their code. Kept in memory only: after a
//! restart one begins again.

use crate::pki::fill_random;
use longshore_common::ids::UserId;
use longshore_common::time::Timestamp;
use longshore_core::model::logins::Compared;
use longshore_identity::throttle::Prefix;
use longshore_identity::totp::CHALLENGE_MS;
use longshore_identity::{Sha256, token};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Challenges of one person at a time: each cost the right password, and nobody logs in at
/// more places within five minutes.
const PER_PERSON: usize = 16;
/// Challenges in all, about a kilobyte each.
const MOST: usize = 4096;

/// A login that waits for its code.
#[derive(Debug, Clone)]
pub(super) struct Challenge {
    pub(super) user: UserId,
    /// The login name as it was typed.
    pub(super) name: String,
    pub(super) prefix: Prefix,
    pub(super) client: String,
    pub(super) compared: Compared,
    /// Until when it is good.
    pub(super) until: Timestamp,
}

/// All of them, by the digest of what the caller was given.
#[derive(Debug, Default)]
pub(super) struct Challenges(Mutex<HashMap<Sha256, Challenge>>);

impl Challenges {
    fn lock(&self) -> MutexGuard<'_, HashMap<Sha256, Challenge>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps one, and gives what opens it.
    pub(super) fn keep(&self, challenge: Challenge, now: Timestamp) -> String {
        let secret = token::link(&mut fill_random);
        let mut all = self.lock();
        // A clock that was set back must not hold anything for longer than that either.
        all.retain(|_, c| now < c.until && c.until.since(now) <= CHALLENGE_MS);
        let of_person = all.values().filter(|c| c.user == challenge.user).count();
        let oldest = |all: &HashMap<Sha256, Challenge>, user: Option<UserId>| {
            let those = all.iter().filter(|(_, c)| user.is_none_or(|u| u == c.user));
            those
                .map(|(key, c)| (c.until, *key))
                .min()
                .map(|(_, key)| key)
        };
        let gone = if of_person >= PER_PERSON {
            oldest(&all, Some(challenge.user))
        } else if all.len() >= MOST {
            oldest(&all, None)
        } else {
            None
        };
        if let Some(key) = gone {
            all.remove(&key);
        }
        all.insert(secret.sha256(), challenge);
        secret.expose().to_owned()
    }

    /// The login that waits under this, if it came from the same network and is not too old.
    /// It stays, since a code may be mistyped.
    pub(super) fn find(&self, given: &str, prefix: Prefix, now: Timestamp) -> Option<Challenge> {
        let key = token::link_sha256(given)?;
        let found = self.lock().get(&key).cloned()?;
        (found.prefix == prefix && now < found.until).then_some(found)
    }

    /// It became a login, or never will.
    pub(super) fn forget(&self, given: &str) {
        if let Some(key) = token::link_sha256(given) {
            self.lock().remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn challenge(user: u128, until: i64) -> Challenge {
        Challenge {
            user: UserId::new(user),
            name: "dana".to_owned(),
            prefix: Prefix::V4([192, 0, 2]),
            client: "cli".to_owned(),
            compared: Compared::Wrong,
            until: Timestamp(until),
        }
    }

    #[test]
    fn they_are_bound_to_time_and_place_and_bounded() {
        let all = Challenges::default();
        let (here, there) = (Prefix::V4([192, 0, 2]), Prefix::V4([192, 0, 3]));
        let now = Timestamp(1000);
        let first = all.keep(challenge(1, 2000), now);
        assert!(all.find(&first, here, now).is_some());
        assert!(all.find(&first, there, now).is_none());
        assert!(all.find(&first, here, Timestamp(2000)).is_none());
        assert!(all.find("x", here, now).is_none());
        for n in 0..40 {
            let _ = all.keep(challenge(1, 3000 + n), now);
        }
        assert_eq!(all.lock().len(), PER_PERSON);
        assert!(all.find(&first, here, now).is_none());
        let other = all.keep(challenge(2, 2000), now);
        all.forget(&other);
        assert!(all.find(&other, here, now).is_none());
        let _ = all.keep(challenge(3, 9000), Timestamp(8000));
        assert_eq!(all.lock().len(), 1);
    }
}
