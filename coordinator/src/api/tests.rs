//! The API as its callers meet it: the router with a real store and engine, in process.

mod addresses;
mod arrays;
mod devices;
mod drain;
mod given;
mod http;
mod matrix;
mod outside;
mod prolong;
mod redaction;
mod settings;
mod steer;
mod system;
mod usage;

use super::Signalling;
use super::logs::{OpeningLogs, Releasing};
use super::*;
use crate::config::{ActionCall, Hidden, UiAction};
use crate::engine::tests::poll;
use crate::engine::{self, wall_clock};
use crate::identity::Denied;
use crate::live::Live;
use crate::outbound::Allowed;
use crate::rates::Rates;
use crate::settings::{Held, Settings, Source};
use crate::store::Store;
use axum::http::StatusCode;
use futures_util::StreamExt as _;
use longshore_common::agent::{Device, GpuWay, Health, Inventory, Links, RuntimeState};
use longshore_common::amount::{SlotName, Slots};
use longshore_common::ids::{
    AgentId, ClusterId, CoordinatorGeneration, DeviceId, DomainId, Fence, Generation, GroupId,
    PolicyId, ProjectId,
};
use longshore_common::session::{ContainerState, End, Exit};
use longshore_common::time::Timestamp;
use longshore_common::wire::SignalRequest;
use longshore_common::wire::{
    self, ContainerReport, Data, LogsRequest, OutcomeNumber, OutputKind, Totals,
};
use longshore_core::access::Level;
use longshore_core::model::{self, Agent, Change, Event, Group, Meta};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const AGENT: AgentId = AgentId::new(7);

pub(super) struct Fixture {
    router: Router,
    pub(super) app: App,
    stop: watch::Sender<bool>,
    pub(super) dir: tempfile::TempDir,
    bearer: Option<String>,
}

pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    body: Vec<u8>,
    /// It broke off: what came is not the whole.
    pub(super) broke: bool,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
    pub(super) fn code(&self) -> String {
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{}",
            self.text()
        );
        let problem: longshore_common::api::Problem = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem.status, self.status.as_u16());
        assert_eq!(
            problem.kind,
            format!("https://test:7420/help/{}", problem.code)
        );
        assert!(!problem.detail.is_empty() && !problem.instance.is_empty());
        assert_eq!(problem.request_id, self.header("x-request-id"));
        problem.code
    }
}

/// Output that a test agent has.
struct Canned(Option<Vec<Data>>);

impl Nodes for Canned {
    fn open(&self, _: AgentId, request: LogsRequest) -> OpeningLogs<'_> {
        let pieces = self.0.clone();
        Box::pin(async move {
            let pieces = pieces.ok_or_else(|| "the agent is not connected".to_owned())?;
            let from: Vec<_> = pieces
                .into_iter()
                .filter(|p| p.position >= request.position)
                .map(Ok)
                .collect();
            Ok(futures_util::stream::iter(from).boxed() as LogPieces)
        })
    }

    fn exec(&self, _: AgentId, _: wire::ExecRequest) -> BeginningExec<'_> {
        Box::pin(async { Err(crate::cluster::ClusterError::Away) })
    }

    fn tunnel(&self, _: AgentId, _: wire::TunnelRequest) -> Connecting<'_> {
        Box::pin(async { Err(crate::cluster::ClusterError::Away) })
    }

    fn release(&self, _: AgentId, device: DeviceId) -> Releasing<'_> {
        let known = self.0.is_some() && device.as_str() == "GPU-0";
        Box::pin(async move {
            known
                .then_some(())
                .ok_or(crate::cluster::ClusterError::Away)
        })
    }

    fn signal(&self, _: AgentId, request: SignalRequest) -> Signalling<'_> {
        let known = self.0.is_some() && request.signal == "INT";
        Box::pin(async move {
            known
                .then_some(())
                .ok_or_else(|| "the agent is not connected".to_owned())
        })
    }
}

fn piece(position: u64, kind: OutputKind, bytes: &[u8]) -> Data {
    Data {
        position,
        kind,
        at: Timestamp(1),
        bytes: bytes.to_vec(),
    }
}

pub(super) fn device(index: u32) -> Device {
    Device {
        id: format!("GPU-{index}").parse().unwrap(),
        index,
        slot: SlotName::cuda_device(),
        capacity: 1000,
        model: "Test GPU".into(),
        memory_bytes: 1 << 34,
        pci: Box::default(),
        minor: Some(index),
        numa: None,
        links: Links::default(),
        health: Health::Healthy,
        health_detail: Box::default(),
    }
}

pub(super) fn inventory() -> Inventory {
    let offered = Slots::new()
        .with(SlotName::cpu(), 8000)
        .with(SlotName::mem(), 1 << 34);
    Inventory {
        hostname: "gpu01".into(),
        arch: "amd64".into(),
        agent_version: "0.1.0".into(),
        cgroup_version: 2,
        gpu_way: Some(GpuWay::Cdi),
        total: offered.clone(),
        offered,
        devices: vec![device(0), device(1)],
        ..Inventory::default()
    }
}

fn agent() -> Agent {
    Agent {
        id: AGENT,
        version: 1,
        name: "gpu01".to_owned(),
        group: GroupId::new(1),
        state: longshore_common::agent::AgentState::Alive,
        schedulable: true,
        fence: Fence(1),
        generation: Generation(1),
        keys: vec![[1; 32]],
        fingerprint: "f".to_owned(),
        machine: "m".to_owned(),
        boot_id: String::new(),
        inventory: Some(Arc::new(inventory())),
        runtime: RuntimeState::Up,
        disk_low: false,
        created_at: wall_clock(),
        lost_since: None,
        braked_at: None,
        braked_ms: 0,
        unclaimed: Vec::new(),
        drain: None,
        cordons: BTreeMap::new(),
        told: None,
    }
}

async fn fixture(logs: Option<Vec<Data>>, with_agent: bool) -> Fixture {
    fixture_with(logs, with_agent, Vec::new()).await
}

/// The same with more in it from the beginning.
async fn fixture_with(logs: Option<Vec<Data>>, with_agent: bool, more: Vec<Change>) -> Fixture {
    limited(logs, with_agent, more, (1_000_000, 1_000_000)).await
}

/// An installation whose administrators may reach into sessions of others.
pub(super) async fn ready_with_admin_exec() -> Fixture {
    let rights = RightsSettings { admin_exec: true };
    let limits = (1_000_000, 1_000_000);
    let mut f = made(
        Some(Vec::new()),
        true,
        Vec::new(),
        limits,
        rights,
        links::Links::default(),
    )
    .await;
    f.set_up().await;
    f
}

/// The same with limits for keypairs and for clients nobody knows.
async fn limited(
    logs: Option<Vec<Data>>,
    with_agent: bool,
    more: Vec<Change>,
    limits: (u32, u32),
) -> Fixture {
    let rights = RightsSettings::default();
    made(
        logs,
        with_agent,
        more,
        limits,
        rights,
        links::Links::default(),
    )
    .await
}

/// An installation whose links are mailed, set up.
pub(super) async fn with_links(links: links::Links) -> Fixture {
    let rights = RightsSettings::default();
    let limits = (1_000_000, 1_000_000);
    let mut f = made(None, true, Vec::new(), limits, rights, links).await;
    f.set_up().await;
    f
}

