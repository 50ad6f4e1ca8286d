//! `[services.organization.ui_actions]`: calls that people may have made about an object.

use super::told::Told;
use super::{ConfigError, Hidden};
use crate::outbound::check_url;
use longshore_core::access::Level;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use url::Url;

/// What actions can be about.
pub const ACTION_TYPES: [&str; 6] = ["project", "session", "model", "folder", "agent", "queue"];
/// What is replaced by the id of the object.
const ID: &str = "${id}";
/// Stands for the id while an address is judged; no host, scheme or port can hold it by chance.
const MARK: &str = "0longshore0id0";
/// Most actions of one type.
const MOST: usize = 64;

/// One action.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields)]
pub struct UiAction {
    /// Unique in its type.
    pub name: String,
    /// What it does, for people.
    #[serde(default)]
    pub tooltip: Option<String>,
    /// The call.
    pub action: ActionCall,
    /// The level a person needs on the object.
    #[serde(default = "rw")]
    pub level: Level,
}

const fn rw() -> Level {
    Level::Rw
}

/// The call of an action.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields)]
pub struct ActionCall {
    /// `GET`, `POST` or `DELETE`.
    pub method: String,
    /// Address; `${id}` in its path and query is the id.
    pub url: String,
    /// Body; `${id}` is the id, escaped for JSON.
    #[serde(default)]
    pub payload: Option<String>,
    /// Headers; they may hold tokens.
    #[serde(default)]
    pub headers: BTreeMap<String, Hidden>,
    /// Signs the call.
    #[serde(default)]
    pub secret: Option<Hidden>,
}

impl ActionCall {
    /// The address of a call about one object.
    #[must_use]
    pub fn url_of(&self, id: &str) -> Option<Url> {
        let text = self.url.replace(ID, &in_url(id));
        Url::parse(&text).ok()
    }

    /// The body of such a call.
    #[must_use]
    pub fn payload_of(&self, id: &str) -> String {
        let quoted = serde_json::Value::from(id).to_string();
        let escaped = quoted.trim_matches('"');
        self.payload
            .as_deref()
            .unwrap_or_default()
            .replace(ID, escaped)
    }

    fn check(&self) -> Result<(), String> {
        if !matches!(self.method.as_str(), "GET" | "POST" | "DELETE") {
            return Err("method is GET, POST or DELETE".to_owned());
        }
        let texts = [Some(&self.url), self.payload.as_ref()];
        for text in texts.into_iter().flatten() {
            if text.replace(ID, "").contains("${") {
                return Err("only ${id} is replaced".to_owned());
            }
        }
        if self.headers.values().any(|v| v.expose().contains("${")) {
            return Err("nothing is replaced in headers".to_owned());
        }
        let marked = self.url.replace(ID, MARK);
        let url = Url::parse(&marked).map_err(|error| format!("url: {error}"))?;
        check_url(&url).map_err(|error| format!("url: {error}"))?;
        let shown = [url.scheme(), url.host_str().unwrap_or_default()];
        let begins = self.url.split(['/', '?', '#']).nth(2).unwrap_or_default();
        if shown.iter().any(|part| part.contains(MARK)) || begins.contains(ID) {
            return Err("${id} may not stand in scheme, host or port".to_owned());
        }
        if url.fragment().is_some() {
            return Err("url: a fragment is not sent".to_owned());
        }
        for (name, value) in &self.headers {
            let name: Result<reqwest::header::HeaderName, _> = name.parse();
            let value: Result<reqwest::header::HeaderValue, _> = value.expose().parse();
            if name.is_err() || value.is_err() {
                return Err("a header is not valid".to_owned());
            }
        }
        match self.secret.as_ref().is_some_and(Hidden::is_sample) {
            true => Err("secret: a sample value that everybody knows is no secret".to_owned()),
            false => Ok(()),
        }
    }
}

