//! The connection to the engine: lazy, negotiated, and with a deadline on every call.
//!
//! Nothing here knows what a call is for. It opens the socket anew for each one, so an
//! engine that was restarted is found again by the next call, and it turns every
//! failure into one of four kinds that callers can judge.

use crate::metrics::CallTimes;
use crate::runtime::RuntimeError;
use bollard::errors::Error;
use longshore_common::session::Cause;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How a call to the engine failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No connection, or it broke.
    #[error("the container engine cannot be reached: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("the container engine did not answer \"{call}\" in {seconds} s")]
    Timeout {
        /// Which call.
        call: &'static str,
        /// Its deadline.
        seconds: u64,
    },
    /// The engine refused; its status and its words.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// The engine said something that was not understood.
    #[error("the container engine's answer was not understood: {0}")]
    Strange(String),
}

impl CallError {
    /// Whether the engine said that the thing does not exist.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// The same as the runtime's error; what is neither trouble of the engine nor a
    /// missing container gets `cause`.
    #[must_use]
    pub fn into_runtime(self, cause: Cause) -> RuntimeError {
        match self {
            Self::Unreachable(detail) => RuntimeError::Unreachable(detail),
            Self::Timeout { call, seconds } => RuntimeError::Timeout { call, seconds },
            Self::Refused { status: 404, .. } => RuntimeError::NotFound,
            Self::Refused { message, .. } => RuntimeError::Failed {
                cause,
                detail: message,
            },
            strange @ Self::Strange(_) => RuntimeError::Failed {
                cause,
                detail: strange.to_string(),
            },
        }
    }
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        match error {
            Error::DockerResponseServerError {
                status_code,
                message,
            } => {
                // The engine answers, but the half of it that runs containers is gone.
                let half =
                    message.contains("containerd.sock") || message.contains("transport is closing");
                if status_code >= 500 && half {
                    return Self::Unreachable(message);
                }
                Self::Refused {
                    status: status_code,
                    message,
                }
            }
            Error::SocketNotFoundError(path) => Self::Unreachable(format!("no socket at {path}")),
            Error::HyperLegacyError { .. }
            | Error::HyperResponseError { .. }
            | Error::IOError { .. } => Self::Unreachable(chain(&error)),
            Error::RequestTimeoutError => Self::Timeout {
                call: "request",
                seconds: NEVER_S,
            },
            Error::DockerStreamError { error } => Self::Refused {
                status: 500,
                message: error,
            },
            other => Self::Strange(chain(&other)),
        }
    }
}

/// An error with all its sources, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}

/// The client library's own limit, out of the way: deadlines are set here, per call,
/// and streams that follow something must not end by it.
const NEVER_S: u64 = 30 * 24 * 3600;

/// One engine, reached through its socket.
#[derive(Debug)]
pub struct Engine {
    socket: PathBuf,
    client: Mutex<Option<bollard::Docker>>,
    /// What calls took.
    pub times: Arc<CallTimes>,
}

impl Engine {
    /// An engine that listens, now or later, on `socket` (`unix://` may stand before it).
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        let text = socket.to_string_lossy();
        let bare = text.strip_prefix("unix://").unwrap_or(&text);
        Self {
            socket: PathBuf::from(bare),
            client: Mutex::new(None),
            times: Arc::default(),
        }
    }

    /// Runs one call within its deadline, negotiating the version first where needed.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call<T, F>(
        &self,
        call: &'static str,
        seconds: u64,
        work: impl FnOnce(bollard::Docker) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let both = async {
            let client = self.client().await?;
            work(client).await.map_err(CallError::from)
        };
        let began = Instant::now();
        let result = tokio::time::timeout(Duration::from_secs(seconds), both)
            .await
            .unwrap_or(Err(CallError::Timeout { call, seconds }));
        self.times.took(call, began.elapsed());
        if let Err(CallError::Refused {
            status: 400,
            message,
        }) = &result
            && message.contains("client version")
        {
            // Another engine version listens now than the one negotiated with.
            self.forget_client();
            return Err(CallError::Unreachable(message.clone()));
        }
        result
    }

    /// A client for streams, which have deadlines of their own.
    ///
    /// # Errors
    /// When the engine cannot be reached.
    pub async fn client(&self) -> Result<bollard::Docker, CallError> {
        if let Some(client) = &*self.client.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(client.clone());
        }
        let socket = self.socket.to_string_lossy();
        let client =
            bollard::Docker::connect_with_unix(&socket, NEVER_S, bollard::API_DEFAULT_VERSION)?
                .negotiate_version()
                .await?;
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        Ok(client)
    }

    fn forget_client(&self) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Why the engine could not start a container, from its words.
