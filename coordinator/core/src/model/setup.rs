//! The first administrator, with domain and project.

use super::change::Change;
use super::event::{Answer, Outcome, Refusal, SetupOrder};
use super::people::{AccessRule, Keypair, Membership, User};
use super::policies::{Domain, Project};
use super::state::{BUILTIN, FACTORY_RULE, State};
use crate::access::Rule;
use longshore_common::amount::SlotLimits;
use longshore_common::ids::{DomainId, ProjectId, is_handle};
use longshore_common::time::Timestamp;

/// Name of the domain, project and policies that every installation has.
const DEFAULT: &str = "default";

pub(super) fn setup(state: &State, order: &SetupOrder) -> Outcome {
    if state.has_superadmin() {
        return Outcome::refuse(Refusal::new(
            "LS-NOT-FOUND",
            "The first administrator exists already.",
        ));
    }
    let mut meta = state.meta.clone();
    let mut user = order.user.clone();
    let taken = [&user.email, &user.username]
        .into_iter()
        .find(|name| state.user_of_name(name).is_some());
    if let Some(name) = taken {
        let text = format!("{name} is already a login name of another user.");
        let refusal = Refusal::new("LS-EXISTS", text.clone()).at("/email", text);
        return Outcome::refuse(refusal);
    }
    let user_made = user.created_at;
    user.uid = meta.next_uid;
    meta.next_uid += 1;
    user.user_policy = DEFAULT.to_owned();
    let mut changes = vec![Change::Meta(meta)];
    if let Err(refusal) = settle(state, order, &mut user, &mut changes) {
        return Outcome::refuse(refusal);
    }
    let keypair = Keypair {
        policy: DEFAULT.to_owned(),
        main: true,
        ..order.keypair.clone()
    };
    changes.push(Change::User(Box::new(user)));
    changes.push(Change::Keypair(keypair));
    if state.users.is_empty() {
        changes.push(Change::AccessRule(AccessRule {
            rule: Rule::factory(FACTORY_RULE, BUILTIN.users),
            version: 1,
            created_at: user_made,
        }));
    }
    Outcome {
        changes,
        effects: vec![],
        answer: Ok(Answer::Done),
    }
}

/// Puts the first administrator into its domain and project, which are made where they are
/// named and missing.
fn settle(
    state: &State,
    order: &SetupOrder,
    user: &mut User,
    changes: &mut Vec<Change>,
) -> Result<(), Refusal> {
    let wrong = |field: &str| {
        let text = "Must be 1 to 64 of A-Z a-z 0-9 . _ -, first a letter or digit.";
        Refusal::new("LS-INVALID", format!("{field}: {text}")).at(format!("/{field}"), text)
    };
    let now = user.created_at;
    let (name, id) = match &order.place.domain {
        Some((name, id)) => (name.as_str(), Some(*id)),
        None => (DEFAULT, None),
    };
    match (state.domain_by_ref(name), id) {
        (Some(domain), _) => user.domain = domain.id,
        (None, None) => (), // an engine in a test that was never started
        (None, Some(_)) if !is_name(name) => return Err(wrong("domain")),
        (None, Some(id)) => {
            user.domain = id;
            changes.push(Change::Domain(new_domain(id, name, now)));
        }
    }
    let (name, id) = match &order.place.project {
        Some((name, id)) => (name.as_str(), Some(*id)),
        None => (DEFAULT, None),
    };
    let found = state.project_by_ref(name, Some(user.domain));
    let found = found.filter(|project| project.domain == user.domain);
    let project = match (found, id) {
        (Some(project), _) => Some(project.id),
        (None, None) => None,
        (None, Some(_)) if !is_name(name) => return Err(wrong("project")),
        (None, Some(id)) => {
            changes.push(Change::Project(new_project(id, name, user.domain, now)));
            Some(id)
        }
    };
    user.projects = project.map(Membership::manual).into_iter().collect();
    Ok(())
}

/// A name, and no id of anything.
fn is_name(name: &str) -> bool {
    is_handle(name) && name.parse::<DomainId>().is_err() && name.parse::<ProjectId>().is_err()
}

pub(super) fn new_domain(id: DomainId, name: &str, now: Timestamp) -> Domain {
    Domain {
        id,
        version: 1,
        name: name.to_owned(),
        description: String::new(),
        active: true,
        total_slots: SlotLimits::new(),
        created_at: now,
    }
}

pub(super) fn new_project(id: ProjectId, name: &str, domain: DomainId, now: Timestamp) -> Project {
    Project {
        id,
        version: 1,
        name: name.to_owned(),
        domain,
        description: String::new(),
        active: true,
        policy: DEFAULT.to_owned(),
        total_slots: SlotLimits::new(),
        created_at: now,
    }
}
