//! What keeps a session from being considered at all. The pass asks whether there is
//! anything, `explain` asks for all of it.

use crate::model::{Dependency, KeypairState, Session, State};
use longshore_common::api::{Blocker, Source};
use longshore_common::time::Timestamp;

/// One reason.
pub(super) enum NotReady<'a> {
    /// Its hour has not come.
    StartAt(Timestamp),
    /// Another session has not become what it must.
    Dependency(&'a Dependency),
    /// A start failed a short while ago.
    RetryWait(Timestamp),
    /// Its owner holds it back.
    Held,
    /// Its owner, keypair, project or domain is not active: which.
    Owner(String),
}

/// Every reason, in the order in which they are shown. That of its group is the group's.
pub(super) fn reasons<'a>(
    state: &'a State,
    session: &'a Session,
    now: Timestamp,
) -> impl Iterator<Item = NotReady<'a>> {
    let start = session.start_at.filter(|at| *at > now);
    let wait = session.not_before.filter(|at| *at > now);
    let dependencies = session.depends_on.iter().filter(|d| !d.met);
    start
        .map(NotReady::StartAt)
        .into_iter()
        .chain(dependencies.map(NotReady::Dependency))
        .chain(wait.map(NotReady::RetryWait))
        .chain(session.held.then_some(NotReady::Held))
        .chain(std::iter::once_with(|| owner(state, session).map(NotReady::Owner)).flatten())
}

/// Whether a session may be considered.
pub(super) fn is(state: &State, session: &Session, now: Timestamp) -> bool {
    reasons(state, session, now).next().is_none()
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
            Self::RetryWait(at) => {
                let seconds = (at.since(now) + 999) / 1000;
                ready(
                    "retry-wait",
                    format!("tried before; next try in {seconds} s"),
                )
            }
            Self::Held => ready("held", "its owner holds it back".to_owned()),
            Self::Owner(text) => ready("owner-inactive", text.clone()),
        }
    }
}
