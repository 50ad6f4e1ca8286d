//! The lease on the agent's side: who is frozen when, who is thawed, who never is.

use super::tests::{Driven, away, entry, key, lock, stop, welcome_with_lease};
use super::*;
use crate::runtime::FoundStatus;
use futures_util::FutureExt;
use longshore_common::ids::Fence;
use longshore_common::limits::{Combine, IdleAction, IdlePolicy};
use longshore_common::session::{ContainerState, SessionType, StopOrder};

/// T2 of 600 s less 60 s.
const LEASE_MS: i64 = 540_000;

fn restartable(session: u64, want: Want) -> Entry {
    Entry {
        restartable: true,
        ..entry(session, want)
    }
}

/// Linked, with a restartable container and another that run.
async fn both() -> Driven {
    let mut driven = Driven::new().await;
    driven.take(welcome_with_lease(LEASE_MS));
    driven.coordinator.lease_ms = LEASE_MS.unsigned_abs();
    driven.order(vec![restartable(1, Want::Prepare), entry(2, Want::Prepare)]);
    let created = |d: &Driven| [1, 2].map(|s| d.state(s)) == [Some(ContainerState::Created); 2];
    driven.until("they are created", created).await;
    driven.order(vec![restartable(1, Want::Run), entry(2, Want::Run)]);
    driven
        .until("they run", |d| {
            let run = [1, 2].map(|s| d.state(s)) == [Some(ContainerState::Running); 2];
            run && d.supervisor.busy.is_empty()
        })
        .await;
    driven
}

fn status(driven: &Driven, session: u64) -> Option<FoundStatus> {
    let found = driven.supervisor.found.get(&key(session));
    found.map(|found| found.status.clone())
}

/// The link is gone, and the last heartbeat that was acknowledged was sent so long ago.
fn cut_off(driven: &mut Driven, for_ms: i64) {
    let acked = host::boot_clock_ms() - for_ms;
    let shared = &driven.supervisor.shared;
    shared.acked_sent_ms.store(acked, Ordering::Relaxed);
    driven.take(Event::Heard(Heard::Down));
    driven.supervisor.tick();
}

async fn frozen() -> Driven {
    let mut driven = both().await;
    cut_off(&mut driven, LEASE_MS);
    driven
        .until("it is frozen", |d| {
            status(d, 1) == Some(FoundStatus::Paused) && d.supervisor.busy.is_empty()
        })
        .await;
    driven
}

#[tokio::test]
async fn what_is_restartable_is_frozen_when_the_lease_is_over() {
    let mut driven = both().await;
    cut_off(&mut driven, LEASE_MS - 10_000);
    assert!(driven.supervisor.busy.is_empty(), "ten seconds are left");
    cut_off(&mut driven, LEASE_MS);
    driven
        .until("it is frozen", |d| {
            status(d, 1) == Some(FoundStatus::Paused)
        })
        .await;
    driven.supervisor.tick();
    assert_eq!(status(&driven, 2), Some(FoundStatus::Running), "it runs on");
    assert_eq!(driven.engine.count("freeze"), 1);
    assert_eq!(
        driven.state(1),
        Some(ContainerState::Running),
        "shown with its condition"
    );
}

#[tokio::test]
async fn a_link_that_is_back_thaws_by_the_coordinators_word_alone() {
    let mut driven = frozen().await;
    driven.take(welcome_with_lease(LEASE_MS));
    assert!(
        driven.supervisor.busy.is_empty(),
        "nothing was said about it yet"
    );
    driven.order(vec![restartable(1, Want::Run), entry(2, Want::Run)]);
    driven
        .until("it goes on", |d| status(d, 1) == Some(FoundStatus::Running))
        .await;
    assert_eq!(driven.engine.count("thaw"), 1);
    driven.supervisor.tick();
    assert_eq!(
        driven.engine.count("freeze"),
        1,
        "the word is newer than the lease"
    );
}

