//! People from a table.

use super::super::super::change::Change;
use super::super::super::event::{Caller, Refusal};
use super::super::super::people::{Keypair, User};
use super::super::super::state::State;
use super::super::{AdminObject, Decision, NewUserSecrets};
use super::people::{names_taken, new_person};
use longshore_common::admin::{ImportAnswer, ImportedRow, Member, NewUser};
use longshore_common::api::MemberError;
use longshore_common::time::Timestamp;
use longshore_identity::csv::{FileError, NewPerson, Row};

/// A row as it was read, with what was drawn for it at the rim.
#[derive(Debug, Clone)]
pub struct ImportRow {
    /// The row.
    pub row: Row,
    /// What the person gets if it is made.
    pub secrets: NewUserSecrets,
    /// Hash of its first password as a PHC string; empty in a rehearsal.
    pub password: String,
}

/// A file that is refused as a whole.
#[must_use]
pub fn file_refusal(error: &FileError) -> Refusal {
    let code = match error {
        FileError::TooLarge => "LS-TOO-LARGE",
        _ => "LS-INVALID",
    };
    let mut refusal = Refusal::new(code, error.to_string());
    if let FileError::Header(errors) = error {
        if let [one] = errors.as_slice() {
            refusal.detail.clone_from(&one.message);
        }
        refusal.errors.clone_from(errors);
    }
    refusal
}

fn request(person: &NewPerson) -> NewUser {
    let some = |text: &Option<String>| match text {
        Some(text) => Member::Value(text.clone()),
        None => Member::Absent,
    };
    NewUser {
        email: some(&person.email),
        username: some(&person.username),
        full_name: some(&person.full_name),
        description: some(&person.description),
        role: some(&person.role),
        domain: some(&person.domain),
        projects: person.projects.clone().into(),
        user_policy: some(&person.user_policy),
        keypair_policy: some(&person.keypair_policy),
        sudo_enabled: person.sudo_enabled.into(),
        ..NewUser::default()
    }
}

/// The person of a row with its first keypair, or everything that is wrong with the row: what
/// the file tells, what the rules of a new person say, and names that are taken.
fn made(
    state: &State,
    caller: &Caller,
    given: &ImportRow,
    now: Timestamp,
) -> Result<(User, Keypair), (&'static str, Vec<MemberError>)> {
    let row = &given.row;
    let refused = match new_person(
        state,
        (&request(&row.person), None),
        &given.secrets,
        caller,
        now,
    ) {
        Ok(made) if row.errors.is_empty() => return Ok(made),
        Ok(_) => None,
        Err(refusal) => Some(refusal),
    };
    let code = match &refused {
        Some(refusal) if row.errors.is_empty() => refusal.code,
        _ => "LS-INVALID",
    };
    let mut errors = row.errors.clone();
    let mut say = |pointer: String, message: String| {
        let error = MemberError {
            pointer,
            message,
            ..MemberError::default()
        };
        if !errors.contains(&error) {
            errors.push(error);
        }
    };
    if let Some(refusal) = refused {
        if refusal.errors.is_empty() {
            say(String::new(), refusal.detail);
        }
        for error in refusal.errors {
            say(error.pointer, error.message);
        }
    }
    // A new person is only told that a name is taken when all else is right; who corrects a
    // table wants to read it once.
    let email = row.person.email.as_deref();
    if let Some(username) = row.person.username.as_deref().or(email) {
        for (pointer, message) in names_taken(state, email, username, None) {
            say(pointer.to_owned(), message);
        }
    }
    Err((code, errors))
}

/// Makes the people of a table: all of them, or with `partial` those whose rows are right.
pub(in super::super) fn import(
    state: &State,
    caller: &Caller,
    rows: &[ImportRow],
    partial: bool,
    now: Timestamp,
) -> Result<Decision, Refusal> {
    let mut meta = state.meta.clone();
    let mut changes = Vec::new();
    let mut answer = ImportAnswer::default();
    let mut is_conflict = true;
    for given in rows {
        let mut told = ImportedRow {
            row: given.row.row,
            email: given.row.email.clone(),
            status: "refused".to_owned(),
            password: None,
            access_key: None,
            secret_key: None,
            errors: Vec::new(),
        };
        match made(state, caller, given, now) {
            Ok((mut user, keypair)) => {
                user.uid = meta.next_uid;
                meta.next_uid += 1;
                user.password = Some(given.password.clone());
                user.need_password_change = true;
                told.status = "created".to_owned();
                told.access_key = Some(keypair.access_key.clone());
                answer.created += 1;
                changes.extend([Change::User(Box::new(user)), Change::Keypair(keypair)]);
            }
            Err((code, errors)) => {
                is_conflict &= code == "LS-EXISTS";
                told.errors = errors;
                answer.refused += 1;
            }
        }
        answer.rows.push(told);
    }
    if answer.refused > 0 && !partial {
        return Err(refused(&answer, is_conflict));
    }
    if !changes.is_empty() {
        changes.push(Change::Meta(meta));
    }
    Ok(Decision::new(
        AdminObject::Imported(Box::new(answer)),
        changes,
    ))
}

/// All or nothing, and it is nothing: what is wrong in which row.
fn refused(answer: &ImportAnswer, is_conflict: bool) -> Refusal {
    let code = if is_conflict {
        "LS-EXISTS"
    } else {
        "LS-INVALID"
    };
    let detail = match (answer.refused, answer.rows.len()) {
        (1, all) => format!("1 of {all} rows is not right, and nobody was made."),
        (wrong, all) => format!("{wrong} of {all} rows are not right, and nobody was made."),
    };
    let hint = "Correct them, or make the others alone with partial=true.";
    let mut refusal = Refusal::new(code, detail).hint(hint);
    for row in &answer.rows {
        for error in &row.errors {
            let pointer = format!("/{}{}", row.row, error.pointer);
            refusal = refusal.at(pointer, format!("Row {}: {}", row.row, error.message));
        }
    }
    refusal
}
