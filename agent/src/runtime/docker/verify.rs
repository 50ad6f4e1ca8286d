//! The kernel's view of a running container, compared with what it was granted.
//!
//! The engine is not asked: an engine, a hook or a driver that let more in than was
//! requested is exactly what is looked for. Reading is cheap (a few files of `/proc`
//! and one of the cgroup), judging is pure.

use super::request::ROOT_CAPS;
use crate::runtime::{Breach, CreateRequest, DeviceNode};
use longshore_common::agent::GpuWay;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// The character devices that the engine lets every container have; no GPU among them.
const DEFAULTS: [&str; 10] = [
    "1:3", "1:5", "1:7", "1:8", "1:9", "5:0", "5:1", "5:2", "10:200", "136:*",
];
/// Major number of NVIDIA's GPUs and, from minor 254 on, of what controls them.
const NVIDIA_MAJOR: u32 = 195;
const FIRST_CONTROL_MINOR: u32 = 254;

/// What a container was granted, in the kernel's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Granted {
    uid: u32,
    /// What its processes may have of the kernel's privileges, as a mask.
    caps: u64,
    /// Whether its processes may gain privileges, up to `caps`.
    sudo: bool,
    nodes: Vec<Node>,
    /// How many GPUs.
    gpus: usize,
    rule: Rule,
    /// Major numbers of NVIDIA's drivers on this machine.
    majors: BTreeSet<u32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    inside: PathBuf,
    device: (u32, u32),
}

/// How strictly nodes are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// We named every node: exactly these.
    Exact,
    /// The engine added what the toolkit says a GPU needs: GPUs are compared, control
    /// nodes of the driver are not.
    GpusOnly,
}

/// What the judging needs to know of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    status: String,
    /// Lines of the cgroup's device list; none with cgroup version 2.
    rules: Option<Vec<String>>,
    /// Nodes named like a GPU in the container's `/dev`.
    nodes: Vec<Node>,
}

impl Granted {
    /// `engine_chose` says whether the engine chose nodes when it made the container; none = it
    /// was not asked, and the way of the request counts.
    pub(super) fn of(request: &CreateRequest, engine_chose: Option<bool>) -> Self {
        let stat = |node: &DeviceNode| {
            let meta = fs::metadata(&node.host).ok()?;
            Some(Node {
                inside: node.inside.clone(),
                device: split(meta.rdev()),
            })
        };
        let (gpus, control): (Vec<_>, Vec<_>) =
            request.device_nodes.iter().partition(|node| node.is_gpu());
        let mut nodes: Vec<Node> = control.into_iter().filter_map(stat).collect();
        // With one of them unknown the others say nothing: GPUs are counted then.
        let gpus: Option<Vec<Node>> = gpus.into_iter().map(stat).collect();
        nodes.extend(gpus.unwrap_or_default());
        Self {
            uid: if request.spec.root {
                0
            } else {
                request.spec.uid
            },
            caps: if request.spec.root || request.spec.sudo {
                root_caps()
            } else {
                0
            },
            sudo: request.spec.sudo,
            nodes: if request.gpu_way.is_some() {
                nodes
            } else {
                Vec::new()
            },
            gpus: request
                .spec
                .devices
                .iter()
                .filter(|g| g.slot.family() == "cuda")
                .count(),
            rule: rule(request.gpu_way, engine_chose),
            majors: nvidia_majors(&fs::read_to_string("/proc/devices").unwrap_or_default()),
        }
    }

    /// Which GPUs it should have is not known, only how many.
    fn by_count(&self) -> bool {
        self.gpus > 0 && !self.nodes.iter().any(|node| is_gpu(node.device))
    }
}

fn rule(way: Option<GpuWay>, engine_chose: Option<bool>) -> Rule {
    let today = matches!(way, Some(GpuWay::Cdi | GpuWay::Request));
    match engine_chose.unwrap_or(today) {
        true => Rule::GpusOnly,
        false => Rule::Exact,
    }
}

/// Major numbers of NVIDIA's drivers, from the kernel's list of drivers.
fn nvidia_majors(drivers: &str) -> BTreeSet<u32> {
    let named = drivers.lines().filter_map(|line| {
        let (major, name) = line.trim().split_once(' ')?;
        name.starts_with("nvidia").then(|| major.parse().ok())?
    });
    named.chain([NVIDIA_MAJOR]).collect()
}

