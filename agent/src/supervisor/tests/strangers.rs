//! Containers that no order names: told with what they hold, and ended when told.

use super::*;
use longshore_common::wire::{ContainerReport, UnclaimedItem};

/// A container that runs and whose order and record are gone.
fn stranger(session: u64, mem: i64) -> Found {
    Found {
        key: key(session),
        docker_id: key(session).to_string(),
        fence: Fence(1),
        spec_hash: String::new(),
        claim: Claim {
            slots: Slots::new().with(SlotName::mem(), mem),
            devices: Vec::new(),
        },
        image: String::new(),
        record: "signed".into(),
        status: FoundStatus::Running,
        started_at: None,
        pid: None,
    }
}

/// What is told of a container that runs.
fn item(driven: &Driven, session: u64, claim: Claim, record: &str) -> UnclaimedItem {
    UnclaimedItem {
        key: key(session),
        claim,
        report: ContainerReport {
            used_at: None,
            ..driven.supervisor.report_of(key(session)).unwrap()
        },
        record: record.to_owned(),
    }
}

fn told(driven: &Driven) -> (u64, Vec<UnclaimedItem>) {
    driven.supervisor.shared.outbox().unclaimed.clone()
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_told_holds_what_it_holds_and_ends_when_told() {
    let mut driven = Driven::new().await;
    let found = stranger(9, 1 << 29);
    lock(&driven.engine.containers).insert(key(9), found.clone());
    driven.list_again();
    driven
        .until("it is found", |d| d.supervisor.found.len() == 1)
        .await;
    assert_eq!(
        told(&driven).0,
        0,
        "older orders may not name what newer ones do"
    );
    driven.order(Vec::new());
    driven.tick().await;
    let item = item(&driven, 9, found.claim, "signed");
    assert_eq!(item.report.state, ContainerState::Running);
    assert_eq!(told(&driven), (1, vec![item]));
    driven.tick().await;
    assert_eq!(told(&driven).0, 1, "told once");
    // Half of the node is left.
    let mut large = entry(1, Want::Prepare);
    large.spec.slots = Slots::new().with(SlotName::mem(), (1 << 29) + 1);
    driven.order(vec![large.clone()]);
    driven
        .until("it is refused", |d| {
            d.outcome(1, OutcomeNumber::Ended).is_some()
        })
        .await;
    assert_eq!(driven.start_failed().0, Cause::CapacityMismatch);
    // Beside the order to stop it, a large one waits for its end.
    let mut later = entry(2, Want::Prepare);
    later.spec = large.spec;
    driven.order(vec![stop(9, 0), later]);
    driven.closed(9).await;
    driven.tick().await;
    assert_eq!(driven.state(2), Some(ContainerState::Created));
    driven.tick().await;
    assert_eq!(told(&driven), (2, Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn what_a_restored_coordinator_no_longer_orders_is_a_stranger_too() {
    let mut driven = Driven::new().await;
    let with = |session, want| {
        let mut entry = entry(session, want);
        entry.spec.slots = Slots::new().with(SlotName::mem(), 1 << 29);
        entry
    };
    driven.order(vec![with(9, Want::Prepare)]);
    driven
        .until("it is created", |d| {
            d.state(9) == Some(ContainerState::Created)
        })
        .await;
    driven.order(vec![with(9, Want::Run)]);
    driven
        .until("it runs", |d| {
            d.state(9) == Some(ContainerState::Running) && d.supervisor.busy.is_empty()
        })
        .await;
    driven.tick().await;
    assert_eq!(told(&driven), (1, Vec::new()));
    // The journal knows it, and nobody orders it any more.
    driven.order(Vec::new());
    driven.tick().await;
    let claim = Claim {
        slots: Slots::new().with(SlotName::mem(), 1 << 29),
        devices: Vec::new(),
    };
    let item = item(&driven, 9, claim, "");
    assert_eq!(told(&driven), (2, vec![item.clone()]));
    let mut large = entry(1, Want::Prepare);
    large.spec.slots = Slots::new().with(SlotName::mem(), (1 << 29) + 1);
    driven.order(vec![large]);
    driven
        .until("it is refused", |d| {
            d.outcome(1, OutcomeNumber::Ended).is_some()
        })
        .await;
    assert_eq!(driven.start_failed().0, Cause::CapacityMismatch);
    // Somebody wants it gone: it is told until it is, or that order would be taken back.
    driven.engine.stops.set(false);
    let mut end = stop(9, 600);
    end.spec.image = String::new();
    driven.order(vec![end]);
    driven.supervisor.tick();
    let mut ends = item;
    ends.report.state = ContainerState::Stopping;
    assert_eq!(told(&driven), (3, vec![ends]));
    driven.engine.stops.set(true);
    driven.closed(9).await;
    driven.tick().await;
    assert_eq!(told(&driven), (4, Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn an_end_is_told_again_to_who_orders_its_key_anew() {
    let mut driven = Driven::new().await;
    driven.order(vec![entry(9, Want::Prepare)]);
    driven
        .until("it is created", |d| {
            d.state(9) == Some(ContainerState::Created)
        })
        .await;
    driven.order(vec![entry(9, Want::Run)]);
    driven
        .until("it runs", |d| {
            d.state(9) == Some(ContainerState::Running) && d.supervisor.busy.is_empty()
        })
        .await;
    let mut ended = lock(&driven.engine.containers)[&key(9)].clone();
    ended.status = exited(3);
    lock(&driven.engine.containers).insert(key(9), ended);
    driven.list_again();
    driven
        .until("its end is told", |d| {
            d.outcome(9, OutcomeNumber::Ended).is_some()
        })
        .await;
    let end = driven.outcome(9, OutcomeNumber::Ended);
    // A restored coordinator takes it for none of its own, and then finds out.
    driven.order(Vec::new());
    let acked = Event::Heard(Heard::Acked(OutcomeAck {
        key: key(9),
        number: OutcomeNumber::Ended,
    }));
    driven.supervisor.take(acked).unwrap();
    assert_eq!(driven.outcome(9, OutcomeNumber::Ended), None);
    driven.order(vec![entry(9, Want::Run)]);
    assert_eq!(driven.outcome(9, OutcomeNumber::Ended), end);
    // Acknowledged anew, it is not told with every order.
    let acked = Event::Heard(Heard::Acked(OutcomeAck {
        key: key(9),
        number: OutcomeNumber::Ended,
    }));
    driven.supervisor.take(acked).unwrap();
    driven.order(vec![entry(9, Want::Run)]);
    assert_eq!(driven.outcome(9, OutcomeNumber::Ended), None);
}

/// Somebody made a container with the labels of a key, of something else.
fn impostor(session: u64, status: FoundStatus) -> Found {
    Found {
        status,
        ..stranger(session, 0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_of_another_order_is_no_run_of_the_key_it_names() {
    for status in [FoundStatus::Created, FoundStatus::Running, exited(0)] {
        let mut driven = Driven::new().await;
        let found = impostor(1, status.clone());
        lock(&driven.engine.containers).insert(key(1), found);
        driven.list_again();
        driven
            .until("it is found", |d| d.supervisor.found.len() == 1)
            .await;
        driven.order(vec![entry(1, Want::Run)]);
        driven.tick().await;
        let (cause, detail) = driven.start_failed();
        assert_eq!(cause, Cause::CreateFailed, "{status:?}");
        assert!(detail.contains("made of another order"), "{detail}");
        assert_eq!(driven.state(1), Some(ContainerState::Exited));
        let began = ["start", "create"].map(|call| driven.engine.count(call));
        assert_eq!(began, [0, 0], "{status:?}");
        driven.order(vec![stop(1, 0)]);
        driven.closed(1).await;
        assert!(lock(&driven.engine.containers).is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_create_finds_under_its_name_is_taken_only_if_it_is_of_its_order() {
    for (other, states) in [
        (true, ContainerState::Exited),
        (false, ContainerState::Created),
    ] {
        let mut driven = Driven::new().await;
        driven.engine.creates.set(false);
        driven.order(vec![entry(1, Want::Prepare)]);
        driven
            .until("it is being created", |d| d.engine.count("create") == 1)
            .await;
        let mut found = impostor(1, FoundStatus::Created);
        if !other {
            found.spec_hash = crate::runtime::docker::spec_hash(&entry(1, Want::Run).spec);
        }
        lock(&driven.engine.containers).insert(key(1), found);
        driven.engine.creates.set(true);
        driven
            .until("the name was found taken", |d| d.state(1) == Some(states))
            .await;
        if other {
            assert_eq!(driven.start_failed().0, Cause::CreateFailed);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_renamed_session_is_found_again_without_the_journal() {
    let mut driven = Driven::new().await;
    let mut renamed = entry(1, Want::Run);
    let mut found = impostor(1, FoundStatus::Running);
    found.spec_hash = crate::runtime::docker::spec_hash(&renamed.spec);
    let name = ("LONGSHORE_SESSION_NAME".to_owned(), "new".to_owned());
    renamed.spec.environment.extend([name]);
    lock(&driven.engine.containers).insert(key(1), found);
    driven.list_again();
    driven
        .until("it is found", |d| d.supervisor.found.len() == 1)
        .await;
    driven.order(vec![renamed]);
    driven.tick().await;
    assert_eq!(driven.state(1), Some(ContainerState::Running));
}
