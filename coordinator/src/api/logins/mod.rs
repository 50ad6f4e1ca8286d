//! Logging in, and what people see and change of their own.
//!
//! Passwords are compared here, a few at a time and after the throttle was asked; what follows
//! is decided by the core in one step with what is stored.
//!
//! | module | routes |
//! |---|---|
//! | `enter` | login, the step with the code, logout, ways to log in |
//! | `own` | `/me`: who one is, rights, password, logins |
//! | `totp` | the second factor of the caller |
//! | `reset` | links to choose a new password |
//! | `links` | what an invitation is about, and accepting it |
//! | `cookies` | the cookie of the console, and that a request by it comes from its own pages |
//! | `challenges` | logins that wait for their code |

mod challenges;
mod cookies;
pub(super) mod enter;
pub(super) mod links;
pub(super) mod own;
pub(super) mod reset;
pub(super) mod totp;

#[cfg(test)]
mod tests;

pub(super) use cookies::{by_own_page, token as cookie_token};

use super::errors::Failure;
use super::{App, Operation};
use crate::config::{Config, FixedPasswords};
use crate::engine::wall_clock;
use crate::hashing::{Busy, Hashing};
use crate::identity::Person;
use crate::settings::Held;
use axum::extract::Request;
use axum::http::{HeaderMap, header};
use challenges::Challenges;
use longshore_common::time::Timestamp;
use longshore_core::model::logins::LoginEvent;
use longshore_core::model::{Event, Role, User};
use longshore_identity::password::{HashError, ParamsError};
use longshore_identity::throttle::Prefix;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often it is stored when logins were last used, and looked which are over.
const EVERY: Duration = Duration::from_secs(60);

/// What logins need besides the state.
#[derive(Debug, Default)]
pub struct Logins {
    ways: Held<Arc<Ways>>,
    challenges: Challenges,
    /// Passwords of the configuration; while there are any, no other password opens anything.
    fixed: Held<Option<Arc<FixedPasswords>>>,
}

/// What the configuration says about logins.
#[derive(Debug, Default)]
struct Ways {
    hashing: Hashing,
    cookies: crate::config::Cookies,
    /// Who is asked for a new password may do nothing else first.
    enforce_change: bool,
    /// Days after which a new password is asked for; 0 = never.
    max_password_days: u32,
    /// Roles that need a second factor.
    required_roles: Vec<Role>,
    /// How the installation is called in people's apps.
    issuer: String,
}

impl Ways {
    fn new(config: &Config) -> Result<Self, ParamsError> {
        let password = &config.secure.password;
        let number = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
        let (parallel, queue) = (number(password.parallel), number(password.queue));
        Ok(Self {
            hashing: Hashing::new(config.secure.params()?, parallel, queue),
            cookies: config.daemon.auth.cookies.clone(),
            enforce_change: password.enforce_change,
            max_password_days: password.max_age_days,
            required_roles: config.secure.required_roles(),
            issuer: config.secure.totp.issuer.clone(),
        })
    }
}

impl Logins {
    /// As the settings say.
    ///
    /// # Errors
    /// Parameters of hashes out of their range; reading the settings refuses them.
    pub fn new(config: &Config) -> Result<Self, ParamsError> {
        Ok(Self {
            ways: Held::new(Arc::new(Ways::new(config)?)),
            ..Self::default()
        })
    }

    /// The settings are others from now on. Hashes that are being computed are not counted
    /// among those that follow.
    pub(super) fn set(&self, config: &Config) {
        if let Ok(ways) = Ways::new(config) {
            self.ways.set(Arc::new(ways));
        }
    }

    fn ways(&self) -> Arc<Ways> {
        self.ways.get()
    }

    /// The same with the passwords of the configuration, if they are in force.
    #[must_use]
    pub fn with_fixed(self, fixed: Option<FixedPasswords>) -> Self {
        self.set_fixed(fixed);
        self
    }

