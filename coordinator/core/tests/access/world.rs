//! A small world in words: people, things, rules.

use longshore_common::ids::{
    AccessRuleId, DomainId, GroupId, ProjectId, ServiceAccountId, SessionId, UserGroupId, UserId,
};
use longshore_core::access::rules::{Place, QueueKey, SessionKey};
use longshore_core::access::{
    AccountFacts, BuiltinGroups, Caller, Level, Membership, Object, Resource, Role, Rule, RuleBook,
    RuleLevel, Subject, UserFacts,
};
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const BUILTIN: BuiltinGroups = BuiltinGroups {
    users: UserGroupId::new(1),
    admins: UserGroupId::new(2),
    queue_admins: UserGroupId::new(3),
};
pub(crate) const TEAM: UserGroupId = UserGroupId::new(10);
pub(crate) const LAB: DomainId = DomainId::new(1);
pub(crate) const ELSEWHERE: DomainId = DomainId::new(2);
pub(crate) const P: ProjectId = ProjectId::new(1);
pub(crate) const R: ProjectId = ProjectId::new(2);
pub(crate) const ALICE: UserId = UserId::new(1);
pub(crate) const BOB: UserId = UserId::new(2);
pub(crate) const SVC: ServiceAccountId = ServiceAccountId::new(1);

/// A member of P in the lab; what is special about somebody is said afterwards.
#[derive(Clone)]
pub(crate) struct Person(pub(crate) UserFacts);

pub(crate) fn person(id: UserId) -> Person {
    Person(UserFacts {
        id,
        role: Role::User,
        domain: LAB,
        active: true,
        projects: BTreeMap::from([(P, Membership::Member)]),
        groups: BTreeSet::new(),
    })
}

impl Person {
    pub(crate) fn role(mut self, role: Role) -> Self {
        self.0.role = role;
        self
    }
    pub(crate) fn of(mut self, group: UserGroupId) -> Self {
        self.0.groups.insert(group);
        self
    }
    pub(crate) fn without_projects(mut self) -> Self {
        self.0.projects.clear();
        self
    }
    pub(crate) fn administers(mut self, project: ProjectId) -> Self {
        self.0.projects.insert(project, Membership::Admin);
        self
    }
    pub(crate) fn inactive(mut self) -> Self {
        self.0.active = false;
        self
    }
    pub(crate) fn in_domain(mut self, domain: DomainId) -> Self {
        self.0.domain = domain;
        self
    }
    pub(crate) fn call(self) -> Caller {
        Caller::user(self.0, &BUILTIN)
    }
}

/// A service account that is a member of P.
pub(crate) fn account() -> AccountFacts {
    AccountFacts {
        id: SVC,
        domain: LAB,
        active: true,
        admin: false,
        allow_impersonation: false,
        projects: BTreeSet::from([P]),
        groups: BTreeSet::new(),
    }
}

pub(crate) fn service(change: impl FnOnce(&mut AccountFacts)) -> Caller {
    let mut facts = account();
    change(&mut facts);
    Caller::account(facts, &BUILTIN)
}

pub(crate) const fn place() -> Place {
    Place {
        project: P,
        domain: LAB,
    }
}

pub(crate) const fn project() -> Object {
    Object::Project(place())
}

pub(crate) fn session(id: &str) -> Object {
    owned(id, Subject::User(UserId::new(99)))
}

pub(crate) fn owned(id: &str, owner: Subject) -> Object {
    let id: SessionKey = id.parse().unwrap();
    Object::Session {
        id,
        place: place(),
        owner,
    }
}

pub(crate) fn t1() -> Object {
    session("s-1")
}

pub(crate) fn t2() -> Object {
    session("s-2")
}

pub(crate) fn model() -> Object {
    Object::Model {
        id: "fld_m".parse().unwrap(),
        place: place(),
    }
}

pub(crate) fn folder() -> Object {
    Object::Folder {
        id: "fld_f".parse().unwrap(),
        place: place(),
    }
}

pub(crate) const QUEUE: QueueKey = QueueKey::Group(GroupId::new(1));

pub(crate) const fn queue() -> Object {
    Object::Queue {
        id: QUEUE,
        open: true,
    }
}

pub(crate) fn task(id: u64, member: u32) -> Resource {
    Resource::Session(SessionKey {
        session: SessionId(id),
        member: Some(member),
    })
}

pub(crate) fn rule(id: u128, who: Subject, level: RuleLevel, resource: Resource) -> Rule {
    Rule {
        id: AccessRuleId::new(id),
        resource,
        level,
        subjects: BTreeSet::from([who]),
        default: false,
    }
}

/// Rules written as `(subject, level, resource)`, with the ids 1, 2, ….
pub(crate) fn book<const N: usize>(rules: [(Subject, RuleLevel, Resource); N]) -> RuleBook {
    let number = |(index, (who, level, resource))| rule(index as u128 + 1, who, level, resource);
    RuleBook::new(rules.into_iter().enumerate().map(number))
}

pub(crate) const fn alice() -> Subject {
    Subject::User(ALICE)
}

/// What a caller has on each of some objects.
pub(crate) fn levels<const N: usize>(
    book: &RuleBook,
    caller: &Caller,
    objects: [Object; N],
) -> [Level; N] {
    objects.map(|object| {
        let full = book.effective(caller, &object);
        assert_eq!(full.level, book.level(caller, &object), "{object:?}");
        full.level
    })
}
