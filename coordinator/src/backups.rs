//! Copies of the database that the coordinator makes by itself.
//!
//! | input | output |
//! |---|---|
//! | names of files, the installation | those that are its copies, and when each was made |
//! | when the newest was made, how often, now | how long until the next |
//! | the copies, how many are kept | those that go |
//!
//! Another installation may have its copies in the same directory: theirs are left alone. An old
//! copy goes only after a new one was made and checked.

use crate::api::App;
use crate::config::Backup;
use crate::engine::wall_clock;
use crate::store;
use longshore_common::ids::ClusterId;
use longshore_common::time::Timestamp;
use longshore_core::model::Event;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
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

/// The oldest, as many as there are too many.
fn excess(mut copies: Vec<(Timestamp, String)>, keep: usize) -> Vec<String> {
    copies.sort_unstable();
    let many = copies.len().saturating_sub(keep);
    copies.truncate(many);
    copies.into_iter().map(|(_, name)| name).collect()
}

/// Whether copies can be made, for who asks how it is.
#[derive(Debug, Default)]
pub struct Standing(Mutex<Option<String>>);

impl Standing {
    /// Why the last one was not made; none = it was, or none is wanted.
    pub fn problem(&self) -> Option<String> {
        let problem = self.0.lock();
        problem.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, problem: Option<String>) -> Option<String> {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut now, problem)
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

/// When the newest copy was made.
fn newest(dir: &Path, cluster: ClusterId) -> Option<Timestamp> {
    let copies = copies(dir, cluster).ok()?;
    copies.into_iter().map(|(at, _)| at).max()
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
    let path = to.dir.join(name(cluster, now));
    let bytes = store::backup(database, &path).map_err(|error| said(&error))?;
    let copies = copies(&to.dir, cluster).map_err(|error| said(&error))?;
    let keep = usize::try_from(to.keep).unwrap_or(usize::MAX);
    for old in excess(copies, keep) {
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
            standing.set(None);
            return;
        }
        Err(problem) => problem,
    };
    let text = format!("The database could not be backed up: {problem}");
    if standing.set(Some(problem)).is_none() {
        tracing::error!("{text}");
        if let Err(error) = app.engine.ask(Event::Trouble { text }).await {
            tracing::error!(%error, "nobody could be told of that");
        }
    }
}

/// Makes copies as the configuration says, until the coordinator stops.
pub async fn keep(app: App, database: PathBuf, mut stopping: watch::Receiver<bool>) {
    let mut settings = app.settings.watch();
    loop {
        let backup = settings.borrow_and_update().config.services.backup.clone();
        let wait = match backup.enabled {
            false => {
                app.engine.live.backups.set(None);
                None
            }
            true => {
                let newest = newest(&backup.dir, app.cluster);
                let due = due_in(newest, backup.interval_s, wall_clock());
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
            one(&app, &database, backup).await;
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
        assert_eq!(excess(copies(&[3, 1, 2]), 2), ["1"]);
        assert!(excess(copies(&[3, 1]), 2).is_empty());
        assert_eq!(excess(copies(&[5, 9, 7, 8]), 1), ["5", "7", "8"]);
    }
}
