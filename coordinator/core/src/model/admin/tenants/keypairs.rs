//! Keypairs.

use super::super::super::change::{Change, PolicyKind};
use super::super::super::event::{Caller, Refusal};
use super::super::super::people::{Keypair, KeypairState};
use super::super::super::state::State;
use super::super::super::submit::cut;
use super::super::impact::Scope;
use super::super::members::missing;
use super::super::policies::{DEFAULT, refer};
use super::super::{AdminObject, Decision};
use super::people::{find_user, user_view};
use longshore_common::admin::{KeypairView, UserView};
use longshore_common::time::Timestamp;

/// A keypair as it is shown.
#[must_use]
pub fn keypair_view(state: &State, keypair: &Keypair) -> KeypairView {
    KeypairView {
        access_key: keypair.access_key.clone(),
        user: keypair.user.to_string(),
        user_name: state
            .users
            .get(&keypair.user)
            .map_or_else(String::new, |u| u.username.clone()),
        state: keypair.state.as_str().to_owned(),
        main: keypair.main,
        policy: keypair.policy.clone(),
        created_at: keypair.created_at,
    }
}

fn find_keypair<'a>(state: &'a State, key: &str) -> Result<&'a Keypair, Refusal> {
    state
        .keypairs
        .get(key)
        .ok_or_else(|| missing("keypair", key))
}

pub(in super::super) fn access_key_is_free(state: &State, access_key: &str) -> Result<(), Refusal> {
    if state.keypairs.contains_key(access_key) {
        return Err(Refusal::new(
            "LS-KEYPAIR-EXISTS",
            format!("Access key {access_key} is already in use."),
        ));
    }
    Ok(())
}

pub(in super::super) fn create_keypair(
    state: &State,
    caller: &Caller,
    user: Option<&str>,
    policy: Option<&str>,
    (access_key, secret_sha256): (&str, [u8; 32]),
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let wrong =
        |at: &str, message: String| Refusal::new("LS-INVALID", message.clone()).at(at, message);
    let owner = match user {
        None => state.users.get(&caller.user),
        Some(name) => state.user_by_ref(name),
    };
    let owner = owner.ok_or_else(|| {
        let name = cut(user.unwrap_or_default());
        wrong("/user", format!("There is no user {name}."))
    })?;
    let main = state.main_keypair(owner.id);
    let policy = match policy {
        Some(name) => refer(state, PolicyKind::Keypair, name).map_err(|m| wrong("/policy", m))?,
        None => main.map_or_else(|| DEFAULT.to_owned(), |k| k.policy.clone()),
    };
    access_key_is_free(state, access_key)?;
    let keypair = Keypair {
        policy,
        main: main.is_none(),
        ..Keypair::new(access_key, secret_sha256, owner.id, now)
    };
    let object = AdminObject::Keypair(Box::new(keypair_view(state, &keypair)));
    let changes = vec![Change::Keypair(keypair)];
    // With a second keypair the main one's policy begins to bind the person as a whole.
    Ok(Decision::new(object, changes).touching(Scope::user(state, owner.id)))
}

fn changed_keypair(state: &State, present: &Keypair, keypair: Keypair) -> Decision {
    let object = AdminObject::Keypair(Box::new(keypair_view(state, &keypair)));
    let changes = if keypair == *present {
        Vec::new()
    } else {
        vec![Change::Keypair(keypair)]
    };
    Decision::new(object, changes)
        .was(&keypair_view(state, present))
        .touching(Scope::keypairs(
            state,
            std::iter::once(present.access_key.clone()),
        ))
}

pub(in super::super) fn set_keypair_policy(
    state: &State,
    key: &str,
    policy: &str,
) -> Result<Decision, Refusal> {
    let present = find_keypair(state, key)?;
    let policy = refer(state, PolicyKind::Keypair, policy.trim())
        .map_err(|m| Refusal::new("LS-INVALID", m.clone()).at("/policy", m))?;
    let keypair = Keypair {
        policy,
        ..present.clone()
    };
    Ok(changed_keypair(state, present, keypair))
}

pub(in super::super) fn set_keypair_active(
    state: &State,
    key: &str,
    active: bool,
) -> Result<Decision, Refusal> {
    let present = find_keypair(state, key)?;
    let wanted = if active {
        KeypairState::Active
    } else {
        KeypairState::Inactive
    };
    if present.state == wanted || present.state == KeypairState::Revoked {
        let is = present.state.as_str();
        return Err(Refusal::new(
            "LS-KEYPAIR-STATE",
            format!("Keypair {} is {is} already.", present.access_key),
        ));
    }
    let keypair = Keypair {
        state: wanted,
        ..present.clone()
    };
    Ok(changed_keypair(state, present, keypair))
}

pub(in super::super) fn set_main(
    state: &State,
    user: &str,
    key: &str,
) -> Result<Decision, Refusal> {
    let owner = find_user(state, user)?;
    let target = find_keypair(state, key)?;
    if target.user != owner.id {
        let message = format!("{} has no keypair {}.", owner.username, target.access_key);
        return Err(Refusal::new("LS-INVALID", message.clone()).at("/access_key", message));
    }
    if !target.is_active() {
        return Err(Refusal::new(
            "LS-KEYPAIR-STATE",
            format!(
                "Keypair {} is inactive; activate it first.",
                target.access_key
            ),
        ));
    }
    let changes = state
        .keypairs_of(owner.id)
        .filter(|k| k.main != (k.access_key == target.access_key))
        .map(|k| {
            Change::Keypair(Keypair {
                main: !k.main,
                ..k.clone()
            })
        })
        .collect();
    let view = UserView {
        main_keypair: Some(target.access_key.clone()),
        ..user_view(state, owner)
    };
    let decision = Decision::new(AdminObject::User(Box::new(view), None), changes);
    Ok(decision
        .was(&user_view(state, owner))
        .touching(Scope::user(state, owner.id)))
}
