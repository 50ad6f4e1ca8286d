//! Asking somebody to join, and taking it back.

use super::super::super::change::{Change, PolicyKind};
use super::super::super::event::{Caller, Refusal};
use super::super::super::people::{BuiltinGroup, Invitation, InvitationState, LinkPurpose, User};
use super::super::super::policies::Domain;
use super::super::super::state::State;
use super::super::super::submit::cut;
use super::super::members::{Reader, missing};
use super::super::permit::{at_project, judge};
use super::super::policies::DEFAULT;
use super::super::rights::members_target;
use super::super::tenants::{domain_of, plain, policy_of};
use super::super::{AdminObject, Decision};
use super::{DrawnLink, MOST_LINK_S, invitation_view, person_of, sees_invitation};
use crate::access::{self, Caller as Rights, Case, Intent, Operation, Role, Target};
use longshore_common::admin::InvitationRequest;
use longshore_common::ids::{InvitationId, ProjectId, UserGroupId};
use longshore_common::time::Timestamp;
use longshore_identity::fields::{self, messages};

/// The shortest life of an invitation, in seconds.
const LEAST_LINK_S: i64 = 60;

fn rights_of(state: &State, caller: &Caller) -> Result<Rights, Refusal> {
    let user = state.users.get(&caller.user);
    let user = user.ok_or_else(|| Refusal::new("LS-AUTH-FAILED", "The credentials are not valid."));
    Ok(state.rights_of(user?))
}

/// Asks a new person to make an account, or a user to join projects. Older invitations of the
/// same address are withdrawn.
pub(in super::super) fn invite(
    state: &State,
    caller: &Caller,
    request: &InvitationRequest,
    link: &DrawnLink,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let rights = rights_of(state, caller)?;
    let mut r = Reader::default();
    let email = plain(&mut r, "email", &request.email);
    let email = email.map(|text| fields::clean(&text)).unwrap_or_default();
    if r.is_good() {
        for message in fields::email(&email) {
            r.wrong("/email", message);
        }
    }
    // To those who see one domain, people of another have no account.
    let all = rights.role() == Role::Superadmin;
    let person = person_of(state, &email).filter(|p| all || rights.domain() == Some(p.domain));
    if person.is_none() {
        let anybody = Target::object()
            .case(Case::NewPerson)
            .intent(Intent::Create);
        let what = ("invitation", "");
        judge(&rights, Operation::InvitationWrite, &anybody, what).map_err(|refusal| {
            refusal.hint("Users of your domain can be invited to projects that you administer.")
        })?;
    }
    let domain = match person {
        None => domain_of(state, &mut r, &request.domain),
        Some(person) => domain_of_person(state, &mut r, person, request),
    };
    let projects = domain.map(|domain| projects(state, &mut r, (&rights, person), domain, request));
    let projects = projects.transpose()?.unwrap_or_default();
    let groups = domain.map(|domain| groups(state, &mut r, &rights, domain, request));
    let groups = groups.transpose()?.unwrap_or_default();
    let user_policy = match person {
        Some(person) => {
            if !request.user_policy.is_absent() {
                r.wrong("/user_policy", "user_policy is for new people only.");
            }
            person.user_policy.clone()
        }
        None => {
            let (kind, member) = (PolicyKind::User, &request.user_policy);
            let policy = policy_of(state, &mut r, "user_policy", kind, member);
            policy.flatten().unwrap_or_else(|| DEFAULT.to_owned())
        }
    };
    let most = i64::from(MOST_LINK_S);
    let valid_s = r.whole("expires_in_s", &request.expires_in_s, LEAST_LINK_S, most);
    let valid_s = valid_s.flatten().unwrap_or_else(|| i64::from(link.valid_s));
    r.done()?;
    let taken = |text: String| Err(Refusal::new("LS-EXISTS", text.clone()).at("/email", text));
    match person {
        Some(person) if projects.is_empty() => {
            return taken(messages::email_exists(&person.email));
        }
        None if state.user_of_name(&email).is_some() => {
            return taken(messages::login_name_taken(&email));
        }
        _ => (),
    }
    let invitation = Invitation {
        id: link.id,
        token_sha256: link.token_sha256,
        email: person.map_or(email, |person| person.email.clone()),
        user: person.map(|person| person.id),
        // Where it was not found, all of that was said already.
        domain: domain.map_or_else(super::super::super::people::no_domain, |d| d.id),
        projects,
        groups,
        user_policy,
        by: caller.user,
        created_at: now,
        expires_at: now.plus_s(valid_s),
        state: InvitationState::Pending,
        purpose: LinkPurpose::Invitation,
    };
    let older = state.invitations.values().filter(|other| {
        other.purpose == LinkPurpose::Invitation
            && other.is_open(now)
            && other.email.eq_ignore_ascii_case(&invitation.email)
    });
    let older = older.map(|other| Change::Invitation(Box::new(other.withdrawn())));
    let mut changes: Vec<Change> = older.collect();
    let view = invitation_view(state, &invitation, now);
    changes.push(Change::Invitation(Box::new(invitation)));
    let object = AdminObject::Invitation(Box::new(view));
    Ok(Decision::new(object, changes))
}

