//! Everything the coordinator keeps in memory, and the one way to change it.
//!
//! Sessions that are final and confirmed are forgotten here; the store keeps them.
//! The indexes are answers to questions asked often; each is rebuilt from the rows
//! it speaks of whenever one of them changes, so none can drift.

mod books;
mod check;
mod index;
mod look;
mod people;

pub use books::{Account, AgentUse, Usage};
pub use people::{BUILTIN, FACTORY_RULE};

use super::announce::Announcement;
use super::audited::AuditHead;
use super::change::{Change, PolicyKind};
use super::entities::{Agent, Charge, Group, Idempotency, JoinToken, LedgerRow, Meta, Session};
use super::images::Image;
use super::loaded::LoadedConfig;
use super::notify::{NotifyChoice, NotifySettings};
use super::people::{AccessRule, Invitation, Keypair, Login, User, UserGroup};
use super::policies::{
    Domain, KeypairPolicy, PeopleSettings, Preset, Project, ProjectPolicy, SchedulerSettings,
    StoredSettings, UserPolicy,
};
use super::pools::{DraftConfig, LiveConfig};
use super::table::Table;
use super::vaults::{Vault, VaultContent};
use books::{Payer, RowId};
use longshore_common::amount::SlotName;
use longshore_common::ids::{
    AccessRuleId, AgentId, AnnouncementId, Attempt, ContainerKey, DomainId, GroupId, InvitationId,
    LoginId, PresetId, ProjectId, SessionId, UserGroupId, UserId, VaultId,
};
use longshore_common::time::Timestamp;
use longshore_identity::throttle::Throttle;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Place in a queue: higher priority first, then the older, then the lower number.
pub type QueueKey = (Reverse<u8>, Timestamp, SessionId);

