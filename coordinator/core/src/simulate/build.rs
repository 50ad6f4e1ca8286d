//! From the file to the first state.

use super::input::{self, Amounts, Input, Text};
use super::{InputError, wrong};
use crate::model::{
    AccessRule, Agent, AllocationPolicy, Allowed, Change, Counts, DirectSubmits, Domain, Group,
    Keypair, KeypairPolicy, LifetimeBase, LiveConfig, Membership, PolicyProfile, Pool, Profile,
    Project, ResourceConfig, Role, SchedulerSettings, Unspecified, User,
};
use longshore_common::agent::{
    AgentState, Allocation, Device, Health, Inventory, Links, RuntimeState,
};
use longshore_common::amount::{SlotKind, SlotLimits, SlotName, Slots, UNIT, parse_milli};
use longshore_common::devices::check_inventory;
use longshore_common::ids::{
    AgentId, DomainId, Fence, Generation, GroupId, PolicyId, ProjectId, UserId,
};
use longshore_common::time::Timestamp;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::sync::Arc;

/// Domain and project of those who name none; they have no limits.
pub(super) const NOBODY_DOMAIN: DomainId = DomainId::new(0);

pub(super) fn word<T: FromStr>(text: &str, path: &str) -> Result<T, InputError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| wrong(path, error))
}

pub(super) fn slot_name(text: &str, path: &str) -> Result<SlotName, InputError> {
    word(text, path)
}

pub(super) fn amounts(texts: &Amounts, path: &str) -> Result<Slots, InputError> {
    let mut slots = Slots::new();
    for (name, Text(text)) in texts {
        let path = format!("{path}.{name}");
        let slot = slot_name(name, &path)?;
        let amount = match slot.kind() {
            // Of a divided GPU an agent has several.
            SlotKind::Unique => parse_milli(text),
            _ => slot.parse_amount(text),
        };
        slots.set(slot, amount.map_err(|error| wrong(&path, error))?);
    }
    Ok(slots)
}

fn milli(text: &Text, path: &str) -> Result<i64, InputError> {
    parse_milli(&text.0).map_err(|error| wrong(path, error))
}

fn limits(texts: &BTreeMap<String, Option<Text>>, path: &str) -> Result<SlotLimits, InputError> {
    let texts = texts
        .iter()
        .map(|(slot, text)| {
            let text = text.as_ref().map_or("unlimited", |t| t.0.as_str());
            (slot.clone(), text.to_owned())
        })
        .collect();
    SlotLimits::parse(&texts).map_err(|errors| {
        let (slot, why) = &errors[0];
        wrong(&format!("{path}.{slot}"), why)
    })
}

/// Reads an object whose members were kept as they stand in the file.
pub(super) fn object<T: DeserializeOwned>(
    members: &serde_json::Map<String, serde_json::Value>,
    path: &str,
) -> Result<T, InputError> {
    let whole = |members| serde_json::from_value(serde_json::Value::Object(members));
    whole(members.clone()).map_err(|error: serde_json::Error| {
        // Every member may be missing, so the first that fails by itself is the one meant.
        let culprit = members.iter().find_map(|(name, value)| {
            let alone = serde_json::Map::from_iter([(name.clone(), value.clone())]);
            let error = whole(alone).err()?;
            Some(wrong(&format!("{path}.{name}"), error))
        });
        culprit.unwrap_or_else(|| wrong(path, error))
    })
}

fn count(value: Option<i64>, most: i64, path: &str) -> Result<Option<u32>, InputError> {
    let Some(value) = value else { return Ok(None) };
    u32::try_from(value)
        .ok()
        .filter(|v| i64::from(*v) <= most)
        .map(Some)
        .ok_or_else(|| wrong(path, format!("{value} is not between 0 and {most}")))
}

