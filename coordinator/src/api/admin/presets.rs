//! Presets, and which of them could start now.

use super::super::errors::Failure;
use super::super::extract::{Query, Ref};
use super::super::{App, json, person};
use super::{Viewer, Wanted, list as listed, missing, value_of, verbs};
use crate::identity::new_id;
use axum::extract::{Request, State};
use axum::response::Response;
use longshore_common::admin::{OfferedPreset, PresetRequest};
use longshore_common::api::{Blocker, NewSession, Page};
use longshore_common::ids::PresetId;
use longshore_common::session::SessionType;
use longshore_common::time::Timestamp;
use longshore_core::model::admin::{AdminVerb, preset_view};
use longshore_core::model::{self, Group, Preset, Refusal, Submit};
use longshore_core::scheduler::{self, Planner};
use serde_json::Value;

fn current(state: &model::State, text: &str) -> Option<Value> {
    value_of(&preset_view(state.preset_by_ref(text)?))
}

pub(in super::super) async fn list(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let look = |state: &model::State, _: &Viewer, wanted: &Wanted| {
        let presets = state.presets.values().map(preset_view);
        presets
            .filter(|v| wanted.finds("name", &v.name))
            .filter(|v| wanted.takes("group", &[v.group.as_deref().unwrap_or_default()]))
            .map(|v| (v.name.clone(), v))
            .collect()
    };
    listed(&app, request, "presets", &["name", "group"], look).await
}

pub(in super::super) async fn read(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let look =
        |state: &model::State, _: &Viewer, text: &str| state.preset_by_ref(text).map(preset_view);
    verbs::read(&app, text, request, "preset", look).await
}

pub(in super::super) async fn create(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let verb = |body| AdminVerb::CreatePreset(PresetId::new(new_id()), body);
    verbs::create::<PresetRequest>(&app, request, "presets", verb).await
}

pub(in super::super) async fn update(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    verbs::update(&app, text, request, AdminVerb::PatchPreset, current).await
}

pub(in super::super) async fn remove(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    verbs::remove(&app, text, request, AdminVerb::DeletePreset, current).await
}

/// Every preset of a group with whether it could start now: the answer of `check`.
pub(in super::super) async fn offered(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let viewer = Viewer::of(&caller);
    let query = Query::read(request.uri().query(), &["group", "project"])?;
    let wanted = query.one("group")?.map(str::to_owned);
    let project = query.one("project")?.map(str::to_owned);
    let defaults = app.defaults.get();
    let look = move |state: &model::State, planner: &mut Planner, now: Timestamp| {
        let group = match &wanted {
            Some(text) => state.group_by_ref(text),
            None => state.groups.values().find(|g| g.default),
        };
        let name = wanted.as_deref().unwrap_or("default");
        let group = group
            .filter(|g| viewer.may_use(state, g))
            .ok_or_else(|| missing("resource group", name))?;
        let of_group = |p: &&Preset| {
            p.group
                .as_ref()
                .is_none_or(|own| own.eq_ignore_ascii_case(&group.name))
        };
        let mut presets: Vec<&Preset> = state.presets.values().filter(of_group).collect();
        presets.sort_by(|a, b| a.name.cmp(&b.name));
        let items = presets.into_iter().map(|preset| {
            let request = asked(preset, group, project.clone());
            let submit = Submit::new(caller.caller.clone(), request, defaults.clone());
            offer(state, planner, preset, &submit, now)
        });
        Ok::<_, Failure>(items.collect::<Vec<_>>())
    };
    let items = app.engine.consult(look).await??;
    json(&Page {
        items,
        next_cursor: None,
    })
}

/// A session that asks for nothing but the preset.
fn asked(preset: &Preset, group: &Group, project: Option<String>) -> NewSession {
    let types = &group.allowed_session_types;
    let kind = types
        .iter()
        .find(|kind| **kind == SessionType::Batch)
        .or_else(|| types.iter().next());
    NewSession {
        kind: kind.map(ToString::to_string),
        command: vec!["true".to_owned()],
        // Amounts are asked about; that an installation has no default image is not their fault.
        image: Some("any".to_owned()),
        preset: Some(preset.name.clone()),
        group: Some(group.name.clone()),
        project,
        ..NewSession::default()
    }
}

fn offer(
    state: &model::State,
    planner: &mut Planner,
    preset: &Preset,
    submit: &Submit,
    now: Timestamp,
) -> OfferedPreset {
    let view = preset_view(preset);
    let told = match model::check_submit(state, submit, now) {
        Ok(session) => scheduler::is_offered(planner, state, &session, now),
        Err(refusal) => {
            let never = matches!(
                refusal.code,
                "LS-FIT-NEVER" | "LS-LIMIT-NEVER" | "LS-SLOT-UNKNOWN"
            );
            Err((vec![refused(refusal)], never))
        }
    };
    let (blocked_by, never) = told.err().unwrap_or_default();
    OfferedPreset {
        name: view.name,
        slots: view.slots,
        shm: view.shm,
        offered: blocked_by.is_empty() && !never,
        never,
        blocked_by,
    }
}

/// A refusal in the shape of what a waiting session is told.
fn refused(refusal: Refusal) -> Blocker {
    let limit = refusal.limit.map(|limit| *limit);
    let stage = match refusal.code {
        "LS-FIT-NEVER" | "LS-SLOT-UNKNOWN" => "capacity",
        "LS-LIMIT-NEVER" | "LS-LIMIT-PENDING" => "limit",
        _ => "ready",
    };
    let rule = match (refusal.code, &limit) {
        ("LS-FIT-NEVER" | "LS-SLOT-UNKNOWN", _) => "never-fits".to_owned(),
        (_, Some(limit)) => limit.rule.clone(),
        (code, None) => code.to_ascii_lowercase(),
    };
    Blocker {
        stage: stage.to_owned(),
        rule,
        text: refusal.detail,
        slot: limit.as_ref().and_then(|l| l.slot.clone()),
        need: limit.as_ref().map(|l| l.need.clone()),
        have: limit.as_ref().map(|l| l.have.clone()),
        limit: limit.as_ref().and_then(|l| l.limit.clone()),
        source: limit.and_then(|l| l.source),
        since: None,
    }
}
