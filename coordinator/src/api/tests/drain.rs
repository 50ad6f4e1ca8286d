//! Emptying a node through the router.

use super::{Fixture, batch, ready};
use axum::body::Body;
use serde_json::{Value, json};

const DRAIN: &str = "/api/v1/agents/gpu01/drain";
const NODE: &str = "/api/v1/agents/gpu01";

async fn put(f: &Fixture, path: &str, body: &Value) -> super::Answer {
    let headers = [("content-type", "application/json")];
    f.send("PUT", path, &headers, Body::from(body.to_string()))
        .await
}

async fn undrain(f: &Fixture) -> super::Answer {
    f.send("DELETE", DRAIN, &[], Body::empty()).await
}

#[tokio::test]
async fn a_drain_is_rehearsed_told_and_taken_back() {
    let f = ready().await;
    let mut long = batch();
    long["lifetime_s"] = json!(60);
    long["signal_before"] = json!({ "signal": "USR1", "lead_s": 5 });
    assert_eq!(f.submit(long).await.status, 201);
    f.runs("s-1").await;
    assert_eq!(f.submit(batch()).await.status, 201);
    f.runs("s-2").await;
    let at = "2999-01-01T00:00:00.000Z";
    let body = json!({ "deadline_at": at, "message": "RAM upgrade" });
    let rehearsed = put(&f, &format!("{DRAIN}?dry_run=true"), &body).await;
    assert_eq!(rehearsed.status, 200, "{}", rehearsed.text());
    assert_eq!(rehearsed.header("longshore-dry-run"), "true");
    let leaving = rehearsed.json()["leaving"].clone();
    assert_eq!(
        (&leaving[0]["effect"], &leaving[0]["ends_by"]),
        (&json!("kept"), &json!("lifetime"))
    );
    assert_eq!(leaving[1]["effect"], "stopped", "{leaving}");
    let before = f.get(NODE).await.json();
    assert!(before.get("drain").is_none() && before["schedulable"] == true);

    let done = put(&f, DRAIN, &body).await.json();
    assert_eq!(done["schedulable"], false);
    assert_eq!(done["drain"]["sessions_left"], 2, "{done}");
    assert!(done["drain"]["by"].as_str().unwrap().starts_with("user "));
    let session = f.get("/api/v1/sessions/s-2").await.json();
    assert_eq!(
        (&session["stop_at"], &session["stop_cause"]),
        (&json!(at), &json!("drain"))
    );
    let first = f.get("/api/v1/sessions/s-1").await.json();
    assert_eq!(first["stop_cause"], "lifetime", "that comes first");
    assert_eq!(first["signal_before"]["lead_s"], 5);
    let idle = f.get("/api/v1/sessions/s-2/idle").await.json();
    assert_eq!(idle["drain"]["message"], "RAM upgrade", "{idle}");
    assert_eq!(f.submit(batch()).await.json()["state"], "PENDING");
    // On again only by taking the drain back.
    let tag = f.get(NODE).await.header("etag").to_owned();
    let headers = [
        ("content-type", "application/merge-patch+json"),
        ("if-match", tag.as_str()),
    ];
    let on = f
        .send(
            "PATCH",
            NODE,
            &headers,
            Body::from("{\"schedulable\":true}"),
        )
        .await;
    assert_eq!(on.code(), "LS-AGENT-STATE");
    assert_eq!(undrain(&f).await.json()["schedulable"], true);
    assert_eq!(undrain(&f).await.status, 200, "it is so already");
    let audit = f.get("/api/v1/audit?operation=agent.write").await.json();
    let items = audit["items"].as_array().unwrap();
    let told = |item: &Value| item["after"]["drain"]["message"] == "RAM upgrade";
    assert!(items.iter().any(told), "{audit}");
}

#[tokio::test]
async fn what_is_wrong_is_refused() {
    let f = ready().await;
    let refused = |body: Value| {
        let f = &f;
        async move { put(f, DRAIN, &body).await.json()["errors"][0]["pointer"].clone() }
    };
    assert_eq!(refused(json!({ "mode": "away" })).await, "/mode");
    let never = json!({ "mode": "move" });
    assert_eq!(refused(never).await, "/deadline_at");
    let past = json!({ "deadline_at": "2001-01-01T00:00:00Z" });
    assert_eq!(refused(past).await, "/deadline_at");
    assert_eq!(refused(json!({ "message": "a\nb" })).await, "/message");
    let nobody = put(&f, "/api/v1/agents/gpu9/drain", &json!({})).await;
    assert_eq!(nobody.code(), "LS-NOT-FOUND");
    let mut wrong = batch();
    wrong["signal_before"] = json!({ "signal": "KILL", "lead_s": 0 });
    let answer = f.submit(wrong).await.json();
    assert_eq!(
        answer["errors"].as_array().map(Vec::len),
        Some(2),
        "{answer}"
    );
}

#[tokio::test]
async fn a_rehearsal_says_what_would_move() {
    let f = ready().await;
    let mut again = batch();
    again["restart"] = json!({ "max": 1 });
    assert_eq!(f.submit(again).await.status, 201);
    f.runs("s-1").await;
    assert_eq!(f.submit(batch()).await.status, 201);
    f.runs("s-2").await;
    let body = json!({ "deadline_at": "2999-01-01T00:00:00.000Z", "mode": "move" });
    let rehearsed = put(&f, &format!("{DRAIN}?dry_run=true"), &body)
        .await
        .json();
    let effects: Vec<&Value> = rehearsed["leaving"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["effect"])
        .collect();
    assert_eq!(effects, ["moved", "stopped"], "{rehearsed}");
    let done = put(&f, DRAIN, &body).await.json();
    assert_eq!(done["drain"]["mode"], "move", "{done}");
}
