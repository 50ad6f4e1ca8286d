//! What another process of the agent knows of what the one before it did, and whose orders count.

use super::*;
use crate::journal::Sums;
use longshore_common::wire::{DeviceUse, Totals};

#[tokio::test(start_paused = true)]
async fn an_end_that_nobody_acknowledged_is_told_by_the_next_process() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    driven
        .engine
        .change(&key(1).to_string(), exited(3))
        .unwrap();
    driven.take(Event::Hint(key(1)));
    let ended = |d: &Driven| d.outcome(1, OutcomeNumber::Ended);
    driven.until("it has ended", |d| ended(d).is_some()).await;
    let told = ended(&driven);
    assert!(
        matches!(&told, Some(Outcome { end: Some(End::Exited(exit)), .. }) if exit.code == 3),
        "{told:?}"
    );
    let mut driven = driven.reborn();
    assert_eq!(ended(&driven), None);
    driven.supervisor.recall();
    assert_eq!(ended(&driven), told, "the same, from the journal");
    let number = OutcomeNumber::Ended;
    let ack = OutcomeAck {
        key: key(1),
        number,
    };
    driven.take(Event::Heard(Heard::Acked(ack)));
    assert_eq!(ended(&driven), None);
    let mut driven = driven.reborn();
    driven.supervisor.recall();
    assert_eq!(ended(&driven), None, "it was taken");
}

#[tokio::test(start_paused = true)]
async fn a_set_that_was_not_written_down_comes_again_and_makes_one_container() {
    let mut driven = Driven::new().await;
    driven.order(Vec::new());
    let journal = driven._dir.path().join("journal");
    let before = std::fs::read(&journal).unwrap();
    driven.engine.pulls.set(false);
    driven.order(vec![entry(1, Want::Prepare)]);
    let applied = |d: &Driven| d.supervisor.shared.outbox().applied;
    assert_eq!(applied(&driven), Generation(2));
    assert_ne!(
        std::fs::read(&journal).unwrap(),
        before,
        "written before it is told"
    );
    // It died before that.
    std::fs::write(&journal, before).unwrap();
    let mut driven = driven.reborn();
    driven.supervisor.recall();
    assert_eq!(applied(&driven), Generation(1), "what the next hello says");
    driven.engine.pulls.set(true);
    driven.take(welcome());
    driven.list_again();
    driven.order(vec![entry(1, Want::Prepare)]);
    driven
        .until("it is created", |d| {
            d.state(1) == Some(ContainerState::Created)
        })
        .await;
    assert_eq!(driven.engine.count("create"), 1);
}

#[tokio::test(start_paused = true)]
async fn orders_of_a_coordinator_that_was_replaced_change_nothing() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    let notices = |d: &Driven| d.supervisor.notices;
    let newer = (CoordinatorGeneration(5), InstanceId::new(9));
    driven.coordinator.life = newer;
    driven.order(vec![entry(1, Want::Run)]);
    assert_eq!(
        driven.supervisor.journal.contents().coordinator,
        Some(newer)
    );
    let told = notices(&driven);
    for (nth, life) in [
        (CoordinatorGeneration(4), InstanceId::new(9)),
        (CoordinatorGeneration(5), InstanceId::new(8)),
    ]
    .into_iter()
    .enumerate()
    {
        driven.coordinator.life = life;
        driven.order(vec![stop(1, 0)]);
        driven.tick().await;
        assert_eq!(driven.state(1), Some(ContainerState::Running), "{life:?}");
        assert_eq!(driven.engine.count("stop 0"), 0);
        assert_eq!(
            driven.supervisor.journal.contents().coordinator,
            Some(newer)
        );
        assert_eq!(notices(&driven), told + nth as u64 + 1, "and that is said");
    }
    // A restored one stands above all that were.
    driven.coordinator.life = (CoordinatorGeneration(1_800_000_000), InstanceId::new(1));
    driven.coordinator.generation = 0;
    driven.order(vec![stop(1, 0)]);
    driven.closed(1).await;
}

