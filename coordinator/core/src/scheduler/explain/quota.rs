//! What every layer of limits allows a requester, and what is used of it.

use crate::model::{Account, State, Usage};
use crate::scheduler::limits::{Layer, LayerKind, Requester, layers};
use longshore_common::amount::{SlotName, Slots, format_milli};
use longshore_common::api::{QuotaEntry, QuotaLayer, Source};
use std::collections::BTreeSet;

/// Limits and use of a requester for some slots, tightest first named.
#[must_use]
pub fn quota(state: &State, who: &Requester, slots: Option<&Slots>) -> Vec<QuotaEntry> {
    let layers = layers(state, who);
    let named: BTreeSet<SlotName> = match slots {
        Some(slots) => slots.iter().map(|(slot, _)| slot.clone()).collect(),
        None => {
            let mut named: BTreeSet<SlotName> =
                layers.iter().flat_map(Layer::named_slots).collect();
            for layer in &layers {
                if let Some(usage) = state.usage_ref(&layer.account) {
                    named.extend(usage.slots.iter().map(|(slot, _)| slot.clone()));
                }
            }
            named
        }
    };
    let nothing = Usage::default();
    let mut entries = Vec::new();
    for slot in &named {
        let of = |layer: &Layer<'_>| {
            let usage = state.usage_ref(&layer.account).unwrap_or(&nothing);
            (layer.limit(slot), usage.slots.amount(slot))
        };
        let used = state
            .usage_ref(&Account::User(who.user))
            .map_or(0, |u| u.slots.amount(slot));
        entries.push(entry(&layers, slot.to_string(), used, of, &|v| {
            slot.format_amount(v)
        }));
    }
    let of = |layer: &Layer<'_>| {
        let usage = state.usage_ref(&layer.account).unwrap_or(&nothing);
        (
            layer.max_sessions().map(|n| i64::from(n) * 1000),
            i64::from(usage.sessions) * 1000,
        )
    };
    let used = state
        .usage_ref(&Account::User(who.user))
        .map_or(0, |u| i64::from(u.sessions) * 1000);
    let counted: Vec<Layer<'_>> = layers
        .iter()
        .filter(|l| l.policy().is_some())
        .cloned()
        .collect();
    entries.push(entry(
        &counted,
        "sessions".to_owned(),
        used,
        of,
        &format_milli,
    ));
    let of = |layer: &Layer<'_>| {
        let waiting = state.waiting(&layer.account).sessions;
        let limit = layer.policy().and_then(|p| p.max_pending_session_count);
        (
            limit.map(|n| i64::from(n) * 1000),
            i64::from(waiting) * 1000,
        )
    };
    let used = i64::from(state.waiting(&Account::User(who.user)).sessions) * 1000;
    entries.push(entry(
        &counted,
        "pending".to_owned(),
        used,
        of,
        &format_milli,
    ));
    let limited: BTreeSet<SlotName> = counted
        .iter()
        .filter_map(Layer::policy)
        .flat_map(|p| {
            p.max_pending_session_slots
                .iter()
                .map(|(slot, _)| slot.clone())
        })
        .collect();
    for slot in &limited {
        let of = |layer: &Layer<'_>| {
            let limit = layer
                .policy()
                .and_then(|p| p.max_pending_session_slots.get(slot));
            (
                limit.flatten(),
                state.waiting(&layer.account).slots.amount(slot),
            )
        };
        let used = state.waiting(&Account::User(who.user)).slots.amount(slot);
        let name = format!("pending:{slot}");
        entries.push(entry(&counted, name, used, of, &|v| slot.format_amount(v)));
    }
    let of = |layer: &Layer<'_>| {
        let usage = state.usage_ref(&layer.account).unwrap_or(&nothing);
        (
            layer.max_system_sessions().map(|n| i64::from(n) * 1000),
            i64::from(usage.system_sessions) * 1000,
        )
    };
    let used = state
        .usage_ref(&Account::User(who.user))
        .map_or(0, |u| i64::from(u.system_sessions) * 1000);
    entries.push(entry(
        &counted,
        "system-sessions".to_owned(),
        used,
        of,
        &format_milli,
    ));
    entries
}

fn entry(
    layers: &[Layer<'_>],
    slot: String,
    used: i64,
    of: impl Fn(&Layer<'_>) -> (Option<i64>, i64),
    text: &dyn Fn(i64) -> String,
) -> QuotaEntry {
    let tightest = layers
        .iter()
        .filter_map(|layer| {
            let (limit, used) = of(layer);
            limit.map(|limit| ((limit - used).max(0), limit, layer))
        })
        .reduce(|best, next| if next.0 < best.0 { next } else { best });
    QuotaEntry {
        slot,
        used: text(used),
        limit: tightest.map(|(_, limit, _)| text(limit)),
        remaining: tightest.map(|(left, ..)| text(left)),
        tightest: tightest.map(|(_, _, layer)| Source {
            kind: layer.kind.source_kind().to_owned(),
            name: layer.name.to_owned(),
            id: Some(layer.id.clone()),
        }),
        layers: layers
            .iter()
            .map(|layer| {
                let (limit, used) = of(layer);
                QuotaLayer {
                    kind: layer.kind.source_kind().to_owned(),
                    name: layer.name.to_owned(),
                    layer: match layer.kind {
                        LayerKind::Keypair => "keypair",
                        LayerKind::User => "user",
                        LayerKind::Project => "project",
                        LayerKind::Domain => "domain",
                    }
                    .to_owned(),
                    limit: limit.map(text),
                    used: text(used),
                }
            })
            .collect(),
    }
}
