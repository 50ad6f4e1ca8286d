//! The agent's own store of container output.
//!
//! Per container key a directory of segments, each named by the position of its first
//! byte. A position counts the bytes of output so far, over both streams, and never goes
//! back. Beyond the cap of a container the first segment and the newest ones are kept;
//! a reader that asks for what is gone gets a gap.

use longshore_common::ids::ContainerKey;
use longshore_common::time::Timestamp;
use longshore_common::wire::{Data, OutputKind};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// Bytes of output in one segment.
const SEGMENT: u64 = 4 << 20;
/// Largest record read back; longer ones are a damaged file.
const RECORD_MAX: u32 = 1 << 20;
/// The file that says that nothing more comes.
const ENDED: &str = "ended";
/// Kind, time and length in front of each record.
const HEADER: usize = 13;

/// Sizes and ages at which output is dropped.
#[derive(Debug, Clone, Copy)]
pub struct LogLimits {
    /// Bytes per container.
    pub container: u64,
    /// Bytes on the node.
    pub node: u64,
    /// How long ended containers' output is kept.
    pub retention: Duration,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            container: 64 << 20,
            node: 20 << 30,
            retention: Duration::from_secs(30 * 86_400),
        }
    }
}

/// How far the output of a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogEnd {
    /// Bytes so far.
    pub position: u64,
    /// Nothing more comes.
    pub ended: bool,
}

/// The store.
#[derive(Debug)]
pub struct LogStore {
    dir: PathBuf,
    limits: LogLimits,
    open: Mutex<HashMap<ContainerKey, Arc<Log>>>,
}

/// Output of one container.
#[derive(Debug)]
struct Log {
    dir: PathBuf,
    limit: u64,
    inner: Mutex<LogInner>,
    end: watch::Sender<LogEnd>,
}

#[derive(Debug, Default)]
struct LogInner {
    /// First position and file size (headers included) of each segment.
    segments: VecDeque<u64>,
    file: Option<File>,
    position: u64,
    /// Time and number of the records already taken with that time, to resume after.
    last: Option<(Timestamp, u64)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogStore {
    /// A store in `dir`.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn open(dir: &Path, limits: LogLimits) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self {
            dir: dir.to_owned(),
            limits,
            open: Mutex::new(HashMap::new()),
        })
    }

    fn log(&self, key: ContainerKey, create: bool) -> io::Result<Option<Arc<Log>>> {
        let mut open = lock(&self.open);
        if let Some(log) = open.get(&key) {
            return Ok(Some(Arc::clone(log)));
        }
        let dir = self.dir.join(key.to_string());
        if !dir.exists() {
            if !create {
                return Ok(None);
            }
            fs::create_dir(&dir)?;
        }
        let log = Arc::new(Log::load(dir, self.limits.container)?);
        open.insert(key, Arc::clone(&log));
        Ok(Some(log))
    }

    /// Says that output may come: whoever reads before the first waits for it.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn begin(&self, key: ContainerKey) -> io::Result<()> {
        self.log(key, true).map(|_| ())
    }

    /// Takes output in.
    ///
    /// # Errors
    /// The disk is full or fails; what was written before stays readable.
    pub fn append(
        &self,
        key: ContainerKey,
        kind: OutputKind,
        at: Timestamp,
        bytes: &[u8],
    ) -> io::Result<()> {
        match self.log(key, true)? {
            Some(log) => log.append(kind, at, bytes),
            None => Ok(()),
        }
    }

    /// The time of the last record and how many records have that time: where reading
    /// from the engine goes on after a restart.
    #[must_use]
    pub fn resume_from(&self, key: ContainerKey) -> Option<(Timestamp, u64)> {
        self.log(key, false)
            .ok()
            .flatten()
            .and_then(|log| lock(&log.inner).last)
    }

    /// Says that nothing more comes.
    pub fn finish(&self, key: ContainerKey) {
        if let Ok(Some(log)) = self.log(key, true) {
            lock(&log.inner).file = None;
            // So that after a restart a follower of what has ended is not kept waiting.
            let _ = File::create(log.dir.join(ENDED)); // without it it only waits
            log.end.send_modify(|end| end.ended = true);
        }
    }

    /// A reader from `position`, or of the last `tail_lines` lines; none when nothing is
    /// known of the key.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn read(
        &self,
        key: ContainerKey,
        position: u64,
        tail_lines: Option<u32>,
    ) -> io::Result<Option<LogReader>> {
        let Some(log) = self.log(key, false)? else {
            return Ok(None);
        };
        let position = match tail_lines {
            Some(lines) => log.position_of_tail(lines)?,
            None => position,
        };
        let end = log.end.subscribe();
        Ok(Some(LogReader {
            log,
            position,
            input: None,
            end,
        }))
    }

    /// The last bytes of output, at most `most`.
    #[must_use]
    pub fn tail(&self, key: ContainerKey, most: usize) -> Vec<u8> {
        let Ok(Some(log)) = self.log(key, false) else {
            return Vec::new();
        };
        let from = lock(&log.inner).position.saturating_sub(most as u64);
        let Ok(Some(mut reader)) = self.read(key, from, None) else {
            return Vec::new();
        };
        let mut bytes = Vec::new();
        while let Ok(Some(data)) = reader.next_now() {
            if data.kind != OutputKind::Gap {
                bytes.extend_from_slice(&data.bytes);
            }
        }
        let cut = bytes.len().saturating_sub(most);
        bytes.split_off(cut)
    }

    /// Lets go of what is held in memory for a key whose readers are gone.
    pub fn release(&self, key: ContainerKey) {
        let mut open = lock(&self.open);
        if open
            .get(&key)
            .is_some_and(|log| Arc::strong_count(log) == 1)
        {
            open.remove(&key);
        }
    }

    /// Drops output of ended containers that is too old, or too much for the node, oldest
    /// first. `live` are never touched.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn sweep(&self, live: &dyn Fn(&str) -> bool, now: SystemTime) -> io::Result<()> {
        let mut ended: BTreeMap<(SystemTime, PathBuf), u64> = BTreeMap::new();
        let mut total = 0;
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let size = directory_size(&entry.path());
            total += size;
            if !live(&entry.file_name().to_string_lossy()) {
                let age = entry.metadata()?.modified().unwrap_or(now);
                ended.insert((age, entry.path()), size);
            }
        }
        for ((modified, path), size) in ended {
            let old = now.duration_since(modified).unwrap_or_default() > self.limits.retention;
            if old || total > self.limits.node {
                fs::remove_dir_all(&path)?;
                total -= size;
                lock(&self.open).retain(|_, log| log.dir != path);
            }
        }
        Ok(())
    }
}

