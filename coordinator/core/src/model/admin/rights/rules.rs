//! Access rules: what they open and to whom, and what becomes of them when a thing they name
//! is deleted.

use super::super::super::change::Change;
use super::super::super::event::Refusal;
use super::super::super::people::{AccessRule, User};
use super::super::super::state::State;
use super::super::members::{Reader, fresh, missing};
use super::super::{AdminObject, AdminVerb, Decision};
use super::found::{resource_of, subject_for};
use super::{Giver, RightsObject, object};
use crate::access::rules::QueueKey;
use crate::access::{
    self, Level, Operation, Resource, Rule, RuleLevel, Sight, Source, Subject, Target,
};
use longshore_common::admin::{
    AccessGrant, AccessRuleRequest, AccessRuleView, EffectiveAccess, Member, RuleResource,
};
use longshore_common::ids::AccessRuleId;
use longshore_common::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// The words of a level.
pub(super) const fn word(level: Level) -> &'static str {
    match level {
        Level::None => "none",
        Level::Ro => "ro",
        Level::Rw => "rw",
    }
}

fn resource_view(state: &State, resource: &Resource) -> RuleResource {
    RuleResource {
        kind: resource.kind_text().to_owned(),
        id: resource.id_text(),
        name: state.name_of_resource(resource),
    }
}

/// A rule as it is shown.
#[must_use]
pub fn access_rule_view(state: &State, stored: &AccessRule) -> AccessRuleView {
    let rule = &stored.rule;
    AccessRuleView {
        id: rule.id.to_string(),
        version: stored.version,
        resource: resource_view(state, &rule.resource),
        level: word(rule.level.into()).to_owned(),
        subjects: rule.subjects.iter().map(ToString::to_string).collect(),
        subject_names: rule
            .subjects
            .iter()
            .map(|subject| state.name_of_subject(*subject))
            .collect(),
        default: rule.default,
        warnings: warnings(state, rule),
        created_at: stored.created_at,
    }
}

/// Whom a rule names without effect.
fn warnings(state: &State, rule: &Rule) -> Vec<String> {
    let Some(place) = state.place_of(&rule.resource) else {
        return Vec::new();
    };
    let project = state.projects.get(&place.project);
    let project = project.map_or("", |p| p.name.as_str());
    let is_member = |subject| {
        let user = state.user_of_subject(subject);
        user.is_some_and(|user| user.is_member(place.project))
    };
    let outsiders = rule.outsiders(is_member).into_iter();
    outsiders
        .map(|subject| {
            let name = state.name_of_subject(subject);
            format!("{name} is no member of project {project}; until then the rule has no effect.")
        })
        .collect()
}

/// A rule as the operation table judges it.
#[must_use]
pub fn rule_target(state: &State, rule: &Rule) -> Target {
    let domain = rule.domain(
        |subject| state.domain_of_subject(subject),
        state.place_of(&rule.resource).map(|place| place.domain),
    );
    // What names nobody but groups of all domains concerns every domain, and may be read there.
    let common = rule.subjects.iter().all(|subject| {
        matches!(subject, Subject::Group(_)) && state.domain_of_subject(*subject).is_none()
    });
    let target = match domain {
        Some(domain) => Target::object().in_domain(domain),
        None if common => Target::shared().level(Level::Ro),
        None => Target::shared(),
    };
    let mut subjects = rule.subjects.iter().copied();
    let target = subjects.by_ref().fold(target, Target::owned_by);
    match state.place_of(&rule.resource) {
        Some(place) => target.in_project(place.project),
        None => target,
    }
}

pub(super) fn find<'a>(state: &'a State, id: &str) -> Option<&'a AccessRule> {
    let id = id.parse::<AccessRuleId>().ok()?;
    state.access_rules.get(&id)
}

