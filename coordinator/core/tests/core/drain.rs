//! Emptying a node: who is told, who is stopped, what is undone.

use super::world::{World, gpu_job};
use longshore_common::session::{Reason, SessionState};
use longshore_common::time::Timestamp;
use longshore_core::model::{DrainOrder, Event, NewDrain, drain_deadline};

fn order(world: &World, s: Option<i64>) -> DrainOrder {
    let agent = *world.state().agents.keys().next().expect("a node");
    DrainOrder {
        agent,
        dry_run: false,
        version: None,
        begin: Some(NewDrain {
            deadline: s.map(|s| world.now.plus_s(s)),
            message: "RAM upgrade".to_owned(),
            by: "user root".to_owned(),
        }),
    }
}

fn drains(world: &mut World, order: &DrainOrder) {
    world.does(Event::Drain(Box::new(order.clone())));
}

#[test]
fn what_is_left_at_the_deadline_is_stopped() {
    let mut world = World::new();
    let agent = world.agent("n1", 2);
    let id = world.submit(gpu_job(1));
    world.run(id);
    assert_eq!(world.stored[&id].state, SessionState::Running);
    let order = order(&world, Some(3600));
    let at = order.begin.as_ref().and_then(|b| b.deadline);
    drains(&mut world, &order);
    let node = &world.state().agents[&agent];
    assert!(!node.schedulable, "nothing new comes");
    assert_eq!(node.drain.as_ref().map(|d| d.sessions), Some(1));
    assert_eq!(drain_deadline(world.state(), &world.stored[&id]), at);
    let late = world.submit(gpu_job(1));
    assert_eq!(world.stored[&late].state, SessionState::Pending);
    world.later(3_599_000);
    assert_eq!(world.stored[&id].state, SessionState::Running);
    world.later(1_000);
    let stopped = &world.stored[&id];
    assert_eq!(stopped.state, SessionState::Terminating);
    assert_eq!(stopped.reason, Some(Reason::Drained));
    assert_eq!(
        stopped.detail.as_deref(),
        Some("agent n1 had to be empty: RAM upgrade")
    );
    assert_eq!(stopped.spent.by.as_deref(), Some("user root"));
    assert_eq!(
        world.stored[&late].state,
        SessionState::Pending,
        "it waits for a node"
    );
}

#[test]
fn undoing_it_brings_back_what_was() {
    let mut world = World::new();
    let agent = world.agent("n1", 2);
    let begin = order(&world, Some(10));
    let undo = DrainOrder {
        begin: None,
        ..begin.clone()
    };
    drains(&mut world, &begin);
    drains(&mut world, &undo);
    let node = &world.state().agents[&agent];
    assert!(node.schedulable && node.drain.is_none());
    world.schedulable(agent, false);
    drains(&mut world, &begin);
    drains(&mut world, &undo);
    assert!(
        !world.state().agents[&agent].schedulable,
        "it was off before"
    );
}

#[test]
fn without_a_deadline_nobody_is_stopped() {
    let mut world = World::new();
    world.agent("n1", 2);
    let id = world.submit(gpu_job(1));
    world.run(id);
    let order = order(&world, None);
    drains(&mut world, &order);
    world.later(86_400_000);
    assert_eq!(world.stored[&id].state, SessionState::Running);
}

#[test]
fn what_cannot_be_is_refused() {
    let mut world = World::new();
    world.agent("n1", 2);
    let mut wrong = order(&world, Some(10));
    wrong.version = Some(99);
    let refused = world.happen(Event::Drain(Box::new(wrong.clone())));
    assert_eq!(refused.err().map(|r| r.code), Some("LS-VERSION-STALE"));
    wrong.version = None;
    if let Some(begin) = &mut wrong.begin {
        begin.deadline = Some(Timestamp(0));
    }
    let refused = world.happen(Event::Drain(Box::new(wrong)));
    assert_eq!(refused.err().map(|r| r.code), Some("LS-INVALID"));
}
