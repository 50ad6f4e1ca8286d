//! What a container uses, from its control group, in both versions of the kernel's
//! interface.
//!
//! The figures count everything in the container, whatever process did it. Memory is
//! without the file cache the kernel can drop at once: what Docker shows as a percentage
//! counts differently and is not used.

use std::fs;
use std::path::{Path, PathBuf};

/// What a container used so far and uses now; none = unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ContainerStats {
    /// Processor time since its start, in milliseconds.
    pub cpu_ms: Option<i64>,
    /// Memory now, without the inactive file cache, in bytes.
    pub mem_bytes: Option<i64>,
    /// Most memory so far, in bytes, file cache included. Kernels before 5.19 do not
    /// tell it under version 2.
    pub mem_peak: Option<i64>,
    /// How many processes the kernel ended for want of memory.
    pub oom_kills: Option<u64>,
    /// Bytes read from disks so far; version 2 only.
    pub read_bytes: Option<i64>,
    /// Bytes written to disks so far; version 2 only.
    pub written_bytes: Option<i64>,
}

/// Reads the figures of one container as long as it lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupReader {
    folders: Folders,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Folders {
    Unified(PathBuf),
    Split {
        memory: Option<PathBuf>,
        cpu: Option<PathBuf>,
    },
}

impl CgroupReader {
    /// The group of a process, as this machine's kernel tells it. None when the process
    /// is gone, or in the root group: that would be the figures of the whole machine.
    #[must_use]
    pub fn open(pid: u32) -> Option<Self> {
        super::Host::default().cgroup_of(pid)
    }

    /// The group named by the text of `/proc/<pid>/cgroup`, below the mount point.
    #[must_use]
    pub fn from_membership(mount: &Path, membership: &str) -> Option<Self> {
        let below = |folder: &str, path: &str| {
            let mount = match folder {
                "" => mount.to_owned(),
                folder => mount.join(folder),
            };
            mount.join(path.trim_start_matches('/'))
        };
        let groups = parse_membership(membership);
        // Where both versions are mounted, a controller is in one of them: the first,
        // if its line is there.
        let split = |name: &str| {
            let (folder, path) = groups.controller(name)?;
            Some(below(folder, path))
        };
        let (memory, cpu) = (split("memory"), split("cpuacct"));
        let folders = if memory.is_some() || cpu.is_some() {
            Folders::Split { memory, cpu }
        } else {
            Folders::Unified(below("", groups.unified()?))
        };
        Some(Self { folders })
    }

    /// A group of version 2 whose folder is known.
    #[must_use]
    pub fn unified(folder: impl Into<PathBuf>) -> Self {
        Self {
            folders: Folders::Unified(folder.into()),
        }
    }

    /// Reads the figures. A group that is gone leaves all of them unknown.
    #[must_use]
    pub fn read(&self) -> ContainerStats {
        match &self.folders {
            Folders::Unified(folder) => {
                let text = |name| text(Some(folder), name);
                let io = text("io.stat");
                let disks = |name| io.as_deref().map(|t| sum_of(t, name));
                ContainerStats {
                    cpu_ms: text("cpu.stat")
                        .and_then(|t| field(&t, "usage_usec"))
                        .map(|us| us / 1000),
                    mem_bytes: without_cache(
                        text("memory.current"),
                        text("memory.stat"),
                        "inactive_file",
                    ),
                    mem_peak: text("memory.peak").and_then(|t| number(&t)),
                    oom_kills: text("memory.events").and_then(|t| count(&t)),
                    read_bytes: disks("rbytes="),
                    written_bytes: disks("wbytes="),
                }
            }
            Folders::Split { memory, cpu } => {
                let text_of = |name| text(memory.as_deref(), name);
                ContainerStats {
                    cpu_ms: text(cpu.as_deref(), "cpuacct.usage")
                        .and_then(|t| number(&t))
                        .map(|ns| ns / 1_000_000),
                    mem_bytes: without_cache(
                        text_of("memory.usage_in_bytes"),
                        text_of("memory.stat"),
                        "total_inactive_file",
                    ),
                    mem_peak: text_of("memory.max_usage_in_bytes").and_then(|t| number(&t)),
                    oom_kills: text_of("memory.oom_control").and_then(|t| count(&t)),
                    read_bytes: None,
                    written_bytes: None,
                }
            }
        }
    }
}

fn text(folder: Option<&Path>, name: &str) -> Option<String> {
    fs::read_to_string(folder?.join(name)).ok()
}

/// `/proc/<pid>/cgroup`, taken apart.
pub(super) struct Membership<'t> {
    /// Controllers as the kernel lists them, which is also the folder's name, and the path.
    lines: Vec<(&'t str, &'t str)>,
}

pub(super) fn parse_membership(text: &str) -> Membership<'_> {
    let lines = text.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        // The root group is the machine; `..` lies outside of what this process may see.
        let inside = path.len() > 1 && !path.split('/').any(|part| part == "..");
        inside.then_some((controllers, path))
    });
    Membership {
        lines: lines.collect(),
    }
}

impl<'t> Membership<'t> {
    pub(super) fn controller(&self, name: &str) -> Option<(&'t str, &'t str)> {
        let has = |list: &str| list.split(',').any(|one| one == name);
        self.lines.iter().copied().find(|(list, _)| has(list))
    }

    pub(super) fn unified(&self) -> Option<&'t str> {
        let line = self.lines.iter().find(|(list, _)| list.is_empty());
        line.map(|(_, path)| *path)
    }
}

fn number(text: &str) -> Option<i64> {
    text.trim().parse().ok()
}

