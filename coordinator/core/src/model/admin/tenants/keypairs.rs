//! Keypairs.

use super::super::super::change::{Change, PolicyKind};
use super::super::super::event::{Caller, Refusal};
use super::super::super::people::{Keypair, KeypairState, User};
use super::super::super::policies::Project;
use super::super::super::state::State;
use super::super::super::submit::cut;
use super::super::impact::Scope;
use super::super::members::{Reader, missing, put};
use super::super::policies::DEFAULT;
use super::super::{AdminObject, Decision, NewKeypairSecrets};
use super::people::user_view;
use super::{plain, policy_of, project_name, revoked, username_of};
use longshore_common::admin::{
    KeypairPatch, KeypairView, Member, NewKeypair, RotateRequest, UserView,
};
use longshore_common::time::Timestamp;
use longshore_identity::{fields, token};

/// Keypairs of one person or account that are not revoked: each has a rate limit of its own.
const KEYPAIRS_MOST: usize = 100;

/// The most requests in 900 s that a keypair may be allowed.
const RATE_MAX: i64 = 1_000_000;
/// The longest time that an old secret stays good after a rotation, in seconds.
const OVERLAP_MAX: i64 = 86_400;
/// How many sessions in the way are named.
const NAMED: usize = 20;

/// A keypair as it is shown.
#[must_use]
pub fn keypair_view(state: &State, keypair: &Keypair) -> KeypairView {
    let project = keypair.project;
    KeypairView {
        access_key: keypair.access_key.clone(),
        user: state
            .users
            .get(&keypair.user)
            .map_or_else(|| keypair.user.to_string(), User::printed_id),
        user_name: username_of(state, keypair.user),
        label: keypair.label.clone(),
        state: keypair.state.as_str().to_owned(),
        main: keypair.main && keypair.state != KeypairState::Revoked,
        policy: keypair.policy.clone(),
        rate_limit: keypair.rate_limit,
        project: project.map(|id| id.to_string()),
        project_name: project.map(|id| project_name(state, id)),
        expires_at: keypair.expires_at,
        overlap_until: keypair.previous.map(|(_, until)| until),
        created_at: keypair.created_at,
        created_by: keypair.created_by.clone(),
        last_used_at: keypair.last_used.as_ref().map(|(at, _)| *at),
        last_used_from: keypair.last_used.as_ref().map(|(_, from)| from.clone()),
        requests_in_window: None, // counted at the rim
    }
}

fn find_keypair<'a>(state: &'a State, key: &str) -> Result<&'a Keypair, Refusal> {
    state
        .keypairs
        .get(key)
        .ok_or_else(|| missing("keypair", key))
}

/// Access keys are unique for ever, those of revoked keypairs included.
pub(in super::super) fn access_key_is_free(state: &State, access_key: &str) -> Result<(), Refusal> {
    if state.keypairs.contains_key(access_key) {
        let message = token::access_key_exists(access_key);
        return Err(Refusal::new("LS-KEYPAIR-EXISTS", message));
    }
    Ok(())
}

/// Whether this is the one whose policy limits its user as a whole.
fn is_main(state: &State, keypair: &Keypair) -> bool {
    let main = state.main_keypair(keypair.user);
    main.is_some_and(|main| main.access_key == keypair.access_key)
}

pub(in super::super) fn create_keypair(
    state: &State,
    caller: &Caller,
    request: &NewKeypair,
    secrets: &NewKeypairSecrets,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let mut r = Reader::default();
    let user = plain(&mut r, "user", &request.user);
    let owner = match &user {
        None => state.users.get(&caller.user),
        Some(name) => state.user_by_ref(name),
    };
    if owner.is_none() && r.is_good() {
        let name = cut(user.as_deref().unwrap_or_default());
        r.wrong("/user", format!("There is no user {name}."));
    }
    let main = owner.and_then(|owner| state.main_keypair(owner.id));
    let mut keypair = Keypair {
        policy: main.map_or_else(|| DEFAULT.to_owned(), |k| k.policy.clone()),
        rate_limit: main.and_then(|k| k.rate_limit),
        created_by: username_of(state, caller.user),
        ..Keypair::new(&secrets.access_key, secrets.secret_sha256, caller.user, now)
    };
    fill(state, &mut keypair, &Settings::new(request), &mut r, now);
    keypair.project = owner
        .and_then(|owner| bound_to(state, &mut r, owner, &request.project))
        .map(|p| p.id);
    if let Some(secret) = &secrets.imported {
        let access = plain(&mut r, "access_key", &request.access_key).unwrap_or_default();
        for error in token::import(&access, secret.expose()) {
            r.wrong(&error.pointer, error.message);
        }
    }
    r.done()?;
    let owner = owner.ok_or_else(|| missing("user", user.as_deref().unwrap_or_default()))?;
    access_key_is_free(state, &secrets.access_key)?;
    if state.keypairs_of(owner.id).count() >= KEYPAIRS_MOST {
        let text = format!(
            "{} has {KEYPAIRS_MOST} keypairs; revoke one first.",
            owner.username
        );
        return Err(Refusal::new("LS-KEYPAIR-STATE", text));
    }
    keypair.user = owner.id;
    keypair.main = main.is_none() && keypair.project.is_none();
    let object = AdminObject::Keypair(Box::new(keypair_view(state, &keypair)));
    let changes = vec![Change::Keypair(keypair)];
    // With a second keypair the main one's policy begins to bind the person as a whole.
    Ok(Decision::new(object, changes).touching(Scope::user(state, owner.id)))
}

