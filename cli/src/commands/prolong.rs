//! `extend` and `keep`: more time for a session.

use super::show::OneSession;
use crate::app::App;
use crate::client::typed;
use crate::clock;
use crate::error::Failure;
use crate::output::{self, clean};
use crate::values::{self, Instant, SessionRef};
use longshore_common::api::{ExtendRequest, Extended, KeepRequest, Kept};
use longshore_common::time::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// Flags of `extend`. Without any, the life becomes longer by as much as one extension may have.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The session: s-42, 42, a name, @ for the latest
    pub(crate) id: SessionRef,
    /// How much longer: +2h
    #[arg(value_name = "+TIME", value_parser = more, conflicts_with_all = ["by", "until"])]
    pub(crate) more: Option<Duration>,
    /// How much longer: 2h
    #[arg(long, value_name = "TIME", value_parser = values::duration, conflicts_with = "until")]
    pub(crate) by: Option<Duration>,
    /// Until when: 18:00, 2026-11-20T21:00:00Z or +2h from now
    #[arg(long, value_name = "WHEN", value_parser = until)]
    pub(crate) until: Option<Instant>,
}

/// Reads `+2h` and, as nothing else can be meant, `2h`.
fn more(text: &str) -> Result<Duration, String> {
    values::duration(text.strip_prefix('+').unwrap_or(text))
}

/// Reads `18:00` as well.
pub(crate) fn until(text: &str) -> Result<Instant, String> {
    let Some((hour, minute)) = text.split_once(':').filter(|(hour, _)| hour.len() <= 2) else {
        return values::instant(text);
    };
    let number = |text: &str, below: u32| text.parse::<u32>().ok().filter(|n| *n < below);
    match (number(hour, 24), number(minute, 60)) {
        (Some(hour), Some(minute)) => Ok(Instant::At(clock::next(hour, minute))),
        _ => values::instant(text),
    }
}

impl Args {
    fn request(&self, now: Timestamp) -> ExtendRequest {
        let by = self.more.or(self.by).map(|by| by.as_secs());
        ExtendRequest {
            by_s: by.map(|s| i64::try_from(s).unwrap_or(i64::MAX)),
            until: self.until.map(|until| until.since(now)),
        }
    }
}

/// Extends its life.
pub(crate) async fn extend(app: &App, args: Args) -> Result<u8, Failure> {
    let request = args.request(clock::now());
    let item = post(app, &args.id, "extend", &request).await?;
    tell(app, &item, || Ok(extended(&typed(item.clone())?)))
}

/// Keeps it although nobody uses it.
pub(crate) async fn keep(app: &App, args: OneSession) -> Result<u8, Failure> {
    let item = post(app, &args.id, "keep", &KeepRequest {}).await?;
    tell(app, &item, || Ok(kept(&typed(item.clone())?)))
}

pub(super) async fn post(
    app: &App,
    id: &SessionRef,
    verb: &str,
    body: &impl Serialize,
) -> Result<Value, Failure> {
    let client = app.client()?;
    let path = client.session_path(id).await?;
    let rehearsed = match app.global.dry_run {
        true => "?dry_run=true",
        false => "",
    };
    client
        .post(&format!("{path}/{verb}{rehearsed}"), body)
        .await
}

pub(super) fn tell(
    app: &App,
    item: &Value,
    text: impl FnOnce() -> Result<String, Failure>,
) -> Result<u8, Failure> {
    if app.output().is_json() {
        output::print_json(item)?;
    } else if !app.global.quiet {
        let would = match app.global.dry_run {
            true => "rehearsed only: ",
            false => "",
        };
        eprintln!("{would}{}", text()?);
    }
    Ok(0)
}

fn extended(told: &Extended) -> String {
    let end = match told.lifetime_deadline {
        Some(at) => format!("ends {} by lifetime", clock::short(at)),
        None => format!("will live {} s longer", told.by_s),
    };
    let left = match told.extensions_left {
        0 => "no further extension".to_owned(),
        1 => format!("1 more extension of at most {} s", told.extension_max_s),
        n => format!(
            "{n} more extensions of at most {} s each",
            told.extension_max_s
        ),
    };
    let total = match told.total_left_s {
        Some(s) if told.extensions_left > 0 => format!(", {s} s in all"),
        _ => String::new(),
    };
    format!("{}  {end}; {left}{total}", clean(&told.id))
}

fn kept(told: &Kept) -> String {
    let again = match told.keeps_left {
        0 => "not again before it is used".to_owned(),
        1 => "once more before it is used".to_owned(),
        n => format!("{n} times more before it is used"),
    };
    let until = clock::short(told.kept_until);
    format!("{}  kept until {until}; {again}", clean(&told.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn request(line: &str) -> Option<(Option<i64>, Option<i64>)> {
        let words = ["extend"].into_iter().chain(line.split(' '));
        let args = Line::try_parse_from(words).ok()?.args;
        let request = args.request(Timestamp(1000));
        Some((request.by_s, request.until.map(|at| at.0)))
    }

    #[test]
    fn how_much_is_said_once() {
        assert_eq!(request("s-1"), Some((None, None)));
        assert_eq!(request("s-1 +2h"), Some((Some(7200), None)));
        assert_eq!(request("s-1 --by 90m"), Some((Some(5400), None)));
        assert_eq!(request("s-1 --until +1h"), Some((None, Some(3_601_000))));
        for bad in ["s-1 +2h --by 1h", "s-1 --by 1h --until +1h", "s-1 soon"] {
            assert_eq!(request(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_time_of_day_is_the_next_one() {
        let Ok(Instant::At(at)) = until("18:00") else {
            panic!("a time")
        };
        let left = at.since(clock::now());
        assert!((0..=86_400_000).contains(&left), "{left}");
        assert!(until("25:00").is_err());
    }

    #[test]
    fn what_is_left_is_said() {
        let told = Extended {
            id: "s-1".into(),
            version: 2,
            by_s: 60,
            lifetime_deadline: None,
            extensions_used: 1,
            extensions_left: 2,
            extension_max_s: 3600,
            total_left_s: Some(5000),
        };
        assert_eq!(
            extended(&told),
            "s-1  will live 60 s longer; 2 more extensions of at most 3600 s each, 5000 s in all"
        );
        let told = Extended {
            extensions_left: 0,
            ..told
        };
        assert_eq!(
            extended(&told),
            "s-1  will live 60 s longer; no further extension"
        );
    }
}
