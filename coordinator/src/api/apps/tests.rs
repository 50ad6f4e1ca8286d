//! What is shown and refused; the connections themselves are tested against real agents.

use crate::api::tests::{Answer, Fixture, batch, ready};
use axum::body::Body;
use longshore_common::wire::{FromTunnel, ToTunnel};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::sync::oneshot::error::TryRecvError;

const SESSION: &str = "/api/v1/sessions/s-1";

/// A session with two ports that waits.
async fn waiting() -> Fixture {
    let f = ready().await;
    f.start(None).await;
    let mut request = batch();
    request["ports"] = json!([
        { "name": "web", "protocol": "http", "port": 8000 },
        { "name": "db", "port": 5432, "command": ["db", "{port}"] },
    ]);
    let made = f.submit(request).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["app_names"], json!(["web", "db"]));
    f
}

async fn running() -> Fixture {
    let f = waiting().await;
    f.runs("s-1").await;
    f
}

/// Asks for a connection, as a browser on a page of this origin would.
async fn forward(f: &Fixture, query: &str, origin: Option<&str>) -> Answer {
    forward_as(f, query, origin, &[]).await
}

/// The same with more headers.
async fn forward_as(
    f: &Fixture,
    query: &str,
    origin: Option<&str>,
    more: &[(&str, &str)],
) -> Answer {
    let mut headers = vec![
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", "longshore.v1"),
    ];
    headers.extend(origin.map(|origin| ("origin", origin)));
    headers.extend_from_slice(more);
    let path = format!("{SESSION}/forward{query}");
    f.send("GET", &path, &headers, Body::empty()).await
}

#[tokio::test]
async fn ports_are_judged_when_a_session_is_submitted() {
    let f = ready().await;
    let mut request = batch();
    request["ports"] = json!([{ "name": "ssh", "port": 0 }]);
    let refused = f.submit(request).await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (422, "LS-PORT")
    );
    let errors = refused.json()["errors"].as_array().unwrap().len();
    assert_eq!(errors, 2, "{}", refused.text());
}

