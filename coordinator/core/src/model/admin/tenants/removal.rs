//! Domains and projects that go: what has to be gone before, and what goes with them.

use super::super::super::change::Change;
use super::super::super::event::Refusal;
use super::super::super::people::{LinkPurpose, User};
use super::super::super::policies::Allowed;
use super::super::super::rules::listed_project;
use super::super::super::state::State;
use super::super::groups::NAMED;
use super::super::impact::Scope;
use super::super::members::missing;
use super::super::named::seen;
use super::super::policies::DEFAULT;
use super::super::{AdminObject, Decision};
use super::domains::find_project;
use super::{About, revoked};
use longshore_common::admin::{InTheWay, InUse, Touched};
use longshore_common::ids::{DomainId, ProjectId};
use std::collections::BTreeSet;

/// What is in the way of a deletion.
#[derive(Default)]
struct Blockers(InUse);

impl Blockers {
    fn add(&mut self, kind: &str, id: String, name: &str, state: &str) {
        *self.0.counts.entry(kind.to_owned()).or_insert(0) += 1;
        if self.0.blockers.len() < NAMED {
            self.0.blockers.push(InTheWay {
                kind: kind.to_owned(),
                id,
                name: name.to_owned(),
                state: state.to_owned(),
            });
        }
    }

    /// Sessions that have ended and are not confirmed gone hold claims: they count too.
    fn sessions(&mut self, state: &State, is: impl Fn(&super::super::super::Session) -> bool) {
        for session in state.sessions.values().filter(|s| is(s)) {
            let id = session.id.to_string();
            let name = session.name.clone().unwrap_or_else(|| id.clone());
            self.add("session", id, &name, &session.state.to_string());
        }
    }

    /// Resource groups on whose lists somebody put it: who is let in is not changed in passing.
    fn lists(&mut self, state: &State, name: &str, of: fn(&Allowed) -> &BTreeSet<String>) {
        let names = |allowed: &Allowed| of(allowed).iter().any(|n| n.eq_ignore_ascii_case(name));
        let groups = state.groups.values();
        for group in groups.filter(|g| g.allowed.as_ref().is_some_and(names)) {
            let is = active(group.active);
            self.add("resource-group", group.id.to_string(), &group.name, is);
        }
    }

    fn done(self, what: &str, hint: &str) -> Result<(), Refusal> {
        if self.0.counts.is_empty() {
            return Ok(());
        }
        let counts = self.0.counts.iter();
        let many: Vec<String> = counts
            .map(|(kind, n)| {
                let plural = if *n == 1 { "" } else { "s" };
                format!("{n} {}{plural}", kind.replace('-', " "))
            })
            .collect();
        let detail = format!("{what} is used by {}.", many.join(", "));
        Err(Refusal {
            in_use: Some(Box::new(self.0)),
            ..Refusal::new("LS-IN-USE", detail).hint(hint)
        })
    }
}

const fn active(is: bool) -> &'static str {
    if is { "active" } else { "inactive" }
}

/// A service account that was deleted keeps its name, and its domain with it.
fn is_left(user: &User) -> bool {
    user.service.is_none() || user.is_active()
}

fn builtin(what: &str) -> Refusal {
    let text = format!("{what} {DEFAULT} is always there; it can be edited.");
    Refusal::new("LS-BUILTIN", text)
}

fn nothing() -> Decision {
    Decision::new(AdminObject::Gone, Vec::new())
}

