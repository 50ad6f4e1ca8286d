//! The coordinator without its HTTP side, inside the process of a test: store, engine and
//! the agents' side, put together as its `main` does it.

use super::free_port;
use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use longshore_common::api::NewSession;
use longshore_common::ids::{
    ClusterId, CoordinatorGeneration, DomainId, GroupId, InstanceId, PolicyId, ProjectId,
    SessionId, UserId,
};
use longshore_common::wire::Terms;
use longshore_coordinator::cluster::{self, Cluster, ClusterConfig, Prepared};
use longshore_coordinator::config::Config;
use longshore_coordinator::engine::{self, Engine, wall_clock};
use longshore_coordinator::identity::new_id;
use longshore_coordinator::live::Live;
use longshore_coordinator::pki::{Pki, random, sha256};
use longshore_coordinator::secrets::Keyring;
use longshore_coordinator::store::{Reader, Store};
use longshore_coordinator::vaults::Vaults;
use longshore_core::model::{
    Answer, Beginning, Caller, Event, Group, JoinToken, JoinTokenOrder, Keypair, Meta, Role,
    SchedulerSettings, SessionDefaults, SetupOrder, State, Submit, User, react,
};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Image that no engine of a test pulls.
const IMAGE: &str = "simulated";
/// The old endpoint needs a moment to leave its port.
const LEAVING: Duration = Duration::from_millis(20);

/// The facts of a new installation.
#[must_use]
pub fn new_meta() -> Meta {
    Meta {
        cluster: ClusterId::new(new_id()),
        generation: CoordinatorGeneration(0),
        next_session: 1,
        next_uid: 20_000,
    }
}

/// What a new installation gets.
#[must_use]
pub fn beginning() -> Beginning {
    Beginning {
        group: Group {
            default: true,
            ..Group::new(GroupId::new(new_id()), "default")
        },
        domain: DomainId::new(new_id()),
        project: ProjectId::new(new_id()),
        keypair_policy: PolicyId::new(new_id()),
        user_policy: PolicyId::new(new_id()),
        project_policy: PolicyId::new(new_id()),
        scheduler: SchedulerSettings::default(),
        service_account_admins: false,
        throttle: Config::default().daemon.auth.throttle.limits(),
    }
}

/// The first administrator.
#[must_use]
pub fn administrator() -> SetupOrder {
    let user = User {
        username: "dana".to_owned(),
        email: "dana@localhost".to_owned(),
        role: Role::Superadmin,
        uid: 0,                   // the engine gives the next one
        domain: DomainId::new(0), // the engine knows which
        ..User::new(UserId::new(new_id()), wall_clock())
    };
    let keypair = Keypair::new("LSTEST", [0; 32], user.id, wall_clock());
    SetupOrder {
        user,
        keypair,
        place: Default::default(),
    }
}

/// A batch session of one core.
#[must_use]
pub fn job(command: &[&str]) -> NewSession {
    NewSession {
        image: Some(IMAGE.to_owned()),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        slots: [("cpu", "1"), ("mem", "64m")]
            .map(|(slot, amount)| (slot.to_owned(), amount.to_owned()))
            .into(),
        ..NewSession::default()
    }
}

/// The coordinator's parts, running.
#[derive(Debug)]
pub struct InProcess {
    /// The state.
    pub engine: Engine,
    /// The agents' side.
    pub cluster: Cluster,
    /// Past sessions.
    pub reader: Reader,
    /// Its keys.
    pub pki: Arc<Pki>,
    /// UDP.
    pub port: u16,
    /// Who asks for sessions.
    pub caller: Caller,
    /// What agents are told to go by.
    pub terms: watch::Sender<Terms>,
    endpoint: quinn::Endpoint,
    engine_task: JoinHandle<()>,
    dir: PathBuf,
}

impl InProcess {
    /// A new installation in `dir`.
    ///
    /// # Errors
    /// A part cannot be started.
    pub async fn start(dir: &Path) -> Result<Self> {
        Self::start_on(dir, free_port()?).await
    }

    /// Ends it as a kill would, except that agents are told, and starts it again on the
    /// same port and database.
    ///
    /// # Errors
    /// A part cannot be started.
    pub async fn restart(self) -> Result<Self> {
        let (dir, port) = (self.dir.clone(), self.port);
        self.stop().await;
        Self::start_on(&dir, port).await
    }

