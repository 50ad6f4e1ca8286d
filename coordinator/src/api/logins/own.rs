//! `/me`: who one is, what one may, password, logins.

use super::super::audit::origin;
use super::super::errors::Failure;
use super::super::extract::{self, Query, Ref};
use super::super::sessions::unexpected;
use super::super::{App, json, json_text, person};
use super::{hash_of, prefix, throttled};
use crate::engine::{Engine, wall_clock};
use crate::identity::{Person, Via};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use longshore_common::admin::Member;
use longshore_common::api::{Me, Page};
use longshore_common::ids::LoginId;
use longshore_common::logins::{LoginView, MePatch, NameId, PasswordChange, Right, Rights};
use longshore_core::access::rights;
use longshore_core::model::logins::{FIXED_PASSWORD, LoginEvent, OwnOrder, OwnVerb, notices};
use longshore_core::model::{Answer, BUILTIN, Event, State as Model, User};
use longshore_identity::fields::{self, messages::PASSWORD_SAME, nfc};
use longshore_identity::throttle::{NameKey, Prefix};
use longshore_identity::{Secret, password};

/// Marks the answer of a rehearsal.
pub(super) const DRY_RUN: HeaderName = HeaderName::from_static("longshore-dry-run");

/// Somebody as they see themselves. Without a keypair the main one is shown.
pub(super) fn view(state: &Model, user: &User, access_key: Option<&str>) -> Me {
    let main = state.main_keypair(user.id).map(|k| k.access_key.as_str());
    let domain = state.domains.get(&user.domain);
    let named = |id: String, name: &str| NameId {
        id,
        name: name.to_owned(),
    };
    let projects = user.project_ids().filter_map(|id| state.projects.get(&id));
    let everybody = state.user_groups.get(&BUILTIN.users);
    let groups = everybody.into_iter().chain(state.groups_of(user.id));
    Me {
        id: user.printed_id(),
        username: user.username.clone(),
        email: user.email.clone(),
        role: user.rank().as_str().to_owned(),
        access_key: access_key.or(main).unwrap_or_default().to_owned(),
        full_name: user.full_name.clone(),
        description: user.description.clone(),
        redaction_names: user.redaction_names.clone(),
        domain: user.domain.to_string(),
        domain_name: domain.map_or_else(String::new, |domain| domain.name.clone()),
        projects: projects.map(|p| named(p.id.to_string(), &p.name)).collect(),
        groups: groups.map(|g| named(g.id.to_string(), &g.name)).collect(),
        has_password: user.password.is_some() || state.is_fixed(user.id),
        totp_enabled: user.second_factor().is_some(),
        last_login_at: user.last_login.as_ref().map(|(at, _)| *at),
        last_login_via: user.last_login.as_ref().map(|(_, via)| via.clone()),
        notices: notices(user),
    }
}

async fn shown(app: &App, caller: &Person) -> Result<Response, Failure> {
    let id = caller.id;
    let key = match &caller.via {
        Via::Keypair { .. } => Some(caller.caller.access_key.as_str()),
        Via::Login(_) => None,
    };
    // Before the state is read: what changes meanwhile has another number.
    let edition = app.identity.edition();
    if let Some(body) = app.identity.shown(id, key, edition) {
        return Ok(json_text(body));
    }
    let with = key.map(str::to_owned);
    let me = app
        .engine
        .read(move |state, _| {
            let user = state.users.get(&id)?;
            Some(view(state, user, with.as_deref()))
        })
        .await?;
    let me = me.ok_or_else(Failure::internal)?;
    let body = serde_json::to_vec(&me).map_err(|_| Failure::internal())?;
    let body = Bytes::from(body);
    app.identity.keep_shown(id, key, edition, body.clone());
    Ok(json_text(body))
}

pub(in super::super) async fn read(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    Query::read(request.uri().query(), &[])?;
    shown(&app, &caller).await
}

pub(in super::super) async fn my_rights(request: Request) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    Query::read(request.uri().query(), &[])?;
    let all = rights(&caller.rights).into_iter();
    let right = |(operation, reach): (longshore_core::access::Operation, _)| Right {
        operation: operation.to_string(),
        reach: longshore_core::access::Reach::to_string(&reach),
    };
    json(&Rights {
        rights: all.map(right).collect(),
    })
}

