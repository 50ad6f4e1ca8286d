//! What the containers of a session are given. The first of an attempt that asks decides it, from
//! the vaults as they are then; it is kept with the session, and whoever asks later for the same
//! attempt, another rank or an agent that was started anew, is given the same. What the nodes of the
//! attempt set is taken at the same moment, and reaches the containers of that node alone.
//!
//! Where nothing but the request went into it nothing is kept: the request stays what it was.

use super::{Kept, Vaults, hidden, request};
use crate::engine::{Engine, EngineError};
use crate::secrets::OpenError;
use longshore_common::ids::{AgentId, Attempt, SessionId, VaultId};
use longshore_common::redact;
use longshore_common::wire::Delivery;
use longshore_config::work::delivery;
use longshore_config::work::flat::Flat;
use longshore_config::work::layers::{self, Document, Merged};
use longshore_core::model::{Event, Given, Session, State};
use longshore_identity::Secret;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use zeroize::{Zeroize as _, Zeroizing};

/// So often it is looked again at what another one said first. Once is enough, as what was said
/// of an attempt stays; the second time an attempt has ended in between.
const LOOKS: usize = 3;
/// Most bytes of what is kept of an attempt: several vaults as large as they may be, with names
/// and places. What is kept is written together with whatever else happens at that moment, and
/// must hold up nothing of it.
const MOST_KEPT: usize = 4 << 20;

/// Why a container gets nothing yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotGiven {
    /// There is no such session, or it has ended.
    #[error("there is no such session")]
    Unknown,
    /// A vault that is required cannot be opened or delivered.
    #[error("vault {vault}: {why}")]
    Vault {
        /// Which.
        vault: String,
        /// One sentence, without any value.
        why: String,
    },
    /// What its request gave it cannot be read.
    #[error("files and keys of its request: {why}")]
    Request {
        /// One sentence, without any value.
        why: String,
    },
    /// What this attempt was given first is not there any more.
    #[error("what attempt {attempt} was given: {why}")]
    Gone {
        /// Which attempt, from 1.
        attempt: Attempt,
        /// One sentence, without any value.
        why: String,
    },
    /// The engine gave no answer.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What there is to know of a session before it is given anything.
struct Facts {
    attempt: Attempt,
    from: From,
    /// The nodes of its attempt, that of the first rank first.
    nodes: Vec<AgentId>,
}

/// What there is for an attempt.
enum Look {
    /// This, for these nodes.
    Given(Sources, Vec<AgentId>),
    /// Nothing yet: it comes of these vaults, on these nodes.
    Nothing(Attempt, Vec<Kept>, Vec<AgentId>),
}

/// Where what it is given comes from.
enum From {
    /// Nobody has asked yet: from the vaults as they are.
    Vaults(Vec<Kept>),
    /// It was kept.
    Kept,
    /// It was not, and is worked out again.
    Again {
        /// Names what has to come of it.
        hash: Option<String>,
        /// The vaults that went into it; none where one of them is not what it was.
        vaults: Option<Vec<Kept>>,
    },
}

fn facts(state: &State, id: SessionId) -> Option<Facts> {
    let session = state.sessions.get(&id)?;
    let attempt = session.attempt;
    let from = if session.configured != Some(attempt) {
        From::Vaults(Kept::all_for(state, state.identity_of(session)?))
    } else if session.delivered == Some(attempt) {
        From::Kept
    } else {
        let vaults = state.vaults_at(&session.vaults);
        let kept = |all: Vec<_>| all.into_iter().map(|one| Kept::of(state, one)).collect();
        From::Again {
            hash: session.config_hash.clone(),
            vaults: vaults.map(kept),
        }
    };
    let mut nodes = Vec::new();
    for container in &session.containers {
        let is_present = container.key.attempt == attempt;
        if is_present && !nodes.contains(&container.agent) {
            nodes.push(container.agent);
        }
    }
    Some(Facts {
        attempt,
        from,
        nodes,
    })
}

/// What is said of a session by one who has worked out what it is given.
#[derive(Clone, PartialEq, Eq)]
struct Said {
    configured: Option<Attempt>,
    hash: Option<String>,
    vaults: Vec<(VaultId, u64)>,
    skipped: Vec<VaultId>,
}

