//! Values with an inside: lists and maps of maps whose members are known, such as webhooks. All
//! that is wrong in one is told at once, each with its place, and no value is repeated.

use crate::read::brief;
use crate::schema::{Field, Kind, nearest};
use crate::tree::{Mark, Node, Value};
use serde_json::{Map, Value as Json};
use std::path::Path;

/// Reads the file that a secret stands in.
pub type ReadSecret<'a> = dyn Fn(&Path) -> Result<String, String> + 'a;

/// What is wrong inside of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where it stands.
    pub at: Mark,
    /// The way there from the key, and what is wrong.
    pub message: String,
}

/// What is wrong so far, and what secrets in files are read with.
pub struct Judging<'a> {
    /// Absent where whoever gives the value must not choose files of this machine.
    pub files: Option<&'a ReadSecret<'a>>,
    /// All that is wrong.
    pub found: Vec<Finding>,
}

impl Judging<'_> {
    fn tell(&mut self, at: Mark, lead: &str, message: &str) {
        let message = format!("{lead}{message}");
        self.found.push(Finding { at, message });
    }

    /// A value as its type; none when something in it is wrong, which is told then. `lead` is the
    /// way to it.
    pub fn judge(&mut self, kind: Kind, node: &Node, lead: &str) -> Option<Json> {
        match (kind, &node.value) {
            (Kind::Table(fields), Value::Map(_)) => self.table(fields, node, lead),
            (Kind::List(inner), Value::List(items)) => {
                let items: Vec<Option<Json>> = items
                    .iter()
                    .enumerate()
                    .map(|(at, item)| self.judge(*inner, item, &format!("{lead}item {}: ", at + 1)))
                    .collect();
                items.into_iter().collect::<Option<_>>().map(Json::Array)
            }
            (Kind::MapOf(inner), Value::Map(entries)) => {
                let members: Vec<Option<(String, Json)>> = entries
                    .iter()
                    .map(|entry| {
                        let lead = format!("{lead}{}: ", brief(&entry.name));
                        let value = self.judge(*inner, &entry.node, &lead)?;
                        Some((entry.name.clone(), value))
                    })
                    .collect();
                let members = members.into_iter().collect::<Option<Map<_, _>>>();
                members.map(Json::Object)
            }
            (Kind::Secret, Value::Map(_)) => match self.secret(node) {
                Ok(text) => Some(Json::String(text)),
                Err(why) => {
                    self.tell(node.at, lead, &why);
                    None
                }
            },
            _ => match kind.of_node(node) {
                Ok(json) => Some(json),
                Err(why) => {
                    self.tell(node.at, lead, &why);
                    None
                }
            },
        }
    }

    fn table(&mut self, fields: &[Field], node: &Node, lead: &str) -> Option<Json> {
        let entries = node.entries().unwrap_or_default();
        let mut members = Map::new();
        let mut good = true;
        for entry in entries {
            let Some(field) = fields.iter().find(|field| field.name == entry.name) else {
                let name = brief(&entry.name);
                let near = nearest(&name, fields.iter().map(|field| field.name));
                let hint = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
                self.tell(entry.at, lead, &format!("unknown key {name}{hint}"));
                good = false;
                continue;
            };
            if entry.node.value == Value::Null {
                continue; // as if it were not there
            }
            let lead = format!("{lead}{}: ", field.name);
            match self.judge(field.kind, &entry.node, &lead) {
                Some(value) => drop(members.insert(entry.name.clone(), value)),
                None => good = false,
            }
        }
        let given = |field: &Field| {
            let mut entries = entries.iter();
            entries.any(|entry| entry.name == field.name && entry.node.value != Value::Null)
        };
        for field in fields
            .iter()
            .filter(|field| field.required && !given(field))
        {
            self.tell(node.at, lead, &format!("{} is missing", field.name));
            good = false;
        }
        good.then_some(Json::Object(members))
    }

    /// The text in the file that `{ file = "/path" }` names, without a newline at its end.
    fn secret(&self, node: &Node) -> Result<String, String> {
        let entries = node.entries().unwrap_or_default();
        let path = match entries {
            [only] if only.name == "file" => only.node.text(),
            _ => None,
        };
        let Some(read) = self.files else {
            return Err("must be text; only files of the configuration, variables and the command line may name a file".to_owned());
        };
        let path = path.filter(|path| path.starts_with('/'));
        let path = path.ok_or_else(|| "must be text, or { file = \"/path\" }".to_owned())?;
        let text = read(Path::new(path)).map_err(|why| format!("{path}: {why}"))?;
        let line = text.strip_suffix('\n').unwrap_or(&text);
        Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
    }
}

