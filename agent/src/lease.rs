//! How long restartable containers go on without a word from the coordinator.
//!
//! The lease counts on the boot clock, from the sending of the last heartbeat that was
//! acknowledged. It ends before the coordinator gives the sessions up, so that an old attempt
//! never runs beside a new one. It is kept in a file in memory, read by a new process of the
//! agent and by `longshore-agent guard`, which freezes when there is no agent at all.

use longshore_common::ids::AgentId;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The engine has so long to freeze a container before the kernel is asked.
pub(crate) const PAUSE: Duration = Duration::from_secs(5);

/// A container that is frozen when the lease is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freezable {
    /// Its id at the engine.
    pub docker_id: String,
    /// Its first process.
    pub pid: Option<u32>,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lease {
    /// Whose it is.
    pub agent: Option<AgentId>,
    /// The boot whose clock counts.
    pub boot_id: String,
    /// When the last heartbeat that was acknowledged was sent, on the boot clock; 0 = none.
    pub acked_ms: i64,
    /// For so long containers go on from then; 0 = for ever.
    pub lease_ms: i64,
    /// What is frozen then.
    pub freeze: Vec<Freezable>,
}

impl Lease {
    /// Whether it is over. One that never began is not: nothing was started under it.
    #[must_use]
    pub fn is_over(&self, boot_id: &str, now_boot_ms: i64) -> bool {
        self.is_over_after(0, boot_id, now_boot_ms)
    }

    /// The same where the coordinator's word stands for what was sent at another instant, on the
    /// boot clock; 0 = it does not.
    #[must_use]
    pub fn is_over_after(&self, word_ms: i64, boot_id: &str, now_boot_ms: i64) -> bool {
        let known_ms = self.acked_ms.max(word_ms);
        self.lease_ms > 0
            && known_ms > 0
            && self.boot_id == boot_id
            && now_boot_ms.saturating_sub(known_ms) >= self.lease_ms
    }

    /// Where it is kept.
    #[must_use]
    pub fn path(run_dir: &Path) -> PathBuf {
        run_dir.join("lease.json")
    }

    /// As it was kept; none if it was not, or is not readable.
    #[must_use]
    pub fn load(path: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Keeps it. The file lies in memory and is gone with the boot, as the lease is: it is
    /// replaced whole, and not synced.
    ///
    /// # Errors
    /// What the file system says.
    pub fn store(&self, path: &Path) -> io::Result<()> {
        let aside = path.with_extension("new");
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        serde_json::to_writer(options.open(&aside)?, self)?;
        fs::rename(&aside, path)
    }
}

/// Freezes containers, all at once: an engine that hangs is waited for once, however many they
/// are. `engine` says whether it froze the one of an id; what it does not within [`PAUSE`] is
/// handed to `past_engine`.
pub async fn freeze_all<F>(
    containers: Vec<Freezable>,
    engine: impl Fn(String) -> F,
    past_engine: impl Fn(&Freezable),
) where
    F: Future<Output = bool> + Send + 'static,
{
    let mut asked = JoinSet::new();
    for container in containers {
        let frozen = timeout(PAUSE, engine(container.docker_id.clone()));
        asked.spawn(async move { (!frozen.await.unwrap_or(false)).then_some(container) });
    }
    while let Some(left) = asked.join_next().await {
        if let Ok(Some(container)) = left {
            past_engine(&container);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_hangs_is_waited_for_once() {
        let container = |n: u32| Freezable {
            docker_id: n.to_string(),
            pid: Some(n),
        };
        let past = RefCell::new(Vec::new());
        let engine = |id: String| async move {
            match id.as_str() {
                "7" => true,
                "8" => false,
                _ => std::future::pending().await,
            }
        };
        let began = tokio::time::Instant::now();
        let all: Vec<Freezable> = (0..200).map(container).collect();
        freeze_all(all, engine, |c| past.borrow_mut().push(c.pid)).await;
        assert_eq!(began.elapsed(), PAUSE);
        let mut past = past.into_inner();
        past.sort_unstable();
        let left: Vec<Option<u32>> = (0..200).filter(|n| *n != 7).map(Some).collect();
        assert_eq!(past, left);
    }

    #[test]
    fn it_ends_when_it_is_over_and_not_before() {
        let lease = Lease {
            agent: Some(AgentId::new(1)),
            boot_id: "b".into(),
            acked_ms: 1_000,
            lease_ms: 540_000,
            freeze: Vec::new(),
        };
        assert!(!lease.is_over("b", 540_999));
        assert!(lease.is_over("b", 541_000));
        assert!(
            !lease.is_over("another", i64::MAX),
            "nothing runs on over a boot"
        );
        let never = Lease {
            lease_ms: 0,
            ..lease.clone()
        };
        assert!(!never.is_over("b", i64::MAX));
        let new = Lease {
            acked_ms: 0,
            ..lease
        };
        assert!(!new.is_over("b", i64::MAX));
    }

    #[test]
    fn it_is_read_as_it_was_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = Lease::path(dir.path());
        assert_eq!(Lease::load(&path), None);
        let lease = Lease {
            agent: Some(AgentId::new(1)),
            boot_id: "b".into(),
            acked_ms: 7,
            lease_ms: 9,
            freeze: vec![Freezable {
                docker_id: "d".into(),
                pid: Some(3),
            }],
        };
        lease.store(&path).unwrap();
        assert_eq!(Lease::load(&path), Some(lease));
        fs::write(&path, "{").unwrap();
        assert_eq!(Lease::load(&path), None);
    }
}
