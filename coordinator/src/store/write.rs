//! The thread that owns the writing connection; changes to rows.

use super::open::Mark;
use super::people::People;
use super::vaults::Vaults;
use super::{
    AUDIT, AUDIT_RECORD, Doing, StoreError, load, notes, replays, retention, sealed, usage,
};
use crate::secrets::Keyring;
use longshore_common::agent::Inventory;
use longshore_common::ids::AgentId;
use longshore_common::ids::{
    ContainerKey, DomainId, GroupId, PresetId, ProjectId, SessionId, UserId,
};
use longshore_common::time::Timestamp;
use longshore_core::model::{
    Agent, AuditLine, Change, Charge, Cursor, Domain, DraftConfig, GivenText, Group, History,
    Idempotency, Image, JoinToken, KeypairPolicy, LedgerRow, LiveConfig, LoadedConfig, Meta,
    PeopleSettings, PolicyKind, Preset, Project, ProjectPolicy, Reached, Replay, SchedulerSettings,
    Session, State, StoredSettings, UsageChange, UserPolicy, may_follow,
};
use rusqlite::{Connection, Params, Transaction, TransactionBehavior, params};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use tracing::{error, warn};

/// Pages in the log after which they are brought into the file: 4 MiB.
const CHECKPOINT_PAGES: i32 = 1000;

/// What the writer is told.
pub(super) enum Order {
    /// Store these, all or none.
    Commit(Vec<Change>, oneshot::Sender<Result<(), StoreError>>),
    /// Wrap the next encrypted values by the present master key.
    Rewrap(
        sealed::Place,
        oneshot::Sender<Result<sealed::Rewrapped, StoreError>>,
    ),
    /// How many encrypted values each master key wraps.
    Counts(oneshot::Sender<Result<BTreeMap<String, u64>, StoreError>>),
    /// Read everything back.
    Load(oneshot::Sender<Result<Box<State>, StoreError>>),
}

/// What nodes have, as it was stored last.
type Inventories = BTreeMap<AgentId, Arc<Inventory>>;

/// Serves orders until nobody can send any more. After an error that only a new start
/// can heal, every order is refused.
pub(super) fn run(mut db: Connection, keyring: &Keyring, mark: &Mark, orders: &Receiver<Order>) {
    let pages = Arc::new(AtomicI32::new(0));
    let seen = Arc::clone(&pages);
    let hook = db.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, in_log| {
        seen.store(in_log, Ordering::Relaxed);
        Ok(())
    }));
    let mut failed = hook.err().map(|e| e.to_string());
    let mut next_checkpoint = CHECKPOINT_PAGES;
    let mut stored = Inventories::new();
    let judge = |failed: &mut Option<String>, error: Option<&StoreError>| {
        if let Some(error) = error.filter(|e| e.is_fatal()) {
            error!(%error, "the database failed");
            failed.get_or_insert_with(|| error.to_string());
            mark.sign_failed();
        }
    };
    for order in orders {
        match order {
            Order::Commit(_, reply) if failed.is_some() => {
                let _ = reply.send(Err(StoreError::Failed(failed.clone().unwrap_or_default())));
            }
            Order::Load(reply) if failed.is_some() => {
                let _ = reply.send(Err(StoreError::Failed(failed.clone().unwrap_or_default())));
            }
            Order::Commit(changes, reply) => {
                let done = commit(&mut db, keyring, &changes, &mut stored);
                judge(&mut failed, done.as_ref().err());
                let _ = reply.send(done); // the asker may have gone
            }
            Order::Rewrap(from, reply) => {
                let done = match &failed {
                    Some(why) => Err(StoreError::Failed(why.clone())),
                    None => sealed::rewrap(&mut db, keyring, from),
                };
                judge(&mut failed, done.as_ref().err());
                let _ = reply.send(done); // the asker may have gone
            }
            Order::Counts(reply) => {
                let _ = reply.send(sealed::counts(&db)); // the asker may have gone
            }
            Order::Load(reply) => {
                let done = load::state(&mut db, keyring).map(Box::new);
                judge(&mut failed, done.as_ref().err());
                let _ = reply.send(done); // the asker may have gone
            }
        }
        let in_log = pages.load(Ordering::Relaxed);
        if in_log < CHECKPOINT_PAGES {
            next_checkpoint = CHECKPOINT_PAGES;
        }
        // After the answer: what is in the log is safe already.
        if failed.is_none() && in_log >= next_checkpoint {
            // A reader may hold the log back; then not at every commit again.
            next_checkpoint = in_log.saturating_add(CHECKPOINT_PAGES);
            if let Err(error) = checkpoint(&db) {
                warn!(%error, "the log could not be brought into the database");
                judge(&mut failed, Some(&error));
            }
        }
    }
}

