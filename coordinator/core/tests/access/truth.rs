//! The truth table of access rules, row by row.

use super::world::{
    ALICE, BOB, BUILTIN, P, QUEUE, TEAM, account, alice, book, folder, levels, model, person,
    place, project, queue, rule, service, session, t1, t2, task,
};
use longshore_common::ids::{AccessRuleId, GroupId, SessionId};
use longshore_core::access::Level::{None, Ro, Rw};
use longshore_core::access::rules::{QueueKey, SessionKey, Submission, may_submit};
use longshore_core::access::{
    Caller, Decision, Intent, Object, Operation, Resource, Rule, RuleBook, RuleLevel, Sight,
    Subject, Target, Why, decide,
};

const RO: RuleLevel = RuleLevel::Ro;
const RW: RuleLevel = RuleLevel::Rw;

fn on_p() -> Resource {
    Resource::Project(P)
}

#[test]
fn row_1_the_factory_rule_opens_own_projects_and_every_queue() {
    let book = RuleBook::new([Rule::factory(AccessRuleId::new(1), BUILTIN.users)]);
    let all = [project(), t1(), model(), folder(), queue()];
    assert_eq!(levels(&book, &person(BOB).call(), all), [Rw; 5]);
    let outside = person(BOB).without_projects().call();
    let all = [project(), t1(), model(), folder(), queue()];
    assert_eq!(levels(&book, &outside, all), [None, None, None, None, Rw]);
    let closed = Object::Queue {
        id: QUEUE,
        open: false,
    };
    assert_eq!(levels(&book, &person(BOB).call(), [closed]), [None]);
}

#[test]
fn row_2_without_rules_there_is_nothing() {
    let book = RuleBook::default();
    let all = [project(), t1(), model(), folder(), queue()];
    assert_eq!(levels(&book, &person(ALICE).call(), all), [None; 5]);
}

#[test]
fn rows_3_and_4_a_rule_on_a_project_reaches_inside_and_only_for_its_subjects() {
    let book = book([(alice(), RO, on_p())]);
    let all = [project(), t1(), model(), folder(), queue()];
    assert_eq!(
        levels(&book, &person(ALICE).call(), all),
        [Ro, Ro, Ro, Ro, None]
    );
    assert_eq!(levels(&book, &person(BOB).call(), [t1()]), [None]);
}

#[test]
fn row_5_a_rule_on_a_session_opens_it_and_the_name_of_its_project() {
    let book = book([(alice(), RW, t1().resource())]);
    let alice = person(ALICE).call();
    assert_eq!(
        levels(&book, &alice, [t1(), t2(), project()]),
        [Rw, None, None]
    );
    let children = [t1(), t2()];
    assert_eq!(book.sight(&alice, &project(), &children), Sight::NameOnly);
    assert_eq!(book.sight(&alice, &project(), [&t2()]), Sight::Nothing);
    assert_eq!(book.sight(&alice, &t1(), []), Sight::Open(RW));
    let bob = person(BOB).call();
    assert_eq!(book.sight(&bob, &project(), &children), Sight::Nothing);
}

#[test]
fn rows_6_and_7_the_greater_level_counts_wherever_it_stands() {
    let wide = book([(alice(), RO, on_p()), (alice(), RW, t1().resource())]);
    let alice_ = person(ALICE).call();
    assert_eq!(levels(&wide, &alice_, [t1(), t2()]), [Rw, Ro]);
    let narrow = book([(alice(), RW, on_p()), (alice(), RO, t1().resource())]);
    assert_eq!(levels(&narrow, &alice_, [t1()]), [Rw]);
}

#[test]
fn rows_8_to_10_taking_a_rule_or_group_away_takes_only_what_it_gave() {
    let mut eight = book([(Subject::Group(TEAM), RO, on_p()), (alice(), RW, on_p())]);
    let alice = person(ALICE).of(TEAM).call();
    assert_eq!(levels(&eight, &alice, [t1()]), [Rw]);

    let mut ten = eight.clone();
    for (id, rest) in eight.without(Subject::Group(TEAM)) {
        assert_eq!(rest, Option::None);
        ten.remove(id);
    }
    let left = person(ALICE).call();
    assert_eq!(levels(&ten, &left, [t1()]), [Rw]);

    eight.remove(AccessRuleId::new(2));
    assert_eq!(levels(&eight, &alice, [t1()]), [Ro]);
}

#[test]
fn rows_11_and_12_arrays_hand_down_and_members_do_not_hand_up() {
    let array = Resource::Session(SessionKey::whole(SessionId(42)));
    let eleven = book([(alice(), RW, array)]);
    let alice_ = person(ALICE).call();
    let three = || [session("s-42.7"), session("s-42.8"), session("s-42")];
    assert_eq!(levels(&eleven, &alice_, three()), [Rw; 3]);

    let twelve = book([(alice(), RW, task(42, 7))]);
    assert_eq!(levels(&twelve, &alice_, three()), [Rw, None, None]);
    let members = [session("s-42.7")];
    let sight = |object| twelve.sight(&alice_, &object, &members);
    assert_eq!(sight(session("s-42")), Sight::NameOnly);
    assert_eq!(sight(session("s-42.8")), Sight::Nothing);
    assert_eq!(sight(session("s-4")), Sight::Nothing);
    assert_eq!(sight(project()), Sight::NameOnly);
}

