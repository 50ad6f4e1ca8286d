//! Domains, projects, people and keypairs: what policies, totals and queues need of them.

use super::super::change::{Change, PolicyKind};
use super::super::entities::{Keypair, Role, User};
use super::super::event::{Caller, Refusal};
use super::super::policies::{Domain, Project};
use super::super::state::{Account, State};
use super::groups::texts;
use super::impact::Scope;
use super::members::{Caps, DESCRIPTION, Reader, fixed, fresh, merge, missing, put, taken};
use super::policies::{DEFAULT, refer};
use super::{AdminObject, Decision};
use longshore_common::admin::{
    DomainRequest, DomainView, KeypairView, Member, NewUser, ProjectRequest, ProjectView,
    UserPatch, UserStatusRequest, UserView,
};
use longshore_common::amount::{SlotLimits, format_milli, parse_milli};
use longshore_common::ids::{DomainId, ProjectId, UserId};
use longshore_common::time::Timestamp;
use std::collections::BTreeMap;

/// A weight of one, in thousandths.
const WEIGHT_ONE: i64 = 1000;
/// The largest weight, in thousandths.
const WEIGHT_MAX: i64 = 1_000_000;

// ----- domains and projects

/// A domain as it is shown.
#[must_use]
pub fn domain_view(state: &State, domain: &Domain) -> DomainView {
    DomainView {
        id: domain.id.to_string(),
        version: domain.version,
        name: domain.name.clone(),
        description: domain.description.clone(),
        active: domain.active,
        total_slots: domain.total_slots.to_texts(),
        used_slots: texts(&state.usage(&Account::Domain(domain.id)).slots),
        users: state
            .users
            .values()
            .filter(|u| u.domain == domain.id)
            .count() as u64,
        projects: state
            .projects
            .values()
            .filter(|p| p.domain == domain.id)
            .count() as u64,
        created_at: domain.created_at,
    }
}

/// A project as it is shown.
#[must_use]
pub fn project_view(state: &State, project: &Project) -> ProjectView {
    ProjectView {
        id: project.id.to_string(),
        version: project.version,
        name: project.name.clone(),
        domain: project.domain.to_string(),
        domain_name: domain_name(state, project.domain),
        description: project.description.clone(),
        active: project.active,
        policy: project.policy.clone(),
        total_slots: project.total_slots.to_texts(),
        used_slots: texts(&state.usage(&Account::Project(project.id)).slots),
        members: state
            .users
            .values()
            .filter(|u| u.projects.contains(&project.id))
            .count() as u64,
        created_at: project.created_at,
    }
}

fn domain_name(state: &State, id: DomainId) -> String {
    state
        .domains
        .get(&id)
        .map_or_else(String::new, |d| d.name.clone())
}

pub(super) fn create_domain(
    state: &State,
    id: DomainId,
    request: &DomainRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let mut reader = Reader::default();
    let mut domain = Domain {
        id,
        version: 1,
        name: reader.handle(&request.name).unwrap_or_default(),
        description: String::new(),
        active: true,
        total_slots: SlotLimits::new(),
        created_at: now,
    };
    fill_domain(&mut domain, request, &mut reader);
    reader.done()?;
    if state.domain_by_ref(&domain.name).is_some() {
        return Err(taken("domain", &domain.name));
    }
    let object = AdminObject::Domain(Box::new(domain_view(state, &domain)));
    Ok(Decision::new(object, vec![Change::Domain(domain)]))
}

pub(super) fn patch_domain(
    state: &State,
    name: &str,
    expected: Option<u64>,
    request: &DomainRequest,
) -> Result<Decision, Refusal> {
    let present = state
        .domain_by_ref(name)
        .ok_or_else(|| missing("domain", name))?;
    fresh(
        expected,
        &format!("Domain {}", present.name),
        present.version,
    )?;
    fixed("name", &request.name, &present.name)?;
    let mut reader = Reader::default();
    let mut domain = present.clone();
    fill_domain(&mut domain, request, &mut reader);
    reader.done()?;
    if present.active && !domain.active {
        superadmin_remains(state, |user| user.domain != domain.id)?;
    }
    let object = |d| AdminObject::Domain(Box::new(domain_view(state, d)));
    if domain == *present {
        return Ok(Decision::new(object(present), Vec::new()));
    }
    domain.version += 1;
    let scope = Scope {
        users: state
            .users
            .values()
            .filter(|u| u.domain == domain.id)
            .map(|u| u.id)
            .collect(),
        ..Scope::sessions(state, |s| s.domain == domain.id)
    };
    let decision = Decision::new(object(&domain), vec![Change::Domain(domain)]);
    Ok(decision.was(&domain_view(state, present)).touching(scope))
}

