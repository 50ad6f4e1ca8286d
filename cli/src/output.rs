//! What people and scripts get to see: tables, JSON, and text without the
//! control characters that somebody else may have put into it.

use crate::columns::Wanted;
use crate::error::Failure;
use clap::ValueEnum;
use longshore_common::amount::{SlotKind, SlotName, format_bytes_short};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    Table,
    /// More columns.
    Wide,
    /// The API's objects, unchanged.
    Json,
    /// The same, one object per line.
    Jsonl,
    /// The same as YAML.
    Yaml,
    /// The columns of a list, separated by commas (RFC 4180).
    Csv,
    /// Ids or names only.
    Name,
}

/// Where and how a command prints its data.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// Which form.
    pub(crate) format: Format,
    /// Whether tables begin with their column names.
    pub(crate) headers: bool,
    /// Columns and order of lists.
    pub(crate) wanted: Wanted,
}

/// A table: column names, and one row per object.
#[derive(Debug, Default)]
pub(crate) struct Table {
    headers: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty one with these columns.
    pub(crate) fn new(headers: &[&'static str]) -> Self {
        Self::titled(headers.iter().map(|header| (*header).to_owned()).collect())
    }

    /// The same for names that were typed.
    pub(crate) fn titled(headers: Vec<String>) -> Self {
        let headers = headers.iter().map(|header| clean(header)).collect();
        Self {
            headers,
            rows: Vec::new(),
        }
    }

    /// The names of the columns.
    pub(crate) fn headers(&self) -> &[String] {
        &self.headers
    }

    /// The cells.
    pub(crate) fn rows(&self) -> &[Vec<String>] {
        &self.rows
    }

    /// Adds a row; what it holds is cleaned here, so that no caller forgets it.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.headers.len());
        self.rows
            .push(cells.iter().map(|cell| clean(cell)).collect());
    }

    /// Rows of cells between commas, all quoted. What a spreadsheet would run gets a leading
    /// apostrophe.
    pub(crate) fn csv(&self, headers: bool) -> String {
        let cell = |text: &String| {
            let runs = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
            // A number is none, whatever its sign.
            let guard = if runs && text.parse::<f64>().is_err() {
                "'"
            } else {
                ""
            };
            format!("\"{guard}{}\"", text.replace('"', "\"\""))
        };
        let line = |cells: &Vec<String>| {
            let cells: Vec<String> = cells.iter().map(cell).collect();
            cells.join(",") + "\r\n"
        };
        let head = std::iter::once(&self.headers).filter(|_| headers);
        head.chain(&self.rows).map(line).collect()
    }

    /// Aligned columns; the last one is cut to `width` when there is one.
    pub(crate) fn render(&self, headers: bool, width: Option<usize>) -> String {
        let columns = self.headers.len();
        let widths: Vec<usize> = (0..columns)
            .map(|column| {
                let head = if headers {
                    self.headers[column].chars().count()
                } else {
                    0
                };
                let cells = self.rows.iter().map(|row| row[column].chars().count());
                cells.chain([head]).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        let mut line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut out = String::new();
            for (column, cell) in cells.enumerate() {
                // A column in which nothing stands at all takes no room.
                if widths[column] == 0 {
                    continue;
                }
                out.push_str(cell);
                if column + 1 < columns {
                    let pad = widths[column] - cell.chars().count() + 2;
                    out.extend(std::iter::repeat_n(' ', pad));
                }
            }
            let out = out.trim_end();
            match width {
                Some(width) if out.chars().count() > width && width > 1 => {
                    text.extend(out.chars().take(width - 1));
                    text.push('…');
                }
                Some(_) | None => text.push_str(out),
            }
            text.push('\n');
        };
        if headers {
            line(&mut self.headers.iter().map(String::as_str));
        }
        for row in &self.rows {
            line(&mut row.iter().map(String::as_str));
        }
        text
    }
}

impl Output {
    /// Prints a list: as JSON, by name, or as the table that `table` makes of it.
    pub(crate) fn list(
        &self,
        items: &[Value],
        name: &str,
        table: impl FnOnce() -> Result<Table, Failure>,
    ) -> Result<(), Failure> {
        if !self.wanted.is_empty() {
            let (items, table) = self.wanted.of(items, &table()?)?;
            return self.items(&items, name, || Ok(table));
        }
        self.items(items, name, table)
    }

