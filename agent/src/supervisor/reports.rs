//! What the coordinator is told of this node and its containers.

use super::watching::Watching;
use super::{Doing, Supervisor, told};
use crate::host::wall_clock;
use crate::journal::Stage;
use crate::runtime::{Containers, Found, FoundStatus};
use longshore_common::agent::Inventory;
use longshore_common::amount::{SlotName, Slots, UNIT};
use longshore_common::ids::{ContainerKey, DeviceId};
use longshore_common::session::{ContainerState, End, ExactImage};
use longshore_common::wire::{ContainerReport, Notice, NoticeKind, Outcome, OutcomeNumber, Totals};
use std::collections::BTreeSet;

impl<C: Containers> Supervisor<C> {
    pub(super) fn report(&mut self, key: ContainerKey) {
        let Some(report) = self.report_of(key) else {
            return;
        };
        if self.shared.outbox().report(report) {
            self.shared.changed.notify_one();
        }
    }

    pub(super) fn report_of(&self, key: ContainerKey) -> Option<ContainerReport> {
        let record = self.journal.key(key);
        let found = self.own(key);
        let any = self.found.contains_key(&key);
        if record.is_none() && !any && !self.desired.contains_key(&key) {
            return None;
        }
        let doing = self.busy.get(&key).map(|b| b.doing);
        let unchecked = self.checks.get(&key).is_some_and(|c| c.starting);
        let state = container_state(record, found, doing, self.listed, unchecked);
        let watching = self.watching.get(&key);
        let idle = watching.and_then(|w| w.verdict.idle_deadline_ms);
        let used = watching.and_then(Watching::used_ms);
        let docker_id = found
            .map(|f| f.docker_id.as_str())
            .or_else(|| record.map(|r| r.docker_id.as_str()))
            .unwrap_or_default();
        Some(ContainerReport {
            key,
            state,
            docker_id: docker_id.chars().take(12).collect(),
            started_at: found.and_then(|f| f.started_at),
            fence: record
                .map(|r| r.fence)
                .or_else(|| found.map(|f| f.fence))
                .unwrap_or_default(),
            idle_deadline: idle.map(told::to_wall),
            frozen: found.is_some_and(|f| is_frozen(f, &self.past_engine)),
            idle: watching.is_some_and(|w| w.verdict.idle),
            used_at: used.map(told::to_wall),
            image: found.and_then(|f| ExactImage::read(&f.image)),
        })
    }

    pub(super) fn notice(
        &mut self,
        kind: NoticeKind,
        key: Option<ContainerKey>,
        device: Option<DeviceId>,
        text: String,
    ) {
        self.notices += 1;
        let notice = Notice {
            number: self.notices,
            kind,
            text: text.chars().take(1000).collect(),
            key,
            device,
            at: wall_clock(),
        };
        self.shared.outbox().notice(notice);
        self.shared.changed.notify_one();
    }

    pub(super) fn refresh_inventory(&mut self) {
        if !self.gpus.borrow().looked {
            return; // without its GPUs the machine would look like another one
        }
        if self.misses_held() {
            return; // one that the configuration keeps back and somebody has is not lost
        }
        let inventory = self.inventory();
        let mut outbox = self.shared.outbox();
        if outbox.inventory.1.as_ref() != Some(&inventory) {
            outbox.inventory = (outbox.inventory.0 + 1, Some(inventory));
            drop(outbox);
            self.shared.changed.notify_one();
        }
    }

    pub(super) fn inventory(&self) -> Inventory {
        let devices = self.devices();
        let snapshot = self.gpus.borrow();
        let found = slots(i64::from(self.facts.cores), self.facts.mem_total);
        let cores = match self.config.offered_cpu {
            0 => i64::from(self.facts.cores.saturating_sub(self.config.reserved_cpu)),
            cores => i64::from(cores),
        };
        let mem = match self.config.offered_mem {
            0 => (self.facts.mem_total - self.config.reserved_mem).max(0),
            mem => mem,
        };
        let ways: Vec<String> = self
            .gpu_ways(&snapshot.devices)
            .into_iter()
            .map(|(way, test)| match test {
                Ok(()) => format!("{way}: works"),
                Err(why) => format!("{way}: {why}"),
            })
            .collect();
        Inventory {
            hostname: self.facts.hostname.clone().into(),
            arch: self.facts.arch.into(),
            os: self.facts.os.clone().into(),
            kernel: self.facts.kernel.clone().into(),
            agent_version: env!("CARGO_PKG_VERSION").into(),
            engine_version: self.engine.version.clone().into(),
            engine_storage: self.engine.storage.clone().into(),
            cgroup_version: self.facts.cgroup_version,
            driver_version: snapshot.driver_version.clone().into(),
            gpu_way: self.gpu_way(&snapshot.devices),
            gpu_way_detail: ways.join("; ").into(),
            offered: slots(cores, mem),
            total: found,
            max_containers: self.config.max_containers,
            devices,
            allocation: self.config.allocation,
            networks: self.engine.networks.clone(),
        }
    }
}

/// Whether its processes stand still, as far as this process knows.
pub(super) fn is_frozen(found: &Found, past_engine: &BTreeSet<String>) -> bool {
    found.status == FoundStatus::Paused || past_engine.contains(&found.docker_id)
}

pub(super) fn slots(cores: i64, mem: i64) -> Slots {
    Slots::new()
        .with(SlotName::cpu(), cores * UNIT)
        .with(SlotName::mem(), mem)
}

pub(super) fn outcome(key: ContainerKey, number: OutcomeNumber, end: Option<End>) -> Outcome {
    Outcome {
        key,
        number,
        end,
        started_at: None,
        at: wall_clock(),
        tail: Vec::new(),
        totals: Totals::default(),
        devices: Vec::new(),
    }
}

pub(super) fn container_state(
    record: Option<&crate::journal::KeyRecord>,
    found: Option<&Found>,
    doing: Option<Doing>,
    listed: bool,
    unchecked: bool,
) -> ContainerState {
    if record.is_some_and(|r| r.closed.is_some()) {
        return ContainerState::Closed;
    }
    if record.is_some_and(|r| r.ended.is_some()) {
        return ContainerState::Exited;
    }
    match (doing, found.map(|f| &f.status)) {
        (Some(Doing::Stopping | Doing::Removing), _) => ContainerState::Stopping,
        (Some(Doing::Pulling), _) => ContainerState::Pulling,
        (Some(Doing::Creating), _) => ContainerState::Creating,
        // What it got is not known yet: nobody is told that it runs.
        (_, Some(FoundStatus::Running | FoundStatus::Paused)) if unchecked => {
            ContainerState::Starting
        }
        (_, Some(FoundStatus::Running | FoundStatus::Paused)) => ContainerState::Running,
        (Some(Doing::Starting), _) => ContainerState::Starting,
        // Ended, but its end is not told yet.
        (_, Some(FoundStatus::Exited(_))) => ContainerState::Running,
        (_, Some(FoundStatus::Created)) => ContainerState::Created,
        (_, None) => match record.and_then(|r| r.stage) {
            // Before the engine was asked the journal is believed.
            Some(Stage::Start) => ContainerState::Running,
            Some(Stage::Created) if !listed => ContainerState::Created,
            Some(Stage::Intent) => ContainerState::Pulling,
            Some(Stage::Created) => ContainerState::Creating,
            None => ContainerState::Assigned,
        },
    }
}
