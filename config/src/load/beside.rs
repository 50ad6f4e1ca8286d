//! What an agent's files and variables set for the sessions on its node: `environment`, `files`,
//! and those keys below `agent` that vaults have too. They stand beside the agent's own keys and
//! are told apart here.

use super::{File, Loading};
use crate::schema::Schema;
use crate::tree::{Entry, Node, Value, dotted};
use crate::work::keys::{self, FREE, Found};
use crate::work::layers;

/// The root that programs have whose keys and those of sessions stand beside each other.
const ROOT: &str = "environment";
/// These are decided when a session is submitted, before it has a node.
const TOO_EARLY: [&str; 2] = ["agent.default_image", "agent.working_dir"];
/// What an agent hides in its own log, and in what is told of the sessions on it.
const BOTH: &str = "agent.redact";

/// Whether a program sets something for sessions beside its own keys.
pub(super) fn is_wanted(schema: &Schema) -> bool {
    schema.roots.contains(&ROOT)
}

/// Whose a key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// The program's own.
    Own,
    /// That of the sessions.
    Sessions,
    /// Of either.
    Both,
    /// Of sessions, but it would come too late.
    Nobody,
}

/// Whose a key is; of the beginning of keys, whether all below it are.
pub(super) fn whose(path: &[String]) -> Whose {
    let text = dotted(path);
    match keys::find(path) {
        _ if path.first().is_none_or(|root| root == "client") => Whose::Own,
        _ if text == BOTH => Whose::Both,
        _ if TOO_EARLY.contains(&text.as_str()) => Whose::Nobody,
        Found::Section if path.len() == 1 && !FREE.contains(&text.as_str()) => Whose::Own,
        Found::Key(_) | Found::Free | Found::Section => Whose::Sessions,
        Found::Unknown => Whose::Own,
    }
}

/// Why a key of nobody is refused.
pub(super) fn too_late(path: &[String]) -> String {
    format!(
        "{} is decided before a session has a node; set it in a vault, or below work in the coordinator's files",
        dotted(path)
    )
}

/// A path of a variable: keys in lower case, names that are free as they are.
pub(super) fn lowered(parts: &[String]) -> Vec<String> {
    let mut path: Vec<String> = Vec::new();
    for part in parts {
        let free = path.len() == 1 && FREE.contains(&path[0].as_str());
        path.push(match free {
            true => part.clone(),
            false => part.to_ascii_lowercase(),
        });
    }
    path
}

impl Loading<'_> {
    /// Takes what is set for sessions out of a file; what is left is the program's own.
    pub(super) fn take_beside(&mut self, tree: Node, file: &File, name: &str) -> Option<Node> {
        let mut path = file.under.clone();
        let (given, own) = self.parted(tree, &mut path, name);
        if let Some(given) = given {
            let tree = layers::under(&file.under, given);
            // Sessions make nothing of these: a vault may hold them, a mistyped key may not pass.
            for one in keys::unknown(&tree) {
                let place = match one.at.line {
                    0 => name.to_owned(),
                    _ => format!("{name}:{}", one.at),
                };
                let near = one.near.map(|near| format!("; did you mean {near}?"));
                let near = near.unwrap_or_default();
                self.fault(place, format!("unknown key {}{near}", one.path));
            }
            self.give(tree, "agent", name, "");
        }
        own
    }

    /// What of a node is for sessions, and what is the program's own.
    fn parted(
        &mut self,
        node: Node,
        path: &mut Vec<String>,
        name: &str,
    ) -> (Option<Node>, Option<Node>) {
        match whose(path) {
            Whose::Sessions => return (Some(node), None),
            Whose::Both => return (Some(node.clone()), Some(node)),
            Whose::Nobody => {
                self.fault(format!("{name}:{}", node.at), too_late(path));
                return (None, None);
            }
            Whose::Own => (),
        }
        // Only the top and `agent` hold keys of both kinds.
        let is_mixed = matches!(path.as_slice(), [] | [_]) && path.iter().all(|p| p == "agent");
        let Value::Map(entries) = node.value else {
            return (None, Some(node));
        };
        if !is_mixed {
            let value = Value::Map(entries);
            return (None, Some(Node { value, ..node }));
        }
        let (mut given, mut own) = (Vec::new(), Vec::new());
        for Entry {
            name: key,
            at,
            node,
        } in entries
        {
            path.push(key.clone());
            let (one, other) = self.parted(node, path, name);
            path.pop();
            given.extend(one.map(|node| Entry {
                name: key.clone(),
                at,
                node,
            }));
            own.extend(other.map(|node| Entry {
                name: key,
                at,
                node,
            }));
        }
        let map = |entries| Node {
            at: node.at,
            value: Value::Map(entries),
        };
        let given = (!given.is_empty()).then(|| map(given));
        (given, Some(map(own)))
    }
}