    fn items(
        &self,
        items: &[Value],
        name: &str,
        table: impl FnOnce() -> Result<Table, Failure>,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => print_json(&Value::Array(items.to_vec())),
            Format::Yaml => print_yaml(&Value::Array(items.to_vec())),
            Format::Csv => print(&table()?.csv(self.headers)),
            Format::Jsonl => {
                let lines: Vec<String> = items.iter().map(Value::to_string).collect();
                print_lines(&lines)
            }
            Format::Name => {
                let lines: Vec<String> = items
                    .iter()
                    .filter_map(|item| match item.get(name)? {
                        Value::String(text) => Some(clean(text)),
                        Value::Number(number) => Some(number.to_string()),
                        _ => None,
                    })
                    .collect();
                print_lines(&lines)
            }
            Format::Table | Format::Wide => self.table(&table()?),
        }
    }

    /// Prints one object: as JSON, by name, or as the text that `text` makes of it.
    pub(crate) fn object(
        &self,
        item: &Value,
        name: &str,
        text: impl FnOnce() -> Result<String, Failure>,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => print_json(item),
            Format::Yaml => print_yaml(item),
            Format::Csv => Err(Failure::usage("-o csv is for lists")
                .hint("-o json and -o yaml show one thing whole")),
            Format::Jsonl => print_lines(&[item.to_string()]),
            Format::Name => print_lines(&[clean(
                item.get(name).and_then(Value::as_str).unwrap_or_default(),
            )]),
            Format::Table | Format::Wide => print(&text()?),
        }
    }

    /// Prints a table.
    pub(crate) fn table(&self, table: &Table) -> Result<(), Failure> {
        let width = std::io::stdout()
            .is_terminal()
            .then(|| width_of(std::io::stdout()));
        print(&table.render(self.headers, width))
    }

    /// Whether somebody wants the API's objects as they are.
    pub(crate) const fn is_json(&self) -> bool {
        matches!(self.format, Format::Json | Format::Jsonl | Format::Yaml)
    }

    /// Prints an answer as it is: as YAML if that is asked for, else as JSON.
    pub(crate) fn value(&self, value: &Value) -> Result<(), Failure> {
        match self.format {
            Format::Yaml => print_yaml(value),
            _ => print_json(value),
        }
    }
}

/// Writes to standard output. A reader that went away ends the program quietly.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    write_bytes(text.as_bytes())
}

/// Writes bytes to standard output and flushes.
pub(crate) fn write_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let done = out.write_all(bytes).and_then(|()| out.flush());
    match done {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            // What a program does whose reader (`head`) has seen enough.
            std::process::exit(141)
        }
        done => Ok(done?),
    }
}

fn print_lines(lines: &[String]) -> Result<(), Failure> {
    let mut text = lines.join("\n");
    if !lines.is_empty() {
        text.push('\n');
    }
    print(&text)
}

/// Prints a JSON value for people and programs.
pub(crate) fn print_json(value: &Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
}

fn print_yaml(value: &Value) -> Result<(), Failure> {
    let text = serde_saphyr::to_string(value).map_err(|error| {
        Failure::failed(format!("the answer cannot be written as YAML: {error}"))
    })?;
    print(&text)
}

/// Width of a terminal, 80 when it does not say.
pub(crate) fn width_of(terminal: impl std::os::fd::AsFd) -> usize {
    match rustix::termios::tcgetwinsize(terminal) {
        Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
        Ok(_) | Err(_) => 80,
    }
}

