//! More time for a session: `extend` and `keep`.

use super::super::admin::{DRY_RUN, Match, if_match};
use super::super::audit::origin;
use super::super::errors::Failure;
use super::super::extract::{self, Query, Ref};
use super::super::{App, json, person};
use super::{etag, resolve, show, unexpected};
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use longshore_common::api::{self, ExtendRequest, KeepRequest};
use longshore_common::ids::SessionId;
use longshore_common::time::Timestamp;
use longshore_core::model::{Answer, Done, Event, More, Prolong, Prolonged, Session};

/// The life of a session ends later.
pub(in crate::api) async fn extend(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let asked = Asked::read(&app, &request)?;
    let order = extract::json::<ExtendRequest>(request).await?.value;
    let what = match (order.by_s, order.until) {
        (Some(_), Some(_)) => {
            let text = "A life ends so much later, or at an instant: not both.";
            return Err(Failure::new("LS-INVALID", text).at("/until", "Not together with by_s."));
        }
        (_, Some(at)) => More::Until(at),
        (by_s, None) => More::By(by_s),
    };
    let id = resolve(&app, &asked.caller, &text).await?;
    let told = asked.ask(&app, id, what).await?;
    let Done::Extended {
        by_s,
        step_s,
        total_left_s,
    } = told.done
    else {
        return Err(Failure::internal());
    };
    let session = &told.session;
    let shown = api::Extended {
        id: session.id.to_string(),
        version: session.version,
        by_s,
        lifetime_deadline: session.lifetime_deadline(),
        extensions_used: session.life.extensions,
        extensions_left: told.left,
        extension_max_s: step_s,
        total_left_s,
    };
    asked.answer(session, json(&shown)?)
}

/// A session that nobody uses is not stopped for a while.
pub(in crate::api) async fn keep(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let asked = Asked::read(&app, &request)?;
    extract::json::<KeepRequest>(request).await?;
    let id = resolve(&app, &asked.caller, &text).await?;
    let used_at = used_at(&app, id).await?;
    let told = asked.ask(&app, id, More::Keep(used_at)).await?;
    let Done::Kept(kept_until) = told.done else {
        return Err(Failure::internal());
    };
    let session = &told.session;
    let shown = api::Kept {
        id: session.id.to_string(),
        version: session.version,
        kept_until,
        keeps_used: session.life.kept.map_or(0, |keep| keep.in_a_row),
        keeps_left: told.left,
    };
    asked.answer(session, json(&shown)?)
}

/// When the use of a session was last measured, by what its agents said.
async fn used_at(app: &App, id: SessionId) -> Result<Option<Timestamp>, Failure> {
    let containers = app.engine.read(move |state, _| {
        let session = state.sessions.get(&id);
        let present = session.into_iter().flat_map(Session::present);
        present.map(|c| (c.agent, c.key)).collect::<Vec<_>>()
    });
    let said = containers.await?.into_iter();
    let said = said.filter_map(|(agent, key)| app.engine.live.idle(agent, key)?.used_at);
    Ok(said.max())
}

/// What both have in common.
struct Asked {
    caller: crate::identity::Person,
    engine: crate::engine::Engine,
    version: Option<u64>,
    dry_run: bool,
}

impl Asked {
    fn read(app: &App, request: &Request) -> Result<Self, Failure> {
        let caller = person(request.extensions())?;
        let engine = app.engine.asked_by(origin(request.extensions())?);
        let query = Query::read(request.uri().query(), &["dry_run"])?;
        let dry_run = query.flag("dry_run")?;
        let version = if_match(request.headers(), Match::Optional)?;
        Ok(Self {
            caller,
            engine,
            version,
            dry_run,
        })
    }

    async fn ask(&self, app: &App, id: SessionId, what: More) -> Result<Prolonged, Failure> {
        let order = |past: Option<Box<Session>>| {
            let order = Prolong {
                caller: self.caller.caller.clone(),
                called: Some(self.caller.called()),
                session: id,
                past,
                version: self.version,
                dry_run: self.dry_run,
                what,
            };
            self.engine.ask(Event::Prolong(Box::new(order)))
        };
        let mut told = order(None).await?;
        // Memory forgets what is over and done; the store remembers.
        if told.as_ref().is_err_and(|no| no.code == "LS-NOT-FOUND")
            && let Some(past) = app.reader.session(id).await?
        {
            told = order(Some(Box::new(past))).await?;
        }
        match told {
            Ok(Answer::Prolonged(told)) => Ok(*told),
            Ok(other) => Err(unexpected(&other)),
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

    fn answer(&self, session: &Session, mut response: Response) -> Result<Response, Failure> {
        let headers = response.headers_mut();
        headers.insert(header::ETAG, etag(session.version));
        if self.dry_run {
            headers.insert(DRY_RUN, HeaderValue::from_static("true"));
        }
        Ok(response)
    }
}
