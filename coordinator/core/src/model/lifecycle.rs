//! The life of a session: placed, prepared, run, stopped, closed; failed starts.
//!
//! Every function works on a draft. Two rules hold throughout: the first reason wins,
//! and capacity comes back only when the node confirmed.

use super::change::Change;
use super::delivery::wait_for_vault_s;
use super::draft::{Draft, Why};
use super::ends::{all_finished, exit_reason, stop_detail};
use super::entities::{Container, FailedStart, LedgerRow, PIDS_MAX, Session, Stop};
use super::network;
use super::policies::LifetimeBase;
use super::rules::policy_of;
use super::usage;
use crate::scheduler::{Cancel, Start};
use longshore_common::amount::{SlotName, Slots};
use longshore_common::ids::{AgentId, ContainerKey, Rank, SessionId};
use longshore_common::session::{
    Cause, ContainerState, DependOn, End, Exit, Phase, Reason, ResultKind, SessionState,
    SessionType, Want,
};
use longshore_common::time::Timestamp;
use longshore_common::wire::{ContainerReport, Outcome, OutcomeNumber, Totals};

/// An agent acknowledges its orders within this time while it is connected.
pub(super) const ACKNOWLEDGE_MS: i64 = 30_000;
/// Creating a container takes at most this long once its image is there.
const CREATE_MS: i64 = 120_000;
/// A pull takes at most this long.
const PREPARE_MS: i64 = 7_200_000;
/// Starting a created container takes at most this long.
const START_MS: i64 = 300_000;
/// A failed attempt is taken back within this time; what is left is waited for in the books.
const UNDO_MS: i64 = 120_000;
/// Beyond the grace, a stop takes at most this long before the session is final.
const CLOSE_MS: i64 = 120_000;
/// An agent on which a start failed comes last for so long.
const PENALTY_MS: i64 = 3_600_000;

/// Gives a waiting session its places: ledger rows, containers, SCHEDULED.
pub(super) fn start(draft: &mut Draft<'_>, order: &Start) {
    let now = draft.now;
    let id = order.session;
    let mut nodes = Vec::with_capacity(order.places.len());
    for place in &order.places {
        let Some(node) = draft.agent(place.agent) else {
            return;
        };
        nodes.push((node.fence, node.generation.next(), node.name.clone()));
    }
    let group = draft.state.groups.get(&order.group);
    let group = group.map(|g| (g.id, g.name.clone()));
    take_bounds(draft, id);
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    if let (Some(seat), Some(_)) = (&mut session.queue, &order.pool) {
        seat.pool.clone_from(&order.pool);
        if let Some((id, name)) = group {
            session.group = id;
            session.group_name = name;
        }
    }
    let attempt = session.attempt;
    let mut keys = Vec::with_capacity(nodes.len());
    for ((place, (fence, first_generation, _)), rank) in order.places.iter().zip(&nodes).zip(0u16..)
    {
        let key = ContainerKey {
            session: id,
            rank: Rank(rank),
            attempt,
        };
        keys.push(key);
        let asked = session.rank_slots(rank).clone();
        for (slot, amount) in place.slots.iter() {
            if amount < asked.amount(slot) {
                let path = match rank {
                    0 => format!("/slots/{slot}"),
                    _ => format!("/cluster/containers/{rank}/{slot}"),
                };
                session
                    .adjusted
                    .retain(|a| a.path != path || a.reason != "quantum");
                session.adjusted.push(super::Adjusted {
                    path,
                    from: Some(slot.format_amount(asked.amount(slot))),
                    to: slot.format_amount(amount),
                    reason: "quantum".to_owned(),
                    source: None,
                });
            }
        }
        session.containers.push(Container {
            key,
            agent: place.agent,
            slots: Slots::clone(&place.slots),
            devices: place.devices.clone(),
            want: Want::Prepare,
            told_to_run: false,
            acknowledged: false,
            state: ContainerState::Assigned,
            docker_id: String::new(),
            fence: *fence,
            first_generation: *first_generation,
            end: None,
            started_at: None,
            totals: Totals::default(),
            handed_on: false,
            used: Vec::new(),
            image: None,
        });
    }
    session.placed_at = Some(now);
    session.deadline = Some(now.plus_ms(ACKNOWLEDGE_MS));
    session.not_before = None;
    let mut names: Vec<&str> = nodes.iter().map(|(_, _, name)| name.as_str()).collect();
    names.dedup();
    draft.move_to(
        id,
        SessionState::Scheduled,
        Why {
            reason: None,
            detail: Some(&format!("placed on {}", names.join(", "))),
            by: "scheduler",
        },
    );
    for key in keys {
        let session = draft.session(id);
        let placed = session.and_then(|s| s.containers.iter().find(|c| c.key == key));
        let Some((rows, agent)) = placed.map(|c| (claims(c, now), c.agent)) else {
            continue;
        };
        for row in rows {
            draft.open_row(row);
        }
        draft.touch(agent);
    }
    network::give(draft, id, order.group);
}

