//! The coordinator itself: health, versions, the document, set-up, who calls.

use super::audit::origin;
use super::errors::{CODES, Failure};
use super::extract::{self, Query, Ref};
use super::sessions::unexpected;
use super::{App, json, openapi};
use crate::disk::Level;
use crate::engine::{Engine, wall_clock};
use crate::identity::{new_id, new_keypair};
use crate::pki::sha256;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use longshore_common::api::{Check, Readiness, SetupAnswer, SetupRequest, Version};
use longshore_common::ids::{DomainId, ProjectId, SessionId, UserId};
use longshore_core::model::{Answer, Event, Keypair, Role, SetupOrder, SetupPlace, User};
use longshore_identity::{Secret, fields};
use std::sync::OnceLock;
use std::time::Duration;

/// A check that takes longer is not well.
const CHECK_LIMIT: Duration = Duration::from_secs(2);

/// The check that is listed and fails nothing: all but secrets is served without the key.
const SECRETS: &str = "secrets";
/// What is served does not hang on it either.
const BACKUP: &str = "backup";
/// Fails only when hardly anything is left.
const DISK: &str = "disk";

fn text(kind: &'static str, body: impl Into<String>) -> Response {
    (
        [(header::CONTENT_TYPE, HeaderValue::from_static(kind))],
        body.into(),
    )
        .into_response()
}

pub(super) async fn healthz() -> Response {
    text("text/plain; charset=utf-8", "ok\n")
}

pub(super) async fn watchdog(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    Query::read(request.uri().query(), &[])?;
    json(&app.engine.live.watchdog.shown())
}

pub(super) async fn readyz(State(app): State<App>) -> Result<Response, Failure> {
    let engine = tokio::time::timeout(CHECK_LIMIT, app.engine.read(|_, _| ())).await;
    let database = tokio::time::timeout(CHECK_LIMIT, app.reader.session(SessionId(0))).await;
    let stopping = *app.stopping.borrow();
    let disk = app.engine.live.disk.problem();
    let unseen = app.engine.live.disk.unseen_s(std::time::Instant::now());
    // Below the first mark all but new sessions is served.
    let disk_short = disk
        .as_ref()
        .is_some_and(|(level, _)| *level == Level::Short);
    let check = |name: &str, problem: Option<String>| Check {
        name: name.to_owned(),
        ok: problem.is_none(),
        detail: problem.unwrap_or_default(),
    };
    let slow = || "no answer within 2 s".to_owned();
    let checks = vec![
        check(
            "engine",
            match engine {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some(slow()),
            },
        ),
        check(
            "database",
            match database {
                Ok(Ok(_)) => None,
                // What exactly is for the log, not for anybody who asks.
                Ok(Err(error)) => {
                    tracing::error!(%error, "the database cannot be read");
                    Some("cannot be read".to_owned())
                }
                Err(_) => Some(slow()),
            },
        ),
        check(
            DISK,
            unseen
                .map(|seconds| format!("could not be looked at for {seconds} s"))
                .or(disk.map(|(_, problem)| problem)),
        ),
        check(
            SECRETS,
            app.secrets
                .keyring()
                .present()
                .err()
                .map(|locked| locked.to_string()),
        ),
        check(
            BACKUP,
            // Where exactly is for the log and for administrators, not for anybody who asks.
            app.engine
                .live
                .backups
                .problem()
                .map(|_| "the database could not be backed up".to_owned()),
        ),
        check(
            "running",
            stopping.then(|| "the coordinator is stopping".to_owned()),
        ),
    ];
    let ready = checks.iter().all(|c| {
        c.ok || [SECRETS, BACKUP].contains(&c.name.as_str()) || (c.name == DISK && !disk_short)
    });
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Ok((status, json(&Readiness { ready, checks })?).into_response())
}

pub(super) async fn version(State(app): State<App>) -> Result<Response, Failure> {
    let areas = app.areas.apart(&app.address());
    let (api_url, files_url) = areas.unzip();
    json(&Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: "v1".to_owned(),
        agent_protocol: 1,
        cluster: app.cluster.to_string(),
        api_url,
        files_url,
    })
}

pub(super) async fn ca_pem(State(app): State<App>) -> Response {
    text("application/x-pem-file", app.ca_pem.clone())
}

pub(super) async fn help(Ref(code): Ref) -> Result<Response, Failure> {
    let row = CODES.iter().find(|c| c.code.eq_ignore_ascii_case(&code));
    let row = row.ok_or_else(|| {
        let near = super::errors::nearest(&code.to_ascii_uppercase(), CODES.iter().map(|c| c.code));
        let failure = Failure::new(
            "LS-NOT-FOUND",
            format!("There is no code {}.", super::errors::cut(&code)),
        );
        match near {
            Some(near) => failure.hint(format!("Did you mean {near}?")),
            None => failure,
        }
    })?;
    Ok(text(
        "text/plain; charset=utf-8",
        format!(
            "{} ({})\n{}\n\n{}\n",
            row.code, row.status, row.title, row.help
        ),
    ))
}

