//! Rules of submit that ask about more than the request itself: groups, queues, presets,
//! policies, limits, and what the agents of a group could ever hold.

use super::arrays::ArrayPlan;
use super::entities::{Adjusted, Agent, Dependency, Designated, Group, Life, Session};
use super::event::{Refusal, Submit};
use super::people::{Role, User};
use super::policies::{DirectSubmits, KeypairPolicy, LifetimeBase, Preset, Project};
use super::pools::Queue;
use super::state::{Account, BUILTIN, State, Usage};
use super::submit::{cut, pointer};
use crate::access::{Caller as Rights, Level};
use crate::scheduler::limits::{Layer, LayerKind, Over, Requester, layers, over_alone};
use crate::scheduler::{Never, could_ever_hold};
use longshore_common::agent::AgentState;
use longshore_common::amount::{
    Shortage, SlotKind, SlotName, Slots, format_bytes_short, parse_bytes,
};
use longshore_common::api::{LimitMet, MemberError, NewSession, Source};
use longshore_common::devices::Refusal as DeviceRefusal;
use longshore_common::ids::SessionId;
use longshore_common::limits::IdlePolicy;
use longshore_common::session::{ClusterMode, DependOn, ResultKind, SessionType};
use longshore_common::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::slice::from_ref;

/// Containers of one session where no policy says less.
const CONTAINERS: u32 = 100;

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
pub(super) fn listed_project(state: &State, project: &Project) -> String {
    let home = state.domains.get(&project.domain);
    let home = home.map_or("", |home| home.name.as_str());
    format!("{home}/{}", project.name)
}

/// A session in somebody's name that asks for amounts in a group; for questions such as
/// whether a preset is offered.
#[must_use]
pub fn requester_session(
    template: &Session,
    who: &Requester,
    group: &Group,
    slots: Slots,
) -> Session {
    Session {
        access_key: who.keypair.clone(),
        owner: who.user,
        project: who.project,
        domain: who.domain,
        group: group.id,
        group_name: group.name.clone(),
        slots,
        ..template.clone()
    }
}