/// The rows of what a container holds of its node.
pub(super) fn claims(container: &Container, now: Timestamp) -> Vec<LedgerRow> {
    let row = |slot: &SlotName, device, amount| LedgerRow {
        key: container.key,
        agent: container.agent,
        slot: slot.clone(),
        device,
        amount,
        opened_at: now,
        quota_freed_at: None,
    };
    let devices = &container.devices;
    let slots = container.slots.iter();
    let slots = slots.filter(|(slot, _)| devices.iter().all(|d| d.slot != **slot));
    let slots = slots.map(|(slot, amount)| row(slot, None, amount));
    let devices = devices.iter();
    let devices = devices.map(|d| row(&d.slot, Some(d.device.clone()), d.amount));
    slots.chain(devices).collect()
}

/// Reads what policies and its owner's rights allow inside its containers: at a placement and
/// nowhere else, for what runs keeps what it started with.
pub(super) fn take_bounds(draft: &mut Draft<'_>, id: SessionId) {
    let Some(session) = draft.session(id) else {
        return;
    };
    let policy = policy_of(draft.state, &session.access_key);
    let bounds = policy.map_or((None, false, None), |p| {
        (p.max_pids, p.root_in_container, p.max_shm)
    });
    let owner = draft.state.users.get(&session.owner);
    let sudo = owner.is_some_and(|user| user.sudo_enabled);
    let pull = draft.state.scheduler.pull;
    if let Some(session) = draft.session_mut(id) {
        session.sudo = sudo;
        session.pull = pull;
        session.pids_max = bounds.0.unwrap_or(PIDS_MAX);
        session.root = bounds.1;
        // The policy may have become stricter while it waited.
        session.shm_bytes = session.shm_bytes.min(bounds.2.unwrap_or(i64::MAX));
    }
}

/// The changes that give a waiting session its places.
#[must_use]
pub fn start_session(
    state: &super::State,
    now: Timestamp,
    start: &Start,
) -> (Vec<Change>, Vec<super::Effect>) {
    let mut draft = Draft::new(state, now);
    self::start(&mut draft, start);
    draft.finish()
}

/// The changes by which a session waits no longer.
#[must_use]
pub fn cancel_session(
    state: &super::State,
    now: Timestamp,
    order: &Cancel,
) -> (Vec<Change>, Vec<super::Effect>) {
    let mut draft = Draft::new(state, now);
    cancel(
        &mut draft,
        order.session,
        order.reason,
        &order.detail,
        "scheduler",
    );
    draft.finish()
}

/// A stopped session becomes final before its nodes have confirmed.
#[must_use]
pub fn finish_unconfirmed(
    state: &super::State,
    now: Timestamp,
    id: SessionId,
) -> (Vec<Change>, Vec<super::Effect>) {
    let mut draft = Draft::new(state, now);
    let stopped = draft
        .session(id)
        .is_some_and(|s| s.stop.is_some() && !s.state.is_final());
    if stopped {
        finish(&mut draft, id, "coordinator");
    }
    draft.finish()
}

/// Sessions that ended in this draft: who waits for them goes on, or can no longer.
pub(super) fn settle_dependants(draft: &mut Draft<'_>, ended: &[SessionId]) {
    let mut work: Vec<SessionId> = ended.to_vec();
    while let Some(id) = work.pop() {
        let Some(ok) = draft
            .session(id)
            .map(|s| s.result == Some(ResultKind::Success))
        else {
            continue;
        };
        let waiting: Vec<SessionId> = draft.state.dependants(id).collect();
        for dependant in waiting {
            let Some(session) = draft.session_mut(dependant) else {
                continue;
            };
            if session.state != SessionState::Pending {
                continue;
            }
            let mut failed = None;
            for entry in session.depends_on.iter_mut().filter(|d| d.session == id) {
                if super::rules::holds(entry.on, ok) {
                    entry.met = true;
                } else {
                    failed = Some(entry.on);
                }
            }
            if let Some(on) = failed {
                let how = if ok { "with" } else { "without" };
                let detail = format!("{id} ended {how} success and was waited for as \"{on}\"");
                cancel(
                    draft,
                    dependant,
                    Reason::DependencyFailed,
                    &detail,
                    "scheduler",
                );
                work.push(dependant);
            }
        }
    }
}

fn is_array(draft: &Draft<'_>, id: SessionId) -> bool {
    draft.session(id).is_some_and(|s| s.array.is_some())
}

/// An array cannot end with success any more: who waits for that waits no longer.
pub(super) fn give_up_on(draft: &mut Draft<'_>, array: SessionId) {
    let waiting: Vec<SessionId> = draft.state.dependants(array).collect();
    for dependant in waiting {
        let waits = draft.session(dependant).is_some_and(|s| {
            let ok = |d: &super::Dependency| d.session == array && d.on == DependOn::Ok;
            s.state == SessionState::Pending && s.depends_on.iter().any(ok)
        });
        if waits {
            let detail =
                format!("a task of {array} ended without success and it was waited for as \"ok\"");
            let reason = Reason::DependencyFailed;
            cancel(draft, dependant, reason, &detail, "scheduler");
        }
    }
}

