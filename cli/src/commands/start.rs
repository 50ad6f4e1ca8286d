//! `start`: an interactive session. It goes on when the command returns.

use crate::app::App;
use crate::describe;
use crate::error::{Failure, code};
use crate::follow::{Screen, Signals};
use crate::output;
use crate::request::{self, SessionFlags};

/// Flags of `start`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) session: SessionFlags,
    /// Return as soon as the session is accepted
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// What to run instead of only keeping the session
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "CMD"
    )]
    pub(crate) command: Vec<String>,
}

/// Starts it, and watches until it runs. Ctrl-C leaves the view, not the session.
pub(crate) async fn run(app: &App, args: Args) -> Result<u8, Failure> {
    let request = request::build(app, &args.session, "interactive", &args.command)?;
    let client = app.client()?;
    let mut signals = Signals::new()?;
    let (mut session, early) = request::submit(app, &client, &request, &mut signals).await?;
    output::print(&format!("{}\n", output::clean(&session.id)))?;
    let mut screen = Screen::new(app.global.quiet);
    if early.is_some() || args.detach {
        screen.status(&session, None);
        screen.close();
        return Ok(0);
    }
    loop {
        if describe::is_final(&session) || session.state == "TERMINATING" {
            let (word, text) = describe::closing(&session);
            screen.line(&session.id, word, &text);
            return Ok(code::FAILED);
        }
        screen.status(&session, None);
        if session.state == "RUNNING" {
            break;
        }
        let wait = if session.phase.as_deref() == Some("pulling") {
            1
        } else {
            20
        };
        tokio::select! {
            _ = signals.next() => break,
            changed = client.session_change(&session.id, session.version, wait) => {
                session = match changed? {
                    Some(session) => session,
                    None => client.session(&session.id).await?,
                };
            }
        }
    }
    screen.close();
    if !app.global.quiet {
        eprintln!(
            "Output: longshore logs -f {0}   Stop: longshore stop {0}",
            session.id
        );
    }
    Ok(0)
}
