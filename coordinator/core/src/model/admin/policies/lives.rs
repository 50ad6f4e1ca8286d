//! How long sessions of a requester may live, and which policy says so.

use super::super::super::Extensions;
use super::super::super::policies::KeypairPolicy;
use super::super::super::rules::{idle, policy_of};
use super::super::super::state::State;
use super::idle_rules;
use crate::scheduler::limits::{Requester, layers};
use longshore_common::admin::{BoundView, LivesView};
use longshore_common::session::SessionType;

/// The bounds of a requester's sessions, as the next one would get them.
#[must_use]
pub fn lives_view(state: &State, who: &Requester) -> LivesView {
    let policy = policy_of(state, &who.keypair);
    let said = |value: i64, by_policy: bool| BoundView {
        value,
        policy: policy.filter(|_| by_policy).map(|p| p.name.clone()),
    };
    let above_zero = |value: Option<i64>| value.is_some_and(|value| value > 0);
    let shortest = layers(state, who)
        .iter()
        .filter_map(|layer| {
            let policy = layer.policy()?;
            Some((policy.max_session_lifetime_s.filter(|s| *s > 0)?, policy))
        })
        .min_by_key(|(seconds, _)| *seconds)
        .map(|(value, policy): (i64, &KeypairPolicy)| BoundView {
            value,
            policy: Some(policy.name.clone()),
        });
    let extensions = Extensions::of(state, &who.keypair);
    let idle = idle(state, &who.keypair, SessionType::Interactive);
    let idle = idle.and_then(|rules| rules.interaction_timeout_s);
    let own_idle = policy.and_then(idle_rules).is_some();
    LivesView {
        lifetime_s: shortest,
        extension_count: said(
            i64::from(extensions.count),
            policy.is_some_and(|p| p.extension_max_count.is_some()),
        ),
        extension_s: said(
            extensions.step_s,
            above_zero(policy.and_then(|p| p.extension_max_s)),
        ),
        total_lifetime_s: extensions.total_s.map(|value| said(value, true)),
        idle_timeout_s: idle.map(|value| said(i64::from(value), own_idle)),
    }
}