/// When a stop has to be done at the latest.
pub(super) const fn close_deadline(now: Timestamp, grace_s: u32) -> Timestamp {
    now.plus_s(grace_s as i64).plus_ms(CLOSE_MS)
}

/// Decides a stop. A second one changes nothing but may shorten the grace.
pub(super) fn stop(draft: &mut Draft<'_>, id: SessionId, stop: Stop, by: &str) {
    if is_array(draft, id) {
        return super::arrays::end(draft, id, &stop, by);
    }
    let now = draft.now;
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    if session.stop.is_some() || session.state.is_final() {
        return;
    }
    let (reason, detail, grace_s) = (stop.reason, stop.detail.clone(), stop.grace_s);
    session.reason.get_or_insert(reason);
    session.detail.get_or_insert_with(|| detail.clone());
    session.deadline = Some(close_deadline(now, grace_s));
    session.stop = Some(Box::new(stop));
    draft.move_to(
        id,
        SessionState::Terminating,
        Why {
            reason: Some(reason),
            detail: Some(&detail),
            by,
        },
    );
    order_stop(draft, id);
    conclude(draft, id, by);
}

/// Orders the containers of a session to be stopped and frees its owner's quota.
pub(super) fn order_stop(draft: &mut Draft<'_>, id: SessionId) {
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    let mut touched = Vec::new();
    for container in session.containers.iter_mut().filter(|c| !c.is_closed()) {
        if container.want != Want::Stop {
            container.want = Want::Stop;
            touched.push((container.key, container.agent));
        }
    }
    for (key, agent) in touched {
        draft.free_quota(key);
        draft.touch(agent);
    }
}

/// A waiting session ends without ever having had a place.
pub(super) fn cancel(draft: &mut Draft<'_>, id: SessionId, reason: Reason, detail: &str, by: &str) {
    if is_array(draft, id) {
        return super::arrays::cancel(draft, id, reason, detail, by);
    }
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    if session.state.is_final() {
        return; // with its array
    }
    session.reason.get_or_insert(reason);
    session.detail.get_or_insert_with(|| detail.to_owned());
    session.result = Some(ResultKind::Failure);
    draft.move_to(
        id,
        SessionState::Cancelled,
        Why {
            reason: Some(reason),
            detail: Some(detail),
            by,
        },
    );
}

/// Ends a session in the books at once; the node is cleaned up through tombstones.
pub(super) fn force(draft: &mut Draft<'_>, id: SessionId, stop: Stop, by: &str) {
    if is_array(draft, id) {
        return super::arrays::end(draft, id, &stop, by);
    }
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    let (reason, detail) = (stop.reason, stop.detail.clone());
    session.reason.get_or_insert(reason);
    session.detail.get_or_insert_with(|| detail.clone());
    session.result.get_or_insert(ResultKind::Failure);
    let ran = session.started_at.is_some();
    session.stop = Some(Box::new(stop));
    let to = if ran {
        SessionState::Terminated
    } else {
        SessionState::Cancelled
    };
    draft.move_to(
        id,
        to,
        Why {
            reason: Some(reason),
            detail: Some(&detail),
            by,
        },
    );
    order_stop(draft, id);
    // A forced stop leaves no time: the order that may be out already is replaced.
    let agents: Vec<AgentId> = draft
        .session(id)
        .map(|s| {
            s.containers
                .iter()
                .filter(|c| !c.is_closed())
                .map(|c| c.agent)
                .collect()
        })
        .unwrap_or_default();
    for agent in agents {
        draft.touch(agent);
    }
    close_unsent(draft, id);
}

/// What no agent was ever told of cannot be there: nobody has to confirm that it is gone.
fn close_unsent(draft: &mut Draft<'_>, id: SessionId) {
    let Some(session) = draft.session(id) else {
        return;
    };
    let unsent = |c: &&Container| {
        let handed = draft.handed.get(&c.agent);
        let told = c.acknowledged || c.told_to_run || c.state != ContainerState::Assigned;
        !told && handed.is_some_and(|newest| *newest < c.first_generation)
    };
    let keys: Vec<ContainerKey> = session
        .containers
        .iter()
        .filter(unsent)
        .map(|c| c.key)
        .collect();
    for key in keys {
        close_container(draft, key);
    }
}

/// An attempt failed before it ran: take it back.
pub(super) fn fail_attempt(draft: &mut Draft<'_>, id: SessionId, failed: FailedStart, by: &str) {
    let now = draft.now;
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    if session.failed.is_some() || session.stop.is_some() || session.state.is_final() {
        return;
    }
    session.failed = Some(Box::new(failed.clone()));
    session.deadline = Some(now.plus_ms(UNDO_MS));
    draft.move_to(id, SessionState::Preparing, Why::failed(&failed, by));
    if let Some(session) = draft.session_mut(id) {
        session.phase = Some(Phase::Undoing);
    }
    order_stop(draft, id);
    conclude(draft, id, by);
}

