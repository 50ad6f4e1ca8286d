//! Images out of a registry: how far a pull is, what was pulled, what cannot be.

use longshore_tests::fixture::{AgentOptions, Cluster, Registry, until};
use serde_json::json;
use std::time::Duration;

/// Bytes on top of the base image, and how many come in a second.
const NOISE: usize = 12 << 20;
const PER_SECOND: usize = 4 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_pulled_with_progress_and_by_its_digest() {
    let mut registry = Registry::start().await;
    let digest = registry.push_noise("team/noise", NOISE);
    let slow = registry.slow_host(PER_SECOND).await;
    let cluster = Cluster::with_agent(AgentOptions::default()).await;

    let image = format!("{slow}/team/noise:1");
    registry.will_pull(&image);
    let command = ["sh", "-c", "wc -c </noise; exit 3"];
    let session = cluster
        .api
        .submit(&json!({
            "image": image, "command": command, "slots": {"cpu": "1", "mem": "64M"}
        }))
        .await;
    let progress = until(
        "the pull tells how far it is",
        Duration::from_secs(30),
        async || {
            let now = cluster.api.session(&session.id).await;
            assert_eq!(now.exit_code, None, "it was too fast to be seen: {now:?}");
            let pulling = now.containers.into_iter().find_map(|c| c.progress)?;
            (pulling.bytes_done > 0).then_some(pulling)
        },
    )
    .await;
    let total = usize::try_from(progress.bytes_total.unwrap_or(0)).unwrap_or(0);
    // Noise does not get smaller; the base image was there.
    assert!((NOISE..NOISE + (1 << 20)).contains(&total), "{progress:?}");
    assert!(progress.layers_total.is_some(), "{progress:?}");
    let ended = cluster.ended(&session.id, Duration::from_secs(60)).await;
    assert_eq!(ended.exit_code, Some(3), "{ended:?}");
    assert!(
        ended.containers.iter().all(|c| c.progress.is_none()),
        "it is not pulling any more: {ended:?}"
    );
    let logs = cluster.cli(&["logs", &session.id]).await;
    assert_eq!(logs.stdout.trim(), NOISE.to_string());
    let digests = registry.inspect(&image, "{{json .RepoDigests}}");
    assert!(digests.contains(&digest), "{digest} in {digests}");
    assert_eq!(ended.image_digest.as_ref(), Some(&digest), "{ended:?}");
    let ran = ended.containers.iter().map(|c| c.image_digest.as_ref());
    assert!(ran.eq([Some(&digest)]), "{ended:?}");

    // The same by its digest alone, and one that is no image's.
    let exact = format!("{slow}/team/noise@{digest}");
    registry.will_pull(&exact);
    let by_digest = cluster
        .run(&["-q", "--image", &exact], &["sh", "-c", "exit 4"])
        .await;
    assert_eq!(by_digest.code, 4, "{by_digest:?}");
    let other = format!("{slow}/team/noise@sha256:{}", "0".repeat(64));
    let none = cluster.run(&["--image", &other], &["true"]).await;
    assert_eq!(none.code, 125, "{none:?}");
    assert!(none.stderr.contains("pull-not-found"), "{none:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_no_registry_has_is_named() {
    let registry = Registry::start().await;
    let cluster = Cluster::with_agent(AgentOptions::default()).await;
    let image = format!("{}/no/such:1", registry.host());
    let refused = cluster.run(&["--image", &image], &["true"]).await;
    assert_eq!(refused.code, 125, "{refused:?}");
    for word in ["pull-not-found", "no/such"] {
        assert!(refused.stderr.contains(word), "{word} in {refused:?}");
    }
}

/// The agent keeps nearly the whole disk free, so there is never room for what is not there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_has_no_room_is_said_and_costs_nobody_else() {
    let mut registry = Registry::start().await;
    registry.push_noise("team/large", 1 << 20);
    let water = "LONGSHORE__AGENT__IMAGES__LOW_WATER".to_owned();
    let cluster = Cluster::with_agent(AgentOptions {
        environment: vec![(water, "90".to_owned())],
        ..AgentOptions::default()
    })
    .await;
    let group = ["admin", "resource-group", "edit", "default"];
    let once = [&group[..], &["--set", "creation_retries=0"]].concat();
    let set = cluster.cli(&once).await;
    assert_eq!(set.code, 0, "{set:?}");
    let image = format!("{}/team/large:1", registry.host());
    let refused = cluster.run(&["--image", &image], &["true"]).await;
    assert_eq!(refused.code, 125, "{refused:?}");
    for words in ["no-space", "no room to pull", "team/large", "90 %"] {
        assert!(refused.stderr.contains(words), "{words} in {refused:?}");
    }
    // What is there already needs no room.
    let there = cluster.run(&["-q"], &["sh", "-c", "exit 6"]).await;
    assert_eq!(there.code, 6, "{there:?}");
}
