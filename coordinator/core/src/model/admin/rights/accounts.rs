//! Service accounts: programs with keypairs, limits and memberships of their own.

use super::super::super::change::Change;
use super::super::super::draft::Draft;
use super::super::super::entities::Stop;
use super::super::super::event::{Caller, Refusal};
use super::super::super::lifecycle;
use super::super::super::people::{
    AccessRule, Keypair, KeypairState, Service, User, UserGroup, UserStatus,
};
use super::super::super::state::State;
use super::super::impact::Scope;
use super::super::members::{DESCRIPTION, Reader, fixed, fresh, missing, put};
use super::super::tenants::{access_key_is_free, domain_name, keypair_view, projects_of};
use super::super::{AdminObject, Decision, by};
use super::{Giver, RightsObject, object};
use crate::access::{Case, Intent, Operation, Role, Target};
use longshore_common::admin::{KeypairView, Member, ServiceAccountRequest, ServiceAccountView};
use longshore_common::ids::UserId;
use longshore_common::session::{Reason, SessionState};
use longshore_common::time::Timestamp;
use longshore_identity::fields;

/// A service account by id or name; those that were deleted too.
pub(super) fn find<'a>(state: &'a State, name: &str) -> Option<&'a User> {
    state
        .user_by_ref(name)
        .filter(|user| user.service.is_some())
}

/// A service account as it is shown.
#[must_use]
pub fn account_view(state: &State, user: &User, now: Timestamp) -> ServiceAccountView {
    let service = user.service.clone().unwrap_or_default();
    let usable = |k: &&Keypair| k.is_active() && k.expires_at.is_none_or(|at| at > now);
    let used = state
        .keypairs_of(user.id)
        .filter_map(|k| k.last_used.as_ref());
    let status = if user.is_active() {
        "active"
    } else {
        "deleted"
    };
    let projects = user.project_ids().filter_map(|id| state.projects.get(&id));
    let users = std::iter::once("users".to_owned()).filter(|_| user.is_active());
    ServiceAccountView {
        id: user.printed_id(),
        version: user.version,
        name: user.username.clone(),
        description: user.description.clone(),
        status: status.to_owned(),
        domain: user.domain.to_string(),
        domain_name: domain_name(state, user.domain),
        projects: projects.map(|p| p.name.clone()).collect(),
        groups: users
            .chain(state.groups_of(user.id).map(|g| g.name.clone()))
            .collect(),
        allow_impersonation: service.allow_impersonation,
        admin: service.admin,
        credentials: state.keypairs_of(user.id).filter(usable).count() as u64,
        last_active_at: used.map(|(at, _)| *at).max(),
        created_at: user.created_at,
        updated_at: user.updated_at,
    }
}

