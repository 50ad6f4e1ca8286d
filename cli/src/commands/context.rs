//! `context …`: coordinators and how to sign in there.

use crate::app::App;
use crate::contexts::File;
use crate::error::{Failure, code};
use crate::output::{Table, clean};
use serde_json::{Value, json};

/// What can be done with contexts.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List them
    Ls,
    /// Use this one from now on
    Use {
        /// Its name
        name: String,
    },
    /// Show one without its secrets; absent: the one in use
    Show {
        /// Its name
        name: Option<String>,
    },
}

/// Does it.
pub(crate) fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    let path = app.contexts_path()?;
    let mut file = File::load(&path)?;
    match verb {
        Verb::Ls => {
            let items: Vec<Value> = file.context.keys().map(|name| shown(&file, name)).collect();
            app.output().list(&items, "name", || {
                let mut table = Table::new(&["", "NAME", "ADDRESS", "KEYPAIR"]);
                for (name, context) in &file.context {
                    let mark = if file.current.as_ref() == Some(name) {
                        "*"
                    } else {
                        " "
                    };
                    table.row(vec![
                        mark.to_owned(),
                        name.clone(),
                        context.url.clone(),
                        context.access_key.clone().unwrap_or_default(),
                    ]);
                }
                Ok(table)
            })?;
        }
        Verb::Use { name } => {
            if !file.context.contains_key(&name) {
                let known: Vec<&str> = file.context.keys().map(String::as_str).collect();
                return Err(Failure::new(
                    code::NOT_FOUND,
                    format!("there is no context \"{name}\""),
                )
                .hint(format!("one of: {}", known.join(", "))));
            }
            file.current = Some(name.clone());
            file.store(&path)?;
            if !app.global.quiet {
                eprintln!("context \"{}\" is used from now on", clean(&name));
            }
        }
        Verb::Show { name } => {
            let (name, context) = match name {
                Some(name) => file.choose(Some(&name), &|_| None)?,
                None => app.context()?,
            };
            let item = name.as_deref().map_or_else(
                || json!({"name": "(environment)", "url": context.url, "ca": context.ca, "access_key": context.access_key}),
                |name| shown(&file, name),
            );
            app.output().object(&item, "name", || {
                let line = |member: &str| {
                    item.get(member)
                        .and_then(Value::as_str)
                        .map(|text| format!("{member:<12} {}\n", clean(text)))
                        .unwrap_or_default()
                };
                let file_line = format!("{:<12} {}\n", "file", path.display());
                Ok([
                    "name",
                    "url",
                    "ca",
                    "access_key",
                    "secret_key",
                    "token",
                    "data",
                ]
                .map(line)
                .concat()
                    + &file_line)
            })?;
        }
    }
    Ok(0)
}

/// A context without its secrets.
fn shown(file: &File, name: &str) -> Value {
    let Some(context) = file.context.get(name) else {
        return Value::Null;
    };
    let mut value = serde_json::to_value(context).unwrap_or_default();
    value["name"] = json!(name);
    value["current"] = json!(file.current.as_deref() == Some(name));
    for secret in ["secret_key", "token"] {
        if value.get(secret).is_some() {
            value[secret] = json!("********");
        }
    }
    value
}
