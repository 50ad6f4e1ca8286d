//! What a request names - project, preset, queue, group, agents -: is it there, and open to who asks?

use super::queue_groups;
use crate::access::{Caller as Rights, Level};
use crate::model::entities::{Agent, Designated, Group, Session};
use crate::model::event::Refusal;
use crate::model::people::{Role, User};
use crate::model::policies::{DirectSubmits, Preset, Project};
use crate::model::pools::Queue;
use crate::model::state::State;
use crate::model::submit::{cut, pointer};
use crate::scheduler::limits::Requester;
use longshore_common::amount::{SlotName, Slots, parse_bytes};
use longshore_common::api::NewSession;
use longshore_common::session::SessionType;
use std::collections::{BTreeMap, BTreeSet};

/// Whether a requester may use a group.
#[must_use]
pub fn is_open_to(state: &State, group: &Group, who: &Requester) -> bool {
    let Some(allowed) = &group.allowed else {
        return true;
    };
    let named =
        |names: &BTreeSet<String>, name: &str| names.iter().any(|n| n.eq_ignore_ascii_case(name));
    let domain = state.domains.get(&who.domain);
    let project = state.projects.get(&who.project);
    domain.is_some_and(|d| named(&allowed.domains, &d.name))
        || project.is_some_and(|p| allowed.projects.iter().any(|n| is_project(state, n, p)))
        || allowed.keypairs.contains(&who.keypair)
}

/// Whether an entry of a list of projects, `DOMAIN/NAME`, is this one. A name alone is one that
/// was listed before entries had domains: it is good for as long as it can mean one project only.
fn is_project(state: &State, listed: &str, project: &Project) -> bool {
    let Some((domain, name)) = listed.split_once('/') else {
        let same = |p: &&Project| p.name.eq_ignore_ascii_case(listed);
        return same(&project) && state.projects.values().filter(same).count() == 1;
    };
    let home = state.domains.get(&project.domain);
    name.eq_ignore_ascii_case(&project.name)
        && home.is_some_and(|home| home.name.eq_ignore_ascii_case(domain))
}

/// The entry of a list of projects that means this one.
pub(in super::super) fn listed_project(state: &State, project: &Project) -> String {
    let home = state.domains.get(&project.domain);
    let home = home.map_or("", |home| home.name.as_str());
    format!("{home}/{}", project.name)
}

/// Reading is granted where a submission needs more.
fn read_only(kind: &str, name: &str) -> Refusal {
    let detail = format!("You may only read {kind} {name}; to submit needs rw.");
    Refusal::new("LS-READ-ONLY", detail)
}

/// What somebody has on a resource group whose own lists are another question.
fn level_on(state: &State, rights: &Rights, group: &Group) -> Level {
    let book = state.rule_book();
    book.level(rights, &State::group_object(group, true))
}

fn queue_level(state: &State, rights: &Rights, queue: &Queue<'_>) -> Level {
    let object = State::queue_object(queue.name, true);
    object.map_or(Level::None, |object| {
        state.rule_book().level(rights, &object)
    })
}

/// The project a session is asked in.
pub(in super::super) fn project<'a>(
    state: &'a State,
    request: &NewSession,
    owner: &User,
    access_key: &str,
    rights: &Rights,
) -> Result<Option<&'a Project>, Refusal> {
    let level = |project: &Project| {
        let object = State::project_object(project);
        state.rule_book().level(rights, &object)
    };
    let keypair = state.keypairs.get(access_key);
    let bound = keypair
        .and_then(|k| k.project)
        .and_then(|id| state.projects.get(&id));
    let Some(text) = &request.project else {
        if let Some(bound) = bound {
            return match level(bound) {
                Level::Rw => active(Some(bound)),
                Level::Ro => Err(read_only("project", &bound.name)),
                Level::None => {
                    let message = "The project of your keypair is not open to you.";
                    Err(Refusal::new("LS-INVALID", message).at("/project", message))
                }
            };
        }
        let own = owner
            .projects
            .iter()
            .filter_map(|m| state.projects.get(&m.project));
        let usable = own.clone().filter(|p| level(p) == Level::Rw);
        let first = usable
            .clone()
            .find(|p| p.active)
            .or_else(|| usable.clone().next());
        if let (None, Some(project)) = (first, own.clone().next()) {
            return Err(match level(project) {
                Level::None => {
                    let message = "None of your projects is open to you.";
                    Refusal::new("LS-INVALID", message).at("/project", message)
                }
                Level::Ro | Level::Rw => read_only("project", &project.name),
            });
        }
        return active(first);
    };
    let wrong =
        |message: String| Refusal::new("LS-INVALID", message.clone()).at("/project", message);
    let project = state
        .project_by_ref(text, Some(owner.domain))
        .filter(|p| level(p) != Level::None)
        .ok_or_else(|| {
            let own: Vec<&str> = owner
                .project_ids()
                .filter_map(|id| state.projects.get(&id))
                .filter(|p| level(p) != Level::None)
                .map(|p| p.name.as_str())
                .collect();
            wrong(format!("You are in no project {}.", cut(text)))
                .hint(format!("Your projects: {}.", own.join(", ")))
        })?;
    if let Some(bound) = bound.filter(|bound| bound.id != project.id) {
        return Err(wrong(format!(
            "Keypair {access_key} is good for project {} only.",
            bound.name
        )));
    }
    let project = active(Some(project))?;
    match project {
        Some(project) if level(project) != Level::Rw => Err(read_only("project", &project.name)),
        project => Ok(project),
    }
}

