//! The desired set of an agent: a function of the state, never stored.

use super::entities::{Container, Session};
use super::loss::lease_ms;
use super::network;
use super::policies::LifeSettings;
use super::state::State;
use longshore_common::ids::{AgentId, InstanceId, Rank};
use longshore_common::limits::{Deadline, IdleAction, IdlePolicy, Kept, SessionLimits};
use longshore_common::session::{ContainerSpec, ContainerState, Entry, Reason, StopOrder, Want};
use longshore_common::time::Timestamp;
use longshore_common::wire::{DesiredSet, DrainNotice, SignalBefore};
use std::collections::BTreeMap;

/// All orders for one agent; none if the agent is not known.
#[must_use]
pub fn desired_set(
    state: &State,
    agent: AgentId,
    instance: InstanceId,
    now: Timestamp,
) -> Option<DesiredSet> {
    let node = state.agents.get(&agent)?;
    let group = state.groups.get(&node.group);
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
        drain: node.drain.as_ref().and_then(|drain| {
            let at = drain.deadline?;
            Some(DrainNotice {
                deadline: Deadline {
                    at,
                    remaining_ms: at.since(now),
                },
                message: drain.message.clone(),
            })
        }),
        signals: signals(state, agent),
        lease_ms: lease_ms(group.map_or(0, |g| g.declare_lost_s)),
        networks: network::desired(state, agent),
    })
}

/// The signals that programs on this agent want before they are stopped.
fn signals(state: &State, agent: AgentId) -> Vec<SignalBefore> {
    let keys = state.on_agent(agent);
    keys.filter_map(|key| {
        let session = state.sessions.get(&key.session)?;
        let wish = session.signal_before.as_ref();
        let wish = wish.filter(|_| session.runs_command(key.rank))?;
        Some(SignalBefore {
            key,
            signal: wish.signal.clone(),
            lead_s: wish.lead_s,
        })
    })
    .collect()
}

/// The entries alone.
#[must_use]
pub fn desired_entries(state: &State, agent: AgentId, now: Timestamp) -> Vec<Entry> {
    let ordered = state.on_agent(agent).filter_map(|key| {
        let session = state.sessions.get(&key.session)?;
        let container = session.containers.iter().find(|c| c.key == key)?;
        Some(entry(session, container, &state.scheduler.lives, now))
    });
    // What nobody ordered is named only to be stopped.
    let node = state.agents.get(&agent).into_iter();
    let strangers = node.flat_map(|node| node.unclaimed.iter().filter_map(|u| u.entry(node)));
    ordered.chain(strangers).collect()
}

/// Why the attempt of a container was over, while its session goes on.
fn past_reason(session: &Session, container: &Container) -> Reason {
    let mut past = session.attempts.iter();
    let past = past.find(|past| past.attempt == container.key.attempt.0);
    past.and_then(|past| past.reason.parse().ok())
        .unwrap_or(Reason::FailedToStart)
}

fn entry(session: &Session, container: &Container, lives: &LifeSettings, now: Timestamp) -> Entry {
    let stop = (container.want == Want::Stop).then(|| match &session.stop {
        Some(stop) => StopOrder {
            reason: stop.reason,
            grace_s: stop.grace_s,
            forced: stop.forced,
        },
        None if container.state == ContainerState::Lost => StopOrder {
            reason: Reason::AgentLost,
            grace_s: 0,
            forced: true,
        },
        // A person restarted it: this is what ran before.
        None if container.handed_on => StopOrder {
            reason: Reason::UserRequested,
            grace_s: lives.stop_grace_s,
            forced: false,
        },
        None => StopOrder {
            reason: session
                .reason
                .unwrap_or_else(|| past_reason(session, container)),
            grace_s: if session.state.is_final() {
                0
            } else {
                lives.stop_grace_s
            },
            forced: session.state.is_final(),
        },
    });
    Entry {
        key: container.key,
        want: container.want,
        spec: spec(session, container),
        limits: limits(session, container.key.rank, lives, now),
        stop,
        fence: container.fence,
        first_generation: container.first_generation,
        restartable: session.is_restartable(),
        designated: session
            .designated
            .as_ref()
            .is_some_and(|wish| wish.by_admin && wish.agents.contains(&container.agent)),
    }
}

