//! Groups of users, and who is in them.

use super::super::super::change::Change;
use super::super::super::event::Refusal;
use super::super::super::people::{BuiltinGroup, MemberSource, User, UserGroup};
use super::super::super::state::State;
use super::super::super::submit::cut;
use super::super::Decision;
use super::super::impact::Scope;
use super::super::members::{DESCRIPTION, Reader, fixed, fresh, missing, put, taken};
use super::{Giver, RightsObject, object};
use crate::access::{self, Case, Intent, Level, Operation, Role, Subject, Target};
use longshore_common::admin::{GroupMember, Member, UserGroupRequest, UserGroupView};
use longshore_common::ids::{DomainId, UserGroupId, UserId};
use longshore_common::time::Timestamp;
use longshore_identity::fields;
use std::collections::{BTreeMap, BTreeSet};

/// A group as it is shown; with everybody in it, or with their number only.
#[must_use]
pub fn user_group_view(state: &State, group: &UserGroup, whole: bool) -> UserGroupView {
    let everybody = group.builtin == Some(BuiltinGroup::Users);
    let member = |user: &User, source: Vec<String>| GroupMember {
        id: user.printed_id(),
        name: user.username.clone(),
        source,
    };
    let there = |user: &&User| user.service.is_none() || user.is_active();
    let members = || -> Vec<GroupMember> {
        if everybody {
            let rule = || vec![MemberSource::Rule.to_string()];
            let all = state.users.values().filter(there);
            return all.map(|user| member(user, rule())).collect();
        }
        let rows = group.members.iter();
        rows.filter_map(|(id, sources)| {
            let sources = sources.iter().map(ToString::to_string).collect();
            Some(member(state.users.get(id)?, sources))
        })
        .collect()
    };
    let count = match everybody {
        true => state.users.values().filter(there).count(),
        false => group.members.len(),
    };
    UserGroupView {
        id: group.id.to_string(),
        version: group.version,
        name: group.name.clone(),
        description: group.description.clone(),
        domain: group.domain.map(|id| id.to_string()),
        domain_name: group
            .domain
            .and_then(|id| state.domains.get(&id))
            .map(|d| d.name.clone()),
        builtin: group.builtin.is_some(),
        member_count: count as u64,
        members: whole.then(members),
        created_at: group.created_at,
    }
}

/// A group as it is looked at: its members' own.
#[must_use]
pub fn group_target(group: &UserGroup) -> Target {
    let target = match group.domain {
        Some(domain) => Target::object().in_domain(domain),
        // Everybody who reads groups may know of those of no domain.
        None => Target::shared().level(Level::Ro),
    };
    target.owned_by(Subject::Group(group.id))
}

/// A group as it is changed.
pub(super) fn change_target(group: &UserGroup) -> Target {
    match group.domain {
        Some(_) => group_target(group),
        None => group_target(group).case(Case::GlobalGroup),
    }
}

/// The members of a group, as they are changed.
pub(in super::super) fn members_target(group: &UserGroup) -> Target {
    match group.builtin {
        Some(_) => group_target(group).case(Case::BuiltinMembers),
        None => change_target(group),
    }
}

fn shown(state: &State, group: &UserGroup) -> RightsObject {
    RightsObject::Group(Box::new(user_group_view(state, group, true)))
}

fn find<'a>(state: &'a State, name: &str) -> Result<&'a UserGroup, Refusal> {
    let found = state.user_group_by_ref(name);
    found.ok_or_else(|| missing("user group", name))
}

fn builtin(group: &UserGroup) -> Refusal {
    let detail = match group.builtin {
        Some(BuiltinGroup::Users) => "Group users cannot be modified.".to_owned(),
        _ => format!("Group {} is built in.", group.name),
    };
    Refusal::new("LS-GROUP-BUILTIN", detail)
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
    let errors = fields::group_name(&text);
    for message in &errors {
        r.wrong("/name", *message);
    }
    errors.is_empty().then_some(text)
}

/// Whether another group has the name already.
fn is_taken(state: &State, name: &str, besides: Option<UserGroupId>) -> bool {
    let folded = fields::fold(name);
    let mut groups = state.user_groups.values();
    groups.any(|g| Some(g.id) != besides && fields::fold(&g.name) == folded)
}

