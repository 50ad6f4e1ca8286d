//! `history`: the states a session went through.

use super::show::OneSession;
use crate::app::App;
use crate::client::typed;
use crate::clock;
use crate::error::Failure;
use crate::output::Table;
use longshore_common::api::HistoryLine;

/// Shows it.
pub(crate) async fn run(app: &App, args: OneSession) -> Result<u8, Failure> {
    let client = app.client()?;
    let path = client.session_path(&args.id).await?;
    let items = app.list(&format!("{path}/history")).await?;
    app.output().list(&items, "to", || {
        let mut table = Table::new(&["#", "AT", "TRY", "STATE", "BY", "REASON", "DETAIL"]);
        for item in &items {
            let line: HistoryLine = typed(item.clone())?;
            table.row(vec![
                line.seq.to_string(),
                clock::full(line.at),
                line.attempt.to_string(),
                line.to.to_lowercase(),
                line.by,
                line.reason.unwrap_or_default(),
                line.detail.unwrap_or_default(),
            ]);
        }
        Ok(table)
    })?;
    Ok(0)
}
