//! `explain`: why a session is where it is.

use crate::app::App;
use crate::client::typed;
use crate::error::Failure;
use crate::output::{Table, clean};
use crate::values::SessionRef;
use longshore_common::api::Explanation;

/// Flags of `explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The session: s-42, 42, a name, @ for the latest
    pub(crate) id: SessionRef,
}

/// Explains it.
pub(crate) async fn run(app: &App, args: Args) -> Result<u8, Failure> {
    let client = app.client()?;
    let path = client.session_path(&args.id).await?;
    let item = client.get(&format!("{path}/explain")).await?;
    app.output()
        .object(&item, "id", || Ok(text(&typed(item.clone())?)))?;
    Ok(0)
}

fn text(explanation: &Explanation) -> String {
    let mut text = clean(&explanation.text);
    if let Some(blocker) = explanation.blocked_by.first() {
        text.push_str(&format!("          class: {}", clean(&blocker.stage)));
    }
    text.push('\n');
    if let Some(position) = explanation.position {
        text.push_str(&format!("  place #{position} in the queue\n"));
    }
    for blocker in &explanation.blocked_by {
        text.push_str(&format!(
            "  {}: {}\n",
            clean(&blocker.rule),
            clean(&blocker.text)
        ));
    }
    if !explanation.agents.is_empty() {
        let mut table = Table::new(&["AGENT", "VERDICT"]);
        for agent in &explanation.agents {
            let verdict = if agent.text.is_empty() {
                &agent.verdict
            } else {
                &agent.text
            };
            table.row(vec![agent.agent_name.clone(), verdict.clone()]);
        }
        for line in table.render(true, None).lines() {
            text.push_str(&format!("  {line}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_screen() {
        let explanation: Explanation = serde_json::from_value(json!({
            "id": "s-40", "state": "PENDING", "text": "s-40 waits for cuda.device 4.", "position": 1,
            "blocked_by": [{"stage": "capacity", "rule": "free", "text": "no agent has 4 free"}],
            "agents": [{"agent_name": "gpu02", "verdict": "short", "text": "2 of 8 free"},
                       {"agent_name": "g4", "verdict": "unschedulable", "text": ""}]
        }))
        .unwrap();
        assert_eq!(
            text(&explanation),
            "s-40 waits for cuda.device 4.          class: capacity\n\
             \x20 place #1 in the queue\n  free: no agent has 4 free\n\
             \x20 AGENT  VERDICT\n  gpu02  2 of 8 free\n  g4     unschedulable\n"
        );
    }
}
