//! The socket for the administrator of this machine.

use super::App;
use super::errors::Failure;
use super::service::{FirstAdmin, make_first};
use crate::engine::{Origin, wall_clock};
use crate::identity::new_id;
use crate::local::{Ask, LONGEST, PATIENCE, Told};
use crate::pki::fill_random;
use crate::secrets::{MasterKey, rotate};
use longshore_common::ids::InvitationId;
use longshore_common::redact::MASK;
use longshore_core::model::Event;
use longshore_core::model::logins::{LoginEvent, NewLink};
use longshore_identity::audit::{Actor, ActorKind, Outcome};
use longshore_identity::token;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};

/// Questions at a time; each is one person at a terminal.
const MOST: usize = 8;
/// How long a link to choose a password is good, in milliseconds.
const LINK_MS: i64 = 3_600_000;
/// How long one question rotates: less than who asks waits for an answer.
const ROTATE: std::time::Duration = std::time::Duration::from_secs(20);
/// After a connection that could not be taken.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

/// Makes the socket. What an earlier process left there goes, and nothing else: neither a file of
/// somebody nor the socket of a coordinator that is there.
///
/// # Errors
/// It cannot be made, such as with a path of more than 107 bytes.
pub fn bind(path: &Path) -> std::io::Result<UnixListener> {
    let is_socket = match std::fs::symlink_metadata(path) {
        Ok(known) => known.file_type().is_socket(),
        Err(_) => false, // what is wrong with it is said when it is made
    };
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers until the coordinator stops.
pub async fn serve(app: App, listener: UnixListener, mut stopping: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(MOST));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to the local socket could not be taken");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(held) = Arc::clone(&room).try_acquire_owned() else {
            continue; // closed at once
        };
        let app = app.clone();
        tokio::spawn(super::GUARDED.scope((), async move {
            let _held = held;
            let answered = tokio::time::timeout(PATIENCE, answer(&app, stream)).await;
            if let Ok(Err(error)) = answered {
                tracing::debug!(%error, "a question at the local socket broke off");
            }
        }));
    }
}

async fn answer(app: &App, stream: UnixStream) -> std::io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        tracing::warn!(uid, "somebody who is not root asked at the local socket");
        return Ok(());
    }
    let mut line = String::new();
    let mut stream = BufReader::new(stream);
    (&mut stream).take(LONGEST).read_line(&mut line).await?;
    let told = match serde_json::from_str::<Ask>(&line) {
        Ok(question) => told(app, uid, question).await,
        Err(_) => Err(Failure::new("LS-SYNTAX", "The question is not understood.")),
    };
    let told = told.map_or_else(refused, Told::Done);
    let mut line = serde_json::to_vec(&told)?;
    line.push(b'\n');
    stream.get_mut().write_all(&line).await?;
    stream.get_mut().shutdown().await
}

fn refused(failure: Failure) -> Told {
    let all = failure.errors.iter().map(|error| error.message.clone());
    let mut why: Vec<String> = all.collect();
    if why.is_empty() {
        why.push(failure.detail);
    }
    Told::No(failure.code.to_owned(), why)
}

