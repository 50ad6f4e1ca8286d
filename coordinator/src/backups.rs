//! Copies of the database that the coordinator makes by itself.
//!
//! | input | output |
//! |---|---|
//! | names of files, the installation | those that are its copies, and when each was made |
//! | when the newest was made, how often, now | how long until the next |
//! | the copies, how many are kept, now | those that go |
//! | free space, the size of the database | whether a copy may be begun |
//!
//! Another installation may have its copies in the same directory: theirs are left alone. An old
//! copy goes only after a new one was made and checked.

use crate::api::App;
use crate::config::Backup;
use crate::engine::wall_clock;
use crate::store::{self, DISK_MIN};
use longshore_common::ids::ClusterId;
use longshore_common::time::Timestamp;
use longshore_core::model::Event;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// After a failure it is tried again so soon, or after the interval if that is shorter.
const AGAIN_MS: i64 = 300_000;
const END: &str = ".db";

fn begin(cluster: ClusterId) -> String {
    format!("longshore-{cluster}-")
}

/// What a copy is called.
fn name(cluster: ClusterId, at: Timestamp) -> String {
    let at = at.to_string().replace(':', "-");
    format!("{}{at}{END}", begin(cluster))
}

/// When the copy of this name was made; none = it is no copy of this installation.
fn made_at(cluster: ClusterId, name: &str) -> Option<Timestamp> {
    let at = name.strip_prefix(&begin(cluster))?.strip_suffix(END)?;
    let (day, time) = at.split_once('T')?;
    format!("{day}T{}", time.replace('-', ":")).parse().ok()
}

/// Milliseconds until the next copy.
fn due_in(newest: Option<Timestamp>, interval_s: i64, now: Timestamp) -> i64 {
    let Some(newest) = newest else {
        return 0;
    };
    // A clock that was set back must not put it off for years.
    let age = now.since(newest).max(0);
    interval_s.saturating_mul(1000).saturating_sub(age).max(0)
}

/// The oldest, as many as there are too many. Those of a clock that ran ahead go before them: else
/// each new copy would be the oldest for years, and go as soon as it was made.
fn excess(mut copies: Vec<(Timestamp, String)>, keep: usize, now: Timestamp) -> Vec<String> {
    copies.sort_unstable_by(|(a, a_name), (b, b_name)| {
        (*a <= now, a, a_name).cmp(&(*b <= now, b, b_name))
    });
    let many = copies.len().saturating_sub(keep.max(1));
    copies.truncate(many);
    copies.into_iter().map(|(_, name)| name).collect()
}

/// Why no copy may be begun: beside it the disk keeps what the coordinator needs itself. Both in
/// bytes.
fn no_room(free: u64, database: u64) -> Option<String> {
    let needed = database.saturating_add(DISK_MIN);
    (free < needed).then(|| {
        let (free, needed) = (free >> 20, needed.div_ceil(1 << 20));
        format!("{free} MiB free, {needed} MiB are needed")
    })
}

/// Whether copies can be made, for who asks how it is.
#[derive(Debug, Default)]
pub struct Standing(Mutex<Made>);

#[derive(Debug, Default)]
struct Made {
    problem: Option<String>,
    /// Administrators know of it.
    told: bool,
}

impl Standing {
    fn made(&self) -> MutexGuard<'_, Made> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the last one was not made; none = it was, or none is wanted.
    pub fn problem(&self) -> Option<String> {
        self.made().problem.clone()
    }

    fn good(&self) {
        *self.made() = Made::default();
    }

    /// Whether somebody has to be told of it still.
    fn failed(&self, problem: String) -> bool {
        let mut made = self.made();
        made.problem = Some(problem);
        !made.told
    }

    fn told(&self) {
        self.made().told = true;
    }
}

/// The copies of an installation in a directory.
fn copies(dir: &Path, cluster: ClusterId) -> io::Result<Vec<(Timestamp, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Some(at) = made_at(cluster, &name) {
            found.push((at, name));
        }
    }
    Ok(found)
}

/// When the newest copy was made. One of a clock that ran ahead says nothing of that.
fn newest(copies: &[(Timestamp, String)], now: Timestamp) -> Option<Timestamp> {
    let times = copies.iter().map(|(at, _)| *at);
    times.filter(|at| *at <= now).max()
}