/// Text from elsewhere without control and direction characters, on one line.
pub(crate) fn clean(text: &str) -> String {
    text.chars()
        .filter_map(|c| match c {
            '\n' | '\t' => Some(' '),
            c if c.is_control() => None,
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' => None,
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
            c => Some(c),
        })
        .collect()
}

/// The same for several lines.
pub(crate) fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

/// `H100 80GB` of `NVIDIA H100 80GB HBM3`: what tells GPUs apart on one screen.
pub(crate) fn short_model(model: &str) -> String {
    let model = clean(model);
    model.strip_prefix("NVIDIA ").unwrap_or(&model).to_owned()
}

/// One amount for people: `16 GB` of memory, `0.5` of a GPU.
pub(crate) fn amount(slot: &str, text: &str) -> String {
    let bytes = slot
        .parse::<SlotName>()
        .is_ok_and(|name| name.kind() == SlotKind::Bytes);
    match text.parse::<i64>() {
        Ok(value) if bytes => format_bytes_short(value),
        Ok(_) | Err(_) => clean(text),
    }
}

/// Amounts for people: `cpu 15, mem 60 GB, cuda.device 2`.
pub(crate) fn amounts(slots: &BTreeMap<String, String>) -> String {
    let first = ["cpu", "mem"]
        .iter()
        .filter_map(|name| slots.get_key_value(*name));
    let rest = slots
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "cpu" | "mem"));
    first
        .chain(rest)
        .map(|(slot, text)| format!("{} {}", clean(slot), amount(slot, text)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The accelerators alone: `2`, or with the slot's name when it is not whole CUDA GPUs.
pub(crate) fn gpus(slots: &BTreeMap<String, String>) -> String {
    slots
        .iter()
        .filter(|(slot, text)| !matches!(slot.as_str(), "cpu" | "mem") && *text != "0")
        .map(|(slot, text)| match slot.as_str() {
            "cuda.device" | "cuda.shares" => clean(text),
            _ => format!("{} {}", clean(text), clean(slot)),
        })
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_clean() {
        let mut table = Table::new(&["ID", "NAME", "EMPTY", "NOTE"]);
        table.row(vec![
            "s-1".into(),
            "tr\u{1b}[2Jain".into(),
            String::new(),
            "a\nb".into(),
        ]);
        table.row(vec![
            "s-22".into(),
            String::new(),
            String::new(),
            "long text here".into(),
        ]);
        assert_eq!(
            table.render(true, None),
            "ID    NAME      EMPTY  NOTE\ns-1   tr[2Jain         a b\ns-22                   long text here\n"
        );
        assert_eq!(
            table.render(false, Some(20)),
            "s-1   tr[2Jain  a b\ns-22            lon…\n"
        );
    }

    #[test]
    fn cells_of_csv_are_quoted_and_run_nothing() {
        let mut table = Table::new(&["NAME", "N"]);
        table.row(vec!["a \"b\", c".into(), "-1.5".into()]);
        table.row(vec!["=1+1".into(), String::new()]);
        assert_eq!(
            table.csv(true),
            "\"NAME\",\"N\"\r\n\"a \"\"b\"\", c\",\"-1.5\"\r\n\"'=1+1\",\"\"\r\n"
        );
        assert_eq!(table.csv(false).lines().count(), 2);
    }

    #[test]
    fn amounts_for_people() {
        let slots = BTreeMap::from([
            ("cuda.device".to_owned(), "2".to_owned()),
            ("mem".to_owned(), "17179869184".to_owned()),
            ("cpu".to_owned(), "4".to_owned()),
        ]);
        assert_eq!(amounts(&slots), "cpu 4, mem 16 GB, cuda.device 2");
        assert_eq!(gpus(&slots), "2");
    }

    #[test]
    fn direction_characters_are_dropped() {
        assert_eq!(clean("a\u{202e}b\u{7}c\u{9b}d"), "abcd");
    }
}
