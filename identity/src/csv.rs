//! People from a table (`POST /users/import`), and cells that no spreadsheet runs.
//!
//! Read strictly by RFC 4180: a quotation mark out of place would make one row swallow the
//! next ones, and with `?partial=true` nobody would see that they are missing.

use crate::fields::{self, UserInput, at, clean, fold};
use longshore_common::api::MemberError;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Most bytes of a file.
pub const BYTES_MAX: usize = 1_048_576;
/// Most rows below the header.
pub const ROWS_MAX: usize = 1000;
/// The columns that may be there, in any order; only `email` must.
pub const COLUMNS: [&str; 10] = [
    "email",
    "username",
    "full_name",
    "role",
    "domain",
    "projects",
    "user_policy",
    "keypair_policy",
    "description",
    "sudo_enabled",
];

/// What stands between several projects of a person, where they are no JSON list.
const PROJECTS: char = ';';

/// Errors of a header that are told at once; a header of commas alone would have a million.
const HEADER_ERRORS: usize = 20;
/// Characters of a refused name or address that are repeated in an answer.
const ECHO: usize = 64;

/// The file as a whole is refused (422 `LS-INVALID`; 413 for [`FileError::TooLarge`]).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Over 1 MiB.
    #[error("The file must be at most 1 MiB.")]
    TooLarge,
    /// Other bytes.
    #[error("The file is not UTF-8.")]
    NotUtf8,
    /// Over 1000 rows.
    #[error("The file must have at most 1000 rows below the header.")]
    TooManyRows,
    /// Nothing in it.
    #[error("The file is empty; its first row names the columns.")]
    Empty,
    /// A header and nothing below it.
    #[error("The file has a header and no rows below it, so there is nobody to make.")]
    NoRows,
    /// A quotation mark within a cell that does not begin with one, or text behind the one
    /// that closes a cell.
    #[error("Row {0} has a quotation mark out of place.")]
    Quotes(u32),
    /// The last cell begins with a quotation mark and never ends.
    #[error("Row {0} has a quoted cell that is not closed.")]
    Open(u32),
    /// Columns that are unknown, missing, or there twice.
    #[error("The header has errors.")]
    Header(Vec<MemberError>),
}

/// A person as a row describes it: text without outer white space, absent where the cell is
/// empty. Whether it can be made is for the rules of a new person to say.
#[derive(Debug, Clone, Default)]
pub struct NewPerson {
    /// Address.
    pub email: Option<String>,
    /// Absent: the address.
    pub username: Option<String>,
    /// For people.
    pub full_name: Option<String>,
    /// Absent: user.
    pub role: Option<String>,
    /// Absent: the default domain.
    pub domain: Option<String>,
    /// Without duplicates, in the order given.
    pub projects: Vec<String>,
    /// Absent: the default.
    pub user_policy: Option<String>,
    /// Absent: the default.
    pub keypair_policy: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// Default: false.
    pub sudo_enabled: bool,
}

/// A row below the header.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its number; the header is row 1. Empty lines have none.
    pub row: u32,
    /// As written, cut at 64 characters; for the answer.
    pub email: String,
    /// What it says.
    pub person: NewPerson,
    /// Every violation that the file alone tells.
    pub errors: Vec<MemberError>,
}

/// Reads a file.
///
/// # Errors
/// [`FileError`]; errors of single rows stand in the rows.
pub fn parse(bytes: &[u8]) -> Result<Vec<Row>, FileError> {
    if bytes.len() > BYTES_MAX {
        return Err(FileError::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| FileError::NotUtf8)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    well_quoted(text.as_bytes())?;
    let mut records = ::csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes())
        .into_records()
        // Reading memory that is UTF-8, with rows of any length, has no errors left.
        .map_while(Result::ok);
    let header = records.next().ok_or(FileError::Empty)?;
    let columns = columns(&header)?;
    let mut rows = Vec::new();
    let mut seen = BTreeMap::new();
    for (row, record) in (2_u32..).zip(records) {
        if rows.len() == ROWS_MAX {
            return Err(FileError::TooManyRows);
        }
        let cells = Cells {
            columns: &columns,
            record: &record,
        };
        rows.push(person(row, &cells, header.len(), &mut seen));
    }
    if rows.is_empty() {
        return Err(FileError::NoRows);
    }
    Ok(rows)
}

