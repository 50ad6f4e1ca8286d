//! Whatever happens in whatever order, what must hold holds.

use super::chaos::{self, Step};
use super::world::{World, condition, gpu_job, inventory, slots};
use longshore_common::agent::{AgentState, RuntimeState};
use longshore_common::ids::SessionId;
use longshore_core::model::{Change, Event, Steering};
use longshore_core::scheduler::{Start, plan};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy as _, any};

fn config() -> ProptestConfig {
    // Failures are repeated from what is printed; no file beside the sources.
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(256)
    }
}

proptest::proptest! {
    #![proptest_config(config())]

    // Every step checks the world; nothing more is to be said here.
    #[test]
    fn everything_holds_after_any_events(steps in vec(any::<Step>(), 0..120)) {
        let mut world = chaos::world();
        for step in steps {
            chaos::step(&mut world, step);
        }
        world.check_usage();
    }

    // R1: once nothing new comes and every agent does its work, every session ends.
    #[test]
    fn every_session_ends_when_agents_do_their_work(steps in vec(any::<Step>(), 0..60)) {
        let mut world = chaos::world();
        for step in steps {
            chaos::step(&mut world, step);
        }
        world.check_usage();
        drive_to_the_end(&mut world);
        proptest::prop_assert_eq!(world.show_all(), "");
        proptest::prop_assert!(world.state().ledger.is_empty());
        for session in world.stored.values() {
            proptest::prop_assert!(session.state.is_final() && session.reason.is_some());
        }
    }

    #[test]
    fn a_plan_does_not_depend_on_the_order_in_which_agents_came(
        order in Just(vec![0, 1, 2, 3, 4]).prop_shuffle(),
        gpus in vec(0u32..3, 1..12),
    ) {
        proptest::prop_assert_eq!(placed(&order, &gpus), placed(&[0, 1, 2, 3, 4], &gpus));
    }
}

/// Who starts where when agents opened at once that came in this order.
fn placed(order: &[u32], gpus: &[u32]) -> Vec<String> {
    let mut world = World::new();
    for n in order {
        let agent = world.agent(&format!("n{n}"), *n);
        world.schedulable(agent, false);
    }
    for n in gpus {
        world.submit(slots(gpu_job(*n), &[("cpu", &(n * 3 + 1).to_string())]));
    }
    for mut agent in world.state().agents.clone().into_values() {
        agent.schedulable = true;
        world.core.apply(&Change::Agent(Box::new(agent)));
    }
    let show = |start: &Start| {
        let place = &start.places[0];
        let name = &world.state().agents[&place.agent].name;
        format!("{} on {name} with {:?}", start.session, place.devices)
    };
    plan(world.state(), world.now)
        .starts
        .iter()
        .map(show)
        .collect()
}

/// Every node is there and well, and does what its set says.
fn drive_to_the_end(world: &mut World) {
    for round in 0..200 {
        let agents = world.state().agents.clone();
        for node in agents
            .values()
            .filter(|n| n.state != AgentState::Terminated)
        {
            world.hello(node.id);
            world.does(condition(node.id, RuntimeState::Up, false));
            world.does(Event::Inventory {
                agent: node.id,
                inventory: Box::new(inventory(&node.name, 3)),
            });
            chaos::drain(world, node.id, None);
            world.schedulable(node.id, true);
            for key in world.state().on_agent(node.id).collect::<Vec<_>>() {
                chaos::obey(world, node.id, key);
            }
        }
        world.later(20_000);
        if world.state().sessions.is_empty() {
            return;
        }
        for id in world.state().sessions.keys().copied().collect::<Vec<_>>() {
            let _ = world.steer(id, Steering::Release); // one that runs is not held
        }
        if round == 150 {
            // What nobody can hold any more waits for ever, unless a person ends it.
            let ids: Vec<SessionId> = world.state().sessions.keys().copied().collect();
            world.terminate(&ids, 0, false);
        }
    }
}

#[test]
fn what_was_gone_before_all_ran_counts_for_nobody() {
    // One of three containers ends before the last one has begun, and the node of that tells
    // that it ran since before.
    let steps: [Step; 13] = [
        (25, 3458, 11043),
        (78, 60710, 2605),
        (0, 0, 6443),
        (242, 34204, 18512),
        (78, 61539, 12847),
        (5, 28671, 0),
        (31, 30008, 0),
        (26, 23413, 9085),
        (26, 32589, 47346),
        (93, 27956, 0),
        (94, 1, 7),
        (247, 19590, 4987),
        (167, 32561, 9465),
    ];
    let mut world = chaos::world();
    for step in steps {
        chaos::step(&mut world, step);
    }
    world.check_usage();
}
