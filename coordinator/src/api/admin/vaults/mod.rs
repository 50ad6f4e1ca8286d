//! Vaults: personal ones, those of administrators, and what comes of all of them.
//!
//! | module | routes |
//! |---|---|
//! | `own` | personal vaults: one's own, those of service accounts, switching those of others off |
//! | `shared` | vaults of administrators, and texts that are looked at |
//! | `merged` | the configuration of sessions, and where each value comes from |

pub(in super::super) mod merged;
pub(in super::super) mod own;
pub(in super::super) mod shared;

use super::super::errors::Failure;
use super::super::extract::Query;
use super::super::{App, beside};
use super::{Match, Write, tagged, value_of, write};
use crate::engine::{Origin, wall_clock};
use crate::identity::{Person, Via};
use crate::vaults::{Kept, format_of, shown};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use longshore_common::admin::{ConfigWarning, Member, VaultRequest, VaultView};
use longshore_common::ids::VaultId;
use longshore_config::read::Format;
use longshore_config::work::layers::Warning;
use longshore_core::model::admin::{AdminObject, AdminVerb, NewContent, VaultVerb, Whose};
use longshore_core::model::{Refusal, State};
use longshore_identity::audit::Outcome;
use serde_json::Value;
use std::sync::Arc;
use zeroize::Zeroizing;

/// The age of a login of the console up to which it may see what is secret.
const FRESH_MS: i64 = 15 * 60 * 1000;

/// What is worth telling, as it is shown.
fn warnings(all: &[Warning]) -> Vec<ConfigWarning> {
    let one = |warning: &Warning| ConfigWarning {
        code: warning.code.to_owned(),
        path: warning.path.clone(),
        from: warning.from.clone(),
        to: warning.to.clone(),
        source: warning.source.clone(),
        vaults: warning.vaults.clone(),
        near: warning.near.map(str::to_owned),
        line: None,
        column: None,
    };
    all.iter().map(one).collect()
}

/// A save as it came in.
struct Save {
    write: Write<VaultRequest>,
    /// All of the document is given, as a PUT has to.
    whole: bool,
}

impl Save {
    async fn read(request: Request, whole: bool, wants: Match) -> Result<Self, Failure> {
        let write = write::<VaultRequest>(request, &[], wants).await?;
        Ok(Self { write, whole })
    }

    /// The content that is to be saved, if the request says one.
    async fn content(
        &self,
        app: &App,
        id: VaultId,
        present: Option<&Kept>,
    ) -> Result<(Option<NewContent>, Vec<Warning>), Failure> {
        let request = &self.write.body;
        let text = match &request.content {
            Member::Absent => None,
            Member::Null => Some(""),
            Member::Value(text) => Some(text.as_str()),
            Member::Wrong(_) => return Ok(refused("/content", "content must be text.")),
        };
        if self.whole && text.is_none() {
            return Ok(refused("/content", "content is required."));
        }
        let stored = present.map_or("hocon", |kept| &kept.vault.format);
        let format = match &request.format {
            Member::Absent | Member::Null => stored,
            Member::Value(text) => text.trim(),
            Member::Wrong(_) => return Ok(refused("/format", "format must be text.")),
        };
        if text.is_none() && request.format.is_absent() {
            return Ok((None, Vec::new()));
        }
        let (app, present, format) = (app.clone(), present.cloned(), format.to_owned());
        let text = text.map(|text| Zeroizing::new(text.to_owned()));
        let (new, warnings) = beside(move || {
            let text = text.as_ref().map(|text| text.as_str());
            app.vaults.prepare(id, present.as_ref(), &format, text)
        })
        .await?;
        Ok((Some(new), warnings))
    }

