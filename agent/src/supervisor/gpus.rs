//! What the GPUs show beside their figures: signs of sickness, and programs that no session
//! started.

use super::{Event, Supervisor};
use crate::devices::foreign::{Process, container_of};
use crate::journal::{JournalError, Record};
use crate::runtime::{Containers, FoundStatus};
use longshore_common::agent::{Device, Health, RuntimeState};
use longshore_common::ids::DeviceId;
use longshore_common::wire::NoticeKind;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use tracing::{info, warn};

/// What is made of programs on GPUs that no session started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignRules {
    /// From so many bytes of GPU memory on they count.
    pub min_memory: i64,
    /// Names of programs that never count.
    pub ignore: Vec<String>,
    /// Whether such a GPU is kept back; false = it is only told.
    pub hold: bool,
}

/// A look that began after it was said what is held finds it: the one after the first, unless
/// two looks came as one event.
const LOOKS_TO_FIND: u32 = 2;
/// The kernel keeps this many letters of a program's name.
const NAME_MAX: usize = 15;

impl ForeignRules {
    fn counts(&self, name: &str, memory: i64) -> bool {
        let cut = |name: &str| name.chars().take(NAME_MAX).collect::<String>();
        memory >= self.min_memory && !self.ignore.iter().any(|known| cut(known) == cut(name))
    }
}

impl<C: Containers> Supervisor<C> {
    /// Takes up what changed about the GPUs.
    pub(super) fn take_gpus(&mut self) {
        self.looks = self.looks.saturating_add(1);
        // A thread that takes the place of one that hung has to look at these as well.
        self.config.mask.hold(self.held_devices());
        let signs = self.gpus.borrow().signs.clone();
        for (device, sign) in signs {
            let told = self.signs_told.insert(device.clone(), sign.number);
            if told.is_none_or(|told| told < sign.number) {
                warn!(%device, xid = sign.xid, "the driver told of an error on a GPU");
                self.device_notice(device, format!("{} on a GPU", sign.text));
            }
        }
        self.look_for_strangers();
    }

    /// Looks, aside, which of the programs on the GPUs are none of ours.
    fn look_for_strangers(&self) {
        let seen = self.gpus.borrow().processes.clone();
        let known = self.journal.contents().keys.values();
        let ours: BTreeSet<String> = known
            .map(|record| record.docker_id.clone())
            .chain(self.found.values().map(|found| found.docker_id.clone()))
            .collect();
        let (rules, events) = (self.config.foreign.clone(), self.events.clone());
        tokio::task::spawn_blocking(move || {
            let strangers = seen
                .into_iter()
                .map(|(id, processes)| {
                    (id, strangers(Path::new("/proc"), &processes, &ours, &rules))
                })
                .collect();
            let _ = events.blocking_send(Event::Strangers(strangers)); // the agent may be stopping
        });
    }

    /// Keeps back the devices of containers that do not end though they were killed.
    pub(super) fn look_for_stuck(&mut self, now_ms: i64) -> Result<(), JournalError> {
        // What is known of the containers may be over long since, or nothing is known yet.
        if self.shared.outbox().runtime != RuntimeState::Up || !self.listed {
            return Ok(());
        }
        let (found, desired) = (&self.found, &self.desired);
        let late = self.stuck.look(now_ms, |key| {
            let there = found.get(&key)?;
            let runs = matches!(there.status, FoundStatus::Running | FoundStatus::Paused);
            let grants = desired.get(&key).map(|entry| &entry.spec.devices);
            let grants = grants.into_iter().flatten();
            runs.then(|| grants.map(|grant| grant.device.clone()).collect())
        });
        for key in late {
            warn!(%key, "a container does not end though it was killed");
            let mut text = "it does not end though it was killed 90 s ago".to_owned();
            if self.stuck.keeps_of(key) {
                text.push_str("; its GPUs are kept back");
            }
            self.notice(NoticeKind::Breach, Some(key), None, text);
            self.refresh_inventory();
        }
        self.note_stuck()
    }

