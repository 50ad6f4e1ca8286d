//! The messages of protocol version 1.
//!
//! | stream | opened by | messages |
//! |---|---|---|
//! | the only one of protocol 0 | agent | HelloBare, Incompatible |
//! | control | agent, first | Hello, Welcome or Refused, Heartbeat, HeartbeatAck, Goodbye |
//! | state | agent, second | ActualSet, SignedSet, Outcome, OutcomeAck, Inventory, PullProgress, Notice, UseReport, Figures, CertRequest, CertIssued, MaterialRequest, Material, UnclaimedReport, Terms, NodeLayers |
//! | data | coordinator | StreamOpen, StreamAccept or StreamRefuse, Data, StreamEnd |
//! | interactive | coordinator | StreamOpen, StreamAccept or StreamRefuse, ToExec and FromExec or ToTunnel and FromTunnel |
//! | enrolment | agent | EnrolRequest or RenewRequest, EnrolAnswer or EnrolRefused |

use super::bare::Features;
use super::exec::ExecRequest;
use super::figures::{DeviceUse, Totals, check_devices};
use super::frame::SKIPPABLE;
use super::signed::SignedSet;
use super::tunnel::TunnelRequest;
use crate::agent::{Inventory, NodeLoad, RuntimeState};
use crate::ids::{
    AgentId, ClusterId, ContainerKey, CoordinatorGeneration, DeviceId, Fence, Generation,
    InstanceId,
};
use crate::limits::Deadline;
use crate::network::{MAX_RANGES, SessionNetwork};
use crate::session::{ContainerState, End, Entry, ExactImage};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Most entries a list of a peer may have.
pub const MAX_LIST: usize = 1024;
/// Longest text of a peer, in bytes.
pub const MAX_TEXT: usize = 4096;
/// Largest environment of one entry, in bytes.
pub const MAX_ENVIRONMENT: usize = 64 * 1024;
/// Most container reports in one heartbeat; with more the coordinator asks for all.
pub const MAX_REPORTS: usize = 32;
/// Most devices of a machine: each of 32 GPUs cut into seven instances, and some.
pub const MAX_DEVICES: usize = 256;
/// Most devices that one is joined to by fast links.
pub const MAX_LINKS: usize = 64;
/// Most devices whose figures one heartbeat carries.
pub const MAX_SAMPLES: usize = 64;
/// Bytes of the last output that travel with an outcome.
pub const MAX_TAIL: usize = 64 * 1024;

/// A type that travels in frames.
pub trait Message {
    /// Its number in the frame header.
    const KIND: u16;
    /// The form of it.
    const VER: u16 = 1;

    /// Lists and texts inside their bounds.
    ///
    /// # Errors
    /// The name of the part that is too long.
    fn check_bounds(&self) -> Result<(), &'static str> {
        Ok(())
    }
}

macro_rules! message {
    ($name:ident = $kind:expr) => {
        impl Message for $name {
            const KIND: u16 = $kind;
        }
    };
    ($name:ident = $kind:expr, $self:ident => $check:expr) => {
        impl Message for $name {
            const KIND: u16 = $kind;
            fn check_bounds(&$self) -> Result<(), &'static str> {
                $check
            }
        }
    };
}

