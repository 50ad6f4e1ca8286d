//! Sessions of several containers.

use super::world::{World, exit, failed, job, slots};
use longshore_common::api::{NewCluster, NewSession};
use longshore_common::ids::{AgentId, ContainerKey, SessionId};
use longshore_common::session::{Cause, ContainerState, End, SessionState, Want};
use longshore_common::wire::OutcomeNumber;
use longshore_core::model::is_given;

/// Two nodes of 16 cores, and a session of three containers that got its places.
fn placed(mode: &str) -> (World, SessionId) {
    let mut world = World::new();
    world.agent("n1", 0);
    world.agent("n2", 0);
    let id = world.submit(three(mode, "4"));
    (world, id)
}

fn three(mode: &str, cpu: &str) -> NewSession {
    let cluster = Some(NewCluster {
        size: 3,
        mode: Some(mode.to_owned()),
        containers: vec![],
    });
    NewSession {
        cluster,
        ..slots(job(), &[("cpu", cpu)])
    }
}

fn containers(world: &World, id: SessionId) -> Vec<(AgentId, ContainerKey)> {
    let present = world.stored[&id].present();
    present.map(|c| (c.agent, c.key)).collect()
}

fn wants(world: &World, id: SessionId) -> Vec<Want> {
    let orders = containers(world, id)
        .into_iter()
        .filter_map(|(agent, key)| world.order(agent, key));
    orders.map(|o| o.want).collect()
}

fn all(world: &mut World, id: SessionId, state: ContainerState) {
    for (agent, key) in containers(world, id) {
        world.report_key(agent, key, state);
    }
}

fn ended(world: &mut World, (agent, key): (AgentId, ContainerKey), end: End) {
    world.outcome(agent, key, OutcomeNumber::Ended, Some(end));
    world.outcome(agent, key, OutcomeNumber::Closed, None);
}

fn running(mode: &str) -> (World, SessionId) {
    let (mut world, id) = placed(mode);
    all(&mut world, id, ContainerState::Created);
    all(&mut world, id, ContainerState::Running);
    assert!(world.is(id, SessionState::Running), "{}", world.show(id));
    (world, id)
}

#[test]
fn all_are_on_one_node_or_none_is_placed() {
    let (world, id) = placed("single-node");
    let agents: Vec<AgentId> = containers(&world, id).iter().map(|c| c.0).collect();
    assert_eq!(agents.len(), 3);
    assert!(agents.iter().all(|a| *a == agents[0]));
    assert_eq!(world.rows(id), 6, "cpu and mem of each");
    let mut world = World::new();
    world.agent("n1", 0);
    world.agent("n2", 0);
    let first = world.submit(slots(job(), &[("cpu", "9")]));
    let second = world.submit(slots(job(), &[("cpu", "9")]));
    let wide = world.submit(three("single-node", "5"));
    assert!(world.is(wide, SessionState::Pending));
    assert_eq!(world.rows(wide), 0);
    for id in [first, second] {
        world.run(id);
        world.ends(id, exit(0));
    }
    assert!(world.is(wide, SessionState::Scheduled));
}

#[test]
fn over_several_nodes_when_that_is_asked_for() {
    let mut world = World::new();
    world.agent("n1", 0);
    world.agent("n2", 0);
    let id = world.submit(three("multi-node", "8"));
    let agents: std::collections::BTreeSet<AgentId> =
        containers(&world, id).iter().map(|c| c.0).collect();
    assert_eq!(agents.len(), 2);
    let refusal = world.ask(three("single-node", "8")).expect_err("24 cores");
    assert_eq!(refusal.code, "LS-FIT-NEVER");
}

#[test]
fn each_knows_its_place_and_only_the_first_has_the_command() {
    let (world, id) = placed("single-node");
    let specs: Vec<_> = containers(&world, id)
        .into_iter()
        .filter_map(|(agent, key)| world.order(agent, key))
        .map(|order| order.spec)
        .collect();
    let shown: Vec<String> = specs
        .iter()
        .map(|spec| {
            let get = |name: &str| spec.environment[name].clone();
            [
                spec.hostname.clone(),
                spec.command.join(" "),
                get("LONGSHORE_CLUSTER_SIZE"),
                get("LONGSHORE_CLUSTER_HOSTS"),
                get("LONGSHORE_CLUSTER_HOST"),
                get("LONGSHORE_CLUSTER_ROLE"),
                get("LONGSHORE_CLUSTER_INDEX"),
                get("LONGSHORE_CLUSTER_RANK"),
                get("MASTER_ADDR"),
                get("MASTER_PORT"),
                get("NNODES"),
                get("NODE_RANK"),
            ]
            .join(" | ")
        })
        .collect();
    assert_eq!(
        shown,
        [
            "main1 | work | 3 | main1,sub1,sub2 | main1 | main | 1 | 0 | main1 | 29500 | 3 | 0",
            "sub1 |  | 3 | main1,sub1,sub2 | sub1 | sub | 1 | 1 | main1 | 29500 | 3 | 1",
            "sub2 |  | 3 | main1,sub1,sub2 | sub2 | sub | 2 | 2 | main1 | 29500 | 3 | 2",
        ]
    );
}

