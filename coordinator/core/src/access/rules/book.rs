//! All rules, indexed so that a decision looks at those alone that could matter: by
//! resource, then by subject. A decision costs a look-up per resource of the chain and
//! subject of the caller, or per subject named on the resource where those are fewer;
//! the number of rules does not enter.

use super::submit::Lack;
use super::{Level, Object, Resource, Rule, RuleLevel, Sight};
use crate::access::caller::{Caller, Role, Subject, SubjectSet};
use longshore_common::ids::AccessRuleId;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BTreeSet};

/// All access rules.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RuleBook {
    rules: BTreeMap<AccessRuleId, Rule>,
    // An entry that holds nothing is taken out: a book is equal to one that never had the rule.
    held: FxHashMap<Resource, FxHashMap<Subject, Held>>,
    naming: FxHashMap<Subject, BTreeSet<AccessRuleId>>,
}

/// The rules that name one subject on one resource.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Held {
    ro: BTreeSet<AccessRuleId>,
    rw: BTreeSet<AccessRuleId>,
}

impl Held {
    fn level(&self) -> Level {
        match (self.ro.is_empty(), self.rw.is_empty()) {
            (_, false) => Level::Rw,
            (false, true) => Level::Ro,
            (true, true) => Level::None,
        }
    }

    const fn of(&mut self, level: RuleLevel) -> &mut BTreeSet<AccessRuleId> {
        match level {
            RuleLevel::Ro => &mut self.ro,
            RuleLevel::Rw => &mut self.rw,
        }
    }
}

/// What grants a level without a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// One's own session, while one is a member of the project, or one's own folder.
    Owner,
    /// Superadmin, domain admin or monitor.
    Role,
    /// Membership in `admins`.
    Admins,
    /// A personal folder that was shared.
    Share,
}

impl Reason {
    /// As it is printed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Role => "role",
            Self::Admins => "admins",
            Self::Share => "share",
        }
    }
}

/// Where a grant comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Without a rule.
    Implied(Reason),
    /// From a rule.
    Rule(AccessRuleId),
}

/// One grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Via {
    /// From where.
    pub source: Source,
    /// To whom: oneself or a group one is in.
    pub subject: Subject,
    /// On what: the object, or something above it; for an implied grant the object.
    pub resource: Resource,
    /// Of which level.
    pub level: Level,
}

/// What somebody has on an object, and through what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effective {
    /// The greatest level.
    pub level: Level,
    /// Every grant: implied ones, then those of rules, the nearest resource first.
    pub via: Vec<Via>,
}

