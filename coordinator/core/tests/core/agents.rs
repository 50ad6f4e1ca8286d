//! Nodes that go silent, come back, or leave.

use super::world::{GIVE_UP_S, World, exit, gpu_job, inventory, job};
use longshore_common::agent::AgentState;
use longshore_common::amount::{SlotName, Slots};
use longshore_common::ids::{AgentId, Fence, SessionId};
use longshore_common::session::{ContainerState, End, Exit, Reason, SessionState, Want};
use longshore_common::time::Timestamp;
use longshore_common::wire::{CloseCode, OutcomeNumber, RefusedCode};
use longshore_core::model::{Answer, Change, Effect, Event, HelloFacts};

fn running() -> (World, AgentId, SessionId) {
    let mut world = World::new();
    let n1 = world.agent("n1", 1);
    let id = world.submit(gpu_job(1));
    world.run(id);
    (world, n1, id)
}

#[test]
fn one_late_heartbeat_changes_nothing() {
    let (mut world, n1, _) = running();
    let state = world.state().clone();
    world.silent(n1, 14_999);
    assert_eq!(*world.state(), state);
}

#[test]
fn lost_before_the_run_it_waits_again_beside_its_old_claims() {
    let mut world = World::new();
    let n1 = world.agent("n1", 1);
    let id = world.submit(gpu_job(1));
    world.acknowledge(id);
    world.lose(n1);
    assert_eq!(
        world.show(id),
        "s-1 PENDING a2, old n1 stop assigned GPU-n1-0"
    );
    assert_eq!((world.rows(id), world.counts(id)), (3, false));
    assert_eq!(world.stored[&id].failed_starts, 0, "not its fault");
    world.agent("n2", 1);
    world.later(10_000);
    assert_eq!(
        world.show(id),
        "s-1 SCHEDULED a2, old n1 stop assigned GPU-n1-0, n2 prepare assigned GPU-n2-0"
    );
    world.run(id);
    world.hello(n1);
    world.whole(n1, &[], false);
    assert_eq!(world.show(id), "s-1 RUNNING a2, n2 run running GPU-n2-0");
    assert_eq!(world.rows(id), 3);
}

#[test]
fn lost_after_the_order_to_run_it_is_unreachable_until_it_is_back() {
    let (mut world, n1, id) = running();
    world.lose(n1);
    assert!(!world.alive(n1));
    assert_eq!(
        world.show(id),
        "s-1 RUNNING a1 unreachable, n1 run running GPU-n1-0"
    );
    world.hello(n1);
    assert!(world.alive(n1));
    assert_eq!(world.show(id), "s-1 RUNNING a1, n1 run running GPU-n1-0");
    assert_eq!(world.path(id), "PENDING SCHEDULED PREPARING RUNNING");
}

#[test]
fn left_overs_on_a_lost_node_make_nobody_unreachable() {
    let mut world = World::new();
    let n1 = world.agent("n1", 1);
    let id = world.submit(gpu_job(1));
    world.lose(n1);
    world.agent("n2", 1);
    world.later(10_000);
    world.run(id);
    world.hello(n1);
    world.lose(n1);
    assert!(!world.stored[&id].unreachable);
}

#[test]
fn given_up_after_ten_minutes_and_claimed_until_confirmed() {
    let (mut world, n1, id) = running();
    let fence = world.state().agents[&n1].fence;
    world.lose(n1);
    world.silent(n1, i64::from(GIVE_UP_S) * 1000 - 1);
    assert!(world.is(id, SessionState::Running));
    world.give_up(n1);
    assert_eq!(
        world.show(id),
        "s-1 ERROR a1 agent-lost failure, n1 stop lost GPU-n1-0"
    );
    assert_eq!((world.rows(id), world.counts(id)), (3, false));
    assert_eq!(world.state().agents[&n1].fence, fence.next());
    // Back: told to stop, confirms, and only then the device is free.
    let next = world.submit(gpu_job(1));
    world.hello(n1);
    assert!(world.is(next, SessionState::Pending));
    let key = world.key(id);
    assert_eq!(
        world
            .order(n1, key)
            .map(|e| (e.want, e.stop.is_some_and(|s| s.forced))),
        Some((Want::Stop, true))
    );
    world.outcome(n1, key, OutcomeNumber::Closed, Some(exit(0)));
    assert_eq!(world.show(id), "s-1 ERROR a1 agent-lost failure");
    assert_eq!(world.devices(next), ["GPU-n1-0"]);
}

