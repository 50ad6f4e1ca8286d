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
use crate::access::{self, Caller, Decision, Intent, Operation, Role, Target, Why};
use longshore_common::admin::Member;

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
}

/// The operation of an order, as it is judged and recorded.
#[must_use]
pub fn operation(state: &State, order: &AdminOrder) -> Operation {
    asked(state, order).operation
}

/// Whether the order may be given.
pub(super) fn permit(state: &State, order: &AdminOrder) -> Result<(), Refusal> {
    let user = state.users.get(&order.caller.user);
    let user =
        user.ok_or_else(|| Refusal::new("LS-AUTH-FAILED", "The credentials are not valid."))?;
    let rights = state.rights_of(user);
    let asked = asked(state, order);
    if let ("keypair", key) = asked.thing
        && is_hidden(state, &rights, order, key)
    {
        return Err(missing("keypair", key));
    }
    let Some(target) = &asked.target else {
        // What the verb says about a thing that is not there is no secret to those who may
        // do this to some thing.
        let all = std::iter::once(asked.operation).chain(asked.also);
        return all
            .into_iter()
            .try_for_each(|operation| access::at_the_door(operation, &rights, Intent::Change))
            .map_err(forbidden);
    };
    judge(&rights, asked.operation, target, asked.thing)?;
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

/// A membership: the project's, and about the person. The person's other projects open nothing.
fn member<'a>(state: &State, operation: Operation, project: &'a str, user: &str) -> Asked<'a> {
    let found = state.project_by_ref(project, None);
    let target = found.map(|found| match state.user_by_ref(user) {
        Some(user) => at_project(found).person(user.rank()),
        None => at_project(found),
    });
    Asked {
        operation,
        also: Vec::new(),
        target,
        lends_powers: false,
        thing: ("project", project),
    }
}

fn chosen<const N: usize>(all: [(bool, Operation); N]) -> Vec<Operation> {
    let all = all.into_iter();
    all.filter_map(|(is, operation)| is.then_some(operation))
        .collect()
}

fn asked<'a>(state: &'a State, order: &'a AdminOrder) -> Asked<'a> {
    let (operation, _) = names(&order.verb);
    let shared = |operation| Asked {
        operation,
        also: Vec::new(),
        target: Some(Target::shared()),
        lends_powers: false,
        thing: ("thing", ""),
    };
    // What is one's own is another operation than what is somebody else's.
    let about = |operation, owner: Option<&User>, thing| {
        let own = owner.is_some_and(|user| user.id == order.caller.user);
        Asked {
            operation: if own {
                Operation::MeKeypairs
            } else {
                operation
            },
            also: Vec::new(),
            target: owner.map(person),
            lends_powers: !own && owner.is_some_and(has_powers),
            thing,
        }
    };
    let keypair = |operation, key: &'a str| {
        let found: Option<&Keypair> = state.keypairs.get(key);
        let owner = found.and_then(|k| state.users.get(&k.user));
        about(operation, owner, ("keypair", key))
    };
    match &order.verb {
        AdminVerb::CreateProject(_, request) => {
            let domain = match &request.domain {
                Member::Value(name) => state.domain_by_ref(name.trim()),
                _ => state.domain_by_ref(super::policies::DEFAULT),
            };
            Asked {
                operation,
                also: Vec::new(),
                target: domain.map(|d| Target::object().in_domain(d.id).intent(Intent::Create)),
                lends_powers: false,
                thing: match &request.domain {
                    Member::Value(name) => ("domain", name),
                    _ => ("domain", super::policies::DEFAULT),
                },
            }
        }
        AdminVerb::PatchProject(name, _) => Asked {
            operation,
            also: Vec::new(),
            target: state.project_by_ref(name, None).map(at_project),
            lends_powers: false,
            thing: ("project", name),
        },
        AdminVerb::PatchUser(name, request) => {
            // What a policy and a share are worth is for the whole installation to say.
            let policy = !(request.user_policy.is_absent() && request.weight.is_absent());
            Asked {
                operation,
                also: Vec::from_iter(policy.then_some(Operation::UserPolicy)),
                target: state.user_by_ref(name).map(person),
                lends_powers: false,
                thing: ("user", name),
            }
        }
        AdminVerb::SetUserStatus(name, _)
        | AdminVerb::SetUserRole(name, _)
        | AdminVerb::SetUserDomain(name, _)
        | AdminVerb::SetUserSudo(name, _)
        | AdminVerb::SetUserPolicy(name, _)
        | AdminVerb::RequirePasswordChange(name, _) => Asked {
            operation,
            also: Vec::new(),
            target: state.user_by_ref(name).map(person),
            lends_powers: false,
            thing: ("user", name),
        },
        AdminVerb::Account(verb) => Asked {
            operation,
            also: Vec::new(),
            target: state.user_by_ref(verb.user()).map(person),
            lends_powers: false,
            thing: ("user", verb.user()),
        },
        AdminVerb::PutMember {
            project,
            user,
            request,
        } => Asked {
            also: Vec::from_iter((!request.admin.is_absent()).then_some(Operation::ProjectAdmins)),
            ..member(state, operation, project, user)
        },
        AdminVerb::RemoveMember { project, user, .. } => member(state, operation, project, user),
        AdminVerb::LeaveProject { project, .. } => Asked {
            operation,
            also: Vec::new(),
            target: state.project_by_ref(project, None).map(at_project),
            lends_powers: false,
            thing: ("project", project),
        },
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
            Asked {
                also: chosen(also),
                ..about(operation, owner, ("user", user))
            }
        }
        AdminVerb::PatchKeypair(key, request) => {
            let found = state.keypairs.get(key);
            let own = found.is_some_and(|k| k.user == order.caller.user);
            let others = !(request.policy.is_absent() && request.expires_at.is_absent());
            let rate = !request.rate_limit.is_absent();
            if own && !others && !rate {
                let asked = keypair(Operation::MeKeypairs, key);
                return Asked {
                    target: asked.target.map(|target| target.intent(Intent::Label)),
                    ..asked
                };
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
        AdminVerb::Rights(verb) => {
            let (target, thing) = verb.target(state);
            Asked {
                operation,
                also: Vec::new(),
                target,
                lends_powers: false,
                thing,
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
        | AdminVerb::CreateKeypairPolicy(..)
        | AdminVerb::PatchKeypairPolicy(..)
        | AdminVerb::CreateUserPolicy(..)
        | AdminVerb::PatchUserPolicy(..)
        | AdminVerb::CreateProjectPolicy(..)
        | AdminVerb::PatchProjectPolicy(..)
        | AdminVerb::DeletePolicy { .. }
        | AdminVerb::CreateDomain(..)
        | AdminVerb::PatchDomain(..)
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
    }
}
