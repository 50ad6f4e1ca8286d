//! Pools, profiles, allocation policies and queues: how they are shown, and the draft.
//!
//! Nothing but provisioning, the switch and the renaming of a queue touches what is live.
//! A queue is one allocation policy with one profile: by these two it is known, whatever
//! its name.

use super::super::change::Change;
use super::super::event::Refusal;
use super::super::pools::{
    AllocationPolicy, Counts, DraftConfig, LiveConfig, PolicyProfile, Pool, Profile, Queue,
    ResourceConfig,
};
use super::super::state::{Account, State};
use super::super::submit::{families, pointer};
use super::groups::texts;
use super::members::{DESCRIPTION, Reader, fresh, is_no_limit, is_title, twice, unknown};
use super::presets::split;
use super::{AdminObject, Decision};
use crate::scheduler::{pool_count, pool_used};
use longshore_common::admin::{
    AllocationPolicyRequest, AllocationPolicyView, LinkView, Member, PolicyProfileView,
    PoolRequest, PoolView, ProfileRequest, ProfileView, QueueView, ResourceConfigRequest,
    ResourceConfigView,
};
use longshore_common::amount::{
    AmountError, MAX_BYTES, MAX_MILLI, SlotKind, SlotName, Slots, UNIT, format_milli, parse_milli,
};
use longshore_common::session::SessionState;
use longshore_common::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// A year: longer than anything is meant to wait.
const YEAR_S: i64 = 31_536_000;
/// Most pools, profiles or allocation policies; dispatch walks all of them in every pass.
const ENTRIES: usize = 1000;
/// The largest amount of what is counted in units.
const UNITS: i64 = MAX_MILLI / UNIT;

// ----- what is shown

/// What is live.
#[must_use]
pub fn live_view(state: &State) -> ResourceConfigView {
    view_of_live(state, &state.config)
}

/// A version that is or was live, with what its pools hold now.
#[must_use]
pub fn view_of_live(state: &State, live: &LiveConfig) -> ResourceConfigView {
    ResourceConfigView {
        version: live.version,
        base: None,
        enabled: Some(live.enabled),
        at: live.provisioned_at,
        by: live.by.clone(),
        ..document(state, &live.config)
    }
}

/// What is being prepared; while nothing is, what is live as a draft of version 0.
#[must_use]
pub fn draft_view(state: &State) -> ResourceConfigView {
    match &state.config_draft {
        Some(draft) => view_of_draft(state, draft),
        None => ResourceConfigView {
            base: Some(state.config.version),
            ..document(state, &state.config.config)
        },
    }
}

fn view_of_draft(state: &State, draft: &DraftConfig) -> ResourceConfigView {
    ResourceConfigView {
        version: draft.version,
        base: Some(draft.base),
        at: Some(draft.saved_at),
        ..document(state, &draft.config)
    }
}

/// A document alone, e.g. an older version, with version 0.
#[must_use]
pub fn document(state: &State, config: &ResourceConfig) -> ResourceConfigView {
    ResourceConfigView {
        version: 0,
        base: None,
        enabled: None,
        at: None,
        by: String::new(),
        pools: config
            .pools
            .iter()
            .map(|pool| pool_view(state, pool))
            .collect(),
        profiles: config
            .profiles
            .iter()
            .map(|profile| ProfileView {
                name: profile.name.clone(),
                slots: texts(&profile.slots),
                allotment: format_milli(profile.allotment()),
                pools: profile.pools.clone(),
                policies: profile.policies.clone(),
            })
            .collect(),
        links: links(config),
        allocation_policies: config
            .allocation_policies
            .iter()
            .map(|policy| policy_view(state, policy))
            .collect(),
    }
}

fn pool_view(state: &State, pool: &Pool) -> PoolView {
    PoolView {
        name: pool.name.clone(),
        description: pool.description.clone(),
        group: pool.group.clone(),
        counts: match &pool.counts {
            Counts::Gpu => "gpu".to_owned(),
            Counts::Slot(slot) => slot.to_string(),
        },
        count: pool.count.map(|count| counted_text(&pool.counts, count)),
        count_now: counted_text(&pool.counts, pool_count(state, pool)),
        used: counted_text(&pool.counts, pool_used(state, pool)),
        profiles: pool.profiles.clone(),
    }
}

