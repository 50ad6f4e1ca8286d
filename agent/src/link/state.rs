//! The state stream: everything that may be large, both ways.

use super::outbox::Shared;
use super::session::{Between, Ended, Never, TAKES_NOTHING, lock, paced, tell};
use super::{Heard, LinkConfig};
use crate::host::wall_clock;
use crate::identity::new_key;
use longshore_common::ids::ContainerKey;
use longshore_common::wire::{
    ActualSet, CertIssued, CertRequest, Figures, Frame, InventoryReport, Material, MaterialRequest,
    Message, OutcomeAck, PullProgress, SignedSet, Terms, UnclaimedReport, UseReport,
};
use longshore_link::{FrameReader, LinkError, send_within};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};
use zeroize::Zeroize as _;

/// Sets of so many bytes take longer than a moment to read.
const LARGE: usize = 1 << 20;
/// Progress of pulls is sent at most so often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Everything that may be large.
pub(super) struct StateOut<'a> {
    config: &'a LinkConfig,
    shared: &'a Arc<Shared>,
    between: &'a Between,
    out: quinn::SendStream,
    sent_inventory: u64,
    sent_unclaimed: u64,
    sent_layers: u64,
    sent_progress: BTreeMap<ContainerKey, PullProgress>,
    sent_uses: BTreeMap<ContainerKey, UseReport>,
    sent_figures: BTreeMap<ContainerKey, Figures>,
    progress_at: Instant,
    /// The certificate could not be read when it was last looked at.
    unreadable: bool,
}

impl<'a> StateOut<'a> {
    pub(super) fn new(
        config: &'a LinkConfig,
        shared: &'a Arc<Shared>,
        between: &'a Between,
        out: quinn::SendStream,
    ) -> Self {
        Self {
            config,
            shared,
            between,
            out,
            sent_inventory: 0,
            sent_unclaimed: 0,
            sent_layers: 0,
            sent_progress: BTreeMap::new(),
            sent_uses: BTreeMap::new(),
            sent_figures: BTreeMap::new(),
            progress_at: Instant::now(),
            unreadable: false,
        }
    }
}

impl StateOut<'_> {
    pub(super) async fn run(mut self) -> Result<Never, Ended> {
        let mut turns = 0_u64;
        loop {
            self.send_layers().await?;
            self.send_inventory().await?;
            if self.between.want_actual.swap(false, Ordering::Relaxed) {
                self.send_actual().await?;
            }
            self.send_news().await?;
            self.send_unclaimed().await?;
            self.ask_for_material().await?;
            turns += 1;
            self.renew_if_due(turns).await?;
            self.between.state_due.notified().await;
        }
    }

    async fn send_actual(&mut self) -> Result<(), Ended> {
        let set = {
            let outbox = self.shared.outbox();
            ActualSet {
                items: outbox.all_reports(),
                applied: outbox.applied,
                boot_id: self.config.boot_id.clone(),
            }
        };
        send_within(&mut self.out, &set, TAKES_NOTHING).await?;
        Ok(())
    }

    /// What this node gives sessions, before anything is asked for any of them.
    async fn send_layers(&mut self) -> Result<(), Ended> {
        let news = self.shared.outbox().layers_since(self.sent_layers);
        if let Some((number, mut layers)) = news {
            self.sent_layers = number;
            let sent = send_within(&mut self.out, &layers, TAKES_NOTHING).await;
            layers.zeroize();
            sent?;
        }
        Ok(())
    }

    async fn send_inventory(&mut self) -> Result<(), Ended> {
        let news = {
            let outbox = self.shared.outbox();
            let (number, inventory) = &outbox.inventory;
            (*number > self.sent_inventory).then(|| (*number, inventory.clone()))
        };
        if let Some((number, Some(inventory))) = news {
            self.sent_inventory = number;
            let report = InventoryReport { inventory };
            send_within(&mut self.out, &report, TAKES_NOTHING).await?;
            self.shared.told(&report.inventory);
        }
        Ok(())
    }

    /// Containers that no order names, when they differ from what this connection carried.
    async fn send_unclaimed(&mut self) -> Result<(), Ended> {
        let news = {
            let outbox = self.shared.outbox();
            let (number, items) = &outbox.unclaimed;
            (*number > self.sent_unclaimed).then(|| (*number, items.clone()))
        };
        if let Some((number, items)) = news {
            self.sent_unclaimed = number;
            send_within(&mut self.out, &UnclaimedReport { items }, TAKES_NOTHING).await?;
        }
        Ok(())
    }

    /// Asks for what containers are given, once per connection until it came.
    async fn ask_for_material(&mut self) -> Result<(), Ended> {
        for key in self.shared.desk.wanted() {
            if lock(&self.between.asked).insert(key) {
                send_within(&mut self.out, &MaterialRequest { key }, TAKES_NOTHING).await?;
            }
        }
        Ok(())
    }

    /// Outcomes this connection has not carried yet, notices, progress.
    async fn send_news(&mut self) -> Result<(), Ended> {
        let (outcomes, progress, uses) = {
            let outbox = self.shared.outbox();
            let sent = lock(&self.between.sent_outcomes);
            let outcomes: Vec<_> = outbox
                .outcomes
                .iter()
                .filter(|(id, _)| !sent.contains(id))
                .map(|(id, outcome)| (*id, outcome.clone()))
                .collect();
            let progress =
                (self.progress_at.elapsed() >= PROGRESS_EVERY).then(|| outbox.progress.clone());
            let uses = progress
                .is_some()
                .then(|| (outbox.uses.clone(), outbox.figures.clone()));
            (outcomes, progress, uses)
        };
        for (id, outcome) in outcomes {
            lock(&self.between.sent_outcomes).insert(id);
            send_within(&mut self.out, &outcome, TAKES_NOTHING).await?;
        }
        loop {
            let next = self.shared.outbox().next_notice();
            let Some(notice) = next else { break };
            send_within(&mut self.out, &notice, TAKES_NOTHING).await?;
            self.shared.outbox().sent_notice(notice.number);
        }
        if let Some(progress) = progress {
            for (key, state) in &progress {
                if self.sent_progress.get(key) != Some(state) {
                    send_within(&mut self.out, state, TAKES_NOTHING).await?;
                }
            }
            self.sent_progress = progress;
            if let Some((uses, figures)) = uses {
                for report in different(&uses, &self.sent_uses) {
                    send_within(&mut self.out, report, TAKES_NOTHING).await?;
                }
                self.sent_uses = uses;
                for report in different(&figures, &self.sent_figures) {
                    send_within(&mut self.out, report, TAKES_NOTHING).await?;
                }
                self.sent_figures = figures;
            }
            self.progress_at = Instant::now();
        }
        Ok(())
    }

    /// Asks for a new certificate once two thirds of the present one's life are over.
    async fn renew_if_due(&mut self, turns: u64) -> Result<(), Ended> {
        // Looking at the file every thirtieth time is often enough and costs nothing.
        if turns % 30 != 2 || lock(&self.between.renewing).is_some() {
            return Ok(());
        }
        // Heartbeats share this task: no slow disk may make one late.
        let files = self.config.files.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || files.validity()).await else {
            return Ok(()); // a panic there has been logged
        };
        let (not_before, not_after) = match read {
            Ok(validity) => validity,
            Err(error) => {
                // Looked at again and again: said once per connection.
                if !self.unreadable {
                    warn!(%error, "the certificate cannot be read and is not renewed");
                }
                self.unreadable = true;
                return Ok(());
            }
        };
        self.unreadable = false;
        let due = not_before + (not_after - not_before) * 2 / 3;
        if wall_clock().0 / 1000 < due {
            return Ok(());
        }
        match new_key() {
            Ok((key, csr)) => {
                *lock(&self.between.renewing) = Some(key.serialize_pem());
                send_within(&mut self.out, &CertRequest { csr }, TAKES_NOTHING).await?;
            }
            Err(error) => warn!(%error, "no new key could be made"),
        }
        Ok(())
    }
}

