//! Who may give which order: each verb is an operation of the table on a target.
//!
//! Asked in the same step as the order is decided, so that a right that was lost counts. What
//! a verb finds wrong is said only to those who may give the order at all.

use super::super::audited::names;
use super::super::event::Refusal;
use super::super::people::{Keypair, User};
use super::super::policies::Project;
use super::super::state::State;
use super::members::missing;
use super::{AdminOrder, AdminVerb};
use crate::access::{self, Caller, Decision, Intent, Level, Operation, Role, Target, Why};
use longshore_common::admin::Member;
use longshore_common::ids::DomainId;

/// What an order does, and to what; no target if the thing does not exist.
struct Asked<'a> {
    operation: Operation,
    /// What it does besides, as some of its members say.
    also: Vec<Operation>,
    target: Option<Target>,
    /// A keypair of a service account that may act for others: whoever holds it may do so.
    lends_powers: bool,
    /// How the thing is called in an answer that there is none.
    thing: (&'static str, &'a str),
    /// Something else that the order names and that is not there, or not for this caller: it
    /// is told that there is none, if it may give the order at all.
    hides: Option<(&'static str, &'a str)>,
}

impl<'a> Asked<'a> {
    const fn new(
        operation: Operation,
        target: Option<Target>,
        thing: (&'static str, &'a str),
    ) -> Self {
        Self {
            operation,
            also: Vec::new(),
            target,
            lends_powers: false,
            thing,
            hides: None,
        }
    }
}

/// The operation of an order, as it is judged and recorded.
#[must_use]
pub fn operation(state: &State, order: &AdminOrder) -> Operation {
    let user = state.users.get(&order.caller.user);
    let rights = user.map_or_else(Caller::anonymous, |user| state.rights_of(user));
    let asked = asked(state, order, &rights);
    asked.map_or_else(|_| names(&order.verb).0, |asked| asked.operation)
}

/// Whether the order may be given.
pub(super) fn permit(state: &State, order: &AdminOrder) -> Result<(), Refusal> {
    let user = state.users.get(&order.caller.user);
    let user =
        user.ok_or_else(|| Refusal::new("LS-AUTH-FAILED", "The credentials are not valid."))?;
    let rights = state.rights_of(user);
    let asked = asked(state, order, &rights)?;
    if let ("keypair", key) = asked.thing
        && is_hidden(state, &rights, order, key)
    {
        return Err(missing("keypair", key));
    }
    let Some(target) = &asked.target else {
        if let Some((noun, name)) = asked.hides {
            access::at_the_door(asked.operation, &rights, Intent::Change).map_err(forbidden)?;
            return Err(missing(noun, name));
        }
        // What the verb says about a thing that is not there is no secret to those who may
        // do this to some thing.
        let all = std::iter::once(asked.operation).chain(asked.also);
        return all
            .into_iter()
            .try_for_each(|operation| access::at_the_door(operation, &rights, Intent::Change))
            .map_err(forbidden);
    };
    judge(&rights, asked.operation, target, asked.thing)?;
    if let Some((noun, name)) = asked.hides {
        return Err(missing(noun, name));
    }
    if asked.lends_powers && rights.role() != Role::Superadmin {
        return Err(forbidden(Why::NotPermitted));
    }
    let also = asked.also.iter();
    also.copied()
        .try_for_each(|operation| judge(&rights, operation, target, asked.thing))
}

/// Whether somebody who may do things to keypairs of its own means one that it cannot see: a
/// stranger's is as one that does not exist.
fn is_hidden(state: &State, rights: &Caller, order: &AdminOrder, key: &str) -> bool {
    let owner = state.keypairs.get(key).map(|keypair| keypair.user);
    let owner = owner.and_then(|id| state.users.get(&id));
    let seen = owner.is_some_and(|owner| {
        let look = person(owner).intent(Intent::Read);
        owner.id == order.caller.user
            || access::decide(Operation::KeypairRead, rights, &look).is_allowed()
    });
    let has_own = |intent| access::at_the_door(Operation::MeKeypairs, rights, intent).is_ok();
    !seen && (has_own(Intent::Change) || has_own(Intent::Label))
}

