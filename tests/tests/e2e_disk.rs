//! A coordinator whose disk fills up.

use longshore_tests::fixture::{AgentOptions, Cluster, ClusterOptions, until};
use reqwest::Method;
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

const MIB: u64 = 1 << 20;

fn free(path: &Path) -> u64 {
    let disk = rustix::fs::statvfs(path).expect("it is mounted");
    disk.f_bavail * disk.f_frsize
}

/// Writes until so many bytes are left, or none.
fn fill(file: &mut std::fs::File, dir: &Path, leave: u64) {
    let piece = vec![7; 64 << 10];
    while free(dir) > leave {
        let left = usize::try_from(free(dir) - leave).unwrap_or(piece.len());
        if file.write_all(&piece[..left.min(piece.len())]).is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_full_disk_sessions_are_stopped_and_with_room_begun_again() {
    let mut cluster = Cluster::start(ClusterOptions {
        disk_mib: Some(64),
        ..ClusterOptions::default()
    })
    .await;
    cluster.add_agent(AgentOptions::default()).await;
    let wanted = json!({"command": ["sh", "-c", "sleep 600"], "slots": {"cpu": "1", "mem": "32M"}});
    let first = cluster.api.submit(&wanted).await;
    cluster.running(&first.id).await;
    let data = cluster.data();
    let ballast = data.join("ballast");
    assert!(ballast.exists(), "made at the start");
    let filler = data.join("filler");
    let mut file = std::fs::File::create(&filler).expect("there is room");
    let (api, limit) = (cluster.api.clone(), Duration::from_secs(30));
    let send = async |path: &str, body: &Value| {
        let sent = api.send(Method::POST, path, Some(body), None).await;
        let (status, body) = sent.expect("it answers");
        (status.as_u16(), body)
    };

    fill(&mut file, &data, 4 * MIB);
    let refused = until("new sessions are refused", limit, async || {
        let (status, body) = send("/api/v1/sessions", &wanted).await;
        (status != 201).then_some((status, body))
    })
    .await;
    assert_eq!(refused.0, 507, "{}", refused.1);
    assert_eq!(refused.1["code"], "LS-DISK-LOW");
    let (_, readiness) = api
        .send(Method::GET, "/readyz", None, None)
        .await
        .expect("it answers");
    let checks = readiness["checks"].as_array().expect("a list");
    let disk = checks.iter().find(|check| check["name"] == "disk");
    assert_eq!(disk.expect("there is one")["ok"], false, "{readiness}");

    fill(&mut file, &data, 0);
    let path = format!("/api/v1/sessions/{}/terminate", first.id);
    until("it is stopped all the same", limit, async || {
        let (status, _) = send(&path, &json!({})).await;
        (status < 300).then_some(())
    })
    .await;
    let ended = cluster.ended(&first.id, Duration::from_secs(60)).await;
    assert_eq!(ended.reason.as_deref(), Some("user-requested"));
    assert!(!ballast.exists(), "it was given back");

    drop(file);
    std::fs::remove_file(&filler).expect("it is there");
    until(
        "they are taken again",
        Duration::from_secs(15),
        async || {
            let (status, _) = send("/api/v1/sessions", &wanted).await;
            (status == 201).then_some(())
        },
    )
    .await;
    assert!(ballast.exists(), "and made again");
}