/// What a report about one container changes.
pub(super) fn report(draft: &mut Draft<'_>, agent: AgentId, item: &ContainerReport) {
    let key = item.key;
    let Some(session) = draft.session(key.session) else {
        return;
    };
    let Some(known) = session
        .containers
        .iter()
        .find(|c| c.key == key && c.agent == agent)
    else {
        return;
    };
    if known.is_closed() {
        return;
    }
    // A report may have been overtaken by the outcome, and what was given up stays so.
    let over = known.end.is_some() || known.state == ContainerState::Lost;
    let news = (known.state != item.state && !over)
        || (known.docker_id.is_empty() && !item.docker_id.is_empty())
        || (known.started_at.is_none() && item.started_at.is_some())
        || (item.image.is_some() && known.image != item.image);
    if !news {
        return;
    }
    let by = format!("agent {}", agent_name(draft, agent));
    let Some(session) = draft.session_mut(key.session) else {
        return;
    };
    let Some(container) = session.containers.iter_mut().find(|c| c.key == key) else {
        return;
    };
    // The two ends come as outcomes, with everything that belongs to them.
    if !over && !matches!(item.state, ContainerState::Exited | ContainerState::Closed) {
        container.state = item.state;
    }
    if !item.docker_id.is_empty() {
        container.docker_id.clone_from(&item.docker_id);
    }
    container.image = item.image.or(container.image);
    if container.started_at.is_none() {
        container.started_at = item.started_at.map(storable);
    }
    progress(draft, key.session, &by);
}

/// Gives the order to run once every container of the attempt is created, and derives
/// the state from the containers.
pub(super) fn progress(draft: &mut Draft<'_>, id: SessionId, by: &str) {
    let now = draft.now;
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    if session.state.is_final() || session.stop.is_some() || session.failed.is_some() {
        return;
    }
    let attempt = session.attempt;
    // Two attempts never make progress at the same time: the older one goes first.
    let ready = !session.older_may_run()
        && session.present().next().is_some()
        && session.present().all(|c| {
            // One that runs unasked is as good as created: it gets its order all the same.
            let there = matches!(
                c.state,
                ContainerState::Created | ContainerState::Starting | ContainerState::Running
            );
            c.want == Want::Prepare && there
        });
    if ready {
        let mut agents = Vec::new();
        for container in session
            .containers
            .iter_mut()
            .filter(|c| c.key.attempt == attempt)
        {
            container.want = Want::Run;
            container.told_to_run = true;
            agents.push(container.agent);
        }
        if session.state != SessionState::Running {
            session.deadline = Some(now.plus_ms(START_MS));
        } // one that runs unasked has nothing left to wait for
        for agent in agents {
            draft.touch(agent);
        }
    }
    derive(draft, id, by);
}

/// The state of a session from its containers (present attempt only).
fn derive(draft: &mut Draft<'_>, id: SessionId, by: &str) {
    let now = draft.now;
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    let behind = session
        .present()
        .map(|c| (progress_rank(c.state), c.want, c.state))
        .min_by_key(|(r, ..)| *r);
    let Some((_, want, state)) = behind else {
        return;
    };
    let all_run = session
        .present()
        .all(|c| c.state == ContainerState::Running || session.is_finished(c));
    if all_run {
        if session.state != SessionState::Running {
            let started = session.present().filter_map(|c| c.started_at).max();
            session.started_at = Some(started.unwrap_or(now));
            session.deadline = None;
            // Agents counted by themselves until now: from here on all count from one instant.
            let counts_from_now =
                session.life.base == LifetimeBase::Started && session.lifetime_s.is_some();
            let told = session.present().filter(|_| counts_from_now);
            let told: Vec<AgentId> = told.map(|c| c.agent).collect();
            draft.move_to(id, SessionState::Running, Why::by(by));
            told.into_iter().for_each(|agent| draft.touch(agent));
        }
        return;
    }
    if session.state == SessionState::Running {
        return; // a frozen or odd container does not un-run a session
    }
    let phase = match state {
        ContainerState::Assigned => None,
        ContainerState::Pulling => Some(Phase::Pulling),
        ContainerState::Creating => Some(Phase::Creating),
        ContainerState::Created if want == Want::Run => Some(Phase::Starting),
        ContainerState::Created => Some(Phase::Waiting),
        _ => Some(Phase::Starting),
    };
    let Some(phase) = phase else { return };
    if session.state == SessionState::Scheduled {
        session.deadline = Some(now.plus_ms(PREPARE_MS));
        draft.move_to(id, SessionState::Preparing, Why::by(by));
    }
    if let Some(session) = draft.session_mut(id) {
        match phase {
            Phase::Creating if session.phase != Some(phase) => {
                session.deadline = Some(now.plus_ms(CREATE_MS));
            }
            Phase::Pulling if session.phase != Some(phase) => {
                let placed = session.placed_at.unwrap_or(now);
                session.deadline = Some(placed.plus_ms(PREPARE_MS));
            }
            _ => (),
        }
        session.phase = Some(phase);
    }
}

