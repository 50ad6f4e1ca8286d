//! What rules are: how they are written, what grants what, what a change moves.

use super::world::{
    ALICE, BOB, BUILTIN, ELSEWHERE, LAB, P, R, TEAM, alice, book, folder, levels, model, owned,
    person, place, project, queue, rule, session, t1, t2,
};
use longshore_common::ids::{AccessRuleId, DomainId};
use longshore_core::access::Level::{None, Ro, Rw};
use longshore_core::access::rules::{Kind, Place, Question, Shift, impact};
use longshore_core::access::{
    Object, Reason, Resource, Role, Rule, RuleBook, RuleLevel, Sight, Source, Subject,
};
use std::collections::BTreeSet;

#[test]
fn resources_are_written_as_type_and_id() {
    for (json, text) in [
        (r#"{"type":"*"}"#, "*"),
        (r#"{"type":"project"}"#, "all projects"),
        (r#"{"type":"session","id":"s-42.7"}"#, "session s-42.7"),
        (r#"{"type":"session","id":"s-42"}"#, "session s-42"),
        (r#"{"type":"queue","id":"Dev/4x"}"#, "queue Dev/4x"),
        (
            r#"{"type":"queue","id":"rgp_aaaaaaaaaaaaaaaaaaaaaaaaab"}"#,
            "queue rgp_aaaaaaaaaaaaaaaaaaaaaaaaab",
        ),
        (r#"{"type":"folder","id":"fld_x"}"#, "folder fld_x"),
    ] {
        let resource: Resource = serde_json::from_str(json).unwrap();
        assert_eq!(resource.to_string(), text);
        assert_eq!(serde_json::to_string(&resource).unwrap(), json);
    }
    let long = format!(r#"{{"type":"model","id":"{}"}}"#, "x".repeat(65));
    for bad in [
        r#"{"type":"*","id":"s-1"}"#,
        r#"{"type":"agent"}"#,
        r#"{"type":"project","id":"usr_aaaaaaaaaaaaaaaaaaaaaaaaaa"}"#,
        r#"{"type":"session","id":"s-42."}"#,
        r#"{"type":"session","id":"s-42.07"}"#,
        r#"{"type":"session","id":"s-42.7.1"}"#,
        r#"{"type":"session","id":"s-42.4294967296"}"#,
        r#"{"type":"folder","id":""}"#,
        r#"{"type":"folder","id":"a\nb"}"#,
        r#"{"type":"folder","name":"x"}"#,
        &long,
    ] {
        assert!(serde_json::from_str::<Resource>(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_rule_survives_json() {
    let json = r#"{"id":"acr_aaaaaaaaaaaaaaaaaaaaaaaaab","resource":{"type":"*"},"level":"rw","subjects":["grp_aaaaaaaaaaaaaaaaaaaaaaaaab"],"default":true}"#;
    let rule = Rule::factory(AccessRuleId::new(1), BUILTIN.users);
    assert_eq!(serde_json::to_string(&rule).unwrap(), json);
    assert_eq!(serde_json::from_str::<Rule>(json).unwrap(), rule);
    assert!(serde_json::from_str::<Rule>(&json.replace("rw", "none")).is_err());
}

#[test]
fn chains_climb_to_everything() {
    let chain = |object: Object| -> Vec<String> {
        object.chain().iter().map(ToString::to_string).collect()
    };
    let p = format!("project {P}");
    assert_eq!(
        chain(session("s-42.7")),
        [
            "session s-42.7",
            "session s-42",
            &p,
            "all sessions",
            "all projects",
            "*"
        ]
    );
    assert_eq!(chain(project()), [&p, "all projects", "*"]);
    assert_eq!(
        chain(folder()),
        ["folder fld_f", &p, "all folders", "all projects", "*"]
    );
    assert_eq!(
        chain(queue())[1..],
        ["all queues".to_owned(), "*".to_owned()]
    );
}

#[test]
fn every_level_of_the_chain_grants() {
    let caller = person(ALICE).call();
    let kinds = [
        (Kind::Session, [None, Ro, None, None, None]),
        (Kind::Model, [None, None, Ro, None, None]),
        (Kind::Folder, [None, None, None, Ro, None]),
        (Kind::Queue, [None, None, None, None, Ro]),
        (Kind::Project, [Ro, Ro, Ro, Ro, None]),
    ];
    for (kind, expected) in kinds {
        let book = book([(alice(), RuleLevel::Ro, Resource::All(kind))]);
        let all = [project(), t1(), model(), folder(), queue()];
        assert_eq!(levels(&book, &caller, all), expected, "{kind:?}");
    }
}

#[test]
fn via_lists_every_grant() {
    let book = book([
        (
            Subject::Group(BUILTIN.users),
            RuleLevel::Ro,
            Resource::Everything,
        ),
        (alice(), RuleLevel::Ro, t1().resource()),
        (Subject::Group(TEAM), RuleLevel::Rw, Resource::Project(P)),
        (alice(), RuleLevel::Rw, t2().resource()),
    ]);
    let caller = person(ALICE)
        .of(TEAM)
        .of(BUILTIN.admins)
        .role(Role::DomainAdmin)
        .call();
    let had = book.effective(&caller, &owned("s-1", alice()));
    let via: Vec<String> = had
        .via
        .iter()
        .map(|v| {
            let source = match v.source {
                Source::Implied(reason) => reason.as_str().to_owned(),
                Source::Rule(id) => format!("rule {}", id.bits()),
            };
            format!("{source}: {} {:?}", v.resource, v.level)
        })
        .collect();
    let on_p = format!("rule 3: project {P} Rw");
    assert_eq!(
        via,
        [
            "owner: session s-1 Rw",
            "role: session s-1 Rw",
            "admins: session s-1 Rw",
            "rule 2: session s-1 Ro",
            &on_p,
            "rule 1: * Ro",
        ]
    );
    assert_eq!(had.via[4].subject, Subject::Group(TEAM));
}

#[test]
fn what_is_granted_without_a_rule() {
    let none = RuleBook::default();
    let all = || [project(), t1(), model(), folder(), queue()];
    let as_role = |role| person(BOB).without_projects().role(role);
    assert_eq!(
        levels(&none, &as_role(Role::Superadmin).call(), all()),
        [Rw; 5]
    );
    assert_eq!(
        levels(&none, &as_role(Role::DomainAdmin).call(), all()),
        [Rw; 5]
    );
    assert_eq!(
        levels(&none, &as_role(Role::Monitor).call(), all()),
        [Ro; 5]
    );
    for role in [Role::DomainAdmin, Role::Monitor] {
        let elsewhere = as_role(role).in_domain(ELSEWHERE).call();
        let inside = [project(), t1(), model(), folder()];
        assert_eq!(levels(&none, &elsewhere, inside), [None; 4]);
    }
    let admins = as_role(Role::User).of(BUILTIN.admins);
    let elsewhere = admins.clone().in_domain(ELSEWHERE).call();
    assert_eq!(levels(&none, &admins.call(), all()), [Rw; 5]);
    assert_eq!(levels(&none, &elsewhere, [t1()]), [None]);
    // A queue that is closed to one is in nobody's domain.
    let closed = || Object::Queue {
        id: super::world::QUEUE,
        open: false,
    };
    let domain_admin = as_role(Role::DomainAdmin).call();
    assert_eq!(levels(&none, &domain_admin, [closed()]), [None]);
    assert_eq!(
        levels(&none, &as_role(Role::Superadmin).call(), [closed()]),
        [Rw]
    );
    // The owner, as long as there is membership.
    let mine = || owned("s-5", alice());
    assert_eq!(levels(&none, &person(ALICE).call(), [mine()]), [Rw]);
    assert_eq!(levels(&none, &person(BOB).call(), [mine()]), [None]);
    let left = person(ALICE).without_projects().call();
    assert_eq!(levels(&none, &left, [mine()]), [None]);
}

#[test]
fn who_is_switched_off_has_nothing() {
    let book = RuleBook::new([Rule::factory(AccessRuleId::new(1), BUILTIN.users)]);
    for role in [
        Role::User,
        Role::Monitor,
        Role::DomainAdmin,
        Role::Superadmin,
    ] {
        let caller = person(ALICE)
            .role(role)
            .of(BUILTIN.admins)
            .inactive()
            .call();
        let mine = owned("s-5", alice());
        assert_eq!(
            levels(&book, &caller, [project(), mine, queue()]),
            [None; 3]
        );
    }
}

#[test]
fn personal_folders_stand_outside_the_tree() {
    let book = book([
        (alice(), RuleLevel::Rw, Resource::Everything),
        (alice(), RuleLevel::Rw, Resource::All(Kind::Folder)),
        (
            alice(),
            RuleLevel::Rw,
            Resource::Folder("fld_p".parse().unwrap()),
        ),
    ]);
    let of = |owner, shared| Object::PersonalFolder {
        id: "fld_p".parse().unwrap(),
        owner,
        shared,
    };
    let bobs = Subject::User(BOB);
    let caller = person(ALICE)
        .role(Role::Superadmin)
        .of(BUILTIN.admins)
        .call();
    assert_eq!(
        levels(
            &book,
            &caller,
            [of(bobs, None), of(bobs, Ro), of(alice(), None)]
        ),
        [None, Ro, Rw]
    );
    let had = book.effective(&caller, &of(bobs, Ro));
    assert_eq!(had.via.len(), 1);
    assert_eq!(had.via[0].source, Source::Implied(Reason::Share));
}

#[test]
fn a_rule_is_of_the_domain_that_all_of_it_lies_in() {
    let of_subject = |subject| match subject {
        Subject::User(ALICE) => Some(LAB),
        Subject::User(BOB) => Some(ELSEWHERE),
        _ => Option::None::<DomainId>,
    };
    let on = |resource| rule(1, alice(), RuleLevel::Rw, resource);
    let inside = on(Resource::Project(P));
    assert_eq!(inside.domain(of_subject, Some(LAB)), Some(LAB));
    assert_eq!(inside.domain(of_subject, Some(ELSEWHERE)), Option::None);
    assert_eq!(inside.domain(of_subject, Option::None), Option::None);
    let wide = on(Resource::Everything);
    assert_eq!(wide.domain(of_subject, Option::None), Some(LAB));
    let mut both = on(Resource::Everything);
    both.subjects.insert(Subject::User(BOB));
    assert_eq!(both.domain(of_subject, Option::None), Option::None);
    let factory = Rule::factory(AccessRuleId::new(1), BUILTIN.users);
    assert_eq!(factory.domain(of_subject, Option::None), Option::None);
    let mut empty = on(Resource::Everything);
    empty.subjects.clear();
    assert_eq!(empty.domain(of_subject, Option::None), Option::None);
}

#[test]
fn a_deleted_object_and_a_deleted_subject_leave_nothing_behind() {
    let mut shared = rule(1, alice(), RuleLevel::Rw, t1().resource());
    shared.subjects.insert(Subject::Group(TEAM));
    let mut book = RuleBook::new([
        shared,
        rule(2, Subject::Group(TEAM), RuleLevel::Ro, Resource::Project(P)),
        rule(3, alice(), RuleLevel::Ro, t1().resource()),
    ]);
    let id = AccessRuleId::new;
    assert_eq!(book.on(&t1().resource()), BTreeSet::from([id(1), id(3)]));
    assert_eq!(book.on(&t2().resource()), BTreeSet::new());
    let caller = person(ALICE).of(TEAM).call();
    let named = book.named_for(caller.subjects());
    assert_eq!(
        named,
        BTreeSet::from([&t1().resource(), &project().resource()])
    );

    let gone = book.without(Subject::Group(TEAM));
    assert_eq!(gone.len(), 2);
    assert_eq!(
        gone[0].1.as_ref().map(|r| r.subjects.clone()),
        Some(BTreeSet::from([alice()]))
    );
    assert_eq!(gone[1], (id(2), Option::None));
    for (id, rest) in gone {
        book.remove(id);
        if let Some(rest) = rest {
            book.add(rest);
        }
    }
    assert!(book.without(Subject::Group(TEAM)).is_empty());
    assert_eq!(book.len(), 2);
}

#[test]
fn an_impact_says_who_gains_and_who_loses() {
    let (alice_, bob) = (person(ALICE).of(TEAM).call(), person(BOB).call());
    let before = book([(Subject::Group(TEAM), RuleLevel::Rw, Resource::Project(P))]);
    let after = book([(Subject::User(BOB), RuleLevel::Ro, t1().resource())]);
    let alone = person(ALICE).call();
    let objects = [t1(), t2()];
    let questions = || {
        let people = [(&alice_, &alone), (&bob, &bob)];
        people.into_iter().flat_map(|(before, after)| {
            let ask = move |object| Question {
                before,
                after,
                object,
            };
            objects.iter().map(ask)
        })
    };
    let shift = |subject, object: Object, from, to| Shift {
        subject,
        resource: object.resource(),
        from,
        to,
    };
    let moved = impact(&before, &after, questions());
    assert_eq!(moved.gains, [shift(Subject::User(BOB), t1(), None, Ro)]);
    assert_eq!(
        moved.loses,
        [
            shift(alice(), t1(), Rw, None),
            shift(alice(), t2(), Rw, None)
        ]
    );
    // Leaving the group alone is enough to lose.
    let moved = impact(&before, &before, questions());
    assert_eq!(moved.loses.len(), 2);
    assert!(moved.gains.is_empty());
}

#[test]
fn only_what_lies_inside_opens_a_name() {
    let book = book([(alice(), RuleLevel::Ro, Resource::All(Kind::Session))]);
    let caller = person(ALICE).call();
    let other = Object::Project(Place {
        project: R,
        ..place()
    });
    assert_eq!(book.sight(&caller, &project(), [&t1()]), Sight::NameOnly);
    assert_eq!(book.sight(&caller, &other, [&t1()]), Sight::Nothing);
    assert_eq!(book.sight(&caller, &queue(), [&t1()]), Sight::Nothing);
}
