//! Starts that fail.

use super::world::{World, exit, failed, job};
use longshore_common::api::Source;
use longshore_common::ids::{SessionId, VaultId};
use longshore_common::session::{
    Cause, ContainerState, End, ExactImage, PullRule, SessionState, Want,
};
use longshore_core::model::{Change, SchedulerSettings, desired_entries};

fn placed() -> (World, SessionId) {
    let mut world = World::new();
    world.agent("n1", 0);
    let id = world.submit(job());
    (world, id)
}

#[test]
fn three_returns_and_the_fourth_failure_ends_it() {
    let (mut world, id) = placed();
    for attempt in 1..=3 {
        world.acknowledge(id);
        world.ends(id, failed(Cause::PullNetwork));
        assert_eq!(world.show(id), format!("s-1 PENDING a{}", attempt + 1));
        assert_eq!(
            world.why(id),
            "tried before (pull-network); next try in 10 s"
        );
        world.later(10_000);
    }
    world.acknowledge(id);
    world.ends(id, failed(Cause::PullNetwork));
    assert_eq!(world.show(id), "s-1 CANCELLED a4 failed-to-start failure");
    assert_eq!(
        world.stored[&id].detail.as_deref(),
        Some("pull-network on n1: as the test wants")
    );
    assert_eq!(world.rows(id), 0);
}

/// What its present container is to be made from: the digest, and when to pull.
fn asked(world: &World, id: SessionId) -> (Option<String>, PullRule) {
    let entries = desired_entries(world.state(), world.agent_of(id), world.now);
    let key = world.key(id);
    let entry = entries
        .into_iter()
        .find(|entry| entry.key == key)
        .expect("it is ordered");
    (entry.spec.digest, entry.spec.pull)
}

#[test]
fn every_attempt_runs_the_image_that_the_first_one_got() {
    let (mut world, id) = placed();
    assert_eq!(asked(&world, id), (None, PullRule::Digest));
    world.acknowledge(id);
    world.made_from(id, ExactImage::Registry([0xab; 32]));
    assert_eq!(
        asked(&world, id),
        (None, PullRule::Digest),
        "what a container was made from is not changed behind it"
    );
    world.ends(id, failed(Cause::StartFailed));
    world.later(10_000);
    let first = format!("sha256:{}", "ab".repeat(32));
    assert_eq!(asked(&world, id), (Some(first.clone()), PullRule::Digest));
    world.acknowledge(id);
    world.made_from(id, ExactImage::Registry([0xcd; 32]));
    world.ends(id, failed(Cause::StartFailed));
    world.later(10_000);
    assert_eq!(asked(&world, id).0, Some(first));
}

#[test]
fn an_image_that_no_registry_has_is_asked_for_by_its_name() {
    let (mut world, id) = placed();
    world.acknowledge(id);
    world.made_from(id, ExactImage::Local([0xab; 32]));
    world.ends(id, failed(Cause::StartFailed));
    world.later(10_000);
    assert_eq!(asked(&world, id).0, None);
}

#[test]
fn the_rule_when_an_image_is_pulled_is_that_of_the_placement() {
    let (mut world, id) = placed();
    world.acknowledge(id);
    let scheduler = SchedulerSettings {
        pull: PullRule::None,
        ..world.state().scheduler.clone()
    };
    world.apply(vec![Change::Scheduler(scheduler)]);
    assert_eq!(asked(&world, id).1, PullRule::Digest);
    world.ends(id, failed(Cause::PullNetwork));
    world.later(10_000);
    assert_eq!(asked(&world, id).1, PullRule::None);
}

#[test]
fn a_vault_that_is_away_is_waited_for_as_often_as_it_takes() {
    let (mut world, id) = placed();
    for wait_s in [10, 20, 40, 80, 160, 300, 300] {
        world.acknowledge(id);
        let vault = VaultId::new(7).to_string();
        world.ends(
            id,
            End::StartFailed {
                cause: Cause::VaultUnavailable,
                detail: format!("vault {vault}: it is gone"),
            },
        );
        let text = format!("vault {vault}: it is gone; next try in {wait_s} s");
        let [blocked] = world.blocked(id).try_into().unwrap();
        assert_eq!(
            (&*blocked.stage, &*blocked.rule),
            ("ready", "vault-unavailable")
        );
        assert_eq!(blocked.source, Some(Source::new("vault", vault)));
        assert_eq!(blocked.text, text);
        world.later(wait_s * 1000);
    }
    assert_eq!(world.show(id), "s-1 SCHEDULED a8, n1 prepare assigned");
}

#[test]
fn a_group_may_allow_none() {
    let (mut world, id) = placed();
    let mut group = world.state().groups.values().next().unwrap().clone();
    group.creation_retries = Some(0);
    world.apply(vec![Change::Group(group)]);
    world.ends(id, failed(Cause::PullNetwork));
    assert_eq!(world.show(id), "s-1 CANCELLED a1 failed-to-start failure");
}

