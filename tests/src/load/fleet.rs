//! Simulated agents: everything of an agent is real - identity, journal, link,
//! supervisor - except its container engine and its GPUs.

use anyhow::{Context as _, Result, anyhow};
use longshore_agent::config::Config;
use longshore_agent::daemon::{self, Agent, Parts};
use longshore_agent::devices::Mask;
use longshore_agent::devices::simulated::{SimulatedConfig, SimulatedGpus, start};
use longshore_agent::hidden::Hidden;
use longshore_agent::identity::{Files, Token};
use longshore_agent::link::{JoinOrder, join};
use longshore_agent::runtime::simulated::{SimulatedEngine, SimulatedEngineConfig};
use longshore_common::ids::AgentId;
use longshore_common::wire::NodeLayers;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

/// Agents that join at the same time: fewer than the coordinator takes of one address, or without asking
/// them to prove their address.
const JOINING: usize = 16;
/// How often is looked whether heartbeats were acknowledged; a fraction of their distance.
const LOOK: Duration = Duration::from_millis(250);

/// What to pretend.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// The coordinator, `host:port`.
    pub coordinator: String,
    /// A join token good for all of them.
    pub token: String,
    /// How many.
    pub agents: u32,
    /// GPUs of each.
    pub gpus: u32,
    /// Cores of each.
    pub cpu: u32,
    /// Memory of each in MiB.
    pub mem_mib: u64,
    /// How long a command runs that does not say.
    pub run: Duration,
    /// Where their state lies.
    pub dir: PathBuf,
}

/// One simulated agent.
#[derive(Debug)]
pub struct Member {
    /// Its id.
    pub id: AgentId,
    /// The running agent.
    pub agent: Agent,
    /// Its engine.
    pub engine: SimulatedEngine,
    /// Its GPUs.
    pub gpus: SimulatedGpus,
}

/// Simulated agents that have joined.
#[derive(Debug)]
pub struct Fleet {
    /// Each of them.
    pub members: Vec<Member>,
    acks: Arc<AtomicU64>,
    counter: JoinHandle<()>,
}

impl Fleet {
    /// Makes them and has them join; they dial on their own.
    ///
    /// # Errors
    /// One cannot join.
    pub async fn join(config: FleetConfig) -> Result<Self> {
        let gate = Arc::new(Semaphore::new(JOINING));
        let mut joining = JoinSet::new();
        for number in 0..config.agents {
            let (config, gate) = (config.clone(), Arc::clone(&gate));
            joining.spawn(async move {
                let _turn = gate.acquire().await?;
                member(&config, number)
                    .await
                    .with_context(|| format!("agent {number}"))
            });
        }
        let mut members = Vec::new();
        while let Some(joined) = joining.join_next().await {
            members.push(joined??);
        }
        let acks = Arc::new(AtomicU64::new(0));
        let beats = members
            .iter()
            .map(|m| Arc::clone(&m.agent.shared))
            .collect();
        let counter = tokio::spawn(count(beats, Arc::clone(&acks)));
        Ok(Self {
            members,
            acks,
            counter,
        })
    }

    /// Heartbeats that were acknowledged so far.
    #[must_use]
    pub fn acks(&self) -> u64 {
        self.acks.load(Ordering::Relaxed)
    }

    /// How many had a heartbeat acknowledged within the last `within`.
    #[must_use]
    pub fn linked(&self, within: Duration) -> usize {
        let now = longshore_link::boot_ms();
        let within = i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
        self.members
            .iter()
            .filter(|m| {
                let since = m.agent.shared.since_acked_ms(now);
                since.is_some_and(|ms| ms <= within)
            })
            .count()
    }

    /// Waits until all of them are linked.
    ///
    /// # Errors
    /// They are not within `limit`.
    pub async fn all_linked(&self, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        loop {
            let linked = self.linked(Duration::from_secs(5));
            if linked == self.members.len() {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(anyhow!(
                    "{linked} of {} agents are linked",
                    self.members.len()
                ));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends them all.
    pub async fn stop(self) {
        self.counter.abort();
        for member in self.members {
            member.agent.stop().await;
        }
    }
}

/// Counts how often the time of the last acknowledged heartbeat changes.
async fn count(fleet: Vec<Arc<longshore_agent::link::Shared>>, acks: Arc<AtomicU64>) {
    let mut known: Vec<i64> = vec![0; fleet.len()];
    let mut look = tokio::time::interval(LOOK);
    loop {
        look.tick().await;
        let mut new = 0;
        for (shared, known) in fleet.iter().zip(&mut known) {
            let at = AtomicI64::load(&shared.acked_sent_ms, Ordering::Relaxed);
            if at != *known {
                *known = at;
                new += 1;
            }
        }
        acks.fetch_add(new, Ordering::Relaxed);
    }
}

async fn member(config: &FleetConfig, number: u32) -> Result<Member> {
    let state_dir = config.dir.join(format!("agent-{number:05}"));
    daemon::private_dir(&state_dir)?;
    let files = Files::new(&state_dir);
    let unique = unique(&state_dir);
    let machine = format!("machine-{unique}");
    let fingerprint = daemon::fingerprint(&machine, &unique);
    let identity = join(
        JoinOrder {
            address: config.coordinator.clone(),
            token: Token::parse(&config.token)?,
            name: format!("sim-{number:05}"),
            fingerprint: fingerprint.clone(),
            machine: machine.clone(),
        },
        &files,
    )
    .await?;
    let engine = SimulatedEngine::new(SimulatedEngineConfig {
        create: Duration::from_millis(5),
        start: Duration::from_millis(5),
        run: config.run,
        id: unique,
    });
    let (snapshots, gpus) = start(&SimulatedConfig {
        count: config.gpus,
        model: "Simulated".to_owned(),
        memory_bytes: 80 << 30,
        seed: u64::from(number) + 1,
    });
    let mut settings = Config {
        run_dir: state_dir.join("run"),
        state_dir,
        ..Config::default()
    };
    settings.offered.cpu = config.cpu;
    settings.offered.mem_mib = config.mem_mib;
    let id = identity.agent;
    let parts = Parts {
        identity,
        files,
        config: settings,
        gpus: snapshots,
        released: None,
        fingerprint,
        machine,
        // Thousands of them share one disk, or one memory.
        journal_ahead: 1 << 16,
        layers: NodeLayers::default(),
        mask: Mask::default(),
        hidden: Hidden::default(),
    };
    let agent = daemon::start(parts, Arc::new(engine.clone()), None).await?;
    Ok(Member {
        id,
        agent,
        engine,
        gpus,
    })
}

/// Fleets of one test run must not be the same machines.
fn unique(state_dir: &Path) -> String {
    state_dir.display().to_string().replace('/', "-")
}