/// Where each column stands.
fn columns(header: &::csv::StringRecord) -> Result<BTreeMap<&'static str, usize>, FileError> {
    let mut columns = BTreeMap::new();
    let mut errors = Vec::new();
    for (index, name) in header.iter().enumerate() {
        let name = clean(name);
        let known = COLUMNS.into_iter().find(|column| *column == name);
        let echo: String = name.chars().take(ECHO).collect();
        let message = match known {
            None => format!("Column {echo} is not known."),
            Some(column) if columns.insert(column, index).is_none() => continue,
            Some(column) => format!("Column {column} is there twice."),
        };
        errors.extend(at(&pointer(&echo), [message]));
        if errors.len() == HEADER_ERRORS {
            return Err(FileError::Header(errors));
        }
    }
    if !columns.contains_key("email") {
        errors.extend(at("/email", ["Column email is required."]));
    }
    if errors.is_empty() {
        Ok(columns)
    } else {
        Err(FileError::Header(errors))
    }
}

/// A JSON pointer (RFC 6901) to a member of this name.
fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

struct Cells<'a> {
    columns: &'a BTreeMap<&'static str, usize>,
    record: &'a ::csv::StringRecord,
}

impl Cells<'_> {
    /// The clean text of a cell; none if it is empty or there is no such column.
    fn get(&self, column: &str) -> Option<String> {
        let cell = self.record.get(*self.columns.get(column)?)?;
        let text = clean(&unmarked(cell));
        (!text.is_empty()).then_some(text)
    }
}

/// Which row first used a login name, by its folded form.
type Seen = BTreeMap<String, u32>;

fn person(row: u32, cells: &Cells<'_>, width: usize, seen: &mut Seen) -> Row {
    let mut person = NewPerson {
        email: cells.get("email"),
        username: cells.get("username"),
        full_name: cells.get("full_name"),
        role: cells.get("role"),
        domain: cells.get("domain"),
        user_policy: cells.get("user_policy"),
        keypair_policy: cells.get("keypair_policy"),
        description: cells.get("description"),
        ..NewPerson::default()
    };
    let mut errors = Vec::new();
    let found = cells.record.len();
    if found != width {
        let message = format!("Row has {found} cells, the header has {width}.");
        errors.extend(at("", [message]));
    }
    let checked = fields::new_user(&UserInput {
        email: person.email.as_deref(),
        username: person.username.as_deref(),
        password: None,
        full_name: person.full_name.as_deref(),
        description: person.description.as_deref(),
        role: person.role.as_deref(),
    });
    errors.extend(checked.err().into_iter().flatten());
    match cells.get("sudo_enabled").as_deref() {
        None | Some("false") => (),
        Some("true") => person.sudo_enabled = true,
        Some(_) => errors.extend(at("/sudo_enabled", ["Sudo enabled must be true or false."])),
    }
    let [email, username] = [&person.email, &person.username].map(Option::as_deref);
    errors.extend(duplicates(row, email, username, seen));
    match projects(&cells.get("projects").unwrap_or_default()) {
        Some(projects) => person.projects = projects,
        None => {
            let message = "Projects must be names with ; between, or a JSON list of names.";
            errors.extend(at("/projects", [message]));
        }
    }
    Row {
        row,
        email: email.unwrap_or_default().chars().take(ECHO).collect(),
        person,
        errors,
    }
}

/// The projects of a cell, each once: names with `;` between, or a JSON list of names as an
/// export writes it. None = a list that cannot be read.
fn projects(cell: &str) -> Option<Vec<String>> {
    // No name begins with a bracket.
    let names: Vec<String> = match cell.trim_start().starts_with('[') {
        true => serde_json::from_str(cell).ok()?,
        false => cell.split(PROJECTS).map(str::to_owned).collect(),
    };
    let mut projects = Vec::new();
    for name in &names {
        let name = clean(name);
        if !name.is_empty() && !projects.contains(&name) {
            projects.push(name);
        }
    }
    Some(projects)
}