/// Domains and projects as they were when they were deleted. They are few, and open nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gone {
    /// Domains.
    pub domains: BTreeMap<DomainId, Domain>,
    /// Projects.
    pub projects: BTreeMap<ProjectId, Project>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Facts of the installation.
    pub meta: Meta,
    /// People.
    pub users: BTreeMap<UserId, User>,
    /// Keypairs by access key.
    pub keypairs: BTreeMap<String, Keypair>,
    /// Logins that are not over.
    pub logins: BTreeMap<LoginId, Login>,
    /// Links that work once.
    pub invitations: BTreeMap<InvitationId, Invitation>,
    /// Groups of users, the built-in ones among them.
    pub user_groups: BTreeMap<UserGroupId, UserGroup>,
    /// Access rules.
    pub access_rules: BTreeMap<AccessRuleId, AccessRule>,
    /// Vaults. Of somebody that never saved one there is none.
    pub vaults: BTreeMap<VaultId, Vault>,
    /// What they hold, encrypted.
    pub vault_contents: BTreeMap<VaultId, VaultContent>,
    /// Failed logins.
    pub throttle: Throttle,
    /// Resource groups.
    pub groups: BTreeMap<GroupId, Group>,
    /// What groups do that do not say.
    pub scheduler: SchedulerSettings,
    /// What the configuration says about people.
    pub people_settings: PeopleSettings,
    /// What administrators stored of the configuration.
    pub settings: StoredSettings,
    /// Which configuration was loaded last.
    pub loaded: LoadedConfig,
    /// What everybody is to read.
    pub announcements: BTreeMap<AnnouncementId, Announcement>,
    /// Who is told at all.
    pub notify: NotifySettings,
    /// What people chose to be told of.
    pub notify_choices: BTreeMap<UserId, NotifyChoice>,
    /// Domains.
    pub domains: BTreeMap<DomainId, Domain>,
    /// Projects.
    pub projects: BTreeMap<ProjectId, Project>,
    /// Domains and projects that are gone, for the names of what is past.
    pub gone: Gone,
    /// Keypair policies by their name in lower case.
    pub keypair_policies: BTreeMap<String, KeypairPolicy>,
    /// User policies by their name in lower case.
    pub user_policies: BTreeMap<String, UserPolicy>,
    /// Project policies by their name in lower case.
    pub project_policies: BTreeMap<String, ProjectPolicy>,
    /// Presets.
    pub presets: BTreeMap<PresetId, Preset>,
    /// What is said of images, by their canonical names.
    pub images: BTreeMap<String, Image>,
    /// Pools and queues.
    pub config: LiveConfig,
    /// What is being prepared of them.
    pub config_draft: Option<DraftConfig>,
    /// Tries counted, by group, priority and shape.
    pub charges: BTreeMap<(GroupId, u8, String), Charge>,
    /// Agents last taken in turn, by group and architecture.
    pub cursors: BTreeMap<(GroupId, String), String>,
    /// Nodes.
    pub agents: Table<AgentId, Agent>,
    /// Join tokens by their public part.
    pub tokens: BTreeMap<String, JoinToken>,
    /// Sessions that are not settled.
    pub sessions: Table<SessionId, Session>,
    /// Open claims per container.
    pub ledger: BTreeMap<ContainerKey, BTreeMap<RowId, LedgerRow>>,
    /// Requests that may be repeated.
    pub idempotency: BTreeMap<(UserId, String), Idempotency>,
    /// The end of the audit log.
    pub audit: AuditHead,
    queues: BTreeMap<GroupId, BTreeSet<QueueKey>>,
    on_agent: BTreeMap<AgentId, BTreeSet<ContainerKey>>,
    rows_on_agent: BTreeMap<AgentId, BTreeSet<ContainerKey>>,
    agent_use: BTreeMap<AgentId, AgentUse>,
    names: BTreeMap<(UserId, String), SessionId>,
    deadlines: BTreeSet<(Timestamp, SessionId)>,
    /// When which node has to be empty.
    drains: BTreeSet<(Timestamp, AgentId)>,
    /// Nodes with containers that no order names, by when they are stopped.
    undecided: BTreeSet<(Timestamp, AgentId)>,
    idempotency_age: BTreeSet<(Timestamp, UserId, String)>,
    keypairs_of: BTreeMap<UserId, BTreeSet<String>>,
    usage: BTreeMap<Account, Usage>,
    waiting: BTreeMap<Account, Usage>,
    payers: BTreeMap<(SessionId, Attempt), Payer>,
    dependants: BTreeMap<SessionId, BTreeSet<SessionId>>,
    open_arrays: BTreeMap<UserId, BTreeSet<SessionId>>,
    /// Sessions of which a network may be there.
    networked: BTreeSet<SessionId>,
    /// Waiting sessions that found no range for their network.
    awaiting_range: BTreeSet<SessionId>,
    /// How many nodes have devices of a slot.
    device_slots: BTreeMap<SlotName, u32>,
    people: people::Index,
}

impl State {
    /// Seconds between the stop signal and the kill where nobody says.
    pub(crate) fn stop_grace_s(&self) -> u32 {
        self.scheduler.lives.stop_grace_s
    }

