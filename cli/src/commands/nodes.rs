//! `nodes`, `node …` and `admin agent …`: the machines.

use crate::app::App;
use crate::ask::confirm;
use crate::client::{Client, encode, typed};
use crate::clock;
use crate::error::{Failure, code};
use crate::output::{Format, Table, amount, amounts, clean};
use longshore_common::amount::format_bytes_short;
use longshore_common::api::{Agent, AgentPatch, Device, Load};
use serde_json::{Value, json};

/// What can be done with nodes.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Verb {
    /// List the nodes
    Ls,
    /// Show a node
    Show {
        /// Its name or id
        name: String,
    },
    /// Say whether a node takes new sessions
    Schedulable {
        /// Its name or id
        name: String,
        /// on or off
        #[arg(value_enum)]
        to: Switch,
    },
    /// Take no new sessions on a node (schedulable off)
    Cordon {
        /// Its name or id
        name: String,
    },
    /// Take new sessions on a node again (schedulable on)
    Uncordon {
        /// Its name or id
        name: String,
    },
    /// Keep one GPU of a node back, or give it out again
    #[command(subcommand)]
    Device(DeviceVerb),
    /// Empty a node: nothing new comes, and at the deadline what is left is stopped
    Drain(super::drain::Args),
    /// A node need not be empty any more
    Undrain {
        /// Its name or id
        name: String,
    },
    /// Put a node into another resource group
    #[command(alias = "move")]
    Group {
        /// Its name or id
        name: String,
        /// The resource group
        group: String,
    },
    /// Refuse a node from now on; its sessions count as lost
    Expel {
        /// Its name or id
        name: String,
    },
    /// Give up now what runs on nodes that are lost
    ConfirmLoss {
        /// Their names or ids
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

/// What can be done with one GPU of a node.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum DeviceVerb {
    /// Give it out no more; what has it keeps it
    Cordon {
        /// Name or id of the node
        name: String,
        /// Id of the GPU, or the start of it: longshore gpus -o json
        gpu: String,
        /// For people
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Give it out again, whoever or whatever kept it back
    Uncordon {
        /// Name or id of the node
        name: String,
        /// Id of the GPU, or the start of it
        gpu: String,
    },
}

impl Verb {
    /// Whether it changes something and cannot be rehearsed.
    pub(crate) const fn writes(&self) -> bool {
        let rehearsed = matches!(
            self,
            Self::Drain(_) | Self::Undrain { .. } | Self::Device(_) | Self::ConfirmLoss { .. }
        );
        !rehearsed && !matches!(self, Self::Ls | Self::Show { .. })
    }
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// Does it.
pub(crate) async fn run(app: &App, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Ls => list(app).await,
        Verb::Show { name } => show(app, &name).await,
        Verb::Schedulable { name, to } => schedulable(app, &name, to).await,
        Verb::Cordon { name } => schedulable(app, &name, Switch::Off).await,
        Verb::Uncordon { name } => schedulable(app, &name, Switch::On).await,
        Verb::Device(DeviceVerb::Cordon { name, gpu, reason }) => {
            keep_gpu(app, &name, &gpu, Some(&reason)).await
        }
        Verb::Device(DeviceVerb::Uncordon { name, gpu }) => keep_gpu(app, &name, &gpu, None).await,
        Verb::Drain(args) => super::drain::begin(app, args).await,
        Verb::Undrain { name } => super::drain::end(app, &name).await,
        Verb::Group { name, group } => move_to(app, &name, &group).await,
        Verb::Expel { name } => {
            confirm(
                app,
                &format!("{name} is refused from now on and its sessions count as lost."),
                &[],
            )?;
            app.client()?
                .post(&format!("/agents/{}/expel", encode(&name)), &json!({}))
                .await?;
            say(app, &format!("{name} expelled"));
            Ok(0)
        }
        Verb::ConfirmLoss { names } => confirm_loss(app, &names).await,
    }
}

async fn confirm_loss(app: &App, names: &[String]) -> Result<u8, Failure> {
    let rehearsed = app.global.dry_run;
    if !rehearsed {
        let what = "What runs there ends, or is tried again on other nodes.";
        confirm(app, &format!("{}: {what}", names.join(", ")), &[])?;
    }
    let client = app.client()?;
    let query = if rehearsed { "?dry_run=true" } else { "" };
    for name in names {
        let path = format!("/agents/{}/confirm-loss{query}", encode(name));
        client.post(&path, &json!({})).await?;
        let would = if rehearsed { "rehearsed only: " } else { "" };
        say(app, &format!("{would}{name} is given up"));
    }
    Ok(0)
}

fn say(app: &App, text: &str) {
    if !app.global.quiet {
        eprintln!("{}", clean(text));
    }
}

/// Keeps a GPU back, for a reason, or gives it out again.
async fn keep_gpu(app: &App, name: &str, gpu: &str, reason: Option<&str>) -> Result<u8, Failure> {
    let client = app.client()?;
    let list = format!("/devices?agent={}", encode(name));
    let mut known = Vec::new();
    for item in client.list(&list).await? {
        let device: Device = typed(item)?;
        known.push(device.id);
    }
    let exact = known.iter().find(|id| *id == gpu);
    let mut begun = known.iter().filter(|id| id.starts_with(gpu));
    let id = match (exact, begun.next(), begun.next()) {
        (Some(id), _, _) | (None, Some(id), None) => id.clone(),
        (None, Some(_), Some(_)) => {
            let text = format!("{gpu} is the start of more than one GPU of {name}.");
            return Err(Failure::usage(text));
        }
        (None, None, _) => return Err(Failure::usage(format!("{name} has no GPU {gpu}."))),
    };
    let (verb, body) = match reason {
        Some("") => ("cordon", json!({})),
        Some(reason) => ("cordon", json!({ "reason": reason })),
        None => ("uncordon", json!({})),
    };
    let rehearsed = match app.global.dry_run {
        true => "?dry_run=true",
        false => "",
    };
    let path = format!(
        "/agents/{}/devices/{}/{verb}{rehearsed}",
        encode(name),
        encode(&id)
    );
    let answer = client.post(&path, &body).await?;
    if app.output().is_json() {
        app.output().value(&answer)?;
    } else {
        let done = match reason {
            Some(_) => "is given out no more",
            None => "is given out again, unless it shows a defect still",
        };
        say(app, &format!("{} of {} {done}", clean(&id), clean(name)));
    }
    Ok(0)
}

/// Lists them.
pub(crate) async fn list(app: &App) -> Result<u8, Failure> {
    let items = app.list("/agents").await?;
    let out = app.output();
    out.list(&items, "name", || table(&items, out.format == Format::Wide))?;
    if items.is_empty() && !app.global.quiet && !out.is_json() {
        eprintln!("no nodes yet; longshore token create prints what to run on one");
    }
    Ok(0)
}

pub(super) fn table(items: &[Value], wide: bool) -> Result<Table, Failure> {
    let mut columns = vec![
        "NAME",
        "GROUP",
        "STATE",
        "GPU",
        "CPU",
        "MEM",
        "CONTAINERS",
        "HEARTBEAT",
    ];
    if wide {
        columns.extend(["ADDRESS", "VERSION", "ENGINE", "DRIVER", "OS", "ID"]);
    }
    let mut table = Table::new(&columns);
    for item in items {
        let agent: Agent = typed(item.clone())?;
        let mut row = vec![
            agent.name.clone(),
            agent.group_name.clone(),
            state(&agent),
            agent
                .capacity
                .keys()
                .filter(|slot| !matches!(slot.as_str(), "cpu" | "mem"))
                .map(|slot| match slot.as_str() {
                    "cuda.device" | "cuda.shares" => used(&agent, slot),
                    _ => format!("{} {slot}", used(&agent, slot)),
                })
                .collect::<Vec<_>>()
                .join(", "),
            used(&agent, "cpu"),
            used(&agent, "mem"),
            agent.containers.to_string(),
            agent
                .last_heartbeat_at
                .map(|at| format!("{} ago", clock::ago(at)))
                .unwrap_or_default(),
        ];
        if wide {
            row.extend([
                agent.address.clone().unwrap_or_default(),
                agent.agent_version.clone(),
                agent.engine_version.clone(),
                agent.driver_version.clone(),
                agent.os.clone(),
                agent.id.clone(),
            ]);
        }
        table.row(row);
    }
    Ok(table)
}

fn state(agent: &Agent) -> String {
    let mut text = agent.state.to_lowercase();
    if !agent.schedulable {
        text.push_str(", unschedulable");
    }
    if agent.state == "ALIVE" && !agent.connected {
        text.push_str(", disconnected");
    }
    if let Some(drain) = &agent.drain {
        text.push_str(&match drain.deadline_at {
            Some(at) => format!(", drained by {}", clock::short(at)),
            None => ", drained".to_owned(),
        });
    }
    for condition in &agent.conditions {
        text.push_str(&format!(", {condition}"));
    }
    text
}

/// `2 of 8`
fn used(agent: &Agent, slot: &str) -> String {
    let of = agent.capacity.get(slot).map(|text| amount(slot, text));
    let taken = agent
        .occupied
        .get(slot)
        .map_or_else(|| "0".to_owned(), |text| amount(slot, text));
    of.map(|of| format!("{taken} of {of}")).unwrap_or_default()
}

async fn show(app: &App, name: &str) -> Result<u8, Failure> {
    let item = app
        .client()?
        .get(&format!("/agents/{}", encode(name)))
        .await?;
    app.output()
        .object(&item, "name", || Ok(text(&typed(item.clone())?)))?;
    Ok(0)
}

fn text(agent: &Agent) -> String {
    let mut text = format!("{}  {}\n", clean(&agent.name), clean(&state(agent)));
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("  {name:<12} {}\n", clean(value)));
        }
    };
    line("id", &agent.id);
    line("group", &agent.group_name);
    line("capacity", &amounts(&agent.capacity));
    line("occupied", &amounts(&agent.occupied));
    line("containers", &agent.containers.to_string());
    if let Some(count) = agent.unclaimed {
        let text = format!("{count}; longshore admin unclaimed ls names them");
        line("unclaimed", &text);
    }
    line(
        "incompatible",
        agent.incompatible.as_deref().unwrap_or_default(),
    );
    line("address", agent.address.as_deref().unwrap_or_default());
    line(
        "connected",
        &agent.connected_since.map(clock::full).unwrap_or_default(),
    );
    line(
        "heartbeat",
        &agent
            .last_heartbeat_at
            .map(|at| format!("{} ago", clock::ago(at)))
            .unwrap_or_default(),
    );
    line("joined", &clock::full(agent.created_at));
    line("agent", &agent.agent_version);
    line(
        "system",
        &format!("{} {} {}", agent.os, agent.kernel, agent.arch),
    );
    line("engine", &agent.engine_version);
    line("driver", &agent.driver_version);
    line("GPU way", agent.gpu_way.as_deref().unwrap_or_default());
    line("", &agent.gpu_way_detail);
    if let Some(load) = &agent.load {
        line("load", &load_text(load));
    }
    for device in &agent.devices {
        let health = match (device.health.as_str(), device.health_detail.as_str()) {
            (health, "") => health.to_owned(),
            (health, detail) => format!("{health}: {detail}"),
        };
        line(
            &format!("GPU {}", device.index),
            &format!("{}  {}  {health}", device.model, device.id),
        );
    }
    text
}

