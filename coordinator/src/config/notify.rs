//! Settings of what leaves the installation: the address in links, and mail.

use super::{ConfigError, SecretText};
use lettre::message::Mailbox;
use serde::Deserialize;
use std::net::IpAddr;
use url::Url;

/// `[services.notify]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Notify {
    /// Mail.
    pub mail: MailSettings,
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
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key: &str, text: &str| {
            let text = format!("services.notify.mail.{key}: {text}");
            Err(ConfigError(text))
        };
        let mail = &self.mail;
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
            let told = Notify { mail }.check().map_err(|error| error.to_string());
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
}
