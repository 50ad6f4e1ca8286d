//! Administration: resource groups, policies, people, presets, pools and queues.
//!
//! Every write is one order to the engine; what it answers is what is shown. A rehearsal
//! (`dry_run=true`) takes the same way, and the engine changes nothing.
//!
//! | module | routes |
//! |---|---|
//! | `groups` | resource groups, who may use them, who waits in them |
//! | `policies` | keypair, user and project policies |
//! | `tenants` | domains, projects, people, keypairs |
//! | `rights` | groups of users, access rules, service accounts |
//! | `invitations` | who is asked to join |
//! | `accounts` | logins, passwords and second factors of others |
//! | `images` | the least that sessions of an image get |
//! | `presets` | amounts under a name, and which of them could start now |
//! | `config` | pools, profiles, allocation policies and queues |
//! | `quota` | what a person may use |
//! | `exports` | tables, and the audit of use |
//! | `vaults` | what sessions get besides, and what comes of all of it |
//! | `unclaimed` | containers that no order names |
//!
//! `verbs` is what the routes of most objects do.

pub(super) mod accounts;
pub(super) mod config;
pub(super) mod exports;
pub(super) mod groups;
pub(super) mod images;
pub(super) mod invitations;
pub(super) mod policies;
pub(super) mod presets;
pub(super) mod quota;
pub(super) mod rights;
pub(super) mod settings;
pub(super) mod tenants;
pub(super) mod unclaimed;
pub(super) mod vaults;
mod verbs;

#[cfg(test)]
mod tests;

use super::audit::origin;
use super::errors::Failure;
use super::extract::{self, Query};
use super::sessions::unexpected;
use super::{App, json, person};
use crate::engine::Origin;
use crate::identity::Person;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use longshore_common::admin::{Member, RehearsedDeletion};
use longshore_common::ids::{ProjectId, UserId};
use longshore_core::access::{self, Caller as Rights, Level, View};
use longshore_core::model::admin::{
    AdminAnswer, AdminObject, AdminOrder, AdminVerb, at_person, sees_invitation,
};
use longshore_core::model::{
    self, Answer, Called, Event, Group, Invitation, Role, Session, State, User, is_open_to,
};
use longshore_core::scheduler::limits::Requester;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// Marks the answer of a rehearsal.
pub(super) const DRY_RUN: HeaderName = HeaderName::from_static("longshore-dry-run");

/// A body that says nothing.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// Whether a write has to name the version of the object it was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Match {
    /// Yes.
    Required,
    /// It may.
    Optional,
}

/// A write as it came in.
#[derive(Debug)]
struct Write<T> {
    caller: Person,
    origin: Arc<Origin>,
    query: Query,
    dry_run: bool,
    version: Option<u64>,
    body: T,
}

/// Reads a write: parameters, body, version, in the order in which they are complained of.
async fn write<T: DeserializeOwned>(
    request: Request,
    known: &[&str],
    wants: Match,
) -> Result<Write<T>, Failure> {
    let caller = person(request.extensions())?;
    let origin = origin(request.extensions())?;
    let mut names = vec!["dry_run"];
    names.extend(known);
    let query = Query::read(request.uri().query(), &names)?;
    let dry_run = query.flag("dry_run")?;
    let version = if_match(request.headers(), wants);
    let body = extract::json::<T>(request).await?.value;
    Ok(Write {
        caller,
        origin,
        query,
        dry_run,
        version: version?,
        body,
    })
}

/// The version of If-Match; none = whatever it is.
pub(super) fn if_match(headers: &HeaderMap, wants: Match) -> Result<Option<u64>, Failure> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        if wants == Match::Optional {
            return Ok(None);
        }
        return Err(Failure::new(
            "LS-VERSION-MISSING",
            "This route needs the header If-Match.",
        )
        .hint("Send the ETag of the object as you read it, or If-Match: * to overwrite."));
    };
    let text = value.to_str().unwrap_or("").trim();
    if text == "*" {
        return Ok(None);
    }
    let number = text
        .strip_prefix('"')
        .and_then(|t| t.strip_suffix('"'))
        .and_then(|t| t.parse().ok());
    // A tag of another form is the tag of no version; 0 is one: that of an empty draft.
    Ok(Some(number.unwrap_or(u64::MAX)))
}

