//! What the configurations of nodes set for the sessions on them, as their agents said last. It is
//! kept in memory alone: every connection begins with it.

use super::Vaults;
use longshore_common::ids::AgentId;
use longshore_common::wire::{MAX_TEXT, NodeLayers};
use longshore_config::work::flat::Flat;
use longshore_config::work::keys;
use longshore_config::work::layers::{Document, Layer};
use longshore_config::work::{self};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Files and variables of one agent at most.
const MOST: usize = 1024;
/// Before what every file of an agent is called.
const PROGRAM: &str = "agent:";
/// Before every variable.
const VARIABLE: &str = "LONGSHORE__";

/// Why what an agent says of its configuration is not taken. No value is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untold {
    /// It cannot be read.
    #[error("it is no list of documents")]
    Damaged,
    /// More than any agent has.
    #[error("it has more than {MOST} documents")]
    TooMany,
    /// A document that is none of an agent's.
    #[error("a document says that it is of another kind or program")]
    Foreign,
    /// What a document sets.
    #[error("{0}")]
    Wrong(String),
}

/// By agent, in the order in which they fold.
#[derive(Debug, Clone, Default)]
pub(super) struct Nodes(Arc<Mutex<BTreeMap<AgentId, Vec<Document>>>>);

impl Nodes {
    fn all(&self) -> MutexGuard<'_, BTreeMap<AgentId, Vec<Document>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a node sets.
    pub(super) fn of(&self, agent: AgentId) -> Vec<Document> {
        self.all().get(&agent).cloned().unwrap_or_default()
    }
}

impl Vaults {
    /// An agent says what its configuration sets for the sessions on its node. Where it is not
    /// taken the node sets nothing.
    ///
    /// # Errors
    /// [`Untold`].
    pub fn take_layers(&self, agent: AgentId, layers: &NodeLayers) -> Result<(), Untold> {
        let mut all = self.nodes.all();
        all.remove(&agent);
        let documents = documents(layers)?;
        if !documents.is_empty() {
            all.insert(agent, documents);
        }
        Ok(())
    }
}

/// What an agent says, looked at as what a vault holds is: no key of a machine, no vault.
fn documents(layers: &NodeLayers) -> Result<Vec<Document>, Untold> {
    if layers.documents.is_empty() {
        return Ok(Vec::new());
    }
    let flat: Result<Vec<Flat>, _> = serde_json::from_slice(&layers.documents);
    let flat = flat.map_err(|_| Untold::Damaged)?;
    if flat.len() > MOST {
        return Err(Untold::TooMany);
    }
    flat.into_iter().enumerate().map(document).collect()
}

fn document((at, flat): (usize, Flat)) -> Result<Document, Untold> {
    let mut document = flat.document().map_err(|_| Untold::Damaged)?;
    let source = &document.source;
    let is_own = match document.kind {
        Layer::File => source.starts_with(PROGRAM),
        Layer::Environment => source.starts_with(VARIABLE),
        _ => false,
    };
    if !is_own || source.len() > MAX_TEXT || source.chars().any(char::is_control) {
        return Err(Untold::Foreign);
    }
    let (tree, _) = keys::allowed(&document.tree);
    work::findings(&tree).map_err(|found| {
        let first = found.first().map(|one| one.message.clone());
        Untold::Wrong(first.unwrap_or_default())
    })?;
    document.tree = tree;
    document.version = None;
    document.places = document.kind == Layer::File;
    // Never that of a document of the coordinator's own: no two of them are rivals.
    document.priority = (1 << 32) + i64::try_from(at).unwrap_or(i64::MAX >> 1);
    Ok(document)
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_config::read::{Format, read};
    use longshore_config::work::layers::{self, merge};

    fn told(kind: Layer, source: &str, text: &str) -> NodeLayers {
        let tree = read(Format::Yaml, text.as_bytes()).unwrap();
        let one = layers::document(kind, source.to_owned(), true, 0, tree);
        let flat = [Flat::of(&one).unwrap()];
        NodeLayers {
            documents: serde_json::to_vec(&flat).unwrap(),
        }
    }

    #[test]
    fn an_agent_speaks_for_its_own_files_and_variables_alone() {
        let text = "environment: {A: 1}";
        for (kind, source, taken) in [
            (Layer::File, "agent:/etc/longshore/agent.toml", true),
            (Layer::Environment, "LONGSHORE__ENVIRONMENT__A", true),
            (Layer::File, "coordinator:/etc/longshore/work.toml", false),
            (Layer::File, "agent:\u{1b}[2J", false),
            (Layer::Environment, "PATH", false),
            (Layer::LockedVault, "agent:x", false),
            (Layer::PersonalVault, "agent:x", false),
            (Layer::CommandLine, "agent:x", false),
        ] {
            let found = documents(&told(kind, source, text));
            assert_eq!(found.is_ok(), taken, "{kind} {source}");
        }
    }

    #[test]
    fn what_it_says_is_looked_at_as_what_a_vault_holds_is() {
        let of = |text: &str| documents(&told(Layer::File, "agent:/x", text));
        let found = of("agent: {group: x, git: {user: a}}").unwrap();
        let merged = merge(found);
        assert_eq!(merged.canonical(), r#"{"agent":{"git":{"user":"a"}}}"#);
        for wrong in [
            "environment: {LD_PRELOAD: hunter2}",
            "files: {x: {path: /etc/passwd, contents: hunter2}}",
            "agent: {apply_files: hunter2}",
        ] {
            let why = of(wrong).unwrap_err();
            assert!(matches!(why, Untold::Wrong(_)), "{why}");
            assert!(!why.to_string().contains("hunter2"), "{why}");
        }
        for documents_ in ["{}", "[7]", "[", "[{}]"] {
            let layers = NodeLayers {
                documents: documents_.as_bytes().to_vec(),
            };
            assert_eq!(documents(&layers).unwrap_err(), Untold::Damaged);
        }
    }
}
