//! What vaults hold, in the clear: opened, looked at, sealed, merged. Nothing of it is logged, and
//! nothing outlives the request or the start it was opened for.
//!
//! | input | output |
//! |---|---|
//! | a text that is to be saved | [`NewContent`]: encrypted, or what is wrong with it |
//! | a vault and what it holds | its text, its document |
//! | whose sessions, and a request | the configuration that comes of it, and what a container gets |

mod given;
mod nodes;

pub use given::NotGiven;
pub use nodes::Untold;

use crate::engine::Engine;
use crate::pki::fill_random;
use crate::secrets::{Keyring, Locked, OpenError, Place, Sealed};
use crate::settings::Held;
use crate::store::Reader;
use longshore_common::api::MemberError;
use longshore_common::ids::{AgentId, VaultId};
use longshore_common::redact;
use longshore_config::merge::Leaf;
use longshore_config::read::Format;
use longshore_config::tree::{Node, Value};
use longshore_config::work::layers::{self, Document, Layer, Merged, Warning};
use longshore_config::work::{self, Finding};
use longshore_core::model::admin::NewContent;
use longshore_core::model::{Event, GivenTrees, Refusal, State, User, Vault, VaultContent};
use nodes::Nodes;
use ring::hmac;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use zeroize::Zeroizing;

/// The table and the column of contents.
const TABLE: &str = "vaults";
const COLUMN: &str = "content";
/// After this time it is tried again to open what could not be opened; twice as long each time.
const FIRST_RETRY: Duration = Duration::from_secs(10);
/// The longest time between two tries.
const LAST_RETRY: Duration = Duration::from_secs(300);

/// Why a vault cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Its master key is not there.
    #[error(transparent)]
    Locked(#[from] Locked),
    /// What is stored is no document, or damaged.
    #[error("what is stored of the vault cannot be read")]
    Damaged,
}

/// A vault and what it holds, as copied from the state.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The layer it stands in.
    pub layer: Layer,
    /// The vault.
    pub vault: Vault,
    /// What it holds, if it was ever saved.
    pub content: Option<VaultContent>,
}

impl Kept {
    /// A vault as it is stored.
    #[must_use]
    pub fn of(state: &State, vault: &Vault) -> Self {
        Self {
            layer: vault.layer(),
            vault: vault.clone(),
            content: state.vault_contents.get(&vault.id).cloned(),
        }
    }

    /// The vaults that are switched on and reach somebody's sessions.
    #[must_use]
    pub fn all_for(state: &State, user: &User) -> Vec<Self> {
        let all = state.vaults_for(user).into_iter();
        all.map(|one| Self::of(state, one.vault)).collect()
    }
}

/// What comes of the layers of somebody's sessions.
#[derive(Debug)]
pub struct Configuration {
    /// The outcome.
    pub merged: Merged,
    /// What is worth telling, that of the merge included.
    pub warnings: Vec<Warning>,
    /// The vaults that are in it, and their versions.
    pub used: Vec<(VaultId, u64)>,
    /// A required vault that cannot be used: nothing starts.
    pub in_the_way: Option<(VaultId, Unusable)>,
    /// Names the configuration.
    pub hash: String,
}

/// Vaults as layers.
#[derive(Default)]
struct Opened {
    documents: Vec<Document>,
    warnings: Vec<Warning>,
    used: Vec<(VaultId, u64)>,
    in_the_way: Option<(VaultId, Unusable)>,
}

/// Opens and seals, and knows the layers that stand in files and variables.
#[derive(Debug, Clone)]
pub struct Vaults {
    keyring: Keyring,
    reader: Reader,
    work: Arc<Held<Vec<Document>>>,
    nodes: Nodes,
    hash: hmac::Key,
}

impl Vaults {
    /// With the keys of this installation, what reads its file, the coordinator's own layers, and a secret that hashes
    /// of configurations are keyed with.
    #[must_use]
    pub fn new(keyring: Keyring, reader: Reader, work: Vec<Document>, secret: &[u8; 32]) -> Self {
        let mut text = b"config_hash".to_vec();
        text.extend_from_slice(secret);
        Self {
            keyring,
            reader,
            work: Arc::new(Held::new(work)),
            nodes: Nodes::default(),
            hash: hmac::Key::new(hmac::HMAC_SHA256, &text),
        }
    }

