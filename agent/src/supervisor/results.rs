//! What came of a step: how a container was found, started or ended.

use super::watching::Watching;
use super::{Doing, Done, Supervisor, outcome, steps};
use crate::host::wall_clock;
use crate::journal::{JournalError, Record, Stage};
use crate::reconcile::Ending;
use crate::runtime::{Containers, Found, FoundStatus, RuntimeError};
use longshore_common::ids::ContainerKey;
use longshore_common::session::{Cause, End, Entry, Exit, Want};
use longshore_common::wire::{Claim, Outcome, OutcomeNumber};
use std::sync::Arc;
use tracing::{info, warn};

/// What the kernel counted counts beside what the engine noticed, which misses ends now and then.
/// Of one that was not killed the counted process was another: it says why itself.
fn for_want_of_memory(exit: Exit, counted: bool) -> Exit {
    Exit {
        oom: exit.oom || counted && exit.signal == Some(KILLED),
        ..exit
    }
}

/// The number of SIGKILL.
const KILLED: i32 = 9;

impl<C: Containers> Supervisor<C> {
    pub(super) fn end(&mut self, key: ContainerKey, ending: Ending) {
        let found = self.own(key).cloned();
        if let Some(found) = &found {
            self.follow(key, found); // output written while we were away
        }
        let watching = self.watching.get(&key);
        let short = watching.is_some_and(Watching::ran_short);
        let (end, at) = match ending {
            Ending::Exited(exit) => {
                let exit = for_want_of_memory(exit, short);
                (End::Exited(exit.clone()), exit.at)
            }
            Ending::Stopped(reason, exit) => {
                let at = exit.as_ref().map_or_else(wall_clock, |e| e.at);
                (End::Stopped { reason, exit }, at)
            }
            Ending::Vanished { rebooted } => (End::Vanished { rebooted }, wall_clock()),
        };
        let gone = matches!(end, End::Vanished { .. }) || found.is_none();
        let output = watching.filter(|_| !gone).map(|w| w.output.clone());
        let (mut totals, devices) = match (watching, self.journal.contents().sums.get(&key)) {
            (Some(watching), _) => watching.figures(),
            // It vanished before this process saw it: what an earlier one counted is all there is.
            (None, Some(sums)) => (sums.totals, sums.devices.clone()),
            (None, None) => Default::default(),
        };
        if let End::Exited(exit)
        | End::Stopped {
            exit: Some(exit), ..
        } = &end
            && exit.oom
        {
            // It was ended for having all it may have; a sample may have come too early to see it.
            let limit = self.desired.get(&key).map(|e| e.spec.slots.mem_bytes());
            totals.memory_peak = totals.memory_peak.max(limit);
        }
        let started_at = found.and_then(|f| f.started_at);
        let step = steps::end(
            Arc::clone(&self.logs),
            key,
            end,
            started_at,
            at,
            (totals, devices),
            output,
        );
        self.spawn(key, Doing::Ending, step);
    }

    pub(super) fn store_ended(&mut self, outcome: Outcome) -> Result<(), JournalError> {
        self.checks.remove(&outcome.key);
        let (runtime, key) = (Arc::clone(&self.runtime), outcome.key);
        // What it was given does not outlive it, however long its container stays.
        tokio::spawn(async move { runtime.forget_files(key).await });
        let fence = self.journal.contents().fence;
        let boot_id = self.boot_id.clone();
        self.journal.write(vec![Record::Ended(
            Box::new(outcome.clone()),
            fence,
            boot_id,
        )])?;
        self.publish(outcome);
        Ok(())
    }

    pub(super) fn publish(&mut self, outcome: Outcome) {
        let key = outcome.key;
        self.shared
            .outbox()
            .outcomes
            .insert((key, outcome.number), outcome);
        self.report(key);
        self.shared.changed.notify_one();
    }

    pub(super) fn take_done(&mut self, key: ContainerKey, done: Done) -> Result<(), JournalError> {
        if let Done::Creating = done {
            if let Some(busy) = self.busy.get_mut(&key) {
                busy.doing = Doing::Creating;
            }
            return Ok(());
        }
        if let Done::Notes(notes) = done {
            for note in notes {
                self.notice(note.kind, Some(key), None, note.text);
            }
            return Ok(());
        }
        self.newer_than_list.insert(key);
        let Some(busy) = self.busy.remove(&key) else {
            return Ok(());
        };
        self.note_step(busy.doing, &done);
        if busy.again {
            self.look(key);
        }
        match done {
            Done::Creating | Done::Notes(_) => Ok(()),
            Done::Prepared(Ok(docker_id)) => {
                self.well();
                // The engine knows it too; the record of the start is waited for.
                self.journal.note(vec![Record::Created {
                    key,
                    docker_id: docker_id.clone(),
                }])?;
                self.note_found_created(key, docker_id);
                Ok(())
            }
            Done::Prepared(Err(error)) | Done::Started(Err(error)) => self.failed_start(key, error),
            Done::Started(Ok((found, checked))) => {
                self.well();
                self.found.insert(key, (*found).clone());
                self.follow(key, &found);
                self.take_check(key, checked)
            }
            Done::Found(Ok(found)) => {
                self.well();
                self.take_found(key, *found);
                Ok(())
            }
            Done::Found(Err(error)) | Done::Removed(Err(error)) => {
                self.engine_error(key, &error);
                Ok(())
            }
            Done::NotFrozen(why) => {
                self.not_frozen(key, &why);
                Ok(())
            }
            Done::Removed(Ok(())) => {
                self.well();
                self.closed(key)
            }
            Done::Ended(outcome) => self.store_ended(*outcome),
        }
    }

