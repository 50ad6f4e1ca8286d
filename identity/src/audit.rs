//! The audit record, what it must not show, and the chain that shows a change.
//!
//! A [`Draft`] is what happened, already without secrets; [`Head::seal`] gives it its
//! number, the digest of the record before it and its own; [`Verifier`] reads a chain.

mod canonical;
mod merge;
mod redact;

pub use canonical::{CanonicalError, canonical};
pub use merge::Merger;
pub use redact::Kind;

use crate::Sha256;
use longshore_common::time::Timestamp;
use redact::{is_secret_name, masked, short, short_value};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The operation of the record that stands for records that retention removed.
pub const CHECKPOINT: &str = "audit.checkpoint";

/// Who did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorKind {
    /// A person.
    User,
    /// A service account.
    ServiceAccount,
    /// An agent.
    Agent,
    /// Somebody at the local socket.
    Local,
    /// The coordinator itself.
    System,
}

impl ActorKind {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::ServiceAccount => "service_account",
            Self::Agent => "agent",
            Self::Local => "local",
            Self::System => "system",
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done.
    Ok,
    /// Not allowed.
    Refused,
    /// Allowed, but it did not work.
    Failed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Ok, Self::Refused, Self::Failed];

    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Who did it, as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// What kind of actor.
    pub kind: ActorKind,
    /// Its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its name at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The access key, the login or the connection by which it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// The person a service account acted for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<String>,
}

impl Actor {
    /// An actor of which only the kind is known.
    #[must_use]
    pub const fn new(kind: ActorKind) -> Self {
        Self {
            kind,
            id: None,
            name: None,
            via: None,
            on_behalf_of: None,
        }
    }

    /// The same, with an id and a name; an empty one is left out.
    #[must_use]
    pub fn called(mut self, id: &str, name: &str) -> Self {
        self.id = text(id);
        self.name = text(name);
        self
    }
}

/// What it was done to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// `user`, `keypair`, `vault`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// Its id.
    pub id: String,
    /// Its name at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A record as it is stored. Empty members are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its number, from 1, without gaps.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// From where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<String>,
    /// The id under which the request stands in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// A name of the operation table.
    pub operation: String,
    /// To what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// How it ended.
    pub outcome: Outcome,
    /// The code of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Changed fields as they were.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub before: Map<String, Value>,
    /// Changed fields as they are.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub after: Map<String, Value>,
    /// What an administrator should know and the caller was not told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// How many of the same kind it stands for, if more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The digest of record `seq` - 1; zeros for the first.
    pub prev_hash: Sha256,
    /// SHA-256 of the canonical form of all the other members.
    pub hash: Sha256,
}

impl Record {
    /// The end of a chain whose last record this is.
    #[must_use]
    pub const fn head(&self) -> Head {
        Head {
            seq: self.seq,
            hash: self.hash,
        }
    }

    /// The bytes whose digest `hash` is: canonical JSON (RFC 8785) without `hash`.
    ///
    /// # Errors
    /// [`CanonicalError`]; never for a record that [`Head::seal`] made.
    pub fn hashed_form(&self) -> Result<String, CanonicalError> {
        let mut value = serde_json::to_value(self).map_err(|_| CanonicalError::Json)?;
        if let Value::Object(members) = &mut value {
            members.remove("hash");
        }
        canonical(&value)
    }

    /// A record as it was stored: its hashed form and its digest. Says nothing about whether
    /// the digest is right; [`Verifier::stored`] does.
    ///
    /// # Errors
    /// The text is no record.
    pub fn from_stored(form: &str, hash: Sha256) -> Result<Self, serde_json::Error> {
        let mut value: Map<String, Value> = serde_json::from_str(form)?;
        value.insert("hash".into(), hash.to_string().into());
        serde_json::from_value(Value::Object(value))
    }

    /// What a search for who did it asks for: its id, or its name, or its kind.
    #[must_use]
    pub fn actor_key(&self) -> &str {
        let actor = &self.actor;
        let named = actor.id.as_deref().or(actor.name.as_deref());
        named.unwrap_or(actor.kind.as_str())
    }

