//! `extend` and `keep` through the router.

use super::{AGENT, Answer, Fixture, batch, ready};
use crate::live::IdleLive;
use axum::body::Body;
use longshore_common::time::Timestamp;
use serde_json::{Value, json};

const EXTEND: &str = "/api/v1/sessions/s-1/extend";
const KEEP: &str = "/api/v1/sessions/s-1/keep";

async fn living(s: i64) -> Fixture {
    let f = ready().await;
    let mut body = batch();
    body["lifetime_s"] = json!(s);
    assert_eq!(f.submit(body).await.status, 201);
    f.runs("s-1").await;
    f
}

/// An interactive session that is stopped after ten minutes without use.
async fn unused() -> Fixture {
    let f = ready().await;
    let idle = crate::config::Idle {
        timeout_s: 600,
        ..crate::config::Idle::default()
    };
    f.start(idle.policy()).await;
    let mut body = batch();
    body["type"] = json!("interactive");
    assert_eq!(f.submit(body).await.status, 201);
    f.runs("s-1").await;
    f
}

async fn shown(f: &Fixture) -> Value {
    f.get("/api/v1/sessions/s-1").await.json()
}

fn at(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

async fn under(f: &Fixture, path: &str, tag: &str) -> Answer {
    let headers = [("content-type", "application/json"), ("if-match", tag)];
    f.send("POST", path, &headers, Body::from("{}")).await
}

#[tokio::test]
async fn a_life_is_extended_and_shown_with_one_number() {
    let f = living(600).await;
    let before = shown(&f).await;
    let (path, body) = (format!("{EXTEND}?dry_run=true"), json!({ "by_s": 60 }));
    let rehearsed = f.post(&path, &body).await;
    assert_eq!(rehearsed.status, 200, "{}", rehearsed.text());
    assert_eq!(rehearsed.header("longshore-dry-run"), "true");
    assert_eq!(shown(&f).await["version"], before["version"]);
    let answer = f.post(EXTEND, &json!({ "by_s": 60 })).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = answer.json();
    assert_eq!(
        (&told["by_s"], &told["extensions_left"]),
        (&json!(60), &json!(2))
    );
    let session = shown(&f).await;
    assert_eq!(answer.header("etag"), format!("\"{}\"", session["version"]));
    assert_eq!(session["stop_at"], told["lifetime_deadline"]);
    assert_eq!(session["lifetime_deadline"], told["lifetime_deadline"]);
    assert_eq!(session["extensions"], 1);
    let moved = at(&told["lifetime_deadline"]).since(at(&before["lifetime_deadline"]));
    assert_eq!(moved, 60_000);
    let audit = f.get("/api/v1/audit?operation=session.update").await.json();
    assert_eq!(audit["items"][0]["detail"], "extend by 60 s", "{audit}");
    assert_eq!(audit["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_extended_says_why() {
    let f = living(600).await;
    let both = json!({ "by_s": 1, "until": "2999-01-01T00:00:00Z" });
    assert_eq!(f.post(EXTEND, &both).await.code(), "LS-INVALID");
    let answer = f.post(EXTEND, &json!({ "by_s": 14_401 })).await;
    assert_eq!(answer.code(), "LS-INVALID");
    assert_eq!(answer.json()["errors"][0]["pointer"], "/by_s");
    let answer = f
        .post(EXTEND, &json!({ "until": "2020-01-01T00:00:00Z" }))
        .await;
    assert_eq!(answer.json()["errors"][0]["pointer"], "/until");
    assert_eq!(under(&f, EXTEND, "\"1\"").await.status, 412);
    for left in [2, 1, 0] {
        let told = under(&f, EXTEND, "*").await.json();
        assert_eq!(told["extensions_left"], left, "{told}");
    }
    let answer = f.post(EXTEND, &json!({})).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (409, "LS-EXTEND")
    );
    assert_eq!(answer.json()["limit"]["rule"], "extension-count");
    let nobody = f.post("/api/v1/sessions/s-9/extend", &json!({})).await;
    assert_eq!(nobody.code(), "LS-NOT-FOUND");
    f.ends("s-1", 0).await;
    assert_eq!(f.post(EXTEND, &json!({})).await.code(), "LS-STATE");
}

#[tokio::test]
async fn what_is_kept_is_shown_as_long_as_it_is_held() {
    let f = living(600).await;
    assert_eq!(f.post(KEEP, &json!({})).await.code(), "LS-KEEP");
    let f = unused().await;
    let id = "s-1".parse().unwrap();
    let key = f
        .app
        .engine
        .read(move |state, _| state.sessions[&id].containers[0].key);
    let key = key.await.unwrap();
    let said = |deadline, used_at| IdleLive {
        deadline: Some(deadline),
        frozen: false,
        idle: true,
        used_at,
    };
    let live = &f.app.engine.live;
    live.keep_idle(AGENT);
    live.set_idle(AGENT, key, said(Timestamp(1000), None));
    assert_eq!(shown(&f).await["conditions"], json!(["idle"]));
    for left in [3, 2, 1, 0] {
        let answer = f.post(KEEP, &json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let told = answer.json();
        assert_eq!(told["keeps_left"], left);
        let session = shown(&f).await;
        assert_eq!(session["kept_until"], told["kept_until"]);
        assert_eq!(
            session["stop_at"], told["kept_until"],
            "the later one counts"
        );
    }
    let answer = f.post(KEEP, &json!({})).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (409, "LS-KEEP")
    );
    assert_eq!(answer.json()["limit"]["rule"], "keep-max");
    let used = Some(Timestamp(i64::MAX / 2));
    live.set_idle(AGENT, key, said(Timestamp(1000), used));
    let told = f.post(KEEP, &json!({})).await.json();
    assert_eq!(told["keeps_left"], 3, "its use was measured in between");
}

/// Nobody learns of a session of others that it is there.
#[tokio::test]
async fn strangers_prolong_nothing() {
    let mut f = living(600).await;
    f.start(None).await;
    let eve = json!({ "email": "eve@lab.example" });
    let made = f.post("/api/v1/users", &eve).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let pair = made.json();
    let text = |name: &str| pair[name].as_str().unwrap().to_owned();
    f.bearer(&format!(
        "Bearer {}.{}",
        text("access_key"),
        text("secret_key")
    ));
    for verb in ["extend", "keep"] {
        let there = f
            .post(&format!("/api/v1/sessions/s-1/{verb}"), &json!({}))
            .await;
        assert_eq!(
            (there.status.as_u16(), there.code().as_str()),
            (404, "LS-NOT-FOUND")
        );
        let not = f
            .post(&format!("/api/v1/sessions/s-7/{verb}"), &json!({}))
            .await;
        assert_eq!(there.json()["title"], not.json()["title"]);
    }
}
