//! `notify …`: what one is told of by mail and by calls, and what became of it.

use crate::app::App;
use crate::client::{Call, Client, encode, typed};
use crate::clock;
use crate::error::Failure;
use crate::output::{Table, clean};
use longshore_common::notify::{NoteView, NotifyRequest, NotifyTest, NotifyTested, NotifyView};
use reqwest::Method;
use serde_json::{Value, json};

const PATH: &str = "/api/v1/me/notifications";

/// What can be done about being told.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List what one can be told of, and by what one is
    Ls,
    /// Choose what one is told of; what is not said stays
    Set(SetArgs),
    /// Have a test sent to one's own places, or to a webhook of the configuration
    Test {
        /// A webhook of the configuration, for superadmins
        #[arg(value_name = "CHANNEL")]
        channel: Option<String>,
    },
    /// List what one was told, newest first, and what became of it
    Log {
        /// Only what was given up
        #[arg(long, conflicts_with = "waiting")]
        failed: bool,
        /// Only what is still tried
        #[arg(long)]
        waiting: bool,
        /// What everybody was told, and webhooks of the configuration; for superadmins
        #[arg(long)]
        everybody: bool,
    },
}

/// Flags of `notify set`.
#[derive(Debug, clap::Args)]
pub(crate) struct SetArgs {
    /// Events told by mail, such as start,end,warn; usual = those that are when nothing is chosen
    #[arg(long, value_name = "EVENTS", value_delimiter = ',')]
    pub(crate) mail: Option<Vec<String>>,
    /// Nothing is told by mail
    #[arg(long, conflicts_with = "mail")]
    pub(crate) no_mail: bool,
    /// Events told by calls of the webhook; usual = all
    #[arg(long, value_name = "EVENTS", value_delimiter = ',')]
    pub(crate) calls: Option<Vec<String>>,
    /// An http or https address that is called
    #[arg(long, value_name = "URL")]
    pub(crate) webhook: Option<String>,
    /// No address is called any more
    #[arg(long, conflicts_with = "webhook")]
    pub(crate) no_webhook: bool,
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Ls => {
            let shown = get(&app.client()?).await?;
            show(app, &shown)
        }
        Verb::Set(args) => set(app, args).await,
        Verb::Test { channel } => {
            let request = NotifyTest { channel };
            let told = app
                .client()?
                .post("/me/notifications/test", &request)
                .await?;
            app.output().object(&told, "queued", || {
                let tested: NotifyTested = typed(told.clone())?;
                let text = "what became of it: longshore notify log\n";
                Ok(format!("{} on the way   {text}", tested.queued))
            })?;
            Ok(0)
        }
        Verb::Log {
            failed,
            waiting,
            everybody,
        } => {
            let mut terms = Vec::new();
            if failed {
                terms.push("state=failed".to_owned());
            }
            if waiting {
                terms.push("state=waiting".to_owned());
            }
            if everybody {
                terms.push("scope=all".to_owned());
            }
            if let Some(limit) = app.global.limit.as_deref() {
                terms.push(format!("limit={}", encode(limit)));
            }
            let path = format!("/notifications?{}", terms.join("&"));
            let page = app.client()?.get(&path).await?;
            let items: Vec<Value> = page["items"].as_array().cloned().unwrap_or_default();
            app.output().list(&items, "id", || log(&items))?;
            Ok(0)
        }
    }
}

async fn get(client: &Client) -> Result<Value, Failure> {
    client.call(Call::new(Method::GET, PATH)).await
}

async fn set(app: &App, args: SetArgs) -> Result<u8, Failure> {
    let client = app.client()?;
    let present: NotifyView = typed(get(&client).await?)?;
    let path = match app.global.dry_run {
        true => format!("{PATH}?dry_run=true"),
        false => PATH.to_owned(),
    };
    let body = json!(asked(&present, args));
    let shown = client
        .call(Call::new(Method::PUT, &path).body(body))
        .await?;
    show(app, &shown)
}

