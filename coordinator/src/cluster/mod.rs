//! The agents' side of the coordinator: QUIC listener, one task per connected agent,
//! the silence watch, enrolment.
//!
//! | task | input | output |
//! |---|---|---|
//! | accept | connections | `enrol::serve` or `link::serve`, one task each |
//! | effects | [`Effect`]s of the engine | wakes the agent's link |
//! | silence | last heartbeats | [`Event::Silent`] |
//!
//! Heartbeats that reveal nothing new end here: they touch an atomic and are answered.

mod admit;
mod alarms;
mod bare;
mod door;
mod enrol;
mod link;
mod patience;
pub(crate) mod records;
mod socket;
mod throttle;

use crate::config::Config;
use crate::engine::{Engine, EngineError};
use crate::pki::{Pki, random};
use crate::settings::InForce;
use crate::store::Reader;
use crate::vaults::Vaults;
use door::{Door, Fruitless, Greeting, Hellos, Strangers};
use longshore_common::agent::AgentState;
use longshore_common::ids::{AgentId, DeviceId, InstanceId};
use longshore_common::wire::{
    ALPN_AGENT, ALPN_AGENT_BARE, ALPN_ENROL, Cap, CloseCode, Data, ExecRequest, FromExec,
    FromTunnel, LogsRequest, Message, OutcomeAck, SignalRequest, StreamAccept, StreamEnd,
    StreamOpen, StreamRefuse, Terms, ToExec, ToTunnel, TunnelRequest,
};
use longshore_core::model::{Effect, Event};
use longshore_link::{FrameReader, INTERACTIVE, Side, boot_ms, close, pass_on, send, transport};
use patience::Patience;
use quinn::crypto::rustls::QuicServerConfig;
use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use throttle::Throttle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tracing::{debug, error, info, warn};

/// Handshakes in progress above which a peer has to show that its address is its own.
const RETRY_ABOVE: usize = 64;
/// Handshakes in progress at most.
const PENDING_MAX: usize = 256;
/// A handshake takes at most this long.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Bytes of a connection id: what quinn takes by default.
const CONNECTION_ID: usize = 8;
/// Agents of a killed coordinator are told so at most this often, all together: a thousand
/// in a second. A reset is smaller than the packet that asks for it.
const RESET_EVERY: Duration = Duration::from_millis(1);
/// How often silence is looked at.
const SILENCE_EVERY: Duration = Duration::from_millis(500);
/// An agent that cannot take a data stream in this time is treated as away.
const OPEN_STREAM: Duration = Duration::from_secs(5);
/// A command begins at an agent within this time: its engine may be busy.
const START_COMMAND: Duration = Duration::from_secs(30);
/// An agent connects to a port within this time: it may start a program there first, and gives
/// that 30 s.
const CONNECT_INSIDE: Duration = Duration::from_secs(40);
/// Frames between an agent and whoever holds a command, each way.
const BETWEEN: usize = 8;

/// Settings of the link.
#[derive(Debug, Clone)]
pub struct ClusterConfig {
    /// UDP address.
    pub listen: SocketAddr,
    /// Addresses agents may use besides the one they have.
    pub addresses: Vec<String>,
    /// Segmentation offload.
    pub gso: bool,
    /// What containers are given.
    pub vaults: Vaults,
    /// What is stored of sessions that are over.
    pub reader: Reader,
    /// What agents go by, now and when it differs.
    pub terms: watch::Receiver<Terms>,
    /// Days for which an agent's certificate is issued, now and when it differs.
    pub certificate_days: watch::Receiver<u32>,
}

/// What a configuration tells agents to go by.
#[must_use]
pub fn terms(config: &Config) -> Terms {
    Terms {
        redaction: config.secure.redaction.names.clone(),
        heartbeat_ms: config.daemon.agents.heartbeat_s * 1000,
        lost_after_ms: config.daemon.agents.lost_after_s * 1000,
    }
}

/// Days for which a configuration lets certificates of agents be issued.
#[must_use]
pub const fn certificate_days(config: &Config) -> u32 {
    config.daemon.agents.certificate_days
}

