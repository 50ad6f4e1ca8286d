//! The agent's orders and deadlines on disk.
//!
//! One append-only file of records with length, version and CRC-32. A record that
//! stands before an effect on the engine is synced before the effect. A torn tail is
//! cut at the first record that does not fit. At 4 MiB the file is written anew, whole
//! or not at all. It holds no secrets.
//!
//! What ran is told by the engine's labels; what was ordered, and which ends were
//! reported, is told here.

use longshore_common::ids::{AgentId, ClusterId, ContainerKey};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

mod records;

pub use records::{Contents, Idle, KeyRecord, Record, Seen, Stage, Sums};

/// Size at which the file is written anew.
const REWRITE_AT: u64 = 4 << 20;
/// Largest record.
const RECORD_MAX: usize = 160 << 20;
/// Room that a node takes beforehand, in bytes, so that a full disk does not keep ends and
/// stops from being written down.
pub const AHEAD: u64 = 8 << 20;
/// Form of the records.
const VERSION: u8 = 1;
/// Length, version and checksum in front of each record.
const HEADER: usize = 9;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("journal {path}: {source}")]
pub struct JournalError {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// How the journal was found at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// All there.
    Good,
    /// There was none: a new node, or the file was lost.
    Missing,
    /// Its end was torn and cut off.
    Cut,
    /// It belonged to somebody else, or could not be read, and was set aside.
    SetAside,
}

/// Whether an effect stands on a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    ForDisk,
    Later,
    No,
}

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    size: u64,
    /// The next rewrite is due beyond this size.
    rewrite_at: u64,
    owner: Record,
    contents: Contents,
    /// Records were put down that [`Self::settle`] has not waited for yet.
    unsettled: bool,
    /// Room that is taken beforehand, in bytes.
    ahead: u64,
    /// Makes a new name in a directory last; another in tests.
    sync_name: fn(&Path) -> io::Result<()>,
}

impl Journal {
    /// Its size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Opens the journal of this agent in `dir`, or begins one; takes room for `ahead` bytes
    /// more than there are.
    ///
    /// # Errors
    /// A file system that does not do what it should.
    pub fn open(
        dir: &Path,
        cluster: ClusterId,
        agent: AgentId,
        ahead: u64,
    ) -> Result<(Self, Condition), JournalError> {
        let path = dir.join("journal");
        let fail = |source| JournalError {
            path: path.clone(),
            source,
        };
        let owner = Record::Owner { cluster, agent };
        let bytes = match fs::read(&path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(fail(error)),
        };
        let (contents, good, condition) = match &bytes {
            None => (Contents::default(), 0, Condition::Missing),
            Some(bytes) => {
                let (records, good) = read_records(bytes);
                let mut records = records.into_iter();
                // Records behind one that cannot be read were waited for: without them it would
                // say what is long over, and start what ran.
                let whole = !any_record(&bytes[good..]);
                if records.next().as_ref() == Some(&owner) && whole {
                    let mut contents = Contents::default();
                    records.for_each(|r| contents.apply(r));
                    let condition = if good == bytes.len() {
                        Condition::Good
                    } else {
                        Condition::Cut
                    };
                    (contents, good, condition)
                } else {
                    let aside = path.with_extension("set-aside");
                    fs::rename(&path, &aside).map_err(fail)?;
                    (Contents::default(), 0, Condition::SetAside)
                }
            }
        };
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(fail)?;
        file.set_len(good as u64).map_err(fail)?;
        let mut journal = Self {
            path: path.clone(),
            file,
            size: good as u64,
            rewrite_at: REWRITE_AT.max(2 * good as u64),
            owner,
            contents,
            unsettled: false,
            ahead,
            sync_name: sync_dir,
        };
        if journal.size == 0 {
            let owner = journal.owner.clone();
            journal.append(&owner).map_err(fail)?;
        }
        reserve(&journal.file, journal.size, ahead);
        journal.file.sync_all().map_err(fail)?;
        sync_dir(dir).map_err(fail)?;
        Ok((journal, condition))
    }

    /// What it says.
    #[must_use]
    pub const fn contents(&self) -> &Contents {
        &self.contents
    }

    /// One key.
    #[must_use]
    pub fn key(&self, key: ContainerKey) -> Option<&KeyRecord> {
        self.contents.keys.get(&key)
    }

    /// Writes records and waits until they are on the disk. After an error nothing may
    /// be done that stands on them.
    ///
    /// # Errors
    /// The disk is full or fails.
    pub fn write(&mut self, records: Vec<Record>) -> Result<(), JournalError> {
        self.take(records, Wait::ForDisk)
    }

