//! `wait`: until sessions have ended, or run.

use crate::app::App;
use crate::away::{self, Away, Lost};
use crate::client::Client;
use crate::clock;
use crate::describe;
use crate::error::Failure;
use crate::follow::Screen;
use crate::output::clean;
use crate::values::{self, SessionRefs};
use futures_util::future::{join_all, select_all};
use longshore_common::api::Session;
use std::cell::Cell;
use std::time::Duration;

/// How long one question is held back: short enough that a lost connection is noticed
/// soon, long enough that nobody polls.
const WAIT_S: u64 = 20;

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
    /// The sessions: s-42, 42, s-42.3-9, a name, @ for the latest
    #[arg(required = true)]
    pub(crate) ids: Vec<SessionRefs>,
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
    for id in &values::each(&args.ids) {
        ids.push(client.session_id(id).await?);
    }
    let mut screen = Screen::new(app.global.quiet);
    let news = News::default();
    let waits = ids
        .iter()
        .map(|id| Box::pin(wait_one(&client, id, args.what, &news)));
    let done: Result<Vec<Session>, Failure> = if args.any {
        select_all(waits).await.0.map(|session| vec![session])
    } else {
        join_all(waits).await.into_iter().collect()
    };
    let done = done.map_err(|failure| match failure.is_transient() {
        true => failure.hint(again(&ids, &args)),
        false => failure,
    })?;
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

/// How to come back.
fn again(ids: &[String], args: &Args) -> String {
    let any = if args.any { "--any " } else { "" };
    let what = match args.what {
        For::Running => "--for running ",
        For::End => "",
    };
    format!("longshore wait {any}{what}{}", ids.join(" "))
}

fn exit(session: &Session, what: For) -> u8 {
    match what {
        For::Running if session.state == "RUNNING" || session.started_at.is_some() => 0,
        For::Running | For::End => describe::exit_code(session),
    }
}

/// What people are told of a coordinator that is away: once, however many sessions are
/// waited for.
#[derive(Debug, Default)]
pub(crate) struct News {
    away: Cell<bool>,
}

impl News {
    /// The line that says so, unless it was said.
    fn lost(&self, failure: &Failure) -> Option<String> {
        let said = self.away.replace(true);
        (!said).then(|| format!("{}; trying again", away::why(failure)))
    }

    /// The line about its return, unless that was said.
    fn back(&self, after: Duration) -> Option<String> {
        let after = clock::span(i64::try_from(after.as_millis()).unwrap_or(i64::MAX));
        let away = self.away.replace(false);
        away.then(|| format!("connected again after {after}"))
    }
}

fn say(line: Option<String>) {
    if let Some(line) = line {
        eprintln!("{}", clean(&line));
    }
}

/// Waits for the end of one session.
pub(crate) async fn end(client: &Client, id: &str) -> Result<Session, Failure> {
    wait_one(client, id, For::End, &News::default()).await
}

async fn wait_one(client: &Client, id: &str, what: For, news: &News) -> Result<Session, Failure> {
    let ask = async |seen: Option<u64>| match seen {
        None => client.session(id).await.map(Some),
        Some(version) => client.session_change(id, version, WAIT_S).await,
    };
    until(ask, what, news).await
}

/// Asks until a session is so far. `ask` gets the version that is known, and gives nothing
/// while that is the present one.
async fn until(
    ask: impl AsyncFnMut(Option<u64>) -> Result<Option<Session>, Failure>,
    what: For,
    news: &News,
) -> Result<Session, Failure> {
    let so_far = |session: &Session| {
        describe::is_final(session) || what == For::Running && session.state == "RUNNING"
    };
    until_so(ask, so_far, news).await
}

/// The same, with other words for how far.
pub(crate) async fn until_so(
    mut ask: impl AsyncFnMut(Option<u64>) -> Result<Option<Session>, Failure>,
    so_far: impl Fn(&Session) -> bool,
    news: &News,
) -> Result<Session, Failure> {
    let mut away = Away::new();
    let mut seen: Option<Session> = None;
    loop {
        match ask(seen.as_ref().map(|session| session.version)).await {
            Ok(session) => {
                if let Some(after) = away.answered() {
                    say(news.back(after));
                }
                seen = session.or(seen);
            }
            Err(failure) if failure.is_transient() => {
                match away.failed() {
                    Lost::Now => say(news.lost(&failure)),
                    Lost::Still => (),
                    Lost::TooLong => return Err(away::gave_up(&failure)),
                }
                away.pause().await;
            }
            Err(failure) => return Err(failure),
        }
        if let Some(session) = seen.take_if(|session| so_far(session)) {
            return Ok(session);
        }
    }
}

