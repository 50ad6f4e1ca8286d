//! Arrays: tasks are made as there is room, each once, and the array ends with the last.

use super::world::{World, exit, job, slots};
use longshore_common::api::{NewArray, NewDependency, NewSession, SessionPatch};
use longshore_common::ids::{PolicyId, SessionId};
use longshore_common::session::{Reason, ResultKind, SessionState};
use longshore_core::model::{Change, KeypairPolicy, Steering, watched};

fn array(range: &str, parallel: Option<i64>) -> NewSession {
    NewSession {
        array: Some(NewArray {
            range: range.to_owned(),
            parallel,
        }),
        ..job()
    }
}

fn tasks(world: &World, id: SessionId) -> Vec<String> {
    let tasks = world.state().tasks_of(id);
    let live = tasks.filter(|task| !task.state.is_final());
    live.map(|task| task.id.to_string()).collect()
}

fn after(id: SessionId, on: &str) -> NewSession {
    NewSession {
        depends_on: vec![NewDependency {
            session: id.to_string(),
            on: Some(on.to_owned()),
        }],
        ..job()
    }
}

/// One waiting session at most for everybody.
fn one_may_wait(world: &mut World) {
    let mut policy = KeypairPolicy::new(PolicyId::new(4), "default", world.now);
    policy.max_pending_session_count = Some(1);
    world.apply(vec![Change::KeypairPolicy(Box::new(policy))]);
}

fn through(world: &mut World, id: SessionId, code: i32) {
    world.run(id);
    world.ends(id, exit(code));
    world.check().expect("what must hold holds");
}

#[test]
fn tasks_are_made_in_order_as_others_end() {
    let mut world = World::new();
    world.agent("n1", 0);
    let id = world.submit(array("3-6", Some(2)));
    assert_eq!(tasks(&world, id), [format!("{id}.3"), format!("{id}.4")]);
    assert!(world.is(id.task(3), SessionState::Scheduled) && world.is(id, SessionState::Pending));
    through(&mut world, id.task(4), 0);
    assert_eq!(tasks(&world, id), [format!("{id}.3"), format!("{id}.5")]);
    assert_eq!(world.path(id), "PENDING SCHEDULED PREPARING RUNNING");
    for index in [3, 5, 6] {
        through(&mut world, id.task(index), 0);
    }
    let ended = &world.stored[&id];
    assert_eq!(
        (ended.state, ended.result, ended.reason),
        (
            SessionState::Terminated,
            Some(ResultKind::Success),
            Some(Reason::TaskFinished)
        )
    );
    assert_eq!(ended.detail.as_deref(), Some("4 of 4 tasks succeeded"));
    // Once it is over nothing of it is kept.
    assert!(world.state().sessions.is_empty());
    assert_eq!(world.state().open_arrays(world.caller().user).count(), 0);
}

#[test]
fn a_task_knows_which_it_is() {
    let mut world = World::new();
    let agent = world.agent("n1", 0);
    let request = NewSession {
        name: Some("sweep".to_owned()),
        ..array("7-8", Some(1))
    };
    let id = world.submit(request);
    let task = id.task(7);
    let order = world.order(agent, world.key(task)).unwrap();
    let variable = |name: &str| order.spec.environment[name].clone();
    assert_eq!(variable("LONGSHORE_SESSION_ID"), format!("{id}.7"));
    assert_eq!(variable("LONGSHORE_ARRAY_ID"), id.to_string());
    assert_eq!(variable("LONGSHORE_ARRAY_INDEX"), "7");
    assert_eq!(variable("LONGSHORE_ARRAY_SIZE"), "2");
    assert_eq!(world.stored[&task].name, None, "the array has the name");
}

#[test]
fn what_may_wait_bounds_what_is_made_but_one_always_lives() {
    let mut world = World::new();
    one_may_wait(&mut world);
    let id = world.submit(array("0-9", None));
    assert_eq!(tasks(&world, id), [format!("{id}.0")], "nobody has room");
    assert_eq!(world.ask(job()).unwrap_err().code, "LS-LIMIT-PENDING");
    // As tasks are placed others are made in the same instant: sixteen cores hold all ten.
    world.agent("n1", 0);
    assert_eq!(tasks(&world, id).len(), 10);
    assert!(world.is(id.task(9), SessionState::Scheduled));
    world.check().unwrap();
}

