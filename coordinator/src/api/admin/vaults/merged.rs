//! The configuration of somebody's sessions, and where each value comes from.

use super::super::super::audit::origin;
use super::super::super::errors::{Failure, cut};
use super::super::super::extract::{Query, Ref};
use super::super::super::{App, json, person};
use super::super::{Viewer, missing};
use super::{record_reveal, reveals, warnings};
use crate::identity::Person;
use crate::vaults::{Kept, NotGiven};
use axum::extract::{Request, State};
use axum::response::Response;
use longshore_common::admin::{ConfigLeaf, ConfigShadowed, ConfigVault, ConfigView};
use longshore_common::ids::{SessionId, VaultId};
use longshore_config::merge::{Leaf, Origin};
use longshore_config::tree::{Node, dotted};
use longshore_config::work::layers::{Layer, Merged, Warning, is_of_registries};
use longshore_config::work::mask::masked_at;
use longshore_core::access::{self, Intent, Operation};
use longshore_core::model::admin::{at_person, vault_target};
use longshore_core::model::{State as Core, Vault};
use serde_json::Value;
use std::collections::BTreeSet;

/// Whose configuration, and how much of it is shown.
struct Asked {
    merged: Merged,
    hash: String,
    warnings: Vec<Warning>,
    vaults: Vec<Shown>,
    /// Vaults that the caller may not read.
    closed: BTreeSet<String>,
    reveal: bool,
}

/// A vault that is in it.
struct Shown {
    id: VaultId,
    version: u64,
    /// None = it is there no more.
    vault: Option<Vault>,
    /// It is switched on and reaches the sessions of whom it is shown to.
    applies: bool,
}

impl Shown {
    fn of(state: &Core, all: &[Kept], (id, version): (VaultId, u64)) -> Self {
        Self {
            id,
            version,
            vault: state.vaults.get(&id).cloned(),
            applies: all.iter().any(|kept| kept.vault.id == id),
        }
    }
}

/// What a session has been given, as far as the state knows it.
struct Had {
    hash: String,
    skipped: Vec<VaultId>,
    /// It has ended: what it was given is not kept.
    over: bool,
}

/// Reads what a route is about; without a name it is the caller's own.
async fn asked(
    app: &App,
    request: Request,
    whose: Option<String>,
    parameters: &[&str],
) -> Result<(Asked, Query, Person), Failure> {
    let person = person(request.extensions())?;
    let origin = origin(request.extensions())?;
    let mut known = vec!["reveal", "session", "agent"];
    known.extend(parameters);
    let query = Query::read(request.uri().query(), &known)?;
    let session = query.one("session")?.map(str::to_owned);
    let id = match &session {
        None => None,
        Some(text) => Some(
            text.parse::<SessionId>()
                .map_err(|_| missing("session", text))?,
        ),
    };
    let node = query.one("agent")?.map(str::to_owned);
    if session.is_some() && node.is_some() {
        return Err(Failure::new(
            "LS-PARAMETER",
            "session and agent do not go together: a session was given what its own nodes set.",
        ));
    }
    let (me, rights, wanted) = (person.caller.user, person.rights.clone(), whose.clone());
    let (viewer, at) = (Viewer::of(&person), node.clone());
    let found = app
        .engine
        .read(move |state, _| {
            let user = match &wanted {
                None => state.users.get(&me)?,
                Some(name) => state.user_by_ref(name)?,
            };
            let target = at_person(user).intent(Intent::Read);
            if wanted.is_some()
                && !access::decide(Operation::UserConfig, &rights, &target).is_allowed()
            {
                return None;
            }
            let all = Kept::all_for(state, user);
            // Of a session of one's own one sees what it got, whoever it runs as.
            let session = id.map(|id| state.sessions.get(&id).filter(|s| s.owner == user.id));
            let had = session.map(|found| {
                found.map(|session| Had {
                    hash: session.config_hash.clone().unwrap_or_default(),
                    skipped: session.vaults_skipped.clone(),
                    over: session.state.is_final(),
                })
            });
            let shown: Vec<Shown> = match session.flatten() {
                Some(session) => {
                    let used = session.vaults.iter();
                    used.map(|used| Shown::of(state, &all, *used)).collect()
                }
                None => {
                    let each = all.iter().map(|kept| (kept.vault.id, kept.vault.version));
                    each.map(|one| Shown::of(state, &all, one)).collect()
                }
            };
            let closed = shown.iter().filter(|one| {
                one.vault.as_ref().is_none_or(|vault| {
                    let target = vault_target(state, vault).intent(Intent::Read);
                    let seen = match vault.owner {
                        Some(owner) => owner == user.id,
                        None => access::decide(Operation::VaultRead, &rights, &target).is_allowed(),
                    };
                    !seen
                })
            });
            let closed: BTreeSet<String> = closed.map(|one| one.id.to_string()).collect();
            // A node of a group that is closed to one is as none.
            let agent = at.map(|name| {
                let agent = state.agent_by_ref(&name)?;
                let group = state.groups.get(&agent.group)?;
                viewer.may_use(state, group).then_some(agent.id)
            });
            Some((all, shown, closed, user.id, had, agent))
        })
        .await?;
    let (all, vaults, closed, user, had, agent) = found.ok_or_else(|| match &whose {
        None => Failure::internal(),
        Some(name) => missing("user", name),
    })?;
    let agent = match agent {
        Some(None) => return Err(missing("agent", &node.unwrap_or_default())),
        Some(found) => found,
        None => None,
    };
    let reveal = reveals(app, &person, &query).await?;
    if reveal && agent.is_some() {
        return Err(Failure::new(
            "LS-PARAMETER",
            "What a node sets is revealed of a session that got it only: name that by session.",
        ));
    }
    if reveal && user != me {
        return Err(Failure::new(
            "LS-FORBIDDEN",
            "Only its owner may reveal a configuration.",
        ));
    }
    let (merged, hash, warnings) = match (id, had) {
        (Some(id), Some(had)) => {
            let name = session.unwrap_or_default();
            let Some(had) = had else {
                // What has ended is not in memory.
                let past = app.reader.session(id).await?;
                return Err(match past.is_some_and(|past| past.owner == user) {
                    true => ended(id),
                    false => missing("session", &name),
                });
            };
            of_session(app, id, had).await?
        }
        _ => {
            let made = app.vaults.configure(agent, &all, Vec::new());
            (made.merged, made.hash, made.warnings)
        }
    };
    if reveal {
        record_reveal(app, &origin, ("config", "")).await?;
    }
    let asked = Asked {
        merged,
        hash,
        warnings,
        vaults,
        closed,
        reveal,
    };
    Ok((asked, query, person))
}

