//! Figures that are never stored: connections, heartbeats, progress of pulls.
//!
//! Written by the tasks that hear them, read by the API. Losing them loses no promise.

use longshore_common::agent::NodeLoad;
use longshore_common::api::Progress;
use longshore_common::ids::{AgentId, ContainerKey, Generation, SessionId};
use longshore_common::redact::Names;
use longshore_common::session::ContainerState;
use longshore_common::time::Timestamp;
use longshore_common::wire::{AuditEnd, ContainerReport, Figures, MAX_LIST, UseReport};
use longshore_core::model::AuditHead;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One agent's live figures.
#[derive(Debug, Default)]
pub struct AgentLive {
    /// Milliseconds on the coordinator's boot clock at the last heartbeat; 0 = none in this life.
    pub last_beat_ms: AtomicI64,
    /// Wall time of the last heartbeat; 0 = none.
    pub last_beat_at: AtomicI64,
    /// The number of the set it said last it had applied.
    pub applied: AtomicU64,
    /// By how many milliseconds its wall clock is ahead of ours, where that is too much; else 0.
    pub clock_off_ms: AtomicI64,
    details: Mutex<AgentDetails>,
}

/// The part that changes seldom.
#[derive(Debug, Clone, Default)]
pub struct AgentDetails {
    /// Address and time of the open connection.
    pub connection: Option<(String, Timestamp)>,
    /// Last figures.
    pub load: Option<NodeLoad>,
    /// It speaks no protocol of ours: both versions, and which is to be updated.
    pub incompatible: Option<String>,
}

/// What an agent last said about the use of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdleLive {
    /// When it will be stopped for being idle.
    pub deadline: Option<Timestamp>,
    /// It is frozen because the lease ran out.
    pub frozen: bool,
    /// A stop for being idle was warned of, and nobody used it since.
    pub idle: bool,
    /// When its use was last measured.
    pub used_at: Option<Timestamp>,
}

impl IdleLive {
    /// Neither is it to be stopped, nor is it frozen, nor was it used.
    const fn says_nothing(self) -> bool {
        self.deadline.is_none() && !self.frozen && !self.idle && self.used_at.is_none()
    }
}

/// A container of ours that no order names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// Where it stands.
    pub state: ContainerState,
    /// First characters of the engine's id.
    pub docker_id: String,
    /// When its process started.
    pub started_at: Option<Timestamp>,
    /// When it was reported first.
    pub since: Timestamp,
}

/// Live figures of everything.
#[derive(Debug, Default)]
pub struct Live {
    agents: Mutex<HashMap<AgentId, Arc<AgentLive>>>,
    /// By session, so that one that is over is forgotten whole; only of those that are not.
    progress: Mutex<HashMap<SessionId, HashMap<ContainerKey, Progress>>>,
    /// Of connected agents, and of containers that are on them.
    idle: Mutex<HashMap<AgentId, HashMap<ContainerKey, IdleLive>>>,
    /// What judging came to, and figures; of the same containers as `idle`.
    uses: Mutex<HashMap<AgentId, HashMap<ContainerKey, UseReport>>>,
    figures: Mutex<HashMap<AgentId, HashMap<ContainerKey, Figures>>>,
    held: Mutex<HashMap<AgentId, (Generation, BTreeSet<ContainerKey>)>>,
    /// Containers of ours that no order named when they were reported. Kept while their
    /// agent is away: they stay where they are.
    strangers: Mutex<HashMap<AgentId, BTreeMap<ContainerKey, Stranger>>>,
    /// Variables whose values nobody is shown.
    pub redaction: Names,
    /// What was counted since the process began.
    pub counted: Arc<crate::metrics::Counted>,
    /// What the watchdog did.
    pub watchdog: crate::watchdog::Cycles,
    /// Whether copies of the database can be made.
    pub backups: crate::backups::Standing,
    /// Room on the disk of the database.
    pub disk: crate::disk::Standing,
    /// The end of the audit log as it is stored.
    audit: Mutex<AuditEnd>,
    /// Number of the newest desired set that was handed out for each agent in this life.
    handed: Mutex<BTreeMap<AgentId, Generation>>,
    /// Ends of it that agents were told before they connected last.
    witnesses: Mutex<HashMap<AgentId, AuditEnd>>,
}

