//! Sessions, their histories and last output, and usage that grew old: looked for at the start, once a day, and when the
//! days are changed; removed piece by piece, so that others are answered in between.

use super::App;
use crate::config::Retention;
use crate::engine::wall_clock;
use crate::store::{OldPart, StoreError};
use longshore_common::ids::SessionId;
use longshore_common::time::Timestamp;
use longshore_core::model::{Event, Old, old_before};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::interval;

/// How often it is looked: things grow old by days.
const DAILY: Duration = Duration::from_secs(86_400);
/// Sessions or rows in one transaction: some milliseconds of the writer.
const AT_A_TIME: u32 = 100;

/// Removes what the configuration says, until the coordinator stops.
pub async fn keep(app: App, mut stopping: watch::Receiver<bool>) {
    let mut settings = app.settings.watch();
    let mut days_pass = interval(DAILY);
    let mut done = None;
    loop {
        let daily = tokio::select! {
            _ = days_pass.tick() => true, // at once the first time
            _ = settings.changed() => false,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        let days = settings.borrow_and_update().config.services.retention;
        // Most changes are about something else.
        if !daily && done == Some(days) {
            continue;
        }
        done = Some(days);
        tokio::select! {
            () = forget(&app, days, wall_clock()) => (),
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

/// Removes what is old at an instant. What cannot be removed now is tried again a day later.
pub(super) async fn forget(app: &App, days: Retention, now: Timestamp) {
    let done = async {
        if let Some(before) = old_before(days.events_days, now) {
            sessions(app, OldPart::Histories, before, Old::Histories).await?;
        }
        if let Some(before) = old_before(days.logs_days, now) {
            sessions(app, OldPart::Output, before, Old::Output).await?;
        }
        if let Some(before) = old_before(days.sessions_days, now) {
            sessions(app, OldPart::Sessions, before, Old::Sessions).await?;
        }
        match old_before(days.usage_days, now) {
            Some(before) => usage(app, before).await,
            None => Ok(()),
        }
    };
    if let Err(error) = done.await {
        tracing::error!("what grew old could not be removed: {error}");
    }
}

/// Walks over what ended before, again as long as something goes: an array goes after its tasks.
async fn sessions(
    app: &App,
    part: OldPart,
    before: Timestamp,
    old: fn(Vec<SessionId>) -> Old,
) -> Result<(), String> {
    let text = |error: StoreError| error.to_string();
    let mut all = 0;
    loop {
        let (mut after, mut gone) = (None, 0);
        loop {
            let found = app.reader.ended(part, before, after, AT_A_TIME);
            let found = found.await.map_err(text)?;
            let Some(last) = found.last() else {
                break;
            };
            after = Some(*last);
            let ids: Vec<SessionId> = found.iter().map(|(_, id)| *id).collect();
            let found = ids.len();
            order(app, old(ids.clone())).await?;
            // What something rests on is still there, and is passed by.
            let left = app.reader.ended_among(part, ids).await.map_err(text)?;
            gone += found - left;
        }
        if gone == 0 {
            break;
        }
        all += gone;
    }
    if all > 0 {
        let what = match part {
            OldPart::Sessions => "old sessions were removed",
            OldPart::Histories => "histories of old sessions were removed",
            OldPart::Output => "the last output of old sessions was removed",
        };
        tracing::info!(sessions = all, "{what}");
    }
    Ok(())
}

async fn usage(app: &App, before: Timestamp) -> Result<(), String> {
    let mut any = false;
    loop {
        let more = app.reader.has_old_usage(before).await;
        if !more.map_err(|error| error.to_string())? {
            break;
        }
        any = true;
        let most = AT_A_TIME;
        order(app, Old::Usage { before, most }).await?;
    }
    if any {
        tracing::info!(before = %before, "old rows of usage were removed");
    }
    Ok(())
}

async fn order(app: &App, old: Old) -> Result<(), String> {
    let done = app.engine.ask(Event::Forget(old)).await;
    match done.map_err(|error| error.to_string())? {
        Ok(_) => Ok(()),
        Err(refusal) => Err(refusal.detail),
    }
}
