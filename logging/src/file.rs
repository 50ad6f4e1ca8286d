//! A file of lines that is turned when it is full: `a.log` becomes `a.log.1`, that one `a.log.2`,
//! and the oldest goes.

use crate::{LogFile, MOST_KEPT};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Between two looks at a file that another process holds.
const LOOK: Duration = Duration::from_millis(50);
/// What the umask of the process leaves of it.
const MODE: Mode = Mode::from_raw_mode(0o640);
const DIR_MODE: u32 = 0o750;

/// See the module. One process writes to it at a time.
#[derive(Debug)]
pub struct Turning(Mutex<State>);

#[derive(Debug)]
struct State {
    to: LogFile,
    file: File,
    size: u64,
    /// That it cannot be turned was said.
    told: bool,
}

impl Turning {
    /// Opens or makes a file, and the directory it lies in, and goes on at its end. One that
    /// another process writes to is tried for so long.
    ///
    /// # Errors
    /// What the file system says; another process has it; it is no plain file.
    pub fn open(to: &LogFile, wait: Duration) -> io::Result<Self> {
        if let Some(dir) = to.path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(DIR_MODE)
                .create(dir)?;
        }
        let file = opened(&to.path, OFlags::empty())?;
        let until = Instant::now() + wait;
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            if Instant::now() >= until {
                return Err(io::Error::other("another process writes to it"));
            }
            thread::sleep(LOOK);
        }
        // Whoever had it may have turned it meanwhile.
        if !is(&to.path, &file) {
            return Self::open(to, until.saturating_duration_since(Instant::now()));
        }
        let size = file.metadata()?.len();
        let state = State {
            to: to.clone(),
            file,
            size,
            told: false,
        };
        state.remove_beyond();
        Ok(Self(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is the file that lies at a path.
    #[must_use]
    pub fn is_at(&self, path: &Path) -> bool {
        let state = self.state();
        state.to.path == path && is(path, &state.file)
    }

    /// Takes other bounds; the path stays.
    pub fn bound(&self, to: &LogFile) {
        let mut state = self.state();
        state.to.max_size = to.max_size;
        state.to.keep = to.keep;
        state.remove_beyond();
    }

    /// Writes a line whole.
    ///
    /// # Errors
    /// What the file system says; nothing of the line is left in the file then.
    pub fn line(&self, line: &[u8]) -> io::Result<()> {
        let (problem, written) = self.state().line(line);
        if let Some(problem) = problem {
            // Nobody holds the file any more, and this must not panic: what becomes of a panic is
            // logged too.
            let _ = writeln!(io::stderr(), "{problem}");
        }
        written
    }
}

impl State {
    fn kept(&self, number: u32) -> PathBuf {
        with(&self.to.path, &number.to_string())
    }

    /// Writes a line, and says why the file could not be turned, the first time that it cannot.
    fn line(&mut self, line: &[u8]) -> (Option<String>, io::Result<()>) {
        let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
        let mut problem = None;
        if self.size > 0 && self.size.saturating_add(length) > self.to.max_size {
            match self.turn() {
                Ok(()) => self.told = false,
                // A file that is too long is better than a line less.
                Err(error) if !self.told => {
                    self.told = true;
                    let path = self.to.path.display();
                    let text = format!("{path}: cannot be turned: {error}; it grows until it can");
                    problem = Some(text);
                }
                Err(_) => (),
            }
        }
        let written = self.file.write_all(line);
        match written {
            Ok(()) => self.size += length,
            // Else half a line would stand before the next one.
            Err(_) => drop(self.file.set_len(self.size)),
        }
        (problem, written)
    }

    /// What can fail comes first: until the new file is there, nothing has moved.
    fn turn(&mut self) -> io::Result<()> {
        let new = with(&self.to.path, "new");
        let file = opened(&new, OFlags::TRUNC)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        for number in (1..self.to.keep).rev() {
            moved(&self.kept(number), &self.kept(number + 1))?;
        }
        if self.to.keep > 0 {
            moved(&self.to.path, &self.kept(1))?;
        }
        fs::rename(&new, &self.to.path)?;
        self.file = file;
        self.size = 0;
        Ok(())
    }

    /// Turned files that were kept by larger bounds.
    fn remove_beyond(&self) {
        for number in self.to.keep.saturating_add(1)..=MOST_KEPT {
            if fs::remove_file(self.kept(number)).is_err() {
                return;
            }
        }
    }
}

fn with(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(end);
    PathBuf::from(name)
}

fn moved(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed,
    }
}

