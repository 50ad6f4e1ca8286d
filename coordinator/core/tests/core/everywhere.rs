//! Sessions whose command runs in each of their containers.

use super::clusters::{all, containers, ended, three};
use super::world::{World, exit, failed, job, slots};
use longshore_common::agent::Health;
use longshore_common::api::NewSession;
use longshore_common::ids::{AgentId, ContainerKey, SessionId};
use longshore_common::session::{Cause, ContainerState, End, Exit, Reason, SessionState, Want};
use longshore_common::time::Timestamp;
use longshore_common::wire::OutcomeNumber;
use longshore_core::model::{DrainOrder, Event, NewDrain, drain_deadline};

/// Three containers of eight cores: two are on one node and the third on the other.
fn asked() -> NewSession {
    let mut request = three("multi-node", "8");
    if let Some(cluster) = &mut request.cluster {
        cluster.run = Some("all".to_owned());
    }
    request
}

fn placed(request: NewSession) -> (World, SessionId) {
    let mut world = World::new();
    world.agent("n1", 0);
    world.agent("n2", 0);
    let id = world.submit(request);
    (world, id)
}

fn running() -> (World, SessionId, Vec<(AgentId, ContainerKey)>) {
    let (mut world, id) = placed(asked());
    all(&mut world, id, ContainerState::Created);
    all(&mut world, id, ContainerState::Running);
    assert!(world.is(id, SessionState::Running), "{}", world.show(id));
    let there = containers(&world, id);
    (world, id, there)
}

fn detail(world: &World, id: SessionId) -> &str {
    world.stored[&id].detail.as_deref().unwrap_or_default()
}

#[test]
fn each_has_the_command_and_its_limits() {
    let (world, id) = placed(NewSession {
        batch_timeout_s: Some(60),
        tty: true,
        ..asked()
    });
    for (agent, key) in containers(&world, id) {
        let order = world.order(agent, key).expect("it is ordered");
        assert_eq!(order.spec.command, ["work"]);
        assert!(order.spec.tty);
        assert_eq!(order.limits.batch_timeout_s, Some(60));
    }
}

#[test]
fn it_succeeds_when_the_last_one_has_finished() {
    let (mut world, id, there) = running();
    for (agent, key) in &there[..2] {
        let (number, end) = (OutcomeNumber::Ended, Some(exit(0)));
        world.outcome(*agent, *key, number, end);
        assert!(world.is(id, SessionState::Running), "{}", world.show(id));
        assert_eq!(world.stored[&id].exit_code, None);
        let order = world.order(*agent, *key).map(|o| o.want);
        assert_eq!(order, Some(Want::Run), "its network is still needed");
    }
    let (agent, key) = there[2];
    world.outcome(agent, key, OutcomeNumber::Ended, Some(exit(0)));
    assert!(world.is(id, SessionState::Terminating));
    for (agent, key) in there {
        world.outcome(agent, key, OutcomeNumber::Closed, None);
    }
    assert_eq!(world.show(id), "s-1 TERMINATED a1 task-finished success");
    assert_eq!(
        detail(&world, id),
        "the commands of all 3 containers ended with 0"
    );
    assert_eq!(world.stored[&id].exit_code, Some(0));
    assert_eq!(world.rows(id), 0);
}

#[test]
fn the_first_failure_ends_it_with_that_rank_and_code() {
    let (mut world, id, there) = running();
    ended(&mut world, there[0], exit(0));
    ended(&mut world, there[1], exit(7));
    assert_eq!(detail(&world, id), "the command of sub1 ended with 7");
    let order = world.order(there[2].0, there[2].1).expect("one");
    assert_eq!(order.want, Want::Stop);
    assert_eq!(order.stop.map(|s| s.grace_s), Some(30));
    ended(&mut world, there[2], exit(143));
    assert_eq!(world.show(id), "s-1 TERMINATED a1 task-failed failure");
    assert_eq!(world.stored[&id].exit_code, Some(7), "not that of main1");
}