/// Login names of this row that an earlier row has, as address or user name.
fn duplicates(
    row: u32,
    email: Option<&str>,
    username: Option<&str>,
    seen: &mut Seen,
) -> Vec<MemberError> {
    let mut errors = Vec::new();
    for (name, kind, pointer) in [
        (email, "Email", "/email"),
        (username, "Username", "/username"),
    ] {
        let Some(name) = name else { continue };
        match *seen.entry(fold(name)).or_insert(row) {
            first if first == row => (), // also the user name that is the own address
            first => {
                let name: String = name.chars().take(ECHO).collect();
                let message = format!("{kind} {name} is also in row {first}.");
                errors.extend(at(pointer, [message]));
            }
        }
    }
    errors
}

/// Checks that quotation marks stand at the ends of cells only, and in pairs within.
fn well_quoted(text: &[u8]) -> Result<(), FileError> {
    #[derive(PartialEq)]
    enum In {
        Start,
        Plain,
        Quoted,
        Closed,
    }
    let (mut state, mut row, mut empty) = (In::Start, 1_u32, true);
    for byte in text {
        let ends_cell = matches!(byte, b',' | b'\r' | b'\n');
        state = match (&state, byte) {
            (In::Start, b'"') | (In::Closed, b'"') => In::Quoted,
            (In::Quoted, b'"') => In::Closed,
            (In::Quoted, _) => In::Quoted,
            (In::Start | In::Plain | In::Closed, _) if ends_cell => In::Start,
            (In::Closed, _) | (In::Plain, b'"') => return Err(FileError::Quotes(row)),
            (In::Start | In::Plain, _) => In::Plain,
        };
        // Rows are counted as the reader counts them: an empty line is none.
        if state == In::Start && matches!(byte, b'\r' | b'\n') {
            row += u32::from(!empty);
            empty = true;
        } else {
            empty = false;
        }
    }
    if state == In::Quoted {
        return Err(FileError::Open(row));
    }
    Ok(())
}

/// Whether a spreadsheet would run the cell, apart from marks that are there already.
fn is_formula(cell: &str) -> bool {
    cell.trim_start_matches('\'')
        .starts_with(['=', '+', '-', '@', '\t', '\r'])
}

/// A cell as text in every spreadsheet: `'` stands before one that starts with `=`, `+`,
/// `-`, `@`, tab or carriage return. One more stands before what looks as if it were
/// marked already, so that [`unmarked`] gives back any text.
#[must_use]
pub fn marked(cell: &str) -> Cow<'_, str> {
    if is_formula(cell) {
        Cow::Owned(format!("'{cell}"))
    } else {
        Cow::Borrowed(cell)
    }
}

/// Takes the mark of [`marked`] off again.
#[must_use]
pub fn unmarked(cell: &str) -> Cow<'_, str> {
    match cell.strip_prefix('\'') {
        Some(rest) if is_formula(rest) => Cow::Borrowed(rest),
        _ => Cow::Borrowed(cell),
    }
}