async fn told(app: &App, uid: u32, question: Ask) -> Result<Vec<String>, Failure> {
    let name = match uid {
        0 => "root".to_owned(),
        uid => format!("uid {uid}"),
    };
    let engine = app.engine.asked_by(Arc::new(Origin {
        actor: Actor::new(ActorKind::Local).called("", &name),
        client_ip: None,
        request_id: String::new(),
    }));
    match question {
        Ask::Settings => {
            let stored = app.engine.read(|state, _| state.settings.clone()).await?;
            let mut values = stored.values;
            for key in stored.secrets.into_keys() {
                values.insert(key, MASK.into());
            }
            let line = serde_json::to_string(&values).map_err(|_| Failure::internal())?;
            Ok(vec![line])
        }
        Ask::SecretsStatus => rotate::status(&app.secrets).await.map_err(Into::into),
        Ask::SecretsRotate { key } => {
            let key = MasterKey::parse(&key);
            let key = key.map_err(|error| Failure::new("LS-INVALID", error.to_string()))?;
            // One that lacks a key already must not begin with another.
            app.secrets.keyring().present()?;
            let detail = format!("master key {}", key.id());
            let origin = Origin {
                actor: Actor::new(ActorKind::Local).called("", &name),
                ..Origin::system()
            };
            let draft = origin.draft("secrets.rotate", Outcome::Ok).detail(&detail);
            engine.record(draft).await?;
            app.secrets.keyring().begin_with(key);
            Ok(rotate::run(&app.secrets, ROTATE).await?)
        }
        Ask::SetupToken => {
            if app.identity.is_set_up() {
                let text = "There is an administrator already.";
                return Err(Failure::new("LS-STATE", text));
            }
            let made = app.identity.offer_setup(&app.address());
            let link = made.and_then(std::fs::read_to_string).map_err(|error| {
                tracing::error!(%error, "the set-up token could not be written");
                Failure::internal()
            })?;
            Ok(vec![link.trim().to_owned()])
        }
        Ask::AdminCreate {
            email,
            username,
            password,
            domain,
            project,
        } => {
            let first = FirstAdmin {
                email,
                username,
                password,
                domain,
                project,
            };
            let made = make_first(app, &engine, first).await?;
            Ok(vec![
                format!("user {} ({})", made.username, made.user),
                format!("access_key {}", made.access_key),
                format!("secret_key {}", made.secret_key),
            ])
        }
        Ask::AdminRecover { email } => {
            let secret = token::link(&mut fill_random);
            let at = wall_clock();
            let link = NewLink {
                id: InvitationId::new(new_id()),
                token_sha256: *secret.sha256().as_bytes(),
                at,
                expires_at: at.plus_ms(LINK_MS),
            };
            let name = email.trim().to_owned();
            let event = LoginEvent::Recover { email, link };
            engine.ask(Event::Login(Box::new(event))).await??;
            let (only_fixed, user) = app
                .engine
                .read(move |state, _| {
                    let user = state.user_of_name(&name);
                    let listed = user.filter(|user| state.is_fixed(user.id));
                    let listed = listed.map(|user| user.username.clone());
                    (state.people_settings.fixed_users_only, listed)
                })
                .await?;
            let key = "daemon.auth.fixed_users";
            Ok(vec![match (only_fixed, user) {
                (false, _) => app.links.reset(&app.address(), &secret),
                (true, Some(user)) => {
                    format!("{user} is an active superadmin; the password stands in {key}")
                }
                (true, None) => format!(
                    "an active superadmin, who can log in once {key} lists it, or is switched off"
                ),
            }])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ready;
    use super::*;
    use crate::local::ask;
    use longshore_core::model::admin::FixedOrder;
    use serde_json::json;

    #[tokio::test]
    async fn a_new_master_key_while_serving() {
        let f = ready().await;
        let before = f.app.secrets.keyring().present().unwrap();
        let new = MasterKey::draw(&mut fill_random);
        let ask = || Ask::SecretsRotate {
            key: new.expose().to_string(),
        };
        let said = told(&f.app, 0, ask()).await.unwrap();
        assert!(said[0].contains(new.id()), "{said:?}");
        assert_eq!(f.app.secrets.keyring().present().unwrap(), new.id());
        assert!(told(&f.app, 0, ask()).await.is_ok());
        let said = told(&f.app, 0, Ask::SecretsStatus).await.unwrap();
        assert!(
            said[0].contains(new.id()) && said[0].contains("present"),
            "{said:?}"
        );
        assert!(said[1].contains(&before), "{said:?}");
        let no = Ask::SecretsRotate {
            key: "x".to_owned(),
        };
        assert_eq!(told(&f.app, 0, no).await.unwrap_err().code, "LS-INVALID");
        let records = f.get("/api/v1/audit?operation=secrets.rotate").await.json();
        assert_eq!(
            records["items"][0]["detail"],
            format!("master key {}", new.id())
        );
    }

    #[tokio::test]
    async fn no_link_where_the_configuration_has_the_passwords() {
        let f = ready().await;
        let order = FixedOrder {
            enabled: true,
            ..FixedOrder::default()
        };
        let event = Event::FixedUsers(Box::new(order));
        f.app.engine.ask(event).await.unwrap().unwrap();
        let email = "dana@lab.example".to_owned();
        let said = told(&f.app, 0, Ask::AdminRecover { email }).await.unwrap();
        assert_eq!(
            said,
            [
                "an active superadmin, who can log in once daemon.auth.fixed_users lists it, or is \
              switched off"
            ]
        );
        let links = f.app.engine.read(|state, _| state.invitations.len());
        assert_eq!(links.await.unwrap(), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_way_back_in() {
        let f = ready().await;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("local.sock");
        let listener = bind(&path).unwrap();
        let (stop, stopping) = watch::channel(false);
        let served = tokio::spawn(serve(f.app.clone(), listener, stopping));
        let asked = tokio::task::spawn_blocking(move || {
            let create = Ask::AdminCreate {
                email: "erin@lab.example".to_owned(),
                username: None,
                password: Some("abc".to_owned()),
                domain: None,
                project: None,
            };
            let recover = |email: &str| Ask::AdminRecover {
                email: email.to_owned(),
            };
            [
                ask(&path, &Ask::SetupToken),
                ask(&path, &create),
                ask(&path, &recover("nobody@x")),
                ask(&path, &recover("dana@lab.example")),
            ]
            .map(|told| told.map_err(|error| error.to_string()))
        });
        let [setup, create, nobody, link] = asked.await.unwrap();
        assert!(setup.unwrap_err().contains("already"));
        assert!(
            create
                .unwrap_err()
                .contains("Password must have at least 8")
        );
        assert_eq!(
            nobody.unwrap_err(),
            "LS-NOT-FOUND: There is no user nobody@x."
        );
        let link = link.unwrap().remove(0);
        let token = link.split_once("/reset#").unwrap().1;
        let body = json!({ "token": token, "password": "correct horse 1!" });
        let answer = f.post("/api/v1/auth/reset", &body).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
        let actors = f.get("/api/v1/audit?operation=user.role").await.json();
        assert_eq!(actors["items"][0]["actor"]["kind"], "local");
        stop.send(true).unwrap();
        served.await.unwrap();
        let nobody = ask(&f.app.data_dir.join("local.sock"), &Ask::SetupToken).unwrap_err();
        assert!(nobody.to_string().contains("does not run"));
    }

    #[tokio::test]
    async fn only_what_an_ended_process_left_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        drop(bind(&path).unwrap());
        let held = bind(&path).unwrap();
        assert!(bind(&path).is_err(), "somebody answers there");
        drop(held);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "a file").unwrap();
        assert!(bind(&path).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"a file");
    }
}
