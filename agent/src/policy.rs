//! What root of this node allows, whatever it is ordered.
//!
//! | input | output |
//! |---|---|
//! | what a container is to be, the policy, what the node has | nothing, or the key that forbids it |
//! | where keys were set, who owns the files | whether the policy may be gone by |
//!
//! A coordinator that was taken over must not become root on its nodes: only files that nobody but
//! root can write say what is allowed here.

use longshore_common::amount::SlotName;
use longshore_common::session::ContainerSpec;
use longshore_config::load::{From, Loaded};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Allowed or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum Permit {
    /// It is.
    Allow,
    /// It is not.
    Deny,
}

/// The section `local_policy`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields, default)]
pub struct LocalPolicy {
    /// Containers in the network of the node.
    pub host_network: Permit,
    /// Containers whose user may become root inside by `sudo`.
    pub sudo: Permit,
    /// Containers whose processes are root inside.
    pub root_in_container: Permit,
    /// No container user below this number.
    pub uid_min: u32,
    /// `HOST[/PATH]` from which images may come; empty = whatever the coordinator allows.
    pub registries: Vec<String>,
    /// MiB of memory that all containers together may have; 0 = no limit.
    pub max_mem_mib: u64,
    /// Containers at once; 0 = no limit.
    pub max_containers: u32,
    /// Percent of the disk of containers below which none is made; 0 = no limit.
    pub min_free_disk: u8,
}

impl Default for LocalPolicy {
    fn default() -> Self {
        Self {
            host_network: Permit::Deny,
            sudo: Permit::Allow,
            root_in_container: Permit::Deny,
            uid_min: 10_000,
            registries: Vec::new(),
            max_mem_mib: 0,
            max_containers: 0,
            min_free_disk: 10,
        }
    }
}

/// What the node has besides the container that is judged.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Node {
    /// Containers that were taken and are not gone.
    pub(crate) containers: usize,
    /// Bytes of memory granted to them.
    pub(crate) mem: i64,
    /// Free and all bytes of the disk of containers, where they are known.
    pub(crate) disk: Option<(i64, i64)>,
}

/// Whether a container may be made here; else why not, with the key that says so.
pub(crate) fn check(spec: &ContainerSpec, policy: &LocalPolicy, node: &Node) -> Result<(), String> {
    let against = |key: &str, why: String| {
        Err(format!(
            "this node does not allow it, whatever the coordinator says: local_policy.{key}: {why}"
        ))
    };
    if spec.root && policy.root_in_container == Permit::Deny {
        let why = "its processes would be root inside".to_owned();
        return against("root_in_container", why);
    }
    if spec.sudo && policy.sudo == Permit::Deny {
        return against("sudo", "its user could become root inside".to_owned());
    }
    if spec.uid < policy.uid_min {
        let why = format!("user {} is below {}", spec.uid, policy.uid_min);
        return against("uid_min", why);
    }
    if spec.gid == 0 && policy.uid_min > 0 {
        return against("uid_min", "its group is that of root".to_owned());
    }
    let comes_from = |entry: &String| lies_in(&spec.image, entry);
    if !policy.registries.is_empty() && !policy.registries.iter().any(comes_from) {
        let allowed = policy.registries.join(", ");
        return against("registries", format!("{} is not of {allowed}", spec.image));
    }
    let most = policy.max_containers as usize;
    if most > 0 && node.containers >= most {
        return against("max_containers", format!("there are {most} already"));
    }
    let mem = node.mem.saturating_add(spec.slots.amount(&SlotName::mem()));
    let most = i64::try_from(policy.max_mem_mib.saturating_mul(1 << 20)).unwrap_or(i64::MAX);
    if most > 0 && mem > most {
        let why = format!(
            "all together would have {} of {} MiB",
            mem >> 20,
            policy.max_mem_mib
        );
        return against("max_mem_mib", why);
    }
    if let Some((free, total)) = node.disk {
        let needed = total / 100 * i64::from(policy.min_free_disk);
        if free < needed {
            let why = format!("{} of {} MiB of the disk are free", free >> 20, total >> 20);
            return against("min_free_disk", why);
        }
    }
    Ok(())
}

