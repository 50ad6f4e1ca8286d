//! Settings of logins: passwords, second factors, cookies.

use super::told::Told;
use super::{Config, ConfigError, SecretText};
use crate::secrets::Sources;
use longshore_common::redact;
use longshore_config::load::Loaded;
use longshore_core::model::Role;
use longshore_core::model::admin::MOST_LINK_S;
use longshore_core::model::logins::LoginLimits;
use longshore_identity::password::Params;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The longest life of a cookie that browsers keep: 400 days, in seconds.
const COOKIE_MOST_S: u32 = 34_560_000;

/// `[secure]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Secure {
    /// The file of the key that protects stored secrets; empty = none.
    pub master_key_file: PathBuf,
    /// That key itself, where there is no file.
    pub master_key: SecretText,
    /// Files of the keys before it.
    pub previous_keys: Vec<PathBuf>,
    /// Passwords.
    pub password: Password,
    /// Codes of a second factor.
    pub totp: TotpSettings,
    /// What nobody is shown.
    pub redaction: Redacted,
}

impl Default for Secure {
    fn default() -> Self {
        Self {
            master_key_file: "/etc/longshore/master.key".into(),
            master_key: SecretText::default(),
            previous_keys: Vec::new(),
            password: Password::default(),
            totp: TotpSettings::default(),
            redaction: Redacted::default(),
        }
    }
}

/// `secure.redaction`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Redacted {
    /// Variables whose values are shown as a mask.
    pub names: Vec<String>,
}

impl Default for Redacted {
    fn default() -> Self {
        Self {
            names: redact::default_names(),
        }
    }
}

impl Redacted {
    fn check(&self) -> Result<(), ConfigError> {
        match redact::faults(&self.names).first() {
            None => Ok(()),
            Some((_, why)) => Err(ConfigError(format!("secure.redaction.names: {why}"))),
        }
    }
}

/// `secure.password`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Password {
    /// What a hash costs.
    pub argon2: Argon2,
    /// Hashes at a time.
    pub parallel: u32,
    /// Hashes that wait.
    pub queue: u32,
    /// Who is asked to change the password may do nothing else first.
    pub enforce_change: bool,
    /// Days after which a new password is asked for; 0 = never.
    pub max_age_days: u32,
}

impl Default for Password {
    fn default() -> Self {
        Self {
            argon2: Argon2::default(),
            parallel: 2,
            queue: 32,
            enforce_change: false,
            max_age_days: 0,
        }
    }
}

/// `secure.password.argon2`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Argon2 {
    /// KiB of memory, 19456 to 4194304.
    pub memory_kib: u32,
    /// Passes, 2 to 64.
    pub passes: u32,
    /// Lanes, 1 to 16.
    pub lanes: u32,
}

impl Default for Argon2 {
    fn default() -> Self {
        Self {
            memory_kib: 19_456,
            passes: 2,
            lanes: 1,
        }
    }
}

/// `secure.totp`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct TotpSettings {
    /// Roles whose people must have a second factor when they log in by password.
    pub required_roles: Vec<String>,
    /// How the installation is called in people's apps.
    pub issuer: String,
}

impl Default for TotpSettings {
    fn default() -> Self {
        Self {
            required_roles: Vec::new(),
            issuer: "Longshore".to_owned(),
        }
    }
}

/// `daemon.auth`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// How long logins last.
    pub logins: Logins,
    /// The cookie of the console.
    pub cookies: Cookies,
    /// People that stand in the configuration.
    pub fixed_users: super::FixedUsers,
    /// Invitations, and links that prove an address.
    pub invitations: Invitations,
    /// How many logins may fail.
    pub throttle: super::Throttling,
}

/// `daemon.auth.invitations`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Invitations {
    /// Seconds for which one is good that does not say, at most 30 days.
    pub expires_s: u32,
}

impl Default for Invitations {
    fn default() -> Self {
        Self { expires_s: 604_800 }
    }
}