/// Compares; none = something could not be read: most likely the process is gone, and then
/// there is nothing to compare.
pub(super) fn compare(pid: u32, docker_id: &str, granted: &Granted) -> Option<Option<Breach>> {
    let seen = look(pid)?;
    // After the look: a number that was given to another process meanwhile is told here.
    is_of(pid, docker_id).then(|| judge(&seen, granted))
}

/// Whether a process belongs to a container, by the name of its cgroup.
pub(super) fn is_of(pid: u32, docker_id: &str) -> bool {
    fs::read_to_string(proc(pid).join("cgroup")).is_ok_and(|text| text.contains(docker_id))
}

fn proc(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

fn look(pid: u32) -> Option<Seen> {
    let dir = proc(pid);
    let rules = device_list(&dir)?;
    let mut nodes = Vec::new();
    for entry in fs::read_dir(dir.join("root/dev")).ok()?.flatten() {
        let name = entry.file_name();
        // The entry itself, never what a link in there points to.
        let Ok(meta) = entry.metadata() else { continue };
        if name.to_string_lossy().starts_with("nvidia") && meta.file_type().is_char_device() {
            nodes.push(Node {
                inside: Path::new("/dev").join(name),
                device: split(meta.rdev()),
            });
        }
    }
    // Last: a process that ended meanwhile makes everything above worthless.
    let status = fs::read_to_string(dir.join("status")).ok()?;
    (!status.contains("State:\tZ")).then_some(Seen {
        status,
        rules,
        nodes,
    })
}

/// The device list of the process's cgroup: none inside with version 2, which has no such
/// list; none in all if it cannot be read.
fn device_list(dir: &Path) -> Option<Option<Vec<String>>> {
    let cgroups = fs::read_to_string(dir.join("cgroup")).ok()?;
    let Some(path) = devices_cgroup(&cgroups) else {
        return Some(None);
    };
    let file = Path::new("/sys/fs/cgroup/devices")
        .join(path.trim_start_matches('/'))
        .join("devices.list");
    let text = fs::read_to_string(file).ok()?;
    Some(Some(text.lines().map(str::to_owned).collect()))
}

/// Where version 1 keeps the devices of a process, by its `cgroup` file.
fn devices_cgroup(cgroups: &str) -> Option<&str> {
    cgroups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        controllers
            .split(',')
            .any(|name| name == "devices")
            .then_some(path)
    })
}

fn judge(seen: &Seen, granted: &Granted) -> Option<Breach> {
    privileges(&seen.status, granted)
        .or_else(|| {
            seen.rules
                .as_deref()
                .and_then(|rules| extra_rules(rules, granted))
        })
        .or_else(|| extra_nodes(&seen.nodes, granted))
        .or_else(|| missing(seen, granted))
}

/// The mask of what root inside may have. With `sudo` it gets one less; what an agent before this
/// one started may have that too, and goes on.
fn root_caps() -> u64 {
    let numbers = ROOT_CAPS.iter().map(|(_, number)| 1u64 << number);
    numbers.fold(0, |mask, bit| mask | bit)
}

fn privileges(status: &str, granted: &Granted) -> Option<Breach> {
    let uid = granted.uid;
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
    };
    // What cannot be read counts as everything.
    let beyond =
        |text: &str| u64::from_str_radix(text, 16).map_or(true, |m| m & !granted.caps != 0);
    for name in ["CapEff", "CapPrm", "CapBnd", "CapAmb"] {
        if let Some(value) = field(name).filter(|value| beyond(value)) {
            return Some(Breach::More(format!(
                "its first process has capabilities ({name} {value})"
            )));
        }
    }
    for (name, wanted) in [("NoNewPrivs", "1"), ("Seccomp", "2")] {
        let value = field(name).unwrap_or("nothing");
        let free = granted.sudo && name == "NoNewPrivs";
        if value != wanted && !free {
            return Some(Breach::More(format!("{name} is {value}, not {wanted}")));
        }
    }
    let uids = field("Uid").unwrap_or_default();
    if uids.split_whitespace().any(|part| part != uid.to_string()) {
        return Some(Breach::More(format!(
            "its first process runs as {uids}, not as {uid}"
        )));
    }
    None
}

fn extra_rules(rules: &[String], granted: &Granted) -> Option<Breach> {
    let gpus = rules
        .iter()
        .filter(|rule| numbers_of(rule).is_some_and(is_gpu));
    if granted.by_count() && gpus.count() > granted.gpus {
        let text = format!("its cgroup lets it use more than {} GPUs", granted.gpus);
        return Some(Breach::More(text));
    }
    rules
        .iter()
        .find(|rule| !is_allowed(rule, granted))
        .map(|rule| {
            Breach::More(format!(
                "its cgroup lets it use a device that was not granted ({rule})"
            ))
        })
}

