//! Metrics as Prometheus asks for them.

use super::{AGENT, Fixture, batch, ready};
use crate::api::metrics_router;
use crate::metrics::FAMILIES;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
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
