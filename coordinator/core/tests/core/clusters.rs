//! Sessions of several containers.

use super::world::{World, exit, failed, group, inventory, job, slots};
use longshore_common::admin::{GroupRequest, Member};
use longshore_common::api::{NewCluster, NewSession};
use longshore_common::ids::{AgentId, ContainerKey, InstanceId, SessionId};
use longshore_common::limits::IdleAction;
use longshore_common::network::{NodeNetworks, SessionNetwork, Underlay};
use longshore_common::session::{Cause, ContainerState, End, Reason, SessionState, Want};
use longshore_common::time::Timestamp;
use longshore_common::wire::{IdleCheckName, OutcomeNumber};
use longshore_core::model::admin::{AdminOrder, AdminVerb};
use longshore_core::model::{
    Change, ClusterIdleVerdict, ClusterNetwork, Event, IdleSaid, More, SettingsOrder, Steering,
    cluster_idle, desired_set, is_given, judged_together,
};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// Two nodes of 16 cores, and a session of three containers that got its places.
fn placed(mode: &str) -> (World, SessionId) {
    let mut world = World::new();
    world.agent("n1", 0);
    world.agent("n2", 0);
    let id = world.submit(three(mode, "4"));
    (world, id)
}

pub(super) fn three(mode: &str, cpu: &str) -> NewSession {
    let cluster = Some(NewCluster {
        size: 3,
        mode: Some(mode.to_owned()),
        run: None,
        containers: vec![],
    });
    NewSession {
        cluster,
        ..slots(job(), &[("cpu", cpu)])
    }
}

pub(super) fn containers(world: &World, id: SessionId) -> Vec<(AgentId, ContainerKey)> {
    let present = world.stored[&id].present();
    present.map(|c| (c.agent, c.key)).collect()
}

fn wants(world: &World, id: SessionId) -> Vec<Want> {
    let orders = containers(world, id)
        .into_iter()
        .filter_map(|(agent, key)| world.order(agent, key));
    orders.map(|o| o.want).collect()
}

pub(super) fn all(world: &mut World, id: SessionId, state: ContainerState) {
    for (agent, key) in containers(world, id) {
        world.report_key(agent, key, state);
    }
}

