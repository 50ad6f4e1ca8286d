//! Nodes that stay away: what is tried again, when, and the brake on losing many at once.

use super::world::{GIVE_UP_S, LOST_MS, World, exit, gpu_job, group, job};
use longshore_common::admin::{GroupRequest, Member};
use longshore_common::agent::AgentState;
use longshore_common::api::{NewRestart, NewSession};
use longshore_common::ids::{AgentId, InstanceId, SessionId};
use longshore_common::session::{ContainerState, End, Exit, Reason, SessionState, Want};
use longshore_common::time::Timestamp;
use longshore_common::wire::OutcomeNumber;
use longshore_core::model::admin::{AdminOrder, AdminVerb};
use longshore_core::model::{Answer, Event, desired_set, lease_ms};

const T2_MS: i64 = GIVE_UP_S as i64 * 1000;

/// A job that is tried again so often after these ends.
pub(super) fn again(mut request: NewSession, max: i64, on: &[&str]) -> NewSession {
    let on = on.iter().map(|word| (*word).to_owned()).collect();
    request.restart = Some(NewRestart { max, on: Some(on) });
    request
}

/// One node, and a running job that is tried again when its node is lost.
fn restartable() -> (World, AgentId, SessionId) {
    let mut world = World::new();
    let n1 = world.agent("n1", 1);
    let id = world.submit(again(gpu_job(1), 1, &["agent-lost"]));
    world.run(id);
    (world, n1, id)
}

#[test]
fn the_table_of_a_loss() {
    for batch in [false, true] {
        let mut world = World::new();
        let n1 = world.agent("n1", 1);
        let id = match batch {
            true => world.submit(again(gpu_job(1), 1, &["agent-lost"])),
            false => world.submit(gpu_job(1)),
        };
        world.run(id);
        let order = world.order(n1, world.key(id)).unwrap();
        assert_eq!(order.restartable, batch, "only that is frozen");
        let old = world.key(id);
        // 15: shown, and nothing else.
        world.lose(n1);
        assert!(world.is(id, SessionState::Running) && world.stored[&id].unreachable);
        assert!(world.counts(id));
        // 540: nothing here; its agent freezes what is restartable.
        world.silent(n1, 540_000);
        assert!(world.is(id, SessionState::Running));
        // 600: given up.
        if batch {
            world.agent("n2", 1);
        }
        world.silent(n1, T2_MS);
        assert!(!world.counts(id), "its owner has it back");
        let shown = world.show(id);
        if !batch {
            assert_eq!(
                shown,
                "s-1 ERROR a1 agent-lost failure, n1 stop lost GPU-n1-0"
            );
        } else {
            assert_eq!(shown, "s-1 PENDING a2, old n1 stop lost GPU-n1-0");
            assert_eq!(world.why(id), "tried before (agent-lost); next try in 30 s");
            // 630: may be placed, beside the old claims.
            world.later(29_999);
            assert!(world.is(id, SessionState::Pending));
            world.later(1);
            assert_eq!(world.devices(id), ["GPU-n2-0"]);
            world.run(id);
        }
        // 900: it is back, and removes what it had before it gets anything.
        world.hello(n1);
        let next = world.submit(gpu_job(1));
        assert!(world.is(next, SessionState::Pending), "its device is taken");
        let order = world.order(n1, old).unwrap();
        let stop = order.stop.unwrap();
        assert_eq!(
            (order.want, stop.grace_s, stop.forced),
            (Want::Stop, 0, true)
        );
        world.outcome(n1, old, OutcomeNumber::Closed, None);
        assert_eq!(world.devices(next), ["GPU-n1-0"]);
        if batch {
            assert_eq!(
                world.path(id),
                "PENDING SCHEDULED PREPARING RUNNING PENDING SCHEDULED PREPARING RUNNING"
            );
        }
    }
}