// A poisoned lock here only means that somebody panicked while writing a figure.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Live {
    /// Nothing yet, with the names whose values nobody is shown.
    #[must_use]
    pub fn hiding(redaction: Names) -> Self {
        Self {
            redaction,
            ..Self::default()
        }
    }

    /// A set with this number is about to be sent to an agent.
    pub fn note_handed(&self, agent: AgentId, generation: Generation) {
        let mut handed = lock(&self.handed);
        let newest = handed.entry(agent).or_insert(generation);
        *newest = (*newest).max(generation);
    }

    /// The newest set that may have been sent to each agent; of one that is not named, nobody
    /// knows: it was not connected in this life.
    #[must_use]
    pub fn handed(&self) -> BTreeMap<AgentId, Generation> {
        lock(&self.handed).clone()
    }
}

impl AgentLive {
    /// A copy of the details.
    #[must_use]
    pub fn details(&self) -> AgentDetails {
        lock(&self.details).clone()
    }

    /// Changes the details.
    pub fn update(&self, change: impl FnOnce(&mut AgentDetails)) {
        change(&mut lock(&self.details));
    }

    /// Wall time of the last heartbeat.
    #[must_use]
    pub fn last_heartbeat(&self) -> Option<Timestamp> {
        match self.last_beat_at.load(Ordering::Relaxed) {
            0 => None,
            at => Some(Timestamp(at)),
        }
    }
}

impl Live {
    /// The end of the audit log.
    #[must_use]
    pub fn audit_end(&self) -> AuditEnd {
        *lock(&self.audit)
    }

    /// The audit log ends there now.
    pub fn set_audit_end(&self, head: AuditHead) {
        let AuditHead { seq, hash } = head;
        *lock(&self.audit) = AuditEnd { seq, hash };
    }

    /// An agent says up to where it saw the audit log. False if that lies beyond its end: then
    /// its end was cut off, or an older copy of it was put in its place.
    pub fn witness(&self, agent: AgentId, saw: AuditEnd) -> bool {
        if saw.seq > 0 {
            lock(&self.witnesses).insert(agent, saw);
        }
        saw.seq <= self.audit_end().seq
    }

    /// Up to where agents saw the audit log; each end once.
    #[must_use]
    pub fn witnesses(&self) -> Vec<AuditEnd> {
        let mut all: Vec<AuditEnd> = lock(&self.witnesses).values().copied().collect();
        all.sort_unstable_by_key(|end| (end.seq, end.hash));
        all.dedup();
        all
    }

    /// The figures of one agent, made if there are none yet.
    #[must_use]
    pub fn agent(&self, id: AgentId) -> Arc<AgentLive> {
        Arc::clone(lock(&self.agents).entry(id).or_default())
    }

    /// Every agent heard of.
    #[must_use]
    pub fn agents(&self) -> Vec<(AgentId, Arc<AgentLive>)> {
        lock(&self.agents)
            .iter()
            .map(|(id, live)| (*id, Arc::clone(live)))
            .collect()
    }

    /// How far the pull for a container is.
    #[must_use]
    pub fn progress(&self, key: ContainerKey) -> Option<Progress> {
        let map = lock(&self.progress);
        map.get(&key.session)?.get(&key).copied()
    }

    /// What is known of the use of a container.
    #[must_use]
    pub fn idle(&self, agent: AgentId, key: ContainerKey) -> Option<IdleLive> {
        lock(&self.idle).get(&agent)?.get(&key).copied()
    }

    /// From now on what this agent says of use is kept: it is connected.
    pub fn keep_idle(&self, agent: AgentId) {
        lock(&self.idle).entry(agent).or_default();
    }

    /// Notes the use of a container; nothing to say forgets it. Nothing is kept of an agent
    /// whose link is gone: what it said may be looked at only afterwards.
    pub fn set_idle(&self, agent: AgentId, key: ContainerKey, idle: IdleLive) {
        if let Some(known) = lock(&self.idle).get_mut(&agent) {
            if idle.says_nothing() {
                known.remove(&key);
            } else {
                known.insert(key, idle);
            }
        }
    }

