//! Nodes, their devices, resource groups, and tokens to join with.

use super::admin::{DRY_RUN, Match, Viewer, if_match};
use super::audit::origin;
use super::errors::Failure;
use super::extract::{self, Query, Ref};
use super::views::{self, Detail};
use super::{App, json, person};
use crate::engine::wall_clock;
use crate::pki::{random, sha256};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longshore_common::agent::AgentState;
use longshore_common::api::{self, AgentPatch, NewJoinToken};
use longshore_common::ids::{AgentId, GroupId, SessionId, UserId};
use longshore_core::model::admin::{AdminOrder, AdminVerb};
use longshore_core::model::{self, Event, JoinToken, JoinTokenOrder};
use std::sync::Arc;

/// Seconds a join token is good when nothing is said, and at most.
const TOKEN_TTL_MAX_S: i64 = 2_592_000;

/// A body that says nothing.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn no_agent(text: &str) -> Failure {
    Failure::new(
        "LS-NOT-FOUND",
        format!("There is no agent {}.", super::errors::cut(text)),
    )
}

pub(super) async fn find(app: &App, text: &str) -> Result<AgentId, Failure> {
    let wanted = text.to_owned();
    let found = app
        .engine
        .read(move |state, _| state.agent_by_ref(&wanted).map(|a| a.id))
        .await?;
    found.ok_or_else(|| no_agent(text))
}

pub(super) async fn show(app: &App, caller: UserId, id: AgentId) -> Result<api::Agent, Failure> {
    let live = Arc::clone(&app.engine.live);
    let look = move |state: &model::State, _| {
        state
            .agents
            .get(&id)
            .map(|a| views::agent(state, &live, a, Detail::Whole(caller)))
    };
    app.engine
        .read(look)
        .await?
        .ok_or_else(|| no_agent(&id.to_string()))
}

pub(super) fn tagged(agent: &api::Agent) -> Result<Response, Failure> {
    let mut response = json(agent)?;
    if let Ok(value) = HeaderValue::from_str(&format!("\"{}\"", agent.version)) {
        response.headers_mut().insert(header::ETAG, value);
    }
    Ok(response)
}

/// Whether somebody sees a node.
pub(super) fn sees(viewer: &Viewer, state: &model::State, agent: &model::Agent) -> bool {
    let group = state.groups.get(&agent.group);
    viewer.is_administrator() || group.is_none_or(|group| viewer.may_use(state, group))
}

/// What somebody sees of nodes: those of the groups that are open to it, without addresses,
/// and of what is taken the sessions that one may know.
struct Sight {
    viewer: Viewer,
    /// Whose the work of others is stays hidden.
    hides: bool,
}

impl Sight {
    fn of(app: &App, viewer: Viewer) -> Self {
        let hides = app.settings.now().config.services.organization.hide_owners;
        Self { viewer, hides }
    }

    fn sees(&self, state: &model::State, agent: &model::Agent) -> bool {
        sees(&self.viewer, state, agent)
    }

    fn trim(&self, state: &model::State, agent: &mut api::Agent) {
        if !self.viewer.is_administrator() {
            agent.address = None;
        }
        for device in &mut agent.devices {
            self.trim_device(state, device);
        }
    }

    fn trim_device(&self, state: &model::State, device: &mut api::Device) {
        for holder in &mut device.holders {
            let session = holder.session.parse::<SessionId>().ok();
            let session = session.and_then(|id| state.sessions.get(&id));
            if !session.is_some_and(|session| self.viewer.sees_session(session)) {
                holder.session = String::new();
                if self.hides {
                    holder.owner_name = String::new();
                }
            }
        }
    }
}

