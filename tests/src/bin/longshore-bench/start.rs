//! From a submission to the start of its container, beside containers made with the Docker
//! API alone, in turn: a plain one of the same image and limits, and one with every option
//! that ours have (init process, mounts, capabilities, limits), which is what Docker alone
//! takes for the same work.

use super::Order;
use super::report::{Of, Row, Target, quantile};
use anyhow::{Context as _, Result, bail};
use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig, NetworkCreateRequest};
use bollard::query_parameters::{CreateContainerOptions, RemoveContainerOptions};
use futures_util::future::try_join_all;
use longshore_common::api::Session;
use longshore_tests::load::daemons::{Coordinator, agent, purge, wait_for_agents};
use longshore_tests::load::https::{Client, Connection};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const IMAGE: &str = "longshore/base:latest";
const MEMORY: i64 = 64 << 20;
/// A container that is not there after this long will not come.
const LIMIT: Duration = Duration::from_secs(30);
/// Between two starts, until the networks and files of the last one are gone.
const SETTLE: Duration = Duration::from_millis(300);

pub(super) async fn measure(order: &Order, at_once: usize) -> Result<Vec<Row>> {
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
    let settings = [
        ("LONGSHORE__AGENT__OFFERED__CPU", "64"),
        ("LONGSHORE__AGENT__OFFERED__MEM_MIB", "16384"),
    ];
    let mut agent = agent(&order.programs, dir.path(), &coordinator, &settings).await?;
    wait_for_agents(&coordinator, 1).await?;
    let result = pairs(order, at_once, &docker, &coordinator).await;
    agent.end()?;
    purge(&order.programs, dir.path()).await?;
    rows(at_once, &result?)
}

#[derive(Default)]
struct Figures {
    ours: Vec<Took>,
    plain: Vec<Took>,
    same: Vec<Took>,
    /// Milliseconds until the last of those at once had started.
    ours_all: Vec<f64>,
    plain_all: Vec<f64>,
    same_all: Vec<f64>,
}

async fn pairs(
    order: &Order,
    at_once: usize,
    docker: &Docker,
    coordinator: &Coordinator,
) -> Result<Figures> {
    let count = match at_once {
        1 => order.pick(order.pairs * 3, 2),
        _ => order.pick(order.pairs + 1, 1),
    };
    let client = &coordinator.client;
    // It stays until the end: what is mounted into copies of it must be there.
    let mut connection = client.connect().await?;
    let template = submit(docker, client, &mut connection).await?;
    let same = docker
        .inspect_container(&template.container, None)
        .await?
        .host_config
        .context("no options")?;
    let plain = HostConfig {
        memory: Some(MEMORY),
        nano_cpus: Some(1_000_000_000),
        ..HostConfig::default()
    };
    let mut figures = Figures::default();
    // The first of each is not counted: caches fill.
    for turn in 0..=count {
        let mut connections = Vec::new();
        for _ in 0..at_once {
            connections.push(client.connect().await?);
        }
        let ours = try_join_all(connections.iter_mut().map(|c| ours(docker, client, c))).await?;
        tokio::time::sleep(SETTLE).await;
        let plain = alone(docker, at_once, &format!("{turn}-plain"), &plain).await?;
        let same = alone(docker, at_once, &format!("{turn}-same"), &same).await?;
        if turn > 0 {
            figures.ours_all.push(most(&ours));
            figures.plain_all.push(most(&plain));
            figures.same_all.push(most(&same));
            figures.ours.extend(ours);
            figures.plain.extend(plain);
            figures.same.extend(same);
        }
    }
    Ok(figures)
}

/// Containers by the Docker API alone, at once, each on a bridge made before.
async fn alone(
    docker: &Docker,
    at_once: usize,
    label: &str,
    options: &HostConfig,
) -> Result<Vec<Took>> {
    let mut networks = Vec::new();
    for number in 0..at_once {
        networks.push(network(docker, label, number).await?);
    }
    let times = try_join_all(networks.iter().map(|n| raw(docker, n, options))).await;
    for network in &networks {
        docker.remove_network(network).await?;
    }
    tokio::time::sleep(SETTLE).await;
    times
}