impl Said {
    fn of(session: &Session) -> Self {
        Self {
            configured: session.configured,
            hash: session.config_hash.clone(),
            vaults: session.vaults.clone(),
            skipped: session.vaults_skipped.clone(),
        }
    }
}

impl Vaults {
    /// What a session was given with its request. Tasks have what their array was given.
    async fn given(&self, id: SessionId) -> Result<Given, NotGiven> {
        let gone = |why: String| NotGiven::Request { why };
        let kept = self.reader.given(id.array().unwrap_or(id)).await;
        let kept = kept.map_err(|error| gone(error.to_string()))?;
        let kept = kept.ok_or_else(|| gone("it is not stored".to_owned()))?;
        kept.open(&self.keyring)
            .map_err(|error| gone(why_shut(error)))
    }

    /// What the containers on a node of the present attempt of a session get; which vaults and
    /// versions went into it is kept with the session before anything is handed out.
    ///
    /// # Errors
    /// [`NotGiven`].
    pub async fn deliver(
        &self,
        engine: &Engine,
        id: SessionId,
        agent: AgentId,
    ) -> Result<Zeroizing<Delivery>, NotGiven> {
        for _ in 0..LOOKS {
            match self.look(engine, id).await? {
                Look::Given(sources, _) => return Ok(sources.made(Some(agent))?.delivery()),
                Look::Nothing(attempt, vaults, mut nodes) => {
                    if !nodes.contains(&agent) {
                        nodes.push(agent);
                    }
                    let first = self.first(engine, id, attempt, &vaults, &nodes);
                    if let Some(mut made) = first.await? {
                        let at = nodes.iter().position(|node| *node == agent);
                        let own = at
                            .filter(|at| *at < made.len())
                            .map(|at| made.swap_remove(at));
                        return own.map(Made::delivery).ok_or(NotGiven::Unknown);
                    }
                }
            }
        }
        Err(NotGiven::Unknown)
    }

    /// What the present attempt of a session was given, merged, on the node of its first rank;
    /// none if nobody has asked for it yet.
    ///
    /// # Errors
    /// [`NotGiven`].
    pub async fn given_to(
        &self,
        engine: &Engine,
        id: SessionId,
    ) -> Result<Option<Merged>, NotGiven> {
        Ok(match self.look(engine, id).await? {
            Look::Given(sources, nodes) => Some(sources.merged(nodes.first().copied())),
            Look::Nothing(..) => None,
        })
    }

    /// What there is for the present attempt of a session.
    async fn look(&self, engine: &Engine, id: SessionId) -> Result<Look, NotGiven> {
        for _ in 0..LOOKS {
            let found = engine.read_when_room(move |state, _| facts(state, id));
            let Facts {
                attempt,
                from,
                nodes,
            } = found.await?.ok_or(NotGiven::Unknown)?;
            let gone = |why: String| NotGiven::Gone { attempt, why };
            match from {
                From::Vaults(vaults) => return Ok(Look::Nothing(attempt, vaults, nodes)),
                From::Kept => {
                    let kept = self.reader.delivered(id).await;
                    let kept = kept.map_err(|error| gone(error.to_string()))?;
                    let kept = kept.ok_or_else(|| gone("it is not stored".to_owned()))?;
                    let stored: Stored = kept
                        .open(&self.keyring)
                        .map_err(|error| gone(why_shut(error)))?;
                    if stored.attempt != attempt {
                        continue; // the next one began between the two looks
                    }
                    let sources = stored.sources().map_err(|why| gone(why.to_owned()))?;
                    return Ok(Look::Given(sources, nodes));
                }
                From::Again { hash, vaults } => {
                    let changed = "the vaults have changed since, and it was not kept";
                    let vaults = vaults.ok_or_else(|| gone(changed.to_owned()))?;
                    let request = self.request_of(engine, id).await?;
                    let again = self.again(hash.as_deref(), &vaults, &request, &nodes);
                    let sources = again.ok_or_else(|| gone(changed.to_owned()))?;
                    return Ok(Look::Given(sources, nodes));
                }
            }
        }
        Err(NotGiven::Unknown)
    }

