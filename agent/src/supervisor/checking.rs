//! Whether containers got what they were given, and nothing more.

use super::{CHECK_TRIES, Check, Checked, Event, NOTE_USE_MS, Supervisor, outcome, steps};
use crate::journal::{Idle, JournalError, Record, Seen};
use crate::runtime::{Breach, Containers, Found, FoundStatus, RuntimeError};
use longshore_common::ids::ContainerKey;
use longshore_common::session::{Cause, ContainerState, End};
use longshore_common::wire::{NoticeKind, OutcomeNumber};
use std::sync::Arc;
use tracing::warn;

impl<C: Containers> Supervisor<C> {
    /// What a comparison with the grant came to.
    pub(super) fn take_check(
        &mut self,
        key: ContainerKey,
        checked: Checked,
    ) -> Result<(), JournalError> {
        match checked {
            Ok(breach) => {
                self.checks.remove(&key);
                self.note_checked(key)?;
                match breach {
                    Some(breach) => self.take_breach(key, &breach),
                    None => {
                        self.report(key);
                        Ok(())
                    }
                }
            }
            Err(error) => self.check_failed(key, &error),
        }
    }

    pub(super) fn note_checked(&mut self, key: ContainerKey) -> Result<(), JournalError> {
        let seen = self.journal.contents().seen.get(&key);
        if seen.is_some_and(|seen| seen.checked) || self.journal.key(key).is_none() {
            return Ok(());
        }
        let seen = Seen {
            checked: true,
            ..seen.cloned().unwrap_or_default()
        };
        self.journal.note(vec![Record::Seen(key, seen)])
    }

    /// When containers were last used, for an agent that follows on this one.
    pub(super) fn note_use(&mut self, now: i64) -> Result<(), JournalError> {
        let mut records = Vec::new();
        for (key, watching) in &self.watching {
            let lives = self.journal.key(*key).is_some_and(|r| r.ended.is_none());
            let Some(at) = watching.activity_ms(now).filter(|_| lives) else {
                continue;
            };
            let seen = self.journal.contents().seen.get(key);
            let same_boot = seen.filter(|seen| seen.boot_id == self.boot_id);
            let noted = same_boot.and_then(|seen| seen.used_boot_ms);
            if noted.is_none_or(|noted| at >= noted.saturating_add(NOTE_USE_MS)) {
                let seen = Seen {
                    checked: seen.is_some_and(|seen| seen.checked),
                    used_boot_ms: Some(at),
                    boot_id: self.boot_id.clone(),
                };
                records.push(Record::Seen(*key, seen));
            }
        }
        match records.is_empty() {
            true => Ok(()),
            false => self.journal.note(records),
        }
    }

    /// What running containers used so far, for the same: now and then, and when this one ends.
    pub(super) fn note_sums(&mut self, now: i64, last: bool) -> Result<(), JournalError> {
        let mut records = Vec::new();
        for (key, watching) in &mut self.watching {
            if self.journal.key(*key).is_none_or(|r| r.ended.is_some()) {
                continue;
            }
            let sums = watching.sums_due(now, last);
            let news = sums.filter(|sums| self.journal.contents().sums.get(key) != Some(sums));
            records.extend(news.map(|sums| Record::Sums(*key, Box::new(sums))));
        }
        match records.is_empty() {
            true => Ok(()),
            false => self.journal.note(records),
        }
    }

    /// How running containers are used and what was warned of, for the same.
    pub(super) fn note_idle(&mut self, now: i64, last: bool) -> Result<(), JournalError> {
        let mut records = Vec::new();
        for (key, watching) in &mut self.watching {
            if self.journal.key(*key).is_none_or(|r| r.ended.is_some()) {
                continue;
            }
            let Some((history, warned)) = watching.idle_due(now, last) else {
                continue;
            };
            let idle = Idle {
                boot_id: self.boot_id.clone(),
                started_boot_ms: watching.started_ms(),
                history,
                warned,
            };
            if self.journal.contents().idle.get(key) != Some(&idle) {
                records.push(Record::Idle(*key, Box::new(idle)));
            }
        }
        match records.is_empty() {
            true => Ok(()),
            false => self.journal.note(records),
        }
    }

