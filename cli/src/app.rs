//! What every command has at hand.

use crate::client::{Client, encode};
use crate::columns::Wanted;
use crate::contexts::{self, Context, File};
use crate::error::Failure;
use crate::output::{Format, Output};
use crate::values;
use clap::{Args, ValueEnum as _};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Flags that every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub(crate) struct Global {
    /// How data is printed
    #[arg(short, long, global = true, value_enum, value_name = "FORM")]
    pub(crate) output: Option<Format>,
    /// Leave the column names out
    #[arg(long, global = true)]
    pub(crate) no_headers: bool,
    /// Only these columns of a list, by their headings or by members that -o json shows
    #[arg(long, global = true, value_name = "A,B", value_delimiter = ',')]
    pub(crate) columns: Vec<String>,
    /// The order of a list: by this column, with - before it the other way round
    #[arg(
        long,
        global = true,
        value_name = "[-]COLUMN",
        allow_hyphen_values = true
    )]
    pub(crate) sort: Option<String>,
    /// Only what matches in a list: the filters of the API, as status=inactive
    #[arg(long = "filter", global = true, value_name = "NAME=VALUE", value_parser = filter)]
    pub(crate) filters: Vec<(String, String)>,
    /// The first N of a list, or all
    // Text, and no number: where a flag of this name means something else, it is text too.
    #[arg(long, global = true, value_name = "N|all")]
    pub(crate) limit: Option<String>,
    /// No status lines
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Show the requests that are sent
    #[arg(short, long, global = true)]
    pub(crate) verbose: bool,
    /// The coordinator to use, by the name of its context
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Give up after this long: 30s, 5m
    #[arg(long, global = true, value_parser = values::duration, value_name = "TIME")]
    pub(crate) timeout: Option<Duration>,
    /// No colours (there are none yet; NO_COLOR too)
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Administration: check everything and change nothing
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,
    /// Answer yes to every question
    #[arg(short, long, global = true)]
    pub(crate) yes: bool,
}

/// How many of a list somebody wants: `3`, `all`.
pub(crate) fn most(text: &str) -> Option<usize> {
    match text.parse() {
        Ok(0) => None,
        Ok(number) => Some(number),
        Err(_) => (text == "all").then_some(usize::MAX),
    }
}

fn filter(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

/// The flags, and the moment the command began.
#[derive(Debug)]
pub(crate) struct App {
    /// The flags.
    pub(crate) global: Global,
    started: Instant,
}

impl App {
    /// Starts the clock of `--timeout`.
    pub(crate) fn new(global: Global) -> Self {
        Self {
            global,
            started: Instant::now(),
        }
    }

    /// Takes `client.output` where it is not said with `-o`, or a locked vault holds it. What is
    /// wrong with the defaults is told by the commands that go by them.
    pub(crate) fn take_output(&mut self) {
        let said = self
            .global
            .output
            .and_then(|format| format.to_possible_value());
        let said = said.map(|value| value.get_name().to_owned());
        let Ok(defaults) = crate::defaults::known(self) else {
            return;
        };
        let (held, _) = defaults.pick("output", said);
        if let Some(format) = held.and_then(|word| Format::from_str(&word, true).ok()) {
            self.global.output = Some(format);
        }
    }

    /// When `--timeout` is over.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.global.timeout.map(|timeout| self.started + timeout)
    }

    /// Where the user's file lies.
    pub(crate) fn contexts_path(&self) -> Result<PathBuf, Failure> {
        contexts::path(&contexts::process_env)
    }

    /// The user's file.
    pub(crate) fn contexts(&self) -> Result<File, Failure> {
        File::load(&self.contexts_path()?)
    }

    /// The context to use.
    pub(crate) fn context(&self) -> Result<(Option<String>, Context), Failure> {
        self.contexts()?
            .choose(self.global.context.as_deref(), &contexts::process_env)
    }

    /// The coordinator to use.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Client::new(&self.context()?.1, self.global.verbose)
    }

    /// The objects of a list that the command shows, filtered and not more than asked for.
    pub(crate) async fn list(&self, path: &str) -> Result<Vec<Value>, Failure> {
        self.list_to(path, self.limit()).await
    }

    /// The same with another bound where nobody gave one.
    pub(crate) async fn list_to(&self, path: &str, most: usize) -> Result<Vec<Value>, Failure> {
        let mut address = path.to_owned();
        for (name, value) in &self.global.filters {
            let sign = if address.contains('?') { '&' } else { '?' };
            address.push_str(&format!("{sign}{}={}", encode(name), encode(value)));
        }
        // In another order than the API's the first ones are known at the end only.
        let most = match self.global.sort {
            None => most,
            Some(_) => usize::MAX,
        };
        self.client()?.first(&address, most).await
    }

    fn wanted_most(&self) -> Option<usize> {
        self.global.limit.as_deref().and_then(most)
    }

    /// The most objects a list shows.
    pub(crate) fn limit(&self) -> usize {
        self.wanted_most().unwrap_or(usize::MAX)
    }

    /// A client of another context than the chosen one.
    pub(crate) fn client_of(&self, context: &Context) -> Result<Client, Failure> {
        Client::new(context, self.global.verbose)
    }

    /// How data is printed.
    pub(crate) fn output(&self) -> Output {
        let format = self.global.output.unwrap_or(Format::Table);
        Output {
            format,
            headers: !self.global.no_headers,
            wanted: Wanted {
                columns: self.global.columns.clone(),
                sort: self.global.sort.clone(),
                limit: self.wanted_most(),
            },
        }
    }
}