/// The defaults, and a file that may say otherwise: `conf/all.toml` below the directory.
fn settings(dir: &std::path::Path) -> Settings {
    std::fs::create_dir(dir.join("conf")).unwrap();
    let file = dir.join("conf/all.toml");
    std::fs::write(&file, "").unwrap();
    // What sets secure keys must not be open to everybody.
    let own = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, own).unwrap();
    let source = Source {
        file: Some(file),
        ..Source::default()
    };
    let begun = source.read(&model::StoredSettings::default()).unwrap();
    Settings::new(source, begun, Box::new(|_| Ok(())))
}

async fn made(
    logs: Option<Vec<Data>>,
    with_agent: bool,
    more: Vec<Change>,
    limits: (u32, u32),
    rights: RightsSettings,
    links: links::Links,
) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let keyring = crate::secrets::Keyring::fresh();
    let meta = Meta {
        cluster: ClusterId::new(1),
        generation: CoordinatorGeneration(1),
        next_session: 1,
        next_uid: 20_000,
    };
    let (store, mut state) =
        Store::open(&dir.path().join("longshore.db"), &keyring, || meta).unwrap();
    let secrets = store.secrets();
    let group = Group {
        default: true,
        creation_retries: Some(0),
        ..Group::new(GroupId::new(1), "default")
    };
    let mut changes = vec![Change::Group(group)];
    if with_agent {
        changes.push(Change::Agent(Box::new(agent())));
    }
    changes.extend(more);
    for change in &changes {
        state.apply(change);
    }
    store.commit(changes).await.unwrap();
    let identity = Arc::new(Identity::new(&state, dir.path()));
    identity.offer_setup("https://test:7420").unwrap();
    let reader = store.reader();
    let (effects, mut due) = tokio::sync::mpsc::unbounded_channel();
    let people: Arc<dyn engine::Follow> = Arc::<Identity>::clone(&identity);
    let live = Arc::new(Live::default());
    let wake = Arc::new(notify::Wake::default());
    let waker: Arc<dyn engine::Follow> = Arc::<notify::Wake>::clone(&wake);
    let (engine, _) = engine::start(state, store, live, effects, vec![people, waker]);
    tokio::spawn(async move { while due.recv().await.is_some() {} });
    let (stop, stopping) = watch::channel(false);
    let app = App::new(Parts {
        actions: Held::new(test_actions()),
        outbound: Held::new(Outbound::new(Allowed::of(&["127.0.0.1".to_owned()]))),
        http: Arc::default(),
        cors: Held::new(test_cors()),
        areas: areas::Areas::default(),
        certificates: None,
        execs: Execs::default(),
        tunnels: Tunnels::default(),
        browsers: Browsers::at("", Some(7422), "https://gpu.lab:7420"),
        notify: notify::Notifying::new(&[9; 32], wake),
        engine,
        reader: reader.clone(),
        secrets,
        nodes: Arc::new(Canned(logs)),
        identity,
        defaults: Held::new(SessionDefaults {
            image: "longshore/base".to_owned(),
            system_image: "longshore/files".to_owned(),
            ..SessionDefaults::default()
        }),
        rights: Held::new(rights),
        settings: settings(dir.path()),
        cluster: ClusterId::new(1),
        ca_pem: "-----BEGIN CERTIFICATE-----\n".to_owned(),
        pin: "pin".to_owned(),
        host: "test".to_owned(),
        address: Held::new("https://test:7420".to_owned()),
        agents_address: "test:7420".to_owned(),
        data_dir: dir.path().to_owned(),
        cursors: Cursors::new(&[3; 32]),
        audit: audit::Auditing::default(),
        rates: Arc::new(Rates::load(limits, Vec::new(), dir.path(), 0, 0)),
        replays: Replays::default(),
        vaults: Vaults::new(keyring, reader, Vec::new(), &[4; 32]),
        logins: logins::Logins::default(),
        links,
        stopping,
    });
    Fixture {
        router: router(app.clone()),
        app,
        stop,
        dir,
        bearer: None,
    }
}

pub(super) async fn ready() -> Fixture {
    let mut f = fixture(None, true).await;
    f.set_up().await;
    f
}

impl Fixture {
    fn setup_token(&self) -> String {
        let text = std::fs::read_to_string(self.dir.path().join("setup-token")).unwrap();
        text.trim().split_once("/setup#").unwrap().1.to_owned()
    }

    async fn set_up(&mut self) -> Value {
        let body = json!({ "token": self.setup_token(), "email": "dana@lab.example" });
        let answer = self.post("/api/v1/setup", &body).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let keys = answer.json();
        self.bearer = Some(format!(
            "Bearer {}.{}",
            keys["access_key"].as_str().unwrap(),
            keys["secret_key"].as_str().unwrap()
        ));
        keys
    }

    pub(super) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Body,
    ) -> Answer {
        let mut request = axum::http::Request::builder().method(method).uri(path);
        if let Some(bearer) = &self.bearer
            && !headers.iter().any(|(name, _)| *name == "authorization")
        {
            request = request.header("authorization", bearer);
        }
        for (name, value) in headers {
            if !value.is_empty() {
                request = request.header(*name, *value);
            }
        }
        let mut request = request.body(body).unwrap();
        let peer = std::net::SocketAddr::from(([192, 0, 2, 1], 4711));
        request.extensions_mut().insert(listener::Peer(peer));
        let response = tower::ServiceExt::oneshot(self.router.clone(), request)
            .await
            .unwrap();
        let (parts, body) = response.into_parts();
        let (mut pieces, mut body, mut broke) = (body.into_data_stream(), Vec::new(), false);
        while let Some(piece) = futures_util::StreamExt::next(&mut pieces).await {
            match piece {
                Ok(piece) => body.extend_from_slice(&piece),
                Err(_) => broke = true,
            }
        }
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
            broke,
        }
    }

    /// From now on somebody else asks.
    pub(super) fn bearer(&mut self, bearer: &str) {
        self.bearer = Some(bearer.to_owned());
    }

    /// The credentials of who asks.
    pub(super) fn bearer_text(&self) -> String {
        self.bearer.clone().unwrap_or_default()
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], Body::empty()).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(
            "POST",
            path,
            &[("content-type", "application/json")],
            Body::from(body.to_string()),
        )
        .await
    }

    pub(super) async fn submit(&self, body: Value) -> Answer {
        self.post("/api/v1/sessions", &body).await
    }

    /// What every start of the process does.
    pub(super) async fn start(&self, idle: Option<longshore_common::limits::IdlePolicy>) {
        let group = Group::new(GroupId::new(9), "default");
        let beginning = model::Beginning {
            group,
            domain: DomainId::new(10),
            project: ProjectId::new(11),
            keypair_policy: PolicyId::new(12),
            user_policy: PolicyId::new(13),
            project_policy: PolicyId::new(14),
            service_account_admins: false,
            throttle: longshore_identity::throttle::Limits::default(),
            scheduler: model::SchedulerSettings {
                idle,
                ..model::SchedulerSettings::default()
            },
        };
        let event = Event::Started(Box::new(beginning));
        self.app.engine.ask(event).await.unwrap().unwrap();
    }

    /// Returns once a request waits for a session to change: later than so many waits.
    pub(super) async fn somebody_waits(&self, before: usize) {
        let began = async {
            while self.app.engine.waits() == before {
                tokio::task::yield_now().await;
            }
        };
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, began).await.expect("it waits");
    }

    /// Lets the agent report that the container of a session runs.
    pub(super) async fn runs(&self, id: &str) {
        let id = id.parse().unwrap();
        let key = self
            .app
            .engine
            .read(move |s, _| s.sessions[&id].containers[0].key)
            .await
            .unwrap();
        for state in [ContainerState::Created, ContainerState::Running] {
            let generation = self
                .app
                .engine
                .read(|s, _| s.agents[&AGENT].generation)
                .await
                .unwrap();
            let item = ContainerReport {
                key,
                state,
                docker_id: "abc".to_owned(),
                started_at: Some(wall_clock()),
                fence: Fence(1),
                idle_deadline: None,
                frozen: false,
                idle: false,
                used_at: None,
                image: None,
            };
            let event = Event::Report {
                agent: AGENT,
                applied: generation,
                items: vec![item],
                whole: false,
                rebooted: false,
            };
            self.app.engine.ask(event).await.unwrap().unwrap();
        }
    }

    /// No heartbeats come from the agent for long enough.
    pub(super) async fn loses_its_agent(&self) {
        let event = Event::Silent {
            agent: AGENT,
            for_ms: 15_000,
            lost_after_ms: 15_000,
        };
        self.app.engine.ask(event).await.unwrap().unwrap();
    }

    async fn ends(&self, id: &str, code: i32) {
        let id = id.parse().unwrap();
        let key = self
            .app
            .engine
            .read(move |s, _| s.sessions[&id].containers[0].key)
            .await
            .unwrap();
        for number in [OutcomeNumber::Ended, OutcomeNumber::Closed] {
            let outcome = wire::Outcome {
                key,
                number,
                end: Some(End::Exited(Exit {
                    code,
                    signal: None,
                    oom: false,
                    at: wall_clock(),
                })),
                started_at: Some(wall_clock()),
                at: wall_clock(),
                tail: b"last words\n".to_vec(),
                totals: Totals {
                    memory_peak: Some(1),
                    cpu_ms: Some(2),
                    // A hundred bytes were written before the tail.
                    output: Some(111),
                    ..Totals::default()
                },
                devices: Vec::new(),
            };
            self.app
                .engine
                .ask(Event::Outcome {
                    agent: AGENT,
                    outcome: Box::new(outcome),
                })
                .await
                .unwrap()
                .unwrap();
        }
    }
}

