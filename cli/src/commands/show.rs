//! `show`: one session in sections.

use crate::app::App;
use crate::client::typed;
use crate::clock;
use crate::describe;
use crate::error::Failure;
use crate::output::{amounts, clean, clean_lines};
use crate::values::SessionRef;
use longshore_common::amount::format_bytes_short;
use longshore_common::api::{EndReport, HistoryLine, Session};
use longshore_common::time::Timestamp;
use serde_json::Value;

/// A session that is looked at.
#[derive(Debug, clap::Args)]
pub(crate) struct OneSession {
    /// The session: s-42, 42, a name, @ for the latest
    pub(crate) id: SessionRef,
}

/// Shows it.
pub(crate) async fn run(app: &App, args: OneSession) -> Result<u8, Failure> {
    let client = app.client()?;
    let path = client.session_path(&args.id).await?;
    let item = client.get(&path).await?;
    let history = client.list(&format!("{path}/history")).await?;
    app.output().object(&item, "id", || {
        Ok(text(&typed(item.clone())?) + &reaches(&history)?)
    })?;
    Ok(0)
}

/// Administrators who reached into the session: who, what, when.
fn reaches(history: &[Value]) -> Result<String, Failure> {
    let mut sheet = Sheet(String::new());
    for line in history {
        let line: HistoryLine = typed(line.clone())?;
        let Some(what) = line.reached else { continue };
        if sheet.0.is_empty() {
            sheet.section("Reached by administrators");
        }
        sheet.line(&what, &format!("{} by {}", clock::full(line.at), line.by));
    }
    Ok(sheet.0)
}

/// The service account that asked in the owner's name.
fn asked_by(session: &Session) -> Option<String> {
    let id = session.submitted_by.as_deref()?;
    Some(match &session.submitted_by_name {
        Some(name) => format!("{name} ({id})"),
        None => id.to_owned(),
    })
}

/// Lines of a name and a value; what is empty is left out.
struct Sheet(String);

impl Sheet {
    fn section(&mut self, name: &str) {
        self.0.push_str(&format!("\n{name}\n"));
    }

    fn line(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.0.push_str(&format!("  {name:<12} {}\n", clean(value)));
        }
    }

    fn time(&mut self, name: &str, at: Option<Timestamp>) {
        if let Some(at) = at {
            self.line(name, &clock::full(at));
        }
    }
}

