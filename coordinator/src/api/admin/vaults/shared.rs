//! Vaults of administrators, and texts that are looked at.

use super::super::super::audit::origin;
use super::super::super::errors::Failure;
use super::super::super::extract::{self, Query, Ref};
use super::super::super::{App, beside, json, person};
use super::super::{Match, Viewer, Wanted, list as listed, missing, value_of, verbs};
use super::{Save, reveals, warnings, with_content};
use crate::identity::new_id;
use crate::vaults::{Kept, format_of, refusal, told};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use longshore_common::admin::{Member, VaultCheckRequest, VaultChecked, VaultSummary, VaultView};
use longshore_common::ids::VaultId;
use longshore_config::work;
use longshore_core::access::{self, Caller, Decision, Intent, Operation};
use longshore_core::model::admin::{AdminVerb, VaultVerb, vault_target, vault_view};
use longshore_core::model::{self, Refusal, Vault};
use longshore_identity::audit::Outcome;
use serde_json::Value;
use zeroize::Zeroizing;

fn sees(state: &model::State, rights: &Caller, vault: &Vault) -> bool {
    let target = vault_target(state, vault).intent(Intent::Read);
    access::decide(Operation::VaultRead, rights, &target).is_allowed()
}

fn current(state: &model::State, text: &str) -> Option<Value> {
    value_of(&vault_view(state, state.vault_by_ref(text)?))
}

pub(in super::super::super) async fn list(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let look = |state: &model::State, viewer: &Viewer, wanted: &Wanted| {
        let Some(rights) = viewer.rights_now(state) else {
            return Vec::new();
        };
        let all = state.vaults.values().filter(|vault| vault.owner.is_none());
        all.filter(|vault| sees(state, &rights, vault))
            .map(|vault| vault_view(state, vault))
            .filter(|view| {
                let name = view.name.as_deref().unwrap_or_default();
                let groups = view.groups.iter().chain(&view.group_names).flatten();
                let groups: Vec<&str> = groups.map(String::as_str).collect();
                wanted.finds("name", name)
                    && wanted.takes("group", &groups)
                    && wanted.takes("enabled", &[if view.enabled { "true" } else { "false" }])
            })
            .map(|view| {
                let name = view.name.clone().unwrap_or_default();
                (format!("{}\u{1}{}", name.to_lowercase(), view.id), view)
            })
            .collect::<Vec<(String, VaultView)>>()
    };
    listed(&app, request, "vaults", &["name", "group", "enabled"], look).await
}

/// A vault that the caller may read, and whether it may be revealed.
async fn found(
    app: &App,
    person: &crate::identity::Person,
    text: &str,
) -> Result<(VaultView, Kept, bool), Failure> {
    let (rights, wanted) = (person.rights.clone(), text.to_owned());
    let found = app
        .engine
        .read(move |state, _| {
            let vault = state.vault_by_ref(&wanted)?;
            if !sees(state, &rights, vault) {
                return None;
            }
            let target = vault_target(state, vault).intent(Intent::Read);
            let reveal = access::decide(Operation::VaultReveal, &rights, &target);
            let reveal = matches!(reveal, Decision::Allowed(_));
            Some((vault_view(state, vault), Kept::of(state, vault), reveal))
        })
        .await?;
    found.ok_or_else(|| missing("vault", text))
}

fn may_reveal(may: bool) -> Result<(), Failure> {
    let refused = || Failure::new("LS-FORBIDDEN", "You may not reveal this vault.");
    may.then_some(()).ok_or_else(refused)
}

pub(in super::super::super) async fn read(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let person = person(request.extensions())?;
    let origin = origin(request.extensions())?;
    let query = Query::read(request.uri().query(), &["reveal"])?;
    let (view, kept, may) = found(&app, &person, &text).await?;
    let reveal = reveals(&app, &person, &query).await?;
    if reveal {
        may_reveal(may)?;
    }
    with_content(&app, view, &kept, reveal.then_some(&origin)).await
}

