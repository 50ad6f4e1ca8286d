//! What a container gets of the outcome of a merge. Its agent makes the files that follow from
//! `config.json`: those of git and pip.

use super::files::{self, FileEntry, MAX_FILES};
use super::layers::{Layer, Merged};
use super::{environment, keys};
use crate::merge::Leaf;
use crate::tree::{Node, Value};
use longshore_common::wire::{
    DeliveredFile, Delivery, MAX_DELIVERED_REGISTRIES, MAX_ENVIRONMENT, MAX_LIST, MAX_TEXT,
    RegistryLogin,
};
use std::collections::BTreeMap;

/// Something that is not delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Label of the file, or name of the variable.
    pub what: String,
    /// One sentence.
    pub why: String,
    /// The vault it came from, if it came from one.
    pub vault: Option<String>,
}

/// A required vault that cannot be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undeliverable {
    /// Which.
    pub vault: String,
    /// One sentence.
    pub why: String,
}

/// Makes what a container gets. `required` says of a vault whether nothing starts without it.
///
/// # Errors
/// The first thing of a required vault that cannot be delivered.
pub fn deliver(
    merged: &Merged,
    required: impl Fn(&str) -> bool,
) -> Result<(Delivery, Vec<Skipped>), Undeliverable> {
    let mut making = Making {
        merged,
        required: &required,
        delivery: Delivery::default(),
        skipped: Vec::new(),
    };
    if making.applies("agent.apply_environment") {
        making.environment()?;
    }
    if making.applies("agent.apply_files") {
        making.files()?;
    }
    making.registries();
    let Making {
        mut delivery,
        skipped,
        ..
    } = making;
    let config = merged.for_container().to_json().to_string();
    delivery.config_json = config.into_bytes();
    delivery.environment.sort();
    delivery.files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((delivery, skipped))
}

struct Making<'a> {
    merged: &'a Merged,
    required: &'a dyn Fn(&str) -> bool,
    delivery: Delivery,
    skipped: Vec<Skipped>,
}

fn vault_of(leaf: &Leaf<Layer>) -> Option<String> {
    let vault = leaf.origin.kind.is_vault();
    vault.then(|| leaf.origin.source.clone())
}

