//! Containers of the cluster that no order names.

use super::clusters::{all, containers, ended, three};
use super::world::{World, exit, failed, gpu_job, job};
use longshore_common::amount::{SlotName, Slots};
use longshore_common::api::NewRestart;
use longshore_common::ids::{
    AgentId, Attempt, ClusterId, ContainerKey, Fence, ProjectId, Rank, SessionId, UserId,
};
use longshore_common::session::{Cause, ContainerState, DeviceGrant, SessionState, Want};
use longshore_common::time::Timestamp;
use longshore_common::wire::{Claim, ContainerReport, OutcomeNumber, UnclaimedItem};
use longshore_core::access::Operation;
use longshore_core::model::admin::{AdminOrder, AdminVerb};
use longshore_core::model::{
    Change, Doer, Event, Meta, Refusal, Steering, Stray, UNDECIDED_S, audited, placement, react,
};
use std::collections::BTreeSet;

fn stranger() -> ContainerKey {
    ContainerKey {
        session: SessionId(900),
        rank: Rank::MAIN,
        attempt: Attempt::FIRST,
    }
}

/// It holds a GPU of the node, and claims one that no node has.
fn item(node: &str) -> UnclaimedItem {
    let grant = |device: &str| DeviceGrant {
        slot: SlotName::cuda_device(),
        device: device.parse().expect("a device id"),
        amount: 1000,
    };
    UnclaimedItem {
        key: stranger(),
        report: report(stranger(), ContainerState::Running),
        record: String::new(),
        claim: Claim {
            slots: Slots::new()
                .with(SlotName::cpu(), 1000)
                .with(SlotName::cuda_device(), 1000),
            devices: vec![grant(&format!("GPU-{node}-0")), grant("GPU-of-nobody")],
        },
    }
}

fn told(world: &mut World, agent: AgentId, items: Vec<UnclaimedItem>) {
    let items = items.into_iter().map(Stray::from).collect();
    world.does(Event::Unclaimed { agent, items });
}

fn report(key: ContainerKey, state: ContainerState) -> ContainerReport {
    ContainerReport {
        key,
        state,
        docker_id: "d0c".to_owned(),
        started_at: Some(Timestamp(1_800_000_001_000)),
        fence: Fence(1),
        idle_deadline: None,
        frozen: false,
        idle: false,
        used_at: None,
        image: None,
    }
}

fn adopt(world: &mut World, key: &str) -> Result<(), Refusal> {
    let order = AdminOrder {
        caller: world.caller(),
        dry_run: false,
        expected_version: None,
        verb: AdminVerb::AdoptUnclaimed {
            key: key.to_owned(),
        },
    };
    world.happen(Event::Admin(Box::new(order))).map(drop)
}

/// An installation with a node, as it was when its database was copied: whatever is done after
/// that, in another one made alike, this one does not know.
fn copied() -> (World, AgentId) {
    let mut world = World::new();
    let node = world.agent("n1", 2);
    (world, node)
}

/// What the node tells of a session of another installation that was made alike.
fn stray(of: &World, id: SessionId) -> Stray {
    stray_of(of, (of.agent_of(id), of.key(id)))
}

fn stray_of(of: &World, (agent, key): (AgentId, ContainerKey)) -> Stray {
    let placed = placement(of.state(), agent, key).expect("as the test has it");
    let session = &of.stored[&key.session];
    let container = session
        .containers
        .iter()
        .find(|c| c.key == key)
        .expect("as the test has it");
    let claim = Claim {
        slots: container.slots.clone(),
        devices: container.devices.clone(),
    };
    // As it comes back: out of the text of a label.
    let text = serde_json::to_string(&placed).expect("as the test has it");
    Stray {
        item: UnclaimedItem {
            key,
            claim,
            report: report(key, container.state),
            record: String::new(),
        },
        record: Some(serde_json::from_str(&text).expect("as the test has it")),
        stored: None,
    }
}