/// The whole choice: what is not said stays as it is shown.
fn asked(present: &NotifyView, args: SetArgs) -> NotifyRequest {
    let usual = |events: &[String]| matches!(events, [one] if one == "usual");
    let chosen = |rows: &dyn Fn(&longshore_common::notify::NotifyRow) -> bool| {
        let rows = present.events.iter().filter(|row| rows(row));
        rows.map(|row| row.event.clone()).collect::<Vec<_>>()
    };
    let mail = match args.mail {
        _ if args.no_mail => Some(Vec::new()),
        Some(events) if usual(&events) => None,
        Some(events) => Some(events),
        None => Some(chosen(&|row| row.mail)),
    };
    let webhook = match args.calls {
        Some(events) if usual(&events) => None,
        Some(events) => Some(events),
        // Without an address nothing is chosen by calls yet.
        None if present.webhook_url.is_none() => None,
        None => Some(chosen(&|row| row.webhook)),
    };
    NotifyRequest {
        mail,
        webhook,
        webhook_url: match args.no_webhook {
            true => None,
            false => args.webhook.or_else(|| present.webhook_url.clone()),
        },
    }
}

fn show(app: &App, shown: &Value) -> Result<u8, Failure> {
    let view: NotifyView = typed(shown.clone())?;
    if app.output().is_json() {
        app.output().value(shown)?;
        return Ok(0);
    }
    let mut table = Table::new(&["EVENT", "MAIL", "CALL", "WHAT"]);
    let mark = |chosen: bool| if chosen { "yes" } else { "-" }.to_owned();
    for row in &view.events {
        table.row(vec![
            row.event.clone(),
            mark(row.mail),
            mark(row.webhook),
            row.about.clone(),
        ]);
    }
    app.output().table(&table)?;
    if app.global.quiet {
        return Ok(0);
    }
    if !view.mail {
        eprintln!("no mail is sent to you: it is not set up, or you have no address");
    }
    if let (Some(url), Some(secret)) = (&view.webhook_url, &view.signing_secret) {
        eprintln!("calls go to {}, signed with {}", clean(url), clean(secret));
    }
    Ok(0)
}

fn log(items: &[Value]) -> Result<Table, Failure> {
    let mut table = Table::new(&["ID", "AT", "EVENT", "BY", "TO", "STATE", "TRIES", "TEXT"]);
    for item in items {
        let note: NoteView = typed(item.clone())?;
        let text = match note.error.as_str() {
            "" => note.text,
            error => format!("{} [{error}]", note.text),
        };
        table.row(vec![
            note.id,
            clock::short(note.at),
            note.event,
            note.by,
            note.to,
            note.state,
            note.tries.to_string(),
            text,
        ]);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::notify::NotifyRow;

    fn present(url: Option<&str>) -> NotifyView {
        let row = |event: &str, mail| NotifyRow {
            event: event.to_owned(),
            about: String::new(),
            mail,
            webhook: url.is_some(),
        };
        NotifyView {
            mail: true,
            webhook_url: url.map(str::to_owned),
            signing_secret: None,
            events: vec![row("start", false), row("end", true)],
        }
    }

    fn args() -> SetArgs {
        SetArgs {
            mail: None,
            no_mail: false,
            calls: None,
            webhook: None,
            no_webhook: false,
        }
    }

    #[test]
    fn what_is_not_said_stays() {
        let some = |texts: &[&str]| Some(texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>());
        let url = || Some("https://desk.lab/".to_owned());
        let with = SetArgs {
            webhook: url(),
            ..args()
        };
        let request = asked(&present(None), with);
        assert_eq!((request.mail, request.webhook), (some(&["end"]), None));
        assert_eq!(request.webhook_url, url());
        let shown = present(Some("https://desk.lab/"));
        let request = asked(
            &shown,
            SetArgs {
                no_mail: true,
                ..args()
            },
        );
        assert_eq!((request.mail, request.webhook_url), (some(&[]), url()));
        assert_eq!(request.webhook, some(&["start", "end"]));
        let request = asked(
            &shown,
            SetArgs {
                mail: some(&["usual"]),
                no_webhook: true,
                ..args()
            },
        );
        assert_eq!((request.mail, request.webhook_url), (None, None));
    }
}