/// What is not as it was sent.
fn different<'a, T: PartialEq>(
    now: &'a BTreeMap<ContainerKey, T>,
    sent: &BTreeMap<ContainerKey, T>,
) -> impl Iterator<Item = &'a T> {
    now.iter()
        .filter(|(key, report)| sent.get(key) != Some(*report))
        .map(|(_, report)| report)
}

/// Takes in what the coordinator sends.
pub(super) async fn read_state(
    config: &LinkConfig,
    shared: &Shared,
    between: &Between,
    mut frames: FrameReader,
    heard: &mpsc::Sender<Heard>,
) -> Result<Never, Ended> {
    loop {
        let frame = frames.next().await?;
        match frame.kind {
            SignedSet::KIND => {
                let set = read_set(frame).await?;
                tell(heard, Heard::Set(set)).await?;
            }
            OutcomeAck::KIND => {
                let ack: OutcomeAck = frame.decode().map_err(LinkError::from)?;
                lock(&between.sent_outcomes).remove(&(ack.key, ack.number));
                tell(heard, Heard::Acked(ack)).await?;
            }
            Material::KIND => {
                let material: Material = frame.decode().map_err(LinkError::from)?;
                // Before it is answered: whoever asks again is to be heard.
                lock(&between.asked).remove(&material.key);
                shared.desk.answer(material);
            }
            CertIssued::KIND => {
                let issued: CertIssued = frame.decode().map_err(LinkError::from)?;
                let asked = lock(&between.renewing).take();
                if let Some(key_pem) = asked {
                    let files = config.files.clone();
                    let store = move || files.store_certificate(&key_pem, &issued.certificate);
                    match tokio::task::spawn_blocking(store).await {
                        Ok(Ok(())) => info!("certificate renewed"),
                        Ok(Err(error)) => {
                            warn!(%error, "the renewed certificate could not be stored");
                        }
                        Err(_) => (), // a panic there has been logged
                    }
                }
            }
            Terms::KIND => {
                let terms: Terms = frame.decode().map_err(LinkError::from)?;
                let pace = paced(terms.heartbeat_ms);
                between.pace.send_if_modified(|known| {
                    let differs = *known != pace;
                    *known = pace;
                    differs
                });
                if config.hidden.set_told(terms.redaction.clone()) {
                    keep_hidden(config, terms.redaction).await;
                }
            }
            _ if frame.is_skippable() => (),
            _ => {
                return Err(Ended::Failed(format!(
                    "a frame of kind {} came",
                    frame.kind
                )));
            }
        }
    }
}

/// The next process hides them before it is linked.
async fn keep_hidden(config: &LinkConfig, names: Vec<String>) {
    info!("the coordinator told which values to hide");
    let files = config.files.clone();
    let stored = tokio::task::spawn_blocking(move || files.store_hidden_names(&names)).await;
    // A panic there has been logged.
    if let Ok(Err(error)) = stored {
        warn!(%error, "the names of values to hide could not be kept");
    }
}

/// A set is read beside this task if it is so large that heartbeats would wait for it.
async fn read_set(frame: Frame) -> Result<SignedSet, Ended> {
    if frame.body.len() < LARGE {
        return Ok(frame.decode().map_err(LinkError::from)?);
    }
    let read = tokio::task::spawn_blocking(move || frame.decode::<SignedSet>()).await;
    let read = read.map_err(|_| Ended::Failed("a set could not be read".to_owned()))?;
    Ok(read.map_err(LinkError::from)?)
}
