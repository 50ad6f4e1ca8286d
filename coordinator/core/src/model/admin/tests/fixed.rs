//! People that stand in the configuration.

use super::*;
use crate::model::admin::{AccountVerb, FixedOrder, FixedUser};
use crate::model::{Membership, Origin, UserStatus, audited, react};

fn listed(name: &str) -> FixedUser {
    FixedUser {
        id: UserId::new(100 + u128::from(name.as_bytes()[0])),
        username: name.to_owned(),
        full_name: String::new(),
        email: format!("{name}@fixed.invalid"),
        role: None,
        domain: None,
        projects: None,
        access_key: format!("LSFIXED{name}"),
    }
}

fn list(users: Vec<FixedUser>) -> FixedOrder {
    FixedOrder {
        enabled: true,
        deactivate_missing: true,
        users,
    }
}

/// A start with this list; how much it changed.
fn start(world: &mut World, order: FixedOrder) -> Result<usize, Refusal> {
    let (mut changes, mut effects) = (Vec::new(), Vec::new());
    let event = Event::FixedUsers(Box::new(order));
    let told = world.core.happen(&event, NOW, &mut changes, &mut effects);
    told.map(|_| changes.len())
}

fn user<'a>(world: &'a World, name: &str) -> &'a User {
    world.core.state().user_of_name(name).unwrap()
}

#[test]
fn who_is_not_there_is_made_and_a_second_start_writes_nothing() {
    let mut world = World::new();
    let order = list(vec![FixedUser {
        role: Some("monitor".to_owned()),
        projects: Some(vec!["vision".to_owned()]),
        ..listed("jane")
    }]);
    assert!(start(&mut world, order.clone()).unwrap() > 0);
    let jane = user(&world, "JANE");
    assert_eq!((jane.id, jane.source), (order.users[0].id, Origin::Fixed));
    assert_eq!((jane.role, jane.uid), (Role::Monitor, 20_003));
    assert!(jane.is_member(ProjectId::new(2)) && jane.password.is_none());
    assert!(world.core.state().is_fixed(jane.id));
    assert_eq!(user_view(world.core.state(), jane).source, "fixed");
    let key = world.core.state().main_keypair(jane.id).unwrap();
    assert_eq!(key.secret_sha256, None);
    assert_eq!(start(&mut world, order), Ok(0));
}

#[test]
fn who_is_there_is_linked_and_kept_as_the_list_says() {
    let mut world = World::new();
    let alice = FixedUser {
        role: Some("monitor".to_owned()),
        domain: Some("other".to_owned()),
        projects: Some(Vec::new()),
        ..listed("Alice")
    };
    start(&mut world, list(vec![alice.clone()])).unwrap();
    let linked = user(&world, "alice");
    assert_eq!((linked.id, linked.source), (UserId::new(2), Origin::Local));
    assert_eq!(linked.email, "alice@lab.example");
    assert_eq!(
        (linked.role, linked.domain),
        (Role::Monitor, DomainId::new(2))
    );
    assert!(linked.projects.is_empty());
    // What an administrator changed meanwhile, the list takes back.
    let mut other = linked.clone();
    other.role = Role::User;
    world.take(&[Change::User(Box::new(other))]);
    start(&mut world, list(vec![alice])).unwrap();
    assert_eq!(user(&world, "alice").role, Role::Monitor);
    // What it does not say stays.
    start(&mut world, list(vec![listed("alice")])).unwrap();
    assert_eq!(user(&world, "alice").role, Role::Monitor);
}

#[test]
fn who_leaves_the_list_is_switched_off_and_on_when_back() {
    let mut world = World::new();
    let both = || list(vec![listed("jane"), listed("alice")]);
    start(&mut world, both()).unwrap();
    let kept = FixedOrder {
        deactivate_missing: false,
        ..list(vec![listed("alice")])
    };
    start(&mut world, kept).unwrap();
    assert!(user(&world, "jane").is_active());
    start(&mut world, list(vec![listed("alice")])).unwrap();
    assert_eq!(user(&world, "jane").status, UserStatus::Inactive);
    start(&mut world, list(Vec::new())).unwrap();
    assert_eq!(user(&world, "alice").status, UserStatus::Inactive);
    assert!(user(&world, "bob").is_active(), "never stood in it");
    start(&mut world, both()).unwrap();
    assert!(user(&world, "alice").is_active() && user(&world, "jane").is_active());
    // Who was switched off by an administrator while it stood there stays so.
    let mut off = user(&world, "jane").clone();
    off.status = UserStatus::Inactive;
    world.take(&[Change::User(Box::new(off))]);
    start(&mut world, both()).unwrap();
    assert!(!user(&world, "jane").is_active());
    // A list that is switched off concerns nobody.
    let off = FixedOrder {
        enabled: false,
        ..list(Vec::new())
    };
    start(&mut world, off).unwrap();
    assert!(user(&world, "alice").is_active());
    assert!(!world.core.state().is_fixed(UserId::new(2)));
}

