//! One connection to the coordinator, from dialling to its end.

use super::bare::{is_bare, part, refusal};
use super::outbox::Shared;
use super::state::{StateOut, read_state};
use super::streams::serve_stream;
use super::{
    CONNECT, Heard, LINK_ALPN, LinkConfig, client_config, endpoint, first_of, random_u64, resolve,
};
use crate::host::wall_clock;
use crate::logs::LogStore;
use crate::standing::Standing;
use crate::systemd::GUARDED;
use longshore_common::ids::ContainerKey;
use longshore_common::wire::{
    ALPN_AGENT_BARE, Cap, CloseCode, Features, Goodbye, Heartbeat, HeartbeatAck, Hello,
    MAX_REPORTS, Message, OutcomeNumber, Refused, Welcome,
};
use longshore_link::{FrameReader, LinkError, boot_ms, close, send, send_within};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tracing::{info, warn};

/// Every so many heartbeats carry figures.
const LOAD_EVERY: u64 = 3;
/// A goodbye is waited for so long; without it the end of the connection says the same.
const GOODBYE: Duration = Duration::from_millis(500);
/// A coordinator that takes nothing for so long is gone in all but name.
pub(super) const TAKES_NOTHING: Duration = Duration::from_secs(10);
/// The link is dead after so many heartbeats without an acknowledgement.
const DEAD_AFTER_BEATS: u32 = 5;

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The agent stops.
    Stopped,
    /// The coordinator said no.
    Refused { text: String, retry_ms: u32 },
    /// The two speak no protocol in common.
    Incompatible { text: String, retry_ms: u32 },
    /// The coordinator closed it.
    Closed(CloseCode),
    /// It could not be made, or broke.
    Failed(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped => write!(f, "this agent stops"),
            Self::Refused { text, .. } | Self::Incompatible { text, .. } | Self::Failed(text) => {
                write!(f, "{text}")
            }
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
    if is_bare(&connection) {
        return part(config, &connection).await;
    }
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
    let client = client_config(tls, &[LINK_ALPN, ALPN_AGENT_BARE], config.gso)?;
    let name = longshore_common::wire::server_name(config.identity.cluster);
    let attempt = |to| {
        let (client, name) = (client.clone(), name.clone());
        async move {
            let mut endpoint = endpoint(to).map_err(|e| e.to_string())?;
            endpoint.set_default_client_config(client);
            let connecting = endpoint.connect(to, &name).map_err(|e| e.to_string())?;
            connecting.await.map_err(|e| refusal(&e))
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

pub(super) enum Never {}

/// What the parts of one connection tell each other.
pub(super) struct Between {
    /// The state stream has something to send.
    pub(super) state_due: Notify,
    /// The coordinator asks for the whole actual set.
    pub(super) want_actual: AtomicBool,
    /// Outcomes this connection has carried and that are not acknowledged.
    pub(super) sent_outcomes: Mutex<BTreeSet<(ContainerKey, OutcomeNumber)>>,
    /// The key of the certificate that was asked for.
    pub(super) renewing: Mutex<Option<String>>,
    /// Containers whose material this connection has asked for and not got.
    pub(super) asked: Mutex<BTreeSet<ContainerKey>>,
    /// Time between heartbeats in milliseconds, as the coordinator told last.
    pub(super) pace: watch::Sender<u32>,
}

/// Time between heartbeats that is kept to, whatever was told: milliseconds.
pub(super) fn paced(told_ms: u32) -> u32 {
    told_ms.clamp(100, 600_000)
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
    let state_part = StateOut::new(config, shared, &between, state_out);
    tell(heard, Heard::Up(Box::new(welcome), hello_ms)).await?;
    let streams = async {
        loop {
            let (out, back) = connection.accept_bi().await.map_err(gone)?;
            let served = serve_stream(out, back, Arc::clone(logs), heard.clone());
            tokio::spawn(GUARDED.scope((), served));
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

/// The next process dials them too.
async fn keep_addresses(config: &LinkConfig, named: Vec<String>) {
    let files = config.files.clone();
    let stored = tokio::task::spawn_blocking(move || files.store_addresses(&named)).await;
    // A panic there has been logged.
    if let Ok(Err(error)) = stored {
        warn!(%error, "the addresses of the coordinator could not be kept");
    }
}

pub(super) async fn tell(heard: &mpsc::Sender<Heard>, news: Heard) -> Result<(), Ended> {
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
        features: Features::OURS,
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

#[cfg(test)]
pub(super) mod tests;