impl RuleBook {
    /// A book of these rules; of two with one id the later one counts.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let mut book = Self::default();
        for rule in rules {
            book.add(rule);
        }
        book
    }

    /// Puts a rule in, and gives back the one of that id that it takes the place of.
    pub fn add(&mut self, rule: Rule) -> Option<Rule> {
        let former = self.remove(rule.id);
        if !rule.subjects.is_empty() {
            let holders = self.held.entry(rule.resource.clone()).or_default();
            for &subject in &rule.subjects {
                let held = holders.entry(subject).or_default();
                held.of(rule.level).insert(rule.id);
                self.naming.entry(subject).or_default().insert(rule.id);
            }
        }
        self.rules.insert(rule.id, rule);
        former
    }

    /// Takes a rule out.
    pub fn remove(&mut self, id: AccessRuleId) -> Option<Rule> {
        let rule = self.rules.remove(&id)?;
        if let Some(holders) = self.held.get_mut(&rule.resource) {
            for subject in &rule.subjects {
                if let Some(held) = holders.get_mut(subject) {
                    held.of(rule.level).remove(&id);
                    if held.level() == Level::None {
                        holders.remove(subject);
                    }
                }
            }
            if holders.is_empty() {
                self.held.remove(&rule.resource);
            }
        }
        for subject in &rule.subjects {
            if let Some(rules) = self.naming.get_mut(subject) {
                rules.remove(&id);
                if rules.is_empty() {
                    self.naming.remove(subject);
                }
            }
        }
        Some(rule)
    }

    /// A rule.
    #[must_use]
    pub fn get(&self, id: AccessRuleId) -> Option<&Rule> {
        self.rules.get(&id)
    }

    /// All rules, by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Rule> {
        self.rules.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is none: then nobody but roles and owners has anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules on exactly this, by id: they go when it is deleted.
    #[must_use]
    pub fn on(&self, resource: &Resource) -> BTreeSet<AccessRuleId> {
        let holders = self.held.get(resource).into_iter().flat_map(|h| h.values());
        holders.flat_map(|h| h.ro.union(&h.rw)).copied().collect()
    }

    /// The rules that name exactly this subject, by id.
    pub fn naming(&self, subject: Subject) -> impl Iterator<Item = &Rule> {
        let ids = self.naming.get(&subject).into_iter().flatten();
        ids.filter_map(|id| self.rules.get(id))
    }

    /// What becomes of the rules when a subject is deleted: each rule that names it, without
    /// it; nothing in place of a rule that names nobody then.
    #[must_use]
    pub fn without(&self, subject: Subject) -> Vec<(AccessRuleId, Option<Rule>)> {
        let rest = |rule: &Rule| {
            let mut rest = rule.clone();
            rest.subjects.remove(&subject);
            (rule.id, (!rest.subjects.is_empty()).then_some(rest))
        };
        self.naming(subject).map(rest).collect()
    }

    /// The resources that rules name for any of these subjects: where to look for objects
    /// that open the name of what they lie in.
    #[must_use]
    pub fn named_for(&self, subjects: &SubjectSet) -> BTreeSet<&Resource> {
        let rules = subjects.iter().flat_map(|s| self.naming(*s));
        rules.map(|rule| &rule.resource).collect()
    }

    /// What a caller has on an object: gate, then roles, ownership and rules. Cheap enough to
    /// be asked of every object of a list.
    #[must_use]
    pub fn level(&self, caller: &Caller, object: &Object) -> Level {
        let implied = implied(caller, object);
        let mut level = implied.iter().map(|i| i.1).max().unwrap_or_default();
        if level == Level::Rw || !object.gate(caller) {
            return level;
        }
        for resource in object.chain() {
            self.each(&resource, caller.subjects(), |_, held| {
                level = level.max(held.level());
            });
            if level == Level::Rw {
                break;
            }
        }
        level
    }

    /// As [`RuleBook::level`], with every grant.
    ///
    /// # Examples
    /// ```
    /// # use longshore_core::access::{*, rules::Place};
    /// # use longshore_common::ids::*;
    /// # use std::collections::{BTreeMap, BTreeSet};
    /// # let builtin = BuiltinGroups {
    /// #     users: UserGroupId::new(1), admins: UserGroupId::new(2), queue_admins: UserGroupId::new(3),
    /// # };
    /// # let (project, domain) = (ProjectId::new(1), DomainId::new(1));
    /// # let alice = Caller::user(UserFacts {
    /// #     id: UserId::new(1), role: Role::User, domain, active: true,
    /// #     projects: BTreeMap::from([(project, Membership::Member)]), groups: BTreeSet::new(),
    /// # }, &builtin);
    /// let book = RuleBook::new([Rule::factory(AccessRuleId::new(1), builtin.users)]);
    /// let had = book.effective(&alice, &Object::Project(Place { project, domain }));
    /// assert_eq!(had.level, Level::Rw);
    /// assert_eq!(had.via[0].source, Source::Rule(AccessRuleId::new(1)));
    /// ```
    #[must_use]
    pub fn effective(&self, caller: &Caller, object: &Object) -> Effective {
        let mut via = Vec::new();
        if let Some(oneself) = caller.who().subject() {
            via.extend(
                implied(caller, object)
                    .into_iter()
                    .map(|(reason, level)| Via {
                        source: Source::Implied(reason),
                        subject: oneself,
                        resource: object.resource(),
                        level,
                    }),
            );
        }
        if object.gate(caller) {
            for resource in object.chain() {
                let nearer = via.len();
                self.each(&resource, caller.subjects(), |subject, held| {
                    let ro = held.ro.iter().map(|id| (*id, Level::Ro));
                    let rw = held.rw.iter().map(|id| (*id, Level::Rw));
                    via.extend(ro.chain(rw).map(|(id, level)| Via {
                        source: Source::Rule(id),
                        subject,
                        resource: resource.clone(),
                        level,
                    }));
                });
                // Holders come in the order of a hash.
                via[nearer..].sort_unstable_by_key(|v| (v.source, v.subject));
            }
        }
        let level = via.iter().map(|v| v.level).max().unwrap_or_default();
        Effective { level, via }
    }

    /// What a caller gets to see of an object: `children` are things that may lie inside it,
    /// one visible one among them opens its name.
    pub fn sight<'a>(
        &self,
        caller: &Caller,
        object: &Object,
        children: impl IntoIterator<Item = &'a Object>,
    ) -> Sight {
        let level = self.level(caller, object);
        if level != Level::None {
            return Sight::of(level);
        }
        let mut children = children.into_iter();
        let seen = |child: &Object| self.level(caller, child) != Level::None;
        if children.any(|child| child.is_inside(object) && seen(child)) {
            Sight::NameOnly
        } else {
            Sight::Nothing
        }
    }

    /// Asks for a level.
    ///
    /// # Errors
    /// What is there instead.
    pub fn require(&self, caller: &Caller, object: &Object, needs: Level) -> Result<(), Lack> {
        let has = self.level(caller, object);
        if has >= needs {
            return Ok(());
        }
        let resource = object.resource();
        Err(Lack {
            resource,
            needs,
            has,
        })
    }

    /// Calls `look` for each of `subjects` that rules name on `resource`, in no order.
    fn each(
        &self,
        resource: &Resource,
        subjects: &SubjectSet,
        mut look: impl FnMut(Subject, &Held),
    ) {
        let Some(holders) = self.held.get(resource) else {
            return;
        };
        if holders.len() < subjects.len() {
            for (&subject, held) in holders {
                if subjects.contains(&subject) {
                    look(subject, held);
                }
            }
        } else {
            for &subject in subjects.iter() {
                if let Some(held) = holders.get(&subject) {
                    look(subject, held);
                }
            }
        }
    }
}