    /// What the request of a session says.
    async fn request_of(&self, engine: &Engine, id: SessionId) -> Result<Vec<Document>, NotGiven> {
        let found = engine.read_when_room(move |state, _| {
            let session = state.sessions.get(&id)?;
            let variables = super::environment(session.environment.iter());
            Some((variables, session.given))
        });
        let (variables, is_given) = found.await?.ok_or(NotGiven::Unknown)?;
        let mut all = match is_given {
            true => stored(&self.given(id).await?)?,
            false => Vec::new(),
        };
        all.extend(variables);
        Ok(all)
    }

    /// What the configurations of nodes set for sessions, of those that set anything.
    ///
    /// An agent says it before it asks for anything. Of one that has not said it yet to this
    /// process, while a session on several nodes begins just then, nothing is taken.
    fn layers_of(&self, nodes: &[AgentId]) -> BTreeMap<AgentId, Vec<Document>> {
        let all = nodes.iter().map(|agent| (*agent, self.nodes.of(*agent)));
        all.filter(|(_, layers)| !layers.is_empty()).collect()
    }

    /// Works out what a session is given on each of its nodes, and says so. None if another one
    /// was first.
    async fn first(
        &self,
        engine: &Engine,
        id: SessionId,
        attempt: Attempt,
        vaults: &[Kept],
        nodes: &[AgentId],
    ) -> Result<Option<Vec<Made>>, NotGiven> {
        let request = self.request_of(engine, id).await?;
        let opened = self.opened(vaults);
        if let Some((vault, why)) = &opened.in_the_way {
            return Err(NotGiven::Vault {
                vault: vault.to_string(),
                why: why.to_string(),
            });
        }
        let mut documents = self.work.get();
        documents.extend(opened.documents);
        // The request says by itself what it gives. Without a key nothing can be kept: then it is
        // worked out again, as long as it comes out the same.
        let layers = self.layers_of(nodes);
        let keep = (!documents.is_empty() || !layers.is_empty()) && self.can_seal().is_ok();
        documents.extend(request);
        let sources = Sources::new(documents, layers, vaults);
        let text = keep.then(|| Stored::of(attempt, &sources).and_then(|stored| stored.text()));
        let too_large = matches!(text, Some(None)).then(|| {
            "too much is set for it to be kept: containers that ask after a vault was changed are given nothing."
                .to_owned()
        });
        let made: Result<Vec<Made>, _> = nodes.iter().map(|n| sources.made(Some(*n))).collect();
        let made = made?;
        let skipped: Vec<VaultId> = vaults
            .iter()
            .map(|kept| kept.vault.id)
            .filter(|id| opened.used.iter().all(|(used, _)| used != id))
            .collect();
        let absent = skipped
            .iter()
            .map(|id| format!("vault-skipped: vault {id} cannot be opened; it is left out."));
        let mut parts: Vec<String> = Vec::new();
        for one in made.iter().flat_map(|made| &made.left_out) {
            let told = match &one.vault {
                Some(vault) => format!("{} of vault {vault}: {}", one.what, one.why),
                None => format!("{}: {}", one.what, one.why),
            };
            if !parts.contains(&told) {
                parts.push(told);
            }
        }
        let merged: Vec<&Merged> = made.iter().map(|made| &made.merged).collect();
        let mut redact: Vec<String> = Vec::new();
        for name in merged.iter().flat_map(|merged| hidden(merged)) {
            if !redact.contains(&name) && redact.len() < redact::MAX_NAMES {
                redact.push(name);
            }
        }
        let said = Said {
            configured: Some(attempt),
            hash: Some(self.hash_of(&merged)),
            vaults: opened.used,
            skipped: skipped.clone(),
        };
        let event = Event::Configured {
            session: id,
            attempt,
            hash: said.hash.clone().unwrap_or_default(),
            vaults: said.vaults.clone(),
            redact,
            left_out: absent.chain(parts).chain(too_large).collect(),
            skipped,
            keep: text.flatten(),
        };
        let look = move |state: &State, _, _: &_| state.sessions.get(&id).map(Said::of);
        let now = engine.ask_then(event, look).await?;
        let now = now.ok_or(NotGiven::Unknown)?;
        Ok((now == said).then_some(made))
    }

