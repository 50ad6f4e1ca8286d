//! Which keys there are, of which type, and which belong to a machine.

use super::few::Few;
use crate::read::brief;
use crate::schema::nearest;
use crate::tree::{Entry, Mark, Node, Value, told};

/// The type of a work key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true`, `false`.
    Bool,
    /// Any text.
    Text,
    /// A text that is shown as a mask.
    Secret,
    /// An address of the web.
    Url,
    /// A list of them.
    Urls,
    /// A list of texts.
    Texts,
    /// A list of maps that have just these members, all of them texts.
    Entries(&'static [&'static str]),
}

impl Kind {
    /// What to call it in messages.
    #[must_use]
    pub fn wanted(self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Text | Self::Secret => "text".to_owned(),
            Self::Url => "a URL".to_owned(),
            Self::Urls => "a list of URLs".to_owned(),
            Self::Texts => "a list of texts".to_owned(),
            Self::Entries(members) => {
                let (last, first) = members.split_last().unwrap_or((&"", &[]));
                format!("a list of maps with {} and {last}", first.join(", "))
            }
        }
    }

    /// Whether a value is of this type.
    #[must_use]
    pub fn takes(self, node: &Node) -> bool {
        let all = |wanted: Self| match &node.value {
            Value::List(items) => items.iter().all(|item| wanted.takes(item)),
            _ => false,
        };
        match self {
            Self::Bool => matches!(node.value, Value::Bool(_)),
            Self::Text | Self::Secret => node.text().is_some(),
            Self::Url => node.text().is_some_and(is_url),
            Self::Urls => all(Self::Url),
            Self::Texts => all(Self::Text),
            Self::Entries(members) => match &node.value {
                Value::List(items) => items.iter().all(|item| {
                    item.entries().is_some_and(|entries| {
                        entries.len() == members.len()
                            && members
                                .iter()
                                .all(|m| item.get(m).is_some_and(|n| n.text().is_some()))
                    })
                }),
                _ => false,
            },
        }
    }
}

/// `http://host…` or `https://host…` without spaces.
fn is_url(text: &str) -> bool {
    let rest = ["https://", "http://"]
        .iter()
        .find_map(|scheme| text.strip_prefix(scheme));
    rest.is_some_and(|rest| {
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let host = host.rsplit('@').next().unwrap_or_default();
        let good = |c: char| c.is_ascii_graphic();
        !host.is_empty() && !host.starts_with(':') && rest.chars().all(good)
    })
}

/// The keys with a type, dotted. `environment` and `files` are maps with free names.
pub const KNOWN: &[(&str, Kind)] = &[
    ("agent.apply_environment", Kind::Bool),
    ("agent.apply_files", Kind::Bool),
    ("agent.default_image", Kind::Text),
    ("agent.working_dir", Kind::Text),
    ("agent.git.user", Kind::Text),
    ("agent.git.password", Kind::Secret),
    ("agent.git.host", Kind::Text),
    (
        "agent.git.credentials",
        Kind::Entries(&["host", "user", "password"]),
    ),
    ("agent.pip.index_url", Kind::Url),
    ("agent.pip.extra_index_urls", Kind::Urls),
    (
        "agent.registries",
        Kind::Entries(&["host", "username", "password"]),
    ),
    ("agent.redact", Kind::Texts),
    ("client.project", Kind::Text),
    ("client.group", Kind::Text),
    ("client.image", Kind::Text),
    ("client.preset", Kind::Text),
    ("client.output", Kind::Text),
    ("client.notify", Kind::Text),
];

/// Maps whose names are free.
pub const FREE: [&str; 2] = ["environment", "files"];

/// Roots of the coordinator's own configuration.
const ROOTS: [&str; 5] = ["daemon", "secure", "services", "logging", "work"];

/// What comes behind `agent.` and belongs to a machine.
const MACHINE: [&str; 52] = [
    "address",
    "addresses",
    "allocation",
    "certificate",
    "certificates",
    "coordinator",
    "cuda_version",
    "cudnn_version",
    "debug",
    "default_python",
    "devices",
    "docker",
    "driver_version",
    "firewall",
    "foreign",
    "gpu_way",
    "group",
    "group_from_config",
    "health",
    "heartbeat_s",
    "id",
    "images",
    "labels",
    "limits",
    "listen",
    "local_cordon",
    "local_policy",
    "log",
    "logging",
    "logs",
    "max_containers",
    "metrics",
    "mps",
    "name",
    "network",
    "offered",
    "overlay",
    "paths",
    "quic",
    "reserved",
    "run_dir",
    "runtime",
    "sample_s",
    "schedulable",
    "slots",
    "state_dir",
    "tls",
    "toolkit_floor",
    "vault_file_roots",
    "volumes",
    "worker_id",
    "worker_name",
];

