//! What is refused, and what is entered; the stream itself is tested against real agents.

use crate::api::tests::{Answer, Fixture, batch, ready, ready_with_admin_exec};
use axum::body::Body;
use serde_json::{Value, json};

const EXEC: &str = "/api/v1/sessions/s-1/exec";

fn command() -> Value {
    json!({ "command": ["true"] })
}

async fn with_session(f: Fixture) -> Fixture {
    f.start(None).await;
    let made = f.submit(batch()).await;
    assert_eq!(made.status, 201, "{}", made.text());
    f
}

async fn running() -> Fixture {
    let f = with_session(ready().await).await;
    f.runs("s-1").await;
    f
}

/// Another person of the same domain, with this role; the answer is the old bearer.
async fn somebody_else(f: &mut Fixture, role: &str) -> String {
    let body = json!({ "email": "eve@lab.example", "username": "eve", "role": role,
        "password": "Correct-horse-battery-9" });
    let made = f.post("/api/v1/users", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let keys = f.post("/api/v1/keypairs", &json!({ "user": id })).await;
    assert_eq!(keys.status, 201, "{}", keys.text());
    let keys = keys.json();
    let text = |name: &str| keys[name].as_str().unwrap().to_owned();
    let before = f.bearer_text();
    f.bearer(&format!(
        "Bearer {}.{}",
        text("access_key"),
        text("secret_key")
    ));
    before
}

/// Asks for the stream with these sub-protocols.
async fn connect(f: &Fixture, made: &Value, protocols: &str) -> Answer {
    let path = format!("{EXEC}/{}/stream", made["id"].as_str().unwrap());
    let headers = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-protocol", protocols),
    ];
    f.send("GET", &path, &headers, Body::empty()).await
}

#[tokio::test]
async fn one_is_opened_in_a_running_session_only() {
    let f = with_session(ready().await).await;
    let early = f.post(EXEC, &command()).await;
    assert_eq!(
        (early.status.as_u16(), early.code().as_str()),
        (409, "LS-STATE")
    );
    f.runs("s-1").await;
    let made = f.post(EXEC, &command()).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let exec = made.json();
    assert_eq!(
        (&exec["state"], &exec["kind"]),
        (&json!("created"), &json!("command"))
    );
    assert!(exec["token"].as_str().unwrap().len() >= 22);
    let place = made.header("location").to_owned();
    assert_eq!(place, format!("{EXEC}/{}", exec["id"].as_str().unwrap()));
    let seen = f.get(&place).await.json();
    assert_eq!((&seen["id"], seen.get("token")), (&exec["id"], None));
    assert_eq!(f.get(&format!("{EXEC}/x")).await.code(), "LS-NOT-FOUND");
    let ghost = f.post("/api/v1/sessions/s-9/exec", &command()).await;
    assert_eq!(ghost.code(), "LS-NOT-FOUND");
}

#[tokio::test]
async fn what_is_wrong_is_named_and_a_rehearsal_enters_nothing() {
    let f = running().await;
    let bad = json!({ "kind": "shell", "workdir": "x", "environment": { "LD_PRELOAD": "x" } });
    let bad = f.post(EXEC, &bad).await;
    assert_eq!(bad.code(), "LS-INVALID");
    assert_eq!(bad.json()["errors"].as_array().unwrap().len(), 4);
    let other = f
        .post(EXEC, &json!({ "command": ["true"], "rank": "sub1" }))
        .await;
    assert_eq!(other.code(), "LS-INVALID");
    let rehearsed = f.post(&format!("{EXEC}?dry_run=true"), &command()).await;
    assert_eq!(rehearsed.status, 201);
    assert_eq!(rehearsed.header("longshore-dry-run"), "true");
    let exec = rehearsed.json();
    assert!(exec.get("token").is_none());
    let path = format!("{EXEC}/{}", exec["id"].as_str().unwrap());
    assert_eq!(f.get(&path).await.code(), "LS-NOT-FOUND");
}

#[tokio::test]
async fn a_session_takes_so_many() {
    let f = running().await;
    for _ in 0..32 {
        assert_eq!(f.post(EXEC, &command()).await.status, 201);
    }
    let more = f.post(EXEC, &command()).await;
    assert_eq!(
        (more.status.as_u16(), more.code().as_str()),
        (429, "LS-STREAMS")
    );
    assert!(!more.header("retry-after").is_empty());
}

#[tokio::test]
async fn the_stream_wants_its_token_and_a_websocket() {
    let f = running().await;
    let made = f.post(EXEC, &command()).await.json();
    let good = format!("longshore.v1, token.{}", made["token"].as_str().unwrap());
    for bad in ["longshore.v1", "longshore.v1, token.x", ""] {
        let answer = connect(&f, &made, bad).await;
        assert_eq!(answer.code(), "LS-NOT-FOUND", "{bad}");
    }
    // In this process there is no connection that could be taken over.
    let plain = connect(&f, &made, &good).await;
    assert_eq!(
        (plain.status.as_u16(), plain.code().as_str()),
        (426, "LS-WEBSOCKET")
    );
    let path = format!("{EXEC}/{}", made["id"].as_str().unwrap());
    assert_eq!(f.get(&path).await.json()["state"], "created");
}

#[tokio::test]
async fn who_is_not_the_owner_opens_nothing() {
    let mut f = running().await;
    let made = f.post(EXEC, &command()).await.json();
    let path = format!("{EXEC}/{}", made["id"].as_str().unwrap());
    let owner = somebody_else(&mut f, "user").await;
    assert_eq!(f.post(EXEC, &command()).await.code(), "LS-NOT-FOUND");
    assert_eq!(f.get(&path).await.code(), "LS-NOT-FOUND");
    f.bearer(&owner);
    assert_eq!(f.get(&path).await.status, 200);
}

#[tokio::test]
async fn an_administrator_opens_one_only_where_that_is_allowed_and_written_down() {
    let mut f = running().await;
    somebody_else(&mut f, "superadmin").await;
    let denied = f.post(EXEC, &command()).await;
    assert_eq!(
        (denied.status.as_u16(), denied.code().as_str()),
        (403, "LS-FORBIDDEN")
    );

    let mut f = with_session(ready_with_admin_exec().await).await;
    f.runs("s-1").await;
    let by_owner = f.post(EXEC, &command()).await.json();
    let owner = somebody_else(&mut f, "superadmin").await;
    let made = f.post(EXEC, &json!({ "kind": "terminal" })).await;
    assert_eq!(made.status, 201, "{}", made.text());
    // It is theirs alone all the same.
    let path = format!("{EXEC}/{}", by_owner["id"].as_str().unwrap());
    assert_eq!(f.get(&path).await.code(), "LS-NOT-FOUND");
    let records = f
        .get("/api/v1/audit?operation=session.reach&outcome=ok")
        .await
        .json();
    let items = records["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{records}");
    f.bearer(&owner);
    let history = f.get("/api/v1/sessions/s-1/history").await.json();
    let lines = history["items"].as_array().unwrap();
    let reached: Vec<&Value> = lines
        .iter()
        .filter(|l| l["reached"] == "terminal")
        .collect();
    assert_eq!(reached.len(), 1, "{history}");
}
