//! `Docker` against the engine of this machine. Each test has a cluster of its own and
//! leaves nothing behind.

#![allow(clippy::unwrap_used)]

mod support;

use longshore_agent::network::FirewallMode;
use longshore_agent::runtime::docker::{Docker, device_nodes, spec_hash};
use longshore_agent::runtime::{
    Breach, Containers, CreateRequest, FoundStatus, Hint, RuntimeError,
};
use longshore_common::agent::GpuWay;
use longshore_common::amount::SlotName;
use longshore_common::ids::{AgentId, Attempt, ContainerKey, Fence, Rank};
use longshore_common::session::{Cause, DeviceGrant, PullRule};
use longshore_common::wire::OutputKind;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::{Bench, IMAGE};
use tokio::sync::mpsc;

fn cause(error: &RuntimeError) -> Option<Cause> {
    match error {
        RuntimeError::Failed { cause, .. } => Some(*cause),
        _ => None,
    }
}

fn text(bench_output: &[longshore_agent::runtime::OutputChunk], kind: OutputKind) -> String {
    let bytes: Vec<u8> = bench_output
        .iter()
        .filter(|chunk| chunk.kind == kind)
        .flat_map(|chunk| chunk.bytes.clone())
        .collect();
    String::from_utf8(bytes).unwrap()
}

fn sizes(output: &[longshore_agent::runtime::OutputChunk]) -> Vec<usize> {
    output.iter().map(|chunk| chunk.bytes.len()).collect()
}

#[tokio::test]
async fn exit_codes_and_output_arrive_apart() {
    let bench = Bench::new().await;
    let script = "echo out $GREETING; echo err >&2; id; echo $HOME; pwd; touch ok && ls; \
                  cat /run/longshore/session.json; exit 3";
    let request = bench.shell(1, script);
    let id = bench.run(&request).await;
    let exit = bench.exit(&request).await;
    assert_eq!((exit.code, exit.signal, exit.oom), (3, None, false));

    let chunks = bench.output(&id).await;
    let out = text(&chunks, OutputKind::Stdout);
    for part in [
        "out hello\n",
        "uid=20000(work) gid=20000(work)",
        "/home/work\n/home/work\n",
        "ok\n",
        "\"session\":\"s-1\"",
    ] {
        assert!(out.contains(part), "{part:?} in {out}");
    }
    assert_eq!(text(&chunks, OutputKind::Stderr), "err\n");
    let found = bench.find(&request).await;
    // The engine notes the start after the fact, so the first words may come before it.
    let (start, end) = (found.started_at.unwrap().plus_s(-1), exit.at.plus_s(1));
    assert!(
        chunks.iter().all(|chunk| (start..end).contains(&chunk.at)),
        "{chunks:?}"
    );
    assert_eq!(
        (found.docker_id, found.fence, found.spec_hash),
        (id.clone(), Fence(1), spec_hash(&request.spec))
    );

    bench.docker.remove(request.key, Some(&id)).await.unwrap();
    bench.docker.remove(request.key, Some(&id)).await.unwrap();
    bench.docker.remove(request.key, None).await.unwrap();
    assert_eq!(bench.docker.find(request.key).await.unwrap(), None);
    assert!(
        !bench
            .config
            .state_dir
            .join("sessions/s-1-main1-a1")
            .exists()
    );
    assert!(!bench.config.run_dir.join("sessions/s-1-main1-a1").exists());
    bench.docker.dispose().await.unwrap();
    assert!(bench.left(&["ps", "-aq"]).is_empty());
    assert!(bench.left(&["network", "ls", "-q"]).is_empty());
}