/// What `pick` makes of the configuration in force, as it becomes another one.
#[must_use]
pub fn picked<T: PartialEq + Send + Sync + 'static>(
    mut settings: watch::Receiver<Arc<InForce>>,
    pick: fn(&Config) -> T,
) -> watch::Receiver<T> {
    let first = pick(&settings.borrow_and_update().config);
    let (tell, told) = watch::channel(first);
    tokio::spawn(async move {
        // Until the configuration is held no more: the program ends.
        while settings.changed().await.is_ok() {
            let next = pick(&settings.borrow_and_update().config);
            tell.send_if_modified(|known| {
                let differs = *known != next;
                *known = next;
                differs
            });
        }
    });
    told
}

/// What cannot be done at an agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// The listener could not be made.
    #[error("cannot listen on UDP {address}: {detail}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        detail: String,
    },
    /// The agent has no connection.
    #[error("the agent is not connected")]
    Away,
    /// The agent said no.
    #[error("{0}")]
    Refused(String),
}

/// The way to connected agents, cheap to copy.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

struct Shared {
    engine: Engine,
    pki: Arc<Pki>,
    instance: InstanceId,
    config: ClusterConfig,
    links: Mutex<HashMap<AgentId, Link>>,
    next_link: AtomicU64,
    pending: AtomicU64,
    failures: Mutex<Throttle>,
    handshakes: Mutex<Fruitless>,
    hellos: Mutex<Hellos>,
    greeting: Mutex<Greeting>,
    strangers: Mutex<Strangers>,
    alarms: Mutex<alarms::Alarms>,
    /// Agents taken in so far.
    taken: AtomicU64,
    /// Its other end is held by the thread that serves agents.
    serving: watch::Receiver<()>,
}

/// The open connection of one agent.
#[derive(Clone)]
struct Link {
    number: u64,
    connection: quinn::Connection,
    fingerprint: String,
    started: longshore_common::time::Timestamp,
    set_changed: Arc<Notify>,
    acks: mpsc::UnboundedSender<OutcomeAck>,
    generation: Arc<AtomicU64>,
    /// One permit per data stream that is no tunnel.
    streams: Arc<Semaphore>,
    /// One permit per connection to a port of a container.
    tunnels: Arc<Semaphore>,
    /// When it was taken in.
    since: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What agents are served with, before anybody listens.
pub struct Prepared {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: quinn::ServerConfig,
    effects: mpsc::UnboundedReceiver<Effect>,
    /// Held as long as agents are served.
    serves: watch::Sender<()>,
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared").finish_non_exhaustive()
    }
}

impl Prepared {
    /// Checks what it takes to listen for agents.
    ///
    /// # Errors
    /// [`ClusterError::Listen`].
    pub fn new(
        config: ClusterConfig,
        pki: Arc<Pki>,
        engine: Engine,
        instance: InstanceId,
        effects: mpsc::UnboundedReceiver<Effect>,
    ) -> Result<Self, ClusterError> {
        let address = config.listen;
        let fail = |detail: String| ClusterError::Listen { address, detail };
        let tls = pki
            .agents_config(&[ALPN_AGENT, ALPN_ENROL, ALPN_AGENT_BARE])
            .map_err(|e| fail(e.to_string()))?;
        let crypto = QuicServerConfig::try_from(tls).map_err(|e| fail(e.to_string()))?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        server
            .transport_config(transport(Side::Coordinator, config.gso))
            .max_incoming(PENDING_MAX)
            .migration(true);
        let (serves, serving) = watch::channel(());
        let shared = Arc::new(Shared {
            engine,
            pki,
            instance,
            config,
            links: Mutex::new(HashMap::new()),
            next_link: AtomicU64::new(1),
            pending: AtomicU64::new(0),
            failures: Mutex::new(Throttle::default()),
            handshakes: Mutex::default(),
            hellos: Mutex::default(),
            greeting: Mutex::default(),
            strangers: Mutex::default(),
            alarms: Mutex::default(),
            taken: AtomicU64::new(0),
            serving,
        });
        Ok(Self {
            shared,
            address,
            server,
            effects,
            serves,
        })
    }

