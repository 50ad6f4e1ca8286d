//! What tests with a real engine need: a tiny image, an agent's view of the engine with
//! directories of its own, and a clean engine afterwards, even when a test fails.

// A helper of tests: to panic is to fail the test.
#![allow(clippy::unwrap_used, unreachable_pub)]

use longshore_agent::network::{FirewallMode, PoolConfig};
use longshore_agent::runtime::docker::{Docker, DockerConfig};
use longshore_agent::runtime::{Containers, CreateRequest, Found, FoundStatus, ImageFacts};
use longshore_common::amount::{SlotName, Slots};
use longshore_common::ids::{AgentId, Attempt, ClusterId, ContainerKey, Fence, Rank, SessionId};
use longshore_common::session::{ContainerSpec, Exit, PullRule, SessionType};
use longshore_common::wire::OutputKind;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// The image that tests make themselves where it is absent.
pub const IMAGE: &str = "longshore/base:latest";

/// One agent on the engine of this machine, in a cluster that nobody else has.
pub struct Bench {
    pub docker: Docker,
    pub image: ImageFacts,
    pub config: DockerConfig,
    pub dir: tempfile::TempDir,
}

impl Bench {
    pub async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub async fn with(change: impl FnOnce(&mut DockerConfig)) -> Self {
        ensure_image();
        let dir = tempfile::tempdir().unwrap();
        let bits = uuid::Uuid::now_v7().as_u128();
        let mut config = DockerConfig::new(ClusterId::new(bits), AgentId::new(bits));
        config.state_dir = dir.path().join("state");
        config.run_dir = dir.path().join("run");
        config.device_dir = dir.path().to_owned();
        config.network = PoolConfig {
            range: "10.214.0.0/16".parse().unwrap(),
            warm: 1,
            firewall: FirewallMode::Off,
            ..PoolConfig::default()
        };
        change(&mut config);
        let docker = Docker::connect(config.clone()).unwrap();
        let (progress, _) = mpsc::channel(1);
        let image = docker
            .ensure_image(IMAGE, None, PullRule::None, None, progress)
            .await
            .unwrap();
        Self {
            docker,
            image,
            config,
            dir,
        }
    }

    pub fn request(&self, session: u64, command: &[&str]) -> CreateRequest {
        CreateRequest {
            key: ContainerKey {
                session: SessionId(session),
                rank: Rank::MAIN,
                attempt: Attempt::FIRST,
            },
            cluster: self.config.cluster,
            agent: self.config.agent,
            fence: Fence(1),
            spec: ContainerSpec {
                image: IMAGE.to_owned(),
                digest: None,
                pull: PullRule::None,
                command: command.iter().map(|word| (*word).to_owned()).collect(),
                workdir: None,
                tty: false,
                environment: [("GREETING".to_owned(), "hello".to_owned())].into(),
                uid: 20_000,
                gid: 20_000,
                slots: Slots::new()
                    .with(SlotName::cpu(), 500)
                    .with(SlotName::mem(), 64 << 20),
                shm_bytes: 16 << 20,
                pids_max: 64,
                devices: Vec::new(),
                hostname: format!("s-{session}"),
                owner: "dana".to_owned(),
                kind: SessionType::Batch,
                root: false,
                sudo: false,
                ports: Vec::new(),
            },
            image: self.image.clone(),
            grace_s: 2,
            not_after: None,
            device_nodes: Vec::new(),
            gpu_way: None,
            delivered: Default::default(),
            network: None,
        }
    }

    pub fn shell(&self, session: u64, script: &str) -> CreateRequest {
        self.request(session, &["/bin/sh", "-c", script])
    }

    /// Creates and starts.
    pub async fn run(&self, request: &CreateRequest) -> String {
        let id = self.docker.create(request).await.unwrap();
        self.docker.start(&id).await.unwrap();
        id
    }

    pub async fn find(&self, request: &CreateRequest) -> Found {
        self.docker
            .find(request.key)
            .await
            .unwrap()
            .expect("the container exists")
    }

