//! The container engine behind one narrow, typed interface.
//!
//! Everything the agent can ask of an engine is a method here; nothing else in the
//! agent names Docker. `docker` is the real one, `simulated` the one for load tests
//! and `longshore dev`. Each method has a deadline of its own inside; none hangs.

use crate::delivery::Delivered;
use longshore_common::agent::GpuWay;
use longshore_common::ids::{AgentId, ClusterId, ContainerKey, Fence};
use longshore_common::network::{NodeNetworks, SessionNetwork};
use longshore_common::session::{ContainerSpec, Exit, PullRule};
use longshore_common::time::Timestamp;
use longshore_common::wire::{Claim, Delivery, OutputKind, RegistryLogin, TerminalSize};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::Stream;

pub mod docker;
pub mod simulated;

/// What the engine is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineInfo {
    /// Its own id; part of the host fingerprint.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Storage driver.
    pub storage: String,
    /// Where it keeps its data.
    pub root: PathBuf,
    /// 1 or 2.
    pub cgroup_version: u8,
    /// Whether its cgroup driver is systemd's.
    pub cgroup_systemd: bool,
    /// Whether containers survive a restart of the engine.
    pub live_restore: bool,
    /// Ways in which GPUs can reach containers here, with what the self-test said.
    pub gpu_ways: Vec<(GpuWay, Result<(), String>)>,
    /// Ids of GPUs and of parts of them that the engine's CDI specs name.
    pub cdi_names: BTreeSet<String>,
    /// Where other nodes reach this one, and what addresses are taken on it.
    pub networks: NodeNetworks,
}

/// A container of ours, as the engine tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// From its labels.
    pub key: ContainerKey,
    /// Full id.
    pub docker_id: String,
    /// From its labels.
    pub fence: Fence,
    /// From its labels: a hash of the spec it was made from.
    pub spec_hash: String,
    /// From its labels: what it holds of this machine; nothing where they do not say.
    pub claim: Claim,
    /// From its labels: see [`ImageFacts::exact`]; empty where they do not say.
    pub image: String,
    /// From its labels: what it was placed as, signed by the coordinator; empty where they do not
    /// say.
    pub record: Arc<str>,
    /// Where it stands.
    pub status: FoundStatus,
    /// When its process started; none = never.
    pub started_at: Option<Timestamp>,
    /// Process id on this machine while it runs.
    pub pid: Option<u32>,
}

/// Where a container of ours stands in the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FoundStatus {
    /// Never started.
    Created,
    /// Its process runs.
    Running,
    /// Frozen.
    Paused,
    /// Its process ended.
    Exited(Exit),
}

/// Everything a container is made from on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateRequest {
    /// Which container.
    pub key: ContainerKey,
    /// For the labels and the name.
    pub cluster: ClusterId,
    /// For the labels.
    pub agent: AgentId,
    /// For the labels.
    pub fence: Fence,
    /// What was ordered.
    pub spec: ContainerSpec,
    /// The image on this node, as `ensure_image` answered.
    pub image: ImageFacts,
    /// Seconds between the stop signal and the kill.
    pub grace_s: u32,
    /// When its lifetime ends, for the label.
    pub not_after: Option<Timestamp>,
    /// Device nodes of the granted GPUs: let in by the ways `nodes` and `request`, compared by
    /// all. Only those of control where the number of a GPU is not known.
    pub device_nodes: Vec<DeviceNode>,
    /// How GPUs reach it; none when it gets none.
    pub gpu_way: Option<GpuWay>,
    /// What [`Containers::deliver`] made for it.
    pub delivered: Delivered,
    /// How it reaches the other containers of its session, and they it; none = it is alone.
    pub network: Option<SessionNetwork>,
}

/// A device node to be let into a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceNode {
    /// Path on the node.
    pub host: PathBuf,
    /// Path inside.
    pub inside: PathBuf,
}

impl DeviceNode {
    /// Whether it is that of a capability: of a MIG instance.
    #[must_use]
    pub fn is_capability(&self) -> bool {
        self.inside.parent() == Some(Path::new("/dev/nvidia-caps"))
    }

    /// Whether it is the node of one GPU, `/dev/nvidia<n>`, and not one that controls them.
    #[must_use]
    pub fn is_gpu(&self) -> bool {
        let name = self.inside.file_name().unwrap_or_default();
        let number = name.to_string_lossy();
        let number = number.strip_prefix("nvidia").unwrap_or_default();
        !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    }
}

/// An image that is present on this node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageFacts {
    /// Local id; containers are made from it, never from a tag.
    pub id: String,
    /// `NAME=value` lines of the image's own environment.
    pub environment: Vec<String>,
    /// The image's stop signal; empty = SIGTERM.
    pub stop_signal: String,
    /// Architecture in the engine's words.
    pub arch: String,
    /// What it is, whatever its tag is moved to: `repository@digest` as its registry names it, or
    /// the id where no registry has it.
    pub exact: String,
}