fn tells(world: &mut World, agent: AgentId, stray: &Stray) {
    let items = vec![stray.clone()];
    world.does(Event::Unclaimed { agent, items });
}

/// A session with two GPUs and a name, which runs where the copy does not know it.
fn unknown() -> (World, World, AgentId, SessionId) {
    let ((mut before, _), (copy, node)) = (copied(), copied());
    let mut request = gpu_job(2);
    request.name = Some("train".to_owned());
    request.restart = Some(NewRestart {
        max: 2,
        ..NewRestart::default()
    });
    let id = before.submit(request);
    before.run(id);
    (before, copy, node, id)
}

#[test]
fn what_an_older_database_does_not_know_is_made_again_of_its_record() {
    let (before, mut world, node, id) = unknown();
    let stray = stray(&before, id);
    tells(&mut world, node, &stray);
    assert!(world.is(id, SessionState::Running), "{}", world.show(id));
    let (was, is) = (&before.stored[&id], &world.stored[&id]);
    assert_eq!(
        (is.owner, &is.name, is.lifetime_s),
        (was.owner, &was.name, was.lifetime_s)
    );
    assert_eq!(is.started_at, stray.item.report.started_at);
    assert_eq!(is.restart, was.restart, "nothing of it is missing");
    assert!(is.adopted.as_ref().is_some_and(|a| !a.parts_missing));
    // The same order comes of it, or its node would take the container for another one.
    let key = before.key(id);
    let (then, now) = (
        before.order(node, key).unwrap(),
        world.order(node, key).unwrap(),
    );
    assert_eq!(
        (now.spec, now.want, now.restartable),
        (then.spec, Want::Run, true)
    );
    assert_eq!(world.devices(id), before.devices(id), "in the ledger");
    assert_eq!(world.state().agents[&node].unclaimed, []);
    assert_eq!(world.state().agent_use(node).containers, 1);
    // Its number is not given out again, and its name is its own.
    let next = world.submit(gpu_job(1));
    assert!(next > id && world.is(next, SessionState::Pending));
    // From here on it is a session like others.
    world.ends(id, exit(0));
    assert!(world.is(id, SessionState::Terminated), "{}", world.show(id));
    assert!(
        world.is(next, SessionState::Scheduled),
        "{}",
        world.show(next)
    );
}

#[test]
fn the_adoption_stands_in_the_audit_log() {
    let (before, world, node, id) = unknown();
    let event = Event::Unclaimed {
        agent: node,
        items: vec![stray(&before, id)],
    };
    let outcome = react(world.state(), &event, world.now);
    let records = audited(world.state(), &event, &outcome);
    let [record] = &records[..] else {
        panic!("{records:?}");
    };
    assert_eq!(
        (record.operation, &record.doer, record.target.id.as_str()),
        (
            Operation::UnclaimedWrite,
            &Doer::System,
            id.to_string().as_str()
        )
    );
}

#[test]
fn what_was_given_stands_in_no_record_and_is_not_run_again() {
    let ((mut before, _), (mut world, node)) = (copied(), copied());
    let mut request = job();
    request
        .environment
        .insert("TOKEN".to_owned(), "hunter2".to_owned());
    request.restart = Some(NewRestart {
        max: 2,
        ..NewRestart::default()
    });
    let id = before.submit(request);
    before.run(id);
    let stray = stray(&before, id);
    let text = serde_json::to_string(&stray.record).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
    tells(&mut world, node, &stray);
    assert!(world.is(id, SessionState::Running), "{}", world.show(id));
    let key = before.key(id);
    let (then, now) = (
        before.order(node, key).unwrap(),
        world.order(node, key).unwrap(),
    );
    assert_eq!((now.spec, now.restartable), (then.spec, false));
    let refused = world.steer(id, Steering::Restart).unwrap_err();
    assert_eq!(refused.code, "LS-STATE");
    assert!(refused.detail.contains("not known here"), "{refused:?}");
}