    /// Writes records on which nothing stands: what they say is learned anew if a power cut
    /// takes them - from the engine, or by an outcome that is sent and acknowledged again.
    /// They are on the disk with the next ones that are waited for.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn note(&mut self, records: Vec<Record>) -> Result<(), JournalError> {
        self.take(records, Wait::No)
    }

    /// Writes records for which [`Self::settle`] waits before anything is done that stands
    /// on them: an order and the steps that follow from it share one wait for the disk.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn put(&mut self, records: Vec<Record>) -> Result<(), JournalError> {
        self.take(records, Wait::Later)
    }

    /// Waits until everything that was put is on the disk. What is there already costs nothing.
    ///
    /// # Errors
    /// The disk fails. Memory is ahead of it then, so nothing more may be done at all.
    pub fn settle(&mut self) -> Result<(), JournalError> {
        if self.unsettled {
            self.file.sync_data().map_err(|source| JournalError {
                path: self.path.clone(),
                source,
            })?;
            self.unsettled = false;
        }
        Ok(())
    }

    fn take(&mut self, records: Vec<Record>, wait: Wait) -> Result<(), JournalError> {
        let path = self.path.clone();
        let fail = |source| JournalError { path, source };
        let result = self.write_all(&records, wait);
        match result {
            Ok(()) => {
                records.into_iter().for_each(|r| self.contents.apply(r));
                Ok(())
            }
            Err(error) => {
                // Take back what may have been written in part; memory stays as it was.
                let _ = self.file.set_len(self.size);
                Err(fail(error))
            }
        }
    }

    fn write_all(&mut self, records: &[Record], wait: Wait) -> io::Result<()> {
        let mut bytes = Vec::new();
        for record in records {
            encode(record, &mut bytes)?;
        }
        self.file.write_all(&bytes)?;
        match wait {
            Wait::ForDisk => {
                self.file.sync_data()?;
                self.unsettled = false; // what was put before went with it
            }
            Wait::Later => self.unsettled = true,
            Wait::No => (),
        }
        self.size += bytes.len() as u64;
        if self.size > self.rewrite_at {
            // With the new records in, so that they are in the new file too.
            let mut next = self.contents.clone();
            records.iter().cloned().for_each(|r| next.apply(r));
            // What was to be written is written; a rewrite that fails is tried again later.
            if let Err(error) = self.rewrite(&next) {
                tracing::warn!(%error, "the journal could not be written anew");
                self.rewrite_at = self.size + REWRITE_AT;
                return Ok(());
            }
            // A name that is not on the disk may be gone after a power cut, and with it
            // everything that was waited for: that is no warning.
            if let Some(dir) = self.path.parent() {
                (self.sync_name)(dir)?;
            }
            self.unsettled = false; // all of it was synced with the new file
        }
        Ok(())
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut bytes = Vec::new();
        encode(record, &mut bytes)?;
        self.file.write_all(&bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn rewrite(&mut self, contents: &Contents) -> io::Result<()> {
        let aside = self.path.with_extension("new");
        let mut bytes = Vec::new();
        encode(&self.owner, &mut bytes)?;
        if let Some((generation, instance)) = contents.coordinator {
            encode(&Record::Coordinator(generation, instance), &mut bytes)?;
        }
        if let Some(set) = &contents.set {
            encode(&Record::Set(set.clone(), contents.fence), &mut bytes)?;
        }
        if let Some((boot_id, at_ms)) = &contents.arrived {
            encode(&Record::Arrived(boot_id.clone(), *at_ms), &mut bytes)?;
        }
        for (key, (boot_id, end_ms)) in &contents.signalled {
            let record = Record::Signalled(*key, boot_id.clone(), *end_ms);
            encode(&record, &mut bytes)?;
        }
        for (key, entry) in &contents.keys {
            encode(&Record::Key(*key, Box::new(entry.clone())), &mut bytes)?;
        }
        for (key, seen) in &contents.seen {
            encode(&Record::Seen(*key, seen.clone()), &mut bytes)?;
        }
        for (key, sums) in &contents.sums {
            encode(&Record::Sums(*key, Box::new(sums.clone())), &mut bytes)?;
        }
        for (key, idle) in &contents.idle {
            encode(&Record::Idle(*key, Box::new(idle.clone())), &mut bytes)?;
        }
        if !contents.stuck.is_empty() {
            encode(&Record::Stuck(contents.stuck.clone()), &mut bytes)?;
        }
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => (),
        }
        let mut file = OpenOptions::new()
            .create_new(true)
            .append(true)
            .mode(0o600)
            .open(&aside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&aside, &self.path)?;
        // From here on the old file has no name: whatever fails, nothing may go there.
        self.file = file;
        self.size = bytes.len() as u64;
        self.rewrite_at = REWRITE_AT.max(self.size * 2);
        reserve(&self.file, self.size, self.ahead);
        Ok(())
    }
}

/// Takes room behind the end of the file without changing its size. Some file systems
/// cannot; there a full disk is a full disk.
fn reserve(file: &File, size: u64, ahead: u64) {
    let _ = rustix::fs::fallocate(file, rustix::fs::FallocateFlags::KEEP_SIZE, size, ahead);
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn encode(record: &Record, out: &mut Vec<u8>) -> io::Result<()> {
    let body = postcard::to_stdvec(record).map_err(io::Error::other)?;
    let len = u32::try_from(body.len())
        .ok()
        .filter(|len| (*len as usize) <= RECORD_MAX)
        .ok_or_else(|| io::Error::other("a record is too long"))?;
    out.extend_from_slice(&len.to_le_bytes());
    out.push(VERSION);
    out.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    out.extend_from_slice(&body);
    Ok(())
}

/// The records that fit, and how many bytes they take.
fn read_records(mut bytes: &[u8]) -> (Vec<Record>, usize) {
    let whole = bytes.len();
    let mut records = Vec::new();
    while let Some((record, rest)) = read_record(bytes) {
        records.push(record);
        bytes = rest;
    }
    (records, whole - bytes.len())
}

/// Whether a record begins anywhere in here.
fn any_record(bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| read_record(&bytes[at..]).is_some())
}

fn read_record(mut bytes: &[u8]) -> Option<(Record, &[u8])> {
    let mut header = [0; HEADER];
    bytes.read_exact(&mut header).ok()?;
    let [l0, l1, l2, l3, version, c0, c1, c2, c3] = header;
    let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if version != VERSION || len > RECORD_MAX {
        return None;
    }
    let (body, rest) = bytes.split_at_checked(len)?;
    if crc32fast::hash(body) != u32::from_le_bytes([c0, c1, c2, c3]) {
        return None;
    }
    match postcard::take_from_bytes::<Record>(body) {
        Ok((record, [])) => Some((record, rest)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