pub(super) fn batch() -> Value {
    json!({ "command": ["true"], "slots": { "cpu": "1", "mem": "1g" } })
}

#[tokio::test]
async fn set_up_happens_once() {
    let mut f = fixture(None, true).await;
    for operation in OPERATIONS.iter().filter(|o| !o.is_open()) {
        let answer = f
            .send(
                operation.method.as_str(),
                &example(operation),
                &[],
                Body::empty(),
            )
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (503, "LS-SETUP-REQUIRED"),
            "{}",
            operation.id
        );
    }
    assert_eq!(f.get("/nowhere").await.code(), "LS-SETUP-REQUIRED");
    for open in [
        "/healthz",
        "/readyz",
        "/version",
        "/ca.pem",
        "/help/LS-BUSY",
        "/api/v1/openapi.json",
    ] {
        assert_eq!(f.get(open).await.status, 200, "{open}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    let file = f.dir.path().join("setup-token");
    assert_eq!(
        std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let wrong = f
        .post("/api/v1/setup", &json!({ "token": "x", "email": "a@b" }))
        .await;
    assert_eq!(wrong.code(), "LS-LINK-GONE");
    let token = f.setup_token();
    let wrong = f
        .post(
            "/api/v1/setup",
            &json!({ "token": token, "email": "nobody", "username": "-" }),
        )
        .await;
    assert_eq!(wrong.code(), "LS-INVALID");
    let pointers: Vec<String> = wrong.json()["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["pointer"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(pointers, ["/email", "/username"]);
    let keys = f.set_up().await;
    assert_eq!(keys["username"], "dana");
    assert!(!file.exists());
    let again = f
        .post("/api/v1/setup", &json!({ "token": token, "email": "a@b" }))
        .await;
    assert_eq!(
        (again.status.as_u16(), again.code().as_str()),
        (404, "LS-NOT-FOUND")
    );
    let me = f.get("/api/v1/me").await.json();
    assert_eq!(
        (me["email"].as_str(), me["role"].as_str()),
        (Some("dana@lab.example"), Some("superadmin"))
    );
    assert!(me.get("secret_key").is_none());
}

/// A path of an operation that leads somewhere.
fn example(operation: &Operation) -> String {
    let of_session = |prefix| operation.path.contains(prefix);
    let word = if of_session("/sessions/") || of_session("/s/") {
        "s-1"
    } else {
        "x"
    };
    operation
        .path
        .replace("{id}", word)
        .replace("{code}", "LS-BUSY")
        .replace("{exec}", "x")
        .replace("{app}", "x")
        .replace("{*rest}", "x")
}

#[tokio::test]
async fn every_route_has_one_row_and_wants_credentials() {
    let f = ready().await;
    let (mut ids, mut routes) = (BTreeSet::new(), BTreeSet::new());
    for operation in OPERATIONS {
        assert!(ids.insert(operation.id), "{} stands twice", operation.id);
        assert!(
            routes.insert((operation.path, operation.method.as_str())),
            "{} stands twice",
            operation.path
        );
        assert!(operation.row.is_some() && !operation.summary.is_empty());
        for code in operation.codes {
            assert_eq!(
                errors::find(code).code,
                *code,
                "{} names a code that does not exist",
                operation.id
            );
        }
        if operation.is_open() {
            continue;
        }
        let (method, path) = (operation.method.as_str(), example(operation));
        let none = f
            .send(method, &path, &[("authorization", "")], Body::empty())
            .await;
        assert_eq!(
            (none.status.as_u16(), none.code().as_str()),
            (401, "LS-AUTH-REQUIRED"),
            "{}",
            operation.id
        );
        assert!(none.header("www-authenticate").starts_with("Bearer"));
        for bad in ["Bearer x.y", "Bearer x", "Basic eDp5", "Digest x", "é"] {
            let answer = f
                .send(method, &path, &[("authorization", bad)], Body::empty())
                .await;
            assert_eq!(answer.code(), "LS-AUTH-FAILED", "{} {bad}", operation.id);
        }
        // Nothing is told about parameters to one who has not proved to be somebody.
        let none = f
            .send(
                method,
                &format!("{path}?nonsense=1"),
                &[("authorization", "")],
                Body::empty(),
            )
            .await;
        assert_eq!(none.status, 401);
        let known = f.send(method, &path, &[], Body::empty()).await;
        assert_ne!(known.status, 401, "{}", operation.id);
    }
}

#[tokio::test]
async fn basic_credentials_and_wrong_secrets() {
    use base64::Engine as _;
    let f = ready().await;
    let pair = f
        .bearer
        .clone()
        .unwrap()
        .strip_prefix("Bearer ")
        .unwrap()
        .to_owned();
    let (access, secret) = pair.split_once('.').unwrap();
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{access}:{secret}"));
    assert_eq!(
        f.send(
            "GET",
            "/api/v1/me",
            &[("authorization", &format!("Basic {basic}"))],
            Body::empty()
        )
        .await
        .status,
        200
    );
    let wrong = format!("Bearer {access}.{}x", &secret[..secret.len() - 1]);
    let answer = f
        .send(
            "GET",
            "/api/v1/me",
            &[("authorization", &wrong)],
            Body::empty(),
        )
        .await;
    assert_eq!(answer.code(), "LS-AUTH-FAILED");
    let answer = f.get(&format!("/api/v1/me?access_key={access}")).await;
    assert_eq!(answer.code(), "LS-CREDENTIALS-IN-URL");
    assert!(!answer.text().contains(access));
}

#[tokio::test]
async fn failures_have_one_shape() {
    let f = ready().await;
    assert_eq!(f.get("/api/v1/nothing").await.code(), "LS-ROUTE");
    let answer = f
        .send("DELETE", "/api/v1/sessions", &[], Body::empty())
        .await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (405, "LS-METHOD")
    );
    assert_eq!(answer.header("allow"), "GET, POST");
    let json_type = ("content-type", "application/json");
    let path = "/api/v1/sessions";
    let answer = f
        .send("POST", path, &[json_type], Body::from("{\n\"a\""))
        .await;
    assert_eq!(answer.code(), "LS-SYNTAX");
    assert!(answer.text().contains("line 2"), "{}", answer.text());
    assert_eq!(
        f.send("POST", path, &[], Body::from("{}")).await.code(),
        "LS-MEDIA-TYPE"
    );
    let answer = f
        .send(
            "POST",
            path,
            &[json_type, ("content-encoding", "gzip")],
            Body::from("{}"),
        )
        .await;
    assert_eq!(answer.code(), "LS-MEDIA-TYPE");
    let large = format!("{{\"name\":\"{}\"}}", "x".repeat(1 << 20));
    assert_eq!(
        f.send("POST", path, &[json_type], Body::from(large))
            .await
            .code(),
        "LS-TOO-LARGE"
    );
    let answer = f.submit(json!({ "comand": ["x"] })).await;
    assert_eq!(answer.code(), "LS-UNKNOWN-FIELD");
    assert!(
        answer.text().contains("did you mean \\\"command\\\""),
        "{}",
        answer.text()
    );
    let answer = f
        .submit(json!({ "command": "x", "slots": { "cpu": 1 }, "tty": 3 }))
        .await;
    assert_eq!(answer.code(), "LS-INVALID");
    assert_eq!(answer.json()["errors"].as_array().unwrap().len(), 3);
    let answer = f
        .submit(json!({ "command": ["x"], "slots": { "cuda.device": "9" } }))
        .await;
    assert_eq!(answer.code(), "LS-FIT-NEVER");
    assert_eq!(answer.json()["limit"]["limit"], "2");
    let answer = f.get("/api/v1/sessions?stat=RUNNING").await;
    assert_eq!(answer.code(), "LS-PARAMETER");
    for bad in [
        "limit=0",
        "limit=501",
        "limit=x",
        "state=NO",
        "scope=x",
        "limit=1&limit=2",
    ] {
        assert_eq!(
            f.get(&format!("/api/v1/sessions?{bad}")).await.code(),
            "LS-PARAMETER",
            "{bad}"
        );
    }
    assert_eq!(
        f.get("/api/v1/sessions?cursor=AAAA").await.code(),
        "LS-CURSOR"
    );
    for missing in [
        "/api/v1/sessions/s-99",
        "/api/v1/sessions/nobody",
        "/api/v1/sessions/s-99/history",
        "/api/v1/agents/x",
        "/api/v1/resource-groups/x",
        "/api/v1/sessions/s-99/logs",
        "/api/v1/sessions/s-99/explain",
        "/help/LS-NO",
        "/api/v1/sessions/%FF",
    ] {
        assert_eq!(f.get(missing).await.code(), "LS-NOT-FOUND", "{missing}");
    }
    assert_eq!(
        f.post("/api/v1/sessions/s-99/terminate", &json!({}))
            .await
            .code(),
        "LS-NOT-FOUND"
    );
    let answer = f
        .send(
            "GET",
            "/api/v1/me",
            &[("x-request-id", "mine-1")],
            Body::empty(),
        )
        .await;
    assert_eq!(answer.header("x-request-id"), "mine-1");
    assert_eq!(
        answer.header("longshore-version"),
        env!("CARGO_PKG_VERSION")
    );
    let answer = f
        .send(
            "GET",
            "/api/v1/me",
            &[("x-request-id", "a b")],
            Body::empty(),
        )
        .await;
    assert!(answer.header("x-request-id").starts_with("req_"));
}

#[tokio::test]
async fn a_panic_ends_one_request() {
    let f = ready().await;
    let broken = Router::new()
        .route(
            "/broken",
            axum::routing::get(|| async { panic!("a test") as () }),
        )
        .layer(from_fn_with_state(f.app.clone(), outermost));
    let f = Fixture {
        router: broken,
        ..f
    };
    let answer = f.get("/broken").await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (500, "LS-INTERNAL")
    );
    assert!(!is_guarded());
}

#[tokio::test]
async fn a_session_from_request_to_end() {
    let f = ready().await;
    let mut body = batch();
    body["name"] = json!("train");
    body["slots"]["cuda.device"] = json!("1");
    body["environment"] = json!({ "A": "b" });
    body["lifetime_s"] = json!(3600);
    let answer = f.submit(body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(answer.header("location"), "/api/v1/sessions/s-1");
    let made = answer.json();
    assert_eq!(made["id"], "s-1");
    assert_eq!(answer.header("etag"), format!("\"{}\"", made["version"]));
    assert_eq!(made["environment"]["A"], "b");
    assert_eq!(made["slots"]["mem"], "1073741824");
    assert_eq!(made["stop_cause"], "lifetime");
    assert!(!answer.text().contains("null"));
    f.runs("s-1").await;
    let shown = f.get("/api/v1/sessions/train").await;
    let session = shown.json();
    assert_eq!(
        (
            session["state"].as_str(),
            session["agent_names"][0].as_str()
        ),
        (Some("RUNNING"), Some("gpu01"))
    );
    assert_eq!(session["containers"][0]["devices"][0]["model"], "Test GPU");
    let held = f.get("/api/v1/devices").await.json();
    assert_eq!(held["items"][0]["holders"][0]["session"], "s-1");
    assert_eq!(
        f.get("/api/v1/agents/gpu01").await.json()["occupied"]["cuda.device"],
        "1"
    );
    let same = f
        .send(
            "GET",
            "/api/v1/sessions/s-1",
            &[("if-none-match", shown.header("etag"))],
            Body::empty(),
        )
        .await;
    assert_eq!((same.status.as_u16(), same.body.len()), (304, 0));
    f.ends("s-1", 3).await;
    let session = f.get("/api/v1/sessions/train").await.json();
    assert_eq!(session["state"], "TERMINATED", "{session}");
    assert_eq!(
        (session["result"].as_str(), session["exit_code"].as_i64()),
        (Some("failure"), Some(3))
    );
    assert!(session.get("stop_at").is_none());
    let history = f.get("/api/v1/sessions/s-1/history").await.json();
    assert_eq!(history["items"][0]["to"], "PENDING");
    assert!(history["items"][0].get("from").is_none());
    assert!(
        f.get("/api/v1/sessions/s-1/explain").await.json()["text"]
            .as_str()
            .unwrap()
            .starts_with("s-1 ended")
    );
    let answer = f
        .post("/api/v1/sessions/s-1/terminate", &json!({}))
        .await
        .json();
    assert_eq!(answer["skipped"][0]["why"], "already-final");
    assert_eq!(f.get("/api/v1/sessions").await.json()["items"], json!([]));
    let all = f
        .get("/api/v1/sessions?scope=all&owner=dana&name=rai&type=batch&group=default")
        .await
        .json();
    assert_eq!(all["items"][0]["id"], "s-1");
    assert!(
        all["items"][0].get("environment").is_none() && all["items"][0].get("containers").is_none()
    );
    assert_eq!(
        f.get("/api/v1/sessions?state=terminated").await.json()["items"][0]["id"],
        "s-1"
    );
    assert_eq!(
        f.get("/api/v1/sessions?scope=all&owner=nobody")
            .await
            .json()["items"],
        json!([])
    );
}

#[tokio::test]
async fn a_session_shows_what_it_asked_for() {
    let f = ready().await;
    let mut body = batch();
    body["cluster"] = json!({ "size": 2 });
    body["arch"] = json!("amd64");
    body["designated"] = json!({ "agents": ["gpu01"], "mode": "strict" });
    body["start_at"] = json!("2100-01-01T00:00:00Z");
    let first = f.submit(body).await;
    assert_eq!(first.status, 201, "{}", first.text());
    let made = first.json();
    assert_eq!(made["cluster"], json!({ "size": 2, "mode": "single-node" }));
    assert_eq!(
        made["designated"],
        json!({ "agents": ["gpu01"], "mode": "strict" })
    );
    assert_eq!(made["arch"], "amd64");
    assert_eq!(made["start_at"], "2100-01-01T00:00:00.000Z");
    assert_eq!(made["class"], "not-ready");
    assert_eq!(made["blocked_by"][0]["rule"], "start-at");
    let mut after = batch();
    after["name"] = json!("after");
    after["depends_on"] = json!([{ "session": "s-1", "on": "any" }]);
    let after = f.submit(after).await.json();
    assert_eq!(
        after["depends_on"],
        json!([{ "session": "s-1", "on": "any", "met": false }])
    );
    let explained = f.get("/api/v1/sessions/after/explain").await.json();
    assert_eq!(explained["class"], "not-ready");
    f.post("/api/v1/sessions/s-1/terminate", &json!({})).await;
    // It ended, and memory has forgotten it: the database knows how.
    for (on, status, met) in [("ok", 422, Value::Null), ("fail", 201, json!(true))] {
        let mut late = batch();
        late["depends_on"] = json!([{ "session": "s-1", "on": on }]);
        let answer = f.submit(late).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert_eq!(answer.json()["depends_on"][0]["met"], met);
    }
    let mut many = batch();
    let wishes: Vec<Value> = (0..65).map(|_| json!({ "session": "s-1" })).collect();
    many["depends_on"] = json!(wishes);
    assert_eq!(f.submit(many).await.json()["code"], "LS-INVALID");
}

#[tokio::test]
async fn what_would_become_of_a_session() {
    let f = ready().await;
    let check = async |gpus: &str| {
        let mut body = batch();
        body["slots"]["cuda.device"] = json!(gpus);
        let answer = f.post("/api/v1/sessions/check", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    assert_eq!(check("2").await["verdict"], "now");
    let never = check("3").await;
    assert_eq!(never["verdict"], "never");
    assert_eq!(never["code"], "LS-FIT-NEVER");
    assert_eq!(never["limit"]["limit"], "2");
    let mut body = batch();
    body["slots"]["cuda.device"] = json!("1");
    assert_eq!(f.submit(body).await.status, 201);
    let later = check("2").await;
    assert_eq!(later["verdict"], "later");
    assert_eq!(later["class"], "capacity");
    assert_eq!(later["blocked_by"][0]["slot"], "cuda.device");
    assert_eq!(later["agents"][0]["verdict"], "short");
    assert_eq!(later["nearest"]["slots"]["cuda.device"], "1");
    let all = f.get("/api/v1/sessions?scope=all").await.json();
    assert_eq!(all["items"].as_array().map(Vec::len), Some(1));
}

/// Somebody who is no superadmin has one's own sessions and nobody else's.
#[tokio::test]
async fn a_user_has_ones_own_sessions_only() {
    let mut f = ready().await;
    f.start(None).await;
    assert_eq!(f.submit(batch()).await.status, 201);
    let made = f
        .post("/api/v1/users", &json!({ "email": "eve@lab.example" }))
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    let pair = made.json();
    let text = |name: &str| pair[name].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {}.{}", text("access_key"), text("secret_key"));
    f.bearer = Some(bearer);
    for path in ["", "/history", "/explain", "/logs", "/logs/stream"] {
        let answer = f.get(&format!("/api/v1/sessions/s-1{path}")).await;
        assert_eq!(answer.status, 404, "{path}");
    }
    let signal = json!({ "signal": "INT" });
    let answer = f.post("/api/v1/sessions/s-1/signal", &signal).await;
    assert_eq!(answer.status, 404);
    let answer = f.post("/api/v1/sessions/s-1/terminate", &json!({})).await;
    assert_eq!(answer.status, 404);
    let many = json!({ "ids": ["s-1"] });
    let answer = f.post("/api/v1/sessions/terminate", &many).await.json();
    assert_eq!(answer["skipped"][0]["why"], "not-found");
    for path in ["sessions?scope=all", "sessions?owner=dana"] {
        let page = f.get(&format!("/api/v1/{path}")).await.json();
        assert_eq!(page["items"], json!([]), "{path}");
    }
    let answer = f.get("/api/v1/join-tokens").await;
    assert_eq!(answer.json()["code"], "LS-FORBIDDEN");
}

#[tokio::test]
async fn queues_places_and_pages() {
    let f = ready().await;
    let mut body = batch();
    body["slots"]["cuda.device"] = json!("2");
    for _ in 0..6 {
        assert_eq!(f.submit(body.clone()).await.status, 201);
    }
    let third = f.get("/api/v1/sessions/s-3").await.json();
    assert_eq!(
        (third["state"].as_str(), third["position"].as_u64()),
        (Some("PENDING"), Some(2))
    );
    assert_eq!(third["blocked_by"][0]["rule"], "head-of-line");
    let explained = f.get("/api/v1/sessions/s-2/explain").await.json();
    assert_eq!(explained["agents"][0]["verdict"], "short");
    let (mut seen, mut path) = (Vec::new(), "/api/v1/sessions?limit=2".to_owned());
    loop {
        let page = f.get(&path).await.json();
        for item in page["items"].as_array().unwrap() {
            seen.push(item["id"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/api/v1/sessions?limit=2&cursor={next}");
        assert_eq!(
            f.get(&format!("/api/v1/sessions?limit=2&scope=all&cursor={next}"))
                .await
                .code(),
            "LS-CURSOR"
        );
    }
    assert_eq!(seen, ["s-6", "s-5", "s-4", "s-3", "s-2", "s-1"]);
    let listed = f.get("/api/v1/sessions?state=PENDING").await.json();
    assert_eq!(listed["items"][0]["position"], 5);
    let page = f
        .get("/api/v1/resource-groups/default/pending?limit=2")
        .await
        .json();
    assert_eq!(
        (
            page["items"][1]["id"].as_str(),
            page["items"][1]["position"].as_u64()
        ),
        (Some("s-3"), Some(2))
    );
    let next = page["next_cursor"].as_str().unwrap();
    let page = f
        .get(&format!(
            "/api/v1/resource-groups/default/pending?limit=2&cursor={next}"
        ))
        .await
        .json();
    assert_eq!(page["items"][0]["position"], 3);
    let group = f.get("/api/v1/resource-groups").await.json();
    assert_eq!(
        (
            group["items"][0]["pending"].as_u64(),
            group["items"][0]["capacity"]["cuda.device"].as_str()
        ),
        (Some(5), Some("2"))
    );
    let answer = f
        .post(
            "/api/v1/sessions/terminate",
            &json!({ "ids": ["s-2", "s-1", "s-77", "none"] }),
        )
        .await
        .json();
    assert_eq!(answer["cancelled"], json!(["s-2"]));
    assert_eq!(answer["terminating"], json!(["s-1"]));
    assert_eq!(answer["skipped"].as_array().unwrap().len(), 2);
    let many: Vec<String> = (0..201).map(|n| format!("s-{}", n + 1)).collect();
    assert_eq!(
        f.post("/api/v1/sessions/terminate", &json!({ "ids": many }))
            .await
            .code(),
        "LS-INVALID"
    );
    let answer = f
        .post("/api/v1/sessions/s-3/terminate", &json!({ "grace_s": 601 }))
        .await;
    assert_eq!(answer.code(), "LS-INVALID");
    assert_eq!(
        f.post("/api/v1/sessions/s-3/terminate", &json!({ "ids": ["s-4"] }))
            .await
            .code(),
        "LS-INVALID"
    );
}

#[tokio::test]
async fn a_repeated_request_makes_one_session() {
    let f = ready().await;
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", "k1"),
    ];
    let body = batch().to_string();
    let first = f
        .send(
            "POST",
            "/api/v1/sessions",
            &headers,
            Body::from(body.clone()),
        )
        .await;
    let second = f
        .send("POST", "/api/v1/sessions", &headers, Body::from(body))
        .await;
    assert_eq!(
        (first.status, second.status),
        (StatusCode::CREATED, StatusCode::CREATED)
    );
    assert_eq!(first.json()["id"], second.json()["id"]);
    assert_eq!(
        (
            first.header("idempotent-replayed"),
            second.header("idempotent-replayed")
        ),
        ("", "true")
    );
    let other = f
        .send(
            "POST",
            "/api/v1/sessions",
            &headers,
            Body::from(json!({ "command": ["false"] }).to_string()),
        )
        .await;
    assert_eq!(
        (other.status.as_u16(), other.code().as_str()),
        (422, "LS-IDEMPOTENCY-BODY")
    );
    let long = "x".repeat(129);
    let headers = [
        ("content-type", "application/json"),
        ("idempotency-key", long.as_str()),
    ];
    assert_eq!(
        f.send("POST", "/api/v1/sessions", &headers, Body::from("{}"))
            .await
            .code(),
        "LS-INVALID"
    );
}

#[tokio::test]
async fn long_polls_return_with_the_change_or_at_the_end() {
    let f = ready().await;
    let made = f.submit(batch()).await;
    let shown = f.get("/api/v1/sessions/s-1").await;
    assert_eq!(made.status, 201);
    let tag = shown.header("etag").to_owned();
    let path = "/api/v1/sessions/s-1?wait_s=30";
    let headers = [("if-none-match", tag.as_str())];
    let waits = f.app.engine.waits();
    let (answer, ()) = tokio::join!(f.send("GET", path, &headers, Body::empty()), async {
        f.somebody_waits(waits).await;
        f.runs("s-1").await;
    });
    assert_eq!(answer.status, 200);
    assert_ne!(answer.header("etag"), tag);
    let tag = f
        .get("/api/v1/sessions/s-1")
        .await
        .header("etag")
        .to_owned();
    let headers = [("if-none-match", tag.as_str())];
    let answer = f
        .send(
            "GET",
            "/api/v1/sessions/s-1?wait_s=1",
            &headers,
            Body::empty(),
        )
        .await;
    assert_eq!(answer.status, 304);
    // A coordinator that stops lets its waiters go.
    let waits = f.app.engine.waits();
    let (answer, ()) = tokio::join!(f.send("GET", path, &headers, Body::empty()), async {
        f.somebody_waits(waits).await;
        f.stop.send(true).unwrap();
    });
    assert_eq!(answer.status, 304);
}

#[tokio::test]
async fn agents_change_only_under_their_version() {
    let f = ready().await;
    let path = "/api/v1/agents/gpu01";
    let json_type = ("content-type", "application/merge-patch+json");
    let off = || Body::from("{\"schedulable\":false}");
    let answer = f.send("PATCH", path, &[json_type], off()).await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (428, "LS-VERSION-MISSING")
    );
    let tag = f.get(path).await.header("etag").to_owned();
    let answer = f
        .send("PATCH", path, &[json_type, ("if-match", &tag)], off())
        .await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["schedulable"]),
        (200, &json!(false))
    );
    assert_ne!(answer.header("etag"), tag);
    for old in [tag.as_str(), "W/\"1\"", "nonsense"] {
        let answer = f
            .send(
                "PATCH",
                path,
                &[json_type, ("if-match", old)],
                Body::from("{\"schedulable\":true}"),
            )
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (412, "LS-VERSION-STALE"),
            "{old}"
        );
        assert_eq!(answer.json()["current"]["name"], "gpu01");
    }
    let answer = f
        .send(
            "PATCH",
            path,
            &[json_type, ("if-match", "*")],
            Body::from("{\"schedulable\":true}"),
        )
        .await;
    assert_eq!(answer.json()["schedulable"], true);
    assert_eq!(
        f.get("/api/v1/agents?state=alive&group=default")
            .await
            .json()["items"][0]["name"],
        "gpu01"
    );
    assert_eq!(
        f.get("/api/v1/agents?state=LOST").await.json()["items"],
        json!([])
    );
    let answer = f.post("/api/v1/agents/gpu01/expel", &json!({})).await;
    assert_eq!(answer.json()["state"], "TERMINATED");
    let answer = f
        .send("PATCH", path, &[json_type, ("if-match", "*")], off())
        .await;
    assert_eq!(answer.code(), "LS-AGENT-STATE");
}

#[tokio::test]
async fn join_tokens_are_shown_once() {
    let f = ready().await;
    let answer = f
        .post(
            "/api/v1/join-tokens",
            &json!({ "max_uses": 2, "agent_name": "gpu02" }),
        )
        .await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let made = answer.json();
    let parts: Vec<&str> = made["token"].as_str().unwrap().split('.').collect();
    assert_eq!(
        (parts[0], parts[1], parts[2].len(), parts[3]),
        ("ls1", made["id"].as_str().unwrap(), 22, "pin")
    );
    assert_eq!(made["command"], "longshore join test:7420");
    let listed = f.get("/api/v1/join-tokens").await;
    assert_eq!(listed.json()["items"][0]["uses"], 0);
    assert!(!listed.text().contains(parts[2]));
    let path = format!("/api/v1/join-tokens/{}", parts[1]);
    for _ in 0..2 {
        assert_eq!(
            f.send("DELETE", &path, &[], Body::empty()).await.status,
            204
        );
    }
    assert_eq!(
        f.get("/api/v1/join-tokens").await.json()["items"],
        json!([])
    );
    let answer = f
        .post(
            "/api/v1/join-tokens",
            &json!({ "ttl_s": 0, "max_uses": 5000 }),
        )
        .await;
    assert_eq!(
        (
            answer.code().as_str(),
            answer.json()["errors"].as_array().unwrap().len()
        ),
        ("LS-INVALID", 2)
    );
    assert_eq!(
        f.post("/api/v1/join-tokens", &json!({ "group": "none" }))
            .await
            .code(),
        "LS-GROUP-UNKNOWN"
    );
    assert_eq!(
        f.post("/api/v1/join-tokens", &json!({ "agent_name": "gpu01" }))
            .await
            .code(),
        "LS-EXISTS"
    );
}

#[tokio::test]
async fn output_comes_from_the_agent() {
    let pieces = vec![
        piece(0, OutputKind::Stdout, b"one\n"),
        piece(4, OutputKind::Stderr, b"bad\n"),
        piece(8, OutputKind::Gap, b""),
        piece(20, OutputKind::Stdout, &[0xff]),
    ];
    let mut f = fixture(Some(pieces), true).await;
    f.set_up().await;
    f.submit(batch()).await;
    assert_eq!(
        f.get("/api/v1/sessions/s-1/logs").await.body,
        b"",
        "nothing before it runs"
    );
    f.runs("s-1").await;
    assert_eq!(
        f.get("/api/v1/sessions/s-1/logs").await.body,
        b"one\nbad\n\xff"
    );
    assert_eq!(
        f.get("/api/v1/sessions/s-1/logs?stream=stderr").await.body,
        b"bad\n"
    );
    let answer = f
        .get("/api/v1/sessions/s-1/logs/stream?follow=true&position=4")
        .await;
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let text = answer.text();
    let events: Vec<&str> = text
        .lines()
        .filter_map(|l| l.strip_prefix("event: "))
        .collect();
    assert_eq!(events, ["line", "gap", "line", "end"]);
    assert!(
        text.contains("\"stream\":\"stderr\"")
            && text.contains("\"text\":\"bad\\n\"")
            && text.contains("\"bytes\":\"/w==\""),
        "{text}"
    );
    for bad in [
        "rank=x",
        "attempt=0",
        "stream=x",
        "position=0&tail=1",
        "follow=maybe",
    ] {
        assert_eq!(
            f.get(&format!("/api/v1/sessions/s-1/logs?{bad}"))
                .await
                .code(),
            "LS-PARAMETER",
            "{bad}"
        );
    }
}

#[tokio::test]
async fn signals_reach_running_programs_only() {
    let mut f = fixture(Some(Vec::new()), true).await;
    f.set_up().await;
    f.submit(batch()).await;
    let path = "/api/v1/sessions/s-1/signal";
    let int = json!({ "signal": "INT" });
    assert_eq!(f.post(path, &int).await.code(), "LS-STATE");
    f.runs("s-1").await;
    assert_eq!(f.post(path, &int).await.status.as_u16(), 204);
    assert_eq!(
        f.post(path, &json!({ "signal": "KILL" })).await.code(),
        "LS-INVALID"
    );
    assert_eq!(
        f.post("/api/v1/sessions/s-9/signal", &int).await.code(),
        "LS-NOT-FOUND"
    );
    assert_eq!(
        f.post(path, &json!({ "signal": "USR1" })).await.code(),
        "LS-AGENT-UNREACHABLE"
    );
}

#[tokio::test]
async fn output_of_an_agent_that_is_away() {
    let f = ready().await;
    f.submit(batch()).await;
    f.runs("s-1").await;
    let answer = f.get("/api/v1/sessions/s-1/logs").await;
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (503, "LS-AGENT-UNREACHABLE")
    );
    f.ends("s-1", 0).await;
    let logs = "/api/v1/sessions/s-1/logs";
    let answer = f.get(logs).await;
    assert_eq!(answer.header("longshore-output"), "kept");
    assert_eq!(answer.text(), "last words\n");
    let events = |text: &str| -> Vec<String> {
        let names = text.lines().filter_map(|l| l.strip_prefix("event: "));
        names.map(str::to_owned).collect()
    };
    let text = f.get(&format!("{logs}/stream")).await.text();
    assert_eq!(events(&text), ["kept", "gap", "line", "end"], "{text}");
    assert!(text.contains("100 bytes of output are on its node only"));
    assert!(
        text.contains("\"position\":100,\"text\":\"last words\\n\""),
        "{text}"
    );
    // Who has read some already gets the rest, once.
    for (asked, rest) in [
        ("position=105", "words\n"),
        ("position=111", ""),
        ("tail=1", "last words\n"),
    ] {
        let text = f.get(&format!("{logs}?{asked}")).await.text();
        assert_eq!(text, rest, "{asked}");
    }
    let text = f.get(&format!("{logs}/stream?position=105")).await.text();
    assert_eq!(events(&text), ["kept", "line", "end"], "{text}");
    // Only the main container's is kept: no other answers with it.
    let other = f.get(&format!("{logs}?rank=sub1")).await;
    assert_eq!((other.status.as_u16(), other.text().as_str()), (200, ""));
}

#[tokio::test]
async fn a_stream_waits_for_the_start() {
    let mut f = fixture(Some(vec![piece(0, OutputKind::Stdout, b"hi\n")]), true).await;
    f.set_up().await;
    f.submit(batch()).await;
    let waits = f.app.engine.waits();
    let (answer, ()) = tokio::join!(f.get("/api/v1/sessions/s-1/logs?follow=1"), async {
        f.somebody_waits(waits).await;
        f.runs("s-1").await;
    });
    assert_eq!(answer.text(), "hi\n");
}

/// A request is dropped where its connection breaks; what it has ordered is done by then.
#[tokio::test]
async fn a_key_that_was_switched_off_is_refused_although_the_caller_hung_up() {
    let f = ready().await;
    f.start(None).await;
    let made = f.post("/api/v1/keypairs", &json!({ "user": "dana" })).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let pair = made.json();
    let key = pair["access_key"].as_str().unwrap().to_owned();
    let bearer = format!("Bearer {key}.{}", pair["secret_key"].as_str().unwrap());
    let good = f.app.identity.authenticate(Some(&bearer), wall_clock());
    assert!(good.is_ok(), "{good:?}");

    let path = format!("/api/v1/keypairs/{key}/deactivate");
    let body = json!({});
    let mut request = Box::pin(f.post(&path, &body));
    loop {
        assert!(poll(&mut request).await.is_pending(), "it heard");
        let key = key.clone();
        let look = move |state: &model::State, _| state.keypairs[&key].is_active();
        if !f.app.engine.read(look).await.unwrap() {
            break;
        }
    }
    drop(request); // it has not heard of the commit
    let denied = f.app.identity.authenticate(Some(&bearer), wall_clock());
    assert_eq!(denied.unwrap_err(), Denied::Inactive);
}

/// One that is the first hears of nothing, and is one nevertheless.
#[tokio::test]
async fn the_first_administrator_is_known_although_the_caller_hung_up() {
    let f = fixture(None, true).await;
    let body = json!({ "token": f.setup_token(), "email": "dana@lab.example" });
    let mut request = Box::pin(f.post("/api/v1/setup", &body));
    loop {
        assert!(poll(&mut request).await.is_pending(), "answered");
        let look = |state: &model::State, _| state.users.len();
        if f.app.engine.read(look).await.unwrap() == 1 {
            break;
        }
    }
    drop(request);
    assert!(f.app.identity.is_set_up());
}

/// The settings of idleness are in force at every start and in every group, also in those
/// that are made later.
#[tokio::test]
async fn rules_of_idleness_follow_the_settings() {
    let f = ready().await;
    let rules = |timeout_s| {
        let idle = crate::config::Idle {
            timeout_s,
            ..crate::config::Idle::default()
        };
        idle.policy()
    };
    let idle_of = async |group: &str| {
        let body = json!({ "command": ["true"], "slots": { "cpu": "1", "mem": "64m" },
            "group": group, "start_at": "2999-01-01T00:00:00Z" });
        let made = f.submit(body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let id = made.json()["id"].as_str().unwrap().parse().unwrap();
        let look = move |state: &model::State, _| state.sessions[&id].idle.clone();
        f.app.engine.read(look).await.unwrap()
    };
    assert_eq!(idle_of("default").await, None);
    for timeout_s in [600, 1200, 0] {
        f.start(rules(timeout_s)).await;
        assert_eq!(rules(timeout_s).is_some(), timeout_s > 0);
        assert_eq!(idle_of("default").await, rules(timeout_s), "{timeout_s}");
        let name = format!("later-{timeout_s}");
        let body = json!({ "name": name, "refuse_never_fits": false });
        let made = f.post("/api/v1/resource-groups", &body).await;
        assert_eq!(made.status, 201, "{}", made.text());
        assert_eq!(idle_of(&name).await, rules(timeout_s), "{timeout_s}");
    }
    f.start(rules(60)).await;
    assert_eq!(idle_of("later-600").await, rules(60));
    let versions = |state: &model::State, _| state.groups.values().all(|g| g.version == 1);
    assert!(
        f.app.engine.read(versions).await.unwrap(),
        "nobody changed a group"
    );
}

#[test]
fn the_document_is_in_order() {
    let document = openapi_document();
    let text = document.to_string();
    assert_eq!(document["openapi"], "3.1.0");
    for word in ["\"anyOf\"", "\"oneOf\"", "\"null\""] {
        assert!(!text.contains(word), "the document holds {word}");
    }
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{id} stands twice");
            assert!(
                operation["x-longshore-operation"].is_string(),
                "{method} {path}"
            );
            let good: Vec<&String> = operation["responses"]
                .as_object()
                .unwrap()
                .keys()
                // A stream answers with the other protocol, an app with where it lives.
                .filter(|s| s.starts_with('2') || *s == "101" || *s == "303")
                .collect();
            assert_eq!(good.len(), 1, "{id}");
        }
    }
    assert_eq!(ids.len(), OPERATIONS.len());
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for part in text.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(schemas.contains_key(name), "{name} is missing");
    }
    for name in schemas.keys() {
        assert!(
            text.contains(&format!("\"#/components/schemas/{name}\"")) || name == "LogRecord",
            "{name} is not used"
        );
    }
}

