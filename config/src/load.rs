//! Sources become one configuration: files of directories, variables of the environment, and
//! what the command line sets, each typed by the schema, each value with its origin. All that is
//! wrong is told in one run.

mod beside;
mod inside;
mod masks;

use crate::fields;
use crate::merge::{Layer, Leaf, Plain, merge};
use crate::read::{Format, Surroundings, read, read_hocon, text_of};
use crate::schema::{Found, Kind, Schema};
use crate::tree::{Entry, Mark, Node, Value, dotted};
use crate::work::layers::{self, Document, Layer as WorkLayer};
use crate::work::mask::{masked_at, masked_url};
use beside::Whose;
pub use longshore_common::redact::MASK;
pub use masks::is_secret_name;
use masks::{compared, hidden, hidden_below};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use std::fmt;
use std::path::{Path, PathBuf};

/// Every variable that sets a key begins so.
pub const PREFIX: &str = "LONGSHORE__";
/// What stored settings are called.
pub const SETTINGS: &str = "settings";

/// A file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// As it is shown.
    pub path: PathBuf,
    /// The key its content belongs under; empty = the top.
    pub under: Vec<String>,
    /// It may hold whole keys instead: it does where a root of the program stands at its top.
    pub may_be_whole: bool,
    /// How it is written.
    pub format: Format,
    /// What it says.
    pub bytes: Vec<u8>,
    /// Whether users other than its owner and group may read it.
    pub open_to_all: bool,
}

/// Where a value came from, lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum From {
    /// A file.
    File,
    /// A stored setting.
    Settings,
    /// A variable.
    Environment,
    /// The command line.
    Argument,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `file:line:column`, a variable, or an argument.
    pub place: String,
    /// One sentence without its first capital.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// Everything a configuration is made of, already read.
pub struct Sources<'a> {
    /// In folding order.
    pub files: Vec<File>,
    /// Settings that the program keeps itself: dotted key and value.
    pub settings: Vec<(String, Json)>,
    /// The environment of the process.
    pub environment: Vec<(String, String)>,
    /// What the command line sets: its name there, the dotted key, the value.
    pub arguments: Vec<(String, String, String)>,
    /// Reads a file that a variable with `__FILE` names.
    pub read_file: &'a dyn Fn(&Path) -> Result<String, String>,
    /// Reads a file that a HOCON file includes; the includer first.
    pub include: &'a dyn Fn(&Path, &str) -> Result<Included, String>,
}

/// A file that another one includes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Included {
    /// As it is shown.
    pub path: PathBuf,
    /// What it says.
    pub text: String,
    /// Whether users other than its owner and group may read it.
    pub open_to_all: bool,
}

/// A configuration.
#[derive(Debug)]
pub struct Loaded {
    /// All that is set, typed.
    pub tree: Json,
    /// Where each of it came from; values as they were written.
    pub leaves: Vec<Leaf<From>>,
    /// What is worth a line in the log.
    pub warnings: Vec<Fault>,
    /// What is set for sessions: of a coordinator those of the whole installation, below `work`;
    /// of an agent those on its node, beside its own keys.
    pub work: Vec<Document>,
    /// Every file that was opened, as it was named; of included ones also where links led to.
    pub files: Vec<PathBuf>,
}

/// The root of what is set for sessions.
const WORK: &str = "work";

impl Loaded {
    /// The configuration as the program's own type.
    ///
    /// # Errors
    /// A value that type does not take, with the key and where it was set. Of keys that may hold
    /// what is secret no more is said: what the reader says of a value may be a part of it.
    pub fn typed<T: DeserializeOwned>(&self, schema: &Schema) -> Result<T, Fault> {
        serde_path_to_error::deserialize(&self.tree).map_err(|error| {
            let key = error.path().to_string();
            let known = schema.key_of(key.split('[').next().unwrap_or_default());
            let why = match known.is_some_and(|key| key.kind.may_hide()) {
                true => "is not of the form that is wanted".to_owned(),
                false => error.inner().to_string(),
            };
            Fault {
                place: self.place_of(&key).map(shown).unwrap_or_default(),
                message: format!("{key}: {why}"),
            }
        })
    }

