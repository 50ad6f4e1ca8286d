//! Keypair, user and project policies: made, changed, deleted.

use super::super::change::{Change, PolicyKind};
use super::super::entities::Keypair;
use super::super::event::Refusal;
use super::super::policies::{
    KeypairPolicy, LifetimeBase, Project, ProjectPolicy, Unspecified, UserPolicy,
};
use super::super::state::State;
use super::groups::NAMED;
use super::impact::Scope;
use super::members::{
    Caps, DESCRIPTION, Reader, Zero, fixed, fresh, merge, missing, put, put_limit, taken, unknown,
};
use super::{AdminObject, Decision};
use longshore_common::admin::{
    Finding, IdleRequest, IdleView, InTheWay, InUse, InteractionRequest, InteractionView,
    KeypairPolicyRequest, KeypairPolicyView, Member, ProjectPolicyRequest, ProjectPolicyView,
    UsedBy, UserPolicyRequest, UserPolicyView, UtilizationRequest, UtilizationView,
};
use longshore_common::agent::AgentState;
use longshore_common::amount::{SlotLimits, SlotName, Slots};
use longshore_common::ids::PolicyId;
use longshore_common::limits::{
    Combine, IdleAction, IdlePolicy, Metric, Operator, UtilizationPolicy,
};
use longshore_common::session::SessionType;
use longshore_common::time::Timestamp;
use std::collections::BTreeMap;

/// Name of the policy of each kind that is always there.
pub(super) const DEFAULT: &str = "default";
/// A year in seconds.
const YEAR_S: i64 = 31_536_000;
/// Half a year, nearly: longest idle time, in seconds.
const IDLE_S: i64 = 15_552_000;
/// 1 PiB.
const FOLDERS_BYTES: i64 = 1 << 50;
/// 1024 GiB.
const SHM_BYTES: i64 = 1 << 40;
/// What may be granted on a volume.
const VERBS: [&str; 9] = [
    "create",
    "modify",
    "delete",
    "mount",
    "upload",
    "download",
    "invite",
    "set-permission",
    "*",
];
/// Names of the thresholds, as policies write them.
const METRICS: [(&str, Metric); 4] = [
    ("cpu_pct", Metric::Cpu),
    ("mem_pct", Metric::Mem),
    ("gpu_pct", Metric::Gpu),
    ("gpu_mem_pct", Metric::GpuMem),
];

/// In a policy's rules: the time-out of the check for use by people is `idle_timeout_s`.
const AS_POLICY: u32 = 0;

/// Rules of idleness that say nothing of their own.
fn default_idle() -> IdlePolicy {
    IdlePolicy {
        action: IdleAction::Stop,
        combine: Combine::All,
        initial_grace_s: 300,
        warn_s: vec![3600, 900, 300],
        interaction_timeout_s: Some(AS_POLICY),
        utilization: Some(default_utilization()),
    }
}

fn default_utilization() -> UtilizationPolicy {
    UtilizationPolicy {
        window_s: 900,
        operator: Operator::And,
        applies_to_batch: false,
        thresholds: vec![(Metric::Cpu, 5), (Metric::Gpu, 5)],
    }
}

/// The rules of idleness a session under a policy gets; none = it is never idle.
#[must_use]
pub fn idle_rules(policy: &KeypairPolicy) -> Option<IdlePolicy> {
    let timeout = policy.idle_timeout_s.filter(|s| *s > 0)?;
    let mut rules = policy.idle.clone().unwrap_or_else(default_idle);
    if rules.interaction_timeout_s == Some(AS_POLICY) {
        rules.interaction_timeout_s = u32::try_from(timeout).ok();
    }
    Some(rules)
}

// ----- what is shown

/// A keypair policy as it is shown.
#[must_use]
pub fn keypair_policy_view(state: &State, policy: &KeypairPolicy) -> KeypairPolicyView {
    KeypairPolicyView {
        id: policy.id.to_string(),
        version: policy.version,
        name: policy.name.clone(),
        description: policy.description.clone(),
        total_slots: policy.total_slots.to_texts(),
        default_for_unspecified: policy.default_for_unspecified.to_string(),
        max_concurrent_sessions: policy.max_concurrent_sessions,
        max_concurrent_sftp_sessions: policy.max_concurrent_sftp_sessions,
        max_containers_per_session: policy.max_containers_per_session,
        max_pending_session_count: policy.max_pending_session_count,
        max_pending_session_slots: policy.max_pending_session_slots.to_texts(),
        max_priority: policy.max_priority,
        max_session_lifetime_s: policy.max_session_lifetime_s,
        lifetime_base: policy.lifetime_base.to_string(),
        extension_max_count: policy.extension_max_count,
        extension_max_s: policy.extension_max_s,
        max_total_lifetime_s: policy.max_total_lifetime_s,
        idle_timeout_s: policy.idle_timeout_s,
        idle: policy.idle.as_ref().map(idle_view),
        max_shm: policy.max_shm.map(|bytes| bytes.to_string()),
        max_pids: policy.max_pids,
        root_in_container: policy.root_in_container,
        allowed_hosts: policy
            .allowed_hosts
            .iter()
            .map(|(volume, verbs)| (volume.clone(), verbs.iter().cloned().collect()))
            .collect(),
        used_by: count(keypairs_of(state, &policy.name).map(|k| keypair_is_active(state, k))),
        created_at: policy.created_at,
        updated_at: policy.updated_at,
        warnings: warnings(state, &policy.total_slots),
    }
}

