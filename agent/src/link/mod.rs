//! The agent's side of the link: dials, says hello, beats, reports; hands what the
//! coordinator says to the supervisor.
//!
//! Everything that is sent comes out of the [`Outbox`], a copy the supervisor keeps
//! ready; no call of Docker, NVML or the disk stands in a heartbeat's way.

mod bare;
mod join;
mod material;
mod outbox;
mod session;
mod state;
mod streams;

use join::renew_expired;
pub use join::{JoinError, JoinOrder, join};
pub use material::Desk;
pub use outbox::{Outbox, Shared};

use crate::hidden::Hidden;
use crate::host::wall_clock;
use crate::identity::{Files, Identity};
use crate::logs::LogStore;
use crate::standing::Standing;
use crate::supervisor::{ClientEnds, TunnelEnds};
use longshore_common::ids::{DeviceId, InstanceId};
use longshore_common::time::Timestamp;
use longshore_common::wire::{
    ALPN_AGENT, CloseCode, ExecRequest, OutcomeAck, SignalRequest, SignedSet, TunnelRequest,
    Welcome,
};
use longshore_link::{Side, transport};
use quinn::crypto::rustls::QuicClientConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, info, warn};

/// A connection stands within this time or is given up.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);
/// A link that stood so long starts over with short pauses.
const STEADY: Duration = Duration::from_secs(30);
/// Asked again at such long intervals by an agent that is not wanted.
const UNWANTED: Duration = Duration::from_secs(300);

/// An agent that is to be updated asks again when it is told to, but no sooner...
const UPDATED: Duration = Duration::from_secs(60);
/// ...and no later: somebody waits for it.
const UPDATED_MOST: Duration = Duration::from_secs(1800);

/// What the link hears.
#[derive(Debug)]
pub enum Heard {
    /// The coordinator has taken us in; and when the hello it answers was sent, on the boot clock.
    Up(Box<Welcome>, i64),
    /// The link is gone.
    Down,
    /// Orders.
    Set(SignedSet),
    /// An outcome is stored.
    Acked(OutcomeAck),
    /// A person sends a signal; the answer is why not, if it was not sent.
    Signal(SignalRequest, oneshot::Sender<Result<(), String>>),
    /// A person vouches for a device; the answer says whether there is something to release.
    Release(DeviceId, oneshot::Sender<Result<(), String>>),
    /// Somebody opens a command or a terminal; the answer is the way to it, or why there is
    /// none.
    Exec(
        Box<ExecRequest>,
        oneshot::Sender<Result<ClientEnds, String>>,
    ),
    /// Somebody connects to a port inside a container.
    Tunnel(TunnelRequest, oneshot::Sender<Result<TunnelEnds, String>>),
}

/// What does not change while the agent runs.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// Who we are.
    pub identity: Identity,
    /// Our certificate.
    pub files: Files,
    /// This process.
    pub instance: InstanceId,
    /// When this process started.
    pub started: Timestamp,
    /// The kernel's id of this boot.
    pub boot_id: String,
    /// Hash over machine id and engine id.
    pub fingerprint: String,
    /// Hash over the machine id.
    pub machine: String,
    /// Whether the journal was rebuilt.
    pub journal_rebuilt: bool,
    /// Segmentation offload.
    pub gso: bool,
    /// What the log hides.
    pub hidden: Hidden,
}

/// Pauses before dialling again: doubling from half a second to fifteen seconds, each
/// drawn from the whole range below it ("full jitter"), so that a thousand agents do
/// not come back at once.
#[derive(Debug, Clone)]
pub struct BackOff {
    step: u32,
}

impl BackOff {
    /// From the start.
    #[must_use]
    pub const fn new() -> Self {
        Self { step: 0 }
    }

    /// The next pause; `random` is drawn by the caller.
    pub fn next(&mut self, random: u64) -> Duration {
        let most = 500_u64.saturating_mul(1 << self.step.min(5)).min(15_000);
        self.step = self.step.saturating_add(1);
        Duration::from_millis(random % (most + 1))
    }
}

impl Default for BackOff {
    fn default() -> Self {
        Self::new()
    }
}