#[test]
fn rows_13_and_14_admins_have_the_domain_but_not_its_queues() {
    let book = RuleBook::default();
    let admin = person(ALICE).of(BUILTIN.admins).without_projects().call();
    assert_eq!(levels(&book, &admin, [project(), t1()]), [Rw; 2]);
    for operation in queue_operations() {
        for target in queue_targets() {
            let decision = decide(operation, &admin, &target);
            assert_eq!(decision, Decision::Forbidden(Why::NotPermitted));
        }
    }
}

fn queue_operations() -> [Operation; 3] {
    [
        Operation::QueueCreate,
        Operation::QueueRename,
        Operation::QueueDelete,
    ]
}

fn queue_targets() -> [Target; 3] {
    [
        Target::collection().intent(Intent::Create),
        Target::shared(),
        Target::shared().level(Rw),
    ]
}

#[test]
fn row_15_queue_admins_create_rename_and_delete_queues() {
    let callers = [
        person(ALICE).of(BUILTIN.queue_admins).call(),
        service(|a| a.groups = [BUILTIN.queue_admins].into()),
    ];
    for caller in &callers {
        for operation in queue_operations() {
            for target in queue_targets() {
                assert!(decide(operation, caller, &target).is_allowed());
            }
        }
    }
}

#[test]
fn row_16_a_project_is_no_queue() {
    let svc = Caller::account(account(), &BUILTIN);
    let who = svc.who().subject().unwrap();
    let sixteen = book([(who, RW, on_p())]);
    assert_eq!(levels(&sixteen, &svc, [t1(), queue()]), [Rw, None]);
    // Binding a queue to an account asks for read & modify.
    assert!(sixteen.require(&svc, &queue(), Rw).is_err());
}

#[test]
fn rows_17_and_18_an_account_in_a_users_name_has_the_users_rules_and_no_office() {
    let book = book([(alice(), RW, on_p())]);
    let svc = service(|a| a.allow_impersonation = true);
    let for_alice = svc.on_behalf_of(&person(ALICE).call(), &BUILTIN).unwrap();
    assert_eq!(levels(&book, &for_alice, [t1()]), [Rw]);
    assert_eq!(levels(&book, &svc, [t1()]), [None]);

    let root = person(BOB).role(longshore_core::access::Role::Superadmin);
    let for_root = svc.on_behalf_of(&root.call(), &BUILTIN).unwrap();
    assert_eq!(levels(&book, &for_root, [t1()]), [None]);
    for operation in [
        Operation::UserCreate,
        Operation::AgentWrite,
        Operation::AccessWrite,
        Operation::UserList,
    ] {
        let decision = decide(operation, &for_root, &Target::collection());
        assert_eq!(decision, Decision::Forbidden(Why::NotOnBehalf));
    }
}

#[test]
fn row_19_a_queue_that_may_be_read_is_listed_and_takes_nothing() {
    let nineteen = book([(alice(), RO, Resource::Queue(QUEUE)), (alice(), RW, on_p())]);
    let alice_ = person(ALICE).call();
    assert_eq!(levels(&nineteen, &alice_, [queue(), project()]), [Ro, Rw]);
    let listed = decide(
        Operation::QueueRead,
        &alice_,
        &Target::shared().level(nineteen.level(&alice_, &queue())),
    );
    assert!(listed.is_allowed());

    let submit = |book: &RuleBook, queue: &Object, mounts: &[_]| {
        let submission = Submission {
            project: &project(),
            queue,
            mounts,
        };
        may_submit(book, &alice_, &submission)
            .map_err(|lacks| lacks.iter().map(|l| l.decision()).collect::<Vec<_>>())
    };
    let refused = submit(&nineteen, &queue(), &[]).unwrap_err();
    assert_eq!(refused, [Decision::Forbidden(Why::ReadOnly)]);
    assert_eq!(Why::ReadOnly.code(), "LS-READ-ONLY");

    // A queue that is not seen does not exist; a mount needs the level it is mounted with.
    let other = Object::Queue {
        id: QueueKey::Group(GroupId::new(2)),
        open: true,
    };
    let refused = submit(&nineteen, &other, &[(model(), Rw)]).unwrap_err();
    assert_eq!(refused, [Decision::Hidden(Why::OutOfReach)]);
    let only_read = book([
        (
            alice(),
            RW,
            Resource::All(longshore_core::access::rules::Kind::Queue),
        ),
        (alice(), RO, on_p()),
    ]);
    let refused = submit(&only_read, &queue(), &[(model(), Ro), (folder(), Rw)]);
    assert_eq!(
        refused.unwrap_err(),
        [Decision::Forbidden(Why::ReadOnly); 2]
    );
}

#[test]
fn row_20_a_rule_sleeps_until_there_is_membership() {
    let rule = rule(1, alice(), RW, on_p());
    let outside = person(ALICE).without_projects().call();
    let members = |who| who != alice();
    assert_eq!(rule.outsiders(members), [alice()], "the warning");
    assert_eq!(rule.outsiders(|_| true), []);
    let book = RuleBook::new([rule]);
    assert_eq!(levels(&book, &outside, [project(), t1()]), [None; 2]);
    assert_eq!(levels(&book, &person(ALICE).call(), [project()]), [Rw]);
    assert_eq!(place().project, P);
}
