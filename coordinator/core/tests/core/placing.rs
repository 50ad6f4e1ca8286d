//! Who gets a place, and which devices.

use super::world::{World, condition, exit, gpu_job, inventory, job, slots};
use longshore_common::agent::RuntimeState;
use longshore_common::amount::SlotName;
use longshore_common::api::NewSession;
use longshore_common::ids::SessionId;
use longshore_common::session::{SessionState, Want};
use longshore_common::time::Timestamp;
use longshore_core::model::{Change, Event, Steering};
use longshore_core::scheduler::{blocked_by, explain, position};
use std::collections::BTreeSet;

#[test]
fn two_gpus_serve_two_and_the_third_waits_with_its_reason() {
    let mut world = World::new();
    world.agent("n1", 2);
    let [a, b, c] = [(); 3].map(|()| world.submit(gpu_job(1)));
    assert_eq!(
        world.show(a),
        "s-1 SCHEDULED a1, n1 prepare assigned GPU-n1-0"
    );
    assert_eq!(
        world.show(b),
        "s-2 SCHEDULED a1, n1 prepare assigned GPU-n1-1"
    );
    assert_eq!(
        world.why(c),
        "waits for cuda.device 1, at most 0 free on one agent"
    );
    world.run(a);
    world.ends(a, exit(0));
    assert_eq!(
        world.show(c),
        "s-3 SCHEDULED a1, n1 prepare assigned GPU-n1-0"
    );
}

#[test]
fn a_device_is_never_given_out_twice() {
    let mut world = World::new();
    for name in ["n1", "n2", "n3"] {
        world.agent(name, 3);
    }
    let ids: Vec<_> = (0..12).map(|n| world.submit(gpu_job(n % 3 + 1))).collect();
    let placed: Vec<String> = ids
        .iter()
        .filter(|id| world.is(**id, SessionState::Scheduled))
        .flat_map(|id| world.devices(*id))
        .collect();
    assert_eq!(placed.len(), placed.iter().collect::<BTreeSet<_>>().len());
    assert!(placed.len() >= 8, "{placed:?}");
}

#[test]
fn first_come_first_served_and_the_head_is_passed_after_three_tries() {
    let mut world = World::new();
    world.agent("n1", 2);
    let first = world.submit(gpu_job(2));
    let big = world.submit(gpu_job(2));
    let small = world.submit(job());
    assert_eq!(world.show(small), "s-3 PENDING a1");
    assert_eq!(world.why(small), "s-2 is before it and finds no room");
    let (state, planner) = world.core.ask();
    let place = position(planner, state, &world.stored[&small], world.now);
    assert_eq!(place, Some(2));
    // Tried at 0, 10 and 20 seconds: in the pass at 30 it holds nobody up.
    world.later(29_999);
    assert!(world.is(small, SessionState::Pending));
    world.later(1);
    assert!(world.is(big, SessionState::Pending) && world.is(small, SessionState::Scheduled));
    world.terminate(&[first], 0, false);
    world.closed(first);
    assert!(world.is(big, SessionState::Scheduled));
}

#[test]
fn the_higher_priority_goes_first_and_among_equals_the_older() {
    let mut world = World::new();
    let with = |priority| NewSession {
        priority: Some(priority),
        ..slots(job(), &[("cpu", "16")])
    };
    let ids: Vec<_> = [10, 50, 10, 50].map(|p| world.submit(with(p))).into();
    world.agent("n1", 0);
    for expected in [ids[1], ids[3], ids[0], ids[2]] {
        assert!(
            world.is(expected, SessionState::Scheduled),
            "{}",
            world.show_all()
        );
        world.run(expected);
        world.ends(expected, exit(0));
    }
}

#[test]
fn the_fuller_node_is_filled_first_and_gpus_are_kept_for_those_who_ask() {
    let mut world = World::new();
    world.agent("gpu", 2);
    let plain = world.agent("plain", 0);
    let a = world.submit(job());
    assert_eq!(world.agent_of(a), plain);
    world.agent("also", 0);
    let b = world.submit(job());
    assert_eq!(world.agent_of(b), plain, "it has less left");
}

#[test]
fn a_node_that_takes_no_work_gets_none() {
    let mut world = World::new();
    let n1 = world.agent("n1", 0);
    world.schedulable(n1, false);
    let id = world.submit(job());
    let (state, planner) = world.core.ask();
    let explained = explain(planner, state, &world.stored[&id], world.now);
    let first = &explained.blocked_by[0];
    assert_eq!(
        (first.stage.as_str(), first.rule.as_str()),
        ("capacity", "no-agents")
    );
    assert_eq!(&*explained.agents[0].text, "takes no new sessions");
    world.schedulable(n1, true);
    assert!(world.is(id, SessionState::Scheduled));
}

#[test]
fn closing_a_node_leaves_what_runs_there() {
    let mut world = World::new();
    let n1 = world.agent("n1", 0);
    let id = world.submit(job());
    world.schedulable(n1, false);
    world.run(id);
    assert_eq!(world.want(id), Some(Want::Run));
}

#[test]
fn the_version_a_person_saw_is_compared() {
    let mut world = World::new();
    let agent = world.agent("n1", 0);
    let version = Some(world.state().agents[&agent].version);
    world.does(Event::SetSchedulable {
        agent,
        version,
        schedulable: false,
    });
    let late = world.happen(Event::SetSchedulable {
        agent,
        version,
        schedulable: true,
    });
    assert_eq!(late.unwrap_err().code, "LS-VERSION-STALE");
}