    /// What a session was given, worked out once more; none if it comes out otherwise.
    fn again(
        &self,
        hash: Option<&str>,
        vaults: &[Kept],
        request: &[Document],
        nodes: &[AgentId],
    ) -> Option<Sources> {
        let opened = self.opened(vaults).documents;
        // What stands in files and variables, here and on the nodes, may have come since.
        let present = self.layers_of(nodes);
        let works = [Vec::new(), self.work.get()];
        let layers = [BTreeMap::new(), present];
        let each = works
            .iter()
            .flat_map(|work| layers.iter().map(move |of| (work, of)));
        each.into_iter().find_map(|(work, layers)| {
            let documents = work.iter().chain(&opened).chain(request).cloned();
            let sources = Sources::new(documents.collect(), layers.clone(), vaults);
            let merged: Vec<Merged> = match nodes {
                [] => vec![sources.merged(None)],
                nodes => nodes.iter().map(|n| sources.merged(Some(*n))).collect(),
            };
            let merged: Vec<&Merged> = merged.iter().collect();
            (Some(self.hash_of(&merged).as_str()) == hash).then_some(sources)
        })
    }
}

/// All that goes into what a session is given.
struct Sources {
    documents: Vec<Document>,
    /// What is set on one node alone.
    nodes: BTreeMap<AgentId, Vec<Document>>,
    /// Vaults without which nothing starts.
    required: BTreeSet<String>,
}

/// What comes of it.
struct Made {
    merged: Merged,
    delivery: Zeroizing<Delivery>,
    left_out: Vec<delivery::Skipped>,
}

impl Sources {
    fn new(
        documents: Vec<Document>,
        nodes: BTreeMap<AgentId, Vec<Document>>,
        vaults: &[Kept],
    ) -> Self {
        let required = vaults.iter().filter(|kept| kept.vault.required);
        Self {
            documents,
            nodes,
            required: required.map(|kept| kept.vault.id.to_string()).collect(),
        }
    }

    /// What comes of it on a node.
    fn merged(&self, agent: Option<AgentId>) -> Merged {
        // Behind the coordinator's: inside a layer the node's own files and variables win.
        let own = agent.and_then(|agent| self.nodes.get(&agent));
        let own = own.into_iter().flatten();
        layers::merge(self.documents.iter().chain(own).cloned().collect())
    }

    fn made(&self, agent: Option<AgentId>) -> Result<Made, NotGiven> {
        let merged = self.merged(agent);
        let made = delivery::deliver(&merged, |id| self.required.contains(id));
        let (delivery, left_out) = made.map_err(|error| NotGiven::Vault {
            vault: error.vault,
            why: error.why,
        })?;
        Ok(Made {
            merged,
            delivery: Zeroizing::new(delivery),
            left_out,
        })
    }
}

impl Made {
    fn delivery(mut self) -> Zeroizing<Delivery> {
        std::mem::take(&mut self.delivery)
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        wipe(&mut self.merged);
    }
}

/// Values that may be secret do not stay behind in memory that is given back.
fn wipe(merged: &mut Merged) {
    for leaf in merged.leaves.iter_mut().chain(&mut merged.replaced) {
        let others = leaf.shadowed.iter_mut().map(|(_, node)| node);
        for node in std::iter::once(&mut leaf.value).chain(others).flatten() {
            node.wipe(&mut |text| text.zeroize());
        }
    }
}

/// What was stored of a request, as documents.
fn stored(given: &Given) -> Result<Vec<Document>, NotGiven> {
    let trees = given.trees().map_err(|_| NotGiven::Request {
        why: "what is stored of it is no document any more".to_owned(),
    })?;
    Ok(request(std::iter::empty(), Some(trees)))
}

fn why_shut(error: OpenError) -> String {
    match error {
        OpenError::Locked(locked) => locked.to_string(),
        OpenError::Damaged => "what is stored of it is damaged".to_owned(),
    }
}

