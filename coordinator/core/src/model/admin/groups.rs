//! Resource groups, and which agent is in which.

use super::super::change::Change;
use super::super::draft::Draft;
use super::super::entities::Group;
use super::super::event::Refusal;
use super::super::loss;
use super::super::network;
use super::super::people::{KeypairState, User};

use super::super::policies::{Allowed, DirectSubmits, Discipline, Project, Selection};
use super::super::rights::Unfit;
use super::super::rules::listed_project;
use super::super::state::State;
use super::super::submit::cut;
use super::impact::Scope;
use super::members::{
    DESCRIPTION, Reader, Zero, fixed, fresh, missing, put, put_limit, taken, unknown,
};
use super::{AdminObject, AllowKind, Decision};
use longshore_common::admin::{
    AllowedRequest, AllowedView, GroupRequest, GroupView, InTheWay, InUse, Member,
};
use longshore_common::agent::AgentState;
use longshore_common::amount::Slots;
use longshore_common::ids::{GroupId, ProjectId};
use longshore_common::session::SessionType;
use longshore_common::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// A year: longer than anything is meant to wait.
const YEAR_S: i64 = 31_536_000;
/// The largest number of tries; more is no different from strict order.
const RETRIES: i64 = 1_000_000;
/// The least time after which an agent's sessions are given up: an agent that is only
/// restarted must not lose them. In seconds.
pub const DECLARE_LOST_MIN_S: i64 = 120;
/// How many objects in the way are named.
pub(super) const NAMED: usize = 20;

/// A resource group as it is shown.
#[must_use]
pub fn group_view(state: &State, group: &Group) -> GroupView {
    let settings = &state.scheduler;
    let inherited = [
        ("scheduler", group.scheduler.is_none()),
        ("agent_selection", group.agent_selection.is_none()),
        ("retries_to_skip", group.retries_to_skip.is_none()),
        ("creation_retries", group.creation_retries.is_none()),
        ("pending_timeout_s", group.pending_timeout_s.is_none()),
    ];
    let (mut capacity, mut occupied, mut reserved) = (Slots::new(), Slots::new(), Slots::new());
    let mut agents = 0;
    for agent in state.agents.values().filter(|a| a.group == group.id) {
        if agent.state == AgentState::Terminated {
            continue;
        }
        agents += 1;
        occupied.add(&state.agent_use(agent.id).slots);
        let Some(inventory) = agent.inventory.as_deref() else {
            continue;
        };
        reserved.add(&inventory.total);
        reserved.sub(&inventory.offered);
        if agent.state == AgentState::Alive && agent.schedulable {
            capacity.add(&inventory.capacity());
        }
    }
    GroupView {
        id: group.id.to_string(),
        version: group.version,
        name: group.name.clone(),
        description: group.description.clone(),
        active: group.active,
        default: group.default,
        allowed: group.allowed.as_ref().map(|allowed| AllowedView {
            domains: allowed.domains.iter().cloned().collect(),
            projects: allowed
                .projects
                .iter()
                .map(|listed| shown_project(state, listed))
                .collect(),
            keypairs: allowed.keypairs.iter().cloned().collect(),
        }),
        allowed_session_types: group
            .allowed_session_types
            .iter()
            .map(ToString::to_string)
            .collect(),
        scheduler: group.scheduler.unwrap_or(settings.scheduler).to_string(),
        agent_selection: group
            .agent_selection
            .unwrap_or(settings.agent_selection)
            .to_string(),
        retries_to_skip: group.retries_to_skip.unwrap_or(settings.retries_to_skip),
        creation_retries: group.creation_retries.unwrap_or(settings.creation_retries),
        pending_timeout_s: group
            .pending_timeout_s
            .unwrap_or(settings.pending_timeout_s),
        inherited: inherited
            .iter()
            .filter(|(_, is)| *is)
            .map(|(name, _)| (*name).to_owned())
            .collect(),
        refuse_never_fits: group.refuse_never_fits,
        direct_submits: group.direct_submits.to_string(),
        declare_lost_s: group.declare_lost_s,
        app_proxy_address: group.app_proxy_address.clone(),
        service_account: account_name(state, group),
        use_owner: group.use_owner,
        on_device_fault: group.on_device_fault.to_string(),
        cluster_network: group.cluster_network.to_string(),
        sessions_may_call_api: group.sessions_may_call_api,
        pin_cpus: group.pin_cpus,
        agents,
        capacity: texts(&capacity),
        occupied: texts(&occupied),
        reserved: texts(
            &reserved
                .iter()
                .filter(|(_, n)| *n > 0)
                .map(|(s, n)| (s.clone(), n))
                .collect(),
        ),
        pending: state.pending_count(group.id) as u64,
        pool: state
            .config
            .config
            .pool_of_group(&group.name)
            .map(|p| p.name.clone()),
    }
}

