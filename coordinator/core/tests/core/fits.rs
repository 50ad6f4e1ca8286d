//! What is said of requests that no node could ever hold.

use super::world::{World, inventory, job, slots};
use longshore_common::agent::Inventory;
use longshore_common::amount::{SlotName, UNIT};
use longshore_common::api::{NewCluster, NewSession};
use longshore_core::model::{Event, Refusal};

/// `n1` with 16 cores, 64 GiB and amd64, and `n2` as it is given.
fn with(other: Inventory) -> World {
    let mut world = World::new();
    world.agent("n1", 0);
    let agent = world.agent("n2", 0);
    world.does(Event::Inventory {
        agent,
        inventory: Box::new(other),
    });
    world
}

fn arm(cpu: i64) -> Inventory {
    let mut arm = inventory("n2", 0);
    arm.arch = "arm64".into();
    arm.offered = arm.offered.with(SlotName::cpu(), cpu * UNIT);
    arm
}

fn refused(world: &mut World, request: NewSession) -> Refusal {
    let refusal = world.ask(request).expect_err("it never fits");
    assert_eq!(refusal.code, "LS-FIT-NEVER");
    let said = format!("{} {:?} {:?}", refusal.detail, refusal.hint, refusal.errors);
    assert!(!said.contains("0 containers"), "{said}");
    refusal
}

fn several(mode: &str, cpu: &str) -> NewSession {
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

fn of_arch(arch: &str, request: NewSession) -> NewSession {
    NewSession {
        arch: Some(arch.to_owned()),
        ..request
    }
}

#[test]
fn sizes_are_told_in_units_and_never_look_equal() {
    let mut world = World::new();
    world.agent("n1", 0);
    let refusal = refused(&mut world, slots(job(), &[("mem", "65g")]));
    assert_eq!(
        refusal.detail,
        "You asked for mem 65 GB; the largest agent of group default has 64 GB."
    );
    assert_eq!(refusal.hint.unwrap(), "Ask for mem 64 GB or less.");
    assert_eq!(
        refusal.errors[0].message,
        "65 GB is more than the 64 GB any agent of group default has."
    );
    let refusal = refused(&mut world, slots(job(), &[("mem", "68719476737")]));
    assert_eq!(
        refusal.detail,
        "You asked for mem 65537 MB; the largest agent of group default has 65536 MB."
    );
}

#[test]
fn an_architecture_that_is_not_there_is_the_reason() {
    let mut world = with(inventory("n2", 0));
    for mode in ["single-node", "multi-node"] {
        let refusal = refused(&mut world, of_arch("arm64", several(mode, "1")));
        assert_eq!(
            refusal.detail,
            "You asked for an agent with arch arm64; group default has amd64."
        );
        assert_eq!(refusal.errors[0].pointer, "/arch");
    }
    let mut world = with(arm(4));
    let refusal = refused(&mut world, of_arch("riscv64", job()));
    assert_eq!(
        refusal.detail,
        "You asked for an agent with arch riscv64; group default has amd64, arm64."
    );
    assert_eq!(
        refusal.hint.unwrap(),
        "Ask for arch amd64 or arm64, or for a group that has riscv64."
    );
    // An agent that is larger and of another architecture is not the largest.
    let refusal = refused(&mut world, of_arch("arm64", slots(job(), &[("cpu", "8")])));
    assert_eq!(
        refusal.detail,
        "You asked for cpu 8; the largest arm64 agent of group default has 4."
    );
}

#[test]
fn where_no_container_fits_the_largest_agent_is_told() {
    let mut world = with(arm(4));
    let refusal = refused(&mut world, several("multi-node", "20"));
    assert_eq!(
        refusal.detail,
        "One container asks for cpu 20; the largest agent of group default has 16."
    );
    assert_eq!(refusal.hint.unwrap(), "Ask for cpu 16 or less.");
    assert_eq!(refusal.limit.unwrap().limit.as_deref(), Some("16"));
    let refusal = refused(&mut world, several("multi-node", "12"));
    assert_eq!(
        refusal.detail,
        "The agents of group default together could hold 1 of 3 containers."
    );
    assert_eq!(
        refusal.hint.unwrap(),
        "Ask for 1 container, or for smaller ones."
    );
    let mut narrow = inventory("n2", 0);
    narrow.offered = narrow.offered.with(SlotName::cpu(), 64 * UNIT);
    narrow.max_containers = 2;
    let mut world = with(narrow);
    let refusal = refused(&mut world, several("single-node", "10"));
    assert_eq!(
        refusal.detail,
        "No agent of group default takes 3 containers; the most is 2."
    );
    assert_eq!(
        refusal.hint.unwrap(),
        "Ask for 2 containers or fewer, or for several agents."
    );
}
