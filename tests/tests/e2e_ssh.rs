//! `longshore ssh` against a real sshd in a container, with the system's own ssh.

use longshore_tests::fixture::{AgentOptions, Cluster, until, with_sshd};
use serde_json::json;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_ssh_reaches_a_real_sshd_that_listens_nowhere() {
    let image = with_sshd();
    let cluster = Cluster::with_agent(AgentOptions::default()).await;
    let session = cluster
        .api
        .submit(&json!({
            "image": image.name, "command": ["sleep", "600"],
            "environment": {"PLAIN": "a b", "QUOTED": "a \"b\"", "LINES": "a\nPLAIN=c"},
            "slots": {"cpu": "1", "mem": "128M"},
        }))
        .await;
    cluster.running(&session.id).await;
    let id = session.id.as_str();

    // At 127.0.0.11 Docker's own resolver listens.
    let script = "echo apart >&2; echo $LONGSHORE_SESSION_ID $PLAIN $PATH; \
                  netstat -ltn | grep LISTEN | grep -vc 127.0.0.11:; exit 7";
    let said = cluster.cli(&["ssh", id, script]).await;
    assert_eq!(said.code, 7, "{said:?}");
    let environment = format!("{id} a b /usr/bin:/bin");
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines, [&environment, "0"], "nothing listens: {said:?}");
    assert!(said.stderr.contains("apart"), "{said:?}");

    // Flags of ssh go in front, and bytes come as they are.
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut child = cluster
        .cli_command(&["ssh", id, "-T", "cat"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("the command line runs");
    let mut stdin = child.stdin.take().expect("it is a pipe");
    let sent = large.clone();
    let sending = tokio::spawn(async move { stdin.write_all(&sent).await });
    let done = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output()).await;
    let done = done.expect("it ends").expect("it ran");
    sending.await.expect("it sends").expect("it is taken");
    assert_eq!(done.status.code(), Some(0), "{:?}", done.stderr);
    assert!(
        done.stdout == large,
        "{} bytes came back",
        done.stdout.len()
    );

    until("nothing of ssh runs", Duration::from_secs(20), async || {
        let look = ["exec", id, "--", "sh", "-c", "ps | grep -c '[s]shd'"];
        let left = cluster.cli(&look).await;
        (left.stdout.trim() == "0").then_some(())
    })
    .await;
}
