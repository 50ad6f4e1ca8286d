//! What is stored, as the API shows it.

use crate::live::Live;
use longshore_common::agent::{AgentState, Inventory};
use longshore_common::amount::Slots;
use longshore_common::api;
use longshore_common::ids::{AgentId, ContainerKey, DeviceId, SessionId, UserId};
use longshore_common::redact::Redaction;
use longshore_common::session::{ExactImage, SessionState};
use longshore_common::time::Timestamp;
use longshore_common::wire::UseReport;
use longshore_core::model::{
    self, Agent, ArrayPlan, Container, Designated, History, JoinToken, PastAttempt, Reached,
    Session, State, drain_deadline, sessions_on,
};
use longshore_core::scheduler::{self, Planner};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

/// Waiting sessions above which an accepted session's place in its queue is not counted:
/// counting asks for each user and shape, and submissions come by the thousand.
const COUNT_UP_TO: usize = 2000;

/// An end of life that an agent names this much later than it was ordered was put off; less
/// is the way of the order, and rounding.
const PUT_OFF_MS: i64 = 2_000;

/// Who looks, and with how much detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Everything this person may see.
    Whole(UserId),
    /// As lists show it to this person.
    Summary(UserId),
}

impl Detail {
    const fn is_whole(self) -> bool {
        matches!(self, Self::Whole(_))
    }

    /// What somebody who looks hides for themselves.
    fn own_names(self, state: &State) -> &[String] {
        let (Self::Whole(viewer) | Self::Summary(viewer)) = self;
        let viewer = state.users.get(&viewer);
        viewer.map_or(&[], |user| &user.redaction_names)
    }
}

/// Amounts as text.
#[must_use]
pub(super) fn amounts(slots: &Slots) -> BTreeMap<String, String> {
    slots
        .iter()
        .map(|(slot, amount)| (slot.to_string(), slot.format_amount(amount)))
        .collect()
}

