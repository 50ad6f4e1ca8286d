//! Custom actions: which there are for objects of a type, and having one made.
//!
//! The coordinator makes the call, not the browser; what was answered is not shown, only its
//! status.

use super::admin::{DRY_RUN, Viewer};
use super::audit::origin;
use super::errors::{Failure, cut};
use super::extract::{self, Query};
use super::{App, agents, json, person, request_id, sessions};
use crate::config::{ACTION_TYPES, UiAction};
use crate::engine::wall_clock;
use crate::identity::Person;
use crate::outbound::{Call, NamedBy, OutboundError};
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::response::Response;
use bytes::Bytes;
use longshore_common::api::{Action, ActionResult, Actions, RunAction};
use longshore_core::access::{Level, Operation};
use longshore_core::model;
use longshore_identity::audit::Outcome;
use reqwest::header::{HeaderMap, HeaderName};

/// The actions of a type.
fn of_type(app: &App, kind: &str) -> Result<Vec<UiAction>, String> {
    match ACTION_TYPES.contains(&kind) {
        true => Ok(app
            .actions
            .look(|actions| actions.get(kind).cloned().unwrap_or_default())),
        false => Err(format!("type is one of {}.", ACTION_TYPES.join(", "))),
    }
}

pub(super) async fn list(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let query = Query::read(request.uri().query(), &["type"])?;
    let kind = query.one("type")?.unwrap_or_default();
    let all = of_type(&app, kind).map_err(|text| Failure::new("LS-PARAMETER", text))?;
    let closed = kind == "agent" && !Viewer::of(&caller).is_administrator();
    let items = all.iter().filter(|_| !closed).map(|one| Action {
        name: one.name.clone(),
        tooltip: one.tooltip.clone(),
        level: match one.level {
            Level::Rw => "rw".to_owned(),
            Level::Ro | Level::None => "ro".to_owned(),
        },
    });
    json(&Actions {
        items: items.collect(),
    })
}

pub(super) async fn run(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let by = origin(request.extensions())?;
    let dry_run = Query::read(request.uri().query(), &["dry_run"])?.flag("dry_run")?;
    let request_id = request
        .extensions()
        .get::<super::RequestName>()
        .map_or_else(|| request_id(&request), |name| name.0.clone());
    let order = extract::json::<RunAction>(request).await?.value;
    let all = of_type(&app, &order.kind)
        .map_err(|text| Failure::new("LS-INVALID", text.clone()).at("/type", text))?;
    let (id, title) = object(&app, &caller, &order, Level::Ro).await?;
    let action = all.iter().find(|one| one.name == order.name);
    let action = action.ok_or_else(|| no_action(&order.name))?;
    if action.level == Level::Rw {
        object(&app, &caller, &order, Level::Rw).await?;
    }
    let call = call(action, &id, (&caller.username, &request_id)).ok_or_else(Failure::internal)?;
    let mut result = ActionResult {
        ok: true,
        status: None,
        duration_ms: 0,
        message: "Nothing was called.".to_owned(),
    };
    if !dry_run {
        // What cannot be recorded must not happen: first the record.
        let draft = by
            .draft("action.run", Outcome::Ok)
            .target(kind_of(&order.kind), &id, &title)
            .detail(&action.name);
        app.engine.record(draft).await?;
        let began = std::time::Instant::now();
        let answered = app.outbound.get().call(call).await;
        result.duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let answered = answered.map_err(|error| {
            let code = match error {
                OutboundError::Time => "LS-UPSTREAM-TIMEOUT",
                _ => "LS-UPSTREAM",
            };
            Failure::new(
                code,
                format!("{} was not done: {error}.", cut(&action.name)),
            )
        })?;
        result.ok = (200..300).contains(&answered.status);
        result.status = Some(answered.status);
        result.message = match result.ok {
            true => format!("Done; the answer was {}.", answered.status),
            false => format!("The answer was {}.", answered.status),
        };
    }
    let mut response = json(&result)?;
    if dry_run {
        let mark = HeaderValue::from_static("true");
        response.headers_mut().insert(DRY_RUN, mark);
    }
    Ok(response)
}

/// The word of a type in the audit log.
fn kind_of(kind: &str) -> &'static str {
    let mut all = ACTION_TYPES.into_iter();
    all.find(|one| *one == kind).unwrap_or("object")
}

fn no_action(name: &str) -> Failure {
    Failure::new("LS-NOT-FOUND", format!("There is no action {}.", cut(name)))
}