impl<T> Write<T> {
    /// Gives the order. `current` finds the object as it is, for one whose version is stale.
    async fn order(
        &self,
        app: &App,
        verb: AdminVerb,
        current: impl FnOnce(&State) -> Option<Value> + Send + 'static,
    ) -> Result<AdminAnswer, Failure> {
        let order = AdminOrder {
            caller: self.caller.caller.clone(),
            dry_run: self.dry_run,
            expected_version: self.version,
            verb,
        };
        let told = app
            .engine
            .asked_by(Arc::clone(&self.origin))
            .ask_then(Event::Admin(Box::new(order)), move |state, _, answer| {
                let object = match answer {
                    Err(refusal) if refusal.code == "LS-VERSION-STALE" => current(state),
                    _ => None,
                };
                (answer.clone(), object)
            })
            .await?;
        match told {
            (Ok(Answer::Admin(answer)), _) => Ok(*answer),
            (Ok(other), _) => Err(unexpected(&other)),
            (Err(refusal), object) => {
                let failure = Failure::from(refusal);
                Err(match object {
                    Some(object) => failure.current(object),
                    None => failure,
                })
            }
        }
    }

    /// The answer to a change: 200 with the whole object.
    fn changed(&self, answer: &AdminAnswer) -> Result<Response, Failure> {
        self.respond(StatusCode::OK, answer, None)
    }

    /// The answer to a creation: 201 with the whole object and where it is.
    fn created(&self, answer: &AdminAnswer, list: &str) -> Result<Response, Failure> {
        self.respond(StatusCode::CREATED, answer, Some(list))
    }

    /// The answer to a deletion: 204.
    fn gone(&self) -> Response {
        let mut response = StatusCode::NO_CONTENT.into_response();
        self.mark(&mut response);
        response
    }

    /// The same where others lose something by it: a rehearsal answers with the impact.
    fn deleted(&self, answer: &AdminAnswer) -> Result<Response, Failure> {
        let Some(impact) = &answer.impact else {
            return Ok(self.gone());
        };
        let told = RehearsedDeletion {
            impact: impact.clone(),
        };
        let value = value_of(&told).ok_or_else(Failure::internal)?;
        self.respond_value(StatusCode::OK, value, answer, None)
    }

    fn mark(&self, response: &mut Response) {
        if self.dry_run {
            response
                .headers_mut()
                .insert(DRY_RUN, HeaderValue::from_static("true"));
        }
    }

    fn respond(
        &self,
        status: StatusCode,
        answer: &AdminAnswer,
        list: Option<&str>,
    ) -> Result<Response, Failure> {
        let value = answer.object.value().ok_or_else(Failure::internal)?;
        self.respond_value(status, value, answer, list)
    }

    /// The same with an object that says more than the engine's.
    fn respond_value(
        &self,
        status: StatusCode,
        mut value: Value,
        answer: &AdminAnswer,
        list: Option<&str>,
    ) -> Result<Response, Failure> {
        if let (Some(impact), Some(members)) = (&answer.impact, value.as_object_mut()) {
            let impact = serde_json::to_value(impact).map_err(|_| Failure::internal())?;
            members.insert("impact".to_owned(), impact);
        }
        if let (Some(touched), Some(members)) = (&answer.touched, value.as_object_mut()) {
            let touched = serde_json::to_value(touched).map_err(|_| Failure::internal())?;
            members.insert("touched".to_owned(), touched);
        }
        let mut response = tagged(&value)?;
        *response.status_mut() = status;
        let id = ["id", "access_key", "name"]
            .iter()
            .find_map(|name| value.get(name)?.as_str());
        if let (Some(list), Some(id)) = (list.filter(|_| !self.dry_run), id)
            && let Ok(place) = HeaderValue::from_str(&format!("/api/v1/{list}/{id}"))
        {
            response.headers_mut().insert(header::LOCATION, place);
        }
        self.mark(&mut response);
        Ok(response)
    }
}

