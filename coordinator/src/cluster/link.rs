//! One connected agent.
//!
//! | stream | here |
//! |---|---|
//! | control | Hello and Welcome, then heartbeats, each answered at once |
//! | state | in: actual sets, outcomes, inventory, progress; out: the newest desired set, acknowledgements |
//!
//! The link believes an agent about its own devices and keys only; the engine checks.

use super::admit::{admit, greeted, is_expelled, register, welcome_message};
use super::alarms::{alarm, take_clock};
use super::{Link, Shared, bare, lock, records};
use crate::delivery;
use crate::engine::{EngineError, wall_clock};
use crate::live::{AgentLive, IdleLive, Live};
use crate::pki::{PeerIdentity, request_key_sha256};
use longshore_common::agent::{Inventory, RuntimeState};
use longshore_common::api::Progress;
use longshore_common::ids::{AgentId, ContainerKey, Generation};
use longshore_common::session::ContainerState;
use longshore_common::wire::{
    ActualSet, Cap, CertIssued, CertRequest, CloseCode, ContainerReport, DesiredSet, Figures,
    Frame, FrameError, Goodbye, Heartbeat, HeartbeatAck, Hello, InventoryReport, MAX_LIST,
    Material, MaterialRequest, Message, NodeLayers, Notice, NoticeKind, Outcome, OutcomeAck,
    PullProgress, RefusedCode, SignedSet, SigningInput, UnclaimedReport, UseReport, actual_hash,
};
use longshore_core::model::{Event, State, desired_set};
use longshore_link::{FrameReader, LinkError, boot_ms, close, send, send_within, take_in};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify, mpsc};
use tracing::{info, warn};
use zeroize::Zeroize as _;

/// The first frame comes within this time.
pub(super) const FIRST_FRAME: Duration = Duration::from_secs(5);
/// Inventories of one agent are looked at so often: each costs the engine a comparison with the
/// one before, and all agents wait for it.
const INVENTORY_EVERY: Duration = Duration::from_secs(1);
/// Below this share of free disk a node gets no new work, in percent.
const DISK_LOW_PERCENT: i64 = 10;
/// An agent that takes nothing of its state stream for so long is cut.
const TAKES_NOTHING: Duration = Duration::from_secs(10);
/// Frames an agent may send on one stream in ten seconds.
const FRAMES_PER_10_S: u32 = 2000;

/// Why a link ends, for its one line in the log.
pub(super) enum Ending {
    Peer(LinkError),
    Refused(CloseCode, String),
    Engine,
}

impl From<LinkError> for Ending {
    fn from(error: LinkError) -> Self {
        Self::Peer(error)
    }
}

impl From<FrameError> for Ending {
    fn from(error: FrameError) -> Self {
        Self::Peer(LinkError::Frame(error))
    }
}

impl From<EngineError> for Ending {
    fn from(_: EngineError) -> Self {
        Self::Engine
    }
}

pub(super) fn gone(error: &dyn std::fmt::Display) -> Ending {
    Ending::Peer(LinkError::Gone(error.to_string()))
}

/// Serves a link to its end. Whether the peer had a certificate of ours.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    connection: quinn::Connection,
    number: u64,
    bare: bool,
) -> bool {
    let peer = connection.remote_address();
    let identity = identify(shared, &connection);
    let known = identity.is_ok();
    let ending = match identity {
        Ok(identity) => {
            let served = match bare {
                true => bare::answer(shared, &connection, identity).await,
                false => run(shared, &connection, identity, number).await,
            };
            match served {
                Ok(()) => return known,
                Err(ending) => ending,
            }
        }
        Err(text) => Ending::Refused(CloseCode::Revoked, text),
    };
    match ending {
        Ending::Peer(error) => match error.close_code() {
            Some(code) => {
                shared.engine.live.counted.refused(code);
                warn!(%peer, %error, "agent broke the protocol");
                close(&connection, code, &error.to_string());
            }
            None => info!(%peer, %error, "agent connection ended"),
        },
        Ending::Refused(code, text) => {
            shared.engine.live.counted.refused(code);
            info!(%peer, %text, "agent refused");
            close(&connection, code, &text);
        }
        Ending::Engine => close(&connection, CloseCode::Restarting, "the coordinator stops"),
    }
    known
}

