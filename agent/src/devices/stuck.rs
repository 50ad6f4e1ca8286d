//! GPUs of containers that do not end though they were killed: a driver that hangs in the kernel
//! holds their processes. Pure.
//!
//! Nobody else gets such a GPU before the container is gone and a look at the GPU that began after
//! that shows nothing on it that is none of ours.

use longshore_common::ids::{ContainerKey, DeviceId};
use std::collections::{BTreeMap, BTreeSet};

/// A process that is killed ends at once unless the kernel does not let it go; a machine that is
/// very busy takes some seconds for it.
const LATE_MS: i64 = 90_000;
/// A look may have begun before the container was gone: the one after it has not.
const CLEAN_LOOKS: u8 = 2;

/// What is known of killed containers.
#[derive(Debug, Clone, Default)]
pub struct Stuck {
    killed: BTreeMap<ContainerKey, Killed>,
    kept: BTreeMap<DeviceId, Kept>,
}

#[derive(Debug, Clone)]
struct Killed {
    /// When it was to be dead at the latest, on the boot clock.
    at_ms: i64,
    /// It was not, for too long.
    late: bool,
}

#[derive(Debug, Clone)]
struct Kept {
    /// Of which container.
    by: ContainerKey,
    /// Looks in a row without anything on it since that is gone; none = it is there.
    clean: Option<u8>,
}

impl Stuck {
    /// A container is killed at this instant of the boot clock at the latest. Said again, the
    /// earliest instant counts.
    pub fn killed(&mut self, key: ContainerKey, at_ms: i64) {
        let new = Killed { at_ms, late: false };
        let known = self.killed.entry(key).or_insert(new);
        known.at_ms = known.at_ms.min(at_ms);
    }

    /// Looks which of them are late: `holds` says which devices a container has that is still
    /// there, and none of one that is gone. The answer is who is late since this look.
    pub fn look(
        &mut self,
        now_ms: i64,
        holds: impl Fn(ContainerKey) -> Option<BTreeSet<DeviceId>>,
    ) -> Vec<ContainerKey> {
        let mut late = Vec::new();
        let kept = &mut self.kept;
        self.killed.retain(|key, killed| {
            let Some(devices) = holds(*key) else {
                let of_it = kept.values_mut().filter(|kept| kept.by == *key);
                of_it.for_each(|kept| kept.clean = Some(0));
                return false;
            };
            if !killed.late && now_ms.saturating_sub(killed.at_ms) >= LATE_MS {
                killed.late = true;
                late.push(*key);
                for device in devices {
                    kept.insert(
                        device,
                        Kept {
                            by: *key,
                            clean: None,
                        },
                    );
                }
            }
            true
        });
        late
    }

    /// Takes up a look at the GPUs; `used` are those on which something runs that is none of
    /// ours. True if one of those kept back is free again.
    pub fn probed(&mut self, used: &BTreeSet<DeviceId>) -> bool {
        let before = self.kept.len();
        self.kept.retain(|device, kept| match &mut kept.clean {
            None => true,
            Some(looks) => {
                *looks = match used.contains(device) {
                    true => 0,
                    false => *looks + 1,
                };
                *looks < CLEAN_LOOKS
            }
        });
        self.kept.len() != before
    }

    /// Why a GPU is kept back; none = it is not.
    #[must_use]
    pub fn why(&self, device: &DeviceId) -> Option<String> {
        let kept = self.kept.get(device)?;
        let by = kept.by;
        Some(match kept.clean {
            None => format!(
                "container {by} does not end though it was killed; it comes back when that is gone"
            ),
            Some(_) => format!("container {by} is gone at last; looked at before it comes back"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::ids::{Attempt, Rank, SessionId};

    fn key(n: u64) -> ContainerKey {
        ContainerKey {
            session: SessionId(n),
            rank: Rank::MAIN,
            attempt: Attempt::FIRST,
        }
    }

    fn gpus(names: &[&str]) -> BTreeSet<DeviceId> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn its_gpus_alone_are_kept_until_it_is_gone_and_they_are_clean() {
        let mut stuck = Stuck::default();
        let (a, b) = ("GPU-a".parse().unwrap(), "GPU-b".parse().unwrap());
        stuck.killed(key(1), 30_000);
        stuck.killed(key(1), 10_000);
        stuck.killed(key(1), 50_000);
        stuck.killed(key(2), 99_000);
        let there = |key: ContainerKey| match key.session.0 {
            1 => Some(gpus(&["GPU-a"])),
            _ => Some(gpus(&["GPU-b"])),
        };
        assert!(stuck.look(99_999, there).is_empty());
        assert_eq!(stuck.look(100_000, there), [key(1)]);
        assert!(stuck.look(101_000, there).is_empty(), "told once");
        assert!(stuck.why(&a).unwrap().contains("does not end"));
        assert_eq!(stuck.why(&b), None);
        assert!(!stuck.probed(&gpus(&[])), "it is still there");

        let gone = |key: ContainerKey| there(key).filter(|_| key.session.0 != 1);
        assert!(stuck.look(102_000, gone).is_empty());
        assert!(stuck.why(&a).unwrap().contains("is gone"));
        // What another process has on it keeps it, and the looks begin anew.
        let looks = [(false, false), (true, false), (false, false), (false, true)];
        for (used, freed) in looks {
            let used = if used { gpus(&["GPU-a"]) } else { gpus(&[]) };
            assert_eq!(stuck.probed(&used), freed);
        }
        assert_eq!(stuck.why(&a), None);
    }

    #[test]
    fn one_that_ends_in_time_keeps_nothing() {
        let mut stuck = Stuck::default();
        stuck.killed(key(1), 0);
        assert!(stuck.look(89_999, |_| Some(gpus(&["GPU-a"]))).is_empty());
        assert!(stuck.look(90_000, |_| None).is_empty());
        // Its key may be killed anew, as by another order, and counts from then.
        stuck.killed(key(1), 200_000);
        assert!(stuck.look(289_999, |_| Some(gpus(&["GPU-a"]))).is_empty());
        assert_eq!(stuck.why(&"GPU-a".parse().unwrap()), None);
    }
}