#[test]
fn conditions_stop_placements_until_they_are_gone() {
    let mut world = World::new();
    let n1 = world.agent("n1", 0);
    world.does(condition(n1, RuntimeState::Hung, true));
    let id = world.submit(job());
    let (state, planner) = world.core.ask();
    let explained = explain(planner, state, &world.stored[&id], world.now);
    let first = &explained.blocked_by[0];
    assert_eq!(
        (first.stage.as_str(), first.rule.as_str()),
        ("capacity", "no-agents")
    );
    assert_eq!(&*explained.agents[0].text, "runtime-hung, disk-low");
    world.does(condition(n1, RuntimeState::Up, false));
    assert!(world.is(id, SessionState::Scheduled));
}

#[test]
fn explanations_name_every_node() {
    let mut world = World::new();
    let n1 = world.agent("n1", 1);
    world.lose(n1);
    let n2 = world.agent("n2", 0);
    world.schedulable(n2, false);
    let id = world.submit(gpu_job(1));
    let (state, planner) = world.core.ask();
    let explained = explain(planner, state, &world.stored[&id], world.now);
    let verdicts: Vec<_> = explained
        .agents
        .iter()
        .map(|v| format!("{} {}", v.agent_name, v.verdict))
        .collect();
    assert_eq!(verdicts, ["n1 lost", "n2 unschedulable"]);
    assert_eq!(explained.position, Some(1));
    // What was just loaded is looked at at once; then nothing is due.
    let mut world = World::new();
    assert_eq!(world.core.next_deadline(), Some(Timestamp(0)));
    let (mut changes, mut effects) = (Vec::new(), Vec::new());
    world.core.place(world.now, &mut changes, &mut effects);
    assert_eq!(world.core.next_deadline(), None);
}

/// The rules that hold a session back, each with the second since when.
fn since(world: &mut World, id: SessionId, zero: Timestamp) -> Vec<(String, Option<i64>)> {
    let (state, planner) = world.core.ask();
    blocked_by(planner, state, &world.stored[&id], world.now)
        .into_iter()
        .map(|b| (b.rule, b.since.map(|at| at.since(zero) / 1000)))
        .collect()
}

#[test]
fn each_reason_says_since_when_it_has_held() {
    let mut world = World::new();
    world.agent("n1", 2);
    let zero = world.now;
    let first = world.submit(gpu_job(2));
    world.later(1_000);
    let head = world.submit(gpu_job(1));
    world.later(2_000);
    let behind = world.submit(job());
    let held = world.submit(NewSession {
        hold: true,
        ..job()
    });
    let told = |rule: &str, at: i64| vec![(rule.to_owned(), Some(at))];
    world.later(4_000);
    for _ in 0..2 {
        assert_eq!(since(&mut world, head, zero), told("short", 1));
        assert_eq!(since(&mut world, behind, zero), told("head-of-line", 3));
        assert_eq!(since(&mut world, held, zero), told("held", 3));
        // Other settings have everything read anew; nobody waits for another reason by that.
        let mut settings = world.state().scheduler.clone();
        settings.interval_s += 1;
        world.core.apply(&Change::Scheduler(settings));
        world.later(1_000);
    }
    // Another head, another wait: the one before it was held back, and goes.
    world.steer(head, Steering::Hold).unwrap();
    let second = world.submit(gpu_job(1));
    assert!(world.is(behind, SessionState::Scheduled));
    assert_eq!(since(&mut world, head, zero), told("held", 9));
    assert_eq!(since(&mut world, second, zero), told("short", 9));
    world.later(1_000);
    world.steer(head, Steering::Release).unwrap();
    assert_eq!(since(&mut world, head, zero), told("short", 10));
    assert_eq!(since(&mut world, second, zero), told("head-of-line", 10));
    world.terminate(&[first], 0, false);
    world.closed(first);
    assert!(world.is(head, SessionState::Scheduled) && world.is(second, SessionState::Scheduled));
}

#[test]
fn who_is_only_asked_about_has_waited_since_never() {
    let mut world = World::new();
    world.agent("n1", 1);
    world.submit(gpu_job(1));
    let waits = world.submit(gpu_job(1));
    let asked = longshore_core::model::Session {
        id: SessionId(99),
        ..world.stored[&waits].clone()
    };
    let (state, planner) = world.core.ask();
    let blocked = blocked_by(planner, state, &asked, world.now);
    assert_eq!(blocked.len(), 1);
    assert_eq!(blocked[0].since, None);
}

/// Two GPUs in quarters: of 1.75 each gives the same, so there is a quarter less than was asked.
#[test]
fn what_was_granted_of_a_share_stands_with_its_container_and_is_said() {
    let mut world = World::new();
    let agent = world.agent("n1", 2);
    let shares: SlotName = "cuda.shares".parse().expect("a slot");
    let mut inventory = inventory("n1", 2);
    inventory.allocation.quantum = 250;
    for device in &mut inventory.devices {
        device.slot = shares.clone();
    }
    world.does(Event::Inventory {
        agent,
        inventory: Box::new(inventory),
    });
    let id = world.submit(slots(job(), &[("cuda.shares", "1.75")]));
    let container = world.container(id);
    assert_eq!(container.slots.amount(&shares), 1500);
    let parts: Vec<i64> = container.devices.iter().map(|part| part.amount).collect();
    assert_eq!(parts, [750, 750]);
    let adjusted = &world.stored[&id].adjusted;
    let said = adjusted.iter().find(|a| a.path == "/slots/cuda.shares");
    let said = said.map(|a| (a.from.as_deref(), a.to.as_str(), a.reason.as_str()));
    assert_eq!(said, Some((Some("1.75"), "1.5", "quantum")));
}
