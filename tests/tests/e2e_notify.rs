//! What happens to a session is told to a webhook, also when receiver and coordinator were away.

use longshore_tests::fixture::{AgentOptions, Cluster, ClusterOptions, until};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Bodies of calls, with what was answered.
type Got = Arc<Mutex<Vec<(Value, bool)>>>;

/// A webhook on loopback that takes nothing until it is told to.
async fn receiver() -> (String, Got, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("it has one");
    let (got, open) = (Got::default(), Arc::new(AtomicBool::new(false)));
    let (kept, is_open) = (Arc::clone(&got), Arc::clone(&open));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (kept, is_open) = (Arc::clone(&kept), Arc::clone(&is_open));
            tokio::spawn(async move {
                let takes = is_open.load(Ordering::SeqCst);
                if let Some(body) = answered(stream, takes).await {
                    kept.lock().expect("nobody panics").push((body, takes));
                }
            });
        }
    });
    (format!("http://{address}/hook"), got, open)
}

/// Reads one request and answers it; its body.
async fn answered(mut stream: TcpStream, takes: bool) -> Option<Value> {
    let mut taken = Vec::new();
    let body = loop {
        let text = String::from_utf8_lossy(&taken).into_owned();
        let whole = text.split_once("\r\n\r\n").and_then(|(head, body)| {
            assert!(head.contains("longshore-signature: t="), "{head}");
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            let (_, length) =
                lines.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
            (body.len() >= length.parse().ok()?).then(|| body.to_owned())
        });
        if let Some(body) = whole {
            break body;
        }
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).await.ok().filter(|n| *n > 0)?;
        taken.extend_from_slice(&piece[..length]);
    };
    let answer: &[u8] = match takes {
        true => b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
        false => b"HTTP/1.1 503 Away\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    };
    stream.write_all(answer).await.ok()?;
    serde_json::from_str(&body).ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_told_after_receiver_and_coordinator_were_away() {
    let (url, got, open) = receiver().await;
    let mut cluster = Cluster::start(ClusterOptions {
        environment: vec![(
            "LONGSHORE__DAEMON__EGRESS__ALLOW".to_owned(),
            "[\"127.0.0.1\"]".to_owned(),
        )],
        ..ClusterOptions::default()
    })
    .await;
    cluster.add_agent(AgentOptions::default()).await;
    let words = ["notify", "set", "--webhook", &url, "--calls", "start,end"];
    let set = cluster.cli(&words).await;
    assert_eq!(set.code, 0, "{set:?}");
    let ran = cluster.run(&[], &["sh", "-c", "exit 3"]).await;
    assert_eq!(ran.code, 3, "{ran:?}");
    let limit = Duration::from_secs(30);
    until("the receiver was called and was away", limit, async || {
        let got = got.lock().expect("nobody panics");
        (!got.is_empty()).then_some(())
    })
    .await;
    cluster.kill9_coordinator();
    open.store(true, Ordering::SeqCst);
    cluster.restart_coordinator().await;
    let taken = until("both are told", Duration::from_secs(60), async || {
        let got = got.lock().expect("nobody panics");
        let taken: Vec<Value> = got
            .iter()
            .filter(|(_, taken)| *taken)
            .map(|(body, _)| body.clone())
            .collect();
        let has = |event: &str| taken.iter().any(|body| body["event"] == event);
        (has("start") && has("end")).then_some(taken)
    })
    .await;
    let end = taken.iter().find(|body| body["event"] == "end");
    let text = end.and_then(|end| end["text"].as_str()).unwrap_or_default();
    assert!(
        text.contains("task-failed") && text.contains("exit code 3"),
        "{text}"
    );
    let log = until("it is noted", limit, async || {
        let log = cluster.cli(&["notify", "log", "-o", "json"]).await;
        let items: Vec<Value> = serde_json::from_str(&log.stdout).ok()?;
        let sent = |item: &Value| item["state"] == "sent";
        (items.len() == 2 && items.iter().all(sent)).then_some(items)
    })
    .await;
    for body in &taken {
        assert!(log.iter().any(|note| note["id"] == body["id"]), "{body}");
    }
}
