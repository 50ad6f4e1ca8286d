//! `longshore-agent guard`, the command itself: what it does on a machine whose agent is dead.

#![allow(clippy::unwrap_used)]

#[allow(dead_code, reason = "what other tests need of it")]
mod support;

use longshore_agent::host::{Host, boot_clock_ms};
use longshore_agent::identity::{Files, Identity};
use longshore_agent::lease::{Freezable, Lease};
use longshore_agent::runtime::{Containers as _, FoundStatus};
use longshore_common::ids::AgentId;
use std::process::{Command, Output};
use support::Bench;

/// T2 of 600 s less 60 s.
const LEASE_MS: i64 = 540_000;

/// A node that has joined, whose agent is dead.
struct Node {
    dir: tempfile::TempDir,
    agent: AgentId,
}

impl Node {
    fn of(bench: &Bench) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let agent = bench.config.agent;
        let identity = Identity {
            agent,
            cluster: bench.config.cluster,
            name: "n1".to_owned(),
            coordinator: vec!["127.0.0.1:1".to_owned()],
            work_key: String::new(),
        };
        for name in ["state", "run", "config"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let files = Files::new(&dir.path().join("state"));
        files.store(&identity, "", "", "").unwrap();
        Self { dir, agent }
    }

    /// What its agent left: the last heartbeat that was acknowledged was sent so long ago.
    fn keep(&self, agent: AgentId, acked_ago_ms: i64, freeze: &[&str]) {
        let container = |id: &&str| Freezable {
            docker_id: (*id).to_owned(),
            pid: None,
        };
        let lease = Lease {
            agent: Some(agent),
            boot_id: Host::default().facts().boot_id.unwrap(),
            acked_ms: boot_clock_ms() - acked_ago_ms,
            lease_ms: LEASE_MS,
            freeze: freeze.iter().map(container).collect(),
        };
        let path = Lease::path(&self.dir.path().join("run"));
        lease.store(&path).unwrap();
    }

    fn guard(&self) -> Output {
        Command::new(env!("CARGO_BIN_EXE_longshore-agent"))
            .arg("--state-dir")
            .arg(self.dir.path().join("state"))
            .arg("--run-dir")
            .arg(self.dir.path().join("run"))
            .arg("guard")
            .env("LONGSHORE_CONFIG_DIR", self.dir.path().join("config"))
            .output()
            .unwrap()
    }
}

#[tokio::test]
async fn it_freezes_what_a_dead_agent_left_when_its_lease_is_over_and_nothing_else() {
    let bench = Bench::new().await;
    let [restartable, other] = [1, 2].map(|n| bench.shell(n, "sleep 600"));
    let id = bench.run(&restartable).await;
    bench.run(&other).await;
    let node = Node::of(&bench);
    let guarded = || {
        let output = node.guard();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
    };
    guarded(); // nothing was ever started under a lease
    node.keep(node.agent, LEASE_MS - 60_000, &[&id]);
    guarded(); // it is not over
    node.keep(AgentId::new(1), LEASE_MS, &[&id]);
    guarded(); // another agent's
    let status = bench.find(&restartable).await.status;
    assert_eq!(status, FoundStatus::Running);
    // Over: what stands in it is frozen, what is gone keeps it from nothing.
    node.keep(node.agent, LEASE_MS, &["0123456789ab", &id]);
    guarded();
    assert_eq!(bench.find(&restartable).await.status, FoundStatus::Paused);
    assert_eq!(bench.find(&other).await.status, FoundStatus::Running);
    guarded(); // as each 20 s
    assert_eq!(bench.find(&restartable).await.status, FoundStatus::Paused);
    bench.docker.thaw(&id).await.unwrap();
    for request in [restartable, other] {
        bench.docker.remove(request.key, None).await.unwrap();
    }
    bench.docker.dispose().await.unwrap();
    assert!(bench.left(&["ps", "-aq"]).is_empty());
}