    /// Ends it: what was acknowledged is stored, everything else is lost.
    pub async fn stop(self) {
        self.endpoint.close(quinn::VarInt::from_u32(0), b"stopping");
        self.endpoint.wait_idle().await;
        self.engine_task.abort();
        let _ = self.engine_task.await; // aborted; the store is closed with it
    }

    /// The installation in `dir`, new or not, on this port.
    ///
    /// # Errors
    /// A part cannot be started.
    pub async fn start_on(dir: &Path, port: u16) -> Result<Self> {
        let keyring = Keyring::fresh();
        let (store, mut state) = Store::open(&dir.join("longshore.db"), &keyring, new_meta)?;
        let changes = react(&state, &Event::Started(Box::new(beginning())), wall_clock()).changes;
        changes.iter().for_each(|change| state.apply(change));
        store.commit(changes).await?;
        let pki = Arc::new(Pki::open(
            dir,
            state.meta.cluster,
            &["localhost".to_owned()],
        )?);
        let known = state.users.values().next().map(|user| user.id);
        let reader = store.reader();
        let (effects, due) = mpsc::unbounded_channel();
        let (engine, engine_task) =
            engine::start(state, store, Arc::new(Live::default()), effects, Vec::new());
        let instance = InstanceId::new(new_id());
        leave(port).await?;
        let (terms, told) = watch::channel(Terms {
            heartbeat_ms: 1000,
            ..cluster::terms(&Config::default())
        });
        let config = ClusterConfig {
            listen: ([127, 0, 0, 1], port).into(),
            addresses: Vec::new(),
            gso: true,
            vaults: Vaults::new(keyring, reader.clone(), Vec::new(), &[0; 32]),
            reader: reader.clone(),
            terms: told,
            certificate_days: watch::channel(30).1,
        };
        let (cluster, endpoint) =
            Prepared::new(config, Arc::clone(&pki), engine.clone(), instance, due)?.start_here()?;
        let user = match known {
            Some(user) => user,
            None => {
                let order = administrator();
                let user = order.user.id;
                ask(&engine, Event::Setup(Box::new(order))).await?;
                user
            }
        };
        Ok(Self {
            engine,
            cluster,
            reader,
            pki,
            port,
            caller: Caller {
                user,
                access_key: "LSTEST".to_owned(),
            },
            terms,
            endpoint,
            engine_task,
            dir: dir.to_owned(),
        })
    }

    /// `host:port` for agents.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Makes a join token.
    ///
    /// # Errors
    /// The coordinator refuses.
    pub async fn token(&self, max_uses: u32, ttl_s: i64) -> Result<String> {
        let id = URL_SAFE_NO_PAD.encode(random::<8>());
        let secret = random::<16>();
        let now = wall_clock();
        let token = JoinToken {
            id: id.clone(),
            secret_sha256: sha256(&secret),
            group: GroupId::new(0), // the engine knows which
            agent_name: None,
            created_at: now,
            expires_at: now.plus_s(ttl_s),
            max_uses,
            joined: Vec::new(),
            created_by: self.caller.user,
        };
        let order = JoinTokenOrder { token, group: None };
        ask(&self.engine, Event::CreateToken(order)).await?;
        let secret = URL_SAFE_NO_PAD.encode(secret);
        Ok(format!("ls1.{id}.{secret}.{}", self.pki.pin()?))
    }

    /// Asks for a session.
    ///
    /// # Errors
    /// The coordinator refuses, or is stopping.
    pub async fn submit(&self, request: NewSession, key: Option<&str>) -> Result<SessionId> {
        let submit = Submit {
            idempotency: key.map(|key| (key.to_owned(), sha256(key.as_bytes()))),
            ..Submit::new(self.caller.clone(), request, SessionDefaults::default())
        };
        match ask(&self.engine, Event::Submit(Box::new(submit))).await? {
            Answer::Session(accepted) => Ok(accepted.id),
            other => anyhow::bail!("an answer to another question: {other:?}"),
        }
    }

    /// Looks at the state.
    ///
    /// # Errors
    /// The engine is stopping.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<T> {
        Ok(self.engine.read(|state, _| look(state)).await?)
    }
}

/// Waits until an endpoint that was closed has left its port.
async fn leave(port: u16) -> Result<()> {
    for _ in 0..250 {
        if UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(());
        }
        tokio::time::sleep(LEAVING).await;
    }
    anyhow::bail!("port {port} does not get free")
}

async fn ask(engine: &Engine, event: Event) -> Result<Answer> {
    engine
        .ask(event)
        .await
        .context("the engine")?
        .map_err(|refusal| anyhow::anyhow!("{}: {}", refusal.code, refusal.detail))
}
