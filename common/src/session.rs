//! Sessions and their containers as plain data: types, states, reasons, and the
//! typed spec an agent makes a container from.
//!
//! What may follow what is decided in the coordinator's core and in the agent's
//! reconcile; here are only the words both sides use.

use crate::amount::{SlotName, Slots};
use crate::ids::{ContainerKey, DeviceId, Fence, Generation};
use crate::limits::SessionLimits;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// An enum whose values have one text form, used in JSON, the store and messages to people.
///
/// Whoever uses it outside needs `serde` in its own dependencies.
#[macro_export]
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ::serde::Serialize, ::serde::Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $text)] $variant,)*
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The text form.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::session::UnknownWord;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|value| value.as_str().eq_ignore_ascii_case(text))
                    .ok_or_else(|| {
                        let known = Self::ALL.iter().map(|v| v.as_str());
                        $crate::session::UnknownWord::new(text, known)
                    })
            }
        }
    };
}
pub use words;

/// A text that is none of the known words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not one of {known}")]
pub struct UnknownWord {
    /// What was given, cut.
    pub text: String,
    /// What is known.
    pub known: String,
}

impl UnknownWord {
    /// A text, and the words it could have been.
    pub fn new<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Self {
        Self {
            text: text.chars().take(64).collect(),
            known: known.collect::<Vec<_>>().join(", "),
        }
    }
}

words! {
    /// What a session is for.
    SessionType {
        /// Runs until somebody or a limit ends it.
        Interactive = "interactive",
        /// Runs one command to its end.
        Batch = "batch",
        /// A replica of a service.
        Inference = "inference",
        /// Moves files; made by Longshore itself.
        System = "system",
    }
}

words! {
    /// Where the containers of a session may be.
    ClusterMode {
        /// All on one agent.
        SingleNode = "single-node",
        /// On any agents.
        MultiNode = "multi-node",
    }
}

words! {
    /// Which containers of a session run its command.
    #[derive(Default)]
    ClusterRun {
        /// `main1`; the others wait for it.
        #[default]
        Main = "main",
        /// Each of them.
        All = "all",
    }
}

words! {
    /// What a session waits for at another one.
    DependOn {
        /// It ended with success.
        Ok = "ok",
        /// It ended.
        Any = "any",
        /// It ended without success.
        Fail = "fail",
    }
}

words! {
    /// The state of a session.
    SessionState {
        /// Waits for a place.
        Pending = "PENDING",
        /// Has a place; its agent has not answered yet.
        Scheduled = "SCHEDULED",
        /// Its agent pulls, creates or starts.
        Preparing = "PREPARING",
        /// All its containers run.
        Running = "RUNNING",
        /// A stop was decided.
        Terminating = "TERMINATING",
        /// Ran and ended.
        Terminated = "TERMINATED",
        /// Never ran.
        Cancelled = "CANCELLED",
        /// Was lost through a fault of the system.
        Error = "ERROR",
    }
}

impl SessionState {
    /// Whether nothing follows any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Terminated | Self::Cancelled | Self::Error)
    }
}

words! {
    /// What a PREPARING session is busy with; the container furthest behind decides.
    Phase {
        /// The image is being pulled.
        Pulling = "pulling",
        /// The container is being created.
        Creating = "creating",
        /// Created; waits for the others or for the order to run.
        Waiting = "waiting",
        /// Told to start.
        Starting = "starting",
        /// The attempt failed and is being taken back.
        Undoing = "undoing",
    }
}

words! {
    /// The state of one container as its agent sees it.
    ContainerState {
        /// Placed; nothing done yet.
        Assigned = "assigned",
        /// Its image is being pulled.
        Pulling = "pulling",
        /// Being created.
        Creating = "creating",
        /// Exists, never started.
        Created = "created",
        /// Being started.
        Starting = "starting",
        /// Its process runs.
        Running = "running",
        /// Being stopped.
        Stopping = "stopping",
        /// Its process ended.
        Exited = "exited",
        /// Confirmed that nothing of it is left.
        Closed = "closed",
        /// Its agent was declared lost; not confirmed.
        Lost = "lost",
    }
}