#[must_use]
pub fn start_cause(message: &str) -> Cause {
    let text = message.to_ascii_lowercase();
    let has = |part: &str| text.contains(part);
    if has("could not select device driver")
        || has("nvidia-container")
        || has("cdi device")
        || has("custom device")
    {
        Cause::GpuNotVisible
    } else if has("no space left") {
        Cause::NoSpace
    } else if has("executable file not found") || (has("exec") && has("no such file or directory"))
    {
        Cause::CommandNotFound
    } else if has("exec") && has("permission denied") {
        Cause::CommandNotExecutable
    } else if is_network(&text) {
        Cause::NetworkFailed
    } else {
        Cause::StartFailed
    }
}

/// Why the engine could not create a container, from its words.
#[must_use]
pub fn create_cause(message: &str) -> Cause {
    let text = message.to_ascii_lowercase();
    if text.contains("no such image") {
        Cause::ImageNotAvailable
    } else if text.contains("no space left") {
        Cause::NoSpace
    } else if is_network(&text) {
        Cause::NetworkFailed
    } else {
        Cause::CreateFailed
    }
}

fn is_network(lower: &str) -> bool {
    (lower.contains("network") && lower.contains("not found"))
        || lower.contains("failed to create endpoint")
        || lower.contains("networking")
        || lower.contains("address space")
        || lower.contains("no available ip")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_engine_become_causes() {
        let start = [
            (
                r#"OCI runtime create failed: exec: "nosuch": executable file not found in $PATH: unknown"#,
                Cause::CommandNotFound,
            ),
            (
                r#"exec: "/etc/passwd": permission denied: unknown"#,
                Cause::CommandNotExecutable,
            ),
            (
                r#"could not select device driver "" with capabilities: [[gpu]]"#,
                Cause::GpuNotVisible,
            ),
            (
                "CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=7",
                Cause::GpuNotVisible,
            ),
            (
                "error gathering device information while adding custom device \"/dev/nvidia9\": no such file or directory",
                Cause::GpuNotVisible,
            ),
            ("write /var/lib: no space left on device", Cause::NoSpace),
            ("network 1234 not found", Cause::NetworkFailed),
            (
                "failed to create endpoint x on network y",
                Cause::NetworkFailed,
            ),
            ("something else", Cause::StartFailed),
        ];
        for (message, cause) in start {
            assert_eq!(start_cause(message), cause, "{message}");
        }
        assert_eq!(
            create_cause("No such image: sha256:1"),
            Cause::ImageNotAvailable
        );
        assert_eq!(create_cause("bad parameter"), Cause::CreateFailed);
    }

    #[tokio::test]
    async fn an_absent_socket_is_unreachable() {
        let engine = Engine::new(Path::new("unix:///nowhere/docker.sock"));
        let result = engine
            .call("info", 5, |client| async move { client.info().await })
            .await;
        assert!(
            matches!(result, Err(CallError::Unreachable(_))),
            "{result:?}"
        );
    }

    #[tokio::test]
    async fn a_silent_engine_times_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engine.sock");
        let _listener = tokio::net::UnixListener::bind(&path).unwrap();
        let engine = Engine::new(&path);
        let result = engine
            .call("info", 1, |client| async move { client.info().await })
            .await;
        assert_eq!(
            result.err(),
            Some(CallError::Timeout {
                call: "info",
                seconds: 1
            })
        );
    }
}