/// `UPDATE=1 cargo test` writes the file anew.
#[test]
fn the_checked_in_document_is_this_one() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let text = format!("{:#}\n", openapi_document());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == text,
        "docs/openapi.json differs from the code; write it anew with UPDATE=1 and look at the difference"
    );
}

#[tokio::test]
async fn so_many_requests_and_no_more() {
    let mut f = limited(None, true, Vec::new(), (3, 4)).await;
    f.set_up().await; // one of the four of this client
    let left = |answer: &Answer| {
        let header = |name: &str| answer.header(name).to_owned();
        let window = header("x-ratelimit-window");
        assert_eq!(window, "900", "{}", answer.text());
        (header("x-ratelimit-limit"), header("x-ratelimit-remaining"))
    };
    let two = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(left(&f.get("/api/v1/me").await), two("3", "2"));
    assert_eq!(
        left(&f.get("/api/v1/agents?nonsense=1").await),
        two("3", "1")
    );
    assert_eq!(f.get("/api/v1/me").await.status, 200);
    let refused = f.get("/api/v1/me").await;
    assert_eq!(
        (refused.status.as_u16(), refused.code().as_str()),
        (429, "LS-RATE-LIMIT")
    );
    assert_eq!(left(&refused), two("3", "0"));
    assert!(refused.header("retry-after").parse::<u32>().unwrap() > 890);
    // Wrong credentials count for the address; right ones are not refused for them.
    let wrong = [("authorization", "Bearer LSX.wrong")];
    for _ in 0..3 {
        let answer = f.send("GET", "/api/v1/me", &wrong, Body::empty()).await;
        assert_eq!(answer.code(), "LS-AUTH-FAILED");
    }
    let answer = f.send("GET", "/api/v1/me", &wrong, Body::empty()).await;
    assert_eq!(answer.code(), "LS-RATE-LIMIT");
    assert_eq!(f.get("/api/v1/me").await.code(), "LS-RATE-LIMIT");
    // Health is never counted.
    assert_eq!(f.get("/healthz").await.status, 200);
}

