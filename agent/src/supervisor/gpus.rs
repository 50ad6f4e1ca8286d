//! What the GPUs show beside their figures: signs of sickness, and programs that no session
//! started.

use super::{Event, Supervisor};
use crate::devices::foreign::{Process, container_of};
use crate::runtime::Containers;
use longshore_common::agent::{Device, Health};
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

    pub(super) fn tell_foreign(&mut self) {
        let held: Vec<DeviceId> = self.foreign.held().map(|(id, _)| id.clone()).collect();
        for device in held {
            if let Some(why) = self.foreign.why(&device) {
                warn!(%device, why, "a program that is none of ours uses a GPU");
            }
        }
    }

    /// The devices as they may be given out, with what is known here and not to the driver.
    pub(super) fn devices(&self) -> Vec<Device> {
        let mut devices = self.gpus.borrow().devices.clone();
        for device in devices.iter_mut().filter(|d| d.health == Health::Healthy) {
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
