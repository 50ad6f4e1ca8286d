//! A node that is cut off from its coordinator keeps the promises by itself.

use longshore_tests::fixture::{
    AgentOptions, Cable, Cluster, ClusterOptions, PrivateEngine, until,
};
use serde_json::json;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lifetime_ends_on_time_while_the_cable_is_cut() {
    let cable = Cable::new();
    let engine = PrivateEngine::start(&cable).await;
    let mut cluster = Cluster::start(ClusterOptions {
        listen: IpAddr::V4(cable.here),
        ..ClusterOptions::default()
    })
    .await;
    cluster
        .add_agent(AgentOptions {
            socket: engine.socket(),
            netns: Some(cable.netns.clone()),
            mounts: Some(engine.keeper()),
            ..AgentOptions::default()
        })
        .await;
    let containers = cluster.containers_of(&engine.socket());
    let amounts = json!({"cpu": "1", "mem": "32M"});
    let limited = json!({"command": ["sleep", "600"], "slots": amounts, "lifetime_s": 20});
    let lasting = json!({"command": ["sleep", "600"], "slots": amounts});
    let limited = cluster.api.submit(&limited).await;
    let lasting = cluster.api.submit(&lasting).await;
    let limited = cluster.running(&limited.id).await;
    cluster.running(&lasting.id).await;
    let before = containers.list().await;
    assert_eq!(before.len(), 2, "{before:?}");
    let stop_at = limited.stop_at.expect("a lifetime has an end").0;

    cable.cut();
    until("it ends by itself", Duration::from_secs(40), async || {
        let now = containers.list().await;
        let one = now.iter().find(|one| one.session == limited.id);
        one.is_none_or(|one| !one.running).then_some(())
    })
    .await;
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("it is after 1970");
    let late_ms = i64::try_from(now.as_millis()).expect("it is before 294000") - stop_at;
    assert!((-1000..3000).contains(&late_ms), "{late_ms} ms late");
    // The coordinator cannot know yet.
    assert_eq!(cluster.api.session(&limited.id).await.state, "RUNNING");
    until(
        "the silence is noticed",
        Duration::from_secs(60),
        async || {
            let agent = cluster.api.agents().await.remove(0);
            (agent.state == "LOST").then_some(())
        },
    )
    .await;

    cable.mend();
    cluster.agent_offers("node1").await;
    let limited = cluster.ended(&limited.id, Duration::from_secs(60)).await;
    assert_eq!(
        (limited.state.as_str(), limited.reason.as_deref()),
        ("TERMINATED", Some("lifetime-exceeded"))
    );
    let lasting = cluster.running(&lasting.id).await;
    assert_eq!(lasting.attempt, 1);
    let after = containers.list().await;
    let other = |all: &[_]| {
        let mut all = all.iter();
        all.find(|one: &&longshore_tests::fixture::Seen| one.session == lasting.id)
            .cloned()
    };
    assert_eq!(other(&after), other(&before));
}