/// The group's T2 becomes another.
fn give_up_after(world: &mut World, seconds: u32) {
    let mut order = AdminOrder {
        verb: AdminVerb::PatchGroup(
            group().name,
            Box::new(GroupRequest {
                declare_lost_s: Member::Value(seconds.into()),
                ..GroupRequest::default()
            }),
        ),
        caller: world.caller(),
        expected_version: None,
        dry_run: true,
    };
    let before = world.state().clone();
    world.does(Event::Admin(Box::new(order.clone())));
    assert_eq!(*world.state(), before);
    order.dry_run = false;
    world.does(Event::Admin(Box::new(order)));
}

/// How long the agent goes on by the set it would be sent.
fn lease(world: &World, agent: AgentId) -> u64 {
    let instance = InstanceId::new(1);
    desired_set(world.state(), agent, instance, world.now)
        .expect("it is known")
        .lease_ms
}

#[test]
fn a_shorter_t2_counts_once_the_agent_knows_of_it() {
    let (mut world, n1, id) = restartable();
    let generation = world.generation(n1);
    assert_eq!(lease(&world, n1), 540_000);
    give_up_after(&mut world, 120);
    assert_eq!(lease(&world, n1), 60_000);
    assert!(world.generation(n1) > generation, "it is sent");
    // It was cut off before: it freezes after 540 s.
    world.lose(n1);
    world.silent(n1, 599_999);
    assert!(world.is(id, SessionState::Running));
    world.silent(n1, 600_000);
    assert!(world.is(id, SessionState::Pending));

    let (mut world, n1, id) = restartable();
    give_up_after(&mut world, 120);
    let version = world.state().agents[&n1].version;
    world.report(id, ContainerState::Running);
    assert_eq!(
        world.state().agents[&n1].told,
        None,
        "it said that it knows"
    );
    assert_eq!(world.state().agents[&n1].version, version);
    world.lose(n1);
    world.silent(n1, 120_000);
    assert!(world.is(id, SessionState::Pending));
}

#[test]
fn of_all_that_an_agent_was_told_the_longest_counts() {
    let (mut world, n1, id) = restartable();
    give_up_after(&mut world, 0);
    assert_eq!(lease(&world, n1), 0);
    give_up_after(&mut world, 120);
    world.lose(n1);
    world.silent(n1, 10 * T2_MS);
    assert!(world.is(id, SessionState::Running), "it may go on for ever");
    world.hello(n1);
    world.report(id, ContainerState::Running);
    give_up_after(&mut world, 300);
    give_up_after(&mut world, 120);
    world.lose(n1);
    world.silent(n1, 299_999);
    assert!(world.is(id, SessionState::Running));
    world.silent(n1, 300_000);
    assert!(world.is(id, SessionState::Pending));
}

#[test]
fn a_lease_is_never_for_ever_unless_t2_is_never() {
    let leases = [0, 1, 60, 61, 120].map(lease_ms);
    assert_eq!(leases, [0, 1000, 1000, 1000, 60_000]);
}

#[test]
fn an_agent_that_is_back_in_time_changes_nothing_but_the_condition() {
    let (mut world, n1, id) = restartable();
    let before = world.stored[&id].clone();
    world.lose(n1);
    world.silent(n1, 300_000);
    world.hello(n1);
    let after = &world.stored[&id];
    assert_eq!((after.state, after.attempt), (before.state, before.attempt));
    assert_eq!(
        (after.unreachable, &after.containers),
        (false, &before.containers)
    );
}

#[test]
fn attempts_are_counted_and_kept() {
    let (mut world, n1, id) = restartable();
    world.give_up(n1);
    let n2 = world.agent("n2", 1);
    world.later(30_000);
    world.run(id);
    assert!(
        !world.order(n2, world.key(id)).unwrap().restartable,
        "it was the last"
    );
    let session = &world.stored[&id];
    let past = &session.attempts[0];
    assert_eq!((past.attempt, past.reason.as_str()), (1, "agent-lost"));
    assert_eq!(
        (past.agents.as_slice(), past.started_at.is_some()),
        (&[n1][..], true)
    );
    world.later(60_000); // later than at once with the first
    world.give_up(n2);
    assert_eq!(world.reason(id), Some(Reason::AgentLost));
    assert!(world.is(id, SessionState::Error));
}

