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
use crate::access::{self, Caller, Decision, Intent, Operation, Target, Why};
use longshore_common::admin::Member;

/// What an order does, and to what; no target if the thing does not exist.
struct Asked<'a> {
    operation: Operation,
    target: Option<Target>,
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
    let Some(target) = &asked.target else {
        // What the verb says about a thing that is not there is no secret to those who may
        // do this to some thing.
        let door = access::at_the_door(asked.operation, &rights, Intent::Change);
        return door.map_err(forbidden);
    };
    judge(&rights, asked.operation, target, asked.thing)
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
pub(in super::super) fn person(user: &User) -> Target {
    let target = Target::object()
        .in_domain(user.domain)
        .owned_by(user.subject())
        .person(user.rank());
    user.project_ids().fold(target, Target::in_project)
}

/// A project as something is done to it.
pub(in super::super) fn project(project: &Project) -> Target {
    Target::object()
        .in_domain(project.domain)
        .in_project(project.id)
}

fn asked<'a>(state: &'a State, order: &'a AdminOrder) -> Asked<'a> {
    let (operation, _) = names(&order.verb);
    let shared = |operation| Asked {
        operation,
        target: Some(Target::shared()),
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
            target: owner.map(person),
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
                target: domain.map(|d| Target::object().in_domain(d.id).intent(Intent::Create)),
                thing: match &request.domain {
                    Member::Value(name) => ("domain", name),
                    _ => ("domain", super::policies::DEFAULT),
                },
            }
        }
        AdminVerb::PatchProject(name, _) => Asked {
            operation,
            target: state.project_by_ref(name, None).map(project),
            thing: ("project", name),
        },
        AdminVerb::PatchUser(name, _) | AdminVerb::SetUserStatus(name, _) => Asked {
            operation,
            target: state.user_by_ref(name).map(person),
            thing: ("user", name),
        },
        AdminVerb::Account(verb) => Asked {
            operation,
            target: state.user_by_ref(verb.user()).map(person),
            thing: ("user", verb.user()),
        },
        AdminVerb::CreateKeypair { user, .. } => {
            let owner = match user {
                None => state.users.get(&order.caller.user),
                Some(name) => state.user_by_ref(name),
            };
            about(operation, owner, ("user", user.as_deref().unwrap_or("")))
        }
        AdminVerb::SetKeypairPolicy { keypair: key, .. } => Asked {
            // Nobody gives oneself another policy.
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
        AdminVerb::CreateUser { .. }
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