pub(super) fn scheduler(input: &input::Scheduler) -> Result<SchedulerSettings, InputError> {
    let at = "settings.scheduler";
    let path = |member: &str| format!("{at}.{member}");
    let mut settings = SchedulerSettings::default();
    if let Some(text) = &input.scheduler {
        settings.scheduler = word(text, &path("scheduler"))?;
    }
    if let Some(text) = &input.agent_selection {
        settings.agent_selection = word(text, &path("agent_selection"))?;
    }
    let number = |value, member: &str, most| count(value, most, &path(member));
    if let Some(n) = number(input.retries_to_skip, "retries_to_skip", 1_000_000)? {
        settings.retries_to_skip = n;
    }
    if let Some(n) = number(input.interval_s, "interval_s", 86_400)? {
        if n == 0 {
            return Err(wrong(&path("interval_s"), "it must be above 0"));
        }
        settings.interval_s = n;
    }
    if let Some(n) = number(input.creation_retries, "creation_retries", 100)? {
        settings.creation_retries = n;
    }
    if let Some(n) = number(input.pending_timeout_s, "pending_timeout_s", 31_536_000)? {
        settings.pending_timeout_s = n;
    }
    Ok(settings)
}

pub(super) fn group(
    input: &input::Group,
    id: GroupId,
    path: &str,
    known: &Names,
) -> Result<Group, InputError> {
    if input.name.is_empty() {
        return Err(wrong(&format!("{path}.name"), "a group needs a name"));
    }
    let at = |member: &str| format!("{path}.{member}");
    let mut group = Group::new(id, &input.name);
    group.description = input.description.clone().unwrap_or_default();
    group.active = input.active.unwrap_or(true);
    group.default = input.default.unwrap_or(false);
    group.allowed = match &input.allowed {
        None => None,
        Some(allowed) => {
            for (list, known, member) in [
                (&allowed.domains, &known.domains, "allowed.domains"),
                (&allowed.projects, &known.projects, "allowed.projects"),
                (&allowed.keypairs, &known.keypairs, "allowed.keypairs"),
            ] {
                if let Some(name) = list.iter().find(|name| !known.contains(*name)) {
                    return Err(wrong(&at(member), format!("there is no {name}")));
                }
            }
            Some(Allowed {
                domains: allowed.domains.clone(),
                projects: allowed.projects.clone(),
                keypairs: allowed.keypairs.clone(),
            })
        }
    };
    if let Some(types) = &input.allowed_session_types {
        let path = at("allowed_session_types");
        if types.is_empty() {
            return Err(wrong(&path, "a group takes at least one type"));
        }
        group.allowed_session_types = types
            .iter()
            .map(|text| word(text, &path))
            .collect::<Result<BTreeSet<_>, _>>()?;
    }
    if let Some(text) = &input.scheduler {
        group.scheduler = Some(word(text, &at("scheduler"))?);
    }
    if let Some(text) = &input.agent_selection {
        group.agent_selection = Some(word(text, &at("agent_selection"))?);
    }
    group.retries_to_skip = count(input.retries_to_skip, 1_000_000, &at("retries_to_skip"))?;
    group.creation_retries = count(input.creation_retries, 100, &at("creation_retries"))?;
    group.pending_timeout_s = count(
        input.pending_timeout_s,
        31_536_000,
        &at("pending_timeout_s"),
    )?;
    group.refuse_never_fits = input.refuse_never_fits.unwrap_or(true);
    group.direct_submits = match &input.direct_submits {
        None => DirectSubmits::Open,
        Some(text) => word(text, &at("direct_submits"))?,
    };
    group.declare_lost_s = input.declare_lost_s.unwrap_or(600);
    Ok(group)
}

/// Longest lifetime of a policy, in seconds.
const LIFE_S: i64 = 31_536_000;
/// Longest time without use of a policy, in seconds.
const IDLE_S: i64 = 15_552_000;
/// Who is not said to be new was made so long ago: thirty years, in seconds.
const LONG_AGO_S: i64 = 946_080_000;

