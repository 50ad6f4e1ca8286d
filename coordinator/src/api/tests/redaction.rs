//! Values that nobody is shown, at every place that shows an environment or arguments.

use super::{AGENT, Fixture, ready};
use axum::body::Body;
use longshore_core::model::Event;
use serde_json::{Value, json};

const LIST: &str = "/api/v1/settings/redaction";
const SECRET: &str = "hunter2";

/// Sessions whose environment and arguments hold what `names` stand for; the answers.
async fn session(f: &Fixture, names: &[&str]) -> String {
    let mut all = String::new();
    let mut environment = json!({ "PLAIN": "seen" });
    let mut command = vec!["env".to_owned()];
    for name in names {
        environment[*name] = json!(SECRET);
        command.push(format!("{name}={SECRET}"));
        command.extend(["-e".to_owned(), format!("{name}={SECRET}")]);
        command.push(format!("--env={name}={SECRET}"));
    }
    let script = format!("export {}={SECRET} PLAIN=seen", names[0]);
    command.extend(["sh".to_owned(), "-c".to_owned(), script]);
    // One that has its place, and one that waits.
    for hold in [false, true] {
        let body = json!({ "command": command, "environment": environment, "hold": hold });
        let made = f.submit(body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        all.push_str(&made.text());
    }
    all
}

/// Every answer that shows sessions, as one text.
async fn everywhere(f: &Fixture) -> String {
    let mut all = String::new();
    for path in [
        "/api/v1/sessions/s-1",
        "/api/v1/sessions/s-2",
        "/api/v1/sessions?scope=all",
        "/api/v1/sessions?ended=true",
        "/api/v1/resource-groups/default/pending",
        "/api/v1/sessions/s-1/history",
        "/api/v1/sessions/s-1/explain",
        "/api/v1/exports/sessions",
        "/api/v1/audit",
        "/api/v1/audit?operation=session.create",
        "/api/v1/agents/gpu01",
    ] {
        let answer = f.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        all.push_str(&answer.text());
    }
    assert!(
        all.contains("s-1") && all.contains("session.create"),
        "{all}"
    );
    all
}

#[tokio::test]
async fn a_listed_value_is_a_mask_wherever_a_session_is_shown() {
    let f = ready().await;
    let answers = session(&f, &["HF_TOKEN", "DB_PASSWORD"]).await;
    assert!(!answers.contains(SECRET), "{answers}");
    let key = f.app.engine.read(|s, _| {
        let session = &s.sessions[&longshore_common::ids::SessionId(1)];
        session.containers[0].key
    });
    let event = Event::FileNotice {
        agent: AGENT,
        key: key.await.unwrap(),
        text: format!("exec: \"HF_TOKEN={SECRET} x\": no such file; PLAIN=seen"),
    };
    f.app.engine.ask(event).await.unwrap().unwrap();
    let shown = f.get("/api/v1/sessions/s-1").await.json();
    assert_eq!(
        shown["environment"],
        json!({ "PLAIN": "seen", "HF_TOKEN": "********", "DB_PASSWORD": "********" })
    );
    let command = shown["command"].as_array().unwrap();
    assert_eq!(
        command[1..5],
        [
            json!("HF_TOKEN=********"),
            json!("-e"),
            json!("HF_TOKEN=********"),
            json!("--env=HF_TOKEN=********"),
        ]
    );
    assert_eq!(
        command.last().unwrap(),
        "export HF_TOKEN=******** PLAIN=seen"
    );
    let history = f.get("/api/v1/sessions/s-1/history").await.text();
    assert!(history.contains("HF_TOKEN=********"), "{history}");
    assert!(history.contains("no such file; PLAIN=seen"), "{history}");
    f.runs("s-1").await;
    f.ends("s-1", 1).await;
    assert!(!everywhere(&f).await.contains(SECRET));
}

async fn put(f: &Fixture, path: &str, body: Value) -> super::Answer {
    f.put(path, "*", &body).await
}

#[tokio::test]
async fn the_list_is_stored_acts_at_once_and_goes_back_to_the_files() {
    let f = ready().await;
    session(&f, &["LAB_PIN", "HF_TOKEN"]).await;
    let before = f.get(LIST).await.json();
    assert_eq!(
        (&before["version"], &before["source"]),
        (&json!(1), &json!("default"))
    );
    assert_eq!(before["names"].as_array().unwrap().len(), 12);
    let rehearsed = put(&f, &format!("{LIST}?dry_run=true"), json!({ "names": [] })).await;
    assert_eq!(rehearsed.header("longshore-dry-run"), "true");
    assert_eq!(
        rehearsed.json()["impact"]["diff"][0]["path"],
        "/values/secure.redaction.names"
    );
    assert_eq!(f.get(LIST).await.json(), before);
    let stored = put(&f, LIST, json!({ "names": ["LAB_*"] })).await;
    assert_eq!(stored.status, 200, "{}", stored.text());
    let stored = stored.json();
    assert_eq!(
        (&stored["version"], &stored["source"], &stored["names"]),
        (&json!(2), &json!("settings"), &json!(["LAB_*"]))
    );
    let shown = f.get("/api/v1/sessions/s-1").await.json();
    assert_eq!(shown["environment"]["LAB_PIN"], "********");
    assert_eq!(shown["environment"]["HF_TOKEN"], SECRET);
    let stale = f.put(LIST, "\"1\"", &json!({ "names": [] })).await;
    assert_eq!(stale.code(), "LS-VERSION-STALE");
    let reset = put(&f, LIST, json!({ "names": null })).await.json();
    assert_eq!(
        (&reset["names"], &reset["source"]),
        (&before["names"], &before["source"])
    );
    let shown = f.get("/api/v1/sessions/s-1").await.json();
    assert_eq!(shown["environment"]["LAB_PIN"], SECRET);
    let wrong = put(&f, LIST, json!({ "names": ["A", "B-C", "*"] })).await;
    assert_eq!(wrong.code(), "LS-SETTING");
    let errors = wrong.json()["errors"].clone();
    let at: Vec<_> = errors
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["pointer"])
        .collect();
    assert_eq!(at, ["/names/1", "/names/2"]);
}