    /// Listens and starts the tasks of this module, on a thread of their own: a heartbeat is a few
    /// microseconds of work, and handing it from one thread to the next, as a pool does, costs
    /// several times that.
    ///
    /// # Errors
    /// [`ClusterError::Listen`].
    pub fn start(self) -> Result<(Cluster, quinn::Endpoint), ClusterError> {
        let shared = Arc::clone(&self.shared);
        let address = self.address;
        let fail = |detail: String| ClusterError::Listen { address, detail };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|e| fail(e.to_string()))?;
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let work = move || {
            runtime.block_on(async {
                let listening = self.listen();
                let endpoint = listening.as_ref().ok().cloned();
                let _ = tell.send(listening); // whoever started us waits for it
                if let Some(endpoint) = endpoint {
                    self.serve(endpoint).await;
                }
            });
        };
        let thread = std::thread::Builder::new().name("agents".to_owned());
        thread.spawn(work).map_err(|e| fail(e.to_string()))?;
        let endpoint = told.recv().map_err(|e| fail(e.to_string()))??;
        Ok((Cluster { shared }, endpoint))
    }

    /// [`Self::start`] on the runtime it is called on, which can end as a killed process would.
    ///
    /// # Errors
    /// [`ClusterError::Listen`].
    pub fn start_here(self) -> Result<(Cluster, quinn::Endpoint), ClusterError> {
        let shared = Arc::clone(&self.shared);
        let endpoint = self.listen()?;
        tokio::spawn(self.serve(endpoint.clone()));
        Ok((Cluster { shared }, endpoint))
    }

    /// Listens, on the runtime it is called on.
    fn listen(&self) -> Result<quinn::Endpoint, ClusterError> {
        let made = socket::bind(self.address).and_then(|socket| {
            let config = endpoint_config(&self.shared.pki);
            let here = Arc::new(quinn::TokioRuntime);
            quinn::Endpoint::new(config, Some(self.server.clone()), socket, here)
        });
        made.map_err(|error| ClusterError::Listen {
            address: self.address,
            detail: error.to_string(),
        })
    }

    /// Serves agents until the endpoint is closed and nobody is left.
    async fn serve(self, endpoint: quinn::Endpoint) {
        tokio::spawn(perform(Arc::clone(&self.shared), self.effects));
        tokio::spawn(watch_silence(Arc::clone(&self.shared)));
        accept(self.shared, endpoint.clone()).await;
        endpoint.wait_idle().await;
        drop(self.serves);
    }
}

/// An agent whose coordinator was killed learns of it with its next packet, not after ten
/// seconds of silence: the new process can prove that the connection is gone, because it
/// knows the key by which the old one promised to (RFC 9000, section 10.3).
fn endpoint_config(pki: &Pki) -> quinn::EndpointConfig {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &pki.reset_secret());
    let mut config = quinn::EndpointConfig::new(Arc::new(key));
    config
        .cid_generator(|| Box::new(AnyConnectionId))
        .min_reset_interval(RESET_EVERY);
    config
}

/// Connection ids without a mark of the process that drew them.
#[derive(Debug)]
struct AnyConnectionId;

impl quinn::ConnectionIdGenerator for AnyConnectionId {
    fn generate_cid(&mut self) -> quinn::ConnectionId {
        quinn::ConnectionId::new(&random::<CONNECTION_ID>())
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

async fn accept(shared: Arc<Shared>, endpoint: quinn::Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        let peer = incoming.remote_address();
        let is_its_own = incoming.remote_address_validated();
        let pending = shared.pending.load(Ordering::Relaxed);
        let busy = pending > RETRY_ABOVE as u64;
        let door = lock(&shared.handshakes).door(peer.ip(), is_its_own, busy, Instant::now());
        if pending >= PENDING_MAX as u64 || door == Door::Shut {
            incoming.refuse();
            continue;
        }
        if door == Door::Prove {
            let _ = incoming.retry(); // only fails for validated addresses
            continue;
        }
        shared.pending.fetch_add(1, Ordering::Relaxed);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let result = tokio::time::timeout(HANDSHAKE, async { incoming.await }).await;
            let others = shared.pending.fetch_sub(1, Ordering::Relaxed);
            // Whether it came to nothing, of an address that is its own by then.
            let failed = match result {
                // Only who gets our packets comes so far.
                Ok(Ok(connection)) => (!serve(&shared, connection).await).then_some(true),
                Ok(Err(error)) => {
                    info!(%peer, %error, "agent handshake failed");
                    Some(is_its_own)
                }
                Err(_) => {
                    info!(%peer, "agent handshake took too long");
                    // With many under way at once it may be ours that took so long.
                    (others <= RETRY_ABOVE as u64).then_some(is_its_own)
                }
            };
            if let Some(proven) = failed {
                lock(&shared.handshakes).count(peer.ip(), proven, Instant::now());
            }
        });
    }
}