/// What it may beyond a user, as a request says; and whether it says anything of it.
fn powers(
    (state, giver): (&State, &Giver<'_>),
    r: &mut Reader,
    present: &Service,
    request: &ServiceAccountRequest,
    target: &Target,
) -> Result<Service, Refusal> {
    let mut service = present.clone();
    let impersonate = r.flag("allow_impersonation", &request.allow_impersonation);
    put(&mut service.allow_impersonation, impersonate, false);
    put(&mut service.admin, r.flag("admin", &request.admin), false);
    if service != *present {
        let target = target.clone().case(Case::AccountPowers);
        let thing = ("service account", "");
        giver.may(Operation::ServiceAccountWrite, &target, thing)?;
    }
    if service.admin && !present.admin && !state.people_settings.service_account_admins {
        return Err(Refusal::new(
            "LS-FORBIDDEN",
            "Service accounts may not act as administrators here.",
        )
        .hint("The setting services.organization.allow_service_account_admins allows it."));
    }
    Ok(service)
}

/// The name a request gives; nothing where it gives none.
fn name(r: &mut Reader, member: &Member<String>, wanted: bool) -> Option<String> {
    let text = match member {
        Member::Absent if !wanted => return None,
        Member::Absent | Member::Null => String::new(),
        Member::Value(text) => fields::clean(text),
        Member::Wrong(_) => {
            r.wrong("/name", "name must be text.");
            return None;
        }
    };
    let errors = fields::username(&text);
    for message in &errors {
        r.wrong("/name", *message);
    }
    errors.is_empty().then_some(text)
}

fn name_is_free(state: &State, name: &str, besides: Option<UserId>) -> Result<(), Refusal> {
    let Some(other) = state.user_of_name(name).filter(|u| Some(u.id) != besides) else {
        return Ok(());
    };
    let message = match other.username.eq_ignore_ascii_case(name) {
        true => fields::messages::username_exists(name),
        false => fields::messages::login_name_taken(name),
    };
    Err(Refusal::new("LS-EXISTS", message.clone()).at("/name", message))
}

pub(super) fn create(
    state: &State,
    giver: &Giver<'_>,
    (id, access_key, secret_sha256): (UserId, &str, [u8; 32]),
    request: &ServiceAccountRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let mut r = Reader::default();
    let domain_name = r.text("domain", &request.domain, 64).flatten();
    let domain = match domain_name.as_deref() {
        Some(name) => state.domain_by_ref(name),
        None => state.domains.get(&giver.user.domain),
    };
    let Some(domain) = domain else {
        let name = domain_name.unwrap_or_default();
        // One that does not exist is as one that the giver does not see.
        if giver.rights.role() != Role::Superadmin {
            return Err(missing("domain", &name));
        }
        let place = Target::object().intent(Intent::Create);
        giver.may(Operation::ServiceAccountWrite, &place, ("domain", &name))?;
        let text = fields::messages::domain_unknown(&name);
        return Err(Refusal::new("LS-INVALID", text.clone()).at("/domain", text));
    };
    let place = Target::object().in_domain(domain.id).intent(Intent::Create);
    giver.may(
        Operation::ServiceAccountWrite,
        &place,
        ("domain", domain_name.as_deref().unwrap_or(&domain.name)),
    )?;
    if !domain.active {
        r.wrong("/domain", fields::messages::domain_inactive(&domain.name));
    }
    let name = name(&mut r, &request.name, true);
    let description = r.text("description", &request.description, DESCRIPTION);
    let projects = projects_of(state, &mut r, domain, &[], &request.projects);
    let nothing = Service::default();
    let service = powers((state, giver), &mut r, &nothing, request, &place)?;
    r.done()?;
    let name = name.unwrap_or_default();
    name_is_free(state, &name, None)?;
    access_key_is_free(state, access_key)?;
    let mut meta = state.meta.clone();
    let user = User {
        username: name,
        description: description.flatten().unwrap_or_default(),
        uid: meta.next_uid,
        domain: domain.id,
        projects: projects.flatten().unwrap_or_default(),
        service: Some(service),
        ..User::new(id, now)
    };
    meta.next_uid += 1;
    let keypair = Keypair {
        created_by: giver.user.username.clone(),
        ..Keypair::new(access_key, secret_sha256, id, now)
    };
    let mut view = account_view(state, &user, now);
    view.credentials = 1;
    let key = KeypairView {
        user_name: user.username.clone(),
        ..keypair_view(state, &keypair)
    };
    let shown = RightsObject::Account(Box::new(view), Some(Box::new(key)));
    let changes = vec![
        Change::Meta(meta),
        Change::User(Box::new(user)),
        Change::Keypair(keypair),
    ];
    Ok(Decision::new(object(shown), changes))
}

fn present<'a>(state: &'a State, name: &str, expected: Option<u64>) -> Result<&'a User, Refusal> {
    let found = find(state, name).filter(|user| user.is_active());
    let found = found.ok_or_else(|| missing("service account", name))?;
    fresh(
        expected,
        &format!("Service account {}", found.username),
        found.version,
    )?;
    Ok(found)
}