fn fill_domain(domain: &mut Domain, request: &DomainRequest, r: &mut Reader) {
    put(
        &mut domain.description,
        r.text("description", &request.description, DESCRIPTION),
        String::new(),
    );
    put(&mut domain.active, r.flag("active", &request.active), true);
    merge(
        &mut domain.total_slots,
        r.limits("total_slots", &request.total_slots, Caps::Total),
    );
}

/// The domain a request names, else the one named `default`.
fn domain_of<'a>(state: &'a State, r: &mut Reader, member: &Member<String>) -> Option<&'a Domain> {
    let name = r.text("domain", member, 64);
    if name.is_none() && !member.is_absent() {
        return None; // said already
    }
    let name = name.flatten().unwrap_or_else(|| DEFAULT.to_owned());
    let found = state.domain_by_ref(&name);
    match found {
        None => r.wrong("/domain", format!("Domain {name} does not exist.")),
        Some(domain) if !domain.active => {
            r.wrong("/domain", format!("Domain {} is inactive.", domain.name));
        }
        Some(_) => (),
    }
    found
}

pub(super) fn create_project(
    state: &State,
    id: ProjectId,
    request: &ProjectRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let mut reader = Reader::default();
    let name = reader.handle(&request.name).unwrap_or_default();
    let domain = domain_of(state, &mut reader, &request.domain);
    let mut project = Project {
        id,
        version: 1,
        name,
        domain: domain.map_or(DomainId::new(0), |d| d.id),
        description: String::new(),
        active: true,
        policy: DEFAULT.to_owned(),
        total_slots: SlotLimits::new(),
        created_at: now,
    };
    fill_project(state, &mut project, request, &mut reader);
    reader.done()?;
    let others = state.projects.values();
    if others
        .filter(|p| p.domain == project.domain)
        .any(|p| p.name.eq_ignore_ascii_case(&project.name))
    {
        return Err(taken("project", &project.name));
    }
    let object = AdminObject::Project(Box::new(project_view(state, &project)));
    Ok(Decision::new(object, vec![Change::Project(project)]))
}

pub(super) fn patch_project(
    state: &State,
    name: &str,
    expected: Option<u64>,
    request: &ProjectRequest,
) -> Result<Decision, Refusal> {
    let present = find_project(state, name)?;
    fresh(
        expected,
        &format!("Project {}", present.name),
        present.version,
    )?;
    fixed("name", &request.name, &present.name)?;
    let domain = domain_name(state, present.domain);
    if request.domain.value() != Some(&present.domain.to_string()) {
        fixed("domain", &request.domain, &domain)?;
    }
    let mut reader = Reader::default();
    let mut project = present.clone();
    fill_project(state, &mut project, request, &mut reader);
    reader.done()?;
    let object = |p| AdminObject::Project(Box::new(project_view(state, p)));
    if project == *present {
        return Ok(Decision::new(object(present), Vec::new()));
    }
    project.version += 1;
    let users = state.users.values();
    let scope = Scope {
        users: users
            .filter(|u| u.projects.contains(&project.id))
            .map(|u| u.id)
            .collect(),
        ..Scope::sessions(state, |s| s.project == project.id)
    };
    let decision = Decision::new(object(&project), vec![Change::Project(project)]);
    Ok(decision.was(&project_view(state, present)).touching(scope))
}

/// A project by id, or by its name where that is unique in the whole installation.
fn find_project<'a>(state: &'a State, name: &str) -> Result<&'a Project, Refusal> {
    let project = state
        .project_by_ref(name, None)
        .ok_or_else(|| missing("project", name))?;
    let alike: Vec<&Project> = match name.parse::<ProjectId>() {
        Ok(_) => vec![project],
        Err(_) => state
            .projects
            .values()
            .filter(|p| p.name.eq_ignore_ascii_case(name))
            .collect(),
    };
    if alike.len() > 1 {
        let ids: Vec<String> = alike
            .iter()
            .map(|p| format!("{} in {}", p.id, domain_name(state, p.domain)))
            .collect();
        return Err(Refusal::new(
            "LS-AMBIGUOUS",
            format!(
                "{} projects are named {}: {}.",
                alike.len(),
                project.name,
                ids.join(", ")
            ),
        )
        .hint("Use the id."));
    }
    Ok(project)
}

