//! Containers that no order names: told with what they hold, and ended when told.

use super::*;
use longshore_common::wire::UnclaimedItem;

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
        status: FoundStatus::Running,
        started_at: None,
        pid: None,
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
    let (key, claim) = (found.key, found.claim);
    assert_eq!(told(&driven), (1, vec![UnclaimedItem { key, claim }]));
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
    let item = UnclaimedItem { key: key(9), claim };
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
    assert_eq!(told(&driven), (2, vec![item]));
    driven.engine.stops.set(true);
    driven.closed(9).await;
    driven.tick().await;
    assert_eq!(told(&driven), (3, Vec::new()));
}