fn ended(id: SessionId) -> Failure {
    let text = format!("Session {id} has ended; what it was given is not kept.");
    Failure::new("LS-STATE", text)
}

/// What the present attempt of a session got.
async fn of_session(
    app: &App,
    id: SessionId,
    had: Had,
) -> Result<(Merged, String, Vec<Warning>), Failure> {
    let state = |text: String| Failure::new("LS-STATE", text);
    if had.over {
        return Err(ended(id));
    }
    let merged = match app.vaults.given_to(&app.engine, id).await {
        Ok(Some(merged)) => merged,
        Ok(None) => {
            let text = format!("Session {id} has not been given anything yet.");
            return Err(state(text));
        }
        Err(NotGiven::Engine(error)) => return Err(error.into()),
        Err(NotGiven::Unknown) => return Err(missing("session", &id.to_string())),
        Err(why) => return Err(state(format!("Session {id}: {why}."))),
    };
    let skipped = had.skipped.iter().map(|vault| Warning {
        source: Some(vault.to_string()),
        ..Warning::of("vault-skipped", String::new())
    });
    let warnings = skipped.chain(merged.warnings.iter().cloned()).collect();
    Ok((merged, had.hash, warnings))
}

impl Asked {
    fn value(&self, path: &[String], origin: &Origin<Layer>, node: &Node) -> Value {
        match self.reveals(path, origin) {
            true => node.to_json(),
            false => masked_at(path, node).to_json(),
        }
    }

    /// Whether a value is shown in the clear. Never so what comes from the personal vault of
    /// another one, such as the account that a session runs as, and logins at registries of any
    /// vault that the caller may not read, and of files and variables: no container gets those.
    fn reveals(&self, path: &[String], origin: &Origin<Layer>) -> bool {
        let kept_back = match is_of_registries(path) {
            true => is_of_machine(origin) || self.closed(origin),
            false => origin.kind == Layer::PersonalVault && self.closed(origin),
        };
        self.reveal && !kept_back
    }

    fn closed(&self, origin: &Origin<Layer>) -> bool {
        origin.kind.is_vault() && self.closed.contains(&origin.source)
    }