/// A session.
#[must_use]
pub(super) fn session(
    state: &State,
    planner: &mut Planner,
    live: &Live,
    session: &Session,
    now: Timestamp,
    detail: Detail,
) -> api::Session {
    let waits = session.waits();
    let counted = waits && detail.is_whole() && state.pending_count(session.group) <= COUNT_UP_TO;
    let whole = detail.is_whole();
    let names = live.redaction.get();
    let redaction = Redaction::new(&names, &session.redact, detail.own_names(state));
    let mine = detail == Detail::Whole(session.owner);
    let stop = stop_limit(state, session, live);
    let mut agents: Vec<AgentId> = session.present().map(|c| c.agent).collect();
    agents.dedup();
    let blocked_by = if waits {
        scheduler::blocked_by(planner, state, session, now)
    } else {
        Vec::new()
    };
    api::Session {
        id: session.id.to_string(),
        version: session.version,
        name: session.name.clone(),
        owner_name: session.owner_name.clone(),
        submitted_by: session.submitted_by.map(|id| id.to_string()),
        submitted_by_name: session.submitted_by.and_then(|id| {
            let account = state.users.get(&UserId::new(id.bits()))?;
            Some(account.username.clone())
        }),
        access_key: session.access_key.clone(),
        group: session.group.to_string(),
        group_name: session.group_name.clone(),
        project: (!session.project_name.is_empty()).then(|| session.project.to_string()),
        project_name: Some(session.project_name.clone()).filter(|name| !name.is_empty()),
        queue: session.queue.as_ref().map(|seat| seat.name.clone()),
        pool: session.queue.as_ref().and_then(|seat| seat.pool.clone()),
        kind: session.kind.to_string(),
        image: session.image.clone(),
        image_digest: session.ran_image().or_else(|| session.image_digest.clone()),
        command: redaction.arguments(&session.command),
        app_names: session.ports.iter().map(|p| p.name.clone()).collect(),
        slots: amounts(&session.slots),
        cluster: cluster(session),
        arch: session.arch.clone(),
        designated: session
            .designated
            .as_ref()
            .map(|wish| designation(state, wish)),
        start_at: session.start_at,
        depends_on: session
            .depends_on
            .iter()
            .map(|entry| api::Dependency {
                session: entry.session.to_string(),
                on: entry.on.to_string(),
                met: entry.met,
            })
            .collect(),
        restart: restart(session),
        array: session
            .array
            .as_ref()
            .map(|plan| array(state, session, plan)),
        attempts: match whole {
            true => session
                .attempts
                .iter()
                .map(|past| past_attempt(state, past, &redaction))
                .collect(),
            false => Vec::new(),
        },
        shm_bytes: session.shm_bytes,
        environment: if mine {
            redaction.environment(&session.environment)
        } else {
            BTreeMap::new()
        },
        workdir: session.workdir.clone(),
        tty: session.tty,
        priority: i64::from(session.priority),
        labels: session.labels.clone(),
        state: session.state.to_string(),
        phase: session.phase.map(|p| p.to_string()),
        conditions: conditions(state, session, live),
        stalled_since: session.stalled_since,
        attempt: session.attempt.0,
        position: if counted {
            scheduler::position(planner, state, session, now)
        } else {
            None
        },
        class: scheduler::class_of(&blocked_by).map(str::to_owned),
        blocked_by,
        reason: session
            .reason
            .or(session.stop.as_ref().map(|s| s.reason))
            .map(|r| r.to_string()),
        detail: session
            .detail
            .clone()
            .or_else(|| session.stop.as_ref().map(|s| s.detail.clone()))
            .map(|detail| redaction.text(&detail).into_owned()),
        result: session.result.map(|r| r.to_string()),
        exit_code: session.exit_code,
        signal: session.signal,
        agent_names: agents.into_iter().map(|id| agent_name(state, id)).collect(),
        containers: match whole {
            true => session
                .containers
                .iter()
                .map(|c| container(state, live, c))
                .collect(),
            false => Vec::new(),
        },
        adjusted: adjusted(session),
        config_hash: session.config_hash.clone(),
        vaults: session
            .vaults
            .iter()
            .map(|(id, _)| id.to_string())
            .collect(),
        vaults_skipped: session
            .vaults_skipped
            .iter()
            .map(ToString::to_string)
            .collect(),
        not_given: match whole {
            true => {
                let texts = session.not_given.iter();
                texts
                    .map(|text| redaction.text(text).into_owned())
                    .collect()
            }
            false => Vec::new(),
        },
        created_at: session.created_at,
        placed_at: session.placed_at,
        started_at: session.started_at,
        ended_at: session.ended_at,
        lifetime_deadline: session.lifetime_deadline(),
        signal_before: session
            .signal_before
            .as_ref()
            .map(|wish| api::SignalBefore {
                signal: wish.signal.clone(),
                lead_s: Some(i64::from(wish.lead_s)),
            }),
        extensions: session.life.extensions,
        kept_until: session.life.kept.map(|keep| keep.until()),
        stop_at: stop.map(|(at, _)| at),
        stop_cause: stop.map(|(_, cause)| cause.to_owned()),
        report: super::reports::end_report(session).filter(|_| whole),
        // What a session wrote is its owner's; others read its log, which is judged and recorded.
        output_tail: session.tail.clone().filter(|_| whole && mine),
    }
}

/// The tasks of an array. Those that live are counted as they are; of the others the array
/// knows how they ended.
fn array(state: &State, session: &Session, plan: &ArrayPlan) -> api::SessionArray {
    let mut counts = BTreeMap::new();
    let mut count = |what: &str, many: u32| {
        if many > 0 {
            *counts.entry(what.to_owned()).or_insert(0) += many;
        }
    };
    if !session.state.is_final() {
        let tasks = state.tasks_of(session.id);
        for task in tasks.filter(|task| !task.state.is_final()) {
            count(task.state.as_str(), 1);
        }
    }
    count("unmade", plan.unmade());
    count(
        SessionState::Terminated.as_str(),
        plan.succeeded + plan.failed,
    );
    count("succeeded", plan.succeeded);
    count(SessionState::Cancelled.as_str(), plan.cancelled);
    count(SessionState::Error.as_str(), plan.error);
    api::SessionArray {
        range: format!("{}-{}", plan.first, plan.last),
        parallel: plan.parallel,
        size: plan.size(),
        counts,
    }
}

/// When it is tried again by itself.
fn restart(session: &Session) -> Option<api::Restart> {
    let rule = &session.restart;
    (rule.max > 0).then(|| api::Restart {
        max: rule.max,
        on: rule.on.iter().map(ToString::to_string).collect(),
        used: session.restarts,
    })
}

