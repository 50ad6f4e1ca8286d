//! What is to be said about a document of pools and queues before it becomes live.

use super::super::pools::{AllocationPolicy, Pool, Profile, ResourceConfig};
use super::super::state::State;
use super::super::submit::cut;
use super::config::counted_text;
use super::members::unknown;
use crate::scheduler::pool_count;
use longshore_common::admin::Finding;
use longshore_common::amount::format_milli;
use std::collections::BTreeMap;

/// What is to be said about a document: errors, then warnings, each in its order.
#[must_use]
pub fn validate(state: &State, config: &ResourceConfig) -> Vec<Finding> {
    let mut errors = Findings::new("error");
    pool_errors(state, config, &mut errors);
    profile_errors(state, config, &mut errors);
    policy_errors(state, config, &mut errors);
    let mut warnings = Findings::new("warning");
    for (at, pool) in config.pools.iter().enumerate() {
        let have = pool_count(
            state,
            &Pool {
                count: None,
                ..pool.clone()
            },
        );
        if let Some(count) = pool.count.filter(|count| *count != have) {
            let (count, have) = (
                counted_text(&pool.counts, count),
                counted_text(&pool.counts, have),
            );
            warnings.add(
                "count-differs",
                format!("/pools/{at}/count"),
                format!(
                    "Pool {} counts {count}; the agents of group {} have {have}.",
                    pool.name, pool.group
                ),
            );
        }
    }
    for (at, profile) in config.profiles.iter().enumerate() {
        let used = config
            .allocation_policies
            .iter()
            .any(|p| p.profiles.iter().any(|e| e.profile == profile.name));
        if !used {
            let message = format!("No allocation policy uses profile {}.", profile.name);
            warnings.add("profile-unused", format!("/profiles/{at}"), message);
        }
    }
    policy_warnings(state, config, &mut warnings);
    errors.found.append(&mut warnings.found);
    errors.found
}

struct Findings {
    level: &'static str,
    found: Vec<Finding>,
}

impl Findings {
    const fn new(level: &'static str) -> Self {
        Self {
            level,
            found: Vec::new(),
        }
    }

    fn add(&mut self, rule: &str, pointer: String, message: String) {
        self.found.push(Finding {
            level: self.level.to_owned(),
            rule: rule.to_owned(),
            pointer,
            message,
        });
    }
}

fn pool_errors(state: &State, config: &ResourceConfig, errors: &mut Findings) {
    for (at, pool) in config.pools.iter().enumerate() {
        let here = format!("/pools/{at}/group");
        match state.group_by_ref(&pool.group) {
            None => {
                let known = state.groups.values().map(|g| g.name.as_str());
                errors.add(
                    "group-unknown",
                    here.clone(),
                    unknown("resource group", &pool.group, known),
                );
            }
            Some(group) if !group.active => {
                let message = format!("Resource group {} is not active.", group.name);
                errors.add("group-inactive", here.clone(), message);
            }
            Some(_) => (),
        }
        let before = &config.pools[..at];
        if let Some(other) = before
            .iter()
            .find(|p| p.group.eq_ignore_ascii_case(&pool.group))
        {
            let message = format!("Group {} backs pool {} already.", pool.group, other.name);
            errors.add("group-taken", here, message);
        }
        for (place, name) in pool.profiles.iter().enumerate() {
            let linked = config
                .profile(name)
                .is_some_and(|p| p.pools.contains(&pool.name));
            if !linked {
                let message = format!("Profile {} is not linked to pool {}.", cut(name), pool.name);
                errors.add(
                    "order-not-linked",
                    format!("/pools/{at}/profiles/{place}"),
                    message,
                );
            }
        }
    }
}

fn profile_errors(state: &State, config: &ResourceConfig, errors: &mut Findings) {
    for (at, profile) in config.profiles.iter().enumerate() {
        if profile.pools.is_empty() {
            let message = format!("Profile {} is linked to no pool.", profile.name);
            errors.add(
                "profile-without-pool",
                format!("/profiles/{at}/pools"),
                message,
            );
        }
        for (place, name) in profile.pools.iter().enumerate() {
            if config.pool(name).is_none() {
                let known = config.pools.iter().map(|p| p.name.as_str());
                let message = unknown("pool", name, known);
                errors.add(
                    "pool-unknown",
                    format!("/profiles/{at}/pools/{place}"),
                    message,
                );
            }
        }
        let counts: Vec<(&Pool, i64)> = profile
            .pools
            .iter()
            .filter_map(|name| config.pool(name))
            .map(|pool| (pool, pool_count(state, pool)))
            .collect();
        let most = counts.iter().map(|(_, count)| *count).max();
        if let Some(most) = most.filter(|most| profile.allotment() > *most) {
            let message = format!(
                "Profile {} counts {}; the largest pool it is linked to has {}.",
                profile.name,
                format_milli(profile.allotment()),
                format_milli(most)
            );
            errors.add(
                "allotment-above-count",
                format!("/profiles/{at}/allotment"),
                message,
            );
        }
        for (place, name) in profile.policies.iter().enumerate() {
            let uses = config
                .policy(name)
                .is_some_and(|p| p.profiles.iter().any(|e| e.profile == profile.name));
            if !uses {
                let message = format!(
                    "Allocation policy {} does not use profile {}.",
                    cut(name),
                    profile.name
                );
                errors.add(
                    "order-not-linked",
                    format!("/profiles/{at}/policies/{place}"),
                    message,
                );
            }
        }
    }
}