/// Whether a first part names a server: else it is a name at the usual one. No name has capitals,
/// so the engine takes such a part for a server.
fn is_host(part: &str) -> bool {
    let has_capitals = || part.bytes().any(|byte| byte.is_ascii_uppercase());
    part.contains(['.', ':']) || part == "localhost" || has_capitals()
}

fn host(name: &str) -> String {
    let name = name.to_lowercase();
    match name.as_str() {
        "index.docker.io" | "registry-1.docker.io" => "docker.io".to_owned(),
        _ => name,
    }
}

/// The parts of a reference, the server first, without tag and digest.
fn parts(image: &str) -> Vec<String> {
    let name = image.split('@').next().unwrap_or_default();
    let (server, path) = match name.split_once('/') {
        Some((first, rest)) if is_host(first) => (host(first), rest),
        _ => ("docker.io".to_owned(), name),
    };
    let mut all = vec![server];
    // Those of nobody in particular have a name of their own there.
    if all[0] == "docker.io" && !path.contains('/') {
        all.push("library".to_owned());
    }
    all.extend(path.split('/').map(str::to_owned));
    if let Some(last) = all.last_mut()
        && let Some((bare, _tag)) = last.split_once(':')
    {
        *last = bare.to_owned();
    }
    all
}

/// Whether an image comes from `HOST[/PATH]`: whole parts are compared, as a name that only
/// begins alike is another one.
fn lies_in(image: &str, entry: &str) -> bool {
    let mut entry = entry.trim_end_matches('/').split('/');
    let server = host(entry.next().unwrap_or_default());
    let wanted = std::iter::once(server).chain(entry.map(str::to_owned));
    let mut image = parts(image).into_iter();
    wanted.into_iter().all(|part| image.next() == Some(part))
}

impl LocalPolicy {
    /// # Errors
    /// A value that says nothing, `KEY: text`.
    pub(crate) fn faults(&self) -> Result<(), String> {
        let no_host = |entry: &&String| !is_host(entry.split('/').next().unwrap_or_default());
        if let Some(entry) = self.registries.iter().find(no_host) {
            return Err(format!(
                "local_policy.registries: \"{entry}\" does not begin with a host, such as docker.io"
            ));
        }
        if self.min_free_disk > 95 {
            let percent = self.min_free_disk;
            return Err(format!(
                "local_policy.min_free_disk: {percent} is more than 95 %"
            ));
        }
        Ok(())
    }
}

/// Keys of the policy that something else than a file sets.
///
/// # Errors
/// The first of them, with its place.
pub fn only_from_files(loaded: &Loaded) -> Result<(), String> {
    let of_policy = |path: &[String]| matches!(path, [agent, policy, ..] if agent == "agent" && policy == "local_policy");
    for leaf in loaded.leaves.iter().filter(|leaf| of_policy(&leaf.path)) {
        let shadowed = leaf.shadowed.iter().map(|(origin, _)| origin);
        let mut origins = std::iter::once(&leaf.origin).chain(shadowed);
        if let Some(origin) = origins.find(|origin| origin.kind != From::File) {
            return Err(format!(
                "{}: {}: only a file of root can set this",
                origin.source,
                leaf.path.join(".")
            ));
        }
    }
    Ok(())
}

/// Why a file or directory of this owner and mode is not to be gone by.
fn written_by_others(uid: u32, mode: u32) -> Option<&'static str> {
    // In a sticky directory nobody replaces what is root's.
    let sticky = mode & 0o170_000 == 0o040_000 && mode & 0o1000 != 0;
    match () {
        () if uid != 0 => Some("does not belong to root"),
        () if mode & 0o022 != 0 && !sticky => {
            Some("may be written by others than its owner: chmod go-w it")
        }
        () => None,
    }
}

