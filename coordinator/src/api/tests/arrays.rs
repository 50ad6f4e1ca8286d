//! Arrays through the router: asked for, listed, looked at, stopped.

use super::{Fixture, batch, ready};
use serde_json::{Value, json};

async fn with_array(range: &str, parallel: u32) -> Fixture {
    let f = ready().await;
    let mut body = batch();
    body["name"] = json!("sweep");
    body["array"] = json!({ "range": range, "parallel": parallel });
    let answer = f.submit(body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let made = answer.json();
    assert_eq!(
        (made["id"].as_str(), made["name"].as_str()),
        (Some("s-1"), Some("sweep"))
    );
    let (range_told, size) = (&made["array"]["range"], &made["array"]["size"]);
    assert_eq!((range_told, size.as_u64()), (&json!(range), Some(100)));
    f
}

async fn ids(f: &Fixture, query: &str) -> Vec<String> {
    let page = f.get(&format!("/api/v1/sessions?{query}")).await.json();
    let items = page["items"].as_array().cloned().unwrap_or_default();
    let id = |item: &Value| item["id"].as_str().unwrap().to_owned();
    items.iter().map(id).collect()
}

#[tokio::test]
async fn an_array_is_one_session_and_its_tasks_are_sessions() {
    let f = with_array("0-99", 2).await;
    let array = f.get("/api/v1/sessions/s-1").await.json();
    assert_eq!(array["array"]["counts"]["unmade"], 98);
    assert_eq!(array["array"]["parallel"], 2);
    let task = f.get("/api/v1/sessions/s-1.1").await;
    assert_eq!(task.status, 200, "{}", task.text());
    let task = task.json();
    assert_eq!(task["id"], "s-1.1");
    assert!(task.get("array").is_none() && task.get("name").is_none());
    assert_eq!(f.get("/api/v1/sessions/s-1.2").await.code(), "LS-NOT-FOUND");
    assert_eq!(f.get("/api/v1/sessions/s-1.01").await.status, 404);
    assert_eq!(f.submit(batch()).await.json()["id"], "s-2");
    assert_eq!(ids(&f, "").await, ["s-2", "s-1.1", "s-1.0", "s-1"]);
    assert_eq!(ids(&f, "array=none").await, ["s-2", "s-1"]);
    assert_eq!(ids(&f, "array=s-1").await, ["s-1.1", "s-1.0"]);
    assert_eq!(ids(&f, "array=s-2").await, [""; 0]);
    for bad in ["array=sweep", "array=s-1.1"] {
        let answer = f.get(&format!("/api/v1/sessions?{bad}")).await;
        assert_eq!(answer.code(), "LS-PARAMETER", "{bad}");
    }
    let first = f.get("/api/v1/sessions?limit=2").await.json();
    let next = first["next_cursor"].as_str().unwrap();
    assert_eq!(
        ids(&f, &format!("limit=2&cursor={next}")).await,
        ["s-1.0", "s-1"]
    );
    // What one running session can be asked an array cannot.
    for verb in ["restart", "extend", "keep"] {
        let answer = f
            .post(&format!("/api/v1/sessions/s-1/{verb}"), &json!({}))
            .await;
        assert_eq!(answer.code(), "LS-STATE", "{verb}");
    }
    assert_eq!(
        f.get("/api/v1/sessions/s-1/history").await.status,
        200,
        "it has one of its own"
    );
}

#[tokio::test]
async fn stopping_an_array_names_the_array() {
    let f = with_array("1-100", 3).await;
    let answer = f
        .post("/api/v1/sessions/terminate", &json!({ "ids": ["s-1"] }))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = answer.json();
    let named = [&told["cancelled"], &told["terminating"]];
    assert!(named.contains(&&json!(["s-1"])), "{told}");
    let array = f.get("/api/v1/sessions/s-1").await.json();
    assert!(
        array["array"]["counts"]["CANCELLED"].as_u64() >= Some(97),
        "{array}"
    );
    assert!(array["array"]["counts"].get("unmade").is_none());
    let again = f
        .post("/api/v1/sessions/terminate", &json!({ "ids": ["s-1.50"] }))
        .await;
    assert_eq!(again.json()["skipped"][0]["why"], "not-found");
}

#[tokio::test]
async fn what_is_wrong_with_an_array_is_said_at_its_place() {
    let f = ready().await;
    for (array, pointer) in [
        (json!({ "range": "9-1" }), "/array/range"),
        (json!({ "range": "0-20000" }), "/array/range"),
        (json!({ "range": "0-9", "parallel": 0 }), "/array/parallel"),
    ] {
        let mut body = batch();
        body["array"] = array;
        let answer = f.submit(body).await;
        assert_eq!(answer.status, 422, "{}", answer.text());
        assert_eq!(answer.json()["errors"][0]["pointer"], pointer);
    }
}
