//! What the link sends, kept ready by the supervisor.

use super::material::Desk;
use crate::metrics::Tally;
use crate::standing::Standing;
use longshore_common::agent::{Inventory, NodeLoad, RuntimeState};
use longshore_common::ids::{ContainerKey, CoordinatorGeneration, Fence, Generation, InstanceId};
use longshore_common::session::ContainerState;
use longshore_common::wire::{
    AuditEnd, ContainerReport, Figures, NodeLayers, Notice, Outcome, OutcomeNumber, PullProgress,
    UnclaimedItem, UseReport, actual_hash,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, watch};
use zeroize::Zeroize as _;

/// Notices that wait at most; older ones are dropped and said to be.
const NOTICES: usize = 256;

/// Everything the coordinator should know.
#[derive(Debug)]
pub struct Outbox {
    /// The coordinator that is obeyed.
    pub coordinator: Option<(CoordinatorGeneration, InstanceId)>,
    /// The fence that is held.
    pub fence: Fence,
    /// The set that is applied.
    pub applied: Generation,
    /// Whether the engine answers.
    pub runtime: RuntimeState,
    /// Figures of the last sample.
    pub load: Option<NodeLoad>,
    /// What the machine is, with a number that goes up when it changes.
    pub inventory: (u64, Option<Inventory>),
    /// Outcomes until acknowledged.
    pub outcomes: BTreeMap<(ContainerKey, OutcomeNumber), Outcome>,
    /// How far pulls are.
    pub progress: BTreeMap<ContainerKey, PullProgress>,
    /// What judging the use of each running container came to.
    pub uses: BTreeMap<ContainerKey, UseReport>,
    /// Figures of each running container.
    pub figures: BTreeMap<ContainerKey, Figures>,
    /// What a person should hear about.
    pub(crate) notices: VecDeque<Notice>,
    /// Notices that were dropped since the last one was sent.
    dropped: u64,
    /// Notices that were dropped at all.
    dropped_ever: u64,
    /// Containers that no order names, with a number that goes up when they differ; 0 = they
    /// are not known yet.
    pub unclaimed: (u64, Vec<UnclaimedItem>),
    /// What this node's configuration sets for sessions, with a number that goes up when it
    /// differs.
    layers: (u64, NodeLayers),
    reports: BTreeMap<ContainerKey, (u64, ContainerReport)>,
    revision: u64,
    hash: Option<u64>,
}

impl Outbox {
    /// Says what this node's configuration sets for sessions.
    pub fn tell_layers(&mut self, layers: NodeLayers) {
        let (number, known) = &mut self.layers;
        if *known != layers {
            *number += 1;
            known.zeroize();
            *known = layers;
        }
    }

    /// What it sets, if a connection that has carried this number has not carried it yet; also
    /// that it sets nothing, since an earlier configuration may have.
    #[must_use]
    pub fn layers_since(&self, sent: u64) -> Option<(u64, NodeLayers)> {
        let (number, layers) = &self.layers;
        (*number > sent).then(|| (*number, layers.clone()))
    }

    /// Says how a container stands. Nothing happens when that is known already.
    pub fn report(&mut self, report: ContainerReport) -> bool {
        if self
            .reports
            .get(&report.key)
            .is_some_and(|(_, known)| *known == report)
        {
            return false;
        }
        self.revision += 1;
        self.hash = None;
        self.reports.insert(report.key, (self.revision, report));
        true
    }

    /// Says which containers no order names. Nothing happens when that is known already.
    pub fn tell_unclaimed(&mut self, items: Vec<UnclaimedItem>) -> bool {
        let (number, known) = &mut self.unclaimed;
        if *number > 0 && *known == items {
            return false;
        }
        *number += 1;
        *known = items;
        true
    }

    /// Forgets a container that is closed and acknowledged.
    pub fn forget(&mut self, key: ContainerKey) {
        self.reports.remove(&key);
        self.uses.remove(&key);
        self.figures.remove(&key);
        self.hash = None;
    }

