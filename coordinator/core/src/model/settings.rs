//! What the configuration is from now on: stored settings, and what decisions rest on.

use super::admin::apply_fixed;
use super::audited::{Audited, fixed_people, target};
use super::change::Change;
use super::draft::Draft;
use super::event::{Answer, Outcome, Refusal, SettingsOrder};
use super::policies::{LifeSettings, PeopleSettings, StoredSettings};
use super::state::State;
use crate::access::Operation;
use longshore_common::agent::AgentState;
use longshore_common::network::OVERHEAD;
use longshore_common::redact::MASK;
use longshore_common::time::Timestamp;
use serde_json::{Value, json};

pub(super) fn decide(state: &State, order: &SettingsOrder, now: Timestamp) -> Outcome {
    let version = state.settings.version;
    if order.expected_version.is_some_and(|seen| seen != version) {
        let text = "The settings have changed since you read them.";
        return Outcome::refuse(Refusal::new("LS-VERSION-STALE", text));
    }
    if let Some(refusal) = wider_than_nodes(state, order) {
        return Outcome::refuse(refusal);
    }
    let mut changes = Vec::new();
    if let Some(stored) = &order.stored {
        let new = StoredSettings {
            version,
            ..stored.clone()
        };
        if new != state.settings {
            changes.push(Change::Settings(StoredSettings {
                version: version.saturating_add(1),
                ..new
            }));
        }
    }
    if state.scheduler != order.scheduler {
        changes.push(Change::Scheduler(order.scheduler.clone()));
        changes.extend(super::network::pool_differs(state, &order.scheduler));
    }
    let people = PeopleSettings {
        service_account_admins: order.service_account_admins,
        throttle: order.throttle,
        ..state.people_settings.clone()
    };
    if state.people_settings != people {
        changes.push(Change::PeopleSettings(people));
    }
    let mut effects = Vec::new();
    let (lives, before) = (&order.scheduler.lives, &state.scheduler.lives);
    let known =
        |lives: &LifeSettings| (lives.stop_grace_s, lives.warn_before_s.clone(), lives.work);
    if known(lives) != known(before) {
        // Agents stop and warn by themselves: those that have something are told.
        let mut draft = Draft::new(state, now);
        let all = state.agents.keys().copied();
        let busy = all.filter(|agent| state.on_agent(*agent).next().is_some());
        busy.for_each(|agent| draft.touch(agent));
        let told = draft.finish();
        changes.extend(told.0);
        effects.extend(told.1);
    }
    if let Some(fixed) = &order.fixed {
        let mut next = state.clone();
        changes.iter().for_each(|change| next.apply(change));
        let told = apply_fixed(&next, fixed, now);
        if let Err(refusal) = told.answer {
            return Outcome::refuse(Refusal::new("LS-SETTING", refusal.detail));
        }
        changes.extend(told.changes);
        effects.extend(told.effects);
    }
    if order.dry_run {
        changes.clear();
        effects.clear();
    }
    Outcome {
        changes,
        effects,
        answer: Ok(Answer::Done),
    }
}

/// Stored settings as they are recorded. Of a secret one stands there that it is set, and that it
/// is another one than before.
fn shown(settings: &StoredSettings, before: &StoredSettings) -> Value {
    let mut all = settings.values.clone();
    for (key, secret) in &settings.secrets {
        let differs = before.secrets.get(key).is_some_and(|old| old != secret);
        let text = if differs { "******** (another)" } else { MASK };
        all.insert(key.clone(), json!(text));
    }
    json!(all)
}

/// What IPv4 asks of every network, in bytes (RFC 791).
const LEAST_MTU: u32 = 576;

/// Packets between containers that would not fit into those between the nodes there are. Only
/// larger ones than until now are looked at: a node that came with less room is told of when a
/// session is placed there. One that says it carries next to nothing has no say in it.
fn wider_than_nodes(state: &State, order: &SettingsOrder) -> Option<Refusal> {
    let mtu = order.scheduler.network.overlay_mtu;
    if mtu <= state.scheduler.network.overlay_mtu {
        return None;
    }
    let present = state.agents.values();
    let present = present.filter(|agent| agent.state == AgentState::Alive);
    let underlays = present.filter_map(|agent| {
        let underlay = agent.inventory.as_ref()?.networks.underlay.as_ref()?;
        Some((underlay.mtu.saturating_sub(OVERHEAD), underlay, agent))
    });
    let underlays = underlays.filter(|(room, ..)| *room >= LEAST_MTU);
    let (room, underlay, agent) = underlays.min_by_key(|(room, ..)| *room)?;
    (mtu > room).then(|| {
        let text = format!(
            "services.network.overlay_mtu can be {room} at most: {} of {} carries packets of {}, of which {OVERHEAD} are the envelope.",
            underlay.link, agent.name, underlay.mtu
        );
        Refusal::new("LS-SETTING", text.clone()).at("/values/services.network.overlay_mtu", text)
    })
}

