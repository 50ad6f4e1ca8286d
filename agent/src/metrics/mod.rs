//! Figures of the agent, as Prometheus reads them. What is shown is what others keep anyway:
//! nobody is asked for it, neither the engine nor a driver.
//!
//! | input | output |
//! |---|---|
//! | what the parts of the agent note | [`Tally`], [`CallTimes`] |
//! | these, the outbox, the newest snapshot of the GPUs, the kernel | [`page`] |
//! | a page, an address | answers to `GET /metrics` ([`serve`]) |

mod serve;
mod tally;

pub use serve::serve;
pub use tally::{CallTimes, Noted, Tally};

use crate::devices::Snapshot;
use crate::link::Shared;
use longshore_common::agent::{Device, Health, NodeLoad, RuntimeState};
use longshore_common::metrics::{Family, Kind, Number, Page, counter, gauge, process};
use longshore_common::session::ContainerState;
use std::collections::BTreeMap;

const GPU: &[&str] = &["node", "gpu"];

static INFO: Family = gauge(
    "longshore_agent_info",
    &["node", "agent", "version"],
    "1, with what the agent is.",
);
static LINK_UP: Family = gauge(
    "longshore_agent_link_up",
    &[],
    "Whether there is a connection to the coordinator.",
);
static RECONNECTS: Family = counter(
    "longshore_agent_link_reconnects_total",
    &[],
    "Connections to the coordinator after the first one.",
);
static RTT: Family = gauge(
    "longshore_agent_heartbeat_rtt_seconds",
    &[],
    "From the last heartbeat that was answered to its answer.",
);
static APPLIED: Family = gauge(
    "longshore_agent_applied_generation",
    &[],
    "Number of the set of orders that the agent goes by.",
);
static LEASE: Family = gauge(
    "longshore_agent_lease_remaining_seconds",
    &[],
    "How long restartable containers go on without a word from the coordinator; 0 = over, none = for ever.",
);
static CONTAINERS: Family = gauge(
    "longshore_agent_containers",
    &["state"],
    "Containers of sessions on this node, as the coordinator is told.",
);
static STEPS: Family = counter(
    "longshore_agent_steps_total",
    &["step", "result"],
    "Steps that were taken with containers: ok or failed.",
);
static CALLS: Family = Family {
    name: "longshore_agent_docker_call_seconds",
    kind: Kind::Histogram,
    labels: &["call"],
    help: "Calls of the container engine, those that failed among them.",
};
static DOCKER_UP: Family = gauge(
    "longshore_agent_docker_up",
    &[],
    "Whether the container engine answers.",
);
static UNACKED: Family = gauge(
    "longshore_agent_outcomes_unacked",
    &[],
    "Ends of containers that the coordinator has not confirmed.",
);
static JOURNAL: Family = gauge("longshore_agent_journal_bytes", &[], "Size of the journal.");
static UNCLAIMED: Family = gauge(
    "longshore_agent_unclaimed_containers",
    &[],
    "Containers of ours that no order names.",
);
static DROPPED: Family = counter(
    "longshore_agent_dropped_telemetry_total",
    &[],
    "Notices that were dropped because too many waited for the coordinator.",
);
static UTILIZATION: Family = gauge(
    "longshore_gpu_utilization_ratio",
    GPU,
    "Utilization of a GPU.",
);
static GPU_MEMORY: Family = gauge(
    "longshore_gpu_memory_used_bytes",
    GPU,
    "Memory of a GPU in use.",
);
static TEMPERATURE: Family = gauge(
    "longshore_gpu_temperature_celsius",
    GPU,
    "Temperature of a GPU.",
);
static POWER: Family = gauge("longshore_gpu_power_watts", GPU, "What a GPU draws.");
static HEALTH: Family = gauge(
    "longshore_gpu_health",
    &["node", "gpu", "reason"],
    "1 where a GPU may be given out, else 0; the reason is its health in one word.",
);
static XIDS: Family = counter(
    "longshore_gpu_xid_total",
    &["node", "gpu", "xid"],
    "Errors that the driver told of a GPU, by its number for them.",
);
static PULLED: Family = counter(
    "longshore_agent_pull_bytes_total",
    &[],
    "Compressed bytes of images that were fetched.",
);
static DISK: Family = gauge(
    "longshore_agent_disk_free_bytes",
    &["path"],
    "Free bytes where the container engine keeps its data.",
);

/// Every family of the agent, in the order of the page.
pub static FAMILIES: [&Family; 25] = [
    &INFO,
    &LINK_UP,
    &RECONNECTS,
    &RTT,
    &APPLIED,
    &LEASE,
    &CONTAINERS,
    &STEPS,
    &CALLS,
    &DOCKER_UP,
    &UNACKED,
    &JOURNAL,
    &UNCLAIMED,
    &DROPPED,
    &UTILIZATION,
    &GPU_MEMORY,
    &TEMPERATURE,
    &POWER,
    &HEALTH,
    &XIDS,
    &PULLED,
    &DISK,
    &process::MEMORY,
    &process::CPU,
    &process::DESCRIPTORS,
];

