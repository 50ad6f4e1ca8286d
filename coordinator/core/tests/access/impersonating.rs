//! Acting in a user's name.

use super::world::{ALICE, BUILTIN, ELSEWHERE, P, TEAM, account, person, project, rule, service};
use longshore_core::access::{
    Caller, Column, Decision, Level, Operation, Resource, Role, RuleBook, RuleLevel, Subject,
    Target, Why, decide,
};

fn able() -> Caller {
    service(|a| a.allow_impersonation = true)
}

#[test]
fn the_user_comes_without_offices() {
    let user = person(ALICE)
        .role(Role::Superadmin)
        .administers(P)
        .of(TEAM)
        .of(BUILTIN.admins)
        .of(BUILTIN.queue_admins)
        .call();
    let acting = able().on_behalf_of(&user, &BUILTIN).unwrap();
    assert_eq!(Column::of(&acting), Column::User);
    assert_eq!(acting.who(), user.who());
    assert_eq!(acting.submitted_by(), Some(account().id));
    assert!(!acting.in_admins() && !acting.in_queue_admins());
    // Nor does a rule that names the office reach it; one that names another group does.
    let by = |group| {
        let on_p = Resource::Project(P);
        RuleBook::new([rule(1, Subject::Group(group), RuleLevel::Rw, on_p)])
    };
    for (group, level) in [
        (BUILTIN.admins, Level::None),
        (BUILTIN.queue_admins, Level::None),
        (TEAM, Level::Rw),
        (BUILTIN.users, Level::Rw),
    ] {
        assert_eq!(by(group).level(&acting, &project()), level, "{group}");
    }
}

#[test]
fn only_sessions_folders_and_models() {
    let acting = able()
        .on_behalf_of(&person(ALICE).call(), &BUILTIN)
        .unwrap();
    let target = Target::object()
        .level(Level::Rw)
        .owned_by(Subject::User(ALICE));
    for &operation in Operation::ALL {
        let decision = decide(operation, &acting, &target);
        match operation.noun() {
            "session" | "folder" | "model" => assert!(decision.is_allowed(), "{operation}"),
            _ if operation.is_open() => (),
            _ => assert_eq!(
                decision,
                Decision::Forbidden(Why::NotOnBehalf),
                "{operation}"
            ),
        }
    }
}

#[test]
fn who_may_not_is_told_so() {
    let alice = person(ALICE).call();
    let refused = |by: &Caller, user: &Caller| by.on_behalf_of(user, &BUILTIN).unwrap_err();
    assert_eq!(refused(&service(|_| ()), &alice), Why::MayNotImpersonate);
    assert_eq!(refused(&alice, &alice), Why::NoServiceAccount);
    assert_eq!(refused(&Caller::anonymous(), &alice), Why::NoServiceAccount);
    let off = person(ALICE).inactive().call();
    assert_eq!(refused(&able(), &off), Why::NobodyToActFor);
    let away = person(ALICE).in_domain(ELSEWHERE).call();
    assert_eq!(refused(&able(), &away), Why::NobodyToActFor);
    assert_eq!(refused(&able(), &able()), Why::NobodyToActFor);
    assert_eq!(refused(&able(), &Caller::anonymous()), Why::NobodyToActFor);
    let once = able().on_behalf_of(&alice, &BUILTIN).unwrap();
    assert_eq!(refused(&able(), &once), Why::NobodyToActFor);
    assert_eq!(refused(&once, &alice), Why::NoServiceAccount);
    let switched_off = service(|a| {
        a.allow_impersonation = true;
        a.active = false;
    });
    assert_eq!(refused(&switched_off, &alice), Why::MayNotImpersonate);
    assert_eq!(Why::MayNotImpersonate.code(), "LS-IMPERSONATION");
}
