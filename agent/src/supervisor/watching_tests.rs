use super::*;
use longshore_common::amount::{SlotName, Slots};
use longshore_common::ids::{Attempt, Fence, Generation, Rank, SessionId};
use longshore_common::session::{ContainerSpec, DeviceGrant, PullRule, Want};

fn watching() -> Watching {
    Watching::new(None, 0, None, watch::channel(false).1)
}

fn entry(amounts: &[i64]) -> Entry {
    let device = |n: usize| format!("GPU-{n}").parse().unwrap();
    let devices = amounts.iter().enumerate().map(|(n, amount)| DeviceGrant {
        slot: SlotName::cuda_device(),
        device: device(n),
        amount: *amount,
    });
    Entry {
        key: ContainerKey {
            session: SessionId(1),
            rank: Rank::MAIN,
            attempt: Attempt::FIRST,
        },
        want: Want::Run,
        spec: ContainerSpec {
            image: "i".to_owned(),
            digest: None,
            pull: PullRule::None,
            command: Vec::new(),
            workdir: None,
            tty: false,
            environment: BTreeMap::new(),
            uid: 1000,
            gid: 1000,
            slots: Slots::new(),
            shm_bytes: 0,
            pids_max: 0,
            devices: devices.collect(),
            hostname: "s-1".to_owned(),
            owner: "dana".to_owned(),
            kind: SessionType::Interactive,
            root: false,
            sudo: false,
            ports: Vec::new(),
        },
        limits: SessionLimits::default(),
        stop: None,
        fence: Fence(1),
        first_generation: Generation(1),
        restartable: false,
        designated: false,
    }
}

fn sample(percent: Option<u8>, memory: i64) -> DeviceSample {
    DeviceSample {
        utilization: percent,
        memory_used: Some(memory),
        temperature: None,
        power_mw: None,
    }
}

#[test]
fn samples_of_devices_are_summed_and_pauses_are_gaps() {
    let (mut watching, entry) = (watching(), entry(&[1000, 500]));
    let samples = |percent| {
        let ids = entry.spec.devices.iter().map(|g| g.device.clone());
        Snapshot {
            samples: ids.map(|id| (id, sample(percent, 7))).collect(),
            ..Snapshot::default()
        }
    };
    watching.sample(Some(&entry), &samples(Some(40)), 0);
    watching.sample(Some(&entry), &samples(Some(40)), 5_000);
    watching.sample(Some(&entry), &samples(None), 10_000);
    // An hour in which nobody looked.
    watching.sample(Some(&entry), &samples(Some(100)), 3_610_000);
    let (_, devices) = watching.figures();
    let first = &devices[0];
    assert_eq!((first.busy_ms, first.measured_ms), (2_000 + 10_000, 15_000));
    assert_eq!(first.memory_peak, Some(7));
    assert_eq!(devices[1].memory_peak, None, "others may use a part of it");
}

#[test]
fn a_signal_comes_once_before_each_end() {
    let mut watching = watching();
    watching.set_lifetime(Some(100_000));
    let lead = 10_000;
    assert_eq!(watching.signal_due(lead, None, 89_999), None);
    assert_eq!(watching.signal_due(lead, None, 90_000), Some(100_000));
    assert_eq!(
        watching.signal_due(lead, None, 91_000),
        None,
        "it is on its way"
    );
    watching.was_not_signalled();
    assert_eq!(
        watching.signal_due(lead, None, 92_000),
        Some(100_000),
        "again"
    );
    watching.was_signalled(100_000);
    assert_eq!(watching.signal_due(lead, None, 93_000), None, "it had it");
    let drain = Some(200_000);
    assert_eq!(
        watching.signal_due(lead, drain, 95_000),
        None,
        "the lifetime comes first"
    );
    watching.set_lifetime(Some(500_000));
    assert_eq!(
        watching.signal_due(lead, drain, 96_000),
        None,
        "it was put off"
    );
    assert_eq!(
        watching.signal_due(lead, drain, 190_000),
        drain,
        "before the drain"
    );
}

