//! Commands that go on without a client. The newest of what they write is kept, for whoever
//! looks while they run and for a while after their end.
//!
//! Nobody who looks holds such a command up: one that takes its output slowly is told how much
//! it missed. Its client takes no part in it but for signals; looking is no use of the session.

use super::exec::{Command, Ends, News, Process, Told, ends};
use longshore_common::wire::{FromExec, MAX_PIECE, ToExec};
use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// So much of the output of one is kept, in bytes: what a person reads of a command that went
/// wrong, and little beside the 32 that one container may have.
const KEPT: usize = 256 * 1024;
/// Output is gathered into pieces of this size: a program that writes single bytes must not
/// cost a record for each.
const GATHERED: usize = 8 * 1024;
/// What a piece costs beside its bytes, about: a program that writes to both outputs in turn
/// makes many of a byte.
const OVERHEAD: usize = 64;
/// After its end it can be looked at for so long: as long as the coordinator knows of it.
const AFTER: Duration = Duration::from_secs(600);
/// So many that have ended are kept of one container.
pub(super) const ENDED: usize = 8;

/// The newest output of a command.
#[derive(Debug, Default)]
struct Kept {
    pieces: VecDeque<Piece>,
    /// Bytes in all pieces.
    bytes: usize,
    /// Bytes that were dropped before them.
    dropped: u64,
}

#[derive(Debug)]
struct Piece {
    /// Whether it is error output.
    error: bool,
    /// Bytes that were written before it.
    from: u64,
    bytes: Vec<u8>,
}

impl Piece {
    /// Where it ends.
    const fn end(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }
}

impl Kept {
    fn push(&mut self, error: bool, bytes: &[u8]) {
        let from = self.pieces.back().map_or(self.dropped, Piece::end);
        match self.pieces.back_mut() {
            Some(last) if last.error == error && last.bytes.len() + bytes.len() <= GATHERED => {
                last.bytes.extend_from_slice(bytes);
            }
            _ => self.pieces.push_back(Piece {
                error,
                from,
                bytes: bytes.to_vec(),
            }),
        }
        self.bytes += bytes.len();
        while self.cost() > KEPT && self.pieces.len() > 1 {
            if let Some(oldest) = self.pieces.pop_front() {
                self.bytes -= oldest.bytes.len();
                self.dropped += oldest.bytes.len() as u64;
            }
        }
    }

    /// What it takes in memory, about, in bytes.
    fn cost(&self) -> usize {
        self.bytes + self.pieces.len() * OVERHEAD
    }

    /// What is to be said to somebody who has heard everything before this position, and the
    /// position behind it.
    fn after(&self, position: u64) -> Option<(FromExec, u64)> {
        if position < self.dropped {
            let missed = self.dropped - position;
            let text = format!("longshore: {missed} bytes of output before this were not kept\n");
            return Some((FromExec::ErrorOutput(text.into_bytes()), self.dropped));
        }
        let first = self.pieces.partition_point(|piece| piece.end() <= position);
        let found = self.pieces.get(first)?;
        // Inside this piece, so it fits.
        let from = usize::try_from(position - found.from).unwrap_or(0);
        let piece = &found.bytes[from..found.bytes.len().min(from + MAX_PIECE)];
        let behind = position + piece.len() as u64;
        let frame = match found.error {
            true => FromExec::ErrorOutput(piece.to_vec()),
            false => FromExec::Output(piece.to_vec()),
        };
        Some((frame, behind))
    }
}

/// Somebody who looks.
struct Viewer {
    ends: Ends,
    /// Heard everything before it.
    position: u64,
}

