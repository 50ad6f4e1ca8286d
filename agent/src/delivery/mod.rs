//! What a container is given beside its order: where each file goes, what is made from the
//! merged document, and which names of the environment are nobody's to set.
//!
//! This part is pure; `store` writes it to a tmpfs of the host.

pub mod cluster;
pub mod store;

use longshore_common::wire::{DeliveredFile, Delivery, NoticeKind, Owner};
use serde_json::Value;
use std::collections::BTreeSet;

/// Home of the user inside every container.
pub const HOME: &str = "/home/work";
/// Where Longshore's own secret files lie inside every container.
pub const SECRETS: &str = "/run/longshore/secrets";
/// Where the keys of a session of several containers lie inside each of them.
pub const CLUSTER: &str = "/run/longshore/cluster";
/// Below which directories files may be put, when the agent's configuration says nothing else.
pub const ROOTS: [&str; 4] = [HOME, "/work", "/tmp", SECRETS];

/// The merged document; always made.
const CONFIG: &str = "config.json";
/// Git's store of credentials.
const GIT: &str = "git-credentials";
/// Configuration of pip.
const PIP: &str = "pip.conf";
/// Longshore's own secret files.
const OWN: [&str; 3] = [CONFIG, GIT, PIP];

/// A file that is to be put into a container.
#[derive(Clone, PartialEq, Eq)]
pub struct Placed {
    /// Absolute path inside, without `..` and double slashes.
    pub target: String,
    /// What was delivered.
    pub file: DeliveredFile,
}

/// Something a person should hear about a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileNote {
    /// [`NoticeKind::FileKept`] or [`NoticeKind::FileSkipped`].
    pub kind: NoticeKind,
    /// In words, without contents.
    pub text: String,
}

/// Which files go where.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Files that can be placed as far as their path says.
    pub files: Vec<Placed>,
    /// Those that cannot.
    pub notes: Vec<FileNote>,
    /// Environment of the container, below Longshore's own.
    pub environment: Vec<(String, String)>,
}

/// What was made on the host for a container, for the request that creates it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Delivered {
    /// What is bound into it besides `/run/longshore`.
    pub files: Vec<store::BoundFile>,
    /// Over the image's environment, under Longshore's own.
    pub environment: Vec<(String, String)>,
    /// What its people should hear.
    pub notes: Vec<FileNote>,
    /// What it was placed as, signed, for its label; empty = there is none.
    pub record: String,
}

// Values of the environment must not reach a log by way of `{:?}`.
impl std::fmt::Debug for Delivered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivered")
            .field("files", &self.files)
            .field("environment", &self.environment.len())
            .field("notes", &self.notes)
            .finish()
    }
}

/// A file that is required cannot be delivered; in words, without contents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Required(pub String);

/// Says where everything goes. `roots` are the directories under which files may lie, `mounted`
/// the targets of folders: what lies in one would reach shared storage.
///
/// # Errors
/// [`Required`] when a file cannot be placed without which the container must not start.
pub fn plan(delivery: &Delivery, roots: &[String], mounted: &[&str]) -> Result<Plan, Required> {
    let mut plan = Plan::default();
    let mut taken = BTreeSet::new();
    for file in &delivery.files {
        let found = target(&file.path, roots, mounted).and_then(|target| {
            let is_own = |path: &String| target == *path || beneath(&target, path);
            if OWN.iter().any(|name| is_own(&path_of(name))) {
                return Err("Longshore makes this file itself".to_owned());
            }
            // No file is a directory as well.
            let crosses = |path: &String| beneath(&target, path) || beneath(path, &target);
            if taken.contains(&target) || taken.iter().any(crosses) {
                return Err("another file has this path, or one above or below it".to_owned());
            }
            taken.insert(target.clone());
            Ok(target)
        });
        match found {
            Ok(target) => plan.files.push(Placed {
                target,
                file: file.clone(),
            }),
            Err(why) => plan.notes.push(skipped(file, &why)?),
        }
    }
    plan.environment = delivery
        .environment
        .iter()
        .filter(|(name, value)| is_settable(name, value))
        .cloned()
        .collect();
    let document = match delivery.config_json.as_slice() {
        [] => b"{}".as_slice(),
        text => text,
    };
    plan.files.push(own_file(CONFIG, document.to_vec()));
    // It was made by the coordinator; one that does not read has nothing to derive from.
    let tree: Value = serde_json::from_slice(document).unwrap_or_default();
    if let Some(lines) = git_credentials(&tree) {
        plan.files.push(own_file(GIT, lines.into_bytes()));
        use_git_credentials(&mut plan.environment);
    }
    if let Some(text) = pip_conf(&tree) {
        plan.files.push(own_file(PIP, text.into_bytes()));
        set(&mut plan.environment, "PIP_CONFIG_FILE", path_of(PIP));
    }
    Ok(plan)
}

