//! Figures as Prometheus reads them: the text format, version 0.0.4. Pure.
//!
//! | input | output |
//! |---|---|
//! | a table of [`Family`], and what is so now | a [`Page`] |
//!
//! Everything that is shown is so when somebody asks: nothing is counted twice, once for us and
//! once for a registry.

use std::fmt::{self, Write as _};

/// The media type of a [`Page`].
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What becomes of a figure over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It goes up and down.
    Gauge,
    /// It goes up, and begins at 0 with the process.
    Counter,
    /// How many were how large, since the process began.
    Histogram,
}

impl Kind {
    /// The word of the format.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gauge => "gauge",
            Self::Counter => "counter",
            Self::Histogram => "histogram",
        }
    }
}

/// Figures of one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Its name, with its unit at the end.
    pub name: &'static str,
    /// What becomes of it.
    pub kind: Kind,
    /// What tells the figures apart, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

/// A family of figures that go up and down.
#[must_use]
pub const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family {
        name,
        kind: Kind::Gauge,
        labels,
        help,
    }
}

/// A family of figures that only go up, and begin anew with the process.
#[must_use]
pub const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Family {
    Family {
        kind: Kind::Counter,
        ..gauge(name, labels, help)
    }
}

impl Family {
    /// The row of this family in the documentation.
    #[must_use]
    pub fn row(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|l| format!("`{l}`")).collect();
        let Self {
            name, kind, help, ..
        } = self;
        let (kind, labels) = (kind.as_str(), labels.join(", "));
        format!("| `{name}` | {kind} | {labels} | {help} |")
    }
}

/// What the documentation has instead of what stands between two marks in `text`: a table of the
/// families. None where the marks are missing.
#[must_use]
pub fn documented(text: &str, of: &str, families: &[&Family]) -> Option<String> {
    let (begin, end) = (format!("<!-- {of}: -->\n"), format!("<!-- :{of} -->"));
    let from = text.find(&begin)? + begin.len();
    let to = from + text.get(from..)?.find(&end)?;
    let rows = families.iter().map(|family| family.row() + "\n");
    let head = "| Name | Type | Labels | Meaning |\n|---|---|---|---|\n".to_owned();
    let table: String = std::iter::once(head).chain(rows).collect();
    Some([text.get(..from)?, &table, text.get(to..)?].concat())
}

/// A number that is written without a float in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// As it is.
    Whole(i64),
    /// Thousandths: what is counted in milliseconds, as seconds.
    Milli(i64),
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => write!(f, "{value}"),
            Self::Milli(value) => f.write_str(&crate::amount::format_milli(*value)),
        }
    }
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Whole(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Number {
    fn from(value: usize) -> Self {
        Self::from(value as u64)
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self::Whole(i64::from(value))
    }
}

/// How many were how large. Sizes are milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One more than there are bounds: what is larger than all of them.
    counts: Vec<u64>,
    sum: u64,
}

impl Histogram {
    /// Nothing yet. `bounds` rise, in milliseconds.
    #[must_use]
    pub fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len() + 1],
            sum: 0,
        }
    }

    /// There was one of so many milliseconds.
    pub fn add(&mut self, ms: u64) {
        let place = self.bounds.partition_point(|bound| *bound < ms);
        self.counts[place] += 1; // there is one more than bounds
        self.sum = self.sum.saturating_add(ms);
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// A page of figures, as it is answered.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// Begins a family. One without figures is named all the same: who looks for it learns that
    /// it is there.
    pub fn family(&mut self, family: &'static Family) -> Figures<'_> {
        let Family { name, kind, .. } = family;
        self.0.push_str("# HELP ");
        self.0.push_str(name);
        self.0.push(' ');
        escape(&mut self.0, family.help, false);
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "\n# TYPE {name} {}", kind.as_str());
        Figures {
            page: &mut self.0,
            family,
        }
    }

    /// The text.
    #[must_use]
    pub fn done(self) -> String {
        self.0
    }
}

/// The figures of one family.
#[derive(Debug)]
pub struct Figures<'a> {
    page: &'a mut String,
    family: &'static Family,
}