#[test]
fn a_command_that_fails_is_tried_again_as_often_as_was_said() {
    let mut world = World::new();
    world.agent("n1", 0);
    let id = world.submit(again(job(), 2, &["failed"]));
    for attempt in 1..=3 {
        world.run(id);
        assert_eq!(world.stored[&id].attempt.0, attempt);
        assert_eq!(world.stored[&id].exit_code, None);
        world.ends(id, exit(3));
        world.later(10_000);
    }
    assert_eq!(world.show(id), "s-1 TERMINATED a3 task-failed failure");
    let codes: Vec<_> = world.stored[&id]
        .attempts
        .iter()
        .map(|a| a.exit_code)
        .collect();
    assert_eq!(codes, [Some(3), Some(3)]);
    assert!(world.state().ledger.is_empty());
}

#[test]
fn only_what_was_named_is_tried_again() {
    let oom = End::Exited(Exit {
        code: 137,
        signal: Some(9),
        oom: true,
        at: Timestamp(0),
    });
    let stopped = |reason| End::Stopped { reason, exit: None };
    for (on, end, again_) in [
        ("failed", exit(0), false),
        ("failed", exit(1), true),
        ("failed", oom.clone(), false),
        ("out-of-memory", oom, true),
        ("agent-lost", exit(1), false),
        ("agent-lost", End::Vanished { rebooted: true }, true),
        ("failed", End::Vanished { rebooted: false }, true),
        ("failed", stopped(Reason::TaskTimeout), false),
        ("failed", stopped(Reason::LifetimeExceeded), false),
    ] {
        let mut world = World::new();
        world.agent("n1", 0);
        let id = world.submit(again(job(), 1, &[on]));
        world.run(id);
        world.ends(id, end.clone());
        assert_eq!(world.is(id, SessionState::Pending), again_, "{on} {end:?}");
    }
    // Nor what a person stopped.
    let (mut world, _, id) = restartable();
    world.terminate(&[id], 30, false);
    world.ends(id, exit(143));
    assert!(world.is(id, SessionState::Terminated));
}

#[test]
fn a_new_attempt_waits_for_the_last_process_of_the_old_one() {
    let mut world = World::new();
    let (n1, n2) = (world.agent("n1", 1), world.agent("n2", 1));
    let mut request = again(gpu_job(1), 1, &["failed"]);
    request.cluster = Some(longshore_common::api::NewCluster {
        size: 2,
        mode: Some("multi-node".to_owned()),
        run: None,
        containers: Vec::new(),
    });
    let id = world.submit(request);
    let keys: Vec<_> = world.stored[&id]
        .present()
        .map(|c| (c.agent, c.key))
        .collect();
    for state in [ContainerState::Created, ContainerState::Running] {
        keys.iter()
            .for_each(|(agent, key)| world.report_key(*agent, *key, state));
    }
    assert!(world.is(id, SessionState::Running));
    // main1 fails; sub1 gets its time to end.
    world.outcome(keys[0].0, keys[0].1, OutcomeNumber::Ended, Some(exit(1)));
    world.outcome(keys[0].0, keys[0].1, OutcomeNumber::Closed, None);
    for agent in [n1, n2] {
        // Room for the next attempt beside what is still there.
        world.does(Event::Inventory {
            agent,
            inventory: Box::new(super::world::inventory(
                if agent == n1 { "n1" } else { "n2" },
                2,
            )),
        });
    }
    world.later(10_000);
    let next: Vec<_> = world.stored[&id]
        .present()
        .map(|c| (c.agent, c.key))
        .collect();
    assert_eq!(next.len(), 2, "{}", world.show(id));
    for (agent, key) in &next {
        world.report_key(*agent, *key, ContainerState::Created);
    }
    let told = |world: &World| {
        world.stored[&id]
            .present()
            .filter(|c| c.told_to_run)
            .count()
    };
    assert_eq!(told(&world), 0, "sub1 of the first attempt may still run");
    world.later(3_600_000);
    assert!(
        world.is(id, SessionState::Preparing),
        "it waits as long as that takes"
    );
    world.outcome(keys[1].0, keys[1].1, OutcomeNumber::Closed, None);
    assert_eq!(told(&world), 2);
}