fn identify(shared: &Arc<Shared>, connection: &quinn::Connection) -> Result<PeerIdentity, String> {
    let chain = connection
        .peer_identity()
        .and_then(|any| {
            any.downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>()
                .ok()
        })
        .ok_or("no certificate was shown")?;
    let leaf = chain.first().ok_or("no certificate was shown")?;
    shared.pki.identify(leaf).map_err(|e| e.to_string())
}

async fn run(
    shared: &Arc<Shared>,
    connection: &quinn::Connection,
    identity: PeerIdentity,
    number: u64,
) -> Result<(), Ending> {
    let agent = identity.agent;
    let (mut out, mut control, hello) = greeted::<Hello>(shared, connection, agent).await?;
    let welcome = match admit(shared, &hello, identity).await? {
        Ok(welcome) => welcome,
        Err(refused) => {
            let told = [RefusedCode::Identity, RefusedCode::StaleCoordinator];
            if told.contains(&refused.code) {
                let text = format!("refused: {}", refused.text);
                let what = format!("{:?}", refused.code);
                alarm(shared, agent, (&what, None), &text).await?;
            }
            let code = match refused.code {
                RefusedCode::Identity => CloseCode::Identity,
                RefusedCode::StaleCoordinator => CloseCode::StaleCoordinator,
                RefusedCode::Busy => CloseCode::Overload,
                _ => CloseCode::Revoked,
            };
            let text = refused.text.clone();
            send(&mut out, &refused).await?;
            let _ = out.finish();
            let _ = tokio::time::timeout(FIRST_FRAME, out.stopped()).await; // let it arrive
            return Err(Ending::Refused(code, text));
        }
    };
    take_in(connection);
    let name = welcome.name.clone();
    let link = match register(shared, connection, &hello, number) {
        Ok(link) => link,
        Err(text) => return Err(Ending::Refused(CloseCode::Replaced, text)),
    };
    let (set_changed, acks) = (Arc::clone(&link.0.set_changed), link.1);
    let link = link.0;
    shared.engine.live.keep_idle(agent);
    let live = shared.engine.live.agent(agent);
    live.update(|d| {
        d.connection = Some((shown_address(connection), wall_clock()));
        d.incompatible = None;
    });
    beat(&live);
    info!(%agent, %name, peer = %connection.remote_address(), "agent connected");
    let result = async {
        // It was told to be closed before it was there to be found.
        let look = move |state: &State, _| is_expelled(state, agent);
        if shared.engine.read_when_room(look).await? {
            let text = "the agent was expelled".to_owned();
            return Err(Ending::Refused(CloseCode::Revoked, text));
        }
        let rebooted = welcome.rebooted;
        send(
            &mut out,
            &welcome_message(shared, welcome, hello.features).await?,
        )
        .await?;
        let view = Arc::new(Mutex::new(View::default()));
        let state = state_stream(
            shared,
            connection,
            identity,
            &link,
            acks,
            set_changed,
            Arc::clone(&view),
            rebooted,
        );
        tokio::select! {
            ended = heartbeats(shared, agent, &live, &link, &mut out, &mut control, &view) => ended,
            ended = state => ended,
        }
    }
    .await;
    let mut links = lock(&shared.links);
    if links.get(&agent).is_some_and(|l| l.number == link.number) {
        links.remove(&agent);
        live.update(|d| d.connection = None);
        shared.engine.live.forget_idle(agent);
        shared.engine.live.set_held(agent, None);
    }
    drop(links);
    result
}