    /// Other layers of the coordinator's own from now on.
    pub fn set_work(&self, work: Vec<Document>) {
        self.work.set(work);
    }

    /// The text of a vault as it was saved.
    ///
    /// # Errors
    /// Its key is not there, or it is damaged.
    pub fn text(&self, content: Option<&VaultContent>) -> Result<Zeroizing<String>, Unusable> {
        let Some(content) = content else {
            return Ok(Zeroizing::default());
        };
        let sealed = Sealed::from_bytes(&content.sealed).map_err(|_| Unusable::Damaged)?;
        let row = content.vault.to_string();
        let clear = self.keyring.open(&place(&row, content.version), &sealed);
        let clear = clear.map_err(|error| match error {
            OpenError::Locked(locked) => Unusable::Locked(locked),
            OpenError::Damaged => Unusable::Damaged,
        })?;
        let text = std::str::from_utf8(&clear).map_err(|_| Unusable::Damaged)?;
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// The document of a vault.
    ///
    /// # Errors
    /// As [`Self::text`]; also where the text is no document any more.
    pub fn tree(&self, kept: &Kept) -> Result<Node, Unusable> {
        let text = self.text(kept.content.as_ref())?;
        parsed(&kept.vault.format, &text).ok_or(Unusable::Damaged)
    }

    /// The text with masks in place of what is secret, in the format of the vault. Comments are
    /// left out: they may hold what is secret too.
    ///
    /// # Errors
    /// As [`Self::tree`].
    pub fn masked(&self, kept: &Kept) -> Result<String, Unusable> {
        let tree = self.tree(kept)?;
        let format = kept.vault.format.parse().map_err(|_| Unusable::Damaged)?;
        Ok(shown(format, &tree))
    }

    /// Makes of a text what is saved. What is wrong with it is part of the outcome: it is told
    /// to those who may save it.
    #[must_use]
    pub fn prepare(
        &self,
        id: VaultId,
        present: Option<&Kept>,
        format: &str,
        text: Option<&str>,
    ) -> (NewContent, Vec<Warning>) {
        let content = present.and_then(|kept| kept.content.as_ref());
        let version = content.map_or(0, |content| content.version) + 1;
        let mut new = NewContent {
            format: format.to_owned(),
            version,
            sealed: Vec::new(),
            size: 0,
            keys: Vec::new(),
            values: 0,
            changed: Vec::new(),
            refused: None,
        };
        let made = self.made(id, present, &mut new, text);
        match made {
            Ok(warnings) => (new, warnings),
            Err(refused) => {
                new.refused = Some(refused);
                (new, Vec::new())
            }
        }
    }

    fn made(
        &self,
        id: VaultId,
        present: Option<&Kept>,
        new: &mut NewContent,
        text: Option<&str>,
    ) -> Result<Vec<Warning>, Box<Refusal>> {
        let format = format_of(&new.format)?;
        let old = present.map(|kept| self.text(kept.content.as_ref()));
        let text = match (text, &old) {
            (Some(text), _) => Zeroizing::new(text.to_owned()),
            (None, None) => Zeroizing::default(),
            (None, Some(Ok(text))) => text.clone(),
            (None, Some(Err(error))) => return Err(Box::new(error.clone().into())),
        };
        let checked = work::check(format, text.as_bytes());
        let checked = checked.map_err(|found| Box::new(refusal("/content", &found)))?;
        let empty = || Node::bare(Value::Map(Vec::new()));
        let before = match (present, old) {
            (Some(kept), Some(Ok(text))) => parsed(&kept.vault.format, &text),
            _ => None,
        };
        new.changed = work::changed(&before.unwrap_or_else(empty), &checked.tree);
        new.size = text.len() as u64;
        new.keys.clone_from(&checked.keys);
        new.values = checked.values as u64;
        let row = id.to_string();
        let sealed =
            self.keyring
                .seal(&place(&row, new.version), text.as_bytes(), &mut fill_random);
        let sealed = sealed.map_err(|locked| Box::new(Unusable::Locked(locked).into()))?;
        new.sealed = sealed.to_bytes();
        Ok(told(&checked.unknown))
    }

    /// Merges the coordinator's layers, those of a node if one is named, vaults and a request.
    #[must_use]
    pub fn configure(
        &self,
        node: Option<AgentId>,
        vaults: &[Kept],
        request: Vec<Document>,
    ) -> Configuration {
        let opened = self.opened(vaults);
        let mut documents = self.work.get();
        documents.extend(node.into_iter().flat_map(|agent| self.nodes.of(agent)));
        documents.extend(opened.documents);
        documents.extend(request);
        let merged = layers::merge(documents);
        let mut warnings = opened.warnings;
        warnings.extend(merged.warnings.iter().cloned());
        Configuration {
            hash: self.hash_of(&[&merged]),
            merged,
            warnings,
            used: opened.used,
            in_the_way: opened.in_the_way,
        }
    }

    /// Opens vaults, as far as they can be.
    fn opened(&self, vaults: &[Kept]) -> Opened {
        let mut opened = Opened::default();
        for kept in vaults {
            let vault = &kept.vault;
            let id = vault.id.to_string();
            match self.tree(kept) {
                Ok(tree) => {
                    let (document, left_out) =
                        layers::vault(kept.layer, &id, vault.version, vault.priority, &tree);
                    opened.documents.push(document);
                    opened.warnings.extend(left_out);
                    opened.used.push((vault.id, vault.version));
                }
                Err(why) => {
                    opened.warnings.push(Warning {
                        source: Some(id),
                        ..Warning::of("vault-skipped", String::new())
                    });
                    if vault.required && opened.in_the_way.is_none() {
                        opened.in_the_way = Some((vault.id, why));
                    }
                }
            }
        }
        opened
    }

    /// Names a configuration: what comes of it on each node of a session, as far as they differ.
    fn hash_of(&self, merged: &[&Merged]) -> String {
        let mut texts: Vec<Zeroizing<String>> = Vec::new();
        for text in merged
            .iter()
            .map(|merged| Zeroizing::new(merged.canonical()))
        {
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        let mut context = hmac::Context::with_key(&self.hash);
        // Each is a whole JSON document, so that no two lists of them are the same text.
        texts
            .iter()
            .for_each(|text| context.update(text.as_bytes()));
        let tag = context.sign();
        tag.as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// The vaults among these that cannot be used now.
    #[must_use]
    pub fn unusable(&self, vaults: &[Kept]) -> BTreeSet<VaultId> {
        let broken = vaults.iter().filter(|kept| self.tree(kept).is_err());
        broken.map(|kept| kept.vault.id).collect()
    }
}

/// Tells the engine which vaults cannot be used: at the start, and as long as there are any.
pub async fn keep(vaults: Vaults, engine: Engine, mut stopping: watch::Receiver<bool>) {
    let mut wait = FIRST_RETRY;
    loop {
        let all = engine
            .read_when_room(|state, _| {
                let all = state.vaults.values().filter(|vault| vault.enabled);
                all.map(|vault| Kept::of(state, vault)).collect::<Vec<_>>()
            })
            .await;
        let Ok(all) = all else { return };
        let unusable = vaults.unusable(&all);
        let marked: BTreeSet<VaultId> = all
            .iter()
            .filter(|kept| kept.vault.unreadable)
            .map(|kept| kept.vault.id)
            .collect();
        if marked != unusable {
            let event = Event::VaultsChecked {
                looked_at: all.iter().map(|kept| kept.vault.id).collect(),
                unusable: unusable.clone(),
            };
            if let Err(error) = engine.tell(event).await {
                tracing::warn!(%error, "it is not stored which vaults cannot be used");
            }
        }
        wait = match unusable.is_empty() {
            true => LAST_RETRY,
            false if marked != unusable => FIRST_RETRY,
            false => (wait * 2).min(LAST_RETRY),
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => (),
            gone = stopping.wait_for(|stopping| *stopping) => {
                drop(gone); // also when nobody is left who could say so
                return;
            }
        }
    }
}

fn place(row: &str, version: u64) -> Place<'_> {
    Place {
        table: TABLE,
        row,
        column: COLUMN,
        version,
    }
}

fn parsed(format: &str, text: &str) -> Option<Node> {
    work::parse(format.parse().ok()?, text.as_bytes()).ok()
}

/// A document as text with masks in place of what is secret.
#[must_use]
pub fn shown(format: Format, tree: &Node) -> String {
    match tree.entries() {
        Some([]) | None => String::new(),
        Some(_) => longshore_config::write::write(format, &work::mask::masked(tree)),
    }
}

/// A format by its word.
///
/// # Errors
/// It is none.
pub fn format_of(text: &str) -> Result<Format, Box<Refusal>> {
    text.parse().map_err(|why: String| {
        let message = format!("format {why}.");
        Box::new(Refusal::new("LS-INVALID", message.clone()).at("/format", message))
    })
}

/// What was found wrong with a text as a refusal.
#[must_use]
pub fn refusal(pointer: &str, found: &[Finding]) -> Refusal {
    let code = found.first().map_or("LS-INVALID", |one| one.code.as_str());
    let known = |n: u32| Some(n).filter(|n| *n > 0);
    let errors = found.iter().map(|one| MemberError {
        pointer: pointer.to_owned(),
        path: Some(one.path.clone()).filter(|path| !path.is_empty()),
        line: known(one.at.line),
        column: known(one.at.column),
        message: one.message.clone(),
    });
    let errors: Vec<MemberError> = errors.collect();
    let detail = match errors.as_slice() {
        [one] => one.message.clone(),
        many => format!("{} things are wrong with the vault.", many.len()),
    };
    Refusal {
        errors,
        ..Refusal::new(code, detail)
    }
}

/// Keys that are none of ours, as they are told.
#[must_use]
pub fn told(unknown: &[work::keys::Unknown]) -> Vec<Warning> {
    let one = |unknown: &work::keys::Unknown| Warning {
        near: unknown.near,
        ..Warning::of("unknown-key", unknown.path.clone())
    };
    unknown.iter().map(one).collect()
}

impl From<Unusable> for Refusal {
    fn from(unusable: Unusable) -> Self {
        match &unusable {
            Unusable::Locked(locked) => {
                let code = "LS-SECRETS-LOCKED";
                Self::new(code, locked.to_string())
            }
            Unusable::Damaged => Self::new("LS-INTERNAL", format!("{unusable}.")),
        }
    }
}

/// The environment of a request as documents: each variable names itself.
#[must_use]
pub fn environment<'a>(variables: impl Iterator<Item = (&'a String, &'a String)>) -> Vec<Document> {
    let one = |(at, (name, value)): (usize, (&String, &String))| {
        let path = ["environment".to_owned(), name.clone()];
        let node = layers::under(&path, Node::bare(Value::Text(value.clone())));
        let source = longshore_config::tree::dotted(&path);
        let at = i64::try_from(at).unwrap_or(i64::MAX);
        layers::document(Layer::CommandLine, source, false, at, node)
    };
    variables.enumerate().map(one).collect()
}

/// All that a request sets, as documents: work keys, then files and variables, each of which names
/// itself.
#[must_use]
pub fn request<'a>(
    variables: impl Iterator<Item = (&'a String, &'a String)>,
    given: Option<GivenTrees>,
) -> Vec<Document> {
    let mut all = Vec::new();
    if let Some((files, config)) = given {
        let source = "config".to_owned();
        all.push(layers::document(
            Layer::CommandLine,
            source,
            false,
            -2,
            config,
        ));
        for (label, node) in files {
            let path = ["files".to_owned(), label];
            let source = longshore_config::tree::dotted(&path);
            let node = layers::under(&path, node);
            all.push(layers::document(
                Layer::CommandLine,
                source,
                false,
                -1,
                node,
            ));
        }
    }
    all.extend(environment(variables));
    all
}

/// The names that `agent.redact` adds; what is none is left out.
#[must_use]
pub fn hidden(merged: &Merged) -> Vec<String> {
    let is_list = |leaf: &&Leaf<Layer>| leaf.path == ["agent", "redact"];
    let leaf = merged.leaves.iter().find(is_list);
    let all = leaf.into_iter().flat_map(|leaf| {
        let before = leaf.shadowed.iter().map(|(_, node)| node);
        std::iter::once(&leaf.value).chain(before)
    });
    let mut names: Vec<String> = Vec::new();
    for node in all.flatten() {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            _ => &[],
        };
        for name in items.iter().filter_map(Node::text) {
            let is_new = redact::fault(name).is_none() && !names.iter().any(|n| n == name);
            if is_new && names.len() < redact::MAX_NAMES {
                names.push(name.to_owned());
            }
        }
    }
    names
}

impl Vaults {
    /// Whether something could be encrypted now.
    ///
    /// # Errors
    /// There is no master key.
    pub fn can_seal(&self) -> Result<(), Locked> {
        self.keyring.present().map(drop)
    }
}
