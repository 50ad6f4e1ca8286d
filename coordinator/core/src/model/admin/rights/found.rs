//! Who and what the words of a request mean.

use super::super::super::state::State;
use super::super::super::submit::cut;
use crate::access::{Resource, Subject};
use longshore_common::admin::RuleResource;
use longshore_common::ids::{DomainId, ServiceAccountId, UserGroupId, UserId};

/// Whom a word names: an id, the login name or address of a user or service account, or the
/// name of a group.
///
/// # Errors
/// A sentence that there is nobody, or that the word means several.
pub fn subject_of(state: &State, text: &str) -> Result<Subject, String> {
    let text = text.trim();
    let nobody = || format!("There is no user, service account or group {}.", cut(text));
    if let Ok(id) = text.parse::<UserGroupId>() {
        let known = state.user_groups.contains_key(&id);
        return known.then_some(Subject::Group(id)).ok_or_else(nobody);
    }
    let is_id = text.parse::<UserId>().is_ok() || text.parse::<ServiceAccountId>().is_ok();
    let person = state.user_by_ref(text).filter(|user| {
        // A deleted service account keeps its name and nothing else.
        user.service.is_none() || user.is_active()
    });
    let group = (!is_id).then(|| state.user_group_by_ref(text)).flatten();
    match (person, group) {
        (Some(person), None) => Ok(person.subject()),
        (None, Some(group)) => Ok(Subject::Group(group.id)),
        (None, None) => Err(nobody()),
        (Some(_), Some(_)) => Err(format!(
            "{} is the name of a user and of a group; give the id.",
            cut(text)
        )),
    }
}

/// What the members of a request name; names of projects are looked for in `domain` first.
///
/// # Errors
/// The pointer below `resource`, and a sentence.
pub fn resource_of(
    state: &State,
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
            let found = state.project_by_ref(text, domain);
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
    Ok(resource)
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
