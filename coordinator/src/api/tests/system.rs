//! Sessions that start as they are asked for or are refused, through the router.

use super::{Fixture, ready};
use axum::body::Body;
use serde_json::{Value, json};

/// The group takes them.
async fn listed() -> Fixture {
    let f = ready().await;
    f.start(None).await;
    let body = json!({ "allowed_session_types": ["batch", "system"] });
    let headers = [("content-type", "application/json"), ("if-match", "*")];
    let path = "/api/v1/resource-groups/default";
    let body = Body::from(body.to_string());
    let answer = f.send("PATCH", path, &headers, body).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    f
}

fn system() -> Value {
    json!({ "type": "system", "slots": { "cpu": "1", "mem": "1g" } })
}

#[tokio::test]
async fn it_starts_at_once_or_is_refused_and_nothing_is_left() {
    let f = ready().await;
    let answer = f.submit(system()).await;
    assert_eq!(
        answer.json()["code"],
        "LS-GROUP-DENIED",
        "{}",
        answer.text()
    );
    let f = {
        drop(f);
        listed().await
    };
    let check = f.post("/api/v1/sessions/check", &system()).await.json();
    assert_eq!(check["verdict"], "now", "{check}");
    let made = f.submit(system()).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    // The image is the installation's, and it has a place already.
    assert_eq!(
        (&made["state"], &made["image"]),
        (&json!("SCHEDULED"), &json!("longshore/files"))
    );
    let second = f.submit(system()).await;
    assert_eq!(second.status, 409, "{}", second.text());
    let second = second.json();
    assert_eq!(second["code"], "LS-SYSTEM-SESSION");
    assert_eq!(second["limit"]["rule"], "system-sessions");
    let check = f.post("/api/v1/sessions/check", &system()).await.json();
    assert_eq!(
        (&check["verdict"], &check["code"]),
        (&json!("never"), &json!("LS-SYSTEM-SESSION"))
    );
    let all = f.get("/api/v1/sessions").await.json();
    assert_eq!(all["items"].as_array().map(Vec::len), Some(1));
    let limits = f.get("/api/v1/me/limits").await.json();
    let quota = limits["entries"].as_array().into_iter().flatten();
    let counted = quota.clone().find(|e| e["slot"] == "system-sessions");
    let counted = counted.map(|e| (e["used"].clone(), e["limit"].clone()));
    assert_eq!(counted, Some((json!("1"), json!("1"))), "{limits}");
    let ended = f.post("/api/v1/sessions/s-1/terminate", &json!({})).await;
    assert_eq!(ended.status, 200, "{}", ended.text());
    assert_eq!(f.submit(system()).await.status, 201);
}

#[tokio::test]
async fn the_image_of_a_vault_is_not_for_it() {
    let f = listed().await;
    let mut own = system();
    own["image"] = json!("lab/own:1");
    let refused = f.submit(own).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert_eq!(refused.json()["errors"][0]["pointer"], "/image");
    let mut given = system();
    given["config"] = json!({ "agent": { "default_image": "lab/own:1" } });
    let made = f.submit(given).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["image"], "longshore/files");
}