/// What is granted without a rule.
fn implied(caller: &Caller, object: &Object) -> Vec<(Reason, Level)> {
    let mut grants = Vec::new();
    if !caller.is_active() {
        return grants;
    }
    match object {
        Object::PersonalFolder { owner, shared, .. } => {
            if caller.is(*owner) {
                grants.push((Reason::Owner, Level::Rw));
            }
            if *shared != Level::None {
                grants.push((Reason::Share, *shared));
            }
            return grants;
        }
        Object::Session { owner, place, .. } => {
            if caller.is(*owner) && caller.is_member(place.project) {
                grants.push((Reason::Owner, Level::Rw));
            }
        }
        Object::Project(_)
        | Object::Model { .. }
        | Object::Folder { .. }
        | Object::Queue { .. } => (),
    }
    // A queue has no domain of its own: it is in those that it is open to.
    let in_domain = match object {
        Object::Queue { open, .. } => *open && caller.domain().is_some(),
        _ => caller.is_of(object.place().map(|p| p.domain)),
    };
    match caller.role() {
        Role::Superadmin => grants.push((Reason::Role, Level::Rw)),
        Role::DomainAdmin if in_domain => grants.push((Reason::Role, Level::Rw)),
        Role::Monitor if in_domain => grants.push((Reason::Role, Level::Ro)),
        Role::DomainAdmin | Role::Monitor | Role::User => (),
    }
    if caller.in_admins() && in_domain {
        grants.push((Reason::Admins, Level::Rw));
    }
    grants
}

/// One caller before and after a change, and what they are asked about.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// As they are.
    pub before: &'a Caller,
    /// As they would be; the same where only rules change.
    pub after: &'a Caller,
    /// On what.
    pub object: &'a Object,
}

/// A level that a change moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shift {
    /// Whose.
    pub subject: Subject,
    /// On what.
    pub resource: Resource,
    /// From which level.
    pub from: Level,
    /// To which.
    pub to: Level,
}

/// Who gains and who loses what.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Impact {
    /// Levels that rise, in the order of the questions.
    pub gains: Vec<Shift>,
    /// Levels that fall, in the order of the questions.
    pub loses: Vec<Shift>,
}

/// What a change of rules, groups or memberships does to the levels asked about.
pub fn impact<'a>(
    before: &RuleBook,
    after: &RuleBook,
    questions: impl IntoIterator<Item = Question<'a>>,
) -> Impact {
    let mut impact = Impact::default();
    for question in questions {
        let from = before.level(question.before, question.object);
        let to = after.level(question.after, question.object);
        let Some(subject) = question.before.who().subject().filter(|_| from != to) else {
            continue;
        };
        let shift = Shift {
            subject,
            resource: question.object.resource(),
            from,
            to,
        };
        if to > from {
            impact.gains.push(shift);
        } else {
            impact.loses.push(shift);
        }
    }
    impact
}