fn idle_view(rules: &IdlePolicy) -> IdleView {
    let words = |batch: bool| {
        let types = [
            (SessionType::Interactive, true),
            (SessionType::Batch, batch),
        ];
        let judged = types.iter().filter(|(_, is)| *is);
        judged.map(|(kind, _)| kind.to_string()).collect()
    };
    IdleView {
        action: rules.action.to_string(),
        combine: rules.combine.to_string(),
        initial_grace_s: rules.initial_grace_s,
        warn_s: rules.warn_s.clone(),
        interaction: InteractionView {
            enabled: rules.interaction_timeout_s.is_some(),
            timeout_s: rules.interaction_timeout_s.filter(|s| *s != AS_POLICY),
        },
        utilization: UtilizationView {
            enabled: rules.utilization.is_some(),
            window_s: rules.utilization.as_ref().map(|u| u.window_s),
            operator: rules.utilization.as_ref().map(|u| u.operator.to_string()),
            applies_to: rules
                .utilization
                .as_ref()
                .map_or_else(Vec::new, |u| words(u.applies_to_batch)),
            thresholds: rules
                .utilization
                .iter()
                .flat_map(|u| &u.thresholds)
                .map(|(metric, percent)| (metric_name(*metric).to_owned(), *percent))
                .collect(),
        },
    }
}

fn metric_name(metric: Metric) -> &'static str {
    METRICS
        .iter()
        .find(|(_, m)| *m == metric)
        .map_or("", |(name, _)| name)
}

/// Limits that are allowed and may surprise.
fn warnings(state: &State, limits: &SlotLimits) -> Vec<Finding> {
    let mut capacity = Slots::new();
    for agent in state.agents.values() {
        if agent.state != AgentState::Terminated
            && let Some(inventory) = agent.inventory.as_deref()
        {
            capacity.add(&inventory.capacity());
        }
    }
    if capacity.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (slot, limit) in limits.iter() {
        let have = capacity.amount(slot);
        let other = match slot.as_str() {
            "cuda.device" => Some("cuda.shares"),
            "cuda.shares" => Some("cuda.device"),
            _ => None,
        };
        let other = other
            .and_then(|name| name.parse::<SlotName>().ok())
            .filter(|other| have == 0 && capacity.amount(other) > 0);
        let (rule, message) = match (other, limit) {
            (Some(other), _) => (
                "limit-without-effect",
                format!("The cluster offers {other} and no {slot}: this limit has no effect."),
            ),
            (None, Some(limit)) if limit > have => (
                "limit-above-cluster",
                format!(
                    "The cluster has {slot} {} in all; the limit is {}.",
                    slot.format_amount(have),
                    slot.format_amount(limit)
                ),
            ),
            _ => continue,
        };
        found.push(Finding {
            level: "warning".to_owned(),
            rule: rule.to_owned(),
            pointer: super::super::submit::pointer("/total_slots", slot.as_str()),
            message,
        });
    }
    found
}

/// A user policy as it is shown.
#[must_use]
pub fn user_policy_view(state: &State, policy: &UserPolicy) -> UserPolicyView {
    UserPolicyView {
        id: policy.id.to_string(),
        version: policy.version,
        name: policy.name.clone(),
        description: policy.description.clone(),
        max_folder_count: policy.max_folder_count,
        max_folder_size: policy.max_folder_size.map(|bytes| bytes.to_string()),
        max_session_count_per_model_service: policy.max_session_count_per_model_service,
        max_customized_image_count: policy.max_customized_image_count,
        used_by: count(
            state
                .users
                .values()
                .filter(|u| u.user_policy.eq_ignore_ascii_case(&policy.name))
                .map(|u| u.active),
        ),
        created_at: policy.created_at,
        updated_at: policy.updated_at,
    }
}

