//! Metrics as Prometheus asks for them.

use super::{AGENT, Fixture, batch, ready};
use crate::api::metrics_router;
use crate::engine::wall_clock;
use crate::metrics::{FAMILIES, start_ms};
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use longshore_common::ids::SessionId;
use longshore_common::time::Timestamp;
use longshore_core::model::PastAttempt;
use serde_json::json;
use std::sync::atomic::Ordering;

async fn page(f: &Fixture) -> String {
    let answer = f.get("/metrics").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(answer.header("content-type"), kind);
    answer.text()
}

fn has(page: &str, line: &str) {
    assert!(page.lines().any(|one| one == line), "{line}\n{page}");
}

async fn reload(f: &Fixture, text: &str) {
    std::fs::write(f.dir.path().join("conf/all.toml"), text).unwrap();
    let told = f.post("/api/v1/settings/reload", &json!({})).await;
    assert_eq!(told.status, 200, "{}", told.text());
    assert_eq!(told.json()["pending_restart"], json!([]));
}

#[tokio::test]
async fn what_runs_and_waits_is_told() {
    let f = ready().await;
    f.start(None).await;
    let mut body = batch();
    body["slots"]["cuda.device"] = json!("1");
    assert_eq!(f.submit(body).await.status, 201);
    f.runs("s-1").await;
    let mut large = batch();
    large["slots"]["cuda.device"] = json!("2");
    assert_eq!(f.submit(large).await.status, 201);
    let agent = f.app.engine.live.agent(AGENT);
    agent.last_beat_ms.store(1, Ordering::Relaxed);
    agent.applied.store(7, Ordering::Relaxed);
    f.app.engine.live.counted.outcome(None);
    let text = page(&f).await;
    for line in [
        "longshore_sessions{state=\"RUNNING\",group=\"default\"} 1",
        "longshore_sessions{state=\"PENDING\",group=\"default\"} 1",
        "longshore_sessions{state=\"TERMINATING\",group=\"default\"} 0",
        "longshore_agent_state{node=\"gpu01\",state=\"ALIVE\"} 1",
        "longshore_agent_state{node=\"gpu01\",state=\"LOST\"} 0",
        "longshore_agent_connected{node=\"gpu01\"} 0",
        "longshore_agent_applied_generation{node=\"gpu01\"} 7",
        "longshore_session_start_seconds_count{phase=\"queue\"} 1",
        "longshore_session_start_seconds_bucket{phase=\"prepare\",le=\"+Inf\"} 1",
        "longshore_outcomes_total{kind=\"closed\"} 1",
        "longshore_tombstones 0",
        "longshore_releasing_seconds 0",
    ] {
        has(&text, line);
    }
    let held = "longshore_session_gpu_info{session=\"s-1\",user=\"dana\",project=\"default\",node=\"gpu01\",gpu=\"GPU-";
    assert_eq!(text.matches(held).count(), 1, "{text}");
    let desired = f.app.engine.read(|s, _| s.agents[&AGENT].generation.0);
    let desired = desired.await.unwrap();
    has(
        &text,
        &format!("longshore_agent_desired_generation{{node=\"gpu01\"}} {desired}"),
    );
    // Each family is named once, and no other one.
    let named: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let known: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(named, known);
    // Every figure is of a family that was named before it.
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(known.iter().any(|name| line.starts_with(name)), "{line}");
    }
}

#[tokio::test]
async fn starts_are_timed_by_one_clock() {
    let f = ready().await;
    f.start(None).await;
    let mut body = batch();
    body["slots"]["cuda.device"] = json!("1");
    assert_eq!(f.submit(body).await.status, 201);
    // The clock of the node is ahead by more than this test can take.
    f.runs_since("s-1", wall_clock().plus_ms(3 * 3_600_000))
        .await;
    let text = page(&f).await;
    let prepared = "longshore_session_start_seconds_bucket{phase=\"prepare\",le=\"600\"} 1";
    has(&text, prepared);
}

#[tokio::test]
async fn a_wait_begins_when_the_attempt_before_was_over() {
    let f = ready().await;
    f.start(None).await;
    assert_eq!(f.submit(batch()).await.status, 201);
    let session = f.app.engine.read(|s, _| s.sessions[&SessionId(1)].clone());
    let mut session = session.await.unwrap();
    session.pending_since = Timestamp(1000);
    session.placed_at = Some(Timestamp(9000));
    assert_eq!(start_ms(&session, Timestamp(9500)), Some((8000, 500)));
    session.attempts.push(PastAttempt {
        attempt: 1,
        agents: vec![AGENT],
        group: session.group,
        pool: None,
        placed_at: Some(Timestamp(2000)),
        started_at: None,
        ended_at: Timestamp(6000),
        reason: "start-failed".to_owned(),
        detail: String::new(),
        exit_code: None,
    });
    assert_eq!(start_ms(&session, Timestamp(9500)), Some((3000, 500)));
    // The clock was set back: no time is less than none.
    assert_eq!(start_ms(&session, Timestamp(8000)), Some((3000, 0)));
    session.placed_at = None;
    assert_eq!(start_ms(&session, Timestamp(9500)), None);
}

