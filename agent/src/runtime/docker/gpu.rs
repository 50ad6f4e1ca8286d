//! Ways in which GPUs can reach containers on this node, and their self-tests.

use crate::devices::Instance;
use crate::runtime::DeviceNode;
use bollard::models::SystemInfo;
use longshore_common::agent::GpuWay;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the self-tests are told by the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GpuConfig {
    /// Only this way is tried; none = all, in order.
    pub forced: Option<GpuWay>,
    /// Where the device nodes lie; `/dev` outside tests.
    pub device_dir: PathBuf,
    /// Oldest release of NVIDIA's toolkit with which the way *request* is offered.
    pub toolkit_floor: String,
}

/// Device nodes for GPUs of these minor numbers: the control nodes that exist, then one
/// node per GPU, whether it exists or not. The path inside is always below `/dev`.
#[must_use]
pub fn device_nodes(device_dir: &Path, minors: &[u32]) -> Vec<DeviceNode> {
    let node = |name: String| DeviceNode {
        host: device_dir.join(&name),
        inside: Path::new("/dev").join(&name),
    };
    let control = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"]
        .into_iter()
        .map(|name| node(name.to_owned()))
        .filter(|node| node.host.exists());
    control
        .chain(minors.iter().map(|minor| node(format!("nvidia{minor}"))))
        .collect()
}

/// Nodes of the capabilities that MIG instances are used by: of each the instance of the GPU and
/// the compute instance in it. `parts` are the number of the GPU's own node, and which instance of
/// it; the driver tells the numbers of capabilities in files below `capabilities`. None = it does
/// not tell all of them.
#[must_use]
pub fn capability_nodes(
    device_dir: &Path,
    capabilities: &Path,
    parts: &[(u32, Instance)],
) -> Option<Vec<DeviceNode>> {
    let mut nodes = BTreeSet::new();
    for (gpu, part) in parts {
        let of_gpu = capabilities
            .join(format!("gpu{gpu}/mig"))
            .join(format!("gi{}", part.gpu_instance));
        let of_compute = of_gpu.join(format!("ci{}", part.compute_instance));
        for directory in [of_gpu, of_compute] {
            let text = std::fs::read_to_string(directory.join("access")).ok()?;
            let name = format!("nvidia-caps/nvidia-cap{}", capability_minor(&text)?);
            nodes.insert(DeviceNode {
                host: device_dir.join(&name),
                inside: Path::new("/dev").join(&name),
            });
        }
    }
    Some(nodes.into_iter().collect())
}

/// The number of a capability's node, out of what the driver tells of it.
fn capability_minor(text: &str) -> Option<u32> {
    let mut lines = text.lines();
    lines.find_map(|line| {
        let number = line.trim().strip_prefix("DeviceFileMinor:")?;
        number.trim().parse().ok()
    })
}

/// What each way's self-test says, in order of preference.
pub(super) async fn ways(
    info: &SystemInfo,
    config: &GpuConfig,
) -> Vec<(GpuWay, Result<(), String>)> {
    let mut results = Vec::new();
    for way in [GpuWay::Cdi, GpuWay::Request, GpuWay::Nodes] {
        if config.forced.is_some_and(|forced| forced != way) {
            continue;
        }
        let result = match way {
            GpuWay::Cdi => cdi(info),
            GpuWay::Request => request(info, &config.toolkit_floor).await,
            GpuWay::Nodes => nodes(&config.device_dir),
        };
        results.push((way, result));
    }
    results
}

fn cdi(info: &SystemInfo) -> Result<(), String> {
    let version = info.server_version.as_deref().unwrap_or("");
    if numbers(version).first().is_none_or(|major| *major < 25) {
        return Err(format!("engine {version} is older than 25"));
    }
    let dirs = info.cdi_spec_dirs.as_deref().unwrap_or_default();
    if dirs.is_empty() {
        return Err("CDI is switched off in the engine".to_owned());
    }
    if cdi_specs(info).next().is_some() {
        Ok(())
    } else {
        Err(format!(
            "no CDI spec in {} names nvidia.com/gpu",
            dirs.join(", ")
        ))
    }
}

