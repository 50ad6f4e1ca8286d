//! Room on the disk where the database is.
//!
//! | input | output |
//! |---|---|
//! | free and all bytes, how it stood before | whether new sessions are taken |
//! | the same, whether the ballast is there | whether it is made or given back |
//!
//! The ballast is a file beside the database that holds nothing. When hardly anything is left it is
//! removed: stops, releases and outcomes are stored in its place, and they make room elsewhere.

use crate::api::App;
use longshore_core::model::Event;
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// So often it is looked at: within ten seconds after space returned all is as before.
const EVERY: Duration = Duration::from_secs(5);
/// A commit that failed for want of space is looked at sooner; not at once again, as what is told
/// of it may fail for the same reason.
const NOT_BEFORE: Duration = Duration::from_secs(1);
/// Not looked at for so long, nobody knows how it stands: several looks in a row failed, or one hangs.
const UNSEEN: Duration = Duration::from_secs(30);
/// New sessions are refused below this share of the disk...
const LOW_PERCENT: u64 = 10;
/// ...and taken again only above this one: else one at the mark would alarm people all day.
const WELL_PERCENT: u64 = 11;
/// The ballast is given back below this share, or below [`SHORT_BYTES`] where that is less.
const SHORT_PERCENT: u64 = 2;
const SHORT_BYTES: u64 = 1 << 30;
/// Room for some hundred thousand small records.
const BALLAST: u64 = 64 << 20;
/// And no more than this share of a small disk.
const BALLAST_PERCENT: u64 = 5;

/// What a file system has, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// What may still be written.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

impl Space {
    /// That of the file system that holds a path.
    ///
    /// # Errors
    /// What the system says.
    pub fn of(path: &Path) -> io::Result<Self> {
        let disk = rustix::fs::statvfs(path)?;
        Ok(Self {
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
            total: disk.f_blocks.saturating_mul(disk.f_frsize),
        })
    }

    /// A share of the whole, rounded down.
    const fn percent(self, of: u64) -> u64 {
        // Divided first: a share of less than a byte matters to nobody.
        (self.total / 100).saturating_mul(of)
    }

    fn short(self) -> u64 {
        self.percent(SHORT_PERCENT).min(SHORT_BYTES)
    }
}

/// How it stands with the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// All is taken.
    #[default]
    Well,
    /// No new sessions.
    Low,
    /// Hardly anything is left: the ballast is given back.
    Short,
}

fn level(space: Space, was: Level) -> Level {
    let mark = match was {
        Level::Well => LOW_PERCENT,
        Level::Low | Level::Short => WELL_PERCENT,
    };
    if space.free < space.short() {
        Level::Short
    } else if space.free < space.percent(mark) {
        Level::Low
    } else {
        Level::Well
    }
}

/// What becomes of the ballast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Leave,
    Drop,
    /// Bytes.
    Make(u64),
}

fn step(space: Space, there: bool) -> Step {
    let size = space.percent(BALLAST_PERCENT).min(BALLAST);
    // Twice the mark stays free beside it: else it would be made and given back in turn.
    let needed = size.saturating_add(space.short().saturating_mul(2));
    match there {
        true if space.free < space.short() => Step::Drop,
        false if size > 0 && space.free >= needed => Step::Make(size),
        _ => Step::Leave,
    }
}

/// The file.
#[derive(Debug, Clone)]
pub struct Ballast(PathBuf);

impl Ballast {
    /// Beside a database.
    #[must_use]
    pub fn beside(database: &Path) -> Self {
        Self(database.with_file_name("ballast"))
    }

    fn dir(&self) -> &Path {
        self.0.parent().unwrap_or(Path::new("/"))
    }

    /// Looks at the disk and does what is due with the file; how much is free then.
    ///
    /// # Errors
    /// What the system says. What could not be done is tried again with the next look.
    pub fn look(&self) -> io::Result<Space> {
        let space = Space::of(self.dir())?;
        match step(space, self.0.exists()) {
            Step::Leave => return Ok(space),
            Step::Drop => fs::remove_file(&self.0)?,
            Step::Make(size) => {
                let made = self.make(size);
                if made.is_err() {
                    let _ = fs::remove_file(&self.0); // what there is of it counts as all of it
                }
                made?;
            }
        }
        Space::of(self.dir())
    }

