//! Ports of a session, from a program on this machine to one in the container; files both ways.

use longshore_tests::fixture::{AgentOptions, Cluster};
use serde_json::json;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdout};

/// Nothing here takes longer on a machine that is well.
const LIMIT: Duration = Duration::from_secs(30);

async fn with_session(script: &str) -> (Cluster, String) {
    let cluster = Cluster::with_agent(AgentOptions::default()).await;
    let request = json!({
        "command": ["sh", "-c", script], "slots": {"cpu": "1", "mem": "64M"},
        "ports": [
            {"name": "echo", "port": 7000},
            {"name": "late", "port": 7001, "command": ["nc", "-ll", "-p", "{port}", "-e", "cat"]},
            {"name": "absent", "port": 7002, "command": ["no-such-program"]},
            {"name": "quiet", "port": 7003},
        ],
    });
    let session = cluster.api.submit(&request).await;
    cluster.running(&session.id).await;
    (cluster, session.id)
}

/// A `forward` that listens, and the address it says.
struct Forward {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Forward {
    fn begin(cluster: &Cluster, id: &str, ports: &[&str]) -> Self {
        let words = [&["forward", id], ports].concat();
        let mut child = cluster
            .cli_command(&words)
            .stdin(Stdio::null())
            .spawn()
            .expect("the command line runs");
        let out = child.stdout.take().expect("it is a pipe");
        let lines = BufReader::new(out).lines();
        Self { child, lines }
    }