/// Serves a connection to its end. Whether it had a certificate of ours, or got one.
async fn serve(shared: &Arc<Shared>, connection: quinn::Connection) -> bool {
    let alpn = connection
        .handshake_data()
        .and_then(|data| data.downcast::<quinn::crypto::rustls::HandshakeData>().ok())
        .and_then(|data| data.protocol);
    match alpn.as_deref() {
        Some(ALPN_ENROL) => {
            let address = connection.remote_address().ip();
            if !lock(&shared.strangers).begin(address) {
                close(&connection, CloseCode::Overload, "too many are joining");
                return false;
            }
            let enrolled = enrol::serve(shared, &connection).await;
            lock(&shared.strangers).end(address);
            enrolled
        }
        Some(alpn @ (ALPN_AGENT | ALPN_AGENT_BARE)) => {
            // Drawn before anything is waited for: of two connections of one process the
            // one that was made later wins, whichever says hello first.
            let number = shared.next_link.fetch_add(1, Ordering::Relaxed);
            link::serve(shared, connection, number, alpn == ALPN_AGENT_BARE).await
        }
        _ => {
            close(&connection, CloseCode::Protocol, "unknown protocol");
            false
        }
    }
}

async fn perform(shared: Arc<Shared>, mut effects: mpsc::UnboundedReceiver<Effect>) {
    while let Some(effect) = effects.recv().await {
        match effect {
            Effect::SendDesired(agent) => {
                if let Some(link) = shared.link(agent) {
                    link.set_changed.notify_one();
                }
            }
            Effect::AckOutcome { agent, key, number } => {
                if let Some(link) = shared.link(agent) {
                    let _ = link.acks.send(OutcomeAck { key, number }); // a lost ack is asked for again
                }
            }
            Effect::Close { agent, code } => {
                if let Some(link) = shared.link(agent) {
                    close(&link.connection, code, "");
                }
            }
        }
    }
}

/// Tells the engine which agents have been silent for too long. Time in which the
/// coordinator was down does not count: every agent begins anew at its start.
async fn watch_silence(shared: Arc<Shared>) {
    let mut first = true;
    let mut braked = 0;
    let mut patience = Patience::new(i64::from(shared.config.terms.borrow().lost_after_ms));
    loop {
        tokio::time::sleep(SILENCE_EVERY).await;
        let Ok(agents) = shared.engine.read(agents_to_watch).await else {
            match shared.engine.read(|_, _| ()).await {
                Err(EngineError::Stopped) => return,
                _ => continue,
            }
        };
        let many = shared.engine.read(|state, _| state.braked().count()).await;
        braked = many.map_or(braked, |many| tell_of_brake(braked, many));
        let now = boot_ms();
        patience.follow(i64::from(shared.config.terms.borrow().lost_after_ms), now);
        let crowd = i64::try_from(agents.len()).unwrap_or(0) * 50;
        for (agent, state, declare_ms) in agents {
            let live = shared.engine.live.agent(agent);
            let last = live.last_beat_ms.load(Ordering::Relaxed);
            if first || last == 0 {
                let begin = if first { now + crowd } else { now };
                let _ = live.last_beat_ms.compare_exchange(
                    0,
                    begin,
                    Ordering::Relaxed,
                    Ordering::Relaxed,
                );
                continue;
            }
            let for_ms = now - last;
            let lost_after_ms = patience.of(last);
            if state == AgentState::Lost
                && for_ms < lost_after_ms
                && let Some(link) = shared.link(agent)
                // A younger one has said hello after this list of agents was made.
                && link.since.elapsed() > SILENCE_EVERY * 2
            {
                // It beats again on a connection that was never broken: a new hello brings it back.
                close(&link.connection, CloseCode::Overload, "say hello again");
                continue;
            }
            let lost = state == AgentState::Alive && for_ms >= lost_after_ms;
            let declared = state == AgentState::Lost && declare_ms > 0 && for_ms >= declare_ms;
            if lost || declared {
                let event = Event::Silent {
                    agent,
                    for_ms,
                    lost_after_ms,
                };
                if lost {
                    warn!(%agent, for_ms, "agent is lost");
                }
                if shared.engine.tell(event).await.is_err() {
                    return;
                }
            }
        }
        first = false;
    }
}