const fn progress_rank(state: ContainerState) -> u8 {
    match state {
        ContainerState::Assigned => 0,
        ContainerState::Pulling => 1,
        ContainerState::Creating => 2,
        ContainerState::Created => 3,
        ContainerState::Starting => 4,
        ContainerState::Running => 5,
        ContainerState::Stopping => 6,
        ContainerState::Exited | ContainerState::Closed | ContainerState::Lost => 7,
    }
}

/// The agent has applied a set in which this session's containers stood.
pub(super) fn acknowledged(draft: &mut Draft<'_>, id: SessionId, agent: AgentId, by: &str) {
    let now = draft.now;
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    for container in session.containers.iter_mut().filter(|c| c.agent == agent) {
        container.acknowledged = true;
    }
    // Until every agent has taken its orders, the short time for that runs on, and so does that
    // in which what was restarted has to end.
    let all = session.present().all(|c| c.acknowledged);
    let ends = session.restarted && session.older_may_run();
    if all && !ends && session.phase.is_none() {
        session.deadline = Some(now.plus_ms(PREPARE_MS));
    }
    if session.state == SessionState::Scheduled {
        draft.move_to(id, SessionState::Preparing, Why::by(by));
    }
}

/// A container came to an end.
pub(super) fn outcome(draft: &mut Draft<'_>, agent: AgentId, outcome: &Outcome) {
    let key = outcome.key;
    let Some(session) = draft.session(key.session) else {
        return;
    };
    let Some(known) = session
        .containers
        .iter()
        .find(|c| c.key == key && c.agent == agent)
    else {
        return;
    };
    if known.is_closed() {
        return;
    }
    let by = format!("agent {}", agent_name(draft, agent));
    let older = key.attempt < session.attempt;
    match outcome.number {
        OutcomeNumber::Ended if known.end.is_none() => ended(draft, agent, outcome, &by),
        OutcomeNumber::Ended => (),
        OutcomeNumber::Closed => {
            // An agent that closes what it never reported ended: take the end over first.
            if known.end.is_none() && outcome.end.is_some() {
                ended(draft, agent, outcome, &by);
            }
            close_container(draft, key);
            conclude(draft, key.session, &by);
        }
    }
    if older {
        progress(draft, key.session, &by); // the present one may have waited for it
    }
}

/// An instant by another machine's clock, brought into the range that has a text form:
/// one outside could be stored but not read back.
fn storable(at: Timestamp) -> Timestamp {
    const LAST: i64 = 253_402_300_799_999; // the end of the year 9999
    Timestamp(at.0.clamp(0, LAST))
}

fn storable_end(end: End) -> End {
    let exit = |exit: Exit| Exit {
        at: storable(exit.at),
        ..exit
    };
    match end {
        End::Exited(e) => End::Exited(exit(e)),
        End::Stopped { reason, exit: e } => End::Stopped {
            reason,
            exit: e.map(exit),
        },
        other => other,
    }
}

/// Nothing is left of a container: its claims end, unless it handed them on, or an older one
/// that did is still there and holds the same place.
pub(super) fn close_container(draft: &mut Draft<'_>, key: ContainerKey) {
    let Some(session) = draft.session_mut(key.session) else {
        return;
    };
    let Some(container) = session.containers.iter_mut().find(|c| c.key == key) else {
        return;
    };
    container.state = ContainerState::Closed;
    let (agent, handed_on) = (container.agent, container.handed_on);
    let ends: Vec<ContainerKey> = session
        .containers
        .iter()
        .filter(|c| c.is_closed() && !c.handed_on && c.key.rank == key.rank)
        .filter(|c| c.key == key || (handed_on && c.key.attempt > key.attempt))
        .filter(|c| !session.claims_are_shared(c))
        .map(|c| c.key)
        .collect();
    for key in ends {
        draft.close_rows(key);
    }
    draft.touch(agent);
}

