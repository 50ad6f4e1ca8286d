//! Connections made inside a container's own network.
//!
//! No port of a container is published, and the firewall lets nobody in. A socket belongs to
//! the network in which it was made, so a thread of its own enters the container's, makes the
//! sockets there and ends; the sockets are then used like any others.

use super::verify;
use crate::runtime::DialError;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream as StdStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::oneshot;

/// For one address. Inside one machine the answer comes at once, or a program takes no more.
const CONNECT: Duration = Duration::from_secs(5);
/// An address that belongs to nobody. Nothing is sent to it: the kernel is asked which address
/// of the container it would be called from.
const NOWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// A socket and the address inside that it is for.
type Ready = (StdStream, SocketAddr);

/// Connects to a port of the container this process belongs to.
pub(super) async fn dial(pid: u32, docker_id: &str, port: u16) -> Result<TcpStream, DialError> {
    let network = network_of(pid, docker_id)?;
    let mut first = None;
    for (socket, address) in sockets(network, port).await? {
        let socket = TcpSocket::from_std_stream(socket);
        match tokio::time::timeout(CONNECT, socket.connect(address)).await {
            // A port that nobody has may be given to the socket itself: it then hears itself.
            Ok(Ok(stream)) if stream.local_addr().ok() == stream.peer_addr().ok() => (),
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true); // only makes it slower when it fails
                return Ok(stream);
            }
            Ok(Err(error)) if is_nobody(&error) => (),
            Ok(Err(error)) => drop(first.get_or_insert(error.to_string())),
            Err(_) => drop(first.get_or_insert("it takes no connection".to_owned())),
        }
    }
    Err(first.map_or(DialError::Nothing, DialError::Failed))
}

fn is_nobody(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::AddrNotAvailable
            | ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
    )
}

/// The network, held by an open file: it stays the container's, whoever gets the number later.
fn network_of(pid: u32, docker_id: &str) -> Result<File, DialError> {
    let gone = || DialError::Failed("its container does not run any more".to_owned());
    let network = File::open(format!("/proc/{pid}/ns/net")).map_err(|_| gone())?;
    // After it was opened: a number given to another process before that is told here.
    match verify::is_of(pid, docker_id) {
        true => Ok(network),
        false => Err(gone()),
    }
}

async fn sockets(network: File, port: u16) -> Result<Vec<Ready>, DialError> {
    let (done, made) = oneshot::channel();
    let failed = |what: &str| DialError::Failed(what.to_owned());
    std::thread::Builder::new()
        .name("in a network".to_owned())
        .spawn(move || {
            let _ = done.send(make(&network, port)); // the asker may have gone
        })
        .map_err(|_| failed("no thread could be started"))?;
    let made = made.await;
    made.unwrap_or(Err(Errno::IO))
        .map_err(|error| failed(&format!("its network cannot be entered: {error}")))
}

/// On a thread that ends right afterwards: it does not come back from where it goes.
fn make(network: &File, port: u16) -> Result<Vec<Ready>, Errno> {
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
    let own = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect(NOWHERE)?;
        socket.local_addr()
    });
    let addresses = [
        Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        own.ok().map(|own| own.ip()),
    ];
    let mut ready = Vec::new();
    for address in addresses.into_iter().flatten() {
        let family = match address {
            IpAddr::V4(_) => AddressFamily::INET,
            IpAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        match socket_with(family, SocketType::STREAM, flags, None) {
            Ok(socket) => ready.push((StdStream::from(socket), SocketAddr::new(address, port))),
            Err(Errno::AFNOSUPPORT) => (), // a machine without this family
            Err(error) => return Err(error),
        }
    }
    Ok(ready)
}