fn beat(live: &AgentLive) {
    live.last_beat_ms.store(boot_ms(), Ordering::Relaxed);
    live.last_beat_at.store(wall_clock().0, Ordering::Relaxed);
}

/// Keys and states this link has heard of, to compare hashes with the agent.
#[derive(Debug, Default)]
struct View {
    states: BTreeMap<ContainerKey, ContainerState>,
    hash: Option<u64>,
    whole: bool,
}

impl View {
    fn take(&mut self, key: ContainerKey, state: ContainerState) {
        if state == ContainerState::Closed {
            self.states.remove(&key);
        } else {
            self.states.insert(key, state);
        }
        self.hash = None;
    }

    fn hash(&mut self) -> u64 {
        let states = &self.states;
        *self
            .hash
            .get_or_insert_with(|| actual_hash(states.iter().map(|(k, s)| (k, *s))))
    }
}

/// Where an agent is, as people write it: IPv4 stays IPv4 on a socket that takes both.
fn shown_address(connection: &quinn::Connection) -> String {
    let address = connection.remote_address();
    SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
}

/// Refuses a peer that sends more frames than any honest one does.
struct Pace {
    since: Instant,
    count: u32,
}

impl Pace {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            count: 0,
        }
    }

    fn count(&mut self) -> Result<(), Ending> {
        self.count += 1;
        if self.since.elapsed() > Duration::from_secs(10) {
            *self = Self::new();
        }
        if self.count > FRAMES_PER_10_S {
            return Err(Ending::Refused(
                CloseCode::Limit,
                "too many frames".to_owned(),
            ));
        }
        Ok(())
    }
}

async fn heartbeats(
    shared: &Arc<Shared>,
    agent: AgentId,
    live: &AgentLive,
    link: &Link,
    out: &mut quinn::SendStream,
    control: &mut FrameReader,
    view: &Mutex<View>,
) -> Result<(), Ending> {
    let mut applied = Generation(0);
    let mut condition = None;
    let mut pace = Pace::new();
    loop {
        let frame = control.next().await?;
        pace.count()?;
        if frame.kind == Goodbye::KIND {
            let _: Goodbye = frame.decode()?;
            return Err(Ending::Refused(
                CloseCode::Normal,
                "the agent said goodbye".to_owned(),
            ));
        }
        let heartbeat: Heartbeat = frame.decode()?;
        beat(live);
        live.applied.store(heartbeat.applied.0, Ordering::Relaxed);
        let want_actual = {
            let mut view = view.lock().await;
            for report in &heartbeat.changed {
                view.take(report.key, report.state);
                let there = report.state != ContainerState::Closed;
                let live = &shared.engine.live;
                live.note_held(agent, heartbeat.applied, report.key, there);
            }
            if view.states.len() > MAX_LIST {
                return Err(Ending::Refused(
                    CloseCode::Limit,
                    "too many containers".to_owned(),
                ));
            }
            view.whole && (heartbeat.more || view.hash() != heartbeat.actual_hash)
        };
        let ack = HeartbeatAck {
            seq: heartbeat.seq,
            generation: Generation(link.generation.load(Ordering::Relaxed)),
            want_actual,
            now: wall_clock(),
            audit: shared.engine.live.audit_end(),
        };
        send(out, &ack).await?;
        take_condition(shared, agent, &heartbeat, &mut condition).await?;
        take_clock(shared, agent, live, (heartbeat.now, ack.now)).await?;
        if let Some(load) = heartbeat.load {
            live.update(|d| d.load = Some(load));
        }
        if !heartbeat.changed.is_empty() || heartbeat.applied != applied {
            applied = heartbeat.applied;
            let said = said_of_use(&heartbeat.changed);
            let reports = heartbeat.changed.clone();
            let event = Event::Report {
                agent,
                applied,
                items: heartbeat.changed,
                whole: false,
                rebooted: false,
            };
            let live = Arc::clone(&shared.engine.live);
            let look = move |state: &State| {
                let known = keys_of(state, agent);
                live.note_strangers(agent, &reports, &known, false, wall_clock());
                for (key, idle) in said {
                    let idle = if known.contains(&key) { idle } else { OVER };
                    live.set_idle(agent, key, idle);
                }
            };
            shared.engine.tell_then(event, look).await?;
        }
    }
}

