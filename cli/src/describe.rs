//! Sessions in words: the status lines of `run`, the state column of `ps`, and the
//! code a command attached to a session ends with.

use crate::clock;
use crate::error::code;
use crate::output::{clean, short_model};
use longshore_common::amount::format_bytes_short;
use longshore_common::api::{HeldDevice, Progress, Session, SessionArray};

/// Whether nothing follows any more.
pub(crate) fn is_final(session: &Session) -> bool {
    matches!(session.state.as_str(), "TERMINATED" | "CANCELLED" | "ERROR")
}

/// What a command attached to the session ends with (cli.md, section 4).
pub(crate) fn exit_code(session: &Session) -> u8 {
    if session.array.is_some() && session.state == "TERMINATED" {
        // Which task's code would be its own?
        match (session.result.as_deref(), session.reason.as_deref()) {
            (Some("success"), _) => return 0,
            (_, Some("task-failed")) => return 1,
            _ => (),
        }
    }
    let program = match (session.exit_code, session.signal) {
        (Some(0), Some(signal)) | (None, Some(signal)) => Some(128 + (signal & 0x7f) as u8),
        (Some(exit), _) => Some((exit & 0xff) as u8),
        (None, None) => None,
    };
    let reason = session.reason.as_deref().unwrap_or_default();
    if let Some(exit) = start_code(session) {
        return exit;
    }
    match session.state.as_str() {
        "TERMINATED" => match reason {
            "task-finished" | "task-failed" | "self-terminated" | "" => {
                program.unwrap_or(code::ATTACHED)
            }
            "out-of-memory" => program.filter(|exit| *exit != 0).unwrap_or(137),
            "failed-to-start"
            | "pending-timeout"
            | "agent-lost"
            | "node-rebooted"
            | "runtime-error"
            | "container-not-found" => code::ATTACHED,
            // Stopped by a person or a rule: never a success, whatever the program said.
            _ => program.filter(|exit| *exit != 0).unwrap_or(143),
        },
        _ => code::ATTACHED,
    }
}

/// 126 and 127 when the command itself was at fault. The API has no member for the
/// cause of a failed start; it is the first word of the detail.
fn start_code(session: &Session) -> Option<u8> {
    if session.reason.as_deref() != Some("failed-to-start") {
        return None;
    }
    let detail = session.detail.as_deref().unwrap_or_default();
    let cause = detail.split([' ', ':']).next().unwrap_or_default();
    match (cause, session.exit_code) {
        ("command-not-found", _) | (_, Some(127)) => Some(127),
        ("command-not-executable", _) | (_, Some(126)) => Some(126),
        (_, _) => None,
    }
}

/// What a session is, for a column: `batch`, `batch[100]`.
pub(crate) fn kind(session: &Session) -> String {
    match &session.array {
        Some(array) => format!("{}[{}]", session.kind, array.size),
        None => session.kind.clone(),
    }
}

/// How many tasks of an array are how far: `1 run, 82 wait, 17 ok`.
pub(crate) fn tasks(array: &SessionArray) -> String {
    let count = |state: &str| array.counts.get(state).copied().unwrap_or(0);
    let sum = |states: &[&str]| states.iter().map(|state| count(state)).sum::<u32>();
    let failed = count("TERMINATED").saturating_sub(count("succeeded"));
    let parts = [
        (
            sum(&["SCHEDULED", "PREPARING", "RUNNING", "TERMINATING"]),
            "run",
        ),
        (sum(&["PENDING", "unmade"]), "wait"),
        (count("succeeded"), "ok"),
        (failed, "failed"),
        (count("CANCELLED"), "cancelled"),
        (count("ERROR"), "lost"),
    ];
    let parts = parts.iter().filter(|(many, _)| *many > 0);
    let parts: Vec<String> = parts.map(|(many, how)| format!("{many} {how}")).collect();
    parts.join(", ")
}

