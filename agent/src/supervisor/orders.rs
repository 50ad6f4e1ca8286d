//! What the coordinator asks: signed sets, signals, acknowledgements.

use super::Supervisor;
use crate::host;
use crate::journal::{JournalError, Record};
use crate::runtime::{Containers, FoundStatus};
use longshore_common::ids::ContainerKey;
use longshore_common::session::Want;
use longshore_common::wire::{
    DesiredSet, NoticeKind, OutcomeNumber, SIGNALS, SignalRequest, SignedSet, SigningInput,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::oneshot;
use tracing::warn;

impl<C: Containers> Supervisor<C> {
    pub(super) fn journal_coordinator(
        &mut self,
        welcome: &longshore_common::wire::Welcome,
    ) -> Result<(), JournalError> {
        let now = (welcome.coordinator_generation, welcome.coordinator_instance);
        if self.journal.contents().coordinator != Some(now) {
            self.journal
                .write(vec![Record::Coordinator(now.0, now.1)])?;
            self.shared.outbox().coordinator = Some(now);
        }
        Ok(())
    }

    /// Checks the signature and reads the set.
    pub(super) fn open(&self, signed: &SignedSet) -> Result<DesiredSet, String> {
        let key = ring::signature::UnparsedPublicKey::new(
            &ring::signature::ED25519,
            &self.config.work_key,
        );
        key.verify(&SigningInput::desired_set(&signed.bytes), &signed.signature)
            .map_err(|_| "the signature is not the coordinator's".to_owned())?;
        let set = signed.open().map_err(str::to_owned)?;
        if set.cluster != self.config.cluster || set.agent != self.config.agent {
            return Err("the set is for another agent".to_owned());
        }
        Ok(set)
    }

    pub(super) fn take_set(&mut self, signed: SignedSet) -> Result<(), JournalError> {
        let set = match self.open(&signed) {
            Ok(set) => set,
            Err(why) => {
                warn!(%why, "orders are refused");
                self.notice(
                    NoticeKind::Breach,
                    None,
                    None,
                    format!("orders were refused: {why}"),
                );
                return Ok(());
            }
        };
        let theirs = (set.coordinator_generation, set.coordinator_instance);
        let stale = self
            .journal
            .contents()
            .coordinator
            .is_some_and(|(generation, instance)| {
                theirs.0 < generation || (theirs.0 == generation && theirs.1 != instance)
            });
        if stale {
            warn!(
                generation = theirs.0.0,
                "orders of an older coordinator are refused"
            );
            let text = "orders were refused: a newer coordinator was obeyed".to_owned();
            self.notice(NoticeKind::Breach, None, None, text);
            return Ok(());
        }
        let known = self
            .set
            .as_ref()
            .map(|s| (s.coordinator_generation, s.generation));
        let this = (theirs.0, set.generation);
        // One that is not newer still counts its deadlines from now, which those out of the
        // journal may not do well: taken once over each link.
        let newer = known.is_none_or(|known| this > known || this == known && !self.set_is_fresh);
        if newer {
            self.set_is_fresh = self.link_up;
            // Settled with the first thing that is done for it, at the latest below.
            self.journal.put(vec![
                Record::Coordinator(theirs.0, theirs.1),
                Record::Set(signed, set.fence),
                Record::Arrived(self.boot_id.clone(), host::boot_clock_ms()),
            ])?;
            {
                let mut outbox = self.shared.outbox();
                outbox.coordinator = Some(theirs);
                outbox.fence = set.fence;
            }
            let before: BTreeSet<ContainerKey> = self.desired.keys().copied().collect();
            self.adopt_set(set, 0);
            self.tell_ends_again(&before);
            self.take_lifetimes()?;
        }
        let was_synced = std::mem::replace(&mut self.synced, self.link_up);
        if self.synced && !was_synced && !self.lease_over() {
            self.thaw_past_engine();
        }
        self.reconcile_all()?;
        // Only now: what is reported as applied is reported with all its keys.
        self.shared.outbox().applied = self.set.as_ref().map(|s| s.generation).unwrap_or_default();
        self.shared.changed.notify_one();
        Ok(())
    }

    /// An end that was acknowledged is told again if its key is ordered anew: who acknowledged it
    /// did not know the key then, and does not know how it ended.
    fn tell_ends_again(&mut self, before: &BTreeSet<ContainerKey>) {
        let new = self.desired.values();
        let new = new.filter(|e| e.want != Want::Stop && !before.contains(&e.key));
        let ends: Vec<_> = new
            .filter_map(|entry| self.journal.key(entry.key))
            .filter(|record| record.ended_acked && record.closed.is_none())
            .filter_map(|record| record.ended.clone())
            .collect();
        for outcome in ends {
            self.publish(outcome);
        }
    }

    /// Passes a person's signal on to the main process of a running container.
    pub(super) fn signal(
        &mut self,
        request: &SignalRequest,
        reply: oneshot::Sender<Result<(), String>>,
    ) {
        let running = self
            .found
            .get(&request.key)
            .filter(|f| f.status == FoundStatus::Running);
        let known = SIGNALS.contains(&request.signal.as_str());
        let Some(found) = running.filter(|_| known) else {
            let _ = reply.send(Err("its container does not run here".to_owned())); // the asker may have gone
            return;
        };
        let (runtime, id, signal) = (
            Arc::clone(&self.runtime),
            found.docker_id.clone(),
            request.signal.clone(),
        );
        tokio::spawn(async move {
            let sent = runtime
                .signal(&id, &signal)
                .await
                .map_err(|e| e.to_string());
            let _ = reply.send(sent); // the asker may have gone
        });
    }

    pub(super) fn adopt_set(&mut self, set: DesiredSet, age_ms: i64) {
        self.set_boot_ms = host::boot_clock_ms().saturating_sub(age_ms);
        self.lease.lease_ms = i64::try_from(set.lease_ms).unwrap_or(i64::MAX);
        self.desired = set.entries.iter().map(|e| (e.key, e.clone())).collect();
        for (key, watching) in &mut self.watching {
            if let Some(entry) = self.desired.get(key) {
                watching.take_limits(&entry.limits, self.set_boot_ms);
            }
        }
        self.drain_since_ms = match set.drain {
            Some(_) => self.drain_since_ms.or(Some(self.set_boot_ms)),
            None => None,
        };
        self.set = Some(set);
    }

    /// Deadlines that moved by more than the way of a message are taken over.
    pub(super) fn take_lifetimes(&mut self) -> Result<(), JournalError> {
        let now = host::boot_clock_ms();
        let mut records = Vec::new();
        for (key, entry) in &self.desired {
            let Some(record) = self.journal.key(*key) else {
                continue;
            };
            let lifetime = entry.limits.lifetime;
            let at = lifetime.map(|d| now.saturating_add(d.remaining_ms));
            let moved = match (at, record.lifetime_boot_ms) {
                (Some(new), Some(old)) => new.saturating_sub(old).saturating_abs() > 2000,
                (new, old) => new.is_some() != old.is_some(),
            };
            if moved && record.boot_id == self.boot_id {
                records.push(Record::Lifetime(*key, at, self.boot_id.clone()));
                if let Some(watching) = self.watching.get_mut(key) {
                    watching.set_lifetime(at);
                }
            }
        }
        if records.is_empty() {
            Ok(())
        } else {
            self.journal.put(records) // its caller settles
        }
    }

    pub(super) fn take_ack(
        &mut self,
        key: ContainerKey,
        number: OutcomeNumber,
    ) -> Result<(), JournalError> {
        if self
            .shared
            .outbox()
            .outcomes
            .remove(&(key, number))
            .is_none()
        {
            return Ok(());
        }
        self.journal.note(vec![Record::Acked(key, number)])?;
        if number == OutcomeNumber::Closed {
            self.shared.outbox().forget(key);
            // The next set no longer names it; until that comes it must not look new.
            if self.desired.get(&key).is_some_and(|e| e.want == Want::Stop) {
                self.desired.remove(&key);
            }
            self.newer_than_list.insert(key);
            self.found.remove(&key);
            self.watching.remove(&key);
            self.inside.remove(&key);
            self.checks.remove(&key);
            self.retry_at.remove(&key);
            self.logs.release(key);
            self.tunnels.forget(key);
        }
        Ok(())
    }
}