/// What is said of the use of a container that ended, or is none of the agent's.
const OVER: IdleLive = IdleLive {
    deadline: None,
    frozen: false,
    idle: false,
    used_at: None,
};

/// What reports say about use. It is shown, never stored; and kept of containers alone that
/// are on the agent by the engine's books, or whoever has a certificate could say things of
/// any number of others until memory is full.
fn said_of_use(reports: &[ContainerReport]) -> Vec<(ContainerKey, IdleLive)> {
    let said = |report: &ContainerReport| match report.state {
        ContainerState::Exited | ContainerState::Closed => OVER,
        _ => IdleLive {
            deadline: report.idle_deadline,
            frozen: report.frozen,
            idle: report.idle,
            used_at: report.used_at,
        },
    };
    reports.iter().map(|r| (r.key, said(r))).collect()
}

fn keys_of(state: &State, agent: AgentId) -> BTreeSet<ContainerKey> {
    state.on_agent(agent).collect()
}

async fn take_condition(
    shared: &Arc<Shared>,
    agent: AgentId,
    heartbeat: &Heartbeat,
    known: &mut Option<(RuntimeState, bool)>,
) -> Result<(), Ending> {
    let disk_low = heartbeat.load.as_ref().map_or_else(
        || known.is_some_and(|(_, low)| low),
        |l| {
            l.disk_total > 0
                && l.disk_free.saturating_mul(100) < l.disk_total.saturating_mul(DISK_LOW_PERCENT)
        },
    );
    let now = Some((heartbeat.runtime, disk_low));
    if *known != now {
        *known = now;
        let event = Event::Condition {
            agent,
            runtime: heartbeat.runtime,
            disk_low,
        };
        shared.engine.tell(event).await?;
    }
    Ok(())
}

