//! The one table of routes: what each is called, who may use it, what it takes and gives.
//!
//! The router, the OpenAPI document and the tests over all routes are made from it, so
//! none of them can know a route the others do not. Its rows stand in files by what they
//! are about; `parts` has what many of them share.

mod agents;
mod announcements;
mod audit;
mod books;
mod groups;
mod images;
mod invitations;
mod keypairs;
mod logins;
mod notify;
mod parts;
mod people;
mod policies;
mod pools;
mod presets;
mod reach;
mod rights;
mod service;
mod sessions;
mod settings;
mod tenants;
mod vaults;

use super::App;
use axum::routing::MethodRouter;
use longshore_core::access::{self, Caller, Intent, Why};
use utoipa::openapi::{RefOr, Schema};

/// A row of the operation table.
pub use longshore_core::access::Operation as Access;

/// An HTTP method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Reads.
    Get,
    /// Creates or acts.
    Post,
    /// Changes.
    Patch,
    /// Replaces a part.
    Put,
    /// Removes.
    Delete,
}

impl Verb {
    /// As it stands in a request.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// A shape, and the shapes it is made of.
pub type Shape = fn() -> (String, Vec<(String, RefOr<Schema>)>);

/// What an operation answers when all is well.
#[derive(Debug, Clone, Copy)]
pub enum Gives {
    /// One object.
    Json(Shape),
    /// A page of objects.
    Page(Shape),
    /// Something of this media type.
    Plain(&'static str),
    /// Any JSON object.
    Object,
    /// No body.
    Nothing,
}

/// What a parameter holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// Text.
    Text,
    /// Text; the parameter may be repeated, which means *or*.
    Texts,
    /// A whole number in a range.
    Number(u64, u64),
    /// true or false.
    Flag,
}

/// A parameter of the query, or a header.
#[derive(Debug, Clone, Copy)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub holds: Holds,
    /// What it is for.
    pub what: &'static str,
    /// Whether it is a header.
    pub header: bool,
}

/// One route.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// `<resource>_<verb>`, never renamed.
    pub id: &'static str,
    /// Method.
    pub method: Verb,
    /// Path; `{id}` and `{code}` are its variable part.
    pub path: &'static str,
    /// What it does, in the words of the operation table. None lets nobody in.
    pub row: Option<Access>,
    /// What it does where the thing is the caller's own, if that is another row.
    pub own: Option<Access>,
    /// One line.
    pub summary: &'static str,
    /// Query and headers.
    pub parameters: &'static [Parameter],
    /// Body, if it has one.
    pub takes: Option<Shape>,
    /// Media type of a body that is no JSON.
    pub takes_text: Option<&'static str>,
    /// Status when all is well.
    pub status: u16,
    /// Body when all is well.
    pub gives: Gives,
    /// Codes besides those every route has.
    pub codes: &'static [&'static str],
    /// The handler.
    pub handler: fn() -> MethodRouter<App>,
}

const TABLES: &[&[Operation]] = &[
    service::ROWS,
    logins::ROWS,
    sessions::ROWS,
    reach::ROWS,
    agents::ROWS,
    groups::ROWS,
    policies::ROWS,
    tenants::ROWS,
    people::ROWS,
    invitations::ROWS,
    keypairs::ROWS,
    rights::ROWS,
    vaults::ROWS,
    images::ROWS,
    presets::ROWS,
    pools::ROWS,
    books::ROWS,
    audit::ROWS,
    notify::ROWS,
    announcements::ROWS,
    settings::ROWS,
];

const fn count() -> usize {
    let (mut many, mut table) = (0, 0);
    while table < TABLES.len() {
        many += TABLES[table].len();
        table += 1;
    }
    many
}

/// The tables behind one another: made by the compiler, so that one slice can be handed out.
const fn joined() -> [Operation; count()] {
    let mut all = [parts::READ; count()];
    let (mut many, mut table) = (0, 0);
    while table < TABLES.len() {
        let mut row = 0;
        while row < TABLES[table].len() {
            all[many] = TABLES[table][row];
            many += 1;
            row += 1;
        }
        table += 1;
    }
    all
}

/// Every route there is.
pub static OPERATIONS: &[Operation] = &joined();

impl Operation {
    /// Whether it needs no credentials.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.row.is_some_and(Access::is_open)
    }

    /// Whether it needs no credentials, and heeds those that come all the same: who has an
    /// account accepts an invitation as that account.
    #[must_use]
    pub fn heeds_callers(&self) -> bool {
        self.id == "invitations_accept"
    }

    /// What it does, as it is recorded.
    #[must_use]
    pub fn does(&self) -> &'static str {
        self.row.map_or("", Access::as_str)
    }

    /// Whether somebody comes in at all: by what depends on the caller and the operation
    /// alone. The object is looked at where it is known.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, caller: &Caller) -> Result<(), Why> {
        let intents: &[Intent] = match self.method {
            Verb::Get => &[Intent::Read],
            // A label is a member that is changed; whether nothing else is, the object's
            // decision sees.
            Verb::Patch => &[Intent::Change, Intent::Label],
            Verb::Post | Verb::Put | Verb::Delete => &[Intent::Change, Intent::Create],
        };
        let rows = [self.row, self.own].into_iter().flatten();
        let mut refused = Why::NotPermitted;
        for (number, row) in rows.enumerate() {
            for intent in intents {
                match access::at_the_door(row, caller, *intent) {
                    Ok(()) => return Ok(()),
                    Err(why) if number == 0 && *intent == intents[0] => refused = why,
                    Err(_) => (),
                }
            }
        }
        Err(refused)
    }
}
