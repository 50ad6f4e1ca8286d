//! `check`: whether a session would start now, later or never. Starts nothing.

use crate::app::App;
use crate::client::{Call, typed};
use crate::error::{Failure, code};
use crate::output::{Table, amounts, clean};
use crate::request::{self, SessionFlags};
use longshore_common::api::{AgentVerdict, Nearest, SessionCheck};
use reqwest::Method;

/// Flags of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) session: SessionFlags,
    /// Ask about an interactive session
    #[arg(long)]
    pub(crate) interactive: bool,
    /// The command; it is not looked at
    #[arg(trailing_var_arg = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}

/// Asks. Ends with 0 when it would start or wait, with 6 when it never could.
pub(crate) async fn run(app: &App, args: Args) -> Result<u8, Failure> {
    let kind = if args.interactive {
        "interactive"
    } else {
        "batch"
    };
    let mut request = request::build(app, &args.session, kind, &args.command)?;
    if request.command.is_empty() && !args.interactive {
        request.command = vec!["true".to_owned()];
    }
    let body = serde_json::to_value(&request).map_err(|e| Failure::failed(e.to_string()))?;
    let call = Call::new(Method::POST, "/api/v1/sessions/check").body(body);
    let item = app.client()?.call(call).await?;
    let answer: SessionCheck = typed(item.clone())?;
    app.output()
        .object(&item, "verdict", || Ok(text(&answer)))?;
    Ok(match answer.verdict.as_str() {
        "never" => code::REFUSED,
        _ => 0,
    })
}

fn text(answer: &SessionCheck) -> String {
    let group = answer
        .group_name
        .as_ref()
        .map(|g| format!(" in group {}", clean(g)))
        .unwrap_or_default();
    let mut text = match answer.verdict.as_str() {
        "now" => format!("now: it would start at once{group}\n"),
        "later" => {
            let class = answer.class.as_deref().unwrap_or("order");
            format!(
                "later: it would wait{group}          class: {}\n",
                clean(class)
            )
        }
        _ => {
            let detail = answer.detail.as_deref().unwrap_or("it would be refused");
            let code = answer.code.as_deref().unwrap_or_default();
            format!("never: {}          {}\n", clean(detail), clean(code))
        }
    };
    for error in &answer.errors {
        text.push_str(&format!(
            "  {}: {}\n",
            clean(&error.pointer),
            clean(&error.message)
        ));
    }
    for blocker in &answer.blocked_by {
        text.push_str(&format!(
            "  {}: {}\n",
            clean(&blocker.rule),
            clean(&blocker.text)
        ));
    }
    text.push_str(&agents(&answer.agents));
    for change in &answer.adjusted {
        text.push_str(&format!("  {}\n", request::adjustment_text(change)));
    }
    if let Some(nearest) = &answer.nearest {
        text.push_str(&format!("  Could start now: {}\n", nearest_text(nearest)));
    }
    if let Some(hint) = &answer.hint {
        text.push_str(&format!("  {}\n", clean(hint)));
    }
    text
}

/// The table of agents with what each says.
pub(crate) fn agents(agents: &[AgentVerdict]) -> String {
    if agents.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["AGENT", "VERDICT"]);
    for agent in agents {
        let verdict: &str = if agent.text.is_empty() {
            &agent.verdict
        } else {
            &agent.text
        };
        table.row(vec![agent.agent_name.to_string(), verdict.to_owned()]);
    }
    let lines = table.render(true, None);
    lines.lines().map(|line| format!("  {line}\n")).collect()
}

/// A request that could start now.
pub(crate) fn nearest_text(nearest: &Nearest) -> String {
    format!(
        "{} in group {}",
        amounts(&nearest.slots),
        clean(&nearest.group)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(value: serde_json::Value) -> SessionCheck {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn screens() {
        assert_eq!(
            text(&answer(
                json!({ "verdict": "now", "group_name": "default" })
            )),
            "now: it would start at once in group default\n"
        );
        let later = json!({ "verdict": "later", "class": "capacity", "group_name": "default",
            "blocked_by": [{ "stage": "capacity", "rule": "short", "text": "no agent has 4 free" }],
            "agents": [{ "agent_name": "gpu02", "verdict": "short", "text": "2 of 8 free" }],
            "nearest": { "group": "default", "slots": { "cuda.device": "2", "cpu": "1" } } });
        assert_eq!(
            text(&answer(later)),
            "later: it would wait in group default          class: capacity\n\
             \x20 short: no agent has 4 free\n  AGENT  VERDICT\n  gpu02  2 of 8 free\n\
             \x20 Could start now: cpu 1, cuda.device 2 in group default\n"
        );
        let never = json!({ "verdict": "never", "code": "LS-FIT-NEVER", "detail": "No agent has 9.",
            "hint": "At most 8." });
        assert_eq!(
            text(&answer(never)),
            "never: No agent has 9.          LS-FIT-NEVER\n  At most 8.\n"
        );
    }
}
