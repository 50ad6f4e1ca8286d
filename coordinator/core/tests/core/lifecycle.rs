//! From the place to the end.

use super::world::{World, exit, gpu_job, job};
use longshore_common::api::NewSession;
use longshore_common::session::{ContainerState, End, Exit, Reason, SessionState, Want};
use longshore_common::time::Timestamp;
use longshore_common::wire::OutcomeNumber;
use longshore_core::model::Effect;

fn running() -> (World, longshore_common::ids::SessionId) {
    let mut world = World::new();
    world.agent("n1", 2);
    let id = world.submit(gpu_job(1));
    world.run(id);
    (world, id)
}

#[test]
fn prepare_comes_before_run() {
    let mut world = World::new();
    let n1 = world.agent("n1", 0);
    let id = world.submit(job());
    assert_eq!(world.want(id), Some(Want::Prepare));
    let before = world.generation(n1);
    world.acknowledge(id);
    assert_eq!(world.show(id), "s-1 PREPARING a1, n1 prepare assigned");
    world.report(id, ContainerState::Pulling);
    assert_eq!(
        world.show(id),
        "s-1 PREPARING/pulling a1, n1 prepare pulling"
    );
    world.report(id, ContainerState::Created);
    assert_eq!(world.show(id), "s-1 PREPARING/starting a1, n1 run created");
    assert!(world.generation(n1) > before && world.effects.contains(&Effect::SendDesired(n1)));
    world.report(id, ContainerState::Running);
    assert_eq!(world.show(id), "s-1 RUNNING a1, n1 run running");
    assert_eq!(world.stored[&id].started_at, Some(world.now));
    assert_eq!(world.path(id), "PENDING SCHEDULED PREPARING RUNNING");
}

#[test]
fn an_older_set_acknowledges_nothing() {
    let mut world = World::new();
    let agent = world.agent("n1", 0);
    let applied = world.generation(agent);
    let id = world.submit(job());
    world.does(longshore_core::model::Event::Report {
        agent,
        applied,
        items: vec![],
        whole: false,
        rebooted: false,
    });
    assert!(world.is(id, SessionState::Scheduled));
}

#[test]
fn ends_and_what_is_made_of_them() {
    let signal = |oom| {
        End::Exited(Exit {
            code: 137,
            signal: Some(9),
            oom,
            at: Timestamp(1),
        })
    };
    let stopped = |reason| End::Stopped { reason, exit: None };
    let End::Exited(well) = exit(0) else {
        panic!("an exit");
    };
    for (end, line) in [
        (exit(0), "s-1 TERMINATED a1 task-finished success"),
        // One of its processes had too little, and the command got on without it.
        (
            End::Exited(Exit { oom: true, ..well }),
            "s-1 TERMINATED a1 task-finished success",
        ),
        (exit(3), "s-1 TERMINATED a1 task-failed failure"),
        (signal(false), "s-1 TERMINATED a1 task-failed failure"),
        (signal(true), "s-1 TERMINATED a1 out-of-memory failure"),
        (
            stopped(Reason::TaskTimeout),
            "s-1 TERMINATED a1 task-timeout failure",
        ),
        (
            stopped(Reason::LifetimeExceeded),
            "s-1 TERMINATED a1 lifetime-exceeded failure",
        ),
        (
            End::Vanished { rebooted: true },
            "s-1 ERROR a1 node-rebooted failure",
        ),
        (
            End::Vanished { rebooted: false },
            "s-1 ERROR a1 container-not-found failure",
        ),
    ] {
        let (mut world, id) = running();
        world.ended(id, end.clone());
        assert!(world.is(id, SessionState::Terminating), "{end:?}");
        assert_eq!(
            (world.counts(id), world.rows(id)),
            (false, 3),
            "quota at once, capacity when confirmed"
        );
        world.closed(id);
        assert_eq!(world.show(id), line);
        assert_eq!(world.rows(id), 0);
        assert!(
            world.state().sessions.is_empty(),
            "memory forgets what is settled"
        );
    }
}

#[test]
fn exit_code_signal_and_last_words_are_kept() {
    let (mut world, id) = running();
    world.ends(
        id,
        End::Exited(Exit {
            code: 143,
            signal: Some(15),
            oom: false,
            at: Timestamp(1),
        }),
    );
    let session = &world.stored[&id];
    assert_eq!((session.exit_code, session.signal), (Some(143), Some(15)));
    assert_eq!(session.tail.as_deref(), Some("last words"));
    assert_eq!(
        session.detail.as_deref(),
        Some("the command was ended by signal 15")
    );
}

