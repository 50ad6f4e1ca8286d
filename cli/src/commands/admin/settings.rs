//! `admin settings …`: the configuration of the coordinator, and what is stored over its files.

use super::{Write, say, send};
use crate::app::App;
use crate::client::typed;
use crate::error::{Failure, code};
use crate::output::{Table, clean};
use crate::values;
use longshore_common::settings::{Redaction, Setting, Settings};
use reqwest::Method;
use serde_json::{Map, Value, json};

const PATH: &str = "/settings";

/// What can be done with settings.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List the keys with what holds and what set it
    Ls {
        /// Only this key, or those of this section
        section: Option<String>,
        /// Only those that something has set
        #[arg(long)]
        set: bool,
    },
    /// Print what holds
    Get {
        /// Its key, such as services.sessions.admin_exec
        key: String,
    },
    /// Store settings; they act at once
    Set {
        /// Which: times as 90 or 1h30m, sizes as 64K, lists as JSON; KEY=@FILE reads a file and
        /// KEY=- what is piped in, as secrets are given
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = values::pair)]
        pairs: Vec<(String, String)>,
    },
    /// Take stored settings out: what files and defaults say holds again
    #[command(visible_alias = "unset")]
    Reset {
        /// Their keys
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
    /// Read the files of the configuration again, all of them or nothing
    Reload,
    /// Show the variables whose values nobody is shown, or change the list
    Redaction {
        #[command(subcommand)]
        verb: Option<RedactionVerb>,
    },
}

/// What can be done with that list.
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
    /// Take the stored list out: what files and defaults say holds again
    Reset,
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Ls { section, set } => ls(app, section.as_deref(), set).await,
        Verb::Get { key } => get(app, &key).await,
        Verb::Set { pairs } => {
            let given = given(pairs, &|path| std::fs::read_to_string(path), &|| {
                std::io::read_to_string(std::io::stdin())
            })?;
            change(app, given).await
        }
        Verb::Reset { keys } => {
            let values = keys.into_iter().map(|key| (key, Value::Null));
            let values = values.collect();
            change(
                app,
                Given {
                    values,
                    typed: Vec::new(),
                },
            )
            .await
        }
        Verb::Redaction { verb } => redaction(app, verb).await,
        Verb::Reload => {
            let client = app.client()?;
            let body = json!({});
            let path = format!("{PATH}/reload");
            let write = Write::new(Method::POST, &path, "the configuration is read again");
            let told = send(app, &client, write.body(&body)).await?;
            said(app, &told, "the configuration was read again")
        }
    }
}

async fn redaction(app: &App, verb: Option<RedactionVerb>) -> Result<u8, Failure> {
    let path = format!("{PATH}/redaction");
    let client = app.client()?;
    let item = client.get(&path).await?;
    let now: Redaction = typed(item.clone())?;
    let Some(verb) = verb else {
        app.output().object(&item, "names", || {
            let lines: Vec<String> = now.names.iter().map(|name| clean(name)).collect();
            Ok(lines.join("\n"))
        })?;
        return Ok(0);
    };
    let (names, what) = match verb {
        RedactionVerb::Reset => (None, "the list of hidden names is that of the files"),
        RedactionVerb::Add { names } => (Some(with(now.names, names)), "more names are hidden"),
        RedactionVerb::Rm { names } => {
            let hint = "longshore admin settings redaction";
            (
                Some(without(now.names, &names, hint)?),
                "fewer names are hidden",
            )
        }
    };
    let body = json!({ "names": names });
    let tag = format!("\"{}\"", now.version);
    let write = Write::new(Method::PUT, &path, what)
        .version(Some(tag))
        .body(&body);
    let told = send(app, &client, write).await?;
    if app.output().is_json() {
        app.output().value(&told)?;
    } else {
        say(app, what);
    }
    Ok(0)
}

/// A list with more names, each once.
pub(crate) fn with(mut list: Vec<String>, more: Vec<String>) -> Vec<String> {
    for name in more {
        if !list.contains(&name) {
            list.push(name);
        }
    }
    list
}