/// A record for each kind of settings that differs, and one for each of the people of the
/// configuration who was changed by it.
pub(super) fn recorded(state: &State, changes: &[Change]) -> Vec<Audited> {
    // What is said of people is said twice where the list says something too: the last one holds.
    let people = changes
        .iter()
        .rposition(|change| matches!(change, Change::PeopleSettings(_)));
    let record = |id: &str, before, after| {
        let target = target("settings", id, "");
        Audited::new(Operation::SettingsWrite, target, Some(before), Some(after))
    };
    let of = |change: &Change| match change {
        Change::Settings(new) => Some(record(
            "stored",
            shown(&state.settings, &StoredSettings::default()),
            shown(new, &state.settings),
        )),
        Change::Scheduler(new) => Some(record("scheduler", json!(state.scheduler), json!(new))),
        Change::PeopleSettings(new) => {
            Some(record("people", json!(state.people_settings), json!(new)))
        }
        _ => None,
    };
    let mut records: Vec<Audited> = changes
        .iter()
        .enumerate()
        .filter(|(at, change)| !matches!(change, Change::PeopleSettings(_)) || Some(*at) == people)
        .filter_map(|(_, change)| of(change))
        .collect();
    records.extend(fixed_people(state, changes));
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Event, Meta, SettingSecret, react};
    use longshore_common::ids::{ClusterId, CoordinatorGeneration};
    use longshore_identity::Secret;
    use std::collections::BTreeMap;

    fn order(state: &State) -> SettingsOrder {
        SettingsOrder {
            stored: None,
            expected_version: None,
            scheduler: state.scheduler.clone(),
            service_account_admins: false,
            throttle: longshore_identity::throttle::Limits::default(),
            fixed: None,
            dry_run: false,
        }
    }

    #[test]
    fn what_is_stored_counts_its_versions_and_a_stale_one_is_refused() {
        let mut state = State::new(Meta {
            cluster: ClusterId::new(1),
            generation: CoordinatorGeneration(1),
            next_session: 1,
            next_uid: 20_000,
        });
        let give = |state: &State, order: SettingsOrder| {
            react(state, &Event::Settings(Box::new(order)), Timestamp(1))
        };
        assert!(give(&state, order(&state)).changes.is_empty());
        let values = BTreeMap::from([("a.b".to_owned(), json!(5))]);
        let mut first = order(&state);
        first.stored = Some(StoredSettings {
            version: 7,
            values: values.clone(),
            ..StoredSettings::default()
        });
        first.expected_version = Some(1);
        first.scheduler.interval_s = 20;
        let mut rehearsed = first.clone();
        rehearsed.dry_run = true;
        assert!(give(&state, rehearsed).changes.is_empty());
        let told = give(&state, first.clone());
        assert_eq!(recorded(&state, &told.changes).len(), 2);
        told.changes.iter().for_each(|change| state.apply(change));
        assert_eq!(
            (state.settings.version, &state.settings.values),
            (2, &values)
        );
        assert_eq!(state.scheduler.interval_s, 20);
        let stale = give(&state, first.clone()).answer.unwrap_err();
        assert_eq!(stale.code, "LS-VERSION-STALE");
        first.expected_version = None;
        assert!(give(&state, first).changes.is_empty(), "nothing differs");
    }

    #[test]
    fn secrets_are_recorded_as_masks() {
        let mut state = State::new(Meta {
            cluster: ClusterId::new(1),
            generation: CoordinatorGeneration(1),
            next_session: 1,
            next_uid: 20_000,
        });
        let with = |text: &str| StoredSettings {
            secrets: BTreeMap::from([(
                "a.password".to_owned(),
                SettingSecret::Open(Secret::new(format!("\"{text}\""))),
            )]),
            ..StoredSettings::default()
        };
        let mut seen = Vec::new();
        for text in ["hunter1", "hunter1", "hunter2"] {
            let mut order = order(&state);
            order.stored = Some(with(text));
            let told = react(&state, &Event::Settings(Box::new(order)), Timestamp(1));
            let records = recorded(&state, &told.changes);
            assert!(!format!("{told:?}{records:?}").contains("hunter"));
            seen.push(records.len());
            told.changes.iter().for_each(|change| state.apply(change));
        }
        assert_eq!(seen, [1, 0, 1]);
        assert_eq!(state.settings.open()["a.password"], json!("hunter2"));
        let was = shown(&with("hunter1"), &StoredSettings::default());
        assert_eq!(was, json!({ "a.password": "********" }));
        let now = shown(&with("hunter2"), &with("hunter1"));
        assert_eq!(now, json!({ "a.password": "******** (another)" }));
    }

    #[test]
    fn people_of_the_configuration_come_with_the_rest_or_nothing_does() {
        let mut state = State::new(Meta {
            cluster: ClusterId::new(1),
            generation: CoordinatorGeneration(1),
            next_session: 1,
            next_uid: 20_000,
        });
        let mut wanted = order(&state);
        wanted.service_account_admins = true;
        wanted.fixed = Some(crate::model::admin::FixedOrder {
            enabled: true,
            ..Default::default()
        });
        let event = Event::Settings(Box::new(wanted.clone()));
        let told = react(&state, &event, Timestamp(1));
        let records = recorded(&state, &told.changes);
        assert_eq!(records.len(), 1, "both are one record of people");
        told.changes.iter().for_each(|change| state.apply(change));
        let people = &state.people_settings;
        assert!(people.service_account_admins && people.fixed_users_only);
        // A person of a domain that is not there.
        wanted.service_account_admins = false;
        let users = &mut wanted.fixed.as_mut().unwrap().users;
        users.push(crate::model::admin::FixedUser {
            id: longshore_common::ids::UserId::new(7),
            username: "jane".to_owned(),
            full_name: String::new(),
            email: "jane@fixed.invalid".to_owned(),
            role: None,
            domain: Some("nowhere".to_owned()),
            projects: None,
            access_key: "LSAK1".to_owned(),
        });
        let told = react(&state, &Event::Settings(Box::new(wanted)), Timestamp(1));
        assert!(told.changes.is_empty());
        assert_eq!(told.answer.unwrap_err().code, "LS-SETTING");
    }
}
