//! Containers that a database does not know although it once placed them: an older copy of it was
//! put back. Each carries a signed record of what it was placed as, and of that its session is
//! made again.

use super::attempts::Restart;
use super::change::Change;
use super::draft::{Draft, Why};
use super::entities::{Agent, Container, Meta, Session, no_project};
use super::lifecycle;
use super::network;
use super::state::State;
use super::unclaimed::Unclaimed;
use super::usage::Spent;
use longshore_common::amount::UNIT;
use longshore_common::ids::{AgentId, ClusterId, ContainerKey, DeviceId, SessionId};
use longshore_common::session::{ContainerState, DeviceGrant, Reason, SessionState, Want};
use longshore_common::time::Timestamp;
use longshore_common::wire::{ContainerReport, Totals};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The form of records that is written. Others are not read.
const FORM: u32 = 1;
/// What the desired set looks up in the environment of a session, so that the same order comes of
/// a record as came of the session.
const LOOKED_UP: [&str; 4] = ["MASTER_ADDR", "MASTER_PORT", "NNODES", "NODE_RANK"];

/// What a container was placed as: its session without what may be secret, and itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Form of the record.
    pub form: u32,
    /// Of which installation.
    pub cluster: ClusterId,
    /// On which node.
    pub agent: AgentId,
    /// Its session gave it things that stand nowhere here: without them it is not run again.
    pub parts_missing: bool,
    /// Its session with this container alone.
    pub session: Session,
}

/// That a session was made again of what its containers say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// When.
    pub at: Timestamp,
    /// What it was given (environment, files, settings) is not known any more.
    pub parts_missing: bool,
}

/// What a container of an agent is placed as; none if nothing is to run there under this key.
#[must_use]
pub fn placement(state: &State, agent: AgentId, key: ContainerKey) -> Option<Placement> {
    let known = state.sessions.get(&key.session)?;
    let mut containers = known.containers.iter();
    let container = containers.find(|c| c.key == key && c.agent == agent)?;
    let networks = known.networks.iter();
    let networks = networks.filter(|n| n.attempt == key.attempt).cloned();
    let mut environment = BTreeMap::new();
    for name in LOOKED_UP {
        if known.environment.contains_key(name) {
            environment.insert(name.to_owned(), String::new());
        }
    }
    Some(Placement {
        form: FORM,
        cluster: state.meta.cluster,
        agent,
        parts_missing: known.given || !known.environment.is_empty(),
        session: Session {
            environment,
            containers: vec![container.clone()],
            networks: networks.collect(),
            given: false,
            attempts: Vec::new(),
            depends_on: Vec::new(),
            penalties: Vec::new(),
            not_given: Vec::new(),
            adjusted: Vec::new(),
            tail: None,
            detail: None,
            delivered: None,
            ..known.clone()
        },
    })
}

/// What becomes of a container that no order names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is over, in the books or for its fence: it is stopped at once.
    Stop,
    /// Its session is made of its record, or gets it back.
    Adopt,
    /// It is left alone, for now; why.
    Leave(String),
}

/// Says what becomes of one. `taken` is what others of the same report took of devices.
pub(super) fn judge(
    draft: &Draft<'_>,
    node: &Agent,
    stray: &Unclaimed,
    taken: &BTreeMap<DeviceId, i64>,
) -> Verdict {
    let key = stray.key;
    let leave = |why: &str| Verdict::Leave(why.to_owned());
    // Labels that say nothing of it say 0.
    let fence = stray.report.as_ref().map_or(0, |report| report.fence.0);
    if fence > 0 && fence < node.fence.0 {
        return Verdict::Stop;
    }
    let known = draft.session(key.session);
    if let Some(attempt) = stray.over.filter(|_| known.is_none()) {
        return match key.attempt <= attempt {
            true => Verdict::Stop,
            false => leave("its session ended here in an older attempt"),
        };
    }
    if let Some(known) = known {
        let mut containers = known.containers.iter();
        let there = containers.any(|c| c.key == key);
        let ends = known.state.is_final() || known.stop.is_some();
        if key.attempt < known.attempt || there {
            return Verdict::Stop; // what stands there is closed, or on another node
        }
        if key.attempt > known.attempt && ends {
            return leave("its session ended here in an older attempt");
        }
        // Of a later attempt: what is old are the books, whatever they say of the older one.
        let is_rank = known.adopted.is_some() && known.state != SessionState::Pending;
        let waits = known.state == SessionState::Pending;
        if ends {
            return Verdict::Stop;
        }
        if key.attempt == known.attempt && !waits && !is_rank {
            return leave("its session was placed here without it");
        }
        if known.array.is_some() {
            return leave("its session is known here as an array");
        }
    }
    let (Some(record), Some(report)) = (&stray.record, &stray.report) else {
        return leave("it carries no record of this installation");
    };
    match usable(draft, node, (key, report), record, taken) {
        Ok(()) => Verdict::Adopt,
        Err(why) => Verdict::Leave(why),
    }
}