/// A list without some of its names; `shown` is what shows it.
pub(crate) fn without(
    list: Vec<String>,
    fewer: &[String],
    shown: &str,
) -> Result<Vec<String>, Failure> {
    if let Some(missing) = fewer.iter().find(|name| !list.contains(name)) {
        let text = format!("{} is not in the list", clean(missing));
        return Err(Failure::new(code::NOT_FOUND, text).hint(shown));
    }
    Ok(list
        .into_iter()
        .filter(|name| !fewer.contains(name))
        .collect())
}

async fn ls(app: &App, section: Option<&str>, set: bool) -> Result<u8, Failure> {
    let told: Settings = typed(app.client()?.get(PATH).await?)?;
    let all = told.items.into_iter();
    let wanted: Vec<Setting> = all
        .filter(|setting| section.is_none_or(|section| is_in(&setting.key, section)))
        .filter(|setting| !set || setting.source != "default")
        .collect();
    if let (true, Some(section)) = (wanted.is_empty() && !set, section) {
        return Err(unknown(section));
    }
    let items: Result<Vec<Value>, _> = wanted.iter().map(serde_json::to_value).collect();
    let items = items.map_err(|error| Failure::failed(error.to_string()))?;
    app.output().list(&items, "key", || Ok(table(&wanted)))?;
    if !app.global.quiet && !app.output().is_json() {
        pending(&told.pending_restart);
    }
    Ok(0)
}

fn is_in(key: &str, section: &str) -> bool {
    let rest = key.strip_prefix(section);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn unknown(key: &str) -> Failure {
    Failure::new(code::NOT_FOUND, format!("there is no key {}", clean(key)))
        .hint("longshore admin settings ls")
}

fn table(settings: &[Setting]) -> Table {
    let mut table = Table::new(&["KEY", "VALUE", "SOURCE", "CHANGES"]);
    for setting in settings {
        table.row(vec![
            clean(&setting.key),
            clean(&setting.value),
            clean(&setting.source),
            clean(&setting.acts),
        ]);
    }
    table
}

async fn get(app: &App, key: &str) -> Result<u8, Failure> {
    let told: Settings = typed(app.client()?.get(PATH).await?)?;
    let found = told.items.iter().find(|setting| setting.key == key);
    let found = found.ok_or_else(|| unknown(key))?;
    if app.output().is_json() {
        let value = serde_json::to_value(found);
        app.output()
            .value(&value.map_err(|error| Failure::failed(error.to_string()))?)?;
    } else {
        println!("{}", clean(&found.value));
    }
    Ok(0)
}

/// What is to be stored.
#[derive(Debug)]
struct Given {
    values: Map<String, Value>,
    /// The keys whose values stood on the command line.
    typed: Vec<String>,
}

/// Values as they were given: as such, as `@FILE`, or as `-` for what is piped in. One line feed
/// at the end of what is read does not count.
fn given(
    pairs: Vec<(String, String)>,
    file: &dyn Fn(&str) -> std::io::Result<String>,
    piped: &dyn Fn() -> std::io::Result<String>,
) -> Result<Given, Failure> {
    let (mut values, mut typed, mut is_read) = (Map::new(), Vec::new(), false);
    for (key, text) in pairs {
        let read = match text.strip_prefix('@') {
            Some(path) => {
                let read = file(path);
                Some(read.map_err(|error| Failure::usage(format!("{path}: {error}")))?)
            }
            None if text == "-" && is_read => {
                let text = "what is piped in can be the value of one key";
                return Err(Failure::usage(text));
            }
            None if text == "-" => {
                is_read = true;
                Some(piped()?)
            }
            None => None,
        };
        let value = match read {
            Some(read) => {
                let line = read.strip_suffix('\n').unwrap_or(&read);
                line.strip_suffix('\r').unwrap_or(line).to_owned()
            }
            None => {
                typed.push(key.clone());
                text
            }
        };
        values.insert(key, json!(value));
    }
    Ok(Given { values, typed })
}

/// A secret that stood on the command line: whoever may list processes reads it there.
fn typed_secret<'a>(now: &Settings, typed: &'a [String]) -> Option<&'a str> {
    let is_secret = |key: &str| {
        let mut items = now.items.iter();
        items.any(|item| item.secret && is_in(&item.key, key))
    };
    typed.iter().map(String::as_str).find(|key| is_secret(key))
}