fn directory_size(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else {
        return 0;
    };
    entries
        .flatten()
        .filter_map(|e| e.metadata().ok())
        .map(|m| m.len())
        .sum()
}

fn segment_path(dir: &Path, start: u64) -> PathBuf {
    dir.join(format!("{start:020}"))
}

impl Log {
    fn load(dir: PathBuf, limit: u64) -> io::Result<Self> {
        let mut segments: Vec<u64> = Vec::new();
        for entry in fs::read_dir(&dir)? {
            if let Ok(start) = entry?.file_name().to_string_lossy().parse() {
                segments.push(start);
            }
        }
        segments.sort_unstable();
        let mut inner = LogInner {
            segments: segments.into(),
            ..LogInner::default()
        };
        if let Some(start) = inner.segments.back().copied() {
            let path = segment_path(&dir, start);
            let mut input = BufReader::new(File::open(&path)?);
            let mut good = 0;
            inner.position = start;
            while let Some(record) = read_record(&mut input, inner.position)? {
                good += (HEADER + record.bytes.len()) as u64;
                inner.position += record.bytes.len() as u64;
                inner.last = match inner.last {
                    Some((at, count)) if at == record.at => Some((at, count + 1)),
                    _ => Some((record.at, 1)),
                };
            }
            // A record that was not written whole is cut; the engine gives it again.
            OpenOptions::new().write(true).open(&path)?.set_len(good)?;
        }
        let end = LogEnd {
            position: inner.position,
            ended: dir.join(ENDED).exists(),
        };
        Ok(Self {
            dir,
            limit,
            inner: Mutex::new(inner),
            end: watch::channel(end).0,
        })
    }

