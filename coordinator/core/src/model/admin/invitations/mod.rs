//! Who is asked to join, and what becomes of links that work once.
//!
//! | module | decides about |
//! |---|---|
//! | `invite` | asking a new person or a user, and taking it back |
//! | `accept` | what a link does: make a person, join projects, prove an address |

mod accept;
mod invite;

pub use accept::{Accept, Chosen};
pub(in super::super) use accept::{accept, accepted};
pub(super) use invite::{invite, withdraw};

use super::super::change::Change;
use super::super::people::{Invitation, InvitationState, LinkPurpose, User};
use super::super::state::State;
use super::permit::at_project;
use super::tenants::{domain_name, username_of};
use crate::access::{self, Caller, Case, Intent, Operation, Target};
use longshore_common::admin::{InvitationView, PendingUser};
use longshore_common::ids::{InvitationId, UserId};
use longshore_common::time::Timestamp;
use longshore_identity::Sha256;

/// The longest life of a link, in seconds: 30 days.
pub const MOST_LINK_S: u32 = 2_592_000;

/// A link that was drawn at the rim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrawnLink {
    /// Its id.
    pub id: InvitationId,
    /// SHA-256 of its token.
    pub token_sha256: [u8; 32],
    /// For how long it is good if the request does not say, in seconds.
    pub valid_s: u32,
}

/// A link to somebody who has an account.
#[must_use]
pub(in super::super) fn link_for(
    user: &User,
    purpose: LinkPurpose,
    link: &DrawnLink,
    by: UserId,
    now: Timestamp,
) -> Invitation {
    Invitation {
        id: link.id,
        token_sha256: link.token_sha256,
        email: user.email.clone(),
        user: Some(user.id),
        domain: user.domain,
        projects: Vec::new(),
        groups: Vec::new(),
        user_policy: user.user_policy.clone(),
        by,
        created_at: now,
        expires_at: now.plus_s(i64::from(link.valid_s)),
        state: InvitationState::Pending,
        purpose,
    }
}

/// Open links of some purposes to a person, each made void.
pub(in super::super) fn void_links<'a>(
    state: &'a State,
    user: &'a User,
    purposes: &'a [LinkPurpose],
    now: Timestamp,
) -> impl Iterator<Item = Change> + 'a {
    let links = state.invitations.values();
    links
        .filter(move |link| {
            purposes.contains(&link.purpose) && link.is_open(now) && link.user == Some(user.id)
        })
        .map(|link| Change::Invitation(Box::new(link.withdrawn())))
}

/// The invitation, or the proof of an address, that a token opens.
#[must_use]
pub fn find_link<'a>(
    state: &'a State,
    token_sha256: &[u8; 32],
    at: Timestamp,
) -> Option<&'a Invitation> {
    let given = Sha256::from_bytes(*token_sha256);
    let mut links = state.invitations.values();
    links.find(|link| {
        link.purpose != LinkPurpose::Reset
            && link.is_open(at)
            && Sha256::from_bytes(link.token_sha256).same(&given)
    })
}

/// The person an invitation is for, if it has an account by now.
fn invited<'a>(state: &'a State, link: &Invitation) -> Option<&'a User> {
    let user = match link.user {
        Some(id) => state.users.get(&id),
        None => person_of(state, &link.email),
    };
    user.filter(|user| user.service.is_none())
}

/// The person with an address.
fn person_of<'a>(state: &'a State, email: &str) -> Option<&'a User> {
    let found = state.user_of_name(email);
    found.filter(|user| user.service.is_none() && user.email.eq_ignore_ascii_case(email))
}

/// Whether somebody may do something to an invitation: to one of a user, in all its projects.
#[must_use]
pub fn sees_invitation(
    state: &State,
    caller: &Caller,
    operation: Operation,
    link: &Invitation,
) -> bool {
    if link.purpose != LinkPurpose::Invitation {
        return false;
    }
    let may = |target: Target| {
        let intent = match operation {
            Operation::InvitationRead => Intent::Read,
            _ => Intent::Change,
        };
        access::decide(operation, caller, &target.intent(intent)).is_allowed()
    };
    let nowhere = || Target::object().in_domain(link.domain);
    if link.user.is_none() {
        return may(nowhere().case(Case::NewPerson));
    }
    let projects = link.projects.iter().filter_map(|id| state.projects.get(id));
    let mut targets = projects.map(|project| at_project(project).case(Case::ExistingUser));
    match targets.next() {
        None => may(nowhere().case(Case::ExistingUser)), // the projects are gone
        Some(first) => may(first) && targets.all(may),
    }
}

/// An invitation as it is shown.
#[must_use]
pub fn invitation_view(state: &State, link: &Invitation, now: Timestamp) -> InvitationView {
    let projects = link.projects.iter().filter_map(|id| state.projects.get(id));
    let groups = link
        .groups
        .iter()
        .filter_map(|id| state.user_groups.get(id));
    InvitationView {
        id: link.id.to_string(),
        state: link.state_at(now).to_owned(),
        email: link.email.clone(),
        user: link.user.map(|id| id.to_string()),
        domain: link.domain.to_string(),
        domain_name: domain_name(state, link.domain),
        projects: projects.map(|project| project.name.clone()).collect(),
        groups: groups.map(|group| group.name.clone()).collect(),
        user_policy: link.user_policy.clone(),
        invited_by: username_of(state, link.by),
        created_at: link.created_at,
        expires_at: link.expires_at,
    }
}

/// An invitation as a row of the list of people.
#[must_use]
pub fn pending_user(link: &Invitation) -> PendingUser {
    PendingUser {
        id: link.id.to_string(),
        email: link.email.clone(),
        status: "pending".to_owned(),
        invited_at: link.created_at,
        expires_at: link.expires_at,
    }
}

/// Who invited, for the person who is invited: the full name, else the login name.
#[must_use]
pub fn invited_by_name(state: &State, link: &Invitation) -> String {
    match state.users.get(&link.by) {
        Some(user) if !user.full_name.is_empty() => user.full_name.clone(),
        _ => username_of(state, link.by),
    }
}
