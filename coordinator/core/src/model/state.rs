//! Everything the coordinator keeps in memory, and the one way to change it.
//!
//! Sessions that are final and confirmed are forgotten here; the store keeps them.
//! The indexes are answers to questions asked often; each is rebuilt from the rows
//! it speaks of whenever one of them changes, so none can drift.

use super::announce::Announcement;
use super::audited::AuditHead;
use super::change::Change;
use super::change::PolicyKind;
use super::entities::{
    Agent, Charge, Group, Idempotency, JoinToken, LedgerRow, Meta, QueueSeat, Session,
};
use super::images::Image;
use super::notify::{NotifyChoice, NotifySettings};
use super::people::{AccessRule, Invitation, Keypair, KeypairState, Login, User, UserGroup};
use super::policies::{
    Domain, KeypairPolicy, PeopleSettings, Preset, Project, ProjectPolicy, SchedulerSettings,
    StoredSettings, UserPolicy,
};
use super::pools::{DraftConfig, LiveConfig};
use super::table::Table;
use super::vaults::{Vault, VaultContent};
use longshore_common::agent::{AgentState, Inventory};
use longshore_common::amount::{SlotName, Slots};
use longshore_common::devices::Occupied;
use longshore_common::ids::AnnouncementId;
use longshore_common::ids::{
    AccessRuleId, AgentId, Attempt, ContainerKey, CoordinatorGeneration, DeviceId, DomainId,
    GroupId, InvitationId, LoginId, PresetId, ProjectId, SessionId, UserGroupId, UserId, VaultId,
};
use longshore_common::session::{SessionState, SessionType};
use longshore_common::time::Timestamp;
use longshore_common::wire::Claim;
use longshore_identity::throttle::Throttle;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod people;

pub use people::{BUILTIN, FACTORY_RULE};

/// Place in a queue: higher priority first, then the older, then the lower number.
pub type QueueKey = (Reverse<u8>, Timestamp, SessionId);

/// What is taken on one agent: the sum of its open ledger rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AgentUse {
    /// Per slot.
    pub slots: Slots,
    /// Per device.
    pub devices: Occupied,
    /// Containers that are not closed.
    pub containers: u32,
}

impl AgentUse {
    /// What a container holds that no order names.
    fn hold(&mut self, claim: &Claim) {
        self.containers += 1;
        for (slot, amount) in claim.slots.iter() {
            let sum = self.slots.amount(slot).saturating_add(amount);
            self.slots.set(slot.clone(), sum);
        }
        for grant in &claim.devices {
            *self.devices.entry(grant.device.clone()).or_insert(0) += grant.amount;
        }
    }

    fn open(&mut self, row: &LedgerRow, first_of_container: bool) {
        self.containers += u32::from(first_of_container);
        let sum = self.slots.amount(&row.slot).saturating_add(row.amount);
        self.slots.set(row.slot.clone(), sum);
        if let Some(device) = &row.device {
            *self.devices.entry(device.clone()).or_insert(0) += row.amount;
        }
    }
}

type RowId = (SlotName, Option<DeviceId>);

/// Whose use is added up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// Sessions asked for with one keypair.
    Keypair(String),
    /// Sessions of one person.
    User(UserId),
    /// Sessions in one project.
    Project(ProjectId),
    /// Sessions of one domain's people.
    Domain(DomainId),
    /// Sessions of one person in one resource group.
    InGroup(GroupId, UserId),
    /// Sessions of an allocation policy, by its name.
    Policy(String),
    /// Sessions dispatched to a pool, by its name; until nodes have confirmed.
    Pool(String),
    /// Sessions of a group that came through no queue; until nodes have confirmed.
    Direct(GroupId),
}

/// What an account holds: always the sum over rows, never a counter of its own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    /// Per slot.
    pub slots: Slots,
    /// Sessions, those of type system left out.
    pub sessions: u32,
    /// Those of type system.
    pub system_sessions: u32,
    /// Allotments of sessions that came through queues, in thousandths.
    pub allotted: i64,
}

impl Usage {
    fn is_nothing(&self) -> bool {
        self.slots.is_empty()
            && (self.sessions, self.system_sessions) == (0, 0)
            && self.allotted == 0
    }
}

/// Who answers for the rows of one attempt of a session; kept until the last of them is
/// closed. An attempt that was taken back may leave rows in one pool while the next runs in
/// another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Payer {
    keypair: String,
    user: UserId,
    project: ProjectId,
    domain: DomainId,
    group: GroupId,
    counts: bool,
    seat: Option<Box<QueueSeat>>,
    /// Containers whose rows count against the owner.
    held: u32,
    /// Containers whose rows are open.
    open: u32,
}