/// A project policy as it is shown.
#[must_use]
pub fn project_policy_view(state: &State, policy: &ProjectPolicy) -> ProjectPolicyView {
    ProjectPolicyView {
        id: policy.id.to_string(),
        version: policy.version,
        name: policy.name.clone(),
        description: policy.description.clone(),
        max_folder_count: policy.max_folder_count,
        max_folder_size: policy.max_folder_size.map(|bytes| bytes.to_string()),
        max_network_count: policy.max_network_count,
        used_by: count(
            state
                .projects
                .values()
                .filter(|p| p.policy.eq_ignore_ascii_case(&policy.name))
                .map(|p| p.active),
        ),
        created_at: policy.created_at,
        updated_at: policy.updated_at,
    }
}

fn count(active: impl Iterator<Item = bool>) -> UsedBy {
    let mut used = UsedBy::default();
    for is in active {
        used.active += u64::from(is);
        used.inactive += u64::from(!is);
    }
    used
}

fn keypairs_of<'a>(state: &'a State, policy: &'a str) -> impl Iterator<Item = &'a Keypair> {
    state
        .keypairs
        .values()
        .filter(move |k| k.policy.eq_ignore_ascii_case(policy))
}

/// A keypair opens something only while its user is active too.
pub(super) fn keypair_is_active(state: &State, keypair: &Keypair) -> bool {
    keypair.active && state.users.get(&keypair.user).is_some_and(|u| u.active)
}

// ----- made and changed

/// Which of the defaults, or of another policy's values, a new policy begins with.
fn cloned<P: Clone>(
    reader: &mut Reader,
    member: &Member<String>,
    what: &str,
    known: &BTreeMap<String, P>,
) -> Option<P> {
    let name = reader.text("clone", member, 64).flatten()?;
    let found = known.get(&name.to_ascii_lowercase()).cloned();
    if found.is_none() {
        reader.wrong(
            "/clone",
            unknown(what, &name, known.keys().map(String::as_str)),
        );
    }
    found
}

fn no_clone(reader: &mut Reader, member: &Member<String>) {
    if !member.is_absent() {
        reader.wrong("/clone", "clone is for new policies only.");
    }
}

pub(super) fn create_keypair_policy(
    state: &State,
    id: PolicyId,
    request: &KeypairPolicyRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let mut reader = Reader::default();
    let name = reader.handle(&request.name).unwrap_or_default();
    let fresh = KeypairPolicy::new(id, &name, now);
    let from = cloned(
        &mut reader,
        &request.clone,
        "keypair policy",
        &state.keypair_policies,
    );
    let mut policy = match from {
        Some(other) => KeypairPolicy {
            id,
            version: 1,
            name: fresh.name,
            created_at: now,
            updated_at: now,
            ..other
        },
        None => fresh,
    };
    fill_keypair_policy(&mut policy, request, &mut reader);
    reader.done()?;
    if state
        .keypair_policies
        .contains_key(&policy.name.to_ascii_lowercase())
    {
        return Err(taken("keypair policy", &policy.name));
    }
    let object = AdminObject::KeypairPolicy(Box::new(keypair_policy_view(state, &policy)));
    Ok(Decision::new(
        object,
        vec![Change::KeypairPolicy(Box::new(policy))],
    ))
}

pub(super) fn patch_keypair_policy(
    state: &State,
    name: &str,
    expected: Option<u64>,
    request: &KeypairPolicyRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let present = find(&state.keypair_policies, |p| p.id, "keypair policy", name)?;
    fresh(
        expected,
        &format!("Keypair policy {}", present.name),
        present.version,
    )?;
    fixed("name", &request.name, &present.name)?;
    let mut reader = Reader::default();
    no_clone(&mut reader, &request.clone);
    let mut policy = present.clone();
    fill_keypair_policy(&mut policy, request, &mut reader);
    reader.done()?;
    let object = |p| AdminObject::KeypairPolicy(Box::new(keypair_policy_view(state, p)));
    if policy == *present {
        return Ok(Decision::new(object(present), Vec::new()));
    }
    policy.version += 1;
    policy.updated_at = now;
    let keys = keypairs_of(state, &policy.name).map(|k| k.access_key.clone());
    let scope = Scope::keypairs(state, keys);
    let decision = Decision::new(
        object(&policy),
        vec![Change::KeypairPolicy(Box::new(policy))],
    );
    Ok(decision
        .was(&keypair_policy_view(state, present))
        .touching(scope))
}

