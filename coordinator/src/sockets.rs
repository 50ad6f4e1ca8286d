//! Sockets at addresses of the configuration.

use crate::api::areas::Area;
use crate::config::{Apps, Listen};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use tokio::net::TcpListener;

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on TCP {address}: {source}")]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

/// The address that stands for all of this machine where it has no IPv6 at all; none where what
/// went wrong is something else.
fn without_v6(address: SocketAddr, error: &io::Error) -> Option<SocketAddr> {
    let SocketAddr::V6(v6) = address else {
        return None;
    };
    let lacking = error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
    let all = v6.ip().is_unspecified() && lacking;
    all.then(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, v6.port())))
}

/// A TCP socket that listens. `[::]` takes IPv4 as well, and IPv4 alone on a machine without IPv6.
///
/// # Errors
/// The address cannot be taken.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(listener),
        Err(error) => match without_v6(address, &error) {
            Some(v4) => TcpListener::bind(v4).await,
            None => Err(error),
        },
    }
}

/// A UDP socket, with the same rule.
///
/// # Errors
/// The address cannot be taken.
pub fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind(address).or_else(|error| match without_v6(address, &error) {
        Some(v4) => UdpSocket::bind(v4),
        None => Err(error),
    })
}

/// Listens for people and programs, at every address of every part.
///
/// # Errors
/// One that cannot be taken.
pub async fn of_parts(wanted: &Listen) -> Result<Vec<(TcpListener, Area)>, ListenError> {
    let lists = [
        (&wanted.api, Area::Api),
        (&wanted.app, Area::App),
        (&wanted.files, Area::Files),
    ];
    let mut listeners = Vec::new();
    for (list, area) in lists {
        for address in list {
            let bound = listen(*address).await;
            let address = *address;
            let bound = bound.map_err(|source| ListenError { address, source })?;
            listeners.push((bound, area));
        }
    }
    Ok(listeners)
}

/// Listens where apps are served to browsers. What cannot be listened on keeps nobody from
/// work: it is said, and apps are reached by other ways.
pub async fn for_apps(apps: &Apps) -> Vec<TcpListener> {
    let mut listeners = Vec::new();
    if !apps.domain.is_empty() {
        return listeners; // they have names on the addresses of the API
    }
    for address in &apps.listen {
        match listen(*address).await {
            Ok(listener) => listeners.push(listener),
            Err(error) => {
                tracing::warn!(%address, %error, "apps cannot be served to browsers here (daemon.apps.listen)");
            }
        }
    }
    listeners
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_there_is_no_ipv6_all_addresses_are_those_of_ipv4() {
        let all: SocketAddr = "[::]:7420".parse().unwrap();
        let v4 = "0.0.0.0:7420".parse().unwrap();
        let lacking = io::Error::from_raw_os_error(rustix::io::Errno::AFNOSUPPORT.raw_os_error());
        let none = io::Error::from(io::ErrorKind::AddrNotAvailable);
        assert_eq!(without_v6(all, &lacking), Some(v4));
        assert_eq!(without_v6(all, &none), Some(v4));
        let taken = io::Error::from(io::ErrorKind::AddrInUse);
        assert_eq!(without_v6(all, &taken), None);
        assert_eq!(without_v6("[::1]:7420".parse().unwrap(), &lacking), None);
        assert_eq!(without_v6(v4, &none), None);
    }

    #[tokio::test]
    async fn all_addresses_take_ipv4_too() {
        let listener = listen("[::]:0".parse().unwrap()).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (_, peer) = tokio::join!(
            tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)),
            listener.accept()
        );
        assert!(peer.unwrap().1.ip().to_canonical().is_loopback());
    }
}
