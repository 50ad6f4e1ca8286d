//! Whether other nodes answer over a session's network: a network that exists need not carry
//! anything.

use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{
    AddressFamily, SocketAddrV4, SocketFlags, SocketType, bind, ipproto, socket_with,
};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::Instant;

/// A node that does not answer is asked again after this time.
const AGAIN: Duration = Duration::from_millis(500);
/// Bytes in front of what a request carries: IPv4 and ICMP.
const HEADERS: usize = 28;
/// Types of requests and of answers to them (RFC 792).
const REQUEST: u8 = 8;
const ANSWER: u8 = 0;

/// Asks all until each has answered a packet of `mtu` bytes, or until time is up; who has not.
///
/// # Errors
/// When the kernel gives no socket for it.
pub(super) async fn reach(
    own: Ipv4Addr,
    others: &[Ipv4Addr],
    mtu: u32,
    (id, patience): (u16, Duration),
) -> std::io::Result<Vec<Ipv4Addr>> {
    let socket = open(own)?;
    let until = Instant::now() + patience;
    // With each the number of requests so far.
    let mut missing: BTreeMap<Ipv4Addr, u16> = others.iter().map(|at| (*at, 0)).collect();
    while !missing.is_empty() && Instant::now() < until {
        for (at, count) in &mut missing {
            *count = count.wrapping_add(1);
            // No way there yet is no answer either.
            let _ = socket.send_to(&request(id, *count, mtu), (*at, 0)).await;
        }
        let pause = (Instant::now() + AGAIN).min(until);
        while !missing.is_empty() {
            match tokio::time::timeout_at(pause, next(&socket, id)).await {
                Ok(from) => drop(missing.remove(&from?)),
                Err(_) => break,
            }
        }
    }
    Ok(missing.into_keys().collect())
}

/// A socket for ICMP. It is asked in the same way as one for UDP, and the library knows that.
fn open(own: Ipv4Addr) -> std::io::Result<UdpSocket> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let family = AddressFamily::INET;
    let socket = socket_with(family, SocketType::RAW, flags, Some(ipproto::ICMP))?;
    // Answers to others come here as well, as large as they are.
    set_socket_recv_buffer_size(&socket, 1 << 20)?;
    bind(&socket, &SocketAddrV4::new(own, 0))?;
    UdpSocket::from_std(socket.into())
}

/// Waits for an answer to one of our requests; who gave it.
async fn next(socket: &UdpSocket, id: u16) -> std::io::Result<Ipv4Addr> {
    let mut packet = vec![0; 65_536];
    loop {
        let length = socket.recv(&mut packet).await?;
        if let Some(from) = answer(&packet[..length], id) {
            return Ok(from);
        }
    }
}

/// A request that makes a packet of `mtu` bytes.
fn request(id: u16, count: u16, mtu: u32) -> Vec<u8> {
    let filling = usize::try_from(mtu).unwrap_or(0).saturating_sub(HEADERS);
    let mut packet = vec![0; 8 + filling];
    packet[0] = REQUEST;
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&count.to_be_bytes());
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Who answered, if this is an answer to one of ours; with the header of IP in front.
fn answer(packet: &[u8], id: u16) -> Option<Ipv4Addr> {
    let length = usize::from(packet.first()? & 0xf) * 4;
    let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    let icmp = packet.get(length..)?;
    let ours = icmp.get(4..6)? == id.to_be_bytes();
    (icmp[0] == ANSWER && ours).then(|| Ipv4Addr::from(source))
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_fill_a_packet_and_sum_up() {
        let packet = request(0x1234, 5, 1450);
        assert_eq!(packet.len() + 20, 1450);
        assert_eq!(checksum(&packet), 0, "with its own sum in it");
        assert_eq!(request(1, 1, 0).len(), 8);
    }

    #[test]
    fn only_answers_to_our_own_requests_count() {
        let mut packet = vec![0; 20];
        packet[0] = 0x45;
        packet[12..16].copy_from_slice(&[10, 0, 0, 9]);
        packet.extend_from_slice(&[ANSWER, 0, 0, 0, 0x12, 0x34, 0, 1]);
        assert_eq!(answer(&packet, 0x1234), Some(Ipv4Addr::new(10, 0, 0, 9)));
        assert_eq!(answer(&packet, 0x1235), None);
        for cut in [0, 10, 20, 24] {
            assert_eq!(answer(&packet[..cut], 0x1234), None);
        }
        packet[20] = REQUEST;
        assert_eq!(answer(&packet, 0x1234), None);
    }

    /// Needs root, as the agent does.
    #[tokio::test]
    async fn who_answers_is_reached_and_who_does_not_is_named() {
        let own = Ipv4Addr::LOCALHOST;
        let there = [own, Ipv4Addr::new(127, 1, 2, 3)];
        let soon = Duration::from_secs(20);
        let silent = reach(own, &there, 1450, (7, soon)).await.unwrap();
        assert!(silent.is_empty(), "{silent:?}");
        // Nothing leaves the machine from this address.
        let away = [Ipv4Addr::new(192, 0, 2, 1)];
        let short = Duration::from_millis(100);
        assert_eq!(reach(own, &away, 1450, (8, short)).await.unwrap(), away);
    }
}