#[test]
fn what_cannot_heal_ends_it_at_once() {
    for cause in Cause::ALL.iter().filter(|c| c.is_permanent()) {
        let (mut world, id) = placed();
        world.ends(id, failed(*cause));
        assert_eq!(
            world.show(id),
            "s-1 CANCELLED a1 failed-to-start failure",
            "{cause}"
        );
    }
}

#[test]
fn the_attempt_is_taken_back_before_the_next() {
    let (mut world, id) = placed();
    world.report(id, ContainerState::Creating);
    world.ended(id, failed(Cause::CreateFailed));
    assert_eq!(world.show(id), "s-1 PREPARING/undoing a1, n1 stop exited");
    assert_eq!(
        (world.want(id), world.counts(id)),
        (Some(Want::Stop), false)
    );
    world.closed(id);
    assert_eq!(world.show(id), "s-1 PENDING a2");
    assert_eq!(world.stored[&id].failed_starts, 1);
}

#[test]
fn an_attempt_that_is_not_taken_back_in_time_is_waited_for_in_the_books() {
    let (mut world, id) = placed();
    world.ended(id, failed(Cause::CreateFailed));
    let old = world.key(id);
    world.later(120_000);
    assert_eq!(world.show(id), "s-1 PENDING a2, old n1 stop exited");
    world.later(10_000);
    assert_eq!(
        world.show(id),
        "s-1 SCHEDULED a2, old n1 stop exited, n1 prepare assigned"
    );
    let agent = world.agent_of(id);
    assert_eq!(world.rows(id), 4, "both attempts hold what they hold");
    world.outcome(
        agent,
        old,
        longshore_common::wire::OutcomeNumber::Closed,
        None,
    );
    assert_eq!(world.rows(id), 2);
}

#[test]
fn an_end_that_comes_while_it_is_taken_back_leaves_the_deadline() {
    let (mut world, id) = placed();
    world.acknowledge(id);
    world.report(id, ContainerState::Created);
    world.later(300_000); // START_MS: told to run, nothing came
    assert_eq!(world.show(id), "s-1 PREPARING/undoing a1, n1 stop created");
    world.ended(id, exit(0)); // it had started after all
    assert!(world.stored[&id].deadline.is_some());
    world.later(120_000);
    assert_eq!(world.show(id), "s-1 PENDING a2, old n1 stop exited");
}

#[test]
fn a_node_where_it_failed_comes_last_for_an_hour() {
    let (mut world, id) = placed();
    world.ends(id, failed(Cause::CreateFailed));
    let spare = world.agent("n2", 1);
    world.later(10_000);
    assert_eq!(
        world.agent_of(id),
        spare,
        "though it has GPUs nobody asked for"
    );
}

#[test]
fn orders_nobody_acknowledges_fail_after_half_a_minute() {
    let (mut world, id) = placed();
    world.later(29_999);
    assert!(world.is(id, SessionState::Scheduled));
    world.later(1);
    assert_eq!(world.show(id), "s-1 PREPARING/undoing a1, n1 stop assigned");
    assert_eq!(
        world.stored[&id].failed.as_ref().map(|f| f.cause),
        Some(Cause::NotAcknowledged)
    );
    world.closed(id);
    assert_eq!(world.show(id), "s-1 PENDING a2");
}

#[test]
fn phases_that_take_too_long_have_their_cause() {
    for (state, cause, ms) in [
        (ContainerState::Pulling, Cause::PullTimeout, 7_200_000),
        (ContainerState::Creating, Cause::CreateTimeout, 120_000),
        (ContainerState::Created, Cause::StartTimeout, 300_000),
    ] {
        let (mut world, id) = placed();
        world.report(id, state);
        world.later(ms);
        assert_eq!(
            world.stored[&id].failed.as_ref().map(|f| f.cause),
            Some(cause)
        );
    }
}

#[test]
fn what_was_told_to_run_is_not_tried_again_beside_itself() {
    let (mut world, id) = placed();
    world.report(id, ContainerState::Created);
    world.later(300_000);
    assert_eq!(
        world.stored[&id].failed.as_ref().map(|f| f.cause),
        Some(Cause::StartTimeout)
    );
    world.later(3_600_000);
    assert_eq!(
        world.show(id),
        "s-1 PREPARING/undoing a1, n1 stop created",
        "it may run still"
    );
    world.closed(id);
    assert_eq!(world.show(id), "s-1 PENDING a2");
}

#[test]
fn a_person_may_end_it_between_two_attempts() {
    let (mut world, id) = placed();
    world.ended(id, failed(Cause::CreateFailed));
    world.terminate(&[id], 0, false);
    assert!(world.is(id, SessionState::Terminating));
    world.closed(id);
    assert_eq!(world.show(id), "s-1 CANCELLED a1 user-requested failure");
}
