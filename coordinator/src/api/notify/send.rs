//! Sends what people are told: reads the notes that are due, gives them to mail servers and
//! webhooks, and says what became of each.
//!
//! What goes to one place goes in its order, and after one that was not taken the rest waits with
//! it: a receiver that is away is not called for each of a hundred. Places do not wait for each
//! other, but for the slowest of one round.

use super::super::actions::signature;
use super::super::{App, GUARDED};
use super::hide;
use crate::config::Webhook;
use crate::engine::wall_clock;
use crate::mail::{Mail, Mailer};
use crate::outbound::{Call, NamedBy, OutboundError};
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use longshore_common::ids::UserId;
use longshore_common::time::Timestamp;
use longshore_core::model::{
    self, Channel, Event, Note, NotifyOrder, Role, StoredNote, Tried, TryEnd,
};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Places that are spoken with at a time.
const AT_A_TIME: usize = 8;
/// The longest sleep while nothing is due: a clock may step.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);
/// After a read or a change that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// How often old notes are removed.
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// What has ended is kept for so many days, for who asks what became of it.
const KEPT_DAYS: i64 = 14;
/// Notes that are kept at all: some hundred bytes each.
const KEPT: u32 = 50_000;
/// How often a mail or a call of a person's own webhook is tried again.
const RETRIES: u32 = 5;

const EVENT: HeaderName = HeaderName::from_static("longshore-event");
const DELIVERY: HeaderName = HeaderName::from_static("longshore-delivery");
const SIGNATURE: HeaderName = HeaderName::from_static("longshore-signature");