    /// A line of an export: canonical JSON with `hash`, without a line break.
    ///
    /// # Errors
    /// As [`Record::hashed_form`].
    pub fn line(&self) -> Result<String, CanonicalError> {
        canonical(&serde_json::to_value(self).map_err(|_| CanonicalError::Json)?)
    }
}

/// The end of a chain; goes with every heartbeat acknowledgement to the agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Number of the last record, 0 if there is none.
    pub seq: u64,
    /// Its digest, zeros if there is none.
    pub hash: Sha256,
}

impl Head {
    /// The end of an empty chain.
    pub const START: Self = Self {
        seq: 0,
        hash: Sha256::ZERO,
    };

    /// The record that follows on this end. It is written in the transaction of the change
    /// that it is about; if it cannot be, the change fails (503 `LS-AUDIT`).
    ///
    /// # Errors
    /// [`CanonicalError`]: the number is beyond 2^53 - 1.
    pub fn seal(&self, draft: Draft, at: Timestamp) -> Result<Record, CanonicalError> {
        self.seal_with_form(draft, at).map(|(record, _)| record)
    }

    /// [`Self::seal`] with the hashed form of the record, which is what is stored.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub fn seal_with_form(
        &self,
        draft: Draft,
        at: Timestamp,
    ) -> Result<(Record, String), CanonicalError> {
        let mut record = Record {
            seq: self.seq.saturating_add(1),
            at,
            actor: draft.actor,
            client_ip: draft.client_ip,
            request_id: draft.request_id,
            operation: draft.operation,
            target: draft.target,
            outcome: draft.outcome,
            code: draft.code,
            before: draft.before,
            after: draft.after,
            detail: draft.detail,
            count: draft.count,
            prev_hash: self.hash,
            hash: Sha256::ZERO,
        };
        let form = record.hashed_form()?;
        record.hash = Sha256::of(form.as_bytes());
        Ok((record, form))
    }
}

/// What happened, without number and digests. Every text is cut and escaped and every
/// secret masked as it goes in, so that none can be forgotten later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    actor: Actor,
    client_ip: Option<String>,
    request_id: Option<String>,
    operation: String,
    target: Option<Target>,
    outcome: Outcome,
    code: Option<String>,
    before: Map<String, Value>,
    after: Map<String, Value>,
    detail: Option<String>,
    count: Option<u64>,
}

/// Cut, escaped, and left out if empty.
fn text(given: &str) -> Option<String> {
    (!given.is_empty()).then(|| short(given))
}

impl Draft {
    /// A record of `operation` by `actor`.
    #[must_use]
    pub fn new(actor: Actor, operation: &str, outcome: Outcome) -> Self {
        let again = |given: Option<String>| given.as_deref().and_then(text);
        let actor = Actor {
            kind: actor.kind,
            id: again(actor.id),
            name: again(actor.name),
            via: again(actor.via),
            on_behalf_of: again(actor.on_behalf_of),
        };
        Self {
            actor,
            client_ip: None,
            request_id: None,
            operation: short(operation),
            target: None,
            outcome,
            code: None,
            before: Map::new(),
            after: Map::new(),
            detail: None,
            count: None,
        }
    }

    /// Kind and id of what it was done to.
    #[must_use]
    pub fn about(&self) -> Option<(&str, &str)> {
        let target = self.target.as_ref()?;
        Some((&target.kind, &target.id))
    }

    /// Id of who did it, if that one has an id.
    #[must_use]
    pub fn actor_id(&self) -> Option<&str> {
        self.actor.id.as_deref()
    }

    /// The record that stands for all up to `removed`, which retention deletes in the same
    /// transaction. It is appended like any other, so the chain vouches for it.
    #[must_use]
    pub fn checkpoint(removed: Head) -> Self {
        let system = Actor::new(ActorKind::System);
        let mut draft = Self::new(system, CHECKPOINT, Outcome::Ok);
        draft.after.insert("seq".into(), removed.seq.into());
        draft
            .after
            .insert("hash".into(), removed.hash.to_string().into());
        draft
    }

