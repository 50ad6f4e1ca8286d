//! The API as its callers meet it: the router with a real store and engine, in process.

mod access;
mod addresses;
mod arrays;
mod devices;
mod drain;
mod given;
mod http;
mod idle;
mod matrix;
mod metrics;
mod nodes;
mod output;
mod outside;
mod prolong;
mod redaction;
mod sessions;
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
    AgentId, ClusterId, ContainerKey, CoordinatorGeneration, DeviceId, DomainId, Fence, Generation,
    GroupId, PolicyId, ProjectId,
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
    let counted: Arc<dyn engine::Follow> = Arc::<crate::metrics::Counted>::clone(&live.counted);
    let follow = vec![people, waker, counted];
    let (engine, _) = engine::start(state, store, live, effects, follow);
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
        replays: Replays::new(&[5; 32], Vec::new(), wall_clock(), 0),
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

    /// The containers of a session.
    pub(super) async fn containers(&self, id: &str) -> Vec<ContainerKey> {
        let id = id.parse().unwrap();
        let look = move |s: &model::State, _| {
            let containers = s.sessions[&id].containers.iter();
            containers.map(|container| container.key).collect()
        };
        self.app.engine.read(look).await.unwrap()
    }

    /// Lets the agent report that the containers of a session run.
    pub(super) async fn runs(&self, id: &str) {
        self.runs_since(id, wall_clock()).await;
    }

    /// The same, of containers that were started at this time by the node's clock.
    pub(super) async fn runs_since(&self, id: &str, began: Timestamp) {
        let keys = self.containers(id).await;
        for state in [ContainerState::Created, ContainerState::Running] {
            let generation = self
                .app
                .engine
                .read(|s, _| s.agents[&AGENT].generation)
                .await
                .unwrap();
            let items = keys.iter().map(|key| ContainerReport {
                key: *key,
                state,
                docker_id: format!("abc{}", key.rank),
                started_at: Some(began),
                fence: Fence(1),
                idle_deadline: None,
                frozen: false,
                idle: false,
                used_at: None,
                image: None,
            });
            let event = Event::Report {
                agent: AGENT,
                applied: generation,
                items: items.collect(),
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