#[tokio::test]
async fn output_resumes_and_long_lines_stay_whole() {
    let bench = Bench::new().await;
    let script =
        "echo one; sleep 1.2; head -c 40000 /dev/zero | tr '\\0' x; echo; echo 2026-01-01 three";
    let request = bench.shell(1, script);
    let id = bench.run(&request).await;
    let all = bench.output(&id).await;
    let wanted = format!("one\n{}\n2026-01-01 three\n", "x".repeat(40_000));
    assert!(
        text(&all, OutputKind::Stdout) == wanted,
        "{:?}",
        sizes(&all)
    );

    let last = all.last().unwrap().at;
    let (sink, mut chunks) = mpsc::channel(64);
    bench.docker.output(&id, Some(last), sink).await.unwrap();
    while let Some(chunk) = chunks.recv().await {
        assert!(chunk.at >= last);
        assert!(!chunk.bytes.starts_with(b"one"));
    }

    let mut terminal = bench.shell(2, script);
    terminal.spec.tty = true;
    let id = bench.run(&terminal).await;
    let shown = bench.output(&id).await;
    assert!(
        text(&shown, OutputKind::Stdout) == wanted.replace('\n', "\r\n"),
        "{:?}",
        sizes(&shown)
    );
}

#[tokio::test]
async fn the_holder_waits_and_ends_on_the_signal() {
    let bench = Bench::new().await;
    let request = bench.request(1, &[]);
    let id = bench.run(&request).await;
    assert_eq!(bench.docker.verify(&id, &request).await.unwrap(), None);
    assert_eq!(bench.find(&request).await.status, FoundStatus::Running);
    let before = Instant::now();
    bench.docker.stop(&id, 5).await.unwrap();
    assert!(
        before.elapsed() < Duration::from_secs(3),
        "{:?}",
        before.elapsed()
    );
    assert_eq!(bench.exit(&request).await.code, 0);
    bench.docker.stop(&id, 5).await.unwrap();
    bench.docker.kill(&id).await.unwrap();
}

#[tokio::test]
async fn a_deaf_program_is_killed_after_its_grace() {
    let bench = Bench::new().await;
    // It waits in a way that a trap interrupts, or the shell would say nothing before the end.
    let script = "trap 'echo asked' TERM; echo ready; while :; do sleep 1 & wait; done";
    let request = bench.shell(1, script);
    let id = bench.run(&request).await;
    bench.until_says(&id, OutputKind::Stdout, "ready\n").await;
    bench.docker.stop(&id, 2).await.unwrap();
    let exit = bench.exit(&request).await;
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    // It was asked first, and had the time to say so.
    let out = text(&bench.output(&id).await, OutputKind::Stdout);
    assert_eq!(out, "ready\nasked\n");
}

#[tokio::test]
async fn removals_at_once_wait_for_the_one_under_way() {
    let bench = Bench::new().await;
    for session in 1..4 {
        let request = bench.request(session, &["sleep", "100"]);
        let id = bench.run(&request).await;
        let remove = || bench.docker.remove(request.key, Some(&id));
        let (one, two, three) = tokio::join!(remove(), remove(), remove());
        assert_eq!([one, two, three], [Ok(()), Ok(()), Ok(())]);
        assert_eq!(bench.docker.find(request.key).await.unwrap(), None);
    }
}

#[tokio::test]
async fn frozen_containers_are_killed_too() {
    let bench = Bench::new().await;
    let request = bench.request(1, &["sleep", "100"]);
    let id = bench.run(&request).await;
    bench.docker.freeze(&id).await.unwrap();
    bench.docker.freeze(&id).await.unwrap();
    assert_eq!(bench.find(&request).await.status, FoundStatus::Paused);
    bench.docker.thaw(&id).await.unwrap();
    bench.docker.thaw(&id).await.unwrap();
    assert_eq!(bench.find(&request).await.status, FoundStatus::Running);
    bench.docker.freeze(&id).await.unwrap();
    bench.docker.kill(&id).await.unwrap();
    assert_eq!(bench.exit(&request).await.signal, Some(9));
    bench.docker.remove(request.key, Some(&id)).await.unwrap();

    let second = bench.request(2, &["sleep", "100"]);
    let id = bench.run(&second).await;
    bench.docker.freeze(&id).await.unwrap();
    bench.docker.stop(&id, 2).await.unwrap();
    bench.exit(&second).await;
}