// ---- the brake

fn nodes(world: &mut World, count: usize) -> Vec<AgentId> {
    (0..count)
        .map(|n| world.agent(&format!("n{n}"), 1))
        .collect()
}

fn braked(world: &World) -> usize {
    world.state().braked().count()
}

#[test]
fn the_brake_is_for_more_than_a_quarter_and_two() {
    for (all, lost, on) in [
        (10, 4, true),
        (8, 2, false),
        (2, 1, false),
        (2, 2, true),
        (4, 1, false),
    ] {
        let mut world = World::new();
        let nodes = nodes(&mut world, all);
        nodes[..lost].iter().for_each(|n| world.lose(*n));
        assert_eq!(braked(&world) > 0, on, "{lost} of {all}");
    }
}

#[test]
fn what_goes_slowly_is_no_mass_loss() {
    let mut world = World::new();
    for n in nodes(&mut world, 4) {
        world.lose(n);
        world.later(60_000);
    }
    assert_eq!(braked(&world), 0);
}

#[test]
fn under_the_brake_nothing_is_given_up_and_time_counts_on_after_it() {
    let (mut world, n1, id) = restartable();
    let n2 = world.agent("n2", 0);
    world.lose(n1);
    world.lose(n2);
    assert_eq!(braked(&world), 2);
    world.later(1_000_000);
    world.silent(n1, T2_MS + 1_000_000);
    assert!(world.is(id, SessionState::Running) && world.stored[&id].unreachable);
    // One is back: half are lost, but a single one is no mass.
    world.hello(n2);
    assert_eq!(braked(&world), 0);
    world.silent(n1, LOST_MS + 1_000_000 + T2_MS - LOST_MS - 1);
    assert!(
        world.is(id, SessionState::Running),
        "it stood still for so long"
    );
    world.silent(n1, 1_000_000 + T2_MS);
    assert!(world.is(id, SessionState::Pending));
}

#[test]
fn an_administrator_gives_up_what_the_brake_holds() {
    let (mut world, n1, id) = restartable();
    let n2 = world.agent("n2", 0);
    assert_eq!(world.confirm(n1).unwrap_err().code, "LS-AGENT-STATE");
    world.lose(n1);
    world.lose(n2);
    assert!(matches!(world.confirm(n1), Ok(Answer::Done)));
    assert!(world.is(id, SessionState::Pending));
    assert_eq!(
        world.stored[&id].not_before,
        Some(world.now.plus_ms(T2_MS + 30_000)),
        "the agent may be alive until its lease ends"
    );
    assert_eq!(braked(&world), 0, "one that is left is no mass loss");
    assert_eq!(world.state().agents[&n1].state, AgentState::Lost);
    assert_eq!(
        world.confirm(AgentId::new(1)).unwrap_err().code,
        "LS-NOT-FOUND"
    );
}

#[test]
fn after_a_start_all_silence_counts_anew() {
    let (mut world, n1, id) = restartable();
    let n2 = world.agent("n2", 0);
    world.lose(n1);
    world.lose(n2);
    world.later(100_000);
    world.does(Event::Started(Box::new(super::world::beginning())));
    assert_eq!(braked(&world), 2, "nobody has confirmed anything");
    world.hello(n2);
    assert_eq!(world.state().agents[&n1].braked_ms, 0);
    world.silent(n1, T2_MS);
    assert!(world.is(id, SessionState::Pending));
}