fn text(value: &str, what: &'static str) -> Result<(), &'static str> {
    if value.len() <= MAX_TEXT {
        Ok(())
    } else {
        Err(what)
    }
}

fn list<T>(value: &[T], what: &'static str) -> Result<(), &'static str> {
    most(value.len(), what)
}

fn most(length: usize, what: &'static str) -> Result<(), &'static str> {
    if length <= MAX_LIST {
        Ok(())
    } else {
        Err(what)
    }
}

/// The end of the coordinator's audit log: agents keep it, so that somebody who cuts the log
/// off behind its back would have to visit every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AuditEnd {
    /// Number of the last record; 0 = none is known.
    pub seq: u64,
    /// Its digest.
    pub hash: [u8; 32],
}

// ---- control -------------------------------------------------------------

/// First frame of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Who it says it is; compared with its certificate.
    pub agent: AgentId,
    /// The cluster it joined.
    pub cluster: ClusterId,
    /// Drawn at this start of the agent.
    pub instance: InstanceId,
    /// Number of the agent's process start, never going back on one machine: of two
    /// processes with one fingerprint the higher one is the newer.
    pub started: Timestamp,
    /// The kernel's id of this boot.
    pub boot_id: String,
    /// Hash over machine id and container engine id.
    pub fingerprint: String,
    /// Hash over the machine id alone.
    pub machine: String,
    /// Version of the agent.
    pub version: String,
    /// Highest coordinator generation it has obeyed.
    pub coordinator_generation: CoordinatorGeneration,
    /// The coordinator instance of that generation.
    pub coordinator_instance: Option<InstanceId>,
    /// The fence it holds.
    pub fence: Fence,
    /// The set it has applied.
    pub applied: Generation,
    /// Whether the journal was lost and rebuilt from labels.
    pub journal_rebuilt: bool,
    /// The newest end of the audit log that it was told.
    pub audit: AuditEnd,
    /// What it can do beyond the first form of each message.
    pub features: Features,
}
message!(Hello = 1, self => {
    text(&self.boot_id, "boot id")?;
    text(&self.fingerprint, "fingerprint")?;
    text(&self.machine, "machine")?;
    text(&self.version, "version")
});

/// The coordinator takes the agent in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Compared with what the agent joined.
    pub cluster: ClusterId,
    /// See [`CoordinatorGeneration`].
    pub coordinator_generation: CoordinatorGeneration,
    /// Drawn at this start of the coordinator.
    pub coordinator_instance: InstanceId,
    /// The fence the coordinator holds for this agent.
    pub fence: Fence,
    /// Time between heartbeats in milliseconds.
    pub heartbeat_ms: u32,
    /// After so long without one the agent counts as LOST, in milliseconds.
    pub lost_after_ms: u32,
    /// How long restartable work may go on unacknowledged, in milliseconds; 0 = for ever. Of an
    /// agent that has no set yet: each set says it anew.
    pub lease_ms: u64,
    /// The agent's name, as the coordinator has it.
    pub name: String,
    /// Its resource group.
    pub group: String,
    /// The coordinator's clock.
    pub now: Timestamp,
    /// Where else the coordinator can be reached, at most 8.
    pub addresses: Vec<String>,
    /// What both can do beyond the first form of each message: it is in force on this link.
    pub features: Features,
}
message!(Welcome = 2, self => {
    text(&self.name, "name")?;
    text(&self.group, "group")?;
    if self.addresses.len() > 8 { return Err("addresses"); }
    self.addresses.iter().try_for_each(|a| text(a, "address"))
});

/// The coordinator does not take the agent in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which refusal.
    pub code: RefusedCode,
    /// For people, with the next command.
    pub text: String,
    /// When to ask again, in milliseconds.
    pub retry_after_ms: u32,
}
message!(Refused = 3, self => text(&self.text, "text"));

/// Why an agent is not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusedCode {
    /// The id is not known, or was removed.
    Unknown,
    /// Its certificate was revoked.
    Revoked,
    /// Another cluster.
    WrongCluster,
    /// Too many at once.
    Busy,
    /// The same identity on another machine or engine.
    Identity,
    /// The agent has obeyed a newer coordinator.
    StaleCoordinator,
}

/// What an agent says at each beat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// From 1 in each connection.
    pub seq: u64,
    /// The set it has applied.
    pub applied: Generation,
    /// Over all keys and states it knows, see [`actual_hash`].
    pub actual_hash: u64,
    /// Keys whose report changed since the last acknowledged beat.
    pub changed: Vec<ContainerReport>,
    /// More changed than fit; the coordinator asks for all.
    pub more: bool,
    /// Whether the container engine answers.
    pub runtime: RuntimeState,
    /// Figures; only every few beats.
    pub load: Option<NodeLoad>,
    /// The agent's wall clock, for showing a difference.
    pub now: Timestamp,
}
message!(Heartbeat = 4, self => {
    if self.changed.len() > MAX_REPORTS { return Err("reports"); }
    if self.load.as_ref().is_some_and(|l| l.devices.len() > MAX_SAMPLES) { return Err("devices"); }
    self.changed.iter().try_for_each(ContainerReport::check)
});

