//! Figures of the coordinator, as Prometheus reads them. Nothing here is stored, and nothing is
//! decided by it.
//!
//! | input | output |
//! |---|---|
//! | changes that were stored, what agents say | [`Counted`]: what goes up |
//! | a [`Census`] of the state, `live`, [`Counted`], the kernel | [`page`] |

use crate::engine::Follow;
use crate::live::Live;
use longshore_common::agent::AgentState;
use longshore_common::metrics::{Family, Histogram, Kind, Number, Page, counter, gauge, process};
use longshore_common::session::{End, SessionState};
use longshore_common::time::Timestamp;
use longshore_common::wire::CloseCode;
use longshore_core::model::{Census, Change, Session, State};
use longshore_link::traffic;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

static INFO: Family = gauge(
    "longshore_coordinator_info",
    &["version", "cluster"],
    "1, with what the coordinator is.",
);
static AGENT_STATE: Family = gauge(
    "longshore_agent_state",
    &["node", "state"],
    "1 for the state a node is in, 0 for the other one; nodes that left have none.",
);
static AGENT_CONNECTED: Family = gauge(
    "longshore_agent_connected",
    &["node"],
    "Whether a node has a connection.",
);
static HEARTBEAT_AGE: Family = gauge(
    "longshore_agent_heartbeat_age_seconds",
    &["node"],
    "Since the last heartbeat; none of nodes that had none since the coordinator was started.",
);
static DESIRED: Family = gauge(
    "longshore_agent_desired_generation",
    &["node"],
    "Number of the newest set of orders for a node.",
);
static APPLIED: Family = gauge(
    "longshore_agent_applied_generation",
    &["node"],
    "Number of the set that a node said last it goes by; of the same nodes as the age of heartbeats.",
);
static SESSIONS: Family = gauge(
    "longshore_sessions",
    &["state", "group"],
    "Sessions that are not over, by resource group; of arrays the tasks.",
);
static STARTS: Family = Family {
    name: "longshore_session_start_seconds",
    kind: Kind::Histogram,
    labels: &["phase"],
    help: "Starts of sessions: queue is the time until they had a place, of the attempt that ran; prepare that from there until they ran.",
};
static OUTCOMES: Family = counter(
    "longshore_outcomes_total",
    &["kind"],
    "Ends of containers that nodes told, those that were told again counted again.",
);
static TOMBSTONES: Family = gauge(
    "longshore_tombstones",
    &[],
    "Containers that are over in the books and that their nodes have not confirmed to be gone.",
);
static RELEASING: Family = gauge(
    "longshore_releasing_seconds",
    &[],
    "For how long the oldest session that is over has waited for its node; 0 = none does.",
);
static GPU_INFO: Family = gauge(
    "longshore_session_gpu_info",
    &["session", "user", "project", "node", "gpu"],
    "1 for each GPU, or part of one, that a session holds; off by services.metrics.session_info.",
);
static FRAMES: Family = counter(
    "longshore_link_frames_total",
    &["kind", "way"],
    "Frames between coordinator and agents, on all their streams.",
);
static REFUSED: Family = counter(
    "longshore_link_refused_total",
    &["code"],
    "Connections of agents that were refused or closed for what they said.",
);
static BYTES: Family = counter(
    "longshore_link_bytes_total",
    &["way"],
    "Bytes of those frames, before they are encrypted.",
);

/// Every family of the coordinator, in the order of the page.
pub static FAMILIES: [&Family; 18] = [
    &INFO,
    &AGENT_STATE,
    &AGENT_CONNECTED,
    &HEARTBEAT_AGE,
    &DESIRED,
    &APPLIED,
    &SESSIONS,
    &STARTS,
    &OUTCOMES,
    &TOMBSTONES,
    &RELEASING,
    &GPU_INFO,
    &FRAMES,
    &REFUSED,
    &BYTES,
    &process::MEMORY,
    &process::CPU,
    &process::DESCRIPTORS,
];