/// The text alone, as a file.
pub(in super::super::super) async fn download(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let person = person(request.extensions())?;
    let origin = origin(request.extensions())?;
    let query = Query::read(request.uri().query(), &["reveal"])?;
    let (view, kept, may) = found(&app, &person, &text).await?;
    let reveal = reveals(&app, &person, &query).await?;
    let content = match reveal {
        true => {
            may_reveal(may)?;
            let text = app.vaults.text(kept.content.as_ref());
            text.map(|text| (*text).clone())
        }
        false => app.vaults.masked(&kept),
    };
    let content = content.map_err(Refusal::from)?;
    let operation = match reveal {
        true => "vault.reveal",
        false => "vault.read",
    };
    let name = view.name.unwrap_or_default();
    let record = origin
        .draft(operation, Outcome::Ok)
        .target("vault", &view.id, &name)
        .detail("downloaded");
    app.engine.record(record).await?;
    let mut response = Body::from(content).into_response();
    let headers = response.headers_mut();
    let media = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, media);
    let ending = match view.format.as_str() {
        "hocon" => "conf",
        other => other,
    };
    let file = format!("attachment; filename=\"{}.{ending}\"", view.id);
    if let Ok(value) = HeaderValue::from_str(&file) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

pub(in super::super::super) async fn create(
    State(app): State<App>,
    request: Request,
) -> Result<Response, Failure> {
    let save = Save::read(request, false, Match::Optional).await?;
    let id = VaultId::new(new_id());
    let (content, warned) = save.content(&app, id, None).await?;
    let verb = VaultVerb::Create(id, save.write.body.clone(), content);
    save.give(&app, verb, None, warned, |_| None).await
}

async fn save(app: App, text: String, request: Request, whole: bool) -> Result<Response, Failure> {
    let save = Save::read(request, whole, Match::Required).await?;
    let wanted = text.clone();
    let present = app
        .engine
        .read(move |state, _| {
            let vault = state.vault_by_ref(&wanted)?;
            Some(Kept::of(state, vault))
        })
        .await?;
    let (content, warned) = match &present {
        Some(kept) => save.content(&app, kept.vault.id, Some(kept)).await?,
        None => (None, Vec::new()),
    };
    let verb = VaultVerb::Patch(text.clone(), save.write.body.clone(), content);
    let current = move |state: &model::State| current(state, &text);
    save.give(&app, verb, present.as_ref(), warned, current)
        .await
}

pub(in super::super::super) async fn put(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    save(app, text, request, true).await
}

pub(in super::super::super) async fn patch(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    save(app, text, request, false).await
}

pub(in super::super::super) async fn remove(
    State(app): State<App>,
    Ref(text): Ref,
    request: Request,
) -> Result<Response, Failure> {
    let verb = |name| AdminVerb::Vault(Box::new(VaultVerb::Delete(name)));
    verbs::remove_with(&app, text, request, verb, current).await
}

/// Looks at a text and stores nothing.
pub(in super::super::super) async fn check(request: Request) -> Result<Response, Failure> {
    person(request.extensions())?;
    let query = Query::read(request.uri().query(), &["dry_run"])?;
    query.flag("dry_run")?;
    let body = extract::json::<VaultCheckRequest>(request).await?.value;
    let wrong = |field: &str| {
        let text = format!("{field} must be text.");
        Failure::new("LS-INVALID", text.clone()).at(format!("/{field}"), text)
    };
    let format = match &body.format {
        Member::Absent | Member::Null => "hocon",
        Member::Value(text) => text.trim(),
        Member::Wrong(_) => return Err(wrong("format")),
    };
    let text = match &body.content {
        Member::Absent | Member::Null => "",
        Member::Value(text) => text,
        Member::Wrong(_) => return Err(wrong("content")),
    };
    let format = format_of(format).map_err(|refusal| Failure::from(*refusal))?;
    let text = Zeroizing::new(text.to_owned());
    let checked = beside(move || work::check(format, text.as_bytes())).await?;
    let checked = checked.map_err(|found| Failure::from(refusal("/content", &found)))?;
    let mut warned = warnings(&told(&checked.unknown));
    for (shown, unknown) in warned.iter_mut().zip(&checked.unknown) {
        shown.line = Some(unknown.at.line).filter(|n| *n > 0);
        shown.column = Some(unknown.at.column).filter(|n| *n > 0);
    }
    json(&VaultChecked {
        summary: VaultSummary {
            keys: checked.keys,
            values: checked.values as u64,
        },
        warnings: warned,
    })
}