/// The state for a column: `running`, `pending #2`, `terminated exit 3`.
pub(crate) fn state(session: &Session) -> String {
    if let Some(array) = session.array.as_ref().filter(|_| !is_final(session)) {
        return tasks(array);
    }
    let mut text = session.state.to_lowercase();
    let reason = session.reason.as_deref().unwrap_or_default();
    match session.state.as_str() {
        "PENDING" => {
            if let Some(position) = session.position {
                text.push_str(&format!(" #{position}"));
            }
        }
        "PREPARING" => {
            if let Some(phase) = &session.phase {
                text.push_str(&format!(", {phase}"));
            }
        }
        "TERMINATED" => match (session.result.as_deref(), reason, session.exit_code) {
            (Some("success"), _, _) => text.push_str(" ok"),
            (_, "task-failed" | "self-terminated" | "", Some(exit)) => {
                text.push_str(&format!(" exit {exit}"))
            }
            (_, reason, _) => text.push_str(&format!(" {reason}")),
        },
        _ if !reason.is_empty() => text.push_str(&format!(" {reason}")),
        _ => (),
    }
    for condition in &session.conditions {
        text.push_str(&format!(", {condition}"));
    }
    clean(text.trim_end())
}

/// One status line in its parts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// The word behind the id.
    pub(crate) word: String,
    /// The rest for people.
    pub(crate) text: String,
    /// What a plain line is written for again when it changes: not the figures.
    pub(crate) key: String,
    /// `key=value`, for readers that are programs.
    pub(crate) plain: String,
}

/// The status of a session that has not ended. `rate` is bytes per second of a pull.
pub(crate) fn status(session: &Session, rate: Option<u64>) -> Status {
    let place = session.agent_names.join(", ");
    let mut plain: Vec<(&str, String)> = Vec::new();
    let mut key = String::new();
    let (word, text) = match session.state.as_str() {
        "PENDING" => {
            let why = session.blocked_by.first().map(|b| b.text.clone());
            let mut text = match session.position {
                Some(position) => format!("#{position} in group {}", session.group_name),
                None => format!("in group {}", session.group_name),
            };
            if let Some(position) = session.position {
                plain.push(("position", position.to_string()));
            }
            plain.push(("group", session.group_name.clone()));
            if let Some(why) = why {
                text.push_str(&format!(
                    ": {why} (explain: longshore explain {})",
                    session.id
                ));
                plain.push(("why", why));
            }
            ("pending", text)
        }
        "SCHEDULED" => {
            plain.push(("agent", place.clone()));
            ("scheduled", place)
        }
        "PREPARING" => {
            plain.push(("agent", place.clone()));
            let phase = session
                .phase
                .clone()
                .unwrap_or_else(|| "starting".to_owned());
            plain.push(("phase", phase.clone()));
            if phase == "pulling" {
                plain.push(("image", session.image.clone()));
                let mut text = format!("{place}: pulling {}", session.image);
                if let Some(progress) = progress(session) {
                    text.push_str(&format!("  {}", progress_text(&progress, rate)));
                }
                ("preparing", text)
            } else {
                ("preparing", format!("{place}: {phase}"))
            }
        }
        "RUNNING" => {
            plain.push(("agent", place.clone()));
            let mut parts = vec![place];
            let devices = devices(session);
            if !devices.is_empty() {
                plain.push(("devices", devices.clone()));
                parts.push(devices);
            }
            if !session.conditions.is_empty() {
                plain.push(("conditions", session.conditions.join(",")));
                parts.push(session.conditions.join(", "));
            }
            let mut text = parts.join(", ");
            if let (Some(at), Some(cause)) = (session.stop_at, &session.stop_cause) {
                plain.push(("stop_at", at.to_string()));
                text.push_str(&format!("; ends {} by {cause}", clock::short(at)));
            }
            ("running", text)
        }
        "TERMINATING" => {
            let reason = session.reason.clone().unwrap_or_default();
            plain.push(("reason", reason.clone()));
            ("stopping", reason)
        }
        other => {
            key = other.to_owned();
            ("is", other.to_lowercase())
        }
    };
    let plain = plain
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}={}", quoted(&value)))
        .collect::<Vec<_>>()
        .join(" ");
    key.push_str(&format!("{word} {plain}"));
    Status {
        word: word.to_owned(),
        text: clean(&text),
        key,
        plain,
    }
}

fn quoted(value: &str) -> String {
    let value = clean(value);
    if value.contains([' ', '"', '=']) {
        format!("{value:?}")
    } else {
        value
    }
}