pub(super) async fn list(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let sight = Sight::of(&app, Viewer::of(&caller));
    let query = Query::read(
        request.uri().query(),
        &["state", "group", "limit", "cursor"],
    )?;
    let states: Vec<AgentState> = query.words("state")?;
    let groups: Vec<String> = query.all("group").map(str::to_owned).collect();
    let (live, user) = (Arc::clone(&app.engine.live), caller.caller.user);
    let items = app
        .engine
        .read(move |state, _| {
            let groups = group_ids(state, &groups);
            let wanted = |a: &&model::Agent| {
                (states.is_empty() || states.contains(&a.state))
                    && groups.as_ref().is_none_or(|ids| ids.contains(&a.group))
                    && sight.sees(state, a)
            };
            let mut items: Vec<(String, api::Agent)> = state
                .agents
                .values()
                .filter(wanted)
                .map(|a| {
                    let mut shown = views::agent(state, &live, a, Detail::Summary(user));
                    sight.trim(state, &mut shown);
                    (format!("{}\u{1}{}", a.name, a.id), shown)
                })
                .collect();
            items.sort_by(|a, b| a.0.cmp(&b.0));
            items
        })
        .await?;
    json(&app.cursors.page("agents", &query, items)?)
}

/// The groups that were named; none = all are wanted.
fn group_ids(state: &model::State, texts: &[String]) -> Option<Vec<GroupId>> {
    if texts.is_empty() {
        return None;
    }
    Some(
        texts
            .iter()
            .filter_map(|text| state.group_by_ref(text))
            .map(|g| g.id)
            .collect(),
    )
}

pub(super) async fn read(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    Query::read(request.uri().query(), &[])?;
    let sight = Sight::of(&app, Viewer::of(&caller));
    let (wanted, live) = (text.clone(), Arc::clone(&app.engine.live));
    let user = caller.caller.user;
    let look = move |state: &model::State, _| {
        let agent = state
            .agent_by_ref(&wanted)
            .filter(|a| sight.sees(state, a))?;
        let mut shown = views::agent(state, &live, agent, Detail::Whole(user));
        if sight.viewer.is_superadmin() {
            let unclaimed = views::unclaimed(state, &live, agent).len();
            shown.unclaimed = Some(unclaimed as u64).filter(|count| *count > 0);
        }
        sight.trim(state, &mut shown);
        Some(shown)
    };
    let agent = app
        .engine
        .read(look)
        .await?
        .ok_or_else(|| no_agent(&text))?;
    let known = request
        .headers()
        .get(header::IF_NONE_MATCH)
        .and_then(|v| v.to_str().ok());
    let tag = format!("\"{}\"", agent.version);
    if known.is_some_and(|k| k.split(',').any(|t| t.trim() == tag)) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    tagged(&agent)
}

pub(super) async fn update(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    Query::read(request.uri().query(), &[])?;
    let engine = app.engine.asked_by(origin(request.extensions())?);
    let user = caller.caller.user;
    let version = if_match(request.headers(), Match::Required);
    let patch = extract::json::<AgentPatch>(request).await?.value;
    let version = version?;
    let agent = find(&app, &text).await?;
    let mut version = version;
    if let Some(group) = patch.group {
        let order = AdminOrder {
            caller: caller.caller.clone(),
            dry_run: false,
            expected_version: version,
            verb: AdminVerb::MoveAgent {
                agent: agent.to_string(),
                group,
            },
        };
        let done = engine.ask(Event::Admin(Box::new(order))).await?;
        let present = show(&app, user, agent).await?;
        match done {
            Ok(_) if patch.schedulable.is_none() => return tagged(&present),
            // The version was right; the move itself made a new one.
            Ok(_) => version = None,
            Err(refusal) => return Err(stale(refusal, &present)),
        }
    }
    let done = match patch.schedulable {
        Some(schedulable) => {
            engine
                .ask(Event::SetSchedulable {
                    agent,
                    version,
                    schedulable,
                })
                .await?
        }
        None => {
            let present = show(&app, user, agent).await?;
            match version {
                Some(seen) if seen != present.version => Err(model::Refusal::new(
                    "LS-VERSION-STALE",
                    format!(
                        "Agent {} has changed meanwhile: it is at version {}.",
                        present.name, present.version
                    ),
                )),
                _ => return tagged(&present),
            }
        }
    };
    let present = show(&app, user, agent).await?;
    match done {
        Ok(_) => tagged(&present),
        Err(refusal) => Err(stale(refusal, &present)),
    }
}