pub(super) async fn document() -> Response {
    static TEXT: OnceLock<String> = OnceLock::new();
    text(
        "application/json",
        TEXT.get_or_init(|| openapi::document().to_string()).clone(),
    )
}

pub(super) async fn setup(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let done = || Failure::new("LS-NOT-FOUND", "The first administrator exists already.");
    if app.identity.is_set_up() {
        return Err(done());
    }
    let engine = app.engine.asked_by(origin(request.extensions())?);
    Query::read(request.uri().query(), &[])?;
    let order = extract::json::<SetupRequest>(request).await?.value;
    if !app.identity.setup_token_is_good(order.token.trim()) {
        return Err(Failure::new("LS-LINK-GONE", "This set-up token is not valid, or no longer.")
            .hint("The file setup-token in the data directory holds the present one; starting the coordinator again makes a new one."));
    }
    let first = FirstAdmin {
        email: order.email,
        username: order.username,
        password: order.password,
        domain: order.domain,
        project: order.project,
    };
    let answer = make_first(&app, &engine, first).await?;
    Ok((StatusCode::CREATED, json(&answer)?).into_response())
}

/// The first administrator as it was asked for.
pub(super) struct FirstAdmin {
    pub(super) email: String,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) domain: Option<String>,
    pub(super) project: Option<String>,
}