impl Making<'_> {
    fn applies(&self, key: &str) -> bool {
        !matches!(
            self.merged.get(key).map(|node| &node.value),
            Some(Value::Bool(false))
        )
    }

    /// The leaves right below a free map.
    fn below(&self, root: &str) -> Vec<(String, Leaf<Layer>)> {
        let leaves = self.merged.leaves.iter();
        leaves
            .filter_map(|leaf| match &leaf.path[..] {
                [first, name] if first == root => Some((name.clone(), leaf.clone())),
                _ => None,
            })
            .collect()
    }

    fn skip(&mut self, what: &str, why: String, leaf: &Leaf<Layer>) -> Result<(), Undeliverable> {
        let vault = vault_of(leaf);
        if let Some(vault) = vault.clone().filter(|id| (self.required)(id)) {
            return Err(Undeliverable { vault, why });
        }
        self.skipped.push(Skipped {
            what: what.to_owned(),
            why,
            vault,
        });
        Ok(())
    }

    fn environment(&mut self) -> Result<(), Undeliverable> {
        let mut all = self.below("environment");
        // Where there is no room for all, what stands highest has it.
        all.sort_by_key(|(_, leaf)| std::cmp::Reverse(leaf.origin.kind));
        let mut bytes = 0;
        for (name, leaf) in all {
            let Some(node) = &leaf.value else { continue };
            let fault = environment::name_fault(&name)
                .or_else(|| environment::value_fault(&name, node.text()));
            match (fault, node.text()) {
                (None, Some(text)) => {
                    let more = name.len() + text.len();
                    let full = self.delivery.environment.len() >= MAX_LIST;
                    if full || bytes + more > MAX_ENVIRONMENT {
                        let why = "There is no room for so many variables.";
                        self.skip(&name, why.to_owned(), &leaf)?;
                        continue;
                    }
                    bytes += more;
                    let pair = (name, text.to_owned());
                    self.delivery.environment.push(pair);
                }
                (why, _) => self.skip(&name, why.unwrap_or_default(), &leaf)?,
            }
        }
        Ok(())
    }

    fn files(&mut self) -> Result<(), Undeliverable> {
        // Of two with one path the higher layer's holds, then that of the greater label.
        let mut by_path: BTreeMap<String, (Leaf<Layer>, String, FileEntry)> = BTreeMap::new();
        for (label, leaf) in self.below("files") {
            let Some(node) = &leaf.value else { continue };
            let entry = match files::entry(&label, node.at, node) {
                Ok(entry) => entry,
                Err(found) => {
                    let why = found.first().map(|f| f.message.clone());
                    self.skip(&label, why.unwrap_or_default(), &leaf)?;
                    continue;
                }
            };
            let path = entry.path.clone();
            let new = (leaf, label, entry);
            let Some(old) = by_path.remove(&path) else {
                by_path.insert(path, new);
                continue;
            };
            let rank = |(leaf, label, _): &(Leaf<Layer>, String, FileEntry)| {
                (leaf.origin.kind, leaf.origin.priority(), label.clone())
            };
            let (kept, left) = match rank(&old) > rank(&new) {
                true => (old, new),
                false => (new, old),
            };
            let why = format!("Files {} and {} have the same path.", kept.1, left.1);
            self.skipped.push(Skipped {
                what: left.1,
                why,
                vault: vault_of(&left.0),
            });
            by_path.insert(path, kept);
        }
        let mut sum = 0;
        let mut all: Vec<_> = by_path.into_values().collect();
        all.sort_by_key(|(leaf, ..)| std::cmp::Reverse(leaf.origin.kind));
        for (leaf, label, entry) in all {
            sum += entry.contents.len();
            let many = self.delivery.files.len() >= MAX_LIST;
            if sum > MAX_FILES || many || label.len() > MAX_TEXT {
                sum -= entry.contents.len();
                let why = "Files must be at most 1 MiB together, and at most 1024, with labels of at most 4096 bytes.";
                self.skip(&label, why.to_owned(), &leaf)?;
                continue;
            }
            let vault = vault_of(&leaf);
            self.delivery.files.push(DeliveredFile {
                label,
                path: entry.path,
                contents: entry.contents,
                mode: entry.mode,
                owner: entry.owner,
                overwrite: entry.overwrite,
                required: vault.as_deref().is_some_and(self.required),
                vault,
            });
        }
        Ok(())
    }

    fn registries(&mut self) {
        for item in list(self.merged, "agent.registries") {
            let text = |name| {
                let node = item.get(name).and_then(Node::text);
                node.unwrap_or_default().to_owned()
            };
            let login = RegistryLogin {
                host: text("host"),
                username: text("username"),
                password: text("password"),
            };
            let texts = [&login.host, &login.username, &login.password];
            let fits = texts.iter().all(|text| text.len() <= MAX_TEXT);
            match fits && self.delivery.registries.len() < MAX_DELIVERED_REGISTRIES {
                true => self.delivery.registries.push(login),
                false => self.skipped.push(Skipped {
                    what: "agent.registries".to_owned(),
                    why: format!(
                        "At most {MAX_DELIVERED_REGISTRIES} logins of texts of at most {MAX_TEXT} bytes are given."
                    ),
                    vault: None,
                }),
            }
        }
    }
}

/// The items of a list of the right type; those of another are as none.
fn list<'a>(merged: &'a Merged, path: &str) -> &'a [Node] {
    let known = keys::KNOWN.iter().find(|(known, _)| *known == path);
    let node = merged.get(path);
    match (known, node) {
        (Some((_, kind)), Some(node)) if kind.takes(node) => match &node.value {
            Value::List(items) => items,
            _ => &[],
        },
        _ => &[],
    }
}
