//! What the containers of a session are given. The first of an attempt that asks decides it, from
//! the vaults as they are then; it is kept with the session, and whoever asks later for the same
//! attempt, another rank or an agent that was started anew, is given the same.
//!
//! Where nothing but the request went into it nothing is kept: the request stays what it was.

use super::{Kept, Vaults, hidden, request};
use crate::engine::{Engine, EngineError};
use crate::secrets::OpenError;
use longshore_common::ids::{Attempt, SessionId, VaultId};
use longshore_common::wire::Delivery;
use longshore_config::work::delivery;
use longshore_config::work::flat::Flat;
use longshore_config::work::layers::{self, Document, Merged};
use longshore_core::model::{Event, Given, Session, State};
use longshore_identity::Secret;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
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
}

/// What there is for an attempt.
enum Look {
    /// This.
    Given(Sources),
    /// Nothing yet: it comes of these vaults.
    Nothing(Attempt, Vec<Kept>),
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
    Some(Facts { attempt, from })
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

    /// What the containers of the present attempt of a session get; which vaults and versions went
    /// into it is kept with the session before anything is handed out.
    ///
    /// # Errors
    /// [`NotGiven`].
    pub async fn deliver(
        &self,
        engine: &Engine,
        id: SessionId,
    ) -> Result<Zeroizing<Delivery>, NotGiven> {
        for _ in 0..LOOKS {
            match self.look(engine, id).await? {
                Look::Given(sources) => return Ok(sources.made()?.delivery()),
                Look::Nothing(attempt, vaults) => {
                    let first = self.first(engine, id, attempt, &vaults);
                    if let Some(delivery) = first.await? {
                        return Ok(delivery);
                    }
                }
            }
        }
        Err(NotGiven::Unknown)
    }

    /// What the present attempt of a session was given, merged; none if nobody has asked for it
    /// yet.
    ///
    /// # Errors
    /// [`NotGiven`].
    pub async fn given_to(
        &self,
        engine: &Engine,
        id: SessionId,
    ) -> Result<Option<Merged>, NotGiven> {
        Ok(match self.look(engine, id).await? {
            Look::Given(sources) => Some(layers::merge(sources.documents)),
            Look::Nothing(..) => None,
        })
    }