fn fill_keypair_policy(policy: &mut KeypairPolicy, request: &KeypairPolicyRequest, r: &mut Reader) {
    put(
        &mut policy.description,
        r.text("description", &request.description, DESCRIPTION),
        String::new(),
    );
    merge(
        &mut policy.total_slots,
        r.limits("total_slots", &request.total_slots, Caps::Policy),
    );
    let unspecified = r.word("default_for_unspecified", &request.default_for_unspecified);
    put(
        &mut policy.default_for_unspecified,
        unspecified,
        Unspecified::Unlimited,
    );
    let sessions = r.count(
        "max_concurrent_sessions",
        &request.max_concurrent_sessions,
        100,
        Zero::Lifts,
    );
    put_limit(&mut policy.max_concurrent_sessions, sessions);
    let system = r.count(
        "max_concurrent_sftp_sessions",
        &request.max_concurrent_sftp_sessions,
        100,
        Zero::Lifts,
    );
    put_limit(&mut policy.max_concurrent_sftp_sessions, system);
    let containers = r.count(
        "max_containers_per_session",
        &request.max_containers_per_session,
        100,
        Zero::Lifts,
    );
    put_limit(&mut policy.max_containers_per_session, containers);
    let pending = r.count(
        "max_pending_session_count",
        &request.max_pending_session_count,
        100_000,
        Zero::Lifts,
    );
    put_limit(&mut policy.max_pending_session_count, pending);
    let slots = r.limits(
        "max_pending_session_slots",
        &request.max_pending_session_slots,
        Caps::Policy,
    );
    merge(&mut policy.max_pending_session_slots, slots);
    put_limit(
        &mut policy.max_priority,
        r.count("max_priority", &request.max_priority, 100, Zero::Counts),
    );
    let life = r.count(
        "max_session_lifetime_s",
        &request.max_session_lifetime_s,
        YEAR_S,
        Zero::Lifts,
    );
    put_limit(&mut policy.max_session_lifetime_s, life);
    put(
        &mut policy.lifetime_base,
        r.word("lifetime_base", &request.lifetime_base),
        LifetimeBase::Created,
    );
    let often = r.count(
        "extension_max_count",
        &request.extension_max_count,
        100,
        Zero::Counts,
    );
    put_limit(&mut policy.extension_max_count, often);
    let step = r.count(
        "extension_max_s",
        &request.extension_max_s,
        604_800,
        Zero::Lifts,
    );
    put_limit(&mut policy.extension_max_s, step);
    let total = r.count(
        "max_total_lifetime_s",
        &request.max_total_lifetime_s,
        YEAR_S,
        Zero::Lifts,
    );
    put_limit(&mut policy.max_total_lifetime_s, total);
    let idle = r.count(
        "idle_timeout_s",
        &request.idle_timeout_s,
        IDLE_S,
        Zero::Lifts,
    );
    put_limit(&mut policy.idle_timeout_s, idle);
    match r.object("idle", &request.idle) {
        None => (),
        Some(None) => policy.idle = None,
        Some(Some(wish)) => {
            let mut rules = policy.idle.clone().unwrap_or_else(default_idle);
            r.within("/idle", |r| fill_idle(&mut rules, wish, r));
            policy.idle = Some(rules);
        }
    }
    if let Some(bytes) = r.size("max_shm", &request.max_shm, SHM_BYTES) {
        policy.max_shm = bytes;
    }
    put_limit(
        &mut policy.max_pids,
        r.count("max_pids", &request.max_pids, 1_048_576, Zero::Lifts),
    );
    put(
        &mut policy.root_in_container,
        r.flag("root_in_container", &request.root_in_container),
        false,
    );
    match r.object("allowed_hosts", &request.allowed_hosts) {
        None => (),
        Some(None) => policy.allowed_hosts.clear(),
        Some(Some(hosts)) => fill_hosts(policy, hosts, r),
    }
}

fn fill_hosts(
    policy: &mut KeypairPolicy,
    hosts: &BTreeMap<String, Member<Vec<String>>>,
    r: &mut Reader,
) {
    for (volume, member) in hosts {
        let at = super::super::submit::pointer("/allowed_hosts", volume);
        match member {
            Member::Absent | Member::Null => drop(policy.allowed_hosts.remove(volume)),
            Member::Value(verbs) => {
                let bad = verbs.iter().find(|verb| !VERBS.contains(&verb.as_str()));
                if let Some(bad) = bad {
                    let message = format!(
                        "There is no permission {}; there are {}.",
                        super::super::submit::cut(bad),
                        VERBS.join(", ")
                    );
                    r.wrong(&at, message);
                } else {
                    let verbs = verbs.iter().cloned().collect();
                    policy.allowed_hosts.insert(volume.clone(), verbs);
                }
            }
            Member::Wrong(_) => r.wrong(&at, "Permissions are a list of words."),
        }
    }
    if policy.allowed_hosts.len() > 1000 {
        r.wrong(
            "/allowed_hosts",
            "allowed_hosts must be at most 1000 entries.",
        );
    }
}

