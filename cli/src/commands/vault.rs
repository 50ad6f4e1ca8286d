//! `vault …`: one's own vault, and what comes of all vaults.

use super::admin::settings::{with, without};
use super::admin::{self, Write, say, send, tag};
use crate::app::App;
use crate::client::{Call, Client, encode};
use crate::error::Failure;
use crate::output::{clean, print};
use crate::values::{self, SessionRef};
use longshore_config::read::Format;
use longshore_config::work::layers::value_of;
use longshore_config::work::parse;
use longshore_config::write::write;
use reqwest::Method;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::Path;

/// Where one's own vault is.
const MINE: &str = "/me/vault";

/// What can be done with one's own vault.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// Show the vault and its document; secrets are masks
    Show {
        /// Show secrets too; it is recorded
        #[arg(long)]
        reveal: bool,
    },
    /// Change the document in $EDITOR
    Edit,
    /// Set keys of the document; null takes one away. Comments are lost
    Set {
        /// Such as environment.STAGE=dev
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = values::pair)]
        pairs: Vec<(String, String)>,
    },
    /// Replace the document by a file (.toml, .yaml, .json or .conf), as it is
    Import(File),
    /// Say what is wrong with a file, and store nothing
    Check(File),
    /// Let it reach sessions that start from now on
    Enable {
        /// Let no session start without it; =false lets them again
        #[arg(
            long,
            value_name = "BOOL",
            num_args = 0..=1,
            require_equals = true,
            default_missing_value = "true"
        )]
        required: Option<bool>,
    },
    /// Let it reach no session
    Disable,
    /// Say where a value of one's sessions comes from, and what it stands before
    Explain {
        /// Such as environment.STAGE
        key: String,
        /// Of what this session was given
        #[arg(long, value_name = "ID")]
        session: Option<SessionRef>,
        /// Of sessions on this node
        #[arg(long, value_name = "NODE", conflicts_with = "session")]
        agent: Option<String>,
        /// Show secrets too; it is recorded
        #[arg(long)]
        reveal: bool,
    },
    /// Show what one's sessions get of all vaults and files together
    Preview {
        /// What this session was given
        #[arg(long, value_name = "ID")]
        session: Option<SessionRef>,
        /// Of sessions on this node
        #[arg(long, value_name = "NODE", conflicts_with = "session")]
        agent: Option<String>,
        /// Show secrets too; it is recorded
        #[arg(long)]
        reveal: bool,
    },
    /// Show the variables whose values one is not shown, beside those of everybody, or change them
    Redaction {
        #[command(subcommand)]
        verb: Option<RedactionVerb>,
    },
}

