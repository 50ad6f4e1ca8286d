//! One connection to the coordinator, from dialling to its end.

use super::outbox::Shared;
use super::{
    CONNECT, Heard, LINK_ALPN, LinkConfig, client_config, endpoint, first_of, random_u64, resolve,
};
use crate::host::wall_clock;
use crate::identity::new_key;
use crate::logs::LogStore;
use crate::standing::Standing;
use longshore_common::ids::ContainerKey;
use longshore_common::wire::{
    ActualSet, Cap, CertIssued, CertRequest, CloseCode, Data, ExecRequest, Figures, Frame, Goodbye,
    Heartbeat, HeartbeatAck, Hello, InventoryReport, LogsRequest, MAX_REPORTS, Material,
    MaterialRequest, Message, OutcomeAck, OutcomeNumber, PullProgress, Refused, SignedSet,
    StreamAccept, StreamEnd, StreamOpen, StreamRefuse, Terms, TunnelRequest, UnclaimedReport,
    UseReport, Welcome,
};
use longshore_link::{
    FrameReader, INTERACTIVE, LinkError, Side, boot_ms, close, pass_on, send, send_within,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{info, warn};
use zeroize::Zeroize as _;

/// Every so many heartbeats carry figures.
const LOAD_EVERY: u64 = 3;
/// Sets of so many bytes take longer than a moment to read.
const LARGE: usize = 1 << 20;
/// A goodbye is waited for so long; without it the end of the connection says the same.
const GOODBYE: Duration = Duration::from_millis(500);
/// Progress of pulls is sent at most so often.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// A coordinator that takes nothing for so long is gone in all but name.
const TAKES_NOTHING: Duration = Duration::from_secs(10);
/// The link is dead after so many heartbeats without an acknowledgement.
const DEAD_AFTER_BEATS: u32 = 5;

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The agent stops.
    Stopped,
    /// The coordinator said no.
    Refused { text: String, retry_ms: u32 },
    /// The coordinator closed it.
    Closed(CloseCode),
    /// It could not be made, or broke.
    Failed(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => write!(f, "this agent stops"),
            Self::Refused { text, .. } | Self::Failed(text) => write!(f, "{text}"),
            Self::Closed(code) => f.write_str(match code {
                CloseCode::Normal => "the coordinator closed it",
                CloseCode::Restarting => "the coordinator is being restarted",
                CloseCode::Replaced => "a newer process of this agent took over",
                CloseCode::Revoked => "this node was taken out of the cluster",
                CloseCode::Identity => "this identity is in use on another machine",
                CloseCode::Protocol => "the coordinator did not understand this agent",
                CloseCode::Limit => "this agent passed a limit of the coordinator",
                CloseCode::StaleCoordinator => "that coordinator is older than the one obeyed",
                CloseCode::Overload => "the coordinator has too much to do",
            }),
        }
    }
}

impl From<LinkError> for Ended {
    fn from(error: LinkError) -> Self {
        Self::Failed(error.to_string())
    }
}

pub(super) async fn run(
    config: &LinkConfig,
    address: &str,
    shared: &Arc<Shared>,
    logs: &Arc<LogStore>,
    heard: &mpsc::Sender<Heard>,
) -> Ended {
    let connection = match dial(config, address).await {
        Ok(connection) => connection,
        Err(error) => return Ended::Failed(error),
    };
    let result = talk(config, address, &connection, shared, logs, heard).await;
    shared.tally.note(|noted| noted.link_up = false);
    let _ = heard.send(Heard::Down).await; // a supervisor that is gone needs no news
    let ended = match result {
        Ok(never) => match never {},
        Err(ended) => ended,
    };
    match (connection.close_reason(), ended) {
        (_, ended @ (Ended::Stopped | Ended::Refused { .. })) => {
            close(&connection, CloseCode::Normal, "");
            ended
        }
        (Some(quinn::ConnectionError::ApplicationClosed(reason)), ended) => {
            CloseCode::from_u64(reason.error_code.into_inner()).map_or(ended, Ended::Closed)
        }
        (_, ended) => {
            close(&connection, CloseCode::Normal, "");
            ended
        }
    }
}