/// The members of a request, read into a rule.
fn fill(
    state: &State,
    giver: &Giver<'_>,
    rule: &mut Rule,
    request: &AccessRuleRequest,
    new: bool,
) -> Result<(), Refusal> {
    let mut r = Reader::default();
    match r.object("resource", &request.resource) {
        Some(Some(wanted)) => {
            match resource_of(state, &giver.rights, wanted, Some(giver.user.domain)) {
                Ok(resource) => rule.resource = resource,
                Err((at, message)) => r.wrong(&format!("/resource{at}"), message),
            }
        }
        Some(None) => r.wrong("/resource", "resource is required."),
        None if new && request.resource.is_absent() => {
            r.wrong("/resource", "resource is required.");
        }
        None => (),
    }
    match r.text("level", &request.level, 64) {
        Some(Some(text)) if text.eq_ignore_ascii_case("ro") => rule.level = RuleLevel::Ro,
        Some(Some(text)) if text.eq_ignore_ascii_case("rw") => rule.level = RuleLevel::Rw,
        Some(_) => r.wrong("/level", "level must be ro or rw."),
        None if new && request.level.is_absent() => r.wrong("/level", "level is required."),
        None => (),
    }
    match r.list("subjects", &request.subjects) {
        Some(Some(names)) if !names.is_empty() => {
            rule.subjects = BTreeSet::new();
            for (at, name) in names.iter().enumerate() {
                match subject_for(state, &giver.rights, name) {
                    Ok(subject) => drop(rule.subjects.insert(subject)),
                    Err(message) => r.wrong(&format!("/subjects/{at}"), message),
                }
            }
        }
        Some(_) => r.wrong("/subjects", "A rule names somebody."),
        None if new && matches!(request.subjects, Member::Absent) => {
            r.wrong("/subjects", "subjects is required.");
        }
        None => (),
    }
    r.done()
}

/// Whether somebody may make a rule what it is to become. Whatever it names is known to the
/// giver by now, and the rule itself is not there yet: there is nothing to hide.
fn may_make(state: &State, giver: &Giver<'_>, rule: &Rule) -> Result<(), Refusal> {
    let target = rule_target(state, rule);
    match access::decide(Operation::AccessWrite, &giver.rights, &target) {
        access::Decision::Allowed(_) => Ok(()),
        access::Decision::Forbidden(why) | access::Decision::Hidden(why) => {
            Err(Refusal::new(why.code(), why.to_string()))
        }
    }
}

pub(super) fn create(
    state: &State,
    giver: &Giver<'_>,
    id: AccessRuleId,
    request: &AccessRuleRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let mut rule = Rule {
        id,
        resource: Resource::Everything,
        level: RuleLevel::Ro,
        subjects: BTreeSet::new(),
        default: false,
    };
    fill(state, giver, &mut rule, request, true)?;
    may_make(state, giver, &rule)?;
    let stored = AccessRule {
        rule,
        version: 1,
        created_at: now,
    };
    let shown = RightsObject::Rule(Box::new(access_rule_view(state, &stored)));
    Ok(Decision::new(
        object(shown),
        vec![Change::AccessRule(stored)],
    ))
}

pub(super) fn patch(
    state: &State,
    giver: &Giver<'_>,
    id: &str,
    expected: Option<u64>,
    request: &AccessRuleRequest,
) -> Result<Decision, Refusal> {
    let present = find(state, id).ok_or_else(|| missing("access rule", id))?;
    fresh(expected, &format!("Access rule {id}"), present.version)?;
    let mut stored = present.clone();
    fill(state, giver, &mut stored.rule, request, false)?;
    // What it becomes has to be in reach as well as what it was.
    may_make(state, giver, &stored.rule)?;
    let differs = stored != *present;
    if differs {
        stored.version += 1;
    }
    let shown = RightsObject::Rule(Box::new(access_rule_view(state, &stored)));
    let changes = match differs {
        true => vec![Change::AccessRule(stored)],
        false => Vec::new(),
    };
    Ok(Decision::new(object(shown), changes).was(&access_rule_view(state, present)))
}

pub(super) fn delete(state: &State, id: &str, expected: Option<u64>) -> Result<Decision, Refusal> {
    let present = find(state, id).ok_or_else(|| missing("access rule", id))?;
    fresh(expected, &format!("Access rule {id}"), present.version)?;
    let changes = vec![Change::AccessRuleDeleted(present.rule.id)];
    Ok(Decision::new(AdminObject::Gone, changes))
}