    /// What the program itself finds wrong, `key: text`, with where the key was set.
    #[must_use]
    pub fn placed(&self, text: &str) -> Fault {
        let key = text.split(": ").next().unwrap_or_default();
        Fault {
            place: self.place_of(key).map_or("default".to_owned(), shown),
            message: text.to_owned(),
        }
    }

    /// Where the value of a key, or of the nearest key above or below it that is set, came from.
    #[must_use]
    pub fn place_of(&self, path: &str) -> Option<&str> {
        let leaf = self.leaves.iter().find(|leaf| {
            let set = dotted(&leaf.path);
            let below = |a: &str, b: &str| {
                a.strip_prefix(b)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            };
            below(path, &set) || below(&set, path)
        });
        leaf.map(|leaf| leaf.origin.source.as_str())
    }
}

/// Makes the configuration of a program.
///
/// # Errors
/// Everything that is wrong.
pub fn load(schema: &Schema, sources: Sources<'_>) -> Result<Loaded, Vec<Fault>> {
    let mut loading = Loading {
        schema,
        read_file: sources.read_file,
        layers: Vec::new(),
        faults: Vec::new(),
        warnings: Vec::new(),
        work: Vec::new(),
        work_files: Vec::new(),
        files: Vec::new(),
    };
    for file in &sources.files {
        loading.file(file, &sources);
    }
    for (key, value) in &sources.settings {
        loading.setting(key, value);
    }
    loading.environment(&sources);
    for (name, key, text) in &sources.arguments {
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        loading.text(From::Argument, name, path, text);
    }
    let Loading {
        layers,
        faults,
        mut warnings,
        work,
        work_files,
        files,
        ..
    } = loading;
    if !faults.is_empty() {
        return Err(faults);
    }
    warnings.extend(given_twice(&layers));
    warnings.extend(given_twice(&work_files));
    let merged = merge(&layers, &Plain);
    Ok(Loaded {
        tree: merged.tree.to_json(),
        leaves: merged.leaves,
        warnings,
        work,
        files,
    })
}

/// Keys that two files of one directory set, of which the later one holds.
fn given_twice(layers: &[Layer<From>]) -> Vec<Fault> {
    let files: Vec<Layer<From>> = layers
        .iter()
        .filter(|layer| layer.kind == From::File)
        .cloned()
        .collect();
    let merged = merge(&files, &Plain);
    let twice = |leaf: &Leaf<From>| {
        let (before, _) = leaf.shadowed.first()?;
        let directory = |source: &str| {
            let file = source.rsplit_once(':').map_or(source, |(file, _)| file);
            file.split_once("//").map(|(dir, _)| dir.to_owned())
        };
        let one = directory(&before.source)?;
        (Some(one) == directory(&leaf.origin.source)).then(|| Fault {
            place: shown(&leaf.origin.source),
            message: format!(
                "{} stands in {} already; this one holds",
                dotted(&leaf.path),
                shown(&before.source)
            ),
        })
    };
    merged.leaves.iter().filter_map(twice).collect()
}

/// Without the mark between directory and file.
fn shown(source: &str) -> String {
    source.replacen("//", "/", 1)
}

struct Loading<'a> {
    schema: &'a Schema,
    /// Reads a file that a value names.
    read_file: &'a fields::ReadSecret<'a>,
    layers: Vec<Layer<From>>,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
    work: Vec<Document>,
    /// The same of files, by their whole names, for what two of one directory set.
    work_files: Vec<Layer<From>>,
    /// What was opened.
    files: Vec<PathBuf>,
}

struct Around<'a, 'b> {
    sources: &'a Sources<'b>,
    file: &'a Path,
    /// Included files that everybody may read.
    open: &'a mut Vec<String>,
    /// Included files, as named and as found.
    opened: &'a mut Vec<PathBuf>,
}

/// The same with empty files in place of the open ones of this name, or of all. What is named
/// nowhere any more is an empty text.
struct Without<'a, 'b> {
    around: Around<'a, 'b>,
    name: Option<&'a str>,
}

