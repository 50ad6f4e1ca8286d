//! What people do to how a session waits and runs: hold, release, priority, restart.

use super::world::{World, exit, failed, gpu_job, job};
use longshore_common::api::{NewRestart, SessionPatch};
use longshore_common::ids::{AgentId, SessionId};
use longshore_common::session::{Cause, ContainerState, Reason, SessionState, Want};
use longshore_common::wire::{DeviceUse, OutcomeNumber};
use longshore_core::model::Steering;
use longshore_core::model::admin::{Reported, ReportedContainer, usage_audit};

fn running() -> (World, AgentId, SessionId) {
    let mut world = World::new();
    let n1 = world.agent("n1", 1);
    let id = world.submit(gpu_job(1));
    world.run(id);
    (world, n1, id)
}

#[test]
fn what_is_held_waits_until_it_is_released() {
    let mut world = World::new();
    world.agent("n1", 0);
    let mut request = job();
    request.hold = true;
    let id = world.submit(request);
    assert!(world.is(id, SessionState::Pending));
    assert_eq!(world.why(id), "its owner holds it back");
    assert!(!world.steer(id, Steering::Release).unwrap().held);
    assert!(world.is(id, SessionState::Scheduled));
    for what in [Steering::Hold, Steering::Release] {
        let refusal = world.steer(id, what).unwrap_err();
        assert_eq!(refusal.code, "LS-STATE");
        assert!(
            refusal.detail.contains("is SCHEDULED;"),
            "{}",
            refusal.detail
        );
    }
}

#[test]
fn holding_twice_is_holding_once() {
    let mut world = World::new();
    let id = world.submit(job());
    world.steer(id, Steering::Hold).unwrap();
    let state = world.state().clone();
    assert!(world.steer(id, Steering::Hold).unwrap().held);
    assert_eq!(*world.state(), state);
    world.agent("n1", 0);
    assert!(world.is(id, SessionState::Pending));
}

#[test]
fn a_higher_priority_goes_first() {
    let mut world = World::new();
    let all = || super::world::slots(job(), &[("cpu", "16")]);
    let (first, second) = (world.submit(all()), world.submit(all()));
    let patch = |priority| {
        Steering::Change(SessionPatch {
            priority: Some(priority),
            ..SessionPatch::default()
        })
    };
    world.steer(second, patch(50)).unwrap();
    world.agent("n1", 0);
    assert!(world.is(first, SessionState::Pending) && world.is(second, SessionState::Scheduled));
    let refusal = world.steer(first, patch(101)).unwrap_err();
    assert_eq!(
        (refusal.code, refusal.errors[0].pointer.as_str()),
        ("LS-INVALID", "/priority")
    );
    assert_eq!(world.steer(second, patch(1)).unwrap_err().code, "LS-STATE");
}

#[test]
fn names_and_labels_change_while_it_lives() {
    let (mut world, _, id) = running();
    let other = world.submit(longshore_common::api::NewSession {
        name: Some("taken".to_owned()),
        ..job()
    });
    let ask = |world: &mut World, id, name: &str, mark: &str| {
        let labels = [(mark.to_owned(), "v".to_owned())].into();
        let patch = SessionPatch {
            name: Some(name.to_owned()),
            labels: Some(labels),
            ..SessionPatch::default()
        };
        let steered = world.steer(id, Steering::Change(patch));
        steered
            .map(|s| (s.name, s.labels.len()))
            .map_err(|no| no.code)
    };
    assert_eq!(
        ask(&mut world, id, "mine", "k"),
        Ok((Some("mine".to_owned()), 1))
    );
    assert_eq!(
        ask(&mut world, id, "mine", "k"),
        Ok((Some("mine".to_owned()), 1))
    );
    assert_eq!(ask(&mut world, id, "taken", "k"), Err("LS-EXISTS"));
    assert_eq!(ask(&mut world, id, "s-9", "k"), Err("LS-INVALID"));
    assert_eq!(ask(&mut world, id, "mine", ""), Err("LS-INVALID"));
    assert_eq!(ask(&mut world, id, "", "k"), Ok((None, 1)));
    assert_eq!(
        ask(&mut world, other, "mine", "k"),
        Ok((Some("mine".to_owned()), 1))
    );
    world.terminate(&[id], 0, true);
    assert_eq!(ask(&mut world, id, "again", "k"), Err("LS-STATE"));
}

