//! Who calls: keypairs, the first administrator, secrets that are drawn here.
//!
//! | input | output |
//! |---|---|
//! | the Authorization header of a request | [`Person`], or which check failed |
//! | the token of a login, from a header or a cookie | [`Person`], and when it was last used |
//! | a set-up token | whether it is the one that was offered |

mod logins;
mod setup;
mod shown;

use crate::engine::Follow;
use crate::pki::{fill_random, random, sha256};
use crate::settings::Held;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use longshore_common::ids::{DomainId, LoginId, ProjectId, ServiceAccountId, UserGroupId, UserId};
use longshore_common::time::Timestamp;
use longshore_core::access::Caller as Rights;
use longshore_core::model::logins::LoginLimits;
use longshore_core::model::{
    Called, Caller, Change, Keypair, KeypairState, Role, State, UserGroup, UserStatus,
};
use longshore_identity::token;
use std::collections::{BTreeSet, HashMap};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;
use subtle::ConstantTimeEq as _;

/// How long a set-up token is good.
const SETUP_VALID: Duration = Duration::from_secs(3600);
/// Its file in the data directory.
pub const SETUP_FILE: &str = "setup-token";
/// What the token of a login begins with.
const LOGIN_PREFIX: &str = "lss_";
/// The secret that signs cursors, in the data directory.
const CURSOR_FILE: &str = "cursor.key";

/// Somebody as requests are judged: kept up to date as the state changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Who.
    pub id: UserId,
    /// Its id as it is printed.
    pub printed: String,
    /// Name.
    pub username: String,
    /// Address; empty for service accounts.
    pub email: String,
    /// What it may administer.
    pub role: Role,
    /// Its domain.
    pub domain: DomainId,
    /// Whether it may do anything.
    pub status: UserStatus,
    /// Whether its domain may.
    pub domain_active: bool,
    /// The keypair whose policy limits it as a whole.
    pub main_keypair: Option<String>,
    /// Requests of all its logins in 900 s; none = the setting.
    pub rate_limit: Option<u32>,
    /// Whether it is to choose a new password.
    pub need_password_change: bool,
    /// Whether a code is asked for at login.
    pub second_factor: bool,
    /// A program, not a person.
    pub is_service: bool,
    /// What the operation table and the access rules go by.
    pub rights: Rights,
}

/// By what somebody proved to be who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Via {
    /// A keypair: its access key.
    Keypair {
        /// Its access key.
        access_key: String,
        /// The secret that was shown, as far as it is known.
        proof: Proof,
        /// The one project it is good for.
        project: Option<ProjectId>,
        /// Requests in 900 s; none = the setting.
        rate_limit: Option<u32>,
    },
    /// A login.
    Login(LoginId),
}

/// SHA-256 of the secret somebody showed. Prints as nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Proof([u8; 32]);

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proof")
    }
}

/// A caller who proved to be somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Id and keypair, for the engine. With a login the keypair is the main one.
    pub caller: Caller,
    /// Who it is.
    pub account: Arc<Account>,
    /// By what.
    pub via: Via,
    /// A login by password, which may be limited until something was done.
    pub by_password: bool,
}

impl Person {
    /// How it calls, as far as that narrows what it may do.
    #[must_use]
    pub fn called(&self) -> Called {
        let project = match &self.via {
            Via::Keypair { project, .. } => *project,
            Via::Login(_) => None,
        };
        Called {
            acted_for: self.rights.submitted_by(),
            project,
        }
    }

    /// The same with other rights.
    #[must_use]
    pub fn judged_as(self, rights: Rights) -> Self {
        Self {
            account: Arc::new(Account {
                role: rights.role(),
                rights,
                ..(*self.account).clone()
            }),
            ..self
        }
    }