pub(super) fn policy(
    input: &input::KeypairPolicy,
    path: &str,
    now: Timestamp,
) -> Result<KeypairPolicy, InputError> {
    if input.name.is_empty() {
        return Err(wrong(&format!("{path}.name"), "a policy needs a name"));
    }
    let at = |member: &str| format!("{path}.{member}");
    let mut policy = KeypairPolicy::new(PolicyId::new(0), &input.name, now);
    if let Some(texts) = &input.total_slots {
        policy.total_slots = limits(texts, &at("total_slots"))?;
    }
    if let Some(text) = &input.default_for_unspecified {
        policy.default_for_unspecified = word::<Unspecified>(text, &at("default_for_unspecified"))?;
    }
    let bounded = |value: Option<u32>, most: u32, member: &str| match value {
        Some(n) if n > most => Err(wrong(
            &at(member),
            format!("{member} must be between 0 and {most}."),
        )),
        value => Ok(value),
    };
    policy.max_concurrent_sessions = bounded(
        input.max_concurrent_sessions,
        100,
        "max_concurrent_sessions",
    )?
    .filter(|n| *n > 0);
    if let Some(most) = input.max_concurrent_sftp_sessions {
        let most = bounded(most, 100, "max_concurrent_sftp_sessions")?;
        policy.max_concurrent_sftp_sessions = most.filter(|n| *n > 0);
    }
    policy.max_containers_per_session = bounded(
        input.max_containers_per_session,
        100,
        "max_containers_per_session",
    )?
    .filter(|n| *n > 0);
    policy.max_pending_session_count = bounded(
        input.max_pending_session_count,
        100_000,
        "max_pending_session_count",
    )?
    .filter(|n| *n > 0);
    if let Some(texts) = &input.max_pending_session_slots {
        policy.max_pending_session_slots = limits(texts, &at("max_pending_session_slots"))?;
    }
    if let Some(most) = input.max_priority {
        if most > 100 {
            return Err(wrong(
                &at("max_priority"),
                "max_priority must be between 0 and 100.",
            ));
        }
        policy.max_priority = Some(most);
    }
    let seconds = |value: Option<i64>, most: i64, member: &str| match value {
        Some(s) if !(0..=most).contains(&s) => Err(wrong(
            &at(member),
            format!("{member} must be between 0 and {most}."),
        )),
        value => Ok(value.filter(|s| *s > 0)),
    };
    let life_s = input.max_session_lifetime_s;
    policy.max_session_lifetime_s = seconds(life_s, LIFE_S, "max_session_lifetime_s")?;
    if let Some(text) = &input.lifetime_base {
        policy.lifetime_base = word::<LifetimeBase>(text, &at("lifetime_base"))?;
    }
    let most = input.extension_max_count;
    policy.extension_max_count = bounded(most, 100, "extension_max_count")?;
    policy.extension_max_s = seconds(input.extension_max_s, 604_800, "extension_max_s")?;
    let total_s = input.max_total_lifetime_s;
    policy.max_total_lifetime_s = seconds(total_s, LIFE_S, "max_total_lifetime_s")?;
    policy.idle_timeout_s = seconds(input.idle_timeout_s, IDLE_S, "idle_timeout_s")?;
    if let Some(members) = &input.idle {
        let rules = crate::model::admin::idle_from(members);
        policy.idle = Some(rules.map_err(|(member, why)| wrong(&at(&member), why))?);
    }
    Ok(policy)
}

pub(super) fn allocation_policy(
    input: &input::AllocationPolicy,
    profiles: &BTreeSet<&str>,
    path: &str,
) -> Result<AllocationPolicy, InputError> {
    let at = |member: &str| format!("{path}.{member}");
    let mut entries = Vec::new();
    for (index, entry) in input.profiles.iter().enumerate() {
        let (profile, queue) = match entry {
            input::PolicyProfile::Name(profile) => (profile, None),
            input::PolicyProfile::Full { profile, queue } => (profile, queue.clone()),
        };
        if !profiles.contains(profile.as_str()) {
            let path = at(&format!("profiles[{index}]"));
            return Err(wrong(&path, format!("there is no profile {profile}")));
        }
        entries.push(PolicyProfile {
            profile: profile.clone(),
            queue: queue.unwrap_or_else(|| format!("{}/{profile}", input.name)),
        });
    }
    Ok(AllocationPolicy {
        name: input.name.clone(),
        description: String::new(),
        user_group: None,
        users: input.users.clone(),
        reservation: match &input.reservation {
            None => 0,
            Some(text) => milli(text, &at("reservation"))?,
        },
        limit: match &input.limit {
            None => None,
            Some(text) => Some(milli(text, &at("limit"))?),
        },
        profiles: entries,
        pending_timeout_s: input.pending_timeout_s.unwrap_or(0),
    })
}

