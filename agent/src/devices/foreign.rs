//! Programs on a GPU that no session of ours started. Pure.
//!
//! A GPU somebody uses beside us is not handed out: who got it would find its memory taken.

use longshore_common::ids::DeviceId;
use std::collections::BTreeMap;

/// So many looks in a row have to show it: one may catch a program that is just ending.
const LOOKS: u8 = 2;
/// Nothing seen for so long, and it is offered again, in milliseconds.
const CLEAR_MS: i64 = 30_000;

/// A program on a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number on this machine.
    pub pid: u32,
    /// GPU memory it has, in bytes.
    pub memory: i64,
    /// Its short name.
    pub name: String,
    /// Whose it is, by number; none = it has ended meanwhile.
    pub uid: Option<u32>,
}

/// What is seen of foreign programs, GPU by GPU.
#[derive(Debug, Clone, Default)]
pub struct Foreign {
    gpus: BTreeMap<DeviceId, Seen>,
}

#[derive(Debug, Clone)]
struct Seen {
    looks: u8,
    /// When the last look showed one, on the boot clock.
    last_ms: i64,
    /// The largest of them.
    process: Process,
    /// It has been shown often enough.
    held: bool,
}

impl Foreign {
    /// Takes up one look: the foreign programs that count, of each GPU that was looked at. True if
    /// what is held back is another thing now.
    pub fn look(&mut self, seen: BTreeMap<DeviceId, Vec<Process>>, now_ms: i64) -> bool {
        let before: Vec<_> = self.held().map(|(id, p)| (id.clone(), p.pid)).collect();
        for (id, processes) in seen {
            let largest = processes.into_iter().max_by_key(|p| p.memory);
            match (self.gpus.get_mut(&id), largest) {
                (None, Some(process)) => {
                    let (looks, last_ms, held) = (1, now_ms, false);
                    let seen = Seen {
                        looks,
                        last_ms,
                        process,
                        held,
                    };
                    self.gpus.insert(id, seen);
                }
                (Some(gpu), Some(process)) => {
                    gpu.looks = gpu.looks.saturating_add(1);
                    gpu.held |= gpu.looks >= LOOKS;
                    (gpu.last_ms, gpu.process) = (now_ms, process);
                }
                (Some(gpu), None) => {
                    gpu.looks = 0;
                    if !gpu.held || now_ms - gpu.last_ms >= CLEAR_MS {
                        self.gpus.remove(&id);
                    }
                }
                (None, None) => (),
            }
        }
        let after: Vec<_> = self.held().map(|(id, p)| (id.clone(), p.pid)).collect();
        before != after
    }

    /// GPUs that are held back, with the largest foreign program on each.
    pub fn held(&self) -> impl Iterator<Item = (&DeviceId, &Process)> {
        let held = self.gpus.iter().filter(|(_, gpu)| gpu.held);
        held.map(|(id, gpu)| (id, &gpu.process))
    }

    /// Why a GPU is held back; none = it is not.
    #[must_use]
    pub fn why(&self, id: &DeviceId) -> Option<String> {
        let gpu = self.gpus.get(id).filter(|gpu| gpu.held)?;
        let Process {
            pid,
            memory,
            name,
            uid,
        } = &gpu.process;
        let user = uid.map_or_else(String::new, |uid| format!(" of uid {uid}"));
        let mib = memory / (1 << 20);
        Some(format!(
            "process {pid} ({name}){user} holds {mib} MiB of it; kill {pid} on the node to free it"
        ))
    }
}

/// The container whose processes a control group holds: the 64 hexadecimal digits in its path.
#[must_use]
pub fn container_of(cgroup: &str) -> Option<&str> {
    let parts = cgroup.split(|c: char| !c.is_ascii_hexdigit());
    parts.into_iter().find(|part| part.len() == 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32) -> Process {
        Process {
            pid,
            memory: 70 << 20,
            name: "train".to_owned(),
            uid: Some(1000),
        }
    }

    fn look(pids: &[u32]) -> BTreeMap<DeviceId, Vec<Process>> {
        let all = pids.iter().copied().map(process).collect();
        BTreeMap::from([("GPU-a".parse().unwrap(), all)])
    }

    #[test]
    fn two_looks_hold_it_and_thirty_seconds_free_it() {
        let mut foreign = Foreign::default();
        let id = "GPU-a".parse().unwrap();
        let story: [(i64, &[u32], bool, bool); 8] = [
            (0, &[7], false, false),
            (5_000, &[], false, false),
            (10_000, &[7], false, false), // the first one again
            (15_000, &[7], true, true),
            (20_000, &[7], false, true),
            (25_000, &[], false, true),
            (49_999, &[], false, true),
            (50_000, &[], true, false),
        ];
        for (now, pids, changed, held) in story {
            assert_eq!(foreign.look(look(pids), now), changed, "{now}");
            assert_eq!(foreign.why(&id).is_some(), held, "{now}");
        }
    }

    #[test]
    fn who_it_is_and_what_frees_it_is_told() {
        let mut foreign = Foreign::default();
        foreign.look(look(&[7]), 0);
        foreign.look(look(&[7]), 5_000);
        assert_eq!(
            foreign.why(&"GPU-a".parse().unwrap()).unwrap(),
            "process 7 (train) of uid 1000 holds 70 MiB of it; kill 7 on the node to free it"
        );
        assert_eq!(foreign.why(&"GPU-b".parse().unwrap()), None);
    }

    #[test]
    fn containers_are_known_by_their_control_group() {
        let id = "0123456789abcdef".repeat(4);
        for text in [
            format!("0::/system.slice/docker-{id}.scope\n"),
            format!("12:devices:/longshore/{id}\n"),
            format!("0::/docker/{id}/child\n"),
        ] {
            assert_eq!(container_of(&text), Some(id.as_str()), "{text}");
        }
        assert_eq!(container_of("0::/user.slice/user-0.slice\n"), None);
        assert_eq!(container_of(""), None);
    }
}
