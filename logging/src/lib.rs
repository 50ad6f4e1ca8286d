//! The log of a daemon: how much it says, how its lines look, and where they go. All three come
//! from the configuration, and may change while the process runs.
//!
//! | input | output |
//! |---|---|
//! | [`Order`] | [`Prepared`], which cannot fail any more, or what is wrong |
//! | [`Prepared`] | from then on it holds |
//!
//! Whatever becomes of a file or the journal, no line is lost for it: what cannot be written there
//! goes to standard error.

mod file;
mod journal;
mod panics;
mod settings;

pub use file::Turning;
pub use journal::{Journal, SOCKET};
pub use panics::end_on_panic;
pub use settings::{Logging, Program};

use longshore_common::redact::{Hiding, Names};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IsTerminal as _, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layered, SubscriberExt as _};
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// What is logged until the configuration was read.
const FIRST: &str = "info";
/// A process that is ending holds its file so long at most.
const BEFORE_US: Duration = Duration::from_secs(10);
/// Modules with a level of their own: more than a program has that anybody tells apart.
const MOST_LEVELS: usize = 64;
/// The words for how much is logged.
pub const LEVELS: &[&str] = &["error", "warn", "info", "debug", "trace"];
/// The words of [`Form`].
pub const FORMS: &[&str] = &["auto", "text", "json"];
/// The words of [`Target`].
pub const TARGETS: &[&str] = &["stderr", "journal", "file"];
/// Bytes of a file at least: less would be turned with every few lines.
pub const LEAST_SIZE: u64 = 64 << 10;
/// Bytes of a file at most.
pub const MOST_SIZE: u64 = 1 << 40;
/// Turned files at most.
pub const MOST_KEPT: u32 = 1000;

/// Where lines go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Standard error.
    #[default]
    Stderr,
    /// The journal of systemd, line by line with how grave it is.
    Journal,
    /// A file that is turned when it is full.
    File,
}

/// How lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// JSON in a file, which programs read; else text.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// What is asked for, and whether lines go into a file: whether they are JSON.
const fn is_json(form: Form, file: bool) -> bool {
    match form {
        Form::Auto => file,
        Form::Text => false,
        Form::Json => true,
    }
}

/// A file of lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LogFile {
    /// Absolute. Turned ones lie beside it, with `.1` (the newest) and so on.
    pub path: PathBuf,
    /// Bytes, [`LEAST_SIZE`] to [`MOST_SIZE`]; the line that would go beyond begins another file.
    pub max_size: u64,
    /// How many turned files are kept, at most [`MOST_KEPT`].
    pub keep: u32,
}

impl LogFile {
    /// That of a program.
    #[must_use]
    pub fn of(program: &str) -> Self {
        Self {
            path: PathBuf::from(format!("/var/log/longshore/{program}.log")),
            max_size: 100 << 20,
            keep: 10,
        }
    }

    /// Reads what is set of it; the rest is that of a program.
    ///
    /// # Errors
    /// A member that is none, or not of its type.
    pub fn read<'de, D: Deserializer<'de>>(program: &str, from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Given {
            path: Option<PathBuf>,
            max_size: Option<u64>,
            keep: Option<u32>,
        }
        let given = Given::deserialize(from)?;
        let usual = Self::of(program);
        Ok(Self {
            path: given.path.unwrap_or(usual.path),
            max_size: given.max_size.unwrap_or(usual.max_size),
            keep: given.keep.unwrap_or(usual.keep),
        })
    }

    /// What is wrong with it: a key and a sentence.
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, String)> {
        if !self.path.is_absolute() || self.path.file_name().is_none() {
            return Some(("path", "must be the absolute path of a file".to_owned()));
        }
        if !(LEAST_SIZE..=MOST_SIZE).contains(&self.max_size) {
            let text = format!("must be {LEAST_SIZE} to {MOST_SIZE} bytes");
            return Some(("max_size", text));
        }
        let fits = self.keep <= MOST_KEPT;
        (!fits).then(|| ("keep", format!("must be 0 to {MOST_KEPT}")))
    }
}

/// Why an order cannot be taken: a line that begins with the key, if one is to blame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// What the configuration says is wrong, and stays so.
    Wrong(String),
    /// A file or the journal cannot be opened: that may be over when it is tried again.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Wrong(text) | Self::Failed(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Error {}

/// What a configuration says of the log.
#[derive(Debug, Clone)]
pub struct Order {
    /// `error`, `warn`, `info`, `debug`, `trace`, or filters per module.
    pub filters: String,
    /// How lines look.
    pub form: Form,
    /// Where they go.
    pub target: Target,
    /// The file, looked at only where it is the target.
    pub file: LogFile,
}

