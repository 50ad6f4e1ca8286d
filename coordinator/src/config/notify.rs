//! Settings of what leaves the installation: the address in links, and mail.

use super::told::Told;
use super::{ConfigError, Hidden, SecretText};
use crate::outbound::check_url;
use lettre::message::Mailbox;
use longshore_common::notify::NoteEvent;
use longshore_core::model::NotifySettings;
use reqwest::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use url::Url;

/// Most webhooks: each is called for every event it names.
const HOOKS: usize = 32;
/// A call takes no longer than this many seconds, which is what the client allows.
pub(super) const TIMEOUT_S: std::ops::RangeInclusive<u32> = 1..=10;
/// After so many tries again the last is a day later.
pub(super) const RETRIES: std::ops::RangeInclusive<u32> = 0..=20;

/// `[services.notify]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Notify {
    /// Mail.
    pub mail: MailSettings,
    /// What is called when something happens.
    pub webhooks: Vec<Webhook>,
}

/// One of `services.notify.webhooks`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Unique among them.
    pub name: String,
    /// Where it is called.
    pub url: String,
    /// For which events; absent = all that are for administrators.
    #[serde(default = "for_administrators")]
    pub events: BTreeSet<NoteEvent>,
    /// Signs the calls.
    #[serde(default)]
    pub secret: Option<Hidden>,
    /// Headers; they may hold tokens.
    #[serde(default)]
    pub headers: BTreeMap<String, Hidden>,
    /// Seconds for which an answer is waited.
    #[serde(default = "timeout_s")]
    pub timeout_s: u32,
    /// How often a call that failed is made again.
    #[serde(default = "retries")]
    pub retries: u32,
}

fn for_administrators() -> BTreeSet<NoteEvent> {
    let all = NoteEvent::ALL.iter().copied();
    all.filter(|event| event.is_for_administrators()).collect()
}

const fn timeout_s() -> u32 {
    10
}

const fn retries() -> u32 {
    5
}

impl Webhook {
    fn check(&self) -> Result<(), String> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if !(1..=64).contains(&self.name.len()) || !self.name.bytes().all(good) {
            return Err("name has 1 to 64 of A-Z a-z 0-9 . _ -".to_owned());
        }
        let url = Url::parse(&self.url).map_err(|error| format!("url: {error}"))?;
        check_url(&url).map_err(|error| format!("url: {error}"))?;
        if self.events.is_empty() || !self.events.iter().all(|event| event.can_be_chosen()) {
            let all = NoteEvent::ALL.iter().filter(|event| event.can_be_chosen());
            let all: Vec<&str> = all.map(|event| event.as_str()).collect();
            return Err(format!("events are some of {}", all.join(", ")));
        }
        if !TIMEOUT_S.contains(&self.timeout_s) {
            return Err("timeout_s must be 1 to 10".to_owned());
        }
        if !RETRIES.contains(&self.retries) {
            return Err("retries must be 0 to 20".to_owned());
        }
        for (name, value) in &self.headers {
            let name: Result<HeaderName, _> = name.parse();
            let value: Result<HeaderValue, _> = value.expose().parse();
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

/// `[services.notify.mail]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct MailSettings {
    /// Whether mail is sent at all.
    pub enabled: bool,
    /// The server that takes it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is encrypted.
    pub tls: Tls,
    /// Login name at the server; empty = none is asked for.
    pub username: String,
    /// The password that belongs to it.
    pub password: SecretText,
    /// Whom it comes from, such as `Longshore <gpu@lab.example>`.
    pub from: String,
}

impl Default for MailSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            host: String::new(),
            port: 587,
            tls: Tls::Starttls,
            username: String::new(),
            password: SecretText::default(),
            from: String::new(),
        }
    }
}

/// How a connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// It begins in the clear, and nothing is sent before it is encrypted.
    Starttls,
    /// From the beginning.
    Tls,
    /// Not at all.
    None,
}

impl Notify {
    /// As decisions rest on it.
    #[must_use]
    pub fn settings(&self) -> NotifySettings {
        let hooks = self.webhooks.iter();
        NotifySettings {
            mail: self.mail.enabled,
            hooks: hooks
                .map(|hook| (hook.name.clone(), hook.events.clone()))
                .collect(),
        }
    }

    fn check_webhooks(&self) -> Result<(), ConfigError> {
        let mut told = Told::below("services.notify.");
        let mut wrong = |text: String| told.wrong("webhooks", text);
        if self.webhooks.len() > HOOKS {
            wrong(format!("there are more than {HOOKS}"));
        }
        let mut names = BTreeSet::new();
        for hook in &self.webhooks {
            if !names.insert(&hook.name) {
                wrong(format!("the name {} is given twice", hook.name));
            }
            if let Err(text) = hook.check() {
                wrong(format!("{}: {text}", hook.name));
            }
        }
        told.end()
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut told = Told::default();
        told.add(self.check_webhooks());
        told.add(self.mail.check());
        told.end()
    }
}

