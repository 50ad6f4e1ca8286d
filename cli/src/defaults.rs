//! What flags default to: `client.*` of the user's file, of vaults and of variables.
//!
//! | layer, lowest first | from |
//! |---|---|
//! | `file` | what the coordinator's files say to everybody, then the user's own file |
//! | `group-vault`, `personal-vault` | vaults |
//! | `environment` | the coordinator's variables, then `LONGSHORE__CLIENT__…` here |
//! | `command-line` | flags |
//! | `locked-vault` | vaults that nothing stands above |
//!
//! What the coordinator says is learned once an hour, by a process of its own that no command
//! waits for, and after one's own vault was saved.

use crate::app::App;
use crate::client::Client;
use crate::contexts::{ClientDefaults, Context, Env};
use crate::error::Failure;
use longshore_config::tree::{Node, Value as Said, dotted};
use longshore_config::work::layers::{Document, Layer, Merged, document, merge, under};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The keys.
pub(crate) const KEYS: [&str; 6] = ["project", "group", "image", "preset", "output", "notify"];
/// Every variable that sets one begins so.
const PREFIX: &str = "LONGSHORE__CLIENT__";
/// What was learned is learned again after so long, in seconds.
const FRESH_S: u64 = 3600;
/// What was learned so long ago is of logins that are over, in seconds.
const KEPT_S: u64 = 30 * 86_400;
/// A process that learns gives up after so long: nobody waits for it.
const LEARNING: &str = "30s";

/// What a coordinator said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Learned {
    /// When it was asked, in seconds since 1970.
    at: u64,
    /// What holds there.
    leaves: Vec<Leaf>,
}

/// A key that is set at a coordinator, or taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Leaf {
    key: String,
    layer: String,
    source: String,
    value: Option<String>,
}

/// By coordinator and who signs in.
type Book = BTreeMap<String, Learned>;

impl Learned {
    /// What an answer of `/me/config` says of the command line.
    fn of(config: &Value, now_s: u64) -> Self {
        let leaf = |leaf: &Value| {
            let text = |name: &str| leaf[name].as_str().map(str::to_owned);
            let key = text("path")?.strip_prefix("client.")?.to_owned();
            Some(Leaf {
                key: KEYS.contains(&key.as_str()).then_some(key)?,
                layer: text("layer")?,
                source: text("source")?,
                value: text("value").filter(|_| leaf["state"] == "set"),
            })
        };
        let leaves = config["leaves"].as_array();
        Self {
            at: now_s,
            leaves: leaves.into_iter().flatten().filter_map(leaf).collect(),
        }
    }

    const fn is_fresh(&self, now_s: u64) -> bool {
        // A clock that was set back is no reason never to ask again.
        now_s >= self.at && now_s - self.at < FRESH_S
    }
}

fn path_of(key: &str) -> Vec<String> {
    vec!["client".to_owned(), key.to_owned()]
}

fn set(layer: Layer, source: String, at: i64, key: &str, value: Option<&str>) -> Document {
    let node = value.map_or(Said::Null, |text| Said::Text(text.to_owned()));
    document(
        layer,
        source,
        false,
        at,
        under(&path_of(key), Node::bare(node)),
    )
}

/// Everything that defaults come from.
#[derive(Debug, Clone)]
pub(crate) struct Defaults {
    documents: Vec<Document>,
}