/// What follows for the rules from what an order changes: rules on a thing that is deleted go
/// with it, a group that is deleted leaves the rules that name it, and a queue takes its rules
/// along when it is renamed.
pub(in super::super) fn follow(state: &State, verb: &AdminVerb, changes: &mut Vec<Change>) {
    let mut rules: BTreeMap<AccessRuleId, Option<Rule>> = BTreeMap::new();
    for change in changes.iter() {
        match change {
            Change::GroupDeleted(id) => {
                let on = Resource::Queue(QueueKey::Group(*id));
                rules.extend(state.rule_book().on(&on).into_iter().map(|id| (id, None)));
            }
            Change::ProjectDeleted(id) => {
                let on = Resource::Project(*id);
                rules.extend(state.rule_book().on(&on).into_iter().map(|id| (id, None)));
            }
            Change::UserGroupDeleted(id) => {
                rules.extend(state.rule_book().without(Subject::Group(*id)));
            }
            Change::Config(live) => {
                let renamed = match verb {
                    AdminVerb::RenameQueue { request, .. } => request.name.value(),
                    _ => None,
                };
                rules.extend(of_queues(state, &live.config, renamed.map(|n| n.trim())));
            }
            _ => (),
        }
    }
    for (id, rule) in rules {
        let Some(present) = state.access_rules.get(&id) else {
            continue;
        };
        changes.push(match rule {
            None => Change::AccessRuleDeleted(id),
            Some(rule) => Change::AccessRule(AccessRule {
                rule,
                version: present.version + 1,
                created_at: present.created_at,
            }),
        });
    }
}

/// Rules on queues and pools that are no longer there.
fn of_queues(
    state: &State,
    after: &super::super::super::pools::ResourceConfig,
    renamed: Option<&str>,
) -> Vec<(AccessRuleId, Option<Rule>)> {
    let is_there = |name: &str| after.queue(name).is_some() || after.pool(name).is_some();
    let stale = state
        .rule_book()
        .iter()
        .filter(|rule| match &rule.resource {
            Resource::Queue(QueueKey::Other(key)) => !is_there(key.as_str()),
            _ => false,
        });
    let to = renamed.and_then(|name| name.parse().ok());
    stale
        .map(|rule| {
            let moved = to.clone().map(|key| Rule {
                resource: Resource::Queue(QueueKey::Other(key)),
                ..rule.clone()
            });
            (rule.id, moved)
        })
        .collect()
}

/// What somebody has on an object and through what; with an operation, whether it may be
/// done. None where memory does not know the object.
#[must_use]
pub fn effective(
    state: &State,
    user: &User,
    resource: &Resource,
    operation: Option<Operation>,
) -> Option<EffectiveAccess> {
    let thing = state.object_of(resource, user)?;
    let rights = state.rights_of(user);
    let found = state.rule_book().effective(&rights, &thing);
    let via = found.via.iter().map(|via| {
        let (rule, reason) = match via.source {
            Source::Rule(id) => (Some(id.to_string()), None),
            Source::Implied(reason) => (None, Some(reason.as_str().to_owned())),
        };
        AccessGrant {
            rule,
            reason,
            subject: via.subject.to_string(),
            subject_name: state.name_of_subject(via.subject),
            resource: resource_view(state, &via.resource),
            level: word(via.level).to_owned(),
        }
    });
    let mut answer = EffectiveAccess {
        level: word(found.level).to_owned(),
        via: via.collect(),
        allowed: None,
        why: None,
    };
    if let Some(operation) = operation {
        let place = thing.place();
        let mut target = match place {
            Some(place) => Target::object()
                .in_domain(place.domain)
                .in_project(place.project),
            None => Target::shared(),
        };
        if matches!(resource, Resource::Session(_)) {
            target = target.owned_by(thing.owner());
        }
        let target = target.seen(Sight::of(found.level));
        let decision = access::decide(operation, &rights, &target);
        answer.allowed = Some(decision.is_allowed());
        answer.why = match decision {
            access::Decision::Allowed(_) => None,
            access::Decision::Forbidden(why) | access::Decision::Hidden(why) => {
                Some(why.to_string())
            }
        };
    }
    Some(answer)
}
