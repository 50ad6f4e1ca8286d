//! Files and work keys that come with a request: looked at like a vault, and kept for the
//! session. They may hold secrets: in memory they pass through, in the file they are encrypted.

use super::event::Refusal;
use longshore_common::api::{MemberError, NewSession};
use longshore_common::ids::SessionId;
use longshore_config::read::Format;
use longshore_config::tree::{Node, Value};
use longshore_config::work::{self, Finding, files};
use longshore_identity::Secret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};
use std::collections::BTreeMap;

/// Most files of one request.
const MAX_FILES: usize = 64;
/// Longest label of a file, in bytes.
const MAX_LABEL: usize = 256;

/// What a session is given with its request beside the environment.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Given {
    /// Files by label, as a vault has them.
    #[serde(default)]
    pub files: BTreeMap<String, Json>,
    /// Work keys, as a vault has them.
    #[serde(default)]
    pub config: Map<String, Json>,
}

// Contents of files must not reach a log by way of `{:?}`.
impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given")
            .field("files", &self.files.len())
            .field("config", &self.config.len())
            .finish()
    }
}

/// What a session is given, on its way into the file.
#[derive(Debug, Clone)]
pub struct GivenText {
    /// Which session.
    pub session: SessionId,
    /// A [`Given`] as JSON.
    pub text: Secret,
}

impl PartialEq for GivenText {
    fn eq(&self, other: &Self) -> bool {
        (self.session, self.text.expose()) == (other.session, other.text.expose())
    }
}

impl Eq for GivenText {}

/// Files by label, and the work keys.
pub type GivenTrees = (Vec<(String, Node)>, Node);

/// What makes a document of a text.
type Reader = fn(Format, &[u8]) -> Result<Node, Finding>;

impl Given {
    /// What a request gives; none = nothing.
    #[must_use]
    pub fn of(request: &NewSession) -> Option<Self> {
        let given = Self {
            files: request.files.clone(),
            config: request.config.clone(),
        };
        (given != Self::default()).then_some(given)
    }

    /// As it is stored.
    #[must_use]
    pub fn text(&self) -> Secret {
        // Names and JSON alone: nothing of it can fail to be written.
        Secret::new(serde_json::to_string(self).unwrap_or_default())
    }

    /// The files as documents by label, and the work keys as one, as they are stored.
    ///
    /// # Errors
    /// All that is wrong, with the member it is about.
    pub fn trees(&self) -> Result<GivenTrees, Vec<(String, Finding)>> {
        self.read(work::parse)
    }

    /// The same as somebody asks for it now: its names have bounds.
    ///
    /// # Errors
    /// As [`Self::trees`].
    pub fn asked(&self) -> Result<GivenTrees, Vec<(String, Finding)>> {
        self.read(work::asked)
    }

    fn read(&self, reader: Reader) -> Result<GivenTrees, Vec<(String, Finding)>> {
        // JSON that came with a request, inside the bounds of a vault.
        let parsed = |json: &Json| reader(Format::Json, json.to_string().as_bytes());
        let mut wrong = Vec::new();
        let mut all = Vec::new();
        for (label, entry) in &self.files {
            match parsed(entry) {
                Ok(node) => all.push((label.clone(), node)),
                Err(finding) => wrong.push((super::submit::pointer("/files", label), finding)),
            }
        }
        let config = parsed(&Json::Object(self.config.clone()));
        match config {
            Ok(config) if wrong.is_empty() => Ok((all, config)),
            Ok(_) => Err(wrong),
            Err(finding) => {
                wrong.push(("/config".to_owned(), finding));
                Err(wrong)
            }
        }
    }
}

/// The document of some files.
fn document(files: &[(String, Node)]) -> Node {
    let mut tree = Node::bare(Value::Map(Vec::new()));
    for (label, node) in files {
        let path = ["files".to_owned(), label.clone()];
        tree.set(&path, Some(node.clone()));
    }
    tree
}