fn ended(draft: &mut Draft<'_>, agent: AgentId, outcome: &Outcome, by: &str) {
    let now = draft.now;
    let key = outcome.key;
    let Some(end) = outcome.end.clone().map(storable_end) else {
        return;
    };
    let Some(session) = draft.session_mut(key.session) else {
        return;
    };
    let present = session.attempt == key.attempt;
    let placed_at = match present {
        true => session.placed_at,
        false => {
            let mut past = session.attempts.iter();
            let past = past.find(|past| past.attempt == key.attempt.0);
            past.and_then(|past| past.placed_at)
        }
    };
    let held_ms = now.since(placed_at.unwrap_or(session.created_at));
    let Some(container) = session.containers.iter_mut().find(|c| c.key == key) else {
        return;
    };
    container.end = Some(end.clone());
    if container.state != ContainerState::Lost {
        container.state = ContainerState::Exited;
    }
    if container.started_at.is_none() {
        container.started_at = outcome.started_at.map(storable);
    }
    container.totals = outcome.totals;
    container.used = usage::believed(container, &outcome.devices, held_ms);
    let (figures, used) = (container.clone(), usage::accelerator_used(container));
    let started = container.started_at;
    session.spent.accelerator_used_ms = session.spent.accelerator_used_ms.saturating_add(used);
    for change in usage::measured(&figures, &figures.totals) {
        draft.push(Change::Usage(change));
    }
    let Some(session) = draft.session_mut(key.session) else {
        return;
    };
    if !present || session.state.is_final() {
        return; // what is final is not rewritten
    }
    if key.rank == Rank::MAIN && !outcome.tail.is_empty() {
        session.tail = Some(String::from_utf8_lossy(&outcome.tail).into_owned());
        let length = outcome.tail.len() as u64;
        // A number of a peer: one that cannot be is none.
        session.tail_at = outcome.totals.output.and_then(|n| n.checked_sub(length));
    }
    // Ended so soon that its running was never reported.
    // An attempt that is being taken back does not run: its deadline stays.
    // Where each runs the command, the others may still be on their way.
    let finishes = session.finishes(&end);
    if let (Some(at), SessionState::Scheduled | SessionState::Preparing, None) =
        (started, session.state, &session.failed)
        && !finishes
    {
        session.started_at.get_or_insert(at);
        session.deadline = None;
        if !matches!(end, End::StartFailed { .. }) {
            draft.move_to(key.session, SessionState::Running, Why::by(by));
        }
    }
    let exit = match &end {
        End::Exited(exit) => Some(exit),
        End::Stopped { exit, .. } => exit.as_ref(),
        End::StartFailed { .. } | End::Vanished { .. } => None,
    };
    let goes_on = |s: &Session| finishes && s.unfinished().next().is_some();
    if let (Some(exit), Some(session)) = (exit, draft.session_mut(key.session))
        && session.code_counts(key.rank)
        && (session.stop.is_some() || !goes_on(session))
    {
        session.exit_code = Some(exit.code);
        session.signal = exit.signal;
    }
    let Some(session) = draft.session(key.session) else {
        return;
    };
    if session.stop.is_some() || session.state.is_final() || session.failed.is_some() {
        return;
    }
    let goes_on = goes_on(session);
    if finishes {
        derive(draft, key.session, by);
    }
    let Some(session) = draft.session(key.session).filter(|_| !goes_on) else {
        return;
    };
    let why = match &end {
        End::Exited(_) if finishes => all_finished(session),
        End::StartFailed { cause, detail } => {
            let failed = FailedStart {
                cause: *cause,
                detail: detail.clone(),
                agent,
            };
            fail_attempt(draft, key.session, failed, by);
            return;
        }
        End::Exited(exit) => exit_reason(session, key.rank, exit),
        End::Stopped { reason, .. } => (*reason, stop_detail(session, *reason)),
        End::Vanished { rebooted: true } => (
            Reason::NodeRebooted,
            "the machine it ran on was started anew".to_owned(),
        ),
        End::Vanished { rebooted: false } => (
            Reason::ContainerNotFound,
            "its container vanished without Longshore".to_owned(),
        ),
    };
    let (reason, detail) = why;
    if session.restarts_after(reason) {
        let wait = i64::from(draft.state.scheduler.interval_s) * 1000;
        requeue(draft, key.session, reason, &detail, now.plus_ms(wait), by);
        return;
    }
    // Nothing is left of what ended; the others of a cluster get their time.
    let others = session.present().any(|c| c.key != key && !c.is_over());
    stop(
        draft,
        key.session,
        Stop {
            reason,
            detail,
            grace_s: if others {
                draft.state.stop_grace_s()
            } else {
                0
            },
            forced: false,
            at: now,
        },
        by,
    );
}

/// Ends what can be ended: a stopped session whose containers are all closed becomes
/// final, a failed attempt that is taken back goes on or ends for good.
pub(super) fn conclude(draft: &mut Draft<'_>, id: SessionId, by: &str) {
    let Some(session) = draft.session(id) else {
        return;
    };
    if session.state.is_final() {
        // Still to be written: it may be settled now.
        let _ = draft.session_mut(id);
        return;
    }
    let closed = session.present().all(Container::is_closed);
    if !closed {
        return;
    }
    if session.stop.is_some() {
        finish(draft, id, by);
    } else if session.failed.is_some() {
        conclude_failed(draft, id, by);
    }
}

/// Makes a stopped session final.
pub(super) fn finish(draft: &mut Draft<'_>, id: SessionId, by: &str) {
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    let Some(stop) = session.stop.clone() else {
        return;
    };
    let ok = stop.reason == Reason::TaskFinished && session.exit_code == Some(0);
    let judged = session.kind == SessionType::Batch || ok;
    if judged {
        session.result = Some(if ok {
            ResultKind::Success
        } else {
            ResultKind::Failure
        });
    }
    let to = match stop.reason {
        Reason::AgentLost
        | Reason::NodeRebooted
        | Reason::ContainerNotFound
        | Reason::RuntimeError
        | Reason::DeviceLost => SessionState::Error,
        Reason::RestartFailed => SessionState::Terminated,
        _ if session.started_at.is_none() => SessionState::Cancelled,
        _ => SessionState::Terminated,
    };
    draft.move_to(
        id,
        to,
        Why {
            reason: Some(stop.reason),
            detail: Some(&stop.detail),
            by,
        },
    );
}