fn checkpoint(db: &Connection) -> Result<(), StoreError> {
    db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
        .doing("take its log in")
}

/// One transaction for all changes. Dropping it without a commit takes everything back.
fn commit(
    db: &mut Connection,
    keyring: &Keyring,
    changes: &[Change],
    stored: &mut Inventories,
) -> Result<(), StoreError> {
    let batch = Batch::of(changes);
    // IMMEDIATE: one that begins as a reader is refused as soon as it writes.
    let transaction = db
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .doing("begin")?;
    batch.write(&transaction, keyring)?;
    let new: Vec<_> = batch.new_inventories(stored).collect();
    for (agent, inventory) in &new {
        let values = params![agent.to_string(), body("inventory", agent, inventory)?];
        execute(&transaction, INVENTORY, values, "store what a node has")?;
    }
    transaction.commit().doing("commit")?;
    // Only now: what is taken back was not stored.
    stored.extend(new.into_iter().map(|(id, new)| (id, Arc::clone(new))));
    Ok(())
}

/// The last form of each object, and the rows that are opened and closed, in their order.
#[derive(Default)]
struct Batch<'a> {
    meta: Option<&'a Meta>,
    people: People<'a>,
    vaults: Vaults<'a>,
    groups: BTreeMap<GroupId, Option<&'a Group>>,
    scheduler: Option<&'a SchedulerSettings>,
    people_settings: Option<&'a PeopleSettings>,
    settings: Option<&'a StoredSettings>,
    loaded: Option<&'a LoadedConfig>,
    domains: BTreeMap<DomainId, &'a Domain>,
    domains_gone: BTreeSet<DomainId>,
    projects: BTreeMap<ProjectId, &'a Project>,
    projects_gone: BTreeSet<ProjectId>,
    /// By kind and name in lower case.
    policies: BTreeMap<(PolicyKind, String), Option<Policy<'a>>>,
    presets: BTreeMap<PresetId, Option<&'a Preset>>,
    images: BTreeMap<&'a str, Option<&'a Image>>,
    configs: BTreeMap<u64, &'a LiveConfig>,
    draft: Option<Option<&'a DraftConfig>>,
    charges: BTreeMap<(GroupId, u8, &'a str), Option<&'a Charge>>,
    cursors: BTreeMap<(GroupId, &'a str), &'a Cursor>,
    agents: BTreeMap<AgentId, &'a Agent>,
    tokens: BTreeMap<&'a str, Option<&'a JoinToken>>,
    sessions: BTreeMap<SessionId, &'a Session>,
    idempotency: BTreeMap<(UserId, &'a str), Option<&'a Idempotency>>,
    given: Vec<&'a GivenText>,
    delivered: Vec<&'a GivenText>,
    lines: Vec<Line<'a>>,
}

#[derive(Clone, Copy)]
enum Policy<'a> {
    Keypair(&'a KeypairPolicy),
    User(&'a UserPolicy),
    Project(&'a ProjectPolicy),
}

enum Line<'a> {
    History(&'a History),
    Reached(&'a Reached),
    Audit(&'a AuditLine),
    AuditForgotten(u64),
    Opened(&'a LedgerRow),
    QuotaFreed(ContainerKey, i64),
    Closed(ContainerKey, i64),
    Usage(&'a UsageChange),
    /// What people are told and everybody is to read, and what they chose.
    Notify(&'a Change),
    Replay(&'a Replay, Timestamp),
    /// What grew old.
    Forgotten(&'a Change),
}

impl<'a> Batch<'a> {
    fn of(changes: &'a [Change]) -> Self {
        let mut batch = Self::default();
        for change in changes {
            match change {
                Change::Meta(meta) => batch.meta = Some(meta),
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
                | Change::Throttle(_) => batch.people.take(change),
                Change::Vault(_) | Change::VaultContent(_) | Change::VaultDeleted(_) => {
                    batch.vaults.take(change);
                }
                Change::Given(given) => batch.given.push(given),
                Change::Delivered(text) => batch.delivered.push(text),
                Change::Group(group) => drop(batch.groups.insert(group.id, Some(group))),
                Change::GroupDeleted(id) => drop(batch.groups.insert(*id, None)),
                Change::Scheduler(settings) => batch.scheduler = Some(settings),
                Change::PeopleSettings(settings) => batch.people_settings = Some(settings),
                Change::Settings(settings) => batch.settings = Some(settings),
                Change::Loaded(loaded) => batch.loaded = Some(loaded),
                Change::Domain(domain) => drop(batch.domains.insert(domain.id, domain)),
                Change::Project(project) => drop(batch.projects.insert(project.id, project)),
                Change::DomainDeleted(id) => drop(batch.domains_gone.insert(*id)),
                Change::ProjectDeleted(id) => drop(batch.projects_gone.insert(*id)),
                Change::KeypairPolicy(policy) => {
                    let form = Policy::Keypair(policy);
                    batch.policy(PolicyKind::Keypair, &policy.name, Some(form));
                }
                Change::UserPolicy(policy) => {
                    batch.policy(PolicyKind::User, &policy.name, Some(Policy::User(policy)));
                }
                Change::ProjectPolicy(policy) => {
                    let form = Policy::Project(policy);
                    batch.policy(PolicyKind::Project, &policy.name, Some(form));
                }
                Change::PolicyDeleted(kind, name) => batch.policy(*kind, name, None),
                Change::Preset(preset) => drop(batch.presets.insert(preset.id, Some(preset))),
                Change::Image(image) => drop(batch.images.insert(&image.reference, Some(image))),
                Change::ImageForgotten(name) => drop(batch.images.insert(name, None)),
                Change::PresetDeleted(id) => drop(batch.presets.insert(*id, None)),
                Change::Config(config) => drop(batch.configs.insert(config.version, config)),
                Change::ConfigDraft(draft) => batch.draft = Some(draft.as_deref()),
                Change::Charged(charge) => {
                    let key = (charge.group, charge.priority, charge.shape.as_str());
                    batch.charges.insert(key, Some(charge));
                }
                Change::ChargeForgotten {
                    group,
                    priority,
                    shape,
                } => {
                    batch.charges.insert((*group, *priority, shape), None);
                }
                Change::Cursor(cursor) => {
                    batch.cursors.insert((cursor.group, &cursor.arch), cursor);
                }
                Change::Agent(agent) => drop(batch.agents.insert(agent.id, agent)),
                Change::Token(token) => drop(batch.tokens.insert(&token.id, Some(token))),
                Change::TokenDeleted(id) => drop(batch.tokens.insert(id, None)),
                Change::Session(session) => drop(batch.sessions.insert(session.id, session)),
                Change::History(line) => batch.lines.push(Line::History(line)),
                Change::Reached(line) => batch.lines.push(Line::Reached(line)),
                Change::Announcement(_)
                | Change::AnnouncementDeleted(_)
                | Change::NotifySettings(_)
                | Change::NotifyChoice(_)
                | Change::Note(_)
                | Change::NoteTried(_)
                | Change::NotesForgotten { .. } => batch.lines.push(Line::Notify(change)),
                Change::Replay(replay, at) => batch.lines.push(Line::Replay(replay, *at)),
                Change::SessionsForgotten(_)
                | Change::HistoriesForgotten(_)
                | Change::OutputForgotten(_)
                | Change::UsageForgotten { .. } => batch.lines.push(Line::Forgotten(change)),
                Change::Usage(change) => batch.lines.push(Line::Usage(change)),
                Change::Audit(line) => batch.lines.push(Line::Audit(line)),
                Change::AuditForgotten(up_to) => batch.lines.push(Line::AuditForgotten(*up_to)),
                Change::LedgerOpened(row) => batch.lines.push(Line::Opened(row)),
                Change::QuotaFreed { key, at } => batch.lines.push(Line::QuotaFreed(*key, at.0)),
                Change::LedgerClosed { key, at } => batch.lines.push(Line::Closed(*key, at.0)),
                Change::Idempotency(entry) => {
                    batch
                        .idempotency
                        .insert((entry.caller, &entry.key), Some(entry));
                }
                Change::IdempotencyForgotten { caller, key } => {
                    batch.idempotency.insert((*caller, key), None);
                }
            }
        }
        batch
    }

    fn policy(&mut self, kind: PolicyKind, name: &str, form: Option<Policy<'a>>) {
        self.policies
            .insert((kind, name.to_ascii_lowercase()), form);
    }

    /// What nodes have that is not what was stored last. A node never takes back that it
    /// said what it has.
    fn new_inventories(
        &self,
        stored: &Inventories,
    ) -> impl Iterator<Item = (AgentId, &'a Arc<Inventory>)> {
        self.agents.values().filter_map(|agent| {
            let new = agent.inventory.as_ref()?;
            (stored.get(&agent.id) != Some(new)).then_some((agent.id, new))
        })
    }

    /// Referenced rows before those that refer to them.
    fn write(&self, to: &Transaction<'_>, keyring: &Keyring) -> Result<(), StoreError> {
        if let Some(meta) = self.meta {
            write_meta(to, meta)?;
        }
        self.people.write(to, keyring)?;
        self.vaults.write(to, keyring)?;
        for text in &self.delivered {
            sealed::keep_delivered(to, keyring, text)?;
        }
        // What has ended for good needs nothing any more.
        let over = |session: &&&Session| session.state.is_final() && !session.is_releasing();
        for session in self.sessions.values().filter(over) {
            if session.given {
                sealed::forget_given(to, session.id)?;
            }
            if session.delivered.is_some() {
                sealed::forget_delivered(to, session.id)?;
            }
        }
        for given in &self.given {
            sealed::keep_given(to, keyring, given)?;
        }
        self.write_groups(to)?;
        self.write_scheduling(to, keyring)?;
        for agent in self.agents.values() {
            let values = params![
                agent.id.to_string(),
                agent.name,
                agent.group.to_string(),
                agent.state.as_str(),
                body("agent", agent.id, agent)?
            ];
            execute(to, AGENT, values, "store an agent")?;
        }
        for (id, token) in &self.tokens {
            match token {
                Some(token) => {
                    let json = body("join token", id, token)?;
                    let values = params![id, token.group.to_string(), token.expires_at.0, json];
                    execute(to, TOKEN, values, "store a join token")?;
                }
                None => execute(to, TOKEN_DELETED, [id], "delete a join token")?,
            }
        }
        for session in self.sessions.values() {
            write_session(to, session)?;
        }
        self.write_turns(to)?;
        for ((caller, key), entry) in &self.idempotency {
            let caller = caller.to_string();
            match entry {
                Some(entry) => {
                    let session = number("idempotency key", key, entry.session.0)?;
                    let values = params![caller, key, entry.body_sha256, session, entry.at.0];
                    execute(to, IDEMPOTENCY, values, "store an idempotency key")?;
                }
                None => execute(
                    to,
                    IDEMPOTENCY_FORGOTTEN,
                    params![caller, key],
                    "forget a key",
                )?,
            }
        }
        self.lines.iter().try_for_each(|line| write_line(to, line))
    }

    /// Those that are gone first: their names may be another's by now.
    fn write_groups(&self, to: &Transaction<'_>) -> Result<(), StoreError> {
        for id in self.groups.iter().filter(|(_, g)| g.is_none()).map(|g| g.0) {
            execute(to, GROUP_DELETED, [id.to_string()], "delete a group")?;
        }
        for group in self.groups.values().flatten() {
            let json = body("group", group.id, group)?;
            let values = params![group.id.to_string(), group.name, json];
            execute(to, GROUP, values, "store a resource group")?;
        }
        Ok(())
    }

    /// Those that are gone first: their names may be another's by now. A row stays for what is
    /// past; one that was made and deleted in this batch is there for that alone.
    fn write_tenants(&self, to: &Transaction<'_>) -> Result<(), StoreError> {
        let bury = || -> Result<(), StoreError> {
            for id in &self.projects_gone {
                execute(to, PROJECT_DELETED, [id.to_string()], "delete a project")?;
            }
            for id in &self.domains_gone {
                execute(to, DOMAIN_DELETED, [id.to_string()], "delete a domain")?;
            }
            Ok(())
        };
        bury()?;
        for domain in self.domains.values() {
            let json = body("domain", domain.id, domain)?;
            let id = domain.id.to_string();
            let name = match self.domains_gone.contains(&domain.id) {
                true => &id,
                false => &domain.name,
            };
            execute(to, DOMAIN, params![id, name, json], "store a domain")?;
        }
        for project in self.projects.values() {
            let json = body("project", project.id, project)?;
            let (id, domain) = (project.id.to_string(), project.domain.to_string());
            let name = match self.projects_gone.contains(&project.id) {
                true => &id,
                false => &project.name,
            };
            let values = params![id, domain, name, json];
            execute(to, PROJECT, values, "store a project")?;
        }
        match self.domains.is_empty() && self.projects.is_empty() {
            true => Ok(()),
            false => bury(),
        }
    }

    fn write_scheduling(&self, to: &Transaction<'_>, keyring: &Keyring) -> Result<(), StoreError> {
        if let Some(settings) = self.scheduler {
            let json = body("scheduler settings", 1, settings)?;
            execute(to, SCHEDULER, [json], "store settings of the scheduler")?;
        }
        if let Some(settings) = self.people_settings {
            let json = body("settings of people", 1, settings)?;
            execute(to, PEOPLE_SETTINGS, [json], "store settings of people")?;
        }
        if let Some(settings) = self.settings {
            let json = body("stored settings", 1, settings)?;
            execute(to, SETTINGS, [json], "store settings")?;
            sealed::keep_settings(to, keyring, &settings.secrets)?;
        }
        if let Some(loaded) = self.loaded {
            let json = body("loaded configuration", 1, loaded)?;
            execute(to, LOADED, [json], "store the loaded configuration")?;
        }
        self.write_tenants(to)?;
        for ((kind, name), policy) in &self.policies {
            write_policy(to, *kind, name, *policy)?;
        }
        for id in self
            .presets
            .iter()
            .filter(|(_, p)| p.is_none())
            .map(|p| p.0)
        {
            execute(to, PRESET_DELETED, [id.to_string()], "delete a preset")?;
        }
        for preset in self.presets.values().flatten() {
            let json = body("preset", preset.id, preset)?;
            let values = params![preset.id.to_string(), preset.name, json];
            execute(to, PRESET, values, "store a preset")?;
        }
        for (name, image) in &self.images {
            let Some(image) = image else {
                execute(to, IMAGE_FORGOTTEN, [name], "forget an image")?;
                continue;
            };
            let json = body("image", image.id, image)?;
            let values = params![name, image.id.to_string(), json];
            execute(to, IMAGE, values, "store what is said of an image")?;
        }
        for config in self.configs.values() {
            let version = number("pools and queues", config.version, config.version)?;
            let values = params![
                version,
                config.provisioned_at.map(|at| at.0),
                config.by,
                config.enabled,
                body("pools and queues", version, config)?
            ];
            execute(to, CONFIG, values, "store pools and queues")?;
        }
        match self.draft {
            None => Ok(()),
            Some(None) => execute(to, DRAFT_DELETED, [], "delete a draft"),
            Some(Some(draft)) => {
                let json = body("draft of pools and queues", draft.version, draft)?;
                execute(to, DRAFT, [json], "store a draft")
            }
        }
    }

    /// Tries that were counted, and who was taken in turn.
    fn write_turns(&self, to: &Transaction<'_>) -> Result<(), StoreError> {
        for ((group, priority, shape), charge) in &self.charges {
            let group = group.to_string();
            match charge {
                Some(charge) => {
                    let at = charge.last_charged_at.0;
                    let values = params![group, priority, shape, charge.retries, at];
                    execute(to, CHARGE, values, "store tries")?;
                }
                None => {
                    let values = params![group, priority, shape];
                    execute(to, CHARGE_FORGOTTEN, values, "forget tries")?;
                }
            }
        }
        for ((group, arch), cursor) in &self.cursors {
            let values = params![group.to_string(), arch, cursor.agent];
            execute(to, CURSOR, values, "store who was taken in turn")?;
        }
        Ok(())
    }
}

fn write_policy(
    to: &Transaction<'_>,
    kind: PolicyKind,
    name: &str,
    policy: Option<Policy<'_>>,
) -> Result<(), StoreError> {
    let (store, delete) = match kind {
        PolicyKind::Keypair => (KEYPAIR_POLICY, KEYPAIR_POLICY_DELETED),
        PolicyKind::User => (USER_POLICY, USER_POLICY_DELETED),
        PolicyKind::Project => (PROJECT_POLICY, PROJECT_POLICY_DELETED),
    };
    let (name, id, json) = match policy {
        None => return execute(to, delete, [name], "delete a policy"),
        Some(Policy::Keypair(p)) => (&p.name, p.id, body(kind.as_str(), p.id, p)?),
        Some(Policy::User(p)) => (&p.name, p.id, body(kind.as_str(), p.id, p)?),
        Some(Policy::Project(p)) => (&p.name, p.id, body(kind.as_str(), p.id, p)?),
    };
    let values = params![name, id.to_string(), json];
    execute(to, store, values, "store a policy")
}

pub(super) fn write_meta(to: &Transaction<'_>, meta: &Meta) -> Result<(), StoreError> {
    let values = params![
        meta.cluster.to_string(),
        number("meta", "generation", meta.generation.0)?,
        number("meta", "next_session", meta.next_session)?,
        meta.next_uid
    ];
    execute(to, META, values, "store the facts of the installation")
}

fn write_session(to: &Transaction<'_>, session: &Session) -> Result<(), StoreError> {
    let values = params![
        number("session", session.id, session.id.0)?,
        session.owner.to_string(),
        session.owner_name,
        session.name,
        session.group.to_string(),
        session.group_name,
        session.kind.as_str(),
        session.state.as_str(),
        session.is_settled(),
        session.priority,
        session.created_at.0,
        session.ended_at.map(|at| at.0),
        number("session", session.id, session.version)?,
        body("session", session.id, session)?
    ];
    execute(to, SESSION, values, "store a session")
}

fn write_line(to: &Transaction<'_>, line: &Line<'_>) -> Result<(), StoreError> {
    match line {
        Line::History(line) => {
            if !may_follow(line.from, line.to) {
                let from = line.from.map_or("nothing", |state| state.as_str());
                return Err(StoreError::Object {
                    what: "session",
                    id: line.session.to_string(),
                    why: format!("{} does not follow {from}", line.to),
                });
            }
            let values = params![
                number("history", line.session, line.session.0)?,
                number("history", line.session, line.seq)?,
                line.at.0,
                line.from.map(|s| s.as_str()),
                line.to.as_str(),
                line.reason.map(|r| r.as_str()),
                line.detail,
                line.by,
                line.attempt.0
            ];
            execute(to, HISTORY, values, "store a line of history")
        }
        Line::Reached(line) => {
            let session = number("session", line.session, line.session.0)?;
            let after = number("session", line.session, line.after)?;
            let values = params![session, after, line.at.0, line.by, line.what];
            execute(to, REACHED, values, "store who reached in")
        }
        Line::Audit(line) => {
            let values = params![
                number(AUDIT_RECORD, line.seq, line.seq)?,
                line.at.0,
                line.actor,
                line.operation,
                line.target,
                line.outcome,
                line.hash,
                line.body,
                line.domain.map_or_else(String::new, |id| id.to_string())
            ];
            execute(to, AUDIT_LINE, values, AUDIT)
        }
        Line::AuditForgotten(up_to) => {
            let values = [number(AUDIT_RECORD, up_to, *up_to)?];
            execute(to, AUDIT_FORGOTTEN, values, "forget audit records")
        }
        Line::Usage(change) => usage::write(to, change),
        Line::Notify(change) => notes::write(to, change),
        Line::Replay(replay, at) => replays::write(to, replay, *at),
        Line::Forgotten(change) => retention::write(to, change),
        Line::Opened(row) => {
            let values = params![
                number("claim", row.key, row.key.session.0)?,
                row.key.rank.0,
                row.key.attempt.0,
                row.slot.as_str(),
                row.device.as_ref().map_or("", |d| d.as_str()),
                row.agent.to_string(),
                row.amount,
                row.opened_at.0,
                row.quota_freed_at.map(|at| at.0)
            ];
            execute(to, OPENED, values, "open a claim")
        }
        Line::QuotaFreed(key, at) => {
            let session = number("claim", key, key.session.0)?;
            execute(
                to,
                FREED,
                params![session, key.rank.0, key.attempt.0, at],
                "free a quota",
            )
        }
        Line::Closed(key, at) => {
            let session = number("claim", key, key.session.0)?;
            execute(
                to,
                CLOSED,
                params![session, key.rank.0, key.attempt.0, at],
                "close a claim",
            )?;
            usage::close(to, *key, *at)
        }
    }
}

pub(super) fn execute(
    to: &Transaction<'_>,
    sql: &str,
    values: impl Params,
    doing: &'static str,
) -> Result<(), StoreError> {
    to.prepare_cached(sql)
        .and_then(|mut s| s.execute(values))
        .map(drop)
        .doing(doing)
}

pub(super) fn body(
    what: &'static str,
    id: impl Display,
    object: &impl Serialize,
) -> Result<String, StoreError> {
    serde_json::to_string(object).map_err(|error| StoreError::Object {
        what,
        id: id.to_string(),
        why: error.to_string(),
    })
}

/// SQLite's numbers have a sign.
pub(super) fn number(what: &'static str, id: impl Display, value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::Object {
        what,
        id: id.to_string(),
        why: format!("{value} is too large"),
    })
}

// Upserts, not REPLACE: that would delete the row others refer to.
const META: &str = "INSERT INTO meta (id, cluster, generation, next_session, next_uid)
    VALUES (1, ?1, ?2, ?3, ?4)
    ON CONFLICT (id) DO UPDATE SET cluster = ?1, generation = ?2, next_session = ?3, next_uid = ?4";
const GROUP: &str = "INSERT INTO resource_groups (id, name, body) VALUES (?1, ?2, ?3)
    ON CONFLICT (id) DO UPDATE SET name = ?2, body = ?3";
// The row stays for those that name it; another group may have its name.
const GROUP_DELETED: &str = "UPDATE resource_groups SET name = id, deleted = 1 WHERE id = ?1";
const SCHEDULER: &str = "INSERT INTO scheduler (id, body) VALUES (1, ?1)
    ON CONFLICT (id) DO UPDATE SET body = ?1";
const PEOPLE_SETTINGS: &str = "INSERT INTO people_settings (id, body) VALUES (1, ?1)
    ON CONFLICT (id) DO UPDATE SET body = ?1";
const SETTINGS: &str = "INSERT INTO settings (id, body) VALUES (1, ?1)
    ON CONFLICT (id) DO UPDATE SET body = ?1";
const LOADED: &str = "INSERT INTO loaded (id, body) VALUES (1, ?1)
    ON CONFLICT (id) DO UPDATE SET body = ?1";
const DOMAIN: &str = "INSERT INTO domains (id, name, body) VALUES (?1, ?2, ?3)
    ON CONFLICT (id) DO UPDATE SET name = ?2, body = ?3";
const PROJECT: &str = "INSERT INTO projects (id, domain, name, body) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (id) DO UPDATE SET domain = ?2, name = ?3, body = ?4";
const DOMAIN_DELETED: &str = "UPDATE domains SET name = id, deleted = 1 WHERE id = ?1";
const PROJECT_DELETED: &str = "UPDATE projects SET name = id, deleted = 1 WHERE id = ?1";
const KEYPAIR_POLICY: &str = "INSERT INTO keypair_policies (name, id, body) VALUES (?1, ?2, ?3)
    ON CONFLICT (name) DO UPDATE SET name = ?1, id = ?2, body = ?3";
const KEYPAIR_POLICY_DELETED: &str = "DELETE FROM keypair_policies WHERE name = ?1";
const USER_POLICY: &str = "INSERT INTO user_policies (name, id, body) VALUES (?1, ?2, ?3)
    ON CONFLICT (name) DO UPDATE SET name = ?1, id = ?2, body = ?3";
const USER_POLICY_DELETED: &str = "DELETE FROM user_policies WHERE name = ?1";
const PROJECT_POLICY: &str = "INSERT INTO project_policies (name, id, body) VALUES (?1, ?2, ?3)
    ON CONFLICT (name) DO UPDATE SET name = ?1, id = ?2, body = ?3";
const PROJECT_POLICY_DELETED: &str = "DELETE FROM project_policies WHERE name = ?1";
const IMAGE: &str = "INSERT INTO images (reference, id, body) VALUES (?1, ?2, ?3)
    ON CONFLICT (reference) DO UPDATE SET id = ?2, body = ?3";
const IMAGE_FORGOTTEN: &str = "DELETE FROM images WHERE reference = ?1";
const PRESET: &str = "INSERT INTO presets (id, name, body) VALUES (?1, ?2, ?3)
    ON CONFLICT (id) DO UPDATE SET name = ?2, body = ?3";
const PRESET_DELETED: &str = "DELETE FROM presets WHERE id = ?1";
const CONFIG: &str = "INSERT INTO resource_config (version, provisioned_at, by, enabled, body)
    VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (version) DO UPDATE SET provisioned_at = ?2, by = ?3, enabled = ?4, body = ?5";
const DRAFT: &str = "INSERT INTO resource_config_draft (id, body) VALUES (1, ?1)
    ON CONFLICT (id) DO UPDATE SET body = ?1";
const DRAFT_DELETED: &str = "DELETE FROM resource_config_draft";
const CHARGE: &str = "INSERT INTO charges (group_id, priority, shape, retries, last_charged_at)
    VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (group_id, priority, shape) DO UPDATE SET retries = ?4, last_charged_at = ?5";
const CHARGE_FORGOTTEN: &str = "DELETE FROM charges
    WHERE group_id = ?1 AND priority = ?2 AND shape = ?3";
const CURSOR: &str = "INSERT INTO cursors (group_id, arch, agent) VALUES (?1, ?2, ?3)
    ON CONFLICT (group_id, arch) DO UPDATE SET agent = ?3";
const AGENT: &str = "INSERT INTO agents (id, name, group_id, state, body)
    VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (id) DO UPDATE SET name = ?2, group_id = ?3, state = ?4, body = ?5";
const INVENTORY: &str = "INSERT INTO inventories (agent, body) VALUES (?1, ?2)
    ON CONFLICT (agent) DO UPDATE SET body = ?2";
const TOKEN: &str = "INSERT INTO join_tokens (id, group_id, expires_at, body)
    VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (id) DO UPDATE SET group_id = ?2, expires_at = ?3, body = ?4";
const TOKEN_DELETED: &str = "DELETE FROM join_tokens WHERE id = ?1";
// What never changes of a session is not written again.
const SESSION: &str = "INSERT INTO sessions (id, owner, owner_name, name, group_id, group_name,
        kind, state, settled, priority, created_at, ended_at, version, body)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
    ON CONFLICT (id) DO UPDATE SET name = ?4, group_id = ?5, group_name = ?6, state = ?8,
        settled = ?9, priority = ?10, ended_at = ?12, version = ?13, body = ?14";
const HISTORY: &str = "INSERT INTO session_history
        (session, seq, at, from_state, to_state, reason, detail, by, attempt)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
// A session may have grown too old while somebody read what is left of it.
const REACHED: &str = "INSERT INTO session_reaches (session, after, at, by, what)
    SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM sessions WHERE id = ?1)";
// Only ever added: a number that is there already is an error.
const AUDIT_LINE: &str = "INSERT INTO audit
        (seq, at, actor, operation, target, outcome, hash, body, domain)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
// Of the start only, and only with a record that says so.
const AUDIT_FORGOTTEN: &str = "DELETE FROM audit WHERE seq <= ?1";
const OPENED: &str = "INSERT INTO ledger
        (session, rank, attempt, slot, device, agent, amount, opened_at, quota_freed_at)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
// The first time counts.
const FREED: &str = "UPDATE ledger SET quota_freed_at = coalesce(quota_freed_at, ?4)
    WHERE session = ?1 AND rank = ?2 AND attempt = ?3 AND closed_at IS NULL";
const CLOSED: &str = "UPDATE ledger SET closed_at = ?4
    WHERE session = ?1 AND rank = ?2 AND attempt = ?3 AND closed_at IS NULL";
const IDEMPOTENCY: &str = "INSERT INTO idempotency (caller, key, body, session, at)
    VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (caller, key) DO UPDATE SET body = ?3, session = ?4, at = ?5";
const IDEMPOTENCY_FORGOTTEN: &str = "DELETE FROM idempotency WHERE caller = ?1 AND key = ?2";