words! {
    /// Whether the command did what it should.
    ResultKind {
        /// Exit code 0.
        Success = "success",
        /// Anything else.
        Failure = "failure",
    }
}

words! {
    /// Why a session ended, or why its stop was decided.
    Reason {
        /// The command ended with 0.
        TaskFinished = "task-finished",
        /// The command ended with another code.
        TaskFailed = "task-failed",
        /// The batch time limit passed.
        TaskTimeout = "task-timeout",
        /// The kernel ended it for want of memory.
        OutOfMemory = "out-of-memory",
        /// The main process of an interactive session ended.
        SelfTerminated = "self-terminated",
        /// A person stopped it.
        UserRequested = "user-requested",
        /// An administrator ended it at once.
        ForceTerminated = "force-terminated",
        /// Nobody used it for too long.
        IdleTimeout = "idle-timeout",
        /// It did too little work for too long.
        IdleUtilization = "idle-utilization",
        /// Its lifetime is over.
        LifetimeExceeded = "lifetime-exceeded",
        /// It waited longer than its group allows.
        PendingTimeout = "pending-timeout",
        /// It could not be started.
        FailedToStart = "failed-to-start",
        /// One of its containers died.
        ContainerDied = "container-died",
        /// Its agent vanished.
        AgentLost = "agent-lost",
        /// Its machine was started anew.
        NodeRebooted = "node-rebooted",
        /// Its container vanished without us.
        ContainerNotFound = "container-not-found",
        /// The container runtime failed.
        RuntimeError = "runtime-error",
        /// A GPU of its own broke.
        DeviceLost = "device-lost",
        /// A session it waited for ended otherwise than it was to.
        DependencyFailed = "dependency-failed",
        /// Its queue is gone, or no longer its owner's.
        QueueRemoved = "queue-removed",
        /// Its owner was switched off.
        OwnerInactive = "owner-inactive",
        /// Its owner is no member of its project any more.
        MembershipRemoved = "membership-removed",
        /// The service account it belonged to was deleted.
        OwnerDeleted = "owner-deleted",
        /// It was restarted by a person and did not come to run again.
        RestartFailed = "restart-failed",
        /// Its node had to be empty.
        Drained = "drained",
        /// There was no sign of life for too long.
        NonResponsive = "non-responsive",
    }
}

words! {
    /// After what a batch session is tried again by itself.
    RestartOn {
        /// Its agent vanished, or was started anew.
        AgentLost = "agent-lost",
        /// Its command ended with another code than 0, or a container of it died or vanished.
        Failed = "failed",
        /// The kernel ended it for want of memory.
        OutOfMemory = "out-of-memory",
    }
}

impl RestartOn {
    /// Which of them an end is; none for what is never tried again, such as a stop by a person.
    #[must_use]
    pub const fn of(reason: Reason) -> Option<Self> {
        match reason {
            Reason::AgentLost | Reason::NodeRebooted => Some(Self::AgentLost),
            Reason::OutOfMemory => Some(Self::OutOfMemory),
            Reason::TaskFailed
            | Reason::ContainerDied
            | Reason::ContainerNotFound
            | Reason::RuntimeError
            | Reason::DeviceLost => Some(Self::Failed),
            _ => None,
        }
    }
}

