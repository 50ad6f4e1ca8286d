//! Links to choose a new password.

use super::super::admin::{DrawnLink, link_for, stands_in_file, void_links};
use super::super::change::Change;
use super::super::event::{Outcome, Refusal};
use super::super::people::{Invitation, LinkPurpose, Role, User, UserStatus};
use super::super::state::State;
use super::own::end_logins;
use super::{NewLink, ResetByLink, done, open_link};
use longshore_common::ids::UserId;
use longshore_common::time::Timestamp;
use longshore_identity::fields;

/// Links to choose a password that one address gets in any hour: who forgot the password needs
/// one, and nobody shall fill the letter box of somebody else.
const MOST_LINKS: usize = 3;
/// The hour, in seconds. Links are kept for as long as they are good, which is no less.
const WINDOW_S: i64 = 3600;

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
    let mut changes = vec![
        Change::User(Box::new(after)),
        Change::Invitation(Box::new(link.accepted())),
    ];
    changes.extend(end_logins(state, user.id, None));
    done(changes)
}

/// Makes somebody an active superadmin again, without a second factor, with a link to choose
/// a password; older links are void. While passwords of the configuration alone count there is
/// no link.
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
    if !state.people_settings.fixed_users_only {
        changes.extend(instead_of_older(state, user, link));
    }
    done(changes)
}

/// A new link to choose a password; those before are void.
fn instead_of_older(state: &State, user: &User, link: NewLink) -> Vec<Change> {
    let older = void_links(state, user, &[LinkPurpose::Reset], link.at);
    let mut changes: Vec<Change> = older.collect();
    let drawn = DrawnLink {
        id: link.id,
        token_sha256: link.token_sha256,
        valid_s: 0,
    };
    changes.push(Change::Invitation(Box::new(Invitation {
        expires_at: link.expires_at,
        ..link_for(user, LinkPurpose::Reset, &drawn, user.id, link.at)
    })));
    changes
}

/// Somebody says to have forgotten the password of an address. Nothing follows for addresses
/// of nobody who could use a link, and for those that got enough of them.
pub(super) fn want_reset(state: &State, email: &str, link: NewLink) -> Outcome {
    let email = fields::clean(email);
    let user = state.user_of_name(&email).filter(|user| {
        let domain = state.domains.get(&user.domain);
        user.is_active()
            && user.service.is_none()
            && !state.people_settings.fixed_users_only // no password they choose counts
            && user.email.eq_ignore_ascii_case(&email)
            && domain.is_none_or(|domain| domain.active)
    });
    match user {
        Some(user) if !has_enough(state, user.id, link.at) => {
            done(instead_of_older(state, user, link))
        }
        _ => done(Vec::new()),
    }
}

/// Whether a person got as many links as there are in an hour.
fn has_enough(state: &State, user: UserId, at: Timestamp) -> bool {
    let lately = state.invitations.values().filter(|link| {
        link.purpose == LinkPurpose::Reset
            && link.user == Some(user)
            && link.created_at > at.plus_s(-WINDOW_S)
    });
    lately.count() >= MOST_LINKS
}
