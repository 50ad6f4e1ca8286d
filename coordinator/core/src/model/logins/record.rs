//! What the audit log has to say about logins. Refusals and failures are recorded at the rim,
//! where those of a kind are merged.

use super::super::admin::accepted;
use super::super::audited::{Audited, Doer, target};
use super::super::change::Change;
use super::super::event::Outcome;
use super::super::people::{Login, User};
use super::super::state::State;
use super::{LoginEvent, OwnVerb};
use crate::access::Operation;
use serde_json::{Value, json};

/// One record at most; nothing where nothing but counters differ.
pub(in super::super) fn recorded(
    state: &State,
    event: &LoginEvent,
    outcome: &Outcome,
) -> Option<Audited> {
    if outcome.answer.is_err() {
        return None;
    }
    let changes = outcome.changes.as_slice();
    match event {
        LoginEvent::Enter(_) => entered(state, changes),
        LoginEvent::Own(order) => {
            let operation = match &order.verb {
                OwnVerb::WrongPassword(_) => return None,
                OwnVerb::EndLogin(_) => return ended(state, changes),
                _ => Operation::MeUpdate,
            };
            changed(state, changes, operation)
        }
        LoginEvent::Reset(_) => {
            let record = changed(state, changes, Operation::AuthReset)?;
            let user = of(changes)?;
            Some(record.by(person(user, "reset link")))
        }
        LoginEvent::WantReset { .. } => link_made(state, changes),
        LoginEvent::Accept(_) => accepted(state, changes),
        LoginEvent::Recover { .. } => changed(state, changes, Operation::UserRole),
        LoginEvent::Minute { .. } => None,
    }
}

fn of(changes: &[Change]) -> Option<&User> {
    changes.iter().find_map(|change| match change {
        Change::User(user) => Some(&**user),
        _ => None,
    })
}

fn person(user: &User, via: &str) -> Doer {
    Doer::Person {
        id: user.printed_id(),
        name: user.username.clone(),
        via: via.to_owned(),
    }
}

fn shown(login: &Login) -> Value {
    json!({ "login": login.id, "client": login.client, "via": login.via, "from": login.from })
}

fn entered(state: &State, changes: &[Change]) -> Option<Audited> {
    let login = changes.iter().find_map(|change| match change {
        Change::Login(login) => Some(login),
        _ => None,
    })?;
    let user = state.users.get(&login.user)?;
    let target = target("user", user.printed_id(), &user.username);
    let record = Audited::new(Operation::AuthLogin, target, None, Some(shown(login)));
    Some(record.by(person(user, &login.id.to_string())))
}

/// That a link to choose a password was sent, and to whom.
fn link_made(state: &State, changes: &[Change]) -> Option<Audited> {
    let link = changes.iter().rev().find_map(|change| match change {
        Change::Invitation(link) => Some(&**link),
        _ => None,
    })?;
    let user = state.users.get(&link.user?)?;
    let target = target("user", user.printed_id(), &user.username);
    let after = json!({ "link": link.id, "expires_at": link.expires_at });
    Some(Audited::new(
        Operation::AuthReset,
        target,
        None,
        Some(after),
    ))
}

fn ended(state: &State, changes: &[Change]) -> Option<Audited> {
    let login = changes.iter().find_map(|change| match change {
        Change::LoginEnded(id) => state.logins.get(id),
        _ => None,
    })?;
    let target = target("login", login.id, "");
    Some(Audited::new(
        Operation::MeLogins,
        target,
        Some(shown(login)),
        None,
    ))
}

/// A person without secrets: of the password only when it was set, which the log masks.
pub(in super::super) fn person_shown(state: &State, user: &User) -> Value {
    json!({
        "full_name": user.full_name,
        "description": user.description,
        "role": user.role,
        "status": user.status,
        "need_password_change": user.need_password_change,
        "password_set_at": user.password_set_at,
        "totp_enabled": user.second_factor().is_some(),
        "logins": state.logins_of(user.id).count(),
    })
}

fn changed(state: &State, changes: &[Change], operation: Operation) -> Option<Audited> {
    let after = of(changes)?;
    let before = state.users.get(&after.id)?;
    let mut new = person_shown(state, after);
    let over = changes
        .iter()
        .filter(|change| matches!(change, Change::LoginEnded(_)));
    let left = state
        .logins_of(after.id)
        .count()
        .saturating_sub(over.count());
    new["logins"] = json!(left);
    let keypairs = changes.iter().filter_map(|change| match change {
        Change::Keypair(keypair) => Some(keypair.access_key.as_str()),
        _ => None,
    });
    let keypairs: Vec<&str> = keypairs.collect();
    if !keypairs.is_empty() {
        new["closed_keypairs"] = json!(keypairs);
    }
    let old = person_shown(state, before);
    let target = target("user", after.printed_id(), &after.username);
    Some(Audited::new(operation, target, Some(old), Some(new)))
}
