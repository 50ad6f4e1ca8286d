//! The engine stops, comes back, and hangs: no session ends by that.

use longshore_tests::fixture::{AgentOptions, Cable, Cluster, PrivateEngine, until};
use serde_json::{Value, json};
use std::time::Duration;

fn request(script: &str) -> Value {
    json!({"command": ["sh", "-c", script], "slots": {"cpu": "1", "mem": "32M"}})
}

/// The engine's networks lie in its own namespace, where an agent out here cannot set
/// rules; so it sets none.
fn options(engine: &PrivateEngine) -> AgentOptions {
    let firewall = ("LONGSHORE__AGENT__FIREWALL".to_owned(), "off".to_owned());
    AgentOptions {
        socket: engine.socket(),
        mounts: Some(engine.keeper()),
        environment: vec![firewall],
        ..AgentOptions::default()
    }
}

async fn condition(cluster: &Cluster, wanted: Option<&str>) {
    let what = format!("the node's condition is {wanted:?}");
    until(&what, Duration::from_secs(90), async || {
        let agent = cluster.api.agents().await.remove(0);
        let found = match wanted {
            Some(word) => agent.conditions.iter().any(|one| one == word),
            None => agent.conditions.is_empty(),
        };
        found.then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn netns_sessions_outlive_a_restart_and_a_hang_of_the_engine() {
    let cable = Cable::new();
    let mut engine = PrivateEngine::start(&cable).await;
    let cluster = Cluster::with_agent(options(&engine)).await;
    let containers = cluster.containers_of(&engine.socket());
    let session = cluster.api.submit(&request("sleep 600")).await;
    cluster.running(&session.id).await;
    let before = containers.list().await;
    assert_eq!(before.len(), 1, "{before:?}");

    engine.stop().await;
    condition(&cluster, Some("runtime-down")).await;
    assert_eq!(cluster.api.session(&session.id).await.state, "RUNNING");
    let waiting = cluster.api.submit(&request("exit 4")).await;
    engine.spawn();
    engine.answers().await;
    condition(&cluster, None).await;
    let waiting = cluster.ended(&waiting.id, Duration::from_secs(60)).await;
    assert_eq!((waiting.exit_code, waiting.attempt), (Some(4), 1));
    assert_eq!(cluster.api.session(&session.id).await.state, "RUNNING");
    assert_eq!(containers.list().await, before);

    engine.freeze();
    condition(&cluster, Some("runtime-hung")).await;
    assert_eq!(cluster.api.session(&session.id).await.state, "RUNNING");
    engine.thaw();
    condition(&cluster, None).await;
    let after = cluster.run(&["-q"], &["sh", "-c", "exit 5"]).await;
    assert_eq!(after.code, 5, "{after:?}");
    assert_eq!(cluster.api.session(&session.id).await.state, "RUNNING");
    assert_eq!(containers.list().await, before);
}