    pub async fn exit(&self, request: &CreateRequest) -> Exit {
        for _ in 0..500 {
            if let FoundStatus::Exited(exit) = self.find(request).await.status {
                return exit;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{} did not end", request.key);
    }

    /// All of a container's output, once it has ended.
    pub async fn output(&self, docker_id: &str) -> Vec<longshore_agent::runtime::OutputChunk> {
        let (sink, mut chunks) = mpsc::channel(1024);
        let copy = self.docker.output(docker_id, None, sink);
        let collect = async {
            let mut all = Vec::new();
            while let Some(chunk) = chunks.recv().await {
                all.push(chunk);
            }
            all
        };
        let both = async { tokio::join!(copy, collect) };
        let (result, all) = tokio::time::timeout(Duration::from_secs(30), both)
            .await
            .expect("the output ends");
        result.unwrap();
        all
    }

    /// Waits until a container has said something.
    pub async fn until_says(&self, docker_id: &str, kind: OutputKind, words: &str) {
        let (sink, mut chunks) = mpsc::channel(64);
        let copy = self.docker.output(docker_id, None, sink);
        let mut said = Vec::new();
        let listen = async {
            while let Some(chunk) = chunks.recv().await {
                if chunk.kind == kind {
                    said.extend(chunk.bytes);
                }
                if String::from_utf8_lossy(&said).contains(words) {
                    return true;
                }
            }
            false
        };
        let heard = async {
            tokio::pin!(listen);
            tokio::select! {
                heard = &mut listen => heard,
                _ = copy => listen.await, // it has ended; what it said is still in the queue
            }
        };
        let heard = tokio::time::timeout(Duration::from_secs(30), heard).await;
        assert_eq!(
            heard,
            Ok(true),
            "{words:?} in {}",
            String::from_utf8_lossy(&said)
        );
    }

    /// Ids or names of what the engine has of this cluster: `ps -aq`, `network ls -q`.
    pub fn left(&self, words: &[&str]) -> Vec<String> {
        let filter = format!("label=io.longshore.cluster={}", self.config.cluster);
        let output = Command::new("docker")
            .args(words)
            .args(["--filter", &filter])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

impl Bench {
    /// Whether the engine has links for networks of this cluster: one that is still being
    /// made shows here before it is listed.
    fn has_links(&self) -> bool {
        let prefix = format!("ls{}-", &self.config.cluster.short()[4..]);
        let links = std::fs::read_dir("/sys/class/net").into_iter().flatten();
        links
            .flatten()
            .any(|link| link.file_name().to_string_lossy().starts_with(&prefix))
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let containers = (&["ps", "-aq"][..], &["rm", "-fv"][..]);
        let networks = (&["network", "ls", "-q"][..], &["network", "rm"][..]);
        // Until nothing is left: a removal may be under way already, and what was asked for a
        // moment ago may still be being made.
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let mut clean = !self.has_links();
            for (list, remove) in [containers, networks] {
                let ids = self.left(list);
                if !ids.is_empty() {
                    clean = false;
                    let _ = Command::new("docker")
                        .args(remove)
                        .args(ids)
                        .stdout(Stdio::null())
                        .stderr(Stdio::null())
                        .status();
                }
            }
            if clean {
                return;
            }
            if Instant::now() > deadline {
                eprintln!("cluster {} is not cleaned up", self.config.cluster);
                return; // a panic here would hide why the test failed
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Something that hangs up on whoever calls, and counts them.
pub async fn deaf_registry() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    (address, calls)
}

fn ensure_image() {
    static ONCE: Mutex<()> = Mutex::new(());
    let _one = ONCE.lock().unwrap();
    let quiet = |words: &[&str]| {
        Command::new("docker")
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
            .success()
    };
    if quiet(&["image", "inspect", IMAGE]) {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let bin = root.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    for dir in ["tmp", "etc", "proc", "dev", "sys", "home"] {
        std::fs::create_dir(root.path().join(dir)).unwrap();
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    std::fs::copy(
        busybox.expect("busybox-static is installed"),
        bin.join("busybox"),
    )
    .unwrap();
    let listed = Command::new(bin.join("busybox"))
        .arg("--list")
        .output()
        .unwrap();
    for applet in String::from_utf8_lossy(&listed.stdout)
        .lines()
        .filter(|name| *name != "busybox")
    {
        std::os::unix::fs::symlink("busybox", bin.join(applet)).unwrap();
    }
    let mut tar = Command::new("tar")
        .arg("-C")
        .arg(root.path())
        .args(["-c", "."])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let archive = tar.stdout.take().unwrap();
    let imported = Command::new("docker")
        .args([
            "import",
            "--change",
            "ENV PATH=/bin",
            "--change",
            "CMD [\"/bin/sh\"]",
            "-",
            IMAGE,
        ])
        .stdin(archive)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(
        imported.success() && tar.wait().unwrap().success(),
        "the test image could not be made"
    );
}
