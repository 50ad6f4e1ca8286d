//! `admin apply|diff|export-config`: what an installation is to be, as one document.
//!
//! Members that the document leaves out stay as they are, null takes one away, and an
//! object that it does not name is left alone. What differs is asked from the coordinator
//! by a rehearsal of each change, so applying twice changes nothing the second time.

use super::pools::{DRAFT, only_written};
use super::{REHEARSED, Write, config, nothing, read, request, say, send, tag, texts};
use crate::app::App;
use crate::ask::{DECLINED, confirm};
use crate::client::{Client, encode};
use crate::error::{Failure, code};
use crate::output::{clean, print};
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Sections in the order in which they are applied: later ones refer to earlier ones.
const SECTIONS: &[(&str, &str)] = &[
    ("resource_groups", "/resource-groups"),
    ("keypair_policies", "/keypair-policies"),
    ("user_policies", "/user-policies"),
    ("project_policies", "/project-policies"),
    ("presets", "/presets"),
];
/// The section of pools, profiles and allocation policies.
const CONFIG: &str = "resource_config";
/// Members that are told and not written.
const TOLD: &[&str] = &[
    "id",
    "version",
    "created_at",
    "updated_at",
    "used_by",
    "warnings",
    "inherited",
    "agents",
    "capacity",
    "occupied",
    "reserved",
    "pending",
    "pool",
];

/// Flags of `apply` and `diff`.
#[derive(Debug, clap::Args)]
pub(crate) struct File {
    /// The document, YAML or JSON; - reads standard input
    pub(crate) file: String,
}

/// One step of the plan.
#[derive(Debug)]
struct Step {
    /// What is done, for people.
    text: String,
    method: Method,
    path: String,
    body: Value,
}

/// Reads the document, with numbers where the API wants text.
fn document(file: &str) -> Result<Value, Failure> {
    let mut document = read(file)?;
    normalise(&mut document);
    Ok(document)
}

fn normalise(document: &mut Value) {
    for (section, _) in SECTIONS {
        texts::list(document, section).for_each(texts::of_object);
    }
    if let Some(config) = document.get_mut(CONFIG) {
        texts::of_config(config);
    }
}

/// Shows what `apply` would do; ends with 1 when that is something.
pub(crate) async fn diff(app: &App, args: File) -> Result<u8, Failure> {
    let client = app.client()?;
    let (steps, config) = plan(&client, &document(&args.file)?).await?;
    show(&steps, config.as_ref())?;
    Ok(u8::from(!steps.is_empty() || config.is_some()))
}

/// Shows what it would do, asks, and does it.
pub(crate) async fn apply(app: &App, args: File) -> Result<u8, Failure> {
    let client = app.client()?;
    let (steps, config) = plan(&client, &document(&args.file)?).await?;
    let differs = !steps.is_empty() || config.is_some();
    if !app.global.quiet {
        match (differs, app.global.dry_run) {
            (false, _) => eprintln!("nothing differs"),
            (true, true) => eprintln!("{REHEARSED}"),
            (true, false) => (),
        }
    }
    show(&steps, config.as_ref())?;
    if app.global.dry_run || !differs {
        return Ok(0);
    }
    confirm(app, "These changes are made.", &[])?;
    let mut done = 0;
    let made = carry_out(app, &client, (&steps, config.as_ref()), &mut done).await;
    made.map_err(|failure| midway(failure, done))?;
    if config.is_some() {
        // Only now it is known which sessions that would cancel, so it may ask once more.
        config::provision(app, &client)
            .await
            .map_err(after_the_rest)?;
    }
    say(app, "done");
    Ok(0)
}

/// Makes the changes one by one, and counts those that are made.
async fn carry_out(
    app: &App,
    client: &Client,
    (steps, config): (&[Step], Option<&Value>),
    done: &mut usize,
) -> Result<(), Failure> {
    for step in steps {
        let version = match step.method == Method::PATCH {
            true => tag(&client.get(&step.path).await?),
            false => None,
        };
        let write = Write::new(step.method.clone(), &step.path, &step.text).version(version);
        send(app, client, write.body(&step.body)).await?;
        *done += 1;
    }
    if let Some(wanted) = config {
        // The draft is begun anew, so that it is based on what is live.
        let path = format!("{DRAFT}/reset");
        let body = json!({});
        let reset = Write::new(Method::POST, &path, "the draft is what is live");
        send(app, client, reset.body(&body)).await?;
        let draft = tag(&client.get(DRAFT).await?);
        let save = Write::new(Method::PUT, DRAFT, "the draft is what the document says");
        send(app, client, save.version(draft).body(wanted)).await?;
    }
    Ok(())
}

