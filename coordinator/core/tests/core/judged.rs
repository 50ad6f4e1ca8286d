//! What people do to sessions is judged by the rights of the moment it is decided.

use crate::world::{World, job};
use longshore_common::ids::{SessionId, UserId};
use longshore_common::session::SessionState;
use longshore_core::model::{
    Answer, Called, Caller, Change, Event, Refusal, Role, SessionUse, Terminate, UseSession,
};

fn becomes(world: &mut World, user: UserId, role: Role) {
    let mut person = world.state().users[&user].clone();
    person.role = role;
    world.apply(vec![Change::User(Box::new(person))]);
}

fn bob(user: UserId) -> Caller {
    Caller {
        user,
        access_key: "LKbob".to_owned(),
    }
}

fn reach(world: &mut World, caller: Caller, id: SessionId, exec: bool) -> Result<Answer, Refusal> {
    world.happen(Event::UseSession(Box::new(UseSession {
        caller,
        called: Called::default(),
        session: id,
        past: None,
        what: SessionUse::Reach("logs".to_owned()),
        admin_exec: exec,
    })))
}

#[test]
fn an_office_that_was_lost_ends_no_session() {
    let mut world = World::new();
    let id = world.submit(job());
    let user = world.user("bob");
    let end = Terminate {
        caller: bob(user),
        called: Some(Called::default()),
        ids: vec![id],
        grace_s: 1,
        force: false,
        many: false,
        handed: std::collections::BTreeMap::new(),
    };
    becomes(&mut world, user, Role::User);
    let Answer::Terminated(told) = world.does(Event::Terminate(end.clone())) else {
        panic!("another answer");
    };
    assert_eq!(told.skipped[0].why, "not-found");
    assert!(world.is(id, SessionState::Pending));
    becomes(&mut world, user, Role::Superadmin);
    world.does(Event::Terminate(end));
    assert!(world.is(id, SessionState::Cancelled));
}

/// It frees what may still be in use: not for the owner to do.
#[test]
fn only_administrators_of_its_domain_end_a_session_by_force() {
    let mut world = World::new();
    let id = world.submit(job());
    let me = world.caller();
    let end = Terminate {
        caller: me.clone(),
        called: Some(Called::default()),
        ids: vec![id],
        grace_s: 1,
        force: true,
        many: false,
        handed: std::collections::BTreeMap::new(),
    };
    for role in [Role::User, Role::Monitor] {
        becomes(&mut world, me.user, role);
        let refused = world.happen(Event::Terminate(end.clone()));
        assert_eq!(refused.expect_err("no administrator").code, "LS-FORBIDDEN");
        assert!(world.is(id, SessionState::Pending));
    }
    becomes(&mut world, me.user, Role::DomainAdmin);
    world.does(Event::Terminate(end));
    assert!(world.is(id, SessionState::Cancelled));
}

#[test]
fn a_signal_reaches_what_runs_only() {
    let mut world = World::new();
    let id = world.submit(job());
    let order = UseSession {
        caller: world.caller(),
        called: Called::default(),
        session: id,
        past: None,
        what: SessionUse::Signal("INT".to_owned()),
        admin_exec: false,
    };
    let refused = world.happen(Event::UseSession(Box::new(order)));
    assert_eq!(refused.expect_err("it waits").code, "LS-STATE");
}

#[test]
fn who_reaches_in_and_is_not_the_owner_leaves_a_line() {
    let mut world = World::new();
    let id = world.submit(job());
    let user = world.user("bob");
    let lines = |world: &World| {
        let changes = world.changes.iter();
        changes.filter(|c| matches!(c, Change::Reached(_))).count()
    };
    let own = world.caller();
    reach(&mut world, own, id, true).expect("the owner may");
    assert_eq!(lines(&world), 0);
    let refused = reach(&mut world, bob(user), id, false);
    assert_eq!(refused.expect_err("it is off").code, "LS-FORBIDDEN");
    reach(&mut world, bob(user), id, true).expect("it is on");
    assert_eq!(lines(&world), 1);
    becomes(&mut world, user, Role::User);
    let refused = reach(&mut world, bob(user), id, true);
    assert_eq!(refused.expect_err("no office").code, "LS-NOT-FOUND");
}
