//! What administrators do about the logins of others.

use super::super::change::Change;
use super::super::event::Refusal;
use super::super::logins::{end_logins, person_shown};
use super::super::people::{LinkPurpose, User};
use super::super::state::State;
use super::members::missing;
use super::tenants::stands_in_file;
use super::{AdminObject, Decision, void_links};
use crate::access::Operation;
use longshore_common::time::Timestamp;
use longshore_identity::throttle::NameKey;
use serde_json::{Value, json};

/// What administrators do about the logins of others. References are as people wrote them.
#[derive(Debug, Clone)]
pub enum AccountVerb {
    /// Switches the second factor off, and ends all logins.
    TotpOff(String),
    /// Gives a password that was drawn; it is to be changed. Ends all logins.
    ResetPassword {
        /// Whose.
        user: String,
        /// Its hash.
        hash: String,
    },
    /// Clears what failed logins were counted.
    Unblock(String),
    /// Ends all logins.
    EndLogins(String),
}

impl AccountVerb {
    /// Whom it is about.
    #[must_use]
    pub fn user(&self) -> &str {
        match self {
            Self::TotpOff(user)
            | Self::ResetPassword { user, .. }
            | Self::Unblock(user)
            | Self::EndLogins(user) => user,
        }
    }

    /// The row of the table.
    #[must_use]
    pub const fn operation(&self) -> Operation {
        match self {
            Self::TotpOff(_) => Operation::UserTotpOff,
            Self::ResetPassword { .. } => Operation::UserResetPassword,
            Self::Unblock(_) => Operation::UserUnblock,
            Self::EndLogins(_) => Operation::UserEndLogins,
        }
    }
}

pub(super) fn decide(
    state: &State,
    verb: &AccountVerb,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let user = state.user_by_ref(verb.user());
    let user = user.filter(|user| user.service.is_none());
    let user = user.ok_or_else(|| missing("user", verb.user()))?;
    let mut after = User {
        version: user.version + 1,
        updated_at: now,
        ..user.clone()
    };
    let mut changes = Vec::new();
    match verb {
        AccountVerb::TotpOff(_) => {
            if user.totp.is_some() {
                after.totp = None;
                changes.push(Change::User(Box::new(after.clone())));
                changes.extend(end_logins(state, user.id, None));
            }
        }
        AccountVerb::ResetPassword { hash, .. } => {
            if state.is_fixed(user.id) {
                return Err(stands_in_file(user));
            }
            after.password = Some(hash.clone());
            after.password_set_at = Some(now);
            after.need_password_change = true;
            changes.push(Change::User(Box::new(after.clone())));
            changes.extend(end_logins(state, user.id, None));
            changes.extend(void_links(state, user, &[LinkPurpose::Reset], now));
        }
        AccountVerb::Unblock(_) => {
            let names = [&user.username, &user.email].map(|name| NameKey::of(name));
            let cleared = state.throttle.unblock(user.id, &names);
            changes.extend(cleared.into_iter().map(Change::Throttle));
        }
        AccountVerb::EndLogins(_) => changes.extend(end_logins(state, user.id, None)),
    }
    let ended = changes
        .iter()
        .filter(|change| matches!(change, Change::LoginEnded(_)));
    let left = state.logins_of(user.id).count() - ended.count();
    let object = AdminObject::Account(Box::new(shown(state, &after, left)));
    let before = shown(state, user, state.logins_of(user.id).count());
    Ok(Decision::new(object, changes).was(&before))
}

fn shown(state: &State, user: &User, logins: usize) -> Value {
    let mut value = person_shown(state, user);
    value["id"] = json!(user.printed_id());
    value["username"] = json!(user.username);
    value["logins"] = json!(logins);
    value
}