    fn make(&self, size: u64) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&self.0)?;
        match fallocate(&file, FallocateFlags::empty(), 0, size) {
            Ok(()) => Ok(()),
            // Some file systems cannot promise room: then it is filled.
            Err(rustix::io::Errno::OPNOTSUPP) => {
                let zeros = [0; 64 << 10];
                let mut left = size;
                while left > 0 {
                    let piece = left.min(zeros.len() as u64);
                    file.write_all(&zeros[..usize::try_from(piece).unwrap_or(0)])?;
                    left -= piece;
                }
                file.sync_data()
            }
            Err(errno) => Err(errno.into()),
        }
    }
}

/// How the disk stands, for who asks and for new sessions.
#[derive(Debug, Default)]
pub struct Standing {
    now: Mutex<Now>,
    /// A commit found no room.
    full: Notify,
}

#[derive(Debug, Default)]
struct Now {
    level: Level,
    /// Why it is not well.
    problem: Option<String>,
    /// Administrators know of it.
    told: bool,
    /// When it was looked at last, or that was begun.
    seen: Option<Instant>,
}

impl Standing {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it stands, and why it is not well; none = it is.
    pub fn problem(&self) -> Option<(Level, String)> {
        let now = self.now();
        let problem = now.problem.clone();
        problem.map(|problem| (now.level, problem))
    }

    /// Why no new sessions are taken; none = they are.
    pub fn no_room(&self) -> Option<String> {
        self.problem().map(|(_, problem)| problem)
    }

    /// For how many seconds nobody could look at it, where that is too long to say how it stands.
    pub fn unseen_s(&self, now: Instant) -> Option<u64> {
        let age = now.saturating_duration_since(self.now().seen?);
        (age >= UNSEEN).then_some(age.as_secs())
    }

    /// Looks begin.
    fn begin(&self, now: Instant) {
        self.now().seen = Some(now);
    }

    /// There was no room for a commit.
    pub fn full(&self) {
        self.full.notify_one();
    }

    /// Takes what a look found. What somebody has to be told of still.
    fn take(&self, space: Space, at: Instant) -> Option<String> {
        let mut now = self.now();
        now.level = level(space, now.level);
        now.seen = Some(at);
        if now.level == Level::Well {
            *now = Now {
                seen: now.seen,
                ..Now::default()
            };
            return None;
        }
        let problem = format!(
            "{} of {} MiB free, new sessions are taken again with {WELL_PERCENT} % free",
            space.free >> 20,
            space.total >> 20
        );
        now.problem = Some(problem.clone());
        (!now.told).then_some(problem)
    }

    fn told(&self) {
        self.now().told = true;
    }
}

/// Takes what a look found, and has administrators told when it became less than is needed.
pub(crate) async fn take(app: &App, space: Space) {
    let standing = &app.engine.live.disk;
    let Some(problem) = standing.take(space, Instant::now()) else {
        return;
    };
    let text = format!("The disk of the coordinator is nearly full: {problem}");
    tracing::error!("{text}");
    match app.engine.ask(Event::Trouble { text }).await {
        Ok(Ok(_)) => standing.told(),
        Ok(Err(error)) => tracing::error!(?error, "nobody could be told of that"),
        Err(error) => tracing::error!(%error, "nobody could be told of that"),
    }
}