/// Says when the brake on losing many agents at once takes hold, and when it lets go.
fn tell_of_brake(before: usize, now: usize) -> usize {
    match (before, now) {
        (0, many) if many > 0 => error!(
            agents = many,
            "many agents vanished at once: nothing on them is given up until they are back, or until longshore admin agent confirm-loss"
        ),
        (many, 0) if many > 0 => info!("the brake on losing many agents at once is off"),
        _ => (),
    }
    now
}

/// Agents that may be silent, or heard again; T2 in milliseconds.
fn agents_to_watch(
    state: &longshore_core::model::State,
    _now: longshore_common::time::Timestamp,
) -> Vec<(AgentId, AgentState, i64)> {
    state
        .agents
        .values()
        .filter(|a| match a.state {
            AgentState::Alive => true,
            AgentState::Lost => true,
            AgentState::Terminated => false,
        })
        .map(|a| (a.id, a.state, i64::from(state.declare_lost_s(a)) * 1000))
        .collect()
}

impl Shared {
    fn link(&self, agent: AgentId) -> Option<Link> {
        lock(&self.links).get(&agent).cloned()
    }

    /// Days for which certificates are issued now.
    fn certificate_days(&self) -> u32 {
        *self.config.certificate_days.borrow()
    }

    /// Counts a failure of an address.
    fn count_failure(&self, address: IpAddr) {
        lock(&self.failures).count(address, Instant::now());
    }

    /// Whether an address had too many failures lately.
    fn is_throttled(&self, address: IpAddr) -> bool {
        lock(&self.failures).is_throttled(address, Instant::now())
    }
}

/// The way to a command or terminal at an agent. Dropping it is a client that is gone;
/// [`ToExec::Leave`] before says that it does not come back.
#[derive(Debug)]
pub struct ExecEnds {
    /// To the command.
    pub to: mpsc::Sender<ToExec>,
    /// From it. It ends without [`FromExec::Exited`] when the way to the agent broke.
    pub from: mpsc::Receiver<FromExec>,
}

/// The way to a port inside a container. Dropping it breaks the connection.
#[derive(Debug)]
pub struct TunnelEnds {
    /// To the program.
    pub to: mpsc::Sender<ToTunnel>,
    /// From it. It ends after both ways have, and without [`FromTunnel::End`] when the way
    /// to the agent broke.
    pub from: mpsc::Receiver<FromTunnel>,
}

/// Output of a container, as its agent sends it.
#[derive(Debug)]
pub struct LogStream {
    _permit: OwnedSemaphorePermit,
    frames: FrameReader,
    done: bool,
}

impl LogStream {
    /// The next piece; none at the end.
    pub async fn next(&mut self) -> Option<Result<Data, String>> {
        if self.done {
            return None;
        }
        match self.frames.next().await {
            Ok(frame) if frame.kind == Data::KIND => match frame.decode::<Data>() {
                Ok(data) => Some(Ok(data)),
                Err(error) => self.fail(error.to_string()),
            },
            Ok(frame) => match frame.decode::<StreamEnd>() {
                Ok(StreamEnd { error: None }) => {
                    self.done = true;
                    None
                }
                Ok(StreamEnd { error: Some(error) }) => self.fail(error),
                Err(error) => self.fail(error.to_string()),
            },
            Err(error) => self.fail(error.to_string()),
        }
    }

