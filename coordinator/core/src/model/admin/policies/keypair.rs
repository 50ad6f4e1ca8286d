//! Keypair policies: limits on what runs.

use super::super::super::change::Change;
use super::super::super::people::{Keypair, KeypairState, User};
use super::super::super::policies::{KeypairPolicy, LifetimeBase, Unspecified};
use super::super::super::state::State;
use super::super::super::submit::{cut, pointer};
use super::super::AdminObject;
use super::super::impact::Scope;
use super::super::members::{Caps, DESCRIPTION, Reader, Zero, merge, put, put_limit};
use super::super::named::Named;
use super::idle::{default_idle, fill_idle, idle_view};
use super::{Policy, used_by};
use longshore_common::admin::{Finding, KeypairPolicyRequest, KeypairPolicyView, Member};
use longshore_common::agent::AgentState;
use longshore_common::amount::{SlotLimits, SlotName, Slots};
use longshore_common::ids::PolicyId;
use longshore_common::time::Timestamp;
use std::collections::BTreeMap;

/// A year in seconds.
const YEAR_S: i64 = 31_536_000;
/// Half a year, nearly: longest idle time, in seconds.
pub(super) const IDLE_S: i64 = 15_552_000;
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
        used_by: used_by(keypairs_of(state, &policy.name).map(|k| keypair_is_active(state, k))),
        created_at: policy.created_at,
        updated_at: policy.updated_at,
        warnings: warnings(state, &policy.total_slots),
    }
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
            pointer: pointer("/total_slots", slot.as_str()),
            message,
        });
    }
    found
}

pub(super) fn keypairs_of<'a>(
    state: &'a State,
    policy: &'a str,
) -> impl Iterator<Item = &'a Keypair> {
    state
        .keypairs
        .values()
        .filter(move |k| k.state != KeypairState::Revoked && k.policy.eq_ignore_ascii_case(policy))
}

/// A keypair opens something only while its user is active too.
pub(super) fn keypair_is_active(state: &State, keypair: &Keypair) -> bool {
    keypair.is_active() && state.users.get(&keypair.user).is_some_and(User::is_active)
}

impl Named for KeypairPolicy {
    const WHAT: &'static str = "keypair policy";

    fn head(&self) -> (&str, u64) {
        (&self.name, self.version)
    }

    fn count(&mut self, now: Timestamp) {
        self.version += 1;
        self.updated_at = now;
    }

    fn object(&self, state: &State) -> AdminObject {
        AdminObject::KeypairPolicy(Box::new(keypair_policy_view(state, self)))
    }

    fn change(self) -> Change {
        Change::KeypairPolicy(Box::new(self))
    }

    fn scope(&self, state: &State) -> Scope {
        let keys = keypairs_of(state, &self.name).map(|k| k.access_key.clone());
        Scope::keypairs(state, keys)
    }
}

impl Policy for KeypairPolicy {
    type Request = KeypairPolicyRequest;

    fn all(state: &State) -> &BTreeMap<String, Self> {
        &state.keypair_policies
    }

    fn id(&self) -> PolicyId {
        self.id
    }

    fn renewed(self, id: PolicyId, name: &str, now: Timestamp) -> Self {
        Self {
            id,
            version: 1,
            name: name.to_owned(),
            created_at: now,
            updated_at: now,
            ..self
        }
    }

    fn names(request: &KeypairPolicyRequest) -> (&Member<String>, &Member<String>) {
        (&request.name, &request.clone)
    }

