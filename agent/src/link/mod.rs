//! The agent's side of the link: dials, says hello, beats, reports; hands what the
//! coordinator says to the supervisor.
//!
//! Everything that is sent comes out of the [`Outbox`], a copy the supervisor keeps
//! ready; no call of Docker, NVML or the disk stands in a heartbeat's way.

mod join;
mod outbox;
mod session;

pub use join::{JoinError, JoinOrder, join, renew_expired};
pub use outbox::{Outbox, Shared};

use crate::identity::{Files, Identity};
use crate::logs::LogStore;
use crate::supervisor::ClientEnds;
use longshore_common::ids::InstanceId;
use longshore_common::time::Timestamp;
use longshore_common::wire::{
    ALPN_AGENT, CloseCode, ExecRequest, OutcomeAck, SignalRequest, SignedSet, Welcome,
};
use longshore_link::{Side, transport};
use quinn::crypto::rustls::QuicClientConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

/// A connection stands within this time or is given up.
pub(crate) const CONNECT: Duration = Duration::from_secs(5);
/// A link that stood so long starts over with short pauses.
const STEADY: Duration = Duration::from_secs(30);
/// Asked again at such long intervals by an agent that is not wanted.
const UNWANTED: Duration = Duration::from_secs(300);

/// What the link hears.
#[derive(Debug)]
pub enum Heard {
    /// The coordinator has taken us in.
    Up(Box<Welcome>),
    /// The link is gone.
    Down,
    /// Orders.
    Set(SignedSet),
    /// An outcome is stored.
    Acked(OutcomeAck),
    /// A person sends a signal; the answer is why not, if it was not sent.
    Signal(SignalRequest, oneshot::Sender<Result<(), String>>),
    /// Somebody opens a command or a terminal; the answer is the way to it, or why there is
    /// none.
    Exec(
        Box<ExecRequest>,
        oneshot::Sender<Result<ClientEnds, String>>,
    ),
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
        let address = addresses[turn % addresses.len().max(1)].clone();
        turn += 1;
        let ended = session::run(&config, &address, &shared, &logs, &heard).await;
        if began.elapsed() > STEADY {
            back_off = BackOff::new();
        }
        let pause = match ended {
            session::Ended::Stopped => return,
            session::Ended::Refused { text, retry_ms } => {
                warn!(%address, %text, "the coordinator refuses this agent");
                Duration::from_millis(u64::from(retry_ms.max(500)))
            }
            session::Ended::Closed(CloseCode::Replaced) => {
                warn!("a newer process of this agent took over; this one dials no more");
                std::future::pending::<()>().await;
                return;
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
        }
    }
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
    alpn: &[u8],
    gso: bool,
) -> Result<quinn::ClientConfig, String> {
    tls.alpn_protocols = vec![alpn.to_vec()];
    tls.enable_early_data = false;
    let crypto = QuicClientConfig::try_from(tls).map_err(|e| e.to_string())?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport(Side::Agent, gso));
    Ok(config)
}

/// Resolves `host:port` anew.
pub(crate) async fn resolve(address: &str) -> Result<SocketAddr, String> {
    let mut found = tokio::net::lookup_host(address)
        .await
        .map_err(|e| format!("{address}: {e}"))?;
    found
        .next()
        .ok_or_else(|| format!("{address} has no address"))
}

pub(crate) const LINK_ALPN: &[u8] = ALPN_AGENT;

#[cfg(test)]
mod tests {
    use super::*;

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