/// [`Sources`] as they are kept.
#[derive(Serialize, Deserialize)]
struct Stored {
    attempt: Attempt,
    documents: Vec<Flat>,
    /// What was set on one node alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    nodes: BTreeMap<AgentId, Vec<Flat>>,
    required: BTreeSet<String>,
}

impl Stored {
    /// None where it cannot be read again.
    fn of(attempt: Attempt, sources: &Sources) -> Option<Self> {
        let flat = |all: &[Document]| all.iter().map(Flat::of).collect::<Option<Vec<_>>>();
        let nodes = sources.nodes.iter();
        let nodes = nodes.map(|(agent, layers)| Some((*agent, flat(layers)?)));
        Some(Self {
            attempt,
            documents: flat(&sources.documents)?,
            nodes: nodes.collect::<Option<_>>()?,
            required: sources.required.clone(),
        })
    }

    /// None where it is larger than what is kept.
    fn text(&self) -> Option<Secret> {
        // Texts, numbers, lists and maps of them: nothing can fail to be written.
        let text = Secret::new(serde_json::to_string(self).unwrap_or_default());
        (text.expose().len() <= MOST_KEPT).then_some(text)
    }

    fn sources(self) -> Result<Sources, &'static str> {
        let documents = |all: Vec<Flat>| -> Result<Vec<Document>, &'static str> {
            let all = all.into_iter().map(Flat::document);
            let all: Result<_, _> = all.collect();
            all.map_err(|_| "what is stored of it is damaged")
        };
        let nodes = self.nodes.into_iter();
        let nodes = nodes.map(|(agent, layers)| documents(layers).map(|layers| (agent, layers)));
        Ok(Sources {
            documents: documents(self.documents)?,
            nodes: nodes.collect::<Result<_, _>>()?,
            required: self.required,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_config::tree::{Node, Value};
    use serde_json::json;

    #[test]
    fn what_was_given_is_read_or_told_but_never_left_out() {
        let of = |json| stored(&serde_json::from_value::<Given>(json).unwrap());
        let long = "n".repeat(600);
        assert_eq!(of(json!({ "config": { long: 1 } })).unwrap().len(), 1);
        let deep = (0..40).fold(json!(1), |inner, _| json!({ "a": inner }));
        let told = of(json!({ "config": deep })).unwrap_err();
        assert!(matches!(told, NotGiven::Request { .. }), "{told}");
    }

    #[test]
    fn nothing_of_an_outcome_is_left_when_it_is_wiped() {
        let of = |value| {
            let tree = Node::from_json(&json!({ "note": value }));
            layers::document(layers::Layer::File, String::new(), false, 0, tree)
        };
        let all = [
            json!("hunter2"),
            json!({ "a": "hunter2" }),
            json!("hunter2"),
        ];
        for layers in [&all[..1], &all[..2], &all[..]] {
            let mut merged = layers::merge(layers.iter().cloned().map(of).collect());
            assert!(format!("{merged:?}").contains("hunter2"));
            wipe(&mut merged);
            assert!(!format!("{merged:?}").contains("hunter2"));
        }
    }

    #[test]
    fn what_is_too_large_or_too_deep_is_not_kept() {
        let stored = |path: &[String], bytes: usize| {
            let value = Value::Text("x".repeat(bytes));
            let tree = layers::under(path, Node::bare(value));
            let one = layers::document(layers::Layer::File, String::new(), false, 0, tree);
            let sources = Sources::new(vec![one], BTreeMap::new(), &[]);
            Stored::of(Attempt::FIRST, &sources).and_then(|stored| stored.text())
        };
        let of = |bytes: usize| stored(&["a".to_owned()], bytes);
        let text = of(MOST_KEPT - 4096).unwrap();
        let again: Stored = serde_json::from_str(text.expose()).unwrap();
        assert_eq!(again.sources().unwrap().documents.len(), 1);
        assert!(of(MOST_KEPT).is_none());
        assert!(stored(&vec!["a".to_owned(); 100], 1).is_none());
    }
}
