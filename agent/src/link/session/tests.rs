use super::super::tests::{CLUSTER, config};
use super::*;
use longshore_common::ids::{CoordinatorGeneration, Fence, InstanceId};
use longshore_common::time::Timestamp;
use longshore_link::{Side, take_in, transport};
use quinn::crypto::rustls::QuicServerConfig;

fn welcome() -> Welcome {
    Welcome {
        cluster: CLUSTER,
        coordinator_generation: CoordinatorGeneration(1),
        coordinator_instance: InstanceId::new(3),
        fence: Fence(1),
        heartbeat_ms: 60_000,
        lost_after_ms: 300_000,
        lease_ms: 60_000,
        name: "node1".to_owned(),
        group: "default".to_owned(),
        now: Timestamp(0),
        addresses: Vec::new(),
        features: Features::OURS,
    }
}

/// An endpoint that agents can dial, and whom they trust then.
pub(in crate::link) fn accepting(alpn: &[&[u8]]) -> (quinn::Endpoint, rustls::RootCertStore) {
    let _ = rustls::crypto::ring::default_provider().install_default(); // or another test did
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let mut server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    server.alpn_protocols = alpn.iter().map(|one| one.to_vec()).collect();
    let server = QuicServerConfig::try_from(server).unwrap();
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(server));
    server.transport_config(transport(Side::Coordinator, false));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let there = quinn::Endpoint::server(server, ([127, 0, 0, 1], 0).into()).unwrap();
    (there, roots)
}

/// Dials one.
pub(in crate::link) async fn connected(
    address: std::net::SocketAddr,
    roots: rustls::RootCertStore,
    alpn: &[&[u8]],
) -> Result<quinn::Connection, quinn::ConnectionError> {
    let client = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = client_config(client, alpn, false).unwrap();
    let here = endpoint(address).unwrap();
    here.connect_with(client, address, "localhost")
        .unwrap()
        .await
}

/// A connection to a coordinator that takes the agent in, and says nothing more.
async fn connect() -> (quinn::Connection, tokio::task::JoinHandle<()>) {
    let (there, roots) = accepting(&[LINK_ALPN]);
    let address = there.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let connection = there.accept().await.unwrap().await.unwrap();
        take_in(&connection);
        let (mut out, back) = connection.accept_bi().await.unwrap();
        let mut frames = FrameReader::new(back, Cap::HELLO);
        frames.next().await.unwrap();
        send(&mut out, &welcome()).await.unwrap();
        let _state = connection.accept_bi().await; // whose end would be that of the link
        connection.closed().await;
    });
    let connection = connected(address, roots, &[LINK_ALPN]).await;
    (connection.unwrap(), serving)
}

#[tokio::test]
async fn a_link_that_is_asked_anew_ends_and_one_made_after_that_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (config, shared) = (config(dir.path(), Vec::new()), Arc::new(Shared::new()));
    let logs = LogStore::open(&dir.path().join("logs"), Default::default()).unwrap();
    let logs = Arc::new(logs);
    shared.ask_anew(); // no link stands: the next one answers it
    let (connection, _serving) = connect().await;
    let (heard, mut inbox) = mpsc::channel(8);
    let limit = Duration::from_secs(20); // many times what it takes
    let talks = talk(&config, "here:1", &connection, &shared, &logs, &heard);
    let asks = async {
        let up = inbox.recv().await;
        assert!(matches!(up, Some(Heard::Up(..))), "{up:?}");
        shared.ask_anew();
    };
    let both = async { tokio::join!(talks, asks) };
    let (ended, ()) = tokio::time::timeout(limit, both).await.expect("it goes on");
    let why = ended.err();
    assert!(
        matches!(&why, Some(Ended::Failed(why)) if why.contains("lease")),
        "{why:?}"
    );
}

#[test]
fn a_gap_between_beats_says_that_the_machine_stood_still() {
    let limit = Duration::from_secs(10);
    for (now_ms, expected) in [(1_000, false), (11_000, false), (11_001, true), (0, false)] {
        assert_eq!(slept(1_000, now_ms, limit), expected, "{now_ms}");
    }
}