/// Makes the first administrator, with a keypair.
pub(super) async fn make_first(
    app: &App,
    engine: &Engine,
    first: FirstAdmin,
) -> Result<SetupAnswer, Failure> {
    let email = fields::clean(&first.email);
    let username = match &first.username {
        Some(name) => fields::clean(name),
        None => email.split('@').next().unwrap_or_default().to_owned(),
    };
    let of_email = fields::email(&email)
        .into_iter()
        .map(|text| ("/email", text));
    let of_name = fields::username(&username).into_iter();
    let of_name = of_name.map(|text| ("/username", text));
    let password = first.password.as_deref();
    let of_password = password.map(|text| fields::password(text, &email, &username));
    let of_password = of_password.into_iter().flatten();
    let of_password = of_password.map(|text| ("/password", text));
    let problems: Vec<(&str, &str)> = of_email.chain(of_name).chain(of_password).collect();
    if let Some((_, first)) = problems.first() {
        let failure = Failure::new("LS-INVALID", *first);
        return Err(problems
            .iter()
            .fold(failure, |f, (at, text)| f.at(*at, *text)));
    }
    let password = match first.password {
        Some(text) => {
            let permit = app.logins.permit().await?;
            Some(permit.hash(Secret::new(text)).await?)
        }
        None => None,
    };
    let now = wall_clock();
    let (access_key, secret_key) = new_keypair();
    let user = User {
        username: username.clone(),
        email: email.clone(),
        role: Role::Superadmin,
        uid: 0, // the engine gives the next one
        password_set_at: password.as_ref().map(|_| now),
        password,
        ..User::new(UserId::new(new_id()), now)
    };
    let keypair = Keypair::new(&access_key, sha256(secret_key.as_bytes()), user.id, now);
    let id = user.id;
    let named = |text: Option<String>| text.map(|text| fields::clean(&text));
    let place = SetupPlace {
        domain: named(first.domain).map(|name| (name, DomainId::new(new_id()))),
        project: named(first.project).map(|name| (name, ProjectId::new(new_id()))),
    };
    let order = SetupOrder {
        user,
        keypair,
        place,
    };
    match engine.ask(Event::Setup(Box::new(order))).await? {
        Ok(Answer::Done) => (),
        Ok(other) => return Err(unexpected(&other)),
        Err(refusal) => return Err(refusal.into()),
    }
    app.identity.setup_done();
    tracing::info!(user = %id, "the first administrator was made");
    Ok(SetupAnswer {
        user: id.to_string(),
        username,
        email,
        access_key,
        secret_key,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::ready;
    use crate::backups::one;
    use crate::config::Backup;
    use crate::disk;
    use crate::store::NoteFilter;
    use longshore_common::notify::NoteEvent;
    use longshore_core::model::{Event, NotifyOrder, NotifySettings};
    use serde_json::{Value, json};

    #[tokio::test]
    async fn a_copy_that_cannot_be_made_is_told_and_takes_nothing_away() {
        let f = ready().await;
        let dir = tempfile::tempdir().unwrap();
        let database = f.app.data_dir.join("longshore.db");
        let to = |name: &str| Backup {
            dir: dir.path().join(name),
            keep: 1,
            ..Backup::default()
        };
        let backup = async || {
            let readiness = f.get("/readyz").await;
            assert_eq!(readiness.status, 200, "it serves all the same");
            let checks = readiness.json()["checks"].as_array().unwrap().clone();
            let check = checks.into_iter().find(|check| check["name"] == "backup");
            check.unwrap()
        };
        let copies = || {
            let files = std::fs::read_dir(dir.path().join("good")).unwrap();
            files.map(|file| file.unwrap().path()).collect::<Vec<_>>()
        };
        let settings = NotifySettings {
            mail: false,
            hooks: vec![("desk".to_owned(), [NoteEvent::Alarm].into())],
        };
        let order = Event::Notify(Box::new(NotifyOrder::Settings(settings)));
        f.app.engine.ask(order).await.unwrap().unwrap();
        one(&f.app, &database, to("good")).await;
        let first = copies();
        assert_eq!(first.len(), 1);
        assert_eq!(backup().await["ok"], true);
        // Of another installation, and what a process left behind that was killed.
        let other = dir
            .path()
            .join("good/longshore-x-2026-11-20T21-05-03.120Z.db");
        std::fs::write(&other, "theirs").unwrap();
        let mut part = first[0].clone().into_os_string();
        part.push(".part");
        std::fs::write(&part, "half").unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        for _ in 0..2 {
            one(&f.app, &database, to("file/below")).await;
        }
        let check: Value = backup().await;
        assert_eq!(check["ok"], false);
        assert!(!check.to_string().contains("below"), "{check}");
        assert!(copies().contains(&first[0]), "the old one stays");
        let filter = NoteFilter {
            limit: 100,
            ..NoteFilter::default()
        };
        let told = f.app.reader.notes(filter).await.unwrap();
        assert_eq!(told.len(), 1, "once: {told:?}");
        let text = &told[0].note.text;
        assert!(text.contains("could not be backed up"), "{text}");
        one(&f.app, &database, to("good")).await;
        assert_eq!(backup().await["ok"], true);
        let left = copies();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(
            !left.contains(&first[0]) && left.contains(&other),
            "{left:?}"
        );
        let whole =
            crate::store::verify_audit_file(left.iter().find(|path| **path != other).unwrap(), []);
        assert!(whole.unwrap().ok);
    }

    #[tokio::test]
    async fn with_little_left_sessions_are_stopped_and_none_begun() {
        let f = ready().await;
        let settings = NotifySettings {
            mail: false,
            hooks: vec![("desk".to_owned(), [NoteEvent::Alarm].into())],
        };
        let order = Event::Notify(Box::new(NotifyOrder::Settings(settings)));
        f.app.engine.ask(order).await.unwrap().unwrap();
        let wanted = json!({"command": ["true"], "slots": {"cpu": "1", "mem": "64M"}});
        let space = |free: u64, total: u64| disk::Space {
            free: free << 20,
            total: total << 20,
        };
        let check = async || {
            let readiness = f.get("/readyz").await;
            let checks = readiness.json()["checks"].as_array().unwrap().clone();
            let disk = checks.into_iter().find(|check| check["name"] == "disk");
            (readiness.status.as_u16(), disk.unwrap()["ok"] == true)
        };
        disk::take(&f.app, space(100, 1000)).await;
        assert_eq!(check().await, (200, true));
        let same = [
            ("content-type", "application/json"),
            ("idempotency-key", "k1"),
        ];
        let again = async || {
            let body = wanted.to_string();
            f.send(
                "POST",
                "/api/v1/sessions",
                &same,
                axum::body::Body::from(body),
            )
            .await
        };
        let first = again().await;
        assert_eq!(first.status, 201, "{}", first.text());
        for _ in 0..2 {
            disk::take(&f.app, space(50, 1000)).await;
        }
        assert_eq!(check().await, (200, false), "it serves all the same");
        let refused = f.post("/api/v1/sessions", &wanted).await;
        assert_eq!(refused.status, 507, "{}", refused.text());
        assert_eq!(refused.json()["code"], "LS-DISK-LOW");
        // What was made is told of to whoever did not hear it.
        let replay = again().await;
        assert_eq!(replay.status, 201, "{}", replay.text());
        assert_eq!(replay.json()["id"], first.json()["id"]);
        let id = first.json()["id"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/sessions/{id}/terminate");
        let stopped = f.post(&path, &json!({})).await;
        assert!(stopped.status.is_success(), "{}", stopped.text());
        disk::take(&f.app, space(5, 1000)).await;
        assert_eq!(check().await, (503, false));
        let filter = NoteFilter {
            limit: 100,
            ..NoteFilter::default()
        };
        let told = f.app.reader.notes(filter).await.unwrap();
        assert_eq!(told.len(), 1, "once: {told:?}");
        assert!(told[0].note.text.contains("50 of 1000 MiB free"));
        disk::take(&f.app, space(200, 1000)).await;
        assert_eq!(check().await, (200, true));
        let again = f.post("/api/v1/sessions", &wanted).await;
        assert_eq!(again.status, 201, "{}", again.text());
    }
}