    /// What is kept back, for an agent that follows on this one.
    pub(super) fn note_stuck(&mut self) -> Result<(), JournalError> {
        let kept = self.stuck.kept();
        match kept == self.journal.contents().stuck {
            true => Ok(()),
            false => self.journal.note(vec![Record::Stuck(kept)]),
        }
    }

    pub(super) fn tell_foreign(&mut self) {
        let held: Vec<DeviceId> = self.foreign.held().map(|(id, _)| id.clone()).collect();
        for device in held {
            if let Some(why) = self.foreign.why(&device) {
                warn!(%device, why, "a program that is none of ours uses a GPU");
            }
        }
    }

    /// Devices of containers that were taken and are not closed.
    pub(super) fn held_devices(&self) -> BTreeSet<DeviceId> {
        let known = self.desired.values().filter(|entry| {
            let record = self.journal.key(entry.key);
            record.is_some_and(|r| r.stage.is_some() && r.closed.is_none())
        });
        let grants = known.flat_map(|entry| &entry.spec.devices);
        grants.map(|grant| grant.device.clone()).collect()
    }

    /// Whether the first look, which may have begun before it was known who has what, left out
    /// something that somebody has: the next one does not.
    pub(super) fn misses_held(&self) -> bool {
        if self.looks >= LOOKS_TO_FIND || self.config.mask.names().is_empty() {
            return false;
        }
        let gpus = self.gpus.borrow();
        let mut held = self.held_devices().into_iter();
        held.any(|id| gpus.devices.iter().all(|device| device.id != id))
    }

    /// The devices as they may be given out, with what is known here and not to the driver. One
    /// that the configuration keeps back is listed only as long as somebody has it.
    pub(super) fn devices(&self) -> Vec<Device> {
        let held = self.held_devices();
        let (mut devices, masked) = {
            let gpus = self.gpus.borrow();
            (gpus.devices.clone(), gpus.masked.clone())
        };
        leave_masked(&mut devices, &masked, &held);
        for device in devices.iter_mut().filter(|d| d.health == Health::Healthy) {
            if let Some(why) = self.stuck.why(&device.id) {
                device.health = Health::Cordoned;
                device.health_detail = why.into();
                continue;
            }
            if let Some(why) = self.foreign.why(&device.id) {
                device.health_detail = why.into();
                if self.config.foreign.hold {
                    device.health = Health::Foreign;
                }
            }
        }
        devices
    }

    /// A person vouches for a device.
    pub(super) fn release_device(&self, id: DeviceId) -> Result<(), String> {
        let health = {
            let gpus = self.gpus.borrow();
            gpus.devices.iter().find(|d| d.id == id).map(|d| d.health)
        };
        match (health, &self.config.released) {
            (Some(Health::Healthy), _) if self.stuck.why(&id).is_some() => {
                let why = self.stuck.why(&id).unwrap_or_default();
                Err(format!("device {id}: {why}"))
            }
            (None, _) => Err(format!("it has no device {id}")),
            (Some(Health::Cordoned), Some(released)) => {
                info!(device = %id, "a device is released by a person");
                let gone = |_| "it does not look at its GPUs any more".to_owned();
                released.send(id).map_err(gone)
            }
            (Some(health), _) => Err(format!("device {id} is {health}, not cordoned, there")),
        }
    }

    fn device_notice(&mut self, device: DeviceId, text: String) {
        self.notice(NoticeKind::Device, None, Some(device), text);
    }
}

/// Keeps devices back: those that somebody has are marked, so that nobody else gets them and
/// nobody takes them for lost; the others go. A sign of sickness says more and stays.
fn leave_masked(devices: &mut Vec<Device>, masked: &BTreeSet<DeviceId>, held: &BTreeSet<DeviceId>) {
    devices.retain(|device| !masked.contains(&device.id) || held.contains(&device.id));
    for device in devices {
        if masked.contains(&device.id) && device.health == Health::Healthy {
            device.health = Health::Masked;
            device.health_detail = "devices.mask of its node names it".into();
        }
    }
}