/// What a page is made of.
#[derive(Debug)]
pub struct Shown<'a> {
    /// What the coordinator is told, and what was noted beside it.
    pub shared: &'a Shared,
    /// The GPUs as they were seen last.
    pub gpus: &'a Snapshot,
    /// What calls of the engine took.
    pub calls: &'a CallTimes,
    /// What the agent was called when it joined.
    pub joined_as: &'a str,
    /// Its id.
    pub agent: &'a str,
    /// Now, on the clock of the machine's start, in milliseconds.
    pub boot_ms: i64,
    /// What this process takes.
    pub taken: process::Taken,
}

/// What is read from the outbox, while nobody else may write to it.
struct Told {
    applied: u64,
    docker_up: bool,
    containers: BTreeMap<ContainerState, u64>,
    unacked: usize,
    unclaimed: usize,
    dropped: u64,
    load: Option<NodeLoad>,
    devices: Vec<Device>,
}

impl Told {
    fn by(shared: &Shared) -> Self {
        let outbox = shared.outbox();
        let mut containers: BTreeMap<_, _> = ContainerState::ALL
            .iter()
            .map(|state| (*state, 0))
            .collect();
        for state in outbox.states() {
            *containers.entry(state).or_default() += 1;
        }
        let inventory = outbox.inventory.1.as_ref();
        Self {
            applied: outbox.applied.0,
            docker_up: outbox.runtime == RuntimeState::Up,
            containers,
            unacked: outbox.outcomes.len(),
            unclaimed: outbox.unclaimed.1.len(),
            dropped: outbox.dropped_ever(),
            load: outbox.load.clone(),
            devices: inventory.map_or_else(Vec::new, |inventory| inventory.devices.clone()),
        }
    }
}

/// All of it.
#[must_use]
pub fn page(shown: &Shown<'_>) -> String {
    let told = Told::by(shown.shared);
    let noted = shown.shared.tally.noted();
    let node = match noted.name.as_str() {
        "" => shown.joined_as,
        name => name,
    };
    let mut page = Page::default();
    let version = env!("CARGO_PKG_VERSION");
    page.family(&INFO).add(&[node, shown.agent, version], 1_u64);
    page.family(&LINK_UP).add(&[], noted.link_up);
    let again = noted.links.saturating_sub(1);
    page.family(&RECONNECTS).add(&[], again);
    page.family(&RTT)
        .add_some(&[], noted.rtt_ms.map(Number::Milli));
    page.family(&APPLIED).add(&[], told.applied);
    page.family(&LEASE).add_some(&[], lease(shown, &noted));
    let mut containers = page.family(&CONTAINERS);
    for (state, many) in &told.containers {
        containers.add(&[state.as_str()], *many);
    }
    let mut steps = page.family(&STEPS);
    for ((step, ok), many) in &noted.steps {
        steps.add(&[step, if *ok { "ok" } else { "failed" }], *many);
    }
    let mut calls = page.family(&CALLS);
    shown.calls.each(|call, seen| calls.add_all(&[call], seen));
    page.family(&DOCKER_UP).add(&[], told.docker_up);
    page.family(&UNACKED).add(&[], told.unacked);
    page.family(&JOURNAL).add(&[], noted.journal_bytes);
    page.family(&UNCLAIMED).add(&[], told.unclaimed);
    page.family(&DROPPED).add(&[], told.dropped);
    gpus(&mut page, node, shown.gpus, &told.devices);
    page.family(&PULLED).add(&[], shown.calls.pulled());
    let free = told.load.filter(|load| load.disk_total > 0);
    let free = free.map(|load| Number::Whole(load.disk_free));
    page.family(&DISK).add_some(&[&noted.disk], free);
    shown.taken.show(&mut page);
    page.done()
}

/// How much of the lease is left.
fn lease(shown: &Shown<'_>, noted: &Noted) -> Option<Number> {
    let since = shown.shared.since_acked_ms(shown.boot_ms)?;
    let left = noted.lease_ms.saturating_sub(since).max(0);
    (noted.lease_ms > 0).then_some(Number::Milli(left))
}

fn gpus(page: &mut Page, node: &str, snapshot: &Snapshot, devices: &[Device]) {
    let samples = &snapshot.samples;
    let mut utilization = page.family(&UTILIZATION);
    for (gpu, sample) in samples {
        let percent = sample.utilization.map(i64::from);
        utilization.add_some(
            &[node, gpu.as_str()],
            percent.map(|percent| Number::Milli(percent * 10)),
        );
    }
    let mut memory = page.family(&GPU_MEMORY);
    for (gpu, sample) in samples {
        memory.add_some(&[node, gpu.as_str()], sample.memory_used.map(Number::Whole));
    }
    let mut temperature = page.family(&TEMPERATURE);
    for (gpu, sample) in samples {
        let celsius = sample.temperature.map(i64::from);
        temperature.add_some(&[node, gpu.as_str()], celsius.map(Number::Whole));
    }
    let mut power = page.family(&POWER);
    for (gpu, sample) in samples {
        let milliwatts = sample.power_mw.map(i64::from);
        power.add_some(&[node, gpu.as_str()], milliwatts.map(Number::Milli));
    }
    let mut health = page.family(&HEALTH);
    for device in devices {
        let values = [node, device.id.as_str(), device.health.as_str()];
        health.add(&values, device.health == Health::Healthy);
    }
    let mut xids = page.family(&XIDS);
    for ((gpu, xid), many) in &snapshot.xids {
        xids.add(&[node, gpu.as_str(), &xid.to_string()], *many);
    }
}

#[cfg(test)]
mod tests;