#[test]
fn another_of_its_owner_that_waits_keeps_tasks_from_being_made() {
    let mut world = World::new();
    let id = world.submit(array("0-9", Some(2)));
    let big = world.submit(slots(job(), &[("cpu", "16")]));
    one_may_wait(&mut world);
    world.agent("n1", 0);
    assert!(world.is(id.task(1), SessionState::Scheduled) && world.is(big, SessionState::Pending));
    through(&mut world, id.task(0), 0);
    assert_eq!(
        tasks(&world, id),
        [format!("{id}.1")],
        "no room beside the big one"
    );
    through(&mut world, id.task(1), 0);
    // None was live, so one was made all the same.
    assert_eq!(tasks(&world, id), [format!("{id}.2")]);
    world.terminate(&[big], 0, false);
    assert_eq!(tasks(&world, id).len(), 2);
    world.check().unwrap();
}

#[test]
fn stopping_it_ends_what_runs_and_what_waits_and_what_was_never_made() {
    let mut world = World::new();
    world.agent("n1", 0);
    let id = world.submit(slots(array("0-99", Some(3)), &[("cpu", "8")]));
    through(&mut world, id.task(0), 0);
    world.run(id.task(1));
    let answer = world.terminate(&[id], 30, false);
    assert_eq!((answer.terminating.len(), answer.cancelled.len()), (1, 0));
    assert!(world.is(id, SessionState::Terminating));
    assert!(world.is(id.task(3), SessionState::Cancelled), "it waited");
    let again = world.terminate(&[id], 5, false);
    assert_eq!(again.skipped[0].why, "already-terminating");
    for index in [1, 2] {
        world.closed(id.task(index));
    }
    let ended = &world.stored[&id];
    assert_eq!(ended.state, SessionState::Terminated);
    assert_eq!(ended.reason, Some(Reason::UserRequested));
    let plan = ended.array.as_ref().unwrap();
    assert_eq!(
        (plan.succeeded, plan.failed, plan.cancelled, plan.live),
        (1, 1, 98, 0)
    );
    assert_eq!(world.terminate(&[id], 5, false).skipped[0].why, "not-found");
}

#[test]
fn one_that_never_ran_is_cancelled() {
    let mut world = World::new();
    let id = world.submit(array("0-9", Some(2)));
    let answer = world.terminate(&[id], 30, false);
    assert_eq!(answer.cancelled, [id.to_string()]);
    assert!(world.is(id, SessionState::Cancelled) && world.is(id.task(1), SessionState::Cancelled));
    assert!(!world.stored.contains_key(&id.task(2)));
    world.check().unwrap();
}

#[test]
fn by_force_everything_is_over_at_once() {
    let mut world = World::new();
    world.agent("n1", 0);
    let id = world.submit(array("0-9", Some(2)));
    world.run(id.task(0));
    world.terminate(&[id], 0, true);
    assert!(
        world.is(id, SessionState::Terminated) && world.is(id.task(1), SessionState::Cancelled)
    );
    assert_eq!(world.reason(id), Some(Reason::ForceTerminated));
}

#[test]
fn to_wait_for_an_array_is_to_wait_for_all_its_tasks() {
    let mut world = World::new();
    world.agent("n1", 0);
    let id = world.submit(array("0-1", None));
    let [ok, any, fail] = ["ok", "any", "fail"].map(|on| world.submit(after(id, on)));
    through(&mut world, id.task(0), 0);
    assert!(world.is(ok, SessionState::Pending) && world.is(any, SessionState::Pending));
    through(&mut world, id.task(1), 0);
    assert!(world.is(ok, SessionState::Scheduled) && world.is(any, SessionState::Scheduled));
    assert_eq!(world.reason(fail), Some(Reason::DependencyFailed));
}

#[test]
fn who_waits_for_success_is_told_with_the_first_failure() {
    let mut world = World::new();
    world.agent("n1", 0);
    let id = world.submit(array("0-1", None));
    let [ok, fail] = ["ok", "fail"].map(|on| world.submit(after(id, on)));
    through(&mut world, id.task(0), 1);
    assert_eq!(world.reason(ok), Some(Reason::DependencyFailed));
    assert!(world.is(fail, SessionState::Pending));
    assert_eq!(
        world.ask(after(id, "ok")).unwrap_err().code,
        "LS-DEPENDENCY"
    );
    through(&mut world, id.task(1), 0);
    assert!(world.is(fail, SessionState::Scheduled));
    let ended = &world.stored[&id];
    assert_eq!(
        (ended.state, ended.reason, ended.detail.as_deref()),
        (
            SessionState::Terminated,
            Some(Reason::TaskFailed),
            Some("1 of 2 tasks succeeded, 1 failed")
        )
    );
}