    /// What there is for the present attempt of a session.
    async fn look(&self, engine: &Engine, id: SessionId) -> Result<Look, NotGiven> {
        for _ in 0..LOOKS {
            let found = engine.read_when_room(move |state, _| facts(state, id));
            let Facts { attempt, from } = found.await?.ok_or(NotGiven::Unknown)?;
            let gone = |why: String| NotGiven::Gone { attempt, why };
            match from {
                From::Vaults(vaults) => return Ok(Look::Nothing(attempt, vaults)),
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
                    return Ok(Look::Given(sources));
                }
                From::Again { hash, vaults } => {
                    let changed = "the vaults have changed since, and it was not kept";
                    let vaults = vaults.ok_or_else(|| gone(changed.to_owned()))?;
                    let request = self.request_of(engine, id).await?;
                    let again = self.again(hash.as_deref(), &vaults, &request);
                    let sources = again.ok_or_else(|| gone(changed.to_owned()))?;
                    return Ok(Look::Given(sources));
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
            true => request(std::iter::empty(), Some(&self.given(id).await?)),
            false => Vec::new(),
        };
        all.extend(variables);
        Ok(all)
    }

    /// Works out what a session is given, and says so. None if another one was first.
    async fn first(
        &self,
        engine: &Engine,
        id: SessionId,
        attempt: Attempt,
        vaults: &[Kept],
    ) -> Result<Option<Zeroizing<Delivery>>, NotGiven> {
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
        let keep = !documents.is_empty() && self.can_seal().is_ok();
        documents.extend(request);
        let sources = Sources::new(documents, vaults);
        let text = keep.then(|| Stored::of(attempt, &sources).and_then(|stored| stored.text()));
        let too_large = matches!(text, Some(None)).then(|| {
            "too much is set for it to be kept: containers that ask after a vault was changed are given nothing."
                .to_owned()
        });
        let made = sources.made()?;
        let skipped: Vec<VaultId> = vaults
            .iter()
            .map(|kept| kept.vault.id)
            .filter(|id| opened.used.iter().all(|(used, _)| used != id))
            .collect();
        let absent = skipped
            .iter()
            .map(|id| format!("vault-skipped: vault {id} cannot be opened; it is left out."));
        let parts = made.left_out.iter().map(|one| match &one.vault {
            Some(vault) => format!("{} of vault {vault}: {}", one.what, one.why),
            None => format!("{}: {}", one.what, one.why),
        });
        let said = Said {
            configured: Some(attempt),
            hash: Some(self.hash_of(&made.merged)),
            vaults: opened.used,
            skipped: skipped.clone(),
        };
        let event = Event::Configured {
            session: id,
            attempt,
            hash: said.hash.clone().unwrap_or_default(),
            vaults: said.vaults.clone(),
            redact: hidden(&made.merged),
            left_out: absent.chain(parts).chain(too_large).collect(),
            skipped,
            keep: text.flatten(),
        };
        let look = move |state: &State, _, _: &_| state.sessions.get(&id).map(Said::of);
        let now = engine.ask_then(event, look).await?;
        let now = now.ok_or(NotGiven::Unknown)?;
        Ok((now == said).then(|| made.delivery()))
    }

    /// What a session was given, worked out once more; none if it comes out otherwise.
    fn again(&self, hash: Option<&str>, vaults: &[Kept], request: &[Document]) -> Option<Sources> {
        let opened = self.opened(vaults).documents;
        // What stands in files and variables may have come since.
        let works = [Vec::new(), self.work.get()];
        works.into_iter().find_map(|mut documents| {
            documents.extend(opened.iter().chain(request).cloned());
            let merged = layers::merge(documents.clone());
            let same = Some(self.hash_of(&merged).as_str()) == hash;
            same.then(|| Sources::new(documents, vaults))
        })
    }
}

/// All that goes into what a session is given.
struct Sources {
    documents: Vec<Document>,
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
    fn new(documents: Vec<Document>, vaults: &[Kept]) -> Self {
        let required = vaults.iter().filter(|kept| kept.vault.required);
        Self {
            documents,
            required: required.map(|kept| kept.vault.id.to_string()).collect(),
        }
    }

    fn made(self) -> Result<Made, NotGiven> {
        let Self {
            documents,
            required,
        } = self;
        let merged = layers::merge(documents);
        let made = delivery::deliver(&merged, |id| required.contains(id));
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
    /// Values that may be secret do not stay behind in memory that is given back.
    fn drop(&mut self) {
        for leaf in &mut self.merged.leaves {
            let others = leaf.shadowed.iter_mut().map(|(_, node)| node);
            for node in std::iter::once(&mut leaf.value).chain(others).flatten() {
                node.wipe(&mut |text| text.zeroize());
            }
        }
    }
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
    required: BTreeSet<String>,
}

impl Stored {
    /// None where it cannot be read again.
    fn of(attempt: Attempt, sources: &Sources) -> Option<Self> {
        let documents = sources.documents.iter().map(Flat::of);
        Some(Self {
            attempt,
            documents: documents.collect::<Option<_>>()?,
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
        let documents = self.documents.into_iter().map(Flat::document);
        let documents: Result<Vec<Document>, _> = documents.collect();
        Ok(Sources {
            documents: documents.map_err(|_| "what is stored of it is damaged")?,
            required: self.required,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_config::tree::{Node, Value};

    #[test]
    fn what_is_too_large_or_too_deep_is_not_kept() {
        let stored = |path: &[String], bytes: usize| {
            let value = Value::Text("x".repeat(bytes));
            let tree = layers::under(path, Node::bare(value));
            let one = layers::document(layers::Layer::File, String::new(), false, 0, tree);
            let sources = Sources::new(vec![one], &[]);
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