fn load_text(load: &Load) -> String {
    format!(
        "{} over a minute, {} of memory and {} of {} of disk free, agent {}",
        longshore_common::amount::format_milli(load.load_milli),
        format_bytes_short(load.mem_free_bytes),
        format_bytes_short(load.disk_free_bytes),
        format_bytes_short(load.disk_total_bytes),
        format_bytes_short(load.agent_rss_bytes)
    )
}

async fn schedulable(app: &App, name: &str, to: Switch) -> Result<u8, Failure> {
    let client = app.client()?;
    let path = format!("/agents/{}", encode(name));
    let patch = AgentPatch {
        schedulable: Some(to == Switch::On),
        ..AgentPatch::default()
    };
    let answer = patch_fresh(&client, &path, &patch).await?;
    if app.output().is_json() {
        app.output().value(&answer)?;
    } else {
        let takes = if to == Switch::On {
            "takes new sessions"
        } else {
            "takes no new sessions; those on it go on"
        };
        say(app, &format!("{name} {takes}"));
    }
    Ok(0)
}

async fn move_to(app: &App, name: &str, group: &str) -> Result<u8, Failure> {
    let client = app.client()?;
    let patch = AgentPatch {
        group: Some(group.to_owned()),
        ..AgentPatch::default()
    };
    let answer = patch_fresh(&client, &format!("/agents/{}", encode(name)), &patch).await?;
    if app.output().is_json() {
        app.output().value(&answer)?;
    } else {
        say(app, &format!("{name} is in resource group {group}"));
    }
    Ok(0)
}

/// The change is one word that does not depend on what else changed meanwhile, so a
/// stale version is read again, a few times.
async fn patch_fresh(client: &Client, path: &str, patch: &AgentPatch) -> Result<Value, Failure> {
    let mut tries = 0;
    loop {
        let agent: Agent = client.get_as(path).await?;
        match client.patch(path, agent.version, patch).await {
            Err(failure) if failure.exit == code::CONFLICT && tries < 3 => tries += 1,
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen() {
        let item = json!({
            "id": "agt_x", "version": 2, "name": "gpu01", "group": "rgp_x", "group_name": "default",
            "state": "ALIVE", "connected": true, "schedulable": false, "conditions": ["disk-low"],
            "capacity": {"cpu": "15", "mem": "64424509440", "cuda.device": "2"},
            "occupied": {"cpu": "1", "mem": "1073741824"}, "containers": 1,
            "created_at": "2026-11-20T21:05:03Z"
        });
        assert_eq!(
            table(&[item], false).unwrap().render(true, None),
            "NAME   GROUP    STATE                           GPU     CPU      MEM            CONTAINERS  HEARTBEAT\n\
             gpu01  default  alive, unschedulable, disk-low  0 of 2  1 of 15  1 GB of 60 GB  1\n"
        );
    }
}
