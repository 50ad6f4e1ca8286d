//! `logs`: the output of a session, as the program wrote it.

use crate::app::App;
use crate::client::Call;
use crate::describe;
use crate::error::{Failure, code};
use crate::follow::{Options, Outcome, Signals, follow};
use crate::output;
use crate::values::SessionRef;
use longshore_common::api::Session;
use reqwest::Method;

/// Said of output that does not come from its node.
pub(crate) const KEPT: &str =
    "the node cannot be reached: this is the last output, as the coordinator keeps it";

/// Flags of `logs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The session: s-42, 42, a name, @ for the latest
    pub(crate) id: SessionRef,
    /// Go on until the session has ended; Ctrl-C leaves it as it is
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only so many last lines
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<u64>,
    /// Only stdout or only stderr
    #[arg(long, value_name = "WHICH", value_parser = ["stdout", "stderr"], conflicts_with = "follow")]
    pub(crate) stream: Option<String>,
}

/// Shows it.
pub(crate) async fn run(app: &App, args: Args) -> Result<u8, Failure> {
    let client = app.client()?;
    let path = client.session_path(&args.id).await?;
    if args.follow {
        let session: Session = client.get_as(&path).await?;
        let options = Options {
            on_disconnect: None,
            tail: args.tail,
            deadline: app.deadline(),
            quiet: true,
            view: true,
        };
        let outcome = follow(&client, session, &options, Signals::new()?, None).await?;
        return Ok(exit(&outcome));
    }
    let mut filters = Vec::new();
    filters.extend(args.tail.map(|tail| format!("tail={tail}")));
    filters.extend(args.stream.map(|stream| format!("stream={stream}")));
    let path = format!("{path}/logs?{}", filters.join("&"));
    // As it comes: there may be gigabytes, and they take their time.
    let mut stream = client.stream(path.trim_end_matches('?')).await?;
    if stream.has_header("longshore-output") {
        eprintln!("{KEPT}");
    }
    while let Some(bytes) = stream.next().await? {
        output::write_bytes(&bytes)?;
    }
    Ok(0)
}

/// How the session ended is not what was asked for; that the output could not be read to
/// its end is.
const fn exit(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Ended(_) | Outcome::Left(0) => 0,
        Outcome::Left(_) => code::UNREACHABLE,
    }
}

/// What a session wrote, for `up`.
pub(crate) async fn all(
    client: &crate::client::Client,
    session: &Session,
) -> Result<String, Failure> {
    debug_assert!(describe::is_final(session));
    let path = format!("/api/v1/sessions/{}/logs", session.id);
    let bytes = client.call_bytes(Call::new(Method::GET, &path)).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::tests::session;
    use serde_json::json;

    #[test]
    fn codes() {
        let failed = session(json!({ "state": "TERMINATED", "exit_code": 3 }));
        let table = [
            (Outcome::Ended(Box::new(failed)), 0),
            // Ctrl-C leaves the view.
            (Outcome::Left(0), 0),
            (Outcome::Left(code::ATTACHED), code::UNREACHABLE),
            (Outcome::Left(code::ATTACHED_TIMEOUT), code::UNREACHABLE),
        ];
        for (outcome, wanted) in table {
            assert_eq!(exit(&outcome), wanted, "{outcome:?}");
        }
    }
}