fn policy_errors(state: &State, config: &ResourceConfig, errors: &mut Findings) {
    let mut queues: BTreeMap<String, (&str, &str)> = BTreeMap::new();
    for (at, policy) in config.allocation_policies.iter().enumerate() {
        let here = format!("/allocation_policies/{at}");
        if let Some(limit) = policy.limit.filter(|limit| policy.reservation > *limit) {
            let message = format!(
                "Allocation policy {} reserves {} and is limited to {}.",
                policy.name,
                format_milli(policy.reservation),
                format_milli(limit)
            );
            errors.add(
                "reservation-above-limit",
                format!("{here}/reservation"),
                message,
            );
        }
        for (place, entry) in policy.profiles.iter().enumerate() {
            let there = format!("{here}/profiles/{place}");
            match config.profile(&entry.profile) {
                None => {
                    let known = config.profiles.iter().map(|p| p.name.as_str());
                    let message = unknown("profile", &entry.profile, known);
                    errors.add("profile-unknown", format!("{there}/profile"), message);
                }
                Some(profile) => {
                    if let Some(limit) = policy.limit.filter(|limit| profile.allotment() > *limit) {
                        let message = format!(
                            "Profile {} counts {}; allocation policy {} is limited to {}.",
                            profile.name,
                            format_milli(profile.allotment()),
                            policy.name,
                            format_milli(limit)
                        );
                        errors.add("allotment-above-limit", there.clone(), message);
                    }
                }
            }
            let holder = queues.insert(entry.queue.to_lowercase(), (&policy.name, &entry.profile));
            if let Some((policy, profile)) = holder {
                let message = format!("{} is the queue of {policy} with {profile}.", entry.queue);
                errors.add("queue-taken", format!("{there}/queue"), message);
            }
        }
    }
    let reserved: i64 = config
        .allocation_policies
        .iter()
        .map(|p| p.reservation)
        .sum();
    let counted: i64 = config.pools.iter().map(|p| pool_count(state, p)).sum();
    if reserved > counted {
        let message = format!(
            "{} are reserved in all; the pools have {}.",
            format_milli(reserved),
            format_milli(counted)
        );
        errors.add(
            "reservations-above-counts",
            "/allocation_policies".to_owned(),
            message,
        );
    }
}

fn policy_warnings(state: &State, config: &ResourceConfig, warnings: &mut Findings) {
    let left_over = left_over(state, config);
    for (at, policy) in config.allocation_policies.iter().enumerate() {
        let here = format!("/allocation_policies/{at}");
        let profiles = policy
            .profiles
            .iter()
            .filter_map(|e| config.profile(&e.profile));
        let uneven = profiles
            .filter(|p| p.allotment() > 0 && policy.reservation % p.allotment() != 0)
            .map(|p| format!("{} ({})", format_milli(p.allotment()), p.name));
        let uneven: Vec<String> = uneven.collect();
        if !uneven.is_empty() {
            let message = format!(
                "The reservation of {}, {}, is no multiple of {}: the rest cannot be used by it.",
                policy.name,
                format_milli(policy.reservation),
                uneven.join(", ")
            );
            warnings.add("reservation-uneven", format!("{here}/reservation"), message);
        }
        if let Some(jobs) = left_over.get(policy.name.as_str()) {
            let message = format!(
                "{jobs} of the reserved jobs of {} find no pool with room beside the other reservations.",
                policy.name
            );
            warnings.add(
                "reservations-do-not-fit",
                format!("{here}/reservation"),
                message,
            );
        }
        let nobody = !state.users.keys().any(|user| policy.admits(state, *user));
        if nobody {
            let message = format!("Nobody may use allocation policy {}.", policy.name);
            let member = match policy.user_group {
                Some(_) => "user_group",
                None => "users",
            };
            warnings.add("users-empty", format!("{here}/{member}"), message);
        }
    }
}

/// Reserved jobs that find no pool when all are packed: each policy's of its largest
/// allotment, the largest first, into the first linked pool that has room.
fn left_over<'a>(state: &State, config: &'a ResourceConfig) -> BTreeMap<&'a str, i64> {
    let mut free: BTreeMap<&str, i64> = config
        .pools
        .iter()
        .map(|p| (p.name.as_str(), pool_count(state, p)))
        .collect();
    let mut jobs: Vec<(i64, i64, &AllocationPolicy, &Profile)> = Vec::new();
    for policy in &config.allocation_policies {
        let profiles = policy
            .profiles
            .iter()
            .filter_map(|e| config.profile(&e.profile));
        // Of equal ones the first: max_by_key would take the last.
        let largest = profiles.rev().max_by_key(|p| p.allotment());
        if let Some(profile) = largest.filter(|p| p.allotment() > 0) {
            let many = policy.reservation / profile.allotment();
            jobs.push((profile.allotment(), many, policy, profile));
        }
    }
    jobs.sort_by_key(|(allotment, ..)| -allotment);
    let mut left = BTreeMap::new();
    for (allotment, mut many, policy, profile) in jobs {
        for pool in &profile.pools {
            if let Some(free) = free.get_mut(pool.as_str()) {
                let here = many.min((*free).max(0) / allotment);
                *free -= here * allotment;
                many -= here;
            }
        }
        if many > 0 {
            left.insert(policy.name.as_str(), many);
        }
    }
    left
}
