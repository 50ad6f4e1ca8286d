//! Keeping devices of a node back, through the router.

use super::{Fixture, fixture, ready};
use axum::body::Body;
use longshore_common::agent::Health;
use longshore_core::model::Event;
use serde_json::{Value, json};

const NODE: &str = "/api/v1/agents/gpu01";

async fn post(f: &Fixture, device: &str, verb: &str, body: Value) -> super::Answer {
    let headers = [("content-type", "application/json")];
    let path = format!("{NODE}/devices/{device}/{verb}");
    f.send("POST", &path, &headers, Body::from(body.to_string()))
        .await
}

async fn health(f: &Fixture) -> (String, String) {
    let devices = f.get("/api/v1/devices").await.json();
    let device = &devices["items"][0];
    assert_eq!(device["id"], "GPU-0");
    let text = |member: &str| device[member].as_str().unwrap_or_default().to_owned();
    (text("health"), text("health_detail"))
}

#[tokio::test]
async fn a_device_is_kept_back_with_a_reason_and_given_out_again() {
    let f = ready().await;
    let body = json!({ "reason": "fan is loud" });
    let rehearsed = post(&f, "GPU-0", "cordon?dry_run=true", body.clone()).await;
    assert_eq!(rehearsed.status, 200, "{}", rehearsed.text());
    assert_eq!(health(&f).await.0, "healthy");
    assert_eq!(post(&f, "GPU-0", "cordon", body).await.status, 200);
    let (health_now, detail) = health(&f).await;
    assert_eq!(health_now, "cordoned");
    assert!(detail.starts_with("fan is loud (by user "), "{detail}");
    assert_eq!(f.get(NODE).await.json()["capacity"]["cuda.device"], "1");
    let records = f.get("/api/v1/audit?operation=agent.write").await.json();
    assert_eq!(records["items"][0]["outcome"], "ok", "{records}");
    assert_eq!(post(&f, "GPU-0", "uncordon", json!({})).await.status, 200);
    assert_eq!(health(&f).await, ("healthy".to_owned(), String::new()));
}

#[tokio::test]
async fn what_the_node_keeps_back_is_released_there() {
    for (linked, status, code) in [(true, 200, ""), (false, 503, "LS-AGENT-UNREACHABLE")] {
        let mut f = fixture(linked.then(Vec::new), true).await;
        f.set_up().await;
        let mut inventory = super::inventory();
        inventory.devices[0].health = Health::Cordoned;
        inventory.devices[0].health_detail = "XID 48".into();
        let event = Event::Inventory {
            agent: super::agent().id,
            inventory: Box::new(inventory),
        };
        f.app.engine.tell(event).await.unwrap();
        let answer = post(&f, "GPU-0", "uncordon", json!({})).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        if !code.is_empty() {
            assert_eq!(answer.code(), code);
        }
        assert_eq!(
            health(&f).await.1,
            "XID 48",
            "its node says when that is over"
        );
    }
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let f = ready().await;
    for (device, verb, body, status, code) in [
        ("GPU-9", "cordon", json!({}), 404, "LS-NOT-FOUND"),
        ("%20", "cordon", json!({}), 404, "LS-NOT-FOUND"),
        (
            "GPU-0",
            "uncordon",
            json!({ "reason": "x" }),
            422,
            "LS-INVALID",
        ),
        (
            "GPU-0",
            "cordon",
            json!({ "reason": "x".repeat(201) }),
            422,
            "LS-INVALID",
        ),
    ] {
        let answer = post(&f, device, verb, body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code()),
            (status, code.to_owned())
        );
    }
}
