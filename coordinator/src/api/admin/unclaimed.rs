//! Containers of the cluster that no order names: ending one, letting one stay.

use super::{Match, Nothing, write};
use crate::api::errors::Failure;
use crate::api::extract::Ref;
use crate::api::{App, json, views};
use axum::extract::{Request, State};
use axum::response::Response;
use longshore_common::api;
use longshore_core::model::admin::AdminVerb;
use std::sync::Arc;

const GRACE_MAX_S: i64 = 600;

/// Orders its end. Its node carries that out and says when it is gone.
pub(crate) async fn stop(
    State(app): State<App>,
    Ref(key): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<api::StopUnclaimed>(request, &[], Match::Optional).await?;
    let grace_s = write.body.grace_s;
    let usual = app.settings.now().config.services.sessions.stop_grace_s;
    let grace_s = grace_s.unwrap_or_else(|| i64::from(usual));
    let grace_s = match u32::try_from(grace_s) {
        Ok(seconds) if grace_s <= GRACE_MAX_S => seconds,
        _ => {
            let text = format!("grace_s is from 0 to {GRACE_MAX_S}.");
            return Err(Failure::new("LS-INVALID", text.clone()).at("/grace_s", text));
        }
    };
    let verb = AdminVerb::StopUnclaimed {
        key: key.clone(),
        grace_s,
    };
    write.order(&app, verb, |_| None).await?;
    let shown = find(&app, key).await?;
    // It may be gone by now; before, it was there.
    let mut shown = shown.ok_or_else(|| Failure::not_found("such unclaimed container"))?;
    shown.stopping = true;
    shown.stops_at = None;
    let mut response = json(&shown)?;
    write.mark(&mut response);
    Ok(response)
}

/// Takes one into the books, or leaves it where it is.
pub(crate) async fn adopt(
    State(app): State<App>,
    Ref(key): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<Nothing>(request, &[], Match::Optional).await?;
    let before = find(&app, key.clone()).await?;
    let verb = AdminVerb::AdoptUnclaimed { key };
    let done = write.order(&app, verb, |_| None).await?;
    // One whose node has not said yet where it stands is there all the same.
    let mut shown = before.ok_or_else(|| Failure::not_found("such unclaimed container"))?;
    let after = done.object.value().unwrap_or_default();
    shown.adopted = after["adopted"] == true;
    shown.kept = !shown.adopted;
    shown.stops_at = None;
    let mut response = json(&shown)?;
    write.mark(&mut response);
    Ok(response)
}

async fn find(app: &App, key: String) -> Result<Option<api::Unclaimed>, Failure> {
    let live = Arc::clone(&app.engine.live);
    let look = move |state: &longshore_core::model::State, _| {
        let all = state.agents.values();
        let mut all = all.flat_map(|agent| views::unclaimed(state, &live, agent));
        all.find(|one| one.id == key)
    };
    Ok(app.engine.read(look).await?)
}