async fn dial(config: &LinkConfig, address: &str) -> Result<quinn::Connection, String> {
    let all = resolve(address).await?;
    let tls = config.files.link_config().map_err(|e| e.to_string())?;
    let client = client_config(tls, LINK_ALPN, config.gso)?;
    let name = longshore_common::wire::server_name(config.identity.cluster);
    let attempt = |to| {
        let (client, name) = (client.clone(), name.clone());
        async move {
            let mut endpoint = endpoint(to).map_err(|e| e.to_string())?;
            endpoint.set_default_client_config(client);
            let connecting = endpoint.connect(to, &name).map_err(|e| e.to_string())?;
            connecting.await.map_err(|e| e.to_string())
        }
    };
    first_of(&all, attempt).await
}

/// Whether so much time went by since a beat that the machine must have stood still: they follow
/// each other faster than that. Instants on the boot clock.
fn slept(beat_ms: i64, now_ms: i64, limit: Duration) -> bool {
    let passed = u128::try_from(now_ms.saturating_sub(beat_ms));
    passed.is_ok_and(|passed| passed > limit.as_millis())
}

enum Never {}

/// What the parts of one connection tell each other.
struct Between {
    /// The state stream has something to send.
    state_due: Notify,
    /// The coordinator asks for the whole actual set.
    want_actual: AtomicBool,
    /// Outcomes this connection has carried and that are not acknowledged.
    sent_outcomes: Mutex<BTreeSet<(ContainerKey, OutcomeNumber)>>,
    /// The key of the certificate that was asked for.
    renewing: Mutex<Option<String>>,
    /// Containers whose material this connection has asked for and not got.
    asked: Mutex<BTreeSet<ContainerKey>>,
    /// Time between heartbeats in milliseconds, as the coordinator told last.
    pace: watch::Sender<u32>,
}

/// Time between heartbeats that is kept to, whatever was told: milliseconds.
fn paced(told_ms: u32) -> u32 {
    told_ms.clamp(100, 600_000)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Heartbeats. Nothing else is waited for here, so that no large set, slow disk or full
/// stream makes one late.
struct Control<'a> {
    shared: &'a Arc<Shared>,
    between: &'a Between,
    /// Milliseconds between heartbeats.
    pace: watch::Receiver<u32>,
    out: quinn::SendStream,
    seq: u64,
    /// Reports up to this revision were acknowledged.
    acked: u64,
    /// Revision reached and time of sending, by heartbeat.
    flying: BTreeMap<u64, (u64, i64)>,
    last_ack: Instant,
    /// When the last beat was sent, on the boot clock.
    beat_ms: i64,
}

/// Everything that may be large.
struct StateOut<'a> {
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

async fn talk(
    config: &LinkConfig,
    address: &str,
    connection: &quinn::Connection,
    shared: &Arc<Shared>,
    logs: &Arc<LogStore>,
    heard: &mpsc::Sender<Heard>,
) -> Result<Never, Ended> {
    let gone = |e: quinn::ConnectionError| Ended::Failed(e.to_string());
    let (mut control_out, control_in) = connection.open_bi().await.map_err(gone)?;
    let _ = control_out.set_priority(200);
    let mut control = FrameReader::new(control_in, Cap::HELLO);
    let asked_anew = shared.asked_anew(); // what was asked before, this connection answers
    let hello_ms = boot_ms();
    send(&mut control_out, &hello(config, shared)).await?;
    let frame = tokio::time::timeout(CONNECT, control.next())
        .await
        .map_err(|_| Ended::Failed("the coordinator did not answer the hello".to_owned()))??;
    if frame.kind == Refused::KIND {
        let refused: Refused = frame.decode().map_err(LinkError::from)?;
        return Err(Ended::Refused {
            text: refused.text,
            retry_ms: refused.retry_after_ms,
        });
    }
    let welcome: Welcome = frame.decode().map_err(LinkError::from)?;
    control.set_cap(Cap::CONTROL);
    if welcome.cluster != config.identity.cluster {
        return Err(Ended::Failed(
            "the coordinator is of another cluster".to_owned(),
        ));
    }
    if shared.learn(&welcome.addresses) {
        keep_addresses(config, welcome.addresses.clone()).await;
    }
    info!(name = %welcome.name, group = %welcome.group, "linked");
    shared.stands(Standing::Linked {
        address: address.to_owned(),
        name: welcome.name.clone(),
        group: welcome.group.clone(),
        ahead_ms: wall_clock().0.saturating_sub(welcome.now.0),
        offers: None,
    });
    shared.tally.note(|noted| {
        noted.name.clone_from(&welcome.name);
        noted.link_up = true;
        noted.links += 1;
    });
    let (state_out, state_in) = connection.open_bi().await.map_err(gone)?;
    let _ = state_out.set_priority(100);
    let between = Between {
        state_due: Notify::new(),
        want_actual: AtomicBool::new(true),
        sent_outcomes: Mutex::new(BTreeSet::new()),
        renewing: Mutex::new(None),
        asked: Mutex::new(BTreeSet::new()),
        pace: watch::Sender::new(paced(welcome.heartbeat_ms)),
    };
    let control_part = Control {
        shared,
        between: &between,
        pace: between.pace.subscribe(),
        out: control_out,
        seq: 0,
        acked: 0,
        flying: BTreeMap::new(),
        last_ack: Instant::now(),
        beat_ms: boot_ms(),
    };
    let state_part = StateOut {
        config,
        shared,
        between: &between,
        out: state_out,
        sent_inventory: 0,
        sent_unclaimed: 0,
        sent_layers: 0,
        sent_progress: BTreeMap::new(),
        sent_uses: BTreeMap::new(),
        sent_figures: BTreeMap::new(),
        progress_at: Instant::now(),
        unreadable: false,
    };
    tell(heard, Heard::Up(Box::new(welcome), hello_ms)).await?;
    let streams = async {
        loop {
            let (out, back) = connection.accept_bi().await.map_err(gone)?;
            tokio::spawn(serve_stream(out, back, Arc::clone(logs), heard.clone()));
        }
    };
    tokio::select! {
        ended = control_part.run(control, heard) => ended,
        ended = state_part.run() => ended,
        ended = read_state(config, shared, &between, FrameReader::new(state_in, Cap::DESIRED), heard) => ended,
        ended = streams => ended,
        () = asked_anew => Err(Ended::Failed(
            "the lease was over; the coordinator is asked for its orders".to_owned(),
        )),
    }
}

