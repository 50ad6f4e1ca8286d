//! Records of the audit log that grew old.

use super::super::App;
use crate::engine::wall_clock;
use longshore_common::time::Timestamp;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::interval;

/// How often retention looks: records grow old by days.
const DAILY: Duration = Duration::from_secs(86_400);
/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// Removes records that are older than `services.retention.audit_days` at the start, once a day
/// and when that is changed, piece by piece, until the coordinator stops; 0 = never.
pub async fn keep_retention(app: App, mut stopping: watch::Receiver<bool>) {
    let mut settings = app.settings.watch();
    let mut days_pass = interval(DAILY);
    loop {
        tokio::select! {
            _ = days_pass.tick() => (), // at once the first time
            _ = settings.changed() => (),
            _ = stopping.wait_for(|stop| *stop) => return,
        }
        let days = settings
            .borrow_and_update()
            .config
            .services
            .retention
            .audit_days;
        if days == 0 {
            continue;
        }
        let before = wall_clock().plus_ms(-(i64::from(days) * DAY_MS));
        tokio::select! {
            () = retire(&app, before) => (),
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

/// Removes what is older, and leaves a record of each piece.
pub(super) async fn retire(app: &App, before: Timestamp) {
    loop {
        // Not while the log is checked: it would miss what goes meanwhile.
        let Ok(_one) = app.audit.checks.acquire().await else {
            return;
        };
        let removed = match app.reader.expired_audit(before).await {
            Ok(Some(removed)) => removed,
            Ok(None) => return,
            Err(error) => {
                tracing::error!(%error, "old records of the audit log could not be looked for");
                return;
            }
        };
        if let Err(error) = app.engine.forget_audit(removed).await {
            tracing::error!(%error, "old records of the audit log could not be removed");
            return;
        }
        tracing::info!(
            up_to = removed.seq,
            "old records of the audit log were removed"
        );
    }
}
