//! Looks at what agents say of the idleness of sessions of several containers, and hands it to
//! the core, which judges them together.
//!
//! Warnings are remembered here alone: after a start of the coordinator a session is warned anew
//! before it is stopped.

use crate::engine::{Engine, EngineError};
use crate::live::Live;
use longshore_common::ids::{Attempt, SessionId};
use longshore_common::time::Timestamp;
use longshore_core::model::{
    ClusterIdleVerdict, Event, IdleSaid, Session, State, cluster_idle, judged_together,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::warn;

/// As often as agents take samples.
const EVERY: Duration = Duration::from_secs(5);

/// When which attempt was warned.
pub(crate) type Told = HashMap<(SessionId, Attempt), Timestamp>;

/// Runs until the coordinator stops.
pub async fn keep(engine: Engine, mut stopping: watch::Receiver<bool>) {
    let mut told = Told::new();
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => (),
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
        if let Err(EngineError::Stopped) = look(&engine, &mut told).await {
            return;
        }
    }
}

/// What is said of each container that has something to do.
fn said(live: &Live, session: &Session) -> Vec<Option<IdleSaid>> {
    let present = session.unfinished().map(|container| {
        let (agent, key) = (container.agent, container.key);
        let said = live.idle(agent, key)?;
        Some(IdleSaid {
            deadline: said.deadline.filter(|_| !said.frozen)?,
            near: said.idle,
            check: live.use_of(agent, key).and_then(|said| said.decided_by),
        })
    });
    present.collect()
}

/// One look at all of them.
pub(crate) async fn look(engine: &Engine, told: &mut Told) -> Result<(), EngineError> {
    let (live, known) = (Arc::clone(&engine.live), told.clone());
    let looked = engine.read_when_room(move |state: &State, now: Timestamp| {
        let mut there = Told::new();
        let mut found = Vec::new();
        for session in judged_together(state) {
            let of = (session.id, session.attempt);
            let told = known.get(&of).copied();
            there.extend(told.map(|at| (of, at)));
            let verdict = cluster_idle(session, &said(&live, session), told, now);
            found.extend(verdict.map(|verdict| (of, verdict)));
        }
        (there, found, now)
    });
    let (there, found, now) = looked.await?;
    *told = there;
    for (of, verdict) in found {
        let event = Event::ClusterIdle {
            session: of.0,
            attempt: of.1,
            verdict,
        };
        match engine.ask(event).await {
            Ok(Ok(_)) => (),
            Ok(Err(refusal)) => {
                warn!(session = %of.0, detail = %refusal.detail, "idle");
                continue;
            }
            Err(EngineError::Stopped) => return Err(EngineError::Stopped),
            // The others are not to suffer for this one; the next look comes.
            Err(error) => {
                warn!(session = %of.0, %error, "idle");
                continue;
            }
        }
        match verdict {
            ClusterIdleVerdict::Warn(_) => drop(told.insert(of, now)),
            ClusterIdleVerdict::Used | ClusterIdleVerdict::Stop(_) => drop(told.remove(&of)),
        }
    }
    Ok(())
}