/// A change of one's own, as it came in.
pub(super) struct Own {
    caller: Person,
    engine: Engine,
    dry_run: bool,
    prefix: Prefix,
}

impl Own {
    pub(super) fn read(app: &App, request: &Request, rehearsed: bool) -> Result<Self, Failure> {
        let caller = person(request.extensions())?;
        if caller.is_service {
            let text = "A service account has no login and no password.";
            return Err(Failure::new("LS-FORBIDDEN", text));
        }
        let engine = app.engine.asked_by(origin(request.extensions())?);
        let known: &[&str] = if rehearsed { &["dry_run"] } else { &[] };
        let query = Query::read(request.uri().query(), known)?;
        Ok(Self {
            caller,
            engine,
            dry_run: rehearsed && query.flag("dry_run")?,
            prefix: prefix(request),
        })
    }

    pub(super) const fn is_rehearsal(&self) -> bool {
        self.dry_run
    }

    pub(super) fn caller(&self) -> &Person {
        &self.caller
    }

    /// Gives the order.
    pub(super) async fn order(&self, verb: OwnVerb) -> Result<(), Failure> {
        let login = match &self.caller.via {
            Via::Login(login) => Some(*login),
            Via::Keypair { .. } => None,
        };
        let order = OwnOrder {
            caller: self.caller.caller.clone(),
            login,
            dry_run: self.dry_run,
            at: wall_clock(),
            verb,
        };
        let event = Event::Login(Box::new(LoginEvent::Own(order)));
        match self.engine.ask(event).await? {
            Ok(Answer::Done) => Ok(()),
            Ok(other) => Err(unexpected(&other)),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// Compares the password that proves who it is. A wrong one counts like a failed login.
    /// Gives the stored hash it was compared with.
    pub(super) async fn prove(
        &self,
        app: &App,
        given: Option<&str>,
        pointer: &str,
    ) -> Result<Option<String>, Failure> {
        let permit = app.logins.permit().await?;
        let (id, prefix, at) = (self.caller.id, self.prefix, wall_clock());
        let (may, stored) = self
            .engine
            .read(move |state, _| {
                let user = state.users.get(&id);
                let name = NameKey::of(user.map_or("", |user| &user.username));
                let may = state.throttle.try_login(name, prefix, at);
                let stored = match state.is_fixed(id) {
                    true => Some(FIXED_PASSWORD.to_owned()),
                    false => user.and_then(hash_of),
                };
                (may, stored)
            })
            .await?;
        if let Err(refused) = may {
            return Err(throttled(refused.retry_after_s));
        }
        let Some(stored) = stored else {
            return match given {
                None => Ok(None),
                Some(_) => {
                    let text = "No password is set yet.";
                    Err(Failure::new("LS-INVALID", text).at(pointer, text))
                }
            };
        };
        let Some(given) = given else {
            let text = "The present password is required.";
            return Err(Failure::new("LS-INVALID", text).at(pointer, text));
        };
        let given = Secret::new(given.to_owned());
        let right = match app.logins.fixed.get() {
            Some(fixed) if stored == FIXED_PASSWORD => {
                permit.fixed(given, fixed.of(Some(id))).await?
            }
            _ => permit.compare(given, Some(stored.clone())).await?.0,
        };
        if right {
            return Ok(Some(stored));
        }
        self.order(OwnVerb::WrongPassword(self.prefix)).await?;
        Err(Failure::new("LS-REAUTH", "The present password is wrong."))
    }

    /// Whether the password can be another one at all. Asked before the present one is
    /// compared: of what stands in the configuration nothing could follow.
    async fn may_have_another(&self) -> Result<(), Failure> {
        let id = self.caller.id;
        if !self.engine.read(move |state, _| state.is_fixed(id)).await? {
            return Ok(());
        }
        let name = &self.caller.username;
        Err(Failure::new(
            "LS-FIXED-USER",
            format!("{name} stands in the configuration; its password is changed there."),
        ))
    }

    /// Marks the answer of a rehearsal.
    pub(super) fn mark(&self, mut response: Response) -> Response {
        if self.dry_run {
            let headers = response.headers_mut();
            headers.insert(DRY_RUN, HeaderValue::from_static("true"));
        }
        response
    }

    fn nothing(&self) -> Response {
        self.mark(StatusCode::NO_CONTENT.into_response())
    }
}

/// An order without a body.
pub(super) async fn order(
    app: &App,
    request: Request,
    rehearsed: bool,
    verb: impl FnOnce(&Own) -> OwnVerb,
) -> Result<Response, Failure> {
    let own = Own::read(app, &request, rehearsed)?;
    extract::json::<super::super::admin::Nothing>(request).await?;
    own.order(verb(&own)).await?;
    Ok(own.nothing())
}

/// What a member says about a text: nothing, or what it is to be.
fn text(member: Member<String>, field: &str) -> Result<Option<String>, Failure> {
    match member {
        Member::Absent => Ok(None),
        Member::Null => Ok(Some(String::new())),
        Member::Value(text) => Ok(Some(text)),
        Member::Wrong(_) => {
            let text = format!("{field} must be text.");
            Err(Failure::new("LS-INVALID", text.clone()).at(format!("/{field}"), text))
        }
    }
}

pub(in super::super) async fn update(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let own = Own::read(&app, &request, true)?;
    let body = extract::json::<MePatch>(request).await?.value;
    let verb = OwnVerb::Profile {
        full_name: text(body.full_name, "full_name")?,
        description: text(body.description, "description")?,
        redaction_names: body.redaction_names,
    };
    own.order(verb).await?;
    Ok(own.mark(shown(&app, &own.caller).await?))
}

/// What is wrong with a new password, all at once.
pub(super) fn rules(
    new: &str,
    email: &str,
    username: &str,
    pointer: &str,
    present: Option<&str>,
) -> Result<(), Failure> {
    let mut wrong = fields::password(new, email, username);
    if present.is_some_and(|present| nfc(present) == nfc(new)) {
        wrong.push(PASSWORD_SAME);
    }
    let Some(first) = wrong.first() else {
        return Ok(());
    };
    let failure = Failure::new("LS-INVALID", *first);
    Err(wrong.iter().fold(failure, |f, text| f.at(pointer, *text)))
}

pub(in super::super) async fn password(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let own = Own::read(&app, &request, true)?;
    let body = extract::json::<PasswordChange>(request).await?.value;
    own.may_have_another().await?;
    let current = body.current.as_deref();
    let compared = own.prove(&app, current, "/current").await?;
    let caller = own.caller();
    rules(&body.new, &caller.email, &caller.username, "/new", current)?;
    let permit = app.logins.permit().await?;
    let hash = permit.hash(Secret::new(body.new)).await?;
    own.order(OwnVerb::Password {
        compared,
        hash,
        revoke_keypairs: body.revoke_keypairs,
    })
    .await?;
    Ok(own.nothing())
}

pub(in super::super) async fn logins(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let caller = person(request.extensions())?;
    Query::read(request.uri().query(), &[])?;
    let id = caller.id;
    let stored = app.engine.read(move |state, _| {
        let logins = state.logins_of(id).cloned();
        logins.collect::<Vec<_>>()
    });
    let limits = app.identity.limits();
    let now = wall_clock();
    let mut items: Vec<LoginView> = Vec::new();
    for login in stored.await? {
        let last = app.identity.last_use(login.id);
        let last = last.unwrap_or(login.last_used_at).max(login.last_used_at);
        let expires_at = limits.end(login.created_at, last);
        if expires_at <= now {
            continue; // it opens nothing any more, and goes within a minute
        }
        items.push(LoginView {
            id: login.id.to_string(),
            via: login.via,
            client: login.client,
            from: login.from,
            created_at: login.created_at,
            last_used_at: last,
            expires_at,
            current: caller.via == Via::Login(login.id),
        });
    }
    // The newest first; there are at most 64.
    items.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
    json(&Page {
        items,
        next_cursor: None,
    })
}

pub(in super::super) async fn end_login(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let own = Own::read(&app, &request, true)?;
    extract::json::<super::super::admin::Nothing>(request).await?;
    let login = text.parse::<LoginId>().map_err(|_| {
        let text = super::super::errors::cut(&text);
        Failure::new("LS-NOT-FOUND", format!("There is no login {text}."))
    })?;
    own.order(OwnVerb::EndLogin(login)).await?;
    Ok(own.nothing())
}

/// A password for somebody, drawn here.
pub(in super::super) fn drawn_password() -> Secret {
    password::random(&mut crate::pki::fill_random)
}
