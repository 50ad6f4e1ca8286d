//! `wait`: until sessions have ended, or run.

use crate::app::App;
use crate::client::Client;
use crate::describe;
use crate::error::Failure;
use crate::follow::Screen;
use crate::values::SessionRef;
use futures_util::future::{join_all, select_all};
use longshore_common::api::Session;
use std::time::{Duration, Instant};

/// A coordinator that was away for this long is not waited for any longer.
const AWAY: Duration = Duration::from_secs(300);

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum For {
    /// Until it runs.
    Running,
    /// Until it has ended.
    End,
}

/// Flags of `wait`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The sessions: s-42, 42, a name, @ for the latest
    #[arg(required = true)]
    pub(crate) ids: Vec<SessionRef>,
    /// Until one of them is so far
    #[arg(long)]
    pub(crate) any: bool,
    /// What to wait for
    #[arg(long = "for", value_enum, value_name = "WHAT", default_value = "end")]
    pub(crate) what: For,
}

/// Waits. 0 if all succeeded, else the code of the first that did not.
pub(crate) async fn run(app: &App, args: Args) -> Result<u8, Failure> {
    let client = app.client()?;
    let mut ids = Vec::new();
    for id in &args.ids {
        ids.push(client.session_id(id).await?);
    }
    let mut screen = Screen::new(app.global.quiet);
    let waits = ids
        .iter()
        .map(|id| Box::pin(wait_one(&client, id, args.what)));
    let done: Vec<Session> = if args.any {
        vec![select_all(waits).await.0?]
    } else {
        join_all(waits)
            .await
            .into_iter()
            .collect::<Result<_, _>>()?
    };
    for session in &done {
        if describe::is_final(session) {
            let (word, text) = describe::closing(session);
            screen.line(&session.id, word, &text);
        } else {
            screen.status(session, None);
            screen.close();
        }
    }
    Ok(done
        .iter()
        .map(|session| exit(session, args.what))
        .find(|exit| *exit != 0)
        .unwrap_or(0))
}

fn exit(session: &Session, what: For) -> u8 {
    match what {
        For::Running if session.state == "RUNNING" || session.started_at.is_some() => 0,
        For::Running | For::End => describe::exit_code(session),
    }
}

async fn wait_one(client: &Client, id: &str, what: For) -> Result<Session, Failure> {
    let mut lost: Option<Instant> = None;
    let mut seen: Option<Session> = None;
    loop {
        let answer = match &seen {
            None => client.session(id).await.map(Some),
            Some(session) => client.session_change(id, session.version, 20).await,
        };
        match answer {
            Ok(session) => {
                lost = None;
                seen = session.or(seen);
            }
            Err(failure) if failure.is_transient() => {
                if lost.get_or_insert_with(Instant::now).elapsed() > AWAY {
                    return Err(failure);
                }
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            Err(failure) => return Err(failure),
        }
        if let Some(session) = seen.take_if(|session| {
            describe::is_final(session) || what == For::Running && session.state == "RUNNING"
        }) {
            return Ok(session);
        }
    }
}

/// Waits for the ends of sessions that are being stopped; those that go on are given back.
pub(crate) async fn ends(client: &Client, ids: &[String], limit: Duration) -> Vec<String> {
    let waits = ids.iter().map(|id| {
        Box::pin(async move {
            let done = tokio::time::timeout(limit, wait_one(client, id, For::End)).await;
            if matches!(done, Ok(Ok(_))) {
                None
            } else {
                Some(id.clone())
            }
        })
    });
    join_all(waits).await.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::tests::session;
    use serde_json::json;

    #[test]
    fn codes() {
        let ran = session(
            json!({"state":"TERMINATED","reason":"task-failed","exit_code":3,"started_at":"2026-11-20T21:05:03Z"}),
        );
        assert_eq!((exit(&ran, For::End), exit(&ran, For::Running)), (3, 0));
        let never = session(json!({"state":"CANCELLED","reason":"user-requested"}));
        assert_eq!(exit(&never, For::Running), crate::error::code::ATTACHED);
    }
}
