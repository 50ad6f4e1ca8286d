//! Facts and figures of this machine, and the figures of one container, read from the
//! kernel's text files.
//!
//! Files are read one by one and only when asked for: no library that refreshes everything,
//! no thread, no cache. What cannot be read is *unknown* (`None`), never zero. The parsers
//! are pure and know only text.

use longshore_common::metrics::process::Taken;
use longshore_common::time::Timestamp;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub mod cgroup;
pub mod freezer;

pub use cgroup::{CgroupReader, ContainerStats};

/// Where the kernel shows itself; another root is for tests.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
}

/// What does not change until the next start of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Host name.
    pub hostname: String,
    /// Operating system for people, e.g. `Ubuntu 24.04.1 LTS`; empty = unknown.
    pub os: String,
    /// Kernel release.
    pub kernel: String,
    /// Architecture in Docker's words.
    pub arch: &'static str,
    /// Processors that are on line; 0 = unknown.
    pub cores: u32,
    /// Memory in bytes; 0 = unknown.
    pub mem_total: i64,
    /// 1 or 2; 0 = unknown. A machine with both counts as 1: the controllers are there.
    pub cgroup_version: u8,
    /// New at each start of the machine.
    pub boot_id: Option<String>,
    /// SHA-256 of the machine id in hex: tells machines apart without telling the id,
    /// which is confidential. None on a machine without one.
    pub machine_id_hash: Option<String>,
}

/// Size of a file system in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// What an ordinary user could still write.
    pub free: i64,
    /// The whole.
    pub total: i64,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/"),
        }
    }
}

impl Host {
    /// A machine whose `/proc`, `/sys` and `/etc` lie below `root`.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Reads what does not change.
    #[must_use]
    pub fn facts(&self) -> Facts {
        let names = rustix::system::uname();
        let os = self
            .text("etc/os-release")
            .or_else(|| self.text("usr/lib/os-release"));
        Facts {
            hostname: names.nodename().to_string_lossy().into_owned(),
            os: os.and_then(|text| os_name(&text)).unwrap_or_default(),
            kernel: names.release().to_string_lossy().into_owned(),
            arch: arch(),
            cores: self
                .text("sys/devices/system/cpu/online")
                .and_then(|text| count_of_list(&text))
                .unwrap_or(0),
            mem_total: self.meminfo("MemTotal").unwrap_or(0),
            cgroup_version: self.cgroup_version(),
            boot_id: self
                .text("proc/sys/kernel/random/boot_id")
                .map(|text| text.trim().to_owned()),
            machine_id_hash: self
                .text("etc/machine-id")
                .and_then(|text| hash_machine_id(&text)),
        }
    }

    /// Load average over one minute, in thousandths.
    #[must_use]
    pub fn load_milli(&self) -> Option<i64> {
        load_milli(&self.text("proc/loadavg")?)
    }

    /// Memory that could be had without swapping, in bytes.
    #[must_use]
    pub fn mem_available(&self) -> Option<i64> {
        self.meminfo("MemAvailable")
    }

    /// Resident memory of this process, in bytes.
    #[must_use]
    pub fn own_rss(&self) -> Option<i64> {
        kilobytes(&self.text("proc/self/status")?, "VmRSS")
    }

    /// What this process takes.
    #[must_use]
    pub fn own(&self) -> Taken {
        let descriptors = fs::read_dir(self.root.join("proc/self/fd")).ok();
        // One of them is the list itself.
        let descriptors = descriptors.map(|all| (all.count() as u64).saturating_sub(1));
        let text = |path: &str| self.text(path).unwrap_or_default();
        Taken::read(
            &text("proc/self/status"),
            &text("proc/self/stat"),
            descriptors,
        )
    }

    /// The figures of the container that the process is the first one of; see
    /// [`CgroupReader`].
    #[must_use]
    pub fn cgroup_of(&self, pid: u32) -> Option<CgroupReader> {
        let membership = self.text(&format!("proc/{pid}/cgroup"))?;
        CgroupReader::from_membership(&self.root.join("sys/fs/cgroup"), &membership)
    }

    fn cgroup_version(&self) -> u8 {
        let cgroup = self.root.join("sys/fs/cgroup");
        if cgroup.join("cgroup.controllers").exists() {
            2
        } else if cgroup.join("memory").exists() {
            1
        } else {
            0
        }
    }

    fn meminfo(&self, name: &str) -> Option<i64> {
        kilobytes(&self.text("proc/meminfo")?, name)
    }

    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }
}

pub use longshore_link::boot_ms as boot_clock_ms;

/// When a process started, in milliseconds on the boot clock; none if it cannot be told. Steps
/// of the wall clock do not move it.
#[must_use]
pub fn started_boot_ms(pid: u32) -> Option<i64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    start_in_stat(&stat)
}

/// Milliseconds in a tick of `/proc`: the kernel shows programs hundredths of a second on
/// every machine that GPUs are built into.
const TICK_MS: i64 = 10;

/// Field 22 of `/proc/<pid>/stat`. The second field is a name that may hold anything.
fn start_in_stat(stat: &str) -> Option<i64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: i64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    Some(ticks.saturating_mul(TICK_MS))
}