fn fill_idle(rules: &mut IdlePolicy, wish: &IdleRequest, r: &mut Reader) {
    let fresh = default_idle();
    put(
        &mut rules.action,
        r.word("action", &wish.action),
        fresh.action,
    );
    put(
        &mut rules.combine,
        r.word("combine", &wish.combine),
        fresh.combine,
    );
    let grace = r.whole("initial_grace_s", &wish.initial_grace_s, 0, IDLE_S);
    let grace = grace.map(|v| v.and_then(|s| u32::try_from(s).ok()));
    put(&mut rules.initial_grace_s, grace, fresh.initial_grace_s);
    if let Some(said) = r.list("warn_s", &wish.warn_s) {
        rules.warn_s = match said {
            None => fresh.warn_s,
            Some(leads) => {
                let good = leads.iter().filter(|s| (1..=IDLE_S).contains(*s));
                let mut good: Vec<u32> = good.filter_map(|s| u32::try_from(*s).ok()).collect();
                if good.len() < leads.len() || leads.len() > 16 {
                    let message =
                        format!("warn_s must be at most 16 whole numbers between 1 and {IDLE_S}.");
                    r.wrong("/warn_s", message);
                }
                good.sort_unstable_by(|a, b| b.cmp(a));
                good.dedup();
                good
            }
        };
    }
    match r.object("interaction", &wish.interaction) {
        None => (),
        Some(None) => rules.interaction_timeout_s = fresh.interaction_timeout_s,
        Some(Some(wish)) => r.within("/interaction", |r| fill_interaction(rules, wish, r)),
    }
    match r.object("utilization", &wish.utilization) {
        None => (),
        Some(None) => rules.utilization = fresh.utilization,
        Some(Some(wish)) => r.within("/utilization", |r| fill_utilization(rules, wish, r)),
    }
}

fn fill_interaction(rules: &mut IdlePolicy, wish: &InteractionRequest, r: &mut Reader) {
    let timeout = r.whole("timeout_s", &wish.timeout_s, 1, IDLE_S);
    if let Some(said) = timeout {
        let seconds = said.and_then(|s| u32::try_from(s).ok());
        rules.interaction_timeout_s = Some(seconds.unwrap_or(AS_POLICY));
    }
    match r.flag("enabled", &wish.enabled) {
        Some(Some(false)) => rules.interaction_timeout_s = None,
        Some(_) => drop(rules.interaction_timeout_s.get_or_insert(AS_POLICY)),
        None => (),
    }
}

fn fill_utilization(rules: &mut IdlePolicy, wish: &UtilizationRequest, r: &mut Reader) {
    let fresh = default_utilization();
    let mut check = rules.utilization.clone().unwrap_or_else(|| fresh.clone());
    let window = r.whole("window_s", &wish.window_s, 60, IDLE_S);
    let window = window.map(|v| v.and_then(|s| u32::try_from(s).ok()));
    put(&mut check.window_s, window, fresh.window_s);
    put(
        &mut check.operator,
        r.word("operator", &wish.operator),
        fresh.operator,
    );
    match r.list("applies_to", &wish.applies_to) {
        None => (),
        Some(None) => check.applies_to_batch = fresh.applies_to_batch,
        Some(Some(types)) => {
            let batch = types.iter().any(|t| t == SessionType::Batch.as_str());
            let good = types.iter().any(|t| t == SessionType::Interactive.as_str())
                && types.len() == 1 + usize::from(batch);
            if !good {
                r.wrong(
                    "/applies_to",
                    "applies_to must be interactive, or interactive and batch.",
                );
            }
            check.applies_to_batch = batch;
        }
    }
    match r.object("thresholds", &wish.thresholds) {
        None => (),
        Some(None) => check.thresholds = fresh.thresholds,
        Some(Some(given)) => r.within("/thresholds", |r| {
            for (name, percent) in given {
                let Some((_, metric)) = METRICS.iter().find(|(known, _)| known == name) else {
                    let at = super::super::submit::pointer("", name);
                    let known = METRICS.map(|(known, _)| known).join(", ");
                    r.wrong(&at, format!("A threshold is one of {known}."));
                    continue;
                };
                let Some(said) = r.whole(name, percent, 0, 100) else {
                    continue;
                };
                check.thresholds.retain(|(known, _)| known != metric);
                if let Some(percent) = said.and_then(|p| u32::try_from(p).ok()) {
                    check.thresholds.push((*metric, percent));
                }
            }
            check.thresholds.sort_unstable();
        }),
    }
    let enabled = r.flag("enabled", &wish.enabled);
    let was = rules.utilization.is_some();
    // Whoever describes a check that was off and does not switch it on only describes it.
    rules.utilization = match enabled {
        Some(Some(false)) => None,
        Some(_) => Some(check),
        None => was.then_some(check),
    };
}