/// Bytes that a copy of a database takes, or a little more.
fn size(database: &Path) -> u64 {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    let bytes = |path: &Path| path.metadata().map_or(0, |meta| meta.len());
    bytes(database).saturating_add(bytes(Path::new(&log)))
}

/// Makes a copy, then removes those that are too many.
fn make(database: &Path, to: &Backup, cluster: ClusterId, now: Timestamp) -> Result<u64, String> {
    let said = |error: &dyn std::fmt::Display| format!("{}: {error}", to.dir.display());
    let mut dir = fs::DirBuilder::new();
    let made = dir.recursive(true).mode(0o700).create(&to.dir);
    made.map_err(|error| said(&error))?;
    // What a process left behind that was killed while it copied.
    let parts = fs::read_dir(&to.dir).map_err(|error| said(&error))?;
    for entry in parts.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let copy = name.strip_suffix(".part");
        if copy.is_some_and(|copy| made_at(cluster, copy).is_some()) {
            let _ = fs::remove_file(entry.path()); // the next look finds it again
        }
    }
    let disk = rustix::fs::statvfs(&to.dir).map_err(|error| said(&error))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if let Some(text) = no_room(free, size(database)) {
        return Err(said(&text));
    }
    let path = to.dir.join(name(cluster, now));
    let bytes = store::backup(database, &path).map_err(|error| said(&error))?;
    let copies = copies(&to.dir, cluster).map_err(|error| said(&error))?;
    let keep = usize::try_from(to.keep).unwrap_or(usize::MAX);
    for old in excess(copies, keep, now) {
        let path = to.dir.join(old);
        fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(bytes)
}

/// Makes one now, and tells how it went: where copies could be made before, administrators are
/// told that they cannot any more.
pub(crate) async fn one(app: &App, database: &Path, to: Backup) {
    let (database, cluster) = (database.to_owned(), app.cluster);
    let made = tokio::task::spawn_blocking(move || make(&database, &to, cluster, wall_clock()));
    let made = made.await.unwrap_or_else(|error| Err(error.to_string()));
    let standing = &app.engine.live.backups;
    let problem = match made {
        Ok(bytes) => {
            tracing::info!(bytes, "a copy of the database was made");
            standing.good();
            return;
        }
        Err(problem) => problem,
    };
    let text = format!("The database could not be backed up: {problem}");
    if standing.failed(problem) {
        tracing::error!("{text}");
        // What kept it from being stored may be over when the next copy fails.
        match app.engine.ask(Event::Trouble { text }).await {
            Ok(Ok(_)) => standing.told(),
            Ok(Err(error)) => tracing::error!(?error, "nobody could be told of that"),
            Err(error) => tracing::error!(%error, "nobody could be told of that"),
        }
    }
}

/// Does it, unless the coordinator stops meanwhile: then it is cut, and the next process removes
/// what it left behind. Whether it was done.
async fn before_the_stop(work: impl Future<Output = ()>, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = work => true,
        _ = stop.wait_for(|stop| *stop) => false,
    }
}

