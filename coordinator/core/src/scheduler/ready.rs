//! What keeps a session from being considered at all. The pass asks whether there is
//! anything, `explain` asks for all of it.

use crate::access::{Lack, Level};
use crate::model::{Dependency, KeypairState, PastAttempt, Session, State, Unfit};
use longshore_common::api::{Blocker, Source};
use longshore_common::ids::{SessionId, VaultId};
use longshore_common::session::Cause;
use longshore_common::time::Timestamp;

/// One reason.
pub(super) enum NotReady<'a> {
    /// Its hour has not come.
    StartAt(Timestamp),
    /// Another session has not become what it must.
    Dependency(&'a Dependency),
    /// An attempt failed a short while ago: until when it waits, and why that one failed.
    RetryWait(Timestamp, Option<&'a PastAttempt>),
    /// Other sessions have all ranges of its size, by their leading bits.
    Range(u8),
    /// Its owner holds it back.
    Held,
    /// Its owner, keypair, project or domain is not active: which.
    Owner(String),
    /// A vault that is required cannot be opened.
    Vault(VaultId),
    /// Somebody's rights are not what its start needs.
    Rights(Identity<'a>),
}

/// Which reason it is, without what is said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    StartAt,
    Dependency(SessionId),
    RetryWait,
    Range,
    Held,
    Owner,
    Vault(VaultId),
    Rights,
}

/// A right that is not there, or no longer.
pub(super) enum Identity<'a> {
    /// Its owner may not use the project or the queue.
    Owner(Box<Lack>),
    /// The service account of its group may not use the group.
    Account(&'a str),
    /// The service account of its group may not act for users.
    Impersonation(&'a str),
}

/// Every reason, in the order in which they are shown. That of its group is the group's.
pub(super) fn reasons<'a>(
    state: &'a State,
    session: &'a Session,
    now: Timestamp,
) -> impl Iterator<Item = NotReady<'a>> {
    let start = session.start_at.filter(|at| *at > now);
    let failed = session.attempts.last();
    let wait = session.not_before.filter(|at| *at > now);
    let dependencies = session.depends_on.iter().filter(|d| !d.met);
    start
        .map(NotReady::StartAt)
        .into_iter()
        .chain(dependencies.map(NotReady::Dependency))
        .chain(wait.map(|at| NotReady::RetryWait(at, failed)))
        .chain(session.awaits_range.map(NotReady::Range))
        .chain(session.held.then_some(NotReady::Held))
        .chain(std::iter::once_with(|| owner(state, session).map(NotReady::Owner)).flatten())
        .chain(
            std::iter::once_with(|| state.vault_in_the_way(session).map(NotReady::Vault)).flatten(),
        )
}

/// Whether a session may be considered, as far as it is not a matter of rights.
pub(super) fn is(state: &State, session: &Session, now: Timestamp) -> bool {
    reasons(state, session, now).next().is_none()
}

/// What of somebody's rights keeps a session from starting. The same for all sessions of one
/// owner in one project and one queue that were submitted in the same way.
pub(super) fn identity<'a>(state: &'a State, session: &Session) -> Option<Identity<'a>> {
    if let Some(lack) = state.lack_of(session) {
        return Some(Identity::Owner(Box::new(lack)));
    }
    let group = state.groups.get(&session.group)?;
    match state.server_of(group)? {
        Ok(_) => None,
        Err(Unfit::Queue) => Some(Identity::Account(&group.service_account)),
        Err(Unfit::Impersonation) => Some(Identity::Impersonation(&group.service_account)),
    }
}

/// What keeps everything of an owner from starting, if anything does.
fn owner(state: &State, session: &Session) -> Option<String> {
    let user = state.users.get(&session.owner);
    let keypair = state.keypairs.get(&session.access_key);
    let project = state.projects.get(&session.project);
    let domain = state.domains.get(&session.domain);
    if user.is_some_and(|u| !u.is_active()) {
        return Some(format!("user {} is not active", session.owner_name));
    }
    if keypair.is_some_and(|k| k.state == KeypairState::Inactive) {
        return Some(format!("keypair {} is not active", session.access_key));
    }
    if let Some(project) = project.filter(|p| !p.active) {
        return Some(format!("project {} is not active", project.name));
    }
    let domain = domain.filter(|d| !d.active)?;
    Some(format!("domain {} is not active", domain.name))
}