async fn tell(heard: &mpsc::Sender<Heard>, news: Heard) -> Result<(), Ended> {
    heard.send(news).await.map_err(|_| Ended::Stopped)
}

fn hello(config: &LinkConfig, shared: &Shared) -> Hello {
    let outbox = shared.outbox();
    let (coordinator_generation, coordinator_instance) = match outbox.coordinator {
        Some((generation, instance)) => (generation, Some(instance)),
        None => (Default::default(), None),
    };
    Hello {
        agent: config.identity.agent,
        cluster: config.identity.cluster,
        instance: config.instance,
        started: config.started,
        boot_id: config.boot_id.clone(),
        fingerprint: config.fingerprint.clone(),
        machine: config.machine.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        coordinator_generation,
        coordinator_instance,
        fence: outbox.fence,
        applied: outbox.applied,
        journal_rebuilt: config.journal_rebuilt,
        audit: shared.audit_end(),
    }
}

impl Control<'_> {
    async fn run(
        mut self,
        mut frames: FrameReader,
        heard: &mpsc::Sender<Heard>,
    ) -> Result<Never, Ended> {
        self.beat().await?;
        let mut next_beat = Instant::now() + self.pause();
        loop {
            tokio::select! {
                frame = frames.next() => {
                    let ack: HeartbeatAck = frame?.decode().map_err(LinkError::from)?;
                    self.take_ack(&ack)?;
                }
                () = self.shared.changed.notified() => {
                    self.between.state_due.notify_one();
                    if self.has_reports() {
                        self.beat().await?;
                    }
                }
                () = tokio::time::sleep_until(next_beat) => {
                    self.between.state_due.notify_one();
                    self.beat().await?;
                    next_beat = Instant::now() + self.pause();
                }
                Ok(()) = self.pace.changed() => {
                    // What is under way was sent at the pace from before: it is not late yet.
                    self.last_ack = Instant::now();
                    next_beat = next_beat.min(Instant::now() + self.pause());
                }
                () = heard.closed() => return self.say_goodbye().await,
                () = self.shared.stopped() => return self.say_goodbye().await,
            }
        }
    }

    async fn say_goodbye(&mut self) -> Result<Never, Ended> {
        let _ = send(&mut self.out, &Goodbye { leaving: false }).await;
        let _ = self.out.finish(); // only fails on a stream that is gone
        // A connection that is closed at once would take it along.
        let _ = tokio::time::timeout(GOODBYE, self.out.stopped()).await;
        Err(Ended::Stopped)
    }

    /// Time to the next beat: the coordinator's wish, spread by a fifth both ways.
    fn pause(&self) -> Duration {
        let beat = u64::from(*self.pace.borrow());
        let fifth = beat / 5;
        Duration::from_millis(beat - fifth + random_u64() % (2 * fifth + 1))
    }

    fn check_alive(&self) -> Result<(), Ended> {
        let beat = Duration::from_millis(u64::from(*self.pace.borrow()));
        let limit = beat * DEAD_AFTER_BEATS;
        if self.last_ack.elapsed() > limit {
            return Err(Ended::Failed("heartbeats are not acknowledged".to_owned()));
        }
        // The clock above stands still with the machine, and so do those of the transport: what
        // was agreed on this connection may have been given up long ago.
        if slept(self.beat_ms, boot_ms(), limit) {
            return Err(Ended::Failed("the machine stood still".to_owned()));
        }
        Ok(())
    }

    fn has_reports(&self) -> bool {
        let reached = self
            .flying
            .last_key_value()
            .map_or(self.acked, |(_, (at, _))| *at);
        self.shared.outbox().revision() > reached
    }

    async fn beat(&mut self) -> Result<(), Ended> {
        self.check_alive()?;
        self.seq += 1;
        let with_load = self.seq % LOAD_EVERY == 1;
        let (heartbeat, reached) = {
            let mut outbox = self.shared.outbox();
            let (changed, reached, more) = outbox.reports_since(self.acked, MAX_REPORTS);
            let heartbeat = Heartbeat {
                seq: self.seq,
                applied: outbox.applied,
                actual_hash: outbox.hash(),
                changed,
                more,
                runtime: outbox.runtime,
                load: if with_load { outbox.load.clone() } else { None },
                now: wall_clock(),
            };
            (heartbeat, reached)
        };
        self.beat_ms = boot_ms();
        self.flying.insert(self.seq, (reached, self.beat_ms));
        send_within(&mut self.out, &heartbeat, TAKES_NOTHING).await?;
        Ok(())
    }

    fn take_ack(&mut self, ack: &HeartbeatAck) -> Result<(), Ended> {
        let Some((reached, sent_ms)) = self.flying.remove(&ack.seq) else {
            return Err(Ended::Failed(
                "an acknowledgement of nothing came".to_owned(),
            ));
        };
        self.shared.saw_audit_end(ack.audit);
        self.flying.retain(|seq, _| *seq > ack.seq);
        self.acked = self.acked.max(reached);
        self.last_ack = Instant::now();
        self.shared.acked_sent_ms.store(sent_ms, Ordering::Relaxed);
        let rtt_ms = boot_ms().saturating_sub(sent_ms);
        self.shared.tally.note(|noted| noted.rtt_ms = Some(rtt_ms));
        if ack.want_actual {
            self.between.want_actual.store(true, Ordering::Relaxed);
            self.between.state_due.notify_one();
        }
        Ok(())
    }
}