    /// The same acting for a user, with what it may do in that user's name. Limits are those
    /// of the user's main keypair; by what the caller proved to be somebody stays.
    #[must_use]
    pub fn acting_for(&self, user: &Account, rights: Rights) -> Self {
        Self {
            caller: Caller {
                user: user.id,
                access_key: user.main_keypair.clone().unwrap_or_default(),
            },
            account: Arc::new(Account {
                role: rights.role(),
                rights,
                ..user.clone()
            }),
            via: self.via.clone(),
            by_password: self.by_password,
        }
    }
}

impl std::ops::Deref for Person {
    type Target = Account;
    fn deref(&self) -> &Account {
        &self.account
    }
}

/// Why a request has no caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It brought no credential.
    Missing,
    /// Not known, or the secret is another.
    Failed,
    /// Right, but switched off.
    Inactive,
    /// Right, but its time is over.
    Expired,
    /// Right, but the person is switched off.
    UserInactive,
    /// Right, but the person's address is not proven.
    UserUnverified,
    /// Right, but the domain is switched off.
    DomainInactive,
}

/// A keypair, as far as callers go by it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    secret_sha256: Option<[u8; 32]>,
    previous: Option<([u8; 32], Timestamp)>,
    state: KeypairState,
    expires_at: Option<Timestamp>,
    project: Option<ProjectId>,
    rate_limit: Option<u32>,
    user: UserId,
}

/// When a keypair was last used, and from where.
struct Use {
    at: Timestamp,
    from: String,
    /// The instant that was handed out to be stored.
    written: Option<Timestamp>,
}

/// What the API needs to know about people, in memory: no request waits for the engine
/// to learn who calls. It follows the engine: what is stored counts before anybody is told.
pub struct Identity {
    known: RwLock<Everybody>,
    generation: AtomicU64,
    edition: AtomicU64,
    shown: shown::Shown,
    setup: Mutex<Option<setup::SetupToken>>,
    uses: Mutex<HashMap<String, Use>>,
    limits: Held<LoginLimits>,
    data_dir: PathBuf,
}

#[derive(Default)]
struct Everybody {
    keypairs: HashMap<String, Known>,
    accounts: HashMap<UserId, Arc<Account>>,
    /// Those who are active.
    superadmins: BTreeSet<UserId>,
    /// By the digest of the token.
    logins: HashMap<[u8; 32], logins::Known>,
    tokens: HashMap<LoginId, [u8; 32]>,
    /// Login names and addresses in lower case.
    names: HashMap<String, UserId>,
    members: HashMap<UserGroupId, BTreeSet<UserId>>,
}

impl Everybody {
    /// Takes somebody from the state; says whether that made them another to those who judge.
    fn put_account(&mut self, state: &State, id: UserId) -> bool {
        let Some(user) = state.users.get(&id) else {
            return false;
        };
        if let Some(old) = self.accounts.get(&id) {
            self.names.remove(&old.username.to_ascii_lowercase());
            self.names.remove(&old.email.to_ascii_lowercase());
        }
        for name in [&user.username, &user.email] {
            if !name.is_empty() {
                self.names.insert(name.to_ascii_lowercase(), id);
            }
        }
        let rights = state.rights_of(user);
        let domain = state.domains.get(&user.domain);
        let account = Account {
            id,
            printed: user.printed_id(),
            username: user.username.clone(),
            email: user.email.clone(),
            role: rights.role(),
            domain: user.domain,
            status: user.status,
            domain_active: domain.is_none_or(|domain| domain.active),
            main_keypair: state.main_keypair(id).map(|k| k.access_key.clone()),
            rate_limit: state.main_keypair(id).and_then(|k| k.rate_limit),
            need_password_change: user.need_password_change,
            second_factor: user.second_factor().is_some(),
            is_service: user.service.is_some(),
            rights,
        };
        match account.role == Role::Superadmin && account.status == UserStatus::Active {
            true => self.superadmins.insert(id),
            false => self.superadmins.remove(&id),
        };
        if self.accounts.get(&id).is_some_and(|old| **old == account) {
            return false;
        }
        self.accounts.insert(id, Arc::new(account));
        true
    }