/// How much of what is logged, as filters: what is said of a module stands over the rest.
#[must_use]
pub fn filters(level: &str, levels: &BTreeMap<String, String>) -> String {
    let modules = levels.iter();
    let modules = modules.map(|(name, level)| format!("{name}={level}"));
    let all = Some(level.to_owned()).filter(|level| !level.is_empty());
    let all = all.into_iter().chain(modules);
    all.collect::<Vec<_>>().join(",")
}

/// What is wrong with how much is logged: a key below `logging`, and a sentence.
#[must_use]
pub fn fault(level: &str, levels: &BTreeMap<String, String>) -> Option<(String, String)> {
    if levels.len() > MOST_LEVELS {
        let text = format!("must name at most {MOST_LEVELS} modules");
        return Some(("levels".to_owned(), text));
    }
    let is_module = |name: &String| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"_:".contains(&b);
        (1..=128).contains(&name.len()) && name.bytes().all(good)
    };
    for (name, level) in levels {
        let key = format!("levels.{name}");
        if !is_module(name) {
            let text = "must be the name of a module, such as longshore_core::scheduler";
            return Some((key, text.to_owned()));
        }
        if !LEVELS.contains(&level.as_str()) {
            return Some((key, format!("must be one of {}", LEVELS.join(", "))));
        }
    }
    let wrong = filter(level).err();
    wrong.map(|error| ("level".to_owned(), error))
}

/// Reads `error`, `warn`, `info`, `debug`, `trace`, or filters per module.
///
/// # Errors
/// What is wrong with it.
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    let filter = EnvFilter::builder().parse(level);
    filter.map_err(|error| error.to_string())
}

/// Where lines go, opened.
#[derive(Debug, Clone)]
enum Output {
    Stderr,
    Journal(Arc<Journal>),
    File(Arc<Turning>),
}

impl Output {
    fn line(&self, level: Level, line: &[u8]) {
        let written = match self {
            Self::Stderr => Err(io::ErrorKind::Unsupported.into()),
            Self::Journal(journal) => journal.line(level, line),
            Self::File(file) => file.line(line),
        };
        if written.is_err() {
            // Nobody is left to tell where this fails too.
            let _ = io::stderr().write_all(line);
        }
    }

    fn is_terminal(&self) -> bool {
        matches!(self, Self::Stderr) && io::stderr().is_terminal()
    }
}

/// A line on its way.
struct Line {
    to: Output,
    level: Level,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.line(self.level, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a [`Line`] for each event, behind the names whose values nobody is shown.
struct Lines {
    to: Output,
    names: Names,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Hiding<Line>;

    fn make_writer(&'a self) -> Self::Writer {
        self.at(Level::INFO)
    }

    fn make_writer_for(&'a self, of: &Metadata<'_>) -> Self::Writer {
        self.at(*of.level())
    }
}

impl Lines {
    fn at(&self, level: Level) -> Hiding<Line> {
        let to = self.to.clone();
        Hiding::new(Line { to, level }, self.names.clone())
    }
}

/// The journal has times of its own.
struct Clock {
    silent: bool,
}

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        match self.silent {
            true => Ok(()),
            false => SystemTime.format_time(writer),
        }
    }
}

type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Boxed = Box<dyn Layer<Filtered> + Send + Sync>;

/// Lines in one of two forms. What spans hold is written for both when they are opened: a form
/// looks for its own in each span that is open, whichever was in force then.
struct Shown {
    text: Boxed,
    json: Boxed,
    /// Which of them lines are written in.
    is_json: bool,
}

impl Shown {
    fn new(to: &Output, is_json: bool, names: &Names) -> Self {
        let lines = || Lines {
            to: to.clone(),
            names: names.clone(),
        };
        let layer = tracing_subscriber::fmt::layer;
        let silent = matches!(to, Output::Journal(_));
        let text = layer()
            .with_writer(lines())
            .with_ansi(to.is_terminal())
            .with_timer(Clock { silent });
        let json = layer().with_writer(lines()).with_ansi(false).json();
        Self {
            text: text.boxed(),
            json: json.boxed(),
            is_json,
        }
    }
}

impl Layer<Filtered> for Shown {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, Filtered>) {
        self.text.on_new_span(attributes, id, context.clone());
        self.json.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, Filtered>) {
        self.text.on_record(id, values, context.clone());
        self.json.on_record(id, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, Filtered>) {
        match self.is_json {
            true => self.json.on_event(event, context),
            false => self.text.on_event(event, context),
        }
    }
}

/// An order whose file or socket is open.
#[derive(Debug)]
pub struct Prepared {
    filter: EnvFilter,
    json: bool,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// The file that is open already, with other bounds.
    On(Arc<Turning>, LogFile),
    To(Output),
}