/// Amounts as text.
pub(super) fn texts(slots: &Slots) -> BTreeMap<String, String> {
    slots
        .iter()
        .map(|(slot, amount)| (slot.to_string(), slot.format_amount(amount)))
        .collect()
}

fn object(state: &State, group: &Group) -> AdminObject {
    AdminObject::Group(Box::new(group_view(state, group)))
}

/// A group at the version the caller saw.
fn seen<'a>(state: &'a State, name: &str, expected: Option<u64>) -> Result<&'a Group, Refusal> {
    let group = state.group_by_ref(name);
    let group = group.ok_or_else(|| missing("resource group", name))?;
    is_at(group, expected)?;
    Ok(group)
}

fn is_at(group: &Group, expected: Option<u64>) -> Result<(), Refusal> {
    let what = format!("Resource group {}", group.name);
    fresh(expected, &what, group.version)
}

pub(super) fn create(
    state: &State,
    id: GroupId,
    request: &GroupRequest,
) -> Result<Decision, Refusal> {
    let mut reader = Reader::default();
    let name = reader.handle(&request.name);
    let mut group = Group {
        declare_lost_s: state.scheduler.declare_lost_s,
        ..Group::new(id, name.as_deref().unwrap_or_default())
    };
    fill(state, &mut group, request, &mut reader);
    reader.done()?;
    served(state, &mut group, request)?;
    if state.group_by_ref(&group.name).is_some() {
        return Err(taken("resource group", &group.name));
    }
    let object = object(state, &group);
    Ok(Decision::new(object, store(state, group)))
}

pub(super) fn patch(
    state: &State,
    name: &str,
    expected: Option<u64>,
    request: &GroupRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let present = seen(state, name, expected)?;
    fixed("name", &request.name, &present.name)?;
    let mut reader = Reader::default();
    let mut group = present.clone();
    fill(state, &mut group, request, &mut reader);
    reader.done()?;
    served(state, &mut group, request)?;
    let declare_lost_s = group.declare_lost_s;
    let mut decision = changed(state, present, group);
    if declare_lost_s != present.declare_lost_s {
        let mut draft = Draft::new(state, now);
        let agents = state.agents.values();
        for agent in agents.filter(|a| a.group == present.id && a.state != AgentState::Terminated) {
            loss::tell_lease(&mut draft, agent.id, present.declare_lost_s);
        }
        let (changes, effects) = draft.finish();
        decision.changes.extend(changes);
        decision.effects.extend(effects);
    }
    Ok(decision)
}

/// A service account that is not deleted.
fn account_of<'a>(state: &'a State, name: &str) -> Option<&'a User> {
    let user = state.user_by_ref(name)?;
    (user.service.is_some() && user.is_active()).then_some(user)
}

/// The service account of a group is there and may serve it, where a request speaks of it.
fn served(state: &State, group: &mut Group, request: &GroupRequest) -> Result<(), Refusal> {
    let spoken = !(request.service_account.is_absent() && request.use_owner.is_absent());
    if group.service_account.is_empty() || !spoken {
        return Ok(());
    }
    let wrong = |at: &str, text: String| Refusal::new("LS-INVALID", text.clone()).at(at, text);
    let account = account_of(state, &group.service_account).ok_or_else(|| {
        let text = "The service account of this group was deleted.".to_owned();
        wrong("/service_account", text)
    })?;
    let name = &account.username;
    match state.may_serve(account, group, group.use_owner) {
        Ok(_) => (),
        Err(Unfit::Queue) => {
            let text = format!("Service account {name} has no rw on this group.");
            return Err(Refusal::new("LS-QUEUE-ACCESS", text.clone()).at("/service_account", text));
        }
        Err(Unfit::Impersonation) => {
            let text = format!("Service account {name} may not act for users.");
            return Err(wrong("/use_owner", text));
        }
    }
    // By its id: its name may change.
    group.service_account = account.printed_id();
    Ok(())
}

