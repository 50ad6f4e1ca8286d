//! `start`: an interactive session. It goes on when the command returns.

use crate::app::App;
use crate::client::Client;
use crate::commands::wait::{self, News};
use crate::describe;
use crate::error::{Failure, code};
use crate::follow::{Screen, Signals};
use crate::output;
use crate::request::{self, SessionFlags};
use longshore_common::api::Session;

/// Flags of `start`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) session: SessionFlags,
    /// Return as soon as the session is accepted
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// A session of the installation's own image to bring files in and out: it starts at once or
    /// is refused, has no GPU, and ends ten minutes after the last connection
    #[arg(long)]
    pub(crate) system: bool,
    /// What to run instead of only keeping the session
    #[arg(trailing_var_arg = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

/// Starts it, and watches until it runs. Ctrl-C leaves the view, not the session.
pub(crate) async fn run(app: &App, args: Args) -> Result<u8, Failure> {
    let kind = match args.system {
        true => "system",
        false => "interactive",
    };
    let request = request::build(app, &args.session, kind, &args.command)?;
    let client = app.client()?;
    let mut signals = Signals::new()?;
    let (session, early) = request::submit(app, &client, &request, &mut signals).await?;
    output::print(&format!("{}\n", output::clean(&session.id)))?;
    let mut screen = Screen::new(app.global.quiet);
    if early.is_some() || args.detach {
        screen.status(&session, None);
        screen.close();
        return Ok(0);
    }
    let id = session.id.clone();
    let started = tokio::select! {
        _ = signals.next() => None,
        session = started(&client, session, &mut screen) => Some(session),
    };
    if let Some(session) = started {
        let session = session.map_err(|failure| gave_up(failure, &id))?;
        if session.state != "RUNNING" {
            let (word, text) = describe::closing(&session);
            screen.line(&session.id, word, &text);
            return Ok(code::FAILED);
        }
    }
    screen.close();
    if !app.global.quiet {
        eprintln!("Output: longshore logs -f {id}   Stop: longshore stop {id}");
    }
    Ok(0)
}

/// Whether nothing more is waited for.
fn is_so_far(session: &Session) -> bool {
    describe::is_final(session) || matches!(&*session.state, "TERMINATING" | "RUNNING")
}

/// Shows how far a session is, until it runs or never will. A coordinator that is away for a
/// while is waited for.
async fn started(client: &Client, first: Session, screen: &mut Screen) -> Result<Session, Failure> {
    let mut last = first;
    let ask = async |seen: Option<u64>| {
        let known = match seen {
            None => Ok(last.clone()),
            Some(version) => {
                // Figures of a pull come without a new version.
                let pulling = last.phase.as_deref() == Some("pulling");
                let wait_s = if pulling { 1 } else { 20 };
                match client.session_change(&last.id, version, wait_s).await {
                    Ok(None) => client.session(&last.id).await,
                    Ok(Some(session)) => Ok(session),
                    Err(failure) => Err(failure),
                }
            }
        };
        match known {
            Ok(session) => {
                if session.state == "RUNNING" || !is_so_far(&session) {
                    screen.status(&session, None);
                }
                last = session.clone();
                Ok(Some(session))
            }
            Err(failure) => {
                screen.close();
                Err(failure)
            }
        }
    };
    wait::until_so(ask, is_so_far, &News::default()).await
}

/// A coordinator that was away for too long has harmed nothing: how to come back.
fn gave_up(failure: Failure, id: &str) -> Failure {
    match failure.is_transient() {
        true => Failure {
            exit: code::ATTACHED,
            ..failure.hint(format!("longshore attach {id}"))
        },
        false => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::away;
    use crate::client::tests::answering;
    use crate::describe::tests::session;
    use serde_json::json;

    #[tokio::test]
    async fn a_lost_connection_is_tried_again() {
        let running = session(json!({ "version": 9, "state": "RUNNING" }));
        let running = serde_json::to_value(running).unwrap();
        let (client, requests) = answering(vec![None, Some((200, running))]).await;
        let first = session(json!({ "version": 4 }));
        let done = started(&client, first, &mut Screen::new(true)).await;
        assert_eq!(done.unwrap().state, "RUNNING");
        assert_eq!(requests.lock().unwrap().len(), 2);
    }

    #[test]
    fn who_gives_up_says_how_to_come_back() {
        let lost = Failure::new(code::UNREACHABLE, "away");
        let failure = gave_up(away::gave_up(&lost), "s-7");
        assert_eq!(failure.exit, code::ATTACHED);
        assert_eq!(failure.hint.as_deref(), Some("longshore attach s-7"));
        assert_eq!(gave_up(Failure::failed("no"), "s-7").exit, code::FAILED);
    }
}
