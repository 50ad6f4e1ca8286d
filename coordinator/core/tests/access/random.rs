//! The index of rules against a scan of all of them, and what must hold for any rules.

use super::world::{BUILTIN, LAB, P, R, SVC, person, service};
use longshore_common::ids::{AccessRuleId, GroupId, ProjectId, UserGroupId, UserId};
use longshore_core::access::rules::{Kind, Place, QueueKey, SessionKey};
use longshore_core::access::{
    Caller, Level, Membership, Object, Resource, Role, Rule, RuleBook, RuleLevel, Source, Subject,
};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;

fn keys() -> Vec<SessionKey> {
    let all = ["s-1", "s-42", "s-42.7", "s-42.8"];
    all.map(|k| k.parse().unwrap()).to_vec()
}

fn subjects() -> Vec<Subject> {
    let users = (1..4).map(|u| Subject::User(UserId::new(u)));
    let groups = (10..16).map(|g| Subject::Group(UserGroupId::new(g)));
    let fixed = [
        Subject::Group(BUILTIN.users),
        Subject::Group(BUILTIN.admins),
        Subject::Account(SVC),
    ];
    users.chain(groups).chain(fixed).collect()
}

fn resources() -> Vec<Resource> {
    use Kind::{Folder, Model, Project, Queue, Session};
    let kinds = [Project, Session, Model, Folder, Queue];
    let mut all: Vec<Resource> = kinds.into_iter().map(Resource::All).collect();
    all.push(Resource::Everything);
    all.extend([P, R].map(Resource::Project));
    all.extend(keys().into_iter().map(Resource::Session));
    // A model and a folder may have one id: it is the same folder in a store.
    all.push(Resource::Model("fld_x".parse().unwrap()));
    all.push(Resource::Folder("fld_x".parse().unwrap()));
    all.push(Resource::Queue(QueueKey::Group(GroupId::new(1))));
    all.push(Resource::Queue("Dev/4x".parse().unwrap()));
    all
}

fn place(project: ProjectId) -> Place {
    Place {
        project,
        domain: LAB,
    }
}

fn objects() -> Vec<Object> {
    let mut all = vec![Object::Project(place(P)), Object::Project(place(R))];
    all.extend(keys().into_iter().map(|id| Object::Session {
        id,
        place: place(P),
        owner: Subject::User(UserId::new(1)),
    }));
    let id = || "fld_x".parse().unwrap();
    all.push(Object::Model {
        id: id(),
        place: place(P),
    });
    all.push(Object::Folder {
        id: id(),
        place: place(R),
    });
    for open in [true, false] {
        all.push(Object::Queue {
            id: QueueKey::Group(GroupId::new(1)),
            open,
        });
        all.push(Object::Queue {
            id: "Dev/4x".parse().unwrap(),
            open,
        });
    }
    all
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let levels = select(vec![RuleLevel::Ro, RuleLevel::Rw]);
    let subjects = btree_set(select(subjects()), 0..5);
    let one = (0_u128..40, select(resources()), levels, subjects);
    let rule = one.prop_map(|(id, resource, level, subjects)| Rule {
        id: AccessRuleId::new(id),
        resource,
        level,
        subjects,
        default: false,
    });
    vec(rule, 0..40)
}

fn callers() -> impl Strategy<Value = Caller> {
    let roles = vec![Role::User, Role::User, Role::Monitor, Role::DomainAdmin];
    let projects = btree_set(select(vec![P, R]), 0..3);
    let groups = btree_set(select(vec![2_u128, 10, 11, 12, 13, 14, 15]), 0..8);
    let who = (0_u128..4, select(roles), any::<bool>(), projects, groups);
    who.prop_map(|(id, role, active, projects, groups)| {
        let groups = groups.into_iter().map(UserGroupId::new).collect();
        if id == 0 {
            return service(|a| {
                a.active = active;
                a.projects = projects;
                a.groups = groups;
            });
        }
        let mut person = person(UserId::new(id)).role(role);
        person.0.active = active;
        let member = |p| (p, Membership::Member);
        person.0.projects = projects.into_iter().map(member).collect();
        person.0.groups = groups;
        person.call()
    })
}

/// Whether a rule on `resource` reaches `object`: written anew, not by way of its chain.
fn covers(resource: &Resource, object: &Object) -> bool {
    let is_queue = matches!(object, Object::Queue { .. });
    match (resource, object) {
        (Resource::Everything, _) => true,
        (Resource::All(Kind::Project), _) => !is_queue,
        (Resource::All(Kind::Session), o) => matches!(o, Object::Session { .. }),
        (Resource::All(Kind::Model), o) => matches!(o, Object::Model { .. }),
        (Resource::All(Kind::Folder), o) => matches!(o, Object::Folder { .. }),
        (Resource::All(Kind::Queue), _) => is_queue,
        (Resource::Project(p), o) => o.place().is_some_and(|place| place.project == *p),
        (Resource::Session(k), Object::Session { id, .. }) => {
            k.session == id.session && (k.member.is_none() || k.member == id.member)
        }
        (Resource::Model(k), Object::Model { id, .. })
        | (Resource::Folder(k), Object::Folder { id, .. }) => k == id,
        (Resource::Queue(k), Object::Queue { id, .. }) => k == id,
        _ => false,
    }
}