/// What can be done with one's own list of hidden names.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum RedactionVerb {
    /// Hide the values of more variables
    Add {
        /// Such as LAB_TOKEN; * at either end stands for anything
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Show the values of variables again
    Rm {
        /// As they stand in the list
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

/// A document on this machine.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct File {
    /// The file; - reads standard input
    pub(crate) file: String,
    /// hocon, json, yaml or toml; absent: by the name of the file
    #[arg(long, value_name = "FORMAT")]
    pub(crate) format: Option<String>,
}

impl File {
    /// What a request says of it.
    pub(crate) fn body(&self) -> Result<Value, Failure> {
        let ending = Path::new(&self.file).extension();
        let ending = ending.and_then(|e| e.to_str()).unwrap_or_default();
        let format = match (&self.format, Format::of_extension(ending)) {
            (Some(format), _) => format.clone(),
            (None, Some(format)) => format.to_string(),
            (None, None) => {
                let text = format!("{}: what format is it?", self.file);
                return Err(Failure::usage(text).hint("add --format yaml"));
            }
        };
        let text = match self.file.as_str() {
            "-" => std::io::read_to_string(std::io::stdin()),
            path => std::fs::read_to_string(path),
        };
        let text = text.map_err(|error| Failure::usage(format!("{}: {error}", self.file)))?;
        Ok(json!({ "format": format, "content": text }))
    }
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    let client = app.client()?;
    match verb {
        Verb::Show { reveal } => show(app, &client, MINE, reveal).await,
        Verb::Edit => edit(app, &client, MINE).await,
        Verb::Set { pairs } => {
            let present = client.get(&revealed(MINE, true)).await?;
            let body = with_pairs(&present, &pairs)?;
            save(app, &client, MINE, tag(&present), &body).await
        }
        Verb::Import(file) => import(app, &client, MINE, &file).await,
        Verb::Check(file) => check(app, &client, &file).await,
        Verb::Enable { required } => switch(app, &client, MINE, &enabling(required)).await,
        Verb::Disable => switch(app, &client, MINE, &json!({ "enabled": false })).await,
        Verb::Explain {
            key,
            session,
            agent,
            reveal,
        } => {
            let path = format!("/me/config/explain?key={}", encode(&key));
            let path = of_session(&client, path, session.as_ref()).await?;
            let path = on_node(path, agent.as_deref());
            explain(app, &client, &path, reveal).await
        }
        Verb::Preview {
            session,
            agent,
            reveal,
        } => {
            let path = "/me/config".to_owned();
            let path = of_session(&client, path, session.as_ref()).await?;
            let path = on_node(path, agent.as_deref());
            preview(app, &client, &path, reveal).await
        }
        Verb::Redaction { verb } => redaction(app, &client, verb).await,
    }
}

/// One's own list of names, beside that of everybody.
async fn redaction(app: &App, client: &Client, verb: Option<RedactionVerb>) -> Result<u8, Failure> {
    let me = client.get("/me").await?;
    let names = me["redaction_names"].as_array().into_iter().flatten();
    let names: Vec<String> = names
        .filter_map(|n| n.as_str().map(str::to_owned))
        .collect();
    let (names, what) = match verb {
        None => {
            let shown = json!({ "names": names });
            app.output().object(&shown, "names", || {
                let lines: Vec<String> = names.iter().map(|name| clean(name)).collect();
                Ok(lines.join("\n"))
            })?;
            return Ok(0);
        }
        Some(RedactionVerb::Add { names: more }) => (with(names, more), "more names are hidden"),
        Some(RedactionVerb::Rm { names: fewer }) => {
            let left = without(names, &fewer, "longshore vault redaction")?;
            (left, "fewer names are hidden")
        }
    };
    let body = json!({ "redaction_names": names });
    let write = Write::new(Method::PATCH, "/me", what).version(tag(&me));
    let told = send(app, client, write.body(&body)).await?;
    if app.output().is_json() {
        app.output().value(&told)?;
    } else {
        say(app, what);
    }
    Ok(0)
}

/// What switches a vault on. What is not said of whether it is required stays.
pub(crate) fn enabling(required: Option<bool>) -> Value {
    match required {
        Some(required) => json!({ "enabled": true, "required": required }),
        None => json!({ "enabled": true }),
    }
}

/// The same of what a session was given.
async fn of_session(
    client: &Client,
    path: String,
    session: Option<&SessionRef>,
) -> Result<String, Failure> {
    let Some(session) = session else {
        return Ok(path);
    };
    let id = client.session_id(session).await?;
    let sign = if path.contains('?') { '&' } else { '?' };
    Ok(format!("{path}{sign}session={id}"))
}

/// The same of sessions on a node.
fn on_node(path: String, node: Option<&str>) -> String {
    let sign = if path.contains('?') { '&' } else { '?' };
    match node {
        Some(node) => format!("{path}{sign}agent={}", encode(node)),
        None => path,
    }
}

fn revealed(path: &str, reveal: bool) -> String {
    let join = if path.contains('?') { '&' } else { '?' };
    match reveal {
        true => format!("{path}{join}reveal=true"),
        false => path.to_owned(),
    }
}

/// Shows a vault: what stands around it, then its document.
pub(crate) async fn show(
    app: &App,
    client: &Client,
    path: &str,
    reveal: bool,
) -> Result<u8, Failure> {
    let mut vault = client.get(&revealed(path, reveal)).await?;
    if app.output().is_json() {
        app.output().value(&vault)?;
        return Ok(0);
    }
    let content = vault.as_object_mut().and_then(|v| v.remove("content"));
    admin::object(app, "id", &vault)?;
    if let Some(Value::String(text)) = content.filter(|c| c != "") {
        let lines: Vec<String> = text.lines().map(clean).collect();
        print(&format!("\n{}\n", lines.join("\n")))?;
    }
    Ok(0)
}

/// Lets somebody change the document in an editor.
pub(crate) async fn edit(app: &App, client: &Client, path: &str) -> Result<u8, Failure> {
    let present = client.get(&revealed(path, true)).await?;
    let text = |name: &str| present[name].as_str().unwrap_or_default().to_owned();
    let ending = match text("format").as_str() {
        "hocon" => "conf".to_owned(),
        other => other.to_owned(),
    };
    let before = text("content");
    let after = admin::text_in_editor(&before, &ending)?;
    if after == before {
        say(app, "nothing differs");
        return Ok(0);
    }
    let body = json!({ "format": text("format"), "content": after });
    save(app, client, path, tag(&present), &body).await
}

/// Replaces the document by a file.
pub(crate) async fn import(
    app: &App,
    client: &Client,
    path: &str,
    file: &File,
) -> Result<u8, Failure> {
    let body = file.body()?;
    let present = client.get(path).await?;
    save(app, client, path, tag(&present), &body).await
}

async fn save(
    app: &App,
    client: &Client,
    path: &str,
    version: Option<String>,
    body: &Value,
) -> Result<u8, Failure> {
    let write = Write::new(Method::PUT, path, "the vault is saved");
    let saved = send(app, client, write.version(version).body(body)).await?;
    warn(&saved["warnings"]);
    crate::defaults::learn_if_possible(app, client).await;
    let size = saved["size"].as_u64().unwrap_or(0);
    let off = match saved["enabled"].as_bool() {
        Some(true) => "",
        _ => "; it is switched off",
    };
    say(app, &format!("saved, {size} bytes{off}"));
    Ok(0)
}

/// Switches a vault on or off.
pub(crate) async fn switch(
    app: &App,
    client: &Client,
    path: &str,
    body: &Value,
) -> Result<u8, Failure> {
    let present = client.get(path).await?;
    let on = body["enabled"] == true;
    let what = if on { "switched on" } else { "switched off" };
    let write = Write::new(Method::PATCH, path, format!("the vault is {what}"));
    send(app, client, write.version(tag(&present)).body(body)).await?;
    crate::defaults::learn_if_possible(app, client).await;
    say(app, what);
    Ok(0)
}

/// Says what is wrong with a file.
pub(crate) async fn check(app: &App, client: &Client, file: &File) -> Result<u8, Failure> {
    let call = Call::new(Method::POST, "/api/v1/vaults/check").body(file.body()?);
    let checked = client.call(call).await?;
    if app.output().is_json() {
        app.output().value(&checked)?;
        return Ok(0);
    }
    warn(&checked["warnings"]);
    let values = checked["summary"]["values"].as_u64().unwrap_or(0);
    say(app, &format!("good, {values} values"));
    Ok(0)
}

/// What is worth telling, on standard error.
fn warn(warnings: &Value) {
    for warning in warnings.as_array().into_iter().flatten() {
        eprintln!("{}", warning_text(warning));
    }
}

fn warning_text(warning: &Value) -> String {
    let text = |name: &str| clean(warning[name].as_str().unwrap_or_default());
    let mut line = format!("note: {} {}", text("code"), text("path"));
    if let (Some(at), Some(column)) = (warning["line"].as_u64(), warning["column"].as_u64()) {
        let _ = write!(line, " at {at}:{column}"); // into a String, so it cannot fail
    }
    for (member, word) in [("near", "did you mean"), ("source", "by")] {
        if !text(member).is_empty() {
            let _ = write!(line, "; {word} {}", text(member));
        }
    }
    line
}

/// Where a value comes from.
pub(crate) async fn explain(
    app: &App,
    client: &Client,
    path: &str,
    reveal: bool,
) -> Result<u8, Failure> {
    let leaf = client.get(&revealed(path, reveal)).await?;
    if app.output().is_json() {
        app.output().value(&leaf)?;
        return Ok(0);
    }
    print(&leaf_text(&leaf))?;
    Ok(0)
}

pub(super) fn leaf_text(leaf: &Value) -> String {
    let of = |one: &Value| {
        let value = match (one["state"].as_str(), one.get("value")) {
            (Some("unset"), _) => "taken away".to_owned(),
            (_, None) => "(not shown)".to_owned(),
            (_, Some(Value::String(text))) => clean(text),
            (_, Some(other)) => clean(&other.to_string()),
        };
        let text = |name: &str| clean(one[name].as_str().unwrap_or_default());
        format!("{value}  # {} {}", text("layer"), text("source"))
    };
    let path = clean(leaf["path"].as_str().unwrap_or_default());
    let mut text = format!("{path} = {}\n", of(leaf));
    for one in leaf["shadowed"].as_array().into_iter().flatten() {
        let _ = writeln!(text, "  over {}", of(one)); // into a String, so it cannot fail
    }
    text
}

/// What sessions get.
pub(crate) async fn preview(
    app: &App,
    client: &Client,
    path: &str,
    reveal: bool,
) -> Result<u8, Failure> {
    let config = client.get(&revealed(path, reveal)).await?;
    if app.output().is_json() {
        app.output().value(&config)?;
        return Ok(0);
    }
    warn(&config["warnings"]);
    let mut text = String::new();
    for leaf in config["leaves"].as_array().into_iter().flatten() {
        text.push_str(&leaf_text(leaf));
    }
    if text.is_empty() && !app.global.quiet {
        eprintln!("nothing is set");
    }
    print(&text)?;
    Ok(0)
}

/// The document with keys set, in its format.
fn with_pairs(present: &Value, pairs: &[(String, String)]) -> Result<Value, Failure> {
    let text = |name: &str| present[name].as_str().unwrap_or_default();
    let format: Format = text("format")
        .parse()
        .map_err(|why| Failure::failed(format!("the format of the vault {why}")))?;
    let tree = parse(format, text("content").as_bytes());
    let mut tree = tree.map_err(|found| Failure::failed(found.message))?;
    for (key, text) in pairs {
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        let node = match text.as_str() {
            "null" => None,
            text => Some(value_of(&path, text).map_err(Failure::usage)?),
        };
        tree.set(&path, node);
    }
    // A key that goes leaves nothing behind; TOML could not say that it is taken away.
    Ok(json!({ "format": format.to_string(), "content": write(format, &tree) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_set_in_the_format_of_the_document() {
        let present = json!({ "format": "yaml", "content": "environment: {A: 1, B: 2} # x" });
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let pairs = [
            pair("environment.A", "null"),
            pair("environment.C", "007"),
            pair("agent.apply_files", "false"),
        ];
        assert_eq!(
            with_pairs(&present, &pairs).unwrap(),
            json!({ "format": "yaml",
                "content": "environment:\n  B: 2\n  C: \"007\"\nagent:\n  apply_files: false\n" })
        );
        let wrong = with_pairs(&present, &[pair("agent.apply_files", "no")]);
        assert_eq!(
            wrong.unwrap_err().text,
            "agent.apply_files must be true or false."
        );
    }

    #[test]
    fn a_value_says_where_it_comes_from() {
        let leaf = json!({ "path": "environment.STAGE", "state": "set", "value": "prod",
            "layer": "locked-vault", "source": "vlt_1", "shadowed": [
                { "layer": "group-vault", "source": "vlt_2", "state": "set" },
                { "layer": "file", "source": "coordinator:/etc/x:1", "state": "unset" }] });
        assert_eq!(
            leaf_text(&leaf),
            "environment.STAGE = prod  # locked-vault vlt_1\n  over (not shown)  # group-vault vlt_2\n  over taken away  # file coordinator:/etc/x:1\n"
        );
    }

    #[test]
    fn a_note_says_where_and_what_was_meant() {
        let note = json!({ "code": "unknown-key", "path": "agent.pip.index_uri",
            "line": 2, "column": 3, "near": "agent.pip.index_url" });
        assert_eq!(
            warning_text(&note),
            "note: unknown-key agent.pip.index_uri at 2:3; did you mean agent.pip.index_url"
        );
    }

    #[test]
    fn the_name_of_a_file_says_its_format() {
        let file = |name: &str, format: Option<&str>| File {
            file: name.to_owned(),
            format: format.map(str::to_owned),
        };
        let unknown = file("/nowhere/x", None).body().unwrap_err();
        assert_eq!(unknown.text, "/nowhere/x: what format is it?");
        let missing = file("/nowhere/x.yaml", None).body().unwrap_err();
        assert!(missing.text.starts_with("/nowhere/x.yaml: "));
    }
}