pub(super) fn create_user_policy(
    state: &State,
    id: PolicyId,
    request: &UserPolicyRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let mut reader = Reader::default();
    let name = reader.handle(&request.name).unwrap_or_default();
    let fresh = UserPolicy::new(id, &name, now);
    let from = cloned(
        &mut reader,
        &request.clone,
        "user policy",
        &state.user_policies,
    );
    let mut policy = match from {
        Some(other) => UserPolicy {
            id,
            version: 1,
            name: fresh.name,
            created_at: now,
            updated_at: now,
            ..other
        },
        None => fresh,
    };
    fill_user_policy(&mut policy, request, &mut reader);
    reader.done()?;
    if state
        .user_policies
        .contains_key(&policy.name.to_ascii_lowercase())
    {
        return Err(taken("user policy", &policy.name));
    }
    let object = AdminObject::UserPolicy(Box::new(user_policy_view(state, &policy)));
    Ok(Decision::new(object, vec![Change::UserPolicy(policy)]))
}

pub(super) fn patch_user_policy(
    state: &State,
    name: &str,
    expected: Option<u64>,
    request: &UserPolicyRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let present = find(&state.user_policies, |p| p.id, "user policy", name)?;
    fresh(
        expected,
        &format!("User policy {}", present.name),
        present.version,
    )?;
    fixed("name", &request.name, &present.name)?;
    let mut reader = Reader::default();
    no_clone(&mut reader, &request.clone);
    let mut policy = present.clone();
    fill_user_policy(&mut policy, request, &mut reader);
    reader.done()?;
    let object = |p| AdminObject::UserPolicy(Box::new(user_policy_view(state, p)));
    if policy == *present {
        return Ok(Decision::new(object(present), Vec::new()));
    }
    policy.version += 1;
    policy.updated_at = now;
    let users = state.users.values();
    let scope = Scope {
        users: users
            .filter(|u| u.user_policy.eq_ignore_ascii_case(&policy.name))
            .map(|u| u.id)
            .collect(),
        ..Scope::default()
    };
    let decision = Decision::new(object(&policy), vec![Change::UserPolicy(policy)]);
    Ok(decision
        .was(&user_policy_view(state, present))
        .touching(scope))
}

fn fill_user_policy(policy: &mut UserPolicy, request: &UserPolicyRequest, r: &mut Reader) {
    put(
        &mut policy.description,
        r.text("description", &request.description, DESCRIPTION),
        String::new(),
    );
    let folders = r.count(
        "max_folder_count",
        &request.max_folder_count,
        100_000,
        Zero::Lifts,
    );
    put_limit(&mut policy.max_folder_count, folders);
    if let Some(bytes) = r.size("max_folder_size", &request.max_folder_size, FOLDERS_BYTES) {
        policy.max_folder_size = bytes;
    }
    let replicas = r.count(
        "max_session_count_per_model_service",
        &request.max_session_count_per_model_service,
        1000,
        Zero::Lifts,
    );
    put_limit(&mut policy.max_session_count_per_model_service, replicas);
    let images = r.count(
        "max_customized_image_count",
        &request.max_customized_image_count,
        1000,
        Zero::Counts,
    );
    put_limit(&mut policy.max_customized_image_count, images);
}

pub(super) fn create_project_policy(
    state: &State,
    id: PolicyId,
    request: &ProjectPolicyRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let mut reader = Reader::default();
    let name = reader.handle(&request.name).unwrap_or_default();
    let fresh = ProjectPolicy::new(id, &name, now);
    let from = cloned(
        &mut reader,
        &request.clone,
        "project policy",
        &state.project_policies,
    );
    let mut policy = match from {
        Some(other) => ProjectPolicy {
            id,
            version: 1,
            name: fresh.name,
            created_at: now,
            updated_at: now,
            ..other
        },
        None => fresh,
    };
    fill_project_policy(&mut policy, request, &mut reader);
    reader.done()?;
    if state
        .project_policies
        .contains_key(&policy.name.to_ascii_lowercase())
    {
        return Err(taken("project policy", &policy.name));
    }
    let object = AdminObject::ProjectPolicy(Box::new(project_policy_view(state, &policy)));
    Ok(Decision::new(object, vec![Change::ProjectPolicy(policy)]))
}

