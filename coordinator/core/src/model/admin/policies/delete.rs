//! Policies that go, and what those who have them get instead.

use super::super::super::change::{Change, PolicyKind};
use super::super::super::event::Refusal;
use super::super::super::people::{Keypair, User};
use super::super::super::policies::Project;
use super::super::super::state::State;
use super::super::groups::NAMED;
use super::super::impact::Scope;
use super::super::members::{capital, fresh};
use super::super::{AdminObject, Decision};
use super::keypair::{keypair_is_active, keypairs_of};
use super::{DEFAULT, head, refer, what};
use longshore_common::admin::{InTheWay, InUse};
use std::collections::BTreeMap;

pub(in super::super) fn delete(
    state: &State,
    kind: PolicyKind,
    name: &str,
    move_to: Option<&str>,
    expected: Option<u64>,
) -> Result<Decision, Refusal> {
    let Ok((name, version)) = head(state, kind, name) else {
        return Ok(Decision::new(AdminObject::Gone, Vec::new()));
    };
    let title = capital(what(kind));
    if name.eq_ignore_ascii_case(DEFAULT) {
        return Err(Refusal::new(
            "LS-BUILTIN",
            format!("{title} {DEFAULT} is always there; it can be edited."),
        ));
    }
    fresh(expected, &format!("{title} {name}"), version)?;
    let target = move_to
        .map(|to| target(state, kind, name, to))
        .transpose()?;
    let holders = Holders::of(state, kind, name);
    let keys = holders.keypairs.iter().map(|k| k.access_key.clone());
    let scope = Scope::keypairs(state, keys);
    let mut changes = match target {
        Some(to) => holders.moved(&to),
        None if holders.is_empty() => Vec::new(),
        None => {
            let (in_the_way, of_inactive_users) = holders.in_the_way(state);
            let label = format!("{title} {name}");
            return Err(in_use(&label, in_the_way, of_inactive_users));
        }
    };
    changes.push(Change::PolicyDeleted(kind, name.to_owned()));
    Ok(Decision::new(AdminObject::Gone, changes).touching(scope))
}

/// The policy that those who have this one get.
fn target(state: &State, kind: PolicyKind, name: &str, to: &str) -> Result<String, Refusal> {
    let found = refer(state, kind, to).and_then(|to| {
        if to.eq_ignore_ascii_case(name) {
            let title = capital(what(kind));
            Err(format!("{title} {to} is the one that is to go."))
        } else {
            Ok(to)
        }
    });
    found.map_err(|message| Refusal::new("LS-INVALID", message.clone()).at("/move_to", message))
}

/// Who has a policy.
#[derive(Default)]
struct Holders<'a> {
    keypairs: Vec<&'a Keypair>,
    users: Vec<&'a User>,
    projects: Vec<&'a Project>,
}

impl<'a> Holders<'a> {
    fn of(state: &'a State, kind: PolicyKind, name: &'a str) -> Self {
        let same = |policy: &str| policy.eq_ignore_ascii_case(name);
        let mut holders = Self::default();
        match kind {
            PolicyKind::Keypair => holders.keypairs = keypairs_of(state, name).collect(),
            PolicyKind::User => {
                let users = state.users.values();
                holders.users = users.filter(|u| same(&u.user_policy)).collect();
            }
            PolicyKind::Project => {
                let projects = state.projects.values();
                holders.projects = projects.filter(|p| same(&p.policy)).collect();
            }
        }
        holders
    }

    fn is_empty(&self) -> bool {
        self.keypairs.is_empty() && self.users.is_empty() && self.projects.is_empty()
    }

    /// All of them get another policy.
    fn moved(&self, to: &str) -> Vec<Change> {
        let keypairs = self.keypairs.iter().map(|k| {
            Change::Keypair(Keypair {
                policy: to.to_owned(),
                ..(*k).clone()
            })
        });
        let users = self.users.iter().map(|u| {
            Change::User(Box::new(User {
                user_policy: to.to_owned(),
                version: u.version + 1,
                ..(*u).clone()
            }))
        });
        let projects = self.projects.iter().map(|p| {
            Change::Project(Project {
                policy: to.to_owned(),
                version: p.version + 1,
                ..(*p).clone()
            })
        });
        keypairs.chain(users).chain(projects).collect()
    }

    /// What is told of them, and how many are keypairs of people who are switched off.
    fn in_the_way(&self, state: &State) -> (Vec<InTheWay>, usize) {
        let mut of_inactive_users = 0;
        let mut all = Vec::new();
        for keypair in &self.keypairs {
            let user = state.users.get(&keypair.user);
            of_inactive_users += usize::from(user.is_some_and(|u| !u.is_active()));
            let name = user.map_or_else(String::new, |u| u.username.clone());
            let active = keypair_is_active(state, keypair);
            all.push(blocker(
                "keypair",
                keypair.access_key.clone(),
                &name,
                active,
            ));
        }
        let users = self.users.iter();
        all.extend(users.map(|u| blocker("user", u.id.to_string(), &u.username, u.is_active())));
        let projects = self.projects.iter();
        all.extend(projects.map(|p| blocker("project", p.id.to_string(), &p.name, p.active)));
        (all, of_inactive_users)
    }
}

fn blocker(kind: &str, id: String, name: &str, active: bool) -> InTheWay {
    InTheWay {
        kind: kind.to_owned(),
        id,
        name: name.to_owned(),
        state: if active { "active" } else { "inactive" }.to_owned(),
    }
}

fn in_use(label: &str, mut in_the_way: Vec<InTheWay>, of_inactive_users: usize) -> Refusal {
    let many = in_the_way.len();
    let kind = in_the_way
        .first()
        .map_or_else(String::new, |b| b.kind.clone());
    let inactive = in_the_way.iter().filter(|b| b.state == "inactive").count();
    let mut remarks = Vec::new();
    match of_inactive_users {
        0 => (),
        1 => remarks.push("1 of an inactive user".to_owned()),
        n => remarks.push(format!("{n} of inactive users")),
    }
    if inactive > of_inactive_users {
        remarks.push(format!("{} inactive", inactive - of_inactive_users));
    }
    let remark = if remarks.is_empty() {
        String::new()
    } else {
        format!(" ({})", remarks.join(", "))
    };
    let plural = if many == 1 { "" } else { "s" };
    let detail = format!("{label} is used by {many} {kind}{plural}{remark}.");
    in_the_way.truncate(NAMED);
    Refusal {
        in_use: Some(Box::new(InUse {
            blockers: in_the_way,
            counts: BTreeMap::from([(kind, many as u64)]),
        })),
        ..Refusal::new("LS-IN-USE", detail)
            .hint("Assign another policy first, or delete with move_to=POLICY.")
    }
}
