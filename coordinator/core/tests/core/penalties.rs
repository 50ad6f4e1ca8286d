//! A node on which a session failed comes last for it, for an hour.

use super::world::{World, failed, job, slots};
use longshore_common::ids::{AgentId, SessionId};
use longshore_common::session::{Cause, SessionState};
use longshore_core::model::Steering;

/// A session that failed on the first of two nodes and is held back; alone it would be taken
/// again, for the other one has a GPU that nobody asked for.
fn failed_once() -> (World, SessionId, [AgentId; 2]) {
    let mut world = World::new();
    let first = world.agent("n1", 0);
    let id = world.submit(job());
    world.ends(id, failed(Cause::CreateFailed));
    world.steer(id, Steering::Hold).expect("it waits");
    let second = world.agent("n2", 1);
    (world, id, [first, second])
}

#[test]
fn the_hour_ends_to_the_millisecond() {
    for (ms, there) in [(10_000, 1), (3_599_999, 1), (3_600_000, 0), (3_600_001, 0)] {
        let (mut world, id, nodes) = failed_once();
        world.later(ms);
        world.steer(id, Steering::Release).unwrap();
        assert!(world.is(id, SessionState::Scheduled), "{ms}");
        assert_eq!(world.agent_of(id), nodes[there], "after {ms} ms");
    }
}

#[test]
fn last_is_not_never() {
    let (mut world, id, [first, second]) = failed_once();
    let other = world.submit(slots(job(), &[("cpu", "16"), ("cuda.device", "1")]));
    assert_eq!(world.agent_of(other), second);
    world.later(10_000);
    world.steer(id, Steering::Release).unwrap();
    assert_eq!(world.agent_of(id), first, "no other has room");
}

#[test]
fn only_the_session_that_failed_shuns_the_node() {
    let (mut world, id, [first, second]) = failed_once();
    world.later(10_000);
    let other = world.submit(job());
    world.steer(id, Steering::Release).unwrap();
    assert_eq!((world.agent_of(other), world.agent_of(id)), (first, second));
}