async fn change(app: &App, given: Given) -> Result<u8, Failure> {
    let client = app.client()?;
    let now: Settings = typed(client.get(PATH).await?)?;
    let Given {
        values,
        typed: on_line,
    } = given;
    if let Some(key) = typed_secret(&now, &on_line) {
        let text = format!("{key} is secret, and others see what stands on a command line");
        let hint = format!("longshore admin settings set {key}=@FILE, or {key}=- to pipe it in");
        return Err(Failure::usage(text).hint(hint));
    }
    let keys: Vec<&str> = values.keys().map(String::as_str).collect();
    let what = format!("{} changes", keys.join(", "));
    let done = format!("changed: {}", keys.join(", "));
    let body = json!({ "values": values });
    let tag = format!("\"{}\"", now.version);
    let write = Write::new(Method::PATCH, PATH, what)
        .version(Some(tag))
        .body(&body);
    let told = send(app, &client, write).await?;
    said(app, &told, &done)
}

fn said(app: &App, told: &Value, done: &str) -> Result<u8, Failure> {
    if app.output().is_json() {
        app.output().value(told)?;
    } else if !app.global.quiet {
        let told: Settings = typed(told.clone())?;
        say(app, done);
        pending(&told.pending_restart);
    }
    Ok(0)
}

fn pending(keys: &[String]) {
    if !keys.is_empty() {
        let keys: Vec<String> = keys.iter().map(|key| clean(key)).collect();
        eprintln!("at the next start of the coordinator: {}", keys.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_grows_and_shrinks_by_names() {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(with(list(&["A"]), list(&["B", "A", "B"])), ["A", "B"]);
        assert_eq!(
            without(list(&["A", "B"]), &list(&["A"]), "ls").unwrap(),
            ["B"]
        );
        assert!(without(list(&["A"]), &list(&["A", "C"]), "ls").is_err());
    }

    #[test]
    fn values_come_from_the_line_from_files_and_from_what_is_piped_in() {
        let file = |path: &str| match path {
            "/x" => Ok("of the file\r\n".to_owned()),
            _ => Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
        };
        let piped = || Ok("piped\n\n".to_owned());
        let of = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            given(pairs.collect(), &file, &piped)
        };
        let all = of(&[("a", "1"), ("b", "@/x"), ("c", "-"), ("d", "-1")]).unwrap();
        let wanted = json!({ "a": "1", "b": "of the file", "c": "piped\n", "d": "-1" });
        assert_eq!(Value::Object(all.values), wanted);
        assert_eq!(all.typed, ["a", "d"]);
        assert!(of(&[("a", "@/none")]).is_err());
        assert!(of(&[("a", "-"), ("b", "-")]).is_err());
    }

    #[test]
    fn a_secret_does_not_stand_on_the_line() {
        let now: Settings = serde_json::from_value(json!({
            "version": 1, "pending_restart": [],
            "items": [
                { "key": "a.host", "value": "", "source": "default", "acts": "live" },
                { "key": "a.password", "value": "", "source": "default", "acts": "live", "secret": true },
            ],
        }))
        .unwrap();
        let keys = |keys: &[&str]| keys.iter().map(|k| (*k).to_owned()).collect::<Vec<_>>();
        assert_eq!(typed_secret(&now, &keys(&["a.host"])), None);
        let both = keys(&["a.host", "a.password"]);
        assert_eq!(typed_secret(&now, &both), Some("a.password"));
    }

    #[test]
    fn a_section_holds_its_keys_and_no_others() {
        assert!(is_in("services.sessions.admin_exec", "services.sessions"));
        assert!(is_in("services.sessions", "services.sessions"));
        assert!(!is_in("services.sessions_x", "services.sessions"));
        assert!(!is_in("services", "services.sessions"));
    }
}