impl MailSettings {
    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key: &str, text: &str| {
            let text = format!("services.notify.mail.{key}: {text}");
            Err(ConfigError(text))
        };
        let mail = self;
        let password = mail.password.read("services.notify.mail.password")?;
        let password = password.expose();
        if !mail.enabled {
            return Ok(());
        }
        let good = |b: u8| b.is_ascii_alphanumeric() || b".-:".contains(&b);
        if mail.host.is_empty() || mail.host.len() > 253 || !mail.host.bytes().all(good) {
            return wrong("host", "must be the name or address of a mail server");
        }
        if mail.port == 0 {
            return wrong("port", "must be 1 to 65535");
        }
        if mail.from.parse::<Mailbox>().is_err() {
            return wrong(
                "from",
                "must be an address, such as Longshore <gpu@lab.example>",
            );
        }
        if mail.username.is_empty() != password.is_empty() {
            return wrong("password", "username and password belong together");
        }
        let here = mail.host == "localhost"
            || mail
                .host
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        if mail.tls == Tls::None && !password.is_empty() && !here {
            let text = "must be starttls or tls where a password is sent to another machine";
            return wrong("tls", text);
        }
        Ok(())
    }
}

/// What the address of an installation is brought to; nothing for an empty text.
///
/// # Errors
/// A sentence about a text that is no such address.
pub fn is_public_url(text: &str) -> Result<Option<String>, String> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let wrong =
        || format!("\"{text}\" is no address of the form https://HOST or https://HOST:PORT");
    let url = Url::parse(text).map_err(|_| wrong())?;
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let nobody = url.username().is_empty() && url.password().is_none();
    if url.scheme() != "https" || url.host().is_none() || !bare || !nobody {
        return Err(wrong());
    }
    Ok(Some(url.origin().ascii_serialization()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_brought_to_one_form() {
        for (text, wanted) in [
            ("", Ok(None)),
            ("https://app.gpu.lab", Ok(Some("https://app.gpu.lab"))),
            ("https://App.gpu.lab:443/", Ok(Some("https://app.gpu.lab"))),
            ("https://10.0.0.5:7420", Ok(Some("https://10.0.0.5:7420"))),
            ("http://app.gpu.lab", Err(())),
            ("https://app.gpu.lab/x", Err(())),
            ("https://dana@app.gpu.lab", Err(())),
            ("app.gpu.lab", Err(())),
        ] {
            let told = is_public_url(text).map_err(|_| ());
            assert_eq!(
                told.as_ref().map(Option::as_deref),
                wanted.as_ref().copied(),
                "{text}"
            );
        }
    }

    #[test]
    fn mail_that_could_not_be_sent_is_refused() {
        let good = MailSettings {
            enabled: true,
            host: "mail.lab".to_owned(),
            from: "Longshore <gpu@lab.example>".to_owned(),
            ..MailSettings::default()
        };
        let told = |change: &dyn Fn(&mut MailSettings)| {
            let mut mail = good.clone();
            change(&mut mail);
            let notify = Notify {
                mail,
                ..Notify::default()
            };
            let told = notify.check().map_err(|error| error.to_string());
            told.err().unwrap_or_default()
        };
        assert_eq!(told(&|_| ()), "");
        assert!(told(&|mail| mail.host = String::new()).starts_with("services.notify.mail.host"));
        assert!(told(&|mail| mail.from = "x".to_owned()).starts_with("services.notify.mail.from"));
        let with_password = |mail: &mut MailSettings| {
            mail.username = "gpu".to_owned();
            mail.password = SecretText::Text("s3cret".to_owned());
        };
        assert_eq!(told(&with_password), "");
        assert!(
            told(&|mail| {
                with_password(mail);
                mail.tls = Tls::None;
            })
            .starts_with("services.notify.mail.tls")
        );
        assert!(told(&|mail| mail.username = "gpu".to_owned()).contains("belong together"));
        let sample = SecretText::Text("changeme".to_owned());
        assert!(told(&|mail| mail.password = sample.clone()).contains("sample value"));
    }

    #[test]
    fn a_webhook_is_checked_as_a_whole() {
        let read = |text: &str| {
            let hook: Result<Webhook, _> = serde_json::from_str(text);
            let hook = hook.map_err(|error| error.to_string())?;
            let notify = Notify {
                webhooks: vec![hook.clone()],
                ..Notify::default()
            };
            notify.check().map_err(|error| error.to_string())?;
            Ok::<Webhook, String>(hook)
        };
        let hook = read(r#"{"name": "desk", "url": "https://desk.lab/hook"}"#).unwrap();
        assert_eq!((hook.timeout_s, hook.retries), (10, 5));
        assert!(hook.events.contains(&NoteEvent::AgentLost));
        assert!(!hook.events.contains(&NoteEvent::End));
        for (text, wanted) in [
            (r#"{"name": "", "url": "https://desk.lab/"}"#, "name has"),
            (r#"{"name": "a", "url": "ftp://desk.lab/"}"#, "url: "),
            (
                r#"{"name": "a", "url": "https://d.lab/", "events": []}"#,
                "events are",
            ),
            (
                r#"{"name": "a", "url": "https://d.lab/", "events": ["test"]}"#,
                "events are",
            ),
            (
                r#"{"name": "a", "url": "https://d.lab/", "timeout_s": 11}"#,
                "timeout_s",
            ),
            (
                r#"{"name": "a", "url": "https://d.lab/", "retries": 21}"#,
                "retries",
            ),
            (
                r#"{"name": "a", "url": "https://d.lab/", "secret": "changeme"}"#,
                "secret",
            ),
            (
                r#"{"name": "a", "url": "https://d.lab/", "headers": {"a b": "x"}}"#,
                "header",
            ),
            (
                r#"{"name": "a", "url": "https://d.lab/", "what": 1}"#,
                "unknown field",
            ),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(wanted), "{text}: {told}");
        }
        let twice = Notify {
            webhooks: vec![hook.clone(), hook],
            ..Notify::default()
        };
        assert!(twice.check().unwrap_err().to_string().contains("twice"));
    }
}
