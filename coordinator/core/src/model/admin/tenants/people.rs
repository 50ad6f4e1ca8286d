//! People: how they are shown, made, and changed in what they are called.

use super::super::super::change::{Change, PolicyKind};
use super::super::super::event::{Caller, Refusal};
use super::super::super::people::{Keypair, LinkPurpose, Membership, Role, User, UserStatus};
use super::super::super::policies::Domain;
use super::super::super::state::State;
use super::super::super::submit::cut;
use super::super::impact::Scope;
use super::super::members::{Reader, fresh, missing, put};
use super::super::policies::DEFAULT;
use super::super::{AdminObject, Decision, DrawnLink, NewPassword, NewUserSecrets, link_for};
use super::keypairs::{access_key_is_free, keypair_view};
use super::memberships::Leaving;
use super::{domain_name, domain_of, plain, policy_of, username_of};
use longshore_common::admin::{KeypairView, Member, NewUser, UserPatch, UserView};
use longshore_common::amount::{format_milli, parse_milli};
use longshore_common::ids::UserId;
use longshore_common::time::Timestamp;
use longshore_identity::fields::{self, UserInput, UserUpdate, messages};
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

/// People as they are shown, with one look at all sessions; service accounts left out.
#[must_use]
pub fn user_views<'a>(state: &State, users: impl Iterator<Item = &'a User>) -> Vec<UserView> {
    let mut live: BTreeMap<UserId, u64> = BTreeMap::new();
    for session in state.sessions.values().filter(|s| !s.state.is_final()) {
        *live.entry(session.owner).or_insert(0) += 1;
    }
    users
        .filter(|user| user.service.is_none())
        .map(|user| with_sessions(state, user, live.get(&user.id).copied().unwrap_or(0)))
        .collect()
}

fn with_sessions(state: &State, user: &User, live_sessions: u64) -> UserView {
    let logins = state.logins_of(user.id).map(|login| login.last_used_at);
    UserView {
        id: user.printed_id(),
        version: user.version,
        email: user.email.clone(),
        username: user.username.clone(),
        full_name: user.full_name.clone(),
        description: user.description.clone(),
        role: user.role.as_str().to_owned(),
        status: user.status.as_str().to_owned(),
        uid: user.uid,
        gid: user.uid,
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
        need_password_change: user.need_password_change,
        sudo_enabled: user.sudo_enabled,
        totp_enabled: user.second_factor().is_some(),
        has_password: user.password.is_some() || state.is_fixed(user.id),
        source: user.source.as_str().to_owned(),
        last_login_at: user.last_login.as_ref().map(|(at, _)| *at),
        last_login_via: user.last_login.as_ref().map(|(_, via)| via.clone()),
        last_activity_at: logins.max().max(used_otherwise(state, user)),
        live_sessions,
        created_at: user.created_at,
        updated_at: user.updated_at,
    }
}

/// When somebody last logged in or used a keypair.
fn used_otherwise(state: &State, user: &User) -> Option<Timestamp> {
    let keypairs = state.all_keypairs_of(user.id);
    let used = keypairs.filter_map(|k| k.last_used.as_ref().map(|(at, _)| *at));
    used.chain(user.last_login.as_ref().map(|(at, _)| *at))
        .max()
}

/// A person; service accounts have routes of their own.
pub(super) fn find_user<'a>(state: &'a State, name: &str) -> Result<&'a User, Refusal> {
    let found = state.user_by_ref(name);
    found
        .filter(|user| user.service.is_none())
        .ok_or_else(|| missing("user", name))
}

/// The same, at the version the caller saw.
pub(super) fn seen_user<'a>(
    state: &'a State,
    name: &str,
    expected: Option<u64>,
) -> Result<&'a User, Refusal> {
    let user = find_user(state, name)?;
    fresh(expected, &format!("User {}", user.username), user.version)?;
    Ok(user)
}