    /// For the figures alone.
    fn note_step(&self, doing: Doing, done: &Done) {
        let step = match doing {
            Doing::Pulling | Doing::Creating => "prepare",
            Doing::Starting => "start",
            Doing::Freezing => "freeze",
            Doing::Stopping => "stop",
            Doing::Removing => "remove",
            Doing::Ending => "end",
            Doing::Looking => "look",
        };
        let ok = match done {
            Done::Creating | Done::Notes(_) => return,
            Done::Prepared(result) => result.is_ok(),
            Done::Started(result) => result.is_ok(),
            Done::Found(result) => result.is_ok(),
            Done::Removed(result) => result.is_ok(),
            Done::NotFrozen(_) => false,
            Done::Ended(_) => true,
        };
        self.shared
            .tally
            .note(|noted| *noted.steps.entry((step, ok)).or_default() += 1);
    }

    pub(super) fn note_found_created(&mut self, key: ContainerKey, docker_id: String) {
        let entry = self.desired.get(&key);
        let fence = entry.map(|e| e.fence).unwrap_or_default();
        let claim = entry.map(|e| Claim {
            slots: e.spec.slots.clone(),
            devices: e.spec.devices.clone(),
        });
        self.found.insert(
            key,
            Found {
                key,
                docker_id,
                fence,
                spec_hash: String::new(),
                claim: claim.unwrap_or_default(),
                image: String::new(),
                record: Arc::default(), // the list will say
                status: FoundStatus::Created,
                started_at: None,
                pid: None,
            },
        );
    }

    pub(super) fn take_found(&mut self, key: ContainerKey, found: Option<Found>) {
        match found {
            Some(found) => {
                let runs = matches!(found.status, FoundStatus::Running | FoundStatus::Paused)
                    && self
                        .journal
                        .key(key)
                        .is_some_and(|r| r.stage == Some(Stage::Start));
                self.found.insert(key, found.clone());
                if runs && self.own(key).is_some() {
                    self.follow(key, &found);
                }
            }
            None => {
                self.found.remove(&key);
            }
        }
    }

    pub(super) fn failed_start(
        &mut self,
        key: ContainerKey,
        error: RuntimeError,
    ) -> Result<(), JournalError> {
        if error.is_engine_trouble() {
            self.engine_error(key, &error);
            return Ok(());
        }
        let (cause, detail) = match error {
            RuntimeError::Failed { cause, detail } => (cause, detail),
            other => (Cause::StartFailed, other.to_string()),
        };
        warn!(%key, %cause, %detail, "start failed");
        let detail = detail.chars().take(1000).collect();
        self.store_ended(outcome(
            key,
            OutcomeNumber::Ended,
            Some(End::StartFailed { cause, detail }),
        ))
    }

    pub(super) fn closed(&mut self, key: ContainerKey) -> Result<(), JournalError> {
        self.found.remove(&key);
        let closed = outcome(key, OutcomeNumber::Closed, None);
        let fence = self.journal.contents().fence;
        let boot_id = self.boot_id.clone();
        self.journal.write(vec![Record::Closed(
            Box::new(closed.clone()),
            fence,
            boot_id,
        )])?;
        info!(%key, "closed");
        self.publish(closed);
        // What waited for what it held is asked again at once: once its outcome is acknowledged
        // nothing says any more that another try takes its place.
        let waits = |entry: &&Entry| {
            let record = self.journal.key(entry.key);
            entry.want != Want::Stop && record.is_none_or(|r| r.stage.is_none())
        };
        let waiting: Vec<ContainerKey> =
            self.desired.values().filter(waits).map(|e| e.key).collect();
        waiting.into_iter().try_for_each(|key| self.reconcile(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::time::Timestamp;

    #[test]
    fn what_the_kernel_counted_counts_for_what_was_killed() {
        let exit = |signal, oom| Exit {
            code: 137,
            signal,
            oom,
            at: Timestamp(1),
        };
        for (signal, oom, counted, expected) in [
            (Some(9), false, true, true),
            (Some(9), false, false, false),
            (Some(9), true, false, true),
            (Some(15), false, true, false),
            (None, false, true, false),
        ] {
            let got = for_want_of_memory(exit(signal, oom), counted);
            assert_eq!(got, exit(signal, expected), "{signal:?} {oom} {counted}");
        }
    }
}