/// What creation and change have in common.
struct Settings<'a> {
    label: &'a Member<String>,
    policy: &'a Member<String>,
    rate_limit: &'a Member<i64>,
    expires_at: &'a Member<String>,
    /// Null takes a value away; at creation it is as absent.
    changes: bool,
}

impl<'a> Settings<'a> {
    const fn new(request: &'a NewKeypair) -> Self {
        Self {
            label: &request.label,
            policy: &request.policy,
            rate_limit: &request.rate_limit,
            expires_at: &request.expires_at,
            changes: false,
        }
    }

    const fn patch(request: &'a KeypairPatch) -> Self {
        Self {
            label: &request.label,
            policy: &request.policy,
            rate_limit: &request.rate_limit,
            expires_at: &request.expires_at,
            changes: true,
        }
    }
}

fn fill(state: &State, keypair: &mut Keypair, said: &Settings<'_>, r: &mut Reader, now: Timestamp) {
    if let Some(label) = plain(r, "label", said.label) {
        keypair.label = fields::clean(&label);
        if let Some(message) = fields::label(&keypair.label) {
            r.wrong("/label", message);
        }
    } else if matches!(said.label, Member::Null) {
        keypair.label = String::new();
    }
    match policy_of(state, r, "policy", PolicyKind::Keypair, said.policy) {
        Some(Some(policy)) => keypair.policy = policy,
        // A keypair always has a policy: taking it away gives it the first one.
        Some(None) if said.changes => keypair.policy = DEFAULT.to_owned(),
        Some(None) | None => (),
    }
    let rate = r.whole("rate_limit", said.rate_limit, 1, RATE_MAX);
    if rate != Some(None) || said.changes {
        let rate = rate.map(|rate| rate.and_then(|rate| u32::try_from(rate).ok()));
        if let Some(rate) = rate {
            keypair.rate_limit = rate;
        }
    }
    let at = plain(r, "expires_at", said.expires_at);
    let at = at.map(|text| text.parse::<Timestamp>());
    match at {
        Some(Ok(at)) if at > now => keypair.expires_at = Some(at),
        Some(Ok(_)) => r.wrong("/expires_at", "expires_at must lie in the future."),
        Some(Err(error)) => r.wrong("/expires_at", format!("expires_at: {error}.")),
        None if matches!(said.expires_at, Member::Null) => keypair.expires_at = None,
        None => (),
    }
}

/// The project a keypair is to be good for: one of its owner's. That there is another one of
/// that name is not said.
fn bound_to<'a>(
    state: &'a State,
    r: &mut Reader,
    owner: &User,
    member: &Member<String>,
) -> Option<&'a Project> {
    let name = plain(r, "project", member)?;
    let found = state.project_by_ref(&name, Some(owner.domain));
    let found = found.filter(|p| owner.is_member(p.id));
    if found.is_none() {
        let message = format!("{} is in no project {}.", owner.username, cut(&name));
        r.wrong("/project", message);
    }
    found
}

pub(in super::super) fn patch_keypair(
    state: &State,
    key: &str,
    request: &KeypairPatch,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let present = find_keypair(state, key)?;
    let mut keypair = present.clone();
    let mut r = Reader::default();
    fill(state, &mut keypair, &Settings::patch(request), &mut r, now);
    r.done()?;
    if present.state == KeypairState::Revoked && keypair != *present {
        return Err(revoked_already(present));
    }
    Ok(changed_keypair(state, present, keypair))
}