#[test]
fn what_a_person_set_for_launchers_stays() {
    let mut world = World::new();
    world.agent("n1", 0);
    let request = NewSession {
        environment: [("MASTER_PORT".to_owned(), "1".to_owned())].into(),
        ..three("single-node", "1")
    };
    let id = world.submit(request);
    let order = world.order(world.agent_of(id), world.key(id)).expect("one");
    // It is given beside the order, which no name of a launcher contradicts.
    assert!(!order.spec.environment.contains_key("MASTER_PORT"));
    let (agent, key) = (world.agent_of(id), world.key(id));
    assert!(is_given(world.state(), agent, key));
    let other = world.agent("n2", 0);
    assert!(!is_given(world.state(), other, key));
    let alone = world.submit(job());
    let order = world.order(world.agent_of(alone), world.key(alone));
    let spec = order.expect("one").spec;
    assert_eq!(spec.hostname, alone.to_string());
    assert!(!spec.environment.contains_key("MASTER_ADDR"));
}

#[test]
fn none_is_started_before_all_are_created() {
    let (mut world, id) = placed("multi-node");
    let there = containers(&world, id);
    for (agent, key) in &there[..2] {
        world.report_key(*agent, *key, ContainerState::Created);
    }
    assert_eq!(wants(&world, id), [Want::Prepare; 3]);
    world.report_key(there[2].0, there[2].1, ContainerState::Created);
    assert_eq!(wants(&world, id), [Want::Run; 3]);
}

#[test]
fn when_the_main_one_ends_the_others_are_stopped() {
    let (mut world, id) = running("single-node");
    let there = containers(&world, id);
    ended(&mut world, there[0], exit(0));
    assert!(world.is(id, SessionState::Terminating));
    let order = world.order(there[1].0, there[1].1).expect("one");
    assert_eq!(order.want, Want::Stop);
    assert_eq!(order.stop.map(|s| s.grace_s), Some(30));
    ended(&mut world, there[1], exit(143));
    ended(&mut world, there[2], exit(143));
    assert_eq!(world.show(id), "s-1 TERMINATED a1 task-finished success");
    assert_eq!(world.rows(id), 0);
}

#[test]
fn the_death_of_any_ends_the_session() {
    let (mut world, id) = running("multi-node");
    let there = containers(&world, id);
    ended(&mut world, there[2], exit(3));
    assert_eq!(
        world.stored[&id].detail.as_deref(),
        Some("sub2 ended with 3")
    );
    ended(&mut world, there[0], exit(0));
    ended(&mut world, there[1], exit(143));
    assert_eq!(world.show(id), "s-1 TERMINATED a1 container-died failure");
}

#[test]
fn one_that_cannot_start_takes_all_back() {
    let (mut world, id) = placed("single-node");
    let there = containers(&world, id);
    all(&mut world, id, ContainerState::Creating);
    ended(&mut world, there[1], failed(Cause::CreateFailed));
    assert!(world.is(id, SessionState::Preparing));
    for (agent, key) in [there[0], there[2]] {
        assert_eq!(world.order(agent, key).map(|o| o.want), Some(Want::Stop));
        world.outcome(agent, key, OutcomeNumber::Closed, None);
    }
    assert_eq!(world.show(id), "s-1 PENDING a2");
    world.later(10_000);
    assert_eq!(containers(&world, id).len(), 3);
}

#[test]
fn one_that_is_missing_takes_all_back() {
    let (mut world, id) = placed("single-node");
    let there = containers(&world, id);
    all(&mut world, id, ContainerState::Creating);
    let left: Vec<_> = [there[0], there[2]]
        .map(|(_, key)| (key, ContainerState::Creating))
        .into();
    world.whole(there[0].0, &left, false);
    assert_eq!(wants(&world, id), [Want::Stop; 2]);
    for (agent, key) in [there[0], there[2]] {
        world.outcome(agent, key, OutcomeNumber::Closed, None);
    }
    assert_eq!(world.show(id), "s-1 PENDING a2");
}

#[test]
fn a_node_that_is_given_up_ends_it_everywhere() {
    let mut world = World::new();
    world.agent("n1", 0);
    world.agent("n2", 0);
    let id = world.submit(three("multi-node", "8"));
    all(&mut world, id, ContainerState::Created);
    all(&mut world, id, ContainerState::Running);
    let there = containers(&world, id);
    let lost = there[2].0;
    world.lose(lost);
    assert!(world.stored[&id].unreachable);
    world.give_up(lost);
    assert!(world.is(id, SessionState::Error));
    for (agent, key) in there.into_iter().filter(|(agent, _)| *agent != lost) {
        assert_eq!(world.order(agent, key).map(|o| o.want), Some(Want::Stop));
    }
}