#[test]
fn an_array_that_waits_in_vain_ends_whole() {
    let mut world = World::new();
    world.agent("n1", 0);
    let first = world.submit(job());
    let request = NewSession {
        depends_on: after(first, "ok").depends_on,
        ..array("0-9", Some(2))
    };
    let id = world.submit(request);
    let last = world.submit(after(id, "any"));
    through(&mut world, first, 1);
    assert!(world.is(id, SessionState::Cancelled));
    assert_eq!(world.reason(id), Some(Reason::DependencyFailed));
    assert!(world.is(last, SessionState::Scheduled));
    assert!(!world.stored.contains_key(&id.task(2)));
}

#[test]
fn what_is_said_of_an_array_is_said_of_its_tasks() {
    let mut world = World::new();
    let id = world.submit(array("0-9", Some(2)));
    world.steer(id, Steering::Hold).unwrap();
    world.agent("n1", 0);
    assert!(world.is(id.task(0), SessionState::Pending));
    let patch = SessionPatch {
        priority: Some(70),
        ..SessionPatch::default()
    };
    world.steer(id, Steering::Change(patch)).unwrap();
    assert_eq!(world.stored[&id.task(1)].priority, 70);
    world.steer(id, Steering::Release).unwrap();
    assert!(world.is(id.task(0), SessionState::Scheduled));
    through(&mut world, id.task(0), 0);
    assert_eq!(world.stored[&id.task(2)].priority, 70);
    let refusal = world.steer(id, Steering::Restart).unwrap_err();
    assert_eq!(refusal.code, "LS-STATE");
}

#[test]
fn an_array_lost_with_its_nodes_is_an_error() {
    let mut world = World::new();
    let agent = world.agent("n1", 0);
    let id = world.submit(array("0-1", None));
    world.run(id.task(0));
    world.run(id.task(1));
    world.lose(agent);
    world.give_up(agent);
    assert!(world.is(id, SessionState::Error));
    assert_eq!(world.reason(id), Some(Reason::AgentLost));
    world.check().unwrap();
}

#[test]
fn ranges_and_limits_are_checked_at_submit() {
    let mut world = World::new();
    for (range, parallel, pointer) in [
        ("9-1", None, "/array/range"),
        ("0-10000", None, "/array/range"),
        ("0-9", Some(0), "/array/parallel"),
    ] {
        let refusal = world.ask(array(range, parallel)).unwrap_err();
        assert_eq!(
            (refusal.code, refusal.errors[0].pointer.as_str()),
            ("LS-INVALID", pointer)
        );
    }
    assert!(world.state().sessions.is_empty());
}

#[test]
fn no_watchdog_looks_at_an_array_but_at_its_tasks() {
    let mut world = World::new();
    world.agent("n1", 0);
    let id = world.submit(array("0-1", Some(1)));
    world.run(id.task(0));
    assert!(world.is(id, SessionState::Running));
    let all: Vec<SessionId> = watched(world.state()).map(|session| session.id).collect();
    assert_eq!(all, [id.task(0)]);
}

/// What the answer names is what is cancelled once all of it has ended, and nothing else.
#[test]
fn who_ends_a_session_hears_whom_that_cancels() {
    let mut world = World::new();
    world.agent("n1", 0);
    let runs = world.submit(job());
    world.run(runs);
    let whole = world.submit(array("0-1", Some(1)));
    let waits = world.submit(after(runs, "ok"));
    let chain = world.submit(after(waits, "ok"));
    let either = world.submit(after(chain, "any"));
    let failed = world.submit(after(runs, "fail"));
    let of_array = world.submit(after(whole, "ok"));
    let answer = world.terminate(&[runs, whole.task(0), chain, runs], 0, false);
    assert_eq!(answer.cancelled, [chain.to_string()]);
    assert_eq!(
        answer.dependants,
        [waits, of_array].map(|id| id.to_string())
    );
    world.ends(runs, exit(143));
    world.ends(whole.task(0), exit(143));
    for id in [waits, chain, of_array] {
        assert!(world.is(id, SessionState::Cancelled), "{id}");
    }
    for id in [either, failed] {
        assert!(!world.stored[&id].state.is_final(), "{id}");
    }
    let again = world.terminate(&[runs], 0, false);
    assert!(again.dependants.is_empty(), "{again:?}");
}