    /// What holds is in one's own sessions anyway; what a vault said in vain is its own.
    fn leaf(&self, leaf: &Leaf<Layer>) -> ConfigLeaf {
        let state = |node: &Option<Node>| match node {
            Some(_) => "set".to_owned(),
            None => "unset".to_owned(),
        };
        let shadowed = leaf.shadowed.iter().map(|(origin, node)| ConfigShadowed {
            layer: origin.kind.to_string(),
            source: origin.source.clone(),
            state: state(node),
            value: node
                .as_ref()
                // What a node or the installation said in vain is for its administrators.
                .filter(|_| !(self.closed(origin) || self.reveal && is_of_machine(origin)))
                .map(|node| self.value(&leaf.path, origin, node)),
        });
        let origin = &leaf.origin;
        ConfigLeaf {
            path: dotted(&leaf.path),
            state: state(&leaf.value),
            value: leaf
                .value
                .as_ref()
                .map(|node| self.value(&leaf.path, origin, node)),
            layer: origin.kind.to_string(),
            source: origin.source.clone(),
            version: origin.version.filter(|_| !self.closed(origin)),
            shadowed: shadowed.collect(),
        }
    }

    /// What is worth telling, without what it would tell of vaults that the caller may not read:
    /// keys that were left out of one, and which of them set a key. That one was left out as a
    /// whole is told.
    fn told(&self) -> Vec<Warning> {
        let is_closed = |source: &String| self.closed.contains(source);
        let closed = |warning: &Warning| warning.source.as_ref().is_some_and(is_closed);
        let all = self.warnings.iter();
        all.filter(|warning| !(warning.code == "forbidden-key" && closed(warning)))
            .map(|warning| {
                let hides = warning.code != "vault-skipped" && closed(warning);
                let vaults = warning.vaults.iter().filter(|id| !is_closed(id));
                Warning {
                    source: warning.source.clone().filter(|_| !hides),
                    vaults: vaults.cloned().collect(),
                    ..warning.clone()
                }
            })
            .collect()
    }

    fn view(&self) -> ConfigView {
        let merged = &self.merged;
        let vaults = self.vaults.iter().map(|one| {
            let id = one.id.to_string();
            let open = !self.closed.contains(&id);
            let vault = one.vault.as_ref();
            ConfigVault {
                name: vault
                    .filter(|vault| vault.owner.is_none() && (open || one.applies))
                    .map(|vault| vault.name.clone()),
                version: open.then_some(one.version),
                layer: vault
                    .filter(|_| open)
                    .map(|vault| vault.layer().to_string()),
                id,
            }
        });
        let config = match merged.shown(|leaf| self.reveals(&leaf.path, &leaf.origin)) {
            Value::Object(members) => members,
            _ => serde_json::Map::new(),
        };
        ConfigView {
            config,
            hash: self.hash.clone(),
            leaves: merged
                .leaves
                .iter()
                .filter(|leaf| leaf.origin.kind != Layer::BuiltIn)
                .map(|leaf| self.leaf(leaf))
                .collect(),
            vaults: vaults.collect(),
            warnings: warnings(&self.told()),
        }
    }
}

async fn read(app: App, whose: Option<String>, request: Request) -> Result<Response, Failure> {
    let (asked, _, _) = asked(&app, request, whose, &[]).await?;
    json(&asked.view())
}

async fn explain(app: App, whose: Option<String>, request: Request) -> Result<Response, Failure> {
    let (asked, query, _) = asked(&app, request, whose, &["key"]).await?;
    let key = query.one("key")?.map(str::trim).unwrap_or_default();
    if key.is_empty() {
        return Err(Failure::new("LS-PARAMETER", "key is required."));
    }
    let at = |leaf: &&Leaf<Layer>| dotted(&leaf.path) == key;
    if let Some(leaf) = asked.merged.leaves.iter().find(at) {
        return json(&asked.leaf(leaf));
    }
    let Some(map) = asked.merged.replaced.iter().find(at).cloned() else {
        let text = format!("Nothing sets {}.", cut(key));
        return Err(Failure::new("LS-NOT-FOUND", text));
    };
    // What is in it may be of several layers, some of them closed to the caller.
    let masked = Asked {
        reveal: false,
        ..asked
    };
    json(&masked.leaf(&map))
}

pub(in super::super::super) async fn mine(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    read(app, None, request).await
}

pub(in super::super::super) async fn explain_mine(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    explain(app, None, request).await
}

pub(in super::super::super) async fn of_person(
    State(app): State<App>,
    Ref(name): Ref,
    request: Request,
) -> Result<Response, Failure> {
    read(app, Some(name), request).await
}

pub(in super::super::super) async fn explain_person(
    State(app): State<App>,
    Ref(name): Ref,
    request: Request,
) -> Result<Response, Failure> {
    explain(app, Some(name), request).await
}

/// Whether a file or a variable says it, of the coordinator or of a node.
const fn is_of_machine(origin: &Origin<Layer>) -> bool {
    matches!(origin.kind, Layer::File | Layer::Environment)
}