/// What is said of a file that is left out.
///
/// # Errors
/// [`Required`] when it must not be left out.
pub fn skipped(file: &DeliveredFile, why: &str) -> Result<FileNote, Required> {
    let text = format!("{} was not delivered to {}: {why}", file.label, file.path);
    if file.required {
        return Err(Required(text));
    }
    Ok(FileNote {
        kind: NoticeKind::FileSkipped,
        text,
    })
}

/// What is said of a file of the image that stays.
#[must_use]
pub fn kept(file: &DeliveredFile) -> FileNote {
    FileNote {
        kind: NoticeKind::FileKept,
        text: format!(
            "{} was not delivered: the image has {}",
            file.label, file.path
        ),
    }
}

fn own_file(name: &str, contents: Vec<u8>) -> Placed {
    let path = path_of(name);
    Placed {
        target: path.clone(),
        file: DeliveredFile {
            label: name.to_owned(),
            path,
            contents,
            mode: 0o400,
            owner: Owner::User,
            overwrite: true,
            required: false,
            vault: None,
        },
    }
}

fn path_of(name: &str) -> String {
    format!("{SECRETS}/{name}")
}

/// The absolute path inside the container.
fn target(path: &str, roots: &[String], mounted: &[&str]) -> Result<String, String> {
    let whole = ["~", "$HOME", "${HOME}"].iter().find_map(|home| {
        let rest = path.strip_prefix(home)?;
        rest.starts_with('/').then(|| format!("{HOME}{rest}"))
    });
    let whole = whole.unwrap_or_else(|| path.to_owned());
    let refused = || format!("Path {path} is not under an allowed directory.");
    let plain = whole.starts_with('/') && !whole.chars().any(char::is_control);
    let parts: Vec<&str> = whole
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    if !plain || parts.contains(&"..") || whole.ends_with('/') {
        return Err(refused());
    }
    let clean = format!("/{}", parts.join("/"));
    // The kernel's own trees are no place for files, whatever the configuration says.
    let kernel = ["/proc", "/sys", "/dev"].iter();
    if kernel.into_iter().any(|root| beneath(&clean, root))
        || !roots.iter().any(|root| beneath(&clean, root))
    {
        return Err(refused());
    }
    if mounted
        .iter()
        .any(|folder| clean == *folder || beneath(&clean, folder))
    {
        return Err("it lies in a mounted folder".to_owned());
    }
    Ok(clean)
}

/// Whether a path lies below a directory, and is not the directory itself.
fn beneath(path: &str, directory: &str) -> bool {
    let directory = directory.trim_end_matches('/');
    path.strip_prefix(directory)
        .is_some_and(|rest| rest.starts_with('/') && rest.len() > 1)
}

/// Whether a name may come from outside Longshore. The coordinator refuses the others; this is
/// the second wall.
#[must_use]
pub fn is_settable(name: &str, value: &str) -> bool {
    const PREFIXES: [&str; 4] = ["LONGSHORE_", "NVIDIA_", "CUDA_MPS_", "DOCKER_"];
    const NAMES: [&str; 4] = [
        "CUDA_VISIBLE_DEVICES",
        "ROCR_VISIBLE_DEVICES",
        "HIP_VISIBLE_DEVICES",
        "SUDO_SESSION_ENABLED",
    ];
    let form = !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0');
    let loader = name.starts_with("LD_") && name != "LD_LIBRARY_PATH";
    form && !loader && !NAMES.contains(&name) && !PREFIXES.iter().any(|p| name.starts_with(p))
}