/// How the service account of a group is called.
fn account_name(state: &State, group: &Group) -> String {
    let account = state.user_by_ref(&group.service_account);
    account.map_or_else(
        || group.service_account.clone(),
        |account| account.username.clone(),
    )
}

/// The decision that one group becomes another; none of it when it is the same.
fn changed(state: &State, present: &Group, mut group: Group) -> Decision {
    let changes = if group == *present {
        Vec::new()
    } else {
        group.version += 1;
        let mut changes = store(state, group.clone());
        changes.extend(network::group_differs(state, (present, &group)));
        changes
    };
    Decision::new(object(state, &group), changes)
        .was(&group_view(state, present))
        .touching(Scope::sessions(state, |s| s.group == present.id))
}

/// At most one group is the first choice.
fn store(state: &State, group: Group) -> Vec<Change> {
    let others = state.groups.values();
    let mut changes: Vec<Change> = others
        .filter(|g| group.default && g.default && g.id != group.id)
        .map(|g| {
            Change::Group(Group {
                default: false,
                version: g.version + 1,
                ..g.clone()
            })
        })
        .collect();
    changes.push(Change::Group(group));
    changes
}

fn fill(state: &State, group: &mut Group, request: &GroupRequest, reader: &mut Reader) {
    let fresh = Group {
        declare_lost_s: state.scheduler.declare_lost_s,
        ..Group::new(group.id, "")
    };
    put(
        &mut group.description,
        reader.text("description", &request.description, DESCRIPTION),
        String::new(),
    );
    put(
        &mut group.active,
        reader.flag("active", &request.active),
        true,
    );
    put(
        &mut group.default,
        reader.flag("default", &request.default),
        false,
    );
    if let Some(said) = reader.object("allowed", &request.allowed) {
        group.allowed = said.map(|wish| reader.within("/allowed", |r| allowed(state, wish, r)));
    }
    if let Some(said) = reader.list("allowed_session_types", &request.allowed_session_types) {
        group.allowed_session_types = match said {
            None => fresh.allowed_session_types,
            Some(words) => session_types(words, reader),
        };
    }
    put_limit(
        &mut group.scheduler,
        reader.word::<Discipline>("scheduler", &request.scheduler),
    );
    put_limit(
        &mut group.agent_selection,
        reader.word::<Selection>("agent_selection", &request.agent_selection),
    );
    let tries = reader.count(
        "retries_to_skip",
        &request.retries_to_skip,
        RETRIES,
        Zero::Counts,
    );
    put_limit(&mut group.retries_to_skip, tries);
    let returns = reader.count(
        "creation_retries",
        &request.creation_retries,
        1000,
        Zero::Counts,
    );
    put_limit(&mut group.creation_retries, returns);
    // 0 is a value here too: it switches the installation's time-out off for this group.
    let timeout = reader.count(
        "pending_timeout_s",
        &request.pending_timeout_s,
        YEAR_S,
        Zero::Counts,
    );
    put_limit(&mut group.pending_timeout_s, timeout);
    put(
        &mut group.refuse_never_fits,
        reader.flag("refuse_never_fits", &request.refuse_never_fits),
        true,
    );
    put(
        &mut group.direct_submits,
        reader.word("direct_submits", &request.direct_submits),
        DirectSubmits::Open,
    );
    match reader.whole("declare_lost_s", &request.declare_lost_s, 0, YEAR_S) {
        Some(Some(s)) if (1..DECLARE_LOST_MIN_S).contains(&s) => reader.wrong(
            "/declare_lost_s",
            format!("declare_lost_s must be 0, or between {DECLARE_LOST_MIN_S} and {YEAR_S}."),
        ),
        said => {
            let said = said.map(|v| v.and_then(|s| u32::try_from(s).ok()));
            put(&mut group.declare_lost_s, said, fresh.declare_lost_s);
        }
    }
    let address = reader.text("app_proxy_address", &request.app_proxy_address, 256);
    if address
        .as_ref()
        .is_some_and(|a| a.as_ref().is_some_and(|a| a.contains(char::is_whitespace)))
    {
        reader.wrong(
            "/app_proxy_address",
            "app_proxy_address must not hold blanks.",
        );
    }
    put(&mut group.app_proxy_address, address, String::new());
    let account = reader.text("service_account", &request.service_account, 64);
    if let Some(Some(name)) = account.as_ref()
        && !name.is_empty()
        && account_of(state, name).is_none()
    {
        reader.wrong(
            "/service_account",
            format!("There is no service account {}.", cut(name)),
        );
    }
    put(&mut group.service_account, account, String::new());
    put(
        &mut group.use_owner,
        reader.flag("use_owner", &request.use_owner),
        true,
    );
    put(
        &mut group.on_device_fault,
        reader.word("on_device_fault", &request.on_device_fault),
        fresh.on_device_fault,
    );
    put(
        &mut group.cluster_network,
        reader.word("cluster_network", &request.cluster_network),
        fresh.cluster_network,
    );
    put(
        &mut group.sessions_may_call_api,
        reader.flag("sessions_may_call_api", &request.sessions_may_call_api),
        false,
    );
    put(
        &mut group.pin_cpus,
        reader.flag("pin_cpus", &request.pin_cpus),
        false,
    );
}

