//! Rows of figures, as a table and as JSON.

use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

/// What a figure should be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

/// What the target is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    /// The median of ours.
    Ours,
    /// The median of the pairs' ratios.
    Ratio,
}

/// One line of the table.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    name: String,
    what: String,
    unit: &'static str,
    ours: Vec<f64>,
    floor: Option<(String, Vec<f64>)>,
    target: Option<(Of, Target)>,
    note: String,
    censored: bool,
}

impl Row {
    pub(crate) fn new(name: &str, what: &str, unit: &'static str, ours: Vec<f64>) -> Self {
        Self {
            name: name.to_owned(),
            what: what.to_owned(),
            unit,
            ours,
            floor: None,
            target: None,
            note: String::new(),
            censored: false,
        }
    }

    /// Figures of the floor or peer, each taken beside the one of ours at the same place.
    pub(crate) fn beside(mut self, label: &str, figures: Vec<f64>) -> Self {
        self.floor = Some((label.to_owned(), figures));
        self
    }

    pub(crate) fn target(mut self, of: Of, target: Target) -> Self {
        self.target = Some((of, target));
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    pub(crate) fn censored(name: &str, after: Duration) -> Self {
        let mut row = Self::new(name, "", "", Vec::new());
        row.censored = true;
        row.note = format!("cut after {} s", after.as_secs());
        row
    }

    pub(crate) fn failed(name: &str, why: String) -> Self {
        Self::new(name, "could not be measured", "", Vec::new()).note(why)
    }

    fn ratios(&self) -> Vec<f64> {
        let Some((_, floor)) = &self.floor else {
            return Vec::new();
        };
        self.ours
            .iter()
            .zip(floor)
            .filter(|(_, floor)| **floor > 0.0)
            .map(|(ours, floor)| ours / floor)
            .collect()
    }

    fn met(&self) -> Option<bool> {
        let (of, target) = self.target?;
        let figure = match of {
            Of::Ours => quantile(&self.ours, 0.5),
            Of::Ratio => quantile(&self.ratios(), 0.5),
        }?;
        Some(match target {
            Target::AtMost(most) => figure <= most,
            Target::AtLeast(least) => figure >= least,
        })
    }

    fn cells(&self) -> [String; 8] {
        let number = |figures: &[f64]| {
            quantile(figures, 0.5).map_or_else(
                || if self.censored { "CENSORED" } else { "-" }.to_owned(),
                |median| format!("{} {}", short(median), self.unit),
            )
        };
        let ratios = self.ratios();
        let ratio = match (
            quantile(&ratios, 0.0),
            quantile(&ratios, 0.5),
            quantile(&ratios, 1.0),
        ) {
            (Some(least), Some(median), Some(most)) => {
                format!("{} [{}..{}]", short(median), short(least), short(most))
            }
            _ => "-".to_owned(),
        };
        let target = self.target.map_or_else(
            || "-".to_owned(),
            |(of, target)| {
                let of = match of {
                    Of::Ours => "",
                    Of::Ratio => "ratio ",
                };
                match target {
                    Target::AtMost(most) => format!("{of}≤ {}", short(most)),
                    Target::AtLeast(least) => format!("{of}≥ {}", short(least)),
                }
            },
        );
        let met = match self.met() {
            None => "-",
            Some(true) => "yes",
            Some(false) => "NO",
        };
        [
            self.name.clone(),
            self.what.clone(),
            number(&self.ours),
            self.floor
                .as_ref()
                .map_or_else(|| "-".to_owned(), |(_, figures)| number(figures)),
            ratio,
            self.ours.len().to_string(),
            target,
            met.to_owned(),
        ]
    }

    fn document(&self) -> Value {
        let floor = self.floor.as_ref();
        json!({
            "name": self.name,
            "what": self.what,
            "unit": self.unit,
            "n": self.ours.len(),
            "ours": self.ours,
            "floor": floor.map(|(_, figures)| figures),
            "floor_is": floor.map(|(label, _)| label),
            "ratios": self.ratios(),
            "met": self.met(),
            "censored": self.censored,
            "note": self.note,
        })
    }
}

/// The value below which this share of the figures lies; the nearest that was measured.
pub(crate) fn quantile(figures: &[f64], share: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a place in a list of some thousand figures"
    )]
    let at = (last as f64 * share).round() as usize;
    sorted.get(at.min(last)).copied()
}

/// Three digits that say something.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// The table, with the notes below it.
pub(crate) fn table(rows: &[Row]) -> String {
    let head = [
        "entry", "metric", "ours", "floor", "ratio", "n", "target", "met",
    ];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.iter().map(Row::cells));
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells: Vec<String> = line
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        let _ = writeln!(text, "{}", cells.join("  ").trim_end()); // a String takes everything
    }
    text.push('\n');
    for row in rows {
        let floor = row
            .floor
            .as_ref()
            .map(|(label, _)| format!("floor: {label}"));
        let note = Some(row.note.clone()).filter(|n| !n.is_empty());
        let notes: Vec<String> = [floor, note].into_iter().flatten().collect();
        if !notes.is_empty() {
            let _ = writeln!(text, "{} ({}): {}", row.name, row.what, notes.join("; "));
        }
    }
    text
}

/// Everything, raw.
pub(crate) fn document(rows: &[Row], quick: bool) -> Value {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "quick": quick,
        "rows": rows.iter().map(Row::document).collect::<Vec<_>>(),
    })
}