#[test]
fn giving_up_happens_once() {
    let (mut world, n1, _) = running();
    world.give_up(n1);
    let state = world.state().clone();
    world.give_up(n1);
    assert_eq!(*world.state(), state);
}

#[test]
fn what_was_given_up_stays_so_whatever_is_reported() {
    let (mut world, n1, id) = running();
    world.give_up(n1);
    world.hello(n1);
    let key = world.key(id);
    world.report_key(n1, key, ContainerState::Running);
    world.whole(n1, &[(key, ContainerState::Running)], false);
    assert_eq!(
        world.show(id),
        "s-1 ERROR a1 agent-lost failure, n1 stop lost GPU-n1-0"
    );
}

#[test]
fn a_group_may_never_give_up() {
    let (mut world, n1, id) = running();
    let mut group = world.state().groups.values().next().unwrap().clone();
    group.declare_lost_s = 0;
    world.apply(vec![Change::Group(group)]);
    world.silent(n1, i64::MAX);
    assert!(world.is(id, SessionState::Running) && world.stored[&id].unreachable);
}

#[test]
fn a_stop_decided_before_keeps_its_reason() {
    let (mut world, n1, id) = running();
    world.terminate(&[id], 3000, false);
    world.give_up(n1);
    assert_eq!(
        world.show(id),
        "s-1 TERMINATED a1 user-requested failure, n1 stop lost GPU-n1-0"
    );
}

#[test]
fn a_start_on_a_silent_node_is_judged_by_its_silence() {
    let mut world = World::new();
    let n1 = world.agent("n1", 0);
    let id = world.submit(job());
    world.acknowledge(id);
    world.report(id, ContainerState::Created);
    world.lose(n1);
    world.later(400_000);
    assert_eq!(
        world.show(id),
        "s-1 PREPARING/starting a1 unreachable, n1 run created"
    );
    world.give_up(n1);
    assert_eq!(world.reason(id), Some(Reason::AgentLost));
}

#[test]
fn a_whole_report_without_a_container_says_it_is_gone() {
    for (rebooted, line) in [
        (false, "s-1 ERROR a1 container-not-found failure"),
        (true, "s-1 ERROR a1 node-rebooted failure"),
    ] {
        let (mut world, n1, id) = running();
        world.whole(n1, &[], rebooted);
        assert_eq!(world.show(id), line);
        assert_eq!(world.rows(id), 0);
    }
}

#[test]
fn a_whole_report_with_everything_changes_nothing() {
    let (mut world, n1, id) = running();
    let (state, key) = (world.state().clone(), world.key(id));
    world.whole(n1, &[(key, ContainerState::Running)], false);
    assert_eq!(*world.state(), state);
}

#[test]
fn what_it_had_not_begun_may_be_absent() {
    let mut world = World::new();
    let n1 = world.agent("n1", 0);
    let id = world.submit(job());
    world.whole(n1, &[], false);
    assert_eq!(world.show(id), "s-1 PREPARING a1, n1 prepare assigned");
    // One that was created and is gone before the run is tried again.
    world.report(id, ContainerState::Creating);
    world.whole(n1, &[], false);
    assert_eq!(world.show(id), "s-1 PENDING a2");
}