/// The texts of the engine's CDI specs for GPUs.
fn cdi_specs(info: &SystemInfo) -> impl Iterator<Item = String> {
    let dirs = info.cdi_spec_dirs.as_deref().unwrap_or_default().iter();
    dirs.filter_map(|dir| std::fs::read_dir(dir).ok())
        .flat_map(|entries| entries.flatten())
        .filter_map(|entry| std::fs::read_to_string(entry.path()).ok())
        .filter(|text| text.contains("nvidia.com/gpu"))
}

/// Ids that the engine's CDI specs name: devices are asked for by id, and a spec may know
/// them by their numbers only. A spec is JSON or YAML, in which an id stands alone, with or
/// without quotes.
pub(super) fn cdi_names(info: &SystemInfo) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '/');
    cdi_specs(info)
        .flat_map(|text| {
            let words = text.split(|c: char| !is_part(c));
            let ids = words.filter(|word| word.starts_with("GPU-") || word.starts_with("MIG-"));
            ids.map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

async fn request(info: &SystemInfo, floor: &str) -> Result<(), String> {
    let runtime = info
        .runtimes
        .as_ref()
        .is_some_and(|all| all.contains_key("nvidia"));
    let hook = program("nvidia-container-runtime-hook");
    let toolkit = program("nvidia-ctk");
    if !runtime && hook.is_none() && toolkit.is_none() {
        return Err("NVIDIA's container toolkit is not installed".to_owned());
    }
    let Some(path) = toolkit.or(hook) else {
        return Err("the version of NVIDIA's container toolkit is not known".to_owned());
    };
    let output = tokio::process::Command::new(&path)
        .arg("--version")
        .kill_on_drop(true)
        .output();
    // A program that only prints its version needs no longer; the agent must not wait for it.
    let text = match tokio::time::timeout(Duration::from_secs(3), output).await {
        Ok(Ok(output)) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(Err(error)) => return Err(format!("{}: {error}", path.display())),
        Err(_) => return Err(format!("{} does not answer", path.display())),
    };
    let found = text
        .split_whitespace()
        .map(numbers)
        .find(|n| n.len() >= 2)
        .unwrap_or_default();
    if found.is_empty() {
        return Err("the version of NVIDIA's container toolkit is not known".to_owned());
    }
    if found < numbers(floor) {
        let found: Vec<String> = found.iter().map(u32::to_string).collect();
        return Err(format!(
            "NVIDIA's container toolkit {} is older than {floor}",
            found.join(".")
        ));
    }
    Ok(())
}

fn nodes(device_dir: &Path) -> Result<(), String> {
    let is_gpu = |name: &str| {
        name.strip_prefix("nvidia").is_some_and(|rest| {
            rest == "ctl" || (!rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
        })
    };
    let found = std::fs::read_dir(device_dir)
        .map_err(|error| format!("{}: {error}", device_dir.display()))?
        .flatten()
        .any(|entry| entry.file_name().to_str().is_some_and(is_gpu));
    if found {
        Ok(())
    } else {
        Err(format!(
            "no NVIDIA device nodes in {}",
            device_dir.display()
        ))
    }
}

/// The numbers of a version, up to the first part that is none.
fn numbers(version: &str) -> Vec<u32> {
    version
        .split('.')
        .map_while(|part| {
            let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        })
        .collect()
}

fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/bin", "/usr/local/bin", "/usr/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|path| path.is_absolute() && path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_lie_below_dev_inside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("nvidiactl"), "").unwrap();
        let nodes = device_nodes(dir.path(), &[3]);
        let inside: Vec<_> = nodes
            .iter()
            .map(|n| n.inside.to_string_lossy().into_owned())
            .collect();
        assert_eq!(inside, ["/dev/nvidiactl", "/dev/nvidia3"]);
        assert_eq!(nodes[1].host, dir.path().join("nvidia3"));
        assert_eq!(super::nodes(dir.path()), Ok(()));
        assert!(super::nodes(Path::new("/proc/self")).is_err());
    }

    #[test]
    fn instances_are_used_by_two_capabilities_each() {
        let dir = tempfile::tempdir().unwrap();
        let capability = |path: &str, minor: u32| {
            let dir = dir.path().join(path);
            std::fs::create_dir_all(&dir).unwrap();
            let text =
                format!("DeviceFileMinor: {minor}\nDeviceFileMode: 292\nDeviceFileModify: 1\n");
            std::fs::write(dir.join("access"), text).unwrap();
        };
        capability("gpu3/mig/gi1", 12);
        capability("gpu3/mig/gi1/ci0", 13);
        capability("gpu3/mig/gi1/ci1", 14);
        let part = |gpu_instance, compute_instance| {
            let instance = Instance {
                gpu_instance,
                compute_instance,
            };
            (3, instance)
        };
        let nodes = |parts: &[(u32, Instance)]| {
            let nodes = capability_nodes(Path::new("/there"), dir.path(), parts)?;
            let all = nodes.iter().map(|node| {
                assert!(node.is_capability() && !node.is_gpu());
                node.host.to_string_lossy().into_owned()
            });
            Some(all.collect::<Vec<_>>())
        };
        let cap = |n: u32| format!("/there/nvidia-caps/nvidia-cap{n}");
        assert_eq!(nodes(&[part(1, 0)]), Some(vec![cap(12), cap(13)]));
        // Two parts of one instance have that in common.
        let both = nodes(&[part(1, 0), part(1, 1)]);
        assert_eq!(both, Some(vec![cap(12), cap(13), cap(14)]));
        assert_eq!(nodes(&[part(1, 0), part(2, 0)]), None);
        std::fs::write(dir.path().join("gpu3/mig/gi1/access"), "nothing").unwrap();
        assert_eq!(nodes(&[part(1, 0)]), None);
        assert_eq!(nodes(&[]), Some(Vec::new()));
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(numbers("20.10.24+dfsg1"), [20, 10, 24]);
        assert!(numbers("1.17.8") < numbers("1.17.10"));
        assert!(numbers("v1").is_empty());
    }

    #[test]
    fn cdi_needs_an_engine_that_has_it() {
        let old = SystemInfo {
            server_version: Some("20.10.24".to_owned()),
            ..Default::default()
        };
        assert!(cdi(&old).unwrap_err().contains("older than 25"));
        let dir = tempfile::tempdir().unwrap();
        let mut new = SystemInfo {
            server_version: Some("28.0.1".to_owned()),
            cdi_spec_dirs: Some(vec![dir.path().to_string_lossy().into_owned()]),
            ..Default::default()
        };
        assert!(cdi(&new).is_err());
        std::fs::write(dir.path().join("nvidia.yaml"), "kind: nvidia.com/gpu\n").unwrap();
        assert_eq!(cdi(&new), Ok(()));
        assert!(cdi_names(&new).is_empty());
        let yaml = "kind: nvidia.com/gpu\ndevices:\n- name: \"0\"\n- name: GPU-1a-2b\n";
        std::fs::write(dir.path().join("nvidia.yaml"), yaml).unwrap();
        let json = r#"{"kind":"nvidia.com/gpu","devices":[{"name":"MIG-3c"},{"name":"all"}]}"#;
        std::fs::write(dir.path().join("mig.json"), json).unwrap();
        std::fs::write(dir.path().join("other.json"), r#"{"name":"GPU-9"}"#).unwrap();
        let names: Vec<String> = cdi_names(&new).into_iter().collect();
        assert_eq!(names, ["GPU-1a-2b", "MIG-3c"]);
        new.cdi_spec_dirs = None;
        assert!(cdi(&new).unwrap_err().contains("switched off"));
    }
}