#[test]
fn what_runs_unasked_beside_its_old_process_has_no_deadline() {
    let (mut world, n1, id) = running();
    let old = world.key(id);
    world.steer(id, Steering::Restart).unwrap();
    world.acknowledge(id);
    world.report(id, ContainerState::Running);
    world.outcome(n1, old, OutcomeNumber::Ended, Some(exit(143)));
    assert_eq!(world.want(id), Some(Want::Run));
    assert_eq!(world.stored[&id].deadline, None);
}

#[test]
fn a_restart_keeps_the_place_and_waits_for_the_old_process() {
    let (mut world, n1, id) = running();
    let other = world.submit(gpu_job(1));
    let (old, rows) = (world.key(id), world.rows(id));
    world.steer(id, Steering::Restart).unwrap();
    assert_eq!(
        world.show(id),
        "s-1 PREPARING a2, old n1 stop running GPU-n1-0, n1 prepare assigned GPU-n1-0"
    );
    assert_eq!(
        (world.rows(id), world.counts(id)),
        (rows, true),
        "carried over"
    );
    assert_eq!(world.order(n1, old).map(|e| e.want), Some(Want::Stop));
    world.acknowledge(id);
    world.report(id, ContainerState::Created);
    assert_eq!(
        world.want(id),
        Some(Want::Prepare),
        "the old one may still run"
    );
    world.outcome(n1, old, OutcomeNumber::Ended, Some(exit(143)));
    world.outcome(n1, old, OutcomeNumber::Closed, None);
    assert_eq!(world.want(id), Some(Want::Run));
    world.report(id, ContainerState::Running);
    assert_eq!(world.show(id), "s-1 RUNNING a2, n1 run running GPU-n1-0");
    assert_eq!(
        world.path(id),
        "PENDING SCHEDULED PREPARING RUNNING PREPARING RUNNING"
    );
    assert!(world.is(other, SessionState::Pending));
    world.ends(id, exit(0));
    assert_eq!(world.devices(other), ["GPU-n1-0"]);
}

#[test]
fn a_restart_that_fails_ends_the_session() {
    let (mut world, n1, id) = running();
    let old = world.key(id);
    world.steer(id, Steering::Restart).unwrap();
    world.outcome(n1, old, OutcomeNumber::Closed, None);
    world.ends(id, failed(Cause::PullNetwork));
    assert_eq!(world.show(id), "s-1 TERMINATED a2 restart-failed failure");
    assert!(world.state().ledger.is_empty());
}

#[test]
fn a_restart_whose_old_process_does_not_end_fails_and_keeps_the_place() {
    let (mut world, n1, id) = running();
    let old = world.key(id);
    world.steer(id, Steering::Restart).unwrap();
    world.acknowledge(id);
    let new = world.key(id);
    world.report(id, ContainerState::Created);
    world.later(600_000);
    world.outcome(n1, new, OutcomeNumber::Closed, None);
    assert_eq!(world.reason(id), Some(Reason::RestartFailed));
    assert!(world.stored[&id].state.is_final() && world.stored[&id].is_releasing());
    // Its agent has nothing of the newer one, and the older one is there still.
    let report = Reported {
        agent: n1,
        applied: world.generation(n1),
        containers: vec![ReportedContainer {
            key: old,
            slots: world.stored[&id].containers[0].slots.clone(),
            devices: world.stored[&id].containers[0].devices.clone(),
        }],
    };
    let audit = usage_audit(world.state(), &[report]);
    assert_eq!((audit.closed, audit.drifts), (vec![], vec![]));
    let next = world.submit(gpu_job(1));
    assert!(world.is(next, SessionState::Pending));
    world.outcome(n1, old, OutcomeNumber::Closed, None);
    assert_eq!(world.devices(next), ["GPU-n1-0"]);
}