fn is_allowed(rule: &str, granted: &Granted) -> bool {
    let mut words = rule.split_whitespace();
    let (kind, numbers, access) = (
        words.next().unwrap_or(""),
        words.next().unwrap_or(""),
        words.next().unwrap_or(""),
    );
    // Making nodes is no use without the capability, and does not open them.
    if kind != "a" && access == "m" {
        return true;
    }
    if kind != "c" {
        return false;
    }
    if DEFAULTS.contains(&numbers) {
        return true;
    }
    let Some(device) = numbers_of(rule) else {
        return false;
    };
    if granted.nodes.iter().any(|node| node.device == device) {
        return true;
    }
    if is_gpu(device) {
        return granted.by_count(); // which GPUs these are is judged by their nodes
    }
    // Of whom we know which parts of GPUs it may use, it may use no others.
    let mut parts = granted.nodes.iter().filter(|node| is_capability(node));
    let of_parts = parts.any(|node| node.device.0 == device.0);
    let chosen = granted.majors.contains(&device.0) && !of_parts;
    granted.rule == Rule::GpusOnly && granted.gpus > 0 && chosen
}

/// Major and minor number of a rule that names one device.
fn numbers_of(rule: &str) -> Option<(u32, u32)> {
    let mut words = rule.split_whitespace();
    let (kind, numbers) = (words.next()?, words.next()?);
    let (major, minor) = numbers.split_once(':')?;
    (kind == "c").then_some((major.parse().ok()?, minor.parse().ok()?))
}

const fn is_gpu((major, minor): (u32, u32)) -> bool {
    major == NVIDIA_MAJOR && minor < FIRST_CONTROL_MINOR
}

/// Of a MIG instance.
fn is_capability(node: &Node) -> bool {
    node.inside.parent() == Some(Path::new("/dev/nvidia-caps"))
}

fn extra_nodes(nodes: &[Node], granted: &Granted) -> Option<Breach> {
    let gpus: Vec<&Node> = nodes.iter().filter(|node| is_gpu(node.device)).collect();
    if granted.by_count() {
        return (gpus.len() > granted.gpus)
            .then(|| Breach::More(format!("it has {} GPUs, not {}", gpus.len(), granted.gpus)));
    }
    gpus.into_iter()
        .find(|node| !granted.nodes.iter().any(|g| g.device == node.device))
        .map(|node| {
            Breach::More(format!(
                "it has {}, which was not granted",
                node.inside.display()
            ))
        })
}

fn missing(seen: &Seen, granted: &Granted) -> Option<Breach> {
    if granted.by_count() && !seen.nodes.iter().any(|node| is_gpu(node.device)) {
        return Some(Breach::Fewer("it has no GPU".to_owned()));
    }
    for node in &granted.nodes {
        if granted.rule == Rule::GpusOnly && !is_gpu(node.device) {
            continue; // the engine chooses which of them a GPU needs
        }
        let shown = node.inside.display();
        // Nodes in folders of their own (capabilities of instances) are judged by the cgroup only.
        let flat = node.inside.parent() == Some(Path::new("/dev"));
        if flat && !seen.nodes.contains(node) {
            return Some(Breach::Fewer(format!("{shown} is not there")));
        }
        let (major, minor) = node.device;
        let start = format!("c {major}:{minor} ");
        if seen
            .rules
            .as_ref()
            .is_some_and(|rules| !rules.iter().any(|rule| rule.starts_with(&start)))
        {
            return Some(Breach::Fewer(format!(
                "its cgroup does not let it use {shown}"
            )));
        }
    }
    None
}