    async fn address(&mut self) -> String {
        let line = tokio::time::timeout(LIMIT, self.lines.next_line()).await;
        let line = line
            .expect("it says where it listens")
            .expect("it can be read");
        let line = line.expect("it goes on");
        let (address, _) = line.split_once(" -> ").expect("it names both ends");
        address.to_owned()
    }
}

/// Sends it all, ends its own way, and reads to the end of the other.
async fn exchange(address: &str, sent: Vec<u8>) -> Vec<u8> {
    let stream = TcpStream::connect(address).await.expect("it listens");
    let (mut read, mut write) = stream.into_split();
    let sending = tokio::spawn(async move {
        let _ = write.write_all(&sent).await; // whoever reads no further ends this too
        write.shutdown().await
    });
    let mut got = Vec::new();
    let reading = tokio::time::timeout(LIMIT, read.read_to_end(&mut got)).await;
    let _ = reading.expect("it ends"); // a connection that is refused inside is cut
    let _ = sending.await;
    got
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn declared_ports_are_reached_and_each_way_ends_by_itself() {
    let (cluster, id) = with_session("exec nc -ll -p 7000 -e cat").await;
    let mut forward = Forward::begin(&cluster, &id, &["0:echo", "0:7001", "0:absent", "0:quiet"]);
    let (echo, late) = (forward.address().await, forward.address().await);
    let (absent, quiet) = (forward.address().await, forward.address().await);
    assert_eq!(exchange(&echo, b"hello".to_vec()).await, b"hello");
    // More than all buffers on the way hold together.
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    assert!(exchange(&echo, large.clone()).await == large);
    // Several at once, and one that nobody started until now.
    let both = tokio::join!(
        exchange(&late, b"one".to_vec()),
        exchange(&late, b"two".to_vec()),
        exchange(&echo, b"three".to_vec()),
    );
    let wanted = (b"one".to_vec(), b"two".to_vec(), b"three".to_vec());
    assert_eq!(both, wanted);
    assert!(exchange(&absent, b"x".to_vec()).await.is_empty());
    assert!(exchange(&quiet, b"x".to_vec()).await.is_empty());
    forward.child.start_kill().expect("it can be killed");
    let ended = forward.child.wait_with_output().await.expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("absent is not in its image"), "{said}");
    assert!(said.contains("nothing listens on port 7003"), "{said}");

    let other = cluster.cli(&["forward", &id, "22"]).await;
    assert_eq!(other.code, 6, "{other:?}");
    assert!(other.stderr.contains("declares no port 22"), "{other:?}");
    let jupyter = cluster.cli(&["jupyter", &id]).await;
    assert_eq!(jupyter.code, 6, "{jupyter:?}");
    let ssh = cluster.cli(&["ssh", &id]).await;
    assert_eq!(ssh.code, 125, "{ssh:?}");
    assert!(ssh.stderr.contains("has no sshd"), "{ssh:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keypair_that_is_switched_off_ends_its_connections() {
    let (cluster, id) = with_session("exec nc -ll -p 7000 -e cat").await;
    let made = cluster.cli(&["key", "create", "-o", "json"]).await;
    let keys: serde_json::Value = serde_json::from_str(&made.stdout).expect("it is JSON");
    let text = |name: &str| keys[name].as_str().expect("it is a text").to_owned();
    let mut child = cluster
        .cli_command(&["forward", &id, "0:echo"])
        .env("LONGSHORE_ACCESS_KEY", text("access_key"))
        .env("LONGSHORE_SECRET_KEY", text("secret_key"))
        .stdin(Stdio::null())
        .spawn()
        .expect("the command line runs");
    let out = child.stdout.take().expect("it is a pipe");
    let lines = BufReader::new(out).lines();
    let mut forward = Forward { child, lines };
    let address = forward.address().await;
    let mut stream = TcpStream::connect(&address).await.expect("it listens");
    stream.write_all(b"hello").await.expect("it can be sent");
    let mut got = [0; 5];
    stream.read_exact(&mut got).await.expect("it comes back");
    let off = cluster
        .cli(&["key", "deactivate", "-y", &text("access_key")])
        .await;
    assert_eq!(off.code, 0, "{off:?}");
    let ended = tokio::time::timeout(Duration::from_secs(8), stream.read(&mut got)).await;
    let ended = ended.expect("it ends within five seconds, and some for a busy machine");
    assert!(!matches!(ended, Ok(read) if read > 0), "{ended:?}");
    let ended = tokio::time::timeout(LIMIT, forward.child.wait()).await;
    let code = ended
        .expect("it ends")
        .expect("it can be waited for")
        .code();
    assert_eq!(
        code,
        Some(4),
        "the next connection would be refused as well"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_copied_both_ways_and_only_once() {
    let (cluster, id) = with_session("sleep 600").await;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let at = |name: &str| dir.path().join(name).display().to_string();
    let cp = async |words: &[&str]| cluster.cli(&[&["cp"], words].concat()).await;
    let inside = async |script: &str| {
        let done = cluster.cli(&["exec", &id, "--", "sh", "-c", script]).await;
        (done.code, done.stdout.trim().to_owned())
    };
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(at("large"), &large).expect("it can be written");
    let there = format!("{id}:/tmp/large");
    let first = cp(&[&at("large"), &there]).await;
    assert_eq!(first.code, 0, "{first:?}");
    assert!(first.stderr.contains("1 copied"), "{first:?}");
    let second = cp(&[&at("large"), &there]).await;
    assert!(
        second.stderr.contains("0 copied (0 bytes), 1 the same"),
        "{second:?}"
    );
    let seen = inside("stat -c '%s %a' /tmp/large; stat -c %u /tmp/large; id -u; ls -A /tmp").await;
    let lines: Vec<&str> = seen.1.lines().collect();
    assert_eq!(lines[0], "3000000 644", "{seen:?}");
    assert_eq!(lines[1], lines[2], "it is the session's user's: {seen:?}");
    assert_eq!(lines[3..], ["large"], "nothing is left aside: {seen:?}");
    let back = cp(&[&there, &at("back")]).await;
    assert_eq!(back.code, 0, "{back:?}");
    assert!(std::fs::read(at("back")).expect("it is there") == large);

    // A folder with odd names, a program, and a link that leads out of it.
    let make = "mkdir -p '/tmp/a b/c' && cd '/tmp/a b' && echo one > 'c/x y' && echo two > run \\
        && chmod 755 run && ln -s /etc/passwd out";
    assert_eq!(inside(make).await.0, 0);
    let folder = format!("{id}:/tmp/a b");
    let plain = cp(&[&folder, &at("in")]).await;
    assert_eq!(plain.code, 2, "{plain:?}");
    let copied = cp(&["-r", &folder, &at("in")]).await;
    assert_eq!(copied.code, 0, "{copied:?}");
    assert!(copied.stderr.contains("2 copied (8 bytes)"), "{copied:?}");
    assert!(copied.stderr.contains("1 left out"), "{copied:?}");
    let read = |name: &str| std::fs::read_to_string(at(name)).expect("it is there");
    assert_eq!(
        (read("in/c/x y"), read("in/run")),
        ("one\n".into(), "two\n".into())
    );
    std::fs::write(at("in/c/x y"), "new").expect("it can be written");
    let sent = cp(&["-r", &at("in"), &format!("{id}:/tmp/out")]).await;
    assert!(sent.stderr.contains("2 copied"), "{sent:?}");
    let again = cp(&["-r", &format!("{}/.", at("in")), &folder]).await;
    assert_eq!(again.code, 0, "{again:?}");
    let seen = inside(
        "cat '/tmp/a b/c/x y' '/tmp/out/c/x y'; /tmp/out/run 2>&1 | head -c 0; test -x /tmp/out/run; echo $?",
    )
    .await;
    assert_eq!(seen.1, "newnew0", "{seen:?}");

    let absent = cp(&[&format!("{id}:/tmp/none"), &at("none")]).await;
    assert_eq!(absent.code, 3, "{absent:?}");
    let closed = cp(&[&at("large"), &format!("{id}:/etc/large")]).await;
    assert_eq!(closed.code, 4, "{closed:?}");
    assert!(closed.stderr.contains("Permission denied"), "{closed:?}");
    let nowhere = cp(&[&at("large"), &format!("{id}:/tmp/no/such/large")]).await;
    assert_eq!(nowhere.code, 3, "{nowhere:?}");
}