fn text(session: &Session) -> String {
    let name = session
        .name
        .as_deref()
        .map(|name| format!("  {}", clean(name)))
        .unwrap_or_default();
    let mut sheet = Sheet(format!(
        "{}{name}  {}\n",
        clean(&session.id),
        describe::state(session)
    ));
    sheet.line("reason", session.reason.as_deref().unwrap_or_default());
    sheet.line("detail", session.detail.as_deref().unwrap_or_default());
    sheet.line(
        "exit code",
        &session
            .exit_code
            .map(|exit| exit.to_string())
            .unwrap_or_default(),
    );
    sheet.line(
        "signal",
        &session
            .signal
            .map(|signal| signal.to_string())
            .unwrap_or_default(),
    );
    for blocker in &session.blocked_by {
        sheet.line("waits", &blocker.text);
    }
    for text in &session.not_given {
        sheet.line("not given", text);
    }

    if let Some(array) = &session.array {
        sheet.line("tasks", &format!("{} of {}", array.range, array.size));
        sheet.line("are", &describe::tasks(array));
        let most = array.parallel.map(|n| format!("at most {n} at a time"));
        sheet.line("parallel", &most.unwrap_or_default());
    }

    sheet.section("Request");
    sheet.line("type", &session.kind);
    sheet.line("owner", &session.owner_name);
    sheet.line("asked by", &asked_by(session).unwrap_or_default());
    sheet.line("keypair", &session.access_key);
    sheet.line(
        "project",
        session.project_name.as_deref().unwrap_or_default(),
    );
    sheet.line("group", &session.group_name);
    sheet.line("queue", session.queue.as_deref().unwrap_or_default());
    sheet.line("priority", &session.priority.to_string());
    sheet.line("image", &session.image);
    sheet.line(
        "digest",
        session.image_digest.as_deref().unwrap_or_default(),
    );
    sheet.line(
        "command",
        &session
            .command
            .iter()
            .map(|word| quoted(word))
            .collect::<Vec<_>>()
            .join(" "),
    );
    sheet.line("workdir", session.workdir.as_deref().unwrap_or_default());
    sheet.line("slots", &amounts(&session.slots));
    sheet.line("shm", &format_bytes_short(session.shm_bytes));
    for (name, value) in &session.environment {
        sheet.line("env", &format!("{name}={value}"));
    }
    for (name, value) in &session.labels {
        sheet.line("label", &format!("{name}={value}"));
    }

    if let Some(rule) = &session.restart {
        let text = format!(
            "{} of {} used, after {}",
            rule.used,
            rule.max,
            rule.on.join(", ")
        );
        sheet.line("tried again", &text);
    }

    if !session.attempts.is_empty() {
        sheet.section("Attempts before");
        for past in &session.attempts {
            let place = past.agent_names.join(", ");
            let exit = past.exit_code.map(|code| format!(", exit {code}"));
            let text = format!(
                "{place}, until {}: {}{} ({})",
                clock::full(past.ended_at),
                past.reason,
                exit.unwrap_or_default(),
                past.detail
            );
            sheet.line(&past.attempt.to_string(), &text);
        }
    }

    if !session.containers.is_empty() {
        sheet.section("Placement");
        for container in &session.containers {
            let mut parts = vec![
                format!("attempt {}", container.attempt),
                container.agent_name.clone(),
                container.state.clone(),
            ];
            if !container.docker_id.is_empty() {
                parts.push(format!("container {}", container.docker_id));
            }
            if let Some(digest) = &container.image_digest {
                // That of all is a line of its own.
                match container.image_local {
                    true => parts.push(format!("image {digest}, of this node alone")),
                    false if session.image_digest.as_ref() == Some(digest) => (),
                    false => parts.push(format!("image {digest}")),
                }
            }
            if let Some(peak) = container.memory_peak_bytes {
                parts.push(format!("peak memory {}", format_bytes_short(peak)));
            }
            if let Some(cpu) = container.cpu_ms {
                parts.push(format!("processor time {}", clock::span(cpu)));
            }
            sheet.line(&clean(&container.rank), &parts.join(", "));
            for device in &container.devices {
                let place = device
                    .index
                    .map(|index| format!("{index} "))
                    .unwrap_or_default();
                sheet.line(
                    "device",
                    &format!(
                        "{place}{} x {}, {} ({})",
                        device.slot, device.amount, device.model, device.id
                    ),
                );
            }
        }
    }

    sheet.section("Times");
    sheet.time("created", Some(session.created_at));
    sheet.time("placed", session.placed_at);
    sheet.time("started", session.started_at);
    sheet.time("ended", session.ended_at);
    if let Some(at) = session.stop_at.filter(|_| session.ended_at.is_none()) {
        let cause = session.stop_cause.as_deref().unwrap_or("limit");
        sheet.line("will end", &format!("{} by {cause}", clock::full(at)));
    }
    let kept = session.kept_until.filter(|_| session.ended_at.is_none());
    sheet.time("kept until", kept.filter(|at| *at > clock::now()));
    if session.extensions > 0 {
        let count = session.extensions.to_string();
        sheet.line("extensions", &count);
    }
    if let Some(report) = &session.report {
        spent(&mut sheet, report);
    }
    if let Some(tail) = &session.output_tail {
        sheet.section("Last output");
        sheet.0.push_str(&clean_lines(tail));
        sheet.0.push('\n');
    }
    sheet.0
}

