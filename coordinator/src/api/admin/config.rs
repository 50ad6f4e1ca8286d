//! Pools, profiles, allocation policies and queues.

use super::super::errors::Failure;
use super::super::extract::{Query, Ref};
use super::super::{App, json, page, person};
use super::{
    Match, Nothing, Viewer, Wanted, groups, list as listed, missing, value_of, verbs, write,
};
use axum::extract::{Request, State};
use axum::response::Response;
use longshore_common::admin::{
    ConfigSwitch, ConfigVersionView, LoadRequest, Member, ProvisionRequest, QueuePatch, QueueView,
    ResourceConfigRequest, ResourceConfigView,
};
use longshore_common::api::Page;
use longshore_core::model::admin::{AdminVerb, draft_view, live_view, queue_views, view_of_live};
use longshore_core::model::{self, LiveConfig};
use serde_json::Value;
use std::collections::BTreeSet;

fn current(state: &model::State) -> Option<Value> {
    value_of(&draft_view(state))
}

async fn document(
    app: &App,
    request: Request,
    view: fn(&model::State, &Viewer) -> ResourceConfigView,
) -> Result<Response, Failure> {
    let look = move |state: &model::State, viewer: &Viewer, _: &str| Some(view(state, viewer));
    verbs::read(app, String::new(), request, "document", look).await
}

pub(in super::super) async fn live(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    document(&app, request, |state, viewer| {
        shown(state, viewer, live_view(state))
    })
    .await
}

/// What somebody is shown of a version.
fn shown(state: &model::State, viewer: &Viewer, whole: ResourceConfigView) -> ResourceConfigView {
    match viewer.all {
        true => whole,
        false => open_part(state, viewer, whole),
    }
}

/// Versions that are or were live, the newest first.
pub(in super::super) async fn versions(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let viewer = Viewer::of(&person(request.extensions())?);
    let query = Query::read(request.uri().query(), &["limit", "cursor"])?;
    let limit = page::limit(&query)?;
    let list = "resource-config versions";
    let before = app.cursors.place(list, &query)?;
    let before = before.and_then(|place| place.parse().ok());
    // One more than is shown says whether there is another page.
    let wanted = u32::try_from(limit + 1).unwrap_or(u32::MAX);
    let mut found = app.reader.config_versions(before, wanted).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| more).map(|last| last.version);
    let items = found.into_iter().map(|one| ConfigVersionView {
        version: one.version,
        at: one.provisioned_at,
        by: if viewer.all { one.by } else { String::new() },
    });
    json(&Page {
        items: items.collect(),
        next_cursor: last.map(|last| app.cursors.make(list, &query, &last.to_string())),
    })
}

/// A version that is or was live, by its number.
async fn kept(app: &App, number: u64) -> Result<LiveConfig, Failure> {
    let found = app.reader.config_version(number).await?;
    found.ok_or_else(|| missing("version", &number.to_string()))
}

pub(in super::super) async fn version(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let number = text.parse().map_err(|_| missing("version", &text))?;
    let kept = kept(&app, number).await?;
    // Who else may see what of it is known of the live one alone: names may have changed hands.
    let look = move |state: &model::State, viewer: &Viewer, _: &str| {
        viewer.all.then(|| view_of_live(state, &kept))
    };
    verbs::read(&app, text, request, "version", look).await
}