fn split(device: u64) -> (u32, u32) {
    (rustix::fs::major(device), rustix::fs::minor(device))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tdocker-init\nState:\tS (sleeping)\nUid:\t20000\t20000\t20000\t20000\n\
        CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
        CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";

    fn node(name: &str, minor: u32) -> Node {
        Node {
            inside: Path::new("/dev").join(name),
            device: (NVIDIA_MAJOR, minor),
        }
    }

    fn seen(extra: &[&str], nodes: &[Node]) -> Seen {
        let base = [
            "b *:* m",
            "c *:* m",
            "c 1:3 rwm",
            "c 136:* rwm",
            "c 10:200 rwm",
        ];
        Seen {
            status: STATUS.to_owned(),
            rules: Some(
                base.iter()
                    .chain(extra)
                    .map(|line| (*line).to_owned())
                    .collect(),
            ),
            nodes: nodes.to_vec(),
        }
    }

    fn granted(nodes: &[Node]) -> Granted {
        Granted {
            uid: 20_000,
            caps: 0,
            sudo: false,
            nodes: nodes.to_vec(),
            gpus: nodes.len(),
            rule: Rule::Exact,
            majors: BTreeSet::from([NVIDIA_MAJOR, 510]),
        }
    }

    /// A part of a GPU is used by the capabilities of its instance, whoever let them in.
    #[test]
    fn parts_of_gpus_are_compared_by_their_capabilities() {
        let capability = |minor: u32| Node {
            inside: format!("/dev/nvidia-caps/nvidia-cap{minor}").into(),
            device: (510, minor),
        };
        let zero = node("nvidia0", 0);
        let nodes = [zero.clone(), capability(12), capability(13)];
        for rule in [Rule::Exact, Rule::GpusOnly] {
            let granted = Granted {
                gpus: 1,
                rule,
                ..granted(&nodes)
            };
            let judged =
                |extra: &[&str]| judge(&seen(extra, std::slice::from_ref(&zero)), &granted);
            let all = ["c 195:0 rw", "c 510:12 rw", "c 510:13 rw"];
            assert_eq!(judged(&all), None, "{rule:?}");
            let more = [&all[..], &["c 510:14 rw"]].concat();
            assert!(matches!(judged(&more), Some(Breach::More(_))), "{rule:?}");
        }
        let exact = Granted {
            gpus: 1,
            ..granted(&nodes)
        };
        let fewer = seen(&["c 195:0 rw", "c 510:12 rw"], std::slice::from_ref(&zero));
        assert!(matches!(judge(&fewer, &exact), Some(Breach::Fewer(_))));
    }

    #[test]
    fn exactly_what_was_granted_passes() {
        let zero = node("nvidia0", 0);
        assert_eq!(judge(&seen(&[], &[]), &granted(&[])), None);
        assert_eq!(
            judge(
                &seen(&["c 195:0 rw"], std::slice::from_ref(&zero)),
                &granted(&[zero])
            ),
            None
        );
    }

    #[test]
    fn more_is_told_by_rule_and_by_node() {
        let zero = node("nvidia0", 0);
        for rule in [
            "a *:* rwm",
            "c 195:1 rw",
            "c 195:* rw",
            "c *:* rwm",
            "b 8:0 r",
        ] {
            let verdict = judge(
                &seen(&["c 195:0 rw", rule], std::slice::from_ref(&zero)),
                &granted(std::slice::from_ref(&zero)),
            );
            assert!(
                matches!(verdict, Some(Breach::More(_))),
                "{rule}: {verdict:?}"
            );
        }
        // With cgroup version 2 only the nodes can be seen.
        let mut second = seen(&[], &[zero.clone(), node("nvidia1", 1)]);
        second.rules = None;
        assert!(matches!(
            judge(&second, &granted(&[zero])),
            Some(Breach::More(_))
        ));
    }

    #[test]
    fn fewer_is_told_by_rule_and_by_node() {
        let zero = node("nvidia0", 0);
        let no_node = judge(
            &seen(&["c 195:0 rw"], &[]),
            &granted(std::slice::from_ref(&zero)),
        );
        assert!(matches!(no_node, Some(Breach::Fewer(_))));
        let no_rule = judge(
            &seen(&[], std::slice::from_ref(&zero)),
            &granted(std::slice::from_ref(&zero)),
        );
        assert!(matches!(no_rule, Some(Breach::Fewer(_))));
    }

    #[test]
    fn where_the_engine_chooses_nodes_gpus_are_counted() {
        let mut by_count = granted(&[]);
        (by_count.rule, by_count.gpus) = (Rule::GpusOnly, 1);
        let one = seen(
            &["c 195:0 rw", "c 195:255 rw", "c 510:0 rw"],
            &[node("nvidia0", 0), node("nvidiactl", 255)],
        );
        assert_eq!(judge(&one, &by_count), None);
        let two = seen(&[], &[node("nvidia0", 0), node("nvidia1", 1)]);
        assert!(matches!(judge(&two, &by_count), Some(Breach::More(_))));
        assert!(matches!(
            judge(&seen(&[], &[]), &by_count),
            Some(Breach::Fewer(_))
        ));
    }

    #[test]
    fn where_the_engine_chooses_nodes_only_those_of_gpus_are_let_in() {
        let mut by_count = granted(&[]);
        (by_count.rule, by_count.gpus) = (Rule::GpusOnly, 1);
        let zero = [node("nvidia0", 0)];
        for (rule, passes) in [
            ("c 510:1 rw", true),
            ("c 10:232 rw", false),
            ("c 195:1 rw", false),
        ] {
            let verdict = judge(&seen(&["c 195:0 rw", rule], &zero), &by_count);
            assert_eq!(verdict.is_none(), passes, "{rule}: {verdict:?}");
        }
    }

    /// The second instance of a GPU shares its node with the first.
    #[test]
    fn where_the_gpus_are_known_no_other_one_passes() {
        let mut known = granted(&[node("nvidia0", 0), node("nvidiactl", 255)]);
        (known.rule, known.gpus) = (Rule::GpusOnly, 2);
        let rules = ["c 195:0 rw", "c 195:254 rw"];
        assert_eq!(judge(&seen(&rules, &[node("nvidia0", 0)]), &known), None);
        let other = seen(&["c 195:1 rw"], &[node("nvidia1", 1)]);
        assert!(matches!(judge(&other, &known), Some(Breach::More(_))));
        assert!(matches!(
            judge(&seen(&[], &[]), &known),
            Some(Breach::Fewer(_))
        ));
    }

    #[test]
    fn the_way_a_container_was_made_in_counts() {
        assert_eq!(rule(Some(GpuWay::Nodes), Some(true)), Rule::GpusOnly);
        assert_eq!(rule(Some(GpuWay::Cdi), Some(false)), Rule::Exact);
        assert_eq!(rule(Some(GpuWay::Cdi), None), Rule::GpusOnly);
        assert_eq!(rule(None, None), Rule::Exact);
    }

    #[test]
    fn majors_come_from_the_kernels_list() {
        let drivers =
            "Character devices:\n  1 mem\n195 nvidia\n236 nvidia-caps\n\nBlock devices:\n";
        assert_eq!(nvidia_majors(drivers), BTreeSet::from([195, 236]));
        assert_eq!(nvidia_majors(""), BTreeSet::from([195]));
    }

    #[test]
    fn a_list_that_cannot_be_read_is_not_one_that_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let with = |text: &str| {
            fs::write(dir.path().join("cgroup"), text).unwrap();
            device_list(dir.path())
        };
        assert_eq!(with("0::/system.slice/docker-1.scope\n"), Some(None));
        assert_eq!(with("9:devices:/no/such/group\n0::/\n"), None);
        assert_eq!(device_list(&dir.path().join("gone")), None);
    }

    #[test]
    fn privileges_are_none() {
        for (from, to) in [
            ("CapEff:\t0000000000000000", "CapEff:\t00000000a80425fb"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            ("Seccomp:\t2", "Seccomp:\t0"),
            ("Uid:\t20000", "Uid:\t0"),
        ] {
            let verdict = privileges(&STATUS.replace(from, to), &granted(&[]));
            assert!(matches!(verdict, Some(Breach::More(_))), "{to}");
        }
    }

    #[test]
    fn who_has_sudo_may_gain_privileges_and_has_none_yet() {
        let sudo = Granted {
            caps: root_caps(),
            sudo: true,
            ..granted(&[])
        };
        let free = STATUS.replace("NoNewPrivs:\t1", "NoNewPrivs:\t0");
        let free = free.replace("CapBnd:\t0000000000000000", "CapBnd:\t00000000200004eb");
        assert_eq!(privileges(&free, &sudo), None);
        assert!(matches!(
            privileges(&free, &granted(&[])),
            Some(Breach::More(_))
        ));
        for (from, to) in [("Seccomp:\t2", "Seccomp:\t0"), ("Uid:\t20000", "Uid:\t0")] {
            let verdict = privileges(&free.replace(from, to), &sudo);
            assert!(matches!(verdict, Some(Breach::More(_))), "{to}");
        }
    }

    #[test]
    fn root_inside_has_a_few_privileges_and_no_more() {
        let root = Granted {
            uid: 0,
            caps: root_caps(),
            ..granted(&[])
        };
        assert_eq!(root.caps, 0x2000_04eb);
        let status = STATUS.replace("20000", "0");
        let with = |caps: &str| {
            let status = status.replace("CapEff:\t0000000000000000", &format!("CapEff:\t{caps}"));
            privileges(&status, &root)
        };
        assert_eq!(with("00000000200004eb"), None);
        for more in ["00000000a80425fb", "00000000200004ef", "nonsense"] {
            assert!(matches!(with(more), Some(Breach::More(_))), "{more}");
        }
    }
}