    fn append(&self, kind: OutputKind, at: Timestamp, bytes: &[u8]) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        if self.end.borrow().ended {
            let _ = fs::remove_file(self.dir.join(ENDED)); // it goes on after all
        }
        let start = inner.segments.back().copied();
        let full = start.is_none_or(|s| inner.position - s >= SEGMENT);
        if full {
            inner.file = None;
            let start = inner.position;
            inner.segments.push_back(start);
            self.drop_oldest(&mut inner);
        }
        let start = inner.segments.back().copied().unwrap_or(0);
        if inner.file.is_none() {
            inner.file = Some(
                OpenOptions::new()
                    .create(true)
                    .append(true)
                    .mode(0o600)
                    .open(segment_path(&self.dir, start))?,
            );
        }
        for piece in bytes.chunks(RECORD_MAX as usize) {
            let record = encode_record(kind, at, piece);
            if let Some(file) = inner.file.as_mut() {
                let before = file.metadata()?.len();
                if let Err(error) = file.write_all(&record) {
                    let _ = file.set_len(before); // a record written in part would hide those behind it
                    return Err(error);
                }
            }
            inner.position += piece.len() as u64;
            inner.last = match inner.last {
                Some((known, count)) if known == at => Some((at, count + 1)),
                _ => Some((at, 1)),
            };
        }
        let position = inner.position;
        drop(inner);
        self.end.send_modify(|end| {
            end.position = position;
            end.ended = false;
        });
        Ok(())
    }

    /// Keeps the first segment and the newest ones inside the limit.
    fn drop_oldest(&self, inner: &mut LogInner) {
        let most = usize::try_from(self.limit / SEGMENT)
            .unwrap_or(usize::MAX)
            .max(3);
        while inner.segments.len() > most {
            if let Some(start) = inner.segments.remove(1) {
                let _ = fs::remove_file(segment_path(&self.dir, start)); // swept later if it stays
            }
        }
    }

    fn position_of_tail(&self, lines: u32) -> io::Result<u64> {
        let segments: Vec<u64> = lock(&self.inner).segments.iter().copied().collect();
        let mut starts: VecDeque<u64> = VecDeque::new();
        let want = lines as usize + 1;
        let mut at_line_start = true;
        // From the last two segments: a tail longer than that is cut to them.
        let from = segments.len().saturating_sub(2);
        let mut end = segments.get(from).copied().unwrap_or(0);
        for start in &segments[from..] {
            let mut input = BufReader::new(File::open(segment_path(&self.dir, *start))?);
            let mut position = *start;
            while let Some(record) = read_record(&mut input, position)? {
                for (offset, byte) in record.bytes.iter().enumerate() {
                    if at_line_start {
                        starts.push_back(position + offset as u64);
                        if starts.len() > want {
                            starts.pop_front();
                        }
                    }
                    at_line_start = *byte == b'\n';
                }
                position += record.bytes.len() as u64;
            }
            end = position;
        }
        while starts.len() > lines as usize {
            starts.pop_front();
        }
        Ok(if lines == 0 {
            end
        } else {
            starts.front().copied().unwrap_or(end)
        })
    }
}

fn encode_record(kind: OutputKind, at: Timestamp, bytes: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(HEADER + bytes.len());
    record.push(match kind {
        OutputKind::Stdout => 1,
        OutputKind::Stderr => 2,
        OutputKind::Gap => 3,
    });
    record.extend_from_slice(&at.0.to_le_bytes());
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    record.extend_from_slice(&len.to_le_bytes());
    record.extend_from_slice(bytes);
    record
}

/// The next whole record; none at the end, also inside a record that is being written.
fn read_record(input: &mut impl Read, position: u64) -> io::Result<Option<Data>> {
    let mut header = [0; HEADER];
    if !read_whole(input, &mut header)? {
        return Ok(None);
    }
    let [kind, a, b, c, d, e, f, g, h, l0, l1, l2, l3] = header;
    let kind = match kind {
        1 => OutputKind::Stdout,
        2 => OutputKind::Stderr,
        _ => return Ok(None),
    };
    let len = u32::from_le_bytes([l0, l1, l2, l3]);
    if len > RECORD_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; len as usize];
    if !read_whole(input, &mut bytes)? {
        return Ok(None);
    }
    let at = Timestamp(i64::from_le_bytes([a, b, c, d, e, f, g, h]));
    Ok(Some(Data {
        position,
        kind,
        at,
        bytes,
    }))
}

