//! What a write would touch, what is in its way, and what is to be said of it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// An object in the way of a deletion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InTheWay {
    /// `keypair`, `user`, `project`, `agent`, `session`, `pool`, `preset`.
    pub kind: String,
    /// Its id; for keypairs the access key, for pools the name.
    pub id: String,
    /// Its name; for keypairs that of the owner.
    pub name: String,
    /// `active` or `inactive`; for agents and sessions their state.
    pub state: String,
}

/// What is in the way of a deletion.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct InUse {
    /// At most 20 of them.
    pub blockers: Vec<InTheWay>,
    /// How many there are of each kind.
    pub counts: BTreeMap<String, u64>,
}

/// What a write would touch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Impact {
    /// Login names of the people it concerns, at most 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// Access keys of the keypairs it concerns, at most 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keypairs: Vec<String>,
    /// Live sessions it concerns, at most 200, those that fare worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sessions: Vec<SessionImpact>,
    /// How many `users`, `keypairs` and `sessions` there are in all, and how many sessions
    /// of each effect.
    pub counts: BTreeMap<String, u64>,
    /// Levels that would rise, at most 200; `counts` has how many there are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gains: Vec<AccessShift>,
    /// Levels that would fall, at most 200; `counts` has how many there are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loses: Vec<AccessShift>,
    /// Members that would differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diff: Vec<Difference>,
}

/// What somebody would gain or lose on an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccessShift {
    /// Id of the user or service account.
    pub subject: String,
    /// Its login name.
    pub subject_name: String,
    /// `project`, `session` or `queue`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Id of the object.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `none`, `ro` or `rw`.
    pub from: String,
    /// `none`, `ro` or `rw`.
    pub to: String,
}

/// What a write would do to a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionImpact {
    /// `s-42`.
    pub id: String,
    /// `stopped`: runs and would be stopped; `cancelled`: would end; `waits`: would start now and no longer would; `starts`: would
    /// start now and did not; `earlier`: its lifetime would be over earlier; `kept`: as it is.
    pub effect: String,
}

/// A member that would differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// Which, as a JSON pointer.
    pub path: String,
    /// Before, as JSON text; absent = it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// After, as JSON text; absent = it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// Something to know about a document or a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// `error`: cannot be provisioned; `warning`: can be.
    pub level: String,
    /// Which rule, e.g. `profile-without-pool`.
    pub rule: String,
    /// Where, as a JSON pointer into the document.
    pub pointer: String,
    /// In words, with names and numbers.
    pub message: String,
}