/// Waits for the ends of sessions that are being stopped; those that go on are given back.
pub(crate) async fn ends(client: &Client, ids: &[String], limit: Duration) -> Vec<String> {
    let news = &News::default();
    let waits = ids.iter().map(|id| {
        Box::pin(async move {
            let done = tokio::time::timeout(limit, wait_one(client, id, For::End, news)).await;
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
    use crate::client::tests::answering;
    use crate::describe::tests::session;
    use crate::error::code;
    use serde_json::json;
    use tokio::time::Instant;

    fn unreachable() -> Failure {
        Failure::new(code::UNREACHABLE, "the coordinator cannot be reached").why("it broke off")
    }

    #[tokio::test(start_paused = true)]
    async fn five_minutes_away_are_the_end() {
        let (started, mut asked) = (Instant::now(), 0);
        let ask = async |_| {
            asked += 1;
            Err(unreachable())
        };
        let failure = until(ask, For::End, &News::default()).await.unwrap_err();
        let whole = started.elapsed().as_secs();
        assert!((300..=316).contains(&whole), "{whole} s");
        assert!(asked < 30, "{asked} questions");
        assert_eq!(
            failure.why,
            ["the coordinator cannot be reached (it broke off)"]
        );
        // `wait` is attached to what it waits for.
        assert_eq!(crate::exit_code(&failure, true), code::ATTACHED);
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_where_it_was() {
        let pending = session(json!({ "version": 4 }));
        let ended = session(json!({ "version": 5, "state": "TERMINATED", "exit_code": 0 }));
        let mut answers = vec![
            Ok(Some(pending)),
            Err(unreachable()),
            Ok(None),
            Ok(Some(ended)),
        ];
        answers.reverse();
        let mut asked = Vec::new();
        let ask = async |seen| {
            asked.push(seen);
            answers.pop().unwrap()
        };
        let done = until(ask, For::End, &News::default()).await.unwrap();
        assert_eq!(done.version, 5);
        assert_eq!(asked, [None, Some(4), Some(4), Some(4)]);
    }

    #[tokio::test]
    async fn a_coordinator_that_holds_nothing_back_is_not_kept_busy() {
        let pending = serde_json::to_value(session(json!({}))).unwrap();
        let ended = session(json!({ "state": "TERMINATED", "exit_code": 0 }));
        let ended = serde_json::to_value(ended).unwrap();
        let nothing = Some((304, json!(null)));
        let answers = vec![Some((200, pending)), nothing, Some((200, ended))];
        let (client, requests) = answering(answers).await;
        let started = Instant::now();
        let done = wait_one(&client, "s-42", For::End, &News::default()).await;
        assert_eq!(done.unwrap().state, "TERMINATED");
        assert!(started.elapsed() >= Duration::from_millis(500));
        assert_eq!(requests.lock().unwrap().len(), 3);
    }

    #[test]
    fn a_lost_connection_is_said_once() {
        let news = News::default();
        let lost = news.lost(&unreachable()).unwrap();
        assert_eq!(
            lost,
            "the coordinator cannot be reached (it broke off); trying again"
        );
        assert_eq!(news.lost(&unreachable()), None);
        let back = news.back(Duration::from_secs(7)).unwrap();
        assert_eq!(back, "connected again after 7 s");
        assert_eq!(news.back(Duration::from_secs(7)), None);
    }

    #[test]
    fn codes() {
        let ran = session(
            json!({"state":"TERMINATED","reason":"task-failed","exit_code":3,"started_at":"2026-11-20T21:05:03Z"}),
        );
        assert_eq!((exit(&ran, For::End), exit(&ran, For::Running)), (3, 0));
        let never = session(json!({"state":"CANCELLED","reason":"user-requested"}));
        assert_eq!(exit(&never, For::Running), code::ATTACHED);
    }
}