/// Looks at the disk until the coordinator stops.
pub async fn keep(app: App, ballast: Ballast, mut stopping: watch::Receiver<bool>) {
    let mut failed = false;
    app.engine.live.disk.begin(Instant::now());
    loop {
        let looking = ballast.clone();
        // A disk that hangs holds up this look and nothing else.
        let looked = tokio::task::spawn_blocking(move || looking.look()).await;
        match looked.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(space) => {
                failed = false;
                take(&app, space).await;
            }
            Err(error) => {
                if !failed {
                    tracing::warn!(%error, "the disk could not be looked at");
                }
                failed = true;
                // How much is free may be known where the ballast cannot be made.
                if let Ok(space) = Space::of(ballast.dir()) {
                    take(&app, space).await;
                }
            }
        }
        let next = async {
            tokio::time::sleep(NOT_BEFORE).await;
            tokio::select! {
                () = tokio::time::sleep(EVERY.saturating_sub(NOT_BEFORE)) => (),
                () = app.engine.live.disk.full.notified() => (),
            }
        };
        tokio::select! {
            () = next => (),
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    const MIB: u64 = 1 << 20;

    const fn space(free: u64, total: u64) -> Space {
        Space {
            free: free * MIB,
            total: total * MIB,
        }
    }

    #[test]
    fn below_a_tenth_nothing_new_is_taken() {
        let at = |free, was| level(space(free, 1000), was);
        assert_eq!(at(100, Level::Well), Level::Well);
        assert_eq!(at(99, Level::Well), Level::Low);
        assert_eq!(at(109, Level::Low), Level::Low, "at the mark it stays");
        assert_eq!(at(110, Level::Low), Level::Well);
        assert_eq!(at(20, Level::Low), Level::Low);
        assert_eq!(at(19, Level::Well), Level::Short);
        // Of a large disk a gigabyte is enough for what has to be stored.
        let at = |free| level(space(free, 1000 << 10), Level::Low);
        assert_eq!((at(1024), at(1023)), (Level::Low, Level::Short));
        let gone = Space { free: 0, total: 0 };
        assert_eq!(level(gone, Level::Well), Level::Well, "nothing is known");
    }

    #[test]
    fn a_disk_that_nobody_could_look_at_is_not_called_well() {
        let (standing, start) = (Standing::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(standing.unseen_s(after(100)), None, "nobody was to look");
        standing.begin(start);
        assert_eq!(standing.unseen_s(after(29)), None);
        assert_eq!(standing.unseen_s(after(30)), Some(30));
        standing.take(space(500, 1000), after(31));
        assert_eq!(standing.unseen_s(after(60)), None);
        assert_eq!(standing.unseen_s(after(61)), Some(30));
        assert_eq!(standing.no_room(), None, "what was seen last holds");
    }

    #[test]
    fn what_is_said_names_the_level_that_ends_it() {
        let (standing, now) = (Standing::default(), Instant::now());
        standing.take(space(99, 1000), now);
        standing.take(space(105, 1000), now);
        let why = standing.no_room().expect("it is low still");
        assert!(
            why.starts_with("105 of 1000 MiB free") && why.contains("11 %"),
            "{why}"
        );
        standing.take(space(110, 1000), now);
        assert_eq!(standing.no_room(), None);
    }

    #[test]
    fn the_ballast_goes_when_hardly_anything_is_left_and_comes_back_with_room() {
        assert_eq!(step(space(64, 1000), false), Step::Leave);
        assert_eq!(step(space(91, 1000), false), Step::Make(50 * MIB));
        assert_eq!(step(space(5000, 100_000), false), Step::Make(64 * MIB));
        assert_eq!(step(space(20, 1000), true), Step::Leave);
        assert_eq!(step(space(19, 1000), true), Step::Drop);
        assert_eq!(step(space(19, 1000), false), Step::Leave, "it is gone");
        // What was given back is not made again of the room it left.
        assert_eq!(step(space(19 + 50, 1000), false), Step::Leave);
    }

    #[test]
    fn the_ballast_takes_room_and_gives_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast::beside(&dir.path().join("longshore.db"));
        ballast.make(3 * MIB).unwrap();
        let meta = ballast.0.metadata().unwrap();
        assert_eq!((meta.len(), meta.mode() & 0o777), (3 * MIB, 0o600));
        assert!(meta.blocks() * 512 >= 3 * MIB, "a promise, not a hole");
    }
}