#[test]
fn what_is_stopped_for_another_does_not_say_the_code() {
    let (mut world, id, there) = running();
    ended(&mut world, there[2], exit(9));
    ended(&mut world, there[0], exit(143));
    ended(&mut world, there[1], exit(0));
    assert_eq!(world.stored[&id].exit_code, Some(9));
    // Stopped by a person, it is that of the first.
    let (mut world, id, there) = running();
    world.terminate(&[id], 30, false);
    ended(&mut world, there[1], exit(1));
    ended(&mut world, there[0], exit(143));
    ended(&mut world, there[2], exit(2));
    assert_eq!(world.show(id), "s-1 TERMINATED a1 user-requested failure");
    assert_eq!(world.stored[&id].exit_code, Some(143));
}

#[test]
fn one_that_is_killed_for_memory_says_so() {
    let (mut world, id, there) = running();
    let killed = End::Exited(Exit {
        code: 137,
        signal: Some(9),
        oom: true,
        at: Timestamp(0),
    });
    ended(&mut world, there[1], killed);
    assert_eq!(world.reason(id), Some(Reason::OutOfMemory));
    assert!(detail(&world, id).starts_with("sub1 ran out of memory"));
}

#[test]
fn one_may_finish_before_the_others_run() {
    let (mut world, id) = placed(asked());
    all(&mut world, id, ContainerState::Created);
    let there = containers(&world, id);
    world.outcome(there[1].0, there[1].1, OutcomeNumber::Ended, Some(exit(0)));
    assert!(world.is(id, SessionState::Preparing), "{}", world.show(id));
    for (agent, key) in [there[0], there[2]] {
        world.report_key(agent, key, ContainerState::Running);
    }
    assert!(world.is(id, SessionState::Running), "{}", world.show(id));
    // All at once, none of them ever reported as running.
    let (mut world, id) = placed(asked());
    all(&mut world, id, ContainerState::Created);
    for there in containers(&world, id) {
        ended(&mut world, there, exit(0));
    }
    assert_eq!(world.show(id), "s-1 TERMINATED a1 task-finished success");
}

#[test]
fn accelerators_of_one_that_is_gone_before_the_others_run_do_not_count() {
    let mut world = World::new();
    world.agent("n1", 2);
    world.agent("n2", 2);
    let id = world.submit(NewSession {
        cluster: asked().cluster,
        ..slots(job(), &[("cpu", "8"), ("cuda.device", "1")])
    });
    all(&mut world, id, ContainerState::Created);
    let there = containers(&world, id);
    ended(&mut world, there[1], exit(0));
    for (agent, key) in [there[0], there[2]] {
        world.report_key(agent, key, ContainerState::Running);
    }
    assert!(world.is(id, SessionState::Running), "{}", world.show(id));
    assert_eq!(world.stored[&id].spent.runs_with, 2000);
    world.later(1_000);
    world.check_usage();
}

#[test]
fn another_end_than_an_exit_ends_it_as_ever() {
    let (mut world, id, there) = running();
    ended(&mut world, there[0], exit(0));
    ended(&mut world, there[1], End::Vanished { rebooted: false });
    assert_eq!(world.reason(id), Some(Reason::ContainerNotFound));
    let (mut world, id) = placed(asked());
    all(&mut world, id, ContainerState::Created);
    let there = containers(&world, id);
    ended(&mut world, there[0], failed(Cause::StartFailed));
    assert!(world.is(id, SessionState::Preparing), "{}", world.show(id));
    let order = world.order(there[1].0, there[1].1).map(|o| o.want);
    assert_eq!(order, Some(Want::Stop));
}