/// Sends until the coordinator stops.
pub async fn keep_sending(app: App, mut stopping: watch::Receiver<bool>) {
    let mut forget_at = Instant::now();
    loop {
        if Instant::now() >= forget_at {
            forget_at = Instant::now() + FORGET_EVERY;
            forget(&app).await;
        }
        let sleep = tokio::select! {
            sleep = round(&app) => sleep,
            _ = stopping.wait_for(|stop| *stop) => return,
        };
        tokio::select! {
            () = app.notify.wake.0.notified() => (),
            () = tokio::time::sleep(sleep) => (),
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

async fn forget(app: &App) {
    let order = NotifyOrder::Forget {
        ended_before: wall_clock().plus_s(-KEPT_DAYS * 86_400),
        keep: KEPT,
    };
    if let Err(error) = app.engine.tell(Event::Notify(Box::new(order))).await {
        tracing::warn!(%error, "old notes are not removed");
    }
}

/// Sends what is due; how long to sleep then.
async fn round(app: &App) -> Duration {
    match tried(app).await {
        Ok(true) => Duration::ZERO, // there may be more
        Ok(false) => match app.reader.next_note().await {
            Ok(None) => LONGEST_SLEEP,
            Ok(Some(at)) => {
                let ms = at.since(wall_clock()).max(0);
                Duration::from_millis(u64::try_from(ms).unwrap_or(0)).min(LONGEST_SLEEP)
            }
            Err(error) => {
                tracing::warn!(%error, "notes cannot be read");
                AFTER_FAILURE
            }
        },
        Err(error) => {
            tracing::warn!(%error, "what became of notes is not stored; they go once more");
            AFTER_FAILURE
        }
    }
}

/// Whether anything was due.
async fn tried(app: &App) -> Result<bool, anyhow::Error> {
    store(app, Vec::new()).await?;
    let mut due = app.reader.due_notes(wall_clock()).await?;
    hide(app, &mut due).await?;
    if due.is_empty() {
        return Ok(false);
    }
    let mut places: BTreeMap<Channel, Vec<StoredNote>> = BTreeMap::new();
    for note in due {
        places.entry(note.note.to.clone()).or_default().push(note);
    }
    let places = places.into_iter();
    let work = places.map(|(to, notes)| async move {
        let told = to_one(app, &to, &notes).await;
        store(app, told).await
    });
    let mut ended = stream::iter(work).buffer_unordered(AT_A_TIME);
    let mut failed = None;
    while let Some(stored) = ended.next().await {
        if let Err(error) = stored {
            failed = Some(error);
        }
    }
    match failed {
        Some(error) => Err(error),
        None => Ok(true),
    }
}

/// Stores what became of notes, with what could not be stored before: a disk that is full must
/// not have everybody told again and again.
async fn store(app: &App, mut told: Vec<Tried>) -> Result<(), anyhow::Error> {
    told.append(&mut app.notify.take_unstored());
    if told.is_empty() {
        return Ok(());
    }
    let order = NotifyOrder::Tried(told.clone());
    let stored = app.engine.ask(Event::Notify(Box::new(order))).await;
    stored.map(drop).map_err(|error| {
        app.notify.keep_unstored(told);
        error.into()
    })
}

/// Where notes to one place go.
enum Place {
    /// A mail to this address.
    Mail(Mailer, String),
    /// Calls.
    Hook(Box<Webhook>, NamedBy),
    /// Nowhere any more.
    Gone(&'static str),
}

async fn place(app: &App, to: &Channel) -> Result<Place, String> {
    if let Channel::Hook(name) = to {
        let now = app.settings.now();
        let hooks = &now.config.services.notify.webhooks;
        let hook = hooks.iter().find(|hook| hook.name == *name);
        let hook = hook.map(|hook| Place::Hook(Box::new(hook.clone()), NamedBy::Superadmin));
        return Ok(hook.unwrap_or(Place::Gone(
            "the configuration has no such webhook any more",
        )));
    }
    let Some(user) = to.user() else {
        return Ok(Place::Gone("it is for nobody"));
    };
    let mail = matches!(to, Channel::Mail(_));
    let found = app
        .engine
        .read_when_room(move |state, _| who(state, user, mail));
    let found = found.await.map_err(|error| error.to_string())?;
    Ok(match found {
        None => Place::Gone("the account is not active, or chose nothing any more"),
        Some((address, _)) if mail => Place::Mail(app.links.mailer(), address),
        Some((url, named_by)) => Place::Hook(
            Box::new(Webhook {
                name: user.to_string(),
                events: std::collections::BTreeSet::new(),
                secret: Some(crate::config::Hidden::new(
                    &app.notify.secret_of(user, &url),
                )),
                headers: BTreeMap::new(),
                timeout_s: 10,
                retries: RETRIES,
                url,
            }),
            named_by,
        ),
    })
}

/// The address of an active person, or of its webhook.
fn who(state: &model::State, user: UserId, mail: bool) -> Option<(String, NamedBy)> {
    let person = state.users.get(&user).filter(|user| user.is_active())?;
    if mail {
        let address = Some(person.email.clone()).filter(|address| !address.is_empty())?;
        return Some((address, NamedBy::User));
    }
    let named_by = match person.role == Role::Superadmin && person.service.is_none() {
        true => NamedBy::Superadmin,
        false => NamedBy::User,
    };
    let url = state.notify_choices.get(&user)?.url.clone()?;
    Some((url, named_by))
}

/// Sends the notes to one place, in their order.
async fn to_one(app: &App, to: &Channel, notes: &[StoredNote]) -> Vec<Tried> {
    let all = |retries, end: TryEnd| {
        let each = notes
            .iter()
            .map(|note| tried_as(note, retries, end.clone()));
        each.collect::<Vec<_>>()
    };
    match place(app, to).await {
        Err(why) => all(RETRIES, TryEnd::Not(why)),
        Ok(Place::Gone(why)) => all(RETRIES, TryEnd::Never(why.to_owned())),
        // One mail, however many there are: nobody reads sixteen.
        Ok(Place::Mail(mailer, address)) => {
            let settings = app.settings.now();
            let name = settings.config.services.organization.name.as_str();
            let mail = mail((&app.address(), name), &address, notes);
            let sent = mailer.deliver(mail).await;
            match sent {
                Ok(()) => all(RETRIES, TryEnd::Taken),
                Err(error) => all(RETRIES, TryEnd::Not(error.to_string())),
            }
        }
        Ok(Place::Hook(hook, named_by)) => {
            let mut told = Vec::with_capacity(notes.len());
            let mut down = false;
            for note in notes {
                let end = match down {
                    true => TryEnd::Behind,
                    false => called(app, &hook, named_by, note).await,
                };
                down |= matches!(end, TryEnd::Not(_));
                told.push(tried_as(note, hook.retries, end));
            }
            told
        }
    }
}

const fn tried_as(note: &StoredNote, retries: u32, end: TryEnd) -> Tried {
    Tried {
        id: note.id,
        before: note.tries,
        retries,
        end,
    }
}

fn mail((coordinator, name): (&str, &str), to: &str, notes: &[StoredNote]) -> Mail {
    let lines: Vec<String> = notes
        .iter()
        .map(|one| format!("{}  {}\n", one.note.at, one.note.text))
        .collect();
    let subject = match notes {
        [one] => first_words(&one.note),
        many => format!("{} things happened", many.len()),
    };
    Mail {
        to: to.to_owned(),
        subject: format!("[{name}] {subject}"),
        text: format!(
            "{}\n{coordinator}\n\nWhat you are told of is yours to choose: longshore notify set\n",
            lines.join("\n")
        ),
    }
}

/// A line for people who look at many.
fn first_words(note: &Note) -> String {
    let session = note.session.map(|id| id.to_string());
    let about = session.or_else(|| note.agent.as_ref().map(|(_, name)| name.clone()));
    match about {
        Some(about) => format!("{about}: {}", note.event.about()),
        None => note.event.about().to_owned(),
    }
}

/// One call.
async fn called(app: &App, hook: &Webhook, named_by: NamedBy, note: &StoredNote) -> TryEnd {
    let Some(call) = call(app, hook, named_by, note, wall_clock()) else {
        return TryEnd::Never("the address or a header is not valid".to_owned());
    };
    let patience = Duration::from_secs(u64::from(hook.timeout_s));
    let outbound = app.outbound.get();
    // On a task of its own: what a receiver answers ends one call and not the process.
    let answered = tokio::spawn(GUARDED.scope((), async move {
        let answered = tokio::time::timeout(patience, outbound.call(call)).await;
        answered.unwrap_or(Err(OutboundError::Time))
    }));
    match answered.await.unwrap_or(Err(OutboundError::Connection)) {
        Ok(answered) if (200..300).contains(&answered.status) => TryEnd::Taken,
        Ok(answered) => TryEnd::Not(format!("the answer was {}", answered.status)),
        Err(OutboundError::Refused) => TryEnd::Not(
            "the address is not allowed; daemon.egress.allow names those that are".to_owned(),
        ),
        Err(error) => TryEnd::Not(error.to_string()),
    }
}

fn call(
    app: &App,
    hook: &Webhook,
    named_by: NamedBy,
    stored: &StoredNote,
    now: Timestamp,
) -> Option<Call> {
    let StoredNote { id, note, .. } = stored;
    let body = json!({
        "id": format!("n-{id}"),
        "event": note.event,
        "at": note.at,
        "text": note.text,
        "session": note.session.map(|id| id.to_string()),
        "agent": note.agent.as_ref().map(|(id, name)| json!({ "id": id.to_string(), "name": name })),
        "coordinator": app.address(),
    });
    let body = body.to_string();
    let mut headers = HeaderMap::new();
    for (name, value) in &hook.headers {
        headers.insert(
            name.parse::<HeaderName>().ok()?,
            value.expose().parse().ok()?,
        );
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(EVENT, HeaderValue::from_static(note.event.as_str()));
    headers.insert(DELIVERY, format!("n-{id}").parse().ok()?);
    if let Some(secret) = &hook.secret {
        let signature = signature(secret.expose(), now.0 / 1000, &body);
        headers.insert(SIGNATURE, signature.parse().ok()?);
    }
    Some(Call {
        method: Method::POST,
        url: hook.url.parse::<Url>().ok()?,
        headers,
        body: Bytes::from(body),
        named_by,
        follow: false,
    })
}