/// Every byte that is not plain in a URL, as `%xx`.
fn in_url(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

/// Actions by type.
pub type UiActions = BTreeMap<String, Vec<UiAction>>;

/// Whether the actions can be offered.
///
/// # Errors
/// Those that cannot, by type and name.
pub(super) fn check(actions: &UiActions) -> Result<(), ConfigError> {
    let mut told = Told::below("services.organization.ui_actions.");
    for (kind, list) in actions {
        if !ACTION_TYPES.contains(&kind.as_str()) {
            let all = ACTION_TYPES.join(", ");
            told.wrong(kind, format!("is none of {all}"));
        }
        if list.len() > MOST {
            told.wrong(kind, format!("has more than {MOST} actions"));
        }
        let mut names = BTreeSet::new();
        for one in list {
            let at = format!("{kind}.{}", one.name);
            let length = one.name.chars().count();
            if !(1..=64).contains(&length) || one.name.chars().any(char::is_control) {
                told.wrong(kind, "a name has 1 to 64 printable characters");
                continue; // it cannot be told by it
            }
            if !names.insert(&one.name) {
                told.wrong(&at, "the name is given twice");
            }
            if one.level == Level::None {
                told.wrong(&at, "level is ro or rw");
            }
            if let Err(text) = one.action.check() {
                told.wrong(&at, text);
            }
        }
    }
    told.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(url: &str) -> ActionCall {
        ActionCall {
            method: "POST".to_owned(),
            url: url.to_owned(),
            payload: Some(r#"{"session":"${id}"}"#.to_owned()),
            headers: BTreeMap::new(),
            secret: None,
        }
    }

    #[test]
    fn the_id_is_encoded_where_it_goes() {
        let one = call("https://desk.lab/a/${id}?s=${id}");
        assert_eq!(one.check(), Ok(()));
        let url = one.url_of("Dev/4x&b=\"../").unwrap();
        assert_eq!(
            url.as_str(),
            "https://desk.lab/a/Dev%2F4x%26b%3D%22..%2F?s=Dev%2F4x%26b%3D%22..%2F"
        );
        assert_eq!(one.payload_of("a\"b\\"), r#"{"session":"a\"b\\"}"#);
    }

    #[test]
    fn only_the_id_is_replaced_and_never_in_the_host() {
        for url in [
            "https://${id}.lab/",
            "https://desk.lab:${id}/",
            "${id}://desk.lab/",
            "https://${id}@desk.lab/",
            "https://desk.lab/?x=${name}",
            "https://desk.lab/#${id}",
            "javascript:alert(1)",
            "file:///etc/passwd",
        ] {
            assert!(call(url).check().is_err(), "{url}");
        }
        let text = ActionCall {
            payload: Some("${env.HOME}".to_owned()),
            ..call("https://desk.lab/")
        };
        assert!(text.check().is_err());
    }

    #[test]
    fn types_and_names_are_checked() {
        let action = |name: &str| UiAction {
            name: name.to_owned(),
            tooltip: None,
            action: call("https://desk.lab/"),
            level: Level::Rw,
        };
        let of = |kind: &str, names: &[&str]| {
            let list = names.iter().map(|name| action(name)).collect();
            check(&UiActions::from([(kind.to_owned(), list)]))
        };
        assert_eq!(of("session", &["a", "b"]), Ok(()));
        assert!(of("session", &["a", "a"]).is_err());
        assert!(of("node", &["a"]).is_err());
        assert!(of("agent", &[""]).is_err());
        let two = of("agent", &["a", "a", "b", "b"]).unwrap_err();
        assert_eq!(two.to_string().lines().count(), 2, "{two}");
        for sample in ["changeme", " Insecure "] {
            let signed = ActionCall {
                secret: Some(Hidden::new(sample)),
                ..call("https://desk.lab/")
            };
            let told = signed.check().unwrap_err();
            assert!(told.starts_with("secret: a sample"), "{told}");
        }
    }
}
