//! Devices that break, and devices that people keep back.

use super::loss::again;
use super::world::{World, exit, gpu_job, group, inventory};
use longshore_common::admin::{GroupRequest, Member};
use longshore_common::agent::Health;
use longshore_common::api::NewSession;
use longshore_common::ids::{AgentId, SessionId};
use longshore_common::session::{Reason, SessionState};
use longshore_core::model::admin::{AdminOrder, AdminVerb};
use longshore_core::model::{CordonOrder, Event, Refusal, faulty};

fn told(world: &mut World, agent: AgentId, health: Health, detail: &str) {
    let mut inventory = inventory("n1", 1);
    inventory.devices[0].health = health;
    inventory.devices[0].health_detail = detail.into();
    world.does(Event::Inventory {
        agent,
        inventory: Box::new(inventory),
    });
}

fn running(request: NewSession) -> (World, AgentId, SessionId) {
    let mut world = World::new();
    let n1 = world.agent("n1", 1);
    let id = world.submit(request);
    world.run(id);
    (world, n1, id)
}

fn order(world: &mut World, agent: AgentId, reason: Option<&str>) -> Result<(), Refusal> {
    let order = CordonOrder {
        agent,
        device: "GPU-n1-0".parse().expect("a device id"),
        dry_run: false,
        version: None,
        begin: reason.map(|reason| (reason.to_owned(), "user ann".to_owned())),
    };
    let done = world.happen(Event::CordonDevice(Box::new(order)));
    done.map(|_| ())
}

fn shown(world: &World, agent: AgentId) -> (Health, String) {
    let node = &world.state().agents[&agent];
    let device = &node.inventory.as_ref().expect("it said what it is").devices[0];
    (device.health, device.health_detail.to_string())
}

/// The group wants sessions stopped whose device breaks.
pub(super) fn stops(world: &mut World) {
    let request = GroupRequest {
        on_device_fault: Member::Value("stop".to_owned()),
        ..GroupRequest::default()
    };
    let order = AdminOrder {
        verb: AdminVerb::PatchGroup(group().name, Box::new(request)),
        caller: world.caller(),
        expected_version: None,
        dry_run: false,
    };
    world.does(Event::Admin(Box::new(order)));
}

pub(super) fn is_faulty(world: &World, id: SessionId) -> bool {
    faulty(world.state(), &world.stored[&id]).next().is_some()
}

fn last_line(world: &World) -> &str {
    world
        .history
        .last()
        .and_then(|line| line.detail.as_deref())
        .expect("a line with words")
}

#[test]
fn the_owner_of_a_broken_device_is_told_and_goes_on() {
    let (mut world, n1, id) = running(gpu_job(1));
    told(&mut world, n1, Health::Cordoned, "XID 48");
    assert!(is_faulty(&world, id));
    assert!(world.is(id, SessionState::Running));
    assert_eq!(
        last_line(&world),
        "Fault: device GPU-n1-0 is cordoned: XID 48 on n1."
    );
    let lines = world.history.len();
    told(&mut world, n1, Health::Lost, "gone");
    assert_eq!(world.history.len(), lines, "it was broken before");
    told(&mut world, n1, Health::Healthy, "");
    assert!(!is_faulty(&world, id));
    assert_eq!(
        last_line(&world),
        "Fault: device GPU-n1-0 is well again on n1."
    );
    // What others do on it breaks nothing of ours.
    told(&mut world, n1, Health::Foreign, "process 7");
    assert!(!is_faulty(&world, id));
}

#[test]
fn a_group_may_want_such_sessions_stopped() {
    for (health, ends) in [(Health::Unresponsive, false), (Health::Lost, true)] {
        let (mut world, n1, id) = running(gpu_job(1));
        stops(&mut world);
        told(&mut world, n1, health, "gone");
        assert_eq!(world.is(id, SessionState::Terminating), ends, "{health}");
        assert_eq!(world.reason(id), ends.then_some(Reason::DeviceLost));
        if ends {
            world.closed(id);
            assert!(world.is(id, SessionState::Error));
        }
    }
}

#[test]
fn one_that_may_restart_waits_for_another_device() {
    let (mut world, n1, id) = running(again(gpu_job(1), 1, &["failed"]));
    stops(&mut world);
    told(&mut world, n1, Health::Cordoned, "XID 48");
    assert!(world.is(id, SessionState::Pending));
    assert_eq!(world.stored[&id].attempt.0, 2);
    world.agent("n2", 1);
    world.later(0);
    assert_eq!(world.devices(id), ["GPU-n2-0"]);
}