/// How far a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PullState {
    /// Bytes there.
    pub bytes_done: u64,
    /// Bytes in all; 0 = not known.
    pub bytes_total: u64,
    /// Layers there.
    pub layers_done: u32,
    /// Layers in all; 0 = not known.
    pub layers_total: u32,
}

/// A piece of output of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputChunk {
    /// Standard output or error.
    pub kind: OutputKind,
    /// When it was written, by the engine.
    pub at: Timestamp,
    /// The bytes, without the engine's framing.
    pub bytes: Vec<u8>,
}

/// A command to run beside the main process of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOrder {
    /// Program and arguments.
    pub command: Vec<String>,
    /// On top of the container's own.
    pub environment: BTreeMap<String, String>,
    /// Absolute; none = the container's own.
    pub workdir: Option<String>,
    /// Its terminal, if it gets one.
    pub terminal: Option<TerminalSize>,
}

/// A piece of output of such a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// Whether it was written as error output.
    pub error: bool,
    /// The bytes.
    pub bytes: bytes::Bytes,
}

/// Output of such a command, to its end.
pub type ExecOutputs = Pin<Box<dyn Stream<Item = Result<ExecOutput, RuntimeError>> + Send>>;

/// A command that runs, or failed to start: then its only output is the engine's reason.
pub struct Execution {
    /// The engine's name for it.
    pub id: String,
    /// Closing it ends the command's input.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// What it writes.
    pub output: ExecOutputs,
}

impl std::fmt::Debug for Execution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Execution")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// No signal: asks whether a group has members.
pub const STILL_THERE: &str = "0";

/// Where such a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecState {
    /// Its process on this machine; none = it never had one.
    pub pid: Option<u32>,
    /// Set once it has ended: its own code, or what the engine says of a start that failed.
    pub exit: Option<i32>,
}

/// Why there is no connection to a port inside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// Nobody listens there.
    #[error("nothing listens there")]
    Nothing,
    /// It cannot be reached, in words.
    #[error("{0}")]
    Failed(String),
}

/// What a watch of the engine says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// From now on no change is missed until the watch ends. What came before has to be
    /// listed.
    Open,
    /// Something about a container of ours changed. A hint: the list decides.
    Changed(ContainerKey),
}

/// Why the engine did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// No connection: the engine is down.
    #[error("the container engine cannot be reached: {0}")]
    Unreachable(String),
    /// The call did not return in time.
    #[error("the container engine did not answer \"{call}\" in {seconds} s")]
    Timeout {
        /// Which call.
        call: &'static str,
        /// Its deadline.
        seconds: u64,
    },
    /// There is no such container.
    #[error("there is no such container")]
    NotFound,
    /// A container of this name exists.
    #[error("a container of this name exists")]
    Conflict,
    /// It failed for a reason a session is told.
    #[error("{detail}")]
    Failed {
        /// Which of the causes.
        cause: longshore_common::session::Cause,
        /// In words.
        detail: String,
    },
}

impl RuntimeError {
    /// Whether the engine, not the request, is the trouble: the step waits and is tried again.
    #[must_use]
    pub const fn is_engine_trouble(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Timeout { .. })
    }
}

/// A difference between what a running container was granted and what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Breach {
    /// It has less: its GPUs are not all there.
    Fewer(String),
    /// It has more than it was granted. It must be stopped.
    More(String),
}

