//! Sockets at addresses of the configuration.

use crate::api::areas::Area;
use crate::config::{Apps, Listen};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use tokio::net::{TcpListener, TcpSocket};

/// Connections that wait to be taken; the kernel has a bound of its own, mostly 4096.
const WAITING: u32 = 1024;

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

/// `[::]` takes IPv4 as well, also on a machine that has it otherwise by default
/// (`net.ipv6.bindv6only`). To be called before the socket has its address.
fn take_both(socket: impl AsFd, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            Ok(sockopt::set_ipv6_v6only(socket, false)?)
        }
        _ => Ok(()),
    }
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Connections of the process before may still be closing.
    socket.set_reuseaddr(true)?;
    take_both(&socket, address)?;
    socket.bind(address)?;
    socket.listen(WAITING)
}

fn bind_at(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, None)?;
    take_both(&socket, address)?;
    rustix::net::bind(&socket, &address)?;
    Ok(UdpSocket::from(socket))
}

/// A TCP socket that listens. `[::]` takes IPv4 as well, and IPv4 alone on a machine without IPv6.
///
/// # Errors
/// The address cannot be taken.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    listen_at(address).or_else(|error| match without_v6(address, &error) {
        Some(v4) => listen_at(v4),
        None => Err(error),
    })
}

/// A UDP socket, with the same rule.
///
/// # Errors
/// The address cannot be taken.
pub fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    bind_at(address).or_else(|error| match without_v6(address, &error) {
        Some(v4) => bind_at(v4),
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

/// Listens where metrics alone are served: at addresses of this machine, and at those that others
/// reach.
///
/// # Errors
/// One that cannot be taken.
pub async fn for_metrics(wanted: &Listen) -> Result<[Vec<TcpListener>; 2], ListenError> {
    let mut listeners = [Vec::new(), Vec::new()];
    for address in wanted.metrics.iter().copied() {
        let bound = listen(address).await;
        let bound = bound.map_err(|source| ListenError { address, source })?;
        listeners[usize::from(!address.ip().is_loopback())].push(bound);
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

    #[tokio::test]
    async fn all_addresses_are_of_both_kinds_whatever_the_machine_says() {
        let all: SocketAddr = "[::]:0".parse().unwrap();
        let socket = TcpSocket::new_v6().unwrap();
        // As where net.ipv6.bindv6only is 1.
        sockopt::set_ipv6_v6only(&socket, true).unwrap();
        take_both(&socket, "[::1]:0".parse().unwrap()).unwrap();
        assert!(sockopt::ipv6_v6only(&socket).unwrap());
        take_both(&socket, all).unwrap();
        assert!(!sockopt::ipv6_v6only(&socket).unwrap());
        let udp = bind_udp(all).unwrap();
        assert!(!sockopt::ipv6_v6only(&udp).unwrap());
        let port = udp.local_addr().unwrap().port();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"a", (Ipv4Addr::LOCALHOST, port)).unwrap();
        udp.set_read_timeout(Some(std::time::Duration::from_secs(20)))
            .unwrap();
        let (length, from) = udp.recv_from(&mut [0; 4]).unwrap();
        assert_eq!(
            (length, from.ip().to_canonical()),
            (1, Ipv4Addr::LOCALHOST.into())
        );
    }
}