fn policy_view(state: &State, policy: &AllocationPolicy) -> AllocationPolicyView {
    let login_name = |user: &String| {
        let user = state.user_by_ref(user);
        user.map(|user| user.username.clone())
    };
    let group_name = |id| match state.user_groups.get(&id) {
        Some(group) => group.name.clone(),
        None => id.to_string(),
    };
    AllocationPolicyView {
        name: policy.name.clone(),
        description: policy.description.clone(),
        users: policy.users.as_ref().map(|users| {
            let mut names: Vec<String> = users
                .iter()
                .map(|user| login_name(user).unwrap_or_else(|| user.clone()))
                .collect();
            names.sort();
            names
        }),
        user_group: policy.user_group.map(group_name),
        reservation: format_milli(policy.reservation),
        limit: policy.limit.map(format_milli),
        profiles: policy
            .profiles
            .iter()
            .map(|entry| PolicyProfileView {
                profile: entry.profile.clone(),
                queue: entry.queue.clone(),
            })
            .collect(),
        pending_timeout_s: policy.pending_timeout_s,
    }
}

fn links(config: &ResourceConfig) -> Vec<LinkView> {
    let pairs = config.profiles.iter().flat_map(|profile| {
        profile.pools.iter().map(|pool| LinkView {
            profile: profile.name.clone(),
            pool: pool.clone(),
        })
    });
    pairs.collect()
}

pub(super) fn counted_text(counts: &Counts, amount: i64) -> String {
    match counts {
        Counts::Slot(slot) => slot.format_amount(amount),
        Counts::Gpu => format_milli(amount),
    }
}

/// Every queue that is live, in the order of the document.
#[must_use]
pub fn queue_views(state: &State) -> Vec<QueueView> {
    let mut counted: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
    for session in state.sessions.values() {
        let Some(seat) = &session.queue else { continue };
        if session.array.is_some() {
            continue; // its tasks are counted
        }
        let (pending, running) = counted.entry((&seat.policy, &seat.profile)).or_default();
        match session.state {
            SessionState::Pending => *pending += 1,
            SessionState::Scheduled | SessionState::Preparing | SessionState::Running => {
                *running += 1;
            }
            _ => (),
        }
    }
    let queues = state.config.config.queues();
    queues
        .map(|queue| {
            let key = (queue.policy.name.as_str(), queue.profile.name.as_str());
            one_queue(
                state,
                &queue,
                counted.get(&key).copied().unwrap_or_default(),
            )
        })
        .collect()
}

fn one_queue(state: &State, queue: &Queue<'_>, (pending, running): (u64, u64)) -> QueueView {
    let used = state.usage_ref(&Account::Policy(queue.policy.name.clone()));
    QueueView {
        name: queue.name.to_owned(),
        policy: queue.policy.name.clone(),
        profile: queue.profile.name.clone(),
        slots: texts(&queue.profile.slots),
        allotment: format_milli(queue.profile.allotment()),
        in_use: format_milli(used.map_or(0, |u| u.allotted)),
        reserved: format_milli(queue.policy.reservation),
        limit: queue.policy.limit.map(format_milli),
        pending,
        running,
        pools: queue.profile.pools.clone(),
    }
}

/// A queue that is live, by its name in any case.
#[must_use]
pub fn queue_view(state: &State, name: &str) -> Option<QueueView> {
    let views = queue_views(state);
    views
        .into_iter()
        .find(|q| q.name.eq_ignore_ascii_case(name))
}

// ----- the draft

pub(super) fn draft_version(state: &State) -> u64 {
    state.config_draft.as_ref().map_or(0, |d| d.version)
}

pub(super) fn saved(
    state: &State,
    base: u64,
    config: ResourceConfig,
    now: Timestamp,
) -> DraftConfig {
    DraftConfig {
        // Never counted anew: the version of a draft that was thrown away must not come again.
        version: draft_version(state) + 1,
        base,
        saved_at: now,
        config,
    }
}

fn draft_decision(state: &State, draft: DraftConfig) -> Decision {
    let object = AdminObject::Draft(Box::new(view_of_draft(state, &draft)));
    let changes = vec![Change::ConfigDraft(Some(Box::new(draft)))];
    Decision::new(object, changes).was(&draft_view(state))
}

