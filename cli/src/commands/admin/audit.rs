//! `admin audit …`: who did what, and whether the log of it is whole.

use crate::app::App;
use crate::client::{encode, typed};
use crate::clock;
use crate::error::Failure;
use crate::output::{Table, clean, print};
use crate::values;
use longshore_common::audit::{AuditRecord, AuditVerdict};
use longshore_common::time::Timestamp;
use serde_json::Value;

/// Records that are shown when nothing is said: a screen.
const SHOWN: usize = 50;

/// What can be done with the audit log.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List who did what, newest first
    Ls(Box<List>),
    /// Show one record with everything in it
    Show {
        /// Its number, as `ls` shows it
        seq: u64,
    },
    /// Say whether it is whole; ends with 1 when it is not
    Verify,
}

/// Flags of `ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct List {
    /// Only by this person or agent; system and local are actors too
    #[arg(long, value_name = "NAME")]
    actor: Vec<String>,
    /// Only this operation, such as user.create
    #[arg(long, value_name = "OPERATION")]
    operation: Vec<String>,
    /// Only about this thing: its id; of people, agents and groups also the name
    #[arg(long, value_name = "ID")]
    target: Vec<String>,
    /// Only ok, refused or failed
    #[arg(long, value_name = "OUTCOME")]
    outcome: Vec<String>,
    /// Not before: 2026-11-20T21:00:00Z, or 2h for two hours ago
    #[arg(long, value_name = "TIME", value_parser = past)]
    from: Option<Timestamp>,
    /// Before: as --from
    #[arg(long, value_name = "TIME", value_parser = past)]
    to: Option<Timestamp>,
}

/// A time, or how long ago it was.
fn past(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse() {
        return Ok(at);
    }
    let ago = values::duration(text).map_err(|_| {
        let text: String = text.chars().take(64).collect();
        format!("\"{text}\" is not a time: write 2026-11-20T21:00:00Z, or 2h for two hours ago")
    })?;
    let seconds = i64::try_from(ago.as_secs()).unwrap_or(i64::MAX);
    Ok(clock::now().plus_s(seconds.saturating_neg()))
}

impl List {
    /// The parameters, without those that choose the page.
    fn query(&self) -> String {
        let mut query = String::new();
        let mut add = |name: &str, value: &str| {
            query.push_str(&format!("&{name}={}", encode(value)));
        };
        for (name, values) in [
            ("actor", &self.actor),
            ("operation", &self.operation),
            ("target", &self.target),
            ("outcome", &self.outcome),
        ] {
            values.iter().for_each(|value| add(name, value));
        }
        for (name, at) in [("from", self.from), ("to", self.to)] {
            if let Some(at) = at {
                add(name, &at.to_string());
            }
        }
        query
    }
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Ls(args) => list(app, &args).await,
        Verb::Show { seq } => show(app, seq).await,
        Verb::Verify => verify(app).await,
    }
}

async fn list(app: &App, args: &List) -> Result<u8, Failure> {
    let query = args.query();
    let path = match query.strip_prefix('&') {
        None => "/audit".to_owned(),
        Some(query) => format!("/audit?{query}"),
    };
    // The log is the one list that only grows: all of it is shown to who says so.
    let items = match app.global.limit {
        None => app.list_to(&path, SHOWN).await?,
        Some(_) => app.list(&path).await?,
    };
    app.output().list(&items, "seq", || table(&items))?;
    if items.is_empty() && !app.global.quiet && !app.output().is_json() {
        eprintln!("there is no such record");
    }
    Ok(0)
}

fn table(items: &[Value]) -> Result<Table, Failure> {
    let mut table = Table::new(&["#", "AT", "WHO", "OPERATION", "OF", "OUTCOME", "WHAT"]);
    for item in items {
        let record: AuditRecord = typed(item.clone())?;
        let who = record.actor.name.or(record.actor.id);
        let of = record.target.as_ref().map(|target| {
            let name = target.name.as_ref().unwrap_or(&target.id);
            format!("{} {name}", target.kind)
        });
        let what = what(item, record.detail.as_deref());
        let outcome = match (&record.code, record.count) {
            (Some(code), Some(count)) => format!("{} {code} ({count} times)", record.outcome),
            (Some(code), None) => format!("{} {code}", record.outcome),
            (None, _) => record.outcome,
        };
        table.row(vec![
            record.seq.to_string(),
            clock::full(record.at),
            clean(&who.unwrap_or(record.actor.kind)),
            clean(&record.operation),
            clean(&of.unwrap_or_default()),
            clean(&outcome),
            clean(&what),
        ]);
    }
    Ok(table)
}