#[tokio::test]
async fn want_of_memory_is_told() {
    let bench = Bench::new().await;
    let request = bench.shell(1, "x=a; while :; do x=$x$x$x$x; done");
    bench.run(&request).await;
    let exit = bench.exit(&request).await;
    assert!(exit.oom, "{exit:?}");
    assert_ne!(exit.code, 0);
}

#[tokio::test]
async fn commands_that_do_not_exist_fail_the_start() {
    let bench = Bench::new().await;
    for (session, command, wanted) in [
        (1, "nosuch", Cause::CommandNotFound),
        (2, "/etc", Cause::CommandNotExecutable),
        (3, "/etc/passwd", Cause::CommandNotExecutable),
    ] {
        let request = bench.request(session, &[command]);
        let id = bench.docker.create(&request).await.unwrap();
        let error = bench.docker.start(&id).await.unwrap_err();
        assert_eq!(cause(&error), Some(wanted), "{command}: {error:?}");
    }
    // The same code from a program that ran is its own.
    let request = bench.shell(4, "exit 127");
    bench.run(&request).await;
    assert_eq!(bench.exit(&request).await.code, 127);
}

#[tokio::test]
async fn one_name_is_created_once_and_adopted_by_another_agent_process() {
    let bench = Bench::new().await;
    let request = bench.request(1, &["sleep", "100"]);
    let id = bench.run(&request).await;
    assert_eq!(
        bench.docker.create(&request).await,
        Err(RuntimeError::Conflict)
    );

    let again = Docker::connect(bench.config.clone()).unwrap();
    let list = again.list().await.unwrap();
    assert_eq!(list.len(), 1);
    assert_eq!(
        (list[0].key, &list[0].docker_id, &list[0].status),
        (request.key, &id, &FoundStatus::Running)
    );
    assert!(list[0].pid.is_some() && list[0].started_at.is_some());
    assert_eq!(again.verify(&id, &request).await.unwrap(), None);
    // Its network is in use; another session gets another one.
    let other = bench.request(2, &["sleep", "100"]);
    let second = again.create(&other).await.unwrap();
    let network = |id: &str| {
        let output = Command::new("docker")
            .args(["inspect", "-f", "{{.HostConfig.NetworkMode}}", id])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_ne!(network(&id), network(&second));
    // A second container of the first session shares the first one's.
    let mut mate = bench.request(1, &["sleep", "100"]);
    mate.key = ContainerKey {
        rank: Rank(1),
        attempt: Attempt::FIRST,
        ..request.key
    };
    let third = again.create(&mate).await.unwrap();
    assert_eq!(network(&id), network(&third));

    again.kill(&id).await.unwrap();
    bench.exit(&request).await;
    let ended = again.list().await.unwrap();
    let first = ended.iter().find(|found| found.key == request.key).unwrap();
    assert!(matches!(first.status, FoundStatus::Exited(_)), "{first:?}");
    assert!(
        ended
            .iter()
            .any(|found| found.status == FoundStatus::Created)
    );
}

#[tokio::test]
async fn images_follow_the_rule() {
    let bench = Bench::new().await;
    let ensure = |image: &'static str, digest: Option<&'static str>, rule| {
        let docker = bench.docker.clone();
        let (progress, _) = mpsc::channel(1);
        async move {
            docker
                .ensure_image(image, digest, rule, None, progress)
                .await
        }
    };
    let none = ensure("longshore/absent:1", None, PullRule::None)
        .await
        .unwrap_err();
    assert_eq!(cause(&none), Some(Cause::ImageNotAvailable));
    for rule in [PullRule::None, PullRule::Tag, PullRule::Digest] {
        let facts = ensure(IMAGE, None, rule).await.unwrap();
        assert!(facts.id.starts_with("sha256:"), "{facts:?}");
        assert!(facts.environment.contains(&"PATH=/bin".to_owned()));
    }
    // Whoever calls there is hung up on: the registry cannot be used, and all waiters hear it.
    let (address, calls) = support::deaf_registry().await;
    let unreachable: &'static str = format!("{address}/longshore/absent:1").leak();
    let (one, two) = tokio::join!(
        ensure(unreachable, None, PullRule::Tag),
        ensure(unreachable, None, PullRule::Tag)
    );
    for result in [one, two] {
        assert_eq!(cause(&result.unwrap_err()), Some(Cause::PullNetwork));
    }
    let before = calls.load(Ordering::SeqCst);
    assert_ne!(before, 0, "it was called");
    assert!(ensure(unreachable, None, PullRule::Tag).await.is_err());
    // A second pull would have called, and failed only then.
    let after = calls.load(Ordering::SeqCst);
    assert_eq!(after, before, "not pulled again at once");
}

fn with_devices(bench: &Bench, session: u64, minors: &[u32], script: &str) -> CreateRequest {
    let mut request = bench.shell(session, script);
    request.spec.devices = minors
        .iter()
        .map(|minor| DeviceGrant {
            slot: SlotName::cuda_device(),
            device: format!("GPU-{minor}").parse().unwrap(),
            amount: 1000,
        })
        .collect();
    request.device_nodes = device_nodes(&bench.config.device_dir, minors);
    request.gpu_way = Some(GpuWay::Nodes);
    request
}

#[tokio::test]
async fn exactly_the_granted_devices_are_there() {
    let bench = Bench::new().await;
    for minor in ["0", "1"] {
        let path = bench.dir.path().join(format!("nvidia{minor}"));
        assert!(
            Command::new("mknod")
                .arg(&path)
                .args(["c", "195", minor])
                .status()
                .unwrap()
                .success()
        );
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .unwrap();
    }
    let info = bench.docker.info().await.unwrap();
    let nodes = info
        .gpu_ways
        .iter()
        .find(|(way, _)| *way == GpuWay::Nodes)
        .unwrap();
    assert_eq!(nodes.1, Ok(()));

    // No driver has these numbers: "no such device" means that the cgroup let it through.
    let script = "cat /dev/nvidia0; ls /dev/nvidia1; mknod /tmp/n c 195 1; \
                  grep -E 'Cap|NoNew|Seccomp' /proc/self/status; sleep 100";
    let request = with_devices(&bench, 1, &[0], script);
    let id = bench.run(&request).await;
    assert_eq!(bench.docker.verify(&id, &request).await.unwrap(), None);

    let two = with_devices(&bench, 1, &[0, 1], script);
    assert!(matches!(
        bench.docker.verify(&id, &two).await.unwrap(),
        Some(Breach::Fewer(_))
    ));
    let none = bench.shell(1, script);
    assert!(matches!(
        bench.docker.verify(&id, &none).await.unwrap(),
        Some(Breach::More(_))
    ));

    // The last of what it says before it sleeps.
    bench.until_says(&id, OutputKind::Stdout, "Seccomp:").await;
    bench.docker.kill(&id).await.unwrap();
    bench.exit(&request).await;
    assert_eq!(
        bench.docker.verify(&id, &request).await.unwrap(),
        None,
        "nothing to compare any more"
    );
    let chunks = bench.output(&id).await;
    let (out, err) = (
        text(&chunks, OutputKind::Stdout),
        text(&chunks, OutputKind::Stderr),
    );
    assert!(err.contains("nvidia0': No such device or address"), "{err}");
    assert!(err.contains("nvidia1: No such file"), "{err}");
    assert!(err.contains("/tmp/n: Operation not permitted"), "{err}");
    assert!(out.contains("CapEff:\t0000000000000000"), "{out}");
    assert!(out.contains("CapBnd:\t0000000000000000"), "{out}");
    assert!(
        out.contains("NoNewPrivs:\t1") && out.contains("Seccomp:\t2"),
        "{out}"
    );

    // A node that is gone between grant and start.
    let gone = with_devices(&bench, 2, &[7], "sleep 1");
    let error = match bench.docker.create(&gone).await {
        Ok(id) => bench.docker.start(&id).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(cause(&error), Some(Cause::GpuNotVisible), "{error:?}");
}

/// Root inside by the owner's policy: it may change owners, and reaches nothing outside.
#[tokio::test]
async fn root_inside_stays_inside() {
    let bench = Bench::new().await;
    let script = "id -u; touch /root-was-here && chown 7:7 /root-was-here && echo changed; \
        mknod /tmp/n c 195 0 || echo no node; mount -t tmpfs x /mnt || echo no mount; \
        grep -E 'CapEff|NoNewPrivs' /proc/self/status; sleep 100";
    let mut request = bench.shell(1, script);
    request.spec.root = true;
    let id = bench.docker.create(&request).await.unwrap();
    bench.docker.start(&id).await.unwrap();
    bench
        .until_says(&id, OutputKind::Stdout, "NoNewPrivs:")
        .await;
    assert_eq!(bench.docker.verify(&id, &request).await.unwrap(), None);
    // Of somebody whose policy does not say so it is a breach.
    let plain = bench.shell(1, script);
    let verdict = bench.docker.verify(&id, &plain).await.unwrap();
    assert!(matches!(verdict, Some(Breach::More(_))), "{verdict:?}");
    bench.docker.kill(&id).await.unwrap();
    bench.exit(&request).await;
    let out = text(&bench.output(&id).await, OutputKind::Stdout);
    for line in ["0", "changed", "no node", "no mount", "NoNewPrivs:\t1"] {
        assert!(out.lines().any(|l| l == line), "{line}: {out}");
    }
    assert!(out.contains("CapEff:\t00000000200004eb"), "{out}");
}

#[tokio::test]
async fn changes_are_hinted() {
    let bench = Bench::new().await;
    let (sink, mut hints) = mpsc::channel(16);
    let docker = bench.docker.clone();
    let watching = tokio::spawn(async move { docker.watch(sink).await });
    let mut next = async || {
        let hint = tokio::time::timeout(Duration::from_secs(20), hints.recv());
        hint.await.expect("a hint comes").unwrap()
    };
    assert_eq!(next().await, Hint::Open);
    let request = bench.request(1, &["true"]);
    bench.run(&request).await;
    bench.exit(&request).await;
    for _ in ["create", "start", "die"] {
        assert_eq!(next().await, Hint::Changed(request.key));
    }
    drop(hints);
    bench.docker.remove(request.key, None).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), watching)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn networks_are_used_again_and_pruned_ones_replaced() {
    let bench = Bench::with(|config| config.network.warm = 2).await;
    bench.docker.prepare().await.unwrap();
    let ready = bench.left(&["network", "ls", "-q"]);
    assert_eq!(ready.len(), 2);
    for session in 1..4 {
        let request = bench.request(session, &["true"]);
        let id = bench.run(&request).await;
        bench.docker.remove(request.key, Some(&id)).await.unwrap();
    }
    let deadline = Instant::now() + Duration::from_secs(15);
    while bench.left(&["network", "ls", "-q"]).len() != 2 {
        assert!(Instant::now() < deadline, "the number gets right again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    // Somebody tidies up: the first start hears of it, the next one is well again.
    for network in bench.left(&["network", "ls", "-q"]) {
        assert!(
            Command::new("docker")
                .args(["network", "rm", &network])
                .output()
                .unwrap()
                .status
                .success()
        );
    }
    let unlucky = bench.request(9, &["true"]);
    let error = match bench.docker.create(&unlucky).await {
        Ok(id) => bench.docker.start(&id).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(cause(&error), Some(Cause::NetworkFailed), "{error:?}");
    bench.docker.remove(unlucky.key, None).await.unwrap();
    bench.run(&bench.request(10, &["true"])).await;
}

#[tokio::test]
async fn agents_on_one_engine_do_not_get_in_each_others_way() {
    let bench = Bench::with(|config| config.network.warm = 2).await;
    let mut config = bench.config.clone();
    config.agent = AgentId::new(7);
    let other = Docker::connect(config).unwrap();
    let (one, two) = tokio::join!(bench.docker.prepare(), other.prepare());
    one.unwrap();
    two.unwrap();
    assert_eq!(bench.left(&["network", "ls", "-q"]).len(), 4);
    bench.run(&bench.request(1, &["sleep", "100"])).await;
    assert_eq!(other.list().await.unwrap(), []);
    assert_eq!(other.find(bench.request(1, &[]).key).await.unwrap(), None);
    assert_eq!(bench.docker.list().await.unwrap().len(), 1);
    other.dispose().await.unwrap();
    bench.docker.dispose().await.unwrap();
    // The one in use stays.
    assert_eq!(bench.left(&["network", "ls", "-q"]).len(), 1);
}

#[tokio::test]
async fn the_firewall_keeps_sessions_from_the_node() {
    let bench = Bench::with(|config| config.network.firewall = FirewallMode::Require).await;
    bench.docker.prepare().await.unwrap();
    bench.docker.prepare().await.unwrap();
    let prefix = format!("ls{}-+", &bench.config.cluster.short()[4..]);
    let rules = || {
        let output = Command::new("/usr/sbin/iptables")
            .args(["-w", "5", "-S"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(|line| line.contains(&prefix)).count()
    };
    assert_eq!(rules(), 5, "each rule once");

    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = format!(
        "gw=$(ip route | sed -n 's/default via \\([0-9.]*\\).*/\\1/p'); echo gw=$gw; nc -w 2 $gw {port} </dev/null && echo reached"
    );
    let request = bench.shell(1, &script);
    let id = bench.run(&request).await;
    bench.exit(&request).await;
    let out = text(&bench.output(&id).await, OutputKind::Stdout);
    assert!(
        out.contains("gw=10.214.") && !out.contains("reached"),
        "{out}"
    );

    // Containers of one session do reach each other.
    let mut server = bench.shell(2, "echo hi | nc -l -p 7000; sleep 5");
    server.spec.hostname = "one".to_owned();
    let server_id = bench.run(&server).await;
    let address = Command::new("docker")
        .args([
            "inspect",
            "-f",
            "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
            &server_id,
        ])
        .output()
        .unwrap();
    let address = String::from_utf8_lossy(&address.stdout).trim().to_owned();
    let call = format!("sleep 0.3; nc -w 3 {address} 7000 </dev/null");
    let mut mate = bench.shell(2, &call);
    mate.key.rank = Rank(1);
    let mate_id = bench.run(&mate).await;
    bench.exit(&mate).await;
    assert_eq!(
        text(&bench.output(&mate_id).await, OutputKind::Stdout),
        "hi\n"
    );

    // Another session does not.
    let stranger = bench.shell(3, &call);
    let stranger_id = bench.run(&stranger).await;
    bench.exit(&stranger).await;
    assert_eq!(
        text(&bench.output(&stranger_id).await, OutputKind::Stdout),
        ""
    );

    for request in [request, server, mate, stranger] {
        bench.docker.remove(request.key, None).await.unwrap();
    }
    bench.docker.dispose().await.unwrap();
    assert_eq!(rules(), 0);
}

#[tokio::test]
async fn a_pull_without_room_is_refused_before_it_begins() {
    // More than any disk has: what is here already is used all the same.
    let bench = Bench::with(|config| config.image_low_water_percent = 100).await;
    bench.docker.info().await.unwrap(); // says where images lie
    let request = bench.shell(1, "exit 4");
    bench.run(&request).await;
    assert_eq!(bench.exit(&request).await.code, 4);

    // Nobody listens there: had it been asked, the network would be the cause.
    let (progress, _) = mpsc::channel(1);
    let refused = bench
        .docker
        .ensure_image("127.0.0.1:9/no/such:1", None, PullRule::Tag, None, progress)
        .await
        .unwrap_err();
    assert_eq!(cause(&refused), Some(Cause::NoSpace));
    let words = refused.to_string();
    assert!(
        words.starts_with("no room to pull 127.0.0.1:9/no/such:1: ") && words.contains("(100 %)"),
        "{words}"
    );
}