/// The wall clock: for people, labels and certificates; never for a deadline.
#[must_use]
pub fn wall_clock() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The file system that holds `path`.
///
/// # Errors
/// The path does not exist, or the file system does not answer.
pub fn disk(path: &Path) -> std::io::Result<Disk> {
    let stat = rustix::fs::statvfs(path)?;
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(stat.f_frsize));
    Ok(Disk {
        free: bytes(stat.f_bavail).unwrap_or(i64::MAX),
        total: bytes(stat.f_blocks).unwrap_or(i64::MAX),
    })
}

/// The processor's architecture in the words of Docker's image lists.
#[must_use]
pub fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        "x86" => "386",
        other => other,
    }
}

/// SHA-256 of a machine id, in hex. None when the text is no id, as on a machine whose
/// first start is not over.
#[must_use]
pub fn hash_machine_id(text: &str) -> Option<String> {
    let id = text.trim();
    if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, id.as_bytes());
    Some(
        digest
            .as_ref()
            .iter()
            .fold(String::with_capacity(64), |mut hex, byte| {
                // Writing to a string does not fail.
                let _ = write!(hex, "{byte:02x}");
                hex
            }),
    )
}

/// The name for people from `os-release`.
fn os_name(text: &str) -> Option<String> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        let value = line.strip_prefix('=')?.trim();
        Some(value.trim_matches(['"', '\'']).to_owned())
    };
    value("PRETTY_NAME").or_else(|| value("NAME"))
}

/// How many numbers a list like `0-3,8` names.
fn count_of_list(text: &str) -> Option<u32> {
    text.trim().split(',').try_fold(0_u32, |sum, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

/// Bytes from a line like `MemTotal:  1024 kB`.
fn kilobytes(text: &str, name: &str) -> Option<i64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let number: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1024)
}

/// Thousandths from the first number of `/proc/loadavg`, which has two decimals.
fn load_milli(text: &str) -> Option<i64> {
    let first = text.split_whitespace().next()?;
    longshore_common::amount::parse_milli(first).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_texts() {
        let os = "NAME=\"Ubuntu\"\nPRETTY_NAME=\"Ubuntu 24.04.1 LTS\"\nID=ubuntu\n";
        assert_eq!(os_name(os).as_deref(), Some("Ubuntu 24.04.1 LTS"));
        assert_eq!(os_name("NAME=Void\n").as_deref(), Some("Void"));
        assert_eq!(os_name("ID=x\n"), None);

        assert_eq!(count_of_list("0-3,8\n"), Some(5));
        assert_eq!(count_of_list("0\n"), Some(1));
        assert_eq!(count_of_list("3-0\n"), None);
        assert_eq!(count_of_list(""), None);

        let memory = "MemTotal:       65536000 kB\nMemFree:  12 kB\nMemAvailable:   32768 kB\n";
        assert_eq!(kilobytes(memory, "MemTotal"), Some(65_536_000 * 1024));
        assert_eq!(kilobytes(memory, "MemAvailable"), Some(32_768 * 1024));
        assert_eq!(kilobytes(memory, "Mem"), None);
        assert_eq!(kilobytes("HugePages_Total:  0\n", "HugePages_Total"), None);

        assert_eq!(load_milli("0.52 0.58 0.59 1/467 12345\n"), Some(520));
        assert_eq!(load_milli("12.00 1.00 1.00 2/9 1\n"), Some(12_000));
        assert_eq!(load_milli(""), None);
    }

    #[test]
    fn machine_ids_are_hashed() {
        let hash = hash_machine_id("0123456789abcdef0123456789abcdef\n").unwrap();
        assert_eq!(hash.len(), 64);
        assert_eq!(
            hash_machine_id("0123456789abcdef0123456789abcdef"),
            Some(hash)
        );
        assert_eq!(hash_machine_id("uninitialized\n"), None);
        assert_eq!(hash_machine_id(""), None);
    }

    #[test]
    fn the_start_of_a_process_is_on_the_boot_clock() {
        let stat = "7 (a) b 9) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        assert_eq!(start_in_stat(stat), Some(123_450));
        assert_eq!(start_in_stat("7 (a) S 1"), None);
        let own = started_boot_ms(std::process::id()).unwrap();
        assert!((0..=boot_clock_ms()).contains(&own));
    }

    #[test]
    fn an_empty_machine_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::at(folder.path());
        let facts = host.facts();
        assert_eq!(
            (facts.cores, facts.mem_total, facts.cgroup_version),
            (0, 0, 0)
        );
        assert_eq!((facts.boot_id, facts.machine_id_hash), (None, None));
        assert_eq!((host.load_milli(), host.own_rss()), (None, None));
        assert!(host.cgroup_of(1).is_none());
    }

    #[test]
    fn this_machine_answers() {
        let host = Host::default();
        let facts = host.facts();
        assert!(facts.cores > 0 && facts.mem_total > 0);
        assert!(
            host.mem_available()
                .is_some_and(|free| free <= facts.mem_total)
        );
        assert!(host.own_rss().is_some_and(|rss| rss > 0));
        let own = host.own();
        assert!(own.memory.is_some_and(|memory| memory > 0));
        assert!(own.cpu_ms.is_some() && own.descriptors.is_some_and(|open| open >= 3));
        assert!(boot_clock_ms() > 0);
        let disk = disk(Path::new("/")).unwrap();
        assert!(disk.free <= disk.total);
    }
}