impl Figures<'_> {
    /// One figure: a value for each label.
    pub fn add(&mut self, values: &[&str], number: impl Into<Number>) {
        self.line("", values, None, &number.into().to_string());
    }

    /// The same, where there is one.
    pub fn add_some(&mut self, values: &[&str], number: Option<impl Into<Number>>) {
        if let Some(number) = number {
            self.add(values, number);
        }
    }

    /// What a histogram counted.
    pub fn add_all(&mut self, values: &[&str], seen: &Histogram) {
        let mut sum = 0;
        for (bound, count) in seen.bounds.iter().zip(&seen.counts) {
            sum += count;
            let bound = Number::Milli(i64::try_from(*bound).unwrap_or(i64::MAX)).to_string();
            self.line("_bucket", values, Some(&bound), &sum.to_string());
        }
        let all = seen.count().to_string();
        self.line("_bucket", values, Some("+Inf"), &all);
        let total = i64::try_from(seen.sum).unwrap_or(i64::MAX);
        self.line("_sum", values, None, &Number::Milli(total).to_string());
        self.line("_count", values, None, &all);
    }

    fn line(&mut self, ending: &str, values: &[&str], bound: Option<&str>, number: &str) {
        self.page.push_str(self.family.name);
        self.page.push_str(ending);
        let pairs = self
            .family
            .labels
            .iter()
            .copied()
            .zip(values.iter().copied());
        let mut before = '{';
        for (label, value) in pairs.chain(bound.map(|bound| ("le", bound))) {
            self.page.push(before);
            self.page.push_str(label);
            self.page.push_str("=\"");
            escape(self.page, value, true);
            self.page.push('"');
            before = ',';
        }
        if before == ',' {
            self.page.push('}');
        }
        self.page.push(' ');
        self.page.push_str(number);
        self.page.push('\n');
    }
}

/// Characters that would end a line, or a value, are written as the format says.
fn escape(to: &mut String, text: &str, quoted: bool) {
    for c in text.chars() {
        match c {
            '\\' => to.push_str("\\\\"),
            '\n' => to.push_str("\\n"),
            '"' if quoted => to.push_str("\\\""),
            other => to.push(other),
        }
    }
}

/// Figures of the process itself, by the names that every program has them by.
pub mod process {
    use super::{Family, Kind, Number, Page};

    const fn family(name: &'static str, kind: Kind, help: &'static str) -> Family {
        Family {
            name,
            kind,
            labels: &[],
            help,
        }
    }

    /// Resident memory.
    pub static MEMORY: Family = family(
        "process_resident_memory_bytes",
        Kind::Gauge,
        "Resident memory of the process.",
    );
    /// Time of processors.
    pub static CPU: Family = family(
        "process_cpu_seconds_total",
        Kind::Counter,
        "Time of processors that the process took, in user and kernel together.",
    );
    /// Descriptors.
    pub static DESCRIPTORS: Family = family(
        "process_open_fds",
        Kind::Gauge,
        "Descriptors that the process has open.",
    );

    /// All of them.
    pub static FAMILIES: [&Family; 3] = [&MEMORY, &CPU, &DESCRIPTORS];

