//! The agent's own store of container output.
//!
//! Per container key a directory of segments, each named by the position of its first
//! byte. A position counts the bytes of output so far, over both streams, and never goes
//! back. Beyond the cap of a container the first segment and the newest ones are kept;
//! a reader that asks for what is gone gets a gap.

use crate::host::Disk;
use crate::runtime::OutputChunk;
use longshore_common::ids::ContainerKey;
use longshore_common::time::Timestamp;
use longshore_common::wire::{Data, OutputKind};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};
use tokio::sync::{Semaphore, watch};

/// Bytes of output in one segment.
const SEGMENT: u64 = 4 << 20;
/// Largest record read back; longer ones are a damaged file.
const RECORD_MAX: u32 = 1 << 20;
/// The file that says that nothing more comes.
const ENDED: &str = "ended";
/// Kind, time and length in front of each record.
const HEADER: usize = 13;
/// Files are read in pieces of this size: a line is short, a system call is not.
const READ: usize = 64 * 1024;
/// So many parts of a hundred of the disk are the most that output takes, however large the
/// cap of the node is: on a small disk images and containers need the rest.
const DISK_PERCENT: u64 = 10;
/// Below so many parts of a hundred of free disk, or below [`LOW_BYTES`] if that is less,
/// output of ended containers goes before anything else fails.
const LOW_PERCENT: u64 = 2;
/// See [`LOW_PERCENT`].
const LOW_BYTES: u64 = 1 << 30;

/// Bytes that a reader takes in one go.
const MANY: usize = 256 * 1024;
/// Threads that may wait for the disk of output at once. There are twice as many in all: the
/// rest is for other disks, and for names of hosts.
const BESIDE: usize = 4;

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
    /// So often something that was written in part was taken back: what a reader took in of
    /// the file before may be part of that.
    pub taken_back: u64,
}

/// The store.
#[derive(Debug)]
pub struct LogStore {
    dir: PathBuf,
    limits: RwLock<LogLimits>,
    /// Held only for moments, never while files are read.
    open: Mutex<HashMap<ContainerKey, Slot>>,
    /// For those who must not wait for a disk.
    beside: Arc<Semaphore>,
}