fn past_attempt(state: &State, past: &PastAttempt, redaction: &Redaction<'_>) -> api::PastAttempt {
    api::PastAttempt {
        attempt: past.attempt,
        agent_names: past
            .agents
            .iter()
            .map(|id| agent_name(state, *id))
            .collect(),
        placed_at: past.placed_at,
        started_at: past.started_at,
        ended_at: past.ended_at,
        reason: past.reason.clone(),
        detail: redaction.text(&past.detail).into_owned(),
        exit_code: past.exit_code,
    }
}

/// What the server changed in a request.
#[must_use]
pub(super) fn adjusted(session: &Session) -> Vec<api::Adjustment> {
    session
        .adjusted
        .iter()
        .map(|change| api::Adjustment {
            path: change.path.clone(),
            from: change.from.clone(),
            to: change.to.clone(),
            reason: change.reason.clone(),
            source: change.source.as_ref().map(|name| {
                let kind = match change.reason.as_str() {
                    "image-minimum" => "image",
                    "locked" => "vault",
                    _ => "keypair-policy",
                };
                api::Source::new(kind, name)
            }),
        })
        .collect()
}

fn cluster(session: &Session) -> Option<api::SessionCluster> {
    let cluster = &session.cluster;
    (cluster.size > 1).then(|| api::SessionCluster {
        size: cluster.size,
        mode: cluster.mode.to_string(),
        run: cluster.run.to_string(),
        containers: cluster.ranks.iter().map(amounts).collect(),
    })
}

fn designation(state: &State, wish: &Designated) -> api::Designation {
    let mut agents: Vec<String> = wish
        .agents
        .iter()
        .map(|id| agent_name(state, *id))
        .collect();
    agents.sort();
    api::Designation {
        agents,
        mode: if wish.strict { "strict" } else { "preferred" }.to_owned(),
    }
}

/// Gives the waiting sessions of a page their places.
pub(super) fn number(
    state: &State,
    planner: &mut Planner,
    now: Timestamp,
    ids: &[SessionId],
    page: &mut [api::Session],
) {
    let places = scheduler::positions(planner, state, ids, now);
    for (shown, place) in page.iter_mut().zip(places) {
        shown.position = place;
    }
}

fn conditions(state: &State, session: &Session, live: &Live) -> Vec<String> {
    let mut conditions = Vec::new();
    if session.stalled_since.is_some() && session.state == SessionState::Running {
        conditions.push("stalled".to_owned());
    }
    if session.unreachable && !session.state.is_final() {
        conditions.push("unreachable".to_owned());
    }
    if model::faulty(state, session).next().is_some() {
        conditions.push("device-fault".to_owned());
    }
    if session.is_releasing() {
        conditions.push("releasing".to_owned());
    }
    if session.adopted.is_some() {
        conditions.push("adopted".to_owned());
    }
    if session.held && session.state == SessionState::Pending {
        conditions.push("held".to_owned());
    }
    let mut networks = session.live_networks();
    if networks.any(|n| n.attempt == session.attempt && n.own.is_none()) {
        conditions.push("host-network".to_owned());
    }
    let said = session.present().map(|c| live.idle(c.agent, c.key));
    let said: Vec<_> = said.collect();
    if said.iter().flatten().any(|said| said.frozen) {
        conditions.push("frozen".to_owned());
    }
    if is_idle(session, live) {
        conditions.push("idle".to_owned());
    }
    conditions
}

/// A running session was warned of a stop for being idle, and not used since.
pub(super) fn is_idle(session: &Session, live: &Live) -> bool {
    let mut said = session.unfinished().map(|c| live.idle(c.agent, c.key));
    // One that is used keeps the others.
    let all = said.all(|said| said.is_some_and(|said| said.idle));
    all && session.array.is_none() && session.state == SessionState::Running
}

/// What ends a session at the latest: a limit of its own, or that its node has to be empty.
fn stop_limit(state: &State, session: &Session, live: &Live) -> Option<(Timestamp, &'static str)> {
    let drain = drain_deadline(state, session).filter(|_| session.stop.is_none());
    let drain = drain.map(|at| (at, "drain"));
    own_limit(session, live).into_iter().chain(drain).min()
}

