//! What people are told outside of the product: what they choose, what became of it, tests.
//!
//! | input | output |
//! |---|---|
//! | `/me/notifications`, `/notifications`, `/notification-channels` | orders to `engine`, notes read from the store |
//! | notes that are due (`send`) | mails, calls of webhooks; what became of them, to `engine` |

mod send;

#[cfg(test)]
mod tests;

pub use send::keep_sending;

use super::admin::{DRY_RUN, Viewer};
use super::audit::origin;
use super::errors::{Failure, cut};
use super::extract::{self, Query};
use super::{App, json, page, person};
use crate::engine::{EngineError, Follow};
use crate::identity::Person;
use crate::outbound::check_url;
use crate::store::NoteFilter;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::response::Response;
use longshore_common::api::Page;
use longshore_common::ids::{SessionId, UserId};
use longshore_common::notify::{
    ChannelView, Channels, NoteEvent, NoteState, NoteView, NotifyRequest, NotifyRow, NotifyTest,
    NotifyTested, NotifyView,
};
use longshore_common::redact::Redaction;
use longshore_core::model::{
    self, Change, Channel, Event, NotifyChoice, NotifyOrder, StoredNote, events_of,
};
use ring::hmac;
use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;
use url::Url;

/// What telling people needs besides the state.
#[derive(Debug)]
pub struct Notifying {
    wake: Arc<Wake>,
    /// What became of notes and could not be stored yet: none of them is sent once more before.
    unstored: Mutex<Vec<model::Tried>>,
    key: hmac::Key,
}

/// Wakes who sends, once there is something.
#[derive(Debug, Default)]
pub struct Wake(Notify);

impl Follow for Wake {
    fn changed(&self, _: &model::State, changes: &[Change]) {
        if changes
            .iter()
            .any(|change| matches!(change, Change::Note(_)))
        {
            self.0.notify_one();
        }
    }
}

/// Hides what nobody is to read in what people are told, as where it is shown.
async fn hide(app: &App, notes: &mut [StoredNote]) -> Result<(), EngineError> {
    let asked: Vec<_> = notes.iter().map(|note| note.note.session).collect();
    let of_sessions = app.engine.read_when_room(move |state, _| {
        let names = |id: Option<SessionId>| {
            let session = state.sessions.get(&id?)?;
            let owner = state.users.get(&session.owner);
            let own = owner.map_or_else(Vec::new, |owner| owner.redaction_names.clone());
            Some((session.redact.clone(), own))
        };
        asked.into_iter().map(names).collect::<Vec<_>>()
    });
    let installation = app.engine.live.redaction.get();
    for (note, names) in notes.iter_mut().zip(of_sessions.await?) {
        let (session, own) = names.unwrap_or_default();
        let redaction = Redaction::new(&installation, &session, &own);
        note.note.text = redaction.text(&note.note.text).into_owned();
    }
    Ok(())
}

