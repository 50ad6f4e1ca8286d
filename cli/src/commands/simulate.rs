//! `simulate`: the scheduler on a cluster that a file describes. Starts nothing, asks nobody.

use crate::app::App;
use crate::error::{Failure, code};
use crate::output::{Format, Output, Table, clean, print};
use longshore_common::amount::SlotName;
use longshore_core::simulate::input::Seconds;
use longshore_core::simulate::read::run_until;
use serde_json::Value;
use std::io::Read;

/// Flags of `simulate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The scenario, YAML or JSON; - reads it from standard input
    #[arg(value_name = "FILE")]
    pub(crate) file: String,
    /// Print only these events
    #[arg(long, value_delimiter = ',', value_name = "EVENT,EVENT", value_parser = EVENTS)]
    pub(crate) only: Vec<String>,
    /// Stop at this second, whatever the file says
    #[arg(long, value_name = "SECONDS", value_parser = instant)]
    pub(crate) until: Option<Seconds>,
}

/// What a line can be about.
const EVENTS: [&str; 8] = [
    "started",
    "start-failed",
    "refused",
    "ended",
    "warned",
    "report",
    "pending",
    "summary",
];

fn instant(text: &str) -> Result<Seconds, String> {
    let seconds: Seconds = text.parse().map_err(|error| format!("{error}"))?;
    if seconds.ms < 0 {
        return Err("a run cannot stop before it starts".to_owned());
    }
    Ok(seconds)
}

/// Runs it.
pub(crate) fn run(app: &App, args: &Args) -> Result<u8, Failure> {
    let text = read(&args.file)?;
    let lines = run_until(&text, args.until).map_err(|error| {
        let mut place = clean(&args.file);
        if place == "-" {
            "standard input".clone_into(&mut place);
        }
        if error.line > 0 {
            place = format!("{place}, line {}", error.line);
        }
        Failure::usage(format!("{place}: {}", error.message))
    })?;
    // Lines are what others read on, so they are what comes without a wish.
    let output = Output {
        format: app.global.output.unwrap_or(Format::Jsonl),
        ..app.output()
    };
    show(&output, &wanted(lines, &args.only)?)?;
    Ok(0)
}

fn read(file: &str) -> Result<String, Failure> {
    let mut text = String::new();
    let done = match file {
        "-" => std::io::stdin().read_to_string(&mut text).map(|_| ()),
        path => std::fs::read_to_string(path).map(|read| text = read),
    };
    match done {
        Ok(()) => Ok(text),
        Err(error) => Err(Failure::new(
            code::USAGE,
            format!("{} cannot be read: {error}", clean(file)),
        )),
    }
}

/// A line as it is printed, and what it says.
struct Line {
    text: String,
    value: Value,
}

fn wanted(lines: Vec<String>, only: &[String]) -> Result<Vec<Line>, Failure> {
    let mut kept = Vec::new();
    for text in lines {
        let value: Value = serde_json::from_str(&text)
            .map_err(|error| Failure::failed(format!("a line of the run is no JSON: {error}")))?;
        if only.is_empty() || only.iter().any(|event| *event == text_of(&value, "event")) {
            kept.push(Line { text, value });
        }
    }
    Ok(kept)
}

fn show(output: &Output, lines: &[Line]) -> Result<(), Failure> {
    match output.format {
        Format::Jsonl => {
            let text: String = lines.iter().map(|l| format!("{}\n", l.text)).collect();
            print(&text)
        }
        Format::Json => {
            let items: Vec<&str> = lines.iter().map(|l| l.text.as_str()).collect();
            print(&format!("[{}]\n", items.join(",\n ")))
        }
        Format::Name => {
            let text: String = lines
                .iter()
                .filter_map(|l| l.value.get("session")?.as_str())
                .map(|name| format!("{}\n", clean(name)))
                .collect();
            print(&text)
        }
        Format::Yaml => {
            let items = lines.iter().map(|line| line.value.clone()).collect();
            output.value(&Value::Array(items))
        }
        Format::Csv => print(&table(lines).csv(output.headers)),
        Format::Table | Format::Wide => output.table(&table(lines)),
    }
}

fn table(lines: &[Line]) -> Table {
    let mut table = Table::new(&["AT", "EVENT", "SESSION", "WHAT"]);
    for Line { value, .. } in lines {
        table.row(vec![
            value["at"].to_string(),
            text_of(value, "event").to_owned(),
            text_of(value, "session").to_owned(),
            what(value),
        ]);
    }
    table
}

fn text_of<'a>(value: &'a Value, member: &str) -> &'a str {
    value
        .get(member)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// The members of a map by slot, in the order in which slots are always shown.
fn by_slot(value: &Value) -> Vec<(&String, &Value)> {
    let mut slots: Vec<_> = members(value).collect();
    slots.sort_by_key(|(name, _)| name.parse::<SlotName>().ok());
    slots
}