fn conclude_failed(draft: &mut Draft<'_>, id: SessionId, by: &str) {
    let Some(session) = draft.session(id) else {
        return;
    };
    let Some(failed) = session.failed.clone() else {
        return;
    };
    // Neither is the session's fault, and a vault may be there again at any time.
    let counted = !matches!(
        failed.cause,
        Cause::AgentLostBeforeStart | Cause::VaultUnavailable
    );
    let tries = session.failed_starts + u32::from(counted);
    let allowed = draft
        .state
        .groups
        .get(&session.group)
        .and_then(|g| g.creation_retries)
        .unwrap_or(draft.state.scheduler.creation_retries);
    if session.restarted && failed.cause != Cause::VaultUnavailable {
        // It ran before, and a person wanted it to run again: not tried once more.
        let (agent, now) = (agent_name(draft, failed.agent), draft.now);
        let detail = format!("{} on {agent}: {}", failed.cause, failed.detail);
        if let Some(session) = draft.session_mut(id) {
            session.reason.get_or_insert(Reason::RestartFailed);
            session.detail.get_or_insert_with(|| detail.clone());
            session.result = Some(ResultKind::Failure);
            session.stop = Some(Box::new(Stop {
                reason: Reason::RestartFailed,
                detail,
                grace_s: 0,
                forced: false,
                at: now,
            }));
        }
        finish(draft, id, by);
    } else if failed.cause.is_permanent() || (counted && tries > allowed) {
        let agent = agent_name(draft, failed.agent);
        let detail = format!("{} on {agent}: {}", failed.cause, failed.detail);
        if let Some(session) = draft.session_mut(id) {
            session.failed_starts = tries;
        }
        cancel(draft, id, Reason::FailedToStart, &detail, by);
    } else {
        retry(draft, id, &failed, counted, by);
    }
}

/// Back to the queue for another attempt.
pub(super) fn retry(
    draft: &mut Draft<'_>,
    id: SessionId,
    failed: &FailedStart,
    counted: bool,
    by: &str,
) {
    let now = draft.now;
    let wait = i64::from(draft.state.scheduler.interval_s) * 1000;
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    if session.kind == SessionType::System {
        // It is no use to wait for: who wants one asks again.
        let detail = format!("{}: {}", failed.cause, failed.detail);
        cancel(draft, id, Reason::FailedToStart, &detail, by);
        return;
    }
    let of_vault = failed.cause == Cause::VaultUnavailable;
    let wait = match of_vault {
        true => {
            let name = failed.cause.as_str();
            let before = session.attempts.iter().rev();
            wait_for_vault_s(before.take_while(|past| past.reason == name).count()) * 1000
        }
        false => wait,
    };
    session.next_attempt(failed.cause.as_str(), &failed.detail, now);
    session.failed_starts += u32::from(counted);
    session.not_before = Some(now.plus_ms(wait));
    session
        .penalties
        .retain(|(agent, until)| *until > now && *agent != failed.agent);
    if !of_vault {
        // No other agent would have had what is missing.
        session
            .penalties
            .push((failed.agent, now.plus_ms(PENALTY_MS)));
    }
    let detail = format!("{}: {}", failed.cause, failed.detail);
    wait_again(draft, id, None, &detail, by);
}

/// A restartable session whose attempt ended waits for another one. Its old claims stay until
/// its nodes have confirmed, but count against its owner no longer.
pub(super) fn requeue(
    draft: &mut Draft<'_>,
    id: SessionId,
    reason: Reason,
    detail: &str,
    not_before: Timestamp,
    by: &str,
) {
    let now = draft.now;
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    session.next_attempt(reason.as_str(), detail, now);
    session.restarts += 1;
    session.pending_since = now;
    session.not_before = Some(not_before);
    wait_again(draft, id, Some(reason), detail, by);
    order_stop(draft, id);
}

fn wait_again(
    draft: &mut Draft<'_>,
    id: SessionId,
    reason: Option<Reason>,
    detail: &str,
    by: &str,
) {
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    session.placed_at = None;
    session.deadline = None;
    if let Some(seat) = &mut session.queue {
        seat.pool = None;
    }
    let why = Why {
        reason,
        detail: Some(detail),
        by,
    };
    draft.move_to(id, SessionState::Pending, why);
}

