//! How much of somebody's may wait.

use super::{policy_source, refuse_limits, show};
use crate::model::entities::Session;
use crate::model::event::Refusal;
use crate::model::state::{Account, State, Usage};
use crate::scheduler::limits::{Layer, LayerKind, Requester, layers};
use longshore_common::api::LimitMet;

pub(super) fn pending(
    state: &State,
    session: &Session,
    layers: &[Layer<'_>],
) -> Result<(), Refusal> {
    let keypair = state.waiting(&Account::Keypair(session.access_key.clone()));
    let user = state.waiting(&Account::User(session.owner));
    refuse_limits(
        "LS-LIMIT-PENDING",
        pending_met(session, layers, &keypair, &user),
        "Wait until some of your sessions have started, or cancel them.",
    )
}

/// Whether one more such session may wait, beside what its keypair and its owner have waiting.
pub(in super::super) fn has_pending_room(
    state: &State,
    session: &Session,
    keypair: &Usage,
    user: &Usage,
) -> bool {
    let who = Requester {
        keypair: session.access_key.clone(),
        user: session.owner,
        project: session.project,
        domain: session.domain,
    };
    pending_met(session, &layers(state, &who), keypair, user).is_empty()
}

fn pending_met(
    session: &Session,
    layers: &[Layer<'_>],
    keypair: &Usage,
    user: &Usage,
) -> Vec<(LimitMet, String)> {
    let mut met: Vec<(LimitMet, String)> = Vec::new();
    let request = session.total_slots();
    for layer in layers {
        let Some(policy) = layer.policy() else {
            continue;
        };
        let waiting = match layer.kind {
            LayerKind::Keypair => keypair,
            _ => user,
        };
        if let Some(most) = policy.max_pending_session_count.filter(|n| *n > 0)
            && waiting.sessions + 1 > most
        {
            let detail = format!(
                "Keypair policy {} allows {most} waiting sessions; {} wait.",
                layer.name, waiting.sessions
            );
            let limit = LimitMet {
                rule: "pending-count".to_owned(),
                slot: None,
                limit: Some(most.to_string()),
                have: waiting.sessions.to_string(),
                need: "1".to_owned(),
                source: Some(policy_source(layer)),
            };
            met.push((limit, detail));
        }
        for (slot, need) in request.iter() {
            let Some(Some(most)) = policy.max_pending_session_slots.get(slot) else {
                continue;
            };
            let have = waiting.slots.amount(slot);
            if have.saturating_add(need) > most {
                let show = |v| show(slot, v);
                let detail = format!(
                    "Keypair policy {} allows {slot} {} in waiting sessions; {} wait and this one asks for {}.",
                    layer.name,
                    show(most),
                    show(have),
                    show(need)
                );
                let limit = LimitMet {
                    rule: "pending-slots".to_owned(),
                    slot: Some(slot.to_string()),
                    limit: Some(slot.format_amount(most)),
                    have: slot.format_amount(have),
                    need: slot.format_amount(need),
                    source: Some(policy_source(layer)),
                };
                met.push((limit, detail));
            }
        }
    }
    met
}
