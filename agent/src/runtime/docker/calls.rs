//! Each question and order of the agent as calls of the engine.

use super::engine::{self, CallError};
use super::found::{self, key_of};
use super::{Docker, cgroup_version, deadline, deliver, exec, gpu, inside, output, verify};
use crate::delivery::{Delivered, store};
use crate::runtime::{
    Breach, Containers, CreateRequest, DialError, EngineInfo, ExecOrder, ExecState, Execution,
    Found, Hint, ImageFacts, OutputChunk, PullState, RuntimeError,
};
use bollard::models::{ContainerSummary, SystemInfoCgroupDriverEnum};
use bollard::query_parameters::{
    EventsOptions, KillContainerOptions, RemoveContainerOptions, StopContainerOptions,
    WaitContainerOptions,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use longshore_common::agent::GpuWay;
use longshore_common::ids::ContainerKey;
use longshore_common::session::{Cause, PullRule};
use longshore_common::wire::{Delivery, RegistryLogin, TerminalSize};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Inspects at once in a list.
const PARALLEL_INSPECTS: usize = 8;

impl Docker {
    async fn delete(&self, name: &str) -> Result<(), RuntimeError> {
        let until = Instant::now() + Duration::from_secs(deadline::REMOVE);
        loop {
            let options = RemoveContainerOptions {
                v: true,
                force: true,
                link: false,
            };
            let result = self
                .0
                .engine
                .call("remove", deadline::REMOVE, |client| async move {
                    client.remove_container(name, Some(options)).await
                })
                .await;
            match result {
                Ok(()) => return Ok(()),
                Err(error) if error.is_absent() => return Ok(()),
                // Somebody removes it already; it is gone when it is gone.
                Err(CallError::Refused { status: 409, .. }) if Instant::now() < until => {
                    self.await_removal(name, until).await?;
                }
                Err(error) => return Err(error.into_runtime(Cause::StartFailed)),
            }
        }
    }

    /// Returns once the engine says that a removal under way is over, however it went, or
    /// at `until`.
    async fn await_removal(&self, name: &str, until: Instant) -> Result<(), RuntimeError> {
        let options = WaitContainerOptions {
            condition: "removed".to_owned(),
        };
        let waited = self
            .0
            .engine
            .call("wait", deadline::REMOVE, |client| async move {
                let mut ends = client.wait_container(name, Some(options));
                let end = tokio::time::timeout_at(until, ends.next()).await;
                match end {
                    // The exit code of what was removed, or that it could not be removed:
                    // the next attempt says which.
                    Ok(Some(
                        Ok(_) | Err(bollard::errors::Error::DockerContainerWaitError { .. }),
                    )) => Ok(()),
                    Ok(Some(Err(error))) => Err(error),
                    Ok(None) | Err(_) => Ok(()),
                }
            })
            .await;
        match waited {
            Err(error) if !error.is_absent() => Err(error.into_runtime(Cause::StartFailed)),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

impl Containers for Docker {
    async fn ping(&self) -> Result<(), RuntimeError> {
        let result = self
            .0
            .engine
            .call("ping", deadline::PING, |client| async move {
                client.ping().await
            })
            .await;
        result
            .map(|_| ())
            .map_err(|error| error.into_runtime(Cause::StartFailed))
    }

    async fn info(&self) -> Result<EngineInfo, RuntimeError> {
        let info = self.system_info().await?;
        self.upkeep_if_due();
        let gpu_ways = self.ways(&info).await;
        Ok(EngineInfo {
            cdi_names: match gpu_ways.contains(&(GpuWay::Cdi, Ok(()))) {
                true => gpu::cdi_names(&info),
                false => BTreeSet::new(),
            },
            gpu_ways,
            cgroup_version: cgroup_version(&info),
            cgroup_systemd: info.cgroup_driver == Some(SystemInfoCgroupDriverEnum::SYSTEMD),
            live_restore: info.live_restore_enabled.unwrap_or(false),
            root: PathBuf::from(info.docker_root_dir.unwrap_or_default()),
            id: info.id.unwrap_or_default(),
            version: info.server_version.unwrap_or_default(),
            networks: self.0.networks.networks().await,
            storage: info.driver.unwrap_or_default(),
        })
    }

    async fn list(&self) -> Result<Vec<Found>, RuntimeError> {
        let listed = self.list_own().await?;
        let ours = listed
            .into_iter()
            .filter(|one| found::listed_key(one, self.0.config.cluster).is_some());
        let ours: Vec<ContainerSummary> = ours.collect();
        {
            let listed = |id: &String| ours.iter().any(|one| one.id.as_ref() == Some(id));
            let mut cache = self.cache();
            cache.found.retain(|id, _| listed(id));
            cache.engine_chose.retain(|id, _| listed(id));
        }
        let looks: Vec<Option<Found>> = stream::iter(ours)
            .map(|summary| async move {
                match self.known(&summary) {
                    Some(found) => Ok(Some(found)),
                    None => self.look(summary.id.as_deref().unwrap_or_default()).await,
                }
            })
            .buffered(PARALLEL_INSPECTS)
            .try_collect()
            .await?;
        Ok(looks.into_iter().flatten().collect())
    }

    async fn find(&self, key: ContainerKey) -> Result<Option<Found>, RuntimeError> {
        let found = self.look(&key.docker_name(self.0.config.cluster)).await?;
        Ok(found.filter(|found| found.key == key))
    }

    async fn ensure_image(
        &self,
        image: &str,
        digest: Option<&str>,
        rule: PullRule,
        login: Option<&RegistryLogin>,
        progress: mpsc::Sender<PullState>,
    ) -> Result<ImageFacts, RuntimeError> {
        let pulls = &self.0.pulls;
        let facts = pulls.ensure(image, digest, rule, login, &progress).await?;
        self.ensure_accounts(&facts.id).await?;
        Ok(facts)
    }

    async fn join(&self, request: &CreateRequest) -> Result<(), RuntimeError> {
        match &request.network {
            Some(network) => self.0.networks.join(request.key, network).await.map(drop),
            None => Ok(()),
        }
    }

    async fn reach(&self, request: &CreateRequest) -> Result<(), RuntimeError> {
        match &request.network {
            Some(network) => self.0.networks.reach(network).await,
            None => Ok(()),
        }
    }

    async fn deliver(
        &self,
        request: &CreateRequest,
        delivery: &Delivery,
    ) -> Result<Delivered, RuntimeError> {
        deliver::deliver(self, request, delivery).await
    }

    async fn lacks_files(&self, key: ContainerKey) -> bool {
        let path = self.0.files.given(key);
        let look = tokio::task::spawn_blocking(move || store::is_delivered(&path));
        !look.await.unwrap_or(true) // a panic there has been logged
    }

    async fn forget_files(&self, key: ContainerKey) {
        let path = self.0.files.given(key);
        let gone = tokio::task::spawn_blocking(move || store::remove(&path)).await;
        if let Ok(Err(error)) = gone {
            tracing::warn!(%key, %error, "files of a container that ended stay");
        }
    }

    async fn sweep_files(&self, live: BTreeSet<ContainerKey>) {
        let root = self.0.files.given_root();
        let live: BTreeSet<String> = live.iter().map(ToString::to_string).collect();
        let swept =
            tokio::task::spawn_blocking(move || store::sweep(&root, &|name| live.contains(name)));
        if let Ok(Err(error)) = swept.await {
            tracing::warn!(%error, "files of containers that are gone stay");
        }
    }

    async fn create(&self, request: &CreateRequest) -> Result<String, RuntimeError> {
        let _place = self
            .0
            .creates
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let network = match &request.network {
            None => self.0.networks.acquire(request.key).await?,
            Some(network) => self.0.networks.join(request.key, network).await?,
        };
        let result = self.create_with(request, network).await;
        match &result {
            // The container exists, or may exist, and holds its network.
            Ok(_) | Err(RuntimeError::Conflict) => (),
            Err(error) if error.is_engine_trouble() => (),
            Err(error) => {
                if let RuntimeError::Failed {
                    cause: Cause::NetworkFailed,
                    ..
                } = error
                {
                    self.0.networks.distrust();
                }
                if let RuntimeError::Failed {
                    cause: Cause::ImageNotAvailable,
                    ..
                } = error
                {
                    self.0.pulls.forget(&request.image.id);
                }
                self.0.networks.release(request.key);
            }
        }
        result
    }

    async fn start(&self, docker_id: &str) -> Result<(), RuntimeError> {
        let result = self
            .0
            .engine
            .call("start", deadline::START, |client| async move {
                client.start_container(docker_id, None).await
            })
            .await;
        if let Err(error) = result {
            let CallError::Refused { message, .. } = &error else {
                return Err(error.into_runtime(Cause::StartFailed));
            };
            let cause = engine::start_cause(message);
            if cause == Cause::NetworkFailed {
                self.0.networks.distrust();
            } else if error.is_absent() {
                return Err(RuntimeError::NotFound);
            }
            return Err(RuntimeError::Failed {
                cause,
                detail: message.clone(),
            });
        }
        let found = self.look(docker_id).await?;
        if let Some(found) = &found {
            self.0.networks.started(found.key);
        }
        self.await_program(docker_id, found.and_then(|found| found.pid))
            .await
    }

    async fn verify(
        &self,
        docker_id: &str,
        request: &CreateRequest,
    ) -> Result<Option<Breach>, RuntimeError> {
        let known = self
            .cache()
            .found
            .get(docker_id)
            .and_then(|found| found.pid);
        let pid = match known {
            Some(pid) => Some(pid),
            None => {
                self.look(docker_id)
                    .await?
                    .ok_or(RuntimeError::NotFound)?
                    .pid
            }
        };
        let Some(pid) = pid else { return Ok(None) };
        // The way of today may not be that in which it was made.
        let chose = self.cache().engine_chose.get(docker_id).copied();
        let granted = verify::Granted::of(request, chose);
        if let Some(verdict) = verify::compare(pid, docker_id, &granted) {
            return Ok(verdict);
        }
        // Whoever ended has nothing that could be compared; whoever runs was not compared.
        match self.look(docker_id).await?.and_then(|found| found.pid) {
            None => Ok(None),
            Some(_) => Err(RuntimeError::Failed {
                cause: Cause::StartFailed,
                detail: "the kernel does not show what its first process got".to_owned(),
            }),
        }
    }

    async fn stop(&self, docker_id: &str, grace_s: u32) -> Result<(), RuntimeError> {
        let options = StopContainerOptions {
            t: Some(i32::try_from(grace_s).unwrap_or(i32::MAX)),
            ..StopContainerOptions::default()
        };
        self.0
            .engine
            .call(
                "stop",
                u64::from(grace_s) + deadline::STOP_EXTRA,
                |client| async move { client.stop_container(docker_id, Some(options)).await },
            )
            .await
            .map_err(|error| error.into_runtime(Cause::StartFailed))
    }

    async fn signal(&self, docker_id: &str, signal: &str) -> Result<(), RuntimeError> {
        let options = KillContainerOptions {
            signal: format!("SIG{signal}"),
        };
        let result = self
            .0
            .engine
            .call("kill", deadline::ASK, |client| async move {
                client.kill_container(docker_id, Some(options)).await
            })
            .await;
        done_already(result, "not running")
    }

    async fn kill(&self, docker_id: &str) -> Result<(), RuntimeError> {
        let options = KillContainerOptions {
            signal: "SIGKILL".to_owned(),
        };
        let result = self
            .0
            .engine
            .call("kill", deadline::KILL, |client| async move {
                client.kill_container(docker_id, Some(options)).await
            })
            .await;
        done_already(result, "not running")
    }

    async fn remove(&self, key: ContainerKey, docker_id: Option<&str>) -> Result<(), RuntimeError> {
        let name = key.docker_name(self.0.config.cluster);
        self.delete(docker_id.unwrap_or(&name)).await?;
        if let Some(id) = docker_id {
            self.cache().found.remove(id);
        }
        self.0.networks.release(key);
        self.0.networks.leave(key).await?;
        let files = self.0.files.clone();
        tokio::task::spawn_blocking(move || files.remove(key))
            .await
            .expect("removing files does not panic")
            .map_err(|error| RuntimeError::Failed {
                cause: Cause::StartFailed,
                detail: format!("the files of the container: {error}"),
            })
    }

    async fn tell_inside(&self, key: ContainerKey, members: serde_json::Value) {
        let files = self.0.files.clone();
        let told = tokio::task::spawn_blocking(move || files.tell(key, &members))
            .await
            .expect("writing a file does not panic");
        if let Err(error) = told {
            tracing::debug!(%key, %error, "a container was not told what will stop it");
        }
    }

    async fn freeze(&self, docker_id: &str) -> Result<(), RuntimeError> {
        let result = self
            .0
            .engine
            .call("pause", deadline::KILL, |client| async move {
                client.pause_container(docker_id).await
            })
            .await;
        done_already(result, "already paused")
    }

    async fn thaw(&self, docker_id: &str) -> Result<(), RuntimeError> {
        let result = self
            .0
            .engine
            .call("unpause", deadline::KILL, |client| async move {
                client.unpause_container(docker_id).await
            })
            .await;
        done_already(result, "not paused")
    }

    async fn output(
        &self,
        docker_id: &str,
        since: Option<longshore_common::time::Timestamp>,
        sink: mpsc::Sender<OutputChunk>,
    ) -> Result<(), RuntimeError> {
        output::copy(&self.0.engine, docker_id, since, &sink).await
    }

    async fn exec(&self, docker_id: &str, order: &ExecOrder) -> Result<Execution, RuntimeError> {
        exec::start(&self.0.engine, docker_id, order).await
    }

    async fn exec_begin(&self, docker_id: &str, order: &ExecOrder) -> Result<String, RuntimeError> {
        exec::begin(&self.0.engine, docker_id, order).await
    }

    async fn dial(&self, docker_id: &str, pid: u32, port: u16) -> Result<TcpStream, DialError> {
        inside::dial(pid, docker_id, port).await
    }

    async fn exec_state(&self, exec_id: &str) -> Result<ExecState, RuntimeError> {
        exec::state(&self.0.engine, exec_id).await
    }

    async fn exec_resize(&self, exec_id: &str, size: TerminalSize) -> Result<(), RuntimeError> {
        exec::resize(&self.0.engine, exec_id, size).await
    }

    async fn exec_signal(
        &self,
        docker_id: &str,
        exec_id: &str,
        signal: &str,
    ) -> Result<bool, RuntimeError> {
        let state = exec::state(&self.0.engine, exec_id).await?;
        let pid = state.pid;
        Ok(pid.is_some_and(|pid| exec::signal_group(pid, docker_id, signal)))
    }

    fn signal_group(&self, docker_id: &str, pid: u32, signal: &str) -> bool {
        exec::signal_group(pid, docker_id, signal)
    }

    async fn watch(&self, sink: mpsc::Sender<Hint>) -> Result<(), RuntimeError> {
        const WATCHED: [&str; 7] = [
            "create", "start", "die", "oom", "pause", "unpause", "destroy",
        ];
        let lost = |error: CallError| match error {
            CallError::Refused { message, .. } => RuntimeError::Unreachable(message),
            other => other.into_runtime(Cause::StartFailed),
        };
        let client = self.0.engine.client().await.map_err(lost)?;
        // The engine does not say when its stream begins. It keeps the last events, so it is
        // asked for those since now: whenever it begins, nothing is missed. A second more,
        // because a clock may be set back a little between the two looks at it.
        let since = crate::host::wall_clock().plus_s(-1).0.max(0);
        let options = EventsOptions {
            since: Some(format!("{}.{:03}", since / 1000, since % 1000)),
            filters: Some(
                [
                    ("type".to_owned(), vec!["container".to_owned()]),
                    ("label".to_owned(), self.own_labels()),
                    ("event".to_owned(), WATCHED.map(str::to_owned).to_vec()),
                ]
                .into(),
            ),
            ..EventsOptions::default()
        };
        if sink.send(Hint::Open).await.is_err() {
            return Ok(());
        }
        let mut events = client.events(Some(options));
        while let Some(event) = events.next().await {
            let event = event.map_err(|error| lost(error.into()))?;
            let labels = event.actor.and_then(|actor| actor.attributes);
            if let Some(key) = labels.as_ref().and_then(key_of)
                && sink.send(Hint::Changed(key)).await.is_err()
            {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// A refusal that says that there is nothing to do is success.
fn done_already(result: Result<(), CallError>, words: &str) -> Result<(), RuntimeError> {
    match result {
        Err(CallError::Refused { message, .. }) if message.contains(words) => Ok(()),
        other => other.map_err(|error| error.into_runtime(Cause::StartFailed)),
    }
}
