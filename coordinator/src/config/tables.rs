//! What stands inside of keys that hold lists and maps of maps.

use super::notify::{RETRIES, TIMEOUT_S};
use longshore_common::notify::NoteEvent;
use longshore_config::schema::{Field, Kind};

const EVENT_WORDS: [&str; NoteEvent::ALL.len()] = {
    let mut words = [""; NoteEvent::ALL.len()];
    let mut at = 0;
    while at < words.len() {
        words[at] = NoteEvent::ALL[at].as_str();
        at += 1;
    }
    words
};

/// `{ "NAME" = "value" }`; the values may hold tokens.
const HEADERS: Kind = Kind::MapOf(&Kind::Secret);

/// `services.notify.webhooks`
pub(super) const WEBHOOKS: Kind = Kind::List(&Kind::Table(&[
    Field::required("name", Kind::Text),
    Field::required("url", Kind::Url),
    Field::new("events", Kind::List(&Kind::OneOf(&EVENT_WORDS))),
    Field::new("secret", Kind::Secret),
    Field::new("headers", HEADERS),
    Field::new(
        "timeout_s",
        Kind::Duration(*TIMEOUT_S.start() as i64, *TIMEOUT_S.end() as i64),
    ),
    Field::new(
        "retries",
        Kind::Integer(*RETRIES.start() as i64, *RETRIES.end() as i64),
    ),
]));

/// One of `services.organization.ui_actions.TYPE`. Where the id goes into an address it need not
/// be one before: the program judges it.
const ACTIONS: Kind = Kind::List(&Kind::Table(&[
    Field::required("name", Kind::Text),
    Field::new("tooltip", Kind::Text),
    Field::required(
        "action",
        Kind::Table(&[
            Field::required("method", Kind::OneOf(&["GET", "POST", "DELETE"])),
            Field::required("url", Kind::Text),
            Field::new("payload", Kind::Text),
            Field::new("headers", HEADERS),
            Field::new("secret", Kind::Secret),
        ]),
    ),
    Field::new("level", Kind::OneOf(&["ro", "rw"])),
]));

/// `services.organization.ui_actions`: the types of [`super::ACTION_TYPES`].
pub(super) const UI_ACTIONS: Kind = Kind::Table(&[
    Field::new("project", ACTIONS),
    Field::new("session", ACTIONS),
    Field::new("model", ACTIONS),
    Field::new("folder", ACTIONS),
    Field::new("agent", ACTIONS),
    Field::new("queue", ACTIONS),
]);

/// `daemon.auth.fixed_users.users`
pub(super) const FIXED_USERS: Kind = Kind::List(&Kind::Table(&[
    // Missed where the list is switched on: until then nobody looks at it.
    Field::new("username", Kind::Text),
    Field::new("password", Kind::Secret),
    Field::new("name", Kind::Text),
    Field::new("email", Kind::Text),
    Field::new("role", Kind::Text),
    Field::new("domain", Kind::Text),
    Field::new("projects", Kind::List(&Kind::Text)),
]));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ACTION_TYPES;

    #[test]
    fn every_type_has_actions() {
        let Kind::Table(fields) = UI_ACTIONS else {
            panic!("it is a map");
        };
        let names: Vec<&str> = fields.iter().map(|field| field.name).collect();
        assert_eq!(names, ACTION_TYPES);
    }
}
