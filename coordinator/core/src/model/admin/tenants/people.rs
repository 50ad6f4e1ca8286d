//! People.

use super::super::super::change::{Change, PolicyKind};
use super::super::super::event::{Caller, Refusal};
use super::super::super::people::{Keypair, KeypairState, Membership, Role, User, UserStatus};
use super::super::super::policies::Domain;
use super::super::super::state::State;
use super::super::super::submit::cut;
use super::super::impact::Scope;
use super::super::members::{Reader, missing, put};
use super::super::policies::DEFAULT;
use super::super::{AdminObject, Decision};
use super::keypairs::{access_key_is_free, keypair_view};
use super::{domain_name, domain_of, policy_of, superadmin_remains};
use longshore_common::admin::{
    KeypairView, Member, NewUser, UserPatch, UserStatusRequest, UserView,
};
use longshore_common::amount::{format_milli, parse_milli};
use longshore_common::ids::{DomainId, UserId};
use longshore_common::time::Timestamp;
use std::collections::BTreeMap;

/// A weight of one, in thousandths.
const WEIGHT_ONE: i64 = 1000;
/// The largest weight, in thousandths.
const WEIGHT_MAX: i64 = 1_000_000;

/// A person as it is shown. Looks at every session: for lists there is [`user_views`].
#[must_use]
pub fn user_view(state: &State, user: &User) -> UserView {
    let live = state.sessions.values();
    let live = live.filter(|s| s.owner == user.id && !s.state.is_final());
    with_sessions(state, user, live.count() as u64)
}

/// Everybody, by login name.
#[must_use]
pub fn user_views(state: &State) -> Vec<UserView> {
    let mut live: BTreeMap<UserId, u64> = BTreeMap::new();
    for session in state.sessions.values().filter(|s| !s.state.is_final()) {
        *live.entry(session.owner).or_insert(0) += 1;
    }
    let people = state.users.values().filter(|user| user.service.is_none());
    let mut users: Vec<&User> = people.collect();
    users.sort_by(|a, b| (&a.username, a.id).cmp(&(&b.username, b.id)));
    users
        .into_iter()
        .map(|user| with_sessions(state, user, live.get(&user.id).copied().unwrap_or(0)))
        .collect()
}

fn with_sessions(state: &State, user: &User, live_sessions: u64) -> UserView {
    UserView {
        id: user.id.to_string(),
        email: user.email.clone(),
        username: user.username.clone(),
        role: user.role.as_str().to_owned(),
        status: user.status.as_str().to_owned(),
        uid: user.uid,
        domain: user.domain.to_string(),
        domain_name: domain_name(state, user.domain),
        projects: user
            .project_ids()
            .filter_map(|id| state.projects.get(&id))
            .map(|p| p.name.clone())
            .collect(),
        user_policy: user.user_policy.clone(),
        main_keypair: state.main_keypair(user.id).map(|k| k.access_key.clone()),
        weight: format_milli(user.weight_milli),
        live_sessions,
        created_at: user.created_at,
    }
}

pub(super) fn find_user<'a>(state: &'a State, name: &str) -> Result<&'a User, Refusal> {
    state.user_by_ref(name).ok_or_else(|| missing("user", name))
}

/// What is wrong with an address.
fn email_error(email: &str) -> Option<&'static str> {
    if email.is_empty() {
        return Some("Email is required.");
    }
    if email.chars().count() > 64 {
        return Some("Email must be at most 64 characters.");
    }
    let label =
        |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let good = email.bytes().all(|b| b.is_ascii_graphic())
        && email.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && !domain.contains('@') && domain.split('.').all(label)
        });
    (!good).then_some("Email is not a valid address.")
}

/// What is wrong with a login name.
fn username_error(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("Username must not be empty.");
    }
    if name.chars().count() > 64 {
        return Some("Username must be at most 64 characters.");
    }
    let good = name.as_bytes()[0].is_ascii_alphanumeric()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'@' | b'+' | b'-'));
    (!good).then_some("Username may contain only letters, digits and . _ @ + - and must start with a letter or digit.")
}

/// What a new person and its first keypair are to be.
pub(in super::super) struct First<'a> {
    pub(in super::super) id: UserId,
    pub(in super::super) access_key: &'a str,
    pub(in super::super) secret_sha256: [u8; 32],
}

