//! Containers of the cluster that no order names: ending one.

use super::{Match, write};
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
    let live = Arc::clone(&app.engine.live);
    let shown = app
        .engine
        .read(move |state, _| {
            let all = state.agents.values();
            let mut all = all.flat_map(|agent| views::unclaimed(state, &live, agent));
            all.find(|one| one.id == key)
        })
        .await?;
    // It may be gone by now; before, it was there.
    let mut shown = shown.ok_or_else(|| Failure::not_found("such unclaimed container"))?;
    shown.stopping = true;
    let mut response = json(&shown)?;
    write.mark(&mut response);
    Ok(response)
}
