//! Containers of the cluster that no order names.

use super::world::{World, gpu_job};
use longshore_common::amount::{SlotName, Slots};
use longshore_common::ids::{AgentId, Attempt, ContainerKey, Rank, SessionId};
use longshore_common::session::{DeviceGrant, SessionState, Want};
use longshore_common::wire::{Claim, UnclaimedItem};
use longshore_core::model::admin::{AdminOrder, AdminVerb};
use longshore_core::model::{Event, Refusal};

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
        claim: Claim {
            slots: Slots::new()
                .with(SlotName::cpu(), 1000)
                .with(SlotName::cuda_device(), 1000),
            devices: vec![grant(&format!("GPU-{node}-0")), grant("GPU-of-nobody")],
        },
    }
}

fn told(world: &mut World, agent: AgentId, items: Vec<UnclaimedItem>) {
    world.does(Event::Unclaimed { agent, items });
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