impl Payer {
    fn of(session: &Session, attempt: Attempt) -> Self {
        // Of one that is over, what it was placed in; the session may be elsewhere by now.
        let past = session.attempts.iter().find(|a| a.attempt == attempt.0);
        let mut seat = session.queue.clone();
        if let (Some(seat), Some(past)) = (&mut seat, past) {
            seat.pool.clone_from(&past.pool);
        }
        Self {
            keypair: session.access_key.clone(),
            user: session.owner,
            project: session.project,
            domain: session.domain,
            group: past.map_or(session.group, |past| past.group),
            counts: session.kind != SessionType::System,
            seat,
            held: 0,
            open: 0,
        }
    }

    /// Whether a slot of its counts in an account: where shares are made of what somebody has,
    /// all does; against limits of a system session its memory alone.
    fn pays(&self, account: &Account, slot: &SlotName) -> bool {
        self.counts || matches!(account, Account::InGroup(..)) || *slot == SlotName::mem()
    }

    /// How many sessions of its kind, and system ones, begin or end with it.
    fn sessions(&self, any: bool) -> (u32, u32) {
        (
            u32::from(any && self.counts),
            u32::from(any && !self.counts),
        )
    }

    fn accounts(&self) -> [Account; 5] {
        [
            Account::Keypair(self.keypair.clone()),
            Account::User(self.user),
            Account::Project(self.project),
            Account::Domain(self.domain),
            Account::InGroup(self.group, self.user),
        ]
    }
}

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
            device_slots: BTreeMap::new(),
            people: people::Index::default(),
        }
    }

    /// Slots of which some node that has not left has devices.
    pub fn device_slots(&self) -> impl Iterator<Item = &SlotName> {
        self.device_slots.keys()
    }

    fn count_device_slots(&mut self, old: Option<&Agent>, new: &Agent) {
        /// What a node has, while it is one.
        fn inventory(agent: &Agent) -> Option<&Arc<Inventory>> {
            let inventory = agent.inventory.as_ref();
            inventory.filter(|_| agent.state != AgentState::Terminated)
        }
        fn slots(inventory: Option<&Arc<Inventory>>) -> BTreeSet<SlotName> {
            let devices = inventory.into_iter().flat_map(|i| &i.devices);
            devices.map(|device| device.slot.clone()).collect()
        }
        let (old, new) = (old.and_then(inventory), inventory(new));
        if old == new {
            return; // as nearly always
        }
        for slot in slots(new) {
            *self.device_slots.entry(slot).or_insert(0) += 1;
        }
        for slot in slots(old) {
            if let Some(count) = self.device_slots.get_mut(&slot) {
                *count -= 1;
                if *count == 0 {
                    self.device_slots.remove(&slot);
                }
            }
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

    fn open_row(&mut self, row: &LedgerRow) {
        let rows = self.ledger.entry(row.key).or_default();
        let (first_row, held_before) = (
            rows.is_empty(),
            rows.values().any(|r| r.quota_freed_at.is_none()),
        );
        let known = rows.insert((row.slot.clone(), row.device.clone()), row.clone());
        let first = self
            .rows_on_agent
            .entry(row.agent)
            .or_default()
            .insert(row.key);
        if known.is_some() {
            self.recount(row.agent);
            return;
        }
        // Only adds, so that reading a full ledger takes no square of its length.
        self.agent_use
            .entry(row.agent)
            .or_default()
            .open(row, first);
        if let Some(session) = self.sessions.get(&row.key.session) {
            self.payers
                .entry((row.key.session, row.key.attempt))
                .or_insert_with(|| Payer::of(session, row.key.attempt));
        }
        let Some(payer) = self.payers.get_mut(&(row.key.session, row.key.attempt)) else {
            return;
        };
        let first_open = payer.open == 0;
        payer.open += u32::from(first_row);
        let direct = payer.seat.is_none();
        if let (true, Some(seat)) = (first_open, &payer.seat)
            && let Some(pool) = &seat.pool
        {
            let usage = self.usage.entry(Account::Pool(pool.clone())).or_default();
            usage.allotted = usage.allotted.saturating_add(seat.allotment);
        }
        if direct {
            let account = Account::Direct(payer.group);
            add_to(&mut self.usage, account, &row.slot, row.amount);
        }
        if row.quota_freed_at.is_some() {
            return;
        }
        let first_held = payer.held == 0;
        payer.held += u32::from(!held_before);
        let (counted, system) = payer.sessions(first_held);
        let seat = payer.seat.clone().filter(|_| first_held);
        for account in payer.accounts() {
            let usage = self.usage.entry(account.clone()).or_default();
            usage.sessions += counted;
            usage.system_sessions += system;
            if payer.pays(&account, &row.slot) {
                add_to(&mut self.usage, account, &row.slot, row.amount);
            }
        }
        if let Some(seat) = seat {
            let usage = self.usage.entry(Account::Policy(seat.policy)).or_default();
            usage.allotted = usage.allotted.saturating_add(seat.allotment);
        }
    }

    /// Takes the rows of a container off its owner's use, those that still count.
    fn free_quota(&mut self, key: ContainerKey) {
        let held: Vec<(SlotName, i64)> = self
            .ledger
            .get(&key)
            .into_iter()
            .flat_map(BTreeMap::values)
            .filter(|r| r.quota_freed_at.is_none())
            .map(|r| (r.slot.clone(), r.amount))
            .collect();
        if held.is_empty() {
            return;
        }
        let Some(payer) = self.payers.get_mut(&(key.session, key.attempt)) else {
            return;
        };
        payer.held = payer.held.saturating_sub(1);
        let last = payer.held == 0;
        let payer = payer.clone();
        let (counted, system) = payer.sessions(last);
        let seat = payer.seat.clone().filter(|_| last);
        for account in payer.accounts() {
            for (slot, amount) in held.iter().filter(|(slot, _)| payer.pays(&account, slot)) {
                add_to(&mut self.usage, account.clone(), slot, -amount);
            }
            if let Some(usage) = self.usage.get_mut(&account) {
                usage.sessions = usage.sessions.saturating_sub(counted);
                usage.system_sessions = usage.system_sessions.saturating_sub(system);
            }
            self.drop_empty(&account);
        }
        if let Some(seat) = seat {
            let account = Account::Policy(seat.policy);
            if let Some(usage) = self.usage.get_mut(&account) {
                usage.allotted = usage.allotted.saturating_sub(seat.allotment);
            }
            self.drop_empty(&account);
        }
    }

    fn close_rows(&mut self, key: ContainerKey) {
        self.free_quota(key);
        let rows = self.ledger.remove(&key).unwrap_or_default();
        if rows.is_empty() {
            return;
        }
        if let Some(payer) = self.payers.get_mut(&(key.session, key.attempt)) {
            payer.open = payer.open.saturating_sub(1);
            let last = payer.open == 0;
            let account = match &payer.seat {
                None => Some(Account::Direct(payer.group)),
                Some(seat) => seat.pool.clone().map(Account::Pool),
            };
            let seat = payer.seat.clone();
            if let Some(account) = account {
                match seat {
                    None => {
                        for row in rows.values() {
                            add_to(&mut self.usage, account.clone(), &row.slot, -row.amount);
                        }
                    }
                    Some(seat) if last => {
                        if let Some(usage) = self.usage.get_mut(&account) {
                            usage.allotted = usage.allotted.saturating_sub(seat.allotment);
                        }
                    }
                    Some(_) => (),
                }
                self.drop_empty(&account);
            }
            if last {
                self.payers.remove(&(key.session, key.attempt));
            }
        }
        let agents: BTreeSet<AgentId> = rows.values().map(|r| r.agent).collect();
        for agent in agents {
            if let Some(keys) = self.rows_on_agent.get_mut(&agent) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.rows_on_agent.remove(&agent);
                }
            }
            self.recount(agent);
        }
    }

    fn drop_empty(&mut self, account: &Account) {
        if self.usage.get(account).is_some_and(Usage::is_nothing) {
            self.usage.remove(account);
        }
    }

    fn apply_session(&mut self, session: &Session) {
        if let Some(old) = self.sessions.remove(&session.id) {
            self.unindex(&old);
        }
        if session.is_settled() {
            return;
        }
        self.index(session);
        self.sessions.insert(session.id, session.clone());
    }

    fn index(&mut self, session: &Session) {
        if session.waits() {
            self.queues
                .entry(session.group)
                .or_default()
                .insert(queue_key(session));
            self.count_waiting(session, 1);
        }
        if session.is_open_array() {
            self.open_arrays
                .entry(session.owner)
                .or_default()
                .insert(session.id);
        }
        if session.state == SessionState::Pending {
            for entry in session.depends_on.iter().filter(|d| !d.met) {
                self.dependants
                    .entry(entry.session)
                    .or_default()
                    .insert(session.id);
            }
        }
        if let (Some(name), false) = (&session.name, session.state.is_final()) {
            self.names.insert((session.owner, name.clone()), session.id);
        }
        if let Some(at) = session.next_deadline() {
            self.deadlines.insert((at, session.id));
        }
        for container in session.containers.iter().filter(|c| !c.is_closed()) {
            self.on_agent
                .entry(container.agent)
                .or_default()
                .insert(container.key);
        }
        if session.live_networks().next().is_some() {
            self.networked.insert(session.id);
        }
    }

    fn count_waiting(&mut self, session: &Session, sign: i64) {
        let slots = session.total_slots();
        for account in [
            Account::Keypair(session.access_key.clone()),
            Account::User(session.owner),
        ] {
            let usage = self.waiting.entry(account.clone()).or_default();
            if sign > 0 {
                usage.sessions += 1;
                usage.slots.add(&slots);
            } else {
                usage.sessions = usage.sessions.saturating_sub(1);
                usage.slots.sub(&slots);
            }
            if usage.sessions == 0 {
                self.waiting.remove(&account);
            }
        }
    }

    fn unindex(&mut self, session: &Session) {
        self.networked.remove(&session.id);
        if session.waits() {
            self.count_waiting(session, -1);
        }
        if let Some(arrays) = self.open_arrays.get_mut(&session.owner) {
            arrays.remove(&session.id);
            if arrays.is_empty() {
                self.open_arrays.remove(&session.owner);
            }
        }
        if session.state == SessionState::Pending {
            for entry in session.depends_on.iter().filter(|d| !d.met) {
                if let Some(waiting) = self.dependants.get_mut(&entry.session) {
                    waiting.remove(&session.id);
                    if waiting.is_empty() {
                        self.dependants.remove(&entry.session);
                    }
                }
            }
        }
        if session.waits()
            && let Some(queue) = self.queues.get_mut(&session.group)
        {
            queue.remove(&queue_key(session));
            if queue.is_empty() {
                self.queues.remove(&session.group);
            }
        }
        if let Some(name) = &session.name {
            // A final session has given its name back: another may have it by now.
            let name = (session.owner, name.clone());
            if self.names.get(&name) == Some(&session.id) {
                self.names.remove(&name);
            }
        }
        if let Some(at) = session.next_deadline() {
            self.deadlines.remove(&(at, session.id));
        }
        for container in &session.containers {
            if let Some(keys) = self.on_agent.get_mut(&container.agent) {
                keys.remove(&container.key);
                if keys.is_empty() {
                    self.on_agent.remove(&container.agent);
                }
            }
        }
    }

    /// Sums up the open rows of one agent anew.
    fn recount(&mut self, agent: AgentId) {
        let usage = self.sum_of_rows(agent);
        if usage == AgentUse::default() {
            self.agent_use.remove(&agent);
        } else {
            self.agent_use.insert(agent, usage);
        }
    }

    fn sum_of_rows(&self, agent: AgentId) -> AgentUse {
        let mut usage = AgentUse::default();
        for key in self.rows_on_agent.get(&agent).into_iter().flatten() {
            usage.containers += 1;
            for row in self.ledger.get(key).into_iter().flat_map(BTreeMap::values) {
                usage.open(row, false);
            }
        }
        let node = self.agents.get(&agent).into_iter();
        for stranger in node.flat_map(|node| &node.unclaimed) {
            usage.hold(&stranger.claim);
        }
        usage
    }

    /// What is taken on an agent.
    #[must_use]
    pub fn agent_use(&self, agent: AgentId) -> AgentUse {
        self.agent_use.get(&agent).cloned().unwrap_or_default()
    }

    /// How much of a device was given out, without what containers hold that no order names.
    #[must_use]
    pub fn given_out(&self, agent: AgentId, device: &DeviceId) -> i64 {
        let held = self.agent_use.get(&agent);
        let held = held.and_then(|held| held.devices.get(device));
        let strays = self.agents.get(&agent).map_or(&[][..], |a| &a.unclaimed);
        let strays = strays.iter().flat_map(|u| &u.claim.devices);
        let of_strays = strays.filter(|grant| grant.device == *device);
        let of_strays: i64 = of_strays.map(|grant| grant.amount).sum();
        held.copied().unwrap_or(0).saturating_sub(of_strays)
    }

    /// The same without a copy; none = nothing.
    #[must_use]
    pub fn agent_use_ref(&self, agent: AgentId) -> Option<&AgentUse> {
        self.agent_use.get(&agent)
    }

    /// What an account holds.
    #[must_use]
    pub fn usage(&self, account: &Account) -> Usage {
        self.usage.get(account).cloned().unwrap_or_default()
    }

    /// The same without a copy; none = nothing.
    #[must_use]
    pub fn usage_ref(&self, account: &Account) -> Option<&Usage> {
        self.usage.get(account)
    }

    /// What the waiting sessions of a keypair or user ask for, and how many they are.
    #[must_use]
    pub fn waiting(&self, account: &Account) -> Usage {
        self.waiting.get(account).cloned().unwrap_or_default()
    }

    /// The accounts a session's rows count in, while it has any.
    #[must_use]
    pub fn accounts_of(&self, id: SessionId) -> Vec<Account> {
        let payer = self.last_payer(id).map(Payer::accounts);
        let session = || {
            let session = self.sessions.get(&id);
            session.map(|s| Payer::of(s, s.attempt).accounts())
        };
        payer.or_else(session).into_iter().flatten().collect()
    }

    /// Who answers for the rows of a session's last attempt that has any.
    fn last_payer(&self, id: SessionId) -> Option<&Payer> {
        let attempts = (id, Attempt(0))..=(id, Attempt(u32::MAX));
        self.payers
            .range(attempts)
            .next_back()
            .map(|(_, payer)| payer)
    }

    /// Whether a session came through a queue, as far as its rows say.
    #[must_use]
    pub fn is_queued(&self, id: SessionId) -> bool {
        match self.last_payer(id) {
            Some(payer) => payer.seat.is_some(),
            None => self.sessions.get(&id).is_some_and(|s| s.queue.is_some()),
        }
    }

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

    /// Demands that every index says what the rows say. For tests; costs a walk over everything.
    ///
    /// # Errors
    /// What differs.
    pub fn check(&self) -> Result<(), String> {
        let mut rebuilt = Self::new(self.meta.clone());
        for agent in self.agents.values() {
            rebuilt.apply(&Change::Agent(Box::new(agent.clone())));
        }
        for session in self.sessions.values() {
            rebuilt.apply(&Change::Session(Box::new(session.clone())));
        }
        for row in self.ledger.values().flat_map(BTreeMap::values) {
            rebuilt.apply(&Change::LedgerOpened(row.clone()));
        }
        if rebuilt.usage != self.usage {
            return Err("use by account differs from the ledger".to_owned());
        }
        if rebuilt.waiting != self.waiting
            || rebuilt.dependants != self.dependants
            || rebuilt.open_arrays != self.open_arrays
            || rebuilt.networked != self.networked
        {
            return Err("what waits differs from the sessions".to_owned());
        }
        if rebuilt.undecided != self.undecided {
            return Err("what nobody has decided about differs from the nodes".to_owned());
        }
        if rebuilt.agent_use != self.agent_use {
            return Err("use by agent differs from the ledger".to_owned());
        }
        if rebuilt.queues != self.queues || rebuilt.deadlines != self.deadlines {
            return Err("a queue or deadline differs from the sessions".to_owned());
        }
        if rebuilt.on_agent != self.on_agent || rebuilt.names != self.names {
            return Err("an index of sessions differs from the sessions".to_owned());
        }
        for (agent, usage) in &self.agent_use {
            let Some(inventory) = self.agents.get(agent).and_then(|a| a.inventory.as_ref()) else {
                continue;
            };
            for device in usage.devices.keys() {
                let capacity = inventory
                    .devices
                    .iter()
                    .find(|d| d.id == *device)
                    .map(|d| d.capacity);
                if capacity.is_some_and(|c| self.given_out(*agent, device) > c) {
                    return Err(format!("device {device} of {agent} is given out twice"));
                }
            }
        }
        for session in self.sessions.values() {
            if let Some(plan) = &session.array {
                let live = self.tasks_of(session.id).filter(|t| !t.state.is_final());
                let live = live.count();
                if live != plan.live as usize || (live == 0 && !session.state.is_final()) {
                    return Err(format!("{} counts its tasks wrong", session.id));
                }
            }
            let open = session.containers.iter();
            let open = open.filter(|c| !c.is_closed() && !c.handed_on);
            for container in open {
                if !self.ledger.contains_key(&container.key) {
                    return Err(format!("container {} holds no claim", container.key));
                }
            }
            if session.state == SessionState::Pending && session.present().next().is_some() {
                return Err(format!("{} is pending and placed", session.id));
            }
        }
        Ok(())
    }
}

fn add_to(usage: &mut BTreeMap<Account, Usage>, account: Account, slot: &SlotName, amount: i64) {
    let usage = usage.entry(account).or_default();
    let sum = usage.slots.amount(slot).saturating_add(amount);
    usage.slots.set(slot.clone(), sum);
}

fn queue_key(session: &Session) -> QueueKey {
    (Reverse(session.priority), session.created_at, session.id)
}