/// A container engine.
pub trait Containers: Send + Sync + 'static {
    /// Whether it answers at all (deadline 3 s); cheap enough to be asked every few seconds.
    fn ping(&self) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// What the engine is (deadline 5 s).
    fn info(&self) -> impl Future<Output = Result<EngineInfo, RuntimeError>> + Send;

    /// All containers of this cluster and agent (one list call, then inspects where needed).
    fn list(&self) -> impl Future<Output = Result<Vec<Found>, RuntimeError>> + Send;

    /// One container of ours by its key; none if there is none.
    fn find(
        &self,
        key: ContainerKey,
    ) -> impl Future<Output = Result<Option<Found>, RuntimeError>> + Send;

    /// Makes an image present by the rule. Any number of callers may wait for one pull; those
    /// with different logins do not share one.
    fn ensure_image(
        &self,
        image: &str,
        digest: Option<&str>,
        rule: PullRule,
        login: Option<&RegistryLogin>,
        progress: mpsc::Sender<PullState>,
    ) -> impl Future<Output = Result<ImageFacts, RuntimeError>> + Send;

    /// Makes the network of a session of several containers (deadline 60 s). Made already is
    /// made.
    ///
    /// An engine that has no networks makes none.
    fn join(
        &self,
        _request: &CreateRequest,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send {
        async { Ok(()) }
    }

    /// Waits until the other nodes of a session answer over its network (deadline 60 s).
    fn reach(
        &self,
        _request: &CreateRequest,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send {
        async { Ok(()) }
    }

    /// Makes the files a container is given, anew if they are there. Without an image in the
    /// request what the image holds is not looked at: for a container that exists.
    ///
    /// An engine that has no files makes none.
    fn deliver(
        &self,
        _request: &CreateRequest,
        delivery: &Delivery,
    ) -> impl Future<Output = Result<Delivered, RuntimeError>> + Send {
        let record = delivery.record.clone();
        async {
            Ok(Delivered {
                record,
                ..Delivered::default()
            })
        }
    }

    /// Whether files that a container was given are not there any more.
    fn lacks_files(&self, _key: ContainerKey) -> impl Future<Output = bool> + Send {
        async { false }
    }

    /// Removes the files a container was given; done already is done.
    fn forget_files(&self, _key: ContainerKey) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Removes the files of all containers but these.
    fn sweep_files(&self, _live: BTreeSet<ContainerKey>) -> impl Future<Output = ()> + Send {
        async {}
    }

    /// Creates a container; the answer is its full id (deadline 120 s).
    ///
    /// [`RuntimeError::Conflict`] when the name exists.
    fn create(
        &self,
        request: &CreateRequest,
    ) -> impl Future<Output = Result<String, RuntimeError>> + Send;

    /// Starts a created container (deadline 60 s).
    fn start(&self, docker_id: &str) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Compares a running container with what it was granted.
    fn verify(
        &self,
        docker_id: &str,
        request: &CreateRequest,
    ) -> impl Future<Output = Result<Option<Breach>, RuntimeError>> + Send;

    /// Stop signal, grace, kill; returns when its process is gone.
    fn stop(
        &self,
        docker_id: &str,
        grace_s: u32,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Sends a signal (`INT`, `TERM`, …) to its main process.
    fn signal(
        &self,
        docker_id: &str,
        signal: &str,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Kills at once, frozen or not.
    fn kill(&self, docker_id: &str) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Removes a container and what was made for it: network, files. Done already is done.
    fn remove(
        &self,
        key: ContainerKey,
        docker_id: Option<&str>,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Says inside a container what will stop it: as members of `/run/longshore/session.json`.
    /// Lost without harm; an engine without such a file says nothing.
    fn tell_inside(
        &self,
        key: ContainerKey,
        members: serde_json::Value,
    ) -> impl Future<Output = ()> + Send {
        let _ = (key, members);
        async {}
    }

    /// Freezes.
    fn freeze(&self, docker_id: &str) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Thaws.
    fn thaw(&self, docker_id: &str) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Copies output into `sink` from `since` on, until the container has ended and
    /// everything was read.
    fn output(
        &self,
        docker_id: &str,
        since: Option<Timestamp>,
        sink: mpsc::Sender<OutputChunk>,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Runs a command beside the main process of a running container, as the container's
    /// user (deadline 60 s).
    fn exec(
        &self,
        docker_id: &str,
        order: &ExecOrder,
    ) -> impl Future<Output = Result<Execution, RuntimeError>> + Send;

    /// The same for a command that nobody watches: it reads nothing, what it writes is lost.
    /// The answer is the engine's name for it (deadline 60 s).
    fn exec_begin(
        &self,
        docker_id: &str,
        order: &ExecOrder,
    ) -> impl Future<Output = Result<String, RuntimeError>> + Send;

    /// Connects to a port inside the network of a running container, of which this is the
    /// main process: to 127.0.0.1, to [::1], then to its own address (deadline 5 s each).
    fn dial(
        &self,
        docker_id: &str,
        pid: u32,
        port: u16,
    ) -> impl Future<Output = Result<TcpStream, DialError>> + Send;

    /// Where such a command stands (deadline 5 s).
    fn exec_state(
        &self,
        exec_id: &str,
    ) -> impl Future<Output = Result<ExecState, RuntimeError>> + Send;

    /// Gives its terminal another size (deadline 30 s).
    fn exec_resize(
        &self,
        exec_id: &str,
        size: TerminalSize,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Sends a signal (`INT`, `HUP`, `KILL`, …, or [`STILL_THERE`]) to its process group; the
    /// answer is whether anybody was there to get it.
    fn exec_signal(
        &self,
        docker_id: &str,
        exec_id: &str,
        signal: &str,
    ) -> impl Future<Output = Result<bool, RuntimeError>> + Send;

    /// The same without asking the engine, for the group that the process `pid` of a container
    /// leads.
    fn signal_group(&self, docker_id: &str, pid: u32, signal: &str) -> bool;

    /// Sends [`Hint::Open`], then a hint for each change of a container of ours, until the
    /// connection ends.
    fn watch(
        &self,
        sink: mpsc::Sender<Hint>,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;
}