#[test]
fn an_interactive_session_ends_with_its_main_process() {
    let mut world = World::new();
    world.agent("n1", 0);
    let id = world.submit(NewSession {
        kind: Some("interactive".into()),
        command: vec![],
        ..job()
    });
    world.run(id);
    world.ends(id, exit(1));
    assert_eq!(world.show(id), "s-1 TERMINATED a1 self-terminated");
}

#[test]
fn one_that_ended_before_it_was_seen_running_did_run() {
    let mut world = World::new();
    world.agent("n1", 0);
    let id = world.submit(job());
    world.acknowledge(id);
    world.report(id, ContainerState::Created);
    world.ends(id, exit(0));
    assert_eq!(world.show(id), "s-1 TERMINATED a1 task-finished success");
    assert_eq!(
        world.path(id),
        "PENDING SCHEDULED PREPARING RUNNING TERMINATING TERMINATED"
    );
}

#[test]
fn an_outcome_that_comes_again_changes_nothing() {
    let (mut world, id) = running();
    world.ended(id, exit(0));
    let state = world.state().clone();
    world.ended(id, exit(7));
    assert_eq!(*world.state(), state);
    let (agent, key) = (world.agent_of(id), world.key(id));
    world.closed(id);
    let state = world.state().clone();
    world.outcome(agent, key, OutcomeNumber::Closed, None);
    world.outcome(agent, key, OutcomeNumber::Ended, Some(exit(7)));
    assert_eq!(*world.state(), state);
}

#[test]
fn a_report_overtaken_by_the_outcome_changes_nothing() {
    let (mut world, id) = running();
    world.ended(id, exit(0));
    let state = world.state().clone();
    world.report(id, ContainerState::Running);
    assert_eq!(*world.state(), state);
}

#[test]
fn nobody_speaks_of_anothers_container() {
    let (mut world, id) = running();
    let n2 = world.agent("n2", 0);
    let (key, state) = (world.key(id), world.state().clone());
    world.report_key(n2, key, ContainerState::Stopping);
    world.outcome(n2, key, OutcomeNumber::Closed, Some(exit(1)));
    assert_eq!(*world.state(), state);
}

#[test]
fn terminate_answers_in_groups() {
    let mut world = World::new();
    world.agent("n1", 2);
    let [run, place, wait] = [(); 3].map(|()| world.submit(gpu_job(1)));
    world.run(run);
    let unknown = longshore_common::ids::SessionId(99);
    let answer = world.terminate(&[wait, run, place, unknown, run], 5, false);
    assert_eq!(answer.cancelled, ["s-3"]);
    assert_eq!(answer.terminating, ["s-1", "s-2"]);
    assert_eq!(
        answer
            .skipped
            .iter()
            .map(|s| s.why.as_str())
            .collect::<Vec<_>>(),
        ["not-found"]
    );
    assert_eq!(world.show(wait), "s-3 CANCELLED a1 user-requested failure");
    world.closed(place);
    assert_eq!(
        world.show(place),
        "s-2 CANCELLED a1 user-requested failure",
        "it never ran"
    );
    world.ends(
        run,
        End::Stopped {
            reason: Reason::UserRequested,
            exit: None,
        },
    );
    assert_eq!(world.show(run), "s-1 TERMINATED a1 user-requested failure");
    let again = world.terminate(&[run, place, wait], 5, false);
    assert!(again.cancelled.is_empty() && again.terminating.is_empty());
}

#[test]
fn a_second_stop_changes_nothing_but_may_shorten_the_grace() {
    let (mut world, id) = running();
    world.terminate(&[id], 60, false);
    let state = world.state().clone();
    for grace in [60, 90] {
        let answer = world.terminate(&[id], grace, false);
        assert_eq!(answer.skipped[0].why, "already-terminating");
        assert_eq!(*world.state(), state);
    }
    world.terminate(&[id], 5, false);
    let order = world.order(world.agent_of(id), world.key(id)).unwrap();
    assert_eq!(
        order.stop.map(|s| (s.reason, s.grace_s, s.forced)),
        Some((Reason::UserRequested, 5, false))
    );
}

