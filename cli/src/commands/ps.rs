//! `ps`: the sessions.

use crate::app::App;
use crate::client::{encode, typed};
use crate::clock;
use crate::describe;
use crate::error::Failure;
use crate::output::{Format, Table, amount, gpus};
use crate::values::SessionRef;
use longshore_common::api::Session;
use longshore_common::ids::SessionId;
use serde_json::Value;

/// Flags of `ps`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Those that have ended too
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Whatever one may see, not one's own alone
    #[arg(long)]
    pub(crate) all_users: bool,
    /// Only those in this state; may be given several times
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Vec<String>,
    /// Only those of this group
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// Only those with a name that contains this
    #[arg(long, value_name = "TEXT")]
    pub(crate) name: Option<String>,
    /// The tasks of this array; absent: each array as a whole
    #[arg(long, value_name = "ID", value_parser = array)]
    pub(crate) array: Option<SessionId>,
}

fn array(text: &str) -> Result<SessionId, String> {
    match text.parse() {
        Ok(SessionRef::Id(id)) if id.array().is_none() => Ok(id),
        _ => Err(format!("\"{text}\" is no array: write s-42 or 42")),
    }
}

/// Lists them.
pub(crate) async fn run(app: &App, args: Args) -> Result<u8, Failure> {
    let mut filters = Vec::new();
    if args.all || args.all_users {
        filters.push(format!("ended={}", args.all));
    }
    if args.all_users {
        filters.push("scope=all".to_owned());
    }
    filters.extend(
        args.state
            .iter()
            .map(|state| format!("state={}", encode(&state.to_uppercase()))),
    );
    filters.extend(
        args.group
            .iter()
            .map(|group| format!("group={}", encode(group))),
    );
    filters.extend(
        args.name
            .iter()
            .map(|name| format!("name={}", encode(name))),
    );
    filters.push(match args.array {
        Some(id) => format!("array={id}"),
        None => "array=none".to_owned(),
    });
    let path = format!("/sessions?{}", filters.join("&"));
    let items = app.list(&path).await?;
    let out = app.output();
    out.list(&items, "id", || table(&items, out.format == Format::Wide))?;
    if items.is_empty() && !app.global.quiet && !out.is_json() {
        eprintln!(
            "no sessions{}",
            if args.all {
                ""
            } else {
                "; those that have ended: longshore ps -a"
            }
        );
    }
    Ok(0)
}

pub(super) fn table(items: &[Value], wide: bool) -> Result<Table, Failure> {
    let mut columns = vec!["ID", "NAME", "TYPE", "STATE", "GPU", "AGENT", "UP", "LEFT"];
    if wide {
        columns.extend(["OWNER", "GROUP", "IMAGE", "CPU", "MEM", "REASON", "EXIT"]);
    }
    columns.push("NOTE");
    let mut table = Table::new(&columns);
    for item in items {
        let session: Session = typed(item.clone())?;
        let up = session
            .started_at
            .map(|from| clock::span(session.ended_at.unwrap_or_else(clock::now).since(from)));
        let left = session
            .stop_at
            .filter(|_| session.ended_at.is_none())
            .map(|at| {
                let left = clock::span(at.since(clock::now()));
                session
                    .stop_cause
                    .as_ref()
                    .map_or(left.clone(), |cause| format!("{left} ({cause})"))
            });
        let note = match (session.blocked_by.first(), &session.detail) {
            (Some(blocker), _) => format!("waits: {}", blocker.text),
            (None, Some(detail)) if session.result.as_deref() != Some("success") => detail.clone(),
            (None, _) => String::new(),
        };
        let mut row = vec![
            session.id.clone(),
            session.name.clone().unwrap_or_default(),
            describe::kind(&session),
            describe::state(&session),
            gpus(&session.slots),
            session.agent_names.join(","),
            up.unwrap_or_default(),
            left.unwrap_or_default(),
        ];
        if wide {
            let slot = |name: &str| {
                session
                    .slots
                    .get(name)
                    .map(|text| amount(name, text))
                    .unwrap_or_default()
            };
            row.extend([
                session.owner_name.clone(),
                session.group_name.clone(),
                session.image.clone(),
                slot("cpu"),
                slot("mem"),
                session.reason.clone().unwrap_or_default(),
                session
                    .exit_code
                    .map(|exit| exit.to_string())
                    .unwrap_or_default(),
            ]);
        }
        row.push(note);
        table.row(row);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::tests::session;
    use serde_json::json;

    #[test]
    fn a_screen() {
        let items: Vec<Value> = [
            json!({"state":"TERMINATED","name":"train","result":"failure","reason":"task-failed","exit_code":3,
                   "started_at":"2026-11-20T21:05:03Z","ended_at":"2026-11-20T21:16:03Z","agent_names":["gpu02"],
                   "slots":{"cpu":"1","mem":"1073741824","cuda.device":"1"}}),
            json!({"id":"s-46","position":2,
                   "blocked_by":[{"stage":"limit","rule":"x","text":"your limit cuda.device 2 of 2"}]}),
        ]
        .into_iter()
        .map(|members| serde_json::to_value(session(members)).unwrap())
        .collect();
        assert_eq!(
            table(&items, false).unwrap().render(true, None),
            "ID    NAME   TYPE   STATE              GPU  AGENT  UP   LEFT  NOTE\n\
             s-42  train  batch  terminated exit 3  1    gpu02  11m\n\
             s-46         batch  pending #2                                waits: your limit cuda.device 2 of 2\n"
        );
        assert!(
            table(&items, true)
                .unwrap()
                .render(true, None)
                .contains("1 GB")
        );
    }
}
