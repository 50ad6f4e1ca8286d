//! A process whose supervisor panics, seen from outside.

use super::*;
use crate::journal::{Condition, Stage};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};

/// Where the process that is to die keeps its journal; set for that one only.
const DIES_IN: &str = "LONGSHORE_TEST_DIES_IN";

/// What a process says and leaves behind in which a supervisor runs a container and panics then:
/// this program again, with the one test that does so.
fn died(dir: &Path) -> Output {
    let this = std::env::current_exe().unwrap();
    let test = "supervisor::tests::panics::one_that_panics";
    Command::new(this)
        .args(["--exact", test, "--nocapture"])
        .env(DIES_IN, dir)
        .output()
        .unwrap()
}

/// The one that dies; with the other tests there is nothing for it to do.
#[tokio::test]
async fn one_that_panics() {
    let Some(dir) = std::env::var_os(DIES_IN) else {
        return;
    };
    crate::systemd::panics_end_the_process();
    let mut coordinator = Coordinator::new();
    let parts = parts(Path::new(&dir), &coordinator);
    let shared = Arc::new(Shared::new());
    let handles = start(
        parts.config,
        Arc::new(Scripted::new()),
        parts.journal,
        Arc::clone(&shared),
        parts.logs,
        parts.gpus,
    );
    let send = async |event| handles.events.send(event).await.unwrap();
    send(welcome()).await;
    for (want, until) in [
        (Want::Prepare, ContainerState::Created),
        (Want::Run, ContainerState::Running),
    ] {
        send(coordinator.order(vec![entry(1, want)])).await;
        let is_so = || {
            let reports = shared.outbox().all_reports();
            reports.iter().any(|r| r.state == until)
        };
        tokio::time::timeout(LIMIT, async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
    }
    send(Event::Panic).await;
    // Half dead it would stay here.
    std::future::pending().await
}

#[test]
fn a_supervisor_that_panics_ends_the_process_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let output = died(dir.path());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{said}");
    assert!(said.contains("longshore-agent: panic at "), "{said}");
}

#[test]
fn what_containers_are_there_outlives_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    died(dir.path());
    let (cluster, agent) = (ClusterId::new(1), AgentId::new(2));
    let (journal, condition) = Journal::open(dir.path(), cluster, agent, 1 << 16).unwrap();
    assert_eq!(condition, Condition::Good);
    let record = journal.key(key(1)).expect("it was written down");
    assert_eq!(record.stage, Some(Stage::Start));
    assert_eq!(record.ended, None);
}