/// A refusal; one of a stale version comes with the object as it is.
pub(super) fn stale(refusal: model::Refusal, present: &api::Agent) -> Failure {
    if refusal.code != "LS-VERSION-STALE" {
        return refusal.into();
    }
    let object = serde_json::to_value(present).unwrap_or_default();
    Failure::from(refusal).current(object)
}

pub(super) async fn expel(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let engine = app.engine.asked_by(origin(request.extensions())?);
    Query::read(request.uri().query(), &[])?;
    extract::json::<Nothing>(request).await?;
    let agent = find(&app, &text).await?;
    engine.ask(Event::Expel { agent }).await??;
    tagged(&show(&app, caller.caller.user, agent).await?)
}

/// What runs on a node that is LOST is given up now, whatever the time and the brake say.
pub(super) async fn confirm_loss(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let engine = app.engine.asked_by(origin(request.extensions())?);
    let dry_run = Query::read(request.uri().query(), &["dry_run"])?.flag("dry_run")?;
    extract::json::<Nothing>(request).await?;
    let agent = find(&app, &text).await?;
    engine.ask(Event::ConfirmLoss { agent, dry_run }).await??;
    let mut response = tagged(&show(&app, caller.caller.user, agent).await?)?;
    if dry_run {
        let headers = response.headers_mut();
        headers.insert(DRY_RUN, HeaderValue::from_static("true"));
    }
    Ok(response)
}

pub(super) async fn devices(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let sight = Sight::of(&app, Viewer::of(&person(request.extensions())?));
    let query = Query::read(
        request.uri().query(),
        &["agent", "group", "limit", "cursor"],
    )?;
    let groups: Vec<String> = query.all("group").map(str::to_owned).collect();
    let agents: Vec<String> = query.all("agent").map(str::to_owned).collect();
    let live = Arc::clone(&app.engine.live);
    let items = app
        .engine
        .read(move |state, _| {
            let groups = group_ids(state, &groups);
            let agents: Vec<AgentId> = if agents.is_empty() {
                state.agents.keys().copied().collect()
            } else {
                agents
                    .iter()
                    .filter_map(|text| state.agent_by_ref(text))
                    .map(|a| a.id)
                    .collect()
            };
            let mut items: Vec<(String, api::Device)> = state
                .agents
                .values()
                .filter(|a| a.state != AgentState::Terminated && agents.contains(&a.id))
                .filter(|a| groups.as_ref().is_none_or(|ids| ids.contains(&a.group)))
                .filter(|a| sight.sees(state, a))
                .flat_map(|a| views::devices(state, &live, a))
                .map(|mut d| {
                    sight.trim_device(state, &mut d);
                    (
                        format!("{}\u{1}{:06}\u{1}{}", d.agent_name, d.index, d.id),
                        d,
                    )
                })
                .collect();
            items.sort_by(|a, b| a.0.cmp(&b.0));
            items
        })
        .await?;
    json(&app.cursors.page("devices", &query, items)?)
}

/// Containers of ours that no order names.
pub(super) async fn unclaimed(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    person(request.extensions())?;
    let query = Query::read(request.uri().query(), &["agent", "limit", "cursor"])?;
    let wanted: Vec<String> = query.all("agent").map(str::to_owned).collect();
    let live = Arc::clone(&app.engine.live);
    let items = app
        .engine
        .read(move |state, _| {
            let named = |agent: &model::Agent| {
                let of = |text: &String| state.agent_by_ref(text).map(|a| a.id) == Some(agent.id);
                wanted.is_empty() || wanted.iter().any(of)
            };
            let agents = state.agents.values().filter(|a| named(a));
            let mut items: Vec<(String, api::Unclaimed)> = agents
                .flat_map(|agent| views::unclaimed(state, &live, agent))
                .map(|u| (format!("{}\u{1}{}", u.agent_name, u.id), u))
                .collect();
            items.sort_by(|a, b| a.0.cmp(&b.0));
            items
        })
        .await?;
    json(&app.cursors.page("unclaimed", &query, items)?)
}

