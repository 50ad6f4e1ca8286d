//! `queue`: who waits for what, in the order in which they are served.

use crate::app::App;
use crate::client::{encode, typed};
use crate::clock;
use crate::error::Failure;
use crate::output::{Format, Table, amounts, clean};
use longshore_common::admin::GroupView;
use longshore_common::api::{Me, Session};
use serde_json::Value;

/// Flags of `queue`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this resource group
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// Only this queue of an allocation policy
    #[arg(long, value_name = "QUEUE", conflicts_with = "group")]
    pub(crate) queue: Option<String>,
}

/// Shows it.
pub(crate) async fn run(app: &App, args: Args) -> Result<u8, Failure> {
    let client = app.client()?;
    let places: Vec<(&str, String)> = match (args.queue, args.group) {
        (Some(queue), _) => vec![("queue", queue)],
        (None, Some(group)) => vec![("group", group)],
        (None, None) => {
            let mut names = Vec::new();
            for item in client.list("/resource-groups").await? {
                names.push(("group", typed::<GroupView>(item)?.name));
            }
            names
        }
    };
    let out = app.output();
    let whole = out.is_json() || out.format == Format::Name;
    let me = match whole {
        true => String::new(),
        false => client.get_as::<Me>("/me").await?.username,
    };
    let mut all = Vec::new();
    for (kind, name) in &places {
        let list = if *kind == "queue" {
            "queues"
        } else {
            "resource-groups"
        };
        let items = client
            .list(&format!("/{list}/{}/pending", encode(name)))
            .await?;
        if whole {
            all.extend(items);
            continue;
        }
        if items.is_empty() {
            if !app.global.quiet {
                eprintln!("nobody waits in {kind} {}", clean(name));
            }
            continue;
        }
        if places.len() > 1 && !app.global.quiet {
            eprintln!("{kind} {}", clean(name));
        }
        out.table(&table(&items, &me)?)?;
    }
    if whole {
        out.list(&all, "id", || table(&all, &me))?;
    }
    Ok(0)
}

fn table(items: &[Value], me: &str) -> Result<Table, Failure> {
    let mut sessions: Vec<Session> = Vec::with_capacity(items.len());
    for item in items {
        sessions.push(typed(item.clone())?);
    }
    let mut columns = vec![
        "#", "ID", "OWNER", "TYPE", "ASKS", "PRIO", "WAITS", "CLASS", "WHY",
    ];
    // Each queue counts places of its own.
    let queues = sessions.iter().any(|session| session.queue.is_some());
    if queues {
        columns.insert(1, "QUEUE");
    }
    let mut table = Table::new(&columns);
    for session in sessions {
        let why: Vec<&str> = session.blocked_by.iter().map(|b| b.text.as_str()).collect();
        let mut row = vec![
            session
                .position
                .map_or_else(|| "-".to_owned(), |position| position.to_string()),
            session.id.clone(),
            if session.owner_name == me {
                "you".to_owned()
            } else {
                session.owner_name.clone()
            },
            session.kind.clone(),
            amounts(&session.slots),
            session.priority.to_string(),
            clock::ago(session.created_at),
            session.class.clone().unwrap_or_default(),
            why.join("; "),
        ];
        if queues {
            row.insert(1, session.queue.clone().unwrap_or_default());
        }
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
        let mut waiting = serde_json::to_value(session(json!({
            "state": "PENDING", "position": 1, "class": "limit", "owner_name": "alice",
            "blocked_by": [{ "stage": "limit", "rule": "keypair-slots", "text": "2 of 2 used" }],
        })))
        .unwrap();
        waiting["id"] = json!("s-46");
        waiting["slots"] = json!({ "cuda.device": "2" });
        let text = table(&[waiting], "alice").unwrap().render(true, None);
        let line = text.lines().nth(1).unwrap();
        assert!(
            line.starts_with("1  s-46  you    batch  cuda.device 2"),
            "{line}"
        );
        assert!(line.ends_with("limit  2 of 2 used"), "{line}");
    }
}