#[test]
fn the_first_reason_wins() {
    let (mut world, id) = running();
    world.terminate(&[id], 60, false);
    world.ends(id, exit(0));
    assert_eq!(world.show(id), "s-1 TERMINATED a1 user-requested failure");
    assert_eq!(world.stored[&id].exit_code, Some(0));
}

#[test]
fn a_stop_that_is_not_confirmed_ends_in_the_books_and_keeps_the_capacity() {
    let (mut world, id) = running();
    let rows = world.rows(id);
    world.terminate(&[id], 30, false);
    world.later(30_000 + 119_999);
    assert!(world.is(id, SessionState::Terminating));
    world.later(1);
    assert_eq!(
        world.show(id),
        "s-1 TERMINATED a1 user-requested failure, n1 stop running GPU-n1-0"
    );
    assert_eq!(world.rows(id), rows);
    world.closed(id);
    assert_eq!(world.rows(id), 0);
    assert!(world.state().sessions.is_empty());
}

#[test]
fn force_frees_the_quota_now_and_the_capacity_when_confirmed() {
    let mut world = World::new();
    let n1 = world.agent("n1", 1);
    let id = world.submit(gpu_job(1));
    world.run(id);
    let next = world.submit(gpu_job(1));
    let answer = world.terminate(&[id], 0, true);
    assert!(answer.forced && answer.terminating == ["s-1"]);
    assert_eq!(
        world.show(id),
        "s-1 TERMINATED a1 force-terminated failure, n1 stop running GPU-n1-0"
    );
    assert!(!world.counts(id) && world.is(next, SessionState::Pending));
    let key = world.key(id);
    let tombstone = world
        .order(n1, key)
        .expect("it stays in the set")
        .stop
        .unwrap();
    assert!(tombstone.forced && tombstone.grace_s == 0);
    world.terminate(&[id], 0, true);
    world.closed(id);
    assert_eq!(world.order(n1, key), None);
    assert_eq!(world.devices(next), ["GPU-n1-0"]);
}

#[test]
fn force_before_the_run_cancels_and_over_a_stop_ends_at_once() {
    let mut world = World::new();
    world.agent("n1", 2);
    let [placed, stopping] = [(); 2].map(|()| world.submit(gpu_job(1)));
    world.run(stopping);
    world.terminate(&[stopping], 60, false);
    world.terminate(&[placed, stopping], 0, true);
    assert!(
        world.is(placed, SessionState::Cancelled) && world.is(stopping, SessionState::Terminated)
    );
    assert_eq!(
        world.reason(stopping),
        Some(Reason::UserRequested),
        "the first one"
    );
}

#[test]
fn late_reports_of_a_final_session_change_its_claims_only() {
    let (mut world, id) = running();
    world.terminate(&[id], 0, true);
    let before = world.stored[&id].clone();
    world.report(id, ContainerState::Stopping);
    world.ended(id, exit(9));
    let (agent, key) = (world.agent_of(id), world.key(id));
    world.outcome(agent, key, OutcomeNumber::Closed, None);
    let after = &world.stored[&id];
    assert_eq!(
        (after.state, after.reason, &after.detail, after.ended_at),
        (before.state, before.reason, &before.detail, before.ended_at)
    );
    assert_eq!(world.rows(id), 0);
}

#[test]
fn a_life_that_ends_while_it_waits_or_starts() {
    let mut world = World::new();
    let brief = || NewSession {
        lifetime_s: Some(20),
        ..job()
    };
    let waits = world.submit(brief());
    world.later(20_000);
    assert_eq!(
        world.show(waits),
        "s-1 CANCELLED a1 lifetime-exceeded failure"
    );
    world.agent("n1", 0);
    let starts = world.submit(brief());
    world.acknowledge(starts);
    world.later(20_000);
    assert!(world.is(starts, SessionState::Terminating));
    world.closed(starts);
    assert_eq!(
        world.show(starts),
        "s-2 CANCELLED a1 lifetime-exceeded failure"
    );
}

#[test]
fn a_running_life_is_its_agents_business() {
    let mut world = World::new();
    let n1 = world.agent("n1", 0);
    let id = world.submit(NewSession {
        lifetime_s: Some(20),
        ..job()
    });
    world.run(id);
    let limits = world.order(n1, world.key(id)).unwrap().limits;
    assert_eq!(limits.lifetime.map(|d| d.remaining_ms), Some(20_000));
    world.later(60_000);
    assert!(world.is(id, SessionState::Running));
}