#[test]
fn what_was_given_is_missing_to_another_try() {
    let ((mut before, _), (mut world, node)) = (copied(), copied());
    let mut request = job();
    request
        .environment
        .insert("TOKEN".to_owned(), "hunter2".to_owned());
    let id = before.submit(request);
    all(&mut before, id, ContainerState::Created);
    tells(&mut world, node, &stray(&before, id));
    assert!(!world.is(id, SessionState::Pending), "{}", world.show(id));
    let refused = failed(Cause::PullNetwork);
    ended(&mut world, (node, before.key(id)), refused);
    assert!(world.is(id, SessionState::Cancelled), "{}", world.show(id));
    let detail = world.stored[&id].detail.clone().unwrap_or_default();
    assert!(detail.contains("is not known here any more"), "{detail}");
}

#[test]
fn what_still_waits_in_an_older_database_gets_its_container_back() {
    let ((mut before, _), (mut world, node)) = (copied(), copied());
    let mut request = gpu_job(2);
    request
        .environment
        .insert("TOKEN".to_owned(), "hunter2".to_owned());
    let id = before.submit(request.clone());
    before.run(id);
    world.schedulable(node, false); // it had not been placed when the copy was made
    assert_eq!(world.submit(request), id);
    assert!(world.is(id, SessionState::Pending));
    tells(&mut world, node, &stray(&before, id));
    assert!(world.is(id, SessionState::Running), "{}", world.show(id));
    let session = &world.stored[&id];
    assert_eq!(
        session.environment["TOKEN"], "hunter2",
        "this database knows it"
    );
    assert!(session.adopted.as_ref().is_some_and(|a| !a.parts_missing));
    assert_eq!(world.rows(id), before.rows(id));
}

#[test]
fn the_containers_of_a_session_come_back_node_by_node() {
    let nodes = || {
        let mut world = World::new();
        world.agent("n1", 0);
        world.agent("n2", 0);
        world
    };
    let (mut before, mut world) = (nodes(), nodes());
    let id = before.submit(three("multi-node", "8"));
    all(&mut before, id, ContainerState::Created);
    all(&mut before, id, ContainerState::Running);
    let there = containers(&before, id);
    let on: BTreeSet<AgentId> = there.iter().map(|(agent, _)| *agent).collect();
    assert_eq!((there.len(), on.len()), (3, 2));
    for agent in on {
        let of = there.iter().filter(|(a, _)| *a == agent);
        let items = of.map(|one| stray_of(&before, *one)).collect();
        world.does(Event::Unclaimed { agent, items });
        assert!(world.is(id, SessionState::Running), "{}", world.show(id));
    }
    let (mut now, mut then) = (containers(&world, id), there.clone());
    now.sort();
    then.sort();
    assert_eq!(now, then);
    for (agent, key) in there {
        let order = world.order(agent, key).unwrap();
        assert_eq!(order.spec, before.order(agent, key).unwrap().spec);
        assert_eq!(order.want, Want::Run);
    }
    let networks = |world: &World| world.stored[&id].networks.clone();
    assert_eq!(networks(&world), networks(&before));
}

