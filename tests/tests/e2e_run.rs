//! One command from the command line to a container and back: exit codes, output, limits.

use longshore_tests::fixture::{AgentOptions, Cluster, ClusterOptions, Output, until};
use serde_json::json;
use std::time::{Duration, Instant};

async fn cluster() -> Cluster {
    Cluster::with_agent(AgentOptions::default()).await
}

/// The id that `run -d` printed.
fn id_of(output: &Output) -> String {
    assert_eq!(output.code, 0, "{output:?}");
    output.stdout.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_codes_and_output_are_the_programs_own() {
    let cluster = cluster().await;

    let both = cluster
        .run(&["-q"], &["sh", "-c", "echo out; echo err >&2; exit 3"])
        .await;
    assert_eq!(
        both,
        Output {
            code: 3,
            stdout: "out\n".to_owned(),
            stderr: "err\n".to_owned()
        }
    );

    let absent = cluster.run(&[], &["no-such-program"]).await;
    assert_eq!(absent.code, 127, "{absent:?}");
    assert!(absent.stderr.contains("command-not-found"), "{absent:?}");

    let inert = cluster.run(&[], &["/etc/passwd"]).await;
    assert_eq!(inert.code, 126, "{inert:?}");

    let killed = cluster.run(&[], &["sh", "-c", "kill -9 $$"]).await;
    assert_eq!(killed.code, 137, "{killed:?}");

    let greedy = cluster
        .cli(&["run", "--cpu", "1000", "--mem", "64M", "--", "true"])
        .await;
    assert_eq!(greedy.code, 125, "{greedy:?}");
    assert!(greedy.stderr.contains("LS-FIT-NEVER"), "{greedy:?}");

    let nothing = cluster.cli(&["run", "--cpu", "1"]).await;
    assert_eq!(nothing.code, 2, "{nothing:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_cannot_be_had_is_named() {
    let retries = "LONGSHORE__SERVICES__SCHEDULER__CREATION_RETRIES";
    let mut cluster = Cluster::start(ClusterOptions {
        environment: vec![(retries.to_owned(), "0".to_owned())],
        ..ClusterOptions::default()
    })
    .await;
    cluster.add_agent(AgentOptions::default()).await;
    let image = "127.0.0.1:9/no/such:1"; // nobody listens at the discard port
    let pulled = cluster.run(&["--image", image], &["true"]).await;
    assert_eq!(pulled.code, 125, "{pulled:?}");
    assert!(pulled.stderr.contains("pull-"), "{pulled:?}");
    assert!(pulled.stderr.contains("127.0.0.1:9"), "{pulled:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_too_big_for_its_memory_says_so() {
    let cluster = cluster().await;
    let eaten = cluster
        .cli(&[
            "run",
            "--cpu",
            "1",
            "--mem",
            "32M",
            "--",
            "tail",
            "/dev/zero",
        ])
        .await;
    assert_eq!(eaten.code, 137, "{eaten:?}");
    assert!(eaten.stderr.contains("out of memory"), "{eaten:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inside_is_a_home_without_privileges() {
    let cluster = cluster().await;
    let script = r#"id -u; pwd; touch "$HOME/file" && echo writable; echo "$MARK"
        grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status"#;
    let inside = cluster
        .run(
            &["-q", "--env", "MARK=a b", "--workdir", "/tmp"],
            &["sh", "-c", script],
        )
        .await;
    assert_eq!(inside.code, 0, "{inside:?}");
    let lines: Vec<String> = inside
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let [uid, rest @ ..] = lines.as_slice() else {
        panic!("{inside:?}");
    };
    assert!(uid.parse::<u32>().is_ok_and(|uid| uid >= 20_000), "{uid}");
    assert_eq!(
        rest,
        [
            "/tmp",
            "writable",
            "a b",
            "CapEff: 0000000000000000",
            "NoNewPrivs: 1",
            "Seccomp: 2"
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detached_session_is_waited_for_and_read_later() {
    let cluster = cluster().await;
    let detached = cluster
        .run(&["-d"], &["sh", "-c", "echo one; echo two >&2; exit 5"])
        .await;
    let id = id_of(&detached);
    let waited = cluster.cli(&["wait", &id]).await;
    assert_eq!(waited.code, 5, "{waited:?}");
    for (stream, text) in [("stdout", "one\n"), ("stderr", "two\n")] {
        let logs = cluster.cli(&["logs", &id, "--stream", stream]).await;
        assert_eq!((logs.code, logs.stdout.as_str()), (0, text), "{logs:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_session_ends_its_attached_runner_with_143() {
    let cluster = cluster().await;
    let arguments = [
        "run", "--cpu", "1", "--mem", "64M", "--name", "held", "--", "sleep", "600",
    ];
    let runner = cluster
        .cli_command(&arguments)
        .spawn()
        .expect("the command line runs");
    until("the session runs", Duration::from_secs(40), async || {
        let shown = cluster.cli(&["show", "held", "-o", "json"]).await;
        shown.stdout.contains("\"RUNNING\"").then_some(())
    })
    .await;
    let stopped = cluster.cli(&["stop", "held"]).await;
    assert_eq!(stopped.code, 0, "{stopped:?}");
    let ended = Output::of(runner).await;
    assert_eq!(ended.code, 143, "{ended:?}");
    let left = cluster.containers();
    until(
        "its container is gone",
        Duration::from_secs(30),
        async || left.list().await.is_empty().then_some(()),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interactive_session_lasts_until_it_is_stopped() {
    let cluster = cluster().await;
    let session = cluster
        .api
        .submit(&json!({"type": "interactive", "slots": {"cpu": "1", "mem": "64M"}}))
        .await;
    cluster.running(&session.id).await;
    let stopped = cluster.cli(&["stop", &session.id]).await;
    assert_eq!(stopped.code, 0, "{stopped:?}");
    let ended = cluster.ended(&session.id, Duration::from_secs(40)).await;
    assert_eq!(
        (ended.state.as_str(), ended.reason.as_deref()),
        ("TERMINATED", Some("user-requested"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_of_time_end_a_session() {
    let cluster = cluster().await;
    let amounts = json!({"cpu": "1", "mem": "64M"});
    let started = Instant::now();
    let lifetime = cluster
        .api
        .submit(&json!({"command": ["sleep", "600"], "slots": amounts, "lifetime_s": 6}))
        .await;
    let batch = cluster
        .api
        .submit(&json!({"command": ["sleep", "600"], "slots": amounts, "batch_timeout_s": 2}))
        .await;
    let batch = cluster.ended(&batch.id, Duration::from_secs(40)).await;
    assert_eq!(batch.reason.as_deref(), Some("task-timeout"));
    let lifetime = cluster.ended(&lifetime.id, Duration::from_secs(40)).await;
    assert_eq!(lifetime.reason.as_deref(), Some("lifetime-exceeded"));
    let took = started.elapsed();
    assert!(
        took >= Duration::from_secs(5) && took < Duration::from_secs(20),
        "it took {took:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_ends_soon_after_its_silent_session() {
    let cluster = cluster().await;
    let started = Instant::now();
    let ended = cluster
        .run(&["--timeout-after", "2s"], &["sleep", "600"])
        .await;
    assert_eq!(ended.code, 143, "{ended:?}");
    assert!(!ended.stderr.contains("cannot be had"), "{ended:?}");
    assert!(
        started.elapsed() < Duration::from_secs(9),
        "it took {:?}: {ended:?}",
        started.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_makes_one_session() {
    let cluster = cluster().await;
    let request = json!({"command": ["true"], "slots": {"cpu": "1", "mem": "64M"}});
    let send = || {
        let method = reqwest::Method::POST;
        cluster
            .api
            .send(method, "/api/v1/sessions", Some(&request), Some("same-key"))
    };
    // At once and again.
    let (first, second) = tokio::join!(send(), send());
    let third = send().await;
    let ids: Vec<_> = [first, second, third]
        .into_iter()
        .map(|answer| {
            let (status, value) = answer.expect("the coordinator answers");
            assert!(status.is_success(), "{status} {value}");
            value["id"].as_str().unwrap_or_default().to_owned()
        })
        .collect();
    assert!(ids[0].starts_with("s-"), "{ids:?}");
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    cluster.ended(&ids[0], Duration::from_secs(40)).await;
    let all = cluster.cli(&["ps", "-a", "-o", "name"]).await;
    assert_eq!(all.stdout.lines().count(), 1, "{all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sudo_is_for_those_who_have_it_and_from_the_next_start_on() {
    let cluster = cluster().await;
    let script = r#"grep -E '^(CapEff|CapBnd|NoNewPrivs):' /proc/self/status
        stat -c '%a %u' /etc/sudoers.d/longshore 2>/dev/null || echo none
        grep '^work:' /etc/passwd | cut -d: -f2"#;
    let inside = async |flags: &[&str]| -> Vec<String> {
        let ran = cluster.run(flags, &["sh", "-c", script]).await;
        assert_eq!(ran.code, 0, "{ran:?}");
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        ran.stdout.lines().map(words).collect()
    };
    let nothing = "0000000000000000";
    let closed = [
        format!("CapEff: {nothing}"),
        format!("CapBnd: {nothing}"),
        "NoNewPrivs: 1".to_owned(),
        "none".to_owned(),
        "x".to_owned(),
    ];
    assert_eq!(inside(&["-q"]).await, closed);
    assert_eq!(inside(&["-q", "--env", "SUDO_ENABLED=true"]).await, closed);
    let me = cluster.cli(&["whoami", "-o", "json"]).await;
    assert_eq!(me.code, 0, "{me:?}");
    let me: serde_json::Value = serde_json::from_str(&me.stdout).expect("JSON");
    let name = me["username"].as_str().expect("a name").to_owned();
    let set = async |word: &str| {
        let done = cluster.cli(&["admin", "user", "sudo", &name, word]).await;
        assert_eq!(done.code, 0, "{done:?}");
    };
    set("on").await;
    let open = [
        format!("CapEff: {nothing}"),
        "CapBnd: 00000000200000eb".to_owned(),
        "NoNewPrivs: 0".to_owned(),
        "440 0".to_owned(),
        "*".to_owned(),
    ];
    assert_eq!(inside(&["-q"]).await, open);
    set("off").await;
    assert_eq!(inside(&["-q"]).await, closed);
}