impl Surroundings for Without<'_, '_> {
    fn variable(&self, name: &str) -> Option<String> {
        Some(self.around.variable(name).unwrap_or_default())
    }

    fn include(&mut self, name: &str) -> Result<String, String> {
        let before = self.around.open.len();
        let text = self.around.include(name)?;
        let is_gone = |open: &String| self.name.is_none_or(|name| name == open);
        match self.around.open[before..].iter().any(is_gone) {
            true => Ok(String::new()),
            false => Ok(text),
        }
    }
}

impl Surroundings for Around<'_, '_> {
    fn variable(&self, name: &str) -> Option<String> {
        let variables = &self.sources.environment;
        let found = variables.iter().find(|(known, _)| known == name);
        found.map(|(_, text)| text.clone())
    }

    fn include(&mut self, name: &str) -> Result<String, String> {
        let included = (self.sources.include)(self.file, name)?;
        self.opened.push(self.file.with_file_name(name));
        self.opened.push(included.path.clone());
        if included.open_to_all {
            self.open.push(shown(&included.path.display().to_string()));
        }
        Ok(included.text)
    }
}

impl Loading<'_> {
    fn fault(&mut self, place: impl Into<String>, message: impl Into<String>) {
        self.faults.push(Fault {
            place: place.into(),
            message: message.into(),
        });
    }

    fn file(&mut self, file: &File, sources: &Sources<'_>) {
        let source = file.path.display().to_string();
        let name = shown(&source);
        let is_foreign = |part: &String| self.schema.foreign.contains(&part.as_str());
        if file.under.first().is_some_and(is_foreign) {
            return;
        }
        self.files.push(file.path.clone());
        let (mut included, mut opened) = (Vec::new(), Vec::new());
        let tree = match file.format {
            Format::Hocon => text_of(&file.bytes).and_then(|text| {
                let mut around = Around {
                    sources,
                    file: &file.path,
                    open: &mut included,
                    opened: &mut opened,
                };
                read_hocon(text, &mut around)
            }),
            format => read(format, &file.bytes),
        };
        self.files.append(&mut opened);
        let tree = match tree {
            Ok(tree) => tree,
            Err(problem) => {
                let place = match problem.at {
                    Mark { line: 0, .. } => name,
                    at => format!("{name}:{at}"),
                };
                return self.fault(place, problem.message);
            }
        };
        let Some(entries) = tree.entries() else {
            return self.fault(name, "must be a map at the top level");
        };
        let is_root = |entry: &Entry| self.schema.roots.contains(&entry.name.as_str());
        let whole = file.may_be_whole && entries.iter().any(is_root);
        let whole = whole.then(|| File {
            under: Vec::new(),
            ..file.clone()
        });
        let file = whole.as_ref().unwrap_or(file);
        let tree = match beside::is_wanted(self.schema) {
            true => self.take_beside(tree, file, &name),
            false => self.take_work(tree, file, &name),
        };
        let Some(tree) = tree else { return };
        if file.open_to_all {
            self.warn_of_clear_secrets(&tree, &file.under, &name);
        }
        let mut path = file.under.clone();
        let typed = self.typed(&tree, &mut path, &name);
        let tree = file.under.iter().rev().fold(typed, |node, part| {
            let at = Mark::default();
            let name = part.clone();
            Node::bare(Value::Map(vec![Entry { name, at, node }]))
        });
        if tree.get("secure").is_some() {
            let (holding, others) = self.holding_secrets(file, sources, included);
            for name in others {
                let text = "is included where secure keys are set, and may be read by everybody";
                let message = format!("{text}; nothing of it is in them now");
                self.warnings.push(Fault {
                    place: name,
                    message,
                });
            }
            let own = file.open_to_all.then(|| name.clone());
            let open: Vec<String> = own.into_iter().chain(holding).collect();
            for name in &open {
                let text = "sets secure keys and may be read by everybody";
                self.fault(name.clone(), format!("{text}: chmod o= {name}"));
            }
            if !open.is_empty() {
                return;
            }
        }
        self.layer(From::File, source, true, tree);
    }

    /// Of open included files those without which secure keys are not what they are, and the
    /// others.
    fn holding_secrets(
        &self,
        file: &File,
        sources: &Sources<'_>,
        mut open: Vec<String>,
    ) -> (Vec<String>, Vec<String>) {
        open.sort();
        open.dedup();
        let secrets = |name: Option<Option<&str>>| {
            let text = text_of(&file.bytes).ok()?;
            let (mut seen, mut opened) = (Vec::new(), Vec::new());
            let mut around = Around {
                sources,
                file: &file.path,
                open: &mut seen,
                opened: &mut opened,
            };
            let tree = match name {
                Some(name) => read_hocon(text, &mut Without { around, name }),
                None => read_hocon(text, &mut around),
            };
            let tree = tree.ok()?;
            let secure = match file.under.is_empty() {
                true => tree.get("secure"),
                false => Some(&tree),
            };
            Some(secure.map(Node::to_json))
        };
        if open.is_empty() {
            return (Vec::new(), open);
        }
        let all = secrets(None);
        let holds = |name: Option<&str>| secrets(Some(name)) != all;
        let (holding, others): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|name| holds(Some(name)));
        // Several that say the same stand in for each other.
        match holding.is_empty() && holds(None) {
            true => (others, holding),
            false => (holding, others),
        }
    }

    /// Takes what is set for sessions out of a file; what is left is the program's own.
    fn take_work(&mut self, mut tree: Node, file: &File, name: &str) -> Option<Node> {
        if !self.schema.roots.contains(&WORK) {
            return Some(tree);
        }
        let (work, left) = match file.under.split_first() {
            Some((root, below)) if root == WORK => (Some(layers::under(below, tree)), None),
            Some(_) => (None, Some(tree)),
            None => {
                let mut work = None;
                if let Value::Map(entries) = &mut tree.value {
                    let at = entries.iter().position(|entry| entry.name == WORK);
                    work = at.map(|at| entries.remove(at).node);
                }
                (work, Some(tree))
            }
        };
        if let Some(work) = work {
            let at = i64::try_from(self.work.len()).unwrap_or(i64::MAX);
            self.work_files.push(Layer {
                kind: From::File,
                source: file.path.display().to_string(),
                version: None,
                places: true,
                priority: at,
                tree: layers::under(&[WORK.to_owned()], work.clone()),
            });
            self.give(work, "coordinator", name, &format!("{WORK}: "));
        }
        left
    }

    /// A document of what sessions are given, from a file of this program.
    fn give(&mut self, tree: Node, program: &str, name: &str, lead: &str) {
        for one in crate::work::findings(&tree).err().unwrap_or_default() {
            let place = match one.at {
                Mark { line: 0, .. } => name.to_owned(),
                at => format!("{name}:{at}"),
            };
            self.fault(place, format!("{lead}{}", one.message));
        }
        let at = i64::try_from(self.work.len()).unwrap_or(i64::MAX);
        let source = format!("{program}:{name}");
        let document = layers::document(WorkLayer::File, source, true, at, tree);
        self.work.push(document);
    }

    /// A variable that sets something for sessions; false where it is another one.
    fn work_variable(&mut self, name: &str, parts: &[String], text: &str) -> bool {
        let [root, below @ ..] = parts else {
            return false;
        };
        if beside::is_wanted(self.schema) {
            let path = beside::lowered(parts);
            return match beside::whose(&path) {
                Whose::Own => false,
                Whose::Both => {
                    self.give_variable(name, path, text, "");
                    false
                }
                Whose::Sessions => {
                    self.give_variable(name, path, text, "");
                    true
                }
                Whose::Nobody => {
                    self.fault(name, beside::too_late(&path));
                    true
                }
            };
        }
        if !root.eq_ignore_ascii_case(WORK) || !self.schema.roots.contains(&WORK) {
            return false;
        }
        self.give_variable(name, beside::lowered(below), text, &format!("{WORK}: "));
        true
    }

    /// The same of a path as it stands in a vault.
    fn give_variable(&mut self, name: &str, path: Vec<String>, text: &str, lead: &str) {
        let made = layers::value_of(&path, text).map(|node| layers::under(&path, node));
        let checked = made.and_then(|tree| match crate::work::findings(&tree) {
            Ok(()) => Ok(tree),
            Err(found) => Err(found
                .first()
                .map_or_else(String::new, |f| f.message.clone())),
        });
        match checked {
            Ok(tree) => {
                let at = i64::try_from(self.work.len()).unwrap_or(i64::MAX);
                let kind = WorkLayer::Environment;
                self.work
                    .push(layers::document(kind, name.to_owned(), false, at, tree));
            }
            Err(why) => self.fault(name, format!("{lead}{why}")),
        }
    }

    fn layer(&mut self, kind: From, source: String, places: bool, tree: Node) {
        self.layers.push(Layer {
            kind,
            source,
            version: None,
            places,
            priority: i64::try_from(self.layers.len()).unwrap_or(i64::MAX),
            tree,
        });
    }

    /// The same tree with every value of its key's type; what is wrong becomes a fault.
    fn typed(&mut self, node: &Node, path: &mut Vec<String>, file: &str) -> Node {
        let Value::Map(value) = &node.value else {
            return node.clone();
        };
        let mut members = Vec::new();
        for entry in value {
            path.push(entry.name.clone());
            let foreign = path.len() == 1 && self.schema.foreign.contains(&entry.name.as_str());
            if !foreign && let Some(node) = self.member(entry, path, file) {
                let name = entry.name.clone();
                let at = entry.at;
                members.push(Entry { name, at, node });
            }
            path.pop();
        }
        let at = node.at;
        let value = Value::Map(members);
        Node { at, value }
    }

    fn member(&mut self, entry: &Entry, path: &mut Vec<String>, file: &str) -> Option<Node> {
        let place = format!("{file}:{}", entry.at);
        let node = &entry.node;
        match self.schema.find(path) {
            _ if matches!(node.value, Value::Null) => Some(node.clone()),
            Found::Unknown => {
                let message = self.schema.unknown(&dotted(path));
                self.fault(place, message);
                None
            }
            Found::Section if matches!(node.value, Value::Map(_)) => {
                Some(self.typed(node, path, file))
            }
            Found::Section => {
                let message = self.schema.no_value(&dotted(path), "a map");
                self.fault(place, message);
                None
            }
            Found::Key(kind, _) if kind.has_fields() => {
                let kind = *kind;
                let tell = |at| format!("{file}:{at}");
                self.inside(kind, node, &dotted(path), Some(&tell), entry.at)
            }
            Found::Key(kind, _) => match kind.of_node(node) {
                Ok(json) => Some(Node {
                    at: node.at,
                    ..Node::from_json(&json)
                }),
                Err(why) => {
                    let value = match node.text().filter(|_| !kind.may_hide()) {
                        Some(text) => {
                            let text = masked_url(text).unwrap_or_else(|| text.to_owned());
                            format!("{} ", Json::String(crate::read::brief(&text)))
                        }
                        None => String::new(),
                    };
                    self.fault(place, format!("{}: {value}{why}", dotted(path)));
                    None
                }
            },
        }
    }

    /// A stored setting. Texts are read as those of variables where the key wants no text.
    fn setting(&mut self, key: &str, value: &Json) {
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        let Found::Key(kind, _) = self.schema.find(&path) else {
            let message = self.schema.unknown(key);
            return self.fault(SETTINGS, message);
        };
        let node = Node::from_json(value);
        if kind.has_fields() {
            let kind = *kind;
            let node = match value {
                Json::String(text) => read(Format::Json, text.as_bytes()).ok(),
                _ => None,
            }
            .unwrap_or(node);
            let node = self.inside(kind, &node, key, None, Mark::default());
            return self.settle(From::Settings, SETTINGS, path, node);
        }
        let read = match (kind.of_node(&node), value) {
            (Err(_), Json::String(text)) => kind.of_text(text),
            (read, _) => read.map(Some),
        };
        match read {
            Ok(Some(json)) => {
                let node = Some(Node::from_json(&json));
                self.settle(From::Settings, SETTINGS, path, node);
            }
            Ok(None) => (),
            Err(why) => self.fault(SETTINGS, format!("{key}: {why}")),
        }
    }

    fn environment(&mut self, sources: &Sources<'_>) {
        let mut variables: Vec<(usize, &str, Vec<String>, &str)> = Vec::new();
        for (name, text) in &sources.environment {
            let Some(rest) = name.strip_prefix(PREFIX) else {
                continue;
            };
            let parts: Vec<String> = rest.split("__").map(str::to_owned).collect();
            let first = parts[0].to_ascii_lowercase();
            if !self.schema.foreign.contains(&first.as_str()) {
                variables.push((parts.len(), name, parts, text));
            }
        }
        // Shorter keys first, so that those below them add to what they set.
        variables.sort();
        let names: Vec<String> = variables
            .iter()
            .map(|(_, n, _, _)| (*n).to_owned())
            .collect();
        for (_, name, mut parts, text) in variables {
            if parts.last().is_some_and(|part| part == "FILE") && parts.len() > 2 {
                parts.pop();
                let value = name.trim_end_matches("__FILE");
                if names.iter().any(|known| known == value) {
                    self.fault(name, format!("{value} is set as well; one of them must go"));
                    continue;
                }
                match (sources.read_file)(Path::new(text)) {
                    Ok(read) => {
                        let line = read.strip_suffix('\n').unwrap_or(&read);
                        if self.work_variable(name, &parts, line) {
                            continue;
                        }
                        self.text(From::Environment, name, parts, line);
                    }
                    Err(why) => self.fault(name, format!("{text}: {why}")),
                }
                continue;
            }
            if self.work_variable(name, &parts, text) {
                continue;
            }
            self.text(From::Environment, name, parts, text);
        }
    }

    /// A key and a text from where there are only texts.
    fn text(&mut self, from: From, name: &str, parts: Vec<String>, text: &str) {
        let path = self.cased(parts);
        let key = dotted(&path);
        let kind = match self.schema.find(&path) {
            Found::Key(kind, _) => *kind,
            Found::Section => Kind::Free,
            Found::Unknown => {
                let list = (1..path.len()).find_map(|n| match self.schema.find(&path[..n]) {
                    Found::Key(Kind::List(_), _) => Some(dotted(&path[..n])),
                    _ => None,
                });
                let message = match list {
                    Some(list) => format!("{list} is a list; give the whole list"),
                    None => self.schema.unknown(&key),
                };
                return self.fault(name, message);
            }
        };
        if kind.has_fields() && text != "null" {
            let node = self.inside_text(kind, text, &key, name);
            return self.settle(from, name, path, node);
        }
        let section = self.schema.find(&path) == Found::Section;
        let node = match kind.of_text(text) {
            Ok(Some(json)) if section && !json.is_object() => {
                let why = self.schema.no_value(&key, "a map in JSON");
                return self.fault(name, why);
            }
            Ok(Some(json)) => Node::from_json(&json),
            Ok(None) => Node::bare(Value::Null),
            Err(_) if section => {
                return self.fault(name, self.schema.no_value(&key, "a map in JSON"));
            }
            Err(why) => return self.fault(name, format!("{key}: {why}")),
        };
        let mut below = path.clone();
        let node = match section {
            true => self.typed(&node, &mut below, name),
            false => node,
        };
        self.settle(from, name, path, Some(node));
    }

    /// Names of keys without case; names that are free keep theirs.
    fn cased(&self, parts: Vec<String>) -> Vec<String> {
        let mut path: Vec<String> = Vec::new();
        for part in parts {
            let free = self
                .schema
                .keys
                .iter()
                .any(|key| matches!(key.kind, Kind::MapOf(_)) && path.join(".") == key.path);
            path.push(match free {
                true => part,
                false => part.to_ascii_lowercase(),
            });
        }
        path
    }
}