    fn fill(&mut self, request: &KeypairPolicyRequest, r: &mut Reader) {
        put(
            &mut self.description,
            r.text("description", &request.description, DESCRIPTION),
            String::new(),
        );
        merge(
            &mut self.total_slots,
            r.limits("total_slots", &request.total_slots, Caps::Policy),
        );
        let unspecified = r.word("default_for_unspecified", &request.default_for_unspecified);
        put(
            &mut self.default_for_unspecified,
            unspecified,
            Unspecified::Unlimited,
        );
        let sessions = r.limit(
            "max_concurrent_sessions",
            &request.max_concurrent_sessions,
            100,
            Zero::Lifts,
        );
        put_limit(&mut self.max_concurrent_sessions, sessions);
        let system = r.limit(
            "max_concurrent_sftp_sessions",
            &request.max_concurrent_sftp_sessions,
            100,
            Zero::Lifts,
        );
        put_limit(&mut self.max_concurrent_sftp_sessions, system);
        let containers = r.limit(
            "max_containers_per_session",
            &request.max_containers_per_session,
            100,
            Zero::Lifts,
        );
        put_limit(&mut self.max_containers_per_session, containers);
        let pending = r.limit(
            "max_pending_session_count",
            &request.max_pending_session_count,
            100_000,
            Zero::Lifts,
        );
        put_limit(&mut self.max_pending_session_count, pending);
        let slots = r.limits(
            "max_pending_session_slots",
            &request.max_pending_session_slots,
            Caps::Policy,
        );
        merge(&mut self.max_pending_session_slots, slots);
        put_limit(
            &mut self.max_priority,
            r.limit("max_priority", &request.max_priority, 100, Zero::Counts),
        );
        let life = r.limit(
            "max_session_lifetime_s",
            &request.max_session_lifetime_s,
            YEAR_S,
            Zero::Lifts,
        );
        put_limit(&mut self.max_session_lifetime_s, life);
        put(
            &mut self.lifetime_base,
            r.word("lifetime_base", &request.lifetime_base),
            LifetimeBase::Created,
        );
        let often = r.count(
            "extension_max_count",
            &request.extension_max_count,
            100,
            Zero::Counts,
        );
        put_limit(&mut self.extension_max_count, often);
        let step = r.count(
            "extension_max_s",
            &request.extension_max_s,
            604_800,
            Zero::Lifts,
        );
        put_limit(&mut self.extension_max_s, step);
        let total = r.limit(
            "max_total_lifetime_s",
            &request.max_total_lifetime_s,
            YEAR_S,
            Zero::Lifts,
        );
        put_limit(&mut self.max_total_lifetime_s, total);
        let idle = r.count(
            "idle_timeout_s",
            &request.idle_timeout_s,
            IDLE_S,
            Zero::Lifts,
        );
        put_limit(&mut self.idle_timeout_s, idle);
        match r.object("idle", &request.idle) {
            None => (),
            Some(None) => self.idle = None,
            Some(Some(wish)) => {
                let mut rules = self.idle.clone().unwrap_or_else(default_idle);
                r.within("/idle", |r| fill_idle(&mut rules, wish, r));
                self.idle = Some(rules);
            }
        }
        if let Some(bytes) = r.limit_size("max_shm", &request.max_shm, SHM_BYTES) {
            self.max_shm = bytes;
        }
        put_limit(
            &mut self.max_pids,
            r.count("max_pids", &request.max_pids, 1_048_576, Zero::Lifts),
        );
        put(
            &mut self.root_in_container,
            r.flag("root_in_container", &request.root_in_container),
            false,
        );
        match r.object("allowed_hosts", &request.allowed_hosts) {
            None => (),
            Some(None) => self.allowed_hosts.clear(),
            Some(Some(hosts)) => fill_hosts(self, hosts, r),
        }
    }
}

fn fill_hosts(
    policy: &mut KeypairPolicy,
    hosts: &BTreeMap<String, Member<Vec<String>>>,
    r: &mut Reader,
) {
    for (volume, member) in hosts {
        let at = pointer("/allowed_hosts", volume);
        match member {
            Member::Absent | Member::Null => drop(policy.allowed_hosts.remove(volume)),
            Member::Value(verbs) => {
                let bad = verbs.iter().find(|verb| !VERBS.contains(&verb.as_str()));
                if let Some(bad) = bad {
                    let message = format!(
                        "There is no permission {}; there are {}.",
                        cut(bad),
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