words! {
    /// Why an attempt to start failed.
    Cause {
        /// The rule forbids pulling and the image is absent.
        ImageNotAvailable = "image-not-available",
        /// The registry has no such image.
        PullNotFound = "pull-not-found",
        /// The registry refuses the credentials.
        PullDenied = "pull-denied",
        /// The registry cannot be reached.
        PullNetwork = "pull-network",
        /// No progress, or too long in all.
        PullTimeout = "pull-timeout",
        /// The disk is full.
        NoSpace = "no-space",
        /// The image is not the one that was promised.
        DigestMismatch = "digest-mismatch",
        /// The image is for another processor.
        ArchMismatch = "arch-mismatch",
        /// The node has less than was granted.
        CapacityMismatch = "capacity-mismatch",
        /// A device that was granted is unknown, unhealthy or held by another.
        DeviceMismatch = "device-mismatch",
        /// The container does not see the GPUs it was granted.
        GpuNotVisible = "gpu-not-visible",
        /// The session's network could not be made.
        NetworkFailed = "network-failed",
        /// Docker refused to create the container.
        CreateFailed = "create-failed",
        /// Docker did not answer in time.
        CreateTimeout = "create-timeout",
        /// There is no such program in the image.
        CommandNotFound = "command-not-found",
        /// The program cannot be executed.
        CommandNotExecutable = "command-not-executable",
        /// Docker could not start the container.
        StartFailed = "start-failed",
        /// The start took too long.
        StartTimeout = "start-timeout",
        /// The agent did not acknowledge its orders.
        NotAcknowledged = "not-acknowledged",
        /// The node refuses new work.
        LocalCordon = "local-cordon",
        /// The node's own policy forbids it.
        LocalPolicy = "local-policy",
        /// The agent vanished before the order to run was given.
        AgentLostBeforeStart = "agent-lost-before-start",
        /// A vault that is required, or a file of it, could not be delivered.
        VaultUnavailable = "vault-unavailable",
    }
}

impl Cause {
    /// Whether trying again cannot help.
    #[must_use]
    pub const fn is_permanent(self) -> bool {
        matches!(
            self,
            Self::PullNotFound
                | Self::PullDenied
                | Self::DigestMismatch
                | Self::ArchMismatch
                | Self::CommandNotFound
                | Self::CommandNotExecutable
        )
    }
}

words! {
    /// When an image is pulled.
    #[derive(Default)]
    PullRule {
        /// When it is absent or differs from the recorded digest.
        #[default]
        Digest = "digest",
        /// Only when it is absent.
        Tag = "tag",
        /// Never.
        None = "none",
    }
}

/// One image, and no other that may come to bear its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExactImage {
    /// By the SHA-256 its registry gives it: any node can get the same.
    Registry([u8; 32]),
    /// By the SHA-256 of its configuration: no registry has it, only this node.
    Local([u8; 32]),
}

impl ExactImage {
    /// Reads `repository@sha256:…` or `sha256:…`; none = neither.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (known, digest) = match text.rsplit_once('@') {
            Some((_, digest)) => (true, digest),
            None => (false, text),
        };
        let mut bytes = [0; 32];
        let hex = digest.strip_prefix("sha256:")?.as_bytes();
        if hex.len() != 64 || !hex.is_ascii() {
            return None;
        }
        for (byte, two) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let digit = |c: u8| {
                char::from(c)
                    .to_digit(16)
                    .filter(|_| !c.is_ascii_uppercase())
            };
            let value = digit(two[0])? << 4 | digit(two[1])?;
            *byte = u8::try_from(value).ok()?;
        }
        Some(match known {
            true => Self::Registry(bytes),
            false => Self::Local(bytes),
        })
    }
}

/// As registries and engines write it: `sha256:…`.
impl fmt::Display for ExactImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Registry(bytes) | Self::Local(bytes)) = self;
        f.write_str("sha256:")?;
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

words! {
    /// What the coordinator wants of a container.
    Want {
        /// Pull and create; do not start.
        Prepare = "prepare",
        /// Start, and keep running.
        Run = "run",
        /// Stop, remove, confirm.
        Stop = "stop",
    }
}

/// So much of one device, granted to one container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeviceGrant {
    /// The slot it was asked through.
    pub slot: SlotName,
    /// Which device.
    pub device: DeviceId,
    /// How much, in thousandths.
    pub amount: i64,
}

words! {
    /// What an app speaks on its port.
    Protocol {
        /// HTTP, for browsers.
        Http = "http",
        /// Anything over TCP.
        Tcp = "tcp",
    }
}

/// A port of a session that its people may reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppPort {
    /// How it is called: a handle of at most 32 characters.
    pub name: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// From 1.
    pub port: u16,
    /// Starts it at the first use when nothing listens; empty = it is started otherwise.
    /// `{port}` stands for the port.
    pub command: Vec<String>,
}