/// Keeps the link up until the supervisor is gone.
pub async fn run(
    config: LinkConfig,
    shared: Arc<Shared>,
    logs: Arc<LogStore>,
    heard: mpsc::Sender<Heard>,
) {
    let mut back_off = BackOff::new();
    let mut turn = 0;
    while !heard.is_closed() {
        let began = tokio::time::Instant::now();
        let addresses = shared.addresses(&config.identity.coordinator);
        if let Err(pause) = renew_if_expired(&config, &addresses, &mut back_off).await {
            tokio::select! {
                () = tokio::time::sleep(pause) => continue,
                () = heard.closed() => return,
                () = shared.stopped() => return,
            }
        }
        let address = addresses[turn % addresses.len().max(1)].clone();
        turn += 1;
        let ended = session::run(&config, &address, &shared, &logs, &heard).await;
        shared.stands(Standing::Away {
            address: address.clone(),
            why: ended.to_string(),
        });
        if began.elapsed() > STEADY {
            back_off = BackOff::new();
        }
        let pause = match ended {
            session::Ended::Stopped => return,
            session::Ended::Refused { text, retry_ms } => {
                warn!(%address, %text, "the coordinator refuses this agent");
                Duration::from_millis(u64::from(retry_ms.max(500)))
            }
            session::Ended::Incompatible { text, retry_ms } => {
                error!(%address, "{text}; until then containers run on, but this node counts as lost, and its sessions once declare_lost_s of its group is over");
                Duration::from_millis(u64::from(retry_ms)).clamp(UPDATED, UPDATED_MOST)
            }
            session::Ended::Closed(CloseCode::Replaced) => {
                warn!("a newer process of this agent took over; this one dials no more");
                shared.replace();
                return shared.stopped().await;
            }
            session::Ended::Closed(
                code @ (CloseCode::Revoked | CloseCode::Identity | CloseCode::StaleCoordinator),
            ) => {
                warn!(%address, ?code, "the coordinator closed the link");
                UNWANTED
            }
            session::Ended::Closed(code) => {
                info!(%address, ?code, "the link was closed");
                back_off.next(random_u64())
            }
            session::Ended::Failed(error) => {
                let pause = back_off.next(random_u64());
                info!(%address, %error, pause_ms = pause.as_millis(), "no link");
                pause
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => (),
            () = heard.closed() => return,
            () = shared.stopped() => return,
        }
    }
}

/// A certificate that has expired, while the machine was off or the coordinator was, is renewed
/// with its own key: no link can be had with it. The error is how long to wait.
async fn renew_if_expired(
    config: &LinkConfig,
    addresses: &[String],
    back_off: &mut BackOff,
) -> Result<(), Duration> {
    let expired = config.files.has_expired(wall_clock());
    // One that cannot be read is said where it is used.
    if !expired.unwrap_or(false) {
        return Ok(());
    }
    let pause = match renew_expired(config.identity.cluster, addresses, &config.files).await {
        Ok(()) => {
            info!("the expired certificate was renewed");
            return Ok(());
        }
        Err(error) => {
            error!(%error, "the certificate has expired and cannot be renewed now");
            match error {
                JoinError::Refused(_) => UNWANTED,
                _ => back_off.next(random_u64()),
            }
        }
    };
    Err(pause)
}

pub(crate) fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    // Only spreads pauses: a system without randomness gets none.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes);
    u64::from_le_bytes(bytes)
}

/// An endpoint that can reach `address`.
pub(crate) fn endpoint(address: SocketAddr) -> std::io::Result<quinn::Endpoint> {
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    quinn::Endpoint::client(local)
}

pub(crate) fn client_config(
    mut tls: rustls::ClientConfig,
    alpn: &[&[u8]],
    gso: bool,
) -> Result<quinn::ClientConfig, String> {
    tls.alpn_protocols = alpn.iter().map(|one| one.to_vec()).collect();
    tls.enable_early_data = false;
    let crypto = QuicClientConfig::try_from(tls).map_err(|e| e.to_string())?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport(Side::Agent, gso));
    Ok(config)
}

/// Most addresses of one name that are tried: each gets its part of [`CONNECT`], and with less
/// than a second a far coordinator could not answer.
const ADDRESSES: usize = 5;

