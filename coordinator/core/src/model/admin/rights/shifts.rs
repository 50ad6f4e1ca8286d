//! Who would gain and lose what by a write: levels before and after, for those it concerns.

use super::super::super::change::Change;
use super::super::super::people::User;
use super::super::super::state::State;
use super::rules::word;
use crate::access::rules::Kind;
use crate::access::{Level, Object, Resource};
use longshore_common::admin::{AccessShift, Impact};
use longshore_common::ids::{UserGroupId, UserId};
use std::collections::BTreeSet;

/// How many of each are named; all that were found are counted.
const NAMED: usize = 200;
/// People who are looked at: the engine decides nothing else meanwhile.
const PEOPLE: usize = 2000;
/// Live sessions that are looked at for each of them, where sessions are what a rule is about.
const SESSIONS: usize = 200;

/// What a write concerns.
#[derive(Default)]
struct Concerned {
    people: BTreeSet<UserId>,
    /// Single things that rules name.
    things: BTreeSet<Resource>,
    /// Sessions are to be looked at one by one.
    sessions: bool,
}

impl Concerned {
    fn resource(&mut self, resource: &Resource) {
        match resource {
            Resource::All(Kind::Session) => self.sessions = true,
            Resource::Session(_) => drop(self.things.insert(resource.clone())),
            // Projects and queues are looked at for everybody.
            _ => (),
        }
    }

    fn rules_of(&mut self, state: &State, group: UserGroupId) {
        let rules = state
            .rule_book()
            .naming(crate::access::Subject::Group(group));
        rules.for_each(|rule| self.resource(&rule.resource));
    }
}

fn concerned(state: &State, changes: &[Change]) -> Concerned {
    let mut all = Concerned::default();
    for change in changes {
        match change {
            Change::AccessRule(new) => {
                let old = state.access_rules.get(&new.rule.id);
                for rule in old.into_iter().chain([new]) {
                    let people = rule.rule.subjects.iter().flat_map(|s| state.people_of(*s));
                    all.people.extend(people);
                    all.resource(&rule.rule.resource);
                }
            }
            Change::AccessRuleDeleted(id) => {
                if let Some(old) = state.access_rules.get(id) {
                    let people = old.rule.subjects.iter().flat_map(|s| state.people_of(*s));
                    all.people.extend(people);
                    all.resource(&old.rule.resource);
                }
            }
            Change::UserGroup(new) => {
                let old = state.user_groups.get(&new.id);
                let was = |id: &UserId| old.is_some_and(|old| old.members.contains_key(id));
                all.people.extend(new.members.keys().filter(|id| !was(id)));
                let left = old.into_iter().flat_map(|old| old.members.keys());
                all.people
                    .extend(left.filter(|id| !new.members.contains_key(id)));
                all.rules_of(state, new.id);
            }
            Change::User(new) => {
                let old = state.users.get(&new.id);
                let moves = |old: &User| {
                    old.domain != new.domain || !old.project_ids().eq(new.project_ids())
                };
                if old.is_some_and(moves) {
                    all.people.insert(new.id);
                }
            }
            Change::UserGroupDeleted(id) => {
                if let Some(old) = state.user_groups.get(id) {
                    all.people.extend(old.members.keys());
                }
                all.rules_of(state, *id);
            }
            _ => (),
        }
    }
    all
}

/// Everything somebody is asked about.
fn objects(state: &State, user: &User, concerned: &Concerned) -> Vec<Object> {
    let projects = user.project_ids().filter_map(|id| state.projects.get(&id));
    let mut objects: Vec<Object> = projects.map(State::project_object).collect();
    let groups = state.groups.values();
    objects.extend(groups.map(|group| State::group_object(group, state.lets_in(group, user))));
    let queues = state.config.config.queues();
    objects.extend(
        queues.filter_map(|queue| {
            State::queue_object(queue.name, queue.policy.admits(state, user.id))
        }),
    );
    let things = concerned.things.iter();
    objects.extend(things.filter_map(|thing| state.object_of(thing, user)));
    if concerned.sessions {
        let live = state.sessions.values().filter(|s| !s.state.is_final());
        let near = live.filter(|s| user.is_member(s.project)).take(SESSIONS);
        objects.extend(near.map(|session| state.session_object(session)));
    }
    objects
}

/// Puts what levels would rise and fall into what is told of a rehearsal.
pub(in super::super) fn shifts(state: &State, changes: &[Change], told: &mut Impact) {
    let concerned = concerned(state, changes);
    if concerned.people.is_empty() {
        return;
    }
    let mut after = state.clone();
    for change in changes {
        after.apply(change);
    }
    let (mut gains, mut loses) = (0, 0);
    for id in concerned.people.iter().take(PEOPLE) {
        let (Some(user), Some(later)) = (state.users.get(id), after.users.get(id)) else {
            continue;
        };
        let (rights, rights_after) = (state.rights_of(user), after.rights_of(later));
        for object in objects(state, user, &concerned) {
            let from = state.rule_book().level(&rights, &object);
            let to = after.rule_book().level(&rights_after, &object);
            if from == to {
                continue;
            }
            let (list, count) = match to > from {
                true => (&mut told.gains, &mut gains),
                false => (&mut told.loses, &mut loses),
            };
            *count += 1;
            if list.len() < NAMED {
                list.push(shift(state, user, &object.resource(), (from, to)));
            }
        }
    }
    told.counts.insert("gains".to_owned(), gains);
    told.counts.insert("loses".to_owned(), loses);
}

fn shift(state: &State, user: &User, of: &Resource, (from, to): (Level, Level)) -> AccessShift {
    let id = of.id_text().unwrap_or_default();
    AccessShift {
        subject: user.printed_id(),
        subject_name: user.username.clone(),
        kind: of.kind_text().to_owned(),
        name: state.name_of_resource(of).unwrap_or_else(|| id.clone()),
        id,
        from: word(from).to_owned(),
        to: word(to).to_owned(),
    }
}