fn spec(session: &Session, container: &Container) -> ContainerSpec {
    let rank = container.key.rank;
    let size = session.cluster.size;
    let main = rank == Rank::MAIN;
    let runs = session.runs_command(rank);
    let hosts: Vec<String> = (0..size).map(|n| Rank(n).to_string()).collect();
    // What people gave is delivered apart: it may be secret, and agents write orders down.
    let own = [
        ("LONGSHORE_SESSION_ID", session.id.to_string()),
        (
            "LONGSHORE_SESSION_NAME",
            session.name.clone().unwrap_or_default(),
        ),
        ("LONGSHORE_CLUSTER_SIZE", size.to_string()),
        ("LONGSHORE_CLUSTER_HOST", rank.to_string()),
        ("LONGSHORE_CLUSTER_HOSTS", hosts.join(",")),
        (
            "LONGSHORE_CLUSTER_ROLE",
            if main { "main" } else { "sub" }.to_owned(),
        ),
        ("LONGSHORE_CLUSTER_INDEX", rank.0.max(1).to_string()),
        ("LONGSHORE_CLUSTER_RANK", rank.0.to_string()),
    ];
    let own = own.map(|(name, value)| (name.to_owned(), value));
    let mut environment = BTreeMap::from(own);
    if let (Some(array), Some(index)) = (session.id.array(), session.id.task_index()) {
        let of = session.task_of.unwrap_or_default();
        let own = [
            ("LONGSHORE_ARRAY_ID", array.to_string()),
            ("LONGSHORE_ARRAY_INDEX", index.to_string()),
            ("LONGSHORE_ARRAY_SIZE", of.to_string()),
        ];
        environment.extend(own.map(|(name, value)| (name.to_owned(), value)));
    }
    // What launchers look for. A container that is alone is not called main1, so there the
    // launcher's own default serves better.
    if size > 1 {
        let launch = [
            ("MASTER_ADDR", Rank::MAIN.to_string()),
            ("MASTER_PORT", "29500".to_owned()),
            ("NNODES", size.to_string()),
            ("NODE_RANK", rank.0.to_string()),
        ];
        for (name, value) in launch {
            if !session.environment.contains_key(name) {
                environment.insert(name.to_owned(), value);
            }
        }
    }
    ContainerSpec {
        image: session.image.clone(),
        digest: session.image_digest.clone(),
        pull: session.pull,
        // The others hold, and take connections from the main container.
        command: if runs {
            session.command.clone()
        } else {
            Vec::new()
        },
        workdir: session.workdir.clone(),
        tty: session.tty && runs,
        environment,
        uid: session.uid,
        gid: session.uid,
        slots: container.slots.clone(),
        shm_bytes: session.shm_bytes,
        pids_max: session.pids_max,
        devices: container.devices.clone(),
        hostname: if size > 1 {
            rank.to_string()
        } else {
            session.id.to_string()
        },
        owner: session.owner_name.clone(),
        kind: session.kind,
        root: session.root,
        sudo: session.sudo,
        ports: session.ports.clone(),
    }
}

/// What an agent enforces on a container of a session, as it is told now.
pub(crate) fn limits(
    session: &Session,
    rank: Rank,
    lives: &LifeSettings,
    now: Timestamp,
) -> SessionLimits {
    let left = |at: Timestamp| Deadline {
        at,
        remaining_ms: at.since(now),
    };
    SessionLimits {
        lifetime: session.lifetime_deadline().map(left),
        // Of the command: those that only wait for it have none.
        batch_timeout_s: session
            .batch_timeout_s
            .filter(|_| session.runs_command(rank)),
        idle: session.judged_idle().map(|rules| IdlePolicy {
            // By what one node sees of several containers none is stopped.
            action: match session.cluster.size {
                1 => rules.action,
                _ => IdleAction::Report,
            },
            ..rules.clone()
        }),
        grace_s: lives.stop_grace_s,
        from_start_s: match session.lifetime_deadline() {
            Some(_) => None,
            None => session.whole_life_s(),
        },
        new_user_until: session.life.new_user_until.map(left),
        kept: session.life.kept.map(|keep| Kept {
            at: keep.at,
            ago_ms: now.since(keep.at),
            hold_s: keep.hold_s,
        }),
        warn_s: lives.warn_before_s.clone(),
        work: lives.work,
    }
}
