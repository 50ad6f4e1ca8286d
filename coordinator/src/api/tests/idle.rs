//! Sessions of several containers are judged by the coordinator, from what agents said last.

use super::*;
use crate::idle_watch::{Told, look};
use crate::live::IdleLive;

const SESSION: &str = "/api/v1/sessions/s-1";

/// A session of two containers that run, on an agent that is connected.
async fn running() -> (Fixture, Vec<ContainerKey>) {
    let f = ready().await;
    let idle = crate::config::Idle {
        timeout_s: 600,
        ..crate::config::Idle::default()
    };
    f.start(idle.policy()).await;
    let body = json!({ "type": "interactive", "slots": { "cpu": "1", "mem": "64m" },
        "cluster": { "size": 2 } });
    let made = f.submit(body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    f.runs("s-1").await;
    f.app.engine.live.keep_idle(AGENT);
    let keys = f.containers("s-1").await;
    assert_eq!(keys.len(), 2);
    (f, keys)
}

/// What the agent says of one: idle for so long that its end is due, or used.
fn says(f: &Fixture, key: ContainerKey, idle: bool) {
    let said = IdleLive {
        deadline: Some(wall_clock().plus_s(if idle { -1 } else { 600 })),
        frozen: false,
        idle,
        used_at: None,
    };
    f.app.engine.live.set_idle(AGENT, key, said);
}

async fn state(f: &Fixture) -> String {
    let shown = f.get(SESSION).await.json();
    shown["state"].as_str().unwrap_or_default().to_owned()
}

/// As if it had been warned long ago.
fn long_ago(told: &mut Told) {
    for at in told.values_mut() {
        *at = at.plus_s(-3600);
    }
}

#[tokio::test]
async fn one_container_that_is_used_keeps_the_others() {
    let (f, keys) = running().await;
    let mut told = Told::new();
    look(&f.app.engine, &mut told).await.unwrap();
    assert!(told.is_empty(), "nobody said anything of it");
    says(&f, keys[0], true);
    look(&f.app.engine, &mut told).await.unwrap();
    assert!(told.is_empty(), "of the other nothing is known");
    says(&f, keys[1], false);
    look(&f.app.engine, &mut told).await.unwrap();
    assert!(told.is_empty(), "the other is used");
    says(&f, keys[1], true);
    look(&f.app.engine, &mut told).await.unwrap();
    assert_eq!(told.len(), 1, "warned");
    let history = f.get(&format!("{SESSION}/history")).await.text();
    assert!(
        history.contains("none of its containers is used"),
        "{history}"
    );
    look(&f.app.engine, &mut told).await.unwrap();
    assert_eq!(state(&f).await, "RUNNING", "warned just now");
    says(&f, keys[1], false);
    long_ago(&mut told);
    look(&f.app.engine, &mut told).await.unwrap();
    assert!(
        told.is_empty(),
        "used again, so the next warning is a new one"
    );
    assert_eq!(state(&f).await, "RUNNING");
}

#[tokio::test]
async fn what_nobody_uses_is_warned_and_then_stopped() {
    let (f, keys) = running().await;
    let mut told = Told::new();
    for key in keys {
        says(&f, key, true);
    }
    look(&f.app.engine, &mut told).await.unwrap();
    long_ago(&mut told);
    look(&f.app.engine, &mut told).await.unwrap();
    assert!(told.is_empty());
    let shown = f.get(SESSION).await.json();
    assert_eq!(shown["state"], "TERMINATING", "{shown}");
    assert_eq!(shown["reason"], "idle-timeout", "{shown}");
    look(&f.app.engine, &mut told).await.unwrap();
    assert!(told.is_empty(), "it is judged no longer");
}

/// Nothing is said of the containers of a node that is away.
#[tokio::test]
async fn a_node_that_is_away_keeps_its_sessions() {
    let (f, keys) = running().await;
    let mut told = Told::new();
    for key in keys {
        says(&f, key, true);
    }
    look(&f.app.engine, &mut told).await.unwrap();
    long_ago(&mut told);
    f.app.engine.live.forget_idle(AGENT);
    look(&f.app.engine, &mut told).await.unwrap();
    assert_eq!(state(&f).await, "RUNNING");
    assert!(told.is_empty());
}