/// What becomes of the container of [`unknown`] where something is not as it was.
#[test]
fn the_table() {
    type Differs = fn(&mut World, AgentId, &mut Stray);
    let table: [(&str, Differs, Option<u32>, &str); 9] = [
        (
            "an older fence",
            |world, node, _| {
                let mut node = world.state().agents[&node].clone();
                node.fence = Fence(2);
                world.apply(vec![Change::Agent(Box::new(node))]);
            },
            Some(0),
            "",
        ),
        (
            "final in the store",
            |_, _, stray| stray.stored = Some(stray.item.key.attempt),
            Some(0),
            "",
        ),
        (
            "no record",
            |_, _, stray| stray.record = None,
            None,
            "no record",
        ),
        (
            "a record of another installation",
            |_, _, stray| {
                stray.record.as_mut().unwrap().cluster = ClusterId::new(8);
            },
            None,
            "another node or release",
        ),
        (
            "a record of another node",
            |_, _, stray| {
                let record = stray.record.as_mut().unwrap();
                record.session.containers[0].agent = AgentId::new(5);
            },
            None,
            "another container",
        ),
        (
            "a record of a later release",
            |_, _, stray| {
                stray.record.as_mut().unwrap().form += 1;
            },
            None,
            "another node or release",
        ),
        (
            "an owner who is not known",
            |_, _, stray| {
                stray.record.as_mut().unwrap().session.owner = UserId::new(77);
            },
            None,
            "its owner",
        ),
        (
            "a project that is not known",
            |_, _, stray| {
                stray.record.as_mut().unwrap().session.project = ProjectId::new(77);
            },
            None,
            "its project",
        ),
        (
            "its devices were given away",
            |world, _, _| {
                world.apply(vec![Change::Meta(Meta {
                    next_session: 500,
                    ..world.state().meta.clone()
                })]);
                world.submit(gpu_job(1));
            },
            None,
            "given to another session",
        ),
    ];
    for (what, change, stop, why) in table {
        let (before, mut world, node, id) = unknown();
        let mut stray = stray(&before, id);
        change(&mut world, node, &mut stray);
        tells(&mut world, node, &stray);
        let unclaimed = &world.state().agents[&node].unclaimed;
        assert_eq!(unclaimed.len(), 1, "{what}");
        assert_eq!(unclaimed[0].stop, stop, "{what}");
        assert!(
            unclaimed[0].why.contains(why),
            "{what}: {}",
            unclaimed[0].why
        );
        assert!(!world.stored.contains_key(&id), "{what}");
        let order = world.order(node, before.key(id)).map(|order| order.want);
        assert_eq!(order, stop.map(|_| Want::Stop), "{what}");
    }
}

#[test]
fn an_older_attempt_and_one_that_is_elsewhere_are_stopped() {
    let (before, mut world, node, id) = unknown();
    let first = stray(&before, id);
    tells(&mut world, node, &first);
    // The next attempt of it began meanwhile.
    world.steer(id, Steering::Restart).unwrap();
    let mut older = first.clone();
    older.item.key.attempt = Attempt::FIRST;
    let other = world.agent("n2", 2);
    tells(&mut world, other, &older);
    assert_eq!(world.state().agents[&other].unclaimed[0].stop, Some(0));
}

/// One with a second attempt, which runs where the copy knows the first; both on one node.
fn in_its_second_attempt() -> (World, World, AgentId, SessionId) {
    let ((mut before, _), (mut copy, node)) = (copied(), copied());
    let mut request = gpu_job(2);
    request.restart = Some(NewRestart {
        max: 2,
        ..NewRestart::default()
    });
    let id = before.submit(request.clone());
    assert_eq!(copy.submit(request), id);
    copy.run(id);
    before.run(id);
    let first = before.key(id);
    before
        .steer(id, Steering::Restart)
        .expect("as the test has it");
    before.outcome(node, first, OutcomeNumber::Closed, Some(exit(0)));
    before.run(id);
    assert_eq!(before.key(id).attempt, Attempt(2));
    (before, copy, node, id)
}