    /// Gives the order and answers with the vault as it is now, masked.
    async fn give(
        self,
        app: &App,
        verb: VaultVerb,
        present: Option<&Kept>,
        warned: Vec<Warning>,
        current: impl FnOnce(&State) -> Option<Value> + Send + 'static,
    ) -> Result<Response, Failure> {
        let is_new = matches!(verb, VaultVerb::Create(..));
        // What others hold is theirs: who switches it off does not see it.
        let of_others =
            matches!(&verb, VaultVerb::Own { whose, .. } if matches!(whose, Whose::Person(_)));
        let verb = AdminVerb::Vault(Box::new(verb));
        let answer = self.write.order(app, verb, current).await?;
        let AdminObject::Vault(view) = &answer.object else {
            return Err(super::other_kind(&answer.object));
        };
        let mut view = (**view).clone();
        let request = &self.write.body;
        let old = present.and_then(|kept| app.vaults.text(kept.content.as_ref()).ok());
        let text = match &request.content {
            Member::Value(text) => Some(Zeroizing::new(text.clone())),
            Member::Null => Some(Zeroizing::default()),
            _ => old.or_else(|| present.is_none().then(Zeroizing::default)),
        };
        if let (Some(text), Ok(format), false) = (text, format_of(&view.format), of_others) {
            view.content = beside(move || masked(format, &text)).await?;
        }
        view.warnings = warnings(&warned);
        let value = value_of(&view).ok_or_else(Failure::internal)?;
        let (status, list) = match is_new {
            true => (StatusCode::CREATED, Some("vaults")),
            false => (StatusCode::OK, None),
        };
        self.write.respond_value(status, value, &answer, list)
    }
}

/// A text with masks; none where it is no document.
fn masked(format: Format, text: &str) -> Option<String> {
    let tree = longshore_config::work::parse(format, text.as_bytes()).ok()?;
    Some(shown(format, &tree))
}

fn refused(pointer: &str, message: &str) -> (Option<NewContent>, Vec<Warning>) {
    let refusal = Refusal::new("LS-INVALID", message).at(pointer, message);
    let new = NewContent {
        format: String::new(),
        version: 0,
        sealed: Vec::new(),
        size: 0,
        keys: Vec::new(),
        values: 0,
        changed: Vec::new(),
        refused: Some(Box::new(refusal)),
    };
    (Some(new), Vec::new())
}

/// A vault with what it holds: masked, or as it was saved. What is revealed is recorded first.
async fn with_content(
    app: &App,
    mut view: VaultView,
    kept: &Kept,
    reveal: Option<&Arc<Origin>>,
) -> Result<Response, Failure> {
    let text = match reveal {
        Some(origin) => {
            let text = app
                .vaults
                .text(kept.content.as_ref())
                .map_err(Refusal::from)?;
            let name = view.name.clone().unwrap_or_default();
            record_reveal(app, origin, (&view.id, &name)).await?;
            Some((*text).clone())
        }
        None => match app.vaults.masked(kept) {
            Ok(text) => Some(text),
            Err(crate::vaults::Unusable::Damaged) => None,
            Err(error) => return Err(Refusal::from(error).into()),
        },
    };
    view.content = text;
    tagged(&value_of(&view).ok_or_else(Failure::internal)?)
}

/// Whether values are wanted in the clear; a login of the console has to be a fresh one.
async fn reveals(app: &App, person: &Person, query: &Query) -> Result<bool, Failure> {
    if !query.flag("reveal")? {
        return Ok(false);
    }
    let Via::Login(id) = person.via else {
        return Ok(true);
    };
    let stale = app
        .engine
        .read(move |state, _| {
            let login = state.logins.get(&id);
            login.is_some_and(|login| {
                login.client == "console" && wall_clock().since(login.created_at) > FRESH_MS
            })
        })
        .await?;
    match stale {
        true => Err(Failure::new(
            "LS-REAUTH",
            "To see secrets the login may be at most 15 minutes old.",
        )
        .hint("Log out and in again.")),
        false => Ok(true),
    }
}

async fn record_reveal(
    app: &App,
    origin: &Origin,
    (id, name): (&str, &str),
) -> Result<(), Failure> {
    let record = origin
        .draft("vault.reveal", Outcome::Ok)
        .target("vault", id, name);
    Ok(app.engine.record(record).await?)
}