/// The greatest level over all rules that speak of it, by walking all of them.
fn scan(rules: &[Rule], caller: &Caller, object: &Object) -> Level {
    if !caller.is_active() {
        return Level::None;
    }
    let member = match (object, object.place()) {
        (Object::Queue { open, .. }, _) => *open,
        (_, Some(place)) => caller.is_member(place.project),
        (_, None) => false,
    };
    let domain = match object {
        Object::Queue { open, .. } => *open,
        _ => true, // everything and everybody is of one domain here
    };
    let mut level = match caller.role() {
        Role::Superadmin => Level::Rw,
        Role::DomainAdmin if domain => Level::Rw,
        Role::Monitor if domain => Level::Ro,
        _ => Level::None,
    };
    if caller.in_admins() && domain {
        level = Level::Rw;
    }
    if let Object::Session { owner, .. } = object
        && caller.is(*owner)
        && member
    {
        level = Level::Rw;
    }
    let named = |r: &&Rule| r.subjects.iter().any(|s| caller.subjects().contains(s));
    let granted = rules.iter().filter(named);
    let granted = granted.filter(|r| member && covers(&r.resource, object));
    granted
        .map(|r| Level::from(r.level))
        .max()
        .map_or(level, |l| l.max(level))
}

/// Of two rules with one id the later counts.
fn distinct(rules: &[Rule]) -> Vec<Rule> {
    RuleBook::new(rules.to_vec()).iter().cloned().collect()
}

proptest! {
    #[test]
    fn the_index_says_what_a_scan_says(rules in rules(), caller in callers()) {
        let book = RuleBook::new(rules.clone());
        let all = distinct(&rules);
        for object in objects() {
            let expected = scan(&all, &caller, &object);
            let had = book.effective(&caller, &object);
            prop_assert_eq!(had.level, expected, "{:?}", object);
            prop_assert_eq!(book.level(&caller, &object), expected);
            // Each grant is one the scan would count, and none is left out.
            let from_rules = had.via.iter().filter(|v| matches!(v.source, Source::Rule(_)));
            let inside = match &object {
                Object::Queue { open, .. } => *open,
                o => o.place().is_some_and(|p| caller.is_member(p.project)),
            };
            let counted: usize = all
                .iter()
                .filter(|r| caller.is_active() && inside && covers(&r.resource, &object))
                .map(|r| r.subjects.iter().filter(|s| caller.subjects().contains(s)).count())
                .sum();
            prop_assert_eq!(from_rules.count(), counted);
        }
    }

    #[test]
    fn one_more_rule_takes_nothing_away(rules in rules(), more in rules(), caller in callers()) {
        let mut book = RuleBook::new(rules);
        for rule in more {
            if book.get(rule.id).is_some() {
                continue; // a changed rule is another matter
            }
            let before: Vec<Level> = objects().iter().map(|o| book.level(&caller, o)).collect();
            book.add(rule);
            for (object, before) in objects().iter().zip(before) {
                prop_assert!(book.level(&caller, object) >= before);
            }
        }
    }

    #[test]
    fn a_narrower_rule_never_lowers_a_wider_one(
        rules in rules(), caller in callers(), narrow in select(objects()),
    ) {
        let mut book = RuleBook::new(rules);
        let above = book.level(&caller, &narrow);
        let subjects = caller.subjects().iter().copied().collect();
        book.add(Rule {
            id: AccessRuleId::new(1000),
            resource: narrow.resource(),
            level: RuleLevel::Ro,
            subjects,
            default: false,
        });
        prop_assert!(book.level(&caller, &narrow) >= above);
    }

    #[test]
    fn adding_and_removing_is_nothing(rules in rules(), more in rules()) {
        let book = RuleBook::new(rules);
        for rule in more {
            let mut changed = book.clone();
            let former = changed.add(rule.clone());
            prop_assert_eq!(changed.get(rule.id), Some(&rule));
            let removed = changed.remove(rule.id);
            prop_assert_eq!(removed, Some(rule));
            if let Some(former) = former {
                changed.add(former);
            }
            prop_assert_eq!(&changed, &book);
        }
    }

    #[test]
    fn the_order_of_rules_does_not_matter(rules in rules()) {
        let book = RuleBook::new(rules.clone());
        let mut backwards = distinct(&rules);
        backwards.reverse();
        prop_assert_eq!(&RuleBook::new(backwards), &book);
        for resource in resources() {
            let on: Vec<_> = book
                .iter()
                .filter(|r| r.resource == resource && !r.subjects.is_empty())
                .map(|r| r.id)
                .collect();
            prop_assert_eq!(book.on(&resource).into_iter().collect::<Vec<_>>(), on);
        }
    }
}
