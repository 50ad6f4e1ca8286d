//! `usage` and `admin usage`: who used what.

use crate::app::App;
use crate::client::{encode, typed};
use crate::error::Failure;
use crate::output::{Table, clean};
use longshore_common::api::{UsageLine, UsageSummary};

/// Which usage.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Summed up by user, project, domain, group, model, session, day or month
    #[arg(long, value_name = "WHAT")]
    pub(crate) by: Option<String>,
    /// From this month, day or instant on: 2026-11
    #[arg(long, value_name = "WHEN")]
    pub(crate) since: Option<String>,
    /// Before this month, day or instant
    #[arg(long, value_name = "WHEN")]
    pub(crate) until: Option<String>,
    /// Only of this person
    #[arg(long, value_name = "USER")]
    pub(crate) user: Option<String>,
    /// Only in this project
    #[arg(long, value_name = "PROJECT")]
    pub(crate) project: Option<String>,
    /// Only in this domain
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) domain: Option<String>,
    /// Only in this resource group
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
}

/// What can be done with usage of others.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Show it, by person where nothing else is said
    Show(Args),
    /// Its rows as CSV, to standard output
    Export(Args),
}

impl Args {
    fn query(&self, by: Option<&str>) -> String {
        let given = [
            ("by", by),
            ("since", self.since.as_deref()),
            ("until", self.until.as_deref()),
            ("user", self.user.as_deref()),
            ("project", self.project.as_deref()),
            ("domain", self.domain.as_deref()),
            ("group", self.group.as_deref()),
        ];
        let given = given
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let words: Vec<String> = given
            .map(|(name, value)| format!("{name}={}", encode(value)))
            .collect();
        match words.is_empty() {
            true => String::new(),
            false => format!("?{}", words.join("&")),
        }
    }
}

/// One's own usage by month, unless something else is said.
pub(crate) async fn own(app: &App, args: Args) -> Result<u8, Failure> {
    let mut args = args;
    let narrowed = [&args.project, &args.domain, &args.group];
    if args.user.is_none() && narrowed.iter().all(|n| n.is_none()) {
        args.user = Some("me".to_owned());
    }
    show(app, &args, "month").await
}

/// Usage of all whose usage one sees.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Show(args) => show(app, &args, "user").await,
        Verb::Export(args) => {
            let path = format!("/exports/usage{}", args.query(None));
            super::admin::export::download(app, &path).await
        }
    }
}

async fn show(app: &App, args: &Args, otherwise: &str) -> Result<u8, Failure> {
    let by = args.by.as_deref().unwrap_or(otherwise);
    let path = format!("/usage{}", args.query(Some(by)));
    let item = app.client()?.get(&path).await?;
    app.output()
        .object(&item, "by", || Ok(text(&typed(item.clone())?)))?;
    Ok(0)
}

fn text(summary: &UsageSummary) -> String {
    let columns = [
        &summary.by.to_uppercase(),
        "SESSIONS",
        "GPU H",
        "USED",
        "NOT MEASURED",
        "HELD",
        "CPU H",
        "MEM GIB H",
    ];
    let mut table = Table::titled(columns.map(str::to_owned).into());
    let hours = |line: &UsageLine, slot: &str| {
        line.slots
            .get(slot)
            .map(|h| h.allocated.clone())
            .unwrap_or_default()
    };
    let mut row = |line: &UsageLine, name: String| {
        table.row(vec![
            name,
            line.sessions.to_string(),
            line.gpu_hours_allocated.clone(),
            line.gpu_hours_used.clone(),
            line.gpu_hours_gaps.clone(),
            line.gpu_hours_held.clone(),
            hours(line, "cpu"),
            hours(line, "mem"),
        ]);
    };
    for line in &summary.items {
        row(line, clean(&line.name));
    }
    row(&summary.total, "all".to_owned());
    table.render(true, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_screen() {
        let line = |name: &str| {
            json!({ "id": name, "name": name, "sessions": 2, "gpu_hours_allocated": "1",
                "gpu_hours_used": "0.4", "gpu_hours_held": "0.333", "gpu_hours_gaps": "0",
                "slots": { "cpu": { "allocated": "4", "used": "1", "held": "0", "gaps": "0" } } })
        };
        let summary: UsageSummary = serde_json::from_value(json!({
            "by": "month", "until": "2026-12-01T00:00:00.000Z",
            "total": line(""), "items": [line("2026-11")]
        }))
        .unwrap();
        let shown = text(&summary);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(
            lines[0].starts_with("MONTH    SESSIONS  GPU H  USED"),
            "{shown}"
        );
        assert!(
            lines[1].starts_with("2026-11  2         1      0.4"),
            "{shown}"
        );
        assert!(lines[2].starts_with("all"), "{shown}");
    }

    #[test]
    fn a_query_holds_what_was_given() {
        let args = Args {
            by: None,
            since: Some("2026-11".to_owned()),
            until: None,
            user: Some("a b".to_owned()),
            project: None,
            domain: None,
            group: None,
        };
        assert_eq!(
            args.query(Some("user")),
            "?by=user&since=2026-11&user=a%20b"
        );
    }
}