/// One key as `config show` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Dotted.
    pub key: String,
    /// As JSON; secrets are masks.
    pub value: Json,
    /// By what it is compared with that of another configuration: the value, or a digest where
    /// something of it is masked, so that another secret counts as another value.
    pub compared: Json,
    /// `default`, or what set it.
    pub origin: String,
    /// What it stands before, highest first.
    pub shadowed: Vec<(String, Json)>,
}

/// What is set for sessions, as it is shown beside the program's own keys: secrets and all values
/// of variables are masks.
#[must_use]
pub fn show_given(schema: &Schema, loaded: &Loaded) -> Vec<Shown> {
    let lead = match schema.roots.contains(&WORK) {
        true => format!("{WORK}."),
        false => String::new(),
    };
    let merged = layers::merge(loaded.work.clone());
    let leaves = merged.leaves.iter().filter(|leaf| {
        let is_own = schema.key_of(&dotted(&leaf.path)).is_some();
        leaf.origin.kind != WorkLayer::BuiltIn && !is_own
    });
    leaves
        .map(|leaf| {
            let value = |node: &Option<Node>| {
                let node = node.as_ref();
                node.map_or(Json::Null, |node| masked_at(&leaf.path, node).to_json())
            };
            let origin = |origin: &crate::merge::Origin<WorkLayer>| match origin.kind {
                WorkLayer::Environment => format!("env {}", origin.source),
                _ => {
                    let source = origin.source.split_once(':');
                    source.map_or(&*origin.source, |(_, file)| file).to_owned()
                }
            };
            let earlier = leaf.shadowed.iter();
            let earlier = earlier.filter(|(origin, _)| origin.kind != WorkLayer::BuiltIn);
            let clear = leaf.value.as_ref().map_or(Json::Null, Node::to_json);
            let value_shown = value(&leaf.value);
            Shown {
                key: format!("{lead}{}", dotted(&leaf.path)),
                compared: compared(&[], clear, &value_shown),
                value: value_shown,
                origin: origin(&leaf.origin),
                shadowed: earlier
                    .map(|(before, node)| (origin(before), value(node)))
                    .collect(),
            }
        })
        .collect()
}

