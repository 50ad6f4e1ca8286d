//! TOML, by the toml crate.

use super::{MAX_DEPTH, Problem};
use crate::tree::{Entry, Mark, Node, Places, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub(super) fn read(text: &str) -> Result<Node, Problem> {
    let table = DeTable::parse(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let at = Places::of(text).mark(start);
        if error.message().contains("duplicate key") {
            let name = text[start..].lines().next().unwrap_or_default();
            let end = name.find(['=', ']', '.', ' ']).unwrap_or(name.len());
            return Problem::twice(at, &[name[..end].trim_matches(['"', '\'']).to_owned()]);
        }
        let said = error.message().trim().replace('\n', "; ");
        Problem::syntax(at, format!("Not TOML: {said}."))
    })?;
    let places = Places::of(text);
    map(table.get_ref(), Mark { line: 1, column: 1 }, &places, 0)
}

fn map(table: &DeTable<'_>, at: Mark, places: &Places<'_>, depth: usize) -> Result<Node, Problem> {
    // The crate keeps its tables sorted by name; the order of the text is that of the places.
    let mut members: Vec<_> = table.iter().collect();
    members.sort_by_key(|(name, _)| name.span().start);
    let mut entries = Vec::with_capacity(members.len());
    for (name, member) in members {
        entries.push(Entry {
            name: name.get_ref().to_string(),
            at: places.mark(name.span().start),
            node: value(member, places, depth + 1)?,
        });
    }
    let value = Value::Map(entries);
    Ok(Node { at, value })
}

fn value(item: &Spanned<DeValue<'_>>, places: &Places<'_>, depth: usize) -> Result<Node, Problem> {
    let at = places.mark(item.span().start);
    if depth > MAX_DEPTH {
        return Err(Problem::too_deep(at));
    }
    let value = match item.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(value) => Value::Bool(*value),
        // The letters are kept: where text is wanted they are the text.
        DeValue::Integer(number) => Value::Number(match number.radix() {
            2 => format!("0b{}", number.as_str()),
            8 => format!("0o{}", number.as_str()),
            16 => format!("0x{}", number.as_str()),
            _ => number.as_str().to_owned(),
        }),
        DeValue::Float(number) => Value::Number(number.as_str().to_owned()),
        DeValue::Datetime(time) => Value::Text(time.to_string()),
        DeValue::Array(items) => {
            let items = items.iter().map(|i| value_of(i, places, depth));
            Value::List(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => return map(table, at, places, depth),
    };
    Ok(Node { at, value })
}

fn value_of(
    item: &Spanned<DeValue<'_>>,
    places: &Places<'_>,
    depth: usize,
) -> Result<Node, Problem> {
    value(item, places, depth + 1)
}