#[tokio::test]
async fn people_hide_more_for_themselves_alone() {
    let f = ready().await;
    session(&f, &["LAB_PIN"]).await;
    let patch = async |body: Value| {
        let headers = [("content-type", "application/json")];
        f.send(
            "PATCH",
            "/api/v1/me",
            &headers,
            Body::from(body.to_string()),
        )
        .await
    };
    let wrong = patch(json!({ "redaction_names": ["A", "a b"] })).await;
    assert_eq!(wrong.status, 422, "{}", wrong.text());
    assert_eq!(wrong.json()["errors"][0]["pointer"], "/redaction_names/1");
    let changed = patch(json!({ "redaction_names": ["LAB_*"] })).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert_eq!(changed.json()["redaction_names"], json!(["LAB_*"]));
    assert!(!everywhere(&f).await.contains(SECRET));
    let list = f.get(LIST).await.json();
    assert_eq!(list["names"].as_array().unwrap().len(), 12, "of one alone");
    patch(json!({ "redaction_names": [] })).await;
    assert!(everywhere(&f).await.contains(SECRET));
}

#[tokio::test]
async fn a_vault_hides_more_of_the_sessions_it_reaches() {
    let f = ready().await;
    let content = json!({ "agent": { "redact": ["LAB_*", "no name"] } }).to_string();
    let body = json!({ "format": "json", "content": content, "enabled": true });
    let saved = f.put("/api/v1/me/vault", "*", &body).await;
    assert_eq!(saved.status, 200, "{}", saved.text());
    let answers = session(&f, &["LAB_PIN"]).await;
    assert!(!answers.contains(SECRET), "{answers}");
    assert!(!everywhere(&f).await.contains(SECRET));
    // What the attempt really gets is what is hidden of it from then on.
    let off = json!({ "enabled": false });
    f.patch("/api/v1/me/vault", "*", &off).await;
    let given = f
        .app
        .vaults
        .deliver(
            &f.app.engine,
            longshore_common::ids::SessionId(1),
            longshore_common::ids::AgentId::new(1),
        )
        .await;
    assert!(given.is_ok());
    assert!(everywhere(&f).await.contains(SECRET));
}
