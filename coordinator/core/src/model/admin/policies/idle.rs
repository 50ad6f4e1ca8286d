//! Rules of idleness.

use super::super::super::policies::KeypairPolicy;
use super::super::super::submit::pointer;
use super::super::members::{Reader, put};
use super::keypair::IDLE_S;
use longshore_common::admin::{
    IdleRequest, IdleView, InteractionRequest, InteractionView, Member, UtilizationRequest,
    UtilizationView,
};
use longshore_common::limits::{
    Combine, IdleAction, IdlePolicy, KEEP_MAX, Metric, Operator, UtilizationPolicy,
};
use longshore_common::session::SessionType;
use serde::Deserialize as _;
use std::collections::BTreeMap;

/// Names of the thresholds, as policies write them.
const METRICS: [(&str, Metric); 4] = [
    ("cpu_pct", Metric::Cpu),
    ("mem_pct", Metric::Mem),
    ("gpu_pct", Metric::Gpu),
    ("gpu_mem_pct", Metric::GpuMem),
];

/// In a policy's rules: the time-out of the check for use by people is `idle_timeout_s`.
const AS_POLICY: u32 = 0;

/// Most keeps in a row that a policy may allow.
const KEEPS: i64 = 100;

/// Rules of idleness that say nothing of their own.
pub(super) fn default_idle() -> IdlePolicy {
    IdlePolicy {
        action: IdleAction::Stop,
        combine: Combine::All,
        initial_grace_s: 300,
        warn_s: vec![3600, 900, 300],
        interaction_timeout_s: Some(AS_POLICY),
        utilization: Some(default_utilization()),
        timeout_s: AS_POLICY,
        keep_max: KEEP_MAX,
    }
}

fn default_utilization() -> UtilizationPolicy {
    UtilizationPolicy {
        window_s: 900,
        operator: Operator::And,
        applies_to_batch: false,
        thresholds: vec![(Metric::Cpu, 5), (Metric::Gpu, 5)],
    }
}

/// The rules of idleness a session under a policy gets; none = it is never idle.
#[must_use]
pub fn idle_rules(policy: &KeypairPolicy) -> Option<IdlePolicy> {
    let timeout = policy.idle_timeout_s.filter(|s| *s > 0)?;
    let mut rules = policy.idle.clone().unwrap_or_else(default_idle);
    if rules.interaction_timeout_s == Some(AS_POLICY) {
        rules.interaction_timeout_s = u32::try_from(timeout).ok();
    }
    rules.timeout_s = u32::try_from(timeout).unwrap_or(u32::MAX);
    Some(rules)
}

/// Rules of idleness as a document gives them.
///
/// # Errors
/// The first member that is wrong, such as `idle.warn_s`, and what is wrong with it.
pub fn idle_from(members: &serde_json::Value) -> Result<IdlePolicy, (String, String)> {
    let wish = IdleRequest::deserialize(members);
    let wish = wish.map_err(|error| ("idle".to_owned(), error.to_string()))?;
    let mut rules = default_idle();
    let mut reader = Reader::default();
    reader.within("/idle", |reader| fill_idle(&mut rules, &wish, reader));
    match reader.done() {
        Ok(()) => Ok(rules),
        Err(refusal) => {
            let first = refusal.errors.into_iter().next();
            let (pointer, message) =
                first.map_or_else(Default::default, |wrong| (wrong.pointer, wrong.message));
            Err((pointer.trim_start_matches('/').replace('/', "."), message))
        }
    }
}

pub(super) fn idle_view(rules: &IdlePolicy) -> IdleView {
    let words = |batch: bool| {
        let types = [
            (SessionType::Interactive, true),
            (SessionType::Batch, batch),
        ];
        let judged = types.iter().filter(|(_, is)| *is);
        judged.map(|(kind, _)| kind.to_string()).collect()
    };
    IdleView {
        action: rules.action.to_string(),
        combine: rules.combine.to_string(),
        initial_grace_s: rules.initial_grace_s,
        warn_s: rules.warn_s.clone(),
        keep_max: rules.keep_max,
        interaction: InteractionView {
            enabled: rules.interaction_timeout_s.is_some(),
            timeout_s: rules.interaction_timeout_s.filter(|s| *s != AS_POLICY),
        },
        utilization: UtilizationView {
            enabled: rules.utilization.is_some(),
            window_s: rules.utilization.as_ref().map(|u| u.window_s),
            operator: rules.utilization.as_ref().map(|u| u.operator.to_string()),
            applies_to: rules
                .utilization
                .as_ref()
                .map_or_else(Vec::new, |u| words(u.applies_to_batch)),
            thresholds: rules
                .utilization
                .iter()
                .flat_map(|u| &u.thresholds)
                .map(|(metric, percent)| (metric_name(*metric).to_owned(), *percent))
                .collect(),
        },
    }
}

fn metric_name(metric: Metric) -> &'static str {
    METRICS
        .iter()
        .find(|(_, m)| *m == metric)
        .map_or("", |(name, _)| name)
}

