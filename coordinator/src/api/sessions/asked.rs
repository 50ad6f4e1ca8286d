//! What all that is asked of one session have in common on their way to the engine.

use super::super::admin::{DRY_RUN, Match, if_match};
use super::super::audit::origin;
use super::super::errors::Failure;
use super::super::extract::Query;
use super::super::{App, person};
use super::show;
use crate::engine::Engine;
use crate::identity::Person;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::response::Response;
use longshore_common::ids::SessionId;
use longshore_core::model::{Answer, Ask, Event, Session};

/// Who asks, and on what terms.
pub(super) struct Asked {
    pub(super) caller: Person,
    pub(super) dry_run: bool,
    engine: Engine,
    version: Option<u64>,
}

impl Asked {
    pub(super) fn read(app: &App, request: &Request) -> Result<Self, Failure> {
        let query = Query::read(request.uri().query(), &["dry_run"])?;
        Ok(Self {
            caller: person(request.extensions())?,
            dry_run: query.flag("dry_run")?,
            engine: app.engine.asked_by(origin(request.extensions())?),
            version: if_match(request.headers(), Match::Optional)?,
        })
    }

    /// Asks the engine for `what` of a session, as the `event` of it.
    pub(super) async fn ask<W: Clone>(
        &self,
        app: &App,
        id: SessionId,
        what: W,
        event: fn(Box<Ask<W>>) -> Event,
    ) -> Result<Answer, Failure> {
        let order = |past: Option<Box<Session>>| {
            self.engine.ask(event(Box::new(Ask {
                caller: self.caller.caller.clone(),
                called: Some(self.caller.called()),
                session: id,
                past,
                version: self.version,
                dry_run: self.dry_run,
                what: what.clone(),
            })))
        };
        let mut told = order(None).await?;
        // Memory forgets what is over and done; the store remembers.
        if told.as_ref().is_err_and(|no| no.code == "LS-NOT-FOUND")
            && let Some(past) = app.reader.session(id).await?
        {
            told = order(Some(Box::new(past))).await?;
        }
        match told {
            Ok(answer) => Ok(answer),
            Err(refusal) if refusal.code == "LS-VERSION-STALE" => {
                let failure = Failure::from(refusal);
                let current = show(app, &self.caller, id).await?;
                let current = current.and_then(|shown| serde_json::to_value(shown).ok());
                Err(match current {
                    Some(current) => failure.current(current),
                    None => failure,
                })
            }
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Marks an answer as a rehearsal, if it is one.
    pub(super) fn mark(&self, mut response: Response) -> Response {
        if self.dry_run {
            let headers = response.headers_mut();
            headers.insert(DRY_RUN, HeaderValue::from_static("true"));
        }
        response
    }
}