/// The answer of the table as a refusal.
pub(in super::super) fn judge(
    rights: &Caller,
    operation: Operation,
    target: &Target,
    (noun, name): (&str, &str),
) -> Result<(), Refusal> {
    match access::decide(operation, rights, target) {
        Decision::Allowed(_) => Ok(()),
        Decision::Forbidden(why) => Err(forbidden(why)),
        Decision::Hidden(_) => Err(missing(noun, name)),
    }
}

fn forbidden(why: Why) -> Refusal {
    Refusal::new(why.code(), why.to_string())
}

/// A person or service account as something is done to it.
#[must_use]
pub fn person(user: &User) -> Target {
    let target = Target::object()
        .in_domain(user.domain)
        .owned_by(user.subject())
        .person(user.rank());
    user.project_ids().fold(target, Target::in_project)
}

fn has_powers(user: &User) -> bool {
    let service = user.service.as_ref();
    service.is_some_and(|service| service.allow_impersonation || service.admin)
}

/// A project as something is done to it.
#[must_use]
pub fn at_project(project: &Project) -> Target {
    Target::object()
        .in_domain(project.domain)
        .in_project(project.id)
}

/// A project that is known to the caller, as something is done to it. One that is not is as
/// one that does not exist, and so is its name.
fn known_project(
    state: &State,
    rights: &Caller,
    name: &str,
) -> Result<Option<(Target, DomainId)>, Refusal> {
    let found = project_of(state, rights, name)?;
    Ok(found.map(|project| {
        let target = at_project(project).level(Level::Ro);
        (target, project.domain)
    }))
}

/// The project that a caller means: by id, or by a name that only one has of those it knows
/// of.
pub(super) fn project_of<'a>(
    state: &'a State,
    rights: &Caller,
    name: &str,
) -> Result<Option<&'a Project>, Refusal> {
    let found = state.projects_for(rights, name.trim());
    let [first, _, ..] = found[..] else {
        return Ok(found.first().copied());
    };
    let places: Vec<String> = found
        .iter()
        .map(|project| {
            let domain = state.domains.get(&project.domain);
            let domain = domain.map_or("", |domain| domain.name.as_str());
            format!("{} in {domain}", project.id)
        })
        .collect();
    let text = format!(
        "{} projects are named {}: {}.",
        found.len(),
        first.name,
        places.join(", ")
    );
    Err(Refusal::new("LS-AMBIGUOUS", text).hint("Use the id."))
}

/// A membership: the project's, and about the person. The person's other projects open
/// nothing. People of another domain are there for those who see all domains only.
fn member<'a>(
    state: &State,
    operation: Operation,
    rights: &Caller,
    (project, user): (&'a str, &'a str),
    noun: &'static str,
) -> Result<Asked<'a>, Refusal> {
    let found = known_project(state, rights, project)?;
    let person = state.user_by_ref(user).filter(|user| {
        let all = rights.role() == Role::Superadmin;
        all || found
            .as_ref()
            .is_some_and(|(_, domain)| *domain == user.domain)
    });
    let hides = match (&found, person) {
        (Some(_), None) => Some((noun, user)),
        _ => None,
    };
    // One who is not there is judged as the least of all.
    let rank = person.map_or(Role::User, User::rank);
    Ok(Asked {
        hides,
        ..Asked::new(
            operation,
            found.map(|(target, _)| target.person(rank)),
            ("project", project),
        )
    })
}

fn chosen<const N: usize>(all: [(bool, Operation); N]) -> Vec<Operation> {
    let all = all.into_iter();
    all.filter_map(|(is, operation)| is.then_some(operation))
        .collect()
}