impl StateOut<'_> {
    async fn run(mut self) -> Result<Never, Ended> {
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

async fn read_state(
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

/// The next process dials them too.
async fn keep_addresses(config: &LinkConfig, named: Vec<String>) {
    let files = config.files.clone();
    let stored = tokio::task::spawn_blocking(move || files.store_addresses(&named)).await;
    // A panic there has been logged.
    if let Ok(Err(error)) = stored {
        warn!(%error, "the addresses of the coordinator could not be kept");
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

async fn serve_stream(
    mut out: quinn::SendStream,
    back: quinn::RecvStream,
    logs: Arc<LogStore>,
    heard: mpsc::Sender<Heard>,
) {
    let mut frames = FrameReader::new(back, Cap::DATA);
    let Ok(Ok(frame)) = tokio::time::timeout(CONNECT, frames.next()).await else {
        return;
    };
    let served = match frame.decode::<StreamOpen>() {
        Ok(StreamOpen::Logs(request)) => serve_logs(&mut out, &request, &logs).await,
        Ok(StreamOpen::Signal(request)) => {
            let heard_as = |reply| Heard::Signal(request, reply);
            serve_order(&mut out, heard_as, &heard).await
        }
        Ok(StreamOpen::Release(device)) => {
            let heard_as = |reply| Heard::Release(device, reply);
            serve_order(&mut out, heard_as, &heard).await
        }
        Ok(StreamOpen::Exec(request)) => return serve_exec(out, frames, request, &heard).await,
        Ok(StreamOpen::Tunnel(request)) => return serve_tunnel(out, frames, request, &heard).await,
        Err(error) => {
            send(
                &mut out,
                &StreamRefuse {
                    text: error.to_string(),
                },
            )
            .await
        }
    };
    if served.is_ok() {
        let _ = out.finish(); // the peer may have stopped reading
    }
}

/// An order that is answered with yes, or no and why.
async fn serve_order(
    out: &mut quinn::SendStream,
    heard_as: impl FnOnce(oneshot::Sender<Result<(), String>>) -> Heard,
    heard: &mpsc::Sender<Heard>,
) -> Result<(), LinkError> {
    let (reply, answer) = oneshot::channel();
    match answered(heard, heard_as(reply), answer).await {
        Ok(()) => send(out, &StreamAccept {}).await,
        Err(text) => send(out, &StreamRefuse { text }).await,
    }
}

async fn serve_exec(
    out: quinn::SendStream,
    frames: FrameReader,
    request: ExecRequest,
    heard: &mpsc::Sender<Heard>,
) {
    let (reply, answer) = oneshot::channel();
    let asked = Heard::Exec(Box::new(request), reply);
    let opened = answered(heard, asked, answer).await;
    let opened = opened.map(|ends| (ends.from, ends.to));
    serve_both_ways(out, frames, opened).await;
}

async fn serve_tunnel(
    out: quinn::SendStream,
    frames: FrameReader,
    request: TunnelRequest,
    heard: &mpsc::Sender<Heard>,
) {
    let (reply, answer) = oneshot::channel();
    let opened = answered(heard, Heard::Tunnel(request, reply), answer).await;
    let opened = opened.map(|ends| (ends.from, ends.to));
    serve_both_ways(out, frames, opened).await;
}

/// What the supervisor answers to something it is asked for.
async fn answered<T>(
    heard: &mpsc::Sender<Heard>,
    asked: Heard,
    answer: oneshot::Receiver<Result<T, String>>,
) -> Result<T, String> {
    let stopping = || Err("the agent is stopping".to_owned());
    match heard.send(asked).await {
        Ok(()) => answer.await.unwrap_or_else(|_| stopping()),
        Err(_) => stopping(),
    }
}

async fn serve_both_ways<O, I>(
    mut out: quinn::SendStream,
    frames: FrameReader,
    opened: Result<(mpsc::Receiver<O>, mpsc::Sender<I>), String>,
) where
    O: Message + Serialize,
    I: Message + DeserializeOwned,
{
    let _ = out.set_priority(INTERACTIVE); // fails only on closed streams
    match opened {
        Ok((from, to)) => {
            if send(&mut out, &StreamAccept {}).await.is_ok() {
                pass_on(Side::Agent, out, frames, from, to).await;
            }
        }
        Err(text) => {
            // One that cannot be told has gone.
            if send(&mut out, &StreamRefuse { text }).await.is_ok() {
                let _ = out.finish();
            }
        }
    }
}

async fn serve_logs(
    out: &mut quinn::SendStream,
    request: &LogsRequest,
    logs: &Arc<LogStore>,
) -> Result<(), LinkError> {
    let (key, position, tail) = (request.key, request.position, request.tail_lines);
    let reader = logs.beside(move |logs| logs.read(key, position, tail));
    let refused = match reader.await {
        Some(Ok(Some(reader))) => {
            let sent = send_logs(out, reader, request, logs).await;
            logs.release_ended(key);
            return sent;
        }
        Some(Ok(None)) => "no output of this container is kept on its node".to_owned(),
        Some(Err(error)) => error.to_string(),
        None => "the agent is stopping".to_owned(),
    };
    send(out, &StreamRefuse { text: refused }).await
}

async fn send_logs(
    out: &mut quinn::SendStream,
    reader: crate::logs::LogReader,
    request: &LogsRequest,
    logs: &Arc<LogStore>,
) -> Result<(), LinkError> {
    send(out, &StreamAccept {}).await?;
    let error = copy_logs(out, reader, request, logs).await?;
    send(out, &StreamEnd { error }).await
}

/// Largest piece in one frame: the cap less room for the other members.
const PIECE: usize = 60 * 1024;

async fn copy_logs(
    out: &mut quinn::SendStream,
    mut reader: crate::logs::LogReader,
    request: &LogsRequest,
    logs: &Arc<LogStore>,
) -> Result<Option<String>, LinkError> {
    let joined = request.joined.then_some(PIECE);
    loop {
        loop {
            // A disk that hangs holds up this reader, and no heartbeat.
            let read = logs.beside(move |_| {
                let read = reader.next_many(joined);
                (reader, read)
            });
            let Some((back, read)) = read.await else {
                return Ok(Some("the agent is stopping".to_owned()));
            };
            reader = back;
            match read {
                Ok(all) if all.is_empty() => break,
                Ok(all) => {
                    for data in all {
                        send_piecewise(out, data).await?;
                    }
                }
                Err(error) => return Ok(Some(error.to_string())),
            }
        }
        if !request.follow {
            return Ok(None);
        }
        tokio::select! {
            more = reader.more() => if !more { return Ok(None) },
            // A reader that went away must not be followed for ever.
            stopped = out.stopped() => {
                return Err(LinkError::Gone(format!("{stopped:?}")));
            }
        }
    }
}

async fn send_piecewise(out: &mut quinn::SendStream, data: Data) -> Result<(), LinkError> {
    if data.bytes.len() <= PIECE {
        return send(out, &data).await;
    }
    let mut position = data.position;
    for piece in data.bytes.chunks(PIECE) {
        let part = Data {
            position,
            kind: data.kind,
            at: data.at,
            bytes: piece.to_vec(),
        };
        position += piece.len() as u64;
        send(out, &part).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{CLUSTER, config};
    use super::*;
    use longshore_common::ids::{CoordinatorGeneration, Fence, InstanceId};
    use longshore_common::time::Timestamp;
    use longshore_link::transport;
    use quinn::crypto::rustls::QuicServerConfig;

    fn welcome() -> Welcome {
        Welcome {
            cluster: CLUSTER,
            coordinator_generation: CoordinatorGeneration(1),
            coordinator_instance: InstanceId::new(3),
            fence: Fence(1),
            heartbeat_ms: 60_000,
            lost_after_ms: 300_000,
            lease_ms: 60_000,
            name: "node1".to_owned(),
            group: "default".to_owned(),
            now: Timestamp(0),
            addresses: Vec::new(),
        }
    }

    /// A connection to a coordinator that takes the agent in, and says nothing more.
    async fn connect() -> (quinn::Connection, tokio::task::JoinHandle<()>) {
        let _ = rustls::crypto::ring::default_provider().install_default(); // or another test did
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = made.signing_key.serialize_der().try_into().unwrap();
        let mut server = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        server.alpn_protocols = vec![LINK_ALPN.to_vec()];
        let server = QuicServerConfig::try_from(server).unwrap();
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(server));
        server.transport_config(transport(Side::Coordinator, false));
        let there = quinn::Endpoint::server(server, ([127, 0, 0, 1], 0).into()).unwrap();
        let address = there.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let connection = there.accept().await.unwrap().await.unwrap();
            let (mut out, back) = connection.accept_bi().await.unwrap();
            let mut frames = FrameReader::new(back, Cap::HELLO);
            frames.next().await.unwrap();
            send(&mut out, &welcome()).await.unwrap();
            let _state = connection.accept_bi().await; // whose end would be that of the link
            connection.closed().await;
        });
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).unwrap();
        let client = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = client_config(client, LINK_ALPN, false).unwrap();
        let here = endpoint(address).unwrap();
        let connecting = here.connect_with(client, address, "localhost").unwrap();
        (connecting.await.unwrap(), serving)
    }

    #[tokio::test]
    async fn a_link_that_is_asked_anew_ends_and_one_made_after_that_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (config, shared) = (config(dir.path(), Vec::new()), Arc::new(Shared::new()));
        let logs = LogStore::open(&dir.path().join("logs"), Default::default()).unwrap();
        let logs = Arc::new(logs);
        shared.ask_anew(); // no link stands: the next one answers it
        let (connection, _serving) = connect().await;
        let (heard, mut inbox) = mpsc::channel(8);
        let limit = Duration::from_secs(20); // many times what it takes
        let talks = talk(&config, "here:1", &connection, &shared, &logs, &heard);
        let asks = async {
            let up = inbox.recv().await;
            assert!(matches!(up, Some(Heard::Up(..))), "{up:?}");
            shared.ask_anew();
        };
        let both = async { tokio::join!(talks, asks) };
        let (ended, ()) = tokio::time::timeout(limit, both).await.expect("it goes on");
        let why = ended.err();
        assert!(
            matches!(&why, Some(Ended::Failed(why)) if why.contains("lease")),
            "{why:?}"
        );
    }

    #[test]
    fn a_gap_between_beats_says_that_the_machine_stood_still() {
        let limit = Duration::from_secs(10);
        for (now_ms, expected) in [(1_000, false), (11_000, false), (11_001, true), (0, false)] {
            assert_eq!(slept(1_000, now_ms, limit), expected, "{now_ms}");
        }
    }
}
