//! Scenario files and what must come of them, byte for byte. A bug report becomes a pair
//! of files here. `UPDATE=1` writes the second anew: read the difference before you keep it.
//!
//! Lines of a scenario that begin with `#=` say in short what must come, worked out by hand
//! from the rules. They are compared too, and no variable rewrites them.
#![cfg(feature = "scenarios")]
#![allow(clippy::unwrap_used, reason = "tests")]

use longshore_core::simulate::read::run;
use serde_json::Value;
use std::fs;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios")
}

fn given(text: &str) -> String {
    match run(text) {
        Ok(lines) => lines.iter().map(|line| format!("{line}\n")).collect(),
        Err(error) => format!("{error}\n"),
    }
}

#[test]
fn every_scenario_comes_out_as_written() {
    let mut wrong = Vec::new();
    let mut count = 0;
    let mut files: Vec<PathBuf> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml" || e == "json"))
        .collect();
    files.sort();
    for path in files {
        count += 1;
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let result = given(&text);
        assert_eq!(result, given(&text), "{name}: twice the same bytes");
        let by_hand: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("#= ")).collect();
        let came = in_short(&result);
        if !by_hand.is_empty() && by_hand != came {
            wrong.push(format!(
                "--- {name}: by hand\n{}\n+++ came\n{}",
                by_hand.join("\n"),
                came.join("\n")
            ));
        }
        let beside = path.with_extension("out");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&beside, &result).unwrap();
        }
        let expected = fs::read_to_string(&beside).unwrap_or_default();
        if result != expected {
            wrong.push(format!(
                "--- {name}: expected\n{expected}+++ came\n{result}"
            ));
        }
    }
    assert!(count > 0, "no scenarios found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_order_of_agents_in_the_file_decides_nothing() {
    let result = |name: &str| given(&fs::read_to_string(folder().join(name)).unwrap());
    assert_eq!(
        result("agents_in_order.yaml"),
        result("agents_in_reverse.yaml")
    );
}

/// Each YAML block of the document, and the block that follows it.
#[test]
fn the_examples_of_the_document_come_out_as_printed() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/simulate.md");
    let text = fs::read_to_string(path).unwrap();
    let mut examples = 0;
    let mut rest = text.as_str();
    while let Some((_, from)) = rest.split_once("```yaml\n") {
        let (scenario, after) = from.split_once("```\n").unwrap();
        let printed = after
            .strip_prefix("```json\n")
            .expect("lines follow a scenario");
        let (lines, after) = printed.split_once("```\n").unwrap();
        assert_eq!(given(scenario), lines, "{scenario}");
        examples += 1;
        rest = after;
    }
    assert!(examples >= 3, "{examples} examples found");
}

/// The events of a run as a person writes them down; the summary is left out.
fn in_short(result: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in result.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            lines.push(line.to_owned()); // what is wrong with a bad file
            continue;
        };
        if word(&line, "event") != "summary" {
            lines.push(short(&line));
        }
    }
    lines
}

fn word<'a>(value: &'a Value, member: &str) -> &'a str {
    value
        .get(member)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn short(line: &Value) -> String {
    let event = word(line, "event");
    let attempt = match line["attempt"].as_u64() {
        Some(1) | None => String::new(),
        Some(n) => format!(" attempt {n}"),
    };
    let what = match event {
        "started" => {
            let containers = line["containers"].as_array().unwrap();
            let places: Vec<String> = containers
                .iter()
                .map(|c| container(c, containers.len() > 1))
                .collect();
            let pool = match word(line, "pool") {
                "" => String::new(),
                pool => format!(" pool {pool}"),
            };
            format!("{}{pool}{attempt}", places.join(" "))
        }
        "start-failed" => format!("{}{attempt}", word(line, "agent")),
        "refused" => word(line, "code").to_owned(),
        "ended" => {
            let code = match line["exit_code"].as_i64() {
                Some(0) | None => String::new(),
                Some(n) => format!(" exit {n}"),
            };
            format!("{} {}{code}", word(line, "state"), word(line, "reason"))
        }
        "pending" => {
            let place = line["position"].as_u64();
            let place = place.map_or_else(String::new, |p| format!("#{p} "));
            let entries = line["blocked_by"].as_array().unwrap();
            let entries: Vec<String> = entries.iter().map(blocker).collect();
            let class = word(line, "class");
            format!(
                "{place}retries {} {class}: {}",
                line["retries"],
                entries.join("; ")
            )
        }
        "warned" => format!("{} {}", line["stop_at"], word(line, "reason")),
        "report" => report(line),
        _ => String::new(),
    };
    format!("{} {event} {} {what}", line["at"], word(line, "session"))
}

fn report(line: &Value) -> String {
    let mut text = word(line, "kind").to_owned();
    if let Some(left) = line.get("remaining_s") {
        text = format!("{text} {left} {}", word(line, "decided_by"));
    }
    let metrics = line["utilization"]["metrics"].as_object();
    for (name, metric) in metrics.into_iter().flatten() {
        if let Some(mean) = metric.get("mean_pct") {
            text = format!("{text} {name} {mean}");
        }
    }
    if let Some(life) = line.get("lifetime") {
        let (used, left) = (&life["extensions_used"], &life["extensions_left"]);
        text = format!(
            "{text} life {} used {used} left {left}",
            life["remaining_s"]
        );
    }
    text
}

fn container(container: &Value, several: bool) -> String {
    let mut text = word(container, "agent").to_owned();
    if several {
        text = format!("{}@{text}", word(container, "rank"));
    }
    let slots = container["devices"].as_object().unwrap();
    let parts: Vec<String> = slots
        .values()
        .flat_map(|ids| ids.as_object().unwrap())
        .map(|(id, amount)| match amount.as_str().unwrap() {
            "1" => id.clone(),
            amount => format!("{id}:{amount}"),
        })
        .collect();
    if parts.is_empty() {
        return text;
    }
    format!("{text}[{}]", parts.join(" "))
}

fn blocker(entry: &Value) -> String {
    let mut text = word(entry, "rule").to_owned();
    for member in ["slot", "need", "have", "limit"] {
        if let Some(value) = entry.get(member).and_then(Value::as_str) {
            let label = if member == "slot" { "" } else { member };
            text = format!(
                "{text} {label}{}{value}",
                if label.is_empty() { "" } else { " " }
            );
        }
    }
    if let Some(source) = entry.get("source") {
        text = format!("{text} ({} {})", word(source, "kind"), word(source, "name"));
    }
    text
}