pub(super) fn patch(
    state: &State,
    giver: &Giver<'_>,
    name_: &str,
    (expected, request): (Option<u64>, &ServiceAccountRequest),
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let present = present(state, name_, expected)?;
    let domain = state.domains.get(&present.domain);
    if let Some(domain) = domain
        && request
            .domain
            .value()
            .is_none_or(|d| d.trim() != domain.id.to_string())
    {
        fixed("domain", &request.domain, &domain.name)?;
    }
    let mut r = Reader::default();
    let mut user = present.clone();
    if let Some(name) = name(&mut r, &request.name, false) {
        user.username = name;
    }
    let description = r.text("description", &request.description, DESCRIPTION);
    put(&mut user.description, description, String::new());
    if let Some(domain) = domain {
        let projects = projects_of(state, &mut r, domain, &present.projects, &request.projects);
        put(&mut user.projects, projects, Vec::new());
    }
    let service = present.service.clone().unwrap_or_default();
    let target = super::super::permit::person(present);
    let service = powers((state, giver), &mut r, &service, request, &target)?;
    user.service = Some(service);
    r.done()?;
    name_is_free(state, &user.username, Some(present.id))?;
    let before = account_view(state, present, now);
    if user == *present {
        let shown = RightsObject::Account(Box::new(before), None);
        return Ok(Decision::new(object(shown), Vec::new()));
    }
    user.version += 1;
    user.updated_at = now;
    let shown = RightsObject::Account(Box::new(account_view(state, &user, now)), None);
    let changes = vec![Change::User(Box::new(user))];
    Ok(Decision::new(object(shown), changes)
        .was(&before)
        .touching(Scope::user(state, present.id)))
}

pub(super) fn delete(
    state: &State,
    caller: &Caller,
    name: &str,
    expected: Option<u64>,
    keep_sessions: bool,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let present = present(state, name, expected)?;
    let mut draft = Draft::new(state, now);
    if !keep_sessions {
        stop_sessions(state, &mut draft, caller, present);
    }
    let revoked = state
        .keypairs_of(present.id)
        .filter(|k| k.state != KeypairState::Revoked);
    for keypair in revoked {
        draft.push(Change::Keypair(Keypair {
            state: KeypairState::Revoked,
            secret_sha256: None,
            previous: None,
            ..keypair.clone()
        }));
    }
    for group in state.groups_of(present.id) {
        let mut members = group.members.clone();
        members.remove(&present.id);
        draft.push(Change::UserGroup(UserGroup {
            version: group.version + 1,
            members,
            ..group.clone()
        }));
    }
    for (id, rest) in state.rule_book().without(present.subject()) {
        let version = state
            .access_rules
            .get(&id)
            .map(|r| (r.version, r.created_at));
        draft.push(match (rest, version) {
            (Some(rule), Some((version, created_at))) => Change::AccessRule(AccessRule {
                rule,
                version: version + 1,
                created_at,
            }),
            _ => Change::AccessRuleDeleted(id),
        });
    }
    let user = User {
        status: UserStatus::Inactive,
        version: present.version + 1,
        updated_at: now,
        ..present.clone()
    };
    let mut view = account_view(state, &user, now);
    view.credentials = 0;
    view.groups = Vec::new();
    draft.push(Change::User(Box::new(user)));
    let (changes, effects) = draft.finish();
    let shown: AdminObject = object(RightsObject::Account(Box::new(view), None));
    Ok(Decision {
        effects,
        ..Decision::new(shown, changes)
            .was(&account_view(state, present, now))
            .touching(Scope::user(state, present.id))
    })
}

fn stop_sessions(state: &State, draft: &mut Draft<'_>, caller: &Caller, owner: &User) {
    let by = by(state, caller);
    let detail = format!("service account {} was deleted", owner.username);
    let reason = Reason::OwnerDeleted;
    let live = state.sessions.values();
    let live = live.filter(|s| s.owner == owner.id && !s.state.is_final());
    for session in live {
        if session.state == SessionState::Pending {
            lifecycle::cancel(draft, session.id, reason, &detail, &by);
            continue;
        }
        let stop = Stop {
            reason,
            detail: detail.clone(),
            grace_s: state.stop_grace_s(),
            forced: false,
            at: draft.now,
        };
        lifecycle::stop(draft, session.id, stop, &by);
    }
}
