//! The table in code against one that was written apart from it, `table.txt`.

use super::world::{ALICE, BUILTIN, P, person, service};
use longshore_core::access::operation::matrix;
use longshore_core::access::{Caller, Case, Column, Operation, Reach, Role, rights};
use std::collections::BTreeSet;

#[test]
fn is_that_of_the_specification() {
    let ours = matrix();
    let theirs = include_str!("table.txt");
    assert_eq!(ours.lines().next(), theirs.lines().next());
    let ours: BTreeSet<&str> = ours.lines().collect();
    let theirs: BTreeSet<&str> = theirs.lines().collect();
    let only = |a: &BTreeSet<&str>, b: &BTreeSet<&str>| -> String {
        let lines: Vec<&str> = a.difference(b).copied().collect();
        lines.join("\n")
    };
    assert_eq!(only(&ours, &theirs), "", "only in the code");
    assert_eq!(only(&theirs, &ours), "", "only in table.txt");
}

#[test]
fn every_operation_prints_and_parses() {
    let mut seen = BTreeSet::new();
    for &operation in Operation::ALL {
        let text = operation.to_string();
        assert_eq!(text.parse(), Ok(operation));
        assert!(seen.insert(text.clone()), "{text} stands twice");
        let word = |c: char| c.is_ascii_lowercase() || c == '_';
        let (noun, verb) = text.split_once('.').unwrap();
        assert!(noun.chars().all(word) && verb.chars().all(word), "{text}");
        assert_eq!(operation.noun(), noun);
    }
    assert!("user.delete".parse::<Operation>().is_err());
    assert!("".parse::<Operation>().is_err());
}

#[test]
fn callers_stand_in_one_column() {
    let alice = || person(ALICE);
    for (caller, column) in [
        (Caller::anonymous(), Column::Anonymous),
        (alice().call(), Column::User),
        (alice().administers(P).call(), Column::ProjectAdmin),
        (alice().role(Role::Monitor).call(), Column::Monitor),
        (
            alice().role(Role::Monitor).administers(P).call(),
            Column::Monitor,
        ),
        (alice().role(Role::DomainAdmin).call(), Column::DomainAdmin),
        (alice().role(Role::Superadmin).call(), Column::Superadmin),
        (service(|_| ()), Column::ServiceAccount),
        (service(|a| a.admin = true), Column::DomainAdmin),
        (alice().of(BUILTIN.admins).call(), Column::User),
    ] {
        assert_eq!(Column::of(&caller), column, "{caller:?}");
    }
}

#[test]
fn a_case_an_operation_does_not_know_reaches_nowhere() {
    assert_eq!(
        Operation::UserRead.cell(Case::LockedVault, Column::Superadmin),
        Reach::None
    );
    // An invitation is one or the other; unsaid, it is the stricter one.
    let cell = |case| Operation::InvitationWrite.cell(case, Column::DomainAdmin);
    assert_eq!(cell(Case::Plain), Reach::None);
    assert_eq!(cell(Case::NewPerson), Reach::None);
    assert_eq!(cell(Case::ExistingUser), Reach::Domain);
}

#[test]
fn rights_are_for_menus() {
    let names = |caller: &Caller| -> Vec<String> {
        let all = rights(caller).into_iter();
        all.map(|(o, reach)| format!("{o} {reach}")).collect()
    };
    let nobody = names(&Caller::anonymous());
    assert_eq!(nobody.len(), 7, "{nobody:?}");
    let monitor = names(&person(ALICE).role(Role::Monitor).call());
    for has in ["session.read read dom", "me.update own", "me.keypairs own"] {
        assert!(monitor.iter().any(|m| m == has), "{has}");
    }
    for no in [
        "session.create",
        "project.leave",
        "session.reach",
        "access.write",
    ] {
        assert!(!monitor.iter().any(|m| m.starts_with(no)), "{no}");
    }
    let root = rights(&person(ALICE).role(Role::Superadmin).call());
    assert_eq!(root.len(), Operation::ALL.len());
    let queues = names(&person(ALICE).of(BUILTIN.queue_admins).call());
    assert!(queues.iter().any(|q| q == "queue.create all"));
}