/// A project that takes new work.
fn active(project: Option<&Project>) -> Result<Option<&Project>, Refusal> {
    match project.filter(|p| !p.active) {
        Some(project) => {
            let detail = format!("Project {} is not active.", project.name);
            Err(Refusal::new("LS-STATE", detail))
        }
        None => Ok(project),
    }
}

/// The preset a session names.
pub(in super::super) fn preset<'a>(
    state: &'a State,
    request: &NewSession,
) -> Result<Option<&'a Preset>, Refusal> {
    let Some(name) = &request.preset else {
        return Ok(None);
    };
    state.preset_by_ref(name).map(Some).ok_or_else(|| {
        let known: Vec<&str> = state.presets.values().map(|p| p.name.as_str()).collect();
        Refusal::new("LS-INVALID", format!("There is no preset {}.", cut(name)))
            .at("/preset", "No such preset.")
            .hint(format!("Presets: {}.", known.join(", ")))
    })
}

/// The queue a session names.
pub(in super::super) fn queue<'a>(
    state: &'a State,
    request: &NewSession,
    owner: &User,
    rights: &Rights,
) -> Result<Option<Queue<'a>>, Refusal> {
    let Some(name) = &request.queue else {
        return Ok(None);
    };
    let config = &state.config.config;
    let level = |queue: &Queue<'_>| queue_level(state, rights, queue);
    let own = || {
        let names: Vec<&str> = config
            .queues()
            .filter(|q| q.policy.admits(state, owner.id) && level(q) == Level::Rw)
            .map(|q| q.name)
            .collect();
        format!("Your queues: {}.", names.join(", "))
    };
    let seen = config.queue(name).filter(|q| level(q) != Level::None);
    let queue = seen.ok_or_else(|| {
        Refusal::new(
            "LS-QUEUE-UNKNOWN",
            format!("There is no queue {}.", cut(name)),
        )
        .at("/queue", "No such queue.")
        .hint(own())
    })?;
    if !queue.policy.admits(state, owner.id) {
        return Err(Refusal::new(
            "LS-QUEUE-DENIED",
            format!(
                "Allocation policy {} does not include you.",
                queue.policy.name
            ),
        )
        .at("/queue", "Not for you.")
        .hint(own()));
    }
    if level(&queue) != Level::Rw {
        return Err(read_only("queue", queue.name));
    }
    Ok(Some(queue))
}

/// What is asked for by name: the request over the preset; in a queue the profile's own
/// amounts, which may be added to and not changed.
pub(in super::super) fn named_slots(
    request: &NewSession,
    preset: Option<&Preset>,
    queue: Option<&Queue<'_>>,
) -> Result<BTreeMap<String, String>, Refusal> {
    let texts = |slots: &Slots| -> BTreeMap<String, String> {
        slots
            .iter()
            .map(|(slot, amount)| (slot.to_string(), slot.format_amount(amount)))
            .collect()
    };
    let mut named = preset.map_or_else(BTreeMap::new, |p| texts(&p.slots));
    named.extend(request.slots.clone());
    if let Some(queue) = queue {
        let own = texts(&queue.profile.slots);
        for (name, text) in &own {
            let same = request.slots.get(name).is_none_or(|asked| {
                let slot = name.parse::<SlotName>();
                slot.is_ok_and(|slot| slot.parse_amount(asked) == slot.parse_amount(text))
            });
            if !same {
                let message = format!("Profile {} gives {name} {text}.", queue.profile.name);
                return Err(Refusal::new("LS-INVALID", message.clone())
                    .at(pointer("/slots", name), message)
                    .hint("Leave it out, or choose another queue."));
            }
        }
        named.extend(own);
    }
    Ok(named)
}