fn set(environment: &mut Vec<(String, String)>, name: &str, value: String) {
    environment.retain(|(known, _)| known != name);
    environment.push((name.to_owned(), value));
}

/// Git is told of the store by variables: they need no file of the image, and those the user
/// has stay in force.
fn use_git_credentials(environment: &mut Vec<(String, String)>) {
    let count = environment
        .iter()
        .find(|(name, _)| name == "GIT_CONFIG_COUNT");
    let used = count.and_then(|(_, value)| value.parse::<u32>().ok());
    let next = used.unwrap_or(0).min(10_000);
    let helper = format!("store --file={}", path_of(GIT));
    set(
        environment,
        &format!("GIT_CONFIG_KEY_{next}"),
        "credential.helper".to_owned(),
    );
    set(environment, &format!("GIT_CONFIG_VALUE_{next}"), helper);
    set(environment, "GIT_CONFIG_COUNT", (next + 1).to_string());
}

/// Lines of git's store: `https://user:password@host`.
fn git_credentials(tree: &Value) -> Option<String> {
    let git = tree.pointer("/agent/git")?;
    let one = |entry: &Value| {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
        let (user, password, host) = (text("user"), text("password"), text("host"));
        if user.is_empty() || password.is_empty() || host.is_empty() {
            return None;
        }
        let host = host.trim_start_matches("https://").trim_end_matches('/');
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:/[]".contains(c);
        // A line of this file is all there is between one credential and the next.
        host.chars().all(plain).then(|| {
            let (user, password) = (escaped(user), escaped(password));
            format!("https://{user}:{password}@{host}\n")
        })
    };
    let list = git.get("credentials").and_then(Value::as_array);
    let all = list.into_iter().flatten().chain([git]);
    let lines: String = all.filter_map(one).collect();
    (!lines.is_empty()).then_some(lines)
}

/// Every byte that is not plain in a URL, as `%xx`.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

fn pip_conf(tree: &Value) -> Option<String> {
    let pip = tree.pointer("/agent/pip")?;
    // A line break in a value would begin a setting of its own.
    let url = |value: &Value| {
        let text = value.as_str()?.trim();
        let plain = !text.is_empty() && !text.chars().any(|c| c.is_control() || c == ' ');
        plain.then(|| text.to_owned())
    };
    let mut lines = String::new();
    if let Some(index) = pip.get("index_url").and_then(url) {
        lines.push_str(&format!("index-url = {index}\n"));
    }
    let extra = pip.get("extra_index_urls").and_then(Value::as_array);
    let extra: Vec<String> = extra.into_iter().flatten().filter_map(url).collect();
    if !extra.is_empty() {
        lines.push_str(&format!(
            "extra-index-url =\n    {}\n",
            extra.join("\n    ")
        ));
    }
    (!lines.is_empty()).then(|| format!("[global]\n{lines}"))
}

/// The login for the registry of an image, if there is one.
#[must_use]
pub fn login_of<'a>(
    image: &str,
    logins: &'a [longshore_common::wire::RegistryLogin],
) -> Option<&'a longshore_common::wire::RegistryLogin> {
    let first = image.split_once('/').map(|(first, _)| first);
    let is_host = |name: &&str| name.contains(['.', ':']) || *name == "localhost";
    let host = first.filter(is_host).unwrap_or("docker.io");
    const HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];
    logins.iter().find(|login| {
        let named = login
            .host
            .trim_start_matches("https://")
            .trim_end_matches('/');
        named.eq_ignore_ascii_case(host) || (HUB.contains(&host) && HUB.contains(&named))
    })
}

#[cfg(test)]
mod tests;