/// The limit of its own that ends a session at the latest.
pub(super) fn own_limit(session: &Session, live: &Live) -> Option<(Timestamp, &'static str)> {
    let over = session.state.is_final() || session.state == SessionState::Terminating;
    if over || session.array.is_some() {
        return None;
    }
    let said = session.present().find_map(|c| live.use_of(c.agent, c.key));
    let lifetime = lifetime_limit(session, said.as_ref()).map(|at| (at, "lifetime"));
    let running = session.state == SessionState::Running;
    let batch = session
        .started_at
        .filter(|_| running)
        .zip(session.batch_timeout_s)
        .map(|(at, s)| (at.plus_s(i64::from(s)), "batch-timeout"));
    let idle = idle_limit(session, live).map(|at| (at, "idle"));
    [lifetime, batch, idle].into_iter().flatten().min()
}

/// When a running session is stopped for being idle: when its last container is.
pub(super) fn idle_limit(session: &Session, live: &Live) -> Option<Timestamp> {
    let mut said = session.unfinished().map(|c| live.idle(c.agent, c.key));
    // One that has no deadline, or of which nothing is known, keeps the others.
    let last = said.try_fold(None, |last: Option<Timestamp>, said| {
        let one = said.and_then(|said| said.deadline)?;
        Some(Some(last.map_or(one, |last| last.max(one))))
    });
    let last = last.flatten();
    let last = last.filter(|_| session.state == SessionState::Running);
    // What was kept since the agent spoke of it is judged as it is shown here.
    last.map(|at| session.life.kept.map_or(at, |keep| at.max(keep.until())))
}

/// When the lifetime of a session stops it. Its agent puts that off for a warning that came
/// late; what was added since it spoke of it counts at once.
pub(super) fn lifetime_limit(session: &Session, said: Option<&UseReport>) -> Option<Timestamp> {
    let own = session.lifetime_deadline();
    let said = said.and_then(|said| said.lifetime);
    // Only what is later by more than the way of a message was put off.
    match (own, said) {
        (Some(own), Some(said)) if said.since(own) > PUT_OFF_MS => Some(said),
        (own, said) => own.or(said),
    }
}

fn agent_name(state: &State, id: AgentId) -> String {
    state
        .agents
        .get(&id)
        .map_or_else(|| id.to_string(), |a| a.name.clone())
}

fn inventory_device<'a>(
    inventory: Option<&'a Inventory>,
    id: &DeviceId,
) -> Option<&'a longshore_common::agent::Device> {
    inventory?.devices.iter().find(|d| d.id == *id)
}

fn container(state: &State, live: &Live, container: &Container) -> api::Container {
    let inventory = state
        .agents
        .get(&container.agent)
        .and_then(|a| a.inventory.as_deref());
    let devices = container
        .devices
        .iter()
        .map(|grant| {
            let device = inventory_device(inventory, &grant.device);
            api::HeldDevice {
                id: grant.device.to_string(),
                slot: grant.slot.to_string(),
                amount: grant.slot.format_amount(grant.amount),
                index: device.map(|d| d.index),
                model: device.map_or_else(String::new, |d| d.model.to_string()),
            }
        })
        .collect();
    api::Container {
        image_digest: container.image.map(|image| image.to_string()),
        image_local: matches!(container.image, Some(ExactImage::Local(_))),
        rank: container.key.rank.to_string(),
        attempt: container.key.attempt.0,
        agent: container.agent.to_string(),
        agent_name: agent_name(state, container.agent),
        state: container.state.to_string(),
        docker_id: container.docker_id.clone(),
        devices,
        progress: if container.is_over() {
            None
        } else {
            live.progress(container.key)
        },
        started_at: container.started_at,
        memory_peak_bytes: container.totals.memory_peak,
        cpu_ms: container.totals.cpu_ms,
    }
}