pub(in super::super) fn create_user(
    state: &State,
    first: &First<'_>,
    request: &NewUser,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let mut r = Reader::default();
    let email = plain(&mut r, "email", &request.email).unwrap_or_default();
    if let Some(message) =
        email_error(&email).filter(|_| !matches!(request.email, Member::Wrong(_)))
    {
        r.wrong("/email", message);
    }
    let username = plain(&mut r, "username", &request.username);
    let username = username.unwrap_or_else(|| email.clone());
    // A bad address that is also the login name is said once.
    if let Some(message) =
        username_error(&username).filter(|_| username != email || email_error(&email).is_none())
    {
        r.wrong("/username", message);
    }
    let role = match r.text("role", &request.role, 32) {
        Some(Some(word)) => match word.to_ascii_lowercase().as_str() {
            "superadmin" => Role::Superadmin,
            "domain-admin" => Role::DomainAdmin,
            "monitor" => Role::Monitor,
            "user" => Role::User,
            _ => {
                r.wrong(
                    "/role",
                    "Role must be superadmin, domain-admin, monitor or user.",
                );
                Role::User
            }
        },
        _ => Role::User,
    };
    let domain = domain_of(state, &mut r, &request.domain);
    let projects = domain.map_or_else(Vec::new, |domain| {
        projects_of(state, &mut r, domain, &request.projects)
            .flatten()
            .unwrap_or_default()
    });
    let policy = |r: &mut Reader, field, kind, member| {
        let said = policy_of(state, r, field, kind, member);
        said.flatten().unwrap_or_else(|| DEFAULT.to_owned())
    };
    let user_policy = policy(
        &mut r,
        "user_policy",
        PolicyKind::User,
        &request.user_policy,
    );
    let keypair_policy = policy(
        &mut r,
        "keypair_policy",
        PolicyKind::Keypair,
        &request.keypair_policy,
    );
    let status = status(&mut r, &request.status).unwrap_or_default();
    let weight_milli = weight(&mut r, &request.weight)
        .flatten()
        .unwrap_or(WEIGHT_ONE);
    r.done()?;
    name_is_free(state, &email, &username)?;
    access_key_is_free(state, first.access_key)?;
    let mut meta = state.meta.clone();
    let user = User {
        username,
        email,
        role,
        uid: meta.next_uid,
        status,
        domain: domain.map_or(DomainId::new(0), |d| d.id),
        projects,
        user_policy,
        weight_milli,
        ..User::new(first.id, now)
    };
    meta.next_uid += 1;
    let keypair = Keypair {
        policy: keypair_policy,
        ..Keypair::new(first.access_key, first.secret_sha256, user.id, now)
    };
    let shown = UserView {
        main_keypair: Some(keypair.access_key.clone()),
        ..user_view(state, &user)
    };
    let key = KeypairView {
        user_name: user.username.clone(),
        ..keypair_view(state, &keypair)
    };
    let object = AdminObject::User(Box::new(shown), Some(Box::new(key)));
    let changes = vec![
        Change::Meta(meta),
        Change::User(Box::new(user)),
        Change::Keypair(keypair),
    ];
    Ok(Decision::new(object, changes))
}

/// A text that is only trimmed here: its own rules follow.
fn plain(r: &mut Reader, field: &str, member: &Member<String>) -> Option<String> {
    match member {
        Member::Value(text) => Some(text.trim().to_owned()),
        Member::Wrong(_) => {
            r.wrong(&format!("/{field}"), format!("{field} must be text."));
            None
        }
        Member::Absent | Member::Null => None,
    }
}

fn name_is_free(state: &State, email: &str, username: &str) -> Result<(), Refusal> {
    let mut taken: Vec<(&str, String)> = Vec::new();
    for other in state.users.values() {
        if other.email.eq_ignore_ascii_case(email) {
            taken.push((
                "/email",
                format!("A user with email {email} already exists."),
            ));
        } else if other.username.eq_ignore_ascii_case(email) {
            taken.push((
                "/email",
                format!("{email} is already a login name of another user."),
            ));
        }
        // Where the address is the login name, the one sentence about it is enough.
        if username.eq_ignore_ascii_case(email) {
            continue;
        }
        if other.username.eq_ignore_ascii_case(username) {
            taken.push((
                "/username",
                format!("A user with username {username} already exists."),
            ));
        } else if other.email.eq_ignore_ascii_case(username) {
            taken.push((
                "/username",
                format!("{username} is already a login name of another user."),
            ));
        }
    }
    let Some((_, first)) = taken.first() else {
        return Ok(());
    };
    let refusal = Refusal::new("LS-EXISTS", first.clone());
    Err(taken
        .into_iter()
        .fold(refusal, |r, (at, text)| r.at(at, text)))
}