    fn fail(&mut self, error: String) -> Option<Result<Data, String>> {
        self.done = true;
        Some(Err(error))
    }
}

impl Drop for LogStream {
    fn drop(&mut self) {
        self.frames.stop();
    }
}

impl Cluster {
    /// Whether an agent has a connection.
    #[must_use]
    pub fn is_connected(&self, agent: AgentId) -> bool {
        self.shared.link(agent).is_some()
    }

    /// How often an agent was connected since the start; one that comes back counts again.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.taken.load(Ordering::Relaxed)
    }

    /// Opens the output of a container at its agent.
    ///
    /// # Errors
    /// [`ClusterError::Away`], [`ClusterError::Refused`].
    pub async fn logs(
        &self,
        agent: AgentId,
        request: LogsRequest,
    ) -> Result<LogStream, ClusterError> {
        let link = self.shared.link(agent).ok_or(ClusterError::Away)?;
        let opened =
            tokio::time::timeout(OPEN_STREAM, open(&link, &StreamOpen::Logs(request))).await;
        let (frames, permit) = opened.unwrap_or(Err(ClusterError::Away))?;
        Ok(LogStream {
            _permit: permit,
            frames,
            done: false,
        })
    }

    /// Sends a signal to the main process of a container.
    ///
    /// # Errors
    /// [`ClusterError::Away`], [`ClusterError::Refused`].
    pub async fn signal(&self, agent: AgentId, request: SignalRequest) -> Result<(), ClusterError> {
        let link = self.shared.link(agent).ok_or(ClusterError::Away)?;
        let order = StreamOpen::Signal(request);
        let opened = tokio::time::timeout(OPEN_STREAM, open(&link, &order)).await;
        opened.unwrap_or(Err(ClusterError::Away)).map(drop)
    }

    /// Tells an agent that a person vouches for one of its devices.
    ///
    /// # Errors
    /// [`ClusterError::Away`], [`ClusterError::Refused`].
    pub async fn release(&self, agent: AgentId, device: DeviceId) -> Result<(), ClusterError> {
        let link = self.shared.link(agent).ok_or(ClusterError::Away)?;
        let order = StreamOpen::Release(device);
        let opened = tokio::time::timeout(OPEN_STREAM, open(&link, &order)).await;
        let opened = opened.unwrap_or(Err(ClusterError::Away));
        opened.map_err(too_old).map(drop)
    }

    /// Begins a command in a container, or takes up a terminal again.
    ///
    /// # Errors
    /// [`ClusterError::Away`], [`ClusterError::Refused`].
    pub async fn exec(
        &self,
        agent: AgentId,
        request: ExecRequest,
    ) -> Result<ExecEnds, ClusterError> {
        let link = self.shared.link(agent).ok_or(ClusterError::Away)?;
        let order = StreamOpen::Exec(request);
        let opened = open_both_ways(&link, &order, INTERACTIVE);
        let opened = tokio::time::timeout(START_COMMAND, opened).await;
        let slow = || ClusterError::Refused("its agent did not begin it in time".to_owned());
        let (out, frames, permit) = opened.unwrap_or_else(|_| Err(slow())).map_err(too_old)?;
        let (to, outgoing) = mpsc::channel(BETWEEN);
        let (incoming, from) = mpsc::channel(BETWEEN);
        tokio::spawn(async move {
            let _permit = permit;
            pass_on::<ToExec, FromExec>(Side::Coordinator, out, frames, outgoing, incoming).await;
        });
        Ok(ExecEnds { to, from })
    }

    /// Connects to a port inside a container.
    ///
    /// # Errors
    /// [`ClusterError::Away`], [`ClusterError::Refused`].
    pub async fn tunnel(
        &self,
        agent: AgentId,
        request: TunnelRequest,
    ) -> Result<TunnelEnds, ClusterError> {
        let link = self.shared.link(agent).ok_or(ClusterError::Away)?;
        let order = StreamOpen::Tunnel(request);
        let opened = open_both_ways(&link, &order, INTERACTIVE);
        let opened = tokio::time::timeout(CONNECT_INSIDE, opened).await;
        let slow = || ClusterError::Refused("its agent did not connect in time".to_owned());
        let (out, frames, permit) = opened.unwrap_or_else(|_| Err(slow())).map_err(too_old)?;
        let (to, outgoing) = mpsc::channel(BETWEEN);
        let (incoming, from) = mpsc::channel(BETWEEN);
        tokio::spawn(async move {
            let _permit = permit;
            pass_on::<ToTunnel, FromTunnel>(Side::Coordinator, out, frames, outgoing, incoming)
                .await;
        });
        Ok(TunnelEnds { to, from })
    }

    /// Returns when agents are served no more: after the endpoint was closed, or because its
    /// socket is gone.
    pub async fn ended(&self) {
        let mut serving = self.shared.serving.clone();
        while serving.changed().await.is_ok() {}
    }

    /// Closes every connection with the reason: the coordinator stops, containers run on.
    /// Close the endpoint right afterwards, or agents come back at once.
    pub fn say_goodbye(&self) {
        for link in lock(&self.shared.links).values() {
            close(
                &link.connection,
                CloseCode::Restarting,
                "the coordinator stops",
            );
        }
    }
}