/// `daemon.auth.logins`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Logins {
    /// Seconds after which a login ends.
    pub max_age_s: u32,
    /// Seconds without a request after which it ends.
    pub idle_s: u32,
}

impl Default for Logins {
    fn default() -> Self {
        let LoginLimits { max_age_s, idle_s } = LoginLimits::default();
        Self { max_age_s, idle_s }
    }
}

/// `daemon.auth.cookies`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, deny_unknown_fields)]
pub struct Cookies {
    /// Scripts of a page do not see it.
    pub httponly: bool,
    /// It travels encrypted only; false only while the API listens on this machine alone.
    pub secure: bool,
    /// For all names below this one; empty = the one of the coordinator.
    pub domain: String,
    /// Seconds a browser keeps it at most; never longer than the login lasts.
    pub max_age_s: u32,
    /// `lax` or `strict`.
    pub same_site: String,
}

impl Default for Cookies {
    fn default() -> Self {
        Self {
            httponly: true,
            secure: true,
            domain: String::new(),
            max_age_s: 604_800,
            same_site: "lax".to_owned(),
        }
    }
}

impl Secure {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut told = Told::default();
        told.add(self.redaction.check());
        let password = &self.password;
        if let Err(error) = self.params() {
            // The text begins with the name of the key.
            let text = format!("secure.password.argon2.{error}");
            told.add(Err(ConfigError(text)));
        }
        if !(1..=64).contains(&password.parallel) {
            told.wrong("secure.password.parallel", "must be 1 to 64");
        }
        if password.queue > 4096 {
            told.wrong("secure.password.queue", "must be 0 to 4096");
        }
        if password.max_age_days > 3650 {
            told.wrong("secure.password.max_age_days", "must be 0 to 3650");
        }
        for role in &self.totp.required_roles {
            if !Role::ALL.iter().any(|known| known.as_str() == role) {
                told.wrong(
                    "secure.totp.required_roles",
                    "must name superadmin, domain-admin, monitor or user",
                );
            }
        }
        let issuer = &self.totp.issuer;
        if issuer.chars().count() > 64 || issuer.chars().any(|c| c.is_control() || c == ':') {
            told.wrong(
                "secure.totp.issuer",
                "must be at most 64 characters, without colon and control characters",
            );
        }
        told.end()
    }

    /// Where the master key may stand.
    ///
    /// # Errors
    /// The key in the configuration cannot be read.
    pub fn key_sources(&self, data_dir: &Path) -> Result<Sources, ConfigError> {
        let value = self.master_key.read("secure.master_key")?;
        Ok(Sources {
            credentials: std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from),
            file: self.master_key_file.clone(),
            value: Some(value),
            previous: self.previous_keys.clone(),
            data_dir: data_dir.to_owned(),
        })
    }

    /// What a hash costs.
    ///
    /// # Errors
    /// A value out of its range.
    pub fn params(&self) -> Result<Params, longshore_identity::password::ParamsError> {
        let Argon2 {
            memory_kib,
            passes,
            lanes,
        } = self.password.argon2;
        Params::new(memory_kib, passes, lanes)
    }

    /// Roles that need a second factor.
    #[must_use]
    pub fn required_roles(&self) -> Vec<Role> {
        let wanted = &self.totp.required_roles;
        let all = Role::ALL.into_iter();
        all.filter(|role| wanted.iter().any(|w| w == role.as_str()))
            .collect()
    }
}

impl Config {
    /// Looks for the master key as a start does.
    ///
    /// # Errors
    /// A key that is there and cannot be used: others may read its file, or it is none.
    pub fn check_master_key(&self, loaded: &Loaded) -> Result<(), ConfigError> {
        let sources = self.secure.key_sources(&self.daemon.data_dir);
        let ring = sources.and_then(|sources| sources.ring().map_err(ConfigError));
        let placed = |error: ConfigError| {
            let text = match error.0.starts_with('/') {
                true => format!("secure.master_key_file: {error}"),
                false => error.0,
            };
            ConfigError(loaded.placed(&text).to_string())
        };
        ring.map(drop).map_err(placed)
    }
}