/// Everybody a list names.
fn people<'a>(
    state: &'a State,
    r: &mut Reader,
    domain: Option<DomainId>,
    member: &Member<Vec<String>>,
) -> Option<Vec<&'a User>> {
    let names = r.list("members", member)?.unwrap_or_default();
    let mut people = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        match person(state, domain, name) {
            Ok(user) => people.push(user),
            Err(message) => r.wrong(&format!("/members/{at}"), message),
        }
    }
    Some(people)
}

/// Somebody who can be in a group of a domain.
fn person<'a>(state: &'a State, domain: Option<DomainId>, name: &str) -> Result<&'a User, String> {
    let found = state.user_by_ref(name.trim());
    let found = found.filter(|user| user.service.is_none() || user.is_active());
    let Some(domain) = domain else {
        return found.ok_or_else(|| format!("There is no user or service account {}.", cut(name)));
    };
    // Who looks after one domain does not learn who there is in others.
    found.filter(|user| user.domain == domain).ok_or_else(|| {
        let domain = state.domains.get(&domain).map_or("", |d| d.name.as_str());
        format!("{} is not in domain {domain}.", cut(name))
    })
}

/// Makes the memberships by hand equal to a list. Says who is concerned.
fn set_members(group: &mut UserGroup, people: &[&User]) -> BTreeSet<UserId> {
    let wanted: BTreeSet<UserId> = people.iter().map(|user| user.id).collect();
    let mut touched = BTreeSet::new();
    group.members.retain(|id, sources| {
        if !wanted.contains(id) && sources.remove(&MemberSource::Manual) {
            touched.insert(*id);
        }
        !sources.is_empty()
    });
    for id in wanted {
        let sources = group.members.entry(id).or_default();
        if sources.insert(MemberSource::Manual) {
            touched.insert(id);
        }
    }
    touched
}

pub(super) fn create(
    state: &State,
    giver: &Giver<'_>,
    id: UserGroupId,
    request: &UserGroupRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let mut r = Reader::default();
    let domain_name = r.text("domain", &request.domain, 64).flatten();
    let domain = domain_name.as_deref().map(|name| {
        let found = state.domain_by_ref(name);
        if found.is_none() {
            r.wrong("/domain", fields::messages::domain_unknown(name));
        }
        found.map(|d| d.id)
    });
    // Where only one can be meant it need not be said.
    let own = giver.rights.domain();
    let own =
        own.filter(|_| giver.rights.role() == Role::DomainAdmin && request.domain.is_absent());
    let domain = domain.or(own.map(Some));
    // A domain that does not exist is as one that the giver does not see.
    if domain == Some(None) && giver.rights.role() != Role::Superadmin {
        access::at_the_door(Operation::GroupWrite, &giver.rights, Intent::Create)
            .map_err(|why| Refusal::new(why.code(), why.to_string()))?;
        return Err(missing(
            "domain",
            domain_name.as_deref().unwrap_or_default(),
        ));
    }
    // Whether it may be made comes before what is wrong with it.
    let place = match domain.flatten() {
        Some(domain) => Target::object().in_domain(domain).intent(Intent::Create),
        None => Target::shared()
            .intent(Intent::Create)
            .case(Case::GlobalGroup),
    };
    let thing = ("domain", domain_name.as_deref().unwrap_or("default"));
    giver.may(Operation::GroupWrite, &place, thing)?;
    let name = name(&mut r, &request.name, true);
    let description = r.text("description", &request.description, DESCRIPTION);
    let people = people(state, &mut r, domain.flatten(), &request.members);
    r.done()?;
    let name = name.unwrap_or_default();
    if is_taken(state, &name, None) {
        return Err(taken("group", &name));
    }
    let mut group = UserGroup {
        id,
        version: 1,
        name,
        description: description.flatten().unwrap_or_default(),
        domain: domain.flatten(),
        builtin: None,
        members: BTreeMap::new(),
        created_at: now,
    };
    set_members(&mut group, &people.unwrap_or_default());
    Ok(made(state, None, group, BTreeSet::new()))
}

/// The decision that a group is new, or other than it was.
fn made(
    state: &State,
    before: Option<&UserGroup>,
    mut group: UserGroup,
    touched: BTreeSet<UserId>,
) -> Decision {
    let same = before == Some(&group);
    if before.is_some() && !same {
        group.version += 1;
    }
    let shown = object(shown(state, &group));
    let changes = match same {
        true => Vec::new(),
        false => vec![Change::UserGroup(group)],
    };
    let decision = Decision::new(shown, changes).touching(Scope {
        users: touched,
        ..Scope::default()
    });
    match before {
        Some(before) => decision.was(&user_group_view(state, before, true)),
        None => decision,
    }
}