    /// An installation with nothing in it.
    #[must_use]
    pub fn new(meta: Meta) -> Self {
        Self {
            meta,
            users: BTreeMap::new(),
            keypairs: BTreeMap::new(),
            logins: BTreeMap::new(),
            invitations: BTreeMap::new(),
            user_groups: people::builtin_groups(),
            access_rules: BTreeMap::new(),
            vaults: BTreeMap::new(),
            vault_contents: BTreeMap::new(),
            throttle: Throttle::default(),
            groups: BTreeMap::new(),
            scheduler: SchedulerSettings::default(),
            people_settings: PeopleSettings::default(),
            loaded: LoadedConfig::default(),
            announcements: BTreeMap::new(),
            notify: NotifySettings::default(),
            notify_choices: BTreeMap::new(),
            settings: StoredSettings::default(),
            domains: BTreeMap::new(),
            projects: BTreeMap::new(),
            gone: Gone::default(),
            keypair_policies: BTreeMap::new(),
            user_policies: BTreeMap::new(),
            project_policies: BTreeMap::new(),
            presets: BTreeMap::new(),
            images: BTreeMap::new(),
            config: LiveConfig::default(),
            config_draft: None,
            charges: BTreeMap::new(),
            cursors: BTreeMap::new(),
            agents: Table::new(),
            tokens: BTreeMap::new(),
            sessions: Table::new(),
            ledger: BTreeMap::new(),
            idempotency: BTreeMap::new(),
            audit: AuditHead::default(),
            queues: BTreeMap::new(),
            on_agent: BTreeMap::new(),
            rows_on_agent: BTreeMap::new(),
            agent_use: BTreeMap::new(),
            names: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            drains: BTreeSet::new(),
            undecided: BTreeSet::new(),
            idempotency_age: BTreeSet::new(),
            keypairs_of: BTreeMap::new(),
            usage: BTreeMap::new(),
            waiting: BTreeMap::new(),
            payers: BTreeMap::new(),
            dependants: BTreeMap::new(),
            open_arrays: BTreeMap::new(),
            networked: BTreeSet::new(),
            awaiting_range: BTreeSet::new(),
            device_slots: BTreeMap::new(),
            people: people::Index::default(),
        }
    }