impl Defaults {
    /// Of a file at a path, what was learned, and the variables of this process.
    ///
    /// # Errors
    /// A variable that sets no such key.
    pub(crate) fn new(
        (path, own): (&Path, &ClientDefaults),
        learned: &Learned,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Failure> {
        let mut documents = Vec::new();
        for leaf in &learned.leaves {
            // A layer that this program does not know is of a newer coordinator.
            let Some(layer) = Layer::of(&leaf.layer) else {
                continue;
            };
            let value = leaf.value.as_deref();
            documents.push(set(layer, leaf.source.clone(), 0, &leaf.key, value));
        }
        for (key, value) in KEYS.into_iter().zip(own.values()) {
            if let Some(value) = value {
                let source = path.display().to_string();
                documents.push(set(Layer::File, source, 1, key, Some(value)));
            }
        }
        for (name, value) in variables {
            let Some(key) = name.strip_prefix(PREFIX) else {
                continue;
            };
            let key = key.to_ascii_lowercase();
            if !KEYS.contains(&key.as_str()) {
                let text = format!("{name}: there is no key client.{key}");
                let known = format!("the keys are {}", KEYS.join(", "));
                return Err(Failure::usage(text).hint(known));
            }
            documents.push(set(Layer::Environment, name, 1, &key, Some(&value)));
        }
        Ok(Self { documents })
    }

    fn merged(&self, flags: &[(&str, &str)]) -> Merged {
        let mut documents = self.documents.clone();
        for (key, value) in flags {
            let source = format!("--{key}");
            documents.push(set(Layer::CommandLine, source, 0, key, Some(value)));
        }
        merge(documents)
    }

    /// What holds, with a flag or without; and a note where a locked vault says otherwise than
    /// the flag.
    pub(crate) fn pick(&self, key: &str, flag: Option<String>) -> (Option<String>, Option<String>) {
        let flags: Vec<(&str, &str)> = flag.iter().map(|text| (key, text.as_str())).collect();
        let merged = self.merged(&flags);
        let path = dotted(&path_of(key));
        let held = merged.text(&path).map(str::to_owned);
        if held == flag {
            return (held, None);
        }
        let note = flag.map(|flag| {
            let said = held.as_deref().unwrap_or("nothing");
            let leaf = merged.leaves.iter().find(|leaf| dotted(&leaf.path) == path);
            let by = leaf.map_or("", |leaf| leaf.origin.source.as_str());
            format!("note: --{key} {flag} does not count: a locked vault ({by}) says {said}")
        });
        (held, note)
    }

    /// Each key that somebody set, and who: in the shape of `/me/config`.
    pub(crate) fn leaves(&self) -> Vec<Value> {
        let merged = self.merged(&[]);
        let state = |node: &Option<Node>| match node {
            Some(_) => "set",
            None => "unset",
        };
        let leaves = merged.leaves.iter().filter(|leaf| {
            let client = leaf.path.first().is_some_and(|root| root == "client");
            client && leaf.origin.kind != Layer::BuiltIn
        });
        let one = |leaf: &longshore_config::merge::Leaf<Layer>| {
            let shadowed = leaf.shadowed.iter().map(|(origin, node)| {
                serde_json::json!({
                    "layer": origin.kind.as_str(),
                    "source": origin.source,
                    "state": state(node),
                    "value": node.as_ref().map(Node::to_json),
                })
            });
            serde_json::json!({
                "path": dotted(&leaf.path),
                "state": state(&leaf.value),
                "value": leaf.value.as_ref().map(Node::to_json),
                "layer": leaf.origin.kind.as_str(),
                "source": leaf.origin.source,
                "shadowed": shadowed.collect::<Vec<_>>(),
            })
        };
        leaves.map(one).collect()
    }
}

/// Where what was learned lies.
fn cache(env: Env<'_>) -> Option<PathBuf> {
    let base = env("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let base = base.or_else(|| env("HOME").map(|home| Path::new(&home).join(".cache")));
    Some(base?.join("longshore/defaults.json"))
}

/// Whose they are: other coordinators and other logins say other things.
fn name_of(context: &Context) -> String {
    let bearer = context.bearer().unwrap_or_default();
    let digest = digest(
        &SHA256,
        format!("{} {bearer}", context.url.trim_end_matches('/')).as_bytes(),
    );
    let bytes = digest.as_ref().iter().take(16);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> Book {
    // Nobody misses it: it is learned again.
    let bytes = std::fs::read(path).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn keep(path: &Path, book: &Book) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder)?;
    let fresh = folder.join(format!(".defaults.json.{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(serde_json::to_string(book)?.as_bytes())?;
    std::fs::rename(&fresh, path)
}

fn now_s() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The defaults as far as they are known.
pub(crate) fn known(app: &App) -> Result<Defaults, Failure> {
    of(app, false)
}

/// The defaults that hold now. Where what the coordinator says is old, it is asked meanwhile;
/// commands go by what it said before.
pub(crate) fn present(app: &App) -> Result<Defaults, Failure> {
    of(app, true)
}

fn of(app: &App, ask: bool) -> Result<Defaults, Failure> {
    let path = app.contexts_path()?;
    let file = app.contexts()?;
    let mut learned = Learned::default();
    if let (Ok((_, context)), Some(cache)) = (app.context(), cache(&crate::contexts::process_env)) {
        let mut book = read(&cache);
        learned = book.get(&name_of(&context)).cloned().unwrap_or_default();
        let now = now_s();
        if ask && context.bearer().is_some() && !learned.is_fresh(now) {
            // Written first: of many commands at once one asks.
            learned.at = now;
            book.insert(name_of(&context), learned.clone());
            if keep(&cache, &book).is_ok() {
                ask_meanwhile(app);
            }
        }
    }
    let variables = unicode(std::env::vars_os());
    Defaults::new((&path, &file.client), &learned, variables)
}

/// The variables that can be ours: one that is not Unicode cannot.
fn unicode(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> impl Iterator<Item = (String, String)> {
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Starts a process that learns, and does not wait for it.
fn ask_meanwhile(app: &App) {
    let Ok(own) = std::env::current_exe() else {
        return;
    };
    let mut command = Command::new(own);
    if let Some(context) = &app.global.context {
        command.arg("--context").arg(context);
    }
    let started = command
        .args(["--timeout", LEARNING, "--quiet", "config", "learn"])
        // What is typed to end a command does not reach it.
        .process_group(0)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    drop(started); // without it the next command asks, in an hour
}

/// Asks the coordinator of the context in use, and keeps what it says.
pub(crate) async fn learn(app: &App) -> Result<(), Failure> {
    let (_, context) = app.context()?;
    let client = app.client()?;
    keep_learned(&client, &context).await
}

/// The same, where a command that did something else should not fail because of it.
pub(crate) async fn learn_if_possible(app: &App, client: &Client) {
    if let Ok((_, context)) = app.context() {
        let learned = keep_learned(client, &context).await;
        drop(learned); // a later command asks again
    }
}

async fn keep_learned(client: &Client, context: &Context) -> Result<(), Failure> {
    let config = client.get("/me/config").await?;
    let path = cache(&crate::contexts::process_env)
        .ok_or_else(|| Failure::failed("HOME is not set, so there is no place for defaults"))?;
    let (mut book, now) = (read(&path), now_s());
    book.retain(|_, learned| now.saturating_sub(learned.at) < KEPT_S);
    book.insert(name_of(context), Learned::of(&config, now));
    let fault = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
    keep(&path, &book).map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn learned(leaves: &[(&str, &str, &str, Option<&str>)]) -> Learned {
        let leaves = leaves.iter().map(|(key, layer, source, value)| {
            let state = if value.is_some() { "set" } else { "unset" };
            json!({ "path": format!("client.{key}"), "layer": layer, "source": source,
                "state": state, "value": value })
        });
        Learned::of(&json!({ "leaves": leaves.collect::<Vec<_>>() }), 1000)
    }

    fn defaults(learned: &Learned, own: &ClientDefaults, variables: &[(&str, &str)]) -> Defaults {
        let variables = variables.iter();
        let variables = variables.map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Defaults::new((Path::new("/c.toml"), own), learned, variables).unwrap()
    }

    fn own(group: &str) -> ClientDefaults {
        ClientDefaults {
            group: Some(group.to_owned()),
            ..ClientDefaults::default()
        }
    }

    #[test]
    fn a_variable_that_is_not_unicode_is_none_of_ours() {
        use std::os::unix::ffi::OsStringExt as _;
        let broken = || OsString::from_vec(b"caf\xe9".to_vec());
        let whole = |text: &str| OsString::from(text);
        let all = [
            (broken(), whole("x")),
            (whole("SOMETHING"), broken()),
            (whole("A"), whole("b")),
        ];
        let left: Vec<_> = unicode(all.into_iter()).collect();
        assert_eq!(left, [("A".to_owned(), "b".to_owned())]);
    }

    #[test]
    fn each_layer_stands_above_the_one_before() {
        let flag = |text: &str| Some(text.to_owned());
        let none = ClientDefaults::default();
        let group = |d: &Defaults, f: Option<String>| d.pick("group", f).0.unwrap_or_default();
        let nobody = Learned::default();
        assert_eq!(group(&defaults(&nobody, &none, &[]), None), "");
        let of_all = learned(&[("group", "file", "coordinator:/w:1", Some("all"))]);
        assert_eq!(group(&defaults(&of_all, &none, &[]), None), "all");
        assert_eq!(group(&defaults(&of_all, &own("mine"), &[]), None), "mine");
        let vault = learned(&[("group", "personal-vault", "v", Some("vault"))]);
        assert_eq!(group(&defaults(&vault, &own("mine"), &[]), None), "vault");
        let taken = learned(&[("group", "personal-vault", "v", None)]);
        assert_eq!(group(&defaults(&taken, &own("mine"), &[]), None), "");
        let variable = [("LONGSHORE__CLIENT__GROUP", "env"), ("OTHER", "x")];
        let with = defaults(&vault, &own("mine"), &variable);
        assert_eq!(group(&with, None), "env");
        assert_eq!(with.pick("group", flag("flag")), (flag("flag"), None));
        let locked = learned(&[("group", "locked-vault", "v9", Some("locked"))]);
        let with = defaults(&locked, &own("mine"), &variable);
        assert_eq!(group(&with, None), "locked");
        let (held, note) = with.pick("group", flag("flag"));
        assert_eq!(held, flag("locked"));
        assert_eq!(
            note.unwrap(),
            "note: --group flag does not count: a locked vault (v9) says locked"
        );
        assert_eq!(with.pick("group", flag("locked")), (flag("locked"), None));
        assert_eq!(with.pick("image", flag("i")), (flag("i"), None));
    }

    #[test]
    fn the_winner_is_named() {
        let vault = learned(&[("group", "personal-vault", "v", Some("vault"))]);
        let leaves = defaults(&vault, &own("mine"), &[]).leaves();
        assert_eq!(
            leaves,
            [
                json!({ "path": "client.group", "state": "set", "value": "vault",
                "layer": "personal-vault", "source": "v", "shadowed": [
                    { "layer": "file", "source": "/c.toml", "state": "set", "value": "mine" }] })
            ]
        );
    }

    #[test]
    fn a_variable_that_sets_nothing_is_told() {
        let name = "LONGSHORE__CLIENT__GRUOP".to_owned();
        let none = ClientDefaults::default();
        let nobody = Learned::default();
        let variables = [(name, "x".to_owned())].into_iter();
        let failure = Defaults::new((Path::new("/c"), &none), &nobody, variables).unwrap_err();
        assert_eq!(failure.exit, 2);
        assert!(failure.text.contains("client.gruop"), "{}", failure.text);
    }

    #[test]
    fn what_was_learned_is_fresh_for_an_hour() {
        let known = learned(&[]);
        let fresh = [999, 1000, 4599, 4600].map(|now| known.is_fresh(now));
        assert_eq!(fresh, [false, true, true, false]);
    }

    #[test]
    fn what_was_learned_is_kept_by_coordinator_and_login() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("longshore/defaults.json");
        assert_eq!(read(&path), Book::new());
        let book = Book::from([(
            "https://a login".to_owned(),
            learned(&[("image", "file", "s", Some("i"))]),
        )]);
        keep(&path, &book).unwrap();
        assert_eq!(read(&path), book);
        std::fs::write(&path, "{").unwrap();
        assert_eq!(read(&path), Book::new());
        let name = |url: &str, token: &str| {
            name_of(&Context {
                url: url.to_owned(),
                token: Some(token.to_owned()),
                ..Context::default()
            })
        };
        assert_eq!(name("https://a/", "t1"), name("https://a", "t1"));
        assert_ne!(name("https://a", "t1"), name("https://a", "t2"));
        assert_ne!(name("https://a", "t1"), name("https://b", "t1"));
        assert!(!name("https://a", "t1").contains("t1"));
    }
}