/// Makes copies as the configuration says, until the coordinator stops.
pub async fn keep(app: App, database: PathBuf, mut stopping: watch::Receiver<bool>) {
    let mut settings = app.settings.watch();
    loop {
        let backup = settings.borrow_and_update().config.services.backup.clone();
        let wait = match backup.enabled {
            false => {
                app.engine.live.backups.good();
                None
            }
            true => {
                let now = wall_clock();
                let copies = copies(&backup.dir, app.cluster).unwrap_or_default();
                let due = due_in(newest(&copies, now), backup.interval_s, now);
                let again = AGAIN_MS.min(backup.interval_s.saturating_mul(1000));
                let failed = app.engine.live.backups.problem().is_some();
                Some(if failed { due.max(again) } else { due })
            }
        };
        let due = async {
            match wait {
                None => std::future::pending().await,
                Some(ms) => tokio::time::sleep(Duration::from_millis(ms.unsigned_abs())).await,
            }
        };
        let due = tokio::select! {
            () = due => true,
            _ = settings.changed() => false,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        if due {
            let copied = one(&app, &database, backup);
            if !before_the_stop(copied, &mut stopping).await {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: ClusterId = ClusterId::new(7);

    #[test]
    fn a_copy_is_known_by_its_name() {
        let at: Timestamp = "2026-11-20T21:05:03.120Z".parse().unwrap();
        let name = name(OURS, at);
        assert!(name.ends_with("-2026-11-20T21-05-03.120Z.db"), "{name}");
        assert_eq!(made_at(OURS, &name), Some(at));
        assert_eq!(made_at(ClusterId::new(8), &name), None, "another's");
        for none in [
            "longshore.db",
            &format!("{name}.part"),
            &name.replace('T', " "),
        ] {
            assert_eq!(made_at(OURS, none), None, "{none}");
        }
    }

    #[test]
    fn the_next_one_is_due_an_interval_after_the_last() {
        let now = Timestamp(10_000_000);
        assert_eq!(due_in(None, 3600, now), 0);
        assert_eq!(due_in(Some(now), 3600, now), 3_600_000);
        assert_eq!(due_in(Some(now.plus_ms(-3_599_999)), 3600, now), 1);
        assert_eq!(due_in(Some(Timestamp(0)), 3600, now), 0);
        // The clock was set back.
        assert_eq!(due_in(Some(now.plus_ms(i64::MAX)), 3600, now), 3_600_000);
    }

    #[test]
    fn the_oldest_go() {
        let copies = |ages: &[i64]| {
            let one = |age: &i64| (Timestamp(*age), age.to_string());
            ages.iter().map(one).collect::<Vec<_>>()
        };
        let now = Timestamp(9);
        assert_eq!(excess(copies(&[3, 1, 2]), 2, now), ["1"]);
        assert!(excess(copies(&[3, 1]), 2, now).is_empty());
        assert_eq!(excess(copies(&[5, 9, 7, 8]), 1, now), ["5", "7", "8"]);
        assert!(excess(copies(&[9]), 0, now).is_empty());
    }

    #[test]
    fn a_clock_that_ran_ahead_takes_no_new_copy_away() {
        let copies = [50, 9, 40, 5, 60].map(|age| (Timestamp(age), age.to_string()));
        let now = Timestamp(9);
        assert_eq!(newest(&copies, now), Some(now));
        assert_eq!(newest(&copies[..1], now), None, "one is due");
        assert_eq!(excess(copies.to_vec(), 3, now), ["40", "50"]);
        assert_eq!(excess(copies.to_vec(), 1, now), ["40", "50", "60", "5"]);
    }

    #[test]
    fn the_unit_makes_the_usual_directory() {
        let unit = include_str!("../../systemd/longshore-coordinator.service");
        let dir = Backup::default().dir;
        let dir = dir.to_str().unwrap();
        let made = format!(
            "\nExecStartPre=-+/usr/bin/install -d -o longshore -g longshore -m 0700 {dir}\n"
        );
        for line in [
            &made,
            "\nUser=longshore\n",
            &format!("\nReadWritePaths=-{dir}\n"),
        ] {
            assert!(unit.contains(line), "{line}");
        }
    }

    #[test]
    fn the_disk_keeps_what_the_coordinator_needs() {
        assert_eq!(no_room(DISK_MIN + (5 << 20), 5 << 20), None);
        let text = no_room(DISK_MIN + (5 << 20) - 1, 5 << 20);
        assert_eq!(text.as_deref(), Some("260 MiB free, 261 MiB are needed"));
        assert!(no_room(u64::MAX - 1, u64::MAX).is_some());
    }

    #[test]
    fn a_problem_stands_until_somebody_was_told() {
        let standing = Standing::default();
        assert!(standing.failed("full".to_owned()));
        assert!(standing.failed("full still".to_owned()), "nobody was told");
        standing.told();
        assert!(!standing.failed("and still".to_owned()));
        assert_eq!(standing.problem().as_deref(), Some("and still"));
        standing.good();
        assert_eq!(standing.problem(), None);
        assert!(standing.failed("again".to_owned()), "it was good meanwhile");
    }

    #[tokio::test]
    async fn a_copy_does_not_hold_up_the_stop() {
        let (stop, mut stopping) = watch::channel(false);
        assert!(before_the_stop(async {}, &mut stopping).await);
        let work = async {
            let _ = stop.send(true);
            std::future::pending().await
        };
        assert!(!before_the_stop(work, &mut stopping).await);
    }
}