    /// Adds a notice.
    pub fn notice(&mut self, notice: Notice) {
        if self.notices.len() >= NOTICES {
            self.notices.pop_front();
            self.dropped += 1;
            self.dropped_ever += 1;
        }
        self.notices.push_back(notice);
    }

    /// How many notices were dropped since the process began.
    #[must_use]
    pub const fn dropped_ever(&self) -> u64 {
        self.dropped_ever
    }

    /// Where each container stands, as the coordinator is told.
    pub fn states(&self) -> impl Iterator<Item = ContainerState> {
        self.reports.values().map(|(_, report)| report.state)
    }

    /// The oldest notice; it says how many before it were dropped. It stays until it is told
    /// to be sent: a link may break off in between.
    #[must_use]
    pub fn next_notice(&self) -> Option<Notice> {
        let mut notice = self.notices.front()?.clone();
        if self.dropped > 0 {
            notice.text = format!(
                "{} ({} before this one were dropped)",
                notice.text, self.dropped
            );
        }
        Some(notice)
    }

    /// A notice was sent.
    pub fn sent_notice(&mut self, number: u64) {
        // Meanwhile it may have been dropped itself.
        if self.notices.front().is_some_and(|n| n.number == number) {
            self.notices.pop_front();
            self.dropped = 0;
        }
    }

    /// All reports.
    #[must_use]
    pub fn all_reports(&self) -> Vec<ContainerReport> {
        self.reports
            .values()
            .map(|(_, report)| report.clone())
            .collect()
    }

    /// Reports newer than a revision, oldest first, and the revision they reach.
    #[must_use]
    pub fn reports_since(&self, revision: u64, most: usize) -> (Vec<ContainerReport>, u64, bool) {
        let mut news: Vec<&(u64, ContainerReport)> = self
            .reports
            .values()
            .filter(|(at, _)| *at > revision)
            .collect();
        news.sort_by_key(|(at, _)| *at);
        let more = news.len() > most;
        news.truncate(most);
        let reached = if more {
            news.last().map_or(revision, |(at, _)| *at)
        } else {
            self.revision
        };
        (
            news.into_iter().map(|(_, report)| report.clone()).collect(),
            reached,
            more,
        )
    }

    /// The number of the newest report.
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Hash over what is not closed, see `wire::actual_hash`.
    #[must_use]
    pub fn hash(&mut self) -> u64 {
        let reports = &self.reports;
        *self.hash.get_or_insert_with(|| {
            actual_hash(
                reports
                    .iter()
                    .filter(|(_, (_, report))| report.state != ContainerState::Closed)
                    .map(|(key, (_, report))| (key, report.state)),
            )
        })
    }
}

/// What supervisor and link share.
#[derive(Debug)]
pub struct Shared {
    outbox: Mutex<Outbox>,
    /// Something in the outbox should not wait for the next beat.
    pub changed: Notify,
    /// The connection that stands is to be made anew.
    anew: Notify,
    /// Who waits for what containers are given.
    pub desk: Desk,
    /// What is noted for figures alone.
    pub tally: Tally,
    /// True once the agent stops: the link says goodbye.
    stopping: watch::Sender<bool>,
    /// A newer process of this agent took over.
    replaced: watch::Sender<bool>,
    /// Boot clock at the sending of the last heartbeat that was acknowledged; 0 = none.
    pub acked_sent_ms: AtomicI64,
    learned: Mutex<Vec<String>>,
    /// How the link stands, for whoever started this program.
    standing: watch::Sender<Standing>,
    /// The end of the coordinator's audit log, and whether it is newer than what is stored.
    audit: Mutex<(AuditEnd, bool)>,
}

impl Shared {
    /// Has the connection that stands made anew: over each the coordinator says its orders.
    pub fn ask_anew(&self) {
        self.anew.notify_waiters();
    }

