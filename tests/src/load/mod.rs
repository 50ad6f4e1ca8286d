//! Load and measure: simulated agents by the thousand, a light HTTPS client, the real
//! daemons as processes, and the coordinator's parts inside one process.
//!
//! Used by `longshore-load`, `longshore-bench` and the tests named `link_*`.

pub mod daemons;
pub mod fleet;
pub mod https;
pub mod in_process;
pub mod raw;

use anyhow::{Context as _, Result};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

/// A port of the loopback address that is free for TCP and for UDP.
///
/// # Errors
/// None was found in a hundred attempts.
pub fn free_port() -> Result<u16> {
    for _ in 0..100 {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = tcp.local_addr()?.port();
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no port is free for TCP and UDP alike")
}

/// Lets this process open as many files as the system allows: each agent has its socket
/// and its journal.
///
/// # Errors
/// The system refuses.
pub fn raise_file_limit() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("the limit of open files")
}

/// What TLS is done with. Once per process.
pub fn install_tls() {
    // It fails only when one is installed already, which is as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