#[test]
fn figures_and_words_of_an_attempt_stay_with_it() {
    let (mut world, n1, id) = running();
    world.later(36_000_000);
    let old = world.key(id);
    world.steer(id, Steering::Restart).unwrap();
    world.later(20_000);
    let device = world.stored[&id].containers[0].devices[0].device.clone();
    let used = DeviceUse {
        device,
        busy_ms: 18_000_000,
        measured_ms: 36_000_000,
        memory_peak: None,
    };
    world.outcome_with(n1, old, OutcomeNumber::Ended, Some(exit(143)), vec![used]);
    world.outcome(n1, old, OutcomeNumber::Closed, None);
    assert_eq!(world.stored[&id].spent.accelerator_used_ms, 18_000_000_000);
    assert_eq!(
        world.stored[&id].tail, None,
        "not the words of this attempt"
    );
}

#[test]
fn capacity_is_free_when_both_attempts_are_gone() {
    let (mut world, n1, id) = running();
    let old = world.key(id);
    world.steer(id, Steering::Restart).unwrap();
    let new = world.key(id);
    world.terminate(&[id], 30, false);
    world.outcome(n1, new, OutcomeNumber::Closed, None);
    assert!(world.stored[&id].state.is_final());
    let next = world.submit(gpu_job(1));
    assert!(
        world.is(next, SessionState::Pending),
        "the old process may run"
    );
    world.outcome(n1, old, OutcomeNumber::Closed, None);
    assert_eq!(world.devices(next), ["GPU-n1-0"]);
}

#[test]
fn a_restarted_session_whose_node_vanishes_runs_nowhere_else_meanwhile() {
    let (mut world, n1, id) = running();
    world.steer(id, Steering::Restart).unwrap();
    world.agent("n2", 1);
    world.lose(n1);
    assert!(world.stored[&id].unreachable, "{}", world.show(id));
    world.give_up(n1);
    assert_eq!(world.reason(id), Some(Reason::AgentLost));
}

#[test]
fn what_cannot_be_restarted() {
    let (mut world, n1, id) = running();
    let waiting = world.submit(gpu_job(1));
    assert_eq!(
        world.steer(waiting, Steering::Restart).unwrap_err().code,
        "LS-STATE"
    );
    world.lose(n1);
    let refusal = world.steer(id, Steering::Restart).unwrap_err();
    assert!(refusal.detail.contains("unreachable"), "{}", refusal.detail);
    // What is gone has no place that could be kept, whatever its agent forgot to say.
    world.hello(n1);
    world.closed(id);
    let refusal = world.steer(id, Steering::Restart).unwrap_err();
    assert!(refusal.detail.contains("has ended"), "{}", refusal.detail);
}

#[test]
fn wishes_to_be_tried_again_are_checked() {
    let mut world = World::new();
    let mut ask = |kind: Option<&str>, max, on: Option<&[&str]>| {
        let mut request = job();
        request.kind = kind.map(str::to_owned);
        let on = on.map(|on| on.iter().map(|word| (*word).to_owned()).collect());
        request.restart = Some(NewRestart { max, on });
        match world.ask(request) {
            Ok(id) => {
                let rule = &world.stored[&id].restart;
                format!("{} {:?}", rule.max, rule.on)
            }
            Err(refusal) => refusal.errors[0].pointer.clone(),
        }
    };
    assert_eq!(ask(None, 2, None), "2 {AgentLost}");
    assert_eq!(ask(None, 0, None), "0 {}");
    assert_eq!(ask(None, 1, Some(&["failed"])), "1 {Failed}");
    assert_eq!(ask(None, 101, None), "/restart/max");
    assert_eq!(ask(None, -1, None), "/restart/max");
    assert_eq!(ask(None, 1, Some(&[])), "/restart/on");
    assert_eq!(ask(None, 1, Some(&["agent-lost", "x"])), "/restart/on/1");
    assert_eq!(ask(Some("interactive"), 1, None), "/restart");
    assert_eq!(ask(Some("interactive"), 0, None), "0 {}");
}