pub(super) fn patch_project_policy(
    state: &State,
    name: &str,
    expected: Option<u64>,
    request: &ProjectPolicyRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let present = find(&state.project_policies, |p| p.id, "project policy", name)?;
    fresh(
        expected,
        &format!("Project policy {}", present.name),
        present.version,
    )?;
    fixed("name", &request.name, &present.name)?;
    let mut reader = Reader::default();
    no_clone(&mut reader, &request.clone);
    let mut policy = present.clone();
    fill_project_policy(&mut policy, request, &mut reader);
    reader.done()?;
    let object = |p| AdminObject::ProjectPolicy(Box::new(project_policy_view(state, p)));
    if policy == *present {
        return Ok(Decision::new(object(present), Vec::new()));
    }
    policy.version += 1;
    policy.updated_at = now;
    let decision = Decision::new(object(&policy), vec![Change::ProjectPolicy(policy)]);
    Ok(decision.was(&project_policy_view(state, present)))
}

fn fill_project_policy(policy: &mut ProjectPolicy, request: &ProjectPolicyRequest, r: &mut Reader) {
    put(
        &mut policy.description,
        r.text("description", &request.description, DESCRIPTION),
        String::new(),
    );
    let folders = r.count(
        "max_folder_count",
        &request.max_folder_count,
        100_000,
        Zero::Lifts,
    );
    put_limit(&mut policy.max_folder_count, folders);
    if let Some(bytes) = r.size("max_folder_size", &request.max_folder_size, FOLDERS_BYTES) {
        policy.max_folder_size = bytes;
    }
    let networks = r.count(
        "max_network_count",
        &request.max_network_count,
        1000,
        Zero::Counts,
    );
    put_limit(&mut policy.max_network_count, networks);
}

// ----- found, assigned, deleted

/// A policy by name (any case) or id.
fn find<'a, P>(
    policies: &'a BTreeMap<String, P>,
    id: impl Fn(&P) -> PolicyId,
    what: &str,
    name: &str,
) -> Result<&'a P, Refusal> {
    let found = match name.parse::<PolicyId>() {
        Ok(wanted) => policies.values().find(|p| id(p) == wanted),
        Err(_) => policies.get(&name.to_ascii_lowercase()),
    };
    found.ok_or_else(|| missing(what, name))
}

fn what(kind: PolicyKind) -> &'static str {
    match kind {
        PolicyKind::Keypair => "keypair policy",
        PolicyKind::User => "user policy",
        PolicyKind::Project => "project policy",
    }
}

/// Name and version of a policy by name (any case) or id.
fn named<'a>(state: &'a State, kind: PolicyKind, name: &str) -> Result<(&'a str, u64), Refusal> {
    let what = what(kind);
    match kind {
        PolicyKind::Keypair => find(&state.keypair_policies, |p| p.id, what, name)
            .map(|p| (p.name.as_str(), p.version)),
        PolicyKind::User => {
            find(&state.user_policies, |p| p.id, what, name).map(|p| (p.name.as_str(), p.version))
        }
        PolicyKind::Project => find(&state.project_policies, |p| p.id, what, name)
            .map(|p| (p.name.as_str(), p.version)),
    }
}

/// The name of a policy that is referred to, or the sentence that there is none.
pub(super) fn refer(state: &State, kind: PolicyKind, name: &str) -> Result<String, String> {
    named(state, kind, name)
        .map(|(name, _)| name.to_owned())
        .map_err(|_| {
            let known: Vec<&str> = match kind {
                PolicyKind::Keypair => state
                    .keypair_policies
                    .values()
                    .map(|p| p.name.as_str())
                    .collect(),
                PolicyKind::User => state
                    .user_policies
                    .values()
                    .map(|p| p.name.as_str())
                    .collect(),
                PolicyKind::Project => state
                    .project_policies
                    .values()
                    .map(|p| p.name.as_str())
                    .collect(),
            };
            unknown(what(kind), name, known.into_iter())
        })
}

