//! Links, addresses and routes of this machine, by the kernel's own interface.

use futures_util::{StreamExt, TryStreamExt};
use longshore_common::network::{MAX_RANGES, NodeNetworks, OwnNetwork, Subnet, Underlay};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, LinkUnspec, LinkVxlan, RouteMessageBuilder, new_connection};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Questions and orders to the kernel, which answers at once unless it is in deep trouble.
const KERNEL: Duration = Duration::from_secs(5);
/// A name is resolved within this time, or passed over.
const LOOK_UP: Duration = Duration::from_secs(1);
/// Where no coordinator tells by its address which link leads to others: an address of nobody,
/// to which nothing is sent.
const AWAY: &str = "192.0.2.1:9";

/// The kernel did not do it, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct LinkError(String);

impl From<rtnetlink::Error> for LinkError {
    fn from(error: rtnetlink::Error) -> Self {
        Self(error.to_string())
    }
}

/// What names last led to: a resolver that fails for a moment must not move a node to another
/// address.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<BTreeMap<String, Vec<SocketAddr>>>);

impl Names {
    /// What a name leads to, by what was found now or else by what was found before. Names come
    /// from the configuration: they are few.
    fn known(&self, name: &str, found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if found.is_empty() {
            return all.get(name).cloned().unwrap_or_default();
        }
        all.insert(name.to_owned(), found.clone());
        found
    }
}

/// A connection to the kernel, for one matter.
struct Kernel {
    handle: Handle,
    task: JoinHandle<()>,
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Kernel {
    fn open() -> Result<Self, LinkError> {
        let (connection, handle, _) =
            new_connection().map_err(|error| LinkError(format!("netlink: {error}")))?;
        let task = tokio::spawn(connection);
        Ok(Self { handle, task })
    }

    async fn links(&self) -> Result<Vec<Link>, LinkError> {
        let links = self.handle.link().get().execute();
        let links: Vec<LinkMessage> = links.try_collect().await?;
        Ok(links.iter().filter_map(Link::of).collect())
    }

    async fn link(&self, name: &str) -> Result<Option<Link>, LinkError> {
        let links = self.links().await?;
        Ok(links.into_iter().find(|link| link.name == name))
    }

    /// IPv4 addresses with the index of their links.
    async fn addresses(&self) -> Result<Vec<(u32, Ipv4Addr)>, LinkError> {
        let messages = self.handle.address().get().execute();
        let messages: Vec<_> = messages.try_collect().await?;
        let own = messages.iter().filter_map(|message| {
            let mut attributes = message.attributes.iter();
            attributes.find_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(at)) => Some((message.header.index, *at)),
                _ => None,
            })
        });
        Ok(own.collect())
    }

    /// Ranges that the main table leads to, with the index of the link.
    async fn routes(&self) -> Result<Vec<(u32, Subnet)>, LinkError> {
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let messages = self.handle.route().get(all).execute();
        let messages: Vec<_> = messages.try_collect().await?;
        let routes = messages.iter().filter_map(|message| {
            let header = &message.header;
            let (mut to, mut link) = (None, 0);
            for attribute in &message.attributes {
                match attribute {
                    RouteAttribute::Destination(RouteAddress::Inet(at)) => to = Some(*at),
                    RouteAttribute::Oif(index) => link = *index,
                    _ => (),
                }
            }
            let range = Subnet::around(to?, header.destination_prefix_length)?;
            (header.table == RouteHeader::RT_TABLE_MAIN).then_some((link, range))
        });
        Ok(routes.collect())
    }

    /// Every frame to nobody in particular goes to this node as well.
    async fn flood_to(&mut self, link: u32, (at, port): (Ipv4Addr, u16)) -> Result<(), LinkError> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = link;
        message.header.state = NeighbourState::Permanent;
        message.header.flags = NeighbourFlags::Own; // the link's table, not its bridge's
        message.attributes = vec![
            NeighbourAttribute::LinkLayerAddress(vec![0; 6]),
            NeighbourAttribute::Destination(NeighbourAddress::Inet(at)),
            NeighbourAttribute::Port(port),
        ];
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewNeighbour(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND;
        let mut answers = self.handle.request(request)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload
                && error.code.is_some()
            {
                return Err(LinkError(error.to_string()));
            }
        }
        Ok(())
    }
}