/// How far the pulls of the present attempt are, together.
pub(crate) fn progress(session: &Session) -> Option<Progress> {
    session
        .containers
        .iter()
        .filter(|container| container.attempt == session.attempt)
        .filter_map(|container| container.progress)
        .reduce(|a, b| Progress {
            bytes_done: a.bytes_done.saturating_add(b.bytes_done),
            bytes_total: a
                .bytes_total
                .zip(b.bytes_total)
                .map(|(x, y)| x.saturating_add(y)),
            layers_done: a.layers_done.saturating_add(b.layers_done),
            layers_total: a
                .layers_total
                .zip(b.layers_total)
                .map(|(x, y)| x.saturating_add(y)),
        })
}

/// `1.1 of 4.0 GB, 48 MB/s, 6 of 11 layers`; what is not known is not said.
fn progress_text(progress: &Progress, rate: Option<u64>) -> String {
    let mut parts = Vec::new();
    match progress.bytes_total {
        Some(total) => parts.push(of(progress.bytes_done, total)),
        None if progress.bytes_done > 0 => parts.push(bytes(progress.bytes_done)),
        None => (),
    }
    if let Some(rate) = rate.filter(|rate| *rate > 0) {
        parts.push(format!("{}/s", bytes(rate)));
    }
    if let Some(total) = progress.layers_total {
        parts.push(format!("{} of {total} layers", progress.layers_done));
    }
    parts.join(", ")
}

fn bytes(value: u64) -> String {
    format_bytes_short(i64::try_from(value).unwrap_or(i64::MAX))
}

/// `11.2 of 16 GB`, the unit once where it is the same.
fn of(part: u64, whole: u64) -> String {
    let (part, whole) = (bytes(part), bytes(whole));
    match (part.split_once(' '), whole.split_once(' ')) {
        (Some((number, unit)), Some((_, same))) if unit == same => format!("{number} of {whole}"),
        _ => format!("{part} of {whole}"),
    }
}

/// `GPU 5 (H100 80G)`, `GPU 0, 1 (A6000 48G)`, `GPU 1 x 0.5 (A6000 48G)`.
pub(crate) fn devices(session: &Session) -> String {
    let held: Vec<&HeldDevice> = session
        .containers
        .iter()
        .filter(|container| container.attempt == session.attempt)
        .flat_map(|container| &container.devices)
        .collect();
    let Some(first) = held.first() else {
        return String::new();
    };
    let names: Vec<String> = held
        .iter()
        .map(|device| {
            let place = device
                .index
                .map_or_else(|| clean(&device.id), |index| index.to_string());
            if device.amount == "1" {
                place
            } else {
                format!("{place} x {}", clean(&device.amount))
            }
        })
        .collect();
    let model = short_model(&first.model);
    let model = if model.is_empty() {
        String::new()
    } else {
        format!(" ({model})")
    };
    format!("GPU {}{model}", names.join(", "))
}