/// The log of this process.
pub struct Log {
    program: &'static str,
    names: Names,
    /// Something stands over what the configuration says of how much is logged.
    fixed: bool,
    /// An order was taken: this process has begun.
    begun: AtomicBool,
    filter: Handle<EnvFilter, Registry>,
    lines: Handle<Shown, Filtered>,
    /// Where lines go now, and whether they are JSON.
    to: Mutex<(Output, bool)>,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl Log {
    /// Begins to log to standard error; once in a process. `fixed` stands over what the
    /// configuration says of how much is logged: one that does not read is as good as none.
    #[must_use]
    pub fn begin(program: &'static str, names: Names, fixed: Option<&str>) -> Self {
        let (log, lines, filter) = Self::made(program, names, fixed);
        tracing_subscriber::registry()
            .with(filter)
            .with(lines)
            .init();
        log
    }

    fn made(
        program: &'static str,
        names: Names,
        fixed: Option<&str>,
    ) -> (
        Self,
        reload::Layer<Shown, Filtered>,
        reload::Layer<EnvFilter, Registry>,
    ) {
        let fixed = fixed.and_then(|level| filter(level).ok());
        let is_fixed = fixed.is_some();
        let first = fixed.unwrap_or_else(|| EnvFilter::new(FIRST));
        let (filter, filter_handle) = reload::Layer::new(first);
        let to = Output::Stderr;
        let (lines, lines_handle) = reload::Layer::new(Shown::new(&to, false, &names));
        let log = Self {
            program,
            names,
            fixed: is_fixed,
            begun: AtomicBool::new(false),
            filter: filter_handle,
            lines: lines_handle,
            to: Mutex::new((to, false)),
        };
        (log, lines, filter)
    }

    fn now(&self) -> (Output, bool) {
        let to = self.to.lock();
        to.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Does what can fail of an order, and changes nothing. A file that another process holds is
    /// waited for at the start only, 10 s at most: the process before this one may be ending.
    ///
    /// # Errors
    /// [`Error`].
    pub fn prepare(&self, order: &Order) -> Result<Prepared, Error> {
        let filter = filter(&order.filters)
            .map_err(|error| Error::Wrong(format!("logging.level: {error}")))?;
        let (now, _) = self.now();
        let way = match order.target {
            Target::Stderr => Way::To(Output::Stderr),
            Target::Journal => {
                let journal = Journal::open(SOCKET.as_ref(), self.program)
                    .map_err(|error| format!("logging.target: journal: {SOCKET}: {error}"))
                    .map_err(Error::Failed)?;
                Way::To(Output::Journal(Arc::new(journal)))
            }
            Target::File => {
                if let Some((key, text)) = order.file.fault() {
                    return Err(Error::Wrong(format!("logging.file.{key}: {text}")));
                }
                let open = match &now {
                    Output::File(file) => Some(file).filter(|file| file.is_at(&order.file.path)),
                    Output::Stderr | Output::Journal(_) => None,
                };
                let wait = match self.begun.load(Ordering::Relaxed) {
                    false => BEFORE_US,
                    true => Duration::ZERO,
                };
                match open {
                    Some(file) => Way::On(Arc::clone(file), order.file.clone()),
                    None => {
                        let path = order.file.path.display();
                        let file = Turning::open(&order.file, wait)
                            .map_err(|error| format!("logging.file.path: {path}: {error}"))
                            .map_err(Error::Failed)?;
                        Way::To(Output::File(Arc::new(file)))
                    }
                }
            }
        };
        Ok(Prepared {
            filter,
            json: is_json(order.form, order.target == Target::File),
            way,
        })
    }

    /// From here on it holds.
    ///
    /// # Errors
    /// The log is gone with the process.
    pub fn take(&self, prepared: Prepared) -> Result<(), Error> {
        self.begun.store(true, Ordering::Relaxed);
        let (_, was_json) = self.now();
        let to = match prepared.way {
            Way::On(file, bounds) => {
                file.bound(&bounds);
                (was_json != prepared.json).then_some(Output::File(file))
            }
            Way::To(to) => Some(to),
        };
        if let Some(to) = to {
            let lines = Shown::new(&to, prepared.json, &self.names);
            self.lines.reload(lines).map_err(gone)?;
            *self.to.lock().unwrap_or_else(PoisonError::into_inner) = (to, prepared.json);
        }
        self.level(prepared.filter)
    }

    /// Only how much is logged becomes another.
    ///
    /// # Errors
    /// What is wrong with it, or the log is gone with the process.
    pub fn set_filters(&self, filters: &str) -> Result<(), Error> {
        self.level(filter(filters).map_err(Error::Wrong)?)
    }

    fn level(&self, filter: EnvFilter) -> Result<(), Error> {
        match self.fixed {
            true => Ok(()),
            false => self.filter.reload(filter).map_err(gone),
        }
    }
}

fn gone(error: reload::Error) -> Error {
    Error::Failed(error.to_string())
}

#[cfg(test)]
mod tests;