pub(super) fn patch(
    state: &State,
    giver: &Giver<'_>,
    name_: &str,
    expected: Option<u64>,
    request: &UserGroupRequest,
) -> Result<Decision, Refusal> {
    let present = find(state, name_)?;
    fresh(
        expected,
        &format!("Group {}", present.name),
        present.version,
    )?;
    if !request.members.is_absent() {
        let thing = ("user group", name_);
        giver.may(Operation::GroupWrite, &members_target(present), thing)?;
    }
    let domain_name = present.domain.and_then(|id| state.domains.get(&id));
    let named = |domain: &str| {
        let mut names = domain_name
            .iter()
            .flat_map(|d| [d.id.to_string(), d.name.clone()]);
        names.find(|name| name.eq_ignore_ascii_case(domain))
    };
    match &request.domain {
        Member::Value(text) if named(text.trim()).is_some() => (),
        Member::Null if present.domain.is_none() => (),
        other => fixed("domain", other, domain_name.map_or("", |d| d.name.as_str()))?,
    }
    let mut r = Reader::default();
    let name = name(&mut r, &request.name, false);
    let description = r.text("description", &request.description, DESCRIPTION);
    let people = people(state, &mut r, present.domain, &request.members);
    r.done()?;
    let renamed = name.filter(|name| *name != present.name);
    let users = present.builtin == Some(BuiltinGroup::Users) && people.is_some();
    if users || (present.builtin.is_some() && renamed.is_some()) {
        return Err(builtin(present));
    }
    let mut group = present.clone();
    if let Some(name) = renamed {
        if is_taken(state, &name, Some(present.id)) {
            return Err(taken("group", &name));
        }
        group.name = name;
    }
    put(&mut group.description, description, String::new());
    let touched = match people {
        Some(people) => set_members(&mut group, &people),
        None => BTreeSet::new(),
    };
    Ok(made(state, Some(present), group, touched))
}

pub(super) fn delete(
    state: &State,
    name: &str,
    expected: Option<u64>,
) -> Result<Decision, Refusal> {
    let present = find(state, name)?;
    fresh(
        expected,
        &format!("Group {}", present.name),
        present.version,
    )?;
    if present.builtin.is_some() {
        let detail = format!("Group {} is built in.", present.name);
        return Err(Refusal::new("LS-GROUP-BUILTIN", detail));
    }
    let live = state.config.config.allocation_policies.iter();
    let draft = state.config_draft.iter();
    let drafted = draft.flat_map(|draft| &draft.config.allocation_policies);
    let user = live
        .chain(drafted)
        .find(|policy| policy.user_group == Some(present.id));
    if let Some(policy) = user {
        let detail = format!(
            "Group {} is the one of allocation policy {}.",
            present.name, policy.name
        );
        return Err(Refusal::new("LS-IN-USE", detail)
            .hint("Give that policy another group of users, provision it, and delete again."));
    }
    let gone = super::super::AdminObject::Gone;
    let decision = Decision::new(gone, vec![Change::UserGroupDeleted(present.id)]);
    Ok(decision.touching(Scope {
        users: present.members.keys().copied().collect(),
        ..Scope::default()
    }))
}

pub(super) fn member(
    state: &State,
    group: &str,
    expected: Option<u64>,
    who: &str,
    within: bool,
) -> Result<Decision, Refusal> {
    let present = find(state, group)?;
    fresh(
        expected,
        &format!("Group {}", present.name),
        present.version,
    )?;
    if present.builtin == Some(BuiltinGroup::Users) {
        return Err(builtin(present));
    }
    let mut changed = present.clone();
    let mut touched = BTreeSet::new();
    if within {
        let user = person(state, present.domain, who);
        let user = user.map_err(|text| Refusal::new("LS-NOT-FOUND", text))?;
        let sources = changed.members.entry(user.id).or_default();
        if sources.insert(MemberSource::Manual) {
            touched.insert(user.id);
        }
    } else if let Some(user) = state.user_by_ref(who.trim())
        && let Some(sources) = changed.members.get_mut(&user.id)
    {
        if sources.remove(&MemberSource::Manual) {
            touched.insert(user.id);
        }
        if sources.is_empty() {
            changed.members.remove(&user.id);
        }
    }
    Ok(made(state, Some(present), changed, touched))
}
