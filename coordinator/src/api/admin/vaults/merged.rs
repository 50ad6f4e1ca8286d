//! The configuration of somebody's sessions, and where each value comes from.

use super::super::super::audit::origin;
use super::super::super::errors::{Failure, cut};
use super::super::super::extract::{Query, Ref};
use super::super::super::{App, json, person};
use super::super::missing;
use super::{record_reveal, reveals, warnings};
use crate::identity::Person;
use crate::vaults::{Configuration, Kept};
use axum::extract::{Request, State};
use axum::response::Response;
use longshore_common::admin::{ConfigLeaf, ConfigShadowed, ConfigVault, ConfigView};
use longshore_config::merge::{Leaf, Origin};
use longshore_config::tree::{Node, dotted};
use longshore_config::work::layers::Layer;
use longshore_config::work::mask::masked_at;
use longshore_core::access::{self, Intent, Operation};
use longshore_core::model::admin::{at_person, vault_target};
use serde_json::Value;
use std::collections::BTreeSet;

/// Whose configuration, and how much of it is shown.
struct Asked {
    configuration: Configuration,
    vaults: Vec<Kept>,
    /// Vaults of administrators that the caller may not read.
    closed: BTreeSet<String>,
    reveal: bool,
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
    let mut known = vec!["reveal"];
    known.extend(parameters);
    let query = Query::read(request.uri().query(), &known)?;
    let (me, rights, wanted) = (person.caller.user, person.rights.clone(), whose.clone());
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
            let vaults = Kept::all_for(state, user);
            let closed = vaults.iter().map(|kept| &kept.vault).filter(|vault| {
                let target = vault_target(state, vault).intent(Intent::Read);
                vault.owner.is_none()
                    && !access::decide(Operation::VaultRead, &rights, &target).is_allowed()
            });
            let closed: BTreeSet<String> = closed.map(|vault| vault.id.to_string()).collect();
            Some((vaults, closed, user.id == me))
        })
        .await?;
    let (vaults, closed, mine) = found.ok_or_else(|| match &whose {
        None => Failure::internal(),
        Some(name) => missing("user", name),
    })?;
    let reveal = reveals(app, &person, &query).await?;
    if reveal && !mine {
        return Err(Failure::new(
            "LS-FORBIDDEN",
            "Only its owner may reveal a configuration.",
        ));
    }
    let configuration = app.vaults.configure(&vaults, Vec::new());
    if reveal {
        record_reveal(app, &origin, ("config", "")).await?;
    }
    let asked = Asked {
        configuration,
        vaults,
        closed,
        reveal,
    };
    Ok((asked, query, person))
}

impl Asked {
    fn value(&self, path: &[String], node: &Node) -> Value {
        match self.reveal {
            true => node.to_json(),
            false => masked_at(path, node).to_json(),
        }
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
                .filter(|_| !self.closed(origin))
                .map(|node| self.value(&leaf.path, node)),
        });
        let origin = &leaf.origin;
        ConfigLeaf {
            path: dotted(&leaf.path),
            state: state(&leaf.value),
            value: leaf.value.as_ref().map(|node| self.value(&leaf.path, node)),
            layer: origin.kind.to_string(),
            source: origin.source.clone(),
            version: origin.version.filter(|_| !self.closed(origin)),
            shadowed: shadowed.collect(),
        }
    }

    fn view(&self) -> ConfigView {
        let merged = &self.configuration.merged;
        let vaults = self.vaults.iter().map(|kept| {
            let vault = &kept.vault;
            let id = vault.id.to_string();
            let open = !self.closed.contains(&id);
            ConfigVault {
                name: vault.owner.is_none().then(|| vault.name.clone()),
                version: open.then_some(vault.version),
                layer: open.then(|| kept.layer.to_string()),
                id,
            }
        });
        let config = match merged.shown(self.reveal) {
            Value::Object(members) => members,
            _ => serde_json::Map::new(),
        };
        ConfigView {
            config,
            hash: self.configuration.hash.clone(),
            leaves: merged
                .leaves
                .iter()
                .filter(|leaf| leaf.origin.kind != Layer::BuiltIn)
                .map(|leaf| self.leaf(leaf))
                .collect(),
            vaults: vaults.collect(),
            warnings: warnings(&self.configuration.warnings),
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
    let leaves = &asked.configuration.merged.leaves;
    let found = leaves.iter().find(|leaf| dotted(&leaf.path) == key);
    match found {
        Some(leaf) => json(&asked.leaf(leaf)),
        None => Err(Failure::new(
            "LS-NOT-FOUND",
            format!("Nothing sets {}.", cut(key)),
        )),
    }
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
