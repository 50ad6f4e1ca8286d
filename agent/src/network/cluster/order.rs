//! Pure: whether an order for a network can be one, and whether this machine has room for it. The
//! coordinator has looked at the same; a mistake there must not take a node off its own network.

use longshore_common::network::{Ipv4Addr, MAX_NUMBER, OwnNetwork, SessionNetwork, Subnet};
use std::collections::BTreeSet;

/// Shorter would be half the addresses that there are.
const SHORTEST_PREFIX: u8 = 8;
/// Smaller ones hold no node and container.
const LONGEST_PREFIX: u8 = 29;

/// Looks at an order.
///
/// # Errors
/// What is wrong with it, with the addresses.
pub(super) fn check(network: &SessionNetwork, own: &OwnNetwork) -> Result<(), String> {
    let range = own.subnet;
    if !(1..=MAX_NUMBER).contains(&own.number) {
        return Err(format!("{} is no number of a network", own.number));
    }
    if !(SHORTEST_PREFIX..=LONGEST_PREFIX).contains(&range.prefix) {
        return Err(format!(
            "{range} is no range for a session: it must have {SHORTEST_PREFIX} to {LONGEST_PREFIX} fixed bits"
        ));
    }
    if !is_unicast(range) {
        return Err(format!("{range} is no range for a session: it is reserved"));
    }
    let peers = own
        .peers
        .iter()
        .map(|peer| (peer.name.clone(), peer.gateway));
    let hosts = network.hosts.iter();
    let hosts = hosts.map(|(rank, at)| (rank.to_string(), *at));
    let all = [("this node".to_owned(), own.gateway)].into_iter();
    let mut taken = BTreeSet::new();
    for (who, at) in all.chain(peers).chain(hosts) {
        if !holds(range, at) {
            return Err(format!("{at} of {who} does not lie in {range}"));
        }
        if !taken.insert(at) {
            return Err(format!("{at} of {who} is that of another one in {range}"));
        }
    }
    Ok(())
}

/// Looks whether a range is free here; `routes` are those this machine has besides the networks
/// of sessions, and what it cuts networks from.
///
/// # Errors
/// What it lies in or holds.
pub(super) fn is_free(range: Subnet, routes: &[Subnet]) -> Result<(), String> {
    match routes.iter().find(|route| route.overlaps(range)) {
        None => Ok(()),
        Some(route) => Err(format!(
            "{range} overlaps {route}, which this node has a route to or cuts networks from; set network.overlay_pool to a range that no node uses"
        )),
    }
}

/// Neither its name nor its broadcast.
fn holds(range: Subnet, at: Ipv4Addr) -> bool {
    let inside = Subnet::around(at, range.prefix) == Some(range);
    let size = 1_u32 << (32 - u32::from(range.prefix));
    let ends = [range.address(0), range.address(size - 1)];
    inside && !ends.contains(&Some(at))
}

/// Not loopback, link-local, multicast, or what no host has.
fn is_unicast(range: Subnet) -> bool {
    let reserved = [
        (Ipv4Addr::new(0, 0, 0, 0), 8),
        (Ipv4Addr::new(127, 0, 0, 0), 8),
        (Ipv4Addr::new(169, 254, 0, 0), 16),
        (Ipv4Addr::new(224, 0, 0, 0), 3),
    ];
    reserved
        .into_iter()
        .all(|(base, prefix)| !range.overlaps(Subnet { base, prefix }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::ids::{Attempt, Rank, SessionId};
    use longshore_common::network::Peer;

    fn at(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 214, 0, last)
    }

    /// Two nodes, two containers.
    fn order() -> (SessionNetwork, OwnNetwork) {
        let own = OwnNetwork {
            number: 7,
            subnet: "10.214.0.0/29".parse().unwrap(),
            gateway: at(1),
            mtu: 1450,
            peers: vec![Peer {
                name: "gpu2".to_owned(),
                at: None,
                gateway: at(2),
            }],
        };
        let network = SessionNetwork {
            session: SessionId(1),
            attempt: Attempt(1),
            own: Some(own.clone()),
            hosts: vec![(Rank(0), at(3)), (Rank(1), at(4))],
        };
        (network, own)
    }

    fn why(change: impl Fn(&mut SessionNetwork, &mut OwnNetwork)) -> String {
        let (mut network, mut own) = order();
        change(&mut network, &mut own);
        check(&network, &own).unwrap_err()
    }

    #[test]
    fn every_address_lies_in_the_range_and_is_ones_own() {
        let (network, own) = order();
        assert_eq!(check(&network, &own), Ok(()));
        let range = "10.214.0.0/29";
        for (last, ends) in [
            (9, "does not lie"),
            (0, "does not lie"),
            (7, "does not lie"),
        ] {
            assert!(why(|_, own| own.gateway = at(last)).contains(ends));
            assert!(
                why(|_, own| own.peers[0].gateway = at(last))
                    .starts_with(&format!("10.214.0.{last} of gpu2 {ends} in {range}"))
            );
            let text = why(|network, _| network.hosts[1].1 = at(last));
            assert_eq!(text, format!("10.214.0.{last} of sub1 {ends} in {range}"));
        }
        assert!(why(|_, own| own.peers[0].gateway = at(1)).contains("that of another one"));
        assert!(why(|network, _| network.hosts[0].1 = at(2)).contains("that of another one"));
    }

    #[test]
    fn what_no_session_can_have_is_refused() {
        for number in [0, MAX_NUMBER + 1] {
            assert!(why(|_, own| own.number = number).contains("no number"));
        }
        for range in ["0.0.0.0/0", "10.0.0.0/7", "10.214.0.0/30"] {
            let text = why(|_, own| own.subnet = range.parse().unwrap());
            assert!(text.contains("8 to 29 fixed bits"), "{text}");
        }
        for range in [
            "127.0.0.0/16",
            "169.254.169.0/24",
            "224.0.0.0/8",
            "240.0.0.0/8",
            "0.0.0.0/8",
        ] {
            let text = why(|_, own| own.subnet = range.parse().unwrap());
            assert!(text.ends_with("it is reserved"), "{text}");
        }
    }

    #[test]
    fn a_range_that_this_machine_uses_is_refused() {
        let net = |text: &str| text.parse::<Subnet>().unwrap();
        let routes = [net("10.213.0.0/16"), net("192.168.7.0/24")];
        assert_eq!(is_free(net("10.214.0.0/29"), &routes), Ok(()));
        for range in ["192.168.7.8/29", "192.168.0.0/16"] {
            let text = is_free(net(range), &routes).unwrap_err();
            assert!(
                text.starts_with(&format!("{range} overlaps 192.168.7.0/24")),
                "{text}"
            );
        }
    }
}
