//! Which configuration was loaded last, as far as one can be told from another by it: a keyed digest
//! of each value that somebody set. Values themselves never come here.

use super::audited::{Audited, Doer, target};
use super::change::Change;
use super::event::{Answer, Outcome};
use super::state::State;
use crate::access::Operation;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A configuration by its digests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LoadedConfig {
    /// Of all of it.
    pub digest: String,
    /// By the key; those that nobody set are not in it.
    pub keys: BTreeMap<String, String>,
}

impl LoadedConfig {
    /// Keys that are set to something else, or only in one of both.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<String> {
        let keys: BTreeSet<&String> = self.keys.keys().chain(other.keys.keys()).collect();
        let differs = |key: &&&String| self.keys.get(**key) != other.keys.get(**key);
        keys.iter()
            .filter(differs)
            .map(|key| (*key).clone())
            .collect()
    }
}

/// A configuration is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedOrder {
    /// Which.
    pub loaded: LoadedConfig,
    /// By a start, of which nothing else tells; what is read again is recorded by who does it.
    pub at_start: bool,
}

pub(super) fn decide(state: &State, order: &LoadedOrder) -> Outcome {
    let differs = state.loaded != order.loaded;
    Outcome {
        changes: differs
            .then(|| Change::Loaded(Box::new(order.loaded.clone())))
            .into_iter()
            .collect(),
        ..Outcome::only(Answer::Done)
    }
}

/// Each start is recorded, also one with the same configuration.
pub(super) fn recorded(state: &State, order: &LoadedOrder) -> Vec<Audited> {
    if !order.at_start {
        return Vec::new();
    }
    let digest = |of: &LoadedConfig| -> Value { json!({ "digest": of.digest }) };
    let keys = state.loaded.differing(&order.loaded);
    let detail = match keys.as_slice() {
        [] => "loaded at a start; nothing differs".to_owned(),
        keys => format!("loaded at a start; other than before: {}", keys.join(", ")),
    };
    let before = (!state.loaded.digest.is_empty()).then(|| digest(&state.loaded));
    let target = target("settings", "configuration", "");
    let record = Audited::new(
        Operation::SettingsWrite,
        target,
        before,
        Some(digest(&order.loaded)),
    );
    vec![record.by(Doer::System).detail(&detail)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Event, Meta, audited, react};
    use longshore_common::ids::{ClusterId, CoordinatorGeneration};
    use longshore_common::time::Timestamp;

    fn loaded(digest: &str, keys: &[(&str, &str)]) -> LoadedConfig {
        let pairs = keys
            .iter()
            .map(|(key, of)| ((*key).to_owned(), (*of).to_owned()));
        LoadedConfig {
            digest: digest.to_owned(),
            keys: pairs.collect(),
        }
    }

    #[test]
    fn each_start_is_recorded_with_the_keys_that_differ() {
        let mut state = State::new(Meta {
            cluster: ClusterId::new(1),
            generation: CoordinatorGeneration(1),
            next_session: 1,
            next_uid: 1,
        });
        let mut start = |loaded: LoadedConfig, at_start| {
            let event = Event::Loaded(Box::new(LoadedOrder { loaded, at_start }));
            let outcome = react(&state, &event, Timestamp(1));
            let records = audited(&state, &event, &outcome);
            let told: Vec<String> = records.into_iter().map(|one| one.detail).collect();
            let changes = outcome.changes.len();
            outcome
                .changes
                .iter()
                .for_each(|change| state.apply(change));
            (changes, told)
        };
        let one = loaded("d1", &[("a", "1"), ("b", "1")]);
        let first = "loaded at a start; other than before: a, b".to_owned();
        assert_eq!(start(one.clone(), true), (1, vec![first]));
        let same = "loaded at a start; nothing differs".to_owned();
        assert_eq!(start(one, true), (0, vec![same.clone()]));
        let read_again = loaded("d2", &[("a", "2"), ("c", "1")]);
        assert_eq!(start(read_again.clone(), false), (1, vec![]));
        assert_eq!(start(read_again, true), (0, vec![same]));
        let other = "loaded at a start; other than before: a, c, d".to_owned();
        assert_eq!(start(loaded("d3", &[("d", "1")]), true), (1, vec![other]));
    }
}