/// Devices by number: `GPU-2` before `GPU-10`.
fn by_number(value: &Value) -> Vec<(&String, &Value)> {
    let mut devices: Vec<_> = members(value).collect();
    devices.sort_by_key(|(id, _)| (id.len(), id.as_str()));
    devices
}

/// The part of a line that differs from event to event, in words.
fn what(line: &Value) -> String {
    match text_of(line, "event") {
        "started" => {
            let mut parts: Vec<String> = items(&line["containers"]).map(container).collect();
            if let Some(pool) = line.get("pool").and_then(Value::as_str) {
                parts.push(format!("pool {pool}"));
            }
            if line["attempt"] != 1 {
                parts.push(format!("attempt {}", line["attempt"]));
            }
            parts.join(", ")
        }
        "start-failed" => format!("{}, attempt {}", text_of(line, "agent"), line["attempt"]),
        "refused" => match text_of(line, "detail") {
            "" => text_of(line, "code").to_owned(),
            detail => format!("{}: {detail}", text_of(line, "code")),
        },
        "ended" => {
            let code = line.get("exit_code");
            let code = code.map_or_else(String::new, |code| format!(", exit code {code}"));
            format!(
                "{} {}{code}",
                text_of(line, "state"),
                text_of(line, "reason")
            )
        }
        "warned" => format!("{} at {}", text_of(line, "reason"), line["stop_at"]),
        "report" => {
            let at = |object: Option<&Value>, what: &str| {
                let at = object?.get("deadline")?;
                Some(format!("{what} at {at}"))
            };
            let kind = text_of(line, "kind");
            let idle = at(Some(line), kind).unwrap_or_else(|| kind.to_owned());
            let lifetime = at(line.get("lifetime"), "lifetime");
            std::iter::once(idle)
                .chain(lifetime)
                .collect::<Vec<_>>()
                .join(", ")
        }
        "pending" => {
            let position = line.get("position");
            let place = position.map_or_else(String::new, |p| format!("#{p} "));
            let why: Vec<String> = items(&line["blocked_by"]).map(blocker).collect();
            format!("{place}{}: {}", text_of(line, "class"), why.join("; "))
        }
        "summary" => summary(line),
        _ => String::new(),
    }
}

fn container(container: &Value) -> String {
    let devices: Vec<String> = by_slot(&container["devices"])
        .into_iter()
        .flat_map(|(_, ids)| by_number(ids))
        .map(|(id, amount)| match amount.as_str() {
            Some("1") | None => id.clone(),
            Some(amount) => format!("{id} {amount}"),
        })
        .collect();
    let place = format!(
        "{} on {}",
        text_of(container, "rank"),
        text_of(container, "agent")
    );
    if devices.is_empty() {
        return place;
    }
    format!("{place} [{}]", devices.join(" "))
}

fn blocker(entry: &Value) -> String {
    let mut text = text_of(entry, "rule").to_owned();
    if let Some(slot) = entry.get("slot").and_then(Value::as_str) {
        text = format!("{text} {slot}");
    }
    for member in ["need", "have", "limit"] {
        if let Some(amount) = entry.get(member).and_then(Value::as_str) {
            text = format!("{text} {member} {amount}");
        }
    }
    if let Some(source) = entry.get("source") {
        let (kind, name) = (text_of(source, "kind"), text_of(source, "name"));
        text = format!("{text} ({kind} {name})");
    }
    text
}