/// A deadline of the coordinator's passed.
pub(super) fn due(draft: &mut Draft<'_>, id: SessionId) {
    let now = draft.now;
    let Some(session) = draft.session(id) else {
        return;
    };
    let by = "coordinator";
    let life_over = session.lifetime_deadline().is_some_and(|at| at <= now);
    let deadline_over = session.deadline.is_some_and(|at| at <= now);
    let away = session.present().any(|c| {
        draft
            .agent(c.agent)
            .is_some_and(|a| a.state != longshore_common::agent::AgentState::Alive)
    });
    match session.state {
        SessionState::Pending if life_over => {
            cancel(
                draft,
                id,
                Reason::LifetimeExceeded,
                "its lifetime ended while it waited",
                by,
            );
        }
        SessionState::Scheduled | SessionState::Preparing if life_over => {
            let detail = stop_detail(session, Reason::LifetimeExceeded);
            let reason = Reason::LifetimeExceeded;
            stop(
                draft,
                id,
                Stop {
                    reason,
                    detail,
                    grace_s: 0,
                    forced: false,
                    at: now,
                },
                by,
            );
        }
        SessionState::Preparing if deadline_over && session.failed.is_some() => {
            undo_is_late(draft, id, by);
        }
        SessionState::Scheduled | SessionState::Preparing if deadline_over && away => {
            // An agent that is away is judged by its silence, not by this clock.
            if let Some(session) = draft.session_mut(id) {
                session.deadline = Some(now.plus_ms(ACKNOWLEDGE_MS));
            }
        }
        SessionState::Scheduled if deadline_over => {
            expire(
                draft,
                id,
                Cause::NotAcknowledged,
                "the agent did not take its orders in time",
            );
        }
        SessionState::Preparing if deadline_over && session.older_may_run() => {
            if session.restarted {
                // Somebody waits for it. Its node goes on stopping what does not end.
                let detail = "the container of the attempt before does not end";
                expire(draft, id, Cause::StartTimeout, detail);
            } else if let Some(session) = draft.session_mut(id) {
                // Nothing is told to run beside it, however long its end takes.
                session.deadline = Some(now.plus_ms(ACKNOWLEDGE_MS));
            }
        }
        SessionState::Preparing if deadline_over => {
            let cause = match session.phase {
                Some(Phase::Pulling) => Cause::PullTimeout,
                Some(Phase::Starting) => Cause::StartTimeout,
                None if !session.present().all(|c| c.acknowledged) => Cause::NotAcknowledged,
                _ => Cause::CreateTimeout,
            };
            expire(draft, id, cause, "it took longer than a start may take");
        }
        SessionState::Terminating if deadline_over => finish(draft, id, by),
        // All that is left to do is to tell it.
        state if state.is_final() && session.is_releasing() => {
            if let Some(session) = draft.session_mut(id) {
                session.releasing_told = true;
            }
        }
        _ => (),
    }
}

/// A failed attempt is not taken back in time. What was never told to run cannot run,
/// so the session goes on while the node's claims wait; what was told to may run still,
/// and a second attempt beside it is the one thing that must not be.
fn undo_is_late(draft: &mut Draft<'_>, id: SessionId, by: &str) {
    let now = draft.now;
    let Some(session) = draft.session_mut(id) else {
        return;
    };
    let may_run = session
        .present()
        .any(|c| c.told_to_run && !c.is_closed() && c.end.is_none());
    if may_run {
        session.deadline = Some(now.plus_ms(UNDO_MS));
    } else {
        conclude_failed(draft, id, by);
    }
}

fn expire(draft: &mut Draft<'_>, id: SessionId, cause: Cause, detail: &str) {
    // The container that is furthest behind is the one that was waited for.
    let agent = draft
        .session(id)
        .and_then(|s| s.present().min_by_key(|c| progress_rank(c.state)))
        .map(|c| c.agent);
    let Some(agent) = agent else { return };
    let failed = FailedStart {
        cause,
        detail: detail.to_owned(),
        agent,
    };
    fail_attempt(draft, id, failed, "coordinator");
}

pub(super) fn agent_name(draft: &Draft<'_>, agent: AgentId) -> String {
    draft
        .agent(agent)
        .map_or_else(|| agent.to_string(), |a| a.name.clone())
}

/// A container the agent no longer has although it had been told to run it.
pub(super) fn missing(draft: &mut Draft<'_>, key: ContainerKey, agent: AgentId, rebooted: bool) {
    let now = draft.now;
    let by = format!("agent {}", agent_name(draft, agent));
    let gone = Outcome {
        key,
        number: OutcomeNumber::Closed,
        end: Some(End::Vanished { rebooted }),
        started_at: None,
        at: now,
        tail: Vec::new(),
        totals: Totals::default(),
        devices: Vec::new(),
    };
    let Some(session) = draft.session(key.session) else {
        return;
    };
    let never_ran = session.started_at.is_none() && session.stop.is_none();
    if never_ran && session.attempt == key.attempt && session.failed.is_none() {
        let failed = FailedStart {
            cause: Cause::StartFailed,
            detail: "the agent has no record of the container".to_owned(),
            agent,
        };
        let others = session.present().any(|c| c.key != key && !c.is_closed());
        if others {
            // All or none: what is there of the attempt is taken back first.
            fail_attempt(draft, key.session, failed, &by);
        } else if let Some(session) = draft.session_mut(key.session) {
            session.failed = Some(Box::new(failed));
        }
        close_container(draft, key);
        conclude(draft, key.session, &by);
        return;
    }
    outcome(draft, agent, &gone);
}

/// When a report may speak of a container: it stood in a set the agent has applied.
pub(super) fn agent_has_seen(
    container: &Container,
    applied: longshore_common::ids::Generation,
) -> bool {
    applied >= container.first_generation
}

#[cfg(test)]
#[path = "lifecycle_tests.rs"]
mod tests;