/// A failure after the first change: some are made, and applying again makes the others.
fn midway(failure: Failure, done: usize) -> Failure {
    match done {
        0 => failure,
        done => Failure {
            exit: code::PARTLY,
            ..failure.why(format!(
                "{done} of the changes above are made, the others are not"
            ))
        },
    }
}

/// Why pools and queues are not live although all before them is done.
fn after_the_rest(mut failure: Failure) -> Failure {
    if failure.text == DECLINED {
        failure = Failure::new(code::PARTLY, "pools and queues were not provisioned");
    }
    failure
        .why("everything else is done; pools and queues are saved in the draft")
        .hint("longshore admin config validate, then longshore admin config provision")
}

/// Writes the document of what is there.
pub(crate) async fn export(app: &App) -> Result<u8, Failure> {
    let client = app.client()?;
    let mut document = json!({});
    for (section, path) in SECTIONS {
        let items = client.list(path).await?;
        document[*section] = items.into_iter().map(written).collect();
    }
    let mut config = client.get("/resource-config").await?;
    only_written(&mut config);
    document[CONFIG] = config;
    app.output().value(&document)?;
    Ok(0)
}

/// An object without what is only told.
fn written(mut item: Value) -> Value {
    let inherited: BTreeSet<String> = item["inherited"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str().map(str::to_owned))
        .collect();
    if let Some(members) = item.as_object_mut() {
        members.retain(|name, value| {
            let empty = value.as_str() == Some("");
            !TOLD.contains(&name.as_str()) && !inherited.contains(name) && !empty
        });
    }
    item
}

fn show(steps: &[Step], config: Option<&Value>) -> Result<(), Failure> {
    let mut text: String = steps
        .iter()
        .map(|step| format!("{}\n", step.text))
        .collect();
    if config.is_some() {
        text.push_str("change  resource_config (drafted, then provisioned)\n");
    }
    print(&text)
}

/// What has to be done, and the pools and queues where they differ.
async fn plan(client: &Client, document: &Value) -> Result<(Vec<Step>, Option<Value>), Failure> {
    let sections = document
        .as_object()
        .ok_or_else(|| Failure::usage("the document must be an object of sections"))?;
    let known: Vec<&str> = SECTIONS.iter().map(|s| s.0).chain([CONFIG]).collect();
    if let Some(name) = sections.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(Failure::usage(format!("there is no section {name}"))
            .hint(format!("sections: {}", known.join(", "))));
    }
    let mut steps = Vec::new();
    let mut made: BTreeSet<String> = BTreeSet::new();
    for (section, path) in SECTIONS {
        let Some(wanted) = sections.get(*section) else {
            continue;
        };
        let wanted = wanted
            .as_array()
            .ok_or_else(|| Failure::usage(format!("{section} must be a list")))?;
        let present = client.list(path).await?;
        for item in wanted {
            let step = one(client, section, path, &present, item, &made).await?;
            if let Some(step) = step {
                if step.method == Method::POST {
                    made.insert(item["name"].as_str().unwrap_or_default().to_lowercase());
                }
                steps.push(step);
            }
        }
    }
    let config = match sections.get(CONFIG) {
        None => None,
        Some(wanted) => differing_config(client, wanted, &made).await?,
    };
    Ok((steps, config))
}

async fn rehearse(
    client: &Client,
    method: Method,
    path: &str,
    version: &str,
    body: &Value,
) -> Result<Value, Failure> {
    let write = Write::new(method, path, "").version(Some(version.to_owned()));
    request(client, &write.body(body), true).await
}