    /// Ends when that is asked after this call, however late it is first looked at.
    pub fn asked_anew(&self) -> Notified<'_> {
        self.anew.notified()
    }

    /// The newest end of the audit log that was told.
    #[must_use]
    pub fn audit_end(&self) -> AuditEnd {
        self.audit.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// The coordinator tells the end of its audit log. The newest is kept: an older one may be
    /// that of a log whose end was cut off.
    pub fn saw_audit_end(&self, end: AuditEnd) {
        let mut audit = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
        if end.seq > audit.0.seq {
            *audit = (end, true);
        }
    }

    /// What has to be stored of it, if it is newer than what was.
    #[must_use]
    pub fn audit_end_to_store(&self) -> Option<AuditEnd> {
        let mut audit = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut audit.1).then_some(audit.0)
    }

    /// What an earlier process was told.
    pub fn remember_audit_end(&self, end: AuditEnd) {
        let mut audit = self.audit.lock().unwrap_or_else(PoisonError::into_inner);
        *audit = (end, false);
    }

    /// Nothing known yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            outbox: Mutex::new(Outbox {
                coordinator: None,
                fence: Fence::default(),
                applied: Generation::default(),
                runtime: RuntimeState::Down,
                load: None,
                inventory: (0, None),
                outcomes: BTreeMap::new(),
                progress: BTreeMap::new(),
                uses: BTreeMap::new(),
                figures: BTreeMap::new(),
                notices: VecDeque::new(),
                dropped: 0,
                dropped_ever: 0,
                unclaimed: (0, Vec::new()),
                layers: (1, NodeLayers::default()),
                reports: BTreeMap::new(),
                revision: 0,
                hash: None,
            }),
            changed: Notify::new(),
            anew: Notify::new(),
            #[cfg(not(test))]
            desk: Desk::default(),
            #[cfg(test)]
            desk: Desk::answering(),
            tally: Tally::default(),
            stopping: watch::channel(false).0,
            replaced: watch::channel(false).0,
            acked_sent_ms: AtomicI64::new(0),
            learned: Mutex::new(Vec::new()),
            standing: watch::channel(Standing::New).0,
            audit: Mutex::new((AuditEnd::default(), false)),
        }
    }

    /// The outbox. Held only for moments, never across an await.
    pub fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how the link stands.
    pub fn stands(&self, standing: Standing) {
        self.standing.send_replace(standing);
    }

    /// The coordinator was told what this node is.
    pub fn told(&self, inventory: &Inventory) {
        self.standing
            .send_modify(|standing| standing.told(inventory));
    }

    /// How the link stands, and what becomes of it.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Tells the link that the agent stops.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Returns once the agent stops.
    pub async fn stopped(&self) {
        let mut stopping = self.stopping.subscribe();
        let _ = stopping.wait_for(|stopping| *stopping).await; // its sender lives as long as we
    }

    /// Says that a newer process of this agent took over.
    pub fn replace(&self) {
        self.replaced.send_replace(true);
    }

    /// Returns once a newer process of this agent has taken over.
    pub async fn replaced(&self) {
        let mut replaced = self.replaced.subscribe();
        let _ = replaced.wait_for(|replaced| *replaced).await; // as in `stopped`
    }

    /// Addresses to dial: the configured ones, then those the coordinator named.
    #[must_use]
    pub fn addresses(&self, configured: &[String]) -> Vec<String> {
        let mut all = configured.to_vec();
        let learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        for address in learned.iter() {
            if !all.contains(address) {
                all.push(address.clone());
            }
        }
        all
    }

    /// Takes over the addresses the coordinator named; whether they are others than before.
    pub fn learn(&self, addresses: &[String]) -> bool {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        let named = addresses.get(..8).unwrap_or(addresses);
        let differs = *learned != named;
        if differs {
            *learned = named.to_vec();
        }
        differs
    }

    /// Milliseconds since the last heartbeat the coordinator acknowledged was sent.
    #[must_use]
    pub fn since_acked_ms(&self, now_boot_ms: i64) -> Option<i64> {
        match self.acked_sent_ms.load(Ordering::Relaxed) {
            0 => None,
            at => Some(now_boot_ms - at),
        }
    }
}

