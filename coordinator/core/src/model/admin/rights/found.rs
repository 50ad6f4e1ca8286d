//! Who and what the words of a request mean.

use super::super::super::people::User;
use super::super::super::state::State;
use super::super::super::submit::cut;
use crate::access::{Caller, Resource, Subject};
use longshore_common::admin::RuleResource;
use longshore_common::ids::{DomainId, ServiceAccountId, UserId};

/// Whom a word names: an id, the login name or address of a user or service account, or the
/// name of a group.
///
/// # Errors
/// A sentence that there is nobody, or that the word means several.
pub fn subject_of(state: &State, text: &str) -> Result<Subject, String> {
    subject_among(state, text, |_| true)
}

/// The same among those the caller may know of: of others it is said that there is nobody.
///
/// # Errors
/// As [`subject_of`].
pub fn subject_for(state: &State, rights: &Caller, text: &str) -> Result<Subject, String> {
    subject_among(state, text, |subject| state.sees_subject(rights, subject))
}

fn subject_among(
    state: &State,
    text: &str,
    seen: impl Fn(Subject) -> bool,
) -> Result<Subject, String> {
    let text = text.trim();
    let person = state.user_by_ref(text).filter(|user| {
        // A deleted service account keeps its name and nothing else.
        user.service.is_none() || user.is_active()
    });
    let person = person.map(User::subject).filter(|subject| seen(*subject));
    // The id of a person is the name of no group.
    let is_id = text.parse::<UserId>().is_ok() || text.parse::<ServiceAccountId>().is_ok();
    let group = (!is_id).then(|| state.user_group_by_ref(text)).flatten();
    let group = group.map(|group| Subject::Group(group.id));
    match (person, group.filter(|group| seen(*group))) {
        (Some(subject), None) | (None, Some(subject)) => Ok(subject),
        (None, None) => Err(format!(
            "There is no user, service account or group {}.",
            cut(text)
        )),
        (Some(_), Some(_)) => Err(format!(
            "{} is the name of a user and of a group; give the id.",
            cut(text)
        )),
    }
}

/// What the members of a request name, if the caller may know of it. Of projects of one name
/// that of `domain` is meant.
///
/// # Errors
/// The pointer below `resource`, and a sentence.
pub fn resource_of(
    state: &State,
    rights: &Caller,
    wanted: &RuleResource,
    domain: Option<DomainId>,
) -> Result<Resource, (&'static str, String)> {
    let kind = wanted.kind.trim().to_lowercase();
    let Some(text) = wanted.id.as_deref().map(str::trim) else {
        return Resource::from_parts(&kind, None).map_err(|e| ("/type", sentence(&e.to_string())));
    };
    let missing = || ("/id", format!("There is no {kind} {}.", cut(text)));
    let id = match kind.as_str() {
        "project" => {
            let found = state.projects_for(rights, text).into_iter();
            let found = found.min_by_key(|p| domain.is_some_and(|d| d != p.domain));
            found.map(|p| p.id.to_string()).ok_or_else(missing)?
        }
        "queue" => {
            let config = &state.config.config;
            let group = state.group_by_ref(text).map(|g| g.id.to_string());
            let queue = || config.queue(text).map(|q| q.name.to_owned());
            let pool = || config.pool(text).map(|p| p.name.clone());
            group.or_else(queue).or_else(pool).ok_or_else(missing)?
        }
        "session" => text.to_lowercase(),
        // There are none of these yet.
        "model" | "folder" => return Err(missing()),
        _ => text.to_owned(),
    };
    let resource = Resource::from_parts(&kind, Some(&id)).map_err(|error| {
        let at = match error {
            crate::access::rules::ParseResourceError::Kind => "/type",
            _ => "/id",
        };
        (at, sentence(&error.to_string()))
    })?;
    if let Resource::Session(key) = &resource
        && key.session.0 >= state.meta.next_session
    {
        return Err(missing());
    }
    match state.sees_resource(rights, &resource) {
        true => Ok(resource),
        false => Err(missing()),
    }
}

/// The words of an error as a sentence.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let first: String = chars
        .next()
        .into_iter()
        .flat_map(char::to_uppercase)
        .collect();
    format!("{first}{}.", chars.as_str())
}
