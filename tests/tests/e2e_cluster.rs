//! Sessions of several containers on one node, with the engine of this machine.

use longshore_common::api::Session;
use longshore_tests::fixture::{AgentOptions, Cluster, until, with_sshd};
use serde_json::json;
use std::time::Duration;

/// How the containers of a session are, in the order of their ranks.
fn states(session: &Session) -> Vec<&str> {
    let each = session.containers.iter();
    each.map(|container| container.state.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_runs_everywhere_ends_with_the_last_or_with_the_first_that_fails() {
    let mut cluster = Cluster::with_agent(AgentOptions::default()).await;
    // The others end at once; the last one waits to be let go.
    let script = "if [ $NODE_RANK = 2 ]; then until [ -e /tmp/go ]; do sleep 0.1; done; fi";
    let request = json!({
        "type": "batch",
        "command": ["sh", "-c", script],
        "slots": {"cpu": "1", "mem": "32M"},
        "cluster": {"size": 3, "run": "all"},
    });
    let id = cluster.api.submit(&request).await.id;
    let ready = ["exited", "exited", "running"];
    let limit = Duration::from_secs(60);
    let waits = async |cluster: &Cluster| {
        let what = "two have finished";
        let two = |s: &Session| s.state == "RUNNING" && states(s) == ready;
        cluster.session_when(&id, what, limit, two).await
    };
    let session = waits(&cluster).await;
    assert_eq!(session.exit_code, None, "{session:?}");

    // Whoever is started anew knows the finished ones as such.
    let before = cluster.containers().list().await;
    cluster.agent("node1").kill9();
    cluster.kill9_coordinator();
    cluster.restart_coordinator().await;
    cluster.agent("node1").start();
    cluster.agent_offers("node1").await;
    waits(&cluster).await;
    assert_eq!(cluster.containers().list().await, before);
    let gone = cluster
        .cli(&["exec", "-c", "sub1", &id, "--", "true"])
        .await;
    assert_ne!(gone.code, 0, "{gone:?}");

    let go = ["exec", "-c", "sub2", &id, "--", "touch", "/tmp/go"];
    let let_go = cluster.cli(&go).await;
    assert_eq!(let_go.code, 0, "{let_go:?}");
    let ended = cluster.ended(&id, limit).await;
    let told = (ended.state.as_str(), ended.reason.as_deref());
    assert_eq!(told, ("TERMINATED", Some("task-finished")), "{ended:?}");
    assert_eq!((ended.exit_code, ended.attempt), (Some(0), 1));
    assert_eq!(ended.result.as_deref(), Some("success"));

    let script = "[ $LONGSHORE_CLUSTER_HOST != sub1 ] || exit 7; sleep 600";
    let flags = ["--cluster", "3", "--run-all"];
    let failed = cluster.run(&flags, &["sh", "-c", script]).await;
    assert_eq!(failed.code, 7, "{failed:?}");
    let told = cluster.cli(&["show", "@"]).await;
    let text = "the command of sub1 ended with 7";
    assert!(told.stdout.contains(text), "{told:?}");
    until("nothing is left", limit, async || {
        let left = cluster.containers().list().await;
        left.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_of_a_session_log_in_to_each_other_by_name() {
    let image = with_sshd();
    let mut cluster = Cluster::with_agent(AgentOptions::default()).await;
    // Until the others listen; then to one, and by way of it to the next.
    let script = "until ssh sub1 true 2>/dev/null; do sleep 0.1; done
        until ssh sub2 true 2>/dev/null; do sleep 0.1; done
        ssh sub1 'echo $LONGSHORE_CLUSTER_HOST has $GIVEN; ssh sub2 hostname; exit 3'; echo $?
        stat -c %a /run/longshore/cluster/id_ed25519
        until [ -e /tmp/go ]; do sleep 0.1; done
        ssh sub2 id -u; id -u";
    let request = json!({
        "type": "batch", "image": image.name,
        "command": ["sh", "-c", script],
        "environment": {"GIVEN": "a b"},
        "slots": {"cpu": "1", "mem": "64M"},
        "cluster": {"size": 3},
    });
    let id = cluster.api.submit(&request).await.id;
    cluster.running(&id).await;
    let limit = Duration::from_secs(60);
    let said = async |cluster: &Cluster| {
        let logs = cluster.cli(&["logs", &id, "--stream", "stdout"]).await;
        logs.stdout
    };
    until("they log in", limit, async || {
        (said(&cluster).await.lines().count() == 4).then_some(())
    })
    .await;
    assert_eq!(said(&cluster).await, "sub1 has a b\nsub2\n3\n400\n");

    // No file of the coordinator or of the agent holds it, and another agent process changes nothing.
    let show = [
        "exec",
        &id,
        "--",
        "cat",
        "/run/longshore/cluster/id_ed25519",
    ];
    let key = cluster.cli(&show).await.stdout;
    let line = key.lines().nth(4).expect("it is a key").to_owned();
    assert_eq!(cluster.files_with(&line), Vec::<std::path::PathBuf>::new());
    cluster.agent("node1").kill9();
    cluster.agent("node1").start();
    // Its old connection may not have been given up yet.
    until("the new process is reached", limit, async || {
        let go = cluster.cli(&["exec", &id, "--", "touch", "/tmp/go"]).await;
        (go.code == 0).then_some(())
    })
    .await;
    let ended = cluster.ended(&id, limit).await;
    assert_eq!(ended.reason.as_deref(), Some("task-finished"), "{ended:?}");
    let told = said(&cluster).await;
    let users: Vec<&str> = told.lines().skip(4).collect();
    assert_eq!(users.len(), 2, "{told}");
    assert_eq!(users[0], users[1], "{told}");
}