fn session_types(words: &[String], reader: &mut Reader) -> BTreeSet<SessionType> {
    let mut types = BTreeSet::new();
    for (at, word) in words.iter().enumerate() {
        match word.trim().parse() {
            Ok(kind) => drop(types.insert(kind)),
            Err(error) => {
                reader.wrong(&format!("/allowed_session_types/{at}"), format!("{error}."))
            }
        }
    }
    if words.is_empty() {
        reader.wrong(
            "/allowed_session_types",
            "allowed_session_types must hold at least one type.",
        );
    }
    types
}

fn allowed(state: &State, wish: &AllowedRequest, reader: &mut Reader) -> Allowed {
    let mut all = Allowed::default();
    let lists: [(&str, AllowKind, &Member<Vec<String>>); 3] = [
        ("domains", AllowKind::Domain, &wish.domains),
        ("projects", AllowKind::Project, &wish.projects),
        ("keypairs", AllowKind::Keypair, &wish.keypairs),
    ];
    for (field, kind, list) in lists {
        let Some(Some(names)) = reader.list(field, list) else {
            continue;
        };
        for (at, name) in names.iter().enumerate() {
            match resolve(state, kind, name.trim()) {
                Ok(name) => drop(set_of(&mut all, kind).insert(name)),
                Err(message) => reader.wrong(&format!("/{field}/{at}"), message),
            }
        }
    }
    all
}

fn set_of(allowed: &mut Allowed, kind: AllowKind) -> &mut BTreeSet<String> {
    match kind {
        AllowKind::Domain => &mut allowed.domains,
        AllowKind::Project => &mut allowed.projects,
        AllowKind::Keypair => &mut allowed.keypairs,
    }
}

/// The name under which it is kept.
fn resolve(state: &State, kind: AllowKind, name: &str) -> Result<String, String> {
    match kind {
        AllowKind::Domain => state
            .domain_by_ref(name)
            .map(|d| d.name.clone())
            .ok_or_else(|| {
                unknown(
                    "domain",
                    name,
                    state.domains.values().map(|d| d.name.as_str()),
                )
            }),
        AllowKind::Project => project(state, name),
        AllowKind::Keypair => state
            .keypairs
            .get(name)
            .filter(|k| k.state != KeypairState::Revoked)
            .map(|_| name.to_owned())
            .ok_or_else(|| unknown("keypair", name, std::iter::empty())),
    }
}