/// Whether a session can be made of a record: it is for this container, and what it names is here.
fn usable(
    draft: &Draft<'_>,
    node: &Agent,
    (key, report): (ContainerKey, &ContainerReport),
    record: &Placement,
    taken: &BTreeMap<DeviceId, i64>,
) -> Result<(), String> {
    let (state, session) = (draft.state, &record.session);
    let container = session.containers.first();
    let container = container.filter(|c| c.key == key && c.agent == node.id);
    let Some(container) = container.filter(|_| session.id == key.session) else {
        return Err("its record is of another container".to_owned());
    };
    if record.form != FORM || record.cluster != state.meta.cluster || record.agent != node.id {
        return Err("its record is of another node or release".to_owned());
    }
    if report.state == ContainerState::Closed {
        return Err("it is gone".to_owned());
    }
    if !state.users.contains_key(&session.owner) {
        return Err(format!(
            "its owner {} is not known here",
            session.owner_name
        ));
    }
    let project = &session.project;
    let known = state.projects.contains_key(project) || state.gone.projects.contains_key(project);
    if !known && *project != no_project() {
        let name = &session.project_name;
        return Err(format!("its project {name} is not known here"));
    }
    if let (Some(array), None) = (session.id.array(), state.sessions.get(&session.id))
        && let Some(plan) = state.sessions.get(&array).and_then(|a| a.array.as_ref())
        && session.id.task_index() != Some(plan.next)
    {
        return Err("its array has not made this task yet".to_owned());
    }
    let known = draft.session(key.session);
    let older: Vec<&Container> = known.map_or_else(Vec::new, |s| in_the_way(s, container));
    for grant in &container.devices {
        let own = older.iter().flat_map(|c| &c.devices);
        let own = own.filter(|other| other.device == grant.device);
        let own: i64 = own.map(|other| other.amount).sum();
        let given = state.given_out(node.id, &grant.device) - own;
        let others = given + taken.get(&grant.device).unwrap_or(&0);
        let devices = node.inventory.iter().flat_map(|i| &i.devices);
        let device = { devices }.find(|d| d.id == grant.device);
        if others + grant.amount > device.map_or(UNIT, |d| d.capacity) {
            return Err(format!("{} was given to another session", grant.device));
        }
    }
    match network::is_free(state, session) {
        true => Ok(()),
        false => Err("its network was given to another session".to_owned()),
    }
}

/// Containers of older attempts that hold a device of this one in the books. They are gone: it
/// was not given it before they were.
fn in_the_way<'a>(known: &'a Session, placed: &Container) -> Vec<&'a Container> {
    let shares = |c: &&Container| {
        let meets = |grant: &DeviceGrant| placed.devices.iter().any(|d| d.device == grant.device);
        let older = c.key.attempt < placed.key.attempt && c.agent == placed.agent;
        older && !c.is_closed() && c.devices.iter().any(meets)
    };
    known.containers.iter().filter(shares).collect()
}

/// Takes a container into the books that [`judge`] said to adopt.
pub(super) fn adopt(
    draft: &mut Draft<'_>,
    agent: AgentId,
    report: &ContainerReport,
    record: &Placement,
) {
    let Some(node) = draft.agent(agent).cloned() else {
        return;
    };
    let Some(placed) = record.session.containers.first() else {
        return;
    };
    let id = record.session.id;
    let by = format!("agent {}", node.name);
    // Its other containers may have been first.
    let known = draft.session(id).cloned();
    let begun = |s: &Session| s.adopted.is_some() && s.attempt == placed.key.attempt;
    if !known.as_ref().is_some_and(begun) {
        if let Some(known) = &known {
            pass_over(draft, known, placed, &by);
        }
        begin(draft, &node, record, &by);
    }
    let others = draft.session(id);
    let told_to_run = others.is_some_and(|s| s.present().any(|c| c.told_to_run));
    let container = Container {
        want: match told_to_run {
            true => Want::Run,
            false => Want::Prepare,
        },
        told_to_run,
        acknowledged: true,
        state: ContainerState::Assigned,
        docker_id: String::new(),
        fence: placed.fence,
        first_generation: node.generation.next(),
        end: None,
        started_at: None,
        totals: Totals::default(),
        handed_on: false,
        used: Vec::new(),
        image: None,
        ..placed.clone()
    };
    let now = draft.now;
    let rows = lifecycle::claims(&container, now);
    if let Some(session) = draft.session_mut(id) {
        session.containers.push(container);
        session.containers.sort_by_key(|c| c.key);
        if session.state == SessionState::Pending {
            session.deadline = Some(now.plus_ms(lifecycle::ACKNOWLEDGE_MS));
        }
    }
    let text = format!("adopted: it is on {} and was not known here", node.name);
    let why = Why {
        reason: None,
        detail: Some(&text),
        by: &by,
    };
    match draft.session(id).map(|s| s.state) {
        Some(SessionState::Pending) => draft.move_to(id, SessionState::Scheduled, why),
        Some(state) => draft.remark(id, state, why),
        None => return,
    }
    for row in rows {
        draft.open_row(row);
    }
    // The fence it was made under was given out, whatever this database remembers.
    if node.fence < placed.fence
        && let Some(node) = draft.agent_mut(agent)
    {
        node.fence = placed.fence;
    }
    draft.touch(agent);
    lifecycle::report(draft, agent, report);
}