/// Makes a monitor and returns the value of its Authorization header.
async fn monitor(f: &Fixture, name: &str, domain: &str) -> String {
    let body = json!({
        "email": format!("{name}@lab.example"), "username": name, "role": "monitor",
        "domain": domain,
    });
    let made = f.post("/api/v1/users", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let part = |name: &str| made[name].as_str().unwrap().to_owned();
    format!("Bearer {}.{}", part("access_key"), part("secret_key"))
}

#[tokio::test]
async fn who_watches_over_a_domain_sees_its_sessions() {
    let mut f = ready().await;
    f.start(None).await;
    let other = json!({ "name": "other" });
    assert_eq!(f.post("/api/v1/domains", &other).await.status, 201);
    let own = monitor(&f, "olga", "default").await;
    let other = monitor(&f, "oscar", "other").await;
    for gpus in ["1", "2"] {
        let mut body = batch();
        body["slots"]["cuda.device"] = json!(gpus);
        assert_eq!(f.submit(body).await.status, 201);
    }
    f.runs("s-1").await;
    let held = "longshore_session_gpu_info{";
    let count = |state: &str, many: u32| {
        format!("longshore_sessions{{state=\"{state}\",group=\"default\"}} {many}")
    };
    let all = f.bearer_text();
    for (who, many) in [(all, 1), (own, 1), (other, 0)] {
        f.bearer(&who);
        let text = page(&f).await;
        assert_eq!(text.matches(held).count(), many as usize, "{text}");
        has(&text, &count("RUNNING", many));
        has(&text, &count("PENDING", many));
        has(&text, "longshore_agent_connected{node=\"gpu01\"} 0");
    }
    let router = metrics_router(f.app.clone());
    let (_, text) = alone(&router, "GET", "/metrics", "127.0.0.1").await;
    has(&text, &count("RUNNING", 1));
    assert_eq!(text.matches(held).count(), 1, "{text}");
}

#[tokio::test]
async fn the_settings_act_when_they_are_read_again() {
    let f = ready().await;
    f.start(None).await;
    let mut body = batch();
    body["slots"]["cuda.device"] = json!("1");
    assert_eq!(f.submit(body).await.status, 201);
    assert!(page(&f).await.contains("longshore_session_gpu_info{"));
    reload(&f, "[services.metrics]\nsession_info = false\n").await;
    assert!(!page(&f).await.contains("longshore_session_gpu_info{"));
    reload(&f, "[services.metrics]\nenabled = false\n").await;
    assert_eq!(f.get("/metrics").await.code(), "LS-NOT-FOUND");
    // Nobody from outside is let in while other machines reach the address.
    let text = "[daemon.listen]\nmetrics = [\"[::]:9100\"]\n";
    std::fs::write(f.dir.path().join("conf/all.toml"), text).unwrap();
    let told = f.post("/api/v1/settings/reload", &json!({})).await;
    assert_eq!(told.code(), "LS-SETTING");
    assert!(told.text().contains("services.metrics.allow"));
}

/// What is answered at an address of metrics alone to somebody without credentials.
async fn alone(router: &Router, method: &str, path: &str, peer: &str) -> (u16, String) {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .body(Body::empty())
        .unwrap();
    let peer: std::net::IpAddr = peer.parse().unwrap();
    let peer = crate::api::listener::Peer((peer, 4711).into());
    request.extensions_mut().insert(peer);
    let answer = tower::ServiceExt::oneshot(router.clone(), request);
    let (parts, body) = answer.await.unwrap().into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    (parts.status.as_u16(), String::from_utf8_lossy(&body).into())
}

#[tokio::test]
async fn at_addresses_of_their_own_it_counts_from_where_somebody_asks() {
    let f = ready().await;
    let router = metrics_router(f.app.clone());
    let (status, text) = alone(&router, "GET", "/metrics", "127.0.0.1").await;
    assert_eq!(status, 200);
    has(&text, "longshore_agent_connected{node=\"gpu01\"} 0");
    assert_eq!(alone(&router, "GET", "/metrics", "::1").await.0, 200);
    let (status, text) = alone(&router, "GET", "/metrics", "10.0.0.7").await;
    assert_eq!(status, 403);
    assert!(text.contains("services.metrics.allow"), "{text}");
    assert_eq!(alone(&router, "POST", "/metrics", "::1").await.0, 405);
    for other in ["/", "/api/v1/sessions", "/healthz"] {
        assert_eq!(alone(&router, "GET", other, "::1").await.0, 404, "{other}");
    }
    reload(&f, "[services.metrics]\nallow = [\"10.0.0.0/24\"]\n").await;
    let here = "10.0.0.7";
    assert_eq!(alone(&router, "GET", "/metrics", here).await.0, 200);
    let there = "10.0.1.7";
    assert_eq!(alone(&router, "GET", "/metrics", there).await.0, 403);
    reload(&f, "[services.metrics]\nenabled = false\n").await;
    let (status, text) = alone(&router, "GET", "/metrics", "::1").await;
    assert_eq!(status, 404);
    assert!(text.contains("services.metrics.enabled"), "{text}");
}