struct Link {
    index: u32,
    name: String,
    mtu: u32,
    bridge: Option<u32>,
}

impl Link {
    fn of(message: &LinkMessage) -> Option<Self> {
        let (mut name, mut mtu, mut bridge) = (None, 0, None);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = Some(text.clone()),
                LinkAttribute::Mtu(bytes) => mtu = *bytes,
                LinkAttribute::Controller(index) => bridge = Some(*index),
                _ => (),
            }
        }
        let index = message.header.index;
        name.map(|name| Self {
            index,
            name,
            mtu,
            bridge,
        })
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, LinkError>>) -> Result<T, LinkError> {
    match tokio::time::timeout(KERNEL, work).await {
        Ok(result) => result,
        Err(_) => Err(LinkError("the kernel does not answer".to_owned())),
    }
}

/// Where this node is reached, and what addresses are taken here; links with this prefix are
/// ours and come and go.
pub(super) async fn look(
    config: &super::OverlayConfig,
    own_links: &str,
    names: &Names,
) -> Result<NodeNetworks, LinkError> {
    in_time(async {
        let kernel = Kernel::open()?;
        let links = kernel.links().await?;
        let addresses = kernel.addresses().await?;
        let ours: BTreeSet<u32> = links
            .iter()
            .filter(|link| link.name.starts_with(own_links))
            .map(|link| link.index)
            .collect();
        let routes = kernel.routes().await?.into_iter();
        let routes = routes.filter(|(link, _)| !ours.contains(link));
        let address = match config.interface.as_str() {
            "" => leading_away(&config.coordinators, names).await,
            name => {
                let link = links.iter().find(|link| link.name == name);
                let mut on_it = addresses
                    .iter()
                    .filter(|(index, _)| link.is_some_and(|link| link.index == *index));
                on_it.next().map(|(_, at)| *at)
            }
        };
        let underlay = address.and_then(|address| {
            let (index, _) = addresses.iter().find(|(_, at)| *at == address)?;
            let link = links.iter().find(|link| link.index == *index)?;
            Some(Underlay {
                link: link.name.clone(),
                address,
                port: config.port,
                mtu: link.mtu,
            })
        });
        Ok(NodeNetworks {
            underlay,
            ranges: widest(routes.map(|(_, range)| range)),
        })
    })
    .await
}

/// The ranges without those that lie in others, in order.
pub(super) fn widest(ranges: impl Iterator<Item = Subnet>) -> Vec<Subnet> {
    let mut sorted: Vec<Subnet> = ranges.filter(|range| range.prefix > 0).collect();
    sorted.sort_by_key(|range| (range.prefix, range.base));
    let mut kept: Vec<Subnet> = Vec::new();
    for range in sorted {
        if kept.len() < MAX_RANGES && !kept.iter().any(|wider| wider.overlaps(range)) {
            kept.push(range);
        }
    }
    kept.sort();
    kept
}

/// This node's own address on the way to the first coordinator that is not on this node, else
/// on the way to everybody.
async fn leading_away(coordinators: &[String], names: &Names) -> Option<Ipv4Addr> {
    for to in coordinators.iter().map(String::as_str).chain([AWAY]) {
        // A resolver that does not answer must not take the node's networks out of its report.
        let asked = tokio::time::timeout(LOOK_UP, tokio::net::lookup_host(to)).await;
        let found = asked.into_iter().flatten().flatten().collect();
        for to in names
            .known(to, found)
            .into_iter()
            .filter(SocketAddr::is_ipv4)
        {
            let Ok(socket) = tokio::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await else {
                continue;
            };
            if socket.connect(to).await.is_ok()
                && let Ok(IpAddr::V4(at)) = socket.local_addr().map(|at| at.ip())
                && !at.is_loopback()
                && !at.is_unspecified()
                // The coordinator is on this very machine: that says nothing of others.
                && IpAddr::V4(at) != to.ip()
            {
                return Some(at);
            }
        }
    }
    None
}

