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

/// Which devices are kept back for which containers that are still there; for none = all of them
/// are gone, and the device is to be looked at.
pub type KeptBack = BTreeMap<DeviceId, BTreeSet<ContainerKey>>;

#[derive(Debug, Clone)]
struct Kept {
    /// The containers that are still there.
    by: BTreeSet<ContainerKey>,
    /// The last that is gone.
    last: Option<ContainerKey>,
    /// Looks in a row without anything on it since all are gone.
    clean: u8,
}

impl Stuck {
    /// What an agent before this one kept back stays so; it told of it.
    #[must_use]
    pub fn restored(kept: &KeptBack) -> Self {
        let killed = |key: &ContainerKey| {
            let killed = Killed {
                at_ms: 0,
                late: true,
            };
            (*key, killed)
        };
        let device = |(id, by): (&DeviceId, &BTreeSet<ContainerKey>)| {
            let kept = Kept {
                by: by.clone(),
                last: None,
                clean: 0,
            };
            (id.clone(), kept)
        };
        Self {
            killed: kept.values().flatten().map(killed).collect(),
            kept: kept.iter().map(device).collect(),
        }
    }

    /// What is kept back now, for an agent that follows.
    #[must_use]
    pub fn kept(&self) -> KeptBack {
        let kept = self.kept.iter();
        kept.map(|(id, kept)| (id.clone(), kept.by.clone()))
            .collect()
    }

    /// Whether anything is kept back because of this container.
    #[must_use]
    pub fn keeps_of(&self, key: ContainerKey) -> bool {
        self.kept.values().any(|kept| kept.by.contains(&key))
    }

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
                for kept in kept.values_mut().filter(|kept| kept.by.contains(key)) {
                    kept.by.remove(key);
                    kept.last = Some(*key);
                }
                return false;
            };
            if !killed.late && now_ms.saturating_sub(killed.at_ms) >= LATE_MS {
                killed.late = true;
                late.push(*key);
                for device in devices {
                    let kept = kept.entry(device).or_insert_with(|| Kept {
                        by: BTreeSet::new(),
                        last: None,
                        clean: 0,
                    });
                    kept.by.insert(*key);
                    kept.clean = 0;
                }
            }
            true
        });
        late
    }

    /// Takes up a look at the GPUs: whether something runs that is none of ours on each of those
    /// that answered. Nothing is learnt of the others. True if one of those kept back is free again.
    pub fn probed(&mut self, used: &BTreeMap<DeviceId, bool>) -> bool {
        let before = self.kept.len();
        self.kept.retain(|device, kept| {
            let Some(used) = used.get(device).filter(|_| kept.by.is_empty()) else {
                return true;
            };
            kept.clean = match used {
                true => 0,
                false => kept.clean + 1,
            };
            kept.clean < CLEAN_LOOKS
        });
        self.kept.len() != before
    }

    /// Why a GPU is kept back; none = it is not.
    #[must_use]
    pub fn why(&self, device: &DeviceId) -> Option<String> {
        let kept = self.kept.get(device)?;
        Some(match (kept.by.first(), kept.last) {
            (Some(by), _) => format!(
                "container {by} does not end though it was killed; it comes back when that is gone"
            ),
            (None, Some(by)) => {
                format!("container {by} is gone at last; looked at before it comes back")
            }
            (None, None) => {
                "a container that did not end is gone; looked at before it comes back".to_owned()
            }
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

    /// What was seen on GPU-a.
    fn seen(used: bool) -> BTreeMap<DeviceId, bool> {
        BTreeMap::from([("GPU-a".parse().unwrap(), used)])
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
        assert!(stuck.keeps_of(key(1)) && !stuck.keeps_of(key(2)));
        for _ in 0..3 {
            assert!(!stuck.probed(&seen(false)), "it is still there");
        }

        let gone = |key: ContainerKey| there(key).filter(|_| key.session.0 != 1);
        assert!(stuck.look(102_000, gone).is_empty());
        assert!(stuck.why(&a).unwrap().contains("is gone"));
        // What another process has on it keeps it, and the looks begin anew. One that did not
        // answer was not seen.
        let looks = [
            (Some(false), false),
            (Some(true), false),
            (None, false),
            (None, false),
            (Some(false), false),
            (None, false),
            (Some(false), true),
        ];
        for (used, freed) in looks {
            let looked = used.map(seen).unwrap_or_default();
            assert_eq!(stuck.probed(&looked), freed);
        }
        assert_eq!(stuck.why(&a), None);
    }

    #[test]
    fn a_gpu_that_several_had_waits_for_the_last_of_them() {
        let mut stuck = Stuck::default();
        stuck.killed(key(1), 0);
        stuck.killed(key(2), 10_000);
        let shared = |_| Some(gpus(&["GPU-a"]));
        assert_eq!(stuck.look(90_000, shared), [key(1)]);
        assert_eq!(stuck.look(100_000, shared), [key(2)]);
        for gone in 1..=2 {
            let left = |key: ContainerKey| shared(key).filter(|_| key.session.0 > gone);
            assert!(stuck.look(101_000, left).is_empty());
            let freed = [(); 2].map(|()| stuck.probed(&seen(false)));
            assert_eq!(freed, [false, gone == 2]);
        }
    }

    #[test]
    fn what_is_kept_back_stays_so_for_who_follows() {
        let mut before = Stuck::default();
        before.killed(key(1), 0);
        let there = |_| Some(gpus(&["GPU-a"]));
        assert_eq!(before.look(90_000, there), [key(1)]);
        let mut stuck = Stuck::restored(&before.kept());
        assert!(stuck.look(200_000, there).is_empty(), "told once");
        assert!([(); 2].iter().all(|()| !stuck.probed(&seen(false))));
        stuck.look(200_001, |_| None);
        // The next one looks from the first look on.
        let mut stuck = Stuck::restored(&stuck.kept());
        assert!(stuck.why(&"GPU-a".parse().unwrap()).is_some());
        assert_eq!([(); 2].map(|()| stuck.probed(&seen(false))), [false, true]);
        assert!(stuck.kept().is_empty());
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