/// Whether a requester may use a group, by its lists and by rights.
pub(in super::super) fn usable(
    state: &State,
    group: &Group,
    (who, rights): (&Requester, &Rights),
) -> bool {
    is_open_to(state, group, who) && level_on(state, rights, group) == Level::Rw
}

/// Rules 6 to 8: a group that exists, is active, is open to the requester, takes direct
/// submits and the type. For a queue the group of the first linked pool that takes the type.
pub(in super::super) fn group<'a>(
    state: &'a State,
    request: &NewSession,
    (who, rights): (&Requester, &Rights),
    kind: SessionType,
    queue: Option<&Queue<'_>>,
    preset: Option<&Preset>,
) -> Result<&'a Group, Refusal> {
    let usable = |g: &Group| usable(state, g, (who, rights));
    let open = || {
        let mut open: Vec<&str> = state
            .groups
            .values()
            .filter(|g| g.active && usable(g))
            .map(|g| g.name.as_str())
            .collect();
        open.sort_unstable();
        format!("Groups open to you: {}.", open.join(", "))
    };
    if let Some(queue) = queue {
        let config = &state.config.config;
        let linked: Vec<&Group> = queue
            .profile
            .pools
            .iter()
            .filter_map(|name| state.group_by_ref(&config.pool(name)?.group))
            .collect();
        if let Some(preset) = preset
            && let Some(bound) = &preset.group
            && let Some(other) = linked.iter().find(|g| !bound.eq_ignore_ascii_case(&g.name))
        {
            let message = format!(
                "Preset {} is for group {bound}; queue {} leads to group {}.",
                preset.name, queue.name, other.name
            );
            return Err(Refusal::new("LS-INVALID", message.clone()).at("/preset", message));
        }
        let fitting = linked
            .iter()
            .find(|g| g.allowed_session_types.contains(&kind));
        return fitting.copied().ok_or_else(|| {
            Refusal::new(
                "LS-GROUP-TYPE",
                format!("No pool of queue {} takes {kind} sessions.", queue.name),
            )
            .at("/type", "Not taken by the queue's pools.")
        });
    }
    let bound = preset.and_then(|p| p.group.as_deref());
    let Some(text) = request.group.as_deref().or(bound) else {
        let mut groups: Vec<&Group> = state
            .groups
            .values()
            .filter(|g| g.active && usable(g))
            .filter(|g| g.allowed_session_types.contains(&kind))
            .filter(|g| g.direct_submits == DirectSubmits::Open)
            .collect();
        groups.sort_by(|a, b| (!a.default, &a.name).cmp(&(!b.default, &b.name)));
        return groups.first().copied().ok_or_else(|| {
            let detail = format!("No resource group takes {kind} sessions from you.");
            Refusal::new("LS-GROUP-DENIED", detail).hint(open())
        });
    };
    let seen = state.group_by_ref(text);
    let seen = seen.filter(|group| level_on(state, rights, group) != Level::None);
    let group = seen.ok_or_else(|| {
        let detail = format!("There is no resource group {}.", cut(text));
        Refusal::new("LS-GROUP-UNKNOWN", detail)
            .at("/group", "No such group.")
            .hint(open())
    })?;
    if let (Some(preset), Some(bound)) = (preset, bound)
        && !bound.eq_ignore_ascii_case(&group.name)
    {
        let message = format!("Preset {} is for group {bound}.", preset.name);
        return Err(Refusal::new("LS-INVALID", message.clone()).at("/preset", message));
    }
    if !group.active {
        let detail = format!("Resource group {} is not active.", group.name);
        return Err(Refusal::new("LS-GROUP-INACTIVE", detail)
            .at("/group", "Not active.")
            .hint(open()));
    }
    if !is_open_to(state, group, who) {
        let detail = format!("Resource group {} is not open to you.", group.name);
        return Err(Refusal::new("LS-GROUP-DENIED", detail)
            .at("/group", "Not open to you.")
            .hint(open()));
    }
    if level_on(state, rights, group) != Level::Rw {
        return Err(read_only("resource group", &group.name));
    }
    if group.direct_submits == DirectSubmits::Closed {
        let queues: Vec<&str> = state
            .config
            .config
            .queues()
            .filter(|q| {
                q.policy.admits(state, who.user) && queue_level(state, rights, q) == Level::Rw
            })
            .map(|q| q.name)
            .collect();
        let detail = format!(
            "Resource group {} is entered through queues only.",
            group.name
        );
        return Err(Refusal::new("LS-GROUP-CLOSED", detail)
            .at("/group", "Only through a queue.")
            .hint(format!("Your queues: {}.", queues.join(", "))));
    }
    if !group.allowed_session_types.contains(&kind) {
        let allowed: Vec<&str> = group
            .allowed_session_types
            .iter()
            .map(|t| t.as_str())
            .collect();
        let detail = format!("Resource group {} takes no {kind} sessions.", group.name);
        return Err(Refusal::new("LS-GROUP-TYPE", detail)
            .at("/type", "Not taken by the group.")
            .hint(format!("It takes {}.", allowed.join(", "))));
    }
    Ok(group)
}

