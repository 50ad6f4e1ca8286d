//! `queue`: who waits for what, in the order in which they are served.

use crate::app::App;
use crate::client::{encode, typed};
use crate::clock;
use crate::error::Failure;
use crate::output::{Table, amounts, clean};
use longshore_common::api::{ResourceGroup, Session};
use serde_json::Value;

/// Flags of `queue`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this resource group
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
}

/// Shows it.
pub(crate) async fn run(app: &App, args: Args) -> Result<u8, Failure> {
    let client = app.client()?;
    let groups = match args.group {
        Some(group) => vec![group],
        None => {
            let mut names = Vec::new();
            for item in client.list("/resource-groups").await? {
                names.push(typed::<ResourceGroup>(item)?.name);
            }
            names
        }
    };
    let out = app.output();
    let mut all = Vec::new();
    for group in &groups {
        let items = client
            .list(&format!("/resource-groups/{}/pending", encode(group)))
            .await?;
        if out.is_json() || out.format == crate::output::Format::Name {
            all.extend(items);
            continue;
        }
        if items.is_empty() {
            if !app.global.quiet {
                eprintln!("nobody waits in group {}", clean(group));
            }
            continue;
        }
        if groups.len() > 1 && !app.global.quiet {
            eprintln!("group {}", clean(group));
        }
        out.table(&table(&items)?)?;
    }
    if out.is_json() || out.format == crate::output::Format::Name {
        out.list(&all, "id", || table(&all))?;
    }
    Ok(0)
}

fn table(items: &[Value]) -> Result<Table, Failure> {
    let mut table = Table::new(&[
        "#", "ID", "OWNER", "TYPE", "ASKS", "PRIO", "WAITS", "CLASS", "WHY",
    ]);
    for item in items {
        let session: Session = typed(item.clone())?;
        let blocker = session.blocked_by.first();
        table.row(vec![
            session
                .position
                .map_or_else(|| "-".to_owned(), |position| position.to_string()),
            session.id.clone(),
            session.owner_name.clone(),
            session.kind.clone(),
            amounts(&session.slots),
            session.priority.to_string(),
            clock::ago(session.created_at),
            blocker.map(|b| b.stage.clone()).unwrap_or_default(),
            blocker.map(|b| b.text.clone()).unwrap_or_default(),
        ]);
    }
    Ok(table)
}