fn summary(line: &Value) -> String {
    let mut parts: Vec<String> = ["submitted", "refused", "started", "pending", "running"]
        .iter()
        .map(|member| format!("{} {member}", line[*member]))
        .collect();
    parts.extend(members(&line["ended"]).map(|(state, count)| format!("{count} {state}")));
    let waits = &line["waits"];
    parts.push(format!(
        "waits: mean {} s, half within {} s, 95 of 100 within {} s, longest {} s",
        waits["mean_s"], waits["p50_s"], waits["p95_s"], waits["max_s"]
    ));
    for (group, slots) in members(&line["utilisation"]) {
        let slots: Vec<String> = by_slot(slots)
            .into_iter()
            .map(|(slot, ratio)| {
                let percent = ratio.as_f64().unwrap_or_default() * 100.0;
                format!("{slot} {percent:.1} %")
            })
            .collect();
        parts.push(format!("group {group}: {}", slots.join(", ")));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
agents: [{name: n, slots: {cpu: 4, cuda.device: 2}}]
until: 20
events:
- {at: 0, submit: {id: a, slots: {cpu: 1, cuda.device: 2}, runtime_s: 10, exit_code: 1}}
- {at: 1, submit: {id: b, slots: {cpu: 9}}}
- {at: 12, submit: {id: c, slots: {cpu: 4}}}
- {at: 13, submit: {id: d, slots: {cpu: 1}}}
";

    fn lines(until: Option<&str>, only: &[&str]) -> Vec<Line> {
        let until = until.map(|text| instant(text).unwrap());
        let only: Vec<String> = only.iter().map(|o| (*o).to_owned()).collect();
        wanted(run_until(FILE, until).unwrap(), &only).unwrap()
    }

    #[test]
    fn a_table_for_people() {
        let text = table(&lines(None, &[])).render(true, None);
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows[0], "AT  EVENT    SESSION  WHAT");
        assert_eq!(rows[1], "0   started  a        main1 on n [GPU-0 GPU-1]");
        assert!(
            rows[2].starts_with("1   refused  b        LS-FIT-NEVER: "),
            "{text}"
        );
        assert_eq!(
            rows[3],
            "10  ended    a        TERMINATED task-failed, exit code 1"
        );
        assert_eq!(rows[4], "12  started  c        main1 on n");
        assert_eq!(
            rows[5],
            "20  pending  d        #1 capacity: short cpu need 1 have 0 limit 4 (group default)"
        );
        assert!(
            rows[6].starts_with("20  summary           4 submitted; 1 refused; 2 started"),
            "{text}"
        );
        assert!(
            rows[6].contains("group default: cuda.device 50.0 %, cpu 52.5 %"),
            "{text}"
        );
    }

    #[test]
    fn every_event_can_be_asked_for() {
        const ENDS: &str = "
agents: [{name: n, slots: {cpu: 1}}]
events:
- {at: 0, submit: {id: a, slots: {cpu: 1}, lifetime_s: 30}}
- {at: 5, report: {id: a}}
";
        let of = |text: &str| wanted(run_until(text, None).unwrap(), &[]).unwrap();
        let mut all = of(FILE);
        all.extend(of(ENDS));
        let events: Vec<&str> = all.iter().map(|l| text_of(&l.value, "event")).collect();
        assert!(events.iter().all(|event| EVENTS.contains(event)));
        assert!(events.contains(&"warned") && events.contains(&"report"));
        let told = |event: &str| {
            let line = all.iter().find(|l| text_of(&l.value, "event") == event);
            what(&line.unwrap().value)
        };
        assert_eq!(told("warned"), "lifetime-exceeded at 30");
        assert_eq!(told("report"), "none, lifetime at 30");
    }

    #[test]
    fn only_some_events_and_an_end_of_ones_own() {
        let kept = lines(None, &["started", "ended"]);
        let events: Vec<&str> = kept.iter().map(|l| text_of(&l.value, "event")).collect();
        assert_eq!(events, ["started", "ended", "started"]);
        assert!(kept[0].text.starts_with("{\"at\":0,\"event\":\"started\""));
        let cut = lines(Some("11.5"), &["summary"]);
        assert_eq!(cut[0].value["at"].to_string(), "11.5");
        assert_eq!(cut[0].value["started"], 1);
        assert!(instant("-1").is_err() && instant("soon").is_err() && instant("1.2345").is_err());
    }

    #[test]
    fn a_bad_file_ends_with_2_and_names_line_and_member() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "agents: []\nevents:\n- {at: 0, submti: {id: a}}\n",
        )
        .unwrap();
        let args = |file: &str| Args {
            file: file.to_owned(),
            only: Vec::new(),
            until: None,
        };
        let cli = <crate::cli::Cli as clap::Parser>::try_parse_from(["longshore", "simulate", "x"]);
        let app = App::new(cli.unwrap().global);
        let failure = run(&app, &args(file.path().to_str().unwrap())).unwrap_err();
        assert_eq!(failure.exit, 2);
        assert!(failure.text.contains("line 3"), "{failure}");
        assert!(failure.text.contains("submti"), "{failure}");
        assert_eq!(run(&app, &args("/nowhere/at/all")).unwrap_err().exit, 2);
        let path = file.path().to_str().unwrap();
        let table = [
            ("", "the file is empty"),
            ("# only words\n{}\n", "the file is empty"),
            (
                "events: [{at: 0, submit: {id: a, exit_code: 256}}]\n",
                "events[0].submit.exit_code: 256 is no exit code",
            ),
            (
                "events: [{at: 0, submit: {id: a, slots: {cpu: some}}}]\n",
                "events[0].submit.slots.cpu: cpu: \"some\" is not an amount",
            ),
            (
                "events: [{at: 0, submit: {id: a, slots: {CPU: 1}}}]\n",
                "\"CPU\" is not a slot name",
            ),
        ];
        for (text, what) in table {
            std::fs::write(file.path(), text).unwrap();
            let failure = run(&app, &args(path)).unwrap_err();
            assert_eq!(failure.exit, 2, "{text}");
            assert!(failure.text.starts_with(path), "{failure}");
            assert!(failure.text.contains(what), "{failure}");
        }
    }
}