    /// Other passwords of the configuration are in force from now on, or none.
    pub(super) fn set_fixed(&self, fixed: Option<FixedPasswords>) {
        self.fixed.set(fixed.map(Arc::new));
    }

    /// Waits for leave to hash.
    ///
    /// # Errors
    /// Too many wait already.
    pub(super) async fn permit(&self) -> Result<crate::hashing::Permit, Busy> {
        let ways = self.ways();
        ways.hashing.permit().await
    }

    /// Check 7: whether a login may be used for this at all.
    ///
    /// # Errors
    /// What is to be done first.
    pub(super) fn admits(&self, person: &Person, operation: &Operation) -> Result<(), Failure> {
        if !person.by_password {
            return Ok(());
        }
        let ways = self.ways();
        let always = ["me_read", "auth_logout", "auth_csrf"];
        let is = |ids: &[&str]| always.contains(&operation.id) || ids.contains(&operation.id);
        if ways.enforce_change && person.need_password_change && !is(&["me_password_write"]) {
            let text = "Choose a new password first.";
            return Err(Failure::new("LS-PASSWORD-CHANGE-REQUIRED", text)
                .hint("longshore passwd, or POST /api/v1/me/password."));
        }
        let wanted = ways.required_roles.contains(&person.role) && !person.second_factor;
        let password_first = ways.enforce_change && person.need_password_change;
        if wanted && !password_first && !is(&["me_totp_offer", "me_totp_activate"]) {
            let text = "Your role needs two-factor codes; switch them on first.";
            return Err(Failure::new("LS-TOTP-ENROL", text)
                .hint("longshore totp on, or POST /api/v1/me/totp."));
        }
        Ok(())
    }
}

/// Whether a request that needs no credentials brings some: a keypair or a login in its header,
/// or the cookie of a login that is not over. A cookie that is stale is nobody's fault.
pub(super) fn brings_credentials(headers: &HeaderMap, app: &App) -> bool {
    headers.contains_key(header::AUTHORIZATION)
        || cookie_token(headers, &app.logins)
            .is_some_and(|token| app.identity.by_token(&token, wall_clock()).is_ok())
}

/// Where a request comes from; an address of nobody if there is no connection.
fn address(request: &Request) -> IpAddr {
    let client = request.extensions().get::<super::Client>();
    client.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |client| {
        client.0.to_canonical()
    })
}

fn prefix(request: &Request) -> Prefix {
    Prefix::of(address(request))
}

impl From<Busy> for Failure {
    fn from(_: Busy) -> Self {
        Self::new("LS-BUSY", "Too many logins are under way.").retry_after(1)
    }
}

impl From<HashError> for Failure {
    fn from(error: HashError) -> Self {
        tracing::error!(%error, "a password could not be compared or hashed");
        Self::internal()
    }
}

fn throttled(seconds: u32) -> Failure {
    Failure::new(
        "LS-LOGIN-THROTTLED",
        format!("Too many failed logins; try again in {seconds} s."),
    )
    .retry_after(seconds)
}

/// The password hash of somebody who can have one.
fn hash_of(user: &User) -> Option<String> {
    user.password.clone().filter(|_| user.service.is_none())
}

/// Stores once a minute when logins were last used, and ends those that are over, until the
/// coordinator stops; then once more.
pub async fn keep_logins(app: App, mut stopping: watch::Receiver<bool>) {
    loop {
        let ends = tokio::select! {
            () = tokio::time::sleep(EVERY) => false,
            _ = stopping.wait_for(|stop| *stop) => true,
        };
        minute(&app, wall_clock()).await;
        if ends {
            return;
        }
    }
}

async fn minute(app: &App, at: Timestamp) {
    let used = app.identity.take_used();
    let event = LoginEvent::Minute {
        at,
        used: used.clone(),
        limits: app.identity.limits(),
    };
    if let Err(error) = app.engine.ask(Event::Login(Box::new(event))).await {
        tracing::debug!(%error, "the last use of logins is not stored");
        app.identity.not_stored(&used);
    }
}
