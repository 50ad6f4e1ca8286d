//! The agent's orders and deadlines on disk.
//!
//! One append-only file of records with length, version and CRC-32. A record that
//! stands before an effect on the engine is synced before the effect. A torn tail is
//! cut at the first record that does not fit. At 4 MiB the file is written anew, whole
//! or not at all. It holds no secrets.
//!
//! What ran is told by the engine's labels; what was ordered, and which ends were
//! reported, is told here.

use crate::devices::stuck::KeptBack;
use longshore_common::ids::{
    AgentId, ClusterId, ContainerKey, CoordinatorGeneration, Fence, InstanceId,
};
use longshore_common::judge::{KeptHistory, WarnState};
use longshore_common::session::Reason;
use longshore_common::wire::{DeviceUse, Outcome, OutcomeNumber, SignedSet, Totals};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

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

/// How far a key has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// About to be created.
    Intent,
    /// Created; never started by us.
    Created,
    /// About to be started, or started.
    Start,
}

/// What the journal knows of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// How far it has come; none when it was refused.
    pub stage: Option<Stage>,
    /// The boot in which that stage was reached.
    pub boot_id: String,
    /// The fence under which it was accepted.
    pub fence: Fence,
    /// Docker's full id, once there is one.
    pub docker_id: String,
    /// A limit of the agent's own ended it: this is the reason.
    pub local_stop: Option<Reason>,
    /// Milliseconds on the boot clock at which its lifetime ends, in the boot of `boot_id`.
    pub lifetime_boot_ms: Option<i64>,
    /// How it ended, until acknowledged.
    pub ended: Option<Outcome>,
    /// That nothing is left of it, until acknowledged.
    pub closed: Option<Outcome>,
    /// `ended` was acknowledged.
    pub ended_acked: bool,
}

impl KeyRecord {
    fn new(fence: Fence, boot_id: &str) -> Self {
        Self {
            stage: None,
            boot_id: boot_id.to_owned(),
            fence,
            docker_id: String::new(),
            local_stop: None,
            lifetime_boot_ms: None,
            ended: None,
            closed: None,
            ended_acked: false,
        }
    }
}

/// Everything the journal says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// Highest coordinator obeyed.
    pub coordinator: Option<(CoordinatorGeneration, InstanceId)>,
    /// The set that is applied.
    pub set: Option<SignedSet>,
    /// When that set came, in milliseconds on the boot clock of a boot.
    pub arrived: Option<(String, i64)>,
    /// The fence held.
    pub fence: Fence,
    /// Per key.
    pub keys: BTreeMap<ContainerKey, KeyRecord>,
    /// What was seen of its process since its start.
    pub seen: BTreeMap<ContainerKey, Seen>,
    /// Of which end its program got the signal it wants before, in milliseconds on the boot
    /// clock of a boot.
    pub signalled: BTreeMap<ContainerKey, (String, i64)>,
    /// What it used.
    pub sums: BTreeMap<ContainerKey, Sums>,
    /// How it was used lately, and what was warned of, as long as it runs.
    pub idle: BTreeMap<ContainerKey, Idle>,
    /// Devices that are kept back because of containers that do not end.
    pub stuck: KeptBack,
}

/// What verdicts about a running container rest on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Idle {
    /// The boot whose clock its instants are of.
    pub boot_id: String,
    /// When its process was started, in milliseconds on that clock: where its graces begin.
    pub started_boot_ms: i64,
    /// How it was used.
    pub history: KeptHistory,
    /// Which warnings were given.
    pub warned: WarnState,
}

/// What a container used until some instant: nothing else counts what its devices did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Sums {
    /// All of it.
    pub totals: Totals,
    /// By device.
    pub devices: Vec<DeviceUse>,
}