#[test]
fn the_books_are_brought_to_the_attempt_that_runs() {
    let (before, mut world, node, id) = in_its_second_attempt();
    let (first, second) = (world.key(id), before.key(id));
    // Its node says what it has before it says what of that no order names.
    world.whole(node, &[(second, ContainerState::Running)], false);
    assert!(world.is(id, SessionState::Running), "{}", world.show(id));
    assert_eq!(world.key(id), first, "the first is not taken for gone");
    tells(&mut world, node, &stray(&before, id));
    assert!(world.is(id, SessionState::Running), "{}", world.show(id));
    assert_eq!(world.key(id), second);
    let order = world.order(node, second).unwrap();
    assert_eq!(
        order.spec,
        before.order(node, second).unwrap().spec,
        "the same order"
    );
    assert_eq!(order.want, Want::Run);
    assert!(
        world
            .order(node, first)
            .is_none_or(|o| o.want == Want::Stop)
    );
    assert_eq!(
        world.stored[&id].attempts.len(),
        1,
        "the first is written down"
    );
    assert_eq!(world.devices(id), before.devices(id));
    assert_eq!(world.state().agents[&node].unclaimed, []);
    world.check().unwrap();
    world.check_usage();
    world.ends(id, exit(0));
    assert!(world.is(id, SessionState::Terminated), "{}", world.show(id));
    assert_eq!(world.state().agent_use(node).containers, 0);
}

#[test]
fn a_later_attempt_than_the_one_that_ended_here_is_not_stopped_at_once() {
    let (before, mut world, node, id) = in_its_second_attempt();
    let mut later = stray(&before, id);
    world.ends(id, exit(0));
    assert!(!world.state().sessions.contains_key(&id), "forgotten");
    later.stored = Some(Attempt::FIRST);
    tells(&mut world, node, &later);
    let one = world.state().agents[&node].unclaimed[0].clone();
    assert_eq!(one.stop, None);
    assert!(one.why.contains("ended here"), "{}", one.why);
    world.later(1000);
    world.does(Event::Tick);
    assert!(world.is(id, SessionState::Terminated), "{}", world.show(id));
}

#[test]
fn what_ended_and_was_forgotten_is_not_made_again() {
    let (mut before, mut world, node, id) = unknown();
    let first = stray(&before, id);
    before.steer(id, Steering::Restart).unwrap();
    before.outcome(node, first.item.key, OutcomeNumber::Closed, Some(exit(0)));
    before.run(id);
    let mut later = stray(&before, id);
    // The later one cannot be taken in; the first one is, ends, and is forgotten.
    let record = later.record.take();
    tells(&mut world, node, &first);
    world.does(Event::Unclaimed {
        agent: node,
        items: vec![later.clone()],
    });
    world.ends(id, exit(0));
    assert!(!world.state().sessions.contains_key(&id));
    let over = world.state().agents[&node].unclaimed[0].over;
    assert_eq!(over, Some(Attempt::FIRST));
    // The look at the store was before it ended.
    later.record = record;
    tells(&mut world, node, &later);
    world.later(1000);
    world.does(Event::Tick);
    assert!(world.is(id, SessionState::Terminated), "{}", world.show(id));
    // One that the look knew, and memory knows no more.
    let (before, mut world, node, id) = unknown();
    let mut known = stray(&before, id);
    known.stored = Some(Attempt::FIRST);
    tells(&mut world, node, &known);
    assert_eq!(world.state().agents[&node].unclaimed[0].stop, Some(0));
    assert!(!world.stored.contains_key(&id));
}

#[test]
fn of_two_attempts_in_one_report_the_later_is_taken() {
    let (mut before, mut world, node, id) = unknown();
    let first = stray(&before, id);
    before.steer(id, Steering::Restart).unwrap();
    before.outcome(node, first.item.key, OutcomeNumber::Closed, Some(exit(0)));
    before.run(id);
    let second = stray(&before, id);
    let mut unsigned = second.clone();
    unsigned.record = None;
    world.does(Event::Unclaimed {
        agent: node,
        items: vec![first.clone(), unsigned],
    });
    assert!(!world.stored.contains_key(&id), "not the first beside it");
    world.does(Event::Unclaimed {
        agent: node,
        items: vec![first.clone(), second],
    });
    assert!(world.is(id, SessionState::Running), "{}", world.show(id));
    assert_eq!(world.key(id).attempt, Attempt(2));
    let left = &world.state().agents[&node].unclaimed;
    let left: Vec<_> = left.iter().map(|u| (u.key, u.stop)).collect();
    assert_eq!(left, [(first.item.key, Some(0))]);
}