/// The history of a session, with the administrators who reached into it where that was.
#[must_use]
/// With each line the key of its place. Lines of the store keep their numbers: a line about
/// reaching in has that of the line before it.
pub(super) fn history(
    lines: &[History],
    reaches: &[Reached],
    redaction: &Redaction<'_>,
) -> Vec<(String, api::HistoryLine)> {
    let mut shown = Vec::with_capacity(lines.len() + reaches.len());
    let mut reaches = reaches.iter().peekable();
    for line in lines {
        let state = line.to.to_string();
        let own = api::HistoryLine {
            seq: line.seq,
            at: line.at,
            from: line.from.map(|s| s.to_string()),
            to: state.clone(),
            reason: line.reason.map(|r| r.to_string()),
            detail: line
                .detail
                .as_deref()
                .map(|d| redaction.text(d).into_owned()),
            by: line.by.clone(),
            attempt: line.attempt.0,
            reached: None,
        };
        let behind = std::iter::from_fn(|| reaches.next_if(|reached| reached.after <= line.seq));
        let behind = behind.map(|reached| api::HistoryLine {
            at: reached.at,
            from: Some(state.clone()),
            reason: None,
            detail: Some(format!("an administrator read or used: {}", reached.what)),
            by: reached.by.clone(),
            reached: Some(reached.what.clone()),
            ..own.clone()
        });
        let all = std::iter::once(own.clone()).chain(behind);
        let keyed = (0..).zip(all);
        shown.extend(keyed.map(|(n, one)| (format!("{:012}.{n:06}", line.seq), one)));
    }
    shown
}

/// Who holds what of which device of an agent.
fn holders(state: &State, live: &Live, agent: AgentId) -> BTreeMap<DeviceId, Vec<api::Holder>> {
    let mut holders: BTreeMap<DeviceId, Vec<api::Holder>> = BTreeMap::new();
    for key in state.on_agent(agent) {
        let session = state.sessions.get(&key.session);
        for row in state
            .ledger
            .get(&key)
            .into_iter()
            .flat_map(BTreeMap::values)
        {
            let Some(device) = &row.device else { continue };
            holders
                .entry(device.clone())
                .or_default()
                .push(api::Holder {
                    session: key.session.to_string(),
                    owner_name: session.map_or_else(String::new, |s| s.owner_name.clone()),
                    amount: row.slot.format_amount(row.amount),
                    stop_at: session
                        .and_then(|s| stop_limit(state, s, live))
                        .map(|(at, _)| at),
                });
        }
    }
    holders
}

/// The devices of an agent.
#[must_use]
pub(super) fn devices(state: &State, live: &Live, agent: &Agent) -> Vec<api::Device> {
    let load = live.agent(agent.id).details().load.unwrap_or_default();
    let mut holders = holders(state, live, agent.id);
    let known = agent.inventory.iter().flat_map(|i| &i.devices);
    let mut devices: Vec<api::Device> = known
        .map(|device| {
            let sample = load.devices.get(&device.id).cloned().unwrap_or_default();
            api::Device {
                id: device.id.to_string(),
                index: device.index,
                agent: agent.id.to_string(),
                agent_name: agent.name.clone(),
                slot: device.slot.to_string(),
                capacity: device.slot.format_amount(device.capacity),
                model: device.model.to_string(),
                memory_bytes: Some(device.memory_bytes).filter(|b| *b > 0),
                health: device.health.to_string(),
                health_detail: device.health_detail.to_string(),
                holders: holders.remove(&device.id).unwrap_or_default(),
                utilization_percent: sample.utilization,
                memory_used_bytes: sample.memory_used,
                temperature_celsius: sample.temperature,
                power_watts: sample.power_mw.map(|mw| mw.div_ceil(1000)),
                numa: device.numa,
            }
        })
        .collect();
    devices.sort_by_key(|d| d.index);
    devices
}

