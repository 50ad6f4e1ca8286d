//! Commands and terminals beside a session's program, from the command line to the container.

use longshore_tests::fixture::{AgentOptions, Cluster, Output, until};
use serde_json::json;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

async fn with_session() -> (Cluster, String) {
    let cluster = Cluster::with_agent(AgentOptions::default()).await;
    let request = json!({"command": ["sleep", "600"], "slots": {"cpu": "1", "mem": "64M"}});
    let session = cluster.api.submit(&request).await;
    cluster.running(&session.id).await;
    (cluster, session.id)
}

/// The command line with something to read.
async fn fed(cluster: &Cluster, arguments: &[&str], input: Vec<u8>) -> Output {
    let mut child = cluster
        .cli_command(arguments)
        .stdin(Stdio::piped())
        .spawn()
        .expect("the command line runs");
    let mut stdin = child.stdin.take().expect("its input is a pipe");
    let feeding = tokio::spawn(async move {
        // Whoever reads no further ends this too.
        let _ = stdin.write_all(&input).await;
    });
    let output = Output::of(child).await;
    feeding.await.expect("feeding does not panic");
    output
}

/// Waits until the marked command runs, or until nothing is left of it.
async fn command_is(there: bool, mark: &str) {
    let limit = Duration::from_secs(20);
    until("the command comes or goes", limit, async || {
        (processes(mark).is_empty() != there).then_some(())
    })
    .await;
}

