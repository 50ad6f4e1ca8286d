//! Logins as requests are judged by: which tokens are good, and when each was last used.

use super::{Denied, Identity, Person, Via, admitted};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longshore_common::ids::{LoginId, UserId};
use longshore_common::time::Timestamp;
use longshore_core::model::Caller;
use longshore_core::model::Login;
use longshore_core::model::logins::LoginLimits;
use longshore_identity::token;
use ring::hmac;
use std::sync::atomic::{AtomicI64, Ordering};
use subtle::ConstantTimeEq as _;

/// A login, as far as requests go by it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) id: LoginId,
    pub(super) user: UserId,
    token_sha256: [u8; 32],
    by_password: bool,
    created_at: Timestamp,
    /// The last request, exactly; in milliseconds since 1970.
    used: AtomicI64,
    /// The last request that is stored.
    stored: AtomicI64,
}

impl Known {
    pub(super) fn new(login: &Login, before: Option<&Self>) -> Self {
        let used = before.map_or(0, |before| before.used.load(Ordering::Relaxed));
        Self {
            id: login.id,
            user: login.user,
            token_sha256: login.token_sha256,
            by_password: login.via == "password",
            created_at: login.created_at,
            used: AtomicI64::new(used.max(login.last_used_at.0)),
            stored: AtomicI64::new(login.last_used_at.0),
        }
    }

    fn is_over(&self, limits: LoginLimits, now: Timestamp) -> bool {
        let used = Timestamp(self.used.load(Ordering::Relaxed));
        limits.end(self.created_at, used) <= now
    }
}

impl Identity {
    /// Whose login a token stands for. It counts as used.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn by_token(&self, token: &str, now: Timestamp) -> Result<Person, Denied> {
        let sha256 = token::login_sha256(token).ok_or(Denied::Failed)?;
        let known = self.known();
        let login = known.logins.get(sha256.as_bytes()).ok_or(Denied::Failed)?;
        let person = self.by_login(&known, login, now)?;
        login.used.fetch_max(now.0, Ordering::Relaxed);
        Ok(person)
    }

    /// Whose a login is by now. An open stream asks this; it is no use of the login.
    pub(super) fn login_still(&self, id: LoginId, now: Timestamp) -> Result<Person, Denied> {
        let known = self.known();
        let token = known.tokens.get(&id).ok_or(Denied::Failed)?;
        let login = known.logins.get(token).ok_or(Denied::Failed)?;
        self.by_login(&known, login, now)
    }

    fn by_login(
        &self,
        known: &super::Everybody,
        login: &Known,
        now: Timestamp,
    ) -> Result<Person, Denied> {
        if login.is_over(self.limits.get(), now) {
            return Err(Denied::Failed);
        }
        let account = known.accounts.get(&login.user).ok_or(Denied::Failed)?;
        let caller = Caller {
            user: login.user,
            access_key: account.main_keypair.clone().unwrap_or_default(),
        };
        Ok(Person {
            by_password: login.by_password,
            ..admitted(account, caller, Via::Login(login.id))?
        })
    }

    /// How long logins last.
    #[must_use]
    pub fn limits(&self) -> LoginLimits {
        self.limits.get()
    }

    /// Logins last so long from now on, those that are there among them.
    pub fn set_limits(&self, limits: LoginLimits) {
        self.limits.set(limits);
    }

    /// Logins that were used since this was last asked, to be stored: at most once a minute,
    /// because whoever asks does so once a minute.
    #[must_use]
    pub fn take_used(&self) -> Vec<(LoginId, Timestamp)> {
        let known = self.known();
        let mut used = Vec::new();
        for login in known.logins.values() {
            let last = login.used.load(Ordering::Relaxed);
            if login.stored.swap(last, Ordering::Relaxed) < last {
                used.push((login.id, Timestamp(last)));
            }
        }
        used
    }

    /// These were not stored after all: they are told again.
    pub fn not_stored(&self, used: &[(LoginId, Timestamp)]) {
        let known = self.known();
        for (id, _) in used {
            let token = known.tokens.get(id);
            if let Some(login) = token.and_then(|token| known.logins.get(token)) {
                login.stored.store(i64::MIN, Ordering::Relaxed);
            }
        }
    }

    /// When a login was last used, exactly.
    #[must_use]
    pub fn last_use(&self, id: LoginId) -> Option<Timestamp> {
        let known = self.known();
        let login = known.logins.get(known.tokens.get(&id)?)?;
        Some(Timestamp(login.used.load(Ordering::Relaxed)))
    }

    /// The value that a page has to send with what has an effect: bound to the login, so that
    /// a page of somebody else cannot know it.
    #[must_use]
    pub fn csrf(&self, id: LoginId) -> Option<String> {
        let known = self.known();
        let login = known.logins.get(known.tokens.get(&id)?)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &login.token_sha256);
        Some(URL_SAFE_NO_PAD.encode(hmac::sign(&key, b"longshore csrf")))
    }

    /// Whether it is that value.
    #[must_use]
    pub fn csrf_is_good(&self, id: LoginId, given: &str) -> bool {
        let wanted = self.csrf(id).unwrap_or_default();
        !wanted.is_empty() && bool::from(wanted.as_bytes().ct_eq(given.as_bytes()))
    }
}

impl super::Everybody {
    pub(super) fn put_login(&mut self, login: &Login) {
        let before = self.logins.get(&login.token_sha256);
        let known = Known::new(login, before);
        self.logins.insert(login.token_sha256, known);
        self.tokens.insert(login.id, login.token_sha256);
    }
}
