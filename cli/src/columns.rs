//! `--columns` and `--sort`: which columns of a list are shown, and in which order its rows
//! stand. A column is named as its heading is, or by a member of the API's objects.

use crate::error::Failure;
use crate::output::{Table, clean};
use serde_json::Value;
use std::cmp::Ordering;

/// What somebody asked of a list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// Names of columns; empty: those the table has.
    pub(crate) columns: Vec<String>,
    /// A column, with `-` before it the other way round.
    pub(crate) sort: Option<String>,
    /// The most rows; none: all.
    pub(crate) limit: Option<usize>,
}

impl Wanted {
    /// Whether nothing was asked.
    pub(crate) const fn is_empty(&self) -> bool {
        self.columns.is_empty() && self.sort.is_none() && self.limit.is_none()
    }

    /// The objects and the table as they were asked for.
    ///
    /// # Errors
    /// A column that neither the table nor the objects have.
    pub(crate) fn of(
        &self,
        items: &[Value],
        table: &Table,
    ) -> Result<(Vec<Value>, Table), Failure> {
        let mut order: Vec<usize> = (0..table.rows().len()).collect();
        if let Some(sort) = &self.sort {
            let (name, reverse) = match sort.strip_prefix('-') {
                Some(name) => (name, true),
                None => (sort.as_str(), false),
            };
            let cells = column(name, items, table)?;
            // Stable in both directions: what is equal stays as it came.
            order.sort_by(|a, b| {
                let found = compare(&cells[*a], &cells[*b]);
                if reverse { found.reverse() } else { found }
            });
        }
        let whole = order.len();
        order.truncate(self.limit.unwrap_or(whole));
        let names = match self.columns.as_slice() {
            [] => table.headers(),
            names => names,
        };
        let mut columns: Vec<Vec<String>> = Vec::new();
        for name in names {
            columns.push(column(name, items, table)?);
        }
        let mut sorted = Table::titled(names.iter().map(|name| heading(name)).collect());
        for at in &order {
            sorted.row(columns.iter().map(|cells| cells[*at].clone()).collect());
        }
        // A table may have other rows than there are objects; those stay as they came.
        let items = match items.len() == whole {
            true => order.iter().map(|at| items[*at].clone()).collect(),
            false => items.to_vec(),
        };
        Ok((items, sorted))
    }
}

/// `last_used` and `last-used` are `LAST USED`.
fn heading(name: &str) -> String {
    name.trim().to_uppercase().replace(['_', '-'], " ")
}

/// The cells of a column, one for each row.
fn column(name: &str, items: &[Value], table: &Table) -> Result<Vec<String>, Failure> {
    let (wanted, rows) = (heading(name), table.rows());
    if let Some(at) = table.headers().iter().position(|header| *header == wanted) {
        return Ok(rows.iter().map(|row| row[at].clone()).collect());
    }
    let member = wanted.to_lowercase().replace(' ', "_");
    let path = |item: &Value| {
        let found = member
            .split('/')
            .try_fold(item, |value, name| value.get(name));
        found.cloned()
    };
    let cells: Vec<Option<Value>> = items.iter().map(path).collect();
    // Nobody can say of a list without rows which members its objects would have.
    if cells.len() == rows.len() && (rows.is_empty() || cells.iter().any(Option::is_some)) {
        return Ok(cells.into_iter().map(text).collect());
    }
    let known: Vec<String> = table.headers().iter().map(|h| h.to_lowercase()).collect();
    let known: Vec<&str> = known
        .iter()
        .map(|h| h.trim())
        .filter(|h| !h.is_empty())
        .collect();
    Err(
        Failure::usage(format!("there is no column \"{}\"", clean(name))).hint(format!(
            "one of: {}, or a member that -o json shows",
            known.join(", ")
        )),
    )
}

fn text(value: Option<Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
    }
}

/// Numbers by their size, all else without regard to case.
fn compare(a: &str, b: &str) -> Ordering {
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) => a.total_cmp(&b),
        _ => a.to_lowercase().cmp(&b.to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn list() -> (Vec<Value>, Table) {
        let items = vec![
            json!({ "id": "p1", "name": "bob", "last_used": 9 }),
            json!({ "id": "p2", "name": "Ada", "last_used": 10, "note": { "a": "x" } }),
        ];
        let mut table = Table::new(&["NAME", "LAST USED"]);
        table.row(vec!["bob".to_owned(), "9".to_owned()]);
        table.row(vec!["Ada".to_owned(), "10".to_owned()]);
        (items, table)
    }

    fn shown(columns: &str, sort: Option<&str>) -> Result<(Vec<Value>, String), Failure> {
        let (items, table) = list();
        let columns = columns.split(',').filter(|name| !name.is_empty());
        let wanted = Wanted {
            columns: columns.map(str::to_owned).collect(),
            sort: sort.map(str::to_owned),
            limit: None,
        };
        let (items, table) = wanted.of(&items, &table)?;
        Ok((items, table.render(true, None)))
    }

    #[test]
    fn columns_by_heading_and_by_member() {
        let (_, text) = shown("last-used,id,note/a", None).unwrap();
        assert_eq!(
            text,
            "LAST USED  ID  NOTE/A\n9          p1\n10         p2  x\n"
        );
        let failure = shown("nmae", None).unwrap_err();
        assert_eq!(failure.exit, 2);
        assert_eq!(failure.text, "there is no column \"nmae\"");
        assert_eq!(
            failure.hint.unwrap(),
            "one of: name, last used, or a member that -o json shows"
        );
    }

    #[test]
    fn the_first_ones_in_the_order_that_was_asked_for() {
        let (items, table) = list();
        let wanted = Wanted {
            sort: Some("name".to_owned()),
            limit: Some(1),
            ..Wanted::default()
        };
        let (items, table) = wanted.of(&items, &table).unwrap();
        assert_eq!((items.len(), &items[0]["id"]), (1, &json!("p2")));
        assert_eq!(table.render(false, None), "Ada  10\n");
    }

    #[test]
    fn rows_in_the_order_that_was_asked_for() {
        let (items, text) = shown("", Some("name")).unwrap();
        assert_eq!(text, "NAME  LAST USED\nAda   10\nbob   9\n");
        assert_eq!(
            items[0]["id"], "p2",
            "JSON and names stand in the same order"
        );
        let by_number = shown("name", Some("LAST USED")).unwrap().1;
        assert_eq!(by_number, "NAME\nbob\nAda\n");
        let reverse = shown("name", Some("-id")).unwrap().1;
        assert_eq!(reverse, "NAME\nAda\nbob\n");
        assert_eq!(shown("", Some("size")).unwrap_err().exit, 2);
    }
}