#[test]
fn expelled_nodes_hold_nothing() {
    let (mut world, n1, id) = running();
    world.does(Event::Expel { agent: n1 });
    assert_eq!(world.show(id), "s-1 ERROR a1 agent-lost failure");
    assert!(world.state().ledger.is_empty() && world.state().sessions.is_empty());
    assert_eq!(world.state().agents[&n1].state, AgentState::Terminated);
    assert!(world.effects.contains(&Effect::Close {
        agent: n1,
        code: CloseCode::Revoked
    }));
    assert!(matches!(
        world.hello(n1),
        Answer::Refused(RefusedCode::Revoked, _)
    ));
    let again = world.state().clone();
    world.does(Event::Expel { agent: n1 });
    assert_eq!(*world.state(), again);
    // The name is free again.
    world.agent("n1", 1);
}

#[test]
fn identities_at_the_door() {
    let mut world = World::new();
    let agent = world.agent("n1", 0);
    let facts = HelloFacts {
        agent,
        key: [2; 32],
        fingerprint: "f".into(),
        machine: "m".into(),
        boot_id: "b".into(),
        fence: Fence(1),
        other_engine_connected: false,
    };
    let mut ask = |facts: HelloFacts| world.does(Event::Hello(Box::new(facts)));
    let refused = |answer, code| matches!(answer, Answer::Refused(c, _) if c == code);
    assert!(refused(
        ask(HelloFacts {
            agent: AgentId::new(9),
            ..facts.clone()
        }),
        RefusedCode::Unknown
    ));
    assert!(refused(
        ask(HelloFacts {
            key: [3; 32],
            ..facts.clone()
        }),
        RefusedCode::Revoked
    ));
    assert!(refused(
        ask(HelloFacts {
            machine: "x".into(),
            ..facts.clone()
        }),
        RefusedCode::Identity
    ));
    let engine = HelloFacts {
        fingerprint: "x".into(),
        ..facts
    };
    assert!(refused(
        ask(HelloFacts {
            other_engine_connected: true,
            ..engine.clone()
        }),
        RefusedCode::Identity
    ));
    assert!(matches!(ask(engine), Answer::Welcome(_)));
}

#[test]
fn what_a_node_says_can_always_be_read_back() {
    let (mut world, agent, id) = running();
    let mut odd = inventory("n1", 1);
    odd.offered = Slots::new()
        .with(SlotName::cpu(), 7_500)
        .with(SlotName::mem(), i64::MAX);
    odd.total = Slots::new().with(SlotName::cpu(), -4);
    world.does(Event::Inventory {
        agent,
        inventory: Box::new(odd),
    });
    world.ended(
        id,
        End::Exited(Exit {
            code: 0,
            signal: None,
            oom: false,
            at: Timestamp(i64::MIN),
        }),
    );
    let node = &world.state().agents[&agent];
    assert_eq!(node.inventory.as_ref().unwrap().offered.cpu_milli(), 7_000);
    let text = serde_json::to_string(node).unwrap();
    let mut again: longshore_core::model::Agent = serde_json::from_str(&text).unwrap();
    assert_eq!(again.inventory, None, "it is written apart");
    let text = serde_json::to_string(&node.inventory).unwrap();
    again.inventory = serde_json::from_str(&text).unwrap();
    assert_eq!(&again, node);
    let session = &world.stored[&id];
    let text = serde_json::to_string(session).unwrap();
    assert_eq!(
        &serde_json::from_str::<longshore_core::model::Session>(&text).unwrap(),
        session
    );
}

#[test]
fn a_device_listed_twice_is_given_out_once() {
    let mut world = World::new();
    let n1 = world.agent("n1", 2);
    let mut twice = inventory("n1", 1);
    twice.devices.push(twice.devices[0].clone());
    world.does(Event::Inventory {
        agent: n1,
        inventory: Box::new(twice),
    });
    let known = world.state().agents[&n1].inventory.as_ref();
    assert_eq!(known.map(|i| i.devices.len()), Some(1));
    assert!(world.ask(gpu_job(2)).is_err(), "there is one");
}
