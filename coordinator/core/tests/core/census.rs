//! What there is, in numbers.

use super::world::{World, gpu_job, job};
use longshore_common::agent::AgentState;
use longshore_common::session::SessionState;
use longshore_core::model::Census;

fn numbers(world: &World) -> Vec<(SessionState, u64)> {
    let census = Census::of(world.state(), world.now, false);
    let all = census.sessions.into_iter();
    all.filter(|((group, _), many)| group == "default" && *many > 0)
        .map(|((_, state), many)| (state, many))
        .collect()
}

#[test]
fn sessions_are_counted_where_they_stand() {
    use SessionState::{Pending, Running, Scheduled};
    let mut world = World::new();
    let n1 = world.agent("n1", 1);
    let census = Census::of(world.state(), world.now, true);
    assert_eq!(census.sessions.len(), 5, "each state, though there is none");
    let runs = world.submit(gpu_job(1));
    world.run(runs);
    world.submit(job());
    let waits = world.submit(gpu_job(1));
    assert_eq!(
        numbers(&world),
        [(Pending, 1), (Scheduled, 1), (Running, 1)]
    );
    let census = Census::of(world.state(), world.now, true);
    let held: Vec<_> = census.gpus.iter().map(|held| held.session).collect();
    assert_eq!(held, [runs]);
    assert_eq!(census.gpus[0].node, "n1");
    assert_eq!(census.gpus[0].gpu.as_str(), "GPU-n1-0");
    assert_eq!((census.tombstones, census.releasing_ms), (0, 0));
    let node = &census.nodes[0];
    assert_eq!((node.id, node.state), (n1, AgentState::Alive));
    assert_eq!(node.desired, world.generation(n1));

    // Over in the books, and its node has not said so.
    world.terminate(&[runs], 0, true);
    world.later(7000);
    assert_eq!(numbers(&world), [(Pending, 1), (Scheduled, 1)]);
    let census = Census::of(world.state(), world.now, true);
    assert_eq!((census.tombstones, census.releasing_ms), (1, 7000));
    assert_eq!(census.gpus, []);
    world.closed(runs);
    assert!(world.is(waits, Scheduled));
    let census = Census::of(world.state(), world.now, false);
    assert_eq!((census.tombstones, census.releasing_ms), (0, 0));
    assert_eq!(census.gpus, [], "nobody asked for them");
}