#[test]
fn what_was_kept_is_adopted_when_it_can_be() {
    let (before, mut world, node, id) = unknown();
    let good = stray(&before, id);
    let mut unsigned = good.clone();
    unsigned.record = None;
    tells(&mut world, node, &unsigned);
    let name = before.key(id).to_string();
    adopt(&mut world, &name).unwrap();
    assert!(world.state().agents[&node].unclaimed[0].kept);
    tells(&mut world, node, &good);
    assert!(!world.stored.contains_key(&id), "it was to be left alone");
    adopt(&mut world, &name).unwrap();
    assert!(world.is(id, SessionState::Running), "{}", world.show(id));
    assert_eq!(world.state().agents[&node].unclaimed, []);
}

#[test]
fn an_open_container_of_an_older_attempt_stays_in_the_books() {
    let nodes = || {
        let mut world = World::new();
        world.agent("n1", 1);
        world.agent("n2", 1);
        world
    };
    let (mut before, mut world) = (nodes(), nodes());
    let mut request = gpu_job(1);
    request.restart = Some(NewRestart {
        max: 2,
        ..NewRestart::default()
    });
    let id = before.submit(request.clone());
    assert_eq!(world.submit(request), id);
    let (first, held) = (before.key(id), before.agent_of(id));
    for world in [&mut before, &mut world] {
        world.run(id);
        let node = world.agent_of(id);
        world.lose(node);
        world.give_up(node); // it holds its place until it is back
    }
    assert!(world.is(id, SessionState::Pending), "{}", world.show(id));
    before.later(60_000);
    before.acknowledge(id);
    before.report(id, ContainerState::Created);
    let (other, second) = (before.agent_of(id), before.key(id));
    tells(&mut world, other, &stray(&before, id));
    assert_eq!(world.key(id), second);
    let session = &world.stored[&id];
    assert_eq!(session.attempts.len(), 1);
    assert!(session.older().any(|c| c.key == first), "{session:?}");
    world.check().unwrap();
    assert!(
        world.state().ledger.contains_key(&first),
        "it holds its place"
    );
    world.outcome(held, first, OutcomeNumber::Closed, Some(exit(0)));
    assert!(!world.state().ledger.contains_key(&first), "its claims end");
}

#[test]
fn what_stood_in_the_way_may_end() {
    let (before, mut world, node, id) = unknown();
    let mut meta = world.state().meta.clone();
    meta.next_session = 500;
    world.apply(vec![Change::Meta(meta)]);
    let holder = world.submit(gpu_job(1));
    world.run(holder);
    tells(&mut world, node, &stray(&before, id));
    assert!(!world.stored.contains_key(&id));
    world.ends(holder, exit(0));
    world.later(UNDECIDED_S * 1000 - 1);
    world.does(Event::Tick);
    assert!(world.is(id, SessionState::Running), "{}", world.show_all());
}

#[test]
fn nobody_decides_for_ten_minutes() {
    for (decision, wanted) in [
        (None, Some(Want::Stop)),
        (Some("adopt"), None),
        (Some("away"), None),
    ] {
        let mut world = World::new();
        let n1 = world.agent("n1", 1);
        told(&mut world, n1, vec![item("n1")]);
        match decision {
            Some("adopt") => adopt(&mut world, &stranger().to_string()).unwrap(),
            Some(_) => world.lose(n1),
            None => (),
        }
        world.later(UNDECIDED_S * 1000 - 1);
        assert!(world.order(n1, stranger()).is_none(), "{decision:?}");
        world.later(60_000);
        let order = world.order(n1, stranger()).map(|order| order.want);
        assert_eq!(order, wanted, "{decision:?}");
        let known = world.state().agents[&n1].unclaimed.clone();
        assert_eq!(known[0].kept, decision == Some("adopt"));
    }
}