#[test]
fn what_others_did_meanwhile_does_not_stop_a_start() {
    let mut world = World::new();
    let alice = || FixedUser {
        domain: Some("default".to_owned()),
        projects: Some(vec!["default".to_owned()]),
        ..listed("alice")
    };
    start(&mut world, list(vec![alice()])).unwrap();
    // Somebody made her the only administrator of a project, and switched hers and the domain off.
    let mut changed = user(&world, "alice").clone();
    changed.projects.push(Membership {
        admin: true,
        ..Membership::manual(ProjectId::new(2))
    });
    world.take(&[Change::User(Box::new(changed.clone()))]);
    let mut project = world.state().projects[&changed.projects[0].project].clone();
    project.active = false;
    let mut domain = world.state().domains[&changed.domain].clone();
    domain.active = false;
    world.take(&[Change::Project(project), Change::Domain(domain)]);
    start(&mut world, list(vec![alice()])).unwrap();
    assert_eq!(user(&world, "alice").projects, changed.projects[..1]);
    // Who stood in a list that was off for a while is remembered.
    let off = FixedOrder {
        enabled: false,
        ..list(Vec::new())
    };
    start(&mut world, off).unwrap();
    start(&mut world, list(Vec::new())).unwrap();
    assert!(!user(&world, "alice").is_active());
}

#[test]
fn what_cannot_be_is_said_with_its_place_and_nothing_happens() {
    let mut world = World::new();
    let wrong = |change: fn(&mut FixedUser)| {
        let mut second = listed("jane");
        change(&mut second);
        list(vec![listed("alice"), second])
    };
    let place = "daemon.auth.fixed_users.users[1]";
    for (order, text) in [
        (
            wrong(|u| u.domain = Some("moon".to_owned())),
            format!("{place}.domain: Domain moon does not exist."),
        ),
        (
            wrong(|u| u.projects = Some(vec!["default".to_owned(), "moon".to_owned()])),
            format!("{place}.projects[1]: Project moon is not in domain default."),
        ),
        (
            wrong(|u| u.email = "bob@lab.example".to_owned()),
            format!("{place}.email: A user with email bob@lab.example already exists."),
        ),
        (
            wrong(|u| u.username = "bob@lab.example".to_owned()),
            format!("{place}.username: bob@lab.example is already a login name of another user."),
        ),
    ] {
        let before = world.core.state().clone();
        assert_eq!(start(&mut world, order).unwrap_err().detail, text);
        assert_eq!(*world.core.state(), before);
    }
    // Nor does anybody get the name of a program that is gone.
    let mut robot = User {
        username: "robot".to_owned(),
        service: Some(crate::model::Service::default()),
        status: UserStatus::Inactive,
        ..User::new(UserId::new(77), NOW)
    };
    world.take(&[Change::User(Box::new(robot.clone()))]);
    let refusal = start(&mut world, list(vec![listed("robot")])).unwrap_err();
    assert!(
        refusal
            .detail
            .ends_with("robot is the name of a deleted service account; it is not given again."),
        "{refusal:?}"
    );
    robot.status = UserStatus::Active;
    world.take(&[Change::User(Box::new(robot))]);
    let refusal = start(&mut world, list(vec![listed("robot")])).unwrap_err();
    assert!(
        refusal.detail.ends_with("robot is a service account."),
        "{refusal:?}"
    );
    // The last superadmin stays one.
    let root = FixedUser {
        role: Some("user".to_owned()),
        ..listed("root")
    };
    let refusal = start(&mut world, list(vec![root.clone()])).unwrap_err();
    assert_eq!(refusal.code, "LS-LAST-SUPERADMIN");
    let next = FixedUser {
        role: Some("superadmin".to_owned()),
        ..listed("alice")
    };
    start(&mut world, list(vec![root, next])).unwrap();
    assert_eq!(user(&world, "root").role, Role::User);
    let refusal = start(&mut world, list(Vec::new())).unwrap_err();
    assert_eq!(refusal.code, "LS-LAST-SUPERADMIN");
    assert!(
        refusal.detail.starts_with("daemon.auth.fixed_users: "),
        "{refusal:?}"
    );
}

#[test]
fn passwords_and_names_are_changed_in_the_configuration_alone() {
    let mut world = World::new();
    let name = || "alice".to_owned();
    let verbs = || {
        [
            AdminVerb::Account(AccountVerb::ResetPassword {
                user: name(),
                hash: "hash".to_owned(),
            }),
            AdminVerb::RequirePasswordChange(
                name(),
                serde_json::from_value(json!({ "need_password_change": true })).unwrap(),
            ),
            AdminVerb::PatchUser(
                name(),
                Box::new(serde_json::from_value(json!({ "username": "al" })).unwrap()),
            ),
        ]
    };
    start(&mut world, list(vec![listed("alice")])).unwrap();
    for verb in verbs() {
        assert_eq!(world.admin(verb).unwrap_err().code, "LS-FIXED-USER");
    }
    let off = FixedOrder {
        enabled: false,
        ..list(Vec::new())
    };
    start(&mut world, off).unwrap();
    for verb in verbs() {
        assert!(world.admin(verb).is_ok());
    }
}

#[test]
fn each_of_them_has_a_record_of_the_coordinator_itself() {
    let world = World::new();
    let order = list(vec![
        listed("jane"),
        FixedUser {
            role: Some("monitor".to_owned()),
            ..listed("alice")
        },
    ]);
    let event = Event::FixedUsers(Box::new(order));
    let outcome = react(world.core.state(), &event, NOW);
    let records = audited(world.core.state(), &event, &outcome);
    let said: Vec<_> = records
        .iter()
        .map(|r| (r.operation.as_str(), r.target.name.as_str(), &r.doer))
        .collect();
    let by = &crate::model::Doer::System;
    assert_eq!(
        said,
        [
            ("settings.write", "", by),
            ("user.update", "alice", by),
            ("user.create", "jane", by),
        ]
    );
    assert_eq!(records[1].after.get("role"), Some(&json!("monitor")));
}