    /// Takes a stored change in. Cannot fail.
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Meta(meta) => self.meta = meta.clone(),
            Change::User(_)
            | Change::Keypair(_)
            | Change::Login(_)
            | Change::LoginEnded(_)
            | Change::Invitation(_)
            | Change::InvitationForgotten(_)
            | Change::UserGroup(_)
            | Change::UserGroupDeleted(_)
            | Change::AccessRule(_)
            | Change::AccessRuleDeleted(_)
            | Change::Throttle(_) => self.apply_people(change),
            Change::Vault(vault) => drop(self.vaults.insert(vault.id, (**vault).clone())),
            Change::VaultContent(content) => {
                self.vault_contents.insert(content.vault, content.clone());
            }
            Change::Given(_) | Change::Delivered(_) => (), // memory does not keep it
            Change::VaultDeleted(id) => {
                self.vaults.remove(id);
                self.vault_contents.remove(id);
            }
            Change::Group(group) => {
                self.groups.insert(group.id, group.clone());
            }
            Change::GroupDeleted(id) => {
                self.groups.remove(id);
            }
            Change::Scheduler(settings) => self.scheduler = settings.clone(),
            Change::PeopleSettings(settings) => {
                self.throttle.set_limits(settings.throttle);
                self.people_settings = settings.clone();
            }
            Change::Settings(settings) => self.settings = settings.clone(),
            Change::Loaded(loaded) => self.loaded.clone_from(loaded),
            Change::Announcement(new) => drop(self.announcements.insert(new.id, new.clone())),
            Change::AnnouncementDeleted(id) => drop(self.announcements.remove(id)),
            Change::NotifySettings(settings) => self.notify = settings.clone(),
            Change::NotifyChoice(choice) => {
                self.notify_choices.insert(choice.user, choice.clone());
            }
            Change::Domain(domain) => {
                self.domains.insert(domain.id, domain.clone());
            }
            Change::Project(project) => {
                self.projects.insert(project.id, project.clone());
            }
            Change::DomainDeleted(id) => {
                let domain = self.domains.remove(id);
                self.gone.domains.extend(domain.map(|domain| (*id, domain)));
            }
            Change::ProjectDeleted(id) => {
                let project = self.projects.remove(id);
                self.gone
                    .projects
                    .extend(project.map(|project| (*id, project)));
            }
            Change::KeypairPolicy(policy) => {
                self.keypair_policies
                    .insert(policy.name.to_ascii_lowercase(), (**policy).clone());
            }
            Change::UserPolicy(policy) => {
                self.user_policies
                    .insert(policy.name.to_ascii_lowercase(), policy.clone());
            }
            Change::ProjectPolicy(policy) => {
                self.project_policies
                    .insert(policy.name.to_ascii_lowercase(), policy.clone());
            }
            Change::PolicyDeleted(kind, name) => {
                let name = name.to_ascii_lowercase();
                match kind {
                    PolicyKind::Keypair => drop(self.keypair_policies.remove(&name)),
                    PolicyKind::User => drop(self.user_policies.remove(&name)),
                    PolicyKind::Project => drop(self.project_policies.remove(&name)),
                }
            }
            Change::Preset(preset) => {
                self.presets.insert(preset.id, preset.clone());
            }
            Change::Image(image) => {
                self.images.insert(image.reference.clone(), image.clone());
            }
            Change::ImageForgotten(reference) => {
                self.images.remove(reference);
            }
            Change::PresetDeleted(id) => {
                self.presets.remove(id);
            }
            Change::Config(config) => self.config = (**config).clone(),
            Change::ConfigDraft(draft) => self.config_draft = draft.as_deref().cloned(),
            Change::Charged(charge) => {
                self.charges.insert(
                    (charge.group, charge.priority, charge.shape.clone()),
                    charge.clone(),
                );
            }
            Change::ChargeForgotten {
                group,
                priority,
                shape,
            } => {
                self.charges.remove(&(*group, *priority, shape.clone()));
            }
            Change::Cursor(cursor) => {
                self.cursors
                    .insert((cursor.group, cursor.arch.clone()), cursor.agent.clone());
            }
            Change::Agent(agent) => {
                let old = self.agents.insert(agent.id, (**agent).clone());
                self.drains.retain(|(_, id)| *id != agent.id);
                self.drains
                    .extend(agent.drain_due().map(|at| (at, agent.id)));
                if let Some(at) = old.as_ref().and_then(|old| old.unclaimed_due()) {
                    self.undecided.remove(&(at, agent.id));
                }
                self.undecided
                    .extend(agent.unclaimed_due().map(|at| (at, agent.id)));
                self.count_device_slots(old.as_deref(), agent);
                let before = old.as_ref().map_or(&[][..], |old| &old.unclaimed);
                if before != agent.unclaimed {
                    self.recount(agent.id);
                }
            }
            Change::Token(token) => {
                self.tokens.insert(token.id.clone(), token.clone());
            }
            Change::TokenDeleted(id) => {
                self.tokens.remove(id);
            }
            Change::Session(session) => self.apply_session(session),
            Change::History(_)
            | Change::Reached(_)
            | Change::AuditForgotten(_)
            | Change::Note(_)
            | Change::NoteTried(_)
            | Change::NotesForgotten { .. }
            | Change::Replay(..)
            | Change::SessionsForgotten(_)
            | Change::HistoriesForgotten(_)
            | Change::OutputForgotten(_)
            | Change::UsageForgotten { .. }
            | Change::Usage(_) => (),
            Change::Audit(line) => self.audit = line.head(),
            Change::LedgerOpened(row) => self.open_row(row),
            Change::QuotaFreed { key, at } if !crate::bugs::is(16) => {
                self.free_quota(*key);
                for row in self
                    .ledger
                    .get_mut(key)
                    .into_iter()
                    .flat_map(BTreeMap::values_mut)
                {
                    row.quota_freed_at.get_or_insert(*at);
                }
            }
            Change::QuotaFreed { .. } => (),
            Change::LedgerClosed { key, .. } => self.close_rows(*key),
            Change::Idempotency(entry) => {
                self.idempotency_age
                    .insert((entry.at, entry.caller, entry.key.clone()));
                self.idempotency
                    .insert((entry.caller, entry.key.clone()), entry.clone());
            }
            Change::IdempotencyForgotten { caller, key } => {
                if let Some(entry) = self.idempotency.remove(&(*caller, key.clone())) {
                    self.idempotency_age
                        .remove(&(entry.at, *caller, key.clone()));
                }
            }
        }
    }
}