pub(super) fn save(
    state: &State,
    expected: Option<u64>,
    request: &ResourceConfigRequest,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    fresh(expected, "The draft", draft_version(state))?;
    let base = state
        .config_draft
        .as_ref()
        .map_or(state.config.version, |d| d.base);
    let mut reader = Reader::default();
    let config = read(state, request, &mut reader);
    let number = |r: &mut Reader, field: &str, member, is: u64| {
        let said = r.whole(field, member, 0, (1 << 53) - 1).flatten();
        if said.is_some_and(|v| u64::try_from(v) != Ok(is)) {
            r.wrong(
                &format!("/{field}"),
                format!("{field} is {is} and cannot be changed."),
            );
        }
    };
    number(
        &mut reader,
        "version",
        &request.version,
        draft_version(state),
    );
    number(&mut reader, "base", &request.base, base);
    if let Some(Some(given)) = reader.list("links", &request.links) {
        let pair = |l: &LinkView| (l.profile.to_lowercase(), l.pool.to_lowercase());
        let given: BTreeSet<_> = given.iter().map(pair).collect();
        let follow: BTreeSet<_> = links(&config).iter().map(pair).collect();
        if given != follow {
            let message = "links follow from the member pools of each profile; change them there.";
            reader.wrong("/links", message);
        }
    }
    reader.done()?;
    Ok(draft_decision(state, saved(state, base, config, now)))
}

pub(super) fn load(
    state: &State,
    expected: Option<u64>,
    config: &ResourceConfig,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    fresh(expected, "The draft", draft_version(state))?;
    let draft = saved(state, state.config.version, config.clone(), now);
    Ok(draft_decision(state, draft))
}

pub(super) fn reset(
    state: &State,
    expected: Option<u64>,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    load(state, expected, &state.config.config, now)
}

/// Reads a document. What refers to something that is not there is kept as it is written:
/// that is for [`super::validate`] to say.
fn read(state: &State, request: &ResourceConfigRequest, r: &mut Reader) -> ResourceConfig {
    let mut config = ResourceConfig::default();
    let bounded = |r: &mut Reader, field: &str, many: usize| {
        if many > ENTRIES {
            r.wrong(
                &format!("/{field}"),
                format!("{field} must be at most {ENTRIES}."),
            );
        }
    };
    if let Some(Some(pools)) = r.list("pools", &request.pools) {
        bounded(r, "pools", pools.len());
        let each = pools.iter().enumerate();
        config.pools = each
            .map(|(at, pool)| r.within(&format!("/pools/{at}"), |r| read_pool(state, pool, r)))
            .collect();
    }
    if let Some(Some(profiles)) = r.list("profiles", &request.profiles) {
        bounded(r, "profiles", profiles.len());
        let each = profiles.iter().enumerate();
        config.profiles = each
            .map(|(at, profile)| r.within(&format!("/profiles/{at}"), |r| read_profile(profile, r)))
            .collect();
    }
    if let Some(Some(policies)) = r.list("allocation_policies", &request.allocation_policies) {
        bounded(r, "allocation_policies", policies.len());
        let each = policies.iter().enumerate();
        config.allocation_policies = each
            .map(|(at, policy)| {
                r.within(&format!("/allocation_policies/{at}"), |r| {
                    read_policy(state, policy, r)
                })
            })
            .collect();
    }
    let names: [(&str, &str, Vec<&str>); 3] = [
        (
            "pools",
            "pool",
            config.pools.iter().map(|p| p.name.as_str()).collect(),
        ),
        (
            "profiles",
            "profile",
            config.profiles.iter().map(|p| p.name.as_str()).collect(),
        ),
        (
            "allocation_policies",
            "allocation policy",
            config
                .allocation_policies
                .iter()
                .map(|p| p.name.as_str())
                .collect(),
        ),
    ];
    for (list, what, names) in names {
        for (at, name) in twice(names.into_iter()) {
            if !name.is_empty() {
                r.wrong(
                    &format!("/{list}/{at}/name"),
                    format!("Another {what} is named {name}."),
                );
            }
        }
    }
    complete(&mut config);
    config
}