#[test]
fn what_a_person_keeps_back_is_not_given_out() {
    let (mut world, n1, first) = running(gpu_job(1));
    let id = world.submit(gpu_job(1));
    order(&mut world, n1, Some("fan is loud")).unwrap();
    world.ends(first, exit(0));
    assert!(world.is(id, SessionState::Pending));
    let (health, detail) = shown(&world, n1);
    assert_eq!(health, Health::Cordoned);
    assert!(
        detail.starts_with("fan is loud (by user ann since "),
        "{detail}"
    );
    // The node says its devices anew, and that this one is sick besides.
    told(&mut world, n1, Health::Healthy, "");
    assert_eq!(shown(&world, n1).0, Health::Cordoned);
    told(&mut world, n1, Health::Lost, "gone");
    assert_eq!(shown(&world, n1), (Health::Lost, "gone".to_owned()));
    order(&mut world, n1, None).unwrap();
    assert_eq!(
        shown(&world, n1).0,
        Health::Lost,
        "a person does not heal it"
    );
    told(&mut world, n1, Health::Healthy, "");
    assert_eq!(world.devices(id), ["GPU-n1-0"]);
}

#[test]
fn what_a_node_masks_stays_with_who_has_it_and_is_given_to_nobody_else() {
    let (mut world, n1, first) = running(gpu_job(1));
    let second = world.submit(gpu_job(1));
    let lines = world.history.len();
    told(
        &mut world,
        n1,
        Health::Masked,
        "devices.mask of its node names it",
    );
    assert!(world.is(first, SessionState::Running));
    assert!(!is_faulty(&world, first));
    assert_eq!(world.history.len(), lines);
    world.ends(first, exit(0));
    assert!(world.is(second, SessionState::Pending));
    // Nobody has it: the node lists it no more, and no session is told of a fault.
    let lines = world.history.len();
    world.does(Event::Inventory {
        agent: n1,
        inventory: Box::new(inventory("n1", 0)),
    });
    assert!(world.is(second, SessionState::Pending));
    assert_eq!(world.history.len(), lines);
    told(&mut world, n1, Health::Healthy, "");
    assert_eq!(world.devices(second), ["GPU-n1-0"]);
}

#[test]
fn what_has_a_device_keeps_it_and_nobody_is_alarmed() {
    let (mut world, n1, id) = running(gpu_job(1));
    let lines = world.history.len();
    order(&mut world, n1, Some("")).unwrap();
    assert!(world.is(id, SessionState::Running));
    assert!(!is_faulty(&world, id));
    told(&mut world, n1, Health::Healthy, "");
    assert_eq!(world.history.len(), lines);
    let version = world.state().agents[&n1].version;
    order(&mut world, n1, Some("")).unwrap();
    assert_eq!(world.state().agents[&n1].version, version, "it is so");
    order(&mut world, n1, None).unwrap();
    assert_eq!(shown(&world, n1), (Health::Healthy, String::new()));
}

#[test]
fn what_is_not_there_or_says_too_much_is_refused() {
    let mut world = World::new();
    let n1 = world.agent("n1", 0);
    assert_eq!(
        order(&mut world, n1, Some("")).unwrap_err().code,
        "LS-NOT-FOUND"
    );
    let absent = order(&mut world, AgentId::new(9), None).unwrap_err();
    assert_eq!(absent.code, "LS-NOT-FOUND");
    let n1 = world.agent("n1b", 1);
    let mut order = CordonOrder {
        agent: n1,
        device: "GPU-n1b-0".parse().unwrap(),
        dry_run: false,
        version: None,
        begin: Some(("x".repeat(201), "user ann".to_owned())),
    };
    let mut code = |order: &CordonOrder| {
        let done = world.happen(Event::CordonDevice(Box::new(order.clone())));
        done.map_or_else(|refusal| refusal.code, |_| "")
    };
    assert_eq!(code(&order), "LS-INVALID");
    order.begin = Some(("a\nb".to_owned(), "user ann".to_owned()));
    assert_eq!(code(&order), "LS-INVALID");
    order.begin = Some((String::new(), "user ann".to_owned()));
    order.version = Some(77);
    assert_eq!(code(&order), "LS-VERSION-STALE");
    (order.version, order.dry_run) = (None, true);
    assert_eq!(code(&order), "");
    assert_eq!(shown(&world, n1).0, Health::Healthy, "a rehearsal");
}

#[test]
fn errors_of_programs_stand_in_their_history() {
    let (mut world, n1, id) = running(gpu_job(1));
    world.does(Event::DeviceNotice {
        agent: n1,
        device: "GPU-n1-0".parse().unwrap(),
        text: "XID 31 at noon\u{7} on a GPU".to_owned(),
    });
    assert!(world.is(id, SessionState::Running));
    assert_eq!(
        last_line(&world),
        "XID 31 at noon on a GPU (GPU-n1-0 on n1)."
    );
    let lines = world.history.len();
    world.does(Event::DeviceNotice {
        agent: n1,
        device: "GPU-n1-1".parse().unwrap(),
        text: "XID 31".to_owned(),
    });
    assert_eq!(world.history.len(), lines, "nobody has it");
}
