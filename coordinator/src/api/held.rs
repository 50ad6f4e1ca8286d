//! Answers that take long: held ones and streams end soon after the right to them is lost.
//!
//! What a stream rests on is looked at every few seconds: the credential it was opened with,
//! the operation of its route, and the session it shows. The last costs a question to the
//! engine and is asked only after somebody's rights became other ones.

use super::errors::Failure;
use super::operations::Operation;
use super::{App, again, sessions};
use crate::identity::Person;
use axum::body::{Body, HttpBody as _};
use axum::http::{Extensions, StatusCode};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use longshore_common::ids::SessionId;
use longshore_core::access;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// How often it is looked whether the caller still may: what is lost ends within 5 s. Tests
/// have no time for that.
const AGAIN: Duration = match cfg!(test) {
    true => Duration::from_millis(50),
    false => Duration::from_secs(4),
};

/// Looks that were made: tests wait for them.
#[cfg(test)]
pub(super) static LOOKS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

/// What an answer shows, said by its handler once that is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Shows(Arc<OnceLock<(SessionId, access::Operation)>>);

impl Shows {
    /// Known from the beginning.
    pub(super) fn of(session: SessionId, right: access::Operation) -> Self {
        let shows = Self::default();
        let _ = shows.0.set((session, right)); // it is new
        shows
    }
}

/// Says that the answer to a request rests on a right on this session.
pub(super) fn shows(request: &Extensions, session: SessionId, right: access::Operation) {
    if let Some(shows) = request.get::<Shows>() {
        let _ = shows.0.set((session, right)); // an answer shows one
    }
}

/// What the caller of a request was let in by.
#[derive(Debug, Clone)]
pub(super) struct LetIn {
    operation: &'static Operation,
    person: Person,
    /// That of the rights that were looked at.
    generation: u64,
}

impl LetIn {
    pub(super) fn new(operation: &'static Operation, person: &Person, generation: u64) -> Self {
        Self {
            operation,
            person: person.clone(),
            generation,
        }
    }

    /// The same caller, if it would be let in now.
    pub(super) fn again(&self, app: &App) -> Result<Person, Failure> {
        again(app, self.operation, &self.person)
    }
}

/// What an open answer, or a connection that goes on behind it, rests on.
pub(super) struct Rests {
    app: App,
    let_in: LetIn,
    shows: Shows,
    looks: Interval,
}

/// That of a request, after its handler has said what it shows.
pub(super) fn standing(app: &App, request: &Extensions) -> Option<Rests> {
    let (let_in, shows) = (request.get::<LetIn>()?, request.get::<Shows>()?);
    Some(Rests::new(app, let_in.clone(), shows.clone()))
}

impl Rests {
    pub(super) fn new(app: &App, let_in: LetIn, shows: Shows) -> Self {
        let mut looks = interval_at(Instant::now() + AGAIN, AGAIN);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            app: app.clone(),
            let_in,
            shows,
            looks,
        }
    }

    /// Returns once it does not stand any more.
    pub(super) async fn lost(&mut self) -> Failure {
        loop {
            self.looks.tick().await;
            if let Err(lost) = self.stand().await {
                return lost;
            }
        }
    }

    /// Whether a request like this one would be let in now.
    async fn stand(&mut self) -> Result<(), Failure> {
        #[cfg(test)]
        LOOKS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let generation = self.app.identity.generation();
        let LetIn {
            operation, person, ..
        } = &self.let_in;
        let person = again(&self.app, operation, person)?;
        if generation == self.let_in.generation {
            return Ok(()); // as nearly always
        }
        match self.shows.0.get() {
            Some((session, right)) => {
                match sessions::allowed(&self.app, &person, *session, *right).await {
                    Ok(_) => (),
                    // Nothing was lost but time: asked again at the next look.
                    Err(failure) if failure.status() >= 500 => return Ok(()),
                    Err(failure) => return Err(failure),
                }
            }
            None if is_narrower(&self.let_in.person.rights, &person.rights) => {
                let text = "The rights this answer rested on have changed.";
                return Err(Failure::new("LS-FORBIDDEN", text));
            }
            None => (),
        }
        self.let_in.generation = generation;
        Ok(())
    }
}

/// Whether somebody may see less than before, or something else.
fn is_narrower(before: &access::Caller, now: &access::Caller) -> bool {
    before.role() != now.role()
        || before.domain() != now.domain()
        || (before.in_admins() && !now.in_admins())
        || (before.in_queue_admins() && !now.in_queue_admins())
}

/// Answers as long as the caller may ask at all.
pub(super) async fn while_allowed(
    app: &App,
    let_in: LetIn,
    shows: Shows,
    work: impl Future<Output = Response>,
) -> Response {
    let mut rests = Rests::new(app, let_in, shows);
    let response = tokio::select! {
        response = work => response,
        lost = rests.lost() => return lost.into_response(),
    };
    let whole = response.body().size_hint().exact().is_some();
    if whole || response.status() != StatusCode::OK {
        return response;
    }
    response.map(|body| stream_while_allowed(rests, body))
}

/// A body that breaks off once its reader may not have it any more: with an error, so that
/// nobody takes what came for the whole.
pub(super) fn stream_while_allowed(rests: Rests, body: Body) -> Body {
    let start = Some((rests, body.into_data_stream()));
    let pieces = stream::unfold(start, |open| async move {
        let (mut rests, mut pieces) = open?;
        loop {
            tokio::select! {
                biased;
                // First, so that a stream that never pauses is looked at too; and a look that
                // has begun is not given up for the next piece.
                _ = rests.looks.tick() => if let Err(lost) = rests.stand().await {
                    let error = std::io::Error::other(lost.detail);
                    return Some((Err(axum::Error::new(error)), None));
                },
                piece = pieces.next() => return Some((piece?, Some((rests, pieces)))),
            }
        }
    });
    Body::from_stream(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_common::ids::{DomainId, UserGroupId, UserId};
    use longshore_core::access::{Caller, Role, UserFacts};
    use longshore_core::model::BUILTIN;

    fn rights(role: Role, domain: u128, groups: &[UserGroupId]) -> Caller {
        let facts = UserFacts {
            id: UserId::new(1),
            role,
            domain: DomainId::new(domain),
            active: true,
            projects: [].into(),
            groups: groups.iter().copied().collect(),
        };
        Caller::user(facts, &BUILTIN)
    }

    #[test]
    fn an_answer_about_no_session_rests_on_role_domain_and_offices() {
        let plain = rights(Role::User, 1, &[]);
        let office = rights(Role::User, 1, &[BUILTIN.admins]);
        let admin = rights(Role::DomainAdmin, 1, &[]);
        assert!(!is_narrower(&plain, &plain) && !is_narrower(&plain, &office));
        assert!(is_narrower(&office, &plain) && is_narrower(&admin, &plain));
        assert!(is_narrower(&plain, &rights(Role::User, 2, &[])));
    }
}
