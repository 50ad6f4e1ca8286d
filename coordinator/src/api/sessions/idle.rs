//! What will stop a session, by the numbers that are judged.

use super::super::errors::Failure;
use super::super::extract::{Query, Ref};
use super::super::{App, json, person, views};
use super::{resolve, stored};
use axum::extract::{Request, State};
use axum::response::Response;
use longshore_common::api::{
    DrainReport, IdleMetric, IdleReport, InteractionCheck, LifetimeReport, UtilizationCheck,
};
use longshore_common::judge::Verdict;
use longshore_common::session::SessionState;
use longshore_common::time::Timestamp;
use longshore_common::wire::{CheckReport, UseReport};
use longshore_core::model::{self, Extensions, Session};
use std::sync::Arc;

/// The report of one session.
pub(in crate::api) async fn idle(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    Query::read(request.uri().query(), &[])?;
    let id = resolve(&app, &caller, &text).await?;
    let session = stored(&app, &caller, id).await?; // 404 when there is no such session
    let live = Arc::clone(&app.engine.live);
    let look = move |state: &model::State, now: Timestamp| {
        // Memory knows it at least as well as what was just read.
        let session = state.sessions.get(&id).unwrap_or(&session);
        let uses = session
            .present()
            .filter_map(|c| live.use_of(c.agent, c.key));
        // A session is idle when its last container is.
        let said = uses.max_by_key(|said| said.deadline);
        let idle = (
            views::idle_limit(session, &live),
            views::is_idle(session, &live),
        );
        report(state, session, said.as_ref(), idle, now)
    };
    json(&app.engine.read(look).await?)
}

/// Thousandths as a number between 0 and 1.
fn ratio(thousandths: u32) -> f64 {
    f64::from(thousandths) / 1000.0
}

fn remaining(at: Timestamp, now: Timestamp) -> i64 {
    Verdict::remaining_s(at.0, now.0)
}

fn interaction(check: CheckReport, now: Timestamp) -> InteractionCheck {
    InteractionCheck {
        deadline: check.deadline,
        remaining_s: check.deadline.map(|at| remaining(at, now)),
        last_activity_at: check.last_activity,
        connections: check.connections,
    }
}

fn utilization(said: &UseReport, check: CheckReport, now: Timestamp) -> UtilizationCheck {
    let metrics = said.metrics.iter().map(|figures| IdleMetric {
        metric: figures.metric.to_string(),
        mean_ratio: figures.mean_tenths.map(|tenths| ratio(tenths.min(1000))),
        threshold_ratio: ratio(figures.threshold.min(100) * 10),
        data_ratio: ratio(figures.share_of_data.min(100) * 10),
    });
    UtilizationCheck {
        deadline: check.deadline,
        remaining_s: check.deadline.map(|at| remaining(at, now)),
        metrics: metrics.collect(),
    }
}

fn report(
    state: &model::State,
    session: &Session,
    said: Option<&UseReport>,
    (deadline, warned): (Option<Timestamp>, bool),
    now: Timestamp,
) -> IdleReport {
    let goes_on = !session.state.is_final() && session.state != SessionState::Terminating;
    let runs = session.state == SessionState::Running;
    let said = said.filter(|_| runs);
    let rules = session.judged_idle().filter(|r| r.judges(session.kind));
    let rules = rules.filter(|_| goes_on);
    let kind = match (said, deadline) {
        (Some(said), _) if said.in_grace => "grace_period",
        (_, Some(_)) => "expire_after",
        _ => "none",
    };
    let lifetime = views::lifetime_limit(session, said).filter(|_| goes_on);
    let left = Extensions::of(state, &session.access_key).left(session);
    let drained = session.present().filter(|c| !c.is_over()).filter_map(|c| {
        let agent = state.agents.get(&c.agent)?;
        let drain = agent.drain.as_ref()?;
        Some((agent, drain, drain.deadline?))
    });
    let drained = drained.min_by_key(|(_, _, deadline)| *deadline);
    let kept = session.life.kept.map(|keep| keep.until());
    IdleReport {
        id: session.id.to_string(),
        kind: kind.to_owned(),
        deadline,
        remaining_s: deadline.map(|at| remaining(at, now)),
        decided_by: said.and_then(|s| s.decided_by).map(|c| c.to_string()),
        action: rules.map(|rules| rules.action.to_string()),
        warned,
        kept_until: kept.filter(|at| runs && *at > now),
        interaction: said
            .and_then(|s| s.interaction)
            .map(|c| interaction(c, now)),
        utilization: said.and_then(|s| Some(utilization(s, s.utilization?, now))),
        lifetime: lifetime.map(|at| LifetimeReport {
            deadline: at,
            remaining_s: remaining(at, now),
            extensions_used: session.life.extensions,
            extensions_left: left,
        }),
        drain: drained.map(|(agent, drain, deadline)| DrainReport {
            agent_name: agent.name.clone(),
            deadline,
            remaining_s: remaining(deadline, now),
            message: drain.message.clone(),
        }),
    }
}