    /// Address of the client.
    #[must_use]
    pub fn client_ip(mut self, address: &str) -> Self {
        self.client_ip = text(address);
        self
    }

    /// The id of the request.
    #[must_use]
    pub fn request_id(mut self, id: &str) -> Self {
        self.request_id = text(id);
        self
    }

    /// What it was done to; an empty name is left out.
    #[must_use]
    pub fn target(mut self, kind: &str, id: &str, name: &str) -> Self {
        self.target = Some(Target {
            kind: short(kind),
            id: short(id),
            name: text(name),
        });
        self
    }

    /// The code of a refusal.
    #[must_use]
    pub fn code(mut self, code: &str) -> Self {
        self.code = text(code);
        self
    }

    /// What an administrator should know.
    #[must_use]
    pub fn detail(mut self, detail: &str) -> Self {
        self.detail = text(detail);
        self
    }

    /// How many of the same kind it stands for; 0 and 1 are left out.
    #[must_use]
    pub fn count(mut self, count: u64) -> Self {
        self.count = (count > 1).then_some(count);
        self
    }

    /// A field that changed; one that did not is left out. `None` is a field that was not
    /// there. A secret appears as a mask on both sides, so that only its change is seen.
    #[must_use]
    pub fn field(
        mut self,
        name: &str,
        kind: Kind,
        before: Option<Value>,
        after: Option<Value>,
    ) -> Self {
        if before == after {
            return self;
        }
        let hidden = kind == Kind::Secret || is_secret_name(name);
        let shown = |value: Value| match kind {
            Kind::Secret => Value::from(crate::secret::MASK),
            Kind::Plain if hidden => masked(value),
            Kind::Plain => short_value(value),
        };
        let name = short(name);
        if let Some(value) = before {
            self.before.insert(name.clone(), shown(value));
        }
        if let Some(value) = after {
            self.after.insert(name, shown(value));
        }
        self
    }

    /// The paths of a vault that changed: of vaults nothing else is written down.
    #[must_use]
    pub fn vault_paths<'a>(mut self, paths: impl IntoIterator<Item = &'a str>) -> Self {
        let paths: Vec<String> = paths.into_iter().map(short).collect();
        self.after.insert("paths".into(), paths.into());
        self
    }
}

/// A record as a table holds it.
#[derive(Debug, Clone, Copy)]
pub struct StoredRow<'a> {
    /// Its number.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// [`Record::actor_key`].
    pub actor: &'a str,
    /// A name of the operation table.
    pub operation: &'a str,
    /// Id of what it was done to; empty if there is none.
    pub target: &'a str,
    /// [`Outcome::as_str`].
    pub outcome: &'a str,
    /// [`Record::hashed_form`].
    pub form: &'a str,
    /// The digest of `form`.
    pub hash: Sha256,
}

/// What a chain was found to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether it is whole.
    pub ok: bool,
    /// How many records were read.
    pub records: u64,
    /// The first number at which it is not: a changed record, or one that is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_bad_seq: Option<u64>,
    /// The last record up to which it is.
    pub head: Head,
}

/// Reads a chain record by record, in memory that does not grow with it.
#[derive(Debug, Clone)]
pub struct Verifier {
    records: u64,
    /// The end of what is good so far.
    head: Head,
    bad: Option<u64>,
    /// The chain began behind this record; good only if a checkpoint says so.
    removed: Option<Head>,
    witnesses: BTreeMap<u64, Vec<Sha256>>,
}