#[test]
fn a_node_on_which_all_has_finished_is_missed_by_nobody() {
    let (mut world, id, there) = running();
    let lone = there
        .iter()
        .position(|(agent, _)| there.iter().filter(|(a, _)| a == agent).count() == 1)
        .expect("one node has one container");
    let (agent, key) = there[lone];
    world.outcome(agent, key, OutcomeNumber::Ended, Some(exit(0)));
    world.lose(agent);
    assert!(!world.stored[&id].unreachable);
    world.give_up(agent);
    assert!(world.is(id, SessionState::Running), "{}", world.show(id));
    for (at, there) in there.iter().enumerate() {
        if at != lone {
            ended(&mut world, *there, exit(0));
        }
    }
    world.later(200_000);
    assert_eq!(world.reason(id), Some(Reason::TaskFinished));
    assert!(world.rows(id) > 0, "the node has not confirmed");
    world.hello(agent);
    let want = world.order(agent, key).map(|o| o.want);
    assert_eq!(want, Some(Want::Stop));
    world.outcome(agent, key, OutcomeNumber::Closed, None);
    assert_eq!(world.show(id), "s-1 TERMINATED a1 task-finished success");
    assert_eq!(world.rows(id), 0);
    // One that still works there is missed.
    let (mut world, id, there) = running();
    world.give_up(there[2].0);
    assert_eq!(world.reason(id), Some(Reason::AgentLost));
}

/// The container that is alone on its node finishes, and the others are on the other one.
fn one_finished(world: &mut World, there: &[(AgentId, ContainerKey)]) -> (usize, AgentId) {
    let of = |agent: AgentId| there.iter().filter(|(a, _)| *a == agent).count();
    let lone = there.iter().position(|(agent, _)| of(*agent) == 1);
    let lone = lone.expect("one node has one container");
    let (agent, key) = there[lone];
    world.outcome(agent, key, OutcomeNumber::Ended, Some(exit(0)));
    (lone, there[(lone + 1) % there.len()].0)
}

#[test]
fn it_is_reached_again_with_the_nodes_on_which_something_is_left() {
    let (mut world, id, there) = running();
    let (lone, other) = one_finished(&mut world, &there);
    world.lose(other);
    assert!(world.stored[&id].unreachable);
    world.lose(there[lone].0);
    world.hello(other);
    assert!(!world.stored[&id].unreachable, "nobody misses the other");
}

#[test]
fn a_node_is_emptied_of_what_has_finished_without_an_end_of_the_session() {
    let (mut world, id, there) = running();
    let (lone, other) = one_finished(&mut world, &there);
    let drain = |world: &mut World, agent: AgentId| {
        let order = DrainOrder {
            agent,
            dry_run: false,
            version: None,
            begin: Some(NewDrain {
                deadline: Some(world.now.plus_s(60)),
                message: String::new(),
                by: "user root".to_owned(),
                moves: false,
            }),
        };
        world.does(Event::Drain(Box::new(order)));
    };
    let (agent, key) = there[lone];
    drain(&mut world, agent);
    assert_eq!(drain_deadline(world.state(), &world.stored[&id]), None);
    world.later(60_000);
    assert!(world.is(id, SessionState::Running), "{}", world.show(id));
    let want = world.order(agent, key).map(|order| order.want);
    assert_eq!(want, Some(Want::Stop));
    world.outcome(agent, key, OutcomeNumber::Closed, None);
    assert!(world.is(id, SessionState::Running), "{}", world.show(id));
    // The node on which others still work is another matter.
    drain(&mut world, other);
    world.later(60_000);
    assert_eq!(world.reason(id), Some(Reason::Drained));
}

#[test]
fn devices_of_what_has_finished_may_break() {
    let mut world = World::new();
    super::devices::stops(&mut world);
    world.agent("n1", 2);
    world.agent("n2", 2);
    let id = world.submit(NewSession {
        cluster: asked().cluster,
        ..slots(job(), &[("cpu", "8"), ("cuda.device", "1")])
    });
    all(&mut world, id, ContainerState::Created);
    all(&mut world, id, ContainerState::Running);
    let there = containers(&world, id);
    let (lone, _) = one_finished(&mut world, &there);
    let breaks = |world: &mut World, at: usize| {
        let (agent, key) = there[at];
        let container = world.stored[&id].present().find(|c| c.key == key);
        let device = container.expect("it is there").devices[0].device.clone();
        let inventory = world.state().agents[&agent].inventory.as_deref();
        let mut inventory = inventory.expect("it was told").clone();
        for known in inventory.devices.iter_mut().filter(|d| d.id == device) {
            known.health = Health::Lost;
        }
        world.does(Event::Inventory {
            agent,
            inventory: Box::new(inventory),
        });
    };
    breaks(&mut world, lone);
    assert!(world.is(id, SessionState::Running), "{}", world.show(id));
    assert!(!super::devices::is_faulty(&world, id));
    breaks(&mut world, (lone + 1) % there.len());
    assert_eq!(world.reason(id), Some(Reason::DeviceLost));
}