/// Serves one until it is forgotten.
pub(super) async fn serve<P: Process>(
    mut command: Command<P>,
    mut again: mpsc::Receiver<Ends>,
    told: &Told,
) {
    // That it was begun is use of the session; that it goes on is none.
    told.news(News::Attached).await;
    told.news(News::Detached).await;
    let (keeper, mut own) = ends();
    let (to, mut from) = (keeper.to, keeper.from);
    if !command.has_terminal() {
        let _ = to.try_send(ToExec::EndOfInput); // it is the first
    }
    let (_nobody, mut never) = mpsc::channel(1);
    let mut talking = pin!(command.talk(&mut own, &mut never));
    let mut talked = false;
    let mut kept = Kept::default();
    let mut last: Option<FromExec> = None;
    let mut until = Instant::now();
    let mut viewer: Option<Viewer> = None;
    loop {
        let (out, back) = match &mut viewer {
            Some(Viewer { ends, position }) => (Some((&ends.to, *position)), Some(&mut ends.from)),
            None => (None, None),
        };
        tokio::select! {
            _ = &mut talking, if !talked => talked = true,
            frame = from.recv(), if last.is_none() => match frame {
                Some(FromExec::Output(bytes)) => kept.push(false, &bytes),
                Some(FromExec::ErrorOutput(bytes)) => kept.push(true, &bytes),
                Some(end @ (FromExec::Exited(_) | FromExec::Failed(_))) => {
                    let code = match end {
                        FromExec::Exited(code) => Some(code),
                        _ => None,
                    };
                    last = Some(end);
                    until = Instant::now() + AFTER;
                    told.news(News::Over(code)).await;
                }
                None => return, // its other end is in this function
            },
            newer = again.recv() => match newer {
                Some(ends) => viewer = Some(Viewer { ends, position: 0 }),
                None => return, // it is forgotten, or the agent stops
            },
            shown = show(out, &kept, last.as_ref()) => match (shown, &mut viewer) {
                (Some(behind), Some(viewer)) => viewer.position = behind,
                _ => viewer = None,
            },
            said = hear(back) => match said {
                Some(frame @ (ToExec::Signal(_) | ToExec::Resize(_))) => {
                    // A command that takes nothing must not hold up who looks.
                    let _ = to.try_send(frame);
                }
                Some(ToExec::Leave) | None => viewer = None,
                Some(ToExec::Input(_) | ToExec::EndOfInput) => (), // it has no input
            },
            () = sleep_until(until), if last.is_some() => return,
        }
    }
}

/// Says the next thing to somebody who looks, once there is one and they take it. The position
/// behind it; none = that was all, or they are gone.
async fn show(
    out: Option<(&mpsc::Sender<FromExec>, u64)>,
    kept: &Kept,
    last: Option<&FromExec>,
) -> Option<u64> {
    let Some((to, position)) = out else {
        return std::future::pending().await;
    };
    let (frame, behind) = match (kept.after(position), last) {
        (Some((frame, behind)), _) => (frame, Some(behind)),
        (None, Some(last)) => (last.clone(), None),
        (None, None) => {
            // Somebody who goes is noticed by what they say.
            return std::future::pending().await;
        }
    };
    to.reserve().await.ok()?.send(frame);
    behind
}

async fn hear(back: Option<&mut mpsc::Receiver<ToExec>>) -> Option<ToExec> {
    match back {
        Some(back) => back.recv().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything said from a position on.
    fn said(kept: &Kept, mut position: u64) -> Vec<FromExec> {
        let mut all = Vec::new();
        while let Some((frame, behind)) = kept.after(position) {
            all.push(frame);
            position = behind;
        }
        all
    }

    #[test]
    fn what_is_written_is_gathered_and_both_outputs_keep_their_order() {
        let mut kept = Kept::default();
        for (error, text) in [(false, "a"), (false, "b"), (true, "c"), (false, "d")] {
            kept.push(error, text.as_bytes());
        }
        let all = [
            FromExec::Output(b"ab".to_vec()),
            FromExec::ErrorOutput(b"c".to_vec()),
            FromExec::Output(b"d".to_vec()),
        ];
        assert_eq!(said(&kept, 0), all);
        assert_eq!(said(&kept, 1)[0], FromExec::Output(b"b".to_vec()));
        assert_eq!(said(&kept, 3), all[2..]);
        assert!(said(&kept, 4).is_empty());
    }

    #[test]
    fn the_newest_is_kept_and_what_is_missing_is_said() {
        let mut kept = Kept::default();
        let lines = KEPT / 1000 + 100;
        for line in 0..lines {
            kept.push(false, format!("{line:999}\n").as_bytes());
        }
        assert!(kept.cost() <= KEPT && kept.cost() > KEPT - GATHERED);
        let all = said(&kept, 0);
        let FromExec::ErrorOutput(text) = &all[0] else {
            panic!("{:?}", all[0]);
        };
        let text = String::from_utf8_lossy(text);
        assert!(text.contains(&format!(" {} bytes", kept.dropped)), "{text}");
        let FromExec::Output(end) = &all[all.len() - 1] else {
            panic!("its end is output");
        };
        let end = String::from_utf8_lossy(end);
        assert!(end.ends_with(&format!("{}\n", lines - 1)), "{end}");
    }

    #[test]
    fn single_bytes_to_both_outputs_in_turn_stay_within_the_bound() {
        let mut kept = Kept::default();
        for turn in 0..KEPT {
            kept.push(turn % 2 == 0, b"x");
        }
        assert!(
            kept.pieces.len() <= KEPT / OVERHEAD,
            "{}",
            kept.pieces.len()
        );
        assert_eq!(kept.dropped + kept.bytes as u64, KEPT as u64);
        // All that is kept is said, each byte once, behind a word about the rest.
        assert_eq!(said(&kept, 0).len(), kept.pieces.len() + 1);
    }
}