    /// A comparison that failed says nothing: it is made again at the next tick.
    pub(super) fn check_failed(
        &mut self,
        key: ContainerKey,
        error: &RuntimeError,
    ) -> Result<(), JournalError> {
        let Some(check) = self.checks.get_mut(&key) else {
            return Ok(()); // it ended meanwhile
        };
        check.asking = false;
        if !check.told {
            warn!(%key, %error, "what a container got could not be checked; tried again");
            check.told = true;
        }
        if error.is_engine_trouble() {
            // No session ends because the engine is away. One that does not come back ends
            // a start by the coordinator's deadline for it.
            self.unwell(error);
            return Ok(());
        }
        check.failures += 1;
        let (failures, starting) = (check.failures, check.starting);
        if *error == RuntimeError::NotFound {
            self.look(key);
        }
        if failures < CHECK_TRIES {
            return Ok(());
        }
        self.checks.remove(&key);
        let text = format!("what it got could not be checked, {failures} times: {error}");
        if !starting {
            // It passed before: told, and checked again with the next round.
            warn!(%key, %text, "a container is not checked");
            self.notice(NoticeKind::Breach, Some(key), None, text);
            return Ok(());
        }
        let cause = Cause::StartFailed;
        warn!(%key, %cause, detail = %text, "start failed");
        let detail = text.chars().take(1000).collect();
        let end = End::StartFailed { cause, detail };
        self.store_ended(outcome(key, OutcomeNumber::Ended, Some(end)))?;
        self.reconcile(key)
    }

    /// A container that has less or more than it was granted.
    pub(super) fn take_breach(
        &mut self,
        key: ContainerKey,
        breach: &Breach,
    ) -> Result<(), JournalError> {
        let text = match breach {
            Breach::Fewer(text) | Breach::More(text) => text.clone(),
        };
        warn!(%key, %text, "the container does not have what it was granted");
        self.notice(NoticeKind::Breach, Some(key), None, text.clone());
        let running = self.watching.contains_key(&key)
            && self
                .journal
                .key(key)
                .is_some_and(|r| r.ended.is_none() && r.local_stop.is_none());
        if !running {
            return Ok(());
        }
        let started = self
            .shared
            .outbox()
            .all_reports()
            .iter()
            .any(|r| r.key == key && r.state == ContainerState::Running);
        if started {
            // It ran well before: more than granted ends it, fewer is told.
            if matches!(breach, Breach::More(_)) {
                self.journal.write(vec![Record::LocalStop(
                    key,
                    longshore_common::session::Reason::RuntimeError,
                )])?;
            }
        } else {
            let cause = match breach {
                Breach::Fewer(_) => Cause::GpuNotVisible,
                Breach::More(_) => Cause::LocalPolicy,
            };
            self.store_ended(outcome(
                key,
                OutcomeNumber::Ended,
                Some(End::StartFailed {
                    cause,
                    detail: text,
                }),
            ))?;
        }
        self.reconcile(key)
    }

    /// Running containers with devices are to be compared with their grants.
    pub(super) fn note_checks(&mut self) {
        for (key, found) in &self.found {
            let has_devices = self
                .desired
                .get(key)
                .is_some_and(|e| !e.spec.devices.is_empty());
            if has_devices && found.status == FoundStatus::Running {
                let check = Check::new(false);
                self.checks.entry(*key).or_insert(check);
            }
        }
    }

    /// Begins the comparisons that are due: noted ones, and those that failed before.
    pub(super) fn make_checks(&mut self) {
        let runs = |f: &Found| matches!(f.status, FoundStatus::Running | FoundStatus::Paused);
        let (found, busy) = (&self.found, &self.busy);
        // A process that ended has nothing that could be compared.
        self.checks
            .retain(|key, _| busy.contains_key(key) || found.get(key).is_some_and(runs));
        let due: Vec<ContainerKey> = self
            .checks
            .iter()
            .filter(|(key, check)| !check.asking && !self.busy.contains_key(key))
            .map(|(key, _)| *key)
            .collect();
        for key in due {
            let (Some(entry), Some(found)) = (self.desired.get(&key), self.found.get(&key)) else {
                continue;
            };
            if self.waits_for_gpus(entry) {
                continue;
            }
            let (runtime, events) = (Arc::clone(&self.runtime), self.events.clone());
            let (id, request) = (found.docker_id.clone(), self.request(entry));
            tokio::spawn(async move {
                let checked = steps::verify(runtime, id, request).await;
                let _ = events.send(Event::Verified(key, checked)).await; // see spawn
            });
            if let Some(check) = self.checks.get_mut(&key) {
                check.asking = true;
            }
        }
    }
}