/// A node.
#[must_use]
pub(super) fn agent(state: &State, live: &Live, agent: &Agent, detail: Detail) -> api::Agent {
    let figures = live.agent(agent.id);
    let details = figures.details();
    let usage = state.agent_use(agent.id);
    let inventory = agent.inventory.as_ref();
    let text = |get: fn(&Inventory) -> &Box<str>| {
        inventory.map_or_else(String::new, |i| get(i).to_string())
    };
    api::Agent {
        id: agent.id.to_string(),
        version: agent.version,
        name: agent.name.clone(),
        group: agent.group.to_string(),
        group_name: group_name(state, agent),
        state: agent.state.to_string(),
        connected: details.connection.is_some(),
        schedulable: agent.schedulable,
        conditions: {
            let clock_off = figures.clock_off_ms.load(Ordering::Relaxed) != 0;
            let shown = clock_off.then_some("clock-skew");
            let bare = details.incompatible.as_ref().map(|_| "incompatible");
            let all = agent.conditions().into_iter().chain(shown).chain(bare);
            all.map(str::to_owned).collect()
        },
        incompatible: details.incompatible.clone(),
        address: details
            .connection
            .as_ref()
            .map(|(address, _)| address.clone()),
        connected_since: details.connection.as_ref().map(|(_, at)| *at),
        last_heartbeat_at: figures.last_heartbeat(),
        capacity: inventory.map_or_else(BTreeMap::new, |i| amounts(&i.capacity())),
        occupied: amounts(&usage.slots),
        containers: u64::from(usage.containers),
        unclaimed: None,
        agent_version: text(|i| &i.agent_version),
        arch: text(|i| &i.arch),
        os: text(|i| &i.os),
        kernel: text(|i| &i.kernel),
        engine_version: text(|i| &i.engine_version),
        driver_version: text(|i| &i.driver_version),
        gpu_way: inventory.and_then(|i| i.gpu_way).map(|w| w.to_string()),
        gpu_way_detail: text(|i| &i.gpu_way_detail),
        devices: match detail {
            Detail::Whole(_) => devices(state, live, agent),
            Detail::Summary(_) => Vec::new(),
        },
        created_at: agent.created_at,
        load: details.load.map(|load| api::Load {
            load_milli: load.load_milli,
            mem_free_bytes: load.mem_free,
            disk_free_bytes: load.disk_free,
            disk_total_bytes: load.disk_total,
            agent_rss_bytes: load.agent_rss,
        }),
        drain: agent.drain.as_ref().map(|drain| {
            let left = u32::try_from(sessions_on(state, agent.id).len()).unwrap_or(u32::MAX);
            api::Drain {
                deadline_at: drain.deadline,
                mode: if drain.moves { "move" } else { "wait" }.to_owned(),
                message: drain.message.clone(),
                by: drain.by.clone(),
                since: drain.at,
                sessions_before: drain.sessions.max(left),
                sessions_left: left,
                empty: usage.containers == 0,
            }
        }),
        leaving: Vec::new(),
    }
}

/// The containers of ours on a node that no order names now, by key.
#[must_use]
pub(super) fn unclaimed(state: &State, live: &Live, agent: &Agent) -> Vec<api::Unclaimed> {
    if agent.state == AgentState::Terminated {
        return Vec::new();
    }
    let ordered: BTreeSet<ContainerKey> = state.on_agent(agent.id).collect();
    let strangers = live.strangers(agent.id).into_iter();
    let shown = strangers.filter(|(key, _)| !ordered.contains(key));
    let held = |key| agent.unclaimed.iter().find(|u| u.key == key);
    shown
        .map(|(key, stranger)| api::Unclaimed {
            slots: held(key).map_or_else(BTreeMap::new, |u| amounts(&u.claim.slots)),
            devices: held(key).map_or_else(Vec::new, |u| {
                let devices = u.claim.devices.iter();
                devices.map(|grant| grant.device.to_string()).collect()
            }),
            stopping: held(key).is_some_and(|u| u.stop.is_some()),
            kept: held(key).is_some_and(|u| u.kept),
            adopted: false,
            why: held(key).map_or_else(String::new, |u| u.why.clone()),
            stops_at: held(key).and_then(model::Unclaimed::due),
            id: key.to_string(),
            agent: agent.id.to_string(),
            agent_name: agent.name.clone(),
            session: key.session.to_string(),
            container_name: key.docker_name(state.meta.cluster),
            docker_id: stranger.docker_id,
            state: stranger.state.to_string(),
            started_at: stranger.started_at,
            since: stranger.since,
        })
        .collect()
}

fn group_name(state: &State, agent: &Agent) -> String {
    state
        .groups
        .get(&agent.group)
        .map_or_else(String::new, |g| g.name.clone())
}

/// A join token without its secret.
#[must_use]
pub(super) fn join_token(state: &State, token: &JoinToken) -> api::JoinToken {
    api::JoinToken {
        id: token.id.clone(),
        group_name: state
            .groups
            .get(&token.group)
            .map_or_else(String::new, |g| g.name.clone()),
        agent_name: token.agent_name.clone(),
        created_at: token.created_at,
        expires_at: token.expires_at,
        max_uses: token.max_uses,
        uses: u32::try_from(token.joined.len()).unwrap_or(u32::MAX),
        created_by: state
            .users
            .get(&token.created_by)
            .map_or_else(|| token.created_by.to_string(), |u| u.username.clone()),
        token: None,
        command: None,
    }
}
