//! Emptying a node: who is told, who is stopped, what is undone.

use super::world::{World, exit, gpu_job};
use longshore_common::api::NewRestart;
use longshore_common::session::{Reason, SessionState};
use longshore_common::time::Timestamp;
use longshore_common::wire::OutcomeNumber;
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
            moves: false,
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

#[test]
fn what_may_be_tried_again_goes_elsewhere_and_the_rest_ends() {
    let mut world = World::new();
    let n1 = world.agent("n1", 2);
    let again = || {
        let mut request = gpu_job(1);
        request.restart = Some(NewRestart { max: 1, on: None });
        request
    };
    let moved = world.submit(again());
    let ended = world.submit(gpu_job(1));
    world.run(moved);
    world.run(ended);
    let mut order = order(&world, Some(3600));
    if let Some(begin) = &mut order.begin {
        begin.moves = true;
    }
    drains(&mut world, &order);
    let n2 = world.agent("n2", 2);
    world.later(3_600_000);
    assert_eq!(world.stored[&ended].state, SessionState::Terminating);
    let session = &world.stored[&moved];
    assert_eq!((session.attempt.0, session.restarts), (2, 1));
    assert_eq!(session.reason, None, "it has not ended");
    let past = &session.attempts[0];
    assert_eq!(
        (past.agents.as_slice(), past.reason.as_str()),
        (&[n1][..], "drained")
    );
    let old = session.older().next().expect("the older one is there").key;
    let stop = world
        .order(n1, old)
        .and_then(|entry| entry.stop)
        .expect("it is to stop");
    assert_eq!(
        (stop.reason, stop.grace_s, stop.forced),
        (Reason::Drained, 30, false)
    );
    // It has its place on the other node, and is not told to run beside the older attempt.
    let present: Vec<_> = session
        .present()
        .map(|c| (c.agent, c.told_to_run))
        .collect();
    assert_eq!(present, [(n2, false)]);
    let end = Some(exit(143));
    world.outcome(n1, old, OutcomeNumber::Ended, end.clone());
    world.outcome(n1, old, OutcomeNumber::Closed, end);
    world.run(moved);
    assert_eq!(world.stored[&moved].state, SessionState::Running);
    // It has had its one time: the next drain ends it.
    let mut order = order.clone();
    order.agent = n2;
    if let Some(begin) = &mut order.begin {
        begin.deadline = Some(world.now.plus_s(60));
    }
    drains(&mut world, &order);
    world.later(60_000);
    assert_eq!(world.reason(moved), Some(Reason::Drained));
    assert_eq!(world.stored[&moved].state, SessionState::Terminating);
}

#[test]
fn moving_needs_an_instant() {
    let mut world = World::new();
    world.agent("n1", 2);
    let mut wrong = order(&world, None);
    if let Some(begin) = &mut wrong.begin {
        begin.moves = true;
    }
    let refused = world.happen(Event::Drain(Box::new(wrong)));
    assert_eq!(refused.err().map(|r| r.code), Some("LS-INVALID"));
}