    /// Takes a keypair; says whether callers go by anything of it that is new.
    fn put_keypair(&mut self, keypair: &Keypair) -> bool {
        let known = Known {
            secret_sha256: keypair.secret_sha256,
            previous: keypair.previous,
            state: keypair.state,
            expires_at: keypair.expires_at,
            project: keypair.project,
            rate_limit: keypair.rate_limit,
            user: keypair.user,
        };
        let access_key = keypair.access_key.clone();
        let before = self.keypairs.insert(access_key, known.clone());
        before != Some(known)
    }

    /// Of whom the rights are others when a group changes; what it is now is kept.
    fn regroup(&mut self, id: UserGroupId, group: Option<&UserGroup>) -> BTreeSet<UserId> {
        let members: BTreeSet<UserId> = group
            .iter()
            .flat_map(|group| group.members.keys().copied())
            .collect();
        let mut touched = self.members.remove(&id).unwrap_or_default();
        touched.extend(&members);
        if group.is_some() {
            self.members.insert(id, members);
        }
        touched
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Follow for Identity {
    fn changed(&self, state: &State, changes: &[Change]) {
        let about_people = |change: &Change| {
            matches!(
                change,
                Change::User(_)
                    | Change::Keypair(_)
                    | Change::Login(_)
                    | Change::LoginEnded(_)
                    | Change::UserGroup(_)
                    | Change::UserGroupDeleted(_)
                    | Change::Domain(_)
                    | Change::DomainDeleted(_)
                    | Change::PeopleSettings(_)
            )
        };
        let about_rules = |change: &Change| {
            matches!(
                change,
                Change::AccessRule(_)
                    | Change::AccessRuleDeleted(_)
                    | Change::Project(_)
                    | Change::ProjectDeleted(_)
            )
        };
        let mut differs = changes.iter().any(about_rules);
        let is_about_people = changes.iter().any(about_people);
        if !differs && !is_about_people {
            return; // as nearly always
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut touched: BTreeSet<UserId> = BTreeSet::new();
        for change in changes {
            match change {
                Change::User(user) => drop(touched.insert(user.id)),
                Change::Keypair(keypair) => {
                    // Which one is the main one may be another now.
                    touched.insert(keypair.user);
                    differs |= known.put_keypair(keypair);
                }
                // Whether a login is over is asked at every look; nobody's rights are others.
                Change::Login(login) => known.put_login(login),
                Change::LoginEnded(id) => {
                    if let Some(token) = known.tokens.remove(id) {
                        known.logins.remove(&token);
                    }
                }
                Change::UserGroup(group) => touched.extend(known.regroup(group.id, Some(group))),
                Change::UserGroupDeleted(id) => touched.extend(known.regroup(*id, None)),
                Change::Domain(domain) => touched.extend(
                    known
                        .accounts
                        .values()
                        .filter(|a| a.domain == domain.id && a.domain_active != domain.active)
                        .map(|a| a.id),
                ),
                Change::PeopleSettings(_) => {
                    let accounts = known.accounts.values().filter(|a| a.is_service);
                    touched.extend(accounts.map(|a| a.id));
                }
                _ => (),
            }
        }
        for user in touched {
            differs |= known.put_account(state, user);
        }
        drop(known);
        // Last: who sees the new number sees the new rights.
        if differs {
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        self.edition.fetch_add(1, Ordering::AcqRel);
    }
}

impl Identity {
    /// What the stored state says, with the usual life of logins.
    #[must_use]
    pub fn new(state: &State, data_dir: &Path) -> Self {
        Self::with_limits(state, data_dir, LoginLimits::default())
    }

    /// What the stored state says.
    #[must_use]
    pub fn with_limits(state: &State, data_dir: &Path, limits: LoginLimits) -> Self {
        let mut known = Everybody::default();
        for user in state.users.keys() {
            known.put_account(state, *user);
        }
        for keypair in state.keypairs.values() {
            known.put_keypair(keypair);
        }
        state.logins.values().for_each(|l| known.put_login(l));
        for group in state.user_groups.values() {
            known.regroup(group.id, Some(group));
        }
        Self {
            known: RwLock::new(known),
            generation: AtomicU64::new(0),
            edition: AtomicU64::new(0),
            shown: shown::Shown::default(),
            setup: Mutex::new(None),
            uses: Mutex::new(HashMap::new()),
            limits: Held::new(limits),
            data_dir: data_dir.to_owned(),
        }
    }

    fn known(&self) -> RwLockReadGuard<'_, Everybody> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is an administrator: before, nothing but set-up works.
    #[must_use]
    pub fn is_set_up(&self) -> bool {
        !self.known().superadmins.is_empty()
    }

    /// The person of a name, address or id.
    #[must_use]
    pub fn user_by_ref(&self, text: &str) -> Option<UserId> {
        let known = self.known();
        if let Ok(id) = text.parse::<UserId>() {
            return known.accounts.contains_key(&id).then_some(id);
        }
        if let Ok(id) = text.parse::<ServiceAccountId>() {
            let id = UserId::new(id.bits());
            let account = known.accounts.get(&id)?;
            return account.is_service.then_some(id);
        }
        known.names.get(&text.to_ascii_lowercase()).copied()
    }

    /// The name of a person.
    #[must_use]
    pub fn username(&self, user: UserId) -> Option<String> {
        self.account_of(user)
            .map(|account| account.username.clone())
    }

    /// Somebody as requests are judged.
    #[must_use]
    pub fn account_of(&self, user: UserId) -> Option<Arc<Account>> {
        self.known().accounts.get(&user).cloned()
    }

    /// Checks the value of an Authorization header. Steps come in the order in which a
    /// caller may learn of them: nothing is told about a keypair to one without its secret.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn authenticate(&self, header: Option<&str>, now: Timestamp) -> Result<Person, Denied> {
        match credentials(header.ok_or(Denied::Missing)?)? {
            Credentials::Keypair(access, secret) => self.by_keypair(&access, &secret, now),
            Credentials::Login(token) => self.by_token(&token, now),
        }
    }

    fn by_keypair(&self, access: &str, secret: &str, now: Timestamp) -> Result<Person, Denied> {
        self.by_proof(access, &Proof(sha256(secret.as_bytes())), now)
    }

    fn by_proof(&self, access: &str, proof: &Proof, now: Timestamp) -> Result<Person, Denied> {
        let known = self.known();
        // An unknown key costs the same comparisons as a known one.
        let row = known.keypairs.get(access);
        let stored = row.and_then(|k| k.secret_sha256);
        let before = row
            .and_then(|k| k.previous)
            .filter(|(_, until)| now < *until);
        let is = |hash: Option<[u8; 32]>| {
            let same = bool::from(hash.unwrap_or_default().ct_eq(&proof.0));
            same & hash.is_some()
        };
        let same = is(stored) | is(before.map(|(hash, _)| hash));
        let row = row.filter(|row| same && row.state != KeypairState::Revoked);
        let row = row.ok_or(Denied::Failed)?;
        if row.state == KeypairState::Inactive {
            return Err(Denied::Inactive);
        }
        if row.expires_at.is_some_and(|at| at <= now) {
            return Err(Denied::Expired);
        }
        let account = known.accounts.get(&row.user).ok_or(Denied::Failed)?;
        let caller = Caller {
            user: row.user,
            access_key: access.to_owned(),
        };
        let (project, rate_limit) = (row.project, row.rate_limit);
        let via = Via::Keypair {
            access_key: access.to_owned(),
            proof: proof.clone(),
            project,
            rate_limit,
        };
        admitted(account, caller, via)
    }

    /// Who somebody is by now that proved to be somebody: for streams that stay open. It is no
    /// use of a login. Of one who acts for another it is the one who acts.
    ///
    /// # Errors
    /// [`Denied`]: what was proved counts no longer.
    pub fn still(&self, person: &Person, now: Timestamp) -> Result<Person, Denied> {
        match &person.via {
            Via::Login(login) => self.login_still(*login, now),
            Via::Keypair {
                access_key, proof, ..
            } => self.by_proof(access_key, proof, now),
        }
    }

    /// Raised whenever somebody's rights may have become other ones.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Says that a setting has changed what somebody may, after it holds: what is open is
    /// looked at again.
    pub fn rights_changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Raised whenever anything about people or their rights is written.
    #[must_use]
    pub fn edition(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    /// What somebody saw of itself when [`Self::edition`] was this, as JSON; `key` is the
    /// keypair it asks with, none for a login.
    #[must_use]
    pub fn shown(&self, user: UserId, key: Option<&str>, edition: u64) -> Option<Bytes> {
        self.shown.get(&(user, key.map(str::to_owned)), edition)
    }

    /// Keeps it. `edition` is as it was before the state was read.
    pub fn keep_shown(&self, user: UserId, key: Option<&str>, edition: u64, body: Bytes) {
        self.shown
            .put((user, key.map(str::to_owned)), edition, body);
    }

    /// The person whose keypair an Authorization header names, whether its secret is right or
    /// not: for records of refusals, and for nothing that lets anybody in.
    #[must_use]
    pub fn account(&self, header: Option<&str>) -> Option<Arc<Account>> {
        let known = self.known();
        let user = match credentials(header?).ok()? {
            Credentials::Keypair(access, _) => known.keypairs.get(&access)?.user,
            Credentials::Login(token) => {
                let sha256 = token::login_sha256(&token)?;
                known.logins.get(sha256.as_bytes())?.user
            }
        };
        known.accounts.get(&user).cloned()
    }

    /// A keypair was used. A login is not one.
    pub fn used(&self, person: &Person, now: Timestamp, from: Option<IpAddr>) {
        if !matches!(person.via, Via::Keypair { .. }) {
            return;
        }
        let from = from.map_or_else(String::new, |ip| ip.to_string());
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        match uses.get_mut(&person.caller.access_key) {
            Some(last) => {
                last.at = last.at.max(now);
                if last.from != from {
                    last.from = from;
                }
            }
            // As many as there are keypairs that authenticated.
            None => {
                let (at, written) = (now, None);
                let new = Use { at, from, written };
                uses.insert(person.caller.access_key.clone(), new);
            }
        }
    }

    /// When a keypair was last used and from where, if that was since the start.
    #[must_use]
    pub fn keypair_use(&self, access_key: &str) -> Option<(Timestamp, String)> {
        let uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let last = uses.get(access_key)?;
        Some((last.at, last.from.clone()))
    }

    /// What was used since it was last asked, to be stored: access key, when, from where.
    #[must_use]
    pub fn new_uses(&self) -> Vec<(String, Timestamp, String)> {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new: Vec<_> = uses
            .iter_mut()
            .filter(|(_, last)| last.written.is_none_or(|written| written < last.at))
            .map(|(key, last)| {
                last.written = Some(last.at);
                (key.clone(), last.at, last.from.clone())
            })
            .collect();
        new.sort();
        new
    }
}

/// Steps 4 and 5: the person and the domain may do something.
fn admitted(account: &Arc<Account>, caller: Caller, via: Via) -> Result<Person, Denied> {
    match account.status {
        UserStatus::Active => (),
        UserStatus::Inactive => return Err(Denied::UserInactive),
        UserStatus::BeforeVerification => return Err(Denied::UserUnverified),
    }
    if !account.domain_active {
        return Err(Denied::DomainInactive);
    }
    Ok(Person {
        caller,
        account: Arc::clone(account),
        via,
        by_password: false,
    })
}

/// What a header brings.
#[derive(Debug, PartialEq, Eq)]
enum Credentials {
    /// Access key and secret.
    Keypair(String, String),
    /// The token of a login.
    Login(String),
}

/// `Bearer access.secret`, `Basic base64(access:secret)` or `Bearer lss_…`.
fn credentials(header: &str) -> Result<Credentials, Denied> {
    let (scheme, rest) = header.split_once(' ').ok_or(Denied::Failed)?;
    let rest = rest.trim();
    let (text, sign) = if scheme.eq_ignore_ascii_case("bearer") {
        if rest.starts_with(LOGIN_PREFIX) && !rest.contains('.') {
            return Ok(Credentials::Login(rest.to_owned()));
        }
        (rest.to_owned(), '.')
    } else if scheme.eq_ignore_ascii_case("basic") {
        let bytes = STANDARD.decode(rest).map_err(|_| Denied::Failed)?;
        (String::from_utf8(bytes).map_err(|_| Denied::Failed)?, ':')
    } else {
        return Err(Denied::Failed);
    };
    let (access, secret) = text.split_once(sign).ok_or(Denied::Failed)?;
    if access.is_empty() || secret.is_empty() {
        return Err(Denied::Failed); // an access key alone opens nothing
    }
    Ok(Credentials::Keypair(access.to_owned(), secret.to_owned()))
}

/// A new keypair: access key and secret.
#[must_use]
pub fn new_keypair() -> (String, String) {
    let new = token::keypair(&mut fill_random);
    (new.access_key, new.secret_key.expose().to_owned())
}

/// 128 bits for an id, ordered by time.
#[must_use]
pub fn new_id() -> u128 {
    uuid::Uuid::now_v7().as_u128()
}

/// The secret that signs cursors; made at the first start.
///
/// # Errors
/// The file cannot be read or written.
pub fn cursor_secret(data_dir: &Path) -> std::io::Result<[u8; 32]> {
    let path = data_dir.join(CURSOR_FILE);
    match std::fs::read(&path) {
        Ok(bytes) => match bytes.try_into() {
            Ok(secret) => return Ok(secret),
            Err(_) => tracing::warn!("the file cursor.key is damaged and is made anew"),
        },
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Err(_) => (),
    }
    let secret = random::<32>();
    write_secret(&path, &secret)?;
    Ok(secret)
}

/// Writes a file only its owner can read, whole or not at all.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    let _ = std::fs::remove_file(&draft); // left by a crash; its mode may be another
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keypairs_have_their_form() {
        for _ in 0..200 {
            let (access, secret) = new_keypair();
            assert_eq!((access.len(), secret.len()), (20, 43));
            assert!(
                access.starts_with("LS")
                    && access
                        .bytes()
                        .all(|b| b.is_ascii_uppercase() || (b'2'..=b'7').contains(&b))
            );
            assert!(secret.as_bytes()[0].is_ascii_alphanumeric());
        }
    }

    #[test]
    fn credentials_are_read_in_two_ways() {
        let basic = format!("Basic {}", STANDARD.encode("A:b:c"));
        let pair = |a: &str, s: &str| Ok(Credentials::Keypair(a.to_owned(), s.to_owned()));
        assert_eq!(credentials("Bearer A.b.c"), pair("A", "b.c"));
        assert_eq!(credentials(&basic), pair("A", "b:c"));
        let token = "lss_abc".to_owned();
        assert_eq!(credentials("Bearer lss_abc"), Ok(Credentials::Login(token)));
        for bad in [
            "Bearer",
            "Bearer A",
            "Bearer A.",
            "Bearer .b",
            "Digest A.b",
            "Basic !!",
        ] {
            assert_eq!(credentials(bad), Err(Denied::Failed), "{bad}");
        }
    }

    #[test]
    fn the_cursor_secret_stays() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            cursor_secret(dir.path()).unwrap(),
            cursor_secret(dir.path()).unwrap()
        );
    }
}
