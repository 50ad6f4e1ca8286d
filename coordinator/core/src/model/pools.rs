//! Pools, profiles, links, allocation policies and their queues: one versioned document.

use super::state::{BUILTIN, State};
use longshore_common::amount::{SlotName, Slots};
use longshore_common::ids::{UserGroupId, UserId};
use longshore_common::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The whole configuration; the order of each list is the configured order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ResourceConfig {
    /// Pools, in the order in which dispatch walks them.
    pub pools: Vec<Pool>,
    /// Profiles.
    pub profiles: Vec<Profile>,
    /// Allocation policies.
    pub allocation_policies: Vec<AllocationPolicy>,
}

/// What a pool counts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Counts {
    /// Every accelerator; an instance of a divided GPU as its part of seven.
    #[default]
    Gpu,
    /// One slot.
    Slot(SlotName),
}

/// A number of resources that queues share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// A title, unique among pools.
    pub name: String,
    /// For people.
    pub description: String,
    /// Name of the resource group behind it.
    pub group: String,
    /// What is counted.
    pub counts: Counts,
    /// How much there is, in thousandths; absent = what the agents of the group have.
    pub count: Option<i64>,
    /// Names of the linked profiles, in the order in which they are served.
    pub profiles: Vec<String>,
}

/// A kind of job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// A title, unique among profiles.
    pub name: String,
    /// What one job gets.
    pub slots: Slots,
    /// What one job counts for, in thousandths; absent = the counted amount of `slots`.
    pub allotment: Option<i64>,
    /// Names of the linked pools, in the order in which they are tried.
    pub pools: Vec<String>,
    /// Names of the allocation policies, in the order in which they are served.
    pub policies: Vec<String>,
}

/// What a group of users may have of the pools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationPolicy {
    /// A title, unique among allocation policies.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// The group of users who may use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_group: Option<UserGroupId>,
    /// Those who may use it, by their ids; absent = those of the group, else everybody. One that
    /// was stored before may hold login names.
    pub users: Option<BTreeSet<String>>,
    /// What is kept for it, in thousandths.
    pub reservation: i64,
    /// The most it may use, in thousandths; absent = no limit.
    pub limit: Option<i64>,
    /// Profiles it may use, each with the name of the queue.
    pub profiles: Vec<PolicyProfile>,
    /// A session waiting for longer is cancelled, in seconds; 0 = never.
    pub pending_timeout_s: u32,
}

/// One policy with one profile: a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyProfile {
    /// Name of the profile.
    pub profile: String,
    /// Name of the queue.
    pub queue: String,
}

/// A queue with what it belongs to.
#[derive(Debug, Clone, Copy)]
pub struct Queue<'a> {
    /// Its name.
    pub name: &'a str,
    /// The policy.
    pub policy: &'a AllocationPolicy,
    /// The profile.
    pub profile: &'a Profile,
}

/// The document with its version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveConfig {
    /// Counts what was provisioned; 0 = nothing yet.
    pub version: u64,
    /// When.
    pub provisioned_at: Option<Timestamp>,
    /// By whom.
    pub by: String,
    /// Whether queues are served.
    pub enabled: bool,
    /// The document.
    pub config: ResourceConfig,
}

impl Default for LiveConfig {
    fn default() -> Self {
        Self {
            version: 0,
            provisioned_at: None,
            by: String::new(),
            enabled: true,
            config: ResourceConfig::default(),
        }
    }
}

/// A document that is being worked on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DraftConfig {
    /// Counts saves from 1.
    pub version: u64,
    /// The live version it was made from.
    pub base: u64,
    /// When it was saved last.
    pub saved_at: Timestamp,
    /// The document.
    pub config: ResourceConfig,
}

impl Pool {
    /// How much of what this pool counts a request asks for, in thousandths.
    #[must_use]
    pub fn counted(&self, slots: &Slots) -> i64 {
        counted(&self.counts, slots)
    }
}

fn counted(counts: &Counts, slots: &Slots) -> i64 {
    match counts {
        Counts::Slot(slot) => slots.amount(slot),
        Counts::Gpu => slots
            .iter()
            .filter(|(slot, _)| slot.is_accelerator())
            .map(|(slot, amount)| match mig_slices(slot) {
                Some(slices) => amount.saturating_mul(slices) / 7,
                None => amount,
            })
            .sum(),
    }
}

/// Compute slices of a divided GPU's instance, from its profile's name: `mig-3g.20gb` is 3.
fn mig_slices(slot: &SlotName) -> Option<i64> {
    let profile = slot.variant().strip_prefix("mig-")?;
    let (slices, _) = profile.split_once('g')?;
    slices.parse().ok().filter(|n| (1..=7).contains(n))
}

impl Profile {
    /// What one job counts for, in thousandths.
    #[must_use]
    pub fn allotment(&self) -> i64 {
        self.allotment
            .unwrap_or_else(|| counted(&Counts::Gpu, &self.slots))
    }
}

impl AllocationPolicy {
    /// Whether a person may use it.
    #[must_use]
    pub fn admits(&self, state: &State, user: UserId) -> bool {
        if let Some(group) = self.user_group {
            return group == BUILTIN.users || state.groups_of(user).any(|of| of.id == group);
        }
        self.users.as_ref().is_none_or(|users| {
            let user = state.users.get(&user);
            user.is_some_and(|u| users.contains(&u.printed_id()) || users.contains(&u.username))
        })
    }
}

impl ResourceConfig {
    /// A pool by its name.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.iter().find(|p| p.name == name)
    }

    /// The pool behind which a resource group stands.
    #[must_use]
    pub fn pool_of_group(&self, group: &str) -> Option<&Pool> {
        self.pools
            .iter()
            .find(|p| p.group.eq_ignore_ascii_case(group))
    }

    /// A profile by its name.
    #[must_use]
    pub fn profile(&self, name: &str) -> Option<&Profile> {
        self.profiles.iter().find(|p| p.name == name)
    }

    /// An allocation policy by its name.
    #[must_use]
    pub fn policy(&self, name: &str) -> Option<&AllocationPolicy> {
        self.allocation_policies.iter().find(|p| p.name == name)
    }

    /// A queue by its name.
    #[must_use]
    pub fn queue(&self, name: &str) -> Option<Queue<'_>> {
        self.queues().find(|q| q.name == name)
    }

    /// Every queue whose profile exists, by policy, then in the policy's order of profiles.
    pub fn queues(&self) -> impl Iterator<Item = Queue<'_>> {
        self.allocation_policies.iter().flat_map(|policy| {
            policy.profiles.iter().filter_map(|entry| {
                Some(Queue {
                    name: &entry.queue,
                    policy,
                    profile: self.profile(&entry.profile)?,
                })
            })
        })
    }
}