    /// Notes the use of everything an agent has, in place of what it said before.
    pub fn replace_idle(
        &self,
        agent: AgentId,
        all: impl IntoIterator<Item = (ContainerKey, IdleLive)>,
    ) {
        if let Some(known) = lock(&self.idle).get_mut(&agent) {
            let all = all.into_iter();
            *known = all.filter(|(_, idle)| !idle.says_nothing()).collect();
        }
    }

    /// What judging the use of a container came to, as its agent said last.
    #[must_use]
    pub fn use_of(&self, agent: AgentId, key: ContainerKey) -> Option<UseReport> {
        lock(&self.uses).get(&agent)?.get(&key).cloned()
    }

    /// Figures of a container so far, as its agent said last.
    #[must_use]
    pub fn figures_of(&self, agent: AgentId, key: ContainerKey) -> Option<Figures> {
        lock(&self.figures).get(&agent)?.get(&key).cloned()
    }

    /// Notes what judging the use of a container came to.
    pub fn set_use(&self, agent: AgentId, report: UseReport) {
        if lock(&self.idle).contains_key(&agent) {
            let mut uses = lock(&self.uses);
            uses.entry(agent).or_default().insert(report.key, report);
        }
    }

    /// Notes figures of a container.
    pub fn set_figures(&self, agent: AgentId, figures: Figures) {
        if lock(&self.idle).contains_key(&agent) {
            let mut all = lock(&self.figures);
            all.entry(agent).or_default().insert(figures.key, figures);
        }
    }

    /// Forgets what was said of the use of a container that is over.
    pub fn forget_use(&self, agent: AgentId, key: ContainerKey) {
        if let Some(known) = lock(&self.uses).get_mut(&agent) {
            known.remove(&key);
        }
        if let Some(known) = lock(&self.figures).get_mut(&agent) {
            known.remove(&key);
        }
    }

    /// Forgets what an agent said of use: its link is gone.
    pub fn forget_idle(&self, agent: AgentId) {
        lock(&self.uses).remove(&agent);
        lock(&self.figures).remove(&agent);
        lock(&self.idle).remove(&agent);
    }

    /// The containers a connected agent said it has, and the set it had applied then; none
    /// before it told all of them.
    #[must_use]
    pub fn held(&self, agent: AgentId) -> Option<(Generation, BTreeSet<ContainerKey>)> {
        lock(&self.held).get(&agent).cloned()
    }

    /// Notes everything an agent has; none forgets it: its link is gone.
    pub fn set_held(&self, agent: AgentId, held: Option<(Generation, BTreeSet<ContainerKey>)>) {
        let mut map = lock(&self.held);
        match held {
            Some(held) => drop(map.insert(agent, held)),
            None => drop(map.remove(&agent)),
        }
    }

    /// Notes that one of its containers is there, or is no more.
    pub fn note_held(&self, agent: AgentId, applied: Generation, key: ContainerKey, there: bool) {
        // What is not known as a whole is not known at all.
        if let Some((known, keys)) = lock(&self.held).get_mut(&agent) {
            *known = applied;
            if there {
                keys.insert(key);
            } else {
                keys.remove(&key);
            }
        }
    }

    /// The containers on an agent that no order named when they were reported, by key.
    #[must_use]
    pub fn strangers(&self, agent: AgentId) -> BTreeMap<ContainerKey, Stranger> {
        lock(&self.strangers)
            .get(&agent)
            .cloned()
            .unwrap_or_default()
    }

    /// Notes what reports say of containers that no order names; `known` are those that one
    /// does. With `whole` these are all there are.
    pub fn note_strangers(
        &self,
        agent: AgentId,
        reports: &[ContainerReport],
        known: &BTreeSet<ContainerKey>,
        whole: bool,
        now: Timestamp,
    ) {
        let mut map = lock(&self.strangers);
        let mut before = map.remove(&agent).unwrap_or_default();
        let mut after = match whole {
            true => BTreeMap::new(),
            false => before.clone(),
        };
        for report in reports {
            let first = before.remove(&report.key).map(|stranger| stranger.since);
            if report.state == ContainerState::Closed || known.contains(&report.key) {
                after.remove(&report.key);
            } else if after.len() < MAX_LIST {
                let stranger = Stranger {
                    state: report.state,
                    docker_id: report.docker_id.clone(),
                    started_at: report.started_at,
                    since: first.unwrap_or(now),
                };
                after.insert(report.key, stranger);
            }
        }
        if !after.is_empty() {
            map.insert(agent, after);
        }
    }