/// What an agent says that does not know a kind of stream.
fn too_old(error: ClusterError) -> ClusterError {
    match error {
        ClusterError::Refused(text) if text.starts_with("frame of kind") => {
            ClusterError::Refused("its agent is too old for this and has to be updated".to_owned())
        }
        other => other,
    }
}

/// Opens a data stream and waits until the agent serves it. Nothing more is said on this side.
async fn open(
    link: &Link,
    order: &StreamOpen,
) -> Result<(FrameReader, OwnedSemaphorePermit), ClusterError> {
    // Behind everything else.
    let (mut out, frames, permit) = open_both_ways(link, order, 0).await?;
    let _ = out.finish(); // an agent that reads no more needs no end
    Ok((frames, permit))
}

async fn open_both_ways(
    link: &Link,
    order: &StreamOpen,
    priority: i32,
) -> Result<(quinn::SendStream, FrameReader, OwnedSemaphorePermit), ClusterError> {
    let busy = |_| ClusterError::Refused("too many streams are open at this agent".to_owned());
    let permits = match order {
        StreamOpen::Tunnel(_) => &link.tunnels,
        _ => &link.streams,
    };
    let permit = Arc::clone(permits).try_acquire_owned().map_err(busy)?;
    let away = |_| ClusterError::Away;
    let (mut out, back) = link.connection.open_bi().await.map_err(away)?;
    let _ = out.set_priority(priority); // fails only on closed streams
    send(&mut out, order)
        .await
        .map_err(|_| ClusterError::Away)?;
    let mut frames = FrameReader::new(back, Cap::DATA);
    let frame = frames.next().await.map_err(|_| ClusterError::Away)?;
    if frame.kind == StreamRefuse::KIND {
        let refused = frame
            .decode::<StreamRefuse>()
            .map_err(|_| ClusterError::Away)?;
        return Err(ClusterError::Refused(refused.text));
    }
    let StreamAccept {} = frame.decode().map_err(|error| {
        debug!(%error, "an agent answered a stream with something else");
        ClusterError::Away
    })?;
    Ok((out, frames, permit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_that_does_not_know_the_stream_is_called_too_old() {
        // As an older agent words it: the variant is one it has never heard of.
        let unknown = longshore_common::wire::Frame {
            kind: StreamOpen::KIND,
            ver: StreamOpen::VER,
            body: vec![99],
        };
        let words = unknown.decode::<StreamOpen>().unwrap_err().to_string();
        let told = too_old(ClusterError::Refused(words));
        assert!(told.to_string().contains("too old"), "{told}");
        let other = ClusterError::Refused("its container does not run here".to_owned());
        assert_eq!(too_old(other.clone()), other);
    }
}