/// From a second to a day, in milliseconds: a queue may be a matter of both.
const START_BOUNDS: &[u64] = &[
    500, 1000, 2000, 5000, 10_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000, 3_600_000,
    14_400_000, 86_400_000,
];

/// What goes up, since the process began.
#[derive(Debug)]
pub struct Counted(Mutex<Sums>);

#[derive(Debug)]
struct Sums {
    queue: Histogram,
    prepare: Histogram,
    outcomes: BTreeMap<&'static str, u64>,
    refused: BTreeMap<&'static str, u64>,
}

impl Default for Counted {
    fn default() -> Self {
        Self(Mutex::new(Sums {
            queue: Histogram::new(START_BOUNDS),
            prepare: Histogram::new(START_BOUNDS),
            outcomes: ["closed", "exited", "start-failed", "stopped", "vanished"]
                .map(|kind| (kind, 0))
                .into(),
            refused: BTreeMap::new(),
        }))
    }
}

impl Counted {
    // A poisoned lock here only means that somebody panicked while counting.
    fn lock(&self) -> MutexGuard<'_, Sums> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An agent told how a container ended; none = that it is gone.
    pub fn outcome(&self, end: Option<&End>) {
        let kind = match end {
            None => "closed",
            Some(End::StartFailed { .. }) => "start-failed",
            Some(End::Exited(_)) => "exited",
            Some(End::Stopped { .. }) => "stopped",
            Some(End::Vanished { .. }) => "vanished",
        };
        *self.lock().outcomes.entry(kind).or_default() += 1;
    }

    /// A connection of an agent was closed with this code.
    pub fn refused(&self, code: CloseCode) {
        let word = match code {
            CloseCode::Normal => return, // it said goodbye
            CloseCode::Restarting => "restarting",
            CloseCode::Replaced => "replaced",
            CloseCode::Revoked => "revoked",
            CloseCode::Identity => "identity",
            CloseCode::Protocol => "protocol",
            CloseCode::Limit => "limit",
            CloseCode::StaleCoordinator => "stale-coordinator",
            CloseCode::Overload => "overload",
        };
        *self.lock().refused.entry(word).or_default() += 1;
    }
}

impl Follow for Counted {
    fn changed(&self, state: &State, changes: &[Change]) {
        for change in changes {
            let Change::History(line) = change else {
                continue;
            };
            let begins = line.to == SessionState::Running
                && matches!(
                    line.from,
                    Some(SessionState::Scheduled | SessionState::Preparing)
                );
            let session = state.sessions.get(&line.session).filter(|_| begins);
            if let Some((queue, prepare)) = session.and_then(|s| start_ms(s, line.at)) {
                let mut sums = self.lock();
                sums.queue.add(queue);
                sums.prepare.add(prepare);
            }
        }
    }
}

/// For how many milliseconds a session that ran from `ran` on waited for its place, and for how
/// many it was prepared there. All by the coordinator's clock: the session's own `started_at` is
/// what a node says, whose clock may be another.
pub(crate) fn start_ms(session: &Session, ran: Timestamp) -> Option<(u64, u64)> {
    let placed = session.placed_at?;
    // An attempt that failed, or ran, had its place: the wait began when it was over.
    let before = session.attempts.last().map(|past| past.ended_at);
    let waits = before.map_or(session.pending_since, |at| at.max(session.pending_since));
    let ms = |from, to: Timestamp| u64::try_from(to.since(from)).unwrap_or(0);
    Some((ms(waits, placed), ms(placed, ran)))
}

/// What a page is made of.
#[derive(Debug)]
pub struct Shown<'a> {
    /// What there is.
    pub census: &'a Census,
    /// What agents said last.
    pub live: &'a Live,
    /// Now, on the clock of the machine's start, in milliseconds.
    pub boot_ms: i64,
    /// Id of the installation.
    pub cluster: &'a str,
    /// What this process takes.
    pub taken: process::Taken,
}