/// A later attempt of a session runs than the one that is known here: that is over. What is left
/// of it is stopped where it may be, and waited for in the books.
fn pass_over(draft: &mut Draft<'_>, known: &Session, placed: &Container, by: &str) {
    let (id, now) = (known.id, draft.now);
    let gone: Vec<ContainerKey> = in_the_way(known, placed).iter().map(|c| c.key).collect();
    if known.attempt < placed.key.attempt {
        let (reason, detail) = (Reason::ContainerNotFound, "a later attempt of it runs");
        if let Some(session) = draft.session_mut(id) {
            session.next_attempt(reason.as_str(), detail, now);
        }
        if known.state != SessionState::Pending {
            lifecycle::wait_again(draft, id, Some(reason), detail, by);
            lifecycle::order_stop(draft, id);
        }
    }
    for key in gone {
        lifecycle::close_container(draft, key);
    }
}

/// Makes the session of a record, or brings the one that still waits here to where it was.
fn begin(draft: &mut Draft<'_>, node: &Agent, record: &Placement, by: &str) {
    let (now, state) = (draft.now, draft.state);
    let mut session = record.session.clone();
    let id = session.id;
    let waits = draft.session(id).cloned();
    let parts_missing = match &waits {
        Some(known) => known.adopted.as_ref().is_some_and(|a| a.parts_missing),
        None => record.parts_missing,
    };
    if !state.groups.contains_key(&session.group) {
        session.group = node.group;
        let group = state.groups.get(&node.group);
        session.group_name = group.map_or_else(String::new, |g| g.name.clone());
    }
    let named = |name: &String| state.session_by_name(session.owner, name);
    if session
        .name
        .as_ref()
        .and_then(named)
        .is_some_and(|other| other != id)
    {
        session.name = None; // somebody has it by now
    }
    session.containers.clear();
    session.state = SessionState::Pending;
    session.phase = None;
    session.version = 1;
    session.history_len = 0;
    session.reason = None;
    session.deadline = None;
    session.not_before = None;
    session.unreachable = false;
    session.started_at = None;
    session.ended_at = None;
    session.failed = None;
    session.stop = None;
    session.configured = None;
    session.restarted = false;
    session.spent = Spent {
        since: Some(now),
        ..Spent::default()
    };
    session.adopted = Some(Box::new(Adopted {
        at: now,
        parts_missing,
    }));
    if parts_missing {
        session.restart = Restart::default();
    }
    match waits {
        // What it was given is still here.
        Some(known) => {
            if let Some(slot) = draft.session_mut(id) {
                let attempt = session.attempt;
                let mut networks = known.networks;
                networks.retain(|n| n.attempt != attempt);
                networks.append(&mut session.networks);
                *slot = Session {
                    version: slot.version,
                    history_len: slot.history_len,
                    containers: known.containers,
                    attempts: known.attempts,
                    networks,
                    environment: known.environment,
                    given: known.given,
                    depends_on: known.depends_on,
                    spent: known.spent,
                    ..session
                };
            }
        }
        None => {
            count_task(draft, id);
            draft.admit(session, by);
        }
    }
}

/// Of an array that is known here, the task it would have made next.
fn count_task(draft: &mut Draft<'_>, id: SessionId) {
    let Some(array) = id.array() else {
        return;
    };
    if let Some(plan) = draft.session_mut(array).and_then(|a| a.array.as_mut()) {
        plan.next += 1;
        plan.live += 1;
    }
}

/// The sessions that these changes made of what containers say.
pub(super) fn adopted<'a>(
    state: &'a State,
    changes: &'a [Change],
) -> impl Iterator<Item = &'a Session> {
    let sessions = changes.iter().filter_map(|change| match change {
        Change::Session(session) => Some(&**session),
        _ => None,
    });
    sessions.filter(|session| {
        let before = state.sessions.get(&session.id);
        session.adopted.is_some() && before.is_none_or(|before| before.adopted.is_none())
    })
}

/// Numbers of sessions that were given out are not given out again.
pub(super) fn count_on(draft: &mut Draft<'_>, ids: impl Iterator<Item = SessionId>) {
    let next = ids.map(|id| id.number().saturating_add(1)).max();
    let meta = &draft.state.meta;
    if let Some(next) = next.filter(|next| *next > meta.next_session) {
        let meta = Meta {
            next_session: next,
            ..meta.clone()
        };
        draft.push(Change::Meta(meta));
    }
}
