//! Links to choose a new password.

use super::super::admin::stands_in_file;
use super::super::change::Change;
use super::super::event::{Outcome, Refusal};
use super::super::people::{Invitation, InvitationState, LinkPurpose, Role, User, UserStatus};
use super::super::state::State;
use super::own::end_logins;
use super::{NewLink, ResetByLink, done, open_link};

/// The one answer to links that are used, replaced, over or were never made.
fn gone() -> Refusal {
    Refusal::new("LS-LINK-GONE", "This link is no longer valid.")
}

pub(super) fn reset(state: &State, order: &ResetByLink) -> Outcome {
    let link = open_link(state, &order.token_sha256, LinkPurpose::Reset, order.at);
    let user = link.and_then(|link| state.user_of_name(&link.email));
    let (Some(link), Some(user)) = (link, user.filter(|user| user.is_active())) else {
        return Outcome::refuse(gone());
    };
    if state.is_fixed(user.id) {
        return Outcome::refuse(stands_in_file(user));
    }
    let after = User {
        version: user.version + 1,
        updated_at: order.at,
        password: Some(order.hash.clone()),
        password_set_at: Some(order.at),
        need_password_change: false,
        ..user.clone()
    };
    let used = Invitation {
        state: InvitationState::Accepted,
        ..link.clone()
    };
    let mut changes = vec![
        Change::User(Box::new(after)),
        Change::Invitation(Box::new(used)),
    ];
    changes.extend(end_logins(state, user.id, None));
    done(changes)
}

/// Makes somebody an active superadmin again, without a second factor, with a link to choose
/// a password. Older links are void.
pub(super) fn recover(state: &State, email: &str, link: NewLink) -> Outcome {
    let user = state.user_of_name(email.trim());
    let Some(user) = user.filter(|user| user.service.is_none()) else {
        let text = format!(
            "There is no user {}.",
            super::super::submit::cut(email.trim())
        );
        return Outcome::refuse(Refusal::new("LS-NOT-FOUND", text));
    };
    let after = User {
        version: user.version + 1,
        updated_at: link.at,
        role: Role::Superadmin,
        status: UserStatus::Active,
        totp: None,
        ..user.clone()
    };
    let mut changes = vec![Change::User(Box::new(after))];
    let older = state.invitations.values().filter(|other| {
        other.purpose == LinkPurpose::Reset
            && other.state == InvitationState::Pending
            && other.email == user.email
    });
    changes.extend(older.map(|other| {
        Change::Invitation(Box::new(Invitation {
            state: InvitationState::Withdrawn,
            ..other.clone()
        }))
    }));
    changes.push(Change::Invitation(Box::new(Invitation {
        id: link.id,
        token_sha256: link.token_sha256,
        email: user.email.clone(),
        domain: user.domain,
        projects: Vec::new(),
        groups: Vec::new(),
        user_policy: user.user_policy.clone(),
        by: user.id,
        created_at: link.at,
        expires_at: link.expires_at,
        state: InvitationState::Pending,
        purpose: LinkPurpose::Reset,
    })));
    done(changes)
}