/// What an agent knows of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerReport {
    /// Which.
    pub key: ContainerKey,
    /// Where it stands.
    pub state: ContainerState,
    /// First 12 characters of Docker's id, empty before there is one.
    pub docker_id: String,
    /// When its process started, by Docker's record.
    pub started_at: Option<Timestamp>,
    /// The fence under which it was made.
    pub fence: Fence,
    /// When it will be stopped for being idle, in the coordinator's time, if that is known.
    pub idle_deadline: Option<Timestamp>,
    /// Frozen because the lease ran out.
    pub frozen: bool,
    /// Warned of a stop for being idle, and not used since.
    pub idle: bool,
    /// When use was last measured, by people or by its figures, in the coordinator's time.
    pub used_at: Option<Timestamp>,
    /// Its image, whatever its tag is moved to, if that is known.
    pub image: Option<ExactImage>,
}

impl ContainerReport {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.docker_id.len() <= 64 {
            Ok(())
        } else {
            Err("docker id")
        }
    }
}

/// A number over keys and states, the same on both sides when both know the same
/// (FNV-1a, 64 bits; it guards against loss, not against malice).
#[must_use]
pub fn actual_hash<'a>(items: impl IntoIterator<Item = (&'a ContainerKey, ContainerState)>) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut take = |value: u64| {
        for byte in value.to_le_bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for (key, state) in items {
        take(key.session.0);
        take(u64::from(key.rank.0) << 32 | u64::from(key.attempt.0));
        take(state as u64);
    }
    hash
}

/// The coordinator has taken a heartbeat in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatAck {
    /// The beat.
    pub seq: u64,
    /// The newest set of this agent.
    pub generation: Generation,
    /// Send the whole actual set.
    pub want_actual: bool,
    /// The coordinator's clock.
    pub now: Timestamp,
    /// The end of its audit log.
    pub audit: AuditEnd,
}
message!(HeartbeatAck = 5);

/// The daemon stops; containers run on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// Whether it leaves the cluster for good.
    pub leaving: bool,
}
message!(Goodbye = 6);

// ---- state ---------------------------------------------------------------

/// Everything of ours on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActualSet {
    /// One report per key.
    pub items: Vec<ContainerReport>,
    /// The set the agent has applied.
    pub applied: Generation,
    /// The kernel's id of this boot.
    pub boot_id: String,
}
message!(ActualSet = 10, self => {
    list(&self.items, "items")?;
    text(&self.boot_id, "boot id")?;
    self.items.iter().try_for_each(ContainerReport::check)
});

/// All orders for one agent. Travels as [`SignedSet`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredSet {
    /// Which cluster.
    pub cluster: ClusterId,
    /// For whom.
    pub agent: AgentId,
    /// From which coordinator.
    pub coordinator_generation: CoordinatorGeneration,
    /// Which of its lives.
    pub coordinator_instance: InstanceId,
    /// The fence the agent holds from now on.
    pub fence: Fence,
    /// Its number.
    pub generation: Generation,
    /// Whether the agent takes new keys.
    pub schedulable: bool,
    /// The coordinator's clock when it was made.
    pub now: Timestamp,
    /// The orders.
    pub entries: Vec<Entry>,
    /// The node is to be empty at an instant: what runs is warned as before the end of a
    /// lifetime. It is the coordinator that stops it.
    pub drain: Option<DrainNotice>,
    /// Signals that programs want before they are stopped by their lifetime or a drain.
    pub signals: Vec<SignalBefore>,
    /// How long restartable work may go on unacknowledged, in milliseconds; 0 = for ever. It
    /// holds from when this set is applied on, and stands in for that of [`Welcome`].
    pub lease_ms: u64,
    /// How containers reach each other whose session has several.
    pub networks: Vec<SessionNetwork>,
}

/// When a node is to be empty, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainNotice {
    /// When.
    pub deadline: Deadline,
    /// For the people who are told; may be empty.
    pub message: String,
}