/// Names that are compared as these are: in lower case, `-` as `_`.
fn folded(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

/// What no vault can set.
#[derive(Debug)]
pub(super) struct Forbidden {
    /// The key as it was written, as it is told.
    pub(super) path: String,
    /// Where its name stands.
    pub(super) at: Mark,
    /// Why.
    pub(super) message: String,
}

fn machine(name: &str) -> bool {
    MACHINE.contains(&folded(name).as_str())
}

/// Whether a key of the agent's configuration belongs to a machine: `agent.docker.socket`.
#[must_use]
pub fn is_of_machine(path: &str) -> bool {
    let mut parts = path.split('.');
    let agent = parts.next().is_some_and(|root| folded(root) == "agent");
    agent && parts.next().is_some_and(machine)
}

/// What in a document no vault can set. Setting an ancestor of such a key to anything but a map
/// counts as setting it.
pub(super) fn forbidden(tree: &Node) -> Few<Forbidden> {
    let mut all = Few::default();
    for root in tree.entries().unwrap_or_default() {
        let name = folded(&root.name);
        if ROOTS.contains(&name.as_str()) {
            all.add(|| Forbidden {
                path: told(&[&root.name]),
                at: root.at,
                message: format!(
                    "{} is the coordinator's own configuration and cannot be set in a vault.",
                    brief(&root.name)
                ),
            });
        }
        if name != "agent" {
            continue;
        }
        match root.node.entries() {
            None => all.add(|| of_machine(&[&root.name], root.at)),
            Some(entries) => {
                for entry in entries.iter().filter(|e| machine(&e.name)) {
                    let mut path = vec![root.name.as_str(), entry.name.as_str()];
                    leaves(&entry.node, &mut path, entry.at, &mut all);
                }
            }
        }
    }
    all
}

fn of_machine(path: &[&str], at: Mark) -> Forbidden {
    let path = told(path);
    let message = format!(
        "{} belongs to a machine and cannot be set in a vault.",
        brief(&path)
    );
    Forbidden { path, at, message }
}

fn leaves<'a>(node: &'a Node, path: &mut Vec<&'a str>, at: Mark, all: &mut Few<Forbidden>) {
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            for entry in entries {
                path.push(&entry.name);
                leaves(&entry.node, path, entry.at, all);
                path.pop();
            }
        }
        _ => all.add(|| of_machine(path, at)),
    }
}

/// The document without what no vault can set, and the paths of what was left out: the first
/// hundred, then how many more.
#[must_use]
pub fn allowed(tree: &Node) -> (Node, Vec<String>) {
    let Some(entries) = tree.entries() else {
        return (Node::bare(Value::Map(Vec::new())), Vec::new());
    };
    let found = forbidden(tree).map(|found| found.path);
    let paths = found.all(|more| more);
    if paths.is_empty() {
        return (tree.clone(), Vec::new());
    }
    let mut kept = Vec::new();
    for root in entries {
        let name = folded(&root.name);
        let inner = root.node.entries();
        if ROOTS.contains(&name.as_str()) || (name == "agent" && inner.is_none()) {
            continue;
        }
        let mut root = root.clone();
        if name == "agent"
            && let Value::Map(inner) = &mut root.node.value
        {
            inner.retain(|entry| !machine(&entry.name));
        }
        kept.push(root);
    }
    let tree = Node {
        at: tree.at,
        value: Value::Map(kept),
    };
    (tree, paths)
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A key.
    Key(Kind),
    /// The beginning of keys.
    Section,
    /// A free name, or below one.
    Free,
    /// A key that only the session itself can make something of.
    Unknown,
}

/// What stands at a path. A part with a dot in it is a name of its own, and none of ours.
#[must_use]
pub fn find(path: &[String]) -> Found {
    let [first, rest @ ..] = path else {
        return Found::Section;
    };
    if FREE.contains(&first.as_str()) {
        return match rest {
            [] => Found::Section,
            _ => Found::Free,
        };
    }
    for (known, kind) in KNOWN {
        let mut parts = known.split('.');
        if path.iter().all(|part| parts.next() == Some(part)) {
            return match parts.next() {
                None => Found::Key(*kind),
                Some(_) => Found::Section,
            };
        }
    }
    Found::Unknown
}

/// A key that is none of ours: kept, and told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// Dotted.
    pub path: String,
    /// Where its name stands.
    pub at: Mark,
    /// The known key that looks most like it.
    pub near: Option<&'static str>,
}

/// The keys of a document that are none of ours, each told once, where it begins: the first
/// hundred, then how many more.
#[must_use]
pub fn unknown(tree: &Node) -> Vec<Unknown> {
    fn walk(entries: &[Entry], path: &mut Vec<String>, all: &mut Few<Unknown>) {
        for entry in entries {
            path.push(entry.name.clone());
            match (find(path), entry.node.entries()) {
                (Found::Unknown, _) => all.add(|| {
                    let text = told(path);
                    let known = KNOWN.iter().map(|(known, _)| *known);
                    let near = nearest(&text, known.chain(FREE));
                    Unknown {
                        path: text,
                        at: entry.at,
                        near,
                    }
                }),
                (Found::Section, Some(inner)) => walk(inner, path, all),
                _ => (),
            }
            path.pop();
        }
    }
    let mut all = Few::default();
    walk(
        tree.entries().unwrap_or_default(),
        &mut Vec::new(),
        &mut all,
    );
    all.all(|more| Unknown {
        path: more,
        at: Mark::default(),
        near: None,
    })
}