/// Makes the draft equal to a version that was live.
pub(in super::super) async fn load(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<LoadRequest>(request, &[], Match::Optional).await?;
    let number = match &write.body.version {
        Member::Value(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    let Some(number) = number else {
        let text = "version must be the number of a version that was live.";
        return Err(Failure::new("LS-INVALID", text).at("/version", text));
    };
    let document = kept(&app, number).await?.config;
    let verb = AdminVerb::LoadDraft(Box::new(document));
    let answer = write.order(&app, verb, current).await?;
    write.changed(&answer)
}

pub(in super::super) async fn draft(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    document(&app, request, |state, _| draft_view(state)).await
}

/// What of the live document somebody may know of: the queues that are open to it, with their
/// policies and profiles, and the pools of groups that are. Of a policy it is told to
/// administrators who of their domain may use it, and to others nothing of that.
fn open_part(
    state: &model::State,
    viewer: &Viewer,
    mut all: ResourceConfigView,
) -> ResourceConfigView {
    let queues: BTreeSet<String> = queues(state, viewer).into_iter().map(|q| q.name).collect();
    let own = state.users.get(&viewer.user).map(|user| user.domain);
    for policy in &mut all.allocation_policies {
        policy.profiles.retain(|of| queues.contains(&of.queue));
        policy.user_group = policy.user_group.take().filter(|name| {
            let group = state.user_group_by_ref(name);
            let near = group.is_some_and(|g| g.domain.is_none() || g.domain == own);
            viewer.is_administrator() && near
        });
        match (viewer.is_administrator(), &mut policy.users) {
            (true, Some(users)) => users.retain(|name| {
                let user = state.user_by_ref(name);
                user.is_some_and(|user| own == Some(user.domain))
            }),
            (true, None) => (),
            (false, users) => *users = None,
        }
    }
    all.allocation_policies.retain(|p| !p.profiles.is_empty());
    let policies = all.allocation_policies.iter();
    let profiles: BTreeSet<String> = policies
        .clone()
        .flat_map(|policy| policy.profiles.iter().map(|of| of.profile.clone()))
        .collect();
    let policies: BTreeSet<String> = policies.map(|policy| policy.name.clone()).collect();
    all.pools.retain(|pool| {
        let group = state.group_by_ref(&pool.group);
        group.is_some_and(|group| viewer.may_use(state, group))
    });
    let pools: BTreeSet<String> = all.pools.iter().map(|pool| pool.name.clone()).collect();
    all.profiles
        .retain(|profile| profiles.contains(&profile.name));
    for profile in &mut all.profiles {
        profile.pools.retain(|name| pools.contains(name));
        profile.policies.retain(|name| policies.contains(name));
    }
    for pool in &mut all.pools {
        pool.profiles.retain(|name| profiles.contains(name));
    }
    all.links
        .retain(|link| profiles.contains(&link.profile) && pools.contains(&link.pool));
    all.by = String::new();
    all
}

pub(in super::super) async fn save(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<ResourceConfigRequest>(request, &[], Match::Required).await?;
    let verb = AdminVerb::SaveDraft(Box::new(write.body.clone()));
    let answer = write.order(&app, verb, current).await?;
    write.changed(&answer)
}

pub(in super::super) async fn validate(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<Nothing>(request, &[], Match::Optional).await?;
    let answer = write.order(&app, AdminVerb::ValidateDraft, current).await?;
    write.changed(&answer)
}

pub(in super::super) async fn reset(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<Nothing>(request, &[], Match::Optional).await?;
    let answer = write.order(&app, AdminVerb::ResetDraft, current).await?;
    write.changed(&answer)
}

pub(in super::super) async fn provision(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<ProvisionRequest>(request, &[], Match::Optional).await?;
    let expected_version = match &write.body.expected_version {
        Member::Value(n) => u64::try_from(*n).ok(),
        _ => None,
    };
    let Some(expected_version) = expected_version else {
        let text = "expected_version must be the version of the live document as you saw it.";
        return Err(Failure::new("LS-INVALID", text).at("/expected_version", text));
    };
    let verb = AdminVerb::Provision { expected_version };
    let answer = write.order(&app, verb, current).await?;
    write.changed(&answer)
}

pub(in super::super) async fn switch(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<ConfigSwitch>(request, &[], Match::Optional).await?;
    let Some(enabled) = write.body.enabled.value().copied() else {
        let text = "enabled must be true or false.";
        return Err(Failure::new("LS-INVALID", text).at("/enabled", text));
    };
    let answer = write
        .order(&app, AdminVerb::EnablePools(enabled), |state| {
            value_of(&live_view(state))
        })
        .await?;
    write.changed(&answer)
}

// ----- queues

/// The queues a person may use.
fn queues(state: &model::State, viewer: &Viewer) -> Vec<QueueView> {
    let policies = &state.config.config.allocation_policies;
    let mut views = queue_views(state);
    views.retain(|view| {
        let policy = policies.iter().find(|p| p.name == view.policy);
        let admitted = policy.is_some_and(|p| p.admits(state, viewer.user));
        viewer.all || viewer.sees_queue(state, &view.name, admitted)
    });
    views
}

/// A queue that a person may use, by its name in any case.
pub(in super::super) fn queue_of(
    state: &model::State,
    viewer: &Viewer,
    text: &str,
) -> Option<QueueView> {
    queue(state, viewer, text)
}

fn queue(state: &model::State, viewer: &Viewer, text: &str) -> Option<QueueView> {
    queues(state, viewer)
        .into_iter()
        .find(|q| q.name.eq_ignore_ascii_case(text))
}

pub(in super::super) async fn list(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let look = |state: &model::State, viewer: &Viewer, wanted: &Wanted| {
        let views = queues(state, viewer).into_iter();
        views
            .filter(|v| wanted.takes("name", &[&v.name]) && wanted.takes("policy", &[&v.policy]))
            .map(|v| (v.name.clone(), v))
            .collect()
    };
    listed(&app, request, "queues", &["name", "policy"], look).await
}

pub(in super::super) async fn read(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    verbs::read(&app, text, request, "queue", queue).await
}

pub(in super::super) async fn rename(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<QueuePatch>(request, &[], Match::Optional).await?;
    let verb = AdminVerb::RenameQueue {
        queue: text,
        request: write.body.clone(),
    };
    let answer = write.order(&app, verb, |_| None).await?;
    write.changed(&answer)
}

/// Who waits in a queue, in its order.
pub(in super::super) async fn pending(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let viewer = Viewer::of(&caller);
    let query = Query::read(request.uri().query(), &["limit", "cursor"])?;
    let limit = page::limit(&query)?;
    let only_own = viewer.only_own();
    let wanted = text.clone();
    let found = app
        .engine
        .read(move |state, _| queue(state, &viewer, &wanted))
        .await?;
    let queue = found.ok_or_else(|| missing("queue", &text))?;
    let list = format!("pending queue {}", queue.name);
    let whom = groups::Waiting {
        line: groups::Line::Queue(queue.name),
        only_own,
        user: caller.caller.user,
    };
    groups::pages(&app, &query, limit, &list, whom).await
}