#[test]
fn the_code_of_one_that_is_stopped_is_that_of_main1_whoever_ends_first() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let (mut world, id, there) = running();
        world.terminate(&[id], 30, false);
        for at in order {
            let code = if at == 0 { 0 } else { 143 };
            ended(&mut world, there[at], exit(code));
        }
        assert_eq!(world.stored[&id].exit_code, Some(0), "{order:?}");
    }
}

#[test]
fn the_code_of_main1_that_had_finished_is_that_of_one_that_is_stopped_later() {
    for force in [false, true] {
        let (mut world, id, there) = running();
        ended(&mut world, there[0], exit(0));
        assert_eq!(world.stored[&id].exit_code, None);
        world.terminate(&[id], 30, force);
        for at in [1, 2] {
            ended(&mut world, there[at], exit(143));
        }
        assert_eq!(world.stored[&id].exit_code, Some(0), "{force}");
    }
}

#[test]
fn the_last_words_are_those_of_the_one_that_decided() {
    let words = |world: &World, id| {
        let session = &world.stored[&id];
        let tail = session.tail.clone().unwrap_or_default();
        (session.tail_rank.to_string(), tail)
    };
    let of = |rank: &str| (rank.to_owned(), format!("last words of {rank}"));
    let main = ("main1".to_owned(), "last words".to_owned());
    // The one that failed, whoever is stopped for it; main1 may have finished before.
    for early in [true, false] {
        let (mut world, id, there) = running();
        if early {
            ended(&mut world, there[0], exit(0));
            assert_eq!(words(&world, id), main);
        }
        ended(&mut world, there[2], exit(3));
        if !early {
            ended(&mut world, there[0], exit(143));
        }
        ended(&mut world, there[1], exit(143));
        assert_eq!(words(&world, id), of("sub2"), "{early}");
    }
    // The last one that finished.
    let (mut world, id, there) = running();
    for at in [0, 2, 1] {
        ended(&mut world, there[at], exit(0));
    }
    assert_eq!(words(&world, id), of("sub1"));
    // One that was stopped, or is gone, decided nothing.
    let stopped = End::Stopped {
        reason: Reason::LifetimeExceeded,
        exit: None,
    };
    for end in [stopped, End::Vanished { rebooted: true }] {
        let (mut world, id, there) = running();
        ended(&mut world, there[0], exit(0));
        ended(&mut world, there[1], end.clone());
        assert_eq!(words(&world, id), main, "{end:?}");
    }
    // Of one that somebody stops, main1.
    let (mut world, id, there) = running();
    world.terminate(&[id], 30, false);
    for at in [1, 0, 2] {
        ended(&mut world, there[at], exit(143));
    }
    assert_eq!(words(&world, id), main);
}

#[test]
fn it_needs_a_command_and_a_word_that_is_known() {
    let mut world = World::new();
    world.agent("n1", 0);
    let with = |run: &str, command: Vec<String>| {
        let mut request = slots(job(), &[("cpu", "1")]);
        request.cluster = asked()
            .cluster
            .map(|cluster| longshore_common::api::NewCluster {
                run: Some(run.to_owned()),
                ..cluster
            });
        request.command = command;
        request.kind = Some("interactive".to_owned());
        request
    };
    let some = vec!["work".to_owned()];
    for (run, command, told) in [
        ("each", some, "is not one of main, all"),
        ("all", vec![], "There is no command"),
    ] {
        let refusal = world.ask(with(run, command)).expect_err("refused");
        let place = &refusal.errors[0];
        assert_eq!(place.pointer, "/cluster/run");
        assert!(place.message.contains(told), "{place:?}");
    }
}
