//! What agents and the coordinator say to each other: frames, messages, versions.
//!
//! Pure: bytes in, messages out. postcard has no schema evolution, so from the first release
//! on all forms are frozen; `bare` has the rules, and what raises the number of the protocol.
//! `golden/` keeps the bytes of every release.

mod bare;
mod delivery;
mod exec;
mod figures;
mod frame;
mod keeping;
mod kinds;
mod message;
mod signed;
mod terms;
mod tunnel;

pub use bare::{Features, HelloBare, Incompatible, MAX_PROTOCOLS, PROTOCOLS, Speaks, incompatible};
pub use delivery::{
    DeliveredFile, Delivery, Given, MAX_DELIVERED_CONFIG, MAX_DELIVERED_FILE, MAX_DELIVERED_FILES,
    MAX_DELIVERED_REGISTRIES, MAX_RECORD, Material, MaterialRequest, Owner, RegistryLogin,
};
pub use exec::{
    ExecKind, ExecRequest, FromExec, MAX_COMMAND, MAX_EXEC_ENVIRONMENT, MAX_PIECE, NO_SUCH_COMMAND,
    TerminalSize, ToExec,
};
pub use figures::{
    CheckReport, DeviceUse, Figures, IdleCheckName, MetricFigures, Totals, UseReport,
};
pub use frame::{Cap, Frame, FrameDecoder, FrameError, encode};
pub use keeping::{Claim, MAX_RECORDS, UnclaimedItem, UnclaimedReport};
pub use kinds::KINDS;
pub use message::*;
pub use signed::{SignedRecord, SignedSet, SigningInput};
pub use terms::{MAX_NODE_LAYERS, NodeLayers, Terms};
pub use tunnel::{FromTunnel, ToTunnel, TunnelRequest};

/// ALPN of the ordinary link, protocol version 1.
pub const ALPN_AGENT: &[u8] = b"longshore-agent/1";
/// ALPN that every release understands for ever: it only says who is too old.
pub const ALPN_AGENT_BARE: &[u8] = b"longshore-agent/0";
/// ALPN for joining and for renewing an expired certificate.
pub const ALPN_ENROL: &[u8] = b"longshore-enrol/1";
/// The port of coordinator and agents, UDP and TCP alike.
pub const DEFAULT_PORT: u16 = 7420;

/// The name every coordinator of a cluster proves, whatever its address is.
#[must_use]
pub fn server_name(cluster: crate::ids::ClusterId) -> String {
    let id = cluster.to_string();
    let bare = id.trim_start_matches(crate::ids::ClusterId::PREFIX);
    format!("coordinator.{bare}.longshore")
}
