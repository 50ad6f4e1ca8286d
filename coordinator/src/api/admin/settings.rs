//! The configuration: what holds, what is stored of it, reading it again.

use super::super::errors::Failure;
use super::super::extract::Query;
use super::super::{App, person};
use super::{DRY_RUN, Match, Nothing, Write, tagged, value_of, write};
use crate::config::{Config, MailSettings, SCHEMA, TlsMode};
use crate::engine::{Origin, wall_clock};
use crate::mail::{Mailer, Smtp};
use crate::settings::{InForce, Wrong, key_of, overriding};
use crate::tls::Pair;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::response::Response;
use longshore_common::admin::{Difference, Impact};
use longshore_common::redact;
use longshore_common::settings::{NewRedaction, Redaction, Setting, Settings, SettingsPatch};
use longshore_config::schema::{Acts, Key, Kind};
use longshore_core::model::{
    Event, LoadedOrder, NotifyOrder, SettingSecret, SettingsOrder, StoredSettings,
};
use longshore_identity::Secret;
use longshore_identity::audit::Outcome;
use longshore_logging::Prepared;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A value as a person writes it.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn view(app: &App, version: u64) -> Settings {
    let now = app.settings.now();
    let items = now.shown.iter().filter_map(|shown| {
        let key = key_of(&shown.key)?;
        Some(Setting {
            key: shown.key.clone(),
            value: text(&shown.value),
            source: shown.origin.clone(),
            acts: match key.acts {
                Acts::Live => "live",
                Acts::Reload => "reload",
                Acts::Restart => "restart",
            }
            .to_owned(),
            overridden_by: overriding(shown).map(str::to_owned),
            secret: is_sealed(key),
        })
    });
    Settings {
        version,
        items: items.collect(),
        pending_restart: app.settings.pending_restart(),
        impact: None,
    }
}

pub(in super::super) async fn read(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    person(request.extensions())?;
    Query::read(request.uri().query(), &[])?;
    let version = app.engine.read(|state, _| state.settings.version).await?;
    tagged(&value_of(&view(&app, version)).ok_or_else(Failure::internal)?)
}

/// Whether what is stored of a key is encrypted: it is secret, or may hold what is.
fn is_sealed(key: &Key) -> bool {
    key.kind.may_hide()
}