pub(super) fn delete(
    state: &State,
    kind: PolicyKind,
    name: &str,
    move_to: Option<&str>,
    expected: Option<u64>,
) -> Result<Decision, Refusal> {
    let Ok((name, version)) = named(state, kind, name) else {
        return Ok(Decision::new(AdminObject::Gone, Vec::new()));
    };
    let (label, title) = (what(kind), capital(what(kind)));
    if name.eq_ignore_ascii_case(DEFAULT) {
        return Err(Refusal::new(
            "LS-BUILTIN",
            format!("{title} {DEFAULT} is always there; it can be edited."),
        ));
    }
    fresh(expected, &format!("{title} {name}"), version)?;
    let target = match move_to {
        None => None,
        Some(to) => Some(
            refer(state, kind, to)
                .and_then(|to| {
                    if to.eq_ignore_ascii_case(name) {
                        Err(format!("{title} {to} is the one that is to go."))
                    } else {
                        Ok(to)
                    }
                })
                .map_err(|message| {
                    Refusal::new("LS-INVALID", message.clone()).at("/move_to", message)
                })?,
        ),
    };
    let same = |policy: &str| policy.eq_ignore_ascii_case(name);
    let keypairs: Vec<&Keypair> = match kind {
        PolicyKind::Keypair => keypairs_of(state, name).collect(),
        _ => Vec::new(),
    };
    let users: Vec<_> = match kind {
        PolicyKind::User => state
            .users
            .values()
            .filter(|u| same(&u.user_policy))
            .collect(),
        _ => Vec::new(),
    };
    let projects: Vec<&Project> = match kind {
        PolicyKind::Project => state
            .projects
            .values()
            .filter(|p| same(&p.policy))
            .collect(),
        _ => Vec::new(),
    };
    let scope = Scope::keypairs(state, keypairs.iter().map(|k| k.access_key.clone()));
    let mut changes = Vec::new();
    if let Some(to) = target {
        changes.extend(keypairs.iter().map(|k| {
            Change::Keypair(Keypair {
                policy: to.clone(),
                ..(*k).clone()
            })
        }));
        changes.extend(users.iter().map(|u| {
            let mut user = (*u).clone();
            user.user_policy.clone_from(&to);
            Change::User(user)
        }));
        changes.extend(projects.iter().map(|p| {
            Change::Project(Project {
                policy: to.clone(),
                version: p.version + 1,
                ..(*p).clone()
            })
        }));
    } else if !(keypairs.is_empty() && users.is_empty() && projects.is_empty()) {
        let state_word = |active: bool| if active { "active" } else { "inactive" }.to_owned();
        let mut in_the_way: Vec<InTheWay> = Vec::new();
        let mut of_inactive_users = 0;
        for keypair in &keypairs {
            let user = state.users.get(&keypair.user);
            of_inactive_users += usize::from(user.is_some_and(|u| !u.active));
            in_the_way.push(InTheWay {
                kind: "keypair".to_owned(),
                id: keypair.access_key.clone(),
                name: user.map_or_else(String::new, |u| u.username.clone()),
                state: state_word(keypair_is_active(state, keypair)),
            });
        }
        in_the_way.extend(users.iter().map(|u| InTheWay {
            kind: "user".to_owned(),
            id: u.id.to_string(),
            name: u.username.clone(),
            state: state_word(u.active),
        }));
        in_the_way.extend(projects.iter().map(|p| InTheWay {
            kind: "project".to_owned(),
            id: p.id.to_string(),
            name: p.name.clone(),
            state: state_word(p.active),
        }));
        return Err(in_use(label, name, in_the_way, of_inactive_users));
    }
    changes.push(Change::PolicyDeleted(kind, name.to_owned()));
    Ok(Decision::new(AdminObject::Gone, changes).touching(scope))
}

fn in_use(
    label: &str,
    name: &str,
    mut in_the_way: Vec<InTheWay>,
    of_inactive_users: usize,
) -> Refusal {
    let many = in_the_way.len();
    let kind = in_the_way
        .first()
        .map_or_else(String::new, |b| b.kind.clone());
    let inactive = in_the_way.iter().filter(|b| b.state == "inactive").count();
    let mut remarks = Vec::new();
    match of_inactive_users {
        0 => (),
        1 => remarks.push("1 of an inactive user".to_owned()),
        n => remarks.push(format!("{n} of inactive users")),
    }
    if inactive > of_inactive_users {
        remarks.push(format!("{} inactive", inactive - of_inactive_users));
    }
    let remark = if remarks.is_empty() {
        String::new()
    } else {
        format!(" ({})", remarks.join(", "))
    };
    let plural = if many == 1 { "" } else { "s" };
    let detail = format!(
        "{} {name} is used by {many} {kind}{plural}{remark}.",
        capital(label)
    );
    in_the_way.truncate(NAMED);
    Refusal {
        in_use: Some(Box::new(InUse {
            blockers: in_the_way,
            counts: BTreeMap::from([(kind, many as u64)]),
        })),
        ..Refusal::new("LS-IN-USE", detail)
            .hint("Assign another policy first, or delete with move_to=POLICY.")
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |c| {
        c.to_ascii_uppercase().to_string() + letters.as_str()
    })
}