/// The value of a line `name value`.
fn field(text: &str, name: &str) -> Option<i64> {
    text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.strip_prefix(' ')?;
        number(value)
    })
}

/// The sum over all lines of the words that begin like this; no line is no byte.
fn sum_of(text: &str, name: &str) -> i64 {
    let values = text
        .split_whitespace()
        .filter_map(|word| word.strip_prefix(name)?.parse::<i64>().ok());
    values.fold(0, i64::saturating_add)
}

/// Bytes received and sent through the interfaces of a process, that to itself left out;
/// the text is that of `/proc/<pid>/net/dev`.
fn network(text: &str) -> (i64, i64) {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let others = lines.filter(|(name, _)| name.trim() != "lo");
    others.fold((0_i64, 0_i64), |(received, sent), (_, counters)| {
        let mut numbers = counters.split_whitespace().map(str::parse::<i64>);
        let came = numbers.next().and_then(Result::ok).unwrap_or(0);
        // Eight numbers of what came, then those of what went.
        let went = numbers.nth(7).and_then(Result::ok).unwrap_or(0);
        (received.saturating_add(came), sent.saturating_add(went))
    })
}

/// Bytes received and sent over the network by the container of a process so far; none when
/// the process is gone.
#[must_use]
pub fn network_of(pid: u32) -> Option<(i64, i64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?;
    Some(network(&text))
}

fn count(text: &str) -> Option<u64> {
    u64::try_from(field(text, "oom_kill")?).ok()
}

fn without_cache(usage: Option<String>, stat: Option<String>, cache: &str) -> Option<i64> {
    let usage = number(&usage?)?;
    // The two files are read one after the other: the cache may have grown in between.
    Some((usage - field(&stat?, cache)?).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "0::/longshore.slice/docker-4f1c.scope\n";
    const V1: &str = "12:pids:/docker/4f1c\n\
                      7:memory:/docker/4f1c\n\
                      4:cpu,cpuacct:/docker/4f1c\n\
                      1:name=systemd:/docker/4f1c\n\
                      0::/system.slice/containerd.service\n";

    fn write(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
    }

    #[test]
    fn bytes_of_disks_and_network_are_summed() {
        let io = "259:0 rbytes=100 wbytes=7 rios=1\n8:0 rbytes=20 wbytes=1 rios=1\n";
        assert_eq!((sum_of(io, "rbytes="), sum_of(io, "wbytes=")), (120, 8));
        assert_eq!(sum_of("", "rbytes="), 0);
        let net = "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes\n\
                   lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n\
                   eth0: 500 4 0 0 0 0 0 0 300 3 0 0 0 0 0 0\n\
                   eth1:5 4 0 0 0 0 0 0 3 3 0 0 0 0 0 0\n";
        assert_eq!(network(net), (505, 303));
    }

    #[test]
    fn version_two() {
        let mount = tempfile::tempdir().unwrap();
        let folder = mount.path().join("longshore.slice/docker-4f1c.scope");
        write(
            &folder,
            &[
                ("memory.current", "104857600\n"),
                ("memory.peak", "209715200\n"),
                (
                    "memory.stat",
                    "anon 80000000\nfile 20000000\ninactive_file 4857600\nactive_file 1\n",
                ),
                (
                    "cpu.stat",
                    "usage_usec 12345678\nuser_usec 12000000\nsystem_usec 345678\n",
                ),
                (
                    "memory.events",
                    "low 0\nhigh 0\nmax 31\noom 2\noom_kill 2\noom_group_kill 0\n",
                ),
            ],
        );
        let reader = CgroupReader::from_membership(mount.path(), V2).unwrap();
        assert_eq!(
            reader.read(),
            ContainerStats {
                cpu_ms: Some(12_345),
                mem_bytes: Some(100_000_000),
                mem_peak: Some(209_715_200),
                oom_kills: Some(2),
                read_bytes: None,
                written_bytes: None,
            }
        );
        fs::remove_file(folder.join("memory.peak")).unwrap();
        assert_eq!(reader.read().mem_peak, None);
        fs::remove_dir_all(folder).unwrap();
        assert_eq!(reader.read(), ContainerStats::default());
    }

    #[test]
    fn version_one() {
        let mount = tempfile::tempdir().unwrap();
        write(
            &mount.path().join("memory/docker/4f1c"),
            &[
                ("memory.usage_in_bytes", "104857600\n"),
                ("memory.max_usage_in_bytes", "209715200\n"),
                (
                    "memory.stat",
                    "cache 5\ninactive_file 7\ntotal_cache 5\ntotal_inactive_file 4857600\n",
                ),
                (
                    "memory.oom_control",
                    "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
                ),
            ],
        );
        write(
            &mount.path().join("cpu,cpuacct/docker/4f1c"),
            &[("cpuacct.usage", "12345678901\n")],
        );
        let reader = CgroupReader::from_membership(mount.path(), V1).unwrap();
        assert_eq!(
            reader.read(),
            ContainerStats {
                cpu_ms: Some(12_345),
                mem_bytes: Some(100_000_000),
                mem_peak: Some(209_715_200),
                oom_kills: Some(1),
                read_bytes: None,
                written_bytes: None,
            }
        );
    }

    #[test]
    fn the_root_group_is_nobodys() {
        let open = |text| CgroupReader::from_membership(Path::new("/sys/fs/cgroup"), text);
        assert_eq!(open("0::/\n"), None);
        assert_eq!(open("0::/../../outside\n"), None);
        assert_eq!(open(""), None);
        assert_eq!(open("5:memory:/\n"), None);
        assert!(open("0::/a\n").is_some());
    }
}