/// Everything a container is made from. What is not here cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Image reference as resolved at the first placement.
    pub image: String,
    /// The digest recorded for it, if one is known.
    pub digest: Option<String>,
    /// When to pull.
    pub pull: PullRule,
    /// Program and arguments; empty means the holder that only waits.
    pub command: Vec<String>,
    /// Directory the command starts in.
    pub workdir: Option<String>,
    /// Whether the process gets a terminal.
    pub tty: bool,
    /// Variables set by the user and by Longshore; the image's own lie below them.
    pub environment: BTreeMap<String, String>,
    /// Owner's user and group number inside the container.
    pub uid: u32,
    /// See `uid`.
    pub gid: u32,
    /// Granted amounts; what a device gives stands in `devices`.
    pub slots: Slots,
    /// Size of `/dev/shm` in bytes.
    pub shm_bytes: i64,
    /// Most processes and threads.
    pub pids_max: u32,
    /// The devices granted.
    pub devices: Vec<DeviceGrant>,
    /// Host name inside.
    pub hostname: String,
    /// Who it belongs to, for labels and listings on the node.
    pub owner: String,
    /// What the session is for.
    pub kind: SessionType,
    /// Whether its processes run as root inside, with the few rights that installing
    /// packages needs; `uid` and `gid` are then those of its files.
    pub root: bool,
    /// Whether its user may become root inside by `sudo`, with the same few rights: processes
    /// may gain privileges, and `sudo` finds an entry for `uid`.
    pub sudo: bool,
    /// The ports that may be reached inside, and no others.
    pub ports: Vec<AppPort>,
}

/// Why and how a container is to be stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopOrder {
    /// The reason of the session.
    pub reason: Reason,
    /// Seconds between the stop signal and the kill.
    pub grace_s: u32,
    /// Final already: only what is left on the node counts.
    pub forced: bool,
}

/// One container of a desired set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Which container.
    pub key: ContainerKey,
    /// What is to become of it.
    pub want: Want,
    /// What it is made from.
    pub spec: ContainerSpec,
    /// What the agent enforces by itself.
    pub limits: SessionLimits,
    /// Set when `want` is stop.
    pub stop: Option<StopOrder>,
    /// The fence under which it was placed.
    pub fence: Fence,
    /// The set in which it first stood.
    pub first_generation: Generation,
    /// Whether it may be frozen when the lease runs out (restartable batch).
    pub restartable: bool,
    /// Placed by an administrator on this very agent: `schedulable` does not count.
    pub designated: bool,
}

/// How the process of a container ended, from Docker and the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Docker's exit code; 128 + signal when a signal ended it.
    pub code: i32,
    /// The signal, when one ended it.
    pub signal: Option<i32>,
    /// Whether the kernel ended something in it for want of memory.
    pub oom: bool,
    /// When, by Docker's record.
    pub at: Timestamp,
}

/// How a container's story ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// It was never started.
    StartFailed {
        /// Why.
        cause: Cause,
        /// In words, from the one who refused.
        detail: String,
    },
    /// Its process ended by itself.
    Exited(Exit),
    /// It was stopped by a rule the agent enforces or by order.
    Stopped {
        /// Which reason.
        reason: Reason,
        /// The process's true end, if it ever ran.
        exit: Option<Exit>,
    },
    /// It is gone and nobody of us did it.
    Vanished {
        /// Whether the machine was started anew since.
        rebooted: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_image_reads_what_it_writes() {
        let hex = "0f".repeat(32);
        let local = ExactImage::read(&format!("sha256:{hex}"));
        assert_eq!(local, Some(ExactImage::Local([0x0f; 32])));
        let known = ExactImage::read(&format!("hub.lab:5000/a/b@sha256:{hex}"));
        assert_eq!(known, Some(ExactImage::Registry([0x0f; 32])));
        assert_eq!(known.unwrap().to_string(), format!("sha256:{hex}"));
        let upper = format!("sha256:{}", hex.to_uppercase());
        for bad in [
            "",
            "base:1",
            "sha256:",
            "sha512:0f",
            "base@sha256:0f",
            &upper,
        ] {
            assert_eq!(ExactImage::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn words_read_back_in_any_case() {
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(*reason));
        }
        assert_eq!("pending".parse(), Ok(SessionState::Pending));
        let error = "nope".parse::<Phase>().unwrap_err();
        assert!(error.to_string().contains("pulling, creating"));
    }
}