fn read_whole(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match input.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads output in order.
#[derive(Debug)]
pub struct LogReader {
    log: Arc<Log>,
    position: u64,
    input: Option<(u64, u64, BufReader<File>)>,
    end: watch::Receiver<LogEnd>,
}

impl LogReader {
    /// What is there now; none when everything was read.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn next_now(&mut self) -> io::Result<Option<Data>> {
        loop {
            let end = *self.end.borrow_and_update();
            if self.position >= end.position {
                return Ok(None);
            }
            let segments: Vec<u64> = lock(&self.log.inner).segments.iter().copied().collect();
            let Some(start) = segments
                .iter()
                .rev()
                .find(|s| **s <= self.position)
                .copied()
            else {
                return Ok(None);
            };
            let next = segments.iter().find(|s| **s > start).copied();
            if self
                .input
                .as_ref()
                .is_none_or(|(known, ..)| *known != start)
            {
                let file = File::open(segment_path(&self.log.dir, start))?;
                self.input = Some((start, start, BufReader::new(file)));
            }
            let Some((_, at, input)) = self.input.as_mut() else {
                return Ok(None);
            };
            let Some(mut data) = read_record(input, *at)? else {
                // The segment is read to its end: either the next one follows at once,
                // or what lay between was dropped.
                let at = *at;
                self.input = None;
                match next {
                    Some(next) if next > self.position => {
                        let gap = Data {
                            position: self.position,
                            kind: OutputKind::Gap,
                            at: Timestamp(0),
                            bytes: Vec::new(),
                        };
                        self.position = next;
                        if next > at {
                            return Ok(Some(gap));
                        }
                        continue;
                    }
                    // Bytes were promised and are not there: not an end, or a follower would spin.
                    _ => {
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            "stored output is damaged",
                        ));
                    }
                }
            };
            *at += data.bytes.len() as u64;
            let record_end = *at;
            if record_end <= self.position {
                continue; // lies before what was asked for
            }
            let skip = self.position.saturating_sub(data.position);
            data.bytes
                .drain(..usize::try_from(skip).unwrap_or(0).min(data.bytes.len()));
            data.position = self.position;
            self.position = record_end;
            return Ok(Some(data));
        }
    }

    /// Waits until there may be more. False when nothing more will ever come.
    pub async fn more(&mut self) -> bool {
        loop {
            let end = *self.end.borrow_and_update();
            if self.position < end.position {
                return true;
            }
            if end.ended || self.end.changed().await.is_err() {
                let end = *self.end.borrow();
                return self.position < end.position;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::ids::{Attempt, Rank, SessionId};

    fn key() -> ContainerKey {
        ContainerKey {
            session: SessionId(1),
            rank: Rank::MAIN,
            attempt: Attempt::FIRST,
        }
    }

    fn read_all(store: &LogStore, position: u64, tail: Option<u32>) -> Vec<Data> {
        let mut reader = store.read(key(), position, tail).unwrap().unwrap();
        std::iter::from_fn(|| reader.next_now().unwrap()).collect()
    }

    fn text(data: &[Data]) -> String {
        data.iter()
            .map(|d| String::from_utf8_lossy(&d.bytes).into_owned())
            .collect()
    }

    #[test]
    fn positions_resume_anywhere_and_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::open(dir.path(), LogLimits::default()).unwrap();
        store
            .append(key(), OutputKind::Stdout, Timestamp(1), b"one\n")
            .unwrap();
        store
            .append(key(), OutputKind::Stderr, Timestamp(2), b"two\n")
            .unwrap();
        store
            .append(key(), OutputKind::Stdout, Timestamp(2), b"three\n")
            .unwrap();
        let whole = "one\ntwo\nthree\n";
        for from in 0..whole.len() {
            assert_eq!(text(&read_all(&store, from as u64, None)), whole[from..]);
        }
        drop(store);
        let store = LogStore::open(dir.path(), LogLimits::default()).unwrap();
        assert_eq!(store.resume_from(key()), Some((Timestamp(2), 2)));
        let all = read_all(&store, 0, None);
        assert_eq!(
            all.iter().map(|d| d.kind).collect::<Vec<_>>(),
            [OutputKind::Stdout, OutputKind::Stderr, OutputKind::Stdout]
        );
        assert_eq!(text(&read_all(&store, 0, Some(2))), "two\nthree\n");
        assert_eq!(text(&read_all(&store, 0, Some(0))), "");
        assert_eq!(store.tail(key(), 6), b"three\n");
    }

    #[test]
    fn beyond_the_cap_the_middle_is_dropped_and_said() {
        let dir = tempfile::tempdir().unwrap();
        let limits = LogLimits {
            container: 12 << 20,
            ..LogLimits::default()
        };
        let store = LogStore::open(dir.path(), limits).unwrap();
        let line = vec![b'x'; 1 << 20];
        for at in 0..40 {
            store
                .append(key(), OutputKind::Stdout, Timestamp(at), &line)
                .unwrap();
        }
        let all = read_all(&store, 0, None);
        let gaps = all.iter().filter(|d| d.kind == OutputKind::Gap).count();
        assert_eq!(gaps, 1);
        assert_eq!(all.first().unwrap().position, 0);
        let last = all.last().unwrap();
        assert_eq!(last.position + last.bytes.len() as u64, 40 << 20);
        let kept: usize = all.iter().map(|d| d.bytes.len()).sum();
        assert!(kept <= 16 << 20, "{kept}");
    }

    #[tokio::test]
    async fn a_follower_hears_what_comes_and_that_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(LogStore::open(dir.path(), LogLimits::default()).unwrap());
        store
            .append(key(), OutputKind::Stdout, Timestamp(1), b"a")
            .unwrap();
        let mut reader = store.read(key(), 0, None).unwrap().unwrap();
        let writer = Arc::clone(&store);
        let task = tokio::spawn(async move {
            tokio::task::yield_now().await;
            writer
                .append(key(), OutputKind::Stdout, Timestamp(2), b"b")
                .unwrap();
            writer.finish(key());
        });
        let mut got = Vec::new();
        while reader.more().await {
            while let Some(data) = reader.next_now().unwrap() {
                got.extend(data.bytes);
            }
        }
        task.await.unwrap();
        assert_eq!(got, b"ab");
    }
}