/// Pools, profiles, policies and queues of the file.
pub(super) fn config(
    input: &Input,
    groups: &BTreeSet<String>,
) -> Result<ResourceConfig, InputError> {
    let profile_names: BTreeSet<&str> = input.profiles.iter().map(|p| p.name.as_str()).collect();
    let pool_names: BTreeSet<&str> = input.pools.iter().map(|p| p.name.as_str()).collect();
    let mut policies = Vec::new();
    for (index, members) in input.allocation_policies.iter().enumerate() {
        let path = format!("allocation_policies[{index}]");
        let raw: input::AllocationPolicy = object(members, &path)?;
        policies.push(allocation_policy(&raw, &profile_names, &path)?);
    }
    let mut profiles = Vec::new();
    for (index, raw) in input.profiles.iter().enumerate() {
        let at = |member: &str| format!("profiles[{index}].{member}");
        if let Some(name) = raw.pools.iter().find(|n| !pool_names.contains(n.as_str())) {
            return Err(wrong(&at("pools"), format!("there is no pool {name}")));
        }
        let using: Vec<String> = policies
            .iter()
            .filter(|p: &&AllocationPolicy| p.profiles.iter().any(|e| e.profile == raw.name))
            .map(|p| p.name.clone())
            .collect();
        if let Some(order) = &raw.policies
            && let Some(name) = order.iter().find(|n| !using.contains(n))
        {
            let text = format!("{name} is no allocation policy that uses {}", raw.name);
            return Err(wrong(&at("policies"), text));
        }
        profiles.push(Profile {
            name: raw.name.clone(),
            slots: amounts(&raw.slots, &at("slots"))?,
            allotment: match &raw.allotment {
                None => None,
                Some(text) => Some(milli(text, &at("allotment"))?),
            },
            pools: raw.pools.clone(),
            policies: ordered(raw.policies.as_ref(), using),
        });
    }
    let mut pools = Vec::new();
    for (index, raw) in input.pools.iter().enumerate() {
        let at = |member: &str| format!("pools[{index}].{member}");
        if !groups.contains(&raw.group) {
            return Err(wrong(
                &at("group"),
                format!("there is no group {}", raw.group),
            ));
        }
        if input.pools[..index].iter().any(|p| p.group == raw.group) {
            return Err(wrong(&at("group"), "another pool stands on this group"));
        }
        let linked: Vec<String> = profiles
            .iter()
            .filter(|p: &&Profile| p.pools.contains(&raw.name))
            .map(|p| p.name.clone())
            .collect();
        if let Some(order) = &raw.profiles
            && let Some(name) = order.iter().find(|n| !linked.contains(n))
        {
            let text = format!("{name} is no profile linked to {}", raw.name);
            return Err(wrong(&at("profiles"), text));
        }
        pools.push(Pool {
            name: raw.name.clone(),
            description: String::new(),
            group: raw.group.clone(),
            counts: match raw.counts.as_deref() {
                None | Some("gpu") => Counts::Gpu,
                Some(slot) => Counts::Slot(slot_name(slot, &at("counts"))?),
            },
            count: match &raw.count {
                None => None,
                Some(text) => Some(milli(text, &at("count"))?),
            },
            profiles: ordered(raw.profiles.as_ref(), linked),
        });
    }
    Ok(ResourceConfig {
        pools,
        profiles,
        allocation_policies: policies,
    })
}

