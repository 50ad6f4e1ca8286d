//! People from a table.

use super::super::super::change::Change;
use super::super::super::event::{Caller, Refusal};
use super::super::super::state::State;
use super::super::{AdminObject, Decision, NewUserSecrets};
use super::people::new_person;
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
        email: person.fields.email.clone().into(),
        username: person.fields.username.clone().into(),
        full_name: person.fields.full_name.clone().into(),
        description: person.fields.description.clone().into(),
        role: person.fields.role.to_owned().into(),
        domain: some(&person.domain),
        projects: person.projects.clone().into(),
        user_policy: some(&person.user_policy),
        keypair_policy: some(&person.keypair_policy),
        sudo_enabled: person.sudo_enabled.into(),
        ..NewUser::default()
    }
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
        let row = &given.row;
        let made = match &row.person {
            Err(errors) => Err(("LS-INVALID", errors.clone())),
            Ok(person) => new_person(state, (&request(person), None), &given.secrets, caller, now)
                .map_err(|refusal| {
                    let whole = MemberError {
                        pointer: String::new(),
                        message: refusal.detail,
                    };
                    let errors = match refusal.errors.is_empty() {
                        true => vec![whole],
                        false => refusal.errors,
                    };
                    (refusal.code, errors)
                }),
        };
        let mut told = ImportedRow {
            row: row.row,
            email: row.email.clone(),
            status: "refused".to_owned(),
            password: None,
            access_key: None,
            secret_key: None,
            errors: Vec::new(),
        };
        match made {
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