/// Whether a value has a mask in it: somebody gives back what was shown.
fn is_masked(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(redact::MASK),
        Value::Array(items) => items.iter().any(is_masked),
        Value::Object(members) => members.values().any(is_masked),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A secret as it is stored. What came as text and is a list is one.
fn sealed(name: &str, key: &Key, value: &Value) -> Result<SettingSecret, String> {
    if is_masked(value) {
        return Err(format!("{name} has a mask in it, not a value."));
    }
    let value = match (&key.kind, value) {
        (Kind::Secret, Value::String(_)) => value.clone(),
        // A path would let whoever may store settings read the files of this machine.
        (Kind::Secret, _) => return Err(format!("{name} must be text.")),
        (_, Value::String(text)) => {
            serde_json::from_str(text).map_err(|_| format!("{name} must be JSON."))?
        }
        _ => value.clone(),
    };
    Ok(SettingSecret::Open(Secret::new(value.to_string())))
}

/// The stored settings as they would be, or all that stands against it.
fn patched(
    app: &App,
    stored: &StoredSettings,
    asked: &BTreeMap<String, Value>,
) -> Result<StoredSettings, Failure> {
    let now = app.settings.now();
    let mut next = stored.clone();
    let mut failure = Failure::new("LS-SETTING", "Settings are not accepted.");
    for (name, value) in asked {
        // Of a list each item is shown below its key.
        let below = format!("{name}.");
        let mut shown = now.shown.iter();
        let shown = shown.find(|shown| shown.key == *name || shown.key.starts_with(&below));
        let no = match SCHEMA.key(name) {
            None => Some(format!("{}.", SCHEMA.unknown(name))),
            Some(_) if value.is_null() => {
                next.values.remove(name);
                next.secrets.remove(name);
                None
            }
            Some(key) if key.acts != Acts::Live => Some(format!(
                "{name} cannot be stored; set it in a file or the environment."
            )),
            Some(key) => match shown.and_then(overriding) {
                Some(by) => Some(format!(
                    "{name} is set by {by}, which stands over what is stored."
                )),
                None if is_sealed(key) => match sealed(name, key, value) {
                    Ok(secret) => {
                        next.secrets.insert(name.clone(), secret);
                        None
                    }
                    Err(why) => Some(why),
                },
                None => {
                    next.values.insert(name.clone(), value.clone());
                    None
                }
            },
        };
        if let Some(message) = no {
            failure = failure.at(format!("/values/{name}"), message);
        }
    }
    match failure.errors.is_empty() {
        true => Ok(next),
        false => Err(told(failure)),
    }
}

/// The first finding is what is told in a line.
fn told(mut failure: Failure) -> Failure {
    if let Some(first) = failure.errors.first() {
        failure.detail.clone_from(&first.message);
    }
    failure
}

fn refused(wrong: Vec<Wrong>) -> Failure {
    let failure = Failure::new("LS-SETTING", "The configuration is not accepted.");
    told(wrong.into_iter().fold(failure, |failure, one| {
        let pointer = one.key.map(|key| format!("/values/{key}"));
        failure.at(pointer.unwrap_or_default(), one.text)
    }))
}

/// A configuration that can be taken into force: what can fail has been done.
struct Next {
    in_force: InForce,
    mailer: Option<Mailer>,
    /// The certificate of files, read again.
    pair: Option<Pair>,
    /// Where lines of the log go.
    log: Option<Prepared>,
    order: SettingsOrder,
}

fn prepared(app: &App, in_force: InForce, stored: Option<StoredSettings>) -> Result<Next, Failure> {
    let config = &in_force.config;
    let fixed = &config.daemon.auth.fixed_users;
    let before = app.settings.now();
    let were = before.config.daemon.auth.fixed_users.enabled;
    let reads_files = stored.is_none();
    let order = SettingsOrder {
        stored,
        expected_version: None,
        scheduler: config.scheduling(),
        service_account_admins: config.services.organization.allow_service_account_admins,
        throttle: config.daemon.auth.throttle.limits(),
        fixed: (fixed.enabled || were).then(|| fixed.order()),
        dry_run: false,
    };
    let mail: &MailSettings = &config.services.notify.mail;
    let mailer = match *mail == before.config.services.notify.mail {
        true => None,
        false if !mail.enabled => Some(Mailer::default()),
        false => {
            let smtp = Smtp::new(mail);
            let smtp = smtp.map_err(|error| Failure::new("LS-SETTING", error.to_string()))?;
            Some(Mailer::start(Arc::new(smtp), app.stopping.clone()))
        }
    };
    let pair = match config.daemon.tls.mode == TlsMode::Files && reads_files {
        true => pair(app, config)?,
        false => None,
    };
    // The file may have been moved away: each reload looks.
    let (new, old) = (&config.logging, &before.config.logging);
    let differs = (new.target, new.format, &new.file) != (old.target, old.format, &old.file);
    let log = match reads_files || differs {
        true => log(app, config)?,
        false => None,
    };
    Ok(Next {
        in_force,
        mailer,
        pair,
        log,
        order,
    })
}

/// The certificate of the files, as they are now; none where this process does not serve it until
/// its next start.
fn pair(app: &App, config: &Config) -> Result<Option<Pair>, Failure> {
    let begun = app.settings.begun().config.daemon.tls.mode;
    if begun != TlsMode::Files {
        return Ok(None);
    }
    let read = Pair::read(&config.daemon.tls);
    let good = read.and_then(|pair| pair.is_good_at(wall_clock().0 / 1000).map(|()| pair));
    let pair = good.map_err(|error| {
        let text = error.to_string();
        tracing::error!("the configuration is not read again: {text}");
        refused(vec![Wrong {
            key: text.split(':').next().map(str::to_owned),
            text,
        }])
    })?;
    for name in pair.lacks(&config.daemon.shown_names()) {
        tracing::warn!("daemon.tls.certificate: is not made for {name}");
    }
    Ok(Some(pair))
}

/// The log that the files name, open.
fn log(app: &App, config: &Config) -> Result<Option<Prepared>, Failure> {
    app.settings.prepare_log(config).map_err(|wrong| {
        tracing::error!("the configuration is not read again: {}", wrong.text);
        refused(vec![wrong])
    })
}

/// From here on it holds.
async fn take(app: &App, next: Next) -> Result<(), Failure> {
    let config = &next.in_force.config;
    let fixed = config.daemon.auth.fixed_users.clone();
    for text in fixed.warnings() {
        tracing::warn!("{text}");
    }
    // Whose they are was decided with the rest.
    let passwords = app
        .engine
        .read_when_room(move |state, _| fixed.passwords(state));
    app.logins.set_fixed(passwords.await?);
    let address = config.public_url(&app.host);
    app.browsers.follow(&address);
    app.address.set(address);
    if let Ok(defaults) = config.defaults() {
        app.defaults.set(defaults);
    }
    let admin_exec = config.services.sessions.admin_exec;
    let differs = app.rights.get().admin_exec != admin_exec;
    app.rights.set(super::super::RightsSettings { admin_exec });
    if differs {
        app.identity.rights_changed();
    }
    app.actions
        .set(config.services.organization.ui_actions.clone());
    app.outbound.set(config.daemon.egress.outbound());
    app.http.set(config.daemon.http.bounds());
    if let (Some(certificates), Some(pair)) = (&app.certificates, next.pair) {
        certificates.set(pair);
    }
    if let Some(log) = next.log {
        app.settings.take_log(log);
    }
    app.cors.set(config.daemon.cors.cors(app.own_origin()));
    app.vaults.set_work(next.in_force.work.clone());
    let names = config.secure.redaction.names.clone();
    app.engine.live.redaction.set(names);
    app.logins.set(config);
    app.links
        .set(config.daemon.auth.invitations.expires_s, next.mailer);
    let limits = &config.daemon.rate_limit;
    app.rates
        .set((limits.keypair, limits.anonymous), config.daemon.proxies());
    app.identity.set_limits(config.daemon.auth.limits());
    for warning in &next.in_force.warnings {
        tracing::warn!("{warning}");
    }
    app.settings.set(next.in_force);
    // The next start tells what is other than this.
    if let Some(loaded) = app.settings.loaded() {
        let order = LoadedOrder {
            loaded,
            at_start: false,
        };
        // The settings hold already; at worst the next start tells of them once more.
        let noted = app.engine.ask(Event::Loaded(Box::new(order))).await;
        if !matches!(noted, Ok(Ok(_))) {
            tracing::warn!("which configuration is in force could not be noted");
        }
    }
    Ok(())
}

async fn give(app: &App, origin: &Arc<Origin>, order: SettingsOrder) -> Result<(), Failure> {
    let engine = app.engine.asked_by(Arc::clone(origin));
    engine.ask(Event::Settings(Box::new(order))).await??;
    Ok(())
}

/// Who is told at all follows what is in force: nothing but that rests on it, so it comes after.
async fn tell_whom(app: &App) -> Result<(), Failure> {
    let settings = app.settings.now().config.services.notify.settings();
    let order = NotifyOrder::Settings(settings);
    app.engine.ask(Event::Notify(Box::new(order))).await??;
    Ok(())
}

/// Stores values over the files, and takes them into force; the version of what is stored then,
/// and of a rehearsal what would differ.
async fn store<T>(
    app: &App,
    write: &Write<T>,
    asked: &BTreeMap<String, Value>,
    view: impl Fn(u64) -> Option<Value>,
) -> Result<(u64, Option<Vec<Difference>>), Failure> {
    let _turn = app.settings.turn().await;
    let stored = app.engine.read(|state, _| state.settings.clone()).await?;
    if write.version.is_some_and(|seen| seen != stored.version) {
        let text = "The settings have changed since you read them.";
        let failure = Failure::new("LS-VERSION-STALE", text);
        let current = view(stored.version).ok_or_else(Failure::internal)?;
        return Err(failure.current(current));
    }
    let new = patched(app, &stored, asked)?;
    // What is taken out, and what cannot be read and stays, needs no key.
    let is_new = |(key, secret): (&String, &SettingSecret)| {
        matches!(secret, SettingSecret::Open(_)) && stored.secrets.get(key) != Some(secret)
    };
    if new.secrets.iter().any(is_new) {
        app.secrets.keyring().present()?;
    }
    let read = app.settings.source().read(&new).map_err(refused)?;
    let before = app.settings.now();
    let diff = before.differing(&read);
    // Files and variables are read with it, and what they say by now comes into force too.
    let besides: Vec<String> = diff
        .iter()
        .filter(|key| !asked.contains_key(*key))
        .cloned()
        .collect();
    let of = |from: &InForce, key: &str| {
        let shown = from.shown.iter().find(|shown| shown.key == key);
        shown.map(|shown| text(&shown.value))
    };
    // Of secrets a mask is shown before and after.
    let hidden = asked
        .keys()
        .filter(|key| new.secrets.get(*key) != stored.secrets.get(*key) && !diff.contains(*key));
    let diff = diff.iter().chain(hidden).map(|key| Difference {
        path: format!("/values/{key}"),
        from: of(&before, key),
        to: of(&read, key),
    });
    let diff = diff.collect();
    let mut next = prepared(app, read, Some(new))?;
    next.order.dry_run = write.dry_run;
    give(app, &write.origin, next.order.clone()).await?;
    if write.dry_run {
        return Ok((stored.version, Some(diff)));
    }
    if !besides.is_empty() {
        record(app, &write.origin, &besides).await?;
    }
    take(app, next).await?;
    tell_whom(app).await?;
    let version = app.engine.read(|state, _| state.settings.version).await?;
    Ok((version, None))
}

/// What is answered to a change: what holds, and of a rehearsal what would differ.
fn answered<T>(
    write: &Write<T>,
    diff: Option<Vec<Difference>>,
    told: impl FnOnce(Option<Impact>) -> Option<Value>,
) -> Result<Response, Failure> {
    let rehearsed = diff.is_some();
    let impact = diff.map(|diff| Impact {
        diff,
        ..Impact::default()
    });
    let mut response = tagged(&told(impact).ok_or_else(Failure::internal)?)?;
    if rehearsed {
        write.mark(&mut response);
    }
    Ok(response)
}

pub(in super::super) async fn patch(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<SettingsPatch>(request, &[], Match::Required).await?;
    let current = |version| value_of(&view(&app, version));
    let (version, diff) = store(&app, &write, &write.body.values, current).await?;
    answered(&write, diff, |impact| {
        value_of(&Settings {
            impact,
            ..view(&app, version)
        })
    })
}

/// The key of the list of hidden names.
const NAMES: &str = "secure.redaction.names";

fn redaction(app: &App, version: u64, impact: Option<Impact>) -> Redaction {
    let now = app.settings.now();
    let shown = now.shown.iter().find(|shown| shown.key == NAMES);
    Redaction {
        version,
        names: now.config.secure.redaction.names.clone(),
        source: shown.map_or_else(String::new, |shown| shown.origin.clone()),
        overridden_by: shown.and_then(overriding).map(str::to_owned),
        impact,
    }
}

pub(in super::super) async fn read_redaction(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    person(request.extensions())?;
    Query::read(request.uri().query(), &[])?;
    let version = app.engine.read(|state, _| state.settings.version).await?;
    tagged(&value_of(&redaction(&app, version, None)).ok_or_else(Failure::internal)?)
}

pub(in super::super) async fn put_redaction(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<NewRedaction>(request, &[], Match::Required).await?;
    let names = write.body.names.as_deref().unwrap_or_default();
    let wrong = redact::faults(names);
    if !wrong.is_empty() {
        let failure = Failure::new("LS-SETTING", "The list is not accepted.");
        let all = wrong.into_iter();
        return Err(told(all.fold(failure, |failure, (at, text)| {
            failure.at(format!("/names/{at}"), text)
        })));
    }
    let value = write
        .body
        .names
        .as_ref()
        .map_or(Value::Null, |names| json!(names));
    let asked = BTreeMap::from([(NAMES.to_owned(), value)]);
    let current = |version| value_of(&redaction(&app, version, None));
    let stored = store(&app, &write, &asked, current).await;
    let (version, diff) = stored.map_err(|mut failure| {
        for error in &mut failure.errors {
            if error.pointer == format!("/values/{NAMES}") {
                error.pointer = "/names".to_owned();
            }
        }
        failure
    })?;
    answered(&write, diff, |impact| {
        value_of(&redaction(&app, version, impact))
    })
}

pub(in super::super) async fn reload(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let write = write::<Nothing>(request, &[], Match::Optional).await?;
    let version = read_again(&app, &write.origin, write.dry_run).await?;
    let mut response = tagged(&value_of(&view(&app, version)).ok_or_else(Failure::internal)?)?;
    if write.dry_run {
        response
            .headers_mut()
            .insert(DRY_RUN, HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// Writes down which keys were read again with other values.
async fn record(app: &App, origin: &Arc<Origin>, changed: &[String]) -> Result<(), Failure> {
    let detail = match changed {
        [] => "read again; nothing differs".to_owned(),
        keys => format!("read again: {}", keys.join(", ")),
    };
    let draft = origin.draft("settings.write", Outcome::Ok).detail(&detail);
    app.engine.record(draft).await?;
    tracing::info!("the configuration was {detail}");
    Ok(())
}

/// Reads the configuration again, all of it or nothing; the version of what is stored.
///
/// # Errors
/// `LS-SETTING` with everything that is wrong: what was in force stays so.
pub async fn read_again(app: &App, origin: &Arc<Origin>, dry_run: bool) -> Result<u64, Failure> {
    let _turn = app.settings.turn().await;
    let stored = app.engine.read(|state, _| state.settings.clone()).await?;
    let read = app.settings.source().read(&stored).map_err(refused);
    let read = match read {
        Ok(read) => read,
        Err(failure) => {
            for wrong in &failure.errors {
                tracing::error!("the configuration is not read again: {}", wrong.message);
            }
            if !dry_run {
                let draft = origin.draft("settings.write", Outcome::Refused);
                app.engine.record(draft.code(failure.code)).await?;
            }
            return Err(failure);
        }
    };
    let changed = app.settings.now().differing(&read);
    let mut next = prepared(app, read, None)?;
    next.order.dry_run = dry_run;
    give(app, origin, next.order.clone()).await?;
    if !dry_run {
        record(app, origin, &changed).await?;
        take(app, next).await?;
        tell_whom(app).await?;
    }
    Ok(stored.version)
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::ready;
    use super::*;

    async fn patch(
        f: &super::super::super::tests::Fixture,
        path: &str,
        values: Value,
    ) -> (u16, Value) {
        let body = axum::body::Body::from(json!({ "values": values }).to_string());
        let headers = [("content-type", "application/json"), ("if-match", "*")];
        let answer = f.send("PATCH", path, &headers, body).await;
        (answer.status.as_u16(), answer.json())
    }

    fn item<'a>(settings: &'a Value, key: &str) -> &'a Value {
        let items = settings["items"].as_array().unwrap();
        items.iter().find(|item| item["key"] == key).unwrap()
    }

    #[tokio::test]
    async fn what_is_stored_acts_at_once() {
        let f = ready().await;
        let key = "services.sessions.admin_exec";
        let settings = f.get("/api/v1/settings").await.json();
        assert_eq!(
            (&settings["version"], &item(&settings, key)["source"]),
            (&json!(1), &json!("default"))
        );
        let values = json!({
            key: true,
            "services.scheduler.interval_s": "20",
            "services.sessions.default_priority": 3,
            "daemon.rate_limit.keypair": 5000,
            "daemon.auth.logins.idle_s": 3600,
            "daemon.auth.invitations.expires_s": 120,
            "secure.password.enforce_change": true,
            "secure.totp.issuer": "Lab",
            "services.organization.allow_service_account_admins": true,
        });
        let (status, told) = patch(&f, "/api/v1/settings?dry_run=true", values.clone()).await;
        assert_eq!(status, 200, "{told}");
        assert_eq!(told["impact"]["diff"].as_array().unwrap().len(), 9);
        assert!(!f.app.rights.get().admin_exec);
        let (status, told) = patch(&f, "/api/v1/settings", values).await;
        assert_eq!(status, 200, "{told}");
        assert_eq!(
            (&told["version"], &item(&told, key)["source"]),
            (&json!(2), &json!("settings"))
        );
        assert!(f.app.rights.get().admin_exec);
        assert_eq!(f.app.defaults.get().priority, 3);
        assert_eq!(f.app.identity.limits().idle_s, 3600);
        assert_eq!(f.app.links.draw().1.valid_s, 120);
        let state = f.app.engine.read(|state, _| {
            (
                state.scheduler.interval_s,
                state.people_settings.service_account_admins,
            )
        });
        assert_eq!(state.await.unwrap(), (20, true));
        let limit = f.get("/api/v1/settings").await;
        assert_eq!(limit.headers["x-ratelimit-limit"], "5000");
        // Taken out again, the default holds.
        let (_, told) = patch(&f, "/api/v1/settings", json!({ key: null })).await;
        assert_eq!(item(&told, key)["source"], "default");
        assert!(!f.app.rights.get().admin_exec);
        let records = f.get("/api/v1/audit?operation=settings.write").await.json();
        assert_eq!(records["items"][0]["target"]["id"], "stored");
    }

    #[tokio::test]
    async fn what_cannot_be_stored_is_refused_with_its_key_and_changes_nothing() {
        let f = ready().await;
        let values = json!({
            "services.sessions.admin_exec": true,
            "services.sessions.admin_exce": true,
            "daemon.data_dir": "/x",
            "services.notify.mail.password": { "file": "/etc/shadow" },
        });
        let (status, told) = patch(&f, "/api/v1/settings", values).await;
        assert_eq!((status, &told["code"]), (422, &json!("LS-SETTING")));
        let pointers: Vec<_> = told["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| e["pointer"].as_str().unwrap())
            .collect();
        assert_eq!(
            pointers,
            [
                "/values/daemon.data_dir",
                "/values/services.notify.mail.password",
                "/values/services.sessions.admin_exce",
            ]
        );
        assert!(
            told["errors"][2]["message"]
                .as_str()
                .unwrap()
                .contains("did you mean services.sessions.admin_exec?")
        );
        let (status, told) = patch(
            &f,
            "/api/v1/settings",
            json!({ "services.scheduler.interval_s": 0 }),
        )
        .await;
        assert_eq!(
            (status, &told["errors"][0]["pointer"]),
            (422, &json!("/values/services.scheduler.interval_s"))
        );
        let settings = f.get("/api/v1/settings").await.json();
        assert_eq!(settings["version"], 1);
        assert!(!f.app.rights.get().admin_exec);
    }

    #[tokio::test]
    async fn files_are_read_again_all_or_nothing() {
        let f = ready().await;
        let file = f.dir.path().join("conf/all.toml");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        write(
            "[daemon]\nname = \"gpu\"\ntrusted_proxies = [\"10.0.0.1\"]\ncors.origins = [\"https://a.lab\"]\n[services.sessions]\nadmin_exec = true\n[secure.totp]\nissuer = \"Lab\"\n",
        );
        let told = f.post("/api/v1/settings/reload", &json!({})).await;
        assert_eq!(told.status, 200, "{}", told.text());
        let told = told.json();
        assert_eq!(told["pending_restart"], json!(["daemon.name"]));
        assert_eq!(f.app.cors.get().origins, ["https://a.lab"]);
        assert!(f.app.rights.get().admin_exec);
        let client = f
            .app
            .rates
            .client_of("10.0.0.1".parse().unwrap(), ["192.0.2.9"].into_iter());
        assert_eq!(client.to_string(), "192.0.2.9");
        write("[services.sessions]\nadmin_exec = false\nadmin_exce = 1\n[daemon]\nx = 1\n");
        let no = f.post("/api/v1/settings/reload", &json!({})).await;
        assert_eq!(no.status, 422);
        assert_eq!(no.json()["errors"].as_array().unwrap().len(), 2);
        assert!(f.app.rights.get().admin_exec, "what was in force stays so");
        let records = f.get("/api/v1/audit?operation=settings.write").await.json();
        assert_eq!(records["items"][0]["outcome"], "refused");
        assert_eq!(
            records["items"][1]["detail"],
            "read again: daemon.cors.origins, daemon.name, daemon.trusted_proxies, secure.totp.issuer, services.sessions.admin_exec"
        );
    }

    #[tokio::test]
    async fn secrets_are_stored_encrypted_and_shown_as_masks() {
        let f = ready().await;
        let (password, webhooks) = ("services.notify.mail.password", "services.notify.webhooks");
        let hooks = |secret: &str| {
            json!([{ "name": "desk", "url": "https://desk.lab/hook/hunter2", "secret": secret,
                "headers": { "X-Token": "hunter2" } }])
        };
        let values = json!({
            "services.notify.mail.username": "u",
            password: "hunter2",
            webhooks: hooks("hunter2"),
        });
        let rehearsed = patch(&f, "/api/v1/settings?dry_run=true", values.clone()).await;
        assert_eq!(rehearsed.0, 200, "{}", rehearsed.1);
        let (status, told) = patch(&f, "/api/v1/settings", values).await;
        assert_eq!(status, 200, "{told}");
        let held = f.app.settings.now();
        let notify = &held.config.services.notify;
        assert_eq!(notify.mail.password.read("k").unwrap().expose(), "hunter2");
        assert_eq!(
            notify.webhooks[0].secret.as_ref().unwrap().expose(),
            "hunter2"
        );
        assert_eq!(item(&told, password)["value"], "********");
        assert_eq!(item(&told, password)["secret"], true);
        assert_eq!(item(&told, "services.notify.mail.host").get("secret"), None);
        assert_eq!(item(&told, password)["source"], "settings");
        assert_eq!(item(&told, webhooks)["source"], "settings");
        // Another secret is another one, though it looks the same.
        let again = json!({ password: "hunter3" });
        let (_, rehearsed) = patch(&f, "/api/v1/settings?dry_run=true", again.clone()).await;
        let diff = rehearsed["impact"]["diff"].as_array().unwrap();
        assert_eq!(diff.len(), 1, "{rehearsed}");
        let (status, _) = patch(&f, "/api/v1/settings", again).await;
        assert_eq!(status, 200);
        let everything = [
            told.to_string(),
            rehearsed.to_string(),
            f.get("/api/v1/settings").await.text(),
            f.get("/api/v1/audit").await.text(),
        ];
        for text in everything {
            assert!(!text.contains("hunter"), "{text}");
        }
        // What was shown cannot be given back as if it were the value.
        for value in [
            json!({ password: "********" }),
            json!({ webhooks: hooks("********") }),
        ] {
            let (status, told) = patch(&f, "/api/v1/settings", value).await;
            assert_eq!(status, 422);
            assert!(told["detail"].as_str().unwrap().contains("mask"), "{told}");
        }
        // Without a key nothing is stored; what is stored can be taken out, and all else changed.
        let keyring = f.app.secrets.keyring();
        keyring.hold_against(["00000000"]);
        let (status, told) = patch(&f, "/api/v1/settings", json!({ password: "x" })).await;
        assert_eq!((status, &told["code"]), (503, &json!("LS-SECRETS-LOCKED")));
        let other = json!({ "services.sessions.admin_exec": true });
        let (status, told) = patch(&f, "/api/v1/settings", other).await;
        assert_eq!(status, 200, "{told}");
        let out = json!({ webhooks: null });
        let (status, told) = patch(&f, "/api/v1/settings", out).await;
        assert_eq!(status, 200, "{told}");
        assert_eq!(item(&told, webhooks)["source"], "default");
        assert_eq!(item(&told, password)["source"], "settings");
    }

    #[tokio::test]
    async fn secrets_of_files_are_shown_as_masks() {
        let f = ready().await;
        let file = f.dir.path().join("conf/all.toml");
        std::fs::write(&file, crate::settings::tests::every_secret("hunter2")).unwrap();
        let reload = async || {
            let headers = [("content-type", "application/json")];
            let body = axum::body::Body::from("{}");
            f.send("POST", "/api/v1/settings/reload", &headers, body)
                .await
        };
        let answer = reload().await;
        assert_eq!(answer.status.as_u16(), 200, "{}", answer.text());
        let settings = f.get("/api/v1/settings").await;
        let users = item(&settings.json(), "daemon.auth.fixed_users.users").clone();
        assert_eq!(users["secret"], true);
        let told = users["value"].as_str().unwrap();
        assert!(told.contains("\"carol\"") && told.contains("********"));
        assert_eq!(
            settings.json()["pending_restart"],
            json!(["secure.master_key"])
        );
        std::fs::write(&file, crate::settings::tests::every_secret("hunter3")).unwrap();
        assert_eq!(reload().await.status.as_u16(), 200);
        let audit = f.get("/api/v1/audit?operation=settings.write").await;
        let again = "read again: daemon.auth.fixed_users.users, daemon.egress.proxy, secure.master_key, services.notify.mail.password, services.notify.webhooks, services.organization.ui_actions.session";
        assert_eq!(audit.json()["items"][0]["detail"], again);
        for text in [settings.text(), audit.text()] {
            assert!(!text.contains("hunter"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_secret_that_cannot_be_read_can_be_taken_out_and_holds_up_nothing() {
        let f = ready().await;
        let password = "services.notify.mail.password";
        let file = f.dir.path().join("conf/all.toml");
        let mail = "[services.notify.mail]\nenabled = true\nhost = \"mail.lab\"\nfrom = \"gpu@lab.example\"\nusername = \"gpu\"\n";
        std::fs::write(&file, mail).unwrap();
        let (status, told) = patch(&f, "/api/v1/settings", json!({ password: "hunter2" })).await;
        assert_eq!(status, 200, "{told}");
        assert!(f.app.settings.now().config.services.notify.mail.enabled);
        // As a start without the key finds it.
        let order = SettingsOrder {
            fixed: None,
            stored: Some(StoredSettings {
                secrets: BTreeMap::from([(
                    password.to_owned(),
                    SettingSecret::Shut("no key".to_owned()),
                )]),
                ..StoredSettings::default()
            }),
            expected_version: None,
            scheduler: f.app.settings.now().config.scheduling(),
            service_account_admins: false,
            throttle: longshore_identity::throttle::Limits::default(),
            dry_run: false,
        };
        f.app
            .engine
            .ask(Event::Settings(Box::new(order)))
            .await
            .unwrap()
            .unwrap();
        f.app.secrets.keyring().hold_against(["00000000"]);
        let told = f.post("/api/v1/settings/reload", &json!({})).await;
        assert_eq!(told.status, 200, "{}", told.text());
        assert!(!f.app.settings.now().config.services.notify.mail.enabled);
        let other = json!({ "services.sessions.admin_exec": true });
        let (status, told) = patch(&f, "/api/v1/settings", other).await;
        assert_eq!(status, 200, "{told}");
        assert!(f.app.rights.get().admin_exec);
        let out = json!({ password: null, "services.notify.mail.enabled": false });
        let (status, told) = patch(&f, "/api/v1/settings", out).await;
        assert_eq!(status, 200, "{told}");
        assert_eq!(item(&told, password)["source"], "default");
    }
}