    /// Notes how far a pull is; none forgets it.
    pub fn set_progress(&self, key: ContainerKey, progress: Option<Progress>) {
        let mut map = lock(&self.progress);
        match progress {
            Some(progress) => drop(map.entry(key.session).or_default().insert(key, progress)),
            None => {
                if let Some(known) = map.get_mut(&key.session) {
                    known.remove(&key);
                    if known.is_empty() {
                        map.remove(&key.session);
                    }
                }
            }
        }
    }

    /// Forgets how far the pulls of a session are: it is over, whatever became of them.
    pub fn forget_progress(&self, session: SessionId) {
        lock(&self.progress).remove(&session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::ids::{Attempt, Rank};

    const AGENT: AgentId = AgentId::new(1);

    fn key(session: u64) -> ContainerKey {
        ContainerKey {
            session: SessionId(session),
            rank: Rank::MAIN,
            attempt: Attempt::FIRST,
        }
    }

    const fn until(at: i64) -> IdleLive {
        IdleLive {
            deadline: Some(Timestamp(at)),
            frozen: false,
            idle: false,
            used_at: None,
        }
    }

    #[test]
    fn use_is_known_of_connected_agents_only_and_as_a_whole() {
        let live = Live::default();
        live.set_idle(AGENT, key(1), until(1));
        live.replace_idle(AGENT, [(key(1), until(1))]);
        assert_eq!(live.idle(AGENT, key(1)), None, "it is not connected");
        live.keep_idle(AGENT);
        live.set_idle(AGENT, key(1), until(1));
        live.set_idle(AGENT, key(2), until(2));
        assert_eq!(live.idle(AGENT, key(1)), Some(until(1)));
        let nothing = IdleLive {
            deadline: None,
            frozen: false,
            idle: false,
            used_at: None,
        };
        live.replace_idle(AGENT, [(key(2), until(3)), (key(3), nothing)]);
        assert_eq!(live.idle(AGENT, key(1)), None, "it has it no more");
        assert_eq!(live.idle(AGENT, key(2)), Some(until(3)));
        assert_eq!(lock(&live.idle)[&AGENT].len(), 1);
        live.forget_idle(AGENT);
        live.set_idle(AGENT, key(2), until(4));
        assert!(lock(&live.idle).is_empty());
    }

    #[test]
    fn progress_leaves_nothing_behind() {
        let live = Live::default();
        let some = Some(Progress {
            bytes_done: 1,
            bytes_total: None,
            layers_done: 0,
            layers_total: None,
        });
        live.set_progress(key(1), some);
        live.set_progress(key(2), some);
        live.set_progress(key(1), None);
        assert_eq!((live.progress(key(1)), live.progress(key(2))), (None, some));
        live.forget_progress(SessionId(2));
        assert!(lock(&live.progress).is_empty());
    }

    #[test]
    fn what_no_order_names_is_kept_with_the_time_it_was_seen_first() {
        let report = |session, state| ContainerReport {
            key: key(session),
            state,
            docker_id: "abc".to_owned(),
            started_at: None,
            fence: longshore_common::ids::Fence(1),
            idle_deadline: None,
            frozen: false,
            idle: false,
            used_at: None,
            image: None,
        };
        let live = Live::default();
        let known = BTreeSet::from([key(1)]);
        let note = |reports: &[ContainerReport], whole, at| {
            live.note_strangers(AGENT, reports, &known, whole, Timestamp(at));
        };
        let seen = || -> Vec<(ContainerKey, ContainerState, i64)> {
            let all = live.strangers(AGENT).into_iter();
            all.map(|(key, s)| (key, s.state, s.since.0)).collect()
        };
        use ContainerState::{Closed, Exited, Running};
        note(&[report(1, Running), report(2, Running)], true, 10);
        assert_eq!(seen(), [(key(2), Running, 10)]);
        note(&[report(3, Running)], false, 20);
        note(&[report(2, Exited), report(3, Running)], true, 30);
        assert_eq!(seen(), [(key(2), Exited, 10), (key(3), Running, 20)]);
        note(&[report(3, Closed)], false, 40);
        assert_eq!(seen(), [(key(2), Exited, 10)]);
        note(&[report(1, Running)], true, 50);
        assert_eq!(seen(), []);
    }
}