pub(in super::super) fn delete_domain(about: &About<'_>) -> Result<Decision, Refusal> {
    let About {
        state,
        name,
        expected,
        now,
        ..
    } = *about;
    let Some(domain) = state.domain_by_ref(name) else {
        let id = name.parse::<DomainId>();
        return match id.is_ok_and(|id| state.gone.domains.contains_key(&id)) {
            true => Ok(nothing()),
            false => Err(missing("domain", name)),
        };
    };
    seen(domain, expected)?;
    if domain.name.eq_ignore_ascii_case(DEFAULT) {
        return Err(builtin("Domain"));
    }
    let mut found = Blockers::default();
    let users = state.users.values();
    for user in users.filter(|u| u.domain == domain.id && is_left(u)) {
        let kind = match user.service {
            None => "user",
            Some(_) => "service-account",
        };
        let is = user.status.as_str();
        found.add(kind, user.printed_id(), &user.username, is);
    }
    let projects = state.projects.values();
    for project in projects.filter(|p| p.domain == domain.id) {
        let is = active(project.active);
        found.add("project", project.id.to_string(), &project.name, is);
    }
    let groups = state.user_groups.values();
    for group in groups.filter(|g| g.domain == Some(domain.id)) {
        found.add("group", group.id.to_string(), &group.name, active(true));
    }
    found.sessions(state, |session| session.domain == domain.id);
    found.lists(state, &domain.name, |allowed| &allowed.domains);
    found.done(
        &format!("Domain {}", domain.name),
        "Move its users to another domain, delete its projects, groups and service accounts, and take it off the lists of resource groups first.",
    )?;
    let mut changes = Vec::new();
    for link in state.invitations.values() {
        // Other links are for somebody who is in another domain by now.
        let asks = link.purpose == LinkPurpose::Invitation && link.is_open(now);
        if asks && link.domain == domain.id {
            changes.push(Change::Invitation(Box::new(link.withdrawn())));
        }
    }
    let touched = Touched {
        invitations: changes.len() as u64,
        ..Touched::default()
    };
    changes.push(Change::DomainDeleted(domain.id));
    Ok(Decision {
        touched: Some(touched),
        ..Decision::new(AdminObject::Gone, changes)
    })
}

pub(in super::super) fn delete_project(about: &About<'_>) -> Result<Decision, Refusal> {
    let About {
        state,
        caller,
        name,
        expected,
        now,
    } = *about;
    let project = match find_project(state, caller, name) {
        Ok(project) => project,
        Err(refusal) => {
            return match was_deleted(about) {
                true => Ok(nothing()),
                false => Err(refusal),
            };
        }
    };
    seen(project, expected)?;
    let home = state.domain_by_ref(DEFAULT).map(|domain| domain.id);
    if project.name.eq_ignore_ascii_case(DEFAULT) && home == Some(project.domain) {
        return Err(builtin("Project"));
    }
    let mut found = Blockers::default();
    found.sessions(state, |session| session.project == project.id);
    found.lists(state, &listed_project(state, project), |allowed| {
        &allowed.projects
    });
    // An old entry has a name alone: one that another project has too means neither.
    let others = state.projects.values();
    let shared = others
        .filter(|other| other.id != project.id)
        .any(|other| other.name.eq_ignore_ascii_case(&project.name));
    if !shared {
        found.lists(state, &project.name, |allowed| &allowed.projects);
    }
    found.done(
        &format!("Project {}", project.name),
        "End its sessions and take it off the lists of resource groups first.",
    )?;
    let mut scope = Scope::default();
    let mut changes = Vec::new();
    for user in state.users.values().filter(|u| u.is_member(project.id)) {
        let mut left = user.clone();
        left.projects.retain(|m| m.project != project.id);
        left.version += 1;
        left.updated_at = now;
        scope.users.insert(user.id);
        changes.push(Change::User(Box::new(left)));
    }
    for keypair in state.keypairs.values() {
        let bound = keypair.project == Some(project.id);
        if bound && keypair.secret_sha256.is_some() {
            scope.keypairs.insert(keypair.access_key.clone());
            changes.push(Change::Keypair(revoked(keypair)));
        }
    }
    for link in state.invitations.values() {
        if link.is_open(now) && link.projects.contains(&project.id) {
            changes.push(Change::Invitation(Box::new(link.without(project.id))));
        }
    }
    changes.push(Change::ProjectDeleted(project.id));
    Ok(Decision::new(AdminObject::Gone, changes).touching(scope))
}

/// Whether the caller means a project that is gone and that it would have seen.
fn was_deleted(about: &About<'_>) -> bool {
    let id = about.name.parse::<ProjectId>();
    let gone = id.ok().and_then(|id| about.state.gone.projects.get(&id));
    let user = about.state.users.get(&about.caller.user);
    gone.zip(user)
        .is_some_and(|(gone, user)| State::sees_project(&about.state.rights_of(user), gone))
}