/// Files that say what a node allows may be written by root alone: all that were read, whatever
/// they set, those they include, and the directories they lie in, where a file can be put in the
/// place of another.
///
/// # Errors
/// One that others may write, or whose owner is not known.
pub fn files_are_roots(loaded: &Loaded) -> Result<(), String> {
    for path in with_directories(&loaded.files) {
        let meta = fs::metadata(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        if let Some(why) = written_by_others(meta.uid(), meta.mode()) {
            return Err(format!("{}: {why}", path.display()));
        }
    }
    Ok(())
}

/// Files and the directories they lie in, where links lead to as well.
fn with_directories(files: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for file in files {
        // One that is gone meanwhile is told of when it is looked at.
        let led_to = file.canonicalize().unwrap_or_else(|_| file.clone());
        for path in [file.clone(), led_to] {
            let directory = match path.parent() {
                Some(directory) if !directory.as_os_str().is_empty() => directory,
                _ => Path::new("."),
            };
            all.insert(directory.to_owned());
            all.insert(path);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::supervisor::tests::entry;
    use longshore_common::session::Want;
    use std::collections::BTreeMap;

    const GIB: i64 = 1 << 30;

    fn wanted(change: impl FnOnce(&mut ContainerSpec)) -> ContainerSpec {
        let mut spec = entry(1, Want::Prepare).spec;
        spec.slots = spec.slots.with(SlotName::mem(), GIB);
        change(&mut spec);
        spec
    }

    /// The key that forbids it.
    fn forbids(spec: &ContainerSpec, policy: &LocalPolicy, node: &Node) -> Option<String> {
        let why = check(spec, policy, node).err()?;
        let (_, rest) = why.split_once("local_policy.").expect("the key is named");
        assert!(why.starts_with("this node does not allow it"), "{why}");
        Some(rest.split(':').next().unwrap_or_default().to_owned())
    }

    #[test]
    fn each_key_forbids_what_it_says_and_nothing_else() {
        let usual = LocalPolicy::default();
        let strict = |change: fn(&mut LocalPolicy)| {
            let mut policy = LocalPolicy::default();
            change(&mut policy);
            policy
        };
        let free = Node::default();
        let full = Node {
            containers: 2,
            mem: 3 * GIB,
            disk: Some((9 * GIB, 100 * GIB)),
        };
        let plain = wanted(|_| ());
        let root = wanted(|spec| spec.root = true);
        let sudo = wanted(|spec| spec.sudo = true);
        let low = wanted(|spec| spec.uid = 9_999);
        let group = wanted(|spec| spec.gid = 0);
        let cases = [
            (&plain, usual.clone(), free, None),
            (&sudo, usual.clone(), free, None),
            (&root, usual.clone(), free, Some("root_in_container")),
            (
                &root,
                strict(|p| p.root_in_container = Permit::Allow),
                free,
                None,
            ),
            (&sudo, strict(|p| p.sudo = Permit::Deny), free, Some("sudo")),
            (&low, usual.clone(), free, Some("uid_min")),
            (&group, usual.clone(), free, Some("uid_min")),
            (&low, strict(|p| p.uid_min = 1000), free, None),
            (&plain, usual.clone(), full, Some("min_free_disk")),
            (&plain, strict(|p| p.min_free_disk = 0), full, None),
            (&plain, strict(|p| p.min_free_disk = 9), full, None),
            (
                &plain,
                strict(|p| p.max_containers = 2),
                full,
                Some("max_containers"),
            ),
            (&plain, strict(|p| p.max_containers = 2), free, None),
            (
                &plain,
                strict(|p| p.max_mem_mib = 4095),
                full,
                Some("max_mem_mib"),
            ),
            (
                &plain,
                strict(|p| (p.max_mem_mib, p.min_free_disk) = (4096, 0)),
                full,
                None,
            ),
            (
                &plain,
                strict(|p| p.registries = vec!["reg.lab".to_owned()]),
                free,
                Some("registries"),
            ),
            (
                &plain,
                strict(|p| p.registries = vec!["docker.io".to_owned()]),
                free,
                None,
            ),
        ];
        for (number, (spec, policy, node, expected)) in cases.iter().enumerate() {
            let key = forbids(spec, policy, node);
            assert_eq!(key.as_deref(), *expected, "case {number}");
        }
    }

    #[test]
    fn registries_are_compared_by_whole_parts() {
        for (image, entry, expected) in [
            ("a.b/c/d:1", "a.b", true),
            ("a.b/c/d:1", "a.b/c", true),
            ("a.b/c@sha256:00", "a.b/c/", true),
            ("A.b:5000/c", "a.B:5000", true),
            ("a.b.evil/c", "a.b", false),
            ("a.b/cc", "a.b/c", false),
            ("evil/a.b/c", "a.b/c", false),
            ("a.b:5000/c", "a.b", false),
            ("a.b/C", "a.b/c", false),
            ("base:1", "docker.io/library", true),
            ("base", "docker.io/team", false),
            ("team/base", "index.docker.io/team", true),
            ("localhost/base", "docker.io", false),
            ("EVIL/x:1", "docker.io", false),
            ("Evil/x", "evil", true),
        ] {
            assert_eq!(lies_in(image, entry), expected, "{image} of {entry}");
        }
        let policy = LocalPolicy {
            registries: vec!["library".to_owned()],
            ..LocalPolicy::default()
        };
        assert!(policy.faults().is_err());
    }

    fn loaded(file: Option<&Path>, name: &str, value: &str) -> Loaded {
        let mut environment = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        if file.is_none() {
            environment.insert("LONGSHORE_CONFIG_DIR".to_owned(), "/nowhere".to_owned());
        }
        Config::load(file, &environment, Vec::new()).unwrap().1
    }

    #[test]
    fn only_files_set_it() {
        let name = "LONGSHORE__AGENT__LOCAL_POLICY__ROOT_IN_CONTAINER";
        let set = loaded(None, name, "allow");
        let why = only_from_files(&set).unwrap_err();
        assert!(
            why.contains("agent.local_policy.root_in_container"),
            "{why}"
        );
        assert!(why.contains(name), "{why}");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        fs::write(&path, "[local_policy]\nsudo = \"deny\"\n").unwrap();
        let set = loaded(Some(&path), "UNRELATED", "1");
        assert_eq!(only_from_files(&set), Ok(()));
        assert_eq!(set.files, std::slice::from_ref(&path));
        // Nor what a file stands behind.
        let hidden = loaded(Some(&path), "LONGSHORE__AGENT__LOCAL_POLICY__SUDO", "allow");
        assert!(only_from_files(&hidden).is_err());
    }

    #[test]
    fn files_that_others_may_write_are_not_gone_by() {
        assert_eq!(written_by_others(0, 0o100_644), None);
        assert_eq!(written_by_others(0, 0o100_600), None);
        assert!(written_by_others(1000, 0o100_600).is_some());
        assert!(written_by_others(0, 0o100_664).is_some());
        assert!(written_by_others(0, 0o100_602).is_some());
    }

    #[test]
    fn what_a_file_includes_and_the_directories_are_roots_too() {
        use std::os::unix::fs::{PermissionsExt as _, chown};
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("more");
        fs::create_dir(&below).unwrap();
        let (path, more) = (dir.path().join("agent.conf"), below.join("more.conf"));
        fs::write(&path, "include \"more/more.conf\"\n").unwrap();
        fs::write(&more, "max_containers = 3\n").unwrap();
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        let may = || files_are_roots(&loaded(Some(&path), "UNRELATED", "1"));
        for (path, well) in [(&path, 0o600), (&more, 0o600), (&below, 0o755)] {
            mode(path, well).unwrap();
        }
        // Whoever runs the tests without being root owns them all.
        if fs::metadata(&path).unwrap().uid() != 0 {
            assert!(may().is_err());
            return;
        }
        assert_eq!(may(), Ok(()));
        for path in [&path, &more, &below] {
            let well = fs::metadata(path).unwrap().mode();
            mode(path, well | 0o020).unwrap();
            let why = may().unwrap_err();
            assert!(why.starts_with(&format!("{}: ", path.display())), "{why}");
            mode(path, well).unwrap();
            chown(path, Some(1000), None).unwrap();
            assert!(may().is_err(), "{}", path.display());
            chown(path, Some(0), None).unwrap();
        }
        mode(&below, 0o1777).unwrap();
        assert_eq!(may(), Ok(()), "as below /tmp");
    }
}