/// A signal that the main process of a container wants some time before it is stopped by its
/// lifetime or a drain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalBefore {
    /// Which container.
    pub key: ContainerKey,
    /// Name without `SIG`, one of [`SIGNALS`].
    pub signal: String,
    /// How many seconds before.
    pub lead_s: u32,
}

impl DesiredSet {
    /// Lists and texts inside their bounds.
    ///
    /// # Errors
    /// The name of the part that is too long.
    pub fn check_bounds(&self) -> Result<(), &'static str> {
        list(&self.entries, "entries")?;
        for entry in &self.entries {
            let spec = &entry.spec;
            text(&spec.image, "image")?;
            list(&spec.command, "command")?;
            list(&spec.devices, "devices")?;
            let bytes: usize = spec
                .environment
                .iter()
                .map(|(k, v)| k.len() + v.len())
                .sum();
            if bytes > MAX_ENVIRONMENT {
                return Err("environment");
            }
        }
        if let Some(drain) = &self.drain {
            text(&drain.message, "message of the drain")?;
        }
        list(&self.signals, "signals")?;
        let mut signals = self.signals.iter();
        signals.try_for_each(|wish| text(&wish.signal, "signal"))?;
        list(&self.networks, "networks")?;
        self.networks.iter().try_for_each(|network| {
            list(&network.hosts, "hosts")?;
            let mut peers = network.own.iter().flat_map(|own| &own.peers);
            list(
                network.own.as_ref().map_or(&[], |own| &own.peers[..]),
                "peers",
            )?;
            peers.try_for_each(|peer| text(&peer.name, "name of a peer"))
        })
    }
}
message!(SignedSet = 11, self => {
    if self.signature.len() == 64 { Ok(()) } else { Err("signature") }
});

/// The end of a key, sent until acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Which key.
    pub key: ContainerKey,
    /// 1 = how it ended, 2 = nothing of it is left.
    pub number: OutcomeNumber,
    /// How it ended; always set for `Ended`.
    pub end: Option<End>,
    /// When its process started.
    pub started_at: Option<Timestamp>,
    /// When this became so, by the node's clock.
    pub at: Timestamp,
    /// Last output, at most [`MAX_TAIL`] bytes.
    pub tail: Vec<u8>,
    /// Figures of its life.
    pub totals: Totals,
    /// Those of its devices.
    pub devices: Vec<DeviceUse>,
}
message!(Outcome = 12, self => {
    if self.tail.len() > MAX_TAIL { return Err("tail"); }
    check_devices(&self.devices)?;
    match &self.end {
        Some(End::StartFailed { detail, .. }) => text(detail, "detail"),
        _ => Ok(()),
    }
});

/// Which of a key's two outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OutcomeNumber {
    /// The process ended, or was never started.
    Ended,
    /// Container, network and files are gone.
    Closed,
}

/// The coordinator has stored an outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeAck {
    /// Which key.
    pub key: ContainerKey,
    /// Which of its two.
    pub number: OutcomeNumber,
}
message!(OutcomeAck = 13);

/// What the machine is. Sent after Welcome and when it changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryReport {
    /// The inventory.
    pub inventory: Inventory,
}
message!(InventoryReport = 14, self => {
    let inventory = &self.inventory;
    if inventory.devices.len() > MAX_DEVICES { return Err("devices"); }
    if inventory.networks.ranges.len() > MAX_RANGES { return Err("ranges"); }
    inventory.networks.underlay.iter().try_for_each(|at| text(&at.link, "link"))?;
    inventory.devices.iter().try_for_each(|d| {
        text(&d.model, "model")?;
        text(&d.pci, "pci")?;
        text(&d.health_detail, "health detail")?;
        if d.links.len() > MAX_LINKS { Err("links") } else { Ok(()) }
    })?;
    for (value, what) in [
        (&inventory.hostname, "host name"),
        (&inventory.arch, "arch"),
        (&inventory.os, "os"),
        (&inventory.kernel, "kernel"),
        (&inventory.agent_version, "agent version"),
        (&inventory.engine_version, "engine version"),
        (&inventory.engine_storage, "engine storage"),
        (&inventory.driver_version, "driver version"),
        (&inventory.gpu_way_detail, "gpu way detail"),
    ] {
        text(value, what)?;
    }
    Ok(())
});