impl NotReady<'_> {
    pub(super) const fn mark(&self) -> Mark {
        match self {
            Self::StartAt(_) => Mark::StartAt,
            Self::Dependency(entry) => Mark::Dependency(entry.session),
            Self::RetryWait(..) => Mark::RetryWait,
            Self::Range(_) => Mark::Range,
            Self::Held => Mark::Held,
            Self::Owner(_) => Mark::Owner,
            Self::Vault(id) => Mark::Vault(*id),
            Self::Rights(_) => Mark::Rights,
        }
    }

    /// As it is told.
    pub(super) fn shown(&self, state: &State, now: Timestamp) -> Blocker {
        let ready = |rule, text| Blocker::new("ready", rule, text);
        match self {
            Self::StartAt(at) => ready("start-at", format!("it is to start at {at}")),
            Self::Dependency(entry) => {
                let other = state.sessions.get(&entry.session);
                let stands = other.map_or("unknown", |s| s.state.as_str());
                let text = format!(
                    "it waits for {} ({}), which is {}",
                    entry.session,
                    entry.on,
                    stands.to_ascii_lowercase()
                );
                let source = Source::new("session", entry.session.to_string());
                ready("dependency", text).of(source)
            }
            Self::RetryWait(at, failed) => {
                let seconds = (at.since(now) + 999) / 1000;
                let vault = Cause::VaultUnavailable.as_str();
                if let Some(failed) = failed.filter(|failed| failed.reason == vault) {
                    let text = format!("{}; next try in {seconds} s", failed.detail);
                    let blocker = ready(vault, text);
                    return match failed.vault() {
                        Some(id) => blocker.of(Source::new("vault", id.to_string())),
                        None => blocker,
                    };
                }
                let failed = failed.map_or_else(String::new, |past| format!(" ({})", past.reason));
                let text = format!("tried before{failed}; next try in {seconds} s");
                ready("retry-wait", text)
            }
            Self::Range(prefix) => {
                let pool = state.scheduler.network.overlay_pool;
                let text = format!(
                    "sessions have all ranges of /{prefix} in network.overlay_pool {pool}; it waits until one of them is gone"
                );
                ready("overlay-pool", text).of(Source::new("setting", "network.overlay_pool"))
            }
            Self::Held => ready("held", "its owner holds it back".to_owned()),
            Self::Owner(text) => ready("owner-inactive", text.clone()),
            Self::Vault(id) => {
                let text = "a vault that is required cannot be opened".to_owned();
                ready("vault-unavailable", text).of(Source::new("vault", id.to_string()))
            }
            Self::Rights(why) => why.shown(state),
        }
    }
}

impl Identity<'_> {
    fn shown(&self, state: &State) -> Blocker {
        let told = |rule, text| Blocker::new("identity", rule, text);
        let called = |account: &str| {
            let known = state.user_by_ref(account);
            known.map_or_else(|| account.to_owned(), |user| user.username.clone())
        };
        let of = |account: &str| Source::new("service-account", account.to_owned());
        match self {
            Self::Owner(lack) => {
                let name = state.name_of_resource(&lack.resource).unwrap_or_default();
                let kind = lack.resource.kind_text();
                let text = match lack.has {
                    Level::None => format!("its owner has no access to {kind} {name}"),
                    _ => format!("its owner may only read {kind} {name}"),
                };
                told("access", text).of(Source::new(kind, name))
            }
            Self::Account(account) => {
                let account = called(account);
                let text = format!("service account {account} may not use the group");
                told("queue-access", text).of(of(&account))
            }
            Self::Impersonation(account) => {
                let account = called(account);
                let text = format!("service account {account} may not act for users");
                told("impersonation-not-allowed", text).of(of(&account))
            }
        }
    }
}