/// Whether there is a secret in the clear in a value of this type.
#[must_use]
pub fn holds_clear_secret(kind: Kind, node: &Node) -> bool {
    match (kind, &node.value) {
        // What lets in to an address stands before its host.
        (Kind::Secret, _) => node
            .text()
            .is_some_and(|text| !text.is_empty() && (!text.contains("://") || text.contains('@'))),
        (Kind::List(inner), Value::List(items)) => {
            items.iter().any(|item| holds_clear_secret(*inner, item))
        }
        (Kind::MapOf(inner), Value::Map(entries)) => {
            let mut entries = entries.iter();
            entries.any(|entry| holds_clear_secret(*inner, &entry.node))
        }
        (Kind::Table(fields), Value::Map(entries)) => entries.iter().any(|entry| {
            let mut fields = fields.iter();
            let field = fields.find(|field| field.name == entry.name);
            field.is_some_and(|field| holds_clear_secret(field.kind, &entry.node))
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::{Format, read};

    const CALL: &[Field] = &[
        Field::required("url", Kind::Url),
        Field::new("secret", Kind::Secret),
        Field::new("headers", Kind::MapOf(&Kind::Secret)),
    ];
    const HOOKS: Kind = Kind::List(&Kind::Table(&[
        Field::required("name", Kind::Text),
        Field::new("retries", Kind::Integer(0, 9)),
        Field::new("call", Kind::Table(CALL)),
    ]));

    fn told(text: &str, files: Option<&ReadSecret<'_>>) -> Result<Json, Vec<String>> {
        let tree = read(Format::Yaml, text.as_bytes()).unwrap();
        let found = Vec::new();
        let mut judging = Judging { files, found };
        let json = judging.judge(HOOKS, &tree, "");
        let found = judging.found.iter();
        let found: Vec<String> = found.map(|f| format!("{} {}", f.at, f.message)).collect();
        match json {
            Some(json) => {
                assert!(found.is_empty(), "{found:?}");
                Ok(json)
            }
            None => Err(found),
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_with_its_place_and_no_value() {
        let text = "- nam: hunter2\n  retries: 99\n- name: a\n  call:\n    url: hunter2\n    secert: hunter2\n    headers: {X: [hunter2]}\n- hunter2\n";
        let found = told(text, None).unwrap_err();
        assert_eq!(
            found,
            [
                "1:3 item 1: unknown key nam; did you mean name?",
                "2:12 item 1: retries: must be a whole number from 0 to 9",
                "1:3 item 1: name is missing",
                "5:10 item 2: call: url: must be an address, such as https://host/path",
                "6:5 item 2: call: unknown key secert; did you mean secret?",
                "7:18 item 2: call: headers: X: must be text",
                "8:3 item 3: must be a map",
            ]
        );
    }

    #[test]
    fn a_secret_may_stand_in_a_file_where_files_may_be_named() {
        let files = |path: &Path| match path.to_str() {
            Some("/run/a") => Ok("s3 cret\r\n".to_owned()),
            _ => Err("no such file".to_owned()),
        };
        let of = |secret: &str| {
            format!("- name: a\n  call: {{url: https://a.lab/, headers: {{X: {secret}}}}}\n")
        };
        let named = of("{file: /run/a}");
        let read = told(&named, Some(&files)).unwrap();
        assert_eq!(read[0]["call"]["headers"]["X"], "s3 cret");
        assert!(told(&named, None).unwrap_err()[0].contains("may name a file"));
        for (secret, why) in [
            ("{file: /run/b}", "/run/b: no such file"),
            ("{file: run/a}", "must be text, or"),
            ("{file: /run/a, x: 1}", "must be text, or"),
        ] {
            let found = told(&of(secret), Some(&files)).unwrap_err();
            assert!(found[0].contains(why), "{found:?}");
        }
    }

    #[test]
    fn what_is_absent_is_no_fault_and_what_is_clear_is_seen() {
        let text = "- {name: a, retries: null}\n- {name: b, call: {url: 'https://a.lab/'}}\n";
        let json = told(text, None).unwrap();
        assert_eq!(json[0], serde_json::json!({ "name": "a" }));
        let clear = |text: &str| {
            let tree = read(Format::Yaml, text.as_bytes()).unwrap();
            holds_clear_secret(HOOKS, &tree)
        };
        assert!(!clear(text));
        assert!(!clear("- {name: a, call: {secret: {file: /x}}}"));
        assert!(clear("- {name: a, call: {secret: x}}"));
        assert!(clear("- {name: a, call: {headers: {A: x}}}"));
    }
}
