//! Output of one container while it is written: through agent and coordinator to a client,
//! beside Docker's own logs of a container that does the same, in turn.

use super::Order;
use super::report::{Of, Row, Target};
use anyhow::{Context as _, Result, bail};
use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};
use bollard::query_parameters::{CreateContainerOptions, LogsOptions, RemoveContainerOptions};
use futures_util::StreamExt as _;
use longshore_common::api::Session;
use longshore_tests::load::daemons::{Coordinator, agent, purge, wait_for_agents};
use std::time::{Duration, Instant};

const IMAGE: &str = "longshore/base:latest";
const MEMORY: i64 = 256 << 20;
/// Docker is waited for so long in all.
const LIMIT: Duration = Duration::from_secs(60);
/// Before it writes the program waits until somebody follows. Its own sleep, in seconds.
const LEAD: &str = "2";

pub(super) async fn measure(order: &Order) -> Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let docker = Docker::connect_with_unix(
        "/var/run/docker.sock",
        LIMIT.as_secs(),
        bollard::API_DEFAULT_VERSION,
    )?
    .negotiate_version()
    .await
    .context("there is no Docker")?;
    let mut coordinator = Coordinator::start(&order.programs, dir.path()).await?;
    coordinator.set_up().await?;
    let mut agent = agent(&order.programs, dir.path(), &coordinator, &[]).await?;
    wait_for_agents(&coordinator, 1).await?;
    let result = pairs(order, &docker, &coordinator).await;
    agent.end()?;
    purge(&order.programs, dir.path()).await?;
    let (ours, alone) = result?;
    Ok(vec![
        Row::new("logs", "output of one container to a client", "MiB/s", ours)
            .beside("docker logs --follow of the same program", alone)
            .target(Of::Ratio, Target::AtLeast(0.8))
            .note("200 MiB/s are enough whatever the ratio"),
    ])
}

async fn pairs(
    order: &Order,
    docker: &Docker,
    coordinator: &Coordinator,
) -> Result<(Vec<f64>, Vec<f64>)> {
    // Less than Docker writes into one file: whoever follows a program that writes faster than it
    // is read loses what was turned away meanwhile, with Docker's own command as well.
    let bytes: usize = order.pick(9 << 20, 1 << 20);
    let line = "x".repeat(99);
    let script = format!("sleep {LEAD}; yes {line} | head -c {bytes}");
    let (mut ours, mut alone) = (Vec::new(), Vec::new());
    for turn in 0..order.pick(order.pairs, 1) {
        ours.push(through(coordinator, &script, bytes).await?);
        alone.push(raw(docker, turn, &script, bytes).await?);
    }
    Ok((ours, alone))
}

/// How fast bytes came, from the first to the last.
#[derive(Default)]
struct Rate {
    first: Option<Instant>,
    last: Option<Instant>,
    bytes: usize,
}

impl Rate {
    fn took(&mut self, bytes: usize) {
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.bytes += bytes;
    }

    /// In MiB a second.
    fn value(&self, wanted: usize) -> Result<f64> {
        let (first, last) = self.first.zip(self.last).context("nothing was written")?;
        if self.bytes != wanted {
            bail!("{} of {wanted} bytes came", self.bytes);
        }
        #[expect(clippy::cast_precision_loss, reason = "some millions")]
        let mib = self.bytes as f64 / f64::from(1 << 20);
        Ok(mib / last.duration_since(first).as_secs_f64())
    }
}

async fn through(coordinator: &Coordinator, script: &str, bytes: usize) -> Result<f64> {
    let client = &coordinator.client;
    let body = serde_json::json!({
        "image": IMAGE,
        "command": ["sh", "-c", script],
        "slots": { "cpu": "1", "mem": MEMORY.to_string() },
    });
    let body = body.to_string();
    let made = client.ask("POST", "/api/v1/sessions", body.as_bytes());
    let session: Session = made.await?.json()?;
    let path = format!("/api/v1/sessions/{}/logs?follow=true", session.id);
    let request = client.request("GET", &path, "", b"");
    let mut rate = Rate::default();
    let mut connection = client.connect().await?;
    connection.drain(&request, |size| rate.took(size)).await?;
    rate.value(bytes)
}

async fn raw(docker: &Docker, turn: u32, script: &str, bytes: usize) -> Result<f64> {
    let options = CreateContainerOptions {
        name: Some(format!(
            "longshore-bench-{}-logs-{turn}",
            std::process::id()
        )),
        ..CreateContainerOptions::default()
    };
    let body = ContainerCreateBody {
        image: Some(IMAGE.to_owned()),
        cmd: Some(["sh", "-c", script].map(str::to_owned).to_vec()),
        host_config: Some(HostConfig {
            memory: Some(MEMORY),
            nano_cpus: Some(1_000_000_000),
            // As containers of ours have it.
            log_config: Some(HostConfigLogConfig {
                typ: Some("local".to_owned()),
                config: Some(
                    [("max-size", "10m"), ("max-file", "3")]
                        .map(|(k, v)| (k.to_owned(), v.to_owned()))
                        .into(),
                ),
            }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let id = docker.create_container(Some(options), body).await?.id;
    let rate = follow(docker, &id, bytes).await;
    let options = RemoveContainerOptions {
        force: true,
        ..RemoveContainerOptions::default()
    };
    docker.remove_container(&id, Some(options)).await?;
    rate
}

async fn follow(docker: &Docker, id: &str, bytes: usize) -> Result<f64> {
    docker.start_container(id, None).await?;
    let options = LogsOptions {
        follow: true,
        stdout: true,
        ..LogsOptions::default()
    };
    let mut output = docker.logs(id, Some(options));
    let mut rate = Rate::default();
    while let Some(piece) = output.next().await {
        rate.took(piece?.as_ref().len());
    }
    rate.value(bytes)
}