/// The entry of a project, which is given by its id, as `DOMAIN/NAME`, or by its name where only
/// one has it.
fn project(state: &State, text: &str) -> Result<String, String> {
    let (domain, name) = match text.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, text),
    };
    let home = domain.map(|domain| {
        let names = state.domains.values().map(|d| d.name.as_str());
        state
            .domain_by_ref(domain)
            .ok_or_else(|| unknown("domain", domain, names))
    });
    let home = home.transpose()?.map(|home| home.id);
    let listed = |p: &Project| listed_project(state, p);
    if home.is_none()
        && let Ok(id) = text.parse::<ProjectId>()
        && let Some(project) = state.projects.get(&id)
    {
        return Ok(listed(project));
    }
    let found: Vec<&Project> = state
        .projects
        .values()
        .filter(|p| p.name.eq_ignore_ascii_case(name) && home.is_none_or(|id| id == p.domain))
        .collect();
    match found[..] {
        [] => {
            let names = state.projects.values().map(|p| p.name.as_str());
            Err(unknown("project", name, names))
        }
        [one] => Ok(listed(one)),
        _ => {
            let which: Vec<String> = found.iter().map(|p| listed(p)).collect();
            Err(format!(
                "Several domains have a project {}: say {}.",
                cut(name),
                which.join(" or ")
            ))
        }
    }
}

/// Groups whose lists name projects without their domains, as they were kept once: each such
/// entry becomes all that it has meant.
pub(crate) fn with_domains(state: &State) -> impl Iterator<Item = Group> {
    let bare = |entry: &&String| !entry.contains('/');
    let old = state.groups.values().filter(move |group| {
        let allowed = group.allowed.as_ref();
        allowed.is_some_and(|allowed| allowed.projects.iter().any(|entry| bare(&entry)))
    });
    old.map(move |group| {
        let mut group = group.clone();
        if let Some(allowed) = &mut group.allowed {
            for entry in std::mem::take(&mut allowed.projects) {
                let named = |p: &&Project| p.name.eq_ignore_ascii_case(&entry);
                if bare(&&entry) {
                    let meant = state.projects.values().filter(named);
                    allowed
                        .projects
                        .extend(meant.map(|p| listed_project(state, p)));
                } else {
                    allowed.projects.insert(entry);
                }
            }
        }
        group
    })
}

/// An entry as it is shown: by its name where it means the only project that has it.
fn shown_project(state: &State, listed: &str) -> String {
    let name = listed.split_once('/').map_or(listed, |(_, name)| name);
    let mut same = state
        .projects
        .values()
        .filter(|p| p.name.eq_ignore_ascii_case(name));
    match (same.next(), same.next()) {
        (Some(only), None) if listed_project(state, only).eq_ignore_ascii_case(listed) => {
            name.to_owned()
        }
        _ => listed.to_owned(),
    }
}

/// Lets somebody in, or takes somebody off the list.
pub(super) fn allow(
    state: &State,
    group: &str,
    expected: Option<u64>,
    kind: AllowKind,
    who: &str,
    let_in: bool,
) -> Result<Decision, Refusal> {
    let present = seen(state, group, expected)?;
    let mut group = present.clone();
    match resolve(state, kind, who.trim()) {
        Ok(name) if let_in => {
            set_of(group.allowed.get_or_insert_with(Allowed::default), kind).insert(name);
        }
        Err(message) if let_in => return Err(Refusal::new("LS-NOT-FOUND", message)),
        found => {
            // What is gone itself can still be taken off by the name it had.
            let name = found.unwrap_or_else(|_| who.trim().to_owned());
            if let Some(allowed) = &mut group.allowed {
                let same = |known: &str| {
                    known.eq_ignore_ascii_case(&name) || known.eq_ignore_ascii_case(who.trim())
                };
                set_of(allowed, kind).retain(|known| !same(known));
            }
        }
    }
    Ok(changed(state, present, group))
}

/// Opens a group to everybody.
pub(super) fn allow_everybody(
    state: &State,
    group: &str,
    expected: Option<u64>,
) -> Result<Decision, Refusal> {
    let present = seen(state, group, expected)?;
    let group = Group {
        allowed: None,
        ..present.clone()
    };
    Ok(changed(state, present, group))
}