/// What an agent that follows on this one could not learn from the engine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Seen {
    /// What it got was compared with its grant, and passed.
    pub checked: bool,
    /// When somebody last used it, in milliseconds on the boot clock of `boot_id`.
    pub used_boot_ms: Option<i64>,
    /// The boot in which that was.
    pub boot_id: String,
}

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// Whose journal it is; the first record.
    Owner {
        /// Which cluster.
        cluster: ClusterId,
        /// Which agent.
        agent: AgentId,
    },
    /// A coordinator was obeyed.
    Coordinator(CoordinatorGeneration, InstanceId),
    /// A set was applied.
    Set(SignedSet, Fence),
    /// A key is about to be created.
    Intent {
        /// Which.
        key: ContainerKey,
        /// Under which fence.
        fence: Fence,
        /// In which boot.
        boot_id: String,
        /// When its life ends, on the boot clock.
        lifetime_boot_ms: Option<i64>,
    },
    /// The engine created it.
    Created {
        /// Which.
        key: ContainerKey,
        /// Docker's id.
        docker_id: String,
    },
    /// It is about to be started.
    Start {
        /// Which.
        key: ContainerKey,
        /// In which boot.
        boot_id: String,
    },
    /// A limit of the agent's own ends it.
    LocalStop(ContainerKey, Reason),
    /// Its life ends at another time.
    Lifetime(ContainerKey, Option<i64>, String),
    /// It ended, or its order was refused.
    Ended(Box<Outcome>, Fence, String),
    /// Nothing is left of it.
    Closed(Box<Outcome>, Fence, String),
    /// The coordinator has stored an outcome.
    Acked(ContainerKey, OutcomeNumber),
    /// A whole key, in a rewritten file.
    Key(ContainerKey, Box<KeyRecord>),
    /// What was seen of its process.
    Seen(ContainerKey, Seen),
    /// When the set that was applied last came: a boot, and milliseconds on its clock.
    Arrived(String, i64),
    /// Its program got the signal it wants before an end: the boot, and that end on its clock.
    Signalled(ContainerKey, String, i64),
    /// What it used so far.
    Sums(ContainerKey, Box<Sums>),
    /// How it was used lately, and what was warned of.
    Idle(ContainerKey, Box<Idle>),
    /// All devices that are kept back because of containers that do not end.
    Stuck(KeptBack),
}

impl Contents {
    fn apply(&mut self, record: Record) {
        match record {
            Record::Owner { .. } => (),
            Record::Coordinator(generation, instance) => {
                self.coordinator = Some((generation, instance));
            }
            Record::Set(set, fence) => {
                self.set = Some(set);
                self.arrived = None;
                self.fence = fence;
            }
            Record::Intent {
                key,
                fence,
                boot_id,
                lifetime_boot_ms,
            } => {
                let entry = self
                    .keys
                    .entry(key)
                    .or_insert_with(|| KeyRecord::new(fence, &boot_id));
                entry.stage = Some(Stage::Intent);
                entry.boot_id = boot_id;
                entry.lifetime_boot_ms = lifetime_boot_ms;
            }
            Record::Created { key, docker_id } => {
                if let Some(entry) = self.keys.get_mut(&key) {
                    entry.stage = Some(Stage::Created);
                    entry.docker_id = docker_id;
                }
            }
            Record::Start { key, boot_id } => {
                if let Some(entry) = self.keys.get_mut(&key) {
                    entry.stage = Some(Stage::Start);
                    entry.boot_id = boot_id;
                }
            }
            Record::LocalStop(key, reason) => {
                if let Some(entry) = self.keys.get_mut(&key) {
                    entry.local_stop = Some(reason);
                }
            }
            Record::Lifetime(key, at, boot_id) => {
                if let Some(entry) = self.keys.get_mut(&key) {
                    entry.lifetime_boot_ms = at;
                    entry.boot_id = boot_id;
                }
            }
            Record::Ended(outcome, fence, boot_id) => {
                let key = outcome.key;
                let entry = self
                    .keys
                    .entry(key)
                    .or_insert_with(|| KeyRecord::new(fence, &boot_id));
                entry.ended = Some(*outcome);
                self.idle.remove(&key);
            }
            Record::Closed(outcome, fence, boot_id) => {
                let key = outcome.key;
                let entry = self
                    .keys
                    .entry(key)
                    .or_insert_with(|| KeyRecord::new(fence, &boot_id));
                entry.closed = Some(*outcome);
            }
            Record::Acked(key, OutcomeNumber::Ended) => {
                if let Some(entry) = self.keys.get_mut(&key) {
                    entry.ended_acked = true;
                }
            }
            Record::Seen(key, seen) => {
                self.seen.insert(key, seen);
            }
            Record::Acked(key, OutcomeNumber::Closed) => {
                self.keys.remove(&key);
                self.seen.remove(&key);
                self.signalled.remove(&key);
                self.sums.remove(&key);
                self.idle.remove(&key);
            }
            Record::Idle(key, idle) => {
                self.idle.insert(key, *idle);
            }
            Record::Stuck(kept) => self.stuck = kept,
            Record::Sums(key, sums) => {
                self.sums.insert(key, *sums);
            }
            Record::Arrived(boot_id, at_ms) => self.arrived = Some((boot_id, at_ms)),
            Record::Signalled(key, boot_id, end_ms) => {
                self.signalled.insert(key, (boot_id, end_ms));
            }
            Record::Key(key, entry) => {
                self.keys.insert(key, *entry);
            }
        }
    }
}

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
mod tests {
    use super::*;
    use longshore_common::ids::{Attempt, Rank, SessionId};

