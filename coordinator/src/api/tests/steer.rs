//! `hold`, `release`, `restart` and changes through the router; the loss of nodes confirmed.

use super::{AGENT, Fixture, batch, ready};
use axum::body::Body;
use longshore_core::model::Event;
use serde_json::{Value, json};

const SESSION: &str = "/api/v1/sessions/s-1";

async fn held() -> Fixture {
    let f = ready().await;
    let mut body = batch();
    body["hold"] = json!(true);
    body["restart"] = json!({ "max": 2, "on": ["failed", "agent-lost"] });
    let answer = f.submit(body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    f
}

async fn shown(f: &Fixture) -> Value {
    f.get(SESSION).await.json()
}

async fn verb(f: &Fixture, verb: &str) -> super::Answer {
    f.post(&format!("{SESSION}/{verb}"), &json!({})).await
}

#[tokio::test]
async fn what_is_held_is_shown_and_released() {
    let f = held().await;
    let before = shown(&f).await;
    assert_eq!(before["state"], "PENDING");
    assert_eq!(before["conditions"], json!(["held"]));
    assert_eq!(before["blocked_by"][0]["rule"], "held");
    let rule = json!({ "max": 2, "on": ["agent-lost", "failed"], "used": 0 });
    assert_eq!(before["restart"], rule);
    let rehearsed = verb(&f, "release?dry_run=true").await;
    assert_eq!(rehearsed.status, 200, "{}", rehearsed.text());
    assert_eq!(rehearsed.header("longshore-dry-run"), "true");
    assert_eq!(shown(&f).await["version"], before["version"]);
    let released = verb(&f, "release").await;
    assert_eq!(released.status, 200, "{}", released.text());
    assert_eq!(
        released.json()["state"],
        "SCHEDULED",
        "it has its place at once"
    );
    let answer = verb(&f, "hold").await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (409, "LS-STATE")
    );
    let audit = f.get("/api/v1/audit?operation=session.update").await.json();
    assert_eq!(audit["items"].as_array().map(Vec::len), Some(1), "{audit}");
    assert_eq!(audit["items"][0]["detail"], "release");
    assert_eq!(
        f.post("/api/v1/sessions/s-9/hold", &json!({})).await.code(),
        "LS-NOT-FOUND"
    );
}

#[tokio::test]
async fn how_it_waits_is_changed_under_its_version() {
    let f = held().await;
    let patch = async |body: Value, tag: &str| {
        let headers = [("content-type", "application/json"), ("if-match", tag)];
        f.send("PATCH", SESSION, &headers, Body::from(body.to_string()))
            .await
    };
    assert_eq!(patch(json!({ "priority": 20 }), "\"9\"").await.status, 412);
    let answer = patch(
        json!({ "priority": 20, "start_at": "2999-01-01T00:00:00Z" }),
        "*",
    )
    .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let session = shown(&f).await;
    assert_eq!(session["priority"], 20);
    assert_eq!(session["start_at"], "2999-01-01T00:00:00.000Z");
    let answer = patch(json!({ "priority": 101 }), "*").await;
    assert_eq!(answer.json()["errors"][0]["pointer"], "/priority");
    assert_eq!(
        patch(json!({ "image": "x" }), "*").await.code(),
        "LS-UNKNOWN-FIELD"
    );
}

#[tokio::test]
async fn a_restart_and_what_was_before_it() {
    let f = held().await;
    assert_eq!(verb(&f, "restart").await.code(), "LS-STATE");
    verb(&f, "release").await;
    f.runs("s-1").await;
    let answer = verb(&f, "restart").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let session = answer.json();
    assert_eq!(
        (&session["state"], &session["attempt"]),
        (&json!("PREPARING"), &json!(2))
    );
    let past = &session["attempts"][0];
    assert_eq!(
        (&past["attempt"], &past["reason"]),
        (&json!(1), &json!("user-requested"))
    );
    let history = f.get(&format!("{SESSION}/history")).await.json();
    let lines = history["items"].as_array().unwrap();
    assert!(
        lines
            .iter()
            .any(|l| l["from"] == "RUNNING" && l["to"] == "PREPARING"),
        "{history}"
    );
}

#[tokio::test]
async fn a_failed_command_is_tried_again() {
    let f = held().await;
    verb(&f, "release").await;
    f.runs("s-1").await;
    f.ends("s-1", 3).await;
    let session = shown(&f).await;
    assert_eq!(
        (&session["state"], &session["attempt"]),
        (&json!("PENDING"), &json!(2))
    );
    assert_eq!(session["restart"]["used"], 1);
    assert_eq!(session["attempts"][0]["exit_code"], 3);
}

#[tokio::test]
async fn wishes_to_be_tried_again_are_refused_in_place() {
    let f = ready().await;
    for (restart, pointer) in [
        (json!({ "max": 101 }), "/restart/max"),
        (json!({ "max": 1, "on": ["always"] }), "/restart/on/0"),
    ] {
        let mut body = batch();
        body["restart"] = restart;
        let answer = f.submit(body).await;
        assert_eq!(answer.code(), "LS-INVALID");
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer);
    }
}

#[tokio::test]
async fn the_loss_of_a_node_is_confirmed_by_a_person() {
    let f = held().await;
    verb(&f, "release").await;
    f.runs("s-1").await;
    let path = format!("/api/v1/agents/{AGENT}/confirm-loss");
    let answer = f.post(&path, &json!({})).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (409, "LS-AGENT-STATE")
    );
    let silent = Event::Silent {
        agent: AGENT,
        for_ms: 15_000,
        lost_after_ms: 15_000,
    };
    f.app.engine.ask(silent).await.unwrap().unwrap();
    assert_eq!(shown(&f).await["conditions"], json!(["unreachable"]));
    let rehearsed = f.post(&format!("{path}?dry_run=true"), &json!({})).await;
    assert_eq!(rehearsed.header("longshore-dry-run"), "true");
    assert_eq!(shown(&f).await["state"], "RUNNING");
    let answer = f.post(&path, &json!({})).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(shown(&f).await["state"], "PENDING");
    let audit = f.get("/api/v1/audit?operation=agent.write").await.json();
    assert!(audit["items"][0]["after"]["fence"].is_number(), "{audit}");
}