async fn show(app: &App, seq: u64) -> Result<u8, Failure> {
    let item = app.client()?.get(&format!("/audit/{seq}")).await?;
    app.output()
        .object(&item, "operation", || Ok(whole(&item)))?;
    Ok(0)
}

/// Every member on a line of its own; those of a member below it.
fn whole(item: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => clean(text),
        other => clean(&other.to_string()),
    };
    let mut lines = String::new();
    for (name, value) in item.as_object().into_iter().flatten() {
        let Some(members) = value.as_object() else {
            lines.push_str(&format!("{}: {}\n", clean(name), text(value)));
            continue;
        };
        lines.push_str(&format!("{}:\n", clean(name)));
        for (name, value) in members {
            lines.push_str(&format!("  {}: {}\n", clean(name), text(value)));
        }
    }
    lines
}

/// What changed, in one line: `member: before -> after`.
fn what(item: &Value, detail: Option<&str>) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let (before, after) = (item.get("before"), item.get("after"));
    let member = |side: Option<&Value>, name: &str| side.and_then(|s| s.get(name)).map(text);
    let mut names: Vec<&String> = [before, after]
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .flat_map(|members| members.keys())
        .collect();
    names.sort();
    names.dedup();
    let mut parts: Vec<String> = names
        .into_iter()
        .map(|name| match (member(before, name), member(after, name)) {
            (Some(old), Some(new)) => format!("{name}: {old} -> {new}"),
            (None, Some(new)) => format!("{name}: {new}"),
            (Some(old), None) => format!("{name}: {old} -> nothing"),
            (None, None) => name.clone(),
        })
        .collect();
    parts.extend(detail.map(str::to_owned));
    parts.join(", ")
}

async fn verify(app: &App) -> Result<u8, Failure> {
    let item = app.client()?.get("/audit/verify").await?;
    let verdict: AuditVerdict = typed(item.clone())?;
    if app.output().is_json() {
        app.output().value(&item)?;
    } else {
        print(&format!("{}\n", clean(&sentence(&verdict))))?;
    }
    Ok(u8::from(!verdict.ok))
}

fn sentence(verdict: &AuditVerdict) -> String {
    let end = format!("{}:{}", verdict.head.seq, verdict.head.hash);
    match verdict.first_bad_seq {
        None => format!(
            "the audit log is whole: {} records, its end is {end}",
            verdict.records
        ),
        Some(bad) => format!(
            "the audit log is NOT whole: record {bad} was changed or is missing; it is good up to {end}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_changed_stands_in_one_line() {
        let item = json!({
            "before": { "active": true, "note": "x" },
            "after": { "active": false, "slots": { "cpu": "1" } },
        });
        assert_eq!(
            what(&item, Some("INT")),
            r#"active: true -> false, note: x -> nothing, slots: {"cpu":"1"}, INT"#
        );
        assert_eq!(what(&json!({}), None), "");
    }

    #[test]
    fn one_record_is_shown_whole() {
        let item = json!({ "actor": { "kind": "system" }, "seq": 7 });
        assert_eq!(whole(&item), "actor:\n  kind: system\nseq: 7\n");
    }

    #[test]
    fn times_are_points_or_ago() {
        let at: Timestamp = "2026-11-20T21:00:00Z".parse().unwrap();
        assert_eq!(past("2026-11-20T21:00:00Z"), Ok(at));
        let ago = clock::now().since(past("2h").unwrap());
        assert!((7_199_000..7_201_000).contains(&ago), "{ago}");
        assert!(past("soon").is_err());
    }

    #[test]
    fn the_verdict_says_where_it_is_bad() {
        let mut verdict = AuditVerdict {
            ok: true,
            records: 3,
            ..AuditVerdict::default()
        };
        assert!(sentence(&verdict).contains("is whole: 3 records"));
        verdict.first_bad_seq = Some(2);
        assert!(sentence(&verdict).contains("NOT whole: record 2"));
    }
}
