//! An engine that only pretends: for load tests and for looking at the product without
//! Docker. Keeps the promises of the real one: a name exists once, a container starts
//! once, its end stays readable until it is removed.
//!
//! A command `sleep N` runs N seconds, `exit N` ends at once with N; any other batch
//! command runs as long as the configuration says, an interactive one until stopped.

use super::{
    Breach, Containers, CreateRequest, DialError, EngineInfo, ExecOrder, ExecState, Execution,
    Found, FoundStatus, Hint, ImageFacts, OutputChunk, PullState, RuntimeError,
};
use crate::host::wall_clock;
use longshore_common::agent::GpuWay;
use longshore_common::ids::ContainerKey;
use longshore_common::network::NodeNetworks;
use longshore_common::session::{Cause, Exit, PullRule, SessionType};
use longshore_common::time::Timestamp;
use longshore_common::wire::{Claim, OutputKind, TerminalSize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

/// How the pretending goes.
#[derive(Debug, Clone)]
pub struct SimulatedEngineConfig {
    /// Time a create takes.
    pub create: Duration,
    /// Time a start takes.
    pub start: Duration,
    /// How long a batch command runs that does not say.
    pub run: Duration,
    /// Id of the engine; different engines must differ.
    pub id: String,
}

/// See the module. Clones share everything.
#[derive(Debug, Clone)]
pub struct SimulatedEngine {
    config: SimulatedEngineConfig,
    containers: Arc<Mutex<BTreeMap<ContainerKey, Pretended>>>,
    hints: Arc<Mutex<Vec<mpsc::Sender<Hint>>>>,
}

#[derive(Debug)]
struct Pretended {
    found: Found,
    runs: Option<Duration>,
    code: i32,
    ended: watch::Sender<bool>,
    /// What is frozen makes no progress, so it does not end by itself.
    frozen: watch::Sender<bool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimulatedEngine {
    /// An engine without containers.
    #[must_use]
    pub fn new(config: SimulatedEngineConfig) -> Self {
        Self {
            config,
            containers: Arc::default(),
            hints: Arc::default(),
        }
    }

    /// How many containers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.containers).len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn end(&self, key: ContainerKey, code: i32, signal: Option<i32>) {
        {
            let mut containers = lock(&self.containers);
            let Some(known) = containers.get_mut(&key) else {
                return;
            };
            if !matches!(
                known.found.status,
                FoundStatus::Running | FoundStatus::Paused
            ) {
                return;
            }
            let exit = Exit {
                code,
                signal,
                oom: false,
                at: wall_clock(),
            };
            known.found.status = FoundStatus::Exited(exit);
            known.found.pid = None;
            known.ended.send_replace(true);
        }
        lock(&self.hints).retain(|sink| match sink.try_send(Hint::Changed(key)) {
            Ok(()) | Err(mpsc::error::TrySendError::Full(_)) => true, // the list will tell
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        });
    }

    fn key_of(&self, docker_id: &str) -> Result<ContainerKey, RuntimeError> {
        lock(&self.containers)
            .values()
            .find(|c| c.found.docker_id == docker_id)
            .map(|c| c.found.key)
            .ok_or(RuntimeError::NotFound)
    }
}

/// How long a command runs and with what it ends.
fn behaviour(command: &[String], kind: SessionType, run: Duration) -> (Option<Duration>, i32) {
    let number = || {
        command
            .get(1)
            .and_then(|n| n.parse::<u64>().ok())
            .unwrap_or(0)
    };
    match command.first().map(String::as_str) {
        Some("sleep") => (Some(Duration::from_secs(number())), 0),
        Some("exit") => (Some(Duration::ZERO), i32::try_from(number()).unwrap_or(1)),
        // Nothing to run: it holds.
        None => (None, 0),
        _ if kind == SessionType::Interactive => (None, 0),
        _ => (Some(run), 0),
    }
}

impl Containers for SimulatedEngine {
    async fn ping(&self) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn info(&self) -> Result<EngineInfo, RuntimeError> {
        Ok(EngineInfo {
            id: self.config.id.clone(),
            version: "simulated".to_owned(),
            storage: "none".to_owned(),
            root: PathBuf::from("/"),
            cgroup_version: 0,
            cgroup_systemd: false,
            live_restore: true,
            gpu_ways: vec![(GpuWay::Nodes, Ok(()))],
            cdi_names: BTreeSet::new(),
            networks: NodeNetworks::default(),
        })
    }

    async fn list(&self) -> Result<Vec<Found>, RuntimeError> {
        Ok(lock(&self.containers)
            .values()
            .map(|c| c.found.clone())
            .collect())
    }

    async fn find(&self, key: ContainerKey) -> Result<Option<Found>, RuntimeError> {
        Ok(lock(&self.containers).get(&key).map(|c| c.found.clone()))
    }

    async fn ensure_image(
        &self,
        image: &str,
        _digest: Option<&str>,
        _rule: PullRule,
        _login: Option<&longshore_common::wire::RegistryLogin>,
        _progress: mpsc::Sender<PullState>,
    ) -> Result<ImageFacts, RuntimeError> {
        Ok(ImageFacts {
            id: image.to_owned(),
            ..ImageFacts::default()
        })
    }

    async fn create(&self, request: &CreateRequest) -> Result<String, RuntimeError> {
        tokio::time::sleep(self.config.create).await;
        let mut containers = lock(&self.containers);
        if containers.contains_key(&request.key) {
            return Err(RuntimeError::Conflict);
        }
        let docker_id = format!(
            "{:0>16x}{:0>4x}{:0>8x}",
            request.key.session.0, request.key.rank.0, request.key.attempt.0
        );
        let (runs, code) = behaviour(&request.spec.command, request.spec.kind, self.config.run);
        let found = Found {
            key: request.key,
            docker_id: docker_id.clone(),
            fence: request.fence,
            spec_hash: super::docker::spec_hash(&request.spec),
            claim: Claim {
                slots: request.spec.slots.clone(),
                devices: request.spec.devices.clone(),
            },
            image: request.image.exact.clone(),
            record: request.delivered.record.as_str().into(),
            status: FoundStatus::Created,
            started_at: None,
            pid: None,
        };
        containers.insert(
            request.key,
            Pretended {
                found,
                runs,
                code,
                ended: watch::channel(false).0,
                frozen: watch::channel(false).0,
            },
        );
        Ok(docker_id)
    }

    async fn start(&self, docker_id: &str) -> Result<(), RuntimeError> {
        tokio::time::sleep(self.config.start).await;
        let key = self.key_of(docker_id)?;
        let (runs, code, mut frozen) = {
            let mut containers = lock(&self.containers);
            let known = containers.get_mut(&key).ok_or(RuntimeError::NotFound)?;
            if known.found.status == FoundStatus::Created {
                known.found.status = FoundStatus::Running;
                known.found.started_at = Some(wall_clock());
            }
            (known.runs, known.code, known.frozen.subscribe())
        };
        if let Some(runs) = runs {
            let engine = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(runs).await;
                let _ = frozen.wait_for(|frozen| !*frozen).await; // removed is ended too
                engine.end(key, code, None);
            });
        }
        Ok(())
    }

    async fn verify(
        &self,
        _docker_id: &str,
        _request: &CreateRequest,
    ) -> Result<Option<Breach>, RuntimeError> {
        Ok(None)
    }

    async fn stop(&self, docker_id: &str, _grace_s: u32) -> Result<(), RuntimeError> {
        let key = self.key_of(docker_id)?;
        self.end(key, 143, Some(15));
        Ok(())
    }

    async fn signal(&self, docker_id: &str, signal: &str) -> Result<(), RuntimeError> {
        let key = self.key_of(docker_id)?;
        if matches!(signal, "INT" | "TERM") {
            let number = if signal == "INT" { 2 } else { 15 };
            self.end(key, 128 + number, Some(number));
        }
        Ok(())
    }

    async fn kill(&self, docker_id: &str) -> Result<(), RuntimeError> {
        let key = self.key_of(docker_id)?;
        self.end(key, 137, Some(9));
        Ok(())
    }

    async fn remove(
        &self,
        key: ContainerKey,
        _docker_id: Option<&str>,
    ) -> Result<(), RuntimeError> {
        self.end(key, 137, Some(9));
        lock(&self.containers).remove(&key);
        Ok(())
    }

    async fn freeze(&self, docker_id: &str) -> Result<(), RuntimeError> {
        let key = self.key_of(docker_id)?;
        if let Some(known) = lock(&self.containers).get_mut(&key) {
            known.found.status = FoundStatus::Paused;
            known.frozen.send_replace(true);
        }
        Ok(())
    }

    async fn thaw(&self, docker_id: &str) -> Result<(), RuntimeError> {
        let key = self.key_of(docker_id)?;
        if let Some(known) = lock(&self.containers).get_mut(&key) {
            known.found.status = FoundStatus::Running;
            known.frozen.send_replace(false);
        }
        Ok(())
    }

    async fn output(
        &self,
        docker_id: &str,
        since: Option<Timestamp>,
        sink: mpsc::Sender<OutputChunk>,
    ) -> Result<(), RuntimeError> {
        let key = self.key_of(docker_id)?;
        let mut ended = match lock(&self.containers).get(&key) {
            Some(known) => known.ended.subscribe(),
            None => return Ok(()),
        };
        if since.is_none() {
            let bytes = format!("pretended output of {key}\n").into_bytes();
            let chunk = OutputChunk {
                kind: OutputKind::Stdout,
                at: wall_clock(),
                bytes,
            };
            let _ = sink.send(chunk).await; // a reader that went away wants none
        }
        let _ = ended.wait_for(|ended| *ended).await; // removed is ended too
        Ok(())
    }

    async fn exec(&self, docker_id: &str, _: &ExecOrder) -> Result<Execution, RuntimeError> {
        self.key_of(docker_id)?;
        Err(RuntimeError::Failed {
            cause: Cause::StartFailed,
            detail: "a simulated engine runs no commands".to_owned(),
        })
    }

    async fn exec_begin(&self, docker_id: &str, _: &ExecOrder) -> Result<String, RuntimeError> {
        self.key_of(docker_id)?;
        Err(RuntimeError::Failed {
            cause: Cause::StartFailed,
            detail: "a simulated engine runs no commands".to_owned(),
        })
    }

    async fn dial(&self, _: &str, _: u32, _: u16) -> Result<TcpStream, DialError> {
        Err(DialError::Nothing)
    }

    async fn exec_state(&self, _: &str) -> Result<ExecState, RuntimeError> {
        Err(RuntimeError::NotFound)
    }

    async fn exec_resize(&self, _: &str, _: TerminalSize) -> Result<(), RuntimeError> {
        Err(RuntimeError::NotFound)
    }

    async fn exec_signal(&self, _: &str, _: &str, _: &str) -> Result<bool, RuntimeError> {
        Err(RuntimeError::NotFound)
    }

    fn signal_group(&self, _: &str, _: u32, _: &str) -> bool {
        false
    }

    async fn watch(&self, sink: mpsc::Sender<Hint>) -> Result<(), RuntimeError> {
        lock(&self.hints).push(sink.clone());
        let _ = sink.send(Hint::Open).await; // who does not listen any more is seen below
        sink.closed().await;
        Ok(())
    }
}
