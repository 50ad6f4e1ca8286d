//! A session on two nodes: its containers reach each other by name over a network of their own,
//! and one whose nodes cannot reach each other says so.

use longshore_tests::fixture::{
    AgentOptions, BETWEEN, Cable, Cluster, ClusterOptions, PrivateEngine, until,
};
use serde_json::json;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Networks of sessions that an engine has, and links to other nodes beside it.
fn left_on(cable: &Cable, socket: &Path) -> Vec<String> {
    let url = format!("unix://{}", socket.display());
    let filter = "label=io.longshore.session";
    let listed = Command::new("docker")
        .args(["-H", &url, "network", "ls", "-q", "--filter", filter])
        .output()
        .expect("docker is installed");
    assert!(listed.status.success(), "{listed:?}");
    let networks = String::from_utf8_lossy(&listed.stdout).into_owned();
    let links = cable.inside(&["ip", "-o", "link", "show", "type", "vxlan"]);
    networks
        .lines()
        .chain(links.lines())
        .map(str::to_owned)
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_on_two_nodes_reach_each_other_or_the_session_says_why_not() {
    let (first, second) = Cable::pair();
    let (one, two) = tokio::join!(PrivateEngine::start(&first), PrivateEngine::start(&second));
    let retries = "LONGSHORE__SERVICES__SCHEDULER__CREATION_RETRIES";
    let mut cluster = Cluster::start(ClusterOptions {
        listen: IpAddr::V4(first.here),
        environment: vec![(retries.to_owned(), "0".to_owned())],
        ..ClusterOptions::default()
    })
    .await;
    let nodes = [(&first, &one), (&second, &two)];
    for (name, (cable, engine)) in ["node1", "node2"].into_iter().zip(nodes) {
        let set = |key: &str, value: &str| (format!("LONGSHORE__AGENT__{key}"), value.to_owned());
        cluster
            .add_agent(AgentOptions {
                name: name.to_owned(),
                cpu: 1, // so that each takes one container
                socket: engine.socket(),
                netns: Some(cable.netns.clone()),
                mounts: Some(engine.keeper()),
                environment: vec![set("OVERLAY__INTERFACE", BETWEEN)],
                policy: "local_policy.host_network = \"allow\"\n".to_owned(),
            })
            .await;
    }
    let left = || -> Vec<String> {
        let all = nodes.iter();
        all.flat_map(|(cable, engine)| left_on(cable, &engine.socket()))
            .collect()
    };
    let job = json!({
        "type": "batch",
        "command": ["sh", "-c", "cat /sys/class/net/eth0/mtu; nc -l -p 5000 -e sh -c \"head -c 3000000 | wc -c > $HOME/count\"; cat $HOME/count"],
        "slots": {"cpu": "1", "mem": "32M"},
        "cluster": {"size": 2, "mode": "multi-node"},
    });

    // More than fits into one packet, to the other node by its name; again until it listens.
    let send = "until head -c 3000000 /dev/zero | nc main1 5000; do sleep 0.1; done; hostname";
    let gone = async || left().is_empty().then_some(());
    for (network, links, told) in [("private", 4, "1450\n3000000\n"), ("host", 0, "3000000\n")] {
        let set = format!("cluster_network={network}");
        let edit = ["admin", "resource-group", "edit", "default", "--set", &set];
        let edited = cluster.cli(&edit).await;
        assert_eq!(edited.code, 0, "{edited:?}");
        let id = cluster.api.submit(&job).await.id;
        let running = cluster.running(&id).await;
        let marked = running.conditions.contains(&"host-network".to_owned());
        assert_eq!(marked, network == "host", "{running:?}");
        // With one of its own, a network and a link on each node.
        assert_eq!(left().len(), links, "{:?}", left());
        let exec = ["exec", "-c", "sub1", &id, "--", "sh", "-c", send];
        let sent = cluster.cli(&exec).await;
        assert_eq!((sent.code, sent.stdout.trim()), (0, "sub1"), "{sent:?}");
        let ended = cluster.ended(&id, Duration::from_secs(60)).await;
        assert_eq!(ended.reason.as_deref(), Some("task-finished"), "{ended:?}");
        let logs = cluster.cli(&["logs", &id, "--stream", "stdout"]).await;
        assert_eq!(logs.stdout, told, "{logs:?}");
        until("the network is gone", Duration::from_secs(30), gone).await;
    }

    let private = [
        "admin",
        "resource-group",
        "edit",
        "default",
        "--set",
        "cluster_network=private",
    ];
    assert_eq!(cluster.cli(&private).await.code, 0);
    let cut = [
        "iptables", "-I", "INPUT", "-p", "udp", "--dport", "4789", "-j", "DROP",
    ];
    let _ = first.inside(&cut);
    let id = cluster.api.submit(&job).await.id;
    let ended = cluster.ended(&id, Duration::from_secs(100)).await;
    assert_eq!(
        (ended.state.as_str(), ended.reason.as_deref()),
        ("CANCELLED", Some("failed-to-start"))
    );
    let history = cluster.api.history(&id).await;
    let told = history.iter().filter_map(|line| line.detail.as_deref());
    let told: Vec<&str> = told.filter(|text| text.contains("UDP port 4789")).collect();
    let named = |text: &&str| text.contains("10.77.0.");
    assert!(told.iter().any(named), "{history:?}");
    assert!(
        format!("{history:?}").contains("network-failed"),
        "{history:?}"
    );
    until("nothing is left", Duration::from_secs(30), gone).await;
}
