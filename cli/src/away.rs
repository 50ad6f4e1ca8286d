//! A coordinator that does not answer: how long to pause before it is asked again, and
//! when it is not waited for any longer (cli.md, section 5).

use crate::error::{Failure, code};
use std::time::Duration;
use tokio::time::Instant;

/// The first pause: somebody waits, and a restart takes about a second.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause between two tries to reach the coordinator.
const MOST_PAUSE: Duration = Duration::from_secs(15);
/// A coordinator that was away for this long is not waited for any longer.
const LIMIT: Duration = Duration::from_secs(300);

/// Pauses that grow: half a second, doubled up to 15 s.
#[derive(Debug)]
pub(crate) struct Pauses(Duration);

impl Pauses {
    /// Nothing was waited for yet.
    pub(crate) const fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    /// Waits; the next time twice as long.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.0).await;
        self.0 = (self.0 * 2).min(MOST_PAUSE);
    }
}

/// What one more question without an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It answered the last time; a person is told.
    Now,
    /// It was away before; that was told.
    Still,
    /// It has been away for five minutes; nobody waits any longer.
    TooLong,
}

/// Since when a coordinator has been away.
#[derive(Debug)]
pub(crate) struct Away {
    since: Option<Instant>,
    pauses: Pauses,
}

impl Away {
    /// It is there.
    pub(crate) const fn new() -> Self {
        Self {
            since: None,
            pauses: Pauses::new(),
        }
    }

    /// It did not answer.
    pub(crate) fn failed(&mut self) -> Lost {
        match self.since {
            None => {
                self.since = Some(Instant::now());
                Lost::Now
            }
            Some(since) if since.elapsed() > LIMIT => Lost::TooLong,
            Some(_) => Lost::Still,
        }
    }

    /// Waits before the next question.
    pub(crate) async fn pause(&mut self) {
        self.pauses.wait().await;
    }

    /// It answered; for how long it was away before.
    pub(crate) fn answered(&mut self) -> Option<Duration> {
        let since = self.since.take()?;
        self.pauses = Pauses::new();
        Some(since.elapsed())
    }
}

/// Why a question had no answer, in one line.
pub(crate) fn why(failure: &Failure) -> String {
    match failure.why.first() {
        Some(why) => format!("{} ({why})", failure.text),
        None => failure.text.clone(),
    }
}

/// What a command ends with that waited for five minutes.
pub(crate) fn gave_up(last: &Failure) -> Failure {
    Failure::new(
        code::UNREACHABLE,
        "the coordinator was away for 5 minutes; the session is as it was",
    )
    .why(why(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_end() {
        let mut away = Away::new();
        let started = Instant::now();
        let mut at = Vec::new();
        let mut tries = 0;
        assert_eq!(away.failed(), Lost::Now);
        loop {
            at.push(started.elapsed().as_millis());
            away.pause().await;
            tries += 1;
            match away.failed() {
                Lost::Still => (),
                other => {
                    assert_eq!(other, Lost::TooLong);
                    break;
                }
            }
        }
        assert_eq!(at[..7], [0, 500, 1500, 3500, 7500, 15_500, 30_500]);
        // Five minutes, and at the most one pause more.
        let whole = started.elapsed();
        assert!(whole > LIMIT && whole <= LIMIT + MOST_PAUSE, "{whole:?}");
        assert!(tries < 30, "{tries}");
        assert_eq!(away.answered(), Some(whole));
        assert_eq!((away.answered(), away.failed()), (None, Lost::Now));
    }
}