pub(super) fn ended(world: &mut World, (agent, key): (AgentId, ContainerKey), end: End) {
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

/// One whose owner's policy stops what nobody uses for 600 s, over two nodes.
fn watched() -> (World, SessionId) {
    let mut world = World::new();
    super::prolong::policy(&mut world, |p| super::prolong::unused(p, 600, 600));
    world.agent("n1", 0);
    world.agent("n2", 0);
    let id = world.submit(NewSession {
        cluster: three("multi-node", "8").cluster,
        ..slots(super::prolong::used_by_people(), &[("cpu", "8")])
    });
    all(&mut world, id, ContainerState::Created);
    all(&mut world, id, ContainerState::Running);
    assert!(world.is(id, SessionState::Running), "{}", world.show(id));
    (world, id)
}

fn near(deadline: Timestamp) -> Option<IdleSaid> {
    let check = Some(IdleCheckName::Interaction);
    Some(IdleSaid {
        deadline,
        near: true,
        check,
    })
}

fn judged(
    world: &World,
    id: SessionId,
    said: &[Option<IdleSaid>],
    told: Option<Timestamp>,
) -> Option<ClusterIdleVerdict> {
    cluster_idle(&world.stored[&id], said, told, world.now)
}

#[test]
fn agents_stop_no_part_of_a_session_for_being_idle() {
    let (world, id) = watched();
    for (agent, key) in containers(&world, id) {
        let order = world.order(agent, key).expect("it is ordered");
        let rules = order.limits.idle.expect("each is measured");
        assert_eq!(rules.action, IdleAction::Report);
    }
    let together: Vec<SessionId> = judged_together(world.state()).map(|s| s.id).collect();
    assert_eq!(together, [id]);
}

#[test]
fn a_session_is_idle_when_all_its_containers_are() {
    let (world, id) = watched();
    let (now, at) = (world.now, world.now.plus_s(90));
    let quiet = [near(at), near(at.plus_s(-60)), near(now)];
    let warned = Some(ClusterIdleVerdict::Warn(at));
    assert_eq!(judged(&world, id, &quiet, None), warned);
    assert_eq!(judged(&world, id, &quiet, Some(now)), None, "not yet");
    // Used, or not known since a node is away: nothing, and a warning is taken back.
    let used = near(at).map(|said| IdleSaid {
        near: false,
        ..said
    });
    for other in [used, None] {
        let said = [near(now), other, near(now)];
        assert_eq!(judged(&world, id, &said, None), None);
        let back = Some(ClusterIdleVerdict::Used);
        assert_eq!(judged(&world, id, &said, Some(now)), back);
    }
    // Nobody is stopped without a warning that stood for a minute.
    let over = [near(now.plus_s(-5)); 3];
    let late = Some(ClusterIdleVerdict::Warn(now.plus_s(60)));
    assert_eq!(judged(&world, id, &over, None), late);
    for (told_s, stops) in [(59, false), (60, true)] {
        let verdict = judged(&world, id, &over, Some(now.plus_s(-told_s)));
        let stop = ClusterIdleVerdict::Stop(Reason::IdleTimeout);
        assert_eq!(verdict, stops.then_some(stop), "{told_s}");
    }
}

#[test]
fn a_verdict_stops_all_nodes_unless_somebody_kept_it_meanwhile() {
    let (mut world, id) = watched();
    let attempt = world.stored[&id].attempt;
    let idle = |verdict| Event::ClusterIdle {
        session: id,
        attempt,
        verdict,
    };
    world.does(idle(ClusterIdleVerdict::Warn(world.now.plus_s(60))));
    let line = world.history.last().and_then(|line| line.detail.clone());
    let at = world.now.plus_s(60);
    let text = format!("This session stops at {at}: none of its containers is used.");
    assert_eq!(line, Some(text));
    super::prolong::more(&mut world, id, More::Keep(None)).expect("it may be kept");
    world.does(idle(ClusterIdleVerdict::Stop(Reason::IdleTimeout)));
    assert!(world.is(id, SessionState::Running), "{}", world.show(id));
    world.later(700_000);
    world.does(idle(ClusterIdleVerdict::Stop(Reason::IdleTimeout)));
    assert!(
        world.is(id, SessionState::Terminating),
        "{}",
        world.show(id)
    );
    assert_eq!(world.reason(id), Some(Reason::IdleTimeout));
    assert_eq!(wants(&world, id), [Want::Stop; 3]);
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
    let agents: BTreeSet<AgentId> = containers(&world, id).iter().map(|c| c.0).collect();
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

/// The networks that the agents of a session are told, with the names of the agents.
fn networks(world: &World, id: SessionId) -> Vec<(String, SessionNetwork)> {
    let agents: BTreeSet<AgentId> = containers(world, id).iter().map(|c| c.0).collect();
    let told = agents.into_iter().flat_map(|agent| {
        let set = desired_set(world.state(), agent, InstanceId::new(1), world.now);
        let networks = set.expect("a known agent").networks.into_iter();
        let of = networks.filter(move |network| network.session == id);
        of.map(move |network| (world.state().agents[&agent].name.clone(), network))
    });
    told.collect()
}

/// Says where a node is reached, and what it uses.
fn has_networks(world: &mut World, name: &str, networks: NodeNetworks) {
    let agent = world.state().agent_by_ref(name).expect("it is there").id;
    let mut inventory = inventory(name, 0);
    inventory.networks = networks;
    world.does(Event::Inventory {
        agent,
        inventory: inventory.into(),
    });
}

fn at(last: u8, ranges: &[&str]) -> NodeNetworks {
    NodeNetworks {
        underlay: Some(Underlay {
            link: "eth0".to_owned(),
            address: Ipv4Addr::new(192, 0, 2, last),
            port: 4789,
            mtu: 1500,
        }),
        ranges: ranges.iter().map(|r| r.parse().expect("a range")).collect(),
    }
}

#[test]
fn the_nodes_of_a_session_are_told_of_one_network_each_with_its_part() {
    let mut world = World::new();
    world.agent("n1", 0);
    world.agent("n2", 0);
    has_networks(&mut world, "n1", at(1, &["10.214.0.0/24"]));
    has_networks(&mut world, "n2", at(2, &["10.214.1.0/29"]));
    let id = world.submit(three("multi-node", "8"));
    let told = networks(&world, id);
    let own: Vec<_> = told.iter().filter_map(|(_, n)| n.own.as_ref()).collect();
    assert_eq!((told.len(), own.len()), (2, 2));
    assert!(
        own.iter()
            .all(|o| o.number == own[0].number && o.mtu == 1450)
    );
    // What either of them uses is left out.
    assert!(own.iter().all(|o| o.subnet.to_string() == "10.214.1.8/29"));
    assert_ne!(own[0].gateway, own[1].gateway);
    for (part, other) in [(0, 1), (1, 0)] {
        let peers = &own[part].peers;
        assert_eq!((peers.len(), &peers[0].name), (1, &told[other].0));
        assert_eq!(peers[0].gateway, own[other].gateway);
        let last = if told[other].0 == "n1" { 1 } else { 2 };
        assert_eq!(peers[0].at, Some((Ipv4Addr::new(192, 0, 2, last), 4789)));
    }
    assert_eq!(told[0].1.hosts, told[1].1.hosts);
    let mut addresses: BTreeSet<Ipv4Addr> = told[0].1.hosts.iter().map(|h| h.1).collect();
    assert_eq!(addresses.len(), 3);
    addresses.extend(own.iter().map(|o| o.gateway));
    assert_eq!(addresses.len(), 5, "none is given twice");
    let alone = world.submit(job());
    assert!(networks(&world, alone).is_empty());
}

#[test]
fn no_two_live_sessions_have_a_number_or_an_address_in_common() {
    let mut world = World::new();
    world.agent("n1", 0);
    world.agent("n2", 0);
    let ids: Vec<SessionId> = (0..3)
        .map(|_| world.submit(three("multi-node", "1")))
        .collect();
    let parts = |world: &World, id| networks(world, id).remove(0).1.own.expect("its own");
    let own: Vec<_> = ids.iter().map(|id| parts(&world, *id)).collect();
    for (n, one) in own.iter().enumerate() {
        for other in &own[..n] {
            assert_ne!(one.number, other.number);
            assert!(!one.subnet.overlaps(other.subnet));
        }
    }
    // Ended is not enough: what is left on a node may still have the addresses.
    let gone = containers(&world, ids[0]);
    all(&mut world, ids[0], ContainerState::Created);
    all(&mut world, ids[0], ContainerState::Running);
    ended(&mut world, gone[0], exit(0));
    let next = world.submit(three("multi-node", "1"));
    assert!(!parts(&world, next).subnet.overlaps(own[0].subnet));
    for container in &gone[1..] {
        ended(&mut world, *container, exit(143));
    }
    let last = world.submit(three("multi-node", "1"));
    assert_eq!(parts(&world, last).subnet, own[0].subnet);
}

#[test]
fn a_start_without_a_range_fails_and_says_which_was_looked_for() {
    let mut world = World::new();
    world.agent("n1", 0);
    world.agent("n2", 0);
    has_networks(&mut world, "n2", at(2, &["10.0.0.0/8"]));
    let id = world.submit(three("multi-node", "6"));
    let failed = world.stored[&id].failed.clone().expect("it failed");
    assert_eq!(failed.cause, Cause::NetworkFailed);
    assert!(failed.detail.contains("10.214.0.0/16"), "{}", failed.detail);
    // On the other node alone there is room.
    let narrow = world.state().agent_by_ref("n2").expect("it is there").id;
    world.schedulable(narrow, false);
    let single = world.submit(three("single-node", "1"));
    assert!(world.stored[&single].failed.is_none());
    let told = networks(&world, single).remove(0).1;
    assert!(told.own.expect("its own").peers.is_empty());
    assert_eq!(told.hosts.len(), 3);
}

fn has_pool(world: &mut World, pool: &str) {
    let mut scheduler = world.state().scheduler.clone();
    scheduler.network.overlay_pool = pool.parse().expect("a range");
    let order = SettingsOrder {
        fixed: None,
        stored: None,
        expected_version: None,
        scheduler,
        service_account_admins: false,
        throttle: longshore_identity::throttle::Limits::default(),
        dry_run: false,
    };
    let set = world.happen(Event::Settings(Box::new(order)));
    set.expect("a pool");
}

#[test]
fn who_finds_no_range_waits_until_another_is_gone_and_holds_up_nobody() {
    let mut world = World::new();
    world.agent("n1", 0);
    has_pool(&mut world, "10.214.0.0/29");
    let first = world.submit(three("single-node", "1"));
    assert_eq!(networks(&world, first).len(), 1);
    let (second, third) = (
        world.submit(three("single-node", "1")),
        world.submit(three("single-node", "1")),
    );
    let alone = world.submit(job());
    assert!(world.is(alone, SessionState::Scheduled));
    for id in [second, third] {
        let session = &world.stored[&id];
        assert_eq!((session.failed_starts, session.attempt.0), (0, 1));
        assert!(world.is(id, SessionState::Pending) && world.rows(id) == 0);
        let blocked = world.blocked(id).remove(0);
        assert_eq!((&*blocked.stage, &*blocked.rule), ("ready", "overlay-pool"));
        let text = "sessions have all ranges of /29 in network.overlay_pool 10.214.0.0/29";
        assert!(blocked.text.starts_with(text), "{}", blocked.text);
    }
    // Its last container takes the range with it, and not the first.
    let there = containers(&world, first);
    all(&mut world, first, ContainerState::Created);
    all(&mut world, first, ContainerState::Running);
    for container in &there[..2] {
        ended(&mut world, *container, exit(143));
        assert!(world.is(second, SessionState::Pending));
    }
    ended(&mut world, there[2], exit(143));
    assert!(
        world.is(second, SessionState::Scheduled),
        "{}",
        world.show(second)
    );
    assert!(world.is(third, SessionState::Pending));
    assert_eq!(world.blocked(third)[0].rule, "overlay-pool");
    // More of them are there as soon as the settings say so.
    has_pool(&mut world, "10.214.0.0/28");
    assert!(
        world.is(third, SessionState::Scheduled),
        "{}",
        world.show(third)
    );
    world.check_usage();
}

#[test]
fn who_waits_for_a_range_needs_none_in_a_group_that_takes_that_of_its_nodes() {
    let mut world = World::new();
    for (number, name) in (1..).zip(["n1", "n2"]) {
        world.agent(name, 0);
        has_networks(&mut world, name, at(number, &[]));
    }
    has_pool(&mut world, "10.214.0.0/28");
    let submitted: Vec<SessionId> = (0..3)
        .map(|_| world.submit(three("multi-node", "3")))
        .collect();
    let waiting: Vec<SessionId> = submitted
        .into_iter()
        .filter(|id| world.stored[id].awaits_range.is_some())
        .collect();
    assert!(!waiting.is_empty());
    let request = GroupRequest {
        cluster_network: Member::Value("host".to_owned()),
        ..GroupRequest::default()
    };
    let order = AdminOrder {
        verb: AdminVerb::PatchGroup(group().name, Box::new(request)),
        caller: world.caller(),
        expected_version: None,
        dry_run: false,
    };
    world.does(Event::Admin(Box::new(order)));
    for id in waiting {
        assert_eq!(world.stored[&id].awaits_range, None);
        assert!(world.is(id, SessionState::Scheduled), "{}", world.show(id));
    }
}

#[test]
fn a_pool_that_is_too_small_for_it_is_nothing_to_wait_for() {
    let mut world = World::new();
    world.agent("n1", 0);
    has_pool(&mut world, "10.214.0.0/30");
    let id = world.submit(three("single-node", "1"));
    let failed = world.stored[&id].failed.clone().expect("it failed");
    assert_eq!(failed.cause, Cause::NetworkFailed);
}

#[test]
fn packets_wider_than_those_between_nodes_are_not_set() {
    let mut world = World::new();
    world.agent("n1", 0);
    has_networks(&mut world, "n1", at(1, &[]));
    let set = |world: &mut World, mtu| {
        let mut scheduler = world.state().scheduler.clone();
        scheduler.network.overlay_mtu = mtu;
        world.happen(Event::Settings(Box::new(SettingsOrder {
            fixed: None,
            stored: None,
            expected_version: None,
            scheduler,
            service_account_admins: false,
            throttle: longshore_identity::throttle::Limits::default(),
            dry_run: false,
        })))
    };
    let refusal = set(&mut world, 1451).expect_err("1500 less 50");
    assert_eq!(refusal.code, "LS-SETTING");
    assert!(
        refusal.detail.contains("1450 at most: eth0 of n1"),
        "{}",
        refusal.detail
    );
    set(&mut world, 1400).expect("it fits");
    assert_eq!(world.state().scheduler.network.overlay_mtu, 1400);
    // One that says it carries nothing does not keep the others from anything.
    world.agent("n2", 0);
    let mut broken = at(2, &[]);
    broken.underlay.as_mut().expect("it tells").mtu = 0;
    has_networks(&mut world, "n2", broken);
    set(&mut world, 1450).expect("it fits");
    assert!(set(&mut world, 1451).is_err());
    set(&mut world, 600).expect("less is always possible");
}

#[test]
fn a_restarted_session_has_a_network_for_its_new_containers() {
    for (mode, host) in [
        ("single-node", false),
        ("multi-node", false),
        ("multi-node", true),
    ] {
        let mut world = World::new();
        for (name, last) in [("n1", 1), ("n2", 2)] {
            world.agent(name, 0);
            has_networks(&mut world, name, at(last, &[]));
        }
        let mut group = world.state().groups.values().next().expect("one").clone();
        group.cluster_network = if host {
            ClusterNetwork::Host
        } else {
            ClusterNetwork::Private
        };
        world.apply(vec![Change::Group(group)]);
        let id = world.submit(three(mode, "4"));
        let before = networks(&world, id);
        all(&mut world, id, ContainerState::Created);
        all(&mut world, id, ContainerState::Running);
        world.steer(id, Steering::Restart).expect("it runs");
        let told = networks(&world, id);
        let new: Vec<_> = told.iter().filter(|(_, n)| n.attempt.0 == 2).collect();
        assert_eq!(new.len(), before.len(), "{mode}: {told:?}");
        for (_, network) in new {
            assert_eq!((network.hosts.len(), network.own.is_none()), (3, host));
            // What is left of the first attempt still has its addresses.
            let others = before.iter().filter_map(|(_, n)| n.own.as_ref());
            let mut others = others.zip(&network.own);
            assert!(others.all(|(old, new)| !old.subnet.overlaps(new.subnet)));
        }
    }
}

#[test]
fn a_range_in_which_a_node_has_something_untold_is_left_by_the_next_attempt() {
    let (mut world, id) = placed("single-node");
    let first = networks(&world, id).remove(0).1.own.expect("its own");
    let (agent, key) = containers(&world, id)[0];
    ended(&mut world, (agent, key), failed(Cause::NetworkFailed));
    for rest in containers(&world, id) {
        ended(&mut world, rest, exit(143));
    }
    world.later(10_000);
    let second = networks(&world, id).remove(0).1.own.expect("its own");
    assert!(!second.subnet.overlaps(first.subnet));
}

#[test]
fn a_group_may_give_sessions_the_network_of_their_nodes() {
    let mut world = World::new();
    world.agent("n1", 0);
    world.agent("n2", 0);
    has_networks(&mut world, "n1", at(1, &[]));
    has_networks(&mut world, "n2", at(2, &[]));
    let mut group = world.state().groups.values().next().expect("one").clone();
    group.cluster_network = ClusterNetwork::Host;
    world.apply(vec![Change::Group(group)]);
    let id = world.submit(three("multi-node", "8"));
    for (_, network) in networks(&world, id) {
        assert_eq!(network.own, None);
        for (agent, key) in containers(&world, id) {
            let last = if world.state().agents[&agent].name == "n1" {
                1
            } else {
                2
            };
            let address = network.address(key.rank);
            assert_eq!(address, Some(Ipv4Addr::new(192, 0, 2, last)));
        }
    }
    // Who has no address for others is named.
    for name in ["n1", "n2"] {
        has_networks(&mut world, name, NodeNetworks::default());
    }
    let lost = world.submit(three("multi-node", "1"));
    let failed = world.stored[&lost].failed.clone().expect("it failed");
    assert_eq!(failed.cause, Cause::NetworkFailed);
    let named = ["n1", "n2"].map(|name| failed.detail.starts_with(&format!("{name} tells")));
    assert!(named[0] || named[1], "{}", failed.detail);
    // One that is on one node whatever happens needs nothing of it.
    let single = world.submit(three("single-node", "1"));
    assert!(networks(&world, single).remove(0).1.own.is_some());
}
