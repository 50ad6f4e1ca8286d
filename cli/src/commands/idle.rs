//! `idle`: what will stop a session, and when.

use super::show::OneSession;
use crate::app::App;
use crate::client::typed;
use crate::clock;
use crate::error::Failure;
use crate::output::{Table, clean};
use longshore_common::api::IdleReport;
use longshore_common::time::Timestamp;

/// Shows it.
pub(crate) async fn run(app: &App, args: OneSession) -> Result<u8, Failure> {
    let client = app.client()?;
    let path = client.session_path(&args.id).await?;
    let item = client.get(&format!("{path}/idle")).await?;
    app.output()
        .object(&item, "kind", || Ok(text(&typed(item.clone())?)))?;
    Ok(0)
}

/// `18:05, in 11m`, or that it has passed.
fn end(at: Timestamp, remaining_s: i64) -> String {
    match remaining_s {
        s if s < 0 => format!("{}, passed", clock::short(at)),
        s => format!("{}, in {}", clock::short(at), clock::span(s * 1000)),
    }
}

fn ends(at: Option<Timestamp>, remaining_s: Option<i64>) -> String {
    at.zip(remaining_s)
        .map_or_else(|| "never, as things are".to_owned(), |(at, s)| end(at, s))
}

fn percent(ratio: f64) -> String {
    format!("{:.1} %", ratio * 100.0)
}

fn text(report: &IdleReport) -> String {
    let id = clean(&report.id);
    let by = report.decided_by.as_deref().unwrap_or("the grace");
    let mut text = match (report.kind.as_str(), report.deadline) {
        ("grace_period", Some(_)) => format!(
            "{id} is in its grace; unused it stops {}\n",
            ends(report.deadline, report.remaining_s)
        ),
        ("grace_period", None) => format!("{id} is in its grace: nothing is judged yet\n"),
        (_, Some(_)) => {
            let does = match report.action.as_deref() {
                Some("report") => "would stop",
                _ => "stops",
            };
            let end = ends(report.deadline, report.remaining_s);
            format!("{id} {does} {end}, unless it is used (check: {by})\n")
        }
        _ => format!("{id} is not stopped for being idle, as far as is known\n"),
    };
    let mut line = |name: &str, value: &str| text.push_str(&format!("  {name:<12} {value}\n"));
    if report.warned {
        line("warned", "yes, and not used since");
    }
    if let Some(at) = report.kept_until {
        line("kept until", &clock::short(at));
    }
    if let Some(check) = &report.interaction {
        let last = check.last_activity_at.map(clock::ago);
        let used = match (check.connections, last) {
            (0, Some(ago)) => format!("last used {ago} ago"),
            (0, None) => "never used".to_owned(),
            (n, _) => format!("{n} connected now"),
        };
        line(
            "interaction",
            &format!("{}; {used}", ends(check.deadline, check.remaining_s)),
        );
    }
    if let Some(check) = &report.utilization {
        line("utilization", &ends(check.deadline, check.remaining_s));
    }
    if let Some(life) = &report.lifetime {
        let left = match life.extensions_left {
            1 => "1 extension left".to_owned(),
            n => format!("{n} extensions left"),
        };
        line(
            "lifetime",
            &format!("{}; {left}", end(life.deadline, life.remaining_s)),
        );
    }
    if let Some(drain) = &report.drain {
        let why = match drain.message.is_empty() {
            true => String::new(),
            false => format!(": {}", clean(&drain.message)),
        };
        let end = end(drain.deadline, drain.remaining_s);
        line(
            "drain",
            &format!("{end}; {}{why}", clean(&drain.agent_name)),
        );
    }
    let metrics = report.utilization.iter().flat_map(|check| &check.metrics);
    let mut table = Table::new(&["METRIC", "MEAN", "IDLE BELOW", "DATA"]);
    let mut any = false;
    for metric in metrics {
        any = true;
        table.row(vec![
            metric.metric.clone(),
            metric
                .mean_ratio
                .map_or_else(|| "not full yet".to_owned(), percent),
            percent(metric.threshold_ratio),
            percent(metric.data_ratio),
        ]);
    }
    if any {
        text.push_str(&table.render(true, None));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_screen() {
        let at = clock::now().plus_s(3600);
        let report: IdleReport = serde_json::from_value(json!({
            "id": "s-42", "kind": "expire_after", "deadline": at, "remaining_s": 660,
            "decided_by": "utilization", "action": "stop", "warned": true,
            "interaction": { "deadline": at, "remaining_s": -1, "connections": 0 },
            "utilization": { "deadline": at, "remaining_s": 660, "metrics": [
                { "metric": "gpu", "mean_ratio": 0.035, "threshold_ratio": 0.05, "data_ratio": 1.0 },
                { "metric": "cpu", "threshold_ratio": 0.05, "data_ratio": 0.8 }] },
            "lifetime": { "deadline": at, "remaining_s": 7200, "extensions_used": 2, "extensions_left": 1 }
        }))
        .unwrap();
        let shown = text(&report);
        assert!(shown.starts_with("s-42 stops "), "{shown}");
        assert!(
            shown.contains(", in 11m, unless it is used (check: utilization)"),
            "{shown}"
        );
        assert!(shown.contains("passed; never used"), "{shown}");
        assert!(shown.contains("in 2h; 1 extension left"), "{shown}");
        assert!(
            shown.contains("gpu     3.5 %         5.0 %       100.0 %"),
            "{shown}"
        );
        assert!(
            shown.contains("cpu     not full yet  5.0 %       80.0 %"),
            "{shown}"
        );
    }

    #[test]
    fn what_is_only_reported_does_not_stop() {
        let report: IdleReport = serde_json::from_value(json!({
            "id": "s-1", "kind": "expire_after", "deadline": clock::now(), "remaining_s": -1,
            "action": "report", "warned": false
        }))
        .unwrap();
        assert!(text(&report).starts_with("s-1 would stop "));
        let none = IdleReport {
            kind: "none".to_owned(),
            deadline: None,
            ..report
        };
        assert!(text(&none).contains("is not stopped for being idle"));
    }
}