pub(super) async fn tokens(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    person(request.extensions())?;
    let query = Query::read(request.uri().query(), &["limit", "cursor"])?;
    let items = app
        .engine
        .read(|state, _| {
            let shown = state.tokens.values().map(|t| {
                (
                    format!("{}\u{1}{}", t.created_at, t.id),
                    views::join_token(state, t),
                )
            });
            let mut items: Vec<(String, api::JoinToken)> = shown.collect();
            items.sort_by(|a, b| a.0.cmp(&b.0));
            items
        })
        .await?;
    json(&app.cursors.page("join-tokens", &query, items)?)
}

pub(super) async fn create_token(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let engine = app.engine.asked_by(origin(request.extensions())?);
    Query::read(request.uri().query(), &[])?;
    let order = extract::json::<NewJoinToken>(request).await?.value;
    let mut failure = Failure::new("LS-INVALID", "Members of the request are not valid.");
    let ttl_s = order
        .ttl_s
        .unwrap_or_else(|| app.settings.now().config.daemon.agents.join_token_ttl_s);
    if !(1..=TOKEN_TTL_MAX_S).contains(&ttl_s) {
        failure = failure.at("/ttl_s", "A join token is good for 1 to 2,592,000 seconds.");
    }
    let max_uses = u32::try_from(order.max_uses.unwrap_or(1))
        .ok()
        .filter(|n| (1..=1000).contains(n));
    if max_uses.is_none() {
        failure = failure.at("/max_uses", "A join token is good for 1 to 1,000 nodes.");
    }
    let Some(max_uses) = max_uses.filter(|_| failure.errors.is_empty()) else {
        return Err(failure);
    };
    let id = URL_SAFE_NO_PAD.encode(random::<8>());
    let secret = random::<16>();
    let now = wall_clock();
    let token = JoinToken {
        id: id.clone(),
        secret_sha256: sha256(&secret),
        group: GroupId::new(0), // the engine knows which
        agent_name: order.agent_name,
        created_at: now,
        expires_at: now.plus_s(ttl_s),
        max_uses,
        joined: Vec::new(),
        created_by: caller.caller.user,
    };
    engine
        .ask(Event::CreateToken(JoinTokenOrder {
            token,
            group: order.group,
        }))
        .await??;
    let wanted = id.clone();
    let look = move |state: &model::State, _| {
        state
            .tokens
            .get(&wanted)
            .map(|t| views::join_token(state, t))
    };
    let mut shown = app.engine.read(look).await?.ok_or_else(Failure::internal)?;
    let token = format!("ls1.{id}.{}.{}", URL_SAFE_NO_PAD.encode(secret), app.pin);
    shown.command = Some(format!("longshore join {}", app.agents_address));
    shown.token = Some(token);
    let location = format!("/api/v1/join-tokens/{id}");
    Ok((
        StatusCode::CREATED,
        [(header::LOCATION, location)],
        json(&shown)?,
    )
        .into_response())
}

pub(super) async fn delete_token(
    State(app): State<App>,
    Ref(id): Ref,
    request: Request,
) -> Result<Response, Failure> {
    person(request.extensions())?;
    let engine = app.engine.asked_by(origin(request.extensions())?);
    Query::read(request.uri().query(), &[])?;
    engine.ask(Event::DeleteToken(id)).await??;
    Ok(StatusCode::NO_CONTENT.into_response())
}