impl Verifier {
    /// Reads a chain by itself, and against ends of it that others remember (agents keep
    /// the latest they were told). Without any, a cut end cannot be seen.
    #[must_use]
    pub fn new(witnesses: impl IntoIterator<Item = Head>) -> Self {
        let mut by_seq: BTreeMap<u64, Vec<Sha256>> = BTreeMap::new();
        for head in witnesses.into_iter().filter(|head| head.seq > 0) {
            by_seq.entry(head.seq).or_default().push(head.hash);
        }
        Self {
            records: 0,
            head: Head::START,
            bad: None,
            removed: None,
            witnesses: by_seq,
        }
    }

    /// Takes the next record in.
    pub fn record(&mut self, record: &Record) {
        self.records += 1;
        if self.bad.is_some() {
            return;
        }
        if self.records == 1 && record.seq > 1 {
            // Retention deletes from the start; whether it did is known once the
            // checkpoint was read.
            self.head = Head {
                seq: record.seq - 1,
                hash: record.prev_hash,
            };
            self.removed = Some(self.head);
        }
        let expected = self.head.seq + 1; // a number that was read is below 2^53
        if record.seq != expected {
            self.bad = Some(expected);
            return;
        }
        let digest = record.hashed_form().map(|form| Sha256::of(form.as_bytes()));
        let remembered = self.witnesses.get(&record.seq);
        let same = remembered.is_none_or(|all| all.iter().all(|hash| *hash == record.hash));
        if record.prev_hash != self.head.hash || digest != Ok(record.hash) || !same {
            self.bad = Some(record.seq);
            return;
        }
        self.head = record.head();
        if self.removed.is_some() && self.removed == removed_by(record) {
            self.removed = None;
        }
    }

    /// Takes the next record in, as a line of JSON. A line that is no record, or has
    /// members that a record has not, is a bad one.
    pub fn line(&mut self, line: &str) {
        if let Ok(record) = serde_json::from_str(line) {
            self.record(&record);
        } else {
            self.records += 1;
            self.bad.get_or_insert(self.head.seq + 1);
        }
    }

    /// Takes the next record in, as it is stored: its hashed form, its digest, and what stands
    /// beside it for searches. A row whose columns say something else than its record is a bad
    /// one: searches would show another history than the chain.
    pub fn stored(&mut self, row: &StoredRow<'_>) {
        let same = |record: &Record| {
            record.seq == row.seq
                && record.at == row.at
                && record.actor_key() == row.actor
                && record.operation == row.operation
                && record.target.as_ref().map_or("", |t| t.id.as_str()) == row.target
                && record.outcome.as_str() == row.outcome
                && Sha256::of(row.form.as_bytes()) == row.hash
        };
        match Record::from_stored(row.form, row.hash) {
            Ok(record) if same(&record) => self.record(&record),
            _ => {
                self.records += 1;
                self.bad.get_or_insert(self.head.seq + 1);
            }
        }
    }

    /// The verdict, after the last record.
    #[must_use]
    pub fn finish(mut self) -> Report {
        if self.removed.is_some() {
            // The start is gone, and nobody says that this was right.
            self.bad = Some(1);
            self.head = Head::START;
        }
        let last = self.witnesses.last_key_value().map(|(seq, _)| *seq);
        if self.bad.is_none() && last.is_some_and(|seq| seq > self.head.seq) {
            self.bad = Some(self.head.seq + 1); // somebody remembers a later end
        }
        Report {
            ok: self.bad.is_none(),
            records: self.records,
            first_bad_seq: self.bad,
            head: self.head,
        }
    }
}

/// What a checkpoint says was removed.
fn removed_by(record: &Record) -> Option<Head> {
    if record.operation != CHECKPOINT || record.outcome != Outcome::Ok {
        return None;
    }
    Some(Head {
        seq: record.after.get("seq")?.as_u64()?,
        hash: record.after.get("hash")?.as_str()?.parse().ok()?,
    })
}

/// Reads a whole chain, without witnesses.
pub fn verify<'a>(records: impl IntoIterator<Item = &'a Record>) -> Report {
    let mut verifier = Verifier::new([]);
    for record in records {
        verifier.record(record);
    }
    verifier.finish()
}

#[cfg(test)]
mod tests;