/// How far a pull is. Telemetry: lost without harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullProgress {
    /// For which key.
    pub key: ContainerKey,
    /// Bytes there.
    pub bytes_done: u64,
    /// Bytes in all; 0 = not known.
    pub bytes_total: u64,
    /// Layers there.
    pub layers_done: u32,
    /// Layers in all; 0 = not known.
    pub layers_total: u32,
}
message!(PullProgress = SKIPPABLE | 15);

/// Something a person should hear about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// From 1 in each life of the agent.
    pub number: u64,
    /// What it is about.
    pub kind: NoticeKind,
    /// In words.
    pub text: String,
    /// Which session, if it is about one.
    pub key: Option<ContainerKey>,
    /// Which device, if it is about one.
    pub device: Option<DeviceId>,
    /// When.
    pub at: Timestamp,
}
message!(Notice = SKIPPABLE | 16, self => text(&self.text, "text"));

/// What a notice is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoticeKind {
    /// A session will be stopped soon.
    Warning,
    /// A device changed.
    Device,
    /// The container engine changed.
    Runtime,
    /// A container got more than it was granted, or does not end though it was killed.
    Breach,
    /// A file of the image stayed where one was to be delivered.
    FileKept,
    /// A file could not be delivered.
    FileSkipped,
}

/// Asks for a new certificate over the open link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertRequest {
    /// PKCS#10 in DER; only its public key is used.
    pub csr: Vec<u8>,
}
message!(CertRequest = 17, self => {
    if self.csr.len() <= 4096 { Ok(()) } else { Err("request") }
});

/// The new certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertIssued {
    /// PEM.
    pub certificate: String,
}
message!(CertIssued = 18, self => {
    if self.certificate.len() <= 16 * 1024 { Ok(()) } else { Err("certificate") }
});

// ---- data streams ----------------------------------------------------------

/// First frame of a stream the coordinator opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamOpen {
    /// The output of a container.
    Logs(LogsRequest),
    /// A signal for the main process of a container.
    Signal(SignalRequest),
    /// A command beside the main process. An agent that does not know it refuses the stream.
    Exec(ExecRequest),
    /// A connection to a port inside the container. Refused like it.
    Tunnel(TunnelRequest),
    /// A person vouches for a device that the agent keeps back. Refused like it.
    Release(DeviceId),
}
message!(StreamOpen = 30, self => match self {
    Self::Logs(_) | Self::Tunnel(_) | Self::Release(_) => Ok(()),
    Self::Exec(request) => request.check(),
    Self::Signal(request) => text(&request.signal, "signal"),
});

/// Which signal for which container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalRequest {
    /// Which container.
    pub key: ContainerKey,
    /// Name without `SIG`, one of [`SIGNALS`].
    pub signal: String,
}

/// Signals a person may send to a session's main process.
pub const SIGNALS: [&str; 6] = ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2"];

/// Which output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsRequest {
    /// Of which container.
    pub key: ContainerKey,
    /// From which byte of its output.
    pub position: u64,
    /// Or only so many of the last lines.
    pub tail_lines: Option<u32>,
    /// Go on until the container has ended.
    pub follow: bool,
    /// The time of each piece is not wanted: what one stream wrote in many may come in one.
    pub joined: bool,
}

/// The agent serves the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamAccept {}
message!(StreamAccept = 31);

/// The agent does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamRefuse {
    /// For people.
    pub text: String,
}
message!(StreamRefuse = 32, self => text(&self.text, "text"));

/// Where bytes of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputKind {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Nothing is left of this stretch; `position` says where it goes on.
    Gap,
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// Bytes of output before this piece, over both streams.
    pub position: u64,
    /// Where it came from.
    pub kind: OutputKind,
    /// When it was written.
    pub at: Timestamp,
    /// The bytes.
    pub bytes: Vec<u8>,
}
message!(Data = 33);

