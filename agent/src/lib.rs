//! The Longshore agent: the daemon on a GPU node.
//!
//! `supervisor` owns what this machine knows and does; `reconcile` decides and
//! is pure; `runtime`, `devices`, `delivery`, `host`, `journal`, `logs` and `link` touch the world.

pub mod config;
pub mod daemon;
pub mod delivery;
pub mod devices;
pub mod hidden;
pub mod host;
pub mod identity;
pub mod journal;
pub mod lease;
pub mod link;
pub mod logs;
pub mod metrics;
pub mod network;
pub mod policy;
pub mod reconcile;
pub mod reload;
pub mod runtime;
pub mod standing;
pub mod supervisor;
pub mod systemd;
