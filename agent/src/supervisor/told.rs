//! What people are told of a running container's use: the report for the coordinator, the
//! file inside, a line in open terminals.
//!
//! All three are made of the verdict that is acted on, so that what is shown is what is judged.

use super::watching::Watching;
use super::{Event, Supervisor};
use crate::host::{self, wall_clock};
use crate::journal::{JournalError, Record};
use crate::runtime::{Containers, FoundStatus, RuntimeError};
use longshore_common::ids::ContainerKey;
use longshore_common::time::Timestamp;
use longshore_common::wire::{DrainNotice, Figures, UseReport};
use serde_json::{Value, json};
use std::sync::Arc;

/// Figures are told this often.
pub(super) const FIGURES_MS: i64 = 60_000;

/// An instant of the boot clock in the coordinator's time, rounded to seconds, so that two
/// looks at one deadline are one report.
pub(super) fn to_wall(at_boot: i64) -> Timestamp {
    let left = at_boot.saturating_sub(host::boot_clock_ms());
    let ms = wall_clock().0.saturating_add(left);
    Timestamp(ms.saturating_add(500) / 1000 * 1000)
}

/// What stands in `/run/longshore/session.json` of what will stop the session.
fn inside(report: &UseReport, drain: Option<&DrainNotice>, watching: &Watching) -> Value {
    let mut stops = serde_json::Map::new();
    if let Some(at) = report.deadline {
        let check = report.decided_by.map(|c| c.as_str());
        let kind = match report.in_grace {
            true => "grace_period",
            false => "expire_after",
        };
        let idle = json!({ "deadline": at, "kind": kind, "decided_by": check,
            "warned": watching.verdict.idle });
        stops.insert("idle".to_owned(), idle);
    }
    if let Some(at) = report.lifetime {
        stops.insert("lifetime".to_owned(), json!({ "deadline": at }));
    }
    if let Some(drain) = drain {
        let told = json!({ "deadline": drain.deadline.at, "message": drain.message });
        stops.insert("drain".to_owned(), told);
    }
    let mut shown = json!({ "stops": stops });
    if let Some(text) = &watching.said {
        shown["warning"] = json!(text);
    }
    shown
}

impl<C: Containers> Supervisor<C> {
    /// Tells everybody how the use of the running containers stands.
    pub(super) fn tell_use(&mut self, now_ms: i64) {
        let figures_due = now_ms >= self.next_figures_ms;
        if figures_due {
            self.next_figures_ms = now_ms + FIGURES_MS;
        }
        let drain = self.set.as_ref().and_then(|set| set.drain.as_ref());
        for (key, watching) in &self.watching {
            let Some(entry) = self.desired.get(key) else {
                continue;
            };
            let report = watching.use_report(*key, entry, to_wall);
            let shown = inside(&report, drain, watching);
            if self.inside.get(key) != Some(&shown) {
                self.inside.insert(*key, shown.clone());
                let (runtime, key) = (Arc::clone(&self.runtime), *key);
                tokio::spawn(async move { runtime.tell_inside(key, shown).await });
            }
            let mut outbox = self.shared.outbox();
            outbox.uses.insert(*key, report);
            if figures_due {
                let (totals, devices) = watching.figures();
                let figures = Figures {
                    key: *key,
                    totals,
                    devices,
                    worked_at: watching.worked_ms().map(to_wall),
                };
                outbox.figures.insert(*key, figures);
            }
        }
        if !self.watching.is_empty() {
            self.shared.changed.notify_one();
        }
    }

    /// Writes one line to whoever has a terminal open in a container.
    pub(super) fn say_inside(&mut self, key: ContainerKey, text: &str) {
        if let Some(watching) = self.watching.get_mut(&key) {
            watching.said = Some(text.to_owned());
        }
        for exec in self.execs.values() {
            exec.say(key, text);
        }
    }

    /// Sends the signals that programs want before they are stopped.
    pub(super) fn send_signals(&mut self, now_ms: i64) {
        let Some(set) = &self.set else { return };
        let drain_ms = self.drain_boot_ms(set);
        for wish in &set.signals {
            let Some(watching) = self.watching.get_mut(&wish.key) else {
                continue;
            };
            let running = self.found.get(&wish.key);
            let running = running.filter(|f| f.status == FoundStatus::Running);
            let Some(found) = running else { continue };
            let lead_ms = i64::from(wish.lead_s) * 1000;
            if let Some(end_ms) = watching.signal_due(lead_ms, drain_ms, now_ms) {
                let (runtime, id) = (Arc::clone(&self.runtime), found.docker_id.clone());
                let (signal, key) = (wish.signal.clone(), wish.key);
                let events = self.events.clone();
                tokio::spawn(async move {
                    let sent = runtime.signal(&id, &signal).await;
                    let news = Event::Signalled(key, end_ms, sent);
                    let _ = events.send(news).await; // without supervisor nobody asks
                });
            }
        }
    }

    /// A program got the signal it wants before an end, or did not. It is noted once it did:
    /// an agent that follows on this one must not send it again.
    pub(super) fn take_signalled(
        &mut self,
        key: ContainerKey,
        end_ms: i64,
        sent: Result<(), RuntimeError>,
    ) -> Result<(), JournalError> {
        let Some(watching) = self.watching.get_mut(&key) else {
            return Ok(());
        };
        match sent {
            Ok(()) => {
                watching.was_signalled(end_ms);
                let boot_id = self.boot_id.clone();
                self.journal
                    .note(vec![Record::Signalled(key, boot_id, end_ms)])
            }
            Err(error) if error.is_engine_trouble() => {
                watching.was_not_signalled(); // at the next tick again
                self.unwell(&error);
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%key, %error, "a program got no signal before its end");
                watching.was_signalled(end_ms); // the engine would say the same again
                Ok(())
            }
        }
    }

    /// When this node has to be empty, on the boot clock.
    pub(super) fn drain_boot_ms(&self, set: &longshore_common::wire::DesiredSet) -> Option<i64> {
        let drain = set.drain.as_ref()?;
        Some(self.set_boot_ms.saturating_add(drain.deadline.remaining_ms))
    }
}