/// All of it.
#[must_use]
pub fn page(shown: &Shown<'_>) -> String {
    let Shown { census, live, .. } = shown;
    let mut page = Page::default();
    let version = env!("CARGO_PKG_VERSION");
    page.family(&INFO).add(&[version, shown.cluster], 1_u64);
    let mut states = page.family(&AGENT_STATE);
    for node in &census.nodes {
        for state in [AgentState::Alive, AgentState::Lost] {
            states.add(&[&node.name, state.as_str()], node.state == state);
        }
    }
    let known: Vec<_> = census
        .nodes
        .iter()
        .map(|node| (node, live.agent(node.id)))
        .collect();
    let mut connected = page.family(&AGENT_CONNECTED);
    for (node, agent) in &known {
        connected.add(&[&node.name], agent.details().connection.is_some());
    }
    let heard = |agent: &crate::live::AgentLive| match agent.last_beat_ms.load(Ordering::Relaxed) {
        0 => None,
        at => Some(at),
    };
    let mut ages = page.family(&HEARTBEAT_AGE);
    for (node, agent) in &known {
        let age = heard(agent).map(|at| Number::Milli(shown.boot_ms.saturating_sub(at).max(0)));
        ages.add_some(&[&node.name], age);
    }
    let mut desired = page.family(&DESIRED);
    for (node, _) in &known {
        desired.add(&[&node.name], node.desired.0);
    }
    let mut applied = page.family(&APPLIED);
    for (node, agent) in &known {
        let number = heard(agent).map(|_| agent.applied.load(Ordering::Relaxed));
        applied.add_some(&[&node.name], number);
    }
    let mut sessions = page.family(&SESSIONS);
    for ((group, state), many) in &census.sessions {
        sessions.add(&[state.as_str(), group], *many);
    }
    {
        let sums = live.counted.lock();
        let mut starts = page.family(&STARTS);
        starts.add_all(&["queue"], &sums.queue);
        starts.add_all(&["prepare"], &sums.prepare);
        let mut outcomes = page.family(&OUTCOMES);
        for (kind, many) in &sums.outcomes {
            outcomes.add(&[kind], *many);
        }
    }
    page.family(&TOMBSTONES).add(&[], census.tombstones);
    let releasing = Number::Milli(census.releasing_ms);
    page.family(&RELEASING).add(&[], releasing);
    let mut gpus = page.family(&GPU_INFO);
    for held in &census.gpus {
        let session = held.session.to_string();
        let values = [&session, &held.user, &held.project, &held.node];
        let [session, user, project, node] = values.map(String::as_str);
        gpus.add(&[session, user, project, node, held.gpu.as_str()], 1_u64);
    }
    let mut frames = page.family(&FRAMES);
    for way in traffic::Way::ALL {
        for (kind, many) in traffic::frames(way) {
            frames.add(&[kind, way.as_str()], many);
        }
    }
    let mut refused = page.family(&REFUSED);
    for (code, many) in &live.counted.lock().refused {
        refused.add(&[code], *many);
    }
    let mut bytes = page.family(&BYTES);
    for way in traffic::Way::ALL {
        bytes.add(&[way.as_str()], traffic::bytes(way));
    }
    shown.taken.show(&mut page);
    page.done()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_has_every_family() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let known = std::fs::read_to_string(path).unwrap();
        let made = longshore_common::metrics::documented(&known, "coordinator", &FAMILIES);
        let made = made.expect("the page has the marks");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &made).unwrap();
            return;
        }
        assert!(known == made, "UPDATE=1 writes {path}");
    }

    #[test]
    fn a_goodbye_is_no_refusal() {
        let counted = Counted::default();
        counted.refused(CloseCode::Normal);
        assert_eq!(counted.lock().refused.len(), 0);
        counted.refused(CloseCode::Identity);
        assert_eq!(counted.lock().refused["identity"], 1);
    }
}
