//! The Longshore coordinator: one process that knows users, nodes and sessions, and
//! decides who runs where.
//!
//! `engine` owns the state and is the only one to change it; `store` keeps it; `cluster`
//! talks to agents; `api` to people. Everything that decides is in `longshore-core`.

pub mod api;
pub mod audit_head;
pub mod backups;
pub mod cluster;
pub mod config;
pub mod delivery;
pub mod disk;
pub mod engine;
pub mod hashing;
pub mod identity;
pub mod idle_watch;
pub mod live;
pub mod local;
pub mod mail;
pub mod metrics;
pub mod outbound;
pub mod pki;
pub mod rates;
pub mod secrets;
pub mod settings;
pub mod sockets;
pub mod store;
pub mod systemd;
pub mod tls;
pub mod uses;
pub mod vaults;
pub mod watchdog;