/// The closing line: the word, and the rest.
pub(crate) fn closing(session: &Session) -> (&'static str, String) {
    let reason = session.reason.as_deref().unwrap_or_default();
    let word = match (session.state.as_str(), session.result.as_deref(), reason) {
        ("CANCELLED", _, "failed-to-start") => "failed",
        ("CANCELLED", _, _) => "cancelled",
        ("ERROR", _, _) => "error",
        (_, Some("success"), _) => "finished",
        (_, _, "task-finished") => "finished",
        (_, _, "task-failed" | "out-of-memory" | "failed-to-start" | "container-died" | "") => {
            "failed"
        }
        (_, _, "self-terminated") => "finished",
        (_, _, _) => "stopped",
    };
    let mut text = String::new();
    let ordinary = matches!(
        reason,
        "task-finished" | "task-failed" | "self-terminated" | ""
    );
    if !ordinary {
        let detail = session
            .detail
            .as_deref()
            .filter(|detail| !detail.is_empty());
        match detail {
            Some(detail) => text.push_str(&format!("{reason}: {detail} ")),
            None => text.push_str(&format!("{reason} ")),
        }
    }
    match (session.exit_code, session.signal) {
        (_, Some(signal)) if ordinary => text.push_str(&format!("signal {signal}")),
        (Some(exit), _) if ordinary => text.push_str(&format!("exit {exit}")),
        (Some(exit), _) => text.push_str(&format!("(exit {exit})")),
        (None, _) if ordinary => text.push_str(session.detail.as_deref().unwrap_or("no exit code")),
        (None, _) => (),
    }
    let mut text = text.trim_end().to_owned();
    if let (Some(started), Some(ended)) = (session.started_at, session.ended_at) {
        text.push_str(&format!(" after {}", clock::span(ended.since(started))));
    }
    let peak = session
        .containers
        .iter()
        .filter_map(|c| c.memory_peak_bytes)
        .max();
    let limit = session
        .slots
        .get("mem")
        .and_then(|mem| mem.parse::<u64>().ok());
    if let (Some(peak), Some(limit)) = (peak.and_then(|peak| u64::try_from(peak).ok()), limit) {
        text.push_str(&format!("; peak memory {}", of(peak, limit)));
    }
    let gpus = session
        .report
        .as_ref()
        .map(|r| r.gpu_hours_allocated.as_str());
    if let Some(hours) = gpus.filter(|hours| *hours != "0") {
        text.push_str(&format!("; {hours} GPU h"));
    }
    (word, clean(&text))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// A session with these members over what every session has.
    pub(crate) fn session(members: serde_json::Value) -> Session {
        let mut value = json!({
            "id": "s-42", "version": 3, "owner_name": "dana", "access_key": "LSA",
            "group": "rgp_x", "group_name": "default", "type": "batch",
            "image": "cuda:12.6", "command": ["true"],
            "slots": {"cpu": "1", "mem": "17179869184"}, "shm_bytes": 67108864,
            "priority": 10, "state": "PENDING", "attempt": 1,
            "created_at": "2026-11-20T21:05:03.120Z"
        });
        for (name, member) in members.as_object().unwrap() {
            value[name] = member.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn exit_codes() {
        let table = [
            (
                json!({"state":"TERMINATED","reason":"task-finished","result":"success","exit_code":0}),
                0,
            ),
            (
                json!({"state":"TERMINATED","reason":"task-failed","exit_code":3}),
                3,
            ),
            (
                json!({"state":"TERMINATED","reason":"task-failed","exit_code":125}),
                125,
            ),
            (
                json!({"state":"TERMINATED","reason":"task-failed","exit_code":139,"signal":11}),
                139,
            ),
            (
                json!({"state":"TERMINATED","reason":"task-failed","signal":9}),
                137,
            ),
            (
                json!({"state":"TERMINATED","reason":"out-of-memory","exit_code":0}),
                137,
            ),
            (
                json!({"state":"TERMINATED","reason":"out-of-memory","exit_code":1}),
                1,
            ),
            (
                json!({"state":"TERMINATED","reason":"user-requested","exit_code":0}),
                143,
            ),
            (json!({"state":"TERMINATED","reason":"user-requested"}), 143),
            (
                json!({"state":"TERMINATED","reason":"user-requested","exit_code":137,"signal":9}),
                137,
            ),
            (
                json!({"state":"TERMINATED","reason":"lifetime-exceeded","exit_code":0}),
                143,
            ),
            (
                json!({"state":"TERMINATED","reason":"task-timeout","exit_code":143}),
                143,
            ),
            (json!({"state":"CANCELLED","reason":"user-requested"}), 125),
            (
                json!({"state":"CANCELLED","reason":"failed-to-start","detail":"pull-not-found: no such image"}),
                125,
            ),
            (
                json!({"state":"CANCELLED","reason":"failed-to-start","detail":"command-not-found on gpu01: nope"}),
                127,
            ),
            (
                json!({"state":"ERROR","reason":"failed-to-start","detail":"command-not-executable: /etc"}),
                126,
            ),
            (
                json!({"state":"CANCELLED","reason":"failed-to-start","exit_code":127}),
                127,
            ),
            (json!({"state":"ERROR","reason":"agent-lost"}), 125),
        ];
        for (members, exit) in table {
            assert_eq!(exit_code(&session(members.clone())), exit, "{members}");
        }
    }

    #[test]
    fn status_lines() {
        let pending = session(json!({
            "position": 2,
            "blocked_by": [{"stage":"capacity","rule":"free","text":"waits for cuda.device 1, 0 of 12 free"}]
        }));
        let line = status(&pending, None);
        assert_eq!(line.word, "pending");
        assert_eq!(
            line.text,
            "#2 in group default: waits for cuda.device 1, 0 of 12 free (explain: longshore explain s-42)"
        );
        assert_eq!(
            line.plain,
            "position=2 group=default why=\"waits for cuda.device 1, 0 of 12 free\""
        );
        let pulling = session(json!({
            "state": "PREPARING", "phase": "pulling", "agent_names": ["gpu02"],
            "containers": [{"rank":"main1","attempt":1,"agent":"agt_x","agent_name":"gpu02","state":"pulling",
              "progress":{"bytes_done":1200000000,"bytes_total":4294967296_u64,"layers_done":6,"layers_total":11}}]
        }));
        let line = status(&pulling, Some(50_331_648));
        assert_eq!(
            line.text,
            "gpu02: pulling cuda:12.6  1.1 of 4 GB, 48 MB/s, 6 of 11 layers"
        );
        assert_eq!(
            line.key,
            status(&pulling, None).key,
            "figures are no change"
        );
        let running = session(json!({
            "state": "RUNNING", "agent_names": ["gpu02"],
            "containers": [{"rank":"main1","attempt":1,"agent":"agt_x","agent_name":"gpu02","state":"running",
              "devices":[{"id":"GPU-1","slot":"cuda.device","amount":"1","index":5,"model":"NVIDIA H100 80GB"}]}]
        }));
        assert_eq!(status(&running, None).text, "gpu02, GPU 5 (H100 80GB)");
    }

    #[test]
    fn closing_lines() {
        let done = session(json!({
            "state":"TERMINATED","reason":"task-finished","result":"success","exit_code":0,
            "started_at":"2026-11-20T21:05:03Z","ended_at":"2026-11-21T00:46:04Z",
            "report":{"oom":false,"phases_ms":{},"containers":[],"gpu_hours_allocated":"3.69","gpu_hours_used":"1"},
            "containers":[{"rank":"main1","attempt":1,"agent":"a","agent_name":"gpu02","state":"closed","memory_peak_bytes":12030000000_i64}]
        }));
        assert_eq!(
            closing(&done),
            (
                "finished",
                "exit 0 after 3h41m; peak memory 11.2 of 16 GB; 3.69 GPU h".to_owned()
            )
        );
        let oom = session(json!({
            "state":"TERMINATED","reason":"out-of-memory","exit_code":137,"signal":9,
            "detail":"main1 used 16.0 of 16 GB"
        }));
        assert_eq!(
            closing(&oom),
            (
                "failed",
                "out-of-memory: main1 used 16.0 of 16 GB (exit 137)".to_owned()
            )
        );
        let gone = session(json!({"state":"CANCELLED","reason":"user-requested"}));
        assert_eq!(closing(&gone), ("cancelled", "user-requested".to_owned()));
    }

    #[test]
    fn arrays_in_a_column() {
        let array = |counts| json!({"range": "0-99", "size": 100, "counts": counts});
        let counts = json!({"RUNNING": 1, "PENDING": 2, "unmade": 78, "TERMINATED": 18, "succeeded": 17, "CANCELLED": 1});
        let live = session(json!({"state":"RUNNING","array":array(counts)}));
        assert_eq!(state(&live), "1 run, 80 wait, 17 ok, 1 failed, 1 cancelled");
        assert_eq!(kind(&live), "batch[100]");
        let ended = |result: &str, reason: &str| {
            let array = array(json!({}));
            exit_code(&session(json!({
                "state": "TERMINATED", "result": result, "reason": reason, "array": array
            })))
        };
        assert_eq!(ended("success", "task-finished"), 0);
        assert_eq!(ended("failure", "task-failed"), 1);
        assert_eq!(ended("failure", "user-requested"), 143);
    }

    #[test]
    fn states_for_a_column() {
        let table = [
            (json!({"position": 2}), "pending #2"),
            (
                json!({"state":"RUNNING","conditions":["unreachable"]}),
                "running, unreachable",
            ),
            (
                json!({"state":"TERMINATED","result":"success","reason":"task-finished","exit_code":0}),
                "terminated ok",
            ),
            (
                json!({"state":"TERMINATED","result":"failure","reason":"task-failed","exit_code":3}),
                "terminated exit 3",
            ),
            (
                json!({"state":"TERMINATED","result":"failure","reason":"idle-timeout"}),
                "terminated idle-timeout",
            ),
            (
                json!({"state":"ERROR","reason":"agent-lost"}),
                "error agent-lost",
            ),
        ];
        for (members, text) in table {
            assert_eq!(state(&session(members)), text);
        }
    }
}
