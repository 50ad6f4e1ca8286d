//! What GPUs show beside their figures, through the supervisor.

use super::*;
use crate::devices::{Instance, Sign};
use longshore_common::agent::Health;
use longshore_common::ids::DeviceId;
use longshore_common::session::DeviceGrant;
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
    entry.spec.devices = vec![DeviceGrant {
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

/// A spec that knows the GPUs by their numbers only would make every start fail.
#[tokio::test]
async fn a_way_that_does_not_know_every_gpu_is_passed_over() {
    let mut driven = Driven::new().await;
    let (gpus, _hand) = invent_gpus(&SimulatedConfig {
        count: 2,
        model: "A".to_owned(),
        memory_bytes: 1 << 30,
        seed: 1,
    });
    let devices = gpus.borrow().devices.clone();
    let supervisor = &mut driven.supervisor;
    supervisor.engine.gpu_ways = vec![(GpuWay::Cdi, Ok(())), (GpuWay::Nodes, Ok(()))];
    let first = devices[0].id.to_string();
    supervisor.engine.cdi_names = BTreeSet::from([first]);
    assert_eq!(supervisor.gpu_way(&devices), Some(GpuWay::Nodes));
    let said = supervisor.gpu_ways(&devices).remove(0).1.unwrap_err();
    assert_eq!(said, format!("no CDI spec names {}", devices[1].id));
    supervisor
        .engine
        .cdi_names
        .insert(devices[1].id.to_string());
    assert_eq!(supervisor.gpu_way(&devices), Some(GpuWay::Cdi));
}

/// Of a part of a GPU the nodes of its capabilities are given too; with one of them unknown none is.
#[tokio::test]
async fn a_part_of_a_gpu_comes_with_its_capabilities() {
    let (driven, sender, id) = with_gpu().await;
    let dir = tempfile::tempdir().unwrap();
    let mut supervisor = driven.supervisor;
    supervisor.config.capabilities = dir.path().to_owned();
    let mut order = entry(1, Want::Run);
    order.spec.devices = vec![DeviceGrant {
        slot: "cuda.mig-1g.10gb".parse().unwrap(),
        device: id.clone(),
        amount: 1000,
    }];
    let mut snapshot = sender.borrow().clone();
    let nodes = |snapshot: &Snapshot, way: GpuWay| {
        let nodes = supervisor.device_nodes(&order, snapshot, way);
        let names = nodes.iter().filter(|n| n.is_gpu() || n.is_capability());
        let names = names.map(|n| n.inside.to_string_lossy().into_owned());
        names.collect::<Vec<_>>()
    };
    // Which part it is is not known: another way finds that out by itself.
    assert_eq!(nodes(&snapshot, GpuWay::Nodes), [""; 0]);
    assert_eq!(nodes(&snapshot, GpuWay::Request), ["/dev/nvidia0"]);
    let (gpu_instance, compute_instance) = (1, 0);
    let part = Instance {
        gpu_instance,
        compute_instance,
    };
    snapshot.instances.insert(id, part);
    assert_eq!(nodes(&snapshot, GpuWay::Nodes), [""; 0]);
    for (path, minor) in [("gpu0/mig/gi1", 12), ("gpu0/mig/gi1/ci0", 13)] {
        let of = dir.path().join(path);
        std::fs::create_dir_all(&of).unwrap();
        std::fs::write(of.join("access"), format!("DeviceFileMinor: {minor}\n")).unwrap();
    }
    let caps = [12, 13].map(|n| format!("/dev/nvidia-caps/nvidia-cap{n}"));
    let wanted = ["/dev/nvidia0".to_owned(), caps[0].clone(), caps[1].clone()];
    assert_eq!(nodes(&snapshot, GpuWay::Nodes), wanted);
    assert_eq!(nodes(&snapshot, GpuWay::Request), wanted);
}