/// What the owner of a session may do as it is submitted: reduced to a plain user where a
/// service account acts for it.
pub(super) fn acting(state: &State, order: &Submit, owner: &User) -> Result<Rights, Refusal> {
    let rights = state.rights_of(owner);
    let within = |rights: Rights| match order.bound {
        Some(project) => rights.bound_to(project, &BUILTIN),
        None => rights,
    };
    let Some(account) = order.submitted_by else {
        return Ok(within(rights));
    };
    let account = state
        .account(account)
        .ok_or_else(|| Refusal::new("LS-AUTH-FAILED", "The credentials are not valid."))?;
    let acting = state.rights_of(account).on_behalf_of(&rights, &BUILTIN);
    acting.map(within).map_err(|why| {
        let detail = format!(
            "Service account {} may not act for other users.",
            account.username
        );
        Refusal::new(why.code(), detail)
    })
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
pub(super) fn project<'a>(
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
pub(super) fn preset<'a>(
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
pub(super) fn queue<'a>(
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
pub(super) fn named_slots(
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
pub(super) fn usable(state: &State, group: &Group, (who, rights): (&Requester, &Rights)) -> bool {
    is_open_to(state, group, who) && level_on(state, rights, group) == Level::Rw
}

/// Rules 6 to 8: a group that exists, is active, is open to the requester, takes direct
/// submits and the type. For a queue the group of the first linked pool that takes the type.
pub(super) fn group<'a>(
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
pub(super) fn shm_asked(
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
pub(super) fn designated(
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

/// Rules 11 to 16: what policies, dependencies and the agents say to the whole session.
pub(super) fn bind(
    state: &State,
    order: &Submit,
    mut session: Session,
    who: &Requester,
    queue: Option<&Queue<'_>>,
) -> Result<Session, Refusal> {
    let layers = layers(state, who);
    cluster_size(&session, &layers)?;
    priority(state, &session, &layers)?;
    session.depends_on = dependencies(state, order, &session)?;
    // What never waits is under no limit of what does.
    if session.kind != SessionType::System {
        pending(state, &session, &layers)?;
    }
    elsewhere(state, &session, queue)?;
    never_fits(state, &session, queue)?;
    never_allowed(state, &session, &layers, queue)?;
    lifetime(&mut session, &layers);
    Ok(session)
}

fn policy_source(layer: &Layer<'_>) -> Source {
    Source {
        kind: layer.kind.source_kind().to_owned(),
        name: layer.name.to_owned(),
        id: Some(layer.id.clone()),
    }
}

fn cluster_size(session: &Session, layers: &[Layer<'_>]) -> Result<(), Refusal> {
    let asked = u32::from(session.cluster.size);
    let named = layers
        .iter()
        .filter_map(|l| {
            Some((
                l.policy()?.max_containers_per_session.filter(|n| *n > 0)?,
                l,
            ))
        })
        .min_by_key(|(most, _)| *most);
    let most = named.map_or(CONTAINERS, |(most, _)| most);
    if asked <= most {
        return Ok(());
    }
    let source = named.map(|(_, layer)| policy_source(layer));
    let who = source.as_ref().map_or_else(
        || "A session".to_owned(),
        |s| format!("Keypair policy {}", s.name),
    );
    Err(Refusal {
        limit: Some(Box::new(LimitMet {
            rule: "cluster-size".to_owned(),
            slot: None,
            limit: Some(most.to_string()),
            have: "0".to_owned(),
            need: asked.to_string(),
            source,
        })),
        ..Refusal::new(
            "LS-CLUSTER-SIZE",
            format!("{who} allows {most} containers in one session; this one asks for {asked}."),
        )
        .at("/cluster/size", format!("At most {most}."))
        .hint(format!("Ask for {most} containers or fewer."))
    })
}

/// Whether the policies of a session's owner allow its priority.
pub(super) fn priority_allowed(state: &State, session: &Session) -> Result<(), Refusal> {
    let who = Requester {
        keypair: session.access_key.clone(),
        user: session.owner,
        project: session.project,
        domain: session.domain,
    };
    priority(state, session, &layers(state, &who))
}

/// The highest priority that binds a requester.
fn priority(state: &State, session: &Session, layers: &[Layer<'_>]) -> Result<(), Refusal> {
    let admin = state
        .users
        .get(&session.owner)
        .is_some_and(|u| matches!(u.role, Role::Superadmin | Role::DomainAdmin));
    let named = layers
        .iter()
        .filter_map(|l| Some((l.policy()?.max_priority?, l)))
        .min_by_key(|(most, _)| *most);
    let Some((most, layer)) = named.filter(|(most, _)| session.priority > *most && !admin) else {
        return Ok(());
    };
    Err(Refusal {
        limit: Some(Box::new(LimitMet {
            rule: "priority".to_owned(),
            slot: None,
            limit: Some(most.to_string()),
            have: "0".to_owned(),
            need: session.priority.to_string(),
            source: Some(policy_source(layer)),
        })),
        ..Refusal::new(
            "LS-PRIORITY",
            format!(
                "Keypair policy {} allows priorities up to {most}; this session asks for {}.",
                layer.name, session.priority
            ),
        )
        .at("/priority", format!("At most {most}."))
        .hint(format!("Ask for priority {most} or less."))
    })
}

fn dependencies(
    state: &State,
    order: &Submit,
    session: &Session,
) -> Result<Vec<Dependency>, Refusal> {
    let mut entries = Vec::new();
    let mut errors = Vec::new();
    for (at, wish) in order.request.depends_on.iter().enumerate() {
        let mut wrong = |message: String| {
            errors.push(MemberError {
                pointer: format!("/depends_on/{at}"),
                message,
                ..MemberError::default()
            });
        };
        let on = match wish.on.as_deref().unwrap_or("ok").parse::<DependOn>() {
            Ok(on) => on,
            Err(error) => {
                wrong(format!("{error}."));
                continue;
            }
        };
        let id = wish.session.parse::<SessionId>().ok();
        let named = || state.session_by_name(session.owner, &wish.session);
        let Some(id) = id.or_else(named) else {
            wrong(format!("{} is no session of yours.", cut(&wish.session)));
            continue;
        };
        let live = state
            .sessions
            .get(&id)
            .filter(|s| s.owner == session.owner)
            .map(|s| {
                // An array may fail long before it ends.
                let lost = s.array.as_deref().is_some_and(ArrayPlan::has_failed);
                match s.state.is_final() {
                    true => Some(s.result == Some(ResultKind::Success)),
                    false if lost && on == DependOn::Ok => Some(false),
                    false => None,
                }
            });
        let past = || {
            let past = order.past.iter();
            past.filter(|p| p.id == id && p.owner == session.owner)
                .map(|p| Some(p.ok))
                .next()
        };
        match live.or_else(past) {
            None => wrong(format!("{id} is no session of yours.")),
            Some(None) => entries.push(Dependency {
                session: id,
                on,
                met: false,
            }),
            Some(Some(ok)) if holds(on, ok) => entries.push(Dependency {
                session: id,
                on,
                met: true,
            }),
            Some(Some(ok)) => wrong(format!(
                "{id} ended {} success and is waited for as \"{on}\".",
                if ok { "with" } else { "without" }
            )),
        }
    }
    if errors.is_empty() {
        return Ok(entries);
    }
    let detail = errors[0].message.clone();
    Err(Refusal {
        errors,
        ..Refusal::new("LS-DEPENDENCY", detail)
            .hint("Name sessions of your own that can still end so, or leave them out.")
    })
}

/// Whether what is waited for has come, now that a session ended with success or without.
pub(super) const fn holds(on: DependOn, ok: bool) -> bool {
    match on {
        DependOn::Ok => ok,
        DependOn::Any => true,
        DependOn::Fail => !ok,
    }
}

fn pending(state: &State, session: &Session, layers: &[Layer<'_>]) -> Result<(), Refusal> {
    let keypair = state.waiting(&Account::Keypair(session.access_key.clone()));
    let user = state.waiting(&Account::User(session.owner));
    refuse_limits(
        "LS-LIMIT-PENDING",
        pending_met(session, layers, &keypair, &user),
        "Wait until some of your sessions have started, or cancel them.",
    )
}

/// Whether one more such session may wait, beside what its keypair and its owner have waiting.
pub(super) fn has_pending_room(
    state: &State,
    session: &Session,
    keypair: &Usage,
    user: &Usage,
) -> bool {
    let who = Requester {
        keypair: session.access_key.clone(),
        user: session.owner,
        project: session.project,
        domain: session.domain,
    };
    pending_met(session, &layers(state, &who), keypair, user).is_empty()
}

fn pending_met(
    session: &Session,
    layers: &[Layer<'_>],
    keypair: &Usage,
    user: &Usage,
) -> Vec<(LimitMet, String)> {
    let mut met: Vec<(LimitMet, String)> = Vec::new();
    let request = session.total_slots();
    for layer in layers {
        let Some(policy) = layer.policy() else {
            continue;
        };
        let waiting = match layer.kind {
            LayerKind::Keypair => keypair,
            _ => user,
        };
        if let Some(most) = policy.max_pending_session_count.filter(|n| *n > 0)
            && waiting.sessions + 1 > most
        {
            let detail = format!(
                "Keypair policy {} allows {most} waiting sessions; {} wait.",
                layer.name, waiting.sessions
            );
            let limit = LimitMet {
                rule: "pending-count".to_owned(),
                slot: None,
                limit: Some(most.to_string()),
                have: waiting.sessions.to_string(),
                need: "1".to_owned(),
                source: Some(policy_source(layer)),
            };
            met.push((limit, detail));
        }
        for (slot, need) in request.iter() {
            let Some(Some(most)) = policy.max_pending_session_slots.get(slot) else {
                continue;
            };
            let have = waiting.slots.amount(slot);
            if have.saturating_add(need) > most {
                let show = |v| show(slot, v);
                let detail = format!(
                    "Keypair policy {} allows {slot} {} in waiting sessions; {} wait and this one asks for {}.",
                    layer.name,
                    show(most),
                    show(have),
                    show(need)
                );
                let limit = LimitMet {
                    rule: "pending-slots".to_owned(),
                    slot: Some(slot.to_string()),
                    limit: Some(slot.format_amount(most)),
                    have: slot.format_amount(have),
                    need: slot.format_amount(need),
                    source: Some(policy_source(layer)),
                };
                met.push((limit, detail));
            }
        }
    }
    met
}

fn refuse_limits(
    code: &'static str,
    met: Vec<(LimitMet, String)>,
    hint: &str,
) -> Result<(), Refusal> {
    let errors = met
        .iter()
        .map(|(limit, detail)| MemberError {
            pointer: match &limit.slot {
                Some(slot) => pointer("/slots", slot),
                None => String::new(),
            },
            message: detail.clone(),
            ..MemberError::default()
        })
        .collect();
    match met.into_iter().next() {
        None => Ok(()),
        Some((limit, detail)) => Err(Refusal {
            errors,
            limit: Some(Box::new(limit)),
            ..Refusal::new(code, detail).hint(hint)
        }),
    }
}

fn show(slot: &SlotName, value: i64) -> String {
    match slot.kind() {
        SlotKind::Bytes => format_bytes_short(value),
        _ => slot.format_amount(value),
    }
}

/// Agents it must run on that are all in other groups: no waiting brings them here.
fn elsewhere(state: &State, session: &Session, queue: Option<&Queue<'_>>) -> Result<(), Refusal> {
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

/// The policy of a keypair, as long as both are there.
pub(super) fn policy_of<'a>(state: &'a State, access_key: &str) -> Option<&'a KeypairPolicy> {
    let keypair = state.keypairs.get(access_key)?;
    let name = keypair.policy.to_ascii_lowercase();
    state.keypair_policies.get(&name)
}

/// When a session counts as unused: as the policy of its keypair says, else as the
/// installation does.
pub(super) fn idle(state: &State, access_key: &str, kind: SessionType) -> Option<IdlePolicy> {
    if kind == SessionType::System {
        return Some(IdlePolicy::of_system());
    }
    policy_of(state, access_key)
        .and_then(super::admin::idle_rules)
        .or_else(|| state.scheduler.idle.clone())
}

/// From when its life counts.
pub(super) fn life(state: &State, access_key: &str, owner: &User, now: Timestamp) -> Life {
    let grace_s = Some(state.scheduler.lives.new_user_grace_s).filter(|s| *s > 0);
    let until = grace_s.map(|s| owner.created_at.plus_s(s));
    Life {
        base: policy_of(state, access_key).map_or(LifetimeBase::Created, |p| p.lifetime_base),
        // What is over now can hold nothing up any more.
        new_user_until: until.filter(|until| *until > now),
        ..Life::default()
    }
}

/// Rule 15: agents of the group, taken as empty, could hold it. What is below the smallest part
/// that any of them gives is refused also where the group waits for larger agents.
fn never_fits(state: &State, session: &Session, queue: Option<&Queue<'_>>) -> Result<(), Refusal> {
    let ranks: Vec<Slots> = (0..session.cluster.size)
        .map(|rank| session.rank_slots(rank).clone())
        .collect();
    let together = session.cluster.mode == ClusterMode::SingleNode;
    let arch = session.arch.as_deref();
    let mut first = None;
    for group in groups_of(state, session, queue) {
        match could_ever_hold(state, group.id, &ranks, together, arch) {
            Ok(()) => return Ok(()),
            Err(never) if !group.refuse_never_fits && !never.is_below_quantum() => return Ok(()),
            Err(never) => {
                first.get_or_insert((group, never));
            }
        }
    }
    let Some((group, never)) = first else {
        return Ok(());
    };
    let place = Place::of(state, group, arch);
    if let Some(arch) = arch.filter(|_| place.without) {
        return Err(place.wrong_arch(arch));
    }
    // Where not even one container finds room, what that one lacks is the reason.
    let one = ranks
        .iter()
        .find_map(|rank| could_ever_hold(state, group.id, from_ref(rank), true, arch).err());
    match (never, one) {
        (Never::Containers(0), Some(Never::Short(short))) => place.short(&short, "One container"),
        (Never::Containers(0), Some(Never::Devices(refusal))) => Err(place.devices(refusal)),
        (Never::Short(short), _) => place.short(&short, "You"),
        (Never::Devices(refusal), _) => Err(place.devices(refusal)),
        (Never::Containers(most), _) => {
            Err(place.containers(most, session.cluster.size.into(), together))
        }
    }
}

/// Where a session may be: in its group, or in those behind the pools of its queue.
fn groups_of<'a>(state: &'a State, session: &Session, queue: Option<&Queue<'_>>) -> Vec<&'a Group> {
    match queue {
        None => state.groups.get(&session.group).into_iter().collect(),
        Some(queue) => queue_groups(state, queue),
    }
}

/// The groups behind the pools of a queue.
fn queue_groups<'a>(state: &'a State, queue: &Queue<'_>) -> Vec<&'a Group> {
    let config = &state.config.config;
    let pools = queue.profile.pools.iter();
    pools
        .filter_map(|name| state.group_by_ref(&config.pool(name)?.group))
        .collect()
}

/// A group that could never hold a request, as it is spoken of.
struct Place<'a> {
    group: &'a Group,
    /// `agent`, or `arm64 agent` where the group has others too that do not count.
    agent: String,
    /// Architectures of its agents, each once.
    archs: BTreeSet<&'a str>,
    /// None of them is the one that is asked for.
    without: bool,
}

impl<'a> Place<'a> {
    fn of(state: &'a State, group: &'a Group, arch: Option<&str>) -> Self {
        let agents = state.agents.values();
        let archs: BTreeSet<&str> = agents
            .filter(|a| a.group == group.id && a.state != AgentState::Terminated)
            .filter_map(|a| Some(&*a.inventory.as_deref()?.arch))
            .collect();
        Self {
            group,
            agent: match arch {
                Some(arch) if archs.len() > 1 => format!("{arch} agent"),
                _ => "agent".to_owned(),
            },
            without: arch.is_some_and(|arch| !archs.contains(arch)),
            archs,
        }
    }

    fn wrong_arch(&self, arch: &str) -> Refusal {
        let archs: Vec<&str> = self.archs.iter().copied().collect();
        let there = archs.join(", ");
        let name = &self.group.name;
        let detail = format!("You asked for an agent with arch {arch}; group {name} has {there}.");
        Refusal::new("LS-FIT-NEVER", detail)
            .at("/arch", format!("Group {name} has {there}."))
            .hint(format!(
                "Ask for arch {}, or for a group that has {arch}.",
                archs.join(" or ")
            ))
    }

    /// No agent has so much; nothing to say when no slot is short.
    fn short(&self, short: &[Shortage], who: &str) -> Result<(), Refusal> {
        let Some(worst) = short.first() else {
            return Ok(());
        };
        let (name, agent, slot) = (&self.group.name, &self.agent, &worst.slot);
        let (need, have) = apart(slot, worst.need, worst.have);
        let errors = short.iter().map(|s| {
            let (need, have) = apart(&s.slot, s.need, s.have);
            MemberError {
                pointer: pointer("/slots", s.slot.as_str()),
                message: format!("{need} is more than the {have} any {agent} of group {name} has."),
                ..MemberError::default()
            }
        });
        let verb = if who == "You" { "asked" } else { "asks" };
        let detail = format!(
            "{who} {verb} for {slot} {need}; the largest {agent} of group {name} has {have}."
        );
        Err(Refusal {
            errors: errors.collect(),
            limit: Some(Box::new(capacity_met(
                slot, worst.need, worst.have, self.group,
            ))),
            ..Refusal::new("LS-FIT-NEVER", detail).hint(self.less(slot, worst.have))
        })
    }

    /// The devices are there, and cannot be had together.
    fn devices(&self, refusal: DeviceRefusal) -> Refusal {
        let (slot, need, have) = match refusal {
            DeviceRefusal::BelowQuantum {
                slot,
                need,
                quantum,
            } => {
                let message = format!(
                    "{slot} {} is below {}, the smallest part an agent gives.",
                    slot.format_amount(need),
                    slot.format_amount(quantum)
                );
                let hint = format!("Ask for {slot} {} or more.", slot.format_amount(quantum));
                return Refusal::new("LS-SLOT-AMOUNT", message.clone())
                    .at(pointer("/slots", slot.as_str()), message)
                    .hint(hint);
            }
            DeviceRefusal::Short { slot, need, have }
            | DeviceRefusal::Fragmented { slot, need, have } => (slot, need, have),
        };
        let (needed, most) = apart(&slot, need, have);
        let detail = format!(
            "No {} of group {} can give {slot} {needed} on devices that may be combined; {most} can be.",
            self.agent, self.group.name,
        );
        Refusal {
            limit: Some(Box::new(capacity_met(&slot, need, have, self.group))),
            ..Refusal::new("LS-FIT-NEVER", detail).hint(self.less(&slot, have))
        }
    }

    /// There is room for some of the containers.
    fn containers(&self, most: usize, size: u32, together: bool) -> Refusal {
        let (name, agent) = (&self.group.name, &self.agent);
        let detail = if together {
            format!("No {agent} of group {name} takes {size} containers; the most is {most}.")
        } else {
            format!("The {agent}s of group {name} together could hold {most} of {size} containers.")
        };
        let fewer = if most == 1 {
            "1 container".to_owned()
        } else {
            format!("{most} containers or fewer")
        };
        let otherwise = if together {
            "for several agents"
        } else {
            "for smaller ones"
        };
        let met = LimitMet {
            rule: "cluster".to_owned(),
            slot: None,
            limit: Some(most.to_string()),
            have: "0".to_owned(),
            need: size.to_string(),
            source: Some(Source::new("group", name)),
        };
        Refusal {
            limit: Some(Box::new(met)),
            ..Refusal::new("LS-FIT-NEVER", detail).hint(format!("Ask for {fewer}, or {otherwise}."))
        }
    }

    /// What to ask for instead.
    fn less(&self, slot: &SlotName, have: i64) -> String {
        match have {
            0 => format!("No {} of group {} has {slot}.", self.agent, self.group.name),
            have => format!("Ask for {slot} {} or less.", show(slot, have)),
        }
    }
}

/// What is needed and the less there is. Sizes that look the same when they are cut are
/// told in whole MB, of which what is needed has one more at least.
fn apart(slot: &SlotName, need: i64, have: i64) -> (String, String) {
    const MB: i64 = 1 << 20;
    let (needed, most) = (show(slot, need), show(slot, have));
    if needed == most && slot.kind() == SlotKind::Bytes {
        let up = need / MB + i64::from(need % MB != 0);
        return (format!("{up} MB"), format!("{} MB", have / MB));
    }
    (needed, most)
}

fn capacity_met(slot: &SlotName, need: i64, have: i64, group: &Group) -> LimitMet {
    LimitMet {
        rule: "agent-capacity".to_owned(),
        slot: Some(slot.to_string()),
        limit: Some(slot.format_amount(have)),
        have: "0".to_owned(),
        need: slot.format_amount(need),
        source: Some(Source::new("group", &group.name)),
    }
}

/// Rule 16: the request alone is within every limit.
fn never_allowed(
    state: &State,
    session: &Session,
    layers: &[Layer<'_>],
    queue: Option<&Queue<'_>>,
) -> Result<(), Refusal> {
    let mut met: Vec<(LimitMet, String)> = over_alone(state, layers, &session.limited_slots())
        .iter()
        .map(|over| (limit_met(over), never_text(over)))
        .collect();
    if let Some(queue) = queue
        && let Some(limit) = queue.policy.limit
    {
        let need = queue.profile.allotment();
        if need > limit {
            let text = longshore_common::amount::format_milli;
            let detail = format!(
                "Allocation policy {} allows {} in all; a job of profile {} counts {}.",
                queue.policy.name,
                text(limit),
                queue.profile.name,
                text(need)
            );
            let limit = LimitMet {
                rule: "policy-limit".to_owned(),
                slot: None,
                limit: Some(text(limit)),
                have: text(
                    state
                        .usage(&Account::Policy(queue.policy.name.clone()))
                        .allotted,
                ),
                need: text(need),
                source: Some(Source::new("allocation-policy", &queue.policy.name)),
            };
            met.push((limit, detail));
        }
    }
    let hint = met.first().map_or_else(String::new, |(limit, _)| {
        let what = limit.slot.as_deref().unwrap_or("resources");
        format!(
            "Ask for {what} {} or less, or ask an administrator for a wider limit.",
            limit.limit.as_deref().unwrap_or("0")
        )
    });
    refuse_limits("LS-LIMIT-NEVER", met, &hint)
}

fn limit_met(over: &Over) -> LimitMet {
    let text = |v: i64| match &over.slot {
        Some(slot) => slot.format_amount(v),
        None => longshore_common::amount::format_milli(v),
    };
    LimitMet {
        rule: over.rule.to_owned(),
        slot: over.slot.as_ref().map(ToString::to_string),
        limit: Some(text(over.limit)),
        have: text(over.have),
        need: text(over.need),
        source: Some(Source {
            kind: over.kind.source_kind().to_owned(),
            name: over.name.clone(),
            id: Some(over.id.clone()),
        }),
    }
}

fn never_text(over: &Over) -> String {
    let what = match over.kind {
        LayerKind::Keypair | LayerKind::User => "Keypair policy",
        LayerKind::Project => "Project",
        LayerKind::Domain => "Domain",
    };
    let slot = over.slot.as_ref();
    let shown = |v| slot.map_or_else(String::new, |slot| show(slot, v));
    format!(
        "{what} {} allows {} {} in all; this session asks for {}.",
        over.name,
        slot.map_or("", SlotName::as_str),
        shown(over.limit),
        shown(over.need)
    )
}

/// The lifetime that binds: the policy's, or the session's own where that is shorter.
fn lifetime(session: &mut Session, layers: &[Layer<'_>]) {
    let least = layers
        .iter()
        .filter_map(|l| Some((l.policy()?.max_session_lifetime_s.filter(|s| *s > 0)?, l)))
        .min_by_key(|(most, _)| *most);
    if let Some((most, layer)) = least
        && session.lifetime_s.is_none_or(|own| own > most)
    {
        if let Some(own) = session.lifetime_s {
            session.adjusted.push(Adjusted {
                path: "/lifetime_s".to_owned(),
                from: Some(own.to_string()),
                to: most.to_string(),
                reason: "policy-lifetime".to_owned(),
                source: Some(layer.name.to_owned()),
            });
        }
        session.lifetime_s = Some(most);
    }
}