    fn key(n: u64) -> ContainerKey {
        ContainerKey {
            session: SessionId(n),
            rank: Rank::MAIN,
            attempt: Attempt::FIRST,
        }
    }

    fn intent(n: u64) -> Record {
        Record::Intent {
            key: key(n),
            fence: Fence(1),
            boot_id: "b".into(),
            lifetime_boot_ms: None,
        }
    }

    fn open(dir: &Path) -> (Journal, Condition) {
        Journal::open(dir, ClusterId::new(1), AgentId::new(2), AHEAD).unwrap()
    }

    #[test]
    fn says_after_a_restart_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, condition) = open(dir.path());
        assert_eq!(condition, Condition::Missing);
        journal.write(vec![intent(1)]).unwrap();
        journal
            .note(vec![Record::Created {
                key: key(1),
                docker_id: "abc".into(),
            }])
            .unwrap();
        journal
            .write(vec![Record::Start {
                key: key(1),
                boot_id: "b".into(),
            }])
            .unwrap();
        let before = journal.contents().clone();
        drop(journal);
        let (journal, condition) = open(dir.path());
        assert_eq!(condition, Condition::Good);
        assert_eq!(journal.contents(), &before);
        assert_eq!(journal.key(key(1)).unwrap().stage, Some(Stage::Start));
    }

    #[test]
    fn what_was_put_is_waited_for_once() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(dir.path());
        journal.put(vec![intent(1)]).unwrap();
        journal.put(vec![intent(2)]).unwrap();
        assert!(journal.unsettled);
        assert!(journal.key(key(2)).is_some(), "known at once");
        journal.settle().unwrap();
        assert!(!journal.unsettled);
        journal.put(vec![intent(3)]).unwrap();
        journal.write(vec![intent(4)]).unwrap();
        assert!(!journal.unsettled, "one wait is for all that went before");
        drop(journal);
        let (journal, condition) = open(dir.path());
        assert_eq!(condition, Condition::Good);
        assert_eq!(journal.contents().keys.len(), 4);
    }

    #[test]
    fn a_tail_torn_anywhere_is_cut_at_the_last_whole_record() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(dir.path());
        journal.write(vec![intent(1)]).unwrap();
        let whole = fs::read(dir.path().join("journal")).unwrap();
        journal.write(vec![intent(2)]).unwrap();
        drop(journal);
        let longer = fs::read(dir.path().join("journal")).unwrap();
        for cut in whole.len()..longer.len() {
            fs::write(dir.path().join("journal"), &longer[..cut]).unwrap();
            let (journal, _) = open(dir.path());
            assert!(
                journal.key(key(1)).is_some() && journal.key(key(2)).is_none(),
                "cut at {cut}"
            );
        }
        for flip in whole.len()..longer.len() {
            let mut bytes = longer.clone();
            bytes[flip] ^= 0x40;
            fs::write(dir.path().join("journal"), &bytes).unwrap();
            let (journal, condition) = open(dir.path());
            assert_eq!(condition, Condition::Cut);
            assert!(
                journal.key(key(1)).is_some() && journal.key(key(2)).is_none(),
                "flipped {flip}"
            );
        }
    }

    #[test]
    fn damage_in_the_middle_is_no_torn_tail() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(dir.path());
        journal.write(vec![intent(1)]).unwrap();
        let before = fs::read(dir.path().join("journal")).unwrap().len();
        journal.write(vec![intent(2)]).unwrap();
        let behind = fs::read(dir.path().join("journal")).unwrap().len();
        journal.write(vec![intent(3)]).unwrap();
        drop(journal);
        let bytes = fs::read(dir.path().join("journal")).unwrap();
        for flip in before..behind {
            let mut bytes = bytes.clone();
            bytes[flip] ^= 0x40;
            fs::write(dir.path().join("journal"), &bytes).unwrap();
            let (journal, condition) = open(dir.path());
            assert_eq!(condition, Condition::SetAside, "flipped {flip}");
            assert!(journal.contents().keys.is_empty());
            let aside = fs::read(dir.path().join("journal.set-aside")).unwrap();
            assert_eq!(aside, bytes);
        }
    }

    #[test]
    fn a_new_file_whose_name_may_be_lost_is_no_warning() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(dir.path());
        journal.write(vec![intent(1)]).unwrap();
        journal.rewrite_at = 0;
        journal.sync_name = |_| Err(io::Error::other("no"));
        assert!(journal.write(vec![intent(2)]).is_err());
        // Whatever is written now stands in the file that has the name.
        (journal.sync_name, journal.rewrite_at) = (sync_dir, REWRITE_AT);
        journal.write(vec![intent(3)]).unwrap();
        drop(journal);
        let (journal, condition) = open(dir.path());
        assert_eq!(condition, Condition::Good);
        assert!(journal.key(key(3)).is_some());
    }

    #[test]
    fn what_was_seen_outlives_a_rewrite() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(dir.path());
        let seen = Seen {
            checked: true,
            used_boot_ms: Some(7),
            boot_id: "b".into(),
        };
        let signed = SignedSet {
            bytes: vec![1],
            signature: vec![2],
        };
        let sums = Sums {
            totals: Totals {
                cpu_ms: Some(70),
                ..Totals::default()
            },
            devices: Vec::new(),
        };
        let idle = Idle {
            boot_id: "b".into(),
            started_boot_ms: 3,
            history: KeptHistory::default(),
            warned: WarnState::default(),
        };
        let stuck = KeptBack::from([("GPU-a".parse().unwrap(), [key(1)].into())]);
        let records = vec![
            Record::Set(signed, Fence(1)),
            Record::Arrived("b".into(), 8),
            intent(1),
            Record::Seen(key(1), seen.clone()),
            Record::Signalled(key(1), "b".into(), 9),
            Record::Sums(key(1), Box::new(sums.clone())),
            Record::Idle(key(1), Box::new(idle.clone())),
            Record::Stuck(stuck.clone()),
        ];
        journal.write(records).unwrap();
        journal.rewrite_at = 0;
        journal.write(vec![intent(2)]).unwrap();
        drop(journal);
        let (mut journal, _) = open(dir.path());
        let contents = journal.contents();
        assert_eq!(contents.seen.get(&key(1)), Some(&seen));
        assert_eq!(contents.arrived, Some(("b".to_owned(), 8)));
        assert_eq!(contents.sums[&key(1)], sums);
        assert_eq!(contents.idle[&key(1)], idle);
        assert_eq!(contents.stuck, stuck);
        assert_eq!(contents.signalled[&key(1)], ("b".to_owned(), 9));
        let closed = Record::Acked(key(1), OutcomeNumber::Closed);
        journal.write(vec![closed]).unwrap();
        let contents = journal.contents();
        assert!(contents.seen.is_empty() && contents.signalled.is_empty());
        assert!(contents.sums.is_empty() && contents.idle.is_empty());
    }

    #[test]
    fn another_agents_journal_is_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(dir.path());
        journal.write(vec![intent(1)]).unwrap();
        drop(journal);
        let (journal, condition) =
            Journal::open(dir.path(), ClusterId::new(1), AgentId::new(3), AHEAD).unwrap();
        assert_eq!(condition, Condition::SetAside);
        assert!(journal.contents().keys.is_empty());
        assert!(dir.path().join("journal.set-aside").exists());
    }

    #[test]
    fn a_long_life_is_rewritten_and_says_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = open(dir.path());
        let id = "x".repeat(200_000);
        for n in 1..60 {
            journal
                .write(vec![
                    intent(n),
                    Record::Created {
                        key: key(n),
                        docker_id: id.clone(),
                    },
                ])
                .unwrap();
            if n > 2 {
                journal
                    .write(vec![Record::Acked(key(n - 2), OutcomeNumber::Closed)])
                    .unwrap();
            }
        }
        let before = journal.contents().clone();
        assert!(fs::metadata(dir.path().join("journal")).unwrap().len() < REWRITE_AT + 500_000);
        drop(journal);
        let (journal, condition) = open(dir.path());
        assert_eq!(condition, Condition::Good);
        assert_eq!(journal.contents(), &before);
        assert_eq!(journal.contents().keys.len(), 2);
    }
}