fn fill_project(state: &State, project: &mut Project, request: &ProjectRequest, r: &mut Reader) {
    put(
        &mut project.description,
        r.text("description", &request.description, DESCRIPTION),
        String::new(),
    );
    put(&mut project.active, r.flag("active", &request.active), true);
    let policy = policy_of(state, r, "policy", PolicyKind::Project, &request.policy);
    put(&mut project.policy, policy, DEFAULT.to_owned());
    merge(
        &mut project.total_slots,
        r.limits("total_slots", &request.total_slots, Caps::Total),
    );
}

/// The policy a request names.
fn policy_of(
    state: &State,
    r: &mut Reader,
    field: &str,
    kind: PolicyKind,
    member: &Member<String>,
) -> Option<Option<String>> {
    match r.text(field, member, 64)? {
        None => Some(None),
        Some(name) => match refer(state, kind, &name) {
            Ok(name) => Some(Some(name)),
            Err(message) => {
                r.wrong(&format!("/{field}"), message);
                None
            }
        },
    }
}

// ----- people

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
    let mut users: Vec<&User> = state.users.values().collect();
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
        role: role_word(user.role).to_owned(),
        status: if user.active { "active" } else { "inactive" }.to_owned(),
        uid: user.uid,
        domain: user.domain.to_string(),
        domain_name: domain_name(state, user.domain),
        projects: user
            .projects
            .iter()
            .filter_map(|id| state.projects.get(id))
            .map(|p| p.name.clone())
            .collect(),
        user_policy: user.user_policy.clone(),
        main_keypair: state.main_keypair(user.id).map(|k| k.access_key.clone()),
        weight: format_milli(user.weight_milli),
        live_sessions,
        created_at: user.created_at,
    }
}

/// The word of a role.
const fn role_word(role: Role) -> &'static str {
    match role {
        Role::Superadmin => "superadmin",
        Role::User => "user",
    }
}

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
        state: if keypair.active { "active" } else { "inactive" }.to_owned(),
        main: keypair.main,
        policy: keypair.policy.clone(),
        created_at: keypair.created_at,
    }
}

fn find_user<'a>(state: &'a State, name: &str) -> Result<&'a User, Refusal> {
    state.user_by_ref(name).ok_or_else(|| missing("user", name))
}

fn find_keypair<'a>(state: &'a State, key: &str) -> Result<&'a Keypair, Refusal> {
    state
        .keypairs
        .get(key)
        .ok_or_else(|| missing("keypair", key))
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
pub(super) struct First<'a> {
    pub(super) id: UserId,
    pub(super) access_key: &'a str,
    pub(super) secret_sha256: [u8; 32],
}