/// A line of an export: every cell marked and quoted, ended by CR LF.
#[must_use]
pub fn line<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let cells: Vec<String> = cells
        .into_iter()
        .map(|cell| format!("\"{}\"", marked(cell).replace('"', "\"\"")))
        .collect();
    cells.join(",") + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(row: &Row) -> Vec<String> {
        assert!(!row.errors.is_empty(), "the row is refused");
        row.errors
            .iter()
            .map(|e| format!("{} {}", e.pointer, e.message))
            .collect()
    }

    #[test]
    fn columns_in_any_order_with_defaults() {
        let file = "\u{feff}projects,email,sudo_enabled,role,full_name,domain,user_policy,keypair_policy,description,username\r\n\
            vision; nlp;vision;,dana@lab.example,true,monitor,\"Dana, \"\"D\"\"\",lab,big,small,'=1+1,dana\r\n\
            \r\n\
            ,erin@lab.example,,,,,,,,\r\n";
        let rows = parse(file.as_bytes()).unwrap();
        assert_eq!(rows.iter().map(|r| r.row).collect::<Vec<_>>(), [2, 3]);
        let dana = &rows[0].person;
        assert_eq!(dana.email.as_deref(), Some("dana@lab.example"));
        assert_eq!(dana.username.as_deref(), Some("dana"));
        assert_eq!(dana.full_name.as_deref(), Some("Dana, \"D\""));
        assert_eq!(dana.description.as_deref(), Some("=1+1"));
        assert_eq!(dana.role.as_deref(), Some("monitor"));
        assert_eq!(dana.projects, ["vision", "nlp"]);
        assert_eq!(dana.domain.as_deref(), Some("lab"));
        assert_eq!(dana.user_policy.as_deref(), Some("big"));
        assert_eq!(dana.keypair_policy.as_deref(), Some("small"));
        assert!(dana.sudo_enabled && rows.iter().all(|row| row.errors.is_empty()));
        let erin = &rows[1].person;
        assert_eq!(erin.username, None);
        assert!(erin.projects.is_empty() && erin.domain.is_none() && !erin.sudo_enabled);
    }

    #[test]
    fn projects_are_names_or_a_list_of_them() {
        let read = |cell: &str| {
            let rows = parse(format!("email,projects\na@lab.example,{cell}\n").as_bytes()).unwrap();
            let errors = rows[0].errors.iter().map(|e| e.pointer.clone());
            (rows[0].person.projects.clone(), errors.collect::<Vec<_>>())
        };
        let both = || vec!["vision".to_owned(), "nlp".to_owned()];
        for cell in [
            "vision;nlp",
            "vision; nlp;vision;",
            r#""[""vision"",""nlp""]""#,
            r#"" [ ""vision"" , "" nlp"", ""vision"", """" ] ""#,
        ] {
            assert_eq!(read(cell), (both(), vec![]), "{cell}");
        }
        for cell in ["", "[]", r#""[""""]""#] {
            assert_eq!(read(cell), (vec![], vec![]), "{cell}");
        }
        for cell in ["[vision]", r#""[""vision""""#, "[1]", r#""[[""vision""]]""#] {
            assert_eq!(read(cell), (vec![], vec!["/projects".to_owned()]), "{cell}");
        }
    }

    #[test]
    fn headers_are_checked_all_at_once() {
        let errors = |file: &str| match parse(file.as_bytes()).unwrap_err() {
            FileError::Header(errors) => errors
                .into_iter()
                .map(|e| format!("{} {}", e.pointer, e.message))
                .collect::<Vec<_>>(),
            other => panic!("{other}"),
        };
        assert_eq!(
            errors("password,role,role,a/b~\n"),
            [
                "/password Column password is not known.",
                "/role Column role is there twice.",
                "/a~1b~0 Column a/b~ is not known.",
                "/email Column email is required.",
            ]
        );
        assert_eq!(errors(&",".repeat(100_000)).len(), HEADER_ERRORS);
        assert_eq!(errors(&"x".repeat(100_000))[0].len(), 1 + 64 + 8 + 64 + 14);
    }

    #[test]
    fn files_are_refused_as_a_whole() {
        let of = |bytes: &[u8]| parse(bytes).unwrap_err();
        assert_eq!(of(b""), FileError::Empty);
        assert_eq!(of(b"\xef\xbb\xbf\n\n"), FileError::Empty);
        assert_eq!(of(b"email\n\xff\n"), FileError::NotUtf8);
        assert_eq!(of(&vec![b'x'; BYTES_MAX + 1]), FileError::TooLarge);
        assert_eq!(of(b"email\n\na@b\n\"c@d\ne@f\n"), FileError::Open(3));
        assert_eq!(of(b"email\na\"@b\"\n"), FileError::Quotes(2));
        assert_eq!(of(b"email\n\"a\"b\n"), FileError::Quotes(2));
        let rows = |n: usize| {
            let lines: String = (0..n).map(|i| format!("u{i}@lab.example\n")).collect();
            parse(format!("email\n{lines}").as_bytes())
        };
        assert_eq!(rows(1000).unwrap().len(), 1000);
        assert_eq!(rows(1001).unwrap_err(), FileError::TooManyRows);
        assert_eq!(of(b"email\n"), FileError::NoRows);
    }

    #[test]
    fn rows_name_every_error() {
        let rows = parse(
            b"email,username,role,sudo_enabled\n\
              nobody,a b,boss,maybe\n\
              ,,,\n\
              a@b,a,user\n\
              a@b,b,user,false,more\n",
        )
        .unwrap();
        assert_eq!(
            refused(&rows[0]),
            [
                "/email Email is not a valid address.",
                "/username Username may contain only letters, digits and . _ @ + - and must start with a letter or digit.",
                "/role Role must be superadmin, domain-admin, monitor or user.",
                "/sudo_enabled Sudo enabled must be true or false.",
            ]
        );
        assert_eq!(rows[0].email, "nobody");
        assert_eq!(refused(&rows[1]), ["/email Email is required."]);
        assert_eq!(refused(&rows[2]), [" Row has 3 cells, the header has 4."]);
        assert_eq!(
            refused(&rows[3]),
            [
                " Row has 5 cells, the header has 4.",
                "/email Email a@b is also in row 4.",
            ]
        );
    }

    #[test]
    fn duplicates_are_told_at_the_later_row() {
        let rows = parse(
            b"email,username\n\
              dana@lab.example,\n\
              DANA@lab.example,dana\n\
              erin@lab.example,Dana@Lab.example\n\
              fay@lab.example,DANA\n\
              gil@lab.example,gil@lab.example\n",
        )
        .unwrap();
        assert!(rows[0].errors.is_empty() && rows[4].errors.is_empty());
        assert_eq!(
            refused(&rows[1]),
            ["/email Email DANA@lab.example is also in row 2."]
        );
        assert_eq!(
            refused(&rows[2]),
            ["/username Username Dana@Lab.example is also in row 2."]
        );
        assert_eq!(
            refused(&rows[3]),
            ["/username Username DANA is also in row 3."]
        );
    }

    #[test]
    fn cells_are_text_in_every_spreadsheet() {
        for formula in ["=1+1", "+1", "-1", "@x", "\tx", "\rx"] {
            assert_eq!(marked(formula), format!("'{formula}"));
        }
        for text in ["", "a=b", " =1", "'quoted", "1"] {
            assert_eq!(marked(text), text);
        }
        assert_eq!(
            line(["a", "=\"x\"", "b,c\nd"]),
            "\"a\",\"'=\"\"x\"\"\",\"b,c\nd\"\r\n"
        );
    }

    proptest! {
        #[test]
        fn marks_come_off_again(cell in "['=+@\t\r a-]{0,6}") {
            let written = marked(&cell).into_owned();
            prop_assert!(!written.starts_with(['=', '+', '-', '@', '\t', '\r']));
            prop_assert_eq!(unmarked(&written), cell);
        }

        #[test]
        fn what_is_written_is_read(cells in proptest::collection::vec(any::<String>(), 1..5)) {
            let text = line(cells.iter().map(String::as_str));
            well_quoted(text.as_bytes()).unwrap();
            let mut reader = ::csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
            let record = reader.records().next().unwrap().unwrap();
            let read: Vec<_> = record.iter().map(|cell| unmarked(cell).into_owned()).collect();
            prop_assert_eq!(read, cells);
        }

        #[test]
        fn nothing_panics(bytes in any::<Vec<u8>>(), text in "(email|username|[\",\r\n'=a@b])*") {
            let _ = parse(&bytes);
            let _ = parse(text.as_bytes());
            let _ = parse(format!("email,username\n{text}").as_bytes());
        }

        #[test]
        fn rows_are_numbered_as_they_are_read(text in "([ab,\r\n]|\"[ab,\r\n]*\"){0,40}") {
            // A mark out of place at the end is in the row that the reader is in there.
            let rows = ::csv::ReaderBuilder::new().has_headers(false).flexible(true)
                .from_reader(text.as_bytes()).records().count();
            if well_quoted(text.as_bytes()).is_ok() {
                let wanted = u32::try_from(rows).unwrap() + 1;
                prop_assert_eq!(well_quoted(format!("{text}\n\"").as_bytes()), Err(FileError::Open(wanted)));
            }
        }
    }
}