#[test]
fn a_gpu_nobody_looked_at_yet_stays_measured_as_it_was() {
    use longshore_common::limits::{Combine, IdleAction, IdlePolicy, Operator, UtilizationPolicy};
    let mut entry = entry(&[1000]);
    entry.limits.idle = Some(IdlePolicy {
        action: IdleAction::Stop,
        combine: Combine::All,
        initial_grace_s: 0,
        warn_s: Vec::new(),
        interaction_timeout_s: None,
        utilization: Some(UtilizationPolicy {
            window_s: 60,
            operator: Operator::And,
            applies_to_batch: false,
            thresholds: vec![(Metric::Gpu, 10)],
        }),
        timeout_s: 0,
        keep_max: 4,
    });
    let figures = ContainerStats::default();
    let deadline = |watching: &mut Watching, gpus: &Snapshot, at_ms: i64| {
        watching.push_samples(&entry, gpus, figures, at_ms);
        watching.judge(&entry, at_ms).idle_deadline_ms
    };
    let unused = Snapshot {
        looked: true,
        samples: BTreeMap::from([(entry.spec.devices[0].device.clone(), sample(Some(0), 7))]),
        ..Snapshot::default()
    };
    let mut before = watching();
    assert_eq!(deadline(&mut before, &unused, 0), Some(60_000));
    let (history, _) = before.idle_due(0, true).expect("it is noted");

    // The next process knows no GPU yet, and what the one before it knew stands.
    let nobody = Snapshot::default();
    let mut next = watching();
    next.recall(Idle {
        boot_id: String::new(),
        started_boot_ms: 0,
        history,
        warned: WarnState::default(),
    });
    assert_eq!(deadline(&mut next, &nobody, 5_000), Some(60_000));
    // Somebody looked, and there is nothing to be measured.
    let nothing = Snapshot {
        looked: true,
        ..Snapshot::default()
    };
    assert_eq!(deadline(&mut next, &nothing, 10_000), None);
    // Of one that nobody knows of it may be at work.
    assert_eq!(deadline(&mut watching(), &nobody, 5_000), None);
}

#[test]
fn work_is_noted_whatever_the_policy_says() {
    use longshore_common::limits::Work;
    let mut entry = entry(&[1000, 1000]);
    entry.spec.kind = SessionType::Batch;
    entry.spec.slots = entry.spec.slots.with(SlotName::cpu(), 2000);
    assert_eq!(entry.limits.idle, None, "no policy says what to look at");
    let snapshot = |percents: [u8; 2]| {
        let ids = entry.spec.devices.iter().map(|g| g.device.clone());
        let samples = ids.zip(percents.map(|percent| sample(Some(percent), 7)));
        Snapshot {
            looked: true,
            samples: samples.collect(),
            ..Snapshot::default()
        }
    };
    let mut watching = watching();
    let mut look = |entry: &Entry, percents, cpu_ms, at_ms| {
        let gpus = snapshot(percents);
        let stats = ContainerStats {
            cpu_ms: Some(cpu_ms),
            ..ContainerStats::default()
        };
        watching.count_devices(entry, &gpus.samples, at_ms);
        watching.push_samples(entry, &gpus, stats, at_ms);
        watching.last = Some((at_ms, stats));
        watching.worked_ms()
    };
    assert_eq!(look(&entry, [0, 5], 0, 0), None, "not above the threshold");
    assert_eq!(look(&entry, [0, 100], 0, 5_000), Some(5_000));
    // 5 % of two cores are 500 ms of 5 s, and more is work.
    assert_eq!(look(&entry, [0, 0], 500, 10_000), Some(5_000));
    assert_eq!(look(&entry, [0, 0], 1_010, 15_000), Some(15_000));
    let mut strict = entry.clone();
    strict.limits.work = Work {
        cpu_pct: 100,
        gpu_pct: 100,
    };
    assert_eq!(look(&strict, [100, 100], 9_000, 20_000), Some(15_000));
}