async fn one(
    client: &Client,
    section: &str,
    path: &str,
    present: &[Value],
    item: &Value,
    made: &BTreeSet<String>,
) -> Result<Option<Step>, Failure> {
    let mut body = written(item.clone());
    let name = body["name"]
        .as_str()
        .ok_or_else(|| Failure::usage(format!("{section}: every object needs a name")))?
        .to_owned();
    let same = |other: &&Value| {
        other["name"]
            .as_str()
            .is_some_and(|n| n.eq_ignore_ascii_case(&name))
    };
    if present.iter().find(same).is_none() {
        // What refers to something that the document itself makes cannot be rehearsed yet.
        let refers = body["group"]
            .as_str()
            .is_some_and(|g| made.contains(&g.to_lowercase()));
        if !refers {
            rehearse(client, Method::POST, path, "*", &body).await?;
        }
        return Ok(Some(Step {
            text: format!("create  {section}/{}", clean(&name)),
            method: Method::POST,
            path: path.to_owned(),
            body,
        }));
    }
    if let Some(members) = body.as_object_mut() {
        members.remove("name");
    }
    let path = format!("{path}/{}", encode(&name));
    if body.as_object().is_some_and(Map::is_empty) {
        return Ok(None);
    }
    let refers = body["group"]
        .as_str()
        .is_some_and(|g| made.contains(&g.to_lowercase()));
    if body.get("group").is_some_and(Value::is_null) && refers {
        return Ok(None);
    }
    let differences = match refers {
        true => vec!["/group".to_owned()],
        false => {
            let answer = rehearse(client, Method::PATCH, &path, "*", &body).await?;
            let lines = answer["impact"]["diff"].as_array().cloned();
            lines
                .unwrap_or_default()
                .iter()
                // The version would differ with the rest.
                .filter(|d| d["path"] != json!("/version") && d["path"] != json!("/updated_at"))
                .map(|d| {
                    let path = d["path"].as_str().unwrap_or_default();
                    let side = |name: &str| d[name].as_str().unwrap_or(nothing(path));
                    format!("{path} {} -> {}", side("from"), side("to"))
                })
                .collect()
        }
    };
    if differences.is_empty() {
        return Ok(None);
    }
    Ok(Some(Step {
        text: clean(&format!(
            "change  {section}/{name}: {}",
            differences.join("; ")
        )),
        method: Method::PATCH,
        path,
        body,
    }))
}

/// Pools and queues as wanted, where they are not what is live.
async fn differing_config(
    client: &Client,
    wanted: &Value,
    made: &BTreeSet<String>,
) -> Result<Option<Value>, Failure> {
    let mut wanted = wanted.clone();
    only_written(&mut wanted);
    let mut live = client.get("/resource-config").await?;
    only_written(&mut live);
    let new_group = wanted["pools"].as_array().into_iter().flatten().any(|p| {
        p["group"]
            .as_str()
            .is_some_and(|g| made.contains(&g.to_lowercase()))
    });
    if new_group {
        return Ok(Some(wanted));
    }
    let mut saved = rehearse(client, Method::PUT, DRAFT, "*", &wanted).await?;
    only_written(&mut saved);
    Ok((saved != live).then_some(wanted))
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use crate::error::code;

    fn document(text: &str) -> Value {
        let mut document = parse(text, "test").unwrap();
        normalise(&mut document);
        document
    }

    #[test]
    fn documents_are_yaml_or_json() {
        let yaml = "keypair_policies:\n  - name: student\n    total_slots: {cuda.device: \"2\"}\n";
        let json = r#"{"keypair_policies":[{"name":"student","total_slots":{"cuda.device":"2"}}]}"#;
        assert_eq!(document(yaml), document(json));
        let short = "keypair_policies: [{name: student, total_slots: {cuda.device: 2}}]\n";
        assert_eq!(document(short), document(json), "numbers do as well");
        let pools = document(
            "resource_config:\n  allocation_policies: [{name: Dev, limit: 8, profiles: [4x]}]\n",
        );
        assert_eq!(
            pools["resource_config"]["allocation_policies"][0],
            json!({ "name": "Dev", "limit": "8", "profiles": [{ "profile": "4x" }] })
        );
        assert_eq!(parse("a: [", "x").unwrap_err().exit, code::USAGE);
    }

    #[test]
    fn who_fails_midway_says_what_is_made() {
        let refused = || Failure::new(code::REFUSED, "no such slot");
        assert_eq!(midway(refused(), 0).exit, code::REFUSED);
        let partly = midway(refused(), 2);
        assert_eq!((partly.exit, &*partly.text), (code::PARTLY, "no such slot"));
        assert!(partly.why[0].starts_with("2 of"), "{:?}", partly.why);
    }

    #[test]
    fn a_no_to_provisioning_leaves_the_rest_done() {
        let declined = after_the_rest(Failure::failed(DECLINED));
        assert_eq!(declined.exit, code::PARTLY);
        assert_eq!(declined.text, "pools and queues were not provisioned");
        let refused = after_the_rest(Failure::new(code::REFUSED, "no pool"));
        assert_eq!((refused.exit, &*refused.text), (code::REFUSED, "no pool"));
    }

    #[test]
    fn what_is_only_told_is_not_written() {
        let group = json!({ "id": "rgp_x", "version": 3, "name": "default", "scheduler": "fifo",
            "retries_to_skip": 5, "inherited": ["scheduler"], "capacity": {}, "description": "" });
        assert_eq!(
            written(group),
            json!({ "name": "default", "retries_to_skip": 5 })
        );
    }
}
