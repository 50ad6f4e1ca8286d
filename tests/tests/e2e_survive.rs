//! Crashes of the agent and of the coordinator: sessions notice nothing.

use longshore_common::api::Session;
use longshore_tests::fixture::{AgentOptions, Cluster, Seen, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn request(script: &str) -> Value {
    json!({"command": ["sh", "-c", script], "slots": {"cpu": "1", "mem": "32M"}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_agent_finds_its_containers_again() {
    let mut cluster = Cluster::with_agent(AgentOptions::default()).await;
    let containers = cluster.containers();
    let lasting = cluster.api.submit(&request("echo begin; sleep 600")).await;
    // Writes before, during and after the agent's absence.
    let counting = "i=0; while [ $i -lt 60 ]; do echo $i; i=$((i+1)); sleep 0.2; done; exit 6";
    let counting = cluster.api.submit(&request(counting)).await;
    let brief = cluster.api.submit(&request("sleep 4; exit 7")).await;
    for session in [&lasting, &counting, &brief] {
        cluster.running(&session.id).await;
    }
    let before = containers.list().await;
    assert_eq!(before.len(), 3, "{before:?}");

    cluster.agent("node1").kill9();
    until("one ended meanwhile", Duration::from_secs(30), async || {
        let now = containers.list().await;
        now.iter()
            .any(|one| one.session == brief.id && !one.running)
            .then_some(())
    })
    .await;
    cluster.agent("node1").start();
    cluster.agent_offers("node1").await;

    let brief = cluster.ended(&brief.id, Duration::from_secs(60)).await;
    assert_eq!(
        (brief.exit_code, brief.reason.as_deref(), brief.attempt),
        (Some(7), Some("task-failed"), 1)
    );
    let counting = cluster.ended(&counting.id, Duration::from_secs(60)).await;
    assert_eq!((counting.exit_code, counting.attempt), (Some(6), 1));
    let logs = cluster.cli(&["logs", &counting.id]).await;
    let expected: String = (0..60).map(|number| format!("{number}\n")).collect();
    assert_eq!(logs.stdout, expected, "{}", logs.stderr);

    let after = containers.list().await;
    let same = before.iter().find(|one| one.session == lasting.id);
    assert!(same.is_some());
    assert_eq!(after.iter().find(|one| one.session == lasting.id), same);
    assert_eq!(cluster.api.session(&lasting.id).await.state, "RUNNING");
}

/// Submits with a key of its own until the coordinator acknowledges it.
async fn acknowledged(cluster: &Cluster, key: &str, request: &Value) -> Option<Session> {
    let sent = cluster
        .api
        .send(Method::POST, "/api/v1/sessions", Some(request), Some(key))
        .await;
    let (status, value) = sent.ok()?;
    if !status.is_success() {
        return None;
    }
    Some(serde_json::from_value(value).expect("a session"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_coordinator_loses_and_repeats_nothing() {
    const KILLS: usize = 10;
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is after 1970")
        .as_secs();
    let mut cluster = Cluster::with_agent(AgentOptions::default()).await;
    let mut submitted: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for round in 0..KILLS {
        for one in 0..2 {
            let number = round * 2 + one;
            let key = format!("key-{number}");
            let order = request(&format!("sleep 0.{}; exit {number}", number % 10));
            // Twice with one key: what was acknowledged once is the same session again.
            for _ in 0..2 {
                if let Some(session) = acknowledged(&cluster, &key, &order).await {
                    let known = submitted
                        .entry(key.clone())
                        .or_insert_with(|| (session.id.clone(), number));
                    assert_eq!(known.0, session.id, "{key}");
                }
            }
        }
        // Between a few milliseconds and a second: each time something else is under way.
        tokio::time::sleep(Duration::from_millis(10 + 97 * (round as u64 % 10))).await;
        cluster.kill9_coordinator();
        cluster.restart_coordinator().await;
    }
    assert_eq!(submitted.len(), 2 * KILLS);
    let ids: BTreeSet<&String> = submitted.values().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), submitted.len(), "{submitted:?}");
    for (id, number) in submitted.values() {
        let session = cluster.ended(id, Duration::from_secs(90)).await;
        assert_eq!(
            (session.state.as_str(), session.exit_code),
            ("TERMINATED", i32::try_from(*number).ok()),
            "{session:?}\n{:?}",
            cluster.api.history(id).await
        );
        assert_eq!(session.attempt, 1, "{:?}", cluster.api.history(id).await);
    }
    let starts = cluster.containers().starts(since).await;
    assert_eq!(starts.len(), submitted.len(), "{starts:?}");
    assert!(starts.values().all(|times| *times == 1), "{starts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_schedulable_keeps_what_it_has() {
    let cluster = Cluster::with_agent(AgentOptions::default()).await;
    let running = cluster.api.submit(&request("sleep 600")).await;
    cluster.running(&running.id).await;
    let off = cluster.cli(&["node", "schedulable", "node1", "off"]).await;
    assert_eq!(off.code, 0, "{off:?}");
    let waiting = cluster.api.submit(&request("exit 0")).await;
    cluster
        .session_when(&waiting.id, "waiting", Duration::from_secs(20), |session| {
            session.state == "PENDING" && !session.blocked_by.is_empty()
        })
        .await;
    assert_eq!(cluster.api.session(&running.id).await.state, "RUNNING");
    let on = cluster.cli(&["node", "schedulable", "node1", "on"]).await;
    assert_eq!(on.code, 0, "{on:?}");
    let ended = cluster.ended(&waiting.id, Duration::from_secs(40)).await;
    assert_eq!(ended.exit_code, Some(0));
    assert_eq!(cluster.api.session(&running.id).await.state, "RUNNING");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_database_gets_back_what_runs() {
    let mut cluster = Cluster::with_agent(AgentOptions::default()).await;
    let containers = cluster.containers();
    let known = cluster.api.submit(&request("sleep 600")).await;
    cluster.running(&known.id).await;
    let copy = cluster.back_up();
    let lasting = cluster.api.submit(&request("sleep 600")).await;
    let brief = cluster.api.submit(&request("sleep 8; exit 5")).await;
    for session in [&lasting, &brief] {
        cluster.running(&session.id).await;
    }
    let before = containers.list().await;
    assert_eq!(before.len(), 3, "{before:?}");
    cluster.kill9_coordinator();
    cluster.restore(&copy);
    until("one ended meanwhile", Duration::from_secs(30), async || {
        let now = containers.list().await;
        now.iter()
            .any(|one| one.session == brief.id && !one.running)
            .then_some(())
    })
    .await;
    cluster.restart_coordinator().await;
    cluster.agent_offers("node1").await;

    // The end of what ended is told with its own code to a database that never knew it began.
    until("it is adopted", Duration::from_secs(30), async || {
        let path = format!("/api/v1/sessions/{}", brief.id);
        let (status, _) = cluster
            .api
            .send(Method::GET, &path, None, None)
            .await
            .ok()?;
        status.is_success().then_some(())
    })
    .await;
    let brief = cluster.ended(&brief.id, Duration::from_secs(60)).await;
    assert_eq!(
        (brief.exit_code, brief.reason.as_deref(), brief.attempt),
        (Some(5), Some("task-failed"), 1)
    );
    let adopted = cluster.running(&lasting.id).await;
    assert_eq!(adopted.owner_name, lasting.owner_name);
    assert!(
        adopted.conditions.contains(&"adopted".to_owned()),
        "{adopted:?}"
    );
    let after = containers.list().await;
    for session in [&known, &lasting] {
        let of = |all: &[Seen]| all.iter().find(|one| one.session == session.id).cloned();
        assert_eq!(of(&after), of(&before));
    }
    let listed = cluster.cli(&["--json", "admin", "unclaimed", "ls"]).await;
    assert!(!listed.stdout.contains(&lasting.id), "{listed:?}");
    let next = cluster.api.submit(&request("exit 0")).await;
    let number = |id: &str| id.trim_start_matches("s-").parse::<u64>().unwrap_or(0);
    assert!(number(&next.id) > number(&brief.id) + 1000, "{}", next.id);
    // It ends as any other does.
    let stopped = cluster.cli(&["stop", &lasting.id]).await;
    assert_eq!(stopped.code, 0, "{stopped:?}");
    cluster.ended(&lasting.id, Duration::from_secs(60)).await;
}