pub(super) fn create_user(
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
            "user" => Role::User,
            "domain-admin" | "monitor" => {
                r.wrong(
                    "/role",
                    format!("Role {word} is not there yet; it can be superadmin or user."),
                );
                Role::User
            }
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
    let active = status(&mut r, &request.status).unwrap_or(true);
    let weight_milli = weight(&mut r, &request.weight)
        .flatten()
        .unwrap_or(WEIGHT_ONE);
    r.done()?;
    name_is_free(state, &email, &username)?;
    access_key_is_free(state, first.access_key)?;
    let mut meta = state.meta.clone();
    let user = User {
        id: first.id,
        username,
        email,
        role,
        uid: meta.next_uid,
        created_at: now,
        active,
        domain: domain.map_or(DomainId::new(0), |d| d.id),
        projects,
        user_policy,
        weight_milli,
    };
    meta.next_uid += 1;
    let keypair = Keypair {
        access_key: first.access_key.to_owned(),
        secret_sha256: first.secret_sha256,
        user: user.id,
        active: true,
        created_at: now,
        policy: keypair_policy,
        main: true,
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
        Change::User(user),
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

fn access_key_is_free(state: &State, access_key: &str) -> Result<(), Refusal> {
    if state.keypairs.contains_key(access_key) {
        return Err(Refusal::new(
            "LS-KEYPAIR-EXISTS",
            format!("Access key {access_key} is already in use."),
        ));
    }
    Ok(())
}

/// Projects of one domain, each once, in the order given.
fn projects_of(
    state: &State,
    r: &mut Reader,
    domain: &Domain,
    member: &Member<Vec<String>>,
) -> Option<Option<Vec<ProjectId>>> {
    let Some(names) = r.list("projects", member)? else {
        return Some(None);
    };
    let mut projects: Vec<ProjectId> = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        let found = state
            .project_by_ref(name.trim(), Some(domain.id))
            .filter(|p| p.domain == domain.id);
        let at = format!("/projects/{at}");
        match found {
            None => {
                let name = super::super::submit::cut(name);
                r.wrong(
                    &at,
                    format!("Project {name} is not in domain {}.", domain.name),
                );
            }
            Some(project) if !project.active => {
                r.wrong(&at, format!("Project {} is inactive.", project.name));
            }
            Some(project) if projects.contains(&project.id) => (),
            Some(project) => projects.push(project.id),
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

fn status(r: &mut Reader, member: &Member<String>) -> Option<bool> {
    let word = r.text("status", member, 32)??;
    match word.to_ascii_lowercase().as_str() {
        "active" => Some(true),
        "inactive" => Some(false),
        _ => {
            r.wrong("/status", "Status must be active or inactive.");
            None
        }
    }
}

/// Whether somebody can still administer when only these people are left.
fn superadmin_remains(state: &State, left: impl Fn(&User) -> bool) -> Result<(), Refusal> {
    let works = |u: &User| {
        u.role == Role::Superadmin
            && u.active
            && state.domains.get(&u.domain).is_none_or(|d| d.active)
    };
    if state.users.values().any(|u| works(u) && left(u)) {
        return Ok(());
    }
    Err(Refusal::new(
        "LS-LAST-SUPERADMIN",
        "At least one active superadmin must remain.",
    ))
}

pub(super) fn patch_user(
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
        changes.push(Change::User(user));
    }
    changes.extend(more);
    Decision::new(object, changes)
        .was(&user_view(state, present))
        .touching(Scope::user(state, present.id))
}

pub(super) fn set_status(
    state: &State,
    caller: &Caller,
    name: &str,
    request: &UserStatusRequest,
) -> Result<Decision, Refusal> {
    let present = find_user(state, name)?;
    let mut r = Reader::default();
    let active = status(&mut r, &request.status);
    if matches!(request.status, Member::Absent | Member::Null) {
        r.wrong("/status", "status is required.");
    }
    let keypairs_too = r.flag("deactivate_keypairs", &request.deactivate_keypairs);
    r.done()?;
    let active = active.unwrap_or(present.active);
    if present.active && !active {
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
        .filter(|k| off && k.active)
        .map(|k| {
            Change::Keypair(Keypair {
                active: false,
                ..k.clone()
            })
        })
        .collect();
    let user = User {
        active,
        ..present.clone()
    };
    Ok(changed_user(state, present, user, keypairs))
}

// ----- keypairs

pub(super) fn create_keypair(
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
        let name = super::super::submit::cut(user.unwrap_or_default());
        wrong("/user", format!("There is no user {name}."))
    })?;
    let main = state.main_keypair(owner.id);
    let policy = match policy {
        Some(name) => refer(state, PolicyKind::Keypair, name).map_err(|m| wrong("/policy", m))?,
        None => main.map_or_else(|| DEFAULT.to_owned(), |k| k.policy.clone()),
    };
    access_key_is_free(state, access_key)?;
    let keypair = Keypair {
        access_key: access_key.to_owned(),
        secret_sha256,
        user: owner.id,
        active: true,
        created_at: now,
        policy,
        main: main.is_none(),
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

pub(super) fn set_keypair_policy(
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

pub(super) fn set_keypair_active(
    state: &State,
    key: &str,
    active: bool,
) -> Result<Decision, Refusal> {
    let present = find_keypair(state, key)?;
    if present.active == active {
        let is = if active { "active" } else { "inactive" };
        return Err(Refusal::new(
            "LS-KEYPAIR-STATE",
            format!("Keypair {} is {is} already.", present.access_key),
        ));
    }
    let keypair = Keypair {
        active,
        ..present.clone()
    };
    Ok(changed_keypair(state, present, keypair))
}

pub(super) fn set_main(state: &State, user: &str, key: &str) -> Result<Decision, Refusal> {
    let owner = find_user(state, user)?;
    let target = find_keypair(state, key)?;
    if target.user != owner.id {
        let message = format!("{} has no keypair {}.", owner.username, target.access_key);
        return Err(Refusal::new("LS-INVALID", message.clone()).at("/access_key", message));
    }
    if !target.active {
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