/// References get the spelling of what they name; orders that leave something out get it
/// at their end, in the order of the document.
fn complete(config: &mut ResourceConfig) {
    let spell = |refs: &mut Vec<String>, names: &[String]| {
        for name in refs.iter_mut() {
            if let Some(known) = names
                .iter()
                .find(|n| n.to_lowercase() == name.to_lowercase())
            {
                name.clone_from(known);
            }
        }
        let mut seen = BTreeSet::new();
        refs.retain(|name| seen.insert(name.clone()));
    };
    let pools: Vec<String> = config.pools.iter().map(|p| p.name.clone()).collect();
    let profiles: Vec<String> = config.profiles.iter().map(|p| p.name.clone()).collect();
    let policies: Vec<String> = config
        .allocation_policies
        .iter()
        .map(|p| p.name.clone())
        .collect();
    for profile in &mut config.profiles {
        spell(&mut profile.pools, &pools);
        spell(&mut profile.policies, &policies);
    }
    for policy in &mut config.allocation_policies {
        for entry in &mut policy.profiles {
            let mut one = vec![std::mem::take(&mut entry.profile)];
            spell(&mut one, &profiles);
            entry.profile = one.pop().unwrap_or_default();
            if entry.queue.is_empty() {
                entry.queue = format!("{}/{}", policy.name, entry.profile);
            }
        }
    }
    for pool in &mut config.pools {
        spell(&mut pool.profiles, &profiles);
        for profile in config
            .profiles
            .iter()
            .filter(|p| p.pools.contains(&pool.name))
        {
            if !pool.profiles.contains(&profile.name) {
                pool.profiles.push(profile.name.clone());
            }
        }
    }
    for profile in &mut config.profiles {
        for policy in &config.allocation_policies {
            let uses = policy.profiles.iter().any(|e| e.profile == profile.name);
            if uses && !profile.policies.contains(&policy.name) {
                profile.policies.push(policy.name.clone());
            }
        }
    }
}

fn read_pool(state: &State, pool: &PoolRequest, r: &mut Reader) -> Pool {
    let group = r.title("group", &pool.group).unwrap_or_default();
    let counts = match r.text("counts", &pool.counts, 64).flatten() {
        None => Counts::Gpu,
        Some(word) if word.eq_ignore_ascii_case("gpu") => Counts::Gpu,
        Some(word) => match word.parse::<SlotName>() {
            Ok(slot) => Counts::Slot(slot),
            Err(_) => {
                r.wrong("/counts", "counts must be gpu or the name of a slot.");
                Counts::Gpu
            }
        },
    };
    let count = match &counts {
        Counts::Slot(slot) if slot.kind() == SlotKind::Bytes => {
            let slot = slot.clone();
            amount(r, "count", &pool.count, MAX_BYTES, move |text| {
                slot.parse_amount(text)
            })
        }
        _ => amount(r, "count", &pool.count, UNITS, parse_milli),
    };
    Pool {
        name: r.title("name", &pool.name).unwrap_or_default(),
        description: r
            .text("description", &pool.description, DESCRIPTION)
            .flatten()
            .unwrap_or_default(),
        group: state.group_by_ref(&group).map_or(group, |g| g.name.clone()),
        counts,
        count: count.flatten(),
        profiles: names(r, "profiles", &pool.profiles),
    }
}

fn read_profile(profile: &ProfileRequest, r: &mut Reader) -> Profile {
    let mut slots = Slots::new();
    if let Some(Some(given)) = r.object("slots", &profile.slots) {
        let (given, _) = split("/slots", given, r);
        for (name, text) in &given {
            let read = name.parse::<SlotName>().map_err(|e| e.to_string());
            let read = read.and_then(|slot| {
                let amount = slot.parse_amount(text).map_err(|e| e.to_string())?;
                Ok((slot, amount))
            });
            match read {
                Ok((slot, amount)) => slots.set(slot, amount),
                Err(message) => r.wrong(&pointer("/slots", name), format!("{message}.")),
            }
        }
        if let Err(refusal) = families(&slots, "/slots") {
            r.wrong("/slots", refusal.detail);
        }
    }
    let allotment = amount(r, "allotment", &profile.allotment, UNITS, parse_milli).flatten();
    let read = Profile {
        name: r.title("name", &profile.name).unwrap_or_default(),
        slots,
        allotment,
        pools: names(r, "pools", &profile.pools),
        policies: names(r, "policies", &profile.policies),
    };
    if read.slots.is_empty() && !matches!(profile.slots, Member::Wrong(_)) {
        r.wrong("/slots", "A profile gives its jobs something.");
    }
    if read.allotment() <= 0 && !matches!(profile.allotment, Member::Wrong(_)) {
        let message = if allotment.is_some() {
            "allotment must be above 0."
        } else {
            "allotment is required: the slots hold no accelerator that would count."
        };
        r.wrong("/allotment", message);
    }
    read
}