/// The configured order first, then whoever it leaves out.
fn ordered(order: Option<&Vec<String>>, all: Vec<String>) -> Vec<String> {
    let mut names = order.cloned().unwrap_or_default();
    for name in all {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

pub(super) fn inventory(input: &input::Agent, path: &str) -> Result<Inventory, InputError> {
    let at = |member: &str| format!("{path}.{member}");
    let mut slots = amounts(&input.slots, &at("slots"))?;
    let mut devices: Vec<Device> = Vec::new();
    let mut listed = Slots::new();
    let mut ids = BTreeSet::new();
    let device = |slot: &SlotName, id: &str, index: usize, capacity, path: &str| {
        Ok::<Device, InputError>(Device {
            id: word(id, path)?,
            index: u32::try_from(index).unwrap_or(u32::MAX),
            slot: slot.clone(),
            capacity,
            model: "".into(),
            memory_bytes: 0,
            pci: Box::default(),
            minor: None,
            numa: None,
            links: Links::default(),
            health: Health::Healthy,
            health_detail: Box::default(),
        })
    };
    for (index, raw) in input.devices.iter().enumerate() {
        let path = at(&format!("devices[{index}]"));
        let slot = slot_name(&raw.slot, &format!("{path}.slot"))?;
        if !ids.insert(raw.id.clone()) {
            return Err(wrong(
                &format!("{path}.id"),
                format!("{} is listed twice", raw.id),
            ));
        }
        let capacity = match &raw.amount {
            None => UNIT,
            Some(text) => milli(text, &format!("{path}.amount"))?,
        };
        if capacity <= 0 {
            return Err(wrong(&format!("{path}.amount"), "it must be above 0"));
        }
        listed.add(&Slots::new().with(slot.clone(), capacity));
        let mut made = device(&slot, &raw.id, index, capacity, &path)?;
        made.numa = raw.numa;
        for link in &raw.links {
            made.links.push(word(link, &format!("{path}.links"))?);
        }
        devices.push(made);
    }
    for (slot, sum) in listed.iter() {
        let named = slots.amount(slot);
        if named != 0 && named != sum {
            let text = format!(
                "{} differs from the sum of its devices, {}",
                slot.format_amount(named),
                slot.format_amount(sum)
            );
            return Err(wrong(&at(&format!("slots.{slot}")), text));
        }
    }
    let names: Vec<(SlotName, i64)> = slots.iter().map(|(s, a)| (s.clone(), a)).collect();
    for (slot, amount) in names {
        if !slot.is_accelerator() || listed.amount(&slot) != 0 {
            if listed.amount(&slot) != 0 {
                slots.set(slot, 0);
            }
            continue;
        }
        let prefix = match slot.as_str() {
            "cuda.device" | "cuda.shares" => "GPU",
            other => other,
        };
        let mut left = amount;
        let mut number = 0;
        while left > 0 {
            let id = format!("{prefix}-{number}");
            let index = devices.len();
            devices.push(device(&slot, &id, index, left.min(UNIT), &at("slots"))?);
            left -= UNIT;
            number += 1;
        }
        slots.set(slot, 0);
    }
    let raw = &input.allocation;
    let mut allocation = Allocation::default();
    if let Some(text) = &raw.strategy {
        allocation.strategy = word(text, &at("allocation.strategy"))?;
    }
    if let Some(text) = &raw.quantum {
        allocation.quantum = milli(text, &at("allocation.quantum"))?;
    }
    if let Some(yes) = raw.fragmentation {
        allocation.fragmentation = yes;
    }
    if let Some(text) = &raw.affinity {
        allocation.affinity = word(text, &at("allocation.affinity"))?;
    }
    allocation
        .check()
        .map_err(|error| wrong(&at("allocation.quantum"), error))?;
    let inventory = Inventory {
        hostname: input.name.clone().into(),
        arch: input.arch.clone().unwrap_or_else(|| "x86_64".into()).into(),
        os: Box::default(),
        kernel: Box::default(),
        agent_version: Box::default(),
        engine_version: Box::default(),
        engine_storage: Box::default(),
        cgroup_version: 2,
        driver_version: Box::default(),
        gpu_way: None,
        gpu_way_detail: Box::default(),
        total: slots.clone(),
        offered: slots,
        max_containers: input.max_containers,
        devices,
        allocation,
        networks: longshore_common::network::NodeNetworks::default(),
    };
    check_inventory(&inventory).map_err(|error| wrong(path, error))?;
    Ok(inventory)
}

pub(super) fn agent(
    input: &input::Agent,
    id: AgentId,
    group: GroupId,
    path: &str,
    now: Timestamp,
) -> Result<Agent, InputError> {
    if input.name.is_empty() {
        return Err(wrong(&format!("{path}.name"), "an agent needs a name"));
    }
    Ok(Agent {
        id,
        version: 1,
        name: input.name.clone(),
        group,
        state: AgentState::Alive,
        schedulable: input.schedulable.unwrap_or(true),
        fence: Fence(1),
        generation: Generation(1),
        keys: vec![[0; 32]],
        fingerprint: input.name.clone(),
        machine: input.name.clone(),
        // As one that never said hello: in a file each loss is meant, and nothing holds T2 up.
        boot_id: String::new(),
        cordons: BTreeMap::new(),
        inventory: Some(Arc::new(inventory(input, path)?)),
        runtime: RuntimeState::Up,
        disk_low: false,
        created_at: now,
        lost_since: None,
        braked_at: None,
        braked_ms: 0,
        unclaimed: Vec::new(),
        drain: None,
        told: None,
    })
}

/// Names that others may refer to.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) domains: BTreeSet<String>,
    pub(super) projects: BTreeSet<String>,
    pub(super) keypairs: BTreeSet<String>,
    pub(super) policies: BTreeSet<String>,
}

/// Whose keypair is meant when a session names none, by user.
pub(super) type Keys = BTreeMap<String, (UserId, String)>;

/// A file that describes nothing is an empty one, or not the one that was meant.
fn described(input: &Input) -> Result<(), InputError> {
    let lists = [
        input.resource_groups.is_none(),
        input.agents.is_empty(),
        input.keypair_policies.is_empty(),
        input.projects.is_empty(),
        input.domains.is_empty(),
        input.users.is_empty(),
        input.pools.is_empty(),
        input.profiles.is_empty(),
        input.allocation_policies.is_empty(),
        input.running.is_empty(),
        input.events.is_empty(),
    ];
    if lists.contains(&false) {
        return Ok(());
    }
    let text = "the file is empty: describe agents, and what happens under events";
    Err(wrong("agents", text))
}

/// Domains and projects; without their totals, so that what runs before is not bound.
pub(super) fn tenants(
    input: &Input,
    now: Timestamp,
    names: &mut Names,
) -> Result<(Vec<Domain>, Vec<Project>), InputError> {
    described(input)?;
    let totals = |tenant: &input::Tenant, path: &str| {
        let texts = tenant
            .total_slots
            .iter()
            .map(|(slot, text)| (slot.clone(), Some(text.clone())))
            .collect();
        limits(&texts, &format!("{path}.total_slots"))
    };
    let mut domains = Vec::new();
    for (index, raw) in input.domains.iter().enumerate() {
        let path = format!("domains[{index}]");
        if !names.domains.insert(raw.name.clone()) {
            return Err(wrong(
                &format!("{path}.name"),
                format!("{} is there twice", raw.name),
            ));
        }
        domains.push(Domain {
            id: DomainId::new(index as u128 + 1),
            version: 1,
            name: raw.name.clone(),
            description: String::new(),
            active: true,
            total_slots: totals(raw, &path)?,
            created_at: now,
        });
    }
    let mut projects = Vec::new();
    for (index, raw) in input.projects.iter().enumerate() {
        let path = format!("projects[{index}]");
        if !names.projects.insert(raw.name.clone()) {
            return Err(wrong(
                &format!("{path}.name"),
                format!("{} is there twice", raw.name),
            ));
        }
        let domain = match &raw.domain {
            None => NOBODY_DOMAIN,
            Some(name) => domains
                .iter()
                .find(|d| d.name == *name)
                .map(|d| d.id)
                .ok_or_else(|| {
                    wrong(
                        &format!("{path}.domain"),
                        format!("there is no domain {name}"),
                    )
                })?,
        };
        projects.push(Project {
            id: ProjectId::new(index as u128 + 1),
            version: 1,
            name: raw.name.clone(),
            domain,
            description: String::new(),
            active: true,
            policy: "default".to_owned(),
            total_slots: totals(raw, &path)?,
            created_at: now,
        });
    }
    Ok((domains, projects))
}

/// People and keypairs: those listed, then those that are only named.
pub(super) fn people(
    input: &Input,
    domains: &[Domain],
    projects: &[Project],
    names: &mut Names,
    now: Timestamp,
) -> Result<(Vec<Change>, Keys), InputError> {
    let mut changes = Vec::new();
    let mut keys = Keys::new();
    let mut listed: Vec<(input::User, String)> = input
        .users
        .iter()
        .enumerate()
        .map(|(index, user)| (user.clone(), format!("users[{index}]")))
        .collect();
    let named = input
        .running
        .iter()
        .filter_map(|r| r.submit.get("user")?.as_str().map(str::to_owned))
        .chain(
            input
                .events
                .iter()
                .filter_map(|e| e.submit.as_ref()?.user.clone()),
        )
        .chain(std::iter::once("user".to_owned()));
    let mut known: BTreeSet<String> = BTreeSet::new();
    for (user, path) in &listed {
        if user.name.is_empty() || !known.insert(user.name.clone()) {
            return Err(wrong(
                &format!("{path}.name"),
                "each user needs a name of its own",
            ));
        }
    }
    for name in named {
        if known.insert(name.clone()) {
            let user = input::User {
                name,
                ..input::User::default()
            };
            listed.push((user, "users".to_owned()));
        }
    }
    changes.push(Change::AccessRule(AccessRule::factory(now)));
    for ((user, path), number) in listed.iter().zip(1u128..) {
        let id = UserId::new(number);
        let policy = |name: Option<&String>, path: &str| match name {
            None => Ok(String::new()),
            Some(name) if names.policies.contains(name) => Ok(name.clone()),
            Some(name) => Err(wrong(path, format!("there is no keypair policy {name}"))),
        };
        let project = match &user.project {
            None => None,
            Some(name) => Some(projects.iter().find(|p| p.name == *name).ok_or_else(|| {
                wrong(
                    &format!("{path}.project"),
                    format!("there is no project {name}"),
                )
            })?),
        };
        let domain = match &user.domain {
            None => project.map_or(NOBODY_DOMAIN, |p| p.domain),
            Some(name) => domains
                .iter()
                .find(|d| d.name == *name)
                .map(|d| d.id)
                .ok_or_else(|| {
                    wrong(
                        &format!("{path}.domain"),
                        format!("there is no domain {name}"),
                    )
                })?,
        };
        let weight = match &user.weight {
            None => 1000,
            Some(text) => milli(text, &format!("{path}.weight"))?,
        };
        if !(1..=1_000_000).contains(&weight) {
            return Err(wrong(
                &format!("{path}.weight"),
                "a weight is between 0.001 and 1000",
            ));
        }
        let made = match user.created_at {
            Some(at) => now.plus_ms(at.ms),
            None => now.plus_s(-LONG_AGO_S),
        };
        changes.push(Change::User(Box::new(User {
            created_at: made,
            username: user.name.clone(),
            email: format!("{}@simulated", user.name),
            role: Role::User,
            uid: 20_000,
            domain,
            projects: project.iter().map(|p| Membership::manual(p.id)).collect(),
            weight_milli: weight,
            ..User::new(id, now)
        })));
        let mut pairs: Vec<input::Keypair> = user.keypairs.clone();
        if pairs.is_empty() {
            pairs.push(input::Keypair {
                name: user.name.clone(),
                policy: None,
                main: true,
            });
        }
        if !pairs.iter().any(|k| k.main) {
            pairs[0].main = true;
        }
        if pairs.iter().filter(|k| k.main).count() > 1 {
            return Err(wrong(
                &format!("{path}.keypairs"),
                "one keypair is the main one",
            ));
        }
        for (index, pair) in pairs.iter().enumerate() {
            let user_path = path;
            let path = format!("{path}.keypairs[{index}]");
            if pair.name.is_empty() || !names.keypairs.insert(pair.name.clone()) {
                return Err(wrong(
                    &format!("{path}.name"),
                    "each keypair needs a name of its own",
                ));
            }
            if pair.main {
                keys.insert(user.name.clone(), (id, pair.name.clone()));
            }
            changes.push(Change::Keypair(Keypair {
                policy: match &pair.policy {
                    Some(name) => policy(Some(name), &format!("{path}.policy"))?,
                    None => policy(user.policy.as_ref(), &format!("{user_path}.policy"))?,
                },
                main: pair.main,
                ..Keypair::new(&pair.name, [0; 32], id, now)
            }));
        }
    }
    Ok((changes, keys))
}

/// Pools and queues as they are in force.
pub(super) fn live(config: ResourceConfig, enabled: bool) -> Change {
    Change::Config(Box::new(LiveConfig {
        version: 1,
        provisioned_at: None,
        by: String::new(),
        enabled,
        config,
    }))
}
