//! GPUs from the driver's library to the device nodes inside a container, on a node
//! whose two GPUs are not there.

use longshore_common::api::Session;
use longshore_tests::fixture::{AgentOptions, Cluster, GpuNode, until};
use serde_json::{Value, json};
use std::time::Duration;

async fn cluster() -> (GpuNode, Cluster) {
    let node = GpuNode::two();
    let options = AgentOptions {
        environment: node.environment(),
        ..AgentOptions::default()
    };
    let cluster = Cluster::with_agent(options).await;
    (node, cluster)
}

fn request(script: &str) -> Value {
    json!({
        "command": ["sh", "-c", script],
        "slots": {"cpu": "1", "mem": "64M", "cuda.device": "1"},
    })
}

fn held(session: &Session) -> Vec<String> {
    let containers = session.containers.iter();
    containers
        .flat_map(|container| &container.devices)
        .map(|device| device.id.clone())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_sees_the_one_gpu_it_asked_for() {
    let (_node, cluster) = cluster().await;
    let one = cluster
        .run(
            &["-q", "--gpu", "1"],
            &["sh", "-c", "cd /dev && ls -d nvidia*; exit 3"],
        )
        .await;
    assert_eq!(one.code, 3, "{one:?}");
    let gpus: Vec<&str> = one
        .stdout
        .lines()
        .filter(|line| *line != "nvidiactl")
        .collect();
    assert!(gpus == ["nvidia0"] || gpus == ["nvidia1"], "{one:?}");
    let none = cluster
        .run(&["-q"], &["sh", "-c", "ls -d /dev/nvidia* || exit 4"])
        .await;
    assert_eq!((none.code, none.stdout.as_str()), (4, ""), "{none:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_session_can_open_its_own_gpu_only() {
    let (_node, cluster) = cluster().await;
    // Each tries both nodes. The stand-ins have no driver: ENXIO is what success looks like.
    let script = "for n in 0 1; do echo \"$n: $(cat /dev/nvidia$n 2>&1)\"; done; sleep 600";
    let first = cluster.api.submit(&request(script)).await;
    let second = cluster.api.submit(&request(script)).await;
    let first = cluster.running(&first.id).await;
    let second = cluster.running(&second.id).await;
    let (first_gpu, second_gpu) = (held(&first), held(&second));
    assert_eq!((first_gpu.len(), second_gpu.len()), (1, 1));
    assert_ne!(first_gpu, second_gpu);

    for session in [&first, &second] {
        let index = session.containers[0].devices[0]
            .index
            .expect("a GPU has its place");
        let lines = until("both were tried", Duration::from_secs(20), async || {
            let logs = cluster.cli(&["logs", &session.id]).await;
            (logs.stdout.lines().count() == 2).then_some(logs.stdout)
        })
        .await;
        for (number, line) in (0..).zip(lines.lines()) {
            if number == index {
                assert!(line.contains("No such device or address"), "{line}");
            } else {
                assert!(
                    line.contains("No such file") || line.contains("not permitted"),
                    "{line}"
                );
            }
        }
    }

    let gpus = cluster.cli(&["gpus"]).await;
    assert!(gpus.stdout.contains(&first.id), "{gpus:?}");
    assert!(gpus.stdout.contains(&second.id), "{gpus:?}");

    // A third finds none, says so, and follows as soon as one ends.
    let third = cluster.api.submit(&request("true")).await;
    let waiting = cluster
        .session_when(
            &third.id,
            "told why it waits",
            Duration::from_secs(20),
            |s| s.state == "PENDING" && !s.blocked_by.is_empty(),
        )
        .await;
    assert!(
        waiting
            .blocked_by
            .iter()
            .any(|reason| reason.slot.as_deref() == Some("cuda.device")),
        "{:?}",
        waiting.blocked_by
    );
    let stopped = cluster.cli(&["stop", &first.id]).await;
    assert_eq!(stopped.code, 0, "{stopped:?}");
    let third = cluster.ended(&third.id, Duration::from_secs(60)).await;
    assert_eq!(third.exit_code, Some(0), "{third:?}");
    assert_eq!(held(&third), first_gpu);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_gpu_is_offered_no_more() {
    let (node, cluster) = cluster().await;
    let capacity = async || {
        let agent = cluster.api.agents().await.remove(0);
        agent.capacity.get("cuda.device").cloned()
    };
    assert_eq!(capacity().await.as_deref(), Some("2"));
    let mut scenario = node.scenario();
    let lost = scenario["gpus"][1]["uuid"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    scenario["gpus"][1]["lost"] = json!(true);
    node.set(&scenario);
    until("one GPU is offered", Duration::from_secs(60), async || {
        (capacity().await.as_deref() == Some("1")).then_some(())
    })
    .await;
    let devices = cluster.api.devices().await;
    let device = devices.iter().find(|device| device.id == lost);
    assert_eq!(
        device.map(|device| device.health.as_str()),
        Some("lost"),
        "{devices:?}"
    );
    let session = cluster.api.submit(&request("true")).await;
    let session = cluster.ended(&session.id, Duration::from_secs(60)).await;
    assert_eq!(session.exit_code, Some(0), "{session:?}");
    assert!(!held(&session).contains(&lost));
}