/// A link is not followed: who may write into the directory could else choose what is written to.
fn opened(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags
        | OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::CREATE
        | OFlags::CLOEXEC
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK; // else a pipe that nobody reads would hold up the start
    let file = File::from(rustix::fs::open(path, flags, MODE)?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("is no plain file")),
    }
}

fn is(path: &Path, file: &File) -> bool {
    let (Ok(there), Ok(ours)) = (fs::symlink_metadata(path), file.metadata()) else {
        return false;
    };
    (there.dev(), there.ino()) == (ours.dev(), ours.ino())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn to(dir: &tempfile::TempDir, max_size: u64, keep: u32) -> LogFile {
        LogFile {
            path: dir.path().join("below/a.log"),
            max_size,
            keep,
        }
    }

    fn text(to: &LogFile, end: &str) -> Option<String> {
        let path = match end {
            "" => to.path.clone(),
            end => with(&to.path, end),
        };
        fs::read_to_string(path).ok()
    }

    #[test]
    fn a_full_file_is_turned_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let to = to(&dir, 6, 2);
        let log = Turning::open(&to, Duration::ZERO).unwrap();
        for line in [
            "a1\n", "a2\n", "b1\n", "longer\n", "c\n", "d\n", "e\n", "f\n",
        ] {
            log.line(line.as_bytes()).unwrap();
        }
        assert_eq!(text(&to, ""), Some("f\n".to_owned()));
        assert_eq!(text(&to, "1"), Some("c\nd\ne\n".to_owned()));
        assert_eq!(text(&to, "2"), Some("longer\n".to_owned()));
        assert_eq!(text(&to, "3"), None);
        assert_eq!(fs::read_dir(to.path.parent().unwrap()).unwrap().count(), 3);
        // A process that starts goes on where the last one was.
        drop(log);
        let fewer = LogFile { keep: 1, ..to };
        let log = Turning::open(&fewer, Duration::ZERO).unwrap();
        log.line(b"g\n").unwrap();
        assert_eq!(text(&fewer, ""), Some("f\ng\n".to_owned()));
        assert_eq!(text(&fewer, "2"), None);
    }

    #[test]
    fn without_any_kept_the_file_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let to = to(&dir, 3, 0);
        let log = Turning::open(&to, Duration::ZERO).unwrap();
        log.line(b"a\n").unwrap();
        log.line(b"b\n").unwrap();
        assert_eq!(text(&to, ""), Some("b\n".to_owned()));
        assert_eq!(text(&to, "1"), None);
    }

    #[test]
    fn no_line_of_several_threads_is_lost_or_torn() {
        let dir = tempfile::tempdir().unwrap();
        let to = to(&dir, 1000, 1000);
        let log = Turning::open(&to, Duration::ZERO).unwrap();
        let lines = |thread: usize| (0..500).map(move |n| format!("thread {thread} line {n}\n"));
        thread::scope(|scope| {
            for thread in 0..4 {
                let log = &log;
                scope.spawn(move || {
                    for line in lines(thread) {
                        log.line(line.as_bytes()).unwrap();
                    }
                });
            }
        });
        let mut found = String::new();
        for number in (1..=1000).rev() {
            let part = text(&to, &number.to_string()).unwrap_or_default();
            assert!(part.len() <= 1000, "{number}: {}", part.len());
            found.push_str(&part);
        }
        found.push_str(&text(&to, "").unwrap());
        for thread in 0..4 {
            let begin = format!("thread {thread} ");
            let own = found.lines().filter(|line| line.starts_with(&begin));
            let own: Vec<String> = own.map(|line| format!("{line}\n")).collect();
            assert_eq!(own, lines(thread).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_cannot_be_turned_is_written_on() {
        let dir = tempfile::tempdir().unwrap();
        let to = to(&dir, 4, 2);
        let log = Turning::open(&to, Duration::ZERO).unwrap();
        log.line(b"a\n").unwrap();
        // Where the new file would be made there is a directory.
        let aside = with(&to.path, "new");
        fs::create_dir(&aside).unwrap();
        log.line(b"bbb\n").unwrap();
        log.line(b"ccc\n").unwrap();
        assert_eq!(text(&to, ""), Some("a\nbbb\nccc\n".to_owned()));
        fs::remove_dir(&aside).unwrap();
        log.line(b"d\n").unwrap();
        assert_eq!(text(&to, "1"), Some("a\nbbb\nccc\n".to_owned()));
        assert_eq!(text(&to, ""), Some("d\n".to_owned()));
    }

    /// Run again as a process whose standard error takes nothing: to panic there would end the
    /// process, or hold up whoever logs what became of it.
    #[test]
    fn a_standard_error_that_fails_does_no_harm() {
        const NAME: &str = "file::tests::a_standard_error_that_fails_does_no_harm";
        const DIR: &str = "LONGSHORE_TEST_LOG_DIR";
        if let Some(dir) = std::env::var_os(DIR) {
            let to = LogFile {
                path: PathBuf::from(dir).join("a.log"),
                max_size: 4,
                keep: 2,
            };
            let log = Turning::open(&to, Duration::ZERO).unwrap();
            fs::create_dir(with(&to.path, "new")).unwrap();
            log.line(b"a\n").unwrap();
            log.line(b"bbb\n").unwrap();
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let full = fs::OpenOptions::new().write(true).open("/dev/full");
        let done = std::process::Command::new(std::env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture"])
            .env(DIR, dir.path())
            .stderr(full.unwrap())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{said}");
        let text = fs::read_to_string(dir.path().join("a.log")).unwrap();
        assert_eq!(text, "a\nbbb\n");
    }

    #[test]
    fn one_process_has_it_and_it_is_a_plain_file() {
        let dir = tempfile::tempdir().unwrap();
        let to = to(&dir, 100, 1);
        let log = Turning::open(&to, Duration::ZERO).unwrap();
        let mode = fs::metadata(&to.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o027, 0, "{mode:o}");
        let again = Turning::open(&to, Duration::ZERO).unwrap_err();
        assert_eq!(again.to_string(), "another process writes to it");
        // What was moved away is this file no more, and what lies there is free.
        assert!(log.is_at(&to.path));
        fs::rename(&to.path, with(&to.path, "old")).unwrap();
        assert!(!log.is_at(&to.path));
        drop(Turning::open(&to, Duration::ZERO).unwrap());
        fs::remove_file(&to.path).unwrap();
        fs::create_dir(&to.path).unwrap();
        assert!(Turning::open(&to, Duration::ZERO).is_err());
        fs::remove_dir(&to.path).unwrap();
        std::os::unix::fs::symlink(dir.path().join("other"), &to.path).unwrap();
        assert!(Turning::open(&to, Duration::ZERO).is_err());
        assert!(!dir.path().join("other").exists());
        // A device takes what is written, and cannot be turned.
        let null = LogFile {
            path: PathBuf::from("/dev/null"),
            ..to
        };
        let refused = Turning::open(&null, Duration::ZERO).unwrap_err();
        assert_eq!(refused.to_string(), "is no plain file");
    }

    #[test]
    fn the_next_process_gets_the_file_when_this_one_ends() {
        let dir = tempfile::tempdir().unwrap();
        let to = to(&dir, 4, 1);
        let log = Turning::open(&to, Duration::ZERO).unwrap();
        log.line(b"a\n").unwrap();
        let next = thread::scope(|scope| {
            let next = scope.spawn(|| Turning::open(&to, Duration::from_secs(60)));
            // Turned meanwhile: the next one must not hold the file that was moved aside.
            log.line(b"bbb\n").unwrap();
            drop(log);
            next.join().unwrap().unwrap()
        });
        assert!(next.is_at(&to.path));
    }
}
