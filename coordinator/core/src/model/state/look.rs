//! Answers to questions that are asked often.

use super::State;
use crate::model::entities::{Agent, Group, Session};
use crate::model::people::{Keypair, KeypairState};
use crate::model::policies::{Domain, KeypairPolicy, Preset, Project};
use longshore_common::ids::{
    AgentId, ContainerKey, CoordinatorGeneration, DomainId, GroupId, PresetId, ProjectId,
    SessionId, UserId,
};
use longshore_common::time::Timestamp;
use std::collections::BTreeSet;

impl State {
    /// Arrays of a person of which tasks are still to be made, the oldest first.
    pub fn open_arrays(&self, owner: UserId) -> impl Iterator<Item = SessionId> {
        self.open_arrays.get(&owner).into_iter().flatten().copied()
    }

    /// Sessions that wait for what becomes of this one.
    pub fn dependants(&self, id: SessionId) -> impl Iterator<Item = SessionId> {
        self.dependants.get(&id).into_iter().flatten().copied()
    }

    /// A person's keypairs, by access key; revoked ones, which are kept for history, left out.
    pub fn keypairs_of(&self, user: UserId) -> impl Iterator<Item = &Keypair> {
        let all = self.all_keypairs_of(user);
        all.filter(|k| k.state != KeypairState::Revoked)
    }

    /// The same with those that were revoked: they may still own sessions.
    pub fn all_keypairs_of(&self, user: UserId) -> impl Iterator<Item = &Keypair> {
        self.keypairs_of
            .get(&user)
            .into_iter()
            .flatten()
            .filter_map(|key| self.keypairs.get(key))
    }

    /// The keypair whose policy limits a person as a whole.
    #[must_use]
    pub fn main_keypair(&self, user: UserId) -> Option<&Keypair> {
        let mut all = self.keypairs_of(user);
        all.find(|k| k.main).or_else(|| {
            let mut left = self.keypairs_of(user);
            left.find(|k| k.project.is_none())
        })
    }

    /// The policy of a keypair.
    #[must_use]
    pub fn policy_of(&self, keypair: &Keypair) -> Option<&KeypairPolicy> {
        self.keypair_policies
            .get(&keypair.policy.to_ascii_lowercase())
    }

    /// A domain by name (any case) or id.
    #[must_use]
    pub fn domain_by_ref(&self, text: &str) -> Option<&Domain> {
        match text.parse::<DomainId>() {
            Ok(id) => self.domains.get(&id),
            Err(_) => self
                .domains
                .values()
                .find(|d| d.name.eq_ignore_ascii_case(text)),
        }
    }

    /// A project by name (any case) or id; a name is looked for in the domain given first.
    #[must_use]
    pub fn project_by_ref(&self, text: &str, domain: Option<DomainId>) -> Option<&Project> {
        match text.parse::<ProjectId>() {
            Ok(id) => self.projects.get(&id),
            Err(_) => self
                .projects
                .values()
                .filter(|p| p.name.eq_ignore_ascii_case(text))
                .min_by_key(|p| domain.is_some_and(|d| d != p.domain)),
        }
    }

    /// A preset by name (any case) or id.
    #[must_use]
    pub fn preset_by_ref(&self, text: &str) -> Option<&Preset> {
        match text.parse::<PresetId>() {
            Ok(id) => self.presets.get(&id),
            Err(_) => self
                .presets
                .values()
                .find(|p| p.name.eq_ignore_ascii_case(text)),
        }
    }

    /// Waiting sessions of a group in their order.
    pub fn queue(&self, group: GroupId) -> impl Iterator<Item = &Session> {
        self.queues
            .get(&group)
            .into_iter()
            .flatten()
            .filter_map(|(_, _, id)| self.sessions.get(id))
    }

    /// Groups in which somebody waits.
    pub fn groups_with_pending(&self) -> impl Iterator<Item = GroupId> {
        self.queues.keys().copied()
    }

    /// How many wait in a group.
    #[must_use]
    pub fn pending_count(&self, group: GroupId) -> usize {
        self.queues.get(&group).map_or(0, BTreeSet::len)
    }

    /// Sessions that have a network for containers that are not closed.
    pub fn networked(&self) -> impl Iterator<Item = SessionId> {
        self.networked.iter().copied()
    }

    /// Waiting sessions that found no range for their network.
    pub fn awaiting_range(&self) -> impl Iterator<Item = SessionId> {
        self.awaiting_range.iter().copied()
    }

    /// Containers on an agent that are not closed.
    pub fn on_agent(&self, agent: AgentId) -> impl Iterator<Item = ContainerKey> {
        self.on_agent.get(&agent).into_iter().flatten().copied()
    }

    /// The live session of this name.
    #[must_use]
    pub fn session_by_name(&self, owner: UserId, name: &str) -> Option<SessionId> {
        self.names.get(&(owner, name.to_owned())).copied()
    }

    /// Sessions whose deadline is at or before `now`.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> Vec<SessionId> {
        self.deadlines
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, id)| *id)
            .collect()
    }

    /// The next instant at which something is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let sessions = self.deadlines.first().map(|(at, _)| *at);
        let drains = self.drains.first().map(|(at, _)| *at);
        let undecided = self.undecided.first().map(|(at, _)| *at);
        sessions.into_iter().chain(drains).chain(undecided).min()
    }

    /// Nodes that have to be empty at or before `now`, and where what is left was not yet
    /// told to stop.
    #[must_use]
    pub fn drains_due(&self, now: Timestamp) -> Vec<AgentId> {
        let due = self.drains.iter().take_while(|(at, _)| *at <= now);
        due.map(|(_, id)| *id).collect()
    }

    /// Nodes with containers that no order names and nobody has decided about.
    pub fn undecided(&self) -> impl Iterator<Item = AgentId> {
        self.undecided.iter().map(|(_, id)| *id)
    }

    /// Requests that were made before `before`, at most `most`.
    #[must_use]
    pub fn old_idempotency(&self, before: Timestamp, most: usize) -> Vec<(UserId, String)> {
        self.idempotency_age
            .iter()
            .take_while(|(at, ..)| *at < before)
            .take(most)
            .map(|(_, caller, key)| (*caller, key.clone()))
            .collect()
    }

    /// A group by name (any case) or id.
    #[must_use]
    pub fn group_by_ref(&self, text: &str) -> Option<&Group> {
        match text.parse::<GroupId>() {
            Ok(id) => self.groups.get(&id),
            Err(_) => self
                .groups
                .values()
                .find(|g| g.name.eq_ignore_ascii_case(text)),
        }
    }

    /// An agent by name (any case) or id; those that are not TERMINATED come first.
    #[must_use]
    pub fn agent_by_ref(&self, text: &str) -> Option<&Agent> {
        use longshore_common::agent::AgentState::Terminated;
        match text.parse::<AgentId>() {
            Ok(id) => self.agents.get(&id),
            Err(_) => self
                .agents
                .values()
                .filter(|a| a.name.eq_ignore_ascii_case(text))
                .min_by_key(|a| a.state == Terminated),
        }
    }

    /// The generation of this life of the coordinator.
    #[must_use]
    pub fn generation(&self) -> CoordinatorGeneration {
        self.meta.generation
    }
}