#[expect(
    clippy::too_many_arguments,
    reason = "the ends of one stream, each used once"
)]
async fn state_stream(
    shared: &Arc<Shared>,
    connection: &quinn::Connection,
    identity: PeerIdentity,
    link: &Link,
    mut acks: mpsc::UnboundedReceiver<OutcomeAck>,
    set_changed: Arc<Notify>,
    view: Arc<Mutex<View>>,
    mut rebooted: bool,
) -> Result<(), Ending> {
    let (mut out, back) = connection.accept_bi().await.map_err(|e| gone(&e))?;
    let _ = out.set_priority(100);
    let mut frames = FrameReader::new(back, Cap::STATE);
    let (issue, mut issued) = mpsc::channel::<CertIssued>(1);
    let (give, mut given) = mpsc::channel::<Material>(1);
    let synced = Notify::new();
    // Reading goes on while a large set is being written, and the other way round: two
    // ends that both only write would wait for each other for ever.
    let read = async {
        let mut pace = Pace::new();
        // The newest inventory that waits, and when the engine takes the next one.
        let (mut waiting, mut from) = (None, tokio::time::Instant::now());
        loop {
            if tokio::time::Instant::now() >= from
                && let Some(inventory) = waiting.take()
            {
                let agent = identity.agent;
                let event = Event::Inventory { agent, inventory };
                shared.engine.tell(event).await?;
                from = tokio::time::Instant::now() + INVENTORY_EVERY;
            }
            let frame = tokio::select! {
                frame = frames.next() => frame?,
                () = tokio::time::sleep_until(from), if waiting.is_some() => continue,
            };
            pace.count()?;
            match take(shared, identity, &frame, &view, rebooted).await? {
                Taken::Nothing => (),
                Taken::Inventory(inventory) => waiting = Some(inventory),
                Taken::Actual => {
                    rebooted = false; // said once is enough
                    synced.notify_one();
                }
                // One is asked for at a time; a second before the first is written waits.
                Taken::Certificate(certificate) => {
                    if issue.send(certificate).await.is_err() {
                        return Ok(());
                    }
                }
                // Read on only once it is being written: memory holds two of them at most.
                Taken::Asked(key) => {
                    let (vaults, pki) = (&shared.config.vaults, &shared.pki);
                    let given = delivery::given(&shared.engine, vaults, pki, identity.agent, key);
                    let given = given.await?;
                    if give.send(Material { key, given }).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    };
    // The next set that is worth sending. Nothing is ordered before the agent has said what
    // it has: the first of them waits for that.
    let (changed, said) = (&set_changed, &synced);
    let newest = |ordered: bool| async move {
        tokio::select! {
            () = said.notified() => (),
            () = changed.notified(), if ordered => (),
        }
        let (agent, instance) = (identity.agent, shared.instance);
        let live = Arc::clone(&shared.engine.live);
        let look = move |state: &State, now| {
            let found = desired_set(state, agent, instance, now);
            if let Some(set) = &found {
                live.note_handed(agent, set.generation);
            }
            found
        };
        shared.engine.read_when_room(look).await
    };
    let write = async {
        let mut terms = shared.config.terms.clone();
        terms.mark_changed();
        // Asked for beside the rest: acknowledgements and certificates do not wait for the
        // engine to have room for a question.
        let mut set = pin!(newest(false));
        loop {
            tokio::select! {
                found = &mut set => {
                    if let Some(found) = found? {
                        send_set(shared, link, &mut out, &found).await?;
                    }
                    set.set(newest(true));
                }
                Ok(()) = terms.changed() => {
                    let told = terms.borrow_and_update().clone();
                    send_within(&mut out, &told, TAKES_NOTHING).await?;
                }
                Some(ack) = acks.recv() => send_within(&mut out, &ack, TAKES_NOTHING).await?,
                Some(mut material) = given.recv() => {
                    let sent = send_within(&mut out, &material, TAKES_NOTHING).await;
                    material.given.zeroize();
                    sent?;
                }
                Some(issued) = issued.recv() => send_within(&mut out, &issued, TAKES_NOTHING).await?,
            }
        }
    };
    tokio::select! {
        ended = read => ended,
        ended = write => ended,
    }
}

async fn send_set(
    shared: &Shared,
    link: &Link,
    out: &mut quinn::SendStream,
    set: &DesiredSet,
) -> Result<(), Ending> {
    let bytes = SignedSet::encode(set);
    let signature = shared.pki.sign(&SigningInput::desired_set(&bytes));
    link.generation.store(set.generation.0, Ordering::Relaxed);
    send_within(out, &SignedSet { bytes, signature }, TAKES_NOTHING).await?;
    Ok(())
}

enum Taken {
    Nothing,
    Actual,
    Inventory(Box<Inventory>),
    Certificate(CertIssued),
    /// It asks for what a container is given.
    Asked(ContainerKey),
}

async fn take(
    shared: &Arc<Shared>,
    identity: PeerIdentity,
    frame: &Frame,
    view: &Mutex<View>,
    rebooted: bool,
) -> Result<Taken, Ending> {
    let agent = identity.agent;
    match frame.kind {
        ActualSet::KIND => {
            let set: ActualSet = frame.decode()?;
            {
                let mut view = view.lock().await;
                view.states.clear();
                for item in &set.items {
                    view.take(item.key, item.state);
                }
                view.hash = None;
                view.whole = true;
                let there = |item: &&ContainerReport| item.state != ContainerState::Closed;
                let held = set.items.iter().filter(there).map(|i| i.key).collect();
                let live = &shared.engine.live;
                live.set_held(agent, Some((set.applied, held)));
            }
            let said = said_of_use(&set.items);
            let reports = set.items.clone();
            let event = Event::Report {
                agent,
                applied: set.applied,
                items: set.items,
                whole: true,
                rebooted,
            };
            let live = Arc::clone(&shared.engine.live);
            let look = move |state: &State| {
                let known = keys_of(state, agent);
                live.note_strangers(agent, &reports, &known, true, wall_clock());
                let its_own = said.into_iter().filter(|(key, _)| known.contains(key));
                live.replace_idle(agent, its_own);
            };
            shared.engine.tell_then(event, look).await?;
            Ok(Taken::Actual)
        }
        Outcome::KIND => {
            let outcome: Outcome = frame.decode()?;
            shared.engine.live.counted.outcome(outcome.end.as_ref());
            let (key, live) = (outcome.key, Arc::clone(&shared.engine.live));
            let event = Event::Outcome {
                agent,
                outcome: Box::new(outcome),
            };
            let look = move |state: &State| outcome_taken(state, &live, agent, key);
            shared.engine.tell_then(event, look).await?;
            Ok(Taken::Nothing)
        }
        UnclaimedReport::KIND => {
            let report: UnclaimedReport = frame.decode()?;
            let items = records::strays(shared, report.items).await?;
            let event = Event::Unclaimed { agent, items };
            shared.engine.tell(event).await?;
            Ok(Taken::Nothing)
        }
        NodeLayers::KIND => {
            let mut layers: NodeLayers = frame.decode()?;
            let taken = shared.config.vaults.take_layers(agent, &layers);
            layers.zeroize();
            // Its sessions go without; the agent itself has checked what it read.
            if let Err(error) = taken {
                warn!(%agent, %error, "what the node sets for sessions is not taken");
            }
            Ok(Taken::Nothing)
        }
        InventoryReport::KIND => {
            let report: InventoryReport = frame.decode()?;
            Ok(Taken::Inventory(Box::new(report.inventory)))
        }
        PullProgress::KIND => {
            let progress: PullProgress = frame.decode()?;
            take_progress(shared, agent, &progress).await?;
            Ok(Taken::Nothing)
        }
        Notice::KIND => {
            let notice: Notice = frame.decode()?;
            let text: String = notice.text.chars().filter(|c| !c.is_control()).collect();
            warn!(%agent, kind = ?notice.kind, key = ?notice.key, %text, "notice");
            if notice.kind == NoticeKind::Breach {
                let what = format!("breach {:?}", notice.key);
                alarm(shared, agent, (&what, notice.key), &text).await?;
            }
            if let (NoticeKind::Device, Some(device)) = (notice.kind, &notice.device) {
                let (device, text) = (device.clone(), text.clone());
                let event = Event::DeviceNotice {
                    agent,
                    device,
                    text,
                };
                shared.engine.tell(event).await?;
            }
            let of_file = matches!(notice.kind, NoticeKind::FileKept | NoticeKind::FileSkipped);
            if let Some(key) = notice.key.filter(|_| of_file) {
                let event = Event::FileNotice { agent, key, text };
                shared.engine.tell(event).await?;
            } else if let (NoticeKind::Warning, Some(key)) = (notice.kind, notice.key) {
                let event = Event::Warned { agent, key, text };
                shared.engine.tell(event).await?;
            }
            Ok(Taken::Nothing)
        }
        UseReport::KIND => {
            let report: UseReport = frame.decode()?;
            let key = report.key;
            let keep = move |live: &Live| live.set_use(agent, report);
            take_telemetry(shared, agent, key, keep).await?;
            Ok(Taken::Nothing)
        }
        Figures::KIND => {
            let figures: Figures = frame.decode()?;
            let key = figures.key;
            let keep = move |live: &Live| live.set_figures(agent, figures);
            take_telemetry(shared, agent, key, keep).await?;
            Ok(Taken::Nothing)
        }
        MaterialRequest::KIND => {
            let request: MaterialRequest = frame.decode()?;
            Ok(Taken::Asked(request.key))
        }
        CertRequest::KIND => {
            let request: CertRequest = frame.decode()?;
            renew(shared, identity, &request).await
        }
        _ if frame.is_skippable() => Ok(Taken::Nothing),
        _ => Err(FrameError::Unexpected {
            kind: frame.kind,
            ver: frame.ver,
        }
        .into()),
    }
}

/// Figures of a container whose outcome is stored. What an agent says of another's changes
/// nothing.
fn outcome_taken(state: &State, live: &Live, agent: AgentId, key: ContainerKey) {
    let session = state.sessions.get(&key.session);
    let mut containers = session.iter().flat_map(|s| &s.containers);
    if containers.any(|c| c.key == key && c.agent == agent) {
        live.set_progress(key, None);
    }
    if !state.on_agent(agent).any(|k| k == key) {
        live.set_idle(agent, key, OVER);
        live.forget_use(agent, key);
    }
}

/// Figures are kept only of containers that are on this agent: what is over is forgotten
/// once, and nothing may come after that.
async fn take_telemetry(
    shared: &Arc<Shared>,
    agent: AgentId,
    key: ContainerKey,
    keep: impl FnOnce(&Live) + Send + 'static,
) -> Result<(), Ending> {
    let live = Arc::clone(&shared.engine.live);
    let look = move |state: &State, _| {
        let session = state.sessions.get(&key.session);
        let mut containers = session.iter().flat_map(|s| &s.containers);
        if containers.any(|c| c.key == key && c.agent == agent && !c.is_over()) {
            keep(&live);
        }
    };
    // It may be dropped when there is too much to do: the next comes soon.
    match shared.engine.read(look).await {
        Ok(()) | Err(EngineError::Busy) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Progress is taken only about containers that are on this agent, of sessions that are not
/// over: what is over is forgotten once, and nothing may come after that.
async fn take_progress(
    shared: &Arc<Shared>,
    agent: AgentId,
    progress: &PullProgress,
) -> Result<(), Ending> {
    let key = progress.key;
    let some = |n: u64| (n > 0).then_some(n);
    let figures = Progress {
        bytes_done: progress.bytes_done,
        bytes_total: some(progress.bytes_total),
        layers_done: progress.layers_done,
        layers_total: (progress.layers_total > 0).then_some(progress.layers_total),
    };
    let live = Arc::clone(&shared.engine.live);
    let look = move |state: &State, _| {
        let session = state.sessions.get(&key.session);
        let goes_on = session.is_some_and(|s| !s.state.is_final());
        if goes_on && state.on_agent(agent).any(|k| k == key) {
            live.set_progress(key, Some(figures));
        }
    };
    // Telemetry alone may be dropped when there is too much to do: the next comes in a second.
    match shared.engine.read(look).await {
        Ok(()) | Err(EngineError::Busy) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn renew(
    shared: &Arc<Shared>,
    identity: PeerIdentity,
    request: &CertRequest,
) -> Result<Taken, Ending> {
    let bad = |text: String| Ending::Refused(CloseCode::Protocol, text);
    let key = request_key_sha256(&request.csr).map_err(|e| bad(e.to_string()))?;
    let event = Event::RenewKey {
        agent: identity.agent,
        key,
        proven: identity.key,
    };
    match shared.engine.ask(event).await? {
        Ok(_) => {
            let certificate = shared
                .pki
                .issue_agent(identity.agent, &request.csr, shared.certificate_days())
                .map_err(|e| bad(e.to_string()))?;
            info!(agent = %identity.agent, "certificate renewed");
            Ok(Taken::Certificate(CertIssued { certificate }))
        }
        Err(refusal) => Err(bad(refusal.detail)),
    }
}