fn read_policy(
    state: &State,
    policy: &AllocationPolicyRequest,
    r: &mut Reader,
) -> AllocationPolicy {
    let name = r.title("name", &policy.name).unwrap_or_default();
    let user_group = r.text("user_group", &policy.user_group, 64).flatten();
    let user_group = user_group.and_then(|name| {
        let found = state.user_group_by_ref(name.trim());
        if found.is_none() {
            let known = state.user_groups.values().map(|group| group.name.as_str());
            r.wrong("/user_group", unknown("group of users", name.trim(), known));
        }
        found.map(|group| group.id)
    });
    let users = match r.list("users", &policy.users) {
        Some(Some(given)) => {
            let mut users = BTreeSet::new();
            for (at, name) in given.iter().enumerate() {
                match state.user_by_ref(name.trim()) {
                    Some(user) => drop(users.insert(user.printed_id())),
                    None => {
                        let known = state.users.values().map(|u| u.username.as_str());
                        r.wrong(&format!("/users/{at}"), unknown("user", name.trim(), known));
                    }
                }
            }
            Some(users)
        }
        _ => None,
    };
    if user_group.is_some() && users.is_some() {
        r.wrong("/users", "Give user_group or users, not both.");
    }
    let mut profiles: Vec<PolicyProfile> = Vec::new();
    if let Some(Some(given)) = r.list("profiles", &policy.profiles) {
        for (at, entry) in given.iter().enumerate() {
            r.within(&format!("/profiles/{at}"), |r| {
                let profile = r.title("profile", &entry.profile).unwrap_or_default();
                let queue = match &entry.queue {
                    Member::Absent | Member::Null => String::new(), // named when all is read
                    given => r.title("queue", given).unwrap_or_default(),
                };
                let given_queue = !queue.is_empty();
                if !given_queue
                    && !is_title(&format!("{name}/{profile}"))
                    && matches!(entry.queue, Member::Absent | Member::Null)
                {
                    r.wrong(
                        "/queue",
                        "queue must be given: policy/profile is longer than 64 characters.",
                    );
                }
                if profiles
                    .iter()
                    .any(|p| p.profile.to_lowercase() == profile.to_lowercase())
                {
                    r.wrong("/profile", format!("Profile {profile} is there already."));
                }
                profiles.push(PolicyProfile { profile, queue });
            });
        }
    }
    let timeout = r.whole("pending_timeout_s", &policy.pending_timeout_s, 0, YEAR_S);
    AllocationPolicy {
        description: r
            .text("description", &policy.description, DESCRIPTION)
            .flatten()
            .unwrap_or_default(),
        user_group,
        users,
        reservation: amount(r, "reservation", &policy.reservation, UNITS, parse_milli)
            .flatten()
            .unwrap_or(0),
        limit: match &policy.limit {
            Member::Value(text) if is_no_limit(text) => None,
            given => amount(r, "limit", given, UNITS, parse_milli).flatten(),
        },
        profiles,
        pending_timeout_s: timeout
            .flatten()
            .and_then(|s| u32::try_from(s).ok())
            .unwrap_or(0),
        name,
    }
}

fn names(r: &mut Reader, field: &str, member: &Member<Vec<String>>) -> Vec<String> {
    let given = r.list(field, member).flatten().unwrap_or_default();
    given.iter().map(|name| name.trim().to_owned()).collect()
}

fn amount(
    r: &mut Reader,
    field: &str,
    member: &Member<String>,
    max: i64,
    parse: impl Fn(&str) -> Result<i64, AmountError>,
) -> Option<Option<i64>> {
    let Some(text) = r.text(field, member, 64)? else {
        return Some(None);
    };
    let between = || format!("{field} must be between 0 and {max}.");
    match parse(&text) {
        Ok(amount) => return Some(Some(amount)),
        Err(AmountError::TooLarge { .. }) => r.wrong(&format!("/{field}"), between()),
        Err(_) if text.starts_with('-') => r.wrong(&format!("/{field}"), between()),
        Err(error) => r.wrong(&format!("/{field}"), format!("{error}.")),
    }
    None
}
