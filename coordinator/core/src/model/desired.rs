//! The desired set of an agent: a function of the state, never stored.

use super::entities::{Container, Session};
use super::state::State;
use longshore_common::ids::{AgentId, InstanceId};
use longshore_common::limits::{Deadline, SessionLimits};
use longshore_common::session::{ContainerSpec, Entry, PullRule, Reason, StopOrder, Want};
use longshore_common::time::Timestamp;
use longshore_common::wire::DesiredSet;

/// Seconds a container gets to end when the limit that ends it names none.
pub(super) const DEFAULT_GRACE_S: u32 = 30;
/// Most processes and threads of a container.
const PIDS_MAX: u32 = 4096;

/// All orders for one agent; none if the agent is not known.
#[must_use]
pub fn desired_set(
    state: &State,
    agent: AgentId,
    instance: InstanceId,
    now: Timestamp,
) -> Option<DesiredSet> {
    let node = state.agents.get(&agent)?;
    Some(DesiredSet {
        cluster: state.meta.cluster,
        agent,
        coordinator_generation: state.meta.generation,
        coordinator_instance: instance,
        fence: node.fence,
        generation: node.generation,
        schedulable: node.schedulable,
        now,
        entries: desired_entries(state, agent, now),
    })
}

/// The entries alone.
#[must_use]
pub fn desired_entries(state: &State, agent: AgentId, now: Timestamp) -> Vec<Entry> {
    state
        .on_agent(agent)
        .filter_map(|key| {
            let session = state.sessions.get(&key.session)?;
            let container = session.containers.iter().find(|c| c.key == key)?;
            Some(entry(session, container, now))
        })
        .collect()
}

fn entry(session: &Session, container: &Container, now: Timestamp) -> Entry {
    let stop = (container.want == Want::Stop).then(|| match &session.stop {
        Some(stop) => StopOrder {
            reason: stop.reason,
            grace_s: stop.grace_s,
            forced: stop.forced,
        },
        None => StopOrder {
            reason: session.reason.unwrap_or(Reason::FailedToStart),
            grace_s: if session.state.is_final() {
                0
            } else {
                DEFAULT_GRACE_S
            },
            forced: session.state.is_final(),
        },
    });
    Entry {
        key: container.key,
        want: container.want,
        spec: spec(session, container),
        limits: limits(session, now),
        stop,
        fence: container.fence,
        first_generation: container.first_generation,
        restartable: false,
        designated: false,
    }
}

fn spec(session: &Session, container: &Container) -> ContainerSpec {
    let mut environment = session.environment.clone();
    let own = [
        ("LONGSHORE_SESSION_ID", session.id.to_string()),
        (
            "LONGSHORE_SESSION_NAME",
            session.name.clone().unwrap_or_default(),
        ),
        ("LONGSHORE_CLUSTER_SIZE", "1".to_owned()),
        ("LONGSHORE_CLUSTER_HOST", container.key.rank.to_string()),
        ("LONGSHORE_CLUSTER_HOSTS", container.key.rank.to_string()),
        ("LONGSHORE_CLUSTER_ROLE", "main".to_owned()),
        ("LONGSHORE_CLUSTER_INDEX", "1".to_owned()),
        ("LONGSHORE_CLUSTER_RANK", container.key.rank.0.to_string()),
    ];
    environment.extend(own.map(|(name, value)| (name.to_owned(), value)));
    ContainerSpec {
        image: session.image.clone(),
        digest: session.image_digest.clone(),
        pull: PullRule::Digest,
        command: session.command.clone(),
        workdir: session.workdir.clone(),
        tty: session.tty,
        environment,
        uid: session.uid,
        gid: session.uid,
        slots: container.slots.clone(),
        shm_bytes: session.shm_bytes,
        pids_max: PIDS_MAX,
        devices: container.devices.clone(),
        hostname: session.id.to_string(),
        owner: session.owner_name.clone(),
        kind: session.kind,
    }
}

fn limits(session: &Session, now: Timestamp) -> SessionLimits {
    SessionLimits {
        lifetime: session.lifetime_deadline().map(|at| Deadline {
            at,
            remaining_ms: at.since(now),
        }),
        batch_timeout_s: session.batch_timeout_s,
        idle: session.idle.clone(),
        grace_s: DEFAULT_GRACE_S,
    }
}