/// What is in memory of a key. Its lock is held while that is read from files, so that it is
/// read once.
type Slot = Arc<Mutex<Option<Arc<Log>>>>;

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
    /// Size of that file in bytes, headers included.
    written: u64,
    position: u64,
    /// Time and number of the records already taken with that time, to resume after.
    last: Option<(Timestamp, u64)>,
    /// See [`LogEnd::taken_back`].
    taken_back: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogInner {
    /// Takes back what was written in part: it would hide the records behind it.
    fn take_back(&mut self) {
        if let Some(file) = &self.file {
            let _ = file.set_len(self.written); // a reading from the start cuts it too
        }
        self.taken_back += 1;
    }
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
            limits: RwLock::new(limits),
            open: Mutex::new(HashMap::new()),
            beside: Arc::new(Semaphore::new(BESIDE)),
        })
    }

    fn limits(&self) -> LogLimits {
        *self.limits.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other limits from now on. That of one container is that of those that begin to write.
    pub fn set_limits(&self, limits: LogLimits) {
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    /// Does something with the store on a thread that may wait for the disk: one that hangs
    /// must hold up nothing else. None when the process ends meanwhile.
    pub async fn beside<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> T + Send + 'static,
    ) -> Option<T> {
        let permit = Arc::clone(&self.beside).acquire_owned().await.ok()?;
        let store = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || {
            let done = work(&store);
            drop(permit);
            done
        });
        done.await.ok() // a panic there has been logged
    }

    fn log(&self, key: ContainerKey, create: bool) -> io::Result<Option<Arc<Log>>> {
        let dir = self.dir.join(key.to_string());
        if create {
            fs::create_dir_all(&dir)?;
        } else if !dir.exists() {
            return Ok(None); // and nothing is kept for whoever asks for it
        }
        let slot = Arc::clone(lock(&self.open).entry(key).or_default());
        let mut held = lock(&slot);
        let log = match held.take() {
            Some(log) => log,
            None => Arc::new(Log::load(dir, self.limits().container)?),
        };
        *held = Some(Arc::clone(&log));
        Ok(Some(log))
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Says that output may come: whoever reads before the first waits for it.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn begin(&self, key: ContainerKey) -> io::Result<()> {
        fs::create_dir_all(self.dir.join(key.to_string()))
    }

    /// Takes output in, in one go.
    ///
    /// # Errors
    /// The disk is full or fails; what was written before stays readable.
    pub fn append(&self, key: ContainerKey, chunks: &[OutputChunk]) -> io::Result<()> {
        match self.log(key, true)? {
            Some(log) => log.append(chunks),
            None => Ok(()),
        }
    }

    /// Bytes of output so far, over both streams.
    #[must_use]
    pub fn position(&self, key: ContainerKey) -> u64 {
        let log = self.log(key, false).ok().flatten();
        log.map_or(0, |log| lock(&log.inner).position)
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

    /// Says that nothing more comes. Of what never ran nothing is kept.
    pub fn finish(&self, key: ContainerKey) {
        if let Ok(Some(log)) = self.log(key, false) {
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
        let taken_back = end.borrow().taken_back;
        Ok(Some(LogReader {
            log,
            position,
            input: None,
            taken_back,
            end,
            ahead: None,
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
        self.release_if(key, |_| true);
    }

    /// The same, if its output has ended: it was only held for whoever read it.
    pub fn release_ended(&self, key: ContainerKey) {
        self.release_if(key, |log| log.end.borrow().ended);
    }

    fn release_if(&self, key: ContainerKey, may: impl Fn(&Log) -> bool) {
        let mut open = lock(&self.open);
        // Who has the slot is about to use it, and nobody gets it as long as this lock is held.
        let unused = open.get(&key).is_some_and(|slot| {
            let alone = |log: &Arc<Log>| Arc::strong_count(log) == 1 && may(log);
            Arc::strong_count(slot) == 1 && lock(slot).as_ref().is_none_or(alone)
        });
        if unused {
            open.remove(&key);
        }
    }

    /// Drops output of ended containers that is too old, too much for the node or in the way
    /// of a disk that is nearly full, oldest first. `live` are never touched. `disk` is the
    /// file system that holds the store, where it is known.
    ///
    /// # Errors
    /// The directory cannot be read; or something of it cannot be removed, which is told after
    /// everything else was.
    pub fn sweep(
        &self,
        live: &dyn Fn(&str) -> bool,
        now: SystemTime,
        disk: Option<Disk>,
    ) -> io::Result<()> {
        let bytes = |n: i64| u64::try_from(n).unwrap_or(0);
        let total_disk = disk.map(|disk| bytes(disk.total)).filter(|n| *n > 0);
        let limits = self.limits();
        let most = total_disk.map_or(u64::MAX, |n| n / 100 * DISK_PERCENT);
        let most = most.min(limits.node);
        let floor = total_disk.map_or(0, |n| (n / 100 * LOW_PERCENT).min(LOW_BYTES));
        let mut free = disk.map_or(u64::MAX, |disk| bytes(disk.free));
        let mut ended: BTreeMap<(SystemTime, PathBuf), u64> = BTreeMap::new();
        let mut total = 0;
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let size = directory_size(&entry.path());
            total += size;
            if !live(&entry.file_name().to_string_lossy()) {
                let modified = entry.metadata().and_then(|of| of.modified());
                let age = modified.unwrap_or(now);
                ended.insert((age, entry.path()), size);
            }
        }
        let mut failed = Ok(());
        for ((modified, path), size) in ended {
            let old = now.duration_since(modified).unwrap_or_default() > limits.retention;
            if !(old || total > most || free < floor) {
                continue;
            }
            match fs::remove_dir_all(&path) {
                Ok(()) => {
                    total -= size;
                    free = free.saturating_add(size);
                    lock(&self.open).retain(|key, _| self.dir.join(key.to_string()) != path);
                }
                // The others go all the same.
                Err(error) => failed = failed.and(Err(error)),
            }
        }
        failed
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
            let end = Ending::read(&path, start)?;
            inner.position = end.position;
            inner.written = end.length;
            // A record that was not written whole is cut; the engine gives it again.
            OpenOptions::new()
                .write(true)
                .open(&path)?
                .set_len(end.length)?;
            inner.last = end.last;
            // Killed just after a new segment was begun, it says too little of where to go on.
            let mut to_begin = end.is_alike;
            for start in inner.segments.iter().rev().skip(1) {
                if !to_begin {
                    break;
                }
                let before = Ending::read(&segment_path(&dir, *start), *start)?;
                let joined = inner.last.is_none() || same_time(inner.last, before.last);
                if joined && let Some((at, count)) = before.last {
                    let later = inner.last.map_or(0, |(_, count)| count);
                    inner.last = Some((at, count + later));
                }
                to_begin = joined && before.is_alike;
            }
        }
        let end = LogEnd {
            position: inner.position,
            ended: dir.join(ENDED).exists(),
            taken_back: 0,
        };
        Ok(Self {
            dir,
            limit,
            inner: Mutex::new(inner),
            end: watch::channel(end).0,
        })
    }

    fn append(&self, chunks: &[OutputChunk]) -> io::Result<()> {
        let mut inner = lock(&self.inner);
        if self.end.borrow().ended {
            let _ = fs::remove_file(self.dir.join(ENDED)); // it goes on after all
        }
        let mut left = chunks;
        let mut result = Ok(());
        while !left.is_empty() && result.is_ok() {
            let taken = self.append_to_segment(&mut inner, left);
            match taken {
                Ok(count) => left = &left[count..],
                Err(error) => result = Err(error),
            }
        }
        let (position, taken_back) = (inner.position, inner.taken_back);
        drop(inner);
        self.end.send_modify(|end| {
            end.position = position;
            end.ended = false;
            end.taken_back = taken_back;
        });
        result
    }

    /// Writes as many chunks as the present segment takes, at least one. How many it took.
    fn append_to_segment(&self, inner: &mut LogInner, chunks: &[OutputChunk]) -> io::Result<usize> {
        let start = inner.segments.back().copied();
        let start = match start.filter(|start| inner.position - start < SEGMENT) {
            Some(start) => start,
            None => {
                inner.file = None;
                let start = inner.position;
                inner.segments.push_back(start);
                self.drop_oldest(inner);
                start
            }
        };
        let file = match &mut inner.file {
            Some(file) => file,
            none => {
                let mut options = OpenOptions::new();
                options.create(true).append(true).mode(0o600);
                let file = options.open(segment_path(&self.dir, start))?;
                inner.written = file.metadata()?.len();
                none.insert(file)
            }
        };
        let (mut records, mut position, mut last) = (Vec::new(), inner.position, inner.last);
        let mut count = 0;
        for chunk in chunks {
            if count > 0 && position - start >= SEGMENT {
                break;
            }
            for piece in chunk.bytes.chunks(RECORD_MAX as usize) {
                encode_record(&mut records, chunk.kind, chunk.at, piece);
                position += piece.len() as u64;
                last = count_on(last, chunk.at);
            }
            count += 1;
        }
        if let Err(error) = file.write_all(&records) {
            inner.take_back();
            return Err(error);
        }
        inner.written += records.len() as u64;
        inner.position = position;
        inner.last = last;
        Ok(count)
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

    /// Where the last lines begin: behind the end of the line before them.
    fn position_of_tail(&self, lines: u32) -> io::Result<u64> {
        let (segments, end): (Vec<u64>, u64) = {
            let inner = lock(&self.inner);
            (inner.segments.iter().copied().collect(), inner.position)
        };
        // Ends of lines that are still to be passed, going back; the very last ends the text.
        let mut wanted = usize::try_from(lines).unwrap_or(usize::MAX);
        if wanted == 0 {
            return Ok(end);
        }
        for start in segments.iter().rev() {
            let mut input = open_segment(&self.dir, *start)?;
            let (mut position, mut ends) = (*start, Vec::new());
            while let Some(record) = read_record(&mut input, position)? {
                let bytes = record.bytes.iter().zip(position + 1..);
                ends.extend(bytes.filter(|(b, _)| **b == b'\n').map(|(_, at)| at));
                position += record.bytes.len() as u64;
            }
            // What was written since is not part of the question.
            ends.retain(|at| *at < end);
            match ends.len().checked_sub(wanted) {
                Some(index) => return Ok(ends[index]),
                None => wanted -= ends.len(),
            }
        }
        Ok(segments.first().copied().unwrap_or(end))
    }
}

/// What the last records of a segment say.
struct Ending {
    /// Position behind it.
    position: u64,
    /// Bytes of whole records.
    length: u64,
    /// Time of the last record, and how many at its end have that time.
    last: Option<(Timestamp, u64)>,
    /// All of its records have that time, so that the segment before may end with it too.
    is_alike: bool,
}

impl Ending {
    fn read(path: &Path, start: u64) -> io::Result<Self> {
        let mut input = BufReader::with_capacity(READ, File::open(path)?);
        let mut found = Self {
            position: start,
            length: 0,
            last: None,
            is_alike: true,
        };
        while let Some(record) = read_record(&mut input, found.position)? {
            found.length += (HEADER + record.bytes.len()) as u64;
            found.position += record.bytes.len() as u64;
            found.is_alike &= found.last.is_none_or(|(at, _)| at == record.at);
            found.last = count_on(found.last, record.at);
        }
        Ok(found)
    }
}

/// One more record, of the time `at`.
fn count_on(last: Option<(Timestamp, u64)>, at: Timestamp) -> Option<(Timestamp, u64)> {
    match last {
        Some((known, count)) if known == at => Some((at, count + 1)),
        _ => Some((at, 1)),
    }
}

fn same_time(one: Option<(Timestamp, u64)>, other: Option<(Timestamp, u64)>) -> bool {
    one.zip(other).is_some_and(|(a, b)| a.0 == b.0)
}

fn open_segment(dir: &Path, start: u64) -> io::Result<BufReader<File>> {
    let file = File::open(segment_path(dir, start))?;
    Ok(BufReader::with_capacity(READ, file))
}

fn encode_record(record: &mut Vec<u8>, kind: OutputKind, at: Timestamp, bytes: &[u8]) {
    record.reserve(HEADER + bytes.len());
    record.push(match kind {
        OutputKind::Stdout => 1,
        OutputKind::Stderr => 2,
        OutputKind::Gap => 3,
    });
    record.extend_from_slice(&at.0.to_le_bytes());
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    record.extend_from_slice(&len.to_le_bytes());
    record.extend_from_slice(bytes);
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
    /// What it was when that was opened, or later.
    taken_back: u64,
    end: watch::Receiver<LogEnd>,
    /// Read already, and not handed out with what came before it.
    ahead: Option<Data>,
}

impl LogReader {
    /// What is there now; none when everything was read.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn next_now(&mut self) -> io::Result<Option<Data>> {
        match self.ahead.take() {
            Some(data) => Ok(Some(data)),
            None => self.read_on(),
        }
    }

    /// The same, but records of one stream that follow each other are joined to pieces of
    /// `most` bytes where they fit; such a piece has the time of its first record.
    ///
    /// # Errors
    /// See [`Self::next_now`].
    pub fn next_joined(&mut self, most: usize) -> io::Result<Option<Data>> {
        let Some(mut data) = self.next_now()? else {
            return Ok(None);
        };
        while data.kind != OutputKind::Gap && data.bytes.len() < most {
            let Some(next) = self.read_on()? else { break };
            if next.kind != data.kind || data.bytes.len() + next.bytes.len() > most {
                self.ahead = Some(next);
                break;
            }
            data.bytes.extend_from_slice(&next.bytes);
        }
        Ok(Some(data))
    }

    /// What is there now, in one go: so much that a turn on another thread is worth it. With
    /// `joined` as from [`Self::next_joined`]. Empty when everything was read.
    ///
    /// # Errors
    /// See [`Self::next_now`]; what was read before is handed out first.
    pub fn next_many(&mut self, joined: Option<usize>) -> io::Result<Vec<Data>> {
        let (mut all, mut bytes) = (Vec::new(), 0);
        while bytes < MANY {
            let next = match joined {
                Some(most) => self.next_joined(most),
                None => self.next_now(),
            };
            match next {
                Ok(Some(data)) => {
                    bytes += data.bytes.len() + HEADER;
                    all.push(data);
                }
                Ok(None) => break,
                Err(error) if all.is_empty() => return Err(error),
                Err(_) => break, // it comes again
            }
        }
        Ok(all)
    }

    fn read_on(&mut self) -> io::Result<Option<Data>> {
        loop {
            let end = *self.end.borrow_and_update();
            if self.position >= end.position {
                return Ok(None);
            }
            if self.taken_back != end.taken_back {
                self.taken_back = end.taken_back;
                self.input = None; // it may hold what was never there
            }
            if let Some((_, at, input)) = self.input.as_mut()
                && let Some(mut data) = read_record(input, *at)?
            {
                *at += data.bytes.len() as u64;
                let record_end = *at;
                if record_end <= self.position {
                    continue; // lies before what was asked for
                }
                let skip = self.position.saturating_sub(data.position);
                let skip = usize::try_from(skip).unwrap_or(0).min(data.bytes.len());
                data.bytes.drain(..skip);
                data.position = self.position;
                self.position = record_end;
                return Ok(Some(data));
            }
            let read = self.input.take().map(|(start, at, _)| (start, at));
            if let Some(gap) = self.next_segment(read)? {
                return Ok(Some(gap));
            }
        }
    }

    /// Opens the segment that holds the position, or says that it is gone. `read` is the one
    /// that was read to its end: its first position, and the one behind it.
    fn next_segment(&mut self, read: Option<(u64, u64)>) -> io::Result<Option<Data>> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "stored output is damaged");
        let (holding, next) = {
            let inner = lock(&self.log.inner);
            let after = inner.segments.partition_point(|s| *s <= self.position);
            let holding = after.checked_sub(1).and_then(|i| inner.segments.get(i));
            (holding.copied(), inner.segments.get(after).copied())
        };
        // Its records end before the position, and what followed was dropped.
        if read.is_some_and(|(start, _)| Some(start) == holding) || holding.is_none() {
            let next = next.ok_or_else(damaged)?; // or a follower would spin
            let dropped = next.saturating_sub(self.position);
            self.position = next;
            return Ok(Some(Data {
                position: next,
                kind: OutputKind::Gap,
                at: Timestamp(0),
                bytes: format!("{dropped} bytes of output were dropped").into_bytes(),
            }));
        }
        let start = holding.ok_or_else(damaged)?;
        match open_segment(&self.log.dir, start) {
            Ok(input) => self.input = Some((start, start, input)),
            // Dropped since it was looked for: the next look finds a gap, or the whole is gone.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let inner = lock(&self.log.inner);
                if inner.segments.contains(&start) {
                    return Err(damaged());
                }
            }
            Err(error) => return Err(error),
        }
        Ok(None)
    }

    /// Waits until there may be more. False when nothing more will ever come.
    pub async fn more(&mut self) -> bool {
        loop {
            let end = *self.end.borrow_and_update();
            if self.ahead.is_some() || self.position < end.position {
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
mod tests;