/// What is wrong with what a request gives.
///
/// # Errors
/// All that is found, under the code of a vault where nothing else is wrong.
pub(super) fn check(request: &NewSession) -> Result<(), Refusal> {
    let Some(given) = Given::of(request) else {
        return Ok(());
    };
    let found = |pointer: &str, code: &'static str, message: String| {
        Refusal::of_members(
            code,
            vec![MemberError {
                pointer: pointer.to_owned(),
                message,
                ..MemberError::default()
            }],
        )
    };
    let long = |label: &String| label.is_empty() || label.len() > MAX_LABEL;
    if given.files.len() > MAX_FILES || given.files.keys().any(long) {
        let text = format!(
            "A request has at most {MAX_FILES} files, with labels of 1 to {MAX_LABEL} bytes."
        );
        return Err(found("/files", "LS-VAULT-FILE", text));
    }
    let (files, config) = given.asked().map_err(refused)?;
    let of_files = work::findings(&document(&files)).err().unwrap_or_default();
    let of_config = work::findings(&config).err().unwrap_or_default();
    let at = |finding: Finding| {
        let label = given.files.keys().find(|label| {
            let path = longshore_config::tree::told(&["files", label.as_str()]);
            let rest = finding.path.strip_prefix(&path);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        let pointer = label.map_or("/files".to_owned(), |l| super::submit::pointer("/files", l));
        (pointer, finding)
    };
    let all = of_files.into_iter().map(at);
    let all: Vec<_> = all
        .chain(of_config.into_iter().map(|one| ("/config".to_owned(), one)))
        .collect();
    if !all.is_empty() {
        return Err(refused(all));
    }
    let sizes = files.iter().filter_map(|(label, node)| {
        let entry = files::entry(label, node.at, node).ok()?;
        Some(entry.contents.len())
    });
    if sizes.sum::<usize>() > files::MAX_FILES {
        let text = "Files must be at most 1 MiB together.".to_owned();
        return Err(found("/files", "LS-VAULT-FILE", text));
    }
    Ok(())
}

fn refused(found: Vec<(String, Finding)>) -> Refusal {
    let code = found
        .first()
        .map_or("LS-INVALID", |(_, one)| one.code.as_str());
    let errors = found.into_iter().map(|(pointer, one)| MemberError {
        pointer,
        path: Some(one.path).filter(|path| !path.is_empty()),
        message: one.message,
        ..MemberError::default()
    });
    Refusal::of_members(code, errors.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(files: Json, config: Json) -> NewSession {
        serde_json::from_value(json!({ "files": files, "config": config })).unwrap()
    }

    fn told(files: Json, config: Json) -> String {
        let refusal = match check(&request(files, config)) {
            Ok(()) => return "good".to_owned(),
            Err(refusal) => refusal,
        };
        let errors = refusal.errors.iter();
        let errors: Vec<String> = errors
            .map(|e| format!("{} {}", e.pointer, e.message))
            .collect();
        format!("{}: {}", refusal.code, errors.join(" | "))
    }

    #[test]
    fn what_comes_with_a_request_is_looked_at_like_a_vault() {
        let file = json!({ "path": "~/a", "contents": "x", "mode": "0600" });
        for (files, config, expected) in [
            (json!({}), json!({}), "good"),
            (
                json!({ "a.b": file }),
                json!({ "agent": { "git": { "user": "u" } }, "x": [1] }),
                "good",
            ),
            (
                json!({ "a/b": { "path": "/etc/passwd", "contents": "x" } }),
                json!({}),
                "LS-VAULT-FILE: /files/a~1b Path /etc/passwd is not under an allowed directory.",
            ),
            (
                json!({ "a": file, "b": file }),
                json!({}),
                "LS-VAULT-FILE: /files/b Files a and b have the same path.",
            ),
            (
                json!({}),
                json!({ "agent": { "docker": { "socket": "x" } } }),
                "LS-VAULT-FORBIDDEN-KEY: /config agent.docker.socket belongs to a machine and cannot be set in a vault.",
            ),
            (
                json!({}),
                json!({ "agent": { "apply_files": "no" } }),
                "LS-VAULT-TYPE: /config agent.apply_files must be true or false.",
            ),
            (
                json!({ "": file }),
                json!({}),
                "LS-VAULT-FILE: /files A request has at most 64 files, with labels of 1 to 256 bytes.",
            ),
        ] {
            assert_eq!(told(files.clone(), config), expected, "{files}");
        }
    }

    #[test]
    fn bounds_hold() {
        let deep = (0..40).fold(json!(1), |inner, _| json!({ "a": inner }));
        assert!(told(json!({}), deep).starts_with("LS-VAULT-SYNTAX: /config "));
        let named = |bytes| json!({ "n".repeat(bytes): 1 });
        assert_eq!(told(json!({}), named(512)), "good");
        assert!(told(json!({}), named(513)).starts_with("LS-VAULT-SYNTAX: /config A key has "));
        // What was stored before that is read all the same.
        let stored = Given::of(&request(json!({}), named(513))).unwrap();
        assert!(stored.trees().is_ok() && stored.asked().is_err());
        let long = json!({ "path": "/tmp/a", "contents": "x".repeat(300 * 1024) });
        assert!(told(json!({ "a": long }), json!({})).starts_with("LS-VAULT-SIZE: /files/a "));
        let many: Map<String, Json> = (0..20)
            .map(|n| {
                (
                    n.to_string(),
                    json!({ "path": format!("/tmp/{n}"), "contents": "x".repeat(60_000) }),
                )
            })
            .collect();
        assert_eq!(
            told(Json::Object(many), json!({})),
            "LS-VAULT-FILE: /files Files must be at most 1 MiB together."
        );
    }

    #[test]
    fn what_is_given_prints_nothing_and_reads_back() {
        let request = request(
            json!({ "a": { "contents": "hunter2" } }),
            json!({ "k": "hunter2" }),
        );
        let given = Given::of(&request).unwrap();
        assert!(!format!("{given:?}").contains("hunter2"));
        let text = given.text();
        assert_eq!(serde_json::from_str::<Given>(text.expose()).unwrap(), given);
        assert_eq!(Given::of(&NewSession::default()), None);
    }
}