pub(super) fn fill_idle(rules: &mut IdlePolicy, wish: &IdleRequest, r: &mut Reader) {
    let fresh = default_idle();
    put(
        &mut rules.action,
        r.word("action", &wish.action),
        fresh.action,
    );
    put(
        &mut rules.combine,
        r.word("combine", &wish.combine),
        fresh.combine,
    );
    let grace = r.whole("initial_grace_s", &wish.initial_grace_s, 0, IDLE_S);
    let grace = grace.map(|v| v.and_then(|s| u32::try_from(s).ok()));
    put(&mut rules.initial_grace_s, grace, fresh.initial_grace_s);
    if let Some(said) = r.list("warn_s", &wish.warn_s) {
        rules.warn_s = match said {
            None => fresh.warn_s,
            Some(leads) => {
                let good = leads.iter().filter(|s| (1..=IDLE_S).contains(*s));
                let mut good: Vec<u32> = good.filter_map(|s| u32::try_from(*s).ok()).collect();
                if good.len() < leads.len() || leads.len() > 16 {
                    let message =
                        format!("warn_s must be at most 16 whole numbers between 1 and {IDLE_S}.");
                    r.wrong("/warn_s", message);
                }
                good.sort_unstable_by(|a, b| b.cmp(a));
                good.dedup();
                good
            }
        };
    }
    let keeps = r.whole("keep_max", &wish.keep_max, 0, KEEPS);
    let keeps = keeps.map(|v| v.and_then(|n| u32::try_from(n).ok()));
    put(&mut rules.keep_max, keeps, fresh.keep_max);
    match r.object("interaction", &wish.interaction) {
        None => (),
        Some(None) => rules.interaction_timeout_s = fresh.interaction_timeout_s,
        Some(Some(wish)) => r.within("/interaction", |r| fill_interaction(rules, wish, r)),
    }
    match r.object("utilization", &wish.utilization) {
        None => (),
        Some(None) => rules.utilization = fresh.utilization,
        Some(Some(wish)) => r.within("/utilization", |r| fill_utilization(rules, wish, r)),
    }
}

fn fill_interaction(rules: &mut IdlePolicy, wish: &InteractionRequest, r: &mut Reader) {
    let timeout = r.whole("timeout_s", &wish.timeout_s, 1, IDLE_S);
    if let Some(said) = timeout {
        let seconds = said.and_then(|s| u32::try_from(s).ok());
        rules.interaction_timeout_s = Some(seconds.unwrap_or(AS_POLICY));
    }
    match r.flag("enabled", &wish.enabled) {
        Some(Some(false)) => rules.interaction_timeout_s = None,
        Some(_) => drop(rules.interaction_timeout_s.get_or_insert(AS_POLICY)),
        None => (),
    }
}

fn fill_utilization(rules: &mut IdlePolicy, wish: &UtilizationRequest, r: &mut Reader) {
    let fresh = default_utilization();
    let mut check = rules.utilization.clone().unwrap_or_else(|| fresh.clone());
    let window = r.whole("window_s", &wish.window_s, 1, IDLE_S);
    let window = window.map(|v| v.and_then(|s| u32::try_from(s).ok()));
    put(&mut check.window_s, window, fresh.window_s);
    put(
        &mut check.operator,
        r.word("operator", &wish.operator),
        fresh.operator,
    );
    match r.list("applies_to", &wish.applies_to) {
        None => (),
        Some(None) => check.applies_to_batch = fresh.applies_to_batch,
        Some(Some(types)) => {
            let batch = types.iter().any(|t| t == SessionType::Batch.as_str());
            let good = types.iter().any(|t| t == SessionType::Interactive.as_str())
                && types.len() == 1 + usize::from(batch);
            if !good {
                r.wrong(
                    "/applies_to",
                    "applies_to must be interactive, or interactive and batch.",
                );
            }
            check.applies_to_batch = batch;
        }
    }
    match r.object("thresholds", &wish.thresholds) {
        None => (),
        Some(None) => check.thresholds = fresh.thresholds,
        Some(Some(given)) => r.within("/thresholds", |r| fill_thresholds(&mut check, given, r)),
    }
    let enabled = r.flag("enabled", &wish.enabled);
    let was = rules.utilization.is_some();
    // Whoever describes a check that was off and does not switch it on only describes it.
    rules.utilization = match enabled {
        Some(Some(false)) => None,
        Some(_) => Some(check),
        None => was.then_some(check),
    };
}

fn fill_thresholds(
    check: &mut UtilizationPolicy,
    given: &BTreeMap<String, Member<i64>>,
    r: &mut Reader,
) {
    for (name, percent) in given {
        let Some((_, metric)) = METRICS.iter().find(|(known, _)| known == name) else {
            let at = pointer("", name);
            let known = METRICS.map(|(known, _)| known).join(", ");
            r.wrong(&at, format!("A threshold is one of {known}."));
            continue;
        };
        let Some(said) = r.whole(name, percent, 0, 100) else {
            continue;
        };
        check.thresholds.retain(|(known, _)| known != metric);
        if let Some(percent) = said.and_then(|p| u32::try_from(p).ok()) {
            check.thresholds.push((*metric, percent));
        }
    }
    check.thresholds.sort_unstable();
}