/// Programs that count and are in none of our containers. What ended meanwhile is none.
fn strangers(
    proc: &Path,
    seen: &[(u32, Option<i64>)],
    ours: &BTreeSet<String>,
    rules: &ForeignRules,
) -> Vec<Process> {
    let mut found = BTreeMap::new();
    for (pid, memory) in seen {
        let Some(memory) = memory.filter(|memory| *memory >= rules.min_memory) else {
            continue;
        };
        let of = proc.join(pid.to_string());
        let (Ok(cgroup), Ok(name)) = (
            fs::read_to_string(of.join("cgroup")),
            fs::read_to_string(of.join("comm")),
        ) else {
            continue;
        };
        let name = name.trim_end().to_owned();
        let is_ours = container_of(&cgroup).is_some_and(|id| ours.contains(id));
        if is_ours || !rules.counts(&name, memory) {
            continue;
        }
        let uid = fs::metadata(&of).ok().map(|meta| meta.uid());
        let process = Process {
            pid: *pid,
            memory,
            name,
            uid,
        };
        found.insert(*pid, process);
    }
    found.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_masked_goes_once_nobody_has_it() {
        let device = |id: &str, health: Health| Device {
            id: id.parse().unwrap(),
            index: 0,
            slot: longshore_common::amount::SlotName::cuda_device(),
            capacity: 1000,
            model: "x".into(),
            memory_bytes: 0,
            pci: Box::default(),
            minor: None,
            numa: None,
            links: Default::default(),
            health,
            health_detail: Box::default(),
        };
        let ids = |names: &[&str]| -> BTreeSet<DeviceId> {
            names.iter().map(|name| name.parse().unwrap()).collect()
        };
        let all = [
            ("a", Health::Healthy),
            ("b", Health::Healthy),
            ("c", Health::Lost),
        ];
        let left = |masked: &[&str], held: &[&str]| {
            let mut devices = all.map(|(id, health)| device(id, health)).to_vec();
            leave_masked(&mut devices, &ids(masked), &ids(held));
            let left = devices.iter();
            left.map(|d| format!("{} {}", d.id, d.health))
                .collect::<Vec<_>>()
        };
        assert_eq!(left(&[], &["a"]), ["a healthy", "b healthy", "c lost"]);
        assert_eq!(left(&["a", "c"], &[]), ["b healthy"]);
        assert_eq!(
            left(&["a", "c"], &["a", "c"]),
            ["a masked", "b healthy", "c lost"]
        );
    }

    #[test]
    fn a_program_is_a_stranger_unless_it_is_ours_small_known_or_gone() {
        let proc = tempfile::tempdir().unwrap();
        let ours = "0123456789abcdef".repeat(4);
        let add = |pid: u32, name: &str, cgroup: &str| {
            let of = proc.path().join(pid.to_string());
            fs::create_dir(&of).unwrap();
            fs::write(of.join("comm"), format!("{name}\n")).unwrap();
            fs::write(of.join("cgroup"), cgroup).unwrap();
        };
        add(1, "python3", &format!("0::/docker/{ours}\n"));
        add(2, "python3", "0::/user.slice\n");
        add(3, "nvidia-persiste", "0::/\n"); // as the kernel cuts it
        add(4, "small", "0::/\n");
        add(5, "unknown", "0::/\n");
        add(7, "other", &format!("0::/docker/{}\n", "f".repeat(64)));
        let rules = ForeignRules {
            min_memory: 64 << 20,
            ignore: vec!["nvidia-persistenced".to_owned()],
            hold: true,
        };
        let much = Some(64 << 20);
        let seen = [
            (1, much),
            (2, much),
            (3, much),
            (4, Some((64 << 20) - 1)),
            (5, None),
            (6, much),
            (7, much),
        ];
        let found = strangers(proc.path(), &seen, &BTreeSet::from([ours]), &rules);
        let found: Vec<_> = found.iter().map(|p| (p.pid, p.name.as_str())).collect();
        assert_eq!(found, [(2, "python3"), (7, "other")]);
    }
}