/// An object with its version as ETag, if it has one.
fn tagged(value: &Value) -> Result<Response, Failure> {
    let mut response = json(value)?;
    if let Some(version) = value.get("version").and_then(Value::as_u64)
        && let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\""))
    {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

/// Answers with an object that was looked up, or with 404.
fn shown<T: Serialize>(found: Option<T>, what: &str, text: &str) -> Result<Response, Failure> {
    let found = found.ok_or_else(|| missing(what, text))?;
    let value = serde_json::to_value(found).map_err(|_| Failure::internal())?;
    tagged(&value)
}

fn missing(what: &str, text: &str) -> Failure {
    Failure::new(
        "LS-NOT-FOUND",
        format!("There is no {what} {}.", super::errors::cut(text)),
    )
}

/// An object as JSON, for answers to a stale version.
fn value_of(view: &impl Serialize) -> Option<Value> {
    serde_json::to_value(view).ok()
}

/// Filters of a list: the same name twice means *or*, different ones mean *and*.
#[derive(Debug, Clone)]
struct Wanted(Vec<(String, String)>);

impl Wanted {
    fn new(query: &Query, names: &[&str]) -> Self {
        Self(
            names
                .iter()
                .flat_map(|name| {
                    query
                        .all(name)
                        .map(|value| ((*name).to_owned(), value.to_owned()))
                })
                .collect(),
        )
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    /// Whether one of the given texts is wanted, or nothing is said about it.
    fn takes(&self, name: &str, any_of: &[&str]) -> bool {
        let mut values = self.values(name).peekable();
        values.peek().is_none()
            || values.any(|value| any_of.iter().any(|text| text.eq_ignore_ascii_case(value)))
    }

    /// Whether the text holds one of the wanted ones, or nothing is said about it.
    fn finds(&self, name: &str, text: &str) -> bool {
        let text = text.to_lowercase();
        let mut values = self.values(name).peekable();
        values.peek().is_none() || values.any(|value| text.contains(&value.to_lowercase()))
    }
}

/// [`Query::only`] for lists that read their parameters themselves.
fn only(request: &Request, name: &str, words: &[&str]) -> Result<(), Failure> {
    Query::any(request.uri().query())?.only(name, words)
}

/// A list: read, filtered and cut into pages.
async fn list<T: Serialize + Send + 'static>(
    app: &App,
    request: Request,
    name: &str,
    filters: &[&str],
    look: impl FnOnce(&State, &Viewer, &Wanted) -> Vec<(String, T)> + Send + 'static,
) -> Result<Response, Failure> {
    let viewer = Viewer::of(&person(request.extensions())?);
    let mut known = vec!["limit", "cursor"];
    known.extend(filters);
    let query = Query::read(request.uri().query(), &known)?;
    let wanted = Wanted::new(&query, filters);
    let items = app
        .engine
        .read(move |state, _| {
            let mut items = look(state, &viewer, &wanted);
            items.sort_by(|a, b| a.0.cmp(&b.0));
            items
        })
        .await?;
    json(&app.cursors.page(name, &query, items)?)
}

/// Who looks, and what that person may see.
#[derive(Debug, Clone)]
pub(super) struct Viewer {
    user: UserId,
    access_key: String,
    /// Sees everything.
    all: bool,
    /// What the operation table goes by.
    rights: Rights,
    /// How it calls, as far as that narrows what it may do.
    called: Called,
}

impl Viewer {
    /// Whether it sees how the installation is built: who may only use it does not.
    pub(super) fn is_administrator(&self) -> bool {
        matches!(
            self.rights.role(),
            Role::Superadmin | Role::DomainAdmin | Role::Monitor
        )
    }

    /// Whether it administers the whole installation.
    pub(super) fn is_superadmin(&self) -> bool {
        self.rights.role() == Role::Superadmin
    }

    /// Whether it may know of a session, whatever the access rules say besides.
    pub(super) fn sees_session(&self, session: &Session) -> bool {
        let oversees = matches!(self.rights.role(), Role::DomainAdmin | Role::Monitor);
        self.all
            || session.owner == self.user
            || (oversees && self.rights.domain() == Some(session.domain))
    }

    pub(super) fn of(person: &Person) -> Self {
        Self {
            user: person.caller.user,
            access_key: person.caller.access_key.clone(),
            all: person.role == Role::Superadmin,
            rights: person.rights.clone(),
            called: person.called(),
        }
    }

    /// What it may do as of now, narrowed by how it calls; none where it may do nothing any
    /// more.
    fn rights_now(&self, state: &State) -> Option<Rights> {
        let caller = model::Caller {
            user: self.user,
            access_key: self.access_key.clone(),
        };
        state.rights_as(&caller, &self.called).ok()
    }

    /// The invitations that may be seen.
    fn invitations<'a>(&'a self, state: &'a State) -> impl Iterator<Item = &'a Invitation> + 'a {
        let all = state.invitations.values();
        let operation = access::Operation::InvitationRead;
        all.filter(move |link| sees_invitation(state, &self.rights, operation, link))
    }

    /// What of a person may be shown; nothing if it is not to be seen at all.
    fn view_of(&self, user: &User) -> Option<View> {
        match access::decide(access::Operation::UserRead, &self.rights, &at_person(user)) {
            access::Decision::Allowed(grant) => Some(grant.view),
            _ => None,
        }
    }

    /// Whether the keypairs of a person may be seen.
    fn sees_keypairs_of(&self, user: &User) -> bool {
        let operation = match user.id == self.user {
            true => access::Operation::MeKeypairs,
            false => access::Operation::KeypairRead,
        };
        let target = at_person(user).intent(access::Intent::Read);
        access::decide(operation, &self.rights, &target).is_allowed()
    }

    /// Whose things this person may see whole; none = everybody's.
    fn only_own(&self) -> Option<UserId> {
        (!self.all).then_some(self.user)
    }

    /// Whether this person sees a group: one of its projects or keypairs lets it in, and
    /// the access rules give at least reading.
    pub(super) fn may_use(&self, state: &State, group: &Group) -> bool {
        if self.all {
            return true;
        }
        let (Some(user), Some(rights)) = (state.users.get(&self.user), self.rights_now(state))
        else {
            return false;
        };
        // Who makes and deletes queues has to see them.
        if rights.in_queue_admins() {
            return true;
        }
        let object = State::group_object(group, self.is_let_in(state, user, group));
        state.rule_book().level(&rights, &object) >= Level::Ro
    }

    /// The same of a queue of an allocation policy.
    fn sees_queue(&self, state: &State, name: &str, admitted: bool) -> bool {
        let Some(rights) = self.rights_now(state) else {
            return false;
        };
        let level = State::queue_object(name, admitted)
            .map(|object| state.rule_book().level(&rights, &object));
        rights.in_queue_admins() || level.is_some_and(|level| level >= Level::Ro)
    }

    fn is_let_in(&self, state: &State, user: &User, group: &Group) -> bool {
        let with = |project: ProjectId| {
            let who = Requester {
                keypair: self.access_key.clone(),
                user: user.id,
                project,
                domain: user.domain,
            };
            is_open_to(state, group, &who)
        };
        match self.called.project {
            Some(project) => with(project),
            None => with(ProjectId::new(0)) || user.project_ids().any(with),
        }
    }
}

/// The text of a member that must be there.
fn required(member: &Member<String>, field: &str) -> Result<String, Failure> {
    match member {
        Member::Value(text) => Ok(text.trim().to_owned()),
        Member::Absent | Member::Null => {
            let text = format!("{field} is required.");
            Err(Failure::new("LS-INVALID", text.clone()).at(format!("/{field}"), text))
        }
        Member::Wrong(_) => Err(not_text(field)),
    }
}

/// The text of a member that may be there.
fn optional(member: &Member<String>, field: &str) -> Result<Option<String>, Failure> {
    match member {
        Member::Value(text) => Ok(Some(text.trim().to_owned())),
        Member::Absent | Member::Null => Ok(None),
        Member::Wrong(_) => Err(not_text(field)),
    }
}

fn not_text(field: &str) -> Failure {
    let text = format!("{field} must be text.");
    Failure::new("LS-INVALID", text.clone()).at(format!("/{field}"), text)
}

/// An answer of another kind than the order has.
fn other_kind(object: &AdminObject) -> Failure {
    tracing::error!(?object, "the engine answered with another kind of object");
    Failure::internal()
}