pub(super) fn delete(
    state: &State,
    name: &str,
    expected: Option<u64>,
) -> Result<Decision, Refusal> {
    let Some(group) = state.group_by_ref(name) else {
        return Ok(Decision::new(AdminObject::Gone, Vec::new()));
    };
    is_at(group, expected)?;
    let mut in_use = InUse::default();
    let mut found = |kind: &str, id: String, name: String, state: String| {
        *in_use.counts.entry(kind.to_owned()).or_insert(0) += 1;
        if in_use.blockers.len() < NAMED {
            in_use.blockers.push(InTheWay {
                kind: kind.to_owned(),
                id,
                name,
                state,
            });
        }
    };
    let agents = state.agents.values();
    for agent in agents.filter(|a| a.group == group.id && a.state != AgentState::Terminated) {
        found(
            "agent",
            agent.id.to_string(),
            agent.name.clone(),
            agent.state.to_string(),
        );
    }
    for pool in &state.config.config.pools {
        if pool.group.eq_ignore_ascii_case(&group.name) {
            found(
                "pool",
                pool.name.clone(),
                pool.name.clone(),
                "active".to_owned(),
            );
        }
    }
    // Sessions that have ended and are not confirmed gone hold claims here: they count too.
    for session in state.sessions.values().filter(|s| s.group == group.id) {
        let name = session
            .name
            .clone()
            .unwrap_or_else(|| session.id.to_string());
        found(
            "session",
            session.id.to_string(),
            name,
            session.state.to_string(),
        );
    }
    if !in_use.counts.is_empty() {
        let what: Vec<String> = in_use
            .counts
            .iter()
            .map(|(kind, n)| format!("{n} {kind}{}", if *n == 1 { "" } else { "s" }))
            .collect();
        let detail = format!(
            "Resource group {} is used by {}.",
            group.name,
            what.join(", ")
        );
        return Err(Refusal {
            in_use: Some(Box::new(in_use)),
            ..Refusal::new("LS-IN-USE", detail)
                .hint("Move its agents, end its sessions and take its pool out of the configuration first.")
        });
    }
    // A join token without its group would let nodes in to nowhere.
    let tokens = state.tokens.values().filter(|t| t.group == group.id);
    let mut changes: Vec<Change> = tokens.map(|t| Change::TokenDeleted(t.id.clone())).collect();
    let charges = state.charges.keys().filter(|(g, ..)| *g == group.id);
    changes.extend(
        charges.map(|(group, priority, shape)| Change::ChargeForgotten {
            group: *group,
            priority: *priority,
            shape: shape.clone(),
        }),
    );
    changes.push(Change::GroupDeleted(group.id));
    Ok(Decision::new(AdminObject::Gone, changes))
}

pub(super) fn move_agent(
    state: &State,
    agent: &str,
    group: &str,
    expected: Option<u64>,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let node = state
        .agent_by_ref(agent)
        .ok_or_else(|| missing("agent", agent))?;
    if node.state == AgentState::Terminated {
        return Err(Refusal::new(
            "LS-AGENT-STATE",
            format!("Agent {} has left the cluster.", node.name),
        ));
    }
    fresh(expected, &format!("Agent {}", node.name), node.version)?;
    let target = state.group_by_ref(group).ok_or_else(|| {
        let known = state.groups.values().map(|g| g.name.as_str());
        let message = unknown("resource group", group, known);
        Refusal::new("LS-INVALID", message.clone()).at("/group", message)
    })?;
    let object = AdminObject::Agent(node.id);
    if node.group == target.id {
        return Ok(Decision::new(object, Vec::new()));
    }
    let mut draft = Draft::new(state, now);
    if let Some(copy) = draft.agent_mut(node.id) {
        copy.group = target.id;
    }
    let before = state
        .groups
        .get(&node.group)
        .map_or(0, |g| g.declare_lost_s);
    if before != target.declare_lost_s {
        loss::tell_lease(&mut draft, node.id, before);
    }
    let here: BTreeSet<_> = state.on_agent(node.id).map(|key| key.session).collect();
    let scope = Scope::sessions(state, |s| here.contains(&s.id));
    Ok(Decision::drafted(object, draft).touching(scope))
}