#[tokio::test]
async fn a_machine_that_wakes_freezes_before_anything_else_though_the_link_stands() {
    let mut driven = both().await;
    let shared = Arc::clone(&driven.supervisor.shared);
    let before = host::boot_clock_ms() - LEASE_MS;
    assert!(driven.supervisor.synced);
    // It stood still: nothing was cut, and the last word is old.
    shared.acked_sent_ms.store(before, Ordering::Relaxed);
    driven.supervisor.hello_ms = before;
    let asked_anew = shared.asked_anew();
    driven.supervisor.tick();
    driven
        .until("it is frozen", |d| {
            status(d, 1) == Some(FoundStatus::Paused) && d.supervisor.busy.is_empty()
        })
        .await;
    assert_eq!(status(&driven, 2), Some(FoundStatus::Running), "it runs on");
    let asked = asked_anew.now_or_never().is_some();
    assert!(asked, "only a new link brings orders that count");
    // A set that came before it stood still says nothing about now.
    driven.order(vec![restartable(1, Want::Run), entry(2, Want::Run)]);
    driven.supervisor.tick();
    assert_eq!(driven.engine.count("thaw"), 0);
    // Nor does an acknowledgement: sessions may have been given up and placed elsewhere.
    let now = host::boot_clock_ms();
    shared.acked_sent_ms.store(now, Ordering::Relaxed);
    driven.supervisor.tick();
    driven.supervisor.reconcile(key(1)).unwrap();
    driven.order(vec![restartable(1, Want::Run), entry(2, Want::Run)]);
    assert!(!driven.supervisor.set_is_fresh && driven.supervisor.busy.is_empty());
    assert_eq!(driven.engine.count("thaw"), 0);
    driven.take(Event::Heard(Heard::Down));
    driven.take(welcome_with_lease(LEASE_MS));
    driven.order(vec![restartable(1, Want::Run), entry(2, Want::Run)]);
    driven
        .until("it goes on", |d| status(d, 1) == Some(FoundStatus::Running))
        .await;
}

#[tokio::test]
async fn what_was_given_up_is_removed_without_running_again() {
    let mut driven = frozen().await;
    driven.take(welcome_with_lease(LEASE_MS));
    driven.coordinator.fence = Fence(2);
    let given_up = Entry {
        stop: Some(StopOrder {
            reason: longshore_common::session::Reason::AgentLost,
            grace_s: 0,
            forced: true,
        }),
        ..stop(1, 0)
    };
    driven.order(vec![given_up, stop(2, 0)]);
    driven.closed(1).await;
    driven.closed(2).await;
    let (thaws, kills) = (driven.engine.count("thaw"), driven.engine.count("kill"));
    assert_eq!((thaws, kills), (0, 1));
    assert_eq!(driven.supervisor.journal.contents().fence, Fence(2));
}

#[tokio::test]
async fn a_set_of_another_fence_thaws_nothing_of_this_one() {
    let mut driven = frozen().await;
    driven.take(welcome_with_lease(LEASE_MS));
    driven.coordinator.fence = Fence(2);
    driven.order(vec![restartable(1, Want::Run)]);
    driven.supervisor.tick();
    assert!(driven.supervisor.busy.is_empty());
    assert_eq!(status(&driven, 1), Some(FoundStatus::Paused));
}

#[tokio::test]
async fn without_a_lease_everything_runs_on() {
    let mut driven = both().await;
    driven.take(welcome_with_lease(0));
    cut_off(&mut driven, LEASE_MS - 10_000);
    assert!(
        driven.supervisor.lease.lease_ms == LEASE_MS,
        "the set says it"
    );
    driven.coordinator.lease_ms = 0;
    driven.order(vec![restartable(1, Want::Run), entry(2, Want::Run)]);
    cut_off(&mut driven, 10 * LEASE_MS);
    assert!(driven.supervisor.busy.is_empty());
}

#[tokio::test]
async fn a_new_process_of_the_agent_goes_on_with_the_lease() {
    let mut driven = both().await;
    let dir = tempfile::tempdir().unwrap();
    let path = Lease::path(dir.path());
    driven.supervisor.config.lease_file = Some(path.clone());
    cut_off(&mut driven, LEASE_MS - 10_000);
    let kept = Lease::load(&path).unwrap();
    assert_eq!((kept.lease_ms, kept.freeze.len()), (LEASE_MS, 1));
    let ids: Vec<&str> = kept.freeze.iter().map(|f| f.docker_id.as_str()).collect();
    assert_eq!(ids, [key(1).to_string()]);
    // It is dead until the lease is over.
    let over = Lease {
        acked_ms: host::boot_clock_ms() - LEASE_MS,
        ..kept
    };
    over.store(&path).unwrap();
    let mut next = driven.reborn();
    next.supervisor.config.lease_file = Some(path);
    next.supervisor.recall();
    next.list_again();
    next.until("it is frozen", |d| {
        status(d, 1) == Some(FoundStatus::Paused)
    })
    .await;
    assert_eq!(status(&next, 2), Some(FoundStatus::Running));
}