/// A person that a request describes, with its first keypair; its number is not given yet.
pub(in super::super) fn new_person(
    state: &State,
    (request, password): (&NewUser, Option<&NewPassword>),
    secrets: &NewUserSecrets,
    caller: &Caller,
    now: Timestamp,
) -> Result<(User, Keypair), Refusal> {
    let mut r = Reader::default();
    let [email, username] = [("email", &request.email), ("username", &request.username)]
        .map(|(field, member)| plain(&mut r, field, member));
    if matches!(request.password, Member::Wrong(_)) {
        r.wrong("/password", "password must be text.");
    }
    let [full_name, description, role] = [
        ("full_name", &request.full_name),
        ("description", &request.description),
        ("role", &request.role),
    ]
    .map(|(field, member)| plain(&mut r, field, member));
    let role = role.map(|word| word.to_ascii_lowercase());
    let checked = fields::new_user(&UserInput {
        email: email.as_deref(),
        username: username.as_deref(),
        password: password.map(|given| &given.text),
        full_name: full_name.as_deref(),
        description: description.as_deref(),
        role: role.as_deref(),
    });
    // That an address of a wrong kind is missing too is not said.
    let said = matches!(request.email, Member::Wrong(_));
    for error in checked.as_ref().err().into_iter().flatten() {
        if !(said && error.pointer == "/email") {
            r.wrong(&error.pointer, &error.message);
        }
    }
    let domain = domain_of(state, &mut r, &request.domain);
    let projects = domain.map_or_else(Vec::new, |domain| {
        projects_of(state, &mut r, domain, &[], &request.projects)
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
    let sudo_enabled = r.flag("sudo_enabled", &request.sudo_enabled);
    let weight_milli = weight(&mut r, &request.weight)
        .flatten()
        .unwrap_or(WEIGHT_ONE);
    r.done()?;
    let checked = checked.map_err(|_| Refusal::new("LS-INVALID", "The request is not valid."))?;
    names_are_free(state, Some(&checked.email), &checked.username, None)?;
    access_key_is_free(state, &secrets.access_key)?;
    let user = User {
        username: checked.username,
        email: checked.email,
        full_name: checked.full_name,
        description: checked.description,
        role: role_named(checked.role),
        status,
        domain: domain.map_or(super::super::super::people::no_domain(), |d| d.id),
        projects,
        user_policy,
        weight_milli,
        password: password.map(|given| given.phc.clone()),
        sudo_enabled: sudo_enabled.flatten().unwrap_or(false),
        ..User::new(secrets.id, now)
    };
    let keypair = Keypair {
        policy: keypair_policy,
        created_by: username_of(state, caller.user),
        ..Keypair::new(&secrets.access_key, secrets.secret_sha256, user.id, now)
    };
    Ok((user, keypair))
}

/// The role of a word that was checked.
pub(super) fn role_named(word: &str) -> Role {
    let mut all = Role::ALL.into_iter();
    all.find(|role| role.as_str() == word).unwrap_or_default()
}

pub(in super::super) fn create_user(
    state: &State,
    caller: &Caller,
    (secrets, link): (&NewUserSecrets, &DrawnLink),
    (request, password): (&NewUser, Option<&NewPassword>),
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let (mut user, keypair) = new_person(state, (request, password), secrets, caller, now)?;
    let mut meta = state.meta.clone();
    user.uid = meta.next_uid;
    meta.next_uid += 1;
    let shown = UserView {
        main_keypair: Some(keypair.access_key.clone()),
        ..user_view(state, &user)
    };
    let key = KeypairView {
        user_name: user.username.clone(),
        ..keypair_view(state, &keypair)
    };
    let object = AdminObject::User(Box::new(shown), Some(Box::new(key)));
    let mut changes = vec![Change::Meta(meta)];
    if user.status == UserStatus::BeforeVerification {
        let link = link_for(&user, LinkPurpose::Verification, link, caller.user, now);
        changes.push(Change::Invitation(Box::new(link)));
    }
    changes.extend([Change::User(Box::new(user)), Change::Keypair(keypair)]);
    Ok(Decision::new(object, changes))
}

/// Which names somebody else has, and where they stand. Login names and addresses are one
/// set: nobody else may have either. `me` is left out.
pub(super) fn names_taken(
    state: &State,
    email: Option<&str>,
    username: &str,
    me: Option<UserId>,
) -> Vec<(&'static str, String)> {
    let holder = |name: &str| state.user_of_name(name).filter(|u| Some(u.id) != me);
    let mut taken = Vec::new();
    if let Some((email, other)) = email.and_then(|email| Some((email, holder(email)?))) {
        taken.push((
            "/email",
            match other.email.eq_ignore_ascii_case(email) {
                true => messages::email_exists(email),
                false => messages::login_name_taken(email),
            },
        ));
    }
    // Where the address is the login name, the one sentence about it is enough.
    let said = email.is_some_and(|email| username.eq_ignore_ascii_case(email));
    if let Some(other) = holder(username).filter(|_| !said) {
        taken.push((
            "/username",
            match other.username.eq_ignore_ascii_case(username) {
                true => messages::username_exists(username),
                false => messages::login_name_taken(username),
            },
        ));
    }
    taken
}

pub(super) fn names_are_free(
    state: &State,
    email: Option<&str>,
    username: &str,
    me: Option<UserId>,
) -> Result<(), Refusal> {
    let taken = names_taken(state, email, username, me);
    let Some((_, first)) = taken.first() else {
        return Ok(());
    };
    let refusal = Refusal::new("LS-EXISTS", first.clone());
    Err(taken
        .into_iter()
        .fold(refusal, |r, (at, text)| r.at(at, text)))
}

/// Projects of one domain, each once, in the order given. Who is in one already stays so with
/// what it may there.
pub(in super::super) fn projects_of(
    state: &State,
    r: &mut Reader,
    domain: &Domain,
    present: &[Membership],
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
            None => r.wrong(
                &at,
                messages::project_not_in_domain(&cut(name), &domain.name),
            ),
            Some(project)
                if !project.active && !present.iter().any(|m| m.project == project.id) =>
            {
                r.wrong(&at, format!("Project {} is inactive.", project.name));
            }
            Some(project) if projects.iter().any(|m| m.project == project.id) => (),
            Some(project) => {
                let row = present.iter().find(|m| m.project == project.id);
                projects.push(
                    row.cloned()
                        .unwrap_or_else(|| Membership::manual(project.id)),
                );
            }
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

/// A status by its word.
pub(super) fn status(r: &mut Reader, member: &Member<String>) -> Option<UserStatus> {
    let word = r.text("status", member, 32)??;
    let mut all = UserStatus::ALL.into_iter();
    let found = all.find(|status| status.as_str().eq_ignore_ascii_case(&word));
    if found.is_none() {
        let message = "Status must be active, inactive or before-verification.";
        r.wrong("/status", message);
    }
    found
}

pub(in super::super) fn patch_user(
    state: &State,
    caller: &Caller,
    name: &str,
    expected: Option<u64>,
    request: &UserPatch,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let present = seen_user(state, name, expected)?;
    let mut r = Reader::default();
    let mut user = present.clone();
    // Null empties what may be empty.
    let text = |r: &mut Reader, field: &str, member: &Member<String>| match member {
        Member::Null => Some(String::new()),
        other => plain(r, field, other),
    };
    let email = text(&mut r, "email", &request.email);
    let username = text(&mut r, "username", &request.username);
    let full_name = text(&mut r, "full_name", &request.full_name);
    let description = text(&mut r, "description", &request.description);
    let update = UserUpdate {
        email: email.as_deref(),
        username: username.as_deref(),
        full_name: full_name.as_deref(),
        description: description.as_deref(),
        role: None,
    };
    let broken = fields::update(&update, &present.email);
    let is_fixed = broken.iter().any(|e| e.message == messages::EMAIL_FIXED);
    for error in &broken {
        r.wrong(&error.pointer, &error.message);
    }
    for (into, said) in [
        (&mut user.username, &username),
        (&mut user.full_name, &full_name),
        (&mut user.description, &description),
    ] {
        if let Some(said) = said {
            *into = fields::clean(said);
        }
    }
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
        let rows = projects_of(state, &mut r, domain, &present.projects, &request.projects);
        put(&mut user.projects, rows, Vec::new());
    } else if !request.projects.is_absent() {
        r.wrong("/projects", format!("{} is in no domain.", user.username));
    }
    r.done().map_err(|refusal| match is_fixed {
        true => Refusal {
            code: "LS-FIELD-FIXED",
            ..refusal
        },
        false => refusal,
    })?;
    if state.is_fixed(user.id) && !user.username.eq_ignore_ascii_case(&present.username) {
        let text = format!(
            "{} stands in the configuration under this name; it is changed there.",
            present.username
        );
        return Err(Refusal::new("LS-FIXED-USER", text));
    }
    names_are_free(state, None, &user.username, Some(user.id))?;
    let mut left = Leaving::new(state, caller, present, now);
    for membership in &present.projects {
        if !user.is_member(membership.project) {
            left.project(membership.project, false)?;
        }
    }
    Ok(changed_user(state, present, user, left))
}

/// The decision that a person becomes another one, with what follows from it.
pub(super) fn changed_user(
    state: &State,
    present: &User,
    mut user: User,
    more: Leaving<'_>,
) -> Decision {
    let main = state.main_keypair(user.id).map(|k| k.access_key.clone());
    if user != *present {
        user.version += 1;
        user.updated_at = more.now();
    }
    let mut view = UserView {
        main_keypair: main,
        live_sessions: more.live_sessions(),
        ..user_view(state, &user)
    };
    if more.touched.logins > 0 {
        view.last_activity_at = used_otherwise(state, &user);
    }
    let scope = Scope {
        keypairs: more.keypairs.clone(),
        ..Scope::user(state, present.id)
    };
    let mut decision = more.decision(AdminObject::User(Box::new(view), None));
    if user != *present {
        decision.changes.push(Change::User(Box::new(user)));
    }
    decision.was(&user_view(state, present)).touching(scope)
}
