use super::super::PoolConfig;
use super::*;
use crate::runtime::docker::engine::Engine;
use longshore_common::ids::{AgentId, ClusterId, Rank};
use longshore_common::network::Peer;
use std::sync::Arc;

fn own(mtu: u32, at: &[Option<u8>]) -> OwnNetwork {
    let peers = at.iter().zip(3u8..).map(|(at, n)| Peer {
        name: format!("gpu{n}"),
        at: at.map(|last| (Ipv4Addr::new(192, 0, 2, last), 4789)),
        gateway: Ipv4Addr::new(10, 214, 0, n),
    });
    OwnNetwork {
        number: 0x00ff_ff01,
        subnet: "10.214.0.0/28".parse().unwrap(),
        gateway: Ipv4Addr::new(10, 214, 0, 1),
        mtu,
        peers: peers.collect(),
    }
}

fn underlay(mtu: u32) -> Option<Underlay> {
    Some(Underlay {
        link: "eth0".to_owned(),
        address: Ipv4Addr::new(192, 0, 2, 1),
        port: 4789,
        mtu,
    })
}

#[tokio::test]
async fn the_network_of_the_node_is_given_where_the_node_allows_it() {
    let pool = |host_network| {
        let engine = Arc::new(Engine::new("/nowhere.sock".as_ref()));
        let mut config = PoolConfig::default();
        config.overlay.host_network = host_network;
        Pool::new(engine, ClusterId::new(7), AgentId::new(9), config).unwrap()
    };
    let key = ContainerKey {
        session: SessionId(1),
        rank: Rank(0),
        attempt: Attempt(1),
    };
    let network = SessionNetwork {
        session: SessionId(1),
        attempt: Attempt(1),
        own: None,
        hosts: Vec::new(),
    };
    assert_eq!(pool(true).join(key, &network).await, Ok("host".to_owned()));
    let refused = pool(false).join(key, &network).await.unwrap_err();
    let RuntimeError::Failed { cause, detail } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(cause, Cause::LocalPolicy);
    assert!(detail.contains("local_policy.host_network"), "{detail}");
}

#[test]
fn links_of_another_agent_are_not_ours() {
    for (rest, number) in [
        ("ab0000ff", Some(255)),
        ("0000ff", Some(255)),
        ("cd0000ff", None),
        ("ab0000f", None),
        ("ab+000ff", None),
        ("zz00ff", None),
        ("", None),
    ] {
        assert_eq!(number_of(rest, "ab"), number, "{rest}");
    }
    let engine = Arc::new(Engine::new("/nowhere.sock".as_ref()));
    let (cluster, agent) = (ClusterId::new(7), AgentId::new(u128::MAX));
    let pool = Pool::new(engine, cluster, agent, PoolConfig::default()).unwrap();
    let name = pool.link_name(0x00ff_ff01);
    assert!(name.len() <= 15, "{name} is longer than the kernel takes");
    let rest = name.strip_prefix(&pool.link_name_prefix()).unwrap();
    assert_eq!(number_of(rest, &pool.link_tag()), Some(0x00ff_ff01));
}

#[test]
fn a_node_says_why_it_cannot_carry_a_network() {
    assert!(usable(&own(1450, &[Some(2)]), underlay(1500)).is_ok());
    let why = |own, underlay| usable(&own, underlay).unwrap_err();
    assert!(why(own(1450, &[Some(2)]), None).contains("overlay.interface"));
    let narrow = why(own(1450, &[Some(2)]), underlay(1400));
    assert!(
        narrow.contains("eth0") && narrow.contains("1350 at most"),
        "{narrow}"
    );
    let nowhere = why(own(1450, &[Some(2), None]), underlay(1500));
    assert!(nowhere.starts_with("gpu4 names no address"), "{nowhere}");
    let same = why(own(1450, &[Some(1)]), underlay(1500));
    assert!(
        same.contains("192.0.2.1, the address of this node"),
        "{same}"
    );
    let mut elsewhere = own(1450, &[Some(2)]);
    elsewhere.peers[0].at = Some((Ipv4Addr::new(192, 0, 2, 2), 8472));
    let port = why(elsewhere, underlay(1500));
    assert!(
        port.contains("gpu3 takes packets at UDP port 8472, this node at 4789"),
        "{port}"
    );
}

#[test]
fn who_did_not_answer_is_named() {
    let own = own(1450, &[Some(2), Some(3)]);
    assert_eq!(unreached(&own, &[]), None);
    let told = unreached(&own, &[Ipv4Addr::new(10, 214, 0, 4)]).unwrap();
    assert!(told.contains("gpu4 (192.0.2.3, UDP port 4789)"), "{told}");
    assert!(!told.contains("gpu3"), "{told}");
}

#[test]
fn networks_that_nobody_has_or_waits_for_go() {
    let key = |rank| ContainerKey {
        session: SessionId(1),
        rank: Rank(rank),
        attempt: Attempt(1),
    };
    let of = |session| (SessionId(session), Attempt(1));
    let shared = |id: &str, keys: &[ContainerKey]| Shared {
        id: id.to_owned(),
        number: 7,
        keys: keys.iter().copied().collect(),
    };
    let known = BTreeMap::from([(of(1), shared("a", &[key(1)]))]);
    let found = vec![
        (of(1), shared("a", &[key(0)])),
        (of(2), shared("b", &[])),
        (of(3), shared("c", &[key(0)])),
    ];
    let (kept, useless) = sorted(&known, found);
    assert_eq!(kept[&of(1)], shared("a", &[key(0), key(1)]));
    assert_eq!(kept.len(), 2);
    assert_eq!(useless, [(of(2), shared("b", &[]))]);
    // Made anew under the same name: who waited for the old one does not have it.
    let (kept, useless) = sorted(&known, vec![(of(1), shared("z", &[]))]);
    assert!(kept.is_empty() && useless.len() == 1);
}

#[tokio::test]
async fn a_table_is_not_trusted_before_networks_of_several_containers_are_in_it() {
    let engine = Arc::new(Engine::new("/nowhere.sock".as_ref()));
    let config = PoolConfig::default();
    let pool = Pool::new(engine, ClusterId::new(7), AgentId::new(9), config).unwrap();
    let key = ContainerKey {
        session: SessionId(1),
        rank: Rank(0),
        attempt: Attempt(1),
    };
    let of = (key.session, key.attempt);
    let shared = Shared {
        id: "a".to_owned(),
        number: 7,
        keys: [key].into(),
    };
    pool.state().replace(BTreeMap::new());
    assert!(!pool.state().trusted, "who leaves now has to wait");
    pool.adopt_shared(vec![(of, shared)]).await.unwrap();
    assert!(pool.state().trusted && pool.state().shared.contains_key(&of));
}

#[tokio::test]
async fn after_an_engine_that_did_not_answer_its_networks_are_listed_anew() {
    let engine = Arc::new(Engine::new("/nowhere.sock".as_ref()));
    let config = PoolConfig::default();
    let pool = Pool::new(engine, ClusterId::new(7), AgentId::new(9), config).unwrap();
    pool.state().trusted = true;
    let made = pool
        .make_shared((SessionId(1), Attempt(1)), &own(1450, &[]))
        .await;
    assert!(made.is_err());
    assert!(!pool.state().trusted);
}
