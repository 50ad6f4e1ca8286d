//! What there is, in numbers.

use super::world::{World, gpu_job, job};
use longshore_common::agent::AgentState;
use longshore_common::ids::DomainId;
use longshore_common::session::SessionState;
use longshore_core::model::{Census, Change, Seen};

fn numbers(world: &World) -> Vec<(SessionState, u64)> {
    let census = Census::of(world.state(), world.now, &Seen::ALL, false);
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
    let census = Census::of(world.state(), world.now, &Seen::ALL, true);
    assert_eq!(census.sessions.len(), 5, "each state, though there is none");
    let runs = world.submit(gpu_job(1));
    world.run(runs);
    world.submit(job());
    let waits = world.submit(gpu_job(1));
    assert_eq!(
        numbers(&world),
        [(Pending, 1), (Scheduled, 1), (Running, 1)]
    );
    let census = Census::of(world.state(), world.now, &Seen::ALL, true);
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
    let census = Census::of(world.state(), world.now, &Seen::ALL, true);
    assert_eq!((census.tombstones, census.releasing_ms), (1, 7000));
    assert_eq!(census.gpus, []);
    world.closed(runs);
    assert!(world.is(waits, Scheduled));
    let census = Census::of(world.state(), world.now, &Seen::ALL, false);
    assert_eq!((census.tombstones, census.releasing_ms), (0, 0));
    assert_eq!(census.gpus, [], "nobody asked for them");
}

#[test]
fn who_sees_some_is_told_of_those() {
    let mut world = World::new();
    world.agent("n1", 2);
    let [mine, other, waits] = [1, 1, 2].map(|gpus| world.submit(gpu_job(gpus)));
    for id in [mine, other] {
        world.run(id);
    }
    for id in [other, waits] {
        let mut moved = world.state().sessions[&id].clone();
        moved.domain = DomainId::new(77);
        moved.version += 1;
        world.apply(vec![Change::Session(Box::new(moved))]);
    }
    let of = |world: &World, domain: u128, open: bool| {
        let seen = Seen {
            session: Some(&|session| session.domain == DomainId::new(domain)),
            group: &|_| open,
            agent: &|_| open,
        };
        let census = Census::of(world.state(), world.now, &seen, true);
        let gpus: Vec<_> = census.gpus.iter().map(|held| held.session).collect();
        let many = |state| {
            let key = ("default".to_owned(), state);
            census.sessions.get(&key).copied()
        };
        let counts = (many(SessionState::Pending), many(SessionState::Running));
        (gpus, counts, census.nodes.len())
    };
    assert_eq!(of(&world, 2, true), (vec![mine], (Some(0), Some(1)), 1));
    assert_eq!(of(&world, 77, true), (vec![other], (Some(1), Some(1)), 1));
    assert_eq!(of(&world, 5, true), (vec![], (Some(0), Some(0)), 1));
    // A group that is closed to them is told of as far as their sessions are in it.
    assert_eq!(of(&world, 77, false), (vec![other], (Some(1), Some(1)), 0));
    assert_eq!(of(&world, 5, false), (vec![], (None, None), 0));
    // What still has to go away is counted for those who see it.
    world.terminate(&[other], 0, true);
    let over = |domain: u128| {
        let seen = Seen {
            session: Some(&|session| session.domain == DomainId::new(domain)),
            ..Seen::ALL
        };
        Census::of(world.state(), world.now, &seen, false).tombstones
    };
    assert_eq!((over(2), over(77)), (0, 1));
}