#[tokio::test(start_paused = true)]
async fn cut_off_what_was_ordered_to_run_is_started_until_the_lease_is_over() {
    for (away_ms, starts) in [(0, 1), (60_000, 0)] {
        let mut driven = Driven::new().await;
        driven.take(welcome_with_lease(60_000));
        driven.coordinator.lease_ms = 60_000;
        driven.order(vec![entry(1, Want::Prepare)]);
        driven
            .until("it is created", |d| {
                d.state(1) == Some(ContainerState::Created)
            })
            .await;
        // The order comes while something is in the way, and the link goes.
        driven.supervisor.retry_at.insert(key(1), i64::MAX);
        driven.order(vec![entry(1, Want::Run)]);
        driven.take(Event::Heard(Heard::Down));
        let acked = host::boot_clock_ms() - away_ms;
        let shared = &driven.supervisor.shared;
        shared.acked_sent_ms.store(acked, Ordering::Relaxed);
        driven.supervisor.keep_lease();
        driven.supervisor.retry_at.clear();
        driven.supervisor.reconcile(key(1)).unwrap();
        driven.tick().await;
        assert_eq!(driven.engine.count("start"), starts, "{away_ms}");
        if starts > 0 {
            continue;
        }
        // The link is back, and what was given up meanwhile is not said yet: neither an
        // acknowledgement nor the end of that link lets anything start.
        driven.take(welcome_with_lease(60_000));
        for news in [None, Some(Heard::Down)] {
            if let Some(news) = news {
                driven.take(Event::Heard(news));
            }
            let shared = &driven.supervisor.shared;
            let now = host::boot_clock_ms();
            shared.acked_sent_ms.store(now, Ordering::Relaxed);
            driven.supervisor.keep_lease();
            driven.supervisor.reconcile(key(1)).unwrap();
            driven.tick().await;
            assert_eq!(driven.engine.count("start"), 0);
        }
        // The same set, said again, does.
        driven.take(welcome_with_lease(60_000));
        driven.coordinator.generation -= 1;
        driven.order(vec![entry(1, Want::Run)]);
        driven
            .until("it is started", |d| d.engine.count("start") == 1)
            .await;
    }
}

/// What an hour of work leaves, without a GPU.
fn an_hour() -> Sums {
    Sums {
        totals: Totals {
            measured_ms: 3_600_000,
            ..Totals::default()
        },
        devices: Vec::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_container_used_is_counted_on_by_the_next_process() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    let sums = Sums {
        devices: vec![DeviceUse {
            device: "GPU-a".parse().unwrap(),
            busy_ms: 1_800_000,
            measured_ms: 3_600_000,
            memory_peak: Some(1 << 30),
        }],
        ..an_hour()
    };
    let now = host::boot_clock_ms();
    let counted = |d: &Driven| d.supervisor.watching[&key(1)].figures();
    let whole = (sums.totals, sums.devices.clone());
    let watching = driven.supervisor.watching.get_mut(&key(1)).unwrap();
    watching.take_up(&sums, now);
    let written = |d: &Driven| d.supervisor.journal.contents().sums.get(&key(1)).cloned();
    driven.supervisor.note_sums(now + 59_999, false).unwrap();
    assert_eq!(written(&driven), None, "each minute");
    driven.supervisor.note_sums(now + 60_000, false).unwrap();
    assert_eq!(written(&driven), Some(sums.clone()));
    let mut driven = driven.again().await;
    driven.order(vec![entry(1, Want::Run)]);
    assert_eq!(counted(&driven), whole);
    // One that is told to end leaves nothing out.
    let watching = driven.supervisor.watching.get_mut(&key(1)).unwrap();
    let more = Sums {
        devices: Vec::new(),
        ..sums
    };
    watching.take_up(&more, now + 60_000);
    driven.supervisor.note_sums(now + 60_001, true).unwrap();
    assert_eq!(written(&driven), Some(more));
}

#[tokio::test(start_paused = true)]
async fn what_a_container_used_is_told_though_it_vanished_between_two_processes() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    let sums = an_hour();
    let now = host::boot_clock_ms();
    let watching = driven.supervisor.watching.get_mut(&key(1)).unwrap();
    watching.take_up(&sums, now);
    driven.supervisor.note_sums(now, true).unwrap();
    lock(&driven.engine.containers).remove(&key(1));
    let mut driven = driven.again().await;
    driven.order(vec![entry(1, Want::Run)]);
    let ended = |d: &Driven| d.outcome(1, OutcomeNumber::Ended);
    driven.until("it has ended", |d| ended(d).is_some()).await;
    let told = ended(&driven).unwrap();
    assert!(matches!(told.end, Some(End::Vanished { .. })), "{told:?}");
    let output = told.totals.output; // is told by what was read
    assert_eq!(
        told.totals,
        Totals {
            output,
            ..sums.totals
        }
    );
}