fn call(action: &UiAction, id: &str, (user, request): (&str, &str)) -> Option<Call> {
    let of = &action.action;
    let body = of.payload_of(id);
    let mut headers = HeaderMap::new();
    for (name, value) in &of.headers {
        headers.insert(
            name.parse::<HeaderName>().ok()?,
            value.expose().parse().ok()?,
        );
    }
    const USER: HeaderName = HeaderName::from_static("longshore-user");
    const REQUEST: HeaderName = HeaderName::from_static("longshore-request-id");
    const SIGNATURE: HeaderName = HeaderName::from_static("longshore-signature");
    headers.insert(USER, user.parse().ok()?);
    headers.insert(REQUEST, request.parse().ok()?);
    if let Some(secret) = &of.secret {
        let now_s = wall_clock().0 / 1000;
        let signature = signature(secret.expose(), now_s, &body);
        headers.insert(SIGNATURE, signature.parse().ok()?);
    }
    Some(Call {
        method: of.method.parse().ok()?,
        url: of.url_of(id)?,
        headers,
        body: Bytes::from(body),
        named_by: NamedBy::Superadmin, // a file of the configuration did
        follow: false,
    })
}

/// `t=<unix>,v1=<hex HMAC-SHA256 of "t.payload">`
pub(super) fn signature(secret: &str, now_s: i64, payload: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let tag = ring::hmac::sign(&key, format!("{now_s}.{payload}").as_bytes());
    let hex: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    format!("t={now_s},v1={hex}")
}

/// Id and name of an object on which the caller has a level. One that it does not see answers
/// as one that does not exist.
async fn object(
    app: &App,
    caller: &Person,
    order: &RunAction,
    level: Level,
) -> Result<(String, String), Failure> {
    let text = order.id.as_str();
    let missing = || {
        let text = format!("There is no {} {}.", kind_of(&order.kind), cut(text));
        Failure::new("LS-NOT-FOUND", text)
    };
    let (found, has) = match order.kind.as_str() {
        "session" => {
            let id = sessions::resolve(app, caller, text).await?;
            let operation = match level {
                Level::Rw => Operation::SessionUpdate,
                Level::Ro | Level::None => Operation::SessionRead,
            };
            let session = sessions::allowed(app, caller, id, operation).await?;
            return Ok((session.id.to_string(), session.name.unwrap_or_default()));
        }
        "agent" => {
            // The same answer, whether there is one or not.
            if !Viewer::of(caller).is_administrator() {
                return Err(missing());
            }
            let id = agents::find(app, text).await?;
            let name = app
                .engine
                .read(move |state, _| state.agents.get(&id).map(|agent| agent.name.clone()))
                .await?;
            ((id.to_string(), name.ok_or_else(missing)?), Level::Rw)
        }
        "project" => {
            let (who, wanted) = (caller.clone(), text.to_owned());
            let look = move |state: &model::State, _| {
                let rights = sessions::rights(state, &who);
                let mut found = state.projects_for(&rights, &wanted).into_iter();
                let project = found.next()?;
                let object = model::State::project_object(project);
                let level = state.rule_book().level(&rights, &object);
                Some(((project.id.to_string(), project.name.clone()), level))
            };
            app.engine.read(look).await?.ok_or_else(missing)?
        }
        "queue" => {
            let (who, wanted) = (caller.clone(), text.to_owned());
            let look = move |state: &model::State, _| {
                let view = super::admin::config::queue_of(state, &Viewer::of(&who), &wanted)?;
                let rights = sessions::rights(state, &who);
                let object = model::State::queue_object(&view.name, true)?;
                let level = state.rule_book().level(&rights, &object);
                Some(((view.name.clone(), view.name), level))
            };
            app.engine.read(look).await?.ok_or_else(missing)?
        }
        // They may be configured for a release that has some.
        kind => {
            let text = format!("There are no {}s yet.", kind_of(kind));
            return Err(Failure::new("LS-NOT-FOUND", text)
                .hint("Actions can be run about projects, sessions, agents and queues."));
        }
    };
    if has < level && caller.role != model::Role::Superadmin {
        let text = "This action needs rw on the object.";
        return Err(Failure::new("LS-FORBIDDEN", text));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `printf '%s' '17.{"a":1}' | openssl dgst -sha256 -hmac key`.
    #[test]
    fn calls_are_signed_over_time_and_payload() {
        let signature = signature("key", 17, r#"{"a":1}"#);
        assert_eq!(
            signature,
            "t=17,v1=d3ba6f10f19da4394710a748dca6f7e47d0e9b749037df9a7f34f40df5063979"
        );
    }
}