#[tokio::test]
async fn apps_are_listed_and_ready_once_their_container_runs() {
    let f = waiting().await;
    let apps = async || {
        let answer = f.get(&format!("{SESSION}/apps")).await.json();
        answer["items"].as_array().unwrap().clone()
    };
    let before = apps().await;
    assert!(
        before.iter().all(|app| app["ready"] == json!(false)),
        "{before:?}"
    );
    f.runs("s-1").await;
    let after = apps().await;
    let names: Vec<&str> = after.iter().map(|a| a["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["web", "db", "terminal", "ssh"]);
    let db = json!({ "name": "db", "protocol": "tcp", "port": 5432,
        "command": ["db", "{port}"], "ready": true });
    assert_eq!(after[1], db);
}

#[tokio::test]
async fn access_names_the_address_of_an_app_in_a_running_session() {
    let f = waiting().await;
    let ask = async |name: &str| {
        let path = format!("{SESSION}/apps/{name}/access");
        f.post(&path, &Value::Null).await
    };
    assert_eq!(ask("web").await.code(), "LS-STATE");
    f.runs("s-1").await;
    let web = ask("web").await.json();
    let wanted = "wss://test:7420/api/v1/sessions/s-1/forward?port=8000";
    assert_eq!(web["url"], wanted);
    assert_eq!(
        (&web["via"], &web["protocol"]),
        (&json!("coordinator"), &json!("http"))
    );
    assert_eq!(ask("none").await.code(), "LS-NOT-FOUND");
    let terminal = ask("terminal").await.json();
    assert_eq!(
        terminal["url"],
        "https://test:7420/api/v1/sessions/s-1/exec"
    );
}

#[tokio::test]
async fn only_a_declared_port_of_a_running_session_is_connected_to() {
    let f = waiting().await;
    assert_eq!(forward(&f, "?port=8000", None).await.code(), "LS-STATE");
    let f = running().await;
    let other = forward(&f, "?port=22", None).await;
    assert_eq!(
        (other.status.as_u16(), other.code().as_str()),
        (422, "LS-PORT")
    );
    assert!(
        other.text().contains("8000 (web), 5432 (db)"),
        "{}",
        other.text()
    );
    for bad in ["", "?port=0", "?port=8000&rank=x", "?port=8000&app=web"] {
        assert_eq!(forward(&f, bad, None).await.code(), "LS-PARAMETER", "{bad}");
    }
    assert_eq!(
        forward(&f, "?port=8000&rank=sub7", None).await.code(),
        "LS-INVALID"
    );
    // In this process there is no connection that could be taken over.
    assert_eq!(forward(&f, "?port=8000", None).await.code(), "LS-WEBSOCKET");
}

#[tokio::test]
async fn a_page_of_another_origin_connects_nowhere() {
    let f = running().await;
    for other in ["https://test:7422", "https://evil.example", "null"] {
        let answer = forward(&f, "?port=8000", Some(other)).await;
        assert_eq!(answer.code(), "LS-CSRF", "{other}");
    }
    let own = forward(&f, "?port=8000", Some("https://test:7420")).await;
    assert_eq!(own.code(), "LS-WEBSOCKET", "past that check");
}

#[tokio::test]
async fn a_cookie_opens_nothing_for_pages_whose_cookies_do_not_count() {
    use crate::api::cors::Cors;
    let f = running().await;
    let password = json!({ "new": "Kahn-im-Hafen-17" });
    assert_eq!(f.post("/api/v1/me/password", &password).await.status, 204);
    let login = json!({ "login": "dana", "password": "Kahn-im-Hafen-17", "client": "console" });
    let anonymous = [("authorization", ""), ("content-type", "application/json")];
    let body = Body::from(login.to_string());
    let answer = f.send("POST", "/api/v1/auth/login", &anonymous, body).await;
    let set = answer.header("set-cookie").to_owned();
    let cookie = [
        ("authorization", ""),
        ("cookie", set.split(';').next().unwrap()),
    ];
    let listed = |origins: &[&str], credentials| Cors {
        origins: origins.iter().map(|o| (*o).to_owned()).collect(),
        credentials,
        ..Cors::default()
    };
    let (own, page) = (Some("https://test:7420"), Some("https://pages.lab"));
    // What comes after that check is that nothing here can be taken over.
    let (opens, refused) = ("LS-WEBSOCKET", "LS-CSRF");
    for (cors, by_key, by_cookie) in [
        (listed(&["*"], false), opens, refused),
        (listed(&["https://pages.lab"], false), opens, refused),
        (listed(&["https://pages.lab"], true), opens, opens),
        (listed(&[], false), refused, refused),
    ] {
        f.app.cors.set(cors.clone());
        for (origin, by_key, by_cookie) in [
            (own, opens, opens),
            (page, by_key, by_cookie),
            (None, opens, refused),
        ] {
            let key = forward(&f, "?port=8000", origin).await;
            let login = forward_as(&f, "?port=8000", origin, &cookie).await;
            let told = (key.code(), login.code());
            let wanted = (by_key.to_owned(), by_cookie.to_owned());
            assert_eq!(told, wanted, "{origin:?} {cors:?}");
        }
    }
}

#[tokio::test]
async fn only_a_person_is_sent_on_to_an_app() {
    let f = running().await;
    let go = async |mode: &str, dest: &str, site: &str| {
        let headers = [
            ("sec-fetch-mode", mode),
            ("sec-fetch-dest", dest),
            ("sec-fetch-site", site),
        ];
        let path = "/s/s-1/web/a?b=1&c=%22";
        f.send("GET", path, &headers, Body::empty()).await
    };
    let by_hand = go("navigate", "document", "none").await;
    assert_eq!(by_hand.status, 303, "{}", by_hand.text());
    for (mode, dest, site) in [
        ("no-cors", "empty", "same-site"),
        ("navigate", "iframe", "same-origin"),
        ("navigate", "document", "cross-site"),
    ] {
        let asked = go(mode, dest, site).await;
        assert_eq!(asked.status, 403, "{mode} {dest} {site}");
        assert!(!asked.headers.contains_key("location"));
        let text = asked.text();
        assert!(text.contains("app web of session s-1"), "{text}");
        let link = "<a href=\"/s/s-1/web/a?b=1&amp;c=%22\">";
        assert!(text.contains(link), "{text}");
    }
}

/// A connection whose ends are held here, and what says that the right to it is lost.
struct Connection {
    inside: super::Inside,
    app: tokio::sync::mpsc::Sender<FromTunnel>,
    _to_app: tokio::sync::mpsc::Receiver<ToTunnel>,
    lose: tokio::sync::oneshot::Sender<()>,
    /// Errs once nothing is held for the connection any more.
    held: tokio::sync::oneshot::Receiver<()>,
}

fn connection() -> Connection {
    let (to, to_app) = tokio::sync::mpsc::channel(4);
    let (app, from) = tokio::sync::mpsc::channel(4);
    let (lose, lost) = tokio::sync::oneshot::channel();
    let (guard, held) = tokio::sync::oneshot::channel::<()>();
    let lost = async {
        match lost.await {
            Ok(()) => super::no_app(),
            Err(_) => std::future::pending().await,
        }
    };
    Connection {
        inside: super::connected_to(super::TunnelEnds { to, from }, lost, guard),
        app,
        _to_app: to_app,
        lose,
        held,
    }
}

#[tokio::test]
async fn only_an_end_that_the_app_made_reads_as_one() {
    let read = async |inside: &mut super::Inside| {
        let mut all = Vec::new();
        inside.read_to_end(&mut all).await.map(|_| all)
    };
    let mut whole = connection();
    let said = FromTunnel::Data(b"all".to_vec());
    whole.app.send(said).await.unwrap();
    whole.app.send(FromTunnel::End).await.unwrap();
    assert_eq!(read(&mut whole.inside).await.unwrap(), b"all");

    let mut away = connection();
    drop(away.app);
    assert!(read(&mut away.inside).await.is_err());

    let mut lost = connection();
    lost.lose.send(()).unwrap();
    assert!(read(&mut lost.inside).await.is_err());
    assert!(lost.held.await.is_err(), "nothing is held for it");
}

#[tokio::test(start_paused = true)]
async fn what_is_held_for_a_connection_is_held_until_it_is_over() {
    let mut open = connection();
    assert!(open.held.try_recv() == Err(TryRecvError::Empty));
    // Its browser has gone; the app takes nothing and says nothing.
    drop(open.inside);
    assert!(open.held.await.is_err());
}
