//! `stop`: ends sessions.

use crate::app::App;
use crate::client::Client;
use crate::commands::wait;
use crate::error::{Failure, code};
use crate::output::clean;
use crate::values::{self, SessionRef, SessionRefs};
use longshore_common::api::{Skipped, TerminateAnswer, TerminateRequest};
use std::time::Duration;

/// The most ids the server takes at once.
const AT_ONCE: usize = 200;

/// Flags of `stop`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The sessions: s-42, 42, s-42.3-9, a name, @ for the latest
    #[arg(required = true)]
    pub(crate) ids: Vec<SessionRefs>,
    /// Time between the stop signal and the kill
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(crate) grace: Option<Duration>,
    /// End it in the books at once; the node is cleaned up afterwards
    #[arg(long)]
    pub(crate) force: bool,
    /// Return when they have ended
    #[arg(long)]
    pub(crate) wait: bool,
}

/// Stops them.
pub(crate) async fn run(app: &App, args: Args) -> Result<u8, Failure> {
    let client = app.client()?;
    let (ids, unknown) = named(&client, &values::each(&args.ids)).await?;
    let mut sum = TerminateAnswer::default();
    for part in ids.chunks(AT_ONCE) {
        let request = TerminateRequest {
            ids: part.to_vec(),
            grace_s: args
                .grace
                .map(|grace| i64::try_from(grace.as_secs()).unwrap_or(i64::MAX)),
            force: args.force,
        };
        let answer = client.terminate(&request).await?;
        sum.cancelled.extend(answer.cancelled);
        sum.terminating.extend(answer.terminating);
        sum.skipped.extend(answer.skipped);
        sum.forced |= answer.forced;
        for id in answer.dependants {
            if !sum.dependants.contains(&id) {
                sum.dependants.push(id);
            }
        }
    }
    sum.skipped.extend(unknown);
    if args.wait {
        wait::ends(&client, &sum.terminating, Duration::from_secs(3600)).await;
    }
    if app.output().is_json() {
        let value = serde_json::to_value(&sum).map_err(|e| Failure::failed(e.to_string()))?;
        app.output().value(&value)?;
    } else if !app.global.quiet {
        eprint!("{}", lines(&sum));
    }
    Ok(exit(&sum))
}

/// What is to be ended, each once, and names that nobody knows: those do not keep the others
/// from being ended.
async fn named(
    client: &Client,
    refs: &[SessionRef],
) -> Result<(Vec<String>, Vec<Skipped>), Failure> {
    let (mut ids, mut unknown) = (Vec::new(), Vec::new());
    for wanted in refs {
        match (client.session_id(wanted).await, wanted) {
            (Ok(id), _) if ids.contains(&id) => (),
            (Ok(id), _) => ids.push(id),
            (Err(failure), SessionRef::Name(name)) if failure.exit == code::NOT_FOUND => {
                unknown.push(Skipped {
                    id: name.clone(),
                    why: "not-found".to_owned(),
                });
            }
            (Err(failure), _) => return Err(failure),
        }
    }
    Ok((ids, unknown))
}

fn lines(answer: &TerminateAnswer) -> String {
    let mut text = String::new();
    let word = if answer.forced {
        "ended at once"
    } else {
        "stopping"
    };
    for (ids, word) in [
        (&answer.cancelled, "cancelled"),
        (&answer.terminating, word),
    ] {
        for id in ids {
            text.push_str(&format!("{:<4}  {word}\n", clean(id)));
        }
    }
    for id in &answer.dependants {
        let id = clean(id);
        text.push_str(&format!("{id:<4}  cancelled: it waits for their success\n"));
    }
    for skipped in &answer.skipped {
        let why = match skipped.why.as_str() {
            "already-final" => "has ended already",
            "already-terminating" => "is being stopped already",
            "not-found" => "is not known",
            other => other,
        };
        text.push_str(&format!("{:<4}  {}\n", clean(&skipped.id), clean(why)));
    }
    text
}

fn exit(answer: &TerminateAnswer) -> u8 {
    let done = answer.cancelled.len() + answer.terminating.len();
    let mut bad = answer
        .skipped
        .iter()
        .filter(|skipped| skipped.why != "already-terminating")
        .peekable();
    match bad.peek() {
        None => 0,
        Some(_) if done > 0 => code::PARTLY,
        Some(first) if first.why == "not-found" => code::NOT_FOUND,
        Some(_) => code::CONFLICT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::tests::answering;
    use crate::describe::tests::session;
    use longshore_common::ids::SessionId;
    use serde_json::json;

    #[tokio::test]
    async fn a_name_that_nobody_knows_keeps_no_other_from_its_end() {
        let known = serde_json::to_value(session(json!({ "id": "s-7" }))).unwrap();
        let problem = json!({ "type": "x", "title": "t", "status": 404, "code": "LS-NOT-FOUND",
            "detail": "d", "instance": "/", "request_id": "r" });
        let answers = vec![
            Some((404, problem)),
            Some((200, known.clone())),
            Some((200, known)),
        ];
        let (client, _) = answering(answers).await;
        let refs = ["gone", "train", "train"].map(|name| SessionRef::Name(name.to_owned()));
        let refs = [&refs[..], &[SessionRef::Id(SessionId(7))]].concat();
        let (ids, unknown) = named(&client, &refs).await.unwrap();
        assert_eq!(ids, ["s-7"]);
        assert_eq!((&*unknown[0].id, &*unknown[0].why), ("gone", "not-found"));
        assert_eq!(unknown.len(), 1);
    }

    #[test]
    fn codes_and_lines() {
        let skipped = |why: &str| Skipped {
            id: "s-2".into(),
            why: why.into(),
        };
        let mut answer = TerminateAnswer {
            terminating: vec!["s-1".into()],
            ..TerminateAnswer::default()
        };
        assert_eq!(exit(&answer), 0);
        answer.skipped = vec![skipped("already-terminating")];
        assert_eq!(exit(&answer), 0);
        answer.skipped = vec![skipped("not-found")];
        assert_eq!(exit(&answer), 8);
        assert_eq!(lines(&answer), "s-1   stopping\ns-2   is not known\n");
        answer.dependants = vec!["s-3".into()];
        let all =
            "s-1   stopping\ns-3   cancelled: it waits for their success\ns-2   is not known\n";
        assert_eq!(lines(&answer), all);
        assert_eq!(exit(&answer), 8);
        answer.terminating.clear();
        assert_eq!(exit(&answer), 3);
        answer.skipped = vec![skipped("already-final")];
        assert_eq!(exit(&answer), 5);
    }
}