impl Default for Shared {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Files;
    use longshore_common::time::Timestamp;
    use longshore_common::wire::NoticeKind;

    fn notice(number: u64) -> Notice {
        Notice {
            number,
            kind: NoticeKind::Warning,
            text: format!("n{number}"),
            key: None,
            device: None,
            at: Timestamp(0),
        }
    }

    #[test]
    fn notices_stay_until_they_are_sent() {
        let shared = Shared::new();
        let mut outbox = shared.outbox();
        outbox.notice(notice(1));
        outbox.notice(notice(2));
        assert_eq!(outbox.next_notice(), Some(notice(1)));
        assert_eq!(outbox.next_notice(), Some(notice(1)), "the link broke off");
        outbox.sent_notice(1);
        assert_eq!(outbox.next_notice(), Some(notice(2)));
    }

    #[test]
    fn the_next_notice_says_how_many_were_dropped() {
        let shared = Shared::new();
        let mut outbox = shared.outbox();
        let most = NOTICES as u64;
        (1..=most).for_each(|n| outbox.notice(notice(n)));
        let sending = outbox.next_notice().unwrap();
        outbox.notice(notice(most + 1));
        outbox.notice(notice(most + 2));
        outbox.sent_notice(sending.number);
        let next = outbox.next_notice().unwrap();
        assert_eq!(next.number, 3);
        assert_eq!(next.text, "n3 (2 before this one were dropped)");
        outbox.sent_notice(3);
        assert_eq!(outbox.next_notice(), Some(notice(4)));
    }

    #[test]
    fn every_connection_carries_what_sessions_are_given_and_then_news_of_it() {
        let shared = Shared::new();
        let mut outbox = shared.outbox();
        let layers = |text: &[u8]| NodeLayers {
            documents: text.to_vec(),
        };
        assert_eq!(outbox.layers_since(0), Some((1, layers(b""))));
        assert_eq!(outbox.layers_since(1), None);
        outbox.tell_layers(layers(b"[]"));
        outbox.tell_layers(layers(b"[]"));
        assert_eq!(outbox.layers_since(1), Some((2, layers(b"[]"))));
        assert_eq!(outbox.layers_since(2), None);
    }

    #[test]
    fn where_the_coordinator_says_it_is_outlives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path());
        let joined = ["old:7420".to_owned()];
        assert_eq!(files.addresses(), Vec::<String>::new());
        let named = ["new:7420".to_owned(), "old:7420".to_owned()];
        let shared = Shared::new();
        assert!(shared.learn(&named) && !shared.learn(&named));
        files.store_addresses(&named).unwrap();
        let next = Shared::new();
        next.learn(&files.addresses());
        assert_eq!(next.addresses(&joined), ["old:7420", "new:7420"]);
        std::fs::write(dir.path().join("addresses.json"), "[1").unwrap();
        assert_eq!(files.addresses(), Vec::<String>::new());
    }

    #[test]
    fn the_newest_end_of_the_audit_log_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::new(dir.path());
        let shared = Shared::new();
        let end = |seq| AuditEnd { seq, hash: [7; 32] };
        assert_eq!(
            (files.audit_end(), shared.audit_end_to_store()),
            (None, None)
        );
        shared.saw_audit_end(end(5));
        shared.saw_audit_end(end(3)); // a log that was cut off
        let kept = shared.audit_end_to_store().unwrap();
        assert_eq!((kept, shared.audit_end_to_store()), (end(5), None));
        files.store_audit_end(kept).unwrap();
        let next = Shared::new();
        next.remember_audit_end(files.audit_end().unwrap());
        assert_eq!(next.audit_end(), end(5));
        assert_eq!(next.audit_end_to_store(), None);
    }
}
