//! The UDP socket of all agents.

use rustix::net::sockopt::{
    set_socket_recv_buffer_size, set_socket_recv_buffer_size_force, socket_recv_buffer_size,
};
use std::net::{SocketAddr, UdpSocket};
use tracing::info;

/// Bytes that may wait in the kernel. When a thousand agents come back at once their first
/// packets, 2.3 KiB each in there, come faster than handshakes are made; the usual 208 KiB
/// hold ninety, and each that is dropped costs its agent a second or more.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A socket at `address` with as much room as the system allows.
///
/// # Errors
/// The address cannot be taken.
pub(super) fn bind(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = crate::sockets::bind_udp(address)?;
    // Above the system's own limit only root may go, and without the room it works too.
    let made = set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER)
        .or_else(|_| set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER));
    let room = room(&socket);
    if made.is_err() || room < RECEIVE_BUFFER {
        info!(
            bytes = room,
            wanted = RECEIVE_BUFFER,
            "little room for packets of agents; the system's net.core.rmem_max limits it"
        );
    }
    Ok(socket)
}

fn room(socket: &UdpSocket) -> usize {
    // The kernel tells twice what was asked for: the half is for its own books.
    socket_recv_buffer_size(socket).map_or(0, |bytes| bytes / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_as_much_room_as_the_system_allows() {
        let socket = bind(([127, 0, 0, 1], 0).into()).unwrap();
        let read = |name| std::fs::read_to_string(format!("/proc/sys/net/core/{name}")).unwrap();
        let most: usize = read("rmem_max").trim().parse().unwrap();
        assert!(room(&socket) >= RECEIVE_BUFFER.min(most));
    }
}