/// Every key with what holds.
#[must_use]
pub fn show(schema: &Schema, loaded: &Loaded) -> Vec<Shown> {
    let origin = |from: From, source: &str| match from {
        From::File => shown(source),
        From::Settings => SETTINGS.to_owned(),
        From::Environment => format!("env {source}"),
        From::Argument => source.to_owned(),
    };
    let mut all = Vec::new();
    for key in schema.keys {
        let whole = |json: Json| hidden(key.kind, json);
        let json = |node: &Option<Node>| node.as_ref().map_or(Json::Null, Node::to_json);
        let parts = key.path.split('.').count();
        let below = format!("{}.", key.path);
        let mut found = false;
        for leaf in &loaded.leaves {
            let path = dotted(&leaf.path);
            if path != key.path && !path.starts_with(&below) {
                continue;
            }
            found = true;
            let masked = |json: Json| hidden_below(key.kind, &leaf.path[parts..], json);
            let name = match matches!(key.kind, Kind::Secret) {
                true => key.path.to_owned(),
                false => path,
            };
            let earlier = leaf.shadowed.iter();
            let (clear, value) = match &leaf.value {
                Some(_) => (json(&leaf.value), masked(json(&leaf.value))),
                None => (default_of(key.default), whole(default_of(key.default))),
            };
            all.push(Shown {
                key: name,
                compared: compared(&leaf.path[parts..], clear, &value),
                value,
                origin: origin(leaf.origin.kind, &leaf.origin.source),
                shadowed: earlier
                    .map(|(o, value)| (origin(o.kind, &o.source), masked(json(value))))
                    .collect(),
            });
        }
        if !found {
            let value = whole(default_of(key.default));
            all.push(Shown {
                key: key.path.to_owned(),
                compared: compared(&[], default_of(key.default), &value),
                value,
                origin: "default".to_owned(),
                shadowed: Vec::new(),
            });
        }
    }
    all
}

/// A default of the schema as JSON.
#[must_use]
pub fn default_of(text: &str) -> Json {
    if text.is_empty() {
        return Json::String(String::new());
    }
    let line = format!("x = {text}");
    let read = read(Format::Toml, line.as_bytes()).ok();
    let value = read.as_ref().and_then(|tree| tree.get("x"));
    value.map_or(Json::Null, Node::to_json)
}

#[cfg(test)]
mod tests;