/// Projects of one domain, each once, in the order given.
pub(in super::super) fn projects_of(
    state: &State,
    r: &mut Reader,
    domain: &Domain,
    member: &Member<Vec<String>>,
) -> Option<Option<Vec<Membership>>> {
    let Some(names) = r.list("projects", member)? else {
        return Some(None);
    };
    let mut projects: Vec<Membership> = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        let found = state
            .project_by_ref(name.trim(), Some(domain.id))
            .filter(|p| p.domain == domain.id);
        let at = format!("/projects/{at}");
        match found {
            None => {
                let name = cut(name);
                r.wrong(
                    &at,
                    format!("Project {name} is not in domain {}.", domain.name),
                );
            }
            Some(project) if !project.active => {
                r.wrong(&at, format!("Project {} is inactive.", project.name));
            }
            Some(project) if projects.iter().any(|m| m.project == project.id) => (),
            Some(project) => projects.push(Membership::manual(project.id)),
        }
    }
    Some(Some(projects))
}

fn weight(r: &mut Reader, member: &Member<String>) -> Option<Option<i64>> {
    let Some(text) = r.text("weight", member, 64)? else {
        return Some(None);
    };
    match parse_milli(&text) {
        Ok(weight) if (1..=WEIGHT_MAX).contains(&weight) => Some(Some(weight)),
        _ => {
            r.wrong("/weight", "weight must be between 0.001 and 1000.");
            None
        }
    }
}

fn status(r: &mut Reader, member: &Member<String>) -> Option<UserStatus> {
    let word = r.text("status", member, 32)??;
    match word.to_ascii_lowercase().as_str() {
        "active" => Some(UserStatus::Active),
        "inactive" => Some(UserStatus::Inactive),
        _ => {
            r.wrong("/status", "Status must be active or inactive.");
            None
        }
    }
}

pub(in super::super) fn patch_user(
    state: &State,
    name: &str,
    request: &UserPatch,
) -> Result<Decision, Refusal> {
    let present = find_user(state, name)?;
    let mut r = Reader::default();
    let mut user = present.clone();
    let policy = policy_of(
        state,
        &mut r,
        "user_policy",
        PolicyKind::User,
        &request.user_policy,
    );
    put(&mut user.user_policy, policy, DEFAULT.to_owned());
    put(
        &mut user.weight_milli,
        weight(&mut r, &request.weight),
        WEIGHT_ONE,
    );
    if let Some(domain) = state.domains.get(&user.domain) {
        let projects = projects_of(state, &mut r, domain, &request.projects);
        put(&mut user.projects, projects, Vec::new());
    } else if !request.projects.is_absent() {
        r.wrong("/projects", format!("{} is in no domain.", user.username));
    }
    r.done()?;
    Ok(changed_user(state, present, user, Vec::new()))
}

fn changed_user(state: &State, present: &User, user: User, more: Vec<Change>) -> Decision {
    let object = AdminObject::User(Box::new(user_view(state, &user)), None);
    let mut changes = Vec::new();
    if user != *present {
        changes.push(Change::User(Box::new(user)));
    }
    changes.extend(more);
    Decision::new(object, changes)
        .was(&user_view(state, present))
        .touching(Scope::user(state, present.id))
}

pub(in super::super) fn set_status(
    state: &State,
    caller: &Caller,
    name: &str,
    request: &UserStatusRequest,
) -> Result<Decision, Refusal> {
    let present = find_user(state, name)?;
    let mut r = Reader::default();
    let status = status(&mut r, &request.status);
    if matches!(request.status, Member::Absent | Member::Null) {
        r.wrong("/status", "status is required.");
    }
    let keypairs_too = r.flag("deactivate_keypairs", &request.deactivate_keypairs);
    r.done()?;
    let status = status.unwrap_or(present.status);
    let active = status == UserStatus::Active;
    if present.is_active() && !active {
        if caller.user == present.id {
            return Err(Refusal::new(
                "LS-USER-SELF",
                "You cannot deactivate your own account.",
            ));
        }
        if present.role == Role::Superadmin {
            superadmin_remains(state, |user| user.id != present.id)?;
        }
    }
    let off = !active && keypairs_too.flatten() == Some(true);
    let keypairs = state
        .keypairs_of(present.id)
        .filter(|k| off && k.is_active())
        .map(|k| {
            Change::Keypair(Keypair {
                state: KeypairState::Inactive,
                ..k.clone()
            })
        })
        .collect();
    let user = User {
        status,
        ..present.clone()
    };
    Ok(changed_user(state, present, user, keypairs))
}
