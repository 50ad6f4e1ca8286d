//! Records of the audit log: who asked, made of what the core says, chained.
//!
//! | input | output |
//! |---|---|
//! | [`Audited`] from the core, [`Origin`] from the API | a [`Draft`], masked |
//! | a [`Draft`], the end of the log | an [`AuditLine`], which is stored with its change |

use crate::store::{AUDIT_RECORD, StoreError};
use longshore_common::ids::DomainId;
use longshore_common::time::Timestamp;
use longshore_core::model::admin::FixedOrder;
use longshore_core::model::{
    AuditLine, Audited, Beginning, Change, Doer, Event, LoadedConfig, LoadedOrder, Refusal, State,
    audit_domain, audited, react,
};
use longshore_identity::Sha256;
use longshore_identity::audit::{Actor, ActorKind, Draft, Head, Kind, Outcome};
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;

/// Longest JSON text of one member of a record. Documents may have a megabyte, and the log
/// keeps both forms of each; of a longer one only length and digest are kept.
const LONGEST_MEMBER: usize = 8 << 10;

/// Who asks, from where, in which request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Who.
    pub actor: Actor,
    /// Address of the client, if there is a connection.
    pub client_ip: Option<IpAddr>,
    /// The id under which the request stands in the log; may be empty.
    pub request_id: String,
}

impl Origin {
    /// The coordinator itself.
    #[must_use]
    pub const fn system() -> Self {
        Self {
            actor: Actor::new(ActorKind::System),
            client_ip: None,
            request_id: String::new(),
        }
    }

    /// A record of what this one asked for.
    #[must_use]
    pub fn draft(&self, operation: &str, outcome: Outcome) -> Draft {
        let draft = Draft::new(self.actor.clone(), operation, outcome).request_id(&self.request_id);
        match self.client_ip {
            Some(address) => draft.client_ip(&address.to_canonical().to_string()),
            None => draft,
        }
    }
}

/// The record of one operation. Without an origin the coordinator itself did it.
pub(super) fn draft(audited: Audited, origin: Option<&Origin>) -> Draft {
    let by_system = Origin::system();
    let origin = origin.unwrap_or(&by_system);
    let by_other;
    let origin = match audited.doer {
        Doer::Asker => origin,
        Doer::System => &by_system,
        Doer::Agent { id, name, via } => {
            let mut actor = Actor::new(ActorKind::Agent).called(&id.to_string(), &name);
            actor.via = (!via.is_empty()).then_some(via);
            by_other = Origin {
                actor,
                ..origin.clone()
            };
            &by_other
        }
        Doer::Person { id, name, via } => {
            let mut actor = Actor::new(ActorKind::User).called(&id, &name);
            actor.via = (!via.is_empty()).then_some(via);
            by_other = Origin {
                actor,
                ..origin.clone()
            };
            &by_other
        }
    };
    let target = &audited.target;
    let mut draft = origin
        .draft(audited.operation.as_str(), Outcome::Ok)
        .target(target.kind, &target.id, &target.name);
    if !audited.detail.is_empty() {
        draft = draft.detail(&audited.detail);
    }
    let (mut before, mut after) = (audited.before, audited.after);
    let names: Vec<String> = before.keys().cloned().collect();
    for name in names {
        let (old, new) = (before.remove(&name), after.remove(&name));
        draft = draft.field(&name, Kind::Plain, old.map(bounded), new.map(bounded));
    }
    for (name, new) in after {
        draft = draft.field(&name, Kind::Plain, None, Some(bounded(new)));
    }
    draft
}

fn bounded(value: Value) -> Value {
    if !matches!(value, Value::Array(_) | Value::Object(_)) {
        return value; // texts are cut later
    }
    let text = value.to_string();
    if text.len() <= LONGEST_MEMBER {
        return value;
    }
    let digest = Sha256::of(text.as_bytes());
    format!("{} bytes of JSON, SHA-256 {digest}", text.len()).into()
}

/// Gives a draft its number, chains it to the end of the log, and notes whose domain it is
/// about: `domain`, or as far as the state tells.
///
/// # Errors
/// [`StoreError::is_audit`]: it has no canonical form. What it is about must not happen.
pub(crate) fn seal(
    state: &State,
    draft: Draft,
    domain: Option<DomainId>,
    at: Timestamp,
) -> Result<AuditLine, StoreError> {
    let head = state.audit;
    let domain = domain.or_else(|| audit_domain(state, draft.about(), draft.actor_id()));
    let end = Head {
        seq: head.seq,
        hash: Sha256::from_bytes(head.hash),
    };
    let (record, body) = end
        .seal_with_form(draft, at)
        .map_err(|error| StoreError::Object {
            what: AUDIT_RECORD,
            id: head.seq.saturating_add(1).to_string(),
            why: error.to_string(),
        })?;
    Ok(AuditLine {
        seq: record.seq,
        at,
        domain,
        actor: record.actor_key().to_owned(),
        hash: *record.hash.as_bytes(),
        outcome: record.outcome.as_str().to_owned(),
        operation: record.operation,
        target: record.target.map(|t| t.id).unwrap_or_default(),
        body,
    })
}

/// What is stored at each start, with its record: there is no engine yet that could do it.
///
/// # Errors
/// As for every record: [`StoreError::is_audit`].
pub fn begin(
    state: &mut State,
    order: Beginning,
    now: Timestamp,
) -> Result<Vec<Change>, StoreError> {
    let event = Event::Started(Box::new(order));
    Ok(before_the_engine(state, &event, now)?.unwrap_or_default())
}

/// The same for the people of the configuration. A refusal says what stands wrong in it.
///
/// # Errors
/// As [`begin`].
pub fn begin_fixed(
    state: &mut State,
    order: FixedOrder,
    now: Timestamp,
) -> Result<Result<Vec<Change>, Refusal>, StoreError> {
    before_the_engine(state, &Event::FixedUsers(Box::new(order)), now)
}

/// The same for the configuration of a start, whatever it is.
///
/// # Errors
/// As [`begin`].
pub fn begin_loaded(
    state: &mut State,
    loaded: LoadedConfig,
    now: Timestamp,
) -> Result<Vec<Change>, StoreError> {
    let at_start = true;
    let event = Event::Loaded(Box::new(LoadedOrder { loaded, at_start }));
    Ok(before_the_engine(state, &event, now)?.unwrap_or_default())
}

/// Decides on the state itself. Effects are left out: no agent is there that could be told, and
/// each is sent everything when it comes.
fn before_the_engine(
    state: &mut State,
    event: &Event,
    now: Timestamp,
) -> Result<Result<Vec<Change>, Refusal>, StoreError> {
    let outcome = react(state, event, now);
    let records = audited(state, event, &outcome);
    if let Err(refusal) = outcome.answer {
        return Ok(Err(refusal));
    }
    let mut changes = outcome.changes;
    changes.iter().for_each(|change| state.apply(change));
    for one in records {
        let domain = one.domain;
        let line = seal(state, draft(one, None), domain, now)?;
        let change = Change::Audit(Arc::new(line));
        state.apply(&change);
        changes.push(change);
    }
    Ok(Ok(changes))
}