/// Joins a session's bridge to those of other nodes: makes the link that carries its frames, or
/// finishes one that was made before.
pub(super) async fn join(
    name: &str,
    bridge: &str,
    own: &OwnNetwork,
    underlay: &Underlay,
) -> Result<(), LinkError> {
    in_time(async {
        let mut kernel = Kernel::open()?;
        let under = kernel.link(&underlay.link).await?;
        let under =
            under.ok_or_else(|| LinkError(format!("there is no link {}", underlay.link)))?;
        let bridge_link = kernel.link(bridge).await?;
        let bridge_link =
            bridge_link.ok_or_else(|| LinkError(format!("there is no bridge {bridge}")))?;
        if let Some(known) = kernel.link(name).await? {
            if known.bridge == Some(bridge_link.index) && known.mtu == own.mtu {
                return Ok(());
            }
            kernel.handle.link().del(known.index).execute().await?;
        }
        let made = LinkVxlan::new(name, own.number)
            .dev(under.index)
            .local(underlay.address)
            .port(underlay.port)
            .learning(true)
            .mtu(own.mtu)
            .build();
        kernel.handle.link().add(made).execute().await?;
        let link = kernel.link(name).await?;
        let link = link.ok_or_else(|| LinkError(format!("{name} vanished")))?;
        for at in own.peers.iter().filter_map(|peer| peer.at) {
            kernel.flood_to(link.index, at).await?;
        }
        let joined = LinkUnspec::new_with_index(link.index)
            .controller(bridge_link.index)
            .up()
            .build();
        kernel.handle.link().set(joined).execute().await?;
        Ok(())
    })
    .await
}

/// Removes a link; one that is gone is gone.
pub(super) async fn remove(name: &str) -> Result<(), LinkError> {
    in_time(async {
        let kernel = Kernel::open()?;
        match kernel.link(name).await? {
            Some(link) => Ok(kernel.handle.link().del(link.index).execute().await?),
            None => Ok(()),
        }
    })
    .await
}

/// Names of links that begin so.
pub(super) async fn names(prefix: &str) -> Result<Vec<String>, LinkError> {
    in_time(async {
        let links = Kernel::open()?.links().await?;
        let names = links.into_iter().map(|link| link.name);
        Ok(names.filter(|name| name.starts_with(prefix)).collect())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_in_others_are_not_told() {
        let ranges = [
            "10.1.0.0/16",
            "0.0.0.0/0",
            "172.17.0.0/16",
            "10.1.2.0/24",
            "10.0.0.0/24",
        ];
        let kept = widest(ranges.iter().map(|text| text.parse().unwrap()));
        let shown: Vec<String> = kept.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.0/24", "10.1.0.0/16", "172.17.0.0/16"]);
        let many = (0..300).map(|n| Subnet::around(Ipv4Addr::from(n << 8), 24).unwrap());
        assert_eq!(widest(many).len(), MAX_RANGES);
    }

    #[test]
    fn a_name_that_no_resolver_answers_for_leads_where_it_led() {
        let names = Names::default();
        let at = |text: &str| -> Vec<SocketAddr> { vec![text.parse().unwrap()] };
        assert!(names.known("c:1", Vec::new()).is_empty());
        assert_eq!(names.known("c:1", at("192.0.2.1:1")), at("192.0.2.1:1"));
        assert_eq!(names.known("c:1", Vec::new()), at("192.0.2.1:1"));
        assert!(names.known("d:1", Vec::new()).is_empty());
        assert_eq!(names.known("c:1", at("192.0.2.2:1")), at("192.0.2.2:1"));
        assert_eq!(names.known("c:1", Vec::new()), at("192.0.2.2:1"));
    }

    /// Needs nothing of the machine but that it is one.
    #[tokio::test]
    async fn the_machine_tells_its_routes_and_no_loopback_as_its_address() {
        let config = super::super::OverlayConfig {
            coordinators: vec!["127.0.0.1:7420".to_owned()],
            ..Default::default()
        };
        let known = Names::default();
        let found = look(&config, "ls-none-", &known).await.unwrap();
        if let Some(underlay) = found.underlay {
            assert!(
                !underlay.address.is_loopback() && underlay.mtu >= 576,
                "{underlay:?}"
            );
        }
        let missing = super::super::OverlayConfig {
            interface: "ls-no-such".to_owned(),
            ..config
        };
        assert_eq!(
            look(&missing, "ls-none-", &known).await.unwrap().underlay,
            None
        );
        assert_eq!(names("ls-no-such").await, Ok(Vec::new()));
        assert_eq!(remove("ls-no-such").await, Ok(()));
    }
}