/// What a session spent that has ended.
fn spent(sheet: &mut Sheet, report: &EndReport) {
    sheet.section("Spent");
    sheet.line("ended by", report.by.as_deref().unwrap_or_default());
    if report.oom {
        sheet.line(
            "memory",
            "the kernel ended something in it for want of memory",
        );
    }
    // In the order in which a session goes through them.
    let order = [
        "pending",
        "scheduled",
        "preparing",
        "pulling",
        "creating",
        "waiting",
        "starting",
        "running",
        "terminating",
    ];
    let rank = |name: &str| order.iter().position(|o| *o == name).unwrap_or(order.len());
    let mut phases: Vec<_> = report.phases_ms.iter().filter(|(_, ms)| **ms > 0).collect();
    phases.sort_by_key(|(name, _)| rank(name));
    let phases: Vec<String> = phases
        .into_iter()
        .map(|(name, ms)| format!("{name} {}", clock::span(*ms)))
        .collect();
    sheet.line("time", &phases.join(", "));
    if report.gpu_hours_allocated != "0" {
        let (all, used) = (&report.gpu_hours_allocated, &report.gpu_hours_used);
        sheet.line("GPU hours", &format!("{all}, {used} of them used"));
    }
    let bytes = |n: Option<i64>| n.map(format_bytes_short);
    for container in &report.containers {
        let limit = format_bytes_short(container.memory_limit_bytes);
        let marked = match container.memory_peak_sampled {
            true => " by samples",
            false => "",
        };
        let peak = bytes(container.memory_peak_bytes);
        let figures = [
            peak.map(|peak| format!("memory {peak} of {limit}{marked}")),
            bytes(container.gpu_memory_peak_bytes).map(|b| format!("GPU memory {b}")),
            container
                .cpu_ms
                .map(|ms| format!("processor {}", clock::span(ms))),
            bytes(container.read_bytes).map(|b| format!("read {b}")),
            bytes(container.written_bytes).map(|b| format!("written {b}")),
            bytes(container.received_bytes).map(|b| format!("received {b}")),
            bytes(container.sent_bytes).map(|b| format!("sent {b}")),
        ];
        let figures: Vec<String> = figures.into_iter().flatten().collect();
        sheet.line(&clean(&container.rank), &figures.join(", "));
    }
}

/// A word of a command as a shell would need it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::describe::tests::session;
    use serde_json::json;

    #[test]
    fn who_reached_in_is_shown() {
        let line = json!({ "seq": 3, "at": "2026-11-20T21:05:03.120Z", "to": "RUNNING",
            "by": "user dana", "attempt": 1 });
        assert_eq!(reaches(std::slice::from_ref(&line)).unwrap(), "");
        let mut reached = line.clone();
        reached["reached"] = json!("logs");
        let shown = reaches(&[line, reached]).unwrap();
        assert!(
            shown.starts_with("\nReached by administrators\n  logs "),
            "{shown}"
        );
        assert!(shown.ends_with(" by user dana\n"), "{shown}");
    }

    #[test]
    fn what_was_spent_is_shown_in_order() {
        let shown = text(&session(json!({"state": "TERMINATED", "report": {
            "by": "agent gpu01", "oom": false,
            "phases_ms": {"running": 60000, "pending": 1000, "creating": 0},
            "containers": [{"rank": "main1", "memory_peak_bytes": 1073741824,
                "memory_peak_sampled": true, "memory_limit_bytes": 2147483648_i64}],
            "gpu_hours_allocated": "1", "gpu_hours_used": "0.4"}})));
        assert!(
            shown.contains("  time         pending 1 s, running 1m"),
            "{shown}"
        );
        assert!(
            shown.contains("  GPU hours    1, 0.4 of them used"),
            "{shown}"
        );
        assert!(
            shown.contains("  main1        memory 1 GB of 2 GB by samples"),
            "{shown}"
        );
    }

    #[test]
    fn sections() {
        let shown = text(&session(
            json!({"command": ["sh", "-c", "echo 'a b'"], "position": 1,
                "project": "prj_1", "project_name": "vision", "submitted_by": "svc_1",
                "submitted_by_name": "ci"}),
        ));
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "s-42  pending #1");
        assert!(
            lines.contains(&r"  command      sh -c 'echo '\''a b'\'''"),
            "{shown}"
        );
        assert!(
            lines.contains(&"  slots        cpu 1, mem 16 GB"),
            "{shown}"
        );
        assert!(lines.contains(&"  project      vision"), "{shown}");
        assert!(lines.contains(&"  asked by     ci (svc_1)"), "{shown}");
        assert!(!shown.contains("Placement"));
    }
}