fn most(figures: &[Took]) -> f64 {
    figures.iter().map(|took| took.start).fold(0.0, f64::max)
}

fn rows(at_once: usize, figures: &Figures) -> Result<Vec<Row>> {
    let name = if at_once == 1 { "start" } else { "start4" };
    let plain = "Docker API create + start, same image, memory and cpu; a bridge made before";
    let same = "Docker API create + start with all options of ours; a bridge made before";
    let starts = |all: &[Took]| all.iter().map(|took| took.start).collect();
    let creates = |all: &[Took]| all.iter().map(|took| took.create).collect();
    let more = |than: &[Took]| -> Vec<f64> {
        let pairs = figures.ours.iter().zip(than);
        pairs.map(|(ours, raw)| ours.start - raw.start).collect()
    };
    let (more_plain, more_same) = (more(&figures.plain), more(&figures.same));
    let p99 = |all: &[f64]| quantile(all, 0.99).context("nothing was measured");
    let (p99_plain, p99_same) = (p99(&more_plain)?, p99(&more_same)?);
    let mut rows = vec![
        Row::new(name, "submission to start", "ms", starts(&figures.ours))
            .beside(plain, starts(&figures.plain)),
        Row::new(
            name,
            "the same, all options alike",
            "ms",
            starts(&figures.ours),
        )
        .beside(same, starts(&figures.same)),
        Row::new(
            name,
            "submission to Docker's create",
            "ms",
            creates(&figures.ours),
        )
        .beside("the call to Docker's create", creates(&figures.same))
        .note("by Docker's own times: what stands before its work, and so is ours alone"),
    ];
    let beyond = Row::new(name, "more than plain, median of pairs", "ms", more_plain)
        .note(format!("p99 {p99_plain:.1} ms"));
    rows.push(match at_once {
        1 => beyond.target(Of::Ours, Target::AtMost(5.0)),
        _ => beyond,
    });
    let alike = Row::new(name, "more than alike, median of pairs", "ms", more_same)
        .note(format!("p99 {p99_same:.1} ms"));
    if at_once == 1 {
        rows.push(alike.target(Of::Ours, Target::AtMost(5.0)));
    } else {
        rows.push(alike);
        let rate = |all: &[f64]| -> Vec<f64> {
            let at_once = f64::from(u32::try_from(at_once).unwrap_or(u32::MAX));
            all.iter().map(|ms| at_once * 1000.0 / ms).collect()
        };
        for (what, label, all) in [
            ("containers per second", plain, &figures.plain_all),
            ("the same, all options alike", same, &figures.same_all),
        ] {
            let row = Row::new(name, what, "/s", rate(&figures.ours_all));
            rows.push(
                row.beside(label, rate(all))
                    .target(Of::Ratio, Target::AtLeast(0.9)),
            );
        }
    }
    Ok(rows)
}

fn now_ns() -> i128 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i128::try_from(since.as_nanos()).unwrap_or(0)
}

/// One container, in milliseconds after it was asked for, by Docker's own word.
#[derive(Debug, Clone, Copy)]
struct Took {
    /// Docker began to create it.
    create: f64,
    /// Its process started.
    start: f64,
}

async fn took(docker: &Docker, container: &str, began: i128) -> Result<Took> {
    let found = docker.inspect_container(container, None).await?;
    let state = found.state.context("no state")?;
    let after = |text: String| {
        let at = parse_ns(&text).with_context(|| format!("\"{text}\" is no time"))?;
        #[expect(clippy::cast_precision_loss, reason = "some milliseconds")]
        let ms = (at - began) as f64 / 1e6;
        anyhow::Ok(ms)
    };
    Ok(Took {
        create: after(found.created.context("not created")?.to_string())?,
        start: after(state.started_at.context("not started")?.to_string())?,
    })
}