/// A keypair that is good for one project works there, and makes none that is good for more.
#[tokio::test]
async fn a_bound_keypair_changes_nothing_about_its_account() {
    let mut f = ready().await;
    f.start(None).await;
    let order = json!({ "project": "default", "label": "ci" });
    let mine = f.get("/api/v1/me").await.json()["id"].clone();
    let path = format!(
        "/api/v1/projects/default/members/{}",
        mine.as_str().unwrap()
    );
    let joined = f
        .send(
            "PUT",
            &path,
            &[("content-type", "application/json")],
            Body::from("{}"),
        )
        .await;
    assert!(joined.status.is_success(), "{}", joined.text());
    let made = f.post("/api/v1/keypairs", &order).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let pair = made.json();
    let text = |name: &str| pair[name].as_str().unwrap().to_owned();
    f.bearer = Some(format!(
        "Bearer {}.{}",
        text("access_key"),
        text("secret_key")
    ));
    assert_eq!(f.submit(batch()).await.status, 201);
    for (path, body) in [
        ("keypairs", json!({})),
        ("me/password", json!({ "new": "correct horse 1!" })),
        ("users", json!({ "email": "x@lab.example" })),
    ] {
        let answer = f.post(&format!("/api/v1/{path}"), &body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (403, "LS-FORBIDDEN"),
            "{path}"
        );
    }
    // Although its owner is a superadmin, it sees what an ordinary member does.
    assert_eq!(f.get("/api/v1/join-tokens").await.code(), "LS-FORBIDDEN");
}

