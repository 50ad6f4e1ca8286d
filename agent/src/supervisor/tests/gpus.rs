//! What GPUs show beside their figures, through the supervisor.

use super::*;
use crate::devices::Sign;
use longshore_common::agent::Health;
use longshore_common::ids::DeviceId;
use longshore_common::wire::NoticeKind;
use std::process::{Child, Command, Stdio};

/// A program of this machine that no container runs. It ends with the test.
struct Stranger(Child);

impl Stranger {
    fn new() -> Self {
        let mut command = Command::new("sleep");
        command.arg("600").stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A machine with one GPU, and the hand on what it shows.
async fn with_gpu() -> (Driven, watch::Sender<Snapshot>, DeviceId) {
    let mut driven = Driven::new().await;
    let (gpus, _hand) = invent_gpus(&SimulatedConfig {
        count: 1,
        model: "A".to_owned(),
        memory_bytes: 1 << 30,
        seed: 1,
    });
    let (sender, seen) = watch::channel(gpus.borrow().clone());
    driven.supervisor.gpus = seen;
    look(&mut driven).await;
    let id = gpus.borrow().devices[0].id.clone();
    (driven, sender, id)
}

fn shown(driven: &Driven) -> (Health, String) {
    let outbox = driven.supervisor.shared.outbox();
    let device = &outbox.inventory.1.as_ref().unwrap().devices[0];
    (device.health, device.health_detail.to_string())
}

/// One more look at the GPUs, and at who is on them.
async fn look(driven: &mut Driven) {
    driven.take(Event::Gpus);
    loop {
        let event = tokio::time::timeout(LIMIT, driven.inbox.recv()).await;
        let event = event.unwrap().unwrap();
        let done = matches!(event, Event::Strangers(_));
        driven.take(event);
        if done {
            return;
        }
    }
}

#[tokio::test]
async fn a_gpu_that_others_use_is_not_offered() {
    let (mut driven, sender, id) = with_gpu().await;
    let stranger = Stranger::new();
    let pid = stranger.0.id();
    let on_it = vec![(pid, Some(64 << 20))];
    sender.send_modify(|s| drop(s.processes.insert(id.clone(), on_it)));
    look(&mut driven).await;
    assert_eq!(shown(&driven).0, Health::Healthy, "once may be chance");
    look(&mut driven).await;
    let (health, detail) = shown(&driven);
    assert_eq!(health, Health::Foreign);
    assert!(
        detail.contains(&format!("process {pid} (sleep)")),
        "{detail}"
    );
    let mut entry = entry(1, Want::Prepare);
    entry.spec.slots = Slots::new().with(SlotName::cuda_device(), UNIT);
    entry.spec.devices = vec![longshore_common::session::DeviceGrant {
        device: id,
        slot: SlotName::cuda_device(),
        amount: UNIT,
    }];
    driven.order(vec![entry]);
    let refused = driven.outcome(1, OutcomeNumber::Ended).unwrap().end;
    assert!(
        matches!(
            refused,
            Some(End::StartFailed {
                cause: Cause::DeviceMismatch,
                ..
            })
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn it_is_only_told_where_that_is_wanted() {
    let (mut driven, sender, id) = with_gpu().await;
    driven.supervisor.config.foreign.hold = false;
    let stranger = Stranger::new();
    let on_it = vec![(stranger.0.id(), Some(64 << 20))];
    sender.send_modify(|s| drop(s.processes.insert(id, on_it)));
    for _ in 0..3 {
        look(&mut driven).await;
    }
    let (health, detail) = shown(&driven);
    assert_eq!(health, Health::Healthy);
    assert!(detail.contains("holds 64 MiB"), "{detail}");
}

#[tokio::test]
async fn each_sign_is_told_once() {
    let (mut driven, sender, id) = with_gpu().await;
    let told = |driven: &Driven| {
        let outbox = driven.supervisor.shared.outbox();
        let of_devices = outbox
            .notices
            .iter()
            .filter(|n| n.kind == NoticeKind::Device);
        of_devices
            .map(|n| (n.device.clone(), n.text.clone()))
            .collect::<Vec<_>>()
    };
    for (number, count) in [(1, 1), (1, 1), (2, 2)] {
        let (xid, text) = (31, format!("XID 31, number {number}"));
        let sign = Sign { number, xid, text };
        sender.send_modify(|s| drop(s.signs.insert(id.clone(), sign)));
        driven.take(Event::Gpus);
        assert_eq!(told(&driven).len(), count);
    }
    let text = "XID 31, number 2 on a GPU".to_owned();
    assert_eq!(told(&driven)[1], (Some(id), text));
}

#[tokio::test]
async fn a_person_releases_what_is_cordoned_and_nothing_else() {
    let (mut driven, sender, id) = with_gpu().await;
    let (release, released) = std::sync::mpsc::channel();
    driven.supervisor.config.released = Some(release);
    let ask = |driven: &mut Driven, id: &DeviceId| {
        let (reply, mut answer) = oneshot::channel();
        driven.take(Event::Heard(Heard::Release(id.clone(), reply)));
        answer.try_recv().unwrap()
    };
    let healthy = ask(&mut driven, &id).unwrap_err();
    assert!(healthy.contains("is healthy"), "{healthy}");
    sender.send_modify(|s| s.devices[0].health = Health::Cordoned);
    assert_eq!(ask(&mut driven, &id), Ok(()));
    assert_eq!(released.try_recv().unwrap(), id);
    let absent = ask(&mut driven, &"GPU-none".parse().unwrap()).unwrap_err();
    assert!(absent.contains("no device"), "{absent}");
}