fn revoked_already(keypair: &Keypair) -> Refusal {
    let message = format!("Keypair {} is revoked.", keypair.access_key);
    Refusal::new("LS-KEYPAIR-STATE", message)
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

pub(in super::super) fn rotate(
    state: &State,
    key: &str,
    request: &RotateRequest,
    secret_sha256: [u8; 32],
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let present = find_keypair(state, key)?;
    let mut r = Reader::default();
    let mut overlap_s = 0;
    let said = r.whole("overlap_s", &request.overlap_s, 0, OVERLAP_MAX);
    put(&mut overlap_s, said, 0);
    r.done()?;
    if !present.is_active() {
        return Err(Refusal::new(
            "LS-KEYPAIR-STATE",
            format!(
                "Keypair {} is {}; only an active one is rotated.",
                present.access_key,
                present.state.as_str()
            ),
        ));
    }
    let old = present.secret_sha256.filter(|_| overlap_s > 0);
    let keypair = Keypair {
        secret_sha256: Some(secret_sha256),
        previous: old.map(|old| (old, now.plus_s(overlap_s))),
        ..present.clone()
    };
    Ok(changed_keypair(state, present, keypair))
}

fn is_main_refusal(state: &State, keypair: &Keypair) -> Refusal {
    let user = username_of(state, keypair.user);
    Refusal::new(
        "LS-KEYPAIR-MAIN",
        format!("This is the main keypair of {user}; choose another main keypair first."),
    )
}

pub(in super::super) fn revoke(state: &State, key: &str) -> Result<Decision, Refusal> {
    let present = find_keypair(state, key)?;
    if present.state == KeypairState::Revoked {
        return Err(revoked_already(present));
    }
    if is_main(state, present) {
        return Err(is_main_refusal(state, present));
    }
    Ok(changed_keypair(state, present, revoked(present)))
}

/// Deleting ends like revoking: the row stays, so that its access key is never given again.
pub(in super::super) fn delete(state: &State, key: &str) -> Result<Decision, Refusal> {
    let present = find_keypair(state, key)?;
    if present.state == KeypairState::Revoked {
        return Ok(changed_keypair(state, present, present.clone()));
    }
    if is_main(state, present) {
        return Err(is_main_refusal(state, present));
    }
    if present.is_active() {
        return Err(Refusal::new(
            "LS-KEYPAIR-ACTIVE",
            "Deactivate the keypair before deleting it.",
        ));
    }
    let live = state.sessions.values();
    let live: Vec<String> = live
        .filter(|s| s.access_key == present.access_key && !s.state.is_final())
        .map(|s| s.id.to_string())
        .collect();
    if !live.is_empty() {
        let mut ids = live[..live.len().min(NAMED)].join(", ");
        if live.len() > NAMED {
            ids.push_str(", …");
        }
        return Err(Refusal::new(
            "LS-KEYPAIR-IN-USE",
            format!("The keypair owns {} live sessions: {ids}.", live.len()),
        ));
    }
    Ok(changed_keypair(state, present, revoked(present)))
}

pub(in super::super) fn set_main(
    state: &State,
    user: &str,
    key: &str,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let owner = state.user_by_ref(user);
    let owner = owner.ok_or_else(|| missing("user", user))?;
    // That somebody else has it is no answer to give.
    let target = state.keypairs.get(key).filter(|k| k.user == owner.id);
    let Some(target) = target else {
        let message = format!("{} has no keypair {}.", owner.username, cut(key));
        return Err(Refusal::new("LS-INVALID", message.clone()).at("/access_key", message));
    };
    let why = match (target.state, target.project) {
        (KeypairState::Active, None) => None,
        (KeypairState::Active, Some(_)) => {
            Some("is good for one project only; a main keypair is good for all")
        }
        (KeypairState::Inactive, _) => Some("is inactive; activate it first"),
        (KeypairState::Revoked, _) => Some("is revoked"),
    };
    if let Some(why) = why {
        let message = format!("Keypair {} {why}.", target.access_key);
        return Err(Refusal::new("LS-KEYPAIR-STATE", message));
    }
    let before = user_view(state, owner);
    let mut changes: Vec<Change> = state
        .keypairs_of(owner.id)
        .filter(|k| k.main != (k.access_key == target.access_key))
        .map(|k| {
            Change::Keypair(Keypair {
                main: !k.main,
                ..k.clone()
            })
        })
        .collect();
    let mut user = owner.clone();
    if before.main_keypair.as_deref() != Some(key) {
        user.version += 1;
        user.updated_at = now;
        changes.push(Change::User(Box::new(user.clone())));
    }
    let view = UserView {
        main_keypair: Some(target.access_key.clone()),
        ..user_view(state, &user)
    };
    let decision = Decision::new(AdminObject::User(Box::new(view), None), changes);
    Ok(decision.was(&before).touching(Scope::user(state, owner.id)))
}