/// Who may only use nodes sees neither their addresses nor which sessions of others hold them.
#[tokio::test]
async fn users_see_nodes_without_addresses_and_holders() {
    let mut f = ready().await;
    f.start(None).await;
    let body = json!({ "command": ["true"], "slots": { "cuda.device": "1" } });
    assert_eq!(f.submit(body).await.status, 201);
    let holders = |answer: &Answer| answer.json()["items"][0]["holders"].clone();
    let seen = f.get("/api/v1/devices").await;
    assert_eq!(holders(&seen)[0]["session"], "s-1", "{}", seen.text());
    let made = f
        .post("/api/v1/users", &json!({ "email": "eve@lab.example" }))
        .await;
    let pair = made.json();
    let text = |name: &str| pair[name].as_str().unwrap().to_owned();
    f.bearer = Some(format!(
        "Bearer {}.{}",
        text("access_key"),
        text("secret_key")
    ));
    let seen = f.get("/api/v1/devices").await;
    let holder = &holders(&seen)[0];
    assert_eq!(
        (&holder["session"], &holder["owner_name"]),
        (&json!(""), &json!("dana"))
    );
    assert_eq!(holder["amount"], "1");
    assert!(
        f.get("/api/v1/agents").await.json()["items"][0]
            .get("address")
            .is_none()
    );
}

fn test_cors() -> cors::Cors {
    cors::Cors {
        own: None,
        origins: vec!["https://pages.lab".to_owned()],
        credentials: true,
        max_age_s: 600,
    }
}

std::thread_local! {
    /// Where actions are called; nobody listens at the discard port.
    static ACTION_PORT: std::cell::Cell<u16> = const { std::cell::Cell::new(9) };
}

/// Calls to this machine.
fn test_actions() -> UiActions {
    let action = |name: &str, level| UiAction {
        name: name.to_owned(),
        tooltip: None,
        action: ActionCall {
            method: "POST".to_owned(),
            url: format!("http://127.0.0.1:{}/new?s=${{id}}", ACTION_PORT.get()),
            payload: Some("{}".to_owned()),
            headers: BTreeMap::new(),
            secret: Some(Hidden::new("sign-secret")),
        },
        level,
    };
    let all = vec![action("Open ticket", Level::Rw), action("Look", Level::Ro)];
    ["session", "agent", "project"]
        .map(|kind| (kind.to_owned(), all.clone()))
        .into()
}
