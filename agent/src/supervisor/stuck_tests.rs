//! A container that does not end though it was killed, through the supervisor.

use super::tests::{Driven, entry, key, lock, stop};
use super::*;
use longshore_common::agent::Health;
use longshore_common::amount::{SlotName, Slots, UNIT};
use longshore_common::session::{ContainerState, DeviceGrant};

/// The health of each device, as the coordinator is told.
fn shown(driven: &Driven) -> Vec<Health> {
    let outbox = driven.supervisor.shared.outbox();
    let inventory = outbox.inventory.1.as_ref().expect("it was told");
    inventory.devices.iter().map(|d| d.health).collect()
}

#[tokio::test(start_paused = true)]
async fn its_devices_alone_are_kept_back_until_it_is_gone() {
    let mut driven = Driven::new().await;
    let (gpus, _hand) =
        crate::devices::simulated::start(&crate::devices::simulated::SimulatedConfig {
            count: 2,
            model: "A".to_owned(),
            memory_bytes: 1 << 30,
            seed: 1,
        });
    let devices = gpus.borrow().devices.clone();
    driven.supervisor.gpus = gpus.clone();
    driven.take(Event::Gpus);
    let with_gpu = |mut entry: Entry| {
        entry.spec.slots = Slots::new().with(SlotName::cuda_device(), UNIT);
        entry.spec.devices = vec![DeviceGrant {
            device: devices[0].id.clone(),
            slot: SlotName::cuda_device(),
            amount: UNIT,
        }];
        entry
    };
    driven.order(vec![with_gpu(entry(1, Want::Prepare))]);
    let created = |d: &Driven| d.state(1) == Some(ContainerState::Created);
    driven.until("it is created", created).await;
    driven.order(vec![with_gpu(entry(1, Want::Run))]);
    let runs =
        |d: &Driven| d.state(1) == Some(ContainerState::Running) && d.supervisor.busy.is_empty();
    driven.until("it runs", runs).await;

    // The engine kills it, and the kernel does not let it go.
    driven.engine.stops.set(false);
    driven.order(vec![with_gpu(stop(1, 10))]);
    let now = host::boot_clock_ms();
    driven.supervisor.look_for_stuck(now + 99_000).unwrap();
    assert_eq!(shown(&driven), [Health::Healthy; 2]);
    driven.supervisor.look_for_stuck(now + 101_000).unwrap();
    assert_eq!(shown(&driven), [Health::Cordoned, Health::Healthy]);
    let alarms = |d: &Driven| {
        let outbox = d.supervisor.shared.outbox();
        let told = outbox.notices.iter();
        told.filter(|n| n.kind == NoticeKind::Breach && n.key == Some(key(1)))
            .count()
    };
    assert_eq!(alarms(&driven), 1);
    driven.supervisor.look_for_stuck(now + 200_000).unwrap();
    assert_eq!(alarms(&driven), 1, "told once");
    let refused = driven.supervisor.release_device(devices[0].id.clone());
    assert!(refused.unwrap_err().contains("does not end"));

    // Another process of the agent keeps it back as well, and tells nobody again.
    let mut driven = driven.again().await;
    driven.supervisor.gpus = gpus;
    driven.take(Event::Gpus);
    assert_eq!(shown(&driven), [Health::Cordoned, Health::Healthy]);
    driven.supervisor.look_for_stuck(now + 300_000).unwrap();
    assert_eq!(alarms(&driven), 0);

    // It is gone; two looks at the GPU show nothing on it, and those that it did not answer to
    // nothing at all.
    lock(&driven.engine.containers).remove(&key(1));
    driven.supervisor.found.remove(&key(1));
    driven.supervisor.look_for_stuck(now + 310_000).unwrap();
    let clean = BTreeMap::from([(devices[0].id.clone(), Vec::new())]);
    for (look, health) in [
        (BTreeMap::new(), Health::Cordoned),
        (BTreeMap::new(), Health::Cordoned),
        (clean.clone(), Health::Cordoned),
        (clean, Health::Healthy),
    ] {
        driven.take(Event::Strangers(look));
        assert_eq!(shown(&driven)[0], health);
    }
    assert!(driven.supervisor.journal.contents().stuck.is_empty());
}