/// The domain of a user; that one may be named, and no other.
fn domain_of_person<'a>(
    state: &'a State,
    r: &mut Reader,
    person: &User,
    request: &InvitationRequest,
) -> Option<&'a Domain> {
    let domain = state.domains.get(&person.domain)?;
    if let Some(name) = r.text("domain", &request.domain, 64).flatten()
        && state.domain_by_ref(&name).map(|d| d.id) != Some(domain.id)
    {
        let text = format!("{} is in domain {}.", person.username, domain.name);
        r.wrong("/domain", text);
    }
    if !domain.active {
        r.wrong("/domain", messages::domain_inactive(&domain.name));
    }
    Some(domain)
}

/// The projects of an invitation, each once. To one that the caller may not see and one that
/// does not exist the same is said.
fn projects(
    state: &State,
    r: &mut Reader,
    (rights, person): (&Rights, Option<&User>),
    domain: &Domain,
    request: &InvitationRequest,
) -> Result<Vec<ProjectId>, Refusal> {
    let names = r.list("projects", &request.projects).flatten();
    let mut projects: Vec<ProjectId> = Vec::new();
    for (at, name) in names.unwrap_or_default().iter().enumerate() {
        let found = state.project_by_ref(name.trim(), Some(domain.id));
        let mut found = found.filter(|project| project.domain == domain.id);
        if let (Some(project), Some(person)) = (found, person) {
            let target = at_project(project).person(person.rank());
            let target = target.case(Case::ExistingUser);
            match access::decide(Operation::InvitationWrite, rights, &target) {
                access::Decision::Allowed(_) => (),
                access::Decision::Hidden(_) if !rights.is_member(project.id) => found = None,
                access::Decision::Hidden(why) | access::Decision::Forbidden(why) => {
                    return Err(Refusal::new(why.code(), why.to_string()));
                }
            }
        }
        let at = format!("/projects/{at}");
        match found {
            None => {
                let text = messages::project_not_in_domain(&cut(name), &domain.name);
                r.wrong(&at, text);
            }
            Some(project) if !project.active => {
                r.wrong(&at, format!("Project {} is inactive.", project.name));
            }
            Some(project) if projects.contains(&project.id) => (),
            Some(project) => projects.push(project.id),
        }
    }
    Ok(projects)
}

/// The groups of an invitation, each once: those whose members the caller may change.
fn groups(
    state: &State,
    r: &mut Reader,
    rights: &Rights,
    domain: &Domain,
    request: &InvitationRequest,
) -> Result<Vec<UserGroupId>, Refusal> {
    let names = r.list("groups", &request.groups).flatten();
    let mut groups: Vec<UserGroupId> = Vec::new();
    for (at, name) in names.unwrap_or_default().iter().enumerate() {
        let found = state.user_group_by_ref(name.trim());
        let mut found = found.filter(|group| group.domain.is_none_or(|id| id == domain.id));
        if let Some(group) = found {
            match access::decide(Operation::GroupWrite, rights, &members_target(group)) {
                access::Decision::Allowed(_) => (),
                access::Decision::Hidden(_) => found = None,
                access::Decision::Forbidden(why) => {
                    return Err(Refusal::new(why.code(), why.to_string()));
                }
            }
        }
        let at = format!("/groups/{at}");
        match found {
            None => r.wrong(&at, format!("There is no user group {}.", cut(name))),
            Some(group) if group.builtin == Some(BuiltinGroup::Users) => {
                r.wrong(&at, "Group users cannot be modified.");
            }
            Some(group) if groups.contains(&group.id) => (),
            Some(group) => groups.push(group.id),
        }
    }
    Ok(groups)
}

/// Takes an invitation back. One that opens nothing any more stays as it is.
pub(in super::super) fn withdraw(
    state: &State,
    caller: &Caller,
    id: &str,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let rights = rights_of(state, caller)?;
    let found = id.parse::<InvitationId>().ok();
    let found = found.and_then(|id| state.invitations.get(&id));
    let found = found
        .filter(|link| sees_invitation(state, &rights, Operation::InvitationWrite, link))
        .ok_or_else(|| missing("invitation", id))?;
    if found.state == InvitationState::Accepted {
        let text = format!("{} has accepted this invitation already.", found.email);
        return Err(Refusal::new("LS-STATE", text));
    }
    let before = invitation_view(state, found, now);
    if !found.is_open(now) {
        let object = AdminObject::Invitation(Box::new(before));
        return Ok(Decision::new(object, Vec::new()));
    }
    let withdrawn = found.withdrawn();
    let object = AdminObject::Invitation(Box::new(invitation_view(state, &withdrawn, now)));
    let changes = vec![Change::Invitation(Box::new(withdrawn))];
    Ok(Decision::new(object, changes).was(&before))
}
