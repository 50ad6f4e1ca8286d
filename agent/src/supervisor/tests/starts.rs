//! Pulls, creates, starts and stops, and lists that come between them.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_shorter_grace_overtakes_a_longer_one() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    driven.engine.stops.set(false);
    driven.order(vec![stop(1, 600)]);
    driven
        .until("it is stopping", |d| d.engine.count("stop 600") == 1)
        .await;
    driven.order(vec![stop(1, 900)]);
    driven.rest().await;
    assert_eq!(
        driven.engine.count("stop 900"),
        0,
        "a longer one changes nothing"
    );
    assert_eq!(driven.state(1), Some(ContainerState::Stopping));

    driven.order(vec![stop(1, 0)]);
    driven.closed(1).await;
    assert_eq!(driven.engine.count("stop 0"), 1);
    let ended = driven.outcome(1, OutcomeNumber::Ended).unwrap();
    assert!(
        matches!(
            &ended.end,
            Some(End::Stopped { reason: Reason::UserRequested, exit: Some(exit) }) if exit.code == 143
        ),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_pull_is_given_up_at_once() {
    let mut driven = Driven::new().await;
    driven.engine.pulls.set(false);
    driven.order(vec![entry(1, Want::Prepare)]);
    driven
        .until("it pulls", |d| d.engine.count("pull") == 1)
        .await;
    assert_eq!(driven.state(1), Some(ContainerState::Pulling));
    driven.order(vec![stop(1, 30)]);
    driven.closed(1).await;
    assert_eq!(driven.engine.count("create"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_create_is_waited_for_and_then_undone() {
    let mut driven = Driven::new().await;
    driven.engine.creates.set(false);
    driven.order(vec![entry(1, Want::Prepare)]);
    driven
        .until("it is being created", |d| {
            d.engine.count("create") == 1 && d.state(1) == Some(ContainerState::Creating)
        })
        .await;
    driven.order(vec![stop(1, 30)]);
    driven.rest().await;
    // Removed now, the engine would make it behind our back.
    assert_eq!(driven.engine.count("remove"), 0);
    assert!(driven.outcome(1, OutcomeNumber::Closed).is_none());

    driven.engine.creates.set(true);
    driven.closed(1).await;
    assert_eq!(driven.engine.count("start"), 0);
    assert!(lock(&driven.engine.containers).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_list_from_before_a_start_does_not_make_a_container_missing() {
    let mut driven = Driven::new().await;
    driven.engine.lists.set(false);
    let lists = driven.engine.count("list");
    driven.list_again();
    driven
        .until("the list was made", |d| d.engine.count("list") > lists)
        .await;
    driven.running(1).await;
    driven.engine.lists.set(true);
    driven
        .until("the old list came", |d| !d.supervisor.listing)
        .await;
    driven.rest().await;
    assert_eq!(driven.state(1), Some(ContainerState::Running));
    assert_eq!(driven.outcome(1, OutcomeNumber::Ended), None);
    assert_eq!(driven.engine.count("start"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_list_from_between_create_and_start_does_not_start_it_twice() {
    let mut driven = Driven::new().await;
    driven.order(vec![entry(1, Want::Prepare)]);
    driven
        .until("it is created", |d| {
            d.state(1) == Some(ContainerState::Created)
        })
        .await;
    driven.engine.lists.set(false);
    let lists = driven.engine.count("list");
    driven.list_again();
    driven
        .until("the list was made", |d| d.engine.count("list") > lists)
        .await;
    driven.order(vec![entry(1, Want::Run)]);
    driven
        .until("it runs", |d| d.state(1) == Some(ContainerState::Running))
        .await;
    driven.engine.lists.set(true);
    driven
        .until("the old list came", |d| !d.supervisor.listing)
        .await;
    driven.rest().await;
    assert_eq!(driven.engine.count("start"), 1);
    assert_eq!(driven.state(1), Some(ContainerState::Running));
}

#[tokio::test]
async fn an_image_that_went_away_is_fetched_once_more() {
    let mut driven = Driven::new().await;
    *lock(&driven.engine.image_gone) = 1;
    driven.running(1).await;
    assert_eq!(driven.engine.count("pull"), 2);

    *lock(&driven.engine.image_gone) = 2;
    driven.order(vec![entry(1, Want::Run), entry(2, Want::Prepare)]);
    driven
        .until("it failed", |d| {
            d.outcome(2, OutcomeNumber::Ended).is_some()
        })
        .await;
    let ended = driven.outcome(2, OutcomeNumber::Ended).unwrap();
    let Some(End::StartFailed { cause, .. }) = ended.end else {
        panic!("{ended:?}");
    };
    assert_eq!(cause, Cause::ImageNotAvailable);
    assert_eq!(driven.engine.count("pull"), 4, "not for ever");
}

#[tokio::test]
async fn orders_of_many_containers_are_all_carried_out_and_kept() {
    let mut driven = Driven::new().await;
    driven.order((1..=20).map(|n| entry(n, Want::Prepare)).collect());
    driven
        .until("all are created", |d| {
            (1..=20).all(|n| d.state(n) == Some(ContainerState::Created))
        })
        .await;
    assert_eq!(driven.engine.count("create"), 20);
    let ack = |number| OutcomeAck {
        key: key(1),
        number,
    };
    driven.order((1..=20).map(|n| stop(n, 0)).collect());
    for n in 1..=20 {
        driven.closed(n).await;
    }
    let acked = Event::Heard(Heard::Acked(ack(OutcomeNumber::Closed)));
    driven.supervisor.take(acked).unwrap();
    assert_eq!(driven.state(1), None);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_failed_is_not_one_that_passed() {
    let (lines, _guard) = logged();
    let mut driven = Driven::new().await;
    driven.started([Err(refused("no"))]).await;
    driven.rest().await;
    assert_eq!(driven.state(1), Some(ContainerState::Starting));
    assert_eq!(driven.engine.count("verify"), 1, "not before the next tick");
    assert_eq!(lines.with("could not be checked"), 1);
    driven.tick().await;
    assert_eq!(driven.engine.count("verify"), 2);
    assert_eq!(driven.state(1), Some(ContainerState::Running));
    driven.tick().await;
    assert_eq!(driven.engine.count("verify"), 2, "it passed");
}

#[tokio::test(start_paused = true)]
async fn a_start_that_cannot_be_checked_fails() {
    let mut driven = Driven::new().await;
    let tries = CHECK_TRIES as usize;
    driven
        .started((0..99).map(|_| Err(refused("no such file"))))
        .await;
    for n in 1..tries {
        assert_eq!(driven.outcome(1, OutcomeNumber::Ended), None, "after {n}");
        driven.tick().await;
    }
    let (cause, detail) = driven.start_failed();
    assert_eq!(cause, Cause::StartFailed);
    assert_eq!(
        detail,
        "what it got could not be checked, 5 times: no such file"
    );
    driven.tick().await;
    assert_eq!(driven.engine.count("verify"), tries);
    assert_eq!(driven.state(1), Some(ContainerState::Exited));
    assert!(!driven.engine.runs(&key(1).to_string()), "it was killed");
    driven.order(vec![stop(1, 0)]);
    driven.closed(1).await;
    assert!(lock(&driven.engine.containers).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_start_waits_for_an_engine_that_is_away() {
    let (lines, _guard) = logged();
    let mut driven = Driven::new().await;
    let hung = || RuntimeError::Timeout {
        call: "inspect",
        seconds: 5,
    };
    driven
        .started((0..20).map(|n| Err(if n % 2 == 0 { away() } else { hung() })))
        .await;
    while driven.engine.count("verify") <= 20 {
        assert_eq!(driven.state(1), Some(ContainerState::Starting));
        assert_eq!(driven.outcome(1, OutcomeNumber::Ended), None);
        driven.tick().await;
    }
    assert_eq!(driven.state(1), Some(ContainerState::Running));
    assert_eq!(lines.with("could not be checked"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_breach_that_is_found_late_still_fails_the_start() {
    let mut driven = Driven::new().await;
    let breach = Breach::More("it has two".to_owned());
    driven.started([Err(refused("no")), Ok(Some(breach))]).await;
    driven.tick().await;
    assert_eq!(
        driven.start_failed(),
        (Cause::LocalPolicy, "it has two".to_owned())
    );
    assert!(!driven.engine.runs(&key(1).to_string()), "it was killed");
}

/// The driver takes its time after a restart: what is not known yet is no fact.
#[tokio::test(start_paused = true)]
async fn nothing_is_told_or_judged_before_the_gpus_were_looked_at() {
    let mut driven = Driven::new().await;
    let (gpus, _hand) = invent_gpus(&SimulatedConfig {
        count: 1,
        model: "A".to_owned(),
        memory_bytes: 1 << 30,
        seed: 1,
    });
    let seen = gpus.borrow().clone();
    let (sender, unseen) = watch::channel(Snapshot::default());
    driven.supervisor.gpus = unseen;
    driven.supervisor.shared.outbox().inventory = (0, None);
    driven.supervisor.refresh_inventory();
    assert_eq!(driven.supervisor.shared.outbox().inventory.1, None);
    let with_gpu = |want| {
        let mut entry = entry(1, want);
        let device = seen.devices[0].id.clone();
        entry.spec.slots = Slots::new().with(SlotName::cuda_device(), UNIT);
        entry.spec.devices = vec![longshore_common::session::DeviceGrant {
            device,
            slot: SlotName::cuda_device(),
            amount: UNIT,
        }];
        entry
    };
    driven.order(vec![with_gpu(Want::Prepare)]);
    driven.tick().await;
    assert_eq!(driven.outcome(1, OutcomeNumber::Ended), None, "not refused");
    assert_eq!(driven.engine.count("create"), 0);

    sender.send_replace(seen.clone());
    driven.supervisor.take(Event::Gpus).unwrap();
    driven
        .until("it is created", |d| {
            d.state(1) == Some(ContainerState::Created)
        })
        .await;
    let known = driven.supervisor.shared.outbox().inventory.1.clone();
    assert_eq!(known.unwrap().devices.len(), 1);

    sender.send_replace(Snapshot::default());
    driven.order(vec![with_gpu(Want::Run)]);
    driven.tick().await;
    assert_eq!(driven.engine.count("start"), 0);
    sender.send_replace(seen);
    driven.supervisor.take(Event::Gpus).unwrap();
    driven
        .until("it runs", |d| d.state(1) == Some(ContainerState::Running))
        .await;

    sender.send_replace(Snapshot::default());
    driven.rest().await;
    let checks = driven.engine.count("verify");
    driven.supervisor.note_checks();
    driven.tick().await;
    assert_eq!(driven.engine.count("verify"), checks);
}

#[tokio::test(start_paused = true)]
async fn what_the_node_does_not_allow_is_not_made_whoever_orders_it() {
    let mut driven = Driven::new().await;
    let mut order = entry(1, Want::Prepare);
    order.spec.root = true;
    driven.order(vec![order]);
    let (cause, detail) = driven.start_failed();
    assert_eq!(cause, Cause::LocalPolicy);
    assert!(
        detail.contains("this node does not allow it")
            && detail.contains("local_policy.root_in_container"),
        "{detail}"
    );
    driven.rest().await;
    assert_eq!(driven.engine.count("create"), 0);
    // With another policy the next one is made.
    let mut config = driven.supervisor.config.clone();
    config.policy.root_in_container = crate::policy::Permit::Allow;
    driven.take(Event::Reloaded(Box::new(config)));
    let mut order = entry(2, Want::Prepare);
    order.spec.root = true;
    driven.order(vec![order]);
    driven
        .until("it is created", |d| {
            d.state(2) == Some(ContainerState::Created)
        })
        .await;
}

/// A restart orders the stop of one try and the next one in the same set.
#[tokio::test(start_paused = true)]
async fn a_try_waits_for_the_one_it_replaces_where_the_node_allows_no_more() {
    let mut driven = Driven::new().await;
    driven.running(1).await;
    let mut config = driven.supervisor.config.clone();
    config.policy.max_containers = 1;
    config.policy.min_free_disk = 95;
    driven.take(Event::Reloaded(Box::new(config)));
    driven.engine.stops.set(false);
    let mut next = entry(1, Want::Prepare);
    next.key.attempt = Attempt(next.key.attempt.0 + 1);
    let state = |d: &Driven, key: ContainerKey| {
        let reports = d.supervisor.shared.outbox().all_reports();
        reports.into_iter().find(|r| r.key == key).map(|r| r.state)
    };
    driven.order(vec![stop(1, 600), next.clone()]);
    driven.rest().await;
    assert_eq!(driven.engine.count("create"), 1, "the first one's");
    let ended = (next.key, OutcomeNumber::Ended);
    let outcomes = driven.supervisor.shared.outbox().outcomes.clone();
    assert!(!outcomes.contains_key(&ended), "{outcomes:?}");
    driven.engine.stops.set(true);
    driven
        .until("the next one is created", |d| {
            state(d, next.key) == Some(ContainerState::Created)
        })
        .await;
    // What replaces nothing is refused for what it would take.
    let other = entry(2, Want::Prepare);
    driven.order(vec![next, other.clone()]);
    let outbox = driven.supervisor.shared.outbox();
    let ended = outbox.outcomes.get(&(other.key, OutcomeNumber::Ended));
    let Some(End::StartFailed { cause, detail }) = ended.and_then(|o| o.end.clone()) else {
        panic!("{ended:?}");
    };
    assert_eq!(cause, Cause::LocalPolicy);
    assert!(detail.contains("local_policy.max_containers"), "{detail}");
}