impl Notifying {
    fn take_unstored(&self) -> Vec<model::Tried> {
        std::mem::take(&mut *self.unstored.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn keep_unstored(&self, told: Vec<model::Tried>) {
        let mut unstored = self.unstored.lock().unwrap_or_else(PoisonError::into_inner);
        unstored.extend(told);
    }

    /// With a secret of this installation, and what the engine wakes.
    #[must_use]
    pub fn new(secret: &[u8; 32], wake: Arc<Wake>) -> Self {
        Self {
            wake,
            unstored: Mutex::default(),
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
        }
    }

    /// Signs calls of somebody's webhook. Worked out of the person and the address, so that it is
    /// stored nowhere, and one that got out is worth nothing at another address.
    fn secret_of(&self, user: UserId, url: &str) -> String {
        let text = format!("webhook\u{2}{user}\u{2}{url}");
        hex(hmac::sign(&self.key, text.as_bytes()).as_ref())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn view(app: &App, state: &model::State, user: UserId) -> Option<NotifyView> {
    let person = state.users.get(&user)?;
    let usual = NotifyChoice::usual(user);
    let choice = state.notify_choices.get(&user).unwrap_or(&usual);
    let row = |event: NoteEvent| NotifyRow {
        event: event.to_string(),
        about: event.about().to_owned(),
        mail: choice.mails(event),
        webhook: choice.calls(event),
    };
    Some(NotifyView {
        mail: state.notify.mail && !person.email.is_empty(),
        webhook_url: choice.url.clone(),
        signing_secret: choice
            .url
            .as_deref()
            .map(|url| app.notify.secret_of(user, url)),
        events: events_of(person).into_iter().map(row).collect(),
    })
}

async fn shown(app: &App, user: UserId) -> Result<Response, Failure> {
    let of = app.clone();
    let look = move |state: &model::State, _| view(&of, state, user);
    json(&app.engine.read(look).await?.ok_or_else(Failure::internal)?)
}

pub(super) async fn mine(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    Query::read(request.uri().query(), &[])?;
    shown(&app, caller.id).await
}

/// Names of events, or the first that is none.
fn events(
    names: Option<Vec<String>>,
    pointer: &str,
) -> Result<Option<BTreeSet<NoteEvent>>, Failure> {
    let read = |name: String| {
        NoteEvent::from_str(&name).map_err(|error| {
            let text = format!("{error}.");
            Failure::new("LS-INVALID", text.clone()).at(pointer, text)
        })
    };
    let all = names.map(|names| names.into_iter().map(read).collect());
    all.transpose()
}

/// What somebody else names must be an address that may be called by its form; whether it is let
/// through is judged at each call.
fn url(text: Option<String>) -> Result<Option<String>, Failure> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let wrong = |text: String| Failure::new("LS-INVALID", text.clone()).at("/webhook_url", text);
    let url = Url::parse(&text).map_err(|error| wrong(format!("webhook_url: {error}.")))?;
    check_url(&url).map_err(|error| wrong(format!("webhook_url: {error}.")))?;
    Ok(Some(url.into()))
}

pub(super) async fn choose(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let engine = app.engine.asked_by(origin(request.extensions())?);
    let dry_run = Query::read(request.uri().query(), &["dry_run"])?.flag("dry_run")?;
    let asked = extract::json::<NotifyRequest>(request).await?.value;
    let choice = NotifyChoice {
        user: caller.id,
        mail: events(asked.mail, "/mail")?,
        webhook: events(asked.webhook, "/webhook")?,
        url: url(asked.webhook_url)?,
    };
    let order = NotifyOrder::Choose { choice, dry_run };
    engine.ask(Event::Notify(Box::new(order))).await??;
    let mut response = shown(&app, caller.id).await?;
    if dry_run {
        let mark = HeaderValue::from_static("true");
        response.headers_mut().insert(DRY_RUN, mark);
    }
    Ok(response)
}

pub(super) async fn test(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let engine = app.engine.asked_by(origin(request.extensions())?);
    Query::read(request.uri().query(), &[])?;
    let asked = extract::json::<NotifyTest>(request).await?.value;
    if let Some(name) = &asked.channel {
        is_superadmin(&caller).then_some(()).ok_or_else(|| {
            let text = "Webhooks of the configuration are for superadmins.";
            Failure::new("LS-FORBIDDEN", text)
        })?;
        tracing::info!(channel = %cut(name), by = %caller.username, "a webhook is tried");
    }
    let order = NotifyOrder::Test {
        user: caller.id,
        hook: asked.channel,
    };
    let id = caller.id;
    let count = move |state: &model::State, _, answer: &Result<model::Answer, model::Refusal>| {
        answer.clone().map(|_| {
            let choice = state.notify_choices.get(&id);
            let user = state.users.get(&id);
            let mail = state.notify.mail && user.is_some_and(|user| !user.email.is_empty());
            let own = choice.is_some_and(|choice| choice.url.is_some());
            u32::from(mail) + u32::from(own)
        })
    };
    let named = matches!(&order, NotifyOrder::Test { hook: Some(_), .. });
    let own = engine
        .ask_then(Event::Notify(Box::new(order)), count)
        .await??;
    json(&NotifyTested {
        queued: if named { 1 } else { own },
    })
}

fn is_superadmin(caller: &Person) -> bool {
    Viewer::of(caller).is_superadmin()
}

fn note(state: &model::State, stored: StoredNote) -> NoteView {
    let StoredNote { note, .. } = &stored;
    let name = |user: &UserId| match state.users.get(user) {
        Some(user) => user.username.clone(),
        None => user.to_string(),
    };
    let (by, to) = match &note.to {
        Channel::Mail(user) => ("mail", name(user)),
        Channel::Own(user) => ("webhook", name(user)),
        Channel::Hook(hook) => ("webhook", hook.clone()),
    };
    NoteView {
        id: format!("n-{}", stored.id),
        at: note.at,
        event: note.event.to_string(),
        by: by.to_owned(),
        to,
        text: note.text.clone(),
        session: note.session.map(|id| id.to_string()),
        agent: note.agent.as_ref().map(|(_, name)| name.clone()),
        state: stored.state.to_string(),
        tries: stored.tries,
        next_at: stored.next_at,
        ended_at: stored.ended_at,
        error: stored.error,
    }
}

pub(super) async fn list(State(app): State<App>, request: Request) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    let query = Query::read(
        request.uri().query(),
        &["state", "scope", "limit", "cursor"],
    )?;
    let parameter = |text: String| Failure::new("LS-PARAMETER", text);
    let state = match query.one("state")? {
        None => None,
        Some(text) => {
            Some(NoteState::from_str(text).map_err(|error| parameter(format!("state: {error}.")))?)
        }
    };
    let user = match query.one("scope")?.unwrap_or("mine") {
        "mine" => Some(caller.id),
        "all" if is_superadmin(&caller) => None,
        "all" => {
            let text = "What others are told is for superadmins.";
            return Err(Failure::new("LS-FORBIDDEN", text));
        }
        _ => return Err(parameter("scope is mine or all.".to_owned())),
    };
    let below = app.cursors.place("notifications", &query)?;
    let limit = page::limit(&query)?;
    let filter = NoteFilter {
        user,
        state,
        below: below.and_then(|text| text.parse().ok()),
        limit: u32::try_from(limit + 1).unwrap_or(u32::MAX),
    };
    let mut found = app.reader.notes(filter).await?;
    hide(&app, &mut found).await?;
    let look = move |state: &model::State, _| {
        let shown = found
            .into_iter()
            .map(|one| (one.id.to_string(), note(state, one)));
        shown.collect::<Vec<_>>()
    };
    let shown = app.engine.read(look).await?.into_iter();
    let page: Page<NoteView> = app.cursors.cut("notifications", &query, shown)?;
    json(&page)
}

pub(super) async fn channels(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    Query::read(request.uri().query(), &[])?;
    let now = app.settings.now();
    let hooks = now.config.services.notify.webhooks.iter();
    let items = hooks.map(|hook| ChannelView {
        name: hook.name.clone(),
        host: Url::parse(&hook.url)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_default(),
        events: hook.events.iter().map(ToString::to_string).collect(),
        signed: hook.secret.is_some(),
    });
    json(&Channels {
        items: items.collect(),
    })
}