/// Nothing more comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEnd {
    /// Why, if it is not the natural end.
    pub error: Option<String>,
}
message!(StreamEnd = 34);

// ---- enrolment -------------------------------------------------------------

/// Asks to be taken into the cluster.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRequest {
    /// Public part of the join token.
    pub token_id: String,
    /// Secret part of the join token.
    pub secret: Vec<u8>,
    /// PKCS#10 in DER; only its public key is used.
    pub csr: Vec<u8>,
    /// The name the node would like.
    pub name: String,
    /// See [`Hello::fingerprint`].
    pub fingerprint: String,
    /// See [`Hello::machine`].
    pub machine: String,
    /// Version of the agent.
    pub version: String,
}
message!(EnrolRequest = 40, self => {
    if self.csr.len() > 4096 { return Err("request"); }
    if self.secret.len() > 64 { return Err("secret"); }
    text(&self.token_id, "token")?;
    text(&self.name, "name")?;
    text(&self.fingerprint, "fingerprint")?;
    text(&self.machine, "machine")?;
    text(&self.version, "version")
});

// The secret must not reach a log by way of `{:?}`.
impl std::fmt::Debug for EnrolRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrolRequest")
            .field("token_id", &self.token_id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The node belongs to the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolAnswer {
    /// Its id from now on.
    pub agent: AgentId,
    /// The cluster.
    pub cluster: ClusterId,
    /// Its name as stored.
    pub name: String,
    /// Its resource group.
    pub group: String,
    /// Its certificate, PEM.
    pub certificate: String,
    /// The authorities to trust, PEM.
    pub ca_bundle: String,
    /// Public key of the signatures on desired sets (Ed25519, 32 bytes).
    pub work_key: Vec<u8>,
}
message!(EnrolAnswer = 41);

/// The node is not taken in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrolRefused {
    /// Which refusal.
    pub code: EnrolRefusal,
    /// For people, with the next command.
    pub text: String,
}
message!(EnrolRefused = 42, self => text(&self.text, "text"));

/// Why a node is not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnrolRefusal {
    /// There is no such token, or its secret is another.
    TokenUnknown,
    /// Its time is over.
    TokenExpired,
    /// It was used as often as it may be.
    TokenUsedUp,
    /// The name belongs to another node.
    NameTaken,
    /// Too many failures from this address.
    Throttled,
    /// The request itself is no good.
    Malformed,
}

/// Asks for a new certificate with an expired one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewRequest {
    /// The expired certificate, DER.
    pub certificate: Vec<u8>,
    /// PKCS#10 in DER for the new key.
    pub csr: Vec<u8>,
    /// Signature of the old key over `csr` (ECDSA P-256 SHA-256, ASN.1).
    pub proof: Vec<u8>,
}
message!(RenewRequest = 43, self => {
    if self.certificate.len() > 8192 { return Err("certificate"); }
    if self.csr.len() > 4096 { return Err("request"); }
    if self.proof.len() > 256 { return Err("proof"); }
    Ok(())
});

/// Close codes of the QUIC connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum CloseCode {
    /// Done.
    Normal = 0,
    /// The coordinator is being restarted.
    Restarting = 1,
    /// A newer connection of the same agent took over.
    Replaced = 2,
    /// The certificate was revoked or the agent removed.
    Revoked = 3,
    /// The same identity elsewhere.
    Identity = 4,
    /// The peer broke the protocol.
    Protocol = 5,
    /// The peer passed a limit.
    Limit = 6,
    /// The agent has obeyed a newer coordinator.
    StaleCoordinator = 7,
    /// Too much to do.
    Overload = 8,
}

impl CloseCode {
    /// The code a QUIC close frame carried, if it is one of ours.
    #[must_use]
    pub const fn from_u64(code: u64) -> Option<Self> {
        Some(match code {
            0 => Self::Normal,
            1 => Self::Restarting,
            2 => Self::Replaced,
            3 => Self::Revoked,
            4 => Self::Identity,
            5 => Self::Protocol,
            6 => Self::Limit,
            7 => Self::StaleCoordinator,
            8 => Self::Overload,
            _ => return None,
        })
    }
}