/// Processes of this machine with this word among their arguments.
fn processes(word: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir("/proc")
        .expect("/proc is there")
        .flatten();
    let has = |path: &PathBuf| {
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        // What the container's program was given, not who asked for it.
        let program = words.next().unwrap_or_default().to_vec();
        !program.ends_with(b"longshore") && words.any(|one| one == word.as_bytes())
    };
    all.map(|entry| entry.path()).filter(has).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exec_is_the_programs_own_code_input_and_outputs() {
    let (cluster, id) = with_session().await;
    let run = async |script: &str| cluster.cli(&["exec", &id, "--", "sh", "-c", script]).await;

    let both = run("echo out; echo err >&2; exit 3").await;
    assert_eq!(
        (both.code, both.stdout.as_str(), both.stderr.as_str()),
        (3, "out\n", "err\n"),
        "{both:?}"
    );
    // As the session's user, without privileges.
    let who = run("id -u; grep CapEff /proc/self/status | tr -d '\\t'").await;
    let lines: Vec<&str> = who.stdout.lines().collect();
    assert!(
        lines[0].parse::<u32>().is_ok_and(|uid| uid >= 20_000),
        "{who:?}"
    );
    assert_eq!(lines[1], "CapEff:0000000000000000");
    let absent = cluster.cli(&["exec", &id, "--", "no-such-program"]).await;
    assert_eq!(absent.code, 127, "{absent:?}");
    assert!(
        absent.stdout.is_empty() && absent.stderr.contains("no-such-program"),
        "{absent:?}"
    );
    let inert = cluster.cli(&["exec", &id, "--", "/etc/passwd"]).await;
    assert_eq!(inert.code, 126, "{inert:?}");
    let killed = run("kill -9 $$").await;
    assert_eq!(killed.code, 137, "{killed:?}");
    let set = cluster
        .cli(&[
            "exec",
            &id,
            "-e",
            "MARK=a b",
            "-w",
            "/tmp",
            "--",
            "sh",
            "-c",
            "pwd; echo $MARK",
        ])
        .await;
    assert_eq!(set.stdout, "/tmp\na b\n", "{set:?}");

    // More than all buffers on the way hold together.
    let large: Vec<u8> = (0..3_000_000_u32)
        .flat_map(|n| [b'a' + (n % 23) as u8, b'\n'])
        .collect();
    let echoed = fed(&cluster, &["exec", &id, "--", "cat"], large.clone()).await;
    assert_eq!((echoed.code, echoed.stdout.len()), (0, large.len()));
    assert!(echoed.stdout.as_bytes() == large);

    let terminal = cluster
        .cli(&[
            "exec",
            &id,
            "-t",
            "--",
            "sh",
            "-c",
            "test -t 0 && test -t 1 && until [ \"$(stty size)\" = '24 80' ]; do sleep 1; done; stty size",
        ])
        .await;
    assert_eq!(
        (terminal.code, terminal.stdout.lines().last()),
        (0, Some("24 80")),
        "{terminal:?}"
    );
    let shell = fed(
        &cluster,
        &["terminal", &id],
        b"echo $((6*7)) in $0\nexit 5\n".to_vec(),
    )
    .await;
    assert_eq!(shell.code, 0, "{shell:?}");
    assert!(shell.stdout.contains("42 in /bin/sh"), "{shell:?}");

    assert_eq!(cluster.api.session(&id).await.state, "RUNNING");
    let stopped = cluster.cli(&["stop", "--grace", "1s", &id]).await;
    assert_eq!(stopped.code, 0, "{stopped:?}");
    cluster.ended(&id, Duration::from_secs(40)).await;
    let late = cluster.cli(&["exec", &id, "--", "true"]).await;
    assert_eq!(late.code, 125, "{late:?}");
    assert!(late.stderr.contains("LS-STATE"), "{late:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_killed_takes_its_command_with_it() {
    let (cluster, id) = with_session().await;
    let mark = format!("86{}", std::process::id()); // seconds of a sleep nobody else sleeps
    let words = ["exec", id.as_str(), "--", "sleep", mark.as_str()];
    let mut child = cluster
        .cli_command(&words)
        .stdin(Stdio::piped())
        .spawn()
        .expect("the command line runs");
    command_is(true, &mark).await;
    child.kill().await.expect("it can be killed");
    command_is(false, &mark).await;
    assert_eq!(cluster.api.session(&id).await.state, "RUNNING");

    // Ctrl-C of a command without a terminal is its program's.
    let script = "trap 'exit 9' INT; echo ready; while :; do sleep 1; done";
    let words = ["exec", id.as_str(), "--", "sh", "-c", script];
    let mut child = cluster
        .cli_command(&words)
        .spawn()
        .expect("the command line runs");
    let pid = child.id().expect("it runs");
    let mut lines = BufReader::new(child.stdout.take().expect("it is a pipe")).lines();
    let first = lines.next_line().await.expect("it can be read");
    assert_eq!(first.as_deref(), Some("ready"));
    let sent = std::process::Command::new("kill")
        .args(["-INT", &pid.to_string()])
        .status();
    assert!(sent.expect("kill runs").success());
    let ended = Output::of(child).await;
    assert_eq!(ended.code, 9, "{ended:?}");
}

/// A connection that goes on costs its right within seconds after that is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keypair_that_is_switched_off_ends_what_it_opened() {
    let (cluster, id) = with_session().await;
    let made = cluster.cli(&["key", "create", "-o", "json"]).await;
    let keys: serde_json::Value = serde_json::from_str(&made.stdout).expect("it is JSON");
    let text = |name: &str| keys[name].as_str().expect("it is a text").to_owned();
    let mark = format!("87{}", std::process::id()); // seconds of a sleep nobody else sleeps
    let child = cluster
        .cli_command(&["exec", &id, "--", "sleep", &mark])
        .env("LONGSHORE_ACCESS_KEY", text("access_key"))
        .env("LONGSHORE_SECRET_KEY", text("secret_key"))
        .spawn()
        .expect("the command line runs");
    command_is(true, &mark).await;
    let off = cluster
        .cli(&["key", "deactivate", "-y", &text("access_key")])
        .await;
    assert_eq!(off.code, 0, "{off:?}");
    let ended = tokio::time::timeout(Duration::from_secs(8), Output::of(child)).await;
    let ended = ended.expect("it ends within five seconds, and some for a busy machine");
    assert_eq!(ended.code, 125, "{ended:?}");
    assert!(ended.stderr.contains("LS-KEYPAIR-INACTIVE"), "{ended:?}");
    command_is(false, &mark).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detached_command_goes_on_without_anybody() {
    let (cluster, id) = with_session().await;
    let detach = async |script: &str| {
        let words = ["exec", "--detach", &id, "--", "sh", "-c", script];
        let made = cluster.cli(&words).await;
        assert_eq!(made.code, 0, "{made:?}");
        made.stdout.trim().to_owned()
    };
    let exec =
        detach("echo begun; until [ -e /tmp/go ]; do sleep 0.1; done; echo late >&2; cat; exit 7")
            .await;
    let path = format!("/sessions/{id}/exec/{exec}");
    let seen: serde_json::Value = cluster.api.get(&path).await;
    assert_eq!(
        (&seen["state"], &seen["detach"], seen.get("exit_code")),
        (&json!("detached"), &json!(true), None),
        "{seen}"
    );
    // Somebody looks and leaves; it goes on.
    let mut looking = cluster
        .cli_command(&["exec", &id, "--look", &exec])
        .spawn()
        .expect("the command line runs");
    let mut lines = BufReader::new(looking.stdout.take().expect("it is a pipe")).lines();
    let first = lines.next_line().await.expect("it can be read");
    assert_eq!(first.as_deref(), Some("begun"));
    let pid = looking.id().expect("it runs").to_string();
    let sent = std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status();
    assert!(sent.expect("kill runs").success());
    let left = Output::of(looking).await;
    assert_eq!(left.code, 130, "{left:?}");

    let go = cluster.cli(&["exec", &id, "--", "touch", "/tmp/go"]).await;
    assert_eq!(go.code, 0, "{go:?}");
    let limit = Duration::from_secs(20);
    let code = until("its exit code is known", limit, async || {
        let seen: serde_json::Value = cluster.api.get(&path).await;
        seen["exit_code"].as_i64()
    })
    .await;
    assert_eq!(code, 7);
    // What it wrote is there after its end, more than once.
    for _ in 0..2 {
        let looked = cluster.cli(&["exec", &id, "--look", &exec]).await;
        assert_eq!(
            (looked.code, looked.stdout.as_str(), looked.stderr.as_str()),
            (7, "begun\n", "late\n"),
            "{looked:?}"
        );
    }
    let absent = cluster
        .cli(&["exec", "--detach", &id, "--", "no-such-program"])
        .await;
    let looked = cluster
        .cli(&["exec", &id, "--look", absent.stdout.trim()])
        .await;
    assert_eq!(looked.code, 127, "{looked:?}");

    // Those that ended unseen are in nobody's way; those that run are.
    for _ in 0..32 {
        detach("exit 0").await;
    }
    let last = detach("sleep 600").await;
    let stopped = cluster.cli(&["stop", "--grace", "1s", &id]).await;
    assert_eq!(stopped.code, 0, "{stopped:?}");
    cluster.ended(&id, Duration::from_secs(40)).await;
    let path = format!("/sessions/{id}/exec/{last}");
    let state = until("it is over with its session", limit, async || {
        let seen: serde_json::Value = cluster.api.get(&path).await;
        (seen["state"] == json!("ended")).then(|| seen["state"].clone())
    })
    .await;
    assert_eq!(state, json!("ended"));
}