/// RFC 3339 in UTC with nanoseconds, as Docker writes it.
fn parse_ns(text: &str) -> Option<i128> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, sign| -> Option<Vec<i64>> {
        text.split(sign).map(|part| part.parse().ok()).collect()
    };
    let [year, month, day] = numbers(date, '-')?.try_into().ok()?;
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(clock, ':')?.try_into().ok()?;
    // Days since 1970, by the well-known rule for the Gregorian calendar.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719_468;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    let nanos: i128 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Some(i128::from(seconds) * 1_000_000_000 + nanos)
}

/// A session that runs.
struct Running {
    session: String,
    container: String,
    took: Took,
}

/// Asks for a session and waits until it runs.
async fn submit(docker: &Docker, client: &Client, connection: &mut Connection) -> Result<Running> {
    let body = serde_json::json!({
        "image": IMAGE,
        "command": ["sleep", "600"],
        "slots": { "cpu": "1", "mem": MEMORY.to_string() },
    });
    let request = client.request("POST", "/api/v1/sessions", "", body.to_string().as_bytes());
    let began = now_ns();
    let mut session: Session = connection.send(&request).await?.json()?;
    let until = Instant::now() + LIMIT;
    while session.state != "RUNNING" {
        if Instant::now() > until
            || !["PENDING", "SCHEDULED", "PREPARING"].contains(&session.state.as_str())
        {
            bail!(
                "session {} is {}: {:?}",
                session.id,
                session.state,
                session.detail
            );
        }
        session = wait(client, connection, &session).await?;
    }
    let container = session.containers.first().context("no container")?;
    Ok(Running {
        took: took(docker, &container.docker_id, began).await?,
        container: container.docker_id.clone(),
        session: session.id,
    })
}

async fn ours(docker: &Docker, client: &Client, connection: &mut Connection) -> Result<Took> {
    let running = submit(docker, client, connection).await?;
    let path = format!("/api/v1/sessions/{}/terminate", running.session);
    let request = client.request("POST", &path, "", br#"{"grace_s":0}"#);
    let _: serde_json::Value = connection.send(&request).await?.json()?;
    let until = Instant::now() + LIMIT;
    while docker
        .inspect_container(&running.container, None)
        .await
        .is_ok()
    {
        if Instant::now() > until {
            bail!("the container of {} stays", running.session);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(running.took)
}

/// The session once it has changed.
async fn wait(client: &Client, connection: &mut Connection, known: &Session) -> Result<Session> {
    let path = format!("/api/v1/sessions/{}?wait_s=30", known.id);
    let tag = format!("if-none-match: \"{}\"\r\n", known.version);
    let request = client.request("GET", &path, &tag, b"");
    let answer = connection.send(&request).await?;
    match answer.status {
        304 => Ok(known.clone()),
        _ => answer.json(),
    }
}

async fn network(docker: &Docker, label: &str, number: usize) -> Result<String> {
    let name = format!("longshore-bench-{}-{label}-{number}", std::process::id());
    let request = NetworkCreateRequest {
        name: name.clone(),
        driver: Some("bridge".to_owned()),
        ..NetworkCreateRequest::default()
    };
    docker.create_network(request).await?;
    Ok(name)
}

async fn raw(docker: &Docker, network: &str, host: &HostConfig) -> Result<Took> {
    let options = CreateContainerOptions {
        name: Some(format!("{network}-container")),
        ..CreateContainerOptions::default()
    };
    let body = ContainerCreateBody {
        image: Some(IMAGE.to_owned()),
        cmd: Some(vec!["sleep".to_owned(), "600".to_owned()]),
        host_config: Some(HostConfig {
            network_mode: Some(network.to_owned()),
            ..host.clone()
        }),
        ..ContainerCreateBody::default()
    };
    let began = now_ns();
    let id = docker.create_container(Some(options), body).await?.id;
    let started = docker.start_container(&id, None).await;
    let times = match started {
        Ok(()) => took(docker, &id, began).await,
        Err(error) => Err(error.into()),
    };
    let options = RemoveContainerOptions {
        force: true,
        ..RemoveContainerOptions::default()
    };
    docker.remove_container(&id, Some(options)).await?;
    times
}