#[tokio::test]
async fn a_shorter_lease_holds_at_once() {
    let mut driven = both().await;
    driven.coordinator.lease_ms = 60_000;
    driven.order(vec![restartable(1, Want::Run), entry(2, Want::Run)]);
    cut_off(&mut driven, 59_000);
    assert!(driven.supervisor.busy.is_empty());
    cut_off(&mut driven, 60_000);
    assert!(driven.supervisor.busy.contains_key(&key(1)));
    // It holds in a new process, whatever the lease file says.
    let mut next = driven.reborn();
    next.supervisor.recall();
    assert_eq!(next.supervisor.lease.lease_ms, 60_000);
}

/// A kernel that shows the first container, in a process no machine has, and its freezer.
struct Kernel {
    dir: tempfile::TempDir,
}

const PID: u32 = 1 << 30;

impl Kernel {
    fn of(driven: &mut Driven) -> Self {
        let kernel = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let id = key(1).to_string();
        let (proc, group) = (kernel.dir.path().join("proc"), kernel.dir.path().join(&id));
        std::fs::create_dir_all(proc.join(PID.to_string())).unwrap();
        std::fs::create_dir(&group).unwrap();
        std::fs::write(
            proc.join(PID.to_string()).join("cgroup"),
            format!("0::/{id}"),
        )
        .unwrap();
        std::fs::write(kernel.file(), "0").unwrap();
        driven.supervisor.freezer = kernel.freezer();
        let mut found = lock(&driven.engine.containers);
        found.get_mut(&key(1)).unwrap().pid = Some(PID);
        if let Some(found) = driven.supervisor.found.get_mut(&key(1)) {
            found.pid = Some(PID);
        }
        kernel
    }

    fn freezer(&self) -> Freezer {
        Freezer::at(&self.dir.path().join("proc"), self.dir.path())
    }

    fn file(&self) -> PathBuf {
        self.dir
            .path()
            .join(key(1).to_string())
            .join("cgroup.freeze")
    }

    fn frozen(&self) -> bool {
        // Written over what was there, as the kernel's own file is not.
        std::fs::read_to_string(self.file())
            .unwrap()
            .starts_with('1')
    }
}

/// Frozen by the kernel: the engine does not do it.
async fn frozen_past_the_engine() -> (Driven, Kernel) {
    let mut driven = both().await;
    let kernel = Kernel::of(&mut driven);
    *lock(&driven.engine.freeze_fails) = Some(away());
    cut_off(&mut driven, LEASE_MS);
    driven
        .until("the kernel did it", |d| {
            kernel.frozen() && d.supervisor.busy.is_empty()
        })
        .await;
    (driven, kernel)
}

#[tokio::test]
async fn what_the_engine_does_not_freeze_the_kernel_does_once() {
    let (mut driven, kernel) = frozen_past_the_engine().await;
    let reports = driven.supervisor.shared.outbox().all_reports();
    assert!(reports.iter().any(|r| r.key == key(1) && r.frozen), "shown");
    driven.supervisor.retry_at.clear();
    driven.supervisor.reconcile(key(1)).unwrap();
    assert!(driven.supervisor.busy.is_empty(), "it is done");
    assert_eq!(driven.engine.count("freeze"), 1);
    // The coordinator's word thaws it, without the engine.
    driven.take(welcome_with_lease(LEASE_MS));
    assert!(kernel.frozen());
    driven.order(vec![restartable(1, Want::Run), entry(2, Want::Run)]);
    assert!(!kernel.frozen());
    assert!(!driven.supervisor.is_frozen(key(1)));
}

#[tokio::test]
async fn what_was_given_up_is_not_thawed_past_the_engine() {
    let (mut driven, kernel) = frozen_past_the_engine().await;
    driven.take(welcome_with_lease(LEASE_MS));
    driven.coordinator.fence = Fence(2);
    driven.order(vec![restartable(1, Want::Run)]);
    assert!(kernel.frozen());
    // Told to stop, it gets its kill first.
    let group = kernel.file().with_file_name("cgroup.procs");
    std::fs::write(group, format!("{PID}\n")).unwrap();
    driven.supervisor.retry_at.clear(); // a second later
    driven.order(vec![stop(1, 600)]);
    driven.closed(1).await;
    assert!(!kernel.frozen());
    let (stops, kills) = (driven.engine.count("stop 600"), driven.engine.count("kill"));
    assert_eq!((stops, kills), (0, 1));
}