    /// What a process takes; none = it cannot be told.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub struct Taken {
        /// Resident memory in bytes.
        pub memory: Option<u64>,
        /// Milliseconds of processors.
        pub cpu_ms: Option<u64>,
        /// Open descriptors.
        pub descriptors: Option<u64>,
    }

    impl Taken {
        /// From the texts of `/proc/self/status` and `/proc/self/stat`, where times are hundredths
        /// of a second, and from how many descriptors there are.
        #[must_use]
        pub fn read(status: &str, stat: &str, descriptors: Option<u64>) -> Self {
            let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let resident = resident.and_then(|text| text.trim().strip_suffix("kB"));
            let resident = resident.and_then(|text| text.trim().parse::<u64>().ok());
            // The second field is a name that may hold anything.
            let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
            let ticks = |number: usize| -> Option<u64> {
                fields?.split_whitespace().nth(number)?.parse().ok()
            };
            Self {
                memory: resident.map(|kilobytes| kilobytes.saturating_mul(1024)),
                cpu_ms: ticks(11)
                    .zip(ticks(12))
                    .map(|(user, kernel)| user.saturating_add(kernel).saturating_mul(10)),
                descriptors,
            }
        }

        /// Writes them.
        pub fn show(&self, page: &mut Page) {
            let cpu = self.cpu_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX));
            page.family(&MEMORY).add_some(&[], self.memory);
            page.family(&CPU).add_some(&[], cpu.map(Number::Milli));
            page.family(&DESCRIPTORS).add_some(&[], self.descriptors);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ONE: Family = Family {
        name: "longshore_things",
        kind: Kind::Gauge,
        labels: &["name", "state"],
        help: "Things that are\\were\nthere.",
    };
    static SLOW: Family = Family {
        name: "longshore_wait_seconds",
        kind: Kind::Histogram,
        labels: &["what"],
        help: "Waits.",
    };
    static BARE: Family = Family {
        name: "longshore_up",
        kind: Kind::Counter,
        labels: &[],
        help: "Up.",
    };

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let mut page = Page::default();
        let mut figures = page.family(&ONE);
        figures.add(&["a\"b\\c\nd", "x"], 7_u64);
        figures.add_some(&["e", "y"], Some(Number::Milli(-1250)));
        figures.add_some(&["f", "y"], None::<u64>);
        page.family(&BARE).add(&[], true);
        let expected = "# HELP longshore_things Things that are\\\\were\\nthere.\n\
            # TYPE longshore_things gauge\n\
            longshore_things{name=\"a\\\"b\\\\c\\nd\",state=\"x\"} 7\n\
            longshore_things{name=\"e\",state=\"y\"} -1.25\n\
            # HELP longshore_up Up.\n# TYPE longshore_up counter\nlongshore_up 1\n";
        assert_eq!(page.done(), expected);
    }

    #[test]
    fn buckets_hold_all_that_is_not_larger() {
        let mut seen = Histogram::new(&[100, 2500]);
        for ms in [0, 100, 101, 2500, 2501, 60_000] {
            seen.add(ms);
        }
        let mut page = Page::default();
        page.family(&SLOW).add_all(&["start"], &seen);
        let text = page.done();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "longshore_wait_seconds_bucket{what=\"start\",le=\"0.1\"} 2",
                "longshore_wait_seconds_bucket{what=\"start\",le=\"2.5\"} 4",
                "longshore_wait_seconds_bucket{what=\"start\",le=\"+Inf\"} 6",
                "longshore_wait_seconds_sum{what=\"start\"} 65.202",
                "longshore_wait_seconds_count{what=\"start\"} 6",
            ]
        );
    }

    #[test]
    fn what_a_process_takes_is_read_from_the_kernel() {
        let stat = "7 (a) b 9) S 1 7 7 0 -1 4194560 1 0 0 0 250 25 0 0 20 0 1 0 12345 0 0";
        let taken = process::Taken::read("Name:\ta\nVmRSS:\t    300 kB\n", stat, Some(9));
        let expected = process::Taken {
            memory: Some(300 << 10),
            cpu_ms: Some(2750),
            descriptors: Some(9),
        };
        assert_eq!(taken, expected);
        let nothing = process::Taken::read("", "7 (a", None);
        assert_eq!(nothing, process::Taken::default());
        let mut page = Page::default();
        taken.show(&mut page);
        assert!(page.done().contains("process_cpu_seconds_total 2.75\n"));
    }

    #[test]
    fn the_table_of_the_documentation_is_made() {
        let row = "| `longshore_wait_seconds` | histogram | `what` | Waits. |";
        assert_eq!(SLOW.row(), row);
        let text = "a\n<!-- us: -->\nold\n<!-- :us -->\nb\n";
        let made = documented(text, "us", &[&SLOW]).unwrap();
        let head = "| Name | Type | Labels | Meaning |\n|---|---|---|---|";
        let expected = format!("a\n<!-- us: -->\n{head}\n{row}\n<!-- :us -->\nb\n");
        assert_eq!(made, expected);
        assert_eq!(documented(&made, "us", &[&SLOW]), Some(made.clone()));
        assert_eq!(documented(&made, "them", &[]), None);
    }
}