impl Auth {
    /// Checks, and lowers what no browser would keep. `loopback`: the API listens on this
    /// machine alone.
    pub(super) fn check(&mut self, loopback: bool) -> Result<(), ConfigError> {
        let mut told = Told::default();
        told.add(self.fixed_users.check());
        told.add(self.throttle.check());
        let Logins { max_age_s, idle_s } = self.logins;
        if !(60..=315_360_000).contains(&max_age_s) {
            told.wrong("daemon.auth.logins.max_age_s", "must be 60 to 315360000");
        }
        if !(60..=315_360_000).contains(&idle_s) {
            told.wrong("daemon.auth.logins.idle_s", "must be 60 to 315360000");
        }
        if !(60..=MOST_LINK_S).contains(&self.invitations.expires_s) {
            told.wrong("daemon.auth.invitations.expires_s", "must be 60 to 2592000");
        }
        let cookies = &mut self.cookies;
        if !cookies.secure && !loopback {
            told.wrong(
                "daemon.auth.cookies.secure",
                "may be false only while daemon.listen has addresses of this machine alone",
            );
        }
        if cookies.max_age_s == 0 {
            told.wrong("daemon.auth.cookies.max_age_s", "must be at least 1");
        }
        if cookies.max_age_s > COOKIE_MOST_S {
            // The log is not set up yet: the settings say how.
            eprintln!(
                "longshore-coordinator: daemon.auth.cookies.max_age_s: browsers keep cookies for 400 days at most; {COOKIE_MOST_S} is used"
            );
            cookies.max_age_s = COOKIE_MOST_S;
        }
        if !["lax", "strict"].contains(&cookies.same_site.as_str()) {
            told.wrong("daemon.auth.cookies.same_site", "must be lax or strict");
        }
        let domain = cookies.domain.trim_start_matches('.');
        let label = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        let good = domain.contains('.') && domain.split('.').all(label);
        if !cookies.domain.is_empty() && !good {
            told.wrong(
                "daemon.auth.cookies.domain",
                "must be a name of at least two parts, such as .gpu.lab",
            );
        }
        told.end()
    }

    /// How long logins last.
    #[must_use]
    pub const fn limits(&self) -> LoginLimits {
        LoginLimits {
            max_age_s: self.logins.max_age_s,
            idle_s: self.logins.idle_s,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_named() {
        let (public, local) = (false, true);
        let text = |auth: &mut Auth| auth.check(public).unwrap_err().to_string();
        let mut auth = Auth::default();
        assert!(auth.check(public).is_ok());
        auth.logins.idle_s = 1;
        assert!(text(&mut auth).starts_with("daemon.auth.logins.idle_s: must be 60"));
        let mut auth = Auth::default();
        auth.cookies.secure = false;
        assert!(text(&mut auth).starts_with("daemon.auth.cookies.secure"));
        assert!(auth.check(local).is_ok());
        auth.cookies.max_age_s = u32::MAX;
        auth.check(local).unwrap();
        assert_eq!(auth.cookies.max_age_s, COOKIE_MOST_S);
        auth.cookies.domain = "lab".to_owned();
        assert!(text(&mut Auth::clone(&auth)).contains("secure") && auth.check(local).is_err());
        let mut secure = Secure::default();
        assert!(secure.check().is_ok());
        secure.password.argon2.passes = 1;
        let error = secure.check().unwrap_err().to_string();
        assert_eq!(
            error,
            "secure.password.argon2.passes must be between 2 and 64"
        );
        let mut secure = Secure::default();
        secure.totp.required_roles = vec!["root".to_owned()];
        assert!(secure.check().is_err());
        secure.totp.required_roles = vec!["monitor".to_owned()];
        assert_eq!(secure.required_roles(), [Role::Monitor]);
    }
}
