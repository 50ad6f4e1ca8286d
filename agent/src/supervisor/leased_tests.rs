//! The lease on the agent's side: who is frozen when, who is thawed, who never is.

use super::tests::{Driven, entry, key, stop, welcome_with_lease};
use super::*;
use longshore_common::ids::Fence;
use longshore_common::session::StopOrder;

/// T2 of 600 s less 60 s.
const LEASE_MS: i64 = 540_000;

fn restartable(session: u64, want: Want) -> Entry {
    Entry {
        restartable: true,
        ..entry(session, want)
    }
}

/// Linked, with a restartable container and another that run.
async fn both() -> Driven {
    let mut driven = Driven::new().await;
    driven.take(welcome_with_lease(LEASE_MS));
    driven.order(vec![restartable(1, Want::Prepare), entry(2, Want::Prepare)]);
    let created = |d: &Driven| [1, 2].map(|s| d.state(s)) == [Some(ContainerState::Created); 2];
    driven.until("they are created", created).await;
    driven.order(vec![restartable(1, Want::Run), entry(2, Want::Run)]);
    driven
        .until("they run", |d| {
            let run = [1, 2].map(|s| d.state(s)) == [Some(ContainerState::Running); 2];
            run && d.supervisor.busy.is_empty()
        })
        .await;
    driven
}

fn status(driven: &Driven, session: u64) -> Option<FoundStatus> {
    let found = driven.supervisor.found.get(&key(session));
    found.map(|found| found.status.clone())
}

/// The link is gone, and the last heartbeat that was acknowledged was sent so long ago.
fn cut_off(driven: &mut Driven, for_ms: i64) {
    let acked = host::boot_clock_ms() - for_ms;
    let shared = &driven.supervisor.shared;
    shared.acked_sent_ms.store(acked, Ordering::Relaxed);
    driven.take(Event::Heard(Heard::Down));
    driven.supervisor.tick();
}

async fn frozen() -> Driven {
    let mut driven = both().await;
    cut_off(&mut driven, LEASE_MS);
    driven
        .until("it is frozen", |d| {
            status(d, 1) == Some(FoundStatus::Paused) && d.supervisor.busy.is_empty()
        })
        .await;
    driven
}

#[tokio::test]
async fn what_is_restartable_is_frozen_when_the_lease_is_over() {
    let mut driven = both().await;
    cut_off(&mut driven, LEASE_MS - 10_000);
    assert!(driven.supervisor.busy.is_empty(), "ten seconds are left");
    cut_off(&mut driven, LEASE_MS);
    driven
        .until("it is frozen", |d| {
            status(d, 1) == Some(FoundStatus::Paused)
        })
        .await;
    driven.supervisor.tick();
    assert_eq!(status(&driven, 2), Some(FoundStatus::Running), "it runs on");
    assert_eq!(driven.engine.count("freeze"), 1);
    assert_eq!(
        driven.state(1),
        Some(ContainerState::Running),
        "shown with its condition"
    );
}

#[tokio::test]
async fn a_link_that_is_back_thaws_by_the_coordinators_word_alone() {
    let mut driven = frozen().await;
    driven.take(welcome_with_lease(LEASE_MS));
    assert!(
        driven.supervisor.busy.is_empty(),
        "nothing was said about it yet"
    );
    driven.order(vec![restartable(1, Want::Run), entry(2, Want::Run)]);
    driven
        .until("it goes on", |d| status(d, 1) == Some(FoundStatus::Running))
        .await;
    assert_eq!(driven.engine.count("thaw"), 1);
    driven.supervisor.tick();
    assert_eq!(
        driven.engine.count("freeze"),
        1,
        "the word is newer than the lease"
    );
}

#[tokio::test]
async fn what_was_given_up_is_removed_without_running_again() {
    let mut driven = frozen().await;
    driven.take(welcome_with_lease(LEASE_MS));
    driven.coordinator.fence = Fence(2);
    let given_up = Entry {
        stop: Some(StopOrder {
            reason: longshore_common::session::Reason::AgentLost,
            grace_s: 0,
            forced: true,
        }),
        ..stop(1, 0)
    };
    driven.order(vec![given_up, stop(2, 0)]);
    driven.closed(1).await;
    driven.closed(2).await;
    let (thaws, kills) = (driven.engine.count("thaw"), driven.engine.count("kill"));
    assert_eq!((thaws, kills), (0, 1));
    assert_eq!(driven.supervisor.journal.contents().fence, Fence(2));
}

#[tokio::test]
async fn a_set_of_another_fence_thaws_nothing_of_this_one() {
    let mut driven = frozen().await;
    driven.take(welcome_with_lease(LEASE_MS));
    driven.coordinator.fence = Fence(2);
    driven.order(vec![restartable(1, Want::Run)]);
    driven.supervisor.tick();
    assert!(driven.supervisor.busy.is_empty());
    assert_eq!(status(&driven, 1), Some(FoundStatus::Paused));
}

#[tokio::test]
async fn without_a_lease_everything_runs_on() {
    let mut driven = both().await;
    driven.take(welcome_with_lease(0));
    cut_off(&mut driven, 10 * LEASE_MS);
    assert!(driven.supervisor.busy.is_empty());
}

#[tokio::test]
async fn a_new_process_of_the_agent_goes_on_with_the_lease() {
    let mut driven = both().await;
    let dir = tempfile::tempdir().unwrap();
    let path = Lease::path(dir.path());
    driven.supervisor.config.lease_file = Some(path.clone());
    cut_off(&mut driven, LEASE_MS - 10_000);
    let kept = Lease::load(&path).unwrap();
    assert_eq!((kept.lease_ms, kept.freeze.len()), (LEASE_MS, 1));
    let ids: Vec<&str> = kept.freeze.iter().map(|f| f.docker_id.as_str()).collect();
    assert_eq!(ids, [key(1).to_string()]);
    // It is dead until the lease is over.
    let over = Lease {
        acked_ms: host::boot_clock_ms() - LEASE_MS,
        ..kept
    };
    over.store(&path).unwrap();
    let mut next = driven.reborn();
    next.supervisor.config.lease_file = Some(path);
    next.supervisor.recall();
    next.list_again();
    next.until("it is frozen", |d| {
        status(d, 1) == Some(FoundStatus::Paused)
    })
    .await;
    assert_eq!(status(&next, 2), Some(FoundStatus::Running));
}