#[tokio::test]
async fn a_link_that_is_back_leaves_what_the_engine_did_not_freeze() {
    let mut driven = both().await;
    let kernel = Kernel::of(&mut driven);
    driven.engine.freezes.set(false);
    *lock(&driven.engine.freeze_fails) = Some(away());
    cut_off(&mut driven, LEASE_MS);
    driven
        .until("it is asked", |d| d.engine.count("freeze") == 1)
        .await;
    driven.take(welcome_with_lease(LEASE_MS));
    driven.order(vec![restartable(1, Want::Run), entry(2, Want::Run)]);
    driven.engine.freezes.set(true);
    driven
        .until("it has answered", |d| d.supervisor.busy.is_empty())
        .await;
    assert!(!kernel.frozen());
}

#[tokio::test]
async fn the_first_list_thaws_what_others_froze() {
    let mut driven = both().await;
    let kernel = Kernel::of(&mut driven);
    kernel.freezer().freeze(PID, &key(1).to_string()).unwrap();
    let mut next = driven.reborn();
    next.supervisor.freezer = kernel.freezer();
    next.supervisor.recall();
    next.take(welcome_with_lease(LEASE_MS));
    next.order(vec![restartable(1, Want::Run), entry(2, Want::Run)]);
    assert!(kernel.frozen(), "nobody has listed it yet");
    next.list_again();
    next.until("it is listed", |d| d.supervisor.listed).await;
    assert!(!kernel.frozen());
}

#[tokio::test]
async fn an_engine_that_never_lists_does_not_keep_a_new_process_from_freezing() {
    let mut driven = both().await;
    let kernel = Kernel::of(&mut driven);
    let dir = tempfile::tempdir().unwrap();
    let path = Lease::path(dir.path());
    driven.supervisor.config.lease_file = Some(path.clone());
    cut_off(&mut driven, LEASE_MS - 10_000);
    let mut next = driven.reborn();
    next.engine.lists.set(false);
    next.supervisor.freezer = kernel.freezer();
    next.supervisor.config.lease_file = Some(path.clone());
    next.supervisor.recall();
    next.supervisor.tick();
    let kept = Lease::load(&path).unwrap();
    assert_eq!(kept.freeze.len(), 1, "the guard still knows");
    let acked = host::boot_clock_ms() - LEASE_MS;
    next.supervisor
        .shared
        .acked_sent_ms
        .store(acked, Ordering::Relaxed);
    next.supervisor.tick();
    assert!(!kernel.frozen(), "the engine gets its time");
    next.supervisor.began_ms -= 5_000;
    next.supervisor.tick();
    assert!(kernel.frozen());
}

#[tokio::test]
async fn of_what_is_frozen_no_use_is_judged() {
    let mut driven = both().await;
    let entry = driven.supervisor.desired.get_mut(&key(1)).unwrap();
    entry.spec.kind = SessionType::Interactive;
    entry.limits.idle = Some(IdlePolicy {
        action: IdleAction::Stop,
        combine: Combine::All,
        initial_grace_s: 0,
        warn_s: vec![30],
        interaction_timeout_s: Some(60),
        utilization: None,
        timeout_s: 60,
        keep_max: 4,
    });
    let now = host::boot_clock_ms();
    let end = Some(now + 500_000);
    let watching = driven.supervisor.watching.get_mut(&key(1)).unwrap();
    watching.set_lifetime(end);
    let verdict = |driven: &mut Driven| {
        driven.supervisor.enforce(now, true);
        driven.supervisor.watching[&key(1)].verdict.clone()
    };
    let runs = verdict(&mut driven);
    assert!(runs.idle_deadline_ms.is_some(), "{runs:?}");
    driven.supervisor.found.get_mut(&key(1)).unwrap().status = FoundStatus::Paused;
    let frozen = verdict(&mut driven);
    assert_eq!(
        (frozen.idle_deadline_ms, frozen.checks),
        (None, [None, None])
    );
    assert_eq!(frozen.lifetime_deadline_ms, end, "that goes on");
}
