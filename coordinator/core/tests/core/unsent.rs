//! Sessions that are ended by force before their agent was sent anything of them.

use super::world::{World, exit, job};
use longshore_common::ids::{AgentId, Generation, SessionId};
use longshore_common::session::{ContainerState, Want};
use longshore_core::model::{Event, Terminate};

/// Ended by force, when this was the newest set that was handed out for its agent.
fn forced(world: &mut World, id: SessionId, handed: Option<(AgentId, Generation)>) {
    let caller = world.caller();
    world.does(Event::Terminate(Terminate {
        caller,
        called: None,
        ids: vec![id],
        grace_s: 0,
        force: true,
        many: false,
        handed: handed.into_iter().collect(),
    }));
    assert!(world.stored[&id].state.is_final(), "{}", world.show(id));
}

fn placed() -> (World, SessionId, AgentId, Generation) {
    let mut world = World::new();
    let agent = world.agent("n1", 0);
    let id = world.submit(job());
    let first = world.container(id).first_generation;
    assert!(world.rows(id) > 0);
    (world, id, agent, first)
}

#[test]
fn what_was_never_sent_gives_its_place_back_at_once() {
    let (mut world, id, agent, first) = placed();
    let before = Generation(first.0 - 1);
    let key = world.key(id);
    forced(&mut world, id, Some((agent, before)));
    assert_eq!(world.rows(id), 0);
    assert!(
        world.order(agent, key).is_none(),
        "nobody has to confirm it"
    );
    assert!(world.stored[&id].is_settled());
    let next = world.submit(job());
    assert_eq!(world.agent_of(next), agent);
}

#[test]
fn what_may_have_been_sent_waits_for_its_node() {
    for newest in [0, 1] {
        let (mut world, id, agent, first) = placed();
        let key = world.key(id);
        let handed = Some((agent, Generation(first.0 + newest)));
        forced(&mut world, id, handed);
        assert!(world.rows(id) > 0, "{newest}");
        assert_eq!(world.order(agent, key).map(|o| o.want), Some(Want::Stop));
    }
    // Nobody knows what was sent before the coordinator started.
    let (mut world, id, agent, first) = placed();
    forced(&mut world, id, None);
    assert!(world.rows(id) > 0);
    // Of another agent it says nothing, and what has said a word was sent.
    let (mut world, id, ..) = placed();
    forced(&mut world, id, Some((AgentId::new(77), Generation(0))));
    assert!(world.rows(id) > 0);
    for state in [ContainerState::Pulling, ContainerState::Created] {
        let (mut world, id, ..) = placed();
        world.report(id, state);
        forced(&mut world, id, Some((agent, Generation(first.0 - 1))));
        assert!(world.rows(id) > 0, "{state}");
        world.ends(id, exit(0));
        assert_eq!(world.rows(id), 0);
    }
}