fn asked<'a>(
    state: &'a State,
    order: &'a AdminOrder,
    rights: &Caller,
) -> Result<Asked<'a>, Refusal> {
    let (operation, _) = names(&order.verb);
    let shared = |operation| Asked::new(operation, Some(Target::shared()), ("thing", ""));
    // What is one's own is another operation than what is somebody else's.
    let about = |operation, owner: Option<&User>, thing| {
        let own = owner.is_some_and(|user| user.id == order.caller.user);
        let operation = match own {
            true => Operation::MeKeypairs,
            false => operation,
        };
        Asked {
            lends_powers: !own && owner.is_some_and(has_powers),
            ..Asked::new(operation, owner.map(person), thing)
        }
    };
    let keypair = |operation, key: &'a str| {
        let found: Option<&Keypair> = state.keypairs.get(key);
        let owner = found.and_then(|k| state.users.get(&k.user));
        about(operation, owner, ("keypair", key))
    };
    Ok(match &order.verb {
        AdminVerb::CreateProject(_, request) => {
            let name = match &request.domain {
                Member::Value(name) => name.trim(),
                _ => super::tenants::home(state, &order.caller),
            };
            let domain = state.domain_by_ref(name);
            let target = domain.map(|d| Target::object().in_domain(d.id).intent(Intent::Create));
            let thing = ("domain", name);
            Asked {
                // Who knows of all domains is told what is wrong with the request.
                hides: (target.is_none() && rights.role() != Role::Superadmin).then_some(thing),
                ..Asked::new(operation, target, thing)
            }
        }
        AdminVerb::PatchProject(name, _) | AdminVerb::DeleteProject(name) => {
            let found = known_project(state, rights, name)?;
            Asked::new(operation, found.map(|found| found.0), ("project", name))
        }
        AdminVerb::PatchUser(name, request) => {
            // What a policy and a share are worth is for the whole installation to say.
            let policy = !(request.user_policy.is_absent() && request.weight.is_absent());
            Asked {
                also: Vec::from_iter(policy.then_some(Operation::UserPolicy)),
                ..Asked::new(
                    operation,
                    state.user_by_ref(name).map(person),
                    ("user", name),
                )
            }
        }
        AdminVerb::SetUserStatus(name, ..)
        | AdminVerb::SetUserRole(name, _)
        | AdminVerb::SetUserDomain(name, _)
        | AdminVerb::SetUserSudo(name, _)
        | AdminVerb::SetUserPolicy(name, _)
        | AdminVerb::RequirePasswordChange(name, _) => Asked::new(
            operation,
            state.user_by_ref(name).map(person),
            ("user", name),
        ),
        AdminVerb::Account(verb) => Asked::new(
            operation,
            state.user_by_ref(verb.user()).map(person),
            ("user", verb.user()),
        ),
        AdminVerb::PutMember {
            project,
            user,
            request,
        } => Asked {
            also: Vec::from_iter((!request.admin.is_absent()).then_some(Operation::ProjectAdmins)),
            ..member(state, operation, rights, (project, user), "user")?
        },
        AdminVerb::RemoveMember { project, user, .. } => {
            member(state, operation, rights, (project, user), "member")?
        }
        AdminVerb::LeaveProject { project, .. } => {
            let found = known_project(state, rights, project)?;
            Asked::new(operation, found.map(|found| found.0), ("project", project))
        }
        AdminVerb::CreateKeypair { request, secrets } => {
            let (user, owner) = match &request.user {
                Member::Value(name) => (name.as_str(), state.user_by_ref(name.trim())),
                _ => ("", state.users.get(&order.caller.user)),
            };
            let also = [
                (!request.policy.is_absent(), Operation::KeypairPolicy),
                (!request.rate_limit.is_absent(), Operation::KeypairRateLimit),
                (secrets.imported.is_some(), Operation::KeypairImport),
            ];
            let asked = about(operation, owner, ("user", user));
            Asked {
                also: chosen(also),
                hides: owner.is_none().then_some(("user", user)),
                ..asked
            }
        }
        AdminVerb::PatchKeypair(key, request) => {
            let found = state.keypairs.get(key);
            let own = found.is_some_and(|k| k.user == order.caller.user);
            let others = !(request.policy.is_absent() && request.expires_at.is_absent());
            let rate = !request.rate_limit.is_absent();
            if own && !others && !rate {
                let asked = keypair(Operation::MeKeypairs, key);
                return Ok(Asked {
                    target: asked.target.map(|target| target.intent(Intent::Label)),
                    ..asked
                });
            }
            // Nobody gives oneself another policy.
            Asked {
                operation,
                also: chosen([(rate, Operation::KeypairRateLimit)]),
                ..keypair(operation, key)
            }
        }
        AdminVerb::RotateKeypair { keypair: key, .. } | AdminVerb::RevokeKeypair(key) => {
            keypair(operation, key)
        }
        AdminVerb::DeleteKeypair(key) => Asked {
            operation,
            ..keypair(operation, key)
        },
        AdminVerb::SetKeypairActive {
            keypair: key,
            active,
        } => match active {
            // Who was switched off does not switch oneself on again.
            true => Asked {
                operation,
                ..keypair(operation, key)
            },
            false => keypair(operation, key),
        },
        AdminVerb::SetMainKeypair { user, .. } => {
            about(operation, state.user_by_ref(user), ("user", user))
        }
        // Whom and what it is about, the verb finds and judges itself.
        AdminVerb::Invite(..) | AdminVerb::WithdrawInvitation(_) => {
            Asked::new(operation, None, ("invitation", ""))
        }
        AdminVerb::Rights(verb) => {
            let (target, thing) = verb.target(state);
            Asked::new(operation, target, thing)
        }
        AdminVerb::Vault(verb) => {
            let (target, thing) = verb.target(state);
            Asked {
                hides: target
                    .is_none()
                    .then_some(thing)
                    .filter(|t| !t.1.is_empty()),
                ..Asked::new(operation, target, thing)
            }
        }
        AdminVerb::CreateUser { .. }
        | AdminVerb::ImportUsers { .. }
        | AdminVerb::CreateGroup(..)
        | AdminVerb::PatchGroup(..)
        | AdminVerb::DeleteGroup(_)
        | AdminVerb::Allow { .. }
        | AdminVerb::Disallow { .. }
        | AdminVerb::AllowEverybody(_)
        | AdminVerb::MoveAgent { .. }
        | AdminVerb::StopUnclaimed { .. }
        | AdminVerb::AdoptUnclaimed { .. }
        | AdminVerb::CreateKeypairPolicy(..)
        | AdminVerb::PatchKeypairPolicy(..)
        | AdminVerb::CreateUserPolicy(..)
        | AdminVerb::PatchUserPolicy(..)
        | AdminVerb::CreateProjectPolicy(..)
        | AdminVerb::PatchProjectPolicy(..)
        | AdminVerb::DeletePolicy { .. }
        | AdminVerb::CreateDomain(..)
        | AdminVerb::PatchDomain(..)
        | AdminVerb::DeleteDomain(_)
        | AdminVerb::CreateImage(..)
        | AdminVerb::PatchImage(..)
        | AdminVerb::ForgetImage(_)
        | AdminVerb::CreatePreset(..)
        | AdminVerb::PatchPreset(..)
        | AdminVerb::DeletePreset(_)
        | AdminVerb::SaveDraft(_)
        | AdminVerb::LoadDraft(_)
        | AdminVerb::ValidateDraft
        | AdminVerb::ResetDraft
        | AdminVerb::Provision { .. }
        | AdminVerb::EnablePools(_)
        | AdminVerb::RenameQueue { .. }
        | AdminVerb::UsageAudit { .. } => shared(operation),
    })
}