/// Shared memory as the request, else its preset, names it.
pub(in super::super) fn shm_asked(
    request: &NewSession,
    preset: Option<&Preset>,
) -> Result<Option<i64>, Refusal> {
    match &request.shm {
        None => Ok(preset.and_then(|p| p.shm_bytes)),
        Some(text) => parse_bytes(text).map(Some).map_err(|error| {
            Refusal::new("LS-INVALID", format!("{error}.")).at("/shm", format!("{error}."))
        }),
    }
}

/// Agents named in the request.
pub(in super::super) fn designated(
    state: &State,
    request: &NewSession,
    owner: &User,
    (who, rights): (&Requester, &Rights),
    queue: Option<&Queue<'_>>,
) -> Result<Option<Designated>, Refusal> {
    // Where it may not work it does not learn what is there.
    let of_queue = queue.map(|queue| queue_groups(state, queue));
    let sees = |agent: &Agent| {
        let Some(group) = state.groups.get(&agent.group) else {
            return false;
        };
        rights.role() != Role::User
            || of_queue.iter().flatten().any(|of| of.id == group.id)
            || is_open_to(state, group, who) && level_on(state, rights, group) != Level::None
    };
    let Some(wish) = &request.designated else {
        return Ok(None);
    };
    let wrong = |pointer: &str, message: String| {
        Refusal::new("LS-INVALID", message.clone()).at(pointer, message)
    };
    let strict = match wish.mode.as_deref() {
        None | Some("preferred") => false,
        Some("strict") => true,
        Some(other) => {
            return Err(wrong(
                "/designated/mode",
                format!("\"{}\" is not one of strict, preferred.", cut(other)),
            ));
        }
    };
    if wish.agents.is_empty() {
        return Err(wrong(
            "/designated/agents",
            "Name at least one agent.".to_owned(),
        ));
    }
    let mut agents = BTreeSet::new();
    for (at, name) in wish.agents.iter().enumerate() {
        let agent = state.agent_by_ref(name).filter(|agent| sees(agent));
        let agent = agent.ok_or_else(|| {
            wrong(
                &format!("/designated/agents/{at}"),
                format!("There is no agent {}.", cut(name)),
            )
        })?;
        agents.insert(agent.id);
    }
    Ok(Some(Designated {
        agents,
        strict,
        by_admin: owner.role == Role::Superadmin,
    }))
}

/// Agents it must run on that are all in other groups: no waiting brings them here.
pub(super) fn elsewhere(
    state: &State,
    session: &Session,
    queue: Option<&Queue<'_>>,
) -> Result<(), Refusal> {
    let Some(designated) = session.designated.as_ref().filter(|d| d.strict) else {
        return Ok(());
    };
    let named: Vec<_> = designated
        .agents
        .iter()
        .filter_map(|id| state.agents.get(id))
        .collect();
    if queue.is_some() || named.iter().any(|a| a.group == session.group) {
        return Ok(());
    }
    let Some(agent) = named.first() else {
        return Ok(());
    };
    let group = state
        .groups
        .get(&agent.group)
        .map_or("another", |g| g.name.as_str());
    let detail = format!(
        "Agent {} is in group {group}, the session would be in group {}.",
        agent.name, session.group_name
    );
    Err(Refusal::new("LS-FIT-NEVER", detail)
        .at("/designated/agents", "In another group.")
        .hint(format!("Ask for group {group}, or for another agent.")))
}