#[test]
fn time_to_decide_begins_anew_with_a_node_that_was_away() {
    let mut world = World::new();
    let n1 = world.agent("n1", 1);
    told(&mut world, n1, vec![item("n1")]);
    world.lose(n1);
    world.later(3 * UNDECIDED_S * 1000);
    world.hello(n1);
    world.later(UNDECIDED_S * 1000 - 1);
    assert!(world.order(n1, stranger()).is_none());
    world.later(60_000);
    assert!(world.order(n1, stranger()).is_some());
}

#[test]
fn what_is_being_stopped_is_not_adopted() {
    let mut world = World::new();
    let n1 = world.agent("n1", 1);
    told(&mut world, n1, vec![item("n1")]);
    let name = stranger().to_string();
    stop(&mut world, &name, false).unwrap();
    assert_eq!(adopt(&mut world, &name).unwrap_err().code, "LS-STATE");
    assert_eq!(
        adopt(&mut world, "s-9-main1-a1").unwrap_err().code,
        "LS-NOT-FOUND"
    );
}

fn stop(world: &mut World, key: &str, dry_run: bool) -> Result<(), Refusal> {
    let order = AdminOrder {
        caller: world.caller(),
        dry_run,
        expected_version: None,
        verb: AdminVerb::StopUnclaimed {
            key: key.to_owned(),
            grace_s: 7,
        },
    };
    world.happen(Event::Admin(Box::new(order))).map(drop)
}

#[test]
fn what_they_hold_is_held_until_they_are_gone() {
    let mut world = World::new();
    let n1 = world.agent("n1", 1);
    told(&mut world, n1, vec![item("n1")]);
    let held = world.state().agent_use(n1);
    assert_eq!((held.containers, held.devices.len()), (1, 1), "{held:?}");
    let id = world.submit(gpu_job(1));
    assert!(world.is(id, SessionState::Pending), "{}", world.show(id));
    assert!(world.order(n1, stranger()).is_none(), "left alone");
    world.check().unwrap();
    told(&mut world, n1, Vec::new());
    assert_eq!(world.state().agents[&n1].unclaimed, []);
    world.later(1000);
    assert!(world.is(id, SessionState::Scheduled), "{}", world.show(id));
    world.check().unwrap();
}

#[test]
fn one_that_an_order_names_is_counted_once() {
    let mut world = World::new();
    let n1 = world.agent("n1", 1);
    let id = world.submit(gpu_job(1));
    world.run(id);
    let before = world.state().agent_use(n1);
    let mut known = item("n1");
    known.key = world.key(id);
    told(&mut world, n1, vec![known]);
    assert_eq!(world.state().agent_use(n1), before);
}

#[test]
fn an_administrator_ends_one() {
    let mut world = World::new();
    let n1 = world.agent("n1", 1);
    told(&mut world, n1, vec![item("n1")]);
    let name = stranger().to_string();
    let generation = world.generation(n1);
    assert_eq!(
        stop(&mut world, "s-9-main1-a1", false).unwrap_err().code,
        "LS-NOT-FOUND"
    );
    stop(&mut world, &name, true).unwrap();
    assert_eq!(world.generation(n1), generation, "a rehearsal");
    stop(&mut world, &name, false).unwrap();
    let order = world.order(n1, stranger()).unwrap();
    assert_eq!((order.want, order.stop.unwrap().grace_s), (Want::Stop, 7));
    assert!(world.generation(n1) > generation, "the node is told");
    let generation = world.generation(n1);
    stop(&mut world, &name, false).unwrap();
    assert_eq!(world.generation(n1), generation, "told once");
    // Still there: still held. Gone: the order goes too.
    told(&mut world, n1, vec![item("n1")]);
    assert_eq!(world.state().agent_use(n1).containers, 1);
    told(&mut world, n1, Vec::new());
    assert!(world.order(n1, stranger()).is_none());
    assert_eq!(world.state().agent_use(n1).containers, 0);
}