/// Resolves `host:port` anew: at least one address, at most [`ADDRESSES`].
pub(crate) async fn resolve(address: &str) -> Result<Vec<SocketAddr>, String> {
    let found = tokio::net::lookup_host(address)
        .await
        .map_err(|e| format!("{address}: {e}"))?;
    let found: Vec<SocketAddr> = found.take(ADDRESSES).collect();
    match found.is_empty() {
        true => Err(format!("{address} has no address")),
        false => Ok(found),
    }
}

/// Tries one address after the other, all of them together within [`CONNECT`]: the first of a
/// name may be of a kind that does not get through from here.
pub(crate) async fn first_of<T, F: Future<Output = Result<T, String>>>(
    addresses: &[SocketAddr],
    attempt: impl Fn(SocketAddr) -> F,
) -> Result<T, String> {
    let part = part_of_connect(addresses.len());
    let mut why = Vec::new();
    for address in addresses {
        match tokio::time::timeout(part, attempt(*address)).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => why.push(format!("{address}: {error}")),
            Err(_) => why.push(format!("{address} did not answer")),
        }
    }
    Err(why.join("; "))
}

/// How long one of so many addresses is tried.
pub(crate) fn part_of_connect(addresses: usize) -> Duration {
    CONNECT / u32::try_from(addresses.max(1)).unwrap_or(u32::MAX)
}

pub(crate) const LINK_ALPN: &[u8] = ALPN_AGENT;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use longshore_common::ids::{AgentId, ClusterId};
    use std::path::Path;

    pub(super) const CLUSTER: ClusterId = ClusterId::new(1);

    /// Of an agent without a name, with its files in a folder.
    pub(super) fn config(dir: &Path, coordinator: Vec<String>) -> LinkConfig {
        LinkConfig {
            identity: Identity {
                agent: AgentId::new(2),
                cluster: CLUSTER,
                name: String::new(),
                coordinator,
                work_key: String::new(),
            },
            files: Files::new(dir),
            instance: InstanceId::new(3),
            started: Timestamp(0),
            boot_id: String::new(),
            fingerprint: String::new(),
            machine: String::new(),
            journal_rebuilt: false,
            gso: false,
            hidden: Hidden::default(),
        }
    }

    /// The first address swallows everything, the second refuses, the third is there.
    #[tokio::test(start_paused = true)]
    async fn every_address_of_a_name_is_tried() {
        let all: Vec<SocketAddr> = [1, 2, 3].map(|n| ([127, 0, 0, n], 7).into()).to_vec();
        let attempt = |to: SocketAddr| async move {
            match to.ip().to_string().as_str() {
                "127.0.0.1" => std::future::pending().await,
                "127.0.0.2" => Err("no".to_owned()),
                _ => Ok(to),
            }
        };
        let began = tokio::time::Instant::now();
        assert_eq!(first_of(&all, attempt).await, Ok(all[2]));
        assert!(began.elapsed() < CONNECT);
        let why = first_of(&all[..2], attempt).await.unwrap_err();
        assert_eq!(why, "127.0.0.1:7 did not answer; 127.0.0.2:7: no");
    }

    #[tokio::test(start_paused = true)]
    async fn a_link_that_cannot_be_made_ends_when_the_agent_stops() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), vec!["127.0.0.1:9".to_owned()]);
        let logs = LogStore::open(&dir.path().join("logs"), Default::default()).unwrap();
        let shared = Arc::new(Shared::new());
        let (heard, _inbox) = mpsc::channel(1);
        let link = tokio::spawn(run(config, Arc::clone(&shared), Arc::new(logs), heard));
        shared.stop();
        let ended = tokio::time::timeout(Duration::from_secs(60), link).await;
        ended.expect("it dials on").unwrap();
    }

    #[test]
    fn pauses_double_stay_below_fifteen_seconds_and_cover_the_range() {
        let mut back_off = BackOff::new();
        let most: Vec<u128> = (0..8)
            .map(|_| {
                let mut probe = back_off.clone();
                let high = (0..20_000)
                    .map(|r| probe.clone().next(r).as_millis())
                    .max()
                    .unwrap();
                assert_eq!(probe.next(0).as_millis(), 0);
                back_off.next(0);
                high
            })
            .collect();
        assert_eq!(most, [500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
    }
}
